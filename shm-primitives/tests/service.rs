//! The segments of a service: their words, who may be where, and what is no such segment.

mod common;

use common::memory::Memory;
use common::park::FakePark;
use common::{dead, owner};
use proptest::prelude::*;
use shm_primitives::layout::phoenix::GroupShape;
use shm_primitives::layout::service::*;
use shm_primitives::monitor::{Group, Transaction};
use shm_primitives::part::{AttachError, ClaimError, Corrupt, Kind, PartHeader};
use shm_primitives::segment::{Magic, NewPart, PartId, Plan, Segment, SegmentError};
use shm_primitives::sync::Ordering::Relaxed;
use shm_primitives::wake::{Deadline, published};
use std::mem::forget;

const SUPERVISOR: u32 = 1;
const WORKER: u32 = 2;
const CLIENT: u32 = 3;
const HEIR: u32 = 4;

/// Two normal workers and one VIP worker; 40 clients, whose bits take two words.
const SHAPE: Shape =
    Shape::new(GroupShape::new(2, 16), GroupShape::new(1, 4)).clients(40).functions(3);
const CONTROL: usize = SHAPE.control_size().unwrap();
const BELLS: usize = SHAPE.bells_size().unwrap();

// Header and five entries are 224 bytes; each part begins at a line.
const SERVICE_AT: usize = 256;
const ROWS_AT: usize = SERVICE_AT + 128;
const WORKERS_AT: usize = ROWS_AT + 3 * 64;
const FUNCTIONS_AT: usize = WORKERS_AT + 64 + 3 * 64;
const MONITORS_AT: usize = FUNCTIONS_AT + 64 + 3 * 64;
const COUNTERS_AT: usize = MONITORS_AT + 3 * 64;

const WORKER_BELLS_AT: usize = 256;
const CLIENT_BELLS_AT: usize = WORKER_BELLS_AT + 3 * 64;
const READY_AT: usize = CLIENT_BELLS_AT + 40 * 64;
const CLIENTS_AT: usize = READY_AT + 3 * 64;
const CANCELS_AT: usize = CLIENTS_AT + 64 + 40 * 64;

fn leak(len: usize, fill: u8) -> &'static Memory {
    Box::leak(Box::new(Memory::new(len, fill)))
}

fn create_control(shape: &Shape) -> (&'static Memory, ControlLayout<'static>) {
    let memory = leak(shape.control_size().unwrap(), 0x5a);
    // SAFETY: nobody else creates anything in this memory.
    let created = unsafe { ControlLayout::init_at(memory.region(), shape, owner(SUPERVISOR)) };
    let (layout, control) = created.unwrap();
    // The supervisor lives on.
    forget(control);
    (memory, layout)
}

fn create_bells(shape: &Shape) -> (&'static Memory, BellsLayout<'static>) {
    let memory = leak(shape.bells_size().unwrap(), 0x5a);
    // SAFETY: nobody else creates anything in this memory.
    let created = unsafe { BellsLayout::init_at(memory.region(), shape, owner(SUPERVISOR)) };
    let (layout, control) = created.unwrap();
    forget(control);
    (memory, layout)
}

fn run(incarnation: u32) -> Orders {
    Orders { incarnation, order: Order::Run, ..Orders::default() }
}

/// Writes orders as the supervisor would.
fn order(layout: &ControlLayout<'_>, place: u32, orders: Orders) {
    let control = layout.segment().resume_control(owner(SUPERVISOR)).unwrap();
    layout.orders_writer(place, &control).unwrap().write(&orders);
    forget(control);
}

fn offset(memory: &Memory, of: usize) -> usize {
    of - memory.base().addr().get()
}

#[test]
fn sizes() {
    assert_eq!(CONTROL, COUNTERS_AT + 4 * 64);
    assert_eq!(BELLS, CANCELS_AT + 40 * 64);
    assert_eq!((Shape::DEFAULT.workers(), Shape::DEFAULT.clients), (6, 256));
    assert_eq!(Shape::default(), Shape::DEFAULT);
    let group = |workers| GroupShape::new(workers, 1);
    let none = Shape::new(group(0), group(0));
    for (shape, wanted) in [
        (none, "number of worker places: found 0"),
        (Shape::new(group(16385), group(0)).clients(1), "worker places"),
        (Shape::new(group(u32::MAX), group(u32::MAX)).clients(1), "worker places"),
        (Shape::DEFAULT.clients(0), "client places"),
        (Shape::new(group(1), group(0)).clients(4097), "client places"),
        (Shape::new(group(16), group(1)).clients(4096), "number of lanes"),
        (Shape::DEFAULT.functions(0), "number of functions"),
        (Shape::DEFAULT.functions(65537), "number of functions"),
        (Shape::new(GroupShape::new(1, 0), group(1)), "size of the lanes"),
    ] {
        assert_eq!((shape.control_size(), shape.bells_size()), (None, None), "{shape:?}");
        let error = shape.check().unwrap_err();
        assert!(error.to_string().contains(wanted.split(':').next().unwrap()), "{error}");
        assert_eq!(shape.lane(0, 0, 1), None);
        let memory = Memory::new(65536, 0x5a);
        let impossible = SegmentError::Impossible("there is no such shape");
        // SAFETY: nobody else creates anything in this memory.
        let control = unsafe { ControlLayout::init_at(memory.region(), &shape, owner(1)) };
        assert_eq!(control.map(drop).unwrap_err(), impossible, "{shape:?}");
        // SAFETY: as above.
        let bells = unsafe { BellsLayout::init_at(memory.region(), &shape, owner(1)) };
        assert_eq!(bells.map(drop).unwrap_err(), impossible, "{shape:?}");
        assert!(memory.bytes().iter().all(|byte| *byte == 0x5a), "{shape:?}");
    }
    // The largest there are.
    for shape in [
        Shape::new(group(16), group(0)).clients(4096),
        Shape::new(group(16383), group(1)).clients(4),
        Shape::new(group(0), group(1)).clients(1),
    ] {
        assert!(shape.control_size().is_some() && shape.bells_size().is_some(), "{shape:?}");
    }
    let memory = Memory::new(CONTROL, 0x5a);
    for (at, len) in [(0, CONTROL - 1), (32, CONTROL - 32)] {
        // SAFETY: as above.
        let created = unsafe { ControlLayout::init_at(memory.part(at, len), &SHAPE, owner(1)) };
        let error = created.map(drop).unwrap_err();
        assert!(
            matches!(error, SegmentError::TooSmall { .. } | SegmentError::Misaligned { .. }),
            "{error}"
        );
    }
    assert!(memory.bytes().iter().all(|byte| *byte == 0x5a));
}

/// Places, groups and lanes are told apart by one number.
#[test]
fn numbers() {
    assert_eq!(SHAPE.places(Group::Normal), 0..2);
    assert_eq!(SHAPE.places(Group::Vip), 2..3);
    let groups = [0, 1, 2, 3, u32::MAX].map(|place| SHAPE.group_of(place));
    use Group::{Normal, Vip};
    assert_eq!(groups, [Some(Normal), Some(Normal), Some(Vip), None, None]);
    let place = |place| SHAPE.place(place).map(|found| (found.group, found.worker));
    assert_eq!([place(1), place(2), place(3)], [Some((Normal, 1)), Some((Vip, 0)), None]);
    let lane = SHAPE.lane(2, 39, 7).unwrap();
    assert_eq!((lane.group, lane.worker, lane.lane, lane.epoch), (Vip, 2, 2 * 40 + 39, 7));
    assert!(lane.worker <= Transaction::MAX_WORKER);
    assert_eq!(SHAPE.lane(1, 7, 1).unwrap().lane, 47);
    assert_eq!((SHAPE.lane(3, 0, 1), SHAPE.lane(0, 40, 1)), (None, None));
    // All lanes of all workers have numbers of their own, to the last there can be.
    let largest = Shape::new(GroupShape::new(16, 1), GroupShape::new(0, 1)).clients(4096);
    let last = largest.lane(15, 4095, 1).unwrap();
    assert_eq!((last.worker, last.lane), (15, u16::MAX));
    let mut lanes: Vec<_> =
        (0..3).flat_map(|p| (0..40).map(move |c| SHAPE.lane(p, c, 1).unwrap().lane)).collect();
    lanes.sort_unstable();
    lanes.dedup();
    assert_eq!(lanes.len(), 120);
    let client = SHAPE.client_shape(39);
    assert_eq!((client.normal, client.vip, client.lane), (SHAPE.normal, SHAPE.vip, 39));
}

/// Spares stand behind the others of their group, and a group without workers has none.
#[test]
fn spares_are_places() {
    use Group::{Normal, Vip};
    let shape = SHAPE.spares(2);
    assert_eq!((shape.places(Normal), shape.places(Vip), shape.workers()), (0..4, 4..7, 7));
    assert_eq!((shape.wanted(Normal), shape.wanted(Vip)), (2, 1));
    let groups = [3, 4, 6, 7].map(|place| shape.group_of(place));
    assert_eq!(groups, [Some(Normal), Some(Vip), Some(Vip), None]);
    let place = |place| shape.place(place).map(|found| (found.group, found.worker));
    assert_eq!([place(3), place(4), place(6)], [Some((Normal, 3)), Some((Vip, 0)), Some((Vip, 2))]);
    let client = shape.client_shape(3);
    assert_eq!((client.normal.workers, client.vip.workers), (4, 3));
    assert_eq!(shape.lane(6, 39, 7).unwrap().lane, 6 * 40 + 39);
    let alone = Shape::new(GroupShape::new(0, 1), GroupShape::new(3, 4)).spares(1);
    assert_eq!((alone.places(Normal), alone.places(Vip)), (0..0, 0..4));
    assert!(shape.spares(u32::MAX).check().is_err());
    // As many as there are lanes for, with the spares.
    let full = Shape::new(GroupShape::new(15, 1), GroupShape::new(0, 1)).clients(4096).spares(1);
    assert_eq!((full.check(), full.spares(2).check().is_err()), (Ok(()), true));

    // It stands in the segment, which those that know of no spares do not read.
    let (memory, layout) = create_control(&shape);
    assert_eq!(*layout.shape(), shape);
    let service: Vec<_> = (0..16).map(|word| memory.get(SERVICE_AT + 4 * word)).collect();
    assert_eq!((service[1], service[4], service[9]), (2, 2, 2));
    assert_eq!((service[16 - 1], memory.get(SERVICE_AT + 64)), (0, 2));
    for place in 0..7 {
        order(&layout, place, Orders { condition: Condition::Spare, ..run(place) });
        assert_eq!(layout.orders(place).unwrap().read().unwrap().condition, Condition::Spare);
    }
    assert!(layout.orders(7).is_none() && layout.monitor(7).is_none());
    let (_, bells) = create_bells(&shape);
    assert!(bells.announcer(6, 39).is_some() && bells.announcer(7, 0).is_none());
}

fn header_words(memory: &Memory) -> Vec<u32> {
    (0..13).map(|word| memory.get(4 * word)).collect()
}

fn entry_words(memory: &Memory) -> Vec<[u32; 5]> {
    (0..5).map(|entry| [0, 4, 8, 12, 16].map(|word| memory.get(64 + 32 * entry + word))).collect()
}

/// The layout is an agreement between processes: word by word.
#[test]
fn the_words_of_a_control_segment() {
    let (memory, layout) = create_control(&SHAPE);
    let words = header_words(memory);
    assert_eq!(words[0], 0x5352_5643, "SRVC");
    assert_eq!(words[1..6], [1, 3, 40, 1, 1], "version to state");
    assert_eq!(words[7..], [owner(SUPERVISOR).word(), CONTROL as u32, 0, 64, 32, 5]);
    let line = 6 << 8 | 1;
    assert_eq!(
        entry_words(memory),
        [
            [12, line, SERVICE_AT as u32, 0, 128 + 3 * 64],
            [3, line, WORKERS_AT as u32, 0, 64 + 3 * 64],
            [3, 1 << 16 | line, FUNCTIONS_AT as u32, 0, 64 + 3 * 64],
            [13, line, MONITORS_AT as u32, 0, 3 * 64],
            [11, line, COUNTERS_AT as u32, 0, 4 * 64],
        ]
    );
    let service: Vec<_> = (0..32).map(|word| memory.get(SERVICE_AT + 4 * word)).collect();
    assert_eq!(service[..3], [PartHeader::MAGIC, 1, 12]);
    assert_eq!(service[4..9], [1, 40, 3, 128, 64]);
    assert_eq!(service[9..16], [0; 7]);
    assert_eq!(service[16..26], [2, 16, 64, 64, 4, 1, 4, 64, 64, 4]);
    assert_eq!(service[26..], [0; 6]);
    // Live words and entry of a slot: 4, 16 bytes, in one line.
    assert_eq!([20, 24, 28, 36].map(|at| memory.get(WORKERS_AT + at)), [3, 64, 4, 16]);
    assert_eq!([20, 24, 28, 36].map(|at| memory.get(FUNCTIONS_AT + at)), [3, 64, 0, 12]);
    let bytes = memory.bytes();
    assert!(bytes[ROWS_AT..WORKERS_AT].iter().all(|byte| *byte == 0), "orders");
    assert!(bytes[MONITORS_AT..].iter().all(|byte| *byte == 0), "monitors and counters");

    assert_eq!(*layout.shape(), SHAPE);
    assert_eq!(*ControlLayout::attach(memory.region()).unwrap().shape(), SHAPE);
    assert_eq!(layout.segment().version(), VERSION);
    for place in 0..3 {
        let at = |of: usize, base: usize| offset(memory, of) == base + 64 * place as usize;
        assert!(at((&raw const *layout.orders(place).unwrap()).addr(), ROWS_AT));
        assert!(at((&raw const *layout.monitor(place).unwrap()).addr(), MONITORS_AT));
        assert!(at((&raw const *layout.counters(place).unwrap()).addr(), COUNTERS_AT));
        assert_eq!(layout.orders(place).unwrap().read(), Ok(Orders::default()));
    }
    let last = (&raw const *layout.supervisor_counters()).addr();
    assert_eq!(offset(memory, last), COUNTERS_AT + 3 * 64);
    for place in [3, u32::MAX] {
        assert!(layout.orders(place).is_none());
        assert!(layout.monitor(place).is_none() && layout.counters(place).is_none());
    }
}

#[test]
fn the_words_of_a_segment_of_bells() {
    let (memory, layout) = create_bells(&SHAPE);
    let words = header_words(memory);
    assert_eq!(words[0], 0x4245_4c4c, "BELL");
    assert_eq!(words[1..6], [1, 3, 40, 1, 1], "version to state");
    assert_eq!(words[7..], [owner(SUPERVISOR).word(), BELLS as u32, 0, 64, 32, 5]);
    let line = 6 << 8 | 1;
    assert_eq!(
        entry_words(memory),
        [
            [8, line, WORKER_BELLS_AT as u32, 0, 3 * 64],
            [8, 1 << 16 | line, CLIENT_BELLS_AT as u32, 0, 40 * 64],
            [9, line, READY_AT as u32, 0, 3 * 64],
            [3, line, CLIENTS_AT as u32, 0, 64 + 40 * 64],
            [14, line, CANCELS_AT as u32, 0, 40 * 64],
        ]
    );
    assert_eq!([20, 24, 28, 36].map(|at| memory.get(CLIENTS_AT + at)), [40, 64, 1, 16]);
    let bytes = memory.bytes();
    assert!(bytes[WORKER_BELLS_AT..CLIENTS_AT].iter().all(|byte| *byte == 0));
    assert!(bytes[CANCELS_AT..].iter().all(|byte| *byte == 0));

    // Each word of a place in its place.
    for place in 0..3u32 {
        let bell = layout.worker(place).unwrap();
        let at = WORKER_BELLS_AT + 64 * place as usize;
        assert_eq!(offset(memory, (&raw const *bell.bell()).addr()), at);
        bell.set_sleepless(true);
        bell.serve(2 - place);
        assert_eq!([8, 12].map(|word| memory.get(at + word)), [1, 3 - place]);
        assert_eq!(
            (bell.place(), bell.server(), bell.is_sleepless()),
            (place, Some(2 - place), true)
        );
        bell.ready().mark(33, &published());
        assert_eq!(memory.get(READY_AT + 64 * place as usize + 4), 2);
        assert_eq!(bell.ready().lanes(), 40);
        for client in [0, 39] {
            layout.cancel(place, client).unwrap().ask(0x12_3456_789a);
            assert_eq!(
                memory.get(CANCELS_AT + 64 * client as usize + 4 * place as usize),
                0x3456_789a
            );
        }
    }
    for client in [0, 39] {
        let bell = layout.client(client).unwrap();
        let at = CLIENT_BELLS_AT + 64 * client as usize;
        assert_eq!(offset(memory, (&raw const *bell.bell()).addr()), at);
        bell.set_sleepless(true);
        assert_eq!((memory.get(at + 8), bell.is_sleepless()), (1, true));
    }
    assert!(layout.worker(3).is_none() && layout.client(40).is_none());
    assert!(layout.announcer(3, 0).is_none() && layout.announcer(0, 40).is_none());
    assert!(layout.cancel(3, 0).is_none() && layout.cancel(0, 40).is_none());
    assert_eq!((layout.bells().places(), layout.bells().clients()), (3, 40));
}

/// The words of a row of orders.
#[test]
fn the_words_of_orders() {
    let (memory, layout) = create_control(&SHAPE);
    let orders = Orders {
        incarnation: 7,
        order: Order::Drain,
        helper: Some(2),
        condition: Condition::Suspect,
        restarts: 6,
        cause: Some(Cause::Signalled(9)),
        changed_ms: 0x1_2345_6789,
    };
    order(&layout, 1, orders);
    let row = ROWS_AT + 64;
    let words: Vec<_> = (0..16).map(|word| memory.get(row + 4 * word)).collect();
    assert_eq!(words[..8], [1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(words[8..], [7, 0x0002_0502, 3, 6, 9, 0x2345_6789, 1, 0]);
    assert_eq!(layout.orders(1).unwrap().read(), Ok(orders));
    // The next record is written beside it.
    order(&layout, 1, run(8));
    assert_eq!((memory.get(row), memory.get(row + 4), memory.get(row + 32)), (2, 8, 7));
    assert_eq!(layout.orders(1).unwrap().read(), Ok(run(8)));
    assert_eq!(layout.orders(0).unwrap().read(), Ok(Orders::default()), "another row");
    for (at, value, wanted) in [
        (8, 3, Corrupt { what: "order", found: 3, limit: 2 }),
        (8, 0x801, Corrupt { what: "condition", found: 8, limit: 7 }),
        (8, 0x7_0201, Corrupt { what: "kind of a cause of death", found: 7, limit: 6 }),
        (8, 0x100_0201, Corrupt { what: "kind of a cause of death", found: 256, limit: 6 }),
    ] {
        memory.set(row + at, value);
        let error = layout.orders(1).unwrap().read().unwrap_err();
        assert_eq!(error, OrdersError::Corrupt(wanted));
        assert!(error.to_string().contains(wanted.what));
        let mut writer = layout.orders(1).unwrap().writer();
        assert_eq!((writer.orders(), writer.incarnation()), (Err(wanted), 8));
        writer.write(&run(9));
        assert_eq!(layout.orders(1).unwrap().read(), Ok(run(9)));
        order(&layout, 1, run(8));
    }
}

fn any_orders() -> impl Strategy<Value = Orders> {
    let order = prop_oneof![Just(Order::Vacant), Just(Order::Run), Just(Order::Drain)];
    let condition = prop_oneof![
        Just(Condition::Stopped),
        Just(Condition::Starting),
        Just(Condition::Up),
        Just(Condition::BackOff),
        Just(Condition::Failed),
        Just(Condition::Suspect),
        Just(Condition::Stuck),
        Just(Condition::Spare),
    ];
    let cause = prop_oneof![
        Just(None),
        any::<i32>().prop_map(|code| Some(Cause::Exited(code))),
        any::<i32>().prop_map(|signal| Some(Cause::Signalled(signal))),
        Just(Some(Cause::Panicked)),
        any::<i32>().prop_map(|signal| Some(Cause::Hung(signal))),
        Just(Some(Cause::Late)),
        Just(Some(Cause::Unknown)),
    ];
    let helper = prop_oneof![Just(None), (0..u32::MAX).prop_map(Some)];
    (any::<u32>(), order, helper, condition, any::<u32>(), cause, any::<u64>()).prop_map(
        |(incarnation, order, helper, condition, restarts, cause, changed_ms)| Orders {
            incarnation,
            order,
            helper,
            condition,
            restarts,
            cause,
            changed_ms,
        },
    )
}

proptest! {
    /// What is written is read, by this handle, by the next, and by readers; also where the
    /// selector wraps.
    #[test]
    fn orders_are_kept(changes in prop_oneof![Just(0), any::<u32>(), Just(u32::MAX)],
                       records in prop::collection::vec(any_orders(), 1..8)) {
        let row = OrdersRow::starting_at(changes);
        for orders in records {
            let mut writer = row.writer();
            writer.write(&orders);
            prop_assert_eq!(writer.orders(), Ok(orders));
            prop_assert_eq!(row.read(), Ok(orders));
            prop_assert_eq!(row.writer().orders(), Ok(orders));
        }
    }
}

/// A supervisor that writes all the time, and readers: what they get is one record.
#[test]
fn orders_are_whole() {
    let row = OrdersRow::new();
    let patience = common::Patience::new();
    let of = |n: u32| Orders {
        incarnation: n,
        helper: Some(n),
        restarts: n,
        cause: Some(Cause::Exited(n as i32)),
        changed_ms: u64::from(n) << 32 | u64::from(n),
        ..run(n)
    };
    let mut writer = row.writer();
    writer.write(&of(1));
    std::thread::scope(|scope| {
        let (row, patience) = (&row, patience.clone());
        let reader = scope.spawn(move || {
            let mut last = 0;
            while last < 20_000 {
                match row.read() {
                    Ok(orders) => {
                        assert_eq!(orders, of(orders.incarnation), "a mix");
                        assert!(orders.incarnation >= last, "went back");
                        last = orders.incarnation;
                    }
                    Err(error) => assert_eq!(error, OrdersError::Busy),
                }
                patience.wait();
            }
        });
        let mut n = 1;
        while !reader.is_finished() {
            n += 1;
            writer.write(&of(n));
            if n % 64 == 0 {
                std::thread::yield_now();
            }
        }
    });
}

#[test]
fn causes() {
    for cause in [
        None,
        Some(Cause::Exited(0)),
        Some(Cause::Exited(-1)),
        Some(Cause::Signalled(11)),
        Some(Cause::Panicked),
        Some(Cause::Unknown),
        Some(Cause::Hung(6)),
        Some(Cause::Late),
    ] {
        assert_eq!(Cause::from_words(Cause::to_words(cause)), Ok(cause));
    }
    assert!(Cause::from_words([7, 0]).is_err());
    assert_eq!(Cause::Exited(3).to_string(), "exited with 3");
    assert_eq!(Cause::Signalled(9).to_string(), "killed by signal 9");
}

/// A worker gets its place if it is the one who was asked for, and nobody is there.
#[test]
fn claiming_a_worker_place() {
    let (memory, layout) = create_control(&SHAPE);
    let not_wanted =
        |started, wanted, order| ClaimWorkerError::NotWanted { started, wanted, order };
    let claim = |place, incarnation| layout.claim_worker(place, incarnation, owner(WORKER));
    assert_eq!(claim(1, 1).unwrap_err(), not_wanted(1, 0, Order::Vacant));
    assert_eq!(claim(1, 0).unwrap_err(), not_wanted(0, 0, Order::Vacant));
    order(&layout, 1, run(2));
    assert_eq!(claim(1, 1).unwrap_err(), not_wanted(1, 2, Order::Run));
    order(&layout, 1, Orders { order: Order::Drain, ..run(2) });
    assert_eq!(claim(1, 2).unwrap_err(), not_wanted(2, 2, Order::Drain));
    assert!(claim(1, 2).unwrap_err().to_string().contains("incarnation 2"));
    order(&layout, 1, run(2));
    let mut slot = claim(1, 2).unwrap();
    assert_eq!((slot.key().index(), slot.owner()), (1, owner(WORKER)));
    let entry = WorkerEntry::new(2, 4711, 1 << 40 | 5);
    slot.update(&entry);
    slot.live(WorkerEntry::STATE).unwrap().store(WorkerState::Serving as u32, Relaxed);
    slot.live(WorkerEntry::QUEUED).unwrap().store(17, Relaxed);
    let found = layout.workers().read(1).unwrap().unwrap();
    assert_eq!((found.entry, found.entry.started_ms()), (entry, 1 << 40 | 5));
    let state = layout.workers().live(found.key, WorkerEntry::STATE).unwrap();
    assert_eq!(WorkerState::from_word(state), Some(WorkerState::Serving));
    assert_eq!(layout.workers().live(found.key, WorkerEntry::QUEUED), Some(17));
    let owned = ClaimWorkerError::Claim(ClaimError::Owned(owner(WORKER)));
    assert_eq!(claim(1, 2).unwrap_err(), owned);
    let none = ClaimError::NoSuchPlace { found: 3, places: 3 };
    assert_eq!(claim(3, 2).unwrap_err(), ClaimWorkerError::Claim(none));
    // It dies; the supervisor finds what it was, and lets the next in.
    forget(slot);
    let slot = layout.workers().recover(dead(WORKER), owner(SUPERVISOR)).unwrap().next().unwrap();
    assert_eq!(slot.entry(), Some(entry));
    slot.release();
    order(&layout, 1, run(3));
    assert!(claim(1, 3).is_ok());
    assert_eq!(layout.workers().owner(1), None, "dropped");
    // The order, in both copies.
    memory.set(ROWS_AT + 64 + 8, 9);
    memory.set(ROWS_AT + 64 + 36, 9);
    assert!(matches!(claim(1, 3).unwrap_err(), ClaimWorkerError::Orders(_)));
    assert_eq!(layout.workers().owner(1), None);
}

#[test]
fn functions_and_counters() {
    let (_, layout) = create_control(&SHAPE);
    assert_eq!(layout.function(1001), None);
    let entry =
        FunctionEntry { func_id: 1001, flags: FunctionEntry::IDEMPOTENT, threshold_ms: 250 };
    layout.functions().claim(owner(SUPERVISOR), &entry).unwrap().keep();
    let other = FunctionEntry { func_id: 1002, ..FunctionEntry::default() };
    layout.functions().claim(owner(SUPERVISOR), &other).unwrap().keep();
    assert_eq!(layout.function(1001), Some(entry));
    assert!(entry.is_idempotent() && !layout.function(1002).unwrap().is_idempotent());
    // The supervisor's successor.
    let taken = layout.functions().recover(dead(SUPERVISOR), owner(HEIR)).unwrap();
    assert_eq!(taken.fold(0, |count, slot| slot.keep().generation() + count), 2);
    assert_eq!(layout.function(1001), Some(entry));

    let [mut processed, mut failed, ..] = layout.counters(2).unwrap().writers();
    processed.add(5);
    failed.add(2);
    layout.supervisor_counters().writers()[SupervisorCount::Kills as usize].add(3);
    let values = layout.counters(2).unwrap().values();
    assert_eq!(values[WorkerCount::Processed as usize], 5);
    assert_eq!(values[WorkerCount::Failed as usize], 2);
    assert_eq!(layout.supervisor_counters().values(), [0, 0, 3, 0, 0, 0, 0, 0]);
    assert_eq!(layout.counters(1).unwrap().values(), [0; 8]);
}

/// A client's place: nothing of the tenant before is left.
#[test]
fn claiming_a_client_place() {
    let (memory, layout) = create_bells(&SHAPE);
    let mut first = layout.reserve_client(owner(CLIENT)).unwrap();
    assert_eq!((first.key().index(), first.key().generation()), (0, 1));
    assert!(!first.is_published());
    first.update(&ClientEntry::new(4712, 1 << 40));
    let found = layout.clients().read(0).unwrap().unwrap();
    assert_eq!((found.entry.pid, found.entry.connected_ms()), (4712, 1 << 40));
    first.live(ClientEntry::STATE).unwrap().store(ClientState::Leaving as u32, Relaxed);
    let state = layout.clients().live(found.key, ClientEntry::STATE).unwrap();
    assert_eq!(ClientState::from_word(state), Some(ClientState::Leaving));
    for place in 0..3 {
        layout.cancel(place, 0).unwrap().ask(5);
    }
    layout.client(0).unwrap().set_sleepless(true);
    layout.cancel(1, 1).unwrap().ask(5);
    first.release();
    let second = layout.reserve_client(owner(CLIENT)).unwrap();
    assert_eq!((second.key().index(), second.key().generation()), (0, 2));
    for place in 0..3 {
        let cancel = layout.cancel(place, 0).unwrap();
        assert!(!cancel.is_asked(5), "what the tenant before gave up");
    }
    assert!(!layout.client(0).unwrap().is_sleepless());
    assert!(layout.cancel(1, 1).unwrap().is_asked(5), "another's");
    let others: Vec<_> = (1..40).map(|_| layout.reserve_client(owner(CLIENT)).unwrap()).collect();
    assert!(layout.reserve_client(owner(CLIENT)).is_err());
    assert_eq!(others.len(), 39);
    drop((others, second));
    memory.check_guards();
}

#[test]
fn cancelling() {
    let (_, layout) = create_bells(&SHAPE);
    let word = layout.cancel(1, 2).unwrap();
    let seq = 0x0020_0301_0000_0007;
    assert!(!word.is_asked(seq) && !word.is_asked(0));
    word.ask(seq);
    assert!(word.is_asked(seq) && !word.is_asked(seq + 1));
    for (place, client) in [(0, 2), (2, 2), (1, 1), (1, 3)] {
        assert!(!layout.cancel(place, client).unwrap().is_asked(seq), "{place} {client}");
    }
    word.ask(seq + 1);
    assert!(!word.is_asked(seq), "the last one counts");
    word.clear();
    assert!(!word.is_asked(seq + 1));
    // One whose id ends in zeros cannot be told from nothing.
    word.ask(1 << 32);
    assert!(!word.is_asked(1 << 32));
}

/// Who is rung: the place's own worker, or its helper, wherever that one sleeps.
#[test]
fn ringing() {
    let (memory, layout) = create_bells(&SHAPE);
    let at = |place: usize| WORKER_BELLS_AT + 64 * place;
    let mut announcer = layout.announcer(1, 33).unwrap();
    let place = layout.worker(1).unwrap();
    // Each sleeps, by a park of its own word.
    let epoch = |place: usize, odd: u32| memory.set(at(place) + 4, odd);
    let sequence = |place: usize| memory.get(at(place));
    for (n, (server, rung)) in
        [(None, 1), (Some(1), 1), (Some(2), 2), (Some(0), 0), (Some(7), 1), (Some(2), 2)]
            .into_iter()
            .enumerate()
    {
        let odd = 2 * n as u32 + 1;
        (0..3).for_each(|place| epoch(place, odd));
        match server {
            None => memory.set(at(1) + 12, 0),
            Some(server) => place.serve(server),
        }
        assert_eq!(place.server(), server.filter(|server| *server < 3));
        let before = [0, 1, 2].map(sequence);
        let park = FakePark::new();
        assert_eq!(announcer.announce(&park), rung);
        let after = [0, 1, 2].map(sequence);
        for place in 0..3 {
            let changed = u32::from(place == rung as usize);
            assert_eq!(after[place] - before[place], changed, "place {place}, {server:?}");
        }
        assert_eq!(park.wakes(), 1);
        // An epoch that was answered is not answered again.
        assert_eq!((announcer.announce(&park), park.wakes()), (rung, 1));
        assert_eq!(place.ready().marked().collect::<Vec<_>>(), [33]);
        assert_eq!(layout.worker(2).unwrap().ready().marked().count(), 0);
    }
    for word in [4, 1000, u32::MAX] {
        memory.set(at(1) + 12, word);
        assert_eq!((place.server(), announcer.announce(&FakePark::new())), (None, 1), "{word}");
    }
}

/// Who serves says so again if another's late store has gone over it.
#[test]
fn keeping_a_place() {
    let (_, layout) = create_bells(&SHAPE);
    let place = layout.worker(1).unwrap();
    assert!(place.keep(1), "nobody served it");
    assert!(!place.keep(1));
    place.serve(2); // late
    assert!(place.keep(1));
    assert_eq!(place.server(), Some(1));
    assert!(!place.keep(1));
}

/// A worker that never sleeps is not rung, as long as it is the one who serves.
#[test]
fn sleepless_workers() {
    let (memory, layout) = create_bells(&SHAPE);
    let mut announcer = layout.announcer(1, 33).unwrap();
    let (one, two) = (layout.worker(1).unwrap(), layout.worker(2).unwrap());
    one.set_sleepless(true);
    one.serve(1);
    for place in [1, 2] {
        memory.set(WORKER_BELLS_AT + 64 * place + 4, 1);
    }
    let park = FakePark::new();
    one.ready().mark(33, &published());
    assert_eq!((announcer.announce(&park), park.wakes()), (1, 0), "neither fence nor wake");
    one.ready().cool(33, || true);
    assert_eq!((announcer.announce(&park), park.wakes()), (1, 1), "its bit was not set");
    assert!(one.ready().is_marked(33));
    // Its helper sleeps.
    one.serve(2);
    assert_eq!((announcer.announce(&park), park.wakes()), (2, 2));
    two.set_sleepless(true);
    memory.set(WORKER_BELLS_AT + 64 * 2 + 4, 3);
    assert_eq!((announcer.announce(&park), park.wakes()), (2, 2));
    // Any other word says that it sleeps.
    memory.set(WORKER_BELLS_AT + 64 * 2 + 8, 2);
    assert_eq!((announcer.announce(&park), park.wakes()), (2, 3));
}

/// A worker asleep is woken for a lane of the place that it helps.
#[test]
fn asleep_at_another_place() {
    let (_, layout) = create_bells(&SHAPE);
    let (park, place) = (FakePark::new(), layout.worker(0).unwrap());
    let mut announcer = layout.announcer(0, 39).unwrap();
    let mut waiter = layout.worker(2).unwrap().bell().waiter();
    place.serve(2);
    let scene = park.asleep(|park| assert_eq!(announcer.announce(park), 2));
    assert!(waiter.wait(&scene, Deadline::NEVER, || place.ready().is_marked(39)));
    assert_eq!(park.sleeps(), 1);
    assert!(park.time() < 100_000_000, "slept to the end");
}

#[test]
fn closing() {
    let memory = leak(CONTROL, 0);
    // SAFETY: nobody else creates anything in this memory.
    let (_, mut control) =
        unsafe { ControlLayout::init_at(memory.region(), &SHAPE, owner(SUPERVISOR)) }.unwrap();
    let theirs = ControlLayout::attach(memory.region()).unwrap();
    control.close();
    let closing = SegmentError::Closing { owner: Some(owner(SUPERVISOR)) };
    assert_eq!(ControlLayout::attach(memory.region()).map(drop), Err(closing));
    assert!(theirs.segment().confirm().is_err());
}

/// A supervisor dies; its successor writes on.
#[test]
fn adopting() {
    let (_, layout) = create_control(&SHAPE);
    order(&layout, 1, run(5));
    let control = layout.segment().recover_control(dead(SUPERVISOR), owner(HEIR)).unwrap();
    let mut writer = layout.orders_writer(1, &control).unwrap();
    assert_eq!(writer.orders(), Ok(run(5)));
    writer.write(&run(6));
    assert_eq!(layout.orders(1).unwrap().read(), Ok(run(6)));
    assert!(layout.orders_writer(3, &control).is_none());
}

/// The memory is larger than the segment.
#[test]
fn in_larger_memory() {
    let memory = leak(CONTROL + 4096, 0x5a);
    // SAFETY: nobody else creates anything in this memory.
    let made = unsafe { ControlLayout::init_at(memory.region(), &SHAPE, owner(1)) }.unwrap();
    assert_eq!(*ControlLayout::attach(memory.region()).unwrap().shape(), SHAPE);
    assert!(memory.bytes()[CONTROL..].iter().all(|byte| *byte == 0x5a));
    drop(made);
    let memory = leak(BELLS + 4096, 0x5a);
    // SAFETY: as above.
    let made = unsafe { BellsLayout::init_at(memory.region(), &SHAPE, owner(1)) }.unwrap();
    assert!(memory.bytes()[BELLS..].iter().all(|byte| *byte == 0x5a));
    drop(made);
}

fn corrupt(what: &'static str, found: u32, limit: u32) -> Corrupt {
    Corrupt { what, found, limit }
}

fn in_part(part: PartId, error: impl Into<AttachError>) -> SegmentError {
    SegmentError::Part { part, error: error.into() }
}

fn too_small(found: usize, wanted: usize) -> AttachError {
    AttachError::TooSmall { found, wanted }
}

/// Where word `word` of entry `n` of the table of parts is.
fn entry(n: usize, word: usize) -> usize {
    64 + 32 * n + word
}

const UNKNOWN: Kind = Kind(900);
const MAGIC: u32 = PartHeader::MAGIC;

fn wrong_magic(part: PartId) -> SegmentError {
    in_part(part, AttachError::WrongMagic { found: 0, wanted: MAGIC })
}

#[test]
fn a_spoilt_control_segment() {
    let at = |word| SERVICE_AT + word;
    let unknown = |role| SegmentError::UnknownPart(PartId { kind: UNKNOWN, role });
    let service = |error: AttachError| in_part(SERVICE, error);
    let wrong = |what, found, limit| in_part(SERVICE, corrupt(what, found, limit));
    let own = |what, found, limit| SegmentError::Corrupt(corrupt(what, found, limit));
    let hash = create_control(&SHAPE).0.get(at(12));
    let supervisor = Some(owner(SUPERVISOR));
    for (offset, value, wanted) in [
        (0, Magic::BELL.0, SegmentError::WrongMagic { found: Magic::BELL, wanted: Magic::SRVC }),
        (4, 0, SegmentError::WrongVersion { found: 0, wanted: 1 }),
        (16, 2, SegmentError::NewerRequired { found: 2, wanted: 1 }),
        (20, 2, SegmentError::Closing { owner: supervisor }),
        (20, 0x494e_4954, SegmentError::Initialising { owner: supervisor }),
        (8, 4, own("number of worker places", 4, 3)),
        (8, 0, own("number of worker places", 0, 3)),
        (12, 41, own("number of client places", 41, 40)),
        // The table of parts.
        (entry(0, 0), 900, unknown(0)),
        (entry(2, 0), 900, unknown(1)),
        (entry(3, 0), 900, unknown(0)),
        (entry(4, 0), 900, unknown(0)),
        (entry(2, 4), 6 << 8 | 1, SegmentError::DuplicatePart(WORKERS)),
        (entry(0, 16), 124, in_part(SERVICE, too_small(124, 128))),
        (entry(0, 16), 128 + 2 * 64, in_part(SERVICE, too_small(256, 320))),
        (entry(1, 16), 128, in_part(WORKERS, too_small(128, 256))),
        (entry(2, 16), 128, in_part(FUNCTIONS, too_small(128, 256))),
        (entry(3, 16), 128, in_part(MONITORS, too_small(128, 192))),
        (entry(4, 16), 192, in_part(COUNTERS, too_small(192, 256))),
        // The service's header.
        (at(0), 0, wrong_magic(SERVICE)),
        (at(4), 0, service(AttachError::WrongVersion { found: 0, wanted: 1 })),
        (at(8), 3, service(AttachError::WrongKind { found: Kind(3), wanted: Kind::SERVICE })),
        (at(12), !hash, service(AttachError::WrongLayout { found: !hash, wanted: hash })),
        (at(16), 3, service(AttachError::NewerRequired { found: 3, wanted: 2 })),
        (at(20), 0, wrong("number of client places", 0, 4096)),
        (at(20), 4097, wrong("number of client places", 4097, 4096)),
        (at(20), 41, own("number of client places", 40, 41)),
        (at(24), 0, wrong("number of functions", 0, 65536)),
        (at(24), 2, own("slots of the table of functions", 3, 2)),
        (at(28), 64, wrong("offset of the orders", 64, 128)),
        (at(28), 130, wrong("offset of the orders", 130, 128)),
        (at(28), 192, service(too_small(320, 384))),
        (at(32), 0, wrong("bytes from orders to orders", 0, 64)),
        (at(32), 65, wrong("bytes from orders to orders", 65, 64)),
        (at(32), 128, service(too_small(320, 512))),
        (at(64), 0, own("number of worker places", 3, 1)),
        (at(64), 1, own("number of worker places", 3, 2)),
        (at(64), u32::MAX, wrong("number of worker places", u32::MAX, 16384)),
        (at(68), 0, wrong("size of the lanes of a client", 0, 1 << 30)),
        (at(84), 16381, wrong("number of lanes", 16383 * 40, 65536)),
        // The tables.
        (WORKERS_AT, 0, wrong_magic(WORKERS)),
        (FUNCTIONS_AT, 0, wrong_magic(FUNCTIONS)),
        (WORKERS_AT + 20, 2, own("slots of the table of worker places", 2, 3)),
    ] {
        let (memory, _) = create_control(&SHAPE);
        memory.set(offset, value);
        let before = memory.bytes();
        let found = ControlLayout::attach(memory.region()).map(drop);
        assert_eq!(found, Err(wanted), "{value:#x} at {offset}");
        assert!(wanted.to_string().len() > 10);
        assert!(memory.bytes() == before, "written to while declining: {wanted}");
    }
}

#[test]
fn a_spoilt_segment_of_bells() {
    let unknown = |role| SegmentError::UnknownPart(PartId { kind: UNKNOWN, role });
    let own = |what, found, limit| SegmentError::Corrupt(corrupt(what, found, limit));
    for (offset, value, wanted) in [
        (0, Magic::SRVC.0, SegmentError::WrongMagic { found: Magic::SRVC, wanted: Magic::BELL }),
        (4, 0, SegmentError::WrongVersion { found: 0, wanted: 1 }),
        (16, 2, SegmentError::NewerRequired { found: 2, wanted: 1 }),
        (8, 0, own("number of worker places", 0, 16384)),
        (8, 16385, own("number of worker places", 16385, 16384)),
        (8, 16384, own("number of lanes", 16384 * 40, 65536)),
        (8, 4, in_part(WORKER_BELLS, too_small(192, 256))),
        (12, 0, own("number of client places", 0, 4096)),
        (12, 4097, own("number of client places", 4097, 4096)),
        (12, 41, in_part(CLIENT_BELLS, too_small(40 * 64, 41 * 64))),
        (12, 39, own("slots of the table of client places", 40, 39)),
        (entry(0, 0), 900, unknown(0)),
        (entry(1, 0), 900, unknown(1)),
        (entry(2, 0), 900, unknown(0)),
        (entry(4, 0), 900, unknown(0)),
        (entry(1, 4), 6 << 8 | 1, SegmentError::DuplicatePart(WORKER_BELLS)),
        (entry(2, 16), 128, in_part(READY, too_small(128, 192))),
        (entry(3, 16), 64, in_part(CLIENTS, too_small(64, 64 + 40 * 64))),
        (entry(4, 16), 39 * 64, in_part(CANCELS, too_small(39 * 64, 40 * 64))),
        (CLIENTS_AT, 0, wrong_magic(CLIENTS)),
    ] {
        let (memory, _) = create_bells(&SHAPE);
        memory.set(offset, value);
        let before = memory.bytes();
        let found = BellsLayout::attach(memory.region()).map(drop);
        assert_eq!(found, Err(wanted), "{value:#x} at {offset}");
        assert!(memory.bytes() == before, "written to while declining: {wanted}");
    }
}

/// Each part left away, and all of them in another order with an unknown one between.
#[test]
fn parts() {
    let control = [
        NewPart::required(SERVICE, 128 + 3 * 64),
        NewPart::required(WORKERS, 64 + 3 * 64),
        NewPart::required(FUNCTIONS, 64 + 3 * 64),
        NewPart::required(MONITORS, 3 * 64),
        NewPart::required(COUNTERS, 4 * 64),
    ];
    let bells = [
        NewPart::required(WORKER_BELLS, 3 * 64),
        NewPart::required(CLIENT_BELLS, 40 * 64),
        NewPart::required(READY, 3 * 64),
        NewPart::required(CLIENTS, 64 + 40 * 64),
        NewPart::required(CANCELS, 40 * 64),
    ];
    let unknown = NewPart::optional(PartId { kind: UNKNOWN, role: 0 }, 100);
    for (magic, all, like, places) in [
        (
            Magic::SRVC,
            control,
            create_control(&SHAPE).0,
            [SERVICE_AT, WORKERS_AT, FUNCTIONS_AT, MONITORS_AT, COUNTERS_AT],
        ),
        (
            Magic::BELL,
            bells,
            create_bells(&SHAPE).0,
            [WORKER_BELLS_AT, CLIENT_BELLS_AT, READY_AT, CLIENTS_AT, CANCELS_AT],
        ),
    ] {
        let attach = |memory: &'static Memory| match magic {
            Magic::SRVC => ControlLayout::attach(memory.region()).map(drop),
            _ => BellsLayout::attach(memory.region()).map(drop),
        };
        let make = |parts: &[NewPart]| {
            let plan = Plan::new(magic, 1, parts).own([3, 40]);
            let memory = leak(plan.required_size().unwrap(), 0x5a);
            // SAFETY: nobody else creates anything in this memory.
            let creating = unsafe { Segment::create(memory.region(), &plan, owner(1)) }.unwrap();
            for (part, from) in all.iter().zip(places) {
                let Some(region) = creating.part(part.id) else { continue };
                let at = offset(memory, region.base().addr().get());
                for word in (0..region.len()).step_by(4) {
                    memory.set(at + word, like.get(from + word));
                }
            }
            forget(creating.publish());
            memory
        };
        for missing in 0..5 {
            let mut parts = all.to_vec();
            let id = parts.remove(missing).id;
            assert_eq!(attach(make(&parts)), Err(SegmentError::MissingPart(id)));
        }
        let mut parts = all.to_vec();
        parts.reverse();
        parts.insert(2, unknown);
        assert_eq!(attach(make(&parts)), Ok(()));
    }
}

/// What a client does with the control segment works in memory that is mapped for reading: a
/// store would end the test.
#[cfg(all(target_os = "linux", not(miri)))]
#[test]
fn read_only() {
    unsafe extern "C" {
        fn mprotect(address: *mut core::ffi::c_void, length: usize, protection: i32) -> i32;
    }
    const READ: i32 = 1;
    const WRITE: i32 = 2;
    // Pages of its own: the guards on either side are whole ones.
    let len = CONTROL.next_multiple_of(4096);
    let memory = leak(len, 0);
    // SAFETY: nobody else creates anything in this memory.
    let (layout, control) =
        unsafe { ControlLayout::init_at(memory.region(), &SHAPE, owner(SUPERVISOR)) }.unwrap();
    forget(control);
    order(&layout, 1, Orders { condition: Condition::Up, ..run(4) });
    let mut slot = layout.claim_worker(1, 4, owner(WORKER)).unwrap();
    slot.update(&WorkerEntry::new(4, 4711, 5));
    slot.live(WorkerEntry::QUEUED).unwrap().store(3, Relaxed);
    slot.keep();
    let function = FunctionEntry { func_id: 1001, ..FunctionEntry::default() };
    layout.functions().claim(owner(SUPERVISOR), &function).unwrap().keep();
    layout.counters(1).unwrap().writers()[0].add(9);
    let protect = |protection| {
        // SAFETY: whole pages of this test's own, whose other accesses are the loads below.
        let done = unsafe { mprotect(memory.base().as_ptr().cast(), len, protection) };
        assert_eq!(done, 0);
    };
    protect(READ);
    let reader = ControlLayout::attach(memory.region()).unwrap();
    assert_eq!(*reader.shape(), SHAPE);
    assert_eq!(reader.orders(1).unwrap().read().unwrap().condition, Condition::Up);
    let worker = reader.workers().read(1).unwrap().unwrap();
    assert_eq!((worker.entry.pid, worker.owner), (4711, owner(WORKER)));
    assert_eq!(reader.workers().live(worker.key, WorkerEntry::QUEUED), Some(3));
    assert_eq!(reader.workers().iter().count(), 1);
    assert_eq!(reader.function(1001), Some(function));
    assert!(!reader.monitor(1).unwrap().snapshot().unwrap().is_processing());
    assert_eq!(reader.counters(1).unwrap().get(0).unwrap().get(), 9);
    assert_eq!(reader.supervisor_counters().values(), [0; 8]);
    assert!(reader.segment().confirm().is_ok());
    assert_eq!(reader.segment().owner(), Ok(Some(owner(SUPERVISOR))));
    protect(READ | WRITE);
    memory.check_guards();
}
