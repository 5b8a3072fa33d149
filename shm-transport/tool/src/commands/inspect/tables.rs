//! Slot tables: who holds what.

use super::parts::{Case, PROC};
use super::services;
use crate::look::{Held, Life, TableShape, short};
use serde_json::Value;
use shm_primitives::segment::Magic;

/// Slots shown one by one.
const SHOWN: usize = 64;

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
    if [Magic::SRVC, Magic::BELL, Magic::LETT].contains(&case.header.magic) {
        services::holders(case, &held);
    } else if case.header.magic != Magic::NODE {
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
