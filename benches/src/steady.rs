//! A steady stream from one process to another that sleeps between messages, as a sensor's reader
//! does: what a message costs in CPU time, of both processes together and in the kernel as well.

use crate::frame::{Frame, Template};
use crate::process::{self, Meeting, Work};
use crate::region::Region;
use crate::round_trip::Run;
use crate::spin::STALL;
use crate::traffic::{FrameSender, FrameSleeper};
use rustix::thread::futex::{Flags, wait, wake};
use rustix::time::{ClockId, clock_gettime};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Between two messages: ten thousand a second.
pub const PERIOD: Duration = Duration::from_micros(100);

/// Messages that may be under way: fewer than a socket's default buffer holds, of small ones.
const UNDER_WAY: u64 = 64;

/// Frames of which one is sent each [`PERIOD`], with ends that each process makes for itself:
/// the closures make them, and then [`go`](Writing::go). The time is CPU time of both processes,
/// from the first message that counts to the last; the writer's sleeping between messages is in
/// it, and is what [`alone`] measures.
///
/// # Errors
///
/// When a process cannot be started, or fails.
pub fn between(
    run: Run,
    write: impl FnOnce(Writing<'_>) -> Duration,
    read: impl FnOnce(Reading<'_>) -> Duration,
) -> Result<Duration, String> {
    let seen = Region::shared(size_of::<AtomicU64>()).map_err(|e| e.to_string())?;
    // SAFETY: the mapping is zeroed, aligned to a page and as long as the word, and outlives the
    // borrow.
    let seen = unsafe { seen.base().cast::<AtomicU64>().as_ref() };
    let meeting = &Meeting::new(2)?;
    let times = process::all(vec![
        Work::new(run.cpus.first, || write(Writing { run, meeting, seen }).as_nanos() as u64),
        Work::new(run.cpus.second, || read(Reading { run, meeting, seen }).as_nanos() as u64),
    ])?;
    Ok(Duration::from_nanos(times.iter().sum()))
}

/// What the pace costs when nothing is sent, and nobody waits.
///
/// # Errors
///
/// When a process cannot be started, or fails.
pub fn alone(run: Run) -> Result<Duration, String> {
    let paced = Work::new(run.cpus.first, || {
        let mut pace = Pace::new();
        (0..run.warm()).for_each(|_| pace.wait());
        let before = used();
        (0..run.count).for_each(|_| pace.wait());
        (used() - before).as_nanos() as u64
    });
    Ok(Duration::from_nanos(process::all(vec![paced])?[0]))
}

/// What the waking alone costs at that pace: for each message a word stored and a wake, and a
/// sleep on that word in the other process.
///
/// # Errors
///
/// When a process cannot be started, or fails.
pub fn futexes(run: Run) -> Result<Duration, String> {
    let word = Region::shared(size_of::<AtomicU32>()).map_err(|e| e.to_string())?;
    // SAFETY: the mapping is zeroed, aligned to a page and as long as the word, and outlives the
    // borrow.
    let word = Word(unsafe { word.base().cast::<AtomicU32>().as_ref() });
    let (mut tx, mut rx) = (word, word);
    between(run, |writing| writing.go::<8>(&mut tx), |reading| reading.go::<8>(&mut rx))
}

/// How many messages there have been. It carries nothing of them.
#[derive(Clone, Copy)]
struct Word<'a>(&'a AtomicU32);

impl FrameSender<8> for Word<'_> {
    fn try_send(&mut self, frame: Frame<'_, 8>) -> bool {
        self.0.store(frame.number() as u32 + 1, Ordering::Release);
        wake(self.0, Flags::empty(), 1).expect("a mapped word");
        true
    }
}

impl FrameSleeper<8> for Word<'_> {
    fn recv(&mut self, frame: Frame<'_, 8>) {
        let seen = frame.number() as u32;
        // Another that came meanwhile changes the word as well.
        while self.0.load(Ordering::Acquire) == seen {
            // Woken, or changed before; looked at again in each case.
            let _ = wait(self.0, Flags::empty(), seen, None);
        }
    }
}

/// The process that writes.
pub struct Writing<'a> {
    run: Run,
    meeting: &'a Meeting,
    seen: &'a AtomicU64,
}

/// The process that reads.
pub struct Reading<'a> {
    run: Run,
    meeting: &'a Meeting,
    seen: &'a AtomicU64,
}

impl Writing<'_> {
    /// Waits until the other has called this too.
    pub fn meet(&self) {
        self.meeting.wait();
    }

    /// Sends the frames, one a period; the CPU time that this process took for those that count.
    ///
    /// # Panics
    ///
    /// When there is no room, which is made sure of before.
    pub fn go<const N: usize>(self, tx: &mut impl FrameSender<N>) -> Duration {
        let template = Template::<N>::new();
        let mut pace = Pace::new();
        let mut send = |i| {
            pace.wait();
            // A socket drops what it has no room for. So a reader that the machine kept from
            // running for long is waited for.
            let since = Instant::now();
            while i - self.seen.load(Ordering::Relaxed) >= UNDER_WAY {
                assert!(since.elapsed() < STALL, "nobody reads");
                pace.wait();
            }
            assert!(tx.try_send(template.frame(i)), "full, with so few under way");
        };
        (0..self.run.warm()).for_each(&mut send);
        let before = used();
        (self.run.warm()..self.run.all()).for_each(&mut send);
        let time = used() - before;
        self.meet();
        time
    }
}

impl Reading<'_> {
    /// Waits until the other has called this too.
    pub fn meet(&self) {
        self.meeting.wait();
    }

    /// Reads and checks the frames; the CPU time that this process took for those that count.
    pub fn go<const N: usize>(self, rx: &mut impl FrameSleeper<N>) -> Duration {
        let template = Template::<N>::new();
        let mut read = |i| {
            rx.recv(template.frame(i));
            self.seen.store(i + 1, Ordering::Relaxed);
        };
        (0..self.run.warm()).for_each(&mut read);
        let before = used();
        (self.run.warm()..self.run.all()).for_each(&mut read);
        let time = used() - before;
        self.meet();
        time
    }
}

/// CPU time that this process has had, all its threads together.
fn used() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Sleeps from one period to the next.
struct Pace {
    next: Instant,
}

impl Pace {
    fn new() -> Self {
        Self { next: Instant::now() }
    }

    fn wait(&mut self) {
        self.next += PERIOD;
        let now = Instant::now();
        if let Some(time) = self.next.checked_duration_since(now) {
            sleep(time);
        } else {
            // Late: what was missed is not made up for in a burst, which nobody would sleep in.
            self.next = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeping_takes_no_cpu_time_and_keeps_the_pace() {
        let (begun, before) = (Instant::now(), used());
        let mut pace = Pace::new();
        pace.next = begun + Duration::from_millis(30);
        pace.wait();
        assert!(begun.elapsed() >= Duration::from_millis(30));
        // Other tests may run in this process meanwhile: nothing to say of an upper limit.
        assert!(used() >= before);
        pace.next = begun;
        pace.wait();
        assert!(pace.next > begun + PERIOD, "what was missed is not made up for");
    }
}
