//! The domain's registry of nodes: who there is, by name.

use super::error::NodeError;
use super::mapped::HEADER;
use crate::domain::{Domain, SegmentName};
use crate::segment::{CreateOptions, OpenOptions, Segment, SegmentError};
use shm_primitives::identity::OwnerId;
use shm_primitives::layout::lrpc::{LrpcLayout, Node, NodeId, RegisterError, Registered, Shape};
use shm_primitives::segment as layout;

/// The name of its segment.
const NAME: &str = "registry";

/// The segment.
pub(super) fn name() -> SegmentName {
    SegmentName::new(NAME).expect("a name")
}

/// The registry, mapped.
#[derive(Debug)]
pub(super) struct Registry {
    // Before `segment`, whose memory it refers to.
    layout: LrpcLayout<'static>,
    segment: Segment,
}

/// A place in it. To be dropped before the registry.
pub(super) type Place = Registered<'static>;

impl Registry {
    /// Opens it, and makes it if there is none; `enter` claims a place in it, while it cannot be
    /// unlinked. Its first node's `nodes` count.
    pub fn open_or_create<T>(
        domain: &Domain,
        nodes: u32,
        owner: OwnerId,
        mut enter: impl FnMut(&LrpcLayout<'static>) -> Result<T, NodeError>,
    ) -> Result<(Self, T), NodeError> {
        // A node's memory is a segment of its own, so that channels have no bytes.
        let shape = Shape::new(nodes, 0);
        let what = "there is no registry of so many nodes";
        let size = shape.required_size().ok_or_else(|| NodeError::Layout {
            path: domain.path_of(&name()),
            what: "registry",
            error: layout::SegmentError::Impossible(what),
        })?;
        let wrong = |segment: &Segment, error| NodeError::Layout {
            path: segment.path().into(),
            what: "registry",
            error,
        };
        let enter = std::cell::RefCell::new(&mut enter);
        let (segment, (layout, entered), _) = Segment::open_or_create(
            domain,
            &name(),
            OpenOptions::new(HEADER),
            CreateOptions::new(size),
            |segment| {
                // SAFETY: it and what is made of it stand before the segment in whatever has them.
                let region = unsafe { segment.lasting() };
                let layout = LrpcLayout::attach(region).map_err(|error| wrong(segment, error))?;
                let entered = enter.borrow_mut()(&layout)?;
                Ok::<_, NodeError>((layout, entered))
            },
            |segment| {
                // SAFETY: as above, and nobody else knows the memory yet.
                let made = unsafe { LrpcLayout::init_at(segment.lasting(), shape, owner) };
                let (layout, control) = made.map_err(|error| wrong(segment, error))?;
                // Nobody owns it: the last to leave unlinks it.
                drop(control);
                let entered = enter.borrow_mut()(&layout)?;
                Ok::<_, NodeError>((layout, entered))
            },
        )?;
        Ok((Self { layout, segment }, entered))
    }

    /// Opens it to look at; `None` if there is none.
    pub fn open(domain: &Domain) -> Result<Option<Self>, NodeError> {
        let opened =
            Segment::open(domain, &name(), OpenOptions::new(HEADER), |segment| {
                // SAFETY: as in `open_or_create`.
                LrpcLayout::attach(unsafe { segment.lasting() }).map_err(|error| {
                    NodeError::Layout { path: segment.path().into(), what: "registry", error }
                })
            });
        match opened {
            Ok((segment, layout)) => Ok(Some(Self { layout, segment })),
            Err(NodeError::Segment(SegmentError::NotFound { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The nodes in it.
    pub fn layout(&self) -> &LrpcLayout<'static> {
        &self.layout
    }

    /// How many places it has.
    pub fn places(&self) -> u32 {
        self.layout.shape().channels
    }

    /// The nodes in it. One whose slot cannot be read now, which none that keeps the protocol
    /// makes last, is left out.
    pub fn nodes(&self) -> impl Iterator<Item = Node> + use<'_> {
        self.layout.nodes().flatten()
    }

    /// The node of that name.
    pub fn find(&self, id: &NodeId) -> Option<Node> {
        self.nodes().find(|node| node.id == *id)
    }

    /// Takes its name away if nobody is in it, dead or alive; whether it did.
    pub fn remove_if_empty(&self) -> Result<bool, SegmentError> {
        let registry = self.layout.registry();
        match self.segment.unlink_own(|_| Ok(registry.owners().next().is_none())) {
            // Another's by now, or nobody's.
            Err(SegmentError::NotFound { .. }) => Ok(false),
            other => other,
        }
    }
}

/// Takes a place under `id`.
pub(super) fn register(
    layout: &LrpcLayout<'static>,
    owner: OwnerId,
    id: &NodeId,
    now: u32,
) -> Result<Place, RegisterError> {
    layout.register(owner, id, std::process::id(), now)
}
