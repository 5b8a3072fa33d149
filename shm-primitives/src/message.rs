//! Message headers, and the ids, priorities and states that go with them.
//!
//! # Layout
//!
//! A message is a header and its payload. The header is the same bytes on every target:
//! little-endian, unaligned, without padding.
//!
//! ```text
//! offset  size
//!      0     8  seq_id       which call this belongs to; 0 is none
//!      8     4  func_id      what is called; 0 to 1000 are the framework's
//!     12     4  payload_len  bytes of payload that follow
//!     16        payload
//! ```
//!
//! # Sequence ids
//!
//! An id is never given twice in a service's life, so that a reply that comes late cannot
//! answer another call:
//!
//! ```text
//!  63        52 51          40 39                       0
//! +------------+--------------+--------------------------+
//! | place      | generation   | counter, from 1          |
//! +------------+--------------+--------------------------+
//! ```
//!
//! *Place* is the client's place in the service, *generation* how often the place had been
//! taken. Two clients never have both in common, so each counts by itself, without a word
//! that others write. At a million calls a second a counter lasts for twelve days; a client
//! whose counter is [used up](SeqIds) takes its place again, in the next generation. Whoever
//! gives out places never gives a generation twice: after the 4096th, the place is used up.
//!
//! # Trust
//!
//! A header is copied out of shared memory once and only the copy is used. [`MsgHeader::split`]
//! believes `payload_len` no more than the length of what it was given. The enumerations are
//! never read in place: a word becomes one through a conversion that can fail.
//!
//! # Example
//!
//! ```
//! use shm_primitives::message::{MsgHeader, SeqIds};
//!
//! let mut ids = SeqIds::new(3, 1).expect("place and generation of 12 bits each");
//! let header = MsgHeader::new(ids.next().expect("not used up"), 1001, 5);
//! let mut message = header.to_bytes().to_vec();
//! message.extend(b"hello");
//!
//! let (found, payload) = MsgHeader::split(&message)?;
//! assert_eq!((found, payload), (header, &b"hello"[..]));
//! # Ok::<(), shm_primitives::message::HeaderError>(())
//! ```

use core::fmt;
use core::ops::RangeInclusive;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// What stands before every message: 16 bytes. See the [module](self) for the layout.
#[doc(alias = "seq_id")]
#[doc(alias = "func_id")]
#[doc(alias = "payload_len")]
#[repr(C)]
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
pub struct MsgHeader {
    seq_id: U64,
    func_id: U32,
    payload_len: U32,
}

const _: () = assert!(
    size_of::<MsgHeader>() == 16
        && align_of::<MsgHeader>() == 1
        && core::mem::offset_of!(MsgHeader, func_id) == 8
        && core::mem::offset_of!(MsgHeader, payload_len) == 12
);

impl MsgHeader {
    /// Bytes of a header.
    #[doc(alias = "kSize")]
    pub const SIZE: usize = size_of::<Self>();

    /// The sequence id of no message.
    #[doc(alias = "kInvalidSeqId")]
    pub const INVALID_SEQ_ID: u64 = 0;

    /// The function ids that are the framework's own; an application's begin at 1001.
    pub const RESERVED_FUNCTIONS: RangeInclusive<u32> = 0..=1000;

    /// The header of a message with `payload_len` bytes of payload.
    pub const fn new(seq_id: u64, func_id: u32, payload_len: u32) -> Self {
        Self {
            seq_id: U64::from_bytes(seq_id.to_le_bytes()),
            func_id: U32::from_bytes(func_id.to_le_bytes()),
            payload_len: U32::from_bytes(payload_len.to_le_bytes()),
        }
    }

    /// The header in these bytes. Any bytes are a header; whether a message can have it, only
    /// [`is_valid`](Self::is_valid) and [`split`](Self::split) say.
    pub const fn from_bytes(bytes: [u8; Self::SIZE]) -> Self {
        zerocopy::transmute!(bytes)
    }

    /// The bytes of this header.
    pub const fn to_bytes(self) -> [u8; Self::SIZE] {
        zerocopy::transmute!(self)
    }

    /// Which call the message belongs to.
    pub const fn seq_id(&self) -> u64 {
        u64::from_le_bytes(self.seq_id.to_bytes())
    }

    /// What is called.
    pub const fn func_id(&self) -> u32 {
        u32::from_le_bytes(self.func_id.to_bytes())
    }

    /// Bytes of payload behind the header.
    pub const fn payload_len(&self) -> u32 {
        u32::from_le_bytes(self.payload_len.to_bytes())
    }

    /// Whether a message can have this header: its sequence id is one.
    #[doc(alias = "IsValid")]
    pub const fn is_valid(&self) -> bool {
        self.seq_id() != Self::INVALID_SEQ_ID
    }

    /// Whether the function is the framework's and not an application's.
    pub const fn is_reserved(&self) -> bool {
        self.func_id() <= *Self::RESERVED_FUNCTIONS.end()
    }

    /// Bytes of header and payload together: at most 2³² + 15, which is why it is a `u64`; a
    /// `usize` of 32 bits could not hold it.
    #[doc(alias = "TotalSize")]
    pub const fn total_size(&self) -> u64 {
        Self::SIZE as u64 + self.payload_len() as u64
    }

    /// Takes apart a message that fills `message` exactly.
    ///
    /// # Errors
    ///
    /// See [`HeaderError`].
    pub fn split(message: &[u8]) -> Result<(Self, &[u8]), HeaderError> {
        let (header, payload) = Self::split_prefix(message)?;
        if header.total_size() != message.len() as u64 {
            return Err(HeaderError::WrongLength {
                found: header.payload_len(),
                wanted: message.len() - Self::SIZE,
            });
        }
        Ok((header, payload))
    }

    /// Takes the first message off `bytes`, which may go on behind it: header and payload.
    ///
    /// # Errors
    ///
    /// See [`HeaderError`].
    pub fn split_prefix(bytes: &[u8]) -> Result<(Self, &[u8]), HeaderError> {
        let Some((head, rest)) = bytes.split_first_chunk() else {
            return Err(HeaderError::TooShort { found: bytes.len(), wanted: Self::SIZE });
        };
        let header = Self::from_bytes(*head);
        if !header.is_valid() {
            return Err(HeaderError::InvalidSeqId);
        }
        // Lossless where usize has 64 bits; where it has 32, u32 is its size.
        match rest.get(..header.payload_len() as usize) {
            Some(payload) => Ok((header, payload)),
            None => {
                Err(HeaderError::WrongLength { found: header.payload_len(), wanted: rest.len() })
            }
        }
    }
}

impl fmt::Debug for MsgHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MsgHeader")
            .field("seq_id", &self.seq_id())
            .field("func_id", &self.func_id())
            .field("payload_len", &self.payload_len())
            .finish()
    }
}

/// Why bytes are no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum HeaderError {
    /// They are fewer than a header has.
    TooShort {
        /// Bytes there are.
        found: usize,
        /// Bytes of a header, and of what else belongs to it.
        wanted: usize,
    },
    /// The sequence id is [`MsgHeader::INVALID_SEQ_ID`].
    InvalidSeqId,
    /// The header says another length than the payload has.
    WrongLength {
        /// Bytes of payload by the header.
        found: u32,
        /// Bytes behind the header.
        wanted: usize,
    },
    /// A status that no message has here.
    BadStatus {
        /// The word.
        found: u32,
    },
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TooShort { found, wanted } => {
                write!(f, "{found} bytes where a message's header takes {wanted}")
            }
            Self::InvalidSeqId => f.write_str("sequence id 0, which no message has"),
            Self::WrongLength { found, wanted } => {
                write!(f, "a header that says {found} bytes of payload before {wanted}")
            }
            Self::BadStatus { found } => write!(f, "status {found}, which no reply has"),
        }
    }
}

impl core::error::Error for HeaderError {}

/// A sequence id taken apart: who gave it, and which of theirs it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SeqId(u64);

impl SeqId {
    /// Bits of the place.
    pub const PLACE_BITS: u32 = 12;
    /// Bits of the generation.
    pub const GENERATION_BITS: u32 = 12;
    /// Bits of the counter.
    pub const COUNTER_BITS: u32 = 64 - Self::PLACE_BITS - Self::GENERATION_BITS;
    /// The largest counter.
    pub const MAX_COUNTER: u64 = (1 << Self::COUNTER_BITS) - 1;

    /// The id of `counter`, from 1 to [`MAX_COUNTER`](Self::MAX_COUNTER), given by the client
    /// in `place`, below 4096, in `generation`, below 4096. `None` if one is outside.
    pub const fn new(place: u32, generation: u32, counter: u64) -> Option<Self> {
        if place >> Self::PLACE_BITS != 0
            || generation >> Self::GENERATION_BITS != 0
            || counter == 0
            || counter > Self::MAX_COUNTER
        {
            return None;
        }
        let above = (place as u64) << Self::GENERATION_BITS | generation as u64;
        Some(Self(above << Self::COUNTER_BITS | counter))
    }

    /// The id in a header's field; `None` if no client gives it: its counter is 0.
    pub const fn from_raw(raw: u64) -> Option<Self> {
        if raw & Self::MAX_COUNTER == 0 { None } else { Some(Self(raw)) }
    }

    /// The number in a header's field; never 0.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The place of the client that gave it.
    pub const fn place(self) -> u32 {
        (self.0 >> (Self::GENERATION_BITS + Self::COUNTER_BITS)) as u32
    }

    /// The generation of that client.
    pub const fn generation(self) -> u32 {
        (self.0 >> Self::COUNTER_BITS) as u32 & ((1 << Self::GENERATION_BITS) - 1)
    }

    /// Which of its ids it is, from 1.
    pub const fn counter(self) -> u64 {
        self.0 & Self::MAX_COUNTER
    }
}

impl fmt::Debug for SeqId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SeqId({self})")
    }
}

impl fmt::Display for SeqId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.place(), self.generation(), self.counter())
    }
}

/// Gives a client's sequence ids, each once: an iterator that ends when the counter is used up.
/// Then the client takes a new generation and makes a new one.
#[derive(Clone, Debug)]
pub struct SeqIds {
    /// The last one given; its counter is 0 before the first.
    last: u64,
}

impl SeqIds {
    /// The ids of the client in `place` in `generation`, from counter 1 on. `None` if either
    /// has more than 12 bits.
    pub const fn new(place: u32, generation: u32) -> Option<Self> {
        Self::after(place, generation, 0)
    }

    /// The same from behind `counter` on: for a client that hands its counting over.
    pub const fn after(place: u32, generation: u32, counter: u64) -> Option<Self> {
        if counter == 0 {
            return match SeqId::new(place, generation, 1) {
                Some(first) => Some(Self { last: first.0 - 1 }),
                None => None,
            };
        }
        match SeqId::new(place, generation, counter) {
            Some(last) => Some(Self { last: last.0 }),
            None => None,
        }
    }

    /// How many are left.
    pub const fn left(&self) -> u64 {
        SeqId::MAX_COUNTER - (self.last & SeqId::MAX_COUNTER)
    }
}

impl Iterator for SeqIds {
    type Item = u64;

    /// The next id; never 0. `None`, now and ever after, if the counter is used up.
    #[inline]
    fn next(&mut self) -> Option<u64> {
        if self.left() == 0 {
            return None;
        }
        self.last += 1;
        Some(self.last)
    }
}

impl core::iter::FusedIterator for SeqIds {}

/// A word read from shared memory that is none of an enumeration's values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownValue {
    /// Which enumeration.
    pub what: &'static str,
    /// The word.
    pub found: u32,
    /// Its largest value.
    pub maximum: u32,
}

impl fmt::Display for UnknownValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, found, maximum } = self;
        write!(f, "{what} {found}; the largest known is {maximum}")
    }
}

impl core::error::Error for UnknownValue {}

/// Declares the checked conversions of an enumeration that stands in shared memory as a word.
macro_rules! word_enum {
    ($name:ident, $what:literal, [$($variant:ident),+]) => {
        impl $name {
            /// The value with this number; `None` if there is none.
            pub const fn from_word(word: u32) -> Option<Self> {
                match word {
                    $(word if word == Self::$variant as u32 => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// Its number.
            pub const fn word(self) -> u32 {
                self as u32
            }
        }

        impl TryFrom<u32> for $name {
            type Error = UnknownValue;
            fn try_from(word: u32) -> Result<Self, UnknownValue> {
                let maximum = 0 $(.max(Self::$variant as u32))+;
                Self::from_word(word).ok_or(UnknownValue { what: $what, found: word, maximum })
            }
        }

        impl From<$name> for u32 {
            fn from(value: $name) -> u32 {
                value.word()
            }
        }
    };
}

/// Which workers a request is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(u8)]
pub enum Priority {
    /// The normal ones.
    #[doc(alias = "kLow")]
    #[doc(alias = "kNormal")]
    #[default]
    Low = 0,
    /// The VIP workers, which normal load does not hold up.
    #[doc(alias = "kHigh")]
    #[doc(alias = "VIP")]
    High = 1,
}

word_enum!(Priority, "priority", [Low, High]);

/// How far a call is. A reply is `Processing` (a progress report), `Completed` or `Failed`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(u8)]
pub enum MsgStatus {
    /// Nobody has taken it up.
    #[doc(alias = "kPending")]
    #[default]
    Pending = 0,
    /// A worker has it in hand.
    #[doc(alias = "kProcessing")]
    Processing = 1,
    /// It was done.
    #[doc(alias = "kCompleted")]
    Completed = 2,
    /// It was tried and failed.
    #[doc(alias = "kFailed")]
    Failed = 3,
}

word_enum!(MsgStatus, "message status", [Pending, Processing, Completed, Failed]);

impl MsgStatus {
    /// Whether nothing more comes: `Completed` or `Failed`.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}
