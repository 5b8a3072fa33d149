//! Segments: whoever creates, owns or closes one dies at each of its stores.

use crate::common::memory::Memory;
use crate::common::{dead, owner};
use crate::harness::{at_every_step, die};
use shm_primitives::part::Kind;
use shm_primitives::segment::{
    Control, Known, Magic, NewPart, PartId, Plan, Segment, SegmentError, State,
};

const CREATOR: u32 = 1;
const HEIR: u32 = 2;

const A: PartId = PartId { kind: Kind(100), role: 0 };
const B: PartId = PartId { kind: Kind(100), role: 1 };
const C: PartId = PartId { kind: Kind(101), role: 2 };
const MAGIC: Magic = Magic::LRPC;

/// Another kind, shape and version than the new one.
const OLD_PARTS: [NewPart; 3] =
    [NewPart::required(C, 10), NewPart::required(A, 100), NewPart::optional(B, 64)];
const OLD: Plan<'static> = Plan::new(MAGIC, 1, &OLD_PARTS).own([1, 2]);

const NEW_PARTS: [NewPart; 2] = [NewPart::required(A, 64), NewPart::required(B, 128)];
const NEW: Plan<'static> = Plan::new(MAGIC, 2, &NEW_PARTS).own([3, 4]);

const KNOWN: Known<3> = Known::new(MAGIC, 2, [A, B, C]).oldest(1);

/// What stood in the memory before.
#[derive(Clone, Copy, Debug)]
enum Before {
    Bytes(u8),
    Old,
    /// One whose creator died after so many stores.
    Half(u32),
    /// One whose owner had closed it.
    Closed,
}

fn create<'a>(memory: &'a Memory, plan: &Plan<'_>, by: u32) -> Control<'a> {
    // SAFETY: nobody else creates anything in this memory.
    unsafe { Segment::create(memory.region(), plan, owner(by)) }.unwrap().publish()
}

fn attach(memory: &Memory) -> Result<Segment<'_, 3>, SegmentError> {
    Segment::attach(memory.region(), &KNOWN)
}

/// All of the segment by `plan`, and nothing else.
fn check_whole(segment: &Segment<'_, 3>, plan: &Plan<'_>) {
    assert_eq!((segment.version(), segment.own()), (plan.version, plan.own));
    assert_eq!(segment.size(), plan.size().unwrap());
    for id in [A, B, C] {
        let length = segment.part(id).map(|part| part.len() as u64);
        let wanted = plan.parts.iter().find(|part| part.id == id).map(|part| part.length);
        assert_eq!(length, wanted, "{id}");
    }
}

#[test]
fn creation() {
    let befores = [0x00, 0x5a, 0xff].map(Before::Bytes);
    let halves = [0, 1, 2, 3, 9, 30].map(Before::Half);
    let others = [Before::Old, Before::Closed];
    for before in befores.into_iter().chain(halves).chain(others) {
        let deaths = at_every_step("create", |budget| {
            let memory = Memory::new(1024, 0x5a);
            match before {
                Before::Bytes(fill) => {
                    for offset in (0..1024).step_by(4) {
                        memory.set(offset, u32::from_ne_bytes([fill; 4]));
                    }
                }
                Before::Old => std::mem::forget(create(&memory, &OLD, HEIR)),
                Before::Closed => {
                    create(&memory, &OLD, HEIR).close();
                }
                Before::Half(stores) => {
                    assert!(die(stores, || create(&memory, &OLD, HEIR)).is_none());
                }
            }
            let was = attach(&memory).map(|segment| segment.epoch());
            let survived = die(budget, || std::mem::forget(create(&memory, &NEW, CREATOR)));
            let epoch = match attach(&memory) {
                Ok(segment) if survived.is_some() => {
                    check_whole(&segment, &NEW);
                    assert_eq!(segment.owner(), Ok(Some(owner(CREATOR))));
                    Some(segment.epoch())
                }
                Ok(segment) => {
                    assert_eq!(budget, 0, "{before:?}: there although its creator died");
                    check_whole(&segment, &OLD);
                    Some(segment.epoch())
                }
                Err(error) => {
                    assert!(survived.is_none(), "{before:?}: {error}");
                    let said = match error {
                        _ if budget == 0 => {
                            assert_eq!(Err(error), was, "{before:?}: not touched yet");
                            true
                        }
                        // Before the state says so, and after it says ready.
                        SegmentError::WrongMagic { found: Magic(0), .. } => {
                            budget < 3 || budget == 33
                        }
                        SegmentError::Initialising { owner: Some(by) } => {
                            // The state may still be that of one begun before.
                            by == owner(CREATOR) && budget >= 2 || by == owner(HEIR) && budget < 2
                        }
                        _ => false,
                    };
                    assert!(said, "{before:?}, {budget}: {error}");
                    None
                }
            };
            // Whoever owns the memory creates it anew.
            let control = create(&memory, &NEW, HEIR);
            let segment = attach(&memory).unwrap();
            check_whole(&segment, &NEW);
            assert_ne!(Some(segment.epoch()), epoch, "{before:?}: the same epoch");
            assert_ne!(Ok(segment.epoch()), was, "{before:?}: the same epoch");
            drop(control);
            survived.is_some()
        });
        // Header, entries, state, magic.
        assert_eq!(deaths, 16 + 2 * 8 + 2, "{before:?}: stores");
    }
}

/// The owner dies while it closes and leaves; its heir finds what it left, and finishes.
#[test]
fn closing() {
    let deaths = at_every_step("close", |budget| {
        let memory = Memory::new(1024, 0x5a);
        let mut control = create(&memory, &NEW, CREATOR);
        let segment = attach(&memory).unwrap();
        let survived = die(budget, move || {
            control.close();
            drop(control);
        });
        let ready = if budget == 0 { State::Ready } else { State::Closing };
        assert_eq!(segment.state(), Ok(ready));
        let mut heir = if survived.is_some() {
            segment.claim_control(owner(HEIR)).unwrap()
        } else {
            assert_eq!(segment.owner(), Ok(Some(owner(CREATOR))));
            segment.recover_control(dead(CREATOR), owner(HEIR)).unwrap()
        };
        heir.close();
        assert_eq!(attach(&memory).err(), Some(SegmentError::Closing { owner: Some(owner(HEIR)) }));
        survived.is_some()
    });
    assert_eq!(deaths, 2);
}

/// One who takes the owner word from a dead one, and dies.
#[test]
fn taking_over() {
    let deaths = at_every_step("recover_control", |budget| {
        let memory = Memory::new(1024, 0x5a);
        std::mem::forget(create(&memory, &NEW, CREATOR)); // dies
        let segment = attach(&memory).unwrap();
        let survived = die(budget, || {
            segment.recover_control(dead(CREATOR), owner(HEIR)).unwrap().close();
        });
        let left = match budget {
            0 => Some(owner(CREATOR)),
            1 | 2 => Some(owner(HEIR)),
            _ => None,
        };
        assert_eq!(segment.owner(), Ok(left));
        if let Some(id) = left {
            let second = segment.recover_control(dead(id.index()), owner(3)).unwrap();
            assert_eq!(second.owner(), owner(3));
        }
        check_whole(&segment, &NEW);
        survived.is_some()
    });
    assert_eq!(deaths, 3);
}
