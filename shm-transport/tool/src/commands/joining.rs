//! This program as a node.

use crate::cli::Global;
use crate::failure::Failure;
use crate::look::{Life, MEMBERS, Members};
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
/// How long to wait, when interrupted, for this program's other thread to notice that the node has
/// left. It may be waiting for standard input.
const INTERRUPTION: Duration = Duration::from_millis(500);
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
    // From now on a signal waits until there is somebody to take it.
    let signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let node = Arc::new(settings(builder).join()?);
    leave_on_signals(signals, Arc::downgrade(&node))?;
    Ok(node)
}

/// Killed by a signal, a node leaves its things for others to put away; so it leaves first.
fn leave_on_signals(mut signals: Signals, node: Weak<Node>) -> Result<(), Failure> {
    let wait = move || {
        if let Some(signal) = signals.forever().next() {
            INTERRUPTED.store(true, Ordering::Release);
            if let Some(node) = node.upgrade() {
                // The program ends in any case.
                let _ = leave_within(&node, INTERRUPTION);
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
    leave_within(node, LEAVING)
}

fn leave_within(node: &Node, time: Duration) -> Result<(), Failure> {
    let own = node.nodes()?.into_iter().find(|found| found.id == *node.id());
    node.leave()?;
    if let Some(own) = own {
        await_readers(node, own.owner, time)?;
    }
    // Who was killed lately, and nobody else is there to see to it.
    if let Err(error) = sweep(node.domain(), false) {
        log::warn!("what the dead left could not be put away: {error}");
    }
    Ok(())
}

/// Waits until this node's record is given back, which comes after everything else.
fn await_readers(node: &Node, own: OwnerId, time: Duration) -> Result<(), Failure> {
    let path = node.domain().path_of(&SegmentName::new(MEMBERS)?);
    let begun = Instant::now();
    let is_there = || -> Result<bool, Failure> {
        Ok(Members::at(&path)?.is_some_and(|members| members.life(own) == Life::Alive))
    };
    while is_there()? && begun.elapsed() < time {
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
