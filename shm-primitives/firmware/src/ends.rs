//! What source and image ask of a ring's ends.

use shm_primitives::wake::{Deadline, Park, Waiter};

/// The interrupt's end.
pub trait Sends {
    /// Sends the one message that may come `n`th; false if the ring is full.
    fn send(&mut self, n: u32) -> bool;
    /// Whether everything sent has been taken.
    fn all_taken(&mut self) -> bool;
}

/// The main loop's end.
pub trait Takes {
    /// Takes a message and checks that it is the `n`th, whole; false if there is none.
    ///
    /// # Panics
    ///
    /// It is not, or the ring says it is corrupt.
    fn take(&mut self, n: u32) -> bool;
    /// Waits until there is a message.
    fn wait(&mut self, waiter: &mut Waiter<'_>, park: &impl Park, deadline: Deadline) -> bool;
    /// Times padding stood before a message, if this kind of ring has any.
    fn padded(&self) -> Option<u32>;
}
