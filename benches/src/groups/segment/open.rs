//! Opening a segment that is there, a mebibyte long, looking at its first word, and closing it.

use crate::bench::Bench;
use crate::measure::Side;
use crate::pin::pin;
use rustix::fs::{Mode, OFlags, fstat, open};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use shm_primitives::sync::{AtomicU32, Ordering::Relaxed};
use shm_transport::domain::{Domain, SegmentName};
use shm_transport::segment::{CreateOptions, OpenOptions, Segment, SegmentError};
use std::hint::black_box;
use std::io;
use std::path::Path;
use std::ptr::null_mut;
use std::time::{Duration, Instant};

const SIZE: usize = 1 << 20;

/// Runs the case. The limit is the system calls without which there is no mapping.
///
/// # Errors
///
/// When a run fails.
pub fn run(bench: &Bench) -> Result<(), String> {
    let text = |error: SegmentError| error.to_string();
    let domain = Domain::new(&format!("bench-{}", std::process::id()));
    let domain = &domain.map_err(|e| e.to_string())?;
    let name = &SegmentName::new("open").map_err(|e| e.to_string())?;
    let made = Segment::create(domain, name, CreateOptions::new(SIZE), |_| Ok(()));
    let (segment, ()) = made.map_err(text)?;
    let cpu = bench.cpus.first;
    let ours = Side::new(|count| {
        timed(cpu, count, || {
            let opened = Segment::open(domain, name, OpenOptions::new(64), |segment| {
                let word = AtomicU32::at(&segment.region()).expect("a mebibyte has a word");
                Ok(black_box(word.load(Relaxed)))
            });
            opened.map(drop).map_err(text)
        })
    });
    let path = segment.path();
    let limit = Side::new(|count| timed(cpu, count, || map(path).map_err(|e| e.to_string())));
    let done = bench.bound("open", ours, limit);
    segment.unlink_own(|_| Ok(true)).map_err(text)?;
    done
}

/// On a thread of its own, since the pin stays with the thread.
fn timed(
    cpu: usize,
    count: u64,
    mut work: impl FnMut() -> Result<(), String> + Send,
) -> Result<Duration, String> {
    let run = move || {
        pin(cpu);
        let begun = Instant::now();
        for _ in 0..count {
            work()?;
        }
        Ok(begun.elapsed())
    };
    std::thread::scope(|scope| scope.spawn(run).join().expect("it does not panic"))
}

fn map(path: &Path) -> io::Result<()> {
    let file = open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let len = fstat(&file)?.st_size as usize;
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: without MAP_FIXED the kernel maps where nothing is.
    let base = unsafe { mmap(null_mut(), len, protection, MapFlags::SHARED, &file, 0) }?;
    // SAFETY: a page at least, mapped, and only ever zero; nobody writes to it.
    black_box(unsafe { base.cast::<u32>().read_volatile() });
    // SAFETY: the whole of the mapping just made, which nothing borrows from.
    Ok(unsafe { munmap(base, len) }?)
}
