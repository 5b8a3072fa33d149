//! Lock-free structures that live in memory shared between cores or processes.
#![no_std]
#![deny(missing_docs, unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

#[cfg(any(test, crash_points, all(loom, feature = "loom")))]
extern crate std;

pub mod identity;
pub mod part;
pub mod region;
pub mod ring;
pub mod sync;

/// Every place whose memory ordering matters, with its partner and the model that
/// fails when it is weakened.
pub const SITES: &[&[sync::Site]] = &[part::SITES, ring::spsc::SITES, ring::frame::SITES];

/// All of [`SITES`], one after the other.
pub fn sites() -> impl Iterator<Item = &'static sync::Site> {
    SITES.iter().flat_map(|module| module.iter())
}
