//! What stands in the tables, and what is counted.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const fn split(milliseconds: u64) -> [u32; 2] {
    [milliseconds as u32, (milliseconds >> 32) as u32]
}

const fn join([low, high]: [u32; 2]) -> u64 {
    low as u64 | (high as u64) << 32
}

/// What a worker says of itself when it has claimed its place. Any bytes are one.
#[repr(C)]
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct WorkerEntry {
    /// As which incarnation it was started.
    pub incarnation: u32,
    /// Its process, as it calls itself.
    pub pid: u32,
    started: [u32; 2],
}

const _: () = assert!(size_of::<WorkerEntry>() == 16);

impl WorkerEntry {
    /// The live word that is its [`WorkerState`].
    pub const STATE: usize = 0;
    /// The live word that says how much was waiting for it when it last looked.
    pub const QUEUED: usize = 1;
    /// The live word that it changes now and then while it lives.
    pub const BEAT: usize = 2;

    /// A worker that was started then, in milliseconds since 1970.
    pub const fn new(incarnation: u32, pid: u32, started_ms: u64) -> Self {
        Self { incarnation, pid, started: split(started_ms) }
    }

    /// When it was started, in milliseconds since 1970.
    pub const fn started_ms(&self) -> u64 {
        join(self.started)
    }
}

/// What a worker says in its live word [`STATE`](WorkerEntry::STATE).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WorkerState {
    /// It prepares itself.
    Starting = 0,
    /// It serves.
    Serving = 1,
    /// It finishes what it has in hand, and goes.
    Draining = 2,
}

impl WorkerState {
    /// The state of this number; `None` if it is none.
    pub const fn from_word(word: u32) -> Option<Self> {
        match word {
            0 => Some(Self::Starting),
            1 => Some(Self::Serving),
            2 => Some(Self::Draining),
            _ => None,
        }
    }
}

/// A function of a service. Any bytes are one.
#[repr(C)]
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct FunctionEntry {
    /// What it is called by.
    pub func_id: u32,
    /// See [`IDEMPOTENT`](Self::IDEMPOTENT).
    pub flags: u32,
    /// How long a call may take before its worker is suspect, in milliseconds; 0 for the service's
    /// own threshold.
    pub threshold_ms: u32,
}

const _: () = assert!(size_of::<FunctionEntry>() == 12);

impl FunctionEntry {
    /// The flag that says that running it twice does what running it once does.
    pub const IDEMPOTENT: u32 = 1;

    /// Whether running it twice does what running it once does.
    pub const fn is_idempotent(&self) -> bool {
        self.flags & Self::IDEMPOTENT != 0
    }
}

/// What a client says of itself when it has made its segment. Any bytes are one.
#[repr(C)]
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct ClientEntry {
    /// Its process, as it calls itself.
    pub pid: u32,
    reserved: u32,
    connected: [u32; 2],
}

const _: () = assert!(size_of::<ClientEntry>() == 16);

impl ClientEntry {
    /// The live word that is its [`ClientState`].
    pub const STATE: usize = 0;

    /// A client that connected then, in milliseconds since 1970.
    pub const fn new(pid: u32, connected_ms: u64) -> Self {
        Self { pid, reserved: 0, connected: split(connected_ms) }
    }

    /// When it connected, in milliseconds since 1970.
    pub const fn connected_ms(&self) -> u64 {
        join(self.connected)
    }
}

/// What a client says in its live word [`STATE`](ClientEntry::STATE).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientState {
    /// It may call.
    Connected = 0,
    /// It calls no more: workers let its lanes go.
    Leaving = 1,
}

impl ClientState {
    /// The state of this number; `None` if it is none.
    pub const fn from_word(word: u32) -> Option<Self> {
        match word {
            0 => Some(Self::Connected),
            1 => Some(Self::Leaving),
            _ => None,
        }
    }
}

/// Which of the counters of a worker place. `as usize` is the counter's number in its line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WorkerCount {
    /// Calls answered, with success or not.
    Processed = 0,
    /// Calls that failed, of those.
    Failed = 1,
    /// Nanoseconds in handlers.
    BusyNanoseconds = 2,
    /// Progress replies that were not sent, for the client had not read the last one.
    DroppedProgress = 3,
}

/// Which of the supervisor's counters. `as usize` is the counter's number in its line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SupervisorCount {
    /// Workers that died without having been asked to go.
    Crashes = 0,
    /// Calls that were in the hands of one that died.
    Poisoned = 1,
    /// Workers that were killed, for they hung.
    Kills = 2,
    /// Dead letters for which there was no room.
    LettersLost = 3,
}
