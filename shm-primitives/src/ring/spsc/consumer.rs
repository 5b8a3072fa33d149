//! The consumer's end.

use super::layout::SpscRingRef;
use super::{CONSUMED, OBSERVE, RELEASE, RELEASE_SHARE};
use crate::identity::OwnerId;
use crate::part::{Corrupt, End, Trust, Trusted, release_owner};
use crate::ring::lockstep::{Lockstep, enough};
use crate::sync::{Shadow, copy_out, crash};
use core::fmt;
use core::marker::PhantomData;
use core::mem::{MaybeUninit, size_of};
use core::ops::Deref;
use core::slice;

/// The consumer's end of a ring: one thread at a time.
///
/// No operation blocks, allocates, makes a system call, or uses a read-modify-write or a
/// fence. An end in lockstep with the other holds back for a fraction of a microsecond: see
/// [`ring`](crate::ring).
pub struct Consumer<'a, T, M: Trust = Trusted> {
    ring: SpscRingRef<'a, T, M>,
    read: u32,
    /// The position up to which it pops without a thought: the limit, or where `released` is
    /// due.
    stop: u32,
    /// The position it may read up to without looking again.
    limit: u32,
    /// What `released` holds.
    released: u32,
    lockstep: Lockstep,
    owner: Option<OwnerId>,
    corrupt: Option<Corrupt>,
}

/// Why nothing was popped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PopError {
    /// There is nothing in the ring.
    Empty,
    /// The producer's position is impossible; see [`Consumer::corruption`].
    Corrupt,
}

impl fmt::Display for PopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the ring is empty",
            Self::Corrupt => "the ring's producer position is corrupt",
        })
    }
}

impl core::error::Error for PopError {}

impl<'a, T, M: Trust> Consumer<'a, T, M> {
    pub(super) fn new(ring: SpscRingRef<'a, T, M>, read: u32, owner: Option<OwnerId>) -> Self {
        Self {
            ring,
            read,
            stop: read,
            limit: read,
            released: read,
            lockstep: Lockstep::default(),
            owner,
            corrupt: None,
        }
    }

    /// Elements the ring holds.
    pub fn capacity(&self) -> usize {
        self.ring.capacity()
    }

    /// The position of the next element to be popped: how many ever were, wrapping.
    pub fn position(&self) -> u32 {
        self.read
    }

    /// Whether there is nothing to pop. Once it says no, there stays something until
    /// the next pop; a yes may be out of date at once. A corrupt ring has nothing to pop: a
    /// condition to wait for asks for [`corruption`](Self::corruption) too, as
    /// [`wait`](Self::wait) does.
    pub fn is_empty(&mut self) -> bool {
        !self.has_some()
    }

    /// Elements in the ring: a lower bound, for the producer goes on pushing. 0 when
    /// corrupt.
    #[doc(alias = "Size")]
    pub fn len(&mut self) -> usize {
        self.look();
        self.ready() as usize
    }

    /// Places free: an upper bound, for the producer goes on pushing.
    #[doc(alias = "FreeSpace")]
    pub fn free(&mut self) -> usize {
        self.capacity() - self.len()
    }

    /// Whether no place is free. May be out of date at once when it says no; stays
    /// true until the next pop.
    pub fn is_full(&mut self) -> bool {
        self.len() == self.capacity()
    }

    /// What was found wrong with the producer's position, once it was. The handle
    /// stays as it is and pops nothing more.
    pub fn corruption(&self) -> Option<Corrupt> {
        self.corrupt
    }

    #[inline(always)]
    fn ready(&self) -> u32 {
        self.limit.wrapping_sub(self.read)
    }

    #[inline(always)]
    fn has_some(&mut self) -> bool {
        self.read != self.stop || self.proceed()
    }

    /// Goes on to the next share of the ring.
    #[inline(never)]
    fn proceed(&mut self) -> bool {
        // A corrupt ring is left untouched.
        if self.corrupt.is_some() {
            return false;
        }
        self.give_back();
        if self.ready() == 0 && !self.look() {
            return false;
        }
        self.stop = self.read.wrapping_add(self.ready().min(self.share()));
        true
    }

    /// Elements it pops at the most before it stores `released`.
    #[inline(always)]
    fn share(&self) -> u32 {
        self.ring.mask() / RELEASE_SHARE + 1
    }

    #[inline(always)]
    fn give_back(&mut self) {
        if self.released != self.read {
            self.released = self.read;
            self.ring.header().released.store(self.read, RELEASE);
        }
    }

    /// Looks how far the producer is.
    fn look(&mut self) -> bool {
        let found = self.look_once();
        if found == 0 {
            self.lockstep.missed();
        } else if self.lockstep.found(found >= enough(self.ring.mask() + 1, size_of::<T>())) {
            self.look_once();
        }
        self.ready() != 0
    }

    /// The elements seen.
    fn look_once(&mut self) -> u32 {
        if self.corrupt.is_some() {
            return 0;
        }
        let write = self.ring.header().write.load(OBSERVE);
        let used = write.wrapping_sub(self.read);
        // The stop is never beyond the limit, which only a hostile producer takes back.
        self.stop = self.read;
        if used > self.ring.mask() + 1 {
            self.corrupt = Some(Corrupt {
                what: "write position ahead of the consumer's by",
                found: used,
                limit: self.ring.mask() + 1,
            });
            self.limit = self.read;
            return 0;
        }
        self.limit = write;
        used
    }

    #[cold]
    fn nothing(&self) -> PopError {
        if self.corrupt.is_some() { PopError::Corrupt } else { PopError::Empty }
    }

    /// Leaves the first `count` elements behind.
    #[inline(always)]
    fn advance(&mut self, count: u32) {
        self.read = self.read.wrapping_add(count);
        self.ring.header().consumed.store(self.read, CONSUMED);
    }

    /// The same, past the stop.
    #[inline(always)]
    fn advance_far(&mut self, count: u32) {
        self.advance(count);
        self.stop = self.read;
        if self.ready() == 0 || self.read.wrapping_sub(self.released) >= self.share() {
            self.give_back();
        }
    }

    /// Copies the element at `position` out.
    #[inline(always)]
    fn take(&mut self, position: u32) -> T {
        let place = self.ring.slot(position);
        Shadow::read(self.ring.shadows(position, 1));
        if M::IN_PLACE {
            // SAFETY: the element was published and is not given back: the producer
            // leaves its place alone. It is moved out once, for `read` goes on.
            unsafe { place.read() }
        } else {
            let mut value = MaybeUninit::<T>::uninit();
            // SAFETY: the place is valid for reads of a T; any bytes are a valid T,
            // for all behind an untrusted handle are Shareable.
            unsafe {
                copy_out(place.cast().as_ptr(), value.as_mut_ptr().cast(), size_of::<T>());
                value.assume_init()
            }
        }
    }

    /// Takes the element at the head of the ring.
    ///
    /// # Errors
    ///
    /// The ring is empty or corrupt.
    #[doc(alias = "dequeue")]
    #[inline]
    pub fn pop(&mut self) -> Result<T, PopError> {
        if !self.has_some() {
            return Err(self.nothing());
        }
        let value = self.take(self.read);
        self.advance(1);
        Ok(value)
    }

    /// Copies as many elements into `values` as there are, up to its length; answers
    /// how many. 0 if empty or corrupt.
    pub fn pop_slice(&mut self, values: &mut [T]) -> usize
    where
        T: Copy,
    {
        if values.len() > self.ready() as usize {
            self.look();
        }
        let count = values.len().min(self.ready() as usize);
        if count == 0 {
            return 0;
        }
        let (head, tail) = values[..count].split_at_mut(count.min(self.until_wrap(self.read)));
        self.copy_from(self.read, head);
        self.copy_from(self.read.wrapping_add(head.len() as u32), tail);
        self.advance_far(count as u32);
        count
    }

    /// Copies the elements from `position` on, which do not wrap, into `values`.
    fn copy_from(&self, position: u32, values: &mut [T])
    where
        T: Copy,
    {
        if values.is_empty() {
            return;
        }
        Shadow::read(self.ring.shadows(position, values.len()));
        let from = self.ring.slot(position).as_ptr();
        if M::IN_PLACE {
            // SAFETY: these elements are published and not given back; `values` is a
            // slice of this process and cannot overlap them.
            unsafe { values.as_mut_ptr().copy_from_nonoverlapping(from, values.len()) };
        } else {
            // SAFETY: the places are valid for reads; see `take`.
            unsafe { copy_out(from.cast(), values.as_mut_ptr().cast(), size_of_val(values)) };
        }
    }

    /// Drops up to `count` elements at the head of the ring unread; answers how many
    /// there were. What recovery does with an element that killed its consumer.
    #[doc(alias = "ForceAdvanceReadIndex")]
    pub fn force_advance(&mut self, count: usize) -> usize {
        if count > self.ready() as usize {
            self.look();
        }
        let count = count.min(self.ready() as usize);
        if core::mem::needs_drop::<T>() {
            for _ in 0..count {
                let value = self.take(self.read);
                self.advance_far(1);
                drop(value);
            }
        } else if count != 0 {
            self.advance_far(count as u32);
        }
        count
    }

    /// Elements from `position` to the end of the ring's memory.
    #[inline(always)]
    fn until_wrap(&self, position: u32) -> usize {
        self.ring.capacity() - (position & self.ring.mask()) as usize
    }
}

impl<'a, T> Consumer<'a, T, Trusted> {
    /// The element at the head of the ring, left in it.
    ///
    /// # Errors
    ///
    /// The ring is empty or corrupt.
    #[inline]
    pub fn peek(&mut self) -> Result<&T, PopError> {
        if !self.has_some() {
            return Err(self.nothing());
        }
        Shadow::read(self.ring.shadows(self.read, 1));
        // SAFETY: published and not given back while the reference lives, for giving
        // back takes &mut self.
        Ok(unsafe { self.ring.slot(self.read).as_ref() })
    }

    /// Lends up to `max` elements that lie one after the other, to be read in place
    /// and then given back with [`release`](ReadGrant::release). Dropping the grant
    /// keeps them all in the ring.
    ///
    /// At the end of the ring's memory a grant is shorter than what there is; the
    /// next one goes on at its start.
    ///
    /// # Errors
    ///
    /// The ring is empty or corrupt.
    #[inline]
    pub fn read(&mut self, max: usize) -> Result<ReadGrant<'_, 'a, T>, PopError> {
        let max = max.min(self.until_wrap(self.read));
        if (self.ready() as usize) < max {
            self.look();
        }
        let count = max.min(self.ready() as usize);
        if count == 0 {
            return Err(self.nothing());
        }
        Shadow::read(self.ring.shadows(self.read, count));
        Ok(ReadGrant { count, consumer: self, elements: PhantomData })
    }
}

impl<T, M: Trust> Drop for Consumer<'_, T, M> {
    fn drop(&mut self) {
        if crash::dead() {
            return;
        }
        if let Some(owner) = self.owner {
            release_owner(&self.ring.header().part, End::Reading, owner);
        }
    }
}

// SAFETY: the handle is the only one of its end and moves with its thread; elements
// cross threads by value, for which T: Send. Its pointers are valid anywhere.
unsafe impl<T: Send, M: Trust> Send for Consumer<'_, T, M> {}

impl<T, M: Trust> fmt::Debug for Consumer<'_, T, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("capacity", &self.capacity())
            .field("read", &self.read)
            .field("owner", &self.owner)
            .field("corrupt", &self.corrupt)
            .finish_non_exhaustive()
    }
}

/// Elements lent by [`Consumer::read`], still in the ring: a slice of them.
///
/// Threads may share it only if they may share the elements:
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>() {}
/// shared::<shm_primitives::ring::spsc::ReadGrant<'_, '_, core::cell::Cell<u32>>>();
/// ```
#[derive(Debug)]
pub struct ReadGrant<'g, 'a, T> {
    consumer: &'g mut Consumer<'a, T, Trusted>,
    count: usize,
    /// It lends elements: whoever has a reference to it needs what a reference to them needs.
    elements: PhantomData<&'g mut [T]>,
}

impl<T> ReadGrant<'_, '_, T> {
    /// Gives the first `count` elements' places back, dropping them; more than were
    /// lent counts as all.
    #[inline]
    pub fn release(self, count: usize) {
        let count = count.min(self.count);
        Shadow::read(self.consumer.ring.shadows(self.consumer.read, self.count));
        self.consumer.force_advance(count);
    }
}

impl<T> Deref for ReadGrant<'_, '_, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        let first = self.consumer.ring.slot(self.consumer.read).as_ptr();
        // SAFETY: `count` published elements from here on do not wrap, and are not
        // given back while the grant lives.
        unsafe { slice::from_raw_parts(first, self.count) }
    }
}
