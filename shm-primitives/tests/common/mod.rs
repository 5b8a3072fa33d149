//! What the tests of several structures need.

// Each test binary uses its own part of it.
#![allow(dead_code)]

pub mod memory;

use shm_primitives::identity::{Dead, OwnerId};
use std::time::{Duration, Instant};

/// The owner with this record index, in its first generation.
pub fn owner(index: u32) -> OwnerId {
    OwnerId::new(index, 1).unwrap()
}

/// The proof that this owner is dead.
pub fn dead(index: u32) -> Dead<OwnerId> {
    // SAFETY: owners here are names given to handles, and every test that calls this
    // has forgotten the handle, or had it die, before.
    unsafe { Dead::assume(owner(index)) }
}

/// Lets other threads run while a condition does not hold, and fails the test instead
/// of hanging it.
pub struct Patience(Instant);

impl Patience {
    /// Far more than any of these tests takes, also under emulation.
    pub fn new() -> Self {
        Self(Instant::now() + Duration::from_secs(300))
    }

    /// Called where the condition does not hold yet.
    pub fn wait(&self) {
        std::thread::yield_now();
        assert!(Instant::now() < self.0, "waited in vain");
    }
}
