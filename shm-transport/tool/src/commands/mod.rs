//! What the tool does, a file for each command.

mod bench;
mod clean;
mod demo;
mod dlq;
mod doctor;
mod inspect;
mod joining;
mod list;
mod manual;
mod metrics;
mod pipe;
mod recv;
mod send;
mod stop;
mod top;

pub use demo::{Demo, Part};

pub use joining::unless_interrupted;

use crate::cli::{Backstage, Cli, Command, Role, Said};
use crate::failure::Failure;

/// Does what was asked.
pub fn run(said: Said) -> Result<(), Failure> {
    match said {
        Said::ByOthers(cli) => run_for_others(cli),
        Said::ByItself(Backstage { global, role }) => match role {
            Role::Demo { parent, part } => demo::play(&global, parent, &part),
            Role::Bench => bench::be_the_peer(&global),
        },
    }
}

fn run_for_others(cli: Cli) -> Result<(), Failure> {
    let Cli { global, command } = cli;
    match command {
        Command::List(options) => list::run(&global, &options),
        Command::Inspect(options) => inspect::run(&global, &options),
        Command::Clean(options) => clean::run(&global, &options),
        Command::Demo(options) => demo::run(&global, &options),
        Command::Stop(options) => stop::run(&global, &options),
        Command::Dlq(options) => dlq::run(&global, &options),
        Command::Doctor(format) => doctor::run(&global, format),
        Command::Top(options) => top::run(&global, &options),
        Command::Metrics(options) => metrics::run(&global, &options),
        Command::Send(options) => send::run(&global, &options),
        Command::Recv(options) => recv::recv(&global, &options),
        Command::Echo(options) => recv::echo(&global, &options),
        Command::Pipe(options) => pipe::run(&global, &options),
        Command::Bench(options) => bench::run(&global, &options),
        Command::Man(options) => manual::man(&options),
        Command::Completions(options) => manual::completions(options.shell),
    }
}
