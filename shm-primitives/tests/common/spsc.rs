//! What a bulk ring must be like from outside: the operations, a queue to compare with,
//! and the drivers for the ways a ring comes about. Inputs come from tests and fuzzers.

use super::memory::Memory;
use super::{dead, owner};
use shm_primitives::part::{ClaimError, End, Shareable, Trust, Trusted, Untrusted};
use shm_primitives::region::Region;
use shm_primitives::ring::spsc::{Consumer, Options, Producer, PushError, SpscRing, SpscRingRef};
use std::collections::VecDeque;
use std::fmt::Debug;

/// Elements of several sizes and alignments.
pub trait Item: Shareable + Copy + PartialEq + Debug {
    /// A value that tells its number.
    fn nth(n: u32) -> Self;
}

impl Item for u32 {
    fn nth(n: u32) -> Self {
        n
    }
}

impl Item for [u8; 3] {
    fn nth(n: u32) -> Self {
        [n as u8, (n >> 8) as u8, !n as u8]
    }
}

impl Item for [u64; 3] {
    fn nth(n: u32) -> Self {
        [u64::from(n), !u64::from(n), u64::from(n) << 32]
    }
}

/// An operation and its arguments.
#[derive(Clone, Debug)]
pub enum Op {
    Push,
    PushWith,
    PushSlice(usize),
    Grant { max: usize, commit: Option<usize> },
    GrantExact { count: usize },
    GrantAligned { max: usize, alignment: usize },
    Fill { max: usize, values: usize },
    Pop,
    PopSlice(usize),
    Peek,
    Read { max: usize, release: Option<usize> },
    ForceAdvance(usize),
    ProducerSizes,
    ConsumerSizes,
    Reopen(Reopen),
}

/// What is dropped and taken again; a split ring has both ends split anew.
#[derive(Clone, Copy, Debug)]
pub enum Reopen {
    Producer,
    Consumer,
    DeadProducer,
    DeadConsumer,
}

/// A ring and what is done to it.
#[derive(Clone, Debug)]
pub struct Case {
    pub capacity: u32,
    pub start: u32,
    pub ops: Vec<Op>,
}

/// What a ring must be like from outside.
struct Model<T> {
    queue: VecDeque<T>,
    capacity: usize,
    read: u32,
    made: u32,
}

impl<T: Item> Model<T> {
    fn new(case: &Case) -> Self {
        let capacity = case.capacity as usize;
        Self { queue: VecDeque::new(), capacity, read: case.start, made: 0 }
    }

    fn next(&mut self) -> T {
        self.made += 1;
        T::nth(self.made)
    }

    fn free(&self) -> usize {
        self.capacity - self.queue.len()
    }

    fn until_wrap(&self, position: u32) -> usize {
        self.capacity - position as usize % self.capacity
    }

    /// The longest grant.
    fn grantable(&self) -> usize {
        self.free().min(self.until_wrap(self.read.wrapping_add(self.queue.len() as u32)))
    }

    /// The longest piece to be read in place.
    fn readable(&self) -> usize {
        self.queue.len().min(self.until_wrap(self.read))
    }

    fn pop(&mut self) -> Option<T> {
        let value = self.queue.pop_front()?;
        self.read = self.read.wrapping_add(1);
        Some(value)
    }
}

/// What only a handle that trusts the memory can do; the other kind skips it.
trait InPlace<T>: Trust + Sized {
    fn lend(
        op: &Op,
        producer: &mut Producer<'_, T, Self>,
        consumer: &mut Consumer<'_, T, Self>,
        model: &mut Model<T>,
    );
}

impl<T: Item> InPlace<T> for Untrusted {
    fn lend(
        _: &Op,
        _: &mut Producer<'_, T, Self>,
        _: &mut Consumer<'_, T, Self>,
        _: &mut Model<T>,
    ) {
    }
}

impl<T: Item> InPlace<T> for Trusted {
    fn lend(
        op: &Op,
        producer: &mut Producer<'_, T, Self>,
        consumer: &mut Consumer<'_, T, Self>,
        model: &mut Model<T>,
    ) {
        match *op {
            Op::Grant { max, commit } => {
                let lent = max.min(model.grantable());
                let Some(mut grant) = producer.grant(max) else {
                    return assert_eq!(lent, 0, "no grant");
                };
                assert_eq!((grant.len(), grant.iter().len()), (lent, lent));
                let values: Vec<T> = (0..lent).map(|_| model.next()).collect();
                grant.copy_from_slice(&values);
                if let Some(used) = commit {
                    grant.commit(used);
                    model.queue.extend(&values[..used.min(lent)]);
                }
            }
            Op::GrantExact { count } => match producer.grant_exact(count) {
                Some(grant) => {
                    assert_eq!(grant.len(), count);
                    assert!(count <= model.grantable());
                }
                None => assert!(count == 0 || count > model.grantable()),
            },
            Op::GrantAligned { max, alignment } => {
                let size = size_of::<T>();
                let Some(grant) = producer.grant(1) else { return };
                let aligned = alignment != 0 && grant.as_ptr().addr().is_multiple_of(alignment);
                let mut lent = if aligned { max.min(model.grantable()) } else { 0 };
                while lent != 0 && !(lent * size).is_multiple_of(alignment) {
                    lent -= 1;
                }
                let Some(mut grant) = producer.grant_aligned(max, alignment) else {
                    return assert_eq!(lent, 0, "no aligned grant");
                };
                assert_eq!(grant.len(), lent);
                let values: Vec<T> = (0..lent).map(|_| model.next()).collect();
                grant.copy_from_slice(&values);
                grant.commit(lent);
                model.queue.extend(values);
            }
            Op::Fill { max, values } => {
                let lent = max.min(model.grantable());
                let Some(grant) = producer.grant(max) else {
                    return assert_eq!(lent, 0, "no grant to fill");
                };
                let values: Vec<T> = (0..values).map(|_| model.next()).collect();
                assert_eq!(grant.fill(values.iter().copied()), lent.min(values.len()));
                model.queue.extend(values.iter().take(lent));
            }
            Op::Peek => {
                assert_eq!(consumer.peek().ok(), model.queue.front());
            }
            Op::Read { max, release } => {
                let lent = max.min(model.readable());
                let Ok(grant) = consumer.read(max) else {
                    return assert_eq!(lent, 0, "nothing to read");
                };
                assert!(grant.iter().eq(model.queue.iter().take(lent)));
                if let Some(count) = release {
                    grant.release(count);
                    (0..count.min(lent)).for_each(|_| assert!(model.pop().is_some()));
                }
            }
            _ => {}
        }
    }
}

fn step<T: Item, M: InPlace<T>>(
    op: &Op,
    producer: &mut Producer<'_, T, M>,
    consumer: &mut Consumer<'_, T, M>,
    model: &mut Model<T>,
) {
    match *op {
        Op::Push => {
            let (value, room) = (model.next(), model.free() != 0);
            match producer.push(value) {
                Ok(()) => model.queue.push_back(value),
                Err(error) => assert_eq!(error, PushError::Full(value)),
            }
            assert_eq!(model.queue.back() == Some(&value), room, "exact capacity");
        }
        Op::PushWith => {
            let (value, room) = (model.next(), model.free() != 0);
            let mut ran = false;
            let pushed = producer.push_with(|| {
                ran = true;
                value
            });
            let pushed = pushed.is_ok();
            assert_eq!((pushed, ran), (room, room), "exact capacity");
            model.queue.extend(pushed.then_some(value));
        }
        Op::PushSlice(len) => {
            let values: Vec<T> = (0..len).map(|_| model.next()).collect();
            let pushed = producer.push_slice(&values);
            assert_eq!(pushed, len.min(model.free()), "exact capacity");
            model.queue.extend(&values[..pushed]);
        }
        Op::Pop => assert_eq!(consumer.pop().ok(), model.pop()),
        Op::PopSlice(len) => {
            let mut values = vec![T::nth(0); len];
            let popped = consumer.pop_slice(&mut values);
            assert_eq!(popped, len.min(model.queue.len()));
            values[..popped].iter().for_each(|value| assert_eq!(Some(*value), model.pop()));
        }
        Op::ForceAdvance(count) => {
            let skipped = consumer.force_advance(count);
            assert_eq!(skipped, count.min(model.queue.len()));
            (0..skipped).for_each(|_| assert!(model.pop().is_some()));
        }
        Op::ProducerSizes => {
            assert_eq!(producer.is_full(), model.free() == 0);
            assert_eq!(producer.is_empty(), model.queue.is_empty());
            assert_eq!(producer.len(), model.queue.len());
            assert_eq!(producer.free(), model.free());
            assert_eq!(producer.capacity(), model.capacity);
        }
        Op::ConsumerSizes => {
            assert_eq!(consumer.is_empty(), model.queue.is_empty());
            assert_eq!(consumer.is_full(), model.free() == 0);
            assert_eq!(consumer.len(), model.queue.len());
            assert_eq!(consumer.free(), model.free());
            assert_eq!(consumer.capacity(), model.capacity);
        }
        _ => M::lend(op, producer, consumer, model),
    }
    assert_eq!((producer.corruption(), consumer.corruption()), (None, None));
}

/// A ring of its own memory, split again at every `Reopen`.
pub fn run_split<T: Item>(case: &Case) {
    fn sized<T: Item, const N: usize>(case: &Case) {
        let mut ring = SpscRing::<T, N>::new_at(case.start);
        let mut model = Model::new(case);
        for ops in case.ops.split(|op| matches!(op, Op::Reopen(_))) {
            let (mut producer, mut consumer) = ring.split();
            ops.iter().for_each(|op| step(op, &mut producer, &mut consumer, &mut model));
        }
    }
    match case.capacity {
        1 => sized::<T, 1>(case),
        2 => sized::<T, 2>(case),
        4 => sized::<T, 4>(case),
        8 => sized::<T, 8>(case),
        16 => sized::<T, 16>(case),
        32 => sized::<T, 32>(case),
        _ => sized::<T, 64>(case),
    }
}

/// A ring in a region, whose ends change hands at every `Reopen`.
fn run_claimed<'m, T: Item, M: InPlace<T>>(
    case: &Case,
    memory: &'m Memory,
    attach: impl FnOnce(Region<'m>) -> SpscRingRef<'m, T, M>,
) {
    let options = Options::new(case.capacity).start(case.start);
    // SAFETY: nobody else knows this memory.
    unsafe { SpscRingRef::<T>::init_at(memory.region(), options) }.unwrap();
    let ring = attach(memory.region());
    let mut model = Model::new(case);
    let (mut writing, mut reading) = (1, 2);
    let mut producer = ring.claim_producer(owner(writing)).unwrap();
    let mut consumer = ring.claim_consumer(owner(reading)).unwrap();
    for op in &case.ops {
        let Op::Reopen(reopen) = op else {
            step(op, &mut producer, &mut consumer, &mut model);
            continue;
        };
        // A record of its own for every holder.
        let next = writing.max(reading) % 1000 + 1;
        let owned = |end| ring.owner(end).unwrap();
        match reopen {
            Reopen::Producer => {
                assert_eq!(ring.claim_producer(owner(next)).err(), Some(owned_by(writing)));
                drop(producer);
                assert_eq!(owned(End::Writing), None);
                producer = ring.claim_producer(owner(next)).unwrap();
            }
            Reopen::DeadProducer => {
                std::mem::forget(producer);
                producer = ring.recover_producer(dead(writing), owner(next)).unwrap();
            }
            Reopen::Consumer => {
                assert_eq!(ring.claim_consumer(owner(next)).err(), Some(owned_by(reading)));
                drop(consumer);
                assert_eq!(owned(End::Reading), None);
                consumer = ring.claim_consumer(owner(next)).unwrap();
            }
            Reopen::DeadConsumer => {
                std::mem::forget(consumer);
                consumer = ring.recover_consumer(dead(reading), owner(next)).unwrap();
            }
        }
        match reopen {
            Reopen::Producer | Reopen::DeadProducer => writing = next,
            Reopen::Consumer | Reopen::DeadConsumer => reading = next,
        }
        assert_eq!(owned(End::Writing), Some(owner(writing)));
        assert_eq!(owned(End::Reading), Some(owner(reading)));
    }
}

fn owned_by(index: u32) -> ClaimError {
    ClaimError::Owned(owner(index))
}

/// Exactly as much memory as the ring takes, between guards.
pub fn memory_for<T>(options: Options) -> Memory {
    Memory::new(options.required_size::<T>().unwrap(), 0x5a)
}

/// A ring in a region, its elements handled in place.
pub fn run_trusted<T: Item>(case: &Case) {
    run_claimed(case, &memory_for::<T>(Options::new(case.capacity)), |region| {
        // SAFETY: every writer is a handle of this ring.
        unsafe { SpscRingRef::<T>::attach(region, Some(case.capacity)) }.unwrap()
    });
}

/// A ring in a region whose other writers are not believed.
pub fn run_untrusted<T: Item>(case: &Case) {
    run_claimed(case, &memory_for::<T>(Options::new(case.capacity)), |region| {
        SpscRingRef::<T, Untrusted>::attach_untrusted(region, None).unwrap()
    });
}
