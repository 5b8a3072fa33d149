//! The two settings that are neither numbers nor names.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use thiserror::Error;

/// What a send does when the receiver has no room. As text: `error`, `drop`, `block`, or `block:`
/// and milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Full {
    /// Fails at once.
    Error,
    /// Waits for room, that long at most, and fails then. One second is the default.
    Block(Duration),
    /// Gives the message up and counts it. The sender is not told.
    Drop,
}

impl Full {
    /// What `block` stands for.
    const BLOCK: Duration = Duration::from_secs(1);
    pub(super) const EXPECTED: &'static str =
        "\"error\", \"drop\", \"block\" (one second), or \"block:\" and milliseconds";
}

impl Default for Full {
    fn default() -> Self {
        Self::Block(Self::BLOCK)
    }
}

/// Text that is parsed to the same; of a duration only if it is whole milliseconds: a begun
/// one counts.
impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Error => f.write_str("error"),
            Self::Drop => f.write_str("drop"),
            Self::Block(Self::BLOCK) => f.write_str("block"),
            Self::Block(time) => {
                let milliseconds = time.as_nanos().div_ceil(1_000_000);
                // More is half a billion years.
                write!(f, "block:{}", u64::try_from(milliseconds).unwrap_or(u64::MAX))
            }
        }
    }
}

impl FromStr for Full {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        match text {
            "error" => return Ok(Self::Error),
            "drop" => return Ok(Self::Drop),
            "block" => return Ok(Self::Block(Self::BLOCK)),
            _ => {}
        }
        text.strip_prefix("block:")
            .and_then(whole)
            .map(|milliseconds| Self::Block(Duration::from_millis(milliseconds)))
            .ok_or_else(|| PolicyError { found: text.into(), expected: Self::EXPECTED })
    }
}

/// How a receiver waits. As text: `adaptive`, `block` or `poll`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Wait {
    /// Looks for as long as that has paid lately, then sleeps.
    #[default]
    Adaptive,
    /// Sleeps at once: the least processor time, and a wake-up for each message.
    Block,
    /// Never sleeps: the shortest delay, and a whole core.
    Poll,
}

impl Wait {
    pub(super) const EXPECTED: &'static str = "\"adaptive\", \"block\" or \"poll\"";
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Adaptive => "adaptive",
            Self::Block => "block",
            Self::Poll => "poll",
        })
    }
}

impl FromStr for Wait {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        match text {
            "adaptive" => Ok(Self::Adaptive),
            "block" => Ok(Self::Block),
            "poll" => Ok(Self::Poll),
            _ => Err(PolicyError { found: text.into(), expected: Self::EXPECTED }),
        }
    }
}

/// Text that is no [`Full`] or no [`Wait`].
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("found {found:?}: use {expected}")]
pub struct PolicyError {
    /// The text.
    pub found: String,
    /// What it may be.
    pub expected: &'static str,
}

/// A number of nothing but digits: `u64::from_str` takes a sign as well.
pub(super) fn whole(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(feature = "config-file")]
mod from_text {
    use super::{Full, Wait};
    use serde::de::{Deserialize, Deserializer, Error};

    impl<'de> Deserialize<'de> for Full {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            String::deserialize(from)?.parse().map_err(Error::custom)
        }
    }

    impl<'de> Deserialize<'de> for Wait {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            String::deserialize(from)?.parse().map_err(Error::custom)
        }
    }
}
