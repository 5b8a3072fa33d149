//! Servers: processes that start a service's workers and look after them.
//!
//! ```no_run
//! use shm_transport::service::{Function, Priority, Reply, Request, Server};
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::builder("math")
//!     .this_program() // or .worker("/usr/bin/solver")
//!     .workers(4)
//!     .on(1001, |request: &Request, reply: Reply| reply.send(request.payload()))
//!     .function(1001, Function::new().idempotent())
//!     .start()?; // the workers serve here, and never come further
//! server.wait_until_up(Duration::from_secs(5))?;
//!
//! let client = server.client()?;
//! let reply = client.call(1001, b"ping", Priority::Low, Duration::from_secs(1))?;
//! assert_eq!(reply, b"ping");
//! server.stop(Duration::from_secs(5))?;
//! # Ok(())
//! # }
//! ```
//!
//! No call passes through a server. One thread of it sleeps until a worker or client dies, which the
//! kernel tells it, and does what is to be done then; so nothing that it does, or fails to do, holds
//! a call up that a worker has.
//!
//! # Segments
//!
//! | segment | what is in it | made | its name is taken away |
//! |---|---|---|---|
//! | `service.<name>` | what the service is, and how its workers are: [`layout::service`](shm_primitives::layout::service). Who has the name is decided by this | by a server | by the server that stops it |
//! | `bells.<name>` | who is there, and who rings whom | next | before it |
//! | `client.<name>.<place>-<tenancy>` | a client's lanes | by the client | by the client, or by the server that finds it dead |
//! | `letters.<name>` | dead letters: [`layout::letters`](shm_primitives::layout::letters) | at the first of them | by a server that stops, if there is none |
//!
//! # Who dies
//!
//! | who | what the server does |
//! |---|---|
//! | a worker | Of the call that it had in hand a dead letter is kept; its caller is told what the worker died of; the call is left behind and not run again. The lanes are nobody's then, the monitor is reset, the place released, and the next worker started, at once or when [`Restart`] says. What waited in the lanes waits for that one, or for a helper: see [`Strategy`] |
//! | a client | Its lanes lose their name, and its place is the next client's. Workers are told, and let them go. What it had in hand at a worker is finished by that one, unless the worker dies of it: then there is a letter |
//! | the server, or it [leaves](Server::leave) | Nothing happens to anybody, but [if that was wished](ServerBuilder::die_with_server): calls are answered, and a caller whose worker dies is told so, with an unknown cause. The next server of the name *adopts* the service: it recovers what died meanwhile, and goes on with the workers that live. What they die of it does not learn, for they are not its children |
//! | the server while it recovers something | its successor finds the same, or what was done of it; a letter is kept once, a caller told once |
//! | the server while it stops the service | the next one ends that, and makes the service anew |
//!
//! A worker that ends without being asked to is a death, also with exit code 0. One that ends with
//! [`EXIT_NEVER`] (78) is not started again.
//!
//! # The workers' processes
//!
//! A worker inherits this process's environment, standard output and error, and the signals that
//! were blocked when the server was started; its standard input is empty. Four variables say what it
//! is: `SHM_WORKER` (its place, and as the how-manieth it was started there), `SHM_SERVICE`,
//! `SHM_DOMAIN` and `SHM_DIRECTORY`. It is this process's child, and nobody else in the process
//! should wait for it: the supervising thread does, and when the server has [left](Server::leave)
//! another thread, until the last of these workers has ended.
//!
//! Each has a process group of its own. So Ctrl-C in a terminal, which goes to a whole group, ends
//! the server alone, as SIGTERM to it does: its workers serve on, and the next server adopts them. A
//! server that is to end its service waits for these signals, and calls [`stop`](Server::stop) then:
//! see the example `service_server`. With [`die_with_server`](ServerBuilder::die_with_server) the
//! kernel kills the workers when the supervising thread ends, by whatever.
//!
//! # Forks
//!
//! A child made by `fork` has a copy of the [`Server`] that does nothing.

pub(super) mod adopt;
mod builder;
mod error;
mod hang;
mod helpers;
mod info;
pub(super) mod letters;
mod reap;
mod recover;
mod restart;
mod shared;
mod spawn;
mod supervise;
#[cfg(test)]
mod tests;

pub use builder::{Function, ServerBuilder, Strategy};
pub use error::ServerError;
pub use hang::Hang;
pub use info::{ServiceState, WorkerInfo};
pub use letters::DeadLetter;
pub use restart::Restart;
pub use spawn::{EXIT_NEVER, Program};

use super::client::{Client, ConnectError};
use parking_lot::Mutex;
use shared::{Command, Shared};
use shm_primitives::layout::service::Condition;
use shm_primitives::table::SlotKey;
use std::fmt;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A service, for the process that supervises it. See the [module](self).
///
/// Dropping it [stops](Self::stop) the service; to leave that running, [leave](Self::leave).
///
/// # Hangs
///
/// A worker that has one call in hand for longer than the function's
/// [threshold](Function::threshold), or the service's own, and still has it a while later without a
/// report of progress, is *suspect*: clients give it no new calls. Then, as [`Hang`] says: its call
/// is given up, which handlers see that look; it gets SIGABRT; SIGKILL. Nothing else is done to a
/// worker that is stopped, by SIGSTOP or a debugger, however long that takes, and that time does
/// not count; nor to one that waits for the kernel and would not hear a signal.
pub struct Server {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    drain: Duration,
}

impl Server {
    /// A service of that name, to be described and [started](ServerBuilder::start).
    pub fn builder(name: &str) -> ServerBuilder {
        ServerBuilder::new(name)
    }

    /// The service's name.
    #[must_use]
    pub fn name(&self) -> String {
        self.shared.service.to_string()
    }

    /// How the service is.
    #[must_use]
    pub fn state(&self) -> ServiceState {
        if self.shared.is_ours() { info::state(&self.shared) } else { ServiceState::Stopped }
    }

    /// The places of workers, in order; but for spares that were never needed. None in a child made
    /// by `fork`.
    #[must_use]
    pub fn workers(&self) -> Vec<WorkerInfo> {
        if self.shared.is_ours() { info::workers(&self.shared) } else { Vec::new() }
    }

    /// A client of the service.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`].
    pub fn client(&self) -> Result<Client, ConnectError> {
        let Shared { service, domain, .. } = &*self.shared;
        let name = String::from_utf8_lossy(service.as_bytes());
        Client::builder(&name).in_domain(domain.clone()).connect()
    }

    /// Waits until each worker serves, or one place has failed, or for so long. Who was told of a
    /// worker's death before, by a call's error, waits for the next worker at that place.
    ///
    /// # Errors
    ///
    /// `NotUp` if a place has failed; `TimedOut`; `Stopped`.
    pub fn wait_until_up(&self, timeout: Duration) -> Result<(), ServerError> {
        let begun = Instant::now();
        loop {
            if matches!(self.state(), ServiceState::Stopping | ServiceState::Stopped) {
                return Err(ServerError::Stopped);
            }
            let workers = self.workers();
            if let Some(failed) = workers.iter().find(|it| it.condition == Condition::Failed) {
                let reason = failed.reason.clone().unwrap_or_default();
                return Err(ServerError::NotUp { place: failed.place, reason });
            }
            let conditions: Vec<_> = workers.iter().map(|it| (it.place, it.condition)).collect();
            if info::is_complete(self.shared.shape(), &conditions) {
                return Ok(());
            }
            let others = conditions
                .iter()
                .filter(|(_, condition)| !matches!(condition, Condition::Up | Condition::Spare));
            let places: Vec<u32> = others.map(|(place, _)| *place).collect();
            if begun.elapsed() >= timeout {
                return Err(ServerError::TimedOut { what: "workers do not serve", places });
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Restarts all workers, one after the other: each finishes what it has in hand and goes, and
    /// the next is asked when its successor serves. Places that have failed are tried again.
    /// Blocks until that is done.
    ///
    /// # Errors
    ///
    /// `NotUp` if one does not come up again: those after it are not touched then. `Stopped`; `Busy`
    /// while another restart is under way.
    pub fn rolling_restart(&self) -> Result<(), ServerError> {
        self.ask(|done| Command::Roll { program: None, done })
    }

    /// The same with another program from now on. If a worker does not come up with it, the place
    /// gets one of the program before again, as has each that is restarted later; those that came
    /// up before run the new one until then.
    ///
    /// # Errors
    ///
    /// As [`rolling_restart`](Self::rolling_restart); `Program`.
    pub fn upgrade(&self, program: impl Into<Program>) -> Result<(), ServerError> {
        let program = program.into();
        program.check()?;
        self.ask(|done| Command::Roll { program: Some(program), done })
    }

    /// The messages that were in the hands of workers that died.
    ///
    /// # Errors
    ///
    /// Their segment cannot be opened.
    pub fn letters(&self) -> Result<Vec<DeadLetter>, ServerError> {
        letters::all(&self.shared.domain, &self.shared.service)
    }

    /// Lets one of them go; whether it was there.
    ///
    /// # Errors
    ///
    /// As [`letters`](Self::letters).
    pub fn drop_letter(&self, key: SlotKey) -> Result<bool, ServerError> {
        let was = letters::drop_letter(&self.shared.domain, &self.shared.service, key)?;
        let _ = self.shared.tell(Command::Sweep);
        Ok(was)
    }

    /// Stops the service: no new clients or calls, workers finish what they have in hand and end,
    /// those that have not yet come to their places get SIGTERM, those that have not ended in time
    /// are killed; then everything of the service is unlinked but dead
    /// letters, if there are any. Blocks until that is done.
    ///
    /// # Errors
    ///
    /// `TimedOut` if workers did not even die when they were killed, within five seconds more:
    /// they are in an uninterruptible sleep. Everything is unlinked all the same. `Stopped` if it was.
    pub fn stop(&self, deadline: Duration) -> Result<(), ServerError> {
        let stopped = self.ask(|done| Command::Stop { within: deadline, done });
        self.join();
        stopped
    }

    /// Leaves the service as it is, with its workers, without a supervisor. The next server of the
    /// name adopts it. Workers that [die with the server](ServerBuilder::die_with_server) are killed.
    ///
    /// # Errors
    ///
    /// `Stopped` if it was.
    pub fn leave(self) -> Result<(), ServerError> {
        let left = self.ask(|done| Command::Leave { done });
        self.join();
        left
    }

    fn ask(&self, command: impl FnOnce(shared::Done) -> Command) -> Result<(), ServerError> {
        let (done, is_done) = mpsc::channel();
        self.shared.tell(command(done))?;
        is_done.recv().unwrap_or(Err(ServerError::Stopped))
    }

    fn join(&self) {
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    /// [Stops](Server::stop) it, unless that was done; workers have as long as
    /// [`drain`](ServerBuilder::drain) says. Does nothing in a child made by `fork`.
    fn drop(&mut self) {
        if !self.shared.is_ours() {
            // A copy of the handle of a thread that is not here.
            std::mem::forget(self.thread.get_mut().take());
            return;
        }
        let _ = self.stop(self.drain);
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("service", &self.shared.service)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
