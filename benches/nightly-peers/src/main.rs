//! Runs one case of one peer once, and prints the nanoseconds that its messages took.
//!
//! `nightly-peers PEER CASE CPU CPU COUNT STEPS`, as `compare` calls it: STEPS is the work
//! that a paced side does between messages.

mod shaq;

use benches::pin::Cpus;
use std::env;
use std::process::ExitCode;

/// How a case runs.
#[derive(Clone, Copy)]
struct Settings {
    cpus: Cpus,
    count: u64,
    steps: u32,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let time = parse(&arguments).and_then(|(peer, case, settings)| match peer {
        "shaq" => shaq::run(case, settings),
        _ => Err(format!("no peer {peer}")),
    });
    match time {
        Ok(time) => {
            println!("{}", time.as_nanos());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: &[String]) -> Result<(&str, &str, Settings), String> {
    let [peer, case, first, second, count, steps] = arguments else {
        return Err("expected PEER CASE CPU CPU COUNT STEPS".into());
    };
    let number = |text: &String| text.parse::<u64>().map_err(|e| format!("{text}: {e}"));
    let settings = Settings {
        cpus: Cpus { first: number(first)? as usize, second: number(second)? as usize },
        count: number(count)?,
        steps: number(steps)? as u32,
    };
    Ok((peer, case, settings))
}
