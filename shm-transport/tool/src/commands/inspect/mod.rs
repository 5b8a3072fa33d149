//! `shm inspect`: into one segment.

mod facts;
mod lanes;
mod parts;
mod rings;
mod services;
mod tables;

use crate::cli::{Global, Inspect};
use crate::failure::Failure;
use crate::look::{Header, Life, MEMBERS, Members, Seen, Snapshot, short};
use crate::output::{self, BAD, Cell, FAINT, GOOD, HEADING, Report, Table, WARNING};
use facts::Facts;
use serde::Serialize;
use shm_primitives::identity::OwnerId;
use shm_primitives::segment::{HEADER, Magic, State};
use shm_transport::domain::{DomainFile, SegmentName};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

/// How often a segment in use is copied anew before what seems wrong is believed: it may be that
/// one part of the copy is older than another.
const ATTEMPTS: u32 = 8;
/// Where the word of a segment's state stands.
const STATE: u64 = 20;
const PAUSE: Duration = Duration::from_millis(2);

/// All that is shown.
#[derive(Debug, Serialize)]
struct Inspection {
    file: Seen,
    kind: String,
    version: u32,
    min_reader: u32,
    own: [u32; 2],
    state: &'static str,
    epoch: u32,
    size: u64,
    owner: Option<Owner>,
    parts: Vec<Part>,
    /// Of the header and the table.
    problems: Vec<String>,
    /// Whether nothing is wrong with it.
    sound: bool,
    /// Bytes that were not looked at.
    left_out: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<Vec<Dump>>,
}

/// Whom an owner's word names.
#[derive(Clone, Debug, Serialize)]
struct Owner {
    id: String,
    state: Life,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
}

/// A part, and what was found in it.
#[derive(Debug, Serialize)]
struct Part {
    kind: String,
    role: u16,
    required: bool,
    offset: u64,
    length: u64,
    facts: Facts,
    problems: Vec<String>,
}

/// Bytes as they stand there.
#[derive(Debug, Serialize)]
struct Dump {
    of: String,
    at: u64,
    #[serde(serialize_with = "as_hex")]
    bytes: Vec<u8>,
}

fn as_hex<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    serializer.serialize_str(&text)
}

/// Looks into the segment, and judges it.
pub fn run(global: &Global, options: &Inspect) -> Result<(), Failure> {
    let (path, members) = place(global, &options.segment)?;
    let mut attempt = 1;
    let inspection = loop {
        let found = inspect(&path, members.as_deref(), options).map_err(|error| {
            if error.is_not_found() { Failure::Nothing(error.to_string()) } else { error.into() }
        })?;
        if found.sound || attempt == ATTEMPTS {
            break found;
        }
        attempt += 1;
        sleep(PAUSE);
    };
    output::print(global, options.format, &inspection)?;
    if inspection.sound { Ok(()) } else { Err(Failure::Unhealthy) }
}

/// The segment's file, and that of the members of its domain.
fn place(global: &Global, segment: &str) -> Result<(PathBuf, Option<PathBuf>), Failure> {
    if !segment.contains('/') {
        let domain = global.domain()?;
        let path = domain.path_of(&SegmentName::new(segment)?);
        return Ok((path, Some(domain.path_of(&SegmentName::new(MEMBERS)?))));
    }
    let path = PathBuf::from(segment);
    // By its name: it may be another user's.
    let members = DomainFile::of(path.clone()).map(|file| {
        let members = format!("shm.{}.{}.{MEMBERS}", file.whose, file.domain);
        path.with_file_name(members)
    });
    Ok((path, members))
}

fn inspect(
    path: &Path,
    members: Option<&Path>,
    options: &Inspect,
) -> Result<Inspection, crate::look::LookError> {
    let copy = Snapshot::limited(path, options.limit)?;
    let header = Header::of(&copy)?;
    // Before parts are attached to, which may write to the copy.
    let raw = options.raw.then(|| dumps(&copy, &header));
    if header.state == Some(State::Closing) && [Magic::SRVC, Magic::BELL].contains(&header.magic) {
        // What is in it is as it was, and its layout would decline.
        copy.set_word(STATE, State::Ready.word());
    }
    // After the copy: an id in it is known to the members by now.
    let members = members.and_then(|path| Members::at(path).ok().flatten());
    let who = Who { members };
    let parts: Vec<_> =
        header.entries.iter().map(|entry| parts::examine(&copy, &header, entry, &who)).collect();
    let mut problems = header.problems.clone();
    if let Some(dead) = header.owner().filter(|owner| who.life(*owner) == Life::Dead)
        && header.state_text() != "ready"
    {
        problems
            .push(format!("its owner {} died before it was ready, or as it closed", short(dead)));
    }
    let sound = problems.is_empty() && parts.iter().all(|part| part.problems.is_empty());
    // Nobody owns the members, though an id stands there.
    let is_members = header.magic == parts::PROC;
    Ok(Inspection {
        kind: header.magic.to_string().replace('"', ""),
        version: header.version,
        min_reader: header.min_reader,
        own: header.own,
        state: header.state_text(),
        epoch: header.epoch,
        size: header.size,
        owner: header.owner().filter(|_| !is_members).map(|owner| who.is(owner)),
        parts,
        problems,
        sound,
        left_out: copy.left_out(),
        raw,
        file: copy.seen().clone(),
    })
}

/// Who the ids are.
#[derive(Debug)]
struct Who {
    members: Option<Members>,
}

impl Who {
    fn life(&self, id: OwnerId) -> Life {
        self.members.as_ref().map_or(Life::Unknown, |members| members.life(id))
    }

    fn is(&self, id: OwnerId) -> Owner {
        let named = self.members.as_ref().and_then(|members| members.name_of(id));
        let (name, pid) = named.unzip();
        Owner { id: short(id), state: self.life(id), name, pid }
    }
}

impl Owner {
    fn text(&self) -> String {
        let Self { id, state, name, pid } = self;
        let mut text = format!("{id} {}", state.text());
        if let (Some(name), Some(pid)) = (name, pid) {
            text += &format!(" ({name:?}, process {pid})");
        }
        text
    }
}

fn dumps(copy: &Snapshot, header: &Header) -> Vec<Dump> {
    let dump = |of: String, at, len| Some(Dump { of, at, bytes: copy.bytes(at, len)? });
    let mut dumps: Vec<_> = dump("header".into(), 0, HEADER).into_iter().collect();
    let table = copy.words::<16>(0).map(|words| (words[10], words[11], words[12]));
    if let Some((table, entry, count)) = table {
        let count = count.min(header.entries.len() as u32);
        let len = u64::from(entry) * u64::from(count);
        let len = usize::try_from(len).unwrap_or(0).min(64 << 10);
        dumps.extend(dump("table of parts".into(), table.into(), len));
    }
    for entry in &header.entries {
        let len = usize::try_from(entry.length).unwrap_or(HEADER).min(HEADER);
        dumps.extend(dump(entry.id.to_string(), entry.offset, len));
    }
    dumps
}

impl Report for Inspection {
    fn show(&self, page: &mut dyn Write) -> io::Result<()> {
        let Seen { path, inode, user, group, mode, size, resident, .. } = &self.file;
        writeln!(page, "{HEADING}{}{HEADING:#}", output::harmless(&path.display().to_string()))?;
        let mut table = Table::bare();
        let mut line = |name: &str, cell: Cell| table.row([Cell::new(name).style(FAINT), cell]);
        let (long, taken) = (output::bytes(*size), output::bytes(*resident));
        line("file", format!("{long}, {taken} resident; inode {inode}").into());
        line("rights", format!("user {user}, group {group}, mode {mode:04o}").into());
        let Self { kind, version, min_reader, epoch, .. } = self;
        let versions = format!("{kind} version {version}, for readers from {min_reader}");
        line("kind", versions.into());
        let style = if self.state == "ready" { GOOD } else { WARNING };
        line("state", Cell::new(self.state).style(style));
        line("epoch", format!("{epoch}").into());
        line("own words", format!("{} {}", self.own[0], self.own[1]).into());
        match &self.owner {
            Some(owner) => {
                let style = crate::commands::list::style_of(owner.state);
                line("owner", Cell::new(owner.text()).style(style));
            }
            None => line("owner", "nobody".into()),
        }
        table.show(page)?;
        for part in &self.parts {
            part.show(page)?;
        }
        for Dump { of, at, bytes } in self.raw.iter().flatten() {
            writeln!(page, "{HEADING}{of}{HEADING:#} at {at}")?;
            hex(page, *at, bytes)?;
        }
        if self.left_out > 0 {
            let left = output::bytes(self.left_out);
            writeln!(page, "{WARNING}note{WARNING:#}: {left} were not looked at")?;
        }
        for problem in &self.problems {
            writeln!(page, "{BAD}wrong{BAD:#}: {}", output::harmless(problem))?;
        }
        if self.sound {
            writeln!(page, "{GOOD}sound{GOOD:#}: nothing is wrong with what was looked at")
        } else {
            writeln!(page, "{BAD}not sound{BAD:#}")
        }
    }
}

impl Part {
    fn show(&self, page: &mut dyn Write) -> io::Result<()> {
        let Self { kind, role, offset, length, .. } = self;
        let optional = if self.required { "" } else { ", optional" };
        let length = output::bytes(*length);
        writeln!(page, "{HEADING}{kind} {role}{HEADING:#} at {offset}, {length}{optional}")?;
        self.facts.show(page)?;
        for problem in &self.problems {
            writeln!(page, "  {BAD}wrong{BAD:#}: {}", output::harmless(problem))?;
        }
        Ok(())
    }
}

/// Sixteen bytes a line, as words and as text.
fn hex(page: &mut dyn Write, at: u64, bytes: &[u8]) -> io::Result<()> {
    for (number, line) in bytes.chunks(16).enumerate() {
        write!(page, "  {:08x} ", at + 16 * number as u64)?;
        for at in 0..16 {
            let gap = if at % 4 == 0 { " " } else { "" };
            match line.get(at) {
                Some(byte) => write!(page, "{gap} {byte:02x}")?,
                None => write!(page, "{gap}   ")?,
            }
        }
        let text: String = line
            .iter()
            .map(|&byte| if byte.is_ascii_graphic() || byte == b' ' { byte as char } else { '.' })
            .collect();
        writeln!(page, "  {text}")?;
    }
    Ok(())
}
