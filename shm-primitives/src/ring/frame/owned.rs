//! The ring with its memory.

use super::layout::{FrameRingRef, MAX_CAPACITY, Options, Words};
use super::{Checksum, Reader, Writer};
use crate::sync::{Bytes, Ordering::Relaxed};
use core::cell::UnsafeCell;
use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;

/// A frame ring of `BYTES` bytes of data with its memory: a `static`, a field, a local.
///
/// `BYTES` is a power of two from 64 to 2³⁰, checked when the program is compiled. The
/// layout is the same as [`FrameRingRef::init_at`] makes.
#[repr(C)]
pub struct FrameRing<const BYTES: usize> {
    words: Words,
    data: UnsafeCell<[u8; BYTES]>,
}

// SAFETY: the ring's data is reached through its two ends alone, which keep apart what each
// may touch.
unsafe impl<const BYTES: usize> Sync for FrameRing<BYTES> {}

impl<const BYTES: usize> FrameRing<BYTES> {
    /// An empty ring whose frames carry no checksum.
    pub const fn new() -> Self {
        Self::with_checksum(Checksum::None)
    }

    /// An empty ring.
    pub const fn with_checksum(checksum: Checksum) -> Self {
        const {
            assert!(
                Options::new(BYTES as u32).is_valid() && BYTES <= MAX_CAPACITY as usize,
                "BYTES must be a power of two from 64 to 2^30"
            );
        }
        let options = Options::new(BYTES as u32).checksum(checksum);
        Self { words: Words::new(options), data: UnsafeCell::new([0; BYTES]) }
    }

    fn raw(&self) -> FrameRingRef<'_> {
        let checksum = Checksum::from_word(self.words.part.options()).unwrap_or_default();
        FrameRingRef {
            words: NonNull::from(&self.words),
            // SAFETY: the array's own bytes, at offset 256 and thus aligned to 8, valid as
            // long as the borrow that the result carries.
            data: unsafe { Bytes::new(self.data.get().cast(), BYTES) },
            mask: BYTES as u32 - 1,
            checksum,
            memory: PhantomData,
        }
    }

    /// The two ends, for two threads, or for the main loop and an interrupt. Both may be
    /// dropped and the ring split again: it goes on where it was.
    pub fn split(&mut self) -> (Writer<'_>, Reader<'_>) {
        let ring = self.raw();
        let consumed = self.words.consumed.load(Relaxed);
        self.words.released.store(consumed, Relaxed);
        // The positions are this process's own; a walk that fails would mean that somebody
        // else wrote here, and then the writer goes on where the last one stored.
        let write = ring.published_end().unwrap_or(self.words.write.load(Relaxed));
        (Writer::new(ring, write, consumed, None), Reader::new(ring, consumed, None))
    }

    /// The ring as others that reach its memory see it, to claim an end of.
    pub fn shared(&self) -> FrameRingRef<'_> {
        self.raw()
    }
}

impl<const BYTES: usize> Default for FrameRing<BYTES> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const BYTES: usize> fmt::Debug for FrameRing<BYTES> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameRing").field("capacity", &BYTES).finish_non_exhaustive()
    }
}
