//! The examples for a first look: they do what they say, in few lines.
#![cfg(target_os = "linux")]

mod segment_help;

use rustix::process::{Pid, Signal, kill_process_group};
use segment_help::{Parties, Place};
use shm_transport::domain::Domain;
use shm_transport::node::{Node, sweep};
use shm_transport::service::{EXIT_NEVER, WorkerError};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// One of the examples, as cargo builds them for `cargo test`, in that place.
fn example(place: &Place, name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let built = test.parent().and_then(Path::parent).unwrap().join("examples").join(name);
    assert!(built.exists(), "there is no {built:?}: `cargo build --examples` makes it");
    let mut command = Command::new(built);
    command.env("SHM_DOMAIN", place.domain.name()).env_remove("SHM_CONFIG");
    command.env("SHM_DIRECTORY", place.domain.directory());
    command
}

#[test]
fn one_says_hello_to_the_other() {
    let place = Place::new();
    let mut receiver = example(&place, "hello_receiver");
    let mut receiver = receiver.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(receiver.stdout.take().unwrap()).lines().map(Result::unwrap);
    let parties = Parties(vec![receiver]);
    wait_for_the_receiver(&place.domain);
    for _ in 0..2 {
        let done = example(&place, "hello_sender").output().unwrap();
        assert!(done.status.success(), "{done:?}");
        assert_eq!(lines.next().expect("it hears"), "sender says: hello");
    }
    // As by Ctrl-C.
    drop(parties);
    sweep::sweep(&place.domain, false).unwrap();
    assert_eq!(place.files(), [""; 0]);
}

fn wait_for_the_receiver(domain: &Domain) {
    let node = Node::builder("who is there").in_domain(domain.clone()).join().unwrap();
    let come = node.watch().any(|event| event.node().id.as_bytes() == b"receiver");
    assert!(come, "the receiver is there");
}

/// A server in a process of its own, with two worker processes; a client calls, one worker
/// aborts, the client is told so and calls on. Nothing is left when the server has stopped.
#[test]
fn a_service_survives_its_worker() {
    let place = Place::new();
    let mut server = example(&place, "service_server");
    let mut server = server.stdout(Stdio::piped()).process_group(0).spawn().unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines().map(Result::unwrap);
    let group = Pid::from_child(&server);
    let mut parties = Parties(vec![server]);
    assert_eq!(lines.next().expect("it starts"), "2 workers serve; Ctrl-C stops them");
    let done = example(&place, "service_client").output().unwrap();
    assert!(done.status.success(), "{done:?}");
    let said = String::from_utf8(done.stdout).unwrap();
    let said: Vec<&str> = said.lines().collect();
    let [before, death, after] = said[..] else { panic!("{said:?}") };
    assert_eq!([before, after], ["hello you"; 2]);
    assert!(
        death.starts_with("its worker died (killed by signal 6) of this call of function 1002"),
        "{death}"
    );
    // Ctrl-C in a terminal.
    kill_process_group(group, Signal::INT).unwrap();
    assert!(parties.0[0].wait().unwrap().success());
    // The call that its worker died of is kept.
    let files = place.files();
    assert!(matches!(&files[..], [one] if one.contains("letters")), "{files:?}");
}

/// A worker's program that a person starts says so, and that it is of no use to try again.
#[test]
fn a_worker_says_what_is_wrong() {
    let place = Place::new();
    let done = example(&place, "service_worker").env_remove("SHM_WORKER").output().unwrap();
    assert_eq!(done.status.code(), Some(EXIT_NEVER));
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!(said, format!("{}\n", WorkerError::NotStarted));
}

#[test]
fn a_program_is_its_own_worker() {
    let place = Place::new();
    let done = example(&place, "service_self").output().unwrap();
    assert!(done.status.success(), "{done:?}");
    assert_eq!(String::from_utf8(done.stdout).unwrap(), "20 + 22 = 42\n");
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn they_are_as_short_as_they_should_be() {
    for text in
        [include_str!("../examples/hello_receiver.rs"), include_str!("../examples/hello_sender.rs")]
    {
        assert!(text.lines().count() <= 15, "{text}");
    }
    for text in [
        include_str!("../examples/service_server.rs"),
        include_str!("../examples/service_worker.rs"),
        include_str!("../examples/service_client.rs"),
        include_str!("../examples/service_self.rs"),
    ] {
        let code = text.lines().filter(|line| !line.starts_with("//!"));
        assert!(code.count() <= 20, "{text}");
    }
}
