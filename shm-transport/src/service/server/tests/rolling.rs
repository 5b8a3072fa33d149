//! Restarts of all workers, with the same program or another.

use super::*;

#[test]
fn a_restart_of_all_loses_no_call() {
    let place = Place::new();
    let server = place.builder().start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    let before: Vec<u32> = server.workers().iter().map(|it| it.pid.unwrap()).collect();
    let mut client = TestClient::connect(&place);
    thread::scope(|scope| {
        let restart = scope.spawn(|| server.rolling_restart());
        while !restart.is_finished() {
            for place in [0, 1] {
                assert_eq!(client.call(place, ECHO, b"x").unwrap(), b"x");
            }
        }
        restart.join().unwrap().unwrap();
    });
    let after: Vec<u32> = server.workers().iter().map(|it| it.pid.unwrap()).collect();
    assert!(before.iter().all(|pid| !after.contains(pid)));
    assert!(server.workers().iter().all(|it| it.restarts == 0 && it.incarnation == 2));
    assert_eq!(place.control().layout.supervisor_counters().values()[0], 0);
    client.leave();
    server.stop(PATIENCE).unwrap();
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn an_upgrade_that_fails_is_taken_back() {
    let place = Place::new();
    let server = place.builder().restart(quick()).start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    let second = server.workers()[1].pid;
    assert!(matches!(server.upgrade("/nonexistent"), Err(ServerError::Program { .. })));
    let error = server.upgrade(program("exit:3")).unwrap_err();
    assert!(matches!(error, ServerError::NotUp { place: 0, .. }), "{error}");
    server.wait_until_up(PATIENCE).unwrap();
    assert_eq!(server.workers()[1].pid, second, "it was not touched");
    let mut client = TestClient::connect(&place);
    assert_eq!(client.call(0, ECHO, b"old").unwrap(), b"old");
    client.leave();
    server.stop(PATIENCE).unwrap();
    assert_eq!(place.files(), [""; 0]);
}
