//! A node's segment, mapped: one's own, or another's.

use super::error::NodeError;
use super::name::segment_of;
use crate::domain::Domain;
use crate::segment::{CreateOptions, OpenOptions, Segment, SegmentError};
use shm_primitives::identity::OwnerId;
use shm_primitives::layout::lrpc::NodeId;
use shm_primitives::layout::node::{NodeLayout, Shape};
use shm_primitives::segment::{self as layout, Control};

/// Bytes that are looked at before anything else of a segment is.
pub(super) const HEADER: usize = 4096;

/// A node's segment and a view of it.
#[derive(Debug)]
pub(super) struct Mapped {
    // Before `segment`, whose memory it refers to.
    pub layout: NodeLayout<'static>,
    pub segment: Segment,
}

impl Mapped {
    /// Makes a node's own segment. The link decides whether the name is free.
    pub fn create(
        domain: &Domain,
        id: &NodeId,
        shape: Shape,
        owner: OwnerId,
    ) -> Result<(Self, Control<'static>), NodeError> {
        let what = "there is no such shape of a node's segment";
        let impossible = || NodeError::Layout {
            path: domain.path_of(&segment_of(id)),
            what: "segment of a node",
            error: layout::SegmentError::Impossible(what),
        };
        let size = shape.required_size().ok_or_else(impossible)?;
        let dense = shape.dense_size().ok_or_else(impossible)?;
        let options = CreateOptions::sparse(size, dense);
        let (segment, (layout, control)) =
            Segment::create(domain, &segment_of(id), options, |segment| {
                // SAFETY: `layout` and `control` are dropped with this closure, or stand before
                // the segment in whatever has them. Nobody else knows the memory yet, and who may
                // write to the domain's files keeps the protocol.
                let made = unsafe { NodeLayout::init_at(segment.lasting(), shape, owner) };
                let made = made.map_err(|error| NodeError::Layout {
                    path: segment.path().into(),
                    what: "segment of a node",
                    error,
                })?;
                // The first page of counters.
                if let Some(counters) = made.0.place_of_counters() {
                    segment.allocate(counters..counters + 1)?;
                }
                Ok::<_, NodeError>(made)
            })?;
        Ok((Self { layout, segment }, control))
    }

    /// Opens another's, and lets `enter` claim a place in it, while it cannot be unlinked.
    pub fn open<T, E: From<SegmentError>>(
        domain: &Domain,
        id: &NodeId,
        options: OpenOptions,
        refused: impl FnOnce(&Segment, layout::SegmentError) -> E,
        enter: impl FnOnce(&Segment, &NodeLayout<'static>) -> Result<T, E>,
    ) -> Result<(Self, T), E> {
        let (segment, (layout, entered)) =
            Segment::open(domain, &segment_of(id), options, |segment| {
                // SAFETY: as in `create`; who may write to the domain's files keeps the protocol.
                let layout = unsafe { NodeLayout::attach(segment.lasting()) };
                let layout = match layout {
                    Ok(layout) => layout,
                    Err(error) => return Err(refused(segment, error)),
                };
                let entered = enter(segment, &layout)?;
                Ok((layout, entered))
            })?;
        Ok((Self { layout, segment }, entered))
    }

    /// Reserves memory for those bytes.
    pub fn allocate(segment: &Segment, (offset, len): (usize, usize)) -> Result<(), SegmentError> {
        segment.allocate(offset..offset + len)
    }
}
