//! `shm bench`: how quick it is here, in a minute.
//!
//! Two processes, this one and one that it starts. Round trips are measured one by one; for the
//! throughput this one sends as fast as there is room, and the other says when it has all. What is
//! found depends on the machine and on what else runs; the project's own figures are measured with
//! more care, in `benches/`.

use super::joining::{connect, join, leave};
use crate::cli::{Bench, Global, Said};
use crate::failure::Failure;
use crate::output::{self, Cell, Report, Table};
use serde::Serialize;
use shm_transport::node::{Label, Receiver, Sender};
use std::io::{self, Write};
use std::process::{Child, Command, Stdio, id};
use std::time::{Duration, Instant};

/// Bytes of the messages.
const SIZES: [usize; 5] = [8, 56, 1 << 10, 16_000, 1 << 20];
/// What the other side is to do with a message.
const ANSWER: Label = Label::new(0, 1);
const KEEP: Label = Label::new(0, 2);
const COUNT: Label = Label::new(0, 3);
const END: Label = Label::new(0, 4);
/// The names of both.
const HERE: &str = "bench";
const THERE: &str = "bench-peer";
const PATIENCE: Duration = Duration::from_secs(10);
/// Round trips before those that count.
const WARM_UP: u32 = 100;

/// All that was measured.
#[derive(Debug, Serialize)]
struct Measured {
    cores: usize,
    sizes: Vec<Size>,
}

/// What was measured of messages of one size.
#[derive(Debug, Serialize)]
struct Size {
    bytes: usize,
    round_trips: usize,
    round_trip_median_ns: u64,
    round_trip_99_percent_ns: u64,
    messages_per_second: f64,
    bytes_per_second: f64,
}

/// The other process, which ends with this one.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Measures.
pub fn run(global: &Global, options: &Bench) -> Result<(), Failure> {
    // Nobody else is in this domain.
    let domain = format!("bench-{}", id());
    let own = Global { domain: Some(domain.clone()), group: None, ..global.clone() };
    let node = join(&own, Some(HERE))?;
    let directory = global.directory()?;
    let child = Command::new(std::env::current_exe()?)
        .args([Said::BACKSTAGE, "bench", "--domain", &domain, "--directory"])
        .arg(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| Failure::because(format!("cannot start the other process: {error}")))?;
    let mut peer = Peer(child);
    let mut sender = connect(&node, THERE, Some(PATIENCE))?;
    let mut receiver = node.receiver()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut measured = Measured { cores, sizes: Vec::new() };
    for bytes in SIZES {
        measured.sizes.push(measure(&mut sender, &mut receiver, bytes, options.seconds)?);
    }
    sender.send_labelled(END, &[])?;
    let _ = peer.0.wait();
    drop((receiver, sender));
    leave(&node)?;
    output::print(global, options.format, &measured)
}

fn measure(
    sender: &mut Sender,
    receiver: &mut Receiver<'_>,
    bytes: usize,
    time: Duration,
) -> Result<Size, Failure> {
    let payload = vec![7; bytes];
    for _ in 0..WARM_UP {
        round_trip(sender, receiver, &payload)?;
    }
    let (begun, mut trips) = (Instant::now(), Vec::new());
    while begun.elapsed() < time || trips.is_empty() {
        trips.push(round_trip(sender, receiver, &payload)?);
    }
    trips.sort_unstable();
    let at = |percent: usize| {
        let time = trips[(trips.len() - 1) * percent / 100];
        u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
    };
    let (begun, mut sent) = (Instant::now(), 0u64);
    while begun.elapsed() < time || sent == 0 {
        // The clock is not read for each.
        for _ in 0..16 {
            sender.send_labelled(KEEP, &payload)?;
            sent += 1;
        }
    }
    sender.send_labelled(COUNT, &[])?;
    let answer = answer(receiver)?;
    let taken = begun.elapsed().as_secs_f64();
    if answer.first_chunk().map(|count| u64::from_le_bytes(*count)) != Some(sent) {
        return Err(Failure::because(format!("{sent} messages were sent, and others arrived")));
    }
    let rate = sent as f64 / taken;
    Ok(Size {
        bytes,
        round_trips: trips.len(),
        round_trip_median_ns: at(50),
        round_trip_99_percent_ns: at(99),
        messages_per_second: rate,
        bytes_per_second: rate * bytes as f64,
    })
}

fn round_trip(
    sender: &mut Sender,
    receiver: &mut Receiver<'_>,
    payload: &[u8],
) -> Result<Duration, Failure> {
    let begun = Instant::now();
    sender.send_labelled(ANSWER, payload)?;
    match receiver.read_timeout(PATIENCE)? {
        Some(reading) if reading.len() == payload.len() => reading.release(),
        Some(_) => return Err(Failure::because("the answer is not what was sent")),
        None => return Err(silent()),
    }
    Ok(begun.elapsed())
}

fn answer(receiver: &mut Receiver<'_>) -> Result<Vec<u8>, Failure> {
    let reading = receiver.read_timeout(PATIENCE)?.ok_or_else(silent)?;
    let answer = reading.to_vec();
    reading.release();
    Ok(answer)
}

fn silent() -> Failure {
    Failure::because(format!("the other process has not answered for {PATIENCE:?}"))
}

/// Answers, or keeps and counts.
pub fn be_the_peer(global: &Global) -> Result<(), Failure> {
    let node = join(global, Some(THERE))?;
    let mut sender = connect(&node, HERE, Some(PATIENCE))?;
    let mut receiver = node.receiver()?;
    let mut kept = 0u64;
    loop {
        let Some(reading) = receiver.read_timeout(PATIENCE)? else { return Err(silent()) };
        match reading.label() {
            ANSWER => sender.send(&reading)?,
            KEEP => kept += 1,
            COUNT => {
                sender.send(&kept.to_le_bytes())?;
                kept = 0;
            }
            END => break,
            _ => {}
        }
        reading.release();
    }
    drop((receiver, sender));
    leave(&node)
}

impl Report for Measured {
    fn show(&self, page: &mut dyn Write) -> io::Result<()> {
        let cores = output::plural(self.cores, "core", "cores");
        writeln!(page, "two processes on {cores}")?;
        let mut table = Table::new(["BYTES", "ROUND TRIP", "99 %", "MESSAGES/s", "BYTES/s"]);
        for size in &self.sizes {
            table.row([
                Cell::number(size.bytes),
                Cell::number(time(size.round_trip_median_ns)),
                Cell::number(time(size.round_trip_99_percent_ns)),
                Cell::number(output::count(size.messages_per_second)),
                Cell::number(output::bytes(size.bytes_per_second as u64)),
            ]);
        }
        table.show(page)
    }
}

fn time(ns: u64) -> String {
    match ns {
        0..10_000 => format!("{ns} ns"),
        10_000..10_000_000 => format!("{} µs", ns / 1000),
        _ => format!("{} ms", ns / 1_000_000),
    }
}
