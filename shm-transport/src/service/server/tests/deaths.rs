//! Workers and clients that die.

use super::*;
use crate::member::Member;
use shm_primitives::layout::service::SupervisorCount;

#[test]
fn a_death_is_an_error_of_one_call_and_the_queue_is_kept() {
    let place = Place::new();
    let server = place.builder().start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    let mut client = TestClient::connect(&place);
    let before = client.call(0, ECHO, b"before");
    assert_eq!(before.unwrap(), b"before");
    let poison = client.send(0, DIE, b"poison");
    let queued: Vec<u64> = (0..5u8).map(|n| client.send(0, ECHO, &[n])).collect();
    assert_eq!(client.receive(0, poison), crashed(KILLED));
    for (id, n) in queued.into_iter().zip(0..) {
        assert_eq!(client.receive(0, id).unwrap(), [n]);
    }
    server.wait_until_up(PATIENCE).unwrap();
    let worker = &server.workers()[0];
    assert_eq!((worker.restarts, worker.cause), (1, Some(KILLED)));
    assert_eq!(worker.incarnation, 2);
    let counts = place.control().layout.supervisor_counters().values();
    assert_eq!(counts[SupervisorCount::Crashes as usize], 1);
    assert_eq!(counts[SupervisorCount::Poisoned as usize], 1);

    // The letter says what it was, and keeps the segment until it is dropped.
    let letters = server.letters().unwrap();
    let [letter] = &*letters else { panic!("{letters:?}") };
    assert_eq!((letter.function, &*letter.payload), (DIE, &b"poison"[..]));
    assert_eq!((letter.cause, letter.worker, letter.seq_id), (Some(KILLED), 0, poison));
    assert_eq!(letter.client_pid, std::process::id());
    client.leave();
    server.stop(PATIENCE).unwrap();
    assert_eq!(place.files(), ["letters.math"]);
    let server = place.builder().start().unwrap();
    assert!(server.drop_letter(server.letters().unwrap()[0].key).unwrap());
    until("a letter goes", || server.letters().unwrap().is_empty());
    server.stop(PATIENCE).unwrap();
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn how_a_worker_ended_is_told() {
    let place = Place::new();
    let server = place.builder().start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    let mut client = TestClient::connect(&place);
    assert_eq!(client.call(1, EXIT, &[3]), crashed(Cause::Exited(3)));
    // One that had nothing in hand.
    kill(server.workers()[0].pid.unwrap(), Signal::TERM);
    until("a restart", || server.workers()[0].restarts == 1);
    assert_eq!(server.workers()[0].cause, Some(Cause::Signalled(15)));
    assert_eq!(client.call(0, ECHO, b"again").unwrap(), b"again");
    assert_eq!(server.letters().unwrap().len(), 1);
    let key = server.letters().unwrap()[0].key;
    server.drop_letter(key).unwrap();
    client.leave();
    drop(server);
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn a_worker_that_cannot_live_is_given_up() {
    let place = Place::new();
    let server = place.builder().restart(quick()).worker(program("exit:3@1")).start().unwrap();
    until("place 1 fails", || server.workers()[1].condition == Condition::Failed);
    let error = server.wait_until_up(PATIENCE).unwrap_err();
    let ServerError::NotUp { place: 1, reason } = &error else { panic!("{error}") };
    assert!(reason.contains("exited with code 3"), "{reason}");
    let worker = &server.workers()[1];
    assert_eq!((worker.cause, worker.restarts, worker.incarnation), (Some(Cause::Exited(3)), 3, 4));
    until("place 0 serves", || server.state() == ServiceState::Degraded);
    // A place given up is helped out.
    until("place 1 is helped out", || server.workers()[1].helper == Some(0));
    let mut client = TestClient::connect(&place);
    assert_eq!(client.call(1, ECHO, b"help").unwrap(), b"help");
    client.leave();
    server.stop(PATIENCE).unwrap();
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn one_that_says_so_is_not_started_again() {
    let place = Place::new();
    let server = place.builder().worker(program("exit:78")).start().unwrap();
    until("both fail", || server.state() == ServiceState::Failed);
    for worker in server.workers() {
        assert_eq!((worker.incarnation, worker.restarts), (1, 0));
        assert!(worker.reason.unwrap().contains("78"));
    }
    // Something better may be tried.
    server.upgrade(program("normal")).unwrap();
    assert_eq!(server.state(), ServiceState::Running);
    server.stop(PATIENCE).unwrap();
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn one_that_dies_before_it_claims_its_place_leaves_no_record() {
    let place = Place::new();
    let server = place.builder().restart(quick()).worker(program("joins")).start().unwrap();
    until("both fail", || server.state() == ServiceState::Failed);
    let member = Member::join(&place.domain, "test").unwrap();
    until("records go", || member.processes().processes().count() == 2);
    // SAFETY: it holds nothing.
    unsafe { member.leave() }.unwrap();
    server.stop(PATIENCE).unwrap();
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn a_dead_client_is_put_away() {
    let place = Place::new();
    let server = place.builder().start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    let mut client = TestClient::connect(&place);
    assert_eq!(client.call(0, ECHO, b"a").unwrap(), b"a");
    let (key, segment) =
        (client.slot.key(), format!("client.math.{}-1", client.slot.key().index()));
    assert!(place.files().contains(&segment));
    client.die();
    until("its segment goes", || !place.files().contains(&segment));
    let mut next = TestClient::connect(&place);
    assert_eq!((next.slot.key().index(), next.slot.key().generation()), (key.index(), 2));
    assert_eq!(next.call(0, ECHO, b"b").unwrap(), b"b");
    next.leave();
    server.stop(PATIENCE).unwrap();
    assert_eq!(place.files(), [""; 0]);
}
