//! How a handler answers.

use super::error::HandlerError;
use super::ringer::Ringer;
use shm_primitives::channel::{self, Replier, ReplyError};
use shm_primitives::message::MsgStatus;
use std::fmt;
use std::ops::{Deref, DerefMut};

/// What replies to one call. A handler gets it by value and answers once at the most.
///
/// One that returns `Ok` without an answer has answered with no bytes.
pub struct Reply<'r> {
    pub(super) answer: &'r mut (dyn Answer + 'r),
    /// Room for an answer that a client cannot write to.
    pub(super) private: Option<&'r mut Vec<u8>>,
    pub(super) ringer: &'r mut Ringer,
    /// Progress replies that were not sent.
    pub(super) dropped: &'r mut u64,
}

impl<'r> Reply<'r> {
    /// Answers with these bytes.
    ///
    /// # Errors
    ///
    /// They are more than a reply of this service has room for; pass the error on, and the caller
    /// is told.
    #[inline]
    pub fn send(self, payload: &[u8]) -> Result<(), HandlerError> {
        let mut grant = self.answer.grant(payload.len()).map_err(HandlerError::of_reply)?;
        grant.copy_from(payload);
        grant.commit(MsgStatus::Completed, payload.len()).map_err(HandlerError::of_reply)
    }

    /// Lends room for an answer of up to `length` bytes, to be written and sent by
    /// [`send`](ReplyGrant::send). What stands there is not zero, and may be of an answer to another
    /// client: send no more than was written. Dropping it answers nothing.
    ///
    /// It is the worker's own, and copied when it is sent; in a worker whose clients are
    /// [trusted](super::Worker::trusted), it lies where the caller reads it.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    #[inline]
    pub fn grant(self, length: usize) -> Result<ReplyGrant<'r>, HandlerError> {
        let grant = self.answer.grant(length).map_err(HandlerError::of_reply)?;
        let private = self.private.map(|private| {
            if private.len() < length {
                private.resize(length, 0);
            }
            &mut private[..length]
        });
        Ok(ReplyGrant { grant, private })
    }

    /// Tells the caller that the call was taken up and takes a while: a progress reply with no
    /// bytes. Whether it was sent; see [`progress`](Self::progress).
    ///
    /// # Errors
    ///
    /// As [`progress`](Self::progress).
    pub fn accepted(&mut self) -> Result<bool, HandlerError> {
        self.progress(&[])
    }

    /// Tells the caller how far the call is, in a few bytes: 4 unless the service was made for
    /// more. False, and nothing is sent, while the caller has not read the last one: a worker
    /// never waits for a client, and the next report says more.
    ///
    /// # Errors
    ///
    /// They are more than a progress reply of this service has room for.
    pub fn progress(&mut self, payload: &[u8]) -> Result<bool, HandlerError> {
        let sent = self.answer.progress(payload).map_err(HandlerError::of_reply)?;
        if sent {
            self.ringer.ring();
        } else {
            *self.dropped += 1;
        }
        Ok(sent)
    }
}

impl fmt::Debug for Reply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").finish_non_exhaustive()
    }
}

/// Room for an answer, lent by [`Reply::grant`]: a slice of bytes.
#[derive(Debug)]
pub struct ReplyGrant<'r> {
    grant: channel::ReplyGrant<'r, 'static>,
    private: Option<&'r mut [u8]>,
}

impl ReplyGrant<'_> {
    /// Answers with the first `used` bytes; more than were lent counts as all.
    ///
    /// # Errors
    ///
    /// None, but for the type that a handler returns.
    #[inline]
    pub fn send(mut self, used: usize) -> Result<(), HandlerError> {
        if let Some(private) = self.private {
            self.grant.copy_from(&private[..used.min(private.len())]);
        }
        self.grant.commit(MsgStatus::Completed, used).map_err(HandlerError::of_reply)
    }
}

impl Deref for ReplyGrant<'_> {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.private {
            Some(private) => private,
            None => &self.grant,
        }
    }
}

impl DerefMut for ReplyGrant<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.private {
            Some(private) => private,
            None => &mut self.grant,
        }
    }
}

/// A [`Replier`], without the lifetimes that only its worker cares about.
pub(super) trait Answer {
    fn grant(&mut self, length: usize) -> Result<channel::ReplyGrant<'_, 'static>, ReplyError>;
    fn progress(&mut self, payload: &[u8]) -> Result<bool, ReplyError>;
}

impl Answer for Replier<'_, 'static, '_> {
    #[inline]
    fn grant(&mut self, length: usize) -> Result<channel::ReplyGrant<'_, 'static>, ReplyError> {
        Replier::grant(self, length)
    }

    fn progress(&mut self, payload: &[u8]) -> Result<bool, ReplyError> {
        Replier::progress(self, payload)
    }
}
