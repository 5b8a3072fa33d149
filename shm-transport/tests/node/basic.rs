//! Joining, being there, leaving, joining again.

use crate::child::Child;
use crate::help::{Place, builder, join};
use shm_transport::node::{NodeError, NodeState, RecvError, SendError};
use std::collections::HashSet;

#[test]
fn nodes_see_one_another() {
    let place = Place::new();
    let here = join(&place, "here");
    assert_eq!(here.id().as_bytes(), b"here");
    assert_eq!(here.domain(), &place.domain);
    assert!(here.is_joined() && here.is_local("here"));
    assert!(!here.is_local("there") && !here.is_local("") && !here.is_local("a\0b"));
    let mut child = Child::joined(&place, "there", "");
    assert!(here.is_local("there"));
    child.expect("nodes there", "2");
    let nodes = here.nodes().unwrap();
    let found: HashSet<_> = nodes.iter().map(|node| (node.id.to_string(), node.pid)).collect();
    let expected = [("here".to_owned(), std::process::id()), ("there".to_owned(), child.pid())];
    assert_eq!(found, HashSet::from(expected));
    assert!(nodes.iter().all(|node| node.state == NodeState::Alive), "{nodes:?}");
    let owners: HashSet<_> = nodes.iter().map(|node| node.owner).collect();
    assert_eq!(owners.len(), 2);

    child.expect("leave there", "left");
    assert!(!here.is_local("there"));
    assert_eq!(here.nodes().unwrap().len(), 1);
    child.expect("leave there", "NotJoined");
    child.expect("join there", "joined");
    assert!(here.is_local("there"));
    child.end();
    assert!(!here.is_local("there"), "dropping is leaving");
    drop(here);
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn who_has_left_does_nothing() {
    let place = Place::new();
    let other = join(&place, "other");
    let node = join(&place, "node");
    let mut sender = node.sender("other").unwrap();
    node.leave().unwrap();
    assert!(!node.is_joined());
    assert!(matches!(node.leave(), Err(NodeError::NotJoined)));
    assert!(matches!(node.nodes(), Err(NodeError::NotJoined)));
    assert!(!node.is_local("other") && !node.is_local("node"));
    assert!(matches!(node.send("other", b"x"), Err(SendError::NotJoined)));
    assert!(matches!(node.try_send("other", b"x"), Err(SendError::NotJoined)));
    assert!(matches!(node.send("", b"x"), Err(SendError::NotJoined)));
    assert!(matches!(node.broadcast(b"x"), Err(SendError::NotJoined)));
    assert!(matches!(node.sender("other"), Err(SendError::NotJoined)));
    assert!(matches!(node.warm_up(), Err(SendError::NotJoined)));
    assert!(matches!(sender.send(b"x"), Err(SendError::NotJoined)));
    assert!(matches!(sender.grant(1), Err(SendError::NotJoined)));
    assert!(matches!(node.recv(), Err(RecvError::NotJoined)));
    assert!(matches!(node.try_recv(), Err(RecvError::NotJoined)));
    assert!(matches!(node.receiver(), Err(RecvError::NotJoined)));
    assert!(matches!(node.on_message(|_| ()), Err(RecvError::NotJoined)));
    assert_eq!(node.iter().count(), 0);
    assert_eq!(node.watch().next(), None);

    // Its name is free, and its handles are of the one that has left.
    let again = join(&place, "node");
    assert!(again.is_joined() && !node.is_joined());
    assert!(matches!(sender.send(b"x"), Err(SendError::NotJoined)));
    other.send("node", b"y").unwrap();
    assert_eq!(&*again.recv().unwrap(), b"y");
    drop((sender, node, again, other));
    assert_eq!(place.files(), [""; 0]);
}

/// A name goes from one process to the next as soon as it is left.
#[test]
fn a_name_goes_round() {
    let place = Place::new();
    let watching = join(&place, "watching");
    let mut children = [Child::start(&place), Child::start(&place)];
    for _ in 0..20 {
        for child in &mut children {
            child.expect("join name", "joined");
            child.expect("leave name", "left");
        }
    }
    assert_eq!(watching.nodes().unwrap().len(), 1);
    drop(children);
    drop(watching);
    crate::help::nothing_is_left(&place);
}

#[test]
fn a_name_is_one_process_s() {
    let place = Place::new();
    let here = join(&place, "one");
    match builder(&place.domain, "one").join() {
        Err(NodeError::Taken { name, pid, here: true }) => {
            assert_eq!((name.as_bytes(), pid), (&b"one"[..], Some(std::process::id())));
        }
        other => panic!("{other:?}"),
    }
    let mut child = Child::joined(&place, "two", "");
    match builder(&place.domain, "two").join() {
        Err(NodeError::Taken { name, pid, here: false }) => {
            assert_eq!((name.as_bytes(), pid), (&b"two"[..], Some(child.pid())));
        }
        other => panic!("{other:?}"),
    }
    let said = child.ask("join one");
    let expected = format!("Taken the name one is taken by process {}", std::process::id());
    assert!(said.starts_with(&expected), "{said}");
    // Nothing of the attempts has stayed, and nothing was taken away.
    assert_eq!(here.nodes().unwrap().len(), 2);
    child.expect("send two one 1 0 1 100", "sent");
    assert_eq!(crate::help::check(&here.recv().unwrap()), (1, 0));
    child.end();
    drop(here);
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn names_that_look_alike() {
    let place = Place::new();
    let names = ["a/b", "a%sb", "a%b", "a%%b", "ab", "a.b", "ä", "%", "%%", "..", "-", " "];
    let long = "/".repeat(64);
    let names: Vec<&str> = names.into_iter().chain([&*long]).collect();
    let nodes: Vec<_> = names.iter().map(|name| join(&place, name)).collect();
    for (stream, from) in nodes.iter().enumerate() {
        for to in &names {
            from.send(to, &[stream as u8]).unwrap();
        }
    }
    for node in &nodes {
        let found: HashSet<_> = names
            .iter()
            .map(|_| node.recv().unwrap())
            .map(|m| (m.sender().as_bytes().to_vec(), m[0]))
            .collect();
        let expected =
            names.iter().enumerate().map(|(at, name)| (name.as_bytes().to_vec(), at as u8));
        assert_eq!(found, expected.collect());
    }
    drop(nodes);
    assert_eq!(place.files(), [""; 0]);
}

/// Of several that join one name at once, one gets it: also if it was a dead one's.
#[test]
fn a_race_for_a_name() {
    let place = Place::new();
    let watching = join(&place, "watching");
    let mut racers: Vec<_> = (0..4).map(|_| Child::start(&place)).collect();
    for round in 0..12 {
        for racer in &mut racers {
            racer.tell("join name");
        }
        let answers: Vec<_> = racers.iter_mut().map(Child::hear).collect();
        let winner = answers.iter().position(|answer| answer == "joined");
        let winner = winner.unwrap_or_else(|| panic!("{answers:?}"));
        for (at, answer) in answers.iter().enumerate().filter(|(at, _)| *at != winner) {
            let expected =
                format!("Taken the name name is taken by process {}", racers[winner].pid());
            assert!(answer.starts_with(&expected), "{at}: {answers:?}");
        }
        // A lane of its own, for that of `send` may lead to one of whose death nobody knows yet.
        let mut sender = watching.sender("name").unwrap();
        sender.send(&crate::help::payload(1, round, 100)).unwrap();
        racers[winner].expect("receive name 10000", &format!("watching 1 {round} 100"));
        if round % 2 == 0 {
            racers[winner].kill();
            racers[winner] = Child::start(&place);
        } else {
            racers[winner].expect("leave name", "left");
        }
    }
    for racer in &mut racers {
        racer.end();
    }
    drop(watching);
    crate::help::leaves_nothing(&place);
}
