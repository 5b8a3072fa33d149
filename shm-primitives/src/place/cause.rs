//! What a worker died of.

use crate::part::Corrupt;
use core::fmt;

/// What a worker died of, as far as anybody knows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Cause {
    /// It ended by itself, with this exit code.
    Exited(i32),
    /// A signal ended it: this one.
    Signalled(i32),
    /// Its handler panicked.
    Panicked,
    /// It was at one call for too long, and its supervisor ended it with this signal.
    Hung(i32),
    /// It was to serve, or to go, and had not in time: its supervisor killed it.
    Late,
    /// Nobody was there to see it.
    Unknown,
}

impl Cause {
    /// The kind and the value that stand in shared memory: 0 for no cause, 1 exited, 2 signalled,
    /// 3 panicked, 4 unknown, 5 hung, 6 late; exit code or signal, else 0.
    pub const fn to_words(cause: Option<Self>) -> [u32; 2] {
        match cause {
            None => [0, 0],
            Some(Self::Exited(code)) => [1, code as u32],
            Some(Self::Signalled(signal)) => [2, signal as u32],
            Some(Self::Panicked) => [3, 0],
            Some(Self::Unknown) => [4, 0],
            Some(Self::Hung(signal)) => [5, signal as u32],
            Some(Self::Late) => [6, 0],
        }
    }

    /// What a kind and a value say; `None` for no cause.
    ///
    /// # Errors
    ///
    /// There is no such kind.
    pub const fn from_words([kind, value]: [u32; 2]) -> Result<Option<Self>, Corrupt> {
        Ok(match kind {
            0 => None,
            1 => Some(Self::Exited(value as i32)),
            2 => Some(Self::Signalled(value as i32)),
            3 => Some(Self::Panicked),
            4 => Some(Self::Unknown),
            5 => Some(Self::Hung(value as i32)),
            6 => Some(Self::Late),
            found => return Err(Corrupt { what: "kind of a cause of death", found, limit: 6 }),
        })
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with {code}"),
            Self::Signalled(signal) => write!(f, "killed by signal {signal}"),
            Self::Panicked => f.write_str("its handler panicked"),
            Self::Hung(signal) => {
                write!(f, "at one call for too long, and ended by its server with signal {signal}")
            }
            Self::Late => f.write_str("not ready, or not gone, in time, and killed by its server"),
            Self::Unknown => f.write_str("died, of what is not known"),
        }
    }
}
