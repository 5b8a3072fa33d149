//! How a command ends that does not succeed.

use shm_transport::node::SendError;
use std::error::Error;
use std::io;

/// Why a command did not succeed, and with that its exit code.
#[derive(Debug)]
pub enum Failure {
    /// Whoever read the output has closed it: no error, and nothing is left to be said.
    Closed,
    /// It could not be done.
    Error(String),
    /// It was done, and what was found, and shown, is not as it should be.
    Unhealthy,
    /// What was asked for is not there.
    Nothing(String),
}

impl Failure {
    /// The code of [`Error`](Self::Error).
    const ERROR: u8 = 1;
    /// The code of [`Unhealthy`](Self::Unhealthy). 2 is that of a wrong use.
    const UNHEALTHY: u8 = 3;
    /// The code of [`Nothing`](Self::Nothing).
    const NOTHING: u8 = 4;

    /// What a command says that could not do its work.
    pub fn because(error: impl std::fmt::Display) -> Self {
        Self::Error(error.to_string())
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::Error(_) => Self::ERROR,
            Self::Unhealthy => Self::UNHEALTHY,
            Self::Nothing(_) => Self::NOTHING,
        }
    }

    /// What to say.
    pub fn message(&self) -> Option<String> {
        match self {
            Self::Closed | Self::Unhealthy => None,
            Self::Error(message) | Self::Nothing(message) => Some(message.clone()),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::Closed } else { Self::because(error) }
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Unknown { .. } => Self::Nothing(error.to_string()),
            other => Self::because(with_sources(&other)),
        }
    }
}

/// Errors of the library, which say all there is to say.
macro_rules! from_library {
    ($($error:ty),* $(,)?) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::because(with_sources(&error))
            }
        })*
    };
}

from_library! {
    shm_transport::config::ConfigError,
    shm_transport::domain::NameError,
    shm_transport::liveness::LivenessError,
    shm_transport::member::MemberError,
    shm_transport::node::NodeError,
    shm_transport::node::RecvError,
    shm_transport::segment::SegmentError,
    shm_transport::service::ServerError,
    shm_primitives::layout::lrpc::NodeIdError,
    crate::look::LookError,
    rustix::io::Errno,
    serde_json::Error,
}

/// The error with what caused it, as far as it does not say that itself.
fn with_sources(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
