//! The bulk ring.

use crate::common::memory::Memory;
use crate::common::{Patience, dead, owner};
use crate::harness::{at_every_step, die};
use shm_primitives::identity::OwnerId;
use shm_primitives::part::{AttachError, End, Trust, Trusted, Untrusted};
use shm_primitives::region::Region;
use shm_primitives::ring::spsc::{
    Consumer, Options, PopError, Producer, PushError, SpscRing, SpscRingRef,
};
use std::cell::Cell;
use std::fmt;

/// Who has the ends in the beginning, and who takes them over.
const WRITER: u32 = 1;
const READER: u32 = 2;
const HEIR: u32 = 3;
const SECOND_HEIR: u32 = 4;

/// How many elements may be seen twice after the death of a consumer: those in its
/// hands.
mod in_hand {
    pub const NONE: usize = 0;
    pub const POP: usize = 1;
    pub const POP_SLICE: usize = 3;
    pub const READ: usize = 3;
}

/// The ring before the operation. Element number n, counted from its creation, is n.
#[derive(Clone, Copy)]
struct State {
    name: &'static str,
    capacity: u32,
    start: u32,
    popped: u32,
    held: u32,
}

const STATES: [State; 11] = [
    State { name: "empty", capacity: 4, start: 0, popped: 0, held: 0 },
    State { name: "half full", capacity: 4, start: 0, popped: 0, held: 2 },
    State { name: "full", capacity: 4, start: 0, popped: 0, held: 4 },
    State { name: "empty at the end of memory", capacity: 4, start: 0, popped: 3, held: 0 },
    State { name: "half full at the end of memory", capacity: 4, start: 2, popped: 1, held: 2 },
    State { name: "full over the end of memory", capacity: 4, start: 0, popped: 2, held: 4 },
    State { name: "empty at u32::MAX", capacity: 4, start: u32::MAX, popped: 0, held: 0 },
    State { name: "half full at u32::MAX", capacity: 4, start: u32::MAX - 2, popped: 1, held: 2 },
    State { name: "of one, empty", capacity: 1, start: u32::MAX, popped: 0, held: 0 },
    State { name: "of one, full", capacity: 1, start: 7, popped: 1, held: 1 },
    State { name: "full, `released` lagging", capacity: 16, start: 0, popped: 1, held: 16 },
];

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// How handles of each kind reach the ring.
trait Attach: Trust + Sized {
    fn attach(region: Region<'_>) -> SpscRingRef<'_, u32, Self>;
}

impl Attach for Trusted {
    fn attach(region: Region<'_>) -> SpscRingRef<'_, u32> {
        // SAFETY: every writer is a handle of this ring.
        unsafe { SpscRingRef::attach(region, None) }.unwrap()
    }
}

impl Attach for Untrusted {
    fn attach(region: Region<'_>) -> SpscRingRef<'_, u32, Self> {
        SpscRingRef::attach_untrusted(region, None).unwrap()
    }
}

/// A ring and both its ends.
struct World<'m, M: Trust> {
    ring: SpscRingRef<'m, u32, M>,
    producer: Producer<'m, u32, M>,
    consumer: Consumer<'m, u32, M>,
}

impl State {
    fn memory(&self) -> Memory {
        Memory::new(Options::new(self.capacity).required_size::<u32>().unwrap(), 0)
    }

    fn build<'m, M: Attach>(&self, memory: &'m Memory) -> World<'m, M> {
        let options = Options::new(self.capacity).start(self.start);
        // SAFETY: nobody else knows this memory.
        unsafe { SpscRingRef::<u32>::init_at(memory.region(), options) }.unwrap();
        let ring = M::attach(memory.region());
        let mut producer = ring.claim_producer(owner(WRITER)).unwrap();
        let mut consumer = ring.claim_consumer(owner(READER)).unwrap();
        // As full as can be before each pop, so that the consumer sees a backlog.
        let mut pushed = 0;
        let mut push_more = |room: u32| {
            while pushed < room.min(self.next()) {
                producer.push(pushed).unwrap();
                pushed += 1;
            }
        };
        for n in 0..self.popped {
            push_more(n + self.capacity);
            assert_eq!(consumer.pop(), Ok(n));
        }
        push_more(self.next());
        World { ring, producer, consumer }
    }

    /// The number of the next element.
    fn next(&self) -> u32 {
        self.popped + self.held
    }
}

/// Numbers of elements pushed after a death, by whoever goes on.
const AFTER: u32 = 1000;

/// Pushes until the ring is full; answers what.
fn fill<M: Trust>(producer: &mut Producer<'_, u32, M>) -> Vec<u32> {
    let mut values = Vec::new();
    loop {
        let value = AFTER + values.len() as u32;
        match producer.push(value) {
            Ok(()) => values.push(value),
            Err(error) => {
                assert_eq!((error, producer.corruption()), (PushError::Full(value), None));
                return values;
            }
        }
    }
}

fn drain<M: Trust>(consumer: &mut Consumer<'_, u32, M>) -> Vec<u32> {
    let mut values = Vec::new();
    loop {
        match consumer.pop() {
            Ok(value) => values.push(value),
            Err(error) => {
                assert_eq!((error, consumer.corruption()), (PopError::Empty, None));
                return values;
            }
        }
    }
}

/// The empty ring is as good as new: every place can be used, over and over, and both
/// ends can be given back and taken again.
fn usable<'m, M: Trust>(
    ring: SpscRingRef<'m, u32, M>,
    mut producer: Producer<'m, u32, M>,
    mut consumer: Consumer<'m, u32, M>,
) {
    for _ in 0..2 {
        let values = fill(&mut producer);
        assert_eq!(values.len(), ring.capacity());
        assert_eq!(drain(&mut consumer), values);
    }
    drop((producer, consumer));
    assert_eq!(ring.owner(End::Writing), Ok(None));
    assert_eq!(ring.owner(End::Reading), Ok(None));
    ring.claim_producer(owner(WRITER)).unwrap().push(1).unwrap();
    assert_eq!(ring.claim_consumer(owner(READER)).unwrap().pop(), Ok(1));
}

/// The end goes from the dead one to its heir; from one that survived, and so gave it
/// back, likewise.
fn inherit<T>(
    owned: Option<OwnerId>,
    was: u32,
    survived: bool,
    claim: impl FnOnce() -> T,
    recover: impl FnOnce() -> T,
) -> T {
    assert_eq!(owned, if survived { None } else { Some(owner(was)) }, "who has the end");
    if survived { claim() } else { recover() }
}

/// `operate` puts elements `first`, `first + 1`, … into the ring, as many as it likes
/// but all at once, and drops the handle. In some state it has at least `steps` steps.
fn producer_dies<M: Attach>(what: &str, steps: u32, operate: impl Fn(Producer<'_, u32, M>, u32)) {
    let mut most = 0;
    for state in STATES {
        let memory = state.memory();
        let batch = {
            let World { producer, mut consumer, .. } = state.build::<M>(&memory);
            operate(producer, state.next());
            drain(&mut consumer).len() as u32 - state.held
        };
        most = most.max(at_every_step(&format!("{what}, {state}"), |budget| {
            let World { ring, producer, mut consumer } = state.build(&memory);
            let survived = die(budget, || operate(producer, state.next())).is_some();

            let mut arrived: Vec<u32> = consumer.pop().into_iter().collect();
            let mut producer = inherit(
                ring.owner(End::Writing).unwrap(),
                WRITER,
                survived,
                || ring.claim_producer(owner(HEIR)).unwrap(),
                || ring.recover_producer(dead(WRITER), owner(HEIR)).unwrap(),
            );
            let after = fill(&mut producer);
            arrived.extend(drain(&mut consumer));

            let published = arrived.len() as u32 - after.len() as u32 - state.held;
            assert!(published == batch || published == 0 && !survived, "{published} of {batch}");
            let expected = (state.popped..state.next() + published).chain(after.iter().copied());
            assert!(arrived.iter().copied().eq(expected), "{arrived:?}");
            usable(ring, producer, consumer);
            survived
        }));
    }
    assert!(most >= steps, "{what}: died {most} times");
}

/// `operate` takes elements out of the ring, all at once, notes those it looks at, and
/// drops the handle. In some state it has at least `steps` steps.
fn consumer_dies<M: Attach>(
    what: &str,
    steps: u32,
    in_hand: usize,
    operate: impl Fn(Consumer<'_, u32, M>, &mut Vec<u32>),
) {
    let mut most = 0;
    for state in STATES {
        let memory = state.memory();
        let batch = {
            let World { ring, consumer, .. } = state.build::<M>(&memory);
            operate(consumer, &mut Vec::new());
            state.held - drain(&mut ring.claim_consumer(owner(HEIR)).unwrap()).len() as u32
        };
        most = most.max(at_every_step(&format!("{what}, {state}"), |budget| {
            let World { ring, mut producer, consumer } = state.build(&memory);
            let mut seen = Vec::new();
            let survived = die(budget, || operate(consumer, &mut seen)).is_some();

            let after = fill(&mut producer);
            let mut consumer = inherit(
                ring.owner(End::Reading).unwrap(),
                READER,
                survived,
                || ring.claim_consumer(owner(HEIR)).unwrap(),
                || ring.recover_consumer(dead(READER), owner(HEIR)).unwrap(),
            );
            let arrived = drain(&mut consumer);

            let gone = state.held + after.len() as u32 - arrived.len() as u32;
            assert!(gone == batch || gone == 0 && !survived, "{gone} of {batch}");
            assert_eq!(after.len() as u32, state.capacity - state.held + gone, "places leaked");
            let expected = (state.popped + gone..state.next()).chain(after.iter().copied());
            assert!(arrived.iter().copied().eq(expected), "{arrived:?}");
            assert!(seen.iter().copied().eq(state.popped..state.popped + seen.len() as u32));
            let twice = seen.iter().filter(|value| arrived.contains(value)).count();
            assert!(twice <= in_hand, "{twice} seen twice");
            usable(ring, producer, consumer);
            survived
        }));
    }
    assert!(most >= steps, "{what}: died {most} times");
}

fn values(first: u32) -> [u32; 3] {
    [first, first + 1, first + 2]
}

fn push<M: Attach>() {
    producer_dies::<M>("push", 3, |mut producer, first| _ = producer.push(first));
    producer_dies::<M>("push_with", 3, |mut producer, first| _ = producer.push_with(|| first));
    producer_dies::<M>("push_slice", 4, |mut producer, first| {
        producer.push_slice(&values(first));
    });
    producer_dies::<M>("sizes, then drop", 1, |mut producer, _| {
        assert_eq!(producer.len() + producer.free(), producer.capacity());
    });
}

fn pop<M: Attach>() {
    consumer_dies::<M>("pop_slice of all", 3, 16, |mut consumer, seen| {
        let mut values = [0; 16];
        let count = consumer.pop_slice(&mut values);
        seen.extend(&values[..count]);
    });
    consumer_dies::<M>("pop", 3, in_hand::POP, |mut consumer, seen| seen.extend(consumer.pop()));
    consumer_dies::<M>("pop_slice", 3, in_hand::POP_SLICE, |mut consumer, seen| {
        let mut values = [0; 3];
        let count = consumer.pop_slice(&mut values);
        seen.extend(&values[..count]);
    });
    consumer_dies::<M>("force_advance", 3, in_hand::NONE, |mut consumer, _| {
        consumer.force_advance(2);
    });
    consumer_dies::<M>("sizes, then drop", 1, in_hand::NONE, |mut consumer, _| {
        assert_eq!(consumer.len() + consumer.free(), consumer.capacity());
    });
}

#[test]
fn pushing() {
    push::<Trusted>();
}

#[test]
fn pushing_untrusted() {
    push::<Untrusted>();
}

#[test]
fn popping() {
    pop::<Trusted>();
}

#[test]
fn popping_untrusted() {
    pop::<Untrusted>();
}

#[test]
fn granting() {
    producer_dies::<Trusted>("grant and commit", 4, |mut producer, first| {
        if let Some(mut grant) = producer.grant(3) {
            let count = grant.len();
            grant.copy_from_slice(&values(first)[..count]);
            grant.commit(3);
        }
    });
    producer_dies::<Trusted>("grant and commit in part", 4, |mut producer, first| {
        if let Some(mut grant) = producer.grant(3) {
            grant[0] = first;
            grant.commit(1);
        }
    });
    producer_dies::<Trusted>("grant aborted", 2, |mut producer, _| {
        if let Some(mut grant) = producer.grant_exact(2) {
            grant.fill_with(Default::default);
        }
    });
    producer_dies::<Trusted>("grant and fill", 4, |mut producer, first| {
        if let Some(grant) = producer.grant(2) {
            grant.fill(first..);
        }
    });
    producer_dies::<Trusted>("aligned grant", 2, |mut producer, first| {
        if let Some(mut grant) = producer.grant_aligned(2, 8) {
            grant.copy_from_slice(&values(first)[..2]);
            grant.commit(2);
        }
    });
}

#[test]
fn reading() {
    let read = |release: Option<usize>| {
        move |mut consumer: Consumer<'_, u32>, seen: &mut Vec<u32>| {
            if let Ok(grant) = consumer.read(3) {
                seen.extend(&*grant);
                if let Some(count) = release {
                    grant.release(count);
                }
            }
        }
    };
    consumer_dies("read and release", 3, in_hand::READ, read(Some(3)));
    consumer_dies("read and release in part", 2, in_hand::READ, read(Some(1)));
    consumer_dies("read and keep", 1, in_hand::READ, read(None));
    consumer_dies::<Trusted>("peek", 1, in_hand::POP, |mut consumer, seen| {
        seen.extend(consumer.peek().ok());
    });
}

/// A claim dies: the end is free, or the dead one's.
#[test]
fn claiming() {
    let mut most = [0, 0];
    for state in STATES {
        let memory = state.memory();
        let all: Vec<u32> = (state.popped..state.next()).collect();
        let deaths = at_every_step(&format!("claim_producer, {state}"), |budget| {
            let World { ring, producer, mut consumer } = state.build::<Trusted>(&memory);
            drop(producer);
            let claimed = die(budget, || ring.claim_producer(owner(WRITER)).unwrap());
            let survived = claimed.is_some();
            let producer = claimed.unwrap_or_else(|| match ring.owner(End::Writing).unwrap() {
                None => ring.claim_producer(owner(HEIR)).unwrap(),
                Some(_) => ring.recover_producer(dead(WRITER), owner(HEIR)).unwrap(),
            });
            assert_eq!(drain(&mut consumer), all);
            usable(ring, producer, consumer);
            survived
        });
        most[0] = most[0].max(deaths);
        let deaths = at_every_step(&format!("claim_consumer, {state}"), |budget| {
            let World { ring, mut producer, consumer } = state.build::<Trusted>(&memory);
            drop(consumer);
            let claimed = die(budget, || ring.claim_consumer(owner(READER)).unwrap());
            let survived = claimed.is_some();
            let after = fill(&mut producer);
            assert_eq!(after.len() as u32, state.capacity - state.held);
            let mut consumer = claimed.unwrap_or_else(|| match ring.owner(End::Reading).unwrap() {
                None => ring.claim_consumer(owner(HEIR)).unwrap(),
                Some(_) => ring.recover_consumer(dead(READER), owner(HEIR)).unwrap(),
            });
            assert_eq!(drain(&mut consumer), [&all[..], &after].concat());
            usable(ring, producer, consumer);
            survived
        });
        most[1] = most[1].max(deaths);
    }
    assert!(most[0] >= 1 && most[1] >= 2, "died {most:?} times");
}

/// An heir dies while it recovers: the end is its predecessor's or its own, for the next
/// heir.
#[test]
fn recovering() {
    let mut most = [0, 0];
    for state in STATES {
        let memory = state.memory();
        let all: Vec<u32> = (state.popped..state.next()).collect();
        let deaths = at_every_step(&format!("recover_producer, {state}"), |budget| {
            let World { ring, producer, mut consumer } = state.build::<Trusted>(&memory);
            std::mem::forget(producer);
            let heir = die(budget, || ring.recover_producer(dead(WRITER), owner(HEIR)).unwrap());
            let survived = heir.is_some();
            let producer = heir.unwrap_or_else(|| {
                let last = ring.owner(End::Writing).unwrap().unwrap();
                assert!(last == owner(WRITER) || last == owner(HEIR));
                ring.recover_producer(dead(last.index()), owner(SECOND_HEIR)).unwrap()
            });
            assert_eq!(drain(&mut consumer), all);
            usable(ring, producer, consumer);
            survived
        });
        most[0] = most[0].max(deaths);
        let deaths = at_every_step(&format!("recover_consumer, {state}"), |budget| {
            let World { ring, mut producer, consumer } = state.build::<Trusted>(&memory);
            std::mem::forget(consumer);
            let heir = die(budget, || ring.recover_consumer(dead(READER), owner(HEIR)).unwrap());
            let survived = heir.is_some();
            let after = fill(&mut producer);
            assert_eq!(after.len() as u32, state.capacity - state.held);
            let mut consumer = heir.unwrap_or_else(|| {
                let last = ring.owner(End::Reading).unwrap().unwrap();
                assert!(last == owner(READER) || last == owner(HEIR));
                ring.recover_consumer(dead(last.index()), owner(SECOND_HEIR)).unwrap()
            });
            assert_eq!(drain(&mut consumer), [&all[..], &after].concat());
            usable(ring, producer, consumer);
            survived
        });
        most[1] = most[1].max(deaths);
    }
    assert!(most[0] >= 1 && most[1] >= 2, "died {most:?} times");
}

/// A creation dies: nobody can attach to what it left, and the next creation succeeds.
#[test]
fn creating() {
    let options = Options::new(16).alignment(128).start(9);
    let size = options.required_size::<u32>().unwrap();
    // Over fresh memory, over garbage, over a ring whose owners are dead.
    for before in ["zeroes", "garbage", "another ring"] {
        let deaths = at_every_step(&format!("init_at over {before}"), |budget| {
            let memory = Memory::new(size, if before == "garbage" { 0xa5 } else { 0 });
            if before == "another ring" {
                let World { producer, consumer, .. } = STATES[1].build::<Trusted>(&memory);
                std::mem::forget((producer, consumer));
            }
            let old = memory.bytes();
            // SAFETY: whoever had an end of what stood here before is forgotten.
            let create = || unsafe { SpscRingRef::<u32>::init_at(memory.region(), options) };
            let survived = die(budget, create).is_some();
            if !survived {
                // SAFETY: every writer of a ring here keeps its protocol.
                let found = unsafe { SpscRingRef::<u32>::attach(memory.region(), None) };
                let refused = matches!(found, Err(AttachError::WrongMagic { .. }));
                assert!(refused || memory.bytes() == old, "half a ring: {found:?}");
                create().unwrap();
            }
            let ring = Trusted::attach(memory.region());
            assert_eq!(ring.capacity(), 16);
            let producer = ring.claim_producer(owner(WRITER)).unwrap();
            let mut consumer = ring.claim_consumer(owner(READER)).unwrap();
            assert_eq!(drain(&mut consumer), []);
            usable(ring, producer, consumer);
            survived
        });
        assert!(deaths >= 15, "init_at: died {deaths} times");
    }
}

/// Budgets for a long run: the same in every run, and each small one often.
fn budgets(seed: u32) -> impl Iterator<Item = u32> {
    let next = |x: &u32| Some(x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    std::iter::successors(Some(seed), next).map(|x| (x >> 16) % 90)
}

/// The claim of an end by the next of its heirs.
macro_rules! take_over {
    ($ring:ident, $end:ident, $claim:ident, $recover:ident, $heir:expr) => {
        match $ring.owner(End::$end).unwrap() {
            None => $ring.$claim(owner($heir)).unwrap(),
            Some(last) => $ring.$recover(dead(last.index()), owner($heir)).unwrap(),
        }
    };
}

const MANY: u32 = 20_000;
const LONG: usize = 16;

/// Pushes `0..MANY` and a ring full of ends, dying all the while.
fn dying_producer(ring: SpscRingRef<'_, u32>, patience: Patience) {
    let next = Cell::new(0);
    let end = MANY + LONG as u32;
    for (heir, budget) in (1..2000).cycle().zip(budgets(1)) {
        let survived = die(budget, || {
            let mut producer = take_over!(ring, Writing, claim_producer, recover_producer, heir);
            while next.get() < end {
                // The store of the position is a push's last step: what died there has
                // not been pushed.
                let n = next.get();
                let pushed = match n % 7 {
                    0 => producer.push_slice(&values(n)[..3.min((end - n) as usize)]) as u32,
                    _ => u32::from(producer.push(n).is_ok()),
                };
                next.set(n + pushed);
                assert_eq!(producer.corruption(), None);
                if pushed == 0 {
                    patience.wait();
                }
            }
        });
        if survived.is_some() {
            return;
        }
    }
}

/// Pops until it sees the end, dying all the while; answers how often.
fn dying_consumer(ring: SpscRingRef<'_, u32>, patience: Patience) -> u32 {
    let seen = Cell::new(0);
    let popping = Cell::new(false);
    // What was popped by one who did not live to note it.
    let unnoted = Cell::new(0);
    for (deaths, (heir, budget)) in (0..).zip((2001..4000).cycle().zip(budgets(2))) {
        let survived = die(budget, || {
            let mut consumer = take_over!(ring, Reading, claim_consumer, recover_consumer, heir);
            while seen.get() < MANY {
                popping.set(true);
                let popped = consumer.pop();
                popping.set(false);
                match popped {
                    Ok(value) => {
                        assert!(value >= seen.get(), "{value} again");
                        assert!(value <= seen.get() + unnoted.replace(0), "lost before {value}");
                        seen.set(value + 1);
                    }
                    Err(error) => {
                        assert_eq!(error, PopError::Empty);
                        patience.wait();
                    }
                }
            }
        });
        if survived.is_some() {
            return deaths;
        }
        unnoted.set(unnoted.get() + u32::from(popping.replace(false)));
    }
    unreachable!()
}

/// Both sides die over and over, each while the other goes on.
#[test]
fn long_run() {
    let ring = SpscRing::<u32, LONG>::new_at(u32::MAX - MANY / 2);
    let ring = ring.shared();
    std::thread::scope(|scope| {
        let patience = Patience::new();
        let theirs = patience.clone();
        scope.spawn(move || dying_producer(ring, theirs));
        let deaths = dying_consumer(ring, patience);
        assert!(deaths > 100, "{deaths} deaths");
    });
}
