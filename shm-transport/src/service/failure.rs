//! What stands in a reply that says `Failed`.
//!
//! ```text
//! offset  size
//!      0     4  what      u32  see below
//!               0 the handler's own error:   its bytes
//!               1 unknown function
//!               2 crashed:                   cause u32, its value u32, attempt u32, the worker's
//!                                            place u32, and of the dead letter its index u32, its
//!                                            generation u32, or 0
//!               3 panicked:                  the panic's message
//!               4 refused: no valid request: why
//!               5 the reply was too large:   bytes u32, the most u32
//!               6 cancelled
//!               7 nobody serves it, nor will: by its own client
//! ```
//!
//! All little-endian. Text is cut to what the reply has room for.

use shm_primitives::place::Cause;
use shm_primitives::table::SlotKey;

/// Why a call has no result, as a worker or the supervisor writes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Failure {
    /// The handler's own error.
    Handler(Vec<u8>),
    UnknownFunction,
    Crashed {
        cause: Cause,
        attempt: u32,
        /// Its worker's place.
        place: u32,
        /// The dead letter that was kept.
        letter: Option<SlotKey>,
    },
    Panicked(String),
    Refused(String),
    TooLarge {
        length: u32,
        most: u32,
    },
    Cancelled,
    Unserved,
}

/// The fewest bytes that a reply of a service has room for: any failure without its text.
pub(super) const LEAST: usize = 32;

impl Failure {
    /// Its bytes, no more than `most`, which is at least [`LEAST`].
    pub fn to_bytes(&self, most: usize) -> Vec<u8> {
        let (what, words, text): (u32, Vec<u32>, &[u8]) = match self {
            Self::Handler(bytes) => (0, vec![], bytes),
            Self::UnknownFunction => (1, vec![], &[]),
            Self::Crashed { cause, attempt, place, letter } => {
                let [kind, value] = Cause::to_words(Some(*cause));
                let [index, generation] =
                    letter.map_or([0; 2], |key| [key.index(), key.generation()]);
                (2, vec![kind, value, *attempt, *place, index, generation], &[])
            }
            Self::Panicked(text) => (3, vec![], text.as_bytes()),
            Self::Refused(text) => (4, vec![], text.as_bytes()),
            Self::TooLarge { length, most } => (5, vec![*length, *most], &[]),
            Self::Cancelled => (6, vec![], &[]),
            Self::Unserved => (7, vec![], &[]),
        };
        let mut bytes = what.to_le_bytes().to_vec();
        words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        bytes.extend(text);
        bytes.truncate(most);
        bytes
    }

    /// What such a reply says; `None` if it says nothing that a worker writes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (what, rest) = bytes.split_first_chunk()?;
        let text = || String::from_utf8_lossy(rest).into_owned();
        Some(match u32::from_le_bytes(*what) {
            0 => Self::Handler(rest.into()),
            1 => Self::UnknownFunction,
            2 => {
                let cause = Cause::from_words([word(rest, 0)?, word(rest, 4)?]).ok()??;
                let (index, generation) = (word(rest, 16)?, word(rest, 20)?);
                let letter = (generation > 0).then(|| SlotKey::new(index, generation));
                Self::Crashed { cause, attempt: word(rest, 8)?, place: word(rest, 12)?, letter }
            }
            3 => Self::Panicked(text()),
            4 => Self::Refused(text()),
            5 => Self::TooLarge { length: word(rest, 0)?, most: word(rest, 4)? },
            6 => Self::Cancelled,
            7 => Self::Unserved,
            _ => return None,
        })
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let crashed = |cause| Failure::Crashed { cause, attempt: 2, place: 0, letter: None };
        let letter = Some(SlotKey::new(0, 1));
        for failure in [
            Failure::Handler(b"no".to_vec()),
            Failure::Handler(vec![]),
            Failure::UnknownFunction,
            crashed(Cause::Exited(-1)),
            crashed(Cause::Signalled(9)),
            crashed(Cause::Unknown),
            Failure::Crashed { cause: Cause::Hung(6), attempt: 1, place: 7, letter },
            Failure::Panicked("index out of bounds".into()),
            Failure::Refused("header".into()),
            Failure::TooLarge { length: 65, most: 64 },
            Failure::Cancelled,
            Failure::Unserved,
        ] {
            assert_eq!(Failure::from_bytes(&failure.to_bytes(LEAST)), Some(failure));
        }
    }

    #[test]
    fn other_bytes_are_none() {
        assert_eq!(Failure::from_bytes(&[]), None);
        assert_eq!(Failure::from_bytes(&[1, 0, 0]), None);
        assert_eq!(Failure::from_bytes(&[2, 0, 0, 0, 1, 0, 0, 0]), None, "half a cause");
        let mut crashed = vec![0; 28];
        (crashed[0], crashed[4]) = (2, 4);
        assert!(Failure::from_bytes(&crashed).is_some());
        assert_eq!(Failure::from_bytes(&crashed[..27]), None, "half a letter");
        assert_eq!(Failure::from_bytes(&[8, 0, 0, 0]), None, "of a later version");
    }
}
