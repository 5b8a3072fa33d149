//! What a handler is asked.

use shm_primitives::message::MsgHeader;
use shm_primitives::place::CancelWord;
use std::ops::Deref;

/// A call, as its handler sees it: a slice of the request's payload, read where it lies.
#[derive(Debug)]
pub struct Request<'r> {
    pub(super) payload: &'r [u8],
    pub(super) header: MsgHeader,
    pub(super) cancel: CancelWord<'r>,
}

impl Request<'_> {
    /// What was sent, in place.
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
