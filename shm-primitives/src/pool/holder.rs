//! The subscriber's end.

use super::marks::{IN_HAND, LENT, MarksRef, ahead_of, is_from, lent_at, state};
use super::{BORROW, BorrowError, ChunkHandle, GIVE_BACK, OutOfRange, PoolRef};
use crate::identity::OwnerId;
use crate::part::{End, Trust, Trusted, release_owner};
use crate::sync::{AtomicU32, Ordering::Relaxed, Shadow, copy_out, crash};
use core::fmt;
use core::ops::{Deref, Range};
use core::ptr::NonNull;

/// A subscriber's end of a pool: turns handles into the messages that they name.
///
/// Any number of messages can be borrowed at a time, each once. No operation blocks, allocates
/// or makes a system call. Threads may share it, and a message may be given back by another
/// thread than borrowed it.
#[derive(Debug)]
pub struct Holder<'a, M: Trust = Trusted> {
    pool: PoolRef<'a, M>,
    marks: MarksRef<'a, M>,
    owner: OwnerId,
}

impl<'a, M: Trust> Holder<'a, M> {
    pub(super) fn new(pool: PoolRef<'a, M>, marks: MarksRef<'a, M>, owner: OwnerId) -> Self {
        Self { pool, marks, owner }
    }

    /// For one whose owner is dead and who had `unread` of its queue left.
    pub(super) fn succeed(
        pool: PoolRef<'a, M>,
        marks: MarksRef<'a, M>,
        owner: OwnerId,
        unread: Range<u32>,
    ) -> Self {
        let (start, length) = (unread.start, unread.end.wrapping_sub(unread.start));
        for word in marks.all() {
            let mark = word.load(Relaxed);
            match state(mark) {
                // The publisher may still lend, beyond what was unread.
                LENT if !is_from(mark, start) => {
                    // Whoever was faster has cleared it.
                    let _ = word.compare_exchange(mark, 0, GIVE_BACK);
                }
                // The dead one's alone, so that stores suffice.
                IN_HAND => {
                    let again = ahead_of(mark, start) < length;
                    word.store(if again { lent_at(mark >> 2) } else { 0 }, GIVE_BACK);
                }
                _ => {}
            }
        }
        Self { pool, marks, owner }
    }

    /// The pool.
    pub fn pool(&self) -> PoolRef<'a, M> {
        self.pool
    }

    /// Chunks that this subscriber has, in hand or in its queue.
    pub fn held(&self) -> u32 {
        self.marks.held()
    }

    /// The message that `handle` names, to be read where it is. Dropping it gives it back, which
    /// is also what to do with a message that is not wanted.
    ///
    /// # Errors
    ///
    /// The handle is none of a chunk lent to this subscriber and not borrowed yet: see
    /// [`BorrowError`].
    #[inline]
    pub fn borrow(&self, handle: ChunkHandle) -> Result<Borrowed<'_, 'a, M>, BorrowError> {
        let ChunkHandle { pool, chunk, generation, length } = handle;
        let shape = self.pool.shape();
        if pool != self.pool.id() {
            return Err(BorrowError::WrongPool { found: pool, wanted: self.pool.id() });
        }
        let chunks = self.pool.chunks();
        let class = shape.class_of(chunk).and_then(|class| shape.classes().get(class));
        let (Some(class), Some(mark), Some(generation_word)) = (
            class,
            self.marks.all().get(chunk as usize),
            self.pool.generations().get(chunk as usize),
        ) else {
            return Err(BorrowError::NoSuchChunk { found: chunk, chunks });
        };
        if length > class.size {
            return Err(BorrowError::TooLong { found: length, size: class.size });
        }
        let seen = mark.load(BORROW);
        let current = generation_word.load(Relaxed);
        if current != generation {
            return Err(BorrowError::Stale { found: generation, wanted: current });
        }
        match state(seen) {
            LENT => {}
            IN_HAND => return Err(BorrowError::InHand),
            _ => return Err(BorrowError::NotLent),
        }
        // If the mark became 0 and the same again in between, the publisher took the chunk back
        // and lent it anew: still ours, with another generation than the handle's.
        match mark.compare_exchange(seen, seen | IN_HAND, BORROW) {
            Ok(_) => {}
            Err(0) => return Err(BorrowError::NotLent),
            Err(_) => return Err(BorrowError::InHand),
        }
        let shadow = self.pool.shadow(chunk);
        Shadow::read(shadow);
        let data = self.pool.chunk(class, chunk);
        Ok(Borrowed { holder: self, mark, shadow, data, length: length as usize, handle })
    }
}

impl<M: Trust> Drop for Holder<'_, M> {
    fn drop(&mut self) {
        if crash::dead() {
            return;
        }
        release_owner(self.marks.part(), End::Reading, self.owner);
    }
}

/// A message lent to this subscriber, until it is dropped: a slice of its bytes, where the
/// publisher is trusted.
pub struct Borrowed<'h, 'a, M: Trust = Trusted> {
    /// What keeps the marks this subscriber's.
    holder: &'h Holder<'a, M>,
    mark: &'a AtomicU32,
    shadow: &'a [Shadow],
    data: NonNull<u8>,
    length: usize,
    handle: ChunkHandle,
}

// SAFETY: it reads bytes that nobody writes while it lives (or copies them by accesses that may
// race), and at last stores one atomic word; from any thread.
unsafe impl<M: Trust> Send for Borrowed<'_, '_, M> {}
// SAFETY: as above.
unsafe impl<M: Trust> Sync for Borrowed<'_, '_, M> {}

impl<M: Trust> Borrowed<'_, '_, M> {
    /// Bytes of the message.
    #[expect(clippy::len_without_is_empty, reason = "a length of bytes, not of a collection")]
    pub fn len(&self) -> usize {
        self.length
    }

    /// The handle that it was borrowed by.
    pub fn handle(&self) -> ChunkHandle {
        self.handle
    }

    /// Copies the bytes from `offset` on to all of `buffer`.
    ///
    /// # Errors
    ///
    /// The message has fewer bytes; nothing was copied.
    pub fn read_at(&self, offset: usize, buffer: &mut [u8]) -> Result<(), OutOfRange> {
        let from = place_of(self.data, self.length, offset, buffer.len())?;
        // SAFETY: within the message, which lies in a chunk; `buffer` is a slice of this
        // process and cannot overlap it. Whoever else writes there races by their own atomics or
        // from another process, which copy_out allows.
        unsafe { copy_out(from.as_ptr(), buffer.as_mut_ptr(), buffer.len()) };
        Ok(())
    }

    /// The same as dropping it: the publisher may use the chunk again.
    pub fn give_back(self) {}
}

/// Where the `len` bytes from `offset` of a message of `length` bytes at `data` lie.
pub(super) fn place_of(
    data: NonNull<u8>,
    length: usize,
    offset: usize,
    len: usize,
) -> Result<NonNull<u8>, OutOfRange> {
    match offset.checked_add(len) {
        // SAFETY: within the message, which the caller has checked to lie in its chunk.
        Some(end) if end <= length => Ok(unsafe { data.add(offset) }),
        end => Err(OutOfRange { end: end.unwrap_or(usize::MAX), length }),
    }
}

impl Deref for Borrowed<'_, '_, Trusted> {
    type Target = [u8];
    #[inline(always)]
    fn deref(&self) -> &[u8] {
        // SAFETY: the length was checked to lie within the chunk, and while its mark is in hand
        // nobody who keeps the protocol writes there.
        unsafe { core::slice::from_raw_parts(self.data.as_ptr(), self.length) }
    }
}

impl<M: Trust> Drop for Borrowed<'_, '_, M> {
    #[inline]
    fn drop(&mut self) {
        if crash::dead() {
            return;
        }
        Shadow::read(self.shadow);
        self.mark.store(0, GIVE_BACK);
    }
}

impl<M: Trust> fmt::Debug for Borrowed<'_, '_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Borrowed")
            .field("handle", &self.handle)
            .field("owner", &self.holder.owner)
            .finish_non_exhaustive()
    }
}
