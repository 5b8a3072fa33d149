//! The worker's end: a request at a time, its replies, and what the monitor is told.

use super::layout::WorkerChannel;
use super::reply::{REPLY_HEADER, ReplyHeader};
use super::{BEGUN, Lane, Limits, ReceiveError, received};
use crate::message::{HeaderError, MsgHeader, MsgStatus};
use crate::monitor::{InvalidTransaction, MonitorWriter, Transaction};
use crate::part::Corrupt;
use crate::ring::frame::{Frame, Grant, Reader, WriteError, Writer};
use crate::sync::{crash, fence};
use core::fmt;
use core::ops::{Deref, DerefMut};

/// The worker's end of a channel: one thread at a time. A worker has one for each lane that it
/// serves, and one monitor for all of them.
///
/// No operation blocks, spins, allocates, makes a system call, or uses a read-modify-write.
#[derive(Debug)]
pub struct Worker<'a> {
    // In the order they are given back: the one claimed last first.
    pub(super) responses: Writer<'a>,
    pub(super) requests: Reader<'a>,
    limits: Limits,
    pub(super) lane: Lane,
    /// The position behind the last progress reply on the request that is next.
    progress: Option<u32>,
    /// A request was begun, and neither answered and finished nor given back.
    in_hand: bool,
}

/// Why no reply was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ReplyError {
    /// The call has its final reply.
    Answered,
    /// The status is none of a final reply.
    NotFinal(MsgStatus),
    /// The payload is larger than the limit for such replies.
    TooLarge {
        /// Bytes of payload.
        length: usize,
        /// Bytes allowed.
        maximum: usize,
    },
    /// There is no room, because the client sends more requests than it has kept room for. With a client that keeps to the protocol it does
    /// not happen.
    Full,
    /// The client's position is impossible; see [`Worker::corruption`].
    Corrupt,
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered => f.write_str("the call has its final reply"),
            Self::NotFinal(status) => write!(f, "{status:?} is the status of no final reply"),
            Self::TooLarge { length, maximum } => {
                write!(f, "a reply of {length} bytes; the largest here is {maximum}")
            }
            Self::Full => f.write_str(
                "the response ring is full: the client did not keep room for this reply",
            ),
            Self::Corrupt => f.write_str("the response ring is corrupt"),
        }
    }
}

impl core::error::Error for ReplyError {}

/// A call was finished without a final reply; its request stays in the ring, in hand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unanswered;

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a call cannot be finished without a final reply")
    }
}

impl core::error::Error for Unanswered {}

impl<'a> Worker<'a> {
    pub(super) fn new(
        channel: WorkerChannel<'a>,
        requests: Reader<'a>,
        responses: Writer<'a>,
        lane: Lane,
    ) -> Self {
        // Somebody before may have reported on the first request already.
        let progress = Some(responses.position());
        Self { requests, responses, limits: channel.limits, lane, progress, in_hand: false }
    }

    /// The lane it serves.
    pub fn lane(&self) -> Lane {
        self.lane
    }

    /// Requests there are to serve, the one in hand among them: a lower bound, for the client
    /// goes on sending. Looks at a word of each.
    #[doc(alias = "AvailableRequests")]
    pub fn available_requests(&mut self) -> usize {
        self.requests.available()
    }

    /// Whether there is no request. Once it says no, there stays one until it is finished; a yes
    /// may be out of date at once.
    #[doc(alias = "RequestEmpty")]
    pub fn is_request_empty(&mut self) -> bool {
        self.requests.is_empty()
    }

    /// What was found wrong with one of the rings, once it was.
    pub fn corruption(&self) -> Option<Corrupt> {
        self.requests.corruption().or(self.responses.corruption())
    }

    /// The next request, in place. Looking at it changes nothing: dropping it keeps it, and so
    /// does a death.
    ///
    /// # Errors
    ///
    /// There is none, or what is there is no request: see [`ReceiveError`].
    #[inline]
    pub fn peek(&mut self) -> Result<Request<'_, 'a>, ReceiveError> {
        if self.in_hand {
            return Err(ReceiveError::InHand);
        }
        let frame = received(self.requests.read())?;
        let header = header_of(&frame).map_err(ReceiveError::Malformed)?;
        let replies = Replies {
            responses: &mut self.responses,
            progress: &mut self.progress,
            in_hand: &mut self.in_hand,
            limits: self.limits,
            header,
            answered: false,
        };
        Ok(Request { frame, replies, lane: self.lane })
    }

    /// Leaves the next frame of the request ring behind if it is no request, which only a client
    /// that does not keep to the protocol sends; what was wrong with it. No request is ever left
    /// behind by this.
    pub fn discard_malformed(&mut self) -> Option<HeaderError> {
        match self.peek().err()? {
            ReceiveError::Malformed(error) => {
                self.requests.skip(1);
                Some(error)
            }
            _ => None,
        }
    }
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        if self.in_hand {
            // Whoever takes over has to prove that this owner is dead, and finds the poison.
            self.requests.keep();
            self.responses.keep();
        }
    }
}

/// A request lent by [`Worker::peek`], not begun: a slice of its payload.
#[derive(Debug)]
pub struct Request<'w, 'a> {
    frame: Frame<'w, 'a>,
    replies: Replies<'w, 'a>,
    lane: Lane,
}

impl<'w, 'a> Request<'w, 'a> {
    /// The header: sequence id, function, length of the payload.
    pub fn header(&self) -> MsgHeader {
        self.replies.header
    }

    /// Takes the request in hand: notes in the worker's monitor what is begun, `start` (in
    /// nanoseconds, by the supervisor's clock) among it. From here on a death makes the request
    /// a poison message, until it has its final reply. Run the handler after this and not before.
    ///
    /// # Errors
    ///
    /// The lane's worker number is out of range; the request stays.
    #[inline]
    pub fn begin<'m>(
        self,
        monitor: &'w mut MonitorWriter<'m>,
        start: u64,
    ) -> Result<Work<'w, 'a, 'm>, InvalidTransaction> {
        let Lane { group, worker, lane, epoch } = self.lane;
        let transaction = Transaction {
            seq_id: self.replies.header.seq_id(),
            group,
            worker,
            lane,
            lane_epoch: epoch,
            reply_position: self.replies.responses.position(),
            start,
        };
        monitor.begin(&transaction)?;
        fence(BEGUN);
        let Self { frame, replies, .. } = self;
        *replies.in_hand = true;
        let reply = Replier { replies, monitor, transaction };
        Ok(Work { request: Some(frame), reply })
    }
}

impl Deref for Request<'_, '_> {
    type Target = [u8];
    #[inline(always)]
    fn deref(&self) -> &[u8] {
        self.frame.get(MsgHeader::SIZE..).unwrap_or(&[])
    }
}

/// What writes the replies to one request.
#[derive(Debug)]
struct Replies<'w, 'a> {
    responses: &'w mut Writer<'a>,
    progress: &'w mut Option<u32>,
    in_hand: &'w mut bool,
    limits: Limits,
    header: MsgHeader,
    answered: bool,
}

/// A request in hand.
///
/// Reply, then [`finish`](Self::finish); dropping it with its final reply written finishes it
/// too. What has had no effect yet may be [given back](Self::give_back), to be begun again.
///
/// Dropped unanswered, as by a handler that panics, it is as if the worker had died here: the
/// monitor goes on saying that the request is in hand, the [`Worker`] serves nothing more
/// ([`InHand`](ReceiveError::InHand)) and keeps its ends when it is dropped, and recovery finds
/// the request to be poison. A handler whose panics are to be survived is run under
/// `catch_unwind` inside, and answered with `Failed`.
#[derive(Debug)]
pub struct Work<'w, 'a, 'm> {
    /// Some until it is dropped.
    request: Option<Frame<'w, 'a>>,
    reply: Replier<'w, 'a, 'm>,
}

impl<'w, 'a, 'm> Work<'w, 'a, 'm> {
    /// The request's header.
    pub fn header(&self) -> MsgHeader {
        self.reply.replies.header
    }

    /// The request's payload, in place.
    pub fn payload(&self) -> &[u8] {
        payload(&self.request)
    }

    /// Copies the payload to the start of `buffer`, as much as fits; how much. The way to look at
    /// what a client sent that may not keep to the protocol: see
    /// [Trust](crate::channel#trust).
    #[inline]
    pub fn copy_payload(&self, buffer: &mut [u8]) -> usize {
        self.request.as_ref().map_or(0, |frame| frame.copy_to(MsgHeader::SIZE, buffer))
    }

    /// What replies to it.
    pub fn replier(&mut self) -> &mut Replier<'w, 'a, 'm> {
        &mut self.reply
    }

    /// The payload, and what replies to it, to have both at once.
    pub fn split(&mut self) -> (&[u8], &mut Replier<'w, 'a, 'm>) {
        (payload(&self.request), &mut self.reply)
    }

    /// As [`Replier::progress`].
    ///
    /// # Errors
    ///
    /// See there.
    pub fn reply_progress(&mut self, payload: &[u8]) -> Result<bool, ReplyError> {
        self.reply.progress(payload)
    }

    /// As [`Replier::reply`].
    ///
    /// # Errors
    ///
    /// See there.
    #[inline]
    pub fn reply(&mut self, status: MsgStatus, payload: &[u8]) -> Result<(), ReplyError> {
        self.reply.reply(status, payload)
    }

    /// As [`Replier::grant`].
    ///
    /// # Errors
    ///
    /// See there.
    #[inline]
    pub fn grant(&mut self, length: usize) -> Result<ReplyGrant<'_, 'a>, ReplyError> {
        self.reply.grant(length)
    }

    /// Puts the request back as if it had not been begun, and tells the monitor that nothing is
    /// in hand. For what has had no effect, for it will be begun again; nothing happens if it
    /// was answered, but what [`finish`](Self::finish) does.
    pub fn give_back(mut self) {
        if !self.reply.replies.answered {
            self.request = None;
            self.reply.monitor.end();
            *self.reply.replies.in_hand = false;
        }
    }

    /// Leaves the request behind, then tells the monitor that nothing is in hand.
    ///
    /// # Errors
    ///
    /// It has no final reply, and it is as if it had been dropped: the request stays in hand, and
    /// the lane is out of service.
    #[inline]
    pub fn finish(self) -> Result<(), Unanswered> {
        if self.reply.replies.answered { Ok(()) } else { Err(Unanswered) }
    }
}

/// A request's header: copied once, then checked.
#[inline]
pub(super) fn header_of(frame: &Frame<'_, '_>) -> Result<MsgHeader, HeaderError> {
    let wanted = MsgHeader::SIZE;
    let Some(bytes) = frame.head() else {
        return Err(HeaderError::TooShort { found: frame.size(), wanted });
    };
    let header = MsgHeader::from_bytes(bytes);
    if !header.is_valid() {
        return Err(HeaderError::InvalidSeqId);
    }
    if header.total_size() != frame.size() as u64 {
        let (found, wanted) = (header.payload_len(), frame.size() - wanted);
        return Err(HeaderError::WrongLength { found, wanted });
    }
    Ok(header)
}

fn payload<'s>(request: &'s Option<Frame<'_, '_>>) -> &'s [u8] {
    request.as_deref().and_then(|frame| frame.get(MsgHeader::SIZE..)).unwrap_or(&[])
}

impl Drop for Work<'_, '_, '_> {
    #[inline]
    fn drop(&mut self) {
        if crash::dead() {
            return;
        }
        if self.reply.replies.answered
            && let Some(request) = self.request.take()
        {
            request.release();
            *self.reply.replies.progress = None;
            self.reply.monitor.end();
            *self.reply.replies.in_hand = false;
        }
    }
}

/// What replies to the request in hand.
#[derive(Debug)]
pub struct Replier<'w, 'a, 'm> {
    replies: Replies<'w, 'a>,
    monitor: &'w mut MonitorWriter<'m>,
    /// As the monitor has it.
    transaction: Transaction,
}

impl<'a> Replier<'_, 'a, '_> {
    /// Whether the final reply was written.
    pub fn is_answered(&self) -> bool {
        self.replies.answered
    }

    /// Reports progress: status `Processing`. Says `false`, and nothing is written, while the
    /// client has not released the last report on this call: it has no room for two.
    ///
    /// The monitor's record changes each time, whether or not the report was written: its start is
    /// a nanosecond later. So a client that does not read is not what makes its worker seem to hang.
    ///
    /// # Errors
    ///
    /// Nothing was written: see [`ReplyError`].
    pub fn progress(&mut self, payload: &[u8]) -> Result<bool, ReplyError> {
        if self.replies.answered {
            return Err(ReplyError::Answered);
        }
        // Whether or not there is room for the report: who looks for workers that hang sees by the
        // start, which is another, that this one does not. A recoverer does not ask for it.
        self.transaction.start = self.transaction.start.wrapping_add(1);
        self.transaction.reply_position = self.replies.responses.position();
        // The fields are those of a transaction that was begun.
        let _ = self.monitor.begin(&self.transaction);
        if let Some(end) = *self.replies.progress {
            let consumed = self.replies.responses.consumed().map_err(refused)?;
            // Nothing but progress on this request was written since: the two are at most a
            // capacity apart.
            if end.wrapping_sub(consumed).cast_signed() > 0 {
                return Ok(false);
            }
        }
        let mut grant = self.room(payload.len(), self.replies.limits.progress)?;
        grant.copy_from(payload);
        grant.publish(MsgStatus::Processing, payload.len());
        *self.replies.progress = Some(self.replies.responses.position());
        Ok(true)
    }

    /// Gives the final reply, `Completed` or `Failed`, once: copies `payload`.
    ///
    /// # Errors
    ///
    /// Nothing was written: see [`ReplyError`].
    #[inline]
    pub fn reply(&mut self, status: MsgStatus, payload: &[u8]) -> Result<(), ReplyError> {
        let mut grant = self.grant(payload.len())?;
        grant.copy_from(payload);
        grant.commit(status, payload.len())
    }

    /// Lends room for a final reply with up to `length` bytes of payload, to be written in place
    /// and given with [`commit`](ReplyGrant::commit). Dropping it gives none.
    ///
    /// # Errors
    ///
    /// See [`ReplyError`].
    #[inline]
    pub fn grant(&mut self, length: usize) -> Result<ReplyGrant<'_, 'a>, ReplyError> {
        self.room(length, self.replies.limits.reply)
    }

    #[inline]
    fn room(&mut self, length: usize, limit: u32) -> Result<ReplyGrant<'_, 'a>, ReplyError> {
        let replies = &mut self.replies;
        check_reply(replies.answered, length, limit)?;
        let position = replies.responses.position();
        if self.transaction.reply_position != position {
            // There were progress replies. A recoverer walks from the position noted, and finds
            // what is whole only if no more than one reply lies behind it.
            self.transaction.reply_position = position;
            // The fields are those of a transaction that was begun.
            let _ = self.monitor.begin(&self.transaction);
        }
        ReplyGrant::of(replies.responses, length, &mut replies.answered, replies.header)
    }
}

/// Whether a reply of `length` bytes may be written now.
fn check_reply(answered: bool, length: usize, limit: u32) -> Result<(), ReplyError> {
    if answered {
        return Err(ReplyError::Answered);
    }
    let maximum = limit as usize;
    if length > maximum {
        return Err(ReplyError::TooLarge { length, maximum });
    }
    Ok(())
}

impl Worker<'_> {
    /// Gives the final reply to a request that killed the worker before this one: `Failed`.
    pub(super) fn fail(
        &mut self,
        header: MsgHeader,
        payload: &[u8],
        answered: &mut bool,
    ) -> Result<(), ReplyError> {
        check_reply(*answered, payload.len(), self.limits.reply)?;
        let mut grant = ReplyGrant::of(&mut self.responses, payload.len(), answered, header)?;
        grant.copy_from(payload);
        grant.commit(MsgStatus::Failed, payload.len())
    }
}

fn refused(error: WriteError) -> ReplyError {
    match error {
        WriteError::Full => ReplyError::Full,
        WriteError::Corrupt => ReplyError::Corrupt,
        WriteError::TooLarge { length, maximum } => ReplyError::TooLarge {
            length: length.saturating_sub(REPLY_HEADER),
            maximum: maximum.saturating_sub(REPLY_HEADER),
        },
    }
}

/// Room for a final reply's payload lent by [`Replier::grant`], not yet given: a slice of bytes.
#[derive(Debug)]
pub struct ReplyGrant<'g, 'a> {
    grant: Grant<'g, 'a>,
    answered: &'g mut bool,
    header: MsgHeader,
}

impl<'g, 'a> ReplyGrant<'g, 'a> {
    #[inline]
    fn of(
        responses: &'g mut Writer<'a>,
        length: usize,
        answered: &'g mut bool,
        header: MsgHeader,
    ) -> Result<Self, ReplyError> {
        let grant = responses.grant(REPLY_HEADER + length).map_err(refused)?;
        Ok(Self { grant, answered, header })
    }

    /// Copies `payload` to the start of the room, as much as fits; how much. The way to write where
    /// a client may write as well: see [Trust](crate::channel#trust).
    #[inline]
    pub fn copy_from(&mut self, payload: &[u8]) -> usize {
        self.grant.copy_from(REPLY_HEADER, payload)
    }

    /// Bytes of payload that there is room for.
    #[inline]
    pub fn size(&self) -> usize {
        self.grant.size() - REPLY_HEADER
    }

    /// Gives the first `used` bytes as the final reply, `Completed` or `Failed`; more than were
    /// lent counts as all.
    ///
    /// # Errors
    ///
    /// `NotFinal`: the status is another; nothing was given.
    #[inline]
    pub fn commit(self, status: MsgStatus, used: usize) -> Result<(), ReplyError> {
        if !status.is_final() {
            return Err(ReplyError::NotFinal(status));
        }
        self.publish(status, used);
        Ok(())
    }

    #[inline]
    fn publish(mut self, status: MsgStatus, used: usize) {
        let used = used.min(self.size());
        // A ring has less than 4 GiB.
        let header = MsgHeader::new(self.header.seq_id(), self.header.func_id(), used as u32);
        self.grant.put_head(ReplyHeader::new(header, status).to_bytes());
        self.grant.commit(REPLY_HEADER + used);
        *self.answered = status.is_final();
    }
}

impl Deref for ReplyGrant<'_, '_> {
    type Target = [u8];
    #[inline(always)]
    fn deref(&self) -> &[u8] {
        self.grant.get(REPLY_HEADER..).unwrap_or(&[])
    }
}

impl DerefMut for ReplyGrant<'_, '_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        self.grant.get_mut(REPLY_HEADER..).unwrap_or(&mut [])
    }
}
