//! What can be wrong with settings, where it stands, and what to do.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Where a setting comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Origin {
    /// Nobody has set it.
    Default,
    /// A file.
    File {
        /// Its path; `None` if it was given as a text.
        path: Option<PathBuf>,
        /// The line, the first being 1.
        line: usize,
    },
    /// An environment variable of that name.
    Variable(&'static str),
    /// The program has set it.
    Program,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the default"),
            Self::File { path: Some(path), line } => write!(f, "line {line} of {path:?}"),
            Self::File { path: None, line } => write!(f, "line {line}"),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Program => f.write_str("set by the program"),
        }
    }
}

/// A setting that is part of an error.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    /// Its name.
    pub key: &'static str,
    /// What it is.
    pub found: String,
    /// Where it was set.
    pub origin: Origin,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {:?} ({})", self.key, self.found, self.origin)
    }
}

/// Why there are no settings, or none that a node can be made with.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file could not be read.
    #[error(
        "the configuration file {path:?} ({named}) cannot be read: {error}; name one that can be, \
         or none"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Where its name comes from.
        named: Origin,
        /// What the system says.
        error: io::Error,
    },
    /// A text is not TOML, has a key that there is not, or a value of another type.
    #[error("{at} of the configuration: {message}; docs/configuration.md has all keys")]
    Toml {
        /// Where.
        at: Origin,
        /// What the parser says.
        message: String,
    },
    /// A variable is not UTF-8.
    #[error("{key} is {found:?} (variable {variable}), which is not UTF-8: use letters and digits")]
    NotUtf8 {
        /// The setting.
        key: &'static str,
        /// Its variable.
        variable: &'static str,
        /// What it is set to.
        found: OsString,
    },
    /// A setting is none of the values there are.
    #[error("{setting}: make it {expected}")]
    Value {
        /// The setting.
        setting: Box<Setting>,
        /// What it may be.
        expected: &'static str,
    },
    /// Two settings do not go together.
    #[error("{one} and {other}: {advice}")]
    Contradiction {
        /// One of them.
        one: Box<Setting>,
        /// The other.
        other: Box<Setting>,
        /// What to do.
        advice: String,
    },
    /// A file is to be read by a program that was built without the feature for it.
    #[error(
        "this program reads no configuration files, and {} is one ({named}): build shm-transport \
         with its feature config-file, or use variables",
        path.as_ref().map_or("the text".into(), |path| format!("{path:?}"))
    )]
    NoFiles {
        /// The file; `None` if it was given as a text.
        path: Option<PathBuf>,
        /// Where its name comes from.
        named: Origin,
    },
}
