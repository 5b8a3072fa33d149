//! Lanes: the words of one, each operation, random operations against an account, threads, and
//! memory that says anything.

#[path = "../common/mod.rs"]
mod common;
mod input;
mod threads;

use common::lane::{
    AREA_AT, BELL_AT, CAPACITY, LANES, LARGEST, Op, READY_AT, RING, STRIDE, lanes, memory, receiver,
};
use common::park::{BOUND, FakePark};
use common::{dead, owner};
use proptest::prelude::*;
use shm_primitives::lane::{Card, CardTooLong, Lanes};
use shm_primitives::ring::frame::{ReadError, WriteError};
use shm_primitives::table::TableFull;
use shm_primitives::wake::Deadline;

const CAMERA: u32 = 7;
const RADAR: u32 = 8;

fn ops(poke: u32) -> impl Strategy<Value = Vec<Op>> {
    let lane = || prop_oneof![3 => Just(0u8), 1 => 0..3u8];
    let sender = || prop_oneof![30 => 0..3u8, 1 => Just(u8::MAX)];
    let word = prop_oneof![
        2 => any::<u32>(),
        2 => 0..5u32,
        1 => (0..3u32).prop_map(|n| owner(100 + n).word()),
        1 => Just(receiver().word()),
        1 => (0..32u32).prop_map(|bit| 1 << bit),
    ];
    // What there is in the first 1024 words, and in the first words of rings and heads.
    let place = prop_oneof![
        3 => 0..100u16,
        3 => (0..LANES as u16, 0..64u16).prop_map(|(lane, word)| {
            ((AREA_AT + RING) as u16 + lane * STRIDE as u16) / 4 + word
        }),
        2 => (0..LANES as u16, 0..32u16)
            .prop_map(|(lane, word)| (AREA_AT as u16 + lane * STRIDE as u16) / 4 + word),
        2 => any::<u16>(),
    ];
    let op = prop_oneof![
        4 => sender().prop_map(|sender| Op::Reserve { sender }),
        6 => (lane(), any::<u8>()).prop_map(|(lane, card)| Op::Open { lane, card }),
        8 => (lane(), prop_oneof![0..64u16, any::<u16>()])
            .prop_map(|(lane, len)| Op::Push { lane, len }),
        3 => lane().prop_map(|lane| Op::Announce { lane }),
        2 => lane().prop_map(|lane| Op::Close { lane }),
        1 => lane().prop_map(|lane| Op::Leave { lane }),
        1 => sender().prop_map(|sender| Op::Die { sender }),
        2 => sender().prop_map(|sender| Op::Recover { sender }),
        5 => lane().prop_map(|lane| Op::Adopt { lane }),
        6 => (lane(), any::<u8>()).prop_map(|(lane, frames)| Op::Read { lane, frames }),
        1 => lane().prop_map(|lane| Op::AnnounceRoom { lane }),
        4 => lane().prop_map(|lane| Op::Finish { lane }),
        1 => lane().prop_map(|lane| Op::Drop { lane }),
    ];
    let poked = (place, word).prop_map(|(at, value)| Op::Poke { at, value });
    let op = prop_oneof![50 => op, poke => poked];
    proptest::collection::vec(op, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 250,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_frame_is_read_once(fill: u8, ops in ops(0)) {
        common::lane::run(fill, ops);
    }

    #[test]
    fn hostile_words(fill: u8, ops in ops(3)) {
        common::lane::run(fill, ops);
    }
}

/// The layout is an agreement between processes: word by word.
#[test]
fn the_words_of_a_lane() {
    let memory = memory(0xa5);
    let lanes = lanes(&memory);
    let park = FakePark::new();
    memory.set(READY_AT, 0);
    let first = lanes.reserve(owner(CAMERA)).unwrap();
    let second = lanes.reserve(owner(RADAR)).unwrap();
    assert_eq!((first.place(), second.place()), ((0, STRIDE), (STRIDE, STRIDE)));
    assert_eq!((lanes.place_of(2), lanes.place_of(3)), (Some((2 * STRIDE, STRIDE)), None));
    let before = memory.bytes();
    assert!(before[AREA_AT..].iter().all(|byte| *byte == 0xa5), "not touched while reserved");
    let slot = 64 + 64;
    assert_eq!([0, 4].map(|at| memory.get(slot + at)), [owner(RADAR).word(), 1 << 12]);

    let mut writer = second.open(b"radar").unwrap();
    // The owner, generation 1 and published, one change, the second copy of the entry.
    let words: Vec<_> = (0..7).map(|word| memory.get(slot + 4 * word)).collect();
    assert_eq!(words[..3], [owner(RADAR).word(), 1 << 12 | 1, words[2]]);
    assert_eq!(words[3 + 2 * (words[2] as usize & 1)..][..2], [owner(RADAR).word(), 0]);
    let at = AREA_AT + STRIDE;
    let bytes = memory.bytes();
    assert!(bytes[at..].starts_with(b"radar\0\0\0"));
    assert!(bytes[at + 5..at + 64].iter().all(|byte| *byte == 0), "the rest of the card");
    assert!(bytes[at + 64..at + RING] == before[at + 64..at + RING], "left as they were");
    let magic = u32::from_le_bytes(*b"SHMP");
    assert_eq!([0, 20, 40].map(|word| memory.get(at + RING + word)), [magic, 4096, words[0]]);
    assert_eq!(memory.get(at + 4096), 0, "an empty ring");
    assert!(bytes[at + 4096 + 8..] == before[at + 4096 + 8..], "pages that need not be there");
    assert!(bytes[AREA_AT..at] == before[AREA_AT..at], "the other lane, which is not open");

    writer.ring().push(b"12345678").unwrap();
    writer.announce(&park);
    assert_eq!(memory.get(READY_AT), 0b10);
    let mut reader = lanes.adopt(1).unwrap().unwrap();
    assert_eq!(memory.get(at + RING + 44), receiver().word());
    assert!(!reader.has_ended());
    drop(writer);
    assert_eq!(memory.get(slot), receiver().word());
    assert_eq!(memory.get(at + RING + 40), 0, "the writing end");
    assert!(reader.has_ended());
    assert_eq!(reader.ring().skip(2), 1);
    assert!(reader.finish().is_none());
    assert_eq!([0, 4].map(|at| memory.get(slot + at)), [0, 1 << 12]);
    first.open(b"camera").unwrap().close(&park);
    assert_eq!(memory.get(READY_AT), 0b11);
}

#[test]
fn send_and_leave() {
    let memory = memory(0);
    let (lanes, park) = (lanes(&memory), FakePark::new());
    assert_eq!((lanes.receiver(), lanes.capacity()), (receiver(), CAPACITY));
    assert_eq!(lanes.area().len(), LANES as usize * STRIDE);
    let mut writer = lanes.reserve(owner(CAMERA)).unwrap().open(b"camera").unwrap();
    assert_eq!((writer.lane(), writer.lanes().capacity()), (0, CAPACITY));
    assert!(lanes.any_from(owner(CAMERA)) && !lanes.any_from(owner(RADAR)));
    assert_eq!(writer.ring().max_payload(), LARGEST);
    writer.ring().push(b"one").unwrap();
    assert_eq!(lanes.ready().marked().count(), 0, "not announced");
    writer.announce(&park);
    assert_eq!(lanes.ready().marked().collect::<Vec<_>>(), [0]);
    let mut reader = lanes.adopt(0).unwrap().unwrap();
    assert_eq!((reader.lane(), reader.sender()), (0, Some(owner(CAMERA))));
    assert_eq!(reader.card(), &Card::new(b"camera").unwrap());
    assert_eq!(&*reader.ring().read().unwrap(), b"one", "dropped, so it is read again");
    let reader = reader.finish().expect("the lane goes on");
    writer.ring().push(b"two").unwrap();
    writer.close(&park);
    let mut reader = reader.finish().expect("there is something to read");
    assert!(lanes.any_from(owner(CAMERA)), "left, and not read");
    for content in [b"one", b"two"] {
        let frame = reader.ring().read().unwrap();
        assert_eq!(&*frame, content);
        frame.release();
    }
    assert_eq!(reader.ring().read().unwrap_err(), ReadError::Empty);
    assert!(reader.finish().is_none());
    assert!(!lanes.any_from(owner(CAMERA)));
    assert!(lanes.adopt(0).unwrap().is_none());
    assert_eq!(park.wakes(), 0, "nobody slept");
}

/// A lane that is not read: it is given back when its sender has left or is recovered, unread.
#[test]
fn discarded() {
    let memory = memory(0);
    let (lanes, park) = (lanes(&memory), FakePark::new());
    // SAFETY: nobody takes it up.
    let discard = || unsafe { lanes.discard(0, |lane| assert_eq!(lane, 0)) };
    for recovered in [false, true] {
        for adopted in [false, true] {
            assert!(!discard(), "nobody's");
            let reserved = lanes.reserve(owner(CAMERA)).unwrap();
            assert!(!discard(), "not open yet");
            let mut writer = reserved.open(b"camera").unwrap();
            writer.ring().push(b"unread").unwrap();
            assert!(adopted || !discard(), "its sender is there");
            let mut reader = adopted.then(|| lanes.adopt(0).unwrap().unwrap());
            if let Some(going_on) = reader.take() {
                reader = Some(going_on.discard_with(|_| panic!("it goes on")).expect("it goes on"));
            }
            if recovered {
                std::mem::forget(writer);
                assert_eq!(lanes.recover(dead(CAMERA)), Ok(1));
            } else {
                writer.close(&park);
            }
            let mut cleared = 0;
            match reader {
                Some(reader) => assert!(reader.discard_with(|_| cleared += 1).is_none()),
                None => {
                    memory.set(AREA_AT + RING, 0);
                    assert!(lanes.adopt(0).is_err(), "no ring");
                    // SAFETY: as above.
                    assert!(unsafe { lanes.discard(0, |_| cleared += 1) });
                }
            }
            assert_eq!((cleared, lanes.claimed().count()), (1, 0));
        }
    }
    // SAFETY: as above.
    assert!(!unsafe { lanes.discard(LANES, |_| ()) }, "there is none");
}

#[test]
fn all_lanes_taken() {
    let memory = memory(0);
    let lanes = lanes(&memory);
    let held: Vec<_> = (0..LANES).map(|_| lanes.reserve(owner(CAMERA)).unwrap()).collect();
    let full = TableFull { slots: LANES };
    assert_eq!(lanes.reserve(owner(RADAR)).map(drop), Err(full));
    assert!(lanes.adopt(0).unwrap().is_none(), "not opened");
    assert!(!lanes.any_from(owner(CAMERA)), "reserved alone does not count");
    assert_eq!(lanes.claimed().collect::<Vec<_>>(), [0, 1, 2]);
    drop(held);
    assert_eq!(lanes.claimed().count(), 0);
    assert_eq!(lanes.reserve(receiver()).map(drop), Err(full), "a lane to itself");
}

/// A card that is too long gives the lane back untouched.
#[test]
fn cards() {
    let memory = memory(0xa5);
    let lanes = lanes(&memory);
    let error = lanes.reserve(owner(CAMERA)).unwrap().open(&[7; 65]).map(drop).unwrap_err();
    assert_eq!(error.to_string(), CardTooLong { found: 65 }.to_string());
    assert!(memory.bytes()[AREA_AT..].iter().all(|byte| *byte == 0xa5));
    assert_eq!(lanes.claimed().count(), 0);
    let longest: Vec<u8> = (1..=64).collect();
    for card in [&longest[..], &longest[..63], b"a\0b", b""] {
        let writer = lanes.reserve(owner(CAMERA)).unwrap().open(card).unwrap();
        let reader = lanes.adopt(0).unwrap().unwrap();
        assert_eq!(reader.card().as_bytes(), card);
        assert!(reader.card().to_field().starts_with(card));
        drop(writer);
        assert!(reader.finish().is_none());
    }
    assert_eq!(format!("{:?}", Card::new(b"a\n").unwrap()), "Card(\"a\\n\")");
}

/// A full ring: the sender sleeps until the receiver has made room and says so.
#[test]
fn waits_for_room() {
    let memory = memory(0);
    let (lanes, park) = (lanes(&memory), FakePark::new());
    let mut writer = lanes.reserve(owner(CAMERA)).unwrap().open(b"").unwrap();
    let mut reader = lanes.adopt(0).unwrap().unwrap();
    while writer.ring().push(&[1; LARGEST]).is_ok() {}
    assert_eq!(writer.ring().push(&[2; LARGEST]), Err(WriteError::Full));
    assert!(!reader.room_is_wanted());
    let mut waiter = writer.room();
    {
        let scene = park.asleep(|park| {
            assert!(reader.room_is_wanted());
            while reader.ring().skip(1) == 1 {}
            reader.announce_room(park);
            assert!(!reader.room_is_wanted(), "answered");
        });
        let pushed = writer.ring().push_wait(&[2; LARGEST], &mut waiter, &scene, Deadline::NEVER);
        assert_eq!(pushed, Ok(()));
    }
    assert_eq!((park.sleeps(), park.wakes()), (1, 1));
    assert!(park.time() < BOUND, "slept to the end");
    assert_eq!(reader.ring().read().unwrap()[0], 2);
}

/// A sleeping receiver is woken by a frame, by a lane that it does not have yet, and by an end.
#[test]
fn wakes_the_receiver() {
    let memory = memory(0);
    let (lanes, park) = (lanes(&memory), FakePark::new());
    let mut waiter = lanes.bell().waiter();
    let mut wait =
        |what: &str, happens: &mut dyn FnMut(&FakePark), ready: &mut dyn FnMut() -> bool| {
            let (time, sleeps) = (park.time(), park.sleeps());
            let scene = park.asleep(|park| happens(park));
            assert!(waiter.wait(&scene, Deadline::NEVER, ready), "{what}");
            drop(scene);
            assert_eq!(park.sleeps() - sleeps, 1, "{what}");
            assert!(park.time() - time < BOUND, "{what}: slept to the end");
        };
    let mut writer = None;
    wait(
        "open",
        &mut |park| {
            let mut opened = lanes.reserve(owner(CAMERA)).unwrap().open(b"camera").unwrap();
            opened.ring().push(b"one").unwrap();
            opened.announce(park);
            writer = Some(opened);
        },
        &mut || lanes.claimed().count() == 1,
    );
    let (mut writer, mut reader) = (writer.unwrap(), lanes.adopt(0).unwrap().unwrap());
    assert_eq!(reader.ring().skip(2), 1);
    wait(
        "frame",
        &mut |park| {
            writer.ring().push(b"two").unwrap();
            writer.announce(park);
        },
        &mut || !reader.ring().is_empty(),
    );
    let mut writer = Some(writer);
    wait("close", &mut |park| writer.take().unwrap().close(park), &mut || reader.has_ended());
}

/// A receiver that never sleeps is not woken while its lane's bit is set; the bit is set all the
/// same.
#[test]
fn a_receiver_that_never_sleeps() {
    let memory = memory(0);
    let (lanes, park) = (lanes(&memory).sleepless(true), FakePark::new());
    assert!(lanes.is_sleepless());
    let mut writer = lanes.reserve(owner(CAMERA)).unwrap().open(b"camera").unwrap();
    let mut reader = lanes.adopt(0).unwrap().unwrap();
    // As if it slept nevertheless: that is what a wake would answer.
    memory.set(BELL_AT + 4, 1);
    for wakes in [1, 1] {
        writer.ring().push(b"one").unwrap();
        writer.announce(&park);
        assert!(lanes.ready().is_marked(0));
        assert_eq!(park.wakes(), wakes, "the bit was clear, then set");
    }
    assert_eq!(reader.ring().skip(3), 2);
    assert!(lanes.ready().cool(0, || reader.ring().is_empty()));
    writer.close(&park);
    assert!(lanes.ready().is_marked(0), "an end is announced too");
    assert!(reader.finish().is_none());
}

/// What a dead sender had: opened lanes are read to their ends, others are nobody's at once.
#[test]
fn recovers_the_dead() {
    let memory = memory(0);
    let (lanes, park) = (lanes(&memory), FakePark::new());
    std::mem::forget(lanes.reserve(owner(CAMERA)).unwrap());
    let mut writer = lanes.reserve(owner(CAMERA)).unwrap().open(b"camera").unwrap();
    writer.ring().push(b"last").unwrap();
    std::mem::forget(writer);
    let mut living = lanes.reserve(owner(RADAR)).unwrap().open(b"radar").unwrap();
    let reader = lanes.adopt(1).unwrap().unwrap();
    assert!(!reader.has_ended());
    assert_eq!(lanes.recover(dead(CAMERA)), Ok(1));
    assert_eq!(lanes.claimed().collect::<Vec<_>>(), [1, 2]);
    assert!(reader.has_ended(), "also for who had taken it up before");
    assert_eq!(reader.sender(), Some(owner(CAMERA)));
    assert!(lanes.any_from(owner(CAMERA)));
    let mut reader = reader.finish().expect("not read to the end");
    assert_eq!(&*reader.ring().read().unwrap(), b"last");
    reader.ring().skip(1);
    assert!(reader.finish().is_none());
    assert_eq!(lanes.recover(dead(CAMERA)), Ok(0), "nothing more");
    // The living one is not disturbed.
    living.ring().push(b"on").unwrap();
    living.close(&park);
    let mut reader = lanes.adopt(2).unwrap().unwrap();
    assert_eq!(reader.ring().skip(2), 1);
    assert!(reader.finish().is_none());
}

/// A receiver that drops its end takes the lane up again, where it was.
#[test]
fn taken_up_again() {
    let memory = memory(0);
    let lanes = lanes(&memory);
    let mut writer = lanes.reserve(owner(CAMERA)).unwrap().open(b"camera").unwrap();
    for n in 0..3u8 {
        writer.ring().push(&[n]).unwrap();
    }
    for n in 0..3u8 {
        let mut reader = lanes.adopt(0).unwrap().unwrap();
        let frame = reader.ring().read().unwrap();
        assert_eq!(*frame, [n]);
        frame.release();
    }
    assert!(lanes.adopt(0).unwrap().unwrap().ring().is_empty());
}

#[test]
fn sizes() {
    assert_eq!(Lanes::area_size(2, 4096), Some(2 * 8192));
    assert_eq!(Lanes::area_size(1, 1 << 30), Some((1 << 30) + 4096));
    for capacity in [0, 2048, 4095, 5000, 1 << 31] {
        assert_eq!(Lanes::area_size(1, capacity), None, "{capacity}");
    }
    assert_eq!(Lanes::area_size(0, 4096), Some(0));
    if usize::BITS == 32 {
        assert_eq!(Lanes::area_size(4, 1 << 30), None);
    }
    assert_eq!(BELL_AT % 64, 0);
}
