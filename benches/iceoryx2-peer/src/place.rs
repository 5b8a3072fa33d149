//! Where iceoryx2 keeps its files during a run, so that none outlives it.

use iceoryx2::config::Config;
use iceoryx2::prelude::*;
use std::path::PathBuf;
use std::{env, fs, process};

/// Where POSIX shared memory is found on Linux.
const SHARED_MEMORY: &str = "/dev/shm";

/// A folder and a prefix of shared memory's names that are this run's alone. What is there goes
/// when it is dropped, as whatever of iceoryx2 a run leaves behind: it never removes its root
/// folder, and a run that fails leaves more.
pub struct Place {
    root: PathBuf,
    prefix: String,
    config: Config,
}

impl Place {
    /// A place that nobody else has.
    ///
    /// # Errors
    ///
    /// When the folder cannot be made, or iceoryx2 does not take its name.
    pub fn new() -> Result<Self, String> {
        let prefix = format!("shm_primitives_benches_{}_", process::id());
        let root = env::temp_dir().join(format!("{prefix}iceoryx2"));
        let mut config = Config::default();
        config.global.prefix =
            FileName::new(prefix.as_bytes()).map_err(|e| format!("{prefix}: {e}"))?;
        let path = Path::new(root.as_os_str().as_encoded_bytes())
            .map_err(|e| format!("{}: {e}", root.display()))?;
        config.global.set_root_path(&path);
        // Left by a killed run of the same number, if there: `remove` takes it along.
        fs::create_dir_all(&root).map_err(|e| format!("{}: {e}", root.display()))?;
        Ok(Self { root, prefix, config })
    }

    /// The configuration that has iceoryx2 keep to this place.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A run's time is not wrong for what cannot be removed; it only stays.
        let _ = fs::remove_dir_all(&self.root);
        for entry in fs::read_dir(SHARED_MEMORY).into_iter().flatten().flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(self.prefix.as_bytes()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}
