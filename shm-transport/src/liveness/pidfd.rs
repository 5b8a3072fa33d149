//! The fast notice of a process's end, within one pid namespace.

use super::error::LivenessError;
use super::process::{ProcessIdentity, start_of};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// A descriptor of a process, readable once all of its threads have ended, whether or not its
/// parent has asked for its status.
///
/// A notice, not a proof: the process may have a child by `vfork` that shares its memory still,
/// and one that leaves the table or execs gives no notice at all. So what follows a notice is a
/// verdict, and verdicts are asked for now and then without one. A `PidFd` can be given to
/// `epoll` or an asynchronous runtime, through [`AsFd`].
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// The process that `process` says. If its number is another's by now, that other one is
    /// never taken for it.
    ///
    /// # Errors
    ///
    /// `Elsewhere` if the number means nothing in this pid namespace, `ProcessGone` if there is
    /// no such process, `Os` and `Proc` if this cannot be found out (a kernel before 5.3, no
    /// descriptor left).
    pub fn open(process: &ProcessIdentity) -> Result<Self, LivenessError> {
        let pid = process.pid;
        let gone = LivenessError::ProcessGone { pid };
        if !process.shares_pids_with(&ProcessIdentity::current()?) {
            return Err(LivenessError::Elsewhere { pid });
        }
        let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
            return Err(gone);
        };
        let this = match pidfd_open(number, PidfdFlags::empty()) {
            Ok(fd) => Self(fd),
            // What it answers to a number that is a thread's now.
            Err(Errno::SRCH | Errno::INVAL | Errno::NOENT) => return Err(gone),
            Err(errno) => return Err(LivenessError::os("opening a pidfd")(errno)),
        };
        // Which process the descriptor means is looked up under the number that this /proc has
        // for it, which may be that of another namespace. As long as the descriptor still has
        // that number afterwards, it was not another's meanwhile.
        let before = this.number()?;
        let stat = before.and_then(|number| fs::read(format!("/proc/{number}/stat")).ok());
        let start = stat.as_deref().and_then(start_of);
        let same = start == Some(process.start) && this.number()? == before;
        if same { Ok(this) } else { Err(gone) }
    }

    /// The process's number in the namespace of /proc; `None` once it is reaped.
    fn number(&self) -> Result<Option<u32>, LivenessError> {
        let failed = LivenessError::Proc { file: "thread-self/fdinfo" };
        let path = format!("/proc/thread-self/fdinfo/{}", self.0.as_raw_fd());
        let text = fs::read_to_string(path).map_err(|_| failed.clone())?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pid:")).ok_or(failed.clone())?;
        match line.trim().parse::<i64>() {
            Ok(-1) => Ok(None),
            Ok(number) if number > 0 => Ok(u32::try_from(number).ok()),
            // 0: alive, and not to be seen in this /proc.
            _ => Err(failed),
        }
    }

    /// Whether all threads of the process have ended. Does not wait.
    ///
    /// # Errors
    ///
    /// Those of the kernel's `poll`.
    pub fn has_ended(&self) -> Result<bool, LivenessError> {
        Ok(poll_until(&mut [self.poll_fd()], Some(Instant::now()))? > 0)
    }

    /// Waits until all threads of the process have ended, or until `deadline`. Answers whether
    /// they have.
    ///
    /// # Errors
    ///
    /// Those of the kernel's `poll`.
    pub fn wait(&self, deadline: Option<Instant>) -> Result<bool, LivenessError> {
        Ok(poll_until(&mut [self.poll_fd()], deadline)? > 0)
    }

    pub(super) fn poll_fd(&self) -> PollFd<'_> {
        PollFd::new(&self.0, PollFlags::IN)
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<PidFd> for OwnedFd {
    fn from(pidfd: PidFd) -> Self {
        pidfd.0
    }
}

/// Waits until one of `fds` is ready, or until `deadline`. Answers how many are ready.
pub(super) fn poll_until(
    fds: &mut [PollFd<'_>],
    deadline: Option<Instant>,
) -> Result<usize, LivenessError> {
    loop {
        let left =
            deadline.map(|deadline| timespec(deadline.saturating_duration_since(Instant::now())));
        match poll(fds, left.as_ref()) {
            // A signal's handler has run: wait for the rest.
            Err(Errno::INTR) => {}
            other => return other.map_err(LivenessError::os("waiting for the end of a process")),
        }
    }
}

fn timespec(left: Duration) -> Timespec {
    Timespec {
        // A wait of 30 years is as good as one of 300 billion.
        tv_sec: left.as_secs().min(1_000_000_000) as _,
        tv_nsec: left.subsec_nanos().into(),
    }
}
