//! The pool's memory: created, attached to, its ends claimed.

use super::publisher::rebuild;
use super::{ConnectError, Holder, Limits, MarksRef, Place, Publisher, Slot};
use crate::identity::{Dead, OwnerId};
use crate::part::{
    AttachError, Corrupt, End, Expected, Facts, Kind, LINE, PartHeader, Trust, Trusted,
    Untrusted, check_region, claim_owner, layout_hash, owner_of, recover_owner,
};
use crate::region::Region;
use crate::sync::{AtomicU32, LOOM, Ordering::Relaxed, Shadow};
use core::cell::UnsafeCell;
use core::fmt;
use core::marker::PhantomData;
use core::mem::{offset_of, size_of};
use core::ops::Range;
use core::ptr::NonNull;

const VERSION: u32 = 1;
/// Sizes of chunks in a pool.
pub(super) const MAX_CLASSES: usize = 8;
pub(super) const MAX_CHUNKS: u32 = 1 << 20;
const MAX_PLACES: u32 = 4096;
const MAX_SIZE: u32 = 1 << 30;
const WORD: u64 = size_of::<AtomicU32>() as u64;

/// The pool's words, before those whose number depends on its options.
#[repr(C, align(64))]
#[derive(Debug)]
struct Words {
    part: PartHeader,
    id: AtomicU32,
    classes: AtomicU32,
    chunks: AtomicU32,
    places: AtomicU32,
    reserved: [AtomicU32; 12],
    table: [ClassWords; MAX_CLASSES],
}

#[repr(C)]
#[derive(Debug)]
struct ClassWords {
    size: AtomicU32,
    count: AtomicU32,
    first: AtomicU32,
    offset: AtomicU32,
}

const _: () = assert!(
    LOOM || size_of::<Words>() == 256
        && offset_of!(Words, id) == 64
        && offset_of!(Words, classes) == 68
        && offset_of!(Words, chunks) == 72
        && offset_of!(Words, places) == 76
        && offset_of!(Words, table) == 128
        && size_of::<ClassWords>() == 16
);

/// What a new pool is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    id: u32,
    places: u32,
    alignment: u32,
    /// Size and count of each class.
    classes: [(u32, u32); MAX_CLASSES],
    /// Classes asked for, of which those beyond the table are an error.
    len: usize,
}

impl Options {
    /// A pool that handles name by `id`, for up to `places` subscribers at a time (4096), without
    /// chunks yet; their alignment is 64 bytes.
    ///
    /// No two pools that a subscriber could confuse have the same id.
    pub const fn new(id: u32, places: u32) -> Self {
        Self { id, places, alignment: LINE as u32, classes: [(0, 0); MAX_CLASSES], len: 0 }
    }

    /// The same with a further class: `count` chunks of `size` bytes, rounded up to the
    /// alignment. Classes are added from the smallest to the largest, up to 8, and no two are of
    /// the same size when rounded; there are up to 2²⁰ chunks in all, of up to 2³⁰ bytes each.
    pub const fn class(mut self, size: u32, count: u32) -> Self {
        if self.len < MAX_CLASSES {
            self.classes[self.len] = (size, count);
        }
        self.len += 1;
        self
    }

    /// The same with chunks, and the pool, aligned to `bytes`: a power of two from 64 to 4096.
    pub const fn alignment(mut self, bytes: u32) -> Self {
        self.alignment = bytes;
        self
    }

    /// Chunks of all classes: as many [`Slot`]s the publisher needs. 0 if there is no pool with
    /// these options.
    pub const fn chunks(&self) -> u32 {
        match Shape::new(self) {
            Ok(shape) => shape.chunks,
            Err(_) => 0,
        }
    }

    /// Subscribers there may be at a time: as many [`Place`]s the publisher needs.
    pub const fn places(&self) -> u32 {
        self.places
    }

    /// Bytes the pool takes; `None` if there is no pool with these options, or it does not fit
    /// the address space.
    pub const fn required_size(&self) -> Option<usize> {
        match Shape::new(self) {
            Ok(shape) => Some(shape.size),
            Err(_) => None,
        }
    }
}

/// Chunks of one size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Class {
    /// Bytes of a chunk.
    pub size: u32,
    pub count: u32,
    /// Number of the first.
    pub first: u32,
    /// Where it lies in the part.
    offset: usize,
}

/// Where everything lies: what this process goes by, worked out or checked once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    id: u32,
    alignment: u32,
    classes: [Class; MAX_CLASSES],
    len: usize,
    chunks: u32,
    places: u32,
    generations: usize,
    data: usize,
    shadows: usize,
    size: usize,
}

const fn round_up(value: u64, to: u32) -> u64 {
    // `to` is a power of two.
    (value + (to as u64 - 1)) & !(to as u64 - 1)
}

impl Shape {
    const fn new(options: &Options) -> Result<Self, AttachError> {
        let Options { id, places, alignment, classes: asked, len } = *options;
        if !alignment.is_power_of_two() || alignment < LINE as u32 || alignment > 4096 {
            return Err(AttachError::UnsupportedOption { found: alignment });
        }
        if len == 0 || len > MAX_CLASSES {
            return Err(AttachError::BadClass { number: len as u32 });
        }
        if places > MAX_PLACES {
            let (found, maximum) = (places, MAX_PLACES);
            return Err(AttachError::TooMany { what: "places for subscribers", found, maximum });
        }
        let mut classes = [Class { size: 0, count: 0, first: 0, offset: 0 }; MAX_CLASSES];
        let (mut chunks, mut smaller, mut number) = (0, 0, 0);
        while number < len {
            let (size, count) = asked[number];
            let rounded = round_up(size as u64, alignment);
            if rounded <= smaller || rounded > MAX_SIZE as u64 || count == 0 {
                return Err(AttachError::BadClass { number: number as u32 });
            }
            if count > MAX_CHUNKS - chunks {
                let (found, maximum) = (chunks.saturating_add(count), MAX_CHUNKS);
                return Err(AttachError::TooMany { what: "chunks", found, maximum });
            }
            classes[number] = Class { size: rounded as u32, count, first: chunks, offset: 0 };
            chunks += count;
            smaller = rounded;
            number += 1;
        }
        // No overflow: at most 2^20 chunks of 2^30 bytes.
        let connected = size_of::<Words>() as u64;
        let generations = round_up(connected + WORD * places as u64, LINE as u32);
        let data = round_up(generations + WORD * chunks as u64, alignment);
        let mut end = data;
        number = 0;
        while number < len {
            classes[number].offset = end as usize;
            end += classes[number].size as u64 * classes[number].count as u64;
            number += 1;
        }
        let size = end + size_of::<Shadow>() as u64 * chunks as u64;
        // Offsets are stored in lines, and a process has no more than its address space.
        if size > isize::MAX as u64 || end / LINE as u64 > u32::MAX as u64 {
            return Err(AttachError::TooSmall { found: isize::MAX as usize, wanted: usize::MAX });
        }
        Ok(Self {
            id,
            alignment,
            classes,
            len,
            chunks,
            places,
            generations: generations as usize,
            data: data as usize,
            shadows: end as usize,
            size: size as usize,
        })
    }

    const fn facts(&self) -> Facts {
        Facts {
            kind: Kind::CHUNK_POOL,
            version: VERSION,
            layout: layout_hash(&[Kind::CHUNK_POOL.0, MAX_CLASSES as u32]),
            capacity: self.chunks.next_power_of_two(),
            stride: 1,
            options: self.alignment.trailing_zeros(),
            // At most 256 and 4 bytes for each of 2^20 chunks and 4096 places.
            data: self.data as u32,
            start: 0,
            extra: [0; 2],
        }
    }

    /// The classes, from the smallest to the largest.
    #[inline(always)]
    pub fn classes(&self) -> &[Class] {
        &self.classes[..self.len]
    }

    /// The class that a chunk belongs to.
    #[inline(always)]
    pub fn class_of(&self, chunk: u32) -> Option<usize> {
        self.classes().iter().position(|class| chunk.wrapping_sub(class.first) < class.count)
    }
}

/// A chunk pool in memory that its publisher writes and its subscribers read: what the
/// publisher's end is claimed from, and with marks a subscriber's.
///
/// `M` says how far the memory's other writers are believed.
pub struct PoolRef<'a, M: Trust = Trusted> {
    base: NonNull<u8>,
    shape: Shape,
    memory: PhantomData<(&'a UnsafeCell<u8>, M)>,
}

impl<M: Trust> Clone for PoolRef<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<M: Trust> Copy for PoolRef<'_, M> {}

// SAFETY: it gives access to atomics only; who reads or writes chunks is claimed.
unsafe impl<M: Trust> Send for PoolRef<'_, M> {}
// SAFETY: as above.
unsafe impl<M: Trust> Sync for PoolRef<'_, M> {}

impl<'a, M: Trust> PoolRef<'a, M> {
    /// What handles and marks name the pool by.
    pub fn id(&self) -> u32 {
        self.shape.id
    }

    /// Chunks of all classes.
    pub fn chunks(&self) -> u32 {
        self.shape.chunks
    }

    /// Subscribers there may be at a time.
    pub fn places(&self) -> u32 {
        self.shape.places
    }

    /// Size in bytes and count of the chunks of each class, from the smallest.
    pub fn classes(&self) -> impl Iterator<Item = (u32, u32)> {
        self.shape.classes.into_iter().take(self.shape.len).map(|class| (class.size, class.count))
    }

    /// Bytes of the largest message.
    pub fn max_length(&self) -> usize {
        self.shape.classes().last().map_or(0, |class| class.size as usize)
    }

    /// What chunks are aligned to, in bytes.
    pub fn alignment(&self) -> usize {
        self.shape.alignment as usize
    }

    /// Bytes the pool takes in its region, as [`Options::required_size`] says.
    pub fn size(&self) -> usize {
        self.shape.size
    }

    /// Who has the publisher's end; `None` if nobody has. Only a hint unless the owner is the
    /// caller.
    ///
    /// # Errors
    ///
    /// The word is no owner's.
    pub fn owner(&self) -> Result<Option<OwnerId>, Corrupt> {
        owner_of(self.part(), End::Writing)
    }

    /// The id of the marks connected at `place`; `None` if nobody is connected there or there is
    /// no such place. What the successor of a publisher, or a tool, looks for.
    pub fn connected(&self, place: usize) -> Option<u32> {
        let id = self.place_words().get(place)?.load(Relaxed);
        (id != 0).then_some(id)
    }

    /// Takes a subscriber's end: the chunks lent by these marks. Dropping the handle gives it
    /// back, and leaves marks of chunks that were not borrowed: whoever claims it next goes on
    /// with the same queue, or the publisher disconnects it.
    ///
    /// # Errors
    ///
    /// `OtherPool`, `OtherSize`: the marks are not for this pool. `Claim(Owned)` while somebody
    /// has the end, be he alive or dead.
    pub fn claim_holder(
        &self,
        marks: MarksRef<'a, M>,
        owner: OwnerId,
    ) -> Result<Holder<'a, M>, ConnectError> {
        marks.check_pool(self)?;
        claim_owner(marks.part(), End::Reading, owner)?;
        Ok(Holder::new(*self, marks, owner))
    }

    /// Takes a subscriber's end from one proven dead, to go on with its queue, of which the
    /// positions `unread` are left to read: chunks lent or in hand there can be borrowed, once
    /// more in the dead one's case; those before were lost with it and go back to the publisher.
    ///
    /// For a subscriber that has no successor see
    /// [`Publisher::recover_holder`].
    ///
    /// # Errors
    ///
    /// As [`claim_holder`](Self::claim_holder); `Claim(NotTheOwner)` if the end is not the dead
    /// one's, `Claim(OwnDeath)` if `owner` is the dead one itself.
    pub fn recover_holder(
        &self,
        marks: MarksRef<'a, M>,
        dead: Dead<OwnerId>,
        owner: OwnerId,
        unread: Range<u32>,
    ) -> Result<Holder<'a, M>, ConnectError> {
        marks.check_pool(self)?;
        recover_owner(marks.part(), End::Reading, dead, owner)?;
        Ok(Holder::succeed(*self, marks, owner, unread))
    }

    /// Takes the publisher's end. `slots` and `places` are its memory for what it alone knows: at
    /// least [`chunks`](Self::chunks) and [`places`](Self::places) of them. Dropping the handle
    /// gives the end back.
    ///
    /// If the end had an owner before, subscribers may be connected and hold chunks: their marks
    /// stand in `places` where [`connected`](Self::connected) says, see [`Place::of`], and
    /// `published` says for a place how many handles have been pushed into its queue since
    /// position 0, which is the queue's write position. Chunks lent beyond it are not lent.
    ///
    /// Looks at every mark once.
    ///
    /// # Errors
    ///
    /// `TooFewSlots`, `TooFewPlaces`; `Claim(Owned)` while somebody has the end; `Missing` if marks
    /// that are connected were not given, and then the end stays free.
    pub fn claim_publisher<'s>(
        &self,
        owner: OwnerId,
        limits: Limits,
        slots: &'s mut [Slot],
        places: &'s mut [Place<'a>],
        published: impl FnMut(usize) -> u32,
    ) -> Result<Publisher<'s, 'a, M>, ConnectError> {
        let claim = || claim_owner(self.part(), End::Writing, owner);
        rebuild(self, owner, limits, slots, places, published, claim)
    }

    /// Takes the publisher's end from one proven dead. Chunks that it had on loan are free;
    /// those it had shared stay with their subscribers, and what it had lent without pushing the
    /// handle is taken back. See [`claim_publisher`](Self::claim_publisher) for the arguments.
    ///
    /// # Errors
    ///
    /// As [`claim_publisher`](Self::claim_publisher); `Claim(NotTheOwner)` if the end is not the
    /// dead one's, `Claim(OwnDeath)` if `owner` is the dead one itself.
    pub fn recover_publisher<'s>(
        &self,
        dead: Dead<OwnerId>,
        owner: OwnerId,
        limits: Limits,
        slots: &'s mut [Slot],
        places: &'s mut [Place<'a>],
        published: impl FnMut(usize) -> u32,
    ) -> Result<Publisher<'s, 'a, M>, ConnectError> {
        let recover = || recover_owner(self.part(), End::Writing, dead, owner);
        rebuild(self, owner, limits, slots, places, published, recover)
    }

    #[inline(always)]
    pub(super) fn shape(&self) -> &Shape {
        &self.shape
    }

    pub(super) fn part(&self) -> &'a PartHeader {
        &self.words().part
    }

    fn words(&self) -> &'a Words {
        // SAFETY: valid for 'a: checked by init_at or attach. It holds atomics only.
        unsafe { self.base.cast().as_ref() }
    }

    /// The ids of the marks connected.
    pub(super) fn place_words(&self) -> &'a [AtomicU32] {
        self.words_at(size_of::<Words>(), self.shape.places)
    }

    #[inline(always)]
    pub(super) fn generations(&self) -> &'a [AtomicU32] {
        self.words_at(self.shape.generations, self.shape.chunks)
    }

    #[inline(always)]
    fn words_at(&self, offset: usize, count: u32) -> &'a [AtomicU32] {
        // SAFETY: `init_at` and `attach_any` have checked that all that the shape says lies in
        // the region, which is valid for 'a; both offsets are multiples of a word's size, and
        // atomics may be shared.
        unsafe {
            core::slice::from_raw_parts(self.base.add(offset).cast().as_ptr(), count as usize)
        }
    }

    /// The bytes of a chunk of that class, which has it.
    #[inline(always)]
    pub(super) fn chunk(&self, class: &Class, chunk: u32) -> NonNull<u8> {
        debug_assert!(chunk - class.first < class.count);
        let offset = class.offset + (chunk - class.first) as usize * class.size as usize;
        // SAFETY: within the class, which lies in the region.
        unsafe { self.base.add(offset) }
    }

    /// What stands for the bytes of a chunk under loom.
    #[inline(always)]
    pub(super) fn shadow(&self, chunk: u32) -> &'a [Shadow] {
        // SAFETY: under loom zero_at made one for each chunk.
        unsafe {
            Shadow::slice(self.base.add(self.shape.shadows).cast().as_ptr(), chunk as usize, 1)
        }
    }

    /// # Safety
    ///
    /// As the public functions below say.
    unsafe fn attach_any(region: Region<'a>) -> Result<Self, AttachError> {
        let expected = Expected {
            kind: Kind::CHUNK_POOL,
            version: VERSION,
            stride: 1,
            max_capacity: MAX_CHUNKS,
            capacity: None,
        };
        check_region(&region, size_of::<Words>(), LINE)?;
        // SAFETY: under loom the caller attaches to what zero_at made.
        let (_, found) = unsafe { PartHeader::check(&region, expected)? };
        // SAFETY: large enough and aligned (just checked), valid for 'a; atomics only.
        let words: &'a Words = unsafe { region.base().cast().as_ref() };
        let Some(alignment) = 1u32.checked_shl(found.options) else {
            return Err(AttachError::UnsupportedOption { found: found.options });
        };
        let mut options = Options::new(words.id.load(Relaxed), words.places.load(Relaxed));
        options.alignment = alignment;
        options.len = words.classes.load(Relaxed) as usize;
        for (class, words) in options.classes.iter_mut().zip(&words.table).take(options.len) {
            *class = (words.size.load(Relaxed), words.count.load(Relaxed));
        }
        let shape = Shape::new(&options)?;
        let wanted = shape.facts();
        if found.layout != wanted.layout {
            return Err(AttachError::WrongLayout { found: found.layout, wanted: wanted.layout });
        }
        // What follows from the rest is stored for those who look from outside; if it does not
        // follow, the writer means something else by the rest.
        let check = |what, found, limit| match found == limit {
            true => Ok(()),
            false => Err(Corrupt { what, found, limit }),
        };
        check("chunks, rounded up,", found.capacity, wanted.capacity)?;
        check("number of chunks", words.chunks.load(Relaxed), shape.chunks)?;
        check("offset of the chunks", found.data, wanted.data)?;
        for (class, words) in shape.classes().iter().zip(&words.table) {
            check("size of a class", words.size.load(Relaxed), class.size)?;
            check("first chunk of a class", words.first.load(Relaxed), class.first)?;
            let lines = (class.offset / LINE) as u32;
            check("offset of a class", words.offset.load(Relaxed), lines)?;
        }
        check_region(&region, shape.size, shape.alignment as usize)?;
        Ok(Self { base: region.base(), shape, memory: PhantomData })
    }
}

impl<'a> PoolRef<'a, Trusted> {
    /// Creates a pool at the start of `region`, nobody connected. Nobody can attach to it before
    /// all of it is written. Costs no more than its header and places, however large the
    /// pool: in a sparse mapping no further page is touched.
    ///
    /// # Errors
    ///
    /// `BadClass`, `TooMany`; `TooSmall`, `Misaligned`; `UnsupportedOption` for an alignment
    /// that there is none of.
    ///
    /// # Safety
    ///
    /// Nobody creates another part there at the same time; if one stood there before, nobody has
    /// a handle to it, and nobody attaches until this returns. No other pool that marks or
    /// handles of this one may meet has its id. Under loom `zero_at` was called before.
    ///
    /// And for as long as anybody uses it, what [`attach`](Self::attach) asks: slices of this
    /// memory are given out, so that its creator vouches for every other writer too, be it
    /// through another region of it in this process, and for the marks that a publisher is given.
    pub unsafe fn init_at(region: Region<'a>, options: Options) -> Result<Self, AttachError> {
        let shape = Shape::new(&options)?;
        check_region(&region, shape.size, shape.alignment as usize)?;
        // SAFETY: large enough and aligned (just checked), and ours by contract.
        let part = unsafe { PartHeader::prepare(&region, &shape.facts()) };
        let this = Self { base: region.base(), shape, memory: PhantomData };
        let words = this.words();
        words.id.store(shape.id, Relaxed);
        words.classes.store(shape.len as u32, Relaxed);
        words.chunks.store(shape.chunks, Relaxed);
        words.places.store(shape.places, Relaxed);
        for (class, words) in shape.classes.iter().zip(&words.table) {
            words.size.store(class.size, Relaxed);
            words.count.store(class.count, Relaxed);
            words.first.store(class.first, Relaxed);
            words.offset.store((class.offset / LINE) as u32, Relaxed);
        }
        // A generation may begin anywhere, so those are left as they are.
        for word in words.reserved.iter().chain(this.place_words()) {
            word.store(0, Relaxed);
        }
        part.publish();
        Ok(this)
    }

    /// What mapping fresh memory is in ordinary builds: makes loom's atomics, all zero, where
    /// [`init_at`](Self::init_at) will create a pool with `options`.
    ///
    /// # Safety
    ///
    /// The region is large enough for these options, aligned, and the caller's alone.
    #[cfg(all(loom, any(test, feature = "loom")))]
    pub unsafe fn zero_at(region: &Region<'a>, options: Options) {
        let shape = Shape::new(&options).expect("options that there is a pool with");
        let word = || AtomicU32::new(0);
        let words = Words {
            part: PartHeader::zero(),
            id: word(),
            classes: word(),
            chunks: word(),
            places: word(),
            reserved: core::array::from_fn(|_| word()),
            table: core::array::from_fn(|_| ClassWords {
                size: word(),
                count: word(),
                first: word(),
                offset: word(),
            }),
        };
        let base = region.base();
        // SAFETY: the caller's contract. Loom's types need no drop.
        unsafe {
            base.cast::<Words>().write(words);
            for place in 0..shape.places as usize {
                base.cast::<Words>().add(1).cast::<AtomicU32>().add(place).write(word());
            }
            for chunk in 0..shape.chunks as usize {
                base.add(shape.generations).cast::<AtomicU32>().add(chunk).write(word());
                Shadow::make(base.add(shape.shadows).cast().as_ptr(), chunk);
            }
        }
    }

    /// The same pool to one who trusts its other writers no more than
    /// [`attach_untrusted`](PoolRef::attach_untrusted) does.
    pub fn untrusted(self) -> PoolRef<'a, Untrusted> {
        let Self { base, shape, memory: _ } = self;
        PoolRef { base, shape, memory: PhantomData }
    }

    /// Attaches to the pool at the start of `region`, which a subscriber may have mapped
    /// read-only: nobody writes there but whoever claims the publisher's end.
    ///
    /// # Errors
    ///
    /// What is there is not a pool: see [`AttachError`]. Nothing is written.
    ///
    /// # Safety
    ///
    /// Every writer of this memory keeps the pool's protocol: it uses this crate, or does what
    /// this module's documentation says. In particular no publisher is given marks but those that
    /// subscribers claim: copies of them would let it overwrite what a subscriber reads. Where
    /// that cannot be promised, use [`attach_untrusted`](PoolRef::attach_untrusted).
    pub unsafe fn attach(region: Region<'a>) -> Result<Self, AttachError> {
        // SAFETY: passed on.
        unsafe { Self::attach_any(region) }
    }
}

impl<'a> PoolRef<'a, Untrusted> {
    /// Attaches to the pool at the start of `region`, whoever else may write to it and whatever:
    /// payloads are only copied, and no reference into the memory is ever given out.
    ///
    /// # Errors
    ///
    /// What is there is not a pool: see [`AttachError`]. Nothing is written.
    #[cfg(not(all(loom, any(test, feature = "loom"))))]
    pub fn attach_untrusted(region: Region<'a>) -> Result<Self, AttachError> {
        // SAFETY: untrusted handles make atomic accesses only, at places computed from what
        // was copied and checked here.
        unsafe { Self::attach_any(region) }
    }
}

impl<M: Trust> fmt::Debug for PoolRef<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolRef")
            .field("id", &self.shape.id)
            .field("chunks", &self.shape.chunks)
            .field("places", &self.shape.places)
            .finish_non_exhaustive()
    }
}
