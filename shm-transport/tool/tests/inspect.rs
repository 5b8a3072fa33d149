//! `shm inspect`.

mod common;

use common::{Place, process as be_a_process, shm};
use serde_json::Value;
use shm_primitives::identity::OwnerId;
use shm_primitives::layout::lrpc::{LrpcLayout, NodeId, Shape};
use shm_primitives::layout::phoenix::{GroupShape, PhoenixShmLayout, Shape as Groups};
use shm_primitives::part::Kind;
use shm_primitives::pool::{self, PoolRef};
use shm_primitives::region::Region;
use shm_primitives::ring::spsc;
use shm_primitives::segment::{self as layout, Magic, NewPart, PartId, Plan};
use shm_primitives::table::{Options, SlotTable};
use shm_transport::domain::SegmentName;
use shm_transport::segment::{CreateOptions, Segment, SegmentError};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

#[test]
fn process() {
    be_a_process();
}

/// Where the ring lies in the segment that `Place::make_ring` makes: behind header and table.
const OFFSET: u64 = 128;

fn owner(index: u32) -> OwnerId {
    OwnerId::new(index, 1).unwrap()
}

fn write(place: &Place, segment: &str, at: u64, words: &[u32]) {
    let file = OpenOptions::new().write(true).open(place.path(segment)).unwrap();
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    file.write_all_at(&bytes, at).unwrap();
}

fn problems(found: &Value) -> String {
    let parts = found["parts"].as_array().unwrap();
    let parts: Vec<_> = parts.iter().map(|part| part["problems"].to_string()).collect();
    format!("{} {}", found["problems"], parts.join(" "))
}

#[test]
fn a_ring_of_the_living_and_of_the_dead() {
    let place = Place::new();
    let process = place.process();
    for state in ["alive", "dead"] {
        let found = place.shm(&["inspect", "ring", "--json"]).with(0).json();
        assert_eq!(found["kind"], "TEST");
        assert_eq!(found["state"], "ready");
        assert_eq!(found["sound"], true);
        assert_eq!(found["owner"]["id"], *process.owner);
        assert_eq!(found["owner"]["state"], state);
        assert_eq!(found["owner"]["name"], "victim");
        assert_eq!(found["owner"]["pid"], process.pid());
        let ring = &found["parts"][0];
        assert_eq!(ring["kind"], "frame ring");
        assert_eq!(ring["offset"], OFFSET);
        assert_eq!(ring["required"], true);
        assert_eq!(ring["facts"]["capacity"], 4096);
        assert_eq!(ring["facts"]["frames"], 3);
        assert_eq!(ring["facts"]["bytes"], 300);
        let writer = ring["facts"]["writer"].as_str().unwrap();
        assert!(writer.contains(state), "{writer}");
        assert_eq!(ring["facts"]["reader"], "nobody");
        if state == "alive" {
            // Not by `kill`, which would give the process away.
            let pid = rustix::process::Pid::from_raw(process.pid() as i32).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            let seen = || place.shm(&["list"]).with(0).out.contains("dead");
            while !seen() {
                std::thread::yield_now();
            }
        }
    }
    let text = place.shm(&["inspect", "ring", "--raw"]).with(0).out;
    assert!(text.contains("TSET") || text.contains("TEST"), "the header's bytes: {text}");
    assert!(text.contains("50 4d 48 53") || text.contains("SHMP"), "the ring's: {text}");
    let found = place.shm(&["inspect", "ring", "--raw", "--json"]).with(0).json();
    assert_eq!(found["raw"][0]["bytes"].as_str().unwrap().len(), 128);
    // By its path, and whose it is nevertheless.
    let path = place.path("ring");
    let found = shm(&["inspect", path.to_str().unwrap(), "--json"]).with(0).json();
    assert_eq!(found["owner"]["state"], "dead");
}

#[test]
fn the_members() {
    let place = Place::new();
    let process = place.process();
    let found = place.shm(&["inspect", "members", "--json"]).with(0).json();
    assert_eq!(found["owner"], Value::Null);
    let facts = &found["parts"][0]["facts"];
    assert_eq!((&facts["slots"], &facts["held"]), (&1024.into(), &1.into()));
    let holder = &facts["holders"][0];
    assert_eq!(holder["name"], "victim");
    assert_eq!(holder["pid"], process.pid());
    assert_eq!(holder["owner"], *process.owner);
    assert_eq!(holder["state"], "alive");
    process.kill();
    let text = place.shm(&["inspect", "members"]).with(0).out;
    assert!(text.contains("of the dead  1"), "{text}");
}

/// Each word that is overwritten is found, and said.
#[test]
fn damage_is_found() {
    let place = Place::new();
    drop(place.make_ring(owner(1)));
    assert_eq!(place.shm(&["inspect", "ring"]).with(0).err, "");
    let intact = std::fs::read(place.path("ring")).unwrap();
    for (at, words, text) in [
        (0, &[0][..], "its creator has not finished it"),
        (16, &[9], "asks for readers of version 9"),
        (20, &[77], "the word of its state is none"),
        (28, &[5], "is no owner's"),
        (32, &[1 << 20], "it was truncated"),
        (40, &[12], "the table of parts cannot be"),
        (48, &[5000], "the table of parts cannot be"),
        (44, &[!3], "behind the segment's end"),
        (64 + 8, &[4], "is not aligned"),
        (64 + 8, &[64], "overlaps"),
        (64 + 16, &[1 << 30], "outside of the segment"),
        (64, &[1], "it is a frame ring"),
        (OFFSET, &[1], "there is no part"),
        (OFFSET + 20, &[4000], "capacity"),
        (OFFSET + 40, &[3], "is no owner's"),
        (OFFSET + 128, &[0, 1], "sound"),
        (OFFSET + 128, &[1 << 20], "more was read"),
        (OFFSET + 192, &[8], "frame"),
        (OFFSET + 256, &[3], "frame length"),
        (OFFSET + 256, &[1 << 31 | 64], "padding"),
    ] {
        std::fs::write(place.path("ring"), &intact).unwrap();
        write(&place, "ring", at, words);
        let done = place.shm(&["inspect", "ring", "--json"]);
        if text == "sound" {
            assert_eq!(done.code, 0, "{done:?}");
            continue;
        }
        assert_eq!(done.code, 3, "{at} {words:?}: {done:?}");
        let found = done.json();
        assert_eq!(found["sound"], false);
        assert!(problems(&found).contains(text), "{at} {words:?}: {text} in {}", problems(&found));
        let done = place.shm(&["inspect", "ring"]).with(3);
        assert!(done.out.contains("not sound"), "{done:?}");
    }
}

/// Whatever the bytes are, the answer comes and is no panic.
#[test]
fn any_bytes_are_looked_at() {
    let place = Place::new();
    drop(place.make_ring(owner(1)));
    let intact = std::fs::read(place.path("ring")).unwrap();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for _ in 0..60 {
        let mut bytes = intact.clone();
        for _ in 0..1 + next() % 8 {
            // Words of header, table, part header and positions.
            let at = (next() % 128) as usize * 4;
            let value = match next() % 4 {
                0 => 0,
                1 => u32::MAX,
                2 => 1 << (next() % 32),
                _ => next() as u32,
            };
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        std::fs::write(place.path("ring"), &bytes).unwrap();
        let done = place.shm(&["inspect", "ring"]);
        assert!(matches!(done.code, 0 | 1 | 3), "{done:?}");
        assert!(!done.err.contains("panic"), "{done:?}");
    }
}

#[test]
fn truncated_and_foreign_files() {
    let place = Place::new();
    drop(place.make_ring(owner(1)));
    let file = OpenOptions::new().write(true).open(place.path("ring")).unwrap();
    file.set_len(4096).unwrap();
    let found = place.shm(&["inspect", "ring", "--json"]).with(3).json();
    assert!(problems(&found).contains("it was truncated"), "{found}");
    for len in [10, 0] {
        file.set_len(len).unwrap();
        let done = place.shm(&["inspect", "ring"]).with(1);
        let text = format!("is no segment: it has {len} bytes");
        assert!(done.err.contains(&text), "{done:?}");
    }
    std::fs::write(place.path("text"), vec![b'x'; 5000]).unwrap();
    let done = place.shm(&["inspect", "text"]).with(1);
    assert!(
        done.err.contains("it begins with \\\"xxxx\\\"")
            || done.err.contains("it begins with \"xxxx\""),
        "{done:?}"
    );
    std::fs::write(place.path("zeros"), vec![0; 4096]).unwrap();
    assert!(place.shm(&["inspect", "zeros"]).with(1).err.contains("begins with zeros"));
    assert!(shm(&["inspect", "/etc"]).with(1).err.contains("is a directory, not a segment"));
    let done = place.shm(&["inspect", "nothing"]).with(4);
    assert!(done.err.contains("see `shm list`"), "{done:?}");
    shm(&["inspect", "/nowhere/at/all"]).with(4);
    assert!(place.shm(&["inspect", ""]).with(1).err.contains("is empty"));
}

fn make(place: &Place, name: &str, size: usize, fill: impl FnOnce(Region<'_>)) -> Segment {
    let (segment, ()) = Segment::create(
        &place.domain,
        &SegmentName::new(name).unwrap(),
        CreateOptions::new(size),
        |segment| {
            fill(segment.region());
            Ok::<_, SegmentError>(())
        },
    )
    .unwrap();
    segment
}

/// A part of each kind that can be made alone.
#[test]
fn every_kind_of_part() {
    const BULK: PartId = PartId { kind: Kind::SPSC_RING, role: 1 };
    const SLOTS: PartId = PartId { kind: Kind::SLOT_TABLE, role: 2 };
    const POOL: PartId = PartId { kind: Kind::CHUNK_POOL, role: 3 };
    const WAKE: PartId = PartId { kind: Kind::WAKE_WORD, role: 0 };
    const READY: PartId = PartId { kind: Kind::READY_BITMAP, role: 0 };
    const OWN: PartId = PartId { kind: Kind(0x8000_0001), role: 0 };
    let place = Place::new();
    let (bulk, chunks) = (spsc::Options::new(16), pool::Options::new(9, 2).class(256, 4));
    let slots = SlotTable::<[u32; 2], 1>::required_size(8).unwrap();
    let parts = [
        NewPart::required(BULK, bulk.required_size::<u32>().unwrap() as u64),
        NewPart::required(SLOTS, slots as u64),
        NewPart::required(POOL, chunks.required_size().unwrap() as u64),
        NewPart::required(WAKE, 64),
        NewPart::required(READY, 8),
        NewPart::optional(OWN, 100),
    ];
    let plan = Plan::new(Magic(u32::from_be_bytes(*b"TEST")), 1, &parts);
    let _segment = make(&place, "all", plan.required_size().unwrap(), |region| {
        // SAFETY: it has no name yet, so nobody else knows it; each part is one structure's.
        unsafe {
            let creating = layout::Segment::create(region, &plan, owner(1)).unwrap();
            let part = |id| creating.part(id).unwrap();
            let ring = spsc::SpscRingRef::<u32>::init_at(part(BULK), bulk).unwrap();
            let mut producer = ring.claim_producer(owner(1)).unwrap();
            for value in 0..5 {
                producer.push(value).unwrap();
            }
            let table = SlotTable::<[u32; 2], 1>::init_at(&part(SLOTS), Options::new(8)).unwrap();
            table.claim(owner(2), &[1, 2]).unwrap().keep();
            PoolRef::init_at(part(POOL), chunks).unwrap();
            creating.publish().keep();
        }
    });
    let found = place.shm(&["inspect", "all", "--json"]).with(0).json();
    let parts = found["parts"].as_array().unwrap();
    let kinds: Vec<_> = parts.iter().map(|part| part["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds.len(), 6);
    assert_eq!(kinds[..3], ["SPSC ring", "slot table", "chunk pool"]);
    assert_eq!(kinds[3..], ["wake word", "ready bitmap", "number 2147483649"]);
    assert_eq!(parts[0]["facts"]["queued"], 5);
    assert_eq!(parts[0]["facts"]["element_size"], 4);
    assert_eq!(parts[1]["facts"]["held"], 1);
    assert_eq!(parts[1]["facts"]["of_unknown"], 1, "there are no members");
    assert_eq!(parts[2]["facts"]["id"], 9);
    assert_eq!(parts[2]["facts"]["classes"][0]["bytes"], 256);
    assert_eq!(parts[2]["facts"]["classes"][0]["chunks"], 4);
    assert_eq!(parts[3]["facts"]["waiter"], "awake, or nobody");
    assert_eq!(parts[4]["facts"]["lanes"], 64);
    assert_eq!(parts[4]["facts"]["ready"], 0);

    // A position, a slot and a pool that cannot be.
    let offset = |part: usize| parts[part]["offset"].as_u64().unwrap();
    write(&place, "all", offset(0) + 64, &[100]);
    write(&place, "all", offset(1) + 64 + 4, &[0x1002]);
    write(&place, "all", offset(1) + 128 + 4, &[0x1001]);
    write(&place, "all", offset(2) + 68, &[77]);
    write(&place, "all", offset(3) + 4, &[1]);
    write(&place, "all", offset(4), &[0b101]);
    let found = place.shm(&["inspect", "all", "--json"]).with(3).json();
    let part = |index: usize| found["parts"][index].to_string();
    assert!(part(0).contains("100 elements are queued where 16 have room"), "{found}");
    assert!(part(1).contains("slot 0 has version"), "{found}");
    assert!(part(1).contains("slot 1 is nobody's and has an entry"), "{found}");
    assert_ne!(found["parts"][2]["problems"].as_array().unwrap().len(), 0, "{found}");
    assert!(part(3).contains("asleep"), "{found}");
    assert_eq!(found["parts"][4]["facts"]["ready_lanes"], serde_json::json!([0, 2]));
}

#[test]
fn a_registry_and_groups_of_workers() {
    let place = Place::new();
    const SHAPE: Shape = Shape::new(8, 0);
    let _registry = make(&place, "registry", SHAPE.required_size().unwrap(), |region| {
        // SAFETY: as in the test above.
        let (layout, control) = unsafe { LrpcLayout::init_at(region, SHAPE, owner(1)) }.unwrap();
        let id = NodeId::try_from("camera\u{7}").unwrap();
        let node = layout.register(owner(2), &id, 4711, 0).unwrap();
        node.into_slot().keep();
        control.keep();
    });
    let found = place.shm(&["inspect", "registry", "--json"]).with(0).json();
    let node = &found["parts"][0]["facts"]["holders"][0];
    assert_eq!(node["name"], "camera\u{7}");
    assert_eq!(node["pid"], 4711);
    assert!(!place.shm(&["inspect", "registry"]).with(0).out.contains('\u{7}'));
    let listed = place.shm(&["list", "--json"]).with(0).json();
    assert_eq!(listed["domains"][0]["nodes"][0]["name"], "camera\u{7}");
    assert_eq!(listed["domains"][0]["nodes"][0]["state"], "unknown", "no members");

    let shape = Groups::new(GroupShape::new(2, 4), GroupShape::new(1, 4));
    let _groups = make(&place, "groups", shape.required_size().unwrap(), |region| {
        // SAFETY: as above.
        let (_, control) = unsafe { PhoenixShmLayout::init_at(region, &shape, owner(1)) }.unwrap();
        control.keep();
    });
    let found = place.shm(&["inspect", "groups", "--json"]).with(0).json();
    assert_eq!(found["kind"], "PHNX");
    assert_eq!(found["parts"][0]["facts"]["workers"], 2);
    let offset = found["parts"][0]["offset"].as_u64().unwrap();
    write(&place, "groups", offset + 20, &[1 << 30]);
    place.shm(&["inspect", "groups"]).with(3);
}
