//! The receiver's end of a lane.

use super::Card;
use super::layout::{Head, Lanes};
use crate::identity::OwnerId;
use crate::ring::frame::Reader;
use crate::table::{SlotKey, Snapshot};
use crate::wake::{Notifier, Park};
use core::fmt;

/// The receiver's end of a lane: one thread at a time.
///
/// Dropping it gives the reading end back and leaves the lane as it is: it can be
/// [taken up](Lanes::adopt) again.
pub struct LaneReader<'a> {
    reader: Reader<'a>,
    room: Notifier<'a>,
    key: SlotKey,
    sender: Option<OwnerId>,
    card: Card,
    lanes: Lanes<'a>,
}

impl<'a> LaneReader<'a> {
    pub(super) fn new(
        lanes: Lanes<'a>,
        found: Snapshot<[u32; 2]>,
        head: &'a Head,
        reader: Reader<'a>,
    ) -> Self {
        // The entry was read, Acquire, after it was published, and the card was written before.
        let card = Card::load(&head.card);
        let sender = OwnerId::from_word(found.entry[0]);
        Self { reader, room: head.room.notifier(), key: found.key, sender, card, lanes }
    }

    /// Which lane.
    pub fn lane(&self) -> u32 {
        self.key.index()
    }

    /// What the sender says of itself.
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// Who opened the lane, be it there still or not; `None` if it says something else.
    pub fn sender(&self) -> Option<OwnerId> {
        self.sender
    }

    /// The end of the ring: for frames to be read.
    #[inline(always)]
    pub fn ring(&mut self) -> &mut Reader<'a> {
        &mut self.reader
    }

    /// Wakes the sender if it waits for room: after frames were released, and the last time when
    /// the ring has been found empty. A fence and a load while it does not.
    pub fn announce_room(&mut self, park: &impl Park) {
        self.room.notify(park);
    }

    /// Whether the sender seems to wait for room: a load, which may miss one who is about to. To
    /// spare [`announce_room`](Self::announce_room) after each frame.
    #[inline(always)]
    pub fn room_is_wanted(&self) -> bool {
        self.room.is_wanted()
    }

    /// Whether the sender has left or was [recovered](Lanes::recover): what is in the ring is all
    /// that comes.
    pub fn has_ended(&self) -> bool {
        self.lanes.table().owner(self.key.index()) == Some(self.lanes.receiver())
    }

    /// Gives a lane that has ended and was read to its end back, to be anybody's; or itself, if
    /// the lane goes on or there is something to read. Nobody else can touch the lane's memory
    /// while `clear` runs, which is told its number: that is the moment to give the memory back
    /// to the system.
    #[must_use = "what is given back is a lane that goes on"]
    pub fn finish_with(self, clear: impl FnOnce(u32)) -> Option<Self> {
        self.give_back(false, clear)
    }

    /// The same whatever is left to read: for a lane in which something stands that no sender
    /// writes, and of which the end may never be reached.
    #[must_use = "what is given back is a lane that goes on"]
    pub fn discard_with(self, clear: impl FnOnce(u32)) -> Option<Self> {
        self.give_back(true, clear)
    }

    fn give_back(mut self, unread: bool, clear: impl FnOnce(u32)) -> Option<Self> {
        let receiver = self.lanes.receiver();
        // Acquire: what the sender had written before it left is seen from here on.
        let Some(slot) = self.lanes.table().resume(self.key, receiver) else { return Some(self) };
        if !unread && self.reader.corruption().is_none() && !self.reader.is_empty() {
            slot.keep();
            return Some(self);
        }
        let lane = self.lane();
        // The end first, then the slot: whoever reserves it finds nobody in the lane.
        drop(self);
        clear(lane);
        slot.release();
        None
    }

    /// [`finish_with`](Self::finish_with) that clears nothing.
    #[must_use = "what is given back is a lane that goes on"]
    pub fn finish(self) -> Option<Self> {
        self.finish_with(|_| ())
    }
}

impl fmt::Debug for LaneReader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaneReader")
            .field("lane", &self.lane())
            .field("card", &self.card)
            .finish_non_exhaustive()
    }
}
