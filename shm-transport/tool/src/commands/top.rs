//! `shm top`: who sends and answers how much, and what waits.

use crate::cli::{Global, Top};
use crate::failure::Failure;
use crate::look::{DomainNow, Life, NodeReading, ServiceNow, Survey};
use crate::output::{self, BAD, Cell, FAINT, HEADING, Table, WARNING};
use serde::Serialize;
use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Puts the cursor to the top and clears what is below.
const REDRAW: &str = "\u{1b}[H\u{1b}[J";

/// One table.
#[derive(Debug, Serialize)]
struct Interval<'r> {
    domain: &'r str,
    seconds: f64,
    /// From when on a node is called silent.
    #[serde(skip)]
    silent_after_ms: u32,
    #[serde(flatten)]
    now: &'r DomainNow,
    /// In the order of the nodes.
    rates: Vec<Rates>,
    /// In the order of the services.
    calls: Vec<Calls>,
}

/// What a service did, a second.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Calls {
    processed: f64,
    failed: f64,
}

impl Calls {
    fn between(before: &ServiceNow, after: &ServiceNow, seconds: f64) -> Self {
        let rate =
            |of: fn(&ServiceNow) -> u64| of(after).saturating_sub(of(before)) as f64 / seconds;
        Self {
            processed: rate(|service| service.sum(|place| place.processed)),
            failed: rate(|service| service.sum(|place| place.failed)),
        }
    }
}

/// What a node did, a second.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Rates {
    messages_sent: f64,
    bytes_sent: f64,
    messages_received: f64,
    bytes_received: f64,
    dropped: f64,
}

impl Rates {
    fn between(before: &NodeReading, after: &NodeReading, seconds: f64) -> Self {
        let (before, after) = (&before.now.counts, &after.now.counts);
        let rate = |before: u64, after: u64| after.saturating_sub(before) as f64 / seconds;
        Self {
            messages_sent: rate(before.messages_sent, after.messages_sent),
            bytes_sent: rate(before.bytes_sent, after.bytes_sent),
            messages_received: rate(before.messages_received, after.messages_received),
            bytes_received: rate(before.bytes_received, after.bytes_received),
            dropped: rate(before.dropped, after.dropped),
        }
    }
}

/// Shows a table after each interval, until it has shown as many as were asked for.
pub fn run(global: &Global, options: &Top) -> Result<(), Failure> {
    let silent_after_ms = global.config()?.silent_after_ms;
    let domain = global.domain()?;
    let name = domain.name().to_owned();
    let mut survey = Survey::new(domain);
    let (mut before, mut looked) = (survey.look()?, Instant::now());
    let terminal = std::io::stdout().is_terminal() && !options.format.json;
    let mut shown = 0;
    while options.count.is_none_or(|count| shown < count) {
        sleep(options.interval);
        let now = survey.look()?;
        let seconds = looked.elapsed().as_secs_f64().max(Duration::from_millis(1).as_secs_f64());
        looked = Instant::now();
        let known: HashMap<_, _> = before.nodes.iter().map(|node| (&node.owner, node)).collect();
        let rates = now.nodes.iter().map(|node| match known.get(&node.owner) {
            Some(before) => Rates::between(before, node, seconds),
            // Since it joined, less than an interval ago.
            None => Rates::default(),
        });
        let rates = rates.collect();
        let calls = now.services.iter().map(|service| {
            let known = before.services.iter().find(|before| before.name == service.name);
            known.map_or(Calls::default(), |before| Calls::between(before, service, seconds))
        });
        let calls = calls.collect();
        let interval =
            Interval { domain: &name, seconds, silent_after_ms, rates, calls, now: &now };
        let mut page = Vec::new();
        if options.format.json {
            serde_json::to_writer(&mut page, &interval)?;
            page.push(b'\n');
        } else {
            if terminal {
                page.extend(REDRAW.as_bytes());
            } else if shown > 0 {
                page.push(b'\n');
            }
            interval.show(&mut page)?;
        }
        let mut stdout = output::stdout(global.color);
        stdout.write_all(&page)?;
        stdout.flush()?;
        before = now;
        shown += 1;
    }
    Ok(())
}

impl Interval<'_> {
    fn show(&self, page: &mut dyn Write) -> std::io::Result<()> {
        let Self { domain, now, rates, .. } = self;
        let DomainNow { nodes, members_alive, members_dead, segments, resident, .. } = now;
        write!(
            page,
            "{HEADING}domain {domain}{HEADING:#}: {}, {}, {} in {}",
            output::plural(nodes.len(), "node", "nodes"),
            output::plural(*members_alive, "member", "members"),
            output::bytes(*resident),
            output::plural(*segments, "segment", "segments"),
        )?;
        if *members_dead > 0 {
            write!(page, "; {BAD}{members_dead} dead{BAD:#}, see `shm clean`")?;
        }
        writeln!(page)?;
        if nodes.is_empty() && !now.services.is_empty() {
            return self.show_services(page);
        }
        let mut table = Table::new([
            "NODE",
            "PID",
            "STATE",
            "SENT/s",
            "BYTES/s",
            "RECEIVED/s",
            "BYTES/s",
            "QUEUED",
            "FULL",
            "DROPPED",
            "LANES IN",
            "OUT",
        ]);
        for (node, rates) in nodes.iter().zip(rates) {
            let NodeReading { name, pid, state, silent_ms, now, lanes_out, .. } = node;
            let (text, style) = match state {
                Life::Alive if *silent_ms >= self.silent_after_ms => ("silent", WARNING),
                Life::Alive if now.asleep => ("asleep", FAINT),
                life => (life.text(), super::list::style_of(*life)),
            };
            let full = if now.fullest >= 90 { WARNING } else { FAINT };
            let dropped = if rates.dropped > 0.0 { BAD } else { FAINT };
            table.row([
                Cell::new(name),
                Cell::number(pid),
                Cell::new(text).style(style),
                Cell::number(output::count(rates.messages_sent)),
                Cell::number(output::bytes(rates.bytes_sent as u64)),
                Cell::number(output::count(rates.messages_received)),
                Cell::number(output::bytes(rates.bytes_received as u64)),
                Cell::number(output::bytes(now.queued)),
                Cell::number(format!("{} %", now.fullest)).style(full),
                Cell::number(now.counts.dropped).style(dropped),
                Cell::number(now.lanes),
                Cell::number(lanes_out),
            ]);
        }
        table.show(page)?;
        self.show_services(page)
    }

    fn show_services(&self, page: &mut dyn Write) -> std::io::Result<()> {
        if self.now.services.is_empty() {
            return Ok(());
        }
        let mut table = Table::new([
            "SERVICE",
            "SUPERVISOR",
            "WORKERS",
            "CALLS/s",
            "FAILED/s",
            "QUEUED",
            "CLIENTS",
            "CRASHES",
            "LETTERS",
        ]);
        for (service, calls) in self.now.services.iter().zip(&self.calls) {
            let supervisor = match &service.supervisor {
                Some(it) => Cell::new(it.state.text()).style(super::list::style_of(it.state)),
                None => Cell::new("nobody").style(WARNING),
            };
            let (up, all) = (service.up(), service.wanted as usize);
            let workers = Cell::number(format!("{up} of {all}"));
            let some = |number: u64, style| {
                Cell::number(number).style(if number > 0 { style } else { FAINT })
            };
            let failed = if calls.failed > 0.0 { BAD } else { FAINT };
            table.row([
                Cell::new(&service.name),
                supervisor,
                if up < all { workers.style(WARNING) } else { workers },
                Cell::number(output::count(calls.processed)),
                Cell::number(output::count(calls.failed)).style(failed),
                Cell::number(service.sum(|place| place.queued.into())),
                Cell::number(service.clients),
                some(service.crashes, BAD),
                some(service.letters as u64, WARNING),
            ]);
        }
        table.show(page)
    }
}
