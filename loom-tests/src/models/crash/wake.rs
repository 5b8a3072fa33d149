//! A notifier, a waiter.

use super::at_every_step_bounded;
use super::spsc::{Spsc, pop};
use crate::harness::{check, check_eq, models};
use loom::sync::Arc;
use loom::thread;
use shm_primitives::ready::ReadyBitmap;
use shm_primitives::sync::Ordering::Relaxed;
use shm_primitives::sync::{AtomicU32, crash};
use shm_primitives::wake::{Deadline, LoomPark, Park, WakeWord};

/// A park whose sleep begins and ends with a step: a thread may be killed in its sleep.
struct Bed<'a>(&'a LoomPark);

impl Park for Bed<'_> {
    fn now(&self) -> u64 {
        self.0.now()
    }
    fn wait(&self, word: &AtomicU32, expected: u32, until: u64) {
        crash::step();
        self.0.wait(word, expected, until);
        crash::step();
    }
    fn wake(&self, word: &AtomicU32) {
        self.0.wake(word);
    }
}

/// What is published is a number; everything relaxed, so that the fences alone carry it. It is
/// also what stands in lane `LANE` of the ready bitmap.
pub(super) struct Bell {
    pub(super) word: WakeWord,
    pub(super) number: AtomicU32,
    bits: [AtomicU32; 1],
    pub(super) park: LoomPark,
}

pub(super) const LANE: usize = 3;

/// Before the clock of a [`LoomPark`] runs out.
const IN_TIME: Deadline = Deadline::at(1);

pub(super) fn bell(marked: bool) -> Arc<Bell> {
    Arc::new(Bell {
        word: WakeWord::new(),
        number: AtomicU32::new(0),
        bits: [AtomicU32::new(u32::from(marked) << LANE)],
        park: LoomPark::new(),
    })
}

impl Bell {
    pub(super) fn ready(&self) -> ReadyBitmap<'_> {
        ReadyBitmap::new(&self.bits)
    }

    /// Waits for `number`; whether it came.
    pub(super) fn wait_for(&self, number: u32) -> bool {
        let ready = || self.number.load(Relaxed) >= number;
        self.word.waiter().wait(&Bed(&self.park), IN_TIME, ready)
    }
}

/// A notifier dies while it publishes 1 and notifies; `convicted` notifies in its place, after
/// the join, or nobody does. The waiter's answer, and whether it slept to the end.
fn notifier_dies(shared: bool, convicted: bool) {
    // The number, the sequence, the wake.
    at_every_step_bounded(Some(3), 3, move |mortal| {
        let bell = bell(false);
        let waiting = {
            let bell = Arc::clone(&bell);
            thread::spawn(move || bell.wait_for(1))
        };
        let dying = {
            let (bell, mortal) = (Arc::clone(&bell), mortal.clone());
            thread::spawn(move || {
                let (mut alone, mut several) = (bell.word.notifier(), bell.word.shared_notifier());
                mortal
                    .live(|| {
                        bell.number.store(1, Relaxed);
                        if shared { several.notify(&bell.park) } else { alone.notify(&bell.park) }
                    })
                    .is_some()
            })
        };
        let survived = dying.join().unwrap();
        let was_published = bell.number.load(Relaxed) == 1;
        if convicted {
            bell.word.notifier().notify(&bell.park);
        }
        bell.park.expire();
        let came = waiting.join().unwrap();
        check_eq!(came, was_published, "what was published is found when the sleep ends");
        check!(
            !bell.park.overslept() || !was_published || !survived && !convicted,
            "the wake is lost"
        );
    });
}

models! {
    /// The only notifier dies: what it had published is found when the sleep ends.
    fn crash_notify() {
        notifier_dies(false, false);
    }

    /// One of several notifiers dies.
    fn crash_notify_shared() {
        notifier_dies(true, false);
    }

    /// A notifier dies, and whoever convicts it notifies in its place: what was published is
    /// found without oversleeping.
    fn crash_notify_convicted() {
        notifier_dies(false, true);
    }

    /// A waiter dies, awake or parked or in its sleep, while its notifier notifies. Its
    /// successor is woken by the same notifier.
    fn crash_wait() {
        // The epoch, the sleep's beginning and end, the epoch.
        at_every_step_bounded(Some(3), 4, |mortal| {
            let bell = bell(false);
            let dying = {
                let (bell, mortal) = (Arc::clone(&bell), mortal.clone());
                thread::spawn(move || mortal.live(|| bell.wait_for(1)))
            };
            let mut notifier = bell.word.notifier();
            bell.number.store(1, Relaxed);
            notifier.notify(&bell.park);
            check!(dying.join().unwrap() != Some(false), "it survived and saw nothing");
            let successor = {
                let bell = Arc::clone(&bell);
                thread::spawn(move || bell.wait_for(2))
            };
            bell.number.store(2, Relaxed);
            notifier.notify(&bell.park);
            bell.park.expire();
            check!(successor.join().unwrap(), "the second is not found");
            check!(!bell.park.overslept(), "a wake is lost");
        });
    }

    /// A consumer dies while it waits and pops. Its successor finds what it had in hand, and is
    /// woken for what comes.
    fn crash_pop_wait() {
        // As before, then consumed, released and the end given back.
        at_every_step_bounded(Some(3), 7, |mortal| {
            let (spsc, bell) = (Spsc::new(), bell(false));
            let (mut producer, mut consumer) = spsc.ends();
            let dying = {
                let (bell, mortal) = (Arc::clone(&bell), mortal.clone());
                thread::spawn(move || {
                    mortal.live(move || {
                        let mut waiter = bell.word.waiter();
                        let popped = consumer.pop_wait(&mut waiter, &Bed(&bell.park), IN_TIME);
                        check_eq!(popped, Ok(1), "what was pushed and notified");
                    })
                })
            };
            let mut notifier = bell.word.notifier();
            check!(producer.push(1).is_ok(), "full while empty");
            notifier.notify(&bell.park);
            let survived = dying.join().unwrap().is_some();
            let mut consumer = spsc.inherit_consumer();
            let again = pop(&mut consumer);
            check!(again.is_none() || again == Some(1) && !survived, "{again:?} again");
            let successor = {
                let bell = Arc::clone(&bell);
                thread::spawn(move || {
                    let mut waiter = bell.word.waiter();
                    consumer.pop_wait(&mut waiter, &Bed(&bell.park), IN_TIME)
                })
            };
            check!(producer.push(2).is_ok(), "full with one of two");
            notifier.notify(&bell.park);
            bell.park.expire();
            check_eq!(successor.join().unwrap(), Ok(2), "after the death");
            check!(!bell.park.overslept(), "a wake is lost");
        });
    }
}
