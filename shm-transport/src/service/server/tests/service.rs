//! Services that are made and stopped.

use super::*;

#[test]
fn a_service_is_made_and_nothing_stays_of_it() {
    let place = Place::new();
    let server = place.builder().start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    assert_eq!(server.state(), ServiceState::Running);
    let workers = server.workers();
    assert_eq!(workers.len(), 2);
    for (worker, number) in workers.iter().zip(0..) {
        assert_eq!((worker.place, worker.incarnation, worker.restarts), (number, 1, 0));
        assert!(is_running(worker.pid.unwrap()));
    }
    assert_eq!(place.files(), ["bells.math", "members", "service.math"]);
    let mut client = TestClient::connect(&place);
    assert_eq!(client.call(0, ECHO, b"ping").unwrap(), b"ping");
    assert_eq!(client.call(1, ECHO, b"pong").unwrap(), b"pong");
    client.leave();
    server.stop(PATIENCE).unwrap();
    assert_eq!(server.state(), ServiceState::Stopped);
    assert!(matches!(server.stop(PATIENCE), Err(ServerError::Stopped)));
    for worker in workers {
        assert!(!is_running(worker.pid.unwrap()));
    }
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn a_name_is_one_server_s() {
    let place = Place::new();
    let server = place.builder().start().unwrap();
    let error = place.builder().start().unwrap_err();
    let ServerError::InUse { service, pid } = &error else { panic!("{error}") };
    assert_eq!((&**service, *pid), ("math", Some(std::process::id())));
    server.wait_until_up(PATIENCE).unwrap();
    server.stop(PATIENCE).unwrap();
    place.builder().start().unwrap().stop(PATIENCE).unwrap();
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn what_cannot_be_is_said_at_once() {
    let place = Place::new();
    let nothing = Server::builder("math").in_domain(place.domain.clone());
    assert!(matches!(nothing.start(), Err(ServerError::NoProgram)));
    for path in ["/nonexistent", "/etc/passwd"] {
        let error = place.builder().worker(path).start().unwrap_err();
        assert!(matches!(error, ServerError::Program { .. }), "{error}");
    }
    let impossible = [
        place.builder().reply_size(31),
        place.builder().clients(0),
        place.builder().function(1000, Function::new()),
        place.builder().function(1001, Function::new()).function(1001, Function::new()),
        place.builder().letters(0, 0),
        place.builder().letters(1 << 17, 64),
        place.builder().letters(1 << 16, 1 << 16),
    ];
    for builder in impossible {
        let error = builder.start().unwrap_err();
        assert!(matches!(error, ServerError::Impossible { .. }), "{error}");
    }
    // What would be possible is said.
    for (builder, found, possible) in [
        (place.builder().workers(100_000), 100_001, "1 to 16384"),
        (place.builder().clients(4097), 4097, "1 to 4096"),
        (place.builder().clients(4096).workers(20), 86016, "at most 65536"),
        (place.builder().messages(0), 0, "at least 1"),
        (place.builder().messages(1 << 30), 1 << 30, "1 GiB"),
    ] {
        let error = builder.vip_workers(0).spares(1).start().unwrap_err();
        let text = error.to_string();
        assert!(text.contains(possible) && text.contains(&format!("found {found}")), "{text}");
    }
    assert!(matches!(Server::builder("").start(), Err(ServerError::Name(_))));
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn a_stop_does_not_wait_for_ever() {
    let place = Place::new();
    let server = place.builder().start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    let mut client = TestClient::connect(&place);
    let call = client.send(0, SLEEP, &60_000u16.to_le_bytes());
    let control = place.control();
    let monitor = control.layout.monitor(0).unwrap();
    until("it begins", || monitor.snapshot().is_ok_and(|it| it.is_processing()));
    server.stop(Duration::from_millis(20)).unwrap();
    assert_eq!(client.receive(0, call), crashed(Cause::Late));
    client.leave();
    assert_eq!(place.files(), ["letters.math"]);
    let name = place.domain.segments().unwrap().next().unwrap().unwrap();
    std::fs::remove_file(place.domain.path_of(&name)).unwrap();
}

/// A worker that has not come to its place holds nothing that would have to be waited for.
#[test]
fn a_stop_does_not_wait_for_those_who_have_not_come() {
    let place = Place::new();
    let said = std::env::temp_dir().join(format!("{}-said", place.domain.name()));
    let never = "trap 'echo asked >>\"$0\"; exit' TERM; echo waits >>\"$0\"; \
                 looks=0; while [ $looks -lt 6000 ]; do looks=$((looks + 1)); sleep 0.01; done";
    let never = Program::new("/bin/sh").args(["-c", never]).arg(&said);
    let server = place.builder().worker(never).start().unwrap();
    let lines = || std::fs::read_to_string(&said).unwrap_or_default();
    until("both wait", || lines() == "waits\nwaits\n");
    // They would be killed then, and say nothing.
    server.stop(Duration::from_secs(20)).unwrap();
    assert_eq!(lines(), "waits\nwaits\nasked\nasked\n");
    std::fs::remove_file(said).unwrap();
    assert_eq!(place.files(), [""; 0]);
}
