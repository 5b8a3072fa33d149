//! The members of a domain, seen by one who is none.

use super::{LookError, Snapshot, short};
use serde::Serialize;
use shm_primitives::identity::OwnerId;
use shm_primitives::part::Kind;
use shm_primitives::region::Region;
use shm_primitives::segment::{Known, Magic, PartId, Segment};
use shm_primitives::table::SlotTable;
use shm_transport::liveness::is_locked;
use std::os::fd::AsFd;
use std::path::Path;

/// What `shm_transport::member` and `shm_transport::liveness` document of their memory.
const TABLE: PartId = PartId { kind: Kind::SLOT_TABLE, role: 0 };
const KNOWN: Known<1> = Known::new(Magic(u32::from_be_bytes(*b"PROC")), 1, [TABLE]);
const TAG: u32 = u32::from_le_bytes(*b"PROC");
const NAME: std::ops::Range<usize> = 7..15;

type Records<'a> = SlotTable<'a, [u32; 16], 2>;

/// Whether somebody lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Life {
    /// The kernel says so.
    Alive,
    /// The kernel says so: it died or left.
    Dead,
    /// The domain's members never had this id, or there are none.
    Unknown,
}

impl Life {
    /// In a word.
    pub fn text(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Dead => "dead",
            Self::Unknown => "unknown",
        }
    }
}

/// One process.
#[derive(Clone, Debug, Serialize)]
pub struct MemberRow {
    /// Its id in the domain.
    pub id: String,
    /// What it calls itself.
    pub name: String,
    /// Its number, in its own pid namespace.
    pub pid: u32,
    /// Whether it is of another pid namespace or another start of the machine than this process,
    /// so that the number means nothing here.
    pub elsewhere: bool,
    /// Whether it lives.
    pub state: Life,
    /// How often it has said that it is at work.
    pub heartbeat: u32,
}

/// The members, as their segment said at one moment. Who lives is asked when it is asked.
///
/// Nothing is taken over because of what this says: it is for people.
#[derive(Debug)]
pub struct Members {
    copy: Snapshot,
}

impl Members {
    /// Those of the segment of that name; `None` if there is none.
    ///
    /// Take this after the owners' ids were read that will be asked about: ids given out later
    /// are unknown to it.
    pub fn at(path: &Path) -> Result<Option<Self>, LookError> {
        let copy = match Snapshot::of(path) {
            Ok(copy) => copy,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let this = Self { copy };
        match Records::attach(&this.part()?, TAG) {
            Ok(_) => Ok(Some(this)),
            Err(error) => Err(this.foreign(error)),
        }
    }

    fn foreign(&self, why: impl ToString) -> LookError {
        LookError::Foreign { path: self.copy.seen().path.clone(), why: why.to_string() }
    }

    fn part(&self) -> Result<Region<'_>, LookError> {
        let segment = Segment::attach(self.copy.region(), &KNOWN);
        segment.and_then(|segment| segment.require(TABLE)).map_err(|error| self.foreign(error))
    }

    fn records(&self) -> Option<Records<'_>> {
        Records::attach(&self.part().ok()?, TAG).ok()
    }

    /// All that have a record, by their ids.
    pub fn rows(&self) -> Vec<MemberRow> {
        let Some(records) = self.records() else { return Vec::new() };
        let here = shm_transport::liveness::ProcessIdentity::current().ok();
        let rows = records.owners().map(|(index, id)| {
            let found = records.read(index).ok().flatten();
            let live = |word| found.and_then(|found| records.live(found.key, word)).unwrap_or(0);
            let entry = found.map_or([0; 16], |found| found.entry);
            let long = |at: usize| u64::from(entry[at]) | u64::from(entry[at + 1]) << 32;
            let name: Vec<u8> = entry[NAME].iter().copied().flat_map(u32::to_le_bytes).collect();
            let name = name.split(|byte| *byte == 0).next().unwrap_or(&[]);
            MemberRow {
                id: short(id),
                name: String::from_utf8_lossy(name).into_owned(),
                pid: entry[0],
                elsewhere: here
                    .is_none_or(|here| (here.boot, here.namespace) != (long(3), long(5))),
                state: self.life(id),
                heartbeat: live(0),
            }
        });
        rows.collect()
    }

    /// Whether the member of that id lives.
    pub fn life(&self, id: OwnerId) -> Life {
        // The record was read before the lock is looked at: an id that was there was locked then.
        match is_locked(self.copy.file().as_fd(), id.word().into()) {
            Ok(true) => Life::Alive,
            Ok(false) if self.was_given_out(id) => Life::Dead,
            Ok(false) | Err(_) => Life::Unknown,
        }
    }

    /// Whether the record of `id` is that id's, or has gone on from it.
    fn was_given_out(&self, id: OwnerId) -> bool {
        let Some(records) = self.records() else { return false };
        if records.owner(id.index()) == Some(id) {
            return true;
        }
        match records.tenancy(id.index()) {
            Some(now) if now.generation() != 0 => {
                let range = OwnerId::MAX_GENERATION;
                (now.generation() % range + range - id.generation() % range) % range < range / 2
            }
            _ => false,
        }
    }

    /// What the record of `id` calls its process.
    pub fn name_of(&self, id: OwnerId) -> Option<(String, u32)> {
        let id = short(id);
        self.rows().into_iter().find(|row| row.id == id).map(|row| (row.name, row.pid))
    }
}
