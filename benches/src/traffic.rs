//! What a ring must do to be measured. None of it blocks, but for [`FrameSleeper`]: the loops that
//! call it spin.

use crate::frame::Frame;
use std::ops::Range;

/// Takes items one at a time.
pub trait Sender<T>: Send {
    /// Sends the item, or returns false for want of room.
    fn try_send(&mut self, item: T) -> bool;
}

/// Gives items one at a time.
pub trait Receiver<T>: Send {
    /// The next item, if there is one.
    fn try_recv(&mut self) -> Option<T>;
}

/// Takes integers many at a time.
pub trait BatchSender: Send {
    /// Sends a prefix of the integers, and returns how many.
    fn send_some(&mut self, items: Range<u64>) -> usize;
}

/// Gives integers many at a time.
pub trait BatchReceiver: Send {
    /// Hands over up to `max` integers, and returns how many.
    fn recv_some(&mut self, max: usize, each: impl FnMut(u64)) -> usize;
}

/// Takes frames, written in place where the ring can.
pub trait FrameSender<const N: usize> {
    /// Sends the frame, or returns false for want of room.
    fn try_send(&mut self, frame: Frame<'_, N>) -> bool;
}

/// Gives frames, read in place where the ring can.
pub trait FrameReceiver<const N: usize> {
    /// Checks the next frame against the one expected, or returns false if there is none.
    fn try_recv(&mut self, frame: Frame<'_, N>) -> bool;
}

/// Gives frames to one who sleeps until they come.
pub trait FrameSleeper<const N: usize> {
    /// Waits for the next frame without keeping the CPU, and checks it against the one expected.
    fn recv(&mut self, frame: Frame<'_, N>);
}

/// Carries frames of `N` bytes as items of `SLOT`, by value.
pub struct ByValue<E, const SLOT: usize>(pub E);

impl<E: Sender<[u8; SLOT]>, const N: usize, const SLOT: usize> FrameSender<N> for ByValue<E, SLOT> {
    #[inline]
    fn try_send(&mut self, frame: Frame<'_, N>) -> bool {
        self.0.try_send(frame.item())
    }
}

impl<E: Receiver<[u8; SLOT]>, const N: usize, const SLOT: usize> FrameReceiver<N>
    for ByValue<E, SLOT>
{
    #[inline]
    fn try_recv(&mut self, frame: Frame<'_, N>) -> bool {
        let item = self.0.try_recv();
        item.inspect(|item| frame.check_item(item)).is_some()
    }
}
