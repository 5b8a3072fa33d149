//! Waiting and waking: nothing is slept through, nobody is woken in vain, no wait is longer
//! than was asked for.

mod common;

use common::memory::Memory;
use common::park::{BOUND, CondvarPark, FakePark, Scene, TICK, Unbounded, hasty_clock};
use common::{Patience, owner};
use shm_primitives::ring::frame::{self, FrameRing, FrameRingRef, Packing, ReadError, WriteError};
use shm_primitives::ring::spsc::{Options, PopError, PushError, SpscRing, SpscRingRef};
use shm_primitives::wake::{Deadline, Park, SpinPark, WakeWord};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

const MESSAGES: u32 = if cfg!(target_arch = "x86_64") { 20_000 } else { 1000 };

/// What may pass on a fake clock in a wait that does not sleep: the spinning, and a few looks.
const AWAKE: u64 = 1_000_000;

/// Where the two words of a [`WakeWord`] lie.
const SEQUENCE: usize = 0;
const EPOCH: usize = 4;

/// A word whose content can be seen and spoilt.
fn memory() -> Memory {
    Memory::new(8, 0)
}

fn word(memory: &Memory) -> &WakeWord {
    WakeWord::at(&memory.region()).unwrap()
}

/// Runs `test` with parks whose sleeps end by a wake alone.
fn with_each_park(test: impl Fn(&(dyn Park + Sync))) {
    let patience = Patience::new();
    test(&Unbounded(CondvarPark::new(patience.clone())));
    test(&Unbounded(SpinPark::new(hasty_clock(patience))));
}

/// One thread pushes, the other pops; each waits for the other.
fn through_a_ring<const N: usize>(park: &(dyn Park + Sync), count: u32) {
    let mut ring = SpscRing::<u32, N>::new();
    let (mut producer, mut consumer) = ring.split();
    let (items, room) = (&WakeWord::new(), &WakeWord::new());
    thread::scope(|scope| {
        scope.spawn(move || {
            let (mut waiter, mut notifier) = (room.waiter(), items.notifier());
            for n in 0..count {
                producer.push_wait(n, &mut waiter, &park, Deadline::NEVER).unwrap();
                notifier.notify(&park);
            }
        });
        let (mut waiter, mut notifier) = (items.waiter(), room.notifier());
        for n in 0..count {
            assert_eq!(consumer.pop_wait(&mut waiter, &park, Deadline::NEVER), Ok(n));
            notifier.notify(&park);
        }
        assert_eq!(consumer.pop(), Err(PopError::Empty));
    });
}

#[test]
fn both_sides_of_a_bulk_ring_wait() {
    with_each_park(|park| {
        through_a_ring::<1>(park, MESSAGES);
        through_a_ring::<2>(park, MESSAGES);
        through_a_ring::<4>(park, MESSAGES);
    });
}

#[test]
fn both_sides_of_a_frame_ring_wait() {
    with_each_park(|park| {
        // Room for two of the longest payloads.
        let mut ring = FrameRing::<64>::with(Packing::Dense, frame::Checksum::None);
        let (mut writer, mut reader) = ring.split();
        let (frames, room) = (&WakeWord::new(), &WakeWord::new());
        let payload = |n: u32| vec![n as u8; n as usize % 17];
        thread::scope(|scope| {
            scope.spawn(move || {
                let (mut waiter, mut notifier) = (room.waiter(), frames.notifier());
                for n in 0..MESSAGES {
                    writer.push_wait(&payload(n), &mut waiter, &park, Deadline::NEVER).unwrap();
                    notifier.notify(&park);
                }
            });
            let (mut waiter, mut notifier) = (frames.waiter(), room.notifier());
            for n in 0..MESSAGES {
                let frame = reader.read_wait(&mut waiter, &park, Deadline::NEVER).unwrap();
                assert_eq!(*frame, payload(n));
                frame.release();
                notifier.notify(&park);
            }
            assert_eq!(reader.read().err(), Some(ReadError::Empty));
        });
    });
}

/// A dialogue: each message is answered before the next, so that somebody always waits.
#[test]
fn ping_pong() {
    with_each_park(|park| {
        let (mut there, mut back) = (
            SpscRing::<u32, 1>::new(),
            FrameRing::<64>::with(Packing::Dense, frame::Checksum::None),
        );
        let (mut ask, mut hear) = there.split();
        let (mut answer, mut learn) = back.split();
        let (asked, answered) = (&WakeWord::new(), &WakeWord::new());
        thread::scope(|scope| {
            scope.spawn(move || {
                let (mut waiter, mut notifier) = (asked.waiter(), answered.notifier());
                for _ in 0..MESSAGES {
                    let n = hear.pop_wait(&mut waiter, &park, Deadline::NEVER).unwrap();
                    answer.push(&(n + 1).to_le_bytes()).unwrap();
                    notifier.notify(&park);
                }
            });
            let (mut waiter, mut notifier) = (answered.waiter(), asked.notifier());
            for n in 0..MESSAGES {
                ask.push(n).unwrap();
                notifier.notify(&park);
                let frame = learn.read_wait(&mut waiter, &park, Deadline::NEVER).unwrap();
                assert_eq!(*frame, (n + 1).to_le_bytes());
                frame.release();
            }
        });
    });
}

/// Several notifiers of one word.
#[test]
fn several_senders() {
    const SENDERS: u32 = 3;
    with_each_park(|park| {
        let mut rings = [const { SpscRing::<u32, 2>::new() }; SENDERS as usize];
        let (mut producers, mut consumers) = (Vec::new(), Vec::new());
        for ring in &mut rings {
            let (producer, consumer) = ring.split();
            producers.push(producer);
            consumers.push(consumer);
        }
        let (items, patience) = (&WakeWord::new(), &Patience::new());
        thread::scope(|scope| {
            for mut producer in producers {
                scope.spawn(move || {
                    let mut notifier = items.shared_notifier();
                    for n in 0..MESSAGES / 4 {
                        while producer.push(n).is_err() {
                            patience.wait();
                        }
                        notifier.notify(&park);
                    }
                });
            }
            let mut waiter = items.waiter();
            let mut next = [0; SENDERS as usize];
            while next != [MESSAGES / 4; SENDERS as usize] {
                let came = waiter.wait(&park, Deadline::NEVER, || {
                    consumers.iter_mut().any(|consumer| !consumer.is_empty())
                });
                assert!(came);
                for (consumer, next) in consumers.iter_mut().zip(&mut next) {
                    while let Ok(n) = consumer.pop() {
                        assert_eq!(n, *next);
                        *next += 1;
                    }
                }
            }
        });
    });
}

#[test]
fn now_looks_once() {
    let (memory, park) = (memory(), FakePark::new());
    let mut waiter = word(&memory).waiter();
    for there in [false, true] {
        let looks = Cell::new(0);
        let came = waiter.wait(&park, Deadline::NOW, || {
            looks.set(looks.get() + 1);
            there
        });
        assert_eq!((came, looks.get()), (there, 1));
    }
    assert_eq!((park.looks(), park.sleeps()), (0, 0), "neither parks nor reads the clock");
    assert_eq!((memory.get(SEQUENCE), memory.get(EPOCH)), (0, 0), "nor writes");
    // The same through a ring, which still is tried.
    let mut ring = SpscRing::<u32, 1>::new();
    let (mut producer, mut consumer) = ring.split();
    assert_eq!(consumer.pop_wait(&mut waiter, &park, Deadline::NOW), Err(PopError::Empty));
    assert_eq!(producer.push_wait(1, &mut waiter, &park, Deadline::NOW), Ok(()));
    let full = producer.push_wait(2, &mut waiter, &park, Deadline::NOW);
    assert_eq!(full, Err(PushError::Full(2)));
    assert_eq!(consumer.pop_wait(&mut waiter, &park, Deadline::NOW), Ok(1));
    assert_eq!((park.looks(), park.sleeps()), (0, 0));
}

#[test]
fn a_deadline_in_the_past() {
    let (memory, park) = (memory(), FakePark::at(5_000_000));
    let mut waiter = word(&memory).waiter();
    for deadline in [1, 4_999_999, 5_000_000] {
        assert!(!waiter.wait(&park, Deadline::at(deadline), || false));
        assert!(waiter.wait(&park, Deadline::at(deadline), || true));
    }
    assert_eq!(park.sleeps(), 0);
    assert!(park.time() < 5_000_000 + 10 * TICK, "waited for what had passed");
    // It may spin before it looks at the clock: what comes meanwhile is found.
    let mut looks = 0;
    assert!(waiter.wait(&park, Deadline::at(1), || {
        looks += 1;
        looks == 3
    }));
}

#[test]
fn a_deadline_that_passes_in_sleep() {
    let (memory, park) = (memory(), FakePark::new());
    let mut waiter = word(&memory).waiter();
    // The ends of sleeps, and a little before and after; all of one wait after the other.
    for length in [10 * TICK, BOUND - TICK, BOUND, BOUND + 1, 3 * BOUND + 12_345] {
        let begun = park.time();
        let sleeps = park.sleeps();
        let deadline = Deadline::after(&park, Duration::from_nanos(length));
        assert!(!waiter.wait(&park, deadline, || false));
        let over = park.time().checked_sub(deadline.nanoseconds()).expect("given up too early");
        assert!(over <= 4 * TICK, "{over} ns too long");
        assert!(u64::from(park.sleeps() - sleeps) <= length / BOUND + 1);
        assert_eq!(memory.get(EPOCH) % 2, 0, "nobody is parked");
        assert!(park.time() - begun >= length);
    }
}

#[test]
fn a_message_at_the_last_moment() {
    let (memory, park) = (memory(), FakePark::new());
    let word = word(&memory);
    // In every look at the clock: those of the spin, those before and after it, the sleep's end.
    let looks = (0..100).map(|half| half * TICK / 2);
    for length in looks.chain([500_000, BOUND, BOUND + TICK, 2 * BOUND + 500]) {
        let mut waiter = word.waiter();
        // It is there exactly when the deadline has come, and nobody wakes.
        let deadline = Deadline::at(park.time() + length);
        let there = || park.time() >= deadline.nanoseconds();
        assert!(waiter.wait(&park, deadline, there), "{length} ns");
    }
    // It comes in the sleep that ends with the deadline, from one who does not notify.
    let mut waiter = word.waiter();
    let mut ring = SpscRing::<u32, 1>::new();
    let (mut producer, mut consumer) = ring.split();
    let scene = park.asleep(move |_| producer.push(9).unwrap());
    let deadline = Deadline::at(park.time() + AWAKE);
    assert_eq!(consumer.pop_wait(&mut waiter, &scene, deadline), Ok(9));
}

/// For ever is in pieces: each sleep is bounded, and what came without a wake is found at its
/// end.
#[test]
fn every_sleep_is_bounded() {
    let (memory, park) = (memory(), FakePark::new());
    let mut waiter = word(&memory).waiter();
    let there = Cell::new(false);
    // FakePark checks how long it is asked to sleep.
    let scene = (0..4).fold(park.asleep(|_| {}), |scene, _| scene.then(|_| {}));
    let scene = scene.then(|_| there.set(true));
    assert!(waiter.wait(&scene, Deadline::NEVER, || there.get()));
    assert_eq!((park.sleeps(), park.wakes()), (6, 0));
    assert!(park.time() >= 6 * BOUND && park.time() < 6 * BOUND + AWAKE, "{}", park.time());
}

#[test]
fn deadlines() {
    let park = FakePark::new();
    assert_eq!(Deadline::after(&park, Duration::from_nanos(5)), Deadline::at(TICK + 5));
    assert_eq!(Deadline::after(&park, Duration::MAX), Deadline::NEVER);
    assert_eq!(Deadline::after(&park, Duration::from_nanos(u64::MAX)), Deadline::NEVER);
    assert!(Deadline::NOW < Deadline::at(1) && Deadline::at(1) < Deadline::NEVER);
}

/// A burst while the waiter sleeps is one wake; another sleep is another.
#[test]
fn a_burst_wakes_once() {
    let (memory, park) = (memory(), FakePark::new());
    let word = word(&memory);
    let mut ring = SpscRing::<u32, 64>::new();
    let (producer, mut consumer) = ring.split();
    let producer = std::cell::RefCell::new((producer, word.notifier()));
    let burst = |park: &FakePark| {
        let (producer, notifier) = &mut *producer.borrow_mut();
        for n in 0..10 {
            producer.push(n).unwrap();
            notifier.notify(park);
        }
    };
    let mut waiter = word.waiter();
    for sleep in 1..=5 {
        let begun = park.time();
        let scene = park.asleep(burst);
        for n in 0..10 {
            assert_eq!(consumer.pop_wait(&mut waiter, &scene, Deadline::NEVER), Ok(n));
        }
        assert_eq!((park.sleeps(), park.wakes()), (sleep, sleep), "one wake a sleep");
        assert!(park.time() - begun < AWAKE, "woken, and not by the bound");
        // Awake, it is never woken.
        burst(&park);
        assert_eq!(consumer.force_advance(usize::MAX), 10);
        assert_eq!(park.wakes(), sleep);
    }
}

/// Nobody is woken who is awake: before the first wait, while spinning, between the waits.
#[test]
fn an_awake_waiter_is_never_woken() {
    let (memory, park) = (memory(), FakePark::new());
    let word = word(&memory);
    let (mut alone, mut shared) = (word.notifier(), word.shared_notifier());
    let mut notify = || {
        alone.notify(&park);
        shared.notify(&park);
    };
    notify();
    let mut waiter = word.waiter();
    notify();
    let mut polls = 0;
    assert!(waiter.wait(&park, Deadline::NEVER, || {
        notify();
        polls += 1;
        polls == 1000
    }));
    notify();
    assert_eq!((park.sleeps(), park.wakes(), memory.get(SEQUENCE)), (0, 0, 0));
}

/// Between the odd epoch and the sleep: the wake is not needed any more, and the sleep that
/// follows does not begin, for the word has changed.
#[test]
fn a_wake_before_the_sleep() {
    for shared in [false, true] {
        let (memory, park) = (memory(), FakePark::new());
        let word = word(&memory);
        let (mut alone, mut several) = (word.notifier(), word.shared_notifier());
        let mut notify = || if shared { several.notify(&park) } else { alone.notify(&park) };
        let (published, notified) = (Cell::new(false), Cell::new(false));
        let came = word.waiter().wait(&park, Deadline::NEVER, || {
            let parking = memory.get(EPOCH) % 2 == 1;
            let answer = published.get();
            if parking && !notified.replace(true) {
                published.set(true);
                notify();
                notify();
            }
            answer
        });
        assert!(came);
        assert_eq!((park.sleeps(), park.wakes()), (0, 1));
        assert!(park.time() < AWAKE);
    }
}

/// Each of two notifiers answers an epoch once.
#[test]
fn two_notifiers_wake_twice_at_the_most() {
    let (memory, park) = (memory(), FakePark::new());
    let word = word(&memory);
    let there = Cell::new(false);
    let mut notifiers = [word.shared_notifier(), word.shared_notifier()];
    let scene = park.asleep(|park| {
        there.set(true);
        (0..10).for_each(|n| notifiers[n % 2].notify(park));
    });
    assert!(word.waiter().wait(&scene, Deadline::NEVER, || there.get()));
    assert_eq!((park.sleeps(), park.wakes(), memory.get(SEQUENCE)), (1, 2, 2));
}

/// Epochs and the sequence wrap.
#[test]
fn counters_wrap() {
    let (memory, park) = (memory(), FakePark::new());
    memory.set(SEQUENCE, u32::MAX - 1);
    memory.set(EPOCH, u32::MAX - 4);
    let word = word(&memory);
    let there = Cell::new(0);
    let notifier = std::cell::RefCell::new(word.notifier());
    let mut waiter = word.waiter();
    for n in 1..=6 {
        let scene = park.asleep(|park| {
            there.set(there.get() + 1);
            notifier.borrow_mut().notify(park);
        });
        assert!(waiter.wait(&scene, Deadline::NEVER, || there.get() == n));
        assert_eq!((park.sleeps(), park.wakes()), (n, n));
    }
    assert!(park.time() < AWAKE * 6);
}

/// Both words are written with anything all the time: messages arrive all the same.
#[test]
fn a_scribbling_peer() {
    let memory = memory();
    let word = word(&memory);
    let park = &CondvarPark::new(Patience::new());
    let mut ring = SpscRing::<u32, 2>::new();
    let (mut producer, mut consumer) = ring.split();
    let working = AtomicBool::new(true);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = 1u32;
            while working.load(Relaxed) {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Also small values, and the words' own, one more and one less.
                let at = if random >> 31 == 0 { SEQUENCE } else { EPOCH };
                let value = match random >> 28 & 7 {
                    0..=3 => random >> 4,
                    4 => memory.get(at).wrapping_add(1),
                    5 => memory.get(at).wrapping_sub(1),
                    _ => random >> 20 & 3,
                };
                memory.set(at, value);
                thread::yield_now();
            }
        });
        let _stop = Stop(&working);
        let pushing = scope.spawn(move || {
            let mut notifier = word.shared_notifier();
            let patience = Patience::new();
            for n in 0..100 {
                while producer.push(n).is_err() {
                    patience.wait();
                }
                notifier.notify(park);
            }
        });
        let mut waiter = word.waiter();
        for n in 0..100 {
            assert_eq!(consumer.pop_wait(&mut waiter, park, Deadline::NEVER), Ok(n));
        }
        pushing.join().unwrap();
    });
}

/// Ends the other thread, also when a test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
    }
}

/// The worst a hostile peer can do to one sleep: it says that nobody is parked, or that the
/// epoch is one answered before, or takes the change of the sequence back. The message is found
/// when the sleep ends.
#[test]
fn a_wake_that_is_prevented_costs_one_sleep() {
    let prevent: [fn(&Memory); 2] = [
        |memory| memory.set(EPOCH, 2),
        // Answered by this notifier.
        |memory| memory.set(EPOCH, 1),
    ];
    for prevent in prevent {
        let (memory, park) = (memory(), FakePark::new());
        let word = word(&memory);
        let (there, notifier) = (Cell::new(0), std::cell::RefCell::new(word.notifier()));
        let mut waiter = word.waiter();
        let publish = |park: &FakePark| {
            there.set(there.get() + 1);
            notifier.borrow_mut().notify(park);
        };
        assert!(waiter.wait(&park.asleep(publish), Deadline::NEVER, || there.get() == 1));
        let begun = park.time();
        let scene = park.asleep(|park| {
            prevent(&memory);
            publish(park);
        });
        assert!(waiter.wait(&scene, Deadline::NEVER, || there.get() == 2));
        assert!((BOUND..BOUND + AWAKE).contains(&(park.time() - begun)), "one sleep");
        // The next is as good as the first: the waiter does not believe the word.
        let begun = park.time();
        assert!(waiter.wait(&park.asleep(publish), Deadline::NEVER, || there.get() == 3));
        assert!(park.time() - begun < AWAKE);
    }
}

/// What cannot be ends a wait for ever, found before the sleep or in it; and every later one.
#[test]
fn a_corrupt_bulk_ring_ends_a_wait() {
    for in_sleep in [false, true] {
        let options = Options::new(2);
        let ring_memory = Memory::new(options.required_size::<u32>().unwrap(), 0);
        // SAFETY: nobody else knows this memory.
        let ring = unsafe { SpscRingRef::<u32>::init_at(ring_memory.region(), options) }.unwrap();
        let ring = ring.untrusted();
        let mut producer = ring.claim_producer(owner(1)).unwrap();
        let mut consumer = ring.claim_consumer(owner(2)).unwrap();
        let (memory, park) = (memory(), FakePark::new());
        let mut waiter = word(&memory).waiter();

        let scene = spoil(&park, &ring_memory, 64, in_sleep);
        let popped = consumer.pop_wait(&mut waiter, &scene, Deadline::NEVER);
        assert_eq!(popped, Err(PopError::Corrupt));
        assert_eq!(consumer.pop_wait(&mut waiter, &park, Deadline::NEVER), popped, "stays so");
        assert!(consumer.wait(&mut waiter, &park, Deadline::NEVER));

        ring_memory.set(64, 0);
        assert_eq!(producer.push_slice(&[1, 2]), 2);
        // `consumed`: `released` alone tells nothing.
        let scene = spoil(&park, &ring_memory, 192, in_sleep);
        let pushed = producer.push_wait(3, &mut waiter, &scene, Deadline::NEVER);
        assert_eq!(pushed, Err(PushError::Corrupt(3)));
        assert!(producer.wait(&mut waiter, &park, Deadline::NEVER));
        assert_eq!(park.sleeps(), if in_sleep { 2 } else { 0 });
    }
}

/// Writes what no position and no length is to the word at `at`: now, or in the next sleep.
fn spoil<'a>(park: &'a FakePark, memory: &'a Memory, at: usize, in_sleep: bool) -> Scene<'a> {
    let spoil = move || memory.set(at, 0x4000_0001);
    if in_sleep {
        park.asleep(move |_| spoil())
    } else {
        spoil();
        park.awake()
    }
}

#[test]
fn a_corrupt_frame_ring_ends_a_wait() {
    for in_sleep in [false, true] {
        let options = frame::Options::new(64).packing(Packing::Dense);
        let ring_memory = Memory::new(options.required_size().unwrap(), 0);
        // SAFETY: nobody else knows this memory.
        let ring = unsafe { FrameRingRef::init_at(ring_memory.region(), options) }.unwrap();
        let (memory, park) = (memory(), FakePark::new());
        let mut waiter = word(&memory).waiter();

        let mut reader = ring.claim_reader(owner(2)).unwrap();
        // The first frame's word.
        let scene = spoil(&park, &ring_memory, 256, in_sleep);
        let read = reader.read_wait(&mut waiter, &scene, Deadline::NEVER);
        assert_eq!(read.err(), Some(ReadError::Corrupt));
        assert!(reader.wait(&mut waiter, &park, Deadline::NEVER), "stays so");
        ring_memory.set(256, 0);

        let mut writer = ring.claim_writer(owner(1)).unwrap();
        writer.push(&[0; 16]).unwrap();
        writer.push(&[0; 16]).unwrap();
        // The reader's position.
        let scene = spoil(&park, &ring_memory, 192, in_sleep);
        let pushed = writer.push_wait(&[0; 16], &mut waiter, &scene, Deadline::NEVER);
        assert_eq!(pushed, Err(WriteError::Corrupt));
        assert!(writer.wait(16, &mut waiter, &park, Deadline::NEVER), "stays so");
        assert_eq!(park.sleeps(), if in_sleep { 2 } else { 0 });
    }
}

/// For a payload that never fits nobody waits, be the ring full or empty.
#[test]
fn too_large_ends_a_wait() {
    let (memory, park) = (memory(), FakePark::new());
    let mut waiter = word(&memory).waiter();
    let mut ring = FrameRing::<64>::with(Packing::Dense, frame::Checksum::None);
    let (mut writer, _reader) = ring.split();
    for full in [false, true] {
        while full && writer.push(&[1; 16]).is_ok() {}
        let length = writer.max_payload() + 1;
        let error = WriteError::TooLarge { length, maximum: writer.max_payload() };
        let pushed = writer.push_wait(&vec![0; length], &mut waiter, &park, Deadline::NEVER);
        assert_eq!(pushed, Err(error));
        assert!(writer.wait(length, &mut waiter, &park, Deadline::NEVER));
    }
    assert_eq!(park.sleeps(), 0);
}

/// Full and empty rings end a wait at its deadline, with nothing lost.
#[test]
fn deadlines_of_rings() {
    let (memory, park) = (memory(), FakePark::new());
    let mut waiter = word(&memory).waiter();
    let soon = || Deadline::at(park.time() + 2 * BOUND);
    let mut ring = SpscRing::<u32, 1>::new();
    let (mut producer, mut consumer) = ring.split();
    assert_eq!(consumer.pop_wait(&mut waiter, &park, soon()), Err(PopError::Empty));
    producer.push(1).unwrap();
    assert_eq!(producer.push_wait(2, &mut waiter, &park, soon()), Err(PushError::Full(2)));
    assert_eq!(consumer.pop_wait(&mut waiter, &park, soon()), Ok(1));
    let mut ring = FrameRing::<64>::with(Packing::Dense, frame::Checksum::None);
    let (mut writer, mut reader) = ring.split();
    let empty = reader.read_wait(&mut waiter, &park, soon()).err();
    assert_eq!(empty, Some(ReadError::Empty));
    writer.push(&[1; 16]).unwrap();
    writer.push(&[2; 16]).unwrap();
    let full = writer.push_wait(&[3; 16], &mut waiter, &park, soon());
    assert_eq!(full, Err(WriteError::Full));
    assert_eq!(*reader.read_wait(&mut waiter, &park, soon()).unwrap(), [1; 16]);
}

/// The condition panics, wherever it is asked: the waiter parks as well as before, and its
/// notifier wakes it.
#[test]
fn a_panic_in_the_condition() {
    let mut parked = 0;
    for fatal in 1.. {
        let (memory, park) = (memory(), FakePark::new());
        let word = word(&memory);
        let notifier = std::cell::RefCell::new(word.notifier());
        let mut waiter = word.waiter();
        let mut looks = 0;
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            waiter.wait(&park, Deadline::at(2 * BOUND), || {
                looks += 1;
                if looks == fatal { resume_unwind(Box::new("fatal")) } else { false }
            })
        }));
        if panicked.is_ok() {
            break;
        }
        parked += memory.get(EPOCH) % 2;
        let (wakes, begun) = (park.wakes(), park.time());
        for sleep in 1..=2 {
            let there = Cell::new(false);
            let sleeps = park.sleeps();
            let scene = park.asleep(|park| {
                there.set(true);
                notifier.borrow_mut().notify(park);
            });
            assert!(waiter.wait(&scene, Deadline::NEVER, || there.get()));
            assert_eq!(park.sleeps(), sleeps + 1, "look {fatal}, sleep {sleep}");
            assert_eq!(park.wakes(), wakes + sleep, "look {fatal}, sleep {sleep}: not woken");
        }
        assert!(park.time() - begun < 2 * AWAKE);
        let before = park.wakes();
        notifier.borrow_mut().notify(&park);
        assert_eq!(park.wakes(), before, "woken while awake");
    }
    assert!(parked > 0, "it never panicked parked");
}

/// A region too small or misaligned is declined, and whatever stands in one is valid.
#[test]
fn at_a_region() {
    let memory = Memory::new(64, 0xff);
    assert!(WakeWord::at(&memory.part(0, 7)).is_err());
    assert!(WakeWord::at(&memory.part(2, 8)).is_err());
    let word = WakeWord::at(&memory.part(4, 8)).unwrap();
    let park = FakePark::new();
    assert!(!word.waiter().wait(&park, Deadline::at(1), || false));
    word.notifier().notify(&park);
}
