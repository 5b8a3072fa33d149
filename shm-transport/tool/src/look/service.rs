//! Services: their supervisors, workers and clients, and what they have counted.

use super::{Header, Life, LookError, Members, Seen, Snapshot, TableShape, letters, short};
use serde::Serialize;
use shm_primitives::identity::OwnerId;
use shm_primitives::layout::service::{
    ControlLayout, Order, Orders, SupervisorCount, WorkerCount, WorkerEntry,
};
use shm_primitives::monitor::Group;
use shm_primitives::part::Kind;
use shm_primitives::segment::{Magic, State};
use shm_transport::domain::SegmentName;
use shm_transport::service::view::{Part, part_of};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where the word of a segment's state stands.
const STATE: u64 = 20;
/// Bytes that hold a segment's header and table of parts.
const HEAD: u64 = 4096;
/// How often a segment at work is copied anew when a row of it cannot be read.
const ATTEMPTS: u32 = 4;

/// Someone of a service.
#[derive(Clone, Debug, Serialize)]
pub struct Someone {
    /// Its id among the members of the domain.
    pub id: String,
    pub pid: Option<u32>,
    pub state: Life,
    #[serde(skip)]
    owner: OwnerId,
}

/// A place of a worker.
#[derive(Clone, Debug, Serialize)]
pub struct WorkerNow {
    pub place: u32,
    pub group: &'static str,
    /// What the supervisor says of it.
    pub condition: String,
    /// What it is to do.
    pub order: &'static str,
    /// The worker that has the place.
    pub worker: Option<Someone>,
    pub incarnation: u32,
    pub restarts: u32,
    /// What the last one that died died of.
    pub last_death: Option<String>,
    /// The place whose worker serves its lanes meanwhile.
    pub helper: Option<u32>,
    /// Calls that waited when it last looked.
    pub queued: u32,
    pub processed: u64,
    pub failed: u64,
    pub busy_seconds: f64,
    pub dropped_progress: u64,
}

/// A service at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ServiceNow {
    pub name: String,
    /// That of its control segment; `stopped` if only letters are left.
    pub state: &'static str,
    /// Who looks after it; `None` if nobody does.
    pub supervisor: Option<Someone>,
    /// Places, without spares that were never needed.
    pub workers: Vec<WorkerNow>,
    /// How many workers there are to be at a time.
    pub wanted: u32,
    /// Clients that are connected, and how many may be.
    pub clients: usize,
    /// Those of them that are dead and not yet put away.
    pub clients_dead: usize,
    pub client_places: u32,
    /// Workers that died without having been asked to go.
    pub crashes: u64,
    /// Calls that were in their hands.
    pub poisoned: u64,
    /// Workers that were killed, for they hung.
    pub kills: u64,
    /// Dead letters, and those for which there was no room.
    pub letters: usize,
    pub letters_lost: u64,
    /// Bytes of memory that all of it takes.
    pub resident: u64,
    #[serde(skip)]
    client_owners: Vec<OwnerId>,
}

/// The files of a service.
#[derive(Clone, Debug, Default)]
pub struct ServiceFiles {
    pub control: Option<PathBuf>,
    pub bells: Option<PathBuf>,
    pub letters: Option<PathBuf>,
    pub clients: Vec<PathBuf>,
}

impl ServiceFiles {
    /// Those of each service among the segments of a domain.
    pub fn among(segments: impl Iterator<Item = (SegmentName, PathBuf)>) -> BTreeMap<String, Self> {
        let mut services = BTreeMap::<String, Self>::new();
        for (segment, path) in segments {
            let Some((service, part)) = part_of(&segment) else { continue };
            let files = services.entry(service).or_default();
            match part {
                Part::Control => files.control = Some(path),
                Part::Bells => files.bells = Some(path),
                Part::Letters => files.letters = Some(path),
                Part::Client { .. } => files.clients.push(path),
                _ => {}
            }
        }
        services
    }

    fn all(&self) -> impl Iterator<Item = &PathBuf> {
        let Self { control, bells, letters, clients } = self;
        control.iter().chain(bells).chain(letters).chain(clients)
    }

    /// The ids of all that have something in it: its supervisor, workers and clients. Letters are
    /// nobody's.
    pub fn owners(&self) -> Result<Vec<OwnerId>, LookError> {
        let mut owners = Vec::new();
        for (path, magic) in [(&self.control, Magic::SRVC), (&self.bells, Magic::BELL)] {
            let Some(path) = path else { continue };
            let Some((copy, header)) = open(path, magic)? else { continue };
            owners.extend(header.owner());
            owners.extend(holders(&copy, &header)?);
        }
        for path in &self.clients {
            if let Some((_, header)) = open(path, Magic::PHNX)? {
                owners.extend(header.owner());
            }
        }
        owners.sort_unstable_by_key(|owner| owner.word());
        owners.dedup();
        Ok(owners)
    }
}

/// A segment of that kind, of which the header and the table of parts were copied; `None` if it is
/// gone.
fn open(path: &Path, magic: Magic) -> Result<Option<(Snapshot, Header)>, LookError> {
    let copy = match Snapshot::empty(path) {
        Ok(copy) => copy,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    copy.fetch(0, HEAD)?;
    let header = Header::of(&copy)?;
    if header.magic != magic {
        return Err(foreign(path, format!("it is {}, not {magic}", header.magic)));
    }
    if let Some(problem) = header.problems.first() {
        return Err(foreign(path, problem));
    }
    Ok(Some((copy, header)))
}

fn foreign(path: &Path, why: impl ToString) -> LookError {
    LookError::Foreign { path: path.into(), why: why.to_string() }
}

/// Who has a slot of the first table in it: of workers, or of clients.
fn holders(copy: &Snapshot, header: &Header) -> Result<Vec<OwnerId>, LookError> {
    let wrong = |why: String| foreign(&copy.seen().path, why);
    let Some(entry) = header.part(Kind::SLOT_TABLE) else {
        return Err(wrong("it has no table of who is there".into()));
    };
    copy.fetch(entry.offset, entry.length)?;
    let table = TableShape::at(copy, entry.offset, entry.length).map_err(wrong)?;
    let mut owners = Vec::new();
    for index in 0..table.slots {
        owners.extend(table.slot(copy, index).map_err(wrong)?.map(|slot| slot.owner));
    }
    Ok(owners)
}

/// What there is of a service; `None` if nothing is any more. Who lives is still to be
/// [asked](ServiceNow::judge). What cannot be looked at is noted.
pub fn service(name: &str, files: &ServiceFiles, notes: &mut Vec<LookError>) -> Option<ServiceNow> {
    let mut now = ServiceNow { name: name.into(), state: "stopped", ..ServiceNow::default() };
    let mut resident = 0;
    for path in files.all() {
        resident += Seen::at(path).map_or(0, |seen| seen.resident);
    }
    now.resident = resident;
    let mut is_there = false;
    if let Some(path) = &files.control {
        match control(path, &mut now) {
            Ok(found) => is_there |= found,
            Err(error) => notes.push(error),
        }
    }
    if let Some(path) = &files.bells {
        match open(path, Magic::BELL)
            .and_then(|found| found.map(|(copy, header)| holders(&copy, &header)).transpose())
        {
            Ok(found) => now.client_owners = found.unwrap_or_default(),
            Err(error) => notes.push(error),
        }
    }
    now.clients = now.client_owners.len();
    if let Some(path) = &files.letters {
        match letters::letters(path) {
            Ok(Some(letters)) => {
                now.letters = letters.len();
                is_there = true;
            }
            Ok(None) => {}
            Err(error) => notes.push(error),
        }
    }
    is_there.then_some(now)
}

/// What the control segment says; whether it is there.
fn control(path: &Path, now: &mut ServiceNow) -> Result<bool, LookError> {
    let mut attempt = 1;
    loop {
        let copy = match Snapshot::of(path) {
            Ok(copy) => copy,
            Err(error) if error.is_not_found() => return Ok(false),
            Err(error) => return Err(error),
        };
        let header = Header::of(&copy)?;
        if header.magic != Magic::SRVC {
            return Err(foreign(path, format!("it is {}, not {}", header.magic, Magic::SRVC)));
        }
        now.state = header.state_text();
        now.supervisor = header.owner().map(Someone::of);
        if header.state == Some(State::Closing) {
            // What is in it is as it was.
            copy.set_word(STATE, State::Ready.word());
        }
        let layout = ControlLayout::attach(copy.region()).map_err(|error| foreign(path, error))?;
        let places = 0..layout.shape().workers();
        let workers: Option<Vec<_>> = places.map(|place| worker(&layout, place)).collect();
        match workers {
            Some(workers) => {
                let is_used = |it: &WorkerNow| it.condition != "spare" || it.incarnation != 0;
                now.workers = workers.into_iter().filter(is_used).collect();
            }
            None if attempt < ATTEMPTS => {
                attempt += 1;
                continue;
            }
            None => return Err(foreign(path, "the orders of a place cannot be read")),
        }
        now.client_places = layout.shape().clients;
        now.wanted =
            [Group::Normal, Group::Vip].map(|group| layout.shape().wanted(group)).iter().sum();
        let counts = layout.supervisor_counters().values();
        let count = |which: SupervisorCount| counts[which as usize];
        now.crashes = count(SupervisorCount::Crashes);
        now.poisoned = count(SupervisorCount::Poisoned);
        now.kills = count(SupervisorCount::Kills);
        now.letters_lost = count(SupervisorCount::LettersLost);
        return Ok(true);
    }
}

/// What stands at a place; `None` if the copy took half of a change.
fn worker(control: &ControlLayout<'_>, place: u32) -> Option<WorkerNow> {
    let Orders { incarnation, order, helper, condition, restarts, cause, .. } =
        control.orders(place)?.read().ok()?;
    let table = control.workers();
    let found = table.read(place).ok()?;
    let queued = found.and_then(|found| table.live(found.key, WorkerEntry::QUEUED)).unwrap_or(0);
    let worker = table
        .owner(place)
        .map(Someone::of)
        .map(|worker| Someone { pid: found.map(|found| found.entry.pid), ..worker });
    let counts = control.counters(place)?.values();
    let count = |which: WorkerCount| counts[which as usize];
    Some(WorkerNow {
        place,
        group: match control.shape().group_of(place)? {
            Group::Normal => "normal",
            Group::Vip => "vip",
        },
        condition: condition.to_string(),
        order: match order {
            Order::Run => "run",
            Order::Drain => "drain",
            _ => "vacant",
        },
        worker,
        incarnation,
        restarts,
        last_death: cause.map(|cause| cause.to_string()),
        helper,
        queued,
        processed: count(WorkerCount::Processed),
        failed: count(WorkerCount::Failed),
        busy_seconds: count(WorkerCount::BusyNanoseconds) as f64 / 1e9,
        dropped_progress: count(WorkerCount::DroppedProgress),
    })
}

impl Someone {
    fn of(owner: OwnerId) -> Self {
        Self { id: short(owner), pid: None, state: Life::Unknown, owner }
    }

    fn judge(&mut self, members: &Members) {
        self.state = members.life(self.owner);
        if self.pid.is_none() {
            self.pid = members.name_of(self.owner).map(|(_, pid)| pid);
        }
    }
}

impl ServiceNow {
    /// Asks who of it lives.
    pub fn judge(&mut self, members: &Members) {
        if let Some(supervisor) = &mut self.supervisor {
            supervisor.judge(members);
        }
        for worker in self.workers.iter_mut().filter_map(|place| place.worker.as_mut()) {
            worker.judge(members);
        }
        let dead = |owner: &&OwnerId| members.life(**owner) == Life::Dead;
        self.clients_dead = self.client_owners.iter().filter(dead).count();
    }

    /// How many places have a worker that does not die though it was killed.
    pub fn stuck(&self) -> usize {
        self.workers.iter().filter(|place| place.condition == "stuck").count()
    }

    /// The sum of something over its places.
    pub fn sum(&self, of: impl Fn(&WorkerNow) -> u64) -> u64 {
        self.workers.iter().map(of).fold(0, u64::wrapping_add)
    }

    /// Whether somebody looks after it.
    pub fn is_supervised(&self) -> bool {
        self.supervisor.as_ref().is_some_and(|it| it.state == Life::Alive)
    }

    /// How many places have a worker that is up and lives.
    pub fn up(&self) -> usize {
        let is_up = |place: &&WorkerNow| {
            let lives = |worker: &Someone| worker.state == Life::Alive;
            place.condition == "up" && place.worker.as_ref().is_some_and(lives)
        };
        self.workers.iter().filter(is_up).count()
    }
}
