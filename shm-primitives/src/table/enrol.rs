//! Taking a slot whose tenancy is the id itself.

use super::words::Version;
use super::{RELEASE, Slot, SlotTable, TAKE, TableFull};
use crate::identity::OwnerId;
use crate::part::Shareable;
use crate::sync::Ordering::Relaxed;
use core::fmt;

/// How often one slot is tried when others take and leave it meanwhile.
const TRIES: u32 = 4;

/// A slot whose holder's id is the slot itself, and the lock that shows that it lives.
///
/// Dropping it releases the slot, then drops the guard. Before that, whatever else names this
/// id should be released.
pub struct Enrolled<'a, T, G, const LIVE: usize = 0> {
    // Dropped first.
    slot: Slot<'a, T, LIVE>,
    guard: G,
}

impl<'a, T, G, const LIVE: usize> Enrolled<'a, T, G, LIVE> {
    /// The id: index and generation of the slot.
    pub fn id(&self) -> OwnerId {
        self.slot.owner()
    }

    /// The slot, to look at.
    pub fn slot(&self) -> &Slot<'a, T, LIVE> {
        &self.slot
    }

    /// The slot, to update.
    pub fn slot_mut(&mut self) -> &mut Slot<'a, T, LIVE> {
        &mut self.slot
    }

    /// The lock.
    pub fn guard(&self) -> &G {
        &self.guard
    }

    /// Both. The slot has to be released before the guard is dropped: with no lock on its id
    /// it is taken for a dead one's.
    pub fn into_parts(self) -> (Slot<'a, T, LIVE>, G) {
        (self.slot, self.guard)
    }
}

impl<T, G, const LIVE: usize> fmt::Debug for Enrolled<'_, T, G, LIVE> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enrolled").field("slot", &self.slot).finish_non_exhaustive()
    }
}

/// What became of one attempt at one slot.
enum Attempt<S> {
    Enrolled(S),
    /// Somebody's, or about to be.
    Taken,
    /// Somebody had it since it was looked at, and left again.
    Moved,
}

impl<'a, T: Shareable, const LIVE: usize> SlotTable<'a, T, LIVE> {
    /// Takes a slot that is nobody's under the id that the slot's own index and generation
    /// make, and publishes `entry` in it. In which order, and why no id is given twice, is
    /// said in the [module](crate::table).
    ///
    /// `guard` takes the lock that shows to all others that the holder of this id lives, and
    /// is `None` if somebody has it. It is called before anybody sees the id, at most a few
    /// times for each slot; all but the last of its locks are given back at once. Whoever
    /// finds a dead holder's id here convicts it by that lock.
    ///
    /// # Errors
    ///
    /// [`TableFull`]: each of the first 4096 slots was somebody's when it was looked at, or
    /// its next id could not be locked.
    pub fn enrol<G>(
        &self,
        entry: &T,
        mut guard: impl FnMut(OwnerId) -> Option<G>,
    ) -> Result<Enrolled<'a, T, G, LIVE>, TableFull> {
        for index in self.in_turn() {
            for _ in 0..TRIES {
                match self.enrol_at(index, &mut guard) {
                    Attempt::Enrolled(mut enrolled) => {
                        enrolled.slot.update(entry);
                        return Ok(enrolled);
                    }
                    Attempt::Taken => break,
                    Attempt::Moved => {}
                }
            }
        }
        Err(self.full())
    }

    fn enrol_at<G>(
        &self,
        index: u32,
        guard: &mut impl FnMut(OwnerId) -> Option<G>,
    ) -> Attempt<Enrolled<'a, T, G, LIVE>> {
        let Some(slot) = self.slot(index) else { return Attempt::Taken };
        if slot.owner.load(Relaxed) != 0 {
            return Attempt::Taken;
        }
        // May be out of date, and is looked at again.
        let before = slot.version.load(Relaxed);
        let Some(id) = Version(before).next().key(index).owner_id() else { return Attempt::Taken };
        let Some(guard) = guard(id) else { return Attempt::Taken };
        if slot.owner.compare_exchange(0, id.word(), TAKE).is_err() {
            return Attempt::Taken;
        }
        if slot.version.load(Relaxed) != before {
            // This id was somebody's. An exchange, for one who has the proof of that one's
            // death may have taken the slot over; then it is no longer ours to touch.
            let _ = slot.owner.compare_exchange(id.word(), 0, RELEASE);
            drop(guard);
            return Attempt::Moved;
        }
        Attempt::Enrolled(Enrolled { slot: Slot::fresh(slot, index, id), guard })
    }
}
