//! Nodes are killed, stopped and continued.

use crate::child::Child;
use crate::help::{PATIENCE, Place, builder, check, join, leaves_nothing, payload, soon};
use shm_transport::config::Full;
use shm_transport::member::Member;
use shm_transport::node::{NodeError, NodeState, SendError, sweep};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn the_receiver_is_killed() {
    let place = Place::new();
    let here = join(&place, "here");
    let mut child = Child::joined(&place, "there", "");
    let mut sender = here.sender("there").unwrap();
    sender.send(b"x").unwrap();
    here.send("there", b"x").unwrap();
    child.kill();
    soon("the sender knows", || match sender.try_send(b"x") {
        Ok(()) | Err(SendError::Full { .. }) => false,
        Err(SendError::Dead { to, pid }) => {
            assert_eq!((to.as_bytes(), pid), (&b"there"[..], Some(child.pid())));
            true
        }
        Err(error) => panic!("{error}"),
    });
    assert!(matches!(sender.send(b"x"), Err(SendError::Dead { .. })));
    assert!(matches!(sender.grant(1), Err(SendError::Dead { .. })));
    assert!(matches!(sender.grant(1 << 20), Err(SendError::Dead { .. })));
    // Each lane is told by itself.
    soon("the node knows too", || here.send("there", b"x").is_err());
    for _ in 0..3 {
        let found = here.send("there", b"x");
        assert!(
            matches!(found, Err(SendError::Dead { .. } | SendError::Unknown { .. })),
            "{found:?}"
        );
    }
    assert!(!here.is_local("there"));
    drop((sender, here));
    leaves_nothing(&place);
}

/// A sender that waits for room does not wait for the dead.
#[test]
fn the_receiver_is_killed_while_its_lane_is_full() {
    for length in [1000, 1 << 20] {
        let place = Place::new();
        let here = builder(&place.domain, "here").full(Full::Block(PATIENCE * 2)).join().unwrap();
        let mut child = Child::joined(&place, "there", "");
        let (told, heard) = std::sync::mpsc::channel();
        thread::scope(|scope| {
            let here = &here;
            let blocked = scope.spawn(move || {
                let mut sender = here.sender("there").unwrap();
                while sender.try_send(&vec![1; length]).is_ok() {}
                told.send(()).unwrap();
                sender.send(&vec![1; length])
            });
            heard.recv().unwrap();
            thread::sleep(Duration::from_millis(30));
            let killed = Instant::now();
            child.kill();
            let found = blocked.join().unwrap();
            assert!(matches!(found, Err(SendError::Dead { .. })), "{found:?}");
            assert!(killed.elapsed() < PATIENCE);
        });
    }
}

/// What it published arrives, in order, whole.
#[test]
fn the_sender_is_killed() {
    let place = Place::new();
    let here = join(&place, "here");
    for (round, most) in [(0, 100), (1, 20_000), (2, 60_000), (3, 1000)] {
        let mut child = Child::joined(&place, "there", "full=block:60000");
        child.tell(&format!("flood there here {round} {most}"));
        assert_eq!(child.hear(), "flooding");
        let mut next = 0;
        let mut receive = |time| {
            let Some(message) = here.recv_timeout(time).unwrap() else { return false };
            assert_eq!(check(&message), (round, next));
            assert_eq!(message.sender().as_bytes(), b"there");
            next += 1;
            true
        };
        for _ in 0..50 + round * 7 {
            assert!(receive(PATIENCE));
        }
        child.kill();
        while receive(Duration::ZERO) {}
        assert!(!receive(Duration::from_millis(200)), "nothing comes after the end");
    }
    soon("all lanes came back", || {
        assert!(here.try_recv().unwrap().is_none());
        here.stats().lanes_in == 0
    });
    drop(here);
    leaves_nothing(&place);
}

/// All that a sender was told is accepted arrives, also if nobody has looked before its death.
#[test]
fn the_sender_is_killed_before_anybody_reads() {
    let place = Place::new();
    let here = join(&place, "here");
    let mut child = Child::joined(&place, "there", "");
    let accepted: u32 = child.ask("fill there here 5 1000").parse().unwrap();
    assert!(accepted > 30, "{accepted}");
    child.kill();
    for number in 0..accepted {
        assert_eq!(check(&here.recv_timeout(PATIENCE).unwrap().unwrap()), (5, number));
    }
    assert!(here.recv_timeout(Duration::from_millis(200)).unwrap().is_none());
}

/// The name of a dead node is free at once, and messages to it reach the new one.
#[test]
fn its_name_is_joined_again_at_once() {
    let place = Place::new();
    let here = join(&place, "here");
    let mut child = Child::joined(&place, "there", "");
    for round in 0..5 {
        here.send("there", &payload(round, 0, 100)).unwrap();
        // Behind that one's lane: it is told later.
        let mut sender = here.sender("there").unwrap();
        child.expect("receive there 10000", &format!("here {round} 0 100"));
        child.kill();
        child = Child::joined(&place, "there", "");
        soon("its sender knows", || match sender.try_send(b"x") {
            Ok(()) => false,
            Err(SendError::Dead { .. } | SendError::Left { .. }) => true,
            Err(error) => panic!("{error}"),
        });
        here.send("there", &payload(round, 1, 100)).unwrap();
        child.expect("receive there 10000", &format!("here {round} 1 100"));
    }
    assert_eq!(here.nodes().unwrap().len(), 2);
}

/// The same while the thread that looks after the sender's node gets no time at all: a send that
/// begins when another has the name does not go to the dead one, whoever took its name away.
#[test]
fn its_name_is_joined_again_and_nobody_has_noticed() {
    for swept in [false, true] {
        let place = Place::new();
        let halt = Arc::new(Halt::default());
        let here = {
            let halt = Arc::clone(&halt);
            let clock = move || {
                halt.here();
                monotonic()
            };
            builder(&place.domain, "here").clock(clock).heartbeat(Duration::from_millis(5))
        };
        let here = here.join().unwrap();
        let mut child = Child::joined(&place, "there", "");
        let mut sender = here.sender("there").unwrap();
        sender.send(&payload(1, 0, 100)).unwrap();
        here.send("there", &payload(1, 1, 100)).unwrap();
        // Before the node, whose end waits for its thread.
        let held = halt.halt();
        let pid = child.pid();
        child.kill();
        sender.try_send(b"nobody can know it yet").unwrap();
        if swept {
            sweep::sweep(&place.domain, false).unwrap();
            let found = here.send("there", b"x");
            assert!(matches!(found, Err(SendError::Dead { .. })), "{found:?}");
        }
        let mut next = Child::joined(&place, "there", "");
        here.send("there", &payload(1, 2, 100)).unwrap();
        match sender.try_send(b"x") {
            Err(SendError::Dead { to, pid: found }) => {
                assert_eq!((to.as_bytes(), found), (&b"there"[..], Some(pid)));
            }
            other => panic!("{other:?}"),
        }
        next.expect("receive there 10000", "here 1 2 100");
        drop(held);
        drop((sender, here));
        next.end();
        leaves_nothing(&place);
    }
}

/// Holds up the threads that look after nodes.
#[derive(Default)]
struct Halt {
    wanted: AtomicBool,
    is: AtomicBool,
}

impl Halt {
    /// Waits until one is held up, which is so until what is returned is dropped.
    fn halt(&self) -> impl Drop {
        self.wanted.store(true, Relaxed);
        soon("it is held up", || self.is.load(Relaxed));
        Held(self)
    }

    fn here(&self) {
        while thread::current().name() == Some("shm-node") && self.wanted.load(Relaxed) {
            self.is.store(true, Relaxed);
            thread::sleep(Duration::from_millis(1));
        }
    }
}

struct Held<'h>(&'h Halt);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.wanted.store(false, Relaxed);
    }
}

/// All are killed; the next one that joins, or a sweep, puts away what they had.
#[test]
fn all_are_killed() {
    for sweeping in [false, true] {
        let place = Place::new();
        let mut children: Vec<_> =
            (0..4).map(|number| Child::joined(&place, &format!("n{number}"), "")).collect();
        for (number, child) in children.iter_mut().enumerate() {
            child.expect(&format!("warm-up n{number}"), "3");
            child.expect(&format!("send n{number} n{} 1 0 3 100000", (number + 1) % 4), "sent");
        }
        // At once: none is to put away what another left.
        for child in &children {
            child.signal(libc::SIGSTOP);
        }
        for child in &mut children {
            child.kill();
        }
        assert!(place.files().len() >= 10, "{:?}", place.files());
        if sweeping {
            let would = sweep::sweep(&place.domain, true).unwrap();
            assert!(place.files().len() >= 10, "only said");
            let swept = sweep::sweep(&place.domain, false).unwrap();
            for what in &would {
                assert!(swept.contains(what), "{what:?} was promised");
            }
            assert_eq!(place.files(), [""; 0]);
            assert_eq!(sweep::sweep(&place.domain, false).unwrap(), []);
        } else {
            // Under the name of one of them, and for some heartbeats.
            let heartbeat = Duration::from_millis(10);
            let next = builder(&place.domain, "n2").heartbeat(heartbeat).join().unwrap();
            // A dead one's files go before its place in the registry does.
            soon("only its own files", || place.files().len() == 3);
            soon("nobody else", || next.nodes().unwrap().len() == 1);
            drop(next);
            assert_eq!(place.files(), [""; 0]);
        }
    }
}

/// Two leave at the same instant, each of which sees the other there: what a third has left, which
/// was killed, goes all the same.
#[test]
fn the_last_two_leave_at_once() {
    for _ in 0..10 {
        let place = Place::new();
        let mut child = Child::joined(&place, "third", "");
        let nodes = ["one", "two"].map(|name| {
            // Nobody puts anything away before.
            let never = Duration::from_secs(1000);
            builder(&place.domain, name).heartbeat(never).silent_after(4 * never).join().unwrap()
        });
        child.expect("warm-up third", "2");
        child.kill();
        let start = std::sync::Barrier::new(2);
        thread::scope(|scope| {
            for node in nodes {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    node.leave().unwrap();
                });
            }
        });
        crate::help::nothing_is_left(&place);
    }
}

/// The same, where the second goes between the first one's look at who is there and its leave.
#[test]
fn the_last_but_one_leaves_while_the_last_does() {
    let place = Place::new();
    let mut child = Child::joined(&place, "third", "");
    let never = Duration::from_secs(1000);
    let last = builder(&place.domain, "last").heartbeat(never).silent_after(4 * never);
    let last = last.join().unwrap();
    let other = Member::join(&place.domain, "other").unwrap();
    child.kill();
    // Holds it up after its look, when it takes the registry away if it can.
    let file = std::fs::File::open(place.path("registry")).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockShared).unwrap();
    thread::scope(|scope| {
        let leaving = scope.spawn(|| last.leave().unwrap());
        soon("its name is gone", || !place.path("node.last").exists());
        thread::sleep(Duration::from_millis(300));
        // SAFETY: it holds nothing.
        assert!(!unsafe { other.leave() }.unwrap());
        drop(file);
        leaving.join().unwrap();
    });
    crate::help::nothing_is_left(&place);
}

/// A sweep takes nothing from the living, not even from those that are stopped.
#[test]
fn a_sweep_past_the_living() {
    let place = Place::new();
    let here = join(&place, "here");
    let mut stopped = Child::joined(&place, "stopped", "");
    let mut dead = Child::joined(&place, "dead", "");
    stopped.expect("send stopped here 1 0 2 100000", "sent");
    dead.expect("send dead here 2 0 2 100000", "sent");
    stopped.signal(libc::SIGSTOP);
    dead.kill();
    for _ in 0..2 {
        sweep::sweep(&place.domain, false).unwrap();
    }
    let mut found: Vec<_> = (0..4).map(|_| check(&here.recv().unwrap())).collect();
    found.sort_unstable();
    assert_eq!(found, [(1, 0), (1, 1), (2, 0), (2, 1)]);
    stopped.signal(libc::SIGCONT);
    here.send("stopped", &payload(3, 0, 50_000)).unwrap();
    stopped.expect("receive stopped 10000", "here 3 0 50000");
    assert_eq!(here.nodes().unwrap().len(), 2);
    // What had to stay for the reader goes after it.
    assert!(here.try_recv().unwrap().is_none());
    soon("the dead one's lane is back", || {
        assert!(here.try_recv().unwrap().is_none());
        sweep::sweep(&place.domain, false).unwrap();
        !place.files().iter().any(|name| name.contains("dead"))
            && place.files().iter().filter(|name| name.contains(".pool.")).count() <= 2
    });
    stopped.end();
    drop(here);
    sweep::sweep(&place.domain, false).unwrap();
    assert_eq!(place.files(), [""; 0]);
}

/// A stopped node is silent, keeps what it has, and goes on.
#[test]
fn a_node_is_stopped() {
    let place = Place::new();
    let ahead = Arc::new(AtomicU64::new(0));
    let clock = {
        let ahead = Arc::clone(&ahead);
        let begun = monotonic();
        move || begun.max(monotonic()) + ahead.load(Relaxed)
    };
    let here = builder(&place.domain, "here").clock(clock).full(Full::Error);
    let here = here.heartbeat(Duration::from_millis(20)).join().unwrap();
    let mut child = Child::joined(&place, "there", "");
    child.expect("send there here 1 0 10 200", "sent");
    child.signal(libc::SIGSTOP);
    // An hour.
    ahead.store(3_600_000, Relaxed);
    soon("it is silent", || {
        let nodes = here.nodes().unwrap();
        let there = nodes.iter().find(|node| node.id.as_bytes() == b"there").expect("it stays");
        matches!(there.state, NodeState::Silent(time) if time >= Duration::from_secs(3599))
    });
    thread::sleep(Duration::from_millis(200));
    assert!(here.is_local("there"), "it lives");
    let found = builder(&place.domain, "there").join();
    assert!(matches!(found, Err(NodeError::Taken { here: false, .. })), "{found:?}");
    for number in 0..10 {
        assert_eq!(check(&here.recv().unwrap()), (1, number));
    }
    let mut accepted = 0;
    while here.send("there", &payload(2, accepted, 1000)).is_ok() {
        accepted += 1;
    }
    assert!(accepted > 30);
    child.signal(libc::SIGCONT);
    child.expect(&format!("receive-all there 2 0 {accepted}"), "received");
    child.expect("send there here 1 10 10 200", "sent");
    for number in 10..20 {
        assert_eq!(check(&here.recv().unwrap()), (1, number));
    }
    ahead.store(0, Relaxed);
    soon("it is alive again", || {
        here.nodes().unwrap().iter().all(|node| node.state == NodeState::Alive)
    });
}

/// As the nodes' own clock.
fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}
