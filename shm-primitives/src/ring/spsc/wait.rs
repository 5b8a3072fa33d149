//! Waiting at either end.

use super::{Consumer, PopError, Producer, PushError};
use crate::part::Trust;
use crate::wake::{Deadline, Park, Waiter};

impl<T, M: Trust> Consumer<'_, T, M> {
    /// Waits until there is something to pop, or the ring is corrupt: true; false if the
    /// deadline passed first. The producer notifies the waiter's word after its pushes.
    pub fn wait(&mut self, waiter: &mut Waiter<'_>, park: &impl Park, deadline: Deadline) -> bool {
        waiter.wait(park, deadline, || !self.is_empty() || self.corruption().is_some())
    }

    /// Takes the element at the head of the ring, waiting for it; see [`wait`](Self::wait).
    ///
    /// # Errors
    ///
    /// The ring was still empty at the deadline, or it is corrupt.
    pub fn pop_wait(
        &mut self,
        waiter: &mut Waiter<'_>,
        park: &impl Park,
        deadline: Deadline,
    ) -> Result<T, PopError> {
        self.wait(waiter, park, deadline);
        self.pop()
    }
}

impl<T, M: Trust> Producer<'_, T, M> {
    /// Waits until there is room for one more, or the ring is corrupt: true; false if the
    /// deadline passed first. The consumer notifies the waiter's word after its pops.
    pub fn wait(&mut self, waiter: &mut Waiter<'_>, park: &impl Park, deadline: Deadline) -> bool {
        waiter.wait(park, deadline, || !self.is_full() || self.corruption().is_some())
    }

    /// Puts `value` at the tail of the ring, waiting for room; see [`wait`](Self::wait).
    ///
    /// # Errors
    ///
    /// The ring was still full at the deadline, or it is corrupt; the value comes back.
    pub fn push_wait(
        &mut self,
        value: T,
        waiter: &mut Waiter<'_>,
        park: &impl Park,
        deadline: Deadline,
    ) -> Result<(), PushError<T>> {
        self.wait(waiter, park, deadline);
        self.push(value)
    }
}
