//! A sender's end of a lane.

use super::layout::{Head, Lanes, OpenError};
use super::Card;
use crate::ready::ReadyBitmap;
use crate::ring::frame::{FrameRingRef, Writer};
use crate::sync::crash;
use crate::table::Slot;
use crate::wake::{Notifier, Park, Waiter, published};
use core::fmt;

/// A lane that was taken and is not opened yet. Dropping it gives it back.
#[must_use = "a lane is given back when this is dropped"]
pub struct Reserved<'a> {
    lanes: Lanes<'a>,
    slot: Slot<'a, [u32; 2]>,
}

impl<'a> Reserved<'a> {
    pub(super) fn new(lanes: Lanes<'a>, slot: Slot<'a, [u32; 2]>) -> Self {
        Self { lanes, slot }
    }

    /// Which lane.
    pub fn lane(&self) -> u32 {
        self.slot.key().index()
    }

    /// Where it lies in the area, and how many bytes it has: they have to be there when it is
    /// opened.
    pub fn place(&self) -> (usize, usize) {
        // It is a lane of the table's.
        self.lanes.place_of(self.lane()).unwrap_or((0, 0))
    }

    /// Makes the lane, which begins with an empty ring, and shows it to the receiver: `card` says
    /// from whom it is. The receiver learns of it with the first
    /// [`announce`](LaneWriter::announce).
    ///
    /// # Errors
    ///
    /// The card is longer than 64 bytes, or the ring cannot be made there. The lane was given back.
    pub fn open(self, card: &[u8]) -> Result<LaneWriter<'a>, OpenError> {
        let Self { lanes, mut slot } = self;
        let card = Card::new(card).map_err(OpenError::Card)?;
        let lane = slot.key().index();
        let Some((head, ring)) = lanes.parts_of(lane) else {
            unreachable!("a slot of the table's own")
        };
        card.store(&head.card);
        // SAFETY: the slot is ours alone and not published, so nobody else makes a ring here or
        // looks at the one that stood here: its writer's end was given up, or its owner was
        // proven dead, before the slot came to the receiver, and the reader's end before the
        // receiver released it.
        let ring = unsafe { FrameRingRef::init_at(ring, lanes.ring_options()) };
        let ring = ring.map_err(OpenError::Ring)?;
        let owner = slot.owner();
        let writer = ring.claim_writer(owner).map_err(OpenError::End)?;
        slot.update(&[owner.word(), 0]);
        let (ready, notifier) = (lanes.ready(), lanes.bell().shared_notifier());
        let announcer = Announcer { ready, notifier, lane, sleepless: lanes.is_sleepless() };
        Ok(LaneWriter { writer: Some(writer), slot: Some(slot), announcer, head, lanes })
    }
}

impl fmt::Debug for Reserved<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reserved").field("lane", &self.lane()).finish_non_exhaustive()
    }
}

/// A sender's end of a lane: one thread at a time.
///
/// Dropping it leaves the lane to the receiver, who is not woken for that; [`close`](Self::close)
/// wakes it.
pub struct LaneWriter<'a> {
    /// `None` only while it is being dropped.
    writer: Option<Writer<'a>>,
    slot: Option<Slot<'a, [u32; 2]>>,
    announcer: Announcer<'a>,
    head: &'a Head,
    lanes: Lanes<'a>,
}

/// Tells the receiver that there is something in a lane.
#[derive(Debug)]
pub struct Announcer<'a> {
    ready: ReadyBitmap<'a>,
    notifier: Notifier<'a, true>,
    lane: u32,
    sleepless: bool,
}

impl Announcer<'_> {
    /// See [`LaneWriter::announce`].
    #[inline]
    pub fn announce(&mut self, park: &impl Park) {
        // A bit that is cleared at this moment is missed, until the receiver's next sweep: it does
        // not sleep before that.
        if self.sleepless && self.ready.is_marked(self.lane as usize) {
            return;
        }
        let fenced = published();
        self.ready.mark(self.lane as usize, &fenced);
        self.notifier.notify_after(park, &fenced);
    }
}

impl<'a> LaneWriter<'a> {
    /// Which lane.
    pub fn lane(&self) -> u32 {
        self.announcer.lane
    }

    /// The lanes that it is one of.
    pub fn lanes(&self) -> &Lanes<'a> {
        &self.lanes
    }

    /// The end of the ring: for frames to be written.
    #[inline(always)]
    pub fn ring(&mut self) -> &mut Writer<'a> {
        self.parts().0
    }

    /// The end of the ring, to look at.
    #[inline(always)]
    pub fn ring_ref(&self) -> &Writer<'a> {
        match &self.writer {
            Some(writer) => writer,
            None => unreachable!("taken by drop alone"),
        }
    }

    /// The end of the ring, and what tells the receiver: for one who keeps a grant until it is
    /// committed, and announces it then.
    #[inline(always)]
    pub fn parts(&mut self) -> (&mut Writer<'a>, &mut Announcer<'a>) {
        match &mut self.writer {
            Some(writer) => (writer, &mut self.announcer),
            None => unreachable!("taken by drop alone"),
        }
    }

    /// Tells the receiver that there is something: a fence and two loads while it is awake and
    /// looks at this lane anyway; a load if it [never sleeps](Lanes::sleepless). After a frame, or
    /// after several.
    #[inline]
    pub fn announce(&mut self, park: &impl Park) {
        self.announcer.announce(park);
    }

    /// The sender's side of the word that it waits at when the ring is full: for the frame ring's
    /// [`Writer::wait`]. One at a time.
    pub fn room(&self) -> Waiter<'a> {
        self.head.room.waiter()
    }

    /// Leaves: what was written stays for the receiver to read, and it is told.
    pub fn close(mut self, park: &impl Park) {
        self.leave();
        self.announce(park);
    }

    fn leave(&mut self) {
        // First the end, then the slot: who finds the slot handed over finds the end free.
        drop(self.writer.take());
        if let Some(slot) = self.slot.take() {
            slot.hand_over(self.lanes.receiver());
        }
    }
}

impl Drop for LaneWriter<'_> {
    fn drop(&mut self) {
        if crash::dead() {
            return;
        }
        self.leave();
    }
}

impl fmt::Debug for LaneWriter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaneWriter").field("lane", &self.lane()).finish_non_exhaustive()
    }
}
