//! `shm list`: what there is.

use crate::cli::{Global, List};
use crate::failure::Failure;
use crate::look::{
    Header, Life, LookError, MEMBERS, MemberRow, Members, NodeRow, REGISTRY, Seen, ServiceFiles,
    ServiceNow, Snapshot, WorkerNow, nodes, service, short,
};
use crate::output::{self, BAD, Cell, FAINT, GOOD, HEADING, Report, Table, WARNING};
use serde::Serialize;
use shm_primitives::identity::OwnerId;
use shm_transport::domain::{Domain, DomainFile, Whose};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

/// Bytes of a segment that are read for a list: its header.
const GLANCE: u64 = 4096;

/// All that is shown.
#[derive(Debug, Serialize)]
pub struct Listing {
    directory: PathBuf,
    domains: Vec<DomainRow>,
}

/// One domain.
#[derive(Debug, Serialize)]
struct DomainRow {
    name: String,
    /// The number of the user it is for, or `g` and the group's.
    whose: String,
    segments: Vec<SegmentRow>,
    members: Vec<MemberRow>,
    nodes: Vec<NodeRow>,
    services: Vec<ServiceNow>,
    /// What could not be looked at, or is not as it should be.
    notes: Vec<String>,
}

/// One segment.
#[derive(Debug, Serialize)]
struct SegmentRow {
    name: String,
    /// Its magic, if it is a segment.
    kind: Option<String>,
    state: &'static str,
    /// The id of its owner, if it has one.
    owner: Option<String>,
    owner_state: Option<Life>,
    /// Bytes it is long.
    size: u64,
    /// Bytes of memory that it takes.
    resident: u64,
    #[serde(skip)]
    owner_id: Option<OwnerId>,
}

/// Shows the domains.
pub fn run(global: &Global, options: &List) -> Result<(), Failure> {
    let directory = &global.directory()?;
    let files = Domain::all(directory).map_err(|error| {
        Failure::because(format!(
            "cannot read {directory:?}: {error}; mount a tmpfs there, or name another directory"
        ))
    })?;
    let mut domains = BTreeMap::<(Whose, Box<str>), Vec<DomainFile>>::new();
    for file in files {
        let file = file.map_err(|error| Failure::because(format!("{directory:?}: {error}")))?;
        let group = global.group.map(Whose::Group);
        let wanted = global.domain.as_deref().is_none_or(|name| *file.domain == *name)
            && group.is_none_or(|group| file.whose == group);
        if wanted {
            domains.entry((file.whose, file.domain.clone())).or_default().push(file);
        }
    }
    let nothing = domains.is_empty();
    let domains = domains.into_iter().map(|((whose, name), files)| look(whose, &name, files));
    let listing = Listing { directory: directory.clone(), domains: domains.collect() };
    output::print(global, options.format, &listing)?;
    match &global.domain {
        Some(name) if nothing => Err(Failure::Nothing(format!(
            "there is no segment of domain {name:?} in {directory:?}: start whoever makes one, or \
             list all domains without --domain"
        ))),
        _ => Ok(()),
    }
}

fn look(whose: Whose, name: &str, mut files: Vec<DomainFile>) -> DomainRow {
    files.sort();
    let mut notes = Vec::new();
    let mut segments: Vec<_> = files.iter().filter_map(|file| segment(file, &mut notes)).collect();
    let of = |name: &str| files.iter().find(|file| file.segment.as_str() == name);
    let mut nodes = match of(REGISTRY).map(|file| nodes(&file.path)) {
        Some(Ok(found)) => found.unwrap_or_default(),
        Some(Err(error)) => {
            note(&mut notes, &error);
            Vec::new()
        }
        None => Vec::new(),
    };
    let found = files.iter().map(|file| (file.segment.clone(), file.path.clone()));
    let mut errors = Vec::new();
    let mut services: Vec<_> = ServiceFiles::among(found)
        .iter()
        .filter_map(|(name, files)| service(name, files, &mut errors))
        .collect();
    errors.iter().for_each(|error| note(&mut notes, error));
    // After everything that names an id.
    let members = match of(MEMBERS).map(|file| Members::at(&file.path)) {
        Some(Ok(found)) => found,
        Some(Err(error)) => {
            note(&mut notes, &error);
            None
        }
        None => None,
    };
    if let Some(members) = &members {
        for segment in &mut segments {
            segment.owner_state = segment.owner_id.map(|id| members.life(id));
        }
        for node in &mut nodes {
            node.judge(members);
        }
        for service in &mut services {
            service.judge(members);
        }
    }
    let members = members.map_or_else(Vec::new, |members| members.rows());
    let (name, whose) = (name.into(), whose.to_string());
    DomainRow { name, whose, segments, members, nodes, services, notes }
}

/// One segment's row; `None` if it is gone by now.
fn segment(file: &DomainFile, notes: &mut Vec<String>) -> Option<SegmentRow> {
    let seen = match Seen::at(&file.path) {
        Ok(seen) => seen,
        Err(error) => {
            if !error.is_not_found() {
                note(notes, &error);
            }
            return None;
        }
    };
    let header = Snapshot::limited(&file.path, GLANCE).and_then(|copy| Header::of(&copy));
    let mut state = "foreign";
    let header = match header {
        Ok(header) => Some(header),
        Err(LookError::Denied { owner, .. }) => {
            state = "unreadable";
            denied(notes, owner);
            None
        }
        Err(error) if error.is_not_found() => return None,
        Err(error) => {
            note(notes, &error);
            None
        }
    };
    if let Whose::User(user) = file.whose
        && user != seen.user
    {
        let segment = &file.segment;
        notes.push(format!("{segment} belongs to user {}: nobody believes it", seen.user));
    }
    // Nobody owns the members, though an id stands there.
    let owner =
        header.as_ref().and_then(Header::owner).filter(|_| file.segment.as_str() != MEMBERS);
    Some(SegmentRow {
        name: file.segment.to_string(),
        kind: header.as_ref().map(|header| header.magic.to_string().replace('"', "")),
        state: header.as_ref().map_or(state, Header::state_text),
        owner: owner.map(short),
        owner_state: owner.map(|_| Life::Unknown),
        size: seen.size,
        resident: seen.resident,
        owner_id: owner,
    })
}

fn denied(notes: &mut Vec<String>, owner: u32) {
    add(notes, format!("user {owner}'s segments may not be read: look as that user, or as root"));
}

fn note(notes: &mut Vec<String>, error: &LookError) {
    match error {
        LookError::Denied { owner, .. } => denied(notes, *owner),
        error => add(notes, error.to_string()),
    }
}

fn add(notes: &mut Vec<String>, text: String) {
    if !notes.contains(&text) {
        notes.push(text);
    }
}

impl Report for Listing {
    fn show(&self, page: &mut dyn Write) -> io::Result<()> {
        if self.domains.is_empty() {
            return writeln!(page, "no segments in {}", self.directory.display());
        }
        for (number, domain) in self.domains.iter().enumerate() {
            if number > 0 {
                writeln!(page)?;
            }
            domain.show(page)?;
        }
        Ok(())
    }
}

impl DomainRow {
    fn show(&self, page: &mut dyn Write) -> io::Result<()> {
        let whose = match self.whose.strip_prefix('g') {
            Some(group) => format!("group {group}"),
            None => format!("user {}", self.whose),
        };
        let resident: u64 = self.segments.iter().map(|segment| segment.resident).sum();
        writeln!(
            page,
            "{HEADING}domain {}{HEADING:#} of {whose}: {} in {}",
            self.name,
            output::bytes(resident),
            output::plural(self.segments.len(), "segment", "segments"),
        )?;
        let mut table = Table::new(["SEGMENT", "KIND", "STATE", "RESIDENT", "SIZE", "OWNER"]);
        for segment in &self.segments {
            let style = if segment.state == "ready" { FAINT } else { WARNING };
            let owner = match (&segment.owner, segment.owner_state) {
                (Some(owner), Some(life)) => {
                    Cell::new(format!("{owner} {}", life.text())).style(style_of(life))
                }
                _ => Cell::new("-").style(FAINT),
            };
            table.row([
                Cell::new(&segment.name),
                Cell::new(segment.kind.as_deref().unwrap_or("?")),
                Cell::new(segment.state).style(style),
                Cell::number(output::bytes(segment.resident)),
                Cell::number(output::bytes(segment.size)),
                owner,
            ]);
        }
        table.show(page)?;
        if !self.nodes.is_empty() {
            let mut table = Table::new(["NODE", "PID", "STATE", "SILENT", "OWNER"]);
            for node in &self.nodes {
                table.row([
                    Cell::new(&node.name),
                    Cell::number(node.pid),
                    Cell::new(node.state.text()).style(style_of(node.state)),
                    Cell::number(format!("{:.1} s", f64::from(node.silent_ms) / 1000.0)),
                    Cell::new(&node.owner),
                ]);
            }
            table.show(page)?;
        }
        for service in &self.services {
            show_service(page, service)?;
        }
        if !self.members.is_empty() {
            let mut table = Table::new(["MEMBER", "NAME", "PID", "STATE", "HEARTBEAT"]);
            for member in &self.members {
                let pid = match member.elsewhere {
                    true => format!("{} elsewhere", member.pid),
                    false => member.pid.to_string(),
                };
                table.row([
                    Cell::new(&member.id),
                    Cell::new(&member.name),
                    Cell::number(pid),
                    Cell::new(member.state.text()).style(style_of(member.state)),
                    Cell::number(member.heartbeat),
                ]);
            }
            table.show(page)?;
        }
        for note in &self.notes {
            let note = output::harmless(note);
            writeln!(page, "  {WARNING}note{WARNING:#}: {note}")?;
        }
        Ok(())
    }
}

/// A service and its places of workers.
fn show_service(page: &mut dyn Write, service: &ServiceNow) -> io::Result<()> {
    let ServiceNow { name, state, supervisor, clients, clients_dead, letters, .. } = service;
    let name = output::harmless(name);
    write!(page, "  {HEADING}service {name}{HEADING:#}: ")?;
    if *state != "ready" {
        write!(page, "{WARNING}{state}{WARNING:#}, ")?;
    }
    match supervisor {
        Some(it) => {
            let style = style_of(it.state);
            let pid = it.pid.map_or_else(|| it.id.clone(), |pid| pid.to_string());
            write!(page, "supervisor {pid} {style}{}{style:#}", it.state.text())?;
        }
        None => write!(page, "{WARNING}no supervisor{WARNING:#}")?,
    }
    write!(page, ", {}", output::plural(*clients, "client", "clients"))?;
    if *clients_dead > 0 {
        write!(page, " ({BAD}{clients_dead} dead{BAD:#})")?;
    }
    if *letters > 0 {
        let letters = output::plural(*letters, "dead letter", "dead letters");
        write!(page, ", {WARNING}{letters}{WARNING:#}")?;
    }
    writeln!(page, ", {}", output::bytes(service.resident))?;
    if service.workers.is_empty() {
        return Ok(());
    }
    let mut table = Table::new([
        "PLACE",
        "GROUP",
        "CONDITION",
        "PID",
        "STATE",
        "QUEUED",
        "RESTARTS",
        "LAST DEATH",
    ]);
    for place in &service.workers {
        let WorkerNow { condition, worker, queued, restarts, last_death, .. } = place;
        let (pid, state) = match worker {
            Some(it) => (
                it.pid.map_or_else(|| it.id.clone(), |pid| pid.to_string()),
                Cell::new(it.state.text()).style(style_of(it.state)),
            ),
            None => ("-".into(), Cell::new("-").style(FAINT)),
        };
        table.row([
            Cell::number(place.place),
            Cell::new(place.group),
            Cell::new(condition).style(style_of_condition(condition)),
            Cell::number(pid),
            state,
            Cell::number(queued),
            Cell::number(restarts),
            Cell::new(last_death.as_deref().unwrap_or("-")).style(FAINT),
        ]);
    }
    table.show(page)
}

/// How a place's condition is shown.
pub fn style_of_condition(condition: &str) -> anstyle::Style {
    match condition {
        "up" => GOOD,
        "spare" => FAINT,
        "failed" | "stuck" => BAD,
        _ => WARNING,
    }
}

/// How a state is shown.
pub fn style_of(life: Life) -> anstyle::Style {
    match life {
        Life::Alive => GOOD,
        Life::Dead => BAD,
        Life::Unknown => WARNING,
    }
}
