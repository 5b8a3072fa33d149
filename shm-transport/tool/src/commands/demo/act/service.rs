//! Step 5: a service, one worker of which is killed with a call in hand.

use crate::commands::demo::cast::Stage;
use crate::commands::demo::check::Check;
use crate::commands::demo::options::Part;
use crate::commands::demo::talk::{PATIENCE, TOLD, now};
use crate::commands::demo::{show_checks, step, text};
use crate::failure::Failure;
use crate::output::{Cell, FAINT, Report, Table};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use shm_primitives::layout::service::Condition;
use shm_transport::service::{
    Call, CallError, Cause, Client, HandlerError, Priority, Program, Reply, Request, Server,
    Worker, WorkerInfo,
};

use std::io::{self, Write};
use std::thread;
use std::time::Duration;

const NAME: &str = "squares";
/// Answers with the square of a number.
const SQUARE: u32 = 1001;
/// Says which process has it in hand, and keeps it there.
const HOLD: u32 = 1002;
/// Workers.
const WORKERS: u32 = 2;
/// Calls before anybody is killed, and those that are under way when somebody is.
const WARM: u64 = 2000;
const UNDER_WAY: u64 = 200;
/// Calls that are sent before the first is waited for.
const BATCH: u64 = 100;

/// What happened, in nanoseconds since the kill.
#[derive(Debug, Serialize)]
pub struct Service {
    workers: Vec<u32>,
    /// Calls a second while nobody died.
    calls_per_second: f64,
    killed: u32,
    successor: u32,
    /// Calls that were sent and had no reply when it was killed.
    waiting: u64,
    error_after: u64,
    error: String,
    up_after: u64,
    answered_after: u64,
    sent: u64,
    answered: u64,
    /// Calls that the workers say they have answered.
    processed: u64,
    letters: usize,
    pub checks: Vec<Check>,
}

/// What a worker of the service is.
pub fn serve() -> Result<(), Failure> {
    let square = |request: &Request<'_>, reply: Reply<'_>| match request.payload().try_into() {
        Ok(number) => reply.send(&square(u64::from_le_bytes(number)).to_le_bytes()),
        Err(_) => Err(HandlerError::new("a number is wanted")),
    };
    let hold = |request: &Request<'_>, mut reply: Reply<'_>| {
        reply.progress(&std::process::id().to_le_bytes())?;
        while !request.is_cancelled() {
            thread::sleep(Duration::from_millis(1));
        }
        reply.send(&[])
    };
    Worker::attach_from_env()
        .and_then(|worker| worker.on(SQUARE, square)?.on(HOLD, hold)?.run())
        .map_err(Failure::because)
}

fn square(number: u64) -> u64 {
    number.wrapping_mul(number)
}

/// Calls under way, and what they should answer.
#[derive(Default)]
struct Calls {
    calls: Vec<(u64, Call)>,
    sent: u64,
    answered: u64,
}

impl Calls {
    fn send(&mut self, client: &Client) -> Result<(), Failure> {
        let call = client.call_async(SQUARE, &self.sent.to_le_bytes(), Priority::Low);
        self.calls.push((self.sent, call.map_err(Failure::because)?));
        self.sent += 1;
        Ok(())
    }

    /// Waits for all of them.
    fn finish(&mut self) -> Result<(), Failure> {
        for (number, call) in self.calls.drain(..) {
            let reply = call.wait(PATIENCE).map_err(Failure::because)?;
            self.answered += u64::from(reply == square(number).to_le_bytes());
        }
        Ok(())
    }

    /// Those that have no reply yet.
    fn waiting(&mut self) -> u64 {
        let mut waiting = Vec::new();
        for (number, mut call) in self.calls.drain(..) {
            match call.try_wait() {
                Some(Ok(reply)) => {
                    self.answered += u64::from(reply == square(number).to_le_bytes())
                }
                Some(Err(_)) => {}
                None => waiting.push((number, call)),
            }
        }
        self.calls = waiting;
        self.calls.len() as u64
    }
}

/// Has a service of two workers called, and kills one of them.
pub fn service(stage: &Stage) -> Result<Service, Failure> {
    let command = stage.part(&Part::Servant);
    let server = Server::builder(NAME)
        .in_domain(stage.domain.clone())
        .worker(Program::new(command.get_program()).args(command.get_args()))
        .workers(WORKERS)
        .vip_workers(0)
        .clients(4)
        .die_with_server(true)
        .start()?;
    server.wait_until_up(PATIENCE)?;
    let client = server.client().map_err(Failure::because)?;
    let workers: Vec<u32> = server.workers().iter().filter_map(|it| it.pid).collect();

    let (mut calls, begun) = (Calls::default(), now());
    while calls.sent < WARM {
        for _ in 0..BATCH {
            calls.send(&client)?;
        }
        calls.finish()?;
    }
    let calls_per_second = text::rate(WARM, now() - begun);

    let held = client.call_async(HOLD, &[], Priority::Low).map_err(Failure::because)?;
    let report = held.wait_progress(PATIENCE).unwrap_or_default();
    let killed = report.try_into().map(u32::from_le_bytes).map_err(|_| {
        Failure::because("the service's worker has said nothing: is the machine overloaded?")
    })?;
    for _ in 0..UNDER_WAY {
        calls.send(&client)?;
    }
    // The other one answers its share, and nobody what waits for this one.
    let mut waiting = u64::MAX;
    loop {
        thread::sleep(Duration::from_millis(20));
        let still = calls.waiting();
        if still == waiting {
            break;
        }
        waiting = still;
    }

    let kill = now();
    let pid = i32::try_from(killed).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| Failure::because("a worker without a process"))?;
    kill_process(pid, Signal::KILL)?;
    let error = match held.wait(PATIENCE) {
        Ok(_) => return Err(Failure::because("a call was answered by a dead worker")),
        Err(error) => error,
    };
    let error_after = now() - kill;
    let successor = loop {
        let places = server.workers();
        let other = |it: &&WorkerInfo| it.pid.is_some_and(|pid| !workers.contains(&pid));
        match places.iter().find(other) {
            Some(it) if it.condition == Condition::Up => break it.pid.unwrap_or(0),
            _ if now() - kill > PATIENCE.as_nanos() as u64 => break 0,
            _ => thread::sleep(Duration::from_micros(100)),
        }
    };
    let up_after = now() - kill;
    calls.finish()?;
    let answered_after = now() - kill;

    let letters = server.letters()?;
    // A worker counts what it has answered just after it has.
    let processed = || server.workers().iter().map(|it| it.processed).sum::<u64>();
    let begun = now();
    while processed() < calls.sent && now() - begun < PATIENCE.as_nanos() as u64 {
        thread::sleep(Duration::from_millis(1));
    }
    let processed = processed();
    for letter in &letters {
        server.drop_letter(letter.key)?;
    }
    drop(client);
    let stopped = server.stop(PATIENCE);
    let cause = Cause::Signalled(Signal::KILL.as_raw());
    let is_told =
        matches!(&error, CallError::WorkerCrashed { cause: found, .. } if *found == cause);
    let Calls { sent, answered, .. } = calls;
    let checks = vec![
        Check::new(
            is_told && error_after < TOLD,
            "whose call it had in hand was told, and what the worker died of",
        ),
        Check::new(
            successor != 0 && waiting > 0 && (answered, processed) == (sent, sent),
            "every other call was answered once, and right, also those that waited for it",
        ),
        Check::new(
            letters.len() == 1 && letters.iter().all(|it| it.function == HOLD),
            "the call that it died with is kept as a dead letter, and was not run again",
        ),
        Check::new(stopped.is_ok(), "the service stopped when it was told to"),
    ];
    Ok(Service {
        workers,
        calls_per_second,
        killed,
        successor,
        waiting,
        error_after,
        error: error.to_string(),
        up_after,
        answered_after,
        sent,
        answered,
        processed,
        letters: letters.len(),
        checks,
    })
}

impl Report for Service {
    fn show(&self, page: &mut dyn Write) -> io::Result<()> {
        step(page, 5, "A service of two workers is called, and one is killed with a call in hand")?;
        let before = format!(
            "{} calls before, {}",
            text::count(WARM),
            text::messages(self.calls_per_second)
        );
        let up = format!("process {} serves in its place", self.successor);
        let killed =
            format!("kill -9 {}: {} calls waited for it", self.killed, text::count(self.waiting));
        let mut events = vec![
            (0, killed),
            (self.error_after, format!("the caller gets an error: {}", self.error)),
            (self.up_after, up),
            (self.answered_after, "the last call that waited has its answer".into()),
        ];
        events.sort_by_key(|(at, _)| *at);
        let mut table = Table::bare();
        table.row([Cell::number(""), Cell::new(before)]);
        for (at, event) in events {
            table.row([Cell::number(format!("{:.2} ms", at as f64 / 1e6)), Cell::new(event)]);
        }
        table.show(page)?;
        let Self { sent, answered, processed, letters, .. } = self;
        writeln!(
            page,
            "  {FAINT}{} calls sent but that one, {} answered, {} counted by the workers; dead \
             letters: {letters}.{FAINT:#}",
            text::count(*sent),
            text::count(*answered),
            text::count(*processed),
        )?;
        show_checks(page, &self.checks)
    }
}
