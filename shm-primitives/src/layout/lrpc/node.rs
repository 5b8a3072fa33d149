//! Names of nodes, and what the registry says of one.

use crate::identity::OwnerId;
use crate::table::SlotKey;
use core::fmt::{self, Write};
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The name of a node: 1 to 64 bytes, none of them 0. Text by custom, any bytes by right.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; Self::MAX]);

/// Why bytes are no name of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum NodeIdError {
    /// There are none.
    Empty,
    /// They are too many.
    TooLong {
        /// How many.
        found: usize,
    },
    /// One of them is 0.
    Nul {
        /// Which, from 0.
        at: usize,
    },
}

impl fmt::Display for NodeIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a node's name is not empty"),
            Self::TooLong { found } => {
                write!(f, "a node's name of {found} bytes; it has at most {}", NodeId::MAX)
            }
            Self::Nul { at } => write!(f, "byte {at} of a node's name is 0"),
        }
    }
}

impl core::error::Error for NodeIdError {}

impl NodeId {
    /// Bytes of the longest name.
    pub const MAX: usize = 64;

    /// The node of this name.
    ///
    /// # Errors
    ///
    /// It is no name: see [`NodeIdError`].
    pub const fn new(name: &[u8]) -> Result<Self, NodeIdError> {
        if name.is_empty() {
            return Err(NodeIdError::Empty);
        }
        if name.len() > Self::MAX {
            return Err(NodeIdError::TooLong { found: name.len() });
        }
        let mut bytes = [0; Self::MAX];
        let mut at = 0;
        while at < name.len() {
            if name[at] == 0 {
                return Err(NodeIdError::Nul { at });
            }
            bytes[at] = name[at];
            at += 1;
        }
        Ok(Self(bytes))
    }

    /// The name in a field of 64 bytes, which is filled up with zeros.
    ///
    /// # Errors
    ///
    /// It is no name: see [`NodeIdError`]; `Nul` too if something stands behind a 0.
    pub const fn from_field(field: [u8; Self::MAX]) -> Result<Self, NodeIdError> {
        let mut len = Self::MAX;
        while len > 0 && field[len - 1] == 0 {
            len -= 1;
        }
        Self::new(field.split_at(len).0)
    }

    /// The field of 64 bytes that it stands in.
    pub const fn to_field(self) -> [u8; Self::MAX] {
        self.0
    }

    /// The name, if it is text.
    pub fn as_str(&self) -> Option<&str> {
        core::str::from_utf8(self.as_bytes()).ok()
    }

    /// The name.
    pub fn as_bytes(&self) -> &[u8] {
        let len = self.0.iter().position(|byte| *byte == 0).unwrap_or(Self::MAX);
        &self.0[..len]
    }
}

impl TryFrom<&str> for NodeId {
    type Error = NodeIdError;
    fn try_from(name: &str) -> Result<Self, NodeIdError> {
        Self::new(name.as_bytes())
    }
}

impl fmt::Display for NodeId {
    /// Text as it is, but for control characters, which are escaped, as bytes are that are no text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.as_bytes().utf8_chunks() {
            for character in chunk.valid().chars() {
                if character.is_control() {
                    character.escape_default().fmt(f)?;
                } else {
                    f.write_char(character)?;
                }
            }
            chunk.invalid().escape_ascii().fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId(\"{self}\")")
    }
}

/// What stands in a slot of the registry. Any bytes are one; what they say is checked by whoever
/// uses it.
#[doc(alias = "NodeEntry")]
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug)]
pub struct NodeRecord {
    id: [u8; NodeId::MAX],
    pid: U32,
    channel: U32,
}

const _: () = assert!(size_of::<NodeRecord>() == 72);

impl NodeRecord {
    pub(super) fn new(id: &NodeId, pid: u32, channel: u32) -> Self {
        Self { id: id.to_field(), pid: U32::new(pid), channel: U32::new(channel) }
    }

    /// The name in it.
    ///
    /// # Errors
    ///
    /// What stands there is no name.
    pub fn id(&self) -> Result<NodeId, NodeIdError> {
        NodeId::from_field(self.id)
    }

    /// The process, as it is numbered where the node registered itself. Not to be acted upon: the
    /// number may be another's by now, or be meant in another container.
    pub fn pid(&self) -> u32 {
        self.pid.get()
    }

    /// Its channel; not checked.
    pub fn channel(&self) -> u32 {
        self.channel.get()
    }
}

/// A node, as the registry said at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Node {
    /// Its slot, and which tenancy of that.
    pub key: SlotKey,
    /// Who it is to the rest of the system: whose death is to be proven.
    pub owner: OwnerId,
    /// Its name.
    pub id: NodeId,
    /// Its process, to be shown to people; see [`NodeRecord::pid`].
    pub pid: u32,
    /// Its channel, below the number of channels.
    pub channel: u32,
}
