//! The word, and the notifier's side of it.

use super::{ANSWERING, PUBLISHED, Park, Waiter};
use crate::sync::{AtomicU32, LOOM, Ordering::Relaxed, const_unless_loom, crash, fence};
use core::mem::{align_of, offset_of, size_of};

/// Where one waiter sleeps and any number of notifiers wake it; see the
/// [module](crate::wake).
///
/// Eight bytes. Give it a cache line that is seldom written: notifiers read it for every
/// message.
#[repr(C)]
#[derive(Debug)]
pub struct WakeWord {
    pub(super) sequence: AtomicU32,
    pub(super) epoch: AtomicU32,
}

const _: () = assert!(
    LOOM || size_of::<WakeWord>() == 8
        && align_of::<WakeWord>() == 4
        && offset_of!(WakeWord, epoch) == 4
);

impl WakeWord {
    const_unless_loom! {
        /// A word nobody waits at. So are eight zero bytes.
        pub fn new() -> Self {
            Self { sequence: AtomicU32::new(0), epoch: AtomicU32::new(0) }
        }
    }

    /// The word at the start of `region`, whatever stands there: every value is valid.
    ///
    /// # Errors
    ///
    /// The region is `TooSmall` or `Misaligned` (to 4).
    #[cfg(not(all(loom, any(test, feature = "loom"))))]
    pub fn at<'a>(
        region: &crate::region::Region<'a>,
    ) -> Result<&'a Self, crate::part::AttachError> {
        // SAFETY: two atomic words in repr(C).
        unsafe { region.words() }
    }

    /// The waiter's side. One waiter at a time: with two, a wake may reach the wrong one, and
    /// the other sleeps for up to 100 ms. A successor goes on from the epoch it finds when it is
    /// made: make it after the last wait of the one before.
    pub fn waiter(&self) -> Waiter<'_> {
        Waiter::new(self)
    }

    /// Ends a sleep of this word's waiter early, for no reason: to make a [`Relay`](super::Relay)
    /// come back. A sleep that has not begun yet is not ended, so call it until it did.
    pub fn nudge(&self, park: &impl Park) {
        park.wake(&self.sequence);
    }

    /// The side of the word's only notifier: loads and stores alone. Should there be a second
    /// one, a wake may be lost, and the waiter sleeps for up to 100 ms.
    pub fn notifier(&self) -> Notifier<'_> {
        Notifier { word: self, answered: 0 }
    }
}

crate::sync::with_read_modify_write! {
    impl WakeWord {
        /// The side of one of several notifiers, each with a handle of its own.
        pub fn shared_notifier(&self) -> Notifier<'_, true> {
            Notifier { word: self, answered: 0 }
        }
    }
}

impl Default for WakeWord {
    fn default() -> Self {
        Self::new()
    }
}

/// Says that everything this thread published before is seen by whoever looks after its own
/// fence; made by [`published`]. One fence serves the ready bit and the wake of one message,
/// or of many.
#[derive(Debug)]
pub struct Fenced(());

/// The fence between publishing and looking whether somebody has to be told. The only fence of
/// a sender, and not part of any push: a batch needs one.
#[inline]
pub fn published() -> Fenced {
    fence(PUBLISHED);
    Fenced(())
}

/// A notifier's side of a [`WakeWord`]: one thread at a time. `SHARED` if there are several.
#[derive(Debug)]
pub struct Notifier<'a, const SHARED: bool = false> {
    word: &'a WakeWord,
    /// The epoch this notifier last woke; even before the first.
    answered: u32,
}

impl<const SHARED: bool> Notifier<'_, SHARED> {
    /// Wakes the waiter if it parks. Call it after publishing, once for a batch.
    ///
    /// Neither blocks nor makes a system call while the waiter is awake: a fence and a load.
    #[inline]
    pub fn notify(&mut self, park: &impl Park) {
        self.notify_after(park, &published());
    }

    /// The same after a fence that also served something else.
    #[inline]
    pub fn notify_after(&mut self, park: &impl Park, _fenced: &Fenced) {
        let epoch = self.word.epoch.load(Relaxed);
        if epoch & 1 == 1 && epoch != self.answered {
            self.wake(park, epoch);
        }
    }

    /// Whether the waiter seems to park, and this notifier has not answered it: one load, and no
    /// fence, so that it may miss a waiter that is about to park. To spare a notify now and then
    /// where another follows.
    #[inline(always)]
    pub fn is_wanted(&self) -> bool {
        let epoch = self.word.epoch.load(Relaxed);
        epoch & 1 == 1 && epoch != self.answered
    }

    #[cold]
    fn wake(&mut self, park: &impl Park, epoch: u32) {
        self.answered = epoch;
        self.change_sequence();
        crash::step();
        park.wake(&self.word.sequence);
    }

    #[inline(always)]
    fn change_sequence(&self) {
        let sequence = &self.word.sequence;
        // Without a read-modify-write there is no shared notifier.
        #[cfg(any(
            target_has_atomic = "32",
            feature = "critical-section",
            feature = "unsafe-assume-single-core"
        ))]
        if SHARED {
            sequence.fetch_add(1, ANSWERING);
            return;
        }
        sequence.store(sequence.load(Relaxed).wrapping_add(1), ANSWERING);
    }
}
