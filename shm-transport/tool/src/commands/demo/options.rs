//! What can be said on the command line of `shm demo`.

use super::measure::{Medium, Task};
use crate::cli::Format;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// `shm demo`.
#[derive(Args, Debug)]
pub struct Demo {
    /// The file that is sent; this program itself unless one is named
    #[arg(long, value_name = "PATH")]
    pub file: Option<PathBuf>,
    /// How long each measurement takes; there are 24 of them
    #[arg(long, value_name = "SECONDS", default_value = "0.5", value_parser = seconds)]
    pub seconds_per_measurement: Duration,
    /// Measure nothing: a second in all
    #[arg(long)]
    pub no_measure: bool,
    /// How to print.
    #[command(flatten)]
    pub format: Format,
}

/// What a process of the demonstration does.
#[derive(Subcommand, Clone, Debug)]
pub enum Part {
    /// Joins under a name, and does what it is told
    Actor {
        /// The name
        name: String,
    },
    /// A worker of the service
    Servant,
    /// Puts everything away when its standard input ends
    Janitor,
    /// The other end of a measurement
    Peer {
        /// What is measured
        medium: Medium,
        /// How
        task: Task,
        /// Bytes of a message
        bytes: usize,
    },
}

fn seconds(text: &str) -> Result<Duration, String> {
    let expected = || "a number of seconds from 0.001 to 60 is expected".to_owned();
    let seconds: f64 = text.parse().map_err(|_| expected())?;
    if (0.001..=60.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(expected())
    }
}
