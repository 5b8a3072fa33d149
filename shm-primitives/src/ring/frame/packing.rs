//! Where the next frame begins.

use crate::part::LINE;

/// How close frames follow each other; chosen when a ring is created, and recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Packing {
    /// A frame that ends in the second half of a cache line is followed by one at the next
    /// line. Frames of one size, up to 56 bytes of payload, keep within one line each, so that
    /// one line moves for a message; frames of any size waste 24 bytes at the most.
    Lines,
    /// A frame begins at the multiple of 8 where the one before it ends.
    Dense,
}

impl Packing {
    /// Bytes of a line that may be used for the next frame to begin in the same line.
    pub(super) const fn fill(self) -> u32 {
        match self {
            Self::Lines => LINE as u32 / 2,
            Self::Dense => LINE as u32,
        }
    }

    pub(super) const fn least_capacity(self) -> u32 {
        match self {
            Self::Lines => 8 * LINE as u32,
            Self::Dense => LINE as u32,
        }
    }

    pub(super) const fn to_word(self) -> u32 {
        match self {
            Self::Lines => 1,
            Self::Dense => 2,
        }
    }

    pub(super) const fn from_word(word: u32) -> Option<Self> {
        match word {
            1 => Some(Self::Lines),
            2 => Some(Self::Dense),
            _ => None,
        }
    }
}

crate::sync::with_read_modify_write! {
    impl Packing {
        /// The most bytes between two frames.
        pub(crate) const fn most_waste(self) -> u32 {
            match self {
                Self::Lines => LINE as u32 / 2 - super::ALIGNMENT,
                Self::Dense => 0,
            }
        }
    }
}
