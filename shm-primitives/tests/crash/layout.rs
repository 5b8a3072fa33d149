//! Layouts: their creators die, and the supervisors who recover workers in them.

use crate::common::memory::Memory;
use crate::common::{dead, owner};
use crate::harness::{at_every_step, die};
use shm_primitives::channel::{Client, ReceiveError, Recovered, Worker};
use shm_primitives::identity::OwnerId;
use shm_primitives::layout::lrpc::{self, LrpcLayout, NodeId};
use shm_primitives::layout::phoenix::{GroupShape, PhoenixShmLayout, Place, Shape};
use shm_primitives::message::MsgStatus;
use shm_primitives::monitor::Group;
use shm_primitives::segment::Control;

const CALLER: u32 = 1;
const WORKER: u32 = 2;
const SUPERVISOR: u32 = 3;
const HEIR: u32 = 4;
const SHAPE: Shape = Shape::new(GroupShape::new(2, 2), GroupShape::new(1, 1));
const PLACE: Place = Place { group: Group::Normal, worker: 1 };

fn create(memory: &Memory, by: u32) -> (PhoenixShmLayout<'_>, Control<'_>) {
    // SAFETY: nobody else creates anything in this memory.
    unsafe { PhoenixShmLayout::init_at(memory.region(), &SHAPE, owner(by)) }.unwrap()
}

/// A caller and worker 1, with two calls sent.
fn ends<'a>(layout: &PhoenixShmLayout<'a>) -> (Client<'a>, Worker<'a>) {
    let channel = layout.channel(PLACE).unwrap();
    let lane = layout.lane(PLACE.group, PLACE.worker).unwrap();
    let mut client = channel.claim_client(owner(CALLER)).unwrap();
    let worker = channel.claim_worker(owner(WORKER), lane).unwrap();
    client.request(1, 1001, b"one").unwrap();
    client.request(2, 1001, b"two").unwrap();
    (client, worker)
}

/// Receives all replies there are; their calls.
fn replies(client: &mut Client<'_>) -> Vec<u64> {
    let mut calls = Vec::new();
    loop {
        match client.response() {
            Ok(response) => {
                calls.push(response.header().seq_id());
                response.release();
            }
            Err(error) => {
                assert_eq!(error, ReceiveError::Empty);
                return calls;
            }
        }
    }
}

/// Half a layout is none, whatever stood there before; creating it again makes it whole.
#[test]
fn creation() {
    for over_an_old_one in [false, true] {
        let deaths = at_every_step("init_at", |budget| {
            let memory = Memory::new(SHAPE.required_size().unwrap(), 0x5a);
            let mut old = None;
            if over_an_old_one {
                let (layout, _control) = create(&memory, CALLER);
                std::mem::forget(ends(&layout));
                old = Some(layout.segment().epoch());
            }
            let survived = die(budget, || create(&memory, CALLER)).is_some();
            let valid = PhoenixShmLayout::is_valid(&memory.region());
            assert_eq!(valid, survived || over_an_old_one && budget == 0);
            let (layout, _control) = create(&memory, HEIR);
            assert_ne!(Some(layout.segment().epoch()), old);
            let (mut client, mut worker) = ends(&layout);
            let mut monitor = layout.monitor(PLACE).unwrap().writer();
            for call in [1, 2] {
                let mut work = worker.peek().unwrap().begin(&mut monitor, 0).unwrap();
                work.reply(MsgStatus::Completed, b"").unwrap();
                work.finish().unwrap();
                assert_eq!(replies(&mut client), [call]);
            }
            survived
        });
        // Header and table, groups, monitors, and two rings a channel.
        assert!(deaths > 32 + 2 * 16 + 3 * 16 + 6 * 14, "{deaths}");
    }
}

/// A worker dies at each of its steps at call 1, and whoever recovers its lane at each of its
/// own: call 1 is answered or poison, once, and call 2 is served.
#[test]
fn recovery() {
    // Those of a worker in its call, with those of its supervisor.
    for worker_dies_at in 0..40 {
        let mut finished = false;
        at_every_step("recover_crashed", |budget| {
            let memory = Memory::new(SHAPE.required_size().unwrap(), 0x5a);
            let (layout, _control) = create(&memory, CALLER);
            let (mut client, mut worker) = ends(&layout);
            let mut monitor = layout.monitor(PLACE).unwrap().writer();
            finished = die(worker_dies_at, move || {
                let mut work = worker.peek().unwrap().begin(&mut monitor, 1000).unwrap();
                work.reply(MsgStatus::Completed, b"").unwrap();
                work.finish().unwrap();
                std::mem::forget(worker);
            })
            .is_some();

            let noted: Vec<_> = layout.scan_crashed(2000, 500).collect();
            let suspect = noted.first().and_then(|noted| layout.confirm(noted));
            if let Some(suspect) = suspect {
                assert_eq!((suspect.place(), suspect.owner()), (PLACE, Some(owner(WORKER))));
            }

            let letters = std::cell::RefCell::new(Vec::new());
            let recover = |from: OwnerId, by: u32| {
                let died = dead(from.index());
                let mut monitor = layout.monitor(PLACE).unwrap().recover_writer(died);
                let recovered = layout.recover_crashed(PLACE, died, owner(by), &mut monitor);
                let worker = match recovered.unwrap() {
                    Recovered::Nothing(worker) | Recovered::Answered(_, worker) => worker,
                    Recovered::Poison(mut poison) => {
                        assert_eq!(poison.doubt(), None);
                        assert_eq!(&*poison.request().unwrap(), b"one");
                        letters.borrow_mut().push(poison.header().seq_id());
                        poison.skip()
                    }
                };
                monitor.reset();
                worker
            };
            let survived = die(budget, || recover(owner(WORKER), SUPERVISOR));
            let died = survived.is_none();
            let mut worker = survived.unwrap_or_else(|| {
                // Whose the lane is now: the dead supervisor may have had the first end only.
                let [requests, responses] = layout.channel(PLACE).unwrap().worker().unwrap();
                if requests == Some(owner(SUPERVISOR)) && responses == Some(owner(WORKER)) {
                    let mut unused = layout.monitor(PLACE).unwrap().writer();
                    let supervisor = dead(SUPERVISOR);
                    let refused =
                        layout.recover_crashed(PLACE, supervisor, owner(HEIR), &mut unused);
                    assert!(refused.is_err());
                }
                let [requests, responses] = layout.channel(PLACE).unwrap().worker().unwrap();
                recover(responses.or(requests).unwrap(), HEIR)
            });
            assert_eq!(layout.scan_crashed(u64::MAX, 0).count(), 0, "the monitor was reset");
            let mut served = Vec::new();
            let mut monitor = layout.monitor(PLACE).unwrap().writer();
            while let Ok(request) = worker.peek() {
                served.push(request.header().seq_id());
                let mut work = request.begin(&mut monitor, 0).unwrap();
                work.reply(MsgStatus::Completed, b"").unwrap();
                work.finish().unwrap();
            }
            let answered = replies(&mut client);
            let letters = letters.take();
            assert!(letters.len() <= 1 + usize::from(died), "{letters:?}");
            assert_eq!(answered.contains(&1), letters.is_empty(), "answered or poison");
            assert!(answered.iter().filter(|call| **call == 1).count() <= 1);
            assert_eq!(answered.last(), Some(&2));
            assert!(served.ends_with(&[2]), "call 2 is served: {served:?}");
            !died
        });
        if finished {
            assert!(worker_dies_at > 18, "stores of a call: {worker_dies_at}");
            return;
        }
    }
    panic!("the call does not end");
}

/// The registry: creating it, and registering in it.
#[test]
fn registry() {
    const NODES: lrpc::Shape = lrpc::Shape::new(2, 64);
    let id = NodeId::new(b"camera").unwrap();
    fn create(memory: &Memory, by: u32) -> (LrpcLayout<'_>, Control<'_>) {
        // SAFETY: nobody else creates anything in this memory.
        unsafe { LrpcLayout::init_at(memory.region(), NODES, owner(by)) }.unwrap()
    }
    let deaths = at_every_step("init_at", |budget| {
        let memory = Memory::new(NODES.required_size().unwrap(), 0x5a);
        let survived = die(budget, || create(&memory, CALLER)).is_some();
        assert_eq!(LrpcLayout::is_valid(&memory.region()), survived);
        let (layout, _control) = create(&memory, HEIR);
        assert_eq!(layout.nodes().count(), 0);
        assert_eq!(layout.register(owner(WORKER), &id, 7, 1).unwrap().channel(), 0);
        survived
    });
    assert!(deaths > 32 + 2 + 16 + 6, "{deaths}");

    // Owner, version, heartbeat, and live words before it; the entry; selector, version; leaving.
    let deaths = at_every_step("register", |budget| {
        let memory = Memory::new(NODES.required_size().unwrap(), 0x5a);
        let (layout, _control) = create(&memory, CALLER);
        let survived = die(budget, || drop(layout.register(owner(WORKER), &id, 7, 1234).unwrap()));
        for node in layout.nodes() {
            let node = node.expect("nobody writes");
            assert_eq!((node.id, node.pid, node.channel), (id, 7, 0), "whole");
            assert_eq!(layout.silent_for(node.key, 1300), Some(66), "with its heartbeat");
        }
        let held = usize::from(survived.is_none() && budget > 0);
        let recovered = layout.registry().recover(dead(WORKER), owner(SUPERVISOR)).unwrap();
        assert_eq!(recovered.map(|slot| slot.release()).count(), held);
        let again = layout.register(owner(HEIR), &id, 8, 0).unwrap();
        assert_eq!(again.channel(), 0, "the channel came back");
        survived.is_some()
    });
    assert_eq!(deaths, 1 + 1 + 1 + 1 + 18 + 2 + 2);
}
