//! The receiving side: all lanes into the node.

use super::chunks::Source;
use super::door::{Door, LocalLane};
use super::error::RecvError;
use super::frame::{self, Content, InChunk, Label};
use super::mapped::Mapped;
use super::message::Filter;
use super::statistics;
use crate::config::Wait;
use crate::domain::Domain;
use crate::park::FutexPark;
use crate::segment::SegmentError;
use shm_primitives::counter::CounterWriter;
use shm_primitives::identity::OwnerId;
use shm_primitives::lane::{LaneReader, OpenError};
use shm_primitives::layout::lrpc::NodeId;
use shm_primitives::ring::frame::ReadError;
use shm_primitives::wake::{Deadline, Look, Park, Waiter};
use std::ptr::NonNull;
use std::sync::Arc;

/// How many lanes are polled at each glance, hot or not.
const FEW: usize = 16;
/// Messages taken from one lane before the others are looked at.
const TURN: u32 = 32;
/// Glances in vain, in a row, between two looks for new lanes.
const SELDOM: u32 = 64;
/// Glances in vain, in a row, before everything is looked at.
const ENOUGH: u32 = 4096;
/// Looks for new lanes before everything is looked at, whatever came between them.
const LOOKS: u32 = ENOUGH / SELDOM;
/// How many of them one counts for whose caller does something else between two.
const APART: u32 = 256;
/// Messages taken between two looks for new lanes, and of those looks between two that also let go
/// of lanes that have ended.
const OFTEN: u32 = 128;
/// Glances that find a lane empty before it is cool, where there are many.
const COOLING: u32 = 64;

/// The lanes into a node, and what it waits with. One thread at a time.
pub(super) struct Inbox {
    // Before the lanes, some of which borrow from nothing else here.
    waiter: Waiter<'static>,
    lanes: Lanes,
    wait: Wait,
    park: FutexPark,
}

struct Lanes {
    lanes: Vec<Lane>,
    /// What is known of each lane of the node's own segment.
    known: Vec<Known>,
    /// Where to look first, and how many messages that one has had in its turn.
    next: usize,
    turn: u32,
    found: Found,
    /// Glances in vain, in a row.
    vain: u32,
    /// Looks for new lanes since everything was looked at.
    looks: u32,
    /// Messages taken, wrapping.
    taken: u32,
    park: FutexPark,
    filter: Filter,
    /// The door's news that were seen.
    news: u32,
    /// The same, if the filter leaves out nothing; else a number that no news are.
    news_of_all: u64,
    counters: [CounterWriter<'static>; 4],
    door: Arc<Door>,
    domain: Domain,
    owner: OwnerId,
}

/// What is known of a lane of the node's own segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Known {
    /// It is nobody's, or was not looked at.
    Not,
    /// It is among those that are read.
    Read,
    /// What stands there is no lane of a node's. It goes when its sender has ended.
    Refused,
}

/// A lane that is being read. Its fields are dropped in their order.
struct Lane {
    source: Option<Source>,
    reader: LaneReader<'static>,
    sender: NodeId,
    /// Looks that found it empty, in a row; none are counted where there are few lanes.
    quiet: u32,
    /// Its bit is clear: it is looked at when that is set.
    is_cool: bool,
    /// Whether the sender may wait for room that was made.
    owes: bool,
    corrupt: bool,
    /// What it lies in, if that is not the node's segment.
    local: Option<Arc<LocalLane>>,
}

/// Messages that the filter leaves out before a look that does not wait says that there is none.
const FLOOD: u32 = 1024;

/// What a quick look says.
enum Quick {
    Found,
    Nothing,
    /// It was not enough.
    Unknown,
}

/// Why a large message cannot be read.
enum Unread {
    /// For want of something that may be there later.
    Yet(String),
    Lost(String),
}

impl From<SegmentError> for Unread {
    fn from(error: SegmentError) -> Self {
        use rustix::io::Errno;
        let why = error.to_string();
        let passes = match &error {
            SegmentError::Busy { .. } | SegmentError::NoMemory { .. } => true,
            SegmentError::Os { source, .. } => {
                let passing = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::AGAIN, Errno::INTR];
                passing.iter().any(|errno| source.raw_os_error() == Some(errno.raw_os_error()))
            }
            _ => false,
        };
        if passes { Self::Yet(why) } else { Self::Lost(why) }
    }
}

/// The message that was found last, and stands where it is until it is released. Kept here, and not
/// in what the caller is given, because that is moved: see `outgoing::Granted`.
#[derive(Debug)]
struct Found {
    lane: usize,
    bytes: NonNull<[u8]>,
    label: Label,
}

// SAFETY: an address and numbers. What may be done with the bytes is for who has the inbox.
unsafe impl Send for Found {}

impl Inbox {
    pub fn new(door: &Arc<Door>, domain: &Domain, wait: Wait) -> Self {
        let own = &door.own;
        let park = match wait {
            Wait::Block => FutexPark::new().without_spinning(),
            Wait::Adaptive | Wait::Poll => FutexPark::new(),
        };
        Self {
            waiter: own.layout.lanes().bell().waiter(),
            lanes: Lanes {
                lanes: Vec::new(),
                known: vec![Known::Not; own.layout.lanes().table().slots() as usize],
                next: 0,
                turn: 0,
                found: Found { lane: 0, bytes: NonNull::from(&[]), label: Label::NONE },
                vain: 0,
                looks: 0,
                taken: 0,
                park,
                filter: Filter::ALL,
                // Not seen yet.
                news: u32::MAX,
                news_of_all: u64::MAX,
                counters: statistics::receiving(own),
                door: Arc::clone(door),
                domain: domain.clone(),
                owner: own.layout.node(),
            },
            wait,
            park,
        }
    }

    /// Gives up all lanes: the node has left.
    pub fn forget_lanes(&mut self) {
        self.lanes.lanes.clear();
    }

    /// Finds the next message, if there is one. Does not wait. Called again without a release in
    /// between it finds the same.
    #[inline(always)]
    pub fn read(&mut self) -> Result<bool, RecvError> {
        match self.lanes.quick() {
            Quick::Found => Ok(true),
            Quick::Nothing => Ok(false),
            Quick::Unknown => self.read_any(),
        }
    }

    #[inline(never)]
    fn read_any(&mut self) -> Result<bool, RecvError> {
        // Who sends nothing but what is filtered out holds nobody up.
        for _ in 0..FLOOD {
            if self.lanes.door.has_left() {
                return Err(RecvError::NotJoined);
            }
            let Some(lane) = self.lanes.look(Look::Glance) else { return Ok(false) };
            if self.lanes.open(lane)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The same for one who does not call again soon: also looks for new lanes.
    pub fn read_once(&mut self) -> Result<bool, RecvError> {
        if self.read()? {
            return Ok(true);
        }
        self.lanes.vain = self.lanes.vain.next_multiple_of(APART) + APART - 1;
        self.read()
    }

    /// Waits for a message, until `deadline` or until `stop` says so; false if there is none then.
    /// Who changes what `stop` says rings the node's bell.
    #[inline]
    pub fn read_wait(
        &mut self,
        deadline: Deadline,
        stop: impl Fn() -> bool,
    ) -> Result<bool, RecvError> {
        loop {
            if self.read()? {
                return Ok(true);
            }
            if !self.wait_until(deadline, &stop) || stop() {
                return self.read();
            }
            if self.read()? {
                return Ok(true);
            }
            // Something was there, and it was filtered out.
            if self.park.now() >= deadline.nanoseconds() {
                return Ok(false);
            }
        }
    }

    fn wait_until(&mut self, deadline: Deadline, stop: &impl Fn() -> bool) -> bool {
        let Self { waiter, lanes, wait, park } = self;
        if *wait != Wait::Poll {
            let ready = |look| lanes.has_something(look) || stop();
            return waiter.wait_looking(park, deadline, ready);
        }
        let mut looks = 0u32;
        loop {
            looks = looks.wrapping_add(1);
            let seldom = looks.is_multiple_of(1024);
            if lanes.has_something(Look::Glance) || stop() {
                return true;
            }
            if seldom && park.now() >= deadline.nanoseconds() {
                return false;
            }
            std::hint::spin_loop();
        }
    }

    /// From whom the message is that was found.
    pub fn sender(&self) -> &NodeId {
        &self.lanes.lanes[self.lanes.found.lane].sender
    }

    /// The message that was found and is not released.
    #[inline(always)]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: found by this inbox and not released: in a frame that is published and not given
        // back, or in a chunk in hand, of memory that is mapped as long as the lane is there,
        // which is until it is read to its end.
        unsafe { self.lanes.found.bytes.as_ref() }
    }

    /// What it is about.
    pub fn label(&self) -> Label {
        self.lanes.found.label
    }

    /// Leaves it behind.
    #[inline(always)]
    pub fn release(&mut self) {
        let [messages, bytes, ..] = &mut self.lanes.counters;
        messages.add(1);
        bytes.add(self.lanes.found.bytes.len() as u64);
        self.lanes.skip(self.lanes.found.lane);
    }
}

impl Lanes {
    /// Whether there is a message, an error, or no more to come.
    fn has_something(&mut self, look: Look) -> bool {
        self.look(look).is_some() || self.door.has_left()
    }

    /// The most common case by far, in as little as it takes: one lane, no label, no chunk.
    #[inline]
    fn quick(&mut self) -> Quick {
        let [lane] = self.lanes.as_mut_slice() else { return Quick::Unknown };
        if lane.corrupt || u64::from(self.door.news()) != self.news_of_all {
            return Quick::Unknown;
        }
        let frame = match lane.reader.ring().read() {
            Ok(frame) => frame,
            Err(ReadError::Empty) if !lane.owes && !(self.vain + 1).is_multiple_of(SELDOM) => {
                self.vain += 1;
                return Quick::Nothing;
            }
            Err(_) => return Quick::Unknown,
        };
        let Some((label, Content::Here(begin))) = frame::parse(&frame) else {
            return Quick::Unknown;
        };
        let Some(bytes) = frame.get(begin..) else { return Quick::Unknown };
        let bytes = NonNull::from(bytes);
        frame.hold();
        self.vain = 0;
        self.found = Found { lane: 0, bytes, label };
        Quick::Found
    }

    /// Which lane has something. The same once more until it is released.
    #[inline]
    fn look(&mut self, look: Look) -> Option<usize> {
        let found = self.poll(look);
        if found.is_some() {
            self.vain = 0;
            return found;
        }
        self.vain += 1;
        if look == Look::Glance && !self.vain.is_multiple_of(SELDOM) {
            return None;
        }
        self.look_for_lanes(look)
    }

    /// Looks into the lanes that there are.
    #[inline]
    fn poll(&mut self, look: Look) -> Option<usize> {
        let count = self.lanes.len();
        if count == 1 {
            // The most common case by far.
            let lane = self.lanes.first_mut()?;
            return (!lane.is_empty(&self.park)).then_some(0);
        }
        if self.turn >= TURN {
            self.turn = 0;
            self.next += 1;
        }
        for at in 0..count {
            let at = (self.next + at) % count;
            let lane = &mut self.lanes[at];
            if lane.is_cool && look == Look::Glance {
                continue;
            }
            if !lane.is_empty(&self.park) {
                // A glance is to find it again.
                lane.is_cool = false;
                if at != self.next {
                    (self.next, self.turn) = (at, 0);
                }
                return Some(at);
            }
            if count > FEW && look == Look::Glance {
                lane.cool_down(&self.door);
            }
        }
        None
    }

    /// Takes up new lanes, now and then also lets go of those that have ended; and looks once more.
    #[cold]
    fn look_for_lanes(&mut self, look: Look) -> Option<usize> {
        self.looks += 1;
        // Who gets a message now and then never looks in vain for long in a row.
        let enough = self.vain >= ENOUGH || self.looks >= LOOKS;
        let thorough = look == Look::Thorough || enough;
        if thorough {
            (self.vain, self.looks) = (0, 0);
        }
        self.take_up_lanes(thorough);
        self.poll(if thorough { Look::Thorough } else { look })
    }

    /// Takes up new lanes; thoroughly, also those that no bit tells of, and lets go of those that
    /// have ended.
    ///
    /// A lane that is cool may have something while its bit is clear: whoever sends does not fence
    /// between the two, and may have found the bit set just before it was cleared, while its frame
    /// was not to be seen yet. Nobody may ever send there again. So the lanes themselves are looked
    /// into as well, after so many messages as after so many looks in vain.
    #[cold]
    fn take_up_lanes(&mut self, thorough: bool) {
        let ready = self.door.own.layout.lanes().ready();
        for lane in ready.marked() {
            if self.known.get(lane) == Some(&Known::Not) {
                self.adopt(lane as u32);
            }
        }
        // Those that are cool no more; there may be few lanes by now.
        for lane in self.lanes.iter_mut().filter(|lane| lane.is_cool) {
            if lane.local.is_some()
                || ready.is_marked(lane.reader.lane() as usize)
                || thorough && !lane.reader.ring().is_empty()
            {
                (lane.is_cool, lane.quiet) = (false, 0);
            }
        }
        for local in self.door.arrivals() {
            self.adopt_local(local);
        }
        if thorough {
            // Bits may lag behind: a sender that died had no time to set one.
            let lanes = self.door.own.layout.lanes().clone();
            for lane in lanes.claimed() {
                match self.known.get(lane as usize) {
                    Some(Known::Not) => self.adopt(lane),
                    Some(Known::Refused) => self.discard(lane),
                    Some(Known::Read) | None => {}
                }
            }
            self.let_go();
        }
    }

    fn adopt(&mut self, number: u32) {
        let known = match self.door.own.layout.lanes().adopt(number) {
            Ok(Some(reader)) => {
                if self.add(None, reader) {
                    Known::Read
                } else {
                    Known::Refused
                }
            }
            // Not opened yet; or about to be something else.
            Ok(None) | Err(OpenError::Busy(_)) => return,
            Err(error) => {
                tracing::warn!(target: "shm_transport::node", lane = number, %error, "a lane is not read");
                Known::Refused
            }
        };
        if let Some(it) = self.known.get_mut(number as usize) {
            *it = known;
        }
    }

    /// Gives a lane back that is not read, if its sender has ended.
    #[cold]
    fn discard(&mut self, number: u32) {
        let own = &self.door.own;
        // SAFETY: it was refused, so there is no reader of it, and one is made by this thread
        // alone, of what is not refused.
        let gone = unsafe { own.layout.lanes().discard(number, |number| punch(own, number)) };
        if gone && let Some(it) = self.known.get_mut(number as usize) {
            tracing::debug!(target: "shm_transport::node", lane = number, "a lane that was not read has ended");
            *it = Known::Not;
        }
    }

    fn adopt_local(&mut self, local: Arc<LocalLane>) {
        if let Ok(Some(reader)) = local.lanes().adopt(0) {
            self.add(Some(local), reader);
        }
    }

    /// False if it does not say from whom it is: nobody reads it. The reader comes last, so that it
    /// is dropped before the memory that it is of.
    fn add(&mut self, local: Option<Arc<LocalLane>>, reader: LaneReader<'static>) -> bool {
        let Ok(sender) = NodeId::new(reader.card().as_bytes()) else {
            tracing::warn!(target: "shm_transport::node", "a lane from nobody is not read");
            return false;
        };
        tracing::debug!(target: "shm_transport::node", from = %sender, "a lane is read");
        self.lanes.push(Lane {
            source: None,
            reader,
            sender,
            quiet: 0,
            is_cool: false,
            owes: false,
            corrupt: false,
            local,
        });
        true
    }

    /// Lets go of lanes that have ended and are read.
    fn let_go(&mut self) {
        let mut at = 0;
        while at < self.lanes.len() {
            let lane = &mut self.lanes[at];
            if !lane.reader.has_ended() || !(lane.corrupt || lane.is_empty(&self.park)) {
                at += 1;
                continue;
            }
            let Lane { source, reader, local, sender, corrupt, .. } = self.lanes.swap_remove(at);
            // What it held in the sender's pool goes before the lane does.
            drop(source);
            let (number, own) = (reader.lane(), &self.door.own);
            let clear = |number| {
                if local.is_none() {
                    punch(own, number);
                }
            };
            // One that is corrupt may have no end to be read to.
            let back = if corrupt { reader.discard_with(clear) } else { reader.finish_with(clear) };
            match back {
                None => {
                    tracing::debug!(target: "shm_transport::node", from = %sender, "a lane has ended");
                    if local.is_none()
                        && let Some(it) = self.known.get_mut(number as usize)
                    {
                        *it = Known::Not;
                    }
                }
                // Something came at the last moment.
                Some(reader) => {
                    let (quiet, is_cool, owes) = (0, false, true);
                    let source = None;
                    self.lanes.push(Lane {
                        source,
                        reader,
                        sender,
                        quiet,
                        is_cool,
                        owes,
                        corrupt,
                        local,
                    });
                    at += 1;
                }
            }
        }
        if self.next >= self.lanes.len() {
            self.next = 0;
        }
    }

    /// Finds what stands in the lane's next frame; false if it is left out.
    #[inline]
    fn open(&mut self, at: usize) -> Result<bool, RecvError> {
        let lane = &mut self.lanes[at];
        let frame = match lane.reader.ring().read() {
            Ok(frame) => frame,
            Err(ReadError::Empty | ReadError::TooSmall { .. }) => return Ok(false),
            Err(ReadError::Corrupt) => return Err(self.corrupt(at)),
        };
        // SAFETY of what is made of it: see `Inbox::bytes`.
        let whole = NonNull::from(&*frame);
        let parsed = frame::parse(&frame);
        frame.hold();
        let Some((label, content)) = parsed else { return Err(self.corrupt(at)) };
        if let Some(filter) = self.door.new_filter(&mut self.news) {
            self.news_of_all = if filter.admits_all() { self.news.into() } else { u64::MAX };
            self.filter = filter;
        }
        if !self.filter.admits(label) {
            // To give it back it has to be borrowed.
            if let Content::Chunk(chunk) = content
                && let Err(unread) = self.borrow(at, &chunk)
            {
                return Err(self.unread(at, unread));
            }
            self.counters[2].add(1);
            self.skip(at);
            return Ok(false);
        }
        let bytes = match content {
            Content::Here(begin) => {
                // SAFETY: the frame, which stays as it is until it is released.
                NonNull::from(unsafe { &whole.as_ref()[begin..] })
            }
            Content::Chunk(chunk) => match self.borrow(at, &chunk) {
                Ok(bytes) => bytes,
                Err(unread) => return Err(self.unread(at, unread)),
            },
        };
        self.found = Found { lane: at, bytes, label };
        Ok(true)
    }

    #[cold]
    fn borrow(&mut self, at: usize, chunk: &InChunk) -> Result<NonNull<[u8]>, Unread> {
        let lane = &mut self.lanes[at];
        if !lane.source.as_ref().is_some_and(|source| source.is_for(chunk)) {
            lane.source = None;
            // Whoever sends locally names its pool by the id that the handle has.
            let lost = || Unread::Lost("it names no pool".into());
            let sender = OwnerId::from_word(chunk.handle.pool).ok_or_else(lost)?;
            lane.source = Some(Source::open(&self.domain, sender, self.owner, chunk)?);
        }
        let lost = || Unread::Lost("no pool".into());
        let source = lane.source.as_mut().ok_or_else(lost)?;
        Ok(NonNull::from(source.borrow(chunk).map_err(Unread::Lost)?))
    }

    /// A large message cannot be read. It stays where it is if it may be later; its chunk would
    /// never come back to its sender otherwise.
    #[cold]
    fn unread(&mut self, at: usize, unread: Unread) -> RecvError {
        let from = Box::new(self.lanes[at].sender);
        match unread {
            Unread::Yet(why) => {
                // It may take long, and is no matter of the other senders.
                (self.next, self.turn) = (at + 1, 0);
                RecvError::NotYet { from, why }
            }
            Unread::Lost(why) => {
                self.counters[3].add(1);
                self.skip(at);
                RecvError::Chunk { from, why }
            }
        }
    }

    /// Leaves a frame behind.
    #[inline(always)]
    fn skip(&mut self, at: usize) {
        self.turn = self.turn.saturating_add(1);
        let lane = &mut self.lanes[at];
        if let Some(source) = &mut lane.source {
            source.give_back();
        }
        lane.reader.ring().release_held();
        lane.owes = true;
        if lane.reader.room_is_wanted() {
            lane.reader.announce_room(&self.park);
        }
        self.taken = self.taken.wrapping_add(1);
        if self.taken.is_multiple_of(OFTEN) {
            // Who always finds something never looks in vain.
            self.take_up_lanes(self.taken.is_multiple_of(OFTEN * OFTEN));
        }
    }

    #[cold]
    fn corrupt(&mut self, at: usize) -> RecvError {
        let lane = &mut self.lanes[at];
        lane.corrupt = true;
        let why = match lane.reader.ring().corruption() {
            Some(corrupt) => corrupt.to_string(),
            None => "a frame that no node writes".into(),
        };
        tracing::error!(target: "shm_transport::node", from = %lane.sender, %why, "corrupt lane");
        RecvError::Corrupt { from: Box::new(lane.sender), why }
    }
}

/// Gives the memory of a lane back that is being given back itself: nobody has an end of it, and
/// nobody can take it before.
fn punch(own: &Mapped, number: u32) {
    if let Some((offset, len)) = own.layout.place_of(number) {
        // SAFETY: as said above. Where pages are larger than lanes it fails, and the memory stays.
        let _ = unsafe { own.segment.punch(offset..offset + len) };
    }
}

impl Lane {
    /// Whether there is nothing to read. A sender that waits for room is told of it before.
    #[inline]
    fn is_empty(&mut self, park: &FutexPark) -> bool {
        if self.corrupt {
            return true;
        }
        if !self.reader.ring().is_empty() {
            self.quiet = 0;
            return false;
        }
        if std::mem::take(&mut self.owes) {
            self.reader.announce_room(park);
            return self.reader.ring().is_empty();
        }
        true
    }

    /// Counts a look in vain; after several the lane's bit is what is looked at.
    fn cool_down(&mut self, door: &Door) {
        self.quiet = self.quiet.saturating_add(1);
        if self.quiet < COOLING || self.local.is_some() {
            return;
        }
        let (number, ring) = (self.reader.lane() as usize, self.reader.ring());
        self.is_cool = door.own.layout.lanes().ready().cool(number, || ring.is_empty());
        self.quiet = 0;
    }
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").field("lanes", &self.lanes.lanes.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{ENOUGH, FEW, FLOOD, OFTEN};
    use crate::config::{Config, Full, Wait};
    use crate::domain::Domain;
    use crate::node::{Filter, Label, Node, NodeBuilder, RecvError};

    /// Who sends nothing but what is filtered out holds nobody up who does not want to wait.
    #[test]
    fn a_flood_of_what_is_filtered_out() {
        let domain = Domain::new(&format!("unit-flood-{}", std::process::id())).unwrap();
        let join = |name| Node::builder(name).config(Config::default()).in_domain(domain.clone());
        let wanted = Label::new(1, 0);
        let there = join("there").lane_bytes(1 << 20).filter(Filter::ALL.group(1)).join().unwrap();
        let here = join("here").full(Full::Error).join().unwrap();
        let bound = u64::from(FLOOD);
        let flood = 8 * bound + 5;
        for _ in 0..flood {
            here.send_labelled("there", Label::new(2, 0), b"flood").unwrap();
        }
        here.send_labelled("there", wanted, b"wanted").unwrap();
        let (mut seen, mut calls) = (0, 0);
        let message = loop {
            // It looks twice, the second time for new lanes too.
            let found = there.try_recv().unwrap();
            let filtered = there.stats().filtered;
            assert!(filtered - seen <= 2 * bound, "{} in one call", filtered - seen);
            (seen, calls) = (filtered, calls + 1);
            if let Some(message) = found {
                break message;
            }
            assert!(seen < flood, "nothing but what is wanted is left");
        };
        assert_eq!((&*message, message.label(), seen), (&b"wanted"[..], wanted, flood));
        assert!(calls >= 5, "{calls}");
    }

    /// A domain, and the same by another path: nodes of one process that are in one each do not know
    /// that it is one process.
    fn two_ways(name: &str) -> [Domain; 2] {
        let domain = Domain::new(&format!("{name}-{}", std::process::id())).unwrap();
        let aside = domain.clone().in_directory("/dev/../dev/shm");
        [domain, aside]
    }

    fn builder(name: &str, domain: &Domain) -> NodeBuilder {
        Node::builder(name).config(Config::default()).in_domain(domain.clone())
    }

    /// A message in a cool lane whose bit is clear, as one is left that was sent while the lane
    /// cooled, to one who receives a message of another lane at each of so many glances. After how
    /// many glances it is found, and how many messages.
    fn found_in_a_cool_lane(name: &str, every: u32) -> (u32, u32) {
        let [domain, aside] = two_ways(name);
        let there = builder("there", &domain).wait(Wait::Poll).join().unwrap();
        let here = builder("here", &aside).join().unwrap();
        let many = FEW + 4;
        let mut senders: Vec<_> = (0..many).map(|_| here.sender("there").unwrap()).collect();
        for sender in &mut senders {
            sender.send(b"first").unwrap();
        }
        let mut inbox = there.shared.inbox.lock();
        for _ in 0..many {
            while !inbox.read().unwrap() {}
            inbox.release();
        }
        for _ in 0..1000 {
            assert!(!inbox.read().unwrap());
        }
        assert!(inbox.lanes.lanes.iter().all(|lane| lane.is_cool));
        senders[5].send(b"late").unwrap();
        let mut lanes = inbox.lanes.lanes.iter_mut().map(|lane| &mut lane.reader);
        let late = lanes.find_map(|lane| (!lane.ring().is_empty()).then(|| lane.lane()));
        let late = late.unwrap() as usize;
        // Whoever cleared it saw no message, and whoever sent saw the bit.
        assert!(there.shared.own().layout.lanes().ready().cool(late, || true));
        let (mut glances, mut messages) = (0, 0);
        while glances < 1 << 20 {
            if glances % every == 0 {
                senders[0].send(b"of another").unwrap();
            }
            glances += 1;
            if inbox.read().unwrap() {
                if inbox.bytes() == b"late" {
                    break;
                }
                inbox.release();
                messages += 1;
            }
        }
        (glances, messages)
    }

    #[test]
    fn a_cool_lane_beside_one_that_always_has_something() {
        let (glances, messages) = found_in_a_cool_lane("unit-cool-busy", 1);
        assert!(messages <= 2 * OFTEN * OFTEN, "{messages} messages, {glances} glances");
    }

    #[test]
    fn a_cool_lane_beside_one_that_has_something_now_and_then() {
        let (glances, messages) = found_in_a_cool_lane("unit-cool-seldom", 100);
        assert!(glances <= 2 * ENOUGH, "{messages} messages, {glances} glances");
    }

    /// A large message that cannot be read for now does not keep those of others from being read.
    #[test]
    fn small_ones_beside_one_that_cannot_be_read_yet() {
        let [domain, aside] = two_ways("unit-not-yet");
        let there = builder("there", &domain).join().unwrap();
        let [large, small] = ["large", "small"].map(|name| builder(name, &aside).join().unwrap());
        large.send("there", &[1; 100_000]).unwrap();
        let pool = domain.path_of(&crate::node::name::pool_of(large.shared.owner));
        let unlinker = std::fs::File::open(pool).unwrap();
        rustix::fs::flock(&unlinker, rustix::fs::FlockOperation::LockExclusive).unwrap();
        for _ in 0..100 {
            small.send("there", b"small").unwrap();
        }
        let (mut got, mut refused) = (0, 0);
        while got < 100 {
            match there.try_recv() {
                Ok(message) => got += usize::from(message.is_some_and(|it| &*it == b"small")),
                Err(RecvError::NotYet { from, .. }) if *from == *large.id() => refused += 1,
                Err(error) => panic!("{error}"),
            }
            assert!(refused <= 100, "{got} small ones after {refused} vain calls");
        }
        assert!(refused > 0);
        drop(unlinker);
        assert_eq!(there.recv().unwrap().len(), 100_000);
    }
}
