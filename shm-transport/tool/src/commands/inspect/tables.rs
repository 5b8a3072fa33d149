//! Slot tables: who holds what.

use super::parts::{Case, PROC};
use crate::look::{Life, Snapshot, short};
use serde_json::Value;
use shm_primitives::identity::OwnerId;
use shm_primitives::segment::Magic;

/// Slots shown one by one.
const SHOWN: usize = 64;

/// A table, as its header says.
#[derive(Clone, Copy, Debug)]
pub struct TableShape {
    offset: u64,
    pub slots: u32,
    stride: u32,
    live: u32,
    entry: u32,
}

/// A slot that is somebody's.
#[derive(Clone, Debug)]
pub struct Held {
    pub index: u32,
    pub owner: OwnerId,
    pub published: bool,
    /// What its holder published last.
    pub entry: Vec<u8>,
    /// What it stores when it likes.
    pub live: Vec<u32>,
}

impl TableShape {
    /// That of the table at `offset`, of `length` bytes.
    pub fn at(copy: &Snapshot, offset: u64, length: u64) -> Result<Self, String> {
        let words = copy.words::<16>(offset).ok_or("it is not there")?;
        let this =
            Self { offset, slots: words[5], stride: words[6], live: words[7], entry: words[9] };
        let Self { slots, stride, live, entry, .. } = this;
        let needed = 12 + 4 * u64::from(live) + 2 * u64::from(entry);
        if slots == 0 || slots > 1 << 20 {
            return Err(format!("{slots} slots cannot be"));
        }
        if !stride.is_multiple_of(64) || !entry.is_multiple_of(4) || needed > u64::from(stride) {
            return Err(format!("slots of {stride} bytes with entries of {entry} cannot be"));
        }
        if 64 + u64::from(slots) * u64::from(stride) > length {
            return Err(format!("{slots} slots of {stride} bytes do not fit"));
        }
        Ok(this)
    }

    /// The slot of that number: `Ok(None)` if it is nobody's.
    pub fn slot(&self, copy: &Snapshot, index: u32) -> Result<Option<Held>, String> {
        let at = self.offset + 64 + u64::from(index) * u64::from(self.stride);
        let [owner, version, selector] = copy.words(at).ok_or("it is not there")?;
        if version & 0xffe != 0 {
            return Err(format!("slot {index} has version {version:#x}, which cannot be"));
        }
        let published = version & 1 != 0;
        let Some(id) = OwnerId::from_word(owner) else {
            return match (owner, published) {
                (0, false) => Ok(None),
                (0, true) => Err(format!("slot {index} is nobody's and has an entry")),
                _ => Err(format!("slot {index} has the owner's word {owner:#x}, which is none")),
            };
        };
        let copies = at + 12 + 4 * u64::from(self.live);
        let current = copies + u64::from(selector & 1) * u64::from(self.entry);
        let entry = copy.bytes(current, self.entry as usize).ok_or("it is not there")?;
        let live = copy.bytes(at + 12, self.live as usize * 4).ok_or("it is not there")?;
        let live = live.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
        Ok(Some(Held { index, owner: id, published, entry, live }))
    }
}

/// Looks into a table.
pub fn slots(case: &mut Case<'_>) {
    let Some(part) = case.part() else { return };
    let (offset, length) = (case.entry.offset, case.entry.length);
    let table = match TableShape::at(case.copy, offset, length) {
        Ok(table) => table,
        Err(problem) => return case.problem(problem),
    };
    case.facts.add("slots", table.slots);
    case.facts.add("entry_size", part.start);
    let (mut held, mut counts) = (Vec::new(), [0u32; 3]);
    for index in 0..table.slots {
        match table.slot(case.copy, index) {
            Ok(None) => {}
            Ok(Some(slot)) => {
                counts[case.who.life(slot.owner) as usize] += 1;
                held.push(slot);
            }
            Err(problem) => case.problem(problem),
        }
    }
    case.facts.add("held", held.len());
    for (name, life) in
        [("of_the_living", Life::Alive), ("of_the_dead", Life::Dead), ("of_unknown", Life::Unknown)]
    {
        if counts[life as usize] > 0 {
            case.facts.add(name, counts[life as usize]);
        }
    }
    let unpublished = held.iter().filter(|slot| !slot.published).count();
    if unpublished > 0 {
        case.facts.add("without_entry", unpublished);
    }
    // What a lane's says is shown with the lanes.
    if case.header.magic != Magic::NODE {
        show_holders(case, &held);
    }
}

fn show_holders(case: &mut Case<'_>, held: &[Held]) {
    let (magic, who) = (case.header.magic, case.who);
    let common = |slot: &Held| -> [Value; 3] {
        let state = who.life(slot.owner).text();
        [slot.index.into(), short(slot.owner).into(), state.into()]
    };
    let held = held.iter().take(SHOWN);
    // Where the pid and the name stand in the entries that are known.
    let (pid, name) = match magic {
        PROC => (0, 28..60),
        Magic::LRPC => (64, 0..64),
        _ => {
            let rows = held.map(|slot| {
                let [index, owner, state] = common(slot);
                [index, owner, state, slot.published.into()]
            });
            return case.facts.table("holders", ["slot", "owner", "state", "entry"], rows);
        }
    };
    let rows = held.map(|slot| {
        let [index, owner, state] = common(slot);
        let pid = slot.entry.get(pid..pid + 4).and_then(|bytes| bytes.try_into().ok());
        let name = slot.entry.get(name.clone()).unwrap_or(&[]);
        let name = name.split(|byte| *byte == 0).next().unwrap_or(&[]);
        let name = String::from_utf8_lossy(name).into_owned();
        let beat = slot.live.first().copied();
        [index, owner, state, pid.map(u32::from_le_bytes).into(), name.into(), beat.into()]
    });
    case.facts.table("holders", ["slot", "owner", "state", "pid", "name", "heartbeat"], rows);
}
