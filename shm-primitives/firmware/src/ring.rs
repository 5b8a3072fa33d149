//! The ring of fixed-size items under test, and the only file that names it.

use shm_primitives::ring::spsc::{self, PopError, SpscRing};
use shm_primitives::wake::{Deadline, Park, Waiter};

use crate::ends::{Sends, Takes};
use crate::witness::{self, Activity};

/// Places in the ring.
const CAPACITY: usize = 16;

/// Redundant, so that a torn or stale copy shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Item {
    words: [u32; 4],
}

impl Item {
    /// The one item that may come `n`th.
    pub fn nth(n: u32) -> Self {
        let mixed = n.wrapping_mul(0x9e37_79b9);
        Self { words: [n, mixed, !n, !mixed] }
    }
}

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
    let ring = &raw mut RING;
    // SAFETY: the caller calls once, so this is the only reference to the ring.
    unsafe { &mut *ring }.split()
}

impl Sends for Producer {
    fn send(&mut self, n: u32) -> bool {
        self.push(Item::nth(n)).is_ok()
    }
    fn all_taken(&mut self) -> bool {
        self.is_empty()
    }
}

impl Takes for Consumer {
    fn take(&mut self, n: u32) -> bool {
        let popped = witness::during(Activity::Taking, || self.pop());
        match popped {
            Ok(item) => assert_eq!(item, Item::nth(n), "item {n} is not the one sent"),
            Err(PopError::Empty) => return false,
            Err(PopError::Corrupt) => panic!("the ring says it is corrupt"),
        }
        true
    }

    fn wait(&mut self, waiter: &mut Waiter<'_>, park: &impl Park, deadline: Deadline) -> bool {
        Consumer::wait(self, waiter, park, deadline)
    }

    fn padded(&self) -> Option<u32> {
        None
    }
}
