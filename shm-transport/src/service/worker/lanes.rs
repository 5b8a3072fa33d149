//! The clients' segments, and the lanes in them that this worker has.
//!
//! A lane is taken up when its bit is found set, or at a sweep, and given back when its client is
//! gone or the place that it leads to is no longer this worker's to serve. One whose end another
//! worker still has is left alone: who gives it back rings, and the next sweep looks again.
//!
//! With few lanes all are polled. With many, one that was empty for a while *cools*: its bit is
//! cleared, and it is looked at when that is set, or before the worker sleeps.

use super::post::Post;
use super::ringer::Ringer;
use crate::segment::SegmentError;
use crate::service::mapped::{ClientMapped, MapError};
use shm_primitives::channel::{self, WorkerChannel};
use shm_primitives::layout::phoenix::{self, GroupShape};
use shm_primitives::layout::service::{ClientEntry, ClientPlaces, ClientState};
use shm_primitives::monitor::Group;
use shm_primitives::part::ClaimError;
use shm_primitives::place::{CancelWord, WorkerBell};
use shm_primitives::segment::State;
use shm_primitives::table::SlotKey;
use shm_primitives::wake::Look;
use std::rc::Rc;

/// How many lanes are polled at each glance, hot or not.
const FEW: usize = 16;
/// Looks that find a lane empty before it is cool, where there are many.
const COOLING: u32 = 64;
/// Sweeps that a client is left out of after it could not be met, at the most.
const LONGEST_BREAK: u32 = 1024;

/// A lane that this worker serves. Its fields are dropped in their order.
#[derive(Debug)]
pub(super) struct Lane {
    pub worker: channel::Worker<'static>,
    pub backlog: Backlog,
    pub ringer: Ringer,
    pub cancel: CancelWord<'static>,
    /// Bytes of the largest final reply.
    pub most: usize,
    /// Which place it leads to, and of which client.
    pub place: u32,
    pub client: u32,
    /// Looks that found it empty, in a row.
    quiet: u32,
    /// Its bit is clear.
    is_cool: bool,
    /// A call could not be answered, or a ring is damaged: it is not served any more.
    pub is_broken: bool,
    /// What it lies in.
    _segment: Rc<ClientMapped>,
}

impl Lane {
    /// After a look that found it empty, where there are many.
    #[inline]
    fn cool_down(&mut self, served: &[Served]) {
        self.quiet += 1;
        if self.quiet >= COOLING {
            self.cool(served);
        }
    }

    #[cold]
    fn cool(&mut self, served: &[Served]) {
        self.quiet = 0;
        let Some(served) = served.iter().find(|served| served.place == self.place) else { return };
        let worker = &mut self.worker;
        self.is_cool = served.bell.ready().cool(self.client as usize, || worker.is_request_empty());
    }
}

/// What waits in a lane, seen from outside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backlog {
    channel: WorkerChannel<'static>,
    /// Bytes that a request takes.
    frame: usize,
}

impl Backlog {
    /// Calls that wait, and are in hand: an estimate.
    pub fn calls(&self) -> u32 {
        u32::try_from(self.channel.queued().div_ceil(self.frame)).unwrap_or(u32::MAX)
    }
}

/// A place whose lanes this worker serves.
#[derive(Debug)]
struct Served {
    place: u32,
    is_vip: bool,
    bell: WorkerBell<'static>,
    /// By client place.
    lanes: Vec<Held>,
}

/// How it is with a lane that may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Held {
    No,
    Yes,
    /// There was something wrong with it, which was said: not to be looked at as long as this
    /// client is there.
    Refused,
}

/// A client that is there.
#[derive(Debug)]
struct Client {
    key: SlotKey,
    /// `None` if it could not be opened.
    segment: Option<Rc<ClientMapped>>,
    failures: u32,
    /// Sweeps to leave it out of.
    leave_out: u32,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Lanes {
    /// Those of VIP places come first.
    lanes: Vec<Lane>,
    vips: usize,
    served: Vec<Served>,
    /// By client place.
    clients: Vec<Option<Client>>,
}

impl Lanes {
    pub fn new(clients: u32) -> Self {
        let clients = (0..clients).map(|_| None).collect();
        Self { lanes: Vec::new(), vips: 0, served: Vec::new(), clients }
    }

    pub fn len(&self) -> usize {
        self.lanes.len()
    }

    /// How many of them are of VIP places: the first.
    pub fn vips(&self) -> usize {
        self.vips
    }

    #[inline]
    pub fn get(&mut self, at: usize) -> Option<&mut Lane> {
        self.lanes.get_mut(at)
    }

    /// Which places are served.
    pub fn places(&self) -> impl Iterator<Item = u32> + '_ {
        self.served.iter().map(|served| served.place)
    }

    /// Begins to serve the lanes of a place: those who publish there ring this worker from now on.
    /// Sweep then.
    pub fn take_place(&mut self, post: &Post, place: u32) {
        let Some(bell) = post.bells.layout.worker(place) else { return };
        let Some(group) = post.shape().group_of(place) else { return };
        bell.serve(post.place);
        let lanes = vec![Held::No; self.clients.len()];
        self.served.push(Served { place, is_vip: group == Group::Vip, bell, lanes });
        tracing::debug!(target: "shm_transport::service", worker = post.place, place, "serves");
    }

    /// Gives all lanes of a place back, as they are, and tells whoever serves it now.
    pub fn leave_place(&mut self, post: &Post, place: u32) {
        if let Some(at) = self.served.iter().position(|served| served.place == place) {
            let served = self.served.remove(at);
            if place != post.place && served.bell.server() == Some(post.place) {
                // Whoever sends rings the place's own worker, until somebody else says so.
                served.bell.serve(place);
            }
        }
        let clients = self.drop_lanes(|lane| lane.place == place);
        post.announce(clients.into_iter().map(|client| (place, client)));
        tracing::debug!(target: "shm_transport::service", worker = post.place, place, "has left");
    }

    /// Drops lanes; whose they were.
    fn drop_lanes(&mut self, mut which: impl FnMut(&Lane) -> bool) -> Vec<u32> {
        let mut clients = Vec::new();
        let mut at = 0;
        while at < self.lanes.len() {
            if which(&self.lanes[at]) {
                // In their order: VIP lanes stay first.
                clients.push(self.lanes.remove(at).client);
                self.vips -= usize::from(at < self.vips);
            } else {
                at += 1;
            }
        }
        clients
    }

    /// Whether a lane has something, which the next round finds. A glance at those that are not
    /// cool, or a thorough look at each.
    #[inline]
    pub fn has_something(&mut self, look: Look) -> bool {
        let is_glance = look == Look::Glance;
        let cools = is_glance && self.lanes.len() > FEW;
        let mut found = false;
        for lane in &mut self.lanes {
            if (lane.is_cool && is_glance) || lane.is_broken {
                continue;
            }
            if !lane.worker.is_request_empty() {
                // A round is to find it.
                (lane.is_cool, lane.quiet) = (false, 0);
                found = true;
            } else if cools {
                lane.cool_down(&self.served);
            }
        }
        found
    }

    /// Whether a round looks into it.
    #[inline]
    pub fn is_hot(&self, at: usize) -> bool {
        self.lanes.get(at).is_some_and(|lane| !lane.is_cool && !lane.is_broken)
    }

    /// After a look into a lane that has found something, or not.
    #[inline]
    pub fn looked(&mut self, at: usize, found: bool) {
        let many = self.lanes.len() > FEW;
        let Some(lane) = self.lanes.get_mut(at) else { return };
        if found {
            lane.quiet = 0;
            return;
        }
        if many {
            lane.cool_down(&self.served);
        }
    }

    /// Looks at the bits: takes up lanes that have one, and warms those that were cool.
    #[cold]
    pub fn look_at_bits(&mut self, post: &Post) {
        for at in 0..self.served.len() {
            let ready = self.served[at].bell.ready();
            for client in ready.marked() {
                // Whose bit it is may have changed between the two.
                if self.is_missing(at, client)
                    && !self.take_up(post, at, client as u32)
                    && self.is_missing(at, client)
                {
                    ready.cool(client, || !self.take_up(post, at, client as u32));
                }
            }
        }
        let Self { lanes, served, .. } = self;
        for lane in lanes.iter_mut().filter(|lane| lane.is_cool) {
            let place = served.iter().find(|served| served.place == lane.place);
            if place.is_some_and(|served| served.bell.ready().is_marked(lane.client as usize)) {
                (lane.is_cool, lane.quiet) = (false, 0);
            }
        }
    }

    fn is_missing(&self, at: usize, client: usize) -> bool {
        self.served[at].lanes.get(client) == Some(&Held::No)
    }

    /// Looks at all clients there are: lets go of those that are gone, and takes up what lanes
    /// there are of the others, bits or not.
    #[cold]
    pub fn sweep(&mut self, post: &Post) {
        for served in &self.served {
            // Another may have stored itself there late.
            let _ = served.bell.keep(post.place);
        }
        let table = post.bells.layout.clients();
        for index in 0..self.clients.len() as u32 {
            let known = self.clients[index as usize].is_some();
            if !known && table.owner(index).is_none() {
                continue;
            }
            if !self.meet(post, &table, index) {
                continue;
            }
            for at in 0..self.served.len() {
                if self.is_missing(at, index as usize) {
                    self.claim(post, at, index);
                }
            }
        }
        self.refuse_broken();
        // Another client may have cleared its bit.
        for lane in self.lanes.iter_mut().filter(|lane| lane.is_cool) {
            if !lane.worker.is_request_empty() {
                (lane.is_cool, lane.quiet) = (false, 0);
            }
        }
    }

    /// Takes up one lane, if there is one.
    fn take_up(&mut self, post: &Post, at: usize, client: u32) -> bool {
        let table = post.bells.layout.clients();
        self.meet(post, &table, client) && self.claim(post, at, client)
    }

    /// Whether that client is there, and its segment mapped. Lets go of one that is not.
    fn meet(&mut self, post: &Post, table: &ClientPlaces<'_>, index: u32) -> bool {
        let Some(place) = self.clients.get(index as usize) else { return false };
        if let Some(client) = place {
            if !is_there(table, client.key) || client.is_closing() {
                self.let_go(index);
            } else if client.segment.is_some() {
                return true;
            }
        }
        // Now it is a new one, or one that could not be opened.
        let client = match self.clients[index as usize].take() {
            Some(mut client) if client.leave_out > 0 => {
                client.leave_out -= 1;
                self.clients[index as usize] = Some(client);
                return false;
            }
            Some(client) => client,
            None => match table.read(index) {
                Ok(Some(found)) if is_there(table, found.key) => {
                    Client { key: found.key, segment: None, failures: 0, leave_out: 0 }
                }
                _ => return false,
            },
        };
        let client = client.open(post);
        let opened = client.segment.is_some();
        self.clients[index as usize] = Some(client);
        opened
    }

    /// Forgets a client and all its lanes.
    fn let_go(&mut self, client: u32) {
        self.drop_lanes(|lane| lane.client == client);
        self.clients[client as usize] = None;
        for served in &mut self.served {
            served.lanes[client as usize] = Held::No;
        }
        tracing::debug!(target: "shm_transport::service", client, "lanes let go");
    }

    /// Takes the worker's end of the lane of a client that is mapped, if the client has its.
    fn claim(&mut self, post: &Post, at: usize, client: u32) -> bool {
        let served = &mut self.served[at];
        let Some(Client { key, segment: Some(segment), .. }) = &self.clients[client as usize]
        else {
            return false;
        };
        let shape = post.shape();
        let lane = shape.lane(served.place, client, key.generation());
        let channel = shape.place(served.place).and_then(|place| segment.layout.channel(place));
        let bell = post.bells.layout.client(client);
        let cancel = post.bells.layout.cancel(served.place, client);
        let (Some(lane), Some(channel), Some(bell), Some(cancel)) = (lane, channel, bell, cancel)
        else {
            return false;
        };
        let claimed = match channel.client() {
            Ok([Some(_), Some(_)]) => channel.claim_worker(post.owner, lane),
            // Not opened.
            Ok(_) => return false,
            Err(error) => Err(error),
        };
        let worker = match claimed {
            Ok(worker) => worker,
            // Its former worker has it, or whoever recovers it: one of them announces it.
            Err(ClaimError::Owned(_)) => return false,
            Err(error) => {
                served.lanes[client as usize] = Held::Refused;
                tracing::warn!(target: "shm_transport::service", place = served.place, client, %error, "a lane is not served");
                return false;
            }
        };
        served.lanes[client as usize] = Held::Yes;
        let group = if served.is_vip { shape.vip } else { shape.normal };
        let frame = (group.message_size as usize).saturating_add(24).next_multiple_of(64);
        let lane = Lane {
            worker,
            backlog: Backlog { channel, frame },
            ringer: Ringer::new(bell),
            cancel,
            most: channel.limits().reply as usize,
            place: served.place,
            client,
            quiet: 0,
            is_cool: false,
            is_broken: false,
            _segment: Rc::clone(segment),
        };
        if served.is_vip {
            self.lanes.insert(self.vips, lane);
            self.vips += 1;
        } else {
            self.lanes.push(lane);
        }
        true
    }

    /// Drops the lanes that broke, for as long as their clients are there.
    fn refuse_broken(&mut self) {
        while let Some(at) = self.lanes.iter().position(|lane| lane.is_broken) {
            let (place, client) = (self.lanes[at].place, self.lanes[at].client);
            self.drop_lanes(|lane| lane.place == place && lane.client == client);
            for served in self.served.iter_mut().filter(|served| served.place == place) {
                served.lanes[client as usize] = Held::Refused;
            }
        }
    }
}

/// Whether the lanes of a client are those wanted. Of a group without workers nothing is there to
/// be compared.
fn is_same(found: &phoenix::Shape, wanted: &phoenix::Shape) -> bool {
    let is_same = |found: GroupShape, wanted: GroupShape| {
        found == wanted || (found.workers == 0 && wanted.workers == 0)
    };
    found.lane == wanted.lane
        && is_same(found.normal, wanted.normal)
        && is_same(found.vip, wanted.vip)
}

/// Whether that tenancy of a client's place goes on, and the client calls.
fn is_there(table: &ClientPlaces<'_>, key: SlotKey) -> bool {
    table.live(key, ClientEntry::STATE) == Some(ClientState::Connected as u32)
}

impl Client {
    fn is_closing(&self) -> bool {
        let state = self.segment.as_ref().map(|segment| segment.layout.segment().state());
        !matches!(state, None | Some(Ok(State::Ready)))
    }

    /// Opens its segment.
    #[cold]
    fn open(mut self, post: &Post) -> Self {
        let (index, tenancy) = (self.key.index(), self.key.generation());
        let wanted = post.shape().client_shape(index);
        let opened =
            ClientMapped::open(&post.domain, &post.service, index, tenancy, |segment, layout| {
                if !is_same(&layout.shape(), &wanted) {
                    let why = "its lanes are not those of the service";
                    return Err(MapError::Segment(segment.refused(why)));
                }
                Ok::<_, MapError>(())
            });
        match opened {
            Ok((segment, ())) => {
                tracing::debug!(target: "shm_transport::service", client = index, "met");
                self.segment = Some(Rc::new(segment));
            }
            Err(error) => {
                // One that is gone is about to be known to be.
                let is_news = self.failures == 0
                    && !matches!(error, MapError::Segment(SegmentError::NotFound { .. }));
                if is_news {
                    tracing::warn!(target: "shm_transport::service", client = index, %error, "a client is not served");
                }
                self.leave_out = (1 << self.failures.min(16)).min(LONGEST_BREAK);
                self.failures += 1;
            }
        }
        self
    }
}
