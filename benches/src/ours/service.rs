//! Services: each worker and each client a process, in a domain that is a run's alone. The
//! workers are this program again.

use super::node::Place;
use crate::frame::Template;
use crate::measure::median;
use crate::pin::Cpus;
use crate::process::{self, Meeting, Work};
use crate::round_trip::Run;
use rustix::process::{Pid, Signal, kill_process};
use shm_transport::config::Wait;
use shm_transport::service::{
    Call, CallError, Client, HandlerError, Priority, Program, Reply, Request, Restart, Server,
    ServerBuilder, Worker, WorkerError,
};
use std::collections::VecDeque;
use std::env;
use std::hint::spin_loop;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

const NAME: &str = "bench";

/// Tells each worker its CPU: one for each place, with commas between.
const CPUS: &str = "BENCH_CPUS";
/// Tells the workers how to wait.
const WAIT: &str = "BENCH_WAIT";

const ECHO: u32 = 1001;
/// The number of the worker's process.
const PID: u32 = 1002;
/// Reports that it was begun, and never ends.
const HANG: u32 = 1003;
/// Keeps the CPU busy for a while.
const BUSY: u32 = 1004;

/// How long a call of `BUSY` takes.
const BUSY_FOR: Duration = Duration::from_micros(20);

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Calls of a window or a batch.
const WINDOW: usize = 64;

/// Calls that a latency under load is the median of.
const LOOKS: usize = 400;

/// Serves if this process was started as a worker, and says then how that went.
pub fn work() -> Option<ExitCode> {
    if !Worker::is_started() {
        return None;
    }
    Some(match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    })
}

fn serve() -> Result<(), WorkerError> {
    let worker = Worker::attach_from_env()?;
    let cpus = env::var(CPUS).expect("said by the server");
    let mut cpus = cpus.split(',');
    let cpu = cpus.nth(worker.place() as usize).expect("a CPU for each place");
    let wait = env::var(WAIT).expect("said by the server");
    worker
        .pin_to(cpu.parse().expect("a number"))
        .wait(wait.parse().expect("a way to wait"))
        .on(ECHO, |request: &Request, reply: Reply| reply.send(request.payload()))?
        .on(PID, |_: &Request, reply: Reply| reply.send(&std::process::id().to_le_bytes()))?
        .on(HANG, |_: &Request, mut reply: Reply| {
            reply.accepted()?;
            thread::sleep(PATIENCE);
            Err(HandlerError::new(b"nobody has killed it"))
        })?
        .on(BUSY, |_: &Request, reply: Reply| {
            let clock = Instant::now();
            while clock.elapsed() < BUSY_FOR {
                spin_loop();
            }
            reply.send(b"")
        })?
        .run()
}

/// A service of normal workers, a CPU for each. They die with it: a run may be killed.
fn service(place: &Place, wait: Wait, cpus: &[usize]) -> ServerBuilder {
    let cpus: Vec<String> = cpus.iter().map(ToString::to_string).collect();
    let program = Program::new(env::current_exe().expect("this program"))
        .env(CPUS, cpus.join(","))
        .env(WAIT, wait.to_string());
    Server::builder(NAME)
        .in_domain(place.domain().clone())
        .worker(program)
        .workers(cpus.len() as u32)
        .vip_workers(0)
        // VIP places stand behind the normal ones then, as the CPUs do.
        .spares(0)
        .die_with_server(true)
}

fn start(builder: ServerBuilder) -> Server {
    let server = builder.start().expect("a service");
    server.wait_until_up(PATIENCE).expect("workers that come up");
    server
}

fn client(place: &Place, wait: Wait) -> Client {
    let builder = Client::builder(NAME).in_domain(place.domain().clone());
    builder.connect_timeout(PATIENCE).wait(wait).connect().expect("a client")
}

fn stop(server: &Server) {
    server.stop(PATIENCE).expect("workers that end");
}

/// A client on the first CPU, whose process has the supervisor as well, that sleeps; a worker on
/// the second. Both poll.
fn polled(cpus: Cpus, time: impl FnOnce(&Client) -> Duration) -> Result<Duration, String> {
    let place = &Place::new()?;
    let client = Work::new(cpus.first, || {
        let server = start(service(place, Wait::Poll, &[cpus.second]));
        let client = client(place, Wait::Poll);
        let time = time(&client);
        drop(client);
        stop(&server);
        time.as_nanos() as u64
    });
    Ok(Duration::from_nanos(process::all(vec![client])?[0]))
}

fn check<const N: usize>(template: &Template<N>, number: u64, answer: &[u8]) {
    template.frame(number).check(answer.try_into().expect("as long as sent"));
}

/// Calls with frames of `N` bytes that come back as they were, one at a time.
///
/// # Errors
///
/// When a process cannot be started, or fails.
pub fn round_trip<const N: usize>(run: Run) -> Result<Duration, String> {
    polled(run.cpus, |client| {
        let template = Template::<N>::new();
        run.time_trips(|number| {
            let payload = template.frame(number).item::<N>();
            let answer = client.call(ECHO, &payload, Priority::Low, PATIENCE).expect("an answer");
            check(&template, number, &answer);
        })
    })
}

/// The same with so many in flight as there may be in a window; the oldest is waited for.
///
/// # Errors
///
/// When a process cannot be started, or fails.
pub fn in_flight<const N: usize>(run: Run) -> Result<Duration, String> {
    polled(run.cpus, |client| {
        let template = Template::<N>::new();
        let mut window: VecDeque<Call> = VecDeque::with_capacity(WINDOW);
        run.time_trips(|number| {
            if window.len() == WINDOW {
                let call = window.pop_front().expect("a full window");
                let answer = call.wait(PATIENCE).expect("an answer");
                check(&template, number - WINDOW as u64, &answer);
            }
            let payload = template.frame(number).item::<N>();
            let call = client.call_async(ECHO, &payload, Priority::Low).expect("room");
            window.push_back(call);
        })
    })
}

/// The same in batches of as many.
///
/// # Errors
///
/// When a process cannot be started, or fails.
pub fn batches<const N: usize>(run: Run) -> Result<Duration, String> {
    let batches = run.count.div_ceil(WINDOW as u64);
    let run_of_batches = Run { count: batches, ..run };
    let time = polled(run.cpus, |client| {
        let template = Template::<N>::new();
        run_of_batches.time_trips(|number| {
            let mut batch = client.batch(Priority::Low).expect("a service");
            for _ in 0..WINDOW {
                batch.add(ECHO, &template.frame(number).item::<N>()).expect("room");
            }
            for answer in batch.wait(PATIENCE) {
                check(&template, number, &answer.expect("an answer"));
            }
        })
    })?;
    Ok(time.mul_f64(run.count as f64 / (batches * WINDOW as u64) as f64))
}

/// What the time after a worker's death is taken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Until {
    /// Its caller has the error.
    Error,
    /// The next call is answered, by its successor.
    Serving,
}

/// From the killing of the only worker, with a call in hand, until that. Everybody sleeps
/// meanwhile; the supervisor has a process of its own.
///
/// # Errors
///
/// When a process cannot be started, or fails.
pub fn killed(cpus: Cpus, until: Until) -> Result<Duration, String> {
    let (place, meeting) = (&Place::new()?, &Meeting::new(2)?);
    let caller = || {
        meeting.wait();
        let client = client(place, Wait::Adaptive);
        let call = |function| client.call(function, b"", Priority::Low, PATIENCE);
        let pid = call(PID).expect("a worker's number");
        let pid = u32::from_le_bytes(pid.as_slice().try_into().expect("four bytes"));
        let pid = Pid::from_raw(pid as i32).expect("a process");
        let hanging = client.call_async(HANG, b"", Priority::Low).expect("room");
        hanging.wait_progress(PATIENCE).expect("a worker that has begun it");
        let clock = Instant::now();
        kill_process(pid, Signal::KILL).expect("a worker that lives");
        match hanging.wait(PATIENCE) {
            Err(CallError::WorkerCrashed { .. }) => {}
            other => panic!("a killed worker's call ended with {other:?}"),
        }
        if until == Until::Serving {
            call(ECHO).expect("a successor's answer");
        }
        let time = clock.elapsed();
        // Else the successor may be killed as it boots, which takes the supervisor its time.
        call(ECHO).expect("a successor's answer");
        drop(client);
        meeting.wait();
        time
    };
    process::pair(cpus, caller, || {
        // No limit: a death more is none of the run's figures.
        let restart = Restart { intensity: u32::MAX, pool: u32::MAX, ..Restart::default() };
        let server = start(service(place, Wait::Adaptive, &[cpus.second]).restart(restart));
        meeting.wait();
        meeting.wait();
        stop(&server);
    })
}

/// A VIP caller and its worker on the second CPU, the normal worker on the first. What a VIP call
/// takes in the median, while another client there floods the normal worker, or keeps still.
/// All sleep when they have nothing to do.
///
/// # Errors
///
/// When a process cannot be started, or fails.
pub fn vip(cpus: Cpus, is_flooded: bool) -> Result<Duration, String> {
    let (place, meeting) = (&Place::new()?, &Meeting::new(2)?);
    let caller = || {
        let builder = service(place, Wait::Block, &[cpus.first, cpus.second]);
        let server = start(builder.workers(1).vip_workers(1));
        let client = client(place, Wait::Block);
        let call = || {
            let clock = Instant::now();
            client.call(ECHO, &[1; 48], Priority::High, PATIENCE).expect("an answer");
            clock.elapsed().as_secs_f64()
        };
        meeting.wait();
        // The flood has risen by then.
        (0..LOOKS / 8).for_each(|_| _ = call());
        let time = median((0..LOOKS).map(|_| call()).collect());
        drop(client);
        // Ends the flood, too.
        stop(&server);
        Duration::from_secs_f64(time)
    };
    let flood = || {
        meeting.wait();
        if is_flooded {
            flood(place);
        }
    };
    let caller = Work::new(cpus.second, || caller().as_nanos() as u64);
    let flood = Work::new(cpus.first, || {
        flood();
        0
    });
    Ok(Duration::from_nanos(process::all(vec![caller, flood])?[0]))
}

/// Fills its lane to the normal worker, and keeps it full until the service is stopped.
fn flood(place: &Place) {
    let client = client(place, Wait::Block);
    let mut calls: VecDeque<Call> = VecDeque::new();
    loop {
        match client.call_async(BUSY, &[1; 48], Priority::Low) {
            Ok(call) => calls.push_back(call),
            Err(CallError::Full { .. }) => {
                let oldest = calls.pop_front().expect("a lane that others filled");
                match oldest.wait(PATIENCE) {
                    Ok(_) => {}
                    Err(CallError::ServiceGone) => return,
                    Err(error) => panic!("{error}"),
                }
            }
            Err(CallError::ServiceGone | CallError::Disconnected(_)) => return,
            Err(CallError::NoWorker { .. }) => return,
            Err(error) => panic!("{error}"),
        }
    }
}
