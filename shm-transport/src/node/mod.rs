//! Nodes: processes that send one another messages, by name.
//!
//! A node [joins](Node::join) a domain under a name and then sends to other nodes by theirs. What
//! it sends lies in the receiver's memory and is read there; while both are awake no system call is
//! made. A node that is killed loses what it had not sent, and nobody else anything: the others
//! get an error instead of a hang, and its name is free at once.
//!
//! ```
//! use shm_transport::node::Node;
//!
//! # let domain = format!("doc-node-{}", std::process::id());
//! let camera = Node::builder("camera").domain(&domain).join()?;
//! let screen = Node::builder("screen").domain(&domain).join()?; // in another process, as a rule
//!
//! camera.send("screen", b"a picture")?;
//! let message = screen.recv()?;
//! assert_eq!(&*message, b"a picture");
//! assert_eq!(message.sender().as_bytes(), b"camera");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What to use
//!
//! | you want | use |
//! |---|---|
//! | to send now and then, from any thread | [`Node::send`], [`Node::broadcast`] |
//! | to send much to one node, or in place | [`Node::sender`]: a lane of its own, without a lock |
//! | to receive now and then, from any thread | [`Node::recv`] and its kin, [`Node::iter`] |
//! | to receive much, in place | [`Node::receiver`] |
//! | to be called | [`Node::on_message`] |
//! | to know who is there | [`Node::nodes`], [`Node::watch`] |
//!
//! # Memory
//!
//! Four kinds of [segments](crate::segment), all in the domain's directory:
//!
//! | segment | what is in it | made | its name is taken away |
//! |---|---|---|---|
//! | `members` | who lives: see [`member`](crate::member) | by the first member | by the last |
//! | `registry` | who is called what: [`lrpc`](shm_primitives::layout::lrpc), without channels | by the first node | by the last |
//! | `node.<name>` | what one node receives: [`layout::node`](shm_primitives::layout::node) | when it joins; who has the name is decided by this | when it leaves, or by whoever found it dead |
//! | `pool.<id>` | its messages that are too large for lanes | at the first of those | when it has left, or is dead, and nobody reads them any more |
//!
//! A [lane](shm_primitives::lane) is made at the first message from one node to another, and its
//! memory is reserved then: 68 KiB unless configured otherwise. A full file system is an error of
//! that call, and of no later one. What was not connected takes no memory.
//!
//! # What is promised
//!
//! - Messages of one sender to one receiver arrive in order, whole and once.
//! - What a send has accepted is read by its receiver, unless that one leaves, dies, or does not
//!   call. Also if the sender leaves or is killed at the next instruction.
//! - A send that fails has not sent anything.
//! - A send that begins when a name is joined anew does not go to the dead one that had it before.
//! - A node that is killed at any instruction leaves nothing that stays: other nodes of the domain
//!   put away what it had, and if there are none, the next that joins, or `shm clean`.
//! - A node that is stopped, by SIGSTOP or a debugger, for however long, loses nothing but the
//!   messages that its senders, by their own choice, gave up when its lanes were full.
//!
//! What is not promised: an order between two senders, or between [`Node::send`] and a
//! [`Sender`]; that a message is *processed* by a receiver that dies.
//!
//! # Blocking
//!
//! Nothing blocks but the calls that say so: receiving ones, and sends where the configuration says
//! [`Full::Block`], which wait for room no longer than it says, and no
//! longer than the receiver lives. [`Node::send`] takes a lock of this process for the destination,
//! a large message one for the node's pool; a [`Sender`] takes none for others.
//!
//! # Forks
//!
//! A child made by `fork` has none of its parent's nodes: each call says
//! [`NotJoined`](NodeError::NotJoined), and dropping the copies does nothing. It joins under a name
//! of its own. It does not have the memory, and must not use what was borrowed of it
//! before the fork: a [`Receiver`], a [`Reading`] or a [`Grant`]; nor wait for the thread of a
//! [`Listener`] or for a [`Watch`].

mod broadcast;
mod builder;
mod chunks;
mod connection;
mod door;
mod error;
mod frame;
mod inbox;
mod keeper;
mod kept;
mod mapped;
mod message;
mod name;
mod outgoing;
mod peer;
mod receive;
mod registry;
mod send;
mod shared;
mod statistics;
pub mod sweep;
mod watch;

pub use builder::NodeBuilder;
pub use error::{NodeError, RecvError, SendError};
pub use frame::Label;
pub use message::{Filter, Message};
pub use receive::{Listener, Messages, Reading, Receiver};
pub use send::{Grant, Sender};
pub use shm_primitives::layout::lrpc::{NodeId, NodeIdError};
pub use statistics::Statistics;
pub use watch::{NodeEvent, NodeInfo, NodeState, Watch};

use crate::config::Full;
use crate::domain::Domain;
use crate::liveness::Verdict;
use crate::member::Member;
use connection::Connection;
use message::Spare;
use outgoing::Outgoing;
use shared::Shared;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One who sends and receives messages under a name. Threads may share it. Dropping it
/// [leaves](Self::leave). See the [module](crate::node).
#[derive(Debug)]
pub struct Node {
    shared: Arc<Shared>,
    spare: Arc<Spare>,
}

impl Node {
    /// A node of that name, to be joined: 1 to 64 bytes without a NUL.
    pub fn builder(name: &str) -> NodeBuilder {
        NodeBuilder::new(name)
    }

    /// Joins under that name, with the settings of the environment. In the domain that
    /// `SHM_DOMAIN` names, or the default one.
    ///
    /// # Errors
    ///
    /// See [`NodeError`]; `Taken` says which process has the name.
    #[doc(alias = "initialize")]
    pub fn join(name: &str) -> Result<Self, NodeError> {
        Self::builder(name).join()
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &NodeId {
        &self.shared.id
    }

    /// Its domain.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        &self.shared.domain
    }

    /// Whether it has not left.
    #[must_use]
    pub fn is_joined(&self) -> bool {
        self.shared.is_ours() && !self.shared.has_left()
    }

    /// Leaves the domain. What it has sent arrives; what it has not read is lost; its name is free.
    /// Large messages that somebody is reading stay until they are read: a thread waits for that.
    /// Senders and receivers of the node that are there fail from now on; the files that all nodes
    /// share stay until they are dropped.
    ///
    /// # Errors
    ///
    /// `NotJoined` if it has left before; `Segment` if its segment's name could not be taken away
    /// for now: it has left, and a thread goes on to try.
    pub fn leave(&self) -> Result<(), NodeError> {
        self.shared.leave()
    }

    /// Sends a message to the node of that name; to all others if the name is empty. The first
    /// message to a node connects to it, which takes some tens of microseconds.
    ///
    /// If there is no room, it fails, waits, or gives the message up, as configured. With an empty
    /// name it is `Ok` also if there is nobody; [`broadcast`](Self::broadcast) says how many there
    /// were. That a node was killed is known some milliseconds later: until then messages to it
    /// are accepted, and lost with it. Not longer than until another has joined under its name: a
    /// send that begins after that reaches the new one, or fails.
    ///
    /// # Errors
    ///
    /// See [`SendError`]; nothing was sent.
    pub fn send(&self, to: &str, payload: &[u8]) -> Result<(), SendError> {
        self.send_labelled(to, Label::NONE, payload)
    }

    /// The same with a label.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_labelled(&self, to: &str, label: Label, payload: &[u8]) -> Result<(), SendError> {
        self.send_with(to, label, payload, self.shared.config.full)
    }

    /// Sends if there is room, and fails at once if there is not. A message that is too large for
    /// a lane may wait a tenth of a second for another thread that is just writing such a one.
    ///
    /// # Errors
    ///
    /// `Full`, or as [`send`](Self::send).
    pub fn try_send(&self, to: &str, payload: &[u8]) -> Result<(), SendError> {
        self.send_with(to, Label::NONE, payload, Full::Error)
    }

    fn send_with(
        &self,
        to: &str,
        label: Label,
        payload: &[u8],
        full: Full,
    ) -> Result<(), SendError> {
        if to.is_empty() {
            return self.broadcast_with(label, payload, full).map(|_| ());
        }
        let to = NodeId::try_from(to)?;
        self.inside(|| {
            let connection = self.connection(to)?;
            let sent = connection.send(label, payload, full);
            match sent {
                Err(
                    SendError::Left { .. } | SendError::Dead { .. } | SendError::Corrupt { .. },
                ) => {
                    // Somebody else may have the name by now.
                    self.forget(to, &connection);
                    let connection = self.connection(to).map_err(|error| match (error, sent) {
                        // That it is gone says more than that there is none.
                        (SendError::Unknown { .. }, Err(gone)) => gone,
                        (error, _) => error,
                    })?;
                    connection.send(label, payload, full)
                }
                other => other,
            }
        })
    }

    /// Sends a message to all other nodes of the domain; how many accepted it. Those that have no
    /// room, or are gone, do not get it. Waiting for room, if so configured, takes no longer for
    /// many than for one.
    ///
    /// # Errors
    ///
    /// Nobody got it, for a reason that has nothing to do with who receives: `TooLarge`,
    /// `NotJoined`, no memory.
    pub fn broadcast(&self, payload: &[u8]) -> Result<usize, SendError> {
        self.broadcast_labelled(Label::NONE, payload)
    }

    /// The same with a label.
    ///
    /// # Errors
    ///
    /// As [`broadcast`](Self::broadcast).
    pub fn broadcast_labelled(&self, label: Label, payload: &[u8]) -> Result<usize, SendError> {
        self.broadcast_with(label, payload, self.shared.config.full)
    }

    fn broadcast_with(&self, label: Label, payload: &[u8], full: Full) -> Result<usize, SendError> {
        self.inside(|| broadcast::broadcast(self, label, payload, full))
    }

    /// A lane of its own to the node of that name, to send through without a lock and in place.
    ///
    /// # Errors
    ///
    /// See [`SendError`].
    pub fn sender(&self, to: &str) -> Result<Sender, SendError> {
        Sender::connect(&self.shared, NodeId::try_from(to)?)
    }

    /// Connects to all nodes of the domain, so that the first message to each is as quick as the
    /// others; how many there are.
    ///
    /// # Errors
    ///
    /// `NotJoined`. Nodes that cannot be connected to are left out.
    pub fn warm_up(&self) -> Result<usize, SendError> {
        self.inside(|| {
            let others = broadcast::others(&self.shared);
            let connected =
                others.filter_map(|(id, owner)| broadcast::connection_to(self, id, owner));
            Ok(connected.count())
        })
    }

    /// Runs `f` while the node cannot cease to be a member.
    #[inline]
    fn inside<T>(&self, f: impl FnOnce() -> Result<T, SendError>) -> Result<T, SendError> {
        let _inside = self.shared.inside().ok_or(SendError::NotJoined)?;
        f()
    }

    /// The lane to `to`, made if there is none.
    fn connection(&self, to: NodeId) -> Result<Arc<Connection>, SendError> {
        if let Some(connection) = self.shared.connections.lock().get(&to) {
            return Ok(Arc::clone(connection));
        }
        // It may have to wait, which is no matter of those who send to others.
        let made = Arc::new(Connection::new(Outgoing::connect(&self.shared, to)?));
        let mut connections = self.shared.connections.lock();
        // Another thread may have been faster; then the one just made goes, after the lock.
        Ok(Arc::clone(connections.entry(to).or_insert_with(|| Arc::clone(&made))))
    }

    /// Forgets a lane whose other end is gone.
    fn forget(&self, to: NodeId, gone: &Arc<Connection>) {
        let mut connections = self.shared.connections.lock();
        if connections.get(&to).is_some_and(|connection| Arc::ptr_eq(connection, gone)) {
            connections.remove(&to);
        }
    }

    /// The next message; waits for it, in the way the node was configured to.
    ///
    /// Several threads may wait: each gets messages of its own.
    ///
    /// # Errors
    ///
    /// See [`RecvError`]. `NotJoined` also if the node leaves meanwhile.
    pub fn recv(&self) -> Result<Message, RecvError> {
        let mut receiver = self.receiver()?;
        Ok(receive::take(receiver.read_wait()?, &self.spare))
    }

    /// The next message, if there is one. Does not block: if another thread is just receiving there
    /// is none.
    ///
    /// # Errors
    ///
    /// See [`RecvError`].
    pub fn try_recv(&self) -> Result<Option<Message>, RecvError> {
        let receiver = Receiver::within(&self.shared, Duration::ZERO)?;
        let Some(mut receiver) = receiver else { return Ok(None) };
        Ok(receiver.read_once()?.map(|reading| receive::take(reading, &self.spare)))
    }

    /// The next message; waits for it for so long. `None` if there was none.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<Message>, RecvError> {
        let begun = Instant::now();
        let Some(mut receiver) = Receiver::within(&self.shared, timeout)? else { return Ok(None) };
        let reading = receiver.read_timeout(timeout.saturating_sub(begun.elapsed()))?;
        Ok(reading.map(|reading| receive::take(reading, &self.spare)))
    }

    /// The messages that come, one after the other, until the node leaves. What cannot be received
    /// is an `Err` and does not end it.
    #[must_use]
    pub fn iter(&self) -> Messages<'_> {
        Messages { node: self }
    }

    /// The receiving side for this thread alone, to read messages in place. Waits while another
    /// thread receives.
    ///
    /// A thread that has one must not call [`recv`](Self::recv) or this: it would wait for itself.
    ///
    /// # Errors
    ///
    /// `NotJoined`.
    pub fn receiver(&self) -> Result<Receiver<'_>, RecvError> {
        Receiver::new(&self.shared).ok_or(RecvError::NotJoined)
    }

    /// Starts a thread that calls `each` for every message, read in place. It ends when what is
    /// returned is dropped, or the node leaves, or `each` panics: then the message is not left
    /// behind.
    ///
    /// While it is there nobody else receives: a second listener, [`recv`](Self::recv) and
    /// [`receiver`](Self::receiver) wait until it is dropped. In `each`, do not receive from the
    /// same node: it would wait for itself. Sending, leaving and watching are allowed there; to have
    /// the node in `each`, put it into an `Arc`.
    ///
    /// # Errors
    ///
    /// `NotJoined`; `Thread` if there is none left.
    pub fn on_message(
        &self,
        each: impl FnMut(&Reading<'_>) + Send + 'static,
    ) -> Result<Listener, RecvError> {
        Listener::start(&self.shared, each)
    }

    /// Which messages are received from now on; one that is just being read may be the last of
    /// those before.
    pub fn set_filter(&self, filter: Filter) {
        self.shared.door.set_filter(filter);
    }

    /// The nodes of the domain, this one too. One system call for each.
    ///
    /// # Errors
    ///
    /// `NotJoined`.
    pub fn nodes(&self) -> Result<Vec<NodeInfo>, NodeError> {
        self.with_member(|member| keeper::nodes(&self.shared, member)).ok_or(NodeError::NotJoined)
    }

    /// Whether there is a living node of that name on this machine, in this domain.
    #[must_use]
    pub fn is_local(&self, name: &str) -> bool {
        let Ok(id) = NodeId::try_from(name) else { return false };
        let lives = |member: &Member| {
            let node = self.shared.registry.find(&id)?;
            Some(member.processes().convict(node.owner).ok()? == Verdict::Alive)
        };
        self.with_member(lives).flatten().unwrap_or(false)
    }

    /// Runs `f` while the node is a member; `None` if it has left.
    fn with_member<T>(&self, f: impl FnOnce(&Member) -> T) -> Option<T> {
        let _inside = self.shared.inside()?;
        let member = self.shared.member()?;
        Some(f(&member))
    }

    /// Tells of nodes that join, leave, die or are silent, from now on; first of those that are
    /// there. A death is told within milliseconds, the rest within a tenth of a second. Of one that
    /// was killed, and whose name another joins at the same moment, it may be told that it left.
    #[must_use]
    pub fn watch(&self) -> Watch {
        if !self.shared.is_ours() {
            return Watch::ended();
        }
        let watch = self.shared.watchers.add();
        self.shared.keeper.ring();
        watch
    }

    /// What it has done since it joined; nothing in a forked child, who did not.
    #[must_use]
    pub fn stats(&self) -> Statistics {
        if !self.shared.is_ours() {
            return Statistics::default();
        }
        self.shared.statistics.sum(self.shared.own())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have left.
        let _ = self.leave();
    }
}

impl<'n> IntoIterator for &'n Node {
    type Item = Result<Message, RecvError>;
    type IntoIter = Messages<'n>;

    fn into_iter(self) -> Messages<'n> {
        self.iter()
    }
}
