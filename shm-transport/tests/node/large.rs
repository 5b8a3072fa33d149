//! Messages that are too large for a lane.

use crate::child::Child;
use crate::help::{
    PATIENCE, Place, builder, check, fill, join, leaves_nothing, payload, resident, soon,
};
use shm_transport::config::Full;
use shm_transport::node::{RecvError, SendError};
use std::time::Duration;

fn pools(place: &Place) -> usize {
    place.files().iter().filter(|name| name.contains(".pool.")).count()
}

#[test]
fn of_all_sizes() {
    let place = Place::new();
    let here = join(&place, "here");
    let mut child = Child::joined(&place, "there", "");
    let frame = 16 << 10;
    for (number, length) in (0..).zip([frame - 1, frame, frame + 1, 1 << 20, 16 << 20]) {
        here.send("there", &payload(1, number, length)).unwrap();
        child.expect("receive there 20000", &format!("here 1 {number} {length}"));
        assert_eq!(pools(&place), usize::from(length > frame), "{length}");
    }
    for (number, length) in (0..).zip([frame, frame + 1, 1 << 20, 16 << 20]) {
        child.expect(&format!("send there here 2 {number} 1 {length}"), "sent");
        let message = here.recv_timeout(PATIENCE).unwrap().unwrap();
        assert_eq!((message.len(), check(&message)), (length, (2, number)));
    }
    assert_eq!(pools(&place), 2);
    let most = 16 << 20;
    let too_large = vec![0; most + 1];
    match here.send("there", &too_large) {
        Err(SendError::TooLarge { found, most: 0x0100_0000 }) => assert_eq!(found, most + 1),
        other => panic!("{other:?}"),
    }
    let mut sender = here.sender("there").unwrap();
    assert!(matches!(sender.send(&too_large), Err(SendError::TooLarge { .. })));
    assert!(matches!(sender.grant(most + 1), Err(SendError::TooLarge { .. })));
    drop(sender);
    child.end();
    drop(here);
    assert_eq!(place.files(), [""; 0]);
}

/// What was sent arrives, however its sender ends.
#[test]
fn the_sender_is_gone_before_they_are_read() {
    for how in ["leave", "end", "kill"] {
        let place = Place::new();
        let here = builder(&place.domain, "here").heartbeat(Duration::from_millis(20));
        let here = here.join().unwrap();
        let mut child = Child::joined(&place, "there", "heartbeat=20");
        for (number, length) in [(0, 100), (1, 1 << 20), (2, 20 << 10), (3, 4 << 20), (4, 100)] {
            child.expect(&format!("send there here 9 {number} 1 {length}"), "sent");
        }
        match how {
            "leave" => child.expect("leave there", "left"),
            "end" => child.end(),
            _ => child.kill(),
        }
        // Long enough for whoever would put it away too soon.
        std::thread::sleep(Duration::from_millis(100));
        for (number, length) in [(0, 100), (1, 1 << 20), (2, 20 << 10), (3, 4 << 20), (4, 100)] {
            let message = here.recv_timeout(PATIENCE).unwrap().expect(how);
            assert_eq!((message.len(), check(&message)), (length, (9, number)), "{how}");
        }
        assert!(here.try_recv().unwrap().is_none());
        soon("the pool is put away", || {
            // The lane is given back by whoever receives.
            assert!(here.try_recv().unwrap().is_none());
            pools(&place) == 0
        });
        drop(child);
        drop(here);
        leaves_nothing(&place);
    }
}

/// What a dead receiver had not given back comes back, and the memory with it.
#[test]
fn the_receiver_is_killed() {
    let place = Place::new();
    let heartbeat = Duration::from_millis(20);
    let here = builder(&place.domain, "here").heartbeat(heartbeat).full(Full::Error);
    let here = here.join().unwrap();
    let small = resident(&place.directory);
    for round in 0..3 {
        let mut child = Child::joined(&place, "there", "heartbeat=20");
        let accepted = fill(|number| here.send("there", &payload(round, number, 1 << 20)));
        assert!(accepted >= 4, "{accepted}");
        // This one is given back before it dies.
        child.expect("receive there 10000", &format!("here {round} 0 1048576"));
        child.kill();
        soon("all chunks are free again", || {
            let free = (0..accepted)
                .take_while(|number| here.send("here", &payload(9, *number, 1 << 20)).is_ok());
            let free = free.count();
            for _ in 0..free {
                assert_eq!(here.recv().unwrap().len(), 1 << 20);
            }
            free == accepted as usize
        });
    }
    soon("the memory is given back", || resident(&place.directory) < small + (300 << 10));
    drop(here);
    leaves_nothing(&place);
}

/// A pool that is idle gives its memory back, and takes it again.
#[test]
fn memory_of_an_idle_pool() {
    let place = Place::new();
    let heartbeat = Duration::from_millis(10);
    let here = builder(&place.domain, "here").heartbeat(heartbeat).join().unwrap();
    let mut child = Child::joined(&place, "there", "");
    let small = resident(&place.directory);
    for number in 0..3 {
        here.send("there", &payload(1, number, 8 << 20)).unwrap();
        std::thread::sleep(Duration::from_millis(150));
        assert!(resident(&place.directory) >= small + (8 << 20), "it is being read yet");
        child.expect("receive there 10000", &format!("here 1 {number} {}", 8 << 20));
        soon("the memory is given back", || resident(&place.directory) < small + (300 << 10));
    }
}

/// All chunks are lent: the sender waits, or fails, until one comes back.
#[test]
fn no_chunk_is_free() {
    let place = Place::new();
    let here = builder(&place.domain, "here").full(Full::Error).join().unwrap();
    let mut child = Child::joined(&place, "there", "");
    let mut sender = here.sender("there").unwrap();
    let accepted = fill(|number| sender.send(&payload(1, number, 1 << 20)));
    assert!(matches!(sender.send(&[0; 1 << 20]), Err(SendError::Full { .. })));
    assert!(matches!(sender.grant(1 << 20), Err(SendError::Full { .. })));
    sender.send(&payload(1, accepted, 100)).unwrap();
    let mut sender = sender.full(Full::Block(Duration::from_millis(20)));
    assert!(matches!(sender.send(&[0; 1 << 20]), Err(SendError::TimedOut { .. })));
    let mut sender = sender.full(Full::Block(PATIENCE));
    child.tell(&format!("receive-all there 1 0 {}", accepted + 2));
    sender.send(&payload(1, accepted + 1, 1 << 20)).unwrap();
    assert_eq!(child.hear(), "received");
}

/// A receiver dies, another gets its place in the pool, and only then the sender to the dead one
/// goes.
#[test]
fn a_place_that_is_another_s_by_now() {
    let place = Place::new();
    let heartbeat = Duration::from_millis(20);
    let here = builder(&place.domain, "here").heartbeat(heartbeat).join().unwrap();
    for by_name in [false, true] {
        let mut dead = Child::joined(&place, "dead", "heartbeat=20");
        let mut sender = here.sender("dead").unwrap();
        if by_name {
            here.send("dead", &payload(1, 0, 100_000)).unwrap();
        } else {
            sender.send(&payload(1, 0, 100_000)).unwrap();
        }
        dead.kill();
        let is_dead =
            |sent| matches!(sent, Err(SendError::Dead { .. } | SendError::Unknown { .. }));
        // Each lane is told by itself.
        soon("its death is noted", || {
            is_dead(sender.try_send(b"x")) && is_dead(here.send("dead", b"x"))
        });
        soon("it is put away", || here.nodes().unwrap().len() == 1);
        let other = join(&place, "other");
        let mut to_other = here.sender("other").unwrap();
        drop(to_other.grant(100_000).unwrap());
        drop(sender);
        assert!(here.send("dead", b"x").is_err());
        let third = join(&place, "third");
        here.send("third", &payload(3, 0, 100_000)).unwrap();
        to_other.send(&payload(2, 0, 100_000)).unwrap();
        assert_eq!(check(&other.recv_timeout(PATIENCE).unwrap().unwrap()), (2, 0));
        assert_eq!(check(&third.recv_timeout(PATIENCE).unwrap().unwrap()), (3, 0));
    }
}

/// Chunks that were lent to one that leaves without reading them come back, also while its senders
/// stay.
#[test]
fn a_receiver_that_leaves_gives_chunks_back() {
    let place = Place::new();
    for far in [false, true] {
        let here = builder(&place.domain, "here").full(Full::Error).max_message(1 << 20);
        let here = here.join().unwrap();
        let other = join(&place, "other");
        let near = (!far).then(|| join(&place, "there"));
        let mut child = far.then(|| Child::joined(&place, "there", ""));
        let mut sender = here.sender("there").unwrap();
        fill(|_| sender.try_send(&[1; 1 << 20]));
        assert!(matches!(here.send("other", &[1; 1 << 20]), Err(SendError::Full { .. })));
        if let Some(near) = &near {
            near.leave().unwrap();
        }
        if let Some(child) = &mut child {
            child.expect("leave there", "left");
        }
        assert!(matches!(sender.try_send(b"x"), Err(SendError::Left { .. })));
        soon("they are back", || here.send("other", &payload(1, 0, 1 << 20)).is_ok());
        assert_eq!(check(&other.recv().unwrap()), (1, 0));
    }
}

/// The way to a large message fails for want of descriptors: the message stays.
#[test]
fn no_descriptors_for_a_pool() {
    const TEST: &str = "large::no_descriptors_for_a_pool";
    if !crate::segment_help::is_alone(TEST) {
        return crate::segment_help::alone(TEST);
    }
    let place = Place::new();
    let (here, there) = (join(&place, "here"), join(&place, "there"));
    here.send("there", b"before").unwrap();
    here.send("there", &payload(1, 0, 60_000)).unwrap();
    here.send("there", b"behind").unwrap();
    assert_eq!(&*there.recv().unwrap(), b"before");
    let limit = rustix::process::Resource::Nofile;
    let before = rustix::process::getrlimit(limit);
    let none = rustix::process::Rlimit { current: Some(3), maximum: before.maximum };
    rustix::process::setrlimit(limit, none).unwrap();
    let refused: Vec<_> = (0..3).map(|_| there.try_recv()).collect();
    rustix::process::setrlimit(limit, before).unwrap();
    for refused in refused {
        assert!(matches!(refused, Err(RecvError::NotYet { .. })), "{refused:?}");
    }
    assert_eq!(check(&there.recv().unwrap()), (1, 0));
    assert_eq!(&*there.recv().unwrap(), b"behind");
    assert_eq!(there.stats().lost, 0);
}
