//! Bodies for segments and for the layouts made of them.

use crate::common::memory::Memory;
use crate::common::{dead, owner};
use arbitrary::{Arbitrary, Result, Unstructured};
use shm_primitives::channel::{Client, Recovered, Worker};
use shm_primitives::layout::lrpc::{self, LrpcLayout, NodeId, Registered};
use shm_primitives::layout::phoenix::{GroupShape, PhoenixShmLayout, Place, Shape};
use shm_primitives::message::MsgStatus;
use shm_primitives::monitor::Group;
use shm_primitives::part::Kind;
use shm_primitives::segment::{
    Control, ENTRY, HEADER, Known, Magic, NewPart, PartId, Plan, Segment, SegmentError,
};

const MOST_OPS: usize = 200;

/// A word to be poked in: anything, or something near what could stand there.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Value {
    Exactly(u32),
    Small(u8),
    Power(u8),
    Below(u8),
    More(u8),
}

impl Value {
    fn over(self, before: u32) -> u32 {
        match self {
            Self::Exactly(value) => value,
            Self::Small(value) => value.into(),
            Self::Power(bit) => 1u32.wrapping_shl(bit.into()),
            Self::Below(value) => u32::MAX - u32::from(value),
            Self::More(value) => before.wrapping_add(value.into()),
        }
    }
}

/// Overwrites a word: of the first of the memory, where headers are, or any.
fn poke(memory: &Memory, at: u16, value: Value) {
    let words = memory.size() / 4;
    let at = usize::from(at);
    let word = if at & 1 == 0 { at / 2 % words.min(96) } else { at % words };
    memory.set(4 * word, value.over(memory.get(4 * word)));
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Attack {
    Poke(u16, Value),
    Attach { knows: u8, version: u8, short: u16 },
    Close,
    Leave,
    Claim(u8),
    Recover(u8),
    Again,
}

const MAGIC: Magic = Magic::PHNX;

fn id(index: u8) -> PartId {
    PartId { kind: Kind(u32::from(index) / 2), role: u16::from(index) % 2 }
}

/// A segment of any shape whose every word may be overwritten: no panic, no access outside, and
/// whatever is attached to has its parts in the memory, one behind the other, and behind header
/// and table. As long as nothing was overwritten, attaching succeeds.
pub fn hostile(data: &[u8]) {
    // Too few bytes are no fault.
    let _ = run(&mut Unstructured::new(data));
}

fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let mut parts = Vec::new();
    for index in 0..u.int_in_range(0..=5u8)? {
        let (required, length, alignment) = (u.arbitrary()?, u.arbitrary::<u8>()?, u.arbitrary()?);
        let alignment: u8 = alignment;
        let part = NewPart { id: id(index), required, length: length.into(), alignment: 1 };
        parts.push(part.aligned(1 << (alignment % 10)));
    }
    let plan = Plan::new(MAGIC, 2, &parts).min_reader(1);
    let memory = Memory::new(8192, u.arbitrary()?);
    let create = || {
        // SAFETY: one thread alone.
        unsafe { Segment::create(memory.region(), &plan, owner(1)) }
            .expect("a valid plan")
            .publish()
    };
    let mut control: Option<Control<'_>> = u.arbitrary::<bool>()?.then(create);
    let (mut touched, mut closed) = (control.is_none(), false);
    for _ in 0..MOST_OPS {
        if u.is_empty() {
            break;
        }
        match u.arbitrary()? {
            Attack::Poke(at, value) => {
                poke(&memory, at, value);
                touched = true;
            }
            Attack::Attach { knows, version, short } => {
                let len = memory.size() - usize::from(short) % memory.size();
                let version = u32::from(version) % 4;
                let ids = core::array::from_fn::<_, 6, _>(|index| {
                    id(if knows >> index & 1 == 0 { index as u8 } else { 200 })
                });
                let known = Known::new(MAGIC, version, ids).oldest(version.min(2));
                match Segment::attach(memory.part(0, len), &known) {
                    Ok(segment) => check_places(&memory, len, &segment, &ids),
                    Err(error) => {
                        let fits = plan.required_size().is_some_and(|size| size <= len);
                        let closing = matches!(error, SegmentError::Closing { .. });
                        let unknown = matches!(error, SegmentError::UnknownPart(_));
                        assert!(
                            touched || !fits || version < 1 || unknown || closing && closed,
                            "{error}"
                        );
                        assert!(!error.to_string().is_empty());
                    }
                }
            }
            Attack::Close => {
                if let Some(control) = &mut control {
                    control.close();
                    closed = true;
                }
            }
            Attack::Leave => control = None,
            Attack::Claim(by) | Attack::Recover(by) if control.is_some() => {
                let _ = by;
            }
            Attack::Claim(by) => {
                control = attached(&memory).and_then(|s| s.claim_control(owner(by.into())).ok());
            }
            Attack::Recover(by) => {
                control = attached(&memory)
                    .and_then(|s| s.recover_control(dead(1), owner(by.into())).ok());
            }
            Attack::Again => {
                drop(control.take());
                control = Some(create());
                (touched, closed) = (false, false);
            }
        }
    }
    drop(control);
    memory.check_guards();
    Ok(())
}

fn attached(memory: &Memory) -> Option<Segment<'_, 6>> {
    let known = Known::new(MAGIC, 2, [0, 1, 2, 3, 4, 5].map(id)).oldest(0);
    Segment::attach(memory.region(), &known).ok()
}

/// The parts lie in the first `len` bytes, behind the header and an entry each, and apart.
fn check_places(memory: &Memory, len: usize, segment: &Segment<'_, 6>, ids: &[PartId]) {
    assert!(segment.size() <= len as u64);
    let base = memory.base().addr().get();
    let mut places: Vec<_> = ids
        .iter()
        .filter_map(|id| segment.part(*id))
        .map(|part| (part.base().addr().get() - base, part.len()))
        .collect();
    // The same id may be asked for twice.
    places.sort_unstable();
    places.dedup();
    let mut before = HEADER + if places.is_empty() { 0 } else { ENTRY };
    for (offset, length) in places {
        assert!(offset >= before, "a part over another");
        before = offset + length;
        assert!(before as u64 <= segment.size(), "a part outside");
    }
    let _ = (segment.state(), segment.owner(), segment.own(), segment.version());
    let _ = segment.confirm();
    assert_eq!(
        segment.require(PartId { kind: Kind(999), role: 0 }).map(drop).err().map(|_| ()),
        Some(())
    );
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Use {
    Poke(u16, Value),
    Attach,
    Find,
    Scan(u64, u64),
    Request(u8, u8),
    Serve(u8, bool),
    Recover(u8),
    Receive(u8),
    Claim(u8),
}

const GROUPS: Shape = Shape::new(GroupShape::new(2, 2), GroupShape::new(1, 1));
const PLACES: [Place; 4] = [
    Place { group: Group::Normal, worker: 0 },
    Place { group: Group::Normal, worker: 1 },
    Place { group: Group::Vip, worker: 0 },
    // There is none.
    Place { group: Group::Vip, worker: 1 },
];

/// The lanes of a service, or a registry of nodes, whose every word may be overwritten between
/// operations: no panic, no access outside, no endless loop. As long as nothing was, attaching
/// succeeds.
pub fn layouts(data: &[u8]) {
    let mut u = Unstructured::new(data);
    // Too few bytes are no fault.
    let _ = match u.arbitrary() {
        Ok(true) => run_lrpc(&mut u),
        _ => run_phoenix(&mut u),
    };
}

fn run_phoenix(u: &mut Unstructured<'_>) -> Result<()> {
    let memory = Memory::new(GROUPS.required_size().expect("small"), u.arbitrary()?);
    // SAFETY: one thread alone.
    let created = unsafe { PhoenixShmLayout::init_at(memory.region(), &GROUPS, owner(1)) };
    let (mut layout, _control) = created.expect("a valid shape");
    let mut touched = false;
    let mut clients: [Option<Client<'_>>; 4] = [const { None }; 4];
    let mut workers: [Option<Worker<'_>>; 4] = [const { None }; 4];
    let (mut next, mut noted) = (1, Vec::new());
    for _ in 0..MOST_OPS {
        if u.is_empty() {
            break;
        }
        match u.arbitrary()? {
            Use::Poke(at, value) => {
                poke(&memory, at, value);
                touched = true;
            }
            Use::Attach => {
                let valid = PhoenixShmLayout::is_valid(&memory.region());
                // SAFETY: one thread alone, which holds no reference into the memory while it
                // overwrites words.
                let attached = unsafe { PhoenixShmLayout::attach(memory.region()) };
                assert_eq!(valid, attached.is_ok());
                assert!(valid || touched);
                // Ends of the old one go on by its facts, which may no longer be those.
                if let Ok(attached) = attached {
                    (clients, workers) = ([const { None }; 4], [const { None }; 4]);
                    layout = attached;
                }
            }
            Use::Find => {
                for group in [Group::Normal, Group::Vip] {
                    let best =
                        layout.find_best_by(group, |n| layout.load(Place { group, worker: n }));
                    assert!(best.is_none_or(|best| best < layout.workers(group)));
                }
                let _ = (layout.find_best_normal(), layout.find_best_vip());
                assert!(layout.normal_channel(layout.workers(Group::Normal)).is_none());
            }
            Use::Scan(now, threshold) => {
                let suspects = noted.iter().filter_map(|noted| layout.confirm(noted)).count();
                assert!(suspects <= noted.len());
                noted = layout.scan_crashed(now, threshold).take(8).collect();
            }
            Use::Claim(n) => {
                let n = usize::from(n % 4);
                let Some(channel) = layout.channel(PLACES[n]) else { continue };
                let lane =
                    layout.lane(PLACES[n].group, PLACES[n].worker).expect("there is a channel");
                if clients[n].is_none() {
                    clients[n] = channel.claim_client(owner(1)).ok();
                }
                if workers[n].is_none() {
                    workers[n] = channel.claim_worker(owner(2), lane).ok();
                }
            }
            Use::Request(n, length) => {
                if let Some(client) = &mut clients[usize::from(n % 4)] {
                    next += u64::from(client.request(next, 1001, &vec![1; length.into()]).is_ok());
                }
            }
            Use::Serve(n, dies) => {
                let n = usize::from(n % 4);
                let Some(mut worker) = workers[n].take() else { continue };
                let Some(monitor) = layout.monitor(PLACES[n]) else { continue };
                let mut monitor = monitor.writer();
                let mut died = false;
                if let Ok(request) = worker.peek()
                    && let Ok(mut work) = request.begin(&mut monitor, next)
                {
                    let answered = work.reply(MsgStatus::Completed, b"").is_ok();
                    died = dies || !answered;
                    if died { std::mem::forget(work) } else { drop(work) }
                }
                let _ = worker.discard_malformed();
                if died {
                    std::mem::forget(worker);
                } else {
                    workers[n] = Some(worker);
                }
            }
            Use::Recover(n) => {
                let n = usize::from(n % 4);
                std::mem::forget(workers[n].take());
                let Some(monitor) = layout.monitor(PLACES[n]) else { continue };
                let mut monitor = monitor.recover_writer(dead(2));
                workers[n] =
                    match layout.recover_crashed(PLACES[n], dead(2), owner(2), &mut monitor) {
                        Ok(Recovered::Nothing(worker) | Recovered::Answered(_, worker)) => {
                            Some(worker)
                        }
                        Ok(Recovered::Poison(poison)) => Some(poison.skip()),
                        Err(_) => None,
                    };
                monitor.reset();
            }
            Use::Receive(n) => {
                if let Some(client) = &mut clients[usize::from(n % 4)] {
                    match client.response() {
                        Ok(response) => response.release(),
                        Err(_) => drop(client.discard_malformed()),
                    }
                }
            }
        }
    }
    drop((clients, workers));
    memory.check_guards();
    Ok(())
}

fn run_lrpc(u: &mut Unstructured<'_>) -> Result<()> {
    const NODES: lrpc::Shape = lrpc::Shape::new(3, 64);
    let memory = Memory::new(NODES.required_size().expect("small"), u.arbitrary()?);
    // SAFETY: one thread alone.
    let created = unsafe { LrpcLayout::init_at(memory.region(), NODES, owner(1)) };
    let (mut layout, _control) = created.expect("a valid shape");
    let mut touched = false;
    let mut registered: Vec<Registered<'_>> = Vec::new();
    for _ in 0..MOST_OPS {
        if u.is_empty() {
            break;
        }
        match u.arbitrary()? {
            Use::Poke(at, value) => {
                poke(&memory, at, value);
                touched = true;
            }
            Use::Attach => {
                let attached = LrpcLayout::attach(memory.region());
                assert_eq!(LrpcLayout::is_valid(&memory.region()), attached.is_ok());
                assert!(touched || attached.is_ok());
                layout = attached.unwrap_or(layout);
            }
            Use::Find | Use::Receive(_) => {
                for node in layout.nodes().flatten() {
                    let found = layout.find(&node.id).expect("nobody writes");
                    assert!(found.is_some(), "{node:?}");
                    assert!(layout.channel(node.channel).is_some(), "{node:?}");
                    let _ = layout.silent_for(node.key, 5);
                }
                assert!(layout.channel(layout.shape().channels).is_none());
            }
            Use::Request(name, _) | Use::Claim(name) => {
                let name = [b'a' + name % 4];
                let id = NodeId::new(&name).expect("a letter");
                if let Ok(node) = layout.register(owner(2), &id, 1, 2) {
                    assert!(touched || layout.find(&id).is_ok_and(|found| found.is_some()));
                    registered.push(node);
                }
                assert!(touched || registered.len() <= 3);
            }
            Use::Serve(n, dies) => {
                if !registered.is_empty() {
                    let mut node = registered.swap_remove(usize::from(n) % registered.len());
                    node.beat(n.into());
                    if dies {
                        node.into_slot().keep();
                    }
                }
            }
            Use::Recover(_) => {
                for node in registered.drain(..) {
                    node.into_slot().keep();
                }
                let recovered = layout.registry().release_all_of(dead(2), owner(3));
                assert!(recovered.is_ok());
                assert!(touched || layout.nodes().count() == 0);
            }
            Use::Scan(fill, _) => {
                let field = fill.to_le_bytes().repeat(8);
                let field = field.first_chunk().expect("64 bytes");
                if let Ok(id) = NodeId::from_field(*field) {
                    assert_eq!(id.to_field(), *field);
                }
            }
        }
    }
    drop(registered);
    memory.check_guards();
    Ok(())
}
