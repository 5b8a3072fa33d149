//! The body for counters.

use crate::common::counter::{Op, UNIT, run};
use arbitrary::{Arbitrary, Result, Unstructured};

const MOST_OPS: usize = 400;

#[derive(Arbitrary)]
enum Action {
    Add(u64),
    AddSmall(u16),
    /// So many units of the upper word, and a little more or less.
    AddNear(u8, i8),
    Reopen,
    Poke(bool, u32),
}

/// Additions of any size, on words that hold anything and are overwritten between them, against
/// plain arithmetic.
pub fn counter(data: &[u8]) {
    // Too few bytes are no fault.
    let _ = run_counter(&mut Unstructured::new(data));
}

fn run_counter(u: &mut Unstructured<'_>) -> Result<()> {
    let (low, high) = u.arbitrary()?;
    let mut ops = Vec::new();
    while !u.is_empty() && ops.len() < MOST_OPS {
        ops.push(match u.arbitrary()? {
            Action::Add(n) => Op::Add(n),
            Action::AddSmall(n) => Op::Add(n.into()),
            Action::AddNear(units, more) => {
                Op::Add((u64::from(units) * UNIT).saturating_add_signed(more.into()))
            }
            Action::Reopen => Op::Reopen,
            Action::Poke(upper, word) => Op::Poke(upper, word),
        });
    }
    run(low, high, &ops);
    Ok(())
}
