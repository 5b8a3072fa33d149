//! The body for the monitor.

use crate::common::monitor::{Op, run};
use arbitrary::{Arbitrary, Result, Unstructured};
use shm_primitives::monitor::{Group, Transaction};

const MOST_OPS: usize = 400;

#[derive(Arbitrary)]
enum Action {
    Begin { seq_id: u64, vip: bool, place: u32, lane_epoch: u32, reply_position: u32, start: u64 },
    BeginNext(u8),
    End,
    Reset,
    Reopen(bool),
    Poke(u8, u32),
}

/// Operations in any order, on memory that holds anything and is overwritten between them,
/// against the monitor's reference.
pub fn monitor(data: &[u8]) {
    // Too few bytes are no fault.
    let _ = run_monitor(&mut Unstructured::new(data));
}

fn run_monitor(u: &mut Unstructured<'_>) -> Result<()> {
    let words = if u.arbitrary()? { u.arbitrary()? } else { [0; 16] };
    let mut ops = Vec::new();
    while !u.is_empty() && ops.len() < MOST_OPS {
        ops.push(match u.arbitrary()? {
            Action::Begin { seq_id, vip, place, lane_epoch, reply_position, start } => {
                Op::Begin(Transaction {
                    seq_id,
                    group: if vip { Group::Vip } else { Group::Normal },
                    worker: (place >> 16) as u16,
                    lane: place as u16,
                    lane_epoch,
                    reply_position,
                    start,
                })
            }
            Action::BeginNext(n) => Op::Begin(Transaction {
                seq_id: n.into(),
                group: Group::Normal,
                worker: n.into(),
                lane: n.into(),
                lane_epoch: n.into(),
                reply_position: n.into(),
                start: n.into(),
            }),
            Action::End => Op::End,
            Action::Reset => Op::Reset,
            Action::Reopen(died) => Op::Reopen { died },
            Action::Poke(at, value) => Op::Poke(at, value),
        });
    }
    run(words, ops);
    Ok(())
}
