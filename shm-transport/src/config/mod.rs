//! Settings of a node: where they come from, what each may be, and what goes together.
//!
//! # Which wins
//!
//! Each setting is looked for in this order, and the first that has it wins:
//!
//! 1. what the program says,
//! 2. the environment variable of that setting,
//! 3. the TOML file that the environment variable `SHM_CONFIG` names,
//! 4. the default.
//!
//! There is no file that is read without being named: two processes of one machine with the same
//! environment have the same settings. A variable that is set counts, also when it is empty: most
//! settings refuse an empty text.
//!
//! # What is checked, and when
//!
//! A value from a file or a variable is checked when it is read, by itself. What contradicts
//! another value is found in the end, by [`check`](Config::check), for a program may set right
//! what the environment alone would have wrong. Every error names the setting, what was found,
//! where it came from (line and file, variable, program) and what it may be.
//!
//! All keys, variables, units and defaults are in [`KEYS`], and in `docs/configuration.md`.
//!
//! # Example
//!
//! ```
//! use shm_transport::config::{Config, Full};
//! use std::ffi::OsString;
//! use std::time::Duration;
//!
//! # #[cfg(feature = "config-file")] {
//! let file = Config::from_toml("nodes = 64\nfull = 'block:250'")?;
//! // What Config::load does with the real environment.
//! let variable = |name: &str| (name == "SHM_NODES").then(|| OsString::from("32"));
//! let mut config = file.with_environment(variable)?;
//! assert_eq!(config.nodes, 32, "environment over file");
//! assert_eq!(config.full, Full::Block(Duration::from_millis(250)), "file over default");
//!
//! config.silent_after_ms = 900;
//! assert_eq!(
//!     config.check().unwrap_err().to_string(),
//!     "silent_after_ms is \"900\" (set by the program) and heartbeat_ms is \"1000\" (the \
//!      default): make silent_after_ms larger, several heartbeats long"
//! );
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Without the feature `config-file`, which brings a TOML parser, no file is read, and that
//! `SHM_CONFIG` is set is an error; the environment is read all the same.

mod error;
mod file;
mod key;
mod loaded;
mod policy;

pub use error::{ConfigError, Origin, Setting};
pub use key::{KEYS, Key};
pub use loaded::Loaded;
pub use policy::{Full, PolicyError, Wait};

use crate::domain::{Domain, NameError};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Settings of a node. See the [module](crate::config).
///
/// All nodes of a domain should have the same `nodes`: the first that joins decides. The others
/// are each node's own.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(
    feature = "config-file",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct Config {
    /// The [domain](crate::domain): only nodes that say the same one meet. `"default"`.
    pub domain: String,
    /// The directory of the domain's segments, an absolute path; a file system that keeps its
    /// files in memory. `/dev/shm`.
    pub directory: PathBuf,
    /// The most nodes that the domain has at a time; twice as many lanes lead into this one: from
    /// 2 to 4096. 256.
    pub nodes: u32,
    /// Bytes of data in each lane into this node: a power of two from 4096 to 2³⁰. A quarter of it
    /// is the largest message that goes [through the lane](Self::max_frame). 65536.
    pub lane_bytes: u32,
    /// Bytes of the largest message that this node sends: from 1 to 2³⁰. 16 MiB.
    pub max_message_bytes: u64,
    /// What a send does when the receiver has no room. [`Full::Block`] for one second.
    pub full: Full,
    /// How a receiver waits. [`Wait::Adaptive`].
    pub wait: Wait,
    /// Milliseconds from one heartbeat to the next: from 1 to 2³¹ - 1. 1000.
    pub heartbeat_ms: u32,
    /// Milliseconds without heartbeat after which a node counts as silent: more than
    /// `heartbeat_ms`, up to 2³¹ - 1. 5000.
    pub silent_after_ms: u32,
    /// Whether joining connects to all nodes there are, so that the first message to one of them
    /// is as fast as the second. `false`.
    pub warm_up: bool,
}

impl Config {
    /// The variable that names the file.
    pub const VARIABLE: &'static str = "SHM_CONFIG";

    /// Bytes of address space that all lanes into a node may take: 2⁴⁰, or 2³⁰ where addresses
    /// have 32 bits. Memory is taken for lanes that are used alone.
    pub const MAX_LANES_BYTES: u64 = if usize::BITS >= 64 { 1 << 40 } else { 1 << 30 };

    /// The defaults, the file that [`VARIABLE`](Self::VARIABLE) names if it is set, the
    /// environment; checked. A program that sets something itself takes [`Loaded::read`], whose
    /// errors still know where each value came from.
    ///
    /// # Errors
    ///
    /// See [`ConfigError`].
    pub fn load() -> Result<Self, ConfigError> {
        let loaded = Loaded::read()?;
        loaded.check()?;
        Ok(loaded.config)
    }

    /// The settings in a TOML file, and the defaults for those it does not name. Each value is
    /// checked by itself; [`check`](Self::check) has not been called. Files of more than 1 MiB are
    /// refused.
    ///
    /// # Errors
    ///
    /// [`Unreadable`](ConfigError::Unreadable), [`Toml`](ConfigError::Toml),
    /// [`Value`](ConfigError::Value); [`NoFiles`](ConfigError::NoFiles) without the feature
    /// `config-file`.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Ok(file::read(path.as_ref(), Origin::Program)?.config)
    }

    /// The same with the text itself.
    ///
    /// # Errors
    ///
    /// As [`from_file`](Self::from_file), but for `Unreadable`.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        Ok(file::parse(text, None)?.config)
    }

    /// These settings, but for those whose variable is set. `variable` is given the name of each,
    /// and says what it is set to: [`std::env::var_os`], or whatever a test likes. Each value is
    /// checked by itself; [`check`](Self::check) has not been called.
    ///
    /// # Errors
    ///
    /// [`Value`](ConfigError::Value), [`NotUtf8`](ConfigError::NotUtf8).
    pub fn with_environment(
        self,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        let mut loaded = Loaded::of(self);
        loaded.take_environment(variable)?;
        Ok(loaded.config)
    }

    /// Whether each value is one that there is, and none contradicts another.
    ///
    /// # Errors
    ///
    /// [`Value`](ConfigError::Value) or [`Contradiction`](ConfigError::Contradiction). Values that
    /// are not the default count as the program's; see [`Loaded::check`].
    pub fn check(&self) -> Result<(), ConfigError> {
        Loaded::of(self.clone()).check()
    }

    /// The [domain](Self::domain), in its [directory](Self::directory).
    ///
    /// # Errors
    ///
    /// As [`Domain::new`].
    pub fn to_domain(&self) -> Result<Domain, NameError> {
        Ok(Domain::new(&self.domain)?.in_directory(&self.directory))
    }

    /// Bytes of the largest message that goes through a lane: a quarter of
    /// [`lane_bytes`](Self::lane_bytes), 16 KiB by default. Larger ones take a chunk of memory of
    /// their own, and only a handle goes through the lane.
    #[must_use]
    pub const fn max_frame(&self) -> u32 {
        self.lane_bytes / 4
    }

    /// Time from one heartbeat to the next.
    #[must_use]
    pub const fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms as u64)
    }

    /// Time without heartbeat after which a node counts as silent.
    #[must_use]
    pub const fn silent_after(&self) -> Duration {
        Duration::from_millis(self.silent_after_ms as u64)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            domain: Domain::DEFAULT.into(),
            directory: Domain::DIRECTORY.into(),
            nodes: 256,
            lane_bytes: 64 << 10,
            max_message_bytes: 16 << 20,
            full: Full::default(),
            wait: Wait::default(),
            heartbeat_ms: 1000,
            silent_after_ms: 5000,
            warm_up: false,
        }
    }
}

/// As the TOML file that says the same. A directory that is not UTF-8 is shown as well as can be.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        KEYS.iter().try_for_each(|key| writeln!(f, "{} = {}", key.name, key.toml(self)))
    }
}
