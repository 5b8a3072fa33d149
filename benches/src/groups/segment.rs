//! Memory that several processes map, and the chunks in it.

mod chunks;
mod open;

use crate::bench::Bench;

/// Runs the group.
///
/// # Errors
///
/// When a run fails.
pub fn run(bench: &Bench) -> Result<(), String> {
    open::run(bench)?;
    chunks::run(bench)
}
