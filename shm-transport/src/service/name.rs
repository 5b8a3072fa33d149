//! The names of a service's files.

use crate::domain::SegmentName;
use crate::escape;
use shm_primitives::layout::lrpc::NodeId;

/// A service's name, by the rules of nodes' names: 1 to 64 bytes without a NUL.
pub(super) type ServiceName = NodeId;

/// What the names of a service's segments begin with.
pub(super) const CONTROL: &str = "service.";
pub(super) const BELLS: &str = "bells.";
pub(super) const CLIENT: &str = "client.";
pub(super) const LETTERS: &str = "letters.";

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

/// Which place and tenancy of that service's a segment is the lanes of; `None` if it is none.
pub(super) fn client_in(service: &ServiceName, segment: &SegmentName) -> Option<(u32, u32)> {
    let (rest, tenancy) = segment.as_str().rsplit_once('-')?;
    let (_, place) = rest.rsplit_once('.')?;
    let (place, tenancy) = (place.parse().ok()?, tenancy.parse().ok()?);
    // As they are written, and not "+1"; and of that service.
    (client_of(service, place, tenancy) == *segment).then_some((place, tenancy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_told_by_their_names() {
        let [a, b] = ["a.1-2", "a"].map(|name| ServiceName::try_from(name).unwrap());
        for (place, tenancy) in [(0, 1), (12, 345)] {
            let segment = client_of(&a, place, tenancy);
            assert_eq!(client_in(&a, &segment), Some((place, tenancy)));
            assert_eq!(client_in(&b, &segment), None);
        }
        let other = SegmentName::new("client.a.+1-2").unwrap();
        assert_eq!(client_in(&b, &other), None);
        assert_eq!(client_in(&b, &control_of(&b)), None);
    }
}
