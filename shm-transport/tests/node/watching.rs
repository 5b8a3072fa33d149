//! Who comes, goes, dies, is silent and resumes.

use crate::child::Child;
use crate::help::{PATIENCE, Place, builder, join};
use shm_transport::node::{NodeEvent, NodeState, Watch};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What happens next to the node of that name.
fn next_of(watch: &Watch, name: &str) -> NodeEvent {
    loop {
        let event = watch.next_timeout(PATIENCE).expect("an event");
        if event.node().id.as_bytes() == name.as_bytes() {
            return event;
        }
    }
}

#[test]
fn all_events() {
    let place = Place::new();
    let ahead = Arc::new(AtomicU64::new(0));
    let clock = {
        let ahead = Arc::clone(&ahead);
        move || monotonic() + ahead.load(Relaxed)
    };
    let here = builder(&place.domain, "here").clock(clock).join().unwrap();
    // With seldom a heartbeat, or it might have put away the other before this one saw it dead.
    let before = Child::joined(&place, "before", "");
    let watch = here.watch();
    match next_of(&watch, "before") {
        NodeEvent::Joined(node) => {
            assert_eq!((node.pid, node.state), (before.pid(), NodeState::Alive));
        }
        other => panic!("{other:?}"),
    }
    let mut child = Child::joined(&place, "there", "heartbeat=20");
    let NodeEvent::Joined(first) = next_of(&watch, "there") else { panic!("joined first") };
    assert_eq!(first.pid, child.pid());
    child.expect("leave there", "left");
    let NodeEvent::Left(left) = next_of(&watch, "there") else { panic!("left then") };
    assert_eq!(left.owner, first.owner);
    child.expect("join there heartbeat=20", "joined");
    let NodeEvent::Joined(second) = next_of(&watch, "there") else { panic!("joined again") };
    assert_ne!(second.owner, first.owner);

    child.signal(libc::SIGSTOP);
    ahead.store(10_000, Relaxed);
    match next_of(&watch, "there") {
        NodeEvent::Silent(node) => {
            assert!(matches!(node.state, NodeState::Silent(time) if time.as_millis() >= 9_000));
        }
        other => panic!("{other:?}"),
    }
    child.signal(libc::SIGCONT);
    ahead.store(0, Relaxed);
    let resumed = next_of(&watch, "there");
    assert!(
        matches!(resumed, NodeEvent::Resumed(node) if node.owner == second.owner),
        "{resumed:?}"
    );
    child.kill();
    let died = next_of(&watch, "there");
    assert!(matches!(died, NodeEvent::Died(node) if node.owner == second.owner), "{died:?}");

    // Once, and the other is as it was.
    let again = Child::joined(&place, "there", "");
    let joined = next_of(&watch, "there");
    assert!(matches!(joined, NodeEvent::Joined(node) if node.pid == again.pid()), "{joined:?}");
    drop(again);
    drop(before);
    let died = next_of(&watch, "before");
    assert!(matches!(died, NodeEvent::Died(_)), "{died:?}");
    here.leave().unwrap();
    assert!(watch.count() <= 2, "then it ends");
}

/// Each watch is told everything; one that is not read takes no other's events.
#[test]
fn several_watch() {
    let place = Place::new();
    let here = join(&place, "here");
    let watches: Vec<_> = (0..3).map(|_| here.watch()).collect();
    let unread = here.watch();
    let other = join(&place, "other");
    let elsewhere = other.watch();
    drop(other);
    for watch in &watches {
        assert!(matches!(next_of(watch, "here"), NodeEvent::Joined(_)));
    }
    assert!(elsewhere.last().is_none_or(|event| matches!(event, NodeEvent::Joined(_))));
    let child = Child::joined(&place, "there", "");
    for watch in &watches {
        assert!(matches!(next_of(watch, "there"), NodeEvent::Joined(_)));
    }
    drop(child);
    for watch in &watches {
        let died = next_of(watch, "there");
        assert!(matches!(died, NodeEvent::Died(_)), "{died:?}");
    }
    drop(here);
    assert!(unread.count() >= 3);
}

/// A stopped node by the real clock.
#[test]
fn silent_by_the_real_clock() {
    let place = Place::new();
    let here = builder(&place.domain, "here")
        .heartbeat(Duration::from_millis(20))
        .silent_after(Duration::from_millis(400))
        .join()
        .unwrap();
    let child = Child::joined(&place, "there", "heartbeat=20");
    let watch = here.watch();
    assert!(matches!(next_of(&watch, "there"), NodeEvent::Joined(_)));
    child.signal(libc::SIGSTOP);
    let silent = next_of(&watch, "there");
    assert!(matches!(silent, NodeEvent::Silent(_)), "{silent:?}");
    child.signal(libc::SIGCONT);
    let resumed = next_of(&watch, "there");
    assert!(matches!(resumed, NodeEvent::Resumed(_)), "{resumed:?}");
}

/// As the nodes' own clock.
fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}
