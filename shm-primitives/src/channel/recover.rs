//! Taking over from a dead worker: what was it doing in this lane?

use super::layout::WorkerChannel;
use super::reply::ReplyHeader;
use super::worker::{Worker, header_of};
use super::{Lane, ReceiveError, ReplyError};
use crate::identity::{Dead, OwnerId};
use crate::message::MsgHeader;
use crate::monitor::{MonitorWriter, Snapshot};
use crate::part::{ClaimError, Corrupt};
use crate::ring::frame::{Frame, Writer};
use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::Deref;

/// What a dead worker left in a lane, with the worker's end of it.
#[derive(Debug)]
#[must_use = "dropping a poison message keeps the lane out of service"]
pub enum Recovered<'a, 'm> {
    /// It had nothing of this lane in hand. What is queued was never begun.
    Nothing(Worker<'a>),
    /// It died between a call's final reply and its end. The request was left behind now and is
    /// not run again; the client has its reply.
    Answered(MsgHeader, Worker<'a>),
    /// It died with this request begun and not answered.
    Poison(Poison<'a, 'm>),
}

impl<'a> WorkerChannel<'a> {
    /// Takes the worker's two ends from one proven dead, or one from the dead and the other from
    /// nobody, and says what it had in hand.
    ///
    /// `lane` is what the dead one served, under the same epoch; `monitor` is the one it wrote,
    /// or the one it would have written if it died while it recovered the lane itself. The
    /// monitor is reset only after *all* lanes that its worker served were recovered; while a
    /// [`Poison`] is unresolved it is borrowed and cannot be.
    ///
    /// # Errors
    ///
    /// As [`recover_client`](Self::recover_client).
    pub fn recover_worker<'m>(
        &self,
        dead: Dead<OwnerId>,
        owner: OwnerId,
        lane: Lane,
        monitor: &'m mut MonitorWriter<'_>,
    ) -> Result<Recovered<'a, 'm>, ClaimError> {
        let mut worker = self.recover_worker_ends(dead, owner, lane)?;
        // The handle may have been made while the dead one still wrote.
        monitor.refresh();
        let Snapshot::Processing(noted) = monitor.snapshot() else {
            return Ok(Recovered::Nothing(worker));
        };
        if noted.lane != lane.lane {
            return Ok(Recovered::Nothing(worker));
        }
        let header = match worker.peek() {
            Ok(request) if request.header().seq_id() == noted.seq_id => request.header(),
            // Left behind already, or never begun: no worker begins what is malformed.
            Ok(_)
            | Err(ReceiveError::Empty | ReceiveError::Malformed(_) | ReceiveError::InHand) => {
                return Ok(Recovered::Nothing(worker));
            }
            Err(ReceiveError::Corrupt) => {
                let unknown = Corrupt { what: "request ring", found: 0, limit: 0 };
                return Err(ClaimError::Corrupt(worker.corruption().unwrap_or(unknown)));
            }
        };
        let mut walked = if noted.lane_epoch == lane.epoch {
            is_answered(&mut worker.responses, noted.reply_position, noted.seq_id)
        } else {
            // No two requests have one sequence id: the epoch given here is not the one that the
            // dead one served the lane under.
            Err(Corrupt {
                what: "lane epoch noted with this request",
                found: noted.lane_epoch,
                limit: lane.epoch,
            })
        };
        if walked.is_err() {
            // Which replies came since is not known; but here are those that the client has not
            // left behind.
            let unread = worker.responses.consumed().ok();
            let found = unread.map(|from| is_answered(&mut worker.responses, from, noted.seq_id));
            if found == Some(Ok(true)) {
                walked = Ok(true);
            }
        }
        match walked {
            Ok(true) => {
                worker.requests.skip(1);
                Ok(Recovered::Answered(header, worker))
            }
            Ok(false) => Ok(Recovered::Poison(Poison::new(worker, header, None))),
            Err(doubt) => Ok(Recovered::Poison(Poison::new(worker, header, Some(doubt)))),
        }
    }
}

/// Whether a call's final reply is among those from this position on.
fn is_answered(responses: &mut Writer<'_>, from: u32, seq_id: u64) -> Result<bool, Corrupt> {
    let mut answered = false;
    responses.published_since(from, |head, size| {
        answered |= head.is_some_and(|head| {
            ReplyHeader::check(head, size)
                .is_ok_and(|(reply, status)| status.is_final() && reply.seq_id() == seq_id)
        });
    })?;
    Ok(answered)
}

/// A request whose worker died with it in hand: to be told of and put aside, never to be run
/// again.
///
/// In this order: keep a dead letter, tell the caller ([`fail`](Self::fail)), then
/// [`skip`](Self::skip), then reset the monitor. A death in between leaves it to the next
/// recoverer, who finds the same poison until the caller was told; so a dead letter may be kept
/// twice, and the caller is told once.
///
/// Dropped without `skip`, it is as if this process had died here: the lane's ends stay this
/// owner's, out of service, until that owner is proven dead.
#[must_use = "dropping a poison message keeps the lane out of service"]
pub struct Poison<'a, 'm> {
    worker: ManuallyDrop<Worker<'a>>,
    header: MsgHeader,
    doubt: Option<Corrupt>,
    answered: bool,
    /// Keeps the monitor from being reset.
    monitor: PhantomData<&'m mut ()>,
}

impl<'a> Poison<'a, '_> {
    fn new(worker: Worker<'a>, header: MsgHeader, doubt: Option<Corrupt>) -> Self {
        Self { worker: ManuallyDrop::new(worker), header, doubt, answered: false, monitor: PhantomData }
    }

    /// The header of the request.
    pub fn header(&self) -> MsgHeader {
        self.header
    }

    /// The request in place, to be copied to a dead letter.
    ///
    /// # Errors
    ///
    /// The ring was overwritten since it was recovered.
    pub fn request(&mut self) -> Result<Letter<'_, 'a>, ReceiveError> {
        let frame = super::received(self.worker.requests.read())?;
        header_of(&frame).map_err(ReceiveError::Malformed)?;
        Ok(Letter(frame))
    }

    /// What is impossible about what the monitor noted: another epoch with this request's
    /// sequence id, a reply position that cannot be, or replies from there that are none. No reply
    /// that the client has not left behind answers it; but it may have read one before. Because what
    /// was begun is never run twice it counts as poison.
    pub fn doubt(&self) -> Option<Corrupt> {
        self.doubt
    }

    /// Tells the caller through its response ring: a final reply, `Failed`, with this payload. Its
    /// room is kept, as for any reply. From then on recovery says that the call was
    /// [answered](Recovered::Answered).
    ///
    /// Where there is [doubt](Self::doubt) the client may get a second final reply of one call, of
    /// which the first holds, and has counted on room for one less until it has none outstanding.
    ///
    /// # Errors
    ///
    /// `Answered` if it was called before; `TooLarge`, `Full`, `Corrupt` as for any reply. Nothing
    /// was written.
    pub fn fail(&mut self, payload: &[u8]) -> Result<(), ReplyError> {
        self.worker.fail(self.header, payload, &mut self.answered)
    }

    /// Leaves the request behind; the worker's end, to serve the lane or to give it back.
    pub fn skip(self) -> Worker<'a> {
        let mut worker = ManuallyDrop::into_inner(self.worker);
        worker.requests.skip(1);
        worker
    }
}

impl fmt::Debug for Poison<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poison")
            .field("header", &self.header)
            .field("doubt", &self.doubt)
            .finish_non_exhaustive()
    }
}

/// A poison message in place, lent by [`Poison::request`]: a slice of its payload.
#[derive(Debug)]
pub struct Letter<'p, 'a>(Frame<'p, 'a>);

impl Letter<'_, '_> {
    /// A copy of it, as [`Work::copy_payload`](super::Work::copy_payload) makes one.
    pub fn copy_payload(&self, buffer: &mut [u8]) -> usize {
        self.0.copy_to(MsgHeader::SIZE, buffer)
    }

    /// Bytes of it.
    pub fn size(&self) -> usize {
        self.0.size().saturating_sub(MsgHeader::SIZE)
    }
}

impl Deref for Letter<'_, '_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.0.get(MsgHeader::SIZE..).unwrap_or(&[])
    }
}
