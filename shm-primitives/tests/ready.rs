//! The ready bitmap against a set, and a receiver of many lanes.

mod common;

use common::Patience;
use common::memory::Memory;
use common::park::{CondvarPark, Unbounded, hasty_clock};
use proptest::prelude::*;
use shm_primitives::ready::ReadyBitmap;
use shm_primitives::ring::spsc::SpscRing;
use shm_primitives::wake::{Deadline, Park, SpinPark, WakeWord, published};
use std::collections::BTreeSet;
use std::thread;

#[derive(Clone, Debug)]
enum Op {
    Mark(usize),
    Cool {
        lane: usize,
        quiet: bool,
    },
    /// Somebody else writes a word.
    Overwrite {
        word: usize,
        value: u32,
    },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    // Also the first lanes that there is no bit for, and one far outside.
    let lane = || prop_oneof![20 => 0..110usize, 1 => Just(usize::MAX)];
    let op = prop_oneof![
        5 => lane().prop_map(Op::Mark),
        5 => (lane(), any::<bool>()).prop_map(|(lane, quiet)| Op::Cool { lane, quiet }),
        1 => (0..3usize, any::<u32>()).prop_map(|(word, value)| Op::Overwrite { word, value }),
    ];
    proptest::collection::vec(op, 0..300)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_a_set(lanes in 0..97usize, ops in ops()) {
        let size = ReadyBitmap::words_for(lanes) * 4;
        let memory = Memory::new(size, 0);
        let ready = ReadyBitmap::at(&memory.region(), lanes).unwrap();
        // The bits of the last word beyond the lanes are nobody's, whatever they say.
        let room = lanes;
        prop_assert_eq!(ready.lanes(), room);
        let mut set = BTreeSet::new();
        for op in ops {
            match op {
                Op::Mark(lane) => {
                    ready.mark(lane, &published());
                    if lane < room {
                        set.insert(lane);
                    }
                }
                Op::Cool { lane, quiet } => {
                    let mut looks = 0;
                    let cooled = ready.cool(lane, || {
                        looks += 1;
                        assert!(!ready.is_marked(lane), "the second look comes after the clearing");
                        quiet
                    });
                    prop_assert_eq!((cooled, looks), (quiet, 1));
                    set.remove(&lane);
                    if !quiet && lane < room {
                        set.insert(lane);
                    }
                }
                Op::Overwrite { word, value } if word * 4 < size => {
                    memory.set(word * 4, value);
                    set.retain(|lane| lane / 32 != word);
                    set.extend((0..32).filter(|bit| value >> bit & 1 == 1).map(|bit| word * 32 + bit));
                    set.retain(|lane| *lane < room);
                }
                Op::Overwrite { .. } => {}
            }
            prop_assert!(ready.marked().eq(set.iter().copied()), "{:?}", set);
            for lane in (0..room + 40).chain([usize::MAX]) {
                prop_assert_eq!(ready.is_marked(lane), set.contains(&lane));
            }
        }
        memory.check_guards();
    }
}

#[test]
fn at_a_region() {
    let memory = Memory::new(12, 0xff);
    assert!(ReadyBitmap::at(&memory.region(), 97).is_err(), "a word too few");
    assert!(ReadyBitmap::at(&memory.part(2, 10), 32).is_err(), "misaligned");
    assert!(ReadyBitmap::at(&memory.region(), usize::MAX).is_err());
    let ready = ReadyBitmap::at(&memory.part(4, 8), 33).unwrap();
    assert_eq!((ready.lanes(), ready.marked().count()), (33, 33));
    let none = ReadyBitmap::at(&memory.part(0, 0), 0).unwrap();
    assert_eq!((none.lanes(), none.marked().next()), (0, None));
}

/// While the bit is set, marking writes nothing.
#[test]
fn marking_a_hot_lane_only_loads() {
    let memory = Memory::new(4, 0);
    let ready = ReadyBitmap::at(&memory.region(), 32).unwrap();
    let fenced = published();
    ready.mark(3, &fenced);
    assert_eq!(memory.get(0), 1 << 3);
    ready.mark(3, &fenced);
    ready.mark(5, &fenced);
    assert_eq!(memory.get(0), 1 << 3 | 1 << 5);
}

/// Many senders, one receiver that follows the bits, cools every lane it finds empty, and
/// sweeps all lanes before it sleeps. Its sleeps end by a wake alone.
#[test]
fn a_receiver_of_many_lanes() {
    const LANES: [usize; 4] = [0, 31, 32, 70];
    let messages = if cfg!(target_arch = "x86_64") { 5000 } else { 500 };
    let receive = |park: &(dyn Park + Sync)| {
        let mut rings = [const { SpscRing::<u32, 4>::new() }; LANES.len()];
        let (mut producers, mut consumers) = (Vec::new(), Vec::new());
        for ring in &mut rings {
            let (producer, consumer) = ring.split();
            producers.push(producer);
            consumers.push(consumer);
        }
        let memory = Memory::new(12, 0);
        let ready = ReadyBitmap::at(&memory.region(), 71).unwrap();
        let (word, patience) = (&WakeWord::new(), &Patience::new());
        thread::scope(|scope| {
            for (mut producer, lane) in producers.into_iter().zip(LANES) {
                scope.spawn(move || {
                    let mut notifier = word.shared_notifier();
                    for n in 0..messages {
                        while producer.push(n).is_err() {
                            patience.wait();
                        }
                        let fenced = published();
                        ready.mark(lane, &fenced);
                        notifier.notify_after(&park, &fenced);
                    }
                });
            }
            let mut waiter = word.waiter();
            let mut next = [0; LANES.len()];
            while next != [messages; LANES.len()] {
                let came = waiter.wait(&park, Deadline::NEVER, || {
                    ready.marked().next().is_some()
                        || consumers.iter_mut().any(|consumer| !consumer.is_empty())
                });
                assert!(came);
                let mut found = false;
                for lane in ready.marked() {
                    let at = LANES.iter().position(|&known| known == lane).expect("a known lane");
                    let consumer = &mut consumers[at];
                    while let Ok(n) = consumer.pop() {
                        assert_eq!(n, next[at]);
                        next[at] += 1;
                        found = true;
                    }
                    ready.cool(lane, || consumer.is_empty());
                }
                if !found {
                    patience.wait();
                }
            }
            // What was sent has its bit, or was seen: nothing is left without.
            for consumer in &mut consumers {
                assert!(consumer.is_empty());
            }
        });
    };
    let patience = Patience::new();
    receive(&Unbounded(CondvarPark::new(patience.clone())));
    receive(&Unbounded(SpinPark::new(hasty_clock(patience))));
}
