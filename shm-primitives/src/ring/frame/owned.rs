//! The ring with its memory.

use super::layout::{FrameRingRef, MAX_CAPACITY, Options, Words};
use super::{Checksum, Packing, Reader, Writer};
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
    /// An empty ring whose frames are packed in lines, or densely if `BYTES` is less than 512,
    /// and carry no checksum.
    pub const fn new() -> Self {
        let packing = if BYTES < 512 { Packing::Dense } else { Packing::Lines };
        Self::with(packing, Checksum::None)
    }

    /// An empty ring with these options.
    ///
    /// # Panics
    ///
    /// If frames are to be packed in lines and `BYTES` is less than 512: at compile time, in a
    /// `static`.
    pub const fn with(packing: Packing, checksum: Checksum) -> Self {
        let options = Options::new(BYTES as u32).packing(packing).checksum(checksum);
        assert!(options.is_valid(), "too small to pack in lines");
        const {
            assert!(
                BYTES.is_power_of_two() && BYTES >= 64 && BYTES <= MAX_CAPACITY as usize,
                "BYTES must be a power of two from 64 to 2^30"
            );
        }
        Self { words: Words::new(options), data: UnsafeCell::new([0; BYTES]) }
    }

    fn raw(&self) -> FrameRingRef<'_> {
        // Our own header: what `with` wrote.
        let word = self.words.part.options();
        let options = Options::from_word(BYTES as u32, word).unwrap_or(Options::new(BYTES as u32));
        FrameRingRef {
            words: NonNull::from(&self.words),
            // SAFETY: the array's own bytes, at offset 256 and thus aligned to 8, valid as
            // long as the borrow that the result carries.
            data: unsafe { Bytes::new(self.data.get().cast(), BYTES) },
            mask: BYTES as u32 - 1,
            fill: options.packing.fill(),
            checksum: options.checksum,
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
