//! The body for the slot table.

use crate::common::table::{Op, run};
use arbitrary::{Arbitrary, Result, Unstructured};
use shm_primitives::table::Options;

const MOST_OPS: usize = 400;

#[derive(Arbitrary)]
enum Action {
    Claim(u8, u8, u32),
    Reserve(u8, u8),
    ReserveAt(u8, u8),
    Enrol(u8, u32, u8),
    Update(u8, u32),
    SetLive(u8, u8, u32),
    Release(u8),
    Keep(u8),
    HandOver(u8, u8),
    Resume(u8, u8),
    Recover(u8, u8, u8),
    Attach,
    Poke(u16, Value),
}

#[derive(Arbitrary)]
enum Value {
    Exactly(u32),
    Small(u8),
    /// A generation in the place where it stands.
    Generation(u8, u8),
    Power(u8),
}

/// Operations in any order against a plain list; and once a word is overwritten, whatever they
/// find: no panic, no access outside, no endless loop.
pub fn hostile(data: &[u8]) {
    // Too few bytes are no fault.
    let _ = run_hostile(&mut Unstructured::new(data));
}

fn run_hostile(u: &mut Unstructured<'_>) -> Result<()> {
    let fill = u.arbitrary()?;
    let last = shm_primitives::identity::OwnerId::MAX_GENERATION;
    let generation = if u.arbitrary()? { last - u.int_in_range(0..=2)? } else { 0 };
    let changes = i32::from(u.arbitrary::<i8>()?) as u32;
    let options = Options::new(u.int_in_range(1..=4)?).generation(generation).changes(changes);
    let mut ops = Vec::new();
    while !u.is_empty() && ops.len() < MOST_OPS {
        ops.push(match u.arbitrary()? {
            Action::Claim(owner, hint, entry) => Op::Claim { owner, hint, entry },
            Action::Reserve(owner, hint) => Op::Reserve { owner, hint },
            Action::ReserveAt(slot, owner) => Op::ReserveAt { slot, owner },
            Action::Enrol(hint, entry, refused) => Op::Enrol { hint, entry, refused },
            Action::Update(slot, entry) => Op::Update { slot, entry },
            Action::SetLive(slot, word, value) => Op::SetLive { slot, word, value },
            Action::Release(slot) => Op::Release { slot },
            Action::Keep(slot) => Op::Keep { slot },
            Action::HandOver(slot, to) => Op::HandOver { slot, to },
            Action::Resume(slot, owner) => Op::Resume { slot, owner },
            Action::Recover(dead, heir, keeps) => Op::Recover { dead, heir, keeps },
            Action::Attach => Op::Attach,
            Action::Poke(at, value) => Op::Poke {
                at,
                value: match value {
                    Value::Exactly(value) => value,
                    Value::Small(value) => value.into(),
                    Value::Generation(generation, low) => {
                        u32::from(generation) << 12 | u32::from(low)
                    }
                    Value::Power(bit) => 1u32.wrapping_shl(bit.into()),
                },
            },
        });
    }
    run(options, fill, ops);
    Ok(())
}
