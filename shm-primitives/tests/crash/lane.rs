//! Lanes: a sender dies at any store of all it ever does, the receiver likewise; and whoever
//! creates a node's segment.

use crate::common::lane::{BELL_AT, CAPACITY, LANES, LARGEST, READY_AT, lanes, memory, receiver};
use crate::common::memory::Memory;
use crate::common::park::{BOUND, FakePark};
use crate::common::{dead, owner};
use crate::harness::{at_every_step, die};
use shm_primitives::lane::{LaneReader, Lanes};
use shm_primitives::layout::node::{NodeLayout, Shape};
use shm_primitives::ring::frame::WriteError;
use shm_primitives::wake::{Deadline, Park};
use std::cell::Cell;
use std::mem::forget;

/// Who dies; who has a lane all the time; who takes the dead one's lane afterwards.
const MORTAL: u32 = 1;
const BYSTANDER: u32 = 2;
const NEXT: u32 = 3;

/// Stores of parts of operations.
const RESERVE: u32 = 2; // owner, version
const CARD: u32 = 16;
const RING: u32 = 2 + 9 + 2 + 4 + 3 + 1; // the magic twice, facts, owners, reserved; positions, first word
const CLAIM: u32 = 1;
const PUBLISH: u32 = 2 + 1 + 1; // the entry, selector, version
const OPEN: u32 = CARD + RING + CLAIM + PUBLISH;
const PUSH: u32 = 4; // the next word, the payload, the frame's word
const MARK: u32 = 1;
const WAKE: u32 = 2; // the sequence, the wake
const LEAVE: u32 = 2; // the end, the slot

/// What the mortal one has done, as it knows.
#[derive(Default)]
struct Done {
    reserved: Cell<bool>,
    opened: Cell<bool>,
    frames: Cell<u8>,
}

/// All that a sender ever does.
fn live(lanes: &Lanes<'_>, park: &impl Park, done: &Done) {
    let reserved = lanes.reserve(owner(MORTAL)).unwrap();
    done.reserved.set(true);
    let mut writer = reserved.open(b"mortal").unwrap();
    done.opened.set(true);
    for n in 1..=3 {
        writer.ring().push(&[n; 100]).unwrap();
        done.frames.set(n);
        writer.announce(park);
    }
    writer.close(park);
}

/// Reads all frames there are; how many.
fn read(reader: &mut LaneReader<'_>) -> u8 {
    let mut frames = 0;
    while let Ok(frame) = reader.ring().read() {
        frames += 1;
        assert_eq!(*frame, [frames; 100]);
        frame.release();
    }
    frames
}

/// Another sender has the lane as if it were new.
fn check_usable(lanes: &Lanes<'_>, park: &FakePark) {
    let mut next = lanes.reserve(owner(NEXT)).unwrap().open(b"next").unwrap();
    assert_eq!(next.lane(), 0);
    let mut reader = lanes.adopt(0).unwrap().unwrap();
    assert_eq!((reader.card().as_bytes(), reader.sender()), (&b"next"[..], Some(owner(NEXT))));
    assert!(reader.ring().is_empty(), "a frame of the dead one");
    for n in 1..=5 {
        next.ring().push(&[n; 100]).unwrap();
    }
    next.close(park);
    assert_eq!(read(&mut reader), 5);
    assert!(reader.finish().is_none());
}

/// Whether any lane but the bystander's has something: what the receiver sweeps for. Lanes that
/// it does not have are taken up.
fn sweep<'a>(lanes: &Lanes<'a>, mine: &mut Option<LaneReader<'a>>) -> bool {
    if mine.is_none() {
        *mine = lanes.adopt(0).unwrap();
    }
    mine.as_mut().is_some_and(|lane| !lane.ring().is_empty() || lane.has_ended())
}

/// The sender dies while the receiver is awake or asleep, in a lane that is new, or was used.
#[test]
fn sender() {
    for used in [false, true] {
        for asleep in [false, true] {
            let what = format!("a sender's life, lane used: {used}, receiver asleep: {asleep}");
            // Deaths between a frame and what tells of it: its bit, its wake.
            let (mut without_a_bit, mut without_a_wake) = (0, 0);
            let deaths = at_every_step(&what, |budget| {
                let memory = memory(0xa5);
                let (lanes, park) = (lanes(&memory), FakePark::new());
                for at in [READY_AT, BELL_AT, BELL_AT + 4] {
                    memory.set(at, 0);
                }
                if used {
                    let mut former = lanes.reserve(owner(9)).unwrap().open(b"former").unwrap();
                    while former.ring().push(&[9; LARGEST]).is_ok() {}
                    former.close(&park);
                    let mut reader = lanes.adopt(0).unwrap().unwrap();
                    while reader.ring().skip(1) == 1 {}
                    assert!(reader.finish().is_none());
                    lanes.ready().cool(0, || true);
                }
                // In the second lane, so that the mortal one gets the first.
                let first = lanes.reserve(owner(9)).unwrap();
                let second = lanes.reserve(owner(BYSTANDER)).unwrap();
                drop(first);
                let mut bystander = second.open(b"bystander").unwrap();
                assert_eq!(bystander.lane(), 1);
                bystander.ring().push(&[77]).unwrap();
                let mut other = lanes.adopt(bystander.lane()).unwrap().unwrap();
                let done = Done::default();
                let survived = Cell::new(false);
                let mut mine = None;
                if asleep {
                    let mut waiter = lanes.bell().waiter();
                    let scene = park.asleep(|park| {
                        survived.set(die(budget, || live(&lanes, park, &done)).is_some());
                    });
                    // Long enough for one sleep after that.
                    let deadline = Deadline::at(3 * BOUND);
                    let came = waiter.wait(&scene, deadline, || sweep(&lanes, &mut mine));
                    assert_eq!(came, mine.as_mut().is_some_and(|lane| !lane.ring().is_empty()));
                    if came {
                        assert!(park.time() < 2 * BOUND, "slept through a frame");
                        without_a_wake += u32::from(park.wakes() == 0);
                    }
                    assert!(!survived.get() || came && park.time() < BOUND);
                } else {
                    survived.set(die(budget, || live(&lanes, &park, &done)).is_some());
                }
                let survived = survived.get();
                let published = lanes.table().read(0).unwrap().is_some();
                let marked = lanes.ready().is_marked(0);
                assert!(!survived || marked, "survived without its bit");
                assert!(published || !done.opened.get(), "opened and not to be seen");
                let left = lanes.table().owner(0) == Some(receiver());

                // Whoever convicts it.
                let opened = lanes.recover(dead(MORTAL)).unwrap();
                assert_eq!(opened, u32::from(published && !left));
                assert_eq!(lanes.table().owner(0), published.then_some(receiver()));
                assert_eq!(lanes.any_from(owner(MORTAL)), published);
                if mine.is_none() {
                    mine = lanes.adopt(0).unwrap();
                }
                assert_eq!(mine.is_some(), published);
                if let Some(mut reader) = mine {
                    assert_eq!(reader.card().as_bytes(), b"mortal");
                    assert!(reader.has_ended());
                    let frames = read(&mut reader);
                    // That in hand may be there.
                    assert!(frames == done.frames.get() || frames == done.frames.get() + 1);
                    assert!(!survived || frames == 3);
                    without_a_bit += u32::from(frames > 0 && !marked);
                    assert!(reader.finish().is_none(), "read to its end, and not finished");
                }
                assert_eq!(lanes.recover(dead(MORTAL)), Ok(0), "nothing is left");
                assert!(!lanes.any_from(owner(MORTAL)));
                check_usable(&lanes, &park);

                // The others were not disturbed.
                bystander.ring().push(&[78]).unwrap();
                bystander.close(&park);
                for n in [77, 78] {
                    let frame = other.ring().read().unwrap();
                    assert_eq!(*frame, [n]);
                    frame.release();
                }
                assert!(other.finish().is_none());
                assert_eq!(lanes.claimed().count(), 0, "a lane is left");
                survived
            });
            let wake = if asleep { WAKE } else { 0 };
            assert_eq!(deaths, RESERVE + OPEN + 3 * PUSH + MARK + wake + LEAVE, "{what}");
            // Why receivers sweep, and sleep no longer than 100 ms in one piece.
            assert_eq!(without_a_bit, 1);
            assert_eq!(without_a_wake, if asleep { 3 } else { 0 });
        }
    }
}

/// A sender that waits for room dies there: what it had written is read.
#[test]
fn waiting_sender() {
    let deaths = at_every_step("push_wait", |budget| {
        let memory = memory(0);
        let (lanes, park) = (lanes(&memory), FakePark::new());
        let mut writer = lanes.reserve(owner(MORTAL)).unwrap().open(b"mortal").unwrap();
        let mut reader = lanes.adopt(0).unwrap().unwrap();
        while writer.ring().push(&[1; LARGEST]).is_ok() {}
        // The receiver is another thread, whose steps are its own.
        let scene = park.asleep(|park| {
            std::thread::scope(|scope| {
                let reader = &mut reader;
                let woken = scope.spawn(move || {
                    while reader.ring().skip(1) == 1 {}
                    let park = FakePark::new();
                    reader.announce_room(&park);
                    park.wakes()
                });
                for _ in 0..woken.join().unwrap() {
                    park.wake(&shm_primitives::sync::AtomicU32::new(0));
                }
            });
        });
        let mut waiter = writer.room();
        let survived = die(budget, move || {
            let pushed =
                writer.ring().push_wait(&[2; LARGEST], &mut waiter, &scene, Deadline::NEVER);
            assert_eq!(pushed, Ok(()));
            forget(writer);
        });
        assert_eq!(lanes.recover(dead(MORTAL)), Ok(1));
        while reader.ring().skip(1) == 1 {}
        assert!(reader.finish().is_none());
        // An odd epoch that it left does not keep the next one asleep.
        let mut next = lanes.reserve(owner(NEXT)).unwrap().open(b"next").unwrap();
        let mut reader = lanes.adopt(0).unwrap().unwrap();
        while next.ring().push(&[3; LARGEST]).is_ok() {}
        let (time, sleeps) = (park.time(), park.sleeps());
        let scene = park.asleep(|park| {
            while reader.ring().skip(1) == 1 {}
            reader.announce_room(park);
        });
        let mut waiter = next.room();
        let pushed = next.ring().push_wait(&[4; LARGEST], &mut waiter, &scene, Deadline::NEVER);
        assert_eq!(pushed, Ok(()));
        drop(scene);
        assert_eq!(park.sleeps() - sleeps, 1);
        assert!(park.time() - time < BOUND, "slept to the end");
        survived.is_some()
    });
    assert!(deaths >= 3, "{deaths}");
}

/// The receiver dies, and its lanes with it: senders that do not know yet go on until their
/// lanes are full, and leave.
#[test]
fn dying_receiver() {
    let deaths = at_every_step("adopt, read, finish", |budget| {
        let memory = memory(0xa5);
        let (lanes, park) = (lanes(&memory), FakePark::new());
        let mut writer = lanes.reserve(owner(MORTAL)).unwrap().open(b"mortal").unwrap();
        writer.ring().push(&[1; 100]).unwrap();
        writer.close(&park);
        let mut living = lanes.reserve(owner(NEXT)).unwrap().open(b"next").unwrap();
        living.ring().push(&[1; 100]).unwrap();
        living.announce(&park);
        let survived = die(budget, || {
            lanes.ready().marked().for_each(|lane| {
                lanes.ready().cool(lane, || false);
            });
            let mut readers = [0, 1].map(|lane| lanes.adopt(lane).unwrap().unwrap());
            for reader in &mut readers {
                assert_eq!(read(reader), 1);
                reader.announce_room(&park);
            }
            let [ended, goes_on] = readers;
            assert!(ended.finish().is_none());
            drop(goes_on.finish().unwrap());
        });
        let mut frames = 0;
        loop {
            match living.ring().push(&[2; LARGEST]) {
                Ok(()) => frames += 1,
                Err(error) => break assert_eq!(error, WriteError::Full),
            }
        }
        assert!(frames > 0 && frames <= CAPACITY as usize / LARGEST);
        living.announce(&park);
        // A sender that comes now gets what is nobody's.
        let finished = lanes.table().owner(0).is_none();
        assert!(finished || survived.is_none());
        let next = lanes.reserve(owner(9)).unwrap();
        assert_eq!(next.lane(), if finished { 0 } else { 2 });
        next.open(b"late").unwrap().close(&park);
        living.close(&park);
        survived.is_some()
    });
    assert!(deaths > 10, "{deaths}");
}

/// Half a node's segment is none, whatever stood there before; creating it again makes it whole.
#[test]
fn creation() {
    const SHAPE: Shape = Shape::new(LANES, CAPACITY);
    fn create(memory: &Memory, node: u32) -> NodeLayout<'_> {
        // SAFETY: nobody else creates anything in this memory.
        let created = unsafe { NodeLayout::init_at(memory.region(), SHAPE, owner(node)) };
        let (layout, control) = created.unwrap();
        forget(control);
        layout
    }
    let attach = |memory: &Memory| {
        // SAFETY: all is on one thread.
        unsafe { NodeLayout::attach(memory.region()) }.map(|layout| layout.node())
    };
    for over_an_old_one in [false, true] {
        let deaths = at_every_step("init_at", |budget| {
            let memory = Memory::new(SHAPE.required_size().unwrap(), 0x5a);
            let mut old = None;
            if over_an_old_one {
                let layout = create(&memory, NEXT);
                forget(layout.lanes().reserve(owner(9)).unwrap().open(b"old").unwrap());
                old = Some(layout.segment().epoch());
            }
            let survived = die(budget, || create(&memory, MORTAL)).is_some();
            match attach(&memory) {
                Ok(node) if survived => assert_eq!(node, owner(MORTAL)),
                Ok(node) => assert!(node == owner(NEXT) && budget == 0 && over_an_old_one),
                Err(_) => assert!(!survived),
            }
            let layout = create(&memory, BYSTANDER);
            assert_ne!(Some(layout.segment().epoch()), old);
            assert_eq!(layout.lanes().claimed().count(), 0, "lanes of the former");
            let mut writer = layout.lanes().reserve(owner(9)).unwrap().open(b"new").unwrap();
            writer.ring().push(&[1; 100]).unwrap();
            assert_eq!(read(&mut layout.lanes().adopt(0).unwrap().unwrap()), 1);
            survived
        });
        assert!(deaths > 40, "{deaths}");
    }
}
