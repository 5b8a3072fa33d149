//! Chunks of shared memory, on one thread: what they cost apart from moving between cores.

use crate::bench::Bench;
use crate::measure::Side;
use crate::ours;
use crate::pin::pin;
use std::thread;
use std::time::Duration;

const SIZE: usize = 1024;

/// Runs the group.
///
/// # Errors
///
/// When a run fails.
pub fn run(bench: &Bench) -> Result<(), String> {
    let cpu = bench.cpus.first;
    let ours = Side::new(move |count| alone(cpu, || ours::loans(SIZE, count)));
    bench.versus("chunk loan+return", "iceoryx2", ours, peer::loans(cpu))?;
    let ours = Side::new(move |count| alone(cpu, || ours::messages(SIZE, count)));
    bench.versus("chunk send+receive", "iceoryx2", ours, peer::messages(cpu))
}

/// A run on a thread of its own, kept on one CPU.
fn alone(
    cpu: usize,
    run: impl FnOnce() -> Result<Duration, String> + Send,
) -> Result<Duration, String> {
    thread::scope(|threads| {
        let run = threads.spawn(move || {
            pin(cpu);
            run()
        });
        run.join().map_err(|_| "the run panicked")?
    })
}

#[cfg(feature = "iceoryx2")]
mod peer {
    use super::{SIZE, alone};
    use crate::measure::Side;
    use crate::peers::iceoryx2;

    pub fn loans(cpu: usize) -> Result<Side<'static>, String> {
        Ok(Side::new(move |count| alone(cpu, || iceoryx2::loans::<SIZE>(count))))
    }

    pub fn messages(cpu: usize) -> Result<Side<'static>, String> {
        Ok(Side::new(move |count| alone(cpu, || iceoryx2::messages::<SIZE>(count))))
    }
}

#[cfg(not(feature = "iceoryx2"))]
mod peer {
    use crate::measure::Side;

    pub fn loans(_cpu: usize) -> Result<Side<'static>, String> {
        Err("built without the feature iceoryx2".into())
    }

    pub fn messages(cpu: usize) -> Result<Side<'static>, String> {
        loans(cpu)
    }
}
