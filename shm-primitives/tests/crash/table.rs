//! The slot table.

use crate::common::memory::Memory;
use crate::common::owner;
use crate::harness::{at_every_step, die};
use shm_primitives::identity::{Dead, OwnerId};
use shm_primitives::part::AttachError;
use shm_primitives::sync::Ordering::Relaxed;
use shm_primitives::table::{Options, Slot, SlotKey, SlotTable, Snapshot};
use std::cell::RefCell;
use std::collections::BTreeSet;

type Entry = [u32; 3];
type Table<'a> = SlotTable<'a, Entry, 2>;
type Held<'a> = Slot<'a, Entry, 2>;

const SLOTS: u32 = 3;
/// Stores of parts of operations.
const RESERVE: u32 = 2 + 2; // owner, version; two live words
const CHANGE: u32 = 3 + 1; // the entry's words, the selector
const CLAIM: u32 = RESERVE + CHANGE + 1; // and the version
const RELEASE: u32 = 2;

/// A bystander, who holds slot 0 all the time; the one who dies; who comes after it.
const OTHER: u32 = 100;
const MORTAL: u32 = 101;
const HEIR: u32 = 102;
const THIRD: u32 = 103;

fn entry(n: u32) -> Entry {
    [n, !n, n << 16]
}

fn dead(id: OwnerId) -> Dead<OwnerId> {
    // SAFETY: every test calls this when its handles are gone.
    unsafe { Dead::assume(id) }
}

fn options() -> impl Iterator<Item = Options> {
    let options = Options::new(SLOTS);
    let last = OwnerId::MAX_GENERATION;
    [options, options.generation(5).changes(3), options.generation(last).changes(u32::MAX)]
        .into_iter()
}

/// Runs `attempt` for each table and at each step, on a table with a bystander, and checks
/// afterwards that the bystander is as it was and the table as good as new. Answers the
/// number of deaths, the same for all tables.
fn dies(what: &str, attempt: impl Fn(Table<'_>, u32) -> bool) -> u32 {
    let deaths: BTreeSet<u32> = options()
        .map(|options| {
            at_every_step(what, |budget| {
                let memory = Memory::new(Table::required_size(SLOTS).unwrap(), 0xa5);
                let table = Table::init_at(&memory.region(), options).unwrap();
                let bystander = table.claim(owner(OTHER), &entry(77)).unwrap();
                bystander.live(0).unwrap().store(78, Relaxed);
                let survived = attempt(table, budget);
                let found = table.get(bystander.key()).unwrap().unwrap();
                assert_eq!((found.entry, found.owner), (entry(77), owner(OTHER)));
                assert_eq!(table.live(bystander.key(), 0), Some(78));
                drop(bystander);
                check_usable(table);
                survived
            })
        })
        .collect();
    assert_eq!(deaths.len(), 1, "{what}: {deaths:?}");
    deaths.into_iter().next().unwrap()
}

/// All slots are nobody's, and can be had.
fn check_usable(table: Table<'_>) {
    assert_eq!(table.owners().collect::<Vec<_>>(), [], "left behind");
    assert_eq!(table.iter().count(), 0, "left behind");
    let slots: Vec<_> = (0..SLOTS).map(|n| table.claim(owner(n), &entry(n)).unwrap()).collect();
    for (n, slot) in (0..).zip(&slots) {
        let found = table.get(slot.key()).unwrap().unwrap();
        assert_eq!((found.owner, found.entry), (owner(n), entry(n)));
        assert_eq!([0, 1].map(|word| table.live(slot.key(), word)), [Some(0); 2]);
    }
}

/// Who comes after `mortal` finds in its slots what it had published, under the keys that
/// readers know, and releases them. No key that was anybody's is given again.
fn recover(table: Table<'_>, mortal: u32, published: &[Option<Entry>], known: &[SlotKey]) {
    let before: Vec<_> = table.iter().map(Result::unwrap).collect();
    let slots: Vec<_> = table.recover(dead(owner(mortal)), owner(HEIR)).unwrap().collect();
    let entries: Vec<_> = slots.iter().map(Slot::entry).collect();
    assert_eq!(entries, published);
    for slot in &slots {
        let is_known = known.contains(&slot.key());
        assert!(!is_known || slot.is_published(), "{} again", slot.key());
        let seen = before.iter().find(|found| found.key == slot.key());
        assert_eq!(seen.map(|found| found.entry), slot.entry(), "what readers saw");
    }
    let mut keys: BTreeSet<_> = slots.iter().map(Slot::key).collect();
    drop(slots);
    keys.extend(known);
    for index in 1..SLOTS {
        let slot = table.reserve_at(index, owner(THIRD)).unwrap();
        assert!(!keys.contains(&slot.key()), "{} again", slot.key());
    }
}

fn seen(table: Table<'_>) -> Vec<(u32, Entry)> {
    let others = table.iter().map(Result::unwrap).filter(|found| found.owner != owner(OTHER));
    others.map(|Snapshot { key, entry, .. }| (key.index(), entry)).collect()
}

#[test]
fn claims() {
    let deaths = dies("claim", |table, budget| {
        let survived = die(budget, || table.claim(owner(MORTAL), &entry(1)).unwrap().keep());
        let whole = budget >= CLAIM;
        assert_eq!(survived.is_some(), whole);
        assert_eq!(seen(table), if whole { vec![(1, entry(1))] } else { vec![] });
        let owners = table.owners().filter(|(index, _)| *index != 0).count();
        assert_eq!(owners, usize::from(budget >= 1), "held from the first store on");
        let published = [whole.then_some(entry(1))];
        recover(table, MORTAL, &published[..owners], survived.as_slice());
        whole
    });
    assert_eq!(deaths, CLAIM);
}

#[test]
fn changes() {
    let deaths = dies("update, update", |table, budget| {
        let mut slot = table.claim(owner(MORTAL), &entry(1)).unwrap();
        let key = slot.key();
        let survived = die(budget, move || {
            slot.update(&entry(2));
            slot.update(&entry(3));
            slot.keep()
        });
        let n = 1 + budget.min(2 * CHANGE) / CHANGE;
        assert_eq!(seen(table), [(1, entry(n))], "the last whole one");
        recover(table, MORTAL, &[Some(entry(n))], &[key]);
        survived.is_some()
    });
    assert_eq!(deaths, 2 * CHANGE);
}

/// A successor changes the entry over the copy that the dead one left half written.
#[test]
fn changes_after_a_death() {
    for half in 0..CHANGE {
        let deaths = dies("update by the heir", |table, budget| {
            let mut slot = table.claim(owner(MORTAL), &entry(1)).unwrap();
            let key = slot.key();
            assert!(die(half, move || slot.update(&entry(9))).is_none());
            let mut heirs = table.recover(dead(owner(MORTAL)), owner(THIRD)).unwrap();
            let mut slot = heirs.next().unwrap();
            assert_eq!((slot.key(), slot.entry()), (key, Some(entry(1))));
            let survived = die(budget, move || {
                slot.update(&entry(2));
                slot.keep()
            });
            let left = if survived.is_some() { entry(2) } else { entry(1) };
            assert_eq!(seen(table), [(1, left)]);
            recover(table, THIRD, &[Some(left)], &[key]);
            survived.is_some()
        });
        assert_eq!(deaths, CHANGE);
    }
}

#[test]
fn releases() {
    for explicit in [true, false] {
        let deaths = dies("release", |table, budget| {
            let slot = table.claim(owner(MORTAL), &entry(1)).unwrap();
            let key = slot.key();
            let release = move || if explicit { slot.release() } else { drop(slot) };
            let survived = die(budget, release).is_some();
            assert_eq!(seen(table).len(), usize::from(budget == 0), "unpublished first");
            let published: &[_] = match budget {
                0 => &[Some(entry(1))],
                1 => &[None],
                _ => &[],
            };
            recover(table, MORTAL, published, &[key]);
            survived
        });
        assert_eq!(deaths, RELEASE);
    }
}

#[test]
fn hands_over() {
    let deaths = dies("hand over", |table, budget| {
        let slot = table.claim(owner(MORTAL), &entry(1)).unwrap();
        let key = slot.key();
        let survived = die(budget, move || slot.hand_over(owner(THIRD))).is_some();
        let holder = if survived { THIRD } else { MORTAL };
        let other = MORTAL + THIRD - holder;
        assert!(table.resume(key, owner(other)).is_none());
        table.resume(key, owner(holder)).unwrap().keep();
        recover(table, holder, &[Some(entry(1))], &[key]);
        survived
    });
    assert_eq!(deaths, 1);
}

/// An heir dies while it takes over two slots, of which one was never published, and releases
/// them.
#[test]
fn recovers() {
    let deaths = dies("recover", |table, budget| {
        let key = table.claim(owner(MORTAL), &entry(1)).unwrap().keep();
        let unpublished = table.reserve(owner(MORTAL)).unwrap().keep();
        let both = dead(owner(MORTAL));
        let released = die(budget, || table.release_all_of(both, owner(THIRD)).unwrap());
        let count = |id| table.owners().filter(|(_, owner)| *owner == id).count();
        let (first, second) = (count(owner(MORTAL)), count(owner(THIRD)));
        // Slot 1: owner, then its release. Slot 2: owner, version, live words, release.
        let expected = match budget {
            0 => (2, 0),
            1..3 => (1, 1),
            3 => (1, 0),
            4..9 => (0, 1),
            _ => (0, 0),
        };
        assert_eq!((first, second), expected, "at step {budget}");
        assert_eq!(released, (budget >= 9).then_some(2));
        // A second heir of both.
        let published: &[_] = match budget {
            0 => &[Some(entry(1)), None],
            1..4 => &[None],
            _ => &[],
        };
        let known = [key, unpublished];
        let of_third: &[_] = match budget {
            1 => &[Some(entry(1))],
            2 | 4..9 => &[None],
            _ => &[],
        };
        // In this order, for `recover` takes all slots afterwards.
        let recovered = table.recover(dead(owner(THIRD)), owner(HEIR)).unwrap();
        assert_eq!(recovered.map(|slot| slot.entry()).collect::<Vec<_>>(), of_third);
        recover(table, MORTAL, published, &known);
        released.is_some()
    });
    assert_eq!(deaths, 1 + RELEASE + RESERVE + RELEASE);
}

/// Locks, which the kernel drops when their holder dies.
#[derive(Default)]
struct Locks(RefCell<BTreeSet<u32>>);

struct Lock<'a>(&'a Locks, u32);

impl Locks {
    fn take(&self, id: OwnerId) -> Option<Lock<'_>> {
        self.0.borrow_mut().insert(id.word()).then_some(Lock(self, id.word()))
    }

    fn is_held(&self, id: OwnerId) -> bool {
        self.0.borrow().contains(&id.word())
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        self.0.0.borrow_mut().remove(&self.1);
    }
}

/// Everybody whose id is seen and not locked is dead: its slots are released. Answers the ids.
fn convict_all(table: Table<'_>, locks: &Locks) -> Vec<OwnerId> {
    let suspects = table.owners().filter(|(_, id)| *id != owner(OTHER) && !locks.is_held(*id));
    let convicted: Vec<_> = suspects.map(|(_, id)| id).collect();
    for id in &convicted {
        assert_eq!(table.release_all_of(dead(*id), owner(HEIR)), Ok(1));
    }
    convicted
}

#[test]
fn enrols() {
    let deaths = dies("enrol", |table, budget| {
        let locks = Locks::default();
        let given = RefCell::new(None);
        let survived = die(budget, || {
            let take = |id| {
                *given.borrow_mut() = Some(id);
                locks.take(id)
            };
            let mut enrolled = table.enrol(&entry(1), take).unwrap();
            assert!(locks.is_held(enrolled.id()));
            enrolled.slot_mut().update(&entry(2));
            drop(enrolled); // leaves: the slot, then the lock
        });
        let id = given.take().unwrap();
        assert!(!locks.is_held(id), "dropped by the kernel");
        let n = (budget >= CLAIM) as u32 + (budget >= CLAIM + CHANGE) as u32;
        let left = n != 0 && budget <= CLAIM + CHANGE;
        assert_eq!(seen(table), if left { vec![(1, entry(n))] } else { vec![] });
        let visible = (1..CLAIM + CHANGE + RELEASE).contains(&budget);
        assert_eq!(convict_all(table, &locks), if visible { vec![id] } else { vec![] });
        // Nobody gets its id if anybody saw it.
        let next = table.enrol(&entry(3), |id| locks.take(id)).unwrap();
        assert_eq!(next.id() == id, budget == 0);
        survived.is_some()
    });
    assert_eq!(deaths, CLAIM + CHANGE + RELEASE);
}

/// One that is late has to take its id away again, for it was another's, and dies at that.
#[test]
fn enrols_late() {
    let deaths = dies("enrol late", |table, budget| {
        let locks = Locks::default();
        // Here and gone, with the budget of the late one's thread: so the steps of both count.
        let mut former = None;
        let survived = die(budget, || {
            let take = |id| {
                if former.is_none() {
                    let enrolled = table.enrol(&entry(9), |id| locks.take(id)).unwrap();
                    former = Some(enrolled.id());
                    drop(enrolled);
                    assert_eq!(former, Some(id));
                }
                locks.take(id)
            };
            let enrolled = table.enrol(&entry(1), take).unwrap();
            enrolled.into_parts().0.keep()
        });
        if let Some(former) = former {
            assert!(!locks.is_held(former));
            if let Some(key) = survived {
                assert_ne!(SlotKey::from(former), key);
            }
        }
        let convicted = convict_all(table, &locks);
        assert!(convicted.len() <= 1);
        let next = table.enrol(&entry(3), |id| locks.take(id)).unwrap();
        let seen_before = former.into_iter().chain(convicted);
        assert!(seen_before.into_iter().all(|id| id != next.id()), "an id twice");
        survived.is_some()
    });
    assert_eq!(deaths, (CLAIM + RELEASE) + 2 + CLAIM);
}

/// A table half made is none, and is made by making it again; over another table too.
#[test]
fn creation() {
    for over in [false, true] {
        let deaths = at_every_step("init_at", |budget| {
            let memory = Memory::new(Table::required_size(SLOTS).unwrap(), 0xa5);
            let region = memory.region();
            if over {
                let table = Table::init_at(&region, Options::new(2).tag(3)).unwrap();
                table.claim(owner(1), &entry(1)).unwrap().keep();
            }
            let options = Options::new(SLOTS);
            let survived = die(budget, || Table::init_at(&region, options).unwrap()).is_some();
            let attached = Table::attach(&region, 0);
            if !survived {
                if over && budget == 0 {
                    assert!(matches!(attached, Err(AttachError::WrongLayout { .. })));
                } else {
                    assert!(matches!(attached, Err(AttachError::WrongMagic { .. })));
                }
                Table::init_at(&region, options).unwrap();
            }
            check_usable(Table::attach(&region, 0).unwrap());
            survived
        });
        // The magic twice; nine facts, two owners, four reserved; three words a slot.
        assert_eq!(deaths, 2 + 9 + 2 + 4 + 3 * SLOTS);
    }
}

/// What a live handle of another does meanwhile is not disturbed by a recovery.
#[test]
fn recovery_beside_the_living() {
    let deaths = dies("recover beside the living", |table, budget| {
        let mut living: Held<'_> = table.reserve_at(2, owner(THIRD)).unwrap();
        living.update(&entry(5));
        table.reserve_at(1, owner(MORTAL)).unwrap().keep();
        let all = dead(owner(MORTAL));
        let survived = die(budget, || table.release_all_of(all, owner(HEIR)).unwrap());
        living.update(&entry(6));
        assert_eq!(living.entry(), Some(entry(6)));
        assert_eq!(table.get(living.key()).unwrap().unwrap().entry, entry(6));
        table.release_all_of(dead(owner(HEIR)), owner(OTHER + 9)).unwrap();
        table.release_all_of(all, owner(OTHER + 9)).unwrap();
        survived.is_some()
    });
    assert_eq!(deaths, RESERVE + RELEASE);
}
