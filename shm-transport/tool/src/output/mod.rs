//! How facts are printed: as text for people, or as JSON.

mod table;

pub use table::{Cell, Table};

use crate::cli::{Color, Format, Global};
use crate::failure::Failure;
use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use serde::Serialize;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

/// What is as it should be.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// What somebody should know.
pub const WARNING: Style = AnsiColor::Yellow.on_default();
/// What is wrong.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// What stands above others.
pub const HEADING: Style = Style::new().bold();
/// What is of less interest.
pub const FAINT: Style = Style::new().dimmed();

/// Facts that can be printed both ways.
pub trait Report: Serialize {
    /// Writes them as text.
    fn show(&self, page: &mut dyn Write) -> io::Result<()>;
}

/// Standard output, coloured or not.
pub fn stdout(color: Color) -> AutoStream<io::StdoutLock<'static>> {
    let stdout = io::stdout().lock();
    AutoStream::new(stdout, choice(color))
}

/// Standard output for bytes that are not for a terminal: written as they come.
pub fn unbuffered() -> io::Result<File> {
    Ok(io::stdout().as_fd().try_clone_to_owned()?.into())
}

/// Prints a report, all at once.
pub fn print(global: &Global, format: Format, report: &impl Report) -> Result<(), Failure> {
    let mut page = Vec::new();
    if format.json {
        serde_json::to_writer_pretty(&mut page, report)?;
        page.push(b'\n');
    } else {
        report.show(&mut page)?;
    }
    let mut stdout = stdout(global.color);
    stdout.write_all(&page)?;
    Ok(stdout.flush()?)
}

/// Says on standard error why something was not done.
pub fn complain(color: Color, message: &str) {
    let stderr = io::stderr().lock();
    let mut stderr = AutoStream::new(stderr, choice(color));
    // Nobody is left to be told if this fails.
    let _ = writeln!(stderr, "{BAD}error{BAD:#}: {}", harmless(message));
}

/// What the library for it calls that.
pub fn choice(color: Color) -> ColorChoice {
    match color {
        Color::Auto => ColorChoice::Auto,
        Color::Always => ColorChoice::Always,
        Color::Never => ColorChoice::Never,
    }
}

/// The text without what a terminal would take for a command: names come from memory that others
/// write.
pub fn harmless(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() && character != '\n' || is_directing(character) {
            clean.extend(character.escape_default());
        } else {
            clean.push(character);
        }
    }
    clean
}

/// Whether it changes the direction of what follows, and so could show one name as another.
fn is_directing(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A number of bytes for people: at most four digits.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(value < 9.95 && (value * 10.0).round() % 10.0 != 0.0);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// A number of things for people.
pub fn count(number: f64) -> String {
    match number {
        number if number < 10_000.0 => format!("{number:.0}"),
        number if number < 10_000_000.0 => format!("{:.0} k", number / 1e3),
        number => format!("{:.1} M", number / 1e6),
    }
}

/// One thing, or several.
pub fn plural(count: usize, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_for_people() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (64 << 10, "64 KiB"),
            ((1 << 20) - 1, "1 MiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn what_a_terminal_would_obey_is_shown_instead() {
        assert_eq!(harmless("a\u{1b}[2Jb\rc\u{202e}d\u{9b}"), r"a\u{1b}[2Jb\rc\u{202e}d\u{9b}");
        assert_eq!(harmless("Grüße, 世界\n"), "Grüße, 世界\n");
    }
}
