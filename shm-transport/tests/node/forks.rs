//! A child made by `fork` has copies of its parent's nodes, which do nothing.
//!
//! Each test in a process of its own: a fork has copies of what other tests have open, too, and of
//! what their threads are just doing.

use crate::common::fork::in_a_fork;
use crate::help::{PATIENCE, Place, builder, join};
use crate::segment_help::{alone, is_alone};
use shm_transport::node::{Filter, Node, NodeError, RecvError, SendError, Sender, Statistics};
use std::thread;
use std::time::Duration;

/// 0 if it is so.
fn answer(is_so: bool) -> i32 {
    i32::from(!is_so)
}

/// Each call in a fork of its own, so that each crash has a name.
#[test]
fn copies_do_nothing() {
    if !is_alone("forks::copies_do_nothing") {
        return alone("forks::copies_do_nothing");
    }
    let place = Place::new();
    let node = join(&place, "node");
    let other = join(&place, "other");
    // In another process, so that lanes lie in shared memory.
    let mut far = crate::child::Child::joined(&place, "far", "");
    far.expect("send far node 1 0 3 100", "sent");
    far.expect("send far node 1 3 1 100000", "sent");
    node.send("far", &crate::help::payload(2, 0, 50)).unwrap();
    node.send("far", &crate::help::payload(2, 1, 50_000)).unwrap();
    node.send("other", b"near").unwrap();
    let mut sender = node.sender("far").unwrap();
    let mut near = node.sender("other").unwrap();
    sender.send(&crate::help::payload(3, 0, 50)).unwrap();
    sender.send(&crate::help::payload(3, 1, 50_000)).unwrap();
    // So that lanes into it are taken up.
    crate::help::check(&node.recv().unwrap());
    let statistics = node.stats();
    assert_eq!(statistics.messages_received, 1);

    let calls: &mut [(&str, &mut dyn FnMut() -> bool)] = &mut [
        ("is_joined", &mut || !node.is_joined()),
        ("id", &mut || node.id().as_bytes() == b"node"),
        ("send", &mut || matches!(node.send("far", b"x"), Err(SendError::NotJoined))),
        ("send near", &mut || matches!(node.send("other", b"x"), Err(SendError::NotJoined))),
        ("try_send", &mut || matches!(node.try_send("far", b"x"), Err(SendError::NotJoined))),
        ("broadcast", &mut || matches!(node.broadcast(b"x"), Err(SendError::NotJoined))),
        ("sender", &mut || matches!(node.sender("far"), Err(SendError::NotJoined))),
        ("warm_up", &mut || matches!(node.warm_up(), Err(SendError::NotJoined))),
        ("recv", &mut || matches!(node.recv(), Err(RecvError::NotJoined))),
        ("try_recv", &mut || matches!(node.try_recv(), Err(RecvError::NotJoined))),
        ("recv_timeout", &mut || {
            matches!(node.recv_timeout(Duration::ZERO), Err(RecvError::NotJoined))
        }),
        ("receiver", &mut || matches!(node.receiver(), Err(RecvError::NotJoined))),
        ("iter", &mut || node.iter().next().is_none()),
        ("nodes", &mut || matches!(node.nodes(), Err(NodeError::NotJoined))),
        ("is_local", &mut || !node.is_local("far") && !node.is_local("node")),
        ("leave", &mut || matches!(node.leave(), Err(NodeError::NotJoined))),
        ("on_message", &mut || matches!(node.on_message(|_| ()), Err(RecvError::NotJoined))),
        ("watch", &mut || node.watch().next().is_none()),
        ("set_filter", &mut || {
            node.set_filter(Filter::ALL);
            true
        }),
        // Its counters are not there.
        ("stats", &mut || node.stats() == Statistics::default()),
        ("debug", &mut || !format!("{node:?}").is_empty()),
    ];
    let mut wrong = Vec::new();
    for (name, call) in calls {
        match in_a_fork(|| answer(call())) {
            0 => {}
            found => wrong.push(format!("{name}: {found}")),
        }
    }
    let large = vec![0; 50_000];
    type Call<'c> = &'c dyn Fn(&mut Sender) -> Result<(), SendError>;
    let calls: [(&str, Call<'_>); 4] = [
        ("send", &|sender| sender.send(b"x")),
        ("send large", &|sender| sender.send(&large)),
        ("try_send", &|sender| sender.try_send(b"x")),
        ("grant", &|sender| sender.grant(1).map(drop)),
    ];
    for (whom, sender) in [("far", &mut sender), ("near", &mut near)] {
        for (name, call) in &calls {
            match in_a_fork(|| answer(matches!(call(sender), Err(SendError::NotJoined)))) {
                0 => {}
                found => wrong.push(format!("{name} to {whom}: {found}")),
            }
        }
    }
    assert_eq!(wrong, [""; 0], "1: another answer; above 1000: killed");
    // Nothing of all this was seen by the parent or by others.
    assert_eq!(node.stats(), statistics);
    assert_eq!(&*other.recv().unwrap(), b"near");
    assert!(other.try_recv().unwrap().is_none());
    for number in 1..4 {
        assert_eq!(crate::help::check(&node.recv_timeout(PATIENCE).unwrap().unwrap()), (1, number));
    }
    far.expect("receive far 10000", "node 2 0 50");
    far.expect("receive far 10000", "node 2 1 50000");
    far.expect("receive far 10000", "node 3 0 50");
    far.expect("receive far 10000", "node 3 1 50000");
    far.expect("receive far 100", "nothing");
    far.end();
    drop((sender, near, node, other));
    assert_eq!(place.files(), [""; 0]);
}

/// A fork that unwinds drops all it has.
#[test]
fn dropping_copies_takes_nothing_away() {
    if !is_alone("forks::dropping_copies_takes_nothing_away") {
        return alone("forks::dropping_copies_takes_nothing_away");
    }
    let place = Place::new();
    let mut far = crate::child::Child::joined(&place, "far", "");
    let node = join(&place, "node");
    let mut sender = node.sender("far").unwrap();
    sender.send(&crate::help::payload(3, 0, 50_000)).unwrap();
    far.expect("send far node 1 0 3 50000", "sent");
    let watch = node.watch();
    let received = node.recv().unwrap();
    let mut all = Some((sender, watch, received, node));
    let dropped = in_a_fork(|| {
        drop(all.take());
        0
    });
    assert_eq!(dropped, 0);
    let (mut sender, watch, _, node) = all.unwrap();
    assert!(node.is_joined());
    sender.send(&crate::help::payload(3, 1, 100)).unwrap();
    far.expect("receive-all far 3 0 2", "received");
    assert_eq!(crate::help::check(&node.recv().unwrap()), (1, 1));
    assert!(watch.next_timeout(PATIENCE).is_some());
    drop((sender, node));
    far.end();
    assert_eq!(place.files(), [""; 0]);
}

/// While threads of the parent are in the midst of everything.
#[test]
fn a_fork_from_the_midst() {
    if !is_alone("forks::a_fork_from_the_midst") {
        return alone("forks::a_fork_from_the_midst");
    }
    let place = Place::new();
    let node = join(&place, "node");
    let listener = node.on_message(|_| ()).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let stopped = || stop.load(std::sync::atomic::Ordering::Relaxed);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stopped() {
                    let _ = node.try_send("node", &[1; 100]);
                    let _ = node.nodes();
                }
            });
        }
        let mut hung = None;
        for round in 0..50 {
            let found = in_a_fork(|| {
                let gone = matches!(node.send("node", b"x"), Err(SendError::NotJoined))
                    && matches!(node.try_recv(), Err(RecvError::NotJoined))
                    && matches!(node.leave(), Err(NodeError::NotJoined));
                answer(gone)
            });
            if found != 0 {
                hung = Some((round, found));
                break;
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(hung, None);
    });
    drop(listener);
    drop(node);
    assert_eq!(place.files(), [""; 0]);
}

/// It joins under a name of its own.
#[test]
fn a_fork_joins() {
    if !is_alone("forks::a_fork_joins") {
        return alone("forks::a_fork_joins");
    }
    let place = Place::new();
    let node = join(&place, "node");
    let found = in_a_fork(|| {
        let Err(NodeError::Taken { here: false, pid, .. }) = builder(&place.domain, "node").join()
        else {
            return 1;
        };
        // SAFETY: a system call without memory.
        if pid != u32::try_from(unsafe { libc::getppid() }).ok() {
            return 2;
        }
        let Ok(child) = builder(&place.domain, "child").join() else { return 3 };
        if child.send("node", b"from a fork").is_err() {
            return 4;
        }
        answer(matches!(child.leave(), Ok(())))
    });
    assert_eq!(found, 0);
    let message = node.recv_timeout(PATIENCE).unwrap().unwrap();
    assert_eq!((message.sender().as_bytes(), &*message), (&b"child"[..], &b"from a fork"[..]));
    drop(node);
    assert_eq!(place.files(), [""; 0]);
}

/// A parent that ends, and a fork of it that lives: the node is dead, and its name free.
#[test]
fn a_fork_keeps_nothing_alive() {
    if !is_alone("forks::a_fork_keeps_nothing_alive") {
        return alone("forks::a_fork_keeps_nothing_alive");
    }
    let place = Place::new();
    let domain = place.domain.clone();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let copy = std::os::fd::AsRawFd::as_raw_fd(&writer);
    let found = in_a_fork(move || {
        // SAFETY: this fork's copy, which nobody uses. The pipe ends when the parent's goes.
        unsafe { libc::close(copy) };
        // The node's own process.
        let node: Node = builder(&domain, "node").join().unwrap();
        // SAFETY: as in `in_a_fork`.
        if unsafe { libc::fork() } == 0 {
            // SAFETY: ends this grandchild, with what it has of the node's descriptors.
            unsafe {
                libc::alarm(20);
                let mut byte = 0u8;
                libc::read(std::os::fd::AsRawFd::as_raw_fd(&reader), (&raw mut byte).cast(), 1);
                libc::_exit(0);
            }
        }
        std::mem::forget(node);
        let _ = std::io::Read::by_ref(&mut reader);
        0
    });
    assert_eq!(found, 0);
    let again = join(&place, "node");
    assert_eq!(again.nodes().unwrap().len(), 1);
    drop(writer);
    drop(again);
    crate::help::leaves_nothing(&place);
}
