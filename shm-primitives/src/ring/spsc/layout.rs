//! The ring's memory: created, attached to, claimed.

use super::{Consumer, Producer};
use crate::identity::OwnerId;
use crate::part::{
    AttachError, Corrupt, End, Expected, Facts, Kind, LINE, Line, PartHeader, Shareable, Trust,
    Trusted, Untrusted, check_region, data_of, layout_hash, owner_of,
};
use crate::region::Region;
use crate::sync::{AtomicU32, LOOM, Ordering::Relaxed, Shadow, with_read_modify_write};
use core::cell::UnsafeCell;
use core::fmt;
use core::marker::PhantomData;
use core::mem::{MaybeUninit, align_of, offset_of, size_of};
use core::ptr::NonNull;

with_read_modify_write! {
    use crate::part::ClaimError;
}

const VERSION: u32 = 1;

/// The largest capacity: positions must be able to tell full from empty.
const MAX_CAPACITY: u32 = 1 << 30;

/// The ring's words, before its elements.
#[repr(C, align(64))]
#[derive(Debug)]
pub(super) struct Header {
    pub part: PartHeader,
    pub write: Line<AtomicU32>,
    pub released: Line<AtomicU32>,
    pub consumed: Line<AtomicU32>,
}

const _: () = assert!(
    LOOM || size_of::<Header>() == 256
        && offset_of!(Header, write) == 64
        && offset_of!(Header, released) == 128
        && offset_of!(Header, consumed) == 192
);

impl Header {
    crate::sync::const_unless_loom! {
        fn new(facts: Facts) -> Self {
            Self {
                write: Line(AtomicU32::new(facts.start)),
                released: Line(AtomicU32::new(facts.start)),
                consumed: Line(AtomicU32::new(facts.start)),
                part: PartHeader::new(facts),
            }
        }
    }
}

/// What a new ring is to be, for [`SpscRingRef::init_at`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Elements it holds: a power of two up to 2³⁰.
    pub capacity: u32,
    /// Alignment of the first element in bytes, a power of two up to 4096: for DMA.
    /// Raised to 64 and to the element's own.
    pub alignment: u32,
    /// The position it begins at; not 0 only to test what happens at the wrap.
    pub start: u32,
}

impl Options {
    /// A ring of `capacity` elements, aligned to a cache line.
    pub const fn new(capacity: u32) -> Self {
        Self { capacity, alignment: LINE as u32, start: 0 }
    }

    /// The same with its elements aligned to `alignment` bytes.
    pub const fn alignment(mut self, alignment: u32) -> Self {
        self.alignment = alignment;
        self
    }

    /// The same beginning at position `start`.
    pub const fn start(mut self, start: u32) -> Self {
        self.start = start;
        self
    }

    /// Bytes that a ring of `T` with these options takes; `None` if it does not
    /// fit the address space.
    pub const fn required_size<T>(&self) -> Option<usize> {
        match Shape::of::<T>(self.capacity, self.alignment) {
            Some(shape) => Some(shape.total),
            None => None,
        }
    }
}

/// Where the elements (and under loom their shadows) lie.
struct Shape {
    alignment: usize,
    data: usize,
    shadows: usize,
    total: usize,
}

impl Shape {
    const fn of<T>(capacity: u32, alignment: u32) -> Option<Self> {
        let mut alignment = if alignment as usize > LINE { alignment as usize } else { LINE };
        if align_of::<T>() > alignment {
            alignment = align_of::<T>();
        }
        let data = size_of::<Header>().next_multiple_of(alignment);
        let Some(elements) = size_of::<T>().checked_mul(capacity as usize) else { return None };
        let Some(end) = data.checked_add(elements) else { return None };
        let Some(shadows) = end.checked_next_multiple_of(align_of::<Shadow>()) else { return None };
        let Some(total) = shadows.checked_add(size_of::<Shadow>() * capacity as usize) else {
            return None;
        };
        if total > isize::MAX as usize {
            return None;
        }
        Some(Self { alignment, data, shadows: if LOOM { shadows } else { data }, total })
    }
}

const fn facts<T>(capacity: u32, data: usize, alignment: usize, start: u32) -> Facts {
    Facts {
        kind: Kind::SPSC_RING,
        version: VERSION,
        layout: layout_hash(&[Kind::SPSC_RING.0, size_of::<T>() as u32, align_of::<T>() as u32]),
        capacity,
        stride: size_of::<T>() as u32,
        options: alignment.trailing_zeros(),
        data: data as u32,
        start,
        extra: [0; 2],
    }
}

/// A ring of `N` elements with its memory: a `static`, a field, a local.
///
/// `N` is a power of two up to 2³⁰, checked when the program is compiled, and all
/// `N` places are usable. Elements that are in the ring when it is dropped are
/// dropped with it.
///
/// In one process, [`split`](Self::split) it. Between cores or processes, place it
/// where both see it and use [`shared`](Self::shared) on the side that made it and
/// [`SpscRingRef::attach`] on the other; the layout is the same as
/// [`SpscRingRef::init_at`] makes.
#[repr(C)]
pub struct SpscRing<T, const N: usize> {
    header: Header,
    slots: UnsafeCell<[MaybeUninit<T>; N]>,
    shadows: [Shadow; N],
}

// SAFETY: the ring hands its elements from one thread to another by value and
// never refers to one from two threads.
unsafe impl<T: Send, const N: usize> Sync for SpscRing<T, N> {}

impl<T, const N: usize> SpscRing<T, N> {
    const CHECKED: () = {
        assert!(
            N.is_power_of_two() && N <= MAX_CAPACITY as usize,
            "N must be a power of two up to 2^30"
        );
        assert!(size_of::<T>() != 0, "elements must have a size");
        assert!(size_of::<T>() <= u32::MAX as usize, "elements must be smaller than 4 GiB");
    };

    const fn facts(start: u32) -> Facts {
        let () = Self::CHECKED;
        let alignment = if align_of::<T>() > LINE { align_of::<T>() } else { LINE };
        facts::<T>(N as u32, offset_of!(Self, slots), alignment, start)
    }

    /// An empty ring.
    #[cfg(not(all(loom, any(test, feature = "loom"))))]
    pub const fn new() -> Self {
        Self {
            header: Header::new(Self::facts(0)),
            // Zeroed, not uninitialised: a slice of T that any bytes make valid may
            // then be lent out before anything was pushed.
            slots: UnsafeCell::new([const { MaybeUninit::zeroed() }; N]),
            shadows: [const { Shadow::new() }; N],
        }
    }

    /// An empty ring.
    #[cfg(all(loom, any(test, feature = "loom")))]
    pub fn new() -> Self {
        Self::new_at(0)
    }

    /// An empty ring that begins at position `start`: to test the wrap.
    pub fn new_at(start: u32) -> Self {
        Self {
            header: Header::new(Self::facts(start)),
            slots: UnsafeCell::new([const { MaybeUninit::zeroed() }; N]),
            shadows: core::array::from_fn(|_| Shadow::new()),
        }
    }

    fn raw<M: Trust>(&self) -> SpscRingRef<'_, T, M> {
        SpscRingRef {
            header: NonNull::from(&self.header),
            slots: NonNull::new(self.slots.get().cast()).unwrap_or(NonNull::dangling()),
            shadows: self.shadows.as_ptr(),
            mask: N as u32 - 1,
            memory: PhantomData,
        }
    }

    /// The two ends, for two threads, or for the main loop and an interrupt.
    ///
    /// Both may be dropped and the ring split again: it goes on where it was.
    pub fn split(&mut self) -> (Producer<'_, T>, Consumer<'_, T>)
    where
        T: Send,
    {
        let ring = self.raw::<Trusted>();
        let header = ring.header();
        let (write, consumed) = (header.write.load(Relaxed), header.consumed.load(Relaxed));
        header.released.store(consumed, Relaxed);
        (Producer::new(ring, write, consumed, None), Consumer::new(ring, consumed, None))
    }

    /// The ring as others that reach its memory see it, to claim an end of.
    pub fn shared(&self) -> SpscRingRef<'_, T>
    where
        T: Shareable,
    {
        self.raw()
    }
}

impl<T, const N: usize> Default for SpscRing<T, N> {
    fn default() -> Self {
        Self::new_at(0)
    }
}

impl<T, const N: usize> Drop for SpscRing<T, N> {
    fn drop(&mut self) {
        if !core::mem::needs_drop::<T>() || crate::sync::crash::dead() {
            return;
        }
        let ring = self.raw::<Trusted>();
        let (mut read, write) =
            (self.header.consumed.load(Relaxed), self.header.write.load(Relaxed));
        while read != write {
            // SAFETY: elements between the positions were pushed and not popped, and
            // &mut self means that no handle is left. A T with a drop cannot have
            // been shared with another process, so the positions are our own.
            unsafe { ring.slot(read).as_ptr().drop_in_place() };
            read = read.wrapping_add(1);
        }
    }
}

impl<T, const N: usize> fmt::Debug for SpscRing<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpscRing").field("capacity", &N).finish_non_exhaustive()
    }
}

/// A ring in memory that others reach too: what its ends are claimed from.
///
/// `M` says how far the memory's other writers are believed.
pub struct SpscRingRef<'a, T, M: Trust = Trusted> {
    header: NonNull<Header>,
    slots: NonNull<T>,
    /// Under loom as many as there are elements, otherwise nothing to point to.
    shadows: *const Shadow,
    mask: u32,
    memory: PhantomData<(&'a UnsafeCell<T>, M)>,
}

impl<T, M: Trust> Clone for SpscRingRef<'_, T, M> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T, M: Trust> Copy for SpscRingRef<'_, T, M> {}

// SAFETY: it gives access to atomics only; the ends, which access elements, are
// claimed and are Send on their own account.
unsafe impl<T: Send, M: Trust> Send for SpscRingRef<'_, T, M> {}
// SAFETY: as above.
unsafe impl<T: Send, M: Trust> Sync for SpscRingRef<'_, T, M> {}

impl<'a, T, M: Trust> SpscRingRef<'a, T, M> {
    #[inline(always)]
    pub(super) fn header(&self) -> &'a Header {
        // SAFETY: it points to a header valid for 'a: a ring's own field, or memory
        // checked by attach. It holds atomics only.
        unsafe { self.header.as_ref() }
    }

    /// Elements it holds.
    #[inline(always)]
    pub fn capacity(&self) -> usize {
        self.mask as usize + 1
    }

    #[inline(always)]
    pub(super) fn mask(&self) -> u32 {
        self.mask
    }

    /// The place of the element at `position`.
    #[inline(always)]
    pub(super) fn slot(&self, position: u32) -> NonNull<T> {
        // SAFETY: masked to below the capacity; that many elements lie behind
        // `slots`.
        unsafe { self.slots.add((position & self.mask) as usize) }
    }

    /// The shadows of `count` elements from `position` on that do not wrap.
    #[inline(always)]
    pub(super) fn shadows(&self, position: u32, count: usize) -> &'a [Shadow] {
        // SAFETY: under loom there is one for each element, and the caller's
        // elements lie within the capacity.
        unsafe { Shadow::slice(self.shadows, (position & self.mask) as usize, count) }
    }

    /// Who has the producer's end (`Writing`) or the consumer's (`Reading`);
    /// `None` if nobody has. Only a hint unless the owner is the caller.
    ///
    /// # Errors
    ///
    /// The word is no owner's.
    pub fn owner(&self, end: End) -> Result<Option<OwnerId>, Corrupt> {
        owner_of(&self.header().part, end)
    }
}

impl<'a, T: Shareable, M: Trust> SpscRingRef<'a, T, M> {
    fn on(
        region: &Region<'a>,
        header: NonNull<Header>,
        data: usize,
        shadows: usize,
        capacity: u32,
    ) -> Self {
        // SAFETY: both offsets were checked to lie in the region.
        unsafe {
            Self {
                header,
                slots: region.base().add(data).cast(),
                shadows: region.base().add(shadows).cast().as_ptr(),
                mask: capacity - 1,
                memory: PhantomData,
            }
        }
    }

    /// # Safety
    ///
    /// As the public functions below say.
    unsafe fn attach_any(region: Region<'a>, capacity: Option<u32>) -> Result<Self, AttachError> {
        let expected = Expected {
            kind: Kind::SPSC_RING,
            version: VERSION,
            stride: size_of::<T>() as u32,
            max_capacity: MAX_CAPACITY,
            capacity,
        };
        check_region(&region, size_of::<Header>(), LINE)?;
        // SAFETY: under loom the caller attaches to what init_at made.
        let (_, found) = unsafe { PartHeader::check(&region, expected)? };
        let alignment = 1u32.checked_shl(found.options).unwrap_or(0);
        if alignment == 0 || alignment > 4096 {
            return Err(AttachError::UnsupportedOption { found: found.options });
        }
        let Some(shape) = Shape::of::<T>(found.capacity, alignment) else {
            return Err(AttachError::TooSmall { found: region.len(), wanted: usize::MAX });
        };
        let wanted = facts::<T>(found.capacity, shape.data, shape.alignment, found.start);
        if found.layout != wanted.layout {
            return Err(AttachError::WrongLayout { found: found.layout, wanted: wanted.layout });
        }
        if found.data != wanted.data {
            return Err(Corrupt {
                what: "offset of the elements",
                found: found.data,
                limit: wanted.data,
            }
            .into());
        }
        check_region(&region, shape.total, shape.alignment)?;
        data_of(&region, shape.data, size_of::<T>() * found.capacity as usize)?;
        Ok(Self::on(&region, region.base().cast(), shape.data, shape.shadows, found.capacity))
    }
}

impl<'a, T: Shareable> SpscRingRef<'a, T, Trusted> {
    /// Creates an empty ring at the start of `region`. Nobody can attach to it
    /// before all of it is written.
    ///
    /// Elements keep the bytes that stood there. Costs no more than its header,
    /// however large the ring: in a sparse mapping no page of elements is touched.
    ///
    /// # Errors
    ///
    /// `BadCapacity`, `TooSmall`, `Misaligned` (to the larger of 64 and
    /// [`Options::alignment`]), `UnsupportedOption` for an alignment that is no power
    /// of two up to 4096.
    ///
    /// # Safety
    ///
    /// Nobody creates another ring there at the same time. If one stood there before,
    /// nobody has an end of it or a `SpscRingRef` to it, and nobody attaches until this
    /// returns: who has one would go on by the old ring's facts. Where none did,
    /// attachers may try all the while. Under loom `zero_at` was called before.
    pub unsafe fn init_at(region: Region<'a>, options: Options) -> Result<Self, AttachError> {
        let Options { capacity, alignment, start } = options;
        if !capacity.is_power_of_two() || capacity > MAX_CAPACITY || size_of::<T>() == 0 {
            return Err(AttachError::BadCapacity { found: capacity, maximum: MAX_CAPACITY });
        }
        if !alignment.is_power_of_two() || alignment > 4096 {
            return Err(AttachError::UnsupportedOption { found: alignment });
        }
        let Some(shape) = Shape::of::<T>(capacity, alignment) else {
            return Err(AttachError::TooSmall { found: region.len(), wanted: usize::MAX });
        };
        if shape.alignment > 4096 {
            return Err(AttachError::UnsupportedOption { found: shape.alignment as u32 });
        }
        check_region(&region, shape.total, shape.alignment)?;
        let facts = facts::<T>(capacity, shape.data, shape.alignment, start);
        // SAFETY: large enough and aligned (just checked), and ours by contract.
        let part = unsafe { PartHeader::prepare(&region, &facts) };
        let header = region.base().cast::<Header>();
        // SAFETY: within the checked size and aligned; words accept any bytes.
        let words = unsafe { header.as_ref() };
        words.write.store(start, Relaxed);
        words.released.store(start, Relaxed);
        words.consumed.store(start, Relaxed);
        part.publish();
        Ok(Self::on(&region, header, shape.data, shape.shadows, capacity))
    }

    /// What mapping fresh memory is in ordinary builds: makes loom's atomics, all
    /// zero, where [`init_at`](Self::init_at) will create a ring with `options`.
    ///
    /// # Safety
    ///
    /// The region is large enough for these options, aligned, and the caller's alone.
    #[cfg(all(loom, any(test, feature = "loom")))]
    pub unsafe fn zero_at(region: &Region<'a>, options: Options) {
        let Some(shape) = Shape::of::<T>(options.capacity, options.alignment) else { return };
        let word = || Line(AtomicU32::new(0));
        // SAFETY: the caller's contract. Loom's types need no drop.
        unsafe {
            region.base().cast::<Header>().write(Header {
                part: PartHeader::zero(),
                write: word(),
                released: word(),
                consumed: word(),
            });
            for slot in 0..options.capacity as usize {
                Shadow::make(region.base().add(shape.shadows).cast().as_ptr(), slot);
            }
        }
    }

    /// The same ring to one who trusts its other writers no more than
    /// [`attach_untrusted`](SpscRingRef::attach_untrusted) does.
    pub fn untrusted(self) -> SpscRingRef<'a, T, Untrusted> {
        let Self { header, slots, shadows, mask, memory: _ } = self;
        SpscRingRef { header, slots, shadows, mask, memory: PhantomData }
    }

    /// Attaches to the ring at the start of `region`; `capacity` is checked if given.
    ///
    /// # Errors
    ///
    /// What is there is not such a ring: see [`AttachError`]. Nothing is written.
    ///
    /// # Safety
    ///
    /// Every writer of this memory keeps the ring's protocol, with owners of
    /// [one table](crate::identity#one-table): it uses this crate, or
    /// does what this module's documentation says. Where that cannot be promised,
    /// use [`attach_untrusted`](SpscRingRef::attach_untrusted).
    pub unsafe fn attach(region: Region<'a>, capacity: Option<u32>) -> Result<Self, AttachError> {
        // SAFETY: passed on.
        unsafe { Self::attach_any(region, capacity) }
    }
}

impl<'a, T: Shareable> SpscRingRef<'a, T, Untrusted> {
    /// Attaches to the ring at the start of `region`, whoever else may write to it
    /// and whatever: elements are copied out before they are looked at, and no
    /// reference into the memory is ever given out.
    ///
    /// # Errors
    ///
    /// What is there is not such a ring: see [`AttachError`]. Nothing is written.
    #[cfg(not(all(loom, any(test, feature = "loom"))))]
    pub fn attach_untrusted(
        region: Region<'a>,
        capacity: Option<u32>,
    ) -> Result<Self, AttachError> {
        // SAFETY: untrusted handles make atomic accesses only, at places computed
        // from what was copied and checked here.
        unsafe { Self::attach_any(region, capacity) }
    }
}

with_read_modify_write! {
    /// How often whoever has neither end looks for two positions that belong together.
    const LOOKS: u32 = 100;

    impl<'a, T: Shareable, M: Trust> SpscRingRef<'a, T, M> {
        /// Takes the producer's end. Dropping the handle gives it back.
        ///
        /// # Errors
        ///
        /// `Owned` while somebody has it, be he alive or dead; `Corrupt` if the
        /// positions are impossible, and then it stays free.
        pub fn claim_producer(&self, owner: OwnerId) -> Result<Producer<'a, T, M>, ClaimError> {
            crate::part::claim_owner(&self.header().part, End::Writing, owner)?;
            self.producer(owner)
        }

        /// Takes the consumer's end. Dropping the handle gives it back.
        ///
        /// # Errors
        ///
        /// As [`claim_producer`](Self::claim_producer).
        pub fn claim_consumer(&self, owner: OwnerId) -> Result<Consumer<'a, T, M>, ClaimError> {
            crate::part::claim_owner(&self.header().part, End::Reading, owner)?;
            self.consumer(owner)
        }

        /// Takes the producer's end from one proven dead. What it had published
        /// stays; what it had not does not exist.
        ///
        /// # Errors
        ///
        /// `NotTheOwner` if the end is not the dead one's (somebody else was faster);
        /// `Corrupt` if the positions are impossible.
        pub fn recover_producer(
            &self, dead: crate::identity::Dead<OwnerId>, owner: OwnerId,
        ) -> Result<Producer<'a, T, M>, ClaimError> {
            crate::part::recover_owner(&self.header().part, End::Writing, dead, owner)?;
            self.producer(owner)
        }

        /// Takes the consumer's end from one proven dead. The elements of its last
        /// pop or read are seen again if it died before it had stored its position.
        ///
        /// # Errors
        ///
        /// As [`recover_producer`](Self::recover_producer).
        pub fn recover_consumer(
            &self, dead: crate::identity::Dead<OwnerId>, owner: OwnerId,
        ) -> Result<Consumer<'a, T, M>, ClaimError> {
            crate::part::recover_owner(&self.header().part, End::Reading, dead, owner)?;
            self.consumer(owner)
        }

        /// The consumed position is at most the capacity behind the write position.
        /// The positions of the elements that were pushed and not popped, from that of the next to
        /// be popped to that of the next to be pushed, wrapping: what a [`pool`](crate::pool)'s
        /// recovery asks for when the ring carries its handles. Final for an end whose owner is
        /// dead or gone; the other's may be out of date at once.
        ///
        /// # Errors
        ///
        /// The positions are impossible, or the consumer's changes at every look.
        pub fn unread(&self) -> Result<core::ops::Range<u32>, Corrupt> {
            let mut consumed = self.header().consumed.load(super::SECOND_LOOK);
            for _ in 0..LOOKS {
                let write = self.header().write.load(super::OBSERVE);
                let again = self.header().consumed.load(super::SECOND_LOOK);
                if again == consumed {
                    self.check(consumed, write)?;
                    return Ok(consumed..write);
                }
                // The two did not belong together.
                consumed = again;
            }
            let what = "consumed position, another at each of";
            Err(Corrupt { what, found: consumed, limit: LOOKS })
        }

        fn check(&self, consumed: u32, write: u32) -> Result<(), Corrupt> {
            let (found, limit) = (write.wrapping_sub(consumed), self.mask + 1);
            if found > limit {
                let what = "write position ahead of the consumed one by";
                return Err(Corrupt { what, found, limit });
            }
            Ok(())
        }

        fn positions_for_producer(&self) -> Result<(u32, u32), Corrupt> {
            let write = self.header().write.load(Relaxed);
            // Not `released`, which may be more than the capacity behind.
            let consumed = self.header().consumed.load(super::SECOND_LOOK);
            self.check(consumed, write)?;
            Ok((write, consumed))
        }

        fn positions_for_consumer(&self) -> Result<u32, Corrupt> {
            // `released` is not looked at: it lags by up to a share and a whole batch, and is
            // stored anew.
            let consumed = self.header().consumed.load(Relaxed);
            let write = self.header().write.load(Relaxed);
            self.check(consumed, write)?;
            Ok(consumed)
        }

        fn producer(&self, owner: OwnerId) -> Result<Producer<'a, T, M>, ClaimError> {
            match self.positions_for_producer() {
                Ok((write, released)) => Ok(Producer::new(*self, write, released, Some(owner))),
                Err(corrupt) => {
                    crate::part::release_owner(&self.header().part, End::Writing, owner);
                    Err(corrupt.into())
                }
            }
        }

        fn consumer(&self, owner: OwnerId) -> Result<Consumer<'a, T, M>, ClaimError> {
            match self.positions_for_consumer() {
                Ok(consumed) => {
                    self.header().released.store(consumed, super::RELEASE);
                    Ok(Consumer::new(*self, consumed, Some(owner)))
                }
                Err(corrupt) => {
                    crate::part::release_owner(&self.header().part, End::Reading, owner);
                    Err(corrupt.into())
                }
            }
        }
    }
}

impl<T, M: Trust> fmt::Debug for SpscRingRef<'_, T, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpscRingRef").field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}
