//! `PHNX`: one caller's lanes to the workers of a service.
//!
//! Four normal workers and two VIP workers by default, each with a
//! [channel](crate::channel) to the caller and a [monitor](crate::monitor). The caller is the
//! client of every channel. A service with several callers has such a segment for each of them;
//! its workers serve one lane in each, and then use monitors of their own and not these.
//!
//! # Memory
//!
//! A [`segment`](crate::segment) with magic `PHNX`, version 1; its own two words are the lane
//! (which of its workers' lanes these are) and 0. It has a part for each group that has workers:
//! kind 6, role 0 for the normal group and 1 for the VIP group, both required.
//!
//! ```text
//! offset from the start of the part
//!      0   magic            "SHMP"
//!      4   version          of the group's layout
//!      8   kind             6
//!     12   layout           hash over the kind
//!     16   min_reader       the lowest version whose readers understand this part
//!     20   workers
//!     24   messages         requests that a lane has room for, and calls whose replies it has
//!     28   message_size     bytes of payload of such a request
//!     32   reply_size       of a final reply
//!     36   progress_size    of a progress reply
//!     40   requests         capacity of a request ring, in bytes
//!     44   responses        capacity of a response ring
//!     48   monitors         offset of the monitors
//!     52   monitor_stride   bytes from one to the next
//!     56   channels         offset of the channels
//!     60   channel_stride   bytes from one to the next
//! ```
//!
//! The first five words stand where every part has them. Rings are packed by lines and carry no
//! checksum. All words are written once, by the creator; everything else is written by
//! monitors and channels, whose modules say by whom.
//!
//! Strides are stored so that a newer version may put something behind each monitor and channel,
//! and offsets so that it may have a longer header.
//!
//! # Sizes
//!
//! A lane's request ring takes `messages` requests of up to `message_size` bytes each, wherever
//! it stands and however they are mixed, and its response ring the replies to as many calls
//! outstanding; both are rounded up to a power of two. A request of the default 64 bytes takes 88
//! bytes in the ring and at most 24 are wasted behind it, so that 1024 of them are 128 KiB; 1024
//! calls, with a final reply of 64 bytes and a progress reply of 4 each, are 256 KiB. All of it
//! is 1.7 MiB by default, and only what is used is touched.
//!
//! # Whose load is least
//!
//! [`find_best_normal`](PhoenixShmLayout::find_best_normal) looks at each lane's request ring from
//! outside, which is an estimate: the positions there are stored now and then. It serves
//! whoever has none of the ends, and tells queues of kilobytes apart. The caller itself knows
//! better, since it counts the calls it has outstanding:
//! [`find_best_by`](PhoenixShmLayout::find_best_by) takes any measure.
//!
//! # Who has crashed
//!
//! In two steps, and neither is a conviction. [`scan_crashed`](PhoenixShmLayout::scan_crashed)
//! notes who has been at one message for longer than a threshold; some time later
//! [`confirm`](PhoenixShmLayout::confirm) keeps those that still are. What comes out is a
//! [`Suspect`], with the owner whose death is to be proven or not: a worker halted by a
//! debugger looks the same. [`recover_crashed`](PhoenixShmLayout::recover_crashed) asks for that
//! proof.
//!
//! # Crash
//!
//! Creating is the segment's matter: before its magic is stored nobody can attach, and whoever
//! owns the memory creates it anew, in the next epoch, which is also the lanes' epoch. After
//! that each channel and monitor says for itself what a death leaves. The functions here store
//! nothing.
//!
//! # Trust
//!
//! [`attach`](PhoenixShmLayout::attach) checks the group headers and every ring's header once and
//! keeps what they said. [`WorkerChannel`]s trust their other end, and so attaching is `unsafe`;
//! [`is_valid`](PhoenixShmLayout::is_valid) makes no handle and is not.
//!
//! # Example
//!
//! ```
//! use shm_primitives::identity::{Dead, OwnerId};
//! use shm_primitives::channel::Recovered;
//! use shm_primitives::layout::phoenix::{GroupShape, PhoenixShmLayout, Shape};
//! use shm_primitives::message::MsgStatus;
//! use shm_primitives::monitor::Group;
//! use shm_primitives::region::Region;
//!
//! const SHAPE: Shape = Shape::new(GroupShape::new(2, 4), GroupShape::new(1, 2));
//! #[repr(align(64))]
//! struct Lines([u8; SHAPE.required_size().unwrap()]); // known at compile time
//! let mut memory = Box::new(Lines([0; _]));
//! # let base = std::ptr::NonNull::from(&mut memory.0).cast();
//! # // SAFETY: the memory is used through regions alone from here on.
//! # let region = || unsafe { Region::new(base, SHAPE.required_size().unwrap()) };
//! let (caller, supervisor) = (OwnerId::new(0, 1).unwrap(), OwnerId::new(9, 1).unwrap());
//!
//! // SAFETY: nobody else creates anything in this memory.
//! let (lanes, _control) = unsafe { PhoenixShmLayout::init_at(region(), &SHAPE, caller) }?;
//!
//! // A worker, in another process:
//! let begun = 1_000; // nanoseconds
//! // SAFETY: whoever writes to it uses this crate.
//! let here = unsafe { PhoenixShmLayout::attach(region()) }?;
//! let id = OwnerId::new(1, 1).unwrap();
//! let lane = here.lane(Group::Normal, 1).unwrap();
//! let mut worker = here.normal_channel(1).unwrap().claim_worker(id, lane)?;
//! let mut monitor = here.normal_monitor(1).unwrap().writer();
//!
//! // The caller: worker 0 is not there, so it is worker 1.
//! let best = lanes.find_best_normal().unwrap();
//! assert_eq!(best, 1);
//! let mut client = lanes.normal_channel(best).unwrap().claim_client(caller)?;
//! client.request(1, 1001, b"boom")?;
//!
//! let work = worker.peek()?.begin(&mut monitor, begun)?;
//! # std::mem::forget(work); std::mem::forget(worker);
//! // ... and it dies of that. The supervisor:
//! let noted: Vec<_> = lanes.scan_crashed(begun + 5_000, 2_000).collect();
//! // ... a while later:
//! let suspect = lanes.confirm(&noted[0]).unwrap();
//! assert_eq!(suspect.owner(), Some(id));
//! // SAFETY: the kernel has said so.
//! let dead = unsafe { Dead::assume(id) };
//! let mut monitor = lanes.monitor(suspect.place()).unwrap().recover_writer(dead);
//! let recovered = lanes.recover_crashed(suspect.place(), dead, supervisor, &mut monitor)?;
//! let Recovered::Poison(poison) = recovered else { panic!() };
//! let worker = poison.skip();
//! monitor.reset();
//! # drop(worker);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod crashed;
mod group;
mod shape;

pub use crashed::{Noted, Suspect};
pub use shape::{GroupShape, Shape};

use crate::channel::{Lane, WorkerChannel};
use crate::identity::OwnerId;
use crate::layout::{in_part, whole};
use crate::monitor::{Group, Snapshot, ThreadMonitor};
use crate::part::{Corrupt, Kind};
use crate::region::Region;
use crate::segment::{Control, Known, Magic, PartId, Segment, SegmentError};
use crate::sync::{AtomicU32, Ordering::Relaxed};
use core::fmt;
use group::Lanes;

/// The version of this layout.
#[doc(alias = "kVersion")]
pub const VERSION: u32 = 1;

/// The part that a group's lanes are in.
pub const fn part(group: Group) -> PartId {
    PartId { kind: Kind::WORKER_GROUP, role: group as u16 }
}

const KNOWN: Known<2> =
    Known::new(Magic::PHNX, VERSION, [part(Group::Normal), part(Group::Vip)]);

/// Both groups, as they are numbered.
const GROUPS: [Group; 2] = [Group::Normal, Group::Vip];

/// A worker's place: its group, and its index there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The group.
    pub group: Group,
    /// Which of its workers, from 0.
    pub worker: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.group {
            Group::Normal => write!(f, "normal worker {}", self.worker),
            Group::Vip => write!(f, "VIP worker {}", self.worker),
        }
    }
}

/// How much a worker has to do, as far as it shows from outside; the less, the smaller.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Load {
    /// Bytes of requests in its lane, which may be 512 or one request too few; see
    /// [`WorkerChannel::queued`].
    pub queued: usize,
    /// Whether its monitor says that it has something in hand.
    pub processing: bool,
}

/// One caller's lanes to the workers of a service. See the [module](crate::layout::phoenix).
///
/// A caller, its workers and their supervisor each have one; it can be shared between threads.
#[derive(Debug)]
pub struct PhoenixShmLayout<'a> {
    segment: Segment<'a, 2>,
    lane: u16,
    lanes: [Option<Lanes<'a>>; 2],
    /// Where the next search for the least load begins. Not in shared memory.
    next: [AtomicU32; 2],
}

impl<'a> PhoenixShmLayout<'a> {
    /// Bytes that such a segment takes; `None` if it is impossible.
    #[doc(alias = "RequiredSize")]
    pub const fn required_size(shape: &Shape) -> Option<usize> {
        shape.required_size()
    }

    /// Creates the segment at the start of `region`, with empty lanes and monitors whose workers
    /// have not begun anything. Nobody can attach before all of it stands. `owner` may close it.
    ///
    /// # Errors
    ///
    /// `Impossible` if there can be no such shape, `TooSmall`, `Misaligned` (to 64). Nothing is
    /// written then.
    ///
    /// # Safety
    ///
    /// Nobody creates anything else in this memory at the same time. If a segment stood there
    /// before, nobody has an end or a handle of anything in it, and nobody attaches until this
    /// returns. Where none did, attachers may try all the while. Every writer of this
    /// memory keeps the protocols, as for [`attach`](Self::attach).
    #[doc(alias = "Initialize")]
    pub unsafe fn init_at(
        region: Region<'a>,
        shape: &Shape,
        owner: OwnerId,
    ) -> Result<(Self, Control<'a>), SegmentError> {
        let parts = shape.parts().ok_or(SegmentError::Impossible("there is no such shape"))?;
        let plan = shape.plan(&parts);
        // SAFETY: passed on.
        let creating = unsafe { Segment::create(whole(&region)?, &plan, owner)? };
        for group in GROUPS {
            let id = part(group);
            if let Some(part) = creating.part(id) {
                // SAFETY: passed on.
                unsafe { group::create(&part, id, shape.group(group))? };
            }
        }
        let control = creating.publish();
        // SAFETY: passed on.
        Ok((unsafe { Self::attach(region)? }, control))
    }

    /// Attaches to the segment at the start of `region`, which may be larger.
    ///
    /// # Errors
    ///
    /// What is there is none, is not ready, or requires a newer reader: see [`SegmentError`].
    /// Nothing is written.
    ///
    /// # Safety
    ///
    /// As [`WorkerChannel::attach`], for all channels.
    pub unsafe fn attach(region: Region<'a>) -> Result<Self, SegmentError> {
        let segment = Segment::attach(region, &KNOWN)?;
        let [lane, _] = segment.own();
        let lane = u16::try_from(lane).map_err(|_| Corrupt {
            what: "number of the lane",
            found: lane,
            limit: u16::MAX.into(),
        })?;
        let mut lanes = [None, None];
        for (group, lanes) in GROUPS.into_iter().zip(&mut lanes) {
            if let Some(region) = segment.part(part(group)) {
                // SAFETY: passed on.
                let attached = unsafe { Lanes::attach(region) };
                *lanes = Some(attached.map_err(in_part(part(group)))?);
            }
        }
        let next = [AtomicU32::new(0), AtomicU32::new(0)];
        Ok(Self { segment, lane, lanes, next })
    }

    /// Whether [`attach`](Self::attach) would succeed.
    #[doc(alias = "IsValid")]
    pub fn is_valid(region: &Region<'a>) -> bool {
        let Ok(region) = whole(region) else { return false };
        // SAFETY: attaching only loads atomic words; no end is claimed, and what could be is
        // dropped.
        unsafe { Self::attach(region) }.is_ok()
    }

    /// The segment: state, epoch, owner.
    pub fn segment(&self) -> &Segment<'a, 2> {
        &self.segment
    }

    /// How many workers a group has places for.
    pub fn workers(&self, group: Group) -> usize {
        self.lanes(group).map_or(0, Lanes::workers)
    }

    /// The shape it was created with; a group without workers is only told by that.
    pub fn shape(&self) -> Shape {
        let group = |group| self.lanes(group).map_or(GroupShape::EMPTY, Lanes::shape);
        Shape { normal: group(Group::Normal), vip: group(Group::Vip), lane: self.lane }
    }

    fn lanes(&self, group: Group) -> Option<&Lanes<'a>> {
        self.lanes[group as usize].as_ref()
    }

    /// What the worker in this place is to be told when it claims its end of the channel.
    /// `None` if there is no such place.
    pub fn lane(&self, group: Group, worker: usize) -> Option<Lane> {
        if worker >= self.workers(group) {
            return None;
        }
        // It fits: a group has fewer workers.
        let worker = u16::try_from(worker).ok()?;
        Some(Lane { group, worker, lane: self.lane, epoch: self.segment.epoch() })
    }

    /// The channel to a worker; `None` if there is no such place. Reads nothing.
    pub fn channel(&self, place: Place) -> Option<WorkerChannel<'a>> {
        self.lanes(place.group)?.channel(place.worker)
    }

    /// The channel to normal worker number `worker`; `None` if there is none.
    #[doc(alias = "GetNormalChannel")]
    pub fn normal_channel(&self, worker: usize) -> Option<WorkerChannel<'a>> {
        self.channel(Place { group: Group::Normal, worker })
    }

    /// The channel to VIP worker number `worker`; `None` if there is none.
    #[doc(alias = "GetVipChannel")]
    pub fn vip_channel(&self, worker: usize) -> Option<WorkerChannel<'a>> {
        self.channel(Place { group: Group::Vip, worker })
    }

    /// A worker's monitor; `None` if there is no such place.
    pub fn monitor(&self, place: Place) -> Option<&'a ThreadMonitor> {
        self.lanes(place.group)?.monitor(place.worker)
    }

    /// The monitor of normal worker number `worker`; `None` if there is none.
    #[doc(alias = "GetNormalMonitor")]
    pub fn normal_monitor(&self, worker: usize) -> Option<&'a ThreadMonitor> {
        self.monitor(Place { group: Group::Normal, worker })
    }

    /// The monitor of VIP worker number `worker`; `None` if there is none.
    #[doc(alias = "GetVipMonitor")]
    pub fn vip_monitor(&self, worker: usize) -> Option<&'a ThreadMonitor> {
        self.monitor(Place { group: Group::Vip, worker })
    }

    /// How much a worker has to do, as far as it shows from outside; `None` if there is no such
    /// place, or nobody serves the lane. One that has died and was not recovered still counts as
    /// serving it.
    pub fn load(&self, place: Place) -> Option<Load> {
        let channel = self.channel(place)?;
        let [reader, writer] = channel.worker().ok()?;
        if reader.is_none() || writer.is_none() {
            return None;
        }
        // A record that changes all the time is that of somebody at work.
        let snapshot = self.monitor(place)?.snapshot();
        let processing = snapshot.as_ref().map_or(true, Snapshot::is_processing);
        Some(Load { queued: channel.queued(), processing })
    }

    /// The normal worker with the least to do, by [`load`](Self::load); `None` if there is none
    /// at all. Of several with the same, the next after the one found last.
    #[doc(alias = "FindBestNormalWorker")]
    pub fn find_best_normal(&self) -> Option<usize> {
        self.find_best(Group::Normal)
    }

    /// The VIP worker with the least to do, as [`find_best_normal`](Self::find_best_normal).
    #[doc(alias = "FindBestVipWorker")]
    pub fn find_best_vip(&self) -> Option<usize> {
        self.find_best(Group::Vip)
    }

    fn find_best(&self, group: Group) -> Option<usize> {
        self.find_best_by(group, |worker| self.load(Place { group, worker }))
    }

    /// The worker of `group` for which `load` says least; those for which it says `None` are
    /// passed over. Of several with the same, the next after the one found last. For a caller
    /// that knows what it has outstanding with each worker.
    pub fn find_best_by<K: Ord>(
        &self,
        group: Group,
        mut load: impl FnMut(usize) -> Option<K>,
    ) -> Option<usize> {
        let workers = self.workers(group);
        if workers == 0 {
            return None;
        }
        // This process's own word. Two threads may begin with the same worker: no harm.
        let next = &self.next[group as usize];
        let first = next.load(Relaxed) as usize % workers;
        let in_turn = (first..workers).chain(0..first);
        let loads = in_turn.filter_map(|worker| Some((load(worker)?, worker)));
        // The first of those with the least.
        let (_, best) = loads.min_by(|(a, _), (b, _)| a.cmp(b))?;
        // Fewer than 2^16.
        next.store(best as u32 + 1, Relaxed);
        Some(best)
    }
}
