//! A locked byte that lives exactly as long as this process's memory.

use super::error::LivenessError;
use crate::fork::{Process, this_process, without_forks};
use crate::ofd;
use rustix::fs::{CWD, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};
use shm_primitives::sync::crash;
use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

/// An exclusive lock of one byte of a file, kept by a mapping.
///
/// The lock belongs to an open file description that nothing refers to but one mapped page of
/// no access. No descriptor of it is open, so no child inherits it and no close gives it up. It falls
/// when the mapping goes: at [`Drop`], at `exec`, and when the last thread of the process has
/// left its memory for good, however it came to its end.
///
/// The byte may lie far beyond the end of the file. In a child made by `fork` the value is a
/// copy without a lock, and dropping it does nothing.
#[derive(Debug)]
pub struct ByteLock {
    /// Where the page is mapped. Never accessed.
    page: usize,
    byte: u64,
    /// Who mapped it: its number, and how many forks away from the first it is.
    process: Process,
}

/// Bytes to map: the kernel makes a page of it.
const LENGTH: usize = 1;

impl ByteLock {
    /// Takes the lock of `byte` in the file that `file` leads to. `None` if another has it.
    ///
    /// `file` itself is not locked, only used to open the file once more, for which it must be
    /// readable and writable for this user. Does not wait for others who have the lock; waits
    /// for a `fork` of another thread.
    ///
    /// # Errors
    ///
    /// The file cannot be opened anew, mapped or locked. Nothing is kept then.
    pub fn take(file: BorrowedFd<'_>, byte: u64) -> Result<Option<Self>, LivenessError> {
        // A child forked between here and the end would have the descriptor, or the page, and
        // with it keep the lock up after our death.
        without_forks(|| {
            let own = reopen(file, OFlags::RDWR)?;
            // SAFETY: a new mapping where the kernel likes; nobody can access it.
            let page = unsafe {
                mmap(ptr::null_mut(), LENGTH, ProtFlags::empty(), MapFlags::SHARED, &own, 0)
            };
            let page = page.map_err(LivenessError::os("mapping the page that keeps a lock"))?;
            let this = Self { page: page.addr(), byte, process: this_process() };
            // SAFETY: the mapping just made, and of all advice one that changes nothing in it.
            unsafe { madvise(page, LENGTH, Advice::LinuxDontFork) }
                .map_err(LivenessError::os("keeping the lock's page from children"))?;
            crash::step();
            let locked = ofd::lock(own.as_fd(), byte);
            crash::step();
            match locked {
                Ok(()) => Ok(Some(this)),
                Err(Errno::AGAIN | Errno::ACCESS) => Ok(None),
                Err(errno) => Err(LivenessError::os("locking a byte")(errno)),
            }
        })
    }

    /// The byte that is locked.
    pub fn byte(&self) -> u64 {
        self.byte
    }

    /// Whether this is the process that took the lock, and not a fork of it.
    pub fn is_ours(&self) -> bool {
        this_process() == self.process
    }
}

impl Drop for ByteLock {
    fn drop(&mut self) {
        // In a forked child the page is not there, and something else may be.
        if !self.is_ours() {
            return;
        }
        let page = ptr::without_provenance_mut::<c_void>(self.page);
        // Of one that has died in a test it goes without a step, as the kernel does it.
        let alive = !crash::dead();
        if alive {
            crash::step();
        }
        // SAFETY: the page that `take` mapped in this process and that nobody else knows of.
        // With memory too short even for that, the lock stays until the process ends.
        let _ = unsafe { munmap(page, LENGTH) };
        if alive {
            crash::step();
        }
    }
}

/// Whether anybody has a lock of `byte` in the file that `file` leads to: a [`ByteLock`], of
/// whatever process, this one too.
///
/// A system call, which the kernel answers without waiting, in a time that grows with the number
/// of locks in the file.
///
/// # Errors
///
/// The kernel's, of which none is known for a descriptor of a file.
pub fn is_locked(file: BorrowedFd<'_>, byte: u64) -> Result<bool, LivenessError> {
    ofd::is_locked(file, byte).map_err(LivenessError::os("looking at a lock"))
}

/// A new description of the file that `file` leads to, whatever its name leads to by now.
pub(super) fn reopen(file: BorrowedFd<'_>, access: OFlags) -> Result<OwnedFd, LivenessError> {
    let failed = |errno| LivenessError::Reopen { errno };
    // Of the thread, which may have descriptors of its own.
    let path = format!("/proc/thread-self/fd/{}", file.as_raw_fd());
    let opened = openat(CWD, path, access | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    let (wanted, found) = (fstat(file).map_err(failed)?, fstat(&opened).map_err(failed)?);
    if (wanted.st_dev, wanted.st_ino) != (found.st_dev, found.st_ino) {
        // Somebody has mounted over /proc.
        return Err(failed(Errno::NOENT));
    }
    Ok(opened)
}
