//! A file, seen from outside.

use super::LookError;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, open, statat};
use rustix::io::Errno;
use serde::Serialize;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// What the file system says of a file.
#[derive(Clone, Debug, Serialize)]
pub struct Seen {
    /// The file.
    pub path: PathBuf,
    /// Its number: another file of the same name has another.
    pub inode: u64,
    /// Whose it is.
    pub user: u32,
    /// Its group.
    pub group: u32,
    /// Its permissions.
    pub mode: u32,
    /// Bytes it is long.
    pub size: u64,
    /// Bytes of memory that it takes.
    pub resident: u64,
    /// What it is, if it is no file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instead: Option<&'static str>,
}

impl Seen {
    /// What has that name; no symlink is followed.
    pub fn at(path: &Path) -> Result<Self, LookError> {
        match statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Self::of(path, &stat)),
            Err(Errno::NOENT | Errno::NOTDIR) => Err(LookError::NotFound { path: path.into() }),
            Err(errno) => Err(os(path, "look at", errno)),
        }
    }

    fn of(path: &Path, stat: &Stat) -> Self {
        Self {
            path: path.into(),
            inode: stat.st_ino,
            user: stat.st_uid,
            group: stat.st_gid,
            mode: stat.st_mode & 0o7777,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            resident: u64::try_from(stat.st_blocks).unwrap_or(0) * 512,
            instead: instead(stat.st_mode),
        }
    }

    /// Opens a file to be read, and sees what was opened.
    pub fn open(path: &Path) -> Result<(OwnedFd, Self), LookError> {
        // NONBLOCK and NOCTTY: the name may lead to a pipe or a terminal.
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        match open(path, flags, Mode::empty()) {
            Ok(file) => {
                let stat = fstat(&file).map_err(|errno| os(path, "look at", errno))?;
                let seen = Self::of(path, &stat);
                seen.is_file()?;
                Ok((file, seen))
            }
            Err(errno) => {
                // Why it cannot be opened is seen better from outside.
                let seen = Self::at(path)?;
                seen.is_file()?;
                Err(match errno {
                    Errno::ACCESS | Errno::PERM => {
                        LookError::Denied { path: path.into(), owner: seen.user }
                    }
                    errno => os(path, "open", errno),
                })
            }
        }
    }

    fn is_file(&self) -> Result<(), LookError> {
        match self.instead {
            None => Ok(()),
            Some(kind) => Err(LookError::NotAFile { path: self.path.clone(), kind }),
        }
    }
}

fn instead(mode: u32) -> Option<&'static str> {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => None,
        FileType::Symlink => Some("a symbolic link"),
        FileType::Directory => Some("a directory"),
        FileType::Fifo => Some("a named pipe"),
        FileType::Socket => Some("a socket"),
        _ => Some("a device"),
    }
}

/// What the kernel says.
pub fn os(path: &Path, operation: &'static str, errno: Errno) -> LookError {
    LookError::Os { path: PathBuf::from(path), operation, source: errno.into() }
}
