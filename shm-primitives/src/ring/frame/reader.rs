//! The reader's end.

use super::layout::{Found, FrameRingRef};
use super::{CONSUMED, HEADER, OBSERVE, RELEASE, RELEASE_SHARE};
use crate::identity::OwnerId;
use crate::part::{Corrupt, End, Trust, Trusted, release_owner};
use crate::ring::lockstep::Lockstep;
use crate::sync::{Ordering::Relaxed, copy_out, crash, header_out};
use core::fmt;
use core::ops::Deref;
use core::slice;

/// The reader's end of a frame ring: one thread at a time.
///
/// No operation blocks, allocates, makes a system call, or uses a read-modify-write or a
/// fence. An end in lockstep with the other holds back for a fraction of a microsecond: see
/// [`ring`](crate::ring).
pub struct Reader<'a, M: Trust = Trusted> {
    ring: FrameRingRef<'a, M>,
    read: u32,
    /// What `released` holds.
    released: u32,
    lockstep: Lockstep,
    /// The length, with the header, of the frame at `read` that is held; 0 if none is.
    held: u32,
    owner: Option<OwnerId>,
    corrupt: Option<Corrupt>,
}

/// Why nothing was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadError {
    /// There is no frame.
    Empty,
    /// The buffer given is too small for the frame, which stays in the ring.
    TooSmall {
        /// Bytes the frame's payload has.
        needed: usize,
    },
    /// A length, a position or a checksum is wrong; see [`Reader::corruption`].
    Corrupt,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the ring is empty"),
            Self::TooSmall { needed } => {
                write!(f, "the frame has {needed} bytes, more than the buffer given")
            }
            Self::Corrupt => f.write_str("the ring's next frame is corrupt"),
        }
    }
}

impl core::error::Error for ReadError {}

impl<'a, M: Trust> Reader<'a, M> {
    pub(super) fn new(ring: FrameRingRef<'a, M>, read: u32, owner: Option<OwnerId>) -> Self {
        let lockstep = Lockstep::default();
        Self { ring, read, released: read, lockstep, held: 0, owner, corrupt: None }
    }

    /// Bytes of data the ring has.
    pub fn capacity(&self) -> usize {
        self.ring.capacity()
    }

    /// Bytes of the largest payload.
    pub fn max_payload(&self) -> usize {
        self.ring.max_payload()
    }

    /// Whether there is no frame to read. Once it says no, there stays one until it is
    /// released; a yes may be out of date at once.
    pub fn is_empty(&mut self) -> bool {
        self.next() == Err(ReadError::Empty)
    }

    /// Frames there are to read: a lower bound, for the writer goes on writing. Looks at the
    /// word of each, at most a lap of them; what is wrong beyond the next frame ends the count
    /// and is said when it is reached.
    #[doc(alias = "Size")]
    pub fn available(&mut self) -> usize {
        let Ok(mut payload) = self.next() else { return 0 };
        let (mut position, mut frames) = (self.read, 0);
        let capacity = self.ring.capacity() as u32;
        loop {
            frames += 1;
            position = self.ring.after(position, payload);
            match self.frame_at(position) {
                Some((at, length)) if at.wrapping_sub(self.read) < capacity => {
                    (position, payload) = (at, length);
                }
                _ => return frames,
            }
        }
    }

    /// Position and payload's length of the frame at `position` or behind padding there; `None`
    /// if there is none or the words are wrong.
    fn frame_at(&self, mut position: u32) -> Option<(u32, u32)> {
        // The second may be behind padding; padding behind padding is wrong.
        for _ in 0..2 {
            match self.ring.word(position).load(OBSERVE) {
                0 => return None,
                word => match self.ring.decode(position, word).ok()? {
                    Found::Frame { payload } => return Some((position, payload)),
                    Found::Padding(padding) => position = position.wrapping_add(padding),
                },
            }
        }
        None
    }

    /// What was found wrong with the ring, once it was. The handle stays as it is and reads
    /// nothing more.
    pub fn corruption(&self) -> Option<Corrupt> {
        self.corrupt
    }

    #[cold]
    fn poison(&mut self, corrupt: Corrupt) -> ReadError {
        self.corrupt = Some(corrupt);
        ReadError::Corrupt
    }

    /// The payload's length of the frame at the reader's position, past padding.
    #[inline(always)]
    fn next(&mut self) -> Result<u32, ReadError> {
        if self.corrupt.is_some() {
            return Err(ReadError::Corrupt);
        }
        let word = self.ring.word(self.read).load(OBSERVE);
        if word == 0 {
            self.lockstep.missed();
            self.give_back();
            return Err(ReadError::Empty);
        }
        if self.lockstep.is_waiting() {
            self.lockstep.found(false);
        }
        match self.ring.decode(self.read, word) {
            Ok(Found::Frame { payload }) => Ok(payload),
            Ok(Found::Padding(padding)) => self.next_after(padding),
            Err(corrupt) => Err(self.poison(corrupt)),
        }
    }

    /// The same behind padding, at the start of the data.
    #[cold]
    fn next_after(&mut self, padding: u32) -> Result<u32, ReadError> {
        let position = self.read.wrapping_add(padding);
        let word = self.ring.word(position).load(OBSERVE);
        // The frame was there before its padding was published.
        match self.ring.decode(position, word) {
            Ok(Found::Frame { payload }) => {
                self.read = position;
                Ok(payload)
            }
            Ok(Found::Padding(padding)) => Err(self.poison(Corrupt {
                what: "padding after padding",
                found: padding,
                limit: 0,
            })),
            Err(corrupt) => Err(self.poison(corrupt)),
        }
    }

    #[inline(always)]
    fn give_back(&mut self) {
        if self.released != self.read {
            self.released = self.read;
            self.ring.words().released.store(self.read, RELEASE);
        }
    }

    /// Leaves a frame with `payload` bytes behind.
    #[inline(always)]
    fn advance(&mut self, payload: u32) {
        self.held = 0;
        self.read = self.ring.after(self.read, payload);
        self.ring.words().consumed.store(self.read, CONSUMED);
        if self.read.wrapping_sub(self.released) > self.ring.capacity() as u32 / RELEASE_SHARE {
            self.give_back();
        }
    }

    fn check_sum(&mut self, stored: u32, payload: &[u8]) -> Result<(), ReadError> {
        let computed = self.ring.checksum().of(payload);
        if stored != computed {
            let corrupt = Corrupt { what: "checksum of a frame", found: stored, limit: computed };
            return Err(self.poison(corrupt));
        }
        Ok(())
    }

    fn stored_checksum(&self) -> u32 {
        self.ring.data().word(self.ring.offset(self.read) + 4).load(Relaxed)
    }

    /// Copies the payload of the next frame to the start of `buffer` and releases the frame;
    /// its length.
    ///
    /// # Errors
    ///
    /// See [`ReadError`]; the frame stays in the ring.
    pub fn pop_into(&mut self, buffer: &mut [u8]) -> Result<usize, ReadError> {
        let payload = self.next()?;
        let length = payload as usize;
        let Some(buffer) = buffer.get_mut(..length) else {
            return Err(ReadError::TooSmall { needed: length });
        };
        let stored = self.stored_checksum();
        let offset = self.ring.offset(self.read) + HEADER as usize;
        self.ring.data().reading(offset, length);
        let from = self.ring.data().at(offset);
        if M::IN_PLACE {
            // SAFETY: the frame was checked to lie within the data, is published and not given
            // back; `buffer` is a slice of this process and cannot overlap it.
            unsafe { buffer.as_mut_ptr().copy_from_nonoverlapping(from, length) };
        } else {
            // SAFETY: as above; others may write there, which copy_out allows.
            unsafe { copy_out(from, buffer.as_mut_ptr(), length) };
        }
        self.check_sum(stored, buffer)?;
        self.advance(payload);
        Ok(length)
    }

    /// Leaves up to `count` frames behind, unread and unchecked but for their lengths, and at most
    /// a lap of them; how many there were. What recovery does with a frame that killed its reader.
    #[doc(alias = "ForceAdvanceReadIndex")]
    pub fn skip(&mut self, count: usize) -> usize {
        let mut skipped = 0;
        let begun = self.read;
        // No more than a lap: a hostile one has no end.
        while skipped < count
            && self.read.wrapping_sub(begun) < self.ring.capacity() as u32
            && let Ok(payload) = self.next()
        {
            self.advance(payload);
            skipped += 1;
        }
        skipped
    }
}

impl<'a> Reader<'a, Trusted> {
    /// The next frame, read in place. [`release`](Frame::release) leaves it behind; dropping
    /// it keeps it in the ring.
    ///
    /// # Errors
    ///
    /// There is none, or it is corrupt.
    #[inline(always)]
    pub fn read(&mut self) -> Result<Frame<'_, 'a>, ReadError> {
        let payload = self.next()?;
        let offset = self.ring.offset(self.read) + HEADER as usize;
        self.ring.data().reading(offset, payload as usize);
        if self.ring.checksum() != super::Checksum::None {
            let stored = self.stored_checksum();
            let data = self.ring.data().at(offset);
            // SAFETY: the frame was checked to lie within the data and is published.
            let bytes = unsafe { slice::from_raw_parts(data, payload as usize) };
            self.check_sum(stored, bytes)?;
        }
        Ok(Frame { reader: self, offset, payload })
    }

    /// Leaves the frame behind that was [held](Frame::hold), without looking at it again; false, and
    /// nothing else, if none is: it was left behind in another way.
    #[inline(always)]
    pub fn release_held(&mut self) -> bool {
        let held = self.held;
        if held == 0 {
            return false;
        }
        let (offset, payload) = (self.ring.offset(self.read) + HEADER as usize, held - HEADER);
        self.ring.data().reading(offset, payload as usize);
        self.advance(payload);
        true
    }
}

crate::sync::with_read_modify_write! {
    // What a channel needs, which exists where ends are claimed.
    impl<M: Trust> Reader<'_, M> {
        /// Keeps the end although the handle is dropped: as if its owner had died here.
        pub(crate) fn keep(&mut self) {
            self.owner = None;
        }
    }
}

impl<M: Trust> Drop for Reader<'_, M> {
    fn drop(&mut self) {
        if crash::dead() {
            return;
        }
        if let Some(owner) = self.owner {
            release_owner(&self.ring.words().part, End::Reading, owner);
        }
    }
}

// SAFETY: the handle is the only one of its end and moves with its thread; its pointers are
// valid anywhere.
unsafe impl<M: Trust> Send for Reader<'_, M> {}

impl<M: Trust> fmt::Debug for Reader<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("capacity", &self.capacity())
            .field("read", &self.read)
            .field("owner", &self.owner)
            .field("corrupt", &self.corrupt)
            .finish_non_exhaustive()
    }
}

/// A frame lent by [`Reader::read`], still in the ring: a slice of its payload.
#[derive(Debug)]
pub struct Frame<'f, 'a> {
    reader: &'f mut Reader<'a, Trusted>,
    offset: usize,
    payload: u32,
}

impl Frame<'_, '_> {
    /// Bytes of its payload.
    #[inline(always)]
    pub fn size(&self) -> usize {
        self.payload as usize
    }

    /// A copy of its first `N` bytes, a multiple of 4; `None` if it has fewer. As
    /// [`copy_to`](Self::copy_to).
    #[inline(always)]
    pub fn head<const N: usize>(&self) -> Option<[u8; N]> {
        if self.size() < N {
            return None;
        }
        let payload = self.reader.ring.data().at(self.offset);
        // SAFETY: as in `copy_to`: the frame has so many bytes. Data is aligned to 8, frames begin at
        // multiples of 8 in it, and their headers have 8 bytes.
        Some(unsafe { header_out(payload) })
    }

    /// Copies the payload from byte `from` on to the start of `buffer`, as much as there is and
    /// fits; how much. Whoever is not sure of the writer reads a frame by this alone: bytes that
    /// change meanwhile are garbage, and nothing worse.
    #[inline]
    pub fn copy_to(&self, from: usize, buffer: &mut [u8]) -> usize {
        let from = from.min(self.size());
        let length = buffer.len().min(self.size() - from);
        let payload = self.reader.ring.data().at(self.offset + from);
        // SAFETY: within the frame (just cut to it), which was checked to lie within the data;
        // `buffer` is a slice of this process and cannot overlap it; others may write there.
        unsafe { copy_out(payload, buffer.as_mut_ptr(), length) };
        length
    }

    /// Leaves the frame behind: its bytes may be overwritten.
    #[inline(always)]
    pub fn release(self) {
        self.reader.ring.data().reading(self.offset, self.payload as usize);
        self.reader.advance(self.payload);
    }

    /// Keeps it in the ring without borrowing the reader any longer, which leaves it behind by
    /// [`Reader::release_held`].
    #[inline(always)]
    pub fn hold(self) {
        self.reader.held = self.payload + HEADER;
    }
}

impl Deref for Frame<'_, '_> {
    type Target = [u8];
    #[inline(always)]
    fn deref(&self) -> &[u8] {
        let data = self.reader.ring.data().at(self.offset);
        // SAFETY: the frame was checked to lie within the data, is published, and is not given
        // back while this lives.
        unsafe { slice::from_raw_parts(data, self.payload as usize) }
    }
}
