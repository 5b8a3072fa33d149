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
    replies: Replies<'a>,
    requests: Requests<'a>,
}

/// The half of a [`Client`] that sends requests: one thread at a time. See [`Client::split`].
#[derive(Debug)]
pub struct Requests<'a> {
    requests: Writer<'a>,
    /// Calls that there is room for.
    room: u32,
    /// Calls begun, wrapping. Less those whose final replies were released these are the calls that
    /// may still have a reply in the ring or to come: never fewer than there are.
    begun: u32,
}

/// The half of a [`Client`] that receives replies: one thread at a time. See [`Client::split`].
#[derive(Debug)]
pub struct Replies<'a> {
    responses: Reader<'a>,
    /// Final replies released, wrapping.
    finished: u32,
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
        let mut client = Self {
            replies: Replies { responses, finished: 0 },
            requests: Requests { requests, room, begun: room },
        };
        client.settle();
        client
    }

    /// Parts it, so that one thread sends while another receives. What both have to know, the
    /// caller passes on: how many final replies were [released](Replies::finished).
    ///
    /// Dropping a half gives back its end; the lane is free when both are dropped.
    pub fn split(self) -> (Requests<'a>, Replies<'a>) {
        let Self { replies, requests } = self;
        (requests, replies)
    }

    /// Bytes of the largest request's payload.
    pub fn max_request(&self) -> usize {
        self.requests.max_request()
    }

    /// How many calls may be outstanding at a time.
    pub fn max_calls(&self) -> u32 {
        self.requests.max_calls()
    }

    /// Calls sent whose final reply was not released: an upper bound, for a call whose worker
    /// died is counted until [`settle`](Self::settle).
    pub fn outstanding(&self) -> u32 {
        self.requests.outstanding(self.replies.finished)
    }

    /// Replies there are to receive: a lower bound, for the worker goes on working. Looks at a
    /// word of each.
    #[doc(alias = "AvailableResponses")]
    pub fn available_responses(&mut self) -> usize {
        self.replies.available()
    }

    /// Whether there is no reply to receive. Once it says no, there stays one until it is
    /// released; a yes may be out of date at once.
    #[doc(alias = "ResponseEmpty")]
    pub fn is_response_empty(&mut self) -> bool {
        self.replies.is_empty()
    }

    /// What was found wrong with one of the rings, once it was.
    pub fn corruption(&self) -> Option<Corrupt> {
        self.requests.corruption().or(self.replies.corruption())
    }

    /// Counts anew the calls that may still be replied to, if no reply is there to receive:
    /// those whose request the worker has not left behind. A call whose worker died, and whose
    /// request was left behind without a reply, has its room free after this.
    ///
    /// [`request`](Self::request) does it by itself before it says
    /// [`Outstanding`](RequestError::Outstanding).
    pub fn settle(&mut self) {
        self.requests.settle(&mut self.replies);
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
        if self.outstanding() >= self.requests.room {
            self.settle();
        }
        self.requests.grant(seq_id, func_id, length, self.replies.finished)
    }

    /// The next reply, read in place. [`release`](Response::release) leaves it behind; dropping
    /// it keeps it.
    ///
    /// # Errors
    ///
    /// There is none, or what is there is no reply: see [`ReceiveError`].
    #[inline]
    pub fn response(&mut self) -> Result<Response<'_, 'a>, ReceiveError> {
        self.replies.response()
    }

    /// Leaves the next frame of the response ring behind if it is no reply, which only a worker
    /// that does not keep to the protocol writes; what was wrong with it.
    pub fn discard_malformed(&mut self) -> Option<HeaderError> {
        self.replies.discard_malformed()
    }
}

impl<'a> Requests<'a> {
    /// Bytes of the largest request's payload.
    pub fn max_request(&self) -> usize {
        self.requests.max_payload().saturating_sub(MsgHeader::SIZE)
    }

    /// How many calls may be outstanding at a time.
    pub fn max_calls(&self) -> u32 {
        self.room
    }

    /// Calls sent whose final reply is not among the first `finished` released, which is what
    /// [`Replies::finished`] said: an upper bound, as [`Client::outstanding`].
    #[inline]
    pub fn outstanding(&self, finished: u32) -> u32 {
        let outstanding = self.begun.wrapping_sub(finished);
        // Below 0: replies to calls that were never made, of a worker that does not keep to the
        // protocol.
        if outstanding.cast_signed() < 0 { 0 } else { outstanding }
    }

    /// What was found wrong with the request ring, once it was.
    pub fn corruption(&self) -> Option<Corrupt> {
        self.requests.corruption()
    }

    /// As [`Client::settle`]; `replies` is the other half of the same client. With another one's
    /// the count is wrong, and the worker may find no room for a reply.
    pub fn settle(&mut self, replies: &mut Replies<'a>) {
        // In this order. A worker publishes the final reply before it leaves the request behind,
        // and its position is read with Acquire: replies to requests before it are in the ring,
        // or were, and if none is, all were released.
        let Ok(consumed) = self.requests.consumed() else { return };
        if !replies.responses.is_empty() {
            return;
        }
        if let Ok(waiting) = self.requests.frames_since(consumed) {
            // Both are at least what is outstanding. A request that was answered and not left
            // behind, for its worker died, is counted by one of them only.
            let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
            let outstanding = self.outstanding(replies.finished).min(waiting);
            self.begun = replies.finished.wrapping_add(outstanding);
        }
    }

    /// Sends a request, as [`Client::request`]; `finished` as for [`grant`](Self::grant).
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
        finished: u32,
    ) -> Result<(), RequestError> {
        let mut grant = self.grant(seq_id, func_id, payload.len(), finished)?;
        grant.copy_from_slice(payload);
        grant.commit(payload.len());
        Ok(())
    }

    /// Lends room for a request, as [`Client::grant`].
    ///
    /// `finished` is what the other half said by [`Replies::finished`], now or earlier, passed on
    /// in a way that orders (Release and Acquire, or a lock): the worker learns by this request
    /// that those replies were released. With a number from nowhere the worker may find no room
    /// for a reply; nothing worse.
    ///
    /// # Errors
    ///
    /// No room: see [`RequestError`]. [`Outstanding`](RequestError::Outstanding) may be said of
    /// calls whose worker died: [`settle`](Self::settle) counts anew.
    #[inline]
    pub fn grant(
        &mut self,
        seq_id: u64,
        func_id: u32,
        length: usize,
        finished: u32,
    ) -> Result<RequestGrant<'_, 'a>, RequestError> {
        if seq_id == MsgHeader::INVALID_SEQ_ID {
            return Err(RequestError::InvalidSeqId);
        }
        let maximum = self.max_request();
        if length > maximum {
            return Err(RequestError::TooLarge { length, maximum });
        }
        // Whether the replies to one more call have room.
        let calls = self.outstanding(finished);
        if calls >= self.room {
            return Err(RequestError::Outstanding { calls });
        }
        if calls == 0 {
            // What a worker replied to calls that were never made counts once.
            self.begun = finished;
        }
        match self.requests.grant(MsgHeader::SIZE + length) {
            Ok(grant) => Ok(RequestGrant { grant, begun: &mut self.begun, seq_id, func_id }),
            Err(WriteError::Full) => Err(RequestError::Full),
            Err(WriteError::Corrupt) => Err(RequestError::Corrupt),
            Err(WriteError::TooLarge { maximum, .. }) => Err(RequestError::TooLarge {
                length,
                maximum: maximum.saturating_sub(MsgHeader::SIZE),
            }),
        }
    }
}

impl<'a> Replies<'a> {
    /// How many final replies were released, wrapping: what the other half is to be told.
    #[inline]
    pub fn finished(&self) -> u32 {
        self.finished
    }

    /// As [`Client::available_responses`].
    pub fn available(&mut self) -> usize {
        self.responses.available()
    }

    /// As [`Client::is_response_empty`].
    #[inline]
    pub fn is_empty(&mut self) -> bool {
        self.responses.is_empty()
    }

    /// What was found wrong with the response ring, once it was.
    pub fn corruption(&self) -> Option<Corrupt> {
        self.responses.corruption()
    }

    /// The next reply, as [`Client::response`].
    ///
    /// # Errors
    ///
    /// There is none, or what is there is no reply: see [`ReceiveError`].
    #[inline]
    pub fn response(&mut self) -> Result<Response<'_, 'a>, ReceiveError> {
        let frame = received(self.responses.read())?;
        let (header, status) = ReplyHeader::parse(&frame).map_err(ReceiveError::Malformed)?;
        Ok(Response { frame, header, status, finished: &mut self.finished })
    }

    /// As [`Client::discard_malformed`].
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
    begun: &'g mut u32,
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
        *self.begun = self.begun.wrapping_add(1);
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
    finished: &'f mut u32,
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
            *self.finished = self.finished.wrapping_add(1);
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
