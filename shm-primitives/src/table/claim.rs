//! Taking a slot that is nobody's, or going on with one's own.

use super::{RESUME, Slot, SlotKey, SlotTable, TAKE};
use crate::identity::OwnerId;
use crate::part::{ClaimError, Corrupt, Shareable, decode_owner};
use crate::sync::Ordering::Relaxed;
use core::fmt;

/// Each slot was somebody's when it was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableFull {
    /// How many slots there are.
    pub slots: u32,
}

impl fmt::Display for TableFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "each of {} slots is taken: recover those whose holders are dead, or make a larger table",
            self.slots
        )
    }
}

impl core::error::Error for TableFull {}

impl<'a, T: Shareable, const LIVE: usize> SlotTable<'a, T, LIVE> {
    /// Takes a slot that is nobody's and publishes `entry` in it. Its live words are 0.
    ///
    /// # Errors
    ///
    /// [`TableFull`]. Each slot is looked at once: one that was released meanwhile may have
    /// been missed.
    pub fn claim(&self, owner: OwnerId, entry: &T) -> Result<Slot<'a, T, LIVE>, TableFull> {
        let mut slot = self.reserve(owner)?;
        slot.update(entry);
        Ok(slot)
    }

    /// The same without an entry: the slot is held, and nobody reads it until the first
    /// [`update`](Slot::update). To store live words before that, or to look around.
    ///
    /// # Errors
    ///
    /// As [`claim`](Self::claim).
    pub fn reserve(&self, owner: OwnerId) -> Result<Slot<'a, T, LIVE>, TableFull> {
        for index in self.in_turn() {
            let Some(slot) = self.slot(index) else { continue };
            // Looked at first: an exchange would take the line from its holder's core.
            if slot.owner.load(Relaxed) == 0
                && slot.owner.compare_exchange(0, owner.word(), TAKE).is_ok()
            {
                return Ok(Slot::fresh(slot, index, owner));
            }
        }
        Err(self.full())
    }

    /// Takes slot `index`, if it is nobody's, without an entry: for places that mean
    /// something.
    ///
    /// # Errors
    ///
    /// `Owned` while somebody has it, be he alive or dead; `Corrupt` if the owner word is no
    /// id; `NoSuchPlace` if the table has no such slot.
    pub fn reserve_at(
        &self,
        index: u32,
        owner: OwnerId,
    ) -> Result<Slot<'a, T, LIVE>, ClaimError> {
        let Some(slot) = self.slot(index) else {
            return Err(ClaimError::NoSuchPlace { found: index, places: self.slots() });
        };
        match slot.owner.compare_exchange(0, owner.word(), TAKE) {
            Ok(_) => Ok(Slot::fresh(slot, index, owner)),
            Err(word) => match decode_owner(word)? {
                Some(other) => Err(ClaimError::Owned(other)),
                // Not reached: the exchange fails by another value alone.
                None => Err(Corrupt { what: "owner word", found: word, limit: 0 }.into()),
            },
        }
    }

    /// A handle again of a slot that was [kept](Slot::keep) under `owner`, or
    /// [handed over](Slot::hand_over) to it; `None` if the slot is not its, or in another
    /// tenancy by now.
    ///
    /// One handle at a time: with two nothing is undefined, but the entry is worth nothing.
    pub fn resume(&self, key: SlotKey, owner: OwnerId) -> Option<Slot<'a, T, LIVE>> {
        let slot = self.slot(key.index())?;
        if slot.owner.load(RESUME) != owner.word() {
            return None;
        }
        let slot = Slot::resumed(slot, key.index(), owner);
        if slot.key() == key {
            return Some(slot);
        }
        // Not released: it is somebody's, only not the one meant.
        core::mem::forget(slot);
        None
    }

    pub(super) fn full(&self) -> TableFull {
        TableFull { slots: self.slots() }
    }
}
