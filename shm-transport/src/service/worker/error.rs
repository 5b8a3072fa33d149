//! What can go wrong with a worker, and what a handler says that has failed.

use crate::liveness::LivenessError;
use crate::member::MemberError;
use crate::segment::SegmentError;
use crate::service::failure::Failure;
use crate::service::mapped::MapError;
use shm_primitives::channel::ReplyError;
use shm_primitives::layout::lrpc::NodeId;
use shm_primitives::layout::service::Order;
use shm_primitives::message::MsgHeader;
use shm_primitives::part::Corrupt;
use shm_primitives::segment as layout;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why a process did not become a worker, or ceased to be one.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// Nobody has started this process as a worker.
    #[error(
        "SHM_WORKER is not set: this program is a service's worker, which a server starts and not a person"
    )]
    NotStarted,
    /// What the environment says makes no sense.
    #[error(
        "the variable {variable} is {found:?}, and has to be {expected}: let a server start its workers, which sets it"
    )]
    Environment {
        /// Which variable.
        variable: &'static str,
        /// What it is.
        found: OsString,
        /// What it has to be.
        expected: &'static str,
    },
    /// There is no such service.
    #[error(
        "there is no service {service} ({path:?}): it was stopped meanwhile, or the worker was started in another domain or directory"
    )]
    NoService {
        /// Its name.
        service: NodeId,
        /// The file that is not there.
        path: PathBuf,
    },
    /// The service is of another version, is being stopped, or its segments are damaged.
    #[error(
        "{path:?} is not what this worker serves: {error}; start workers of the version that the server has"
    )]
    Layout {
        /// The file.
        path: PathBuf,
        /// What was found.
        error: layout::SegmentError,
    },
    /// The service has no such place.
    #[error(
        "the service has {places} worker places, and this worker was started for place {place} (from 0): start the server anew"
    )]
    NoPlace {
        /// Which.
        place: u32,
        /// How many there are.
        places: u32,
    },
    /// Somebody else works at the place.
    #[error(
        "worker place {place} is taken by {}: it has not left yet, or nobody has put away what it left; the supervisor starts a worker when it has",
        Holder(*pid)
    )]
    PlaceTaken {
        /// The place.
        place: u32,
        /// Whose it is, by its number in its own pid namespace; `None` if its record does not
        /// say.
        pid: Option<u32>,
    },
    /// The supervisor does not want this worker any more.
    #[error(
        "started as worker {started} of place {place}, whose orders are {order:?} for worker {wanted}: it came late, and is to end"
    )]
    NotWanted {
        /// The place.
        place: u32,
        /// As which incarnation this one was started.
        started: u32,
        /// For which incarnation the orders are.
        wanted: u32,
        /// What that one is to do.
        order: Order,
    },
    /// The place's orders, or its owner, make no sense.
    #[error("the control segment is damaged: {0}; start the server anew")]
    Corrupt(#[from] Corrupt),
    /// The function's number is one of the framework's.
    #[error(
        "function {func_id} is reserved, as all to {} are: take a number above",
        MsgHeader::RESERVED_FUNCTIONS.end()
    )]
    Reserved {
        /// The number.
        func_id: u32,
    },
    /// The function has a handler.
    #[error("function {func_id} has a handler already: register each once")]
    Registered {
        /// The number.
        func_id: u32,
    },
    /// The thread cannot run on that core alone.
    #[error("cannot run on core {core} alone ({source}): there is none, or this process may not")]
    Pin {
        /// The core, from 0.
        core: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is a copy, made by `fork` in a handler, that the worker's memory is not in.
    #[error("a child made by fork is no worker: let the handler end it, or exec")]
    Forked,
    /// It did not become a member of the domain.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// A segment could not be opened.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The kernel did not say who lives.
    #[error(transparent)]
    Liveness(#[from] LivenessError),
}

impl WorkerError {
    /// What a worker's process exits with for this: 78 (`EX_CONFIG`) if starting it again would
    /// change nothing, at which its supervisor gives up; else 1.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::NotStarted
            | Self::Environment { .. }
            | Self::Layout { .. }
            | Self::NoPlace { .. }
            | Self::Corrupt(_)
            | Self::Reserved { .. }
            | Self::Registered { .. }
            | Self::Pin { .. } => 78,
            _ => 1,
        }
    }
}

impl From<MapError> for WorkerError {
    fn from(error: MapError) -> Self {
        match error {
            MapError::Segment(error) => Self::Segment(error),
            MapError::Layout { path, error } => Self::Layout { path, error },
        }
    }
}

struct Holder(Option<u32>);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pid) => write!(f, "process {pid}"),
            None => f.write_str("another process"),
        }
    }
}

/// What a handler returns that has failed: it goes to the caller as it is.
///
/// Made from any error by `?`, whose text it is then. So that this can be, it is no
/// [`Error`](std::error::Error) itself.
///
/// ```
/// use shm_transport::service::HandlerError;
///
/// fn parse(text: &str) -> Result<u32, HandlerError> {
///     let number: u32 = text.parse()?;
///     if number == 0 {
///         return Err(HandlerError::new("zero is no number of a motor"));
///     }
///     Ok(number)
/// }
/// assert_eq!(parse("x").unwrap_err().to_string(), "invalid digit found in string");
/// ```
#[derive(Debug)]
pub struct HandlerError(What);

#[derive(Debug)]
enum What {
    Own(Vec<u8>),
    Refused(String),
    TooLarge {
        length: usize,
        most: usize,
    },
    /// The client's end of the lane is damaged, and nothing reaches it.
    Lost(ReplyError),
}

impl HandlerError {
    /// With this message: any bytes, text by custom. Cut to what a reply has room for.
    pub fn new(message: impl Into<Vec<u8>>) -> Self {
        Self(What::Own(message.into()))
    }

    /// The request is none that this function can take, and why.
    pub fn refused(why: impl Into<String>) -> Self {
        Self(What::Refused(why.into()))
    }

    /// Why a reply was not written.
    pub(super) fn of_reply(error: ReplyError) -> Self {
        Self(match error {
            ReplyError::TooLarge { length, maximum } => What::TooLarge { length, most: maximum },
            other => What::Lost(other),
        })
    }

    pub(super) fn into_failure(self) -> Failure {
        match self.0 {
            What::Own(bytes) => Failure::Handler(bytes),
            What::Refused(why) => Failure::Refused(why),
            What::TooLarge { length, most } => Failure::TooLarge {
                length: u32::try_from(length).unwrap_or(u32::MAX),
                most: u32::try_from(most).unwrap_or(u32::MAX),
            },
            What::Lost(error) => Failure::Handler(error.to_string().into()),
        }
    }
}

impl<E: std::error::Error> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self::new(error.to_string())
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            What::Own(bytes) => f.write_str(&String::from_utf8_lossy(bytes)),
            What::Refused(why) => write!(f, "the request was refused: {why}"),
            What::TooLarge { length, most } => {
                write!(f, "a reply of {length} bytes; the largest of this service is {most}")
            }
            What::Lost(error) => error.fmt(f),
        }
    }
}
