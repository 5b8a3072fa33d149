//! Frames through rings of the same size in bytes, between two threads.

use crate::bench::Bench;
use crate::measure::Side;
use crate::pace::Pace;
use crate::region::Region;
use crate::stream::{Run, frames};
use crate::{ours, peers};

const KIB: usize = 1024;

/// Runs the group.
///
/// # Errors
///
/// When a run fails.
pub fn run(bench: &Bench) -> Result<(), String> {
    let work = bench.work();
    // A frame of 48 bytes takes an item of 64 in a ring whose items are all alike.
    case::<48, 64>(bench, "frame 48", 64 * KIB, Pace::Unpaced)?;
    case::<64, 64>(bench, "frame 64", 64 * KIB, Pace::Unpaced)?;
    case::<256, 256>(bench, "frame 256", 64 * KIB, Pace::Unpaced)?;
    case::<1024, 1024>(bench, "frame 1024", 256 * KIB, Pace::Unpaced)?;
    case::<65536, 65536>(bench, "frame 65536", 1024 * KIB, Pace::Unpaced)?;
    case::<48, 64>(bench, "frame 48 paced writer", 64 * KIB, Pace::Writer(work))?;
    case::<48, 64>(bench, "frame 48 paced reader", 64 * KIB, Pace::Reader(work))
}

fn case<const N: usize, const SLOT: usize>(
    bench: &Bench,
    case: &str,
    capacity: usize,
    pace: Pace,
) -> Result<(), String> {
    let cpus = bench.cpus;
    let ours = || {
        Side::new(move |count| {
            let size = ours::frames_size(capacity);
            let region = Region::private(size).map_err(|e| e.to_string())?;
            let (tx, rx) = ours::frames(&region, capacity);
            Ok(frames::<N>(Run { cpus, count }, pace, tx, rx))
        })
    };
    let theirs = Side::new(move |count| {
        let (tx, rx) = peers::rtrb::slots::<SLOT>(capacity);
        Ok(frames::<N>(Run { cpus, count }, pace, tx, rx))
    });
    bench.versus(case, "rtrb", ours(), || Ok(theirs))?;
    let theirs = Side::new(move |count| {
        let queue = peers::bbqueue::queue(capacity);
        let run = Run { cpus, count };
        // The header of two bytes that is its default counts to one byte less than 64 KiB.
        Ok(if N <= u16::MAX.into() {
            let (tx, rx) = peers::bbqueue::framed::<u16>(&queue);
            frames::<N>(run, pace, tx, rx)
        } else {
            let (tx, rx) = peers::bbqueue::framed::<usize>(&queue);
            frames::<N>(run, pace, tx, rx)
        })
    });
    bench.versus(case, "bbqueue", ours(), || Ok(theirs))?;
    let steps = bench.work().steps();
    let theirs = || bench.nightly().map(|n| n.side("shaq", case, cpus, steps));
    bench.versus(case, "shaq", ours(), theirs)
}
