//! Messages as they are received, and which of them are.

use super::frame::Label;
use parking_lot::Mutex;
use shm_primitives::layout::lrpc::NodeId;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// A message of one's own: a copy of what was sent.
pub struct Message {
    sender: NodeId,
    label: Label,
    payload: Vec<u8>,
    spare: Option<Arc<Spare>>,
}

/// Memory of messages that are read, for those to come: receiving allocates only until there is
/// enough of it.
#[derive(Debug, Default)]
pub(super) struct Spare(Mutex<Vec<Vec<u8>>>);

impl Spare {
    /// Buffers that are kept, and the bytes of the largest.
    const MOST: usize = 16;
    const LARGEST: usize = 1 << 20;

    pub fn take(&self) -> Vec<u8> {
        self.0.lock().pop().unwrap_or_default()
    }

    fn put(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() > Self::LARGEST {
            return;
        }
        buffer.clear();
        let mut buffers = self.0.lock();
        if buffers.len() < Self::MOST {
            buffers.push(buffer);
        }
    }
}

impl Message {
    pub(super) fn new(sender: NodeId, label: Label, bytes: &[u8], spare: &Arc<Spare>) -> Self {
        let mut payload = spare.take();
        payload.extend_from_slice(bytes);
        Self { sender, label, payload, spare: Some(Arc::clone(spare)) }
    }

    /// The node that sent it. To answer it, send to its [`as_str`](NodeId::as_str): what is displayed
    /// is for people.
    #[must_use]
    pub fn sender(&self) -> &NodeId {
        &self.sender
    }

    /// What it is about.
    #[must_use]
    pub fn label(&self) -> Label {
        self.label
    }

    /// Its bytes.
    #[must_use]
    pub fn into_vec(mut self) -> Vec<u8> {
        self.spare = None;
        std::mem::take(&mut self.payload)
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        if let Some(spare) = self.spare.take() {
            spare.put(std::mem::take(&mut self.payload));
        }
    }
}

impl Deref for Message {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.payload
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("sender", &self.sender)
            .field("label", &self.label)
            .field("bytes", &self.payload.len())
            .finish()
    }
}

/// Which messages a node receives. The others are left out and counted.
///
/// ```
/// use shm_transport::node::{Filter, Label};
///
/// let filter = Filter::ALL.group(7).topic(1).topic(2);
/// assert!(filter.admits(Label::new(7, 2)));
/// assert!(!filter.admits(Label::new(7, 3)) && !filter.admits(Label::new(6, 1)));
/// assert!(Filter::ALL.group(7).admits(Label::new(7, 99)), "any topic");
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    groups: Vec<u32>,
    topics: Vec<u32>,
}

impl Filter {
    /// Everything.
    pub const ALL: Self = Self { groups: Vec::new(), topics: Vec::new() };

    /// Of the groups, this one, and those that were named before.
    #[must_use]
    pub fn group(mut self, group: u32) -> Self {
        self.groups.push(group);
        self
    }

    /// Of the topics, this one, and those that were named before.
    #[must_use]
    pub fn topic(mut self, topic: u32) -> Self {
        self.topics.push(topic);
        self
    }

    /// Whether it is everything.
    #[inline]
    pub(super) fn admits_all(&self) -> bool {
        self.groups.is_empty() && self.topics.is_empty()
    }

    /// Whether a message with that label is received: its group is among the groups named, and its
    /// topic among the topics; where none is named, any is.
    #[must_use]
    #[inline]
    pub fn admits(&self, label: Label) -> bool {
        let among = |named: &[u32], one| named.is_empty() || named.contains(&one);
        among(&self.groups, label.group) && among(&self.topics, label.topic)
    }
}
