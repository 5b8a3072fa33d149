//! Who holds what: owner ids, and the proof that an owner is dead.
//!
//! Whoever may hold something in shared memory first has a *process record* (the
//! transport keeps a table of them, guarded by kernel locks; on a microcontroller
//! a core number will do). Everything it then holds names it by its [`OwnerId`],
//! which fits one word and one compare-and-swap.
//!
//! # One table
//!
//! Ids are small numbers, and two tables of process records give out the same ones. So all who
//! use one piece of memory use ids and proofs of **one table**, for as long as anything in that
//! memory names an id: that is part of the protocol that whoever calls an `unsafe` `attach` or
//! `init_at` promises for all of them. A proof from another table, or from one that was made anew
//! meanwhile, is about somebody else, and would put a second owner beside a living one.
//!
//! Nothing that has an owner is ever taken over because of a timer. Every
//! `recover_*` function asks for a [`Dead<OwnerId>`](Dead), and making one is
//! `unsafe`: it is the statement that the owner will never again touch the memory.

use core::fmt;
use core::num::NonZeroU32;

/// A process record and its generation, in one word.
///
/// ```text
///  31                12 11         0
/// +--------------------+------------+
/// | generation, from 1 | index      |
/// +--------------------+------------+
/// ```
///
/// A word of 0 is nobody. A record that is taken again gets the next generation,
/// so that an id of its former owner is never mistaken for the new one's.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct OwnerId(NonZeroU32);

impl OwnerId {
    /// Bits of the index: how many records one domain can have.
    pub const INDEX_BITS: u32 = 12;
    /// The largest generation; after it comes 1 again.
    pub const MAX_GENERATION: u32 = u32::MAX >> Self::INDEX_BITS;

    /// The id of record `index`, below 4096, in `generation`, from 1 to
    /// [`MAX_GENERATION`](Self::MAX_GENERATION). `None` if either is outside.
    pub const fn new(index: u32, generation: u32) -> Option<Self> {
        if index >> Self::INDEX_BITS != 0 || generation > Self::MAX_GENERATION || generation == 0 {
            return None;
        }
        match NonZeroU32::new(generation << Self::INDEX_BITS | index) {
            Some(word) => Some(Self(word)),
            None => None,
        }
    }

    /// The id in a word read from shared memory; `None` for nobody, and for a
    /// word that no id has.
    pub const fn from_word(word: u32) -> Option<Self> {
        match NonZeroU32::new(word) {
            Some(id) if word >> Self::INDEX_BITS != 0 => Some(Self(id)),
            _ => None,
        }
    }

    /// The word that stands in shared memory.
    pub const fn word(self) -> u32 {
        self.0.get()
    }

    /// The index of the process record.
    pub const fn index(self) -> u32 {
        self.0.get() & ((1 << Self::INDEX_BITS) - 1)
    }

    /// How often the record had been taken when this id was made.
    pub const fn generation(self) -> u32 {
        self.0.get() >> Self::INDEX_BITS
    }
}

impl fmt::Debug for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnerId({} generation {})", self.index(), self.generation())
    }
}

impl fmt::Display for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {}, generation {}", self.index(), self.generation())
    }
}

/// Proof that an owner is dead: it will never again touch the shared memory.
///
/// A heartbeat that stopped is no such proof; a process halted by SIGSTOP for an
/// hour comes back and goes on writing. Nor is a proof about an id of another
/// [table](crate::identity#one-table).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dead<T>(T);

impl<T: Copy> Dead<T> {
    /// States that `owner` is dead.
    ///
    /// # Safety
    ///
    /// No thread of `owner` will access the shared memory from now on: the kernel
    /// (or, between cores, the hardware's reset line) has said so. A time-out is
    /// not enough. In `shm-transport` the liveness module is the only caller.
    pub const unsafe fn assume(owner: T) -> Self {
        Self(owner)
    }

    /// Whose death is proven.
    pub const fn id(self) -> T {
        self.0
    }
}
