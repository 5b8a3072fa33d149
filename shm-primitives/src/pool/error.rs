//! What can go wrong with a pool.

use crate::part::ClaimError;
use core::fmt;

/// Why an end of a pool could not be had, or a subscriber not be connected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// The end could not be claimed or recovered.
    Claim(ClaimError),
    /// The marks are for a pool of another id.
    OtherPool {
        /// The pool that the marks name.
        found: u32,
        /// The pool at hand.
        wanted: u32,
    },
    /// The marks are for a pool with another number of chunks.
    OtherSize {
        /// Chunks there are marks for.
        found: u32,
        /// Chunks of the pool.
        wanted: u32,
    },
    /// The pool has fewer places for subscribers.
    NoSuchPlace {
        /// The place asked for.
        found: usize,
        /// Places there are.
        places: usize,
    },
    /// Another subscriber is connected there.
    PlaceTaken {
        /// The id of its marks.
        id: u32,
    },
    /// These marks are connected already.
    Twice {
        /// Where.
        place: usize,
    },
    /// Nobody is connected there.
    NotConnected {
        /// The place asked for.
        place: usize,
    },
    /// A subscriber was connected to the publisher's predecessor, and its marks were not given.
    /// Without them a chunk that it reads could be overwritten.
    Missing {
        /// Its place.
        place: usize,
        /// The id of its marks.
        id: u32,
    },
    /// Fewer slots than the pool has chunks.
    TooFewSlots {
        /// Slots given.
        found: usize,
        /// Chunks of the pool.
        wanted: usize,
    },
    /// Fewer places than the pool has.
    TooFewPlaces {
        /// Places given.
        found: usize,
        /// Places of the pool.
        wanted: usize,
    },
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Claim(error) => error.fmt(f),
            Self::OtherPool { found, wanted } => {
                write!(f, "the marks are for pool {found:#x}, not {wanted:#x}")
            }
            Self::OtherSize { found, wanted } => {
                write!(f, "marks for {found} chunks where the pool has {wanted}")
            }
            Self::NoSuchPlace { found, places } => {
                write!(f, "no place {found}: the pool was made for {places} subscribers")
            }
            Self::PlaceTaken { id } => {
                write!(f, "the subscriber with marks {id:#x} is connected there: disconnect it")
            }
            Self::Twice { place } => {
                write!(f, "these marks are connected already, at place {place}")
            }
            Self::NotConnected { place } => write!(f, "nobody is connected at place {place}"),
            Self::Missing { place, id } => {
                write!(
                    f,
                    "the subscriber with marks {id:#x} is connected at place {place}: give its marks, or chunks that it reads would be overwritten"
                )
            }
            Self::TooFewSlots { found, wanted } => {
                write!(f, "{found} slots for {wanted} chunks")
            }
            Self::TooFewPlaces { found, wanted } => {
                write!(f, "{found} places given where the pool has {wanted}")
            }
        }
    }
}

/// Why there is no chunk to write into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LoanError {
    /// Longer than the largest chunk.
    TooLarge {
        /// Bytes asked for.
        length: usize,
        /// Bytes of the largest chunk.
        maximum: usize,
    },
    /// Every chunk that is large enough is on loan or held by a subscriber.
    Exhausted,
    /// As many loans as [`Limits::loans`](super::Limits::loans) allows at a time.
    TooManyLoans {
        /// The limit.
        limit: u32,
    },
}

impl fmt::Display for LoanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { length, maximum } => {
                write!(f, "{length} bytes do not fit the pool's largest chunk of {maximum}")
            }
            Self::Exhausted => {
                f.write_str("every chunk that is large enough is on loan or held by a subscriber")
            }
            Self::TooManyLoans { limit } => {
                write!(f, "{limit} loans at a time are the limit: share or drop one first")
            }
        }
    }
}

/// Why a chunk was not lent to a subscriber.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LendError {
    /// Nobody is connected there.
    NotConnected {
        /// The place asked for.
        place: usize,
    },
    /// The subscriber has this chunk already.
    AlreadyLent,
    /// The subscriber holds as many chunks as [`Limits::held`](super::Limits::held) allows.
    TooManyHeld {
        /// The limit.
        limit: u32,
    },
}

impl fmt::Display for LendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConnected { place } => write!(f, "nobody is connected at place {place}"),
            Self::AlreadyLent => f.write_str("the subscriber has this chunk already"),
            Self::TooManyHeld { limit } => {
                write!(f, "the subscriber holds {limit} chunks, which is the limit")
            }
        }
    }
}

/// Why what was lent could not be taken back: the subscriber has borrowed it, or it was not
/// lent. A chunk borrowed comes back by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Taken;

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the subscriber has borrowed the chunk, or it was not lent to it")
    }
}

/// Why a handle could not be borrowed. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BorrowError {
    /// The handle names another pool.
    WrongPool {
        /// The pool that the handle names.
        found: u32,
        /// The pool at hand.
        wanted: u32,
    },
    /// The pool has no such chunk.
    NoSuchChunk {
        /// The chunk that the handle names.
        found: u32,
        /// Chunks of the pool.
        chunks: u32,
    },
    /// The message would be longer than the chunk.
    TooLong {
        /// Bytes that the handle names.
        found: u32,
        /// Bytes of the chunk.
        size: u32,
    },
    /// The chunk has been loaned again since the handle was made.
    Stale {
        /// The generation that the handle names.
        found: u32,
        /// The chunk's present one.
        wanted: u32,
    },
    /// The chunk is not lent to this subscriber: never was, or was given back.
    NotLent,
    /// This subscriber is reading the chunk already.
    InHand,
}

impl fmt::Display for BorrowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongPool { found, wanted } => {
                write!(f, "a handle of pool {found:#x}, not {wanted:#x}")
            }
            Self::NoSuchChunk { found, chunks } => {
                write!(f, "a handle of chunk {found} where the pool has {chunks}")
            }
            Self::TooLong { found, size } => {
                write!(f, "a handle of {found} bytes in a chunk of {size}")
            }
            Self::Stale { found, wanted } => {
                write!(f, "a handle of generation {found} where the chunk is in {wanted}")
            }
            Self::NotLent => f.write_str("the chunk is not lent to this subscriber"),
            Self::InHand => f.write_str("the chunk is borrowed already"),
        }
    }
}

/// Bytes asked for that lie beyond the end of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfRange {
    /// Where the bytes asked for end; the largest number if there is none so large.
    pub end: usize,
    /// Bytes of the message.
    pub length: usize,
}

impl fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { end, length } = self;
        write!(f, "bytes up to {end} of a message of {length}")
    }
}

impl core::error::Error for ConnectError {}
impl core::error::Error for LoanError {}
impl core::error::Error for LendError {}
impl core::error::Error for Taken {}
impl core::error::Error for BorrowError {}
impl core::error::Error for OutOfRange {}

impl From<ClaimError> for ConnectError {
    fn from(error: ClaimError) -> Self {
        Self::Claim(error)
    }
}
