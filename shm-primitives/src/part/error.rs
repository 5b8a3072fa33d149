//! What can be wrong with memory one attaches to.

use super::Kind;
use crate::identity::OwnerId;
use core::fmt;

/// Why a part could not be created in or attached to a region.
///
/// Nothing has been written when attaching fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AttachError {
    /// The region has fewer bytes than the part takes.
    TooSmall {
        /// Bytes in the region.
        found: usize,
        /// Bytes needed.
        wanted: usize,
    },
    /// The region does not begin at a multiple of the alignment.
    Misaligned {
        /// The address.
        found: usize,
        /// The alignment, in bytes.
        wanted: usize,
    },
    /// There is no part here: not created yet, or something else.
    WrongMagic {
        /// The word that stands where the magic should.
        found: u32,
        /// The magic.
        wanted: u32,
    },
    /// A part, but of another kind.
    WrongKind {
        /// The kind in the header.
        found: Kind,
        /// The kind asked for.
        wanted: Kind,
    },
    /// The part is older than this crate reads.
    WrongVersion {
        /// The version in the header.
        found: u32,
        /// The version of this crate.
        wanted: u32,
    },
    /// The part can be read only by a newer version of this crate.
    NewerRequired {
        /// The lowest version that can read it.
        found: u32,
        /// The version of this crate.
        wanted: u32,
    },
    /// The layout hash is another: both sides were not built for the same type.
    WrongLayout {
        /// The hash in the header.
        found: u32,
        /// The hash of the type asked for.
        wanted: u32,
    },
    /// The elements have another size.
    WrongElementSize {
        /// Bytes an element takes in the part.
        found: u32,
        /// Bytes an element of the type asked for takes.
        wanted: u32,
    },
    /// The capacity is no power of two within the limits, so it is corrupt, or it
    /// was asked for.
    BadCapacity {
        /// The capacity in the header or asked for.
        found: u32,
        /// The largest that is possible.
        maximum: u32,
    },
    /// A capacity that is valid, but not the one expected.
    UnexpectedCapacity {
        /// The capacity in the header.
        found: u32,
        /// The capacity asked for.
        wanted: u32,
    },
    /// A table of no slots, or of more than there can be.
    BadSlotCount {
        /// The number in the header or asked for.
        found: u32,
        /// The largest that is possible.
        maximum: u32,
    },
    /// The replies that a channel is to have room for are too large for its response ring.
    NoRoomForReplies {
        /// Bytes the response ring has.
        found: usize,
        /// Bytes that one call's replies may take.
        wanted: usize,
    },
    /// An option that this build does not have or does not know.
    UnsupportedOption {
        /// The options word.
        found: u32,
    },
    /// A size class of a pool is empty, too large, or no larger than the one before it; or there
    /// are none, or too many.
    BadClass {
        /// Its number, from 0.
        number: u32,
    },
    /// More of something than there can be.
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are or were asked for.
        found: u32,
        /// How many there can be.
        maximum: u32,
    },
    /// A field of the header or a position contradicts the others.
    Corrupt(Corrupt),
}

/// A value in shared memory that no writer keeping the protocol could have
/// written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Corrupt {
    /// What was read.
    pub what: &'static str,
    /// The value found.
    pub found: u32,
    /// A bound it breaks: what `what` says.
    pub limit: u32,
}

/// Why an end of a part could not be claimed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ClaimError {
    /// Somebody has it; if it is proven dead, recover it instead.
    Owned(OwnerId),
    /// The end to be recovered does not belong to the one proven dead.
    NotTheOwner {
        /// Who has it; `None` for nobody: then claim it.
        found: Option<OwnerId>,
    },
    /// The one proven dead and the one to take over are the same, so the proof is none.
    OwnDeath(OwnerId),
    /// There is no such place in the table.
    NoSuchPlace {
        /// The place asked for.
        found: u32,
        /// How many there are.
        places: u32,
    },
    /// A position or an owner word is impossible.
    Corrupt(Corrupt),
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TooSmall { found, wanted } => {
                write!(
                    f,
                    "the region has {found} bytes and {wanted} are needed: give it more memory or ask for a smaller capacity"
                )
            }
            Self::Misaligned { found, wanted } => {
                write!(f, "the region begins at {found:#x}, not at a multiple of {wanted}")
            }
            Self::WrongMagic { found, wanted } => {
                write!(
                    f,
                    "no part here: magic {found:#010x} instead of {wanted:#010x}; was it created, and is this the right offset?"
                )
            }
            Self::WrongKind { found, wanted } => {
                write!(f, "a part of kind {found}, not {wanted}")
            }
            Self::WrongVersion { found, wanted } => {
                write!(
                    f,
                    "layout version {found} is older than {wanted}, which this build reads: create the part anew"
                )
            }
            Self::NewerRequired { found, wanted } => {
                write!(
                    f,
                    "only version {found} and later can read this part, and this build is version {wanted}: update it"
                )
            }
            Self::WrongLayout { found, wanted } => {
                write!(
                    f,
                    "layout hash {found:#010x} instead of {wanted:#010x}: the two sides were built for different types"
                )
            }
            Self::WrongElementSize { found, wanted } => {
                write!(
                    f,
                    "elements of {found} bytes instead of {wanted}: the two sides were built for different types"
                )
            }
            Self::BadCapacity { found, maximum } => {
                write!(
                    f,
                    "capacity {found} is no power of two up to {maximum}, or too small for this structure"
                )
            }
            Self::UnexpectedCapacity { found, wanted } => {
                write!(f, "capacity {found} instead of {wanted}")
            }
            Self::BadSlotCount { found, maximum } => {
                write!(f, "{found} slots, where a table has from 1 to {maximum}")
            }
            Self::NoRoomForReplies { found, wanted } => {
                write!(
                    f,
                    "a response ring of {found} bytes, where the replies to one call may take {wanted}: make it larger or allow smaller replies"
                )
            }
            Self::UnsupportedOption { found } => {
                write!(
                    f,
                    "{found:#x} is no alignment, start or set of options that there is; a checksum needs the feature `checksum`"
                )
            }
            Self::BadClass { number } => {
                write!(
                    f,
                    "size class {number} is empty, too large, or no larger than the one before it; there are 1 to 8 classes, the smallest first"
                )
            }
            Self::TooMany { what, found, maximum } => {
                write!(f, "{found} {what} where {maximum} is the most")
            }
            Self::Corrupt(corrupt) => corrupt.fmt(f),
        }
    }
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, found, limit } = self;
        write!(
            f,
            "corrupt: {what} is {found:#x} where the limit is {limit:#x}; somebody wrote to this memory outside the protocol"
        )
    }
}

impl fmt::Display for ClaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Owned(owner) => {
                write!(f, "in use by {owner}; recover it if that one is proven dead")
            }
            Self::NotTheOwner { found: Some(owner) } => {
                write!(f, "in use by {owner}, not by the one proven dead")
            }
            Self::NotTheOwner { found: None } => {
                write!(f, "in use by nobody: claim it instead of recovering it")
            }
            Self::OwnDeath(owner) => {
                write!(f, "{owner} is said to be dead and to take over from itself")
            }
            Self::NoSuchPlace { found, places } => {
                write!(f, "place {found}, where there are {places}, from 0 on")
            }
            Self::Corrupt(corrupt) => corrupt.fmt(f),
        }
    }
}

impl core::error::Error for AttachError {}
impl core::error::Error for Corrupt {}
impl core::error::Error for ClaimError {}

impl From<Corrupt> for AttachError {
    fn from(corrupt: Corrupt) -> Self {
        Self::Corrupt(corrupt)
    }
}
impl From<Corrupt> for ClaimError {
    fn from(corrupt: Corrupt) -> Self {
        Self::Corrupt(corrupt)
    }
}
