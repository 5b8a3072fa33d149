//! Two CPUs, and keeping a thread on one.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fs;

/// The CPUs of the two sides.
#[derive(Clone, Copy, Debug)]
pub struct Cpus {
    /// Runs the writer, or the side that starts a round trip.
    pub first: usize,
    /// Runs the reader, or the side that answers.
    pub second: usize,
}

impl Cpus {
    /// Two that this process may run on, of different cores where there are such.
    ///
    /// # Errors
    ///
    /// When it may run on fewer than two.
    pub fn allowed() -> Result<Self, String> {
        let set = sched_getaffinity(None).map_err(|e| format!("reading the affinity: {e}"))?;
        let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect();
        let [first, rest @ ..] = cpus.as_slice() else {
            return Err("this process may run on no CPU".into());
        };
        // Threads of one core share its caches and its units, and measure something else.
        let other_core = rest.iter().find(|&&cpu| core(cpu) != core(*first));
        match other_core.or(rest.first()) {
            Some(second) => Ok(Self { first: *first, second: *second }),
            None => Err(format!("needs two CPUs, and this process may run on CPU {first} only")),
        }
    }

    /// The same two in the other order.
    #[must_use]
    pub fn swapped(self) -> Self {
        Self { first: self.second, second: self.first }
    }
}

/// Names the core of a CPU; the same for all where the kernel does not tell.
fn core(cpu: usize) -> [Option<String>; 2] {
    ["physical_package_id", "core_id"].map(|file| {
        fs::read_to_string(format!("/sys/devices/system/cpu/cpu{cpu}/topology/{file}")).ok()
    })
}

/// Keeps the calling thread on one CPU.
///
/// # Panics
///
/// When the kernel refuses.
pub fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).expect("the CPU was allowed a moment ago");
}
