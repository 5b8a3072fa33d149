//! Creating a segment: its plan, its words, and the moment it appears.

use super::words::Words;
use super::{
    ALIGNMENT_SHIFT, CLEARED, CREATED, Control, ENTRY, HEADER, MAX_ALIGNMENT, MAX_PARTS, Magic,
    PartId, REQUIRED, ROLE_SHIFT, Segment, SegmentError, State, at,
};
use crate::identity::OwnerId;
use crate::part::LINE;
use crate::region::Region;
use crate::sync::{Ordering::Relaxed, fence};
use core::fmt;

/// A part that a new segment is to have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewPart {
    /// Which.
    pub id: PartId,
    /// Whether readers that do not know it must decline the segment.
    pub required: bool,
    /// Bytes it takes.
    pub length: u64,
    /// What it begins at a multiple of, in bytes: a power of two. Every part has a cache line to
    /// itself, so less than 64 is 64. More than that also asks the segment to begin at such
    /// an address: a page, for what is mapped or protected by itself.
    pub alignment: u32,
}

impl NewPart {
    /// A part of `length` bytes that every reader must know.
    pub const fn required(id: PartId, length: u64) -> Self {
        Self { id, required: true, length, alignment: LINE as u32 }
    }

    /// A part of `length` bytes that readers may do without.
    pub const fn optional(id: PartId, length: u64) -> Self {
        Self { id, required: false, length, alignment: LINE as u32 }
    }

    /// The same aligned to `alignment` bytes.
    pub const fn aligned(mut self, alignment: u32) -> Self {
        self.alignment = alignment;
        self
    }

    const fn at_multiple_of(&self) -> u64 {
        if self.alignment < LINE as u32 { LINE as u64 } else { self.alignment as u64 }
    }
}

/// What a new segment is to be.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'p> {
    /// Its kind.
    pub magic: Magic,
    /// The version of its layout.
    pub version: u32,
    /// The lowest version whose readers understand it.
    pub min_reader: u32,
    /// The two words of the kind's own.
    pub own: [u32; 2],
    /// Its parts, which lie one behind the other in this order.
    pub parts: &'p [NewPart],
}

impl<'p> Plan<'p> {
    /// A segment of this kind and version with these parts, for readers of this version and later.
    pub const fn new(magic: Magic, version: u32, parts: &'p [NewPart]) -> Self {
        Self { magic, version, min_reader: version, own: [0; 2], parts }
    }

    /// The same with these two words of the kind's own.
    pub const fn own(mut self, words: [u32; 2]) -> Self {
        self.own = words;
        self
    }

    /// The same for readers of `version` and later.
    pub const fn min_reader(mut self, version: u32) -> Self {
        self.min_reader = version;
        self
    }

    /// Where part number `index` begins, or, for the number behind the last, the segment ends;
    /// `None` beyond that, or if it does not fit 64 bits.
    pub(crate) const fn offset(&self, index: usize) -> Option<u64> {
        if index > self.parts.len() {
            return None;
        }
        let mut end = (HEADER + self.parts.len() * ENTRY) as u64;
        let mut part = 0;
        loop {
            let multiple = if part < self.parts.len() {
                self.parts[part].at_multiple_of()
            } else {
                LINE as u64
            };
            let Some(begin) = end.checked_next_multiple_of(multiple) else { return None };
            if part == index {
                return Some(begin);
            }
            match begin.checked_add(self.parts[part].length) {
                Some(next) => end = next,
                None => return None,
            }
            part += 1;
        }
    }

    /// Bytes the segment takes, a multiple of 64; `None` if it is impossible.
    pub const fn size(&self) -> Option<u64> {
        match self.check() {
            Ok(size) => Some(size),
            Err(_) => None,
        }
    }

    /// The same, where it fits this target's address space.
    pub const fn required_size(&self) -> Option<usize> {
        match self.size() {
            Some(size) if size <= isize::MAX as u64 => Some(size as usize),
            _ => None,
        }
    }

    /// Whether there can be such a segment; its size.
    const fn check(&self) -> Result<u64, &'static str> {
        if self.magic.0 == 0 {
            return Err("its magic is 0");
        }
        if self.min_reader > self.version {
            return Err("not even its own version could read it");
        }
        if self.parts.len() > MAX_PARTS {
            return Err("it has too many parts");
        }
        let mut part = 0;
        while part < self.parts.len() {
            let NewPart { id, alignment, .. } = self.parts[part];
            if !alignment.is_power_of_two() || alignment > 1 << MAX_ALIGNMENT {
                return Err("an alignment is no power of two up to 1 GiB");
            }
            let mut other = 0;
            while other < part {
                let before = self.parts[other].id;
                if before.kind.0 == id.kind.0 && before.role == id.role {
                    return Err("it has the same part twice");
                }
                other += 1;
            }
            part += 1;
        }
        match self.offset(self.parts.len()) {
            Some(size) => Ok(size),
            None => Err("it does not fit 64 bits"),
        }
    }
}

impl<'a> Segment<'a, 0> {
    /// Begins a segment at the start of `region`: header and table. Make the parts, then
    /// [`publish`](Creating::publish) it; until then nobody can attach. `owner` may close it.
    ///
    /// What stood there is no segment any more after this, even if it is never published.
    ///
    /// # Errors
    ///
    /// `Impossible`, `TooSmall`, `Misaligned` (to 64, or to what a part needs). Nothing is
    /// written then.
    ///
    /// # Safety
    ///
    /// Nobody creates anything else in this memory at the same time. If a segment stood there
    /// before, nobody uses any part of it any more, and nobody attaches until this one is
    /// published. Where none did, attachers may try all the while. Under loom
    /// `zero_at` was called before.
    pub unsafe fn create<'p>(
        region: Region<'a>,
        plan: &Plan<'p>,
        owner: OwnerId,
    ) -> Result<Creating<'a, 'p>, SegmentError> {
        let size = plan.check().map_err(SegmentError::Impossible)?;
        if (region.len() as u64) < size {
            return Err(SegmentError::TooSmall { found: region.len() as u64, wanted: size });
        }
        let address = region.base().addr().get();
        for part in plan.parts {
            // At most 1 GiB.
            let wanted = part.alignment as usize;
            if !address.is_multiple_of(wanted) {
                return Err(SegmentError::Misaligned { found: address, wanted });
            }
        }
        let count = at::HEADER + plan.parts.len() * at::ENTRY_WORDS;
        // SAFETY: under loom made by zero_at, by contract.
        let words = unsafe { Words::at(&region, count)? };

        words.set(at::MAGIC, 0);
        fence(CLEARED);
        // The owner first: who sees the state is told by whom.
        words.set(at::OWNER, owner.word());
        words.set(at::STATE, State::Initialising.word());
        // Not the epoch of whatever stood here, and never 0.
        let epoch = words.get(at::EPOCH).wrapping_add(1).max(1);
        words.set(at::EPOCH, epoch);
        words.set(at::VERSION, plan.version);
        words.set(at::OWN, plan.own[0]);
        words.set(at::OWN + 1, plan.own[1]);
        words.set(at::MIN_READER, plan.min_reader);
        words.set_long(at::SIZE, size);
        words.set(at::TABLE, HEADER as u32);
        words.set(at::ENTRY, ENTRY as u32);
        words.set(at::PARTS, plan.parts.len() as u32);
        at::RESERVED.for_each(|word| words.set(word, 0));
        for (index, part) in plan.parts.iter().enumerate() {
            let entry = at::HEADER + index * at::ENTRY_WORDS;
            let alignment = part.at_multiple_of().trailing_zeros();
            let attributes = u32::from(part.id.role) << ROLE_SHIFT
                | alignment << ALIGNMENT_SHIFT
                | if part.required { REQUIRED } else { 0 };
            words.set(entry + at::KIND, part.id.kind.0);
            words.set(entry + at::ATTRIBUTES, attributes);
            // It fits: `check` has added up all of them.
            words.set_long(entry + at::OFFSET, plan.offset(index).unwrap_or(size));
            words.set_long(entry + at::LENGTH, part.length);
            at::ENTRY_RESERVED.for_each(|word| words.set(entry + word, 0));
        }
        Ok(Creating { region, words, plan: *plan, owner, epoch })
    }

    /// What mapping fresh memory is in ordinary builds: makes loom's words, all zero, for header
    /// and table of a segment by `plan`. The parts, whose offsets are counted in bytes, must
    /// begin behind `modelled_size`.
    ///
    /// # Safety
    ///
    /// The region is large enough, aligned, and the caller's alone.
    #[cfg(all(loom, any(test, feature = "loom")))]
    pub unsafe fn zero_at(region: &Region<'a>, plan: &Plan<'_>) {
        use crate::sync::AtomicU32;
        let words = region.base().cast::<AtomicU32>();
        for index in 0..at::HEADER + plan.parts.len() * at::ENTRY_WORDS {
            // SAFETY: the caller's contract. Loom's types need no drop.
            unsafe { words.add(index).write(AtomicU32::new(0)) };
        }
    }

    /// Bytes that header and table with so many parts take under loom.
    #[cfg(all(loom, any(test, feature = "loom")))]
    pub const fn modelled_size(parts: usize) -> usize {
        (at::HEADER + parts * at::ENTRY_WORDS) * size_of::<crate::sync::AtomicU32>()
    }
}

/// A segment that is being created: its parts can be made, and nobody else sees it. Dropping it
/// leaves it unfinished, as a death would.
#[must_use = "nobody can attach to a segment that was not published"]
pub struct Creating<'a, 'p> {
    region: Region<'a>,
    words: Words<'a>,
    plan: Plan<'p>,
    owner: OwnerId,
    epoch: u32,
}

impl<'a> Creating<'a, '_> {
    /// Where this part is to be made; `None` if the plan does not have it.
    pub fn part(&self, id: PartId) -> Option<Region<'a>> {
        let index = self.plan.parts.iter().position(|part| part.id == id)?;
        // They lie in the region: `create` has checked the end of the last.
        let offset = usize::try_from(self.plan.offset(index)?).ok()?;
        let length = usize::try_from(self.plan.parts[index].length).ok()?;
        self.region.part(offset, length)
    }

    /// How often a segment was created in this memory: another number than the last one's.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Makes the segment visible to attachers: the last store of creation.
    ///
    /// Dropping what is returned leaves a segment without an owner, which anybody may claim.
    /// Where it cannot be kept, as in a closure that the memory is lent to, drop it and call
    /// [`claim_control`](Segment::claim_control) later. Do not `forget` it: the owner word is then
    /// this owner's, and no handle can be had again while that one lives.
    pub fn publish(self) -> Control<'a> {
        self.words.word(at::STATE).store(State::Ready.word(), Relaxed);
        self.words.word(at::MAGIC).store(self.plan.magic.0, CREATED);
        Control::new(self.words, self.owner)
    }
}

impl fmt::Debug for Creating<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Creating")
            .field("plan", &self.plan)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}
