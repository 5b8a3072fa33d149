//! Sleeping where nobody can be woken.

use shm_primitives::sync::AtomicU32;
use shm_primitives::wake::Park;
use std::thread;
use std::time::Duration;

/// How long a waiter sleeps before it looks again, in nanoseconds.
const PIECE: u64 = 1_000_000;

/// A park that needs nothing of the system: it sleeps for a millisecond at a time, and the waiter
/// looks in between. A message is late by a millisecond and what the system's timers add; a waiter
/// wakes up a thousand times a second.
///
/// It serves any memory and any number of processes, with other kinds of park on the other side
/// too. [`FutexPark`](super::FutexPark) falls back on it.
#[derive(Clone, Copy, Default, Debug)]
pub struct SleepPark(());

impl SleepPark {
    /// The park; it has no settings.
    pub const fn new() -> Self {
        Self(())
    }
}

impl Park for SleepPark {
    fn now(&self) -> u64 {
        super::now()
    }

    /// One piece; the word is the waiter's to look at.
    fn wait(&self, _word: &AtomicU32, _expected: u32, until: u64) {
        let left = until.saturating_sub(super::now());
        thread::sleep(Duration::from_nanos(left.min(PIECE)));
    }

    fn wake(&self, _word: &AtomicU32) {}
}
