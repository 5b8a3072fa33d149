//! What Linux has, and other Unixes do not have or have otherwise.

use super::error::SegmentError;
use crate::ofd;
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, Mode, OFlags, Stat, fallocate, linkat, open, readlink,
};
use rustix::io::Errno;
use rustix::mm::{Advice, madvise};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

/// Where segments are unless another directory is given.
pub const DIRECTORY: &str = "/dev/shm";

/// A file without a name: gone with its last user, however that one ends.
#[derive(Debug)]
pub struct NewFile {
    pub file: OwnedFd,
}

impl NewFile {
    pub fn make(directory: &Path) -> Result<Self, SegmentError> {
        // Not O_EXCL, which would forbid to link it.
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match open(directory, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => Ok(Self { file }),
            // The second is what file systems say that take it for an ordinary open.
            Err(Errno::OPNOTSUPP | Errno::ISDIR) => Err(SegmentError::Unsupported {
                directory: directory.into(),
                what: "make files without a name",
            }),
            Err(errno) => Err(super::file::creating(directory, errno)),
        }
    }

    /// Gives it a name, if nobody has it.
    pub fn link(&self, path: &Path) -> Result<(), Errno> {
        // Before Linux 6.10 this wants a capability, and pretends that there is no file.
        match linkat(&self.file, c"", CWD, path, AtFlags::EMPTY_PATH) {
            Err(Errno::NOENT) => {
                linkat(CWD, by_number(self.file.as_fd()), CWD, path, AtFlags::SYMLINK_FOLLOW)
            }
            done => done,
        }
    }
}

/// Reserves room for those bytes of a file.
pub fn allocate(file: BorrowedFd<'_>, start: u64, len: u64) -> Result<(), Errno> {
    let end = start + len;
    let (mut at, mut step) = (start, len);
    while at < end {
        let now = step.min(end - at);
        match fallocate(file, FallocateFlags::empty(), at, now) {
            Ok(()) => at += now,
            // A signal undoes all that the call had done: smaller steps get on between two.
            Err(Errno::INTR) => step = (now / 2).max(1 << 16),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Gives the memory behind those bytes of a file back; they are zero from then on.
pub fn punch(file: BorrowedFd<'_>, start: u64, len: u64) -> Result<(), Errno> {
    let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::io::retry_on_intr(|| fallocate(file, how, start, len))
}

/// A new description of the same file.
pub fn reopen(file: BorrowedFd<'_>, path: &Path, like: &Stat) -> Result<OwnedFd, Errno> {
    match open(by_number(file), OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        // No /proc here.
        Err(Errno::NOENT | Errno::NOTDIR) => super::file::reopen_by_name(path, like),
        done => done,
    }
}

/// What the kernel calls an open file; for messages.
pub fn name_of(file: BorrowedFd<'_>) -> PathBuf {
    let link = by_number(file);
    match readlink(&*link, Vec::new()) {
        Ok(name) => OsString::from_vec(name.into_bytes()).into(),
        Err(_) => link.into(),
    }
}

/// Of the thread: /proc/self is the process's first one, which has no files once it has ended.
fn by_number(file: BorrowedFd<'_>) -> String {
    format!("/proc/thread-self/fd/{}", file.as_raw_fd())
}

/// A process that holds a `flock` of the file, by `/proc/locks`; for messages.
pub fn holder_of(file: &Stat) -> Option<u32> {
    let (major, minor) = (rustix::fs::major(file.st_dev), rustix::fs::minor(file.st_dev));
    let inode = format!("{major:02x}:{minor:02x}:{}", file.st_ino);
    for line in BufReader::new(File::open("/proc/locks").ok()?).lines() {
        // number: FLOCK ADVISORY WRITE pid device:inode start end; waiters have "->" second.
        let line = line.ok()?;
        let mut words = line.split_ascii_whitespace().skip(1);
        if words.next() == Some("FLOCK") {
            let mut words = words.skip(2);
            let (pid, found) = (words.next(), words.next());
            if found == Some(&*inode) {
                // Of another pid namespace it is 0 or -1.
                return pid?.parse().ok().filter(|pid| *pid != 0);
            }
        }
    }
    None
}

/// Says to [`is_wanted`] that this description waits for the file's lock, for itself alone, unless
/// another says so; until [`unwant`], or the description goes.
pub fn want(file: BorrowedFd<'_>) {
    let _ = ofd::lock(file, ofd::ALONE);
}

/// Says so no more.
pub fn unwant(file: BorrowedFd<'_>) {
    let _ = ofd::unlock(file, ofd::ALONE);
}

/// Whether another description waits for the file's lock, for itself alone.
pub fn is_wanted(file: BorrowedFd<'_>) -> bool {
    ofd::is_locked(file, ofd::ALONE).unwrap_or(false)
}

/// Whether [`keep_from_forks`] does so.
pub const KEPT_FROM_FORKS: bool = true;

/// Children that are forked do not have the mapping.
///
/// # Safety
///
/// The range is a mapping that the caller owns.
pub unsafe fn keep_from_forks(base: NonNull<u8>, len: usize) -> Result<(), Errno> {
    // SAFETY: passed on; changes nothing in this process.
    unsafe { madvise(base.as_ptr().cast(), len, Advice::LinuxDontFork) }
}

/// Asks for huge pages.
///
/// # Safety
///
/// The range is a mapping that the caller owns.
pub unsafe fn advise_huge(base: NonNull<u8>, len: usize) -> Result<(), Errno> {
    // SAFETY: passed on; the contents stay.
    unsafe { madvise(base.as_ptr().cast(), len, Advice::LinuxHugepage) }
}

/// As which access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Populate {
    Read,
    Write,
}

/// Brings pages into memory, with an error where an access would be a signal.
///
/// # Safety
///
/// The range lies in a mapping that the caller owns, and begins with a page.
pub unsafe fn populate(base: NonNull<u8>, len: usize, how: Populate) -> Result<(), Errno> {
    let advice = match how {
        Populate::Read => Advice::LinuxPopulateRead,
        Populate::Write => Advice::LinuxPopulateWrite,
    };
    loop {
        // SAFETY: passed on; the contents stay.
        match unsafe { madvise(base.as_ptr().cast(), len, advice) } {
            // What has been brought in stays, so this ends.
            Err(Errno::INTR | Errno::AGAIN) => {}
            // Before Linux 5.14. Then an access must do.
            Err(Errno::INVAL) => return Ok(()),
            done => return done,
        }
    }
}

/// How much of a mapping this process has in huge pages.
pub fn huge_bytes(base: usize, len: usize) -> io::Result<u64> {
    let end = base + len;
    let (mut inside, mut sum) = (false, 0);
    for line in BufReader::new(File::open("/proc/self/smaps")?).lines() {
        let line = line?;
        let first = line.split_ascii_whitespace().next().unwrap_or("");
        if let Some((from, to)) = first.split_once('-') {
            let from = usize::from_str_radix(from, 16).unwrap_or(0);
            let to = usize::from_str_radix(to, 16).unwrap_or(0);
            inside = from >= base && to <= end && from < to;
        } else if inside && (first == "ShmemPmdMapped:" || first == "FilePmdMapped:") {
            let kib: u64 =
                line.split_ascii_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0);
            sum += kib * 1024;
        }
    }
    Ok(sum)
}
