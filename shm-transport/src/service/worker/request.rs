//! What a handler is asked.

use shm_primitives::channel::Work;
use shm_primitives::message::MsgHeader;
use shm_primitives::place::CancelWord;
use std::ops::Deref;

/// A call, as its handler sees it: a slice of the request's payload.
///
/// It is the worker's own copy, that nobody changes; in a worker whose clients are
/// [trusted](super::Worker::trusted), it is read where it lies.
#[derive(Debug)]
pub struct Request<'r> {
    pub(super) payload: &'r [u8],
    pub(super) header: MsgHeader,
    pub(super) cancel: CancelWord<'r>,
}

impl Request<'_> {
    /// What was sent.
    #[must_use]
    #[inline]
    pub fn payload(&self) -> &[u8] {
        self.payload
    }

    /// Which function is called.
    #[must_use]
    pub fn function(&self) -> u32 {
        self.header.func_id()
    }

    /// The call's sequence id: never that of another call in the service's life.
    #[must_use]
    pub fn sequence_id(&self) -> u64 {
        self.header.seq_id()
    }

    /// Whether the caller has given the call up: nobody waits for what it would answer. One load
    /// of memory, to be asked now and then by what takes long; how it ends then is the handler's
    /// matter.
    #[must_use]
    #[inline]
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_asked(self.header.seq_id())
    }
}

impl Deref for Request<'_> {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        self.payload
    }
}

/// What a worker that does not trust its clients works on: memory of its own, as large as the
/// largest request and reply so far.
#[derive(Debug, Default)]
pub(super) struct Private {
    request: Vec<u8>,
    reply: Vec<u8>,
}

impl Private {
    /// A copy of the request in hand, and room for what is answered.
    #[inline]
    pub fn take_in(&mut self, work: &Work<'_, '_, '_>, length: usize) -> (&[u8], &mut Vec<u8>) {
        let Self { request, reply } = self;
        if request.len() < length {
            // At most what a frame of the lane may have: its header was checked against that.
            request.resize(length, 0);
        }
        let copied = work.copy_payload(&mut request[..length]);
        (&request[..copied], reply)
    }
}
