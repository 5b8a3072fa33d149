//! Waiting and waking. Sleeps are on a clock of the tests' own.

use crate::common::memory::Memory;
use crate::common::park::{BOUND, FakePark};
use crate::common::{dead, owner};
use crate::harness::{at_every_step, die};
use shm_primitives::part::End;
use shm_primitives::ring::spsc::{Consumer, PopError, Producer, SpscRing, SpscRingRef};
use shm_primitives::sync::{AtomicU32, crash};
use shm_primitives::wake::{Deadline, Notifier, Park, Relay, RelayedWaiter, WakeWord};
use std::cell::{Cell, RefCell};
use std::sync::atomic::{self, Ordering::Relaxed};
use std::thread;

const WRITER: u32 = 1;
const READER: u32 = 2;
const HEIR: u32 = 3;

/// What may pass on the clock in a wait whose sleeps all end by a wake.
const AWAKE: u64 = 1_000_000;

/// A ring and its word, whose content can be seen.
struct World {
    ring: SpscRing<u32, 2>,
    memory: Memory,
}

impl World {
    fn new() -> Self {
        Self { ring: SpscRing::new_at(u32::MAX), memory: Memory::new(8, 0) }
    }

    fn word(&self) -> &WakeWord {
        WakeWord::at(&self.memory.region()).unwrap()
    }

    fn epoch(&self) -> u32 {
        self.memory.get(4)
    }

    fn ends(&self) -> (SpscRingRef<'_, u32>, Producer<'_, u32>, Consumer<'_, u32>) {
        let ring = self.ring.shared();
        let producer = ring.claim_producer(owner(WRITER)).unwrap();
        (ring, producer, ring.claim_consumer(owner(READER)).unwrap())
    }
}

/// Where in the life of the waiter something happens.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Moment {
    BeforeTheWait,
    /// Between the odd epoch and the sleep.
    AboutToSleep,
    Asleep,
}

/// Lets `once` happen at `moment` of a wait for an element.
fn wait_at<'a>(
    moment: Moment,
    world: &'a World,
    park: &'a FakePark,
    consumer: &mut Consumer<'_, u32>,
    deadline: Deadline,
    once: impl FnOnce(&FakePark) + 'a,
) -> Result<u32, PopError> {
    let once = RefCell::new(Some(once));
    let act = |park: &FakePark| once.borrow_mut().take().into_iter().for_each(|once| once(park));
    if moment == Moment::BeforeTheWait {
        act(park);
    }
    let scene = if moment == Moment::Asleep { park.asleep(act) } else { park.awake() };
    let mut waiter = world.word().waiter();
    waiter.wait(&scene, deadline, || {
        let found = !consumer.is_empty();
        if moment == Moment::AboutToSleep && world.epoch() % 2 == 1 {
            act(park);
        }
        found
    });
    consumer.pop()
}

/// A notifier dies at each step of push and notify: its element, the position, the sequence,
/// the wake, and the end it gives back.
///
/// What it had published is found when the sleep ends; or without sleeping to the end, if
/// whoever convicts it notifies in its place.
fn notifier_dies(moment: Moment, shared: bool, convicted: bool) {
    let mut slept_to_the_end = 0;
    let deaths = at_every_step(&format!("notify, {moment:?}"), |budget| {
        let (world, park) = (World::new(), FakePark::new());
        let (ring, producer, mut consumer) = world.ends();
        let word = world.word();
        let dying = (word.notifier(), word.shared_notifier());
        let survived = Cell::new(false);
        let deadline = Deadline::at(2 * BOUND);
        let popped = wait_at(moment, &world, &park, &mut consumer, deadline, |park| {
            let operation = move || {
                let (mut producer, (mut alone, mut several)) = (producer, dying);
                producer.push(7).unwrap();
                if shared { several.notify(park) } else { alone.notify(park) }
            };
            survived.set(die(budget, operation).is_some());
            if convicted {
                let mut notifier = word.shared_notifier();
                notifier.notify(park);
                notifier.notify(park);
            }
        });
        let slept = park.time();
        let published = popped.is_ok();
        assert_eq!(popped.unwrap_or(7), 7);
        assert!(published || !survived.get(), "lost");
        // Two steps before the position is stored: the shadow of the element and that store.
        assert_eq!(published, budget >= 2, "published last");
        if published {
            assert!(slept < BOUND + AWAKE, "slept through a message");
            slept_to_the_end += u32::from(slept >= BOUND);
            assert!(slept < AWAKE || !survived.get() && !convicted, "slept although woken");
        } else {
            assert!(slept >= deadline.nanoseconds(), "given up too early");
        }
        assert!(park.wakes() <= 1 + u32::from(convicted), "{} wakes", park.wakes());
        assert_eq!(world.epoch() % 2, 0, "nobody is parked");

        // The successor is as good as new.
        let mut producer = match ring.owner(End::Writing).unwrap() {
            Some(_) => ring.recover_producer(dead(WRITER), owner(HEIR)).unwrap(),
            None => ring.claim_producer(owner(HEIR)).unwrap(),
        };
        let (wakes, begun) = (park.wakes(), park.time());
        let popped = wait_at(moment, &world, &park, &mut consumer, Deadline::NEVER, |park| {
            producer.push(8).unwrap();
            word.shared_notifier().notify(park);
        });
        assert_eq!(popped, Ok(8));
        assert!(park.time() - begun < AWAKE);
        assert_eq!(park.wakes() - wakes, u32::from(moment != Moment::BeforeTheWait));
        survived.get()
    });
    // A wake is a step only if somebody is there to be woken.
    let least = if moment == Moment::BeforeTheWait { 3 } else { 5 };
    assert!(deaths >= least, "it died {deaths} times");
    if moment == Moment::Asleep {
        // Before the sequence was changed, and before the wake.
        assert_eq!(slept_to_the_end, if convicted { 0 } else { 2 });
    }
}

#[test]
fn notifying() {
    for moment in [Moment::BeforeTheWait, Moment::AboutToSleep, Moment::Asleep] {
        for shared in [false, true] {
            for convicted in [false, true] {
                notifier_dies(moment, shared, convicted);
            }
        }
    }
}

/// A park that a thread may be killed in: before it sleeps and after. In each sleep, others act
/// on threads of their own, for the step counter is the waiter's.
struct Bed<'a> {
    park: &'a FakePark,
    others: &'a RefCell<&'a mut (dyn FnMut() -> u32 + Send)>,
    woken: &'a Cell<u32>,
}

impl Park for Bed<'_> {
    fn now(&self) -> u64 {
        self.park.now()
    }
    fn wait(&self, word: &AtomicU32, expected: u32, until: u64) {
        crash::step();
        let wakes = {
            let mut others = self.others.borrow_mut();
            let others: &mut (dyn FnMut() -> u32 + Send) = &mut **others;
            thread::scope(|scope| scope.spawn(others).join().unwrap())
        };
        self.woken.set(self.woken.get() + wakes);
        if wakes == 0 {
            self.park.wait(word, expected, until);
        }
        crash::step();
    }
    fn wake(&self, word: &AtomicU32) {
        self.park.wake(word);
    }
}

/// Counts wakes; what notifiers elsewhere have for a park.
#[derive(Default)]
struct WakeCount(atomic::AtomicU32);

impl Park for WakeCount {
    fn now(&self) -> u64 {
        panic!("a notifier read the clock")
    }
    fn wait(&self, _: &AtomicU32, _: u32, _: u64) {
        panic!("a notifier slept")
    }
    fn wake(&self, _: &AtomicU32) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// The waiter dies at each step of pop_wait: the epochs, in its sleep, the pop, the end it gives
/// back. Before it sleeps, in its sleep and after its death two notifiers ring; each wakes at
/// most once for an epoch. The successor finds all that was pushed, and sleeps through nothing.
#[test]
fn waiting() {
    // In how many sleeps nothing comes, before the one in which something does.
    for idle in 0..3 {
        let mut parked = 0;
        let deaths = at_every_step(&format!("pop_wait, {idle} sleeps"), |budget| {
            let (world, park, count) = (World::new(), FakePark::new(), WakeCount::default());
            let (ring, mut producer, consumer) = world.ends();
            let word = world.word();
            let notifiers = &mut [word.shared_notifier(), word.shared_notifier()];
            let ring_all = |notifiers: &mut [Notifier<'_, true>; 2]| {
                let before = count.0.load(Relaxed);
                for _ in 0..3 {
                    notifiers.iter_mut().for_each(|notifier| notifier.notify(&count));
                }
                count.0.load(Relaxed) - before
            };
            assert_eq!(ring_all(notifiers), 0, "nobody is parked");

            let (sleeps, woken) = (Cell::new(0), Cell::new(0));
            let survived = {
                let mut slept = 0;
                let mut others = || {
                    slept += 1;
                    if slept <= idle {
                        return 0;
                    }
                    if slept == idle + 1 {
                        producer.push(1).unwrap();
                    }
                    ring_all(notifiers)
                };
                let others: &mut (dyn FnMut() -> u32 + Send) = &mut others;
                let others = RefCell::new(others);
                let bed = Bed { park: &park, others: &others, woken: &woken };
                let survived = die(budget, move || {
                    let mut consumer = consumer;
                    let mut waiter = word.waiter();
                    assert_eq!(consumer.pop_wait(&mut waiter, &bed, Deadline::NEVER), Ok(1));
                })
                .is_some();
                sleeps.set(slept);
                survived
            };
            let pushed = sleeps.get() > idle;
            assert_eq!(woken.get(), 2 * u32::from(pushed), "each notifier wakes once an epoch");
            assert!(!survived || pushed && world.epoch() % 2 == 0);

            // Whoever rings now wakes nobody, once, if an odd epoch was left behind that it has
            // not answered.
            let left = world.epoch();
            let in_vain = ring_all(notifiers);
            let answered = pushed && !survived && left % 2 == 1;
            parked += left % 2;
            assert_eq!(in_vain, if left % 2 == 1 && !answered { 2 } else { 0 }, "epoch {left}");
            assert_eq!(ring_all(notifiers), 0, "again for the same epoch");

            let (mut consumer, gone) = match ring.owner(End::Reading).unwrap() {
                Some(_) => (ring.recover_consumer(dead(READER), owner(HEIR)).unwrap(), survived),
                None => (ring.claim_consumer(owner(HEIR)).unwrap(), true),
            };
            // What it had in hand is seen again, if it had not stored its position.
            match consumer.pop() {
                Ok(value) => assert!(value == 1 && pushed && !gone, "{value} again"),
                Err(error) => assert_eq!(error, PopError::Empty),
            }
            assert!(consumer.is_empty());

            // The successor sleeps, and is woken by those who answered the dead one's epoch.
            let begun = park.time();
            for value in 10..13 {
                let (before, mut slept) = (count.0.load(Relaxed), 0);
                let mut others = || {
                    slept += 1;
                    producer.push(value).unwrap();
                    ring_all(notifiers)
                };
                let others: &mut (dyn FnMut() -> u32 + Send) = &mut others;
                let others = RefCell::new(others);
                let bed = Bed { park: &park, others: &others, woken: &woken };
                let mut waiter = word.waiter();
                assert_eq!(consumer.pop_wait(&mut waiter, &bed, Deadline::NEVER), Ok(value));
                assert_eq!(count.0.load(Relaxed) - before, 2, "each wakes the successor, once");
                assert_eq!(slept, 1);
            }
            assert!(park.time() - begun < 3 * AWAKE, "slept through a message");
            survived
        });
        // Each sleep has four steps; then consumed and the end.
        assert_eq!(deaths, 4 * (idle + 1) + 2);
        assert_eq!(parked, 3 * (idle + 1), "it died parked");
    }
}

/// A chain of waiters each of whom dies asleep: epochs go on from one to the next, and whoever
/// comes last is woken.
#[test]
fn generations() {
    let (world, park, count) = (World::new(), FakePark::new(), WakeCount::default());
    let mut notifier = world.word().notifier();
    let mut last = 0;
    for generation in 0..10 {
        let mut others = || 0;
        let others: &mut (dyn FnMut() -> u32 + Send) = &mut others;
        let (others, woken) = (RefCell::new(others), Cell::new(0));
        let bed = Bed { park: &park, others: &others, woken: &woken };
        // The odd epoch and the sleep's beginning; dead when it is about to wake.
        let survived = die(2, || {
            world.word().waiter().wait(&bed, Deadline::NEVER, || false);
        });
        assert!(survived.is_none());
        assert!(world.epoch() % 2 == 1 && world.epoch() != last, "a fresh epoch");
        last = world.epoch();
        // Half of them are answered.
        if generation % 2 == 0 {
            notifier.notify(&count);
        }
    }
    assert_eq!(count.0.load(Relaxed), 5);
    let (there, notifier) = (Cell::new(false), &mut notifier);
    let scene = park.asleep(|park| {
        there.set(true);
        notifier.notify(park);
    });
    let begun = park.time();
    assert!(world.word().waiter().wait(&scene, Deadline::NEVER, || there.get()));
    assert!(park.time() - begun < AWAKE && park.wakes() == 1);
}

/// The notifier dies at each step. Where the word has not changed the relay does not say that it
/// has, though the message may be there: at the end of its sleep it has to wake the waiter in case.
#[test]
fn telling_a_relay() {
    let mut unsaid = 0;
    let deaths = at_every_step("tell a relay", |budget| {
        let (world, park) = (World::new(), FakePark::new());
        let word = world.word();
        let (_, mut producer, mut consumer) = world.ends();
        let (mut waiter, mut relay) = (RelayedWaiter::new(word), Relay::new(word));
        assert!(!waiter.arm(word, || !consumer.is_empty()));
        let survived = die(budget, || {
            producer.push(7).unwrap();
            word.notifier().notify(&park);
        });
        let said = relay.wait(word, &park, Deadline::NEVER);
        assert!(park.time() < BOUND + AWAKE, "comes back");
        let there = waiter.arm(word, || !consumer.is_empty());
        assert!(there || !said);
        assert!(survived.is_none() || said && there);
        unsaid += u32::from(there && !said);
        survived.is_some()
    });
    assert!(deaths > 0 && unsaid > 0, "{deaths} deaths");
}

/// A waiter that a relay sleeps for dies at each step of arming: who rings next wakes nobody, once
/// at the most, and the successor is woken.
#[test]
fn arming() {
    let deaths = at_every_step("arm", |budget| {
        let (world, park) = (World::new(), FakePark::new());
        let word = world.word();
        let mut notifier = word.notifier();
        let survived = die(budget, || {
            let mut waiter = RelayedWaiter::new(word);
            assert!(!waiter.arm(word, || false));
            waiter.disarm(word);
            let mut looks = 0;
            // Found between the odd epoch and the sleep.
            waiter.arm(word, || {
                looks += 1;
                looks == 2
            });
        });
        assert_eq!(world.epoch() % 2 == 1, budget % 2 == 1 && survived.is_none());
        notifier.notify(&park);
        notifier.notify(&park);
        let wakes = park.wakes();
        assert_eq!(wakes, world.epoch() % 2);
        let (mut waiter, mut relay) = (RelayedWaiter::new(word), Relay::new(word));
        assert!(!waiter.arm(word, || false));
        notifier.notify(&park);
        assert_eq!(park.wakes(), wakes + 1, "the successor is not woken");
        assert!(relay.wait(word, &park, Deadline::NEVER), "nor by its relay");
        survived.is_some()
    });
    assert_eq!(deaths, 4);
}
