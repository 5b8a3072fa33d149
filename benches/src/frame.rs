//! What a frame carries: written whole and read whole, the same way for every ring.

use std::hint::black_box;
use std::mem::MaybeUninit;
use std::ptr;

/// The bytes that all frames of `N` bytes share.
pub struct Template<const N: usize> {
    bytes: Box<[u8; N]>,
    /// Exclusive or of the words behind the counter.
    fold: u64,
}

impl<const N: usize> Template<N> {
    /// A template of bytes that no word of repeats.
    #[must_use]
    pub fn new() -> Self {
        const { assert!(N >= 8 && N.is_multiple_of(8), "whole words, the first a counter") };
        let mut bytes: Box<[u8; N]> = vec![0; N].try_into().expect("N bytes");
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for word in bytes[8..].as_chunks_mut::<8>().0 {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            *word = state.to_ne_bytes();
        }
        let fold = fold(&bytes);
        // Else the compiler may work out the bytes and write them without reading any.
        Self { bytes: black_box(bytes), fold: black_box(fold) }
    }

    /// The frame of that number.
    #[inline]
    #[must_use]
    pub fn frame(&self, counter: u64) -> Frame<'_, N> {
        Frame { template: self, counter }
    }
}

impl<const N: usize> Default for Template<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// One frame: a counter, then the template's bytes.
#[derive(Clone, Copy)]
pub struct Frame<'a, const N: usize> {
    template: &'a Template<N>,
    counter: u64,
}

impl<const N: usize> Frame<'_, N> {
    /// Its number.
    #[inline]
    #[must_use]
    pub fn number(self) -> u64 {
        self.counter
    }

    /// Writes the frame, every byte of it.
    #[inline]
    pub fn fill(self, into: &mut [MaybeUninit<u8>; N]) {
        let (counter, rest) = into.split_at_mut(8);
        counter.write_copy_of_slice(&self.counter.to_ne_bytes());
        rest.write_copy_of_slice(&self.template.bytes[8..]);
    }

    /// Writes the frame at the head of an item that is as long or longer, then zeros.
    #[inline]
    pub fn fill_item<const SLOT: usize>(self, item: &mut MaybeUninit<[u8; SLOT]>) {
        const { assert!(N <= SLOT) };
        // SAFETY: the same bytes, none of which need be initialised in either type.
        let bytes = unsafe { &mut *ptr::from_mut(item).cast::<[MaybeUninit<u8>; SLOT]>() };
        let (payload, rest) = bytes.split_at_mut(N);
        self.fill(payload.as_mut_array().expect("split there"));
        rest.fill(MaybeUninit::new(0));
    }

    /// The frame as an item.
    #[inline]
    #[must_use]
    pub fn item<const SLOT: usize>(self) -> [u8; SLOT] {
        let mut item = MaybeUninit::uninit();
        self.fill_item(&mut item);
        // SAFETY: `fill_item` leaves no byte uninitialised.
        unsafe { item.assume_init() }
    }

    /// As [`check`](Self::check), of the head of an item.
    #[inline]
    pub fn check_item<const SLOT: usize>(self, item: &[u8; SLOT]) {
        const { assert!(N <= SLOT) };
        self.check(item.first_chunk().expect("as long or longer"));
    }

    /// Reads every byte, and stops the program unless they are this frame's.
    ///
    /// # Panics
    ///
    /// When the bytes are another frame's, or none.
    #[inline]
    pub fn check(self, bytes: &[u8; N]) {
        let counter = u64::from_ne_bytes(*bytes.first_chunk().expect("eight bytes at least"));
        // The words are folded before the counter is looked at, so that none is skipped.
        let whole = fold(bytes) == self.template.fold ^ self.counter;
        if !whole || counter != self.counter {
            wrong(self.counter, counter);
        }
    }
}

#[inline]
fn fold<const N: usize>(bytes: &[u8; N]) -> u64 {
    let words = bytes.as_chunks::<8>().0.iter();
    words.fold(0, |all, word| all ^ u64::from_ne_bytes(*word))
}

#[cold]
#[inline(never)]
fn wrong(want: u64, got: u64) -> ! {
    panic!("frame {want} came torn, or as frame {got}");
}
