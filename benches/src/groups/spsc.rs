//! Integers through a ring of 1024, between two threads.

use crate::bench::Bench;
use crate::measure::Side;
use crate::region::Region;
use crate::stream::{Run, batches, items};
use crate::{ours, peers};

/// Items that each ring holds.
pub const CAPACITY: usize = 1024;

const BATCH: usize = 64;

/// Runs the group.
///
/// # Errors
///
/// When a run fails.
pub fn run(bench: &Bench) -> Result<(), String> {
    one_by_one(bench)?;
    in_batches(bench)
}

/// A side whose ring is made anew for each run, in an expression that returns the time.
macro_rules! side {
    ($bench:expr, |$run:ident| $time:expr) => {{
        let cpus = $bench.cpus;
        Side::new(move |count| {
            let $run = Run { cpus, count };
            Ok($time)
        })
    }};
}

fn one_by_one(bench: &Bench) -> Result<(), String> {
    let case = "u64";
    let ours = || {
        side!(bench, |run| {
            let region = region()?;
            let (tx, rx) = ours::spsc(&region, CAPACITY as u32);
            items(run, tx, rx)
        })
    };
    let theirs = side!(bench, |run| {
        let (tx, rx) = rtrb::RingBuffer::new(CAPACITY);
        items(run, tx, rx)
    });
    bench.versus(case, "rtrb", ours(), || Ok(theirs))?;
    let theirs = side!(bench, |run| {
        let mut queue = peers::heapless::queue();
        let (tx, rx) = queue.split();
        items(run, tx, rx)
    });
    bench.versus(case, "heapless", ours(), || Ok(theirs))?;
    let theirs = side!(bench, |run| {
        let (tx, rx) = peers::ringbuf::ring(CAPACITY);
        items(run, tx, rx)
    });
    bench.versus(case, "ringbuf", ours(), || Ok(theirs))?;
    let theirs = side!(bench, |run| {
        let queue = crossbeam_queue::ArrayQueue::new(CAPACITY);
        items(run, &queue, &queue)
    });
    bench.versus(case, "crossbeam-queue", ours(), || Ok(theirs))?;
    let theirs = side!(bench, |run| {
        let (tx, rx) = kanal::bounded(CAPACITY);
        items(run, tx, rx)
    });
    bench.versus(case, "kanal", ours(), || Ok(theirs))?;
    let theirs = || bench.nightly().map(|n| n.side("shaq", case, bench.cpus, 0));
    bench.versus(case, "shaq", ours(), theirs)
}

fn in_batches(bench: &Bench) -> Result<(), String> {
    let case = "u64 batch 64";
    let ours = || {
        side!(bench, |run| {
            let region = region()?;
            let (tx, rx) = ours::spsc(&region, CAPACITY as u32);
            batches(run, BATCH, tx, rx)
        })
    };
    let theirs = side!(bench, |run| {
        let (tx, rx) = rtrb::RingBuffer::new(CAPACITY);
        batches(run, BATCH, tx, rx)
    });
    bench.versus(case, "rtrb", ours(), || Ok(theirs))?;
    let theirs = side!(bench, |run| {
        let (tx, rx) = peers::ringbuf::ring(CAPACITY);
        batches(run, BATCH, tx, rx)
    });
    bench.versus(case, "ringbuf", ours(), || Ok(theirs))?;
    let theirs = || bench.nightly().map(|n| n.side("shaq", case, bench.cpus, 0));
    bench.versus(case, "shaq", ours(), theirs)
}

fn region() -> Result<Region, String> {
    let size = ours::spsc_size::<u64>(CAPACITY as u32);
    Region::private(size).map_err(|e| e.to_string())
}
