//! The client's end: requests out, replies in.

use super::layout::WorkerChannel;
use super::reply::{REPLY_HEADER, ReplyHeader};
use super::{ReceiveError, received};
use crate::message::{HeaderError, MsgHeader, MsgStatus};
use crate::part::Corrupt;
use crate::ring::frame::{Frame, Grant, Reader, WriteError, Writer};
use core::fmt;
use core::ops::{Deref, DerefMut};

/// The client's end of a channel: one thread at a time.
///
/// No operation blocks, spins, allocates, makes a system call, or uses a read-modify-write or a
/// fence.
#[derive(Debug)]
pub struct Client<'a> {
    // In the order they are given back: the one claimed last first.
    responses: Reader<'a>,
    requests: Writer<'a>,
    /// Calls that there is room for.
    room: u32,
    /// Calls that may still have a reply in the ring or to come: never fewer than there are.
    outstanding: u32,
}

/// Why no request was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RequestError {
    /// The sequence id is 0, the invalid one.
    InvalidSeqId,
    /// There is no room for the request now: the worker is behind.
    Full,
    /// There is no room for the replies now: receive some, or wait.
    Outstanding {
        /// Calls outstanding, which is all that there is room for.
        calls: u32,
    },
    /// There never will be room: send it in pieces, by a chunk, or make the ring larger.
    TooLarge {
        /// Bytes of payload asked for.
        length: usize,
        /// Bytes of the largest payload.
        maximum: usize,
    },
    /// The worker's position is impossible; see [`Client::corruption`].
    Corrupt,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidSeqId => f.write_str("sequence id 0 is no call's"),
            Self::Full => f.write_str("the request ring is full"),
            Self::Outstanding { calls } => {
                write!(f, "{calls} calls are outstanding, and there is no room for more replies")
            }
            Self::TooLarge { length, maximum } => {
                write!(f, "a request of {length} bytes; the largest this lane takes is {maximum}")
            }
            Self::Corrupt => f.write_str("the request ring is corrupt"),
        }
    }
}

impl core::error::Error for RequestError {}

impl<'a> Client<'a> {
    pub(super) fn new(
        channel: WorkerChannel<'a>,
        requests: Writer<'a>,
        responses: Reader<'a>,
    ) -> Self {
        // What a former client has outstanding is not known yet: as much as there may be.
        let room = channel.max_calls();
        let mut client = Self { requests, responses, room, outstanding: room };
        client.settle();
        client
    }

    /// Bytes of the largest request's payload.
    pub fn max_request(&self) -> usize {
        self.requests.max_payload().saturating_sub(MsgHeader::SIZE)
    }

    /// How many calls may be outstanding at a time.
    pub fn max_calls(&self) -> u32 {
        self.room
    }

    /// Calls sent whose final reply was not released: an upper bound, for a call whose worker
    /// died is counted until [`settle`](Self::settle).
    pub fn outstanding(&self) -> u32 {
        self.outstanding
    }

    /// Replies there are to receive: a lower bound, for the worker goes on working. Looks at a
    /// word of each.
    #[doc(alias = "AvailableResponses")]
    pub fn available_responses(&mut self) -> usize {
        self.responses.available()
    }

    /// Whether there is no reply to receive. Once it says no, there stays one until it is
    /// released; a yes may be out of date at once.
    #[doc(alias = "ResponseEmpty")]
    pub fn is_response_empty(&mut self) -> bool {
        self.responses.is_empty()
    }

    /// What was found wrong with one of the rings, once it was.
    pub fn corruption(&self) -> Option<Corrupt> {
        self.requests.corruption().or(self.responses.corruption())
    }

    /// Counts anew the calls that may still be replied to, if no reply is there to receive:
    /// those whose request the worker has not left behind. A call whose worker died, and whose
    /// request was left behind without a reply, has its room free after this.
    ///
    /// [`request`](Self::request) does it by itself before it says
    /// [`Outstanding`](RequestError::Outstanding).
    pub fn settle(&mut self) {
        // In this order. A worker publishes the final reply before it leaves the request behind,
        // and its position is read with Acquire: replies to requests before it are in the ring,
        // or were, and if none is, all were released.
        let Ok(consumed) = self.requests.consumed() else { return };
        if !self.responses.is_empty() {
            return;
        }
        if let Ok(waiting) = self.requests.frames_since(consumed) {
            // Both are at least what is outstanding. A request that was answered and not left
            // behind, for its worker died, is counted by one of them only.
            self.outstanding = u32::try_from(waiting).unwrap_or(u32::MAX).min(self.outstanding);
        }
    }

    /// Whether the replies to one more call have room.
    fn admit(&mut self, seq_id: u64, length: usize) -> Result<(), RequestError> {
        if seq_id == MsgHeader::INVALID_SEQ_ID {
            return Err(RequestError::InvalidSeqId);
        }
        let maximum = self.max_request();
        if length > maximum {
            return Err(RequestError::TooLarge { length, maximum });
        }
        if self.outstanding >= self.room {
            self.settle();
        }
        if self.outstanding >= self.room {
            return Err(RequestError::Outstanding { calls: self.outstanding });
        }
        Ok(())
    }

    /// Sends a request: copies `payload`.
    ///
    /// `seq_id` is never used again; [`SeqIds`](crate::message::SeqIds) gives such ids.
    ///
    /// # Errors
    ///
    /// Nothing was sent: see [`RequestError`].
    #[inline]
    pub fn request(
        &mut self,
        seq_id: u64,
        func_id: u32,
        payload: &[u8],
    ) -> Result<(), RequestError> {
        let mut grant = self.grant(seq_id, func_id, payload.len())?;
        grant.copy_from_slice(payload);
        grant.commit(payload.len());
        Ok(())
    }

    /// Lends room for a request with up to `length` bytes of payload, to be written in place and
    /// sent with [`commit`](RequestGrant::commit). Dropping it sends nothing.
    ///
    /// # Errors
    ///
    /// No room: see [`RequestError`].
    #[inline]
    pub fn grant(
        &mut self,
        seq_id: u64,
        func_id: u32,
        length: usize,
    ) -> Result<RequestGrant<'_, 'a>, RequestError> {
        self.admit(seq_id, length)?;
        match self.requests.grant(MsgHeader::SIZE + length) {
            Ok(grant) => {
                let outstanding = &mut self.outstanding;
                Ok(RequestGrant { grant, outstanding, seq_id, func_id })
            }
            Err(WriteError::Full) => Err(RequestError::Full),
            Err(WriteError::Corrupt) => Err(RequestError::Corrupt),
            Err(WriteError::TooLarge { maximum, .. }) => Err(RequestError::TooLarge {
                length,
                maximum: maximum.saturating_sub(MsgHeader::SIZE),
            }),
        }
    }

    /// The next reply, read in place. [`release`](Response::release) leaves it behind; dropping
    /// it keeps it.
    ///
    /// # Errors
    ///
    /// There is none, or what is there is no reply: see [`ReceiveError`].
    #[inline]
    pub fn response(&mut self) -> Result<Response<'_, 'a>, ReceiveError> {
        let frame = received(self.responses.read())?;
        let (header, status) = ReplyHeader::parse(&frame).map_err(ReceiveError::Malformed)?;
        Ok(Response { frame, header, status, outstanding: &mut self.outstanding })
    }

    /// Leaves the next frame of the response ring behind if it is no reply, which only a worker
    /// that does not keep to the protocol writes; what was wrong with it.
    pub fn discard_malformed(&mut self) -> Option<HeaderError> {
        match self.response().err()? {
            ReceiveError::Malformed(error) => {
                self.responses.skip(1);
                Some(error)
            }
            _ => None,
        }
    }
}

/// Room for a request's payload lent by [`Client::grant`], not yet sent: a slice of bytes.
#[derive(Debug)]
pub struct RequestGrant<'g, 'a> {
    grant: Grant<'g, 'a>,
    outstanding: &'g mut u32,
    seq_id: u64,
    func_id: u32,
}

impl RequestGrant<'_, '_> {
    /// Sends the first `used` bytes as the payload; more than were lent counts as all.
    #[inline]
    pub fn commit(mut self, used: usize) {
        let used = used.min(self.len());
        // A ring has less than 4 GiB.
        let header = MsgHeader::new(self.seq_id, self.func_id, used as u32);
        if let Some(head) = self.grant.first_chunk_mut() {
            *head = header.to_bytes();
        }
        // Counted first: if it dies in between nobody else has the count.
        *self.outstanding += 1;
        self.grant.commit(MsgHeader::SIZE + used);
    }
}

impl Deref for RequestGrant<'_, '_> {
    type Target = [u8];
    #[inline(always)]
    fn deref(&self) -> &[u8] {
        self.grant.get(MsgHeader::SIZE..).unwrap_or(&[])
    }
}

impl DerefMut for RequestGrant<'_, '_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        self.grant.get_mut(MsgHeader::SIZE..).unwrap_or(&mut [])
    }
}

/// A reply lent by [`Client::response`], still in the ring: a slice of its payload.
#[derive(Debug)]
pub struct Response<'f, 'a> {
    frame: Frame<'f, 'a>,
    header: MsgHeader,
    status: MsgStatus,
    outstanding: &'f mut u32,
}

impl Response<'_, '_> {
    /// The header: the request's sequence id and function, the length of this payload.
    pub fn header(&self) -> MsgHeader {
        self.header
    }

    /// `Processing` for a progress report; `Completed` or `Failed` for the last reply of a call.
    pub fn status(&self) -> MsgStatus {
        self.status
    }

    /// Leaves the reply behind; after a final one there is room for another call.
    #[inline]
    pub fn release(self) {
        if self.status.is_final() {
            *self.outstanding = self.outstanding.saturating_sub(1);
        }
        self.frame.release();
    }
}

impl Deref for Response<'_, '_> {
    type Target = [u8];
    #[inline(always)]
    fn deref(&self) -> &[u8] {
        self.frame.get(REPLY_HEADER..).unwrap_or(&[])
    }
}
