//! What may not stay: chunks and lanes of those who go on, and all that the dead left.

use crate::message::{LARGE, drain, message};
use crate::operation::Operation;
use crate::segment_help::Place;
use crate::{CHUNKS, PATIENCE, eventually};
use shm_transport::member::Member;
use shm_transport::node::{Node, sweep};
use std::time::Duration;

/// All chunks of `one` come back, and the lanes of both.
pub fn nothing_leaks(one: &Node, two: &Node) {
    eventually("chunks are lost", || {
        let sent = (0..CHUNKS as u32)
            .take_while(|at| one.try_send("two", &message("one", *at, LARGE)).is_ok())
            .count();
        assert_eq!(drain(two, "one", sent).len(), sent);
        (sent == CHUNKS).then_some(())
    });
    eventually("lanes are lost", || {
        // Who reads gives lanes back that have ended.
        for node in [one, two] {
            assert!(node.recv_timeout(Duration::from_millis(1)).unwrap().is_none());
        }
        (one.stats().lanes_in == 0 && two.stats().lanes_in == 0).then_some(())
    });
}

/// All leave, and all is gone.
pub fn nothing_stays(what: Operation, nodes: Vec<Node>, place: &Place, turn: u32) {
    // Otherwise the last who leaves does it.
    if turn % 3 != 1 {
        if turn % 3 == 2 {
            sweep::sweep(&place.domain, false).unwrap();
        }
        if what.is_looked_after() {
            put_away(&nodes, place);
        }
    }
    drop(nodes);
    let mut files = Vec::new();
    for _ in 0..PATIENCE {
        files = place.files();
        if files.is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("left by those who left: {files:?}");
}

/// What the dead left is put away while the others are there.
fn put_away(nodes: &[Node], place: &Place) {
    let observer = Member::join(&place.domain, "observer").unwrap();
    eventually("the dead stay", || {
        let (known, records) = (nodes[0].nodes().unwrap(), observer.processes().verdicts());
        let own = |file: &String| {
            file.contains(".pool.") && nodes.iter().any(|node| file.ends_with(&pool_of(node)))
        };
        let files = place.files().iter().filter(|file| !own(file)).count();
        let found = (known.len(), records.count() - 1, files - 2);
        (found == (nodes.len(), nodes.len(), nodes.len())).then_some(())
    });
    // SAFETY: it holds nothing.
    unsafe { observer.leave() }.unwrap();
}

/// What the file of its pool ends with.
fn pool_of(node: &Node) -> String {
    let nodes = node.nodes().unwrap();
    let owner = nodes.iter().find(|one| one.id == *node.id()).unwrap().owner;
    format!(".pool.{}-{}", owner.index(), owner.generation())
}
