//! Chunks of shared memory, on one thread: what they cost apart from moving between cores.

use crate::bench::Bench;
use crate::chunk::{SIZE, alone};
use crate::measure::Side;
use crate::ours;

/// Runs the group.
///
/// # Errors
///
/// When a run fails.
pub fn run(bench: &Bench) -> Result<(), String> {
    let cpus = bench.cpus;
    let case = "chunk loan+return";
    let ours = Side::new(move |count| alone(cpus.first, || ours::loans(SIZE, count)));
    let theirs = || bench.iceoryx2().map(|i| i.side("iceoryx2", case, cpus, 0));
    bench.versus(case, "iceoryx2", ours, theirs)?;

    let case = "chunk send+receive";
    let ours = Side::new(move |count| alone(cpus.first, || ours::messages(SIZE, count)));
    let theirs = || bench.iceoryx2().map(|i| i.side("iceoryx2", case, cpus, 0));
    bench.versus(case, "iceoryx2", ours, theirs)
}
