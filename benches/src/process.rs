//! Processes on two CPUs.

use crate::pin::{Cpus, pin};
use crate::region::Region;
use crate::spin::STALL;
use rustix::process::{
    Pid, Signal, WaitOptions, kill_process, set_parent_process_death_signal, wait,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What a process does, on which CPU; what it returns is handed to the process that started it.
pub struct Work<'a> {
    cpu: usize,
    run: Box<dyn FnOnce() -> u64 + 'a>,
}

impl<'a> Work<'a> {
    /// That closure on that CPU.
    pub fn new(cpu: usize, run: impl FnOnce() -> u64 + 'a) -> Self {
        Self { cpu, run: Box::new(run) }
    }
}

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
    let first = Work::new(cpus.first, || first().as_nanos() as u64);
    let second = Work::new(cpus.second, || {
        second();
        0
    });
    Ok(Duration::from_nanos(all(vec![first, second])?[0]))
}

/// Runs each in a process of its own, all at once; returns what each returned.
///
/// To be called while the process has a single thread.
///
/// # Errors
///
/// When a process cannot be started, or fails; the others are then killed.
pub fn all(works: Vec<Work<'_>>) -> Result<Vec<u64>, String> {
    let count = works.len();
    let answers = Region::shared(size_of::<AtomicU64>() * count).map_err(|e| e.to_string())?;
    // SAFETY: the mapping is zeroed, aligned to a page and as long as the atomics, and lives
    // as long as the borrow.
    let answers = unsafe {
        std::slice::from_raw_parts(answers.base().cast::<AtomicU64>().as_ptr().cast_const(), count)
    };
    let mut running = Vec::new();
    let mut failure = None;
    for (Work { cpu, run }, answer) in works.into_iter().zip(answers) {
        match child(cpu, || answer.store(run(), Ordering::Relaxed)) {
            Ok(pid) => running.push(pid),
            Err(error) => {
                failure = Some(error);
                kill(&running);
                break;
            }
        }
    }
    while !running.is_empty() {
        let ended = wait(WaitOptions::empty()).map_err(|e| format!("waiting: {e}"))?;
        let (pid, status) = ended.expect("a wait without NOHANG");
        running.retain(|child| *child != pid);
        if status.exit_status() != Some(0) && failure.is_none() {
            failure = Some(format!("one of the {count} processes failed"));
            // The others may wait for an answer forever.
            kill(&running);
        }
    }
    match failure {
        Some(error) => Err(error),
        None => Ok(answers.iter().map(|answer| answer.load(Ordering::Relaxed)).collect()),
    }
}

fn kill(running: &[Pid]) {
    for child in running {
        // That one has just ended is no matter.
        let _ = kill_process(*child, Signal::KILL);
    }
}

/// Forks a process that does that work and ends.
fn child(cpu: usize, work: impl FnOnce()) -> Result<Pid, String> {
    // SAFETY: the caller of `all` answers for the single thread, so the child has every
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

/// A place where processes forked later wait for one another, as often as they like.
pub struct Meeting {
    region: Region,
    count: u32,
}

impl Meeting {
    /// A meeting of so many.
    ///
    /// # Errors
    ///
    /// When the kernel has no memory.
    pub fn new(count: u32) -> Result<Self, String> {
        let region = Region::shared(size_of::<AtomicU32>()).map_err(|e| e.to_string())?;
        Ok(Self { region, count })
    }

    /// Returns when all have come here as often as this one has.
    ///
    /// # Panics
    ///
    /// When the others do not come for so long that they never will.
    pub fn wait(&self) {
        // SAFETY: the mapping is zeroed, aligned to a page and as long as the atomic, and lives
        // as long as `self`.
        let arrived = unsafe { self.region.base().cast::<AtomicU32>().as_ref() };
        let before = arrived.fetch_add(1, Ordering::AcqRel);
        let whole = (before / self.count + 1) * self.count;
        let since = Instant::now();
        while arrived.load(Ordering::Acquire) < whole {
            assert!(since.elapsed() < STALL, "not all have come to the meeting");
            // Who is early leaves the CPUs to those who still do something that is timed.
            sleep(Duration::from_micros(50));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_leaves_a_meeting_before_all_have_come() {
        let meeting = Meeting::new(3).expect("memory");
        let entered = [const { AtomicU32::new(0) }; 2];
        std::thread::scope(|threads| {
            for _ in 0..3 {
                threads.spawn(|| {
                    for round in &entered {
                        round.fetch_add(1, Ordering::Relaxed);
                        meeting.wait();
                        assert_eq!(round.load(Ordering::Relaxed), 3);
                    }
                });
            }
        });
    }
}
