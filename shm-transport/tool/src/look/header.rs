//! What a segment's header and its table of parts say, checked.
//!
//! `shm_primitives::segment` reads the segments it knows. This reads those of any kind, and goes
//! on where that one stops, so that what is wrong can be shown.

use super::{LookError, Snapshot};
use rustix::param::page_size;
use serde::Serialize;
use shm_primitives::identity::OwnerId;
use shm_primitives::part::{Kind, PartHeader};
use shm_primitives::segment::{ENTRY, HEADER, MAX_PARTS, Magic, PartId, State};

/// What stands at the beginning of a segment.
#[derive(Clone, Debug)]
pub struct Header {
    /// Which kind of segment.
    pub magic: Magic,
    /// Of its layout.
    pub version: u32,
    /// Two words of the kind's own.
    pub own: [u32; 2],
    /// The lowest version whose readers understand it.
    pub min_reader: u32,
    /// How far it is; `None` if the word is no state.
    pub state: Option<State>,
    /// Which of the segments made in this memory.
    pub epoch: u32,
    /// The word that says who may close it.
    pub owner: u32,
    /// Bytes of the whole.
    pub size: u64,
    /// Its parts, as far as their table could be read.
    pub entries: Vec<Entry>,
    /// What is wrong with all that.
    pub problems: Vec<String>,
}

/// An entry of the table of parts.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Which part.
    pub id: PartId,
    /// Whether readers that do not know it have to decline.
    pub required: bool,
    /// Where it lies.
    pub offset: u64,
    /// Bytes it has.
    pub length: u64,
    /// Whether all of it lies in the file.
    pub inside: bool,
}

/// The words that a part of most kinds begins with.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Part {
    /// Of the kind's layout.
    pub version: u32,
    /// Which structure.
    pub kind: u32,
    /// A hash over what both sides have to agree on.
    pub layout: u32,
    /// The lowest version whose readers understand it.
    pub min_reader: u32,
    /// Elements, bytes or slots.
    pub capacity: u32,
    /// Bytes of an element.
    pub stride: u32,
    /// The kind's own.
    pub options: u32,
    /// Where its data lie.
    pub data: u32,
    /// The position it began at.
    pub start: u32,
    /// Who has its ends.
    pub owners: [u32; 2],
}

impl Header {
    /// The header of what was copied.
    pub fn of(copy: &Snapshot) -> Result<Self, LookError> {
        let path = || copy.seen().path.clone();
        let foreign = |why: String| LookError::Foreign { path: path(), why };
        let size = copy.seen().size;
        let Some(words) = copy.words::<16>(0) else {
            return Err(foreign(format!("it has {size} bytes, and a header has {HEADER}")));
        };
        let long = |at: usize| u64::from(words[at]) | u64::from(words[at + 1]) << 32;
        let state = [State::Initialising, State::Ready, State::Closing, State::GivenUp];
        let mut this = Self {
            magic: Magic(words[0]),
            version: words[1],
            own: [words[2], words[3]],
            min_reader: words[4],
            state: state.into_iter().find(|state| state.word() == words[5]),
            epoch: words[6],
            owner: words[7],
            size: long(8),
            entries: Vec::new(),
            problems: Vec::new(),
        };
        let (table, entry, count) = (words[10], words[11], words[12]);
        let likely = this.size.checked_next_multiple_of(page_size() as u64) == Some(size);
        if this.state.is_none() && !likely {
            // Neither looks like one. What is damaged in one place is still a segment.
            let found = match words {
                [0, ..] if words.iter().all(|word| *word == 0) => "it begins with zeros".into(),
                _ => format!("it begins with {}", this.magic),
            };
            return Err(foreign(found));
        }
        this.check(copy, table, entry, count);
        Ok(this)
    }

    fn check(&mut self, copy: &Snapshot, table: u32, entry: u32, count: u32) {
        let size = copy.seen().size;
        let mut problem = |text: String| self.problems.push(text);
        if self.magic.0 == 0 {
            problem("the magic is 0: its creator has not finished it".into());
        }
        if self.state.is_none() {
            problem("the word of its state is none".into());
        }
        if self.min_reader > self.version {
            let (version, reader) = (self.version, self.min_reader);
            problem(format!("it is of version {version} and asks for readers of version {reader}"));
        }
        if self.owner != 0 && OwnerId::from_word(self.owner).is_none() {
            problem(format!("the owner word {:#x} is no owner's", self.owner));
        }
        if self.size > size {
            let wanted = self.size;
            problem(format!("it has {size} bytes of {wanted}: it was truncated"));
        }
        let bad_table = (table as usize) < HEADER || !table.is_multiple_of(4);
        let bad_entry = (entry as usize) < ENTRY || !entry.is_multiple_of(4);
        if bad_table || bad_entry || count as usize > MAX_PARTS {
            problem(format!(
                "the table of parts cannot be: {count} entries of {entry} bytes at {table}"
            ));
            return;
        }
        // No overflow: 32 bits, and 10 more.
        let mut before = u64::from(table) + u64::from(count) * u64::from(entry);
        if before > self.size {
            problem(format!("the table of parts ends at {before}, behind the segment's end"));
        }
        for number in 0..count {
            let at = u64::from(table) + u64::from(number) * u64::from(entry);
            let Some(words) = copy.words::<8>(at) else {
                problem(format!("entry {number} of the table of parts is not there any more"));
                return;
            };
            let [kind, attributes, ..] = words;
            let long = |at: usize| u64::from(words[at]) | u64::from(words[at + 1]) << 32;
            let (offset, length) = (long(2), long(4));
            let id = PartId { kind: Kind(kind), role: (attributes >> 16) as u16 };
            let alignment = attributes >> 8 & 0xff;
            if alignment > 30 || !offset.is_multiple_of(1 << alignment.min(30)) {
                problem(format!("{id} at {offset} is not aligned to 2^{alignment}"));
            }
            if offset < before {
                problem(format!("{id} at {offset} overlaps what ends at {before}"));
            }
            let end = offset.checked_add(length);
            if end.is_none_or(|end| end > self.size) {
                problem(format!(
                    "{id} at {offset} with {length} bytes lies outside of the segment"
                ));
            }
            before = end.unwrap_or(u64::MAX);
            let inside = before <= size;
            let required = attributes & 1 != 0;
            if self.entries.iter().any(|entry| entry.id == id) {
                problem(format!("{id} is there twice"));
            }
            self.entries.push(Entry { id, required, offset, length, inside });
        }
    }

    /// Its first part of that kind, if all of it is there.
    pub fn part(&self, kind: Kind) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.id.kind == kind && entry.inside)
    }

    /// Who may close it.
    pub fn owner(&self) -> Option<OwnerId> {
        OwnerId::from_word(self.owner)
    }

    /// Its state in a word.
    pub fn state_text(&self) -> &'static str {
        match self.state {
            Some(State::Ready) if self.magic.0 != 0 => "ready",
            Some(State::Closing) => "closing",
            Some(State::GivenUp) => "given up",
            Some(_) => "unfinished",
            None => "damaged",
        }
    }
}

impl Part {
    /// The header of the part at `offset`; `None` if none stands there.
    pub fn at(copy: &Snapshot, offset: u64) -> Option<Self> {
        let words = copy.words::<16>(offset)?;
        (words[0] == PartHeader::MAGIC).then_some(Self {
            version: words[1],
            kind: words[2],
            layout: words[3],
            min_reader: words[4],
            capacity: words[5],
            stride: words[6],
            options: words[7],
            data: words[8],
            start: words[9],
            owners: [words[10], words[11]],
        })
    }
}
