//! Attaching to a segment, and closing it.

use super::words::Words;
use super::{
    ALIGNMENT_SHIFT, ATTACH, CLOSING, CONFIRM, ENTRY, HEADER, MAX_ALIGNMENT, MAX_PARTS, Magic,
    PartId, RELEASE, REQUIRED, ROLE_SHIFT, SegmentError, State, at,
};
use crate::identity::{Dead, OwnerId};
use crate::part::{Corrupt, Kind, decode_owner};
use crate::region::Region;
use crate::sync::{crash, fence, with_read_modify_write};
use core::fmt;

with_read_modify_write! {
    use super::CLAIM;
    use crate::part::ClaimError;
}

/// What an attacher knows of the segments it attaches to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Known<const N: usize> {
    /// Their kind.
    pub magic: Magic,
    /// Its own version: segments that require a newer one are declined.
    pub version: u32,
    /// The oldest version that it reads.
    pub oldest: u32,
    /// The parts that it knows. It may do without them, and asks for those that it cannot do
    /// without by [`Segment::require`].
    pub parts: [PartId; N],
}

impl<const N: usize> Known<N> {
    /// Segments of this kind, of this version or made to be readable by it.
    pub const fn new(magic: Magic, version: u32, parts: [PartId; N]) -> Self {
        Self { magic, version, oldest: version, parts }
    }

    /// The same, back to version `oldest`.
    pub const fn oldest(mut self, oldest: u32) -> Self {
        self.oldest = oldest;
        self
    }
}

/// Where a part lies, checked.
#[derive(Clone, Copy, Debug)]
struct Place {
    offset: usize,
    length: usize,
}

/// A segment that is ready: what its parts are attached from. See the
/// [module](crate::segment).
///
/// It keeps a copy of what header and table said.
pub struct Segment<'a, const N: usize> {
    region: Region<'a>,
    words: Words<'a>,
    magic: Magic,
    version: u32,
    own: [u32; 2],
    epoch: u32,
    size: u64,
    ids: [PartId; N],
    places: [Option<Place>; N],
}

/// What header and table say: everything but where.
struct Facts<const N: usize> {
    version: u32,
    own: [u32; 2],
    epoch: u32,
    size: u64,
    places: [Option<Place>; N],
}

impl<'a, const N: usize> Segment<'a, N> {
    /// Attaches to the segment at the start of `region`, which may be larger. Reads header and
    /// table; no part is looked into.
    ///
    /// # Errors
    ///
    /// What is there is no such segment, is not ready, or requires a newer reader: see
    /// [`SegmentError`]. Nothing is written.
    #[cfg(not(all(loom, any(test, feature = "loom"))))]
    pub fn attach(region: Region<'a>, known: &Known<N>) -> Result<Self, SegmentError> {
        // SAFETY: there is no loom in this build.
        unsafe { Self::attach_any(region, known) }
    }

    /// Attaches to the segment at the start of `region`, which may be larger.
    ///
    /// # Errors
    ///
    /// What is there is no such segment: see [`SegmentError`].
    ///
    /// # Safety
    ///
    /// `zero_at` was called there, for as many parts.
    #[cfg(all(loom, any(test, feature = "loom")))]
    pub unsafe fn attach(region: Region<'a>, known: &Known<N>) -> Result<Self, SegmentError> {
        // SAFETY: passed on.
        unsafe { Self::attach_any(region, known) }
    }

    /// # Safety
    ///
    /// Under loom the words were made there.
    unsafe fn attach_any(region: Region<'a>, known: &Known<N>) -> Result<Self, SegmentError> {
        // SAFETY: passed on.
        let words = unsafe { Words::at(&region, at::HEADER)? };
        // SAFETY: passed on.
        let facts = unsafe { check(&region, words, known)? };
        let Facts { version, own, epoch, size, places } = facts;
        let (magic, ids) = (known.magic, known.parts);
        Ok(Self { region, words, magic, version, own, epoch, size, ids, places })
    }

    /// Its kind.
    pub fn magic(&self) -> Magic {
        self.magic
    }

    /// The version of its creator's layout; may be newer than the attacher's.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The two words of the kind's own.
    pub fn own(&self) -> [u32; 2] {
        self.own
    }

    /// The epoch it was attached in: which of the segments created in this memory.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Bytes of the whole segment.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The region of a part; `None` if the segment does not have it, or it is none of those
    /// known to the attacher.
    pub fn part(&self, id: PartId) -> Option<Region<'a>> {
        let index = self.ids.iter().position(|known| *known == id)?;
        let Place { offset, length } = self.places[index]?;
        self.region.part(offset, length)
    }

    /// The same where there is no doing without.
    ///
    /// # Errors
    ///
    /// `MissingPart`.
    pub fn require(&self, id: PartId) -> Result<Region<'a>, SegmentError> {
        self.part(id).ok_or(SegmentError::MissingPart(id))
    }

    /// How far it is. May be out of date at once.
    ///
    /// # Errors
    ///
    /// The word is no state.
    #[inline]
    pub fn state(&self) -> Result<State, Corrupt> {
        State::from_word(self.words.get(at::STATE))
    }

    /// Whether it is ready; a word that is no state is none that says so. Also a hint, and cheaper
    /// than [`state`](Self::state), for who asks at each message.
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.words.get(at::STATE) == State::Ready.word()
    }

    /// Who may close it; `None` for nobody. Only a hint unless the owner is the caller.
    ///
    /// # Errors
    ///
    /// The word is no owner's.
    pub fn owner(&self) -> Result<Option<OwnerId>, Corrupt> {
        decode_owner(self.words.get(at::OWNER))
    }

    /// Looks again whether the segment is still the one attached to, and ready, for an opener
    /// that has just claimed its place in it: an end, a slot. If so, an owner that closes it
    /// later finds the place claimed. If not, give the place back and open anew.
    ///
    /// # Errors
    ///
    /// `Closing`, `GivenUp`, `Renewed`, `WrongMagic` or `Initialising`.
    pub fn confirm(&self) -> Result<(), SegmentError> {
        fence(CONFIRM);
        let magic = Magic(self.words.get(at::MAGIC));
        check_magic(self.words, magic, self.magic)?;
        let epoch = self.words.get(at::EPOCH);
        if epoch != self.epoch {
            return Err(SegmentError::Renewed { found: epoch, wanted: self.epoch });
        }
        check_state(self.words)
    }
}

/// Who owns the segment of that kind at the start of `region`, in whatever state and of whatever
/// version it is, with parts that nobody here knows too; `None` for nobody. For who puts away what
/// the dead left, and needs nothing else of it.
///
/// # Errors
///
/// There is no such segment: `WrongMagic`, `Corrupt`, `TooSmall` or `Misaligned`.
#[cfg(not(all(loom, any(test, feature = "loom"))))]
pub fn owner_of(region: &Region<'_>, magic: Magic) -> Result<Option<OwnerId>, SegmentError> {
    // SAFETY: there is no loom in this build.
    let words = unsafe { Words::at(region, at::HEADER)? };
    let found = Magic(words.word(at::MAGIC).load(ATTACH));
    match check_magic(words, found, magic) {
        Ok(()) | Err(SegmentError::Initialising { .. }) => {}
        Err(error) => return Err(error),
    }
    Ok(decode_owner(words.get(at::OWNER))?)
}

/// Says of the segment of that kind at the start of `region`, if it is `dead`'s and ready, that
/// nobody goes on with it: openers decline from now on, and who has it sees the state
/// [`GivenUp`](State::GivenUp). Whether it is the dead one's: it stays so, for whoever is to find
/// it, and one that was closing stays closing. Of any version, as [`owner_of`].
///
/// For who is about to unlink it, and keeps others from taking it over meanwhile by
/// [`recover_control`](Segment::recover_control): one that goes on with it, and is not seen here,
/// would have a segment that nobody opens. Several may do this at once.
///
/// # Errors
///
/// There is no such segment: `WrongMagic`, `Corrupt`, `TooSmall` or `Misaligned`.
#[cfg(not(all(loom, any(test, feature = "loom"))))]
pub fn give_up(
    region: &Region<'_>,
    magic: Magic,
    dead: Dead<OwnerId>,
) -> Result<bool, SegmentError> {
    if owner_of(region, magic)? != Some(dead.id()) {
        return Ok(false);
    }
    // SAFETY: there is no loom in this build.
    let words = unsafe { Words::at(region, at::HEADER)? };
    if words.get(at::STATE) == State::Ready.word() {
        words.set(at::STATE, State::GivenUp.word());
        // As in `close`: who was faster has claimed its place.
        fence(CLOSING);
    }
    Ok(true)
}

fn check_magic(words: Words<'_>, found: Magic, wanted: Magic) -> Result<(), SegmentError> {
    if found == wanted {
        return Ok(());
    }
    if found.0 == 0 && words.get(at::STATE) == State::Initialising.word() {
        return Err(SegmentError::Initialising { owner: named(words) });
    }
    Err(SegmentError::WrongMagic { found, wanted })
}

fn check_state(words: Words<'_>) -> Result<(), SegmentError> {
    match State::from_word(words.get(at::STATE))? {
        State::Ready => Ok(()),
        State::Closing => Err(SegmentError::Closing { owner: named(words) }),
        State::GivenUp => Err(SegmentError::GivenUp { owner: named(words) }),
        State::Initialising => Err(SegmentError::Initialising { owner: named(words) }),
    }
}

/// The owner, to be named in an error.
fn named(words: Words<'_>) -> Option<OwnerId> {
    OwnerId::from_word(words.get(at::OWNER))
}

/// Checks header and table at the start of `region`, each word read once.
///
/// # Safety
///
/// Under loom the words were made there.
unsafe fn check<const N: usize>(
    region: &Region<'_>,
    words: Words<'_>,
    known: &Known<N>,
) -> Result<Facts<N>, SegmentError> {
    let magic = Magic(words.word(at::MAGIC).load(ATTACH));
    check_magic(words, magic, known.magic)?;
    let version = words.get(at::VERSION);
    if version < known.oldest {
        return Err(SegmentError::WrongVersion { found: version, wanted: known.oldest });
    }
    let min_reader = words.get(at::MIN_READER);
    if min_reader > known.version {
        return Err(SegmentError::NewerRequired { found: min_reader, wanted: known.version });
    }
    check_state(words)?;
    let size = words.get_long(at::SIZE);
    if size > region.len() as u64 {
        return Err(SegmentError::TooSmall { found: region.len() as u64, wanted: size });
    }
    let table = words.get(at::TABLE);
    if (table as usize) < HEADER || !table.is_multiple_of(4) {
        return Err(corrupt("offset of the table of parts", table, HEADER as u32));
    }
    let entry_size = words.get(at::ENTRY);
    if (entry_size as usize) < ENTRY || !entry_size.is_multiple_of(4) {
        return Err(corrupt("bytes of an entry of the table of parts", entry_size, ENTRY as u32));
    }
    let count = words.get(at::PARTS);
    if count as usize > MAX_PARTS {
        return Err(corrupt("number of parts", count, MAX_PARTS as u32));
    }
    // No overflow: 32 bits, and 10 more.
    let table_end = u64::from(table) + u64::from(count) * u64::from(entry_size);
    if table_end > size {
        let limit = u32::try_from(size).unwrap_or(u32::MAX);
        return Err(corrupt(
            "end of the table of parts",
            u32::try_from(table_end).unwrap_or(u32::MAX),
            limit,
        ));
    }
    // Lossless: it lies in the region.
    // SAFETY: passed on.
    let words_with_table = unsafe { Words::at(region, (table_end / 4) as usize)? };

    let mut facts = Facts {
        version,
        own: [words.get(at::OWN), words.get(at::OWN + 1)],
        epoch: words.get(at::EPOCH),
        size,
        places: [None; N],
    };
    let mut before = table_end;
    for entry in 0..count {
        let first = (table / 4) as usize + entry as usize * (entry_size / 4) as usize;
        before = check_entry(region, words_with_table, first, entry, before, known, &mut facts)?;
    }
    Ok(facts)
}

/// Checks entry number `entry` of the table, which begins at word `first`, and notes it if it is
/// known; where its part ends.
fn check_entry<const N: usize>(
    region: &Region<'_>,
    words: Words<'_>,
    first: usize,
    entry: u32,
    before: u64,
    known: &Known<N>,
    facts: &mut Facts<N>,
) -> Result<u64, SegmentError> {
    let attributes = words.get(first + at::ATTRIBUTES);
    let id =
        PartId { kind: Kind(words.get(first + at::KIND)), role: (attributes >> ROLE_SHIFT) as u16 };
    let known = known.parts.iter().position(|part| *part == id);
    if known.is_none() && attributes & REQUIRED != 0 {
        return Err(SegmentError::UnknownPart(id));
    }
    let alignment = attributes >> ALIGNMENT_SHIFT & 0xff;
    if alignment > MAX_ALIGNMENT {
        return Err(corrupt("alignment of a part, as a power of two", alignment, MAX_ALIGNMENT));
    }
    let offset = words.get_long(first + at::OFFSET);
    let length = words.get_long(first + at::LENGTH);
    let wanted = 1u64 << alignment;
    if !offset.is_multiple_of(wanted) {
        return Err(SegmentError::PartMisaligned { entry, offset, wanted });
    }
    if offset < before {
        return Err(SegmentError::PartOverlaps { entry, offset, wanted: before });
    }
    let end = match offset.checked_add(length) {
        Some(end) if end <= facts.size => end,
        _ => return Err(SegmentError::PartOutside { entry, offset, length, size: facts.size }),
    };
    if let Some(known) = known {
        let (address, wanted) = (region.base().addr().get(), 1usize << alignment);
        if !address.is_multiple_of(wanted) {
            return Err(SegmentError::Misaligned { found: address, wanted });
        }
        // Lossless: it lies in the region.
        let place = Place { offset: offset as usize, length: length as usize };
        if facts.places[known].replace(place).is_some() {
            return Err(SegmentError::DuplicatePart(id));
        }
    }
    Ok(end)
}

fn corrupt(what: &'static str, found: u32, limit: u32) -> SegmentError {
    SegmentError::Corrupt(Corrupt { what, found, limit })
}

with_read_modify_write! {
    impl<'a, const N: usize> Segment<'a, N> {
        /// Takes the segment's owner word, if nobody has it.
        ///
        /// # Errors
        ///
        /// `Owned` while somebody has it, alive or dead; `Corrupt` if the word is no owner's.
        pub fn claim_control(&self, owner: OwnerId) -> Result<Control<'a>, ClaimError> {
            match self.words.word(at::OWNER).compare_exchange(0, owner.word(), CLAIM) {
                Ok(_) => Ok(Control::new(self.words, owner)),
                Err(word) => match decode_owner(word)? {
                    Some(other) => Err(ClaimError::Owned(other)),
                    // It fails only if the word is not 0.
                    None => Err(ClaimError::NotTheOwner { found: None }),
                },
            }
        }

        /// The owner word once more, for the owner who [kept](Control::keep) it, or who made the
        /// segment where it could not keep the [`Control`] itself.
        ///
        /// # Errors
        ///
        /// `NotTheOwner` if the word is not `owner`'s; `Corrupt` if it is no owner's.
        ///
        /// `owner` is to be the caller's own id, and there is to be no other `Control` of it: the
        /// first one dropped gives the word back for both.
        pub fn resume_control(&self, owner: OwnerId) -> Result<Control<'a>, ClaimError> {
            match decode_owner(self.words.get(at::OWNER))? {
                Some(found) if found == owner => Ok(Control::new(self.words, owner)),
                found => Err(ClaimError::NotTheOwner { found }),
            }
        }

        /// Takes the segment's owner word from one proven dead. The segment is as that one left
        /// it: ready, or closing; or [given up](give_up), if somebody was about to unlink it and
        /// came to no end. So look at its [`state`](Self::state) before going on with it: nobody
        /// opens one that is closing or given up any more, and it is to be unlinked.
        ///
        /// # Errors
        ///
        /// `NotTheOwner` if the word is not the dead one's; `Corrupt` if it is no owner's;
        /// `OwnDeath` if both are the same.
        pub fn recover_control(
            &self,
            dead: Dead<OwnerId>,
            owner: OwnerId,
        ) -> Result<Control<'a>, ClaimError> {
            if dead.id() == owner {
                return Err(ClaimError::OwnDeath(owner));
            }
            let word = self.words.word(at::OWNER);
            match word.compare_exchange(dead.id().word(), owner.word(), CLAIM) {
                Ok(_) => Ok(Control::new(self.words, owner)),
                Err(word) => Err(ClaimError::NotTheOwner { found: decode_owner(word)? }),
            }
        }
    }
}

impl<const N: usize> fmt::Debug for Segment<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment")
            .field("magic", &format_args!("{}", self.magic))
            .field("version", &self.version)
            .field("epoch", &self.epoch)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// The right to close a segment: its owner's. Dropping it gives the owner word back; then the
/// segment has no owner.
#[derive(Debug)]
pub struct Control<'a> {
    words: Words<'a>,
    owner: OwnerId,
}

impl<'a> Control<'a> {
    pub(super) fn new(words: Words<'a>, owner: OwnerId) -> Self {
        Self { words, owner }
    }

    /// Who has it.
    pub fn owner(&self) -> OwnerId {
        self.owner
    }

    /// Keeps the owner word, and gives the handle up: the segment stays this owner's, who may
    /// have the handle again by [`resume_control`](Segment::resume_control), or until it dies.
    pub fn keep(self) -> OwnerId {
        core::mem::ManuallyDrop::new(self).owner
    }

    /// Says that the segment is about to go: openers decline from now on. There is no way back.
    ///
    /// Who was faster has claimed its place, and the caller that looks for claimed places
    /// after this finds it. They go on with what they have; when the memory itself may go is
    /// the matter of whoever gave it.
    pub fn close(&mut self) {
        self.words.set(at::STATE, State::Closing.word());
        fence(CLOSING);
    }
}

impl Drop for Control<'_> {
    fn drop(&mut self) {
        if crash::dead() {
            return;
        }
        // Only a living owner's word is its own to clear, and nobody else stores over it without
        // proof of its death: load and store suffice.
        if self.words.get(at::OWNER) == self.owner.word() {
            self.words.word(at::OWNER).store(0, RELEASE);
        }
    }
}
