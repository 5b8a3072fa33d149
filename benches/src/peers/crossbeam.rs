//! `crossbeam-queue`: its bounded queue of many producers and consumers.

use crate::traffic::{Receiver, Sender};
use crossbeam_queue::ArrayQueue;

impl<T: Send> Sender<T> for &ArrayQueue<T> {
    #[inline]
    fn try_send(&mut self, item: T) -> bool {
        self.push(item).is_ok()
    }
}

impl<T: Send> Receiver<T> for &ArrayQueue<T> {
    #[inline]
    fn try_recv(&mut self) -> Option<T> {
        self.pop()
    }
}
