//! Waiting at either end.

use super::{Client, Worker};
use crate::wake::{Deadline, Park, Waiter};

impl Worker<'_> {
    /// Waits until there is a request, or the ring is corrupt: true; false if the deadline passed
    /// first. The client notifies the waiter's word after its requests. For a worker of one lane;
    /// one of many waits with its own condition, which looks into each.
    pub fn wait(&mut self, waiter: &mut Waiter<'_>, park: &impl Park, deadline: Deadline) -> bool {
        waiter.wait(park, deadline, || !self.is_request_empty())
    }
}

impl Client<'_> {
    /// Waits until there is a reply, or the ring is corrupt: true; false if the deadline passed
    /// first. The worker notifies the waiter's word after its replies; whoever convicts a worker
    /// notifies it too, and after that there may be nothing to receive.
    pub fn wait(&mut self, waiter: &mut Waiter<'_>, park: &impl Park, deadline: Deadline) -> bool {
        waiter.wait(park, deadline, || !self.is_response_empty())
    }
}
