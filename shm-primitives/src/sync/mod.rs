//! The one door to atomics, fences, raw memory and spin hints.
//!
//! Everything in this crate that touches memory another core or process may
//! touch goes through here, and so can yours. Behind the door stands
//!
//! - [`core::sync::atomic`] in ordinary builds. Loads and stores are always
//!   core's; on targets without compare-and-swap the read-modify-writes are
//!   portable-atomic's, and exist only with the feature `critical-section` or
//!   `unsafe-assume-single-core`;
//! - [loom](https://docs.rs/loom) under `--cfg loom` with the feature `loom`
//!   (a dependency's models are never turned on by accident: the cfg alone, or
//!   the feature alone, changes nothing). [`LOOM`] tells which it is, so that a
//!   model can assert that it models.
//!
//! The same door carries the two instruments that prove the rest:
//!
//! - **Named orderings.** An access that orders anything names a [`Site`]. Under
//!   loom, `LOOM_WEAKEN=<site>=<ordering>` weakens that one site at run time,
//!   and the model listed at the site has to fail.
//! - **Crash points.** Under `--cfg crash_points` every store, read-modify-write
//!   and wake is a step at which `crash::run` can let its thread die.
//!
//! Raw memory that loom cannot see is shadowed: a [`Shadow`] stands for a slot or
//! a granule, takes no space in ordinary builds, and reports a data race under
//! loom.

mod atomic;
mod bytes;
pub mod crash;
mod order;
mod shadow;

pub use atomic::{AtomicU32, fence, spin_loop};
pub(crate) use bytes::{Bytes, copy_in, copy_out, header_in, header_out, prefetch_for_write};
pub(crate) use order::sites;
pub use order::{Order, Ordering, Shown, Site, Weaker};
pub use shadow::Shadow;

/// Whether the atomics of this build are loom's.
///
/// A model asserts it first, as `const { assert!(LOOM) }`: compiled without its cfg it would
/// explore nothing and pass.
///
/// Under loom atomics are larger and are not bytes. A structure in a region is given its words
/// by `zero_at` before it is created; a [`WakeWord`](crate::wake::WakeWord) or a monitor is made
/// as a value and shared by reference; types that are byte arrays, such as
/// [`FrameRing`](crate::ring::frame) with its memory, and functions that take memory from another
/// process do not exist.
pub const LOOM: bool = cfg!(all(loom, any(test, feature = "loom")));

/// Declares a function `const` where the atomics can be made in const context,
/// which loom's cannot.
macro_rules! const_unless_loom {
    ($(#[$meta:meta])* $vis:vis fn $($rest:tt)*) => {
        #[cfg(not(all(loom, any(test, feature = "loom"))))]
        $(#[$meta])* $vis const fn $($rest)*
        #[cfg(all(loom, any(test, feature = "loom")))]
        $(#[$meta])* $vis fn $($rest)*
    };
}
pub(crate) use const_unless_loom;

/// Keeps items that need a read-modify-write out of builds for targets that
/// have none and were not given one.
macro_rules! with_read_modify_write {
    ($($item:item)*) => { $(
        #[cfg(any(target_has_atomic = "32", feature = "critical-section", feature = "unsafe-assume-single-core"))]
        $item
    )* };
}
pub(crate) use with_read_modify_write;
