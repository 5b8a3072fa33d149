//! `LRPC`: a registry of nodes, and a channel for each: an equal piece of memory, its own to use.
//!
//! # Memory
//!
//! A [`segment`](crate::segment) with magic `LRPC`, version 1. Its header is the control block: the
//! two words of its own are the number of channels and the bytes of a channel.
//!
//! ```text
//! part              role
//! kind 3, required   0    the registry: a slot table, a slot for each channel, in the same order
//! kind 7, required   0    the channels, one behind the other, from a multiple of 4096 on
//!
//! an entry of the registry
//!     +0    64  id       the node's name, filled up with zeros
//!    +64     4  pid      of its process
//!    +68     4  channel  the number of its slot
//! and one live word: when its last heartbeat was, in milliseconds of a monotonic clock, wrapping
//! ```
//!
//! A node that registers takes a free slot, and with it the channel of that number: one
//! compare-and-swap for both, and nothing to be repaired between them. What stands in a channel
//! is its users' matter; the part's pages are untouched until they use it.
//!
//! # Who writes what
//!
//! Header and table of parts are the [segment's](crate::segment), slots the
//! [slot table's](crate::table) matter. A node stores its first heartbeat, publishes its entry,
//! and then stores heartbeats.
//!
//! # Names
//!
//! [`register`](LrpcLayout::register) refuses a name that it finds in the table, be its node alive
//! or dead. Two that register the same name at the same moment may both succeed: where a name must
//! be one node's, something else decides that (in the transport, the name of its segment).
//!
//! # Crash
//!
//! As for every [slot](crate::table): a node that dies leaves its entry, whole, or none, and
//! whoever has the proof of its death [recovers](SlotTable::recover) the slot, looks after the
//! channel of that number, and releases the slot last. A heartbeat that stopped is no such proof.
//!
//! # Trust
//!
//! Attaching is safe: all that is read is copied and checked, names and channel numbers too. An
//! entry that is none is passed over.
//!
//! # Example
//!
//! ```
//! use shm_primitives::identity::OwnerId;
//! use shm_primitives::layout::lrpc::{LrpcLayout, NodeId, Shape};
//! use shm_primitives::region::Region;
//!
//! const SHAPE: Shape = Shape::new(4, 1024);
//! #[repr(align(4096))]
//! struct Pages([u8; SHAPE.required_size().unwrap()]);
//! let mut memory = Box::new(Pages([0; _]));
//! # let base = std::ptr::NonNull::from(&mut memory.0).cast();
//! # // SAFETY: the memory is used through regions alone from here on.
//! # let region = || unsafe { Region::new(base, SHAPE.required_size().unwrap()) };
//! let daemon = OwnerId::new(0, 1).unwrap();
//! // SAFETY: nobody else creates anything in this memory.
//! let (_layout, _control) = unsafe { LrpcLayout::init_at(region(), SHAPE, daemon) }?;
//!
//! // A node, in another process:
//! let nodes = LrpcLayout::attach(region())?;
//! let clock = 5_000; // milliseconds
//! let owner = OwnerId::new(1, 1).unwrap();
//! let mut me = nodes.register(owner, &NodeId::try_from("camera")?, std::process::id(), clock)?;
//! me.beat(clock + 100);
//!
//! // Anybody:
//! let camera = nodes.find(&NodeId::try_from("camera")?)?.unwrap();
//! assert_eq!(nodes.silent_for(camera.key, clock + 350), Some(250));
//! let channel = nodes.channel(camera.channel).unwrap(); // 1024 bytes of memory
//! # assert_eq!(channel.len(), 1024);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod node;

pub use node::{Node, NodeId, NodeIdError, NodeRecord};

use crate::identity::OwnerId;
use crate::layout::{in_part, whole};
use crate::part::{Corrupt, Kind, LINE};
use crate::region::Region;
use crate::segment::{Control, Known, Magic, NewPart, PartId, Plan, Segment, SegmentError};
use crate::sync::Ordering::Relaxed;
use crate::table::{self, Busy, Slot, SlotKey, SlotTable, Snapshot, TableFull};
use core::fmt;

/// The version of this layout.
pub const VERSION: u32 = 1;

/// The registry: entries and one live word, the heartbeat.
pub type Registry<'a> = SlotTable<'a, NodeRecord, 1>;

/// The registry's part.
pub const REGISTRY: PartId = PartId { kind: Kind::SLOT_TABLE, role: 0 };
/// The channels' part.
pub const CHANNELS: PartId = PartId { kind: Kind::CHANNEL_AREA, role: 0 };

const KNOWN: Known<2> = Known::new(Magic::LRPC, VERSION, [REGISTRY, CHANNELS]);

/// What the registry's entries are.
const TAG: u32 = u32::from_le_bytes(*b"NODE");

/// Bytes of a page, which the channels begin at a multiple of.
const PAGE: u32 = 4096;

/// What a new segment is to be. The default is 64 channels of 1 MiB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Channels, and nodes that there is room for.
    pub channels: u32,
    /// Bytes of a channel: a multiple of 64.
    pub channel_size: u32,
}

impl Default for Shape {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Shape {
    /// 64 channels of 1 MiB.
    #[doc(alias = "MAX_NODES")]
    #[doc(alias = "CHANNEL_SIZE")]
    pub const DEFAULT: Self = Self::new(64, 1 << 20);

    /// `channels` channels of `channel_size` bytes each.
    pub const fn new(channels: u32, channel_size: u32) -> Self {
        Self { channels, channel_size }
    }

    /// Bytes the segment takes; `None` if it does not fit the address space, there are no
    /// channels or too many, or their size is no multiple of 64.
    pub const fn required_size(&self) -> Option<usize> {
        match self.parts() {
            Some(parts) => self.plan(&parts).required_size(),
            None => None,
        }
    }

    const fn parts(&self) -> Option<[NewPart; 2]> {
        let Some(registry) = Registry::required_size(self.channels) else { return None };
        if !self.channel_size.is_multiple_of(LINE as u32) {
            return None;
        }
        let channels = self.channels as u64 * self.channel_size as u64;
        Some([
            NewPart::required(REGISTRY, registry as u64),
            NewPart::required(CHANNELS, channels).aligned(PAGE),
        ])
    }

    const fn plan<'p>(&self, parts: &'p [NewPart; 2]) -> Plan<'p> {
        Plan::new(Magic::LRPC, VERSION, parts).own([self.channels, self.channel_size])
    }
}

/// A registry of nodes and their channels. See the [module](crate::layout::lrpc).
#[derive(Debug)]
pub struct LrpcLayout<'a> {
    segment: Segment<'a, 2>,
    shape: Shape,
    registry: Registry<'a>,
    area: Region<'a>,
}

impl<'a> LrpcLayout<'a> {
    /// Bytes that such a segment takes; `None` if it is impossible.
    pub const fn required_size(shape: &Shape) -> Option<usize> {
        shape.required_size()
    }

    /// Creates the segment at the start of `region`, with no node registered; the channels are not
    /// touched. Nobody can attach before all of it stands. `owner` may close it.
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
        let part = creating.part(REGISTRY).ok_or(SegmentError::MissingPart(REGISTRY))?;
        let options = table::Options::new(shape.channels).tag(TAG);
        Registry::init_at(&part, options).map_err(in_part(REGISTRY))?;
        let control = creating.publish();
        Ok((Self::attach(region)?, control))
    }

    /// Attaches to the segment at the start of `region`, which may be larger, whoever else may
    /// write to it.
    ///
    /// # Errors
    ///
    /// What is there is none, is not ready, or requires a newer reader: see [`SegmentError`].
    /// Nothing is written.
    pub fn attach(region: Region<'a>) -> Result<Self, SegmentError> {
        let segment = Segment::attach(region, &KNOWN)?;
        let registry = segment.require(REGISTRY)?;
        let registry = Registry::attach(&registry, TAG).map_err(in_part(REGISTRY))?;
        let area = segment.require(CHANNELS)?;
        let [channels, channel_size] = segment.own();
        let corrupt = |what, found, limit| SegmentError::Corrupt(Corrupt { what, found, limit });
        if channels > registry.slots() {
            return Err(corrupt("number of channels", channels, registry.slots()));
        }
        let size = u64::from(channels) * u64::from(channel_size);
        if size > area.len() as u64 || !channel_size.is_multiple_of(LINE as u32) {
            let each = area.len().checked_div(channels as usize).unwrap_or(area.len());
            let limit = u32::try_from(each).unwrap_or(u32::MAX);
            return Err(corrupt("bytes of a channel", channel_size, limit));
        }
        Ok(Self { segment, shape: Shape { channels, channel_size }, registry, area })
    }

    /// Whether [`attach`](Self::attach) would succeed.
    pub fn is_valid(region: &Region<'a>) -> bool {
        whole(region).and_then(Self::attach).is_ok()
    }

    /// The segment: state, epoch, owner.
    pub fn segment(&self) -> &Segment<'a, 2> {
        &self.segment
    }

    /// How many channels there are, and how large.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The memory of channel number `channel`; `None` if there is none. It belongs to the node that
    /// registered in the slot of that number, and to whom that lets use it.
    pub fn channel(&self, channel: u32) -> Option<Region<'a>> {
        if channel >= self.shape.channels {
            return None;
        }
        let size = self.shape.channel_size as usize;
        // No overflow: `attach` has found all channels in the area.
        self.area.part(channel as usize * size, size)
    }

    /// The registry: to recover slots of the dead, to ask for all owners.
    pub fn registry(&self) -> Registry<'a> {
        self.registry
    }

    /// Registers a node, and takes a channel for it. `now` is by the clock of everybody's
    /// heartbeats, in milliseconds, wrapping. Dropping what is returned takes the node out of the
    /// registry.
    ///
    /// Does not block; looks at each slot once or twice.
    ///
    /// # Errors
    ///
    /// See [`RegisterError`]; nothing was registered.
    #[doc(alias = "registerNode")]
    #[doc(alias = "allocateChannel")]
    pub fn register(
        &self,
        owner: OwnerId,
        id: &NodeId,
        pid: u32,
        now: u32,
    ) -> Result<Registered<'a>, RegisterError> {
        if let Some(node) = self.find(id).map_err(RegisterError::Busy)? {
            return Err(RegisterError::Taken { key: node.key, owner: node.owner });
        }
        let full = RegisterError::Full(TableFull { slots: self.shape.channels });
        let mut slot = self.registry.reserve(owner).map_err(|_| full)?;
        let channel = slot.key().index();
        if channel >= self.shape.channels {
            return Err(full);
        }
        // Before the entry: nobody sees it without a heartbeat.
        beat(&slot, now);
        slot.update(&NodeRecord::new(id, pid, channel));
        Ok(Registered { slot })
    }

    /// The nodes that are registered, by slot, each read when its turn comes. One that cannot be
    /// read now is an `Err` and does not end the iteration; an entry that is none is passed over.
    pub fn nodes(&self) -> impl Iterator<Item = Result<Node, Busy>> + use<'a> {
        let channels = self.shape.channels;
        self.registry.iter().filter_map(move |slot| match slot {
            Ok(found) => node(&found, channels).map(Ok),
            Err(busy) => Some(Err(busy)),
        })
    }

    /// The node of this name; `None` if there was none when its slot was looked at.
    ///
    /// # Errors
    ///
    /// [`Busy`] if there was none, and a slot could not be read.
    pub fn find(&self, id: &NodeId) -> Result<Option<Node>, Busy> {
        let mut busy = None;
        for node in self.nodes() {
            match node {
                Ok(node) if node.id == *id => return Ok(Some(node)),
                Ok(_) => {}
                Err(error) => busy = Some(error),
            }
        }
        busy.map_or(Ok(None), Err)
    }

    /// For how many milliseconds a node has given no heartbeat, at `now`; `None` if it is not
    /// registered any more. A heartbeat stamped later than `now`, by a clock that is ahead or
    /// meanwhile, is one just given; so is one that is 24 days (2³¹ milliseconds) old.
    pub fn silent_for(&self, key: SlotKey, now: u32) -> Option<u32> {
        let last = self.registry.live(key, 0)?;
        Some(now.wrapping_sub(last).cast_signed().max(0).cast_unsigned())
    }
}

/// The node of an entry; `None` if it is none.
fn node(found: &Snapshot<NodeRecord>, channels: u32) -> Option<Node> {
    let Snapshot { key, owner, entry } = *found;
    let (id, pid, channel) = (entry.id().ok()?, entry.pid(), entry.channel());
    // Another's channel is not its to name.
    (channel < channels && channel == key.index()).then_some(Node { key, owner, id, pid, channel })
}

fn beat(slot: &Slot<'_, NodeRecord, 1>, now: u32) {
    // There is one: attaching has looked for it.
    if let Some(word) = slot.live(0) {
        word.store(now, Relaxed);
    }
}

/// A node's place in the registry. Dropping it takes the node out.
#[derive(Debug)]
#[must_use = "a node is taken out of the registry when this is dropped"]
pub struct Registered<'a> {
    slot: Slot<'a, NodeRecord, 1>,
}

impl<'a> Registered<'a> {
    /// Its slot, and which tenancy of that.
    pub fn key(&self) -> SlotKey {
        self.slot.key()
    }

    /// The number of its channel.
    pub fn channel(&self) -> u32 {
        self.slot.key().index()
    }

    /// Says that it lives, at `now` milliseconds: one store.
    pub fn beat(&mut self, now: u32) {
        beat(&self.slot, now);
    }

    /// The slot itself: to keep it, or to hand it over.
    pub fn into_slot(self) -> Slot<'a, NodeRecord, 1> {
        self.slot
    }
}

/// Why a node was not registered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RegisterError {
    /// The name is another node's, be that alive or dead.
    Taken {
        /// Its slot.
        key: SlotKey,
        /// Who it is: if that one is proven dead, recover the slot.
        owner: OwnerId,
    },
    /// Each slot, and with it each channel, is somebody's.
    Full(TableFull),
    /// A slot could not be read, so that it is not known whose name stands there.
    Busy(Busy),
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken { key, owner } => {
                write!(f, "the name is in use in {key} by {owner}: recover that if it is dead")
            }
            Self::Full(full) => full.fmt(f),
            Self::Busy(busy) => busy.fmt(f),
        }
    }
}

impl core::error::Error for RegisterError {}
