//! Looking at what lies in shared memory without touching it.

mod error;
mod file;
mod header;
mod letters;
mod members;
mod node;
mod registry;
mod service;
mod snapshot;
mod survey;
mod table;

pub use error::LookError;
pub use file::Seen;
pub use header::{Entry, Header, Part};
pub use letters::{LetterNow, letters, message};
pub use members::{Life, MemberRow, Members};
pub use node::{Counts, NodeFile, NodeNow};
pub use registry::{NodeRow, nodes};
pub use service::{ServiceFiles, ServiceNow, WorkerNow, service};
pub use snapshot::Snapshot;
pub use survey::{DomainNow, NodeReading, Survey};
pub use table::{Held, TableShape};

use shm_primitives::identity::OwnerId;

/// The name of the segment of a domain's members.
pub const MEMBERS: &str = "members";
/// The name of the segment of a domain's registry of nodes.
pub const REGISTRY: &str = "registry";

/// An owner's id, as short as it can be written: `index-generation`.
pub fn short(id: OwnerId) -> String {
    format!("{}-{}", id.index(), id.generation())
}
