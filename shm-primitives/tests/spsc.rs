//! The bulk ring on one thread and on two: against a model, at its edges, and who drops
//! what.

mod common;

use common::memory::Memory;
use common::spsc::{Case, Item, Op, Reopen, memory_for, run_split, run_trusted, run_untrusted};
use common::{Patience, dead, owner};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use shm_primitives::part::{Trust, Untrusted};
use shm_primitives::region::Region;
use shm_primitives::ring::spsc::{
    Consumer, Options, PopError, Producer, PushError, SpscRing, SpscRingRef,
};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread;

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

/// A handle gives back its own end only, not what another has made of it.
#[test]
fn a_dropped_handle_takes_nothing_from_another_owner() {
    let options = Options::new(2);
    let memory = memory_for::<u32>(options);
    // SAFETY: nobody else knows this memory.
    let ring = unsafe { SpscRingRef::<u32>::init_at(memory.region(), options) }.unwrap();
    let (producer, consumer) = (ring.claim_producer(owner(1)), ring.claim_consumer(owner(1)));
    [40, 44].into_iter().for_each(|at| memory.set(at, owner(2).word()));
    drop((producer, consumer));
    assert_eq!([memory.get(40), memory.get(44)], [owner(2).word(); 2]);
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
                        // SAFETY: a value is written, and not published.
                        let places = unsafe { grant.as_uninit() };
                        places[0].write(ledger.make(n));
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
        let patience = Patience::new();
        let theirs = patience.clone();
        scope.spawn(move || {
            let mut sent = 0;
            while sent < MANY {
                let more = send(&mut producer, sent);
                if more == 0 {
                    assert_eq!(producer.corruption(), None);
                    theirs.wait();
                }
                sent += more;
            }
        });
        let mut got = 0;
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

/// A handle that met an impossible position does nothing more, be the position mended and
/// be there elements, or places, that it knew of before.
#[test]
fn a_corrupt_handle_stays_so() {
    let options = Options::new(4).start(u32::MAX);
    let memory = memory_for::<u32>(options);
    // SAFETY: nobody else knows this memory.
    unsafe { SpscRingRef::<u32>::init_at(memory.region(), options) }.unwrap();
    let ring = SpscRingRef::<u32, Untrusted>::attach_untrusted(memory.region(), None).unwrap();
    let mut producer = ring.claim_producer(owner(1)).unwrap();
    let mut consumer = ring.claim_consumer(owner(2)).unwrap();
    assert_eq!(producer.push_slice(&[1, 2, 3]), 3);
    assert_eq!(consumer.pop(), Ok(1));
    let (write, consumed) = (memory.get(64), memory.get(192));
    for (at, value) in [(64, write.wrapping_add(3)), (192, consumed.wrapping_add(3))] {
        memory.set(at, value);
    }
    assert_eq!((consumer.len(), consumer.free()), (0, 4));
    assert_eq!((producer.free(), producer.len()), (0, 4));
    for (at, value) in [(64, write), (192, consumed)] {
        memory.set(at, value);
    }
    let before = memory.bytes();
    for _ in 0..2 {
        assert_eq!(consumer.pop(), Err(PopError::Corrupt));
        assert_eq!(consumer.pop_slice(&mut [0; 2]) + consumer.force_advance(2), 0);
        assert_eq!(producer.push(4), Err(PushError::Corrupt(4)));
        assert!(producer.push_with(|| unreachable!()).is_err());
        assert_eq!(producer.push_slice(&[4, 5]), 0);
        let found = |found| Some((found, 4));
        assert_eq!(consumer.corruption().map(|c| (c.found, c.limit)), found(5));
        assert_eq!(producer.corruption().map(|c| (c.found, c.limit)), found(u32::MAX));
    }
    assert!(memory.bytes() == before);
}

/// Ends somebody else's work when dropped.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
    }
}

/// Somebody scribbles over every word while both ends work: whatever they say, they end,
/// and write nothing outside the region.
#[test]
fn a_scribbling_peer() {
    let options = Options::new(16).start(u32::MAX - 100);
    let memory = memory_for::<[u64; 3]>(options);
    // SAFETY: nobody else knows this memory.
    unsafe { SpscRingRef::<[u64; 3]>::init_at(memory.region(), options) }.unwrap();
    let ring = SpscRingRef::<[u64; 3], Untrusted>::attach_untrusted(memory.region(), None).unwrap();
    let words = 256 / 4 + 16 * 6;
    let positions = [64, 128, 192];
    let working = AtomicBool::new(true);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = 1u32;
            while working.load(Relaxed) {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = match random >> 20 & 3 {
                    3 => random as usize % words * 4,
                    position => positions[position as usize],
                };
                // Mostly a position that could be.
                let near = options.start.wrapping_add(random >> 16 & 0x3f);
                memory.set(at, if random >> 29 == 0 { random } else { near });
            }
        });
        let _stop = Stop(&working);
        let mut claims = [0; 2];
        for n in 0..3000 {
            // Set right, so that a claim may succeed.
            [40, 44].into_iter().for_each(|at| memory.set(at, 0));
            positions.into_iter().for_each(|at| memory.set(at, options.start));
            if let Ok(mut producer) = ring.claim_producer(owner(1)) {
                claims[0] += 1;
                (0..40).for_each(|_| _ = producer.push(Item::nth(n)));
                assert!(producer.push_slice(&[Item::nth(n); 20]) <= 16);
                assert!(producer.len() <= 16 && producer.free() <= 16);
            }
            if let Ok(mut consumer) = ring.claim_consumer(owner(2)) {
                claims[1] += 1;
                (0..40).for_each(|_| _ = consumer.pop());
                assert!(consumer.pop_slice(&mut [[0; 3]; 20]) <= 16);
                assert!(consumer.force_advance(usize::MAX) <= 16);
                assert!(consumer.len() <= 16 && consumer.free() <= 16);
            }
        }
        assert!(claims[0] != 0 && claims[1] != 0, "{claims:?} claims");
    });
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

/// A hostile peer moves its position back, to one that is possible: what was seen before is
/// forgotten, and nothing outside is touched.
#[test]
fn a_position_taken_back() {
    let options = Options::new(16);
    let memory = memory_for::<u32>(options);
    // SAFETY: nobody else knows this memory.
    unsafe { SpscRingRef::<u32>::init_at(memory.region(), options) }.unwrap();
    let ring = SpscRingRef::<u32, Untrusted>::attach_untrusted(memory.region(), None).unwrap();

    let mut consumer = ring.claim_consumer(owner(1)).unwrap();
    memory.set(64, 16);
    assert!(!consumer.is_empty());
    memory.set(64, 0);
    assert_eq!(consumer.len(), 0);
    assert_eq!(consumer.pop(), Err(PopError::Empty));
    assert_eq!(consumer.pop_slice(&mut [0; 500]), 0);
    drop(consumer);

    let mut producer = ring.claim_producer(owner(1)).unwrap();
    producer.push(1).unwrap();
    memory.set(192, 1u32.wrapping_sub(16));
    assert_eq!(producer.free(), 0);
    // By the other of the consumer's words there is room, and no more than there is.
    assert_eq!(producer.push(2), Ok(()));
    assert!(producer.push_slice(&[7; 500]) <= 14);
    memory.check_guards();
}

/// What stands in the ring, to one who has neither end.
#[test]
fn unread_positions() {
    for start in [0, 6u32.wrapping_neg()] {
        let options = Options::new(8).start(start);
        let memory = Memory::new(options.required_size::<u32>().unwrap(), 0);
        // SAFETY: nobody else knows this memory.
        let ring = unsafe { SpscRingRef::<u32>::init_at(memory.region(), options) }.unwrap();
        let mut producer = ring.claim_producer(owner(1)).unwrap();
        let mut consumer = ring.claim_consumer(owner(2)).unwrap();
        let at = |count: u32| start.wrapping_add(count);
        for count in 0..20 {
            assert_eq!((producer.position(), consumer.position()), (at(count), at(count)));
            assert_eq!(ring.unread(), Ok(at(count)..at(count)));
            producer.push(count).unwrap();
            assert_eq!(ring.unread(), Ok(at(count)..at(count + 1)));
            assert_eq!(consumer.pop(), Ok(count));
        }
        while producer.push(0).is_ok() {}
        assert_eq!(ring.unread(), Ok(at(20)..at(28)));
        // The producer's position, impossibly far.
        memory.set(64, at(29));
        assert!(ring.unread().is_err());
    }
}
