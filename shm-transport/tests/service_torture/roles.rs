//! The other processes: supervisors, workers, and clients.

use crate::common::child::say;
use crate::help::*;
use shm_transport::domain::Domain;
use shm_transport::segment::SegmentError;
use shm_transport::service::{
    Call, CallError, Client, ConnectError, HandlerError, Priority, Reply, Request, Server,
    ServerError, Worker, WorkerError,
};
use std::io::stdin;
use std::path::{Path, PathBuf};
use std::process::exit;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// Not a test, but what the tests start.
#[test]
fn role() {
    let Some(notes) = std::env::var_os(NOTES).map(PathBuf::from) else { return };
    alarm();
    if Worker::is_started() {
        #[cfg(crash_points)]
        let ended = crate::crashes::work(&notes, || work(&notes));
        #[cfg(not(crash_points))]
        let ended = work(&notes);
        match ended {
            Ok(()) => exit(0),
            Err(error) => exit(error.exit_code().into()),
        }
    }
    let directory = std::env::var_os(DIRECTORY).unwrap();
    let domain = Domain::new("test").unwrap().in_directory(directory);
    match &*std::env::var(ROLE).unwrap() {
        "server" => supervise(&domain, &notes),
        "client" => call(&domain, &notes),
        #[cfg(crash_points)]
        "victim" => crate::crashes::victim(&domain),
        #[cfg(crash_points)]
        "first" => crate::crashes::first(&domain),
        #[cfg(crash_points)]
        "doomed" => crate::crashes::doomed(&domain),
        "soak" => {
            crate::soak::client(&domain);
            exit(0);
        }
        other => panic!("{other}"),
    }
}

/// What it is told next; none if nobody is there to tell.
pub fn told() -> Option<String> {
    let mut line = String::new();
    let length = stdin().read_line(&mut line).unwrap();
    (length > 0).then(|| line.trim().into())
}

fn work(notes: &Path) -> Result<(), WorkerError> {
    let pid = std::process::id();
    Note::create(notes, "workers", pid);
    let runs: &Note = Box::leak(Box::new(Note::create(notes, "runs", pid)));
    // Before anything else: what is not written was not run.
    let noted = |run: fn(&Request<'_>, Reply<'_>) -> Result<(), HandlerError>| {
        move |request: &Request<'_>, reply: Reply<'_>| {
            runs.write(format_args!("{} {}", id_of(request), request.function()));
            run(request, reply)
        }
    };
    let die = || {
        // SAFETY: a system call without memory, to this process.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        unreachable!("killed")
    };
    Worker::attach_from_env()?
        .on(ECHO, noted(|request, reply| reply.send(request)))?
        .on(AGAIN, noted(|request, reply| reply.send(request)))?
        .on(
            SLEEP,
            noted(|request, mut reply| {
                reply.accepted()?;
                let (begun, time) = (Instant::now(), Duration::from_millis(id_of(request) % 5));
                while begun.elapsed() < time && !request.is_cancelled() {
                    thread::sleep(Duration::from_micros(300));
                }
                reply.send(request)
            }),
        )?
        .on(FAIL, noted(|request, _| Err(HandlerError::new(request.payload()))))?
        .on(DIE, {
            move |request: &Request<'_>, _: Reply<'_>| {
                runs.write(format_args!("{} {DIE}", id_of(request)));
                die()
            }
        })?
        .on(DIE_AGAIN, {
            move |request: &Request<'_>, reply: Reply<'_>| {
                runs.write(format_args!("{} {DIE_AGAIN}", id_of(request)));
                if (u64::from(pid) + id_of(request)).is_multiple_of(3) {
                    return reply.send(request);
                }
                die()
            }
        })?
        .run()
}

/// A server that does what it is told, until it is killed.
fn supervise(domain: &Domain, notes: &Path) {
    let begun = Instant::now();
    let server: Server =
        loop {
            match server(domain).start() {
                Ok(server) => break server,
                // Somebody who is stopped has a lock; or one whose end was just noticed.
                Err(
                    ServerError::InUse { .. } | ServerError::Segment(SegmentError::Busy { .. }),
                ) if begun.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(1)),
                Err(error) => panic!("the server starts: {error}"),
            }
        };
    say("started");
    thread::scope(|scope| {
        while let Some(order) = told() {
            match &*order {
                "roll" => {
                    // Its end, or what it says of workers that die meanwhile, is nobody's matter.
                    scope.spawn(|| server.rolling_restart());
                }
                "up" => {
                    server.wait_until_up(PATIENCE).unwrap();
                    say("up");
                }
                "letters" => {
                    let note = Note::create(notes, "letters", std::process::id());
                    for letter in server.letters().unwrap() {
                        note.write(format_args!("{} {}", id_of(&letter.payload), letter.function));
                        assert!(server.drop_letter(letter.key).unwrap());
                    }
                    say("letters");
                }
                "stop" => {
                    server.stop(PATIENCE).unwrap();
                    say("stopped");
                }
                other => panic!("{other}"),
            }
        }
    });
    exit(0);
}

/// A client process: two threads that share a client, and two that have clones. Its orders are its
/// number, its seed, and then the end.
fn call(domain: &Domain, notes: &Path) {
    let order = told().unwrap();
    let (process, seed) = order.split_once(' ').unwrap();
    let process: u64 = process.parse().unwrap();
    let mut random = Random::new(seed.parse().unwrap());
    let client = Client::builder(SERVICE)
        .in_domain(domain.clone())
        .connect_timeout(PATIENCE)
        .connect()
        .unwrap_or_else(|error| panic!("client {process} connects: {error}"));
    let (one, other) = (client.clone(), client.clone());
    say("connected");
    let parties = AtomicU64::new(0);
    let quiet = notes.join("quiet");
    thread::scope(|scope| {
        for client in [&client, &client, &one, &other] {
            let number = process << 32 | parties.fetch_add(1, Relaxed) << 28;
            let random = Random::new(random.below(1 << 40));
            let note = Note::create(notes, "calls", format_args!("{process}-{number}"));
            let mut party = Party { client, random, note, last: number, kept: Vec::new() };
            let quiet = &quiet;
            scope.spawn(move || {
                while !quiet.exists() {
                    party.act();
                }
                party.settle();
            });
        }
    });
    drop((client, one, other));
    say("done");
    told();
    exit(0);
}

struct Party<'c> {
    client: &'c Client,
    random: Random,
    note: Note,
    /// The last call's number.
    last: u64,
    kept: Vec<(u64, u32, Vec<u8>, Call)>,
}

impl Party<'_> {
    /// A new call, written down.
    fn begin(&mut self, function: u32) -> (u64, Vec<u8>) {
        self.last += 1;
        let id = self.last;
        self.note.write(format_args!("begin {id} {function}"));
        let length = match self.random.below(4) {
            0 => self.random.below(u64::from(LONGEST) - 8),
            _ => self.random.below(32),
        };
        (id, payload(id, length as usize))
    }

    /// What became of it, written down.
    fn end(&self, id: u64, payload: &[u8], result: Result<Vec<u8>, CallError>, is_short: bool) {
        let what = match result {
            Ok(reply) => {
                assert_eq!(reply, payload, "the reply to {id}");
                "ok"
            }
            Err(CallError::Failed { message }) => {
                assert!(payload.starts_with(&message) && message.len() >= 8, "{id}: {message:?}");
                "failed"
            }
            Err(CallError::UnknownFunction { function: NOBODY }) => "unknown",
            Err(CallError::WorkerCrashed { .. }) => "crashed",
            Err(CallError::TimedOut { .. } | CallError::Unattended { .. }) if is_short => "late",
            Err(CallError::Full { .. }) => "full",
            Err(CallError::Disconnected(error))
                if is_short
                    || matches!(
                        *error,
                        ConnectError::Segment(SegmentError::Busy { .. })
                            | ConnectError::PlacesTaken { .. }
                            | ConnectError::NotReady { .. }
                    ) =>
            {
                "disconnected"
            }
            Err(error) => panic!("call {id}: {error:?}"),
        };
        self.note.write(format_args!("end {id} {what}"));
    }

    fn function(&mut self) -> u32 {
        match self.random.below(1000) {
            0..4 => DIE,
            4..7 => DIE_AGAIN,
            7..100 => AGAIN,
            100..130 => SLEEP,
            130..200 => FAIL,
            200..210 => NOBODY,
            _ => ECHO,
        }
    }

    fn priority(&mut self) -> Priority {
        if self.random.below(4) == 0 { Priority::High } else { Priority::Low }
    }

    fn act(&mut self) {
        match self.random.below(100) {
            0..50 => {
                let (function, priority) = (self.function(), self.priority());
                let is_short = self.random.below(10) == 0;
                let time = if is_short { self.random.milliseconds(3) } else { PATIENCE };
                let (id, payload) = self.begin(function);
                let result = self.client.call(function, &payload, priority, time);
                self.end(id, &payload, result, is_short);
            }
            50..80 => {
                for _ in 0..self.random.below(20) {
                    let (function, priority) = (self.function(), self.priority());
                    let (id, payload) = self.begin(function);
                    match self.client.call_async(function, &payload, priority) {
                        Ok(call) => self.kept.push((id, function, payload, call)),
                        Err(error) => self.end(id, &payload, Err(error), true),
                    }
                }
            }
            80..85 => {
                let mut batch = match self.client.batch(Priority::Low) {
                    Ok(batch) => batch,
                    Err(_) => return,
                };
                let mut added = Vec::new();
                for _ in 0..self.random.below(30) {
                    let function = self.function();
                    let (id, payload) = self.begin(function);
                    match batch.add(function, &payload) {
                        Ok(()) => added.push((id, function, payload)),
                        Err(error) => self.end(id, &payload, Err(error), true),
                    }
                }
                for ((id, function, payload), call) in added.into_iter().zip(batch.send()) {
                    self.kept.push((id, function, payload, call));
                }
            }
            85..90 => {
                // Cancelled, wherever they are.
                let from = self.random.below(1 + self.kept.len() as u64) as usize;
                for (id, ..) in self.kept.split_off(from) {
                    self.note.write(format_args!("end {id} dropped"));
                }
            }
            _ => self.settle(),
        }
    }

    /// Waits for all calls in flight.
    fn settle(&mut self) {
        for (id, _, payload, call) in std::mem::take(&mut self.kept) {
            let result = call.wait(PATIENCE);
            self.end(id, &payload, result, false);
        }
    }
}
