//! Much at once, and many.

use crate::child::Child;
use crate::help::{HEADER, PATIENCE, Place, Random, builder, check, join, payload, resident};
use shm_transport::config::Full;
use shm_transport::node::{Node, NodeError, NodeState};
use std::collections::HashMap;
use std::thread;

/// 100,000 messages of up to 40 KiB through several lanes, from this process and from others: each
/// sender's arrive in order, whole, once.
#[test]
fn a_hundred_thousand() {
    const EACH: u32 = 20_000;
    const LONGEST: u64 = 40 << 10;
    let place = Place::new();
    let here = join(&place, "here");
    let mut children: Vec<_> = (0..2)
        .map(|stream| {
            let name = format!("c{stream}");
            let mut child = Child::joined(&place, &name, "full=block:60000");
            child.tell(&format!("stream {name} here {stream} {EACH} {LONGEST}"));
            child
        })
        .collect();
    let near = builder(&place.domain, "near").full(Full::Block(PATIENCE)).join().unwrap();
    thread::scope(|scope| {
        for stream in 2..5 {
            let near = &near;
            scope.spawn(move || {
                let mut sender = near.sender("here").unwrap();
                let mut random = Random::new(stream.into());
                for number in 0..EACH {
                    let length = length(&mut random, LONGEST);
                    sender.send(&payload(stream, number, length)).unwrap();
                }
            });
        }
        let mut next: HashMap<u32, u32> = HashMap::new();
        let mut receiver = here.receiver().unwrap();
        for _ in 0..5 * EACH {
            let reading = receiver.read_timeout(PATIENCE).unwrap().expect("it is on its way");
            let (stream, number) = check(&reading);
            let next = next.entry(stream).or_default();
            assert_eq!(*next, number, "of stream {stream}");
            *next += 1;
            reading.release();
        }
        assert!(receiver.read().unwrap().is_none());
        assert!((0..5).all(|stream| next[&stream] == EACH));
    });
    for child in &mut children {
        assert_eq!(child.hear(), "sent");
    }
    assert_eq!(here.stats().messages_received, u64::from(5 * EACH));
}

/// Short ones far more often than long ones.
pub fn length(random: &mut Random, longest: u64) -> usize {
    let most = if random.below(8) == 0 { longest } else { 600 };
    HEADER + random.below(most - HEADER as u64) as usize
}

/// Ten processes, each of which sends to all others.
#[test]
fn a_mesh_of_processes() {
    const PROCESSES: u32 = 10;
    const EACH: u32 = 30;
    let place = Place::new();
    let mut children: Vec<_> =
        (0..PROCESSES).map(|stream| Child::joined(&place, &format!("n{stream}"), "")).collect();
    for (stream, child) in children.iter_mut().enumerate() {
        child.tell(&format!("mesh n{stream} {stream} {PROCESSES} {EACH}"));
    }
    for child in &mut children {
        assert_eq!(child.hear(), "meshed");
    }
    let mesh = resident(&place.directory);
    assert!(mesh <= 8 << 20, "{mesh} bytes");
    children.iter_mut().for_each(Child::end);
    assert_eq!(place.files(), [""; 0]);
}

/// Memory in /dev/shm, as the promises have it.
#[test]
fn memory_of_two() {
    let place = Place::new();
    let one = join(&place, "one");
    let mut two = Child::joined(&place, "two", "");
    for number in 0..100 {
        one.send("two", &payload(1, number, 16 << 10)).unwrap();
        two.expect(&format!("receive-all two 1 {number} 1"), "received");
        two.expect(&format!("send two one 1 {number} 1 16000"), "sent");
        check(&one.recv().unwrap());
    }
    let memory = resident(&place.directory);
    eprintln!("two nodes that have sent to one another: {memory} bytes");
    assert!(memory <= 1 << 20, "{memory} bytes");
}

#[test]
fn two_hundred_and_fifty_six() {
    let place = Place::new();
    let here = join(&place, "here");
    let mut others: Vec<_> = (0..3).map(|_| Child::start(&place)).collect();
    let parts = [(0, 85), (85, 170), (170, 255)];
    for (child, (from, to)) in others.iter_mut().zip(parts) {
        child.tell(&format!("join-many n {from} {to}"));
    }
    for child in &mut others {
        assert_eq!(child.hear(), "joined");
    }
    let nodes = here.nodes().unwrap();
    assert_eq!(nodes.len(), 256);
    assert!(nodes.iter().all(|node| matches!(node.state, NodeState::Alive | NodeState::Silent(_))));
    let memory = resident(&place.directory);
    eprintln!("256 idle nodes: {memory} bytes");
    assert!(memory <= 16 << 20, "{memory} bytes");
    match builder(&place.domain, "one more").join() {
        Err(NodeError::Full { nodes: 256 }) => {}
        other => panic!("{other:?}"),
    }
    assert!(!place.files().iter().any(|name| name.contains("more")));
    // One and all hear of it.
    assert_eq!(here.broadcast(&payload(7, 0, 100)).unwrap(), 255);
    for (child, (from, to)) in others.iter_mut().zip(parts) {
        for name in [from, to - 1] {
            child.expect(&format!("receive n{name} 10000"), "here 7 0 100");
        }
    }
    // Each of one process to this one.
    for name in 0..85 {
        others[0].expect(&format!("send n{name} here {name} 0 1 1000"), "sent");
    }
    let mut streams: Vec<_> =
        (0..85).map(|_| check(&here.recv_timeout(PATIENCE).unwrap().unwrap()).0).collect();
    streams.sort_unstable();
    assert!(streams.into_iter().eq(0..85));
    others[1].kill();
    let joined = |node: Result<Node, NodeError>| match node {
        Ok(_) => true,
        Err(NodeError::Full { .. }) => false,
        Err(error) => panic!("{error}"),
    };
    assert!(joined(builder(&place.domain, "one more").join()), "in the place of a dead one");
    others[0].end();
    others[2].end();
    drop(here);
    crate::help::leaves_nothing(&place);
}

/// As few as may be.
#[test]
fn no_place_left() {
    let place = Place::new();
    let two = |name: &str| builder(&place.domain, name).nodes(2).join();
    let (one, other) = (two("one").unwrap(), two("other").unwrap());
    for _ in 0..3 {
        assert!(matches!(two("third"), Err(NodeError::Full { nodes: 2 })));
        // Also if it would have more.
        let found = builder(&place.domain, "third").join();
        assert!(matches!(found, Err(NodeError::Full { nodes: 2 })), "{found:?}");
    }
    drop(other);
    let third = two("third").unwrap();
    one.send("third", b"x").unwrap();
    assert_eq!(third.recv().unwrap().len(), 1);
    // Lanes: two for each node of the receiver's.
    let mut child = Child::start(&place);
    drop(third);
    child.expect("join far nodes=2", "joined");
    let mut senders = Vec::new();
    let error = loop {
        match one.sender("far") {
            Ok(sender) => senders.push(sender),
            Err(error) => break error,
        }
    };
    assert_eq!(senders.len(), 4);
    match error {
        shm_transport::node::SendError::NoLane { to, lanes: 4 } => {
            assert_eq!(to.as_bytes(), b"far")
        }
        other => panic!("{other:?}"),
    }
    senders.pop();
    crate::help::soon("its lane is free", || {
        // It is given back by whoever receives.
        child.expect("receive far 10", "nothing");
        one.sender("far").map(|sender| senders.push(sender)).is_ok()
    });
    drop((senders, one));
    child.end();
    assert_eq!(place.files(), [""; 0]);
}
