//! Nanoseconds as a [`Park`](shm_primitives::wake::Park) wants them: 64 bits, kept by the timer's
//! interrupt in two words, for no core here stores 64 bits at once.
//!
//! The interrupt stores the low word, and when that wraps the high one. Between the two nobody
//! else runs, but it may itself come between two loads of the main loop. So that reads high, low
//! and high again: if the high word stayed, the low word belongs to it, before or after an
//! interrupt. If not, once more; the next wrap is four seconds away.
//!
//! The other way, to store the low word alone and count its wraps where it is read, would lose
//! one whenever nobody asks for the time during a whole turn of the word.

use core::sync::atomic::{AtomicU32, Ordering};

/// Begins just before a wrap, so that every run sees one.
static LOW: AtomicU32 = AtomicU32::new(u32::MAX - 10_000_000);
static HIGH: AtomicU32 = AtomicU32::new(0);

/// Lets so much time pass. For the timer's interrupt alone.
pub fn advance(nanoseconds: u32) {
    let (low, wrapped) = LOW.load(Ordering::Relaxed).overflowing_add(nanoseconds);
    LOW.store(low, Ordering::Relaxed);
    if wrapped {
        HIGH.store(HIGH.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

/// The time, to the last interrupt. For the main loop.
pub fn now() -> u64 {
    loop {
        // One core, which sees its interrupts in order; Acquire keeps the compiler from
        // reordering the loads.
        let high = HIGH.load(Ordering::Acquire);
        let low = LOW.load(Ordering::Acquire);
        if HIGH.load(Ordering::Acquire) == high {
            return u64::from(high) << 32 | u64::from(low);
        }
    }
}
