//! Who lives.
mod error;
mod fork;
mod lock;
mod pidfd;
mod process;

pub use error::LivenessError;
pub use lock::{ByteLock, is_locked};
pub use pidfd::PidFd;
pub use process::ProcessIdentity;
