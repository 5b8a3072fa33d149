//! The thread that looks after a node.
//!
//! It gives the heartbeats; it is told by the kernel of the death of peers that the node has lanes
//! to, and notes it where the senders see it; it looks in the registry who has been silent, asks
//! the kernel about those, and puts away what the dead left; it takes back the lanes of dead
//! senders; it tells those who watch. No message passes through it.
//!
//! A peer's death is noticed within a millisecond or so where there is a pidfd, else within ten;
//! that of others when they have been silent for as long as was configured, and within a tenth of
//! a second while somebody watches. What a dead node left is put away not sooner than one heartbeat
//! after its death was seen, so that all who watch have seen it.

use super::chunks::Pool;
use super::error::NodeError;
use super::peer::Peer;
use super::shared::{Inside, PoolGuard, Shared};
use super::sweep;
use super::watch::{NodeInfo, NodeState};
use crate::liveness::{DeathWatch, LivenessError, Verdict};
use crate::member::Member;
use crate::park::FutexPark;
use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{read, write};
use shm_primitives::identity::{Dead, OwnerId};
use shm_primitives::layout::lrpc::Node;
use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often to look at the registry while somebody watches.
const WATCHING: Duration = Duration::from_millis(100);
/// Heartbeats between two looks at the records of all members.
const RECORDS: u32 = 4;
/// Heartbeats between two looks whether a pool's memory can be given back.
const IDLE: u32 = 5;

/// The thread, as the node knows it.
#[derive(Debug)]
pub(super) struct Keeper {
    orders: Arc<Orders>,
    thread: Mutex<Option<JoinHandle<()>>>,
    node: Arc<OnceLock<Weak<Shared>>>,
}

/// What the thread is told.
#[derive(Debug)]
struct Orders {
    inner: Mutex<Inner>,
    /// Readable when there is something new.
    news: OwnedFd,
}

#[derive(Debug, Default)]
struct Inner {
    peers: Vec<Weak<Peer>>,
    stop: bool,
}

impl Keeper {
    /// Starts it. It waits until it is [told](Self::begin) whom to look after.
    pub fn start() -> Result<Self, NodeError> {
        let news = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let news = news.map_err(|error| NodeError::Thread(error.into()))?;
        let orders = Arc::new(Orders { inner: Mutex::default(), news });
        Ok(Self { orders, thread: Mutex::new(None), node: Arc::default() })
    }

    /// Begins to look after a node.
    pub fn begin(&self, shared: &Arc<Shared>) -> Result<(), NodeError> {
        let _ = self.node.set(Arc::downgrade(shared));
        let (shared, orders) = (Arc::clone(shared), Arc::clone(&self.orders));
        let inside = shared.inside().ok_or(NodeError::NotJoined)?;
        let spawned = crate::event::without_signals(|| {
            let name = "shm-node".into();
            thread::Builder::new().name(name).stack_size(256 << 10).spawn({
                let shared = Arc::clone(&shared);
                move || {
                    // The use that begins below.
                    let _inside = Inside(&shared);
                    keep(&shared, &orders);
                }
            })
        });
        match spawned {
            Ok(thread) => {
                inside.stay();
                *self.thread.lock() = Some(thread);
                Ok(())
            }
            Err(error) => Err(NodeError::Thread(error)),
        }
    }

    /// Looks after a peer, for as long as it has a lane.
    pub fn add(&self, peer: &Arc<Peer>) {
        self.orders.inner.lock().peers.push(Arc::downgrade(peer));
        self.orders.ring();
    }

    /// Something may be different: the thread looks.
    pub fn ring(&self) {
        self.orders.ring();
    }

    /// Ends it; waits for that if `wait`, unless it is itself that asks.
    pub fn stop(&self, wait: bool) {
        self.orders.inner.lock().stop = true;
        self.orders.ring();
        let Some(thread) = self.thread.lock().take() else { return };
        if wait && thread.thread().id() != thread::current().id() {
            let _ = thread.join();
        }
    }
}

impl Orders {
    fn ring(&self) {
        // A counter that is full is readable as well.
        let _ = write(&self.news, &1u64.to_ne_bytes());
    }

    fn hear(&self) {
        let mut count = [0; 8];
        let _ = read(&self.news, &mut count);
    }
}

/// What the thread does.
fn keep(shared: &Shared, orders: &Orders) {
    let Some(member) = shared.member() else { return };
    let mut rounds = Rounds {
        shared,
        member: &member,
        watch: DeathWatch::new(member.processes()).interrupted_by(orders.news.as_fd()),
        dead: HashMap::new(),
        beats: 0,
    };
    let mut next_beat = Instant::now();
    loop {
        orders.hear();
        let peers: Vec<Arc<Peer>> = {
            let mut inner = orders.inner.lock();
            if inner.stop && rounds.may_end() {
                return;
            }
            inner.peers.retain(|peer| peer.strong_count() > 0);
            inner.peers.iter().filter_map(Weak::upgrade).filter(|peer| !peer.is_gone()).collect()
        };
        rounds.watch_over(&peers);
        let now = Instant::now();
        let has_left = shared.has_left();
        if now >= next_beat {
            next_beat = now + shared.config.heartbeat();
            rounds.beat();
        }
        let watching = shared.watchers.are_there();
        if watching {
            rounds.tell();
        }
        let soon = has_left || watching;
        let until = if soon { next_beat.min(now + WATCHING) } else { next_beat };
        match rounds.watch.wait(Some(until)) {
            Ok(Some(dead)) => rounds.died(dead, &peers),
            Ok(None) => {}
            Err(error) => {
                tracing::error!(target: "shm_transport::node", node = %shared.id, %error, "watch over peers");
                thread::sleep(WATCHING);
            }
        }
    }
}

struct Rounds<'k> {
    shared: &'k Shared,
    member: &'k Member,
    watch: DeathWatch<'k, 'k>,
    /// Who was seen dead and is not put away, and when that was seen first.
    dead: HashMap<OwnerId, Instant>,
    beats: u32,
}

impl Rounds<'_> {
    /// Whether a node that has left needs nobody any more: nothing of its pool is being read, and
    /// no file has its name.
    fn may_end(&self) -> bool {
        if !self.shared.is_nameless() {
            return false;
        }
        self.forget_dead_readers();
        let pool = self.shared.try_pool();
        pool.is_some_and(|mut pool| pool.as_mut().is_none_or(super::chunks::Pool::is_idle))
    }

    /// Takes back what receivers had that died after their lanes were gone.
    fn forget_dead_readers(&self) {
        let Some(mut pool) = self.shared.try_pool() else { return };
        let Some(pool) = pool.as_mut() else { return };
        self.shared.forget_the_gone(pool);
        pool.tidy();
    }

    /// Watches these, and whoever else is to be, and nobody else.
    fn watch_over(&mut self, peers: &[Arc<Peer>]) {
        let own = self.shared.owner;
        let mut wanted: HashSet<OwnerId> =
            peers.iter().map(|peer| peer.owner).filter(|owner| *owner != own).collect();
        if self.shared.watchers.are_there() {
            let nodes = self.shared.registry.nodes().map(|node| node.owner);
            wanted.extend(nodes.filter(|owner| *owner != own && !self.dead.contains_key(owner)));
        }
        let watched: Vec<OwnerId> = self.watch.ids().collect();
        for id in watched {
            if !wanted.remove(&id) {
                self.watch.remove(id);
            }
        }
        for id in wanted {
            match self.watch.add(id) {
                Ok(()) | Err(LivenessError::Unknown { .. }) => {}
                Err(error) => {
                    tracing::warn!(target: "shm_transport::node", node = %self.shared.id, %error, "a peer");
                }
            }
        }
    }

    /// Somebody is dead.
    fn died(&mut self, dead: Dead<OwnerId>, peers: &[Arc<Peer>]) {
        // The kernel says the same of one that has left; who sends to it asks its segment first.
        for peer in peers.iter().filter(|peer| peer.owner == dead.id()) {
            tracing::info!(target: "shm_transport::node", node = %self.shared.id, peer = %peer.id, "gone");
            peer.note_dead();
        }
        self.recover(dead);
    }

    /// Takes back what it had of this node's.
    fn recover(&mut self, dead: Dead<OwnerId>) {
        self.dead.entry(dead.id()).or_insert_with(Instant::now);
        if self.shared.has_left() {
            return;
        }
        let lanes = self.shared.own().layout.lanes();
        if let Ok(1..) = lanes.recover(dead) {
            // They are read to their ends and given back.
            lanes.bell().shared_notifier().notify(&FutexPark::new());
        }
        self.recover_pool(dead);
    }

    /// Takes back what the dead one had of this node's pool. False if another thread has the pool:
    /// it has to be done again.
    fn recover_pool(&self, dead: Dead<OwnerId>) -> bool {
        let Some(mut pool) = self.shared.try_pool() else { return false };
        if let Some(pool) = pool.as_mut() {
            pool.recover(dead);
        }
        true
    }

    /// What is done at each heartbeat.
    fn beat(&mut self) {
        self.beats = self.beats.wrapping_add(1);
        let shared = self.shared;
        if shared.has_left() {
            return;
        }
        if let Some(place) = &mut *shared.place.lock() {
            place.beat(shared.now());
        }
        self.member.beat();
        // Not sooner: others look for it in the registry, to tell a death from a leave.
        let heartbeat = shared.config.heartbeat();
        let due: Vec<OwnerId> = self
            .dead
            .iter()
            .filter(|(_, seen)| seen.elapsed() >= heartbeat)
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            let is_done = match self.member.processes().convict(id) {
                Ok(Verdict::Dead(dead)) => self.recover_pool(dead) && self.put_away(dead),
                _ => true,
            };
            if is_done {
                self.dead.remove(&id);
            }
        }
        if self.beats % RECORDS == 1 {
            self.look_at_records();
        }
        self.look_at_the_silent();
        self.look_at_senders();
        self.forget_dead_readers();
        if self.beats.is_multiple_of(IDLE) {
            let give_back =
                |mut pool: PoolGuard| pool.as_mut().is_some_and(Pool::give_back_if_idle);
            while shared.try_pool().is_some_and(give_back) {}
        }
    }

    /// Asks the kernel about all records of nodes: some may be of dead ones whose heirs died too.
    fn look_at_records(&mut self) {
        let table = self.member.processes();
        for (id, verdict) in table.verdicts().flatten() {
            if verdict.dead().is_some_and(|dead| sweep::is_ours(table, dead)) {
                self.dead.entry(id).or_insert_with(Instant::now);
            }
        }
    }

    /// False if it has to be done again.
    fn put_away(&self, dead: Dead<OwnerId>) -> bool {
        let Shared { domain, registry, id, .. } = self.shared;
        let mut swept = Vec::new();
        let options = sweep::PATIENT.patience(Duration::ZERO);
        let registry = Some(registry);
        let all = sweep::sweep_one(domain, self.member, registry, dead, false, options, &mut swept);
        for what in swept {
            tracing::info!(target: "shm_transport::node", node = %id, ?what, "put away");
        }
        all.unwrap_or_else(|error| {
            tracing::warn!(target: "shm_transport::node", node = %id, %error, "what the dead left stays");
            false
        })
    }

    /// Asks the kernel about nodes that have been silent for long.
    fn look_at_the_silent(&mut self) {
        let (shared, now) = (self.shared, self.shared.now());
        for node in shared.registry.nodes().filter(|node| node.owner != shared.owner) {
            let silent = shared.registry.layout().silent_for(node.key, now).unwrap_or(0);
            if silent >= shared.config.silent_after_ms
                && let Ok(Verdict::Dead(dead)) = self.member.processes().convict(node.owner)
            {
                self.recover(dead);
            }
        }
    }

    /// Asks the kernel about those who hold lanes into this node. One system call for each.
    fn look_at_senders(&mut self) {
        let shared = self.shared;
        let lanes = shared.own().layout.lanes();
        let senders: HashSet<OwnerId> = lanes.table().owners().map(|(_, owner)| owner).collect();
        for sender in senders.into_iter().filter(|sender| *sender != shared.owner) {
            if let Ok(Verdict::Dead(dead)) = self.member.processes().convict(sender) {
                self.recover(dead);
            }
        }
    }

    /// Tells those who watch.
    fn tell(&self) {
        self.shared.watchers.tell(&nodes(self.shared, self.member));
    }
}

/// All nodes of the registry, and what the kernel says of those that are silent or were seen to
/// have died.
pub(super) fn nodes(shared: &Shared, member: &Member) -> Vec<NodeInfo> {
    let now = shared.now();
    shared.registry.nodes().filter_map(|node| info(shared, member, now, &node)).collect()
}

/// What there is to say of one that stood in the registry; `None` if it has left since.
fn info(shared: &Shared, member: &Member, now: u32, node: &Node) -> Option<NodeInfo> {
    let verdict = member.processes().convict(node.owner);
    // After that: the lock of one that leaves falls when its place is given up.
    let silent = shared.registry.layout().silent_for(node.key, now)?;
    let state = match verdict {
        Ok(Verdict::Dead(_)) => NodeState::Dead,
        _ if silent >= shared.config.silent_after_ms => {
            NodeState::Silent(Duration::from_millis(silent.into()))
        }
        _ => NodeState::Alive,
    };
    Some(NodeInfo { id: node.id, pid: node.pid, owner: node.owner, state })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::domain::Domain;

    /// It leaves while somebody is just asking about it.
    #[test]
    fn one_that_leaves_is_not_told_of_as_dead() {
        let domain = Domain::new(&format!("keeper-{}", std::process::id())).unwrap();
        let join = |name| {
            let builder = crate::node::Node::builder(name).config(Config::default());
            builder.in_domain(domain.clone()).join().unwrap()
        };
        let (here, there) = (join("here"), join("there"));
        let (shared, member) = (&here.shared, here.shared.member().unwrap());
        let stood_there = shared.registry.find(there.id()).unwrap();
        let found = || info(shared, &member, shared.now(), &stood_there);
        assert!(found().is_some_and(|found| found.state == NodeState::Alive));
        there.leave().unwrap();
        assert_eq!(found(), None);
    }
}
