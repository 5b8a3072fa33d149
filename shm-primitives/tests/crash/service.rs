//! A service: its worker dies at any store of its life, its helper, its supervisor, its client;
//! and whoever creates its segments.

use crate::common::memory::Memory;
use crate::common::park::{BOUND, FakePark};
use crate::common::{dead, owner};
use crate::harness::{at_every_step, die};
use shm_primitives::channel::{Client, ReceiveError, Recovered, Worker, WorkerChannel};
use shm_primitives::layout::phoenix::{GroupShape, PhoenixShmLayout};
use shm_primitives::layout::service::*;
use shm_primitives::message::MsgStatus;
use shm_primitives::segment::Control;
use shm_primitives::sync::Ordering::Relaxed;
use shm_primitives::wake::{Deadline, Park, published};
use std::cell::{Cell, RefCell};
use std::mem::forget;

const SUPERVISOR: u32 = 1;
const CLIENT: u32 = 2;
/// The workers, the first of which dies.
const MORTAL: u32 = 3;
const NEXT: u32 = 4;
const HEIR: u32 = 5;

const SHAPE: Shape =
    Shape::new(GroupShape::new(2, 4), GroupShape::new(0, 1)).clients(2).functions(2);
/// The place whose lanes pass from one to another, and its helper's.
const PLACE: u32 = 0;
const HELPER: u32 = 1;
/// The client's place, and tenancy.
const AT: u32 = 0;
const TENANCY: u32 = 1;

struct World {
    control: Memory,
    bells: Memory,
    lanes: Memory,
    park: FakePark,
}

impl World {
    /// A service with a client that is connected; nobody at any worker place.
    fn new() -> Self {
        let lanes = SHAPE.client_shape(AT);
        let world = Self {
            control: Memory::new(SHAPE.control_size().unwrap(), 0x5a),
            bells: Memory::new(SHAPE.bells_size().unwrap(), 0x5a),
            lanes: Memory::new(lanes.required_size().unwrap(), 0x5a),
            park: FakePark::new(),
        };
        forget(create_control(&world.control, SUPERVISOR));
        forget(create_bells(&world.bells, SUPERVISOR));
        // SAFETY: nobody else creates anything in this memory.
        let made =
            unsafe { PhoenixShmLayout::init_at(world.lanes.region(), &lanes, owner(CLIENT)) };
        forget(made.unwrap());
        let mut slot = world.bells().reserve_client(owner(CLIENT)).unwrap();
        slot.update(&ClientEntry::new(1, 2));
        assert_eq!((slot.key().index(), slot.key().generation()), (AT, TENANCY));
        slot.keep();
        world
    }

    fn control(&self) -> ControlLayout<'_> {
        ControlLayout::attach(self.control.region()).unwrap()
    }

    fn bells(&self) -> BellsLayout<'_> {
        BellsLayout::attach(self.bells.region()).unwrap()
    }

    fn channel(&self) -> WorkerChannel<'_> {
        // SAFETY: all use this crate.
        let lanes = unsafe { PhoenixShmLayout::attach(self.lanes.region()) }.unwrap();
        lanes.channel(SHAPE.place(PLACE).unwrap()).unwrap()
    }

    /// The supervisor's word for a place.
    fn order(&self, place: u32, incarnation: u32, helper: Option<u32>) {
        let control = self.control();
        let word = control.segment().resume_control(owner(SUPERVISOR)).unwrap();
        let order = if incarnation == 0 { Order::Vacant } else { Order::Run };
        let orders = Orders { incarnation, order, helper, ..Orders::default() };
        control.orders_writer(place, &word).unwrap().write(&orders);
        forget(word);
    }

    /// Calls, and rings.
    fn call(&self, client: &mut Client<'_>, seq: u64) -> u32 {
        client.request(seq, 1001, b"call").unwrap();
        self.bells().announcer(PLACE, AT).unwrap().announce(&self.park)
    }

    /// The worker's end of the lane, if nobody has it.
    fn claim(&self, by: u32) -> Option<Worker<'_>> {
        let lane = SHAPE.lane(PLACE, AT, TENANCY).unwrap();
        self.channel().claim_worker(owner(by), lane).ok()
    }

    /// Serves what is in the lane, as the worker of `place`; which calls.
    fn serve(&self, worker: &mut Worker<'_>, place: u32) -> Vec<u64> {
        let control = self.control();
        let mut monitor = control.monitor(place).unwrap().writer();
        let mut served = Vec::new();
        loop {
            match worker.peek() {
                Ok(request) => {
                    let mut work = request.begin(&mut monitor, 7).unwrap();
                    served.push(work.header().seq_id());
                    work.reply(MsgStatus::Completed, b"done").unwrap();
                    work.finish().unwrap();
                }
                Err(error) => break assert_eq!(error, ReceiveError::Empty),
            }
        }
        served
    }

    /// Gives the lane's end back, and announces that.
    fn leave(&self, worker: Worker<'_>, park: &impl Park) {
        drop(worker);
        let fenced = published();
        self.bells().announcer(PLACE, AT).unwrap().announce_after(park, &fenced);
    }

    /// What the supervisor does when `index`, who worked at `place`, is dead: the calls that were
    /// poison.
    fn convict(&self, index: u32, place: u32, by: u32) -> Vec<u64> {
        let (control, bells) = (self.control(), self.bells());
        let mut monitor = control.monitor(place).unwrap().recover_writer(dead(index));
        let lane = SHAPE.lane(PLACE, AT, TENANCY).unwrap();
        let mut poison = Vec::new();
        let channel = self.channel();
        if channel.worker().unwrap().contains(&Some(owner(index))) {
            let recovered =
                channel.recover_worker(dead(index), owner(by), lane, &mut monitor).unwrap();
            let worker = match recovered {
                Recovered::Nothing(worker) | Recovered::Answered(_, worker) => worker,
                Recovered::Poison(mut dead_letter) => {
                    poison.push(dead_letter.header().seq_id());
                    dead_letter.fail(b"crashed").unwrap();
                    dead_letter.skip()
                }
            };
            drop(worker);
        }
        monitor.reset();
        control.workers().release_all_of(dead(index), owner(by)).unwrap();
        // In the dead one's place: whoever was rung by nobody.
        bells.announcer(PLACE, AT).unwrap().announce_after(&self.park, &published());
        poison
    }
}

fn create_control(memory: &Memory, by: u32) -> (ControlLayout<'_>, Control<'_>) {
    // SAFETY: nobody else creates anything in this memory.
    unsafe { ControlLayout::init_at(memory.region(), &SHAPE, owner(by)) }.unwrap()
}

fn create_bells(memory: &Memory, by: u32) -> (BellsLayout<'_>, Control<'_>) {
    // SAFETY: nobody else creates anything in this memory.
    unsafe { BellsLayout::init_at(memory.region(), &SHAPE, owner(by)) }.unwrap()
}

/// All replies there are, with their states.
fn replies(client: &mut Client<'_>) -> Vec<(u64, MsgStatus)> {
    let mut found = Vec::new();
    while let Ok(response) = client.response() {
        found.push((response.header().seq_id(), response.status()));
        response.release();
    }
    found
}

/// All that a worker of a place does, from its claim to its end: takes up the place, serves, and
/// leaves.
fn work(world: &World, incarnation: u32) {
    let (control, bells) = (world.control(), world.bells());
    let mut slot = control.claim_worker(PLACE, incarnation, owner(MORTAL)).unwrap();
    slot.update(&WorkerEntry::new(incarnation, 4711, 1));
    slot.live(WorkerEntry::STATE).unwrap().store(WorkerState::Serving as u32, Relaxed);
    let place = bells.worker(PLACE).unwrap();
    place.set_sleepless(false);
    place.serve(PLACE);
    let mut worker = world.claim(MORTAL).unwrap();
    assert_eq!(world.serve(&mut worker, PLACE), [1, 2]);
    slot.live(WorkerEntry::QUEUED).unwrap().store(2, Relaxed);
    place.ready().cool(AT as usize, || worker.is_request_empty());
    world.leave(worker, &world.park);
    slot.release();
}

/// A worker dies at each of its stores. Whoever is asked to help finds everything: each call is
/// answered once, or was poison, and one that comes while nobody serves waits in its lane.
#[test]
fn worker() {
    let mut poisoned = 0;
    let deaths = at_every_step("a worker's life", |budget| {
        let world = World::new();
        world.order(PLACE, 1, None);
        let mut client = world.channel().claim_client(owner(CLIENT)).unwrap();
        assert_eq!(world.call(&mut client, 1), PLACE, "nobody serves: its own bell");
        assert_eq!(world.call(&mut client, 2), PLACE);
        let survived = die(budget, || work(&world, 1)).is_some();
        // Before anybody knows.
        assert_eq!(world.call(&mut client, 3), PLACE);
        let poison = world.convict(MORTAL, PLACE, SUPERVISOR);
        poisoned += poison.len();
        assert!(!survived || poison.is_empty());
        assert!(poison.len() <= 1, "{poison:?}");
        assert_eq!(world.control().workers().owners().count(), 0);
        assert!(!world.control().monitor(PLACE).unwrap().snapshot().unwrap().is_processing());

        // The helper takes the place up, and sweeps.
        world.order(PLACE, 2, Some(HELPER));
        let bells = world.bells();
        let place = bells.worker(PLACE).unwrap();
        place.serve(HELPER);
        let mut helper = world.claim(NEXT).expect("nobody has the end");
        let helped = world.serve(&mut helper, HELPER);
        assert!(helped.contains(&3), "the one that came while nobody served: {helped:?}");
        let wanted = |call| {
            let failed = poison.contains(&call);
            (call, if failed { MsgStatus::Failed } else { MsgStatus::Completed })
        };
        assert_eq!(replies(&mut client), [1, 2, 3].map(wanted));

        // It sleeps at its own bell, and is woken for this place's lanes.
        let mut waiter = bells.worker(HELPER).unwrap().bell().waiter();
        let scene = world.park.asleep(|park| {
            client.request(4, 1001, b"call").unwrap();
            assert_eq!(bells.announcer(PLACE, AT).unwrap().announce(park), HELPER);
        });
        let before = world.park.time();
        assert!(waiter.wait(&scene, Deadline::NEVER, || !helper.is_request_empty()));
        assert!(world.park.time() - before < BOUND, "slept to the end");
        drop(scene);

        // The next worker of the place.
        assert!(world.control().claim_worker(PLACE, 1, owner(HEIR)).is_err(), "one that came late");
        let mut slot = world.control().claim_worker(PLACE, 2, owner(HEIR)).unwrap();
        slot.update(&WorkerEntry::new(2, 4712, 2));
        place.serve(PLACE);
        assert!(world.claim(HEIR).is_none(), "busy");
        world.leave(helper, &world.park);
        let mut heir = world.claim(HEIR).unwrap();
        assert_eq!(world.serve(&mut heir, PLACE), [4]);
        assert_eq!(replies(&mut client), [(4, MsgStatus::Completed)]);
        survived
    });
    assert!(deaths > 30, "{deaths}");
    assert!(poisoned > 4, "{poisoned}");
}

/// A helper dies at each store between taking a place up and having left it, while the place's own
/// new worker sleeps: whoever convicts the helper wakes that one, and nothing is lost. Nor if the
/// helper's store of itself came late, over the new worker's.
#[test]
fn helper() {
    for late in [false, true] {
        let deaths = at_every_step(&format!("a helper, late: {late}"), |budget| {
            let world = World::new();
            world.order(PLACE, 1, Some(HELPER));
            let (control, bells) = (world.control(), world.bells());
            let mut client = world.channel().claim_client(owner(CLIENT)).unwrap();
            world.call(&mut client, 1);
            let place = bells.worker(PLACE).unwrap();
            let own = RefCell::new(None::<Worker<'_>>);
            let help = |park: &FakePark| {
                die(budget, || {
                    place.serve(HELPER);
                    let mut worker = world.claim(MORTAL).unwrap();
                    let served = world.serve(&mut worker, HELPER);
                    assert!(served.starts_with(&[1]));
                    // Meanwhile the place's own worker begins, and finds the end busy.
                    world.leave(worker, park);
                })
                .is_some()
            };
            let _slot = control.claim_worker(PLACE, 1, owner(NEXT)).unwrap();
            let survived = Cell::new(false);
            let served = RefCell::new(Vec::new());
            let poison = RefCell::new(Vec::new());
            // What the place's own worker does when it looks.
            let sweep = || {
                let mut own = own.borrow_mut();
                if own.is_none() {
                    *own = world.claim(NEXT);
                }
                if let Some(worker) = &mut *own {
                    served.borrow_mut().extend(world.serve(worker, PLACE));
                }
            };
            let mut waiter = place.bell().waiter();
            let happens = |park: &FakePark| {
                // It stores itself before the new worker does, or after.
                if late {
                    place.serve(PLACE);
                    survived.set(help(park));
                } else {
                    survived.set(help(park));
                    place.serve(PLACE);
                }
                if !survived.get() {
                    poison.replace(world.convict(MORTAL, HELPER, SUPERVISOR));
                    let mut announcer = bells.announcer(PLACE, AT).unwrap();
                    announcer.announce_after(park, &published());
                }
                client.request(2, 1001, b"call").unwrap();
                bells.announcer(PLACE, AT).unwrap().announce(park);
            };
            let scene = world.park.asleep(happens);
            let begun = world.park.time();
            let came = waiter.wait(&scene, Deadline::NEVER, || {
                let _ = place.keep(PLACE);
                // In its sleep the helper has the end: only then it looks.
                if world.park.sleeps() > 0 {
                    sweep();
                }
                served.borrow().contains(&2)
            });
            drop(scene);
            assert!(came);
            // With the server word gone over, one sleep to its end, and no more.
            let slept = world.park.time() - begun;
            assert!(slept < if late { 2 * BOUND } else { BOUND }, "{slept} ns");
            assert_eq!(place.server(), Some(PLACE));
            let wanted = |call| {
                let failed = poison.borrow().contains(&call);
                (call, if failed { MsgStatus::Failed } else { MsgStatus::Completed })
            };
            assert_eq!(replies(&mut client), [1, 2].map(wanted));
            survived.get()
        });
        assert!(deaths > 20, "{deaths}");
    }
}

/// The supervisor dies at each store of an order, and of adopting what another left: readers see
/// the order before or after, whole, and the next goes on from there.
#[test]
fn supervisor() {
    let of = |n: u32| Orders {
        incarnation: n,
        order: Order::Run,
        helper: Some(n),
        condition: Condition::Up,
        restarts: n,
        cause: Some(Cause::Exited(n as i32)),
        changed_ms: u64::from(n) << 32 | u64::from(n),
    };
    let mut seen = [0; 2];
    let deaths = at_every_step("orders", |budget| {
        let world = World::new();
        let control = world.control();
        let word = control.segment().resume_control(owner(SUPERVISOR)).unwrap();
        let mut writer = control.orders_writer(PLACE, &word).unwrap();
        writer.write(&of(1));
        writer.write(&of(2));
        let function = FunctionEntry { func_id: 1001, ..FunctionEntry::default() };
        control.functions().claim(owner(SUPERVISOR), &function).unwrap().keep();
        let survived = die(budget, move || writer.write(&of(3))).is_some();
        forget(word);
        let left = control.orders(PLACE).unwrap().read().unwrap();
        assert!(left == of(2) || left == of(3), "{left:?}");
        assert!(!survived || left == of(3));
        seen[(left.incarnation - 2) as usize] += 1;

        let adopted = || {
            let word = control.segment().recover_control(dead(SUPERVISOR), owner(HEIR)).unwrap();
            let recovered = control.functions().recover(dead(SUPERVISOR), owner(HEIR)).unwrap();
            recovered.for_each(forget);
            let mut writer = control.orders_writer(PLACE, &word).unwrap();
            assert_eq!(writer.orders(), Ok(left));
            writer.write(&of(4));
            word
        };
        let word = adopted();
        assert_eq!(control.orders(PLACE).unwrap().read(), Ok(of(4)));
        assert_eq!(control.function(1001), Some(function));
        drop(word);
        survived
    });
    // Seven words, the selector.
    assert_eq!(deaths, 8);
    assert_eq!(seen, [8, 1]);
}

/// A client dies at each store of connecting, calling, giving a call up and leaving: its place is
/// anybody's again, and nothing of it is left.
#[test]
fn client() {
    const SECOND: u32 = 1;
    let deaths = at_every_step("a client's life", |budget| {
        let world = World::new();
        let bells = world.bells();
        let place = bells.worker(PLACE).unwrap();
        place.serve(HELPER);
        let survived = die(budget, || {
            let mut slot = bells.reserve_client(owner(MORTAL)).unwrap();
            slot.update(&ClientEntry::new(4712, 3));
            bells.client(SECOND).unwrap().set_sleepless(true);
            bells.announcer(PLACE, SECOND).unwrap().announce(&world.park);
            bells.cancel(PLACE, SECOND).unwrap().ask(5);
            slot.live(ClientEntry::STATE).unwrap().store(ClientState::Leaving as u32, Relaxed);
            slot.release();
        });
        let clients = bells.clients();
        let before = clients.tenancy(SECOND).unwrap();
        for slot in clients.recover(dead(MORTAL), owner(SUPERVISOR)).unwrap() {
            assert_eq!(slot.key().index(), SECOND);
            // Here its segment's name is taken away.
            slot.release();
        }
        assert_eq!(clients.owner(SECOND), None);
        let next = bells.reserve_client(owner(NEXT)).unwrap();
        assert_eq!(next.key().index(), SECOND);
        assert!(next.key().generation() > before.generation(), "a tenancy twice");
        assert!(!next.is_published());
        for place in 0..SHAPE.workers() {
            assert!(!bells.cancel(place, SECOND).unwrap().is_asked(5), "of the one before");
        }
        assert!(!bells.client(SECOND).unwrap().is_sleepless());
        assert_eq!(clients.owner(AT), Some(owner(CLIENT)), "another's");
        assert_eq!(place.server(), Some(HELPER));
        survived.is_some()
    });
    assert!(deaths > 12, "{deaths}");
}

/// Half a segment is none, whatever stood there before; creating it again makes it whole.
#[test]
fn creation() {
    for over_an_old_one in [false, true] {
        let deaths = at_every_step("init_at of SRVC", |budget| {
            let memory = Memory::new(SHAPE.control_size().unwrap(), 0x5a);
            if over_an_old_one {
                let (layout, control) = create_control(&memory, NEXT);
                let orders = Orders { incarnation: 7, order: Order::Run, ..Orders::default() };
                layout.orders_writer(1, &control).unwrap().write(&orders);
                layout.claim_worker(1, 7, owner(NEXT)).unwrap().keep();
                layout.counters(1).unwrap().writers()[0].add(1 << 40);
                forget(control);
            }
            let survived = die(budget, || forget(create_control(&memory, MORTAL))).is_some();
            match ControlLayout::attach(memory.region()) {
                Ok(layout) => {
                    let of = layout.segment().owner().unwrap();
                    let old = over_an_old_one && budget == 0 && of == Some(owner(NEXT));
                    assert!(survived && of == Some(owner(MORTAL)) || old);
                }
                Err(_) => assert!(!survived),
            }
            let (layout, _control) = create_control(&memory, HEIR);
            assert_eq!(layout.orders(1).unwrap().read(), Ok(Orders::default()));
            assert_eq!(layout.workers().owners().count(), 0);
            assert_eq!(layout.counters(1).unwrap().values(), [0; 8]);
            assert!(!layout.monitor(1).unwrap().snapshot().unwrap().is_processing());
            survived
        });
        assert!(deaths > 150, "{deaths}");
        let deaths = at_every_step("init_at of BELL", |budget| {
            let memory = Memory::new(SHAPE.bells_size().unwrap(), 0x5a);
            if over_an_old_one {
                let (layout, control) = create_bells(&memory, NEXT);
                layout.reserve_client(owner(NEXT)).unwrap().keep();
                layout.worker(1).unwrap().serve(0);
                layout.cancel(1, 1).unwrap().ask(7);
                forget(control);
            }
            let survived = die(budget, || forget(create_bells(&memory, MORTAL))).is_some();
            match BellsLayout::attach(memory.region()) {
                Ok(layout) => {
                    let of = layout.segment().owner().unwrap();
                    let old = over_an_old_one && budget == 0 && of == Some(owner(NEXT));
                    assert!(survived && of == Some(owner(MORTAL)) || old);
                }
                Err(_) => assert!(!survived),
            }
            let (layout, _control) = create_bells(&memory, HEIR);
            assert_eq!(layout.clients().owners().count(), 0);
            assert_eq!(layout.worker(1).unwrap().server(), None);
            assert!(!layout.cancel(1, 1).unwrap().is_asked(7));
            survived
        });
        assert!(deaths > 150, "{deaths}");
    }
}
