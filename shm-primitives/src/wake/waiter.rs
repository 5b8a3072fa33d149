//! The waiter's side: the one blocking pattern.

use super::spin::{Spin, Spun};
use super::{Deadline, PARKING, Park, SLEEPING, WakeWord};
use crate::sync::{Ordering::Relaxed, fence};

/// The longest sleep in one piece, in nanoseconds: what a wake lost to a death costs.
const BOUND: u64 = 100_000_000;

/// The waiter's side of a [`WakeWord`]: one thread at a time.
#[derive(Debug)]
pub struct Waiter<'a> {
    word: &'a WakeWord,
    /// What the epoch holds; even while nobody sleeps. The word itself is not believed.
    epoch: u32,
    spin: Spin,
}

impl<'a> Waiter<'a> {
    pub(super) fn new(word: &'a WakeWord) -> Self {
        // A predecessor that died parked left it odd; its notifiers may have answered that.
        let epoch = word.epoch.load(Relaxed);
        Self { word, epoch: epoch.wrapping_add(epoch & 1), spin: Spin::new() }
    }

    /// Waits until `ready` says so, and answers true; false if the deadline passed first.
    ///
    /// It polls `ready`, spinning as long as has paid lately, then sleeps between calls of it:
    /// until a notifier wakes it, and for 100 ms at the most. `ready` is called again after
    /// the deadline, so that what came at the last moment is not missed. It has to check what
    /// it reads, and say true for whatever ends the wait, such as a corrupt position or a
    /// peer known to be dead.
    ///
    /// The only function of this crate that blocks; everything that waits goes through it.
    #[inline]
    pub fn wait(
        &mut self,
        park: &impl Park,
        deadline: Deadline,
        mut ready: impl FnMut() -> bool,
    ) -> bool {
        if ready() {
            return true;
        }
        if deadline == Deadline::NOW {
            return false;
        }
        match self.spin.spin(park, deadline.nanoseconds(), &mut ready) {
            Spun::Ready => true,
            Spun::Late => ready(),
            Spun::Park => self.park(park, deadline.nanoseconds(), ready),
        }
    }

    #[cold]
    fn park(&mut self, park: &impl Park, deadline: u64, mut ready: impl FnMut() -> bool) -> bool {
        // A condition that panicked in an earlier sleep left it odd, and so the word.
        self.epoch = self.epoch.wrapping_add(self.epoch & 1);
        loop {
            let sequence = self.word.sequence.load(SLEEPING);
            self.set_epoch();
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
            self.set_epoch();
            found = found || ready();
            if found || late {
                return found;
            }
        }
    }

    /// From even to odd, or back: every epoch is a fresh one.
    fn set_epoch(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        self.word.epoch.store(self.epoch, Relaxed);
    }
}
