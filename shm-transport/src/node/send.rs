//! Sending through a lane of one's own.

use super::error::SendError;
use super::frame::Label;
use super::outgoing::{InPool, Outgoing};
use super::shared::Shared;
use crate::config::Full;
use shm_primitives::layout::lrpc::NodeId;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// A lane to one node, for one thread: sends without a lock, and in place.
///
/// Messages sent through it arrive in order. Between it and what is sent by
/// [`Node::send`](super::Node::send), or by another sender, there is none.
pub struct Sender {
    // Before `shared`, which it holds something of.
    outgoing: Outgoing,
    full: Full,
    shared: Arc<Shared>,
}

impl Sender {
    pub(super) fn connect(shared: &Arc<Shared>, to: NodeId) -> Result<Self, SendError> {
        let inside = shared.inside().ok_or(SendError::NotJoined)?;
        let outgoing = Outgoing::connect(shared, to)?;
        inside.stay();
        Ok(Self { outgoing, full: shared.config.full, shared: Arc::clone(shared) })
    }

    /// The node it sends to.
    #[must_use]
    pub fn to(&self) -> &NodeId {
        &self.outgoing.peer().id
    }

    /// What to do when the lane is full, instead of what the node was configured for.
    #[must_use]
    pub fn full(mut self, full: Full) -> Self {
        self.full = full;
        self
    }

    /// Bytes of the largest message.
    #[must_use]
    pub fn max_message(&self) -> usize {
        usize::try_from(self.shared.config.max_message_bytes).unwrap_or(usize::MAX)
    }

    /// Bytes of the largest message that goes through the lane itself. Larger ones take a chunk of
    /// the node's pool, and the pool's lock.
    #[must_use]
    pub fn max_frame(&self) -> usize {
        self.outgoing.max_frame()
    }

    /// Sends a message. If the lane is full it fails, waits or gives the message up, as configured.
    ///
    /// # Errors
    ///
    /// See [`SendError`]. Once it says that the node is dead or has left, it is: make a new sender
    /// when it is back.
    #[inline]
    pub fn send(&mut self, payload: &[u8]) -> Result<(), SendError> {
        self.send_labelled(Label::NONE, payload)
    }

    /// The same with a label.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    #[inline]
    pub fn send_labelled(&mut self, label: Label, payload: &[u8]) -> Result<(), SendError> {
        if !self.is_joined() {
            return Err(SendError::NotJoined);
        }
        self.outgoing.send(label, payload, self.full)
    }

    /// Sends a message if there is room. Does not block, and makes no system call while the
    /// receiver is awake; but one that is larger than [`max_frame`](Self::max_frame) may wait a
    /// tenth of a second for another thread of the node that is just writing such a one.
    ///
    /// # Errors
    ///
    /// `Full`, or as [`send`](Self::send).
    #[inline]
    pub fn try_send(&mut self, payload: &[u8]) -> Result<(), SendError> {
        if !self.is_joined() {
            return Err(SendError::NotJoined);
        }
        self.outgoing.try_send(Label::NONE, payload)
    }

    /// Lends room for a message of up to `length` bytes, to be written in place and sent with
    /// [`commit`](Grant::commit). Dropping the grant sends nothing. Does not wait.
    ///
    /// The room holds whatever was there before. Room for a message larger than
    /// [`max_frame`](Self::max_frame) keeps this node's other senders from sending such ones.
    ///
    /// # Errors
    ///
    /// As [`try_send`](Self::try_send).
    #[inline]
    pub fn grant(&mut self, length: usize) -> Result<Grant<'_>, SendError> {
        self.grant_labelled(Label::NONE, length)
    }

    /// The same for a message with a label.
    ///
    /// # Errors
    ///
    /// As [`grant`](Self::grant).
    #[inline]
    pub fn grant_labelled(&mut self, label: Label, length: usize) -> Result<Grant<'_>, SendError> {
        if self.is_joined() && self.outgoing.grant_at_once(label, length) {
            return Ok(Grant { sender: self, chunk: None });
        }
        self.grant_otherwise(label, length)
    }

    #[cold]
    #[inline(never)]
    fn grant_otherwise(&mut self, label: Label, length: usize) -> Result<Grant<'_>, SendError> {
        if !self.is_joined() {
            return Err(SendError::NotJoined);
        }
        let chunk = self.outgoing.grant(label, length)?;
        Ok(Grant { sender: self, chunk })
    }

    #[inline]
    fn is_joined(&self) -> bool {
        !self.shared.has_left() && self.shared.is_ours()
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if self.shared.is_ours() {
            self.outgoing.close();
            self.shared.exit();
        }
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("to", self.to()).finish_non_exhaustive()
    }
}

/// Room for a message lent by [`Sender::grant`], not yet sent: a slice of bytes.
#[must_use = "nothing is sent until it is committed"]
pub struct Grant<'s> {
    // No more than this: see `outgoing::Granted`.
    sender: &'s mut Sender,
    chunk: Option<Box<InPool>>,
}

impl Grant<'_> {
    /// Sends the first `used` bytes; more than were lent counts as all.
    ///
    /// # Errors
    ///
    /// Of a message larger than a lane's frames: `Full`, if there is no room for its handle. Others
    /// never fail.
    #[inline]
    pub fn commit(self, used: usize) -> Result<(), SendError> {
        match self.chunk {
            None => {
                self.sender.outgoing.commit(used);
                Ok(())
            }
            Some(room) => self.sender.outgoing.commit_chunk(*room, used),
        }
    }
}

impl Deref for Grant<'_> {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.chunk {
            None => self.sender.outgoing.bytes(),
            Some(room) => room.bytes(),
        }
    }
}

impl DerefMut for Grant<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.chunk {
            None => self.sender.outgoing.bytes_mut(),
            Some(room) => room.bytes_mut(),
        }
    }
}

impl fmt::Debug for Grant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant").field("bytes", &self.len()).finish()
    }
}
