//! Why something cannot be looked at.

use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why a file cannot be looked at.
#[derive(Debug, Error)]
pub enum LookError {
    /// Nothing has that name.
    #[error(
        "there is no file {path:?}: see `shm list` for those there are, and check the domain; those of service S are service.S, bells.S and letters.S"
    )]
    NotFound {
        /// The file.
        path: PathBuf,
    },
    /// It may not be read.
    #[error("{path:?} belongs to user {owner} and may not be read: look as that user, or as root")]
    Denied {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// It is no file.
    #[error("{path:?} is {kind}, not a segment: remove it, or use another name or domain")]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// It is no segment at all.
    #[error("{path:?} is no segment: {why}; remove it if it is in the way of one")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// There is no copying it.
    #[error("{path:?} cannot be copied to be looked at: {why}")]
    NoCopy {
        /// The file.
        path: PathBuf,
        /// Why not, and what to do.
        why: String,
    },
    /// Anything else the kernel says.
    #[error("cannot {operation} {path:?}: {source}")]
    Os {
        /// The file.
        path: PathBuf,
        /// What was tried.
        operation: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
}

impl LookError {
    /// Whether nothing is there, as opposed to something that cannot be looked at.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}
