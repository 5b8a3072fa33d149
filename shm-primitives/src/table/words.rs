//! The words of one slot, and what the version says.

use super::SlotKey;
use crate::identity::OwnerId;
use crate::part::Shareable;
use crate::sync::{AtomicU32, Ordering::Relaxed};
use core::mem::size_of;

/// Words of a slot before its live words.
pub(super) const HEAD: usize = 3;

/// The version word: the generation of the slot, and whether its entry is published.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Version(pub u32);

const PUBLISHED: u32 = 1;

impl Version {
    /// A slot of this generation with no entry.
    pub const fn unpublished(generation: u32) -> Self {
        Self(generation << OwnerId::INDEX_BITS)
    }

    pub const fn generation(self) -> u32 {
        self.0 >> OwnerId::INDEX_BITS
    }

    /// Whether there is an entry to read. A generation of 0, which no holder stores, has none.
    pub const fn is_published(self) -> bool {
        self.0 & PUBLISHED != 0 && self.generation() != 0
    }

    /// The same with its entry published.
    pub const fn published(self) -> Self {
        Self(self.0 | PUBLISHED)
    }

    /// The same with no entry.
    pub const fn retracted(self) -> Self {
        Self::unpublished(self.generation())
    }

    /// The next tenancy, with no entry yet.
    pub const fn next(self) -> Self {
        match self.generation() {
            OwnerId::MAX_GENERATION => Self::unpublished(1),
            generation => Self::unpublished(generation + 1),
        }
    }

    /// Its tenancy's key in slot `index`.
    pub const fn key(self, index: u32) -> SlotKey {
        SlotKey::new(index, self.generation())
    }
}

/// The words of one slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words<'a> {
    pub owner: &'a AtomicU32,
    pub version: &'a AtomicU32,
    pub selector: &'a AtomicU32,
    pub live: &'a [AtomicU32],
    copies: [&'a [AtomicU32]; 2],
}

impl<'a> Words<'a> {
    /// The slot in `words`, with so many live words and words of an entry; `None` if they are
    /// too few.
    pub fn split(words: &'a [AtomicU32], live: usize, entry: usize) -> Option<Self> {
        let [owner, version, selector, rest @ ..] = words else { return None };
        let (live, rest) = rest.split_at_checked(live)?;
        let (first, rest) = rest.split_at_checked(entry)?;
        let (second, _) = rest.split_at_checked(entry)?;
        Some(Self { owner, version, selector, live, copies: [first, second] })
    }

    fn copy(&self, selector: u32) -> &'a [AtomicU32] {
        self.copies[(selector & 1) as usize]
    }

    /// What stands in the copy that `selector` names, whole or not.
    pub fn load<T: Shareable>(&self, selector: u32) -> T {
        let mut entry = T::new_zeroed();
        let words = self.copy(selector).iter();
        for (bytes, word) in entry.as_mut_bytes().chunks_exact_mut(size_of::<u32>()).zip(words) {
            bytes.copy_from_slice(&word.load(Relaxed).to_ne_bytes());
        }
        entry
    }

    /// Writes `entry` into the copy that `selector` names, and zeros behind it.
    pub fn store<T: Shareable>(&self, selector: u32, entry: &T) {
        let mut known = entry.as_bytes().chunks_exact(size_of::<u32>());
        for word in self.copy(selector) {
            let mut bytes = [0; size_of::<u32>()];
            if let Some(known) = known.next() {
                bytes.copy_from_slice(known);
            }
            word.store(u32::from_ne_bytes(bytes), Relaxed);
        }
    }
}
