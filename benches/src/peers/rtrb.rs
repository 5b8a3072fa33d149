//! `rtrb`: a ring of one producer and one consumer.

use crate::frame::Frame;
use crate::traffic::{BatchReceiver, BatchSender, FrameReceiver, FrameSender, Receiver, Sender};
use rtrb::{Consumer, Producer, RingBuffer};
use std::ops::Range;

impl<T: Send> Sender<T> for Producer<T> {
    #[inline]
    fn try_send(&mut self, item: T) -> bool {
        self.push(item).is_ok()
    }
}

impl<T: Send> Receiver<T> for Consumer<T> {
    #[inline]
    fn try_recv(&mut self) -> Option<T> {
        self.pop().ok()
    }
}

impl BatchSender for Producer<u64> {
    #[inline]
    fn send_some(&mut self, items: Range<u64>) -> usize {
        let Ok(chunk) = self.write_chunk_uninit((items.end - items.start) as usize) else {
            return 0;
        };
        chunk.fill_from_iter(items)
    }
}

impl BatchReceiver for Consumer<u64> {
    #[inline]
    fn recv_some(&mut self, max: usize, each: impl FnMut(u64)) -> usize {
        let Ok(chunk) = self.read_chunk(max) else {
            return 0;
        };
        // The slices are quicker than the chunk's iterator, and the items need no moving out.
        let (head, tail) = chunk.as_slices();
        head.iter().chain(tail).copied().for_each(each);
        chunk.commit_all();
        max
    }
}

/// Writes frames in place, each into a slot of a ring of arrays: quicker by chunks of one
/// slot than by value, for short frames as for long.
pub struct SlotTx<const SLOT: usize>(Producer<[u8; SLOT]>);

/// Reads them in place.
pub struct SlotRx<const SLOT: usize>(Consumer<[u8; SLOT]>);

/// Both ends of a ring of arrays of that many bytes together.
#[must_use]
pub fn slots<const SLOT: usize>(capacity: usize) -> (SlotTx<SLOT>, SlotRx<SLOT>) {
    let (tx, rx) = RingBuffer::new(capacity / SLOT);
    (SlotTx(tx), SlotRx(rx))
}

impl<const N: usize, const SLOT: usize> FrameSender<N> for SlotTx<SLOT> {
    #[inline]
    fn try_send(&mut self, frame: Frame<'_, N>) -> bool {
        let Ok(mut chunk) = self.0.write_chunk_uninit(1) else {
            return false;
        };
        frame.fill_item(&mut chunk.as_mut_slices().0[0]);
        // SAFETY: `fill_item` leaves no byte of the one slot uninitialised.
        unsafe { chunk.commit_all() };
        true
    }
}

impl<const N: usize, const SLOT: usize> FrameReceiver<N> for SlotRx<SLOT> {
    #[inline]
    fn try_recv(&mut self, frame: Frame<'_, N>) -> bool {
        let Ok(chunk) = self.0.read_chunk(1) else {
            return false;
        };
        frame.check_item(&chunk.as_slices().0[0]);
        chunk.commit_all();
        true
    }
}
