//! What all handles of one node have in common.

use super::chunks::{PlaceId, Pool};
use super::connection::Connection;
use super::door::Door;
use super::error::{NodeError, SendError};
use super::inbox::Inbox;
use super::keeper::Keeper;
use super::mapped::Mapped;
use super::peer::Peer;
use super::registry::{Place, Registry};
use super::statistics::Lines;
use super::watch::Watchers;
use crate::config::Config;
use crate::domain::Domain;
use crate::fork::{Process, this_process};
use crate::liveness::Verdict;
use crate::member::{Left, Member};
use crate::park::FutexPark;
use crate::segment::SegmentError;
use parking_lot::{ArcMutexGuard, Mutex, RawMutex};
use shm_primitives::identity::OwnerId;
use shm_primitives::layout::lrpc::NodeId;
use shm_primitives::segment::Control;
use std::collections::{HashMap, HashSet};
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The pool, for one thread at a time; there is one in it.
pub(super) type PoolGuard = ArcMutexGuard<RawMutex, Option<Pool>>;

/// The clock of heartbeats: milliseconds, from any moment, the same for all processes.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A node. Its fields are dropped in their order.
pub(super) struct Shared {
    /// Its place in the registry.
    pub place: Mutex<Option<Place>>,
    control: Mutex<Option<Control<'static>>>,
    pub connections: Mutex<HashMap<NodeId, Arc<Connection>>>,
    pub inbox: Mutex<ManuallyDrop<Inbox>>,
    pool: Arc<Mutex<Option<Pool>>>,
    /// Places in it of lanes that went while another thread had the pool.
    closing: Mutex<Vec<PlaceId>>,
    pub door: Arc<Door>,
    pub registry: Registry,
    /// `None` once it has left the domain.
    member: Mutex<Option<Arc<Member>>>,
    /// The one that looks after it. Also knows the peers.
    pub keeper: Keeper,
    pub watchers: Watchers,
    pub statistics: Lines,
    /// How many are about to do something under its id, and [`LEFT`].
    users: AtomicUsize,
    pub id: NodeId,
    pub owner: OwnerId,
    pub domain: Domain,
    pub config: Config,
    pub clock: Clock,
    process: Process,
}

/// How long to wait for a thread that has the pool: to write a message, as a rule.
const SHORTLY: Duration = Duration::from_millis(100);

/// The node has left, and goes when nobody uses it.
const LEFT: usize = 1 << (usize::BITS - 1);

/// A use of the node.
pub(super) struct Inside<'n>(pub &'n Shared);

impl Inside<'_> {
    /// It goes on until [`Shared::exit`].
    #[inline]
    pub fn stay(self) {
        std::mem::forget(self);
    }
}

impl Drop for Inside<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.exit();
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("id", &self.id)
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

/// What a node is made of.
pub(super) struct Parts {
    pub place: Place,
    pub control: Control<'static>,
    pub inbox: Inbox,
    pub door: Arc<Door>,
    pub registry: Registry,
    pub member: Member,
    pub keeper: Keeper,
    pub id: NodeId,
    pub domain: Domain,
    pub config: Config,
    pub clock: Clock,
}

impl Shared {
    pub fn new(parts: Parts) -> Self {
        let Parts { place, control, inbox, door, registry, member, keeper, .. } = parts;
        let Parts { id, domain, config, clock, .. } = parts;
        Self {
            place: Mutex::new(Some(place)),
            control: Mutex::new(Some(control)),
            connections: Mutex::default(),
            inbox: Mutex::new(ManuallyDrop::new(inbox)),
            pool: Arc::default(),
            closing: Mutex::default(),
            statistics: Lines::new(&door.own),
            door,
            registry,
            owner: member.id(),
            member: Mutex::new(Some(Arc::new(member))),
            keeper,
            watchers: Watchers::default(),
            users: AtomicUsize::new(0),
            id,
            domain,
            config,
            clock,
            process: this_process(),
        }
    }

    /// The node's own segment.
    pub fn own(&self) -> &Arc<Mapped> {
        &self.door.own
    }

    /// Whether this is the process that joined, and no fork of it.
    pub fn is_ours(&self) -> bool {
        self.process == this_process()
    }

    #[inline]
    pub fn has_left(&self) -> bool {
        self.door.has_left()
    }

    /// Milliseconds of the heartbeats' clock, wrapping.
    pub fn now(&self) -> u32 {
        (self.clock)() as u32
    }

    /// This node as a member of its domain; `None` once it has left it.
    pub fn member(&self) -> Option<Arc<Member>> {
        self.member.lock().clone()
    }

    /// Says that something is about to be done, or held, under the node's id, until what is returned
    /// is dropped: also if what is done panics, be it in the node's clock or in who is told by
    /// `tracing`. `None` if the node has left.
    #[inline]
    pub fn inside(&self) -> Option<Inside<'_>> {
        self.enter().then(|| Inside(self))
    }

    /// The same until [`exit`](Self::exit).
    #[inline]
    fn enter(&self) -> bool {
        if self.users.fetch_add(1, Ordering::AcqRel) & LEFT == 0 && self.is_ours() {
            return true;
        }
        self.exit();
        false
    }

    /// The reverse of [`enter`](Self::enter).
    #[inline]
    pub fn exit(&self) {
        if self.users.fetch_sub(1, Ordering::AcqRel) == LEFT | 1 {
            self.finish();
        }
    }

    /// Wakes who waits for a message, for another reason.
    pub fn ring(&self) {
        self.own().layout.lanes().bell().shared_notifier().notify(&FutexPark::new());
    }

    /// Tells the keeper to look after a peer.
    pub fn keep_watch_over(&self, peer: &Arc<Peer>) {
        self.keeper.add(peer);
    }

    /// The pool, which is made at the first message of `length` bytes that needs it. `None` if
    /// another thread has it and does not give it back: it has room for a message in hand.
    pub fn pool(self: Arc<Self>, length: usize) -> Result<Option<PoolGuard>, SendError> {
        let most = usize::try_from(self.config.max_message_bytes).unwrap_or(usize::MAX);
        if length > most {
            return Err(SendError::TooLarge { found: length, most });
        }
        let Some(mut guard) = self.pool.try_lock_arc_for(SHORTLY) else { return Ok(None) };
        match &mut *guard {
            Some(pool) => self.close_places(pool),
            None => {
                // More than one may stand in the way of a node that sends by several lanes to each.
                let places = self.registry.places().saturating_mul(2).min(4096);
                let frame = self.config.max_frame() as usize;
                *guard = Some(Pool::make(&self.domain, self.owner, places, frame, most)?);
            }
        }
        Ok(Some(guard))
    }

    /// The pool, if there is one, to be looked after. `None` if another thread has it just now:
    /// looking after a node never waits for its user.
    pub fn try_pool(&self) -> Option<PoolGuard> {
        self.pool.try_lock_arc().map(|guard| self.up_to_date(guard))
    }

    fn up_to_date(&self, mut guard: PoolGuard) -> PoolGuard {
        if let Some(pool) = &mut *guard {
            self.close_places(pool);
        }
        guard
    }

    /// Takes back what receivers had in the pool that are gone since, whether dead or left; whether
    /// there were any.
    #[cold]
    pub fn forget_the_gone(&self, pool: &mut Pool) -> bool {
        let Some(member) = self.member() else { return false };
        let lingering: HashSet<OwnerId> = pool.lingering().collect();
        let mut were = false;
        for id in lingering {
            if let Ok(Verdict::Dead(dead)) = member.processes().convict(id) {
                pool.recover(dead);
                were = true;
            }
        }
        were
    }

    /// A lane is gone that had a place in the pool.
    pub fn close_place(&self, place: PlaceId) {
        // Whoever has the pool does it, or the next one that has.
        self.closing.lock().push(place);
        drop(self.try_pool());
    }

    fn close_places(&self, pool: &mut Pool) {
        let closing = std::mem::take(&mut *self.closing.lock());
        closing.into_iter().for_each(|place| pool.close(place));
    }

    /// Leaves. What was sent arrives.
    pub fn leave(&self) -> Result<(), NodeError> {
        let inside = if self.is_ours() { self.inside() } else { None };
        let _inside = inside.ok_or(NodeError::NotJoined)?;
        self.leave_now()
    }

    fn leave_now(&self) -> Result<(), NodeError> {
        if self.users.fetch_or(LEFT, Ordering::AcqRel) & LEFT != 0 {
            return Err(NodeError::NotJoined);
        }
        // From here on nobody finds it.
        self.door.shut();
        drop(self.place.lock().take());
        if let Some(mut control) = self.control.lock().take() {
            control.close();
            // It stays the owner's: should it die before the name is gone, somebody has to know.
            control.keep();
        }
        let unlinked = self.remove_name();
        // Whoever waits for a message learns that there comes none.
        self.ring();
        // Lanes out of it: what is in them is the receivers' from here on. One that another thread
        // is just sending through goes when that is done.
        self.connections.lock().clear();
        // Lanes into it; whoever reads does it when done.
        if let Some(mut inbox) = self.inbox.try_lock() {
            inbox.forget_lanes();
        }
        self.watchers.end();
        tracing::info!(target: "shm_transport::node", node = %self.id, "left");
        // It keeps the pool for as long as somebody reads what is in it, and its record for as
        // long as a file says that it is its. The keeper may just be looking after the pool, and
        // is soon done with that.
        let pool = self.pool.try_lock_arc_for(SHORTLY).map(|guard| self.up_to_date(guard));
        let idle = pool.is_some_and(|mut pool| pool.as_mut().is_none_or(Pool::is_idle));
        self.keeper.stop(idle && unlinked.is_ok());
        unlinked.map_err(NodeError::from)
    }

    fn remove_name(&self) -> Result<(), SegmentError> {
        match self.own().segment.unlink_own(|_| Ok::<_, SegmentError>(true)) {
            // Somebody has removed the file.
            Err(SegmentError::NotFound { .. }) => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Tries once more to take the name away of a node that has left; false if that is to be done
    /// yet again.
    pub fn is_nameless(&self) -> bool {
        let segment = &self.own().segment;
        !matches!(segment.has_name(), Ok(true))
            || !matches!(self.remove_name(), Err(SegmentError::Busy { .. }))
    }

    /// The last user is gone: so is everything that was held under the id, and the membership
    /// itself.
    #[cold]
    fn finish(&self) {
        if !self.is_ours() {
            return;
        }
        let Some(member) = self.member.lock().take() else { return };
        // One that was made when the others were just given up.
        self.connections.lock().clear();
        if let Some(mut inbox) = self.inbox.try_lock() {
            inbox.forget_lanes();
        }
        if let Some(pool) = self.pool.lock().take()
            && let Err(error) = pool.remove()
        {
            tracing::warn!(target: "shm_transport::node", node = %self.id, %error, "a pool stays");
            // As long as a file says that it is this node's, its id must not become another's: the
            // record goes with the process, and whoever finds it dead puts away both.
            return;
        }
        if matches!(self.own().segment.has_name(), Ok(true)) {
            return;
        }
        let swept = super::sweep::sweep_if_last(&self.domain, &member, &self.registry);
        let stays = |error| {
            tracing::warn!(target: "shm_transport::node", node = %self.id, %error, "what the dead left stays");
        };
        // Whoever has a lock has it yet: it is not waited for twice.
        let is_busy = swept.as_ref().is_err_and(super::sweep::is_busy);
        if let Err(error) = swept {
            stays(error);
        }
        if let Err(error) = self.registry.remove_if_empty() {
            tracing::warn!(target: "shm_transport::node", node = %self.id, %error, "the registry stays");
        }
        let Some(member) = Arc::into_inner(member) else {
            // Somebody is just asking about a death; the record goes with the process.
            return;
        };
        // SAFETY: nobody uses the node, and nobody will: places, lanes, pool and segment were given
        // back, or closed and unlinked, which nobody takes over.
        match unsafe { member.leave_saying() } {
            // One that left at the same instant was there when this one looked, and this one when
            // that one did.
            Ok(Left::Dead) if !is_busy => {
                if let Err(error) = super::sweep::sweep_as_member(&self.domain, false) {
                    stays(error);
                }
            }
            Ok(Left::Dead | Left::Nobody | Left::Others) => {}
            Err(error) => {
                tracing::warn!(target: "shm_transport::node", node = %self.id, %error, "membership");
            }
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if !self.is_ours() {
            // A forked child's copies are nobody's: none of the memory is there. What would touch
            // it when dropped is left as it is.
            std::mem::forget(self.place.get_mut().take());
            std::mem::forget(self.control.get_mut().take());
            std::mem::forget(std::mem::take(self.connections.get_mut()));
            if let Some(mut pool) = self.pool.try_lock() {
                std::mem::forget(pool.take());
            }
            return;
        }
        // SAFETY: once, here.
        unsafe { ManuallyDrop::drop(self.inbox.get_mut()) };
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::domain::Domain;
    use crate::node::Node;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::process::{Command, Stdio};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
    use std::thread;
    use std::time::{Duration, Instant};
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    /// Whoever leaves while its pool is just being looked after has left when that is done, and
    /// not a while later: its process may have ended by then.
    #[test]
    fn leaving_while_the_pool_is_looked_after() {
        let domain = Domain::new(&format!("leaving-{}", std::process::id())).unwrap();
        let leaves_at_once = |_| {
            let node = Node::builder("node").config(Config::default());
            let node = node.in_domain(domain.clone()).join().unwrap();
            let Some(pool) = node.shared.try_pool() else { return false };
            thread::scope(|scope| {
                let leaving = scope.spawn(|| node.leave().unwrap());
                thread::sleep(Duration::from_millis(20));
                drop(pool);
                leaving.join().unwrap();
            });
            domain.segments().unwrap().count() == 0
        };
        // Not each time: this thread may come too late.
        assert!((0..20).any(leaves_at_once));
    }

    /// A clock that panics in a call does not keep the node once it has left.
    #[test]
    fn a_call_that_panics() {
        static PANICS: AtomicBool = AtomicBool::new(false);
        let domain = Domain::new(&format!("unit-panics-{}", std::process::id())).unwrap();
        let node = Node::builder("node").config(Config::default()).in_domain(domain.clone());
        let node = node.clock(|| {
            let is_the_keeper = thread::current().name() == Some("shm-node");
            assert!(is_the_keeper || !PANICS.load(SeqCst), "so it does");
            crate::park::milliseconds()
        });
        let node = node.join().unwrap();
        PANICS.store(true, SeqCst);
        let asked = catch_unwind(AssertUnwindSafe(|| node.nodes()));
        PANICS.store(false, SeqCst);
        assert!(asked.is_err());
        node.leave().unwrap();
        assert_eq!(domain.segments().unwrap().count(), 0);
    }

    /// Calls of one that has left do not end what others have of it.
    #[test]
    fn calls_that_come_too_late() {
        let domain = Domain::new(&format!("unit-late-{}", std::process::id())).unwrap();
        let node = Node::builder("node").config(Config::default()).in_domain(domain.clone());
        let node = node.join().unwrap();
        let receiver = node.receiver().unwrap();
        node.leave().unwrap();
        for _ in 0..2 {
            assert!(node.nodes().is_err() && node.leave().is_err() && node.send("a", b"").is_err());
            assert!(node.sender("a").is_err() && node.try_recv().is_err());
        }
        assert!(node.shared.member().is_some());
        drop(receiver);
        assert!(node.shared.member().is_none());
        assert_eq!(domain.segments().unwrap().count(), 0);
    }

    /// How often what is logged on this thread says that something stays.
    #[derive(Clone, Default)]
    struct Stays(Arc<AtomicUsize>);

    impl Visit for Stays {
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            let stays = field.name() == "message" && format!("{value:?}").ends_with(" stays");
            self.0.fetch_add(stays.into(), SeqCst);
        }
    }

    impl Subscriber for Stays {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn event(&self, event: &Event<'_>) {
            event.record(&mut self.clone());
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            unreachable!("the crate has no spans")
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    /// The last one to leave puts away what two left that were killed, of whom one's file is locked
    /// by somebody who is stopped: that alone stays, and is waited for once.
    #[test]
    fn leaving_while_a_dead_one_s_file_is_locked() {
        const TEST: &str = "node::shared::tests::leaving_while_a_dead_one_s_file_is_locked";
        const DOMAIN: &str = "SHM_TEST_IN";
        let join = |domain: &Domain, name: &str| {
            let node = Node::builder(name).config(Config::default()).in_domain(domain.clone());
            node.heartbeat(Duration::from_secs(1000)).silent_after(Duration::from_secs(4000)).join()
        };
        if let Ok(domain) = std::env::var(DOMAIN) {
            let domain = Domain::new(&domain).unwrap();
            let _nodes = ["first", "second"].map(|name| join(&domain, name).unwrap());
            thread::sleep(Duration::from_secs(30));
            std::process::exit(1);
        }
        let name = format!("unit-locked-{}", std::process::id());
        let domain = Domain::new(&name).unwrap();
        let here = join(&domain, "here").unwrap();
        let mut others = Command::new(std::env::current_exe().unwrap());
        others.args([TEST, "--exact", "--test-threads=1"]).env(DOMAIN, &name).stdout(Stdio::null());
        let mut others = others.spawn().unwrap();
        let soon = |live| {
            let begun = Instant::now();
            while !["first", "second"].iter().all(|name| here.is_local(name) == live) {
                assert!(begun.elapsed() < Duration::from_secs(20), "not so yet: {live}");
                thread::sleep(Duration::from_millis(1));
            }
        };
        soon(true);
        others.kill().unwrap();
        others.wait().unwrap();
        soon(false);
        let first = crate::node::name::segment_of(&"first".try_into().unwrap());
        let opener = std::fs::File::open(domain.path_of(&first)).unwrap();
        rustix::fs::flock(&opener, rustix::fs::FlockOperation::LockExclusive).unwrap();
        let stays = Stays::default();
        tracing::subscriber::with_default(stays.clone(), || here.leave().unwrap());
        let mut left: Vec<_> = domain.segments().unwrap().map(Result::unwrap).collect();
        left.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        drop(opener);
        assert_eq!(
            left.iter().map(|it| it.as_str()).collect::<Vec<_>>(),
            ["members", "node.first"]
        );
        assert_eq!(stays.0.load(SeqCst), 1, "said once");
        crate::node::sweep::sweep(&domain, false).unwrap();
        assert_eq!(domain.segments().unwrap().count(), 0);
    }
}
