//! Services, seen by who is none of them: tools that list, show or clean.
//!
//! A service is a few segments of a domain. Which is what is told by their names; what they hold
//! can be read by the layouts of `shm_primitives`, from a copy as well as from the memory itself:
//! [`layout::service`](shm_primitives::layout::service) and
//! [`layout::letters`](shm_primitives::layout::letters).
//!
//! ```
//! use shm_transport::domain::SegmentName;
//! use shm_transport::service::view::{Part, part_of, segment_of};
//!
//! let lanes = Part::Client { place: 3, tenancy: 1 };
//! let name = segment_of("fast/math", lanes)?;
//! assert_eq!(name.as_str(), "client.fast%smath.3-1");
//! assert_eq!(part_of(&name), Some(("fast/math".into(), lanes)));
//! assert_eq!(part_of(&SegmentName::new("members").unwrap()), None);
//! # Ok::<(), shm_primitives::layout::lrpc::NodeIdError>(())
//! ```

use super::mapped::ControlMapped;
use super::name::{BELLS, CLIENT, CONTROL, LETTERS, ServiceName};
use super::name::{bells_of, client_of, control_of, letters_of};
use super::server::adopt::clear_deserted;
use super::server::letters;
use super::{DeadLetter, ServerBuilder, ServerError, role};
use crate::domain::{Domain, SegmentName};
use crate::escape;
use crate::member::{self, JoinOptions, Member};
use crate::segment::SegmentError;
use shm_primitives::identity::OwnerId;
use shm_primitives::layout::lrpc::NodeIdError;
use shm_primitives::table::SlotKey;
use std::time::Duration;

/// What a segment is to its service.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum Part {
    /// What the service is, and how its workers are.
    Control,
    /// Who is there, and who rings whom.
    Bells,
    /// A client's lanes.
    Client {
        /// The client's place.
        place: u32,
        /// Which of the clients that have had the place.
        tenancy: u32,
    },
    /// Its dead letters.
    Letters,
}

/// The segment of a service.
///
/// # Errors
///
/// `service` is no name of a service.
pub fn segment_of(service: &str, part: Part) -> Result<SegmentName, NodeIdError> {
    let service = ServiceName::try_from(service)?;
    Ok(match part {
        Part::Control => control_of(&service),
        Part::Bells => bells_of(&service),
        Part::Client { place, tenancy } => client_of(&service, place, tenancy),
        Part::Letters => letters_of(&service),
    })
}

/// Which service's segment that is by its name, and what of it; `None` if it is no service's.
/// Other segments may have such names: their magic tells.
#[must_use]
pub fn part_of(segment: &SegmentName) -> Option<(String, Part)> {
    let name = segment.as_str();
    let (service, part) = if let Some(service) = name.strip_prefix(CONTROL) {
        (service, Part::Control)
    } else if let Some(service) = name.strip_prefix(BELLS) {
        (service, Part::Bells)
    } else if let Some(service) = name.strip_prefix(LETTERS) {
        (service, Part::Letters)
    } else {
        let (service, lanes) = name.strip_prefix(CLIENT)?.rsplit_once('.')?;
        let (place, tenancy) = lanes.split_once('-')?;
        (service, Part::Client { place: place.parse().ok()?, tenancy: tenancy.parse().ok()? })
    };
    let service = escape::read(service)?;
    // As names are written, and not "+1".
    (segment_of(&service, part).ok()? == *segment).then_some((service, part))
}

/// The dead letters of a service, whether or not it runs; none if there is no such service.
///
/// # Errors
///
/// The service's name is none, or the letters' segment cannot be opened.
pub fn letters(domain: &Domain, service: &str) -> Result<Vec<DeadLetter>, ServerError> {
    letters::all(domain, &ServiceName::try_from(service)?)
}

/// Says that a dead letter may go; whether it was there. Its service's server lets it go within
/// seconds, or the next one does.
///
/// # Errors
///
/// As [`letters`].
pub fn drop_letter(domain: &Domain, service: &str, key: SlotKey) -> Result<bool, ServerError> {
    letters::drop_letter(domain, &ServiceName::try_from(service)?, key)
}

/// Stops a service that nobody supervises, as [`Server::stop`](super::Server::stop) does it: takes
/// it over, without starting any worker, orders those that live to go, and kills who has not
/// within that time. Answers whether there was such a service. Blocks until that is done.
///
/// # Errors
///
/// `InUse` if it has a server, which is to stop it; `TimedOut` and others as there.
pub fn stop(domain: &Domain, service: &str, within: Duration) -> Result<bool, ServerError> {
    let name = ServiceName::try_from(service)?;
    let opened =
        ControlMapped::open(domain, &name, |_, control| Ok::<_, ServerError>(*control.shape()));
    let shape = match opened {
        Ok((_, shape)) => shape,
        Err(ServerError::Segment(SegmentError::NotFound { .. })) => return Ok(false),
        Err(error) => return Err(error),
    };
    ServerBuilder::to_stop(service, domain, shape).start()?.stop(within)?;
    Ok(true)
}

/// Gives the records back that dead processes of services have in the domain's table of members, if
/// no segment of a service is left there that could name one, dead letters among them; whose records
/// that were.
///
/// # Errors
///
/// The table cannot be opened, or the kernel does not say who lives.
pub fn clear_records(domain: &Domain) -> Result<Vec<OwnerId>, ServerError> {
    if !domain.path_of(&SegmentName::new(member::NAME)?).exists() {
        return Ok(Vec::new());
    }
    // Letters of a server that was killed name it as their owner, until the next one takes over.
    let Ok(mut segments) = domain.segments() else { return Ok(Vec::new()) };
    if segments.any(|name| name.is_ok_and(|name| part_of(&name).is_some())) {
        return Ok(Vec::new());
    }
    let member = Member::join_with(domain, "clean", JoinOptions::new().role(role::SUPERVISOR))?;
    let cleared = clear_deserted(domain, &member);
    // SAFETY: it holds nothing.
    unsafe { member.leave() }?;
    Ok(cleared)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_told_by_their_names() {
        let parts =
            [Part::Control, Part::Bells, Part::Letters, Part::Client { place: 12, tenancy: 345 }];
        for service in ["math", "a/b%c", "client.a.1-2", "x.1-2"] {
            for part in parts {
                let name = segment_of(service, part).unwrap();
                assert_eq!(part_of(&name), Some((service.into(), part)), "{name}");
            }
        }
        for name in ["service.", "client.a", "client.a.1", "client.a.+1-2", "service.a%b", "node.a"]
        {
            assert_eq!(part_of(&SegmentName::new(name).unwrap()), None, "{name}");
        }
    }
}
