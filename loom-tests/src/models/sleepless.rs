//! Lanes to a receiver that never sleeps: its senders make no fence, and it looks into all lanes
//! again and again.
//!
//! That nothing is lost means here: the receiver finds it while it goes on looking, and not that
//! it does at the first look after the message was written, of which it cannot know. A look in
//! vain ends with a yield, after which loom runs the others and lets no load return what it has
//! returned before the yield if there is something newer. So a bounded number of looks in vain
//! is enough for whatever can be seen at all, and a message that is not found by then is lost.
//!
//! The ready bits are set before the threads begin where a model says nothing else: a sender that
//! finds its bit clear does make a fence.

use super::lane::{FIRST, SECOND, adopt, fixture, open, push, read};
use crate::harness::{check, check_eq, explore, explore_bounded, models, owner};
use loom::thread;
use shm_primitives::lane::{LaneReader, Lanes};
use shm_primitives::sync::spin_loop;
use shm_primitives::wake::{Deadline, published};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Looks in vain before what was not found is taken for lost; more than the senders of any model
/// here make steps.
const VAIN: u32 = 300;

/// Before the clock of the park runs out.
const IN_TIME: Deadline = Deadline::at(1);

/// Bits of lanes that were hot before.
fn heat(lanes: &Lanes<'static>, hot: &[usize]) {
    let fenced = published();
    hot.iter().for_each(|lane| lanes.ready().mark(*lane, &fenced));
}

/// A receiver that never sleeps.
struct Polling {
    lanes: Lanes<'static>,
    mine: [Option<LaneReader<'static>>; 2],
    /// What it has read, of each lane.
    read: [Vec<u32>; 2],
    ended: [bool; 2],
    vain: u32,
}

impl Polling {
    fn new(lanes: Lanes<'static>, mine: [Option<LaneReader<'static>>; 2]) -> Self {
        Self { lanes, mine, read: Default::default(), ended: [false; 2], vain: 0 }
    }

    /// Looks into the lanes it has; whether it has found something.
    fn poll(&mut self) -> bool {
        let mut found = false;
        for (mine, messages) in self.mine.iter_mut().zip(&mut self.read) {
            if let Some(n) = mine.as_mut().and_then(read) {
                messages.push(n);
                found = true;
            }
        }
        found
    }

    /// The same, and takes up new lanes and lets go of those that have ended, as a sweep does.
    fn sweep(&mut self) -> bool {
        for lane in self.lanes.claimed() {
            let mine = &mut self.mine[lane as usize];
            if mine.is_none() && !self.ended[lane as usize] {
                *mine = adopt(&self.lanes, lane);
            }
        }
        let mut found = self.poll();
        for (mine, ended) in self.mine.iter_mut().zip(&mut self.ended) {
            // `finish` is what decides; a look before it spares the ring's.
            if mine.as_ref().is_some_and(LaneReader::has_ended) {
                *mine = mine.take().and_then(LaneReader::finish);
                *ended = mine.is_none();
                found |= *ended;
            }
        }
        found
    }

    /// Looks so until it is done.
    fn until(&mut self, look: fn(&mut Self) -> bool, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            if !look(self) {
                self.vain += 1;
                check!(self.vain < VAIN, "lost: read {:?}, ended {:?}", self.read, self.ended);
                spin_loop();
            }
        }
    }
}

models! {
    /// Two senders into lanes that are polled, one of them twice: each message is found, whole
    /// and in order. The other has another handle, of who does not know that the receiver never
    /// sleeps: its fence does no harm.
    fn sleepless_polled() {
        explore_bounded(Some(4), || {
            let (_memory, fixture, sleeping) = fixture(2);
            let lanes = sleeping.clone().sleepless(true);
            heat(&lanes, &[0, 1]);
            let (mut first, mut second) = (open(&lanes, FIRST, 1), open(&sleeping, SECOND, 2));
            let mine = [0, 1].map(|lane| adopt(&lanes, lane));
            let mut receiver = Polling::new(lanes, mine);
            let senders = [
                thread::spawn(move || {
                    for n in [7, 8] {
                        push(&mut first, n);
                        first.announce(&fixture.park);
                    }
                    core::mem::forget(first);
                }),
                thread::spawn(move || {
                    push(&mut second, 9);
                    second.announce(&fixture.park);
                    core::mem::forget(second);
                }),
            ];
            receiver.until(Polling::poll, |it| it.read[0].len() == 2 && it.read[1].len() == 1);
            check_eq!(receiver.read, [vec![7, 8], vec![9]], "what arrived");
            senders.into_iter().for_each(|sender| sender.join().unwrap());
        });
    }

    /// A sender opens a lane, sends and leaves, all without a fence, while the receiver sweeps:
    /// the lane is taken up, read to its end and finished.
    fn sleepless_whole_life() {
        explore(|| {
            let (_memory, fixture, lanes) = fixture(1);
            let lanes = lanes.sleepless(true);
            heat(&lanes, &[0]);
            let reserved = lanes.reserve(owner(FIRST)).unwrap();
            let mut receiver = Polling::new(lanes.clone(), [None, None]);
            let sender = thread::spawn(move || {
                let mut writer = reserved.open(&[1]).unwrap();
                push(&mut writer, 7);
                writer.announce(&fixture.park);
                writer.close(&fixture.park);
            });
            receiver.until(Polling::sweep, |it| it.ended[0]);
            check_eq!(receiver.read[0], [7], "what arrived before the end");
            sender.join().unwrap();
            check_eq!(lanes.claimed().count(), 0, "lanes in use");
        });
    }

    /// One sender opens its lane while another sends into one that was taken up before, and
    /// leaves.
    fn sleepless_one_more() {
        explore_bounded(Some(3), || {
            let (_memory, fixture, lanes) = fixture(2);
            let lanes = lanes.sleepless(true);
            heat(&lanes, &[0, 1]);
            let mut first = open(&lanes, FIRST, 1);
            let mine = [adopt(&lanes, 0), None];
            let reserved = lanes.reserve(owner(SECOND)).unwrap();
            let mut receiver = Polling::new(lanes.clone(), mine);
            let senders = [
                thread::spawn(move || {
                    push(&mut first, 7);
                    first.announce(&fixture.park);
                    first.close(&fixture.park);
                }),
                thread::spawn(move || {
                    let mut second = reserved.open(&[2]).unwrap();
                    push(&mut second, 8);
                    second.announce(&fixture.park);
                    core::mem::forget(second);
                }),
            ];
            receiver.until(Polling::sweep, |it| it.ended[0] && !it.read[1].is_empty());
            check_eq!(receiver.read, [vec![7], vec![8]], "what arrived");
            senders.into_iter().for_each(|sender| sender.join().unwrap());
        });
    }

    /// A lane is cooled while its sender, who finds the bit still set, makes no fence: the bit may
    /// stay clear beside a message that the receiver's second look did not see. Its next sweep
    /// finds it; and there are interleavings in which nothing else does.
    fn sleepless_cooled() {
        static ONLY_THE_SWEEP: AtomicBool = AtomicBool::new(false);
        explore(|| {
            let (_memory, fixture, lanes) = fixture(1);
            let lanes = lanes.sleepless(true);
            heat(&lanes, &[0]);
            let mut writer = open(&lanes, FIRST, 1);
            let mut receiver = Polling::new(lanes.clone(), [adopt(&lanes, 0), None]);
            let sender = thread::spawn(move || {
                push(&mut writer, 7);
                writer.announce(&fixture.park);
                writer
            });
            let ring = receiver.mine[0].as_mut().unwrap().ring();
            let quiet = lanes.ready().cool(0, || ring.is_empty());
            receiver.until(Polling::poll, |it| !it.read[0].is_empty());
            let mut writer = sender.join().unwrap();
            let marked = lanes.ready().is_marked(0);
            check!(quiet || marked, "not quiet, and cool nevertheless");
            if quiet && !marked {
                ONLY_THE_SWEEP.store(true, Relaxed);
            }
            push(&mut writer, 8);
            writer.announce(&fixture.park);
            check!(lanes.ready().is_marked(0), "announced without its bit");
            receiver.until(Polling::poll, |it| it.read[0].len() == 2);
            check_eq!(receiver.read[0], [7, 8], "what arrived");
        });
        check!(ONLY_THE_SWEEP.load(Relaxed), "this model has lost what it is about");
    }

    /// A sender has learnt early that its receiver never sleeps, and that one does by now: a wake
    /// may be lost, and is in some interleaving, since there is no fence. That costs the time of
    /// one sleep, and nothing else: the receiver looks after it, and finds the message.
    fn sleepless_no_more() {
        static OVERSLEPT: AtomicBool = AtomicBool::new(false);
        explore(|| {
            let (_memory, fixture, lanes) = fixture(1);
            heat(&lanes, &[0]);
            let mut writer = open(&lanes.clone().sleepless(true), FIRST, 1);
            let mut receiver = Polling::new(lanes.clone(), [adopt(&lanes, 0), None]);
            let mut waiter = lanes.bell().waiter();
            let receiving = thread::spawn(move || {
                let ring = receiver.mine[0].as_mut().unwrap().ring();
                let came = waiter.wait(&fixture.park, IN_TIME, || !ring.is_empty());
                check!(came || fixture.park.overslept(), "woken for nothing");
                receiver.until(Polling::poll, |it| !it.read[0].is_empty());
                check_eq!(receiver.read[0], [7], "what arrived");
            });
            push(&mut writer, 7);
            writer.announce(&fixture.park);
            fixture.park.expire();
            receiving.join().unwrap();
            if fixture.park.overslept() {
                OVERSLEPT.store(true, Relaxed);
            }
        });
        check!(OVERSLEPT.load(Relaxed), "this model has lost what it is about");
    }
}
