//! Step 5: how fast, beside what the kernel offers.
//!
//! The same program, in the same minute, measures all: this process is the one end, a process it
//! starts the other. A round trip is a message to it and one back. For the throughput this process
//! sends as fast as it can for the whole time, each message by a call of its own; what counts is
//! what has come, and the receiver reads every byte of it.

mod medium;
pub mod peer;
mod rounds;
mod wire;

pub use medium::{Medium, Task};

use super::cast::Stage;
use super::{step, text};
use crate::failure::Failure;
use crate::output::{self, FAINT, GOOD, HEADING, Report, WARNING};
use anstyle::Style;
use rounds::Course;
use serde::Serialize;
use std::io::{self, Write};
use std::time::Duration;

/// Bytes of a message of a round trip, and of a small one.
const SMALL: usize = 48;
/// Bytes of a large one.
const LARGE: usize = 16 << 10;
/// How many measurements there are.
pub const COUNT: u32 = 3 * Medium::ALL.len() as u32;

/// One medium.
#[derive(Debug, Serialize)]
pub struct Measured {
    medium: &'static str,
    waits: &'static str,
    ours: bool,
    round_trip_48: RoundTrips,
    throughput_48: Throughput,
    throughput_16384: Throughput,
}

/// Times of round trips, in nanoseconds.
#[derive(Debug, Serialize)]
pub struct RoundTrips {
    count: u64,
    p50: u64,
    p90: u64,
    p99: u64,
    p99_9: u64,
    max: u64,
}

/// What came, each second.
#[derive(Debug, Serialize)]
pub struct Throughput {
    messages_per_second: f64,
    bytes_per_second: f64,
    /// The part of the messages sent that did not come.
    lost: f64,
}

/// Measures everything, for that long each.
pub fn all(
    stage: &Stage,
    time: Duration,
    mut each: impl FnMut(&Measured) -> Result<(), Failure>,
) -> Result<Vec<Measured>, Failure> {
    let mut all = Vec::new();
    for medium in Medium::ALL {
        let course = |bytes| Course { stage, medium, bytes, time };
        let measured = Measured {
            medium: medium.name(),
            waits: medium.waits(),
            ours: medium.is_ours(),
            round_trip_48: course(SMALL).round_trips()?,
            throughput_48: course(SMALL).throughput()?,
            throughput_16384: course(LARGE).throughput()?,
        };
        each(&measured)?;
        all.push(measured);
    }
    Ok(all)
}

/// Widths of the columns: rows are written as they are measured.
const WIDTHS: [usize; 10] = [20, 14, 8, 8, 8, 8, 8, 9, 11, 5];
/// What stands above five of them.
const ABOVE: &str = "round trip of 48 bytes";

fn row(page: &mut dyn Write, style: Style, fields: [&str; 10]) -> io::Result<()> {
    let mut line = String::from(" ");
    for (at, (field, width)) in fields.into_iter().zip(WIDTHS).enumerate() {
        line += &if at < 2 { format!(" {field:width$}") } else { format!(" {field:>width$}") };
    }
    writeln!(page, "{style}{}{style:#}", line.trim_end())
}

/// What stands above the rows.
pub fn heading(page: &mut dyn Write, time: Duration) -> io::Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let heading = format!(
        "Nodes beside what the kernel offers: two processes, {} a measurement, {}",
        text::duration(time),
        output::plural(cores, "core", "cores")
    );
    step(page, 6, &heading)?;
    let before = 1 + WIDTHS[0] + WIDTHS[1] + 3;
    let [.., small, large, _] = WIDTHS;
    let five = WIDTHS[2..7].iter().sum::<usize>() + 4;
    writeln!(
        page,
        "{HEADING}{:before$}{ABOVE:-^five$} {:>small$} {:>large$}{HEADING:#}",
        "", "48 B", "16 KiB"
    )?;
    let names = [
        "between processes",
        "who waits",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max",
        "one way",
        "one way",
        "lost",
    ];
    row(page, HEADING, names)
}

/// Whether there is too little to measure with; what to say then.
fn disturbance() -> Option<String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores == 1 {
        return Some(
            "Both sides share one core: who polls or spins keeps the other waiting".into(),
        );
    }
    let load = std::fs::read_to_string("/proc/loadavg").ok()?;
    let load: f64 = load.split(' ').next()?.parse().ok()?;
    // One of them may be this program itself.
    (load > cores as f64).then(|| {
        format!(
            "This machine is busy, a load of {load:.0} on {cores} cores: who polls or spins \
             suffers most"
        )
    })
}

impl Report for Measured {
    fn show(&self, page: &mut dyn Write) -> io::Result<()> {
        let RoundTrips { p50, p90, p99, p99_9, max, .. } = self.round_trip_48;
        let [p50, p90, p99, p99_9, max] = [p50, p90, p99, p99_9, max].map(text::time);
        let lost = self.throughput_48.lost.max(self.throughput_16384.lost);
        let lost = if lost > 0.0 { format!("{:.0} %", (lost * 100.0).ceil()) } else { "-".into() };
        let style = if self.ours { GOOD } else { Style::new() };
        let small = text::messages(self.throughput_48.messages_per_second);
        let large = text::megabytes(self.throughput_16384.bytes_per_second);
        let fields =
            [self.medium, self.waits, &p50, &p90, &p99, &p99_9, &max, &small, &large, &lost];
        row(page, style, fields)
    }
}

/// What stands below them.
pub fn notes(page: &mut dyn Write, all: &[Measured]) -> io::Result<()> {
    if let Some(disturbance) = disturbance() {
        writeln!(page, "  {WARNING}{disturbance}. Measure again when it is quiet.{WARNING:#}")?;
    }
    let median = |medium: Medium| {
        let is_it = |one: &&Measured| (one.medium, one.waits) == (medium.name(), medium.waits());
        all.iter().find(is_it).map_or(0, |one| one.round_trip_48.p50)
    };
    let (ours, others) = (median(Medium::NodePoll), median(Medium::UdpSpin));
    if ours > 0 && others >= 2 * ours {
        let times = others / ours;
        writeln!(
            page,
            "  {GOOD}Where neither side sleeps, a round trip by nodes is {times} times as fast as \
             by UDP.{GOOD:#}"
        )?;
    }
    writeln!(
        page,
        "  {FAINT}A message is one call of the sender; what has come was read to its last byte. Who \
         polls or spins\n  keeps a core busy; who is adaptive does so while that pays, and sleeps \
         then. Compare those who\n  wait alike. Lost is what UDP drops when its receiver is \
         slower.{FAINT:#}"
    )
}
