//! Two processes on two CPUs.

use crate::pin::{Cpus, pin};
use crate::region::Region;
use rustix::process::{
    Pid, Signal, WaitOptions, kill_process, set_parent_process_death_signal, wait,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Runs one closure in a process on the first CPU and one in a process on the second;
/// returns what the first returned.
///
/// To be called while the process has a single thread.
///
/// # Errors
///
/// When a process cannot be started, or fails; the other is then killed.
pub fn pair(
    cpus: Cpus,
    first: impl FnOnce() -> Duration,
    second: impl FnOnce(),
) -> Result<Duration, String> {
    let answer = Region::shared(size_of::<AtomicU64>()).map_err(|e| e.to_string())?;
    // SAFETY: the mapping is zeroed, aligned to a page and as long as the atomic, and lives
    // as long as the borrow.
    let answer = unsafe { answer.base().cast::<AtomicU64>().as_ref() };
    let mut running = vec![
        child(cpus.first, || {
            answer.store(first().as_nanos() as u64, Ordering::Relaxed);
        })?,
        child(cpus.second, second)?,
    ];
    let mut failed = false;
    while !running.is_empty() {
        let ended = wait(WaitOptions::empty()).map_err(|e| format!("waiting: {e}"))?;
        let (pid, status) = ended.expect("a wait without NOHANG");
        running.retain(|child| *child != pid);
        if status.exit_status() != Some(0) && !failed {
            failed = true;
            // The other may wait for an answer forever; that it has just ended is no matter.
            for other in &running {
                let _ = kill_process(*other, Signal::KILL);
            }
        }
    }
    if failed {
        return Err("one of the two processes failed".into());
    }
    Ok(Duration::from_nanos(answer.load(Ordering::Relaxed)))
}

/// Forks a process that does that work and ends.
fn child(cpu: usize, work: impl FnOnce()) -> Result<Pid, String> {
    // SAFETY: the caller of `pair` answers for the single thread, so the child has every
    // lock of the process in a known state.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(format!("fork: {}", std::io::Error::last_os_error()));
    }
    if let Some(pid) = Pid::from_raw(pid) {
        return Ok(pid);
    }
    let done = catch_unwind(AssertUnwindSafe(|| {
        // An orphan would spin on its CPU forever.
        set_parent_process_death_signal(Some(Signal::KILL)).expect("a valid signal");
        pin(cpu);
        work();
    }));
    // SAFETY: ends the process at once, so that nothing of the parent's is torn down twice.
    unsafe { libc::_exit(i32::from(done.is_err())) }
}
