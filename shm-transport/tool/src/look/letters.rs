//! Dead letters.

use super::{Header, LookError, Snapshot};
use serde::Serialize;
use shm_primitives::layout::letters::{Letter, LettersLayout};
use shm_primitives::layout::service::Cause;
use shm_primitives::part::Kind;
use shm_primitives::segment::{Magic, State};
use shm_primitives::table::SlotKey;
use std::path::Path;

const STATE: u64 = 20;
const HEAD: u64 = 4096;

/// A message that was in the hands of a worker when that one died.
#[derive(Clone, Debug, Serialize)]
pub struct LetterNow {
    /// What people call it: slot and generation.
    pub letter: String,
    pub function: u32,
    /// Bytes that the message had, and those that were kept.
    pub length: u32,
    pub kept: u32,
    pub cause: Option<String>,
    /// When it was kept: milliseconds since 1970, UTC.
    pub time_ms: u64,
    pub worker: u32,
    pub worker_pid: u32,
    pub client_pid: u32,
    pub attempt: u32,
    pub seq_id: u64,
    #[serde(skip)]
    pub key: SlotKey,
}

/// The letters of that segment, but for those that may go. `None` if there is no such file.
pub fn letters(path: &Path) -> Result<Option<Vec<LetterNow>>, LookError> {
    let Some(copy) = open(path)? else { return Ok(None) };
    let layout = attach(&copy)?;
    let most = layout.shape().bytes;
    let found = layout.iter().flatten().filter(|letter| !letter.may_go);
    let mut letters: Vec<_> = found.map(|letter| LetterNow::of(&letter, most)).collect();
    letters.sort_by_key(|letter| (letter.time_ms, letter.key.index()));
    Ok(Some(letters))
}

/// What was kept of a letter's message; `None` if the letter has gone.
pub fn message(path: &Path, key: SlotKey) -> Result<Option<Vec<u8>>, LookError> {
    let Some(copy) = open(path)? else { return Ok(None) };
    let layout = attach(&copy)?;
    let Some((offset, length)) = layout.place_of(key.index()) else { return Ok(None) };
    copy.fetch(offset as u64, length as u64)?;
    // Once more: the letter may have gone, and another come to its place.
    fetch_table(&copy)?;
    let mut buffer = vec![0; length];
    let busy = |error: shm_primitives::table::Busy| foreign(path, error);
    let kept = layout.payload(key, &mut buffer).map_err(busy)?;
    Ok(kept.map(|kept| {
        buffer.truncate(kept);
        buffer
    }))
}

fn open(path: &Path) -> Result<Option<Snapshot>, LookError> {
    let copy = match Snapshot::empty(path) {
        Ok(copy) => copy,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    copy.fetch(0, HEAD)?;
    fetch_table(&copy)?;
    Ok(Some(copy))
}

fn fetch_table(copy: &Snapshot) -> Result<(), LookError> {
    let header = Header::of(copy)?;
    let path = &copy.seen().path;
    if header.magic != Magic::LETT {
        return Err(foreign(path, format!("it is {}, not {}", header.magic, Magic::LETT)));
    }
    if header.state == Some(State::Closing) {
        copy.set_word(STATE, State::Ready.word());
    }
    match header.part(Kind::SLOT_TABLE) {
        Some(entry) => copy.fetch(entry.offset, entry.length),
        None => Err(foreign(path, "it has no table of letters")),
    }
}

fn attach(copy: &Snapshot) -> Result<LettersLayout<'_>, LookError> {
    LettersLayout::attach(copy.region()).map_err(|error| foreign(&copy.seen().path, error))
}

fn foreign(path: &Path, why: impl ToString) -> LookError {
    LookError::Foreign { path: path.into(), why: why.to_string() }
}

impl LetterNow {
    fn of(letter: &Letter, most: u32) -> Self {
        let Letter { key, entry, .. } = letter;
        Self {
            letter: format!("{}-{}", key.index(), key.generation()),
            function: entry.func_id,
            length: entry.length,
            kept: entry.length.min(most),
            cause: Cause::from_words(entry.cause).ok().flatten().map(|cause| cause.to_string()),
            time_ms: entry.time(),
            worker: entry.worker,
            worker_pid: entry.worker_pid,
            client_pid: entry.client_pid,
            attempt: entry.attempt,
            seq_id: entry.seq_id(),
            key: *key,
        }
    }
}
