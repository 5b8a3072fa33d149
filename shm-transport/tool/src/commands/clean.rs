//! `shm clean`: removes what the dead left behind, and shows it first.

use crate::cli::{Clean, Global};
use crate::failure::Failure;
use crate::look::{Header, Life, MEMBERS, Members, Seen, Snapshot, short};
use crate::output::{self, BAD, Cell, FAINT, GOOD, HEADING, Report, Table, WARNING};
use serde::Serialize;
use shm_primitives::identity::OwnerId;
use shm_primitives::segment::HEADER;
use shm_primitives::sync::{AtomicU32, Ordering::Relaxed};
use shm_transport::domain::{Domain, SegmentName};
use shm_transport::member;
use shm_transport::segment::{OpenOptions, Segment, SegmentError};
use std::collections::BTreeSet;
use std::io::{self, Write};

/// Bytes of a segment that are read to find its owner.
const GLANCE: u64 = 4096;
/// Where the owner's word stands among the words of a header.
const OWNER: usize = 7;

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
}

/// A domain's segments.
#[derive(Debug, Serialize)]
struct Cleaned {
    domain: String,
    items: Vec<Item>,
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
        let mut items = plan(&domain)?;
        if options.yes {
            carry_out(&domain, &mut items);
        }
        cleaning.domains.push(Cleaned { domain: domain.name().into(), items });
    }
    output::print(global, options.format, &cleaning)?;
    let mut items = cleaning.domains.iter().flat_map(|domain| &domain.items);
    if items.any(|item| item.fate == Fate::Failed) { Err(Failure::Unhealthy) } else { Ok(()) }
}

/// The domains of this user in the directory.
fn own_domains(global: &Global) -> Result<Vec<Domain>, Failure> {
    let mut names = BTreeSet::new();
    for file in Domain::all(&global.directory)? {
        if let Some(domain) = file?.to_domain()
            && domain.group().is_none()
        {
            names.insert(domain.name().to_owned());
        }
    }
    let domain = |name: String| Ok(Domain::new(&name)?.in_directory(&global.directory));
    names.into_iter().map(domain).collect()
}

/// The segments of a domain, and which of them are of the dead. The members are the last.
pub fn plan(domain: &Domain) -> Result<Vec<Item>, Failure> {
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
        items.push(Item { segment, resident: seen.resident, fate: Fate::Kept, why, owner });
    }
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
                format!("the domain has no members: nothing proves its owner {id} dead"),
            ),
            Err(error) => (Fate::Kept, format!("nothing proves its owner {id} dead: {error}")),
        };
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
            (Fate::Kept, "others name its ids and stay".into())
        } else {
            (
                Fate::Dead,
                format!("all of its {} are dead", output::plural(rows.len(), "member", "members")),
            )
        };
    }
    Ok(items)
}

/// Removes what is of the dead.
fn carry_out(domain: &Domain, items: &mut [Item]) {
    let mut failed = false;
    for item in items.iter_mut().filter(|item| item.fate == Fate::Dead) {
        let removed = if item.segment == MEMBERS {
            if failed {
                (item.fate, item.why) = (Fate::Kept, "others name its ids and stay".into());
                continue;
            }
            member::remove_if_deserted(domain).map_err(|error| error.to_string())
        } else {
            remove(domain, item).map_err(|error| error.to_string())
        };
        match removed {
            Ok(true) => item.fate = Fate::Removed,
            Ok(false) => {
                (item.fate, item.why) = (Fate::Kept, "it is somebody else's by now".into());
            }
            Err(error) => {
                failed = true;
                (item.fate, item.why) = (Fate::Failed, error);
            }
        }
    }
}

/// Takes the name of a dead one's segment away, unless it has become another's.
fn remove(domain: &Domain, item: &Item) -> Result<bool, SegmentError> {
    let Some(owner) = item.owner else { return Ok(false) };
    let name = SegmentName::new(&item.segment)?;
    let removed = Segment::unlink(domain, &name, OpenOptions::new(HEADER), |segment| {
        let words = AtomicU32::slice_at(&segment.region(), HEADER / 4);
        let words = words.map_err(|error| segment.refused(error))?;
        // Dead once is dead for ever. Nobody can take the segment over meanwhile but one who has
        // it open already, and that shows in this word.
        Ok::<_, SegmentError>(words[OWNER].load(Relaxed) == owner.word())
    });
    match removed {
        Err(SegmentError::NotFound { .. }) => Ok(true),
        other => other,
    }
}

impl Report for Cleaning {
    fn show(&self, page: &mut dyn Write) -> io::Result<()> {
        for Cleaned { domain, items } in &self.domains {
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
            (true, _, removed) => writeln!(page, "removed {}", said(removed)),
            (false, (0, _), _) => writeln!(page, "nothing of the dead"),
            (false, dead, _) => {
                writeln!(page, "{} of the dead; remove them with --yes", said(dead))
            }
        }
    }
}
