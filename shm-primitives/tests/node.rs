//! The segment of a node: its words, what is dense and what sparse, and what is no such segment.

mod common;

use common::memory::Memory;
use common::owner;
use common::park::FakePark;
use shm_primitives::layout::node::{
    BELL, COUNTERS, LANES, NodeLayout, READY, Shape, TABLE, VERSION,
};
use shm_primitives::part::{AttachError, Corrupt, Kind};
use shm_primitives::segment::{Magic, NewPart, PartId, Plan, Segment, SegmentError};
use std::mem::forget;

const NODE: u32 = 1;
const SENDER: u32 = 2;

const SHAPE: Shape = Shape { counter_lines: 2, ..Shape::new(3, 4096) };
// Header and five entries; wake word, bitmap and table in lines of their own; then pages.
const SIZE: usize = SHAPE.required_size().unwrap();
const DENSE: usize = SHAPE.dense_size().unwrap();
const BELL_AT: usize = 256;
const READY_AT: usize = 320;
const TABLE_AT: usize = 384;
const COUNTERS_AT: usize = 4096;
const LANES_AT: usize = 8192;
const STRIDE: usize = 8192;

type Layout = NodeLayout<'static>;

fn leak(len: usize) -> &'static Memory {
    Box::leak(Box::new(Memory::new(len, 0x5a)))
}

fn create(shape: Shape) -> (&'static Memory, Layout) {
    let memory = leak(shape.required_size().unwrap());
    // SAFETY: nobody else creates anything in this memory.
    let created = unsafe { NodeLayout::init_at(memory.region(), shape, owner(NODE)) };
    let (layout, control) = created.unwrap();
    // The node lives on.
    forget(control);
    (memory, layout)
}

fn attach(memory: &'static Memory) -> Result<Layout, SegmentError> {
    // SAFETY: all is on one thread, and uses this crate but for words that are set by hand.
    unsafe { NodeLayout::attach(memory.region()) }
}

#[test]
fn sizes() {
    assert_eq!(SIZE, LANES_AT + 3 * STRIDE);
    assert_eq!(DENSE, COUNTERS_AT);
    assert_eq!(Shape::new(3, 4096).counter_lines, 256);
    for lanes in [1, 2, 64, 256] {
        let shape = Shape::new(lanes, 65536);
        let (all, dense) = (shape.required_size().unwrap(), shape.dense_size().unwrap());
        let area = lanes as usize * (65536 + 4096);
        assert_eq!(all - area, dense + 256 * 64, "{lanes} lanes");
    }
    for shape in [
        Shape::new(0, 4096),
        Shape::new((1 << 20) + 1, 4096),
        Shape::new(1, 0),
        Shape::new(1, 2048),
        Shape::new(1, 5000),
        Shape::new(1, 1 << 31),
    ] {
        assert_eq!((shape.required_size(), shape.dense_size()), (None, None), "{shape:?}");
        let memory = Memory::new(65536, 0x5a);
        // SAFETY: nobody else creates anything in this memory.
        let created = unsafe { NodeLayout::init_at(memory.region(), shape, owner(NODE)) };
        let impossible = SegmentError::Impossible("there is no such shape");
        assert_eq!(created.map(drop).unwrap_err(), impossible, "{shape:?}");
        assert!(memory.bytes().iter().all(|byte| *byte == 0x5a), "{shape:?}");
    }
    let memory = Memory::new(SIZE, 0x5a);
    for (offset, len, wanted) in [
        (0, SIZE - 1, SegmentError::TooSmall { found: SIZE as u64 - 1, wanted: SIZE as u64 }),
        (0, 64, SegmentError::TooSmall { found: 64, wanted: SIZE as u64 }),
    ] {
        // SAFETY: as above.
        let created = unsafe { NodeLayout::init_at(memory.part(offset, len), SHAPE, owner(NODE)) };
        assert_eq!(created.map(drop).unwrap_err(), wanted);
    }
    let small = Shape { lanes: 1, ..SHAPE };
    // SAFETY: as above.
    let created = unsafe { NodeLayout::init_at(memory.part(64, SIZE - 64), small, owner(NODE)) };
    assert!(matches!(created, Err(SegmentError::Misaligned { wanted: 4096, .. })));
    assert!(memory.bytes().iter().all(|byte| *byte == 0x5a));
}

/// The layout is an agreement between processes: word by word.
#[test]
fn the_words_of_a_segment() {
    let (memory, layout) = create(SHAPE);
    let words: Vec<_> = (0..13).map(|word| memory.get(4 * word)).collect();
    let magic = Magic::NODE.0;
    assert_eq!(words[..6], [magic, 1, 3, 4096, 1, 1], "magic to state");
    assert_eq!(words[7..], [owner(NODE).word(), SIZE as u32, 0, 64, 32, 5], "owner to parts");
    let entries: Vec<[u32; 5]> = (0..5)
        .map(|entry| [0, 4, 8, 12, 16].map(|word| memory.get(64 + 32 * entry + word)))
        .collect();
    let (line, page) = (6 << 8, 12 << 8);
    assert_eq!(
        entries,
        [
            [8, line | 1, BELL_AT as u32, 0, 64],
            [9, line | 1, READY_AT as u32, 0, 4],
            [3, line | 1, TABLE_AT as u32, 0, 256],
            [11, page, COUNTERS_AT as u32, 0, 128],
            [10, page | 1, LANES_AT as u32, 0, 3 * STRIDE as u32],
        ]
    );
    let tag_hash = memory.get(TABLE_AT + 12);
    assert_eq!([0, 4, 8, 20].map(|at| memory.get(TABLE_AT + at)), [0x504d_4853, 1, 3, 3]);
    assert!(memory.bytes()[COUNTERS_AT..].iter().all(|byte| *byte == 0x5a), "sparse");

    assert_eq!((layout.node(), layout.lanes().receiver()), (owner(NODE), owner(NODE)));
    let theirs = attach(memory).unwrap();
    assert_eq!((theirs.node(), theirs.segment().version()), (owner(NODE), VERSION));
    assert_eq!((theirs.lanes().table().slots(), theirs.lanes().capacity()), (3, 4096));
    assert_eq!(theirs.lanes().ready().lanes(), 3);
    assert_eq!(theirs.place_of(2), Some((LANES_AT + 2 * STRIDE, STRIDE)));
    assert_eq!(theirs.place_of(3), None);
    assert_eq!(theirs.place_of_counters(), Some(COUNTERS_AT));
    let counters = theirs.counters().unwrap();
    let at = counters.base().addr().get() - memory.base().addr().get();
    assert_eq!((at, counters.len()), (COUNTERS_AT, 128));
    let area = theirs.lanes().area().base().addr().get() - memory.base().addr().get();
    assert_eq!(area, LANES_AT);
    // Another tag is another kind of table.
    memory.set(TABLE_AT + 12, !tag_hash);
    let wrong = AttachError::WrongLayout { found: !tag_hash, wanted: tag_hash };
    assert_eq!(attach(memory).map(drop), Err(SegmentError::Part { part: TABLE, error: wrong }));
}

/// What it is for: two handles, and everything between them in the segment.
#[test]
fn a_sender_and_the_node() {
    let (memory, mine) = create(SHAPE);
    let (theirs, park) = (attach(memory).unwrap(), FakePark::new());
    // The words are what they happened to be; a waiter and a bitmap stand that.
    for lane in 0..3 {
        assert_eq!(mine.lanes().ready().is_marked(lane), 0x5a >> lane & 1 == 1);
    }
    let mut writer = theirs.lanes().reserve(owner(SENDER)).unwrap().open(b"camera").unwrap();
    writer.ring().push(b"hello").unwrap();
    writer.close(&park);
    assert!(mine.lanes().ready().is_marked(0));
    let mut reader = mine.lanes().adopt(0).unwrap().unwrap();
    assert_eq!((reader.card().as_bytes(), reader.sender()), (&b"camera"[..], Some(owner(SENDER))));
    let frame = reader.ring().read().unwrap();
    assert_eq!(&*frame, b"hello");
    let at = frame.as_ptr().addr() - memory.base().addr().get();
    assert!((LANES_AT + 4096..LANES_AT + STRIDE).contains(&at), "at {at}");
    frame.release();
    assert!(reader.finish().is_none());
    assert!(theirs.lanes().reserve(owner(NODE)).is_err(), "a lane to itself");
    let bytes = memory.bytes();
    assert!(bytes[COUNTERS_AT..LANES_AT].iter().all(|byte| *byte == 0x5a));
    assert!(bytes[LANES_AT + STRIDE..].iter().all(|byte| *byte == 0x5a));
}

/// A node that never sleeps says so, to all who attach.
#[test]
fn a_node_that_never_sleeps() {
    for sleepless in [false, true] {
        let (memory, mine) = create(Shape { sleepless, ..SHAPE });
        assert_eq!(memory.get(BELL_AT + 8), sleepless.into());
        let theirs = attach(memory).unwrap();
        assert_eq!(mine.lanes().is_sleepless(), sleepless);
        assert_eq!(theirs.lanes().is_sleepless(), sleepless);
        assert_eq!(theirs.lanes().clone().is_sleepless(), sleepless);
    }
}

#[test]
fn closing() {
    let memory = leak(SIZE);
    // SAFETY: nobody else creates anything in this memory.
    let (_, mut control) =
        unsafe { NodeLayout::init_at(memory.region(), SHAPE, owner(NODE)) }.unwrap();
    let theirs = attach(memory).unwrap();
    control.close();
    let closing = SegmentError::Closing { owner: Some(owner(NODE)) };
    assert_eq!(attach(memory).map(drop), Err(closing));
    assert!(theirs.segment().confirm().is_err());
    drop(control);
    assert_eq!(attach(memory).map(drop), Err(SegmentError::Closing { owner: None }));
}

/// The last lanes there can be without the memory: only the size is known.
#[test]
fn in_larger_memory() {
    let memory = leak(SIZE + 4096);
    // SAFETY: nobody else creates anything in this memory.
    let _node = unsafe { NodeLayout::init_at(memory.region(), SHAPE, owner(NODE)) }.unwrap();
    assert_eq!(attach(memory).unwrap().lanes().area().len(), 3 * STRIDE);
    assert!(memory.bytes()[SIZE..].iter().all(|byte| *byte == 0x5a));
}

#[test]
fn spoilt() {
    let corrupt = |what, found, limit| SegmentError::Corrupt(Corrupt { what, found, limit });
    let part = |part, error| SegmentError::Part { part, error };
    let entry = |n: usize, word: usize| 64 + 32 * n + word;
    let too_small = |found, wanted| AttachError::TooSmall { found, wanted };
    let magic = u32::from_le_bytes(*b"SHMP");
    let optional = |kind: Kind| PartId { kind, role: 0 };
    for (offset, value, wanted) in [
        (0, Magic::LRPC.0, SegmentError::WrongMagic { found: Magic::LRPC, wanted: Magic::NODE }),
        (4, 0, SegmentError::WrongVersion { found: 0, wanted: 1 }),
        (16, 2, SegmentError::NewerRequired { found: 2, wanted: 1 }),
        (20, 2, SegmentError::Closing { owner: Some(owner(NODE)) }),
        (20, 0x494e_4954, SegmentError::Initialising { owner: Some(owner(NODE)) }),
        (28, 0, corrupt("owner of a node's segment", 0, 1)),
        // Number and size of the lanes.
        (8, 0, corrupt("number of lanes", 0, 3)),
        (8, 2, corrupt("number of lanes", 2, 3)),
        (8, 4, corrupt("number of lanes", 4, 3)),
        (12, 0, corrupt("bytes of a lane's data", 0, 1 << 30)),
        (12, 2048, corrupt("bytes of a lane's data", 2048, 1 << 30)),
        (12, 4097, corrupt("bytes of a lane's data", 4097, 1 << 30)),
        (12, 1 << 31, corrupt("bytes of a lane's data", 1 << 31, 1 << 30)),
        (12, 8192, part(LANES, too_small(3 * STRIDE, 3 * (4096 + 8192)))),
        // The table of parts: kinds, and bytes.
        (entry(0, 0), 900, SegmentError::UnknownPart(optional(Kind(900)))),
        (entry(1, 0), 900, SegmentError::UnknownPart(optional(Kind(900)))),
        (entry(4, 0), 900, SegmentError::UnknownPart(optional(Kind(900)))),
        (entry(2, 0), 8, SegmentError::DuplicatePart(BELL)),
        (entry(0, 16), 4, part(BELL, too_small(4, 8))),
        (entry(1, 16), 0, part(READY, too_small(0, 4))),
        (entry(2, 16), 192, part(TABLE, too_small(192, 256))),
        (entry(4, 16), 2 * STRIDE as u32, part(LANES, too_small(2 * STRIDE, 3 * STRIDE))),
        (entry(0, 16), 8, part(BELL, too_small(8, 12))),
        // The wake word, and whether anybody waits there.
        (BELL_AT + 8, 2, corrupt("word that says whether a node sleeps", 2, 1)),
        // The table of lanes.
        (TABLE_AT, 0, part(TABLE, AttachError::WrongMagic { found: 0, wanted: magic })),
        (TABLE_AT + 36, 4, part(TABLE, AttachError::WrongElementSize { found: 4, wanted: 8 })),
        (TABLE_AT + 20, 2, corrupt("number of lanes", 3, 2)),
    ] {
        let (memory, _) = create(SHAPE);
        memory.set(offset, value);
        let before = memory.bytes();
        let found = attach(memory).map(drop);
        assert_eq!(found, Err(wanted), "{value:#x} at {offset}");
        assert!(wanted.to_string().len() > 10);
        assert!(memory.bytes() == before, "written to while declining: {wanted}");
    }
}

/// Each required part left away, and one that is not.
#[test]
fn missing_parts() {
    let all = [
        NewPart::required(BELL, 64),
        NewPart::required(READY, 4),
        NewPart::required(TABLE, 256),
        NewPart::optional(COUNTERS, 128).aligned(4096),
        NewPart::required(LANES, 3 * STRIDE as u64).aligned(4096),
    ];
    let (like, _) = create(SHAPE);
    for (missing, id) in [BELL, READY, TABLE, COUNTERS, LANES].into_iter().enumerate() {
        let parts: Vec<_> = all.iter().enumerate().filter(|(n, _)| *n != missing).collect();
        let parts: Vec<_> = parts.into_iter().map(|(_, part)| *part).collect();
        let memory = of(&parts, like);
        let found = attach(memory);
        if id == COUNTERS {
            let layout = found.unwrap();
            assert!(layout.counters().is_none() && layout.place_of_counters().is_none());
            assert_eq!(layout.place_of(0), Some((4096, STRIDE)));
        } else {
            assert_eq!(found.map(drop), Err(SegmentError::MissingPart(id)));
        }
    }
}

/// A segment of these parts, the table as in `like`.
fn of(parts: &[NewPart], like: &Memory) -> &'static Memory {
    let plan = Plan::new(Magic::NODE, 1, parts).own([3, 4096]);
    let memory = leak(plan.required_size().unwrap());
    // SAFETY: nobody else creates anything in this memory.
    let creating = unsafe { Segment::create(memory.region(), &plan, owner(NODE)) }.unwrap();
    if let Some(table) = creating.part(TABLE) {
        let at = table.base().addr().get() - memory.base().addr().get();
        for word in (0..256).step_by(4) {
            memory.set(at + word, like.get(TABLE_AT + word));
        }
    }
    if let Some(bell) = creating.part(BELL) {
        let at = bell.base().addr().get() - memory.base().addr().get();
        memory.set(at + 8, 0);
    }
    forget(creating.publish());
    memory
}

/// Parts in another order, and an unknown one between: a reader finds its own by what they are.
#[test]
fn in_any_order() {
    let (like, _) = create(SHAPE);
    let lanes = NewPart::required(LANES, 3 * STRIDE as u64).aligned(4096);
    let memory = of(
        &[
            lanes,
            NewPart::optional(PartId { kind: Kind(900), role: 0 }, 100),
            NewPart::optional(COUNTERS, 128).aligned(4096),
            NewPart::required(TABLE, 256),
            NewPart::required(READY, 4),
            NewPart::required(BELL, 64),
        ],
        like,
    );
    let layout = attach(memory).unwrap();
    assert_eq!(layout.place_of(1), Some((4096 + STRIDE, STRIDE)));
    let behind = 4096 + 3 * STRIDE + 4096;
    assert_eq!(layout.place_of_counters(), Some(behind));
    let counters = layout.counters().unwrap().base().addr().get() - memory.base().addr().get();
    assert_eq!(counters, behind);
    let mut writer = layout.lanes().reserve(owner(SENDER)).unwrap().open(b"camera").unwrap();
    writer.ring().push(b"hello").unwrap();
    assert_eq!(layout.lanes().adopt(0).unwrap().unwrap().ring().skip(2), 1);
}
