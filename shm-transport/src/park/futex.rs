//! Sleeping on a word in memory.

use super::{SECOND, SleepPark};
use rustix::io::Errno;
use rustix::thread::futex::{Flags, Timespec, wait_bitset, wake};
use shm_primitives::sync::AtomicU32;
use shm_primitives::wake::Park;
use std::io;
use std::num::NonZeroU32;

/// Sleeps in the kernel, on the word itself, which may be in memory of several processes, mapped
/// at different addresses.
///
/// # What ends a sleep
///
/// A wake; a word that holds something else when the sleep would begin; the deadline, a moment of
/// `CLOCK_MONOTONIC` that the kernel is given as it is, so that a wait begun anew does not become
/// longer; a signal whose handler has run; a signal that stops the process and one that continues
/// it; or nothing at all. Who waits looks for itself.
///
/// # When the kernel refuses
///
/// A filter of system calls may forbid futexes ([`check`](Self::check) finds out), and memory
/// that nobody can read has none. There is no one to tell in the middle of a wait, and to return
/// at once would make it a busy loop. So the park then sleeps as [`SleepPark`] does, a millisecond
/// at a time: slow, and correct. A wake that the kernel refuses is none; the sleeper's own bound
/// of 100 ms ends its sleep.
///
/// The word is touched by the kernel alone.
#[derive(Clone, Copy, Debug)]
pub struct FutexPark {
    private: bool,
    spins: bool,
}

impl FutexPark {
    /// For words that any process may have.
    pub const fn new() -> Self {
        Self { private: false, spins: true }
    }

    /// For words that only this process has: the kernel finds them a little quicker. All who wait
    /// and wake at a word have to be of this kind, or none; else wakes are lost, and sleeps take
    /// their 100 ms.
    pub const fn private() -> Self {
        Self { private: true, spins: true }
    }

    /// The same for a waiter that does not spin before it sleeps: where there is but one core, or
    /// where cores are worth more than the microseconds that waking one takes.
    #[must_use]
    pub const fn without_spinning(self) -> Self {
        Self { spins: false, ..self }
    }

    /// Whether the kernel lets this thread use futexes. Wakes nobody.
    ///
    /// # Errors
    ///
    /// What the kernel says instead: `ENOSYS` or `EPERM` are a filter's. Without futexes waits
    /// go on, but slowly.
    pub fn check(&self) -> io::Result<()> {
        let word = AtomicU32::new(0);
        wake(word.as_core(), self.flags(), 1)?;
        Ok(())
    }

    const fn flags(self) -> Flags {
        if self.private { Flags::PRIVATE } else { Flags::empty() }
    }
}

impl Default for FutexPark {
    fn default() -> Self {
        Self::new()
    }
}

impl Park for FutexPark {
    #[inline]
    fn now(&self) -> u64 {
        super::now()
    }

    fn wait(&self, word: &AtomicU32, expected: u32, until: u64) {
        // A moment of time for the variant with a bitset; of the plain one it would be a duration.
        let moment = Timespec { tv_sec: (until / SECOND) as i64, tv_nsec: (until % SECOND) as _ };
        let all = NonZeroU32::MAX;
        match wait_bitset(word.as_core(), self.flags(), expected, Some(&moment), all) {
            Ok(()) | Err(Errno::AGAIN | Errno::INTR | Errno::TIMEDOUT) => {}
            Err(_) => SleepPark::new().wait(word, expected, until),
        }
    }

    fn wake(&self, word: &AtomicU32) {
        // One waiter a word. What to do about an error is said above: nothing.
        let _ = wake(word.as_core(), self.flags(), 1);
    }

    fn spins(&self) -> bool {
        self.spins
    }
}
