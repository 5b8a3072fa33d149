//! The slot table: its layout, each operation, random operations against a plain list, and
//! memory that says anything.

mod common;

use common::memory::Memory;
use common::table::Op;
use common::{dead, owner};
use proptest::prelude::*;
use shm_primitives::identity::{Dead, OwnerId};
use shm_primitives::part::{AttachError, ClaimError, Corrupt, Kind};
use shm_primitives::sync::AtomicU32;
use shm_primitives::table::{Options, OwnDeath, Slot, SlotKey, SlotTable, Snapshot, TableFull};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;

fn ops(poke: u32) -> impl Strategy<Value = Vec<Op>> {
    // Few ids and slots, so that they meet.
    let slot = || 0..4u8;
    let id = || prop_oneof![3 => 0..2u8, 1 => any::<u8>()];
    let entry = || any::<u32>();
    let hint = any::<u8>;
    let word = prop_oneof![
        2 => any::<u32>(),
        1 => 0..5u32,
        1 => (0..4u32, 0..4u32).prop_map(|(generation, bits)| generation << 12 | bits),
        1 => (0..4u32).prop_map(|n| owner(100 + n).word()),
        1 => (0..32u32).prop_map(|bit| 1 << bit),
    ];
    let op = prop_oneof![
        4 => (id(), hint(), entry())
            .prop_map(|(owner, hint, entry)| Op::Claim { owner, hint, entry }),
        2 => (id(), hint()).prop_map(|(owner, hint)| Op::Reserve { owner, hint }),
        2 => (slot(), id()).prop_map(|(slot, owner)| Op::ReserveAt { slot, owner }),
        4 => (hint(), entry(), prop_oneof![3 => Just(0u8), 1 => any::<u8>()])
            .prop_map(|(hint, entry, refused)| Op::Enrol { hint, entry, refused }),
        6 => (slot(), entry()).prop_map(|(slot, entry)| Op::Update { slot, entry }),
        2 => (slot(), 0..4u8, any::<u32>())
            .prop_map(|(slot, word, value)| Op::SetLive { slot, word, value }),
        4 => slot().prop_map(|slot| Op::Release { slot }),
        1 => slot().prop_map(|slot| Op::Keep { slot }),
        1 => (slot(), id()).prop_map(|(slot, to)| Op::HandOver { slot, to }),
        2 => (slot(), id()).prop_map(|(slot, owner)| Op::Resume { slot, owner }),
        2 => (id(), id(), 0..3u8).prop_map(|(dead, heir, keeps)| Op::Recover { dead, heir, keeps }),
        1 => Just(Op::Attach),
    ];
    let poked = (any::<u16>(), word).prop_map(|(at, value)| Op::Poke { at, value });
    let op = prop_oneof![30 => op, poke => poked];
    proptest::collection::vec(op, 0..60)
}

fn options() -> impl Strategy<Value = Options> {
    let last = OwnerId::MAX_GENERATION;
    let generation = prop_oneof![2 => Just(0u32), 1 => last - 3..=last];
    let changes = prop_oneof![1 => 0..2u32, 1 => u32::MAX - 3..=u32::MAX];
    (1..5u32, generation, changes).prop_map(|(slots, generation, changes)| {
        Options::new(slots).generation(generation).changes(changes)
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn behaves_like_a_list(options in options(), fill: u8, ops in ops(0)) {
        common::table::run(options, fill, ops);
    }

    #[test]
    fn hostile_words(options in options(), fill: u8, ops in ops(5)) {
        common::table::run(options, fill, ops);
    }
}

type Entry = [u32; 3];
type Table<'a> = SlotTable<'a, Entry, 2>;

fn memory(slots: u32) -> Memory {
    Memory::new(Table::required_size(slots).unwrap(), 0xa5)
}

fn created(memory: &Memory, options: Options) -> Table<'_> {
    Table::init_at(&memory.region(), options).unwrap()
}

fn published<'a, const LIVE: usize>(
    table: &SlotTable<'a, Entry, LIVE>,
) -> Vec<(u32, OwnerId, Entry)> {
    table
        .iter()
        .map(|found| {
            let found = found.unwrap();
            (found.key.index(), found.owner, found.entry)
        })
        .collect()
}

/// The layout is an agreement between processes: word by word.
#[test]
fn layout() {
    let memory = memory(3);
    assert_eq!(memory.size(), 64 + 3 * 64);
    let table = created(&memory, Options::new(3).tag(9).generation(6).changes(4));
    let me = OwnerId::new(0x123, 0x456).unwrap();
    let mut slot = table.starting_at(1).claim(me, &[1, 2, 3]).unwrap();
    slot.update(&[4, 5, 6]);
    slot.live(0).unwrap().store(7, Relaxed);
    slot.live(1).unwrap().store(8, Relaxed);
    let words = |from: usize, count| -> Vec<u32> {
        (0..count).map(|word| memory.get(from + 4 * word)).collect()
    };
    assert_eq!(words(0, 3), [0x504d_4853, 1, 3]);
    assert_eq!(words(16, 6), [1, 3, 64, 2, 64, 12], "min_reader to start");
    assert_eq!(words(40, 6), [0; 6]);
    assert_eq!(words(64, 3), [0, 6 << 12, 4], "slot 0");
    let one = [0x0045_6123, 7 << 12 | 1, 6, 7, 8, 4, 5, 6, 1, 2, 3];
    assert_eq!(words(128, 11), one, "slot 1");
    slot.release();
    assert_eq!(words(128, 3), [0, 7 << 12, 6], "released");
}

#[test]
fn sizes() {
    const { assert!(matches!(Table::required_size(1), Some(128))) };
    assert_eq!(SlotTable::<[u32; 6], 1>::required_size(1), Some(128), "one line");
    assert_eq!(SlotTable::<[u32; 7], 0>::required_size(1), Some(64 + 128), "two lines");
    assert_eq!(SlotTable::<(), 0>::required_size(10), Some(64 + 640));
    assert_eq!(Table::required_size(1 << 20), Some(64 + (64 << 20)));
    assert_eq!((Table::required_size(0), Table::required_size((1 << 20) + 1)), (None, None));
    assert_eq!(Table::words_for(3), Some(48));
}

#[test]
fn claims_and_releases() {
    let memory = memory(3);
    let table = created(&memory, Options::new(3));
    assert_eq!(table.slots(), 3);
    let mut slots: Vec<_> = (0..3).map(|n| table.claim(owner(n), &[n, n, n]).unwrap()).collect();
    assert_eq!(table.claim(owner(9), &[9; 3]).unwrap_err(), TableFull { slots: 3 });
    assert!(table.reserve(owner(9)).is_err());
    assert_eq!(published(&table), [0, 1, 2].map(|n| (n, owner(n), [n; 3])));
    assert_eq!(table.reserve_at(1, owner(9)).unwrap_err(), ClaimError::Owned(owner(1)));
    let beyond = ClaimError::NoSuchPlace { found: 3, places: 3 };
    assert_eq!(table.reserve_at(3, owner(9)).unwrap_err(), beyond);
    memory.set(64, 5); // an id of no generation
    assert!(matches!(table.reserve_at(0, owner(9)), Err(ClaimError::Corrupt(_))));
    memory.set(64, owner(0).word());
    let old = slots[1].key();
    assert_eq!((old.index(), old.generation()), (1, 1));
    slots.remove(1).release();
    assert_eq!(published(&table), [0, 2].map(|n| (n, owner(n), [n; 3])));
    assert_eq!((table.get(old), table.owner(1)), (Ok(None), None));
    let again = table.claim(owner(5), &[5; 3]).unwrap();
    assert_eq!(again.key(), SlotKey::new(1, 2), "the next generation");
    assert_eq!(table.get(old), Ok(None), "another tenancy");
    let found = Snapshot { key: again.key(), owner: owner(5), entry: [5; 3] };
    assert_eq!(table.get(again.key()), Ok(Some(found)));
    assert_eq!(table.find(|entry| entry[0] == 5), Ok(Some(found)));
    assert_eq!(table.find(|entry| entry[0] == 6), Ok(None));
    assert_eq!(table.read(3), Ok(None), "beyond the last");
    drop(again);
    assert_eq!(table.owners().collect::<Vec<_>>(), [(0, owner(0)), (2, owner(2))]);
}

#[test]
fn begins_at_the_hint() {
    let memory = memory(4);
    let table = created(&memory, Options::new(4));
    let slots: Vec<_> = (0..4)
        .map(|n| table.starting_at(4 * n + 2).claim(owner(n), &[0; 3]).unwrap())
        .map(|slot| slot.keep().index())
        .collect();
    assert_eq!(slots, [2, 3, 0, 1]);
}

#[test]
fn publishes_when_told() {
    let memory = memory(1);
    let table = created(&memory, Options::new(1));
    let mut slot = table.reserve(owner(1)).unwrap();
    let key = slot.key();
    assert_eq!((slot.is_published(), slot.entry()), (false, None));
    assert_eq!((table.get(key), table.live(key, 0)), (Ok(None), None));
    assert_eq!(table.owner(0), Some(owner(1)));
    slot.live(1).unwrap().store(6, Relaxed);
    slot.update(&[1, 2, 3]);
    assert_eq!((slot.is_published(), slot.entry()), (true, Some([1, 2, 3])));
    assert_eq!(slot.key(), key);
    for n in 0..5 {
        slot.update(&[n; 3]);
        assert_eq!((slot.entry(), table.get(key).unwrap().unwrap().entry), (Some([n; 3]), [n; 3]));
    }
    assert_eq!(
        (table.live(key, 0), table.live(key, 1), table.live(key, 2)),
        (Some(0), Some(6), None)
    );
}

#[test]
fn live_words() {
    let memory = memory(2);
    let table = created(&memory, Options::new(2));
    let slot = table.claim(owner(1), &[0; 3]).unwrap();
    let key = slot.key();
    slot.live(0).unwrap().store(10, Relaxed);
    slot.live(1).unwrap().store(11, Relaxed);
    assert!(slot.live(2).is_none());
    assert_eq!([0, 1, 2].map(|word| table.live(key, word)), [Some(10), Some(11), None]);
    assert_eq!(table.live_word(0, 1).unwrap().load(Relaxed), 11);
    assert!(table.live_word(0, 2).is_none() && table.live_word(2, 0).is_none());
    assert_eq!(table.live(SlotKey::new(1, 1), 0), None, "never taken");
    assert_eq!(table.live(SlotKey::new(0, 0), 0), None, "no tenancy");
    slot.release();
    assert_eq!(table.live(key, 0), None);
    let next = table.claim(owner(2), &[0; 3]).unwrap();
    assert_eq!((table.live(key, 0), table.live(next.key(), 0)), (None, Some(0)));
}

#[test]
fn generations_wrap() {
    let memory = memory(1);
    let last = OwnerId::MAX_GENERATION;
    let table = created(&memory, Options::new(1).generation(last - 1).changes(u32::MAX));
    let key = |n| {
        let slot = table.claim(owner(1), &[n; 3]).unwrap();
        let found = table.get(slot.key()).unwrap().unwrap();
        assert_eq!(found.entry, [n; 3]);
        slot.key()
    };
    assert_eq!([key(1), key(2), key(3)].map(SlotKey::generation), [last, 1, 2]);
    let id = table.enrol(&[0; 3], Some).unwrap().id();
    assert_eq!((id.index(), id.generation()), (0, 3));
}

#[test]
fn kept_and_handed_over() {
    let memory = memory(2);
    let table = created(&memory, Options::new(2));
    let key = table.claim(owner(1), &[1; 3]).unwrap().keep();
    assert!(table.resume(key, owner(2)).is_none(), "another's");
    assert!(table.resume(SlotKey::new(0, 2), owner(1)).is_none(), "another tenancy");
    assert!(table.resume(SlotKey::new(2, 1), owner(1)).is_none(), "no such slot");
    assert_eq!(table.get(key).unwrap().unwrap().entry, [1; 3], "not touched by any of them");
    let mut slot = table.resume(key, owner(1)).unwrap();
    slot.update(&[2; 3]);
    assert_eq!(slot.hand_over(owner(2)), key);
    assert_eq!(table.get(key).unwrap().unwrap().owner, owner(2));
    assert!(table.resume(key, owner(1)).is_none());
    let slot = table.resume(key, owner(2)).unwrap();
    assert_eq!((slot.entry(), slot.owner()), (Some([2; 3]), owner(2)));
    slot.release();
    assert_eq!(table.get(key), Ok(None));
    assert!(table.resume(key, owner(2)).is_none());
}

/// A handle whose slot was taken from it, by a false proof of death, leaves it alone.
#[test]
fn a_slot_that_is_anothers_is_not_touched() {
    let memory = memory(1);
    let table = created(&memory, Options::new(1));
    for hand_over in [false, true] {
        let false_dead = table.claim(owner(1), &[1; 3]).unwrap();
        let taken = table.recover(dead(1), owner(2)).unwrap().next().unwrap();
        let before = memory.bytes();
        if hand_over {
            false_dead.hand_over(owner(3));
        } else {
            drop(false_dead);
        }
        assert!(memory.bytes() == before);
        taken.release();
    }
}

#[test]
fn recovers() {
    let memory = memory(5);
    let table = created(&memory, Options::new(5));
    let mine = [0, 2, 3].map(|n| table.reserve_at(n, owner(1)).unwrap());
    let others = [1, 4].map(|n| table.reserve_at(n, owner(2)).unwrap());
    let [mut published, unpublished, mut changed] = mine;
    published.update(&[1; 3]);
    published.live(0).unwrap().store(70, Relaxed);
    changed.update(&[2; 3]);
    changed.update(&[3; 3]);
    let keys = [published, unpublished, changed].map(Slot::keep);
    let same = table.recover(dead(1), owner(1)).unwrap_err();
    assert_eq!(same, OwnDeath { id: owner(1) });
    assert_eq!(table.release_all_of(dead(1), owner(1)), Err(same));
    let recovered: Vec<_> = table.recover(dead(1), owner(3)).unwrap().collect();
    let entries: Vec<_> = recovered.iter().map(|slot| (slot.key(), slot.entry())).collect();
    let expected = [
        (keys[0], Some([1; 3])),
        (SlotKey::new(2, 2), None), // never published: a tenancy of the heir's
        (keys[2], Some([3; 3])),
    ];
    assert_eq!(entries, expected);
    assert!(recovered.iter().all(|slot| slot.owner() == owner(3)));
    assert_eq!(table.get(keys[0]).unwrap().unwrap().owner, owner(3), "readable meanwhile");
    assert_eq!(table.live(keys[0], 0), Some(70));
    assert_eq!(table.recover(dead(1), owner(4)).unwrap().count(), 0, "nothing is left");
    drop(recovered);
    assert_eq!(table.owners().map(|(index, _)| index).collect::<Vec<_>>(), [1, 4]);
    others.into_iter().for_each(|slot| _ = slot.keep());
    assert_eq!(table.release_all_of(dead(2), owner(3)), Ok(2));
    assert_eq!(table.owners().count(), 0);
}

/// An heir that forgets what it took over is recovered from in turn.
#[test]
fn heirs_of_heirs() {
    let memory = memory(4);
    let table = created(&memory, Options::new(4));
    for n in 0..4 {
        table.claim(owner(1), &[n; 3]).unwrap().keep();
    }
    table.recover(dead(1), owner(2)).unwrap().take(2).for_each(|slot| _ = slot.keep());
    let third = table.recover(dead(2), owner(3)).unwrap();
    assert_eq!(third.map(|slot| slot.entry().unwrap()[0]).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(table.release_all_of(dead(1), owner(3)), Ok(2));
}

/// Locks of ids, as the kernel would keep them.
#[derive(Clone, Default)]
struct Locks(Rc<RefCell<BTreeSet<u32>>>);

#[derive(Debug)]
struct Lock(Locks, u32);

impl std::fmt::Debug for Locks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x?}", self.0.borrow())
    }
}

impl Locks {
    fn take(&self, id: OwnerId) -> Option<Lock> {
        self.0.borrow_mut().insert(id.word()).then(|| Lock(self.clone(), id.word()))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        assert!(self.0.0.borrow_mut().remove(&self.1));
    }
}

#[test]
fn enrols() {
    let memory = memory(2);
    let table = created(&memory, Options::new(2));
    let locks = Locks::default();
    let mut first = table.enrol(&[1; 3], |id| locks.take(id)).unwrap();
    let second = table.enrol(&[2; 3], |id| locks.take(id)).unwrap();
    let full = table.enrol(&[3; 3], |id| locks.take(id)).unwrap_err();
    assert_eq!(full, TableFull { slots: 2 });
    assert_eq!((first.id(), second.id()), (owner(0), owner(1)));
    assert_eq!(SlotKey::from(second.id()), second.slot().key());
    assert_eq!(second.slot().key().owner_id(), Some(second.id()));
    assert_eq!(first.guard().1, first.id().word());
    first.slot_mut().update(&[4; 3]);
    assert_eq!(published(&table), [(0, owner(0), [4; 3]), (1, owner(1), [2; 3])]);
    drop(first);
    assert_eq!(locks.0.borrow().len(), 1);
    let again = table.enrol(&[3; 3], |id| locks.take(id)).unwrap();
    assert_eq!((again.id().index(), again.id().generation()), (0, 2));
    // It dies: the kernel drops its lock. Others convict it and recover its record.
    let (slot, lock) = again.into_parts();
    let key = slot.keep();
    drop(lock);
    // SAFETY: its handle is gone.
    let dead = unsafe { Dead::assume(key.owner_id().unwrap()) };
    let mut recovery = table.recover(dead, second.id()).unwrap();
    let record = recovery.next().unwrap();
    assert_eq!((record.key(), record.entry()), (key, Some([3; 3])));
    drop(record);
    assert_eq!(table.enrol(&[3; 3], |id| locks.take(id)).unwrap().id().generation(), 3);
}

/// Released in this order: slot, lock.
#[test]
fn leaves_before_its_lock() {
    let memory = memory(1);
    let table = created(&memory, Options::new(1));
    struct Looks<'a>(Table<'a>, Rc<RefCell<Option<Option<OwnerId>>>>);
    impl Drop for Looks<'_> {
        fn drop(&mut self) {
            *self.1.borrow_mut() = Some(self.0.owner(0));
        }
    }
    let seen = Rc::new(RefCell::new(None));
    drop(table.enrol(&[0; 3], |_| Some(Looks(table, Rc::clone(&seen)))).unwrap());
    assert_eq!(seen.take(), Some(None), "the slot was nobody's when the lock fell");
    // So it is when one that was late backs off.
    let refused = table.enrol(&[0; 3], |_| {
        assert!(matches!(seen.take(), None | Some(None)), "its own still");
        table.reserve(owner(5)).unwrap().release();
        Some(Looks(table, Rc::clone(&seen)))
    });
    assert!(refused.is_err());
    assert_eq!(seen.take(), Some(None), "the slot was nobody's when the lock fell");
}

/// A slot whose next id is locked by another is passed over, and one that others take and
/// leave while the lock is being taken gets another id.
#[test]
fn enrols_late() {
    let memory = memory(2);
    let table = created(&memory, Options::new(2));
    let locks = Locks::default();
    let other = locks.take(owner(0));
    let passed = table.enrol(&[0; 3], |id| locks.take(id)).unwrap();
    assert_eq!(passed.id(), owner(1));
    drop((passed, other));
    let mut asked = Vec::new();
    let late = table.enrol(&[7; 3], |id| {
        asked.push(id);
        if asked.len() <= 2 {
            // Somebody is here first, under this very id, and leaves again.
            let former = table.enrol(&[9; 3], |id| locks.take(id)).unwrap();
            assert_eq!(former.id(), id);
        }
        locks.take(id)
    });
    let late = late.unwrap();
    let id = |generation| OwnerId::new(0, generation).unwrap();
    assert_eq!(late.id(), id(3), "the former ones' ids are not given again");
    assert_eq!(published(&table), [(0, id(3), [7; 3])]);
    drop(late);
    assert_eq!(asked, [1, 2, 3].map(id));
    assert!(locks.0.borrow().is_empty());
}

/// One that is always too late does not go on for ever.
#[test]
fn enrols_never() {
    let memory = memory(2);
    let table = created(&memory, Options::new(2));
    let mut asked = 0;
    let refused = table.enrol(&[7; 3], |id| {
        asked += 1;
        assert!(asked < 100, "endless");
        table.reserve_at(id.index(), owner(5)).unwrap().release();
        Some(())
    });
    assert_eq!(refused.unwrap_err(), TableFull { slots: 2 });
    assert_eq!(table.owners().count(), 0, "it backed off");
}

/// The proof that an id's former holder is dead comes while one who is late has that id in the
/// slot: the slot goes to the heir, and the late one leaves it alone.
#[test]
fn a_stale_proof_of_death() {
    let memory = memory(1);
    let table = created(&memory, Options::new(1));
    // The word of the late one, as it stands after its exchange; the version has moved on.
    let former = table.enrol(&[1; 3], Some).unwrap().id();
    memory.set(64, former.word());
    // SAFETY: it has left, and this id is nobody's.
    let proof = unsafe { Dead::assume(former) };
    let recovered = table.recover(proof, owner(9)).unwrap().next().unwrap();
    assert_eq!((recovered.entry(), recovered.key().generation()), (None, 2));
    drop(recovered);
    assert_eq!(table.enrol(&[2; 3], Some).unwrap().id(), OwnerId::new(0, 3).unwrap());
}

/// One that looked at the slot before another had it, and locks that one's id after its death:
/// while the late one has the lock, the dead one looks alive, though its record still stands.
/// Then the lock falls, and nothing was touched.
#[test]
fn a_stale_lock() {
    let memory = memory(1);
    let table = created(&memory, Options::new(1));
    let locks = Locks::default();
    let mut seen = None;
    let late = table.enrol(&[7; 3], |id| {
        let (slot, lock) = table.enrol(&[9; 3], |id| locks.take(id)).unwrap().into_parts();
        assert_eq!(slot.owner(), id);
        slot.keep();
        drop(lock);
        let late = locks.take(id);
        let locked = locks.0.borrow().contains(&id.word());
        seen = Some((id, table.owner(0) == Some(id), locked));
        late
    });
    assert_eq!(late.unwrap_err(), TableFull { slots: 1 });
    assert_eq!(seen, Some((owner(0), true, true)), "a record that stands, and a lock");
    assert!(locks.0.borrow().is_empty(), "it can be convicted now");
    assert_eq!(published(&table), [(0, owner(0), [9; 3])], "nothing was touched");
}

/// Ids fit 12 bits of index.
#[test]
fn enrols_in_the_first_4096() {
    type Small<'a> = SlotTable<'a, ()>;
    let memory = Memory::new(Small::required_size(4098).unwrap(), 0);
    let table = Small::init_at(&memory.region(), Options::new(4098)).unwrap();
    let last = table.starting_at(4095).enrol(&(), Some).unwrap();
    let next = table.starting_at(4095).enrol(&(), Some).unwrap();
    assert_eq!((last.id().index(), next.id().index()), (4095, 0));
    let claimed = table.starting_at(4096).claim(owner(1), &()).unwrap();
    assert_eq!(claimed.key().index(), 4096);
    assert_eq!(SlotKey::new(4096, 1).owner_id(), None);
}

/// A program whose entries and live words are fewer than those of the table's maker.
#[test]
fn an_older_program() {
    type Newer<'a> = SlotTable<'a, [u32; 5], 3>;
    let memory = Memory::new(Newer::required_size(2).unwrap(), 0xa5);
    let region = memory.region();
    let newer = Newer::init_at(&region, Options::new(2).tag(3)).unwrap();
    let mut theirs = newer.claim(owner(1), &[1, 2, 3, 4, 5]).unwrap();
    for word in 0..3 {
        theirs.live(word).unwrap().store(word as u32 + 10, Relaxed);
    }
    let older = Table::attach(&region, 3).unwrap();
    let key = theirs.key();
    assert_eq!(older.get(key).unwrap().unwrap().entry, [1, 2, 3]);
    theirs.update(&[6, 7, 8, 9, 10]);
    assert_eq!(older.get(key).unwrap().unwrap().entry, [6, 7, 8], "the other copy");
    assert_eq!([0, 1, 2].map(|word| older.live(key, word)), [Some(10), Some(11), None]);
    // Garbage of former tenants is in neither what the older one publishes nor its live words.
    theirs.release();
    let mut ours = older.claim(owner(2), &[1, 2, 3]).unwrap();
    assert_eq!(newer.get(ours.key()).unwrap().unwrap().entry, [1, 2, 3, 0, 0]);
    assert_eq!(newer.live(ours.key(), 2), Some(0));
    ours.update(&[4, 5, 6]);
    assert_eq!(newer.get(ours.key()).unwrap().unwrap().entry, [4, 5, 6, 0, 0]);
    let wanted = AttachError::WrongElementSize { found: 20, wanted: 24 };
    assert_eq!(SlotTable::<[u32; 6], 3>::attach(&region, 3).unwrap_err(), wanted);
    let wanted = AttachError::WrongElementSize { found: 3, wanted: 4 };
    assert_eq!(SlotTable::<[u32; 5], 4>::attach(&region, 3).unwrap_err(), wanted);
    assert!(matches!(Newer::attach(&region, 4), Err(AttachError::WrongLayout { .. })));
}

/// Every kind of wrong header has its error, and nothing is written.
#[test]
fn refuses() {
    let region_of = |memory: &Memory| Table::attach(&memory.region(), 0).err();
    let corrupt = |what, found, limit| AttachError::Corrupt(Corrupt { what, found, limit });
    let stride = "stride of the slots, less than they take or no multiple of 64";
    let size = "bytes of an entry, no multiple of 4";
    let maximum = 1 << 20;
    let cases: &[(&[(usize, u32)], AttachError)] = &[
        (&[(0, 0)], AttachError::WrongMagic { found: 0, wanted: 0x504d_4853 }),
        (&[(4, 0)], AttachError::WrongVersion { found: 0, wanted: 1 }),
        (&[(4, 2), (16, 2)], AttachError::NewerRequired { found: 2, wanted: 1 }),
        (&[(8, 1)], AttachError::WrongKind { found: Kind::SPSC_RING, wanted: Kind::SLOT_TABLE }),
        (&[(20, 0)], AttachError::BadSlotCount { found: 0, maximum }),
        (&[(20, maximum + 1)], AttachError::BadSlotCount { found: maximum + 1, maximum }),
        (&[(20, 3)], AttachError::TooSmall { found: 192, wanted: 256 }),
        (&[(24, 0)], corrupt(stride, 0, 44)),
        (&[(24, 68)], corrupt(stride, 68, 44)),
        (&[(24, 128)], AttachError::TooSmall { found: 192, wanted: 320 }),
        (&[(28, 1)], AttachError::WrongElementSize { found: 1, wanted: 2 }),
        (&[(28, 8)], corrupt(stride, 64, 68)),
        (&[(28, 65537)], corrupt("number of live words", 65537, 65536)),
        (&[(32, 128)], corrupt("offset of the slots", 128, 64)),
        (&[(36, 8)], AttachError::WrongElementSize { found: 8, wanted: 12 }),
        (&[(36, 14)], corrupt(size, 14, maximum)),
        (&[(36, u32::MAX)], corrupt("bytes of an entry", u32::MAX, maximum)),
    ];
    for (words, wanted) in cases {
        let memory = memory(2);
        created(&memory, Options::new(2));
        assert_eq!(region_of(&memory), None);
        words.iter().for_each(|(offset, value)| memory.set(*offset, *value));
        let before = memory.bytes();
        assert_eq!(region_of(&memory), Some(*wanted));
        assert!(memory.bytes() == before, "written to while refusing");
        let text = wanted.to_string();
        assert!(text.len() > 10 && !text.ends_with('.'), "{text:?}");
    }
    let memory = Memory::new(256, 0xa5);
    let bad = AttachError::BadSlotCount { found: 0, maximum };
    assert_eq!(Table::init_at(&memory.region(), Options::new(0)).err(), Some(bad));
    let small = AttachError::TooSmall { found: 256, wanted: 320 };
    assert_eq!(Table::init_at(&memory.region(), Options::new(4)).err(), Some(small));
    let shifted = memory.part(32, 192);
    let error = Table::init_at(&shifted, Options::new(1)).err();
    assert!(matches!(error, Some(AttachError::Misaligned { wanted: 64, .. })));
    let error = Table::init_at(&memory.region(), Options::new(1).generation(1 << 20)).err();
    assert_eq!(error, Some(AttachError::UnsupportedOption { found: 1 << 20 }));
    assert!(memory.bytes().iter().all(|byte| *byte == 0xa5), "untouched");
    assert!(Table::init_at(&memory.region(), Options::new(3)).is_ok());
}

#[test]
fn in_words() {
    let words = [const { AtomicU32::new(0) }; 50];
    let table = SlotTable::<Entry>::in_words(&words);
    assert_eq!(table.slots(), 3);
    let slot = table.starting_at(2).claim(owner(1), &[1; 3]).unwrap();
    assert_eq!(published(&SlotTable::<Entry>::in_words(&words)), [(2, owner(1), [1; 3])]);
    drop(slot);
    let none = SlotTable::<Entry>::in_words(&words[..15]);
    assert_eq!((none.slots(), none.iter().count()), (0, 0));
    assert!(none.claim(owner(1), &[0; 3]).is_err() && none.enrol(&[0; 3], Some).is_err());
}

/// Words that a holder would not have left: taken for a slot that is nobody's, or for what
/// they say, and never more than so many looks.
#[test]
fn impossible_words() {
    let memory = memory(1);
    let table = created(&memory, Options::new(1));
    for (words, found) in [
        ([0, 1 << 12 | 1, 0], None),               // published, of nobody
        ([5, 1 << 12 | 1, 0], None),               // of no id
        ([owner(1).word(), 1, 0], None),           // of no generation
        ([owner(1).word(), 1 << 12 | 2, 0], None), // unknown bits alone
        ([owner(1).word(), 1 << 12 | 3, 9], Some([0x01010101; 3])),
    ] {
        (64..128).step_by(4).for_each(|at| memory.set(at, 0x01010101));
        words.iter().enumerate().for_each(|(word, value)| memory.set(64 + 4 * word, *value));
        let read = table.read(0).unwrap();
        assert_eq!(read.map(|found| found.entry), found, "{words:x?}");
    }
}

/// Several threads claim, change, read, die and recover at once: no slot is two holders', no
/// entry is a mix, nothing is lost.
#[test]
fn threads() {
    const SLOTS: u32 = 3;
    const THREADS: u32 = 4;
    const ROUNDS: u32 = 2000;
    let memory = memory(SLOTS);
    let table = created(&memory, Options::new(SLOTS).changes(u32::MAX - 100));
    let held = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for me in 1..=THREADS {
            let (table, held) = (table, &held);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    // Each round another id, for in some it dies.
                    let id = OwnerId::new(me, round + 1).unwrap();
                    let entry = |n: u32| [id.word(), n, id.word() ^ n];
                    let Ok(mut slot) = table.starting_at(round).claim(id, &entry(0)) else {
                        std::thread::yield_now();
                        continue;
                    };
                    let key = slot.key();
                    let former = held.lock().unwrap().insert(key, id);
                    assert_eq!(former, None, "{key} was had before");
                    slot.live(0).unwrap().store(id.word(), Relaxed);
                    for n in 1..4 {
                        slot.update(&entry(n));
                        assert_eq!(table.get(key).unwrap().unwrap().entry, entry(n));
                    }
                    for found in table.iter() {
                        let Ok(found) = found else { continue };
                        let [word, n, check] = found.entry;
                        assert_eq!(word ^ n, check, "a mix");
                        // Or its heir, for a moment.
                        let heir = OwnerId::from_word(word + 100).unwrap();
                        assert!(
                            found.owner.word() == word || found.owner == heir,
                            "another's entry"
                        );
                        let live = table.live(found.key, 0);
                        assert!([None, Some(0), Some(word)].contains(&live), "another's live word");
                    }
                    if round % 3 == 0 {
                        slot.keep();
                        // SAFETY: its only handle was just forgotten.
                        let dead = unsafe { Dead::assume(id) };
                        let heir = OwnerId::new(me + 100, round + 1).unwrap();
                        // Its own proof: so no other takes part.
                        let mut recovery = table.recover(dead, heir).unwrap();
                        let slot = recovery.next().unwrap();
                        assert_eq!((slot.key(), slot.entry()), (key, Some(entry(3))));
                        slot.hand_over(id);
                        table.resume(key, id).unwrap().release();
                    }
                }
            });
        }
    });
    assert_eq!(table.owners().count(), 0);
    assert!(held.lock().unwrap().len() > ROUNDS as usize, "hardly anybody got a slot");
}

/// Words that are no id, and ids that are nobody's: no recovery comes to them.
#[test]
fn slots_in_nobodys_name_are_cleared() {
    let words = [const { AtomicU32::new(0) }; 64];
    let table = SlotTable::<u32>::in_words(&words);
    assert!(table.slots() > 3);
    let kept = table.claim(owner(1), &10).unwrap();
    let spoilt: Vec<Slot<'_, u32>> =
        (2..table.slots() + 1).map(|id| table.claim(owner(id), &20).unwrap()).collect();
    assert!(table.claim(owner(90), &90).is_err());
    // One of them says what is no id at all: it has no generation.
    let at = words.iter().position(|it| it.load(Relaxed) == owner(2).word()).unwrap();
    words[at].store(5, Relaxed);
    assert_eq!(table.owner(spoilt[0].key().index()), None);
    assert_eq!(
        table.clear_nobodys(owner(9), |id| id.index() != owner(1).index()),
        table.slots() - 1
    );
    assert_eq!(table.owners().collect::<Vec<_>>(), [(kept.key().index(), owner(1))]);
    assert_eq!(table.clear_nobodys(owner(9), |_| false), 0);
    // Their tenancies are over, and they are to be had.
    assert!(spoilt.iter().all(|slot| table.get(slot.key()) == Ok(None)));
    for id in 2..table.slots() + 1 {
        std::mem::forget(table.claim(owner(20 + id), &30).unwrap());
    }
}
