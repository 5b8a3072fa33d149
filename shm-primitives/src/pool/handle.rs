//! What a queue carries.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Names a message in a chunk of a pool: what the publisher pushes into a subscriber's queue.
/// 16 bytes, [`Shareable`](crate::part::Shareable).
///
/// Any bytes are one. What it says is checked when it is [borrowed](super::Holder::borrow).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ChunkHandle {
    /// The pool's id.
    pub pool: u32,
    /// The chunk's number, counted through all classes.
    pub chunk: u32,
    /// How often the chunk had been taken on loan.
    pub generation: u32,
    /// Bytes of the message, from the start of the chunk.
    pub length: u32,
}

const _: () = assert!(size_of::<ChunkHandle>() == 16);
