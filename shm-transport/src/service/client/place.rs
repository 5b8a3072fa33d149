//! Taking a place among the clients of a service.

use super::super::mapped::{BellsMapped, ClientMapped, HEADER, MapError};
use super::super::name::client_of;
use super::connection::ClientSlot;
use super::error::ConnectError;
use super::family::Family;
use crate::liveness::Verdict;
use crate::segment::{OpenOptions, Segment, SegmentError};
use shm_primitives::layout::service::{BellsLayout, Shape};
use shm_primitives::part::Corrupt;
use shm_primitives::segment::{self as layout, Control, Magic};
use shm_primitives::table::TableFull;

/// How often to try for a place whose file is still somebody's.
const PLACES: usize = 64;

/// What reserving a place gives, and its file.
pub(super) type Taken = (BellsMapped, ClientSlot, ClientMapped, Control<'static>);

/// Takes a place, and makes its segment. One whose file is a living client's, which another service
/// of that name had, is passed over.
pub(super) fn take_place(family: &Family, shape: &Shape) -> Result<Taken, ConnectError> {
    let Family { domain, service, .. } = family;
    let owner = family.owner();
    let full = |_| ConnectError::PlacesTaken { service: *service, clients: shape.clients };
    let (bells, mut slot) = BellsMapped::open(domain, service, |segment, layout| {
        check_bells(segment, layout, shape)?;
        layout.reserve_client(owner).map_err(full)
    })?;
    // Declared after the bells, so dropped, and with that released, before them.
    let mut passed_over = Vec::new();
    for _ in 0..PLACES {
        let (place, tenancy) = (slot.key().index(), slot.key().generation());
        match ClientMapped::create(domain, service, shape, place, tenancy, owner) {
            Ok((own, closing)) => {
                drop(passed_over);
                return Ok((bells, slot, own, closing));
            }
            Err(ConnectError::Segment(SegmentError::AlreadyExists { .. })) => {
                if !remove_deserted(family, place, tenancy) {
                    let next = bells.layout.reserve_client(owner).map_err(full)?;
                    passed_over.push(std::mem::replace(&mut slot, next));
                }
            }
            Err(error) => {
                drop(slot);
                return Err(error);
            }
        }
    }
    drop(slot);
    Err(full(TableFull { slots: shape.clients }))
}

fn check_bells(
    segment: &Segment,
    layout: &BellsLayout<'static>,
    shape: &Shape,
) -> Result<(), ConnectError> {
    let bells = layout.bells();
    for (what, found, limit) in [
        ("worker places of the bells", bells.places(), shape.workers()),
        ("client places of the bells", bells.clients(), shape.clients),
    ] {
        if found != limit {
            let error = Corrupt { what, found, limit }.into();
            return Err(ConnectError::Layout { path: segment.path().into(), error });
        }
    }
    Ok(())
}

/// Takes the name away from a client's segment whose owner is dead, or is nobody; whether it did.
fn remove_deserted(family: &Family, place: u32, tenancy: u32) -> bool {
    let name = client_of(&family.service, place, tenancy);
    let options = OpenOptions::new(HEADER);
    let removed = Segment::unlink(&family.domain, &name, options, |segment| {
        let owner = layout::owner_of(&segment.region(), Magic::PHNX)
            .map_err(|error| MapError::Layout { path: segment.path().into(), error })?;
        let Some(owner) = owner else { return Ok(true) };
        let verdict = family.member().processes().convict(owner)?;
        Ok::<_, ConnectError>(matches!(verdict, Verdict::Dead(_)))
    });
    match removed {
        Err(ConnectError::Segment(SegmentError::NotFound { .. })) => true,
        Ok(removed) => removed,
        Err(error) => {
            // Whatever stands there is not known to be a dead one's: it is left alone.
            let service = &family.service;
            tracing::warn!(target: "shm_transport::service", %service, place, %error, "a place of a client is passed over");
            false
        }
    }
}
