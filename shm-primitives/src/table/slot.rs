//! A slot one holds.

use super::words::{Version, Words};
use super::{OVERWRITE, PUBLISH, RELEASE, SlotKey, TURN};
use crate::identity::OwnerId;
use crate::part::Shareable;
use crate::sync::{AtomicU32, Ordering::Relaxed, crash, fence};
use core::fmt;
use core::marker::PhantomData;
use core::mem::forget;

/// A slot that is held under an [`OwnerId`]: the only handle that changes it.
///
/// Dropping it releases the slot. No operation blocks or spins.
#[must_use = "a slot is released when it is dropped"]
pub struct Slot<'a, T, const LIVE: usize = 0> {
    words: Words<'a>,
    index: u32,
    owner: OwnerId,
    /// What version and selector are; those in memory are only written.
    version: Version,
    selector: u32,
    entries: PhantomData<fn(T) -> T>,
}

impl<'a, T, const LIVE: usize> Slot<'a, T, LIVE> {
    /// A slot just taken, as its former holder left it. If no entry is published it is the
    /// next tenancy's.
    ///
    /// Also after a death: a generation that the dead one used, or was about to, is not used
    /// again. `version` is what the slot had under that holder.
    pub(super) fn taken(words: Words<'a>, index: u32, owner: OwnerId, version: Version) -> Self {
        let mut slot = Self::resumed(words, index, owner);
        slot.version = version;
        if slot.version.is_published() { slot } else { slot.next_tenancy() }
    }

    /// A slot just taken from nobody: the next tenancy's.
    pub(super) fn fresh(words: Words<'a>, index: u32, owner: OwnerId) -> Self {
        Self::resumed(words, index, owner).next_tenancy()
    }

    /// A slot whose tenancy goes on.
    pub(super) fn resumed(words: Words<'a>, index: u32, owner: OwnerId) -> Self {
        // Relaxed: taking the slot ordered the stores of its former holder before this.
        let version = Version(words.version.load(Relaxed));
        let selector = words.selector.load(Relaxed);
        Self { words, index, owner, version, selector, entries: PhantomData }
    }

    fn next_tenancy(mut self) -> Self {
        self.version = self.version.next();
        self.words.version.store(self.version.0, Relaxed);
        fence(OVERWRITE);
        for word in self.words.live {
            word.store(0, Relaxed);
        }
        self
    }

    /// Which slot, and which tenancy.
    pub fn key(&self) -> SlotKey {
        self.version.key(self.index)
    }

    /// Under which id it is held.
    pub fn owner(&self) -> OwnerId {
        self.owner
    }

    /// Whether an entry is published.
    pub fn is_published(&self) -> bool {
        self.version.is_published()
    }

    /// Live word number `word`, below `LIVE`. It was 0 when the tenancy began. Others read it
    /// at any time, whatever else is being changed.
    pub fn live(&self, word: usize) -> Option<&AtomicU32> {
        if word >= LIVE { None } else { self.words.live.get(word) }
    }

    /// Releases the slot: it is nobody's, and its tenancy over. The same as dropping it.
    pub fn release(self) {}

    /// Forgets the handle; the slot stays held, with its entry. Whoever acts under the same id
    /// goes on with [`resume`](super::SlotTable::resume).
    pub fn keep(self) -> SlotKey {
        let key = self.key();
        forget(self);
        key
    }

    /// Makes `heir` the holder, with the entry as it is; it goes on with
    /// [`resume`](super::SlotTable::resume).
    ///
    /// A heir that is dead by then has the slot until somebody recovers what it had, once
    /// more if that was done before.
    pub fn hand_over(self, heir: OwnerId) -> SlotKey {
        if self.words.owner.load(Relaxed) == self.owner.word() {
            self.words.owner.store(heir.word(), RELEASE);
        }
        self.keep()
    }
}

impl<T: Shareable, const LIVE: usize> Slot<'_, T, LIVE> {
    /// The entry that is published; `None` if there is none.
    pub fn entry(&self) -> Option<T> {
        self.is_published().then(|| self.words.load(self.selector))
    }

    /// Publishes `entry` in the place of the one before, if there was one. Readers see either,
    /// whole; so they do if this process dies at any moment of it.
    pub fn update(&mut self, entry: &T) {
        let next = self.selector.wrapping_add(1);
        fence(OVERWRITE);
        self.words.store(next, entry);
        self.words.selector.store(next, TURN);
        self.selector = next;
        if !self.version.is_published() {
            self.version = self.version.published();
            self.words.version.store(self.version.0, PUBLISH);
        }
    }
}

impl<T, const LIVE: usize> Drop for Slot<'_, T, LIVE> {
    fn drop(&mut self) {
        if crash::dead() {
            return;
        }
        // Only a living holder's word is its own to clear, and nobody else stores over it
        // without proof of its death: load and store suffice. If it is another's all the same,
        // that proof was false or the memory is hostile; then the rest is his too.
        if self.words.owner.load(Relaxed) != self.owner.word() {
            return;
        }
        self.words.version.store(self.version.retracted().0, Relaxed);
        self.words.owner.store(0, RELEASE);
    }
}

impl<T, const LIVE: usize> fmt::Debug for Slot<'_, T, LIVE> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("key", &self.key())
            .field("owner", &self.owner)
            .field("published", &self.is_published())
            .finish_non_exhaustive()
    }
}
