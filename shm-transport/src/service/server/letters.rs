//! Keeping dead letters, and looking at them.

use super::error::ServerError;
use crate::domain::Domain;
use crate::liveness::Verdict;
use crate::member::Member;
use crate::segment::SegmentError;
use crate::service::mapped::LettersMapped;
use crate::service::name::ServiceName;
use shm_primitives::identity::OwnerId;
use shm_primitives::layout::letters::{LetterEntry, LettersLayout, Shape};
use shm_primitives::place::Cause;
use shm_primitives::segment::Control;
use shm_primitives::table::SlotKey;
use std::time::{Duration, SystemTime};

/// A message that was in the hands of a worker when that one died. It is not run again by itself.
///
/// To try it again is to [call](crate::service) the function with its payload, and then to
/// [drop](super::Server::drop_letter) the letter.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Which it is.
    pub key: SlotKey,
    /// What was called.
    pub function: u32,
    /// The payload, or as much of it as was kept.
    pub payload: Vec<u8>,
    /// Bytes that it had.
    pub length: u32,
    /// What the worker died of.
    pub cause: Option<Cause>,
    /// When it was kept.
    pub time: SystemTime,
    /// The place of that worker.
    pub worker: u32,
    /// Its process.
    pub worker_pid: u32,
    /// The caller's process.
    pub client_pid: u32,
    /// The sequence id of the call.
    pub seq_id: u64,
}

/// The dead letters of a service, for who keeps them.
#[derive(Debug)]
pub(super) struct Letters {
    domain: Domain,
    service: ServiceName,
    owner: OwnerId,
    shape: Shape,
    /// Made at the first letter.
    open: Option<Open>,
}

/// Its fields are dropped in their order.
#[derive(Debug)]
struct Open {
    _control: Control<'static>,
    mapped: LettersMapped,
}

impl Letters {
    /// Goes on with those that there are.
    pub fn start(
        domain: &Domain,
        service: &ServiceName,
        shape: Shape,
        member: &Member,
    ) -> Result<Self, ServerError> {
        let (domain, service) = (domain.clone(), *service);
        let mut this = Self { domain, service, owner: member.id(), shape, open: None };
        this.take_over(member)?;
        Ok(this)
    }

    fn take_over(&mut self, member: &Member) -> Result<(), ServerError> {
        let opened = LettersMapped::open(&self.domain, &self.service, |segment, layout| {
            let wrong = |_| segment.refused("its owner is none of the domain's members");
            let segment_of = layout.segment();
            let control =
                match segment_of.owner().map_err(|error| segment.refused(error.to_string()))? {
                    None => segment_of.claim_control(self.owner),
                    Some(owner) => match member.processes().convict(owner)? {
                        Verdict::Dead(dead) => segment_of.recover_control(dead, self.owner),
                        // Of a table of members that there is no more: nobody of it lives.
                        Verdict::Unknown | Verdict::Alive => return Err(wrong(()).into()),
                    },
                };
            let control = control.map_err(|error| segment.refused(error.to_string()))?;
            layout.take_over();
            Ok::<_, ServerError>(control)
        });
        match opened {
            Ok((mapped, control)) => self.open = Some(Open { _control: control, mapped }),
            Err(ServerError::Segment(SegmentError::NotFound { .. })) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Keeps one. Made so that it can be done again: the same letter is kept once.
    ///
    /// An error is that there is no room, in the segment or in the file system.
    pub fn keep(&mut self, entry: LetterEntry, message: &[u8]) -> Result<SlotKey, ServerError> {
        let open = match &mut self.open {
            Some(open) => open,
            none => {
                let made = LettersMapped::create::<ServerError>(
                    &self.domain,
                    &self.service,
                    self.shape,
                    self.owner,
                );
                let (mapped, control) = made?;
                none.insert(Open { _control: control, mapped })
            }
        };
        let layout = &open.mapped.layout;
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
        let entry = LetterEntry { length, ..entry };
        if let Some(key) = layout.find(&entry) {
            return Ok(key);
        }
        let full = |found| ServerError::Impossible {
            what: "more dead letters than there is room for",
            found,
        };
        let draft = layout.reserve(self.owner).map_err(|error| full(error.letters.into()))?;
        if let Some((offset, length)) = layout.place_of(draft.index()) {
            open.mapped.segment.allocate(offset..offset + length)?;
        }
        Ok(draft.keep(entry, message))
    }

    /// Lets those go that may.
    pub fn sweep(&self) {
        let Some(Open { mapped, .. }) = &self.open else { return };
        // Their memory stays, for the next ones: one who is just reading a letter must not find a
        // hole there.
        mapped.layout.sweep_dropped(|_, _| ());
    }

    /// Takes their segment's name away, if there are none.
    pub fn end(self) {
        self.sweep();
        let Some(Open { mapped, .. }) = &self.open else { return };
        let _ = mapped.segment.unlink_own(|_| Ok::<_, SegmentError>(mapped.layout.is_empty()));
    }
}

/// The dead letters of a service, whether or not it runs.
pub(in crate::service) fn all(
    domain: &Domain,
    service: &ServiceName,
) -> Result<Vec<DeadLetter>, ServerError> {
    with(domain, service, Vec::new(), |layout| {
        let mut buffer = vec![0; layout.shape().bytes as usize];
        let mut letters = Vec::new();
        for letter in layout.iter().flatten() {
            let Ok(Some(length)) = layout.payload(letter.key, &mut buffer) else { continue };
            let LetterEntry { func_id, worker, worker_pid, cause, client_pid, .. } = letter.entry;
            letters.push(DeadLetter {
                key: letter.key,
                function: func_id,
                payload: buffer[..length].into(),
                length: letter.entry.length,
                cause: Cause::from_words(cause).ok().flatten(),
                time: SystemTime::UNIX_EPOCH + Duration::from_millis(letter.entry.time()),
                worker,
                worker_pid,
                client_pid,
                seq_id: letter.entry.seq_id(),
            });
        }
        letters
    })
}

/// Says that a letter may go; whether it was there.
pub(in crate::service) fn drop_letter(
    domain: &Domain,
    service: &ServiceName,
    key: SlotKey,
) -> Result<bool, ServerError> {
    with(domain, service, false, |layout| layout.ask_to_drop(key).unwrap_or(false))
}

fn with<T>(
    domain: &Domain,
    service: &ServiceName,
    none: T,
    then: impl FnOnce(&LettersLayout<'static>) -> T,
) -> Result<T, ServerError> {
    match LettersMapped::open(domain, service, |_, _| Ok::<_, ServerError>(())) {
        Ok((mapped, ())) => Ok(then(&mapped.layout)),
        Err(ServerError::Segment(SegmentError::NotFound { .. })) => Ok(none),
        Err(error) => Err(error),
    }
}
