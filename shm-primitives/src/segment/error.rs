//! What can be wrong with a segment.

use super::{Magic, PartId};
use crate::identity::OwnerId;
use crate::part::{AttachError, Corrupt};
use core::fmt;

/// Why a segment could not be created, attached to or used.
///
/// Nothing has been written when attaching fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SegmentError {
    /// The region has fewer bytes than the segment takes.
    TooSmall {
        /// Bytes in the region.
        found: u64,
        /// Bytes needed.
        wanted: u64,
    },
    /// The region does not begin at a multiple of the alignment that the segment, or one of its
    /// parts, needs.
    Misaligned {
        /// The address.
        found: usize,
        /// The alignment, in bytes.
        wanted: usize,
    },
    /// There is no segment of this kind here.
    WrongMagic {
        /// The word that stands where the magic should.
        found: Magic,
        /// The magic.
        wanted: Magic,
    },
    /// The segment is older than this crate reads.
    WrongVersion {
        /// The version in the header.
        found: u32,
        /// The oldest version that this crate reads.
        wanted: u32,
    },
    /// The segment can be read only by a newer version of this crate.
    NewerRequired {
        /// The lowest version that can read it.
        found: u32,
        /// The version of this crate.
        wanted: u32,
    },
    /// Its creator has not finished it.
    Initialising {
        /// Who creates it. If that one is dead, it stays unfinished.
        owner: Option<OwnerId>,
    },
    /// Its owner is about to unlink it.
    Closing {
        /// Who.
        owner: Option<OwnerId>,
    },
    /// Its owner has died, and nobody goes on with it.
    GivenUp {
        /// Who.
        owner: Option<OwnerId>,
    },
    /// The memory holds another segment than when this handle was made.
    Renewed {
        /// The epoch in the header.
        found: u32,
        /// The epoch of the handle.
        wanted: u32,
    },
    /// A part does not lie within the segment.
    PartOutside {
        /// Which entry of the table.
        entry: u32,
        /// Where the part begins.
        offset: u64,
        /// Bytes it takes.
        length: u64,
        /// Bytes the segment has.
        size: u64,
    },
    /// A part begins before the table, or the part before it, ends.
    PartOverlaps {
        /// Which entry of the table.
        entry: u32,
        /// Where the part begins.
        offset: u64,
        /// Where it may begin.
        wanted: u64,
    },
    /// A part does not begin at a multiple of its alignment.
    PartMisaligned {
        /// Which entry of the table.
        entry: u32,
        /// Where the part begins.
        offset: u64,
        /// Its alignment, in bytes.
        wanted: u64,
    },
    /// A part stands in the table twice.
    DuplicatePart(PartId),
    /// The segment has a part that its readers must know, and this crate does not.
    UnknownPart(PartId),
    /// The segment does not have the part asked for: it is older, or of another shape.
    MissingPart(PartId),
    /// A part is not what the table says.
    Part {
        /// Which part.
        part: PartId,
        /// What is wrong with it.
        error: AttachError,
    },
    /// What was to be created is impossible.
    Impossible(&'static str),
    /// A field contradicts the others.
    Corrupt(Corrupt),
}

/// "by record 3, generation 1", or nobody.
struct By(Option<OwnerId>);

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(owner) => write!(f, " by {owner}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for SegmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TooSmall { found, wanted } => write!(
                f,
                "the memory has {found} bytes and the segment takes {wanted}: map all of it, or was it truncated?"
            ),
            Self::Misaligned { found, wanted } => {
                write!(f, "the memory begins at {found:#x}, not at a multiple of {wanted}")
            }
            Self::WrongMagic { found: Magic(0), wanted } => {
                write!(f, "no segment here yet: magic 0 instead of {wanted}")
            }
            Self::WrongMagic { found, wanted } => {
                write!(
                    f,
                    "magic {found} instead of {wanted}: this is another kind of segment or none"
                )
            }
            Self::WrongVersion { found, wanted } => write!(
                f,
                "segment version {found}, and this build reads {wanted} and later: create it anew"
            ),
            Self::NewerRequired { found, wanted } => write!(
                f,
                "only version {found} and later can read this segment, and this build is version {wanted}: update it"
            ),
            Self::Initialising { owner } => write!(
                f,
                "the segment is being created{}: try again, and create it anew if that one is dead",
                By(owner)
            ),
            Self::Closing { owner } => {
                write!(f, "the segment is being closed{}: open its successor", By(owner))
            }
            Self::GivenUp { owner: Some(owner) } => {
                write!(f, "the segment was given up, for {owner} is dead: open its successor")
            }
            Self::GivenUp { owner: None } => {
                write!(f, "the segment was given up, for its owner is dead: open its successor")
            }
            Self::Renewed { found, wanted } => write!(
                f,
                "the segment was created anew, epoch {found} instead of {wanted}: attach again"
            ),
            Self::PartOutside { entry, offset, length, size } => write!(
                f,
                "corrupt: part number {entry} has {length} bytes at {offset}, in a segment of {size}"
            ),
            Self::PartOverlaps { entry, offset, wanted } => write!(
                f,
                "corrupt: part number {entry} begins at {offset}, and what stands before it ends at {wanted}"
            ),
            Self::PartMisaligned { entry, offset, wanted } => write!(
                f,
                "corrupt: part number {entry} begins at {offset}, not at a multiple of {wanted}"
            ),
            Self::DuplicatePart(part) => {
                write!(f, "corrupt: part {part} stands in the table twice")
            }
            Self::UnknownPart(part) => write!(
                f,
                "the segment requires its readers to know the part of kind {}, role {}, and this build does not: update it",
                part.kind.0, part.role
            ),
            Self::MissingPart(part) => {
                write!(
                    f,
                    "the segment has no part {part}: its creator is older, or made another shape"
                )
            }
            Self::Part { part, error } => write!(f, "part {part}: {error}"),
            Self::Impossible(what) => write!(f, "no such segment can be created: {what}"),
            Self::Corrupt(corrupt) => corrupt.fmt(f),
        }
    }
}

impl core::error::Error for SegmentError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Part { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl From<Corrupt> for SegmentError {
    fn from(corrupt: Corrupt) -> Self {
        Self::Corrupt(corrupt)
    }
}
