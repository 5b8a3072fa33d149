//! What a sender calls itself.

use crate::sync::{AtomicU32, Ordering::Relaxed};
use core::fmt;

/// Up to 64 bytes that a sender says of itself when it makes a lane, and that the receiver has for
/// as long as it has the lane: a name, as a rule. Filled up with zeros, which count for nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Card([u8; Self::MAX]);

/// Bytes that are too many for a [`Card`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CardTooLong {
    /// How many they are.
    pub found: usize,
}

impl fmt::Display for CardTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes for the card of a lane, which has {}", self.found, Card::MAX)
    }
}

impl core::error::Error for CardTooLong {}

impl Card {
    /// Bytes of the longest.
    pub const MAX: usize = 64;

    /// The card of those bytes.
    ///
    /// # Errors
    ///
    /// They are more than 64.
    pub fn new(bytes: &[u8]) -> Result<Self, CardTooLong> {
        let mut all = [0; Self::MAX];
        match all.get_mut(..bytes.len()) {
            Some(front) => front.copy_from_slice(bytes),
            None => return Err(CardTooLong { found: bytes.len() }),
        }
        Ok(Self(all))
    }

    /// The bytes, without the zeros behind them.
    pub fn as_bytes(&self) -> &[u8] {
        let len = self.0.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        &self.0[..len]
    }

    /// All 64 bytes.
    pub const fn to_field(self) -> [u8; Self::MAX] {
        self.0
    }

    pub(super) fn store(&self, words: &[AtomicU32; Self::MAX / 4]) {
        for (word, bytes) in words.iter().zip(self.0.chunks_exact(4)) {
            let mut four = [0; 4];
            four.copy_from_slice(bytes);
            word.store(u32::from_le_bytes(four), Relaxed);
        }
    }

    pub(super) fn load(words: &[AtomicU32; Self::MAX / 4]) -> Self {
        let mut all = [0; Self::MAX];
        for (word, bytes) in words.iter().zip(all.chunks_exact_mut(4)) {
            bytes.copy_from_slice(&word.load(Relaxed).to_le_bytes());
        }
        Self(all)
    }
}

impl fmt::Debug for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Card(\"{}\")", self.as_bytes().escape_ascii())
    }
}
