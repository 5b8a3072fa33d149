//! Dead letters: the segment word by word, wrong memory, random use against an account, and readers
//! against one who keeps and frees without rest.
#![cfg(target_endian = "little")]

mod common;

use common::memory::Memory;
use common::{Patience, dead, owner};
use proptest::prelude::*;
use shm_primitives::identity::OwnerId;
use shm_primitives::layout::letters::{
    KEPT, Letter, LetterEntry, LettersFull, LettersLayout, MESSAGES, Shape, TABLE, TakenOver,
    VERSION,
};
use shm_primitives::part::{AttachError, ClaimError, Corrupt, Kind};
use shm_primitives::segment::{Magic, NewPart, PartId, Plan, Segment, SegmentError};
use shm_primitives::table::SlotKey;
use std::mem::forget;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

const SUPERVISOR: u32 = 1;
const SUCCESSOR: u32 = 2;

const SHAPE: Shape = Shape::new(3, 100);
const SIZE: usize = SHAPE.required_size().unwrap();
/// Header and two entries, then the table: a line, and two for each slot.
const TABLE_AT: usize = 128;
const TABLE_SIZE: usize = 64 + 3 * 128;
const MESSAGES_AT: usize = 4096;
/// 100, rounded up.
const STRIDE: usize = 128;

type Layout = LettersLayout<'static>;

fn leak(len: usize) -> &'static Memory {
    Box::leak(Box::new(Memory::new(len, 0x5a)))
}

fn create(shape: Shape) -> (&'static Memory, Layout) {
    let memory = leak(shape.required_size().unwrap());
    // SAFETY: nobody else creates anything in this memory.
    let created = unsafe { LettersLayout::init_at(memory.region(), shape, owner(SUPERVISOR)) };
    let (layout, control) = created.unwrap();
    // The supervisor lives on.
    forget(control);
    (memory, layout)
}

fn attach(memory: &'static Memory) -> Result<Layout, SegmentError> {
    LettersLayout::attach(memory.region())
}

/// What the letter about death number `n` says.
fn entry(n: u32) -> LetterEntry {
    LetterEntry {
        func_id: 1000 + n,
        worker: n % 6,
        worker_pid: 70 + n,
        cause: [2, 11],
        attempt: 1,
        client_pid: 50,
        ..LetterEntry::new((7 << 40) + u64::from(n))
    }
    .at(1_700_000_000_000 + u64::from(n))
}

fn keep(layout: &Layout, n: u32, message: &[u8]) -> Result<SlotKey, LettersFull> {
    layout.keep(owner(SUPERVISOR), entry(n), message)
}

fn message(layout: &Layout, key: SlotKey) -> Option<Vec<u8>> {
    let mut buffer = [0xee; 256];
    let length = layout.payload(key, &mut buffer).unwrap()?;
    assert!(buffer[length..].iter().all(|byte| *byte == 0xee), "more than it says");
    Some(buffer[..length].to_vec())
}

fn letters(layout: &Layout) -> Vec<Letter> {
    layout.iter().map(Result::unwrap).collect()
}

#[test]
fn sizes() {
    assert_eq!(SIZE, MESSAGES_AT + 3 * STRIDE);
    assert_eq!(SHAPE.dense_size(), Some(MESSAGES_AT));
    assert_eq!(Shape::default(), Shape::new(64, 4096));
    let shape = Shape::default();
    let (all, dense) = (shape.required_size().unwrap(), shape.dense_size().unwrap());
    assert_eq!(all - dense, 64 * 4096);
    for shape in [
        Shape::new(0, 64),
        Shape::new((1 << 20) + 1, 64),
        Shape::new(1, 0),
        Shape::new(1, (1 << 30) + 1),
        Shape::new(1, u32::MAX),
    ] {
        assert_eq!((shape.required_size(), shape.dense_size()), (None, None), "{shape:?}");
        let memory = Memory::new(65536, 0x5a);
        // SAFETY: nobody else creates anything in this memory.
        let created = unsafe { LettersLayout::init_at(memory.region(), shape, owner(1)) };
        let impossible = SegmentError::Impossible("there is no such shape");
        assert_eq!(created.map(drop).unwrap_err(), impossible, "{shape:?}");
        assert!(memory.bytes().iter().all(|byte| *byte == 0x5a), "{shape:?}");
    }
    assert!(Shape::new(1, 1 << 30).required_size().is_some());
    let memory = Memory::new(SIZE, 0x5a);
    // SAFETY: as above.
    let created = unsafe { LettersLayout::init_at(memory.part(0, SIZE - 1), SHAPE, owner(1)) };
    let small = SegmentError::TooSmall { found: SIZE as u64 - 1, wanted: SIZE as u64 };
    assert_eq!(created.map(drop).unwrap_err(), small);
    let one = Shape::new(1, 1);
    // SAFETY: as above.
    let created = unsafe { LettersLayout::init_at(memory.part(64, SIZE - 64), one, owner(1)) };
    assert!(matches!(created, Err(SegmentError::Misaligned { wanted: 4096, .. })));
    assert!(memory.bytes().iter().all(|byte| *byte == 0x5a));
}

/// The layout is an agreement between processes: word by word.
#[test]
fn the_words_of_a_segment() {
    let (memory, layout) = create(SHAPE);
    let words: Vec<_> = (0..13).map(|word| memory.get(4 * word)).collect();
    assert_eq!(words[..6], [0x4c45_5454, 1, 3, STRIDE as u32, 1, 1], "magic to state");
    assert_eq!(words[7..], [owner(SUPERVISOR).word(), SIZE as u32, 0, 64, 32, 2]);
    let entries: Vec<[u32; 5]> = (0..2)
        .map(|entry| [0, 4, 8, 12, 16].map(|word| memory.get(64 + 32 * entry + word)))
        .collect();
    let messages = [7, 12 << 8 | 1, MESSAGES_AT as u32, 0, 3 * STRIDE as u32];
    assert_eq!(entries, [[3, 6 << 8 | 1, TABLE_AT as u32, 0, TABLE_SIZE as u32], messages]);
    assert!(memory.bytes()[MESSAGES_AT..].iter().all(|byte| *byte == 0x5a), "sparse");

    keep(&layout, 1, &[7; 100]).unwrap();
    let key = keep(&layout, 2, b"a letter").unwrap();
    assert_eq!((key.index(), key.generation()), (1, 1));
    assert_eq!(layout.ask_to_drop(key), Ok(true));
    let slot = TABLE_AT + 64 + 128;
    let head: Vec<_> = (0..4).map(|word| memory.get(slot + 4 * word)).collect();
    assert_eq!(head, [KEPT.word(), 1 << 12 | 1, 1, 1], "owner, version, selector, live word");
    // The second copy is the current one.
    let words: Vec<_> = (0..12).map(|word| memory.get(slot + 16 + 48 + 4 * word)).collect();
    let time = 1_700_000_000_002u64;
    let time = [time as u32, (time >> 32) as u32];
    assert_eq!(words, [2, 7 << 8, time[0], time[1], 1002, 2, 72, 2, 11, 1, 50, 8]);
    let at = MESSAGES_AT + STRIDE;
    assert_eq!(&memory.bytes()[at..at + 9], b"a letterZ");
    assert_eq!(layout.place_of(1), Some((at, STRIDE)));
    assert_eq!(layout.place_of(3), None);
    assert_eq!((KEPT.index(), KEPT.generation()), (4095, (1 << 20) - 1));
}

#[test]
fn kept_read_and_dropped() {
    let (memory, mine) = create(SHAPE);
    let theirs = attach(memory).unwrap();
    assert_eq!((theirs.segment().version(), theirs.shape()), (VERSION, Shape::new(3, 128)));
    assert!(theirs.is_empty());
    let first = keep(&mine, 1, b"first").unwrap();
    let long = vec![9; 200];
    let second = keep(&mine, 2, &long).unwrap();
    let third = keep(&mine, 3, b"").unwrap();
    assert!(!theirs.is_empty());
    assert_eq!(keep(&mine, 4, b"no room"), Err(LettersFull { letters: 3 }));
    let text = LettersFull { letters: 3 }.to_string();
    assert!(text.contains("beside 3") && text.contains("drop"), "{text}");
    // Kept before: found, also when there is no room, whenever and of whatever it died.
    let again = LetterEntry { cause: [1, 1], ..entry(3) }.at(5);
    assert_eq!(mine.keep(owner(SUPERVISOR), again, b""), Ok(third));
    assert_eq!(mine.find(&LetterEntry { length: 5, ..entry(1) }), Some(first));
    for other in [
        LetterEntry { seq_id: LetterEntry::new((7 << 40) + 2).seq_id, ..entry(1) },
        LetterEntry { seq_id: LetterEntry::new((8 << 40) + 1).seq_id, ..entry(1) },
        LetterEntry { func_id: 9, ..entry(1) },
        LetterEntry { worker: 9, ..entry(1) },
        LetterEntry { worker_pid: 9, ..entry(1) },
        LetterEntry { attempt: 2, ..entry(1) },
        LetterEntry { client_pid: 9, ..entry(1) },
        LetterEntry { length: 6, ..entry(1) },
    ] {
        let length = if other.length == 0 { 5 } else { other.length };
        assert_eq!(mine.find(&LetterEntry { length, ..other }), None, "{other:?}");
    }

    assert_eq!(letters(&theirs).iter().map(|l| l.key).collect::<Vec<_>>(), [first, second, third]);
    assert_eq!(message(&theirs, first).unwrap(), b"first");
    assert_eq!(message(&theirs, second).unwrap(), long[..128], "as much as there is room for");
    assert_eq!(message(&theirs, third).unwrap(), b"");
    let mut short = [0; 3];
    assert_eq!(theirs.payload(first, &mut short), Ok(Some(3)));
    assert_eq!(&short, b"fir");
    let letter = theirs.get(second).unwrap().unwrap();
    assert_eq!((letter.entry.length, letter.may_go), (200, false));
    assert_eq!((letter.entry.seq_id(), letter.entry.time()), ((7 << 40) + 2, 1_700_000_000_002));

    assert_eq!(mine.sweep_dropped(|_, _| panic!("nobody has asked")), 0);
    assert_eq!(theirs.ask_to_drop(second), Ok(true));
    assert!(theirs.get(second).unwrap().unwrap().may_go);
    assert!(message(&theirs, second).is_some(), "until it is swept");
    let mut freed = Vec::new();
    assert_eq!(mine.sweep_dropped(|offset, length| freed.push((offset, length))), 1);
    assert_eq!(freed, [(MESSAGES_AT + STRIDE, STRIDE)]);
    assert_eq!((theirs.get(second), message(&theirs, second)), (Ok(None), None));
    assert_eq!(theirs.ask_to_drop(second), Ok(false));

    // The next one in that slot is another, and what is said of the former means nothing.
    let fourth = keep(&mine, 4, b"fourth").unwrap();
    assert_eq!(fourth, SlotKey::new(1, 2));
    memory.set(TABLE_AT + 64 + 128 + 12, second.generation());
    assert!(!theirs.get(fourth).unwrap().unwrap().may_go);
    assert_eq!(mine.sweep_dropped(|_, _| {}), 0);
    assert_eq!(
        (message(&theirs, second), message(&theirs, fourth)),
        (None, Some(b"fourth".into()))
    );
    for key in [first, third, fourth] {
        assert_eq!(theirs.ask_to_drop(key), Ok(true));
    }
    assert_eq!(mine.sweep_dropped(|_, _| {}), 3);
    assert!(theirs.is_empty());
    for key in [SlotKey::new(3, 1), SlotKey::new(u32::MAX, 1), SlotKey::new(0, 0)] {
        assert_eq!((theirs.ask_to_drop(key), theirs.get(key)), (Ok(false), Ok(None)));
        assert_eq!(theirs.payload(key, &mut short), Ok(None));
    }
}

/// In steps, for memory that has to be made first.
#[test]
fn drafts() {
    let (memory, mine) = create(SHAPE);
    let draft = mine.reserve(owner(SUPERVISOR)).unwrap();
    assert_eq!(draft.index(), 0);
    assert!(mine.is_empty(), "not to be seen before it is whole");
    drop(draft);
    assert_eq!(memory.get(TABLE_AT + 64), 0, "given back");
    let draft = mine.reserve(owner(SUPERVISOR)).unwrap();
    let key = draft.keep(entry(5), b"in steps");
    assert_eq!((key.index(), message(&mine, key).unwrap()), (0, b"in steps".to_vec()));
}

/// Letters stay whoever comes and goes.
#[test]
fn taking_over() {
    let (memory, mine) = create(SHAPE);
    let key = keep(&mine, 1, b"kept").unwrap();
    forget(mine.reserve(owner(SUPERVISOR)).unwrap());
    let theirs = attach(memory).unwrap();
    let found = theirs.segment().claim_control(owner(SUCCESSOR)).unwrap_err();
    assert_eq!(found, ClaimError::Owned(owner(SUPERVISOR)));
    let control = theirs.segment().recover_control(dead(SUPERVISOR), owner(SUCCESSOR)).unwrap();
    assert_eq!(theirs.take_over(), TakenOver { letters: 1, freed: 1 });
    assert_eq!(theirs.take_over(), TakenOver { letters: 1, freed: 0 });
    assert_eq!(message(&theirs, key).unwrap(), b"kept");
    // One who leaves; and who comes after it has ids of another table.
    drop(control);
    let last = OwnerId::new(SUPERVISOR, 1).unwrap();
    let _control = theirs.segment().claim_control(last).unwrap();
    assert_eq!(theirs.take_over(), TakenOver { letters: 1, freed: 0 });
    theirs.ask_to_drop(key).unwrap();
    assert_eq!(theirs.sweep_dropped(|_, _| {}), 1);
    assert_eq!(theirs.take_over(), TakenOver::default());
}

#[test]
fn spoilt() {
    let corrupt = |what, found, limit| SegmentError::Corrupt(Corrupt { what, found, limit });
    let part = |part, error| SegmentError::Part { part, error };
    let at = |n: usize, word: usize| 64 + 32 * n + word;
    let too_small = |found, wanted| AttachError::TooSmall { found, wanted };
    let bytes = "bytes of a letter's message";
    let magic = u32::from_le_bytes(*b"SHMP");
    let unknown = PartId { kind: Kind(900), role: 0 };
    for (offset, value, wanted) in [
        (0, Magic::NODE.0, SegmentError::WrongMagic { found: Magic::NODE, wanted: Magic::LETT }),
        (4, 0, SegmentError::WrongVersion { found: 0, wanted: 1 }),
        (16, 2, SegmentError::NewerRequired { found: 2, wanted: 1 }),
        (20, 2, SegmentError::Closing { owner: Some(owner(SUPERVISOR)) }),
        (20, 0x494e_4954, SegmentError::Initialising { owner: Some(owner(SUPERVISOR)) }),
        (8, 0, corrupt("number of letters", 0, 3)),
        (8, 2, corrupt("number of letters", 2, 3)),
        (8, 4, corrupt("number of letters", 4, 3)),
        (12, 0, corrupt(bytes, 0, 1 << 30)),
        (12, 100, corrupt(bytes, 100, 1 << 30)),
        (12, 192, corrupt(bytes, 192, STRIDE as u32)),
        (12, (1 << 30) + 64, corrupt(bytes, (1 << 30) + 64, 1 << 30)),
        (12, u32::MAX, corrupt(bytes, u32::MAX, 1 << 30)),
        (at(0, 0), 900, SegmentError::UnknownPart(unknown)),
        (at(1, 0), 900, SegmentError::UnknownPart(unknown)),
        (at(0, 16), 384, part(TABLE, too_small(384, TABLE_SIZE))),
        (at(1, 16), 320, corrupt(bytes, 128, 106)),
        (TABLE_AT, 0, part(TABLE, AttachError::WrongMagic { found: 0, wanted: magic })),
        (TABLE_AT + 28, 0, part(TABLE, AttachError::WrongElementSize { found: 0, wanted: 1 })),
        (TABLE_AT + 36, 44, part(TABLE, AttachError::WrongElementSize { found: 44, wanted: 48 })),
        (TABLE_AT + 20, 2, corrupt("number of letters", 3, 2)),
    ] {
        let (memory, _) = create(SHAPE);
        memory.set(offset, value);
        let before = memory.bytes();
        assert_eq!(attach(memory).map(drop), Err(wanted), "{value:#x} at {offset}");
        assert!(wanted.to_string().len() > 10);
        assert!(memory.bytes() == before, "written to while declining: {wanted}");
    }
    // Another tag is another kind of table.
    let (memory, _) = create(SHAPE);
    let tag = memory.get(TABLE_AT + 12);
    memory.set(TABLE_AT + 12, !tag);
    let wrong = AttachError::WrongLayout { found: !tag, wanted: tag };
    assert_eq!(attach(memory).map(drop), Err(part(TABLE, wrong)));
}

#[test]
fn missing_parts() {
    let all = [
        NewPart::required(TABLE, TABLE_SIZE as u64),
        NewPart::required(MESSAGES, 3 * STRIDE as u64).aligned(4096),
    ];
    let (like, _) = create(SHAPE);
    for (there, missing) in [(0, MESSAGES), (1, TABLE)] {
        let plan = Plan::new(Magic::LETT, 1, &all[there..=there]).own([3, STRIDE as u32]);
        let memory = leak(plan.required_size().unwrap());
        // SAFETY: nobody else creates anything in this memory.
        let creating = unsafe { Segment::create(memory.region(), &plan, owner(1)) }.unwrap();
        if let Some(table) = creating.part(TABLE) {
            let at = table.base().addr().get() - memory.base().addr().get();
            for word in (0..TABLE_SIZE).step_by(4) {
                memory.set(at + word, like.get(TABLE_AT + word));
            }
        }
        forget(creating.publish());
        assert_eq!(attach(memory).map(drop), Err(SegmentError::MissingPart(missing)));
    }
}

#[derive(Clone, Debug)]
enum Op {
    /// The death with this number, its message of this many bytes.
    Keep(u32, usize),
    /// One is begun, and its supervisor dies.
    Die,
    Ask(usize),
    Sweep,
    TakeOver,
    /// Some slot's live word, by one who does not keep the protocol or is late.
    Poke(usize, u32),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (0..12u32, 0..160usize).prop_map(|(n, len)| Op::Keep(n, len)),
        1 => Just(Op::Die),
        4 => (0..4usize).prop_map(Op::Ask),
        3 => Just(Op::Sweep),
        1 => Just(Op::TakeOver),
        1 => (0..3usize, 0..4u32).prop_map(|(slot, word)| Op::Poke(slot, word)),
    ];
    proptest::collection::vec(op, 0..60)
}

/// A letter as it should be.
#[derive(Clone, PartialEq, Debug)]
struct Account {
    key: SlotKey,
    number: u32,
    length: usize,
    may_go: bool,
}

fn text(n: u32, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at as u32 * 7 + n) as u8).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn as_an_account_of_them(ops in ops()) {
        let memory = Memory::new(SIZE, 0xa5);
        // SAFETY: nobody else creates anything in this memory.
        let created = unsafe { LettersLayout::init_at(memory.region(), SHAPE, owner(SUPERVISOR)) };
        let (layout, _control) = created.unwrap();
        let mut account: Vec<Account> = Vec::new();
        // Slots that the dead have; how often each slot was taken.
        let (mut lost, mut taken) = ([false; 3], [0; 3]);
        let free = |account: &[Account], lost: &[bool; 3]| {
            (0..3).find(|slot| !lost[*slot] && account.iter().all(|a| a.key.index() != *slot as u32))
        };
        let mut seen: Vec<SlotKey> = Vec::new();
        for op in ops {
            match op {
                Op::Keep(n, length) => {
                    let entry = LetterEntry { length: 9999, ..entry(n) };
                    let kept = layout.keep(owner(SUPERVISOR), entry, &text(n, length));
                    let before = account.iter().find(|a| (a.number, a.length) == (n, length));
                    match (before, free(&account, &lost)) {
                        (Some(before), _) => prop_assert_eq!(kept, Ok(before.key)),
                        (None, None) => prop_assert_eq!(kept, Err(LettersFull { letters: 3 })),
                        (None, Some(slot)) => {
                            taken[slot] += 1;
                            let key = SlotKey::new(slot as u32, taken[slot]);
                            prop_assert_eq!(kept, Ok(key));
                            account.push(Account { key, number: n, length, may_go: false });
                            seen.push(key);
                        }
                    }
                }
                Op::Die => {
                    let draft = layout.reserve(owner(SUPERVISOR));
                    prop_assert_eq!(draft.is_ok(), free(&account, &lost).is_some());
                    if let (Ok(draft), Some(slot)) = (draft, free(&account, &lost)) {
                        prop_assert_eq!(draft.index(), slot as u32);
                        forget(draft);
                        lost[slot] = true;
                        taken[slot] += 1;
                    }
                }
                Op::Ask(n) => if let Some(key) = seen.len().checked_sub(n + 1).map(|at| seen[at]) {
                    let there = account.iter_mut().find(|a| a.key == key);
                    prop_assert_eq!(layout.ask_to_drop(key), Ok(there.is_some()));
                    if let Some(there) = there {
                        there.may_go = true;
                    }
                },
                Op::Sweep => {
                    let mut freed = Vec::new();
                    let count = layout.sweep_dropped(|offset, length| freed.push((offset, length)));
                    account.sort_by_key(|a| a.key);
                    let gone: Vec<_> = account.iter().filter(|a| a.may_go).collect();
                    let places: Vec<_> = gone.iter()
                        .map(|a| (MESSAGES_AT + STRIDE * a.key.index() as usize, STRIDE))
                        .collect();
                    prop_assert_eq!((count as usize, freed), (gone.len(), places));
                    account.retain(|a| !a.may_go);
                }
                Op::TakeOver => {
                    let freed = lost.iter().filter(|lost| **lost).count() as u32;
                    lost = [false; 3];
                    let letters = account.len() as u32;
                    prop_assert_eq!(layout.take_over(), TakenOver { letters, freed });
                }
                Op::Poke(slot, word) => {
                    memory.set(TABLE_AT + 64 + 128 * slot + 12, word);
                    for a in account.iter_mut().filter(|a| a.key.index() as usize == slot) {
                        a.may_go = word == a.key.generation();
                    }
                }
            }
            account.sort_by_key(|a| a.key);
            let found: Vec<_> = layout.iter().map(Result::unwrap).collect();
            prop_assert_eq!(found.len(), account.len());
            prop_assert_eq!(layout.is_empty(), account.is_empty());
            for (found, a) in found.iter().zip(&account) {
                let entry = LetterEntry { length: a.length as u32, ..entry(a.number) };
                prop_assert_eq!(*found, Letter { key: a.key, entry, may_go: a.may_go });
            }
            for key in &seen {
                let there = account.iter().find(|a| a.key == *key);
                let mut buffer = [0; 200];
                let length = layout.payload(*key, &mut buffer).unwrap();
                let wanted = there.map(|a| text(a.number, a.length.min(STRIDE)));
                prop_assert_eq!(length.map(|length| buffer[..length].to_vec()), wanted);
            }
        }
    }
}

/// A message that is read while its slot gets others is whole or gone.
#[test]
fn read_without_rest() {
    const LETTERS: u32 = 3_000;
    let (memory, mine) = create(Shape::new(1, 1024));
    let (patience, done, read) = (Patience::new(), AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (patience, done, read) = (patience.clone(), &done, &read);
            scope.spawn(move || {
                let theirs = attach(memory).unwrap();
                let mut buffer = [0; 1024];
                while !done.load(Relaxed) {
                    let Some(Ok(letter)) = theirs.iter().next() else {
                        patience.wait();
                        continue;
                    };
                    if let Ok(Some(length)) = theirs.payload(letter.key, &mut buffer) {
                        assert_eq!(length as u32, letter.entry.length);
                        let n = letter.entry.func_id as u8;
                        assert!(buffer[..length].iter().all(|byte| *byte == n), "two of them");
                        read.fetch_add(1, Relaxed);
                    }
                    theirs.ask_to_drop(letter.key).unwrap();
                    patience.wait();
                }
            });
        }
        // Should this thread fail, the others do.
        let patience = patience.clone();
        for n in 0..LETTERS {
            let length = 1 + (n as usize * 37) % 1024;
            let message = vec![(1000 + n) as u8; length];
            while keep(&mine, n, &message).is_err() {
                mine.sweep_dropped(|_, _| {});
                patience.wait();
            }
        }
        done.store(true, Relaxed);
    });
    assert!(read.load(Relaxed) > 0);
}
