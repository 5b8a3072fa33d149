//! The channel.

use crate::common::memory::Memory;
use crate::common::{dead, owner};
use crate::harness::{at_every_step, die};
use shm_primitives::channel::{
    Client, Lane, Limits, Options, ReceiveError, Recovered, RequestError, Worker, WorkerChannel,
};
use shm_primitives::message::MsgStatus;
use shm_primitives::monitor::{Group, MonitorWriter, ThreadMonitor};
use shm_primitives::part::{AttachError, ClaimError};
use shm_primitives::ring::frame::{self, Packing};
use std::cell::{Cell, RefCell};

const CLIENT: u32 = 1;
const WORKER: u32 = 2;
const HEIR: u32 = 3;
const SECOND_HEIR: u32 = 4;
const LANE: Lane = Lane { group: Group::Normal, worker: 1, lane: 2, epoch: 3 };
const LIMITS: Limits = Limits { reply: 20, progress: 4 };

/// The channel before the operation: where its rings begin, and how many calls were made,
/// answered, and their replies received. Call n has sequence id n, from 1, and n in all bytes.
#[derive(Clone, Copy, Debug)]
struct State {
    start: u32,
    calls: u64,
    answered: u64,
    received: u64,
}

/// Empty and as full as the account allows; before the end of data with and without padding to
/// come, and before positions wrap.
fn states() -> impl Iterator<Item = State> {
    let starts = [0, 8, 184, 216, 240, 248, 8u32.wrapping_neg(), 40u32.wrapping_neg()];
    let calls = [(1, 0, 0), (2, 0, 0), (2, 1, 0), (2, 1, 1), (5, 4, 3), (12, 11, 11)];
    starts.into_iter().flat_map(move |start| {
        calls.map(|(calls, answered, received)| State { start, calls, answered, received })
    })
}

impl State {
    fn options(self) -> Options {
        let ring = frame::Options::new(256).packing(Packing::Dense).start(self.start);
        Options::new(ring, ring).limits(LIMITS)
    }

    fn memory(self) -> Memory {
        // Every byte looks like part of a ready word.
        Memory::new(self.options().required_size().unwrap(), 0x18)
    }

    fn create(self, memory: &Memory) -> WorkerChannel<'_> {
        // SAFETY: nobody else knows this memory.
        unsafe { WorkerChannel::init_at(memory.region(), self.options()) }.unwrap()
    }

    fn build<'a>(
        self,
        memory: &'a Memory,
        monitor: &ThreadMonitor,
    ) -> (WorkerChannel<'a>, Client<'a>, Worker<'a>) {
        assert_eq!(self.options().max_calls(), 2);
        let channel = self.create(memory);
        let mut client = channel.claim_client(owner(CLIENT)).unwrap();
        let mut worker = channel.claim_worker(owner(WORKER), LANE).unwrap();
        let mut noted = monitor.writer();
        for call in 1..=self.calls {
            call_now(&mut client, call);
            if call <= self.answered {
                serve_now(&mut worker, &mut noted, call);
            }
            if call <= self.received {
                assert_eq!(receive(&mut client), Some((call, MsgStatus::Completed)));
            }
        }
        (channel, client, worker)
    }
}

fn call_now(client: &mut Client<'_>, call: u64) {
    client.request(call, 1001, &[call as u8; 9]).unwrap();
}

/// Serves the next request, which is `call`.
fn serve_now(worker: &mut Worker<'_>, noted: &mut MonitorWriter<'_>, call: u64) {
    let mut work = worker.peek().unwrap().begin(noted, 1).unwrap();
    assert_eq!((work.header().seq_id(), work.payload()), (call, &[call as u8; 9][..]));
    work.reply(MsgStatus::Completed, &[call as u8; 20]).unwrap();
    work.finish().unwrap();
}

/// Receives a reply, whole.
fn receive(client: &mut Client<'_>) -> Option<(u64, MsgStatus)> {
    match client.response() {
        Ok(response) => {
            let (call, status) = (response.header().seq_id(), response.status());
            assert!(response.iter().all(|byte| *byte == call as u8), "whole");
            assert_eq!(response.len(), if status.is_final() { 20 } else { 4 });
            response.release();
            Some((call, status))
        }
        Err(ReceiveError::Empty) => None,
        Err(error) => panic!("{error}: {:?}", client.corruption()),
    }
}

/// Receives all replies there are; the calls whose final one is among them.
fn finals(client: &mut Client<'_>) -> Vec<u64> {
    let mut calls = Vec::new();
    while let Some((call, status)) = receive(client) {
        if status.is_final() {
            calls.push(call);
        }
    }
    calls
}

/// The channel works as a new one does, for as many calls as it is made for.
fn check_usable(client: &mut Client<'_>, worker: &mut Worker<'_>, noted: &mut MonitorWriter<'_>) {
    assert_eq!(finals(client), []);
    assert!(worker.is_request_empty());
    for call in (100..110).step_by(2) {
        call_now(client, call);
        call_now(client, call + 1);
        let refused = client.request(99, 1001, &[]);
        assert_eq!(refused, Err(RequestError::Outstanding { calls: 2 }));
        for call in [call, call + 1] {
            let mut work = worker.peek().unwrap().begin(noted, 1).unwrap();
            // The first report after a take-over may be dropped; room is there for all.
            work.reply_progress(&[call as u8; 4]).expect("room for a report");
            work.reply(MsgStatus::Completed, &[call as u8; 20]).expect("room for the reply");
            work.finish().unwrap();
        }
        assert_eq!(finals(client), [call, call + 1]);
    }
}

/// What the dead worker did, as the world outside shared memory knows it.
#[derive(Default)]
struct World {
    /// Calls whose handler ran.
    ran: RefCell<Vec<u64>>,
}

impl World {
    fn run(&self, call: u64) {
        assert!(!self.ran.borrow().contains(&call), "call {call} was run twice");
        self.ran.borrow_mut().push(call);
    }
}

/// Lets a worker serving the next request die at each step, with so many reports of progress,
/// and checks what its successor is told and what the client gets.
fn worker_dies(what: &str, reports: usize, released: bool, finish: bool) {
    let mut deaths = 0;
    let mut found = [0; 3];
    for state in states() {
        deaths += at_every_step(what, |budget| {
            let memory = state.memory();
            let monitor = ThreadMonitor::new();
            let (channel, client, mut worker) = state.build(&memory, &monitor);
            let client = RefCell::new(client);
            let world = World::default();
            let (call, received) = (state.answered + 1, RefCell::new(Vec::new()));
            let survived = die(budget, || {
                let mut noted = monitor.writer();
                let mut work = worker.peek().unwrap().begin(&mut noted, 1).unwrap();
                world.run(call);
                for _ in 0..reports {
                    work.reply_progress(&[call as u8; 4]).expect("room for a report");
                    if released {
                        // On a thread of its own: the client lives on.
                        let client: &mut Client<'_> = &mut client.borrow_mut();
                        let read = std::thread::scope(|scope| {
                            scope.spawn(|| finals(client)).join().unwrap()
                        });
                        received.borrow_mut().extend(read);
                    }
                }
                work.reply(MsgStatus::Completed, &[call as u8; 20]).expect("room for the reply");
                if finish {
                    work.finish().unwrap();
                } else {
                    drop(work);
                }
                drop(worker);
            })
            .is_some();
            let ran = world.ran.borrow().contains(&call);
            let mut client = client.into_inner();
            // Every other time the client reads its replies before the successor looks.
            let mut received = received.into_inner();
            if budget % 2 == 0 {
                received.extend(finals(&mut client));
            }
            let mut noted = monitor.recover_writer(dead(WORKER));
            let recovered = match channel.worker().unwrap() {
                [None, None] => {
                    Recovered::Nothing(channel.claim_worker(owner(HEIR), LANE).unwrap())
                }
                _ => channel.recover_worker(dead(WORKER), owner(HEIR), LANE, &mut noted).unwrap(),
            };
            let (kind, mut worker) = match recovered {
                Recovered::Nothing(worker) => (0, worker),
                Recovered::Answered(header, worker) => {
                    assert_eq!(header.seq_id(), call);
                    (1, worker)
                }
                Recovered::Poison(mut poison) => {
                    assert_eq!((poison.header().seq_id(), poison.doubt()), (call, None));
                    assert_eq!(&*poison.request().unwrap(), [call as u8; 9]);
                    (2, poison.skip())
                }
            };
            found[kind] += 1;
            noted.reset();
            received.extend(finals(&mut client));
            let answered = received.contains(&call);
            // Poison exactly when it was begun and not answered.
            assert_eq!(kind == 2, ran && !answered, "{state:?}: kind {kind}");
            assert!(kind != 1 || answered, "{state:?}");
            assert!(!survived || answered, "{state:?}");
            // What is left was never begun, and is served now, once.
            while let Ok(request) = worker.peek() {
                let call = request.header().seq_id();
                world.run(call);
                serve_now(&mut worker, &mut noted, call);
            }
            received.extend(finals(&mut client));
            let poison = if kind == 2 { Some(call) } else { None };
            let expected: Vec<u64> =
                (state.received + 1..=state.calls).filter(|call| Some(*call) != poison).collect();
            assert_eq!(received, expected, "{state:?}: lost, doubled or out of order");
            check_usable(&mut client, &mut worker, &mut noted);
            survived
        });
    }
    assert!(deaths > 0, "{what} never died");
    assert!(found.iter().all(|count| *count > 0), "{what}: {found:?}");
}

#[test]
fn serving() {
    worker_dies("serve", 0, false, true);
}

#[test]
fn serving_dropped_when_answered() {
    worker_dies("serve, drop", 0, false, false);
}

#[test]
fn serving_with_a_report() {
    worker_dies("serve with a report", 1, false, true);
}

#[test]
fn serving_with_reports_dropped() {
    worker_dies("serve with reports, one kept", 3, false, true);
}

/// More than a lap of them.
#[test]
fn serving_with_reports_released() {
    worker_dies("serve with reports", 9, true, true);
}

/// Giving a request back: it is poison while the monitor says so, and then not.
#[test]
fn giving_back() {
    let mut deaths = 0;
    for state in states() {
        deaths += at_every_step("give back", |budget| {
            let memory = state.memory();
            let monitor = ThreadMonitor::new();
            let (channel, mut client, mut worker) = state.build(&memory, &monitor);
            let call = state.answered + 1;
            let (begun, given) = (Cell::new(false), Cell::new(false));
            let survived = die(budget, || {
                let mut noted = monitor.writer();
                let mut work = worker.peek().unwrap().begin(&mut noted, 1).unwrap();
                begun.set(true);
                work.grant(20).unwrap().fill(0x18);
                work.give_back();
                given.set(true);
                drop(worker);
            })
            .is_some();
            let mut noted = monitor.recover_writer(dead(WORKER));
            let mut worker = match channel.worker().unwrap() {
                [None, None] => channel.claim_worker(owner(HEIR), LANE).unwrap(),
                _ => match channel
                    .recover_worker(dead(WORKER), owner(HEIR), LANE, &mut noted)
                    .unwrap()
                {
                    Recovered::Poison(poison) => {
                        assert!(begun.get() && !given.get());
                        poison.skip()
                    }
                    Recovered::Nothing(mut worker) => {
                        assert!(!begun.get() || given.get());
                        serve_now(&mut worker, &mut noted, call);
                        worker
                    }
                    Recovered::Answered(..) => panic!("{state:?}: it was not"),
                },
            };
            noted.reset();
            while let Ok(request) = worker.peek() {
                let call = request.header().seq_id();
                serve_now(&mut worker, &mut noted, call);
            }
            finals(&mut client);
            check_usable(&mut client, &mut worker, &mut noted);
            survived
        });
    }
    assert!(deaths > 0);
}

/// A client that dies sending: the request is there whole or not at all, its successor gets the
/// replies, and its account is right.
#[test]
fn requesting() {
    let mut deaths = 0;
    for state in states().filter(|state| state.calls - state.received < 2) {
        for in_place in [false, true] {
            deaths += at_every_step("request", |budget| {
                let memory = state.memory();
                let monitor = ThreadMonitor::new();
                let (channel, mut client, mut worker) = state.build(&memory, &monitor);
                let call = state.calls + 1;
                let sent = Cell::new(false);
                let survived = die(budget, || {
                    if in_place {
                        let mut grant = client.grant(call, 1001, 30).unwrap();
                        grant.fill(call as u8);
                        grant.commit(9);
                    } else {
                        call_now(&mut client, call);
                    }
                    sent.set(true);
                    drop(client);
                })
                .is_some();
                let mut client = match channel.client().unwrap() {
                    [None, None] => channel.claim_client(owner(HEIR)).unwrap(),
                    _ => channel.recover_client(dead(CLIENT), owner(HEIR)).unwrap(),
                };
                let mut noted = monitor.writer();
                let mut served = state.answered;
                while !worker.is_request_empty() {
                    served += 1;
                    serve_now(&mut worker, &mut noted, served);
                }
                assert!(served == state.calls || served == call, "{state:?}");
                assert!(!sent.get() || served == call, "{state:?}: sent and lost");
                let expected: Vec<u64> = (state.received + 1..=served).collect();
                assert_eq!(finals(&mut client), expected, "{state:?}");
                check_usable(&mut client, &mut worker, &mut noted);
                survived
            });
        }
    }
    assert!(deaths > 0);
}

/// A client that dies receiving: its successor sees the reply in hand again, and no other is lost
/// or seen twice.
#[test]
fn receiving() {
    let mut deaths = 0;
    for state in states().filter(|state| state.answered > state.received) {
        deaths += at_every_step("receive", |budget| {
            let memory = state.memory();
            let monitor = ThreadMonitor::new();
            let (channel, mut client, mut worker) = state.build(&memory, &monitor);
            let taken = Cell::new(0);
            let survived = die(budget, || {
                assert!(receive(&mut client).is_some());
                taken.set(1);
                drop(client);
            })
            .is_some();
            let mut client = match channel.client().unwrap() {
                [None, None] => channel.claim_client(owner(HEIR)).unwrap(),
                _ => channel.recover_client(dead(CLIENT), owner(HEIR)).unwrap(),
            };
            let seen = finals(&mut client);
            let first = state.answered + 1 - seen.len() as u64;
            assert_eq!(seen, (first..=state.answered).collect::<Vec<_>>());
            assert!(first == state.received + 1 && taken.get() == 0 || first == state.received + 2);
            let mut noted = monitor.writer();
            for call in state.answered + 1..=state.calls {
                serve_now(&mut worker, &mut noted, call);
            }
            finals(&mut client);
            check_usable(&mut client, &mut worker, &mut noted);
            survived
        });
    }
    assert!(deaths > 0);
}

/// What a worker that died with a request in hand has left.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Left {
    Nothing,
    Answered,
    Poison,
    /// As `Poison`, and whoever recovers tells the client through the ring.
    Told,
}

/// A recoverer that dies at each step of taking over, skipping, resetting: whoever comes after it
/// is told the same until it was dealt with, and only until then.
#[test]
fn recovering() {
    let mut deaths = 0;
    for state in states() {
        for left in [Left::Nothing, Left::Answered, Left::Poison, Left::Told] {
            deaths += at_every_step("recover", |budget| {
                let memory = state.memory();
                let monitor = ThreadMonitor::new();
                let (channel, mut client, mut worker) = state.build(&memory, &monitor);
                let call = state.answered + 1;
                let mut noted = monitor.writer();
                if left != Left::Nothing {
                    let mut work = worker.peek().unwrap().begin(&mut noted, 1).unwrap();
                    match left {
                        Left::Answered => {
                            work.reply(MsgStatus::Completed, &[call as u8; 20]).unwrap();
                        }
                        _ => work.grant(20).unwrap().fill(0x18),
                    }
                    std::mem::forget(work);
                }
                std::mem::forget(worker);

                let (told, skipped) = (Cell::new(0), Cell::new(false));
                let recover = |dead_one: u32, heir: u32| {
                    let mut noted = monitor.recover_writer(dead(dead_one));
                    let recovered =
                        channel.recover_worker(dead(dead_one), owner(heir), LANE, &mut noted)?;
                    let worker = match recovered {
                        Recovered::Nothing(worker) => {
                            assert!(
                                left == Left::Nothing
                                    || skipped.get()
                                    || told.get() > 0
                                    || left == Left::Answered
                            );
                            worker
                        }
                        Recovered::Answered(header, worker) => {
                            assert!(matches!(left, Left::Answered | Left::Told));
                            assert_eq!(header.seq_id(), call);
                            worker
                        }
                        Recovered::Poison(mut poison) => {
                            assert!(!skipped.get(), "told again after it was skipped");
                            assert!(matches!(left, Left::Poison | Left::Told));
                            assert_eq!(poison.header().seq_id(), call);
                            if left == Left::Told {
                                assert_eq!(told.get(), 0, "told again after it was answered");
                                poison.fail(&[call as u8; 20]).expect("room for the reply");
                            }
                            told.set(told.get() + 1);
                            let worker = poison.skip();
                            skipped.set(true);
                            worker
                        }
                    };
                    noted.reset();
                    Ok::<_, ClaimError>(worker)
                };
                let survived =
                    die(budget, || std::mem::forget(recover(WORKER, HEIR).unwrap())).is_some();
                // The next one begins with whom it knows to be dead and follows the names.
                let mut from = HEIR;
                let mut worker = loop {
                    match recover(from, SECOND_HEIR) {
                        Ok(worker) => break worker,
                        Err(ClaimError::NotTheOwner { found: Some(other) }) => {
                            assert!([HEIR, WORKER].contains(&other.index()));
                            from = other.index();
                        }
                        Err(error) => panic!("{error}"),
                    }
                };
                match left {
                    Left::Nothing | Left::Answered => assert_eq!(told.get(), 0),
                    Left::Poison => assert!([1, 2].contains(&told.get()), "{state:?}"),
                    // The reply of one that died right after it counts.
                    Left::Told => assert!(told.get() <= 1, "{state:?}"),
                }
                let mut noted = monitor.writer();
                assert!(!noted.snapshot().is_processing());
                let mut got = finals(&mut client);
                let mut next = if left == Left::Nothing { call } else { call + 1 };
                while !worker.is_request_empty() {
                    serve_now(&mut worker, &mut noted, next);
                    next += 1;
                }
                assert_eq!(next, state.calls + 1, "{state:?} {left:?}");
                got.extend(finals(&mut client));
                let expected: Vec<u64> = (state.received + 1..=state.calls)
                    .filter(|n| left != Left::Poison || *n != call)
                    .collect();
                assert_eq!(got, expected, "{state:?} {left:?}");
                check_usable(&mut client, &mut worker, &mut noted);
                survived
            });
        }
    }
    assert!(deaths > 0);
}

/// Claims and recoveries of both sides die between their two ends too.
#[test]
fn ends() {
    let mut deaths = 0;
    for state in states() {
        for (clients, recovers) in [(true, true), (true, false), (false, true), (false, false)] {
            deaths += at_every_step("take both ends", |budget| {
                let memory = state.memory();
                let monitor = ThreadMonitor::new();
                let (channel, client, worker) = state.build(&memory, &monitor);
                let (mut client, mut worker) = (Some(client), Some(worker));
                let mut noted = monitor.writer();
                match (clients, recovers) {
                    (true, true) => std::mem::forget(client.take()),
                    (true, false) => drop(client.take()),
                    (false, true) => std::mem::forget(worker.take()),
                    (false, false) => drop(worker.take()),
                }
                let survived = die(budget, || match (clients, recovers) {
                    (true, true) => {
                        drop(channel.recover_client(dead(CLIENT), owner(HEIR)).unwrap());
                    }
                    (true, false) => drop(channel.claim_client(owner(HEIR)).unwrap()),
                    (false, true) => drop(
                        channel
                            .recover_worker(dead(WORKER), owner(HEIR), LANE, &mut noted)
                            .unwrap(),
                    ),
                    (false, false) => drop(channel.claim_worker(owner(HEIR), LANE).unwrap()),
                })
                .is_some();
                let mut from = HEIR;
                loop {
                    let heir = owner(SECOND_HEIR);
                    let result = if clients {
                        channel.recover_client(dead(from), heir).map(|got| client = Some(got))
                    } else {
                        match channel.recover_worker(dead(from), heir, LANE, &mut noted) {
                            Ok(Recovered::Nothing(got)) => {
                                worker = Some(got);
                                Ok(())
                            }
                            Ok(other) => panic!("{other:?}"),
                            Err(error) => Err(error),
                        }
                    };
                    match result {
                        Ok(()) => break,
                        Err(ClaimError::NotTheOwner { found: Some(other) }) => {
                            from = other.index();
                        }
                        Err(ClaimError::NotTheOwner { found: None }) => {
                            if clients {
                                client = Some(channel.claim_client(heir).unwrap());
                            } else {
                                worker = Some(channel.claim_worker(heir, LANE).unwrap());
                            }
                            break;
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
                let (mut client, mut worker) = (client.unwrap(), worker.unwrap());
                for call in state.answered + 1..=state.calls {
                    serve_now(&mut worker, &mut noted, call);
                }
                let expected: Vec<u64> = (state.received + 1..=state.calls).collect();
                assert_eq!(finals(&mut client), expected, "{state:?}");
                check_usable(&mut client, &mut worker, &mut noted);
                survived
            });
        }
    }
    assert!(deaths > 0);
}

/// Over memory that held a channel of another shape: never a mix of the two.
#[test]
fn creation() {
    let state = State { start: 0u32.wrapping_sub(8), calls: 0, answered: 0, received: 0 };
    let ring = |capacity| frame::Options::new(capacity).packing(Packing::Dense);
    for old in [None, Some(ring(256)), Some(ring(128)), Some(ring(512))] {
        let deaths = at_every_step("init_at", |budget| {
            let memory = Memory::new(4096, 0x18);
            if let Some(old) = old {
                let options = Options::new(old, old).limits(LIMITS);
                // SAFETY: nobody else knows this memory.
                unsafe { WorkerChannel::init_at(memory.region(), options) }.unwrap();
            }
            let survived = die(budget, || state.create(&memory)).is_some();
            // SAFETY: nobody else writes to this memory.
            match unsafe { WorkerChannel::attach(memory.region(), None) } {
                Ok(_) => assert!(survived || budget == 0 && old.is_some(), "half a channel"),
                Err(error) => {
                    assert!(
                        !survived && matches!(error, AttachError::WrongMagic { .. }),
                        "{error}"
                    );
                }
            }
            let monitor = ThreadMonitor::new();
            let (_, mut client, mut worker) = state.build(&memory, &monitor);
            check_usable(&mut client, &mut worker, &mut monitor.writer());
            survived
        });
        assert!(deaths > 20);
    }
}
