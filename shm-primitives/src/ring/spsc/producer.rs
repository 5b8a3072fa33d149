//! The producer's end.

use super::layout::SpscRingRef;
use super::{PUBLISH, REUSE, SECOND_LOOK};
use crate::identity::OwnerId;
use crate::part::{Corrupt, End, LINE, Shareable, Trust, Trusted, release_owner};
use crate::ring::lockstep::{CACHES, Lockstep, enough};
use crate::sync::{Shadow, copy_in, crash, prefetch_for_write};
use core::fmt;
use core::marker::PhantomData;
use core::mem::{MaybeUninit, forget, size_of};
use core::ops::{Deref, DerefMut};
use core::slice;

/// How far ahead of itself a producer asks for lines to write, in bytes.
const AHEAD: usize = 512;

/// How many elements of `size` bytes a line is taken to hold, a power of two.
const fn places_in_line(size: usize) -> u32 {
    match LINE.checked_div(size) {
        Some(places) if places > 1 => 1 << places.ilog2(),
        Some(_) => 1,
        None => 1 << 16,
    }
}

/// The producer's end of a ring: one thread at a time.
///
/// No operation blocks, allocates, makes a system call, or uses a read-modify-write or a
/// fence. An end in lockstep with the other holds back for a fraction of a microsecond: see
/// [`ring`](crate::ring).
pub struct Producer<'a, T, M: Trust = Trusted> {
    ring: SpscRingRef<'a, T, M>,
    write: u32,
    /// The position up to which it pushes without a thought: the end of the line in hand, or
    /// the limit.
    stop: u32,
    /// The position it may write up to without looking again.
    limit: u32,
    lockstep: Lockstep,
    owner: Option<OwnerId>,
    corrupt: Option<Corrupt>,
}

/// Why nothing was pushed; the value comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PushError<T> {
    /// All places are taken.
    Full(T),
    /// The consumer's position is impossible; see [`Producer::corruption`].
    Corrupt(T),
}

impl<T> PushError<T> {
    /// The value that was not pushed.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(value) | Self::Corrupt(value) => value,
        }
    }
}

impl<T> fmt::Debug for PushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Corrupt(_) => "Corrupt(..)",
        })
    }
}

impl<T> fmt::Display for PushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the ring is full",
            Self::Corrupt(_) => "the ring's consumer position is corrupt",
        })
    }
}

impl<T> core::error::Error for PushError<T> {}

impl<'a, T, M: Trust> Producer<'a, T, M> {
    pub(super) fn new(
        ring: SpscRingRef<'a, T, M>,
        write: u32,
        released: u32,
        owner: Option<OwnerId>,
    ) -> Self {
        let limit = released.wrapping_add(ring.mask()).wrapping_add(1);
        let lockstep = Lockstep::default();
        Self { ring, write, stop: write, limit, lockstep, owner, corrupt: None }
    }

    /// Elements the ring holds.
    pub fn capacity(&self) -> usize {
        self.ring.capacity()
    }

    /// The position of the next element to be pushed: how many ever were, wrapping.
    pub fn position(&self) -> u32 {
        self.write
    }

    /// Whether there is no room for one more. Once it says no, there stays room
    /// until the next push; a yes may be out of date at once.
    pub fn is_full(&mut self) -> bool {
        !self.has_room()
    }

    /// Whether everything pushed has been popped. May be out of date at once when
    /// it says no; stays true until the next push.
    pub fn is_empty(&mut self) -> bool {
        self.len() == 0
    }

    /// Elements in the ring: an upper bound, for the consumer goes on popping.
    #[doc(alias = "Size")]
    pub fn len(&mut self) -> usize {
        self.capacity() - self.free()
    }

    /// Places free: a lower bound, for the consumer goes on popping. 0 when
    /// corrupt.
    #[doc(alias = "FreeSpace")]
    pub fn free(&mut self) -> usize {
        self.look_at(SECOND_LOOK, true);
        self.room() as usize
    }

    /// What was found wrong with the consumer's position, once it was. The handle
    /// stays as it is and pushes nothing more.
    pub fn corruption(&self) -> Option<Corrupt> {
        self.corrupt
    }

    #[inline(always)]
    fn room(&self) -> u32 {
        self.limit.wrapping_sub(self.write)
    }

    #[inline(always)]
    fn has_room(&mut self) -> bool {
        if CACHES {
            self.write != self.stop || self.proceed()
        } else {
            self.room() != 0 || self.look()
        }
    }

    /// Goes on to the next line of places.
    #[inline(never)]
    fn proceed(&mut self) -> bool {
        if self.room() == 0 && !self.look() {
            return false;
        }
        let places = const { places_in_line(size_of::<T>()) };
        let rest = places - (self.write & (places - 1));
        self.stop = self.write.wrapping_add(rest.min(self.room()));
        self.fetch_ahead(places);
        true
    }

    /// Asks for a line that will be written soon, if its places are known to be free: else it
    /// would be taken away from the consumer.
    #[inline(always)]
    fn fetch_ahead(&self, places: u32) {
        let ahead = const { if size_of::<T>() == 0 { 0 } else { (AHEAD / size_of::<T>()) as u32 } };
        if ahead != 0 && self.room() > ahead + places {
            let first = self.ring.slot(self.write.wrapping_add(ahead)).as_ptr().cast::<u8>();
            for offset in (0..size_of::<T>().max(LINE)).step_by(LINE) {
                prefetch_for_write(first.wrapping_add(offset));
            }
        }
    }

    /// Looks how far the consumer is: first where it says so seldom, then, before
    /// the ring is called full, where it says so always.
    #[cold]
    fn look(&mut self) -> bool {
        self.look_at(REUSE, false);
        if self.room() == 0 {
            self.look_at(SECOND_LOOK, true);
            if self.room() == 0 {
                self.lockstep.missed();
            } else if self
                .lockstep
                .found(self.room() >= enough(self.ring.mask() + 1, size_of::<T>()))
            {
                self.look_at(SECOND_LOOK, true);
            }
        }
        self.room() != 0
    }

    fn look_at(&mut self, site: crate::sync::Site, second: bool) {
        if self.corrupt.is_some() {
            return;
        }
        let header = self.ring.header();
        let read = if second { header.consumed.load(site) } else { header.released.load(site) };
        // The stop is never beyond the limit, which only a hostile consumer takes back.
        self.stop = self.write;
        let used = self.write.wrapping_sub(read);
        if used > self.ring.mask() + 1 {
            // `released` lags: places given back by `consumed` alone may be filled anew.
            if !second {
                return;
            }
            self.corrupt = Some(Corrupt {
                what: "write position ahead of the consumer's by",
                found: used,
                limit: self.ring.mask() + 1,
            });
            self.limit = self.write;
            return;
        }
        self.limit = read.wrapping_add(self.ring.mask()).wrapping_add(1);
    }

    #[cold]
    fn refuse<V>(&self, value: V) -> PushError<V> {
        if self.corrupt.is_some() { PushError::Corrupt(value) } else { PushError::Full(value) }
    }

    /// Publishes the next `count` elements.
    #[inline(always)]
    fn advance(&mut self, count: u32) {
        self.write = self.write.wrapping_add(count);
        self.ring.header().write.store(self.write, PUBLISH);
    }

    /// The same, past the stop.
    #[inline(always)]
    fn advance_far(&mut self, count: u32) {
        self.advance(count);
        self.stop = self.write;
    }

    /// The same for the places behind a grant of `count`: the next one will be like it.
    #[inline(always)]
    fn fetch_after(&self, count: usize) {
        if CACHES {
            let first = self.write.wrapping_add(count as u32);
            let free = self.limit.wrapping_sub(first) as usize;
            let bytes = (count.min(free) * size_of::<T>()).min(AHEAD);
            let line = self.ring.slot(first).as_ptr().cast::<u8>();
            for offset in (0..bytes).step_by(LINE) {
                prefetch_for_write(line.wrapping_add(offset));
            }
        }
    }

    /// Writes `value` to its place.
    #[inline(always)]
    fn put(&mut self, value: T) {
        let place = self.ring.slot(self.write);
        Shadow::write(self.ring.shadows(self.write, 1));
        if M::IN_PLACE {
            // SAFETY: the place is free (the caller checked) and thus ours alone
            // until `write` is stored.
            unsafe { place.write(value) };
        } else {
            // SAFETY: the place is valid for writes of a T; a value that is
            // Shareable, as all behind an untrusted handle are, has no drop and no
            // padding, so its bytes are all there is to it.
            unsafe { copy_in((&raw const value).cast(), place.cast().as_ptr(), size_of::<T>()) };
            forget(value);
        }
    }

    /// Puts `value` at the tail of the ring and publishes it.
    ///
    /// # Errors
    ///
    /// The ring is full or corrupt; the value comes back.
    #[doc(alias = "enqueue")]
    #[inline]
    pub fn push(&mut self, value: T) -> Result<(), PushError<T>> {
        if !self.has_room() {
            return Err(self.refuse(value));
        }
        self.put(value);
        self.advance(1);
        Ok(())
    }

    /// Makes a value at the tail of the ring and publishes it. The closure runs only
    /// if there is room; a panic in it pushes nothing.
    ///
    /// # Errors
    ///
    /// The ring is full or corrupt; the closure comes back.
    #[doc(alias = "PushEmplace")]
    #[inline]
    pub fn push_with<F: FnOnce() -> T>(&mut self, make: F) -> Result<(), PushError<F>> {
        if !self.has_room() {
            return Err(self.refuse(make));
        }
        self.put(make());
        self.advance(1);
        Ok(())
    }

    /// Copies as many of `values` as there is room for and publishes them at once;
    /// answers how many. 0 if full or corrupt.
    pub fn push_slice(&mut self, values: &[T]) -> usize
    where
        T: Copy,
    {
        if values.len() > self.room() as usize {
            self.look();
            self.look_at(SECOND_LOOK, true);
        }
        let count = values.len().min(self.room() as usize);
        let (head, tail) = values[..count].split_at(count.min(self.until_wrap(self.write)));
        self.copy_to(self.write, head);
        self.copy_to(self.write.wrapping_add(head.len() as u32), tail);
        if count != 0 {
            self.advance_far(count as u32);
        }
        count
    }

    /// Copies `values` to the places from `position` on, which do not wrap.
    fn copy_to(&mut self, position: u32, values: &[T])
    where
        T: Copy,
    {
        if values.is_empty() {
            return;
        }
        Shadow::write(self.ring.shadows(position, values.len()));
        let to = self.ring.slot(position).as_ptr();
        if M::IN_PLACE {
            // SAFETY: these places are free and ours until `write` is stored; `values`
            // is a slice of this process and cannot overlap them.
            unsafe { to.copy_from_nonoverlapping(values.as_ptr(), values.len()) };
        } else {
            // SAFETY: the places are valid for writes; see `put`.
            unsafe { copy_in(values.as_ptr().cast(), to.cast(), size_of_val(values)) };
        }
    }

    /// Elements from `position` to the end of the ring's memory.
    #[inline(always)]
    fn until_wrap(&self, position: u32) -> usize {
        self.ring.capacity() - (position & self.ring.mask()) as usize
    }
}

impl<'a, T> Producer<'a, T, Trusted> {
    /// Lends up to `max` free places that lie one after the other: to be written in
    /// place and then published with [`commit`](WriteGrant::commit). Dropping the
    /// grant publishes nothing.
    ///
    /// At the end of the ring's memory a grant is shorter than asked for; the next
    /// one goes on at its start. Producers that always commit the same number of
    /// elements, a divisor of the capacity, never see that.
    ///
    /// `None` if the ring is full or corrupt, or `max` is 0.
    #[inline]
    pub fn grant(&mut self, max: usize) -> Option<WriteGrant<'_, 'a, T>> {
        let max = max.min(self.until_wrap(self.write));
        if self.room() as usize >= max || self.look_for(max) {
            let count = max.min(self.room() as usize);
            if count != 0 {
                self.fetch_after(count);
                Shadow::write(self.ring.shadows(self.write, count));
                return Some(WriteGrant { count, producer: self, elements: PhantomData });
            }
        }
        None
    }

    /// Looks until `wanted` places are seen, or none can be.
    #[cold]
    fn look_for(&mut self, wanted: usize) -> bool {
        self.look_at(REUSE, false);
        if (self.room() as usize) < wanted {
            self.look_at(SECOND_LOOK, true);
        }
        self.room() != 0
    }

    /// Lends exactly `count` free places that lie one after the other.
    ///
    /// `None` if so many are not free, or the end of the ring's memory is nearer: in
    /// that case forever, unless shorter grants are committed in between.
    #[inline]
    pub fn grant_exact(&mut self, count: usize) -> Option<WriteGrant<'_, 'a, T>> {
        self.grant(count).filter(|grant| grant.len() == count)
    }

    /// As [`grant`](Self::grant), its first byte at a multiple of `alignment` and its
    /// length a multiple of `alignment` bytes, as DMA engines and caches want it.
    ///
    /// `None` also if the present position is no such multiple: it always is when
    /// whole aligned grants are all that is ever committed, and the elements were
    /// created with that alignment ([`Options::alignment`](super::Options)).
    pub fn grant_aligned(&mut self, max: usize, alignment: usize) -> Option<WriteGrant<'_, 'a, T>> {
        let address = self.ring.slot(self.write).addr().get();
        if alignment == 0 || !address.is_multiple_of(alignment) {
            return None;
        }
        // The fewest elements that take a multiple of `alignment` bytes: n × size is one
        // when n is a multiple of alignment / gcd(size, alignment).
        let (mut a, mut b) = (size_of::<T>(), alignment);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        let step = alignment / a;
        let mut grant = self.grant(max - max % step)?;
        grant.count -= grant.count % step;
        (grant.count != 0).then_some(grant)
    }
}

impl<T, M: Trust> Drop for Producer<'_, T, M> {
    fn drop(&mut self) {
        if crash::dead() {
            return;
        }
        if let Some(owner) = self.owner {
            release_owner(&self.ring.header().part, End::Writing, owner);
        }
    }
}

// SAFETY: the handle is the only one of its end and moves with its thread; elements
// cross threads by value, for which T: Send. Its pointers are valid anywhere.
unsafe impl<T: Send, M: Trust> Send for Producer<'_, T, M> {}

impl<T, M: Trust> fmt::Debug for Producer<'_, T, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("capacity", &self.capacity())
            .field("write", &self.write)
            .field("owner", &self.owner)
            .field("corrupt", &self.corrupt)
            .finish_non_exhaustive()
    }
}

/// Free places lent by [`Producer::grant`], not yet published.
///
/// For a `T` that any bytes make valid it is a slice; what the places held before is
/// still in them. For any other `T` use [`fill`](Self::fill) or
/// [`as_uninit`](Self::as_uninit).
#[derive(Debug)]
pub struct WriteGrant<'g, 'a, T> {
    producer: &'g mut Producer<'a, T, Trusted>,
    count: usize,
    /// It lends elements: whoever has a reference to it needs what a reference to them needs.
    elements: PhantomData<&'g mut [T]>,
}

impl<T> WriteGrant<'_, '_, T> {
    /// Places lent, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a grant is never empty")]
    pub fn len(&self) -> usize {
        self.count
    }

    /// The places, as memory.
    ///
    /// # Safety
    ///
    /// Where a valid value was, none but a valid value is written: `commit` and `deref` count on
    /// it. For a `T` that is not [`Shareable`], which has neither, there is nothing to keep to
    /// until [`commit_init`](Self::commit_init).
    pub unsafe fn as_uninit(&mut self) -> &mut [MaybeUninit<T>] {
        let first = self.producer.ring.slot(self.producer.write).as_ptr();
        // SAFETY: `count` free places from here on do not wrap; they are ours alone
        // until published, which takes this grant by value.
        unsafe { slice::from_raw_parts_mut(first.cast(), self.count) }
    }

    /// Writes what the iterator gives, as far as there is room, and publishes that;
    /// answers how many. If the iterator panics, nothing is published and what it gave
    /// so far is leaked.
    pub fn fill(mut self, values: impl IntoIterator<Item = T>) -> usize {
        let mut written = 0;
        // SAFETY: only values are written.
        let places = unsafe { self.as_uninit() };
        for (place, value) in places.iter_mut().zip(values) {
            place.write(value);
            written += 1;
        }
        // SAFETY: the first `written` places were just written.
        unsafe { self.commit_init(written) };
        written
    }

    /// Publishes the first `used` places; more than were lent counts as all.
    ///
    /// # Safety
    ///
    /// They hold valid values.
    #[inline]
    pub unsafe fn commit_init(self, used: usize) {
        let used = used.min(self.count);
        Shadow::write(self.producer.ring.shadows(self.producer.write, self.count));
        if used != 0 {
            self.producer.advance_far(used as u32);
        }
    }

    /// Publishes the first `used` places; more than were lent counts as all.
    #[inline]
    pub fn commit(self, used: usize)
    where
        T: Shareable,
    {
        // SAFETY: any bytes are a valid T, and the memory is initialised: zeroed by
        // SpscRing::new, or by the contract of Region.
        unsafe { self.commit_init(used) }
    }
}

impl<T: Shareable> Deref for WriteGrant<'_, '_, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        let first = self.producer.ring.slot(self.producer.write).as_ptr();
        // SAFETY: as in `as_uninit`, and initialised as in `commit`.
        unsafe { slice::from_raw_parts(first, self.count) }
    }
}

impl<T: Shareable> DerefMut for WriteGrant<'_, '_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        let first = self.producer.ring.slot(self.producer.write).as_ptr();
        // SAFETY: as in `deref`, and unique through &mut self.
        unsafe { slice::from_raw_parts_mut(first, self.count) }
    }
}
