//! What can go wrong with a node, and what to do then.

use crate::config::ConfigError;
use crate::domain::NameError;
use crate::liveness::LivenessError;
use crate::member::MemberError;
use crate::segment::SegmentError;
use shm_primitives::lane::OpenError;
use shm_primitives::layout::lrpc::{NodeId, NodeIdError};
use shm_primitives::segment as layout;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

/// Why a process did not become a node, or did not cease to be one.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NodeError {
    /// Not a name of a node.
    #[error("{0}: give it 1 to 64 bytes without a NUL")]
    Name(#[from] NodeIdError),
    /// The name is a living node's.
    #[error(
        "the name {name} is taken by {}: leave there first, or use another name or domain",
        Holder { pid: *pid, here: *here }
    )]
    Taken {
        /// The name.
        name: NodeId,
        /// The process that has it, by its number in its own pid namespace; `None` if its record
        /// does not say.
        pid: Option<u32>,
        /// Whether that is this process.
        here: bool,
    },
    /// It has left already.
    #[error("the node has left: join anew")]
    NotJoined,
    /// The registry has no place left.
    #[error(
        "each of the {nodes} places of the domain's registry is taken: run `shm clean` if nodes were killed, or configure more `nodes` before the first one joins"
    )]
    Full {
        /// The places.
        nodes: u32,
    },
    /// A segment of the domain is of another version, or is none.
    #[error(
        "{path:?} is no {what} of this version: {error}; stop its users and remove it, or use another domain"
    )]
    Layout {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// What was found.
        error: layout::SegmentError,
    },
    /// The configuration cannot be read, or contradicts itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Not a domain.
    #[error(transparent)]
    Domain(#[from] NameError),
    /// It did not become a member of the domain.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// A segment could not be made, opened or removed.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The kernel did not say who lives.
    #[error(transparent)]
    Liveness(#[from] LivenessError),
    /// No thread or descriptor is left to look after the node with.
    #[error(
        "cannot start the thread that looks after the node ({0}): raise the limit of threads or descriptors"
    )]
    Thread(#[source] io::Error),
}

struct Holder {
    pid: Option<u32>,
    here: bool,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self { here: true, .. } => f.write_str("this process"),
            Self { pid: Some(pid), .. } => write!(f, "process {pid}"),
            Self { pid: None, .. } => f.write_str("another process"),
        }
    }
}

/// Why a message was not sent. Nothing of it arrives.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SendError {
    /// Not a name of a node.
    #[error("{0}: give it 1 to 64 bytes without a NUL")]
    Name(#[from] NodeIdError),
    /// There is no node of that name.
    #[error(
        "there is no node {to} in the domain: start it, and check that both say the same domain"
    )]
    Unknown {
        /// The name.
        to: NodeId,
    },
    /// The node is dead, proven by the kernel.
    #[error("node {to} (process {}) is dead: what it had not read is lost; start it again", Pid(*pid))]
    Dead {
        /// The name.
        to: NodeId,
        /// The process it was.
        pid: Option<u32>,
    },
    /// The node has left.
    #[error("node {to} has left: what it had not read is lost; send again when it is back")]
    Left {
        /// The name.
        to: NodeId,
    },
    /// There is no room for the message now.
    #[error(
        "the lane to {to} is full, or for a large message this node's pool is in use or used up: read faster there, send later, or configure larger lanes"
    )]
    Full {
        /// The name.
        to: NodeId,
    },
    /// There was no room for the whole time.
    #[error(
        "the lane to {to} was full for {waited:?}: its reader is slow, stopped, or does not read"
    )]
    TimedOut {
        /// The name.
        to: NodeId,
        /// How long was waited.
        waited: Duration,
    },
    /// There never will be room.
    #[error(
        "a message of {found} bytes, and {most} are the most: send it in pieces, or configure a larger `max_message_bytes`"
    )]
    TooLarge {
        /// Bytes of the message.
        found: usize,
        /// Bytes that a message may have.
        most: usize,
    },
    /// The destination has no lane free.
    #[error(
        "each of the {lanes} lanes to {to} is taken: drop senders to it, or configure more `nodes` where it joins"
    )]
    NoLane {
        /// The name.
        to: NodeId,
        /// Its lanes.
        lanes: u32,
    },
    /// This node has too many senders.
    #[error("this node has {most} senders, and no more are counted: drop some")]
    TooManySenders {
        /// The most.
        most: u32,
    },
    /// This node has left.
    #[error("this node has left: join anew")]
    NotJoined,
    /// The destination's segment is of another version, or is none.
    #[error("{path:?} is no node of this version: {error}; start it anew with the same version")]
    Layout {
        /// The file.
        path: PathBuf,
        /// What was found.
        error: layout::SegmentError,
    },
    /// The lane could not be made.
    #[error("cannot make a lane to {to}: {error}")]
    Lane {
        /// The name.
        to: NodeId,
        /// What was found.
        error: OpenError,
    },
    /// What stands in the lane is not what this node wrote, or its reader's position is impossible.
    #[error(
        "the lane to {to} is corrupt: something overwrote it; drop the sender and make another"
    )]
    Corrupt {
        /// The name.
        to: NodeId,
    },
    /// The pool for large messages could not be made.
    #[error("no pool for large messages: {error}")]
    Pool {
        /// Why.
        error: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A segment could not be opened, or there is no memory for the lane or the message.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The kernel did not say who lives.
    #[error(transparent)]
    Liveness(#[from] LivenessError),
    /// The registry could not be read.
    #[error("the registry of nodes could not be read: {0}")]
    Registry(#[source] Box<NodeError>),
}

struct Pid(Option<u32>);

impl std::fmt::Display for Pid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(pid) => pid.fmt(f),
            None => f.write_str("unknown"),
        }
    }
}

/// Why nothing was received.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecvError {
    /// This node has left.
    #[error("this node has left: join anew")]
    NotJoined,
    /// A lane holds what no node writes. The lane is not read any more; the others are.
    #[error("the lane from {from} is corrupt ({why}), and not read any more: restart that node")]
    Corrupt {
        /// Who sends there.
        from: Box<NodeId>,
        /// What was found.
        why: String,
    },
    /// A large message cannot be read now, for want of descriptors, memory or a lock. It stays where
    /// it is: receive again.
    #[error("a large message from {from} cannot be read now ({why}): receive again later")]
    NotYet {
        /// Who sent it.
        from: Box<NodeId>,
        /// Why.
        why: String,
    },
    /// A large message cannot be read; it was left out.
    #[error("a large message from {from} was lost: {why}")]
    Chunk {
        /// Who sent it.
        from: Box<NodeId>,
        /// Why.
        why: String,
    },
    /// No thread is left to receive with.
    #[error("cannot start a thread to receive with ({0}): raise the limit of threads")]
    Thread(#[source] io::Error),
}
