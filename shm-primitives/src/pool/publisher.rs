//! The publisher's end.

use super::holder::place_of;
use super::layout::{Class, MAX_CLASSES, PoolRef};
use super::marks::{LENT, MarksRef, is_from, lent_at, state};
use super::{
    ChunkHandle, ConnectError, DISCONNECTED, LEND, LendError, LoanError, OutOfRange, RECLAIM, Taken,
};
use crate::identity::{Dead, OwnerId};
use crate::part::{
    ClaimError, End, Trust, Trusted, Untrusted, claim_owner, recover_owner, release_owner,
};
use crate::sync::{Ordering::Relaxed, Shadow, copy_in, crash};
use core::cell::Cell;
use core::fmt;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

/// The end of a list of chunks.
const NONE: u32 = u32::MAX;

/// A loan that finds no free chunk looks on until it has freed so many, so that the next find
/// theirs at once.
const BATCH: u32 = 8;

/// What the publisher alone knows of a chunk: its own memory, one for each chunk. Never in memory
/// that others may write.
#[derive(Debug)]
pub struct Slot {
    /// The next chunk of the list that this one is in.
    next: Cell<u32>,
    generation: Cell<u32>,
}

impl Slot {
    /// A slot; what it holds before the publisher's end is claimed with it means nothing.
    pub const fn new() -> Self {
        Self { next: Cell::new(NONE), generation: Cell::new(0) }
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self::new()
    }
}

/// A place for a subscriber: the publisher's own memory, one for each that the pool has.
#[derive(Debug)]
pub struct Place<'a> {
    marks: Cell<Option<MarksRef<'a, Untrusted>>>,
    /// Chunks that the subscriber holds at most.
    held: Cell<u32>,
}

impl<'a> Place<'a> {
    /// A place where nobody is connected.
    pub const fn new() -> Self {
        Self { marks: Cell::new(None), held: Cell::new(0) }
    }

    /// The place of a subscriber that was connected before its publisher's end is claimed or
    /// recovered.
    pub fn of<T: Trust>(marks: MarksRef<'a, T>) -> Self {
        Self { marks: Cell::new(Some(marks.untrusted())), held: Cell::new(0) }
    }
}

impl Default for Place<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// How much may be away at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Chunks on loan, from [`Publisher::loan`] until the loan, or the [`Shared`] that it became,
    /// is dropped.
    pub loans: u32,
    /// Chunks that one subscriber holds, in its queue or in hand. With it set, one that does not
    /// give back keeps no more than these from the others.
    pub held: u32,
}

impl Limits {
    /// No limits but the pool's size.
    pub const NONE: Self = Self { loans: u32::MAX, held: u32::MAX };
}

impl Default for Limits {
    fn default() -> Self {
        Self::NONE
    }
}

/// Where the chunks of a pool are, as its publisher sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counts {
    /// Free to be taken.
    pub free: u32,
    /// On loan, or shared and still in the publisher's hand.
    pub loaned: u32,
    /// Lent, and not yet seen to have come back.
    pub shared: u32,
}

/// The chunks of one class that are not in the publisher's hand.
#[derive(Debug)]
struct Lists {
    free: Cell<u32>,
    /// Those shared, the longest ago first.
    first: Cell<u32>,
    last: Cell<u32>,
    shared: Cell<u32>,
}

impl Lists {
    const fn new() -> Self {
        Self {
            free: Cell::new(NONE),
            first: Cell::new(NONE),
            last: Cell::new(NONE),
            shared: Cell::new(0),
        }
    }
}

/// The publisher's end of a pool: takes chunks, and lends them to subscribers.
///
/// One thread's at a time. No operation blocks, allocates or makes a system call; the only
/// read-modify-writes are those of taking back, connecting and recovering.
pub struct Publisher<'s, 'a, M: Trust = Trusted> {
    pool: PoolRef<'a, M>,
    owner: OwnerId,
    limits: Limits,
    slots: &'s mut [Slot],
    places: &'s mut [Place<'a>],
    lists: [Lists; MAX_CLASSES],
    loans: Cell<u32>,
}

/// Takes the publisher's end with `take`, and works out from the marks what is free.
pub(super) fn rebuild<'s, 'a, M: Trust>(
    pool: &PoolRef<'a, M>,
    owner: OwnerId,
    limits: Limits,
    slots: &'s mut [Slot],
    places: &'s mut [Place<'a>],
    published: impl FnMut(usize) -> u32,
    take: impl FnOnce() -> Result<(), ClaimError>,
) -> Result<Publisher<'s, 'a, M>, ConnectError> {
    let (found, wanted) = (slots.len(), pool.chunks() as usize);
    let Some(slots) = slots.get_mut(..wanted) else {
        return Err(ConnectError::TooFewSlots { found, wanted });
    };
    let (found, wanted) = (places.len(), pool.places() as usize);
    let Some(places) = places.get_mut(..wanted) else {
        return Err(ConnectError::TooFewPlaces { found, wanted });
    };
    take()?;
    let publisher = Publisher {
        pool: *pool,
        owner,
        limits,
        slots,
        places,
        lists: [const { Lists::new() }; MAX_CLASSES],
        loans: Cell::new(0),
    };
    // On an error its drop gives the end back.
    publisher.meet(published)?;
    publisher.sort();
    Ok(publisher)
}

impl<'a, M: Trust> Publisher<'_, 'a, M> {
    /// Compares the places given with those that the pool says are connected, and takes back
    /// what was lent there beyond the end of the queue.
    fn meet(&self, mut published: impl FnMut(usize) -> u32) -> Result<(), ConnectError> {
        for (number, (place, word)) in self.places.iter().zip(self.pool.place_words()).enumerate() {
            let id = word.load(Relaxed);
            if id == 0 {
                place.marks.set(None);
                continue;
            }
            let given = place.marks.get().filter(|marks| marks.id() == id);
            let Some(marks) = given else {
                return Err(ConnectError::Missing { place: number, id });
            };
            marks.check_pool(&self.pool)?;
        }
        for (number, place) in self.places.iter().enumerate() {
            let Some(marks) = place.marks.get() else { continue };
            let end = published(number);
            for word in marks.all() {
                let mark = word.load(Relaxed);
                if state(mark) == LENT && is_from(mark, end) {
                    // If somebody has borrowed it after all, it stays.
                    let _ = word.compare_exchange(mark, 0, Relaxed);
                }
            }
            place.held.set(marks.held());
        }
        Ok(())
    }

    /// Puts each chunk into the list where it belongs.
    fn sort(&self) {
        let generations = self.pool.generations();
        for (number, class) in self.pool.shape().classes().iter().enumerate() {
            // Backwards: the first to be taken is the first.
            for chunk in (class.first..class.first + class.count).rev() {
                self.slots[chunk as usize].generation.set(generations[chunk as usize].load(Relaxed));
                if self.is_marked(chunk) { self.put(number, chunk) } else { self.free(number, chunk) }
            }
        }
    }

    /// Whether some subscriber has the chunk.
    fn is_marked(&self, chunk: u32) -> bool {
        self.places
            .iter()
            .filter_map(|place| place.marks.get())
            .filter_map(|marks| marks.all().get(chunk as usize))
            .any(|mark| mark.load(RECLAIM) != 0)
    }

    fn free(&self, class: usize, chunk: u32) {
        let lists = &self.lists[class];
        self.slots[chunk as usize].next.set(lists.free.get());
        lists.free.set(chunk);
    }

    /// Appends to the list of those shared.
    fn put(&self, class: usize, chunk: u32) {
        let lists = &self.lists[class];
        self.slots[chunk as usize].next.set(NONE);
        match lists.last.get() {
            NONE => lists.first.set(chunk),
            last => self.slots[last as usize].next.set(chunk),
        }
        lists.last.set(chunk);
        lists.shared.set(lists.shared.get() + 1);
    }

    /// Looks at each chunk shared, the longest ago first, until `enough` are free; how many.
    fn sweep(&self, class: usize, enough: u32) -> u32 {
        let lists = &self.lists[class];
        let mut freed = 0;
        for _ in 0..lists.shared.get() {
            if freed == enough {
                break;
            }
            let chunk = lists.first.get();
            let next = self.slots[chunk as usize].next.get();
            lists.first.set(next);
            if next == NONE {
                lists.last.set(NONE);
            }
            lists.shared.set(lists.shared.get() - 1);
            if self.is_marked(chunk) {
                self.put(class, chunk);
            } else {
                self.free(class, chunk);
                freed += 1;
            }
        }
        freed
    }

    /// Takes a free chunk of a class.
    #[inline]
    fn take(&self, class: usize) -> Option<u32> {
        let lists = &self.lists[class];
        if lists.free.get() == NONE {
            self.sweep(class, BATCH);
        }
        match lists.free.get() {
            NONE => None,
            chunk => {
                lists.free.set(self.slots[chunk as usize].next.get());
                Some(chunk)
            }
        }
    }

    /// The pool.
    pub fn pool(&self) -> PoolRef<'a, M> {
        self.pool
    }

    /// Where the chunks are, without a look at the marks.
    pub fn counts(&self) -> Counts {
        let shared = self.lists.iter().map(|lists| lists.shared.get()).sum();
        let loaned = self.loans.get();
        Counts { free: self.pool.chunks() - loaned - shared, loaned, shared }
    }

    /// A chunk for a message of `length` bytes, to be written and shared. Dropping it gives it
    /// back.
    ///
    /// It is of the smallest class that fits; if that one is used up, of the next larger one: a
    /// message that is refused while memory lies idle would be worse. Who wants to keep large
    /// chunks for large messages has them in a pool of their own.
    ///
    /// Takes constant time while there are free chunks; otherwise looks for those that came
    /// back, at each chunk shared and the marks of each subscriber once at the most.
    ///
    /// # Errors
    ///
    /// See [`LoanError`].
    #[inline]
    pub fn loan(&self, length: usize) -> Result<Loan<'_, 'a, M>, LoanError> {
        let classes = self.pool.shape().classes();
        if length > self.pool.max_length() {
            return Err(LoanError::TooLarge { length, maximum: self.pool.max_length() });
        }
        let limit = self.limits.loans;
        if self.loans.get() >= limit {
            return Err(LoanError::TooManyLoans { limit });
        }
        for (number, class) in classes.iter().enumerate() {
            if class.size as usize >= length
                && let Some(number_of_chunk) = self.take(number)
            {
                return Ok(self.lend_out(number, class, number_of_chunk, length as u32));
            }
        }
        Err(LoanError::Exhausted)
    }

    #[inline]
    fn lend_out(&self, number: usize, class: &Class, chunk: u32, length: u32) -> Loan<'_, 'a, M> {
        self.loans.set(self.loans.get() + 1);
        let slot = &self.slots[chunk as usize];
        let generation = slot.generation.get().wrapping_add(1);
        slot.generation.set(generation);
        self.pool.generations()[chunk as usize].store(generation, Relaxed);
        Shadow::write(self.pool.shadow(chunk));
        let data = self.pool.chunk(class, chunk);
        let handle = ChunkHandle { pool: self.pool.id(), chunk, generation, length };
        Loan(Chunk { publisher: self, class: number, size: class.size, data, handle })
    }

    /// Looks for chunks that came back, of all that were shared; how many there were. Loans do
    /// this by themselves when they must.
    pub fn reclaim(&self) -> u32 {
        (0..self.pool.shape().classes().len()).map(|class| self.sweep(class, u32::MAX)).sum()
    }

    /// Connects a subscriber: from now on chunks can be lent to it.
    ///
    /// # Errors
    ///
    /// `OtherPool`, `OtherSize`, `NoSuchPlace`, `PlaceTaken`, `Twice`; nothing has changed.
    pub fn connect<T: Trust>(
        &self,
        place: usize,
        marks: MarksRef<'a, T>,
    ) -> Result<(), ConnectError> {
        marks.check_pool(&self.pool)?;
        let places = self.places.len();
        let (Some(here), Some(word)) = (self.places.get(place), self.pool.place_words().get(place))
        else {
            return Err(ConnectError::NoSuchPlace { found: place, places });
        };
        if let Some(other) = here.marks.get() {
            return Err(ConnectError::PlaceTaken { id: other.id() });
        }
        let is_it = |place: &Place<'_>| place.marks.get().is_some_and(|m| m.id() == marks.id());
        if let Some(place) = self.places.iter().position(is_it) {
            return Err(ConnectError::Twice { place });
        }
        here.marks.set(Some(marks.untrusted()));
        here.held.set(marks.held());
        // Before the first mark is, which is a release.
        word.store(marks.id(), Relaxed);
        Ok(())
    }

    /// Disconnects a subscriber that has given its end back: what was on its way to it comes
    /// back, and the place is free. How many chunks that were.
    ///
    /// One that died is [recovered](Self::recover_holder) first.
    ///
    /// # Errors
    ///
    /// `NotConnected`; `Claim(Owned)` while the subscriber has its end.
    pub fn disconnect(&self, place: usize) -> Result<u32, ConnectError> {
        let (here, marks) = self.at(place)?;
        claim_owner(marks.part(), End::Reading, self.owner)?;
        let cleared = marks.clear();
        // The marks' end first: a publisher that dies in between leaves a subscriber that is still
        // connected, without an owner, and not the reverse.
        release_owner(marks.part(), End::Reading, self.owner);
        self.pool.place_words()[place].store(0, DISCONNECTED);
        here.marks.set(None);
        here.held.set(0);
        Ok(cleared)
    }

    /// Clears the marks of a subscriber proven dead: what it held comes back. How many chunks
    /// that were. Nothing more may be lent to it meanwhile, and its queue is not read any more;
    /// it stays connected, for a successor with a queue of its own.
    ///
    /// A publisher that died in here or in [`disconnect`](Self::disconnect) has the subscriber's
    /// end itself: then the dead one is that publisher.
    ///
    /// # Errors
    ///
    /// `NotConnected`; `Claim(NotTheOwner)` if the end is not the dead one's, `Claim(OwnDeath)` if
    /// the dead one is this publisher.
    pub fn recover_holder(&self, place: usize, dead: Dead<OwnerId>) -> Result<u32, ConnectError> {
        let (here, marks) = self.at(place)?;
        recover_owner(marks.part(), End::Reading, dead, self.owner)?;
        let cleared = marks.clear();
        here.held.set(0);
        release_owner(marks.part(), End::Reading, self.owner);
        Ok(cleared)
    }

    /// The marks connected at `place`.
    pub fn connected(&self, place: usize) -> Option<MarksRef<'a, Untrusted>> {
        self.places.get(place)?.marks.get()
    }

    fn at(&self, place: usize) -> Result<(&Place<'a>, MarksRef<'a, Untrusted>), ConnectError> {
        let here = self.places.get(place).and_then(|here| Some((here, here.marks.get()?)));
        here.ok_or(ConnectError::NotConnected { place })
    }
}

impl<M: Trust> Drop for Publisher<'_, '_, M> {
    fn drop(&mut self) {
        if crash::dead() {
            return;
        }
        release_owner(self.pool.part(), End::Writing, self.owner);
    }
}

impl<M: Trust> fmt::Debug for Publisher<'_, '_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("pool", &self.pool)
            .field("owner", &self.owner)
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

/// A chunk in the publisher's hand.
struct Chunk<'p, 'a, M: Trust> {
    publisher: &'p Publisher<'p, 'a, M>,
    class: usize,
    size: u32,
    data: NonNull<u8>,
    handle: ChunkHandle,
}

impl<M: Trust> Clone for Chunk<'_, '_, M> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<M: Trust> Copy for Chunk<'_, '_, M> {}

impl<M: Trust> Chunk<'_, '_, M> {
    fn shadow(&self) -> &[Shadow] {
        self.publisher.pool.shadow(self.handle.chunk)
    }

    fn length(&self) -> usize {
        self.handle.length as usize
    }

    /// Ends the loan. `lent`: subscribers may have the chunk.
    fn put_down(&self, lent: bool) {
        let Self { publisher, class, handle, .. } = *self;
        publisher.loans.set(publisher.loans.get() - 1);
        if lent {
            publisher.put(class, handle.chunk);
        } else {
            publisher.free(class, handle.chunk);
        }
    }
}

/// A chunk that the publisher alone has: a slice of the message to be, where nobody else writes
/// to the pool. Its bytes are at first what they were before.
pub struct Loan<'p, 'a, M: Trust = Trusted>(Chunk<'p, 'a, M>);

impl<'p, 'a, M: Trust> Loan<'p, 'a, M> {
    /// Bytes of the message.
    #[expect(clippy::len_without_is_empty, reason = "a length of bytes, not of a collection")]
    pub fn len(&self) -> usize {
        self.0.length()
    }

    /// Bytes of the chunk: what the message may grow to.
    pub fn capacity(&self) -> usize {
        self.0.size as usize
    }

    /// Makes the message shorter or longer, up to the chunk's capacity.
    ///
    /// # Errors
    ///
    /// The chunk has fewer bytes; the message is as before.
    pub fn resize(&mut self, length: usize) -> Result<(), OutOfRange> {
        if length > self.capacity() {
            return Err(OutOfRange { end: length, length: self.capacity() });
        }
        self.0.handle.length = length as u32;
        Ok(())
    }

    /// Copies `bytes` into the message, from `offset` on.
    ///
    /// # Errors
    ///
    /// The message has fewer bytes; nothing was copied.
    pub fn write_at(&mut self, offset: usize, bytes: &[u8]) -> Result<(), OutOfRange> {
        let to = place_of(self.0.data, self.0.length(), offset, bytes.len())?;
        // SAFETY: within the message, which lies in a chunk that no other loan has; `bytes` is a
        // slice of this process and cannot overlap it. Whoever else writes there races by their
        // own atomics or from another process, which copy_in allows.
        unsafe { copy_in(bytes.as_ptr(), to.as_ptr(), bytes.len()) };
        Ok(())
    }

    /// The finished message, to be lent to subscribers. Nobody has it yet.
    #[inline]
    pub fn share(self) -> Shared<'p, 'a, M> {
        Shadow::write(self.0.shadow());
        let chunk = ManuallyDrop::new(self).0;
        Shared { chunk, lent: Cell::new(false) }
    }
}

impl<M: Trust> Drop for Loan<'_, '_, M> {
    #[inline]
    fn drop(&mut self) {
        if crash::dead() {
            return;
        }
        self.0.put_down(false);
    }
}

impl Deref for Loan<'_, '_, Trusted> {
    type Target = [u8];
    #[inline(always)]
    fn deref(&self) -> &[u8] {
        // SAFETY: within the chunk, initialised as all of the region, and no other loan's; no
        // mark stands for it, so nobody who keeps the protocol touches it.
        unsafe { core::slice::from_raw_parts(self.0.data.as_ptr(), self.0.length()) }
    }
}

impl DerefMut for Loan<'_, '_, Trusted> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { core::slice::from_raw_parts_mut(self.0.data.as_ptr(), self.0.length()) }
    }
}

impl<M: Trust> fmt::Debug for Loan<'_, '_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Loan").field(&self.0.handle).finish()
    }
}

/// A finished message that the publisher can lend to subscribers as long as it has this. The
/// chunk is free once this is dropped and all who were lent it have given it back.
pub struct Shared<'p, 'a, M: Trust = Trusted> {
    chunk: Chunk<'p, 'a, M>,
    /// Whether a mark was ever made for it.
    lent: Cell<bool>,
}

impl<M: Trust> Shared<'_, '_, M> {
    /// Bytes of the message.
    #[expect(clippy::len_without_is_empty, reason = "a length of bytes, not of a collection")]
    pub fn len(&self) -> usize {
        self.chunk.length()
    }

    /// What names the message, as it is pushed; without [`lend`](Self::lend) nobody can borrow it.
    pub fn handle(&self) -> ChunkHandle {
        self.chunk.handle
    }

    /// Lends the message to the subscriber at `place`, and answers the handle to be pushed into
    /// its queue at `position`, counted in handles from 0, wrapping: by it the publisher's
    /// successor tells what was pushed. Where the queue is an `SpscRing` that is the producer's
    /// [`position`](crate::ring::spsc::Producer::position), and the successor asks
    /// [`unread`](crate::ring::spsc::SpscRingRef::unread). If the push fails, [take it back](Self::take_back).
    ///
    /// # Errors
    ///
    /// `NotConnected`, `AlreadyLent`; `TooManyHeld` if the subscriber has as many chunks as
    /// [`Limits::held`] allows, for which each of its marks is looked at.
    #[inline]
    pub fn lend(&self, place: usize, position: u32) -> Result<ChunkHandle, LendError> {
        let Chunk { publisher, handle, .. } = self.chunk;
        let Ok((here, marks)) = publisher.at(place) else {
            return Err(LendError::NotConnected { place });
        };
        let mark = &marks.all()[handle.chunk as usize];
        if mark.load(Relaxed) != 0 {
            return Err(LendError::AlreadyLent);
        }
        let limit = publisher.limits.held;
        if here.held.get() >= limit {
            here.held.set(marks.held());
            if here.held.get() >= limit {
                return Err(LendError::TooManyHeld { limit });
            }
        }
        self.lent.set(true);
        here.held.set(here.held.get().saturating_add(1));
        mark.store(lent_at(position), LEND);
        Ok(handle)
    }

    /// Takes back what was lent to the subscriber at `place`: its handle could not be pushed.
    ///
    /// # Errors
    ///
    /// [`Taken`] if it has been borrowed, or was not lent.
    pub fn take_back(&self, place: usize) -> Result<(), Taken> {
        let Chunk { publisher, handle, .. } = self.chunk;
        let (here, marks) = publisher.at(place).map_err(|_| Taken)?;
        let word = &marks.all()[handle.chunk as usize];
        let mark = word.load(Relaxed);
        if state(mark) != LENT || word.compare_exchange(mark, 0, Relaxed).is_err() {
            return Err(Taken);
        }
        here.held.set(here.held.get().saturating_sub(1));
        Ok(())
    }
}

impl<M: Trust> Drop for Shared<'_, '_, M> {
    #[inline]
    fn drop(&mut self) {
        if crash::dead() {
            return;
        }
        self.chunk.put_down(self.lent.get());
    }
}

impl Deref for Shared<'_, '_, Trusted> {
    type Target = [u8];
    #[inline(always)]
    fn deref(&self) -> &[u8] {
        // SAFETY: within the chunk, initialised, and read alone from now on by all who have it.
        unsafe { core::slice::from_raw_parts(self.chunk.data.as_ptr(), self.chunk.length()) }
    }
}

impl<M: Trust> fmt::Debug for Shared<'_, '_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("handle", &self.chunk.handle).finish_non_exhaustive()
    }
}
