//! Who lives.
mod error;
mod fork;
mod lock;
mod pidfd;
mod process;
mod table;
mod watch;

pub use error::LivenessError;
pub use lock::{ByteLock, is_locked};
pub use pidfd::PidFd;
pub use process::ProcessIdentity;
pub use table::{Membership, Process, ProcessTable, Verdict};
pub use watch::{DeathWatch, Suspect, Watch};
