//! The file of a segment: found by its name, looked at before it is believed, locked while it is
//! found.

use super::error::{FileKind, SegmentError};
use super::sys;
use crate::domain::Domain;
use crate::fork::{Process, this_process};
use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, Stat, flock, fstat, fstatvfs, open,
    statat, statvfs,
};
use rustix::io::Errno;
use rustix::param::page_size;
use rustix::process::{Resource, geteuid, getrlimit};
use shm_primitives::sync::crash;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often a name may come and go under an opener's hands.
const ATTEMPTS: u32 = 1000;

/// Openers give way to an unlinker for this part of their patience.
const GIVING_WAY: u32 = 4;

/// A name, and what is asked of the file behind it.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    pub domain: &'a Domain,
    pub path: &'a Path,
    /// Bytes it has at least.
    pub minimum: u64,
    pub writable: bool,
    /// How long to wait for its lock.
    pub patience: Duration,
}

/// Who may be there at the same time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum With {
    /// Openers, which all come in at once.
    Others,
    /// An unlinker, alone.
    Nobody,
}

/// A file that its name led to after its lock was taken.
#[derive(Debug)]
pub struct Found {
    /// A description of its own, to be mapped.
    pub file: OwnedFd,
    pub stat: Stat,
    pub lock: Lock,
}

impl Wanted<'_> {
    /// Takes the lock of the file that has the name, and opens it once more.
    pub fn find(&self, with: With) -> Result<Found, SegmentError> {
        for _ in 0..ATTEMPTS {
            let (locked, stat) = self.open()?;
            let lock = Lock::take(locked, &stat, with, self)?;
            // The name may have gone, and come back, before the lock was had, and is looked at
            // again therefore. While the lock is had it stays: whoever unlinks takes the lock for
            // himself. What is mapped is this other description, not the locked one: a mapping
            // keeps its description, and so would keep the lock.
            let (file, again) = self.open()?;
            if same(&again, &stat) {
                return Ok(Found { file, stat: again, lock });
            }
        }
        Err(SegmentError::Contended { path: self.path.into(), attempts: ATTEMPTS })
    }

    fn open(&self) -> Result<(OwnedFd, Stat), SegmentError> {
        let access = if self.writable { OFlags::RDWR } else { OFlags::RDONLY };
        // NONBLOCK and NOCTTY: the name may lead to a pipe or a terminal.
        let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match open(self.path, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::NOTDIR) => {
                let directory = self.domain.directory();
                if !directory.is_dir() {
                    return Err(SegmentError::NoDirectory { directory: directory.into() });
                }
                return Err(SegmentError::NotFound { path: self.path.into() });
            }
            Err(errno) => {
                // Why it cannot be opened is seen better from outside.
                if let Ok(stat) = statat(CWD, self.path, AtFlags::SYMLINK_NOFOLLOW) {
                    self.verify(&stat)?;
                }
                return Err(self.os("open", errno));
            }
        };
        let stat = fstat(&file).map_err(|errno| self.os("look at", errno))?;
        self.verify(&stat)?;
        Ok((file, stat))
    }

    fn verify(&self, stat: &Stat) -> Result<(), SegmentError> {
        let path = || self.path.into();
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(SegmentError::NotAFile { path: path(), kind: kind_of(stat.st_mode) });
        }
        match self.domain.group() {
            None => {
                let (found, wanted) = (stat.st_uid, geteuid().as_raw());
                if found != wanted {
                    return Err(SegmentError::NotOurs { path: path(), found, wanted });
                }
            }
            Some(wanted) if stat.st_gid != wanted => {
                return Err(SegmentError::NotOurGroup { path: path(), found: stat.st_gid, wanted });
            }
            Some(_) => {}
        }
        #[allow(clippy::useless_conversion, reason = "it has 16 bits on some Unixes")]
        let found = u32::from(stat.st_mode) & 0o7777;
        let wanted = self.domain.mode();
        if found != wanted {
            return Err(SegmentError::WrongMode { path: path(), found, wanted });
        }
        let found = length_of(stat);
        if found < self.minimum {
            return Err(SegmentError::TooShort { path: path(), found, wanted: self.minimum });
        }
        if !found.is_multiple_of(page_size() as u64) {
            return Err(SegmentError::NotWholePages { path: path(), found, page: page_size() });
        }
        if found > isize::MAX as u64 {
            return Err(SegmentError::BadSize { found, most: isize::MAX as u64 });
        }
        Ok(())
    }

    fn os(&self, operation: &'static str, errno: Errno) -> SegmentError {
        os(self.path, operation, errno)
    }
}

/// A `flock`, on a description that nothing else has; given back when dropped, and by the kernel
/// when its holder dies.
#[derive(Debug)]
pub struct Lock {
    file: OwnedFd,
    /// Who took it.
    process: Process,
}

impl Lock {
    /// Waits for it, but not for ever: one who holds it may have been stopped.
    fn take(
        file: OwnedFd,
        stat: &Stat,
        with: With,
        wanted: &Wanted<'_>,
    ) -> Result<Self, SegmentError> {
        let operation = match with {
            With::Others => FlockOperation::NonBlockingLockShared,
            With::Nobody => FlockOperation::NonBlockingLockExclusive,
        };
        let begun = Instant::now();
        let mut pause = Duration::from_micros(20);
        let mut waited = Duration::ZERO;
        let mut waiting = None;
        crash::step();
        loop {
            // Not for ever: who waits there may have been stopped, too.
            let gives_way = with == With::Others
                && waited < wanted.patience / GIVING_WAY
                && sys::is_wanted(file.as_fd());
            let locked = if gives_way { Err(Errno::WOULDBLOCK) } else { flock(&file, operation) };
            match locked {
                Ok(()) => {
                    crash::step();
                    drop(waiting);
                    return Ok(Self { file, process: this_process() });
                }
                Err(Errno::WOULDBLOCK) => {}
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(wanted.os("lock", errno)),
            }
            if with == With::Nobody {
                // Again and again: of several the one that was first says it for all.
                waiting.get_or_insert(Waiting(&file)).say();
            }
            waited = begun.elapsed();
            if waited >= wanted.patience {
                return Err(SegmentError::Busy {
                    path: wanted.path.into(),
                    waited,
                    holder: sys::holder_of(stat),
                });
            }
            sleep(pause.min(wanted.patience - waited));
            pause = (pause * 2).min(Duration::from_millis(2));
        }
    }
}

/// An unlinker that waits: openers, of which one might always be there, give way.
#[derive(Debug)]
struct Waiting<'f>(&'f OwnedFd);

impl Waiting<'_> {
    fn say(&self) {
        sys::want(self.0.as_fd());
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // As that of a `Lock`.
        if !crash::dead() {
            sys::unwant(self.0.as_fd());
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing does it too, unless a fork has the descriptor meanwhile; and the fork, which has
        // not taken it, does not give it back.
        // Whoever has died in a test leaves it to the close.
        if self.process == this_process() && !crash::dead() {
            crash::step();
            let _ = flock(&self.file, FlockOperation::Unlock);
            crash::step();
        }
    }
}

/// Whether both are one file.
pub fn same(a: &Stat, b: &Stat) -> bool {
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
}

/// Bytes of a file.
pub fn length_of(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// What something is that is no regular file.
pub fn kind_of(mode: rustix::fs::RawMode) -> FileKind {
    match FileType::from_raw_mode(mode) {
        FileType::Symlink => FileKind::Symlink,
        FileType::Directory => FileKind::Directory,
        FileType::Fifo => FileKind::Pipe,
        FileType::Socket => FileKind::Socket,
        _ => FileKind::Other,
    }
}

/// A new description of the file that still has its name.
pub fn reopen_by_name(path: &Path, like: &Stat) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = open(path, flags, Mode::empty())?;
    if same(&fstat(&file)?, like) { Ok(file) } else { Err(Errno::NOENT) }
}

/// Why a file could not be made in a directory.
pub fn creating(directory: &Path, errno: Errno) -> SegmentError {
    match errno {
        Errno::NOENT | Errno::NOTDIR => SegmentError::NoDirectory { directory: directory.into() },
        Errno::NOSPC | Errno::DQUOT => SegmentError::NoSpace {
            path: directory.into(),
            wanted: page_size() as u64,
            available: statvfs(directory).ok().map(|found| found.f_bavail * found.f_frsize),
        },
        _ => os(directory, "make a file in", errno),
    }
}

/// Whether this process may make a file that long. Asked beforehand, since the kernel answers
/// with a signal.
pub fn check_limit(path: &Path, wanted: u64) -> Result<(), SegmentError> {
    match getrlimit(Resource::Fsize).current {
        Some(limit) if limit < wanted => {
            Err(SegmentError::FileSizeLimit { path: path.into(), wanted, limit })
        }
        _ => Ok(()),
    }
}

/// Reserves room in a file.
pub fn allocate(
    file: BorrowedFd<'_>,
    path: &Path,
    start: usize,
    len: usize,
) -> Result<(), SegmentError> {
    if len == 0 {
        return Ok(());
    }
    crash::step();
    let allocated = sys::allocate(file, start as u64, len as u64);
    crash::step();
    allocated.map_err(|errno| match errno {
        Errno::NOSPC | Errno::DQUOT => SegmentError::NoSpace {
            path: path.into(),
            wanted: len as u64,
            available: fstatvfs(file).ok().map(|found| found.f_bavail * found.f_frsize),
        },
        Errno::NOMEM => SegmentError::NoMemory { path: path.into(), wanted: len as u64 },
        Errno::OPNOTSUPP => SegmentError::Unsupported {
            directory: path.parent().unwrap_or(path).into(),
            what: "reserve room for a file",
        },
        _ => os(path, "reserve room in", errno),
    })
}

/// What populating failed of.
pub fn populating(
    file: BorrowedFd<'_>,
    path: &Path,
    wanted: usize,
) -> impl FnOnce(Errno) -> SegmentError {
    move |errno| match errno {
        // Where an access would have been a SIGBUS.
        Errno::FAULT => SegmentError::NoSpace {
            path: path.into(),
            wanted: wanted as u64,
            available: fstatvfs(file).ok().map(|found| found.f_bavail * found.f_frsize),
        },
        Errno::NOMEM => SegmentError::NoMemory { path: path.into(), wanted: wanted as u64 },
        _ => os(path, "bring into memory", errno),
    }
}

/// What the kernel says.
pub fn os(path: &Path, operation: &'static str, errno: Errno) -> SegmentError {
    SegmentError::Os { path: path.into(), operation, source: errno.into() }
}

/// The file of an open descriptor.
pub fn stat_of(file: impl AsFd, path: &Path) -> Result<Stat, SegmentError> {
    fstat(file).map_err(|errno| os(path, "look at", errno))
}
