//! What a node has done, and what waits for it, seen from outside.

use super::file::Seen;
use super::{Entry, Header, LookError, Snapshot};
use serde::Serialize;
use shm_primitives::counter::CounterLine;
use shm_primitives::identity::OwnerId;
use shm_primitives::part::Kind;
use shm_primitives::ring::frame::FrameRingRef;
use shm_primitives::segment::Magic;
use std::path::Path;

/// Bytes that hold a node's header and table of parts.
const HEAD: u64 = 4096;
/// What `shm_primitives::lane` documents: bytes before a lane's data, and of its ring's header,
/// which is at their end.
const LANE_HEAD: u64 = 4096;
/// Bytes of a part that are looked at, whatever its length is said to be: more than any node has.
const MOST: u64 = 4 << 20;
const RING_HEAD: u64 = 256;

/// What a node has counted, as `shm_transport::node::Statistics` says.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Counts {
    pub messages_sent: u64,
    pub bytes_sent: u64,
    pub messages_received: u64,
    pub bytes_received: u64,
    pub dropped: u64,
    pub filtered: u64,
    pub lost: u64,
}

impl Counts {
    /// Those in a copy of a node's segment.
    pub fn of(copy: &Snapshot, header: &Header) -> Result<Self, String> {
        let mut sum = Self::default();
        let Some(entry) = header.part(Kind::COUNTERS) else { return Ok(sum) };
        let part = usize::try_from(entry.offset).ok().zip(usize::try_from(entry.length).ok());
        let part = part.and_then(|(offset, length)| copy.region().part(offset, length));
        let part = part.ok_or("they are not there")?;
        let count = part.len().min(MOST as usize) / size_of::<CounterLine>();
        let lines = CounterLine::slice_at(&part, count).map_err(|error| error.to_string())?;
        for (number, line) in lines.iter().enumerate() {
            let [a, b, c, d, ..] = line.values();
            if number == 0 {
                // The receiving side's.
                (sum.messages_received, sum.bytes_received, sum.filtered, sum.lost) = (a, b, c, d);
            } else {
                sum.messages_sent = sum.messages_sent.wrapping_add(a);
                sum.bytes_sent = sum.bytes_sent.wrapping_add(b);
                sum.dropped = sum.dropped.wrapping_add(c);
            }
        }
        Ok(sum)
    }

    /// Each with its name.
    pub fn named(&self) -> [(&'static str, u64); 7] {
        [
            ("messages_sent", self.messages_sent),
            ("bytes_sent", self.bytes_sent),
            ("messages_received", self.messages_received),
            ("bytes_received", self.bytes_received),
            ("dropped", self.dropped),
            ("filtered", self.filtered),
            ("lost", self.lost),
        ]
    }
}

/// A node's segment, to be looked at again and again: only what is asked for is copied.
#[derive(Debug)]
pub struct NodeFile {
    copy: Snapshot,
    header: Header,
}

/// What a node's segment says at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct NodeNow {
    #[serde(flatten)]
    pub counts: Counts,
    /// Lanes from other processes.
    pub lanes: u32,
    /// Bytes that wait in them, or more: positions are seldom stored.
    pub queued: u64,
    /// The same of the fullest lane, in hundredths of what it holds.
    pub fullest: u8,
    /// Whether the node sleeps until something comes.
    pub asleep: bool,
    /// Who sends.
    #[serde(skip)]
    pub senders: Vec<OwnerId>,
}

impl NodeFile {
    /// The segment of that name, of a node.
    pub fn open(path: &Path) -> Result<Self, LookError> {
        let copy = Snapshot::empty(path)?;
        copy.fetch(0, HEAD)?;
        let header = Header::of(&copy)?;
        if header.magic != Magic::NODE || !header.problems.is_empty() {
            let why = header.problems.first().cloned();
            let why = why.unwrap_or_else(|| format!("it is {}, no node's", header.magic));
            return Err(LookError::Foreign { path: path.into(), why });
        }
        Ok(Self { copy, header })
    }

    /// Whose it is.
    pub fn owner(&self) -> Option<OwnerId> {
        self.header.owner()
    }

    /// Whether the name still leads to it.
    pub fn is_current(&self) -> bool {
        Seen::at(&self.copy.seen().path).is_ok_and(|seen| seen.inode == self.copy.seen().inode)
    }

    /// Bytes of memory that it takes now.
    pub fn resident(&self) -> u64 {
        Seen::at(&self.copy.seen().path).map_or(0, |seen| seen.resident)
    }

    /// Looks once more.
    pub fn look(&self) -> Result<NodeNow, LookError> {
        let wrong = |why: String| LookError::Foreign { path: self.copy.seen().path.clone(), why };
        for kind in [Kind::WAKE_WORD, Kind::SLOT_TABLE, Kind::COUNTERS] {
            if let Some(Entry { offset, length, .. }) = self.header.part(kind) {
                self.copy.fetch(*offset, (*length).min(MOST))?;
            }
        }
        let counts = Counts::of(&self.copy, &self.header).map_err(wrong)?;
        let mut now = NodeNow { counts, ..NodeNow::default() };
        if let Some(bell) = self.header.part(Kind::WAKE_WORD) {
            let [_, epoch] = self.copy.words(bell.offset).unwrap_or([0; 2]);
            now.asleep = epoch % 2 == 1;
        }
        self.look_at_lanes(&mut now)?;
        Ok(now)
    }

    fn look_at_lanes(&self, now: &mut NodeNow) -> Result<(), LookError> {
        let (Some(table), Some(area)) =
            (self.header.part(Kind::SLOT_TABLE), self.header.part(Kind::LANE_AREA))
        else {
            return Ok(());
        };
        let [count, capacity] = self.header.own;
        let stride = LANE_HEAD + u64::from(capacity);
        let Ok(table) = super::TableShape::at(&self.copy, table.offset, table.length) else {
            return Ok(());
        };
        for index in 0..count.min(table.slots) {
            let Ok(Some(slot)) = table.slot(&self.copy, index) else { continue };
            now.lanes += 1;
            if !slot.published {
                continue;
            }
            let sender = slot.entry.first_chunk().map(|word| u32::from_le_bytes(*word));
            now.senders.extend(sender.and_then(OwnerId::from_word));
            let ring = area.offset + u64::from(index) * stride + LANE_HEAD - RING_HEAD;
            self.copy.fetch(ring, RING_HEAD)?;
            let len = usize::try_from(RING_HEAD + u64::from(capacity)).unwrap_or(0);
            let region = usize::try_from(ring).ok().and_then(|at| self.copy.region().part(at, len));
            // A lane that is just being made has no ring yet.
            let ring = region.map(|region| FrameRingRef::attach_untrusted(region, Some(capacity)));
            if let Some(Ok(ring)) = ring {
                let queued = ring.queued() as u64;
                now.queued += queued;
                let share = (queued * 100 / ring.capacity() as u64) as u8;
                now.fullest = now.fullest.max(share);
            }
        }
        Ok(())
    }
}
