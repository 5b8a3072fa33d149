//! Random operations on a slot table against a plain list, and on memory that says anything.

use super::memory::Memory;
use shm_primitives::identity::{Dead, OwnerId};
use shm_primitives::part::ClaimError;
use shm_primitives::sync::Ordering::Relaxed;
use shm_primitives::table::{Options, Slot, SlotKey, SlotTable, Snapshot, TableFull};

/// One line a slot, with two words to spare.
pub type Entry = [u32; 4];
pub const LIVE: usize = 3;
pub type Table<'a> = SlotTable<'a, Entry, LIVE>;
type Held<'a> = Slot<'a, Entry, LIVE>;

/// Slots and owners are taken modulo their number.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    Claim {
        owner: u8,
        hint: u8,
        entry: u32,
    },
    Reserve {
        owner: u8,
        hint: u8,
    },
    ReserveAt {
        slot: u8,
        owner: u8,
    },
    Enrol {
        hint: u8,
        entry: u32,
        refused: u8,
    },
    Update {
        slot: u8,
        entry: u32,
    },
    SetLive {
        slot: u8,
        word: u8,
        value: u32,
    },
    Release {
        slot: u8,
    },
    Keep {
        slot: u8,
    },
    HandOver {
        slot: u8,
        to: u8,
    },
    Resume {
        slot: u8,
        owner: u8,
    },
    /// The dead one's handles are forgotten; of what its heir takes over it keeps so many.
    Recover {
        dead: u8,
        heir: u8,
        keeps: u8,
    },
    /// A second look at the header.
    Attach,
    /// A word overwritten by somebody who keeps no protocol. From then on nothing is compared.
    Poke {
        at: u16,
        value: u32,
    },
}

/// Any two entries differ in each word, so that a mix shows.
pub fn entry(n: u32) -> Entry {
    [n, !n, n.rotate_left(16), n ^ 0x5555_5555]
}

/// A slot as the list knows it.
#[derive(Clone, Debug)]
struct Plain {
    generation: u32,
    owner: Option<OwnerId>,
    entry: Option<Entry>,
    live: [u32; LIVE],
}

impl Plain {
    fn begin(&mut self, owner: OwnerId) {
        self.generation = next(self.generation);
        *self = Self { owner: Some(owner), entry: None, live: [0; LIVE], ..*self };
    }

    fn release(&mut self) {
        (self.owner, self.entry) = (None, None);
    }
}

fn next(generation: u32) -> u32 {
    if generation == OwnerId::MAX_GENERATION { 1 } else { generation + 1 }
}

struct World<'a> {
    memory: &'a Memory,
    table: Table<'a>,
    /// Handles, by slot.
    held: Vec<Option<Held<'a>>>,
    plain: Vec<Plain>,
    /// Keys of tenancies that are over.
    over: Vec<SlotKey>,
    poked: bool,
}

/// Runs `ops` on a table of `slots` slots made with these options in memory that holds `fill`.
pub fn run(options: Options, fill: u8, ops: impl IntoIterator<Item = Op>) {
    let slots = options.slots as usize;
    let memory = Memory::new(Table::required_size(options.slots).unwrap(), fill);
    let table = Table::init_at(&memory.region(), options).unwrap();
    let new = Plain { generation: options.generation, owner: None, entry: None, live: [0; LIVE] };
    let mut world = World {
        memory: &memory,
        table,
        held: (0..slots).map(|_| None).collect(),
        plain: vec![new; slots],
        over: Vec::new(),
        poked: false,
    };
    for op in ops {
        world.step(op);
        world.compare();
    }
    drop(world);
    memory.check_guards();
}

impl<'a> World<'a> {
    fn slot(&self, n: u8) -> usize {
        usize::from(n) % self.plain.len()
    }

    /// One of four ids that are not of this table, or that enrolled in a slot.
    fn owner(&self, n: u8) -> OwnerId {
        let slot = self.slot(n >> 3);
        let enrolled = OwnerId::new(slot as u32, self.plain[slot].generation);
        let other = OwnerId::new(100 + u32::from(n & 3), 1).unwrap();
        enrolled.filter(|_| n & 4 != 0).unwrap_or(other)
    }

    /// The slots in the order in which they are looked at.
    fn turns(&self, hint: u8) -> impl Iterator<Item = usize> + use<> {
        let slots = self.plain.len();
        (0..slots).map(move |n| (usize::from(hint) + n) % slots)
    }

    fn first_free(&self, hint: u8) -> Option<usize> {
        self.turns(hint).find(|&slot| self.plain[slot].owner.is_none())
    }

    /// A slot was taken, as the list has it.
    fn took(&mut self, result: Result<Held<'a>, TableFull>, free: Option<usize>, owner: OwnerId) {
        let index = match &result {
            Ok(slot) => slot.key().index() as usize,
            Err(full) => {
                assert_eq!(full.slots as usize, self.plain.len());
                assert!(self.poked || free.is_none(), "full, but for {free:?}");
                return;
            }
        };
        assert!(self.poked || free == Some(index), "{index} instead of {free:?}");
        self.plain[index].begin(owner);
        self.hold(index, result.ok());
    }

    /// A handle for a slot of which none is left; in hostile memory there may be.
    fn hold(&mut self, index: usize, slot: Option<Held<'a>>) {
        if let Some(former) = std::mem::replace(&mut self.held[index], slot) {
            assert!(self.poked, "a second handle of {index}");
            former.keep();
        }
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Claim { owner, hint, entry: n } => {
                let (owner, free) = (self.owner(owner), self.first_free(hint));
                let result = self.table.starting_at(hint.into()).claim(owner, &entry(n));
                let taken = result.is_ok().then_some(free).flatten();
                self.took(result, free, owner);
                if let Some(slot) = taken {
                    self.plain[slot].entry = Some(entry(n));
                }
            }
            Op::Reserve { owner, hint } => {
                let (owner, free) = (self.owner(owner), self.first_free(hint));
                let result = self.table.starting_at(hint.into()).reserve(owner);
                self.took(result, free, owner);
            }
            Op::ReserveAt { slot, owner } => {
                let (index, owner) = (self.slot(slot), self.owner(owner));
                match self.table.reserve_at(index as u32, owner) {
                    Ok(slot) => self.took(Ok(slot), Some(index), owner),
                    Err(error) => {
                        let found = self.plain[index].owner.map(ClaimError::Owned);
                        assert!(self.poked || found == Some(error), "{error}");
                    }
                }
            }
            Op::Enrol { hint, entry: n, refused } => {
                // Some locks are held by others.
                let refuses = |slot: usize| refused >> (slot % 8) & 1 != 0;
                let mut free = self.turns(hint).filter(|&slot| self.plain[slot].owner.is_none());
                let free = free.find(|&slot| !refuses(slot));
                let locked = &mut Vec::new();
                let result = self.table.starting_at(hint.into()).enrol(&entry(n), |id| {
                    let index = id.index() as usize;
                    assert!(locked.len() < 8 * self.plain.len(), "endless");
                    locked.push(id);
                    (!refuses(index)).then_some(id)
                });
                match result {
                    Ok(enrolled) => {
                        let (slot, id) = enrolled.into_parts();
                        assert_eq!((slot.owner(), Some(&id)), (id, locked.last()));
                        let index = slot.key().index() as usize;
                        assert!(self.poked || slot.key() == SlotKey::from(id), "another id");
                        self.took(Ok(slot), free, id);
                        self.plain[index].entry = Some(entry(n));
                    }
                    Err(full) => self.took(Err(full), free, self.owner(0)),
                }
            }
            Op::Update { slot, entry: n } => {
                let index = self.slot(slot);
                let Some(slot) = &mut self.held[index] else { return };
                slot.update(&entry(n));
                self.plain[index].entry = Some(entry(n));
            }
            Op::SetLive { slot, word, value } => {
                let index = self.slot(slot);
                let Some(slot) = &self.held[index] else { return };
                let found = slot.live(word.into());
                assert_eq!(found.is_some(), usize::from(word) < LIVE);
                let Some(live) = found else { return };
                live.store(value, Relaxed);
                self.plain[index].live[usize::from(word)] = value;
            }
            Op::Release { slot } => {
                let index = self.slot(slot);
                let Some(slot) = self.held[index].take() else { return };
                self.over.push(slot.key());
                slot.release();
                self.plain[index].release();
            }
            Op::Keep { slot } => {
                let index = self.slot(slot);
                let Some(slot) = self.held[index].take() else { return };
                let key = slot.key();
                assert_eq!(slot.keep(), key);
            }
            Op::HandOver { slot, to } => {
                let (index, to) = (self.slot(slot), self.owner(to));
                let Some(slot) = self.held[index].take() else { return };
                slot.hand_over(to);
                self.plain[index].owner = Some(to);
            }
            Op::Resume { slot, owner } => {
                let (index, owner) = (self.slot(slot), self.owner(owner));
                if self.held[index].is_some() {
                    return;
                }
                let Plain { generation, owner: holder, .. } = self.plain[index];
                let key = SlotKey::new(index as u32, generation);
                let resumed = self.table.resume(key, owner);
                let expected = holder == Some(owner);
                assert!(self.poked || resumed.is_some() == expected, "{key} of {holder:?}");
                self.hold(index, resumed);
            }
            Op::Recover { dead, heir, keeps } => self.recover(dead, heir, keeps),
            Op::Attach => match Table::attach(&self.memory.region(), 0) {
                Ok(table) => {
                    let slots = self.plain.len() as u32;
                    if table.slots() == slots {
                        self.table = table;
                    } else {
                        assert!(self.poked);
                        table.iter().for_each(|found| _ = found);
                    }
                }
                Err(error) => assert!(self.poked, "{error}"),
            },
            Op::Poke { at, value } => {
                self.memory.set(usize::from(at) % (self.memory.size() / 4) * 4, value);
                self.poked = true;
            }
        }
    }

    fn recover(&mut self, dead: u8, heir: u8, keeps: u8) {
        let (dead, heir) = (self.owner(dead), self.owner(heir));
        for slot in &mut self.held {
            if slot.as_ref().is_some_and(|slot| slot.owner() == dead) {
                slot.take().unwrap().keep();
            }
        }
        // SAFETY: ids here are names given to handles, and there is none of this one's left.
        let proof = unsafe { Dead::assume(dead) };
        let Ok(recovery) = self.table.recover(proof, heir) else {
            assert_eq!(dead, heir);
            return;
        };
        assert_ne!(dead, heir);
        let expected = (0..self.plain.len()).filter(|&n| self.plain[n].owner == Some(dead));
        let expected: Vec<_> = expected.collect();
        let slots: Vec<_> = recovery.collect();
        let found: Vec<_> = slots.iter().map(|slot| slot.key().index() as usize).collect();
        assert!(self.poked || found == expected, "{found:?} instead of {expected:?}");
        for (n, slot) in slots.into_iter().enumerate() {
            let index = found[n];
            assert!(self.poked || slot.entry() == self.plain[index].entry, "another entry");
            match self.plain[index].entry {
                Some(_) => self.plain[index].owner = Some(heir),
                None => self.plain[index].begin(heir),
            }
            if n < keeps.into() {
                self.hold(index, Some(slot));
            } else {
                self.over.push(slot.key());
                slot.release();
                self.plain[index].release();
            }
        }
    }

    /// What anybody sees is what the list says.
    fn compare(&self) {
        let seen: Vec<_> = self.table.iter().map(|found| found.expect("at rest")).collect();
        let owners: Vec<_> = self.table.owners().collect();
        if self.poked {
            return;
        }
        let slots = || self.plain.iter().enumerate();
        let key = |index, slot: &Plain| SlotKey::new(index as u32, slot.generation);
        let expected: Vec<_> = slots()
            .filter_map(|(index, slot)| {
                let (owner, entry) = (slot.owner?, slot.entry?);
                Some(Snapshot { key: key(index, slot), owner, entry })
            })
            .collect();
        assert_eq!(seen, expected);
        let expected = slots().filter_map(|(index, slot)| Some((index as u32, slot.owner?)));
        assert_eq!(owners, expected.collect::<Vec<_>>());
        for (index, slot) in slots() {
            for word in 0..LIVE + 1 {
                let live = slot.entry.and(slot.live.get(word).copied());
                assert_eq!(self.table.live(key(index, slot), word), live);
            }
            if let Some(held) = &self.held[index] {
                assert_eq!(held.key(), key(index, slot));
                assert_eq!((Some(held.owner()), held.entry()), (slot.owner, slot.entry));
            }
        }
        for key in self.over.iter().rev().take(8) {
            assert_eq!((self.table.get(*key), self.table.live(*key, 0)), (Ok(None), None));
        }
    }
}
