//! Joining.

use super::door::Door;
use super::error::NodeError;
use super::inbox::Inbox;
use super::keeper::Keeper;
use super::mapped::Mapped;
use super::message::{Filter, Spare};
use super::name::{node_id, segment_of};
use super::registry::{Place, Registry, register};
use super::shared::{Clock, Parts, Shared};
use super::{Node, sweep};
use crate::config::{Config, Full, Loaded, Wait};
use crate::domain::Domain;
use crate::liveness::Verdict;
use crate::member::{JoinOptions, Member};
use crate::segment::{OpenOptions, Segment, SegmentError};
use shm_primitives::identity::OwnerId;
use shm_primitives::layout::lrpc::{LrpcLayout, NodeId, RegisterError};
use shm_primitives::layout::node::Shape;
use shm_primitives::segment::{self as layout, Control, Magic};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How often to try for a name whose dead owner is just being put away.
const ATTEMPTS: u32 = 50;
/// How often to look for a place in a registry that is full of the living.
const VAIN_ATTEMPTS: u32 = 5;

/// A node to be; see [`Node::builder`]. What is not said here comes from the environment, the file
/// that `SHM_CONFIG` names, or is the [default](Config).
#[must_use = "nothing is joined until `join`"]
pub struct NodeBuilder {
    name: String,
    domain: Option<Domain>,
    config: Option<Config>,
    changes: Vec<Change>,
    filter: Filter,
    clock: Option<Clock>,
}

type Change = Box<dyn FnOnce(&mut Config) + Send>;

impl fmt::Debug for NodeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeBuilder").field("name", &self.name).finish_non_exhaustive()
    }
}

impl NodeBuilder {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            domain: None,
            config: None,
            changes: Vec::new(),
            filter: Filter::ALL,
            clock: None,
        }
    }

    fn set(mut self, change: impl FnOnce(&mut Config) + Send + 'static) -> Self {
        self.changes.push(Box::new(change));
        self
    }

    /// The domain of that name: only nodes that say the same meet.
    pub fn domain(self, name: &str) -> Self {
        let name = name.to_owned();
        self.set(|config| config.domain = name)
    }

    /// That domain, which may be a group's, or lie in another directory.
    pub fn in_domain(mut self, domain: Domain) -> Self {
        self.domain = Some(domain);
        self
    }

    /// These settings, in the place of those from the environment and the file.
    pub fn config(mut self, config: Config) -> Self {
        self.config = Some(config);
        self
    }

    /// The most nodes of the domain; see [`Config::nodes`]. The first node's counts.
    pub fn nodes(self, nodes: u32) -> Self {
        self.set(move |config| config.nodes = nodes)
    }

    /// Bytes of each lane into this node; see [`Config::lane_bytes`].
    pub fn lane_bytes(self, bytes: u32) -> Self {
        self.set(move |config| config.lane_bytes = bytes)
    }

    /// Bytes of the largest message that it sends; see [`Config::max_message_bytes`].
    pub fn max_message(self, bytes: u64) -> Self {
        self.set(move |config| config.max_message_bytes = bytes)
    }

    /// What a send does when the receiver has no room.
    pub fn full(self, full: Full) -> Self {
        self.set(move |config| config.full = full)
    }

    /// How it waits for messages.
    pub fn wait(self, wait: Wait) -> Self {
        self.set(move |config| config.wait = wait)
    }

    /// From one heartbeat to the next; a begun millisecond counts.
    pub fn heartbeat(self, interval: Duration) -> Self {
        self.set(move |config| config.heartbeat_ms = milliseconds(interval))
    }

    /// Without heartbeat for how long a node counts as silent.
    pub fn silent_after(self, time: Duration) -> Self {
        self.set(move |config| config.silent_after_ms = milliseconds(time))
    }

    /// Whether joining connects to all nodes there are.
    pub fn warm_up(self, warm_up: bool) -> Self {
        self.set(move |config| config.warm_up = warm_up)
    }

    /// Which messages it receives; all, unless something else is said.
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }

    /// The clock of heartbeats, for tests and simulations: milliseconds since any moment, the same
    /// in all processes. It is the kernel's monotonic clock otherwise.
    pub fn clock(mut self, clock: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// Joins. Takes a fraction of a millisecond, and starts a thread that looks after the node.
    ///
    /// # Errors
    ///
    /// See [`NodeError`]; nothing is left behind then.
    pub fn join(self) -> Result<Node, NodeError> {
        let Self { name, domain, config, changes, filter, clock } = self;
        let id = node_id(&name)?;
        let config = settings(config, changes)?;
        let domain = match domain {
            Some(domain) => domain,
            None => config.to_domain()?,
        };
        let clock = clock.unwrap_or_else(|| Arc::new(monotonic));
        // Before anything is taken that would have to be given back.
        let keeper = Keeper::start()?;
        // A record for each node, and for whoever else is a member.
        let records =
            config.nodes.saturating_mul(4).min(crate::liveness::ProcessTable::MAX_RECORDS);
        let options = JoinOptions::new().records(records).role(sweep::ROLE);
        let member = Member::join_with(&domain, crate::member::cut(&name), options)?;
        let joined = take_places(&domain, &id, &config, &member, (clock)() as u32);
        let (own, control, registry, place) = match joined {
            Ok(joined) => joined,
            Err(error) => {
                // SAFETY: it holds nothing: everything that was taken was given back.
                let _ = unsafe { member.leave() };
                return Err(error);
            }
        };
        let door = Door::open(Arc::new(own), filter);
        let inbox = Inbox::new(&door, &domain, config.wait);
        let warm_up = config.warm_up;
        let parts = Parts {
            place,
            control,
            inbox,
            door,
            registry,
            member,
            keeper,
            id,
            domain,
            config,
            clock,
        };
        let shared = Arc::new(Shared::new(parts));
        let node = Node { shared: Arc::clone(&shared), spare: Arc::new(Spare::default()) };
        shared.keeper.begin(&shared)?;
        tracing::info!(target: "shm_transport::node", node = %id, owner = %shared.owner, "joined");
        if warm_up && let Err(error) = node.warm_up() {
            tracing::warn!(target: "shm_transport::node", node = %id, %error, "warm-up");
        }
        Ok(node)
    }
}

fn settings(config: Option<Config>, changes: Vec<Change>) -> Result<Config, NodeError> {
    if let Some(mut config) = config {
        changes.into_iter().for_each(|change| change(&mut config));
        config.check()?;
        return Ok(config);
    }
    let mut loaded = Loaded::read()?;
    changes.into_iter().for_each(|change| change(&mut loaded.config));
    loaded.check()?;
    Ok(loaded.config)
}

fn milliseconds(time: Duration) -> u32 {
    u32::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

fn monotonic() -> u64 {
    crate::park::milliseconds()
}

type Taken = (Mapped, Control<'static>, Registry, Place);

/// Takes the name, by the link of the node's segment, then the place in the registry.
fn take_places(
    domain: &Domain,
    id: &NodeId,
    config: &Config,
    member: &Member,
    now: u32,
) -> Result<Taken, NodeError> {
    // A node may have more than one lane from another: one for each sender.
    let mut shape = Shape::new(config.nodes.saturating_mul(2), config.lane_bytes);
    shape.sleepless = config.wait == Wait::Poll;
    let (own, control) = take_name(domain, id, shape, member)?;
    let enter = |layout: &LrpcLayout<'static>| enter(domain, layout, member, id, now);
    match Registry::open_or_create(domain, config.nodes, member.id(), enter) {
        Ok((registry, place)) => Ok((own, control, registry, place)),
        Err(error) => {
            let _ = own.segment.unlink_own(|_| Ok::<_, SegmentError>(true));
            drop(control);
            Err(error)
        }
    }
}

/// Makes the node's segment. If there is one of a dead node, that one is put away first.
fn take_name(
    domain: &Domain,
    id: &NodeId,
    shape: Shape,
    member: &Member,
) -> Result<(Mapped, Control<'static>), NodeError> {
    let mut attempts = 0;
    loop {
        let path = match Mapped::create(domain, id, shape, member.id()) {
            Err(NodeError::Segment(SegmentError::AlreadyExists { path })) => path,
            other => return other,
        };
        attempts += 1;
        match owner_of(domain, id)? {
            None => {}
            Some(owner) => match member.processes().convict(owner)? {
                Verdict::Dead(dead) => {
                    // First, for it may be all that is left: then the dead one has no record.
                    sweep::unlink(
                        domain,
                        &segment_of(id),
                        Magic::NODE,
                        dead,
                        false,
                        sweep::PATIENT,
                    )?;
                    let registry = Registry::open(domain)?;
                    let mut swept = Vec::new();
                    sweep::sweep_one(
                        domain,
                        member,
                        registry.as_ref(),
                        dead,
                        false,
                        sweep::PATIENT,
                        &mut swept,
                    )?;
                }
                Verdict::Alive => return Err(taken(member, id, owner)),
                Verdict::Unknown => {
                    let what = "owner is none of the domain's members";
                    let error = layout::SegmentError::Impossible(what);
                    return Err(NodeError::Layout { path, what: "segment of a node", error });
                }
            },
        }
        if attempts == ATTEMPTS {
            return Err(SegmentError::AlreadyExists { path }.into());
        }
    }
}

fn taken(member: &Member, id: &NodeId, owner: OwnerId) -> NodeError {
    let process = member.processes().process(owner).ok().flatten();
    let pid = process.as_ref().map(|process| process.identity.pid);
    let own = member.processes().process(member.id()).ok().flatten();
    let here = own.zip(process).is_some_and(|(own, other)| own.identity == other.identity);
    NodeError::Taken { name: *id, pid, here }
}

/// Whose segment has the name; `None` if there is none by now, or it is being taken away.
fn owner_of(domain: &Domain, id: &NodeId) -> Result<Option<OwnerId>, NodeError> {
    let minimum = super::mapped::HEADER;
    let opened = Segment::open(domain, &segment_of(id), OpenOptions::new(minimum), |segment| {
        // Also of one that has left, or died while it did.
        layout::owner_of(&segment.region(), Magic::NODE).map_err(|error| NodeError::Layout {
            path: segment.path().into(),
            what: "segment of a node",
            error,
        })
    });
    match opened {
        Ok((_, owner)) => Ok(owner),
        Err(NodeError::Segment(SegmentError::NotFound { .. })) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Takes a place in the registry, while nobody can take that away.
fn enter(
    domain: &Domain,
    layout: &LrpcLayout<'static>,
    member: &Member,
    id: &NodeId,
    now: u32,
) -> Result<Place, NodeError> {
    let (mut attempts, mut in_vain) = (0, 0);
    loop {
        attempts += 1;
        match register(layout, member.id(), id, now) {
            Ok(place) => return Ok(place),
            // The name is ours, by the link: whoever stands there is dead, or just leaves.
            Err(RegisterError::Taken { owner, .. }) => match member.processes().convict(owner)? {
                Verdict::Dead(dead) => {
                    if let Ok(recovery) = layout.registry().recover(dead, member.id()) {
                        recovery.for_each(drop);
                    }
                }
                _ if attempts == ATTEMPTS => return Err(taken(member, id, owner)),
                _ => std::thread::sleep(Duration::from_micros(200)),
            },
            Err(RegisterError::Full(full)) => {
                // Of the dead, perhaps.
                if attempts == ATTEMPTS {
                    return Err(NodeError::Full { nodes: full.slots });
                }
                if !make_room(domain, layout, member)? {
                    // Somebody else may just be freeing one, and have it for so long.
                    in_vain += 1;
                    if in_vain == VAIN_ATTEMPTS {
                        return Err(NodeError::Full { nodes: full.slots });
                    }
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
            Err(RegisterError::Busy(_)) if attempts < ATTEMPTS => {}
            Err(_) => return Err(NodeError::Full { nodes: layout.shape().channels }),
        }
    }
}

/// Frees the places of dead nodes; whether there were any. By now another may have freed them.
fn make_room(
    domain: &Domain,
    layout: &LrpcLayout<'static>,
    member: &Member,
) -> Result<bool, NodeError> {
    let mut were = false;
    let owners: Vec<OwnerId> = layout.registry().owners().map(|(_, owner)| owner).collect();
    for owner in owners {
        if let Verdict::Dead(dead) = member.processes().convict(owner)? {
            were = true;
            if let Ok(recovery) = layout.registry().recover(dead, member.id()) {
                recovery.for_each(drop);
            }
            // Its other things too, and the record last, by which they are found. What somebody
            // holds the lock of goes later, by whoever finds that record.
            let hasty = sweep::PATIENT.patience(Duration::ZERO);
            match sweep::sweep_one(domain, member, None, dead, false, hasty, &mut Vec::new()) {
                Ok(_) | Err(NodeError::Segment(SegmentError::Busy { .. })) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(were)
}
