//! Segments of other versions, kept as files: what this version reads of them, and what it
//! declines.
//!
//! Those named `…-v1` are of this version, and what is created today must be the same bytes: if
//! it is not, the format has changed, and the version has to. Their files then stay, to be read
//! for as long as they are said to be readable, and files of the new version join them.
//!
//! ```text
//! cargo test -p shm-primitives --test images -- --ignored    # writes those that are missing
//! ```
#![cfg(target_endian = "little")]

mod common;

use common::memory::Memory;
use common::park::FakePark;
use common::{dead, owner};
use shm_primitives::channel::WorkerChannel;
use shm_primitives::layout::letters::{self, LetterEntry, LettersLayout};
use shm_primitives::layout::lrpc::{self, LrpcLayout, NodeId};
use shm_primitives::layout::node::{self, NodeLayout};
use shm_primitives::layout::phoenix::{self, GroupShape, PhoenixShmLayout, Shape};
use shm_primitives::layout::service::{self, BellsLayout, ControlLayout};
use shm_primitives::message::MsgStatus;
use shm_primitives::monitor::{Group, Transaction};
use shm_primitives::part::{AttachError, Kind, PartHeader};
use shm_primitives::ring::frame::{self, FrameRingRef};
use shm_primitives::segment::{Known, Magic, NewPart, PartId, Plan, Segment, SegmentError, State};
use shm_primitives::table::{Options, SlotTable};
use std::fs;
use std::mem::forget;
use std::path::PathBuf;

const CALLER: u32 = 1;
const WORKER: u32 = 2;

/// One worker in each group, each lane for one message.
const GROUP: GroupShape = GroupShape::new(1, 1);
const SHAPE: Shape = Shape::new(GROUP, GROUP).lane(5);
/// Bytes of a lane of it.
const LANE: usize = GROUP.channel().unwrap().required_size().unwrap();
const NODES: lrpc::Shape = lrpc::Shape::new(2, 64);
/// A node with one lane.
const NODE: node::Shape = node::Shape { counter_lines: 1, ..node::Shape::new(1, 4096) };
/// A service of two places, two clients and a function.
const SERVICE: service::Shape = service::Shape::new(GROUP, GROUP).clients(2).functions(1);
/// Dead letters, two of them.
const LETTERS: letters::Shape = letters::Shape::new(2, 64);
const UNKNOWN: PartId = PartId { kind: Kind(900), role: 3 };

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "images", name].iter().collect()
}

/// What a file has, in memory as it would be mapped, and more of it.
fn load(name: &str) -> &'static Memory {
    let path = path(name);
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let memory = Memory::new(bytes.len() + 64, 0xa5);
    for (word, bytes) in bytes.chunks_exact(4).enumerate() {
        memory.set(4 * word, u32::from_le_bytes(bytes.try_into().unwrap()));
    }
    Box::leak(Box::new(memory))
}

fn phoenix(memory: &'static Memory) -> Result<PhoenixShmLayout<'static>, SegmentError> {
    // SAFETY: the images were written by this crate, or as it would.
    unsafe { PhoenixShmLayout::attach(memory.region()) }
}

fn set(memory: &Memory, from: usize, words: &[u32]) {
    for (index, word) in words.iter().enumerate() {
        memory.set(from + 4 * index, *word);
    }
}

/// Sends request 7 and leaves.
fn send(channel: WorkerChannel<'_>) {
    let mut client = channel.claim_client(owner(CALLER)).unwrap();
    client.request(7, 1001, b"kept").unwrap();
}

fn transaction() -> Transaction {
    Transaction {
        seq_id: 6,
        group: Group::Normal,
        worker: 0,
        lane: 5,
        lane_epoch: 1,
        reply_position: 0,
        start: 123,
    }
}

fn phoenix_v1() -> Vec<u8> {
    let memory = Memory::new(SHAPE.required_size().unwrap(), 0);
    // SAFETY: nobody else creates anything in this memory.
    let created = unsafe { PhoenixShmLayout::init_at(memory.region(), &SHAPE, owner(CALLER)) };
    let (layout, control) = created.unwrap();
    send(layout.normal_channel(0).unwrap());
    layout.normal_monitor(0).unwrap().writer().begin(&transaction()).unwrap();
    drop(control);
    memory.bytes()
}

/// Where the newer one has its groups, and where in a group it has what.
const NEWER_GROUPS: [usize; 2] = [512, 512 + 2048];
const NEWER_MONITORS: usize = 128;
const NEWER_CHANNELS: usize = 256;
const NEWER_SIZE: usize = 5120;

/// As version 2 might be: a header of 128 bytes, entries of 48, groups with longer headers and
/// more room behind each monitor and lane, and two parts more. `minimum` is who may read it:
/// segment and groups; `required` whether one must know the first of the new parts.
fn phoenix_v2(minimum: [u32; 2], required: bool) -> Vec<u8> {
    let memory = Memory::new(NEWER_SIZE, 0);
    let options = GROUP.channel().unwrap();
    let stride = LANE as u32 + 128;
    for (group, at) in [Group::Normal, Group::Vip].into_iter().zip(NEWER_GROUPS) {
        let layout = {
            // The hash over the kind, from one that was created.
            let v1 = phoenix_v1();
            u32::from_le_bytes(v1[128 + 12..][..4].try_into().unwrap())
        };
        let (channels, monitors) = (NEWER_CHANNELS as u32, NEWER_MONITORS as u32);
        let rings = [options.requests.capacity, options.responses.capacity];
        set(&memory, at, &[PartHeader::MAGIC, 2, 6, layout, minimum[1]]);
        set(
            &memory,
            at + 20,
            &[1, 1, 64, 64, 4, rings[0], rings[1], monitors, 128, channels, stride],
        );
        // The longer header; what stands behind the monitor, and behind the lane.
        set(&memory, at + 64, &[0xdead_beef; 16]);
        set(&memory, at + NEWER_MONITORS + 64, &[0xdead_beef; 16]);
        set(&memory, at + NEWER_CHANNELS + LANE, &[0xdead_beef; 32]);
        let lane = memory.part(at + NEWER_CHANNELS, LANE);
        // SAFETY: nobody else creates anything in this memory.
        let channel = unsafe { WorkerChannel::init_at(lane, options) }.unwrap();
        if group == Group::Normal {
            send(channel);
        }
    }
    let ready = State::Ready.word();
    let size = NEWER_SIZE as u32;
    set(
        &memory,
        0,
        &[Magic::PHNX.0, 2, 5, 0xdead_beef, minimum[0], ready, 1, 0, size, 0, 128, 48, 4],
    );
    set(&memory, 52, &[0xdead_beef; 19]);
    let entries: [(PartId, u32, usize, usize); 4] = [
        (UNKNOWN, required.into(), 384, 64),
        (phoenix::part(Group::Normal), 1, NEWER_GROUPS[0], 2048),
        (phoenix::part(Group::Vip), 1, NEWER_GROUPS[1], 2048),
        (PartId { kind: Kind::WORKER_GROUP, role: 2 }, 0, 4608, 512),
    ];
    for (index, (id, required, offset, length)) in entries.into_iter().enumerate() {
        let attributes = u32::from(id.role) << 16 | 6 << 8 | required;
        let (offset, length) = (offset as u32, length as u32);
        let entry = [id.kind.0, attributes | 0xfe, offset, 0, length, 0];
        set(&memory, 128 + 48 * index, &entry);
        // Reserved words, and longer ones.
        set(&memory, 128 + 48 * index + 24, &[0xdead_beef; 6]);
    }
    memory.bytes()
}

/// As if there had been a version before the first.
fn phoenix_v0() -> Vec<u8> {
    let mut bytes = phoenix_v1();
    bytes[4..8].copy_from_slice(&0u32.to_le_bytes());
    bytes[16..20].copy_from_slice(&0u32.to_le_bytes());
    bytes
}

fn lrpc_v1() -> Vec<u8> {
    let memory = Memory::new(NODES.required_size().unwrap(), 0);
    // SAFETY: nobody else creates anything in this memory.
    let created = unsafe { LrpcLayout::init_at(memory.region(), NODES, owner(CALLER)) };
    let (layout, control) = created.unwrap();
    let node = layout.register(owner(WORKER), &NodeId::new(b"camera").unwrap(), 77, 1234).unwrap();
    node.into_slot().keep();
    drop(control);
    memory.bytes()
}

/// As version 2 might be: entries of 96 bytes, two live words, and more slots than channels.
fn lrpc_v2() -> Vec<u8> {
    type Newer<'a> = SlotTable<'a, [u8; 96], 2>;
    const PARTS: [NewPart; 2] = [
        NewPart::required(lrpc::REGISTRY, Newer::required_size(4).unwrap() as u64),
        NewPart::required(lrpc::CHANNELS, 128).aligned(4096),
    ];
    const PLAN: Plan<'static> = Plan::new(Magic::LRPC, 2, &PARTS).min_reader(1).own([2, 64]);
    let memory = Memory::new(PLAN.required_size().unwrap(), 0);
    // SAFETY: nobody else creates anything in this memory.
    let creating = unsafe { Segment::create(memory.region(), &PLAN, owner(CALLER)) }.unwrap();
    let tag = u32::from_le_bytes(*b"NODE");
    let part = creating.part(lrpc::REGISTRY).unwrap();
    let table = Newer::init_at(&part, Options::new(4).tag(tag)).unwrap();
    let mut entry = [0xee; 96];
    entry[..64].copy_from_slice(&NodeId::new(b"camera").unwrap().to_field());
    entry[64..72].copy_from_slice(&[77, 0, 0, 0, 0, 0, 0, 0]);
    let mut slot = table.reserve(owner(WORKER)).unwrap();
    slot.live(0).unwrap().store(1234, std::sync::atomic::Ordering::Relaxed);
    slot.live(1).unwrap().store(9, std::sync::atomic::Ordering::Relaxed);
    slot.update(&entry);
    slot.keep();
    drop(creating.publish());
    memory.bytes()
}

fn node(memory: &'static Memory) -> Result<NodeLayout<'static>, SegmentError> {
    // SAFETY: the images were written by this crate, or as it would.
    unsafe { NodeLayout::attach(memory.region()) }
}

/// A sender that sends "kept" in the first lane, and is there still.
fn send_to(node: &NodeLayout<'_>) {
    let mut lane = node.lanes().reserve(owner(WORKER)).unwrap().open(b"camera").unwrap();
    lane.ring().push(b"kept").unwrap();
    lane.announce(&FakePark::new());
    forget(lane);
}

fn node_v1() -> Vec<u8> {
    let memory = Memory::new(NODE.required_size().unwrap(), 0);
    // SAFETY: nobody else creates anything in this memory.
    let created = unsafe { NodeLayout::init_at(memory.region(), NODE, owner(CALLER)) };
    let (layout, control) = created.unwrap();
    send_to(&layout);
    forget(control);
    memory.bytes()
}

/// Where the newer one has what nobody knows.
const NEWER_UNKNOWN: usize = 576;

/// As version 2 might be: longer entries and a live word in the table of lanes, more words for
/// wake word and bitmap, a part more, and something behind the lanes.
fn node_v2(minimum: u32, required: bool) -> Vec<u8> {
    type Newer<'a> = SlotTable<'a, [u32; 4], 1>;
    let unknown = NewPart { required, ..NewPart::optional(UNKNOWN, 64) };
    let parts = [
        NewPart::required(node::BELL, 128),
        NewPart::required(node::READY, 64),
        NewPart::required(node::TABLE, Newer::required_size(1).unwrap() as u64),
        unknown,
        NewPart::required(node::LANES, 8192 + 64).aligned(4096),
    ];
    let plan = Plan::new(Magic::NODE, 2, &parts).min_reader(minimum).own([1, 4096]);
    let memory = Memory::new(plan.required_size().unwrap(), 0);
    // SAFETY: nobody else creates anything in this memory.
    let creating = unsafe { Segment::create(memory.region(), &plan, owner(CALLER)) }.unwrap();
    let tag = u32::from_le_bytes(*b"LANE");
    let table = Newer::init_at(&creating.part(node::TABLE).unwrap(), Options::new(1).tag(tag));
    let region = creating.part(UNKNOWN).unwrap();
    assert_eq!(region.base().addr().get() - memory.base().addr().get(), NEWER_UNKNOWN);
    set(&memory, NEWER_UNKNOWN, &[0xdead_beef; 16]);
    set(&memory, 4096 + 8192, &[0xdead_beef; 16]);
    forget(creating.publish());
    // A sender of that version: the lane is as it was, the entry has two words more.
    let mut slot = table.unwrap().reserve(owner(WORKER)).unwrap();
    slot.live(0).unwrap().store(9, std::sync::atomic::Ordering::Relaxed);
    let lane = memory.part(4096, 8192);
    set(&memory, 4096, &[u32::from_le_bytes(*b"came"), u32::from_le_bytes(*b"ra\0\0")]);
    let ring = lane.part(3840, 4096 + 256).unwrap();
    // SAFETY: as above.
    let ring = unsafe { FrameRingRef::init_at(ring, frame::Options::new(4096)) }.unwrap();
    let mut writer = ring.claim_writer(owner(WORKER)).unwrap();
    writer.push(b"kept").unwrap();
    forget(writer);
    slot.update(&[owner(WORKER).word(), 0, 0xdead_beef, 0xdead_beef]);
    slot.keep();
    memory.bytes()
}

fn orders() -> service::Orders {
    service::Orders {
        incarnation: 3,
        order: service::Order::Run,
        helper: Some(0),
        condition: service::Condition::Up,
        restarts: 2,
        cause: Some(service::Cause::Signalled(9)),
        changed_ms: 1 << 40 | 5,
    }
}

/// Orders for place 1, a worker there that counts and has something in hand, and a function.
fn fill_control(layout: &ControlLayout<'_>) {
    layout.orders(1).unwrap().writer().write(&orders());
    let mut slot = layout.claim_worker(1, 3, owner(WORKER)).unwrap();
    slot.update(&service::WorkerEntry::new(3, 77, 1 << 40));
    slot.live(service::WorkerEntry::QUEUED).unwrap().store(4, std::sync::atomic::Ordering::Relaxed);
    slot.keep();
    let function = service::FunctionEntry { func_id: 1001, flags: 1, threshold_ms: 250 };
    layout.functions().claim(owner(CALLER), &function).unwrap().keep();
    layout.monitor(1).unwrap().writer().begin(&transaction()).unwrap();
    layout.counters(1).unwrap().writers()[0].add(9);
    layout.supervisor_counters().writers()[0].add(1);
}

fn control_v1() -> Vec<u8> {
    control_of(&SERVICE)
}

fn control_of(shape: &service::Shape) -> Vec<u8> {
    let memory = Memory::new(shape.control_size().unwrap(), 0);
    // SAFETY: nobody else creates anything in this memory.
    let created = unsafe { ControlLayout::init_at(memory.region(), shape, owner(CALLER)) };
    let (layout, control) = created.unwrap();
    fill_control(&layout);
    forget(control);
    memory.bytes()
}

fn bells_v1() -> Vec<u8> {
    let memory = Memory::new(SERVICE.bells_size().unwrap(), 0);
    // SAFETY: nobody else creates anything in this memory.
    let created = unsafe { BellsLayout::init_at(memory.region(), &SERVICE, owner(CALLER)) };
    let (layout, control) = created.unwrap();
    layout.worker(1).unwrap().serve(0);
    layout.worker(0).unwrap().set_sleepless(true);
    layout.reserve_client(owner(WORKER)).unwrap().keep();
    let mut second = layout.reserve_client(owner(3)).unwrap();
    second.update(&service::ClientEntry::new(78, 1 << 40));
    second.keep();
    layout.announcer(1, 1).unwrap().announce(&FakePark::new());
    layout.cancel(1, 1).unwrap().ask(7);
    layout.client(1).unwrap().set_sleepless(true);
    forget(control);
    memory.bytes()
}

/// Where the newer service has its orders, how far apart, and what nobody knows.
const NEWER_ROWS: u32 = 192;
const NEWER_ROW: u32 = 128;

/// As version 2 might be: a longer header of the service, something behind each row of orders, longer
/// entries and more live words in the tables, more counters, and a part more.
fn control_v2(minimum: u32, required: bool) -> Vec<u8> {
    type Workers<'a> = SlotTable<'a, [u32; 8], 6>;
    let rows = (NEWER_ROWS + 2 * NEWER_ROW) as u64;
    let parts = [
        NewPart::required(service::SERVICE, rows),
        NewPart::required(service::WORKERS, Workers::required_size(2).unwrap() as u64),
        NewPart { required, ..NewPart::optional(UNKNOWN, 64) },
        NewPart::required(service::FUNCTIONS, Newer::required_size(1).unwrap() as u64),
        NewPart::required(service::MONITORS, 3 * 64),
        NewPart::required(service::COUNTERS, 5 * 64),
    ];
    type Newer<'a> = SlotTable<'a, [u32; 4], 1>;
    let plan = Plan::new(Magic::SRVC, 2, &parts).min_reader(minimum).own([2, 2]);
    let memory = Memory::new(plan.required_size().unwrap(), 0);
    // SAFETY: nobody else creates anything in this memory.
    let creating = unsafe { Segment::create(memory.region(), &plan, owner(CALLER)) }.unwrap();
    let at = |id| {
        let part = creating.part(id).unwrap();
        part.base().addr().get() - memory.base().addr().get()
    };
    let from = at(service::SERVICE);
    let v1 = control_v1();
    // The header, but for its version and where the rows are.
    for word in (0..128).step_by(4) {
        let old = u32::from_le_bytes(v1[256 + word..][..4].try_into().unwrap());
        memory.set(from + word, old);
    }
    memory.set(from + 4, 2);
    set(&memory, from + 28, &[NEWER_ROWS, NEWER_ROW]);
    set(&memory, from + 36, &[0xdead_beef; 7]);
    set(&memory, from + 104, &[0xdead_beef; 22]);
    for row in 0..2 {
        let row = from + (NEWER_ROWS + row * NEWER_ROW) as usize;
        set(&memory, row + 64, &[0xdead_beef; 16]);
    }
    let tag = |tag| u32::from_le_bytes(tag);
    let options = Options::new(2).tag(tag(*b"WORK"));
    Workers::init_at(&creating.part(service::WORKERS).unwrap(), options).unwrap();
    let options = Options::new(1).tag(tag(*b"FUNC"));
    Newer::init_at(&creating.part(service::FUNCTIONS).unwrap(), options).unwrap();
    set(&memory, at(UNKNOWN), &[0xdead_beef; 16]);
    set(&memory, at(service::MONITORS) + 2 * 64, &[0xdead_beef; 16]);
    set(&memory, at(service::COUNTERS) + 3 * 64, &[0xdead_beef; 32]);
    forget(creating.publish());
    memory.bytes()
}

/// As version 2 might be: longer entries and more live words of clients, larger parts, a part more.
fn bells_v2(minimum: u32, required: bool) -> Vec<u8> {
    type Newer<'a> = SlotTable<'a, [u32; 8], 3>;
    let parts = [
        NewPart::required(service::CANCELS, 3 * 64),
        NewPart::required(service::CLIENTS, Newer::required_size(2).unwrap() as u64),
        NewPart { required, ..NewPart::optional(UNKNOWN, 64) },
        NewPart::required(service::READY, 3 * 64),
        NewPart::required(service::CLIENT_BELLS, 3 * 64),
        NewPart::required(service::WORKER_BELLS, 3 * 64),
    ];
    let plan = Plan::new(Magic::BELL, 2, &parts).min_reader(minimum).own([2, 2]);
    let memory = Memory::new(plan.required_size().unwrap(), 0);
    // SAFETY: nobody else creates anything in this memory.
    let creating = unsafe { Segment::create(memory.region(), &plan, owner(CALLER)) }.unwrap();
    let options = Options::new(2).tag(u32::from_le_bytes(*b"CLNT"));
    Newer::init_at(&creating.part(service::CLIENTS).unwrap(), options).unwrap();
    for (id, offset) in [
        (UNKNOWN, 0),
        (service::CANCELS, 128),
        (service::READY, 128),
        (service::CLIENT_BELLS, 128),
        (service::WORKER_BELLS, 128),
    ] {
        let part = creating.part(id).unwrap().base().addr().get() - memory.base().addr().get();
        set(&memory, part + offset, &[0xdead_beef; 16]);
    }
    forget(creating.publish());
    memory.bytes()
}

/// What the letter in the images says.
fn entry() -> LetterEntry {
    LetterEntry {
        func_id: 1001,
        worker: 2,
        worker_pid: 77,
        cause: [2, 11],
        attempt: 1,
        client_pid: 78,
        length: 4,
        ..LetterEntry::new(7 << 40 | 9)
    }
    .at(1_700_000_000_123)
}

fn letters_v1() -> Vec<u8> {
    let memory = Memory::new(LETTERS.required_size().unwrap(), 0);
    // SAFETY: nobody else creates anything in this memory.
    let created = unsafe { LettersLayout::init_at(memory.region(), LETTERS, owner(CALLER)) };
    let (letters, control) = created.unwrap();
    letters.keep(control.owner(), entry(), b"kept").unwrap();
    drop(control);
    memory.bytes()
}

/// As version 2 might be: entries of 64 bytes, two live words, a part more, and something behind
/// the messages.
fn letters_v2(minimum: u32, required: bool) -> Vec<u8> {
    type Newer<'a> = SlotTable<'a, [u32; 16], 2>;
    let unknown = NewPart { required, ..NewPart::optional(UNKNOWN, 64) };
    let parts = [
        NewPart::required(letters::TABLE, Newer::required_size(2).unwrap() as u64),
        unknown,
        NewPart::required(letters::MESSAGES, 2 * 64 + 64).aligned(4096),
    ];
    let plan = Plan::new(Magic::LETT, 2, &parts).min_reader(minimum).own([2, 64]);
    let memory = Memory::new(plan.required_size().unwrap(), 0);
    // SAFETY: nobody else creates anything in this memory.
    let creating = unsafe { Segment::create(memory.region(), &plan, owner(CALLER)) }.unwrap();
    let tag = u32::from_le_bytes(*b"LETT");
    let part = creating.part(letters::TABLE).unwrap();
    let table = Newer::init_at(&part, Options::new(2).tag(tag)).unwrap();
    set(&memory, 4096, &[u32::from_le_bytes(*b"kept")]);
    set(&memory, 4096 + 128, &[0xdead_beef; 16]);
    drop(creating.publish());
    let mut words = [0xdead_beef; 16];
    let known: [u32; 12] = zerocopy::transmute!(entry());
    words[..12].copy_from_slice(&known);
    let mut slot = table.reserve(letters::KEPT).unwrap();
    slot.live(1).unwrap().store(9, std::sync::atomic::Ordering::Relaxed);
    slot.update(&words);
    slot.keep();
    memory.bytes()
}

/// A kind of segment whose version 2 had no part B yet; version 3 has.
const A: PartId = PartId { kind: Kind(500), role: 0 };
const B: PartId = PartId { kind: Kind(500), role: 1 };
const MAGIC: Magic = Magic(0x4f4c_4452);

fn segment_v2() -> Vec<u8> {
    const PARTS: [NewPart; 1] = [NewPart::required(A, 64)];
    const PLAN: Plan<'static> = Plan::new(MAGIC, 2, &PARTS).own([8, 9]);
    let memory = Memory::new(PLAN.required_size().unwrap(), 0);
    // SAFETY: nobody else creates anything in this memory.
    let creating = unsafe { Segment::create(memory.region(), &PLAN, owner(CALLER)) }.unwrap();
    drop(creating.publish());
    memory.bytes()
}

/// Every file, and what makes it.
fn images() -> [(&'static str, Vec<u8>); 26] {
    [
        ("phoenix-v1", phoenix_v1()),
        ("phoenix-v2-readable", phoenix_v2([1, 1], false)),
        ("phoenix-v2-required-part", phoenix_v2([1, 1], true)),
        ("phoenix-v2-newer-reader", phoenix_v2([2, 1], false)),
        ("phoenix-v2-newer-group", phoenix_v2([1, 2], false)),
        ("phoenix-v0", phoenix_v0()),
        ("lrpc-v1", lrpc_v1()),
        ("lrpc-v2", lrpc_v2()),
        ("segment-v2", segment_v2()),
        ("node-v1", node_v1()),
        ("node-v2-readable", node_v2(1, false)),
        ("node-v2-required-part", node_v2(1, true)),
        ("node-v2-newer-reader", node_v2(2, false)),
        ("control-v1", control_v1()),
        ("control-spares-v1", control_of(&SERVICE.spares(1))),
        ("control-v2-readable", control_v2(1, false)),
        ("control-v2-required-part", control_v2(1, true)),
        ("control-v2-newer-reader", control_v2(2, false)),
        ("bells-v1", bells_v1()),
        ("bells-v2-readable", bells_v2(1, false)),
        ("bells-v2-required-part", bells_v2(1, true)),
        ("bells-v2-newer-reader", bells_v2(2, false)),
        ("letters-v1", letters_v1()),
        ("letters-v2-readable", letters_v2(1, false)),
        ("letters-v2-required-part", letters_v2(1, true)),
        ("letters-v2-newer-reader", letters_v2(2, false)),
    ]
}

#[test]
#[ignore = "writes the files that are missing"]
fn regenerate() {
    fs::create_dir_all(path("")).unwrap();
    for (name, bytes) in images() {
        if !path(name).exists() {
            fs::write(path(name), bytes).unwrap();
        }
    }
}

/// What is created today is what was kept: the format has not changed unnoticed.
#[test]
fn the_format_stays() {
    for (name, bytes) in images() {
        if name.ends_with("-v1") {
            let kept = fs::read(path(name)).unwrap();
            let differs = kept.iter().zip(&bytes).position(|(kept, now)| kept != now);
            assert_eq!(differs, None, "{name}: the first byte that differs");
            assert_eq!(kept.len(), bytes.len(), "{name}");
        }
    }
}

/// Serves the request kept in the image, and a second one.
fn check_served(layout: &PhoenixShmLayout<'_>) {
    let channel = layout.normal_channel(0).unwrap();
    let mut client = channel.claim_client(owner(CALLER)).unwrap();
    let lane = layout.lane(Group::Normal, 0).unwrap();
    assert_eq!((lane.lane, lane.epoch), (5, 1));
    let mut worker = channel.claim_worker(owner(WORKER), lane).unwrap();
    let mut monitor = layout.normal_monitor(0).unwrap().writer();
    for (id, payload) in [(7, b"kept"), (8, b"more")] {
        if id > 7 {
            client.request(id, 1001, payload).unwrap();
        }
        let mut work = worker.peek().unwrap().begin(&mut monitor, 1).unwrap();
        assert_eq!((work.header().seq_id(), work.payload()), (id, &payload[..]));
        work.reply(MsgStatus::Completed, b"done").unwrap();
        work.finish().unwrap();
        let response = client.response().unwrap();
        assert_eq!((response.header().seq_id(), &*response), (id, &b"done"[..]));
        response.release();
    }
    // The other group's lane and monitor are there too.
    assert!(layout.vip_channel(0).unwrap().claim_client(owner(CALLER)).is_ok());
    assert!(!layout.vip_monitor(0).unwrap().snapshot().unwrap().is_processing());
}

#[test]
fn of_this_version() {
    let layout = phoenix(load("phoenix-v1")).unwrap();
    assert_eq!(layout.shape(), SHAPE);
    let noted: Vec<_> = layout.scan_crashed(1000, 500).collect();
    assert_eq!(noted[0].transaction(), transaction());
    check_served(&layout);

    let nodes = LrpcLayout::attach(load("lrpc-v1").region()).unwrap();
    check_node(&nodes);
}

/// Of a newer segment it uses what it knows, and leaves the rest as it is.
#[test]
fn of_a_newer_version() {
    let memory = load("phoenix-v2-readable");
    let before = memory.bytes();
    let layout = phoenix(memory).unwrap();
    assert_eq!(layout.segment().version(), 2);
    assert_eq!(layout.shape(), SHAPE);
    assert_eq!(layout.segment().part(UNKNOWN).map(|part| part.len()), None);
    check_served(&layout);
    let after = memory.bytes();
    for (at, (before, after)) in before.iter().zip(&after).enumerate() {
        let mine = NEWER_GROUPS.iter().any(|group| {
            let monitor = group + NEWER_MONITORS;
            let lane = group + NEWER_CHANNELS;
            (monitor..monitor + 64).contains(&at) || (lane..lane + LANE).contains(&at)
        });
        assert!(mine || before == after, "byte {at}, which is none of its business");
    }
    assert_ne!(before, after);
}

#[test]
fn what_requires_more_is_declined() {
    let cases = [
        ("phoenix-v2-required-part", SegmentError::UnknownPart(UNKNOWN)),
        ("phoenix-v2-newer-reader", SegmentError::NewerRequired { found: 2, wanted: 1 }),
        (
            "phoenix-v2-newer-group",
            SegmentError::Part {
                part: phoenix::part(Group::Normal),
                error: AttachError::NewerRequired { found: 2, wanted: 1 },
            },
        ),
        ("phoenix-v0", SegmentError::WrongVersion { found: 0, wanted: 1 }),
        ("lrpc-v1", SegmentError::WrongMagic { found: Magic::LRPC, wanted: Magic::PHNX }),
    ];
    for (name, wanted) in cases {
        let memory = load(name);
        let before = memory.bytes();
        assert_eq!(phoenix(memory).map(drop), Err(wanted), "{name}");
        assert!(!PhoenixShmLayout::is_valid(&memory.region()), "{name}");
        assert!(memory.bytes() == before, "{name}: written to while declining");
    }
}

/// The node in the image, a heartbeat, and a second node.
fn check_node(nodes: &LrpcLayout<'_>) {
    let camera = nodes.find(&NodeId::new(b"camera").unwrap()).unwrap().unwrap();
    assert_eq!((camera.owner, camera.pid, camera.channel), (owner(WORKER), 77, 0));
    assert_eq!(nodes.silent_for(camera.key, 2234), Some(1000));
    let id = NodeId::new(b"second").unwrap();
    let second = nodes.register(owner(3), &id, 78, 5).unwrap();
    assert_eq!(second.channel(), 1);
    assert_eq!(nodes.nodes().count(), 2);
    let third = nodes.register(owner(4), &NodeId::new(b"third").unwrap(), 79, 5);
    assert!(third.is_err(), "there are two channels");
}

#[test]
fn a_newer_registry() {
    let memory = load("lrpc-v2");
    let nodes = LrpcLayout::attach(memory.region()).unwrap();
    assert_eq!((nodes.segment().version(), nodes.registry().slots()), (2, 4));
    check_node(&nodes);
}

/// The frame in the image is read, its sender recovered, and another sender has the lane.
fn check_received(node: &NodeLayout<'_>) {
    let lanes = node.lanes();
    let mut reader = lanes.adopt(0).unwrap().unwrap();
    assert_eq!(reader.card().as_bytes(), b"camera");
    assert_eq!((reader.sender(), reader.has_ended()), (Some(owner(WORKER)), false));
    let frame = reader.ring().read().unwrap();
    assert_eq!(&*frame, b"kept");
    frame.release();
    assert_eq!(lanes.recover(dead(WORKER)), Ok(1));
    assert!(reader.finish().is_none());
    let mut lane = lanes.reserve(owner(3)).unwrap().open(b"radar").unwrap();
    lane.ring().push(b"more").unwrap();
    lane.close(&FakePark::new());
    assert!(lanes.ready().is_marked(0));
    let mut reader = lanes.adopt(0).unwrap().unwrap();
    assert_eq!(&*reader.ring().read().unwrap(), b"more");
    assert!(lanes.reserve(owner(3)).is_err(), "there is one lane");
}

#[test]
fn a_node_of_this_version() {
    let layout = node(load("node-v1")).unwrap();
    assert_eq!((layout.node(), layout.lanes().capacity()), (owner(CALLER), 4096));
    assert_eq!((layout.place_of_counters(), layout.place_of(0)), (Some(4096), Some((8192, 8192))));
    assert!(layout.lanes().ready().is_marked(0));
    check_received(&layout);
}

#[test]
fn a_newer_node() {
    let memory = load("node-v2-readable");
    let before = memory.bytes();
    let layout = node(memory).unwrap();
    assert_eq!((layout.segment().version(), layout.place_of_counters()), (2, None));
    check_received(&layout);
    let after = memory.bytes();
    for at in (NEWER_UNKNOWN..NEWER_UNKNOWN + 64).chain(4096 + 8192..before.len()) {
        assert_eq!(before[at], after[at], "byte {at}, which is none of its business");
    }
    let declined = [
        ("node-v2-required-part", SegmentError::UnknownPart(UNKNOWN)),
        ("node-v2-newer-reader", SegmentError::NewerRequired { found: 2, wanted: 1 }),
        ("lrpc-v1", SegmentError::WrongMagic { found: Magic::LRPC, wanted: Magic::NODE }),
    ];
    for (name, wanted) in declined {
        let memory = load(name);
        let before = memory.bytes();
        assert_eq!(node(memory).map(drop), Err(wanted), "{name}");
        assert!(memory.bytes() == before, "{name}: written to while declining");
    }
}

fn check_control(layout: &ControlLayout<'_>) {
    assert_eq!(layout.orders(1).unwrap().read(), Ok(orders()));
    assert_eq!(layout.orders(0).unwrap().read(), Ok(service::Orders::default()));
    let worker = layout.workers().read(1).unwrap().unwrap();
    assert_eq!(
        (worker.owner, worker.entry),
        (owner(WORKER), service::WorkerEntry::new(3, 77, 1 << 40))
    );
    assert_eq!(layout.workers().live(worker.key, service::WorkerEntry::QUEUED), Some(4));
    let function = layout.function(1001).unwrap();
    assert!(function.is_idempotent() && function.threshold_ms == 250);
    let seen = layout.monitor(1).unwrap().snapshot().unwrap();
    assert!(seen.is_processing() && seen.transaction() == Some(transaction()));
    assert_eq!(layout.counters(1).unwrap().values()[..2], [9, 0]);
    assert_eq!(layout.supervisor_counters().values()[..2], [1, 0]);
}

#[test]
fn a_service_of_this_version() {
    for (name, shape) in [("control-v1", SERVICE), ("control-spares-v1", SERVICE.spares(1))] {
        let control = ControlLayout::attach(load(name).region()).unwrap();
        assert_eq!(*control.shape(), shape, "{name}");
        check_control(&control);
    }
    let bells = BellsLayout::attach(load("bells-v1").region()).unwrap();
    let worker = bells.worker(1).unwrap();
    assert_eq!((worker.server(), worker.is_sleepless()), (Some(0), false));
    assert_eq!(worker.ready().marked().collect::<Vec<_>>(), [1]);
    assert!(bells.worker(0).unwrap().is_sleepless() && bells.client(1).unwrap().is_sleepless());
    assert_eq!(bells.clients().owner(0), Some(owner(WORKER)));
    let client = bells.clients().read(1).unwrap().unwrap();
    assert_eq!((client.owner, client.entry), (owner(3), service::ClientEntry::new(78, 1 << 40)));
    assert!(bells.cancel(1, 1).unwrap().is_asked(7) && !bells.cancel(0, 1).unwrap().is_asked(7));
}

/// All that a service's processes do, in segments of a newer one: they use what they know, and
/// touch nothing of the rest.
#[test]
fn a_newer_service() {
    let unknown = |memory: &Memory| {
        let bytes = memory.bytes();
        let words = bytes.chunks_exact(4).map(|bytes| bytes == 0xdead_beefu32.to_le_bytes());
        words.filter(|unknown| *unknown).count()
    };
    let memory = load("control-v2-readable");
    let before = unknown(memory);
    let layout = ControlLayout::attach(memory.region()).unwrap();
    assert_eq!(layout.segment().version(), 2);
    assert_eq!(*layout.shape(), SERVICE);
    fill_control(&layout);
    check_control(&layout);
    assert_eq!((unknown(memory), before), (before, 16 + 7 + 22 + 32 + 16 + 32));
    // The line behind the last place's is the supervisor's, in a newer segment too.
    let memory = load("bells-v2-readable");
    let before = unknown(memory);
    let layout = BellsLayout::attach(memory.region()).unwrap();
    for client in 0..2 {
        let mut slot = layout.reserve_client(owner(3)).unwrap();
        slot.update(&service::ClientEntry::new(78, 1));
        slot.keep();
        for place in 0..2 {
            layout.worker(place).unwrap().serve(1 - place);
            let rung = layout.announcer(place, client).unwrap().announce(&FakePark::new());
            assert_eq!(rung, 1 - place);
            layout.cancel(place, client).unwrap().ask(7);
            assert!(layout.worker(place).unwrap().ready().is_marked(client as usize));
        }
        layout.client(client).unwrap().set_sleepless(true);
    }
    assert!(layout.reserve_client(owner(3)).is_err(), "there are two places");
    assert_eq!((unknown(memory), before), (before, 5 * 16));

    let declined = [
        ("v2-required-part", SegmentError::UnknownPart(UNKNOWN)),
        ("v2-newer-reader", SegmentError::NewerRequired { found: 2, wanted: 1 }),
    ];
    for (name, wanted) in declined {
        let (control, bells) = (load(&format!("control-{name}")), load(&format!("bells-{name}")));
        let before = (control.bytes(), bells.bytes());
        assert_eq!(ControlLayout::attach(control.region()).map(drop), Err(wanted), "{name}");
        assert_eq!(BellsLayout::attach(bells.region()).map(drop), Err(wanted), "{name}");
        assert!(before == (control.bytes(), bells.bytes()), "{name}: written to while declining");
    }
}

/// The letter in the image is read, another is kept beside it, and both go.
fn check_letters(memory: &'static Memory) {
    let letters = LettersLayout::attach(memory.region()).unwrap();
    assert_eq!(letters.shape(), LETTERS);
    let found: Vec<_> = letters.iter().map(Result::unwrap).collect();
    assert_eq!(found.iter().map(|letter| letter.entry).collect::<Vec<_>>(), [entry()]);
    let mut buffer = [0; 64];
    assert_eq!(letters.payload(found[0].key, &mut buffer), Ok(Some(4)));
    assert_eq!(&buffer[..4], b"kept");
    let control = letters.segment().claim_control(owner(3)).unwrap();
    assert_eq!(letters.take_over().letters, 1);
    assert_eq!(letters.keep(owner(3), entry(), b"kept"), Ok(found[0].key), "it is there");
    let second = letters.keep(owner(3), entry(), b"another").unwrap();
    assert!(letters.keep(owner(3), entry(), b"a third one").is_err(), "there is room for two");
    for key in [found[0].key, second] {
        assert_eq!(letters.ask_to_drop(key), Ok(true));
    }
    assert_eq!(letters.sweep_dropped(|_, _| {}), 2);
    drop(control);
}

#[test]
fn letters_of_this_version() {
    check_letters(load("letters-v1"));
}

#[test]
fn newer_letters() {
    let memory = load("letters-v2-readable");
    let before = memory.bytes();
    check_letters(memory);
    let after = memory.bytes();
    // Header and three entries, 2 slots of 192 bytes, and what is unknown.
    let unknown = 192 + 64 + 2 * 192;
    for at in (0..28).chain(32..192 + 64).chain(unknown..4096).chain(4096 + 128..before.len()) {
        assert_eq!(before[at], after[at], "byte {at}, which is none of its business");
    }
    for (name, wanted) in [
        ("letters-v2-required-part", SegmentError::UnknownPart(UNKNOWN)),
        ("letters-v2-newer-reader", SegmentError::NewerRequired { found: 2, wanted: 1 }),
        ("node-v1", SegmentError::WrongMagic { found: Magic::NODE, wanted: Magic::LETT }),
    ] {
        let memory = load(name);
        let before = memory.bytes();
        assert_eq!(LettersLayout::attach(memory.region()).map(drop), Err(wanted), "{name}");
        assert!(memory.bytes() == before, "{name}: written to while declining");
    }
}

/// A newer reader knows a part that an older segment does not have.
#[test]
fn of_an_older_version() {
    let memory = load("segment-v2");
    let attach = |known: &Known<2>| Segment::attach(memory.region(), known);
    let known = Known::new(MAGIC, 3, [A, B]);
    let segment = attach(&known.oldest(2)).unwrap();
    assert_eq!((segment.version(), segment.own()), (2, [8, 9]));
    assert_eq!(segment.require(A).unwrap().len(), 64);
    assert_eq!(segment.require(B).map(drop), Err(SegmentError::MissingPart(B)));
    assert_eq!(attach(&known).map(drop), Err(SegmentError::WrongVersion { found: 2, wanted: 3 }));
}
