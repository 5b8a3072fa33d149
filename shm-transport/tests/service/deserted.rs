//! Callers of whom nobody is left who could serve them.

use crate::help::{ECHO, PATIENCE, PID, Place, SIGNAL, client, server as server_of, soon, start};
use rustix::process::{Pid, Signal, kill_process};
use shm_transport::service::{
    Call, CallError, Client, ClientState, ConnectError, Priority, Restart, ServerBuilder, Strategy,
};
use std::time::Duration;

/// Longer than several looks of who waits.
const SEVERAL_LOOKS: Duration = Duration::from_millis(350);

/// Ordinary workers, who are not started again when they die.
fn server(place: &Place, workers: u32) -> ServerBuilder {
    let restart = Restart { intensity: 0, ..Restart::default() };
    let server = server_of(place, "math").workers(workers).vip_workers(0).messages(64).clients(4);
    server.restart(restart).strategy(Strategy::TakeOver).letters(16, 256)
}

fn send(client: &Client, function: u32, payload: &[u8]) -> Call {
    client.call_async(function, payload, Priority::Low).unwrap()
}

#[test]
fn what_waits_for_a_place_that_fails_ends() {
    let place = Place::new();
    let server = start(server(&place, 1));
    let client = client(&place, "math");
    let crash = send(&client, SIGNAL, &9u32.to_le_bytes());
    let behind: Vec<Call> = (0..5).map(|_| send(&client, ECHO, b"behind")).collect();
    let crashed = crash.wait(PATIENCE);
    assert!(matches!(crashed, Err(CallError::WorkerCrashed { .. })), "{crashed:?}");
    for call in behind {
        let nobody = call.wait(PATIENCE);
        assert!(matches!(nobody, Err(CallError::NoWorker { .. })), "{nobody:?}");
    }
    // Whoever comes later has only what comes later to serve.
    server.rolling_restart().unwrap();
    assert_eq!(client.call(ECHO, b"later", Priority::Low, PATIENCE).unwrap(), b"later");
    soon("it is counted", || server.workers()[0].processed != 0);
    assert_eq!(server.workers()[0].processed, 1);
    drop(client);
    server.letters().unwrap().iter().for_each(|it| assert!(server.drop_letter(it.key).unwrap()));
    server.stop(PATIENCE).unwrap();
}

/// One takes over what the other has left, until it fails too.
#[test]
fn each_call_ends_though_all_places_fail() {
    let place = Place::new();
    let server = start(server(&place, 2));
    let client = client(&place, "math");
    let calls: Vec<Call> = (0..8).map(|_| send(&client, SIGNAL, &9u32.to_le_bytes())).collect();
    let results: Vec<_> = calls.into_iter().map(|call| call.wait(PATIENCE)).collect();
    let crashed = |it: &&Result<_, _>| matches!(it, Err(CallError::WorkerCrashed { .. }));
    let nobody = |it: &&Result<_, _>| matches!(it, Err(CallError::NoWorker { .. }));
    assert_eq!(results.iter().filter(crashed).count(), 2, "{results:?}");
    assert_eq!(results.iter().filter(nobody).count(), 6, "{results:?}");
    drop(client);
    server.letters().unwrap().iter().for_each(|it| assert!(server.drop_letter(it.key).unwrap()));
    server.stop(PATIENCE).unwrap();
}

/// Neither server nor worker lives; then a server comes.
#[test]
fn nobody_lives_until_a_server_comes() {
    let place = Place::new();
    let first = start(server(&place, 1));
    let client = client(&place, "math");
    let found = client.call(PID, b"", Priority::Low, PATIENCE).unwrap();
    let pid = i32::from_le_bytes(found.try_into().unwrap());
    first.leave().unwrap();
    assert_eq!(client.state(), ClientState::Connected, "the worker lives");
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    soon("its lock has fallen", || client.state() == ClientState::Unattended);
    let late = client.call(ECHO, b"late", Priority::Low, Duration::from_millis(20));
    let Err(error @ CallError::Unattended { .. }) = &late else { panic!("{late:?}") };
    assert!(error.to_string().contains("start its server"), "{error}");
    let mut waits = send(&client, ECHO, b"waits");
    assert!(waits.wait_for(SEVERAL_LOOKS).is_none());
    let other = Client::builder("math").in_domain(place.domain.clone());
    let other = other.connect_timeout(Duration::from_millis(20)).connect();
    assert!(matches!(other, Err(ConnectError::NotReady { .. })), "{other:?}");
    let second = start(server(&place, 1));
    assert_eq!(waits.wait(PATIENCE).unwrap(), b"waits");
    assert_eq!(client.state(), ClientState::Connected);
    drop(client);
    second.stop(PATIENCE).unwrap();
}
