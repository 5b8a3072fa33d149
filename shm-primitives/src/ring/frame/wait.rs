//! Waiting at either end.

use super::{Frame, Grant, ReadError, Reader, WriteError, Writer};
use crate::part::{Trust, Trusted};
use crate::wake::{Deadline, Park, Waiter};

impl<M: Trust> Reader<'_, M> {
    /// Waits until there is a frame, or the ring is corrupt: true; false if the deadline
    /// passed first. The writer notifies the waiter's word after its frames.
    pub fn wait(&mut self, waiter: &mut Waiter<'_>, park: &impl Park, deadline: Deadline) -> bool {
        waiter.wait(park, deadline, || !self.is_empty())
    }
}

impl<'a> Reader<'a, Trusted> {
    /// The next frame, read in place, waiting for it; see [`wait`](Self::wait).
    ///
    /// # Errors
    ///
    /// There was still none at the deadline, or it is corrupt.
    pub fn read_wait(
        &mut self,
        waiter: &mut Waiter<'_>,
        park: &impl Park,
        deadline: Deadline,
    ) -> Result<Frame<'_, 'a>, ReadError> {
        self.wait(waiter, park, deadline);
        self.read()
    }
}

impl<'a> Writer<'a, Trusted> {
    /// Lends room for a payload of up to `length` bytes, waiting for it; see
    /// [`wait`](Self::wait).
    ///
    /// # Errors
    ///
    /// There was still no room at the deadline, or there never will be.
    pub fn grant_wait(
        &mut self,
        length: usize,
        waiter: &mut Waiter<'_>,
        park: &impl Park,
        deadline: Deadline,
    ) -> Result<Grant<'_, 'a>, WriteError> {
        self.wait(length, waiter, park, deadline);
        self.grant(length)
    }
}

impl<M: Trust> Writer<'_, M> {
    /// Waits until there is room for a payload of `length` bytes, or never will be: true;
    /// false if the deadline passed first. The reader notifies the waiter's word after it
    /// has released frames.
    pub fn wait(
        &mut self,
        length: usize,
        waiter: &mut Waiter<'_>,
        park: &impl Park,
        deadline: Deadline,
    ) -> bool {
        waiter.wait(park, deadline, || self.room_for(length) != Err(WriteError::Full))
    }

    /// Copies `payload` into a frame and publishes it, waiting for room; see
    /// [`wait`](Self::wait).
    ///
    /// # Errors
    ///
    /// There was still no room at the deadline, or there never will be.
    pub fn push_wait(
        &mut self,
        payload: &[u8],
        waiter: &mut Waiter<'_>,
        park: &impl Park,
        deadline: Deadline,
    ) -> Result<(), WriteError> {
        self.wait(payload.len(), waiter, park, deadline);
        self.push(payload)
    }
}
