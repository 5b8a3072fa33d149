//! Keeping to one core.

use rustix::thread::{CpuSet, sched_setaffinity};
use std::io;

/// Keeps this thread, and whatever it starts from now on, on that core. One system call, without
/// allocation or lock: it may be made between fork and exec.
pub fn pin(core: usize) -> io::Result<()> {
    if core >= CpuSet::MAX_CPU {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}
