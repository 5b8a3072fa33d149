//! One way, from a process on one CPU to a process on another, as fast as they can. Both poll.
//!
//! As [`stream`](crate::stream) does it between threads: the reader alone is timed, from one
//! message to a later one.

use crate::frame::Template;
use crate::process::{self, Meeting};
use crate::region::Region;
use crate::round_trip::Run;
use crate::spin;
use crate::traffic::{FrameReceiver, FrameSender};
use std::hint::{black_box, spin_loop};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

#[inline]
fn until(done: impl FnMut() -> bool) {
    spin::until(done, spin_loop);
}

/// Frames of `N` bytes through a ring made before the processes.
///
/// # Errors
///
/// When a process cannot be started, or fails.
pub fn frames<const N: usize>(
    run: Run,
    mut tx: impl FrameSender<N>,
    mut rx: impl FrameReceiver<N>,
) -> Result<Duration, String> {
    between(run, |writing| writing.go(&mut tx), |reading| reading.go(&mut rx))
}

/// The same with ends that each process makes for itself: the closures make them, and then
/// [`go`](Reading::go).
///
/// # Errors
///
/// When a process cannot be started, or fails.
pub fn between(
    run: Run,
    write: impl FnOnce(Writing<'_>),
    read: impl FnOnce(Reading<'_>) -> Duration,
) -> Result<Duration, String> {
    let meeting = &Meeting::new(2)?;
    // `pair` returns what its first returned, which here is the reader.
    process::pair(
        run.cpus.swapped(),
        || read(Reading { run, meeting }),
        || write(Writing { run, meeting }),
    )
}

/// The process that writes.
pub struct Writing<'a> {
    run: Run,
    meeting: &'a Meeting,
}

/// The process that reads.
pub struct Reading<'a> {
    run: Run,
    meeting: &'a Meeting,
}

impl Writing<'_> {
    /// Waits until the other has called this too.
    pub fn meet(&self) {
        self.meeting.wait();
    }

    /// Sends the frames, and returns when they are read.
    pub fn go<const N: usize>(self, tx: &mut impl FrameSender<N>) {
        let template = Template::<N>::new();
        for i in 0..self.run.all() {
            until(|| tx.try_send(template.frame(i)));
        }
        self.meet();
    }
}

impl Reading<'_> {
    /// Waits until the other has called this too.
    pub fn meet(&self) {
        self.meeting.wait();
    }

    /// Reads and checks the frames; what those that count took.
    pub fn go<const N: usize>(self, rx: &mut impl FrameReceiver<N>) -> Duration {
        let template = Template::<N>::new();
        let mut read = |i| until(|| rx.try_recv(template.frame(i)));
        (0..self.run.warm()).for_each(&mut read);
        let clock = Instant::now();
        (self.run.warm()..self.run.all()).for_each(&mut read);
        let time = clock.elapsed();
        self.meet();
        time
    }
}

/// Half of what it takes to bounce a word between the two CPUs: the way of a single line that is
/// waited for. A stream can be quicker, since several lines can be under way at once.
///
/// # Errors
///
/// When a process cannot be started, or fails.
pub fn half_trip(run: Run) -> Result<Duration, String> {
    Ok(crate::round_trip::floor(run)? / 2)
}

/// Buffers that [`copies`] goes round in; with 64 KiB each, a mebibyte.
const BUFFERS: usize = 16;

/// What moving `N` bytes takes when nothing but them is moved.
///
/// There are 16 buffers in shared memory. The writer copies `N` bytes of its own into the next
/// one and stores its position; the reader sees it, copies the `N` bytes out into memory of its
/// own, and stores its position, which lets the writer use the buffer again. So each byte is
/// written to shared memory once, on the one core, and read from it once, on the other, and each
/// message costs two words more. Both copies are the compiler's `memcpy`; both private buffers
/// stay in their core's cache. Nothing is checked, no length is stored, no buffer is ever split.
///
/// A frame of ours that is written and read in place does the same passes over its bytes: a copy
/// in, and reading all of them out, to check them, where this stores them.
///
/// # Errors
///
/// When a process cannot be started, or fails.
pub fn copies<const N: usize>(run: Run) -> Result<Duration, String> {
    /// Two lines, for the prefetcher that fetches them in pairs.
    #[repr(C, align(128))]
    struct Line(AtomicU32);

    let words = Region::shared(size_of::<[Line; 2]>()).map_err(|e| e.to_string())?;
    // SAFETY: the mapping is zeroed, aligned to a page and as long as the two lines, and
    // outlives the borrow.
    let [written, read] = unsafe { words.base().cast::<[Line; 2]>().as_ref() };
    let buffers = Region::shared(N * BUFFERS).map_err(|e| e.to_string())?;
    let buffer = |i: u64| -> NonNull<[u8; N]> {
        // SAFETY: the index is below `BUFFERS`, so the buffer is within the region.
        unsafe { buffers.base().cast::<[u8; N]>().add((i % BUFFERS as u64) as usize) }
    };
    let own = || -> Box<[u8; N]> { black_box(vec![1; N].try_into().expect("N bytes")) };

    let meeting = &Meeting::new(2)?;
    process::pair(
        run.cpus.swapped(),
        || {
            let mut own = own();
            let mut copy = |i: u64| {
                until(|| (written.0.load(Ordering::Acquire).wrapping_sub(i as u32)) as i32 > 0);
                // SAFETY: written before the position that was seen, and not again before the
                // one that is stored below.
                unsafe { buffer(i).copy_to_nonoverlapping(NonNull::from(&mut *own), 1) };
                black_box(&mut own);
                read.0.store((i as u32).wrapping_add(1), Ordering::Release);
            };
            (0..run.warm()).for_each(&mut copy);
            let clock = Instant::now();
            (run.warm()..run.all()).for_each(&mut copy);
            let time = clock.elapsed();
            meeting.wait();
            time
        },
        || {
            let own = own();
            for i in 0..run.all() {
                let ahead = || (i as u32).wrapping_sub(read.0.load(Ordering::Acquire));
                until(|| ahead() < BUFFERS as u32);
                // SAFETY: the reader is done with what the buffer had, and waits for the position
                // stored below before it reads again.
                unsafe { buffer(i).copy_from_nonoverlapping(NonNull::from(&**black_box(&own)), 1) };
                written.0.store((i as u32).wrapping_add(1), Ordering::Release);
            }
            meeting.wait();
        },
    )
}
