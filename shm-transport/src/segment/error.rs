//! What can go wrong with a segment, and what to do then.

use crate::domain::NameError;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

/// Why a segment could not be created, opened, extended or unlinked. Each says what was found and
/// what to do about it. Nothing is left behind by what failed, but for
/// pages of a sparse segment that an opener looked at before there was no more room.
///
/// `path` is the file, or what the kernel calls it if it has no name.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// Not a name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// There is no such segment.
    #[error(
        "there is no segment {path:?}: start whoever creates it, and check that both say the same domain"
    )]
    NotFound {
        /// The file.
        path: PathBuf,
    },
    /// The directory of the domain does not exist or is none.
    #[error(
        "there is no directory {directory:?} for segments: mount a tmpfs there, or name another directory"
    )]
    NoDirectory {
        /// The directory.
        directory: PathBuf,
    },
    /// The directory's file system lacks what segments need.
    #[error("the file system of {directory:?} cannot {what}: use a tmpfs, such as /dev/shm")]
    Unsupported {
        /// The directory.
        directory: PathBuf,
        /// What it cannot do.
        what: &'static str,
    },
    /// The name is taken.
    #[error("there is a segment {path:?} already: open it, or unlink it if its owner is gone")]
    AlreadyExists {
        /// The file.
        path: PathBuf,
    },
    /// Something else than a file has the name.
    #[error("{path:?} is {kind}, not a segment: remove it, or use another name or domain")]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is.
        kind: FileKind,
    },
    /// The file is another user's.
    #[error(
        "{path:?} belongs to user {found}, and only user {wanted} is believed: have its owner remove it, or use another domain"
    )]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: u32,
        /// Whose it should be.
        wanted: u32,
    },
    /// The file is another group's.
    #[error(
        "{path:?} belongs to group {found}, and the domain is of group {wanted}: have its owner remove it, or use another domain"
    )]
    NotOurGroup {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: u32,
        /// Whose it should be.
        wanted: u32,
    },
    /// It may be used, but not unlinked.
    #[error("only user {owner}, who created {path:?}, can unlink it: have that user do it")]
    OnlyItsOwner {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// The file's permissions are not those it was made with.
    #[error(
        "{path:?} has mode {found:04o} instead of {wanted:04o}: somebody changed it or it is foreign; chmod or remove it"
    )]
    WrongMode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        found: u32,
        /// The mode of every segment of its domain.
        wanted: u32,
    },
    /// The file has fewer bytes than the segment.
    #[error(
        "{path:?} has {found} bytes and at least {wanted} are needed: it was truncated or is no segment; remove it"
    )]
    TooShort {
        /// The file.
        path: PathBuf,
        /// Bytes it has.
        found: u64,
        /// Bytes needed.
        wanted: u64,
    },
    /// The file's length is no multiple of a page, as every segment's is.
    #[error(
        "{path:?} has {found} bytes, no multiple of {page}: it was truncated or is no segment; remove it"
    )]
    NotWholePages {
        /// The file.
        path: PathBuf,
        /// Bytes it has.
        found: u64,
        /// Bytes of a page.
        page: usize,
    },
    /// The file is one of ours by name, owner, mode and size, and its content is something else:
    /// said by the caller's check.
    #[error("{path:?} is no segment of this kind: {why}; remove it, or use another name or domain")]
    NotASegment {
        /// The file.
        path: PathBuf,
        /// What the caller found.
        why: Box<dyn StdError + Send + Sync>,
    },
    /// The file system is full, or a quota is used up.
    #[error(
        "no room for {wanted} bytes of {path:?} ({} are free): remove segments that nobody uses, or enlarge the file system",
        Known(available)
    )]
    NoSpace {
        /// The file or directory.
        path: PathBuf,
        /// Bytes asked for.
        wanted: u64,
        /// Bytes the file system has left; less if it is a quota that is used up.
        available: Option<u64>,
    },
    /// The process may not make files that large.
    #[error(
        "{path:?} would have {wanted} bytes, and this process may write {limit} to a file: raise the limit (ulimit -f, RLIMIT_FSIZE)"
    )]
    FileSizeLimit {
        /// The file.
        path: PathBuf,
        /// Bytes it would have.
        wanted: u64,
        /// Bytes a file may have.
        limit: u64,
    },
    /// The process or its control group has no memory or no addresses left.
    #[error(
        "no memory to map {wanted} bytes of {path:?}: free some, or raise the limit of the process or its control group"
    )]
    NoMemory {
        /// The file.
        path: PathBuf,
        /// Bytes to be mapped or filled.
        wanted: u64,
    },
    /// A size that no segment has.
    #[error("a segment cannot have {found} bytes: at least 1 and at most {most}")]
    BadSize {
        /// Bytes asked for.
        found: u64,
        /// The most there can be on this machine.
        most: u64,
    },
    /// A range that does not lie in the segment, or not on the borders of pages.
    #[error(
        "bytes {start} to {end} are no range of whole pages in {path:?}, which has {size} bytes"
    )]
    BadRange {
        /// The file.
        path: PathBuf,
        /// First byte.
        start: usize,
        /// After the last byte.
        end: usize,
        /// Bytes of the segment.
        size: usize,
    },
    /// Others hold the segment's lock and do not let go of it.
    #[error(
        "{path:?} has been locked for {waited:?} by {}: it is opening or unlinking it, or was stopped while it did",
        Holder(holder)
    )]
    Busy {
        /// The file.
        path: PathBuf,
        /// How long was waited.
        waited: Duration,
        /// One who holds the lock, if the kernel says: its process id.
        holder: Option<u32>,
    },
    /// The name kept coming and going.
    #[error(
        "{path:?} was created or unlinked by others {attempts} times while it was being opened: see who does, and try again"
    )]
    Contended {
        /// The file.
        path: PathBuf,
        /// How often it was tried.
        attempts: u32,
    },
    /// The memory received can be truncated or is otherwise not as promised.
    #[error(
        "{path:?} was passed without the seals {missing}: whoever sent it is no peer of this version"
    )]
    NotSealed {
        /// What the kernel calls it.
        path: PathBuf,
        /// What is missing.
        missing: String,
    },
    /// The memory received was sealed against all further writers.
    #[error("{path:?} was passed for reading only: map it for reading")]
    OnlyForReading {
        /// What the kernel calls it.
        path: PathBuf,
    },
    /// What came over the socket is no segment.
    #[error(
        "{what} came over the socket instead of a segment: whoever sent it is no peer of this version"
    )]
    NotPassed {
        /// What came.
        what: &'static str,
    },
    /// The other side closed the socket.
    #[error("the other side closed the socket before it passed a segment")]
    Closed,
    /// Anything else the kernel says.
    #[error("cannot {operation} {path:?}: {source}")]
    Os {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        operation: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
}

/// What a path leads to that is no regular file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FileKind {
    /// A symbolic link; it is never followed.
    Symlink,
    /// A directory.
    Directory,
    /// A named pipe.
    Pipe,
    /// A socket.
    Socket,
    /// A device, or something this crate does not know.
    Other,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Symlink => "a symbolic link",
            Self::Directory => "a directory",
            Self::Pipe => "a named pipe",
            Self::Socket => "a socket",
            Self::Other => "a device",
        })
    }
}

struct Known<'a>(&'a Option<u64>);

impl fmt::Display for Known<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(bytes) => bytes.fmt(f),
            None => f.write_str("how many, the kernel does not say,"),
        }
    }
}

struct Holder<'a>(&'a Option<u32>);

impl fmt::Display for Holder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pid) => write!(f, "process {pid}"),
            None => f.write_str("another process"),
        }
    }
}
