//! The ready bitmap.

use crate::harness::{check, explore, models};
use loom::sync::Arc;
use loom::thread;
use shm_primitives::ready::ReadyBitmap;
use shm_primitives::sync::AtomicU32;
use shm_primitives::sync::Ordering::Relaxed;
use shm_primitives::wake::{Deadline, LoomPark, WakeWord, published};

const LANE: usize = 33;

/// Two words of bits, and a lane whose ring is a number; everything relaxed.
struct Fixture {
    bits: [AtomicU32; 2],
    number: AtomicU32,
    word: WakeWord,
    park: LoomPark,
}

/// A lane whose bit is set already, or not.
fn fixture(hot: bool) -> Arc<Fixture> {
    Arc::new(Fixture {
        bits: [AtomicU32::new(0), AtomicU32::new(u32::from(hot) << (LANE - 32))],
        number: AtomicU32::new(0),
        word: WakeWord::new(),
        park: LoomPark::new(),
    })
}

impl Fixture {
    fn ready(&self) -> ReadyBitmap<'_> {
        ReadyBitmap::new(&self.bits)
    }

    fn send(&self) {
        self.number.store(1, Relaxed);
        let fenced = published();
        self.ready().mark(LANE, &fenced);
        self.word.notifier().notify_after(&self.park, &fenced);
    }
}

fn sender(fixture: &Arc<Fixture>) -> thread::JoinHandle<()> {
    let fixture = Arc::clone(fixture);
    thread::spawn(move || fixture.send())
}

models! {
    /// Cooling a lane against sending in it: the receiver knows of the message, or the bit
    /// says so.
    fn ready_cool() {
        explore(|| {
            let fixture = fixture(true);
            let sending = sender(&fixture);
            let quiet = fixture.ready().cool(LANE, || fixture.number.load(Relaxed) == 0);
            sending.join().unwrap();
            check!(!quiet || fixture.ready().is_marked(LANE), "a message without its bit");
        });
    }

    /// Two senders of lanes in one word, and the receiver cooling one: no bit is lost.
    fn ready_two_lanes() {
        explore(|| {
            let fixture = fixture(true);
            let sending = sender(&fixture);
            let other = {
                let fixture = Arc::clone(&fixture);
                thread::spawn(move || fixture.ready().mark(LANE + 1, &published()))
            };
            let quiet = fixture.ready().cool(LANE, || fixture.number.load(Relaxed) == 0);
            sending.join().unwrap();
            other.join().unwrap();
            check!(!quiet || fixture.ready().is_marked(LANE), "a message without its bit");
            check!(fixture.ready().is_marked(LANE + 1), "the other lane's bit is lost");
        });
    }

    /// A receiver that looks at the bits, and sweeps the lane itself before it sleeps: it is
    /// woken for whatever comes after that.
    fn ready_sweep_and_park() {
        explore(|| {
            let fixture = fixture(false);
            let receiving = {
                let fixture = Arc::clone(&fixture);
                thread::spawn(move || {
                    let mut waiter = fixture.word.waiter();
                    let came = waiter.wait(&fixture.park, Deadline::at(1), || {
                        fixture.number.load(Relaxed) == 1
                    });
                    check!(came && !fixture.park.overslept(), "the wake is lost");
                    check!(
                        fixture.ready().marked().all(|lane| lane == LANE),
                        "a bit nobody set"
                    );
                })
            };
            fixture.send();
            fixture.park.expire();
            receiving.join().unwrap();
        });
    }
}
