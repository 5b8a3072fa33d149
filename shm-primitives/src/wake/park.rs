//! What a waiter sleeps with.

use crate::sync::{AtomicU32, Ordering::Relaxed, spin_loop};
use core::time::Duration;

/// How to sleep, wake, and tell the time: a futex in a process, a semaphore in an RTOS, WFE
/// and SEV on a bare core.
///
/// `wait` may return early for any reason; who waits looks again. What it must not do is
/// sleep on after a `wake` that came when `word` no longer held `expected`, or sleep past
/// `until`.
///
/// A semaphore keeps its promise if `wake` gives it and `wait` takes it: a wake that came
/// first is kept by the count. WFE keeps it because the event it waits for is remembered too.
pub trait Park {
    /// Nanoseconds since a moment of the park's choosing; never goes back.
    fn now(&self) -> u64;

    /// Sleeps while `word` holds `expected`, until `wake(word)`, or until [`now`](Self::now)
    /// reaches `until`, which a [`Waiter`](super::Waiter) never puts further away than 100 ms.
    fn wait(&self, word: &AtomicU32, expected: u32, until: u64);

    /// Wakes whoever waits at `word`. Its value was changed before.
    fn wake(&self, word: &AtomicU32);

    /// Whether another core may do what is waited for, so that it makes sense to look again and
    /// again before sleeping. Not so where an interrupt of the same core does it.
    fn spins(&self) -> bool {
        true
    }
}

impl<P: Park + ?Sized> Park for &P {
    fn now(&self) -> u64 {
        P::now(self)
    }
    fn wait(&self, word: &AtomicU32, expected: u32, until: u64) {
        P::wait(self, word, expected, until);
    }
    fn wake(&self, word: &AtomicU32) {
        P::wake(self, word);
    }
    fn spins(&self) -> bool {
        P::spins(self)
    }
}

/// Until when to wait: a moment on the clock of a [`Park`], so that a call retried does not
/// wait longer than was asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Deadline(u64);

impl Deadline {
    /// Wait for ever.
    pub const NEVER: Self = Self(u64::MAX);
    /// Look, and do not wait.
    pub const NOW: Self = Self(0);

    /// When the park's clock shows `nanoseconds`.
    pub const fn at(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }

    /// When `timeout` has passed from now on. One too long for the clock is for ever.
    pub fn after(park: &impl Park, timeout: Duration) -> Self {
        let timeout = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        Self(park.now().saturating_add(timeout))
    }

    /// What the park's clock shows then.
    pub const fn nanoseconds(self) -> u64 {
        self.0
    }
}

/// A park that does not sleep: it polls the word. For a core that has nothing else to do, and
/// for tests.
///
/// It is given a clock. Where there is none, `|| 0` will do: then no deadline but
/// [`Deadline::NOW`] ever comes.
#[derive(Clone, Copy, Debug)]
pub struct SpinPark<C: Fn() -> u64> {
    clock: C,
}

impl<C: Fn() -> u64> SpinPark<C> {
    /// Spins, by a clock in nanoseconds that does not go back.
    pub const fn new(clock: C) -> Self {
        Self { clock }
    }
}

impl<C: Fn() -> u64> Park for SpinPark<C> {
    fn now(&self) -> u64 {
        (self.clock)()
    }

    fn wait(&self, word: &AtomicU32, expected: u32, until: u64) {
        while word.load(Relaxed) == expected && self.now() < until {
            spin_loop();
        }
    }

    fn wake(&self, _word: &AtomicU32) {}
}

/// The park of models: a mutex and a condition variable of loom's, and an expiry that the model
/// calls for.
///
/// A model calls [`expire`](Self::expire) when nobody will notify any more, and asserts at its
/// end that nobody [`overslept`](Self::overslept): so a lost wake is a failed assertion and not
/// a deadlock. The clock stands at 0 until somebody has overslept; then all deadlines pass.
///
/// A wake ends every sleep, whatever its word: use a park for each word, or one notifier's wake
/// may hide that another's was lost.
#[cfg(all(loom, any(test, feature = "loom")))]
#[derive(Debug)]
pub struct LoomPark {
    state: loom::sync::Mutex<LoomState>,
    woken: loom::sync::Condvar,
}

#[cfg(all(loom, any(test, feature = "loom")))]
#[derive(Debug)]
struct LoomState {
    wakes: u32,
    expired: bool,
    overslept: bool,
}

#[cfg(all(loom, any(test, feature = "loom")))]
impl LoomPark {
    /// A park whose clock stands at 0.
    pub fn new() -> Self {
        let state = LoomState { wakes: 0, expired: false, overslept: false };
        Self { state: loom::sync::Mutex::new(state), woken: loom::sync::Condvar::new() }
    }

    /// Ends every sleep, those to come too.
    pub fn expire(&self) {
        self.state.lock().unwrap().expired = true;
        self.woken.notify_all();
    }

    /// Whether somebody slept until [`expire`](Self::expire), or would have.
    pub fn overslept(&self) -> bool {
        self.state.lock().unwrap().overslept
    }
}

#[cfg(all(loom, any(test, feature = "loom")))]
impl Default for LoomPark {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(loom, any(test, feature = "loom")))]
impl Park for LoomPark {
    fn now(&self) -> u64 {
        if self.overslept() { u64::MAX } else { 0 }
    }

    fn wait(&self, word: &AtomicU32, expected: u32, _until: u64) {
        let mut state = self.state.lock().unwrap();
        // As a futex does: the word is looked at once, and then only a wake ends the sleep.
        if word.load(Relaxed) != expected {
            return;
        }
        let before = state.wakes;
        while state.wakes == before {
            if state.expired {
                state.overslept = true;
                return;
            }
            state = self.woken.wait(state).unwrap();
        }
    }

    fn wake(&self, _word: &AtomicU32) {
        // Under the lock: between a waiter's look at the word and its sleep there is no gap.
        self.state.lock().unwrap().wakes += 1;
        self.woken.notify_all();
    }
}
