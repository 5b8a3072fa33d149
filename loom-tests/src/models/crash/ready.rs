//! The lanes' ready bits: a sender, a receiver.

use super::wake::{LANE, bell};
use super::{at_every_step, at_every_step_bounded};
use crate::harness::{check, check_eq, models};
use loom::sync::Arc;
use loom::thread;
use shm_primitives::sync::Ordering::Relaxed;
use shm_primitives::wake::published;

models! {
    /// A sender dies between publishing, marking its lane and notifying, while the receiver
    /// cools the lane. After the convictor's mark the receiver knows, or the bit says so.
    fn crash_ready_mark() {
        // The number, the bit if it is clear; nobody is parked.
        for marked in [false, true] {
            at_every_step(1, move |mortal| {
                let bell = bell(marked);
                let dying = {
                    let (bell, mortal) = (Arc::clone(&bell), mortal.clone());
                    thread::spawn(move || {
                        mortal.live(|| {
                            bell.number.store(1, Relaxed);
                            let fenced = published();
                            bell.ready().mark(LANE, &fenced);
                            bell.word.notifier().notify_after(&bell.park, &fenced);
                        });
                    })
                };
                let receiving = {
                    let bell = Arc::clone(&bell);
                    thread::spawn(move || bell.ready().cool(LANE, || bell.number.load(Relaxed) == 0))
                };
                dying.join().unwrap();
                let was_published = bell.number.load(Relaxed) == 1;
                bell.ready().mark(LANE, &published());
                let quiet = receiving.join().unwrap();
                check!(
                    !was_published || !quiet || bell.ready().is_marked(LANE),
                    "a message without its bit"
                );
            });
        }
    }

    /// A sender dies between publishing, marking and notifying, while the receiver sweeps the
    /// lane and parks. Whoever convicts it marks the lane and notifies: the receiver finds the
    /// message without oversleeping, and the bit is set.
    fn crash_ready_park() {
        // The number, the bit, the sequence, the wake.
        at_every_step_bounded(Some(3), 4, |mortal| {
            let bell = bell(false);
            let dying = {
                let (bell, mortal) = (Arc::clone(&bell), mortal.clone());
                thread::spawn(move || {
                    mortal.live(|| {
                        bell.number.store(1, Relaxed);
                        let fenced = published();
                        bell.ready().mark(LANE, &fenced);
                        bell.word.notifier().notify_after(&bell.park, &fenced);
                    });
                })
            };
            let receiving = {
                let bell = Arc::clone(&bell);
                thread::spawn(move || bell.wait_for(1))
            };
            dying.join().unwrap();
            let was_published = bell.number.load(Relaxed) == 1;
            let fenced = published();
            bell.ready().mark(LANE, &fenced);
            bell.word.notifier().notify_after(&bell.park, &fenced);
            bell.park.expire();
            check_eq!(receiving.join().unwrap(), was_published, "found");
            check!(!was_published || !bell.park.overslept(), "the convictor's wake is lost");
            check!(bell.ready().is_marked(LANE), "the convictor's mark is lost");
        });
    }

    /// The receiver dies in cooling while a sender sends. Its successor, which sweeps the lane
    /// before it sleeps, finds the message without oversleeping.
    fn crash_ready_cool() {
        // The bit cleared; and set again, if the message is seen.
        at_every_step(2, |mortal| {
            let bell = bell(true);
            let sending = {
                let bell = Arc::clone(&bell);
                thread::spawn(move || {
                    bell.number.store(1, Relaxed);
                    let fenced = published();
                    bell.ready().mark(LANE, &fenced);
                    bell.word.notifier().notify_after(&bell.park, &fenced);
                    bell.park.expire();
                })
            };
            let dying = {
                let (bell, mortal) = (Arc::clone(&bell), mortal.clone());
                thread::spawn(move || {
                    mortal.live(|| bell.ready().cool(LANE, || bell.number.load(Relaxed) == 0))
                })
            };
            let cooled = dying.join().unwrap();
            check!(bell.wait_for(1), "the message is lost");
            check!(!bell.park.overslept(), "the wake is lost");
            sending.join().unwrap();
            check!(cooled != Some(true) || bell.ready().is_marked(LANE), "its bit is lost");
        });
    }
}
