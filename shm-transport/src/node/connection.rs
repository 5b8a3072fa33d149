//! The lane of `Node::send` to one destination, which the node's threads share.

use super::error::SendError;
use super::frame::Label;
use super::outgoing::{Outgoing, Way};
use super::peer::Peer;
use crate::config::Full;
use crate::park::FutexPark;
use parking_lot::{ArcMutexGuard, Mutex, MutexGuard, RawMutex};
use shm_primitives::identity::OwnerId;
use shm_primitives::wake::Deadline;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A lane, and a lock. Who waits for room has the lock meanwhile: others that wait, wait for it,
/// each for no longer than it may; and those that do not wait see that there is no room.
#[derive(Debug)]
pub(super) struct Connection {
    lane: Arc<Mutex<Outgoing>>,
    /// Whether the one that has the lock waits for room.
    waits: AtomicBool,
    peer: Arc<Peer>,
    way: Way,
    max_frame: usize,
}

/// How long to wait for one who is about to write a message or to see that there is no room,
/// before looking which of both.
const GLANCE: Duration = Duration::from_millis(1);

impl Connection {
    pub fn new(lane: Outgoing) -> Self {
        let (peer, way) = (Arc::clone(lane.peer()), lane.way().clone());
        let max_frame = lane.max_frame();
        let lane = Arc::new(Mutex::new(lane));
        Self { lane, waits: AtomicBool::new(false), peer, way, max_frame }
    }

    /// Under which id the destination has what it has.
    pub fn owner(&self) -> OwnerId {
        self.peer.owner
    }

    /// Whether the destination is gone, or another has its name.
    #[cold]
    pub fn leads_nowhere(&self) -> bool {
        self.peer.is_gone() || self.way.has_left() || !self.way.has_name()
    }

    /// Bytes of the largest message that goes through the lane.
    pub fn max_frame(&self) -> usize {
        self.max_frame
    }

    /// The lane, if no other thread has it.
    pub fn try_lock(&self) -> Option<ArcMutexGuard<RawMutex, Outgoing>> {
        self.lane.try_lock_arc()
    }

    /// Sends, and deals with a lane that is full as `full` says.
    pub fn send(&self, label: Label, payload: &[u8], full: Full) -> Result<(), SendError> {
        match full {
            Full::Error => match self.lock_unless_full() {
                Some(mut lane) => lane.try_send(label, payload),
                None => Err(SendError::Full { to: self.peer.id }),
            },
            Full::Drop => self.lane.lock().send(label, payload, Full::Drop),
            Full::Block(time) => self.send_within(label, payload, time),
        }
    }

    /// `None` if another waits for room.
    fn lock_unless_full(&self) -> Option<MutexGuard<'_, Outgoing>> {
        loop {
            if let Some(lane) = self.lane.try_lock_for(GLANCE) {
                return Some(lane);
            }
            if self.waits.load(Ordering::Relaxed) {
                return None;
            }
        }
    }

    fn send_within(&self, label: Label, payload: &[u8], time: Duration) -> Result<(), SendError> {
        let (mut lane, left) = match self.lane.try_lock() {
            Some(lane) => (lane, time),
            None => {
                let begun = Instant::now();
                let timed_out = || SendError::TimedOut { to: self.peer.id, waited: time };
                let lane = self.lane.try_lock_for(time).ok_or_else(timed_out)?;
                (lane, time.saturating_sub(begun.elapsed()))
            }
        };
        match lane.try_send(label, payload) {
            Err(SendError::Full { .. }) => {}
            other => return other,
        }
        let deadline = Deadline::after(&FutexPark::new(), left);
        self.waits.store(true, Ordering::Relaxed);
        let sent = lane.send_until(label, payload, deadline, time);
        self.waits.store(false, Ordering::Relaxed);
        sent
    }
}
