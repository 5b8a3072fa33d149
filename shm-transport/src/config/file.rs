//! Settings in a TOML file.

use super::{ConfigError, Loaded, Origin};
use std::path::Path;

#[cfg(feature = "config-file")]
pub(super) use with_toml::{parse, read};

/// The settings that stand there; `named` says who named the file.
#[cfg(not(feature = "config-file"))]
pub(super) fn read(path: &Path, named: Origin) -> Result<Loaded, ConfigError> {
    Err(ConfigError::NoFiles { path: Some(path.into()), named })
}

/// The settings in that text.
#[cfg(not(feature = "config-file"))]
pub(super) fn parse(_: &str, path: Option<&Path>) -> Result<Loaded, ConfigError> {
    Err(ConfigError::NoFiles { path: path.map(Into::into), named: Origin::Program })
}

#[cfg(feature = "config-file")]
mod with_toml {
    use super::{ConfigError, Loaded, Origin, Path};
    use crate::config::Config;
    use std::fs::File;
    use std::io::{self, ErrorKind, Read};
    use toml::de::DeTable;

    /// Nothing that somebody wrote is longer, and a device that never ends is.
    const MAX_BYTES: u64 = 1 << 20;

    /// The settings that stand there; `named` says who named the file.
    pub(in crate::config) fn read(path: &Path, named: Origin) -> Result<Loaded, ConfigError> {
        match text(path) {
            Ok(text) => parse(&text, Some(path)),
            Err(error) => Err(ConfigError::Unreadable { path: path.into(), named, error }),
        }
    }

    fn text(path: &Path) -> io::Result<String> {
        let mut text = String::new();
        File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
        if text.len() as u64 > MAX_BYTES {
            let error = format!("it has more than {MAX_BYTES} bytes");
            return Err(io::Error::new(ErrorKind::FileTooLarge, error));
        }
        Ok(text)
    }

    /// The settings in that text, which stood in a file at `path`.
    pub(in crate::config) fn parse(text: &str, path: Option<&Path>) -> Result<Loaded, ConfigError> {
        let origin = |at: usize| {
            let line = text.bytes().take(at).filter(|&byte| byte == b'\n').count() + 1;
            Origin::File { path: path.map(Into::into), line }
        };
        let wrong = |error: toml::de::Error| ConfigError::Toml {
            at: origin(error.span().map_or(0, |span| span.start)),
            message: error.message().into(),
        };
        let config: Config = toml::from_str(text).map_err(wrong)?;
        let mut loaded = Loaded::of(config);
        // Once more, for the lines alone.
        for (name, _) in DeTable::parse(text).map_err(wrong)?.get_ref() {
            loaded.note(name.get_ref(), origin(name.span().start))?;
        }
        Ok(loaded)
    }
}
