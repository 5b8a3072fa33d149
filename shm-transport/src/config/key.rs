//! The table of settings: one row says all there is to say of one.

use super::{Config, Full, Wait, policy::whole};
use crate::domain::Domain;
use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;

/// One of the settings of a [`Config`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Key {
    /// Its name in a file, and that of the field.
    pub name: &'static str,
    /// The environment variable that sets it.
    pub variable: &'static str,
    /// The unit of a number, or what else it is.
    pub unit: &'static str,
    /// What it may be.
    pub expected: &'static str,
    /// What it is for.
    pub about: &'static str,
    text: fn(&Config) -> String,
    set: fn(&mut Config, OsString) -> Result<(), Refused>,
    valid: fn(&Config) -> bool,
}

/// Why a variable's text was not taken.
pub(super) enum Refused {
    NotUtf8(OsString),
    Not(String),
}

impl Key {
    /// What it is in these settings, as an environment variable would say it.
    #[must_use]
    pub fn text(&self, config: &Config) -> String {
        (self.text)(config)
    }

    /// The same as a value in TOML.
    pub(super) fn toml(&self, config: &Config) -> String {
        let text = self.text(config);
        if matches!(self.unit, "name" | "path" | "policy") { quoted(&text) } else { text }
    }

    /// Sets it to what a variable says, which may be out of bounds still.
    pub(super) fn set(&self, config: &mut Config, text: OsString) -> Result<(), Refused> {
        (self.set)(config, text)
    }

    /// Whether it is within its bounds.
    pub(super) fn is_valid(&self, config: &Config) -> bool {
        (self.valid)(config)
    }
}

/// All settings.
pub static KEYS: [Key; 10] = [
    Key {
        name: "domain",
        variable: Domain::VARIABLE,
        unit: "name",
        expected: "a name of 1 to 64 bytes with no slash, dot or NUL in it",
        about: "only nodes that say the same domain meet",
        text: |config| config.domain.clone(),
        set: |config, text| utf8(text).map(|text| config.domain = text),
        valid: |config| Domain::new(&config.domain).is_ok(),
    },
    Key {
        name: "directory",
        variable: "SHM_DIRECTORY",
        unit: "path",
        expected: "an absolute path",
        about: "where the domain's segments are; a file system in memory",
        text: |config| config.directory.display().to_string(),
        set: |config, text| {
            config.directory = text.into();
            Ok(())
        },
        valid: |config| config.directory.is_absolute() && !has_nul(config.directory.as_os_str()),
    },
    Key {
        name: "nodes",
        variable: "SHM_NODES",
        unit: "nodes",
        expected: "a number from 2 to 4096",
        about: "most nodes in the domain at a time, the first to join decides; each has twice as many lanes into it",
        text: |config| config.nodes.to_string(),
        set: |config, text| number(text).map(|number| config.nodes = number),
        valid: |config| (2..=4096).contains(&config.nodes),
    },
    Key {
        name: "lane_bytes",
        variable: "SHM_LANE_BYTES",
        unit: "bytes",
        expected: "a power of two from 4096 to 1073741824",
        about: "data in each lane into this node; a quarter of it is the largest message that goes \
                through the lane",
        text: |config| config.lane_bytes.to_string(),
        set: |config, text| number(text).map(|number| config.lane_bytes = number),
        valid: |config| {
            config.lane_bytes.is_power_of_two() && (4096..=1 << 30).contains(&config.lane_bytes)
        },
    },
    Key {
        name: "max_message_bytes",
        variable: "SHM_MAX_MESSAGE_BYTES",
        unit: "bytes",
        expected: "a number from 1 to 1073741824",
        about: "the largest message that this node sends",
        text: |config| config.max_message_bytes.to_string(),
        set: |config, text| number(text).map(|number| config.max_message_bytes = number),
        valid: |config| (1..=1 << 30).contains(&config.max_message_bytes),
    },
    Key {
        name: "full",
        variable: "SHM_FULL",
        unit: "policy",
        expected: Full::EXPECTED,
        about: "what a send does when the receiver has no room: fails, gives the message up, or \
                waits that long",
        text: |config| config.full.to_string(),
        set: |config, text| parsed(text).map(|full| config.full = full),
        valid: |_| true,
    },
    Key {
        name: "wait",
        variable: "SHM_WAIT",
        unit: "policy",
        expected: Wait::EXPECTED,
        about: "how a receiver waits: looks for a while and sleeps then, sleeps at once, or never \
                sleeps",
        text: |config| config.wait.to_string(),
        set: |config, text| parsed(text).map(|wait| config.wait = wait),
        valid: |_| true,
    },
    Key {
        name: "heartbeat_ms",
        variable: "SHM_HEARTBEAT_MS",
        unit: "milliseconds",
        expected: "a number from 1 to 2147483647",
        about: "from one heartbeat to the next",
        text: |config| config.heartbeat_ms.to_string(),
        set: |config, text| number(text).map(|number| config.heartbeat_ms = number),
        valid: |config| valid_time(config.heartbeat_ms),
    },
    Key {
        name: "silent_after_ms",
        variable: "SHM_SILENT_AFTER_MS",
        unit: "milliseconds",
        expected: "a number from 1 to 2147483647",
        about: "without heartbeat, until a node counts as silent; more than `heartbeat_ms`",
        text: |config| config.silent_after_ms.to_string(),
        set: |config, text| number(text).map(|number| config.silent_after_ms = number),
        valid: |config| valid_time(config.silent_after_ms),
    },
    Key {
        name: "warm_up",
        variable: "SHM_WARM_UP",
        unit: "yes or no",
        expected: "true or false",
        about: "whether joining connects to all nodes there are",
        text: |config| config.warm_up.to_string(),
        set: |config, text| parsed(text).map(|warm_up| config.warm_up = warm_up),
        valid: |_| true,
    },
];

/// Heartbeats are words of milliseconds that wrap around: a later one is told from an earlier one
/// up to half of the way.
fn valid_time(milliseconds: u32) -> bool {
    (1..1 << 31).contains(&milliseconds)
}

fn has_nul(text: &OsStr) -> bool {
    text.as_bytes().contains(&0)
}

fn utf8(text: OsString) -> Result<String, Refused> {
    text.into_string().map_err(Refused::NotUtf8)
}

fn parsed<T: std::str::FromStr>(text: OsString) -> Result<T, Refused> {
    let text = utf8(text)?;
    text.parse().map_err(|_| Refused::Not(text))
}

fn number<T: TryFrom<u64>>(text: OsString) -> Result<T, Refused> {
    let text = utf8(text)?;
    let number = whole(&text).and_then(|number| T::try_from(number).ok());
    number.ok_or(Refused::Not(text))
}

/// As a TOML string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter.is_control() => {
                write!(quoted, "\\u{:04X}", u32::from(letter)).expect("a String takes all");
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}
