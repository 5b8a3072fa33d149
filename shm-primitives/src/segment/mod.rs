//! What a whole segment begins with: 64 bytes that say what it is, and a table of its parts.
//!
//! A segment is a piece of shared memory that is created, opened and unlinked as one; a part is a
//! structure in it. Whoever opens a segment asks this module whether it is the right one and
//! whether it is ready, and gets the [`Region`] of each part that he knows.
//!
//! # Memory
//!
//! ```text
//! offset  size
//!      0     4  magic        which kind of segment; stored last when it is created
//!      4     4  version      of its creator's layout
//!      8     8  two words of the kind's own (LRPC: number of channels, channel size)
//!     16     4  min_reader   the lowest version whose readers understand this segment
//!     20     4  state        0x494e4954 initialising, 1 ready, 2 closing, 3 given up
//!     24     4  epoch        how often a segment was created in this memory, wrapping
//!     28     4  owner        who may close it; 0 for nobody
//!     32     8  size         of the whole segment in bytes: low word, high word
//!     40     4  table        offset of the table
//!     44     4  entry        bytes from one entry of the table to the next
//!     48     4  parts        entries of the table
//!     52    12  reserved, 0
//!
//! an entry of the table
//!     +0     4  kind         which structure; see Kind
//!     +4     4  attributes   bit 0: required; bits 8 to 15: alignment as a power of two;
//!                            bits 16 to 31: role, which of the parts of this kind
//!     +8     8  offset       from the start of the segment: low word, high word
//!    +16     8  length       in bytes: low word, high word
//!    +24     8  reserved, 0
//! ```
//!
//! All words are little-endian `u32`. The magics are the values of the first designs, so that a
//! dump of the bytes reads backwards: `XNHP`, `CPRL`. Sizes and offsets have two words each: a
//! segment may be larger than 4 GiB, and an atomic of 64 bits is none on a 32-bit core. The first
//! four words of an `LRPC` segment are the control block that design had.
//!
//! The entries stand in the order of their offsets and do not overlap, the table before the first
//! part: so one pass checks them, and each word is read once.
//!
//! # Who writes what, in which order
//!
//! Whoever [creates](Segment::create) it: **magic 0**, a Release fence, owner, state, epoch, the
//! other words, the table; then the caller makes the parts; then state *ready*, and **magic**,
//! Release. An attacher reads the magic first, Acquire, and so finds all of it or no segment.
//! All but state and owner stay as they are until the memory is created anew.
//!
//! State is then the owner's, who stores *closing* in it, once. Owner is taken by
//! compare-and-swap and given back by its owner. Where a dead owner has no successor, whoever has
//! the proof of its death and takes the segment's name away stores *given up* in a segment that
//! was ready ([`give_up`]): who still has it, and believes it alive, sees it there. Several may
//! do so, and the word is the same.
//!
//! **Closing.** An opener claims its place (an end, a slot), fences, and looks whether the segment
//! is closing ([`confirm`](Segment::confirm)). An owner stores *closing*, fences
//! ([`close`](Control::close)), and looks whether a place is claimed. Both fences are
//! sequentially consistent: either the opener sees *closing*, or the owner sees the place.
//!
//! # Crash
//!
//! | who dies | where | what is left |
//! |---|---|---|
//! | creator | before the magic is cleared | what stood there |
//! | creator | before the magic is stored | no segment: [`Initialising`](SegmentError::Initialising), which says who began it, or in the first and the last moment [`WrongMagic`](SegmentError::WrongMagic). Whoever owns the memory may create it anew, in the next epoch |
//! | owner | before *closing* is stored | a segment that is ready; its successor takes the owner word over ([`recover_control`](Segment::recover_control)) |
//! | owner | after it | one that is closing; the successor may unlink it |
//! | who gives it up | before *given up* is stored, or after it | a segment of its dead owner's, which the next one gives up |
//! | opener | anywhere | nothing of this module's |
//!
//! # Versions
//!
//! A reader of version *r* attaches to a segment whose `min_reader` is at most *r* and whose
//! version it still knows. It steps through the table by the stored entry size and finds its own
//! fields at the start of each; it passes over parts that it does not know, unless they say that
//! they are required; words of the header that it does not know are not its business. So a newer
//! creator may add words, longer entries, parts, and longer items within parts that store
//! their own item size. What would mislead an old reader raises `min_reader`, or comes as a part
//! that is required.
//!
//! # Trust
//!
//! [`attach`](Segment::attach) reads each word once, checks it, and keeps copies: afterwards the
//! geometry in memory is not looked at again. Whatever stands there costs an error and at most
//! [`MAX_PARTS`] entries read. What lies in a part is that part's matter.
//!
//! # Example
//!
//! ```
//! use shm_primitives::identity::OwnerId;
//! use shm_primitives::part::Kind;
//! use shm_primitives::region::Region;
//! use shm_primitives::ring::spsc::{Options, SpscRingRef};
//! use shm_primitives::segment::{Known, Magic, NewPart, PartId, Plan, Segment, SegmentError};
//!
//! const RING: PartId = PartId { kind: Kind::SPSC_RING, role: 0 };
//! const OPTIONS: Options = Options::new(16);
//! const PARTS: [NewPart; 1] =
//!     [NewPart::required(RING, OPTIONS.required_size::<u32>().unwrap() as u64)];
//! const MINE: Magic = Magic(u32::from_be_bytes(*b"MINE"));
//! const PLAN: Plan<'static> = Plan::new(MINE, 1, &PARTS);
//! const KNOWN: Known<1> = Known::new(MINE, 1, [RING]);
//!
//! #[repr(align(64))]
//! struct Lines([u8; PLAN.required_size().unwrap()]); // known at compile time
//! let mut memory = Lines([0; _]);
//! # let base = std::ptr::NonNull::from(&mut memory.0).cast();
//! # // SAFETY: the memory is used through regions alone from here on.
//! # let region = || unsafe { Region::new(base, PLAN.required_size().unwrap()) };
//!
//! let owner = OwnerId::new(0, 1).unwrap();
//! // SAFETY: nobody else creates anything in this memory.
//! let creating = unsafe { Segment::create(region(), &PLAN, owner) }?;
//! // SAFETY: as above; the part is this ring's alone.
//! unsafe { SpscRingRef::<u32>::init_at(creating.part(RING).unwrap(), OPTIONS) }?;
//! let mut control = creating.publish();
//!
//! // In another process:
//! let segment = Segment::attach(region(), &KNOWN)?;
//! // SAFETY: whoever writes to it uses this crate.
//! let ring = unsafe { SpscRingRef::<u32>::attach(segment.require(RING)?, Some(16)) }?;
//! let mut producer = ring.claim_producer(OwnerId::new(1, 1).unwrap())?;
//! segment.confirm()?; // not closing: the owner sees the end claimed
//! producer.push(7).unwrap();
//!
//! control.close();
//! assert!(matches!(Segment::attach(region(), &KNOWN), Err(SegmentError::Closing { .. })));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod attach;
mod create;
mod error;
mod words;

pub use attach::{Control, Known, Segment};
#[cfg(not(all(loom, any(test, feature = "loom"))))]
pub use attach::{give_up, owner_of};
pub use create::{Creating, NewPart, Plan};
pub use error::SegmentError;

use crate::part::{Corrupt, Kind};
use crate::sync::sites;
use core::fmt;

#[cfg(doc)]
use crate::region::Region;

sites! { SITES
    /// The segment's magic, after its header, its table and its parts.
    CREATED = "segment.created", Release, partner "segment.attach",
        [Relaxed => Model("segment_create_attach")];
    /// The segment's magic, before its other words are read.
    ATTACH = "segment.attach", Acquire, partner "segment.created",
        [Relaxed => Model("segment_create_attach")];
    /// The magic of a segment that stood here before, cleared before its words are overwritten,
    /// for whoever attaches after a crash: a fence.
    CLEARED = "segment.cleared", Release, partner "segment.attach",
        [Relaxed => Limit("what a crash leaves is what the memory held, and a crash is not a load: every store before it is in it, in an order only the compiler could have changed; the fence forbids it that")];
    /// The state *closing*, before the owner looks for places that are claimed: a fence.
    CLOSING = "segment.closing", SeqCst, partner "segment.confirm",
        [AcqRel => Model("segment_close_confirm")];
    /// The place that an opener claimed, before it looks at the state: a fence.
    CONFIRM = "segment.confirm", SeqCst, partner "segment.closing",
        [AcqRel => Model("segment_close_confirm")];
    /// Taking the owner word: what its former owner did to the segment comes before.
    CLAIM = "segment.claim", Acquire, partner "segment.release",
        [Relaxed => Model("segment_release_claim")];
    /// Giving the owner word back, after all that its owner did.
    RELEASE = "segment.release", Release, partner "segment.claim",
        [Relaxed => Model("segment_release_claim")];
}

/// Bytes of a segment's header.
pub const HEADER: usize = 64;
/// Bytes of an entry of the table, as this version writes them.
pub const ENTRY: usize = 32;
/// The most parts that a segment can have.
pub const MAX_PARTS: usize = 1024;

/// Words of the header, by their places.
mod at {
    pub const MAGIC: usize = 0;
    pub const VERSION: usize = 1;
    pub const OWN: usize = 2;
    pub const MIN_READER: usize = 4;
    pub const STATE: usize = 5;
    pub const EPOCH: usize = 6;
    pub const OWNER: usize = 7;
    pub const SIZE: usize = 8;
    pub const TABLE: usize = 10;
    pub const ENTRY: usize = 11;
    pub const PARTS: usize = 12;
    pub const RESERVED: core::ops::Range<usize> = 13..16;
    pub const HEADER: usize = 16;

    // Words of an entry.
    pub const KIND: usize = 0;
    pub const ATTRIBUTES: usize = 1;
    pub const OFFSET: usize = 2;
    pub const LENGTH: usize = 4;
    pub const ENTRY_RESERVED: core::ops::Range<usize> = 6..8;
    pub const ENTRY_WORDS: usize = 8;
}

const _: () = assert!(at::HEADER * 4 == HEADER && at::ENTRY_WORDS * 4 == ENTRY);

/// An attribute: who does not know this part cannot use the segment.
const REQUIRED: u32 = 1;
const ALIGNMENT_SHIFT: u32 = 8;
const ROLE_SHIFT: u32 = 16;
/// The largest alignment of a part, as a power of two: 1 GiB, the largest page.
const MAX_ALIGNMENT: u32 = 30;

/// Which kind of segment; the first word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Magic(pub u32);

impl Magic {
    /// "PHNX": the lanes of one caller to a service's workers; see
    /// [`layout::phoenix`](crate::layout).
    #[doc(alias = "kMagicNumber")]
    pub const PHNX: Self = Self(0x5048_4e58);
    /// "LRPC": the control block, the registry of nodes, and their channels; see
    /// [`layout::lrpc`](crate::layout).
    pub const LRPC: Self = Self(0x4c52_5043);
    /// "NODE": what one node receives; see [`layout::node`](crate::layout).
    pub const NODE: Self = Self(u32::from_be_bytes(*b"NODE"));
    /// "SRVC": what a service is and how its workers are; see
    /// [`layout::service`](crate::layout).
    pub const SRVC: Self = Self(u32::from_be_bytes(*b"SRVC"));
    /// "BELL": what clients and workers of a service ring; see
    /// [`layout::service`](crate::layout).
    pub const BELL: Self = Self(u32::from_be_bytes(*b"BELL"));
    /// "LETT": the dead letters of a service; see [`layout::letters`](crate::layout).
    pub const LETT: Self = Self(u32::from_be_bytes(*b"LETT"));
}

impl fmt::Display for Magic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.to_be_bytes();
        match core::str::from_utf8(&bytes) {
            Ok(text) if bytes.iter().all(u8::is_ascii_graphic) => write!(f, "{text:?}"),
            _ => write!(f, "{:#010x}", self.0),
        }
    }
}

/// Which part of a segment: its kind, and which of those.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartId {
    /// The structure.
    pub kind: Kind,
    /// What it is there for; the segment's layout says what the numbers mean.
    pub role: u16,
}

impl fmt::Display for PartId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.role)
    }
}

/// How far the segment is. In memory a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Its creator has begun it, and not finished.
    Initialising,
    /// It can be used.
    Ready,
    /// Its owner is about to unlink it: who has it goes on, nobody joins.
    Closing,
    /// Its owner has died, and nobody goes on with it: what is in it is nobody's.
    GivenUp,
}

impl State {
    /// The word that stands in shared memory.
    pub const fn word(self) -> u32 {
        match self {
            // Not 0, which is memory nobody has touched.
            Self::Initialising => u32::from_be_bytes(*b"INIT"),
            Self::Ready => 1,
            Self::Closing => 2,
            Self::GivenUp => 3,
        }
    }

    const fn from_word(word: u32) -> Result<Self, Corrupt> {
        if word == Self::Ready.word() {
            Ok(Self::Ready)
        } else if word == Self::Closing.word() {
            Ok(Self::Closing)
        } else if word == Self::GivenUp.word() {
            Ok(Self::GivenUp)
        } else if word == Self::Initialising.word() {
            Ok(Self::Initialising)
        } else {
            Err(Corrupt { what: "state of the segment", found: word, limit: Self::GivenUp.word() })
        }
    }
}
