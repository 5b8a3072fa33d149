//! The ready bitmap.

use crate::common::memory::Memory;
use crate::common::owner;
use crate::common::park::{BOUND, FakePark};
use crate::harness::{at_every_step, die};
use shm_primitives::ready::ReadyBitmap;
use shm_primitives::ring::spsc::{Consumer, Producer, SpscRing};
use shm_primitives::wake::{Deadline, WakeWord, published};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::thread;

/// Lanes that are claimed, in three words.
const LANES: [usize; 4] = [0, 31, 33, 64];
/// The one somebody dies at.
const LANE: usize = 33;
const AT: usize = 2;

/// What may pass on the clock in a wait whose sleeps all end by a wake.
const AWAKE: u64 = 1_000_000;

struct World {
    rings: [SpscRing<u32, 4>; 4],
    /// Three words of bits, and the wake word behind them.
    memory: Memory,
}

impl World {
    fn new() -> Self {
        Self { rings: [const { SpscRing::new() }; 4], memory: Memory::new(20, 0) }
    }

    fn ready(&self) -> ReadyBitmap<'_> {
        ReadyBitmap::at(&self.memory.part(0, 12), 65).unwrap()
    }

    fn word(&self) -> &WakeWord {
        WakeWord::at(&self.memory.part(12, 8)).unwrap()
    }

    fn ends(&self) -> (Vec<Producer<'_, u32>>, Vec<Consumer<'_, u32>>) {
        self.rings
            .iter()
            .map(|ring| {
                let ring = ring.shared();
                (ring.claim_producer(owner(1)).unwrap(), ring.claim_consumer(owner(2)).unwrap())
            })
            .unzip()
    }

    fn marked(&self) -> BTreeSet<usize> {
        self.ready().marked().collect()
    }
}

/// Takes what the marked lanes have, cooling each that is then empty.
fn follow_the_bits(ready: ReadyBitmap<'_>, consumers: &mut [Consumer<'_, u32>]) -> Vec<u32> {
    let mut found = Vec::new();
    for lane in ready.marked() {
        let at = LANES.iter().position(|&known| known == lane).expect("a known lane");
        found.extend(std::iter::from_fn(|| consumers[at].pop().ok()));
        ready.cool(lane, || consumers[at].is_empty());
    }
    found
}

/// A sender dies at each step: its element, the position, the bit, the sequence, the wake. What
/// it published has its bit once whoever convicts it has marked its lane, and a receiver asleep
/// is woken by that one; all that others marked stays so.
#[test]
fn sending() {
    for hot in [false, true] {
        for asleep in [false, true] {
            let mut without_a_bit = 0;
            let deaths = at_every_step(&format!("send, hot: {hot}, asleep: {asleep}"), |budget| {
                let (world, park) = (World::new(), FakePark::new());
                let (mut producers, mut consumers) = world.ends();
                let (ready, word) = (world.ready(), world.word());
                if hot {
                    ready.mark(LANE, &published());
                }
                let survived = Cell::new(false);
                let mut send_and_convict = |park: &FakePark| {
                    let producer = &mut producers[AT];
                    let sent = die(budget, || {
                        producer.push(7).unwrap();
                        let fenced = published();
                        ready.mark(LANE, &fenced);
                        word.shared_notifier().notify_after(park, &fenced);
                    });
                    survived.set(sent.is_some());
                    // The element, the position.
                    let was_published = budget >= 2;
                    assert!(!survived.get() || ready.is_marked(LANE), "survived without its bit");
                    without_a_bit += u32::from(was_published && !ready.is_marked(LANE));
                    let fenced = published();
                    ready.mark(LANE, &fenced);
                    word.shared_notifier().notify_after(park, &fenced);
                    assert!(ready.is_marked(LANE), "the convictor's mark");
                    // Another lane's sender, in the same word of bits and in another.
                    for at in [AT + 1, AT - 1] {
                        producers[at].push(20 + at as u32).unwrap();
                        ready.mark(LANES[at], &published());
                    }
                };
                if asleep {
                    let scene = park.asleep(send_and_convict);
                    let came = word.waiter().wait(&scene, Deadline::NEVER, || {
                        ready.marked().any(|lane| lane == LANES[1])
                            || consumers.iter_mut().any(|consumer| !consumer.is_empty())
                    });
                    assert!(came && park.sleeps() == 1 && park.time() < AWAKE, "not woken");
                    assert!(park.wakes() <= 2);
                } else {
                    send_and_convict(&park);
                    assert_eq!(park.wakes(), 0);
                }
                let mut found = follow_the_bits(ready, &mut consumers);
                found.sort();
                let mut expected = vec![20 + AT as u32 - 1, 20 + AT as u32 + 1];
                if budget >= 2 {
                    expected.insert(0, 7);
                }
                assert_eq!(found, expected);
                assert_eq!(world.marked(), BTreeSet::new(), "cooled");
                survived.get()
            });
            let steps = 2 + u32::from(!hot) + 2 * u32::from(asleep);
            assert_eq!(deaths, steps);
            // Once, between the position and the bit; a hot lane's is set all the time.
            assert_eq!(without_a_bit, u32::from(!hot));
        }
    }
}

/// The receiver dies at each step of cooling a lane: the clearing, and the setting if something
/// came. Nothing is lost to the successor, which sweeps all lanes, and the others' bits stay.
#[test]
fn cooling() {
    #[derive(Clone, Copy, PartialEq, Debug)]
    enum Comes {
        Never,
        BeforeTheClearing,
        BetweenClearingAndLook,
        AfterTheDeath,
    }
    for comes in [
        Comes::Never,
        Comes::BeforeTheClearing,
        Comes::BetweenClearingAndLook,
        Comes::AfterTheDeath,
    ] {
        let mut without_a_bit = 0;
        let deaths = at_every_step(&format!("cool, a message comes: {comes:?}"), |budget| {
            let (world, park) = (World::new(), FakePark::new());
            let (mut producers, mut consumers) = world.ends();
            let (ready, word) = (world.ready(), world.word());
            ready.mark(LANE, &published());
            ready.mark(LANES[0], &published());
            ready.mark(LANES[3], &published());
            producers[0].push(1).unwrap();
            let producer = RefCell::new(&mut producers[AT]);
            // As the sender would: on a thread of its own, whose steps are its own.
            let sent = Cell::new(false);
            let send = || {
                sent.set(true);
                let mut producer = producer.borrow_mut();
                let producer: &mut Producer<'_, u32> = &mut producer;
                thread::scope(|scope| {
                    scope.spawn(move || {
                        producer.push(7).unwrap();
                        ready.mark(LANE, &published());
                    });
                });
            };
            let arrives = |moment| {
                if comes == moment {
                    send()
                }
            };
            arrives(Comes::BeforeTheClearing);
            let consumer = &mut consumers[AT];
            let cooled = die(budget, || {
                ready.cool(LANE, || {
                    arrives(Comes::BetweenClearingAndLook);
                    consumer.is_empty()
                })
            });
            arrives(Comes::AfterTheDeath);
            if let Some(quiet) = cooled {
                let came_before =
                    matches!(comes, Comes::BeforeTheClearing | Comes::BetweenClearingAndLook);
                assert_eq!(quiet, !came_before);
                assert_eq!(ready.is_marked(LANE), comes != Comes::Never);
            }
            let marked = world.marked();
            assert!(marked.contains(&LANES[0]) && marked.contains(&LANES[3]), "others' bits");

            // The successor sweeps, bits or not, before it sleeps.
            let there = !consumers[AT].is_empty();
            without_a_bit += u32::from(there && !marked.contains(&LANE));
            let mut found: Vec<u32> = Vec::new();
            for consumer in &mut consumers {
                found.extend(std::iter::from_fn(|| consumer.pop().ok()));
            }
            let expected = if sent.get() { vec![1, 7] } else { vec![1] };
            assert_eq!(found, expected, "the sweep finds everything");

            // And goes on: it cools what is empty, and is woken for what comes then.
            for lane in LANES {
                assert!(ready.cool(lane, || true));
            }
            let scene = park.asleep(|park| {
                producer.borrow_mut().push(8).unwrap();
                let fenced = published();
                ready.mark(LANE, &fenced);
                word.notifier().notify_after(park, &fenced);
            });
            assert!(word.waiter().wait(&scene, Deadline::NEVER, || !consumers[AT].is_empty()));
            assert!(park.time() < AWAKE.min(BOUND));
            assert_eq!(world.marked(), BTreeSet::from([LANE]));
            assert_eq!(follow_the_bits(ready, &mut consumers), [8]);
            cooled.is_some()
        });
        // The clearing; and, if the second look sees something and nobody has set it, the bit.
        let seen = matches!(comes, Comes::BeforeTheClearing | Comes::BetweenClearingAndLook);
        assert_eq!(deaths, 1 + u32::from(seen), "{comes:?}");
        // Why the sweep is needed.
        assert_eq!(without_a_bit, u32::from(comes == Comes::BeforeTheClearing), "{comes:?}");
    }
}
