//! Who comes, goes and dies.

use parking_lot::Mutex;
use shm_primitives::identity::OwnerId;
use shm_primitives::layout::lrpc::NodeId;
use std::collections::HashMap;
use std::sync::mpsc;
use std::time::Duration;

/// A node, as the registry and the kernel said at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeInfo {
    /// Its name.
    pub id: NodeId,
    /// Its process, as it is numbered where it runs: for people.
    pub pid: u32,
    /// Under which id it holds what it holds: a node that joins the same name again has another.
    pub owner: OwnerId,
    /// Whether it lives.
    pub state: NodeState,
}

/// Whether a node lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeState {
    /// It has given a heartbeat lately.
    Alive,
    /// It has given none for so long, and is not dead: stopped, swapped out, or its machine was
    /// asleep. It loses nothing.
    Silent(Duration),
    /// It is dead, proven by the kernel. What it held comes back.
    Dead,
}

/// What happened to a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeEvent {
    /// It has joined, or was there when the watch began.
    Joined(NodeInfo),
    /// It has left.
    Left(NodeInfo),
    /// It has died.
    Died(NodeInfo),
    /// It has given no heartbeat for too long.
    Silent(NodeInfo),
    /// It was silent and gives heartbeats again.
    Resumed(NodeInfo),
}

impl NodeEvent {
    /// Whom it is about.
    #[must_use]
    pub fn node(&self) -> &NodeInfo {
        match self {
            Self::Joined(node)
            | Self::Left(node)
            | Self::Died(node)
            | Self::Silent(node)
            | Self::Resumed(node) => node,
        }
    }
}

/// Tells of nodes that join, leave, die, are silent; see [`Node::watch`](super::Node::watch). It
/// ends when its own node leaves.
#[derive(Debug)]
pub struct Watch {
    events: mpsc::Receiver<NodeEvent>,
}

impl Watch {
    /// One of nobody, which is told nothing.
    pub(super) fn ended() -> Self {
        Self { events: mpsc::channel().1 }
    }

    /// What happened next; waits for it for so long. `None` if nothing did, or the node has left.
    #[must_use]
    pub fn next_timeout(&self, timeout: Duration) -> Option<NodeEvent> {
        self.events.recv_timeout(timeout).ok()
    }

    /// What happened next, if something did. Does not block.
    #[must_use]
    pub fn try_next(&self) -> Option<NodeEvent> {
        self.events.try_recv().ok()
    }
}

impl Iterator for Watch {
    type Item = NodeEvent;

    /// Waits. `None` when the node has left.
    fn next(&mut self) -> Option<NodeEvent> {
        self.events.recv().ok()
    }
}

/// Who wants to be told.
#[derive(Debug, Default)]
pub(super) struct Watchers(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    ended: bool,
    watchers: Vec<Watcher>,
}

#[derive(Debug)]
struct Watcher {
    events: mpsc::Sender<NodeEvent>,
    known: HashMap<OwnerId, NodeInfo>,
}

impl Watchers {
    pub fn add(&self) -> Watch {
        let (sender, events) = mpsc::channel();
        let mut inner = self.0.lock();
        if !inner.ended {
            inner.watchers.push(Watcher { events: sender, known: HashMap::new() });
        }
        Watch { events }
    }

    pub fn are_there(&self) -> bool {
        !self.0.lock().watchers.is_empty()
    }

    /// Tells each what is different now. One that is dead in `now` is told of once.
    pub fn tell(&self, now: &[NodeInfo]) {
        self.0.lock().watchers.retain_mut(|watcher| watcher.tell(now));
    }

    pub fn end(&self) {
        let mut inner = self.0.lock();
        inner.ended = true;
        inner.watchers.clear();
    }
}

impl Watcher {
    /// False if nobody listens any more. Who is gone is told before who has come: it may be the
    /// same name.
    fn tell(&mut self, now: &[NodeInfo]) -> bool {
        let mut gone = std::mem::take(&mut self.known);
        let (mut ended, mut begun) = (Vec::new(), Vec::new());
        for node in now {
            let is_silent = matches!(node.state, NodeState::Silent(_));
            match (gone.remove(&node.owner).map(|before| before.state), node.state) {
                // Nobody knew it, or it was told of.
                (None | Some(NodeState::Dead), NodeState::Dead) => {}
                (Some(_), NodeState::Dead) => ended.push(NodeEvent::Died(*node)),
                (None, _) => {
                    begun.push(NodeEvent::Joined(*node));
                    if is_silent {
                        begun.push(NodeEvent::Silent(*node));
                    }
                }
                (Some(NodeState::Alive), NodeState::Silent(_)) => {
                    begun.push(NodeEvent::Silent(*node));
                }
                (Some(NodeState::Silent(_)), NodeState::Alive) => {
                    begun.push(NodeEvent::Resumed(*node));
                }
                (Some(_), _) => {}
            }
            self.known.insert(node.owner, *node);
        }
        // Whoever was dead and is gone was told of.
        let left = gone.into_values().filter(|node| node.state != NodeState::Dead);
        let left = left.map(NodeEvent::Left);
        left.chain(ended).chain(begun).all(|event| self.events.send(event).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(index: u32, state: NodeState) -> NodeInfo {
        let id = NodeId::try_from(&*format!("node {index}")).unwrap();
        NodeInfo { id, pid: 1, owner: OwnerId::new(index, 1).unwrap(), state }
    }

    #[test]
    fn each_change_is_told_once() {
        let silent = NodeState::Silent(Duration::from_secs(6));
        let (alive, dead) = (NodeState::Alive, NodeState::Dead);
        let watchers = Watchers::default();
        let watch = watchers.add();
        let told = |now: &[NodeInfo]| {
            watchers.tell(now);
            std::iter::from_fn(|| watch.try_next()).collect::<Vec<_>>()
        };
        assert_eq!(told(&[node(1, alive)]), [NodeEvent::Joined(node(1, alive))]);
        assert_eq!(told(&[node(1, alive)]), []);
        assert_eq!(told(&[node(1, silent)]), [NodeEvent::Silent(node(1, silent))]);
        assert_eq!(told(&[node(1, silent)]), []);
        assert_eq!(told(&[node(1, alive)]), [NodeEvent::Resumed(node(1, alive))]);
        let both = [node(1, dead), node(2, alive)];
        assert_eq!(told(&both), [NodeEvent::Died(both[0]), NodeEvent::Joined(both[1])]);
        assert_eq!(told(&both), []);
        assert_eq!(told(&[]), [NodeEvent::Left(both[1])]);
        assert_eq!(told(&[node(3, dead)]), [], "nobody knew it");
        let (old, new) = (node(5, alive), NodeInfo { id: node(5, alive).id, ..node(6, alive) });
        assert_eq!(told(&[old]), [NodeEvent::Joined(old)]);
        assert_eq!(told(&[new]), [NodeEvent::Left(old), NodeEvent::Joined(new)], "the same name");
        let dead = NodeInfo { state: dead, ..new };
        assert_eq!(told(&[old, dead]), [NodeEvent::Died(dead), NodeEvent::Joined(old)]);
        drop(watch);
        watchers.tell(&[node(4, alive)]);
        assert!(!watchers.are_there());
    }
}
