//! What is noted of a message that became a dead letter.

use crate::table::SlotKey;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What is noted beside the message, 48 bytes. Any bytes are one: what it says was written by the
/// service's supervisor, or by anybody who may write to the segment.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct LetterEntry {
    /// The message's sequence id, the lower word first.
    pub seq_id: [u32; 2],
    /// When the letter was kept: milliseconds since 1970, UTC, the lower word first.
    pub time: [u32; 2],
    /// What was called.
    pub func_id: u32,
    /// The place of the worker that had it in hand.
    pub worker: u32,
    /// The process of that worker.
    pub worker_pid: u32,
    /// What it died of, as two words: its kind, and exit code or signal. See the
    /// [module](super).
    pub cause: [u32; 2],
    /// How often the message was tried, this time included.
    pub attempt: u32,
    /// The process of the caller.
    pub client_pid: u32,
    /// Bytes that the message had. Set by whoever keeps it.
    pub length: u32,
}

const _: () = assert!(size_of::<LetterEntry>() == 48 && align_of::<LetterEntry>() == 4);

impl LetterEntry {
    /// The entry of a message with this sequence id, and zeros.
    pub const fn new(seq_id: u64) -> Self {
        Self {
            seq_id: halves(seq_id),
            time: [0; 2],
            func_id: 0,
            worker: 0,
            worker_pid: 0,
            cause: [0; 2],
            attempt: 0,
            client_pid: 0,
            length: 0,
        }
    }

    /// The same, kept at this time, in milliseconds since 1970, UTC.
    pub const fn at(mut self, milliseconds: u64) -> Self {
        self.time = halves(milliseconds);
        self
    }

    /// The sequence id.
    pub const fn seq_id(&self) -> u64 {
        joined(self.seq_id)
    }

    /// When it was kept, in milliseconds since 1970, UTC.
    pub const fn time(&self) -> u64 {
        joined(self.time)
    }

    /// Whether both are about one death with one message: all that tells them apart is the same.
    pub(super) fn same_death(&self, other: &Self) -> bool {
        let facts = |of: &Self| {
            [
                of.seq_id[0],
                of.seq_id[1],
                of.func_id,
                of.worker,
                of.worker_pid,
                of.attempt,
                of.client_pid,
                of.length,
            ]
        };
        facts(self) == facts(other)
    }
}

const fn halves(value: u64) -> [u32; 2] {
    // The lower half, and the upper one.
    [value as u32, (value >> u32::BITS) as u32]
}

const fn joined([low, high]: [u32; 2]) -> u64 {
    (high as u64) << u32::BITS | low as u64
}

/// A letter as it was at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Letter {
    /// Which it is; no other letter has this key, but for the wrap of generations.
    pub key: SlotKey,
    /// What is noted of it.
    pub entry: LetterEntry,
    /// Whether somebody has said that it may go.
    pub may_go: bool,
}
