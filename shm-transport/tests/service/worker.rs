//! Workers with a real server and real clients.

use crate::help::{self, *};
use rustix::process::Pid;
use shm_transport::service::{CallError, Cause, Hang, Priority, ServerError, Worker, WorkerError};
use std::time::Duration;

fn pid_of(answer: &[u8]) -> u32 {
    u32::from_le_bytes(answer.try_into().unwrap())
}

/// Not started by a server: said so, and how to be.
#[test]
fn a_process_that_nobody_has_started_is_no_worker() {
    assert!(!Worker::is_started());
    let error = Worker::attach_from_env().unwrap_err();
    assert!(matches!(error, WorkerError::NotStarted), "{error}");
    assert_eq!(error.exit_code(), 78);
}

#[test]
fn calls_come_back_from_another_process() {
    let place = Place::new();
    let server = help::start(help::server(&place, "math").workers(2).vip_workers(1));
    let client = help::client(&place, "math");
    for priority in [Priority::Low, Priority::High] {
        for number in 0..200u32 {
            let answer = client.call(ECHO, &number.to_le_bytes(), priority, PATIENCE).unwrap();
            assert_eq!(answer, number.to_le_bytes());
        }
        let pid = pid_of(&client.call(PID, b"", priority, PATIENCE).unwrap());
        assert!(server.workers().iter().any(|worker| worker.pid == Some(pid)));
    }
    let call = |func, payload: &[u8]| client.call(func, payload, Priority::Low, PATIENCE);
    match call(FAIL, b"so").unwrap_err() {
        CallError::Failed { message } => assert_eq!(message, b"so"),
        other => panic!("{other}"),
    }
    assert!(call(PANIC, b"1234").unwrap_err().to_string().contains("with 4 bytes"));
    assert!(matches!(call(NOBODY, b"").unwrap_err(), CallError::UnknownFunction { .. }));
    assert!(call(BYTES, &65u32.to_le_bytes()).is_err(), "too large a reply");
    assert_eq!(call(BYTES, &64u32.to_le_bytes()).unwrap(), [7; 64]);
    drop(client);
    server.stop(PATIENCE).unwrap();
    drop(server);
    soon("nothing is left", || place.files().is_empty());
}

/// The call in hand is told of, and the next worker serves on.
#[test]
fn a_worker_that_dies_is_told_of() {
    let place = Place::new();
    let server = help::start(help::server(&place, "math").workers(1).vip_workers(0));
    let client = help::client(&place, "math");
    let call = |func, payload: &[u8]| client.call(func, payload, Priority::Low, PATIENCE);
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGABRT] {
        let before = pid_of(&call(PID, b"").unwrap());
        match call(SIGNAL, &signal.to_le_bytes()).unwrap_err() {
            CallError::WorkerCrashed { cause, .. } => assert_eq!(cause, Cause::Signalled(signal)),
            other => panic!("{other}"),
        }
        assert_ne!(pid_of(&call(PID, b"").unwrap()), before);
    }
    server.stop(PATIENCE).unwrap();
}

/// What a terminal sends to the server's process group, as upon Ctrl-C, does not reach them.
#[test]
fn each_worker_has_a_process_group_of_its_own() {
    let place = Place::new();
    for dies in [false, true] {
        let builder = help::server(&place, "math").workers(1).vip_workers(1);
        let server = help::start(builder.die_with_server(dies));
        for pid in server.workers().iter().filter_map(|it| it.pid) {
            let pid = Pid::from_raw(pid as i32);
            assert_eq!(rustix::process::getpgid(pid).unwrap(), pid.unwrap());
        }
        server.stop(PATIENCE).unwrap();
    }
}

#[test]
fn a_call_that_is_dropped_is_cancelled() {
    let place = Place::new();
    let server = help::start(help::server(&place, "math").workers(1).vip_workers(0));
    let client = help::client(&place, "math");
    let long = client.call_async(SLEEP, &60_000u32.to_le_bytes(), Priority::Low).unwrap();
    // It was begun.
    assert!(long.wait_progress(PATIENCE).is_some());
    drop(long);
    // There is but one worker: it is free again.
    assert_eq!(client.call(ECHO, b"x", Priority::Low, Duration::from_secs(50)).unwrap(), b"x");
    server.stop(PATIENCE).unwrap();
}

/// Who reports progress does not hang, whether or not its caller reads that.
#[test]
fn progress_that_nobody_reads_is_progress() {
    let place = Place::new();
    let ms = Duration::from_millis;
    let hang = Hang {
        threshold: Some(ms(500)),
        confirm: ms(1000),
        cancel: ms(0),
        abort: ms(500),
        kill: ms(500),
        ..Hang::default()
    };
    let server = help::start(help::server(&place, "math").workers(1).vip_workers(0).hang(hang));
    let client = help::client(&place, "math");
    let call = client.call_async(REPORT, &4000u32.to_le_bytes(), Priority::Low).unwrap();
    // It does something else meanwhile.
    std::thread::sleep(ms(3500));
    assert_eq!(call.wait(PATIENCE).unwrap(), b"done");
    drop(client);
    server.stop(PATIENCE).unwrap();
}

/// Whether requests and replies are copied or are where the client has them makes no difference to
/// one that keeps to the protocol.
#[test]
fn workers_that_trust_their_clients_answer_the_same() {
    let place = Place::new();
    let copies = ("copies", help::program());
    for (name, program) in [copies, ("trusts", help::program().env(TRUSTED, ""))] {
        let builder = help::server(&place, name).worker(program);
        let server = help::start(builder.workers(1).vip_workers(0).reply_size(4000));
        let client = help::client(&place, name);
        let call = |func, payload: &[u8]| client.call(func, payload, Priority::Low, PATIENCE);
        for length in [0, 1, 7, 64, 255, 256, 257, 1000, 3999, 5] {
            let payload: Vec<u8> = (0..length).map(|at| (at * 7) as u8).collect();
            assert_eq!(call(ECHO, &payload).unwrap(), payload);
            if length > 6 {
                assert_eq!(call(STEADY, &payload).unwrap(), b"steady");
            }
        }
        let error = call(ECHO, &[1; 4001]).unwrap_err();
        assert!(matches!(error, CallError::ReplyTooLarge { found: 4001, most: 4000 }), "{error}");
        drop(client);
        server.stop(PATIENCE).unwrap();
    }
}

/// Each runs where it is said, its successor too, and those of whom nothing is said wherever they may.
#[test]
fn workers_keep_to_their_cores() {
    let place = Place::new();
    let here = rustix::thread::sched_getaffinity(None).unwrap();
    let core = (0..1024).find(|core| here.is_set(*core)).unwrap();
    let server = || help::server(&place, "math").workers(2).vip_workers(1);
    for none in [1023, 1 << 20] {
        match server().pin_vip_workers([none]).start().unwrap_err() {
            ServerError::Core { core, .. } => assert_eq!(core, none),
            other => panic!("{other}"),
        }
    }
    assert_eq!(place.files(), [""; 0]);
    let server = help::start(server().pin_workers([core]).pin_vip_workers([core]));
    let cores = |at: usize| {
        let pid = Pid::from_raw(server.workers()[at].pid.unwrap() as i32);
        let cores = rustix::thread::sched_getaffinity(pid).unwrap();
        (0..1024).filter(|core| cores.is_set(*core)).collect::<Vec<_>>()
    };
    let all: Vec<_> = (0..1024).filter(|core| here.is_set(*core)).collect();
    assert_eq!([cores(0), cores(1), cores(2)], [vec![core], all.clone(), vec![core]]);
    server.rolling_restart().unwrap();
    assert_eq!([cores(0), cores(1), cores(2)], [vec![core], all, vec![core]]);
    server.stop(PATIENCE).unwrap();
}
