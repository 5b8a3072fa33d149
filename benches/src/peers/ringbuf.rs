//! `ringbuf`: its shared ring on the heap, by the ends that cache the other's index.

use crate::traffic::{BatchReceiver, BatchSender, Receiver, Sender};
use ringbuf::traits::{Consumer, Producer, Split};
use ringbuf::{HeapCons, HeapProd, HeapRb};
use std::ops::Range;

/// Both ends of a ring of that many items.
#[must_use]
pub fn ring(capacity: usize) -> (HeapProd<u64>, HeapCons<u64>) {
    HeapRb::new(capacity).split()
}

impl<T: Send> Sender<T> for HeapProd<T> {
    #[inline]
    fn try_send(&mut self, item: T) -> bool {
        self.try_push(item).is_ok()
    }
}

impl<T: Send> Receiver<T> for HeapCons<T> {
    #[inline]
    fn try_recv(&mut self) -> Option<T> {
        self.try_pop()
    }
}

impl BatchSender for HeapProd<u64> {
    #[inline]
    fn send_some(&mut self, items: Range<u64>) -> usize {
        self.push_iter(items)
    }
}

impl BatchReceiver for HeapCons<u64> {
    #[inline]
    fn recv_some(&mut self, max: usize, each: impl FnMut(u64)) -> usize {
        let mut items = [0; 64];
        let max = max.min(items.len());
        let count = self.pop_slice(&mut items[..max]);
        items[..count].iter().copied().for_each(each);
        count
    }
}
