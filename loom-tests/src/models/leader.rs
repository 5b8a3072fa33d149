//! Leader and followers: what the leader has, and that nobody sleeps while nobody leads.

use crate::harness::{check, check_eq, explore, explore_bounded, models};
use loom::sync::Arc;
use loom::thread;
use shm_primitives::leader::Leadership;
use shm_primitives::wake::{Deadline, LoomPark, WakeWord};

/// Before the clock of a [`LoomPark`] runs out.
const IN_TIME: Deadline = Deadline::at(1);

/// What the threads of a model share: each has a bell, where it sleeps while it follows.
struct Shared {
    leadership: Leadership<Vec<usize>>,
    bells: [WakeWord; 3],
    park: LoomPark,
}

impl Shared {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            leadership: Leadership::new(Vec::new()),
            bells: core::array::from_fn(|_| WakeWord::new()),
            park: LoomPark::new(),
        })
    }

    /// Wakes the others that may follow: one is enough, and it is not known which does.
    fn wake_another(&self, me: usize, of: usize) {
        for other in (0..of).filter(|other| *other != me) {
            self.bells[other].shared_notifier().notify(&self.park);
        }
    }

    /// Leads once, as soon as it can, and follows until then; wakes another when it has.
    fn lead_once(&self, me: usize, of: usize) {
        loop {
            if let Some(mut leading) = self.leadership.try_lead() {
                leading.push(me);
                if leading.resign() {
                    self.wake_another(me, of);
                }
                return;
            }
            self.leadership.follow();
            let bell = &self.bells[me];
            bell.waiter().wait(&self.park, IN_TIME, || !self.leadership.is_led());
            check!(!self.park.overslept(), "one sleeps, and nobody leads");
            // It goes on to lead, or to follow: who leads then wakes the next.
            let _ = self.leadership.unfollow();
        }
    }
}

models! {
    /// Two who lead one after the other: each sees what the other did.
    fn leader_value() {
        explore(|| {
            let shared = Shared::new();
            let other = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.leadership.try_lead().map(|mut it| it.push(1)))
            };
            let led = shared.leadership.try_lead().map(|mut leading| leading.push(0)).is_some();
            let others = other.join().unwrap().is_some();
            check!(led || others, "nobody could lead");
            let count = usize::from(led) + usize::from(others);
            let leading = shared.leadership.try_lead();
            check_eq!(leading.map(|it| it.len()), Some(count), "what was done by who led");
        });
    }

    /// Two threads, each of which leads once: none sleeps while nobody leads.
    fn leader_two() {
        explore(|| {
            let shared = Shared::new();
            let other = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.lead_once(1, 2))
            };
            shared.lead_once(0, 2);
            other.join().unwrap();
            check!(!shared.leadership.is_led(), "all have resigned");
            check_eq!(shared.leadership.followers(), 0, "followers");
        });
    }

    /// The same of three, one of whom has got what it waited for while it followed: woken or not, it
    /// passes on that somebody may lead.
    fn leader_passed_on() {
        explore_bounded(Some(3), || {
            let shared = Shared::new();
            let mut leading = shared.leadership.try_lead().unwrap();
            let follower = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.lead_once(1, 3))
            };
            let leaving = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    shared.leadership.follow();
                    if shared.leadership.unfollow() {
                        shared.bells[1].shared_notifier().notify(&shared.park);
                    }
                })
            };
            leading.push(0);
            // Of two that follow this wakes the one that leaves, if it can.
            if leading.resign() && shared.leadership.followers() < 2 {
                shared.bells[1].shared_notifier().notify(&shared.park);
            }
            follower.join().unwrap();
            leaving.join().unwrap();
            check_eq!(shared.leadership.followers(), 0, "followers");
        });
    }
}
