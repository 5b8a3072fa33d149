//! What both sides of the cases with chunks keep to.

use crate::pin::pin;
use std::thread;
use std::time::Duration;

/// Bytes of a chunk.
pub const SIZE: usize = 1024;

/// Makes a run on a thread of its own, kept on one CPU.
///
/// # Errors
///
/// When the run fails or panics.
pub fn alone(
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
