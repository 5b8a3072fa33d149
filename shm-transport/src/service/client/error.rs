//! What can go wrong for a client, and what to do then.

use crate::config::ConfigError;
use crate::domain::NameError;
use crate::liveness::LivenessError;
use crate::member::MemberError;
use crate::segment::SegmentError;
use crate::service::mapped::MapError;
use shm_primitives::layout::lrpc::{NodeId, NodeIdError};
use shm_primitives::message::Priority;
use shm_primitives::part::ClaimError;
use shm_primitives::place::Cause;
use shm_primitives::segment as layout;
use shm_primitives::table::SlotKey;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

/// Why a client is not connected.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Not a name of a service.
    #[error("{0}: give it 1 to 64 bytes without a NUL")]
    Name(#[from] NodeIdError),
    /// Not a domain.
    #[error(transparent)]
    Domain(#[from] NameError),
    /// The configuration, which names the domain, cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no such service, or it is just being stopped.
    #[error(
        "there is no service {service} after {waited:?}: start its server, and check that both say the same domain"
    )]
    NoService {
        /// Its name.
        service: NodeId,
        /// How long was waited.
        waited: Duration,
    },
    /// There is one, and none of its workers serves; or neither they nor their server live any more.
    #[error(
        "no worker of service {service} is up after {waited:?}: look at the state that its server says, or wait longer; if no server lives, start one"
    )]
    NotReady {
        /// Its name.
        service: NodeId,
        /// How long was waited.
        waited: Duration,
    },
    /// Each place of a client is somebody's.
    #[error(
        "each of the {clients} places of clients of service {service} is taken: disconnect some, or start the server with more"
    )]
    PlacesTaken {
        /// Its name.
        service: NodeId,
        /// The places.
        clients: u32,
    },
    /// A segment of the service is of another version, or is none.
    #[error(
        "{path:?} is no segment of a service of this version: {error}; use a client of the server's version, or another domain"
    )]
    Layout {
        /// The file.
        path: PathBuf,
        /// What was found.
        error: layout::SegmentError,
    },
    /// A segment could not be made or opened.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The process did not become a member of the domain.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// The kernel did not say who lives.
    #[error(transparent)]
    Liveness(#[from] LivenessError),
    /// The client belongs to the process that forked this one.
    #[error("the client is another process's, which forked this one: connect anew")]
    Forked,
}

impl From<MapError> for ConnectError {
    fn from(error: MapError) -> Self {
        match error {
            MapError::Segment(error) => Self::Segment(error),
            MapError::Layout { path, error } => Self::Layout { path, error },
        }
    }
}

/// Why a call has no result.
///
/// Whether its handler has run:
///
/// | | |
/// |---|---|
/// | not | `TooLarge`, `NoWorker`, `Full`, `Disconnected`, `UnknownFunction`, `Segment`, `Lane`, `Thread` |
/// | to its end | `Failed`, `Refused`, `ReplyTooLarge` |
/// | in part | `Panicked`, `WorkerCrashed` |
/// | nobody knows | `TimedOut`, `Cancelled`, `ServiceGone`, `Corrupt`; and `Unattended`, which the next server's workers may run |
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CallError {
    /// There was no reply in time. The worker is told that it is given up.
    #[error(
        "no reply within {waited:?}: the handler takes longer, or the workers are busy; wait longer, or start more workers"
    )]
    TimedOut {
        /// How long was waited.
        waited: Duration,
    },
    /// Its worker died with this call in hand. It is not run again.
    #[error(
        "its worker died ({cause}) of this call of function {function}, at place {place}{}{}: see what it does with this request; what may be run twice can be declared idempotent",
        Attempt(*attempt),
        Kept(*letter)
    )]
    WorkerCrashed {
        /// What it died of.
        cause: Cause,
        /// How often the call was tried: more than once only if its function is idempotent.
        attempt: u32,
        /// The function that was called.
        function: u32,
        /// The worker's place.
        place: u32,
        /// The call's sequence id.
        seq_id: u64,
        /// The [dead letter](super::super::DeadLetter) that has the request. `None` if there was no
        /// room for it, or no server that would have kept it at once.
        letter: Option<SlotKey>,
    },
    /// The handler says that it failed.
    #[error("the handler failed: {}", String::from_utf8_lossy(message))]
    Failed {
        /// The bytes of its own error.
        message: Vec<u8>,
    },
    /// The handler panicked; its worker goes on.
    #[error("the handler panicked: {message}")]
    Panicked {
        /// What it said.
        message: String,
    },
    /// The worker has no such function.
    #[error("the worker has no function {function}: register it there, or call another")]
    UnknownFunction {
        /// Its number.
        function: u32,
    },
    /// The request is too large for a lane.
    #[error(
        "a request of {found} bytes, and {most} are the most: send it in pieces, or give the service a larger `message_size`"
    )]
    TooLarge {
        /// Bytes of the request.
        found: usize,
        /// Bytes of the largest.
        most: usize,
    },
    /// The handler's reply is too large for a lane.
    #[error(
        "the reply has {found} bytes, and {most} are the most: give the service a larger `reply_size`"
    )]
    ReplyTooLarge {
        /// Bytes of the reply.
        found: u32,
        /// Bytes of the largest.
        most: u32,
    },
    /// There is nobody who could serve it, or nobody any more.
    #[error(
        "no worker for calls of priority {priority:?}: all are stopped, or failed for good; look at the state that the server says"
    )]
    NoWorker {
        /// The priority.
        priority: Priority,
    },
    /// Neither the server nor the worker that it was sent to lives, and no other helps out. It has
    /// waited for the next server until its time was up, or until nobody had come for 10 seconds.
    #[error("neither the server nor the worker of service {service} lives: start its server")]
    Unattended {
        /// Its name.
        service: Box<NodeId>,
    },
    /// There is no room for one more call.
    #[error(
        "all lanes to workers are full: wait for replies of the {in_flight} calls in flight, or start more workers"
    )]
    Full {
        /// Calls of this client that have no reply yet.
        in_flight: u32,
    },
    /// It was given up, or its result was taken before.
    #[error("the call was cancelled, or its result was taken before")]
    Cancelled,
    /// The worker took the request for none.
    #[error("the worker refused the request: {why}")]
    Refused {
        /// Why.
        why: String,
    },
    /// There is no connection, and none could be made.
    #[error("not connected: {0}")]
    Disconnected(#[source] Box<ConnectError>),
    /// The service was stopped, or the client disconnected, while the call was in flight.
    #[error("the service was stopped, or the client disconnected: call again when it is back")]
    ServiceGone,
    /// What stands in the lane to that worker makes no sense.
    #[error(
        "the lane to worker {place} is corrupt: that worker, or a process that writes into this client's memory, keeps no protocol"
    )]
    Corrupt {
        /// The worker's place.
        place: u32,
    },
    /// There is no memory for a lane to a worker.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// An end of a lane to a worker cannot be taken.
    #[error("the lane to worker {place} cannot be taken: {error}; connect anew")]
    Lane {
        /// The worker's place.
        place: u32,
        /// Why.
        error: ClaimError,
    },
    /// The kernel makes no thread to wait for a future with.
    #[error("cannot start the thread that waits for futures ({0}): raise the limit of threads")]
    Thread(#[source] std::io::Error),
}

impl From<ConnectError> for CallError {
    fn from(error: ConnectError) -> Self {
        Self::Disconnected(Box::new(error))
    }
}

struct Attempt(u32);

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 > 1 { write!(f, ", at attempt {}", self.0) } else { Ok(()) }
    }
}

struct Kept(Option<SlotKey>);

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(key) => {
                let (index, generation) = (key.index(), key.generation());
                write!(f, ", and is dead letter {index}-{generation} (`shm dlq show`)")
            }
            None => f.write_str(", and no dead letter of it is known"),
        }
    }
}
