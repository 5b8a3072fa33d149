//! Messages that are too large for a lane: in chunks of a pool of the sender's, of which a handle
//! goes through the lane.
//!
//! # The pool's segment
//!
//! `pool.<index>-<generation>`, by the sender's id: a [`segment`](shm_primitives::segment) with
//! magic `POOL`, version 1; the two words of its own are the number of places and the bytes of
//! each. Its owner is the sender.
//!
//! ```text
//! kind 5, required   0    a part of marks for each place, one behind the other
//! kind 4, required   0    the pool, from a multiple of 4096 on; its chunks are sparse
//! ```
//!
//! It is made at the first such message. A receiver's place in it is taken at the first such
//! message to it, and given up when the lane is gone and nothing is left of what was lent there.
//! Memory behind chunks is there from their first loan until the pool has been idle for a while.
//!
//! The marks lie here and not in the lane: a lane may be another sender's while what went through
//! it is still being read.

use super::error::SendError;
use super::frame::InChunk;
use super::kept::Kept;
use super::mapped::HEADER;
use super::name::pool_of;
use super::outgoing::Way;
use super::peer::Peer;
use crate::domain::Domain;
use crate::segment::{CreateOptions, OpenOptions, Segment, SegmentError};
use shm_primitives::identity::{Dead, OwnerId};
use shm_primitives::part::Kind;
use shm_primitives::pool::{
    Borrowed, Holder, Limits, Loan, LoanError, MarksRef, Options, Place, PoolRef, Publisher,
    Shared, Slot,
};
use shm_primitives::region::Region;
use shm_primitives::segment as layout;
use shm_primitives::segment::{Control, Known, Magic, NewPart, PartId, Plan};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub(super) const MAGIC: Magic = Magic(u32::from_be_bytes(*b"POOL"));
const VERSION: u32 = 1;
const MARKS: PartId = PartId { kind: Kind::CHUNK_MARKS, role: 0 };
const POOL: PartId = PartId { kind: Kind::CHUNK_POOL, role: 0 };
const KNOWN: Known<2> = Known::new(MAGIC, VERSION, [MARKS, POOL]);
/// Bytes of a page, which the pool begins at a multiple of.
const PAGE: u32 = 4096;
/// Bytes of a cache line, which each place's marks begin at a multiple of.
const LINE: usize = 64;
/// Bytes given back to the system at a time, some ten milliseconds' work for a kernel.
const AT_A_TIME: usize = 16 << 20;
/// Bytes of the largest chunk that there is.
const MOST: u32 = 1 << 30;

/// A node's pool. Its fields are dropped in their order.
pub(super) struct Pool {
    publisher: Publisher<'static, 'static>,
    control: Control<'static>,
    marks: Region<'static>,
    /// Bytes of one place's marks.
    stride: usize,
    uses: Vec<Use>,
    last_marks: u32,
    /// Where chunks whose memory is there begin, and how many bytes of them it is.
    there: HashMap<usize, usize>,
    /// Whether something was loaned since the last look.
    busy: bool,
    /// What the publisher has of its own.
    _memory: (Kept<[Slot]>, Kept<[Place<'static>]>),
    segment: Segment,
}

// SAFETY: everything in it belongs to whoever has it; what of it points to memory of its own goes
// with it, and nothing is bound to a thread.
unsafe impl Send for Pool {}

/// Whose a place is.
enum Use {
    Nobody,
    /// A receiver's.
    Lent(Lent),
    /// That of a receiver which has left, with something unread, and is not proven gone. What it
    /// had is back; but a thread of it may be about to take the end of its marks, having looked
    /// whether they are still its own. They are, and it finds nothing lent there, for as long as
    /// nobody else's stand in their place.
    Left(OwnerId),
}

/// A place that is some receiver's.
struct Lent {
    marks: MarksRef<'static>,
    receiver: Arc<Peer>,
    /// Whether the lane is gone.
    closed: bool,
    way: Way,
}

impl Lent {
    /// Whether nothing that was lent there is read any more: everything came back and nothing
    /// follows, or the receiver has left, who takes up nothing more then.
    fn is_over(&self) -> bool {
        self.closed && self.marks.held() == 0 || self.way.has_left()
    }
}

/// A receiver's place in the pool of one of its senders, as the sender knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PlaceId {
    place: u32,
    marks: u32,
}

impl PlaceId {
    /// Lends a message there. The position in the queue, by which a successor would tell what was
    /// pushed, is left out: a node has no successor.
    pub fn lend(self, message: &Shared<'_, '_>) -> Option<InChunk> {
        let handle = message.lend(self.place as usize, 0).ok()?;
        Some(InChunk { handle, place: self.place, marks: self.marks })
    }
}

/// The sizes of chunks, and how many of each, for messages up to `most` when those up to `frame`
/// go through lanes. Of most of them there is only the address.
fn classes(frame: usize, most: usize) -> Vec<(u32, u32)> {
    let pages = |bytes: usize| {
        let rounded = bytes.max(1).next_multiple_of(PAGE as usize);
        u32::try_from(rounded).unwrap_or(MOST).min(MOST)
    };
    let (most, mut size, mut count) = (pages(most), pages(frame).saturating_mul(4), 32);
    let mut classes = Vec::new();
    while size < most && count > 4 {
        classes.push((size, count));
        size = size.saturating_mul(16);
        count /= 2;
    }
    classes.push((most, 4));
    classes
}

impl Pool {
    pub fn make(
        domain: &Domain,
        owner: OwnerId,
        places: u32,
        frame: usize,
        most: usize,
    ) -> Result<Self, SendError> {
        let classes = classes(frame, most);
        let options = Options::new(owner.word(), places).alignment(PAGE);
        let options =
            classes.iter().fold(options, |options, class| options.class(class.0, class.1));
        let impossible = || wrong("there is no pool of that size");
        let size = options.required_size().ok_or_else(impossible)?;
        let stride = MarksRef::required_size(options.chunks())
            .and_then(|size| size.checked_next_multiple_of(LINE))
            .ok_or_else(impossible)?;
        let parts = [
            NewPart::required(MARKS, stride as u64 * u64::from(places)),
            NewPart::required(POOL, size as u64).aligned(PAGE),
        ];
        let plan = Plan::new(MAGIC, VERSION, &parts).own([places, stride as u32]);
        let whole = plan.required_size().ok_or_else(impossible)?;
        // Chunks of whole pages stand at its end.
        let chunks: usize = classes.iter().map(|class| class.0 as usize * class.1 as usize).sum();
        let create = CreateOptions::sparse(whole, whole.saturating_sub(chunks));
        // One under our own id is of somebody before us who could not take it away.
        let of_ours = |segment: &Segment| {
            let found = layout::owner_of(&segment.region(), MAGIC);
            Ok::<_, SegmentError>(matches!(found, Ok(None)) || found == Ok(Some(owner)))
        };
        if domain.path_of(&pool_of(owner)).exists() {
            // Should it fail, making one says what is in the way.
            let _ = Segment::unlink(domain, &pool_of(owner), OpenOptions::new(HEADER), of_ours);
        }
        let (segment, (marks, pool, control)) =
            Segment::create(domain, &pool_of(owner), create, |segment| {
                // SAFETY: what is made of it stands before the segment in a `Pool`, or is dropped
                // with this closure; nobody else knows the memory yet.
                let creating = unsafe { layout::Segment::create(segment.lasting(), &plan, owner) };
                let creating = creating.map_err(wrong)?;
                let (Some(marks), Some(region)) = (creating.part(MARKS), creating.part(POOL))
                else {
                    unreachable!("parts of the plan")
                };
                // SAFETY: nobody knows the memory, and the id is this node's own.
                let pool = unsafe { PoolRef::init_at(region, options) }.map_err(wrong)?;
                Ok::<_, SendError>((marks, pool, creating.publish()))
            })?;
        let slots = Kept::new((0..pool.chunks()).map(|_| Slot::new()).collect());
        let own = Kept::new((0..places).map(|_| Place::new()).collect());
        let memory: (Kept<[Slot]>, Kept<[Place<'static>]>) = (slots, own);
        // SAFETY: the publisher's alone, which is dropped before them.
        let (slots, own) = unsafe { (memory.0.lasting_mut(), memory.1.lasting_mut()) };
        let publisher = pool.claim_publisher(owner, Limits::NONE, slots, own, |_| 0);
        let publisher = publisher.map_err(wrong)?;
        Ok(Self {
            publisher,
            control,
            marks,
            stride,
            uses: (0..places).map(|_| Use::Nobody).collect(),
            last_marks: 0,
            there: HashMap::new(),
            busy: true,
            _memory: memory,
            segment,
        })
    }

    /// A place for what goes through a lane to `peer`.
    pub fn enter(&mut self, peer: &Arc<Peer>, way: &Way) -> Result<PlaceId, SendError> {
        self.tidy();
        let no_place = || SendError::NoLane { to: peer.id, lanes: self.publisher.pool().places() };
        let at = self.uses.iter().position(|it| matches!(it, Use::Nobody));
        let at = at.ok_or_else(no_place)?;
        let region = self.marks.part(at * self.stride, self.stride).ok_or_else(no_place)?;
        let id = self.last_marks.wrapping_add(1).max(1);
        // SAFETY: the place is nobody's: whoever had it has given its end of the marks back, or
        // is dead, and was told of marks of another id. No other marks of this pool had this one.
        let marks = unsafe { MarksRef::init_at(region, &self.publisher.pool(), id) };
        let marks = marks.map_err(wrong)?;
        self.publisher.connect(at, marks).map_err(wrong)?;
        self.last_marks = id;
        let (receiver, way) = (Arc::clone(peer), way.clone());
        self.uses[at] = Use::Lent(Lent { marks, receiver, closed: false, way });
        Ok(PlaceId { place: at as u32, marks: id })
    }

    /// Whether the place is that lane's yet: it is given up when the receiver is gone, and may be
    /// another's then.
    pub fn has(&self, place: PlaceId) -> bool {
        let there = self.uses.get(place.place as usize);
        matches!(there, Some(Use::Lent(it)) if it.marks.id() == place.marks)
    }

    /// A chunk for a message of `length` bytes; `None` if there is none free.
    pub fn loan(&mut self, length: usize) -> Result<Option<Loan<'_, 'static>>, SendError> {
        self.busy = true;
        let loan = match self.publisher.loan(length) {
            Ok(loan) => loan,
            Err(LoanError::Exhausted) => return Ok(None),
            Err(LoanError::TooLarge { length, maximum }) => {
                return Err(SendError::TooLarge { found: length, most: maximum });
            }
            Err(error) => return Err(wrong(error)),
        };
        // Its memory may not be there yet.
        let begin = loan.as_ptr().addr() - self.segment.region().base().addr().get();
        if self.there.get(&begin) != Some(&loan.capacity()) {
            self.segment.allocate(begin..begin + loan.capacity())?;
            self.there.insert(begin, loan.capacity());
        }
        Ok(Some(loan))
    }

    /// The lane of that place is gone: it is given up when nothing is left of what was lent there.
    pub fn close(&mut self, place: PlaceId) {
        if self.has(place)
            && let Some(Use::Lent(it)) = self.uses.get_mut(place.place as usize)
        {
            it.closed = true;
        }
        self.tidy();
    }

    /// Gives up the places of lanes that are gone.
    pub fn tidy(&mut self) {
        for (place, here) in self.uses.iter_mut().enumerate() {
            let Use::Lent(it) = here else { continue };
            if !it.is_over() {
                continue;
            }
            match self.publisher.disconnect(place) {
                Ok(0) => *here = Use::Nobody,
                Ok(_) => *here = Use::Left(it.receiver.owner),
                // The receiver has its end, and is about to give it back.
                Err(_) => {}
            }
        }
    }

    /// Takes back what `dead` had. Nothing more is lent to it.
    pub fn recover(&mut self, dead: Dead<OwnerId>) {
        for (place, here) in self.uses.iter_mut().enumerate() {
            match here {
                Use::Lent(it) if it.receiver.owner == dead.id() => {
                    // It fails if the dead one had not taken its end, and needs not succeed then.
                    let _ = self.publisher.recover_holder(place, dead);
                    it.closed = true;
                    if self.publisher.disconnect(place).is_ok() {
                        *here = Use::Nobody;
                    }
                }
                Use::Left(owner) if *owner == dead.id() => *here = Use::Nobody,
                _ => {}
            }
        }
    }

    /// The receivers that have a place and are gone, or whose lane is: whoever of them is dead is to
    /// be [recovered](Self::recover).
    pub fn lingering(&self) -> impl Iterator<Item = OwnerId> {
        self.uses.iter().filter_map(|it| match it {
            Use::Lent(it) if it.closed || it.receiver.is_gone() || it.way.has_left() => {
                Some(it.receiver.owner)
            }
            Use::Left(owner) => Some(*owner),
            _ => None,
        })
    }

    /// Whether everything that was lent came back.
    pub fn is_idle(&mut self) -> bool {
        self.tidy();
        self.publisher.reclaim();
        let counts = self.publisher.counts();
        counts.loaned == 0 && counts.shared == 0
    }

    /// Gives memory behind a chunk back to the system, from its end, if nobody has taken any since
    /// the last call and everything came back. Whether there may be more: not all at a time, for
    /// whoever sends waits meanwhile.
    pub fn give_back_if_idle(&mut self) -> bool {
        if std::mem::take(&mut self.busy) || !self.is_idle() {
            return false;
        }
        let Some(begin) = self.there.keys().next().copied() else { return false };
        if let Some(length) = self.there.remove(&begin) {
            let stays = length.saturating_sub(AT_A_TIME);
            // SAFETY: of a chunk that is free: none is on loan, and no mark stands for any. Where
            // pages are larger than chunks it fails, and the memory stays.
            let _ = unsafe { self.segment.punch(begin + stays..begin + length) };
            if stays > 0 {
                self.there.insert(begin, stays);
            }
        }
        true
    }

    /// Takes its name away. Who has it mapped keeps it.
    pub fn remove(mut self) -> Result<(), SegmentError> {
        self.control.close();
        match self.segment.unlink_own(|_| Ok::<_, SegmentError>(true)) {
            Err(SegmentError::NotFound { .. }) => Ok(()),
            other => other.map(|_| ()),
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("publisher", &self.publisher).finish_non_exhaustive()
    }
}

fn wrong(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> SendError {
    SendError::Pool { error: error.into() }
}

/// A receiver's view of the pool of one of its senders. Its fields are dropped in their order.
pub(super) struct Source {
    /// What is being read.
    borrowed: Option<Borrowed<'static, 'static>>,
    holder: Kept<Holder<'static>>,
    id: (u32, u32),
    _segment: Segment,
}

impl Source {
    /// Opens the pool of `sender`, for receiver `receiver`, whose place is that of `chunk`.
    pub fn open(
        domain: &Domain,
        sender: OwnerId,
        receiver: OwnerId,
        chunk: &InChunk,
    ) -> Result<Self, SegmentError> {
        // Whoever has the pool's lock may be stopped, and other senders' messages are waiting.
        let options = OpenOptions::new(HEADER).patience(Duration::ZERO);
        let (segment, holder) = Segment::open(domain, &pool_of(sender), options, |segment| {
            // SAFETY: what is made of it stands before the segment in a `Source`.
            let found = layout::Segment::attach(unsafe { segment.lasting() }, &KNOWN);
            let found = found.map_err(|error| segment.refused(error))?;
            let refused = |error: String| segment.refused(error);
            let text = |error: &dyn fmt::Display| error.to_string();
            let region = found.require(POOL).map_err(|error| refused(text(&error)))?;
            // SAFETY: who may write to the domain's files keeps the protocol.
            let pool = unsafe { PoolRef::attach(region) };
            let pool = pool.map_err(|error| refused(text(&error)))?;
            let marks = found.require(MARKS).map_err(|error| refused(text(&error)))?;
            let [places, stride] = found.own();
            let offset = (chunk.place as usize).checked_mul(stride as usize);
            let region = offset.filter(|_| chunk.place < places);
            let region = region.and_then(|offset| marks.part(offset, stride as usize));
            let no_place = || refused(format!("it has no place {}", chunk.place));
            // SAFETY: as above.
            let marks = unsafe { MarksRef::attach(region.ok_or_else(no_place)?) };
            let marks = marks.map_err(|error| refused(text(&error)))?;
            if marks.id() != chunk.marks {
                return Err(refused(format!("place {} is another's", chunk.place)));
            }
            // The place is not another's by now: it becomes that when this message was given
            // back, or this receiver is proven gone (see `Pool::enter`).
            let holder = pool.claim_holder(marks, receiver);
            holder.map_err(|error| refused(text(&error)))
        })?;
        let id = (chunk.place, chunk.marks);
        Ok(Self { borrowed: None, holder: Kept::new(Box::new(holder)), id, _segment: segment })
    }

    /// Whether it is the place that `chunk` was lent to.
    pub fn is_for(&self, chunk: &InChunk) -> bool {
        self.id == (chunk.place, chunk.marks)
    }

    /// The message, which stays borrowed until it is [given back](Self::give_back). Borrowing the
    /// same once more does nothing.
    pub fn borrow(&mut self, chunk: &InChunk) -> Result<&[u8], String> {
        let again = self.borrowed.as_ref().is_some_and(|one| one.handle() == chunk.handle);
        if !again {
            self.borrowed = None;
            // SAFETY: dropped after what is borrowed of it.
            let holder = unsafe { self.holder.lasting() };
            self.borrowed = Some(holder.borrow(chunk.handle).map_err(|error| error.to_string())?);
        }
        Ok(self.borrowed.as_deref().unwrap_or(&[]))
    }

    pub fn give_back(&mut self) {
        self.borrowed = None;
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("place", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Node;
    use super::super::outgoing::Outgoing;
    use super::*;
    use crate::liveness::Verdict;

    /// A thread of a receiver that leaves may be on its way into the place that it has: nobody else
    /// gets that before the receiver is gone, and it finds nothing there.
    #[test]
    fn the_place_of_one_who_leaves() {
        let domain = Domain::new(&format!("unit-chunks-{}", std::process::id())).unwrap();
        let join = |name| {
            let config = crate::config::Config::default();
            let builder = Node::builder(name).config(config).in_domain(domain.clone());
            // Nobody looks after it meanwhile.
            builder.heartbeat(Duration::from_secs(1000)).silent_after(Duration::from_secs(4000))
        };
        let [from, leaving, staying] =
            ["from", "leaving", "staying"].map(|n| join(n).join().unwrap());
        let connect = |to: &Node| Outgoing::connect(&from.shared, *to.id()).unwrap();
        let (mut first, mut second) = (connect(&leaving), connect(&staying));
        let mut guard = Arc::clone(&from.shared).pool(100_000).unwrap().unwrap();
        let pool = guard.as_mut().unwrap();
        let had = first.place_in(pool).unwrap();
        let chunk = had.lend(&pool.loan(100_000).unwrap().unwrap().share()).unwrap();

        // It has read the frame, and goes to look for the chunk.
        let busy = leaving.receiver().unwrap();
        leaving.leave().unwrap();
        let other = second.place_in(pool).unwrap();
        assert_ne!(had.place, other.place, "another's while it may still take it");
        assert!(!pool.has(had) && pool.is_idle(), "what was lent is back");
        let (owner, late) = (from.shared.owner, leaving.shared.owner);
        let mut source = Source::open(&domain, owner, late, &chunk).unwrap();
        assert!(source.borrow(&chunk).is_err(), "nothing is lent there");
        drop(source);

        let ask = |id| from.shared.member().unwrap().processes().convict(id).unwrap();
        assert_eq!(pool.lingering().collect::<Vec<_>>(), [late]);
        assert_eq!(ask(late), Verdict::Alive);
        drop(busy);
        pool.recover(ask(late).dead().expect("it is gone"));
        assert_eq!(pool.lingering().count(), 0);
        drop(second);
        let again = connect(&staying).place_in(pool).unwrap();
        assert_eq!(again.place, had.place, "free again");
        drop(guard);
    }

    #[test]
    fn sizes_of_chunks_ascend_to_the_largest_message() {
        for frame in [1024, 16 << 10, 256 << 10, 1 << 28] {
            for most in [1024, 16 << 10, 100_000, 1 << 20, 16 << 20, 1 << 30] {
                let classes = classes(frame, most);
                assert!(classes.is_sorted_by(|one, next| one.0 < next.0), "{classes:?}");
                assert!(classes.last().unwrap().0 as usize >= most, "{classes:?}");
                let options = classes.iter().fold(Options::new(1, 8), |o, c| o.class(c.0, c.1));
                assert!(options.alignment(PAGE).required_size().is_some(), "{classes:?}");
            }
        }
    }

    /// The memory behind a large chunk goes a part at a time, and is there again when some of it is
    /// gone and the chunk is used once more.
    #[test]
    fn memory_of_a_large_chunk() {
        use std::os::unix::fs::MetadataExt;
        let domain = Domain::new(&format!("unit-memory-{}", std::process::id())).unwrap();
        let node = Node::builder("node").config(crate::config::Config::default());
        let node = node.in_domain(domain.clone()).max_message(40 << 20);
        // Nobody looks after it meanwhile.
        let node =
            node.heartbeat(Duration::from_secs(1000)).silent_after(Duration::from_secs(4000));
        let node = node.join().unwrap();
        let mut guard = Arc::clone(&node.shared).pool(40 << 20).unwrap().unwrap();
        let pool = guard.as_mut().unwrap();
        let file = domain.path_of(&pool_of(node.shared.owner));
        let bytes = || std::fs::metadata(&file).unwrap().blocks() as usize * 512;
        let without = bytes();
        for parts in [1, 2, 3] {
            drop(pool.loan(40 << 20).unwrap().unwrap());
            assert!(!pool.give_back_if_idle(), "just used");
            assert_eq!(bytes() - without, 40 << 20);
            for part in 1..=parts {
                assert!(pool.give_back_if_idle());
                let stays = (40_usize << 20).saturating_sub(part * AT_A_TIME);
                assert_eq!(bytes() - without, stays);
            }
        }
        assert!(!pool.give_back_if_idle(), "all of it");
        drop(guard);
    }
}
