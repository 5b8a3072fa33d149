//! Random operations and deaths against an account of who has what.

use super::{
    CHUNKS, DATA, HOLDERS, LARGE, PLACES, PUBLISHER, Parts, SMALL, connected, forever, holder_of,
    no_more,
};
use crate::common::{dead, owner};
use proptest::prelude::*;
use shm_primitives::part::ClaimError;
use shm_primitives::pool::{
    BorrowError, Borrowed, ChunkHandle, ConnectError, Counts, Holder, LendError, Limits, Loan,
    LoanError, Place, Publisher, Shared, Slot, Taken,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

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

impl World {
    fn new(start: u32) -> Self {
        let (parts, publisher) = connected(Limits::NONE);
        let subscribers = (0..PLACES)
            .map(|place| Subscriber {
                holder: forever(parts.holder(place)),
                queue: VecDeque::new(),
                popped: start,
                hand: vec![],
            })
            .collect();
        Self {
            parts,
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
        let pool = self.parts.pool;
        let last = pool.owner().unwrap().unwrap();
        let dead = dead(last.index());
        let heir = if last == owner(PUBLISHER) { owner(PUBLISHER + 1) } else { owner(PUBLISHER) };
        let recovered = pool.recover_publisher(dead, heir, Limits::NONE, slots, places, ends);
        self.publisher = forever(recovered.unwrap());
    }

    fn holder_dies(&mut self, place: usize, succeeded: bool, unpopped: bool) {
        let marks = self.parts.marks[place];
        let before = marks.owner().unwrap().unwrap();
        let dead = dead(before.index());
        let subscriber = &mut self.subscribers[place];
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
            let first = holder_of(place);
            let who = if before == first { owner(2 * HOLDERS + place as u32) } else { first };
            let heir = self.parts.pool.recover_holder(marks, dead, who, unread).unwrap();
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
            subscriber.holder = forever(self.parts.holder(place));
        }
    }

    fn reopen(&mut self, place: usize, disconnected: bool) {
        let subscriber = &mut self.subscribers[place];
        for (borrowed, ..) in subscriber.hand.drain(..) {
            assert!(self.held.remove(&(borrowed.handle().chunk, place)));
        }
        let holder = self.parts.marks[place].owner().unwrap().unwrap();
        let in_use = ConnectError::Claim(ClaimError::Owned(holder));
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
