//! What a part is, and which of its rules hold.

use super::{Facts, Part, Who, lanes, rings, tables};
use crate::look::{Entry, Header, Part as PartHeader, Snapshot};
use shm_primitives::identity::OwnerId;
use shm_primitives::layout::lrpc::LrpcLayout;
use shm_primitives::layout::phoenix::PhoenixShmLayout;
use shm_primitives::part::{AttachError, Kind};
use shm_primitives::pool::{MarksRef, PoolRef};
use shm_primitives::ready::ReadyBitmap;
use shm_primitives::region::Region;
use shm_primitives::segment::Magic;

/// The magic of a segment of members.
pub const PROC: Magic = Magic(u32::from_be_bytes(*b"PROC"));

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
        match self.entry.id.kind {
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
            // Counters are any words; and of parts that are not of this crate only their users
            // know anything.
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

    fn marks(&mut self) {
        let (Some(part), Some(region)) = (self.part(), self.region()) else { return };
        self.owner("subscriber", part.owners[1]);
        let attached = MarksRef::attach_untrusted(region);
        let Some(marks) = self.attached(attached) else { return };
        self.facts.add("id", marks.id());
        self.facts.add("pool", marks.pool());
        self.facts.add("chunks", marks.chunks());
        self.facts.add("held", marks.held());
        let (held, chunks) = (marks.held(), marks.chunks());
        if held > chunks {
            self.problem(format!("{held} chunks are held, and there are {chunks}"));
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
        let bits = usize::try_from(self.entry.length).unwrap_or(0) * 8;
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
