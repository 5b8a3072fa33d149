//! A worker that does not die when it is killed. The unit tests of supervisors have it from here, too.

use std::ffi::{OsStr, c_int, c_void};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;

/// Is in an uninterruptible sleep, as a process is that waits for who shares its memory. SIGKILL
/// ends the process all the same, but that memory lives on, with the locks on it, as long as the
/// other does: to everybody else this is a worker that does not die. The other one's number is in
/// the file then.
pub fn stick(file: &[u8]) {
    extern "C" fn keep(file: *mut c_void) -> c_int {
        // SAFETY: what the caller lent, who waits. System calls alone, on a stack of its own.
        unsafe {
            let file = file.cast::<RawFd>().read();
            let pid = libc::getpid();
            libc::write(file, (&raw const pid).cast(), size_of_val(&pid));
            // Whatever becomes of the test, it ends.
            libc::alarm(300);
            libc::pause();
            libc::_exit(0)
        }
    }
    let file = std::fs::File::create(OsStr::from_bytes(file)).unwrap();
    let mut descriptor = file.as_raw_fd();
    let mut stack = vec![0u128; 1 << 12];
    let top = stack.as_mut_ptr_range().end;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the stack is as large as what runs there needs, and nobody else's; it and what is lent
    // stay until the other has ended or this process has.
    let other = unsafe { libc::clone(keep, top.cast(), flags, (&raw mut descriptor).cast()) };
    assert!(other > 0);
}
