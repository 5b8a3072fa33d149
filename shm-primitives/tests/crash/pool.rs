//! The chunk pool. Message n is n in all its bytes.

use crate::common::memory::Memory;
use crate::common::{dead, owner};
use crate::harness::{at_every_step, die};
use shm_primitives::part::{AttachError, ClaimError};
use shm_primitives::pool::{
    Borrowed, ChunkHandle, ConnectError, Counts, Holder, Limits, MarksRef, Options, Place, PoolRef,
    Publisher, Slot,
};
use shm_primitives::ring::spsc::{self, Consumer, Producer, SpscRingRef};
use std::ops::RangeInclusive;

const PUBLISHER: u32 = 1;
const HEIR: u32 = 2;
const HOLDER: u32 = 10;
const PLACES: usize = 2;
const CHUNKS: u32 = 4;
const OPTIONS: Options = Options::new(7, PLACES as u32).class(64, 2).class(128, 2);
/// Where a ring's published position lies, and its consumer's.
const WRITE: usize = 64;
const CONSUMED: usize = 192;

fn leak(len: usize) -> &'static Memory {
    Box::leak(Box::new(Memory::new(len, 0xa5)))
}

fn forever<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// A pool, and marks and a queue for each subscriber.
struct World {
    pool: PoolRef<'static>,
    marks: [MarksRef<'static>; PLACES],
    queues: [(&'static Memory, SpscRingRef<'static, ChunkHandle>); PLACES],
}

/// What the publisher has.
struct Sender {
    publisher: Publisher<'static, 'static>,
    queues: [Producer<'static, ChunkHandle>; PLACES],
    memory: [&'static Memory; PLACES],
}

/// What a subscriber has.
struct Subscriber {
    holder: &'static Holder<'static>,
    queue: Consumer<'static, ChunkHandle>,
    /// What it reads at the moment, and what that says.
    hand: Option<(Borrowed<'static, 'static>, u8)>,
}

/// What was done before the operation.
#[derive(Clone, Copy, Debug)]
struct State {
    /// Messages in each subscriber's queue, from number 2 on.
    queued: [u8; PLACES],
    /// Whether the first subscriber has number 1 in hand.
    in_hand: bool,
    /// Where positions begin.
    start: u32,
}

fn states() -> impl Iterator<Item = State> {
    let fills = [([0, 0], false), ([1, 1], false), ([0, 0], true), ([1, 2], true), ([2, 0], true)];
    // Positions of marks wrap at 2^30.
    [0, (1 << 30) - 2, u32::MAX]
        .into_iter()
        .flat_map(move |start| fills.map(|(queued, in_hand)| State { queued, in_hand, start }))
}

/// The messages queued at `place`.
fn queued(state: State, place: usize) -> Vec<u8> {
    (2..2 + state.queued[place]).collect()
}

impl World {
    fn new(start: u32) -> Self {
        // SAFETY: nobody else knows this memory.
        let pool = unsafe {
            PoolRef::init_at(leak(OPTIONS.required_size().unwrap()).region(), OPTIONS).unwrap()
        };
        let marks = [1, 2].map(|id| {
            let row = leak(MarksRef::required_size(CHUNKS).unwrap());
            // SAFETY: as above, and each id is used once.
            unsafe { MarksRef::init_at(row.region(), &pool, id) }.unwrap()
        });
        let queues = [(); PLACES].map(|()| {
            let options = spsc::Options::new(8).start(start);
            let memory = leak(options.required_size::<ChunkHandle>().unwrap());
            // SAFETY: as above.
            (memory, unsafe { SpscRingRef::init_at(memory.region(), options) }.unwrap())
        });
        Self { pool, marks, queues }
    }

    /// The world after what `state` says.
    fn build(state: State) -> (Self, Sender, [Subscriber; PLACES]) {
        let world = Self::new(state.start);
        let (slots, places) = world.own_memory();
        let (who, limits) = (owner(PUBLISHER), Limits::NONE);
        let publisher = world.pool.claim_publisher(who, limits, slots, places, |_| 0).unwrap();
        for (place, marks) in world.marks.iter().enumerate() {
            publisher.connect(place, *marks).unwrap();
        }
        let queues = world.queues.map(|(_, queue)| queue.claim_producer(who).unwrap());
        let mut sender = Sender { publisher, queues, memory: world.queues.map(|queue| queue.0) };
        let mut subscribers = [0, 1].map(|place| world.subscriber(place));
        if state.in_hand {
            sender.send(1, &[0]);
            subscribers[0].take();
        }
        for n in 0..2 {
            let places: Vec<_> = (0..PLACES).filter(|place| n < state.queued[*place]).collect();
            if !places.is_empty() {
                sender.send(2 + n, &places);
            }
        }
        (world, sender, subscribers)
    }

    fn own_memory(&self) -> (&'static mut [Slot], &'static mut [Place<'static>]) {
        let slots: Vec<_> = (0..CHUNKS).map(|_| Slot::new()).collect();
        (slots.leak(), Vec::from(self.marks.map(Place::of)).leak())
    }

    fn subscriber(&self, place: usize) -> Subscriber {
        let who = owner(HOLDER + place as u32);
        let holder = forever(self.pool.claim_holder(self.marks[place], who).unwrap());
        Subscriber { holder, queue: self.queues[place].1.claim_consumer(who).unwrap(), hand: None }
    }

    fn published(&self, place: usize) -> u32 {
        self.queues[place].1.unread().unwrap().end
    }

    /// Whoever goes on after the publisher's death, at whatever point.
    fn inherit(&self) -> Sender {
        let (slots, places) = self.own_memory();
        let last = self.pool.owner().unwrap();
        // One who died taking over is succeeded by another.
        let who = owner(if last == Some(owner(HEIR)) { 21 } else { HEIR });
        let limits = Limits::NONE;
        let ends = |place| self.published(place);
        let publisher = match last {
            Some(last) => {
                let dead = dead(last.index());
                self.pool.recover_publisher(dead, who, limits, slots, places, ends)
            }
            None => self.pool.claim_publisher(who, limits, slots, places, ends),
        };
        let queues = self.queues.map(|(_, queue)| match queue.claim_producer(who) {
            Err(ClaimError::Owned(last)) => queue.recover_producer(dead(last.index()), who),
            claimed => claimed,
        });
        let queues = queues.map(Result::unwrap);
        Sender { publisher: publisher.unwrap(), queues, memory: self.queues.map(|queue| queue.0) }
    }
}

impl Sender {
    fn send(&mut self, number: u8, places: &[usize]) {
        let mut loan = self.publisher.loan(64).expect("a free chunk");
        loan.fill(number);
        let shared = loan.share();
        for &place in places {
            let handle = shared.lend(place, self.memory[place].get(WRITE)).unwrap();
            self.queues[place].push(handle).expect("room");
        }
    }
}

impl Subscriber {
    /// Borrows the next message, and then pops it.
    fn take(&mut self) -> Option<u8> {
        let handle = *self.queue.peek().ok()?;
        let borrowed = self.holder.borrow(handle).expect("what was pushed is lent");
        self.queue.pop().unwrap();
        let number = borrowed[0];
        assert!(borrowed.len() == 64 && borrowed.iter().all(|byte| *byte == number), "torn");
        self.hand = Some((borrowed, number));
        Some(number)
    }

    /// What it has in hand is as it was.
    fn check(&self) {
        if let Some((borrowed, number)) = &self.hand {
            assert!(borrowed.iter().all(|byte| byte == number), "overwritten while in hand");
        }
    }

    /// Gives everything back.
    fn close(self) {
        let Self { holder, queue, hand } = self;
        drop((hand, queue));
        // SAFETY: leaked from a box, and nothing borrows from it any more.
        drop(unsafe { Box::from_raw(std::ptr::from_ref(holder).cast_mut()) });
    }
}

/// Everybody reads what there is and gives it back; then every chunk is free and usable. Answers
/// what each subscriber read, without what it had in hand.
fn settle(sender: &mut Sender, subscribers: &mut [Subscriber; PLACES]) -> [Vec<u8>; PLACES] {
    // What is free is written over, before anybody reads.
    let mut loans: Vec<_> = std::iter::from_fn(|| sender.publisher.loan(64).ok()).collect();
    loans.iter_mut().for_each(|loan| loan.fill(0xee));
    drop(loans);
    let read = [0, 1].map(|place| {
        let subscriber = &mut subscribers[place];
        subscriber.check();
        subscriber.hand = None;
        let mut read = vec![];
        while let Some(number) = subscriber.take() {
            read.push(number);
            subscriber.hand = None;
        }
        read
    });
    sender.publisher.reclaim();
    let free = Counts { free: CHUNKS, loaned: 0, shared: 0 };
    assert_eq!(sender.publisher.counts(), free, "a chunk is lost");
    for round in 0..3 {
        for n in 0..CHUNKS as u8 {
            sender.send(100 + n, &[0, 1]);
        }
        assert!(sender.publisher.loan(1).is_err(), "a chunk too many, round {round}");
        for subscriber in subscribers.iter_mut() {
            for n in 0..CHUNKS as u8 {
                assert_eq!(subscriber.take(), Some(100 + n));
                subscriber.check();
                subscriber.hand = None;
            }
        }
    }
    sender.publisher.reclaim();
    assert_eq!(sender.publisher.counts(), free);
    read
}

/// Lets an operation of the publisher die at each step. What was queued and in hand stays; the
/// operation's messages, which are numbered from 50, arrive whole, in order, or not at all.
fn publisher_dies(
    what: &str,
    least: u32,
    sent: RangeInclusive<usize>,
    operation: impl Fn(&mut Sender) + Copy,
) {
    for state in states() {
        let deaths = at_every_step(what, |budget| {
            let (world, mut sender, mut subscribers) = World::build(state);
            let survived = die(budget, move || operation(&mut sender)).is_some();
            subscribers.iter().for_each(Subscriber::check);
            let mut heir = world.inherit();
            let read = settle(&mut heir, &mut subscribers);
            for (place, read) in read.iter().enumerate() {
                let old = queued(state, place);
                assert_eq!(read[..old.len()], old, "{state:?}");
                let new: Vec<u8> = (50..50 + (read.len() - old.len()) as u8).collect();
                assert_eq!(read[old.len()..], new, "{state:?}");
                assert!(!survived || sent.contains(&new.len()), "{state:?}: published");
            }
            survived
        });
        assert!(deaths >= least, "{what}: only {deaths} steps");
    }
}

#[test]
fn loan_dropped() {
    publisher_dies("loan dropped", 3, 0..=0, |sender| {
        sender.publisher.loan(10).unwrap().fill(0xdd);
    });
}

#[test]
fn send() {
    // The generation, the payload twice, two marks, two pushes.
    publisher_dies("send", 7, 1..=1, |sender| sender.send(50, &[0, 1]));
}

#[test]
fn sends() {
    publisher_dies("sends", 7, 1..=2, |sender| {
        sender.send(50, &[0, 1]);
        // In the fullest of states all chunks are away then.
        if sender.publisher.counts().free > 0 {
            sender.send(51, &[1, 0]);
        }
    });
}

#[test]
fn take_back() {
    publisher_dies("take back", 5, 0..=0, |sender| {
        let mut loan = sender.publisher.loan(64).unwrap();
        loan.fill(0xdd);
        let shared = loan.share();
        shared.lend(1, sender.memory[1].get(WRITE)).unwrap();
        shared.take_back(1).unwrap();
    });
}

/// A subscriber leaves, and the publisher dies while it disconnects it and connects it anew.
#[test]
fn disconnect() {
    for state in states() {
        let deaths = at_every_step("disconnect", |budget| {
            let (world, sender, [first, second]) = World::build(state);
            let marks = world.marks[1];
            second.close();
            let survived = die(budget, move || {
                let cleared = state.queued[1].into();
                assert_eq!(sender.publisher.disconnect(1), Ok(cleared));
                sender.publisher.connect(1, marks).unwrap();
            })
            .is_some();
            first.check();
            let mut heir = world.inherit();
            if heir.publisher.connected(1).is_none() {
                assert_eq!((marks.owner(), marks.held()), (Ok(None), 0), "half disconnected");
                heir.publisher.connect(1, marks).unwrap();
            }
            // The end is nobody's, or the dead publisher's.
            if marks.owner().unwrap().is_some() {
                assert!(!survived);
                heir.publisher.recover_holder(1, dead(PUBLISHER)).unwrap();
            }
            heir.publisher.disconnect(1).unwrap();
            heir.publisher.connect(1, marks).unwrap();
            let mut second = world.subscriber(1);
            while second.queue.pop().is_ok() {}
            let read = settle(&mut heir, &mut [first, second]);
            assert_eq!(read[0], queued(state, 0), "{state:?}: the other's");
            survived
        });
        assert!(deaths >= 4, "only {deaths} steps");
    }
}

/// The publisher dies while it clears what a dead subscriber held.
#[test]
fn recovering_a_holder() {
    for state in states() {
        let deaths = at_every_step("recover_holder", |budget| {
            let (world, sender, [first, second]) = World::build(state);
            let marks = world.marks[0];
            let held = marks.held();
            let Subscriber { mut queue, hand, .. } = first;
            std::mem::forget(hand);
            let survived = die(budget, move || {
                assert_eq!(sender.publisher.recover_holder(0, dead(HOLDER)), Ok(held));
            })
            .is_some();
            let mut heir = world.inherit();
            // Whose the end is now.
            if let Some(last) = marks.owner().unwrap() {
                assert!(!survived);
                heir.publisher.recover_holder(0, dead(last.index())).unwrap();
            }
            assert_eq!(marks.held(), 0, "{state:?}");
            while queue.pop().is_ok() {}
            let holder = forever(world.pool.claim_holder(marks, owner(HOLDER)).unwrap());
            let first = Subscriber { holder, queue, hand: None };
            let read = settle(&mut heir, &mut [first, second]);
            assert_eq!(read[1], queued(state, 1), "{state:?}: the other's");
            survived
        });
        assert!(deaths >= 2, "only {deaths} steps");
    }
}

/// The successor of a publisher that died between mark and push dies itself.
#[test]
fn recovering_a_publisher() {
    for state in states() {
        let deaths = at_every_step("recover_publisher", |budget| {
            let (world, sender, mut subscribers) = World::build(state);
            let mut loan = sender.publisher.loan(64).unwrap();
            loan.fill(0xdd);
            let shared = loan.share();
            for place in 0..PLACES {
                shared.lend(place, world.published(place)).unwrap();
            }
            std::mem::forget(shared);
            std::mem::forget(sender);
            let (slots, places) = world.own_memory();
            let (pool, ends) = (world.pool, |place| world.published(place));
            let survived = die(budget, || {
                let (last, who) = (dead(PUBLISHER), owner(HEIR));
                let heir = pool.recover_publisher(last, who, Limits::NONE, slots, places, ends);
                std::mem::forget(heir.unwrap());
            })
            .is_some();
            let mut heir = world.inherit();
            let read = settle(&mut heir, &mut subscribers);
            assert_eq!(read, [0, 1].map(|place| queued(state, place)), "{state:?}");
            survived
        });
        assert!(deaths >= 3, "only {deaths} steps");
    }
}

/// Lets an operation of the first subscriber die at each step, while it may have one message in
/// hand. A successor goes on with the queue: it sees each message from the first that was not
/// popped, and what the dead one held otherwise comes back. Or there is none, and all does.
fn holder_dies(what: &str, least: u32, operation: impl Fn(Subscriber) + Copy) {
    for state in states() {
        for succeeded in [false, true] {
            let deaths = at_every_step(what, |budget| {
                let (world, mut sender, [first, second]) = World::build(state);
                let (marks, memory) = (world.marks[0], world.queues[0].0);
                let survived = die(budget, move || operation(first)).is_some();
                second.check();
                let unread = world.queues[0].1.unread().unwrap();
                assert_eq!(unread, memory.get(CONSUMED)..memory.get(WRITE));
                let who = owner(20);
                let mut queue = match world.queues[0].1.claim_consumer(who) {
                    Err(_) => world.queues[0].1.recover_consumer(dead(HOLDER), who).unwrap(),
                    claimed => claimed.unwrap(),
                };
                let mut wanted = queued(state, 0);
                let left = unread.end.wrapping_sub(unread.start) as usize;
                wanted.drain(..wanted.len() - left);
                let holder = if marks.owner().unwrap().is_none() {
                    // It gave its end back, and with it all that it had in hand.
                    world.pool.claim_holder(marks, who).unwrap()
                } else if succeeded {
                    world.pool.recover_holder(marks, dead(HOLDER), who, unread).unwrap()
                } else {
                    sender.publisher.recover_holder(0, dead(HOLDER)).unwrap();
                    while queue.pop().is_ok() {}
                    wanted.clear();
                    world.pool.claim_holder(marks, who).unwrap()
                };
                assert_eq!(marks.held() as usize, wanted.len(), "{state:?}: what is unread");
                let first = Subscriber { holder: forever(holder), queue, hand: None };
                let read = settle(&mut sender, &mut [first, second]);
                assert_eq!(read, [wanted, queued(state, 1)], "{state:?}");
                survived
            });
            let has = state.queued[0] > 0 || state.in_hand;
            assert!(deaths >= if has { least } else { 1 }, "{what}: only {deaths} steps");
        }
    }
}

#[test]
fn borrow_and_give_back() {
    holder_dies("borrow", 3, |mut first| {
        first.take();
        first.take();
        first.close();
    });
}

#[test]
fn given_back_unread() {
    holder_dies("give back", 3, |mut first| {
        first.hand = None;
        first.take();
        first.hand = None;
        first.close();
    });
}

/// The successor of a dead subscriber dies while it takes over the marks.
#[test]
fn succeeding() {
    for state in states() {
        let deaths = at_every_step("succeed", |budget| {
            let (world, mut sender, [mut first, second]) = World::build(state);
            // Borrowed, and not yet popped.
            if let Ok(handle) = first.queue.peek() {
                std::mem::forget(first.holder.borrow(*handle).unwrap());
            }
            std::mem::forget(first.hand);
            let (pool, marks, memory) = (world.pool, world.marks[0], world.queues[0].0);
            let unread = memory.get(CONSUMED)..memory.get(WRITE);
            let again = unread.clone();
            let survived = die(budget, || {
                let heir = pool.recover_holder(marks, dead(HOLDER), owner(20), unread);
                std::mem::forget(heir.unwrap());
            })
            .is_some();
            let last = marks.owner().unwrap().unwrap().index();
            let heir = pool.recover_holder(marks, dead(last), owner(21), again).unwrap();
            let first = Subscriber { holder: forever(heir), queue: first.queue, hand: None };
            let read = settle(&mut sender, &mut [first, second]);
            assert_eq!(read, [0, 1].map(|place| queued(state, place)), "{state:?}");
            survived
        });
        assert!(deaths > u32::from(state.in_hand), "only {deaths} steps");
    }
}

#[test]
fn creation() {
    let deaths = at_every_step("init_at", |budget| {
        let memory = leak(OPTIONS.required_size().unwrap());
        let row = leak(MarksRef::required_size(CHUNKS).unwrap());
        let make = || {
            // SAFETY: nobody else knows this memory.
            unsafe {
                let pool = PoolRef::init_at(memory.region(), OPTIONS).unwrap();
                MarksRef::init_at(row.region(), &pool, 1).unwrap();
            }
        };
        let survived = die(budget, make).is_some();
        let pool = is_there(PoolRef::attach_untrusted(memory.region()));
        let marks = is_there(MarksRef::attach_untrusted(row.region()));
        assert!(marks == survived && (pool || !marks));
        make();
        survived
    });
    assert!(deaths > 60, "only {deaths} steps");
}

fn is_there<T>(found: Result<T, AttachError>) -> bool {
    match found {
        Ok(_) => true,
        Err(AttachError::WrongMagic { .. }) => false,
        Err(error) => panic!("attached to half of it: {error}"),
    }
}

/// Nobody takes over from the living.
#[test]
fn the_living_are_left_alone() {
    fn refused<T>(result: Result<T, ConnectError>) -> bool {
        matches!(
            result,
            Err(ConnectError::Claim(ClaimError::Owned(_) | ClaimError::NotTheOwner { .. }))
        )
    }
    let (world, sender, [first, _second]) =
        World::build(State { queued: [1, 1], in_hand: false, start: 0 });
    let (slots, places) = world.own_memory();
    let claimed = world.pool.claim_publisher(owner(HEIR), Limits::NONE, slots, places, |_| 0);
    assert!(refused(claimed));
    assert!(refused(sender.publisher.recover_holder(0, dead(99))));
    assert!(refused(world.pool.recover_holder(world.marks[0], dead(99), owner(98), 0..9)));
    assert_eq!(first.holder.held(), 1);
}
