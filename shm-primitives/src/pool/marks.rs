//! One subscriber's marks: their memory, and what a mark says.

use super::layout::MAX_CHUNKS;
use super::{ConnectError, PoolRef};
use crate::identity::OwnerId;
use crate::part::{
    AttachError, Corrupt, End, Expected, Facts, Kind, LINE, PartHeader, Trust, Trusted, Untrusted,
    check_region, layout_hash, owner_of,
};
use crate::region::Region;
use crate::sync::{AtomicU32, LOOM, Ordering::Relaxed};
use core::cell::UnsafeCell;
use core::fmt;
use core::marker::PhantomData;
use core::mem::{offset_of, size_of};
use core::ptr::NonNull;

const VERSION: u32 = 1;

/// A mark's two low bits.
const STATE: u32 = 3;
/// The handle is on its way to the subscriber.
pub(super) const LENT: u32 = 1;
/// The subscriber reads the chunk.
pub(super) const IN_HAND: u32 = 3;

/// The mark of a chunk whose handle is pushed at `position`.
pub(super) const fn lent_at(position: u32) -> u32 {
    position << 2 | LENT
}

/// Which state a mark says; neither of the two above for 0 and for what nobody writes.
pub(super) const fn state(mark: u32) -> u32 {
    mark & STATE
}

/// Whether a mark's position is `position` or a later one.
pub(super) const fn is_from(mark: u32, position: u32) -> bool {
    (mark & !STATE).wrapping_sub(position << 2).cast_signed() >= 0
}

/// How far a mark's position is ahead of `position`.
pub(super) const fn ahead_of(mark: u32, position: u32) -> u32 {
    (mark & !STATE).wrapping_sub(position << 2) >> 2
}

/// The part's words, before its marks.
#[repr(C, align(64))]
#[derive(Debug)]
pub(super) struct Words {
    pub part: PartHeader,
    pool: AtomicU32,
    id: AtomicU32,
    chunks: AtomicU32,
    reserved: [AtomicU32; 13],
}

const _: () = assert!(
    LOOM || size_of::<Words>() == 128
        && offset_of!(Words, pool) == 64
        && offset_of!(Words, id) == 68
        && offset_of!(Words, chunks) == 72
);

/// One subscriber's marks in memory that it and the publisher reach: what the publisher
/// [connects](super::Publisher::connect) and the subscriber
/// [claims](super::PoolRef::claim_holder).
///
/// `M` says how far the memory's other writers are believed.
pub struct MarksRef<'a, M: Trust = Trusted> {
    words: NonNull<Words>,
    pool: u32,
    id: u32,
    chunks: u32,
    memory: PhantomData<(&'a UnsafeCell<u8>, M)>,
}

impl<M: Trust> Clone for MarksRef<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<M: Trust> Copy for MarksRef<'_, M> {}

// SAFETY: it gives access to atomics only.
unsafe impl<M: Trust> Send for MarksRef<'_, M> {}
// SAFETY: as above.
unsafe impl<M: Trust> Sync for MarksRef<'_, M> {}

const fn facts(chunks: u32) -> Facts {
    Facts {
        kind: Kind::CHUNK_MARKS,
        version: VERSION,
        layout: layout_hash(&[Kind::CHUNK_MARKS.0, 4]),
        capacity: chunks.next_power_of_two(),
        stride: 4,
        options: 0,
        data: size_of::<Words>() as u32,
        start: 0,
        extra: [0; 2],
    }
}

impl<'a, M: Trust> MarksRef<'a, M> {
    /// The pool that the marks are for.
    pub fn pool(&self) -> u32 {
        self.pool
    }

    /// The id of these marks.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Chunks there are marks for.
    pub fn chunks(&self) -> u32 {
        self.chunks
    }

    /// The subscriber; `None` if nobody has the marks. Only a hint unless the owner is the
    /// caller.
    ///
    /// # Errors
    ///
    /// The word is no owner's.
    pub fn owner(&self) -> Result<Option<OwnerId>, Corrupt> {
        owner_of(self.part(), End::Reading)
    }

    /// Chunks that the subscriber has, in hand or in its queue. May be out of date at once.
    pub fn held(&self) -> u32 {
        self.all().iter().map(|mark| u32::from(mark.load(Relaxed) != 0)).sum()
    }

    /// The same marks, whoever else writes there.
    pub fn untrusted(self) -> MarksRef<'a, Untrusted> {
        let Self { words, pool, id, chunks, memory: _ } = self;
        MarksRef { words, pool, id, chunks, memory: PhantomData }
    }

    pub(super) fn part(&self) -> &'a PartHeader {
        &self.words().part
    }

    fn words(&self) -> &'a Words {
        // SAFETY: valid for 'a: checked by init_at or attach. It holds atomics only.
        unsafe { self.words.as_ref() }
    }

    /// The marks of all chunks.
    pub(super) fn all(&self) -> &'a [AtomicU32] {
        // SAFETY: `chunks` words behind the header were checked to lie in the region, which is
        // valid for 'a; the header's size is a multiple of a word's. Atomics may be shared.
        unsafe {
            core::slice::from_raw_parts(self.words.add(1).cast().as_ptr(), self.chunks as usize)
        }
    }

    /// Clears every mark; how many there were. For whoever knows that nobody reads.
    pub(super) fn clear(&self) -> u32 {
        let mut cleared = 0;
        for mark in self.all() {
            if mark.load(Relaxed) != 0 {
                mark.store(0, Relaxed);
                cleared += 1;
            }
        }
        cleared
    }

    /// Whether these are marks for that pool.
    pub(super) fn check_pool<N: Trust>(&self, pool: &PoolRef<'_, N>) -> Result<(), ConnectError> {
        if self.pool != pool.id() {
            return Err(ConnectError::OtherPool { found: self.pool, wanted: pool.id() });
        }
        if self.chunks != pool.chunks() {
            return Err(ConnectError::OtherSize { found: self.chunks, wanted: pool.chunks() });
        }
        Ok(())
    }

    /// # Safety
    ///
    /// As the public functions below say.
    unsafe fn attach_any(region: Region<'a>) -> Result<Self, AttachError> {
        let expected = Expected {
            kind: Kind::CHUNK_MARKS,
            version: VERSION,
            stride: 4,
            max_capacity: MAX_CHUNKS,
            capacity: None,
        };
        check_region(&region, size_of::<Words>(), LINE)?;
        // SAFETY: under loom the caller attaches to what zero_at made.
        let (_, found) = unsafe { PartHeader::check(&region, expected)? };
        // SAFETY: large enough and aligned (just checked), valid for 'a; atomics only.
        let words: &'a Words = unsafe { region.base().cast().as_ref() };
        let (pool, id) = (words.pool.load(Relaxed), words.id.load(Relaxed));
        let chunks = words.chunks.load(Relaxed);
        if chunks == 0 || chunks > found.capacity || chunks.next_power_of_two() != found.capacity {
            return Err(
                Corrupt { what: "number of marks", found: chunks, limit: found.capacity }.into()
            );
        }
        let wanted = facts(chunks);
        if found.layout != wanted.layout {
            return Err(AttachError::WrongLayout { found: found.layout, wanted: wanted.layout });
        }
        if found.data != wanted.data {
            let (found, limit) = (found.data, wanted.data);
            return Err(Corrupt { what: "offset of the marks", found, limit }.into());
        }
        if id == 0 {
            return Err(Corrupt { what: "id of the marks", found: id, limit: 1 }.into());
        }
        check_region(&region, Self::bytes(chunks).unwrap_or(usize::MAX), LINE)?;
        Ok(Self { words: region.base().cast(), pool, id, chunks, memory: PhantomData })
    }

    const fn bytes(chunks: u32) -> Option<usize> {
        match (chunks as usize).checked_mul(size_of::<AtomicU32>()) {
            Some(marks) => marks.checked_add(size_of::<Words>()),
            None => None,
        }
    }
}

impl<'a> MarksRef<'a, Trusted> {
    /// Bytes that marks for so many chunks take; `None` if they do not fit the address space.
    pub const fn required_size(chunks: u32) -> Option<usize> {
        Self::bytes(chunks)
    }

    /// Creates marks for `pool` at the start of `region`, all clear. Nobody can attach to them
    /// before all is written.
    ///
    /// # Errors
    ///
    /// `TooSmall`, `Misaligned` (to 64); `UnsupportedOption` if `id` is 0.
    ///
    /// # Safety
    ///
    /// Nobody creates another part there at the same time; if one stood there before, nobody has
    /// a handle to it, and nobody attaches until this returns. No other marks of this pool ever
    /// had this id: by it the successor of a publisher knows that it was given the right ones.
    /// Under loom `zero_at` was called before.
    ///
    /// And for as long as anybody uses them, what [`attach`](Self::attach) asks.
    pub unsafe fn init_at<M: Trust>(
        region: Region<'a>,
        pool: &PoolRef<'_, M>,
        id: u32,
    ) -> Result<Self, AttachError> {
        let chunks = pool.chunks();
        check_region(&region, Self::bytes(chunks).unwrap_or(usize::MAX), LINE)?;
        if id == 0 {
            return Err(AttachError::UnsupportedOption { found: id });
        }
        // SAFETY: large enough and aligned (just checked), and ours by contract.
        let part = unsafe { PartHeader::prepare(&region, &facts(chunks)) };
        let this = Self {
            words: region.base().cast(),
            pool: pool.id(),
            id,
            chunks,
            memory: PhantomData,
        };
        let words = this.words();
        words.pool.store(this.pool, Relaxed);
        words.id.store(id, Relaxed);
        words.chunks.store(chunks, Relaxed);
        for word in words.reserved.iter().chain(this.all()) {
            word.store(0, Relaxed);
        }
        part.publish();
        Ok(this)
    }

    /// What mapping fresh memory is in ordinary builds: makes loom's atomics, all zero, where
    /// [`init_at`](Self::init_at) will create marks for so many chunks.
    ///
    /// # Safety
    ///
    /// The region is large enough, aligned, and the caller's alone.
    #[cfg(all(loom, any(test, feature = "loom")))]
    pub unsafe fn zero_at(region: &Region<'a>, chunks: u32) {
        let words = region.base().cast::<Words>();
        // SAFETY: the caller's contract. Loom's types need no drop.
        unsafe {
            words.write(Words {
                part: PartHeader::zero(),
                pool: AtomicU32::new(0),
                id: AtomicU32::new(0),
                chunks: AtomicU32::new(0),
                reserved: core::array::from_fn(|_| AtomicU32::new(0)),
            });
            for mark in 0..chunks as usize {
                words.add(1).cast::<AtomicU32>().add(mark).write(AtomicU32::new(0));
            }
        }
    }

    /// Attaches to the marks at the start of `region`.
    ///
    /// # Errors
    ///
    /// What is there are no marks: see [`AttachError`]. Nothing is written.
    ///
    /// # Safety
    ///
    /// Every writer of this memory keeps the protocol: it uses this crate, or does what this
    /// module's documentation says. The marks were made by [`init_at`](Self::init_at), and are no
    /// copy.
    pub unsafe fn attach(region: Region<'a>) -> Result<Self, AttachError> {
        // SAFETY: passed on.
        unsafe { Self::attach_any(region) }
    }
}

impl<'a> MarksRef<'a, Untrusted> {
    /// Attaches to the marks at the start of `region`, whoever else may write to them and
    /// whatever. What a publisher uses for a subscriber that it does not trust.
    ///
    /// # Errors
    ///
    /// What is there are no marks: see [`AttachError`]. Nothing is written.
    #[cfg(not(all(loom, any(test, feature = "loom"))))]
    pub fn attach_untrusted(region: Region<'a>) -> Result<Self, AttachError> {
        // SAFETY: nothing but atomic accesses are made, at places checked here.
        unsafe { Self::attach_any(region) }
    }
}

impl<M: Trust> fmt::Debug for MarksRef<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MarksRef")
            .field("pool", &self.pool)
            .field("id", &self.id)
            .field("chunks", &self.chunks)
            .finish_non_exhaustive()
    }
}
