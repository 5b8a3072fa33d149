//! What is wrong has its own error, and the service serves on.

use crate::help::{BYTES, ECHO, NOBODY, PATIENCE, Place, client, program, server, start};
use shm_transport::service::{
    CallError, Client, ConnectError, Priority, Program, Reply, Request, Restart, Server,
    ServerError, ServiceState,
};
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// Where a segment says which readers it is for.
const MIN_READER: u64 = 16;

fn serves(client: &Client) {
    for priority in [Priority::Low, Priority::High] {
        assert_eq!(client.call(ECHO, b"on", priority, PATIENCE).unwrap(), b"on");
    }
}

fn call(client: &Client, function: u32, payload: &[u8]) -> CallError {
    client.call(function, payload, Priority::Low, PATIENCE).unwrap_err()
}

fn connect(place: &Place, name: &str) -> ConnectError {
    let client = Client::builder(name).in_domain(place.domain.clone());
    client.connect_timeout(Duration::ZERO).connect().unwrap_err()
}

#[test]
fn each_has_its_error_and_the_service_serves_on() {
    let place = Place::new();
    let service = || server(&place, "math").workers(1).vip_workers(1).clients(2).messages(16);
    let up = start(service());
    let client = client(&place, "math");
    serves(&client);

    assert!(matches!(call(&client, NOBODY, b""), CallError::UnknownFunction { function: NOBODY }));
    serves(&client);
    // No lane has room for it, however empty it is.
    let huge = vec![0; 1 << 20];
    match call(&client, ECHO, &huge) {
        CallError::TooLarge { found, most } => assert!(found == huge.len() && most < found),
        other => panic!("{other:?}"),
    }
    serves(&client);
    let later = client.call_async(ECHO, &huge, Priority::Low).unwrap_err();
    assert!(matches!(later, CallError::TooLarge { .. }), "{later:?}");
    let mut batch = client.batch(Priority::Low).unwrap();
    batch.add(ECHO, b"small").unwrap();
    assert!(matches!(batch.add(ECHO, &huge).unwrap_err(), CallError::TooLarge { .. }));
    let replies = batch.wait(PATIENCE);
    assert!(matches!(&replies[..], [Ok(small)] if small == b"small"), "{replies:?}");
    match call(&client, BYTES, &65u32.to_le_bytes()) {
        CallError::ReplyTooLarge { found: 65, most: 64 } => {}
        other => panic!("{other:?}"),
    }
    // A handler that panics, for it expects four bytes.
    assert!(matches!(call(&client, BYTES, b"1"), CallError::Panicked { .. }));
    serves(&client);

    // The name is a living server's, whatever the other would be.
    for again in [service(), service().workers(2)] {
        match again.start().unwrap_err() {
            ServerError::InUse { service, pid } => {
                assert_eq!((&*service, pid), ("math", Some(std::process::id())));
            }
            other => panic!("{other:?}"),
        }
    }
    serves(&client);

    // All places of clients.
    let second = client.clone();
    serves(&second);
    match connect(&place, "math") {
        ConnectError::PlacesTaken { clients: 2, .. } => {}
        other => panic!("{other:?}"),
    }
    let third = client.clone();
    let taken = third.call(ECHO, b"", Priority::Low, Duration::ZERO);
    assert!(matches!(taken, Err(CallError::Disconnected(_))), "{taken:?}");
    drop(second);
    serves(&third);
    drop(third);
    serves(&client);

    // A client of a version before this service's: to it, the service is one of a later version.
    let path = place.path("service.math");
    let control = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut readers = [0; 4];
    control.read_exact_at(&mut readers, MIN_READER).unwrap();
    control.write_all_at(&99u32.to_le_bytes(), MIN_READER).unwrap();
    let newer = connect(&place, "math");
    assert!(matches!(&newer, ConnectError::Layout { .. }), "{newer:?}");
    assert!(newer.to_string().contains("99"), "{newer}");
    control.write_all_at(&readers, MIN_READER).unwrap();
    serves(&client);

    // Names.
    assert!(matches!(connect(&place, ""), ConnectError::Name(_)));
    assert!(matches!(connect(&place, &"x".repeat(65)), ConnectError::Name(_)));
    assert!(matches!(connect(&place, "physics"), ConnectError::NoService { .. }));
    let named = |name: &str| server(&place, name).start().unwrap_err();
    assert!(matches!(named(""), ServerError::Name(_)));
    assert!(matches!(named("a\0b"), ServerError::Name(_)));

    // Programs. What is not started leaves nothing.
    let files = place.files();
    for path in ["/nonexistent/worker", "/etc/passwd", "/"] {
        let other = Server::builder("other").in_domain(place.domain.clone());
        match other.worker(Program::new(path)).start().unwrap_err() {
            ServerError::Program { path: found, .. } => assert_eq!(found.to_str(), Some(path)),
            other => panic!("{path}: {other:?}"),
        }
    }
    let other = || Server::builder("other").in_domain(place.domain.clone());
    assert!(matches!(other().start().unwrap_err(), ServerError::NoProgram));
    // Handlers, where others would have to have them; and two of one function.
    let echo = |request: &Request, reply: Reply| reply.send(request);
    let elsewhere = other().worker(program()).on(ECHO, echo).start().unwrap_err();
    assert!(elsewhere.to_string().contains("other programs have their own"), "{elsewhere}");
    let twice = other().this_program().on(ECHO, echo).on(ECHO, echo).start().unwrap_err();
    assert!(matches!(twice, ServerError::Impossible { found: 1001, .. }), "{twice}");
    assert_eq!(place.files(), files);
    serves(&client);

    // A worker that ends at once, beside the service that serves.
    let restart = Restart {
        intensity: 2,
        backoff: Duration::from_millis(1)..Duration::from_millis(2),
        ..Restart::default()
    };
    let other = Server::builder("other").in_domain(place.domain.clone());
    let other = other.worker(Program::new("/bin/false")).workers(1).vip_workers(0);
    let other = other.restart(restart).start().unwrap();
    match other.wait_until_up(PATIENCE).unwrap_err() {
        ServerError::NotUp { place: 0, reason } => assert!(reason.contains('3'), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(other.state(), ServiceState::Failed);
    assert!(matches!(connect(&place, "other"), ConnectError::NotReady { .. }));
    serves(&client);
    other.stop(PATIENCE).unwrap();

    // A file with the name of a service's that is none, for client and server.
    let path = place.path("service.strange");
    std::fs::write(&path, vec![0xa5; 8192]).unwrap();
    let strange = connect(&place, "strange");
    assert!(
        matches!(
            strange,
            ConnectError::Layout { .. } | ConnectError::NoService { .. } | ConnectError::Segment(_)
        ),
        "{strange:?}"
    );
    let strange = named("strange");
    assert!(matches!(strange, ServerError::Layout { .. } | ServerError::Segment(_)), "{strange:?}");
    assert_eq!(std::fs::read(&path).unwrap(), vec![0xa5; 8192], "it is left as it was");
    std::fs::remove_file(path).unwrap();

    serves(&client);
    assert_eq!(up.state(), ServiceState::Running);
    assert!(up.workers().iter().all(|it| it.restarts == 0));
    // What was stopped is told too.
    up.stop(PATIENCE).unwrap();
    let gone = client.call(ECHO, b"", Priority::Low, Duration::ZERO);
    assert!(matches!(gone, Err(CallError::Disconnected(_))), "{gone:?}");
    assert!(matches!(up.rolling_restart(), Err(ServerError::Stopped)));
    drop(client);
    assert_eq!(place.files(), [""; 0], "nothing stays");
}
