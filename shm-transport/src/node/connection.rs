//! The lane of `Node::send` to one destination, which the node's threads share.

use super::error::SendError;
use super::frame::Label;
use super::outgoing::Outgoing;
use crate::config::Full;
use crate::park::FutexPark;
use parking_lot::{ArcMutexGuard, Mutex, MutexGuard, RawMutex};
use shm_primitives::layout::lrpc::NodeId;
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
    to: NodeId,
    max_frame: usize,
}

/// How long to wait for one who is about to write a message or to see that there is no room,
/// before looking which of both.
const GLANCE: Duration = Duration::from_millis(1);

impl Connection {
    pub fn new(lane: Outgoing) -> Self {
        let (to, max_frame) = (lane.peer().id, lane.max_frame());
        Self { lane: Arc::new(Mutex::new(lane)), waits: AtomicBool::new(false), to, max_frame }
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
                None => Err(SendError::Full { to: self.to }),
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
                let timed_out = || SendError::TimedOut { to: self.to, waited: time };
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
