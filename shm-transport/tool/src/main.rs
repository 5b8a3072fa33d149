//! The command-line tool `shm`: looks at what lies in shared memory, talks to nodes, repairs what
//! the dead left behind, and measures.
//!
//! What it shows of a segment it reads from a [copy](look::Snapshot), so that looking changes
//! nothing and nobody is disturbed, be he alive, stopped or dead. Who lives is what the kernel
//! says. What it removes it removes through `shm-transport`, with proof of the owner's death.

#![forbid(unsafe_code)]

mod cli;
mod commands;
mod failure;
mod logging;
mod look;
mod output;

use std::process::ExitCode;

fn main() -> ExitCode {
    let said = cli::Said::parse();
    let color = said.global().color;
    logging::start(color, said.global().verbose);
    let done = commands::run(said);
    commands::unless_interrupted();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(message) = failure.message() {
                output::complain(color, &message);
            }
            ExitCode::from(failure.code())
        }
    }
}
