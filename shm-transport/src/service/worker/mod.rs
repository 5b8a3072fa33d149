//! Workers: processes that run a service's functions.
//!
//! A worker is started by a server, which tells it in its environment which one it is, and serves
//! until it is told to leave:
//!
//! ```no_run
//! use shm_transport::service::{HandlerError, Reply, Request, Worker};
//! use std::process::ExitCode;
//!
//! fn sum(request: &Request<'_>, reply: Reply<'_>) -> Result<(), HandlerError> {
//!     let sum: u64 = request.iter().map(|byte| u64::from(*byte)).sum();
//!     reply.send(&sum.to_le_bytes())
//! }
//!
//! fn main() -> ExitCode {
//!     Worker::main(|worker| {
//!         worker
//!             .on(1001, |request: &Request, reply: Reply| reply.send(request.payload()))?
//!             .on(1002, sum)?
//!             .run()
//!     })
//! }
//! ```
//!
//! # What it does
//!
//! It takes its *place* in the service, for which nobody but the worker of this *incarnation* is
//! wanted, and has a lane from each client then, in the client's own segment, which it maps when
//! the client first calls. It serves the lanes in turn, up to 32 calls each, in one thread: looks
//! at a request, notes it in its monitor, copies it, runs the handler, puts its answer into the
//! client's memory, and goes on. It never waits for a client: there is room for each answer, or the client had not
//! been able to ask.
//!
//! While its supervisor says so it helps at another place too, whose worker is dead or that has
//! none: it serves that one's lanes, and gives them back after. As long as a helper is asked for, a
//! place's own worker, should there be one, leaves all of that to it. Where lanes of VIP places are among
//! them, those come first, and wait for one normal call at the most.
//!
//! Ordered to leave, it finishes the call in hand, gives back lanes and place, with whatever
//! waits there, and [`run`](Worker::run) returns. A supervisor that dies changes nothing.
//!
//! # Who crashes
//!
//! | what | what becomes of it |
//! |---|---|
//! | a handler returns an error | the caller gets it |
//! | a handler panics | the caller is told so, with the panic's message; the worker goes on |
//! | the process ends in a handler: a signal, an exit, out of memory, `panic = "abort"` | the call in hand is poison and is not run again, its caller is told; calls that wait are served by the next worker |
//! | it ends between two calls | nothing is lost |
//! | a client dies | what it had asked for is answered into memory that nobody reads, until its place is put away |
//!
//! The monitor's start is in nanoseconds of `CLOCK_MONOTONIC_COARSE`, which all processes of the
//! machine have in common, in steps of some milliseconds. That clock is read once for each call,
//! and so counts the time that handlers take, too: of a short call, mostly 0 and now and then a
//! step.
//!
//! # Threads and forks
//!
//! A worker runs in the thread that calls [`run`](Worker::run), and so do its handlers. A child
//! that a handler makes by `fork` has none of the service's memory: it must not touch request and
//! reply; should the handler return there, `run` returns [`WorkerError::Forked`].

pub(in crate::service) mod assignment;
mod error;
mod handlers;
mod lanes;
mod post;
mod reply;
mod request;
mod ringer;
mod serve;

#[cfg(test)]
mod tests;

pub(in crate::service) use assignment::Assignment;
pub use error::{HandlerError, WorkerError};
pub use reply::{Reply, ReplyGrant};
pub use request::Request;

use super::core;
use crate::config::Wait;
use post::Post;
use serve::Desk;
use shm_primitives::layout::service::Order;
use shm_primitives::segment::SegmentError;
use std::error::Error;
use std::process::ExitCode;

/// A worker of a service, in its place, that has not begun to serve. Dropping it gives the place
/// back. See the [module](self).
#[derive(Debug)]
pub struct Worker {
    /// `None` of one that was not wanted any more when it came.
    desk: Option<Desk>,
    place: u32,
    wait: Wait,
    core: Option<usize>,
}

impl Worker {
    /// Whether this process was started as a worker.
    #[must_use]
    pub fn is_started() -> bool {
        std::env::var_os(assignment::WORKER).is_some()
    }

    /// What `main` of a worker's program does and returns: takes the place that this process was
    /// started for, has `work` serve there, and says on standard error what has gone wrong, if
    /// anything has. The exit code tells the server whether to try again: 78
    /// ([`EXIT_NEVER`](super::EXIT_NEVER)) for a [`WorkerError`] that would be the same each time,
    /// such as a function registered twice; 1 for any other error.
    ///
    /// ```no_run
    /// use shm_transport::service::{Reply, Request, Worker};
    ///
    /// fn main() -> std::process::ExitCode {
    ///     Worker::main(|worker| {
    ///         let model = std::fs::read("/var/lib/solver/model")?; // not there: tried again
    ///         let worker = worker.on(1001, move |_: &Request, reply: Reply| reply.send(&model))?;
    ///         worker.run()?;
    ///         Ok::<_, Box<dyn std::error::Error>>(())
    ///     })
    /// }
    /// ```
    pub fn main<E>(work: impl FnOnce(Self) -> Result<(), E>) -> ExitCode
    where
        E: Into<Box<dyn Error>>,
    {
        let served = match Self::attach_from_env() {
            Ok(worker) => work(worker).map_err(Into::into),
            Err(error) => Err(error.into()),
        };
        conclude(served).into()
    }

    /// Takes the place that this process was started for. [`main`](Self::main) does that, too, and
    /// says what was wrong.
    ///
    /// If the service is just being stopped, or the place was given up since, there is nothing to do
    /// and nothing wrong: [`run`](Self::run) returns at once then.
    ///
    /// # Errors
    ///
    /// See [`WorkerError`]; nothing is kept then.
    pub fn attach_from_env() -> Result<Self, WorkerError> {
        Self::attach(Assignment::from_environment()?)
    }

    /// Takes that place.
    pub(in crate::service) fn attach(assignment: Assignment) -> Result<Self, WorkerError> {
        let place = assignment.place;
        let desk = match Post::take(assignment) {
            Ok(post) => {
                let places = post.shape().workers();
                Some(Desk::new(post).ok_or(WorkerError::NoPlace { place, places })?)
            }
            Err(error) if is_over(&error) => {
                tracing::info!(target: "shm_transport::service", place, %error, "not wanted any more");
                None
            }
            Err(error) => return Err(error),
        };
        Ok(Self { desk, place, wait: Wait::default(), core: None })
    }

    /// Which place it has, from 0.
    #[must_use]
    pub fn place(&self) -> u32 {
        self.place
    }

    /// Calls of function `func_id`, a number above 1000, run `handler`.
    ///
    /// # Errors
    ///
    /// `Reserved`, `Registered`.
    pub fn on<F>(mut self, func_id: u32, handler: F) -> Result<Self, WorkerError>
    where
        F: FnMut(&Request<'_>, Reply<'_>) -> Result<(), HandlerError> + 'static,
    {
        if let Some(desk) = &mut self.desk {
            desk.handlers().register(func_id, Box::new(handler))?;
        }
        Ok(self)
    }

    /// How it waits for calls; adaptively unless something else is said. One that polls never
    /// sleeps, and spares its clients the look whether it does.
    #[must_use]
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// Trusts the clients: requests are read where they lie, and [granted](Reply::grant) replies
    /// written where they are read. Otherwise each is copied once, between the client's memory and
    /// the worker's own; for calls of 48 bytes no difference was to be seen.
    ///
    /// # Safety
    ///
    /// No client writes to a request that it has sent, or to where replies stand: a handler would
    /// see slices change under its hands. Clients of this crate do not; what else a process does
    /// that may open the service's segments is for the caller to know.
    #[must_use]
    pub unsafe fn trusted(mut self) -> Self {
        if let Some(desk) = &mut self.desk {
            desk.trust();
        }
        self
    }

    /// The core that it runs on, from 0, and on no other. Its server can say that as well, for any
    /// program: [`pin_workers`](super::ServerBuilder::pin_workers).
    #[must_use]
    pub fn pin_to(mut self, core: usize) -> Self {
        self.core = Some(core);
        self
    }

    /// Serves, until the supervisor orders it to leave, or the service is stopped.
    ///
    /// # Errors
    ///
    /// `Pin`; `NotWanted` if another worker was started in its place meanwhile; `Forked`. In each
    /// case it has left.
    pub fn run(self) -> Result<(), WorkerError> {
        let Self { desk: Some(desk), wait, core, .. } = self else { return Ok(()) };
        if let Some(core) = core {
            // This thread alone, in which the handlers run.
            core::pin(core).map_err(|source| WorkerError::Pin { core, source })?;
        }
        desk.run(wait)
    }
}

/// What a worker's process exits with. Says what has gone wrong, if anything has.
pub(in crate::service) fn conclude(served: Result<(), Box<dyn Error>>) -> u8 {
    let Err(error) = served else { return 0 };
    match std::env::var_os(assignment::SERVICE) {
        Some(service) => eprintln!("worker of {}: {error}", service.display()),
        None => eprintln!("{error}"),
    }
    let mut cause: Option<&(dyn Error + 'static)> = Some(&*error);
    while let Some(error) = cause {
        if let Some(known) = error.downcast_ref::<WorkerError>() {
            return known.exit_code();
        }
        cause = error.source();
    }
    1
}

/// Whether it says that a worker came when its place, or the whole service, was just being given up.
fn is_over(error: &WorkerError) -> bool {
    match error {
        WorkerError::Layout { error: SegmentError::Closing { .. }, .. } => true,
        WorkerError::NotWanted { started, wanted, order, .. } => {
            started == wanted && *order != Order::Run
        }
        _ => false,
    }
}
