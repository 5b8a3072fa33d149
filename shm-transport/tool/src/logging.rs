//! What the library logs, on standard error.

use crate::cli::Color;
use crate::output::{self, FAINT};
use anstream::AutoStream;
use log::{LevelFilter, Log, Metadata, Record};
use std::io::Write;

/// Prints a line for each record.
struct Lines {
    color: Color,
}

/// Shows warnings and errors, and more if asked `verbose` times.
pub fn start(color: Color, verbose: u8) {
    let most = match verbose {
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        2 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    // There is no other logger in this program.
    if log::set_boxed_logger(Box::new(Lines { color })).is_ok() {
        log::set_max_level(most);
    }
}

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let mut stderr = AutoStream::new(std::io::stderr(), output::choice(self.color));
        let text = output::harmless(&record.args().to_string());
        let (level, target) = (record.level(), record.target());
        // Nobody is left to be told if this fails.
        let _ = writeln!(stderr, "{FAINT}{level:5} {target}:{FAINT:#} {text}");
    }

    fn flush(&self) {}
}
