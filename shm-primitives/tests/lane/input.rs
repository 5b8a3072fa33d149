//! Memory that says what nobody who keeps the protocol writes: errors, and nothing else.

use crate::common::lane::{
    AREA_AT, BELL_AT, CAPACITY, LANES, READY_AT, RING, SIZE, STRIDE, lanes, memory, receiver,
};
use crate::common::memory::Memory;
use crate::common::owner;
use crate::common::park::FakePark;
use shm_primitives::lane::{Lanes, LanesError, OpenError, Table};
use shm_primitives::part::{AttachError, ClaimError, Corrupt, Kind};
use shm_primitives::ready::ReadyBitmap;
use shm_primitives::ring::frame::{FrameRingRef, Options, ReadError};
use shm_primitives::table::Options as TableOptions;
use shm_primitives::wake::{Deadline, WakeWord};

const SENDER: u32 = 7;

#[test]
fn wrong_areas() {
    let memory = memory(0);
    let make = |offset, len, capacity| {
        let all = lanes(&memory);
        let (table, ready) = (all.table(), all.ready());
        let area = memory.part(AREA_AT + offset, len);
        // SAFETY: nothing is done with what is made.
        unsafe { Lanes::new(receiver(), table, ready, all.bell(), area, capacity) }.map(drop)
    };
    let enough = SIZE - AREA_AT;
    assert_eq!(make(0, enough, CAPACITY), Ok(()));
    for capacity in [0, 1, 2048, 4097, 1 << 31, u32::MAX] {
        let error = LanesError::BadCapacity { found: capacity };
        assert_eq!(make(0, enough, capacity), Err(error));
        assert!(error.to_string().contains(&capacity.to_string()));
    }
    let too_small = |found, wanted| LanesError::Area(AttachError::TooSmall { found, wanted });
    assert_eq!(make(0, enough - 1, CAPACITY), Err(too_small(enough - 1, enough)));
    let wanted = LANES as usize * (4096 + 8192);
    assert_eq!(make(0, enough, 8192), Err(too_small(enough, wanted)));
    assert!(matches!(
        make(32, enough - 64, CAPACITY),
        Err(LanesError::Area(
            AttachError::Misaligned { wanted: 64, .. } | AttachError::TooSmall { .. }
        ))
    ));
    assert!(too_small(1, 2).to_string().contains("lanes"));
}

/// A slot that somebody has published without a lane of this module's behind it.
#[test]
fn foreign_lanes() {
    let ring = |error| OpenError::Ring(error);
    let magic = u32::from_le_bytes(*b"SHMP");
    let corrupt =
        |what, found, limit| OpenError::End(ClaimError::Corrupt(Corrupt { what, found, limit }));
    // Words of the ring, each changed from what a new one has.
    for (offset, value, wanted) in [
        (0, 0, ring(AttachError::WrongMagic { found: 0, wanted: magic })),
        (4, 0, ring(AttachError::WrongVersion { found: 0, wanted: 1 })),
        (8, 1, ring(AttachError::WrongKind { found: Kind(1), wanted: Kind::FRAME_RING })),
        (16, 9, ring(AttachError::NewerRequired { found: 9, wanted: 1 })),
        (20, 8192, ring(AttachError::UnexpectedCapacity { found: 8192, wanted: 4096 })),
        (20, 2048, ring(AttachError::UnexpectedCapacity { found: 2048, wanted: 4096 })),
        (20, 5000, ring(AttachError::BadCapacity { found: 5000, maximum: 1 << 30 })),
        (28, 0x777, ring(AttachError::UnsupportedOption { found: 0x777 })),
        (44, owner(9).word(), OpenError::End(ClaimError::Owned(owner(9)))),
        (44, 1, corrupt("owner word", 1, 0)),
        (192, 4, corrupt("consumed position", 4, 8)),
    ] {
        let memory = memory(0);
        let lanes = lanes(&memory);
        let _writer = lanes.reserve(owner(SENDER)).unwrap().open(b"camera").unwrap();
        let at = AREA_AT + RING + offset;
        let before = memory.get(at);
        memory.set(at, value);
        let found = lanes.adopt(0).map(drop).expect_err("adopted");
        if offset == 44 && value == 1 {
            assert!(matches!(found, OpenError::End(ClaimError::Corrupt(_))), "{found}");
        } else {
            assert_eq!(found, wanted, "{value:#x} at {offset}");
        }
        assert!(found.to_string().contains("lane"), "{found}");
        // It is the receiver's decision what to do then; if somebody mends it, it is a lane.
        memory.set(at, before);
        assert!(lanes.adopt(0).unwrap().is_some(), "{value:#x} at {offset}");
    }
}

/// No ring at all behind a published slot, and another kind of ring.
#[test]
fn published_by_hand() {
    let memory = memory(0xa5);
    let lanes = lanes(&memory);
    let mut slot = lanes.table().reserve(owner(SENDER)).unwrap();
    slot.update(&[owner(SENDER).word(), 0]);
    let found = 0xa5a5_a5a5;
    let wanted = u32::from_le_bytes(*b"SHMP");
    let error = OpenError::Ring(AttachError::WrongMagic { found, wanted });
    assert_eq!(lanes.adopt(0).map(drop), Err(error));
    // Half the size, so that the header is right for what stands there.
    let place = memory.part(AREA_AT + RING, STRIDE - RING);
    // SAFETY: nobody else uses this memory.
    unsafe { FrameRingRef::init_at(place, Options::new(2048)) }.unwrap();
    let error = AttachError::UnexpectedCapacity { found: 2048, wanted: CAPACITY };
    assert_eq!(lanes.adopt(0).map(drop), Err(OpenError::Ring(error)));
    // A sender that says that it is nobody, with the rest in order.
    let place = memory.part(AREA_AT + RING, STRIDE - RING);
    // SAFETY: as above.
    unsafe { FrameRingRef::init_at(place, Options::new(CAPACITY)) }.unwrap();
    slot.update(&[0, 0]);
    let reader = lanes.adopt(0).unwrap().unwrap();
    assert_eq!(reader.sender(), None);
    assert_eq!(reader.card().as_bytes(), [0xa5; 64]);
    assert!(!lanes.any_from(owner(SENDER)));
}

/// The owner word of a lane in use: whatever it says, the two ends come to an end.
#[test]
fn stolen_slots() {
    for stolen in [0, 1, owner(9).word(), owner(SENDER).word(), receiver().word(), u32::MAX] {
        for version in [None, Some(0), Some(1 << 12), Some(2 << 12 | 1), Some(u32::MAX)] {
            let memory = memory(0);
            let (lanes, park) = (lanes(&memory), FakePark::new());
            let mut writer = lanes.reserve(owner(SENDER)).unwrap().open(b"camera").unwrap();
            writer.ring().push(b"one").unwrap();
            let mut reader = lanes.adopt(0).unwrap().unwrap();
            memory.set(64, stolen);
            if let Some(version) = version {
                memory.set(68, version);
            }
            let is_mine = stolen == receiver().word();
            assert_eq!(reader.has_ended(), is_mine);
            // No frame is lost by it.
            reader = reader.finish().expect("there is something to read");
            assert_eq!(reader.ring().skip(2), 1);
            let same_tenancy = version.is_none() || version == Some(1 << 12);
            let finished = reader.finish();
            assert_eq!(finished.is_none(), is_mine && same_tenancy, "{stolen:#x}, {version:?}");
            let _ = writer.ring().push(b"two");
            writer.announce(&park);
            writer.close(&park);
            let _ = lanes.adopt(0);
            let claimed = lanes.claimed().count();
            assert!(claimed <= 1);
        }
    }
}

/// Positions of a ring in use: the end that reads them is done for, the lane can be finished.
#[test]
fn corrupt_rings() {
    let memory = memory(0);
    let (lanes, park) = (lanes(&memory), FakePark::new());
    let mut writer = lanes.reserve(owner(SENDER)).unwrap().open(b"camera").unwrap();
    writer.ring().push(b"one").unwrap();
    let mut reader = lanes.adopt(0).unwrap().unwrap();
    memory.set(AREA_AT + 4096, 3);
    assert_eq!(reader.ring().read().map(drop), Err(ReadError::Corrupt));
    let reader = reader.finish().expect("the sender is there still");
    writer.close(&park);
    assert!(reader.finish().is_none(), "a corrupt lane that ended holds up nobody");
    assert!(lanes.reserve(owner(9)).is_ok());
}

/// Bitmap and wake words that say anything cost time alone.
#[test]
fn words_of_noise() {
    for noise in [0, 1, 2, 3, 0x8000_0000, u32::MAX] {
        let memory = memory(0);
        let (lanes, park) = (lanes(&memory), FakePark::new());
        let words = [READY_AT, BELL_AT, BELL_AT + 4, AREA_AT + 64, AREA_AT + 68];
        for at in words {
            memory.set(at, noise);
        }
        let mut writer = lanes.reserve(owner(SENDER)).unwrap().open(b"camera").unwrap();
        let mut reader = lanes.adopt(0).unwrap().unwrap();
        assert!(lanes.ready().marked().all(|lane| lane < LANES as usize));
        writer.ring().push(b"one").unwrap();
        writer.announce(&park);
        assert!(lanes.ready().is_marked(0));
        let mut waiter = lanes.bell().waiter();
        let mut times = 0;
        let woken = waiter.wait(&park, Deadline::NEVER, || {
            times += 1;
            for at in words {
                memory.set(at, noise);
            }
            times > 3 && !reader.ring().is_empty()
        });
        assert!(woken);
        reader.announce_room(&park);
        writer.close(&park);
        assert_eq!(reader.ring().skip(2), 1);
        assert!(reader.finish().is_none());
    }
}

/// Parts that do not fit each other: fewer bits than lanes, more lanes than the table has.
#[test]
fn parts_of_other_sizes() {
    let memory = Memory::new(SIZE, 0);
    let table = Table::init_at(&memory.part(0, READY_AT), TableOptions::new(2)).unwrap();
    let ready = ReadyBitmap::at(&memory.part(READY_AT, 4), 1).unwrap();
    let bell = WakeWord::at(&memory.part(BELL_AT, 8)).unwrap();
    let area = memory.part(AREA_AT, SIZE - AREA_AT);
    // SAFETY: nobody else has this memory.
    let lanes = unsafe { Lanes::new(receiver(), table, ready, bell, area, CAPACITY) }.unwrap();
    let park = FakePark::new();
    let _first = lanes.reserve(owner(1)).unwrap().open(b"").unwrap();
    let mut second = lanes.reserve(owner(2)).unwrap().open(b"").unwrap();
    second.announce(&park);
    assert_eq!(lanes.ready().marked().count(), 0, "no bit for it");
    assert!(lanes.adopt(1).unwrap().is_some(), "but it is found by a sweep");
    assert!(lanes.adopt(2).unwrap().is_none() && lanes.adopt(u32::MAX).unwrap().is_none());
    assert_eq!(lanes.place_of(2), None);
}
