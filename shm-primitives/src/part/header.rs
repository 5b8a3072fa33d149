//! The header itself: writing it, checking it, and its owner words.

use super::{AttachError, Corrupt};
use crate::identity::OwnerId;
use crate::region::Region;
use crate::sync::{
    AtomicU32, LOOM, Ordering::Relaxed, const_unless_loom, fence, sites, with_read_modify_write,
};
use core::fmt;
use core::mem::{align_of, size_of};
use core::ops::Deref;
use core::ptr::NonNull;

with_read_modify_write! {
    use super::ClaimError;
    use crate::identity::Dead;
}

sites! { SITES
    /// The magic, after every other word of a part being created.
    CREATED = "part.created", Release, partner "part.attach",
        [Relaxed => Model("part_create_attach")];
    /// The magic, before the other words are read.
    ATTACH = "part.attach", Acquire, partner "part.created",
        [Relaxed => Model("part_create_attach")];
    /// The magic of a part that stood here before, cleared before its words are
    /// overwritten, for whoever attaches after a crash.
    CLEARED = "part.cleared", Release, partner "part.attach",
        [Relaxed => Limit("what a crash leaves is what the memory held, and a crash is not a load: every store before it is in it, in an order only the compiler could have changed; the fence forbids it that")];
    /// Taking an end: what its former owner did to the structure comes before
    /// what the new one does.
    CLAIM = "part.claim", Acquire, partner "part.release",
        [Relaxed => Model("spsc_release_claim")];
    /// Giving an end back, after the last access to the structure.
    RELEASE = "part.release", Release, partner "part.claim",
        [Relaxed => Model("spsc_release_claim")];
}

/// Bytes of a cache line, and of a part header: 64 on every target that has
/// caches worth the name. It is part of the layout, so it is the same on all.
pub(crate) const LINE: usize = 64;

/// A value alone on its cache line.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub(crate) struct Line<T>(pub T);

impl<T> Deref for Line<T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        &self.0
    }
}

/// Which structure a part is. Numbers from 0x8000_0000 on are never used by this crate: they are
/// for parts of your own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kind(pub u32);

impl Kind {
    /// [`SpscRing`](crate::ring::spsc).
    pub const SPSC_RING: Self = Self(1);
    /// [`FrameRing`](crate::ring::frame).
    pub const FRAME_RING: Self = Self(2);
    /// [`SlotTable`](crate::table).
    pub const SLOT_TABLE: Self = Self(3);
    /// A group of workers with their lanes: [`layout::phoenix`](crate::layout).
    pub const WORKER_GROUP: Self = Self(6);
    /// Equal pieces of memory for whoever claims their numbers:
    /// [`layout::lrpc`](crate::layout).
    pub const CHANNEL_AREA: Self = Self(7);
    /// The chunks of a [`pool`](crate::pool).
    pub const CHUNK_POOL: Self = Self(4);
    /// The marks of one subscriber of a [`pool`](crate::pool).
    pub const CHUNK_MARKS: Self = Self(5);
    /// A [`WakeWord`](crate::wake::WakeWord), in a line of its own.
    pub const WAKE_WORD: Self = Self(8);
    /// The words of a [`ReadyBitmap`](crate::ready::ReadyBitmap).
    pub const READY_BITMAP: Self = Self(9);
    /// Lanes from many senders to one receiver: [`lane`](crate::lane).
    pub const LANE_AREA: Self = Self(10);
    /// Lines of [counters](crate::counter).
    pub const COUNTERS: Self = Self(11);
    /// What a service is, and the orders of its workers: [`layout::service`](crate::layout).
    pub const SERVICE: Self = Self(12);
    /// [`ThreadMonitor`](crate::monitor::ThreadMonitor)s, a line each.
    pub const MONITORS: Self = Self(13);
    /// [`CancelWord`](crate::place)s: a row for each client.
    pub const CANCELS: Self = Self(14);
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::SPSC_RING => f.write_str("SPSC ring"),
            Self::FRAME_RING => f.write_str("frame ring"),
            Self::SLOT_TABLE => f.write_str("slot table"),
            Self::WORKER_GROUP => f.write_str("worker group"),
            Self::CHANNEL_AREA => f.write_str("channel area"),
            Self::CHUNK_POOL => f.write_str("chunk pool"),
            Self::CHUNK_MARKS => f.write_str("chunk marks"),
            Self::WAKE_WORD => f.write_str("wake word"),
            Self::READY_BITMAP => f.write_str("ready bitmap"),
            Self::LANE_AREA => f.write_str("lane area"),
            Self::COUNTERS => f.write_str("counters"),
            Self::SERVICE => f.write_str("service"),
            Self::MONITORS => f.write_str("monitors"),
            Self::CANCELS => f.write_str("cancel words"),
            Self(other) => write!(f, "number {other}"),
        }
    }
}

/// One of the two ends of a ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The producer's or writer's.
    Writing,
    /// The consumer's or reader's.
    Reading,
}

/// The 64 bytes at the start of every part. See the [module](crate::part) for the layout.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct PartHeader {
    magic: AtomicU32,
    version: AtomicU32,
    kind: AtomicU32,
    layout: AtomicU32,
    min_reader: AtomicU32,
    capacity: AtomicU32,
    stride: AtomicU32,
    options: AtomicU32,
    data: AtomicU32,
    start: AtomicU32,
    owners: [AtomicU32; 2],
    extra: [AtomicU32; 2],
    reserved: [AtomicU32; 2],
}

const _: () = assert!(LOOM || size_of::<PartHeader>() == LINE && align_of::<PartHeader>() == LINE);

/// What a new part is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub kind: Kind,
    pub version: u32,
    pub layout: u32,
    pub capacity: u32,
    pub stride: u32,
    pub options: u32,
    pub data: u32,
    pub start: u32,
    /// Words of the structure that the part belongs to.
    pub extra: [u32; 2],
}

/// What an attacher asks of a part it finds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub kind: Kind,
    pub version: u32,
    pub stride: u32,
    pub max_capacity: u32,
    pub capacity: Option<u32>,
}

impl PartHeader {
    /// "SHMP", as it reads in a dump of the memory.
    pub const MAGIC: u32 = u32::from_le_bytes(*b"SHMP");

    const_unless_loom! {
        /// A finished header, for memory nobody else sees yet.
        pub(crate) fn new(facts: Facts) -> Self {
            Self {
                magic: AtomicU32::new(Self::MAGIC),
                version: AtomicU32::new(facts.version),
                kind: AtomicU32::new(facts.kind.0),
                layout: AtomicU32::new(facts.layout),
                min_reader: AtomicU32::new(facts.version),
                capacity: AtomicU32::new(facts.capacity),
                stride: AtomicU32::new(facts.stride),
                options: AtomicU32::new(facts.options),
                data: AtomicU32::new(facts.data),
                start: AtomicU32::new(facts.start),
                owners: [AtomicU32::new(0), AtomicU32::new(0)],
                extra: [AtomicU32::new(facts.extra[0]), AtomicU32::new(facts.extra[1])],
                reserved: [AtomicU32::new(0), AtomicU32::new(0)],
            }
        }
    }

    /// All words zero, as in memory freshly mapped.
    #[cfg(all(loom, any(test, feature = "loom")))]
    pub(crate) fn zero() -> Self {
        let word = || AtomicU32::new(0);
        Self {
            magic: word(),
            version: word(),
            kind: word(),
            layout: word(),
            min_reader: word(),
            capacity: word(),
            stride: word(),
            options: word(),
            data: word(),
            start: word(),
            owners: [word(), word()],
            extra: [word(), word()],
            reserved: [word(), word()],
        }
    }

    /// Takes away the magic of a part that stood at the start of `region`, before anything else
    /// is stored: a crash in between must not leave it over half of the new words.
    ///
    /// # Safety
    ///
    /// The region is large enough and aligned. Under loom a header was made there.
    pub(crate) unsafe fn clear<'a>(region: &Region<'a>) -> &'a Self {
        // SAFETY: in bounds, aligned and valid for 'a by contract; any bytes are a
        // word, and atomics may be seen by others.
        let this = unsafe { region.base().cast::<Self>().as_ref() };
        this.magic.store(0, Relaxed);
        fence(CLEARED);
        this
    }

    /// Writes all but the magic at the start of `region`.
    ///
    /// # Safety
    ///
    /// The region is large enough and aligned. Under loom a header was made there.
    pub(crate) unsafe fn prepare<'a>(region: &Region<'a>, facts: &Facts) -> &'a Self {
        // SAFETY: passed on.
        let this = unsafe { Self::clear(region) };
        this.version.store(facts.version, Relaxed);
        this.kind.store(facts.kind.0, Relaxed);
        this.layout.store(facts.layout, Relaxed);
        this.min_reader.store(facts.version, Relaxed);
        this.capacity.store(facts.capacity, Relaxed);
        this.stride.store(facts.stride, Relaxed);
        this.options.store(facts.options, Relaxed);
        this.data.store(facts.data, Relaxed);
        this.start.store(facts.start, Relaxed);
        for (word, value) in this.extra.iter().zip(facts.extra) {
            word.store(value, Relaxed);
        }
        for word in this.owners.iter().chain(&this.reserved) {
            word.store(0, Relaxed);
        }
        this
    }

    /// Makes the part visible to attachers: the last store of creation.
    pub(crate) fn publish(&self) {
        self.magic.store(Self::MAGIC, CREATED);
    }

    /// Checks the header at the start of `region` and returns it with what it
    /// says, each word read once.
    ///
    /// # Safety
    ///
    /// Under loom a header must have been prepared there.
    pub(crate) unsafe fn check<'a>(
        region: &Region<'a>,
        expected: Expected,
    ) -> Result<(&'a Self, Facts), AttachError> {
        // SAFETY: passed on.
        let (this, facts) = unsafe { Self::read(region, expected.kind, expected.version)? };
        let Facts { stride, capacity, .. } = facts;
        if stride != expected.stride {
            return Err(AttachError::WrongElementSize { found: stride, wanted: expected.stride });
        }
        if !capacity.is_power_of_two() || capacity > expected.max_capacity {
            return Err(AttachError::BadCapacity {
                found: capacity,
                maximum: expected.max_capacity,
            });
        }
        if let Some(wanted) = expected.capacity
            && wanted != capacity
        {
            return Err(AttachError::UnexpectedCapacity { found: capacity, wanted });
        }
        Ok((this, facts))
    }

    /// The same, checking only that the part is of this kind and that version `version` can
    /// read it: for structures that judge their capacity and stride themselves.
    ///
    /// # Safety
    ///
    /// As [`check`](Self::check).
    pub(crate) unsafe fn read<'a>(
        region: &Region<'a>,
        wanted: Kind,
        reader: u32,
    ) -> Result<(&'a Self, Facts), AttachError> {
        // SAFETY: atomic words in repr(C); under loom made there, by contract.
        let this = unsafe { region.words::<Self>()? };
        let magic = this.magic.load(ATTACH);
        if magic != Self::MAGIC {
            return Err(AttachError::WrongMagic { found: magic, wanted: Self::MAGIC });
        }
        let kind = Kind(this.kind.load(Relaxed));
        if kind != wanted {
            return Err(AttachError::WrongKind { found: kind, wanted });
        }
        let version = this.version.load(Relaxed);
        if version < reader {
            return Err(AttachError::WrongVersion { found: version, wanted: reader });
        }
        let min_reader = this.min_reader.load(Relaxed);
        if min_reader > reader {
            return Err(AttachError::NewerRequired { found: min_reader, wanted: reader });
        }
        let facts = Facts {
            kind,
            version,
            layout: this.layout.load(Relaxed),
            capacity: this.capacity.load(Relaxed),
            stride: this.stride.load(Relaxed),
            options: this.options.load(Relaxed),
            data: this.data.load(Relaxed),
            start: this.start.load(Relaxed),
            extra: this.extra(),
        };
        Ok((this, facts))
    }

    /// The options word; for a part of this process's own making.
    #[cfg(not(all(loom, any(test, feature = "loom"))))]
    pub(crate) fn options(&self) -> u32 {
        self.options.load(Relaxed)
    }

    /// The words of the structure that the part belongs to.
    pub(crate) fn extra(&self) -> [u32; 2] {
        [self.extra[0].load(Relaxed), self.extra[1].load(Relaxed)]
    }

    fn owner(&self, end: End) -> &AtomicU32 {
        &self.owners[end as usize]
    }
}

/// Checks that a region can hold `size` bytes aligned to `alignment`.
pub(crate) fn check_region(
    region: &Region<'_>,
    size: usize,
    alignment: usize,
) -> Result<(), AttachError> {
    let address = region.base().addr().get();
    if !address.is_multiple_of(alignment) {
        return Err(AttachError::Misaligned { found: address, wanted: alignment });
    }
    if region.len() < size {
        return Err(AttachError::TooSmall { found: region.len(), wanted: size });
    }
    Ok(())
}

/// FNV-1a over the words that two sides must agree on. The algorithm is Fowler,
/// Noll and Vo's, 32 bits.
pub(crate) const fn layout_hash(words: &[u32]) -> u32 {
    let mut hash: u32 = 0x811c_9dc5;
    let mut word = 0;
    while word < words.len() {
        let bytes = words[word].to_le_bytes();
        let mut byte = 0;
        while byte < bytes.len() {
            hash = (hash ^ bytes[byte] as u32).wrapping_mul(0x0100_0193);
            byte += 1;
        }
        word += 1;
    }
    hash
}

/// Who has `end`; `Corrupt` if the word is no id.
pub(crate) fn owner_of(header: &PartHeader, end: End) -> Result<Option<OwnerId>, Corrupt> {
    let word = header.owner(end).load(Relaxed);
    decode_owner(word)
}

pub(crate) fn decode_owner(word: u32) -> Result<Option<OwnerId>, Corrupt> {
    match OwnerId::from_word(word) {
        None if word != 0 => Err(bad_owner(word)),
        id => Ok(id),
    }
}

fn bad_owner(word: u32) -> Corrupt {
    Corrupt { what: "owner word, of no generation", found: word, limit: 1 << OwnerId::INDEX_BITS }
}

with_read_modify_write! {
    /// Takes `end` for `owner`.
    pub(crate) fn claim_owner(header: &PartHeader, end: End, owner: OwnerId) -> Result<(), ClaimError> {
        match header.owner(end).compare_exchange(0, owner.word(), CLAIM) {
            Ok(_) => Ok(()),
            Err(word) => match OwnerId::from_word(word) {
                Some(other) => Err(ClaimError::Owned(other)),
                None => Err(bad_owner(word).into()),
            },
        }
    }

    /// Takes `end` from one proven dead.
    pub(crate) fn recover_owner(
        header: &PartHeader, end: End, dead: Dead<OwnerId>, owner: OwnerId,
    ) -> Result<(), ClaimError> {
        if dead.id() == owner {
            return Err(ClaimError::OwnDeath(owner));
        }
        match header.owner(end).compare_exchange(dead.id().word(), owner.word(), CLAIM) {
            Ok(_) => Ok(()),
            Err(word) => Err(ClaimError::NotTheOwner { found: decode_owner(word)? }),
        }
    }
}

/// Gives `end` back if `owner` still has it.
pub(crate) fn release_owner(header: &PartHeader, end: End, owner: OwnerId) {
    // Only a living owner's word is its own to clear, and nobody else stores over
    // it without proof of its death: load and store suffice.
    if header.owner(end).load(Relaxed) == owner.word() {
        header.owner(end).store(0, RELEASE);
    }
}

/// The region where a part's data lie, `len` bytes at `offset`.
pub(crate) fn data_of(
    region: &Region<'_>,
    offset: usize,
    len: usize,
) -> Result<NonNull<u8>, AttachError> {
    match region.part(offset, len) {
        Some(data) => Ok(data.base()),
        None => {
            Err(AttachError::TooSmall { found: region.len(), wanted: offset.saturating_add(len) })
        }
    }
}
