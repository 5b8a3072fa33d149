//! Senders that come, send, wait for room, leave or die, and a receiver that sleeps, all at once.

use crate::common::Patience;
use crate::common::lane::{LANES, lanes, memory};
use crate::common::park::{CondvarPark, Unbounded};
use shm_primitives::identity::{Dead, OwnerId};
use shm_primitives::lane::{LaneReader, Lanes};
use shm_primitives::wake::Deadline;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

/// One more than there are lanes, so that they look for one in vain too.
const SENDERS: u32 = LANES + 1;
/// Bytes of each frame: a lane is full with a few dozen.
const FRAME: usize = 100;

/// What is known besides the memory: who is dead, and how many frames a lane that was opened
/// under this id has taken.
#[derive(Default)]
struct Known {
    dead: Mutex<Vec<OwnerId>>,
    sent: Mutex<HashMap<OwnerId, u32>>,
    /// Senders that will send no more.
    gone: AtomicU32,
}

type Sleep = Unbounded<CondvarPark>;

fn send(
    lanes: &Lanes<'_>,
    sender: u32,
    known: &Known,
    bell: &Sleep,
    rooms: &[Sleep],
    end: Instant,
) {
    let mut random = 0x9e37_79b9u32.wrapping_mul(sender + 1);
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        random
    };
    for generation in 1.. {
        if Instant::now() >= end {
            break;
        }
        let id = OwnerId::new(100 + sender, generation).unwrap();
        let Ok(reserved) = lanes.reserve(id) else {
            thread::yield_now();
            continue;
        };
        let dies = next().is_multiple_of(3);
        if dies && next().is_multiple_of(4) {
            std::mem::forget(reserved);
        } else {
            let mut writer = reserved.open(&id.word().to_le_bytes()).unwrap();
            let park = &rooms[writer.lane() as usize];
            let mut waiter = writer.room();
            let frames = next() % 100;
            for n in 0..frames {
                let mut frame = [n as u8; FRAME];
                frame[..4].copy_from_slice(&n.to_le_bytes());
                writer.ring().push_wait(&frame, &mut waiter, park, Deadline::NEVER).unwrap();
                // A sender may gather, but not before it waits: nobody would make room.
                if next().is_multiple_of(4) || writer.ring().free() < 4 * FRAME {
                    writer.announce(bell);
                }
            }
            known.sent.lock().unwrap().insert(id, frames);
            if dies {
                std::mem::forget(writer);
            } else {
                writer.close(bell);
            }
        }
        if dies {
            known.dead.lock().unwrap().push(id);
            // Whoever convicts wakes.
            lanes.bell().shared_notifier().notify(bell);
        }
    }
    known.gone.fetch_add(1, SeqCst);
    lanes.bell().shared_notifier().notify(bell);
}

/// A lane that was taken up: its frames so far.
struct Open<'a> {
    reader: LaneReader<'a>,
    frames: u32,
}

fn receive(
    lanes: &Lanes<'_>,
    known: &Known,
    bell: &Sleep,
    rooms: &[Sleep],
) -> HashMap<OwnerId, u32> {
    let mut open: Vec<Option<Open<'_>>> = (0..LANES).map(|_| None).collect();
    let mut received = HashMap::new();
    let mut waiter = lanes.bell().waiter();
    loop {
        let dead: Vec<_> = std::mem::take(&mut *known.dead.lock().unwrap());
        for id in dead {
            // SAFETY: that sender has forgotten its handles.
            lanes.recover(unsafe { Dead::assume(id) }).unwrap();
        }
        let everybody_gone = known.gone.load(SeqCst) == SENDERS;
        for lane in lanes.claimed() {
            let slot = &mut open[lane as usize];
            if slot.is_none() {
                let adopted = lanes.adopt(lane).unwrap();
                *slot = adopted.map(|reader| Open { reader, frames: 0 });
            }
            let Some(mut one) = slot.take() else { continue };
            let sender = one.reader.sender().unwrap();
            assert_eq!(one.reader.card().as_bytes(), card(sender));
            while let Ok(frame) = one.reader.ring().read() {
                assert_eq!(frame[..4], one.frames.to_le_bytes(), "of {sender}");
                assert!(frame[4..].iter().all(|byte| *byte == one.frames as u8));
                frame.release();
                one.frames += 1;
            }
            one.reader.announce_room(&rooms[lane as usize]);
            match one.reader.finish() {
                None => assert_eq!(received.insert(sender, one.frames), None, "{sender} twice"),
                Some(reader) => *slot = Some(Open { reader, ..one }),
            }
        }
        if everybody_gone && known.dead.lock().unwrap().is_empty() && lanes.claimed().count() == 0 {
            return received;
        }
        waiter.wait(bell, Deadline::NEVER, || {
            known.gone.load(SeqCst) == SENDERS
                || !known.dead.lock().unwrap().is_empty()
                || lanes.claimed().any(|lane| match &mut open[lane as usize] {
                    Some(one) => !one.reader.ring().is_empty() || one.reader.has_ended(),
                    None => lanes.table().read(lane).unwrap().is_some(),
                })
        });
    }
}

fn card(id: OwnerId) -> Vec<u8> {
    let mut card = id.word().to_le_bytes().to_vec();
    while card.last() == Some(&0) {
        card.pop();
    }
    card
}

/// Every frame arrives once and in order, whether its sender left or died; every sleep ends by
/// a wake; and in the end no lane is anybody's.
#[test]
fn come_and_go() {
    let memory = memory(0xa5);
    let (lanes, patience, known) = (lanes(&memory), Patience::new(), Known::default());
    let sleep = || Unbounded(CondvarPark::new(patience.clone()));
    let (bell, rooms) = (sleep(), (0..LANES).map(|_| sleep()).collect::<Vec<_>>());
    let end = Instant::now() + Duration::from_secs(2);
    let received = thread::scope(|scope| {
        // Tells the others if this side fails.
        let _patience = patience.clone();
        for sender in 0..SENDERS {
            let (lanes, known, bell, rooms) = (&lanes, &known, &bell, &rooms);
            let patience = patience.clone();
            scope.spawn(move || {
                let _patience = patience;
                send(lanes, sender, known, bell, rooms, end);
            });
        }
        receive(&lanes, &known, &bell, &rooms)
    });
    let sent = known.sent.into_inner().unwrap();
    assert!(sent.len() > 10, "nothing happened");
    assert_eq!(received.len(), sent.len());
    for (id, frames) in sent {
        assert_eq!(received.get(&id), Some(&frames), "frames of {id}");
    }
}
