//! Step 1: processes join, under names.

use crate::commands::demo::cast::{Actor, Stage, left_in};
use crate::commands::demo::check::Check;
use crate::commands::demo::{show_checks, step, text};
use crate::failure::Failure;
use crate::output::{self, Cell, FAINT, Report, Table};
use serde::Serialize;
use std::io::{self, Write};

/// Who takes part.
#[derive(Debug)]
pub struct Company {
    pub alice: Actor,
    pub bob: Actor,
    pub carol: Actor,
    pub dave: Actor,
}

/// Who has joined.
#[derive(Debug, Serialize)]
pub struct Meeting {
    processes: Vec<Joined>,
    segments: usize,
    bytes: u64,
    pub checks: Vec<Check>,
    #[serde(skip)]
    directory: String,
    #[serde(skip)]
    domain: String,
}

#[derive(Debug, Serialize)]
struct Joined {
    name: &'static str,
    pid: u32,
    join_us: f64,
}

impl Company {
    /// Starts them.
    pub fn gather(stage: &Stage) -> Result<(Self, Meeting), Failure> {
        let company = Self {
            alice: stage.enter("alice")?,
            bob: stage.enter("bob")?,
            carol: stage.enter("carol")?,
            dave: stage.enter("dave")?,
        };
        let joined = |actor: &Actor| Joined {
            name: actor.name,
            pid: actor.pid(),
            join_us: actor.join_took.as_secs_f64() * 1e6,
        };
        let Self { alice, bob, carol, dave } = &company;
        let processes: Vec<Joined> = [alice, bob, carol, dave].map(joined).into();
        let mut pids: Vec<u32> = processes.iter().map(|process| process.pid).collect();
        pids.push(std::process::id());
        pids.sort_unstable();
        pids.dedup();
        let (segments, bytes) = left_in(&stage.domain)?;
        let meeting = Meeting {
            checks: vec![Check::new(pids.len() == 5, "four processes, and this one")],
            processes,
            segments,
            bytes,
            directory: stage.domain.directory().display().to_string(),
            domain: stage.domain.name().into(),
        };
        Ok((company, meeting))
    }

    /// Those who receive what alice sends.
    pub fn receivers(&mut self) -> [&mut Actor; 3] {
        [&mut self.bob, &mut self.carol, &mut self.dave]
    }

    /// All leave; whether all ended as they should.
    pub fn leave(self) -> Result<bool, Failure> {
        let Self { alice, bob, carol, dave } = self;
        let mut well = true;
        for actor in [alice, bob, carol, dave] {
            well &= actor.leave()?;
        }
        Ok(well)
    }
}

impl Report for Meeting {
    fn show(&self, page: &mut dyn Write) -> io::Result<()> {
        step(page, 1, "Four processes start, and join under a name each")?;
        let mut table = Table::bare();
        for Joined { name, pid, join_us } in &self.processes {
            let took = format!("joined in {}", text::time((join_us * 1e3) as u64));
            table.row([Cell::new(name), Cell::new(format!("process {pid}")), Cell::new(took)]);
        }
        table.show(page)?;
        writeln!(
            page,
            "  {FAINT}No server is between them, only memory: {} with {} in {}, domain {}.{FAINT:#}",
            output::plural(self.segments, "file", "files"),
            output::bytes(self.bytes),
            output::harmless(&self.directory),
            output::harmless(&self.domain)
        )?;
        show_checks(page, &self.checks)
    }
}
