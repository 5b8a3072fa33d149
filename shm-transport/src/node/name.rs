//! The names of a node's files.

use super::error::NodeError;
use crate::domain::SegmentName;
use crate::escape;
use shm_primitives::identity::OwnerId;
use shm_primitives::layout::lrpc::NodeId;

/// What the names of nodes' segments begin with.
const NODE: &str = "node.";
/// And those of their pools.
const POOL: &str = "pool.";

/// The name of a node.
pub(super) fn node_id(name: &str) -> Result<NodeId, NodeError> {
    Ok(NodeId::try_from(name)?)
}

/// The segment of the node of that name.
pub(super) fn segment_of(id: &NodeId) -> SegmentName {
    escape::segment(NODE, id.as_bytes(), "")
}

/// Whether a segment is a node's.
pub(super) fn is_node(name: &SegmentName) -> bool {
    name.as_str().starts_with(NODE)
}

/// The name of the node whose segment has that name; `None` if no node's has.
pub(super) fn node_of(name: &SegmentName) -> Option<NodeId> {
    NodeId::try_from(&*escape::read(name.as_str().strip_prefix(NODE)?)?).ok()
}

/// Whether a segment is a node's pool.
pub(super) fn is_pool(name: &SegmentName) -> bool {
    name.as_str().starts_with(POOL)
}

/// The segment of a node's pool of chunks.
pub(super) fn pool_of(owner: OwnerId) -> SegmentName {
    let name = format!("{POOL}{}-{}", owner.index(), owner.generation());
    SegmentName::new(&name).expect("letters and digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        for name in ["camera", "/camera/left", "100%", "%s", "a/%/b", "n.o.d.e", "ä%%ü/"] {
            let id = node_id(name).unwrap();
            assert_eq!(node_of(&segment_of(&id)), Some(id), "{name}");
        }
        let slashes = "/".repeat(64);
        let id = node_id(&slashes).unwrap();
        assert_eq!(node_of(&segment_of(&id)), Some(id));
    }

    #[test]
    fn no_two_names_have_one_file() {
        let names = ["/", "%s", "%", "%%", "%%s", "s", "/s", "%/"];
        for (at, one) in names.iter().enumerate() {
            for other in &names[at + 1..] {
                let file = |name: &str| segment_of(&node_id(name).unwrap());
                assert_ne!(file(one), file(other), "{one} {other}");
            }
        }
    }
}
