//! A message of 48 bytes there and back, between two processes.

use crate::bench::Bench;
use crate::measure::Side;
use crate::ours;
use crate::region::Region;
use crate::round_trip::{Run, floor, frames};
use crate::traffic::ByValue;

pub(super) const SIZE: usize = 48;

/// Bytes that the ring of frames holds.
pub(super) const BYTES: usize = 64 * 1024;

/// Items that the ring of items holds.
const CAPACITY: u32 = 1024;

/// Runs the group.
///
/// # Errors
///
/// When a run fails.
pub fn run(bench: &Bench) -> Result<(), String> {
    let cpus = bench.cpus;
    let ours = || {
        Side::new(move |count| {
            let [there, back] = regions(ours::frames_size(BYTES))?;
            let there = ours::frames(&there, BYTES);
            let back = ours::frames(&back, BYTES);
            frames::<SIZE>(Run { cpus, count }, there, back)
        })
    };
    let case = "rtt 48";
    let limit = Side::new(move |count| floor(Run { cpus, count }));
    bench.bound(case, ours(), limit)?;
    let theirs = || bench.nightly().map(|n| n.side("shaq", case, cpus, 0));
    bench.versus(case, "shaq", ours(), theirs)?;

    let case = "rtt spsc 48";
    let ours = Side::new(move |count| {
        let [there, back] = regions(ours::spsc_size::<[u8; SIZE]>(CAPACITY))?;
        let by_value = |region| {
            let (tx, rx) = ours::spsc::<[u8; SIZE]>(region, CAPACITY);
            (ByValue(tx), ByValue(rx))
        };
        frames::<SIZE>(Run { cpus, count }, by_value(&there), by_value(&back))
    });
    let theirs = || bench.nightly().map(|n| n.side("shaq", case, cpus, 0));
    bench.versus(case, "shaq", ours, theirs)
}

pub(super) fn regions(size: usize) -> Result<[Region; 2], String> {
    let region = || Region::shared(size).map_err(|e| e.to_string());
    Ok([region()?, region()?])
}
