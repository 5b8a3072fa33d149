//! Step 4: a process is killed in the middle of what it does.

use super::Company;
use crate::commands::demo::cast::{Actor, Stage};
use crate::commands::demo::check::Check;
use crate::commands::demo::talk::{Order, PATIENCE, Seen, TOLD, Told, now};
use crate::commands::demo::{show_checks, step, text};
use crate::failure::Failure;
use crate::output::{Cell, FAINT, Report, Table, harmless};
use serde::Serialize;
use shm_transport::node::sweep::sweep;
use std::io::{self, Write};
use std::thread;
use std::time::Duration;

/// How many messages she has passed on, at least, before she is killed.
const WARM: u64 = 2000;
/// How long the successor works.
const AFTER: Duration = Duration::from_millis(150);

/// What happened, in nanoseconds since the kill.
#[derive(Debug, Serialize)]
pub struct Death {
    killed: u32,
    successor: u32,
    /// Messages she said she had passed on.
    passed_on: u64,
    /// Messages of hers that arrived.
    arrived: u64,
    /// Messages of her successor's that arrived.
    arrived_after: u64,
    event_after: u64,
    error_after: u64,
    error: String,
    joined_after: u64,
    join_took: u64,
    traffic_after: u64,
    clean_after: u64,
    pub checks: Vec<Check>,
}

/// Has alice send by way of carol to dave, and kills carol.
pub fn death(company: &mut Company, stage: &Stage) -> Result<Death, Failure> {
    let Company { alice, carol, dave, .. } = company;
    dave.order(&Order::Witness { relay: carol.name.into() })?;
    let Told::Watching = dave.next(PATIENCE)? else { return Err(dave.confused()) };
    carol.order(&Order::Relay { to: dave.name.into() })?;
    let milliseconds = AFTER.as_millis() as u64;
    alice.order(&Order::Stream { to: carol.name.into(), milliseconds })?;
    let warm = carol.passed(WARM)?;

    let killed = carol.pid();
    let kill = now();
    carol.kill()?;
    let Told::SawDeath { at: event } = dave.next(PATIENCE)? else { return Err(dave.confused()) };
    let Told::SendFailed { at: failed, number, error } = alice.next(PATIENCE)? else {
        return Err(alice.confused());
    };
    let last = carol.last_words().fold(warm, |last, told| match told {
        Told::Passed(number) => number,
        _ => last,
    });

    let mut successor = stage.enter("carol")?;
    successor.order(&Order::Relay { to: dave.name.into() })?;
    let Told::SendsAgain { at: again } = alice.next(PATIENCE)? else {
        return Err(alice.confused());
    };
    let clean = wait_until_clean(stage)?;
    let Told::Streamed { sent } = alice.next(PATIENCE)? else { return Err(alice.confused()) };
    wait_until_relayed(&mut successor)?;
    let Told::Witnessed { relays } = dave.next(PATIENCE)? else { return Err(dave.confused()) };

    let by = |pid| relays.iter().find(|seen: &&Seen| seen.pid == pid).cloned();
    let (before, after) = (by(killed), by(successor.pid()));
    let is_whole =
        |seen: &Option<Seen>| seen.as_ref().is_some_and(|seen| seen.in_order && seen.whole);
    let since = |at: u64| at.saturating_sub(kill);
    // Told of so far means told of in a line that was written; she may have died before that.
    let passed_on = last + 1;
    let arrived = before.as_ref().map_or(0, |seen| seen.count);
    let arrived_after = after.as_ref().map_or(0, |seen| seen.count);
    let from_the_first = before.as_ref().is_some_and(|seen| seen.first == 0);
    let went_on = after.as_ref().is_some_and(|seen| seen.first == number && seen.last + 1 == sent);
    let checks = vec![
        Check::new(
            since(event) < TOLD && since(failed) < TOLD,
            "those who had to do with her were told; nobody waited for her",
        ),
        Check::new(
            is_whole(&before) && from_the_first && (passed_on..=passed_on + 1).contains(&arrived),
            "every message she had passed on arrived, whole, once and in order",
        ),
        Check::new(
            is_whole(&after) && went_on,
            "the message that was refused, and all after it, went through the new carol",
        ),
        Check::new(clean.is_some(), "nothing of the dead carol is left"),
    ];
    let traffic = after.map_or(again, |seen| seen.first_at);
    let death = Death {
        killed,
        successor: successor.pid(),
        passed_on,
        arrived,
        arrived_after,
        event_after: since(event),
        error_after: since(failed),
        error,
        joined_after: since(successor.joined_at),
        join_took: u64::try_from(successor.join_took.as_nanos()).unwrap_or(u64::MAX),
        traffic_after: since(traffic),
        clean_after: clean.map_or(0, since),
        checks,
    };
    *carol = successor;
    Ok(death)
}

fn wait_until_relayed(relay: &mut Actor) -> Result<(), Failure> {
    loop {
        match relay.next(PATIENCE)? {
            Told::Passed(_) => {}
            Told::Relayed => return Ok(()),
            _ => return Err(relay.confused()),
        }
    }
}

/// When nothing of any dead node was left; `None` if something still is.
fn wait_until_clean(stage: &Stage) -> Result<Option<u64>, Failure> {
    let begun = now();
    while now() - begun < PATIENCE.as_nanos() as u64 {
        if sweep(&stage.domain, true).map_err(Failure::because)?.is_empty() {
            return Ok(Some(now()));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(None)
}

impl Report for Death {
    fn show(&self, page: &mut dyn Write) -> io::Result<()> {
        step(page, 4, "alice sends to carol, who passes it on to dave; carol is killed")?;
        let mut events = vec![
            (
                0,
                format!(
                    "kill -9 {}: carol had passed on {} messages",
                    self.killed,
                    text::count(self.passed_on)
                ),
            ),
            (self.event_after, "dave is told: carol has died".into()),
            (self.error_after, format!("alice gets an error: {}", harmless(&self.error))),
            (
                self.joined_after,
                format!(
                    "process {} has joined as carol; joining took {}",
                    self.successor,
                    text::time(self.join_took)
                ),
            ),
            (self.traffic_after, "the first message has come to dave through the new carol".into()),
        ];
        if self.clean_after > 0 {
            events
                .push((self.clean_after, "the last of what the dead carol had is put away".into()));
        }
        events.sort_by_key(|(at, _)| *at);
        let mut table = Table::bare();
        for (at, event) in events {
            table.row([Cell::number(format!("{:.2} ms", at as f64 / 1e6)), Cell::new(event)]);
        }
        table.show(page)?;
        writeln!(
            page,
            "  {FAINT}{} messages of the first carol arrived, and {} of the second. What lay unread \
             in her own memory is lost with her.{FAINT:#}",
            text::count(self.arrived),
            text::count(self.arrived_after)
        )?;
        show_checks(page, &self.checks)
    }
}
