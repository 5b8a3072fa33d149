//! Workers that cannot even be killed, and the places that there are for their successors.

use super::*;
use std::path::PathBuf;

/// Where one that is stuck says who keeps it.
struct Keeper(PathBuf);

impl Keeper {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("unit-stuck-{}-{count}", std::process::id())))
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn pid(&self) -> Option<u32> {
        let bytes = std::fs::read(&self.0).ok()?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    }

    /// What it kept dies.
    fn let_go(&self) {
        kill(self.pid().unwrap(), Signal::KILL);
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            let _ = kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL);
        }
        let _ = std::fs::remove_file(&self.0);
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Nobody is killed for a call that takes long, but soon is stuck.
fn patient() -> Hang {
    Hang { threshold: None, stuck: ms(20), ..Hang::default() }
}

fn impatient() -> Hang {
    let (threshold, confirm) = (Some(ms(20)), ms(5));
    Hang { threshold, confirm, abort: ms(5), kill: ms(5), ..patient() }
}

/// Of a place that was never in service nothing is said.
fn condition(server: &Server, place: u32) -> Condition {
    let found = server.workers().into_iter().find(|it| it.place == place);
    found.map_or(Spare, |it| it.condition)
}

fn conditions<const N: usize>(server: &Server) -> [Condition; N] {
    let all: Vec<Condition> = server.workers().iter().map(|it| it.condition).collect();
    all.try_into().unwrap()
}

/// Ends the calls of clients, their letters and the service, of which nothing stays.
fn end(place: &Place, server: Server, client: TestClient) {
    client.leave();
    for letter in server.letters().unwrap() {
        server.drop_letter(letter.key).unwrap();
    }
    server.stop(PATIENCE).unwrap();
    assert_eq!(place.files(), [""; 0]);
}

use Condition::{Spare, Stuck, Up};

#[test]
fn one_that_hangs_and_survives_its_kill_has_its_successor_elsewhere() {
    let (place, keeper) = (Place::new(), Keeper::new());
    let server = place.builder().spares(1).hang(impatient()).start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    assert_eq!((conditions(&server), condition(&server, 2)), ([Up, Up], Spare));
    let mut client = TestClient::connect(&place);
    assert_eq!(client.call(0, ECHO, b"x").unwrap(), b"x");
    let stuck = client.send(0, STICK, keeper.path().as_bytes());
    let queued = client.send(0, ECHO, b"queued");
    until("it is stuck", || condition(&server, 0) == Stuck);
    server.wait_until_up(PATIENCE).unwrap();
    assert_eq!(conditions(&server), [Stuck, Up, Up]);
    assert_eq!(server.state(), ServiceState::Running);
    let reason = server.workers()[0].reason.clone().unwrap();
    assert!(reason.contains("place 2"), "{reason}");
    // What is its stays its: the slot, the call in hand and what waits behind that.
    let control = place.control();
    assert!(control.layout.workers().owner(0).is_some());
    assert!(control.layout.monitor(0).unwrap().snapshot().unwrap().is_processing());
    for place in [1, 2] {
        assert_eq!(client.call(place, ECHO, b"on").unwrap(), b"on");
    }
    assert!(client.ends[0].response().is_err(), "nothing is answered at the stuck one's place");
    assert!(server.letters().unwrap().is_empty());
    let second = server.workers()[2].pid;
    keeper.let_go();
    assert!(matches!(client.receive(0, stuck), Err(Failure::Crashed { .. })));
    assert_eq!(client.receive(0, queued).unwrap(), b"queued");
    until("it is a spare", || condition(&server, 0) == Spare);
    assert_eq!(conditions(&server), [Spare, Up, Up]);
    assert_eq!((server.workers()[2].pid, server.workers()[0].pid), (second, None));
    assert_eq!(server.letters().unwrap().len(), 1);
    // A call that somebody sends there who has not heard of it is answered all the same.
    assert_eq!(client.call(0, ECHO, b"late").unwrap(), b"late");
    // And the place is one as any.
    let again = Keeper::new();
    let stuck = client.send(2, STICK, again.path().as_bytes());
    until("the other is stuck", || condition(&server, 2) == Stuck);
    server.wait_until_up(PATIENCE).unwrap();
    assert_eq!(conditions(&server), [Up, Up, Stuck]);
    assert_eq!(client.call(0, ECHO, b"new").unwrap(), b"new");
    again.let_go();
    assert!(matches!(client.receive(2, stuck), Err(Failure::Crashed { .. })));
    until("it is a spare", || condition(&server, 2) == Spare);
    end(&place, server, client);
}

#[test]
fn without_a_spare_left_the_service_is_degraded() {
    let (place, keepers) = (Place::new(), [Keeper::new(), Keeper::new()]);
    let server = place.builder().workers(1).spares(1).hang(impatient()).start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    let mut client = TestClient::connect(&place);
    let calls = [0, 1].map(|at| {
        until("it serves", || condition(&server, at) == Up);
        let call = client.send(at, STICK, keepers[at as usize].path().as_bytes());
        until("it is stuck", || condition(&server, at) == Stuck);
        call
    });
    assert_eq!(server.state(), ServiceState::Degraded);
    let reason = server.workers()[1].reason.clone().unwrap();
    assert!(reason.contains("no spare"), "{reason}");
    let error = server.wait_until_up(ms(0)).unwrap_err();
    assert!(matches!(&error, ServerError::TimedOut { places, .. } if *places == [0, 1]), "{error}");
    // The first that dies has its successor where it was; the second place is a spare.
    keepers[1].let_go();
    assert!(client.receive(1, calls[1]).is_err());
    server.wait_until_up(PATIENCE).unwrap();
    assert_eq!(conditions(&server), [Stuck, Up]);
    assert_eq!(client.call(1, ECHO, b"on").unwrap(), b"on");
    keepers[0].let_go();
    assert!(client.receive(0, calls[0]).is_err());
    until("it is a spare", || condition(&server, 0) == Spare);
    assert_eq!(server.state(), ServiceState::Running);
    end(&place, server, client);
}

/// Nobody has killed it here, and nothing hung; but its process has ended, and its lock has not
/// fallen.
#[test]
fn one_whose_memory_outlives_it_has_its_successor_elsewhere() {
    let (place, keeper) = (Place::new(), Keeper::new());
    let server = place.builder().spares(1).hang(patient()).start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    let mut client = TestClient::connect(&place);
    let call = client.send(0, STICK, keeper.path().as_bytes());
    until("it sleeps", || keeper.pid().is_some());
    kill(server.workers()[0].pid.unwrap(), Signal::KILL);
    until("it is stuck", || condition(&server, 0) == Stuck);
    server.wait_until_up(PATIENCE).unwrap();
    assert_eq!(conditions(&server), [Stuck, Up, Up]);
    keeper.let_go();
    assert!(matches!(client.receive(0, call), Err(Failure::Crashed { .. })));
    until("it is a spare", || condition(&server, 0) == Spare);
    end(&place, server, client);
}

#[test]
fn a_rolling_restart_goes_round_one_that_does_not_die() {
    let (place, keeper) = (Place::new(), Keeper::new());
    let server = place.builder().spares(1).hang(patient()).drain(ms(20)).start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    let before: Vec<Option<u32>> = server.workers().iter().map(|it| it.pid).collect();
    let mut client = TestClient::connect(&place);
    let stuck = client.send(0, STICK, keeper.path().as_bytes());
    until("it sleeps", || keeper.pid().is_some());
    server.rolling_restart().unwrap();
    assert_eq!(conditions(&server), [Stuck, Up, Up]);
    let after: Vec<u32> = server.workers().iter().map(|it| it.incarnation).collect();
    assert_eq!(after, [1, 2, 1], "each once");
    assert_ne!(server.workers()[1].pid, before[1]);
    // The next one has nobody to ask there.
    server.rolling_restart().unwrap();
    assert_eq!(conditions(&server), [Stuck, Up, Up]);
    keeper.let_go();
    assert!(client.receive(0, stuck).is_err());
    until("it is a spare", || condition(&server, 0) == Spare);
    end(&place, server, client);
}

#[test]
fn an_upgrade_whose_worker_is_stuck_is_taken_back() {
    let (place, keeper) = (Place::new(), Keeper::new());
    // Long enough for the new program to be stuck before it is given up, on a slow machine as well.
    let hang = Hang { boot: ms(2000), ..patient() };
    let server = place.builder().spares(1).hang(hang).start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    let error = server.upgrade(program(&format!("sticks:{}", keeper.path()))).unwrap_err();
    let ServerError::NotUp { place: 0, reason } = &error else { panic!("{error}") };
    assert!(reason.contains("does not die"), "{reason}");
    server.wait_until_up(PATIENCE).unwrap();
    assert_eq!(conditions(&server), [Stuck, Up, Up]);
    let mut client = TestClient::connect(&place);
    assert_eq!(client.call(2, ECHO, b"old").unwrap(), b"old");
    keeper.let_go();
    until("it is a spare", || condition(&server, 0) == Spare);
    end(&place, server, client);
}

#[test]
fn the_next_supervisor_knows_who_is_stuck() {
    let (place, keeper) = (Place::new(), Keeper::new());
    let builder = || place.builder().spares(1).hang(impatient());
    let server = builder().start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    let mut client = TestClient::connect(&place);
    let stuck = client.send(0, STICK, keeper.path().as_bytes());
    until("it is stuck", || condition(&server, 0) == Stuck);
    server.wait_until_up(PATIENCE).unwrap();
    let before: Vec<Option<u32>> = server.workers().iter().map(|it| it.pid).collect();
    server.leave().unwrap();

    let server = builder().start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    assert_eq!(conditions(&server), [Stuck, Up, Up]);
    let after: Vec<Option<u32>> = server.workers().iter().map(|it| it.pid).collect();
    assert_eq!(after, before);
    keeper.let_go();
    assert!(matches!(client.receive(0, stuck), Err(Failure::Crashed { .. })));
    until("it is a spare", || condition(&server, 0) == Spare);
    server.leave().unwrap();

    // A spare stays one, though it stands before the others.
    let server = builder().start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    assert_eq!(conditions(&server), [Spare, Up, Up]);
    let after: Vec<Option<u32>> = server.workers().iter().map(|it| it.pid).collect();
    assert_eq!(after[1..], before[1..]);
    server.leave().unwrap();

    // Another number of spares is another shape.
    let other = place.builder().spares(2).start().map(drop).unwrap_err();
    assert!(matches!(other, ServerError::Shape { .. }), "{other}");
    let text = other.to_string();
    assert!(text.contains("runs with spares 1, where 2 was asked for: say"), "{text}");
    let server = builder().start().unwrap();
    end(&place, server, client);
}

#[test]
fn one_that_died_while_nobody_looked_is_a_spare() {
    let (place, keeper) = (Place::new(), Keeper::new());
    let builder = || place.builder().spares(1).hang(impatient());
    let server = builder().start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    let mut client = TestClient::connect(&place);
    let stuck = client.send(0, STICK, keeper.path().as_bytes());
    let queued = client.send(0, ECHO, b"queued");
    until("it is stuck", || condition(&server, 0) == Stuck);
    server.wait_until_up(PATIENCE).unwrap();
    server.leave().unwrap();
    let worker = place.control().layout.workers().owner(0).unwrap();
    keeper.let_go();
    let watch = crate::member::Member::join(&place.domain, "watch").unwrap();
    until("its lock has fallen", || {
        matches!(watch.processes().convict(worker), Ok(crate::liveness::Verdict::Dead(_)))
    });
    // SAFETY: it has nothing.
    unsafe { watch.leave() }.unwrap();
    let server = builder().start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    assert_eq!(conditions(&server), [Spare, Up, Up]);
    assert!(matches!(client.receive(0, stuck), Err(Failure::Crashed { .. })));
    assert_eq!(client.receive(0, queued).unwrap(), b"queued");
    end(&place, server, client);
}

#[test]
fn a_stop_says_who_does_not_end() {
    let (place, keeper) = (Place::new(), Keeper::new());
    let server = place.builder().spares(1).hang(impatient()).start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    let mut client = TestClient::connect(&place);
    client.send(0, STICK, keeper.path().as_bytes());
    until("it is stuck", || condition(&server, 0) == Stuck);
    let error = server.stop(ms(0)).unwrap_err();
    assert!(matches!(&error, ServerError::TimedOut { places, .. } if *places == [0]), "{error}");
    client.leave();
    drop(server);
    assert!(!place.files().iter().any(|name| name.contains("math")), "{:?}", place.files());
    keeper.let_go();
    // Its record goes with the next service.
    let server = place.builder().start().unwrap();
    server.stop(PATIENCE).unwrap();
    until("nothing stays", || place.files().is_empty());
}
