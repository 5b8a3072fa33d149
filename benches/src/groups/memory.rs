//! What nodes take of the memory that files of `/dev/shm` have, by default settings.

use crate::bench::Bench;
use crate::ours::node::resident;

const MIB: f64 = 1024.0 * 1024.0;

/// Runs the group.
///
/// # Errors
///
/// When a run fails.
pub fn run(bench: &Bench) -> Result<(), String> {
    let case = |case, most, processes, nodes, traffic| {
        bench.within(case, "MiB", most, || {
            Ok(resident(bench.cpus, processes, nodes, traffic)? as f64 / MIB)
        })
    };
    case("2 nodes", 1.0, 2, 1, true)?;
    case("10 mesh", 8.0, 10, 1, true)?;
    // Of one process: idle nodes have no lanes, and their files are the same whose they are.
    case("256 idle", 16.0, 1, 256, false)
}
