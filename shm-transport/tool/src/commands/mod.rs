//! What the tool does, a file for each command.

mod clean;
mod demo;
mod doctor;
mod inspect;
mod list;
mod manual;

pub use demo::Demo;

use crate::cli::{Cli, Command};
use crate::failure::Failure;

/// Does what was asked.
pub fn run(cli: Cli) -> Result<(), Failure> {
    let Cli { global, command } = cli;
    match command {
        Command::List(options) => list::run(&global, &options),
        Command::Inspect(options) => inspect::run(&global, &options),
        Command::Clean(options) => clean::run(&global, &options),
        Command::Demo(options) => demo::run(&global, &options),
        Command::Doctor(format) => doctor::run(&global, format),
        Command::Man(options) => manual::man(&options),
        Command::Completions(options) => manual::completions(options.shell),
    }
}
