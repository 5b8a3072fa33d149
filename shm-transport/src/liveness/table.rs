//! The table of process records.

use super::error::LivenessError;
use super::lock::{ByteLock, is_locked, reopen};
use super::process::ProcessIdentity;
use rustix::fs::OFlags;
use shm_primitives::identity::{Dead, OwnerId};
use shm_primitives::region::Region;
use shm_primitives::sync::Ordering::{Acquire, Relaxed};
use shm_primitives::sync::fence;
use shm_primitives::table::{Enrolled, Options, SlotKey, SlotTable, Snapshot};
use std::fmt;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What the entries of a table of process records are: "PROC".
const TAG: u32 = u32::from_le_bytes(*b"PROC");

/// Words of a record, see the [module](crate::liveness).
const WORDS: usize = 16;
const NAME: usize = 7;
const NAME_WORDS: usize = ProcessTable::MAX_NAME / 4;
const ROLE: usize = NAME + NAME_WORDS;

/// Live words of a record.
const HEARTBEAT: usize = 0;
const STATE: usize = 1;
const LIVE: usize = 2;

type Slots<'a> = SlotTable<'a, [u32; WORDS], LIVE>;

/// What the kernel says of an [`OwnerId`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Its lock is held: it lives, or is being left at this moment, or its memory is on its way
    /// out. It may still write.
    Alive,
    /// Its lock has fallen: it never again touches the memory. It died, or left, or runs
    /// another program now.
    Dead(Dead<OwnerId>),
    /// The table never gave out this id: it is read from damaged memory, or from another
    /// domain's. Nobody is dead.
    Unknown,
}

impl Verdict {
    /// The proof, if that is the verdict.
    pub fn dead(self) -> Option<Dead<OwnerId>> {
        match self {
            Self::Dead(dead) => Some(dead),
            Self::Alive | Self::Unknown => None,
        }
    }
}

/// One process, as its record says. A record is written by the process itself: for people, and
/// for a [`PidFd`](super::PidFd), which checks it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Process {
    /// Its id in everything that it holds.
    pub id: OwnerId,
    /// Which process it is.
    pub identity: ProcessIdentity,
    /// What it calls itself; what is not UTF-8 in it is replaced.
    pub name: String,
    /// What it is a member as, which means what the program says; 0 unless it said something.
    pub role: u32,
}

/// The records of the processes of one domain, and the locks that show which of them live; a
/// view of memory that all of them have, and a descriptor to look at their locks through.
///
/// There is one in a file, for the bytes locked are those of the file.
pub struct ProcessTable<'a> {
    slots: Slots<'a>,
    /// To look through, never to lock: a description of its own, which only reads.
    looking: OwnedFd,
}

impl<'a> ProcessTable<'a> {
    /// The longest name of a process, in bytes.
    pub const MAX_NAME: usize = 32;
    /// The most records of a table: as many as an [`OwnerId`] can tell apart.
    pub const MAX_RECORDS: u32 = 1 << OwnerId::INDEX_BITS;

    /// Bytes that so many records take in a region; `None` for 0 and for more than
    /// [`MAX_RECORDS`](Self::MAX_RECORDS).
    pub const fn required_size(records: u32) -> Option<usize> {
        if records > Self::MAX_RECORDS { None } else { Slots::required_size(records) }
    }

    /// Creates a table of so many records, all nobody's, at the start of `region`.
    ///
    /// # Errors
    ///
    /// `Attach` if the region is too small or misaligned (to 64), or there can be no such
    /// table; `Reopen` if the file cannot be opened again. Nothing was written.
    ///
    /// # Safety
    ///
    /// As [`attach`](Self::attach), and nobody uses a table there.
    pub unsafe fn create_at(
        region: &Region<'a>,
        records: u32,
        file: BorrowedFd<'_>,
    ) -> Result<Self, LivenessError> {
        let looking = reopen(file, OFlags::RDONLY)?;
        // More than this are refused by the table: 0 can no table have.
        let records = if records > Self::MAX_RECORDS { 0 } else { records };
        let options = Options::new(records).tag(TAG);
        Ok(Self { slots: Slots::init_at(region, options)?, looking })
    }

    /// Attaches to the table at the start of `region`.
    ///
    /// `file` is used to open the file once more, not kept.
    ///
    /// # Errors
    ///
    /// `Attach` if there is no table of processes, `Reopen` if the file cannot be opened again.
    ///
    /// # Safety
    ///
    /// What follows makes every [`Dead`] of this table true.
    ///
    /// - `region` is a mapping of the very file that `file` leads to (not of one that had its
    ///   name before), and stands at the same place of the file for all.
    /// - There is one table in this file. Nobody but [`enrol`](Self::enrol) and
    ///   [`ByteLock`]s taken for it locks bytes of the file whose offsets are ids, 4096 and
    ///   beyond; other kinds of locks (`flock`) do not matter.
    /// - Whoever writes to the mapping keeps the table's protocol.
    /// - The file lies in a file system of this machine, whose kernel knows all its locks.
    pub unsafe fn attach(region: &Region<'a>, file: BorrowedFd<'_>) -> Result<Self, LivenessError> {
        let looking = reopen(file, OFlags::RDONLY)?;
        Ok(Self { slots: Slots::attach(region, TAG)?, looking })
    }

    /// How many records there are.
    pub fn records(&self) -> u32 {
        self.slots.slots()
    }

    /// Takes a record for this process, under an id that nobody had before, and the lock that
    /// shows that it lives. `name` is for people.
    ///
    /// Done once in a process, usually; each further record is one more member, which lives
    /// as long as this process or until it is dropped.
    ///
    /// # Errors
    ///
    /// `Full` if no record is free: [clear](Self::clear) those of the dead, or make a larger
    /// table. `NameTooLong`, `NameHasZero`, `Reopen`, `Proc`, `Os`. Nothing is kept then.
    ///
    /// # Safety
    ///
    /// When the membership is dropped, this process no longer touches anything that it held
    /// under the id: from then on others have the proof that it does not. (Not dropping it is
    /// always right. The kernel takes the lock away with the process.)
    pub unsafe fn enrol(&self, name: &str) -> Result<Membership<'a>, LivenessError> {
        // SAFETY: passed on.
        unsafe { self.enrol_as(name, 0) }
    }

    /// The same in a role, which stands in the record from the moment on in which there is one:
    /// who looks after the dead knows by it what they may have held. A dead one whose record says
    /// nothing at all held nothing, for it had not been told of its id.
    ///
    /// # Errors
    ///
    /// As [`enrol`](Self::enrol).
    ///
    /// # Safety
    ///
    /// As [`enrol`](Self::enrol).
    pub unsafe fn enrol_as(&self, name: &str, role: u32) -> Result<Membership<'a>, LivenessError> {
        let entry = entry(&ProcessIdentity::current()?, name, role)?;
        let mut failed = None;
        let guard = |id: OwnerId| {
            if failed.is_some() {
                return None;
            }
            match ByteLock::take(self.looking.as_fd(), byte(id)) {
                Ok(lock) => lock,
                Err(error) => {
                    failed = Some(error);
                    None
                }
            }
        };
        match self.slots.enrol(&entry, guard) {
            Ok(enrolled) => Ok(Membership { enrolled: ManuallyDrop::new(enrolled) }),
            Err(full) => Err(failed.unwrap_or(full.into())),
        }
    }

    /// Asks the kernel about `id`: whether the lock that its process took before anybody could
    /// see the id has fallen. One system call; does not wait.
    ///
    /// The answer `Dead` is final. `Alive` may be out of date at once, and is given as well to
    /// one who is being asked about while it dies: its memory goes before its lock does. After
    /// its end was noticed elsewhere (its parent has its status), ask again for a moment.
    ///
    /// # Errors
    ///
    /// The kernel's, of which none is known.
    pub fn convict(&self, id: OwnerId) -> Result<Verdict, LivenessError> {
        // First the record, then the lock: an id that was visible was locked before.
        if !self.was_given_out(id) {
            return Ok(Verdict::Unknown);
        }
        if is_locked(self.looking.as_fd(), byte(id))? {
            return Ok(Verdict::Alive);
        }
        // SAFETY: the id was seen in its record, or its record was seen to have gone on from
        // it, so its process had taken the lock before we looked; and no other process is ever
        // given this id (`enrol`). The lock was kept by a mapping of that process (`ByteLock`).
        // It has fallen, so either the process dropped its membership, having stated that it no
        // longer touches what it held, or the mapping has gone with the memory of the process,
        // which no thread of it can be running in any more. That the lock looked at is the lock
        // meant is the contract of `attach`.
        Ok(Verdict::Dead(unsafe { Dead::assume(id) }))
    }

    /// Whether the record of `id` is that id's now, or was.
    fn was_given_out(&self, id: OwnerId) -> bool {
        if self.slots.owner(id.index()) == Some(id) {
            return true;
        }
        // Who finds the owner gone finds the generation that was stored before it went.
        fence(Acquire);
        match self.slots.tenancy(id.index()) {
            Some(now) if now.generation() != 0 => {
                let range = OwnerId::MAX_GENERATION;
                let since = (now.generation() % range + range - id.generation() % range) % range;
                since < range / 2
            }
            _ => false,
        }
    }

    /// Whether any record is held under `id`: its own, with or without anything written, or one that
    /// it was clearing, which may be there when its own is not any more: whoever was to clear both
    /// died after the first.
    pub(crate) fn has_records_of(&self, id: OwnerId) -> bool {
        self.slots.owners().any(|(_, owner)| owner == id)
    }

    /// Every id that a record is held by now, with its verdict: who looks after the others goes
    /// through it, repairs what each dead one held, and [clears](Self::clear) its record.
    pub fn verdicts(
        &self,
    ) -> impl Iterator<Item = Result<(OwnerId, Verdict), LivenessError>> + use<'a, '_> {
        self.slots.owners().map(|(_, id)| Ok((id, self.convict(id)?)))
    }

    /// Gives the record of a dead process back, after everything else that it held was
    /// recovered: what still names it afterwards can be recovered too, but nobody finds it by
    /// going through the records. Also the records that it was itself clearing when it died.
    ///
    /// Several may do this at once. Answers how many records came back here: 0 if it had left
    /// by itself, or another was faster, or `dead` is of another domain and its id not a dead
    /// one's here.
    ///
    /// # Errors
    ///
    /// `OwnDeath` if `heir` is the dead one itself; `Os`.
    pub fn clear(&self, dead: Dead<OwnerId>, heir: &Membership<'_>) -> Result<u32, LivenessError> {
        // A proof does not say of which table it is, and the kernel is quickly asked.
        if self.convict(dead.id())?.dead().is_none() {
            return Ok(0);
        }
        Ok(self.slots.release_all_of(dead, heir.id())?)
    }

    /// Gives the records of all the dead back, where nobody has a record to do it from. Each is
    /// taken over in the name of whoever had it before: of one who is gone, too, whom the next
    /// to come convicts if this process dies at it.
    ///
    /// For one who has the table to itself: nobody lives in it, or joins meanwhile.
    pub(crate) fn clear_deserted(&self) -> Result<(), LivenessError> {
        for found in self.verdicts() {
            if let (id, Verdict::Dead(dead)) = found? {
                self.slots.release_all_of(dead, before(id))?;
            }
        }
        Ok(())
    }

    /// Whether no record is free.
    pub(crate) fn is_full(&self) -> bool {
        self.slots.owners().count() >= self.records() as usize
    }

    /// What the record of `id` says; `None` if it has left and its record with it, or has not
    /// yet written it.
    ///
    /// # Errors
    ///
    /// `Busy`: never of a process that keeps the protocol.
    pub fn process(&self, id: OwnerId) -> Result<Option<Process>, LivenessError> {
        Ok(self.slots.get(id.into())?.and_then(process))
    }

    /// Every process that has a record, dead or alive. One that cannot be read is an error and
    /// does not end the iteration.
    pub fn processes(&self) -> impl Iterator<Item = Result<Process, LivenessError>> + use<'a, '_> {
        self.slots.iter().filter_map(|found| match found {
            Ok(found) => process(found).map(Ok),
            Err(busy) => Some(Err(busy.into())),
        })
    }

    /// How often the process has said that it is at work, wrapping; `None` if its record is
    /// gone.
    pub fn heartbeat(&self, id: OwnerId) -> Option<u32> {
        self.slots.live(id.into(), HEARTBEAT)
    }

    /// The heartbeats of all that have a record.
    pub(super) fn heartbeats(&self) -> impl Iterator<Item = (OwnerId, u32)> + use<'a, '_> {
        self.slots.owners().filter_map(|(index, id)| {
            // One that is being cleared is its heir's.
            let own = id.index() == index;
            Some((id, self.heartbeat(id).filter(|_| own)?))
        })
    }

    /// The word that the process has [stored](Membership::set_state) in its record; `None` if
    /// its record is gone.
    pub fn state(&self, id: OwnerId) -> Option<u32> {
        self.slots.live(id.into(), STATE)
    }
}

impl fmt::Debug for ProcessTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessTable").field("records", &self.records()).finish_non_exhaustive()
    }
}

/// This process's record, and the lock that shows to all others that it lives.
///
/// It lives as long as the process if it is not dropped. Dropping it leaves: the record is
/// nobody's, then the lock falls; what that promises is said at
/// [`enrol`](ProcessTable::enrol). In a child made by `fork` it is a copy that means nothing:
/// dropping it does nothing, and the child must not use it, nor anything else that lies in the
/// domain's memory, which it does not have.
pub struct Membership<'a> {
    enrolled: ManuallyDrop<Enrolled<'a, [u32; WORDS], ByteLock, LIVE>>,
}

impl Membership<'_> {
    /// The id under which this process holds whatever it holds.
    pub fn id(&self) -> OwnerId {
        self.enrolled.id()
    }

    /// Says that this process is at work: adds one to its heartbeat. A load and a store; from
    /// several threads at once some may be lost, which changes nothing.
    pub fn beat(&self) {
        if let Some(word) = self.enrolled.slot().live(HEARTBEAT) {
            word.store(word.load(Relaxed).wrapping_add(1), Relaxed);
        }
    }

    /// Stores a word for others to read, which means what the program says; 0 at first.
    pub fn set_state(&self, state: u32) {
        if let Some(word) = self.enrolled.slot().live(STATE) {
            word.store(state, Relaxed);
        }
    }
}

impl Drop for Membership<'_> {
    fn drop(&mut self) {
        // In a forked child neither is ours, nor is the memory there.
        if self.enrolled.guard().is_ours() {
            // SAFETY: once, here.
            unsafe { ManuallyDrop::drop(&mut self.enrolled) };
        }
    }
}

impl fmt::Debug for Membership<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership").field("id", &self.id()).finish_non_exhaustive()
    }
}

/// The id that stood in the record before `id`.
fn before(id: OwnerId) -> OwnerId {
    let generation = match id.generation() {
        1 => OwnerId::MAX_GENERATION,
        generation => generation - 1,
    };
    OwnerId::new(id.index(), generation).unwrap_or(id)
}

/// The byte whose lock says that `id` lives.
fn byte(id: OwnerId) -> u64 {
    id.word().into()
}

fn entry(identity: &ProcessIdentity, name: &str, role: u32) -> Result<[u32; WORDS], LivenessError> {
    let (found, max) = (name.len(), ProcessTable::MAX_NAME);
    if found > max {
        return Err(LivenessError::NameTooLong { found, max });
    }
    if name.contains('\0') {
        return Err(LivenessError::NameHasZero);
    }
    let mut entry = [0; WORDS];
    let &ProcessIdentity { pid, start, boot, namespace } = identity;
    entry[0] = pid;
    for (pair, value) in entry[1..NAME].chunks_exact_mut(2).zip([start, boot, namespace]) {
        pair.copy_from_slice(&[value as u32, (value >> 32) as u32]);
    }
    for (word, bytes) in entry[NAME..].iter_mut().zip(name.as_bytes().chunks(4)) {
        let mut four = [0; 4];
        four[..bytes.len()].copy_from_slice(bytes);
        *word = u32::from_le_bytes(four);
    }
    entry[ROLE] = role;
    Ok(entry)
}

/// What a record says; `None` if it cannot be a process's.
fn process(found: Snapshot<[u32; WORDS]>) -> Option<Process> {
    let Snapshot { key, entry, .. } = found;
    let double = |at: usize| u64::from(entry[at]) | u64::from(entry[at + 1]) << 32;
    let identity =
        ProcessIdentity { pid: entry[0], start: double(1), boot: double(3), namespace: double(5) };
    let name = &entry[NAME..NAME + NAME_WORDS];
    let mut name: Vec<u8> = name.iter().copied().flat_map(u32::to_le_bytes).collect();
    name.truncate(name.iter().position(|&byte| byte == 0).unwrap_or(name.len()));
    let name = String::from_utf8_lossy(&name).into_owned();
    Some(Process { id: SlotKey::owner_id(key)?, identity, name, role: entry[ROLE] })
}
