//! Your own way to sleep and wake: a futex.

use rustix::io::Errno;
use rustix::thread::futex::{Flags, Timespec, wait_bitset, wake};
use rustix::time::{ClockId, clock_gettime};
use shm_primitives::sync::AtomicU32;
use shm_primitives::wake::Park;
use std::num::NonZeroU32;

const SECOND: u64 = 1_000_000_000;
/// Not `PRIVATE`: the waiter may be in another process, and have the word at another address.
const SHARED: Flags = Flags::empty();

/// Sleeps in the kernel, on the word itself.
#[derive(Clone, Copy, Debug)]
pub struct FutexPark;

impl Park for FutexPark {
    fn now(&self) -> u64 {
        let now = clock_gettime(ClockId::Monotonic);
        now.tv_sec.cast_unsigned() * SECOND + now.tv_nsec.cast_unsigned()
    }

    fn wait(&self, word: &AtomicU32, expected: u32, until: u64) {
        // The bitset variant takes a moment of the monotonic clock, not a duration: that is
        // what `until` is, and a wait begun anew does not become longer.
        let until = Timespec {
            tv_sec: (until / SECOND).cast_signed(),
            tv_nsec: (until % SECOND).cast_signed(),
        };
        let all = NonZeroU32::MAX;
        match wait_bitset(word.as_core(), SHARED, expected, Some(&until), all) {
            // Woken, or for no reason; no longer the expected value; a signal; late. In each
            // case the waiter looks for itself.
            Ok(()) | Err(Errno::AGAIN | Errno::INTR | Errno::TIMEDOUT) => {}
            Err(error) => debug_assert!(false, "futex wait: {error}"),
        }
    }

    fn wake(&self, word: &AtomicU32) {
        // One waiter a word.
        let woken = wake(word.as_core(), SHARED, 1);
        debug_assert!(woken.is_ok(), "futex wake: {woken:?}");
    }
}
