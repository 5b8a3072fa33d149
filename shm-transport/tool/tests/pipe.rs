//! `shm pipe`.

mod common;

use common::Place;
use rustix::process::Signal;
use std::io::{Read, Write};
use std::process::Stdio;
use std::thread;

/// Bytes that are not all alike.
fn bytes(count: usize) -> Vec<u8> {
    let mut state = 7u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(count).collect()
}

#[test]
fn all_of_it_arrives_in_order() {
    for count in [0, 1, 100_000, 20 << 20] {
        let place = Place::new();
        let wanted = bytes(count);
        let mut from = place.start("end", &["pipe", "--from", "end"]);
        let mut to = place.program(&["pipe", "--to", "end"]).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = to.stdin.take().unwrap();
        let input = wanted.clone();
        let writing = thread::spawn(move || stdin.write_all(&input).unwrap());
        let mut out = Vec::new();
        from.child().stdout.take().unwrap().read_to_end(&mut out).unwrap();
        writing.join().unwrap();
        assert!(to.wait().unwrap().success());
        from.done().with(0);
        assert!(out == wanted, "{} of {count} bytes", out.len());
        assert_eq!(place.domain.segments().unwrap().count(), 0);
    }
}

#[test]
fn either_end_may_come_first() {
    let place = Place::new();
    let mut to = place
        .program(&["pipe", "--to", "end", "--wait", "60"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    to.stdin.take().unwrap().write_all(b"early").unwrap();
    let done = place.shm(&["pipe", "--from", "end"]).with(0);
    assert_eq!(done.out, "early");
    assert!(to.wait().unwrap().success());
    let done = place.shm(&["pipe", "--to", "end"]).with(4);
    assert!(done.err.contains("there is no node end"), "{done:?}");
    let done = place.shm(&["pipe", "--from", "end", "--wait", "0.1"]).with(4);
    assert!(done.err.contains("nobody writes to end"), "{done:?}");
    place.shm(&["pipe"]).with(2);
    place.shm(&["pipe", "--from", "a", "--to", "b"]).with(2);
}

/// The reader of what is not all says so.
#[test]
fn a_writer_that_is_killed_is_no_end_of_input() {
    for (signal, text) in [(Signal::KILL, "killed"), (Signal::TERM, "left")] {
        let place = Place::new();
        let mut from = place.start("end", &["pipe", "--from", "end"]);
        let mut to = place.start("writer", &["pipe", "--to", "end", "--as", "writer"]);
        to.child().stdin.as_mut().unwrap().write_all(b"not all").unwrap();
        let mut out = [0; 7];
        from.child().stdout.as_mut().unwrap().read_exact(&mut out).unwrap();
        to.signal(signal);
        let done = from.done().with(1);
        assert!(done.err.contains(text), "{done:?}");
        assert!(done.err.contains("what came is not all"), "{done:?}");
        drop(to);
    }
}

#[test]
fn a_reader_that_is_killed_is_an_error() {
    let place = Place::new();
    let mut from = place.start("end", &["pipe", "--from", "end"]);
    let mut to = place.start("writer", &["pipe", "--to", "end", "--as", "writer"]);
    from.signal(Signal::KILL);
    let mut stdin = to.child().stdin.take().unwrap();
    // Until it is noticed.
    while stdin.write_all(&[0; 65536]).is_ok() {}
    let done = to.done().with(1);
    assert!(done.err.contains("node end"), "{done:?}");
    from.done();
}

/// A reader that is stopped stops the writer, and nothing is lost.
#[test]
fn a_stopped_reader_loses_nothing() {
    let place = Place::new();
    let wanted = bytes(4 << 20);
    let mut from = place.start("end", &["pipe", "--from", "end"]);
    let mut to = place.start("writer", &["pipe", "--to", "end", "--as", "writer"]);
    from.signal(Signal::STOP);
    let mut stdin = to.child().stdin.take().unwrap();
    let input = wanted.clone();
    let writing = thread::spawn(move || stdin.write_all(&input).unwrap());
    // Until the lane is full.
    common::await_that(|| {
        let done = place.shm(&["inspect", "node.end", "--json"]);
        let found = done.json();
        let lanes = found["parts"].as_array().unwrap().last().unwrap()["facts"].clone();
        lanes["senders"][0]["bytes"].as_u64().is_some_and(|bytes| bytes > 700_000)
    });
    from.signal(Signal::CONT);
    let mut out = Vec::new();
    from.child().stdout.take().unwrap().read_to_end(&mut out).unwrap();
    writing.join().unwrap();
    assert!(out == wanted, "{} bytes", out.len());
    to.done().with(0);
    from.done().with(0);
}

/// Another's messages are not mixed into the stream.
#[test]
fn others_are_left_out() {
    let place = Place::new();
    let mut from = place.start("end", &["pipe", "--from", "end"]);
    let mut to = place.start("writer", &["pipe", "--to", "end", "--as", "writer"]);
    to.child().stdin.as_mut().unwrap().write_all(b"mine").unwrap();
    let mut out = [0; 4];
    from.child().stdout.as_mut().unwrap().read_exact(&mut out).unwrap();
    place.shm(&["send", "end", "another's"]).with(0);
    // Until it is read: there is no order between two senders.
    common::await_that(|| {
        let done = place.shm(&["top", "-n", "1", "-i", "0.01", "--json"]).with(0);
        let nodes = done.json()["nodes"].clone();
        let nodes = nodes.as_array().unwrap();
        nodes.iter().any(|node| node["name"] == "end" && node["messages_received"] == 2)
    });
    to.done().with(0);
    let done = from.done().with(0);
    assert_eq!(done.out, "");
    assert!(done.err.contains("was left out"), "{done:?}");
}
