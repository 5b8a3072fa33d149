//! The word that gives a call up.

use crate::sync::{AtomicU32, Ordering::Relaxed};

/// Where one client tells the workers of one place that it gives a call up. See the
/// [module](crate::place).
#[derive(Clone, Copy, Debug)]
pub struct CancelWord<'a>(&'a AtomicU32);

impl<'a> CancelWord<'a> {
    /// The word itself.
    pub const fn new(word: &'a AtomicU32) -> Self {
        Self(word)
    }

    /// Gives call `seq` up, and forgets the one given up before. For the client. One whose id
    /// ends in 32 zeros, one of four thousand million, cannot be given up.
    pub fn ask(&self, seq: u64) {
        self.0.store(seq as u32, Relaxed);
    }

    /// Whether call `seq` is given up. One load; for who serves it. Asked about the calls of one
    /// tenant alone: another's have the same low halves.
    #[inline]
    pub fn is_asked(&self, seq: u64) -> bool {
        let low = seq as u32;
        low != 0 && self.0.load(Relaxed) == low
    }

    /// Gives nothing up. For who takes the client's place, before it calls.
    pub fn clear(&self) {
        self.0.store(0, Relaxed);
    }
}
