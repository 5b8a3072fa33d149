//! Segments: what stands in memory, what is declined and why, and how versions meet.

mod common;

use common::memory::Memory;
use common::{dead, owner};
use proptest::prelude::*;
use shm_primitives::part::{ClaimError, Corrupt, Kind};
use shm_primitives::region::Region;
use shm_primitives::segment::{
    Control, ENTRY, HEADER, Known, MAX_PARTS, Magic, NewPart, PartId, Plan, Segment, SegmentError,
    State, give_up,
};
use std::collections::BTreeSet;

/// Offsets of the header's words, written down a second time.
mod at {
    pub const MAGIC: usize = 0;
    pub const VERSION: usize = 4;
    pub const MIN_READER: usize = 16;
    pub const STATE: usize = 20;
    pub const EPOCH: usize = 24;
    pub const OWNER: usize = 28;
    pub const SIZE: usize = 32;
    pub const TABLE: usize = 40;
    pub const ENTRY: usize = 44;
    pub const PARTS: usize = 48;
    /// Of the first entry.
    pub const KIND: usize = 64;
    pub const ATTRIBUTES: usize = 68;
    pub const OFFSET: usize = 72;
    pub const LENGTH: usize = 80;
}

const MINE: Magic = Magic(0x4d49_4e45);
const A: PartId = PartId { kind: Kind(100), role: 0 };
const B: PartId = PartId { kind: Kind(100), role: 1 };
const C: PartId = PartId { kind: Kind(101), role: 0xffff };
const UNKNOWN: PartId = PartId { kind: Kind(200), role: 7 };
const PARTS: [NewPart; 3] =
    [NewPart::required(A, 100), NewPart::optional(B, 0), NewPart::optional(C, 64).aligned(512)];
const PLAN: Plan<'static> = Plan::new(MINE, 3, &PARTS).own([11, 12]).min_reader(2);
const KNOWN: Known<3> = Known::new(MINE, 3, [C, A, B]).oldest(2);

// Header and table are 160 bytes; A at 192, B at 320, C at 512.
const SIZE: usize = PLAN.required_size().unwrap();
const _: () = assert!(SIZE == 576 && HEADER == 64 && ENTRY == 32);

/// Memory for the rest of the test.
fn memory(fill: u8) -> &'static Memory {
    Box::leak(Box::new(Memory::new(1024, fill)))
}

fn create(memory: &'static Memory) -> Control<'static> {
    // SAFETY: nobody else creates anything in this memory.
    unsafe { Segment::create(memory.region(), &PLAN, owner(5)) }.unwrap().publish()
}

fn created() -> (&'static Memory, Control<'static>) {
    let memory = memory(0x5a);
    (memory, create(memory))
}

fn words(memory: &Memory, from: usize, count: usize) -> Vec<u32> {
    (0..count).map(|index| memory.get(from + 4 * index)).collect()
}

fn place(memory: &Memory, region: Option<Region<'_>>) -> Option<(usize, usize)> {
    region.map(|part| (part.base().addr().get() - memory.base().addr().get(), part.len()))
}

#[test]
fn the_words_of_a_segment() {
    let (memory, _control) = created();
    let epoch = 0x5a5a_5a5b;
    let owner = 1 << 12 | 5;
    let header = [MINE.0, 3, 11, 12, 2, 1, epoch, owner, 576, 0, 64, 32, 3, 0, 0, 0];
    assert_eq!(words(memory, 0, 16), header);
    let entry = |id: PartId, required: u32, alignment: u32, offset, length| {
        [
            id.kind.0,
            u32::from(id.role) << 16 | alignment << 8 | required,
            offset,
            0,
            length,
            0,
            0,
            0,
        ]
    };
    assert_eq!(words(memory, 64, 8), entry(A, 1, 6, 192, 100));
    assert_eq!(words(memory, 96, 8), entry(B, 0, 6, 320, 0));
    assert_eq!(words(memory, 128, 8), entry(C, 0, 9, 512, 64));
    // Nothing behind the table is touched.
    assert!(memory.bytes()[160..].iter().all(|byte| *byte == 0x5a));
}

/// Segments larger than 4 GiB have sizes and offsets of two words.
#[test]
fn words_of_a_large_segment() {
    const LARGE: [NewPart; 2] = [NewPart::required(A, 5 << 32), NewPart::required(B, 64)];
    const PLAN: Plan<'static> = Plan::new(MINE, 1, &LARGE);
    assert_eq!(PLAN.size(), Some((5 << 32) + 128 + 64));
    // Its header and table alone, the size not there: as if the file was cut off.
    let memory = memory(0);
    // SAFETY: nobody else creates anything in this memory.
    let error = unsafe { Segment::create(memory.region(), &PLAN, owner(1)) }.unwrap_err();
    assert_eq!(error, SegmentError::TooSmall { found: 1024, wanted: (5 << 32) + 192 });
    create(memory);
    memory.set(at::SIZE, 0);
    memory.set(at::SIZE + 4, 1);
    let error = Segment::attach(memory.region(), &KNOWN).unwrap_err();
    assert_eq!(error, SegmentError::TooSmall { found: 1024, wanted: 1 << 32 });
    memory.set(at::SIZE, SIZE as u32);
    memory.set(at::SIZE + 4, 0);
    memory.set(at::OFFSET + 4, 1);
    let error = Segment::attach(memory.region(), &KNOWN).unwrap_err();
    let offset = (1 << 32) + 192;
    let wanted = SegmentError::PartOutside { entry: 0, offset, length: 100, size: 576 };
    assert_eq!(error, wanted);
}

#[test]
fn parts_are_where_the_plan_puts_them() {
    let memory = memory(0);
    // SAFETY: nobody else creates anything in this memory.
    let creating = unsafe { Segment::create(memory.region(), &PLAN, owner(5)) }.unwrap();
    let places =
        [(A, Some((192, 100))), (B, Some((320, 0))), (C, Some((512, 64))), (UNKNOWN, None)];
    for (id, wanted) in places {
        assert_eq!(place(memory, creating.part(id)), wanted, "creating: {id}");
    }
    let epoch = creating.epoch();
    drop(creating.publish());
    let segment = Segment::attach(memory.region(), &KNOWN).unwrap();
    for (id, wanted) in places {
        assert_eq!(place(memory, segment.part(id)), wanted, "{id}");
    }
    assert_eq!(segment.require(UNKNOWN).unwrap_err(), SegmentError::MissingPart(UNKNOWN));
    assert_eq!((segment.magic(), segment.version(), segment.own()), (MINE, 3, [11, 12]));
    assert_eq!((segment.size(), segment.epoch(), epoch), (576, 1, 1));
    assert_eq!((segment.state(), segment.owner()), (Ok(State::Ready), Ok(None)));
}

#[test]
fn impossible_plans() {
    let part = |id, length| NewPart::required(id, length);
    let many: Vec<_> =
        (0..=MAX_PARTS as u16).map(|role| part(PartId { kind: Kind(1), role }, 0)).collect();
    let alignment = "an alignment is no power of two up to 1 GiB";
    let long = "it does not fit 64 bits";
    let cases: [(Magic, u32, &[NewPart], &str); 8] = [
        (Magic(0), 1, &PARTS, "its magic is 0"),
        (MINE, 2, &PARTS, "not even its own version could read it"),
        (MINE, 1, &many, "it has too many parts"),
        (MINE, 1, &[part(A, 1), part(B, 1), part(A, 1)], "it has the same part twice"),
        (MINE, 1, &[part(A, 1).aligned(48)], alignment),
        (MINE, 1, &[part(A, 1).aligned(1 << 31)], alignment),
        (MINE, 1, &[part(A, u64::MAX)], long),
        (MINE, 1, &[part(A, u64::MAX / 2), part(B, u64::MAX / 2)], long),
    ];
    for (magic, min_reader, parts, why) in cases {
        let plan = Plan::new(magic, 1, parts).min_reader(min_reader);
        let memory = memory(0x5a);
        // SAFETY: nobody else creates anything in this memory.
        let error = unsafe { Segment::create(memory.region(), &plan, owner(5)) }.unwrap_err();
        assert_eq!(error, SegmentError::Impossible(why));
        assert_eq!((plan.size(), plan.required_size()), (None, None), "{why}");
        assert!(memory.bytes().iter().all(|byte| *byte == 0x5a), "{why}");
    }
    assert!(Plan::new(MINE, 1, &many[..MAX_PARTS]).size().is_some());
}

#[test]
fn memory_that_does_not_fit() {
    let memory = memory(0x5a);
    let create = |region, plan: &Plan<'_>| {
        // SAFETY: nobody else creates anything in this memory.
        unsafe { Segment::create(region, plan, owner(5)) }.map(drop).unwrap_err()
    };
    let address = memory.base().addr().get();
    let odd = || memory.part(4, 900);
    let near = || memory.part(64, 900);
    let small = || memory.part(0, SIZE - 1);
    let too_small = |found| SegmentError::TooSmall { found, wanted: 576 };
    assert_eq!(create(small(), &PLAN), too_small(575));
    assert_eq!(
        create(near(), &PLAN),
        SegmentError::Misaligned { found: address + 64, wanted: 512 }
    );
    let plain = Plan::new(MINE, 3, &PARTS[..2]);
    assert_eq!(create(odd(), &plain), SegmentError::Misaligned { found: address + 4, wanted: 64 });
    assert!(memory.bytes().iter().all(|byte| *byte == 0x5a));

    let (memory, _control) = created();
    let attach = |region| Segment::attach(region, &KNOWN).map(drop).unwrap_err();
    let address = memory.base().addr().get();
    assert_eq!(attach(memory.part(0, 63)), SegmentError::TooSmall { found: 63, wanted: 64 });
    assert_eq!(attach(memory.part(0, SIZE - 1)), too_small(575));
    let misaligned = SegmentError::Misaligned { found: address + 4, wanted: 64 };
    assert_eq!(attach(memory.part(4, 900)), misaligned);
    assert!(Segment::attach(memory.part(0, SIZE), &KNOWN).is_ok());

    // A copy of it at an address that is good enough for the header and not for part C.
    let bytes = memory.bytes();
    for offset in (0..SIZE).step_by(4) {
        let word = bytes[offset..offset + 4].try_into().unwrap();
        memory.set(64 + offset, u32::from_ne_bytes(word));
    }
    let misaligned = SegmentError::Misaligned { found: address + 64, wanted: 512 };
    assert_eq!(attach(memory.part(64, SIZE)), misaligned);
    // Who does not know C does not need it aligned.
    let less = Known::new(MINE, 3, [A, B]);
    assert!(Segment::attach(memory.part(64, SIZE), &less).is_ok());
}

/// Every way the words can be wrong is an error of its own, and nothing is written.
#[test]
fn spoilt_segments() {
    use SegmentError::*;
    let corrupt = |what, found, limit| Corrupt(self::Corrupt { what, found, limit });
    let by = Some(owner(5));
    const INIT: u32 = 0x494e_4954;
    let table: [(&[(usize, u32)], SegmentError); 27] = [
        (&[(at::MAGIC, 0)], WrongMagic { found: Magic(0), wanted: MINE }),
        (&[(at::MAGIC, 0x5048_4e58)], WrongMagic { found: Magic::PHNX, wanted: MINE }),
        (&[(at::MAGIC, 9)], WrongMagic { found: Magic(9), wanted: MINE }),
        (&[(at::MAGIC, 0), (at::STATE, INIT)], Initialising { owner: by }),
        (&[(at::STATE, INIT), (at::OWNER, 0)], Initialising { owner: None }),
        (&[(at::VERSION, 1)], WrongVersion { found: 1, wanted: 2 }),
        (&[(at::MIN_READER, 4)], NewerRequired { found: 4, wanted: 3 }),
        (&[(at::STATE, 2)], Closing { owner: by }),
        (&[(at::STATE, 2), (at::OWNER, 9)], Closing { owner: None }),
        (&[(at::STATE, 0)], corrupt("state of the segment", 0, 3)),
        (&[(at::SIZE, 1025)], TooSmall { found: 1024, wanted: 1025 }),
        (&[(at::TABLE, 60)], corrupt("offset of the table of parts", 60, 64)),
        (&[(at::TABLE, 66)], corrupt("offset of the table of parts", 66, 64)),
        (&[(at::ENTRY, 28)], corrupt("bytes of an entry of the table of parts", 28, 32)),
        (&[(at::ENTRY, 34)], corrupt("bytes of an entry of the table of parts", 34, 32)),
        (&[(at::PARTS, 1025)], corrupt("number of parts", 1025, 1024)),
        (&[(at::PARTS, 17)], corrupt("end of the table of parts", 608, 576)),
        (&[(at::TABLE, 1 << 20)], corrupt("end of the table of parts", (1 << 20) + 96, 576)),
        (&[(at::ENTRY, 1 << 31)], corrupt("end of the table of parts", u32::MAX, 576)),
        (&[(at::KIND, 999)], UnknownPart(PartId { kind: Kind(999), role: 0 })),
        (&[(at::ATTRIBUTES, 31 << 8)], corrupt("alignment of a part, as a power of two", 31, 30)),
        (&[(at::OFFSET, 196)], PartMisaligned { entry: 0, offset: 196, wanted: 64 }),
        (&[(at::OFFSET, 128)], PartOverlaps { entry: 0, offset: 128, wanted: 160 }),
        (&[(at::LENGTH, 129)], PartOverlaps { entry: 1, offset: 320, wanted: 321 }),
        (&[(at::LENGTH, 385)], PartOutside { entry: 0, offset: 192, length: 385, size: 576 }),
        (
            &[(at::LENGTH, u32::MAX - 100), (at::LENGTH + 4, u32::MAX)],
            PartOutside { entry: 0, offset: 192, length: u64::MAX - 100, size: 576 },
        ),
        (&[(at::ATTRIBUTES, 1 << 16 | 6 << 8)], DuplicatePart(B)),
    ];
    let mut texts = BTreeSet::new();
    for (spoilt, wanted) in table {
        let (memory, control) = created();
        for (offset, value) in spoilt {
            memory.set(*offset, *value);
        }
        let before = memory.bytes();
        let error = Segment::attach(memory.region(), &KNOWN).map(drop).unwrap_err();
        assert_eq!(error, wanted, "{spoilt:?}");
        assert!(memory.bytes() == before, "written to while declining: {wanted}");
        let text = wanted.to_string();
        assert!(text.len() > 10 && !text.ends_with('.') && text.is_ascii(), "{text:?}");
        assert!(texts.insert(text), "twice: {wanted}");
        std::mem::forget(control);
    }
}

#[test]
fn versions() {
    let attach = |version, oldest, parts: [PartId; 1]| {
        let (memory, _control) = created();
        let known = Known::new(MINE, version, parts).oldest(oldest);
        Segment::attach(memory.region(), &known).map(|segment| segment.version())
    };
    // The segment is of version 3 and for readers of version 2 and later.
    assert_eq!(attach(3, 3, [A]), Ok(3));
    assert_eq!(attach(2, 1, [A]), Ok(3), "older reader");
    assert_eq!(attach(9, 3, [A]), Ok(3), "newer reader");
    let newer = SegmentError::NewerRequired { found: 2, wanted: 1 };
    assert_eq!(attach(1, 1, [A]), Err(newer));
    assert_eq!(attach(9, 4, [A]), Err(SegmentError::WrongVersion { found: 3, wanted: 4 }));
    // It does not know the one part that is required.
    assert_eq!(attach(3, 3, [B]), Err(SegmentError::UnknownPart(A)));
}

#[test]
fn closing() {
    let (memory, mut control) = created();
    let attach = || Segment::attach(memory.region(), &KNOWN);
    let segment = attach().unwrap();
    assert_eq!(segment.confirm(), Ok(()));
    control.close();
    let closing = |owner| SegmentError::Closing { owner };
    assert_eq!(attach().map(drop), Err(closing(Some(owner(5)))));
    assert_eq!(segment.confirm(), Err(closing(Some(owner(5)))));
    assert_eq!(segment.state(), Ok(State::Closing));
    // Who has it goes on.
    assert!(segment.part(A).is_some());
    drop(control);
    assert_eq!(segment.confirm(), Err(closing(None)));
    assert_eq!(segment.owner(), Ok(None));
}

/// Given up with the proof of its owner's death, and not otherwise; a segment that was closing
/// stays so.
#[test]
fn given_up() {
    let wrong = Magic(1);
    for closing in [false, true] {
        let (memory, mut control) = created();
        let attach = || Segment::attach(memory.region(), &KNOWN);
        let segment = attach().unwrap();
        if closing {
            control.close();
        }
        let before = segment.state();
        control.keep();
        let region = memory.region();
        assert_eq!(give_up(&region, MINE, dead(6)), Ok(false));
        assert!(matches!(
            give_up(&region, wrong, dead(5)),
            Err(SegmentError::WrongMagic { wanted, .. }) if wanted == wrong
        ));
        assert_eq!(segment.state(), before, "another's");
        for _ in 0..2 {
            assert_eq!(give_up(&region, MINE, dead(5)), Ok(true));
            assert_eq!(segment.owner(), Ok(Some(owner(5))), "to be found by");
            if closing {
                assert_eq!(segment.state(), Ok(State::Closing));
                continue;
            }
            assert_eq!(segment.state(), Ok(State::GivenUp));
            let error = SegmentError::GivenUp { owner: Some(owner(5)) };
            assert_eq!(segment.confirm(), Err(error));
            assert_eq!(attach().map(drop), Err(error));
            assert!(error.to_string().contains("dead"), "{error}");
        }
        // Whoever takes it over nevertheless sees what it is.
        let _control = segment.recover_control(dead(5), owner(6)).unwrap();
        assert_eq!(segment.state(), Ok(if closing { State::Closing } else { State::GivenUp }));
    }
}

/// Created anew in the same memory it is another one, in the next epoch.
#[test]
fn epochs() {
    let (memory, control) = created();
    let first = Segment::attach(memory.region(), &KNOWN).unwrap();
    std::mem::forget(control); // dies
    // SAFETY: nobody uses a part of it.
    let creating = unsafe { Segment::create(memory.region(), &PLAN, owner(6)) }.unwrap();
    let begun = SegmentError::Initialising { owner: Some(owner(6)) };
    assert_eq!(first.confirm(), Err(begun));
    assert_eq!(Segment::attach(memory.region(), &KNOWN).map(drop), Err(begun));
    let _control = creating.publish();
    let second = Segment::attach(memory.region(), &KNOWN).unwrap();
    assert_eq!(second.epoch(), first.epoch() + 1);
    let renewed = SegmentError::Renewed { found: second.epoch(), wanted: first.epoch() };
    assert_eq!(first.confirm(), Err(renewed));
    assert_eq!(second.confirm(), Ok(()));
    memory.set(at::MAGIC, 1);
    let wrong = SegmentError::WrongMagic { found: Magic(1), wanted: MINE };
    assert_eq!(second.confirm(), Err(wrong));
    // Epoch 0 is skipped: it is what fresh memory says.
    memory.set(at::EPOCH, u32::MAX);
    create(memory);
    assert_eq!(memory.get(at::EPOCH), 1);
}

#[test]
fn the_owner_word() {
    let (memory, control) = created();
    let segment = Segment::attach(memory.region(), &KNOWN).unwrap();
    assert_eq!(control.owner(), owner(5));
    assert_eq!(segment.owner(), Ok(Some(owner(5))));
    let owned = |result: Result<Control<'_>, ClaimError>| result.map(drop).unwrap_err();
    assert_eq!(owned(segment.claim_control(owner(6))), ClaimError::Owned(owner(5)));
    let not = |found| ClaimError::NotTheOwner { found };
    assert_eq!(owned(segment.recover_control(dead(7), owner(6))), not(Some(owner(5))));
    // Else there were two with the right to close it.
    let own_death = ClaimError::OwnDeath(owner(5));
    assert_eq!(owned(segment.recover_control(dead(5), owner(5))), own_death);
    assert_eq!(segment.owner(), Ok(Some(owner(5))));
    // Kept, and had again by the same one alone.
    assert_eq!(control.keep(), owner(5));
    assert_eq!(owned(segment.resume_control(owner(6))), not(Some(owner(5))));
    let control = segment.resume_control(owner(5)).unwrap();
    drop(control);
    assert_eq!(segment.owner(), Ok(None));
    assert_eq!(owned(segment.resume_control(owner(5))), not(None));
    assert_eq!(owned(segment.recover_control(dead(7), owner(6))), not(None));
    let control = segment.claim_control(owner(7)).unwrap();
    std::mem::forget(control); // dies
    let mut control = segment.recover_control(dead(7), owner(6)).unwrap();
    control.close();
    std::mem::forget(control); // dies
    let control = segment.recover_control(dead(6), owner(8)).unwrap();
    assert_eq!(segment.state(), Ok(State::Closing), "as it was left");
    // Taken by another: not given back.
    memory.set(at::OWNER, owner(9).word());
    drop(control);
    assert_eq!(segment.owner(), Ok(Some(owner(9))));
    memory.set(at::OWNER, 0xfff);
    let corrupt = Corrupt { what: "owner word, of no generation", found: 0xfff, limit: 1 << 12 };
    assert_eq!(segment.owner(), Err(corrupt));
    assert_eq!(owned(segment.claim_control(owner(6))), corrupt.into());
    assert_eq!(owned(segment.recover_control(dead(7), owner(6))), corrupt.into());
    assert_eq!(owned(segment.resume_control(owner(6))), corrupt.into());
}

#[test]
fn magics_read_as_text() {
    assert_eq!(Magic::PHNX.to_string(), "\"PHNX\"");
    assert_eq!(Magic::LRPC.to_string(), "\"LRPC\"");
    assert_eq!(Magic(7).to_string(), "0x00000007");
}

fn new_part() -> impl Strategy<Value = NewPart> {
    (0..4u32, 0..4u16, any::<bool>(), 0..300u64, 0..10u32).prop_map(
        |(kind, role, required, length, alignment)| {
            let id = PartId { kind: Kind(kind), role };
            NewPart { id, required, length, alignment: 1 << alignment }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Any plan: attachers that know all of it or a part find what the creator was given, and
    /// those who miss a required part are told which.
    #[test]
    fn any_plan(parts in prop::collection::vec(new_part(), 0..8), knows in any::<u8>()) {
        let memory = Memory::new(8192, 0xa5);
        let plan = Plan::new(MINE, 1, &parts);
        let twice = parts.iter().enumerate().any(|(i, a)| parts[..i].iter().any(|b| a.id == b.id));
        // SAFETY: nobody else creates anything in this memory.
        let creating = unsafe { Segment::create(memory.region(), &plan, owner(5)) };
        prop_assert_eq!(creating.is_err(), twice);
        let Ok(creating) = creating else { return Ok(()) };
        let base = memory.base().addr().get();
        let end = |region: &Region<'_>| region.base().addr().get() + region.len();
        let mut before = base + HEADER + ENTRY * parts.len();
        for part in &parts {
            let region = creating.part(part.id).unwrap();
            let address = region.base().addr().get();
            prop_assert!(address >= before && address.is_multiple_of(64));
            prop_assert!(address.is_multiple_of(part.alignment as usize));
            prop_assert!(address < before + 64.max(part.alignment as usize), "no holes");
            prop_assert_eq!(region.len() as u64, part.length);
            before = end(&region);
        }
        prop_assert!(before <= base + plan.required_size().unwrap());
        let places: Vec<_> =
            parts.iter().map(|part| place(&memory, creating.part(part.id))).collect();
        let _control = creating.publish();
        // Those it does not know are replaced by one that there is not.
        let known = std::array::from_fn::<PartId, 8, _>(|i| match parts.get(i) {
            Some(part) if knows >> i & 1 != 0 => part.id,
            _ => UNKNOWN,
        });
        let missed = parts.iter().enumerate().find(|(i, part)| part.required && knows >> i & 1 == 0);
        match Segment::attach(memory.region(), &Known::new(MINE, 1, known)) {
            Ok(segment) => {
                prop_assert!(missed.is_none());
                for (i, part) in parts.iter().enumerate() {
                    let wanted = if knows >> i & 1 != 0 { places[i] } else { None };
                    prop_assert_eq!(place(&memory, segment.part(part.id)), wanted);
                }
            }
            Err(error) => {
                let wanted = missed.map(|(_, part)| SegmentError::UnknownPart(part.id));
                prop_assert_eq!(Some(error), wanted);
            }
        }
    }
}
