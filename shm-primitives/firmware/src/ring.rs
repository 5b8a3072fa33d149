//! The ring under test, and the only file that names it.

pub use shm_primitives::ring::spsc::PopError;
use shm_primitives::ring::spsc::{self, SpscRing};

use crate::Item;

/// Places in the ring.
pub const CAPACITY: usize = 16;

/// The interrupt's end.
pub type Producer = spsc::Producer<'static, Item>;

/// The main loop's end.
pub type Consumer = spsc::Consumer<'static, Item>;

/// Splits the one ring of the image.
///
/// # Safety
///
/// At most one call in the life of the image.
pub unsafe fn split() -> (Producer, Consumer) {
    static mut RING: SpscRing<Item, CAPACITY> = SpscRing::new();
    // SAFETY: the caller calls once, so this is the only reference to the ring.
    unsafe { &mut *(&raw mut RING) }.split()
}
