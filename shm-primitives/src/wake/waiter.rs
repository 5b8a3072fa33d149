//! The waiter's side: the one blocking pattern.

use super::spin::{Spin, Spun};
use super::{Deadline, PARKING, Park, SLEEPING, WakeWord};
use crate::sync::{Ordering::Relaxed, fence};

/// The longest sleep in one piece, in nanoseconds: what a wake lost to a death costs.
pub(super) const BOUND: u64 = 100_000_000;

/// The waiter's side of a [`WakeWord`]: one thread at a time.
#[derive(Debug)]
pub struct Waiter<'a> {
    word: &'a WakeWord,
    epoch: Epoch,
    spin: Spin,
}

impl<'a> Waiter<'a> {
    pub(super) fn new(word: &'a WakeWord) -> Self {
        Self { word, epoch: Epoch::of(word), spin: Spin::new() }
    }

    /// Waits until `ready` says so, and answers true; false if the deadline passed first.
    ///
    /// It polls `ready`, spinning as long as has paid lately, then sleeps between calls of it:
    /// until a notifier wakes it, and for 100 ms at the most. `ready` is called again after
    /// the deadline, so that what came at the last moment is not missed. It has to check what
    /// it reads, and say true for whatever ends the wait, such as a corrupt position or a
    /// peer known to be dead.
    ///
    /// Everything of this crate that waits goes through it; but a [`Relay`](super::Relay), which
    /// sleeps for somebody who waits elsewhere.
    #[inline]
    pub fn wait(
        &mut self,
        park: &impl Park,
        deadline: Deadline,
        mut ready: impl FnMut() -> bool,
    ) -> bool {
        self.wait_looking(park, deadline, |_| ready())
    }

    /// [`wait`](Self::wait) for one who has many places to look at: while it spins `ready` is
    /// asked for a [glance](Look::Glance) at the likely ones; before and after each sleep, for a
    /// [thorough](Look::Thorough) look at all of them, for what that one misses may be slept
    /// through.
    #[inline]
    pub fn wait_looking(
        &mut self,
        park: &impl Park,
        deadline: Deadline,
        mut ready: impl FnMut(Look) -> bool,
    ) -> bool {
        if deadline == Deadline::NOW {
            return ready(Look::Thorough);
        }
        if ready(Look::Glance) {
            return true;
        }
        match self.spin.spin(park, deadline.nanoseconds(), || ready(Look::Glance)) {
            Spun::Ready => true,
            Spun::Late => ready(Look::Thorough),
            Spun::Park => self.park(park, deadline.nanoseconds(), || ready(Look::Thorough)),
        }
    }

    #[cold]
    fn park(&mut self, park: &impl Park, deadline: u64, mut ready: impl FnMut() -> bool) -> bool {
        // A condition that panicked in an earlier sleep left it odd, and so the word.
        self.epoch.even();
        loop {
            let sequence = self.word.sequence.load(SLEEPING);
            self.epoch.set_next(self.word);
            fence(PARKING);
            let mut found = ready();
            let mut late = false;
            if !found {
                let now = park.now();
                late = now >= deadline;
                if !late {
                    let until = deadline.min(now.saturating_add(BOUND));
                    park.wait(&self.word.sequence, sequence, until);
                }
            }
            self.epoch.set_next(self.word);
            found = found || ready();
            if found || late {
                return found;
            }
        }
    }
}

/// How closely to look; see [`Waiter::wait_looking`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Look {
    /// At what is likely. It is done again and again.
    Glance,
    /// At everything.
    Thorough,
}

/// What the epoch holds; even while nobody sleeps. The word itself is not believed.
#[derive(Debug)]
pub(super) struct Epoch(u32);

impl Epoch {
    /// Goes on from what the word holds.
    pub(super) fn of(word: &WakeWord) -> Self {
        let mut epoch = Self(word.epoch.load(Relaxed));
        // A predecessor that died parked left it odd; its notifiers may have answered that.
        epoch.even();
        epoch
    }

    /// Up to an even one, if it is not; the word keeps what it has.
    pub(super) fn even(&mut self) {
        self.0 = self.0.wrapping_add(self.0 & 1);
    }

    pub(super) fn is_odd(&self) -> bool {
        self.0 & 1 == 1
    }

    /// From even to odd, or back: every epoch is a fresh one.
    pub(super) fn set_next(&mut self, word: &WakeWord) {
        self.0 = self.0.wrapping_add(1);
        word.epoch.store(self.0, Relaxed);
    }
}
