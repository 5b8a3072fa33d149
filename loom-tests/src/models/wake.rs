//! The wake word. After everybody who notifies has, the model ends all sleeps: whoever still
//! slept then has lost a wake.

use crate::harness::{Lent, Memory, check, check_eq, explore, explore_bounded, models, owner};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use shm_primitives::ring::frame::{FrameRingRef, Options, Packing};
use shm_primitives::ring::spsc::SpscRing;
use shm_primitives::sync::AtomicU32;
use shm_primitives::sync::Ordering::Relaxed;
use shm_primitives::wake::{Deadline, LoomPark, Relay, RelayedWaiter, WakeWord};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// What is published is a number; everything relaxed, so that the fences alone carry it.
struct Fixture {
    word: WakeWord,
    number: AtomicU32,
    park: LoomPark,
}

fn fixture() -> Arc<Fixture> {
    Arc::new(Fixture { word: WakeWord::new(), number: AtomicU32::new(0), park: LoomPark::new() })
}

/// Before the clock of a [`LoomPark`] runs out.
const IN_TIME: Deadline = Deadline::at(1);

/// A thread that waits for the numbers 1 to `last`, with a look of its own for each. Its handle
/// is made here: loom would not try the stores of a thread that has loaded the word before in
/// another order.
fn waiter_for(fixture: &Arc<Fixture>, last: u32) -> thread::JoinHandle<()> {
    let fixture = Lent::from(Arc::clone(fixture));
    // SAFETY: the thread keeps a clone as long as the waiter.
    let mut waiter = unsafe { fixture.get() }.word.waiter();
    thread::spawn(move || {
        // SAFETY: as above.
        let Fixture { number: published, park, .. } = unsafe { fixture.get() };
        for number in 1..=last {
            let came = waiter.wait(park, IN_TIME, || published.load(Relaxed) >= number);
            check!(came && !park.overslept(), "the wake for number {number} is lost");
        }
    })
}

/// Where a relayed waiter sleeps: an eventfd.
struct Bell {
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Bell {
    fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new((false, false)), changed: Condvar::new() })
    }

    fn ring(&self) {
        self.state.lock().unwrap().0 = true;
        self.changed.notify_all();
    }

    /// No ring will come any more.
    fn close(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }

    /// Sleeps until it was rung, and takes that back; false if it never will be.
    fn wait(&self) -> bool {
        let mut state = self.state.lock().unwrap();
        loop {
            if std::mem::take(&mut state.0) {
                return true;
            }
            if state.1 {
                return false;
            }
            state = self.changed.wait(state).unwrap();
        }
    }
}

/// A relay, and a waiter that it wakes, for the numbers 1 to `last`. With one number, it has to be there after the first ring.
fn relayed(preemptions: Option<usize>, last: u32) {
    explore_bounded(preemptions, move || {
        let (fixture, bell) = (fixture(), Bell::new());
        let mut waiter = RelayedWaiter::new(&fixture.word);
        let mut relay = Relay::new(&fixture.word);
        let relaying = {
            let (fixture, bell) = (Arc::clone(&fixture), Arc::clone(&bell));
            thread::spawn(move || {
                // That nothing has changed ends nothing: the sleep may have ended by a wake for
                // what an earlier look has found. That nothing will change does.
                loop {
                    if relay.wait(&fixture.word, &fixture.park, IN_TIME) {
                        bell.ring();
                    } else if fixture.park.overslept() {
                        break bell.close();
                    }
                }
            })
        };
        let waiting = {
            let fixture = Arc::clone(&fixture);
            thread::spawn(move || {
                for number in 1..=last {
                    let there = || fixture.number.load(Relaxed) >= number;
                    while !waiter.arm(&fixture.word, there) {
                        check!(bell.wait(), "the wake for number {number} is lost");
                        waiter.disarm(&fixture.word);
                        check!(last > 1 || there(), "woken for what is not there");
                    }
                }
            })
        };
        let mut notifier = fixture.word.shared_notifier();
        for number in 1..=last {
            fixture.number.store(number, Relaxed);
            notifier.notify(&fixture.park);
        }
        fixture.park.expire();
        waiting.join().unwrap();
        relaying.join().unwrap();
    });
}

models! {
    /// A relay sleeps, another thread waits: what was published before the wake is there after
    /// it.
    fn wake_relay() {
        relayed(Some(3), 1);
    }

    /// The second message is for another sleep of the waiter, and maybe the same of the relay.
    fn wake_relay_again() {
        relayed(Some(2), 2);
    }

    /// Parking against publishing and notifying.
    fn wake_park() {
        explore(|| {
            let fixture = fixture();
            let waiting = waiter_for(&fixture, 1);
            fixture.number.store(1, Relaxed);
            fixture.word.notifier().notify(&fixture.park);
            fixture.park.expire();
            waiting.join().unwrap();
        });
    }

    /// Two messages by one notifier, which wakes an epoch only once.
    fn wake_answered() {
        explore_bounded(Some(4), || {
            let fixture = fixture();
            let waiting = waiter_for(&fixture, 2);
            // One of several, and alone: its change is one access, which loom tries everywhere.
            let mut notifier = fixture.word.shared_notifier();
            for number in 1..=2 {
                fixture.number.store(number, Relaxed);
                notifier.notify(&fixture.park);
            }
            fixture.park.expire();
            waiting.join().unwrap();
        });
    }

    /// Two notifiers at once. Each changes the sequence by a read-modify-write: a store of
    /// what one of them computed earlier would take back the change that the other made for
    /// the waiter's next sleep.
    fn wake_shared() {
        explore_bounded(Some(3), || {
            let fixture = fixture();
            let waiting = waiter_for(&fixture, 3);
            let mut notifier = fixture.word.shared_notifier();
            let other = {
                let fixture = Arc::clone(&fixture);
                thread::spawn(move || {
                    fixture.number.fetch_add(1, Relaxed);
                    fixture.word.shared_notifier().notify(&fixture.park);
                })
            };
            for _ in 0..2 {
                fixture.number.fetch_add(1, Relaxed);
                notifier.notify(&fixture.park);
            }
            other.join().unwrap();
            fixture.park.expire();
            waiting.join().unwrap();
        });
    }

    /// A waiter that died parked, in an epoch its notifier has answered: the successor is
    /// woken all the same.
    fn wake_successor() {
        explore(|| {
            let fixture = fixture();
            let mut notifier = fixture.word.notifier();
            let mut waiter = fixture.word.waiter();
            let mut looks = 0;
            let death = catch_unwind(AssertUnwindSafe(|| {
                waiter.wait(&fixture.park, IN_TIME, || {
                    looks += 1;
                    // The second look is the one between the odd epoch and the sleep.
                    if looks == 2 { resume_unwind(Box::new(())) } else { false }
                });
            }));
            check!(death.is_err(), "it did not die");
            notifier.notify(&fixture.park);
            let waiting = waiter_for(&fixture, 1);
            fixture.number.store(1, Relaxed);
            notifier.notify(&fixture.park);
            fixture.park.expire();
            waiting.join().unwrap();
        });
    }

    /// Waiting for an element.
    fn wake_spsc_pop_wait() {
        explore(|| {
            let ring = Lent::new(SpscRing::<u32, 2>::new());
            // SAFETY: `ring` is dropped after the join.
            let shared = unsafe { ring.get() }.shared();
            let mut producer = shared.claim_producer(owner(1)).unwrap();
            let mut consumer = shared.claim_consumer(owner(2)).unwrap();
            let fixture = fixture();
            let pushing = {
                let fixture = Arc::clone(&fixture);
                thread::spawn(move || {
                    check!(producer.push(7).is_ok(), "full while empty");
                    fixture.word.notifier().notify(&fixture.park);
                    fixture.park.expire();
                })
            };
            let popped = consumer.pop_wait(&mut fixture.word.waiter(), &fixture.park, IN_TIME);
            check_eq!(popped, Ok(7), "what was pushed and notified");
            check!(!fixture.park.overslept(), "a wake is lost");
            pushing.join().unwrap();
        });
    }

    /// Waiting for room.
    fn wake_spsc_push_wait() {
        explore(|| {
            let ring = Lent::new(SpscRing::<u32, 1>::new());
            // SAFETY: `ring` is dropped after the join.
            let shared = unsafe { ring.get() }.shared();
            let mut producer = shared.claim_producer(owner(1)).unwrap();
            let mut consumer = shared.claim_consumer(owner(2)).unwrap();
            check!(producer.push(1).is_ok(), "full while empty");
            let fixture = fixture();
            let popping = {
                let fixture = Arc::clone(&fixture);
                thread::spawn(move || {
                    check_eq!(consumer.pop(), Ok(1), "first");
                    fixture.word.notifier().notify(&fixture.park);
                    fixture.park.expire();
                })
            };
            let mut waiter = fixture.word.waiter();
            let pushed = producer.push_wait(2, &mut waiter, &fixture.park, IN_TIME);
            check!(pushed.is_ok(), "room was made and notified: {pushed:?}");
            check!(!fixture.park.overslept(), "a wake is lost");
            popping.join().unwrap();
        });
    }

    /// Waiting for a frame, and for room for one, each side waking the other.
    fn wake_frame_waits() {
        explore_bounded(Some(3), || {
            let options = Options::new(64).packing(Packing::Dense);
            let memory = Lent::new(Memory::new(options.required_size().unwrap()));
            // SAFETY: `memory` is dropped after the join; nobody else knows it.
            let ring = unsafe {
                FrameRingRef::zero_at(&memory.get().region(), options);
                FrameRingRef::init_at(memory.get().region(), options).unwrap()
            };
            let mut writer = ring.claim_writer(owner(1)).unwrap();
            let mut reader = ring.claim_reader(owner(2)).unwrap();
            check!(writer.push(&[1; 16]).is_ok(), "full while empty");
            check!(writer.push(&[2; 16]).is_ok(), "full with one of two");
            let (frames, room) = (fixture(), fixture());
            let reading = {
                let (frames, room) = (Arc::clone(&frames), Arc::clone(&room));
                thread::spawn(move || {
                    let mut waiter = frames.word.waiter();
                    check_eq!(reader.skip(2), 2, "skipped");
                    room.word.notifier().notify(&room.park);
                    room.park.expire();
                    match reader.read_wait(&mut waiter, &frames.park, IN_TIME) {
                        Ok(frame) => check_eq!(*frame, [3; 16], "content"),
                        Err(error) => check!(false, "written and notified: {error}"),
                    }
                    check!(!frames.park.overslept(), "the wake for a frame is lost");
                })
            };
            let pushed =
                writer.push_wait(&[3; 16], &mut room.word.waiter(), &room.park, IN_TIME);
            check_eq!(pushed, Ok(()), "room was made and notified");
            check!(!room.park.overslept(), "the wake for room is lost");
            frames.word.notifier().notify(&frames.park);
            frames.park.expire();
            reading.join().unwrap();
        });
    }
}
