//! `shm send`, `shm recv`, `shm echo`.

mod common;

use common::{Place, run};
use rustix::process::Signal;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

fn empty(place: &Place) {
    let left: Vec<_> = place.domain.segments().unwrap().map(Result::unwrap).collect();
    assert_eq!(left, [], "the last one leaves nothing");
}

#[test]
fn text_labels_and_lines() {
    let place = Place::new();
    let recv = place.start("rx", &["recv", "rx", "-n", "5"]);
    let send = |more: &[&str]| place.shm(&[&["send", "rx", "--as", "tx"], more].concat()).with(0);
    send(&["hello"]);
    send(&["labelled", "--to-group", "7", "--topic", "9"]);
    send(&["\u{1b}[31m", "-n", "2"]);
    let binary = [0xff; 40];
    let mut command = place.program(&["send", "rx", "--as", "tx"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&binary).unwrap();
    assert!(child.wait().unwrap().success());
    let done = recv.done().with(0);
    let hex = " ff".repeat(32);
    let wanted = [
        "tx: hello",
        "tx 7/9: labelled",
        r"tx: \u{1b}[31m",
        r"tx: \u{1b}[31m",
        &format!("tx: 40 bytes{hex} ..."),
    ];
    assert_eq!(done.out.lines().collect::<Vec<_>>(), wanted);
    empty(&place);
}

#[test]
fn lines_as_json() {
    let place = Place::new();
    let recv = place.start("rx", &["recv", "rx", "--json", "-n", "3"]);
    let mut command = place.program(&["send", "rx", "--lines", "--topic", "4", "--as", "tx"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"one\n\n\xff\x00 no line end").unwrap();
    assert!(child.wait().unwrap().success());
    let done = recv.done().with(0);
    let lines: Vec<serde_json::Value> =
        done.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["text"], &lines[0]["from"]), (&"one".into(), &"tx".into()));
    assert_eq!((&lines[1]["bytes"], &lines[1]["text"]), (&0.into(), &"".into()));
    assert_eq!(lines[2]["hex"], "ff00206e6f206c696e6520656e64");
    assert!(lines.iter().all(|line| line["topic"] == 4 && line["group"] == 0));
}

#[test]
fn raw_bytes_large_and_filtered() {
    let place = Place::new();
    let filter = ["recv", "rx", "--raw", "-n", "2", "--topic", "1", "--topic", "2"];
    let mut recv = place.start("rx", &filter);
    place.shm(&["send", "rx", "left out", "--topic", "3"]).with(0);
    place.shm(&["send", "rx", "a", "--topic", "2"]).with(0);
    // More than goes through a lane.
    let large = vec![b'x'; 300_000];
    let mut command = place.program(&["send", "rx", "--topic", "1"]);
    let mut send = command.stdin(Stdio::piped()).spawn().unwrap();
    send.stdin.take().unwrap().write_all(&large).unwrap();
    let mut out = Vec::new();
    recv.child().stdout.take().unwrap().read_to_end(&mut out).unwrap();
    assert!(send.wait().unwrap().success());
    recv.done().with(0);
    assert!(out[0] == b'a' && out[1..] == large, "{} bytes", out.len());
    empty(&place);
}

#[test]
fn nobody_is_there() {
    let place = Place::new();
    let done = place.shm(&["send", "rx", "hello"]).with(4);
    assert!(done.err.contains("there is no node rx"), "{done:?}");
    let done = place.shm(&["send", "", "hello"]).with(4);
    assert!(done.err.contains("nobody in domain"), "{done:?}");
    let done = place.shm(&["send", "rx", "hello", "--wait", "0.05"]).with(4);
    assert!(done.err.contains("there is no node rx"), "{done:?}");
    let done = place.shm(&["recv", "rx", "--timeout", "0.05"]).with(4);
    assert!(done.err.contains("no message came to rx"), "{done:?}");
    place.shm(&["echo", "rx", "--timeout", "0.05"]).with(4);
    empty(&place);
}

#[test]
fn bad_names_and_sizes() {
    let place = Place::new();
    let long = "x".repeat(65);
    assert!(place.shm(&["send", &long, "x"]).with(1).err.contains("at most 64"));
    assert!(place.shm(&["recv", ""]).with(1).err.contains("give it 1 to 64 bytes"));
    place.shm(&["recv", "rx", "--timeout", "-1"]).with(2);
    place.shm(&["send", "rx", "x", "--lines"]).with(2);
    let _recv = place.start("rx", &["recv", "rx"]);
    let done = place.shm(&["recv", "rx"]).with(1);
    assert!(done.err.contains("the name rx is taken by process"), "{done:?}");
    let mut command = place.program(&["send", "rx"]);
    let send =
        command.env("SHM_MAX_MESSAGE_BYTES", "20000").stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut send = send.spawn().unwrap();
    send.stdin.take().unwrap().write_all(&[0; 20_001]).unwrap();
    let output = send.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("20001 bytes, and 20000 are the most"), "{err}");
}

#[test]
fn a_node_that_comes_late_is_waited_for() {
    let place = Place::new();
    let send = place.program(&["send", "rx", "hello", "--wait", "60"]).spawn().unwrap();
    let done = place.shm(&["recv", "rx", "-n", "1", "--timeout", "60"]).with(0);
    assert!(done.out.ends_with(": hello\n"), "{done:?}");
    assert!(send.wait_with_output().unwrap().status.success());
}

#[test]
fn to_all() {
    let place = Place::new();
    let one = place.start("one", &["recv", "one", "-n", "1"]);
    let two = place.start("two", &["recv", "two", "-n", "1"]);
    place.shm(&["send", "", "everybody", "--as", "tx"]).with(0);
    for done in [one.done(), two.done()] {
        assert_eq!(done.with(0).out, "tx: everybody\n");
    }
}

#[test]
fn what_is_sent_comes_back() {
    let place = Place::new();
    let echo = place.start("echo", &["echo", "echo", "-n", "1"]);
    let node =
        shm_transport::node::Node::builder("test").in_domain(place.domain.clone()).join().unwrap();
    let label = shm_transport::node::Label::new(1, 2);
    node.send_labelled("echo", label, b"ping").unwrap();
    let back = node.recv_timeout(std::time::Duration::from_secs(60)).unwrap().unwrap();
    assert_eq!(
        (&*back, back.label(), back.sender().as_bytes()),
        (&b"ping"[..], label, &b"echo"[..])
    );
    echo.done().with(0);
    node.leave().unwrap();
    empty(&place);
}

/// Interrupted, it leaves: nothing has to be cleaned.
#[test]
fn an_interrupt_leaves() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let place = Place::new();
        let mut recv = place.start("rx", &["recv", "rx"]);
        recv.signal(signal);
        recv.done().with(code);
        empty(&place);
    }
}

/// Killed, it leaves what `clean` puts away.
#[test]
fn a_killed_one_is_cleaned_up() {
    let place = Place::new();
    let mut recv = place.start("rx", &["recv", "rx"]);
    place.shm(&["send", "rx", "one"]).with(0);
    recv.signal(Signal::STOP);
    place.shm(&["send", "rx", "two"]).with(0);
    let found = place.shm(&["list", "--json"]).with(0).json();
    assert_eq!(found["domains"][0]["nodes"][0]["state"], "alive", "stopped is not dead");
    assert!(place.shm(&["clean", "--yes"]).with(0).out.contains("1 node lives"));
    recv.signal(Signal::KILL);
    assert_eq!(recv.done().code, -1);
    let found = place.shm(&["list", "--json"]).with(0).json();
    assert_eq!(found["domains"][0]["nodes"][0]["state"], "dead");
    place.shm(&["inspect", "node.rx"]).with(0);
    let done = place.shm(&["clean", "--yes"]).with(0);
    assert!(done.out.contains("the place of rx in the registry"), "{done:?}");
    empty(&place);
}

#[test]
fn a_closed_pipe_ends_recv() {
    let place = Place::new();
    let mut recv = place.start("rx", &["recv", "rx"]);
    let mut out = BufReader::new(recv.child().stdout.take().unwrap());
    place.shm(&["send", "rx", "one"]).with(0);
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert!(line.ends_with(": one\n"));
    drop(out);
    place.shm(&["send", "rx", "two"]).with(0);
    let done = recv.done().with(0);
    assert_eq!(done.err, "");
    empty(&place);
}

#[test]
fn what_the_library_does_is_said_on_request() {
    let place = Place::new();
    let done = place.shm(&["send", "rx", "x"]).with(4);
    assert!(!done.err.contains("joined"), "{done:?}");
    let done = place.shm(&["send", "rx", "x", "-v"]).with(4);
    assert!(done.err.contains("INFO") && done.err.contains("joined"), "{done:?}");
    let done = run(place.program(&["send", "rx", "x"]).env("SHM_LANE_BYTES", "5000"));
    assert_eq!(done.code, 1);
    assert!(done.err.contains("lane_bytes") && done.err.contains("SHM_LANE_BYTES"), "{done:?}");
}
