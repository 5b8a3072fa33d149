//! Clients, with the supervisor by hand, and workers that are real ones in threads or by hand too.

mod calls;
mod connecting;
mod deaths;
mod deserted;
mod hand;
mod lanes;
mod waiting;

use super::super::bare::Bare;
use super::super::worker::{HandlerError, Reply, Request, Worker, WorkerError};
use super::*;
use crate::config::Wait;
use shm_primitives::layout::phoenix::GroupShape;
use shm_primitives::layout::service::Shape;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

const SHAPE: Shape = Shape::new(GroupShape::new(2, 64), GroupShape::new(1, 16)).clients(8);
/// Longer than anything here takes on a machine that has other things to do.
const LONG: Duration = Duration::from_secs(60);
/// Short.
const SHORT: Duration = Duration::from_millis(20);

const ECHO: u32 = 1001;
const WHERE: u32 = 1002;
const FAIL: u32 = 1003;
const PANIC: u32 = 1004;
const LARGE: u32 = 1005;
const REPORTS: u32 = 1006;
/// Does not return before the gate is open.
const GATED: u32 = 1007;

type Running = JoinHandle<Result<(), WorkerError>>;

/// What handlers wait at.
#[derive(Clone, Debug, Default)]
struct Gate {
    is_open: Arc<AtomicBool>,
    /// A handler waits.
    is_met: Arc<AtomicBool>,
    /// A handler that waits has seen that its call was cancelled.
    saw_cancel: Arc<AtomicBool>,
}

impl Gate {
    fn open(&self) {
        self.is_open.store(true, Ordering::Relaxed);
    }

    fn wait(&self, request: &Request<'_>) {
        self.is_met.store(true, Ordering::Relaxed);
        while !self.is_open.load(Ordering::Relaxed) {
            if request.is_cancelled() {
                self.saw_cancel.store(true, Ordering::Relaxed);
            }
            thread::sleep(Duration::from_micros(200));
        }
    }

    #[track_caller]
    fn meet(&self) {
        soon("a handler waits", || self.is_met.swap(false, Ordering::Relaxed));
    }
}

use super::super::bare::soon;

fn prepare(worker: Worker, gate: Gate) -> Worker {
    let place = worker.place();
    let worker =
        worker.on(ECHO, |request: &Request<'_>, reply: Reply<'_>| reply.send(request.payload()));
    let worker = worker.and_then(|worker| {
        worker.on(WHERE, move |_: &Request<'_>, reply: Reply<'_>| reply.send(&place.to_le_bytes()))
    });
    let worker = worker.and_then(|worker| {
        worker.on(FAIL, |_: &Request<'_>, _: Reply<'_>| Err(HandlerError::new("no")))
    });
    let worker = worker
        .and_then(|worker| worker.on(PANIC, |_: &Request<'_>, _: Reply<'_>| panic!("on purpose")));
    let worker = worker.and_then(|worker| {
        worker.on(LARGE, |_: &Request<'_>, reply: Reply<'_>| reply.send(&[0; 65]))
    });
    let worker = worker.and_then(|worker| {
        worker.on(REPORTS, |_: &Request<'_>, mut reply: Reply<'_>| {
            reply.accepted()?;
            for step in 0..5u32 {
                reply.progress(&step.to_le_bytes())?;
                thread::sleep(Duration::from_millis(3));
            }
            reply.send(b"done")
        })
    });
    let worker = worker.and_then(|worker| {
        worker.on(GATED, move |request: &Request<'_>, reply: Reply<'_>| {
            gate.wait(request);
            reply.send(&place.to_le_bytes())
        })
    });
    worker.unwrap()
}

fn start_with(bare: &Bare, place: u32, gate: &Gate, wait: Wait) -> Running {
    bare.run(place, 1);
    let (assignment, gate) = (bare.assignment(place, 1), gate.clone());
    let thread = thread::spawn(move || prepare(Worker::attach(assignment)?, gate).wait(wait).run());
    bare.wait_serving(place, 1);
    thread
}

fn start(bare: &Bare, place: u32, gate: &Gate) -> Running {
    start_with(bare, place, gate, Wait::Adaptive)
}

#[track_caller]
fn stop(bare: &Bare, place: u32, worker: Running) {
    bare.drain(place);
    worker.join().unwrap().unwrap();
}

fn builder(bare: &Bare) -> ClientBuilder {
    Client::builder("math").in_domain(bare.domain.clone()).connect_timeout(LONG)
}

fn connect(bare: &Bare) -> Client {
    builder(bare).connect().unwrap()
}

fn number(bytes: Vec<u8>) -> u32 {
    u32::from_le_bytes(bytes.try_into().unwrap())
}

/// Where a call of that priority goes now.
#[track_caller]
fn place_of(client: &Client, priority: Priority) -> u32 {
    number(client.call(WHERE, b"", priority, LONG).unwrap())
}
