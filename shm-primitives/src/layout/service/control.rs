//! `SRVC`: what a service is, and how its workers are.

use super::{FunctionEntry, Shape, VERSION, WorkerEntry, header};
use crate::counter::CounterLine;
use crate::identity::OwnerId;
use crate::layout::{in_part, whole};
use crate::monitor::ThreadMonitor;
use crate::part::{ClaimError, Corrupt, Kind, LINE};
use crate::place::{Order, OrdersError, OrdersRow, OrdersWriter};
use crate::region::Region;
use crate::segment::{Control, Known, Magic, NewPart, PartId, Plan, Segment, SegmentError};
use crate::table::{Options, Slot, SlotTable};
use core::fmt;

/// The service's part.
pub const SERVICE: PartId = PartId { kind: Kind::SERVICE, role: 0 };
/// The part of the table of worker places.
pub const WORKERS: PartId = PartId { kind: Kind::SLOT_TABLE, role: 0 };
/// The part of the table of functions.
pub const FUNCTIONS: PartId = PartId { kind: Kind::SLOT_TABLE, role: 1 };
/// The monitors' part.
pub const MONITORS: PartId = PartId { kind: Kind::MONITORS, role: 0 };
/// The counters' part.
pub const COUNTERS: PartId = PartId { kind: Kind::COUNTERS, role: 0 };

const KNOWN: Known<5> =
    Known::new(Magic::SRVC, VERSION, [SERVICE, WORKERS, FUNCTIONS, MONITORS, COUNTERS]);

/// What the slots are.
const WORKER_TAG: u32 = u32::from_le_bytes(*b"WORK");
const FUNCTION_TAG: u32 = u32::from_le_bytes(*b"FUNC");

/// The table of worker places: slot *p* is that of whoever works at place *p*.
pub type WorkerPlaces<'a> = SlotTable<'a, WorkerEntry, 4>;
/// The table of functions, whose slots are the supervisor's.
pub type Functions<'a> = SlotTable<'a, FunctionEntry>;

pub(super) const fn parts(shape: &Shape) -> Option<[NewPart; 5]> {
    if shape.check().is_err() {
        return None;
    }
    let workers = shape.workers();
    let (Some(places), Some(functions)) =
        (WorkerPlaces::required_size(workers), Functions::required_size(shape.functions))
    else {
        return None;
    };
    Some([
        NewPart::required(SERVICE, header::size(workers)),
        NewPart::required(WORKERS, places as u64),
        NewPart::required(FUNCTIONS, functions as u64),
        NewPart::required(MONITORS, workers as u64 * LINE as u64),
        NewPart::required(COUNTERS, (workers as u64 + 1) * LINE as u64),
    ])
}

pub(super) const fn plan<'p>(shape: &Shape, parts: &'p [NewPart]) -> Plan<'p> {
    Plan::new(Magic::SRVC, VERSION, parts).own([shape.workers(), shape.clients])
}

/// Why a worker does not get its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ClaimWorkerError {
    /// It is not asked to serve here: another incarnation is, or none. It has come late, and
    /// should end.
    NotWanted {
        /// As which incarnation it was started.
        started: u32,
        /// Which incarnation the orders are for.
        wanted: u32,
        /// What that one is to do.
        order: Order,
    },
    /// Its orders cannot be read, or make no sense.
    Orders(OrdersError),
    /// The place is somebody's, or there is none.
    Claim(ClaimError),
}

impl fmt::Display for ClaimWorkerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotWanted { started, wanted, order } => write!(
                f,
                "started as incarnation {started} of a worker, and the orders are for {wanted}: \
                 {order:?}"
            ),
            Self::Orders(error) => write!(f, "the orders of a worker: {error}"),
            Self::Claim(error) => write!(f, "the place of a worker: {error}"),
        }
    }
}

impl core::error::Error for ClaimWorkerError {}

/// What a service is, and how its workers are. See the [module](crate::layout::service).
#[derive(Debug)]
pub struct ControlLayout<'a> {
    segment: Segment<'a, 5>,
    shape: Shape,
    service: Region<'a>,
    rows: header::Rows,
    workers: WorkerPlaces<'a>,
    functions: Functions<'a>,
    monitors: Region<'a>,
    counters: &'a [CounterLine],
}

impl<'a> ControlLayout<'a> {
    /// Creates the segment at the start of `region`: no worker, no function, each place ordered to
    /// be empty. Nobody can attach before all of it stands. `owner` is the supervisor.
    ///
    /// # Errors
    ///
    /// `Impossible` if there can be no such service, `TooSmall`, `Misaligned` (to 64). Nothing is
    /// written then.
    ///
    /// # Safety
    ///
    /// As [`Segment::create`].
    pub unsafe fn init_at(
        region: Region<'a>,
        shape: &Shape,
        owner: OwnerId,
    ) -> Result<(Self, Control<'a>), SegmentError> {
        let impossible = SegmentError::Impossible("there is no such shape");
        let parts = parts(shape).ok_or(impossible)?;
        // SAFETY: passed on.
        let creating = unsafe { Segment::create(whole(&region)?, &plan(shape, &parts), owner)? };
        let part = |id| creating.part(id).ok_or(SegmentError::MissingPart(id));
        header::create(&part(SERVICE)?, shape).map_err(in_part(SERVICE))?;
        let options = Options::new(shape.workers()).tag(WORKER_TAG);
        WorkerPlaces::init_at(&part(WORKERS)?, options).map_err(in_part(WORKERS))?;
        let options = Options::new(shape.functions).tag(FUNCTION_TAG);
        Functions::init_at(&part(FUNCTIONS)?, options).map_err(in_part(FUNCTIONS))?;
        let monitors = part(MONITORS)?;
        for place in 0..shape.workers() {
            let line = line_of(&monitors, place).ok_or(impossible)?;
            ThreadMonitor::init_at(&line).map_err(in_part(MONITORS))?;
        }
        let counters = CounterLine::slice_at(&part(COUNTERS)?, lines_of_counters(shape));
        counters.map_err(in_part(COUNTERS))?.iter().for_each(CounterLine::clear);
        let control = creating.publish();
        Ok((Self::attach(region)?, control))
    }

    /// Attaches to the segment at the start of `region`, which may be larger. Loads alone: the
    /// region may be mapped for reading.
    ///
    /// # Errors
    ///
    /// What is there is none, is not ready, or requires a newer reader: see [`SegmentError`].
    /// Nothing is written.
    pub fn attach(region: Region<'a>) -> Result<Self, SegmentError> {
        let segment = Segment::attach(region, &KNOWN)?;
        let service = segment.require(SERVICE)?;
        let (shape, rows) = header::load(&service).map_err(in_part(SERVICE))?;
        let [own_workers, own_clients] = segment.own();
        let workers = WorkerPlaces::attach(&segment.require(WORKERS)?, WORKER_TAG);
        let workers = workers.map_err(in_part(WORKERS))?;
        let functions = Functions::attach(&segment.require(FUNCTIONS)?, FUNCTION_TAG);
        let functions = functions.map_err(in_part(FUNCTIONS))?;
        for (what, found, limit) in [
            ("number of worker places", own_workers, shape.workers()),
            ("number of client places", own_clients, shape.clients),
            ("slots of the table of worker places", workers.slots(), shape.workers()),
            ("slots of the table of functions", functions.slots(), shape.functions),
        ] {
            if found != limit {
                return Err(Corrupt { what, found, limit }.into());
            }
        }
        let monitors = segment.require(MONITORS)?;
        // At most 2^14 lines.
        let wanted = shape.workers() as usize * LINE;
        crate::part::check_region(&monitors, wanted, LINE).map_err(in_part(MONITORS))?;
        let counters = CounterLine::slice_at(&segment.require(COUNTERS)?, lines_of_counters(&shape));
        let counters = counters.map_err(in_part(COUNTERS))?;
        Ok(Self { segment, shape, service, rows, workers, functions, monitors, counters })
    }

    /// The segment: state, epoch, owner.
    pub fn segment(&self) -> &Segment<'a, 5> {
        &self.segment
    }

    /// What the service is made of.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Who works at which place.
    pub fn workers(&self) -> WorkerPlaces<'a> {
        self.workers
    }

    /// What can be called.
    pub fn functions(&self) -> Functions<'a> {
        self.functions
    }

    /// The function that is called `func_id`; `None` if there is none, or it cannot be read now.
    pub fn function(&self, func_id: u32) -> Option<FunctionEntry> {
        let found = self.functions.find(|entry| entry.func_id == func_id);
        Some(found.ok()??.entry)
    }

    /// What worker place `place` is ordered to do, to be read; `None` if there is no such place.
    pub fn orders(&self, place: u32) -> Option<&'a OrdersRow> {
        self.rows.of(&self.service, place)
    }

    /// The same to be written: for the supervisor, who is the segment's owner and has its
    /// `control`. One for each place: see [`OrdersRow::writer`].
    pub fn orders_writer(&self, place: u32, control: &Control<'a>) -> Option<OrdersWriter<'a>> {
        let _ = control;
        Some(self.orders(place)?.writer())
    }

    /// Takes worker place `place` for `owner`, who was started as its incarnation `incarnation`.
    /// Publish an entry in it, then say in the live word [`WorkerEntry::STATE`] how it is.
    ///
    /// The orders are looked at before the claim, and may change at any time after: a worker that
    /// finds another incarnation there leaves, as one that is told to drain. So of one that has
    /// come late and its successor the place is one's at a time, and in the end the successor's.
    ///
    /// # Errors
    ///
    /// See [`ClaimWorkerError`]. The place is as it was.
    pub fn claim_worker(
        &self,
        place: u32,
        incarnation: u32,
        owner: OwnerId,
    ) -> Result<Slot<'a, WorkerEntry, 4>, ClaimWorkerError> {
        let none = ClaimError::NoSuchPlace { found: place, places: self.shape.workers() };
        let row = self.orders(place).ok_or(ClaimWorkerError::Claim(none))?;
        let orders = row.read().map_err(ClaimWorkerError::Orders)?;
        if orders.incarnation != incarnation || orders.order != Order::Run {
            return Err(ClaimWorkerError::NotWanted {
                started: incarnation,
                wanted: orders.incarnation,
                order: orders.order,
            });
        }
        self.workers.reserve_at(place, owner).map_err(ClaimWorkerError::Claim)
    }

    /// The monitor of worker place `place`; `None` if there is no such place.
    pub fn monitor(&self, place: u32) -> Option<&'a ThreadMonitor> {
        if place >= self.shape.workers() {
            return None;
        }
        ThreadMonitor::at(&line_of(&self.monitors, place)?).ok()
    }

    /// The counters of worker place `place`, by [`WorkerCount`](super::WorkerCount); `None` if
    /// there is no such place.
    pub fn counters(&self, place: u32) -> Option<&'a CounterLine> {
        if place >= self.shape.workers() {
            return None;
        }
        self.counters.get(place as usize)
    }

    /// The supervisor's counters, by [`SupervisorCount`](super::SupervisorCount).
    pub fn supervisor_counters(&self) -> &'a CounterLine {
        // There is one line more than places.
        &self.counters[self.counters.len() - 1]
    }
}

/// Line number `place` of a part of lines.
fn line_of<'a>(part: &Region<'a>, place: u32) -> Option<Region<'a>> {
    part.part((place as usize).checked_mul(LINE)?, LINE)
}

/// Lines of counters: one for each place, and the supervisor's.
const fn lines_of_counters(shape: &Shape) -> usize {
    shape.workers() as usize + 1
}
