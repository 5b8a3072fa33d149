//! Write locks of one byte of a file, which belong to an open file description.
//!
//! Bytes that process records are told by begin with 4096; see [`liveness`](crate::liveness). Those
//! before it are the file's own: [`ALONE`].

use rustix::io::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Somebody wants the file for itself alone.
pub const ALONE: u64 = 0;

#[cfg(target_pointer_width = "64")]
type Lock = libc::flock;
#[cfg(not(target_pointer_width = "64"))]
type Lock = libc::flock64;

/// Takes it for the description of `file`, open for writing. Does not wait; `AGAIN` or `ACCESS` if
/// another description has it.
pub fn lock(file: BorrowedFd<'_>, byte: u64) -> Result<(), Errno> {
    control(file, libc::F_OFD_SETLK, &mut of(byte, libc::F_WRLCK as _))
}

/// Gives it back.
pub fn unlock(file: BorrowedFd<'_>, byte: u64) -> Result<(), Errno> {
    control(file, libc::F_OFD_SETLK, &mut of(byte, libc::F_UNLCK as _))
}

/// Whether a description other than that of `file` has it.
pub fn is_locked(file: BorrowedFd<'_>, byte: u64) -> Result<bool, Errno> {
    let mut lock = of(byte, libc::F_WRLCK as _);
    control(file, libc::F_OFD_GETLK, &mut lock)?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

fn of(byte: u64, kind: libc::c_short) -> Lock {
    // SAFETY: integers, for which zero is a value; with the padding that some targets have.
    let mut lock: Lock = unsafe { std::mem::zeroed() };
    lock.l_type = kind;
    lock.l_whence = libc::SEEK_SET as _;
    lock.l_start = byte as _;
    lock.l_len = 1;
    lock
}

fn control(file: BorrowedFd<'_>, command: libc::c_int, lock: &mut Lock) -> Result<(), Errno> {
    // SAFETY: an open descriptor, a command that takes the kernel's structure of 64-bit offsets,
    // and a valid one to read and write.
    #[cfg(target_pointer_width = "64")]
    let answer = unsafe { libc::fcntl(file.as_raw_fd(), command, lock as *mut Lock) };
    // Some C libraries' fcntl takes the structure of 32-bit offsets here, which reach only half
    // of the bytes; the system call itself does not.
    // SAFETY: as above.
    #[cfg(not(target_pointer_width = "64"))]
    let answer =
        unsafe { libc::syscall(libc::SYS_fcntl64, file.as_raw_fd(), command, lock as *mut Lock) };
    if answer >= 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    Err(Errno::from_io_error(&error).unwrap_or(Errno::IO))
}
