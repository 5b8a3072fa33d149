//! Workers that are at one call for long, or never serve.

use super::*;

fn impatient() -> Hang {
    let ms = Duration::from_millis;
    Hang {
        threshold: Some(ms(50)),
        confirm: ms(20),
        cancel: ms(0),
        abort: ms(50),
        kill: ms(50),
        boot: PATIENCE,
        stuck: ms(50),
    }
}

#[test]
fn a_hanging_worker_is_asked_and_then_killed() {
    let place = Place::new();
    let server = place.builder().hang(impatient()).start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    let mut client = TestClient::connect(&place);
    // One that hears.
    assert_eq!(client.call(0, UNTIL_CANCELLED, b"ok").unwrap(), b"ok");
    assert_eq!(server.workers()[0].restarts, 0);
    // One that does not.
    let found = client.call(0, SLEEP, &60_000u16.to_le_bytes());
    assert!(found == crashed(Cause::Hung(6)) || found == crashed(Cause::Hung(9)), "{found:?}");
    assert_eq!(client.call(0, ECHO, b"next").unwrap(), b"next");
    client.leave();
    let [letter] = &server.letters().unwrap()[..] else { panic!("one letter") };
    assert!(matches!(letter.cause, Some(Cause::Hung(6 | 9))), "{:?}", letter.cause);
    let key = letter.key;
    server.drop_letter(key).unwrap();
    server.stop(PATIENCE).unwrap();
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn a_stopped_worker_is_suspect_and_lives() {
    let place = Place::new();
    let server = place.builder().hang(impatient()).start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    let mut client = TestClient::connect(&place);
    let pid = server.workers()[0].pid.unwrap();
    let call = client.send(0, STOP_UNTIL_CANCELLED, b"");
    until("it is suspect", || server.workers()[0].condition == Condition::Suspect);
    // Much longer than it would take to be killed.
    thread::sleep(Duration::from_millis(400));
    assert_eq!(server.workers()[0].condition, Condition::Suspect);
    // Then the time goes on: it is asked to end, and hears it.
    kill(pid, Signal::CONT);
    assert!(client.receive(0, call).is_ok());
    until("it serves", || server.workers()[0].condition == Condition::Up);
    assert_eq!(server.workers()[0].pid, Some(pid));
    client.leave();
    server.stop(PATIENCE).unwrap();
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn functions_have_thresholds_of_their_own() {
    let place = Place::new();
    let long = Function::new().threshold(PATIENCE);
    let server = place
        .builder()
        .hang(Hang { cancel: PATIENCE, ..impatient() })
        .function(SLEEP, long)
        .start()
        .unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    let entry = place.control().layout.function(SLEEP).unwrap();
    assert_eq!(entry.threshold_ms, 600_000);
    let mut client = TestClient::connect(&place);
    let call = client.send(0, SLEEP, &400u16.to_le_bytes());
    let other = client.send(1, UNTIL_CANCELLED, b"");
    until("the other is suspect", || server.workers()[1].condition == Condition::Suspect);
    assert_eq!(server.workers()[0].condition, Condition::Up);
    client.receive(0, call).unwrap();
    let key = client.slot.key().index();
    client.bells.layout.cancel(1, key).unwrap().ask(other);
    client.receive(1, other).unwrap();
    client.leave();
    server.stop(PATIENCE).unwrap();
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn one_that_never_serves_is_killed() {
    let place = Place::new();
    let hang = Hang { boot: Duration::from_millis(50), ..Hang::default() };
    let server =
        place.builder().restart(quick()).hang(hang).worker(program("never")).start().unwrap();
    until("both fail", || server.state() == ServiceState::Failed);
    assert_eq!(server.workers()[0].cause, Some(Cause::Late));
    server.stop(PATIENCE).unwrap();
    assert_eq!(place.files(), [""; 0]);
}
