//! Workers in threads, with supervisor and clients by hand.

mod processes;
mod turns;

use super::super::bare::{Bare, BareClient, soon};
use super::super::failure::Failure;
use super::*;
use shm_primitives::layout::phoenix::GroupShape;
use shm_primitives::layout::service::{
    ClientEntry, Order, Orders, Shape, WorkerCount, WorkerEntry,
};
use shm_primitives::message::MsgStatus;
use shm_primitives::part::Corrupt;
use shm_primitives::sync::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const SHAPE: Shape = Shape::new(GroupShape::new(2, 64), GroupShape::new(1, 16)).clients(40);
const ECHO: u32 = 1001;

type Running = JoinHandle<Result<(), WorkerError>>;

fn echo(request: &Request<'_>, reply: Reply<'_>) -> Result<(), HandlerError> {
    reply.send(request.payload())
}

/// Starts a worker in a thread, as incarnation `incarnation`, and waits until it serves.
fn start(
    bare: &Bare,
    place: u32,
    incarnation: u32,
    prepare: impl FnOnce(Worker) -> Worker + Send + 'static,
) -> Running {
    bare.run(place, incarnation);
    let assignment = bare.assignment(place, incarnation);
    let thread = thread::spawn(move || prepare(Worker::attach(assignment)?).run());
    bare.wait_serving(place, incarnation);
    thread
}

fn start_echo(bare: &Bare, place: u32, wait: Wait) -> Running {
    start(bare, place, 1, move |worker| worker.wait(wait).on(ECHO, echo).unwrap())
}

#[track_caller]
fn stop(bare: &Bare, place: u32, worker: Running) {
    bare.drain(place);
    worker.join().unwrap().unwrap();
}

#[track_caller]
fn failure((status, payload): (MsgStatus, Vec<u8>)) -> Failure {
    assert_eq!(status, MsgStatus::Failed);
    Failure::from_bytes(&payload).unwrap()
}

/// What would be the same each time is not to be tried again, also if the program says it in words
/// of its own.
#[test]
fn exit_codes_say_whether_to_try_again() {
    #[derive(Debug, thiserror::Error)]
    #[error("no worker: {0}")]
    struct Own(#[source] WorkerError);
    let of = |error: Box<dyn std::error::Error>| super::conclude(Err(error));
    let twice = || WorkerError::Registered { func_id: 1001 };
    assert_eq!(super::conclude(Ok(())), 0);
    assert_eq!([of(twice().into()), of(Own(twice()).into())], [78; 2]);
    assert_eq!([of(WorkerError::Forked.into()), of("no model".into())], [1; 2]);
}

#[test]
fn calls_are_answered() {
    for wait in [Wait::Adaptive, Wait::Block, Wait::Poll] {
        let bare = Bare::new(SHAPE);
        let worker = start_echo(&bare, 1, wait);
        assert_eq!(bare.bells.layout.worker(1).unwrap().is_sleepless(), wait == Wait::Poll);
        let mut client = bare.client();
        for number in 0..100u32 {
            let answer = client.call(1, ECHO, &number.to_le_bytes());
            assert_eq!(answer, (MsgStatus::Completed, number.to_le_bytes().to_vec()));
        }
        let entry = bare.serving(1).unwrap();
        assert_eq!((entry.incarnation, entry.pid), (1, std::process::id()));
        stop(&bare, 1, worker);
        assert_eq!(bare.control.layout.workers().owner(1), None, "the place is free");
        assert_eq!(bare.counters(1)[WorkerCount::Processed as usize], 100);
        assert_eq!(bare.counters(1)[WorkerCount::Failed as usize], 0);
        let channel = client.mapped.layout.channel(SHAPE.place(1).unwrap()).unwrap();
        assert_eq!(channel.worker().unwrap(), [None, None], "and the lane");
    }
}

/// A service that is made anew while a worker takes its place: it has the bells of the service that
/// it serves, and is heard.
#[test]
fn bells_are_those_of_the_control_segment() {
    use crate::segment::{OpenOptions, Segment};
    use crate::service::mapped::{BellsMapped, ControlMapped, HEADER, MapError};
    use crate::service::name::{bells_of, control_of};
    let bare = Bare::new(SHAPE);
    let names = [bells_of(&bare.service), control_of(&bare.service)];
    let path = |name| bare.domain.path_of(name);
    let aside = |name| path(name).with_extension("later");
    // As if it were the one that comes later.
    names.iter().for_each(|name| std::fs::rename(path(name), aside(name)).unwrap());
    let (domain, service, owner) = (&bare.domain, &bare.service, bare.member.id());
    let made = BellsMapped::create::<MapError>(domain, service, &SHAPE, owner);
    let (_bells, _bells_word) = made.unwrap();
    let made = ControlMapped::create(domain, service, &SHAPE, owner, |_, _| Ok::<_, MapError>(()));
    let (_control, _control_word) = made.unwrap();
    bare.run(0, 1);
    let options = OpenOptions::new(HEADER);
    let mut worker = None;
    // Who has a segment's name in hand holds up those who open it.
    let kept = Segment::unlink(domain, &names[1], options, |_| {
        let assignment = bare.assignment(0, 1);
        worker = Some(thread::spawn(move || {
            Worker::attach(assignment)?.wait(Wait::Block).on(ECHO, echo)?.run()
        }));
        // Time to open whatever it opens before that.
        thread::sleep(Duration::from_millis(200));
        names.iter().for_each(|name| std::fs::rename(aside(name), path(name)).unwrap());
        Ok::<_, MapError>(false)
    });
    assert!(!kept.unwrap());
    bare.wait_serving(0, 1);
    assert_eq!(bare.client().call(0, ECHO, b"x").1, b"x");
    stop(&bare, 0, worker.unwrap());
}

/// A service of one group, either of them.
#[test]
fn one_group_will_do() {
    for (normal, vip) in [(1, 0), (0, 1)] {
        let shape = Shape::new(GroupShape::new(normal, 64), GroupShape::new(vip, 16)).clients(4);
        let bare = Bare::new(shape);
        let worker = start_echo(&bare, 0, Wait::Adaptive);
        assert_eq!(bare.client().call(0, ECHO, b"x").1, b"x");
        stop(&bare, 0, worker);
    }
}

#[test]
fn what_fails_is_told() {
    let bare = Bare::new(SHAPE);
    let worker = start(&bare, 0, 1, |worker| {
        worker
            .on(1001, |_: &Request, _: Reply| Err(HandlerError::new("no")))
            .and_then(|worker| worker.on(1002, |_: &Request, _: Reply| panic!("number {}", 2)))
            .and_then(|worker| worker.on(1003, |_: &Request, _: Reply| panic!("still")))
            .and_then(|worker| worker.on(1004, |_: &Request, _: Reply| Ok(())))
            .and_then(|worker| worker.on(1005, |_: &Request, reply: Reply| reply.send(&[0; 65])))
            .and_then(|worker| {
                worker.on(1006, |request: &Request, reply: Reply| {
                    reply.send(b"first")?;
                    let text = std::str::from_utf8(request.payload())?;
                    text.parse::<u32>()?;
                    Ok(())
                })
            })
            .and_then(|worker| {
                worker.on(1007, |_: &Request, reply: Reply| {
                    reply.send(b"first")?;
                    panic!("after the answer");
                })
            })
            .and_then(|worker| {
                worker.on(1008, |_: &Request, _: Reply| Err("x".parse::<u32>().unwrap_err().into()))
            })
            .and_then(|worker| {
                worker.on(1009, |_: &Request, _: Reply| Err(HandlerError::refused("odd")))
            })
            .and_then(|worker| {
                worker.on(1010, |_: &Request, _: Reply| Err(HandlerError::new([b'x'; 200])))
            })
            .and_then(|worker| {
                worker.on(1011, |_: &Request, reply: Reply| {
                    let mut grant = reply.grant(8)?;
                    grant.copy_from_slice(b"in place");
                    grant.send(2)
                })
            })
            .unwrap()
    });
    let mut client = bare.client();
    let completed = |payload: &[u8]| (MsgStatus::Completed, payload.to_vec());
    // Twice: each leaves the lane as it was.
    for _ in 0..2 {
        let mut call = |func| client.call(0, func, b"x");
        assert_eq!(failure(call(1001)), Failure::Handler(b"no".to_vec()));
        assert_eq!(failure(call(1002)), Failure::Panicked("number 2".into()));
        assert_eq!(failure(call(1003)), Failure::Panicked("still".into()));
        assert_eq!(call(1004), completed(b""));
        assert_eq!(failure(call(1005)), Failure::TooLarge { length: 65, most: 64 });
        assert_eq!(call(1006), completed(b"first"), "the error came after it");
        assert_eq!(call(1007), completed(b"first"));
        let text = b"invalid digit found in string".to_vec();
        assert_eq!(failure(call(1008)), Failure::Handler(text));
        assert_eq!(failure(call(1009)), Failure::Refused("odd".into()));
        assert_eq!(failure(call(1010)), Failure::Handler(vec![b'x'; 60]), "cut");
        assert_eq!(call(1011), completed(b"in"));
        assert_eq!(failure(call(1012)), Failure::UnknownFunction);
        assert_eq!(failure(call(7)), Failure::UnknownFunction);
    }
    assert!(!bare.control.layout.monitor(0).unwrap().snapshot().unwrap().is_processing());
    stop(&bare, 0, worker);
    assert_eq!(bare.counters(0)[..2], [26, 18]);
}

#[test]
fn functions_are_registered_once_and_not_the_frameworks() {
    let bare = Bare::new(SHAPE);
    bare.run(0, 1);
    let worker = || Worker::attach(bare.assignment(0, 1)).unwrap();
    for func_id in [0, 1, 1000] {
        let found = worker().on(func_id, echo).unwrap_err();
        assert!(matches!(found, WorkerError::Reserved { func_id: found } if found == func_id));
        assert_eq!(found.exit_code(), 78);
    }
    let twice = worker().on(1001, echo).unwrap().on(1003, echo).unwrap().on(1001, echo);
    assert!(matches!(twice.unwrap_err(), WorkerError::Registered { func_id: 1001 }));
}

#[test]
fn who_is_not_wanted_does_not_get_the_place() {
    let bare = Bare::new(SHAPE);
    let attach = |place, incarnation| Worker::attach(bare.assignment(place, incarnation));
    let not_wanted = |result: Result<Worker, WorkerError>| match result.unwrap_err() {
        WorkerError::NotWanted { started, wanted, .. } => (started, wanted),
        other => panic!("{other}"),
    };
    assert_eq!(not_wanted(attach(0, 1)), (1, 0), "nobody is ordered there");
    bare.run(0, 3);
    assert_eq!(not_wanted(attach(0, 2)), (2, 3));
    let first = attach(0, 3).unwrap();
    match attach(0, 3).unwrap_err() {
        WorkerError::PlaceTaken { place: 0, pid } => assert_eq!(pid, Some(std::process::id())),
        other => panic!("{other}"),
    }
    drop(first);
    drop(attach(0, 3).expect("free again"));
    bare.drain(0);
    assert_eq!(not_wanted(attach(0, 2)), (2, 3));
    let late = attach(0, 3).unwrap().on(ECHO, echo).unwrap();
    assert_eq!(late.place(), 0);
    assert_eq!(bare.control.layout.workers().owner(0), None, "the place is given up");
    late.run().unwrap();
    let error = attach(3, 1).unwrap_err();
    assert!(matches!(error, WorkerError::NoPlace { place: 3, places: 3 }), "{error}");
    // None of them has stayed a member.
    let names = bare.member.processes().processes().map(|process| process.unwrap().name);
    assert_eq!(names.collect::<Vec<_>>(), ["supervisor"]);
}

#[test]
fn what_is_no_service_is_said() {
    let bare = Bare::new(SHAPE);
    let mut assignment = bare.assignment(0, 1);
    assignment.service = super::super::name::ServiceName::try_from("else").unwrap();
    let error = Worker::attach(assignment).unwrap_err();
    assert!(matches!(error, WorkerError::NoService { .. }), "{error}");
    assert_eq!(error.exit_code(), 1);
}

/// One that came late has done nothing wrong, and serves nobody.
#[test]
fn a_service_that_is_being_stopped_has_no_work() {
    let mut bare = Bare::new(SHAPE);
    bare.run(0, 1);
    bare.control_word.close();
    let late = Worker::attach(bare.assignment(0, 1)).unwrap().on(ECHO, echo).unwrap();
    assert_eq!(bare.control.layout.workers().owner(0), None);
    late.run().unwrap();
    let names = bare.member.processes().processes().map(|process| process.unwrap().name);
    assert_eq!(names.collect::<Vec<_>>(), ["supervisor"]);
}

/// What waits when a worker leaves is served by the next.
#[test]
fn what_waits_is_the_next_ones() {
    let bare = Bare::new(SHAPE);
    let (begun, has_begun) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let worker = start(&bare, 0, 1, move |worker| {
        let run = move |request: &Request<'_>, reply: Reply<'_>| {
            begun.send(()).unwrap();
            may_go_on.recv().unwrap();
            reply.send(request.payload())
        };
        worker.on(ECHO, run).unwrap()
    });
    let mut client = bare.client();
    let ids: Vec<u64> = (0..5u8).map(|number| client.send(0, ECHO, &[number])).collect();
    has_begun.recv().unwrap();
    let seen = bare.control.layout.monitor(0).unwrap().snapshot().unwrap();
    let transaction = seen.transaction().unwrap();
    assert!(seen.is_processing());
    assert_eq!((transaction.seq_id, transaction.worker), (ids[0], 0));
    assert_eq!(transaction.lane, client.index() as u16);
    let now = super::super::clock::coarse();
    assert!(transaction.start <= now && now - transaction.start < 60_000_000_000);
    bare.drain(0);
    // The order is seen behind the call in hand, which took so long that it is time to look.
    thread::sleep(Duration::from_millis(20));
    go_on.send(()).unwrap();
    worker.join().unwrap().unwrap();
    assert_eq!(bare.counters(0)[WorkerCount::Processed as usize], 1, "and nothing else is begun");
    assert_eq!(client.receive(0), (ids[0], MsgStatus::Completed, vec![0]));
    let worker = start(&bare, 0, 2, |worker| worker.on(ECHO, echo).unwrap());
    for (number, id) in ids.iter().enumerate().skip(1) {
        assert_eq!(client.receive(0), (*id, MsgStatus::Completed, vec![number as u8]));
    }
    stop(&bare, 0, worker);
}

#[test]
fn lanes_of_one_who_is_gone_are_let_go() {
    let bare = Bare::new(SHAPE);
    let worker = start_echo(&bare, 0, Wait::Adaptive);
    for round in 0..3 {
        let mut client = bare.client();
        assert_eq!(client.index(), 0, "the same place each time");
        let tenancy = client.slot.as_ref().unwrap().key().generation();
        assert_eq!(tenancy, round + 1);
        assert_eq!(client.call(0, ECHO, b"hello").1, b"hello");
        let path = client.mapped.segment.path().to_owned();
        client.leave();
        bare.ring(0);
        soon("unmapped", || {
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            !maps.contains(&*path.to_string_lossy())
        });
    }
    stop(&bare, 0, worker);
}

/// More lanes than are polled: those that were quiet are found by their bits.
#[test]
fn many_lanes_cool_and_are_found_again() {
    let bare = Bare::new(SHAPE);
    for wait in [Wait::Adaptive, Wait::Poll] {
        let incarnation = wait as u32 + 1;
        let worker =
            start(&bare, 0, incarnation, move |worker| worker.wait(wait).on(ECHO, echo).unwrap());
        let mut clients: Vec<BareClient> = (0..30).map(|_| bare.client()).collect();
        for round in 0..20u32 {
            for client in &mut clients {
                let answer = client.call(0, ECHO, &round.to_le_bytes());
                assert_eq!(answer, (MsgStatus::Completed, round.to_le_bytes().to_vec()));
            }
            if round == 10 {
                // The others are quiet for as many rounds.
                for _ in 0..200 {
                    clients[0].call(0, ECHO, b"");
                }
                let bits = bare.bells.layout.worker(0).unwrap().ready();
                assert!(bits.marked().count() < 30, "none has cooled");
            }
        }
        stop(&bare, 0, worker);
        clients.into_iter().for_each(BareClient::leave);
    }
}

/// A helper serves another place's lanes as long as it is asked to, and no longer.
#[test]
fn a_helper_serves_and_gives_back() {
    let bare = Bare::new(SHAPE);
    let name = |name: &'static str| {
        move |worker: Worker| {
            worker.on(ECHO, move |_: &Request, reply: Reply| reply.send(name.as_bytes())).unwrap()
        }
    };
    let helper = start(&bare, 0, 1, name("helper"));
    let mut client = bare.client();
    // Nobody is at place 1 and at VIP place 2.
    let waiting = client.send(1, ECHO, b"");
    client.send(2, ECHO, b"");
    bare.help(1, Some(0));
    bare.help(2, Some(0));
    assert_eq!(client.receive(1), (waiting, MsgStatus::Completed, b"helper".to_vec()));
    assert_eq!(client.receive(2).2, b"helper");
    let server = |place| bare.bells.layout.worker(place).unwrap().server();
    assert_eq!([server(0), server(1), server(2)], [Some(0), Some(0), Some(0)]);
    assert_eq!(client.call(1, ECHO, b"").1, b"helper");
    // The place's own worker comes, and finds the lane taken until the helper is done.
    let own = start(&bare, 1, 1, name("own"));
    assert_eq!(client.call(1, ECHO, b"").1, b"helper");
    assert_eq!(server(1), Some(0));
    for _ in 0..8 {
        // Nor does it take up new lanes, though it is rung.
        let mut client = bare.client();
        let id = client.publish(1, ECHO, b"").unwrap();
        bare.ring(1);
        thread::sleep(Duration::from_millis(2));
        client.announce(1);
        assert_eq!(client.receive(1), (id, MsgStatus::Completed, b"helper".to_vec()));
        client.leave();
    }
    let channel = client.mapped.layout.channel(SHAPE.place(1).unwrap()).unwrap();
    let owner_of = |place| bare.control.layout.workers().owner(place);
    bare.help(1, None);
    bare.ring(0);
    soon("handed over", || channel.worker().unwrap() == [owner_of(1); 2]);
    assert_eq!(client.call(1, ECHO, b"").1, b"own");
    soon("it says so", || server(1) == Some(1));
    assert_eq!(client.call(2, ECHO, b"").1, b"helper", "the other one is helped yet");
    stop(&bare, 0, helper);
    stop(&bare, 1, own);
    let channel = client.mapped.layout.channel(SHAPE.place(2).unwrap()).unwrap();
    assert_eq!(channel.worker().unwrap(), [None; 2]);
    assert_eq!(server(2), Some(2), "who calls rings nobody who has left");
}

/// With VIP calls and normal ones in one worker's hands, a VIP call waits for one at the most.
#[test]
fn a_helper_serves_vip_calls_first() {
    let bare = Bare::new(SHAPE);
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (begun, has_begun) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let mut client = bare.client();
    let noted = Arc::clone(&order);
    let worker = start(&bare, 0, 1, move |worker| {
        let run = move |request: &Request<'_>, reply: Reply<'_>| {
            if request.payload() == b"first" {
                begun.send(()).unwrap();
                may_go_on.recv().unwrap();
            }
            noted.lock().unwrap().push(request.payload().to_vec());
            reply.send(b"")
        };
        worker.on(ECHO, run).unwrap()
    });
    bare.help(2, Some(0));
    let server = || bare.bells.layout.worker(2).unwrap().server();
    soon("it helps", || server() == Some(0));
    // So that it has the lane.
    client.call(2, ECHO, b"vip");
    client.send(0, ECHO, b"first");
    has_begun.recv().unwrap();
    for _ in 0..10 {
        client.send(0, ECHO, b"normal");
        client.send(2, ECHO, b"vip");
    }
    go_on.send(()).unwrap();
    for _ in 0..10 {
        client.receive(2);
    }
    for _ in 0..11 {
        client.receive(0);
    }
    stop(&bare, 0, worker);
    let order = order.lock().unwrap();
    let last_vip = order.iter().rposition(|payload| payload == b"vip").unwrap();
    let normal = order[..last_vip].iter().filter(|payload| *payload == b"normal").count();
    assert!(normal <= 1, "{order:?}");
}

#[test]
fn progress_reaches_a_client_that_sleeps() {
    let bare = Bare::new(SHAPE);
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let dropped = Arc::new(AtomicBool::new(false));
    let was_dropped = Arc::clone(&dropped);
    let worker = start(&bare, 0, 1, move |worker| {
        let run = move |request: &Request<'_>, mut reply: Reply<'_>| {
            assert!(reply.accepted()?);
            may_go_on.recv().unwrap();
            assert!(reply.progress(&[0; 5]).is_err(), "too large");
            assert!(reply.progress(&50u32.to_le_bytes())?);
            was_dropped.store(!reply.progress(&60u32.to_le_bytes())?, Ordering::Relaxed);
            may_go_on.recv().unwrap();
            reply.send(request.payload())
        };
        worker.on(ECHO, run).unwrap()
    });
    let mut client = bare.client();
    let id = client.send(0, ECHO, b"work");
    assert_eq!(client.receive(0), (id, MsgStatus::Processing, vec![]));
    go_on.send(()).unwrap();
    soon("the second is sent, the third not", || dropped.load(Ordering::Relaxed));
    assert_eq!(client.receive(0), (id, MsgStatus::Processing, 50u32.to_le_bytes().to_vec()));
    go_on.send(()).unwrap();
    assert_eq!(client.receive(0), (id, MsgStatus::Completed, b"work".to_vec()));
    stop(&bare, 0, worker);
    assert_eq!(bare.counters(0)[WorkerCount::DroppedProgress as usize], 1);
}

#[test]
fn a_call_given_up_is_not_begun_and_is_seen_by_its_handler() {
    let bare = Bare::new(SHAPE);
    let (begun, has_begun) = mpsc::channel();
    let ran = Arc::new(AtomicU32::new(0));
    let runs = Arc::clone(&ran);
    let worker = start(&bare, 0, 1, move |worker| {
        let run = move |request: &Request<'_>, reply: Reply<'_>| {
            runs.fetch_add(1, Ordering::Relaxed);
            begun.send(()).unwrap();
            while !request.is_cancelled() {
                thread::sleep(Duration::from_millis(1));
            }
            reply.send(b"given up")
        };
        worker.on(ECHO, run).unwrap()
    });
    let mut client = bare.client();
    let first = client.send(0, ECHO, b"");
    has_begun.recv().unwrap();
    let cancel = bare.bells.layout.cancel(0, client.index()).unwrap();
    cancel.ask(first);
    assert_eq!(client.receive(0), (first, MsgStatus::Completed, b"given up".to_vec()));
    // One that is given up before it is begun.
    let second = client.publish(0, ECHO, b"").unwrap();
    cancel.ask(second);
    client.announce(0);
    let (id, status, payload) = client.receive(0);
    assert_eq!((id, failure((status, payload))), (second, Failure::Cancelled));
    assert_eq!(ran.load(Ordering::Relaxed), 1);
    stop(&bare, 0, worker);
}

/// Depth, beat, and the time that calls take.
#[test]
fn it_says_how_it_is() {
    let bare = Bare::new(SHAPE);
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let worker = start(&bare, 0, 1, move |worker| {
        let run = move |_: &Request<'_>, reply: Reply<'_>| {
            may_go_on.recv().unwrap();
            reply.send(b"")
        };
        worker.on(ECHO, run).unwrap()
    });
    let before = bare.live(0, WorkerEntry::BEAT);
    soon("it beats while it sleeps", || bare.live(0, WorkerEntry::BEAT) != before);
    assert_eq!(bare.live(0, WorkerEntry::QUEUED), 0);
    let mut client = bare.client();
    // One that takes long, so that it is known to.
    client.send(0, ECHO, b"");
    thread::sleep(Duration::from_millis(30));
    go_on.send(()).unwrap();
    client.receive(0);
    soon("its time is counted", || {
        bare.counters(0)[WorkerCount::BusyNanoseconds as usize] >= 20_000_000
    });
    for _ in 0..40 {
        client.send(0, ECHO, &[0; 64]);
    }
    // All of them wait when the second is begun, and it is known that they take long.
    thread::sleep(Duration::from_millis(30));
    go_on.send(()).unwrap();
    soon("it says what waits", || bare.live(0, WorkerEntry::QUEUED) > 10);
    for _ in 1..40 {
        go_on.send(()).unwrap();
    }
    for _ in 0..40 {
        client.receive(0);
    }
    soon("nothing waits", || bare.live(0, WorkerEntry::QUEUED) == 0);
    stop(&bare, 0, worker);
}

/// The supervisor, or whoever takes the place from him, starts another one in the same place.
#[test]
fn one_who_has_passed_leaves() {
    let bare = Bare::new(SHAPE);
    let first = start_echo(&bare, 0, Wait::Adaptive);
    let second = {
        bare.run(0, 2);
        let assignment = bare.assignment(0, 2);
        thread::spawn(move || Worker::attach(assignment)?.on(ECHO, echo)?.run())
    };
    let error = first.join().unwrap().unwrap_err();
    assert!(matches!(error, WorkerError::NotWanted { started: 1, wanted: 2, .. }), "{error}");
    bare.wait_serving(0, 2);
    assert_eq!(bare.client().call(0, ECHO, b"x").1, b"x");
    stop(&bare, 0, second);
}

#[test]
fn a_service_that_is_closed_is_left() {
    let mut bare = Bare::new(SHAPE);
    let worker = start_echo(&bare, 0, Wait::Adaptive);
    bare.control_word.close();
    bare.ring(0);
    worker.join().unwrap().unwrap();
}

/// Nonsense in the memory that clients write costs nobody else anything.
#[test]
fn clients_that_write_nonsense() {
    let bare = Bare::new(SHAPE);
    let (begun, has_begun) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let worker = start(&bare, 0, 1, move |worker| {
        let run = move |request: &Request<'_>, reply: Reply<'_>| {
            if request.payload() == b"wait" {
                begun.send(()).unwrap();
                may_go_on.recv().unwrap();
            }
            reply.send(request.payload())
        };
        worker.on(ECHO, run).unwrap()
    });
    let mut honest = bare.client();
    assert_eq!(honest.call(0, ECHO, b"a").1, b"a");
    // A client without a segment.
    let mut slot = bare.bells.layout.reserve_client(bare.member.id()).unwrap();
    slot.update(&ClientEntry::new(1, 0));
    // Bits of clients that are not there.
    let ready = bare.bells.layout.worker(0).unwrap().ready();
    for client in 0..40 {
        ready.mark(client, &shm_primitives::wake::published());
    }
    bare.ring(0);
    soon("those bits are cleared", || (3..40).all(|client| !ready.is_marked(client)));
    assert_eq!(honest.call(0, ECHO, b"b").1, b"b");
    // While the worker is busy a client damages what it has sent.
    let mut other = bare.client();
    assert_eq!(other.call(0, ECHO, b"c").1, b"c");
    let mut damaged = |back: usize, value: u32| {
        honest.send(0, ECHO, b"wait");
        has_begun.recv().unwrap();
        let marks = [0xa7; 40];
        let seq = other.publish(0, ECHO, &marks).unwrap();
        let next = other.publish(0, ECHO, b"next").unwrap();
        other.announce(0);
        damage(&other, &marks, back, value);
        go_on.send(()).unwrap();
        assert_eq!(honest.receive(0).2, b"wait");
        for number in 0..50u8 {
            assert_eq!(honest.call(0, ECHO, &[number]).1, [number]);
        }
        (seq, next, other.receive_within(0, Duration::from_millis(300)))
    };
    // The length in the request's own header: one that is no request, and what follows is.
    let (_, next, found) = damaged(4, 41);
    assert_eq!(found.unwrap().0, next);
    // The frame's length.
    let (_, _, found) = damaged(24, 0x7fff_fff1);
    assert_eq!(found, None, "that lane is lost");
    // Server words of others.
    bare.bells.layout.worker(0).unwrap().serve(1);
    soon("it says again that it serves", || {
        bare.ring(0);
        bare.bells.layout.worker(0).unwrap().server() == Some(0)
    });
    drop(slot);
    stop(&bare, 0, worker);
}

/// Stores a word so many bytes before the first such bytes in a client's segment.
fn damage(client: &BareClient, marks: &[u8], back: usize, value: u32) {
    let region = client.mapped.segment.region();
    // SAFETY: mapped, and nobody writes there now but this thread.
    let bytes = unsafe { std::slice::from_raw_parts_mut(region.base().as_ptr(), region.len()) };
    let at = bytes.windows(marks.len()).position(|window| window == marks).unwrap();
    bytes[at - back..at - back + 4].copy_from_slice(&value.to_le_bytes());
    // So that the next marks are found and not these.
    bytes[at] = 0;
}

#[test]
fn errors_say_what_to_do() {
    for (error, wanted) in [
        (WorkerError::NotStarted, "a server starts"),
        (WorkerError::Forked, "exec"),
        (WorkerError::Corrupt(Corrupt { what: "order", found: 9, limit: 2 }), "start the server"),
        (WorkerError::PlaceTaken { place: 1, pid: Some(7) }, "process 7"),
        (WorkerError::PlaceTaken { place: 1, pid: None }, "another process"),
        (
            WorkerError::NotWanted { place: 1, started: 2, wanted: 3, order: Order::Run },
            "came late",
        ),
    ] {
        assert!(error.to_string().contains(wanted), "{error}");
    }
}

#[test]
fn a_core_that_is_not_there() {
    let bare = Bare::new(SHAPE);
    bare.run(0, 1);
    for core in [1023, 1 << 20] {
        let error = Worker::attach(bare.assignment(0, 1)).unwrap().pin_to(core).run().unwrap_err();
        assert!(matches!(error, WorkerError::Pin { core: found, .. } if found == core), "{error}");
        assert_eq!(bare.control.layout.workers().owner(0), None, "the place is given back");
    }
    let assignment = bare.assignment(0, 1);
    let pinned = thread::spawn(move || {
        Worker::attach(assignment)
            .unwrap()
            .pin_to(0)
            .on(ECHO, |_: &Request, reply: Reply| {
                let cores = rustix::thread::sched_getaffinity(None).unwrap();
                reply.send(&cores.count().to_le_bytes())
            })
            .unwrap()
            .run()
    });
    assert_eq!(bare.client().call(0, ECHO, b"").1, 1u32.to_le_bytes());
    stop(&bare, 0, pinned);
}

#[test]
fn orders_that_make_no_sense_change_nothing() {
    let bare = Bare::new(SHAPE);
    let worker = start_echo(&bare, 0, Wait::Adaptive);
    let row = bare.control.layout.orders(0).unwrap();
    let whole = row.read().unwrap();
    let words = std::ptr::from_ref(row).cast::<shm_primitives::sync::AtomicU32>();
    // SAFETY: a row is sixteen such words.
    let words = unsafe { std::slice::from_raw_parts(words, 16) };
    let states = [2, 9].map(|at: usize| words[at].load(Relaxed));
    for at in [2, 9] {
        words[at].store(0xffff_ffff, Relaxed);
    }
    assert!(row.read().is_err());
    bare.ring(0);
    let mut client = bare.client();
    for _ in 0..20 {
        assert_eq!(client.call(0, ECHO, b"x").1, b"x");
        thread::sleep(Duration::from_millis(5));
    }
    for (at, state) in [2, 9].into_iter().zip(states) {
        words[at].store(state, Relaxed);
    }
    assert_eq!(row.read().unwrap(), whole);
    bare.order(0, Orders { order: Order::Drain, ..whole });
    worker.join().unwrap().unwrap();
}
