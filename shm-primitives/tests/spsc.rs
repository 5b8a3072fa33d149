//! The bulk ring on one thread and on two: against a model, at its edges, and who drops
//! what.

mod common;

use common::memory::Memory;
use common::{Patience, dead, owner};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use shm_primitives::part::{ClaimError, End, Shareable, Trust, Trusted, Untrusted};
use shm_primitives::region::Region;
use shm_primitives::ring::spsc::{
    Consumer, Options, PopError, Producer, PushError, SpscRing, SpscRingRef,
};
use std::collections::VecDeque;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;

/// Elements of several sizes and alignments.
trait Item: Shareable + Copy + PartialEq + Debug {
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

#[derive(Clone, Debug)]
enum Op {
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
enum Reopen {
    Producer,
    Consumer,
    DeadProducer,
    DeadConsumer,
}

#[derive(Clone, Debug)]
struct Case {
    capacity: u32,
    start: u32,
    ops: Vec<Op>,
}

fn cases() -> impl Strategy<Value = Case> {
    // Most counts small, some beyond every capacity.
    let count = || prop_oneof![4 => 0..6usize, 1 => 0..80usize];
    let op = prop_oneof![
        4 => Just(Op::Push),
        1 => Just(Op::PushWith),
        2 => count().prop_map(Op::PushSlice),
        2 => (count(), prop::option::of(count())).prop_map(|(max, commit)| Op::Grant { max, commit }),
        1 => count().prop_map(|count| Op::GrantExact { count }),
        1 => (count(), 0..6usize).prop_map(|(max, power)| Op::GrantAligned {
            max,
            alignment: [0, 1, 4, 8, 12, 64][power],
        }),
        1 => (count(), count()).prop_map(|(max, values)| Op::Fill { max, values }),
        5 => Just(Op::Pop),
        2 => count().prop_map(Op::PopSlice),
        1 => Just(Op::Peek),
        2 => (count(), prop::option::of(count())).prop_map(|(max, release)| Op::Read { max, release }),
        1 => count().prop_map(Op::ForceAdvance),
        1 => Just(Op::ProducerSizes),
        1 => Just(Op::ConsumerSizes),
        1 => prop_oneof![
            Just(Reopen::Producer),
            Just(Reopen::Consumer),
            Just(Reopen::DeadProducer),
            Just(Reopen::DeadConsumer),
        ].prop_map(Op::Reopen),
    ];
    let start = prop_oneof![Just(0), u32::MAX - 70..=u32::MAX, any::<u32>()];
    (0..7u32, start, prop::collection::vec(op, 1..150)).prop_map(|(power, start, ops)| Case {
        capacity: 1 << power,
        start,
        ops,
    })
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 96,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(0x5350_5343),
        ..ProptestConfig::default()
    }
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
fn run_split<T: Item>(case: &Case) {
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
fn memory_for<T>(options: Options) -> Memory {
    Memory::new(options.required_size::<T>().unwrap(), 0x5a)
}

fn run_trusted<T: Item>(case: &Case) {
    run_claimed(case, &memory_for::<T>(Options::new(case.capacity)), |region| {
        // SAFETY: every writer is a handle of this ring.
        unsafe { SpscRingRef::<T>::attach(region, Some(case.capacity)) }.unwrap()
    });
}

fn run_untrusted<T: Item>(case: &Case) {
    run_claimed(case, &memory_for::<T>(Options::new(case.capacity)), |region| {
        SpscRingRef::<T, Untrusted>::attach_untrusted(region, None).unwrap()
    });
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn split_ring_is_a_queue(case in cases()) {
        run_split::<u32>(&case);
        run_split::<[u8; 3]>(&case);
        run_split::<[u64; 3]>(&case);
    }

    #[test]
    fn ring_in_a_region_is_a_queue(case in cases()) {
        run_trusted::<u32>(&case);
        run_trusted::<[u8; 3]>(&case);
        run_trusted::<[u64; 3]>(&case);
    }

    #[test]
    fn untrusted_ring_is_a_queue(case in cases()) {
        run_untrusted::<u32>(&case);
        run_untrusted::<[u8; 3]>(&case);
        run_untrusted::<[u64; 3]>(&case);
    }
}

/// Every place is usable, over and over, wherever the ring begins.
#[test]
fn capacity_is_exact() {
    for capacity in [1, 2, 16, 256] {
        for start in [0, u32::MAX - capacity, u32::MAX] {
            let options = Options::new(capacity).start(start);
            let memory = memory_for::<u32>(options);
            // SAFETY: nobody else knows this memory.
            let ring = unsafe { SpscRingRef::<u32>::init_at(memory.region(), options) }.unwrap();
            let mut producer = ring.claim_producer(owner(1)).unwrap();
            let mut consumer = ring.claim_consumer(owner(2)).unwrap();
            for lap in 0..3 {
                for n in 0..capacity {
                    producer.push(lap + n).unwrap();
                }
                assert_eq!(producer.push(0), Err(PushError::Full(0)));
                assert!(consumer.is_full());
                for n in 0..capacity {
                    assert_eq!(consumer.pop(), Ok(lap + n));
                }
                assert_eq!(consumer.pop(), Err(PopError::Empty));
            }
        }
    }
}

/// The consumer stores `released` seldom. A producer that used the places it gave back
/// in `consumed` is then more than a capacity ahead of `released`: no corruption.
#[test]
fn a_lagging_release_is_no_corruption() {
    let mut ring = SpscRing::<u32, 16>::new();
    let (mut producer, mut consumer) = ring.split();
    (0..16).for_each(|n| producer.push(n).unwrap());
    assert_eq!(consumer.pop(), Ok(0));
    producer.push(16).unwrap();
    assert_eq!(producer.push(17), Err(PushError::Full(17)));
    assert_eq!(producer.corruption(), None);
    (1..17).for_each(|n| assert_eq!(consumer.pop(), Ok(n)));
    producer.push(17).unwrap();
}

/// The same, met by the producer's successor.
#[test]
fn a_lagging_release_does_not_stop_a_claim() {
    let ring = SpscRing::<u32, 16>::new();
    let ring = ring.shared();
    let mut consumer = ring.claim_consumer(owner(1)).unwrap();
    let mut producer = ring.claim_producer(owner(2)).unwrap();
    (0..16).for_each(|n| producer.push(n).unwrap());
    assert_eq!(consumer.pop(), Ok(0));
    producer.push(16).unwrap();
    drop(producer);
    let mut producer = ring.claim_producer(owner(3)).unwrap();
    assert_eq!(producer.push(17), Err(PushError::Full(17)));
    std::mem::forget(producer);
    let mut producer = ring.recover_producer(dead(3), owner(4)).unwrap();
    assert_eq!(producer.push(17), Err(PushError::Full(17)));
    assert_eq!(consumer.pop(), Ok(1));
    producer.push(17).unwrap();
}

/// Memory that a `static` ring was compiled into is what `init_at` makes.
#[test]
fn a_static_ring_has_the_same_layout() {
    static RING: SpscRing<u32, 8> = SpscRing::new();
    let options = Options::new(8);
    let size = options.required_size::<u32>().unwrap();
    assert_eq!(size.next_multiple_of(64), size_of_val(&RING));
    let memory = memory_for::<u32>(options);
    // SAFETY: nobody else knows this memory.
    unsafe { SpscRingRef::<u32>::init_at(memory.region(), options) }.unwrap();

    let base = std::ptr::NonNull::from(&RING).cast::<u8>();
    // SAFETY: initialised memory of a static; all of it is atomics and elements that
    // are accessed through the ring alone.
    let region = unsafe { Region::new(base, size) };
    // The part header and the three positions; what fills their lines may be anything.
    for offset in (0..64).step_by(4).chain([64, 128, 192]) {
        // SAFETY: one of the ring's words.
        let here = unsafe { base.byte_add(offset).cast::<AtomicU32>().as_ref() }.load(Relaxed);
        assert_eq!(here, memory.get(offset), "at {offset}");
    }
    // SAFETY: both handles are this crate's.
    let other = unsafe { SpscRingRef::<u32>::attach(region, Some(8)) }.unwrap();
    RING.shared().claim_producer(owner(1)).unwrap().push(7).unwrap();
    assert_eq!(other.claim_consumer(owner(2)).unwrap().pop(), Ok(7));
}

/// Elements begin where DMA wants them, and aligned grants stay aligned over the wrap.
#[test]
fn grants_for_dma_are_aligned() {
    for (alignment, at_least) in [(1u32, 64), (64, 64), (128, 128), (512, 512), (4096, 4096)] {
        let options = Options::new(64).alignment(alignment).start(u32::MAX - 15);
        let memory = memory_for::<[u8; 32]>(options);
        // SAFETY: nobody else knows this memory.
        let ring = unsafe { SpscRingRef::<[u8; 32]>::init_at(memory.region(), options) }.unwrap();
        let mut producer = ring.claim_producer(owner(1)).unwrap();
        let mut consumer = ring.claim_consumer(owner(2)).unwrap();
        for round in 0..12u8 {
            let mut grant = producer.grant_aligned(16, 64).unwrap();
            assert_eq!((grant.len(), grant.as_ptr().addr() % 64), (16, 0));
            // As a DMA engine would: from an address and a length.
            // SAFETY: the grant's places.
            unsafe { grant.as_mut_ptr().cast::<u8>().write_bytes(round, 16 * 32) };
            grant.commit(16);
            let read = consumer.read(64).unwrap();
            let from_data = read.as_ptr().addr() - memory.base().addr().get();
            assert_eq!(from_data % at_least, (48 + usize::from(round) * 16) % 64 * 32 % at_least);
            assert!(read.iter().all(|bytes| *bytes == [round; 32]));
            read.release(16);
        }
        producer.push([0; 32]).unwrap();
        assert!(producer.grant_aligned(16, 64).is_none(), "at 32 of 64");
    }
}

/// Counts the drops of the elements it made.
struct Ledger(Vec<AtomicU32>);

struct Counted<'l>(&'l AtomicU32, u32);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
    }
}

impl Ledger {
    fn make(&self, n: u32) -> Counted<'_> {
        Counted(&self.0[n as usize], n)
    }
}

/// Payload of a panic that a test causes.
struct Thrown;

fn throws(run: impl FnOnce()) {
    let thrown = catch_unwind(AssertUnwindSafe(run)).expect_err("it throws");
    assert!(thrown.is::<Thrown>());
}

/// Whatever happens to it, an element is dropped once; leaked are only those an aborted
/// grant was filled with, as its documentation says.
fn drop_once<const N: usize>(case: &Case) {
    let ledger = Ledger((0..20_000).map(|_| AtomicU32::new(0)).collect());
    let mut leaked = Vec::new();
    let mut made = 0;
    let mut next = || {
        made += 1;
        made - 1
    };
    {
        let mut ring = SpscRing::<Counted<'_>, N>::new_at(case.start);
        let mut queue = VecDeque::new();
        for ops in case.ops.split(|op| matches!(op, Op::Reopen(_))) {
            let (mut producer, mut consumer) = ring.split();
            for op in ops {
                match *op {
                    Op::Push => {
                        let n = next();
                        if producer.push(ledger.make(n)).is_ok() {
                            queue.push_back(n);
                        }
                    }
                    Op::PushWith if producer.is_full() => {
                        assert!(producer.push_with(|| unreachable!()).is_err());
                    }
                    Op::PushWith => {
                        throws(|| _ = producer.push_with(|| resume_unwind(Box::new(Thrown))));
                        let n = next();
                        assert!(producer.push_with(|| ledger.make(n)).is_ok());
                        queue.push_back(n);
                    }
                    Op::Grant { max, .. } => {
                        let Some(mut grant) = producer.grant(max) else { continue };
                        let n = next();
                        grant.as_uninit()[0].write(ledger.make(n));
                        leaked.push(n);
                    }
                    Op::GrantExact { count } => {
                        let Some(grant) = producer.grant(count) else { continue };
                        let half = grant.len() / 2;
                        let values = (0..).map(|at| {
                            if at == half {
                                resume_unwind(Box::new(Thrown));
                            }
                            leaked.push(next());
                            ledger.make(*leaked.last().unwrap())
                        });
                        throws(|| _ = grant.fill(values));
                    }
                    Op::Fill { max, values } => {
                        let Some(grant) = producer.grant(max) else { continue };
                        let values: Vec<_> = (0..values).map(|_| next()).collect();
                        let filled = grant.fill(values.iter().map(|n| ledger.make(*n)));
                        queue.extend(&values[..filled]);
                        // Those there was no room for were never made.
                        leaked.extend(&values[filled..]);
                    }
                    Op::Pop => assert_eq!(consumer.pop().ok().map(|v| v.1), queue.pop_front()),
                    Op::Peek => {
                        assert_eq!(consumer.peek().ok().map(|v| v.1), queue.front().copied())
                    }
                    Op::Read { max, release } => {
                        let Ok(grant) = consumer.read(max) else { continue };
                        assert!(
                            grant.iter().map(|v| v.1).eq(queue.iter().copied().take(grant.len()))
                        );
                        let count = release.unwrap_or(0).min(grant.len());
                        if release.is_some() {
                            grant.release(count);
                        }
                        queue.drain(..count);
                    }
                    Op::ForceAdvance(count) => {
                        queue.drain(..consumer.force_advance(count));
                    }
                    _ => {}
                }
                for n in &queue {
                    assert_eq!(ledger.0[*n as usize].load(Relaxed), 0, "in the ring");
                }
            }
        }
    }
    for (n, drops) in ledger.0.iter().take(made as usize).enumerate() {
        assert_eq!(drops.load(Relaxed), u32::from(!leaked.contains(&(n as u32))), "element {n}");
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn each_element_is_dropped_once(case in cases()) {
        drop_once::<1>(&case);
        drop_once::<2>(&case);
        drop_once::<16>(&case);
    }
}

const MANY: u32 = 100_000;

/// Sends `0..MANY` and checks that they arrive, each once, in order.
fn across_threads<T: Item, M: Trust>(
    mut producer: Producer<'_, T, M>,
    mut consumer: Consumer<'_, T, M>,
    mut send: impl FnMut(&mut Producer<'_, T, M>, u32) -> u32 + Send,
    mut receive: impl FnMut(&mut Consumer<'_, T, M>, &mut dyn FnMut(T)),
) {
    thread::scope(|scope| {
        scope.spawn(move || {
            let (mut sent, patience) = (0, Patience::new());
            while sent < MANY {
                let more = send(&mut producer, sent);
                if more == 0 {
                    assert_eq!(producer.corruption(), None);
                    patience.wait();
                }
                sent += more;
            }
        });
        let (mut got, patience) = (0, Patience::new());
        while got < MANY {
            let before = got;
            receive(&mut consumer, &mut |value| {
                assert_eq!(value, T::nth(got));
                got += 1;
            });
            if got == before {
                assert_eq!(consumer.corruption(), None);
                patience.wait();
            }
        }
        assert_eq!(consumer.pop(), Err(PopError::Empty));
    });
}

#[test]
fn two_threads_one_by_one() {
    let mut ring = SpscRing::<u32, 16>::new_at(u32::MAX - MANY / 2);
    let (producer, consumer) = ring.split();
    across_threads(
        producer,
        consumer,
        |producer, n| u32::from(producer.push(n).is_ok()),
        |consumer, got| consumer.pop().into_iter().for_each(got),
    );
}

#[test]
fn two_threads_in_slices() {
    let options = Options::new(64).start(u32::MAX - 1);
    let memory = memory_for::<[u8; 3]>(options);
    // SAFETY: nobody else knows this memory.
    unsafe { SpscRingRef::<[u8; 3]>::init_at(memory.region(), options) }.unwrap();
    let ring = SpscRingRef::<[u8; 3], Untrusted>::attach_untrusted(memory.region(), None).unwrap();
    across_threads(
        ring.claim_producer(owner(1)).unwrap(),
        ring.claim_consumer(owner(2)).unwrap(),
        |producer, n| {
            let batch = n % 29 + 1;
            let values: Vec<_> = (n..MANY.min(n + batch)).map(Item::nth).collect();
            producer.push_slice(&values) as u32
        },
        |consumer, got| {
            let mut values = [[0; 3]; 24];
            let count = consumer.pop_slice(&mut values);
            values[..count].iter().copied().for_each(got);
        },
    );
}

#[test]
fn two_threads_in_place() {
    let mut ring = SpscRing::<[u64; 3], 32>::new();
    let (producer, consumer) = ring.split();
    across_threads(
        producer,
        consumer,
        |producer, n| match producer.grant(7) {
            Some(grant) => grant.fill((n..MANY).map(Item::nth)) as u32,
            None => 0,
        },
        |consumer, got| {
            if let Ok(grant) = consumer.read(9) {
                grant.iter().copied().for_each(got);
                grant.release(9);
            }
        },
    );
}

/// What may cross threads, and what may not.
#[test]
fn send_and_sync() {
    // An inherent constant, where its bound holds, goes before the trait's `false`.
    struct IsSend<T>(std::marker::PhantomData<T>);
    struct IsSync<T>(std::marker::PhantomData<T>);
    trait Not {
        const SEND: bool = false;
        const SYNC: bool = false;
    }
    impl<T> Not for IsSend<T> {}
    impl<T> Not for IsSync<T> {}
    impl<T: Send> IsSend<T> {
        const SEND: bool = true;
    }
    impl<T: Sync> IsSync<T> {
        const SYNC: bool = true;
    }
    type Local = std::rc::Rc<u32>;

    const {
        assert!(IsSend::<Producer<'_, u32>>::SEND && IsSend::<Consumer<'_, u32>>::SEND);
        assert!(IsSend::<Producer<'_, u32, Untrusted>>::SEND);
        assert!(IsSend::<Consumer<'_, u32, Untrusted>>::SEND);
        assert!(IsSend::<SpscRingRef<'_, u32>>::SEND && IsSync::<SpscRingRef<'_, u32>>::SYNC);
        assert!(IsSend::<SpscRing<u32, 2>>::SEND && IsSync::<SpscRing<u32, 2>>::SYNC);
        assert!(IsSend::<SpscRing<std::cell::Cell<u32>, 2>>::SEND);
        assert!(IsSend::<Region<'_>>::SEND);

        assert!(!IsSend::<Producer<'_, Local>>::SEND && !IsSend::<Consumer<'_, Local>>::SEND);
        assert!(!IsSend::<SpscRing<Local, 2>>::SEND && !IsSync::<SpscRing<Local, 2>>::SYNC);
        assert!(!IsSync::<Producer<'_, Local>>::SYNC);
    }
}

/// Every text says something, and handles can be printed.
#[test]
fn texts() {
    let mut ring = SpscRing::<u32, 2>::default();
    assert!(format!("{ring:?}").contains('2'));
    assert!(format!("{:?}", ring.shared()).contains('2'));
    let (mut producer, mut consumer) = ring.split();
    assert!(format!("{producer:?}{consumer:?}").contains("capacity: 2"));
    let empty = consumer.pop().unwrap_err();
    assert_eq!(producer.push_slice(&[1, 2, 3]), 2);
    let full = producer.push(3).unwrap_err();
    assert!(empty.to_string().contains("empty") && full.to_string().contains("full"));
    assert_eq!((full.into_inner(), format!("{full:?}").as_str()), (3, "Full(..)"));
    assert!(!PopError::Corrupt.to_string().is_empty());
    assert!(!PushError::Corrupt(()).to_string().is_empty());
}
