//! Starting workers, and ending them.

use super::error::ServerError;
use crate::domain::Domain;
use crate::liveness::{PidFd, Process};
use crate::service::core;
use crate::service::name::ServiceName;
use crate::service::worker::Worker;
use crate::service::worker::assignment::{self, Assignment};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Access, access};
use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, getppid, pidfd_open, pidfd_send_signal,
    set_parent_process_death_signal,
};
use shm_primitives::layout::phoenix::Place;
use shm_primitives::layout::service::Shape;
use shm_primitives::monitor::Group;
use shm_primitives::place::Cause;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// The exit code of a worker that can never work as it was started: no use to start it again. It is
/// EX_CONFIG of sysexits.h.
pub const EXIT_NEVER: i32 = 78;

/// What workers run: an executable and its arguments. One without a slash is looked for in `PATH`.
///
/// ```
/// use shm_transport::service::Program;
///
/// let program = Program::new("/usr/bin/solver").args(["--model", "large"]).env("SOLVER_DEPTH", "9");
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program {
    path: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
}

impl Program {
    /// That executable, without arguments.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), args: Vec::new(), env: Vec::new() }
    }

    /// The program that this process runs, with the arguments it was started with. Its workers
    /// [know](Self::is_worker_of_itself) that.
    pub(super) fn this() -> io::Result<Self> {
        let path = std::env::current_exe()?;
        let this = Self::new(&path).args(std::env::args_os().skip(1));
        Ok(this.env(assignment::PROGRAM, path))
    }

    /// Whether this process is a worker, and its server runs the same program.
    pub(super) fn is_worker_of_itself() -> bool {
        let of = std::env::var_os(assignment::PROGRAM).map(PathBuf::from);
        Worker::is_started() && of.is_some() && of == std::env::current_exe().ok()
    }

    /// One argument more.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().into());
        self
    }

    /// Some arguments more.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().into()));
        self
    }

    /// An environment variable beside those of this process.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().into(), value.as_ref().into()));
        self
    }

    /// Whether it is there and may be executed: what can be known of it before it is.
    pub(super) fn check(&self) -> Result<(), ServerError> {
        let executable = |path: &Path| {
            access(path, Access::EXEC_OK)?;
            if path.is_dir() { Err(io::ErrorKind::IsADirectory.into()) } else { Ok(()) }
        };
        let has_slash = self.path.as_os_str().as_encoded_bytes().contains(&b'/');
        let found = if has_slash {
            executable(&self.path)
        } else {
            let directories = std::env::var_os("PATH").unwrap_or_default();
            let missing = Err(io::ErrorKind::NotFound.into());
            std::env::split_paths(&directories)
                .map(|directory| executable(&directory.join(&self.path)))
                .find(Result::is_ok)
                .unwrap_or(missing)
        };
        found.map_err(|source| ServerError::Program { path: self.path.clone(), source })
    }
}

impl<P: Into<PathBuf>> From<P> for Program {
    fn from(path: P) -> Self {
        Self::new(path)
    }
}

/// What all workers of a service are started with.
#[derive(Debug)]
pub(super) struct Launch {
    pub service: ServiceName,
    pub domain: Domain,
    /// Whether they are killed when the thread that starts them ends.
    pub die_with_server: bool,
    /// The signals that are blocked in the program, and not in the thread that supervises.
    pub mask: SignalMask,
    pub shape: Shape,
    pub cores: Cores,
}

/// Which core the worker of each place keeps to.
#[derive(Clone, Debug, Default)]
pub(super) struct Cores {
    pub normal: Vec<usize>,
    pub vip: Vec<usize>,
}

impl Cores {
    /// `None` if it runs where the kernel likes.
    fn of(&self, place: Option<Place>) -> Option<usize> {
        let place = place?;
        let group = match place.group {
            Group::Normal => &self.normal,
            Group::Vip => &self.vip,
        };
        group.get(place.worker).copied()
    }

    /// Whether workers can be kept there: a thread tries.
    pub fn check(&self) -> Result<(), ServerError> {
        let cores = self.normal.iter().chain(&self.vip);
        let kept = |core: usize| {
            let trial = std::thread::Builder::new().spawn(move || core::pin(core))?;
            trial.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
        };
        cores
            .copied()
            .try_for_each(|core| kept(core).map_err(|source| ServerError::Core { core, source }))
    }
}

impl Launch {
    /// Starts one.
    pub fn spawn(&self, program: &Program, place: u32, incarnation: u32) -> io::Result<Running> {
        let mut command = Command::new(&program.path);
        // What a terminal or a shell sends to this process's group, as upon Ctrl-C, is not for them.
        command.args(&program.args).stdin(Stdio::null()).process_group(0);
        // Of this process, if it is a worker; the program may say the same of the new one.
        command.env_remove(assignment::PROGRAM);
        command.envs(program.env.iter().map(|(name, value)| (name, value)));
        let (service, domain) = (self.service, self.domain.clone());
        let assignment = Assignment { domain, service, place, incarnation };
        command.env_remove(assignment::GROUP).envs(assignment.variables());
        if self.die_with_server {
            let parent = getpid();
            let dies = move || {
                set_parent_process_death_signal(Some(Signal::KILL))?;
                // It may be dead already.
                if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::Other.into()) }
            };
            // SAFETY: two system calls, without allocation or lock: what may be done between fork
            // and exec.
            unsafe { command.pre_exec(dies) };
        }
        if let Some(core) = self.cores.of(self.shape.place(place)) {
            // SAFETY: one system call, as above.
            unsafe { command.pre_exec(move || core::pin(core)) };
        }
        // Inherited by the worker.
        let child = self.mask.during(|| command.spawn())?;
        Running::of(child)
    }
}

/// A worker that this process has started, until its end was noticed.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    pidfd: OwnedFd,
}

impl Running {
    fn of(mut child: Child) -> io::Result<Self> {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        // It is our child and was not waited for, so that the number is its own.
        match pid.ok_or(rustix::io::Errno::SRCH).and_then(|it| pidfd_open(it, PidfdFlags::empty()))
        {
            Ok(pidfd) => Ok(Self { child, pidfd }),
            Err(error) => {
                // Nobody would notice its end.
                let _ = child.kill();
                let _ = child.wait();
                Err(error.into())
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Readable when it has ended.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.pidfd, signal);
    }

    /// What it ended with; `None` if it has not yet. Waits so long at the most.
    pub fn ended(&mut self, patience: Duration) -> Option<Cause> {
        if !patience.is_zero() {
            let patience = Timespec {
                tv_sec: patience.as_secs() as _,
                tv_nsec: patience.subsec_nanos().into(),
            };
            let _ = poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&patience));
        }
        match self.child.try_wait() {
            Ok(Some(status)) => Some(cause_of(status)),
            Ok(None) => None,
            // Somebody else in this process has waited for it.
            Err(_) => Some(Cause::Unknown),
        }
    }

    /// Whether it is on its way out: its status will be there.
    pub fn is_ending(&self) -> bool {
        is_ending(self.pid())
    }
}

/// Whether it runs no program any more, as far as can be seen.
fn is_ending(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| is_exiting(&stat))
}

/// By the ninth field, the kernel's flags of a task. The second is a name in parentheses, which may
/// have spaces.
fn is_exiting(stat: &str) -> bool {
    const PF_EXITING: u32 = 4;
    let flags = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(6));
    flags.and_then(|flags| flags.parse().ok()).is_some_and(|flags: u32| flags & PF_EXITING != 0)
}

fn cause_of(status: ExitStatus) -> Cause {
    match (status.code(), status.signal()) {
        (Some(code), _) => Cause::Exited(code),
        (_, Some(signal)) => Cause::Signalled(signal),
        _ => Cause::Unknown,
    }
}

/// Sends a signal to a worker that this process has not started; whether that could be done.
pub(super) fn signal_other(process: &Process, signal: Signal) -> bool {
    match PidFd::open(&process.identity) {
        Ok(pidfd) => pidfd_send_signal(pidfd.as_fd(), signal).is_ok(),
        Err(_) => false,
    }
}

/// A set of blocked signals.
#[derive(Clone, Copy)]
pub(super) struct SignalMask(libc::sigset_t);

impl SignalMask {
    /// That of this thread.
    pub fn current() -> Self {
        let mut mask = MaybeUninit::uninit();
        // SAFETY: without a new set it only says what there is, which initialises the old one.
        Self(unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, std::ptr::null(), mask.as_mut_ptr());
            mask.assume_init()
        })
    }

    fn set(self) {
        // SAFETY: the set is one that a thread had.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut())
        };
    }

    /// Runs `f` with this mask.
    fn during<T>(self, f: impl FnOnce() -> T) -> T {
        struct Restore(SignalMask);
        impl Drop for Restore {
            fn drop(&mut self) {
                self.0.set();
            }
        }
        let _restore = Restore(Self::current());
        self.set();
        f()
    }
}

impl std::fmt::Debug for SignalMask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignalMask").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{WaitId, WaitIdOptions, waitid};

    #[test]
    fn programs_are_looked_for_before_they_are_started() {
        let of = |path: &str| Program::new(path).check();
        assert!(of("sh").is_ok() && of("/bin/sh").is_ok());
        for path in ["/nonexistent", "no-such-program-anywhere", "/etc/passwd", "/etc"] {
            let error = of(path).unwrap_err();
            assert!(
                matches!(&error, ServerError::Program { path: found, .. } if found == Path::new(path))
            );
        }
    }

    #[test]
    fn who_is_ending_is_told_from_who_runs() {
        assert!(!is_ending(std::process::id()));
        let mut child = Command::new("/bin/sh").args(["-c", "exit"]).spawn().unwrap();
        // It stays there until its status is taken.
        let id = WaitId::Pid(Pid::from_child(&child));
        waitid(id, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
        assert!(is_ending(child.id()));
        child.wait().unwrap();
        assert!(is_exiting("7 (a) b) Z 1 7 7 0 -1 4228108 0 0"));
        assert!(!is_exiting("7 (a 4 4 4 4 4 4) S 1 7 7 0 -1 4194560 0 0") && !is_exiting("7 (a"));
    }
}
