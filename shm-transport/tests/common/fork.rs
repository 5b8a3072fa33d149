//! Children made by `fork`, which have copies of all that their parent has.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Ends a child that hangs.
const SECONDS: u32 = 20;

/// What a forked child answers: 0 to 99 by its own will, else how it was killed.
pub fn in_a_fork(child: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child uses nothing that another thread may have locked but what libc's own
    // handlers see to, and ends without running what is not its own.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: ends this child if it hangs.
        unsafe { libc::alarm(SECONDS) };
        let answer = catch_unwind(AssertUnwindSafe(child)).unwrap_or(99);
        // SAFETY: ends it without the destructors of the parent's.
        unsafe { libc::_exit(answer) };
    }
    assert!(pid > 0);
    let mut status = 0;
    // SAFETY: our own child.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 1000 + status }
}
