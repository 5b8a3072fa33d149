//! One message to all others.

use super::connection::Connection;
use super::error::SendError;
use super::frame::Label;
use super::outgoing::Outgoing;
use super::shared::Shared;
use super::{Node, NodeId};
use crate::config::Full;
use shm_primitives::identity::OwnerId;
use std::sync::Arc;
use std::time::Instant;

/// What became of a message to one of its receivers.
enum Sent {
    Yes,
    /// There was no room.
    Later,
    No,
}

/// Sends to each other node; how many accepted it.
pub(super) fn broadcast(
    node: &Node,
    label: Label,
    payload: &[u8],
    full: Full,
) -> Result<usize, SendError> {
    let shared = &node.shared;
    let most = usize::try_from(shared.config.max_message_bytes).unwrap_or(usize::MAX);
    if payload.len() > most {
        return Err(SendError::TooLarge { found: payload.len(), most });
    }
    let mut reached = 0;
    // Neither allocates unless there is reason to.
    let (mut large, mut later) = (Vec::new(), Vec::new());
    for (id, owner) in others(shared) {
        let Some(connection) = connection_to(node, id, owner) else { continue };
        if payload.len() > connection.max_frame() {
            large.push(connection);
            continue;
        }
        match send_once(node, id, &connection, label, payload) {
            Sent::Yes => reached += 1,
            Sent::Later => later.push(connection),
            Sent::No => {}
        }
    }
    if !large.is_empty() {
        reached += send_large(shared, large, label, payload, &mut later)?;
    }
    let begun = Instant::now();
    for connection in later {
        let full = match full {
            Full::Error => continue,
            Full::Block(time) => Full::Block(time.saturating_sub(begun.elapsed())),
            Full::Drop => Full::Drop,
        };
        let sent = connection.send(label, payload, full);
        reached += usize::from(sent.is_ok() && full != Full::Drop);
    }
    Ok(reached)
}

/// The other nodes of the domain, each owner once: one that joins again meanwhile may be met under
/// its name twice.
pub(super) fn others(shared: &Shared) -> impl Iterator<Item = (NodeId, OwnerId)> + use<'_> {
    let all = shared.registry.nodes().map(|node| (node.id, node.owner));
    all.filter(|(id, _)| *id != shared.id)
}

/// The lane to the node of that name and owner; `None` if there is none, or another has the name.
pub(super) fn connection_to(node: &Node, id: NodeId, owner: OwnerId) -> Option<Arc<Connection>> {
    let connection = node.connection(id).ok()?;
    if connection.owner() == owner {
        return Some(connection);
    }
    if !connection.leads_nowhere() {
        return None;
    }
    node.forget(id, &connection);
    node.connection(id).ok().filter(|connection| connection.owner() == owner)
}

/// Sends if there is room.
fn send_once(
    node: &Node,
    id: NodeId,
    connection: &Arc<Connection>,
    label: Label,
    payload: &[u8],
) -> Sent {
    match connection.send(label, payload, Full::Error) {
        Ok(()) => Sent::Yes,
        Err(SendError::Full { .. }) => Sent::Later,
        Err(SendError::Left { .. } | SendError::Dead { .. }) => {
            node.forget(id, connection);
            Sent::No
        }
        Err(_) => Sent::No,
    }
}

/// Writes the message into one chunk and lends that to all; how many it was. Those for which there
/// is no room, and those whose lanes are just being used, come later, each with a copy of its own.
fn send_large(
    shared: &Arc<Shared>,
    connections: Vec<Arc<Connection>>,
    label: Label,
    payload: &[u8],
    later: &mut Vec<Arc<Connection>>,
) -> Result<usize, SendError> {
    let Some(mut guard) = shared.clone().pool(payload.len())? else {
        later.extend(connections);
        return Ok(0);
    };
    let Some(pool) = guard.as_mut() else { unreachable!("made by the call before") };
    let mut places = Vec::new();
    for connection in connections {
        // Who has a lane may wait for the pool, so that nobody who has the pool waits for a lane.
        let Some(mut outgoing) = connection.try_lock() else {
            later.push(connection);
            continue;
        };
        match outgoing.place_in(pool) {
            Ok(place) => places.push((connection, outgoing, place)),
            // There may be one once others have read.
            Err(SendError::NoLane { .. }) => later.push(connection),
            Err(_) => {}
        }
    }
    // To make a place for one, those of receivers that are gone are given up: one that was found
    // before may be another's now.
    places.retain(|(connection, _, place)| {
        let has = pool.has(*place);
        if !has {
            later.push(Arc::clone(connection));
        }
        has
    });
    let Some(mut loan) = pool.loan(payload.len())? else {
        later.extend(places.into_iter().map(|(connection, ..)| connection));
        return Ok(0);
    };
    loan.copy_from_slice(payload);
    let message = loan.share();
    let mut reached = 0;
    for (connection, mut outgoing, place) in places {
        match Outgoing::offer(&mut outgoing, label, &message, place) {
            Ok(()) => reached += 1,
            Err(SendError::Full { .. }) => later.push(connection),
            Err(_) => {}
        }
    }
    Ok(reached)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::domain::Domain;

    fn join(domain: &Domain, name: &str) -> Node {
        let builder = Node::builder(name).config(Config::default());
        builder.in_domain(domain.clone()).join().unwrap()
    }

    /// Who walks over the registry meets one that moves there twice, each time as another owner.
    #[test]
    fn entries_of_those_that_are_gone_lead_nowhere() {
        let domain = Domain::new(&format!("broadcast-{}", std::process::id())).unwrap();
        let here = join(&domain, "here");
        let there = join(&domain, "there");
        let of = |node: &Node| {
            let found: Vec<_> = others(&here.shared).collect();
            assert_eq!(found, [(*node.id(), node.shared.owner)]);
            found[0]
        };
        let (id, first) = of(&there);
        assert!(connection_to(&here, id, first).is_some());
        there.leave().unwrap();
        let there = join(&domain, "there");
        let (_, second) = of(&there);
        assert_ne!(first, second);
        // Its lane leads to the one that has left; it is made anew for the other.
        assert!(connection_to(&here, id, first).unwrap().leads_nowhere());
        assert!(connection_to(&here, id, second).is_some());
        assert!(connection_to(&here, id, first).is_none());
        assert_eq!(here.broadcast(b"once").unwrap(), 1);
        assert_eq!(&*there.recv().unwrap(), b"once");
        assert!(there.try_recv().unwrap().is_none());
    }

    /// All places in the pool are taken, one of them by a node that is killed: while the broadcast
    /// looks for places that one's becomes that of a node that came later.
    #[test]
    fn a_place_that_becomes_another_s_meanwhile() {
        use std::process::{Command, Stdio};
        use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
        use std::time::Duration;
        const TEST: &str = "node::broadcast::tests::a_place_that_becomes_another_s_meanwhile";
        const DOMAIN: &str = "SHM_TEST_IN";
        static STOPS: AtomicBool = AtomicBool::new(false);
        static STOPPED: AtomicBool = AtomicBool::new(false);
        let soon = |what: &str, mut is: Box<dyn FnMut() -> bool + '_>| {
            let begun = Instant::now();
            while !is() {
                assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        let builder = |domain: &Domain, name: &str| {
            let builder = Node::builder(name).config(Config::default()).in_domain(domain.clone());
            builder.nodes(3).heartbeat(Duration::from_millis(20))
        };
        if let Ok(domain) = std::env::var(DOMAIN) {
            let _node = builder(&Domain::new(&domain).unwrap(), "killed").join().unwrap();
            std::thread::sleep(Duration::from_secs(30));
            std::process::exit(1);
        }
        let name = format!("broadcast-places-{}", std::process::id());
        let domain = Domain::new(&name).unwrap();
        // Its keeper stops where it asks for the time, and hears of no death then.
        let here = builder(&domain, "here").full(Full::Error).clock(|| {
            while std::thread::current().name() == Some("shm-node") && STOPS.load(SeqCst) {
                STOPPED.store(true, SeqCst);
                std::thread::sleep(Duration::from_millis(1));
            }
            crate::park::milliseconds()
        });
        let here = here.join().unwrap();
        let mut other = Command::new(std::env::current_exe().unwrap());
        other.args([TEST, "--exact", "--test-threads=1"]).env(DOMAIN, &name).stdout(Stdio::null());
        let mut other = other.spawn().unwrap();
        soon("it has joined", Box::new(|| here.is_local("killed")));
        let large = vec![7; 20_000];
        here.send("killed", &large).unwrap();
        let mut senders: Vec<_> = (0..5).map(|_| here.sender("killed").unwrap()).collect();
        senders.iter_mut().for_each(|sender| sender.send(&large).unwrap());
        let there = builder(&domain, "there").join().unwrap();
        // One lane is gone with something unread: then the pool asks whether its receiver lives.
        senders.pop();
        STOPS.store(true, SeqCst);
        soon("the keeper stops", Box::new(|| STOPPED.load(SeqCst)));
        other.kill().unwrap();
        other.wait().unwrap();
        here.broadcast(&large).unwrap();
        let got = there.recv_timeout(Duration::from_secs(1)).unwrap().map(|it| it.len());
        STOPS.store(false, SeqCst);
        // Nothing is left behind that nobody could give back.
        drop(senders);
        here.leave().unwrap();
        let own = domain.path_of(&crate::node::name::pool_of(here.shared.owner));
        assert_eq!(got, Some(20_000));
        soon("its pool goes", Box::new(|| !own.exists()));
    }
}
