//! What `compare` asks of a program with peers apart: one case of one peer, run once.
//!
//! The program is called as `PROGRAM PEER CASE CPU CPU COUNT STEPS` and prints the nanoseconds
//! that the messages took, or why it could not tell.

use crate::pin::Cpus;
use std::env;
use std::process::ExitCode;
use std::time::Duration;

/// How a case runs.
#[derive(Clone, Copy, Debug)]
pub struct Errand {
    /// Where the two sides run.
    pub cpus: Cpus,
    /// How many messages.
    pub count: u64,
    /// The work that a paced side does between messages, in steps.
    pub steps: u32,
}

impl Errand {
    /// The arguments that follow the peer and the case.
    #[must_use]
    pub fn arguments(&self) -> [String; 4] {
        let Self { cpus, count, steps } = self;
        [cpus.first.to_string(), cpus.second.to_string(), count.to_string(), steps.to_string()]
    }

    fn parse(arguments: &[String]) -> Result<Self, String> {
        let [first, second, count, steps] = arguments else {
            return Err("expected PEER CASE CPU CPU COUNT STEPS".into());
        };
        let number = |text: &String| text.parse::<u64>().map_err(|e| format!("{text}: {e}"));
        let steps = number(steps)?;
        Ok(Self {
            cpus: Cpus { first: number(first)? as usize, second: number(second)? as usize },
            count: number(count)?,
            steps: steps.try_into().map_err(|e| format!("{steps}: {e}"))?,
        })
    }
}

/// The whole of such a program: `run` is given the peer, the case and how to run it.
pub fn serve(run: impl FnOnce(&str, &str, Errand) -> Result<Duration, String>) -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let time = match arguments.as_slice() {
        [peer, case, rest @ ..] => Errand::parse(rest).and_then(|errand| run(peer, case, errand)),
        _ => Err("expected PEER CASE CPU CPU COUNT STEPS".into()),
    };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errand_arrives_as_it_was_sent() {
        let sent = Errand { cpus: Cpus { first: 3, second: 7 }, count: 1 << 40, steps: 5 };
        let got = Errand::parse(&sent.arguments()).expect("its own arguments");
        assert_eq!((got.cpus.first, got.cpus.second), (3, 7));
        assert_eq!((got.count, got.steps), (1 << 40, 5));
    }

    #[test]
    fn arguments_that_are_none_are_refused() {
        let parse = |text: &str| {
            let words: Vec<String> = text.split(' ').map(Into::into).collect();
            Errand::parse(&words).map(|_| ())
        };
        assert!(parse("0 1 2 3").is_ok());
        assert!(parse("0 1 2").is_err());
        assert!(parse("0 1 2 x").is_err());
        assert!(parse("0 1 2 4294967296").is_err());
    }
}
