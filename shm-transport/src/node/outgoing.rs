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
use shm_primitives::lane::{Announcer, LaneWriter};
use shm_primitives::layout::lrpc::NodeId;
use shm_primitives::layout::node::NodeLayout;
use shm_primitives::pool::{self, Loan};
use shm_primitives::ring::frame::{Grant, WriteError};
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
    shared: Arc<Shared>,
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
            Self::Remote(mapped) => mapped.layout.segment().state() != Ok(State::Ready),
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
        match self.try_send(label, payload) {
            Err(SendError::Full { .. }) => {}
            other => return other,
        }
        self.send_when_full(label, payload, full)
    }

    #[cold]
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
        self.check()?;
        if payload.len() > self.ends.max_frame() {
            return self.try_send_large(label, payload);
        }
        let head = Head::of(label);
        let Ends { writer: Some(writer), counters, peer, park, .. } = &mut *self.ends else {
            unreachable!("taken by drop alone")
        };
        let (ring, announcer) = writer.parts();
        let mut grant = match ring.grant(head.frame_for(payload.len())) {
            Ok(grant) => grant,
            Err(error) => return Err(refused(peer.id, error)),
        };
        let begin = head.write(&mut grant, payload.len());
        let end = begin + payload.len();
        grant[begin..end].copy_from_slice(payload);
        grant.commit(end);
        announcer.announce(park);
        counters.sent(payload.len());
        Ok(())
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

/// Room for a message, in a lane or in a chunk. Its fields are dropped in their order.
pub(super) enum Room<'o> {
    Lane {
        grant: Grant<'o, 'static>,
        begin: usize,
        end: usize,
        announcer: &'o mut Announcer<'static>,
        counters: &'o mut Counters,
    },
    // Elsewhere, so that what goes through a lane is not moved about with so much.
    Chunk(Box<RoomInChunk<'o>>),
}

/// Its fields are dropped in their order.
pub(super) struct RoomInChunk<'o> {
    loan: Loan<'static, 'static>,
    pool: PoolGuard,
    ends: &'o mut Ends,
    place: PlaceId,
    label: Label,
}

impl Outgoing {
    /// Room for a message of up to `length` bytes, if there is.
    #[inline]
    pub fn try_grant(&mut self, label: Label, length: usize) -> Result<Room<'_>, SendError> {
        self.check()?;
        if length > self.ends.max_frame() {
            return self.try_grant_chunk(label, length);
        }
        let head = Head::of(label);
        let Ends { writer: Some(writer), counters, peer, .. } = &mut *self.ends else {
            unreachable!("taken by drop alone")
        };
        let (ring, announcer) = writer.parts();
        let to = peer.id;
        let mut grant = ring.grant(head.frame_for(length)).map_err(|error| refused(to, error))?;
        let begin = head.write(&mut grant, length);
        Ok(Room::Lane { grant, begin, end: begin + length, announcer, counters })
    }

    #[cold]
    fn try_grant_chunk(&mut self, label: Label, length: usize) -> Result<Room<'_>, SendError> {
        let to = self.ends.peer.id;
        let guard = self.ends.shared.clone().pool(length)?;
        let Some(mut guard) = guard else { return Err(SendError::Full { to }) };
        let Some(pool) = guard.as_mut() else { unreachable!("made by the call before") };
        let place = self.place_in(pool)?;
        let Some(loan) = pool.loan(length)? else { return Err(SendError::Full { to }) };
        // SAFETY: of the pool that the guard keeps, and keeps for this alone; dropped before it.
        let loan =
            unsafe { std::mem::transmute::<Loan<'_, 'static>, Loan<'static, 'static>>(loan) };
        let ends = &mut *self.ends;
        Ok(Room::Chunk(Box::new(RoomInChunk { loan, pool: guard, ends, place, label })))
    }
}

impl Room<'_> {
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Lane { grant, begin, end, .. } => &grant[*begin..*end],
            Self::Chunk(room) => &room.loan,
        }
    }

    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Lane { grant, begin, end, .. } => &mut grant[*begin..*end],
            Self::Chunk(room) => &mut room.loan,
        }
    }

    /// Publishes the first `used` bytes.
    #[inline(always)]
    pub fn commit(self, used: usize) -> Result<(), SendError> {
        match self {
            Self::Lane { grant, begin, end, announcer, counters } => {
                let used = used.min(end - begin);
                grant.commit(begin + used);
                announcer.announce(&FutexPark::new());
                counters.sent(used);
                Ok(())
            }
            Self::Chunk(room) => {
                let RoomInChunk { mut loan, pool, ends, place, label } = *room;
                let used = used.min(loan.len());
                // Shorter: that cannot fail.
                let _ = loan.resize(used);
                let message = loan.share();
                let sent = ends.offer(label, &message, place);
                drop(message);
                // Only now: the chunk is its pool's.
                drop(pool);
                sent
            }
        }
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
