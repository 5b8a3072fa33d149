//! `shm demo`: what nodes do, shown with real processes, and checked.
//!
//! This process is the director. It starts [itself](part) several times, tells the others what to
//! do, checks what they say, and shows it. All happens in a domain of its own, of which nothing is
//! left, whichever way it ends; see [`cast`].

mod act;
mod cast;
mod check;
mod measure;
mod options;
mod part;
mod talk;
mod text;

pub use options::{Demo, Part};
pub use part::play;

use crate::cli::{Format, Global};
use crate::failure::Failure;
use crate::output::{self, FAINT, GOOD, HEADING, Report};
use act::{Broadcasting, Company, Death, End, Meeting, Service, Transfer};
use cast::Stage;
use check::Check;
use measure::Measured;
use serde::Serialize;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// All that was found.
#[derive(Debug, Serialize)]
struct Facts {
    /// Whether all checks were.
    passed: bool,
    /// Those that were not.
    failed: Vec<String>,
    seconds: f64,
    domain: String,
    processes: Meeting,
    file: Transfer,
    broadcast: Broadcasting,
    death: Death,
    service: Service,
    measurements: Vec<Measured>,
    end: End,
}

/// Shows it all.
pub fn run(global: &Global, options: &Demo) -> Result<(), Failure> {
    let begun = Instant::now();
    let file = file_to_send(options)?;
    let page = Page { global, quiet: options.format.json };
    if global.verbose == 0 {
        // That a worker dies is no news here.
        log::set_max_level(log::LevelFilter::Error);
    }
    let stage = Stage::set_up(global)?;
    page.say(|page| opening(page, options))?;

    let (mut company, processes) = Company::gather(&stage)?;
    page.show(&processes)?;
    let transfer = act::transfer(&mut company, &file)?;
    page.show(&transfer)?;
    let broadcast = act::broadcast(&mut company)?;
    page.show(&broadcast)?;
    let death = act::death(&mut company, &stage)?;
    page.show(&death)?;
    let service = act::service(&stage)?;
    page.show(&service)?;
    let ended_well = company.leave()?;
    let measurements = if options.no_measure {
        Vec::new()
    } else {
        let time = options.seconds_per_measurement;
        page.say(|page| measure::heading(page, time))?;
        let each = |measured: &Measured| page.show(measured);
        let measured = measure::all(&stage, time, each)?;
        page.say(|page| measure::notes(page, &measured))?;
        measured
    };
    let end = act::end(&stage, ended_well, if options.no_measure { 6 } else { 7 })?;
    page.show(&end)?;

    let facts = Facts {
        passed: true,
        failed: Vec::new(),
        seconds: begun.elapsed().as_secs_f64(),
        domain: stage.domain.name().into(),
        processes,
        file: transfer,
        broadcast,
        death,
        service,
        measurements,
        end,
    };
    conclude(global, options.format, facts)
}

/// Says whether all was as it should be.
fn conclude(global: &Global, format: Format, mut facts: Facts) -> Result<(), Failure> {
    let checks = facts.checks();
    let all = checks.len();
    facts.failed =
        checks.into_iter().filter(|check| !check.passed).map(|check| check.name.clone()).collect();
    facts.passed = facts.failed.is_empty();
    if format.json {
        output::print(global, format, &facts)?;
    }
    if !facts.passed {
        let failed = output::plural(facts.failed.len(), "check has", "checks have");
        return Err(Failure::because(format!(
            "{failed} failed: please report it, with the output of --json"
        )));
    }
    let page = Page { global, quiet: format.json };
    page.say(|page| {
        writeln!(page, "\n{GOOD}all {all} checks passed{GOOD:#}, in {:.1} s", facts.seconds)
    })
}

impl Facts {
    fn checks(&self) -> Vec<&Check> {
        let Self { processes, file, broadcast, death, service, end, .. } = self;
        let first = [&processes.checks, &file.checks, &broadcast.checks];
        let last = [&death.checks, &service.checks, &end.checks];
        first.into_iter().chain(last).flatten().collect()
    }
}

impl Report for Facts {
    /// Each was shown when it was found.
    fn show(&self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

/// The file, which must be one that can be read.
fn file_to_send(options: &Demo) -> Result<PathBuf, Failure> {
    let file = match &options.file {
        Some(file) => file.clone(),
        None => std::env::current_exe().map_err(|error| {
            Failure::because(format!("cannot find this program: {error}; name a file by --file"))
        })?,
    };
    let cannot = |error: String| {
        let file = file.display();
        Failure::because(format!("cannot send {file}: {error}; name another file by --file"))
    };
    let opened = std::fs::File::open(&file).and_then(|opened| opened.metadata());
    let found = opened.map_err(|error| cannot(error.to_string()))?;
    if found.is_file() { Ok(file) } else { Err(cannot("it is no regular file".into())) }
}

/// Where it is shown, as it happens.
#[derive(Clone, Copy)]
struct Page<'g> {
    global: &'g Global,
    quiet: bool,
}

impl Page<'_> {
    fn show(&self, report: &impl Report) -> Result<(), Failure> {
        self.say(|page| report.show(page))
    }

    fn say(&self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
        if self.quiet {
            return Ok(());
        }
        let mut page = Vec::new();
        write(&mut page)?;
        let mut stdout = output::stdout(self.global.color);
        stdout.write_all(&page)?;
        Ok(stdout.flush()?)
    }
}

fn opening(page: &mut dyn Write, options: &Demo) -> io::Result<()> {
    writeln!(page, "{HEADING}Messages between processes, through shared memory.{HEADING:#}")?;
    let measuring = options.seconds_per_measurement * measure::COUNT;
    let seconds = if options.no_measure { 1 } else { measuring.as_secs() + 3 };
    writeln!(
        page,
        "{FAINT}Every process here is a real one, every line was measured just now. This takes \
         about {}.{FAINT:#}",
        output::plural(seconds as usize, "second", "seconds")
    )
}

/// The heading of a step.
fn step(page: &mut dyn Write, number: u32, text: &str) -> io::Result<()> {
    writeln!(page, "\n{HEADING}{number}. {}{HEADING:#}", output::harmless(text))
}

fn show_checks(page: &mut dyn Write, checks: &[Check]) -> io::Result<()> {
    checks.iter().try_for_each(|check| check.show(page))
}

/// A path for people: its last part.
fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
