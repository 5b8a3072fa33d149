//! The names of a service's files.

use crate::domain::SegmentName;
use crate::escape;
use shm_primitives::layout::lrpc::NodeId;

/// A service's name, by the rules of nodes' names: 1 to 64 bytes without a NUL.
pub(super) type ServiceName = NodeId;

/// What the names of a service's segments begin with.
const CONTROL: &str = "service.";
const BELLS: &str = "bells.";
const CLIENT: &str = "client.";
const LETTERS: &str = "letters.";

/// The control segment of the service of that name.
pub(super) fn control_of(service: &ServiceName) -> SegmentName {
    escape::segment(CONTROL, service.as_bytes(), "")
}

/// Its bells.
pub(super) fn bells_of(service: &ServiceName) -> SegmentName {
    escape::segment(BELLS, service.as_bytes(), "")
}

/// Its dead letters.
pub(super) fn letters_of(service: &ServiceName) -> SegmentName {
    escape::segment(LETTERS, service.as_bytes(), "")
}

/// The lanes of the client at that place, in that tenancy of it.
pub(super) fn client_of(service: &ServiceName, place: u32, tenancy: u32) -> SegmentName {
    // A dot is no escape: the last one is ours whatever the service is called.
    escape::segment(CLIENT, service.as_bytes(), &format!(".{place}-{tenancy}"))
}
