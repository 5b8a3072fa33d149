//! The bodies for lanes and for the segment of a node.

use crate::common::lane::{CAPACITY, LANES, Op, run};
use crate::common::memory::Memory;
use crate::common::owner;
use crate::common::park::FakePark;
use arbitrary::{Arbitrary, Result, Unstructured};
use shm_primitives::layout::node::{NodeLayout, Shape};

const MOST_OPS: usize = 300;

#[derive(Arbitrary)]
enum Action {
    Reserve(u8),
    Open(u8, u8),
    Push(u8, u16),
    Announce(u8),
    Close(u8),
    Leave(u8),
    Die(u8),
    Recover(u8),
    Adopt(u8),
    Read(u8, u8),
    AnnounceRoom(u8),
    Finish(u8),
    Drop(u8),
    Poke(Place, Value),
}

#[derive(Arbitrary)]
enum Place {
    /// In table, bitmap and bell.
    Front(u8),
    /// In the head of a lane's, or its ring's.
    Head(u8, u8),
    Anywhere(u16),
}

impl Place {
    /// Which word of the memory.
    fn word(self) -> u16 {
        use crate::common::lane::{AREA_AT, RING, STRIDE};
        let lane = |lane: u8| AREA_AT + usize::from(lane) % LANES as usize * STRIDE;
        match self {
            Self::Front(word) => u16::from(word) % 100,
            // The first 32 are the lane's, the others the ring's and its first data.
            Self::Head(at, word @ 0..32) => (lane(at) / 4) as u16 + u16::from(word),
            Self::Head(at, word) => ((lane(at) + RING) / 4) as u16 + u16::from(word - 32),
            Self::Anywhere(word) => word,
        }
    }
}

#[derive(Arbitrary)]
enum Value {
    Exactly(u32),
    Small(u8),
    Owner(u8),
    Receiver,
    Power(u8),
}

impl Value {
    fn word(self) -> u32 {
        match self {
            Self::Exactly(value) => value,
            Self::Small(value) => value.into(),
            Self::Owner(sender) => owner(100 + u32::from(sender % 3)).word(),
            Self::Receiver => crate::common::lane::receiver().word(),
            Self::Power(bit) => 1u32.wrapping_shl(bit.into()),
        }
    }
}

/// Senders and a receiver in any order against an account; and once a word is overwritten,
/// whatever they find: no panic, no access outside, no endless loop.
pub fn hostile(data: &[u8]) {
    // Too few bytes are no fault.
    let _ = run_hostile(&mut Unstructured::new(data));
}

fn run_hostile(u: &mut Unstructured<'_>) -> Result<()> {
    let fill = u.arbitrary()?;
    let mut ops = Vec::new();
    while !u.is_empty() && ops.len() < MOST_OPS {
        ops.push(match u.arbitrary()? {
            Action::Reserve(sender) => Op::Reserve { sender },
            Action::Open(lane, card) => Op::Open { lane, card },
            Action::Push(lane, len) => Op::Push { lane, len },
            Action::Announce(lane) => Op::Announce { lane },
            Action::Close(lane) => Op::Close { lane },
            Action::Leave(lane) => Op::Leave { lane },
            Action::Die(sender) => Op::Die { sender },
            Action::Recover(sender) => Op::Recover { sender },
            Action::Adopt(lane) => Op::Adopt { lane },
            Action::Read(lane, frames) => Op::Read { lane, frames },
            Action::AnnounceRoom(lane) => Op::AnnounceRoom { lane },
            Action::Finish(lane) => Op::Finish { lane },
            Action::Drop(lane) => Op::Drop { lane },
            Action::Poke(at, value) => Op::Poke { at: at.word(), value: value.word() },
        });
    }
    run(fill, ops);
    Ok(())
}

/// The segment of a node whose words say anything: it is declined, or its lanes can be used.
pub fn segment(data: &[u8]) {
    let _ = run_segment(&mut Unstructured::new(data));
}

fn run_segment(u: &mut Unstructured<'_>) -> Result<()> {
    const SHAPE: Shape = Shape { counter_lines: 1, ..Shape::new(2, CAPACITY) };
    let memory = Memory::new(SHAPE.required_size().unwrap(), u.arbitrary()?);
    // SAFETY: nobody else creates anything in this memory.
    let created = unsafe { NodeLayout::init_at(memory.region(), SHAPE, owner(1)) };
    let (_, control) = created.expect("it has this size");
    std::mem::forget(control);
    let mut sent = None;
    for _ in 0..16 {
        if u.is_empty() {
            break;
        }
        // A word of header, entries and dense parts.
        let at = usize::from(u.arbitrary::<u8>()?) % 160;
        memory.set(4 * at, u.arbitrary::<Value>()?.word());
        // SAFETY: all is on one thread, and what is overwritten is checked.
        let Ok(layout) = (unsafe { NodeLayout::attach(memory.region()) }) else { continue };
        let base = memory.base().addr().get();
        if let (Some(place), Some(counters)) = (layout.place_of_counters(), layout.counters()) {
            assert_eq!(counters.base().addr().get(), base + place);
            assert!(place + counters.len() <= memory.size());
        }
        for lane in [0, 1, u32::MAX] {
            if let Some((place, len)) = layout.place_of(lane) {
                assert!(place + len <= memory.size());
            }
        }
        let park = FakePark::new();
        let lanes = layout.lanes();
        if let Ok(reserved) = lanes.reserve(owner(2))
            && let Ok(mut writer) = reserved.open(b"sender")
        {
            let _ = writer.ring().push(&[7; 100]);
            writer.announce(&park);
            let lane = writer.lane();
            if u.arbitrary()? {
                writer.close(&park);
            } else {
                std::mem::forget(writer);
            }
            sent = Some(lane);
        }
        if let Some(lane) = sent
            && let Ok(Some(mut reader)) = lanes.adopt(lane)
        {
            let _ = reader.ring().skip(2);
            let _ = reader.finish();
        }
    }
    Ok(())
}
