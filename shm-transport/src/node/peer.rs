//! What is known of the node at the other end of a lane.

use super::error::SendError;
use shm_primitives::identity::OwnerId;
use shm_primitives::layout::lrpc::NodeId;
use std::sync::atomic::{AtomicU8, Ordering};

const THERE: u8 = 0;
const LEFT: u8 = 1;
const DEAD: u8 = 2;

/// The receiver of a lane, as one of its senders knows it. It is told of its death by the thread
/// that looks after the sending node, so that no send has to ask the kernel.
#[derive(Debug)]
pub(super) struct Peer {
    pub id: NodeId,
    pub owner: OwnerId,
    pub pid: Option<u32>,
    state: AtomicU8,
}

impl Peer {
    pub fn new(id: NodeId, owner: OwnerId, pid: Option<u32>) -> Self {
        Self { id, owner, pid, state: AtomicU8::new(THERE) }
    }

    /// Whether it can still be sent to, for all that is known.
    #[inline]
    pub fn check(&self) -> Result<(), SendError> {
        match self.state.load(Ordering::Relaxed) {
            THERE => Ok(()),
            state => Err(self.gone(state)),
        }
    }

    #[cold]
    fn gone(&self, state: u8) -> SendError {
        match state {
            LEFT => SendError::Left { to: self.id },
            _ => SendError::Dead { to: self.id, pid: self.pid },
        }
    }

    pub fn is_gone(&self) -> bool {
        self.state.load(Ordering::Relaxed) != THERE
    }

    /// Notes that it has left.
    pub fn note_left(&self) {
        // Its death, should it be known, stays.
        let _ = self.state.compare_exchange(THERE, LEFT, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Notes that it is dead.
    pub fn note_dead(&self) {
        let _ = self.state.compare_exchange(THERE, DEAD, Ordering::Relaxed, Ordering::Relaxed);
    }
}
