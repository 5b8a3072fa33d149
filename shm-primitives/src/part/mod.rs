//! What every structure in shared memory begins with: 64 bytes that say what it
//! is.
//!
//! ```text
//! offset
//!  0  magic           "SHMP"; written last when a part is made
//!  4  version         of this kind's layout
//!  8  kind            which structure
//! 12  layout          hash over kind, element size and alignment; over kind and tag of a slot table
//! 16  min_reader      the lowest version whose readers understand this part
//! 20  capacity        elements, or bytes of a frame ring; a power of two, but for a slot table
//! 24  stride          bytes an element takes; 1 for a frame ring
//! 28  options         checksum, alignment of the data as a power of two; live words of a slot
//! 32  data            offset of the data from the start of the part
//! 36  start           the position it was created at; bytes of a slot table's entry
//! 40  owner 0         who has the writing end, 0 for nobody
//! 44  owner 1         who has the reading end
//! 48  extra           two words of the structure that the part belongs to, else zero
//! 56  reserved        8 bytes, zero
//! ```
//!
//! All words are little-endian `u32`. The first ten and `extra` are written once, before
//! `magic`; an owner word is taken by compare-and-swap, and given back by its owner.
//!
//! **A reader meets a newer part.** `version` is the writer's, `min_reader` what a
//! reader must be at least. A reader of version *r* attaches if `min_reader <= r`;
//! what it does not know lies in `reserved` or behind the data, and it leaves it
//! alone. Otherwise it gets [`AttachError::NewerRequired`] and has touched
//! nothing.
//!
//! **Crash.** A creator that dies before it stores `magic` leaves a part that
//! nobody can attach to; making it again is allowed to whoever owns the memory.

mod error;
mod header;
mod queue;

pub use error::{AttachError, ClaimError, Corrupt};
pub use header::{End, Kind, PartHeader};
pub(crate) use header::{
    Expected, Facts, LINE, Line, SITES, check_region, data_of, decode_owner, layout_hash, owner_of,
    release_owner,
};
pub use queue::QueueDescriptor;
crate::sync::with_read_modify_write! {
    pub(crate) use header::{claim_owner, recover_owner};
}

/// How far the memory's other writers are believed.
pub trait Trust: sealed::Sealed + 'static {
    /// Whether values may be referred to in place.
    const IN_PLACE: bool;
}

/// Every writer of this memory keeps the protocol: values are read and written in
/// place.
#[derive(Debug)]
pub enum Trusted {}

/// Anything may be written to this memory at any time: values are copied, by
/// accesses that may race, and only then looked at.
#[derive(Debug)]
pub enum Untrusted {}

impl Trust for Trusted {
    const IN_PLACE: bool = true;
}
impl Trust for Untrusted {
    const IN_PLACE: bool = false;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Trusted {}
    impl Sealed for super::Untrusted {}
}

/// What may be passed between processes by value: any bytes are a valid value,
/// there is no padding, nothing in it changes behind a shared reference.
///
/// And it is `Copy`: after a death the same element may be seen twice.
///
/// Implemented for everything that has zerocopy's three traits; derive those.
pub trait Shareable:
    zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable + Copy + Send + 'static
{
}
impl<T> Shareable for T where
    T: zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable + Copy + Send + 'static
{
}
