//! `heapless`: its queue of one producer and one consumer.

use crate::groups::spsc::CAPACITY;
use crate::traffic::{Receiver, Sender};
use heapless::spsc::{Consumer, Producer, Queue};

/// A queue as long as the other peers'; it keeps one place of its array empty.
///
/// That its documentation prefers a power of two makes no difference here: its ends know
/// the length at run time only, and 1024 places are as quick as 1025.
#[must_use]
pub fn queue() -> Box<Queue<u64, { CAPACITY + 1 }>> {
    Box::new(Queue::new())
}

impl<T: Send> Sender<T> for Producer<'_, T> {
    #[inline]
    fn try_send(&mut self, item: T) -> bool {
        self.enqueue(item).is_ok()
    }
}

impl<T: Send> Receiver<T> for Consumer<'_, T> {
    #[inline]
    fn try_recv(&mut self) -> Option<T> {
        self.dequeue()
    }
}
