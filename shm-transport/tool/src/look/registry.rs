//! The nodes that are registered in a domain.

use super::{LookError, Members, Snapshot, short};
use crate::look::Life;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use shm_primitives::identity::OwnerId;
use shm_primitives::layout::lrpc::LrpcLayout;
use std::path::Path;

/// One node.
#[derive(Clone, Debug, Serialize)]
pub struct NodeRow {
    /// Its name.
    pub name: String,
    /// Its process.
    pub pid: u32,
    /// Its id among the members of the domain.
    pub owner: String,
    /// Whether it lives.
    pub state: Life,
    /// Milliseconds since its last heartbeat.
    pub silent_ms: u32,
    #[serde(skip)]
    id: OwnerId,
}

/// The nodes of the registry of that name, in the order of their names; their
/// [`state`](NodeRow::judge) is still to be asked. `None` if there is no registry.
pub fn nodes(path: &Path) -> Result<Option<Vec<NodeRow>>, LookError> {
    let copy = match Snapshot::of(path) {
        Ok(copy) => copy,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let now = milliseconds();
    let layout = LrpcLayout::attach(copy.region())
        .map_err(|why| LookError::Foreign { path: path.into(), why: why.to_string() })?;
    let mut nodes: Vec<_> = layout
        .nodes()
        .flatten()
        .map(|node| NodeRow {
            name: String::from_utf8_lossy(node.id.as_bytes()).into_owned(),
            pid: node.pid,
            owner: short(node.owner),
            state: Life::Unknown,
            silent_ms: layout.silent_for(node.key, now).unwrap_or(0),
            id: node.owner,
        })
        .collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Some(nodes))
}

impl NodeRow {
    /// Its id among the members.
    pub fn id(&self) -> OwnerId {
        self.id
    }

    /// Asks whether it lives.
    pub fn judge(&mut self, members: &Members) {
        self.state = members.life(self.id);
    }
}

/// The clock of heartbeats.
fn milliseconds() -> u32 {
    let now = clock_gettime(ClockId::Monotonic);
    // Wraps, as heartbeats do.
    (now.tv_sec as u64).wrapping_mul(1000).wrapping_add(now.tv_nsec as u64 / 1_000_000) as u32
}
