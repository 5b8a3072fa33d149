//! Servers, workers and clients die at each step of what they do: at each store through the door of
//! the primitives, and before and after each call to the system that others see. The others go on.
//!
//! Compiled under `--cfg crash_points` alone. The one who dies is another process, which kills itself
//! at the step. Operations of many steps die at no more than [`MOST`] of them; with
//! `SHM_CRASH_EVERY=1` it is each one, and with `SHM_CRASH_STEP=<n>` step n alone. What a server does
//! is done by two threads: the steps of both are counted, and which comes when differs.

use crate::common::child::{Child, say};
use crate::help::*;
use crate::roles::told;
use crate::segment_help::Place;
use rustix::process::{Signal, getpid, kill_process};
use shm_primitives::sync::crash::{run_all_until, run_until};
use shm_transport::domain::Domain;
use shm_transport::segment::SegmentError;
use shm_transport::service::{
    Call, CallError, Client, Priority, Server, ServerBuilder, ServerError, WorkerError,
};
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// The most deaths that one operation dies unless told otherwise.
const MOST: u32 = 60;

const WHAT: &str = "SHM_TEST_OPERATION";
const BUDGET: &str = "SHM_TEST_BUDGET";

/// What is done under a budget.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Operation {
    /// A server makes a service, and starts its workers.
    Start,
    /// A server adopts a service whose supervisor, a client and a worker with a call in hand are
    /// dead.
    Adopt,
    /// A server recovers a worker with a call in hand, starts its successor, and recovers a client.
    Recover,
    /// A server stops its service, which has a client.
    Stop,
    /// A worker takes its place, serves, and leaves.
    Serve,
    /// A client connects, calls, gives a call up, and leaves.
    Connect,
}

use Operation::*;

macro_rules! operations {
    ($($test:ident: $what:ident;)+) => {
        $(
            #[test]
            fn $test() {
                at_steps($what);
            }
        )+

        fn operation(name: &str) -> Operation {
            $(if name == stringify!($what) { return $what; })+
            panic!("{name}");
        }
    };
}

operations! {
    start: Start;
    adopt: Adopt;
    recover: Recover;
    stop: Stop;
    serve: Serve;
    connect: Connect;
}

// ---- the one who dies

/// What kills this process. Nothing of it happens any more, in no thread.
fn end() -> ! {
    kill_process(getpid(), Signal::KILL).unwrap();
    loop {
        thread::park();
    }
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap()
}

/// The process that dies, unless that is a worker.
pub fn victim(domain: &Domain) {
    let what = operation(&variable(WHAT));
    let budget: u32 = variable(BUDGET).parse().unwrap();
    let steps = match what {
        Start | Adopt => {
            let up = || {
                let server = begin(&|| builder(domain, what));
                server.wait_until_up(PATIENCE).unwrap();
                // Whoever ends it, it is not this one.
                std::mem::forget(server);
            };
            run_all_until(budget, end, up).1
        }
        Recover | Stop => {
            let server = begin(&|| builder(domain, what));
            server.wait_until_up(PATIENCE).unwrap();
            say("up");
            told();
            let work = || {
                say("goes");
                if what == Stop {
                    return server.stop(PATIENCE).unwrap();
                }
                soon("all is recovered", || {
                    let restarts = server.workers().iter().map(|it| it.restarts).sum::<u32>();
                    restarts == 1 && server.wait_until_up(PATIENCE).is_ok() && clients(domain) == 1
                });
            };
            let steps = run_all_until(budget, end, work).1;
            std::mem::forget(server);
            steps
        }
        Connect => {
            let work = || {
                let client = client(domain);
                call(&client, 20, Priority::Low);
                drop(client.call_async(ECHO, &payload(21, 0), Priority::Low).unwrap());
                call(&client, 22, Priority::High);
            };
            run_until(budget, end, work).1
        }
        Serve => unreachable!("that is a worker"),
    };
    say(format_args!("survived {steps}"));
    told();
}

/// How many clients' segments there are.
fn clients(domain: &Domain) -> usize {
    let segments = domain.segments().unwrap();
    segments.filter(|name| name.as_ref().unwrap().as_str().starts_with("client.")).count()
}

/// A worker, of which one dies.
pub fn work(
    notes: &Path,
    work: impl FnOnce() -> Result<(), WorkerError>,
) -> Result<(), WorkerError> {
    let budget = std::env::var(BUDGET).ok().filter(|_| std::env::var(WHAT).is_err());
    let Some(budget) = budget.filter(|_| variable("SHM_WORKER") == "0.1") else { return work() };
    let (ended, steps) = run_until(budget.parse().unwrap(), end, work);
    Note::create(notes, "steps", 0).write(format_args!("{steps}"));
    ended
}

// ---- the others

fn builder(domain: &Domain, what: Operation) -> ServerBuilder {
    let builder = server(domain).workers(2).clients(3).messages(16).vip_messages(16);
    if what == Serve { builder.workers(1) } else { builder }
}

/// Starts it, when those who have it locked are gone.
fn begin(builder: &dyn Fn() -> ServerBuilder) -> Server {
    let begun = Instant::now();
    loop {
        match builder().start() {
            Ok(server) => return server,
            Err(
                ServerError::InUse { .. }
                | ServerError::Stopping { .. }
                | ServerError::Segment(SegmentError::Busy { .. }),
            ) if begun.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(1)),
            Err(error) => panic!("the server starts: {error}"),
        }
    }
}

fn client(domain: &Domain) -> Client {
    Client::builder(SERVICE)
        .in_domain(domain.clone())
        .connect_timeout(PATIENCE)
        .connect()
        .unwrap_or_else(|error| panic!("the client connects: {error}"))
}

fn call(client: &Client, id: u64, priority: Priority) {
    assert!(!call_of_the_dying(client, id, priority), "call {id}: its worker died");
}

/// Whether its worker died of it, as one may.
fn call_of_the_dying(client: &Client, id: u64, priority: Priority) -> bool {
    let bytes = payload(id, 8);
    match client.call(ECHO, &bytes, priority, PATIENCE) {
        Err(CallError::WorkerCrashed { .. }) => true,
        result => {
            assert_eq!(result.unwrap(), bytes, "call {id}");
            false
        }
    }
}

/// A call that kills its worker, and some that wait behind it or beside it.
struct Calls {
    deadly: Call,
    waiting: Vec<(u64, Call)>,
}

impl Calls {
    fn send(client: &Client) -> Self {
        let deadly = client.call_async(DIE, &payload(1, 0), Priority::Low).unwrap();
        let echo = |id| (id, client.call_async(ECHO, &payload(id, 0), Priority::Low).unwrap());
        Self { deadly, waiting: (2..8).map(echo).collect() }
    }

    fn end(self) {
        match self.deadly.wait(PATIENCE) {
            Err(CallError::WorkerCrashed { .. }) => {}
            other => panic!("the deadly call: {other:?}"),
        }
        for (id, call) in self.waiting {
            assert_eq!(call.wait(PATIENCE).unwrap(), payload(id, 0), "call {id}");
        }
    }
}

fn process(role: &str, what: Operation, step: u32, place: &Place, notes: &Notes) -> Child {
    let mut command = Child::playing("roles::role");
    command.env(ROLE, role).env(DIRECTORY, &place.directory).env(NOTES, &notes.directory);
    command.env(WHAT, format!("{what:?}")).env(BUDGET, step.to_string());
    Child::of(command)
}

/// Whether a worker has died that had begun the deadly call.
fn one_is_dead(notes: &Notes) -> bool {
    let workers = fs::read_dir(notes.directory.join("workers")).unwrap();
    let is_dead = |pid: &str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('Z'))
    };
    workers.flatten().any(|file| is_dead(file.file_name().to_str().unwrap()))
}

/// Says where it failed.
struct Context(Operation, u32);

impl Drop for Context {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("in: {:?}, dead at step {}", self.0, self.1);
        }
    }
}

/// Dies at the steps of that operation.
fn at_steps(what: Operation) {
    let variable = |name| number(name).and_then(|number| u32::try_from(number).ok());
    let round = |step| {
        let _context = Context(what, step);
        one_round(what, step)
    };
    if let Some(step) = variable("SHM_CRASH_STEP") {
        round(step);
        return;
    }
    let steps = round(u32::MAX).expect("it has no step to die at");
    let stride = variable("SHM_CRASH_EVERY").unwrap_or(steps / MOST + 1);
    let mut deaths = 0;
    for step in (0..).step_by(stride as usize) {
        match round(step) {
            Some(_) if step >= steps => break,
            Some(_) => {}
            None => deaths += 1,
        }
        assert!(step < 4 * steps + 1000, "does not end");
    }
    assert!(deaths > 0, "nobody died");
    eprintln!("{what:?}: {steps} steps, died at {deaths} of them");
}

/// `None` if the victim died, else its steps.
fn one_round(what: Operation, step: u32) -> Option<u32> {
    let (place, notes) = (Place::new(), Notes::new());
    let domain = &place.domain;
    fs::create_dir(notes.directory.join("steps")).unwrap();
    let builder = || {
        let program = program().env(NOTES, &notes.directory);
        let program = if what == Serve { program.env(BUDGET, step.to_string()) } else { program };
        builder(domain, what).worker(program)
    };
    let victim = || process("victim", what, step, &place, &notes);
    let doomed = || {
        let mut doomed = process("doomed", what, step, &place, &notes);
        assert_eq!(doomed.hear(), "connected");
        doomed
    };
    let (mut calls, mut before) = (None, None);
    let mut crashed = 0;
    let said = match what {
        Start => victim().hear_if_any(),
        Adopt => {
            let mut first = process("first", what, step, &place, &notes);
            assert_eq!(first.hear(), "up");
            let client = before.insert(client(domain));
            call(client, 10, Priority::Low);
            call(client, 11, Priority::High);
            let mut doomed = doomed();
            first.kill();
            calls = Some(Calls::send(client));
            soon("a worker is dead", || one_is_dead(&notes));
            doomed.kill();
            victim().hear_if_any()
        }
        Recover => {
            let mut victim = victim();
            assert_eq!(victim.hear(), "up");
            let client = before.insert(client(domain));
            call(client, 10, Priority::Low);
            let mut doomed = doomed();
            victim.expect("go", "goes");
            calls = Some(Calls::send(client));
            doomed.kill();
            victim.hear_if_any()
        }
        Stop => {
            let mut victim = victim();
            assert_eq!(victim.hear(), "up");
            call(before.insert(client(domain)), 10, Priority::Low);
            victim.tell("go");
            let said = victim.hear_if_any();
            if said.as_deref() == Some("goes") { victim.hear_if_any() } else { said }
        }
        Serve | Connect => None,
    };
    // Whatever the victim was, it is dead now.
    let server = begin(&builder);
    let said = match what {
        Connect => {
            server.wait_until_up(PATIENCE).unwrap();
            let mut victim = victim();
            let said = victim.hear_if_any();
            if said.is_some() {
                victim.end();
            }
            said
        }
        Serve => {
            let client = client(domain);
            let calls: Vec<(u64, Call)> = (2..6)
                .map(|id| (id, client.call_async(ECHO, &payload(id, 0), Priority::Low).unwrap()))
                .collect();
            for (id, call) in calls {
                match call.wait(PATIENCE) {
                    Ok(reply) => assert_eq!(reply, payload(id, 0)),
                    Err(CallError::WorkerCrashed { .. }) => crashed += 1,
                    Err(error) => panic!("call {id}: {error}"),
                }
            }
            None
        }
        _ => said,
    };
    server.wait_until_up(PATIENCE).unwrap();
    let has_calls = calls.is_some();
    if let Some(calls) = calls {
        calls.end();
    }
    drop(before);
    // All places of clients, and workers of both groups.
    let all: Vec<Client> = (0..3).map(|_| client(domain)).collect();
    for (client, id) in all.iter().zip((100..).step_by(2)) {
        for (id, priority) in [(id, Priority::Low), (id + 1, Priority::High)] {
            if what == Serve {
                crashed += u32::from(call_of_the_dying(client, id, priority));
            } else {
                call(client, id, priority);
            }
        }
    }
    drop(all);
    assert!(crashed <= 1, "{crashed} calls had been begun");
    let mut runs = notes.lines("runs");
    let count = runs.len();
    runs.sort();
    runs.dedup();
    assert_eq!(runs.len(), count, "something ran twice");
    let letters = server.letters().unwrap();
    letters.iter().for_each(|letter| assert!(server.drop_letter(letter.key).unwrap()));
    match what {
        // One for the deadly call, and none for those that were killed beside it.
        Adopt | Recover => {
            assert!(has_calls && letters.len() == 1, "{letters:?}");
            assert_eq!(id_of(&letters[0].payload), 1);
        }
        Serve => assert_eq!(letters.len(), crashed as usize, "{letters:?}"),
        _ => assert!(letters.is_empty(), "{letters:?}"),
    }
    server.stop(PATIENCE).unwrap();
    nothing_stays(&place);
    let steps = if what == Serve { notes.lines("steps").pop() } else { said };
    steps.map(|said| {
        let steps = said.strip_prefix("survived ").unwrap_or(&said);
        steps.parse().unwrap_or_else(|_| panic!("{said}"))
    })
}

/// A supervisor that is killed later.
pub fn first(domain: &Domain) {
    let server = begin(&|| builder(domain, operation(&variable(WHAT))));
    server.wait_until_up(PATIENCE).unwrap();
    say("up");
    told();
}

/// A client that is killed later, with a call in flight and one that was answered.
pub fn doomed(domain: &Domain) {
    let client = client(domain);
    call(&client, 30, Priority::Low);
    let _kept = client.call_async(ECHO, &payload(31, 0), Priority::High).unwrap();
    say("connected");
    told();
}
