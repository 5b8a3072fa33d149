//! This program as a node.

use crate::cli::Global;
use crate::failure::Failure;
use crate::look::short;
use shm_primitives::identity::OwnerId;
use shm_transport::domain::SegmentName;
use shm_transport::node::sweep::sweep;
use shm_transport::node::{Node, NodeBuilder, SendError, Sender};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::process::{exit, id};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

/// How long to sleep before looking again for a node that is not there yet.
const PAUSE: Duration = Duration::from_millis(5);
/// How long to wait for others to read large messages.
const LEAVING: Duration = Duration::from_secs(10);
/// Whether a signal came.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// A node of that name in the domain that is meant, which leaves if the program is interrupted.
pub fn join(global: &Global, name: Option<&str>) -> Result<Arc<Node>, Failure> {
    join_with(global, name, |builder| builder)
}

/// The same with settings of the command's own.
pub fn join_with(
    global: &Global,
    name: Option<&str>,
    settings: impl FnOnce(NodeBuilder) -> NodeBuilder,
) -> Result<Arc<Node>, Failure> {
    let name = name.map_or_else(|| format!("shm-{}", id()), str::to_owned);
    let builder = Node::builder(&name).config(global.config()?).in_domain(global.domain()?);
    let node = Arc::new(settings(builder).join()?);
    leave_on_signals(Arc::downgrade(&node))?;
    Ok(node)
}

/// Killed by a signal, a node leaves its things for others to put away; so it leaves first.
fn leave_on_signals(node: Weak<Node>) -> Result<(), Failure> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let wait = move || {
        if let Some(signal) = signals.forever().next() {
            INTERRUPTED.store(true, Ordering::Release);
            if let Some(node) = node.upgrade() {
                let _ = node.leave();
            }
            exit(128 + signal);
        }
    };
    thread::Builder::new().name("signals".into()).spawn(wait)?;
    Ok(())
}

/// Comes back unless the program was interrupted: whatever failed since then, failed of that.
pub fn unless_interrupted() {
    while INTERRUPTED.load(Ordering::Acquire) {
        // The other thread ends the program.
        thread::park();
    }
}

/// Leaves. What was sent and is too large for a lane is read from memory of this node's: waits
/// until it is, for a while, since nobody would put that away but the next node.
pub fn leave(node: &Node) -> Result<(), Failure> {
    let own = node.nodes()?.into_iter().find(|found| found.id == *node.id());
    node.leave()?;
    if let Some(own) = own {
        await_readers(node, own.owner)?;
    }
    // Who was killed lately, and nobody else is there to see to it.
    if let Err(error) = sweep(node.domain(), false) {
        log::warn!("what the dead left could not be put away: {error}");
    }
    Ok(())
}

fn await_readers(node: &Node, own: OwnerId) -> Result<(), Failure> {
    let pool = SegmentName::new(&format!("pool.{}", short(own)))?;
    let (pool, begun) = (node.domain().path_of(&pool), Instant::now());
    while pool.exists() && begun.elapsed() < LEAVING {
        sleep(PAUSE);
    }
    Ok(())
}

/// Tries again, for so long, while there is no such node.
pub fn await_node<T>(
    patience: Option<Duration>,
    mut attempt: impl FnMut() -> Result<T, SendError>,
) -> Result<T, SendError> {
    let begun = Instant::now();
    loop {
        match attempt() {
            Err(SendError::Unknown { .. })
                if patience.is_some_and(|patience| begun.elapsed() < patience) =>
            {
                sleep(PAUSE);
            }
            other => return other,
        }
    }
}

/// A lane to that node.
pub fn connect(node: &Node, to: &str, patience: Option<Duration>) -> Result<Sender, SendError> {
    await_node(patience, || node.sender(to))
}
