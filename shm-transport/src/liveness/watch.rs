//! Who is silent, and who is dead: two different things.

use super::error::LivenessError;
use super::pidfd::{PidFd, poll_until};
use super::table::{ProcessTable, Verdict};
use rustix::event::{PollFd, PollFlags};
use shm_primitives::identity::{Dead, OwnerId};
use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// A process that has not said for some time that it is at work. It may be dead, stopped,
/// swapped out, starved, or in a long computation.
///
/// Nothing is taken from it for that, and nothing makes a proof of it: the kernel does, asked
/// by [`convict`](Self::convict).
///
/// ```compile_fail
/// # fn no(suspect: shm_transport::liveness::Suspect) {
/// use shm_primitives::identity::{Dead, OwnerId};
/// let dead: Dead<OwnerId> = suspect.into();
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Suspect {
    id: OwnerId,
    silent: Duration,
}

impl Suspect {
    /// Who.
    pub fn id(&self) -> OwnerId {
        self.id
    }

    /// For how long the watch has seen no new heartbeat of it.
    pub fn silent(&self) -> Duration {
        self.silent
    }

    /// Asks the kernel.
    ///
    /// # Errors
    ///
    /// As [`ProcessTable::convict`].
    pub fn convict(&self, table: &ProcessTable<'_>) -> Result<Verdict, LivenessError> {
        table.convict(self.id)
    }
}

/// Looks at heartbeats, and remembers since when each has not changed.
///
/// Reads no clock and makes no system call: time is the caller's.
#[derive(Debug)]
pub struct Watch {
    patience: Duration,
    seen: HashMap<OwnerId, Seen>,
}

#[derive(Debug)]
struct Seen {
    heartbeat: u32,
    since: Instant,
}

impl Watch {
    /// One that suspects whoever is silent for so long.
    pub fn new(patience: Duration) -> Self {
        Self { patience, seen: HashMap::new() }
    }

    /// Looks at the heartbeat of every record, and answers who was silent for too long, longest
    /// first. Who was never seen before is silent from now on.
    pub fn look(&mut self, table: &ProcessTable<'_>, now: Instant) -> Vec<Suspect> {
        let mut before = std::mem::take(&mut self.seen);
        let mut suspects = Vec::new();
        for (id, heartbeat) in table.heartbeats() {
            let seen = match before.remove(&id) {
                Some(seen) if seen.heartbeat == heartbeat => seen,
                _ => Seen { heartbeat, since: now },
            };
            let silent = now.saturating_duration_since(seen.since);
            if silent >= self.patience {
                suspects.push(Suspect { id, silent });
            }
            self.seen.insert(id, seen);
        }
        suspects.sort_by_key(|suspect| std::cmp::Reverse(suspect.silent));
        suspects
    }
}

/// Waits for deaths.
///
/// Where a process is of our own pid namespace its pidfd tells, at once; everywhere its lock is
/// looked at now and then: every [`LOOK`](Self::LOOK) of one without a pidfd, every
/// [`SELDOM`](Self::SELDOM) of one with, for it may leave or exec, which no pidfd tells. The
/// answer is always the kernel's verdict.
#[derive(Debug)]
pub struct DeathWatch<'t, 'a> {
    table: &'t ProcessTable<'a>,
    watched: Vec<Watched>,
    interrupt: Option<BorrowedFd<'t>>,
}

#[derive(Debug)]
struct Watched {
    id: OwnerId,
    /// `None` where there can be none.
    pidfd: Option<PidFd>,
    /// When its pidfd told. Its lock is about to fall then.
    ended: Option<Instant>,
}

impl<'t, 'a> DeathWatch<'t, 'a> {
    /// How long a death of a process without a pidfd stays unnoticed at the most.
    pub const LOOK: Duration = Duration::from_millis(10);
    /// How long it stays unnoticed that a process with a pidfd left or runs another program.
    pub const SELDOM: Duration = Duration::from_millis(100);
    /// How long to wait for nobody, until interrupted.
    const NEVER: Duration = Duration::from_secs(3600);
    /// How soon a lock is looked at again that is about to fall.
    const SOON: Duration = Duration::from_micros(200);

    /// A watch over nobody yet.
    pub fn new(table: &'t ProcessTable<'a>) -> Self {
        Self { table, watched: Vec::new(), interrupt: None }
    }

    /// The same, whose waits end early, with `None`, while `interrupt` is readable: an eventfd by
    /// which another thread says that there is something else to do.
    #[must_use]
    pub fn interrupted_by(mut self, interrupt: BorrowedFd<'t>) -> Self {
        self.interrupt = Some(interrupt);
        self
    }

    /// Watches `id` too, if it is not watched yet. A dead one's death is told by the next
    /// [`wait`](Self::wait).
    ///
    /// Takes a descriptor, if the process is of this pid namespace and there is one left.
    ///
    /// # Errors
    ///
    /// `Unknown` if it was never given out; nobody could ever die of that name.
    pub fn add(&mut self, id: OwnerId) -> Result<(), LivenessError> {
        if self.watched.iter().any(|watched| watched.id == id) {
            return Ok(());
        }
        if self.table.convict(id)? == Verdict::Unknown {
            return Err(LivenessError::Unknown { id });
        }
        // Without one for whatever reason, its lock tells.
        let process = self.table.process(id).ok().flatten();
        let pidfd = process.and_then(|process| PidFd::open(&process.identity).ok());
        self.watched.push(Watched { id, pidfd, ended: None });
        Ok(())
    }

    /// Watches `id` no more.
    pub fn remove(&mut self, id: OwnerId) {
        self.watched.retain(|watched| watched.id != id);
    }

    /// Who is watched.
    pub fn ids(&self) -> impl Iterator<Item = OwnerId> {
        self.watched.iter().map(|watched| watched.id)
    }

    /// Waits until one of the watched is dead, or until `deadline`; for ever without one. Who
    /// is told dead is no longer watched. `None` at the deadline, when interrupted, and at once if
    /// nobody is watched and nothing can interrupt.
    ///
    /// # Errors
    ///
    /// The kernel's. Everybody stays watched.
    pub fn wait(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<Option<Dead<OwnerId>>, LivenessError> {
        // Each is looked at when the wait begins, and at each end of its interval.
        let mut look_at_all = true;
        let mut looked = Instant::now();
        loop {
            let mut found = None;
            for (index, watched) in self.watched.iter().enumerate() {
                if (look_at_all || watched.ended.is_some())
                    && let Some(dead) = self.table.convict(watched.id)?.dead()
                {
                    found = Some((index, dead));
                    break;
                }
            }
            if let Some((index, dead)) = found {
                // Keeps the order: who is looked at last is not always the same.
                self.watched.remove(index);
                return Ok(Some(dead));
            }
            let now = Instant::now();
            if look_at_all {
                looked = now;
            }
            let idle = self.watched.is_empty() && self.interrupt.is_none();
            if idle || deadline.is_some_and(|deadline| deadline <= now) {
                return Ok(None);
            }
            let all_have_one = self.watched.iter().all(|watched| watched.pidfd.is_some());
            let interval = match (self.watched.is_empty(), all_have_one) {
                (true, _) => Self::NEVER,
                (_, true) => Self::SELDOM,
                (_, false) => Self::LOOK,
            };
            let next_look = looked + interval;
            let mut until = deadline.map_or(next_look, |deadline| deadline.min(next_look));
            if let Some(last) = self.watched.iter().filter_map(|watched| watched.ended).max() {
                // Less and less often: its memory may be a child's too, made by `vfork`.
                let since = now.saturating_duration_since(last);
                until = until.min(now + Self::SOON.max(since / 4));
            }
            if self.poll(until)? {
                return Ok(None);
            }
            look_at_all = Instant::now() >= next_look;
        }
    }

    /// Waits for a pidfd, and notes whose told; whether it was interrupted.
    fn poll(&mut self, until: Instant) -> Result<bool, LivenessError> {
        let (mut indices, mut fds) = (Vec::new(), Vec::new());
        for (index, watched) in self.watched.iter().enumerate() {
            // One that has told would end each wait at once.
            if let Some(pidfd) = watched.pidfd.as_ref().filter(|_| watched.ended.is_none()) {
                indices.push(index);
                fds.push(pidfd.poll_fd());
            }
        }
        fds.extend(self.interrupt.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        poll_until(&mut fds, Some(until))?;
        let told: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let interrupted = self.interrupt.is_some() && told.last() == Some(&true);
        for (index, told) in indices.into_iter().zip(told) {
            if told {
                self.watched[index].ended = Some(Instant::now());
            }
        }
        Ok(interrupted)
    }
}
