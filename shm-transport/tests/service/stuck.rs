//! A worker that cannot even be killed, as clients see it.

use crate::help::{ECHO, PATIENCE, PID, Place, STICK, client, server as server_of, soon, start};
use rustix::process::{Pid, Signal, kill_process};
use shm_transport::service::{CallError, Condition, Hang, Priority};
use std::fs;
use std::time::Duration;

/// Calls go on at its successor's; its own ends when it is dead, and nothing that waited is lost.
#[test]
fn calls_go_to_its_successor() {
    let place = Place::new();
    let ms = Duration::from_millis;
    let hang = Hang {
        threshold: Some(ms(30)),
        confirm: ms(5),
        abort: ms(5),
        kill: ms(5),
        stuck: ms(20),
        ..Hang::default()
    };
    let server = start(server_of(&place, "math").workers(1).vip_workers(1).clients(4).hang(hang));
    let client = client(&place, "math");
    let pid = || {
        let found = client.call(PID, b"", Priority::Low, PATIENCE).unwrap();
        u32::from_le_bytes(found.try_into().unwrap())
    };
    let before = pid();
    let keeper = place.path("keeper");
    let name = keeper.to_str().unwrap();
    let call = client.call_async(STICK, name.as_bytes(), Priority::Low).unwrap();
    let queued = client.call_async(ECHO, b"queued", Priority::Low).unwrap();
    soon("it begins", || keeper.exists());
    let at = |place| server.workers().into_iter().find(|it| it.place == place);
    soon("it is stuck", || at(0).unwrap().condition == Condition::Stuck);
    server.wait_until_up(PATIENCE).unwrap();
    for _ in 0..100 {
        let found = pid();
        assert!(found != before && at(1).unwrap().pid == Some(found));
    }
    assert!(client.call(ECHO, b"vip", Priority::High, PATIENCE).is_ok());
    assert!(server.letters().unwrap().is_empty(), "it lives");
    let pid = u32::from_ne_bytes(fs::read(&keeper).unwrap().try_into().unwrap());
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
    let ended = call.wait(PATIENCE);
    assert!(matches!(ended, Err(CallError::WorkerCrashed { attempt: 1, .. })), "{ended:?}");
    assert_eq!(queued.wait(PATIENCE).unwrap(), b"queued");
    soon("it is a spare", || at(0).unwrap().condition == Condition::Spare);
    assert_eq!(server.letters().unwrap().len(), 1);
    assert_eq!(client.call(ECHO, b"on", Priority::Low, PATIENCE).unwrap(), b"on");
    drop(client);
    fs::remove_file(&keeper).unwrap();
    server.letters().unwrap().iter().for_each(|it| assert!(server.drop_letter(it.key).unwrap()));
    server.stop(PATIENCE).unwrap();
}
