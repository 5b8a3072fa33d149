//! Taking over what the dead had.

use super::words::Version;
use super::{Slot, SlotTable, TAKE_OVER};
use crate::identity::{Dead, OwnerId};
use crate::part::Shareable;
use crate::sync::Ordering::Relaxed;
use core::fmt;

/// The dead one and its heir have the same id: whoever recovers lives, so the proof is false.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OwnDeath {
    /// The id of both.
    pub id: OwnerId,
}

impl fmt::Display for OwnDeath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot recover from itself: one that is dead takes nothing over", self.id)
    }
}

impl core::error::Error for OwnDeath {}

/// Takes over, one after the other, the slots that were a dead one's. See
/// [`SlotTable::recover`].
#[must_use = "nothing is recovered until it is iterated over"]
pub struct Recovery<'a, T, const LIVE: usize = 0> {
    table: SlotTable<'a, T, LIVE>,
    dead: OwnerId,
    heir: OwnerId,
    next: u32,
}

impl<'a, T: Shareable, const LIVE: usize> SlotTable<'a, T, LIVE> {
    /// Takes over the slots that were `dead`'s: each, when its turn comes, is `heir`'s, who
    /// finds in it the last [entry](Slot::entry) that the dead one published (or none, if it
    /// died before that or while it released), repairs what hung on it, and releases it. A
    /// published slot keeps its key, its entry and its live words until then.
    ///
    /// What is not iterated over stays the dead one's. Several may do this at once: each slot goes
    /// to one of them. A slot that is handed to the dead one, or taken in its name by one who [enrols](Self::enrol) late, after its
    /// turn needs another recovery.
    ///
    /// # Errors
    ///
    /// [`OwnDeath`] if both are the same.
    pub fn recover(
        &self,
        dead: Dead<OwnerId>,
        heir: OwnerId,
    ) -> Result<Recovery<'a, T, LIVE>, OwnDeath> {
        if dead.id() == heir {
            return Err(OwnDeath { id: heir });
        }
        Ok(Recovery { table: *self, dead: dead.id(), heir, next: 0 })
    }

    /// Releases all slots that were `dead`'s, each by way of `heir`; answers how many. For
    /// entries on which nothing hangs.
    ///
    /// # Errors
    ///
    /// As [`recover`](Self::recover).
    pub fn release_all_of(&self, dead: Dead<OwnerId>, heir: OwnerId) -> Result<u32, OwnDeath> {
        Ok(self.recover(dead, heir)?.map(Slot::release).fold(0, |count, ()| count + 1))
    }

    /// Makes those slots nobody's whose owner word is no id, or one that `is_nobodys` says it is;
    /// answers how many. Each is `heir`'s for a moment.
    ///
    /// For a table that somebody can write to who does not keep to the protocol: what he leaves in
    /// an owner word dies no death, and no recovery comes to it.
    pub fn clear_nobodys(&self, heir: OwnerId, mut is_nobodys: impl FnMut(OwnerId) -> bool) -> u32 {
        let mut cleared = 0;
        for index in 0..self.slots() {
            let Some(slot) = self.slot(index) else { continue };
            let version = Version(slot.version.load(Relaxed));
            let owner = slot.owner.load(Relaxed);
            let is_free = owner == 0;
            if !is_free
                && OwnerId::from_word(owner).is_none_or(&mut is_nobodys)
                && slot.owner.compare_exchange(owner, heir.word(), TAKE_OVER).is_ok()
            {
                Slot::<T, LIVE>::taken(slot, index, heir, version).release();
                cleared += 1;
            }
        }
        cleared
    }
}

impl<'a, T: Shareable, const LIVE: usize> Iterator for Recovery<'a, T, LIVE> {
    type Item = Slot<'a, T, LIVE>;

    fn next(&mut self) -> Option<Self::Item> {
        let (dead, heir) = (self.dead.word(), self.heir);
        while self.next < self.table.slots() {
            let index = self.next;
            self.next += 1;
            let Some(slot) = self.table.slot(index) else { continue };
            // Relaxed: the proof of death comes after all that the dead one stored. Before the
            // exchange: after it another thread of the heir's may go on with a slot that is
            // published, and give it back, by `resume`.
            let version = Version(slot.version.load(Relaxed));
            if slot.owner.load(Relaxed) == dead
                && slot.owner.compare_exchange(dead, heir.word(), TAKE_OVER).is_ok()
            {
                return Some(Slot::taken(slot, index, heir, version));
            }
        }
        None
    }
}

impl<T, const LIVE: usize> fmt::Debug for Recovery<'_, T, LIVE> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recovery")
            .field("dead", &self.dead)
            .field("heir", &self.heir)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}
