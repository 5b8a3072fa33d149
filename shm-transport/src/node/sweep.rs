//! Putting away what dead nodes left.
//!
//! Whatever a node has names its [`OwnerId`]: its place in the registry, its segment, its pool,
//! its lanes into others' segments. When the kernel has convicted that id, all of it goes: the
//! segments are marked as given up and their names taken away, the place in the registry is free.
//! Receivers take back the lanes themselves, when they have read them; so the pool stays until no
//! lane comes from the dead one any more, and its record in the table of members stays for as long,
//! so that somebody finds it.
//!
//! Several may do this at once, and any of them may die in the middle: each step is done once, by
//! whoever comes first, and the record goes last.
//!
//! A file whose lock somebody has, who may be stopped, stays, with the record of whose it is. All
//! others go, and then the sweep says [`Busy`](SegmentError::Busy). It waits for one lock only:
//! after that one each lock that is not free is too much.

use super::error::NodeError;
use super::mapped::{HEADER, Mapped};
use super::name::{is_node, is_pool, node_of, pool_of};
use super::registry::Registry;
use crate::domain::{Domain, SegmentName};
use crate::liveness::{ProcessTable, Verdict};
use crate::member::{self, JoinOptions, Member, remove_if_deserted};
use crate::segment::{OpenOptions, Segment, SegmentError};
use shm_primitives::identity::{Dead, OwnerId};
use shm_primitives::layout::lrpc::NodeId;
use shm_primitives::segment::{self as layout, Magic};
use std::time::Duration;

/// How segments are opened by one who has nothing else to do.
pub(super) const PATIENT: OpenOptions = OpenOptions::new(HEADER);

/// The role of a member that is a node, or sweeps: only records of such are put away here.
pub(super) const ROLE: u32 = u32::from_be_bytes(*b"NODE");

/// Something that was put away, or would be.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Swept {
    /// A segment of the dead.
    Segment(SegmentName),
    /// A node's place in the registry.
    Place(NodeId),
    /// A record in the table of members.
    Record(OwnerId),
    /// The table of members, of whom none lives.
    Members,
}

/// Puts away what dead nodes of a domain left; what that was. With `dry_run` it only says what it
/// would. Living nodes, be they stopped or silent for however long, are not touched.
///
/// # Errors
///
/// A segment is none of this version, or the kernel refuses: what was put away before stays so. Or
/// somebody has a segment's lock for more than a second: everything else was put away.
pub fn sweep(domain: &Domain, dry_run: bool) -> Result<Vec<Swept>, NodeError> {
    if !domain.path_of(&SegmentName::new(member::NAME)?).exists() {
        return Ok(Vec::new());
    }
    let (mut swept, mut deserted) = sweep_as_member(domain, dry_run)?;
    if !dry_run && !deserted && only_members(domain)? {
        // Records of those that were no nodes, and had nothing that is left.
        deserted = remove_if_deserted(domain)?;
    }
    if deserted {
        swept.push(Swept::Members);
    }
    Ok(swept)
}

/// The same for nodes alone: dead members that were none keep their records. What was put away, and
/// whether there is nobody left.
pub(super) fn sweep_as_member(
    domain: &Domain,
    dry_run: bool,
) -> Result<(Vec<Swept>, bool), NodeError> {
    let member = Member::join_with(domain, "sweep", JoinOptions::new().role(ROLE))?;
    let mut swept = Vec::new();
    let done = sweep_all(domain, &member, dry_run, &mut swept);
    // SAFETY: it holds nothing: what it took over it has released.
    let last = unsafe { member.leave() };
    done?;
    Ok((swept, last?))
}

/// Whether there is nothing in the domain but its table of members.
fn only_members(domain: &Domain) -> Result<bool, NodeError> {
    for name in domain.segments().map_err(|error| listing(domain, error))? {
        let name = name.map_err(|error| listing(domain, error))?;
        if name.as_str() != member::NAME {
            return Ok(false);
        }
    }
    Ok(true)
}

fn sweep_all(
    domain: &Domain,
    member: &Member,
    dry_run: bool,
    swept: &mut Vec<Swept>,
) -> Result<(), NodeError> {
    let table = member.processes();
    let mut verdicts = Vec::new();
    for verdict in table.verdicts() {
        verdicts.push(verdict?);
    }
    let registry = Registry::open(domain)?;
    let mut busy = Busy::new(PATIENT);
    for (_, verdict) in verdicts {
        let Verdict::Dead(dead) = verdict else { continue };
        if !is_ours(table, dead) {
            continue;
        }
        let one = sweep_one(domain, member, registry.as_ref(), dead, dry_run, busy.options, swept);
        busy.note(one)?;
    }
    let orphans = sweep_orphans(domain, member, dry_run, busy.options, swept);
    busy.note(orphans)?;
    if let Some(registry) = registry
        && !dry_run
        && busy.note(registry.remove_if_empty().map_err(NodeError::from))? == Some(true)
    {
        swept.push(Swept::Segment(super::registry::name()));
    }
    busy.said()
}

/// What could not be done because somebody had a lock, while everything else is done.
struct Busy {
    /// Without patience once there is such.
    options: OpenOptions,
    first: Option<NodeError>,
}

impl Busy {
    fn new(options: OpenOptions) -> Self {
        Self { options, first: None }
    }

    /// `None` if it was not done for that.
    fn note<T>(&mut self, done: Result<T, NodeError>) -> Result<Option<T>, NodeError> {
        match done {
            Ok(done) => Ok(Some(done)),
            Err(error) if is_busy(&error) => {
                self.options = self.options.patience(Duration::ZERO);
                self.first.get_or_insert(error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn said(self) -> Result<(), NodeError> {
        self.first.map_or(Ok(()), Err)
    }
}

/// Whether it says that somebody has a lock.
pub(super) fn is_busy(error: &NodeError) -> bool {
    matches!(error, NodeError::Segment(SegmentError::Busy { .. }))
}

/// Puts away what all the dead left if nobody but `member` lives: nobody will come to do it.
pub(super) fn sweep_if_last(
    domain: &Domain,
    member: &Member,
    registry: &Registry,
) -> Result<(), NodeError> {
    let table = member.processes();
    let mut dead = Vec::new();
    for verdict in table.verdicts() {
        match verdict? {
            (id, _) if id == member.id() => {}
            (_, Verdict::Dead(one)) => dead.push(one),
            _ => return Ok(()),
        }
    }
    let mut busy = Busy::new(PATIENT);
    for dead in dead.into_iter().filter(|dead| is_ours(table, *dead)) {
        let swept = &mut Vec::new();
        let one = sweep_one(domain, member, Some(registry), dead, false, busy.options, swept);
        busy.note(one)?;
    }
    busy.said()
}

/// Puts away segments of those that have no record any more: they left, and could not take a
/// segment's name away, since somebody held its lock for too long.
fn sweep_orphans(
    domain: &Domain,
    member: &Member,
    dry_run: bool,
    options: OpenOptions,
    swept: &mut Vec<Swept>,
) -> Result<(), NodeError> {
    let table = member.processes();
    let mut busy = Busy::new(options);
    for name in domain.segments().map_err(|error| listing(domain, error))? {
        let Ok(name) = name else { continue };
        let magic = match (is_node(&name), is_pool(&name)) {
            (true, _) => Magic::NODE,
            (_, true) => super::chunks::MAGIC,
            _ => continue,
        };
        let owner = owner_in(domain, &name, magic, busy.options).map_err(NodeError::from);
        let Some(owner) = busy.note(owner)?.flatten() else { continue };
        if table.has_records_of(owner) {
            continue;
        }
        let Verdict::Dead(dead) = table.convict(owner)? else { continue };
        if is_pool(&name) {
            let is_read = is_read_from(domain, member, owner, busy.options);
            if busy.note(is_read)?.unwrap_or(true) {
                continue;
            }
        }
        let unlinked = unlink(domain, &name, magic, dead, dry_run, busy.options);
        if busy.note(unlinked)? == Some(true) {
            swept.push(Swept::Segment(name));
        }
    }
    busy.said()
}

/// Whether it is for nodes to put away what `dead` left: it was one, or died before its record said
/// anything, with nothing but that.
pub(super) fn is_ours(table: &ProcessTable<'_>, dead: Dead<OwnerId>) -> bool {
    // Busy: it died while it wrote its record.
    table.process(dead.id()).ok().flatten().is_none_or(|process| process.role == ROLE)
}

/// Puts away what one dead node left. Says in `swept` what that was; false if something has to
/// stay for now. If somebody has a lock it says so when everything else is put away.
pub(super) fn sweep_one(
    domain: &Domain,
    member: &Member,
    registry: Option<&Registry>,
    dead: Dead<OwnerId>,
    dry_run: bool,
    options: OpenOptions,
    swept: &mut Vec<Swept>,
) -> Result<bool, NodeError> {
    if !member.processes().has_records_of(dead.id()) {
        // The record goes last, so that somebody else has done all of it.
        return Ok(true);
    }
    let mut remains = false;
    let mut busy = Busy::new(options);
    let pool = pool_of(dead.id());
    if domain.path_of(&pool).exists() {
        let is_read = is_read_from(domain, member, dead.id(), options);
        if busy.note(is_read)?.unwrap_or(true) {
            remains = true;
        } else {
            let magic = super::chunks::MAGIC;
            let unlinked = unlink(domain, &pool, magic, dead, dry_run, options);
            if busy.note(unlinked)? == Some(true) {
                swept.push(Swept::Segment(pool));
            }
        }
    }
    for name in domain.segments().map_err(|error| listing(domain, error))? {
        let Ok(name) = name else { continue };
        if !is_node(&name) {
            continue;
        }
        let owner = owner_in(domain, &name, Magic::NODE, busy.options).map_err(NodeError::from);
        if busy.note(owner)?.flatten() != Some(dead.id()) {
            continue;
        }
        let unlinked = unlink(domain, &name, Magic::NODE, dead, dry_run, busy.options);
        if busy.note(unlinked)? == Some(true) {
            swept.push(Swept::Segment(name));
        }
    }
    if let Some(registry) = registry {
        let table = registry.layout().registry();
        let gone = |name| swept.push(Swept::Place(name));
        if dry_run {
            registry
                .nodes()
                .filter(|node| node.owner == dead.id())
                .map(|node| node.id)
                .for_each(gone);
        } else if let Ok(recovery) = table.recover(dead, member.id()) {
            let names = recovery.filter_map(|slot| slot.entry().and_then(|entry| entry.id().ok()));
            names.for_each(gone);
        }
    }
    busy.said()?;
    if remains {
        return Ok(false);
    }
    let cleared = if dry_run { 1 } else { member.processes().clear(dead, member.membership())? };
    if cleared > 0 {
        swept.push(Swept::Record(dead.id()));
    }
    Ok(true)
}

/// Whether any node of the domain has a lane from `sender`. A node that cannot be asked may have.
fn is_read_from(
    domain: &Domain,
    member: &Member,
    sender: OwnerId,
    options: OpenOptions,
) -> Result<bool, NodeError> {
    for name in domain.segments().map_err(|error| listing(domain, error))? {
        let Some(id) = name.ok().as_ref().and_then(node_of) else { continue };
        let opened = Mapped::open(domain, &id, options, Unasked::of, |_, layout| {
            Ok((layout.node(), layout.lanes().any_from(sender)))
        });
        let reader = match opened {
            Ok((_, (node, true))) => node,
            Ok((_, (_, false))) | Err(Unasked::ReadsNothing) => continue,
            Err(Unasked::MayRead(Some(node))) => node,
            Err(Unasked::MayRead(None)) => return Ok(true),
            Err(Unasked::Segment(error)) if is_no_node_s(&error) => continue,
            Err(Unasked::Segment(error)) => return Err(error.into()),
        };
        // The lanes of a dead receiver are read by nobody.
        if !matches!(member.processes().convict(reader)?, Verdict::Dead(_)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A receiver that does not say from whom it reads.
enum Unasked {
    /// It is gone, on its way, or none.
    ReadsNothing,
    /// This version does not understand what there is. Whose it is, if that is to be seen.
    MayRead(Option<OwnerId>),
    Segment(SegmentError),
}

impl Unasked {
    fn of(segment: &Segment, error: layout::SegmentError) -> Self {
        use layout::SegmentError::{Closing, GivenUp, WrongMagic};
        if let Closing { .. } | GivenUp { .. } | WrongMagic { .. } = error {
            return Self::ReadsNothing;
        }
        match layout::owner_of(&segment.region(), Magic::NODE) {
            Ok(None) => Self::ReadsNothing,
            Ok(owner) => Self::MayRead(owner),
            Err(_) => Self::MayRead(None),
        }
    }
}

impl From<SegmentError> for Unasked {
    fn from(error: SegmentError) -> Self {
        Self::Segment(error)
    }
}

/// Whose a segment is: asked before it is locked. `None` if it is nobody's, gone, or no segment.
fn owner_in(
    domain: &Domain,
    name: &SegmentName,
    magic: Magic,
    options: OpenOptions,
) -> Result<Option<OwnerId>, SegmentError> {
    let found = Segment::open(domain, name, options, |segment| {
        Ok::<_, SegmentError>(layout::owner_of(&segment.region(), magic).ok().flatten())
    });
    match found {
        Ok((_, owner)) => Ok(owner),
        Err(error) if is_no_node_s(&error) => Ok(None),
        // Whose it is is not known, so that nothing may be forgotten yet.
        Err(error) => Err(error),
    }
}

/// Whether a file with a node's name is none of this domain's nodes': gone, no segment, or not for
/// this user to look into.
fn is_no_node_s(error: &SegmentError) -> bool {
    matches!(
        error,
        SegmentError::NotFound { .. }
            | SegmentError::TooShort { .. }
            | SegmentError::NotWholePages { .. }
            | SegmentError::NotASegment { .. }
            | SegmentError::NotAFile { .. }
            | SegmentError::NotOurs { .. }
            | SegmentError::NotOurGroup { .. }
            | SegmentError::WrongMode { .. }
    )
}

/// Takes the name of a segment away if it is `dead`'s. Before that it says in it that it is given
/// up: who had a lane there, and has not heard of the death, sees it before it sends, and so before
/// another can have the name. Who dies between both leaves a segment of the dead one's.
pub(super) fn unlink(
    domain: &Domain,
    name: &SegmentName,
    magic: Magic,
    dead: Dead<OwnerId>,
    dry_run: bool,
    options: OpenOptions,
) -> Result<bool, NodeError> {
    let mut found = false;
    let removed = Segment::unlink(domain, name, options, |segment| {
        // Of any version. Whatever else it is, it is not known to be the dead one's.
        found = if dry_run {
            layout::owner_of(&segment.region(), magic) == Ok(Some(dead.id()))
        } else {
            layout::give_up(&segment.region(), magic, dead) == Ok(true)
        };
        Ok::<_, SegmentError>(found && !dry_run)
    });
    match removed {
        Ok(removed) => Ok(removed || found),
        // Another was faster; or it is no segment, and stays.
        Err(
            SegmentError::NotFound { .. }
            | SegmentError::TooShort { .. }
            | SegmentError::NotWholePages { .. },
        ) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn listing(domain: &Domain, error: std::io::Error) -> NodeError {
    SegmentError::Os { path: domain.directory().into(), operation: "list", source: error }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::node::Node;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    fn join(domain: &Domain, name: &str) -> Node {
        let builder = Node::builder(name).config(Config::default());
        builder.in_domain(domain.clone()).join().unwrap()
    }

    /// A receiver that this version cannot ask may have lanes from anybody, for as long as it lives.
    #[test]
    fn one_that_cannot_be_asked_may_read() {
        /// Where the header has these words.
        const MAGIC: u64 = 0;
        const MIN_READER: u64 = 16;
        const STATE: u64 = 20;
        const OWNER: u64 = 28;
        let domain = Domain::new(&format!("unit-asked-{}", std::process::id())).unwrap();
        let [there, here] = ["there", "here"].map(|name| join(&domain, name));
        let gone = join(&domain, "gone");
        gone.leave().unwrap();
        let gone = gone.shared.owner.word();
        let member = here.shared.member().unwrap();
        let file = domain.path_of(&crate::node::name::segment_of(there.id()));
        let file = File::options().read(true).write(true).open(file).unwrap();
        // Whether anybody reads from one that has no lane, with these words there.
        let asked = |words: &[(u64, u32)]| {
            let before: Vec<_> = words
                .iter()
                .map(|(at, word)| {
                    let mut before = [0; 4];
                    file.read_exact_at(&mut before, *at).unwrap();
                    file.write_all_at(&word.to_le_bytes(), *at).unwrap();
                    before
                })
                .collect();
            let found = is_read_from(&domain, &member, here.shared.owner, PATIENT);
            for ((at, _), before) in words.iter().zip(before) {
                file.write_all_at(&before, *at).unwrap();
            }
            found.unwrap()
        };
        let later = (MIN_READER, 99);
        assert!(!asked(&[]));
        assert!(asked(&[later]), "of a later version");
        assert!(asked(&[(STATE, 99)]), "damaged");
        assert!(asked(&[later, (OWNER, u32::MAX)]), "nobody knows whose");
        assert!(!asked(&[later, (OWNER, 0)]), "nobody's");
        assert!(!asked(&[later, (OWNER, gone)]), "one's that is gone");
        assert!(!asked(&[(MAGIC, 99)]), "something else");
        drop(member);
    }
}
