//! The channel's memory: sizes, creation, attaching, and taking its ends.

use super::reply::{REPLY_HEADER, footprint};
use super::{Client, Lane, Worker};
#[cfg(not(all(loom, any(test, feature = "loom"))))]
use crate::message::MsgHeader;
use crate::identity::{Dead, OwnerId};
use crate::part::{AttachError, ClaimError, End, LINE, PartHeader, check_region};
use crate::region::Region;
use crate::ring::frame::{self, FrameRingRef, Packing, Reader, Writer};
use core::fmt;

/// How large replies may be: what a client keeps room for, for every call that it has not
/// had the final reply to.
///
/// They are chosen when the channel is created, and stand in its memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of payload that a final reply has at the most.
    pub reply: u32,
    /// Bytes of payload that a progress reply has at the most.
    pub progress: u32,
}

impl Limits {
    /// As they stand in the response ring's header.
    const fn to_words(self) -> [u32; 2] {
        [self.reply, self.progress]
    }

    const fn from_words([reply, progress]: [u32; 2]) -> Self {
        Self { reply, progress }
    }

    /// Bytes in the ring that the replies to one call may take: a final one and a progress one.
    const fn a_call(self, packing: Packing) -> u64 {
        footprint(self.reply) + footprint(self.progress) + 2 * packing.most_waste() as u64
    }

    /// Bytes that are not left for replies: the padding where the larger kind does not fit
    /// before the end of the data, and the word after the last frame.
    const fn overhead(self) -> u64 {
        let largest = if self.reply > self.progress { self.reply } else { self.progress };
        // Padding is a multiple of 8 and shorter than the frame it makes room for; the word is 8
        // bytes.
        footprint(largest)
    }

    /// How many calls a response ring has room for. See the proof in the
    /// [module](crate::channel#why-a-worker-never-waits-for-a-client).
    pub(super) const fn calls(self, capacity: u32, packing: Packing) -> u32 {
        let left = (capacity as u64).saturating_sub(self.overhead());
        (left / self.a_call(packing)) as u32
    }

    /// Bytes that a response ring for a single call needs.
    const fn least(self, packing: Packing) -> u64 {
        self.a_call(packing) + self.overhead()
    }
}

/// What a new channel is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// The request ring.
    pub requests: frame::Options,
    /// The response ring.
    pub responses: frame::Options,
    /// How large replies may be.
    pub limits: Limits,
}

impl Options {
    /// A channel of two rings whose replies have at most a sixteenth of the response ring each,
    /// which is room for up to seven calls at a time; see [`max_calls`](Self::max_calls).
    pub const fn new(requests: frame::Options, responses: frame::Options) -> Self {
        let sixteenth = (responses.capacity / 16).saturating_sub(8 + REPLY_HEADER as u32);
        Self { requests, responses, limits: Limits { reply: sixteenth, progress: sixteenth } }
    }

    /// The same with other limits.
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Where the response ring begins; `None` if it does not fit the address space.
    pub(crate) const fn responses_at(&self) -> Option<usize> {
        match self.requests.required_size() {
            Some(size) => size.checked_next_multiple_of(LINE),
            None => None,
        }
    }

    /// Bytes the channel takes; `None` if it does not fit the address space.
    pub const fn required_size(&self) -> Option<usize> {
        let (Some(at), Some(size)) = (self.responses_at(), self.responses.required_size()) else {
            return None;
        };
        match at.checked_add(size) {
            Some(size) if size <= isize::MAX as usize => Some(size),
            _ => None,
        }
    }

    /// How many calls a client may have outstanding at a time: the response ring has room for
    /// all their replies. 0 if the limits are too large for it.
    pub const fn max_calls(&self) -> u32 {
        if !self.responses.is_aligned() {
            return 0;
        }
        self.limits.calls(self.responses.capacity, self.responses.packing)
    }
}

/// One lane between a client and a worker, in memory that both see: what its ends are claimed
/// from. See the [module](crate::channel).
#[doc(alias = "request_queue")]
#[doc(alias = "response_queue")]
#[derive(Clone, Copy)]
pub struct WorkerChannel<'a> {
    pub(super) requests: FrameRingRef<'a>,
    pub(super) responses: FrameRingRef<'a>,
    pub(super) limits: Limits,
}

/// Checks that the limits leave room for one call at least.
fn check_limits(limits: Limits, capacity: u32, packing: Packing) -> Result<(), AttachError> {
    if limits.calls(capacity, packing) == 0 {
        let wanted = usize::try_from(limits.least(packing)).unwrap_or(usize::MAX);
        return Err(AttachError::NoRoomForReplies { found: capacity as usize, wanted });
    }
    Ok(())
}

impl<'a> WorkerChannel<'a> {
    /// Creates an empty channel at the start of `region`. Nobody can attach to it before all of
    /// it stands.
    ///
    /// # Errors
    ///
    /// What [`FrameRingRef::init_at`] says of one of the two rings; `NoRoomForReplies` if the
    /// limits are too large for the response ring. Nothing is written then.
    ///
    /// # Safety
    ///
    /// As [`FrameRingRef::init_at`], for both rings.
    pub unsafe fn init_at(region: Region<'a>, options: Options) -> Result<Self, AttachError> {
        let Options { requests, responses, limits } = options;
        requests.check()?;
        responses.check()?;
        check_limits(limits, responses.capacity, responses.packing)?;
        check_region(&region, options.required_size().unwrap_or(usize::MAX), LINE)?;
        let at = options.responses_at().unwrap_or(usize::MAX);
        let second = rest(&region, at)?;
        // The request ring's magic is the channel's: it goes first and comes last.
        // SAFETY: large enough and aligned (just checked), ours by contract, and under loom
        // made by zero_at.
        unsafe { PartHeader::clear(&region) };
        // SAFETY: passed on.
        let responses = unsafe { FrameRingRef::init_with(second, responses, limits.to_words())? };
        // SAFETY: passed on.
        let requests = unsafe { FrameRingRef::init_at(region, requests)? };
        Ok(Self { requests, responses, limits })
    }

    /// What mapping fresh memory is in ordinary builds: makes loom's atomics, all zero, where
    /// [`init_at`](Self::init_at) will create a channel with `options`.
    ///
    /// # Safety
    ///
    /// The region is large enough for these options, aligned, and the caller's alone.
    #[cfg(all(loom, any(test, feature = "loom")))]
    pub unsafe fn zero_at(region: &Region<'a>, options: Options) {
        let at = options.responses_at().expect("valid options");
        let second = rest(region, at).expect("large enough");
        // SAFETY: passed on; the second ring lies in the region behind the first.
        unsafe {
            FrameRingRef::zero_at(region, options.requests);
            FrameRingRef::zero_at(&second, options.responses);
        }
    }

    /// Attaches to the channel at the start of `region`; the capacities of the request and the
    /// response ring are checked if given.
    ///
    /// # Errors
    ///
    /// What is there is no channel, or has no room for a single reply: see [`AttachError`].
    /// Nothing is written.
    ///
    /// # Safety
    ///
    /// Every writer of this memory keeps the rings' protocol, as for [`FrameRingRef::attach`]; or
    /// the rings have no checksums, and whoever uses the result refers to nothing in place: see
    /// [Trust](crate::channel#trust).
    pub unsafe fn attach(
        region: Region<'a>,
        capacities: Option<[u32; 2]>,
    ) -> Result<Self, AttachError> {
        let whole = rest(&region, 0)?;
        // SAFETY: passed on.
        let requests = unsafe { FrameRingRef::attach(whole, capacities.map(|both| both[0]))? };
        let at = requests.size().checked_next_multiple_of(LINE).unwrap_or(usize::MAX);
        let second = rest(&region, at)?;
        // SAFETY: passed on.
        let responses = unsafe { FrameRingRef::attach(second, capacities.map(|both| both[1])) };
        // Of the whole region, which is what the caller knows.
        let responses = responses.map_err(|error| match error {
            AttachError::TooSmall { found, wanted } => {
                AttachError::TooSmall { found: at + found, wanted: at.saturating_add(wanted) }
            }
            other => other,
        })?;
        let limits = Limits::from_words(responses.extra());
        check_limits(limits, responses.capacity() as u32, responses.packing())?;
        Ok(Self { requests, responses, limits })
    }

    /// The channel with these options at the start of `region`, without a look at its headers.
    /// `None` if the region is too small.
    ///
    /// # Safety
    ///
    /// As [`attach`](Self::attach); the region is aligned, and somebody has seen that the channel
    /// there [has](Self::has) them.
    #[cfg(not(all(loom, any(test, feature = "loom"))))]
    pub(crate) unsafe fn assume(region: &Region<'a>, options: Options) -> Option<Self> {
        let Options { requests, responses, limits } = options;
        if region.len() < options.required_size()? {
            return None;
        }
        let second = rest(region, options.responses_at()?).ok()?;
        // SAFETY: the contract; both rings lie in the region (just checked).
        let (requests, responses) = unsafe {
            (FrameRingRef::assume(region, requests), FrameRingRef::assume(&second, responses))
        };
        Some(Self { requests, responses, limits })
    }

    /// Whether it is as `options` say, but for where its positions began.
    #[cfg(not(all(loom, any(test, feature = "loom"))))]
    pub(crate) fn has(&self, options: &Options) -> bool {
        let same = |ring: &FrameRingRef<'_>, options: &frame::Options| {
            ring.capacity() == options.capacity as usize
                && ring.packing() == options.packing
                && ring.checksum() == options.checksum
        };
        same(&self.requests, &options.requests)
            && same(&self.responses, &options.responses)
            && self.limits == options.limits
    }

    /// Bytes of the requests that wait or are in hand, for somebody who has neither end: an
    /// estimate, as [`FrameRingRef::queued`] says.
    pub fn queued(&self) -> usize {
        self.requests.queued()
    }

    /// The header of the request that is next, or in hand, for somebody who has neither end.
    /// A hint: believe it of the call that the worker's [monitor](crate::monitor) named before, told
    /// by its sequence id.
    #[cfg(not(all(loom, any(test, feature = "loom"))))]
    pub fn in_hand(&self) -> Option<MsgHeader> {
        let header = MsgHeader::from_bytes(self.requests.glance()?);
        header.is_valid().then_some(header)
    }

    /// Who has the client's two ends: the requests' writer and the responses' reader. Only a
    /// hint unless the owner is the caller.
    ///
    /// # Errors
    ///
    /// `Corrupt`: a word is no owner's.
    pub fn client(&self) -> Result<[Option<OwnerId>; 2], ClaimError> {
        Ok([self.requests.owner(End::Writing)?, self.responses.owner(End::Reading)?])
    }

    /// Who has the worker's two ends: the requests' reader and the responses' writer.
    ///
    /// # Errors
    ///
    /// As [`client`](Self::client).
    pub fn worker(&self) -> Result<[Option<OwnerId>; 2], ClaimError> {
        Ok([self.requests.owner(End::Reading)?, self.responses.owner(End::Writing)?])
    }

    /// How large replies may be.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// How many calls a client may have outstanding at a time.
    pub fn max_calls(&self) -> u32 {
        self.limits.calls(self.responses.capacity() as u32, self.responses.packing())
    }

    /// Takes the client's two ends. Dropping the handle gives them back.
    ///
    /// Replies to calls of a former client may still come; their sequence ids are not yours.
    ///
    /// # Errors
    ///
    /// `Owned` while somebody has one of them, alive or dead; `Corrupt` if positions are
    /// impossible. Neither end is then taken.
    pub fn claim_client(&self, owner: OwnerId) -> Result<Client<'a>, ClaimError> {
        let requests = self.requests.claim_writer(owner)?;
        // An error gives the first back.
        let responses = self.responses.claim_reader(owner)?;
        Ok(Client::new(*self, requests, responses))
    }

    /// Takes the worker's two ends, to serve `lane`. Dropping the handle gives them back.
    ///
    /// # Errors
    ///
    /// As [`claim_client`](Self::claim_client).
    pub fn claim_worker(&self, owner: OwnerId, lane: Lane) -> Result<Worker<'a>, ClaimError> {
        let requests = self.requests.claim_reader(owner)?;
        let responses = self.responses.claim_writer(owner)?;
        Ok(Worker::new(*self, requests, responses, lane))
    }

    /// Takes the client's two ends from one proven dead, or one from the dead and the other from
    /// nobody.
    ///
    /// What it had sent is served, and the replies arrive here.
    ///
    /// # Errors
    ///
    /// `NotTheOwner` if neither is the dead one's, or one is somebody else's, who is named:
    /// prove that one dead and call again with that. Neither end is then taken, but one that was
    /// the dead one's may now be nobody's. `Corrupt` if positions are impossible.
    pub fn recover_client(
        &self,
        dead: Dead<OwnerId>,
        owner: OwnerId,
    ) -> Result<Client<'a>, ClaimError> {
        let (requests, free) = recover_writer(&self.requests, dead, owner)?;
        let (responses, also_free) = recover_reader(&self.responses, dead, owner)?;
        if free && also_free {
            return Err(ClaimError::NotTheOwner { found: None });
        }
        Ok(Client::new(*self, requests, responses))
    }

    /// The worker's two ends, as [`recover_client`](Self::recover_client) takes the client's.
    pub(super) fn recover_worker_ends(
        &self,
        dead: Dead<OwnerId>,
        owner: OwnerId,
        lane: Lane,
    ) -> Result<Worker<'a>, ClaimError> {
        let (requests, free) = recover_reader(&self.requests, dead, owner)?;
        let (responses, also_free) = recover_writer(&self.responses, dead, owner)?;
        if free && also_free {
            return Err(ClaimError::NotTheOwner { found: None });
        }
        Ok(Worker::new(*self, requests, responses, lane))
    }
}

/// All of `region` from `offset` on.
fn rest<'a>(region: &Region<'a>, offset: usize) -> Result<Region<'a>, AttachError> {
    let len = region.len().saturating_sub(offset);
    match region.part(offset, len) {
        Some(part) => Ok(part),
        None => Err(AttachError::TooSmall { found: region.len(), wanted: offset }),
    }
}

/// Takes an end from `dead` or, answering `true`, from nobody: a dead one may have had one of
/// its two only.
fn recover_writer<'a>(
    ring: &FrameRingRef<'a>,
    dead: Dead<OwnerId>,
    owner: OwnerId,
) -> Result<(Writer<'a>, bool), ClaimError> {
    match ring.recover_writer(dead, owner) {
        Ok(writer) => Ok((writer, false)),
        Err(ClaimError::NotTheOwner { found: None }) => Ok((ring.claim_writer(owner)?, true)),
        Err(error) => Err(error),
    }
}

/// As [`recover_writer`].
fn recover_reader<'a>(
    ring: &FrameRingRef<'a>,
    dead: Dead<OwnerId>,
    owner: OwnerId,
) -> Result<(Reader<'a>, bool), ClaimError> {
    match ring.recover_reader(dead, owner) {
        Ok(reader) => Ok((reader, false)),
        Err(ClaimError::NotTheOwner { found: None }) => Ok((ring.claim_reader(owner)?, true)),
        Err(error) => Err(error),
    }
}

impl fmt::Debug for WorkerChannel<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerChannel")
            .field("requests", &self.requests)
            .field("responses", &self.responses)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
