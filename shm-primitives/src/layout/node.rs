//! `NODE`: what one node receives. A lane for each of its senders, a word that it sleeps at, and
//! counters that others may read, also when it is dead.
//!
//! # Memory
//!
//! A [`segment`](crate::segment) with magic `NODE`, version 1. The two words of its own are the
//! number of lanes and the bytes of each lane's data. Its owner is the node.
//!
//! ```text
//! part               role
//! kind  8, required   0    the wake word that the node sleeps at, in a line of its own; behind it a
//!                          word that is 1 if it never sleeps, else 0, written once
//! kind  9, required   0    the ready bitmap: a bit for each lane
//! kind  3, required   0    the table of lanes: a slot for each
//! kind 11             0    lines of counters, from a multiple of 4096 on; what they count is for
//!                          who uses the layout to say
//! kind 10, required   0    the lanes, from a multiple of 4096 on
//! ```
//!
//! The last two are sparse: pages of them are there when their users have seen to it. Everything
//! before is [dense](Shape::dense_size).
//!
//! # Who writes what, what a death leaves
//!
//! Header and table of parts are the [segment's](crate::segment), everything else is the
//! [lanes'](crate::lane) matter. The node closes its segment when it leaves; senders that look at
//! its [state](Segment::state) see it. When it is dead its segment is given up as a whole, by
//! whoever takes its name away.
//!
//! # Example
//!
//! ```
//! use shm_primitives::identity::OwnerId;
//! use shm_primitives::layout::node::{NodeLayout, Shape};
//! use shm_primitives::region::Region;
//! use shm_primitives::wake::SpinPark;
//!
//! const SHAPE: Shape = Shape::new(2, 4096);
//! #[repr(align(4096))]
//! struct Pages([u8; SHAPE.required_size().unwrap()]);
//! let mut memory = Box::new(Pages([0; _]));
//! # let base = std::ptr::NonNull::from(&mut memory.0).cast();
//! # // SAFETY: the memory is used through regions alone from here on.
//! # let region = || unsafe { Region::new(base, SHAPE.required_size().unwrap()) };
//! let (node, sender) = (OwnerId::new(0, 1).unwrap(), OwnerId::new(1, 1).unwrap());
//! // SAFETY: nobody else creates anything in this memory.
//! let (mine, _control) = unsafe { NodeLayout::init_at(region(), SHAPE, node) }?;
//!
//! // A sender, in another process:
//! // SAFETY: all use this crate.
//! let theirs = unsafe { NodeLayout::attach(region()) }?;
//! let mut lane = theirs.lanes().reserve(sender)?.open(b"camera")?;
//! lane.ring().push(b"hello")?;
//! lane.announce(&SpinPark::new(|| 0));
//!
//! let ready = mine.lanes().ready().marked().next().unwrap();
//! let mut lane = mine.lanes().adopt(ready as u32)?.unwrap();
//! assert_eq!(&*lane.ring().read()?, b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::identity::OwnerId;
use crate::lane::{Lanes, LanesError, Table};
use crate::layout::{in_part, whole};
use crate::part::{Corrupt, Kind, LINE};
use crate::ready::ReadyBitmap;
use crate::region::Region;
use crate::segment::{Control, Known, Magic, NewPart, PartId, Plan, Segment, SegmentError};
use crate::sync::{AtomicU32, Ordering::Relaxed};
use crate::table;
use crate::wake::WakeWord;

/// The version of this layout.
pub const VERSION: u32 = 1;

/// The wake word's part.
pub const BELL: PartId = PartId { kind: Kind::WAKE_WORD, role: 0 };
/// The ready bitmap's part.
pub const READY: PartId = PartId { kind: Kind::READY_BITMAP, role: 0 };
/// The part of the table of lanes.
pub const TABLE: PartId = PartId { kind: Kind::SLOT_TABLE, role: 0 };
/// The counters' part.
pub const COUNTERS: PartId = PartId { kind: Kind::COUNTERS, role: 0 };
/// The lanes' part.
pub const LANES: PartId = PartId { kind: Kind::LANE_AREA, role: 0 };

const KNOWN: Known<5> =
    Known::new(Magic::NODE, VERSION, [BELL, READY, TABLE, COUNTERS, LANES]);

/// What the slots are.
const TAG: u32 = u32::from_le_bytes(*b"LANE");

/// Bytes of a page, which counters and lanes begin at a multiple of.
const PAGE: u32 = 4096;

/// What a new segment is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Lanes: how many senders there may be at a time.
    pub lanes: u32,
    /// Bytes of a lane's data: a power of two from 4096 to 2³⁰.
    pub capacity: u32,
    /// Lines of counters, 64 bytes each.
    pub counter_lines: u32,
    /// Whether the node never sleeps: see [`Lanes::sleepless`].
    pub sleepless: bool,
}

impl Shape {
    /// So many lanes of so many bytes each, and 256 lines of counters.
    pub const fn new(lanes: u32, capacity: u32) -> Self {
        Self { lanes, capacity, counter_lines: 256, sleepless: false }
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
    /// counters and the lanes. `None` as for [`required_size`](Self::required_size).
    pub const fn dense_size(&self) -> Option<usize> {
        match self.parts() {
            // The same parts in the same places, but for the lengths of the last two.
            Some([bell, ready, table, ..]) => {
                let counters = NewPart::optional(COUNTERS, 0).aligned(PAGE);
                let lanes = NewPart::required(LANES, 0).aligned(PAGE);
                self.plan(&[bell, ready, table, counters, lanes]).required_size()
            }
            None => None,
        }
    }

    const fn parts(&self) -> Option<[NewPart; 5]> {
        let Some(table) = Table::required_size(self.lanes) else { return None };
        let Some(area) = Lanes::area_size(self.lanes, self.capacity) else { return None };
        let ready = ReadyBitmap::words_for(self.lanes as usize) * 4;
        let counters = self.counter_lines as u64 * LINE as u64;
        Some([
            NewPart::required(BELL, LINE as u64),
            NewPart::required(READY, ready as u64),
            NewPart::required(TABLE, table as u64),
            NewPart::optional(COUNTERS, counters).aligned(PAGE),
            NewPart::required(LANES, area as u64).aligned(PAGE),
        ])
    }

    const fn plan<'p>(&self, parts: &'p [NewPart]) -> Plan<'p> {
        Plan::new(Magic::NODE, VERSION, parts).own([self.lanes, self.capacity])
    }
}

/// What one node receives. See the [module](crate::layout::node).
#[derive(Debug)]
pub struct NodeLayout<'a> {
    segment: Segment<'a, 5>,
    lanes: Lanes<'a>,
    node: OwnerId,
    counters: Option<Region<'a>>,
    /// The address that the segment begins at.
    base: usize,
}

impl<'a> NodeLayout<'a> {
    /// Creates the segment at the start of `region`, with no lane open; counters and lanes are not
    /// touched. Nobody can attach before all of it stands. `node` may close it.
    ///
    /// # Errors
    ///
    /// `Impossible` if there can be no such shape, `TooSmall`, `Misaligned` (to 4096). Nothing is
    /// written then.
    ///
    /// # Safety
    ///
    /// As [`Segment::create`]; and for as long as it is used, what [`attach`](Self::attach) asks.
    pub unsafe fn init_at(
        region: Region<'a>,
        shape: Shape,
        node: OwnerId,
    ) -> Result<(Self, Control<'a>), SegmentError> {
        let parts = shape.parts().ok_or(SegmentError::Impossible("there is no such shape"))?;
        let plan = shape.plan(&parts);
        // SAFETY: passed on.
        let creating = unsafe { Segment::create(whole(&region)?, &plan, node)? };
        let part = creating.part(TABLE).ok_or(SegmentError::MissingPart(TABLE))?;
        let options = table::Options::new(shape.lanes).tag(TAG);
        Table::init_at(&part, options).map_err(in_part(TABLE))?;
        let part = creating.part(BELL).ok_or(SegmentError::MissingPart(BELL))?;
        sleepless(&part)?.store(shape.sleepless.into(), Relaxed);
        // Any words are a bitmap and a wake word: those of a segment before cost time alone.
        let control = creating.publish();
        // SAFETY: passed on.
        Ok((unsafe { Self::attach(region)? }, control))
    }

    /// Attaches to the segment at the start of `region`, which may be larger.
    ///
    /// # Errors
    ///
    /// What is there is none, is closed or not ready, has no owner, or requires a newer reader: see
    /// [`SegmentError`]. Nothing is written.
    ///
    /// # Safety
    ///
    /// Whoever writes to this memory keeps the protocol of its parts, with owners of
    /// [one table](crate::identity#one-table): it uses this crate.
    pub unsafe fn attach(region: Region<'a>) -> Result<Self, SegmentError> {
        let base = region.base().addr().get();
        let segment = Segment::attach(region, &KNOWN)?;
        let corrupt = |what, found, limit| SegmentError::Corrupt(Corrupt { what, found, limit });
        let node = segment.owner()?.ok_or(corrupt("owner of a node's segment", 0, 1))?;
        let [count, capacity] = segment.own();
        let part = segment.require(BELL)?;
        let bell = WakeWord::at(&part).map_err(in_part(BELL))?;
        let never = match sleepless(&part)?.load(Relaxed) {
            word @ (0 | 1) => word == 1,
            word => return Err(corrupt("word that says whether a node sleeps", word, 1)),
        };
        let table = Table::attach(&segment.require(TABLE)?, TAG).map_err(in_part(TABLE))?;
        if count != table.slots() {
            return Err(corrupt("number of lanes", count, table.slots()));
        }
        let ready = ReadyBitmap::at(&segment.require(READY)?, count as usize);
        let ready = ready.map_err(in_part(READY))?;
        let area = segment.require(LANES)?;
        // SAFETY: passed on; one segment has one of each.
        let lanes = unsafe { Lanes::new(node, table, ready, bell, area, capacity) };
        let lanes = lanes.map(|lanes| lanes.sleepless(never)).map_err(|error| match error {
            LanesError::Area(error) => SegmentError::Part { part: LANES, error },
            LanesError::BadCapacity { found } => {
                corrupt("bytes of a lane's data", found, 1 << 30)
            }
        })?;
        let counters = segment.part(COUNTERS);
        Ok(Self { segment, lanes, node, counters, base })
    }

    /// The segment: state, epoch, owner.
    pub fn segment(&self) -> &Segment<'a, 5> {
        &self.segment
    }

    /// Whose it is.
    pub fn node(&self) -> OwnerId {
        self.node
    }

    /// The lanes.
    pub fn lanes(&self) -> &Lanes<'a> {
        &self.lanes
    }

    /// Where in the segment the counters begin; `None` if there are none.
    pub fn place_of_counters(&self) -> Option<usize> {
        Some(self.place(self.counters.as_ref()?))
    }

    /// The memory of the counters, which may be sparse; `None` if there are none.
    pub fn counters(&self) -> Option<&Region<'a>> {
        self.counters.as_ref()
    }

    /// Where in the segment lane `lane` lies, and how many bytes it has: what is to be there
    /// before it is opened. `None` if there is none.
    pub fn place_of(&self, lane: u32) -> Option<(usize, usize)> {
        let (offset, len) = self.lanes.place_of(lane)?;
        Some((self.place(self.lanes.area()) + offset, len))
    }

    /// Where in the segment a part begins.
    fn place(&self, part: &Region<'a>) -> usize {
        // No overflow: the segment's parts lie in it.
        part.base().addr().get() - self.base
    }
}

/// The word behind the wake word.
fn sleepless<'a>(part: &Region<'a>) -> Result<&'a AtomicU32, SegmentError> {
    let words = AtomicU32::slice_at(part, 3).map_err(in_part(BELL))?;
    Ok(&words[2])
}
