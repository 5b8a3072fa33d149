//! What the processes of the demonstration do.

mod actor;
mod file;
mod janitor;
mod stream;

use super::options::Part;
use super::{act, measure};
use crate::cli::Global;
use crate::failure::Failure;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// Plays a part, until it is played or the process `parent` is gone.
pub fn play(global: &Global, parent: i32, part: &Part) -> Result<(), Failure> {
    if let Part::Janitor = part {
        return janitor::work(&global.domain()?);
    }
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != Pid::from_raw(parent) {
        // It is gone already.
        return Err(Failure::because("only `shm demo` starts this"));
    }
    match part {
        Part::Servant => act::serve(),
        Part::Actor { name } => actor::act(&global.domain()?, name),
        Part::Peer { medium, task, bytes } => {
            measure::peer::serve(&global.domain()?, *medium, *task, *bytes)
        }
        Part::Janitor => Ok(()),
    }
}
