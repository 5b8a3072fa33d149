//! This program as a node.

use crate::cli::Global;
use crate::failure::Failure;
use shm_transport::node::{Node, NodeBuilder, SendError, Sender};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::process::{exit, id};
use std::sync::{Arc, Weak};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

/// How long to sleep before looking again for a node that is not there yet.
const PAUSE: Duration = Duration::from_millis(5);

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
            if let Some(node) = node.upgrade() {
                let _ = node.leave();
            }
            exit(128 + signal);
        }
    };
    thread::Builder::new().name("signals".into()).spawn(wait)?;
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
