//! Which slot, and which tenancy of it.

use crate::identity::OwnerId;
use core::fmt;

/// One tenancy of one slot: it names no other, however often the slot is taken again (but for
/// the wrap of generations; see the [module](crate::table)).
///
/// A process record's key and the [`OwnerId`] enrolled in it are the same two numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotKey {
    index: u32,
    generation: u32,
}

impl SlotKey {
    /// The key of two numbers that a key gave. No slot has one whose generation is 0.
    pub const fn new(index: u32, generation: u32) -> Self {
        Self { index, generation }
    }

    /// The slot's place in the table, from 0.
    pub const fn index(self) -> u32 {
        self.index
    }

    /// How often it had been taken, this time included; from 1.
    pub const fn generation(self) -> u32 {
        self.generation
    }

    /// The id enrolled in this slot in this tenancy, if any can be.
    pub const fn owner_id(self) -> Option<OwnerId> {
        OwnerId::new(self.index, self.generation)
    }
}

impl From<OwnerId> for SlotKey {
    /// The record of a process that has enrolled.
    fn from(id: OwnerId) -> Self {
        Self::new(id.index(), id.generation())
    }
}

impl fmt::Debug for SlotKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SlotKey({} generation {})", self.index, self.generation)
    }
}

impl fmt::Display for SlotKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot {}, generation {}", self.index, self.generation)
    }
}
