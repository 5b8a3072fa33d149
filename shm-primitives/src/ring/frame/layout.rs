//! The ring's memory: created, attached to, claimed.

use super::{ALIGNMENT, Checksum, HEADER, PADDING, Packing};
use crate::identity::OwnerId;
use crate::part::{
    AttachError, Corrupt, End, Expected, Facts, Kind, LINE, Line, PartHeader, Trust, Trusted,
    Untrusted, check_region, layout_hash, owner_of,
};
use crate::region::Region;
use crate::sync::{AtomicU32, Bytes, LOOM, Ordering::Relaxed, with_read_modify_write};
use core::cell::UnsafeCell;
use core::fmt;
use core::marker::PhantomData;
use core::mem::{offset_of, size_of};
use core::ptr::NonNull;

with_read_modify_write! {
    use super::{Reader, Writer};
    use crate::part::ClaimError;
}

const VERSION: u32 = 1;
pub(super) const MAX_CAPACITY: u32 = 1 << 30;

/// The ring's words, before its data.
#[repr(C, align(64))]
#[derive(Debug)]
pub(super) struct Words {
    pub part: PartHeader,
    pub write: Line<AtomicU32>,
    pub released: Line<AtomicU32>,
    pub consumed: Line<AtomicU32>,
}

const DATA: usize = size_of::<Words>();

const _: () = assert!(
    LOOM || DATA == 256
        && offset_of!(Words, write) == 64
        && offset_of!(Words, released) == 128
        && offset_of!(Words, consumed) == 192
);

#[cfg(not(all(loom, any(test, feature = "loom"))))]
impl Words {
    pub(super) const fn new(options: Options) -> Self {
        Self {
            part: PartHeader::new(options.facts()),
            write: Line(AtomicU32::new(options.start)),
            released: Line(AtomicU32::new(options.start)),
            consumed: Line(AtomicU32::new(options.start)),
        }
    }
}

/// What a new ring is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Bytes of data: a power of two to 2³⁰, from 512 (64 if packed densely).
    pub capacity: u32,
    /// What frames begin at multiples of: 8, 16, 32 or 64 bytes.
    pub packing: Packing,
    /// Whether frames carry a checksum.
    pub checksum: Checksum,
    /// The position it begins at, a multiple of 8; not 0 only to test the wrap.
    pub start: u32,
}

impl Options {
    /// A ring of `capacity` bytes whose frames are aligned to 64 bytes and carry no checksum.
    pub const fn new(capacity: u32) -> Self {
        Self { capacity, packing: Packing::Lines, checksum: Checksum::None, start: 0 }
    }

    /// The same with frames packed in this way.
    pub const fn packing(mut self, packing: Packing) -> Self {
        self.packing = packing;
        self
    }

    /// The same with frames that carry `checksum`.
    pub const fn checksum(mut self, checksum: Checksum) -> Self {
        self.checksum = checksum;
        self
    }

    /// The same beginning at position `start`.
    pub const fn start(mut self, start: u32) -> Self {
        self.start = start;
        self
    }

    /// Bytes of the largest payload: half the capacity less 16.
    pub const fn max_payload(&self) -> usize {
        (self.capacity as usize / 2).saturating_sub(8 + HEADER as usize)
    }

    /// Bytes the ring takes; `None` if it does not fit the address space.
    pub const fn required_size(&self) -> Option<usize> {
        let data = Bytes::size_for(self.capacity as usize);
        match DATA.checked_add(data) {
            Some(size) if size <= isize::MAX as usize => Some(size),
            _ => None,
        }
    }

    /// Whether a ring can be made with these.
    pub(crate) fn check(&self) -> Result<(), AttachError> {
        if !self.is_aligned() {
            return Err(AttachError::UnsupportedOption { found: self.start });
        }
        if !self.is_valid() {
            return Err(AttachError::BadCapacity { found: self.capacity, maximum: MAX_CAPACITY });
        }
        Ok(())
    }

    pub(super) const fn is_valid(&self) -> bool {
        self.capacity.is_power_of_two()
            && self.capacity >= self.packing.least_capacity()
            && self.capacity <= MAX_CAPACITY
    }

    pub(crate) const fn is_aligned(&self) -> bool {
        self.start.is_multiple_of(ALIGNMENT)
    }

    /// What stands in the part header: the checksum below, the packing above it.
    const fn to_word(self) -> u32 {
        self.checksum.to_word() | self.packing.to_word() << 8
    }

    pub(super) const fn from_word(capacity: u32, word: u32) -> Option<Self> {
        match (Checksum::from_word(word & 0xff), Packing::from_word(word >> 8)) {
            (Some(checksum), Some(packing)) => {
                Some(Self::new(capacity).packing(packing).checksum(checksum))
            }
            _ => None,
        }
    }

    const fn facts(&self) -> Facts {
        Facts {
            kind: Kind::FRAME_RING,
            version: VERSION,
            layout: layout_hash(&[Kind::FRAME_RING.0, HEADER]),
            capacity: self.capacity,
            stride: 1,
            options: self.to_word(),
            data: DATA as u32,
            start: self.start,
            extra: [0; 2],
        }
    }
}

/// A frame ring in memory that others reach too: what its ends are claimed from.
///
/// `M` says how far the memory's other writers are believed.
pub struct FrameRingRef<'a, M: Trust = Trusted> {
    pub(super) words: NonNull<Words>,
    pub(super) data: Bytes,
    pub(super) mask: u32,
    /// Bytes of a line that a frame may end behind for the next one to begin there.
    pub(super) fill: u32,
    pub(super) checksum: Checksum,
    pub(super) memory: PhantomData<(&'a UnsafeCell<u8>, M)>,
}

impl<M: Trust> Clone for FrameRingRef<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<M: Trust> Copy for FrameRingRef<'_, M> {}

// SAFETY: it gives access to atomics only; the ends, which access data, are claimed and are
// Send on their own account.
unsafe impl<M: Trust> Send for FrameRingRef<'_, M> {}
// SAFETY: as above.
unsafe impl<M: Trust> Sync for FrameRingRef<'_, M> {}

impl<'a, M: Trust> FrameRingRef<'a, M> {
    #[inline(always)]
    pub(super) fn words(&self) -> &'a Words {
        // SAFETY: valid for 'a: a ring's own field, or memory checked by attach. It holds
        // atomics only.
        unsafe { self.words.as_ref() }
    }

    /// Bytes of data.
    #[inline(always)]
    pub fn capacity(&self) -> usize {
        self.mask as usize + 1
    }

    /// Bytes of the largest payload.
    #[inline(always)]
    pub fn max_payload(&self) -> usize {
        (self.max_footprint() - HEADER) as usize
    }

    /// Whether frames carry a checksum.
    #[inline(always)]
    pub fn checksum(&self) -> Checksum {
        self.checksum
    }

    /// Bytes of the largest frame with its header.
    #[inline(always)]
    pub(super) fn max_footprint(&self) -> u32 {
        self.mask / 2 - 7
    }

    /// Where the frame behind the one of `payload` bytes at `position` begins. The caller has
    /// checked the length.
    #[inline(always)]
    pub(super) fn after(&self, position: u32, payload: u32) -> u32 {
        let end = position.wrapping_add(rounded(payload));
        let used = end % LINE as u32;
        if used > self.fill { end.wrapping_add(LINE as u32 - used) } else { end }
    }

    #[inline(always)]
    pub(super) fn data(&self) -> &Bytes {
        &self.data
    }

    /// Where the byte at `position` lies in the data.
    #[inline(always)]
    pub(super) fn offset(&self, position: u32) -> usize {
        (position & self.mask) as usize
    }

    /// The word at `position`, a multiple of 8.
    #[inline(always)]
    pub(super) fn word(&self, position: u32) -> &AtomicU32 {
        self.data.word(self.offset(position))
    }

    /// What a word that is not 0 says about the frame at `position`, checked.
    #[inline(always)]
    pub(super) fn decode(&self, position: u32, word: u32) -> Result<Found, Corrupt> {
        let rest = self.mask + 1 - (position & self.mask);
        if word & PADDING == 0 {
            // Rounded it is not beyond the end either, which is the end of a line.
            if word < HEADER || word > self.max_footprint() || word > rest {
                return Err(Corrupt {
                    what: "frame length",
                    found: word,
                    limit: rest.min(self.max_footprint()),
                });
            }
            return Ok(Found::Frame { payload: word - HEADER });
        }
        let padding = word & !PADDING;
        // Padding is shorter than the frame it makes room for, so it never begins the data.
        if padding != rest || padding > self.mask / 2 {
            return Err(Corrupt { what: "padding", found: padding, limit: rest });
        }
        Ok(Found::Padding(padding))
    }

    /// Bytes the ring takes in its region, as [`Options::required_size`] says.
    pub fn size(&self) -> usize {
        // No overflow: it lies in memory.
        DATA + Bytes::size_for(self.capacity())
    }

    /// How frames are packed.
    pub fn packing(&self) -> Packing {
        if self.fill == Packing::Dense.fill() { Packing::Dense } else { Packing::Lines }
    }

    /// Calls `each` with the place and length of the payload of every frame from position
    /// `from` to `to`, for a writer whose position is `to`: what lies between is published and
    /// nobody writes there. Lengths come from memory and are checked; at most the capacity is
    /// walked.
    ///
    /// # Errors
    ///
    /// `from` is none of this ring's last positions, or the frames do not lead from it to `to`.
    pub(super) fn walk(
        &self,
        from: u32,
        to: u32,
        mut each: impl FnMut(usize, u32),
    ) -> Result<(), Corrupt> {
        self.check_used(to, from)?;
        let mut position = from;
        while position != to {
            let found = self.decode(position, self.word(position).load(Relaxed))?;
            position = match found {
                Found::Frame { payload } => {
                    each(self.offset(position) + HEADER as usize, payload);
                    self.after(position, payload)
                }
                Found::Padding(padding) => position.wrapping_add(padding),
            };
            let (walked, limit) = (position.wrapping_sub(from), to.wrapping_sub(from));
            if walked > limit {
                return Err(Corrupt { what: "frames of this length before", found: walked, limit });
            }
        }
        Ok(())
    }

    /// Bytes of the frames that stand in the ring, for somebody who has neither end: an
    /// estimate. The writer's position is stored every 512 bytes or once a frame, whichever is
    /// more, so that much may be missing; and it changes while one looks. At most the capacity.
    pub fn queued(&self) -> usize {
        let written = self.words().write.load(Relaxed);
        let queued = written.wrapping_sub(self.words().consumed.load(Relaxed));
        // The reader may be ahead of what the writer has stored.
        let queued = queued.cast_signed().max(0).cast_unsigned();
        self.capacity().min(queued as usize)
    }

    /// Who has the writer's end (`Writing`) or the reader's (`Reading`); `None` if nobody
    /// has. Only a hint unless the owner is the caller.
    ///
    /// # Errors
    ///
    /// The word is no owner's.
    pub fn owner(&self, end: End) -> Result<Option<OwnerId>, Corrupt> {
        owner_of(&self.words().part, end)
    }

    fn aligned(&self, what: &'static str, position: u32) -> Result<u32, Corrupt> {
        if !position.is_multiple_of(ALIGNMENT) {
            return Err(Corrupt { what, found: position, limit: ALIGNMENT });
        }
        Ok(position)
    }

    /// The end of what is published: the first word that is 0. For a writer that takes over;
    /// nobody else writes meanwhile.
    ///
    /// The walk begins at the stored position, or at the reader's if that is further: what is
    /// behind the reader may already have been overwritten by a frame that was never
    /// published.
    pub(super) fn published_end(&self) -> Result<u32, Corrupt> {
        let stored = self.aligned("write position", self.words().write.load(Relaxed))?;
        let consumed = self.words().consumed.load(super::SECOND_LOOK);
        let consumed = self.aligned("consumed position", consumed)?;
        let begin = if stored.wrapping_sub(consumed).cast_signed() < 0 { consumed } else { stored };
        let mut position = begin;
        loop {
            let word = self.word(position).load(Relaxed);
            if word == 0 {
                return Ok(position);
            }
            position = match self.decode(position, word)? {
                Found::Frame { payload } => self.after(position, payload),
                Found::Padding(padding) => position.wrapping_add(padding),
            };
            let (walked, limit) = (position.wrapping_sub(begin), self.mask + 1);
            if walked > limit {
                return Err(Corrupt {
                    what: "frames beyond the write position",
                    found: walked,
                    limit,
                });
            }
        }
    }

    pub(super) fn consumed_for_writer(&self, write: u32) -> Result<u32, Corrupt> {
        let consumed = self.words().consumed.load(super::SECOND_LOOK);
        self.check_used(write, consumed)
    }

    /// A reader's position is not ahead of the writer's nor more than the capacity behind.
    #[inline(always)]
    pub(super) fn check_used(&self, write: u32, read: u32) -> Result<u32, Corrupt> {
        let used = write.wrapping_sub(read);
        if used > self.mask + 1 || !used.is_multiple_of(ALIGNMENT) {
            return Err(Corrupt {
                what: "write position ahead of the reader's by",
                found: used,
                limit: self.mask + 1,
            });
        }
        Ok(read)
    }

    fn on(region: &Region<'a>, options: Options) -> Self {
        let capacity = options.capacity;
        Self {
            words: region.base().cast(),
            // SAFETY: every caller has checked that header and data lie in the region, which
            // is valid for 'a; 256 is a multiple of 8.
            data: unsafe { Bytes::new(region.base().add(DATA).as_ptr(), capacity as usize) },
            mask: capacity - 1,
            fill: options.packing.fill(),
            checksum: options.checksum,
            memory: PhantomData,
        }
    }

    /// # Safety
    ///
    /// As the public functions below say.
    unsafe fn attach_any(region: Region<'a>, capacity: Option<u32>) -> Result<Self, AttachError> {
        let expected = Expected {
            kind: Kind::FRAME_RING,
            version: VERSION,
            stride: 1,
            max_capacity: MAX_CAPACITY,
            capacity,
        };
        check_region(&region, DATA, LINE)?;
        // SAFETY: under loom the caller attaches to what zero_at made.
        let (_, found) = unsafe { PartHeader::check(&region, expected)? };
        let Some(options) = Options::from_word(found.capacity, found.options) else {
            return Err(AttachError::UnsupportedOption { found: found.options });
        };
        if !options.is_valid() {
            return Err(AttachError::BadCapacity { found: found.capacity, maximum: MAX_CAPACITY });
        }
        let wanted = options.facts();
        if found.layout != wanted.layout {
            return Err(AttachError::WrongLayout { found: found.layout, wanted: wanted.layout });
        }
        if found.data != wanted.data {
            return Err(Corrupt {
                what: "offset of the data",
                found: found.data,
                limit: wanted.data,
            }
            .into());
        }
        check_region(&region, options.required_size().unwrap_or(usize::MAX), LINE)?;
        Ok(Self::on(&region, options))
    }
}

/// Bytes of a frame with `payload` bytes: header, payload, and what is left to a multiple of 8.
/// The caller has checked the length.
#[inline(always)]
pub(super) const fn rounded(payload: u32) -> u32 {
    (payload + HEADER + ALIGNMENT - 1) & !(ALIGNMENT - 1)
}

/// What a word at a frame's place says.
pub(super) enum Found {
    /// A frame.
    Frame {
        /// Bytes of its payload.
        payload: u32,
    },
    /// So many bytes of padding.
    Padding(u32),
}

impl<'a> FrameRingRef<'a, Trusted> {
    /// Creates an empty ring at the start of `region`. Nobody can attach to it before all of
    /// it is written. Costs no more than its header and its first word, however large the
    /// ring: in a sparse mapping no further page is touched.
    ///
    /// # Errors
    ///
    /// `BadCapacity`, `TooSmall`, `Misaligned` (to 64), `UnsupportedOption` for an
    /// start that is no multiple of 8.
    ///
    /// # Safety
    ///
    /// Nobody creates another ring there at the same time. If one stood there before, nobody has
    /// an end of it or a `FrameRingRef` to it, and nobody attaches until this returns: who has
    /// one would go on by the old ring's facts. Where none did, attachers may try all the while.
    /// Under loom `zero_at` was called before.
    pub unsafe fn init_at(region: Region<'a>, options: Options) -> Result<Self, AttachError> {
        // SAFETY: passed on.
        unsafe { Self::init_with(region, options, [0; 2]) }
    }

    /// The same, with two words of the structure that the ring belongs to.
    ///
    /// # Safety
    ///
    /// As [`init_at`](Self::init_at).
    pub(crate) unsafe fn init_with(
        region: Region<'a>,
        options: Options,
        extra: [u32; 2],
    ) -> Result<Self, AttachError> {
        options.check()?;
        let size = options.required_size().unwrap_or(usize::MAX);
        check_region(&region, size, LINE)?;
        // SAFETY: large enough and aligned (just checked), and ours by contract.
        let part = unsafe { PartHeader::prepare(&region, &Facts { extra, ..options.facts() }) };
        let ring = Self::on(&region, options);
        let words = ring.words();
        words.write.store(options.start, Relaxed);
        words.released.store(options.start, Relaxed);
        words.consumed.store(options.start, Relaxed);
        ring.word(options.start).store(0, Relaxed);
        part.publish();
        Ok(ring)
    }

    /// What mapping fresh memory is in ordinary builds: makes loom's atomics, all zero, where
    /// [`init_at`](Self::init_at) will create a ring with `options`.
    ///
    /// # Safety
    ///
    /// The region is large enough for these options, aligned, and the caller's alone.
    #[cfg(all(loom, any(test, feature = "loom")))]
    pub unsafe fn zero_at(region: &Region<'a>, options: Options) {
        let word = || Line(AtomicU32::new(0));
        // SAFETY: the caller's contract. Loom's types need no drop.
        unsafe {
            region.base().cast::<Words>().write(Words {
                part: PartHeader::zero(),
                write: word(),
                released: word(),
                consumed: word(),
            });
            Bytes::init(region.base().add(DATA).as_ptr(), options.capacity as usize);
        }
    }

    /// The same ring to one who trusts its other writers no more than
    /// [`attach_untrusted`](FrameRingRef::attach_untrusted) does.
    pub fn untrusted(self) -> FrameRingRef<'a, Untrusted> {
        let Self { words, data, mask, fill, checksum, memory: _ } = self;
        FrameRingRef { words, data, mask, fill, checksum, memory: PhantomData }
    }

    /// Attaches to the ring at the start of `region`; `capacity` is checked if given.
    ///
    /// # Errors
    ///
    /// What is there is not a frame ring: see [`AttachError`]. Nothing is written.
    ///
    /// # Safety
    ///
    /// Every writer of this memory keeps the ring's protocol, with owners of
    /// [one table](crate::identity#one-table): it uses this crate, or does
    /// what this module's documentation says. Where that cannot be promised, use
    /// [`attach_untrusted`](FrameRingRef::attach_untrusted).
    pub unsafe fn attach(region: Region<'a>, capacity: Option<u32>) -> Result<Self, AttachError> {
        // SAFETY: passed on.
        unsafe { Self::attach_any(region, capacity) }
    }
}

impl<'a> FrameRingRef<'a, Untrusted> {
    /// Attaches to the ring at the start of `region`, whoever else may write to it and
    /// whatever: payloads are copied out before they are looked at, and no reference into the
    /// memory is ever given out.
    ///
    /// # Errors
    ///
    /// What is there is not a frame ring: see [`AttachError`]. Nothing is written.
    #[cfg(not(all(loom, any(test, feature = "loom"))))]
    pub fn attach_untrusted(
        region: Region<'a>,
        capacity: Option<u32>,
    ) -> Result<Self, AttachError> {
        // SAFETY: untrusted handles make atomic accesses only, at places computed from what
        // was copied and checked here.
        unsafe { Self::attach_any(region, capacity) }
    }
}

with_read_modify_write! {
    #[cfg(not(all(loom, any(test, feature = "loom"))))]
    impl<'a> FrameRingRef<'a, Trusted> {
        /// The ring with these options at the start of `region`, without a look at its header.
        ///
        /// # Safety
        ///
        /// As [`attach`](FrameRingRef::attach); the region is aligned and large enough for these
        /// options, and somebody has seen that the ring there has them.
        pub(crate) unsafe fn assume(region: &Region<'a>, options: Options) -> Self {
            Self::on(region, options)
        }
    }
}

with_read_modify_write! {
    impl<'a, M: Trust> FrameRingRef<'a, M> {
        /// The words of the structure that the ring belongs to, as they stand there now.
        pub(crate) fn extra(&self) -> [u32; 2] {
            self.words().part.extra()
        }

        /// Takes the writer's end. Dropping the handle gives it back.
        ///
        /// # Errors
        ///
        /// `Owned` while somebody has it, be he alive or dead; `Corrupt` if the positions are
        /// impossible, and then it stays free.
        pub fn claim_writer(&self, owner: OwnerId) -> Result<Writer<'a, M>, ClaimError> {
            crate::part::claim_owner(&self.words().part, End::Writing, owner)?;
            self.writer(owner)
        }

        /// Takes the reader's end. Dropping the handle gives it back.
        ///
        /// # Errors
        ///
        /// As [`claim_writer`](Self::claim_writer).
        pub fn claim_reader(&self, owner: OwnerId) -> Result<Reader<'a, M>, ClaimError> {
            crate::part::claim_owner(&self.words().part, End::Reading, owner)?;
            self.reader(owner)
        }

        /// Takes the writer's end from one proven dead. What it had published stays; what it
        /// had not does not exist.
        ///
        /// # Errors
        ///
        /// `NotTheOwner` if the end is not the dead one's (somebody else was faster);
        /// `Corrupt` if the positions are impossible.
        pub fn recover_writer(
            &self, dead: crate::identity::Dead<OwnerId>, owner: OwnerId,
        ) -> Result<Writer<'a, M>, ClaimError> {
            crate::part::recover_owner(&self.words().part, End::Writing, dead, owner)?;
            self.writer(owner)
        }

        /// Takes the reader's end from one proven dead. The frame it had in hand is seen again
        /// if it died before it had stored its position.
        ///
        /// # Errors
        ///
        /// As [`recover_writer`](Self::recover_writer).
        pub fn recover_reader(
            &self, dead: crate::identity::Dead<OwnerId>, owner: OwnerId,
        ) -> Result<Reader<'a, M>, ClaimError> {
            crate::part::recover_owner(&self.words().part, End::Reading, dead, owner)?;
            self.reader(owner)
        }

        fn writer(&self, owner: OwnerId) -> Result<Writer<'a, M>, ClaimError> {
            let positions = self.published_end().and_then(|write| {
                Ok((write, self.consumed_for_writer(write)?))
            });
            match positions {
                Ok((write, consumed)) => Ok(Writer::new(*self, write, consumed, Some(owner))),
                Err(corrupt) => {
                    crate::part::release_owner(&self.words().part, End::Writing, owner);
                    Err(corrupt.into())
                }
            }
        }

        fn reader(&self, owner: OwnerId) -> Result<Reader<'a, M>, ClaimError> {
            match self.aligned("consumed position", self.words().consumed.load(Relaxed)) {
                Ok(consumed) => {
                    self.words().released.store(consumed, super::RELEASE);
                    Ok(Reader::new(*self, consumed, Some(owner)))
                }
                Err(corrupt) => {
                    crate::part::release_owner(&self.words().part, End::Reading, owner);
                    Err(corrupt.into())
                }
            }
        }
    }
}

impl<M: Trust> fmt::Debug for FrameRingRef<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameRingRef")
            .field("capacity", &self.capacity())
            .field("checksum", &self.checksum)
            .finish_non_exhaustive()
    }
}

crate::sync::with_read_modify_write! {
    // What a channel needs, which exists where ends are claimed; and layouts, which loom has none of.
    #[cfg(not(all(loom, any(test, feature = "loom"))))]
    impl Options {
        /// Bytes from the ring's start that are touched before its first frame is written: its words,
        /// and the first word of its data.
        pub(crate) const fn head(&self) -> usize {
            DATA + (self.start & (self.capacity - 1)) as usize + HEADER as usize
        }
    }

    impl<M: Trust> FrameRingRef<'_, M> {
        /// The first `N` bytes of the frame that the reader is at, for somebody who has neither end;
        /// `None` if there seems to be none, or a shorter one. They mean something only to one who can
        /// tell from what stands in them that it is the frame he means, and has learned from
        /// the reader, in a way that orders, that it is at that one.
        #[cfg(not(all(loom, any(test, feature = "loom"))))]
        pub(crate) fn glance<const N: usize>(&self) -> Option<[u8; N]> {
            let mut position = self.words().consumed.load(Relaxed);
            // Padding, then a frame.
            for _ in 0..2 {
                if !position.is_multiple_of(ALIGNMENT) {
                    return None;
                }
                let word = self.word(position).load(Relaxed);
                if word == 0 {
                    return None;
                }
                match self.decode(position, word).ok()? {
                    Found::Padding(padding) => position = position.wrapping_add(padding),
                    Found::Frame { payload } if (payload as usize) < N => return None,
                    Found::Frame { .. } => {
                        let mut bytes = [0; N];
                        let from = self.data.at(self.offset(position) + HEADER as usize);
                        // SAFETY: the frame was checked to lie within the data, and has so many bytes;
                        // who writes there meanwhile spoils the copy alone.
                        unsafe { crate::sync::copy_out(from, bytes.as_mut_ptr(), N) };
                        return Some(bytes);
                    }
                }
            }
            None
        }
    }
}
