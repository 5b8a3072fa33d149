//! The receiver's memory for all lanes.

use super::{CardTooLong, HEAD, LEAST_CAPACITY, LaneReader, Reserved};
use crate::identity::{Dead, OwnerId};
use crate::part::{AttachError, ClaimError, LINE, Line, check_region};
use crate::ready::ReadyBitmap;
use crate::region::Region;
use crate::ring::frame::{FrameRingRef, Options};
use crate::sync::{AtomicU32, LOOM};
use crate::table::{Busy, OwnDeath, SlotTable, TableFull};
use crate::wake::WakeWord;
use core::fmt;
use core::mem::{offset_of, size_of};

/// The table of lanes: entries are the id of the lane's sender, and a word that is 0.
pub type Table<'a> = SlotTable<'a, [u32; 2]>;

/// What stands before the ring.
#[repr(C, align(64))]
#[derive(Debug)]
pub(super) struct Head {
    pub card: Line<[AtomicU32; 16]>,
    pub room: Line<WakeWord>,
}

const _: () = assert!(LOOM || size_of::<Head>() == 128 && offset_of!(Head, room) == 64);

/// Where the ring begins. Loom's words are larger than bytes.
const RING: usize = if LOOM { size_of::<Head>().next_multiple_of(LINE) } else { HEAD - 256 };

/// All lanes to one receiver; a view of memory that others have too. See the
/// [module](crate::lane).
#[derive(Debug)]
pub struct Lanes<'a> {
    receiver: OwnerId,
    table: Table<'a>,
    ready: ReadyBitmap<'a>,
    bell: &'a WakeWord,
    area: Region<'a>,
    capacity: u32,
    sleepless: bool,
}

impl Clone for Lanes<'_> {
    fn clone(&self) -> Self {
        Self { area: self.whole_area(), ..*self }
    }
}

/// Why there are no lanes of this shape.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LanesError {
    /// A ring's data are a power of two of bytes, from 4096 to 2³⁰.
    BadCapacity {
        /// Bytes asked for.
        found: u32,
    },
    /// The area is too small for so many lanes, or not aligned.
    Area(AttachError),
}

impl fmt::Display for LanesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadCapacity { found } => {
                write!(f, "a lane of {found} bytes: make it a power of two from 4096 to 2^30")
            }
            Self::Area(error) => write!(f, "the memory for lanes: {error}"),
        }
    }
}

impl core::error::Error for LanesError {}

/// Why a lane was not made, or not taken up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// The card has too many bytes.
    Card(CardTooLong),
    /// The ring could not be made, or what stands there is none.
    Ring(AttachError),
    /// An end of the ring is somebody's already, or its positions are wrong.
    End(ClaimError),
    /// The slot could not be read: not of a sender that keeps the protocol.
    Busy(Busy),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Card(error) => error.fmt(f),
            Self::Ring(error) => write!(f, "the ring of a lane: {error}"),
            Self::End(error) => write!(f, "the end of a lane: {error}"),
            Self::Busy(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for OpenError {}

impl<'a> Lanes<'a> {
    /// Bytes of an area of so many lanes of so many bytes each; `None` if there can be none.
    pub const fn area_size(lanes: u32, capacity: u32) -> Option<usize> {
        match Self::stride(capacity) {
            Some(stride) => stride.checked_mul(lanes as usize),
            None => None,
        }
    }

    /// From one lane to the next.
    const fn stride(capacity: u32) -> Option<usize> {
        if !capacity.is_power_of_two() {
            return None;
        }
        if LOOM {
            return match Options::new(capacity).required_size() {
                Some(ring) => Some((RING + ring).next_multiple_of(LINE)),
                None => None,
            };
        }
        if capacity < LEAST_CAPACITY || capacity > 1 << 30 {
            return None;
        }
        (capacity as usize).checked_add(HEAD)
    }

    /// The lanes that are made of these parts, to receiver `receiver`; `capacity` is the bytes of
    /// each ring's data. As many lanes as the table has slots.
    ///
    /// # Errors
    ///
    /// See [`LanesError`]. Nothing is written.
    ///
    /// # Safety
    ///
    /// All who have these parts have them together, with one capacity and one receiver, and keep
    /// the protocol: they use this module. The area is used for nothing else. Under loom `zero_at` was called.
    pub unsafe fn new(
        receiver: OwnerId,
        table: Table<'a>,
        ready: ReadyBitmap<'a>,
        bell: &'a WakeWord,
        area: Region<'a>,
        capacity: u32,
    ) -> Result<Self, LanesError> {
        let size = Self::area_size(table.slots(), capacity);
        let size = size.ok_or(LanesError::BadCapacity { found: capacity })?;
        check_region(&area, size, LINE).map_err(LanesError::Area)?;
        Ok(Self { receiver, table, ready, bell, area, capacity, sleepless: false })
    }

    /// What mapping fresh memory is in ordinary builds: makes loom's atomics for so many lanes.
    ///
    /// # Safety
    ///
    /// The area is large enough, aligned, and the caller's alone.
    #[cfg(all(loom, any(test, feature = "loom")))]
    pub unsafe fn zero_at(area: &Region<'_>, lanes: u32, capacity: u32) {
        let stride = Self::stride(capacity).unwrap_or(0);
        for lane in 0..lanes as usize {
            let words = || core::array::from_fn(|_| AtomicU32::new(0));
            let Some(ring) = area.part(lane * stride + RING, stride - RING) else { return };
            // SAFETY: the caller's contract. Loom's types need no drop.
            unsafe {
                area.base()
                    .add(lane * stride)
                    .cast::<Head>()
                    .write(Head { card: Line(words()), room: Line(WakeWord::new()) });
                FrameRingRef::zero_at(&ring, Options::new(capacity));
            }
        }
    }

    /// The lanes' memory.
    pub fn area(&self) -> &Region<'a> {
        &self.area
    }

    /// Who receives.
    pub fn receiver(&self) -> OwnerId {
        self.receiver
    }

    /// Which lane is whose.
    pub fn table(&self) -> Table<'a> {
        self.table
    }

    /// Which lanes have something.
    pub fn ready(&self) -> ReadyBitmap<'a> {
        self.ready
    }

    /// What the receiver sleeps at.
    pub fn bell(&self) -> &'a WakeWord {
        self.bell
    }

    /// Bytes of each ring's data.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// The same lanes to a receiver that never sleeps and sweeps all lanes again and again: a
    /// message to such a one needs no fence. All who have the lanes have to agree.
    #[must_use]
    pub const fn sleepless(mut self, sleepless: bool) -> Self {
        self.sleepless = sleepless;
        self
    }

    /// Whether the receiver never sleeps.
    pub const fn is_sleepless(&self) -> bool {
        self.sleepless
    }

    /// Where lane `lane` lies in the area, and how many bytes it has: what is to be there before
    /// it is [opened](Reserved::open). `None` if there is none.
    pub fn place_of(&self, lane: u32) -> Option<(usize, usize)> {
        let stride = Self::stride(self.capacity)?;
        // No overflow: `new` has found all lanes in the area.
        (lane < self.table.slots()).then(|| (lane as usize * stride, stride))
    }

    /// Takes a lane that is nobody's. Its memory is not touched before it is opened. Does not
    /// block; looks at each slot once.
    ///
    /// # Errors
    ///
    /// [`TableFull`]: each lane is somebody's. Also if the sender has the id of the receiver, who
    /// can take no lane to itself.
    pub fn reserve(&self, sender: OwnerId) -> Result<Reserved<'a>, TableFull> {
        let full = TableFull { slots: self.table.slots() };
        if sender == self.receiver {
            // It could not be told from one who has left.
            return Err(full);
        }
        Ok(Reserved::new(self.clone(), self.table.reserve(sender)?))
    }

    /// The lanes that are somebody's, opened or not, in order: what a receiver sweeps before it
    /// sleeps.
    pub fn claimed(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.table.owners().map(|(lane, _)| lane)
    }

    /// Takes lane `lane` up, to be read: for the receiver, once for each lane that is opened.
    /// `None` if nobody has opened it.
    ///
    /// # Errors
    ///
    /// What stands there is no lane, or it has been taken up and not finished: see [`OpenError`].
    /// Such a one can be [discarded](Self::discard) when its sender has ended.
    pub fn adopt(&self, lane: u32) -> Result<Option<LaneReader<'a>>, OpenError> {
        let Some(found) = self.table.read(lane).map_err(OpenError::Busy)? else { return Ok(None) };
        let Some((head, ring)) = self.parts_of(lane) else { return Ok(None) };
        // SAFETY: by the contract of `new`.
        let ring = unsafe { FrameRingRef::attach(ring, Some(self.capacity)) };
        let ring = ring.map_err(OpenError::Ring)?;
        let reader = ring.claim_reader(self.receiver).map_err(OpenError::End)?;
        Ok(Some(LaneReader::new(self.clone(), found, head, reader)))
    }

    /// Gives lane `lane` back, to be anybody's, without having taken it up: for the receiver, and a
    /// lane that it could not [adopt](Self::adopt), or does not want. Not before the sender has
    /// left or was [recovered](Self::recover); whether it did. `clear` is told its number before
    /// anybody can take it, as in [`finish_with`](LaneReader::finish_with).
    ///
    /// # Safety
    ///
    /// Nobody has a [`LaneReader`] of this lane, and nobody takes it up or discards it meanwhile:
    /// whoever reserves it next makes a new ring where this one was.
    pub unsafe fn discard(&self, lane: u32, clear: impl FnOnce(u32)) -> bool {
        let (table, receiver) = (self.table, self.receiver);
        if table.owner(lane) != Some(receiver) {
            return false;
        }
        // One without an entry is being recovered at this moment, by whoever releases it then.
        let Ok(Some(found)) = table.read(lane) else { return false };
        let Some(slot) = table.resume(found.key, receiver) else { return false };
        clear(lane);
        slot.release();
        true
    }

    /// Takes what a dead sender had: lanes that it had not opened are nobody's again, opened ones
    /// are the receiver's, to be read to their ends and [finished](LaneReader::finish). How many
    /// those are. For the receiver; to be done again if the proof is older than a lane of the
    /// dead one.
    ///
    /// # Errors
    ///
    /// [`OwnDeath`] if the receiver itself is said to be dead.
    pub fn recover(&self, dead: Dead<OwnerId>) -> Result<u32, OwnDeath> {
        let mut opened = 0;
        for slot in self.table.recover(dead, self.receiver)? {
            if slot.is_published() {
                slot.keep();
                opened += 1;
            }
        }
        Ok(opened)
    }

    /// Whether any lane comes from `sender`, or came from it and is not finished. One that is
    /// just being opened does not count yet.
    pub fn any_from(&self, sender: OwnerId) -> bool {
        let from = |lane| match self.table.read(lane) {
            Ok(found) => found.is_some_and(|found| found.entry[0] == sender.word()),
            // Not known, so perhaps.
            Err(_) => true,
        };
        self.claimed().any(from)
    }

    pub(super) fn ring_options(&self) -> Options {
        Options::new(self.capacity)
    }

    /// The words before the ring of lane `lane`, and the ring's memory. Touches nothing.
    pub(super) fn parts_of(&self, lane: u32) -> Option<(&'a Head, Region<'a>)> {
        let (offset, stride) = self.place_of(lane)?;
        let ring = self.area.part(offset + RING, stride - RING)?;
        // SAFETY: within the area, which is valid for 'a; aligned, since the area and each stride
        // are; words of any value, or under loom made by `zero_at`.
        let head = unsafe { self.area.base().add(offset).cast::<Head>().as_ref() };
        Some((head, ring))
    }

    fn whole_area(&self) -> Region<'a> {
        let whole = self.area.part(0, self.area.len());
        // All of a region is a part of it.
        whole.unwrap_or_else(|| Region::from_mut(&mut []))
    }
}
