//! What can go wrong, and what to do about it.

use rustix::io::Errno;
use shm_primitives::identity::OwnerId;
use shm_primitives::part::AttachError;
use shm_primitives::table::{Busy, OwnDeath, TableFull};

/// Why something could not be found out or done. Never a verdict: nobody is dead because of an
/// error.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LivenessError {
    /// A system call failed.
    #[error("{doing} failed: {errno}")]
    Os {
        /// What was being done, as it would stand in a sentence.
        doing: &'static str,
        /// What the kernel answered.
        errno: Errno,
    },
    /// A descriptor cannot be opened anew.
    #[error(
        "the file cannot be opened a second time through /proc/thread-self/fd: {errno}; \
         /proc must be mounted, and the file be readable and writable for this user"
    )]
    Reopen {
        /// What the kernel answered.
        errno: Errno,
    },
    /// What stands in /proc is not what the kernel writes there.
    #[error("/proc/{file} is missing or says something else than expected; is /proc mounted?")]
    Proc {
        /// The file, as it is called below /proc.
        file: &'static str,
    },
    /// There is no such process any more; its record may stand yet.
    #[error("process {pid} is gone, or the number is another process's now; ask for its verdict")]
    ProcessGone {
        /// Its number, in the namespace it was started in.
        pid: u32,
    },
    /// The process is in another pid namespace, or ran before the machine was started last:
    /// its number means nothing here.
    #[error("process {pid} is not of this pid namespace; only its lock tells whether it lives")]
    Elsewhere {
        /// Its number there.
        pid: u32,
    },
    /// A process name is longer than a record has room for.
    #[error("a process name of {found} bytes; the longest has {max}")]
    NameTooLong {
        /// Its bytes.
        found: usize,
        /// The longest.
        max: usize,
    },
    /// A process name holds a zero byte.
    #[error("a process name with a zero byte, which ends a name in the record")]
    NameHasZero,
    /// There is no table of process records, or none that can be used.
    #[error("no table of process records: {0}")]
    Attach(#[from] AttachError),
    /// No record is free.
    #[error(
        "no process record is free: {0} (ProcessTable::clear, or JoinOptions::records for a new \
         domain)"
    )]
    Full(#[from] TableFull),
    /// A record changes all the time.
    #[error("a process record cannot be read: {0}")]
    Busy(#[from] Busy),
    /// One is to take over from itself.
    #[error(transparent)]
    OwnDeath(#[from] OwnDeath),
    /// The id is no record's, present or past.
    #[error("{id} was never given out by this table; was the id read from damaged memory?")]
    Unknown {
        /// The id asked about.
        id: OwnerId,
    },
}

impl LivenessError {
    /// For `map_err`.
    pub(super) fn os(doing: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self::Os { doing, errno }
    }
}
