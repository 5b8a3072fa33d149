//! How many places there are, and what each lane is.

use super::{bells, control};
use crate::channel::Lane;
use crate::layout::phoenix::{self, GroupShape, Place};
use crate::monitor::{Group, Transaction};
use crate::part::Corrupt;
use core::ops::Range;

/// What a service is made of. The default is that of
/// [`phoenix::Shape`]: 4 normal workers × 1024 messages and 2 VIP workers × 256, with places for
/// 256 clients and 64 functions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// The ordinary workers, and a client's lane to each. Places 0 and on, then their spares.
    pub normal: GroupShape,
    /// Those that normal load does not hold up. The places behind, then their spares.
    pub vip: GroupShape,
    /// Places that each group with workers has beside those of its workers: where the next one goes
    /// while a place has one that cannot be got rid of.
    pub spares: u32,
    /// Places of clients.
    pub clients: u32,
    /// Slots for functions.
    pub functions: u32,
}

impl Default for Shape {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Shape {
    /// 4 normal workers × 1024 messages and 2 VIP workers × 256; 256 clients, 64 functions.
    pub const DEFAULT: Self =
        Self::new(phoenix::Shape::DEFAULT.normal, phoenix::Shape::DEFAULT.vip);

    /// The most worker places: what a monitor can tell apart.
    pub const MAX_WORKERS: u32 = Transaction::MAX_WORKER as u32 + 1;
    /// The most client places: what a sequence id can tell apart.
    pub const MAX_CLIENTS: u32 = 1 << 12;
    /// The most lanes: what a monitor can tell apart.
    pub const MAX_LANES: u32 = 1 << 16;
    /// The most functions.
    pub const MAX_FUNCTIONS: u32 = 1 << 16;

    /// These two groups, without spares; 256 clients, 64 functions. One of the groups may have no
    /// workers.
    pub const fn new(normal: GroupShape, vip: GroupShape) -> Self {
        Self { normal, vip, spares: 0, clients: 256, functions: 64 }
    }

    /// The same with so many spare places in each group that has workers.
    pub const fn spares(mut self, spares: u32) -> Self {
        self.spares = spares;
        self
    }

    /// The same with so many client places.
    pub const fn clients(mut self, clients: u32) -> Self {
        self.clients = clients;
        self
    }

    /// The same with slots for so many functions.
    pub const fn functions(mut self, functions: u32) -> Self {
        self.functions = functions;
        self
    }

    /// A group, with as many workers as it has places.
    const fn with_spares(&self, group: Group) -> GroupShape {
        let mut shape = match group {
            Group::Normal => self.normal,
            Group::Vip => self.vip,
        };
        if shape.workers > 0 {
            shape.workers = shape.workers.saturating_add(self.spares);
        }
        shape
    }

    /// Worker places, those of both groups with their spares.
    pub const fn workers(&self) -> u32 {
        let vip = self.with_spares(Group::Vip).workers;
        self.with_spares(Group::Normal).workers.saturating_add(vip)
    }

    /// How many workers of a group are to be there at a time: fewer than it has places, if there
    /// are spares.
    pub const fn wanted(&self, group: Group) -> u32 {
        match group {
            Group::Normal => self.normal.workers,
            Group::Vip => self.vip.workers,
        }
    }

    /// The worker places of a group, spares too.
    pub const fn places(&self, group: Group) -> Range<u32> {
        let normal = self.with_spares(Group::Normal).workers;
        match group {
            Group::Normal => 0..normal,
            Group::Vip => normal..self.workers(),
        }
    }

    /// The group that worker place `place` belongs to; `None` if there is no such place.
    pub const fn group_of(&self, place: u32) -> Option<Group> {
        if place < self.places(Group::Normal).end {
            Some(Group::Normal)
        } else if place < self.workers() {
            Some(Group::Vip)
        } else {
            None
        }
    }

    /// Where in a client's segment the lane to worker place `place` is: group, and number in it.
    /// `None` if there is no such place.
    pub const fn place(&self, place: u32) -> Option<Place> {
        match self.group_of(place) {
            Some(Group::Normal) => Some(Place { group: Group::Normal, worker: place as usize }),
            Some(Group::Vip) => {
                let worker = (place - self.places(Group::Vip).start) as usize;
                Some(Place { group: Group::Vip, worker })
            }
            None => None,
        }
    }

    /// What the worker of place `place` is to be told when it claims its end of the lane of the
    /// client that has place `client` in tenancy `tenancy`. `None` if there is no such place or
    /// client.
    pub const fn lane(&self, place: u32, client: u32, tenancy: u32) -> Option<Lane> {
        let Some(group) = self.group_of(place) else { return None };
        if client >= self.clients || self.check().is_err() {
            return None;
        }
        // At most 2^16 lanes, and 2^14 workers.
        let lane = place * self.clients + client;
        Some(Lane { group, worker: place as u16, lane: lane as u16, epoch: tenancy })
    }

    /// The shape of the segment of the client at place `client`.
    pub const fn client_shape(&self, client: u32) -> phoenix::Shape {
        let (normal, vip) = (self.with_spares(Group::Normal), self.with_spares(Group::Vip));
        // At most 2^12 clients.
        phoenix::Shape::new(normal, vip).lane(client as u16)
    }

    /// Bytes of the control segment; `None` if there can be no such service.
    pub const fn control_size(&self) -> Option<usize> {
        match control::parts(self) {
            Some(parts) => control::plan(self, &parts).required_size(),
            None => None,
        }
    }

    /// Bytes of the bells' segment; `None` if there can be no such service.
    pub const fn bells_size(&self) -> Option<usize> {
        match bells::parts(self) {
            Some(parts) => bells::plan(self, &parts).required_size(),
            None => None,
        }
    }

    /// Whether there can be such a service.
    ///
    /// # Errors
    ///
    /// The number that is too large, or 0.
    pub const fn check(&self) -> Result<(), Corrupt> {
        if let Err(error) = check_places(self.workers(), self.clients) {
            return Err(error);
        }
        if self.functions == 0 || self.functions > Self::MAX_FUNCTIONS {
            let (found, limit) = (self.functions, Self::MAX_FUNCTIONS);
            return Err(Corrupt { what: "number of functions", found, limit });
        }
        if self.client_shape(0).required_size().is_none() {
            let (found, limit) = (self.normal.messages, 1 << 30);
            return Err(Corrupt { what: "size of the lanes of a client", found, limit });
        }
        Ok(())
    }
}

/// Whether there can be so many places.
pub(super) const fn check_places(workers: u32, clients: u32) -> Result<(), Corrupt> {
    if workers == 0 || workers > Shape::MAX_WORKERS {
        let limit = Shape::MAX_WORKERS;
        return Err(Corrupt { what: "number of worker places", found: workers, limit });
    }
    if clients == 0 || clients > Shape::MAX_CLIENTS {
        let limit = Shape::MAX_CLIENTS;
        return Err(Corrupt { what: "number of client places", found: clients, limit });
    }
    // At most 2^26.
    let lanes = workers * clients;
    if lanes > Shape::MAX_LANES {
        return Err(Corrupt { what: "number of lanes", found: lanes, limit: Shape::MAX_LANES });
    }
    Ok(())
}
