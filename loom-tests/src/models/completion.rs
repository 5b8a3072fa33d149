//! Completions: who races to end a call, and the next call in the same slot.

use crate::harness::{Lent, check, check_eq, explore, explore_bounded, models};
use loom::sync::Arc;
use loom::thread;
use shm_primitives::completion::{Completion, GivenUp, Outcome, Tag};
use shm_primitives::sync::Shadow;
use shm_primitives::wake::{Deadline, LoomPark};

/// Before the clock of a [`LoomPark`] runs out.
const IN_TIME: Deadline = Deadline::at(1);

const FIRST: Tag = Tag::of(1, 0);
const SECOND: Tag = Tag::of(2, 0);

/// A slot, and what its caller keeps beside it for the call.
struct Slot {
    call: Completion<u32>,
    beside: Shadow,
}

fn slot() -> Arc<Slot> {
    Arc::new(Slot { call: Completion::new(), beside: Shadow::new() })
}

impl Slot {
    /// The caller touches what is beside the slot.
    fn touch(&self) {
        Shadow::write(core::slice::from_ref(&self.beside));
    }

    /// Ends a call with a result that tells which call and by what.
    fn end(&self, tag: Tag, outcome: Outcome) -> bool {
        let Some(winner) = self.call.win(tag, outcome) else { return false };
        winner.settle(result(tag, outcome));
        true
    }
}

fn result(tag: Tag, outcome: Outcome) -> u32 {
    tag.number() * 10 + outcome as u32
}

/// What was taken is what that outcome's winner of that call wrote.
fn check_result(tag: Tag, taken: (Outcome, Option<u32>)) {
    check_eq!(taken.1, Some(result(tag, taken.0)), "the result of the call and its winner");
}

models! {
    /// A reply, a death and the caller's own time-out at once: one of them ends the call.
    fn completion_one() {
        explore(|| {
            let slot = slot();
            slot.call.begin(FIRST).unwrap();
            let racing = [Outcome::Reply, Outcome::Crash].map(|outcome| {
                let slot = Arc::clone(&slot);
                thread::spawn(move || slot.end(FIRST, outcome))
            });
            let given_up = slot.call.give_up(FIRST);
            let [replied, crashed] = racing.map(|thread| thread.join().unwrap());
            let others = u32::from(replied) + u32::from(crashed);
            match given_up {
                GivenUp::Won => check_eq!(others, 0, "ended by the caller and others"),
                GivenUp::Over => check!(false, "over, and not by its caller"),
                GivenUp::Ended(outcome, value) => {
                    check_eq!(others, 1, "who ended it");
                    check_eq!(outcome == Outcome::Reply, replied, "the winner's");
                    check_result(FIRST, (outcome, value));
                }
                GivenUp::Settling(_) => {
                    check_eq!(others, 1, "who ended it");
                    let taken = slot.call.take(FIRST);
                    check!(taken.is_some(), "settled by its winner");
                    check_result(FIRST, taken.unwrap());
                }
            }
            check!(slot.call.is_idle(), "the slot is free at the end");
        });
    }

    /// The waiter is woken, and finds the result of whoever won.
    fn completion_result() {
        explore_bounded(Some(3), || {
            let slot = slot();
            slot.call.begin(FIRST).unwrap();
            let park = Arc::new(LoomPark::new());
            let lent = Lent::from(Arc::clone(&slot));
            // SAFETY: the waiting thread keeps a clone as long as the waiter.
            let mut waiter = unsafe { lent.get() }.call.bell().waiter();
            let waiting = {
                let park = Arc::clone(&park);
                thread::spawn(move || {
                    // SAFETY: as above.
                    let slot = unsafe { lent.get() };
                    let ended = slot.call.wait(FIRST, &mut waiter, &*park, IN_TIME);
                    check!(ended.is_some() && !park.overslept(), "the wake is lost");
                    let taken = slot.call.take(FIRST);
                    check!(taken.is_some(), "it had ended");
                    check_eq!(taken.map(|taken| taken.0), ended, "by the same");
                    check_result(FIRST, taken.unwrap());
                })
            };
            let other = {
                let (slot, park) = (Arc::clone(&slot), Arc::clone(&park));
                thread::spawn(move || {
                    if let Some(winner) = slot.call.win(FIRST, Outcome::Crash) {
                        winner.settle_and_wake(result(FIRST, Outcome::Crash), &*park);
                    }
                })
            };
            if let Some(winner) = slot.call.win(FIRST, Outcome::Reply) {
                winner.settle_and_wake(result(FIRST, Outcome::Reply), &*park);
            }
            other.join().unwrap();
            park.expire();
            waiting.join().unwrap();
        });
    }

    /// One who is late with the end of the first call, while the second one has the slot: it ends
    /// the first one or none; and who ends the second touches the result after it was taken out.
    fn completion_reuse() {
        explore_bounded(Some(3), || {
            let slot = slot();
            slot.call.begin(FIRST).unwrap();
            let late = {
                let slot = Arc::clone(&slot);
                thread::spawn(move || slot.end(FIRST, Outcome::Reply))
            };
            let next = {
                let slot = Arc::clone(&slot);
                thread::spawn(move || slot.end(SECOND, Outcome::Crash))
            };
            let first = match slot.call.give_up(FIRST) {
                GivenUp::Won => Some(false),
                GivenUp::Ended(outcome, value) => {
                    check_result(FIRST, (outcome, value));
                    Some(true)
                }
                GivenUp::Settling(_) => None,
                GivenUp::Over => {
                    check!(false, "over, and not by its caller");
                    None
                }
            };
            if first.is_some() {
                check!(slot.call.begin(SECOND).is_ok(), "the slot is free");
                let ended = match slot.call.give_up(SECOND) {
                    GivenUp::Ended(outcome, value) => {
                        check_eq!(outcome, Outcome::Crash, "by who meant the second call");
                        check_result(SECOND, (outcome, value));
                        true
                    }
                    GivenUp::Settling(outcome) => {
                        check_eq!(outcome, Outcome::Crash, "by who meant the second call");
                        true
                    }
                    GivenUp::Won => false,
                    GivenUp::Over => {
                        check!(false, "over, and not by its caller");
                        false
                    }
                };
                check_eq!(late.join().unwrap(), first.unwrap(), "the late one knows");
                check_eq!(next.join().unwrap(), ended, "the next one knows");
            } else {
                check!(late.join().unwrap(), "who settles has won");
                check!(!next.join().unwrap(), "a call that has not begun");
            }
        });
    }

    /// Two callers have the slot one after the other, with things beside it.
    fn completion_begin() {
        explore(|| {
            let slot = slot();
            let callers = [FIRST, SECOND].map(|tag| {
                let slot = Arc::clone(&slot);
                thread::spawn(move || {
                    if slot.call.begin(tag).is_err() {
                        return false;
                    }
                    slot.touch();
                    if tag == FIRST {
                        check_eq!(slot.call.give_up(tag), GivenUp::Won, "nobody else ends it");
                    } else {
                        check!(slot.end(tag, Outcome::Reply), "nobody else ends it");
                        slot.touch();
                        check_result(tag, slot.call.take(tag).unwrap());
                    }
                    true
                })
            });
            let begun = callers.map(|caller| caller.join().unwrap());
            check!(begun != [false, false], "a free slot was given to nobody");
            check!(slot.call.is_idle(), "the slot is free at the end");
        });
    }

    /// The caller leaves while its call is being ended, and another call has the slot after it.
    fn completion_abandon() {
        explore(|| {
            let slot = slot();
            slot.call.begin(FIRST).unwrap();
            let winning = {
                let slot = Arc::clone(&slot);
                thread::spawn(move || match slot.call.win(FIRST, Outcome::Reply) {
                    Some(winner) => Some(winner.settle(result(FIRST, Outcome::Reply))),
                    None => None,
                })
            };
            let next = {
                let slot = Arc::clone(&slot);
                thread::spawn(move || {
                    if slot.call.begin(SECOND).is_ok() {
                        slot.touch();
                        check!(slot.end(SECOND, Outcome::Crash), "nobody else ends it");
                        check_result(SECOND, slot.call.take(SECOND).unwrap());
                    }
                })
            };
            slot.touch();
            let own = slot.call.abandon(FIRST);
            next.join().unwrap();
            check_eq!(winning.join().unwrap().is_none(), own, "one of the two has ended it");
            check!(slot.call.is_idle(), "the slot is free at the end");
        });
    }
}
