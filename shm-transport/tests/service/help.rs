//! What the tests of services share.
#![allow(dead_code, reason = "not every scenario uses all of it")]

pub use crate::segment_help::Place;

use crate::stick::stick;
use shm_transport::config::Wait;
use shm_transport::service::{
    Client, HandlerError, Program, Reply, Request, Server, ServerBuilder, Worker, WorkerError,
};
use std::process::exit;
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything here takes on a machine that has other things to do.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Ends whatever has lost its test.
const SECONDS: u32 = 200;

/// The functions of the workers of these tests.
pub const ECHO: u32 = 1001;
/// Its own process's number.
pub const PID: u32 = 1002;
/// Ends the process by this signal.
pub const SIGNAL: u32 = 1003;
pub const PANIC: u32 = 1004;
pub const FAIL: u32 = 1005;
/// Waits for so many milliseconds, or until it is cancelled; two progress reports before.
pub const SLEEP: u32 = 1006;
/// So many bytes.
pub const BYTES: u32 = 1007;
/// Reports progress all the time, for so many milliseconds.
pub const REPORT: u32 = 1008;
/// Takes so many milliseconds whatever happens; one progress report before.
pub const DEAF: u32 = 1009;
/// Is stuck; who keeps it writes its number into the file of that name.
pub const STICK: u32 = 1010;
/// Whether what it was given, and room for its answer, stay as they are for a millisecond.
pub const STEADY: u32 = 1011;
/// What its environment says about the edition of the program.
pub const EDITION: u32 = 1031;
/// How it waits for calls.
pub const WAITS: u32 = 1032;
pub const NOBODY: u32 = 1999;

/// Has workers trust their clients.
pub const TRUSTED: &str = "WORKER_TRUSTED";

/// Waits for what is about to be so.
#[track_caller]
pub fn soon(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "not so after {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// This program, as a worker, in a test that is none: see [`role`].
pub fn program() -> Program {
    let program = Program::new(std::env::current_exe().unwrap());
    program.args(["help::role", "--exact", "--test-threads=1", "-q"])
}

/// A service with such workers.
pub fn server(place: &Place, name: &str) -> ServerBuilder {
    Server::builder(name).in_domain(place.domain.clone()).worker(program())
}

/// Starts it, and waits until its workers serve.
pub fn start(builder: ServerBuilder) -> Server {
    let server = builder.start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    server
}

pub fn client(place: &Place, name: &str) -> Client {
    Client::builder(name)
        .in_domain(place.domain.clone())
        .connect_timeout(PATIENCE)
        .connect()
        .unwrap()
}

/// Not a test, but what the tests start.
#[test]
fn role() {
    if !Worker::is_started() {
        return;
    }
    // SAFETY: a system call without memory.
    unsafe { libc::alarm(SECONDS) };
    match work() {
        Ok(()) => exit(0),
        Err(error) => {
            eprintln!("{error}");
            exit(error.exit_code().into())
        }
    }
}

fn number(request: &Request<'_>) -> u32 {
    u32::from_le_bytes(request.payload().try_into().unwrap())
}

fn work() -> Result<(), WorkerError> {
    let wait: Wait = std::env::var("WORKER_WAIT").map_or(Wait::Adaptive, |it| it.parse().unwrap());
    let edition = std::env::var("WORKER_EDITION").unwrap_or("1".into());
    let mut worker = Worker::attach_from_env()?;
    if std::env::var_os(TRUSTED).is_some() {
        // SAFETY: this test's clients keep to the protocol.
        worker = unsafe { worker.trusted() };
    }
    worker
        .wait(wait)
        .on(WAITS, move |_: &Request, reply: Reply| reply.send(wait.to_string().as_bytes()))?
        .on(EDITION, move |_: &Request, reply: Reply| reply.send(edition.as_bytes()))?
        .on(ECHO, |request: &Request, reply: Reply| reply.send(request.payload()))?
        .on(PID, |_: &Request, reply: Reply| reply.send(&std::process::id().to_le_bytes()))?
        .on(SIGNAL, |request: &Request, _: Reply| {
            // SAFETY: a system call without memory, to this process.
            unsafe { libc::kill(libc::getpid(), number(request) as i32) };
            thread::sleep(PATIENCE);
            Ok(())
        })?
        .on(PANIC, |request: &Request, _: Reply| panic!("with {} bytes", request.len()))?
        .on(FAIL, |request: &Request, _: Reply| Err(HandlerError::new(request.payload())))?
        .on(SLEEP, |request: &Request, mut reply: Reply| {
            reply.accepted()?;
            let time = Duration::from_millis(number(request).into());
            let begun = Instant::now();
            while begun.elapsed() < time && !request.is_cancelled() {
                thread::sleep(Duration::from_millis(1));
            }
            reply.send(&[u8::from(request.is_cancelled())])
        })?
        .on(REPORT, |request: &Request, mut reply: Reply| {
            let time = Duration::from_millis(number(request).into());
            let begun = Instant::now();
            while begun.elapsed() < time {
                reply.progress(b"on")?;
                thread::sleep(Duration::from_millis(1));
            }
            reply.send(b"done")
        })?
        .on(DEAF, |request: &Request, mut reply: Reply| {
            reply.accepted()?;
            thread::sleep(Duration::from_millis(number(request).into()));
            reply.send(b"")
        })?
        .on(STICK, |request: &Request, reply: Reply| {
            stick(request.payload());
            reply.send(b"")
        })?
        .on(STEADY, |request: &Request, reply: Reply| {
            let before = request.to_vec();
            let mut grant = reply.grant(before.len())?;
            grant.copy_from_slice(&before);
            thread::sleep(Duration::from_millis(1));
            let is_steady = request.payload() == before && grant[..] == before;
            let answer: &[u8] = if is_steady { b"steady" } else { b"changed" };
            grant[..answer.len()].copy_from_slice(answer);
            grant.send(answer.len())
        })?
        .on(BYTES, |request: &Request, reply: Reply| {
            reply.send(&vec![7; number(request) as usize])
        })?
        .run()
}
