//! `LETT`: the dead letters of a service. Messages that killed the worker that had them in hand,
//! kept to be looked at, until somebody says that they may go.
//!
//! # Memory
//!
//! A [`segment`](crate::segment) with magic `LETT`, version 1. The two words of its own are the
//! number of slots and the bytes of a message that each keeps, a multiple of 64. Its owner is the
//! service's supervisor.
//!
//! ```text
//! part               role
//! kind  3, required   0    the table of letters: a slot for each
//! kind  7, required   0    the messages, in the order of the slots, from a multiple of 4096 on
//!
//! an entry of the table: 12 words
//!     +0     8  seq_id      of the message: the lower word first
//!     +8     8  time        when the letter was kept: milliseconds since 1970, UTC
//!    +16     4  func_id     what was called
//!    +20     4  worker      the place of the worker that died
//!    +24     4  worker_pid  of its process
//!    +28     8  cause       what it died of: a kind (1 exited, 2 signalled, 3 panicked, 4 unknown,
//!                           5 hung, 6 late), and exit code or signal
//!    +36     4  attempt     how often the message was tried, this time included
//!    +40     4  client_pid  of the caller's process
//!    +44     4  length      bytes of the message; no more of them are kept than there is room for
//!
//! and one live word: the generation of the slot, if its letter may go; else something else
//! ```
//!
//! The messages' part is sparse: pages of it are there when whoever keeps letters has seen to it,
//! for [`place_of`](LettersLayout::place_of) a slot. Table and header are
//! [dense](Shape::dense_size).
//!
//! # Who writes what, in which order
//!
//! Only the segment's owner keeps letters and lets them go, one thread at a time: who has its
//! [`Control`]. Header and table of parts are the [segment's](crate::segment), slots the
//! [slot table's](crate::table) matter.
//!
//! | operation | its stores, in order |
//! |---|---|
//! | [`reserve`](LettersLayout::reserve) | takes a slot, in the owner's name, its live word 0 |
//! | [`keep`](Draft::keep) | the message; the entry, published; then the slot is given to [`KEPT`] |
//! | [`ask_to_drop`](LettersLayout::ask_to_drop), anybody | the live word |
//! | [`sweep_dropped`](LettersLayout::sweep_dropped) | of each letter that may go, the slot is released |
//!
//! A letter that is kept is the segment's, and no process's: it stays when its supervisor dies or
//! leaves, also when the table of processes is made anew meanwhile, so that their ids mean others.
//! So its slot is held by an id that no process has.
//!
//! A reader copies the entry, then the message, and then looks whether the letter is still that
//! one ([`SlotTable::confirm`]): a message is written before its entry is published, and the next
//! one there after the slot's generation has changed.
//!
//! That a letter may go is said by storing the slot's generation. One who is late with it, when the
//! slot has the next letter, stores what means nothing then; if he so overwrites what somebody said
//! of that one, it has to be said again.
//!
//! # Crash
//!
//! | who dies | where | what is left |
//! |---|---|---|
//! | creator | before the segment is published | none: whoever owns the memory makes it again |
//! | supervisor | between `reserve` and the entry's publication | no letter; a slot that is the dead one's |
//! | supervisor | after it, before the slot is given away | the letter, whole; its slot the dead one's |
//! | supervisor | after `keep`, before the message is skipped | the letter. The successor finds the same message in hand and keeps it again: [`keep`](LettersLayout::keep) finds the letter and makes no second one |
//! | supervisor | while it lets a letter go | the letter, or a slot that is nobody's but still `KEPT`'s |
//! | reader | anywhere | nothing |
//!
//! Who follows takes the segment's control: [`recover_control`](Segment::recover_control), with the
//! proof of death, or [`claim_control`](Segment::claim_control) after one who has left. Then it
//! calls [`take_over`](LettersLayout::take_over), which gives all letters that are whole to `KEPT`
//! and frees the slots of those that are not. That is safe to do again.
//!
//! # Trust
//!
//! Attaching is safe: entries and messages are copied, lengths are cut to what there is. Whoever
//! may write to the segment can forge letters, spoil them and make them go.
//!
//! # Example
//!
//! ```
//! use shm_primitives::identity::OwnerId;
//! use shm_primitives::layout::letters::{LetterEntry, LettersLayout, Shape};
//! use shm_primitives::region::Region;
//!
//! const SHAPE: Shape = Shape::new(4, 1024);
//! #[repr(align(4096))]
//! struct Pages([u8; SHAPE.required_size().unwrap()]);
//! let mut memory = Box::new(Pages([0; _]));
//! # let base = std::ptr::NonNull::from(&mut memory.0).cast();
//! # // SAFETY: the memory is used through regions alone from here on.
//! # let region = || unsafe { Region::new(base, SHAPE.required_size().unwrap()) };
//! let supervisor = OwnerId::new(0, 1).unwrap();
//! // SAFETY: nobody else creates anything in this memory.
//! let (letters, control) = unsafe { LettersLayout::init_at(region(), SHAPE, supervisor) }?;
//! let died = LetterEntry { func_id: 1001, worker: 2, cause: [2, 11], ..LetterEntry::new(77) };
//! letters.keep(control.owner(), died, b"poison")?;
//!
//! // Anybody who wants to know:
//! let theirs = LettersLayout::attach(region())?;
//! let letter = theirs.iter().next().unwrap()?;
//! assert_eq!((letter.entry.seq_id(), letter.entry.cause), (77, [2, 11]));
//! let mut buffer = [0; 1024];
//! let length = theirs.payload(letter.key, &mut buffer)?.unwrap();
//! assert_eq!(&buffer[..length], b"poison");
//! theirs.ask_to_drop(letter.key);
//!
//! assert_eq!(letters.sweep_dropped(|_, _| {}), 1);
//! assert!(theirs.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod entry;
mod keep;

pub use entry::{Letter, LetterEntry};
pub use keep::{Draft, LettersFull, TakenOver};

use crate::identity::OwnerId;
use crate::layout::{in_part, whole};
use crate::part::{Corrupt, Kind, LINE};
use crate::region::Region;
use crate::segment::{Control, Known, Magic, NewPart, PartId, Plan, Segment, SegmentError};
use crate::sync::{Ordering::Relaxed, copy_out};
use crate::table::{self, Busy, SlotKey, SlotTable, Snapshot};

/// The version of this layout.
pub const VERSION: u32 = 1;

/// The table of letters: entries and one live word.
pub type Table<'a> = SlotTable<'a, LetterEntry, 1>;

/// The table's part.
pub const TABLE: PartId = PartId { kind: Kind::SLOT_TABLE, role: 0 };
/// The messages' part.
pub const MESSAGES: PartId = PartId { kind: Kind::CHANNEL_AREA, role: 0 };

/// Who holds the slots of letters that are kept: no process. (The last record in its last
/// generation; nothing of this segment is ever recovered by the proof of its death.)
pub const KEPT: OwnerId = match OwnerId::new((1 << OwnerId::INDEX_BITS) - 1, OwnerId::MAX_GENERATION)
{
    Some(id) => id,
    None => panic!("there is such an id"),
};

const KNOWN: Known<2> = Known::new(Magic::LETT, VERSION, [TABLE, MESSAGES]);

/// What the slots are.
const TAG: u32 = u32::from_le_bytes(*b"LETT");

/// Bytes of a page, which the messages begin at a multiple of.
const PAGE: u32 = 4096;

/// The most bytes of one message.
const MOST: u32 = 1 << 30;

/// The live word of a slot.
const MAY_GO: usize = 0;

/// What a new segment is to be. The default is 64 letters of 4096 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Letters that there is room for: from 1 to 2²⁰.
    pub letters: u32,
    /// Bytes of a message that are kept: from 1 to 2³⁰; rounded up to a multiple of 64.
    pub bytes: u32,
}

impl Default for Shape {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Shape {
    /// 64 letters of 4096 bytes.
    pub const DEFAULT: Self = Self::new(64, 4096);

    /// Room for so many letters of so many bytes each.
    pub const fn new(letters: u32, bytes: u32) -> Self {
        Self { letters, bytes }
    }

    /// Bytes of the whole segment; `None` if there is no such shape or it does not fit the address
    /// space.
    pub const fn required_size(&self) -> Option<usize> {
        match self.parts() {
            Some(parts) => self.plan(&parts).required_size(),
            None => None,
        }
    }

    /// Bytes at the beginning of the segment that have to be there from the first: all but the
    /// messages. `None` as for [`required_size`](Self::required_size).
    pub const fn dense_size(&self) -> Option<usize> {
        match self.parts() {
            Some([table, _]) => {
                let messages = NewPart::required(MESSAGES, 0).aligned(PAGE);
                self.plan(&[table, messages]).required_size()
            }
            None => None,
        }
    }

    /// Bytes that each message has: a multiple of 64.
    const fn stride(&self) -> Option<u32> {
        if self.bytes == 0 || self.bytes > MOST {
            return None;
        }
        Some(self.bytes.next_multiple_of(LINE as u32))
    }

    const fn parts(&self) -> Option<[NewPart; 2]> {
        let Some(table) = Table::required_size(self.letters) else { return None };
        let Some(stride) = self.stride() else { return None };
        Some([
            NewPart::required(TABLE, table as u64),
            NewPart::required(MESSAGES, self.letters as u64 * stride as u64).aligned(PAGE),
        ])
    }

    const fn plan<'p>(&self, parts: &'p [NewPart]) -> Plan<'p> {
        let stride = match self.stride() {
            Some(stride) => stride,
            // Not reached: there are no parts then.
            None => 0,
        };
        Plan::new(Magic::LETT, VERSION, parts).own([self.letters, stride])
    }
}

/// Dead letters. See the [module](crate::layout::letters).
#[derive(Debug)]
pub struct LettersLayout<'a> {
    segment: Segment<'a, 2>,
    shape: Shape,
    table: Table<'a>,
    messages: Region<'a>,
    /// The address that the segment begins at.
    base: usize,
}

impl<'a> LettersLayout<'a> {
    /// Creates the segment at the start of `region`, with no letter; the messages' part is not
    /// touched. Nobody can attach before all of it stands. `owner` keeps letters.
    ///
    /// # Errors
    ///
    /// `Impossible` if there can be no such shape, `TooSmall`, `Misaligned` (to 4096). Nothing is
    /// written then.
    ///
    /// # Safety
    ///
    /// As [`Segment::create`].
    pub unsafe fn init_at(
        region: Region<'a>,
        shape: Shape,
        owner: OwnerId,
    ) -> Result<(Self, Control<'a>), SegmentError> {
        let parts = shape.parts().ok_or(SegmentError::Impossible("there is no such shape"))?;
        let plan = shape.plan(&parts);
        // SAFETY: passed on.
        let creating = unsafe { Segment::create(whole(&region)?, &plan, owner)? };
        let part = creating.part(TABLE).ok_or(SegmentError::MissingPart(TABLE))?;
        let options = table::Options::new(shape.letters).tag(TAG);
        Table::init_at(&part, options).map_err(in_part(TABLE))?;
        let control = creating.publish();
        Ok((Self::attach(region)?, control))
    }

    /// Attaches to the segment at the start of `region`, which may be larger, whoever else may
    /// write to it.
    ///
    /// # Errors
    ///
    /// What is there is none, is closed or not ready, or requires a newer reader: see
    /// [`SegmentError`]. Nothing is written.
    pub fn attach(region: Region<'a>) -> Result<Self, SegmentError> {
        let base = region.base().addr().get();
        let segment = Segment::attach(region, &KNOWN)?;
        let table = Table::attach(&segment.require(TABLE)?, TAG).map_err(in_part(TABLE))?;
        let messages = segment.require(MESSAGES)?;
        let [letters, bytes] = segment.own();
        let corrupt = |what, found, limit| SegmentError::Corrupt(Corrupt { what, found, limit });
        if letters != table.slots() {
            return Err(corrupt("number of letters", letters, table.slots()));
        }
        if bytes == 0 || bytes > MOST || !bytes.is_multiple_of(LINE as u32) {
            return Err(corrupt("bytes of a letter's message", bytes, MOST));
        }
        if u64::from(letters) * u64::from(bytes) > messages.len() as u64 {
            let each = messages.len().checked_div(letters as usize).unwrap_or(0);
            let limit = u32::try_from(each).unwrap_or(u32::MAX);
            return Err(corrupt("bytes of a letter's message", bytes, limit));
        }
        Ok(Self { segment, shape: Shape { letters, bytes }, table, messages, base })
    }

    /// The segment: state, epoch, owner, and its control for who takes over.
    pub fn segment(&self) -> &Segment<'a, 2> {
        &self.segment
    }

    /// How many letters there is room for, and for how many bytes of each.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Where in the segment the message of slot `index` lies, and how many bytes it may have: what
    /// is to be there before a letter is kept in it. `None` if there is no such slot.
    pub fn place_of(&self, index: u32) -> Option<(usize, usize)> {
        let message = self.message(index)?;
        // No overflow: it lies in the segment.
        Some((message.base().addr().get() - self.base, message.len()))
    }

    fn message(&self, index: u32) -> Option<Region<'a>> {
        if index >= self.shape.letters {
            return None;
        }
        let size = self.shape.bytes as usize;
        // No overflow: `attach` has found all of them in the part.
        self.messages.part(index as usize * size, size)
    }

    /// The letters, by slot, each read when its turn comes. One that cannot be read now is an
    /// `Err` and does not end the iteration.
    pub fn iter(&self) -> impl Iterator<Item = Result<Letter, Busy>> + use<'a> {
        let table = self.table;
        table.iter().map(move |slot| slot.map(|found| letter(&table, &found)))
    }

    /// The letter that `key` names; `None` if it has gone.
    ///
    /// # Errors
    ///
    /// [`Busy`]; never by one who keeps the protocol.
    pub fn get(&self, key: SlotKey) -> Result<Option<Letter>, Busy> {
        Ok(self.table.get(key)?.map(|found| letter(&self.table, &found)))
    }

    /// Whether there is no letter: then the segment may go with its service. One that cannot be
    /// read is one.
    pub fn is_empty(&self) -> bool {
        self.table.iter().next().is_none()
    }

    /// Copies the message of a letter into `buffer`, as much of it as was kept and fits; answers
    /// how many bytes. [`LetterEntry::length`] says how many the message had, and
    /// [`shape`](Self::shape) how many are kept. `None` if the letter has gone, also meanwhile:
    /// then `buffer` has what means nothing.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn payload(&self, key: SlotKey, buffer: &mut [u8]) -> Result<Option<usize>, Busy> {
        let Some(found) = self.table.get(key)? else { return Ok(None) };
        let Some(message) = self.message(key.index()) else { return Ok(None) };
        let kept = (found.entry.length as usize).min(message.len()).min(buffer.len());
        // SAFETY: `kept` bytes lie in both; the region's are mapped as long as it lives, and a
        // buffer of one's own lies elsewhere. Who writes there meanwhile spoils the copy alone.
        unsafe { copy_out(message.base().as_ptr(), buffer.as_mut_ptr(), kept) };
        Ok(self.table.confirm(key).then_some(kept))
    }

    /// Says that a letter may go; whoever keeps letters frees it when it next looks. For anybody
    /// who may write to the segment. Answers whether it was there.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn ask_to_drop(&self, key: SlotKey) -> Result<bool, Busy> {
        if self.table.get(key)?.is_none() {
            return Ok(false);
        }
        let Some(word) = self.table.live_word(key.index(), MAY_GO) else { return Ok(false) };
        word.store(key.generation(), Relaxed);
        Ok(true)
    }
}

fn letter(table: &Table<'_>, found: &Snapshot<LetterEntry>) -> Letter {
    let Snapshot { key, entry, .. } = *found;
    let may_go = table.live(key, MAY_GO) == Some(key.generation());
    Letter { key, entry, may_go }
}
