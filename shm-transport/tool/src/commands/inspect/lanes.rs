//! The lanes of a node: who sends, and what waits to be read.

use super::parts::Case;
use super::rings::walk;
use crate::look::{TableShape, short};
use serde_json::Value;
use shm_primitives::part::Kind;
use shm_primitives::segment::Magic;

/// What `shm_primitives::lane` documents: bytes before a lane's data, and where its ring begins.
const HEAD: u64 = 4096;
const RING: u64 = HEAD - 256;

/// Looks into the lanes that are somebody's; the others have no memory.
pub fn lanes(case: &mut Case<'_>) {
    if case.header.magic != Magic::NODE {
        return;
    }
    let [count, capacity] = case.header.own;
    case.facts.add("lanes", count);
    case.facts.add("capacity", capacity);
    let stride = HEAD + u64::from(capacity);
    if !capacity.is_power_of_two() || stride * u64::from(count) > case.entry.length {
        return case.problem(format!("{count} lanes of {capacity} bytes do not fit"));
    }
    let Some(table) = case.header.part(Kind::SLOT_TABLE) else {
        return case.problem("there is no table of lanes");
    };
    // What is wrong with the table is said there.
    let Ok(table) = TableShape::at(case.copy, table.offset, table.length) else { return };
    let mut rows = Vec::new();
    for index in 0..count.min(table.slots) {
        let Ok(Some(slot)) = table.slot(case.copy, index) else { continue };
        let owner = short(slot.owner);
        let state = if Some(slot.owner) == case.header.owner() {
            "left"
        } else {
            case.who.life(slot.owner).text()
        };
        if !slot.published {
            rows.push([
                index.into(),
                owner.into(),
                state.into(),
                "not opened yet".into(),
                Value::Null,
                Value::Null,
            ]);
            continue;
        }
        let at = case.entry.offset + u64::from(index) * stride;
        let card = case.copy.bytes(at, 64).unwrap_or_default();
        let card = card.split(|byte| *byte == 0).next().unwrap_or(&[]);
        let region = (usize::try_from(at + RING).ok())
            .and_then(|begin| case.copy.region().part(begin, (stride - RING) as usize));
        let queued = match region {
            _ if !case.copy.has(at, stride) => Ok(None),
            Some(region) => walk(case.copy, at + RING, region).map(Some),
            None => Err("it is not there".into()),
        };
        let queued = queued.unwrap_or_else(|why| {
            case.problem(format!("lane {index}: {why}"));
            None
        });
        rows.push([
            index.into(),
            owner.into(),
            state.into(),
            String::from_utf8_lossy(card).into(),
            queued.map(|queued| queued.frames).into(),
            queued.map(|queued| queued.bytes).into(),
        ]);
    }
    case.facts.add("taken", rows.len());
    let names = ["lane", "owner", "state", "from", "frames", "bytes"];
    case.facts.table("senders", names, rows);
}
