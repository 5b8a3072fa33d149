//! The table's memory: created, attached to.

use super::words::{HEAD, Words};
use crate::part::{LINE, Shareable};
use crate::sync::AtomicU32;
use core::fmt;
use core::marker::PhantomData;
use core::mem::size_of;

#[cfg(not(all(loom, any(test, feature = "loom"))))]
use super::words::Version;
#[cfg(not(all(loom, any(test, feature = "loom"))))]
use crate::{
    part::{AttachError, Corrupt, Facts, Kind, PartHeader, check_region, layout_hash},
    region::Region,
    sync::Ordering::Relaxed,
};

#[cfg(not(all(loom, any(test, feature = "loom"))))]
const VERSION: u32 = 1;

/// Words of a cache line.
const LINE_WORDS: u32 = (LINE / size_of::<u32>()) as u32;

/// Limits that keep every sum below 2³².
const MAX_SLOTS: u32 = 1 << 20;
const MAX_ENTRY: u32 = 1 << 20;
const MAX_LIVE: u32 = 1 << 16;

/// What a new table is to be, for [`SlotTable::init_at`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Slots, from 1 to 2²⁰. Those that processes [enrol](SlotTable::enrol) in are the first
    /// 4096.
    pub slots: u32,
    /// What the entries are: a number of the program's own, the same for all types of which
    /// one is the beginning of the other. Attaching compares it.
    pub tag: u32,
    /// How often each slot had been taken; not 0 only to test the wrap.
    pub generation: u32,
    /// What each selector begins with; not 0 only to test the wrap.
    pub changes: u32,
}

impl Options {
    /// The tag of tables that were given none.
    pub const DEFAULT_TAG: u32 = 0;

    /// A table of so many slots.
    pub const fn new(slots: u32) -> Self {
        Self { slots, tag: Self::DEFAULT_TAG, generation: 0, changes: 0 }
    }

    /// The same with entries that are named by this number.
    pub const fn tag(mut self, tag: u32) -> Self {
        self.tag = tag;
        self
    }

    /// The same as if each slot had been taken so often, up to 2²⁰ − 1 times.
    pub const fn generation(mut self, generation: u32) -> Self {
        self.generation = generation;
        self
    }

    /// The same as if each slot's entry had been changed so often.
    pub const fn changes(mut self, changes: u32) -> Self {
        self.changes = changes;
        self
    }
}

/// How a table's memory is divided, in words.
#[derive(Clone, Copy, Debug)]
struct Shape {
    slots: u32,
    /// From one slot to the next.
    stride: u32,
    live: u32,
    /// One copy of the entry.
    entry: u32,
}

impl Shape {
    /// Words of the slots; at most 2⁴⁰, which need not fit the address space.
    const fn words(&self) -> Option<usize> {
        let words = self.slots as u64 * self.stride as u64;
        if words > isize::MAX as u64 / 4 { None } else { Some(words as usize) }
    }

    /// Words that a slot takes at least.
    const fn least(live: u32, entry: u32) -> u32 {
        HEAD as u32 + live + 2 * entry
    }
}

/// A table of slots whose entries are `T` and which have `LIVE` live words; a view of memory
/// that others have too. See the [module](crate::table).
///
/// `T` takes a multiple of four bytes, up to 2²⁰, and `LIVE` is at most 2¹⁶, checked when the
/// program is compiled.
pub struct SlotTable<'a, T, const LIVE: usize = 0> {
    /// The slots', as many as the shape says.
    words: &'a [AtomicU32],
    shape: Shape,
    pub(super) hint: u32,
    entries: PhantomData<fn(T) -> T>,
}

impl<T, const LIVE: usize> Clone for SlotTable<'_, T, LIVE> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T, const LIVE: usize> Copy for SlotTable<'_, T, LIVE> {}

impl<'a, T: Shareable, const LIVE: usize> SlotTable<'a, T, LIVE> {
    const CHECKED: () = {
        assert!(
            size_of::<T>().is_multiple_of(size_of::<u32>()),
            "an entry's size must be a multiple of 4"
        );
        assert!(size_of::<T>() <= MAX_ENTRY as usize, "an entry has at most 2^20 bytes");
        assert!(LIVE <= MAX_LIVE as usize, "a slot has at most 2^16 live words");
    };

    const fn shape(slots: u32) -> Shape {
        let () = Self::CHECKED;
        let (live, entry) = (LIVE as u32, (size_of::<T>() / size_of::<u32>()) as u32);
        let stride = Shape::least(live, entry).next_multiple_of(LINE_WORDS);
        Shape { slots, stride, live, entry }
    }

    /// Bytes that a table of so many slots takes in a region; `None` if it can have none or
    /// not so many, or they do not fit the address space.
    pub const fn required_size(slots: u32) -> Option<usize> {
        if slots == 0 || slots > MAX_SLOTS {
            return None;
        }
        match Self::shape(slots).words() {
            Some(words) => (words * size_of::<u32>()).checked_add(LINE),
            None => None,
        }
    }

    /// Words that so many slots take without a header, for [`in_words`](Self::in_words);
    /// `None` as for [`required_size`](Self::required_size).
    pub const fn words_for(slots: u32) -> Option<usize> {
        match Self::required_size(slots) {
            Some(_) => Self::shape(slots).words(),
            None => None,
        }
    }

    /// The table in `words`, as many slots as they have room for, without a header: for memory
    /// of one program, such as a static. Words that are all 0 are a new table; others go on
    /// from what they say.
    pub const fn in_words(words: &'a [AtomicU32]) -> Self {
        let mut shape = Self::shape(0);
        let slots = words.len() / shape.stride as usize;
        shape.slots = if slots > MAX_SLOTS as usize { MAX_SLOTS } else { slots as u32 };
        Self { words, shape, hint: 0, entries: PhantomData }
    }

    /// The same table, in which claiming and enrolling look at slot `hint` first (modulo the
    /// number of slots). Without it at slot 0, so that the taken ones are together.
    pub const fn starting_at(mut self, hint: u32) -> Self {
        self.hint = hint;
        self
    }

    /// How many slots it has.
    pub const fn slots(&self) -> u32 {
        self.shape.slots
    }

    /// The words of slot `index`; `None` beyond the last.
    pub(super) fn slot(&self, index: u32) -> Option<Words<'a>> {
        let Shape { slots, stride, live, entry } = self.shape;
        if index >= slots {
            return None;
        }
        // Within the slice's length, which is a usize: it was divided by the stride, or
        // checked to be slots times stride.
        let begin = index as usize * stride as usize;
        let words = self.words.get(begin..begin.checked_add(stride as usize)?)?;
        Words::split(words, live as usize, entry as usize)
    }

    /// Each slot's index once, from the hint on.
    pub(super) fn in_turn(&self) -> impl Iterator<Item = u32> + use<T, LIVE> {
        let slots = self.shape.slots;
        let first = self.hint.checked_rem(slots).unwrap_or(0);
        (first..slots).chain(0..first)
    }
}

#[cfg(not(all(loom, any(test, feature = "loom"))))]
impl<'a, T: Shareable, const LIVE: usize> SlotTable<'a, T, LIVE> {
    /// Creates a table at the start of `region`, all its slots nobody's. Nobody can attach to
    /// it before it is whole. Writes the header and three words of each slot.
    ///
    /// For whoever owns the memory and knows that nobody uses a table there. Those who did
    /// find their slots gone; that is wrong, and not undefined.
    ///
    /// # Errors
    ///
    /// `BadSlotCount`, `TooSmall`, `Misaligned` (to 64), or `UnsupportedOption` for a generation
    /// that there is not; nothing was written.
    pub fn init_at(region: &Region<'a>, options: Options) -> Result<Self, AttachError> {
        let Options { slots, tag, generation, changes } = options;
        if slots == 0 || slots > MAX_SLOTS {
            return Err(AttachError::BadSlotCount { found: slots, maximum: MAX_SLOTS });
        }
        if generation > crate::identity::OwnerId::MAX_GENERATION {
            return Err(AttachError::UnsupportedOption { found: generation });
        }
        let shape = Self::shape(slots);
        let this = Self::on(region, shape)?;
        let facts = Facts {
            kind: Kind::SLOT_TABLE,
            version: VERSION,
            layout: layout_hash(&[Kind::SLOT_TABLE.0, tag]),
            capacity: slots,
            stride: shape.stride * size_of::<u32>() as u32,
            options: shape.live,
            data: LINE as u32,
            start: shape.entry * size_of::<u32>() as u32,
        };
        // SAFETY: large enough and aligned: `on` has checked it. This build has no loom.
        let part = unsafe { PartHeader::prepare(region, &facts) };
        for slot in (0..slots).map_while(|index| this.slot(index)) {
            slot.owner.store(0, Relaxed);
            slot.version.store(Version::unpublished(generation).0, Relaxed);
            slot.selector.store(changes, Relaxed);
        }
        part.publish();
        Ok(this)
    }

    /// Attaches to the table at the start of `region`, whoever else may write to it. Its
    /// entries and live words are at least those of this type: see the
    /// [module](crate::table).
    ///
    /// # Errors
    ///
    /// What is there is not such a table: see [`AttachError`]; `WrongLayout` if it has another
    /// tag, `WrongElementSize` if entries or live words are fewer than asked for. Nothing is
    /// written.
    pub fn attach(region: &Region<'a>, tag: u32) -> Result<Self, AttachError> {
        // SAFETY: this build has no loom.
        let (_, found) = unsafe { PartHeader::read(region, Kind::SLOT_TABLE, VERSION)? };
        let layout = layout_hash(&[Kind::SLOT_TABLE.0, tag]);
        if found.layout != layout {
            return Err(AttachError::WrongLayout { found: found.layout, wanted: layout });
        }
        let own = Self::shape(found.capacity);
        if found.capacity == 0 || found.capacity > MAX_SLOTS {
            return Err(AttachError::BadSlotCount { found: found.capacity, maximum: MAX_SLOTS });
        }
        let word = size_of::<u32>() as u32;
        for (what, found, limit) in [
            ("bytes of an entry", found.start, MAX_ENTRY),
            ("number of live words", found.options, MAX_LIVE),
        ] {
            if found > limit {
                return Err(Corrupt { what, found, limit }.into());
            }
        }
        if !found.start.is_multiple_of(word) {
            let what = "bytes of an entry, no multiple of 4";
            return Err(Corrupt { what, found: found.start, limit: MAX_ENTRY }.into());
        }
        for (found, wanted) in [(found.start, own.entry * word), (found.options, own.live)] {
            if found < wanted {
                return Err(AttachError::WrongElementSize { found, wanted });
            }
        }
        let (live, entry) = (found.options, found.start / word);
        let least = Shape::least(live, entry) * word;
        if found.stride < least || !found.stride.is_multiple_of(LINE as u32) {
            let what = "stride of the slots, less than they take or no multiple of 64";
            return Err(Corrupt { what, found: found.stride, limit: least }.into());
        }
        if found.data != LINE as u32 {
            let what = "offset of the slots";
            return Err(Corrupt { what, found: found.data, limit: LINE as u32 }.into());
        }
        Self::on(region, Shape { slots: found.capacity, stride: found.stride / word, live, entry })
    }

    /// The table of this shape behind the header at the start of `region`.
    fn on(region: &Region<'a>, shape: Shape) -> Result<Self, AttachError> {
        let size = shape.words().and_then(|words| (words * size_of::<u32>()).checked_add(LINE));
        let wanted = size.unwrap_or(usize::MAX);
        check_region(region, wanted, LINE)?;
        let slots = region.part(LINE, wanted - LINE);
        let too_small = AttachError::TooSmall { found: region.len(), wanted };
        let words =
            AtomicU32::slice_at(&slots.ok_or(too_small)?, (wanted - LINE) / size_of::<u32>())?;
        Ok(Self { words, shape, hint: 0, entries: PhantomData })
    }
}

impl<T, const LIVE: usize> fmt::Debug for SlotTable<'_, T, LIVE> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlotTable").field("slots", &self.shape.slots).finish_non_exhaustive()
    }
}
