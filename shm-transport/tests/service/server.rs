//! Servers, workers and clients together, through what is public. Each process but the test's own is
//! this program, started once more.

use rustix::process::{Pid, Signal, kill_process};
use shm_transport::domain::Domain;
use shm_transport::service::{
    CallError, Cause, Client, Function, Group, HandlerError, Hang, Priority, Program, Reply,
    Request, Restart, Server, ServerBuilder, ServiceState, Strategy, Worker,
};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

const ECHO: u32 = 1001;
const DIE: u32 = 1002;
const PID: u32 = 1003;
const SLOW: u32 = 1004;
const FAIL: u32 = 1005;

/// Longer than anything takes here, also if everything is stopped for minutes meanwhile.
const PATIENCE: Duration = Duration::from_secs(600);
/// The same in looks of a millisecond.
const LOOKS: u32 = 60_000;

const DOMAIN: &str = "SHM_TEST_DOMAIN";
/// Where only one of several workers is to behave so.
const DIES_AT_ONCE: &str = "SHM_TEST_DIES_AT_ONCE";

struct Place(Domain);

impl Place {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Relaxed);
        Self(Domain::new(&format!("test-service-{}-{count}", std::process::id())).unwrap())
    }

    fn builder(&self) -> ServerBuilder {
        Server::builder("math")
            .in_domain(self.0.clone())
            .workers(2)
            .vip_workers(1)
            .messages(64)
            .clients(8)
            .worker(program())
    }

    fn client(&self) -> Client {
        let client = Client::builder("math").in_domain(self.0.clone());
        client.connect_timeout(PATIENCE).connect().unwrap()
    }

    fn files(&self) -> Vec<String> {
        self.0.segments().unwrap().map(|name| name.unwrap().as_str().into()).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let files = self.files();
        for name in self.0.segments().unwrap().flatten() {
            let _ = std::fs::remove_file(self.0.path_of(&name));
        }
        if !thread::panicking() {
            assert_eq!(files, [""; 0], "nothing stays");
        }
    }
}

/// This program with that test alone, silent and the same process.
fn this_test(name: &str) -> Program {
    Program::new("/bin/sh")
        .args(["-c", "exec \"$0\" \"$@\" >/dev/null"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
}

fn program() -> Program {
    this_test("server::worker_process")
}

fn until(what: &str, mut ready: impl FnMut() -> bool) {
    for _ in 0..LOOKS {
        if ready() {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("{what}");
}

fn kill(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
}

fn die(_: &Request<'_>, _: Reply<'_>) -> Result<(), HandlerError> {
    kill(std::process::id(), Signal::KILL);
    unreachable!("killed")
}

fn slow(request: &Request<'_>, reply: Reply<'_>) -> Result<(), HandlerError> {
    while !request.is_cancelled() {
        thread::sleep(Duration::from_millis(1));
    }
    reply.send(b"cancelled")
}

fn pid(_: &Request<'_>, reply: Reply<'_>) -> Result<(), HandlerError> {
    reply.send(&std::process::id().to_le_bytes())
}

#[test]
fn worker_process() {
    if !Worker::is_started() {
        return;
    }
    let worker = match Worker::attach_from_env() {
        Ok(worker) => worker,
        // The service was stopped meanwhile.
        Err(error) => std::process::exit(error.exit_code().into()),
    };
    let dies = std::env::var(DIES_AT_ONCE).ok();
    if dies.is_some_and(|place| place == worker.place().to_string()) {
        std::process::exit(3);
    }
    let served = worker
        .on(ECHO, |request: &Request<'_>, reply: Reply<'_>| reply.send(request))
        .unwrap()
        .on(DIE, die)
        .unwrap()
        .on(PID, pid)
        .unwrap()
        .on(SLOW, slow)
        .unwrap()
        .run();
    std::process::exit(served.map_or_else(|error| error.exit_code().into(), |()| 0));
}

fn crashed(found: Result<Vec<u8>, CallError>, wanted: Cause) {
    match found {
        Err(CallError::WorkerCrashed { cause, .. }) => assert_eq!(cause, wanted),
        other => panic!("{other:?}"),
    }
}

#[test]
fn calls_are_answered_and_deaths_are_errors() {
    let place = Place::new();
    let server = place.builder().start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    let client = server.client().unwrap();
    for priority in [Priority::Low, Priority::High] {
        assert_eq!(client.call(ECHO, b"ping", priority, PATIENCE).unwrap(), b"ping");
        let error = client.call(DIE, b"poison", priority, PATIENCE).unwrap_err();
        let CallError::WorkerCrashed { cause, attempt, function, place, seq_id, letter } = error
        else {
            panic!("{error}")
        };
        let group = if priority == Priority::High { Group::Vip } else { Group::Normal };
        assert_eq!((cause, attempt, function), (Cause::Signalled(9), 1, DIE));
        let workers = server.workers();
        assert_eq!(workers.iter().find(|it| it.place == place).unwrap().group, group);
        let letters = server.letters().unwrap();
        let kept = letters.iter().find(|it| Some(it.key) == letter).expect("it was kept");
        assert_eq!((kept.seq_id, kept.worker, kept.function), (seq_id, place, DIE));
        let (index, generation) = (kept.key.index(), kept.key.generation());
        assert!(
            error.to_string().contains(&format!("dead letter {index}-{generation} ")),
            "{error}"
        );
        assert_eq!(client.call(ECHO, b"pong", priority, PATIENCE).unwrap(), b"pong");
    }
    until("two restarts", || server.workers().iter().map(|it| it.restarts).sum::<u32>() == 2);
    server.wait_until_up(PATIENCE).unwrap();
    let letters = server.letters().unwrap();
    assert_eq!(letters.len(), 2);
    for letter in letters {
        assert_eq!((letter.function, &*letter.payload), (DIE, &b"poison"[..]));
        assert!(server.drop_letter(letter.key).unwrap());
    }
    until("they are counted", || server.workers().iter().map(|it| it.processed).sum::<u64>() >= 4);
    drop(client);
    server.stop(PATIENCE).unwrap();
}

/// Who was told of a death and then asks the server finds that the worker is not up.
#[test]
fn what_a_caller_was_told_the_server_knows() {
    let place = Place::new();
    let backoff = Duration::from_millis(1)..Duration::from_millis(1);
    let restart = Restart { intensity: 1000, pool: 1000, backoff, ..Restart::default() };
    let server = place.builder().workers(1).vip_workers(0).restart(restart).start().unwrap();
    let client = place.client();
    for deaths in 0..50 {
        server.wait_until_up(PATIENCE).unwrap();
        assert_eq!(server.workers()[0].restarts, deaths);
        crashed(client.call(DIE, b"", Priority::Low, PATIENCE), Cause::Signalled(9));
    }
    for letter in server.letters().unwrap() {
        server.drop_letter(letter.key).unwrap();
    }
    drop(client);
    server.stop(PATIENCE).unwrap();
}

#[test]
fn many_callers_and_many_deaths() {
    let place = Place::new();
    let restart = Restart { intensity: 1000, pool: 1000, ..Restart::default() };
    let server = place.builder().restart(restart).start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    thread::scope(|scope| {
        for caller in 0..3u32 {
            let place = &place;
            scope.spawn(move || {
                let client = place.client();
                for n in 0..200u32 {
                    let bytes = (caller << 16 | n).to_le_bytes();
                    if n % 50 == 25 {
                        crashed(
                            client.call(DIE, &bytes, Priority::Low, PATIENCE),
                            Cause::Signalled(9),
                        );
                    }
                    let found = client.call(ECHO, &bytes, Priority::Low, PATIENCE).unwrap();
                    assert_eq!(found, bytes, "each call gets its own answer");
                }
            });
        }
    });
    let letters = server.letters().unwrap();
    assert_eq!(letters.len(), 12, "one letter for each death");
    letters.iter().for_each(|letter| assert!(server.drop_letter(letter.key).unwrap()));
    server.stop(PATIENCE).unwrap();
}

#[test]
fn a_rolling_restart_is_not_noticed() {
    let place = Place::new();
    let server = place.builder().start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    let client = place.client();
    thread::scope(|scope| {
        let restart = scope.spawn(|| server.rolling_restart());
        let mut calls = 0;
        while !restart.is_finished() {
            let found = client.call(ECHO, b"x", Priority::Low, PATIENCE);
            assert_eq!(found.unwrap(), b"x", "call {calls}");
            calls += 1;
        }
        restart.join().unwrap().unwrap();
    });
    assert!(server.workers().iter().all(|it| it.incarnation == 2 && it.restarts == 0));
    drop(client);
    server.stop(PATIENCE).unwrap();
}

#[test]
fn the_others_take_over() {
    let place = Place::new();
    let always = Duration::from_secs(3600);
    let server = place
        .builder()
        .strategy(Strategy::TakeOver)
        .restart(Restart { backoff: always..always, ..Restart::default() })
        .start()
        .unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    let client = place.client();
    // The VIP worker dies twice, and waits for long then: normal ones serve its lanes.
    for restarts in [1, 1] {
        crashed(client.call(DIE, b"", Priority::High, PATIENCE), Cause::Signalled(9));
        until("it is restarted", || server.workers()[2].restarts == restarts);
        until("it is helped or there", || {
            let vip = &server.workers()[2];
            vip.pid.is_some() && server.state() == ServiceState::Running || vip.helper.is_some()
        });
    }
    assert_eq!(client.call(ECHO, b"vip", Priority::High, PATIENCE).unwrap(), b"vip");
    let letters = server.letters().unwrap();
    letters.iter().for_each(|letter| assert!(server.drop_letter(letter.key).unwrap()));
    drop(client);
    server.stop(PATIENCE).unwrap();
}

#[test]
fn a_hanging_handler_is_told_and_its_caller_too() {
    let place = Place::new();
    let ms = Duration::from_millis;
    let server = place
        .builder()
        .hang(Hang { confirm: ms(10), cancel: ms(0), ..Hang::default() })
        .function(SLOW, Function::new().threshold(ms(30)))
        .start()
        .unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    let client = place.client();
    let found = client.call(SLOW, b"", Priority::Low, PATIENCE);
    assert_eq!(found.unwrap(), b"cancelled");
    until("it is trusted again", || server.state() == ServiceState::Running);
    assert!(server.workers().iter().all(|it| it.restarts == 0));
    drop(client);
    server.stop(PATIENCE).unwrap();
}

#[test]
fn one_place_fails_and_the_service_serves() {
    let place = Place::new();
    let ms = Duration::from_millis;
    let server = place
        .builder()
        .worker(program().env(DIES_AT_ONCE, "1"))
        .restart(Restart { intensity: 2, backoff: ms(1)..ms(2), ..Restart::default() })
        .start()
        .unwrap();
    until("it has failed", || server.workers()[1].reason.is_some_and_failed());
    let client = place.client();
    for _ in 0..10 {
        assert_eq!(client.call(ECHO, b"on", Priority::Low, PATIENCE).unwrap(), b"on");
    }
    drop(client);
    server.stop(PATIENCE).unwrap();
}

trait Failed {
    fn is_some_and_failed(&self) -> bool;
}

impl Failed for Option<String> {
    fn is_some_and_failed(&self) -> bool {
        self.as_ref().is_some_and(|reason| reason.contains("workers died within"))
    }
}

// ---- servers that are processes

struct Process(Child);

impl Process {
    fn start(place: &Place, test: &str) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(DOMAIN, place.0.name())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn server_process() {
    let Some(domain) = std::env::var_os(DOMAIN) else { return };
    let place = Place(Domain::new(domain.to_str().unwrap()).unwrap());
    let _server = place.builder().start().unwrap();
    thread::sleep(PATIENCE);
    std::process::exit(1);
}

#[test]
fn a_supervisor_s_death_is_not_noticed() {
    let place = Place::new();
    let mut first = Process::start(&place, "server::server_process");
    let client = place.client();
    assert_eq!(client.call(ECHO, b"before", Priority::Low, PATIENCE).unwrap(), b"before");
    first.kill();
    for _ in 0..100 {
        assert_eq!(client.call(ECHO, b"without", Priority::Low, PATIENCE).unwrap(), b"without");
    }
    crashed(client.call(DIE, b"poison", Priority::Low, PATIENCE), Cause::Unknown);
    let server = place.builder().start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    assert_eq!(server.workers().iter().map(|it| it.restarts).sum::<u32>(), 1);
    assert_eq!(client.call(ECHO, b"after", Priority::Low, PATIENCE).unwrap(), b"after");
    let letters = server.letters().unwrap();
    assert_eq!(letters.len(), 1);
    letters.iter().for_each(|letter| assert!(server.drop_letter(letter.key).unwrap()));
    drop(client);
    server.stop(PATIENCE).unwrap();
}

/// Supervisors are killed at any moment of a recovery: each call has one end, each death one letter,
/// and what waited is served.
#[test]
fn a_recovery_that_is_not_finished_is_finished_by_the_next() {
    let place = Place::new();
    let mut server = Process::start(&place, "server::server_process");
    let client = place.client();
    let mut poison = Vec::new();
    for round in 0..24u32 {
        let low = |function, n: u32| {
            client.call_async(function, &(round << 8 | n).to_le_bytes(), Priority::Low).unwrap()
        };
        // Both workers have something behind it.
        let deadly = low(DIE, 0);
        let waiting: Vec<_> = (1..7).map(|n| (n, low(ECHO, n))).collect();
        poison.push((round << 8).to_le_bytes().to_vec());
        // From before the death to after the recovery.
        thread::sleep(Duration::from_micros(u64::from(round * 37 % 24) * 100));
        server.kill();
        server = Process::start(&place, "server::server_process");
        match deadly.wait(PATIENCE) {
            Err(CallError::WorkerCrashed { .. }) => {}
            other => panic!("{other:?}"),
        }
        for (n, call) in waiting {
            assert_eq!(call.wait(PATIENCE).unwrap(), (round << 8 | n).to_le_bytes());
        }
    }
    server.kill();
    let server = place.builder().start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    let letters = server.letters().unwrap();
    let mut found: Vec<Vec<u8>> = letters.iter().map(|it| it.payload.clone()).collect();
    found.sort();
    poison.sort();
    assert_eq!(found, poison, "each once");
    letters.iter().for_each(|letter| assert!(server.drop_letter(letter.key).unwrap()));
    drop(client);
    server.stop(PATIENCE).unwrap();
}

/// A program whose workers are itself.
#[test]
fn this_program_process() {
    let Some(domain) = std::env::var_os(DOMAIN) else { return };
    let server = Server::builder("math")
        .domain(domain.to_str().unwrap())
        .workers(1)
        .vip_workers(1)
        .this_program()
        .on(ECHO, |request: &Request<'_>, reply: Reply<'_>| reply.send(request))
        .on(PID, pid)
        .on(DIE, die)
        .on(FAIL, |_: &Request<'_>, _: Reply<'_>| Err(HandlerError::new("no")))
        .start()
        .unwrap();
    // Only the server comes here.
    let client = server.client().unwrap();
    let call = |function| client.call(function, b"x", Priority::Low, PATIENCE);
    assert_eq!(call(ECHO).unwrap(), b"x");
    assert_ne!(call(PID).unwrap(), std::process::id().to_le_bytes());
    assert!(matches!(call(FAIL), Err(CallError::Failed { message, .. }) if message == b"no"));
    assert!(matches!(call(4711), Err(CallError::UnknownFunction { .. })));
    crashed(call(DIE), Cause::Signalled(9));
    assert_eq!(call(ECHO).unwrap(), b"x");
    let letters = server.letters().unwrap();
    letters.iter().for_each(|letter| assert!(server.drop_letter(letter.key).unwrap()));
    drop(client);
    server.stop(PATIENCE).unwrap();
    std::process::exit(17);
}

#[test]
fn a_program_can_be_its_own_workers() {
    let place = Place::new();
    let mut process = Process::start(&place, "server::this_program_process");
    assert_eq!(process.0.wait().unwrap().code(), Some(17));
}
