//! What stands in on Unixes other than Linux. Untested.
//!
//! There is no file without a name there: one is made under a temporary name, which stays if its
//! creator is killed in the meantime. Room is not reserved, forked children have the mappings,
//! pages come when they are touched, and openers do not give way to an unlinker.

use super::error::SegmentError;
use rustix::fs::{Mode, OFlags, Stat, link, open, unlink};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

pub const DIRECTORY: &str = "/tmp";

#[derive(Debug)]
pub struct NewFile {
    pub file: OwnedFd,
    temporary: PathBuf,
}

impl NewFile {
    pub fn make(directory: &Path) -> Result<Self, SegmentError> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let (pid, number) = (std::process::id(), MADE.fetch_add(1, Relaxed));
        let temporary = directory.join(format!("shm-new.{pid}.{number}"));
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match open(&temporary, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => Ok(Self { file, temporary }),
            Err(errno) => Err(super::file::creating(directory, errno)),
        }
    }

    pub fn link(&self, path: &Path) -> Result<(), Errno> {
        link(&self.temporary, path)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        let _ = unlink(&self.temporary);
    }
}

pub fn allocate(_file: BorrowedFd<'_>, _start: u64, _len: u64) -> Result<(), Errno> {
    Ok(())
}

pub fn punch(_file: BorrowedFd<'_>, _start: u64, _len: u64) -> Result<(), Errno> {
    Err(Errno::NOTSUP)
}

pub fn reopen(_file: BorrowedFd<'_>, path: &Path, like: &Stat) -> Result<OwnedFd, Errno> {
    super::file::reopen_by_name(path, like)
}

pub fn name_of(file: BorrowedFd<'_>) -> PathBuf {
    format!("descriptor {}", file.as_raw_fd()).into()
}

pub fn holder_of(_file: &Stat) -> Option<u32> {
    None
}

pub fn want(_file: BorrowedFd<'_>) {}

pub fn unwant(_file: BorrowedFd<'_>) {}

pub fn is_wanted(_file: BorrowedFd<'_>) -> bool {
    false
}

pub const KEPT_FROM_FORKS: bool = false;

pub unsafe fn keep_from_forks(_base: NonNull<u8>, _len: usize) -> Result<(), Errno> {
    Ok(())
}

pub unsafe fn advise_huge(_base: NonNull<u8>, _len: usize) -> Result<(), Errno> {
    Err(Errno::NOTSUP)
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Populate {
    Read,
    Write,
}

pub unsafe fn populate(_base: NonNull<u8>, _len: usize, _how: Populate) -> Result<(), Errno> {
    Ok(())
}

pub fn huge_bytes(_base: usize, _len: usize) -> io::Result<u64> {
    Err(io::ErrorKind::Unsupported.into())
}
