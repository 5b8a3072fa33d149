//! What the demonstration and its processes tell one another: lines of JSON, orders on a process's
//! standard input, answers on its standard output.

use serde::{Deserialize, Serialize};
use shm_transport::node::Label;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

/// How long a process waits for something that should come at once.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// A death that was told of so long after it, in nanoseconds, was found out by waiting. Far more than
/// it takes: what it took is shown, and a machine may have other things to do.
pub const TOLD: u64 = 5_000_000_000;

/// Bytes of a chunk of the file.
pub const CHUNK: usize = 64 << 10;

/// A piece of the file: its number is the topic.
pub const FILE: u32 = 1;
/// A message that is broadcast.
pub const BROADCAST: u32 = 2;
/// A numbered message.
pub const STREAM: u32 = 3;
/// No more of these.
pub const END: Label = Label::new(4, 0);

/// What a process is to do.
#[derive(Serialize, Deserialize, Debug)]
pub enum Order {
    /// Send the file to those.
    SendFile { path: PathBuf, to: Vec<String> },
    /// Receive a file.
    TakeFile,
    /// Broadcast these.
    Broadcast { messages: Vec<String> },
    /// Receive what is broadcast.
    Hear,
    /// Send numbered messages, without a pause; after the receiver was gone and is back again, for
    /// so long.
    Stream { to: String, milliseconds: u64 },
    /// Pass numbered messages on.
    Relay { to: String },
    /// Receive numbered messages of a relay that may die.
    Witness { relay: String },
    /// Leave, and end.
    Leave,
}

/// What a process has done. Times are of the kernel's monotonic clock, the same in all processes,
/// in nanoseconds.
#[derive(Serialize, Deserialize, Debug)]
pub enum Told {
    /// It has joined, at that time.
    Joined { at: u64, took: u64 },
    /// The file is sent.
    FileSent { began: u64, chunks: u32, bytes: u64, crc32: u32 },
    /// The file has come.
    FileTaken { ended: u64, chunks: u32, bytes: u64, crc32: u32, in_order: bool },
    /// Each message was accepted by so many.
    Broadcast { reached: Vec<usize> },
    /// What was heard.
    Heard { messages: Vec<String> },
    /// A message was passed on.
    Passed(u64),
    /// No more messages to pass on.
    Relayed,
    /// It looks out for deaths.
    Watching,
    /// The relay died, as the event says.
    SawDeath { at: u64 },
    /// What came, from each process that was the relay.
    Witnessed { relays: Vec<Seen> },
    /// A message was refused.
    SendFailed { at: u64, number: u64, error: String },
    /// The same message was accepted.
    SendsAgain { at: u64 },
    /// So many messages were sent.
    Streamed { sent: u64 },
    /// The other end of a measurement is there.
    Ready,
    /// How many messages came, and how many of them in the time that was taken.
    Sunk { messages: u64, timed: u64, nanoseconds: u64 },
    /// It has left.
    Left,
    /// It could not.
    Failed { error: String },
}

/// Numbered messages that came from one process.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    pub pid: u32,
    pub first: u64,
    pub last: u64,
    pub count: u64,
    /// Each was the one after the one before.
    pub in_order: bool,
    /// No byte of any was another than it was sent.
    pub whole: bool,
    /// When the first came.
    pub first_at: u64,
}

/// Tells the demonstration.
pub fn tell(told: &Told) -> io::Result<()> {
    let mut line = serde_json::to_vec(told)?;
    line.push(b'\n');
    // In one piece: whatever is told is whole, also if this process is killed.
    let mut stdout = io::stdout().lock();
    stdout.write_all(&line)?;
    stdout.flush()
}

/// The kernel's monotonic clock.
pub fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// A numbered message: number, process that passed it on, bytes that follow from the number, and a
/// checksum.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Numbered {
    pub number: u64,
    pub pid: u32,
}

impl Numbered {
    /// Bytes of one.
    pub const BYTES: usize = 256;
    const SUM: usize = Self::BYTES - 4;

    /// As it is sent.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.number.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.pid.to_le_bytes());
        for (at, byte) in bytes[12..Self::SUM].iter_mut().enumerate() {
            *byte = (self.number as usize).wrapping_add(at) as u8;
        }
        let sum = crc32fast::hash(&bytes[..Self::SUM]);
        bytes[Self::SUM..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// What was sent; `None` if any byte is another.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let number = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
        let pid = u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?);
        let this = Self { number, pid };
        (this.to_bytes() == bytes).then_some(this)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_numbered_message_is_whole_or_none() {
        let sent = Numbered { number: u64::MAX - 7, pid: 77 };
        let bytes = sent.to_bytes();
        assert_eq!(Numbered::from_bytes(&bytes), Some(sent));
        for at in 0..bytes.len() {
            let mut other = bytes;
            other[at] ^= 1;
            assert_eq!(Numbered::from_bytes(&other), None, "byte {at}");
        }
        assert_eq!(Numbered::from_bytes(&bytes[..255]), None);
        assert_eq!(Numbered::from_bytes(&[]), None);
    }
}
