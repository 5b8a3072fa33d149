//! Senders that die at any store, while the receiver takes up, reads, finishes or goes to sleep.
//!
//! The receiver's part beside the mortal thread is one pass; it goes on after the join, where
//! it has the proof. A lane has one frame or two: what several add is the ring's own matter.

use super::{Mortal, at_every_step};
use crate::harness::{check, check_eq, models, owner};
use crate::models::lane::{self as model, FIRST, Fixture, SECOND, adopt, fixture, push, read};
use loom::thread;
use shm_primitives::identity::{Dead, OwnerId};
use shm_primitives::lane::{LaneReader, LaneWriter, Lanes};
use shm_primitives::wake::Deadline;

/// Stores of parts of operations; a payload counts twice.
const OPEN: u32 = 16 + 21 + 1 + 4;
const PUSH: u32 = 4;
const ANNOUNCE: u32 = 1;
const LEAVE: u32 = 2;

/// The proof that the first sender is dead.
fn dead() -> Dead<OwnerId> {
    // SAFETY: owners here are names given to handles; each model joins the thread that had the
    // handle before it calls this.
    unsafe { Dead::assume(owner(FIRST)) }
}

/// A thread in which the first sender does `operate` with what it has; whether it survives.
fn mortal<T: Send + 'static>(
    mortal: &Mortal,
    has: T,
    operate: impl FnOnce(T) + Send + 'static,
) -> thread::JoinHandle<bool> {
    let mortal = mortal.clone();
    thread::spawn(move || mortal.live(move || operate(has)).is_some())
}

/// The receiver, which has read the frames 1 to `already` of lane 0, has the proof of the death
/// and does what is left: reads all that was published, at most `most` frames, and finishes.
/// Then the lane is as good as new. Answers how many frames there were.
fn recover(
    lanes: &Lanes<'static>,
    fixture: &Fixture,
    reader: Option<LaneReader<'static>>,
    already: u32,
    most: u32,
) -> u32 {
    let opened = lanes.recover(dead());
    check!(opened.is_ok_and(|opened| opened <= 1), "recovered {opened:?}");
    let mut frames = already;
    if let Some(mut reader) = reader.or_else(|| adopt(lanes, 0)) {
        check_eq!(reader.sender(), Some(owner(FIRST)), "sender");
        check!(reader.has_ended(), "recovered, and goes on");
        while let Some(n) = read(&mut reader) {
            frames += 1;
            check_eq!(n, frames, "order");
        }
        check!(reader.finish().is_none(), "ended and read, and not finished");
    }
    check!(frames <= most, "{frames} frames");
    check_usable(lanes, fixture);
    frames
}

/// Nobody has the only lane, and a second sender can.
fn check_usable(lanes: &Lanes<'static>, fixture: &Fixture) {
    check_eq!(lanes.table().owner(0), None, "left behind");
    check!(!lanes.any_from(owner(FIRST)), "something of the first is left");
    let mut writer = model::open(lanes, SECOND, 2);
    push(&mut writer, 9);
    let mut reader = adopt(lanes, 0).unwrap();
    check_eq!(reader.sender(), Some(owner(SECOND)), "sender");
    check_eq!(read(&mut reader), Some(9), "the second sender's");
    check_eq!(read(&mut reader), None, "nothing of the first's");
    writer.close(&fixture.park);
    check!(reader.finish().is_none(), "ended and read, and not finished");
}

fn send(mut writer: LaneWriter<'static>, fixture: &'static Fixture, frames: u32) {
    for n in 1..=frames {
        push(&mut writer, n);
        writer.announce(&fixture.park);
    }
    writer.close(&fixture.park);
}

models! {
    /// A sender that opens a lane and sends, while the receiver looks for it.
    fn crash_lane_open() {
        at_every_step(OPEN + PUSH + ANNOUNCE + LEAVE, |life| {
            let (_memory, fixture, lanes) = fixture(1);
            let reserved = lanes.reserve(owner(FIRST)).unwrap();
            let dying = mortal(life, reserved, move |reserved| {
                send(reserved.open(&[1]).unwrap(), fixture, 1);
            });
            let mut reader = adopt(&lanes, 0);
            let seen = reader.as_mut().and_then(read);
            check!(seen.is_none() || seen == Some(1), "read {seen:?}");
            let survived = dying.join().unwrap();
            let frames = recover(&lanes, fixture, reader, seen.map_or(0, |_| 1), 1);
            check!(!survived || frames == 1, "lost");
        });
    }

    /// A sender that sends and leaves, while the receiver reads and finishes.
    fn crash_lane_leave() {
        at_every_step(2 * PUSH + ANNOUNCE + LEAVE, |life| {
            let (_memory, fixture, lanes) = fixture(1);
            let writer = model::open(&lanes, FIRST, 1);
            let mut reader = adopt(&lanes, 0).unwrap();
            let dying = mortal(life, writer, move |writer| send(writer, fixture, 2));
            let mut frames = 0;
            while let Some(n) = read(&mut reader) {
                frames += 1;
                check_eq!(n, frames, "order");
            }
            let left = reader.finish();
            let survived = dying.join().unwrap();
            match left {
                Some(reader) => {
                    let frames = recover(&lanes, fixture, Some(reader), frames, 2);
                    check!(!survived || frames == 2, "lost");
                }
                None => {
                    // It may have died after it had left.
                    check_eq!(frames, 2, "frames read when the lane was finished");
                    check_eq!(lanes.recover(dead()), Ok(0), "left to be recovered");
                    check_usable(&lanes, fixture);
                }
            }
        });
    }

    /// A sender that looks for a lane, while the receiver finishes the only one.
    fn crash_lane_take_again() {
        at_every_step(2 + OPEN + PUSH, |life| {
            let (_memory, fixture, lanes) = fixture(1);
            let mut former = model::open(&lanes, SECOND, 2);
            push(&mut former, 8);
            former.close(&fixture.park);
            let mut reader = adopt(&lanes, 0).unwrap();
            let dying = mortal(life, lanes.clone(), move |lanes| {
                let Ok(reserved) = lanes.reserve(owner(FIRST)) else { return };
                send(reserved.open(&[1]).unwrap(), fixture, 1);
            });
            check_eq!(read(&mut reader), Some(8), "the former sender's");
            check!(reader.finish().is_none(), "ended and read, and not finished");
            dying.join().unwrap();
            recover(&lanes, fixture, None, 0, 1);
        });
    }

    /// A sender that announces a frame, while the receiver goes to sleep. If it dies before it
    /// has waked that one, the sleep ends by its bound, and the frame is found then.
    fn crash_lane_announce() {
        at_every_step(PUSH + ANNOUNCE + LEAVE, |life| {
            let (_memory, fixture, lanes) = fixture(1);
            let writer = model::open(&lanes, FIRST, 1);
            let mut reader = adopt(&lanes, 0).unwrap();
            let mut waiter = lanes.bell().waiter();
            let receiving = thread::spawn(move || {
                let came = waiter.wait(&fixture.park, Deadline::at(1), || {
                    !reader.ring().is_empty() || reader.has_ended()
                });
                (came, reader)
            });
            let survived = life.live(move || send(writer, fixture, 1)).is_some();
            fixture.park.expire();
            let (came, mut reader) = receiving.join().unwrap();
            check!(!survived || came && !fixture.park.overslept(), "the wake is lost");
            let seen = read(&mut reader);
            check!(came || seen.is_none(), "slept through a frame");
            let frames = recover(&lanes, fixture, Some(reader), seen.map_or(0, |_| 1), 1);
            check!(!survived || frames == 1, "lost");
        });
    }
}
