//! What a server may be told about its workers, with workers that are processes.

use crate::help::*;
use shm_transport::config::Wait;
use shm_transport::service::{Client, Priority, ServiceState};
use std::thread;

fn edition(client: &Client, priority: Priority) -> Vec<u8> {
    client.call(EDITION, b"", priority, PATIENCE).unwrap()
}

/// However workers and clients wait, together or not, calls are answered: one by one, and many in
/// flight, from a sleep too.
#[test]
fn each_way_of_waiting() {
    let place = Place::new();
    for workers in [Wait::Adaptive, Wait::Block, Wait::Poll] {
        let program = program().env("WORKER_WAIT", workers.to_string());
        let server = start(server(&place, "math").worker(program).workers(1).vip_workers(0));
        for clients in [Wait::Adaptive, Wait::Block, Wait::Poll] {
            let builder = Client::builder("math").in_domain(place.domain.clone()).wait(clients);
            let client = builder.connect_timeout(PATIENCE).connect().unwrap();
            let name = client.call(WAITS, b"", Priority::Low, PATIENCE).unwrap();
            assert_eq!(name, workers.to_string().into_bytes());
            for number in 0..50u32 {
                let bytes = number.to_le_bytes();
                assert_eq!(client.call(ECHO, &bytes, Priority::Low, PATIENCE).unwrap(), bytes);
            }
            let mut batch = client.batch(Priority::Low).unwrap();
            (0..50u32).for_each(|number| batch.add(ECHO, &number.to_le_bytes()).unwrap());
            for (number, reply) in (0..50u32).zip(batch.wait(PATIENCE)) {
                assert_eq!(reply.unwrap(), number.to_le_bytes());
            }
        }
        server.stop(PATIENCE).unwrap();
    }
    assert_eq!(place.files(), [""; 0]);
}

/// Another program takes the place of the first under load: no call is lost, none fails.
#[test]
fn an_upgrade_loses_no_call() {
    let place = Place::new();
    let server = start(server(&place, "math").workers(2).vip_workers(1));
    let client = client(&place, "math");
    assert_eq!(edition(&client, Priority::Low), b"1");
    thread::scope(|scope| {
        let upgrade = scope.spawn(|| server.upgrade(program().env("WORKER_EDITION", "2")));
        let mut rounds = 0;
        while rounds == 0 || !upgrade.is_finished() {
            let priority = [Priority::Low, Priority::High][rounds % 2];
            let call = |number: u32| client.call_async(ECHO, &number.to_le_bytes(), priority);
            // What is queued stays where it is, for the successor.
            let calls: Vec<_> = (0..40).map(|number| (number, call(number).unwrap())).collect();
            for (number, call) in calls {
                assert_eq!(call.wait(PATIENCE).unwrap(), number.to_le_bytes(), "round {rounds}");
            }
            rounds += 1;
        }
        upgrade.join().unwrap().unwrap();
    });
    for priority in [Priority::Low, Priority::High] {
        assert_eq!(edition(&client, priority), b"2");
    }
    assert!(server.workers().iter().all(|it| it.restarts == 0 && it.incarnation == 2));
    assert_eq!(server.letters().unwrap().len(), 0);
    drop(client);
    server.stop(PATIENCE).unwrap();
    assert_eq!(place.files(), [""; 0]);
}

/// Who dies with the server does not die with the thread that has started it.
#[test]
fn the_thread_that_starts_a_server_may_end() {
    let place = Place::new();
    let builder = || server(&place, "math").workers(2).vip_workers(0).die_with_server(true);
    let (server, pids) = thread::scope(|scope| {
        let started = scope.spawn(|| {
            let server = start(builder());
            let pids: Vec<_> = server.workers().iter().map(|it| it.pid).collect();
            (server, pids)
        });
        started.join().unwrap()
    });
    let client = client(&place, "math");
    for _ in 0..100 {
        assert_eq!(client.call(ECHO, b"on", Priority::Low, PATIENCE).unwrap(), b"on");
    }
    assert_eq!(server.state(), ServiceState::Running);
    assert_eq!(server.workers().iter().map(|it| it.pid).collect::<Vec<_>>(), pids);
    drop(client);
    server.stop(PATIENCE).unwrap();
    assert_eq!(place.files(), [""; 0]);
}

/// What each worker did, and what waits for it, is told of each.
#[test]
fn workers_are_counted_each() {
    let place = Place::new();
    let server = start(server(&place, "math").workers(1).vip_workers(1));
    let client = client(&place, "math");
    for _ in 0..7 {
        client.call(ECHO, b"", Priority::Low, PATIENCE).unwrap();
    }
    for _ in 0..3 {
        client.call(FAIL, b"no", Priority::Low, PATIENCE).unwrap_err();
    }
    // What a place did stays counted when its worker dies; the call that it dies of was not done.
    client.call(ECHO, b"", Priority::High, PATIENCE).unwrap();
    client.call(SIGNAL, &9u32.to_le_bytes(), Priority::High, PATIENCE).unwrap_err();
    let counted = |at: usize| {
        let worker = &server.workers()[at];
        (worker.processed, worker.failed, worker.restarts)
    };
    soon("it is counted", || [counted(0), counted(1)] == [(10, 3, 0), (1, 0, 1)]);
    // One is at work on the first, and the others wait.
    let time = 30u32.to_le_bytes();
    let long: Vec<_> =
        (0..40).map(|_| client.call_async(DEAF, &time, Priority::Low).unwrap()).collect();
    // An estimate: small calls take less room than it takes them to, and the last few are not seen.
    soon("what waits is said", || server.workers()[0].queued >= 4);
    assert_eq!(server.workers()[1].queued, 0);
    long.into_iter().for_each(|call| drop(call.wait(PATIENCE).unwrap()));
    soon("its time is counted", || server.workers()[0].busy.as_millis() >= 1000);
    soon("nothing waits", || server.workers()[0].queued == 0);
    let letters = server.letters().unwrap();
    assert_eq!(letters.len(), 1);
    assert!(server.drop_letter(letters[0].key).unwrap());
    drop(client);
    server.stop(PATIENCE).unwrap();
}
