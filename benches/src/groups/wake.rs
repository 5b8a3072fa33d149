//! A message of 48 bytes there and back, between two processes that wait for each other.

use crate::bench::Bench;
use crate::dialogue;
use crate::groups::rtt::{BYTES, SIZE, regions};
use crate::measure::Side;
use crate::ours;
use crate::round_trip::{Run, frames};
use shm_transport::park::FutexPark;

/// Runs the group.
///
/// # Errors
///
/// When a run fails.
pub fn run(bench: &Bench) -> Result<(), String> {
    let cpus = bench.cpus;
    let waiting = |park: FutexPark| {
        Side::new(move |count| {
            let [there, back] = regions(ours::frames_size(BYTES))?;
            let (there, back) = (ours::frames(&there, BYTES), ours::frames(&back, BYTES));
            dialogue::frames::<SIZE>(Run { cpus, count }, &park, there, back)
        })
    };
    // Both sleep at once; beside them nothing but the kernel's own waking.
    let limit = Side::new(move |count| dialogue::futexes(Run { cpus, count }));
    bench.bound("blocking rtt", waiting(FutexPark::new().without_spinning()), limit)?;

    // Both spin, and find the answer before they would sleep; beside them the rings alone.
    let limit = Side::new(move |count| {
        let [there, back] = regions(ours::frames_size(BYTES))?;
        let (there, back) = (ours::frames(&there, BYTES), ours::frames(&back, BYTES));
        frames::<SIZE>(Run { cpus, count }, there, back)
    });
    bench.bound("adaptive rtt", waiting(FutexPark::new()), limit)?;

    bench.count("syscalls per message", "calls", |count| {
        let [there, back] = regions(ours::frames_size(BYTES))?;
        let (there, back) = (ours::frames(&there, BYTES), ours::frames(&back, BYTES));
        dialogue::calls::<SIZE>(Run { cpus, count }, &FutexPark::new(), there, back)
    })
}
