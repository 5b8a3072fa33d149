//! The slot table. Entry number n has n in both of its words, so that a mix of two shows; what
//! a slot's copies hold before its first entry is 0 and is no entry.
//!
//! Claiming loads what it then stores, and loom remembers the last access alone (see
//! `docs/verification.md`); so where a model is about readers, one thread holds the slot
//! already, and only stores.

use crate::harness::{Lent, check, check_eq, explore, explore_bounded, models, owner};
use loom::sync::{Arc, Mutex, MutexGuard};
use loom::thread;
use shm_primitives::identity::{Dead, OwnerId};
use shm_primitives::sync::AtomicU32;
use shm_primitives::sync::Ordering::Relaxed;
use shm_primitives::table::{Slot, SlotKey, SlotTable, Snapshot};
use std::sync::PoisonError;

pub(super) type Table = SlotTable<'static, [u32; 2], 1>;

/// Ids of holders; not of this table's slots.
pub(super) const FIRST: u32 = 101;
pub(super) const SECOND: u32 = 102;
pub(super) const HEIR: u32 = 103;

pub(super) fn entry(n: u32) -> [u32; 2] {
    [n; 2]
}

/// A table that outlives the threads of its model.
pub(super) fn table(slots: u32) -> (Lent<Vec<AtomicU32>>, Table) {
    let words = Table::words_for(slots).unwrap();
    let memory = Lent::new((0..words).map(|_| AtomicU32::new(0)).collect::<Vec<_>>());
    // SAFETY: every model keeps the first until its threads are joined.
    let table = Table::in_words(unsafe { memory.get() });
    (memory, table)
}

/// Reads slot 0: an entry that is whole; its number, owner and generation.
pub(super) fn look(table: Table) -> Option<(u32, u32, u32)> {
    let seen = table.read(0);
    // Each attempt that fails has seen a change, and there are few.
    check!(seen.is_ok(), "busy");
    let Snapshot { key, owner, entry } = seen.unwrap()?;
    check!(entry[0] == entry[1], "a mix: {entry:?}");
    check_eq!(key.index(), 0, "index");
    Some((entry[0], owner.index(), key.generation()))
}

/// The same, which is one of `possible`; which.
pub(super) fn look_for(table: Table, possible: &[Option<(u32, u32, u32)>]) -> usize {
    let seen = look(table);
    let at = possible.iter().position(|one| *one == seen);
    check!(at.is_some(), "found {seen:?}");
    at.unwrap()
}

/// The proof that `id` is dead.
pub(super) fn dead(id: OwnerId) -> Dead<OwnerId> {
    // SAFETY: owners here are names given to handles; each model calls this when there is none
    // left of this one's.
    unsafe { Dead::assume(id) }
}

/// The kernel's locks on ids: also a fact that everybody agrees on.
#[derive(Clone)]
pub(super) struct Locks(Arc<Mutex<Vec<OwnerId>>>);

pub(super) struct Lock(Locks, OwnerId);

impl Locks {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Vec::new())))
    }

    fn list(&self) -> MutexGuard<'_, Vec<OwnerId>> {
        // A death while it was locked leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(&self, id: OwnerId) -> Option<Lock> {
        let mut locked = self.list();
        if locked.contains(&id) {
            return None;
        }
        locked.push(id);
        Some(Lock(self.clone(), id))
    }

    pub(super) fn is_held(&self, id: OwnerId) -> bool {
        self.list().contains(&id)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A death drops it too, as the kernel does.
        self.0.list().retain(|id| *id != self.1);
    }
}

models! {
    /// Two claim the only slot: one has it, the other is told that there is none.
    fn table_two_claim() {
        explore(|| {
            let (_memory, table) = table(1);
            let other = thread::spawn(move || {
                table.claim(owner(SECOND), &entry(2)).ok().map(Slot::keep)
            });
            let mine = table.claim(owner(FIRST), &entry(1)).ok().map(Slot::keep);
            let others = other.join().unwrap();
            check!(mine.is_some() != others.is_some(), "{mine:?} and {others:?}");
            let holder = if mine.is_some() { (1, FIRST, 1) } else { (2, SECOND, 1) };
            check_eq!(look(table), Some(holder), "after it");
        });
    }

    /// One claims and releases while another claims: each finds what the other left.
    fn table_release_claim() {
        explore(|| {
            let (_memory, table) = table(1);
            let other = thread::spawn(move || {
                let slot = table.claim(owner(SECOND), &entry(2)).ok()?;
                let key = slot.key();
                slot.release();
                Some(key)
            });
            let mine = table.claim(owner(FIRST), &entry(1)).ok().map(Slot::keep);
            let others = other.join().unwrap();
            check!(mine.is_some() || others.is_some(), "nobody got it");
            check!(mine != others, "one tenancy of both: {mine:?}");
            match mine {
                Some(key) => check_eq!(look(table), Some((1, FIRST, key.generation())), "mine"),
                None => check_eq!(look(table), None, "nobody's"),
            }
        });
    }

    /// A claim while somebody reads: no entry, or the whole one, and never the former tenant's.
    fn table_claim_read() {
        explore(|| {
            let (_memory, table) = table(1);
            table.claim(owner(FIRST), &entry(1)).unwrap().release();
            let mut slot = table.reserve(owner(SECOND)).unwrap();
            let claiming = thread::spawn(move || {
                slot.update(&entry(2));
                slot.keep()
            });
            look_for(table, &[None, Some((2, SECOND, 2))]);
            claiming.join().unwrap();
            check_eq!(look(table), Some((2, SECOND, 2)), "after it");
        });
    }

    /// A change while somebody reads: the entry before or the one after.
    fn table_update_read() {
        explore(|| {
            let (_memory, table) = table(1);
            let mut slot = table.claim(owner(FIRST), &entry(1)).unwrap();
            let changing = thread::spawn(move || {
                slot.update(&entry(2));
                slot.keep()
            });
            let both = [Some((1, FIRST, 1)), Some((2, FIRST, 1))];
            let first = look_for(table, &both);
            let second = look_for(table, &both);
            check!(second >= first, "went back");
            changing.join().unwrap();
            check_eq!(look(table), both[1], "after it");
        });
    }

    /// A copy is overwritten while a reader is in it: the reader notices.
    fn table_overwritten() {
        explore(|| {
            let (_memory, table) = table(1);
            let mut slot = table.claim(owner(FIRST), &entry(1)).unwrap();
            let changing = thread::spawn(move || {
                slot.update(&entry(2));
                slot.update(&entry(3));
                slot.keep()
            });
            look_for(table, &[1, 2, 3].map(|n| Some((n, FIRST, 1))));
            changing.join().unwrap();
        });
    }

    /// A slot changes its tenant while somebody reads: key, owner and entry are of one of them.
    fn table_tenant_read() {
        explore_bounded(Some(4), || {
            let (_memory, table) = table(1);
            let slot = table.claim(owner(FIRST), &entry(1)).unwrap();
            let changing = thread::spawn(move || {
                slot.release();
                table.claim(owner(SECOND), &entry(2)).unwrap().keep()
            });
            look_for(table, &[Some((1, FIRST, 1)), None, Some((2, SECOND, 2))]);
            changing.join().unwrap();
            check_eq!(look(table), Some((2, SECOND, 2)), "after it");
        });
    }

    /// The same of memory that goes with a slot and was written before its entry: what is read
    /// between finding the entry and its confirmation is that tenancy's.
    fn table_confirm() {
        explore(|| {
            let (_memory, table) = table(1);
            let beside = Lent::new(AtomicU32::new(0));
            // SAFETY: it is dropped after the join.
            let word = unsafe { beside.get() };
            let mut slot = table.reserve(owner(FIRST)).unwrap();
            let changing = thread::spawn(move || {
                word.store(1, Relaxed);
                slot.update(&entry(1));
                slot.release();
                let mut slot = table.reserve(owner(SECOND)).unwrap();
                word.store(2, Relaxed);
                slot.update(&entry(2));
                slot.keep()
            });
            let seen = table.read(0);
            check!(seen.is_ok(), "busy");
            if let Some(found) = seen.unwrap() {
                let read = word.load(Relaxed);
                if table.confirm(found.key) {
                    check_eq!(read, found.entry[0], "what goes with the entry");
                }
            }
            changing.join().unwrap();
            check_eq!(table.confirm(SlotKey::new(0, 1)), false, "after it");
            check!(table.confirm(SlotKey::new(0, 2)), "the last tenancy goes on");
        });
    }

    /// The same of a live word: it is never the next tenant's.
    fn table_tenant_live() {
        explore(|| {
            let (_memory, table) = table(1);
            let slot = table.claim(owner(FIRST), &entry(1)).unwrap();
            slot.live(0).unwrap().store(11, Relaxed);
            let key = slot.key();
            let changing = thread::spawn(move || {
                slot.release();
                let slot = table.reserve(owner(SECOND)).unwrap();
                slot.live(0).unwrap().store(12, Relaxed);
                slot.keep()
            });
            let seen = table.live(key, 0);
            check!(seen.is_none() || seen == Some(11), "{seen:?}");
            changing.join().unwrap();
            check_eq!(table.live(key, 0), None, "after it");
        });
    }

    /// A live word stored before the entry is published is what a reader of that tenancy finds.
    fn table_live_published() {
        explore(|| {
            let (_memory, table) = table(1);
            let mut slot = table.reserve(owner(FIRST)).unwrap();
            let key = slot.key();
            let publishing = thread::spawn(move || {
                slot.live(0).unwrap().store(11, Relaxed);
                slot.update(&entry(1));
                slot.keep()
            });
            let seen = table.live(key, 0);
            check!(seen.is_none() || seen == Some(11), "{seen:?}");
            publishing.join().unwrap();
        });
    }

    /// A slot handed over: who goes on with it finds the last entry. The giver, who looks at
    /// the owner before it stores it, is the first thread: it would hide the other's look.
    fn table_hand_over() {
        explore(|| {
            let (_memory, table) = table(1);
            let mut slot = table.claim(owner(FIRST), &entry(1)).unwrap();
            let key = slot.key();
            let taking = thread::spawn(move || {
                let Some(slot) = table.resume(key, owner(SECOND)) else { return };
                check_eq!(slot.entry(), Some(entry(2)), "what was handed over");
                slot.keep();
            });
            slot.update(&entry(2));
            check_eq!(slot.hand_over(owner(SECOND)), key, "key");
            taking.join().unwrap();
            check_eq!(look(table), Some((2, SECOND, 1)), "after it");
        });
    }

    /// A slot whose holder died before it published anything: readers see the heir's entry, as
    /// the heir's.
    fn table_recover_publish() {
        explore(|| {
            let (_memory, table) = table(1);
            table.reserve(owner(FIRST)).unwrap().keep();
            let reading = thread::spawn(move || {
                look_for(table, &[None, Some((2, HEIR, 2))]);
            });
            let mut slots = table.recover(dead(owner(FIRST)), owner(HEIR)).unwrap();
            let mut slot = slots.next().unwrap();
            slot.update(&entry(2));
            slot.keep();
            reading.join().unwrap();
            check_eq!(look(table), Some((2, HEIR, 2)), "after it");
        });
    }

    /// A slot is taken over from a dead holder while somebody reads.
    fn table_recover_read() {
        explore(|| {
            let (_memory, table) = table(1);
            table.claim(owner(FIRST), &entry(1)).unwrap().keep();
            let recovering = thread::spawn(move || {
                let mut recovery = table.recover(dead(owner(FIRST)), owner(HEIR)).unwrap();
                let slot = recovery.next().unwrap();
                check_eq!(slot.entry(), Some(entry(1)), "what the heir finds");
                slot.release();
            });
            let seen = [Some((1, FIRST, 1)), Some((1, HEIR, 1)), None];
            let first = look_for(table, &seen);
            let second = look_for(table, &seen);
            check!(second >= first, "went back");
            recovering.join().unwrap();
            check_eq!(look(table), None, "after it");
        });
    }

    /// Two recover what one had: each slot goes to one of them, and is claimed by a third only
    /// when it is released.
    fn table_two_recover() {
        explore(|| {
            let (_memory, table) = table(2);
            table.claim(owner(FIRST), &entry(1)).unwrap().keep();
            table.reserve(owner(FIRST)).unwrap().keep();
            let release = move |heir| table.release_all_of(dead(owner(FIRST)), owner(heir));
            let other = thread::spawn(move || release(SECOND).unwrap());
            let mine = release(HEIR).unwrap();
            check_eq!(mine + other.join().unwrap(), 2, "slots");
            check_eq!(table.owners().count(), 0, "nothing is left");
            let key = |index| table.reserve_at(index, owner(FIRST)).unwrap().keep();
            check_eq!(key(0), SlotKey::new(0, 2), "a published one keeps its generation");
            check_eq!(key(1), SlotKey::new(1, 3), "another does not");
        });
    }

    /// Two enrol in the only slot, and one of them leaves again: no id is given twice, and the
    /// locks are those of the ids that are held.
    fn table_enrol() {
        explore(|| {
            let (_memory, table) = table(1);
            let locks = Locks::new();
            let other = {
                let locks = locks.clone();
                thread::spawn(move || {
                    let enrolled = table.enrol(&entry(2), |id| locks.take(id)).ok()?;
                    check!(locks.is_held(enrolled.id()), "no lock");
                    Some(enrolled.id())
                })
            };
            let mine = table.enrol(&entry(1), |id| locks.take(id)).ok();
            let others = other.join().unwrap();
            let id = mine.as_ref().map(|enrolled| enrolled.id());
            check!(id != others || id.is_none(), "the same id twice: {id:?}");
            check_eq!(table.owner(0), id, "who has it");
            if let Some(id) = id {
                check!(locks.is_held(id), "no lock");
                check_eq!(table.get(id.into()).unwrap().map(|found| found.owner), Some(id), "record");
            }
            check_eq!(locks.list().len(), usize::from(id.is_some()), "locks");
        });
    }

    /// One enrols while another claims the same slot and leaves it: the id is of a generation
    /// that the other has not used.
    fn table_enrol_claim() {
        explore(|| {
            let (_memory, table) = table(1);
            let other = thread::spawn(move || {
                let slot = table.reserve(owner(FIRST)).ok()?;
                let key = slot.key();
                slot.release();
                Some(key)
            });
            let mine = table.enrol(&entry(1), Some).ok();
            let others = other.join().unwrap();
            let key = mine.as_ref().map(|enrolled| enrolled.slot().key());
            check!(key != others || key.is_none(), "the same tenancy twice: {key:?}");
            check_eq!(mine.map(|enrolled| enrolled.id().into()), key, "id and slot");
        });
    }

    /// Somebody looks for the dead while one enrols: an id that is seen, and then found not to
    /// be locked, is never the id of one that lives.
    fn table_enrol_convict() {
        explore(|| {
            let (_memory, table) = table(1);
            let (locks, convicted) = (Locks::new(), Arc::new(Mutex::new(Vec::new())));
            let looking = {
                let (locks, convicted) = (locks.clone(), Arc::clone(&convicted));
                thread::spawn(move || {
                    let Some(id) = table.owner(0) else { return };
                    if !locks.is_held(id) {
                        convicted.lock().unwrap().push(id);
                        // It has left.
                        check_eq!(table.release_all_of(dead(id), owner(HEIR)), Ok(0), "slots");
                    }
                })
            };
            let enrolled = table.enrol(&entry(1), |id| locks.take(id)).unwrap();
            let id = enrolled.id();
            check!(!convicted.lock().unwrap().contains(&id), "convicted alive");
            drop(enrolled);
            looking.join().unwrap();
            check!(!locks.is_held(id) && table.owner(0).is_none(), "left");
        });
    }

    /// The proof of a death is used on the slot that one who is late has taken under the dead
    /// one's id: the late one leaves the slot to the heir, and gets another id.
    fn table_enrol_stale_proof() {
        explore(|| {
            let (_memory, table) = table(1);
            let id = OwnerId::new(0, 1).unwrap();
            // Its version is read before the former one is there, its exchange after that.
            let mut heirs = None;
            let mut first = true;
            let late = table.enrol(&entry(2), |late| {
                if std::mem::take(&mut first) {
                    check_eq!(late, id, "the first id");
                    table.enrol(&entry(1), Some).unwrap().into_parts().0.keep();
                    check_eq!(table.release_all_of(dead(id), owner(HEIR)), Ok(1), "the first");
                    // A proof that was used late.
                    heirs = Some(thread::spawn(move || {
                        table.release_all_of(dead(id), owner(SECOND)).unwrap()
                    }));
                }
                Some(())
            });
            let late = late.map(|enrolled| {
                check!(enrolled.id() != id, "a dead one's id");
                check_eq!(look(table), Some((2, 0, enrolled.id().generation())), "its entry");
                enrolled.into_parts().0.keep()
            });
            heirs.unwrap().join().unwrap();
            // The heir may have had the slot each time it looked.
            if let Ok(key) = late {
                check_eq!(look(table), Some((2, 0, key.generation())), "nobody took it away");
            } else {
                check_eq!(table.owner(0), None, "nobody's");
            }
        });
    }
}
