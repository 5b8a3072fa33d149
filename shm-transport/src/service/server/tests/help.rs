//! Workers that serve at places which have none.

use super::*;

#[test]
fn another_takes_over_until_there_is_one_again() {
    let place = Place::new();
    let restart = Restart {
        backoff: Duration::from_secs(600)..Duration::from_secs(600),
        ..Restart::default()
    };
    let server = place.builder().strategy(Strategy::TakeOver).restart(restart).start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    let mut client = TestClient::connect(&place);
    // The first death is followed by a restart at once, the second by a long wait.
    assert_eq!(client.call(0, DIE, b""), crashed(KILLED));
    until("it is there again", || server.workers()[0].restarts == 1);
    server.wait_until_up(PATIENCE).unwrap();
    let own = server.workers()[0].pid.unwrap();
    until("it gets its lanes back", || client.call(0, PID, b"").unwrap() == own.to_le_bytes());
    let poison = client.send(0, DIE, b"");
    let queued = client.send(0, PID, b"");
    assert_eq!(client.receive(0, poison), crashed(KILLED));
    let helper = server.workers()[1].pid.unwrap();
    assert_eq!(client.receive(0, queued).unwrap(), helper.to_le_bytes());
    until("it waits for long", || server.workers()[0].condition == Condition::BackOff);
    // Dies with what it has taken over: told, and there is nobody else.
    assert_eq!(client.call(0, DIE, b""), crashed(KILLED));
    let queued = client.send(0, ECHO, b"kept");
    server.wait_until_up(Duration::ZERO).unwrap_err();
    // Its own place is restarted, and helps again.
    assert_eq!(client.receive(0, queued).unwrap(), b"kept");
    // Back: the place's own worker serves.
    server.rolling_restart().unwrap();
    let own = server.workers()[0].pid.unwrap();
    until("it gets its lanes back", || client.call(0, PID, b"").unwrap() == own.to_le_bytes());
    assert_eq!(server.workers()[0].helper, None);
    assert_eq!(server.letters().unwrap().len(), 3);
    for letter in server.letters().unwrap() {
        server.drop_letter(letter.key).unwrap();
    }
    client.leave();
    server.stop(PATIENCE).unwrap();
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn normal_workers_serve_vip_lanes_while_there_is_no_other() {
    let place = Place::new();
    let group = GroupShape::new(1, 16);
    let builder = place.builder().groups(group, group).restart(quick());
    let server = builder.worker(program("exit:3@1")).start().unwrap();
    until("place 1 is helped out", || server.workers()[1].helper == Some(0));
    let mut client = TestClient::connect(&place);
    assert_eq!(client.call(1, ECHO, b"vip").unwrap(), b"vip");
    client.leave();
    server.stop(PATIENCE).unwrap();
    assert_eq!(place.files(), [""; 0]);
}
