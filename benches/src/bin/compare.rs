//! Compares our rings and nodes with their peers on this machine; see `--help`.

use benches::bench::Bench;
use benches::groups;
use benches::measure::Plan;
use benches::ours::service;
use benches::pin::Cpus;
use benches::report::print_heading;
use clap::Parser;
use clap::builder::PossibleValuesParser;
use std::process::ExitCode;
use std::time::Duration;

/// Compares our rings and nodes with their peers on two CPUs of this machine.
///
/// Ours and theirs run by turns; the median of the runs counts. Between them runs the floor, by
/// which states of the machine are told apart. Progress goes to stderr.
#[derive(Parser)]
struct Args {
    /// What to compare; everything if none is named
    #[arg(value_name = "GROUP", value_parser = PossibleValuesParser::new(groups::names()))]
    groups: Vec<String>,
    /// Only rows whose `case / peer` contains this, as in `u64 / rtrb`
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Print one JSON object a line, not a table
    #[arg(long)]
    json: bool,
    /// Runs of each side
    #[arg(long, value_name = "N", default_value_t = 41, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// About what a run takes, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 25, value_parser = clap::value_parser!(u16).range(1..))]
    millis: u16,
}

fn main() -> ExitCode {
    if let Some(code) = service::work() {
        return code;
    }
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    let cpus = Cpus::allowed()?;
    let plan = Plan { runs: args.runs.into(), target: Duration::from_millis(args.millis.into()) };
    eprintln!("on CPUs {} and {}", cpus.first, cpus.second);
    let mut bench = Bench::new(cpus, plan, args.json, args.only.clone());
    if !args.json {
        print_heading();
    }
    for group in groups::ALL {
        if args.groups.is_empty() || args.groups.iter().any(|name| name == group.name) {
            bench.begin(group.name);
            (group.run)(&bench)?;
        }
    }
    Ok(())
}
