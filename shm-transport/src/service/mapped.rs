//! The segments of a service, mapped.

use super::name::{ServiceName, bells_of, client_of, control_of, letters_of};
use crate::domain::{Domain, SegmentName};
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
    _segment: ReadOnlySegment,
}

pub(super) type ControlMapped = Mapped<ControlLayout<'static>>;
pub(super) type BellsMapped = Mapped<BellsLayout<'static>>;
pub(super) type ClientMapped = Mapped<PhoenixShmLayout<'static>>;
pub(super) type LettersMapped = Mapped<LettersLayout<'static>>;
pub(super) type ControlReadOnly = MappedReadOnly<ControlLayout<'static>>;

/// What each of them is made by.
type Made<L> = Result<(L, Control<'static>), layout::SegmentError>;

impl<L> Mapped<L> {
    /// Makes a segment, whose link decides whether the name is free. Before it gets its name,
    /// `before` does what others may rely on then.
    fn make<E: From<MapError> + From<SegmentError>>(
        domain: &Domain,
        name: &SegmentName,
        sizes: Option<CreateOptions>,
        init: impl FnOnce(&Segment) -> Result<Made<L>, SegmentError>,
        before: impl FnOnce(&L, &Control<'static>) -> Result<(), E>,
    ) -> Result<(Self, Control<'static>), E> {
        let options = sizes.ok_or_else(|| {
            let error = layout::SegmentError::Impossible("there is no service of that shape");
            MapError::Layout { path: domain.path_of(name), error }
        })?;
        let (segment, (layout, control)) = Segment::create(domain, name, options, |segment| {
            let (layout, control) = init(segment)?
                .map_err(|error| MapError::Layout { path: segment.path().into(), error })?;
            before(&layout, &control)?;
            Ok::<_, E>((layout, control))
        })?;
        Ok((Self { layout, segment }, control))
    }
}

/// Nothing is to be done before others know of it.
fn nothing<L, E>(_: &L, _: &Control<'static>) -> Result<(), E> {
    Ok(())
}

impl ControlMapped {
    /// Makes the control segment.
    pub fn create<E: From<MapError> + From<SegmentError>>(
        domain: &Domain,
        service: &ServiceName,
        shape: &Shape,
        owner: OwnerId,
        before: impl FnOnce(&ControlLayout<'static>, &Control<'static>) -> Result<(), E>,
    ) -> Result<(Self, Control<'static>), E> {
        let sizes = shape.control_size().map(CreateOptions::new);
        // SAFETY: what is made of it is dropped with `make`'s closure, or stands before the segment
        // in whatever has it; nobody else knows the memory yet.
        let init = |segment: &Segment| unsafe {
            Ok(ControlLayout::init_at(segment.lasting(), shape, owner))
        };
        Self::make(domain, &control_of(service), sizes, init, before)
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
        let sizes = shape.bells_size().map(CreateOptions::new);
        // SAFETY: as that of a control segment.
        let init = |segment: &Segment| unsafe {
            Ok(BellsLayout::init_at(segment.lasting(), shape, owner))
        };
        Self::make(domain, &bells_of(service), sizes, init, nothing)
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
        let shape = shape.client_shape(place);
        let sizes = shape.required_size().map(|size| CreateOptions::sparse(size, HEADER));
        let init = |segment: &Segment| {
            for head in shape.heads() {
                segment.allocate(head)?;
            }
            // SAFETY: as that of a control segment. Its creator and its workers keep the protocol.
            Ok(unsafe { PhoenixShmLayout::init_at(segment.lasting(), &shape, owner) })
        };
        Self::make(domain, &client_of(service, place, tenancy), sizes, init, nothing)
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
        let sizes = shape.required_size().zip(shape.dense_size());
        let sizes = sizes.map(|(size, dense)| CreateOptions::sparse(size, dense));
        // SAFETY: as that of a control segment.
        let init = |segment: &Segment| unsafe {
            Ok(LettersLayout::init_at(segment.lasting(), shape, owner))
        };
        Self::make(domain, &letters_of(service), sizes, init, nothing)
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
    name: &SegmentName,
    attach: impl FnOnce(Region<'static>) -> Result<L, layout::SegmentError>,
    enter: impl FnOnce(&Segment, &L) -> Result<T, E>,
) -> Result<(Mapped<L>, T), E> {
    let (segment, (layout, entered)) =
        Segment::open(domain, name, OpenOptions::new(HEADER), |segment| {
            // SAFETY: what is made of it is dropped with this closure, or stands before the
            // segment.
            let region = unsafe { segment.lasting() };
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
        Ok(Self { layout, _segment: segment })
    }
}
