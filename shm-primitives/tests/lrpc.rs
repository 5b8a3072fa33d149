//! The registry of nodes: its words, who finds whom, and what is no entry.

mod common;

use common::memory::Memory;
use common::{dead, owner};
use shm_primitives::layout::lrpc::{
    LrpcLayout, Node, NodeId, NodeIdError, REGISTRY, RegisterError, Shape,
};
use shm_primitives::part::{AttachError, Corrupt};
use shm_primitives::segment::SegmentError;
use shm_primitives::table::{SlotKey, TableFull};

const CALLER: u32 = 1;
const SUPERVISOR: u32 = 2;

const SHAPE: Shape = Shape::new(3, 128);
// Header and table, a registry of three slots of 192 bytes behind a header, up to a page.
const SIZE: usize = SHAPE.required_size().unwrap();
const _: () = assert!(SIZE == 4096 + 3 * 128);
const REGISTRY_AT: usize = 128;
const SLOT: usize = 192;
const DEFAULT: usize = LrpcLayout::required_size(&Shape::DEFAULT).unwrap();
const _: () = assert!(DEFAULT >= 64 << 20 && DEFAULT < (64 << 20) + (64 << 10));

type Layout = LrpcLayout<'static>;

fn create() -> (&'static Memory, Layout) {
    let memory: &Memory = Box::leak(Box::new(Memory::new(SIZE, 0x5a)));
    // SAFETY: nobody else creates anything in this memory.
    let created = unsafe { LrpcLayout::init_at(memory.region(), SHAPE, owner(CALLER)) };
    (memory, created.unwrap().0)
}

fn attach(memory: &'static Memory) -> Result<Layout, SegmentError> {
    LrpcLayout::attach(memory.region())
}

fn name(name: &str) -> NodeId {
    NodeId::try_from(name).unwrap()
}

fn names(layout: &Layout) -> Vec<String> {
    layout.nodes().map(|node| node.unwrap().id.to_string()).collect()
}

#[test]
fn the_words_of_a_control_block() {
    let (memory, layout) = create();
    // Magic, version, number of channels, channel size.
    let words: Vec<_> = (0..4).map(|word| memory.get(4 * word)).collect();
    assert_eq!(words, [0x4c52_5043, 1, 3, 128]);
    assert_eq!(layout.shape(), SHAPE);
    assert_eq!(attach(memory).unwrap().shape(), SHAPE);
    let _me = layout.register(owner(7), &name("camera"), 0x0102_0304, 99).unwrap();
    let bytes = memory.bytes();
    // Owner, version, selector, the heartbeat; then two copies of 72 bytes, the second of which
    // is current.
    let slot = &bytes[REGISTRY_AT + 64..][..SLOT];
    assert_eq!(slot[12..16], 99u32.to_le_bytes());
    let entry = &slot[16 + 72..][..72];
    assert!(entry.starts_with(b"camera\0\0"));
    assert_eq!(entry[64..], [4, 3, 2, 1, 0, 0, 0, 0]);
    // The channels are not touched.
    assert!(bytes[4096..].iter().all(|byte| *byte == 0x5a));
}

#[test]
fn register_find_leave() {
    let (memory, layout) = create();
    let other = attach(memory).unwrap();
    assert_eq!(other.find(&name("a")), Ok(None));
    let mut a = layout.register(owner(7), &name("a"), 70, 1000).unwrap();
    let b = layout.register(owner(8), &name("b"), 80, 1000).unwrap();
    assert_eq!((a.channel(), b.channel()), (0, 1));
    let seen = other.find(&name("b")).unwrap().unwrap();
    let wanted = Node { key: b.key(), owner: owner(8), id: name("b"), pid: 80, channel: 1 };
    assert_eq!(seen, wanted);
    assert_eq!(names(&other), ["a", "b"]);
    let taken = RegisterError::Taken { key: a.key(), owner: owner(7) };
    let refuse = |layout: &Layout, id: &str| {
        layout.register(owner(9), &name(id), 90, 1000).map(drop).unwrap_err()
    };
    assert_eq!(refuse(&other, "a"), taken);
    let _c = other.register(owner(9), &name("c"), 90, 1000).unwrap();
    let full = RegisterError::Full(TableFull { slots: 3 });
    assert_eq!(refuse(&layout, "d"), full);
    assert!(taken.to_string().len() > 10 && full.to_string().len() > 10);

    a.beat(1400);
    assert_eq!(other.silent_for(a.key(), 1500), Some(100));
    assert_eq!(other.silent_for(a.key(), 1399), Some(0), "the clock is ahead");
    assert_eq!(other.silent_for(b.key(), 1500), Some(500));
    a.beat(u32::MAX);
    assert_eq!(other.silent_for(a.key(), 9), Some(10), "it wraps");
    let key = a.key();
    drop(a);
    assert_eq!(other.silent_for(key, 0), None);
    assert_eq!(other.find(&name("a")), Ok(None));
    let d = layout.register(owner(7), &name("d"), 70, 0).unwrap();
    assert_eq!(d.key(), SlotKey::new(0, key.generation() + 1));
    assert_eq!(names(&other), ["d", "b", "c"]);
}

#[test]
fn a_node_dies() {
    let (memory, layout) = create();
    let a = layout.register(owner(7), &name("a"), 70, 1000).unwrap();
    a.into_slot().keep(); // dies
    let supervisor = attach(memory).unwrap();
    let mut recovered: Vec<_> =
        supervisor.registry().recover(dead(7), owner(SUPERVISOR)).unwrap().collect();
    let entry = recovered[0].entry().unwrap();
    assert_eq!((entry.id(), entry.pid(), entry.channel()), (Ok(name("a")), 70, 0));
    assert!(matches!(
        supervisor.register(owner(8), &name("a"), 80, 0),
        Err(RegisterError::Taken { owner: by, .. }) if by == owner(SUPERVISOR)
    ));
    recovered.pop().unwrap().release();
    assert!(recovered.is_empty());
    assert!(supervisor.register(owner(8), &name("a"), 80, 0).is_ok());
}

#[test]
fn channels() {
    let (memory, layout) = create();
    let base = memory.base().addr().get();
    for channel in 0..3 {
        let region = layout.channel(channel).unwrap();
        let at = region.base().addr().get() - base;
        assert_eq!((at, region.len()), (4096 + channel as usize * 128, 128));
    }
    assert!(layout.channel(3).is_none() && layout.channel(u32::MAX).is_none());
}

#[test]
fn impossible() {
    for shape in [Shape::new(0, 128), Shape::new(1, 100), Shape::new((1 << 20) + 1, 64)] {
        assert_eq!(shape.required_size(), None);
        let memory = Memory::new(8192, 0x5a);
        // SAFETY: nobody else creates anything in this memory.
        let created = unsafe { LrpcLayout::init_at(memory.region(), shape, owner(CALLER)) };
        let impossible = SegmentError::Impossible("there is no such shape");
        assert_eq!(created.map(drop).unwrap_err(), impossible);
        assert!(memory.bytes().iter().all(|byte| *byte == 0x5a));
    }
}

#[test]
fn spoilt() {
    let corrupt = |what, found, limit| SegmentError::Corrupt(Corrupt { what, found, limit });
    let table = |error| SegmentError::Part { part: REGISTRY, error };
    let magic = u32::from_le_bytes(*b"SHMP");
    for (offset, value, wanted) in [
        (8, 4, corrupt("number of channels", 4, 3)),
        (12, 192, corrupt("bytes of a channel", 192, 128)),
        (12, 100, corrupt("bytes of a channel", 100, 128)),
        (12, 1 << 31, corrupt("bytes of a channel", 1 << 31, 128)),
        (REGISTRY_AT, 0, table(AttachError::WrongMagic { found: 0, wanted: magic })),
        (REGISTRY_AT + 36, 68, table(AttachError::WrongElementSize { found: 68, wanted: 72 })),
    ] {
        let (memory, _) = create();
        assert!(LrpcLayout::is_valid(&memory.region()));
        memory.set(offset, value);
        let before = memory.bytes();
        assert_eq!(attach(memory).map(drop), Err(wanted), "{value} at {offset}");
        assert!(!LrpcLayout::is_valid(&memory.region()));
        assert!(memory.bytes() == before, "written to while declining: {wanted}");
    }
}

/// Entries that nobody who keeps to the protocol writes.
#[test]
fn spoilt_entries() {
    let (memory, layout) = create();
    let mine = layout.register(owner(7), &name("a"), 70, 0).unwrap();
    let entry = REGISTRY_AT + 64 + 16 + 72;
    assert_eq!(memory.get(entry), u32::from(b'a'));
    for (offset, value) in [(0, 0), (8, 7), (68, 1), (68, 3)] {
        let before = memory.get(entry + offset);
        memory.set(entry + offset, value);
        assert_eq!(layout.nodes().count(), 0, "{value} at {offset}");
        assert_eq!(layout.find(&name("a")), Ok(None));
        memory.set(entry + offset, before);
    }
    assert_eq!(names(&layout), ["a"]);
    // It hides no other of its name.
    let other = layout.register(owner(8), &name("b"), 80, 0).unwrap();
    memory.set(entry, u32::from(b'b'));
    memory.set(entry + 68, 1);
    assert_eq!(layout.find(&name("b")).unwrap().map(|node| node.key), Some(other.key()));
    drop(mine);
}

/// Fewer channels than slots: a newer creator's table may have more.
#[test]
fn more_slots_than_channels() {
    let (memory, _) = create();
    memory.set(8, 1);
    let layout = attach(memory).unwrap();
    let _first = layout.register(owner(7), &name("a"), 70, 0).unwrap();
    let full = RegisterError::Full(TableFull { slots: 1 });
    assert_eq!(layout.register(owner(8), &name("b"), 80, 0).map(drop), Err(full));
    // And what was taken for it was given back.
    assert_eq!(layout.registry().owner(1), None);
}

#[test]
fn names_of_nodes() {
    let long = [b'x'; 65];
    assert_eq!(NodeId::new(b""), Err(NodeIdError::Empty));
    assert_eq!(NodeId::new(&long), Err(NodeIdError::TooLong { found: 65 }));
    assert_eq!(NodeId::new(b"a\0b"), Err(NodeIdError::Nul { at: 1 }));
    assert_eq!(NodeId::new(b"a\0"), Err(NodeIdError::Nul { at: 1 }));
    let longest = NodeId::new(&long[..64]).unwrap();
    assert_eq!(longest.as_bytes(), &long[..64]);
    assert_eq!(NodeId::from_field(longest.to_field()), Ok(longest));
    let short = name("node 1");
    assert_eq!(NodeId::from_field(short.to_field()), Ok(short));
    assert_eq!(short.as_bytes(), b"node 1");
    assert_eq!(NodeId::from_field([0; 64]), Err(NodeIdError::Empty));
    let mut field = short.to_field();
    field[9] = b'x';
    assert_eq!(NodeId::from_field(field), Err(NodeIdError::Nul { at: 6 }));
    assert_eq!(NodeId::new(b"\xff\n").unwrap().to_string(), "\\xff\\n");
    assert_eq!(NodeId::try_from("ä/b").unwrap().to_string(), "ä/b");
    assert_eq!(NodeId::try_from("ä").unwrap().as_str(), Some("ä"));
    assert_eq!(NodeId::new(b"\xff").unwrap().as_str(), None);
    for error in
        [NodeIdError::Empty, NodeIdError::TooLong { found: 65 }, NodeIdError::Nul { at: 1 }]
    {
        assert!(error.to_string().len() > 10);
    }
}
