//! What can go wrong, and what to do about it.

use crate::config::ConfigError;
use crate::domain::NameError;
use crate::liveness::LivenessError;
use crate::member::MemberError;
use crate::segment::SegmentError;
use crate::service::mapped::MapError;
use shm_primitives::layout::lrpc::NodeIdError;
use shm_primitives::layout::service::Shape;
use shm_primitives::segment as layout;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why a service was not started, or something was not done with it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServerError {
    /// Not a name of a service.
    #[error("{0}: give the service a name of 1 to 64 bytes without a NUL")]
    Name(#[from] NodeIdError),
    /// The configuration cannot be read, or contradicts itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Not a domain.
    #[error(transparent)]
    Domain(#[from] NameError),
    /// It did not become a member of the domain.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// A segment could not be made, opened or removed.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The kernel did not say who lives.
    #[error(transparent)]
    Liveness(#[from] LivenessError),
    /// A segment with the name of one of the service's is something else.
    #[error(
        "{path:?} is not what the service would have there: {error}; stop what uses it, or use another name or domain"
    )]
    Layout {
        /// The file.
        path: PathBuf,
        /// What was found.
        error: layout::SegmentError,
    },
    /// Another server has the name.
    #[error(
        "service {service:?} is run by {}: connect to it as a client, stop it, or use another name or domain",
        Holder(*pid)
    )]
    InUse {
        /// The name.
        service: String,
        /// The other's process, if it says so.
        pid: Option<u32>,
    },
    /// Another server is just stopping the service.
    #[error("service {service:?} is being stopped by {}: try again when it is done", Holder(*pid))]
    Stopping {
        /// The name.
        service: String,
        /// The other's process, if it says so.
        pid: Option<u32>,
    },
    /// A service of that name runs on without its supervisor, and has other places or lanes.
    #[error(
        "service {service:?} runs with{}: say the same to adopt it, or `stop` it first, which `shm stop` does if its server is gone",
        Differences(found, wanted)
    )]
    Shape {
        /// The name.
        service: String,
        /// What it is.
        found: Box<Shape>,
        /// What was asked for.
        wanted: Box<Shape>,
    },
    /// There can be no such service.
    #[error("{what}, found {found}: change what the builder was told")]
    Impossible {
        /// What would be possible.
        what: &'static str,
        /// What was asked for.
        found: u64,
    },
    /// All workers are being restarted already.
    #[error("a rolling restart is under way: wait for its end")]
    Busy,
    /// It was not said what the workers are.
    #[error("no program for the workers: say `worker(program)` or `this_program()`")]
    NoProgram,
    /// This process was started as a worker by this same program, and would start workers that are
    /// this program as well, and so on without end.
    #[error(
        "this process is the worker at place {place} of service {of:?}, which runs this same program, and comes to start {service:?} instead, as its workers would in turn: give the service the same name and domain in each process, without its number or the time, or start another program's workers with `worker(program)`"
    )]
    Endless {
        /// The service that was to be started.
        service: String,
        /// The service that this process is a worker of.
        of: String,
        /// Its place there.
        place: u32,
    },
    /// There is no such program, or it cannot be executed.
    #[error(
        "the workers' program {path:?} cannot be executed: {source}; give the path of an executable file, with a slash in it unless it is to be looked for in PATH"
    )]
    Program {
        /// The program.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// A worker cannot be kept to a core.
    #[error("no worker can run on core {core} ({source}): name one that this process may use")]
    Core {
        /// The core.
        core: usize,
        /// What the kernel says.
        source: io::Error,
    },
    /// No thread or descriptor is left to supervise with.
    #[error(
        "cannot start the thread that supervises ({0}): raise the limit of threads or descriptors"
    )]
    Thread(#[source] io::Error),
    /// The service was stopped, or the thread that supervises it has ended.
    #[error("the service is not supervised by this server any more: start it anew")]
    Stopped,
    /// A worker did not come up.
    #[error("the worker at place {place} does not serve: {reason}")]
    NotUp {
        /// Its place.
        place: u32,
        /// Why.
        reason: String,
    },
    /// Workers did not come up, or did not end, in time.
    #[error(
        "{what} at places {places:?} within the time given: look at what they do (workers have to come to `Worker::main`, or to `attach_from_env` and `run`), or give more time"
    )]
    TimedOut {
        /// What did not happen.
        what: &'static str,
        /// Which places.
        places: Vec<u32>,
    },
}

impl From<MapError> for ServerError {
    fn from(error: MapError) -> Self {
        match error {
            MapError::Segment(error) => Self::Segment(error),
            MapError::Layout { path, error } => Self::Layout { path, error },
        }
    }
}

struct Holder(Option<u32>);

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(pid) if pid == std::process::id() => write!(f, "this process ({pid})"),
            Some(pid) => write!(f, "process {pid}"),
            None => f.write_str("another process"),
        }
    }
}

/// In what they differ.
struct Differences<'s>(&'s Shape, &'s Shape);

impl std::fmt::Display for Differences<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let numbers = |shape: &Shape| {
            let (normal, vip) = (shape.normal, shape.vip);
            [
                ("workers", normal.workers),
                ("messages", normal.messages),
                ("message_size", normal.message_size),
                ("reply_size", normal.reply_size),
                ("progress_size", normal.progress_size),
                ("vip_workers", vip.workers),
                ("vip_messages", vip.messages),
                ("message_size of VIP workers", vip.message_size),
                ("reply_size of VIP workers", vip.reply_size),
                ("progress_size of VIP workers", vip.progress_size),
                ("spares", shape.spares),
                ("clients", shape.clients),
                ("functions", shape.functions),
            ]
        };
        let both = numbers(self.0).into_iter().zip(numbers(self.1));
        let mut between = "";
        for ((what, found), (_, wanted)) in both.filter(|(found, wanted)| found != wanted) {
            write!(f, "{between} {what} {found}, where {wanted} was asked for")?;
            between = ";";
        }
        Ok(())
    }
}
