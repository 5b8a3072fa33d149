//! The members of a domain: the processes that meet in it, in one segment that all of them map.
//!
//! Before a process has anything in a domain it [joins](Member::join). It then has an
//! [`OwnerId`], under which it claims whatever it claims, a record that says who it is, and the
//! kernel lock that shows that it lives; see [`liveness`](crate::liveness).
//!
//! # Memory
//!
//! The segment `members` of the domain: a [`segment`](shm_primitives::segment) with magic `PROC`,
//! version 1, with one part: the table of process records (kind 3, role 0). Nobody owns it. The
//! bytes locked are those of its file.
//!
//! # Who does what, and what a kill leaves
//!
//! **The first who joins** makes the segment, takes its record, and gives the segment its name
//! then ([`Segment::create`]); killed before that, it leaves nothing. **Who joins later** takes
//! its record under the lock that keeps unlinkers out ([`Segment::open`]); killed then, it leaves
//! a record whose lock has fallen.
//!
//! **The last who leaves** takes the name away: it has the segment to itself while it looks whether
//! there is a record, and one that joins meanwhile comes too late and makes a new segment. Records
//! of the dead keep the segment, for a new one gives out the same ids again: a place that a dead
//! one holds somewhere would seem to be somebody else's. Who recovers such places
//! [clears](ProcessTable::clear) the records, and the last one to leave after that takes the name
//! away. Where nothing is to be recovered [`remove_if_deserted`] does; and so does one who joins
//! and finds no free record and nobody alive, whose new table goes on after the highest id of the
//! old one: that one's ids stay those of the dead.
//!
//! # Example
//!
//! ```
//! use shm_transport::domain::Domain;
//! use shm_transport::liveness::Verdict;
//! use shm_transport::member::Member;
//!
//! let domain = Domain::new(&format!("doc-member-{}", std::process::id()))?;
//! let me = Member::join(&domain, "example")?;
//! me.beat();
//! // Whoever finds this id anywhere in the domain can ask whose it is, and whether he lives.
//! assert_eq!(me.processes().convict(me.id())?, Verdict::Alive);
//! assert_eq!(me.processes().process(me.id())?.unwrap().name, "example");
//! // SAFETY: it held nothing.
//! assert!(unsafe { me.leave() }?, "and was the last one");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::domain::{Domain, SegmentName};
use crate::liveness::{LivenessError, Membership, ProcessTable, Verdict};
use crate::segment::{CreateOptions, OpenOptions, Segment, SegmentError};
use shm_primitives::identity::OwnerId;
use shm_primitives::part::Kind;
use shm_primitives::segment as layout;
use shm_primitives::segment::{HEADER, Known, Magic, NewPart, PartId, Plan};
use std::fmt;
use std::mem::ManuallyDrop;
use thiserror::Error;

/// The name of the segment.
pub(crate) const NAME: &str = "members";
const MAGIC: Magic = Magic(u32::from_be_bytes(*b"PROC"));
const VERSION: u32 = 1;
const TABLE: PartId = PartId { kind: Kind::SLOT_TABLE, role: 0 };
const KNOWN: Known<1> = Known::new(MAGIC, VERSION, [TABLE]);
/// How often to take away a segment of the dead that has no free record, and begin anew.
const ATTEMPTS: u32 = 100;

/// Why a process did not become a member, or did not cease to be one.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MemberError {
    /// The segment could not be made, opened or removed.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// No record could be taken, or the kernel did not say who lives.
    #[error(transparent)]
    Liveness(#[from] LivenessError),
    /// What stands in the segment is not the members of a domain.
    #[error(
        "the segment of members of domain {domain:?} is something else: {error}; remove the file \
         {NAME:?} of the domain if no member lives, or use another domain"
    )]
    Layout {
        /// The domain.
        domain: String,
        /// What was found.
        error: layout::SegmentError,
    },
    /// There can be no table of so many records.
    #[error("{found} records of processes, where a domain has from 1 to {most}")]
    BadRecords {
        /// The number asked for.
        found: u32,
        /// The most.
        most: u32,
    },
}

/// How to join a domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JoinOptions {
    records: u32,
    role: u32,
}

impl JoinOptions {
    /// Room for 1,024 processes at a time.
    #[must_use]
    pub const fn new() -> Self {
        Self { records: 1024, role: 0 }
    }

    /// Room for so many, up to [`ProcessTable::MAX_RECORDS`]. A record takes 192 bytes.
    #[must_use]
    pub const fn records(mut self, records: u32) -> Self {
        self.records = records;
        self
    }

    /// Joins in that role; see [`ProcessTable::enrol_as`].
    #[must_use]
    pub const fn role(mut self, role: u32) -> Self {
        self.role = role;
        self
    }
}

impl Default for JoinOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// This process, as a member of a domain.
///
/// Dropped without [`leave`](Self::leave), it stays a member until the process ends: what it
/// holds under its id stays its own.
pub struct Member {
    // Both refer to memory that `segment` has mapped, so they go first.
    membership: ManuallyDrop<Membership<'static>>,
    table: ProcessTable<'static>,
    segment: Segment,
}

impl Member {
    /// Becomes a member of `domain`, whose first member makes its segment. `name` is what this
    /// process calls itself, up to [`ProcessTable::MAX_NAME`] bytes: for people.
    ///
    /// Done once in a process for a domain, usually; each further one is a member by itself.
    ///
    /// # Errors
    ///
    /// See [`MemberError`]. Nothing is kept then.
    pub fn join(domain: &Domain, name: &str) -> Result<Self, MemberError> {
        Self::join_with(domain, name, JoinOptions::new())
    }

    /// The same with options.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join); `BadRecords`.
    ///
    /// Only the first member's number of records counts: later ones have those that there are.
    pub fn join_with(
        domain: &Domain,
        name: &str,
        options: JoinOptions,
    ) -> Result<Self, MemberError> {
        let (found, most) = (options.records, ProcessTable::MAX_RECORDS);
        let bad = MemberError::BadRecords { found, most };
        let Some(size) = ProcessTable::required_size(found) else { return Err(bad) };
        let parts = [NewPart::required(TABLE, size as u64)];
        let plan = Plan::new(MAGIC, VERSION, &parts);
        let Some(size) = plan.required_size() else { return Err(bad) };
        let (mut attempts, mut generation) = (0, 0);
        loop {
            let joined = Segment::open_or_create(
                domain,
                &segment_name(),
                OpenOptions::new(HEADER),
                CreateOptions::new(size),
                |segment| enter(domain, segment, name, options.role),
                |segment| {
                    make(domain, segment, &plan, options.records, generation)?;
                    enter(domain, segment, name, options.role)
                },
            );
            match joined {
                Ok((segment, Entered { table, membership }, _)) => {
                    return Ok(Self { membership: ManuallyDrop::new(membership), table, segment });
                }
                // Of the dead, perhaps, all of them.
                Err(MemberError::Liveness(LivenessError::Full(full))) => {
                    attempts += 1;
                    let mut highest = 0;
                    let removed = remove_with(domain, |id| highest = id.generation().max(highest));
                    if attempts == ATTEMPTS || !removed? {
                        return Err(LivenessError::Full(full).into());
                    }
                    generation = highest;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The id under which this process holds whatever it holds in the domain.
    #[must_use]
    pub fn id(&self) -> OwnerId {
        self.membership.id()
    }

    /// This process's record.
    #[must_use]
    pub fn membership(&self) -> &Membership<'_> {
        &self.membership
    }

    /// Says that this process is at work; see [`Membership::beat`].
    pub fn beat(&self) {
        self.membership.beat();
    }

    /// All processes of the domain, and their verdicts.
    #[must_use]
    pub fn processes(&self) -> &ProcessTable<'_> {
        &self.table
    }

    /// Gives the record back, then the lock; if there is no other record, of one alive or dead,
    /// takes the domain's segment of members away too, and says so. To be called after everything
    /// else that this
    /// member held was given back.
    ///
    /// # Errors
    ///
    /// It is no member any more; whether it was the last one could not be found out, or the
    /// segment not be removed.
    ///
    /// # Safety
    ///
    /// From now on this process touches nothing that it held under [`id`](Self::id): whoever
    /// finds that id somewhere gets the proof that it does not.
    pub unsafe fn leave(self) -> Result<bool, MemberError> {
        // SAFETY: passed on.
        Ok(unsafe { self.leave_saying() }? == Left::Nobody)
    }

    /// The same, and says who is left.
    ///
    /// # Safety
    ///
    /// As [`leave`](Self::leave).
    pub(crate) unsafe fn leave_saying(mut self) -> Result<Left, MemberError> {
        // SAFETY: once, and `self` is not used through it again.
        unsafe { ManuallyDrop::drop(&mut self.membership) };
        let table = &self.table;
        let mut left = Left::Others;
        let removed = self.segment.unlink_own(|_| {
            if is_empty(table)? {
                left = Left::Nobody;
            } else if is_deserted(table, |_| ())? {
                // Of two that leave at once, the second sees it: its own lock had fallen before.
                left = Left::Dead;
            }
            Ok(left == Left::Nobody)
        });
        match removed {
            Ok(_) => Ok(left),
            // It is another's by now, or nobody's.
            Err(MemberError::Segment(SegmentError::NotFound { .. })) => Ok(Left::Others),
            Err(error) => Err(error),
        }
    }
}

/// Whose records there are when a member has left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Left {
    /// There are none, and the segment is gone.
    Nobody,
    /// None but dead ones'.
    Dead,
    /// Living ones', as it was.
    Others,
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("id", &self.id())
            .field("segment", &self.segment.path())
            .finish_non_exhaustive()
    }
}

/// As much of a name as a [record](ProcessTable::MAX_NAME) has room for.
pub(crate) fn cut(name: &str) -> &str {
    let end = (0..=ProcessTable::MAX_NAME.min(name.len())).rev();
    let end = end.into_iter().find(|at| name.is_char_boundary(*at));
    &name[..end.unwrap_or(0)]
}

/// Takes a domain's segment of members away if none of them is alive, as after a `kill -9` of the
/// last one; says whether it did. What the dead ones had elsewhere in the domain is not touched:
/// whoever recovers that needs their records, and does it before. Afterwards their ids are given
/// out again, and what still names one of them is somebody else's, or nobody's for ever.
///
/// # Errors
///
/// See [`MemberError`]; that there is no such segment is none.
pub fn remove_if_deserted(domain: &Domain) -> Result<bool, MemberError> {
    remove_with(domain, |_| ())
}

/// The same, and shows each id that there was.
fn remove_with(domain: &Domain, each: impl FnMut(OwnerId)) -> Result<bool, MemberError> {
    let options = OpenOptions::new(HEADER);
    let removed = Segment::unlink(domain, &segment_name(), options, |segment| {
        is_deserted(&table(domain, segment)?, each)
    });
    match removed {
        Err(MemberError::Segment(SegmentError::NotFound { .. })) => Ok(false),
        other => other,
    }
}

/// Whether there is no record. Asked while nobody can join.
fn is_empty(table: &ProcessTable<'_>) -> Result<bool, MemberError> {
    Ok(table.verdicts().next().transpose()?.is_none())
}

/// Whether every record there is is a dead one's. Asked while nobody can join.
fn is_deserted(
    table: &ProcessTable<'_>,
    mut each: impl FnMut(OwnerId),
) -> Result<bool, MemberError> {
    for found in table.verdicts() {
        let (id, verdict) = found?;
        each(id);
        // An id that was never given out is damage, and holds nothing.
        if verdict == Verdict::Alive {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What a process that has joined has of the segment. In this order: the record is given back
/// through the table's memory, should the segment not get its name.
struct Entered {
    membership: Membership<'static>,
    table: ProcessTable<'static>,
}

/// Writes the segment of a domain without members.
fn make(
    domain: &Domain,
    segment: &Segment,
    plan: &Plan<'_>,
    records: u32,
    generation: u32,
) -> Result<(), MemberError> {
    let wrong = |error| MemberError::Layout { domain: domain.name().into(), error };
    // Nobody owns it: who goes last unlinks it, and the kernel says who is the last. Until it has
    // its name no id but this one is given out.
    let Some(nobody) = OwnerId::new(0, 1) else { unreachable!("a valid id") };
    // SAFETY: a segment that has no name yet: nobody else knows it.
    let creating = unsafe { layout::Segment::create(segment.region(), plan, nobody) };
    let creating = creating.map_err(wrong)?;
    let part = creating
        .part(TABLE)
        .ok_or(wrong(layout::SegmentError::Impossible("the plan has no table")))?;
    let file = segment.reopen()?;
    // SAFETY: a mapping of that file, which is the segment's, and nobody uses a table there.
    unsafe {
        let file = std::os::fd::AsFd::as_fd(&file);
        ProcessTable::create_after(&part, records, file, generation)
    }?;
    drop(creating.publish());
    Ok(())
}

/// The table in a segment, for no longer than its mapping.
fn table<'s>(domain: &Domain, segment: &'s Segment) -> Result<ProcessTable<'s>, MemberError> {
    let wrong = |error| MemberError::Layout { domain: domain.name().into(), error };
    let found = layout::Segment::attach(segment.region(), &KNOWN).map_err(wrong)?;
    let part = found.require(TABLE).map_err(wrong)?;
    let file = segment.reopen()?;
    // SAFETY: the mapping is one of that file, at its start for everybody; there is one table in
    // a segment of this magic, and members lock no other bytes; who may write to the domain's
    // files is believed to keep the protocol, and they lie in this machine's memory.
    Ok(unsafe { ProcessTable::attach(&part, std::os::fd::AsFd::as_fd(&file)) }?)
}

/// Takes a record for this process.
fn enter(
    domain: &Domain,
    segment: &Segment,
    name: &str,
    role: u32,
) -> Result<Entered, MemberError> {
    // SAFETY: what is made of it outlives neither the closure that this is called by nor, beside
    // the segment in a `Member`, the segment.
    let region = unsafe { segment.lasting() };
    let wrong = |error| MemberError::Layout { domain: domain.name().into(), error };
    let found = layout::Segment::attach(region, &KNOWN).map_err(wrong)?;
    let part = found.require(TABLE).map_err(wrong)?;
    let file = segment.reopen()?;
    // SAFETY: as in `table`.
    let table = unsafe { ProcessTable::attach(&part, std::os::fd::AsFd::as_fd(&file)) }?;
    // SAFETY: `Member` drops it in `leave` alone, whose caller promises the same; and here, where
    // it holds nothing yet.
    let membership = unsafe { table.enrol_as(name, role) }?;
    Ok(Entered { membership, table })
}

fn segment_name() -> SegmentName {
    SegmentName::new(NAME).expect("a name")
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn long_names_are_cut_between_characters() {
        assert_eq!(cut(&"ä".repeat(20)), "ä".repeat(16));
        assert_eq!(cut(&format!("a{}", "ä".repeat(20))), format!("a{}", "ä".repeat(15)));
        assert_eq!((cut("camera"), cut("")), ("camera", ""));
    }
}
