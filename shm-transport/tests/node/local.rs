//! Nodes of one process, and threads that share one.

use crate::help::{PATIENCE, Place, builder, check, join, payload};
use shm_transport::config::Full;
use shm_transport::node::{RecvError, SendError};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

#[test]
fn two_in_one_process() {
    let place = Place::new();
    let (one, two) = (join(&place, "one"), join(&place, "two"));
    for (number, length) in (0..).zip([12, 1000, 16 << 10, (16 << 10) + 1, 1 << 20, 3, 16 << 20]) {
        let length = length.max(12);
        one.send("two", &payload(1, number, length)).unwrap();
        assert_eq!(check(&two.recv().unwrap()), (1, number));
        two.send("one", &payload(2, number, length)).unwrap();
        assert_eq!(check(&one.recv().unwrap()), (2, number));
    }
    let memory = crate::help::resident(&place.directory);
    assert_eq!(one.stats().lanes_in, 0, "in memory of the process's own: {memory}");
    drop((one, two));
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn to_oneself() {
    let place = Place::new();
    let node = builder(&place.domain, "node").full(Full::Error).join().unwrap();
    for (number, length) in (0..).zip([12, 1000, 16 << 10, (16 << 10) + 1, 1 << 20]) {
        node.send("node", &payload(1, number, length)).unwrap();
        let message = node.recv().unwrap();
        assert_eq!((message.sender().as_bytes(), check(&message)), (&b"node"[..], (1, number)));
    }
    while node.send("node", &[0; 1000]).is_ok() {}
    while node.try_recv().unwrap().is_some() {}
    let mut sender = node.sender("node").unwrap();
    sender.send(b"by a lane of its own").unwrap();
    assert_eq!(node.recv().unwrap().len(), 20);
    drop((sender, node));
    assert_eq!(place.files(), [""; 0]);
}

/// Senders and receivers outlive their node, and harm nobody.
#[test]
fn leaving_while_handles_exist() {
    let place = Place::new();
    for round in 0..2 {
        let (one, two) = (join(&place, "one"), join(&place, "two"));
        let mut sender = one.sender("two").unwrap();
        let mut large = one.sender("two").unwrap();
        sender.send(&payload(1, 0, 100)).unwrap();
        large.send(&payload(2, 0, 1 << 20)).unwrap();
        one.leave().unwrap();
        assert!(matches!(sender.send(b"x"), Err(SendError::NotJoined)));
        let again = join(&place, "one");
        let mut found: Vec<_> = (0..2).map(|_| check(&two.recv().unwrap())).collect();
        found.sort_unstable();
        assert_eq!(found, [(1, 0), (2, 0)]);
        if round == 0 {
            drop((sender, large));
            drop((one, two, again));
        } else {
            drop((one, two, again));
            drop((sender, large));
        }
        crate::help::nothing_is_left(&place);
    }
}

/// The receiver leaves while senders of its process have lanes to it.
#[test]
fn the_receiver_leaves() {
    let place = Place::new();
    let one = join(&place, "one");
    for length in [100, 1 << 20] {
        let two = join(&place, "two");
        let mut sender = one.sender("two").unwrap();
        sender.send(&payload(1, 0, length)).unwrap();
        one.send("two", &payload(1, 1, length)).unwrap();
        two.leave().unwrap();
        assert!(matches!(sender.send(b"x"), Err(SendError::Left { .. })));
        assert!(matches!(sender.grant(1), Err(SendError::Left { .. })));
        assert!(matches!(
            one.send("two", b"x"),
            Err(SendError::Left { .. } | SendError::Unknown { .. })
        ));
        let again = join(&place, "two");
        assert!(matches!(sender.send(b"x"), Err(SendError::Left { .. })));
        one.send("two", &payload(1, 2, length)).unwrap();
        assert_eq!(check(&again.recv().unwrap()), (1, 2));
    }
    drop(one);
    crate::help::nothing_is_left(&place);
}

/// A message in hand stays what it is when its node leaves and its sender sends on.
#[test]
fn leaving_with_a_message_in_hand() {
    let place = Place::new();
    let one = join(&place, "one");
    for length in [1000, 1 << 20] {
        let two = join(&place, "two");
        one.send("two", &payload(1, 7, length)).unwrap();
        let mut receiver = two.receiver().unwrap();
        let reading = receiver.read_wait().unwrap();
        two.leave().unwrap();
        for _ in 0..20 {
            let _ = one.send("two", &payload(9, 9, length));
        }
        assert_eq!(check(&reading), (1, 7));
        reading.release();
        assert!(matches!(receiver.read(), Err(RecvError::NotJoined)));
        drop(receiver);
        drop(two);
    }
    drop(one);
    crate::help::nothing_is_left(&place);
}

/// A grant of a chunk is in hand: others of the node go on, but for large messages, and it can
/// leave.
#[test]
fn leaving_with_a_grant_in_hand() {
    let place = Place::new();
    let node = builder(&place.domain, "node").heartbeat(Duration::from_millis(20)).join().unwrap();
    let other = join(&place, "other");
    let mut sender = node.sender("other").unwrap();
    let (told, heard) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        let mut grant = sender.grant(1 << 20).unwrap();
        grant[..12].copy_from_slice(&payload(1, 0, 12));
        node.send("other", b"small").unwrap();
        assert_eq!(&*other.recv().unwrap(), b"small");
        assert_eq!(node.nodes().unwrap().len(), 2);
        let node = &node;
        scope.spawn(move || told.send(node.leave().is_ok()));
        let left = heard.recv_timeout(PATIENCE);
        // So that a failure is no hang.
        drop(grant);
        assert_eq!(left, Ok(true), "leaving waits for a grant");
    });
    drop((sender, node, other));
    crate::help::nothing_is_left(&place);
}

/// `try_send` does not wait for a thread that waits for room.
#[test]
fn trying_while_another_thread_waits() {
    let place = Place::new();
    let node = builder(&place.domain, "node").full(Full::Block(PATIENCE)).join().unwrap();
    let other = join(&place, "other");
    while node.try_send("other", &[1; 1000]).is_ok() {}
    thread::scope(|scope| {
        let waiting = scope.spawn(|| node.send("other", &[1; 1000]));
        thread::sleep(Duration::from_millis(50));
        for _ in 0..10 {
            assert!(matches!(node.try_send("other", &[1; 1000]), Err(SendError::Full { .. })));
        }
        let still = !waiting.is_finished();
        while other.try_recv().unwrap().is_some() {}
        let _ = waiting.join().unwrap();
        assert!(still, "they waited until the other thread was done");
    });
}

/// Many threads send, receive, ask and leave at once.
#[test]
fn threads_share_a_node() {
    let place = Place::new();
    let patient = |name| builder(&place.domain, name).full(Full::Block(PATIENCE)).join().unwrap();
    let (one, two) = (patient("one"), patient("two"));
    let received = AtomicU32::new(0);
    let done = AtomicBool::new(false);
    const EACH: u32 = 300;
    thread::scope(|scope| {
        let sending: Vec<_> = (0..3)
            .map(|stream| {
                let one = &one;
                scope.spawn(move || {
                    for number in 0..EACH {
                        let length = if number % 50 == 0 { 100_000 } else { 200 };
                        one.send("two", &payload(stream, number, length)).unwrap();
                    }
                })
            })
            .collect();
        for _ in 0..3 {
            scope.spawn(|| {
                while received.load(Relaxed) < 3 * EACH {
                    if let Some(message) = two.recv_timeout(Duration::from_millis(20)).unwrap() {
                        check(&message);
                        received.fetch_add(1, Relaxed);
                    }
                }
                done.store(true, Relaxed);
            });
        }
        scope.spawn(|| {
            while !done.load(Relaxed) {
                assert_eq!(one.nodes().unwrap().len(), 2);
                assert!(one.stats().messages_sent <= u64::from(3 * EACH));
                two.try_recv().unwrap().inspect(|message| {
                    check(message);
                    received.fetch_add(1, Relaxed);
                });
                two.set_filter(shm_transport::node::Filter::ALL);
                thread::sleep(Duration::from_millis(1));
            }
        });
        for sending in sending {
            sending.join().unwrap();
        }
    });
    assert_eq!(received.load(Relaxed), 3 * EACH);
    assert_eq!(two.stats().messages_received, u64::from(3 * EACH));
}

/// Two nodes send to one another and to themselves from many threads, large and small, and leave in
/// the midst: nobody hangs.
#[test]
fn leaving_in_the_midst() {
    let place = Place::new();
    for round in 0..6u64 {
        let nodes = ["one", "two"]
            .map(|name| builder(&place.domain, name).full(Full::Block(PATIENCE)).join().unwrap());
        let gone = AtomicU32::new(0);
        let begin = Barrier::new(7);
        thread::scope(|scope| {
            for thread in 0..4usize {
                let (nodes, gone, begin) = (&nodes, &gone, &begin);
                scope.spawn(move || {
                    let node = &nodes[thread % 2];
                    let to = ["one", "two"][thread / 2];
                    begin.wait();
                    for number in 0.. {
                        let length = if number % 20 == 0 { 200_000 } else { 3000 };
                        match node.send(to, &payload(1, number, length)) {
                            Ok(()) => {}
                            Err(SendError::NotJoined) => break,
                            Err(SendError::Left { .. } | SendError::Unknown { .. }) => break,
                            Err(error) => panic!("{error}"),
                        }
                    }
                    gone.fetch_add(1, Relaxed);
                });
            }
            for node in &nodes {
                let begin = &begin;
                scope.spawn(move || {
                    begin.wait();
                    while let Ok(message) = node.recv() {
                        check(&message);
                    }
                });
            }
            begin.wait();
            thread::sleep(Duration::from_millis(5 + round * 3));
            nodes[round as usize % 2].leave().unwrap();
            nodes[1 - round as usize % 2].leave().unwrap();
        });
        assert_eq!(gone.load(Relaxed), 4);
        drop(nodes);
        crate::help::nothing_is_left(&place);
    }
}

/// A callback sends, asks and leaves.
#[test]
fn from_within_a_callback() {
    let place = Place::new();
    let node = std::sync::Arc::new(join(&place, "node"));
    let other = join(&place, "other");
    let weak = std::sync::Arc::downgrade(&node);
    let listener = node
        .on_message(move |reading| {
            let node = weak.upgrade().unwrap();
            node.send("other", reading).unwrap();
            node.send("other", &vec![1; 100_000]).unwrap();
            assert_eq!(node.nodes().unwrap().len(), 2);
            assert!(node.try_recv().unwrap().is_none(), "it is just receiving");
            if reading.len() == 5 {
                node.leave().unwrap();
            }
        })
        .unwrap();
    for length in [3, 4, 5] {
        other.send("node", &vec![2; length]).unwrap();
        assert_eq!(other.recv_timeout(PATIENCE).unwrap().unwrap().len(), length);
        assert_eq!(other.recv_timeout(PATIENCE).unwrap().unwrap().len(), 100_000);
    }
    assert!(listener.join());
    assert!(!node.is_joined());
    drop((node, other));
    crate::help::nothing_is_left(&place);
}

/// Large messages that nobody will read keep nothing: not those to oneself, nor those of two that
/// have left, each with some of the other's.
#[test]
fn unread_chunks_keep_nothing() {
    let place = Place::new();
    for by_sender in [false, true] {
        let nodes = ["one", "two"].map(|name| join(&place, name));
        for node in &nodes {
            for to in ["one", "two"] {
                let large = payload(1, 0, 1 << 20);
                if by_sender {
                    // It is gone before its receiver is.
                    node.sender(to).unwrap().send(&large).unwrap();
                } else {
                    node.send(to, &large).unwrap();
                }
            }
        }
        // One of them has taken up its lanes.
        let mut receiver = nodes[1].receiver().unwrap();
        check(&receiver.read_wait().unwrap());
        drop(receiver);
        nodes[0].leave().unwrap();
        nodes[1].leave().unwrap();
        crate::help::nothing_is_left(&place);
    }
}

/// A grant of a chunk does not keep the node from being looked after, nor its thread from sending.
#[test]
fn a_grant_in_hand() {
    let place = Place::new();
    let node = builder(&place.domain, "node")
        .heartbeat(Duration::from_millis(10))
        .silent_after(Duration::from_millis(500))
        .full(Full::Error)
        .join()
        .unwrap();
    let mut child = crate::child::Child::joined(&place, "there", "");
    let mut sender = node.sender("there").unwrap();
    let mut other = node.sender("there").unwrap();
    let grant = sender.grant(1 << 20).unwrap();
    assert!(matches!(other.send(&[0; 1 << 20]), Err(SendError::Full { .. })));
    assert!(matches!(node.send("there", &[0; 1 << 20]), Err(SendError::Full { .. })));
    assert_eq!(node.broadcast(&[0; 1 << 20]).unwrap(), 0);
    other.send(&payload(1, 0, 100)).unwrap();
    child.expect("receive there 10000", "node 1 0 100");
    child.kill();
    crate::help::soon("its death is noted", || {
        matches!(other.try_send(b"x"), Err(SendError::Dead { .. }))
    });
    drop(grant);
    drop((sender, other));
    crate::help::soon("what it had is put away", || node.nodes().unwrap().len() == 1);
    drop(node);
    crate::help::leaves_nothing(&place);
}
