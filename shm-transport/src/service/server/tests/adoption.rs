//! Supervisors that die, and those that go on with what they left.

use super::*;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use shm_primitives::layout::service::SupervisorCount;
use std::process::{Child, Command as Process, Stdio};

/// A server in a process of its own.
struct Other(Child);

impl Other {
    fn start(place: &Place, how: &str) -> Self {
        let child = Process::new(std::env::current_exe().unwrap())
            .args(["--exact", "service::server::tests::adoption::server_process", "--nocapture"])
            .env(SERVER, place.domain.name())
            .env(MODE, how)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        until("the other serves", || {
            place.files().contains(&"service.math".into()) && {
                let control = place.control();
                let orders = |it| control.layout.orders(it).unwrap().read().unwrap_or_default();
                (0..2).all(|it| orders(it).condition == Condition::Up)
            }
        });
        Self(child)
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn server_process() {
    let Some(domain) = std::env::var_os(SERVER) else { return };
    let place = Place { domain: Domain::new(domain.to_str().unwrap()).unwrap() };
    let dies = std::env::var_os(MODE).is_some_and(|mode| mode == "dies");
    let _server = place.builder().die_with_server(dies).start().unwrap();
    thread::sleep(PATIENCE);
    std::process::exit(1);
}

fn pids(place: &Place) -> Vec<u32> {
    let control = place.control();
    let workers = control.layout.workers();
    (0..2).map(|it| workers.read(it).unwrap().map_or(0, |found| found.entry.pid)).collect()
}

#[test]
fn a_supervisor_s_death_stops_nobody_and_the_next_adopts() {
    let place = Place::new();
    let other = Other::start(&place, "lives");
    let before = pids(&place);
    let mut client = TestClient::connect(&place);
    other.kill();
    for worker in [0, 1] {
        assert_eq!(client.call(worker, ECHO, b"on").unwrap(), b"on");
    }
    // Dies meanwhile.
    let poison = client.send(1, DIE, b"");
    let queued = client.send(1, ECHO, b"kept");
    until("it is dead", || !is_running(before[1]));
    let mut shape = place.builder().messages(32).start();
    assert!(matches!(shape, Err(ServerError::Shape { .. })), "{shape:?}");
    let server = place.builder().start().unwrap();
    shape = place.builder().start();
    assert!(matches!(shape, Err(ServerError::InUse { .. })), "{shape:?}");
    assert_eq!(client.receive(1, poison), crashed(Cause::Unknown));
    assert_eq!(client.receive(1, queued).unwrap(), b"kept");
    server.wait_until_up(PATIENCE).unwrap();
    let workers = server.workers();
    assert_eq!((workers[0].pid, workers[0].incarnation), (Some(before[0]), 1));
    assert_eq!((workers[1].incarnation, workers[1].cause), (2, Some(Cause::Unknown)));
    // One that is not its child is watched as well.
    kill(before[0], Signal::KILL);
    until("it is replaced", || server.workers()[0].incarnation == 2);
    assert_eq!(server.workers()[0].cause, Some(Cause::Unknown));
    assert_eq!(client.call(0, ECHO, b"new").unwrap(), b"new");
    client.leave();
    for letter in server.letters().unwrap() {
        server.drop_letter(letter.key).unwrap();
    }
    server.stop(PATIENCE).unwrap();
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn adopted_workers_can_be_drained_and_killed() {
    let place = Place::new();
    Other::start(&place, "lives").kill();
    let before = pids(&place);
    let server = place.builder().start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    server.rolling_restart().unwrap();
    assert!(before.iter().all(|pid| !pids(&place).contains(pid)));
    server.leave().unwrap();
    // Left alone and adopted by the same process.
    let left = pids(&place);
    let server = place.builder().start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    assert_eq!(pids(&place), left);
    let mut client = TestClient::connect(&place);
    client.send(0, SLEEP, &60_000u16.to_le_bytes());
    let control = place.control();
    let monitor = control.layout.monitor(0).unwrap();
    until("it begins", || monitor.snapshot().is_ok_and(|it| it.is_processing()));
    client.die();
    server.stop(Duration::from_millis(20)).unwrap();
    assert!(left.iter().all(|pid| !is_running(*pid)));
    assert_eq!(place.files(), ["letters.math"]);
    let name = place.domain.segments().unwrap().next().unwrap().unwrap();
    std::fs::remove_file(place.domain.path_of(&name)).unwrap();
}

#[test]
fn workers_die_with_their_server_if_they_are_to() {
    let place = Place::new();
    let other = Other::start(&place, "dies");
    let workers = pids(&place);
    other.kill();
    until("they die", || workers.iter().all(|pid| !is_running(*pid)));
    // Nobody is left of it, so that it may be another now.
    let mut server = place.builder().messages(32).start();
    until("their memory goes", || {
        if let Err(error) = &server {
            assert!(matches!(error, ServerError::Shape { .. }), "{error}");
            server = place.builder().messages(32).start();
        }
        server.is_ok()
    });
    let server = server.unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    assert_eq!(server.workers()[0].incarnation, 1);
    server.stop(PATIENCE).unwrap();
    assert_eq!(place.files(), [""; 0]);
}

/// Whether a process is a child of this one that was not waited for, running or not.
fn is_child(pid: u32) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(Pid::from_raw(pid as i32).unwrap()), options).is_ok()
}

#[test]
fn workers_that_were_left_alone_are_no_zombies_when_they_end() {
    let place = Place::new();
    let server = place.builder().start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    let left = pids(&place);
    server.leave().unwrap();
    assert!(left.iter().all(|pid| is_running(*pid) && is_child(*pid)));
    kill(left[1], Signal::KILL);
    until("it is waited for", || !is_child(left[1]));
    assert!(is_running(left[0]) && is_child(left[0]));
    // The next server has not started this one.
    let server = place.builder().start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    assert_eq!(pids(&place)[0], left[0]);
    server.stop(PATIENCE).unwrap();
    until("it is waited for", || !is_child(left[0]));
    assert_eq!(place.files(), [""; 0]);
}

/// The caller's memory has gone with it, and with that the call.
#[test]
fn what_was_in_hand_of_a_client_that_has_gone_meanwhile_is_counted() {
    let place = Place::new();
    let other = Other::start(&place, "lives");
    let before = pids(&place);
    let mut client = TestClient::connect(&place);
    // One more, who stays: of it nothing is in hand.
    let mut second = TestClient::connect(&place);
    assert_eq!(second.call(0, ECHO, b"before").unwrap(), b"before");
    client.send(0, SLEEP, &60_000u16.to_le_bytes());
    let control = place.control();
    let monitor = control.layout.monitor(0).unwrap();
    until("it begins", || monitor.snapshot().is_ok_and(|it| it.is_processing()));
    other.kill();
    kill(before[0], Signal::KILL);
    until("it is dead", || !is_running(before[0]));
    client.leave();
    let server = place.builder().start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    assert_eq!(second.call(0, ECHO, b"after").unwrap(), b"after");
    assert_eq!(server.letters().unwrap(), []);
    let counts = control.layout.supervisor_counters().values();
    assert_eq!(counts[SupervisorCount::LettersLost as usize], 1);
    assert_eq!(counts[SupervisorCount::Poisoned as usize], 0);
    second.leave();
    server.stop(PATIENCE).unwrap();
    assert_eq!(place.files(), [""; 0]);
}

/// Nobody is started in the place of one who dies before all are ordered to go.
#[test]
fn one_that_takes_over_to_stop_starts_nobody() {
    let place = Place::new();
    let other = Other::start(&place, "lives");
    let before = pids(&place);
    other.kill();
    let shape = *place.control().layout.shape();
    let server = ServerBuilder::to_stop("math", &place.domain, shape).start().unwrap();
    kill(before[0], Signal::KILL);
    until("it is noticed", || server.workers()[0].cause == Some(Cause::Unknown));
    let orders = || place.control().layout.orders(0).unwrap().read().unwrap();
    until("nobody is to be there", || orders().condition == Condition::Stopped);
    assert_eq!(orders().incarnation, 1);
    server.stop(PATIENCE).unwrap();
}
