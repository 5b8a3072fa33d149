//! The chunk pool against a plain account of who has what, and each way to use it wrongly.

mod common;

use common::memory::Memory;
use common::{Patience, dead, owner};
use proptest::prelude::*;
use shm_primitives::identity::OwnerId;
use shm_primitives::part::{
    AttachError, ClaimError, Corrupt, Kind, QueueDescriptor, Shareable, Untrusted,
};
use shm_primitives::pool::{
    BorrowError, Borrowed, ChunkHandle, ConnectError, Counts, Holder, LendError, Limits, Loan,
    LoanError, MarksRef, Options, OutOfRange, Place, PoolRef, Publisher, Shared, Slot, Taken,
};
use shm_primitives::region::Region;
use shm_primitives::ring::spsc::{self, SpscRingRef};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const ID: u32 = 9;
const PLACES: usize = 3;
const OPTIONS: Options = Options::new(ID, PLACES as u32).class(64, 3).class(200, 2);
const CHUNKS: usize = OPTIONS.chunks() as usize;

/// Where chunks begin in this pool, and their two sizes.
const DATA: usize = 384;
const SMALL: usize = 64;
const LARGE: usize = 256;

const PUBLISHER: u32 = 1;
const HOLDERS: u32 = 10;
/// What tells an heir's index from the dead one's.
const HEIR: u32 = 64;

/// A pool and marks for each place; for the rest of the test, so that regions need no borrow.
struct Parts {
    memory: &'static Memory,
    rows: Vec<&'static Memory>,
    pool: PoolRef<'static>,
    marks: Vec<MarksRef<'static>>,
}

fn leak(len: usize) -> &'static Memory {
    Box::leak(Box::new(Memory::new(len, 0xa5)))
}

fn parts(options: Options) -> Parts {
    let memory = leak(options.required_size().unwrap());
    // SAFETY: nobody else knows this memory.
    let pool = unsafe { PoolRef::init_at(memory.region(), options) }.unwrap();
    let mut parts = Parts { memory, rows: vec![], pool, marks: vec![] };
    for id in 1..=options.places() {
        parts.add_marks(id);
    }
    parts
}

impl Parts {
    fn add_marks(&mut self, id: u32) -> MarksRef<'static> {
        let row = leak(MarksRef::required_size(self.pool.chunks()).unwrap());
        // SAFETY: nobody else knows this memory, and every id is used once.
        let marks = unsafe { MarksRef::init_at(row.region(), &self.pool, id) }.unwrap();
        self.rows.push(row);
        self.marks.push(marks);
        marks
    }

    fn slots(&self) -> &'static mut [Slot] {
        (0..self.pool.chunks()).map(|_| Slot::new()).collect::<Vec<_>>().leak()
    }

    fn publisher(&self, limits: Limits) -> Publisher<'static, 'static> {
        let places = (0..self.pool.places()).map(|_| Place::new()).collect::<Vec<_>>().leak();
        let publisher =
            self.pool.claim_publisher(owner(PUBLISHER), limits, self.slots(), places, |_| 0);
        publisher.unwrap()
    }

    fn holder(&self, place: usize) -> Holder<'static> {
        self.pool.claim_holder(self.marks[place], holder_of(place)).unwrap()
    }
}

fn holder_of(place: usize) -> OwnerId {
    owner(HOLDERS + place as u32)
}

/// A publisher with all places connected.
fn connected(limits: Limits) -> (Parts, Publisher<'static, 'static>) {
    let parts = parts(OPTIONS);
    let publisher = parts.publisher(limits);
    for (place, marks) in parts.marks.iter().enumerate() {
        publisher.connect(place, *marks).unwrap();
    }
    (parts, publisher)
}

// ---- Random operations against an account of who has what.

#[derive(Clone, Debug)]
enum Op {
    Loan(usize),
    DropLoan(usize),
    Share(usize),
    Lend { shared: usize, place: usize, pushed: bool },
    DropShared(usize),
    Borrow(usize),
    GiveBack { place: usize, which: usize },
    Reclaim,
    PublisherDies { unpushed: Option<(usize, usize)> },
    PublisherReopens,
    HolderDies { place: usize, succeeded: bool, unpopped: bool },
    HolderReopens { place: usize, disconnected: bool },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let (place, which) = (0..PLACES, 0..8usize);
    let op = prop_oneof![
        8 => (0..270usize).prop_map(Op::Loan),
        2 => which.clone().prop_map(Op::DropLoan),
        8 => which.clone().prop_map(Op::Share),
        12 => (which.clone(), place.clone(), prop::bool::weighted(0.8))
            .prop_map(|(shared, place, pushed)| Op::Lend { shared, place, pushed }),
        6 => which.clone().prop_map(Op::DropShared),
        12 => place.clone().prop_map(Op::Borrow),
        10 => (place.clone(), which.clone())
            .prop_map(|(place, which)| Op::GiveBack { place, which }),
        2 => Just(Op::Reclaim),
        1 => proptest::option::of((which, place.clone()))
            .prop_map(|unpushed| Op::PublisherDies { unpushed }),
        1 => Just(Op::PublisherReopens),
        1 => (place.clone(), any::<bool>(), any::<bool>())
            .prop_map(|(place, succeeded, unpopped)| Op::HolderDies { place, succeeded, unpopped }),
        1 => (place, any::<bool>())
            .prop_map(|(place, disconnected)| Op::HolderReopens { place, disconnected }),
    ];
    proptest::collection::vec(op, 0..250)
}

struct Subscriber {
    /// Its index as an owner: nobody succeeds himself.
    index: u32,
    holder: &'static Holder<'static>,
    queue: VecDeque<(ChunkHandle, u8)>,
    popped: u32,
    /// What is borrowed, its content, and its position in the queue.
    hand: Vec<(Borrowed<'static, 'static>, u8, u32)>,
}

impl Subscriber {
    fn pushed(&self) -> u32 {
        self.popped.wrapping_add(self.queue.len() as u32)
    }
}

struct World {
    parts: Parts,
    /// The publisher's index as an owner.
    index: u32,
    publisher: &'static Publisher<'static, 'static>,
    loans: Vec<Loan<'static, 'static>>,
    shared: Vec<(Shared<'static, 'static>, u8)>,
    subscribers: Vec<Subscriber>,
    /// Chunks and the places that have them.
    held: BTreeSet<(u32, usize)>,
    generations: BTreeMap<u32, u32>,
    next_id: u32,
    fill: u8,
}

fn forever<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// Drops what [`forever`] keeps.
///
/// # Safety
///
/// Nobody uses it any more.
unsafe fn no_more<T>(value: &'static T) {
    // SAFETY: leaked from a box, and the caller's contract.
    drop(unsafe { Box::from_raw(std::ptr::from_ref(value).cast_mut()) });
}

impl World {
    fn new(start: u32) -> Self {
        let (parts, publisher) = connected(Limits::NONE);
        let subscribers = (0..PLACES)
            .map(|place| Subscriber {
                index: HOLDERS + place as u32,
                holder: forever(parts.holder(place)),
                queue: VecDeque::new(),
                popped: start,
                hand: vec![],
            })
            .collect();
        Self {
            parts,
            index: PUBLISHER,
            publisher: forever(publisher),
            loans: vec![],
            shared: vec![],
            subscribers,
            held: BTreeSet::new(),
            generations: BTreeMap::new(),
            next_id: 100,
            fill: 0,
        }
    }

    /// Chunks that are not free.
    fn used(&self) -> BTreeSet<u32> {
        let loaned = self.loans.iter().map(|loan| chunk_of(self, loan));
        let shared = self.shared.iter().map(|(shared, _)| shared.handle().chunk);
        loaned.chain(shared).chain(self.held.iter().map(|(chunk, _)| *chunk)).collect()
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Loan(length) => self.loan(length),
            Op::DropLoan(which) => drop(take_nth(&mut self.loans, which)),
            Op::Share(which) => {
                let Some(mut loan) = take_nth(&mut self.loans, which) else { return };
                self.fill = self.fill.wrapping_add(1);
                loan.fill(self.fill);
                self.shared.push((loan.share(), self.fill));
            }
            Op::Lend { shared, place, pushed } => self.lend(shared, place, pushed),
            Op::DropShared(which) => drop(take_nth(&mut self.shared, which)),
            Op::Borrow(place) => {
                let subscriber = &mut self.subscribers[place];
                let Some((handle, fill)) = subscriber.queue.pop_front() else { return };
                let position = subscriber.popped;
                subscriber.popped = position.wrapping_add(1);
                let borrowed = subscriber.holder.borrow(handle).expect("it was lent");
                assert_eq!(subscriber.holder.borrow(handle).err(), Some(BorrowError::InHand));
                assert_eq!(borrowed.handle(), handle);
                subscriber.hand.push((borrowed, fill, position));
            }
            Op::GiveBack { place, which } => {
                let subscriber = &mut self.subscribers[place];
                let Some((borrowed, ..)) = take_nth(&mut subscriber.hand, which) else { return };
                let handle = borrowed.handle();
                borrowed.give_back();
                assert_eq!(subscriber.holder.borrow(handle).err(), Some(BorrowError::NotLent));
                assert!(self.held.remove(&(handle.chunk, place)));
            }
            Op::Reclaim => {
                let before = self.publisher.counts().free;
                let came_back = self.publisher.reclaim();
                let free = CHUNKS - self.used().len();
                assert_eq!((before + came_back) as usize, free, "{:?}", self.held);
                let loaned = (self.loans.len() + self.shared.len()) as u32;
                let shared = (CHUNKS - free) as u32 - loaned;
                assert_eq!(self.publisher.counts(), Counts { free: free as u32, loaned, shared });
            }
            Op::PublisherDies { unpushed } => self.publisher_dies(unpushed),
            Op::PublisherReopens => {
                self.loans.clear();
                self.shared.clear();
                // SAFETY: all loans are gone, and it is replaced.
                unsafe { no_more(self.publisher) };
                let (slots, places, ends) = self.successors();
                let pool = self.parts.pool;
                self.index = PUBLISHER;
                let claimed =
                    pool.claim_publisher(owner(PUBLISHER), Limits::NONE, slots, places, ends);
                self.publisher = forever(claimed.unwrap());
            }
            Op::HolderDies { place, succeeded, unpopped } => {
                self.holder_dies(place, succeeded, unpopped);
            }
            Op::HolderReopens { place, disconnected } => self.reopen(place, disconnected),
        }
    }

    fn loan(&mut self, length: usize) {
        let used = self.used();
        // The smallest class that fits and has a chunk left.
        let has = |range: std::ops::Range<u32>, size| {
            length <= size && range.clone().any(|chunk| !used.contains(&chunk))
        };
        let wanted = if has(0..3, SMALL) {
            Ok(0..3)
        } else if has(3..5, LARGE) {
            Ok(3..5)
        } else if length > LARGE {
            Err(LoanError::TooLarge { length, maximum: LARGE })
        } else {
            Err(LoanError::Exhausted)
        };
        match (self.publisher.loan(length), wanted) {
            (Ok(loan), Ok(class)) => {
                let size = if class.start == 0 { SMALL } else { LARGE };
                assert_eq!((loan.len(), loan.capacity()), (length, size));
                assert!(loan.as_ptr().addr().is_multiple_of(64), "aligned");
                let chunk = chunk_of(self, &loan);
                assert!(class.contains(&chunk) && !used.contains(&chunk), "{chunk} of {used:?}");
                let generation = self.parts.memory.get(320 + 4 * chunk as usize);
                let before = self.generations.insert(chunk, generation);
                assert!(before.is_none_or(|before| before.wrapping_add(1) == generation));
                self.loans.push(loan);
            }
            (found, wanted) => assert_eq!(found.map(drop), wanted.map(drop)),
        }
    }

    fn lend(&mut self, which: usize, place: usize, pushed: bool) {
        if self.shared.is_empty() {
            return;
        }
        let (shared, fill) = &self.shared[which % self.shared.len()];
        let subscriber = &mut self.subscribers[place];
        let chunk = shared.handle().chunk;
        let lent = shared.lend(place, subscriber.pushed());
        if self.held.contains(&(chunk, place)) {
            assert_eq!(lent, Err(LendError::AlreadyLent));
        } else if pushed {
            assert_eq!(lent, Ok(shared.handle()));
            subscriber.queue.push_back((shared.handle(), *fill));
            self.held.insert((chunk, place));
        } else {
            assert_eq!(lent, Ok(shared.handle()));
            assert_eq!(shared.take_back(place), Ok(()));
            assert_eq!(shared.take_back(place), Err(Taken));
        }
    }

    /// What a successor of the publisher is given.
    fn successors(
        &self,
    ) -> (&'static mut [Slot], &'static mut [Place<'static>], impl FnMut(usize) -> u32 + use<>)
    {
        let places: Vec<_> = self.parts.marks.iter().map(|marks| Place::of(*marks)).collect();
        let ends: Vec<_> = self.subscribers.iter().map(Subscriber::pushed).collect();
        (self.parts.slots(), places.leak(), move |place| ends[place])
    }

    fn publisher_dies(&mut self, unpushed: Option<(usize, usize)>) {
        if let Some((which, place)) = unpushed
            && !self.shared.is_empty()
        {
            let shared = &self.shared[which % self.shared.len()].0;
            let _ = shared.lend(place, self.subscribers[place].pushed());
        }
        std::mem::take(&mut self.loans).into_iter().for_each(std::mem::forget);
        std::mem::take(&mut self.shared).into_iter().for_each(std::mem::forget);
        let (slots, places, ends) = self.successors();
        let (pool, dead) = (self.parts.pool, dead(self.index));
        self.index ^= HEIR;
        let heir = owner(self.index);
        let recovered = pool.recover_publisher(dead, heir, Limits::NONE, slots, places, ends);
        self.publisher = forever(recovered.unwrap());
    }

    fn holder_dies(&mut self, place: usize, succeeded: bool, unpopped: bool) {
        let subscriber = &mut self.subscribers[place];
        let (marks, dead) = (self.parts.marks[place], dead(subscriber.index));
        let mut hand = std::mem::take(&mut subscriber.hand);
        if succeeded {
            // It died after it had borrowed the last one and before it had popped it.
            let last = subscriber.popped.wrapping_sub(1);
            if unpopped && let Some(at) = hand.iter().position(|(.., at)| *at == last) {
                let (borrowed, fill, _) = hand.swap_remove(at);
                subscriber.queue.push_front((borrowed.handle(), fill));
                subscriber.popped = last;
                std::mem::forget(borrowed);
            }
            let unread = subscriber.popped..subscriber.pushed();
            subscriber.index ^= HEIR;
            let heir = owner(subscriber.index);
            let heir = self.parts.pool.recover_holder(marks, dead, heir, unread).unwrap();
            subscriber.holder = forever(heir);
            for (borrowed, ..) in hand {
                assert!(self.held.remove(&(borrowed.handle().chunk, place)));
                std::mem::forget(borrowed);
            }
        } else {
            hand.into_iter().for_each(std::mem::forget);
            let held = self.held.iter().filter(|(_, at)| *at == place).count();
            assert_eq!(self.publisher.recover_holder(place, dead), Ok(held as u32));
            self.held.retain(|(_, at)| *at != place);
            subscriber.popped = subscriber.pushed();
            subscriber.queue.clear();
            subscriber.index = HOLDERS + place as u32;
            subscriber.holder = forever(self.parts.holder(place));
        }
    }

    fn reopen(&mut self, place: usize, disconnected: bool) {
        let subscriber = &mut self.subscribers[place];
        for (borrowed, ..) in subscriber.hand.drain(..) {
            assert!(self.held.remove(&(borrowed.handle().chunk, place)));
        }
        let in_use = ConnectError::Claim(ClaimError::Owned(owner(subscriber.index)));
        assert_eq!(self.publisher.disconnect(place), Err(in_use));
        // SAFETY: nothing is in hand, and it is replaced.
        unsafe { no_more(subscriber.holder) };
        if disconnected {
            let queued = subscriber.queue.len() as u32;
            assert_eq!(self.publisher.disconnect(place), Ok(queued));
            subscriber.popped = subscriber.pushed();
            subscriber.queue.clear();
            self.held.retain(|(_, at)| *at != place);
            self.next_id += 1;
            let marks = self.parts.add_marks(self.next_id);
            self.parts.marks.swap_remove(place);
            assert_eq!(self.publisher.connect(place, marks), Ok(()));
        }
        self.subscribers[place].index = HOLDERS + place as u32;
        self.subscribers[place].holder = forever(self.parts.holder(place));
    }

    fn check(&self) {
        for (place, subscriber) in self.subscribers.iter().enumerate() {
            let held = self.held.iter().filter(|(_, at)| *at == place).count() as u32;
            assert_eq!((self.parts.marks[place].held(), subscriber.holder.held()), (held, held));
            for (borrowed, fill, _) in &subscriber.hand {
                assert!(borrowed.iter().all(|byte| byte == fill), "overwritten while in hand");
            }
        }
        for (shared, fill) in &self.shared {
            assert!(shared.iter().all(|byte| byte == fill), "overwritten while shared");
        }
    }
}

fn chunk_of(world: &World, loan: &Loan<'_, '_>) -> u32 {
    let offset = loan.as_ptr().addr() - world.parts.memory.base().addr().get() - DATA;
    let chunk = if offset < 3 * SMALL { offset / SMALL } else { 3 + (offset - 3 * SMALL) / LARGE };
    chunk as u32
}

fn take_nth<T>(items: &mut Vec<T>, which: usize) -> Option<T> {
    if items.is_empty() { None } else { Some(items.swap_remove(which % items.len())) }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_operations(ops in ops(), before_wrap in 0..20u32) {
        // Positions of marks wrap at 2^30, those of queues at 2^32.
        for start in [(1u32 << 30) - before_wrap, before_wrap.wrapping_neg()] {
            let mut world = World::new(start);
            for op in ops.clone() {
                world.run(op);
                world.check();
            }
            world.run(Op::Reclaim);
            world.parts.memory.check_guards();
            world.parts.rows.iter().for_each(|row| row.check_guards());
        }
    }
}

// ---- Layout.

#[test]
fn layout() {
    let (parts, publisher) = connected(Limits::NONE);
    let found: Vec<_> = [64, 68, 72, 76, 28, 32, 20].map(|at| parts.memory.get(at)).into();
    assert_eq!(found, [ID, 2, 5, 3, 6, DATA as u32, 8]);
    let table: Vec<_> = (0..12).map(|n| parts.memory.get(128 + 4 * n)).collect();
    assert_eq!(table, [64, 3, 0, 6, 256, 2, 3, 9, 0, 0, 0, 0]);
    assert_eq!([0, 1, 2].map(|place| parts.memory.get(256 + 4 * place)), [1, 2, 3]);
    assert_eq!(parts.memory.size(), DATA + 3 * SMALL + 2 * LARGE);
    let pool = parts.pool;
    assert_eq!(pool.size(), parts.memory.size());
    assert_eq!((pool.id(), pool.chunks(), pool.places()), (ID, 5, 3));
    assert_eq!(pool.classes().collect::<Vec<_>>(), [(64, 3), (256, 2)]);
    assert_eq!((pool.max_length(), pool.alignment()), (LARGE, 64));

    let row = parts.rows[1];
    assert_eq!([64, 68, 72, 20, 32].map(|at| row.get(at)), [ID, 2, 5, 8, 128]);
    assert_eq!(row.size(), 128 + 4 * CHUNKS);
    let generation = parts.memory.get(320);
    let shared = publisher.loan(10).unwrap().share();
    assert_eq!(parts.memory.get(320), generation.wrapping_add(1));
    let handle = shared.lend(1, 5).unwrap();
    assert_eq!(
        handle,
        ChunkHandle { pool: ID, chunk: 0, generation: generation.wrapping_add(1), length: 10 }
    );
    assert_eq!(row.get(128), 5 << 2 | 1);
    let holder = parts.holder(1);
    let borrowed = holder.borrow(handle).unwrap();
    assert_eq!(row.get(128), 5 << 2 | 3);
    drop(borrowed);
    assert_eq!(row.get(128), 0);
}

/// Chunks at each alignment lie where they should.
#[test]
fn alignments() {
    for alignment in [64u32, 128, 1024, 4096] {
        let options = Options::new(1, 0).class(100, 3).class(5000, 2).alignment(alignment);
        let parts = parts(options);
        let publisher = parts.publisher(Limits::NONE);
        let loans: Vec<_> = (0..5).map(|_| publisher.loan(100).unwrap()).collect();
        for (n, loan) in loans.iter().enumerate() {
            assert!(loan.as_ptr().addr().is_multiple_of(alignment as usize));
            let least = if n < 3 { 100 } else { 5000 };
            assert_eq!(loan.capacity(), (least as u32).next_multiple_of(alignment) as usize);
        }
        assert_eq!(publisher.loan(1).err(), Some(LoanError::Exhausted));
    }
}

fn attached(memory: &'static Memory) -> Result<(), AttachError> {
    // SAFETY: nobody writes meanwhile.
    let trusted = unsafe { PoolRef::attach(memory.region()) }.map(|pool| pool.id());
    assert_eq!(trusted, PoolRef::attach_untrusted(memory.region()).map(|pool| pool.id()));
    trusted.map(drop)
}

fn attached_marks(memory: &'static Memory) -> Result<(), AttachError> {
    // SAFETY: nobody writes meanwhile.
    let trusted = unsafe { MarksRef::attach(memory.region()) }.map(|marks| marks.id());
    assert_eq!(trusted, MarksRef::attach_untrusted(memory.region()).map(|marks| marks.id()));
    trusted.map(drop)
}

#[test]
fn spoilt_pools() {
    use AttachError::*;
    let corrupt = |what, found, limit| Corrupt(super_corrupt(what, found, limit));
    let table: &[(usize, u32, AttachError)] = &[
        (0, 1, WrongMagic { found: 1, wanted: u32::from_le_bytes(*b"SHMP") }),
        (4, 0, WrongVersion { found: 0, wanted: 1 }),
        (8, 5, WrongKind { found: Kind::CHUNK_MARKS, wanted: Kind::CHUNK_POOL }),
        (16, 2, NewerRequired { found: 2, wanted: 1 }),
        (20, 16, corrupt("chunks, rounded up,", 16, 8)),
        (20, 7, BadCapacity { found: 7, maximum: 1 << 20 }),
        (24, 4, WrongElementSize { found: 4, wanted: 1 }),
        (28, 5, UnsupportedOption { found: 32 }),
        (28, 13, UnsupportedOption { found: 8192 }),
        (28, 40, UnsupportedOption { found: 40 }),
        (28, 7, corrupt("size of a class", 64, 128)),
        (32, 512, corrupt("offset of the chunks", 512, 384)),
        (68, 0, BadClass { number: 0 }),
        (68, 9, BadClass { number: 9 }),
        (68, u32::MAX, BadClass { number: u32::MAX }),
        (68, 1, corrupt("chunks, rounded up,", 8, 4)),
        (72, 6, corrupt("number of chunks", 6, 5)),
        (76, 4097, TooMany { what: "places for subscribers", found: 4097, maximum: 4096 }),
        (76, 40, corrupt("offset of the chunks", 384, 512)),
        (128, 0, BadClass { number: 0 }),
        (128, u32::MAX, BadClass { number: 0 }),
        (128, 256, BadClass { number: 1 }),
        (128, 63, corrupt("size of a class", 63, 64)),
        (132, 0, BadClass { number: 0 }),
        (132, u32::MAX, TooMany { what: "chunks", found: u32::MAX, maximum: 1 << 20 }),
        (148, 1 << 20, TooMany { what: "chunks", found: (1 << 20) + 3, maximum: 1 << 20 }),
        (136, 1, corrupt("first chunk of a class", 1, 0)),
        (156, 10, corrupt("offset of a class", 10, 9)),
        (144, 1 << 30, corrupt("size", 0, 0)),
    ];
    for (offset, value, wanted) in table {
        let parts = parts(OPTIONS);
        parts.memory.set(*offset, *value);
        let before = parts.memory.bytes();
        let found = attached(parts.memory).unwrap_err();
        if (*offset, *value) == (144, 1 << 30) {
            assert!(matches!(found, TooSmall { .. }), "{found}");
        } else {
            assert_eq!(found, *wanted, "{offset}");
        }
        assert!(found.to_string().len() > 10);
        assert!(parts.memory.bytes() == before, "written to while refusing: {wanted}");
    }
    let parts = parts(OPTIONS);
    parts.memory.set(12, 1);
    assert!(matches!(attached(parts.memory), Err(WrongLayout { found: 1, .. })));
    // SAFETY: nobody else knows this memory.
    let init = |region, options| unsafe { PoolRef::init_at(region, options) }.map(drop);
    let memory = leak(8192);
    let size = OPTIONS.required_size().unwrap();
    let small = memory.part(0, size - 1);
    assert_eq!(init(small, OPTIONS), Err(TooSmall { found: size - 1, wanted: size }));
    assert!(matches!(init(memory.part(32, 4096), OPTIONS), Err(Misaligned { wanted: 64, .. })));
    assert_eq!(OPTIONS.alignment(4096).required_size(), None, "two classes of one size");
    let coarse = Options::new(1, 1).class(64, 3).class(5000, 1).alignment(4096);
    assert_eq!(coarse.required_size(), Some(4096 * 6));
    assert!(matches!(
        init(leak(32768).part(64, 30000), coarse),
        Err(Misaligned { wanted: 4096, .. })
    ));
    let none = Options::new(1, 1);
    assert_eq!(init(memory.region(), none), Err(BadClass { number: 0 }));
    assert_eq!((none.chunks(), none.required_size()), (0, None));
    assert_eq!(init(memory.region(), none.class(64, 1).class(32, 1)), Err(BadClass { number: 1 }));
    let nine = (1..10).fold(none, |options, n| options.class(n * 64, 1));
    assert_eq!(init(memory.region(), nine), Err(BadClass { number: 9 }));
    let huge = none.class(1 << 30, 1 << 20);
    assert!(matches!(init(memory.region(), huge), Err(TooSmall { .. })));
    assert!(memory.bytes().iter().all(|byte| *byte == 0xa5), "written to while refusing");
}

fn super_corrupt(what: &'static str, found: u32, limit: u32) -> Corrupt {
    Corrupt { what, found, limit }
}

#[test]
fn spoilt_marks() {
    use AttachError::*;
    let corrupt = |what, found, limit| Corrupt(super_corrupt(what, found, limit));
    let table: &[(usize, u32, AttachError)] = &[
        (0, 1, WrongMagic { found: 1, wanted: u32::from_le_bytes(*b"SHMP") }),
        (8, 4, WrongKind { found: Kind::CHUNK_POOL, wanted: Kind::CHUNK_MARKS }),
        (20, 1 << 21, BadCapacity { found: 1 << 21, maximum: 1 << 20 }),
        (20, 16, corrupt("number of marks", 5, 16)),
        (24, 1, WrongElementSize { found: 1, wanted: 4 }),
        (32, 0, corrupt("offset of the marks", 0, 128)),
        (68, 0, corrupt("id of the marks", 0, 1)),
        (72, 0, corrupt("number of marks", 0, 8)),
        (72, 9, corrupt("number of marks", 9, 8)),
        (72, u32::MAX, corrupt("number of marks", u32::MAX, 8)),
        (72, 8, TooSmall { found: 148, wanted: 160 }),
    ];
    for (offset, value, wanted) in table {
        let row = parts(OPTIONS).rows[0];
        row.set(*offset, *value);
        let before = row.bytes();
        assert_eq!(attached_marks(row), Err(*wanted), "{offset}");
        assert!(row.bytes() == before, "written to while refusing: {wanted}");
    }
    let parts = parts(OPTIONS);
    // SAFETY: nobody else knows this memory.
    let init = |region, id| unsafe { MarksRef::init_at(region, &parts.pool, id) }.map(drop);
    assert_eq!(init(leak(148).region(), 0), Err(UnsupportedOption { found: 0 }));
    assert_eq!(init(leak(147).region(), 1), Err(TooSmall { found: 147, wanted: 148 }));
    assert!(matches!(init(leak(256).part(4, 200), 1), Err(Misaligned { wanted: 64, .. })));
}

// ---- Errors.

#[test]
fn handles() {
    let (parts, publisher) = connected(Limits::NONE);
    let holder = parts.holder(0);
    let shared = publisher.loan(100).unwrap().share();
    let handle = shared.handle();
    assert_eq!(handle.chunk, 3, "the smallest that fits");
    let fails = |handle| holder.borrow(handle).map(drop).unwrap_err();
    assert_eq!(fails(handle), BorrowError::NotLent);
    assert_eq!(shared.lend(0, 0), Ok(handle));
    let pool = ChunkHandle { pool: 8, ..handle };
    assert_eq!(fails(pool), BorrowError::WrongPool { found: 8, wanted: ID });
    for chunk in [5, 6, 1 << 20, u32::MAX] {
        let handle = ChunkHandle { chunk, ..handle };
        assert_eq!(fails(handle), BorrowError::NoSuchChunk { found: chunk, chunks: 5 });
    }
    for length in [257, u32::MAX] {
        let handle = ChunkHandle { length, ..handle };
        assert_eq!(fails(handle), BorrowError::TooLong { found: length, size: 256 });
    }
    let small = ChunkHandle { chunk: 2, ..handle };
    assert_eq!(fails(small), BorrowError::TooLong { found: 100, size: 64 });
    let found = handle.generation.wrapping_sub(1);
    let stale = ChunkHandle { generation: found, ..handle };
    assert_eq!(fails(stale), BorrowError::Stale { found, wanted: handle.generation });
    // To another subscriber it is not lent.
    assert_eq!(parts.holder(1).borrow(handle).err(), Some(BorrowError::NotLent));
    // What nobody writes is no mark.
    for mark in [4, 2, u32::MAX - 1] {
        parts.rows[1].set(128 + 12, mark);
        assert_eq!(parts.holder(1).borrow(handle).err(), Some(BorrowError::NotLent), "{mark}");
    }
    parts.rows[1].set(128 + 12, 0);
    // All this has changed nothing.
    let borrowed = holder.borrow(handle).unwrap();
    assert_eq!(fails(handle), BorrowError::InHand);
    // Taken back only what is not borrowed.
    assert_eq!(shared.take_back(0), Err(Taken));
    drop(borrowed);
    assert_eq!(shared.take_back(0), Err(Taken));
    assert_eq!(fails(handle), BorrowError::NotLent);
    drop(shared);
    assert_eq!(publisher.counts().free, 4);
    assert_eq!(publisher.reclaim(), 1);
    let again = publisher.loan(100).unwrap();
    let wanted = handle.generation.wrapping_add(1);
    let error = BorrowError::Stale { found: handle.generation, wanted };
    assert_eq!(fails(handle), error);
    drop(again);
    for error in [
        BorrowError::WrongPool { found: 1, wanted: 2 },
        BorrowError::NoSuchChunk { found: 1, chunks: 1 },
        BorrowError::TooLong { found: 2, size: 1 },
        error,
        BorrowError::NotLent,
        BorrowError::InHand,
    ] {
        assert!(error.to_string().len() > 10);
    }
}

#[test]
fn limits() {
    let (parts, publisher) = connected(Limits { loans: 3, held: 2 });
    let shared: Vec<_> = (0..3).map(|_| publisher.loan(1).unwrap().share()).collect();
    assert_eq!(publisher.loan(1).err(), Some(LoanError::TooManyLoans { limit: 3 }));
    let first = shared[0].lend(0, 0).unwrap();
    let second = shared[1].lend(0, 1).unwrap();
    let full = LendError::TooManyHeld { limit: 2 };
    assert_eq!(shared[2].lend(0, 2), Err(full));
    assert_eq!(shared[2].lend(1, 0), Ok(shared[2].handle()), "the limit is each one's own");
    let holder = parts.holder(0);
    let borrowed = holder.borrow(first).unwrap();
    assert_eq!(shared[2].lend(0, 2), Err(full), "in hand is held too");
    drop(borrowed);
    assert_eq!(shared[2].lend(0, 2), Ok(shared[2].handle()));
    drop(holder.borrow(second).unwrap());
    assert_eq!(shared[0].lend(0, 3), Ok(first), "lent once more, after it came back");
    drop(shared);
    assert!(publisher.loan(1).is_ok());
    for error in [full, LendError::NotConnected { place: 1 }, LendError::AlreadyLent] {
        assert!(error.to_string().len() > 10);
    }
    let errors = [
        LoanError::Exhausted,
        LoanError::TooManyLoans { limit: 3 },
        LoanError::TooLarge { length: 2, maximum: 1 },
    ];
    errors.iter().for_each(|error| assert!(error.to_string().len() > 10));
}

#[test]
fn connections() {
    use ConnectError::*;
    let mut parts = parts(OPTIONS);
    let publisher = parts.publisher(Limits::NONE);
    assert_eq!(parts.pool.owner(), Ok(Some(owner(PUBLISHER))));
    let marks = parts.marks.clone();
    let shared = publisher.loan(1).unwrap().share();
    assert_eq!(shared.lend(0, 0), Err(LendError::NotConnected { place: 0 }));
    assert_eq!(shared.lend(7, 0), Err(LendError::NotConnected { place: 7 }));
    assert_eq!(shared.take_back(7), Err(Taken));
    assert_eq!(publisher.connect(0, marks[0]), Ok(()));
    assert_eq!(publisher.connect(0, marks[1]), Err(PlaceTaken { id: 1 }));
    assert_eq!(publisher.connect(1, marks[0]), Err(Twice { place: 0 }));
    assert_eq!(publisher.connect(3, marks[1]), Err(NoSuchPlace { found: 3, places: 3 }));
    assert_eq!(publisher.disconnect(1), Err(NotConnected { place: 1 }));
    assert_eq!(publisher.recover_holder(9, dead(HOLDERS)), Err(NotConnected { place: 9 }));
    assert_eq!(publisher.connected(0).map(|marks| marks.id()), Some(1));
    assert_eq!([0, 1, 3].map(|place| parts.pool.connected(place)), [Some(1), None, None]);
    // Marks for others.
    let other = self::parts(Options::new(ID + 1, 1).class(64, 5));
    assert_eq!(publisher.connect(1, other.marks[0]), Err(OtherPool { found: 10, wanted: 9 }));
    let other = self::parts(Options::new(ID, 1).class(64, 6));
    assert_eq!(publisher.connect(1, other.marks[0]), Err(OtherSize { found: 6, wanted: 5 }));
    let claimed = parts.pool.claim_holder(other.marks[0], owner(2)).map(drop);
    assert_eq!(claimed, Err(OtherSize { found: 6, wanted: 5 }));

    // A subscriber has its end alone, and no living one is cleared.
    let holder = parts.holder(0);
    assert_eq!(marks[0].owner(), Ok(Some(holder_of(0))));
    let owned = Err(Claim(ClaimError::Owned(holder_of(0))));
    assert_eq!(parts.pool.claim_holder(marks[0], owner(2)).map(drop), owned);
    assert_eq!(publisher.disconnect(0).map(drop), owned);
    let not_his = Err(Claim(ClaimError::NotTheOwner { found: Some(holder_of(0)) }));
    assert_eq!(publisher.recover_holder(0, dead(77)).map(drop), not_his);
    let recovered = parts.pool.recover_holder(marks[0], dead(77), owner(3), 0..1);
    assert_eq!(recovered.map(drop), not_his);
    let handle = shared.lend(0, 0).unwrap();
    drop(holder);
    // A later claim goes on with the same queue.
    assert!(parts.holder(0).borrow(handle).is_ok());
    assert_eq!(publisher.disconnect(0), Ok(0));
    assert_eq!(parts.pool.connected(0), None);
    assert_eq!(marks[0].owner(), Ok(None));

    // The successor of a publisher is given all that is connected, or does not begin.
    publisher.connect(2, marks[2]).unwrap();
    let _ = shared.lend(2, 0);
    drop(shared);
    drop(publisher);
    assert_eq!(parts.pool.owner(), Ok(None));
    let wrong = parts.add_marks(44);
    for given in [None, Some(wrong), Some(marks[1])] {
        let places = Vec::from([None, None, given].map(|m| m.map_or(Place::new(), Place::of)));
        let limits = Limits::NONE;
        let found =
            parts.pool.claim_publisher(owner(1), limits, parts.slots(), places.leak(), |_| 0);
        assert_eq!(found.map(drop), Err(Missing { place: 2, id: 3 }));
        assert_eq!(parts.pool.owner(), Ok(None));
    }
    let few = Limits::NONE;
    let found = parts.pool.claim_publisher(owner(1), few, &mut parts.slots()[1..], &mut [], |_| 0);
    assert_eq!(found.map(drop), Err(TooFewSlots { found: 4, wanted: 5 }));
    let found = parts.pool.claim_publisher(owner(1), few, parts.slots(), &mut [], |_| 0);
    assert_eq!(found.map(drop), Err(TooFewPlaces { found: 0, wanted: 3 }));
    // A place that was given and is not connected is free.
    let places: Vec<_> = marks.iter().map(|marks| Place::of(*marks)).collect();
    let publisher =
        parts.pool.claim_publisher(owner(1), few, parts.slots(), places.leak(), |_| 1).unwrap();
    assert_eq!(publisher.counts(), Counts { free: 4, loaned: 0, shared: 1 });
    assert_eq!([0, 1, 2].map(|place| publisher.connected(place).is_some()), [false, false, true]);
    let errors = [
        Claim(ClaimError::Owned(owner(1))),
        OtherPool { found: 1, wanted: 2 },
        OtherSize { found: 1, wanted: 2 },
        NoSuchPlace { found: 1, places: 1 },
        PlaceTaken { id: 1 },
        Twice { place: 1 },
        NotConnected { place: 1 },
        Missing { place: 1, id: 1 },
        TooFewSlots { found: 1, wanted: 2 },
        TooFewPlaces { found: 1, wanted: 2 },
    ];
    errors.iter().for_each(|error| assert!(error.to_string().len() > 10));
}

/// Copies in and out, for those who do not trust the other side, and the subscriber writes
/// nothing into the pool.
#[test]
fn untrusted_copies() {
    let parts = parts(OPTIONS);
    let pool: PoolRef<'static, Untrusted> =
        PoolRef::attach_untrusted(parts.memory.region()).unwrap();
    let marks = MarksRef::attach_untrusted(parts.rows[0].region()).unwrap();
    let mut places = [const { Place::new() }; PLACES];
    let mut slots = [const { Slot::new() }; CHUNKS];
    let publisher =
        pool.claim_publisher(owner(1), Limits::NONE, &mut slots, &mut places, |_| 0).unwrap();
    publisher.connect(0, marks).unwrap();
    let holder = pool.claim_holder(marks, owner(2)).unwrap();
    let mut loan = publisher.loan(100).unwrap();
    let bytes: Vec<u8> = (0..100).collect();
    assert_eq!(loan.write_at(0, &bytes), Ok(()));
    assert_eq!(loan.write_at(3, b"abc"), Ok(()));
    assert_eq!(loan.write_at(98, b"abc"), Err(OutOfRange { end: 101, length: 100 }));
    let end = usize::MAX;
    assert_eq!(loan.write_at(usize::MAX, b"abc"), Err(OutOfRange { end, length: 100 }));
    assert_eq!(loan.resize(257), Err(OutOfRange { end: 257, length: 256 }));
    assert_eq!((loan.len(), loan.capacity()), (100, 256));
    loan.resize(90).unwrap();
    let handle = loan.share().lend(0, 0).unwrap();
    assert_eq!(handle.length, 90);
    let before = parts.memory.bytes();
    let borrowed = holder.borrow(handle).unwrap();
    let mut copy = [0; 90];
    borrowed.read_at(0, &mut copy).unwrap();
    assert_eq!((&copy[..3], &copy[3..6], copy[6], copy[89]), (&[0, 1, 2][..], &b"abc"[..], 6, 89));
    let mut some = [0; 7];
    borrowed.read_at(83, &mut some).unwrap();
    assert_eq!(some, [83, 84, 85, 86, 87, 88, 89]);
    let error = borrowed.read_at(84, &mut some).unwrap_err();
    assert_eq!(error, OutOfRange { end: 91, length: 90 });
    assert!(error.to_string().len() > 10);
    assert!(borrowed.read_at(usize::MAX, &mut some).is_err());
    drop(borrowed);
    drop(holder);
    assert!(parts.memory.bytes() == before, "a subscriber wrote into the pool");
}

/// Threads with real queues: every message arrives whole, and all chunks come back.
#[test]
fn two_subscribers() {
    const MESSAGES: u32 = if cfg!(miri) { 50 } else { 20_000 };
    let (parts, publisher) = connected(Limits { loans: 2, held: 3 });
    let patience = Patience::new();
    let queue = || {
        let options = spsc::Options::new(4);
        let memory = leak(options.required_size::<ChunkHandle>().unwrap());
        // SAFETY: nobody else knows this memory.
        unsafe { SpscRingRef::<ChunkHandle>::init_at(memory.region(), options) }.unwrap()
    };
    std::thread::scope(|scope| {
        let mut queues = vec![];
        for place in 0..2 {
            let ring = queue();
            queues.push(ring.claim_producer(owner(PUBLISHER)).unwrap());
            let (parts, patience) = (&parts, patience.clone());
            scope.spawn(move || {
                let holder = parts.holder(place);
                let mut queue = ring.claim_consumer(holder_of(place)).unwrap();
                let mut hand = VecDeque::new();
                let mut next = 0u32;
                while next < MESSAGES {
                    let Ok(handle) = queue.pop() else {
                        hand.clear();
                        patience.wait();
                        continue;
                    };
                    let borrowed = holder.borrow(handle).unwrap();
                    hand.push_back((borrowed, next));
                    next += 1;
                    if hand.len() == 2 {
                        let (borrowed, number) = hand.pop_front().unwrap();
                        let sent = number.to_le_bytes();
                        assert!(borrowed.chunks(4).all(|word| *word == sent[..]), "{number}");
                    }
                }
            });
        }
        for number in 0..MESSAGES {
            let shared = loop {
                match publisher.loan(if number % 2 == 0 { 64 } else { 128 }) {
                    Ok(mut loan) => {
                        for word in loan.chunks_mut(4) {
                            word.copy_from_slice(&number.to_le_bytes());
                        }
                        break loan.share();
                    }
                    Err(LoanError::Exhausted) => patience.wait(),
                    Err(error) => panic!("{error}"),
                }
            };
            for (place, queue) in queues.iter_mut().enumerate() {
                loop {
                    match shared.lend(place, number) {
                        Ok(handle) if queue.push(handle).is_ok() => break,
                        Ok(_) => assert_eq!(shared.take_back(place), Ok(())),
                        Err(error) => assert_eq!(error, LendError::TooManyHeld { limit: 3 }),
                    }
                    patience.wait();
                }
            }
        }
    });
    publisher.reclaim();
    assert_eq!(publisher.counts(), Counts { free: 5, loaned: 0, shared: 0 });
}

/// A chunk held for long does not keep those shared after it, and is not judged by its position.
#[test]
fn held_for_long() {
    let (parts, publisher) = connected(Limits::NONE);
    let holder = parts.holder(0);
    let first = holder.borrow(publisher.loan(1).unwrap().share().lend(0, 0).unwrap()).unwrap();
    for n in 1..100 {
        let handle = publisher.loan(200).unwrap().share().lend(0, n).unwrap();
        drop(holder.borrow(handle).unwrap());
    }
    assert_eq!(publisher.loan(200).map(|loan| loan.capacity()), Ok(LARGE));
    drop(publisher);
    // Half the range of positions and more have passed: what is in hand stays so.
    for end in [(1 << 29) + 5, 1 << 30, 0] {
        let places: Vec<_> = parts.marks.iter().map(|marks| Place::of(*marks)).collect();
        let (slots, places) = (parts.slots(), places.leak());
        let heir = parts.pool.claim_publisher(owner(1), Limits::NONE, slots, places, |_| end);
        let heir = heir.unwrap();
        let counts = Counts { free: 4, loaned: 0, shared: 1 };
        assert_eq!((heir.reclaim(), heir.counts()), (0, counts), "freed while it is read");
    }
    drop(first);
}

/// Of a subscriber's successor: what the dead one popped and never borrowed comes back, what it
/// had not popped stays, and so does what is lent meanwhile.
#[test]
fn popped_and_not_borrowed() {
    for start in [0, (1 << 30) - 1, u32::MAX] {
        let (parts, publisher) = connected(Limits::NONE);
        std::mem::forget(parts.holder(0));
        let at = |n: u32| start.wrapping_add(n);
        let lent = |n| publisher.loan(1).unwrap().share().lend(0, at(n)).unwrap();
        let handles = [0, 1, 2].map(lent);
        let (pool, marks) = (parts.pool, parts.marks[0]);
        let heir = pool.recover_holder(marks, dead(HOLDERS), owner(3), at(1)..at(2)).unwrap();
        assert_eq!(heir.held(), 2);
        let found = handles.map(|handle| heir.borrow(handle).err());
        assert_eq!(found, [Some(BorrowError::NotLent), None, None]);
    }
}

/// What was lent to nobody is free at once.
#[test]
fn shared_with_nobody() {
    let (_parts, publisher) = connected(Limits::NONE);
    let shared = publisher.loan(1).unwrap().share();
    assert_eq!(publisher.counts(), Counts { free: 4, loaned: 1, shared: 0 });
    drop(shared);
    assert_eq!(publisher.counts(), Counts { free: 5, loaned: 0, shared: 0 });
}

// ---- Where a queue lies.

#[test]
fn queue_descriptors() {
    fn shareable<T: Shareable>() {}
    shareable::<QueueDescriptor>();
    shareable::<ChunkHandle>();
    use AttachError::*;
    let memory = leak(8192);
    let segment = memory.region();
    let size = |capacity: u32| spsc::Options::new(capacity).required_size::<u32>();
    let said = QueueDescriptor { offset: 4096, capacity: 64, alignment: 4096 };
    let found = said.resolve(&segment, size).unwrap();
    assert_eq!(found.base(), memory.part(4096, 0).base());
    assert_eq!(Some(found.len()), size(64));
    let fails = |said: QueueDescriptor| said.resolve(&segment, size).map(drop).unwrap_err();
    for capacity in [0, 3, 1 << 31, u32::MAX] {
        let error = BadCapacity { found: capacity, maximum: 1 << 30 };
        assert_eq!(fails(QueueDescriptor { capacity, ..said }), error);
    }
    for alignment in [0, 1, 32, 96, 8192, u32::MAX] {
        let error = UnsupportedOption { found: alignment };
        assert_eq!(fails(QueueDescriptor { alignment, ..said }), error);
    }
    let wanted = 8192 + size(64).unwrap();
    let beyond = fails(QueueDescriptor { offset: 8192, ..said });
    assert_eq!(beyond, TooSmall { found: 8192, wanted });
    for offset in [4096 + 64, u64::MAX, u64::MAX - 4095, 1 << 40] {
        assert!(matches!(
            fails(QueueDescriptor { offset, alignment: 4096, ..said }),
            TooSmall { .. } | Misaligned { .. }
        ));
    }
    assert!(matches!(fails(QueueDescriptor { offset: 64, ..said }), Misaligned { .. }));
    // A segment that happens to lie so that the sum is aligned.
    let shifted = memory.part(64, 8000);
    let odd = QueueDescriptor { offset: 64, capacity: 64, alignment: 128 };
    assert_eq!(odd.resolve(&shifted, size).unwrap_err(), Misaligned { found: 64, wanted: 128 });
    let at_end = 8192 - size(64).unwrap();
    let last = QueueDescriptor { offset: at_end as u64, alignment: 64, ..said };
    assert!(last.resolve(&segment, size).is_ok());
    assert_eq!(
        last.resolve(&segment, |_| None).map(drop).unwrap_err(),
        BadCapacity { found: 64, maximum: 1 << 30 }
    );
    let _: Region<'_> = segment;
}
