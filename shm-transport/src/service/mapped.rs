//! The segments of a service, mapped.

use super::name::{ServiceName, bells_of, client_of, control_of, letters_of};
use crate::domain::Domain;
use crate::segment::{CreateOptions, OpenOptions, ReadOnlySegment, Segment, SegmentError};
use shm_primitives::identity::OwnerId;
use shm_primitives::layout::letters::{self, LettersLayout};
use shm_primitives::layout::phoenix::{PhoenixShmLayout, Place};
use shm_primitives::layout::service::{BellsLayout, ControlLayout, Shape};
use shm_primitives::region::Region;
use shm_primitives::segment::{self as layout, Control};
use std::path::PathBuf;

/// Bytes that are looked at before anything else of a segment is.
pub(super) const HEADER: usize = 4096;

/// Why a segment of a service could not be made or opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum MapError {
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// It is something else, of another version, or closing.
    #[error("{path:?}: {error}")]
    Layout { path: PathBuf, error: layout::SegmentError },
}

/// The region of a segment for longer than it can be borrowed.
///
/// # Safety
///
/// What is made of it is gone before the segment is dropped.
unsafe fn lasting(segment: &Segment) -> Region<'static> {
    let here = segment.region();
    // SAFETY: the same memory, whose address does not change as long as it is mapped.
    unsafe { Region::new(here.base(), here.len()) }
}

/// A segment and the view of it, for whoever may write there. Its fields are dropped in their
/// order.
#[derive(Debug)]
pub(super) struct Mapped<L> {
    pub layout: L,
    pub segment: Segment,
}

/// The same, for reading.
#[derive(Debug)]
pub(super) struct MappedReadOnly<L> {
    pub layout: L,
    pub segment: ReadOnlySegment,
}

pub(super) type ControlMapped = Mapped<ControlLayout<'static>>;
pub(super) type BellsMapped = Mapped<BellsLayout<'static>>;
pub(super) type ClientMapped = Mapped<PhoenixShmLayout<'static>>;
pub(super) type LettersMapped = Mapped<LettersLayout<'static>>;
pub(super) type ControlReadOnly = MappedReadOnly<ControlLayout<'static>>;

fn impossible(path: PathBuf) -> MapError {
    let error = layout::SegmentError::Impossible("there is no service of that shape");
    MapError::Layout { path, error }
}

impl ControlMapped {
    /// Makes the control segment, whose link decides whether the name is free. Before it gets its
    /// name, `before` does what others may rely on then.
    pub fn create<E: From<MapError> + From<SegmentError>>(
        domain: &Domain,
        service: &ServiceName,
        shape: &Shape,
        owner: OwnerId,
        before: impl FnOnce(&ControlLayout<'static>, &Control<'static>) -> Result<(), E>,
    ) -> Result<(Self, Control<'static>), E> {
        let name = control_of(service);
        let size = shape.control_size().ok_or_else(|| impossible(domain.path_of(&name)))?;
        let (segment, (layout, control)) =
            Segment::create(domain, &name, CreateOptions::new(size), |segment| {
                // SAFETY: both are dropped with this closure, or stand before the segment in
                // whatever has them; nobody else knows the memory yet.
                let made = unsafe { ControlLayout::init_at(lasting(segment), shape, owner) };
                let (layout, control) =
                    made.map_err(|error| MapError::Layout { path: segment.path().into(), error })?;
                before(&layout, &control)?;
                Ok::<_, E>((layout, control))
            })?;
        Ok((Self { layout, segment }, control))
    }

    /// Opens it; `enter` takes a place in it, while nobody can take its name away.
    pub fn open<T, E: From<MapError> + From<SegmentError>>(
        domain: &Domain,
        service: &ServiceName,
        enter: impl FnOnce(&Segment, &ControlLayout<'static>) -> Result<T, E>,
    ) -> Result<(Self, T), E> {
        open(domain, &control_of(service), ControlLayout::attach, enter)
    }
}

impl BellsMapped {
    /// Makes the bells of a service, in the place of some that a dead supervisor left.
    pub fn create<E: From<MapError> + From<SegmentError>>(
        domain: &Domain,
        service: &ServiceName,
        shape: &Shape,
        owner: OwnerId,
    ) -> Result<(Self, Control<'static>), E> {
        let name = bells_of(service);
        let size = shape.bells_size().ok_or_else(|| impossible(domain.path_of(&name)))?;
        let (segment, (layout, control)) =
            Segment::create(domain, &name, CreateOptions::new(size), |segment| {
                // SAFETY: as those of a control segment.
                let made = unsafe { BellsLayout::init_at(lasting(segment), shape, owner) };
                made.map_err(|error| {
                    E::from(MapError::Layout { path: segment.path().into(), error })
                })
            })?;
        Ok((Self { layout, segment }, control))
    }

    /// Opens them; as the control segment is.
    pub fn open<T, E: From<MapError> + From<SegmentError>>(
        domain: &Domain,
        service: &ServiceName,
        enter: impl FnOnce(&Segment, &BellsLayout<'static>) -> Result<T, E>,
    ) -> Result<(Self, T), E> {
        open(domain, &bells_of(service), BellsLayout::attach, enter)
    }
}

impl ClientMapped {
    /// Makes the lanes of the client at `place`, in that tenancy of it. Sparse: room for each lane,
    /// and memory for what is touched before one is used, and for the lanes that
    /// [`allocate`](Self::allocate) was called for.
    pub fn create<E: From<MapError> + From<SegmentError>>(
        domain: &Domain,
        service: &ServiceName,
        shape: &Shape,
        place: u32,
        tenancy: u32,
        owner: OwnerId,
    ) -> Result<(Self, Control<'static>), E> {
        let name = client_of(service, place, tenancy);
        let shape = shape.client_shape(place);
        let size = shape.required_size().ok_or_else(|| impossible(domain.path_of(&name)))?;
        let options = CreateOptions::sparse(size, HEADER);
        let (segment, (layout, control)) = Segment::create(domain, &name, options, |segment| {
            for head in shape.heads() {
                segment.allocate(head)?;
            }
            // SAFETY: as those of a control segment. Its creator and its workers keep the protocol.
            let made = unsafe { PhoenixShmLayout::init_at(lasting(segment), &shape, owner) };
            made.map_err(|error| E::from(MapError::Layout { path: segment.path().into(), error }))
        })?;
        Ok((Self { layout, segment }, control))
    }

    /// Reserves memory for the lane there. What is done to it costs nothing after the first time.
    pub fn allocate(&self, shape: &Shape, lane: Place) -> Result<(), SegmentError> {
        match shape.client_shape(0).place_of(lane) {
            Some(bytes) => self.segment.allocate(bytes),
            None => Ok(()),
        }
    }

    /// Opens them, as a worker or a supervisor.
    pub fn open<T, E: From<MapError> + From<SegmentError>>(
        domain: &Domain,
        service: &ServiceName,
        place: u32,
        tenancy: u32,
        enter: impl FnOnce(&Segment, &PhoenixShmLayout<'static>) -> Result<T, E>,
    ) -> Result<(Self, T), E> {
        open(
            domain,
            &client_of(service, place, tenancy),
            // SAFETY: see `open`; its writers are of this service, and keep the protocol.
            |region| unsafe { PhoenixShmLayout::attach(region) },
            enter,
        )
    }
}

impl LettersMapped {
    /// Makes room for dead letters: memory for what is [dense](letters::Shape::dense_size), and for
    /// a message when it is kept.
    pub fn create<E: From<MapError> + From<SegmentError>>(
        domain: &Domain,
        service: &ServiceName,
        shape: letters::Shape,
        owner: OwnerId,
    ) -> Result<(Self, Control<'static>), E> {
        let name = letters_of(service);
        let impossible = || impossible(domain.path_of(&name));
        let size = shape.required_size().ok_or_else(impossible)?;
        let dense = shape.dense_size().ok_or_else(impossible)?;
        let options = CreateOptions::sparse(size, dense);
        let (segment, (layout, control)) = Segment::create(domain, &name, options, |segment| {
            // SAFETY: as those of a control segment.
            let made = unsafe { LettersLayout::init_at(lasting(segment), shape, owner) };
            made.map_err(|error| E::from(MapError::Layout { path: segment.path().into(), error }))
        })?;
        Ok((Self { layout, segment }, control))
    }

    /// Opens them; as the control segment is.
    pub fn open<T, E: From<MapError> + From<SegmentError>>(
        domain: &Domain,
        service: &ServiceName,
        enter: impl FnOnce(&Segment, &LettersLayout<'static>) -> Result<T, E>,
    ) -> Result<(Self, T), E> {
        open(domain, &letters_of(service), LettersLayout::attach, enter)
    }
}

fn open<L, T, E: From<MapError> + From<SegmentError>>(
    domain: &Domain,
    name: &crate::domain::SegmentName,
    attach: impl FnOnce(Region<'static>) -> Result<L, layout::SegmentError>,
    enter: impl FnOnce(&Segment, &L) -> Result<T, E>,
) -> Result<(Mapped<L>, T), E> {
    let (segment, (layout, entered)) =
        Segment::open(domain, name, OpenOptions::new(HEADER), |segment| {
            // SAFETY: what is made of it is dropped with this closure, or stands before the
            // segment.
            let region = unsafe { lasting(segment) };
            let layout = attach(region)
                .map_err(|error| MapError::Layout { path: segment.path().into(), error })?;
            let entered = enter(segment, &layout)?;
            Ok::<_, E>((layout, entered))
        })?;
    Ok((Mapped { layout, segment }, entered))
}

impl ControlReadOnly {
    /// Opens the control segment to look at.
    pub fn open<E: From<MapError> + From<SegmentError>>(
        domain: &Domain,
        service: &ServiceName,
    ) -> Result<Self, E> {
        let name = control_of(service);
        let (segment, layout) =
            ReadOnlySegment::open(domain, &name, OpenOptions::new(HEADER), |segment| {
                // SAFETY: only what reads is called for it.
                let here = unsafe { segment.mapping().region_for_reading() };
                // SAFETY: the same memory; what is made of it stands before the segment.
                let region = unsafe { Region::<'static>::new(here.base(), here.len()) };
                ControlLayout::attach(region).map_err(|error| {
                    E::from(MapError::Layout { path: segment.path().into(), error })
                })
            })?;
        Ok(Self { layout, segment })
    }
}
