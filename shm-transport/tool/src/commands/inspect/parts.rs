//! What a part is, and which of its rules hold.

use super::{Facts, Part, Who, lanes, rings, services, tables};
use crate::look::{Counts, Entry, Header, Part as PartHeader, Snapshot};
use shm_primitives::counter::CounterLine;
use shm_primitives::identity::OwnerId;
use shm_primitives::layout::lrpc::LrpcLayout;
use shm_primitives::layout::phoenix::PhoenixShmLayout;
use shm_primitives::part::{AttachError, Kind, Untrusted};
use shm_primitives::pool::{MarksRef, PoolRef};
use shm_primitives::ready::ReadyBitmap;
use shm_primitives::region::Region;
use shm_primitives::segment::Magic;

/// The magic of a segment of members.
pub const PROC: Magic = Magic(u32::from_be_bytes(*b"PROC"));
/// The magic of a node's pool of large messages: own words are its places, and the bytes of the
/// marks of each.
const POOL: Magic = Magic(u32::from_be_bytes(*b"POOL"));

/// Bytes at the beginning of a pool that say all of it, as a rule.
const BEGINNING: u64 = 64 << 10;

/// A part on the way to be judged.
pub struct Case<'c> {
    pub copy: &'c Snapshot,
    pub header: &'c Header,
    pub entry: &'c Entry,
    pub who: &'c Who,
    pub facts: Facts,
    pub problems: Vec<String>,
}

/// Looks into a part.
pub fn examine(copy: &Snapshot, header: &Header, entry: &Entry, who: &Who) -> Part {
    let (facts, problems) = (Facts::default(), Vec::new());
    let mut case = Case { copy, header, entry, who, facts, problems };
    if entry.inside {
        case.look();
    }
    let Case { facts, problems, .. } = case;
    let kind = entry.id.kind.to_string();
    let Entry { required, offset, length, .. } = *entry;
    Part { kind, role: entry.id.role, required, offset, length, facts, problems }
}

impl<'c> Case<'c> {
    fn look(&mut self) {
        let Entry { offset, length, .. } = *self.entry;
        // Of these what is to be seen stands at the beginning, or is asked for lane by lane.
        let piecemeal = [Kind::LANE_AREA, Kind::CHUNK_POOL, Kind::CHANNEL_AREA];
        let all = !piecemeal.contains(&self.entry.id.kind);
        if !self.copy.has(offset, if all { length } else { length.min(BEGINNING) }) {
            self.facts.add("left_out", "not looked at: see --limit");
            return;
        }
        match self.entry.id.kind {
            Kind::SERVICE => services::orders(self),
            Kind::MONITORS => services::monitors(self),
            Kind::CANCELS => services::cancels(self),
            Kind::COUNTERS if self.header.magic == Magic::SRVC => services::counters(self),
            Kind::WAKE_WORD if self.header.magic == Magic::BELL => services::wake_words(self),
            Kind::READY_BITMAP if self.header.magic == Magic::BELL => services::ready(self),
            Kind::SPSC_RING => rings::spsc(self),
            Kind::FRAME_RING => rings::frame(self),
            Kind::SLOT_TABLE => tables::slots(self),
            Kind::CHUNK_POOL => self.pool(),
            Kind::CHUNK_MARKS => self.marks(),
            Kind::WORKER_GROUP => self.group(),
            Kind::CHANNEL_AREA => self.channels(),
            Kind::WAKE_WORD => self.wake_word(),
            Kind::READY_BITMAP => self.ready_bitmap(),
            Kind::LANE_AREA => lanes::lanes(self),
            Kind::COUNTERS => self.counters(),
            // Of parts that are not of this crate only their users know anything.
            _ => {}
        }
    }

    pub fn problem(&mut self, text: impl Into<String>) {
        self.problems.push(text.into());
    }

    pub fn region(&self) -> Option<Region<'c>> {
        let (offset, length) = (self.entry.offset, self.entry.length);
        self.copy.region().part(usize::try_from(offset).ok()?, usize::try_from(length).ok()?)
    }

    /// The part's own header, if it is of the kind that the table says.
    pub fn part(&mut self) -> Option<PartHeader> {
        let Some(part) = PartHeader::at(self.copy, self.entry.offset) else {
            self.problem("there is no part: its creator has not made it, or it was overwritten");
            return None;
        };
        if part.kind != self.entry.id.kind.0 {
            let kind = Kind(part.kind);
            self.problem(format!("the part says that it is a {kind}"));
            return None;
        }
        if part.version != 1 || part.min_reader != part.version {
            self.facts.add("version", part.version);
            self.facts.add("min_reader", part.min_reader);
        }
        Some(part)
    }

    /// Whom an owner's word names.
    pub fn owner(&mut self, name: &'static str, word: u32) {
        match (word, OwnerId::from_word(word)) {
            (0, _) => self.facts.add(name, "nobody"),
            (_, Some(id)) => {
                let owner = self.who.is(id);
                self.facts.add(name, owner.text());
            }
            (_, None) => self.problem(format!("the {name}'s word {word:#x} is no owner's")),
        }
    }

    /// What attaching said.
    pub fn attached<T>(&mut self, attached: Result<T, AttachError>) -> Option<T> {
        attached.map_err(|error| self.problem(error.to_string())).ok()
    }

    fn pool(&mut self) {
        let (Some(part), Some(region)) = (self.part(), self.region()) else { return };
        self.owner("publisher", part.owners[0]);
        let attached = PoolRef::attach_untrusted(region);
        let Some(pool) = self.attached(attached) else { return };
        self.facts.add("id", pool.id());
        let classes: Vec<_> =
            pool.classes().map(|(size, count)| [size.into(), count.into()]).collect();
        self.facts.add("chunks", pool.chunks());
        self.facts.add("alignment", pool.alignment());
        let connected = (0..pool.places() as usize).filter_map(|place| pool.connected(place));
        let connected: Vec<_> = connected.collect();
        self.facts.add("places", pool.places());
        self.facts.add("connected", connected.len());
        let mut once = connected.clone();
        once.sort_unstable();
        once.dedup();
        if once.len() != connected.len() {
            self.problem("the same marks are connected at two places");
        }
        self.facts.table("classes", ["bytes", "chunks"], classes);
    }

    /// The marks of one subscriber; or, in a node's pool, of each receiver that is connected.
    fn marks(&mut self) {
        if self.header.magic != POOL {
            let Some(region) = self.region() else { return };
            if let Some(part) = self.part() {
                self.owner("subscriber", part.owners[1]);
                match marks(region) {
                    Ok([id, pool, chunks, held]) => {
                        self.facts.add("id", id);
                        self.facts.add("pool", pool);
                        self.facts.add("chunks", chunks);
                        self.facts.add("held", held);
                    }
                    Err(problem) => self.problem(problem),
                }
            }
            return;
        }
        let [places, stride] = self.header.own;
        self.facts.add("places", places);
        if u64::from(places) * u64::from(stride) > self.entry.length {
            return self.problem(format!("{places} places of {stride} bytes do not fit"));
        }
        let (Some(all), Some(pool)) = (self.region(), self.node_s_pool()) else { return };
        let mut rows = Vec::new();
        for place in 0..places {
            let Some(id) = pool.connected(place as usize) else { continue };
            let at = self.entry.offset + u64::from(place) * u64::from(stride);
            let owner =
                PartHeader::at(self.copy, at).and_then(|part| OwnerId::from_word(part.owners[1]));
            let owner = owner.map(|id| self.who.is(id).text());
            let found = all.part(place as usize * stride as usize, stride as usize);
            match found.ok_or_else(|| "they are not there".into()).and_then(marks) {
                Ok([found, ..]) if found != id => {
                    self.problem(format!("place {place}: marks {found} where {id} are connected"));
                }
                Ok([id, _, _, held]) => {
                    rows.push([place.into(), id.into(), held.into(), owner.into()]);
                }
                Err(problem) => self.problem(format!("place {place}: {problem}")),
            }
        }
        self.facts.table("receivers", ["place", "marks", "held", "receiver"], rows);
    }

    fn node_s_pool(&self) -> Option<PoolRef<'c, Untrusted>> {
        let entry = self.header.entries.iter().find(|entry| entry.id.kind == Kind::CHUNK_POOL)?;
        let (offset, length) = (entry.offset.try_into().ok()?, entry.length.try_into().ok()?);
        // What is wrong with it is said there.
        PoolRef::attach_untrusted(self.copy.region().part(offset, length)?).ok()
    }

    /// Lines that are there have counted; what is counted, their users know.
    fn counters(&mut self) {
        let Some(region) = self.region() else { return };
        let all = region.len() / size_of::<CounterLine>();
        self.facts.add("lines", all);
        if self.header.magic != Magic::NODE {
            return;
        }
        let copy = (self.copy, self.header);
        match Counts::of(copy.0, copy.1) {
            Ok(counts) => {
                for (name, count) in counts.named() {
                    self.facts.add(name, count);
                }
            }
            Err(problem) => self.problem(problem),
        }
    }

    fn group(&mut self) {
        let Some(words) = self.copy.words::<16>(self.entry.offset) else { return };
        for (name, at) in [
            ("workers", 5),
            ("messages", 6),
            ("message_size", 7),
            ("reply_size", 8),
            ("progress_size", 9),
            ("requests", 10),
            ("responses", 11),
        ] {
            self.facts.add(name, words[at]);
        }
        if !PhoenixShmLayout::is_valid(&self.copy.region()) {
            self.problem("the groups of workers cannot be: their places or sizes do not fit");
        }
    }

    fn channels(&mut self) {
        if self.header.magic == Magic::LETT {
            let [letters, bytes] = self.header.own;
            self.facts.add("letters", letters);
            self.facts.add("bytes", bytes);
            if u64::from(letters) * u64::from(bytes) > self.entry.length {
                self.problem(format!("{letters} letters of {bytes} bytes do not fit"));
            }
        }
        if self.header.magic == Magic::LRPC {
            match LrpcLayout::attach(self.copy.region()) {
                Ok(layout) => {
                    self.facts.add("channels", layout.shape().channels);
                    self.facts.add("channel_size", layout.shape().channel_size);
                }
                Err(error) => self.problem(error.to_string()),
            }
        }
    }

    fn wake_word(&mut self) {
        let Some([sequence, epoch]) = self.copy.words(self.entry.offset) else { return };
        self.facts.add("wakes", sequence);
        self.facts.add("waits", epoch / 2 + epoch % 2);
        let waiter = if epoch % 2 == 1 { "asleep, or about to be" } else { "awake, or nobody" };
        self.facts.add("waiter", waiter);
    }

    fn ready_bitmap(&mut self) {
        let bits = usize::try_from(self.entry.length.min(BEGINNING)).unwrap_or(0) * 8;
        // Of a node's, the header says how many there are.
        let lanes = match self.header.magic {
            Magic::NODE => (self.header.own[0] as usize).min(bits),
            _ => bits,
        };
        let Some(region) = self.region() else { return };
        let attached = ReadyBitmap::at(&region, lanes);
        let Some(ready) = self.attached(attached) else { return };
        self.facts.add("lanes", lanes);
        let marked: Vec<_> = ready.marked().map(serde_json::Value::from).collect();
        self.facts.add("ready", marked.len());
        self.facts.add("ready_lanes", marked);
    }
}

/// What marks say: their id, their pool's, of how many chunks, and how many are held.
fn marks(region: Region<'_>) -> Result<[u32; 4], String> {
    let marks = MarksRef::attach_untrusted(region).map_err(|error| error.to_string())?;
    let (held, chunks) = (marks.held(), marks.chunks());
    if held > chunks {
        return Err(format!("{held} chunks are held, and there are {chunks}"));
    }
    Ok([marks.id(), marks.pool(), chunks, held])
}
