//! The sender's end of a lane to one destination.

use super::chunks::PlaceId;
use super::door::{Door, LocalLane};
use super::error::SendError;
use super::frame::{Head, IN_CHUNK, Label};
use super::mapped::{HEADER, Mapped};
use super::peer::Peer;
use super::shared::{PoolGuard, Shared};
use crate::config::Full;
use crate::fork::{Process, this_process};
use crate::liveness::Verdict;
use crate::park::FutexPark;
use crate::segment::{OpenOptions, Segment, SegmentError};
use shm_primitives::counter::CounterWriter;
use shm_primitives::lane::LaneWriter;
use shm_primitives::layout::lrpc::NodeId;
use shm_primitives::layout::node::NodeLayout;
use shm_primitives::pool::{self, Loan};
use shm_primitives::ring::frame::WriteError;
use shm_primitives::segment::{SegmentError as LayoutError, State};
use shm_primitives::wake::{Deadline, Park, Waiter};
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::time::Duration;

/// How long to wait for room in one piece, in nanoseconds: how late the death of a receiver that
/// nobody has told of is noticed.
const SLICE: u64 = 10_000_000;

/// A lane to one destination, and what is counted of it. One thread at a time.
pub(super) struct Outgoing {
    ends: ManuallyDrop<Ends>,
    process: Process,
}

/// Its fields are dropped in their order.
pub(super) struct Ends {
    writer: Option<LaneWriter<'static>>,
    room: Waiter<'static>,
    counters: Counters,
    place: Option<PlaceId>,
    way: Way,
    peer: Arc<Peer>,
    park: FutexPark,
    granted: Granted,
    shared: Arc<Shared>,
}

/// What was lent by the last grant. It stands here, and not in what the caller is given, because
/// that is moved: what was just stored in small pieces would be loaded in large ones, and a core
/// that cannot put those together waits until all stores before them are done, the message's own
/// among them, which wait for the receiver's core.
#[derive(Default)]
struct Granted {
    /// Where the message begins and ends in the room that the lane's writer holds.
    begin: usize,
    end: usize,
}

/// Room in a chunk. Its fields are dropped in their order.
pub(super) struct InPool {
    loan: Loan<'static, 'static>,
    pool: PoolGuard,
    place: PlaceId,
    label: Label,
}

/// What the lane lies in.
#[derive(Clone)]
pub(super) enum Way {
    Remote(Arc<Mapped>),
    Local { door: Arc<Door>, _lane: Arc<LocalLane> },
}

impl Way {
    /// Whether the destination has left, or was given up after its death. One that has died, and
    /// of which nobody has put away anything, seems to be there.
    #[inline]
    pub fn has_left(&self) -> bool {
        match self {
            Self::Remote(mapped) => !mapped.layout.segment().is_ready(),
            Self::Local { door, .. } => door.has_left(),
        }
    }

    /// Of one that has left, whether that was by its death.
    #[cold]
    fn was_given_up(&self) -> bool {
        match self {
            Self::Remote(mapped) => mapped.layout.segment().state() == Ok(State::GivenUp),
            Self::Local { .. } => false,
        }
    }

    /// Whether the destination's name leads to it.
    pub fn has_name(&self) -> bool {
        let own = match self {
            Self::Remote(mapped) => mapped,
            Self::Local { door, .. } => &door.own,
        };
        own.segment.has_name().unwrap_or(false)
    }
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Remote(_) => "Remote",
            Self::Local { .. } => "Local",
        })
    }
}

/// What a sender counts.
pub(super) struct Counters {
    messages: CounterWriter<'static>,
    bytes: CounterWriter<'static>,
    dropped: CounterWriter<'static>,
    line: u32,
}

impl Outgoing {
    /// Connects to `to`.
    pub fn connect(shared: &Arc<Shared>, to: NodeId) -> Result<Self, SendError> {
        let line = shared.statistics.take_line(shared.own())?;
        let connected = Self::reach(shared, to);
        let (writer, way, peer) = match connected {
            Ok(connected) => connected,
            Err(error) => {
                shared.statistics.give_line_back(line);
                return Err(error);
            }
        };
        let [messages, bytes, dropped] = shared.statistics.sender(shared.own(), line);
        let room = writer.room();
        let peer = Arc::new(peer);
        if let Way::Remote(_) = way {
            shared.keep_watch_over(&peer);
        }
        let mut this = Self {
            ends: ManuallyDrop::new(Ends {
                writer: Some(writer),
                room,
                counters: Counters { messages, bytes, dropped, line },
                place: None,
                way,
                peer,
                park: FutexPark::new(),
                granted: Granted::default(),
                shared: Arc::clone(shared),
            }),
            process: this_process(),
        };
        // It takes the lane up before the first message.
        let park = this.ends.park;
        this.ends.writer().announce(&park);
        Ok(this)
    }

    fn reach(
        shared: &Arc<Shared>,
        to: NodeId,
    ) -> Result<(LaneWriter<'static>, Way, Peer), SendError> {
        if let Some(door) = Door::find(&shared.domain, &to) {
            let (lane, writer) = LocalLane::make(&door, &shared.id)
                .map_err(|error| SendError::Lane { to, error })?;
            door.hand_in(Arc::clone(&lane));
            let peer = Peer::new(to, door.own.layout.node(), Some(std::process::id()));
            return Ok((writer, Way::Local { door, _lane: lane }, peer));
        }
        let opened = Mapped::open(
            &shared.domain,
            &to,
            OpenOptions::new(HEADER),
            |segment, error| match error {
                LayoutError::Closing { .. } => SendError::Left { to },
                LayoutError::GivenUp { .. } => SendError::Dead { to, pid: None },
                error => SendError::Layout { path: segment.path().into(), error },
            },
            |segment, layout| enter(shared, &to, segment, layout),
        );
        match opened {
            Ok((mapped, (writer, peer))) => Ok((writer, Way::Remote(Arc::new(mapped)), peer)),
            Err(SendError::Segment(SegmentError::NotFound { .. })) => {
                Err(SendError::Unknown { to })
            }
            Err(error) => Err(error),
        }
    }

    pub fn peer(&self) -> &Arc<Peer> {
        &self.ends.peer
    }

    pub fn way(&self) -> &Way {
        &self.ends.way
    }

    /// Whether the destination is there, for all that is known.
    #[inline]
    pub fn check(&self) -> Result<(), SendError> {
        let ends = &*self.ends;
        // First this: one that has left closed its segment, and one that was killed did not. Whoever
        // took a dead one's name away has said so there, so that nothing is written for it when
        // another has the name.
        if ends.way.has_left() {
            return Err(self.note_left());
        }
        ends.peer.check()
    }

    #[inline]
    fn is_there(&self) -> bool {
        !self.ends.way.has_left() && !self.ends.peer.is_gone()
    }

    #[cold]
    fn note_left(&self) -> SendError {
        let Ends { way, peer, .. } = &*self.ends;
        if way.was_given_up() {
            peer.note_dead();
            return SendError::Dead { to: peer.id, pid: peer.pid };
        }
        peer.note_left();
        SendError::Left { to: peer.id }
    }

    /// Sends, and deals with a lane that is full as `full` says.
    #[inline]
    pub fn send(&mut self, label: Label, payload: &[u8], full: Full) -> Result<(), SendError> {
        if self.send_at_once(label, payload) {
            return Ok(());
        }
        self.send_otherwise(label, payload, full)
    }

    #[cold]
    #[inline(never)]
    fn send_otherwise(
        &mut self,
        label: Label,
        payload: &[u8],
        full: Full,
    ) -> Result<(), SendError> {
        match self.try_send(label, payload) {
            Err(SendError::Full { .. }) => {}
            other => return other,
        }
        self.send_when_full(label, payload, full)
    }

    fn send_when_full(
        &mut self,
        label: Label,
        payload: &[u8],
        full: Full,
    ) -> Result<(), SendError> {
        let to = self.ends.peer.id;
        match full {
            Full::Error => Err(SendError::Full { to }),
            Full::Drop => {
                self.ends.counters.dropped.add(1);
                Ok(())
            }
            Full::Block(time) => {
                let deadline = Deadline::after(&self.ends.park, time);
                self.send_until(label, payload, deadline, time)
            }
        }
    }

    /// Sends until there is room, or `deadline`, which is `time` after the call.
    pub fn send_until(
        &mut self,
        label: Label,
        payload: &[u8],
        deadline: Deadline,
        time: Duration,
    ) -> Result<(), SendError> {
        loop {
            match self.try_send(label, payload) {
                Err(SendError::Full { .. }) => {}
                other => return other,
            }
            self.wait_for_room(label, payload.len(), deadline, time)?;
        }
    }

    /// Waits for room for a message of that length, for a short time. An error if the destination is
    /// gone, this node left, or the deadline passed.
    fn wait_for_room(
        &mut self,
        label: Label,
        length: usize,
        deadline: Deadline,
        time: Duration,
    ) -> Result<(), SendError> {
        let ends = &mut *self.ends;
        let now = ends.park.now();
        if now >= deadline.nanoseconds() {
            return Err(SendError::TimedOut { to: ends.peer.id, waited: time });
        }
        let until = Deadline::at(deadline.nanoseconds().min(now.saturating_add(SLICE)));
        let park = ends.park;
        if length <= ends.max_frame() {
            let length = Head::of(label).frame_for(length);
            // False at the end of the slice, and true if there never will be: then the send says.
            let Ends { writer: Some(writer), room, .. } = ends else { unreachable!("there") };
            if writer.ring().wait(length, room, &park, until) {
                return Ok(());
            }
        } else {
            // For a chunk to come back. Nobody is woken for that.
            std::thread::sleep(Duration::from_micros(200));
        }
        self.check()?;
        if self.ends.shared.has_left() {
            return Err(SendError::NotJoined);
        }
        self.look_whether_it_lives()
    }

    fn look_whether_it_lives(&self) -> Result<(), SendError> {
        let ends = &*self.ends;
        if let Way::Remote(_) = ends.way
            && let Some(member) = ends.shared.member()
            && let Verdict::Dead(_) = member.processes().convict(ends.peer.owner)?
        {
            ends.peer.note_dead();
        }
        ends.peer.check()
    }

    /// Sends if there is room.
    #[inline]
    pub fn try_send(&mut self, label: Label, payload: &[u8]) -> Result<(), SendError> {
        if self.send_at_once(label, payload) {
            return Ok(());
        }
        self.try_send_otherwise(label, payload)
    }

    #[cold]
    #[inline(never)]
    fn try_send_otherwise(&mut self, label: Label, payload: &[u8]) -> Result<(), SendError> {
        if payload.len() > self.ends.max_frame() {
            self.check()?;
            return self.try_send_large(label, payload);
        }
        self.reserve(label, payload.len())?;
        self.bytes_mut().copy_from_slice(payload);
        self.commit(payload.len());
        Ok(())
    }

    /// Sends what goes through the lane, if nothing is in the way; false if something is, and
    /// nothing was sent.
    #[inline(always)]
    fn send_at_once(&mut self, label: Label, payload: &[u8]) -> bool {
        if !self.is_there() || payload.len() > self.ends.max_frame() {
            return false;
        }
        let head = Head::of(label);
        let Ends { writer: Some(writer), counters, park, .. } = &mut *self.ends else {
            return false;
        };
        let (ring, announcer) = writer.parts();
        let Ok(mut grant) = ring.grant(head.frame_for(payload.len())) else { return false };
        let begin = head.write(&mut grant, payload.len());
        let end = begin + payload.len();
        grant[begin..end].copy_from_slice(payload);
        grant.commit(end);
        announcer.announce(park);
        counters.sent(payload.len());
        true
    }

    #[cold]
    fn try_send_large(&mut self, label: Label, payload: &[u8]) -> Result<(), SendError> {
        let to = self.ends.peer.id;
        let guard = self.ends.shared.clone().pool(payload.len())?;
        let Some(mut guard) = guard else { return Err(SendError::Full { to }) };
        let Some(pool) = guard.as_mut() else { unreachable!("made by the call before") };
        let place = self.place_in(pool)?;
        let Some(mut loan) = pool.loan(payload.len())? else { return Err(SendError::Full { to }) };
        loan.copy_from_slice(payload);
        self.ends.offer(label, &loan.share(), place)
    }

    /// Sends a message in a chunk that others may be sent too.
    pub fn offer(
        &mut self,
        label: Label,
        message: &pool::Shared<'_, '_>,
        place: PlaceId,
    ) -> Result<(), SendError> {
        self.check()?;
        self.ends.offer(label, message, place)
    }

    /// The destination's place in this node's pool.
    pub fn place_in(&mut self, pool: &mut super::chunks::Pool) -> Result<PlaceId, SendError> {
        // Receivers that have left may have chunks, or this very place.
        pool.tidy();
        if let Some(place) = self.ends.place.filter(|place| pool.has(*place)) {
            return Ok(place);
        }
        let Ends { peer, way, shared, .. } = &*self.ends;
        let place = match pool.enter(peer, way) {
            // Some may be of receivers that have left, and are gone by now.
            Err(SendError::NoLane { .. }) if shared.forget_the_gone(pool) => {
                pool.enter(peer, way)?
            }
            other => other?,
        };
        self.ends.place = Some(place);
        Ok(place)
    }

    /// Bytes of the largest message that goes through the lane.
    pub fn max_frame(&self) -> usize {
        self.ends.max_frame()
    }
}

impl Ends {
    fn max_frame(&self) -> usize {
        let Some(writer) = &self.writer else { return 0 };
        writer.lanes().capacity() as usize / 4
    }

    fn writer(&mut self) -> &mut LaneWriter<'static> {
        match &mut self.writer {
            Some(writer) => writer,
            None => unreachable!("taken by drop alone"),
        }
    }

    fn offer(
        &mut self,
        label: Label,
        message: &pool::Shared<'_, '_>,
        place: PlaceId,
    ) -> Result<(), SendError> {
        let head = Head::of_chunk(label);
        let to = self.peer.id;
        let (ring, announcer) = self.writer().parts();
        let mut grant = ring.grant(head.frame_for(IN_CHUNK)).map_err(|error| refused(to, error))?;
        // The mark comes before the handle.
        let Some(lent) = place.lend(message) else { return Err(SendError::Corrupt { to }) };
        let begin = head.write(&mut grant, IN_CHUNK);
        grant[begin..].copy_from_slice(&lent.to_bytes());
        grant.commit(usize::MAX);
        announcer.announce(&FutexPark::new());
        self.counters.sent(message.len());
        Ok(())
    }
}

impl Counters {
    #[inline]
    fn sent(&mut self, bytes: usize) {
        self.messages.add(1);
        self.bytes.add(bytes as u64);
    }
}

#[cold]
fn refused(to: NodeId, error: WriteError) -> SendError {
    match error {
        WriteError::Full => SendError::Full { to },
        WriteError::TooLarge { length, maximum } => {
            SendError::TooLarge { found: length, most: maximum }
        }
        WriteError::Corrupt => SendError::Corrupt { to },
    }
}

impl Outgoing {
    /// Leaves the lane to the receiver. Nothing can be sent any more.
    pub fn close(&mut self) {
        let ends = &mut *self.ends;
        if let Some(writer) = ends.writer.take() {
            writer.close(&ends.park);
            ends.shared.statistics.give_line_back(ends.counters.line);
        }
        if let Some(place) = ends.place.take() {
            ends.shared.close_place(place);
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if self.process != this_process() {
            // A forked child's copy: neither the lane nor the memory is its own.
            return;
        }
        self.close();
        // SAFETY: once, here.
        unsafe { ManuallyDrop::drop(&mut self.ends) };
    }
}

impl std::fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outgoing").field("peer", &self.ends.peer).finish_non_exhaustive()
    }
}

/// Room for a message in the lane, one at a time, or in a chunk.
impl Outgoing {
    /// Makes room for a message of up to `length` bytes in the lane, if nothing is in the way;
    /// false if something is.
    #[inline(always)]
    pub fn grant_at_once(&mut self, label: Label, length: usize) -> bool {
        if !self.is_there() || length > self.ends.max_frame() {
            return false;
        }
        let Ends { writer: Some(writer), granted, .. } = &mut *self.ends else { return false };
        let head = Head::of(label);
        let Ok(mut grant) = writer.ring().grant(head.frame_for(length)) else { return false };
        granted.begin = head.write(&mut grant, length);
        granted.end = granted.begin + length;
        grant.hold();
        true
    }

    /// Makes room for a message of up to `length` bytes, if there is: in the lane, or in what is
    /// returned.
    #[cold]
    #[inline(never)]
    pub fn grant(&mut self, label: Label, length: usize) -> Result<Option<Box<InPool>>, SendError> {
        if length > self.ends.max_frame() {
            self.check()?;
            return self.grant_chunk(label, length).map(Some);
        }
        self.reserve(label, length).map(|()| None)
    }

    /// Makes room in the lane.
    fn reserve(&mut self, label: Label, length: usize) -> Result<(), SendError> {
        self.check()?;
        let Ends { writer: Some(writer), granted, peer, .. } = &mut *self.ends else {
            unreachable!("taken by drop alone")
        };
        let head = Head::of(label);
        let to = peer.id;
        let grant = writer.ring().grant(head.frame_for(length));
        let mut grant = grant.map_err(|error| refused(to, error))?;
        granted.begin = head.write(&mut grant, length);
        granted.end = granted.begin + length;
        grant.hold();
        Ok(())
    }

    fn grant_chunk(&mut self, label: Label, length: usize) -> Result<Box<InPool>, SendError> {
        let to = self.ends.peer.id;
        let guard = self.ends.shared.clone().pool(length)?;
        let Some(mut guard) = guard else { return Err(SendError::Full { to }) };
        let Some(pool) = guard.as_mut() else { unreachable!("made by the call before") };
        let place = self.place_in(pool)?;
        let Some(loan) = pool.loan(length)? else { return Err(SendError::Full { to }) };
        // SAFETY: of the pool that the guard keeps, and keeps for this alone; dropped before it.
        let loan =
            unsafe { std::mem::transmute::<Loan<'_, 'static>, Loan<'static, 'static>>(loan) };
        Ok(Box::new(InPool { loan, pool: guard, place, label }))
    }

    /// The room in the lane.
    #[inline(always)]
    pub fn bytes(&self) -> &[u8] {
        let Ends { writer: Some(writer), granted, .. } = &*self.ends else { return &[] };
        writer.ring_ref().held().get(granted.begin..granted.end).unwrap_or(&[])
    }

    /// The same, to be written.
    #[inline(always)]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let Ends { writer: Some(writer), granted, .. } = &mut *self.ends else { return &mut [] };
        writer.ring().held_mut().get_mut(granted.begin..granted.end).unwrap_or(&mut [])
    }

    /// Sends the first `used` bytes of the room in the lane.
    #[inline(always)]
    pub fn commit(&mut self, used: usize) {
        let Ends { writer: Some(writer), granted, counters, park, .. } = &mut *self.ends else {
            return;
        };
        let used = used.min(granted.end - granted.begin);
        let (ring, announcer) = writer.parts();
        if ring.commit_held(granted.begin + used) {
            announcer.announce(park);
            counters.sent(used);
        }
    }

    /// Sends the first `used` bytes of that room.
    #[cold]
    #[inline(never)]
    pub fn commit_chunk(&mut self, room: InPool, used: usize) -> Result<(), SendError> {
        // Dropped in reverse.
        let InPool { pool, mut loan, place, label } = room;
        let used = used.min(loan.len());
        // Shorter: that cannot fail.
        let _ = loan.resize(used);
        let message = loan.share();
        let sent = self.ends.offer(label, &message, place);
        drop(message);
        // Only now: the chunk is its pool's.
        drop(pool);
        sent
    }
}

impl InPool {
    /// The room.
    pub fn bytes(&self) -> &[u8] {
        &self.loan
    }

    /// The same, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.loan
    }
}

/// Claims a lane, while the destination's segment cannot be unlinked.
fn enter(
    shared: &Shared,
    to: &NodeId,
    segment: &Segment,
    layout: &NodeLayout<'static>,
) -> Result<(LaneWriter<'static>, Peer), SendError> {
    let to = *to;
    let Some(member) = shared.member() else { return Err(SendError::NotJoined) };
    let receiver = layout.node();
    if receiver == member.id() {
        // It reaches itself through its door, until it shuts that to leave.
        return Err(SendError::NotJoined);
    }
    let pid = member.processes().process(receiver).ok().flatten().map(|it| it.identity.pid);
    match member.processes().convict(receiver)? {
        Verdict::Alive => {}
        Verdict::Dead(_) => return Err(SendError::Dead { to, pid }),
        Verdict::Unknown => return Err(SendError::Corrupt { to }),
    }
    let lanes = layout.lanes();
    let no_lane = |_| SendError::NoLane { to, lanes: lanes.table().slots() };
    let reserved = lanes.reserve(member.id()).map_err(no_lane)?;
    let place = layout.place_of(reserved.lane()).ok_or(SendError::Corrupt { to })?;
    Mapped::allocate(segment, place)?;
    let writer = reserved.open(shared.id.as_bytes());
    let writer = writer.map_err(|error| SendError::Lane { to, error })?;
    Ok((writer, Peer::new(to, receiver, pid)))
}
