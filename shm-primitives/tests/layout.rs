//! Layouts of whole segments: sizes, places, who has least to do, and who may have crashed.

mod common;

use common::memory::Memory;
use common::{dead, owner};
use proptest::prelude::*;
use shm_primitives::channel::{Client, Lane, Recovered, Worker};
use shm_primitives::layout::phoenix::{
    self, GroupShape, Load, Noted, PhoenixShmLayout, Place, Shape,
};
use shm_primitives::message::MsgStatus;
use shm_primitives::monitor::{Group, MonitorWriter};
use shm_primitives::part::{AttachError, ClaimError, Corrupt, Kind};
use shm_primitives::segment::{Control, SegmentError};
use std::collections::BTreeSet;

/// Two normal workers and one VIP worker, each lane for two messages.
const SHAPE: Shape = Shape::new(GroupShape::new(2, 2), GroupShape::new(1, 2));
const CALLER: u32 = 1;
const SUPERVISOR: u32 = 2;
/// Worker n of a group is owner 10 + n.
const WORKERS: u32 = 10;

/// Memory for the rest of the test.
fn memory(shape: &Shape) -> &'static Memory {
    Box::leak(Box::new(Memory::new(shape.required_size().unwrap(), 0x5a)))
}

type Layout = PhoenixShmLayout<'static>;

fn create(memory: &'static Memory, shape: &Shape) -> (Layout, Control<'static>) {
    // SAFETY: nobody else creates anything in this memory.
    unsafe { PhoenixShmLayout::init_at(memory.region(), shape, owner(CALLER)) }.unwrap()
}

fn attach(memory: &'static Memory) -> Result<Layout, SegmentError> {
    // SAFETY: whoever writes to it keeps the protocol, or has no handle.
    unsafe { PhoenixShmLayout::attach(memory.region()) }
}

fn normal(worker: usize) -> Place {
    Place { group: Group::Normal, worker }
}

fn worker(layout: &Layout, place: Place) -> Worker<'static> {
    let lane = layout.lane(place.group, place.worker).unwrap();
    let id = owner(WORKERS + place.worker as u32);
    layout.channel(place).unwrap().claim_worker(id, lane).unwrap()
}

fn client(layout: &Layout, place: Place) -> Client<'static> {
    layout.channel(place).unwrap().claim_client(owner(CALLER)).unwrap()
}

/// Serves the next request, which has this sequence id.
fn serve(worker: &mut Worker<'_>, monitor: &mut MonitorWriter<'_>, id: u64) {
    let mut work = worker.peek().unwrap().begin(monitor, 0).unwrap();
    assert_eq!(work.header().seq_id(), id);
    work.reply(MsgStatus::Completed, b"").unwrap();
    work.finish().unwrap();
}

mod shapes {
    use super::*;

    // In const context, and nothing but the rings takes room worth mentioning.
    const DEFAULT: usize = PhoenixShmLayout::required_size(&Shape::DEFAULT).unwrap();
    const RINGS: usize = (4 * (128 + 256) + 2 * (32 + 64)) << 10;
    const _: () = assert!(DEFAULT > RINGS && DEFAULT < RINGS + 8192);

    #[test]
    fn the_default() {
        let shape = Shape::default();
        assert_eq!((shape.normal.workers, shape.normal.messages), (4, 1024));
        assert_eq!((shape.vip.workers, shape.vip.messages), (2, 256));
        assert_eq!(shape.required_size(), Some(DEFAULT));
        let normal = shape.normal.channel().unwrap();
        assert_eq!((normal.requests.capacity, normal.responses.capacity), (128 << 10, 256 << 10));
        assert!(normal.max_calls() >= 1024);
        let memory = memory(&shape);
        let (layout, _control) = create(memory, &shape);
        assert_eq!(layout.shape(), shape);
        assert_eq!(attach(memory).unwrap().shape(), shape);
    }

    #[test]
    fn impossible() {
        let group = GroupShape::new;
        for shape in [
            group(GroupShape::MAX_WORKERS + 1, 1),
            group(1, 0),
            group(1, u32::MAX),
            group(1, 1).message_size(u32::MAX),
            group(u32::MAX, u32::MAX).message_size(u32::MAX).reply_size(u32::MAX, u32::MAX),
            group(1, 1).reply_size(1 << 30, 0),
            group(1, 1).reply_size(0, 1 << 30),
            group(1, 1 << 24).message_size(64),
        ] {
            for shape in [Shape::new(shape, group(1, 1)), Shape::new(group(1, 1), shape)] {
                assert_eq!(shape.required_size(), None, "{shape:?}");
                let memory = Memory::new(4096, 0x5a);
                // SAFETY: nobody else creates anything in this memory.
                let created =
                    unsafe { PhoenixShmLayout::init_at(memory.region(), &shape, owner(CALLER)) };
                let impossible = SegmentError::Impossible("there is no such shape");
                assert_eq!(created.map(drop).unwrap_err(), impossible);
                assert!(memory.bytes().iter().all(|byte| *byte == 0x5a));
            }
        }
        assert!(
            Shape::new(group(GroupShape::MAX_WORKERS, 1), group(0, 0)).required_size().is_some()
        );
    }

    /// A group without workers is no part at all.
    #[test]
    fn without_a_group() {
        for [normal, vip] in [[2, 0], [0, 2], [0, 0]] {
            let shape = Shape::new(GroupShape::new(normal, 1), GroupShape::new(vip, 1)).lane(9);
            let memory = memory(&shape);
            let (layout, _control) = create(memory, &shape);
            for layout in [layout, attach(memory).unwrap()] {
                let workers = [Group::Normal, Group::Vip].map(|group| layout.workers(group));
                assert_eq!(workers, [normal as usize, vip as usize]);
                assert_eq!(layout.normal_channel(0).is_some(), normal > 0);
                assert_eq!(layout.vip_monitor(0).is_some(), vip > 0);
                assert_eq!(layout.find_best_vip(), None);
                assert_eq!(layout.shape().lane, 9);
            }
        }
    }

    /// Frames that fill a power of two exactly: the ring's free word needs room too.
    #[test]
    fn room_to_the_byte() {
        // 40 bytes with their headers, and 24 wasted behind each.
        let group = GroupShape::new(1, 16).message_size(16);
        assert_eq!(group.channel().unwrap().requests.capacity, 2048);
        let shape = Shape::new(group, GroupShape::new(0, 1));
        let (layout, _control) = create(memory(&shape), &shape);
        let mut client = client(&layout, normal(0));
        for id in 1..=16 {
            assert_eq!(client.request(id, 1001, &[0; 16]), Ok(()), "request {id}");
        }
    }

    fn group() -> impl Strategy<Value = GroupShape> {
        (1..40u32, 0..300u32, 0..300u32, 0..100u32).prop_map(|(messages, size, reply, progress)| {
            GroupShape::new(1, messages).message_size(size).reply_size(reply, progress)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 300,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        /// Wherever in the rings it begins, a lane takes all the messages it was made for, and
        /// the worker finds room for all replies to them.
        #[test]
        fn room(group in group(), before in 0..200u32, sizes: [u8; 16]) {
            let shape = Shape::new(group, GroupShape::new(0, 1));
            let memory = Memory::new(shape.required_size().unwrap(), 0x5a);
            // SAFETY: nobody else creates anything in this memory.
            let created =
                unsafe { PhoenixShmLayout::init_at(memory.region(), &shape, owner(CALLER)) };
            let (layout, _control) = created.unwrap();
            let channel = layout.normal_channel(0).unwrap();
            let mut client = channel.claim_client(owner(CALLER)).unwrap();
            let mut worker =
                channel.claim_worker(owner(WORKERS), layout.lane(Group::Normal, 0).unwrap()).unwrap();
            let mut monitor = layout.normal_monitor(0).unwrap().writer();
            let bytes = [7; 300];
            // Of every length up to the most, in some order.
            let up_to = |most: u32, n: u32| {
                let of = u32::from(sizes[n as usize % sizes.len()]);
                &bytes[..(most * of).div_ceil(255) as usize]
            };
            let mut serve_one = |n: u32| {
                let mut work = worker.peek().unwrap().begin(&mut monitor, 0).unwrap();
                let reported = work.reply_progress(up_to(group.progress_size, n));
                assert!(reported.is_ok(), "no room for a report: {reported:?}");
                let replied = work.reply(MsgStatus::Completed, up_to(group.reply_size, n));
                assert!(replied.is_ok(), "no room for a reply: {replied:?}");
                work.finish().unwrap();
            };
            let mut id = 0;
            for n in 0..before {
                id += 1;
                client.request(id, 1001, up_to(group.message_size, n)).unwrap();
                serve_one(n);
                while let Ok(response) = client.response() {
                    response.release();
                }
            }
            for n in 0..group.messages {
                id += 1;
                let sent = client.request(id, 1001, up_to(group.message_size, n));
                prop_assert_eq!(sent, Ok(()), "message {} of {}", n, group.messages);
            }
            (0..group.messages).for_each(&mut serve_one);
            let mut finals = 0;
            while let Ok(response) = client.response() {
                finals += u32::from(response.status().is_final());
                response.release();
            }
            prop_assert_eq!(finals, group.messages);
        }
    }
}

/// Everybody sees the same lanes, each its own.
#[test]
fn places() {
    let memory = memory(&SHAPE);
    let (caller, _control) = create(memory, &SHAPE);
    let serving = attach(memory).unwrap();
    assert_eq!((caller.workers(Group::Normal), caller.workers(Group::Vip)), (2, 1));
    assert_eq!(caller.lane(Group::Normal, 2), None);
    assert_eq!(caller.lane(Group::Vip, 1), None);
    assert!(caller.normal_channel(2).is_none() && caller.vip_channel(1).is_none());
    assert!(caller.normal_monitor(2).is_none() && caller.vip_monitor(usize::MAX).is_none());
    let places = [normal(0), normal(1), Place { group: Group::Vip, worker: 0 }];
    let mut clients = places.map(|place| client(&caller, place));
    let mut workers = places.map(|place| worker(&serving, place));
    for (id, client) in (1..).zip(&mut clients) {
        client.request(id, 1001, b"").unwrap();
    }
    for ((id, worker), place) in (1..).zip(&mut workers).zip(places) {
        let monitor = serving.monitor(place).unwrap();
        let mut monitor = monitor.writer();
        let work = worker.peek().unwrap().begin(&mut monitor, id).unwrap();
        assert_eq!(work.header().seq_id(), id);
        std::mem::forget(work);
    }
    for (id, place) in (1..).zip(places) {
        let seen = caller.monitor(place).unwrap().snapshot().unwrap();
        assert_eq!((seen.processing_seq(), seen.start()), (Some(id), Some(id)));
        assert_eq!((seen.group(), seen.worker()), (Some(place.group), Some(place.worker as u16)));
    }
    let lane = Lane { group: Group::Vip, worker: 0, lane: 0, epoch: caller.segment().epoch() };
    assert_eq!(caller.lane(Group::Vip, 0), Some(lane));
    assert_eq!(caller.normal_monitor(1).unwrap().snapshot().unwrap().processing_seq(), Some(2));
    assert_eq!(caller.vip_monitor(0).unwrap().snapshot().unwrap().processing_seq(), Some(3));
    std::mem::forget(workers);
}

/// Creating, attaching and taking ends touches what `heads` says and nothing else; a call, the
/// lane besides.
#[test]
fn what_is_touched() {
    for [normal, vip] in [[2, 1], [3, 0], [0, 2]] {
        let shape = Shape::new(GroupShape::new(normal, 32), GroupShape::new(vip, 16));
        let memory = memory(&shape);
        let size = shape.required_size().unwrap();
        let mut heads: Vec<_> = shape.heads().collect();
        heads.sort_by_key(|head| head.start);
        assert!(heads.is_sorted_by(|a, b| a.end <= b.start), "{heads:?}");
        assert!(heads.iter().all(|head| head.end <= size), "{heads:?}");
        let untouched = |besides: &std::ops::Range<usize>| {
            let mine = |at: &usize| !heads.iter().any(|head| head.contains(at));
            (0..size)
                .step_by(4)
                .filter(mine)
                .filter(|at| !besides.contains(at))
                .all(|at| memory.get(at) == 0x5a5a_5a5a)
        };
        let (layout, _control) = create(memory, &shape);
        let places = [Group::Normal, Group::Vip].into_iter().flat_map(|group| {
            (0..layout.workers(group)).map(move |worker| Place { group, worker })
        });
        let places: Vec<_> = places.collect();
        let serving = attach(memory).unwrap();
        let mut clients: Vec<_> = places.iter().map(|place| client(&layout, *place)).collect();
        let mut workers: Vec<_> = places.iter().map(|place| worker(&serving, *place)).collect();
        assert!(workers.iter_mut().all(Worker::is_request_empty));
        assert!(untouched(&(0..0)), "{shape:?}");
        let (last, lane) = (places.len() - 1, shape.place_of(places[places.len() - 1]).unwrap());
        let mut monitor = layout.monitor(places[last]).unwrap().writer();
        for id in 1..100 {
            clients[last].request(id, 1001, &[1; 64]).unwrap();
            serve(&mut workers[last], &mut monitor, id);
            clients[last].response().unwrap().release();
        }
        assert!(untouched(&lane) && !untouched(&(0..0)), "{shape:?}");
        assert_eq!(shape.place_of(Place { group: Group::Normal, worker: normal as usize }), None);
        assert_eq!(shape.place_of(Place { group: Group::Vip, worker: vip as usize }), None);
    }
    assert_eq!(Shape::new(GroupShape::new(0, 1), GroupShape::new(0, 1)).heads().count(), 1);
}

/// It is shared between threads.
#[test]
fn threads() {
    let memory = memory(&SHAPE);
    let (layout, _control) = create(memory, &SHAPE);
    let _worker = worker(&layout, normal(1));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| assert_eq!(layout.find_best_normal(), Some(1)));
        }
    });
}

mod least {
    use super::*;

    const SHAPE: Shape = Shape::new(GroupShape::new(3, 100), GroupShape::new(2, 100));

    #[test]
    fn the_load_of_each() {
        let memory = memory(&SHAPE);
        let (layout, _control) = create(memory, &SHAPE);
        assert_eq!(layout.load(normal(0)), None, "nobody serves it");
        assert_eq!(layout.load(normal(3)), None, "no such worker");
        assert_eq!((layout.find_best_normal(), layout.find_best_vip()), (None, None));
        let mut serving = worker(&layout, normal(0));
        let idle = Load { queued: 0, processing: false };
        assert_eq!(layout.load(normal(0)), Some(idle));
        let mut client = client(&layout, normal(0));
        // 88 bytes in the ring each, two of them in three lines: 960 bytes.
        for id in 1..=10 {
            client.request(id, 1001, &[0; 64]).unwrap();
        }
        let queued = layout.load(normal(0)).unwrap().queued;
        assert!((960 - 512..=960).contains(&queued), "{queued}");
        let mut monitor = layout.normal_monitor(0).unwrap().writer();
        let work = serving.peek().unwrap().begin(&mut monitor, 0).unwrap();
        assert_eq!(layout.load(normal(0)), Some(Load { queued, processing: true }));
        work.give_back();
        for id in 1..=10 {
            serve(&mut serving, &mut monitor, id);
        }
        // The reader is ahead of what the writer has stored.
        assert_eq!(layout.load(normal(0)), Some(idle));
        drop(serving);
        assert_eq!(layout.load(normal(0)), None);
    }

    #[test]
    fn in_turn_where_all_are_alike() {
        let memory = memory(&SHAPE);
        let (layout, _control) = create(memory, &SHAPE);
        let _workers = [0, 1, 2].map(|n| worker(&layout, normal(n)));
        let found: Vec<_> = (0..7).map(|_| layout.find_best_normal().unwrap()).collect();
        assert_eq!(found, [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(layout.find_best_vip(), None, "the other group has none");
        let vip = Place { group: Group::Vip, worker: 1 };
        let _vip = worker(&layout, vip);
        assert_eq!([layout.find_best_vip(), layout.find_best_vip()], [Some(1); 2]);
    }

    #[test]
    fn the_least() {
        let memory = memory(&SHAPE);
        let (layout, _control) = create(memory, &SHAPE);
        let mut workers = [0, 1, 2].map(|n| worker(&layout, normal(n)));
        let mut clients = [0, 1, 2].map(|n| client(&layout, normal(n)));
        for (client, requests) in clients.iter_mut().zip([40, 10, 20]) {
            for id in 1..=requests {
                client.request(id, 1001, &[0; 64]).unwrap();
            }
        }
        assert_eq!([layout.find_best_normal(), layout.find_best_normal()], [Some(1); 2]);
        let mut monitor = layout.normal_monitor(0).unwrap().writer();
        (1..=40).for_each(|id| serve(&mut workers[0], &mut monitor, id));
        assert_eq!([layout.find_best_normal(), layout.find_best_normal()], [Some(0); 2]);
        // The caller's own count is exact.
        let outstanding = |n: usize| Some(clients[n].outstanding());
        assert_eq!(layout.find_best_by(Group::Normal, outstanding), Some(1));
        let but_1 = |n: usize| outstanding(n).filter(|_| n != 1);
        assert_eq!(layout.find_best_by(Group::Normal, but_1), Some(2));
        assert_eq!(layout.find_best_by(Group::Normal, |_| None::<u32>), None);
    }

    /// Of idle workers and one that has a message in hand, an idle one.
    #[test]
    fn not_the_busy_one() {
        let memory = memory(&SHAPE);
        let (layout, _control) = create(memory, &SHAPE);
        let mut workers = [0, 1].map(|n| worker(&layout, normal(n)));
        let mut client = client(&layout, normal(0));
        client.request(1, 1001, b"").unwrap();
        let mut monitor = layout.normal_monitor(0).unwrap().writer();
        let work = workers[0].peek().unwrap().begin(&mut monitor, 0).unwrap();
        let found: Vec<_> = (0..3).map(|_| layout.find_best_normal().unwrap()).collect();
        assert_eq!(found, [1, 1, 1]);
        work.give_back();
    }
}

mod crashed {
    use super::*;

    /// A worker, which has begun message 1 at 1000.
    struct Fixture {
        layout: Layout,
        _control: Control<'static>,
        client: Client<'static>,
        worker: Worker<'static>,
        monitor: MonitorWriter<'static>,
    }

    fn fixture() -> Fixture {
        let memory = memory(&SHAPE);
        let (layout, _control) = create(memory, &SHAPE);
        let monitor = layout.normal_monitor(1).unwrap().writer();
        let worker = worker(&layout, normal(1));
        let mut client = client(&layout, normal(1));
        client.request(1, 1001, b"boom").unwrap();
        client.request(2, 1001, b"next").unwrap();
        Fixture { layout, _control, client, worker, monitor }
    }

    fn scan(layout: &Layout, now: u64, threshold: u64) -> Vec<Noted> {
        layout.scan_crashed(now, threshold).collect()
    }

    #[test]
    fn noted_after_the_threshold() {
        let Fixture { layout, mut worker, mut monitor, .. } = fixture();
        assert_eq!(scan(&layout, u64::MAX, 0), [], "nothing in hand");
        let work = worker.peek().unwrap().begin(&mut monitor, 1000).unwrap();
        assert_eq!(scan(&layout, 1499, 500), []);
        let noted = scan(&layout, 1500, 500);
        assert_eq!(noted.len(), 1);
        assert_eq!((noted[0].place(), noted[0].transaction().seq_id), (normal(1), 1));
        assert_eq!(scan(&layout, 500, 1), [], "begun later than now");
        // Both groups are looked at.
        let vip = layout.vip_monitor(0).unwrap();
        let transaction = noted[0].transaction();
        vip.writer().begin(&transaction).unwrap();
        let places: Vec<_> = layout.scan_crashed(1500, 500).map(|noted| noted.place()).collect();
        assert_eq!(places, [normal(1), Place { group: Group::Vip, worker: 0 }]);
        work.give_back();
    }

    #[test]
    fn confirmed_only_at_the_same_message() {
        let Fixture { layout, mut worker, mut monitor, .. } = fixture();
        let note = |layout: &Layout| scan(layout, 2000, 500)[0];
        let mut work = worker.peek().unwrap().begin(&mut monitor, 1000).unwrap();
        let noted = note(&layout);
        let suspect = layout.confirm(&noted).unwrap();
        assert_eq!((suspect.place(), suspect.owner()), (normal(1), Some(owner(WORKERS + 1))));
        assert_eq!(suspect.transaction(), noted.transaction());
        // It reports: alive.
        assert_eq!(work.reply_progress(b"half"), Ok(true));
        work.reply(MsgStatus::Completed, b"").unwrap();
        assert_eq!(layout.confirm(&noted), None);
        let noted = note(&layout);
        work.finish().unwrap();
        assert_eq!(layout.confirm(&noted), None, "idle");
        // The next message, of the same start.
        let work = worker.peek().unwrap().begin(&mut monitor, 1000).unwrap();
        assert_eq!(layout.confirm(&noted), None, "another message");
        std::mem::forget(work);
        // Noted in another segment, with more workers.
        let shape = Shape::new(GroupShape::new(1, 2), GroupShape::new(1, 2));
        let (other, _control) = create(memory(&shape), &shape);
        assert_eq!(other.confirm(&noted), None);
    }

    #[test]
    fn recovered_with_proof() {
        let Fixture { layout, mut client, mut worker, mut monitor, .. } = fixture();
        let work = worker.peek().unwrap().begin(&mut monitor, 1000).unwrap();
        std::mem::forget(work);
        std::mem::forget(worker); // dies
        let suspect = layout.confirm(&scan(&layout, 2000, 500)[0]).unwrap();
        let died = dead(WORKERS + 1);
        let mut monitor = layout.monitor(suspect.place()).unwrap().recover_writer(died);
        let mut recover = |place, dead| {
            let recovered = layout.recover_crashed(place, dead, owner(SUPERVISOR), &mut monitor);
            recovered.map(|recovered| match recovered {
                Recovered::Poison(mut poison) => {
                    assert_eq!(poison.doubt(), None);
                    assert_eq!(&*poison.request().unwrap(), b"boom");
                    poison.skip()
                }
                _ => panic!("{recovered:?}"),
            })
        };
        let claim = |found| ClaimError::NotTheOwner { found };
        let no_place = ClaimError::NoSuchPlace { found: 2, places: 2 };
        let id = Some(owner(WORKERS + 1));
        assert_eq!(recover(normal(1), dead(7)).map(drop), Err(claim(id)));
        assert_eq!(recover(normal(0), died).map(drop), Err(claim(None)));
        assert_eq!(recover(normal(2), died).map(drop), Err(no_place));
        let mut worker = recover(normal(1), died).unwrap();
        monitor.reset();
        assert_eq!(scan(&layout, u64::MAX, 0), []);
        // What was queued behind it is served.
        serve(&mut worker, &mut monitor, 2);
        assert_eq!(client.response().unwrap().header().seq_id(), 2);
    }
}

mod headers {
    use super::*;

    /// Offsets in the segment: the normal group's part, then its words.
    const PART: usize = 128;
    const MONITORS: usize = 64;
    const CHANNELS: usize = 64 + 2 * 64;
    const LANE: usize = (256 + 512) + (256 + 512);

    #[test]
    fn the_words_of_a_group() {
        let memory = memory(&SHAPE);
        let (_layout, _control) = create(memory, &SHAPE.lane(5));
        let words: Vec<_> = (0..16).map(|word| memory.get(PART + 4 * word)).collect();
        let magic = u32::from_le_bytes(*b"SHMP");
        let hash = words[3];
        let wanted =
            [magic, 1, 6, hash, 1, 2, 2, 64, 64, 4, 512, 512, 64, 64, CHANNELS as u32, LANE as u32];
        assert_eq!(words, wanted);
        assert_eq!(memory.get(0), 0x5048_4e58);
        assert_eq!((memory.get(8), memory.get(12)), (5, 0), "the lane");
        assert_eq!(memory.get(PART + CHANNELS), magic, "a ring");
        assert_eq!(memory.get(PART + CHANNELS + LANE), magic, "the next lane's");
        assert!((0..16).all(|word| memory.get(PART + MONITORS + 4 * word) == 0), "a monitor");
    }

    #[test]
    fn spoilt() {
        use AttachError::*;
        let corrupt =
            |what, found, limit| AttachError::Corrupt(super::Corrupt { what, found, limit });
        let magic = u32::from_le_bytes(*b"SHMP");
        let hash = {
            let memory = memory(&SHAPE);
            create(memory, &SHAPE);
            memory.get(PART + 12)
        };
        let at = |word: usize| PART + 4 * word;
        let length = CHANNELS + 2 * LANE;
        let table: [(usize, u32, AttachError); 19] = [
            (at(0), 0, WrongMagic { found: 0, wanted: magic }),
            (at(1), 0, WrongVersion { found: 0, wanted: 1 }),
            (at(2), 2, WrongKind { found: Kind::FRAME_RING, wanted: Kind::WORKER_GROUP }),
            (at(3), 1, WrongLayout { found: 1, wanted: hash }),
            (at(4), 2, NewerRequired { found: 2, wanted: 1 }),
            (at(5), 16_385, corrupt("workers of a group", 16_385, 16_384)),
            (at(5), 3, corrupt("offset of the channels", 192, 256)),
            (at(8), 1 << 20, corrupt("packing, checksums or limits in the lane of worker", 0, 2)),
            (at(10), 500, BadCapacity { found: 500, maximum: 1 << 30 }),
            (
                at(10),
                1024,
                corrupt("bytes from channel to channel", LANE as u32, LANE as u32 + 512),
            ),
            (at(11), 256, BadCapacity { found: 256, maximum: 1 << 30 }),
            (PART + CHANNELS + 20, 1024, UnexpectedCapacity { found: 1024, wanted: 512 }),
            (at(12), 60, corrupt("offset of the monitors", 60, 64)),
            (at(13), 0, corrupt("bytes from monitor to monitor", 0, 64)),
            (at(14), 200, corrupt("offset of the channels", 200, 192)),
            (at(14), 256, TooSmall { found: length, wanted: length + 64 }),
            (
                at(15),
                LANE as u32 + 4,
                corrupt("bytes from channel to channel", LANE as u32 + 4, LANE as u32),
            ),
            (at(15), 1 << 31, TooSmall { found: length, wanted: CHANNELS + (2 << 31) }),
            // A ring of the second lane is packed densely.
            (
                PART + CHANNELS + LANE + 28,
                2 << 8,
                corrupt("packing, checksums or limits in the lane of worker", 1, 2),
            ),
        ];
        let mut texts = BTreeSet::new();
        for (offset, value, wanted) in table {
            let memory = memory(&SHAPE);
            create(memory, &SHAPE);
            memory.set(offset, value);
            let before = memory.bytes();
            let wanted = SegmentError::Part { part: phoenix::part(Group::Normal), error: wanted };
            assert_eq!(attach(memory).map(drop), Err(wanted), "{value} at {offset}");
            assert!(!PhoenixShmLayout::is_valid(&memory.region()));
            assert!(memory.bytes() == before, "written to while declining: {wanted}");
            assert!(texts.insert(wanted.to_string()), "twice: {wanted}");
        }
        let memory = memory(&SHAPE);
        create(memory, &SHAPE);
        assert!(PhoenixShmLayout::is_valid(&memory.region()));
        // Fewer workers than there is room for: what stands behind them is none.
        memory.set(at(5), 1);
        let layout = attach(memory).unwrap();
        assert!(layout.normal_channel(0).is_some() && layout.normal_channel(1).is_none());
        assert!(layout.normal_monitor(1).is_none() && layout.load(normal(1)).is_none());
        memory.set(8, 1 << 16);
        let lane = super::Corrupt { what: "number of the lane", found: 1 << 16, limit: 0xffff };
        assert_eq!(attach(memory).map(drop), Err(SegmentError::Corrupt(lane)));
    }

    /// Nobody attaches to what is not there, and creating it again makes another epoch.
    #[test]
    fn again() {
        let memory = memory(&SHAPE);
        assert!(!PhoenixShmLayout::is_valid(&memory.region()));
        let (first, control) = create(memory, &SHAPE);
        let mut client = client(&first, normal(0));
        client.request(1, 1001, b"").unwrap();
        drop((client, control));
        let (second, _control) = create(memory, &SHAPE);
        let (old, new) = (first.segment().epoch(), second.segment().epoch());
        assert_eq!(new, old + 1);
        assert_eq!(second.lane(Group::Normal, 0).unwrap().epoch, new);
        assert!(worker(&second, normal(0)).is_request_empty());
    }
}

/// What each lane's ends say of who has them, through two handles.
#[test]
fn the_ends_are_the_lanes_own() {
    let memory = memory(&SHAPE);
    let (layout, _control) = create(memory, &SHAPE);
    let _client = client(&layout, normal(0));
    let [requests, responses] =
        attach(memory).unwrap().normal_channel(0).unwrap().client().unwrap();
    assert_eq!([requests, responses], [Some(owner(CALLER)); 2]);
    assert_eq!(layout.normal_channel(1).unwrap().client(), Ok([None, None]));
}
