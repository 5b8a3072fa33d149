//! Clients: calling the workers of a service.
//!
//! ```no_run
//! use shm_transport::service::{Client, Priority};
//! use std::time::Duration;
//!
//! let client = Client::builder("math").domain("robot").connect()?;
//! let sum = client.call(1001, b"1 + 1", Priority::Low, Duration::from_secs(1))?;
//! let one = client.call_async(1001, b"2 + 2", Priority::Low)?;
//! let other = client.call_async(1002, b"3 * 3", Priority::High)?; // both are under way
//! println!("{sum:?} {:?} {:?}", one.wait(Duration::from_secs(1))?, other.wait(Duration::from_secs(1))?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What to use
//!
//! | you want | use |
//! |---|---|
//! | a result | [`Client::call`] |
//! | several calls under way | [`Client::call_async`]: a [`Call`] to wait for, or to await |
//! | many calls and one wake | [`Client::batch`] |
//! | to know how far a long call is | [`Call::progress`], [`Call::wait_progress`] |
//! | to give a call up | drop the [`Call`] |
//! | threads that do not disturb one another | a clone of the client for each: it has lanes of its own |
//!
//! # Who serves a call
//!
//! The worker with the least to do, of those that are up; if none is, one whose calls another worker
//! serves meanwhile, then one that is about to be started again or suspect; a place never that is a
//! spare, is stuck, is stopped or has failed for good.
//! Calls of high priority go to VIP workers, and to normal ones if no VIP worker is up. A call
//! whose best worker's lane is full goes to the next best; if all are full, [`call`](Client::call)
//! waits for room as long as for the reply, the others are [`Full`](CallError::Full).
//!
//! # Exactly one end
//!
//! Each call ends once: by its reply, by its worker's death, because its time was up, because it was
//! given up, or because the service is gone. Which comes first is decided by one word in this
//! process ([`completion`](shm_primitives::completion)); whatever comes later is dropped, and the
//! next call is never taken for it.
//!
//! # Deaths
//!
//! **A worker dies** with a call in hand: the supervisor answers it in the worker's place, and it
//! is [`WorkerCrashed`](CallError::WorkerCrashed). What was queued behind it stays, and is served
//! by the successor or a helper. If no supervisor lives, a client that waits looks for itself every
//! 100 ms, at the lock of its worker and what that worker's monitor says.
//!
//! A call that crashed its worker is not run again, unless the server has declared its function
//! idempotent: then it is sent twice more at the most, and never more than a tenth of all calls
//! are sent again.
//!
//! **The supervisor dies**: calls go on.
//!
//! **Both die**: calls wait for the next server, up to 10 seconds; one that has waited so long, or
//! whose time is up before, is [`Unattended`](CallError::Unattended).
//!
//! **A place fails for good**, or all that could serve a call do: what waits there is
//! [`NoWorker`](CallError::NoWorker), as a new call would be, and never begun.
//!
//! **The service is stopped**: calls in flight are [`ServiceGone`](CallError::ServiceGone), noticed
//! within 100 ms; the next call connects anew, and waits for the service as long as for its reply.
//! One that does not wait tries once.
//!
//! **The client dies**: what it had sent is served, and nobody reads the replies; the supervisor
//! puts its lanes away.
//!
//! # Memory
//!
//! A client has a place among the service's clients and a segment of its own, in which there is room
//! for a lane to each worker. Memory for a lane is reserved at the first call that goes there; if
//! there is none, that call fails, and no later one. A call's request is copied into the lane, its
//! reply into a vector; one of an idempotent function that does not wait is kept besides.
//!
//! # Threads
//!
//! A client is shared by reference. Sending takes a lock for the lane. Of the threads that wait one
//! reads the replies for all. There is no thread of the client's own, but for futures.
//!
//! # Forks
//!
//! A child made by `fork` has none of its parent's clients: calls are
//! [`Disconnected`](CallError::Disconnected), and dropping the copies does nothing.

mod batch;
mod builder;
mod call;
mod calls;
mod choose;
mod connection;
mod deserted;
mod error;
mod family;
mod follow;
mod lanes;
mod place;
mod reactor;
mod receive;
#[cfg(test)]
mod tests;

pub use batch::Batch;
pub use builder::ClientBuilder;
pub use call::Call;
pub use error::{CallError, ConnectError};

use crate::domain::Domain;
use crate::park::FutexPark;
use arc_swap::{ArcSwapOption, Guard};
use call::ATTEMPTS;
use connection::{Connection, Patience};
use family::Family;
use parking_lot::Mutex;
use shm_primitives::layout::lrpc::NodeId;
use shm_primitives::message::Priority;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Whether a client can call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ClientState {
    /// It has a place among the service's clients.
    Connected,
    /// It has none: it has not called yet, being a clone, or was disconnected. The next call
    /// connects.
    Disconnected,
    /// The service it was connected to is gone, or going. The next call tries to connect anew.
    ServiceGone,
    /// Neither the service's server nor any of its workers lives. Calls wait for the next server,
    /// up to 10 seconds.
    Unattended,
}

/// One who calls a service. Threads may share it. Dropping it disconnects, when the calls that it
/// has made are over. See the [module](self).
///
/// A clone has a place and lanes of its own, which it takes at its first call.
pub struct Client {
    connection: ArcSwapOption<Connection>,
    connecting: Mutex<()>,
    family: Arc<Family>,
}

impl Client {
    /// A client of the service of that name, to be connected: 1 to 64 bytes without a NUL.
    pub fn builder(service: &str) -> ClientBuilder {
        ClientBuilder::new(service)
    }

    /// Connects to the service of that name, with the settings of the environment.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`].
    pub fn connect(service: &str) -> Result<Self, ConnectError> {
        Self::builder(service).connect()
    }

    fn of(family: Arc<Family>, connection: Option<Arc<Connection>>) -> Self {
        Self { connection: ArcSwapOption::new(connection), connecting: Mutex::new(()), family }
    }

    /// The service's name.
    #[must_use]
    pub fn service(&self) -> &NodeId {
        &self.family.service
    }

    /// The domain.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        &self.family.domain
    }

    /// Whether it has a place among the clients of a service that is there, for all that is known.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.state() == ClientState::Connected
    }

    /// Whether it can call. That a service was removed without being stopped is noticed here, or by
    /// a call that waits.
    #[must_use]
    pub fn state(&self) -> ClientState {
        if !self.family.is_ours() {
            return ClientState::Disconnected;
        }
        match &*self.connection.load() {
            None => ClientState::Disconnected,
            Some(connection) => {
                connection.look_after(None);
                if !connection.is_usable() {
                    ClientState::ServiceGone
                } else if !connection.is_attended() {
                    ClientState::Unattended
                } else {
                    ClientState::Connected
                }
            }
        }
    }

    /// Calls, and waits for the result, for so long. Blocks.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    #[doc(alias = "Call")]
    #[inline]
    pub fn call(
        &self,
        function: u32,
        payload: &[u8],
        priority: Priority,
        timeout: Duration,
    ) -> Result<Vec<u8>, CallError> {
        let mut patience = Patience::new(timeout);
        let connection = self.connected(Some(&mut patience))?;
        let (mut attempt, mut crashed) = (1, None);
        loop {
            let sent = connection.submit(function, payload, priority, true, Some(&mut patience));
            let seq = match sent {
                Ok(seq) => seq,
                // That its worker died says more.
                Err(error) => return Err(crashed.unwrap_or(error)),
            };
            let place = connection.calls.slot(seq).place();
            let ending = match connection.wait(seq, &mut patience) {
                Some(ending) => ending,
                None => match connection.give_up(seq) {
                    Some(ending) => ending,
                    None => return Err(connection.late(place, timeout)),
                },
            };
            let result = ending.result(function, priority, seq, place, attempt);
            match result {
                Err(error @ CallError::WorkerCrashed { .. })
                    if attempt < ATTEMPTS
                        && connection.is_idempotent(function)
                        && self.family.budget().spend() =>
                {
                    attempt += 1;
                    crashed = Some(error);
                }
                result => {
                    self.family.budget().earn();
                    return result;
                }
            }
        }
    }

    /// Calls, and does not wait. Does not block, but for the first call to a worker, which takes
    /// memory for the lane.
    ///
    /// # Errors
    ///
    /// See [`CallError`]; nothing was sent.
    #[doc(alias = "CallAsync")]
    #[inline]
    pub fn call_async(
        &self,
        function: u32,
        payload: &[u8],
        priority: Priority,
    ) -> Result<Call, CallError> {
        Call::send(self.connected(None)?.shared(), function, payload, priority, true)
    }

    /// Several calls, whose workers are woken once.
    ///
    /// # Errors
    ///
    /// `Disconnected`.
    pub fn batch(&self, priority: Priority) -> Result<Batch, CallError> {
        Ok(Batch::new(self.connected(None)?.shared(), priority))
    }

    /// Gives its place back. Calls in flight are [`ServiceGone`](CallError::ServiceGone). The next
    /// call connects anew.
    pub fn disconnect(&self) {
        if !self.family.is_ours() {
            return;
        }
        let connection = self.connection.swap(None);
        if let Some(connection) = connection {
            connection.lose();
        }
    }

    /// The connection, made if there is none that is of use: for so long, or with one attempt.
    #[inline]
    fn connected(&self, patience: Option<&mut Patience>) -> Result<Connected, CallError> {
        if !self.family.is_ours() {
            return Err(ConnectError::Forked.into());
        }
        match self.usable() {
            Some(connection) => Ok(connection),
            None => self.connect_anew(patience),
        }
    }

    #[inline]
    fn usable(&self) -> Option<Connected> {
        let connection = self.connection.load();
        connection.as_ref().is_some_and(|it| it.is_usable()).then_some(Connected(connection))
    }

    #[cold]
    fn connect_anew(&self, patience: Option<&mut Patience>) -> Result<Connected, CallError> {
        let begun = Instant::now();
        let timeout = patience.map_or(Duration::ZERO, |patience| {
            // It begins now, and what is left of it then is for the reply.
            let _ = patience.deadline(&FutexPark::new());
            patience.timeout
        });
        // One thread for all.
        let Some(_connecting) = self.connecting.try_lock_for(timeout) else {
            let (service, waited) = (self.family.service, begun.elapsed());
            return Err(ConnectError::NoService { service, waited }.into());
        };
        if let Some(connection) = self.usable() {
            return Ok(connection);
        }
        if let Some(former) = self.connection.swap(None) {
            // Its calls in flight go on, if the service is only about to be stopped.
            former.look_after(None);
        }
        let connection = Arc::new(self.family.connect(begun, timeout)?);
        self.connection.store(Some(Arc::clone(&connection)));
        Ok(Connected(Guard::from_inner(Some(connection))))
    }
}

/// A connection, as long as something is done with it.
struct Connected(Guard<Option<Arc<Connection>>>);

impl Connected {
    /// For what outlasts the client.
    fn shared(self) -> Arc<Connection> {
        Arc::clone(self.arc())
    }

    #[inline]
    fn arc(&self) -> &Arc<Connection> {
        match &*self.0 {
            Some(connection) => connection,
            None => unreachable!("made where there is one"),
        }
    }
}

impl Deref for Connected {
    type Target = Connection;
    #[inline]
    fn deref(&self) -> &Connection {
        self.arc()
    }
}

impl Clone for Client {
    fn clone(&self) -> Self {
        Self::of(Arc::clone(&self.family), None)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("service", &self.family.service)
            .field("owner", &self.family.owner())
            .finish_non_exhaustive()
    }
}
