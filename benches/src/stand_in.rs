//! A plain ring of frames that stands in for ours until it exists: each side keeps the last it saw
//! of the other's index, and looks again only when that does not do.

use crate::frame::Frame;
use crate::region::Region;
use crate::traffic::{FrameReceiver, FrameSender};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

#[repr(C, align(128))]
struct Line(AtomicUsize);

const HEADER: usize = size_of::<[Line; 2]>();

/// Bytes that a ring of `capacity` bytes of frames takes.
pub fn frames_size(capacity: usize) -> usize {
    HEADER + capacity
}

/// One side's view: its own position, and the last it saw of the other's.
struct Side<'a, T> {
    own: &'a AtomicUsize,
    other: &'a AtomicUsize,
    at: usize,
    seen: usize,
    data: NonNull<T>,
    capacity: usize,
    region: PhantomData<&'a Region>,
}

// SAFETY: `data` is reached only between the two positions that the side owns, which the
// acquire and release of the positions pass from one side to the other.
unsafe impl<T: Send> Send for Side<'_, T> {}

impl<'a, T: Copy> Side<'a, T> {
    /// The writer's and the reader's; once to a region.
    fn pair(region: &'a Region, capacity: usize) -> (Self, Self) {
        assert!(capacity.is_power_of_two() && align_of::<T>() <= HEADER);
        assert!(region.size() >= HEADER + capacity * size_of::<T>());
        // SAFETY: a region is aligned to a page, zeroed, and long enough by the assertion.
        let [tail, head] = unsafe { region.base().cast::<[Line; 2]>().as_ref() };
        let side = |own: &'a Line, other: &'a Line| Self {
            own: &own.0,
            other: &other.0,
            at: 0,
            seen: 0,
            // SAFETY: inside the region, by the assertion.
            data: unsafe { region.base().add(HEADER) }.cast(),
            capacity,
            region: PhantomData,
        };
        (side(tail, head), side(head, tail))
    }

    #[inline]
    fn slot(&self, at: usize) -> NonNull<T> {
        // SAFETY: masked, so inside the data.
        unsafe { self.data.add(at & (self.capacity - 1)) }
    }

    /// As a writer: how many of `want` slots are free.
    #[inline]
    fn free(&mut self, want: usize) -> usize {
        if self.capacity - self.at.wrapping_sub(self.seen) < want {
            self.seen = self.other.load(Ordering::Acquire);
        }
        want.min(self.capacity - self.at.wrapping_sub(self.seen))
    }

    /// As a reader: how many of `want` slots are filled.
    #[inline]
    fn filled(&mut self, want: usize) -> usize {
        if self.seen.wrapping_sub(self.at) < want {
            self.seen = self.other.load(Ordering::Acquire);
        }
        want.min(self.seen.wrapping_sub(self.at))
    }

    #[inline]
    fn advance(&mut self, by: usize) {
        self.at = self.at.wrapping_add(by);
        self.own.store(self.at, Ordering::Release);
    }
}

/// Writes frames: a word of length before each, both in words.
pub struct FrameTx<'a>(Side<'a, u64>);

/// Reads frames.
pub struct FrameRx<'a>(Side<'a, u64>);

const SKIP: u64 = u64::MAX;

/// A ring of frames in a region of its own.
pub fn frames(region: &Region, capacity: usize) -> (FrameTx<'_>, FrameRx<'_>) {
    let (tx, rx) = Side::pair(region, capacity / size_of::<u64>());
    (FrameTx(tx), FrameRx(rx))
}

impl<const N: usize> FrameSender<N> for FrameTx<'_> {
    #[inline]
    fn try_send(&mut self, frame: Frame<'_, N>) -> bool {
        let ring = &mut self.0;
        let words = 1 + N / size_of::<u64>();
        let end = ring.capacity - (ring.at & (ring.capacity - 1));
        let skip = if end < words { end } else { 0 };
        if ring.free(skip + words) < skip + words {
            return false;
        }
        if skip != 0 {
            // SAFETY: free, by the check above.
            unsafe { ring.slot(ring.at).write(SKIP) };
        }
        let slot = ring.slot(ring.at.wrapping_add(skip));
        // SAFETY: the length and the payload are free and in one piece: the end is further
        // than that, or skipped. As `MaybeUninit`, no byte need be initialised.
        let into = unsafe {
            slot.write(N as u64);
            slot.add(1).cast::<[MaybeUninit<u8>; N]>().as_mut()
        };
        frame.fill(into);
        ring.advance(skip + words);
        true
    }
}

impl<const N: usize> FrameReceiver<N> for FrameRx<'_> {
    #[inline]
    fn try_recv(&mut self, frame: Frame<'_, N>) -> bool {
        let ring = &mut self.0;
        if ring.filled(1) == 0 {
            return false;
        }
        // SAFETY: a filled slot, and the writer fills whole frames and whole skips.
        let mut len = unsafe { ring.slot(ring.at).read() };
        let mut skip = 0;
        if len == SKIP {
            skip = ring.capacity - (ring.at & (ring.capacity - 1));
            // SAFETY: a frame follows each skip in the same advance.
            len = unsafe { ring.slot(ring.at.wrapping_add(skip)).read() };
        }
        let slot = ring.slot(ring.at.wrapping_add(skip));
        // SAFETY: that many bytes after the length were filled, in one piece.
        let bytes =
            unsafe { std::slice::from_raw_parts(slot.add(1).cast::<u8>().as_ptr(), len as usize) };
        frame.check(bytes.try_into().expect("a frame of that length"));
        ring.advance(skip + 1 + (len as usize).div_ceil(size_of::<u64>()));
        true
    }
}
