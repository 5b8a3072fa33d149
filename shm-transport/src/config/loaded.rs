//! Settings that remember where they came from.

use super::key::Refused;
use super::{Config, ConfigError, KEYS, Key, Origin, Setting, file};
use std::ffi::OsString;
use std::fmt;
use std::path::Path;

/// Settings as they were found, and where each was. A program changes what it likes in
/// [`config`](Self::config) before it calls [`check`](Self::check).
///
/// ```
/// use shm_transport::config::Loaded;
///
/// let mut loaded = Loaded::read_with(|name| (name == "SHM_HEARTBEAT_MS").then(|| "9000".into()))?;
/// loaded.config.silent_after_ms = 8000;
/// assert_eq!(
///     loaded.check().unwrap_err().to_string(),
///     "silent_after_ms is \"8000\" (set by the program) and heartbeat_ms is \"9000\" (variable \
///      SHM_HEARTBEAT_MS): make silent_after_ms larger, several heartbeats long"
/// );
/// # Ok::<(), shm_transport::config::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// As they were when `origins` were noted: what is different now the program has set.
    noted: Config,
    origins: [Origin; KEYS.len()],
}

impl Loaded {
    /// The defaults, the file that [`Config::VARIABLE`] names if it is set, the environment. Each
    /// value is checked by itself; [`check`](Self::check) has not been called.
    ///
    /// # Errors
    ///
    /// All of [`ConfigError`] but [`Contradiction`](ConfigError::Contradiction).
    pub fn read() -> Result<Self, ConfigError> {
        Self::read_with(|name| std::env::var_os(name))
    }

    /// The same in an environment that `variable` stands for: it says what the variable of that
    /// name is set to.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn read_with(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        let mut loaded = match variable(Config::VARIABLE) {
            None => Self::of(Config::default()),
            Some(path) => file::read(Path::new(&path), Origin::Variable(Config::VARIABLE))?,
        };
        loaded.take_environment(variable)?;
        tracing::debug!(target: "shm_transport::config", "settings: {}", Changed(&loaded));
        Ok(loaded)
    }

    /// Where the setting comes from.
    #[must_use]
    pub fn origin(&self, key: &Key) -> Origin {
        match KEYS.iter().position(|one| one.name == key.name) {
            Some(index) if key.text(&self.config) == key.text(&self.noted) => {
                self.origins[index].clone()
            }
            _ => Origin::Program,
        }
    }

    /// Whether each value is one that there is, and none contradicts another.
    ///
    /// # Errors
    ///
    /// [`Value`](ConfigError::Value) or [`Contradiction`](ConfigError::Contradiction).
    pub fn check(&self) -> Result<(), ConfigError> {
        for key in &KEYS {
            self.check_one(key)?;
        }
        let config = &self.config;
        let contradiction = |one, other, advice: String| {
            let (one, other) = (self.setting(one).into(), self.setting(other).into());
            Err(ConfigError::Contradiction { one, other, advice })
        };
        if config.silent_after_ms <= config.heartbeat_ms {
            let advice = "make silent_after_ms larger, several heartbeats long";
            return contradiction("silent_after_ms", "heartbeat_ms", advice.into());
        }
        let frame = config.max_frame();
        if config.max_message_bytes < u64::from(frame) {
            let advice = format!(
                "a lane takes messages of a quarter of its bytes: make max_message_bytes {frame} \
                 at least, or lane_bytes smaller"
            );
            return contradiction("max_message_bytes", "lane_bytes", advice);
        }
        let most = Config::MAX_LANES_BYTES;
        if u64::from(config.nodes) * u64::from(config.lane_bytes) > most {
            let advice = format!(
                "their product may be {most}, for the lanes of all nodes need address space: make \
                 one of them smaller"
            );
            return contradiction("nodes", "lane_bytes", advice);
        }
        Ok(())
    }

    /// Settings of which nobody knows more than that they are not the defaults.
    pub(super) fn of(config: Config) -> Self {
        let defaults = Config::default();
        let origins = KEYS.each_ref().map(|key| {
            let set = key.text(&config) != key.text(&defaults);
            if set { Origin::Program } else { Origin::Default }
        });
        Self { noted: config.clone(), config, origins }
    }

    /// Notes that the setting of that name comes from there, and checks it.
    #[cfg(feature = "config-file")]
    pub(super) fn note(&mut self, name: &str, origin: Origin) -> Result<(), ConfigError> {
        let Some(index) = KEYS.iter().position(|key| key.name == name) else { return Ok(()) };
        self.origins[index] = origin;
        self.check_one(&KEYS[index])
    }

    /// Sets what the environment has set.
    pub(super) fn take_environment(
        &mut self,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<(), ConfigError> {
        for (key, origin) in KEYS.iter().zip(&mut self.origins) {
            let Some(text) = variable(key.variable) else { continue };
            *origin = Origin::Variable(key.variable);
            key.set(&mut self.config, text).map_err(|refused| match refused {
                Refused::NotUtf8(found) => {
                    ConfigError::NotUtf8 { key: key.name, variable: key.variable, found }
                }
                Refused::Not(found) => ConfigError::Value {
                    setting: Setting { key: key.name, found, origin: origin.clone() }.into(),
                    expected: key.expected,
                },
            })?;
        }
        self.noted = self.config.clone();
        for key in &KEYS {
            if matches!(self.origin(key), Origin::Variable(_)) {
                self.check_one(key)?;
            }
        }
        Ok(())
    }

    fn check_one(&self, key: &Key) -> Result<(), ConfigError> {
        if key.is_valid(&self.config) {
            return Ok(());
        }
        Err(ConfigError::Value { setting: self.setting(key.name).into(), expected: key.expected })
    }

    fn setting(&self, name: &'static str) -> Setting {
        let key = KEYS.iter().find(|key| key.name == name).expect("a name in the table");
        Setting { key: name, found: key.text(&self.config), origin: self.origin(key) }
    }
}

/// The settings that somebody has set, each with its origin.
struct Changed<'a>(&'a Loaded);

impl fmt::Display for Changed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = "";
        for key in KEYS.iter().filter(|key| self.0.origin(key) != Origin::Default) {
            write!(f, "{before}{}", self.0.setting(key.name))?;
            before = ", ";
        }
        if before.is_empty() { f.write_str("the defaults") } else { Ok(()) }
    }
}
