//! What the tests of several structures need.

// Each test binary uses its own part of it.
#![allow(dead_code)]

pub mod counter;
pub mod lane;
pub mod memory;
pub mod monitor;
pub mod park;
pub mod spsc;
pub mod table;

use shm_primitives::identity::{Dead, OwnerId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
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
/// of hanging it. Each thread of a test has a clone.
#[derive(Clone)]
pub struct Patience {
    until: Instant,
    failed: Arc<AtomicBool>,
}

impl Patience {
    /// Far more than any of these tests takes, also under emulation.
    pub fn new() -> Self {
        let until = Instant::now() + Duration::from_secs(300);
        Self { until, failed: Arc::default() }
    }

    /// Called where the condition does not hold yet.
    pub fn wait(&self) {
        std::thread::yield_now();
        assert!(!self.failed.load(Relaxed), "the other side failed");
        assert!(Instant::now() < self.until, "waited in vain");
    }
}

impl Drop for Patience {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.failed.store(true, Relaxed);
        }
    }
}
