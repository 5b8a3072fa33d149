//! The ends of the bulk ring.

use super::{CONVICTOR, HEIR, READER, WRITER, at_every_step, dead};
use crate::harness::{Lent, check, check_eq, models, owner};
use loom::thread;
use shm_primitives::part::End;
use shm_primitives::ring::spsc::{Consumer, PopError, Producer, SpscRing, SpscRingRef};

/// The bulk ring: two places, its positions about to wrap.
type Ring = SpscRing<u32, 2>;

pub(super) struct Spsc {
    /// Kept until the threads are joined.
    #[expect(dead_code, reason = "what the others borrow from")]
    memory: Lent<Ring>,
    ring: SpscRingRef<'static, u32>,
}

impl Spsc {
    pub(super) fn new() -> Self {
        let memory = Lent::new(Ring::new_at(u32::MAX));
        // SAFETY: every model keeps its `Spsc` until its threads are joined.
        let ring = unsafe { memory.get() }.shared();
        Self { memory, ring }
    }

    pub(super) fn ends(&self) -> (Producer<'static, u32>, Consumer<'static, u32>) {
        let producer = self.ring.claim_producer(owner(WRITER)).unwrap();
        (producer, self.ring.claim_consumer(owner(READER)).unwrap())
    }

    /// The writing end, from whoever had it and died, or gave it back.
    fn inherit_producer(&self) -> Producer<'static, u32> {
        match self.ring.owner(End::Writing).unwrap() {
            Some(last) => self.ring.recover_producer(dead(last.index()), owner(HEIR)).unwrap(),
            None => self.ring.claim_producer(owner(HEIR)).unwrap(),
        }
    }

    /// The reading end likewise.
    pub(super) fn inherit_consumer(&self) -> Consumer<'static, u32> {
        match self.ring.owner(End::Reading).unwrap() {
            Some(last) => self.ring.recover_consumer(dead(last.index()), owner(HEIR)).unwrap(),
            None => self.ring.claim_consumer(owner(HEIR)).unwrap(),
        }
    }
}

pub(super) fn pop(consumer: &mut Consumer<'_, u32>) -> Option<u32> {
    match consumer.pop() {
        Ok(value) => Some(value),
        Err(PopError::Empty) => None,
        Err(PopError::Corrupt) => panic!("model: corrupt: {:?}", consumer.corruption()),
    }
}

fn drain(consumer: &mut Consumer<'_, u32>) -> Vec<u32> {
    std::iter::from_fn(|| pop(consumer)).collect()
}

/// The empty ring takes as much as a new one.
fn check_spsc_usable(producer: &mut Producer<'_, u32>, consumer: &mut Consumer<'_, u32>) {
    check_eq!(producer.push_slice(&[8, 9]), 2, "room");
    check!(producer.is_full(), "more room than places");
    check_eq!(drain(consumer), [8, 9], "as good as new");
}

/// `operate` puts `batch` elements 1, 2, … into the ring at once and drops its end.
fn spsc_producer_dies(steps: u32, batch: u32, operate: fn(Producer<'static, u32>)) {
    at_every_step(steps, move |mortal| {
        let spsc = Spsc::new();
        let (producer, mut consumer) = spsc.ends();
        let mortal = mortal.clone();
        let dying = thread::spawn(move || mortal.live(|| operate(producer)).is_some());
        let mut arrived: Vec<u32> = (0..2).filter_map(|_| pop(&mut consumer)).collect();
        let survived = dying.join().unwrap();
        let mut producer = spsc.inherit_producer();
        check!(producer.push(7).is_ok() || batch == 2, "no room");
        arrived.extend(drain(&mut consumer));
        arrived.retain(|value| *value != 7);
        let whole: Vec<u32> = (1..=batch).collect();
        check!(arrived == whole || arrived.is_empty() && !survived, "arrived: {arrived:?}");
        check_spsc_usable(&mut producer, &mut consumer);
    });
}

/// `operate` takes `all` of the elements 1 and 2 out of the full ring, `batch` at once, answers
/// whether they were right, and drops its end.
fn spsc_consumer_dies(
    steps: u32,
    batch: u32,
    all: u32,
    operate: fn(Consumer<'static, u32>) -> bool,
) {
    at_every_step(steps, move |mortal| {
        let spsc = Spsc::new();
        let (mut producer, consumer) = spsc.ends();
        check_eq!(producer.push_slice(&[1, 2]), 2, "room");
        let mortal = mortal.clone();
        let dying = thread::spawn(move || mortal.live(|| operate(consumer)));
        // Needs a place that the dying one gives back.
        let third = producer.push(3).is_ok();
        let survived = dying.join().unwrap();
        check!(survived != Some(false), "what was popped");
        let mut consumer = spsc.inherit_consumer();
        let arrived = drain(&mut consumer);
        let first = arrived.first().copied().unwrap_or(3 + u32::from(third));
        let popped = first - 1;
        check!(
            popped <= all && popped % batch == 0 && (popped > 0 || !third),
            "{first} is the first after the death"
        );
        check!(popped == all || survived.is_none(), "{first} is seen again without a death");
        let expected: Vec<u32> = (first..3 + u32::from(third)).collect();
        check_eq!(arrived, expected, "after the death");
        check_spsc_usable(&mut producer, &mut consumer);
    });
}

/// `operate` takes the end that the first owner left behind, dead, or gave back, and drops it,
/// while the other end goes on.
fn spsc_claim_dies(steps: u32, end: End, operate: fn(SpscRingRef<'static, u32>)) {
    at_every_step(steps, move |mortal| {
        let spsc = Spsc::new();
        let (mut producer, mut consumer) = spsc.ends();
        check!(producer.push(1).is_ok(), "full while empty");
        let mortal = mortal.clone();
        let ring = spsc.ring;
        let dying = move || mortal.live(|| operate(ring)).is_some();
        match end {
            End::Writing => {
                std::mem::forget(producer);
                let dying = thread::spawn(dying);
                check_eq!(pop(&mut consumer), Some(1), "published before");
                dying.join().unwrap();
                let mut producer = spsc.inherit_producer();
                check_eq!(pop(&mut consumer), None, "made up");
                check_spsc_usable(&mut producer, &mut consumer);
            }
            End::Reading => {
                std::mem::forget(consumer);
                let dying = thread::spawn(dying);
                check!(producer.push(2).is_ok(), "full with one of two");
                dying.join().unwrap();
                let mut consumer = spsc.inherit_consumer();
                check_eq!(drain(&mut consumer), [1, 2], "after the death");
                check_spsc_usable(&mut producer, &mut consumer);
            }
        }
    });
}

models! {
    /// A producer in push.
    fn crash_spsc_push() {
        spsc_producer_dies(3, 1, |mut producer| check!(producer.push(1).is_ok(), "no room"));
    }

    /// A producer that copies a slice in, over the end of the memory.
    fn crash_spsc_push_slice() {
        spsc_producer_dies(4, 2, |mut producer| {
            check_eq!(producer.push_slice(&[1, 2]), 2, "room");
        });
    }

    /// A consumer in pop.
    fn crash_spsc_pop() {
        spsc_consumer_dies(2, 1, 1, |mut consumer| pop(&mut consumer) == Some(1));
    }

    /// A consumer that pops twice: the second pop gives the first one's place back.
    fn crash_spsc_pop_twice() {
        spsc_consumer_dies(4, 1, 2, |mut consumer| {
            pop(&mut consumer) == Some(1) && pop(&mut consumer) == Some(2)
        });
    }

    /// A consumer that copies a slice out, over the end of the memory.
    fn crash_spsc_pop_slice() {
        spsc_consumer_dies(3, 2, 2, |mut consumer| {
            let mut values = [0; 2];
            consumer.pop_slice(&mut values) == 2 && values == [1, 2]
        });
    }

    /// Whoever takes over a dead producer.
    fn crash_spsc_recover_producer() {
        spsc_claim_dies(2, End::Writing, |ring| {
            drop(ring.recover_producer(dead(WRITER), owner(CONVICTOR)).unwrap());
        });
    }

    /// Whoever takes over a dead consumer.
    fn crash_spsc_recover_consumer() {
        spsc_claim_dies(3, End::Reading, |ring| {
            drop(ring.recover_consumer(dead(READER), owner(CONVICTOR)).unwrap());
        });
    }

    /// Whoever takes over both ends, gives them back and claims them again.
    fn crash_spsc_claim() {
        spsc_claim_dies(4, End::Writing, |ring| {
            drop(ring.recover_producer(dead(WRITER), owner(CONVICTOR)).unwrap());
            drop(ring.claim_producer(owner(CONVICTOR)).unwrap());
        });
        spsc_claim_dies(6, End::Reading, |ring| {
            drop(ring.recover_consumer(dead(READER), owner(CONVICTOR)).unwrap());
            drop(ring.claim_consumer(owner(CONVICTOR)).unwrap());
        });
    }
}
