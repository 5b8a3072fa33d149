//! Lanes: how table, ring, bitmap and wake word, each modelled for itself, work together.
//!
//! The receiver is one thread and each sender one more, with rings of the least bytes; what a
//! model is not about is done before its threads begin. A frame has two words, which are the
//! same number; a card has one byte.
//!
//! Handing over looks at the owner's word before it stores it, and so does who reserves: where
//! a model is about who reads that word, these are the first thread (see
//! `docs/verification.md`).

use crate::harness::{Lent, Memory, check, check_eq, explore, explore_bounded, models, owner};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use shm_primitives::identity::OwnerId;
use shm_primitives::lane::{LaneReader, LaneWriter, Lanes, Table};
use shm_primitives::ready::ReadyBitmap;
use shm_primitives::ring::frame::{ReadError, WriteError};
use shm_primitives::sync::AtomicU32;
use shm_primitives::sync::spin_loop;
use shm_primitives::wake::{Deadline, LoomPark, WakeWord};

/// Bytes of a ring's data, the least there can be.
pub(super) const CAPACITY: u32 = 512;

pub(super) const RECEIVER: u32 = 100;
pub(super) const FIRST: u32 = 101;
pub(super) const SECOND: u32 = 102;

/// Before the clock of a [`LoomPark`] runs out.
const IN_TIME: Deadline = Deadline::at(1);

/// Lanes of one receiver, and what it sleeps with.
pub(super) struct Fixture {
    memory: Memory,
    slots: Vec<AtomicU32>,
    bits: [AtomicU32; 1],
    bell: WakeWord,
    /// Where the receiver sleeps.
    pub(super) park: LoomPark,
    lanes: u32,
}

impl Fixture {
    /// So many lanes; and what keeps their memory, until the threads of a model are joined.
    pub(super) fn new(lanes: u32) -> Lent<Self> {
        let fixture = Self {
            memory: Memory::new(Lanes::area_size(lanes, CAPACITY).unwrap()),
            slots: (0..Table::words_for(lanes).unwrap()).map(|_| AtomicU32::new(0)).collect(),
            bits: [AtomicU32::new(0)],
            bell: WakeWord::new(),
            park: LoomPark::new(),
            lanes,
        };
        // SAFETY: nobody else knows the memory yet.
        unsafe { Lanes::zero_at(&fixture.memory.region(), lanes, CAPACITY) };
        Lent::new(fixture)
    }

    fn lanes(&'static self) -> Lanes<'static> {
        let table = Table::in_words(&self.slots);
        check_eq!(table.slots(), self.lanes, "slots");
        let ready = ReadyBitmap::new(&self.bits);
        // SAFETY: made once for each model, which keeps the memory until its threads are joined,
        // and whose threads use this module.
        let lanes = unsafe {
            let area = self.memory.region();
            Lanes::new(owner(RECEIVER), table, ready, &self.bell, area, CAPACITY)
        };
        lanes.unwrap()
    }
}

/// So many lanes.
pub(super) fn fixture(lanes: u32) -> (Lent<Fixture>, &'static Fixture, Lanes<'static>) {
    let lent = Fixture::new(lanes);
    // SAFETY: every model keeps the first until its threads are joined.
    let fixture = unsafe { lent.get() };
    (lent, fixture, fixture.lanes())
}

pub(super) fn open(lanes: &Lanes<'static>, sender: u32, card: u8) -> LaneWriter<'static> {
    lanes.reserve(owner(sender)).unwrap().open(&[card]).unwrap()
}

/// The content of frame number `n`.
fn content(n: u32) -> [u8; 8] {
    [n as u8; 8]
}

pub(super) fn push(writer: &mut LaneWriter<'_>, n: u32) {
    let pushed = writer.ring().push(&content(n));
    check_eq!(pushed, Ok(()), "there is room");
}

/// Reads the next frame, if there is one: its number.
pub(super) fn read(reader: &mut LaneReader<'_>) -> Option<u32> {
    match reader.ring().read() {
        Ok(frame) => {
            let n = frame.first().copied().map_or(0, u32::from);
            check_eq!(*frame, content(n), "a frame");
            frame.release();
            Some(n)
        }
        Err(ReadError::Empty) => None,
        Err(error) => {
            check!(false, "{error}: {:?}", reader.ring().corruption());
            None
        }
    }
}

/// Reads a frame that is there and has this content.
fn take(reader: &mut LaneReader<'_>, content: &[u8]) {
    match reader.ring().read() {
        Ok(frame) => {
            check!(*frame == *content, "another frame");
            frame.release();
        }
        Err(error) => check!(false, "{error}"),
    }
}

/// Takes lane `lane` up, if somebody has opened it: what it says of its sender is whole.
pub(super) fn adopt(lanes: &Lanes<'static>, lane: u32) -> Option<LaneReader<'static>> {
    let adopted = lanes.adopt(lane);
    check!(adopted.is_ok(), "lane {lane}: {:?}", adopted.as_ref().err());
    let reader = adopted.unwrap()?;
    check_eq!(reader.lane(), lane, "lane");
    let card = match reader.sender().map(|id| id.index()) {
        Some(FIRST) => 1,
        Some(SECOND) => 2,
        other => {
            check!(false, "lane {lane} of {other:?}");
            0
        }
    };
    check_eq!(reader.card().as_bytes(), [card], "card");
    Some(reader)
}

/// What a receiver looks for before it sleeps: a lane with something to read, or that ended.
fn sweep(lanes: &Lanes<'static>, mine: &mut Option<LaneReader<'static>>) -> bool {
    for lane in lanes.claimed() {
        if mine.is_none() {
            *mine = adopt(lanes, lane);
        }
        if let Some(reader) = mine
            && (!reader.ring().is_empty() || reader.has_ended())
        {
            return true;
        }
    }
    false
}

models! {
    /// A lane is opened while the receiver looks for it: it sees nothing, or the card, the ring
    /// and the frames in it as they were made. The slot was reserved before: who reserves loads
    /// what it stores.
    fn lane_open_adopt() {
        explore(|| {
            let (_memory, _, lanes) = fixture(1);
            let reserved = lanes.reserve(owner(FIRST)).unwrap();
            let opening = thread::spawn(move || {
                let mut writer = reserved.open(&[1]).unwrap();
                push(&mut writer, 7);
                core::mem::forget(writer);
            });
            let mut reader = adopt(&lanes, 0);
            let seen = reader.as_mut().and_then(read);
            check!(seen.is_none() || seen == Some(7), "read {seen:?}");
            opening.join().unwrap();
            let mut reader = reader.or_else(|| adopt(&lanes, 0)).unwrap();
            let rest = read(&mut reader);
            check!(seen.or(rest) == Some(7) && seen.is_none() != rest.is_none(), "{seen:?}, {rest:?}");
        });
    }

    /// The same lane after another's: nothing of the former sender is seen.
    fn lane_reopen_adopt() {
        explore(|| {
            let (_memory, fixture, lanes) = fixture(1);
            let mut writer = open(&lanes, SECOND, 2);
            push(&mut writer, 8);
            writer.close(&fixture.park);
            let mut reader = adopt(&lanes, 0).unwrap();
            check_eq!(read(&mut reader), Some(8), "the former sender's");
            check!(reader.finish().is_none(), "not finished");
            let reserved = lanes.reserve(owner(FIRST)).unwrap();
            let opening = thread::spawn(move || {
                let mut writer = reserved.open(&[1]).unwrap();
                push(&mut writer, 7);
                core::mem::forget(writer);
            });
            let mut reader = adopt(&lanes, 0);
            if let Some(reader) = &mut reader {
                check_eq!(reader.sender(), Some(owner(FIRST)), "sender");
                let seen = read(reader);
                check!(seen.is_none() || seen == Some(7), "read {seen:?}");
            }
            opening.join().unwrap();
        });
    }

    /// A sender leaves while the receiver reads and finishes: all that was written is read
    /// before the lane is finished. Without a fence between a frame and the handing over, so
    /// that this alone orders them.
    fn lane_hand_over() {
        explore(|| {
            let (_memory, _, lanes) = fixture(1);
            let mut writer = open(&lanes, FIRST, 1);
            let mut reader = adopt(&lanes, 0).unwrap();
            let reading = thread::spawn(move || {
                let first = read(&mut reader);
                match reader.finish() {
                    None => {
                        check_eq!(first, Some(7), "read before the lane was finished");
                        None
                    }
                    Some(reader) => Some((first, reader)),
                }
            });
            push(&mut writer, 7);
            drop(writer);
            if let Some((first, mut reader)) = reading.join().unwrap() {
                check!(reader.has_ended(), "left unnoticed");
                let second = read(&mut reader);
                check_eq!(first.or(second), Some(7), "read in the end");
                check!(reader.finish().is_none(), "ended and read, and not finished");
            }
            check_eq!(lanes.claimed().count(), 0, "lanes in use");
        });
    }

    /// A lane is finished while another sender looks for one: it has the lane to itself, the
    /// receiver's last look at the ring and what it does to clear the memory came before, and
    /// the new ring begins empty.
    fn lane_take_again() {
        explore(|| {
            let (_memory, fixture, lanes) = fixture(1);
            let mut writer = open(&lanes, FIRST, 1);
            push(&mut writer, 7);
            writer.close(&fixture.park);
            let mut reader = adopt(&lanes, 0).unwrap();
            // The lane's memory, as the system has it.
            let pages = Arc::new(UnsafeCell::new(0));
            let taking = {
                let (pages, lanes) = (Arc::clone(&pages), lanes.clone());
                thread::spawn(move || {
                    let reserved = lanes.reserve(owner(SECOND)).ok()?;
                    // SAFETY: loom checks that nobody else has it.
                    pages.with_mut(|pages| unsafe { *pages += 1 });
                    let mut writer = reserved.open(&[2]).unwrap();
                    push(&mut writer, 8);
                    Some(writer)
                })
            };
            check_eq!(read(&mut reader), Some(7), "the first sender's");
            let clear = |lane| {
                check_eq!(lane, 0, "lane to be cleared");
                // SAFETY: as above.
                pages.with_mut(|pages| unsafe { *pages += 1 });
            };
            check!(reader.finish_with(clear).is_none(), "ended and read, and not finished");
            let second = taking.join().unwrap();
            let Some(writer) = second else { return };
            let mut reader = adopt(&lanes, 0).unwrap();
            check_eq!(reader.sender(), Some(owner(SECOND)), "sender");
            check_eq!(read(&mut reader), Some(8), "the second sender's");
            check_eq!(read(&mut reader), None, "nothing of the first's");
            writer.close(&fixture.park);
            check!(reader.finish().is_none(), "ended and read, and not finished");
        });
    }

    /// Two senders look for a lane at once: each gets one of its own.
    fn lane_two_reserve() {
        explore(|| {
            let (_memory, fixture, lanes) = fixture(2);
            let other = {
                let lanes = lanes.clone();
                thread::spawn(move || {
                    let mut writer = open(&lanes, SECOND, 2);
                    push(&mut writer, 8);
                    writer.close(&fixture.park);
                })
            };
            let mut writer = open(&lanes, FIRST, 1);
            push(&mut writer, 7);
            writer.close(&fixture.park);
            other.join().unwrap();
            let mut found: Vec<_> = lanes
                .claimed()
                .map(|lane| {
                    check!(lanes.ready().is_marked(lane as usize), "announced without its bit");
                    let mut reader = adopt(&lanes, lane).unwrap();
                    let found = (reader.sender(), read(&mut reader));
                    check!(reader.finish().is_none(), "ended and read, and not finished");
                    found
                })
                .collect();
            found.sort_by_key(|(sender, _)| sender.map(OwnerId::word));
            check_eq!(
                found,
                [(Some(owner(FIRST)), Some(7)), (Some(owner(SECOND)), Some(8))],
                "what arrived"
            );
        });
    }

    /// The only lane: one has it.
    fn lane_last_reserve() {
        explore(|| {
            let (_memory, _, lanes) = fixture(1);
            let other = {
                let lanes = lanes.clone();
                thread::spawn(move || lanes.reserve(owner(SECOND)).is_ok_and(|reserved| {
                    core::mem::forget(reserved);
                    true
                }))
            };
            let mine = lanes.reserve(owner(FIRST));
            let others = other.join().unwrap();
            check!(mine.is_ok() != others, "mine: {}, other's: {others}", mine.is_ok());
        });
    }

    /// A frame announced in a lane that the receiver has, while it goes to sleep.
    fn lane_frame_wakes() {
        explore(|| {
            let (_memory, fixture, lanes) = fixture(1);
            let mut writer = open(&lanes, FIRST, 1);
            let mut mine = adopt(&lanes, 0);
            let mut waiter = lanes.bell().waiter();
            let receiving = {
                let lanes = lanes.clone();
                thread::spawn(move || {
                    let came = waiter.wait(&fixture.park, IN_TIME, || sweep(&lanes, &mut mine));
                    check!(came && !fixture.park.overslept(), "the wake is lost");
                    check_eq!(mine.as_mut().and_then(read), Some(7), "what it was woken for");
                })
            };
            push(&mut writer, 7);
            writer.announce(&fixture.park);
            fixture.park.expire();
            receiving.join().unwrap();
            check!(lanes.ready().is_marked(0), "announced without its bit");
        });
    }

    /// A lane that is opened while the receiver goes to sleep, and announced: it is swept.
    fn lane_open_wakes() {
        explore(|| {
            let (_memory, fixture, lanes) = fixture(1);
            let reserved = lanes.reserve(owner(FIRST)).unwrap();
            let mut waiter = lanes.bell().waiter();
            let receiving = {
                let lanes = lanes.clone();
                thread::spawn(move || {
                    let mut mine = None;
                    let came = waiter.wait(&fixture.park, IN_TIME, || sweep(&lanes, &mut mine));
                    check!(came && !fixture.park.overslept(), "the wake is lost");
                    check_eq!(mine.as_mut().and_then(read), Some(7), "what it was woken for");
                })
            };
            let mut writer = reserved.open(&[1]).unwrap();
            push(&mut writer, 7);
            writer.announce(&fixture.park);
            fixture.park.expire();
            receiving.join().unwrap();
        });
    }

    /// A sender leaves while the receiver goes to sleep: that is announced too.
    fn lane_close_wakes() {
        explore(|| {
            let (_memory, fixture, lanes) = fixture(1);
            let writer = open(&lanes, FIRST, 1);
            let mut mine = adopt(&lanes, 0);
            let mut waiter = lanes.bell().waiter();
            let receiving = {
                let lanes = lanes.clone();
                thread::spawn(move || {
                    let came = waiter.wait(&fixture.park, IN_TIME, || sweep(&lanes, &mut mine));
                    check!(came && !fixture.park.overslept(), "the wake is lost");
                    check!(mine.unwrap().finish().is_none(), "ended, and not finished");
                })
            };
            writer.close(&fixture.park);
            fixture.park.expire();
            receiving.join().unwrap();
        });
    }

    /// Two senders announce at once, and the receiver goes to sleep twice: a wake for each.
    fn lane_two_announce() {
        explore_bounded(Some(2), || {
            let (_memory, fixture, lanes) = fixture(2);
            let (mut first, mut second) = (open(&lanes, FIRST, 1), open(&lanes, SECOND, 2));
            let readers = [0, 1].map(|lane| adopt(&lanes, lane).unwrap());
            let mut waiter = lanes.bell().waiter();
            let receiving = thread::spawn(move || {
                let mut readers = readers;
                let mut left = 2;
                while left > 0 {
                    let came = waiter.wait(&fixture.park, IN_TIME, || {
                        readers.iter_mut().any(|reader| !reader.ring().is_empty())
                    });
                    check!(came && !fixture.park.overslept(), "a wake is lost");
                    left -= readers.iter_mut().filter_map(read).count();
                }
            });
            let other = thread::spawn(move || {
                push(&mut second, 8);
                second.announce(&fixture.park);
            });
            push(&mut first, 7);
            first.announce(&fixture.park);
            other.join().unwrap();
            fixture.park.expire();
            receiving.join().unwrap();
        });
    }

    /// A sender waits for room while the receiver makes it.
    fn lane_room() {
        explore(|| {
            let (_memory, _, lanes) = fixture(1);
            let mut writer = open(&lanes, FIRST, 1);
            let mut reader = adopt(&lanes, 0).unwrap();
            let mut frames = 0;
            let largest = [1; 240];
            loop {
                match writer.ring().push(&largest) {
                    Ok(()) => frames += 1,
                    Err(error) => break check_eq!(error, WriteError::Full, "why not"),
                }
            }
            check!(frames >= 1, "full while empty");
            let room = Arc::new(LoomPark::new());
            let mut waiter = writer.room();
            let sending = {
                let room = Arc::clone(&room);
                thread::spawn(move || {
                    let pushed = writer.ring().push_wait(&largest, &mut waiter, &*room, IN_TIME);
                    check_eq!(pushed, Ok(()), "room was made and announced");
                    check!(!room.overslept(), "the wake is lost");
                })
            };
            for _ in 0..frames {
                take(&mut reader, &largest);
            }
            reader.announce_room(&*room);
            room.expire();
            sending.join().unwrap();
            take(&mut reader, &largest);
        });
    }

    /// A sender leaves, the receiver finishes the lane and a second sender takes it, while the
    /// first, which has handed it over, announces that: it touches nothing of the second's.
    fn lane_late_announce() {
        explore(|| {
            let (_memory, fixture, lanes) = fixture(1);
            let writer = open(&lanes, FIRST, 1);
            let reader = adopt(&lanes, 0).unwrap();
            let next = {
                let lanes = lanes.clone();
                thread::spawn(move || {
                    let mut reader = Some(reader);
                    while let Some(left) = reader.take() {
                        reader = left.finish();
                        if reader.is_some() {
                            spin_loop();
                        }
                    }
                    let mut writer = open(&lanes, SECOND, 2);
                    push(&mut writer, 8);
                    let mut reader = adopt(&lanes, 0).unwrap();
                    check_eq!(reader.sender(), Some(owner(SECOND)), "sender");
                    check_eq!(read(&mut reader), Some(8), "the second sender's");
                    check!(!reader.has_ended(), "the second has not left");
                    core::mem::forget(writer);
                })
            };
            writer.close(&fixture.park);
            next.join().unwrap();
            check_eq!(lanes.table().owner(0), Some(owner(SECOND)), "the second's");
        });
    }
}
