//! Holders of slots and their heirs, while somebody reads.
//!
//! As in the ordinary models the mortal thread holds the slot already where it can, and one
//! other thread reads.

use super::{at_every_step_bounded, dead};
use crate::harness::{check, check_eq, models, owner};
use crate::models::table::{self as model, FIRST, HEIR, Locks, SECOND, entry, look_for, table};
use loom::thread;
use shm_primitives::table::Slot;

type Held = Slot<'static, [u32; 2], 1>;

/// Stores of a change of the entry: its two words, the selector.
const CHANGE: u32 = 3;
/// Of reserving: owner, version, one live word.
const RESERVE: u32 = 3;
const RELEASE: u32 = 2;

/// What is read of slot 0: number, owner, generation.
type Seen = Option<(u32, u32, u32)>;

/// After the `prepare` a holder dies in `operate`, while another thread looks twice and finds
/// the `seen`, in this order, of which the last is what is left if it survives. An heir finds
/// what was seen last, and the table is as good as new.
fn holder_dies(
    preemptions: Option<usize>,
    steps: u32,
    prepare: fn(model::Table) -> Held,
    operate: fn(Held),
    seen: &'static [Seen],
) {
    at_every_step_bounded(preemptions, steps, move |mortal| {
        let (_memory, table) = table(1);
        let slot = prepare(table);
        let mortal = mortal.clone();
        let dying = thread::spawn(move || mortal.live(move || operate(slot)).is_some());
        let first = look_for(table, seen);
        let survived = dying.join().unwrap();
        let last = look_for(table, seen);
        check!(last >= first, "went back");
        check!(!survived || last + 1 == seen.len(), "{last} of one that lives");
        heir_finds(table, seen[last]);
    });
}

/// The heir of `FIRST` finds in slot 0 what was seen of it, and releases it.
fn heir_finds(table: model::Table, left: Seen) {
    let slots: Vec<_> = table.recover(dead(FIRST), owner(HEIR)).unwrap().collect();
    let found = slots.first().and_then(Slot::entry);
    check_eq!(found, left.map(|(n, ..)| entry(n)), "what the heir finds");
    if let Some((n, _, generation)) = left {
        check_eq!(model::look(table), Some((n, HEIR, generation)), "readers go on");
    }
    drop(slots);
    check_eq!(table.owner(0), None, "released");
    let next = table.claim(owner(SECOND), &entry(9)).unwrap();
    let generation = left.map_or(0, |(.., generation)| generation);
    check!(next.key().generation() > generation, "a generation twice");
    let seen = Some((9, SECOND, next.key().generation()));
    check_eq!(model::look(table), seen, "as good as new");
}

models! {
    /// A holder that dies while it releases, and an heir that takes the slot over, while
    /// somebody reads: a tenancy that had ended before is not found in the heir's name.
    fn crash_table_release_heir() {
        at_every_step_bounded(None, RELEASE, |mortal| {
            let (_memory, table) = table(1);
            let slot = table.claim(owner(FIRST), &entry(1)).unwrap();
            let reading = thread::spawn(move || model::look(table));
            let _ = mortal.live(|| slot.release());
            let left = table.recover(dead(FIRST), owner(HEIR)).unwrap().next();
            let ended = left.as_ref().is_some_and(|slot| slot.entry().is_none());
            let seen = reading.join().unwrap();
            check!(!ended || seen.is_none_or(|(_, who, _)| who != HEIR), "{seen:?} of the heir");
        });
    }

    /// A holder that publishes its first entry, in a slot that was another's.
    fn crash_table_publish() {
        holder_dies(
            None,
            CHANGE + 1,
            |table| {
                table.claim(owner(SECOND), &entry(5)).unwrap().release();
                table.reserve(owner(FIRST)).unwrap()
            },
            |mut slot| {
                slot.update(&entry(1));
                slot.keep();
            },
            &[None, Some((1, FIRST, 2))],
        );
    }

    /// A holder that changes its entry, twice: the second time over the copy that the reader
    /// may be in.
    fn crash_table_update() {
        holder_dies(
            Some(3),
            2 * CHANGE,
            |table| table.claim(owner(FIRST), &entry(1)).unwrap(),
            |mut slot| {
                slot.update(&entry(2));
                slot.update(&entry(3));
                slot.keep();
            },
            &[Some((1, FIRST, 1)), Some((2, FIRST, 1)), Some((3, FIRST, 1))],
        );
    }

    /// A holder that releases.
    fn crash_table_release() {
        holder_dies(
            None,
            RELEASE,
            |table| table.claim(owner(FIRST), &entry(1)).unwrap(),
            Slot::release,
            &[Some((1, FIRST, 1)), None],
        );
    }

    /// One that claims what another releases, while that one does.
    fn crash_table_claim() {
        at_every_step_bounded(None, RESERVE + CHANGE + 1, |mortal| {
            let (_memory, table) = table(1);
            let slot = table.claim(owner(SECOND), &entry(5)).unwrap();
            let mortal = mortal.clone();
            let dying = thread::spawn(move || {
                let claim = || table.claim(owner(FIRST), &entry(1)).is_ok_and(|slot| {
                    slot.keep();
                    true
                });
                mortal.live(claim)
            });
            slot.release();
            let survived = dying.join().unwrap();
            let left = look_for(table, &[None, Some((1, FIRST, 2))]);
            check!(survived.is_none() || survived == Some(left == 1), "{survived:?}, {left}");
            heir_finds(table, [None, Some((1, FIRST, 2))][left]);
        });
    }

    /// An heir that dies, while somebody reads; and its heir.
    fn crash_table_recover() {
        at_every_step_bounded(None, 1 + CHANGE + RELEASE, |mortal| {
            let (_memory, table) = table(1);
            table.claim(owner(SECOND), &entry(1)).unwrap().keep();
            let mortal = mortal.clone();
            let dying = thread::spawn(move || {
                let recover = || {
                    let mut slots = table.recover(dead(SECOND), owner(FIRST)).unwrap();
                    let mut slot = slots.next().unwrap();
                    slot.update(&entry(2));
                    slot.release();
                };
                mortal.live(recover).is_some()
            });
            let all = [
                Some((1, SECOND, 1)), Some((1, FIRST, 1)), Some((2, FIRST, 1)), None,
            ];
            let first = look_for(table, &all);
            let survived = dying.join().unwrap();
            let last = look_for(table, &all);
            check!(last >= first, "went back");
            check!(!survived || last == 3, "{last} of one that lives");
            if last == 0 {
                // Not taken over yet: still the first one's.
                check_eq!(table.release_all_of(dead(SECOND), owner(HEIR)), Ok(1), "slots");
            } else {
                heir_finds(table, all[last]);
            }
            check_eq!(table.owner(0), None, "released");
        });
    }

    /// One that enrols while another does, who then looks for the dead: nobody's id is given
    /// twice, and nobody that lives is convicted.
    fn crash_table_enrol() {
        at_every_step_bounded(Some(4), RESERVE + CHANGE + 1 + RELEASE, |mortal| {
            let (_memory, table) = table(1);
            let locks = Locks::new();
            let mortal = mortal.clone();
            let dying = {
                let locks = locks.clone();
                thread::spawn(move || {
                    mortal.live(|| {
                        let enrolled = table.enrol(&entry(1), |id| locks.take(id)).ok()?;
                        let id = enrolled.id();
                        check_eq!(enrolled.slot().key(), id.into(), "id and slot");
                        Some(id)
                    })
                })
            };
            let mine = table.enrol(&entry(2), |id| locks.take(id)).ok().map(|mine| mine.id());
            let others = dying.join().unwrap().flatten();
            check!(mine != others || mine.is_none(), "the same id twice: {mine:?}");
            // Mine has left. The other may have died with an id of its own, or with mine, which
            // it had not yet taken away again.
            if let Some(left) = table.owner(0) {
                check!(!locks.is_held(left), "the lock of a dead one");
                check_eq!(table.release_all_of(model::dead(left), owner(HEIR)), Ok(1), "slots");
                let next = table.enrol(&entry(3), |id| locks.take(id)).unwrap().id();
                check!(next != left && Some(next) != mine, "an id twice");
            }
            let next = table.enrol(&entry(3), |id| locks.take(id)).unwrap().id();
            check!(Some(next) != mine && Some(next) != others, "an id twice");
        });
    }
}
