//! `shm clean`: removes what the dead left behind, and shows it first.

use crate::cli::{Clean, Global};
use crate::failure::Failure;
use crate::look::{
    self, Header, Life, LookError, MEMBERS, Members, NodeRow, REGISTRY, Seen, ServiceFiles,
    Snapshot, short,
};
use crate::output::{self, BAD, Cell, FAINT, GOOD, HEADING, Report, Table, WARNING};
use serde::Serialize;
use shm_primitives::identity::OwnerId;
use shm_primitives::segment::HEADER;
use shm_primitives::sync::{AtomicU32, Ordering::Relaxed};
use shm_transport::domain::{Domain, SegmentName};
use shm_transport::node::sweep::{Swept, sweep};
use shm_transport::segment::{OpenOptions, Segment, SegmentError};
use shm_transport::service::view::{self, Part, part_of};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

/// Bytes of a segment that are read to find its owner.
const GLANCE: u64 = 4096;
/// Where the owner's word stands among the words of a header.
const OWNER: usize = 7;
/// Why the members stay.
const OTHERS_STAY: &str = "others name its ids and stay";

/// What is to become of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// It is of the dead, and goes.
    Dead,
    /// It stays.
    Kept,
    /// It was removed.
    Removed,
    /// It should have been, and was not.
    Failed,
}

/// A segment, and what is to become of it.
#[derive(Debug, Serialize)]
pub struct Item {
    pub segment: String,
    pub resident: u64,
    pub fate: Fate,
    pub why: String,
    #[serde(skip)]
    owner: Option<OwnerId>,
    /// The service that goes as a whole, or not at all.
    #[serde(skip)]
    service: Option<String>,
    /// Which file it is.
    #[serde(skip)]
    inode: u64,
}

/// A domain's segments.
#[derive(Debug, Serialize)]
struct Cleaned {
    domain: String,
    items: Vec<Item>,
    /// What else was put away.
    also: Vec<String>,
}

/// All that is shown.
#[derive(Debug, Serialize)]
struct Cleaning {
    /// Whether it was done, or only said.
    done: bool,
    domains: Vec<Cleaned>,
}

/// Shows what is of the dead, and removes it if asked to.
pub fn run(global: &Global, options: &Clean) -> Result<(), Failure> {
    let domains = if options.all { own_domains(global)? } else { vec![global.domain()?] };
    let mut cleaning = Cleaning { done: options.yes, domains: Vec::new() };
    for domain in domains {
        let (mut items, mut also) = (plan(&domain, options.letters)?, Vec::new());
        if options.yes {
            also = carry_out(&domain, &mut items);
        }
        cleaning.domains.push(Cleaned { domain: domain.name().into(), items, also });
    }
    output::print(global, options.format, &cleaning)?;
    let mut items = cleaning.domains.iter().flat_map(|domain| &domain.items);
    if items.any(|item| item.fate == Fate::Failed) { Err(Failure::Unhealthy) } else { Ok(()) }
}

/// Removes all that the dead left in a domain, dead letters too, as far as that is possible now.
pub fn remove_dead(domain: &Domain) {
    match plan(domain, true) {
        Ok(mut items) => drop(carry_out(domain, &mut items)),
        Err(_) => drop(sweep(domain, false)),
    }
}

/// The domains of this user in the directory.
fn own_domains(global: &Global) -> Result<Vec<Domain>, Failure> {
    let directory = global.directory()?;
    let mut names = BTreeSet::new();
    for file in Domain::all(&directory)? {
        if let Some(domain) = file?.to_domain()
            && domain.group().is_none()
        {
            names.insert(domain.name().to_owned());
        }
    }
    let domain = |name: String| Ok(Domain::new(&name)?.in_directory(&directory));
    names.into_iter().map(domain).collect()
}

/// The segments of a domain, and which of them are of the dead; with `letters` also dead letters
/// that nobody keeps. The members are the last.
pub fn plan(domain: &Domain, letters: bool) -> Result<Vec<Item>, Failure> {
    let directory = domain.directory();
    let segments = domain.segments().map_err(|error| {
        Failure::because(format!("cannot read {}: {error}", directory.display()))
    })?;
    let mut items = Vec::new();
    for name in segments {
        let name = name?;
        let path = domain.path_of(&name);
        let Ok(seen) = Seen::at(&path) else { continue };
        let header = Snapshot::limited(&path, GLANCE).and_then(|copy| Header::of(&copy));
        let (owner, why) = match &header {
            Ok(header) => (header.owner(), "nobody owns it".into()),
            Err(error) if error.is_not_found() => continue,
            Err(error) => (None, error.to_string()),
        };
        let segment = name.as_str().to_owned();
        let Seen { resident, inode, .. } = seen;
        items.push(Item { segment, resident, fate: Fate::Kept, why, owner, service: None, inode });
    }
    let services = services(domain)?;
    let owners: BTreeMap<_, _> =
        services.iter().map(|(name, files)| (name, files.owners())).collect();
    // After all that names an id.
    let path = domain.path_of(&SegmentName::new(MEMBERS)?);
    let members = Members::at(&path);
    for item in items.iter_mut().filter(|item| item.segment != MEMBERS) {
        let Some(owner) = item.owner else { continue };
        let id = short(owner);
        (item.fate, item.why) = match &members {
            Ok(Some(members)) => match members.life(owner) {
                Life::Alive => (Fate::Kept, format!("its owner {id} lives")),
                Life::Dead => (Fate::Dead, format!("its owner {id} is dead")),
                Life::Unknown => (Fate::Kept, format!("its owner {id} is no member of the domain")),
            },
            Ok(None) => (
                Fate::Kept,
                format!(
                    "the domain has no members: nothing proves its owner {id} dead; remove the \
                     file if no process of the domain runs"
                ),
            ),
            Err(error) => (Fate::Kept, format!("nothing proves its owner {id} dead: {error}")),
        };
    }
    for (name, files) in &services {
        let found = owners[name].as_ref().map(Vec::as_slice).map_err(ToString::to_string);
        let living = living(found, members.as_ref().ok().and_then(Option::as_ref));
        plan_service(&mut items, name, files, &living, letters);
    }
    if let Some(item) = items.iter_mut().find(|item| item.segment == REGISTRY) {
        let nodes = look::nodes(&domain.path_of(&SegmentName::new(REGISTRY)?));
        (item.fate, item.why) = registry(nodes, members.as_ref().ok().and_then(Option::as_ref));
    }
    items.sort_by_key(|item| (item.segment == MEMBERS, item.segment.clone()));
    let others_stay = items.iter().any(|item| item.segment != MEMBERS && item.fate == Fate::Kept);
    if let (Some(item), Ok(Some(members))) = (items.last_mut(), &members)
        && item.segment == MEMBERS
    {
        let rows = members.rows();
        let alive = rows.iter().filter(|row| row.state == Life::Alive).count();
        (item.fate, item.why) = if alive > 0 {
            (Fate::Kept, output::plural(alive, "member lives", "members live"))
        } else if others_stay {
            (Fate::Kept, OTHERS_STAY.into())
        } else {
            let dead = output::plural(rows.len(), "member is dead", "members are dead");
            (Fate::Dead, dead)
        };
    }
    Ok(items)
}

/// The services of a domain.
fn services(domain: &Domain) -> io::Result<BTreeMap<String, ServiceFiles>> {
    let found = domain.segments()?.flatten().map(|name| {
        let path = domain.path_of(&name);
        (name, path)
    });
    Ok(ServiceFiles::among(found))
}

/// Why a service is not a dead one: who of it lives; `None` if nobody does.
fn living(owners: Result<&[OwnerId], String>, members: Option<&Members>) -> Option<String> {
    let owners = match owners {
        Ok(owners) => owners,
        Err(error) => return Some(error),
    };
    let Some(members) = members else {
        return owners.first().map(|_| "the domain has no members: nothing proves it dead".into());
    };
    let of = |life| owners.iter().filter(|owner| members.life(**owner) == life).count();
    match (of(Life::Alive), of(Life::Unknown)) {
        (0, 0) => None,
        (0, unknown) => {
            let are = output::plural(unknown, "process is", "processes are");
            Some(format!("{are} in it that the domain never had"))
        }
        (alive, _) => Some(output::plural(alive, "process of it lives", "processes of it live")),
    }
}

/// What is to become of a service's segments: all of them are left to its processes while there is
/// one, for it serves on without a supervisor, and the next server goes on with it.
fn plan_service(
    items: &mut [Item],
    name: &str,
    files: &ServiceFiles,
    living: &Option<String>,
    letters: bool,
) {
    let service = output::harmless(name);
    for item in items {
        let part = SegmentName::new(&item.segment).ok().and_then(|name| part_of(&name));
        let Some((found, part)) = part else { continue };
        if found != name {
            continue;
        }
        if part == Part::Letters {
            (item.fate, item.why) = match (living, files.letters.as_deref().map(look::letters)) {
                (Some(living), _) => (Fate::Kept, format!("service {service}: {living}")),
                (None, Some(Ok(Some(found)))) if !found.is_empty() && !letters => {
                    let found = output::plural(found.len(), "dead letter", "dead letters");
                    (Fate::Kept, format!("{found}: see `shm dlq`; they go with --letters"))
                }
                (None, Some(Ok(_))) => (Fate::Dead, format!("nobody keeps letters of {service}")),
                (None, Some(Err(error))) => (Fate::Kept, error.to_string()),
                (None, None) => continue,
            };
        } else if files.control.is_some() {
            item.service = Some(name.into());
            (item.fate, item.why) = match living {
                Some(living) => (Fate::Kept, format!("service {service}: {living}")),
                None => (Fate::Dead, format!("nobody of service {service} lives")),
            };
        }
        // What is left of a service that is gone is judged by its owner alone.
    }
}

/// Removes what there is of a dead service but its letters, the control segment last: while its
/// lock is held no server, worker or client can come in.
fn remove_service(domain: &Domain, name: &str) -> Result<bool, Failure> {
    let is_dead = || -> Result<bool, Failure> {
        let files = services(domain)?.remove(name).unwrap_or_default();
        let owners = files.owners()?;
        let members = Members::at(&domain.path_of(&SegmentName::new(MEMBERS)?))?;
        Ok(living(Ok(&owners), members.as_ref()).is_none())
    };
    let unlink = |part, may_go: &dyn Fn() -> Result<bool, Failure>| {
        let segment = view::segment_of(name, part)?;
        let removed =
            Segment::unlink(domain, &segment, OpenOptions::new(HEADER), |_| match may_go() {
                Ok(may_go) => Ok::<_, Removing>(may_go),
                Err(failure) => Err(Removing::Failed(failure)),
            });
        match removed {
            Ok(removed) => Ok(removed),
            Err(Removing::Segment(SegmentError::NotFound { .. })) => Ok(true),
            Err(Removing::Segment(error)) => Err(error.into()),
            Err(Removing::Failed(failure)) => Err(failure),
        }
    };
    unlink(Part::Control, &|| {
        // Clients come in by the bells: once more, under their lock. There may be none.
        if !is_dead()? || !unlink(Part::Bells, &is_dead)? {
            return Ok(false);
        }
        for segment in domain.segments()?.flatten() {
            match part_of(&segment) {
                Some((found, part @ Part::Client { .. })) if found == name => {
                    unlink(part, &|| Ok(true))?;
                }
                _ => {}
            }
        }
        Ok(true)
    })
}

/// Why a segment of a service was not removed.
enum Removing {
    Segment(SegmentError),
    Failed(Failure),
}

impl From<SegmentError> for Removing {
    fn from(error: SegmentError) -> Self {
        Self::Segment(error)
    }
}

/// What is to become of the registry, which nobody owns.
fn registry(
    nodes: Result<Option<Vec<NodeRow>>, LookError>,
    members: Option<&Members>,
) -> (Fate, String) {
    let (mut nodes, members) = match (nodes, members) {
        (Ok(nodes), Some(members)) => (nodes.unwrap_or_default(), members),
        (Ok(_), None) => {
            return (Fate::Kept, "the domain has no members: nothing proves its nodes dead".into());
        }
        (Err(error), _) => return (Fate::Kept, error.to_string()),
    };
    nodes.iter_mut().for_each(|node| node.judge(members));
    let of = |life| nodes.iter().filter(|node| node.state == life).count();
    let (alive, dead) = (of(Life::Alive), of(Life::Dead));
    let lives = output::plural(alive, "node lives", "nodes live");
    match (alive + of(Life::Unknown), dead) {
        (0, 0) => (Fate::Dead, "nobody is in it".into()),
        (0, _) => (Fate::Dead, output::plural(dead, "node is dead", "nodes are dead")),
        (_, 0) => (Fate::Kept, lives),
        (_, _) => (Fate::Kept, format!("{lives}; the places of {dead} dead ones go")),
    }
}

/// Whether it is of a node, which the library knows how to put away.
fn is_node_s(segment: &str) -> bool {
    segment == REGISTRY || segment.starts_with("node.") || segment.starts_with("pool.")
}

/// Removes what is of the dead; says what else was put away.
fn carry_out(domain: &Domain, items: &mut [Item]) -> Vec<String> {
    let dead = |item: &&mut Item| item.fate == Fate::Dead;
    let mut failed = false;
    let dead_services: BTreeSet<_> = items
        .iter()
        .filter(|item| item.fate == Fate::Dead)
        .filter_map(|it| it.service.clone())
        .collect();
    for service in dead_services {
        let removed = remove_service(domain, &service);
        failed |= removed.is_err();
        let of_it = items.iter_mut().filter(|item| item.service.as_ref() == Some(&service));
        for item in of_it {
            match &removed {
                _ if !is_there(domain, item) => item.fate = Fate::Removed,
                Ok(_) => (item.fate, item.why) = (Fate::Kept, "somebody came meanwhile".into()),
                Err(error) => {
                    let why = error.message().unwrap_or_default();
                    (item.fate, item.why) = (Fate::Failed, why);
                }
            }
        }
    }
    for item in items.iter_mut().filter(dead) {
        if item.segment == MEMBERS || is_node_s(&item.segment) {
            continue;
        }
        match remove(domain, item) {
            Ok(true) => item.fate = Fate::Removed,
            Ok(false) => (item.fate, item.why) = (Fate::Kept, "it is another's by now".into()),
            Err(error) => {
                failed = true;
                (item.fate, item.why) = (Fate::Failed, error.to_string());
            }
        }
    }
    if failed {
        // The members are the last to go, and the library would take them away with the nodes.
        for item in items.iter_mut().filter(|item| item.fate == Fate::Dead) {
            (item.fate, item.why) = (Fate::Kept, OTHERS_STAY.into());
        }
        return Vec::new();
    }
    let mut also = Vec::new();
    // Before the sweep, which takes the members away with the last of them.
    for id in view::clear_records(domain).unwrap_or_default() {
        also.push(record(id));
    }
    let swept = sweep(domain, false);
    for swept in swept.iter().flatten() {
        match swept {
            Swept::Place(name) => also.push(format!("the place of {name} in the registry")),
            Swept::Record(id) => also.push(record(*id)),
            // Shown by their names.
            _ => {}
        }
    }
    for item in items.iter_mut().filter(dead) {
        match (&swept, is_there(domain, item)) {
            (_, false) => item.fate = Fate::Removed,
            (Err(error), true) => (item.fate, item.why) = (Fate::Failed, error.to_string()),
            (Ok(_), true) => {
                let why = match &*item.segment {
                    MEMBERS | REGISTRY => "somebody came meanwhile",
                    name if name.starts_with("pool.") => "somebody still reads what is in it",
                    _ => "it is another's by now",
                };
                (item.fate, item.why) = (Fate::Kept, why.into());
            }
        }
    }
    also
}

fn record(id: OwnerId) -> String {
    format!("the record of member {}", short(id))
}

/// Whether the segment that was found is still there.
fn is_there(domain: &Domain, item: &Item) -> bool {
    let Ok(name) = SegmentName::new(&item.segment) else { return false };
    Seen::at(&domain.path_of(&name)).is_ok_and(|seen| seen.inode == item.inode)
}

/// Takes the name of a dead one's segment away, unless it has become another's.
fn remove(domain: &Domain, item: &Item) -> Result<bool, SegmentError> {
    let owner = item.owner.map_or(0, OwnerId::word);
    let name = SegmentName::new(&item.segment)?;
    let removed = Segment::unlink(domain, &name, OpenOptions::new(HEADER), |segment| {
        let words = AtomicU32::slice_at(&segment.region(), HEADER / 4);
        let words = words.map_err(|error| segment.refused(error))?;
        // Dead once is dead for ever. Nobody can take the segment over meanwhile but one who has
        // it open already, and that shows in this word.
        Ok::<_, SegmentError>(words[OWNER].load(Relaxed) == owner)
    });
    match removed {
        Err(SegmentError::NotFound { .. }) => Ok(true),
        other => other,
    }
}

impl Report for Cleaning {
    fn show(&self, page: &mut dyn Write) -> io::Result<()> {
        for Cleaned { domain, items, also } in &self.domains {
            if items.is_empty() {
                writeln!(page, "{HEADING}domain {domain}{HEADING:#}: nothing there")?;
                continue;
            }
            writeln!(page, "{HEADING}domain {domain}{HEADING:#}")?;
            let mut table = Table::new(["SEGMENT", "RESIDENT", "", "WHY"]);
            for Item { segment, resident, fate, why, .. } in items {
                let (text, style) = match fate {
                    Fate::Dead => ("to be removed", WARNING),
                    Fate::Kept => ("kept", FAINT),
                    Fate::Removed => ("removed", GOOD),
                    Fate::Failed => ("FAILED", BAD),
                };
                table.row([
                    Cell::new(segment),
                    Cell::number(output::bytes(*resident)),
                    Cell::new(text).style(style),
                    Cell::new(why),
                ]);
            }
            table.show(page)?;
            for also in also {
                writeln!(page, "  {GOOD}removed{GOOD:#} {}", output::harmless(also))?;
            }
        }
        let items = || self.domains.iter().flat_map(|domain| &domain.items);
        let sum = |fate| -> (usize, u64) {
            let found = items().filter(|item| item.fate == fate);
            found.fold((0, 0), |(count, bytes), item| (count + 1, bytes + item.resident))
        };
        let said = |(count, bytes): (usize, u64)| {
            format!(
                "{} with {}",
                output::plural(count, "segment", "segments"),
                output::bytes(bytes)
            )
        };
        match (self.done, sum(Fate::Dead), sum(Fate::Removed)) {
            (true, _, (0, _)) => writeln!(page, "nothing was removed"),
            (true, _, removed) => writeln!(page, "removed {}", said(removed)),
            (false, (0, _), _) => writeln!(page, "nothing of the dead"),
            (false, dead, _) => {
                writeln!(page, "{} of the dead; remove them with --yes", said(dead))
            }
        }
    }
}
