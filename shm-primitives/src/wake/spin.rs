//! How long to spin before parking.

use super::Park;
use crate::sync::{LOOM, spin_loop};

/// Polls without a pause, before all others. Where two threads share a core a pause takes long,
/// and the answer is there at once; between two cores it takes longer than these polls, and
/// pauses between the later ones leave the line to the one who writes it.
const EAGER: u32 = if LOOM { 0 } else { 64 };
/// Polls between two looks at the clock, and before the first: a peer that is awake answers
/// within them, and costs no clock reading.
const POLLS: u32 = if LOOM { 0 } else { 128 };
/// The longest spin, in nanoseconds: about what it costs to put a core to sleep and wake it.
const LONGEST: u32 = 100_000;
/// What a new waiter spins.
const FIRST: u32 = 20_000;
/// If so much passed between two looks at the clock, this thread was not running: somebody
/// else wants the core, and may well be the one that is waited for.
const TAKEN_AWAY: u64 = 200_000;
/// After so many waits in a row that were not worth spinning for, the longest spin is tried once.
const FIRST_TRIAL: u32 = 16;
/// The same when trials keep failing.
const LAST_TRIAL: u32 = 1024;

/// Failures from which on trials are counted: the first, and the long spin that follows it.
const COUNTED: u32 = 2;

/// How a spin ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Spun {
    Ready,
    /// It does not pay to go on.
    Park,
    /// The deadline has passed.
    Late,
}

/// A spin that learns how long it pays.
///
/// After a success it is twice the time that was needed, or sinks towards that; after a failure
/// it halves, down to the first polls alone. Since that leaves nothing to learn from, a long spin is
/// tried now and then, ever more seldom. A thread that finds its core taken away while it
/// spins gives the spinning up at once: with more spinners than cores, each spins in the way
/// of the one it waits for.
///
/// A long spin is also tried right after the first failure that follows a success. In a dialogue
/// one side that is late once makes the other park; which is late then too, by what waking it
/// takes, and makes the first one park, and so on: each waits for a wake, and finds that spinning
/// does not pay. A spin by one of them that is as long as a wake ends that.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spin {
    /// Nanoseconds.
    budget: u32,
    /// Failures since the last success; or since the last trial, and [`COUNTED`].
    failures: u32,
    /// Failures before the next trial.
    trial: u32,
}

impl Spin {
    pub(super) const fn new() -> Self {
        Self { budget: FIRST, failures: 0, trial: FIRST_TRIAL }
    }

    #[inline]
    pub(super) fn spin(
        &mut self,
        park: &impl Park,
        deadline: u64,
        mut ready: impl FnMut() -> bool,
    ) -> Spun {
        if !park.spins() {
            return Spun::Park;
        }
        for _ in 0..EAGER {
            if ready() {
                return Spun::Ready;
            }
        }
        for _ in 0..POLLS {
            if ready() {
                return Spun::Ready;
            }
            spin_loop();
        }
        if LOOM { Spun::Park } else { self.spin_by_clock(park, deadline, ready) }
    }

    #[cold]
    fn spin_by_clock(
        &mut self,
        park: &impl Park,
        deadline: u64,
        mut ready: impl FnMut() -> bool,
    ) -> Spun {
        let begun = park.now();
        let trying = self.failures == 1 || self.is_trial_due();
        let budget = if trying { LONGEST } else { self.budget };
        let mut last = begun;
        loop {
            if last >= deadline {
                return Spun::Late;
            }
            if last - begun >= u64::from(budget) {
                self.failed();
                return Spun::Park;
            }
            for _ in 0..POLLS {
                if ready() {
                    self.succeeded(park.now().saturating_sub(begun));
                    return Spun::Ready;
                }
                spin_loop();
            }
            // A clock that went back is no reason to overflow.
            let now = park.now().max(last);
            if now - last > TAKEN_AWAY {
                (self.budget, self.failures, self.trial) = (0, COUNTED, LAST_TRIAL);
                return Spun::Park;
            }
            last = now;
        }
    }

    fn succeeded(&mut self, needed: u64) {
        let aim = u32::try_from(needed.saturating_mul(2)).unwrap_or(LONGEST).min(LONGEST);
        // Up at once, or a single success would be followed by failures; down by quarters.
        self.budget = aim.max(self.budget - self.budget / 4);
        (self.failures, self.trial) = (0, FIRST_TRIAL);
    }

    fn is_trial_due(&self) -> bool {
        self.failures >= COUNTED + self.trial
    }

    fn failed(&mut self) {
        self.budget /= 2;
        if self.is_trial_due() {
            // That was one, and in vain.
            self.trial = (self.trial * 2).min(LAST_TRIAL);
            self.failures = COUNTED;
        } else {
            self.failures += 1;
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::AtomicU32;
    use core::cell::Cell;

    /// A clock that advances by a step at each look.
    struct Clock {
        now: Cell<u64>,
        step: Cell<u64>,
    }

    impl Park for Clock {
        fn now(&self) -> u64 {
            self.now.set(self.now.get() + self.step.get());
            self.now.get()
        }
        fn wait(&self, _: &AtomicU32, _: u32, _: u64) {}
        fn wake(&self, _: &AtomicU32) {}
    }

    fn clock() -> Clock {
        Clock { now: Cell::new(0), step: Cell::new(1000) }
    }

    /// Becomes ready after so many looks at the clock.
    fn after(clock: &Clock, nanoseconds: u64) -> impl FnMut() -> bool {
        let begun = clock.now.get();
        move || clock.now.get() - begun >= nanoseconds
    }

    #[test]
    fn what_is_ready_at_once_reads_no_clock() {
        let (clock, mut spin) = (clock(), Spin::new());
        assert_eq!(spin.spin(&clock, u64::MAX, || true), Spun::Ready);
        assert_eq!(clock.now.get(), 0);
    }

    #[test]
    fn it_learns_what_pays() {
        let (clock, mut spin) = (clock(), Spin::new());
        for _ in 0..50 {
            assert_eq!(spin.spin(&clock, u64::MAX, after(&clock, 8000)), Spun::Ready);
        }
        // Twice what was needed, by the clock's own steps.
        assert!((14_000..22_000).contains(&spin.budget), "{spin:?}");
    }

    #[test]
    fn it_learns_what_does_not_pay() {
        let (clock, mut spin) = (clock(), Spin::new());
        let mut spent = 0;
        for _ in 0..1000 {
            let begun = clock.now.get();
            assert_eq!(spin.spin(&clock, u64::MAX, || false), Spun::Park);
            spent = clock.now.get() - begun;
        }
        assert!(spent <= 2000, "{spent} ns in vain, after a thousand lessons");
    }

    #[test]
    fn it_finds_out_when_spinning_pays_again() {
        let (clock, mut spin) = (clock(), Spin::new());
        for _ in 0..100 {
            spin.spin(&clock, u64::MAX, || false);
        }
        assert_eq!(spin.budget, 0);
        let mut ready = 0;
        for _ in 0..200 {
            ready += u32::from(spin.spin(&clock, u64::MAX, after(&clock, 30_000)) == Spun::Ready);
        }
        assert!(ready > 50, "{ready} of 200");
    }

    /// One late answer, and the next that takes as long as a wake: spun for. But only once.
    #[test]
    fn one_failure_is_followed_by_a_long_spin() {
        let (clock, mut spin) = (clock(), Spin::new());
        for _ in 0..50 {
            assert_eq!(spin.spin(&clock, u64::MAX, after(&clock, 2000)), Spun::Ready);
        }
        assert!(spin.budget < 10_000);
        assert_eq!(spin.spin(&clock, u64::MAX, || false), Spun::Park);
        assert_eq!(spin.spin(&clock, u64::MAX, after(&clock, 60_000)), Spun::Ready);
        // Down again.
        for _ in 0..50 {
            assert_eq!(spin.spin(&clock, u64::MAX, after(&clock, 2000)), Spun::Ready);
        }
        for _ in 0..2 {
            assert_eq!(spin.spin(&clock, u64::MAX, || false), Spun::Park);
        }
        for _ in 0..FIRST_TRIAL {
            assert_eq!(spin.spin(&clock, u64::MAX, after(&clock, 60_000)), Spun::Park);
        }
        assert_eq!(spin.spin(&clock, u64::MAX, after(&clock, 60_000)), Spun::Ready, "a trial");
    }

    #[test]
    fn it_gives_way_when_its_core_is_taken_away() {
        let (clock, mut spin) = (clock(), Spin::new());
        clock.step.set(TAKEN_AWAY + 1);
        assert_eq!(spin.spin(&clock, u64::MAX, || false), Spun::Park);
        clock.step.set(1000);
        for _ in 0..LAST_TRIAL {
            let begun = clock.now.get();
            assert_eq!(spin.spin(&clock, u64::MAX, || false), Spun::Park);
            assert!(clock.now.get() - begun <= 1000, "spins on");
        }
    }

    #[test]
    fn a_deadline_ends_it() {
        let (clock, mut spin) = (clock(), Spin::new());
        assert_eq!(spin.spin(&clock, 3000, || false), Spun::Late);
        assert!(clock.now.get() <= 4000);
    }

    #[test]
    fn a_clock_that_goes_back_harms_nobody() {
        let (clock, mut spin) = (clock(), Spin::new());
        clock.now.set(1 << 40);
        let mut polls = 0;
        let spun = spin.spin(&clock, u64::MAX, || {
            polls += 1;
            clock.now.set(clock.now.get() - 1);
            false
        });
        assert_eq!(spun, Spun::Park);
    }
}
