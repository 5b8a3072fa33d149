//! What the dead left in the lanes.
//!
//! A dead *worker* leaves the ends of lanes that it served, its monitor, which says what it had in
//! hand, and its slot. In this order: of the call in hand a dead letter is kept, its caller told,
//! the request skipped, the caller rung; the lane's end is nobody's then, and who serves the place
//! is rung. When that is done for each lane the monitor is reset, then the slot released. A death
//! of the supervisor in between leaves a call that is found again, or that was answered; whatever
//! of it the dead supervisor holds is recovered from it in the same way.
//!
//! A dead *client* leaves its slot and its segment, which is marked as closing and loses its name,
//! before the slot is released; the workers are rung, and let its lanes go when they find it gone.

use super::letters::Letters;
use super::shared::Shared;
use crate::liveness::Verdict;
use crate::member::Member;
use crate::park::FutexPark;
use crate::segment::{OpenOptions, Segment, SegmentError};
use crate::service::clock;
use crate::service::failure::Failure;
use crate::service::mapped::{ClientMapped, HEADER, MapError};
use crate::service::name::client_of;
use shm_primitives::channel::{Recovered, ReplyError};
use shm_primitives::identity::{Dead, OwnerId};
use shm_primitives::layout::letters::LetterEntry;
use shm_primitives::layout::phoenix::GroupShape;
use shm_primitives::layout::service::{Cause, ClientEntry, Shape};
use shm_primitives::monitor::{Snapshot, ThreadMonitor, Transaction};
use shm_primitives::part::ClaimError;
use shm_primitives::segment::{self as layout, Magic};
use shm_primitives::table::{SlotKey, Snapshot as Found};
use std::time::Duration;

/// How often one after another is found to hold the other end of a lane.
const HOLDERS: u32 = 8;

/// How often to try to open a client's lanes before its worker's monitor is reset, and how long to
/// wait in between.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(1);

/// Who died, and what is said of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Casualty {
    pub dead: Dead<OwnerId>,
    /// What it died of.
    pub cause: Cause,
    /// Its place, if it had one.
    pub place: Option<u32>,
    /// Its process, 0 if unknown.
    pub pid: u32,
}

/// What was found.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Tally {
    /// Calls that were in hand.
    pub poisoned: u64,
    /// Dead letters of those for which there was no room.
    pub lost: u64,
    /// Lanes that could not be recovered, and are out of service.
    pub broken: u64,
}

/// The lanes of all clients.
#[derive(Debug)]
pub(super) struct Lanes<'s> {
    shared: &'s Shared,
    clients: Vec<Client>,
    park: FutexPark,
    /// For lanes that nobody had anything of in hand.
    idle: ThreadMonitor,
}

#[derive(Debug)]
struct Client {
    key: SlotKey,
    pid: u32,
    mapped: ClientMapped,
}

impl<'s> Lanes<'s> {
    pub fn new(shared: &'s Shared) -> Self {
        Self { shared, clients: Vec::new(), park: FutexPark::new(), idle: ThreadMonitor::new() }
    }

    /// Opens the lanes of clients that are new; whether that could be done.
    pub fn refresh(&mut self) -> bool {
        let mut all = true;
        for found in self.shared.bells.layout.clients().iter().flatten() {
            if !self.clients.iter().any(|client| client.key == found.key) {
                all &= self.open(&found);
            }
        }
        all
    }

    fn open(&mut self, found: &Found<ClientEntry>) -> bool {
        let Shared { domain, service, .. } = self.shared;
        let (place, tenancy) = (found.key.index(), found.key.generation());
        let opened = ClientMapped::open(domain, service, place, tenancy, |segment, layout| {
            // Lanes of another shape lie elsewhere.
            let (found, wanted) = (layout.shape(), self.shared.shape().client_shape(place));
            let same = |a: GroupShape, b: GroupShape| a == b || a.workers == 0 && b.workers == 0;
            if !same(found.normal, wanted.normal) || !same(found.vip, wanted.vip) {
                return Err(segment.refused("its lanes are not those of the service").into());
            }
            Ok::<_, MapError>(())
        });
        match opened {
            Ok((mapped, ())) => {
                self.clients.push(Client { key: found.key, pid: found.entry.pid, mapped });
                true
            }
            // It leaves, or has left.
            Err(
                MapError::Segment(SegmentError::NotFound { .. })
                | MapError::Layout { error: layout::SegmentError::Closing { .. }, .. },
            ) => true,
            Err(error) => {
                tracing::warn!(target: TARGET, %service, place, %error, "a client's lanes");
                // What is no client's lanes never will be; else it may be a matter of memory.
                matches!(error, MapError::Layout { .. })
            }
        }
    }

    /// Those who have workers' ends and are not among `known`.
    pub fn strangers(&self, known: &[OwnerId]) -> Vec<OwnerId> {
        let shape = self.shared.shape();
        let all = self.clients.iter().flat_map(|client| ends(shape, client)).flatten().flatten();
        let mut strangers: Vec<OwnerId> = all.filter(|owner| !known.contains(owner)).collect();
        strangers.sort_by_key(|owner| owner.word());
        strangers.dedup();
        strangers
    }

    /// Lets go of the lanes of clients that are gone, if no worker has an end of them any more: one
    /// that dies of what such a client has sent leaves a letter all the same. No more such lanes are
    /// kept than there may be clients, for what is said of their ends stands in their own memory.
    pub fn tidy(&mut self) {
        let table = self.shared.bells.layout.clients();
        let shape = self.shared.shape();
        let is_there = |client: &Client| {
            let place = client.key.index();
            table.owner(place).is_some() && table.tenancy(place) == Some(client.key)
        };
        let gone = self.clients.iter().filter(|client| !is_there(client)).count();
        let mut too_many = gone.saturating_sub(shape.clients as usize);
        self.clients.retain(|client| {
            if is_there(client) {
                return true;
            }
            // The oldest are the first.
            if too_many > 0 {
                too_many -= 1;
                return false;
            }
            ends(shape, client).any(|ends| ends != [None, None])
        });
    }

    /// Recovers all lanes that a dead one had ends of. Its monitor and its slot are left to be reset
    /// and released after this.
    pub fn recover(
        &mut self,
        casualty: &Casualty,
        member: &Member,
        letters: &mut Letters,
    ) -> Tally {
        // A lane that is not looked into now may be one that it had something of in hand, and that
        // would not be known later.
        for _ in 0..ATTEMPTS {
            if self.refresh() {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        let mut tally = Tally::default();
        let shape = *self.shared.shape();
        let clients = std::mem::take(&mut self.clients);
        // Whose caller waits for an error first.
        let noted = casualty.place.and_then(|place| self.in_hand(place));
        let noted = noted.map(|noted| u32::from(noted.lane));
        let lane_of = |place: u32, client: &Client| place * shape.clients + client.key.index();
        for first in [true, false] {
            for client in &clients {
                for place in 0..shape.workers() {
                    if (noted == Some(lane_of(place, client))) == first {
                        self.recover_lane(client, place, casualty, member, letters, &mut tally);
                    }
                }
            }
        }
        self.clients = clients;
        tally
    }

    /// Whether a worker's end of any lane is its.
    pub fn names(&self, owner: OwnerId) -> bool {
        let shape = self.shared.shape();
        self.clients.iter().any(|client| ends(shape, client).any(|it| it.contains(&Some(owner))))
    }

    /// Which function is called by the request that is in hand in a lane; `None` if that is not
    /// known, or by now another request is.
    pub fn function_in_hand(&self, lane: u16, seq_id: u64) -> Option<u32> {
        let shape = self.shared.shape();
        let (place, index) = (u32::from(lane) / shape.clients, u32::from(lane) % shape.clients);
        let at = shape.place(place)?;
        let client = self.clients.iter().rev().find(|client| client.key.index() == index)?;
        let header = client.mapped.layout.channel(at)?.in_hand()?;
        (header.seq_id() == seq_id).then(|| header.func_id())
    }

    /// What the worker of a place has in hand, by its monitor.
    fn in_hand(&self, place: u32) -> Option<Transaction> {
        match self.shared.control.layout.monitor(place)?.snapshot() {
            Ok(Snapshot::Processing(noted)) => Some(noted),
            _ => None,
        }
    }

    /// Whether the worker of a place has something in hand, by its monitor, of a client whose lanes
    /// are there no more.
    pub fn is_lost(&self, place: u32) -> bool {
        let shape = self.shared.shape();
        let is_of = |noted: &Transaction, key: SlotKey| {
            u32::from(noted.lane) % shape.clients == key.index()
                && noted.lane_epoch == key.generation()
        };
        self.in_hand(place)
            .is_some_and(|noted| !self.clients.iter().any(|client| is_of(&noted, client.key)))
    }

    /// Recovers the lane from one client to one place, if the dead one had an end of it.
    fn recover_lane(
        &self,
        client: &Client,
        place: u32,
        casualty: &Casualty,
        member: &Member,
        letters: &mut Letters,
        tally: &mut Tally,
    ) {
        let (shape, index) = (self.shared.shape(), client.key.index());
        let Some(channel) = shape.place(place).and_then(|at| client.mapped.layout.channel(at))
        else {
            return;
        };
        let Some(lane) = shape.lane(place, index, client.key.generation()) else { return };
        let is_theirs = |ends: [Option<OwnerId>; 2]| ends.contains(&Some(casualty.dead.id()));
        if !channel.worker().is_ok_and(is_theirs) {
            return;
        }
        // Who had it in hand: the one of the place, a helper, or one whose supervisor died while it
        // recovered the lane, so that its monitor says so still.
        // Two may have noted the lane, one after the other: the one whose call it still is.
        let next = channel.in_hand().map(|header| header.seq_id());
        let note = |place: &u32| self.in_hand(*place).filter(|noted| noted.lane == lane.lane);
        let places = || 0..shape.workers();
        let noter = places()
            .find(|place| note(place).is_some_and(|noted| Some(noted.seq_id) == next))
            .or_else(|| places().find(|place| note(place).is_some()));
        let control = &self.shared.control.layout;
        // Whose call it was is who died of it, if a supervisor died of something else meanwhile. By
        // the slot, which is released last: who comes to this letter once more says the same, so
        // that it is kept once.
        let worker = noter.and_then(|place| control.workers().read(place).ok().flatten());
        let worker_pid = worker.map_or(casualty.pid, |worker| worker.entry.pid);
        let monitor = noter.and_then(|place| control.monitor(place)).unwrap_or(&self.idle);
        let mut dead = casualty.dead;
        for _ in 0..HOLDERS {
            let mut writer = monitor.recover_writer(dead);
            match channel.recover_worker(dead, self.shared.owner, lane, &mut writer) {
                Ok(Recovered::Poison(mut poison)) => {
                    tally.poisoned += 1;
                    let header = poison.header();
                    let entry = LetterEntry {
                        func_id: header.func_id(),
                        worker: noter.unwrap_or(place),
                        worker_pid,
                        cause: Cause::to_words(Some(casualty.cause)),
                        attempt: 1,
                        client_pid: client.pid,
                        ..LetterEntry::new(header.seq_id()).at(clock::since_1970())
                    };
                    let kept = match poison.request() {
                        // Copied before anything of it is looked at: its client may live.
                        Ok(message) => {
                            let mut copy = vec![0; message.size()];
                            message.copy_payload(&mut copy);
                            letters.keep(entry, &copy)
                        }
                        Err(_) => letters.keep(entry, &[]),
                    };
                    let service = &self.shared.service;
                    let (function, worker) = (entry.func_id, entry.worker);
                    let letter = match kept {
                        Ok(letter) => {
                            tracing::warn!(
                                target: TARGET, %service, place = worker, function,
                                letter = %format_args!("{}-{}", letter.index(), letter.generation()),
                                cause = %casualty.cause, "a call was left behind"
                            );
                            Some(letter)
                        }
                        Err(error) => {
                            tally.lost += 1;
                            tracing::warn!(target: TARGET, %service, place = worker, function, %error, "a dead letter is lost");
                            None
                        }
                    };
                    let failure = Failure::Crashed {
                        cause: casualty.cause,
                        attempt: 1,
                        place: worker,
                        letter,
                    };
                    let most = channel.limits().reply as usize;
                    match poison.fail(&failure.to_bytes(most)) {
                        Ok(()) | Err(ReplyError::Answered) => {}
                        Err(error) => {
                            let service = &self.shared.service;
                            tracing::warn!(target: TARGET, %service, place, %error, "a caller is not told");
                        }
                    }
                    // Its end, given back.
                    drop(poison.skip());
                    self.ring_client(index);
                }
                Ok(Recovered::Answered(_, worker)) => {
                    drop(worker);
                    // It may not have been told.
                    self.ring_client(index);
                }
                Ok(Recovered::Nothing(worker)) => drop(worker),
                Err(ClaimError::NotTheOwner { found: Some(other) }) => {
                    // Two dead, one end each.
                    match member.processes().convict(other) {
                        Ok(Verdict::Dead(one)) => {
                            dead = one;
                            continue;
                        }
                        // It has taken up what was nobody's.
                        _ => return,
                    }
                }
                Err(ClaimError::NotTheOwner { found: None }) => {}
                Err(error) => {
                    tally.broken += 1;
                    let service = &self.shared.service;
                    tracing::warn!(target: TARGET, %service, place, client = index, %error, "a lane is out of service");
                    return;
                }
            }
            break;
        }
        // Who serves the place takes the lane up now.
        if let Some(mut announcer) = self.shared.bells.layout.announcer(place, index) {
            announcer.announce(&self.park);
        }
    }

    /// Puts away the dead client's places and segments, and tells the workers. Answers how many.
    pub fn recover_client(&mut self, dead: Dead<OwnerId>, member: &Member) -> u32 {
        // What it has sent may kill a worker yet: see `tidy`.
        self.refresh();
        let Shared { domain, service, bells, .. } = self.shared;
        let table = bells.layout.clients();
        // Of one that had not published an entry, the tenancy is not said by the slot taken over.
        let of = |(index, owner)| (owner == dead.id()).then(|| table.tenancy(index)).flatten();
        let keys: Vec<SlotKey> = table.owners().filter_map(of).collect();
        for key in &keys {
            let (place, tenancy) = (key.index(), key.generation());
            self.close(*key, dead);
            let name = client_of(service, place, tenancy);
            // Nobody else has a segment of this tenancy.
            let removed = Segment::unlink(domain, &name, OpenOptions::new(HEADER), |segment| {
                let owner = layout::owner_of(&segment.region(), Magic::PHNX).ok().flatten();
                match owner.filter(|owner| *owner != self.shared.owner) {
                    None => Ok::<_, SegmentError>(true),
                    Some(owner) => Ok(!matches!(
                        member.processes().convict(owner),
                        Ok(Verdict::Alive) | Err(_)
                    )),
                }
            });
            match removed {
                Ok(_) | Err(SegmentError::NotFound { .. }) => {}
                Err(error) => {
                    tracing::warn!(target: TARGET, %service, place, %error, "a dead client's segment stays");
                }
            }
        }
        let released = table.release_all_of(dead, self.shared.owner).unwrap_or(0);
        for key in &keys {
            self.ring_workers(key.index());
        }
        released
    }

    /// Marks the segment of a dead client as closing, for the workers that have it mapped.
    fn close(&self, key: SlotKey, dead: Dead<OwnerId>) {
        let close = |mapped: &ClientMapped| {
            if let Ok(mut control) =
                mapped.layout.segment().recover_control(dead, self.shared.owner)
            {
                control.close();
            }
        };
        if let Some(client) = self.clients.iter().find(|client| client.key == key) {
            return close(&client.mapped);
        }
        let Shared { domain, service, .. } = self.shared;
        let (place, tenancy) = (key.index(), key.generation());
        if let Ok((mapped, ())) =
            ClientMapped::open(domain, service, place, tenancy, |_, _| Ok::<_, MapError>(()))
        {
            close(&mapped);
        }
    }

    /// Wakes whoever serves a place, because of this client's lanes.
    fn ring_workers(&self, client: u32) {
        for place in 0..self.shared.shape().workers() {
            if let Some(mut announcer) = self.shared.bells.layout.announcer(place, client) {
                announcer.announce(&self.park);
            }
        }
    }

    fn ring_client(&self, client: u32) {
        if let Some(bell) = self.shared.bells.layout.client(client) {
            bell.bell().shared_notifier().notify(&self.park);
        }
    }

    /// Wakes all clients that there are.
    pub fn ring_clients(&self) {
        for (client, _) in self.shared.bells.layout.clients().owners() {
            self.ring_client(client);
        }
    }

    /// Wakes the worker of a place: its orders have changed.
    pub fn ring_worker(&self, place: u32) {
        if let Some(bell) = self.shared.bells.layout.worker(place) {
            bell.bell().shared_notifier().notify(&self.park);
        }
    }
}

/// Who has the workers' ends of a client's lanes.
fn ends<'c>(
    shape: &'c Shape,
    client: &'c Client,
) -> impl Iterator<Item = [Option<OwnerId>; 2]> + 'c {
    let channel = |place| client.mapped.layout.channel(shape.place(place)?);
    (0..shape.workers()).filter_map(move |place| channel(place)?.worker().ok())
}

/// What is logged as.
pub(super) const TARGET: &str = "shm_transport::service";
