//! `bbqueue`: grants of a bip buffer, framed.

use crate::frame::Frame;
use crate::traffic::{FrameReceiver, FrameSender};
use bbqueue::nicknames::YakiNiku;
use bbqueue::prod_cons::framed::{FramedConsumer, FramedProducer, LenHeader};
use bbqueue::traits::bbqhdl::BbqHandle;
use bbqueue::traits::storage::BoxedSlice;
use std::mem::MaybeUninit;

/// The flavour with a heap buffer, atomics and polling: the counterpart of the others here.
pub type Queue = YakiNiku;

/// A queue of that many bytes.
#[must_use]
pub fn queue(capacity: usize) -> Queue {
    Queue::new_with_storage(BoxedSlice::new(capacity))
}

/// Writes frames whose length an `H` tells.
pub struct Tx<'a, H: LenHeader>(FramedProducer<&'a Queue, H>);

/// Reads them.
pub struct Rx<'a, H: LenHeader>(FramedConsumer<&'a Queue, H>);

/// Both ends of a queue.
#[must_use]
pub fn framed<H: LenHeader>(queue: &Queue) -> (Tx<'_, H>, Rx<'_, H>) {
    let handle = &queue;
    (Tx(BbqHandle::framed_producer(handle)), Rx(BbqHandle::framed_consumer(handle)))
}

impl<H, const N: usize> FrameSender<N> for Tx<'_, H>
where
    H: LenHeader + TryFrom<usize> + Send,
{
    #[inline]
    fn try_send(&mut self, frame: Frame<'_, N>) -> bool {
        let len = H::try_from(N).ok().expect("a length that the header holds");
        let Ok(mut grant) = self.0.grant(len) else {
            return false;
        };
        let bytes: &mut [u8; N] = grant.as_mut_array().expect("a grant as long as asked for");
        // SAFETY: `fill` puts nothing but initialised bytes there.
        frame.fill(unsafe { &mut *std::ptr::from_mut(bytes).cast::<[MaybeUninit<u8>; N]>() });
        grant.commit(len);
        true
    }
}

impl<H: LenHeader + Send, const N: usize> FrameReceiver<N> for Rx<'_, H> {
    #[inline]
    fn try_recv(&mut self, frame: Frame<'_, N>) -> bool {
        let Ok(grant) = self.0.read() else {
            return false;
        };
        frame.check(grant.as_array().expect("a frame as long as sent"));
        grant.release();
        true
    }
}
