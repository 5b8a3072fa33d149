//! The worker's place in its service: taking it, what is ordered there, and leaving it.

use super::assignment::Assignment;
use super::error::WorkerError;
use crate::domain::Domain;
use crate::fork::{Process, this_process};
use crate::member::{self, JoinOptions, Member};
use crate::park::FutexPark;
use crate::segment::SegmentError;
use crate::service::clock;
use crate::service::mapped::{BellsMapped, ControlMapped};
use crate::service::name::ServiceName;
use crate::service::role;
use shm_primitives::identity::OwnerId;
use shm_primitives::layout::service::{
    ClaimWorkerError, Order, OrdersError, Shape, WorkerEntry, WorkerState,
};
use shm_primitives::part::ClaimError;
use shm_primitives::segment::State;
use shm_primitives::sync::Ordering::Relaxed;
use shm_primitives::table::Slot;
use shm_primitives::wake::published;
use std::time::{Duration, Instant};

/// How long a place may be somebody's whose end is about to be noticed.
const PATIENCE: Duration = Duration::from_secs(1);

/// A worker place, taken. Its fields are dropped in their order.
#[derive(Debug)]
pub(super) struct Post {
    slot: Option<Slot<'static, WorkerEntry, 4>>,
    pub bells: BellsMapped,
    pub control: ControlMapped,
    member: Option<Member>,
    pub owner: OwnerId,
    pub domain: Domain,
    pub service: ServiceName,
    pub place: u32,
    pub incarnation: u32,
    process: Process,
    queued: u32,
    /// That something is wrong with orders was said.
    has_complained: bool,
}

/// What the worker is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Duty {
    Serve,
    /// It was told to leave, or the service is being stopped.
    Leave,
    /// Another was started in its place.
    Passed {
        wanted: u32,
        order: Order,
    },
}

impl Post {
    /// Joins the domain and takes the place.
    pub fn take(assignment: Assignment) -> Result<Self, WorkerError> {
        let Assignment { domain, service, place, incarnation } = assignment;
        let name = format!("{service}.{place}");
        let member =
            Member::join_with(&domain, member::cut(&name), JoinOptions::new().role(role::WORKER))?;
        let owner = member.id();
        let taken = take(&domain, &service, place, incarnation, &member);
        let (bells, control, slot) = match taken {
            Ok(taken) => taken,
            Err(error) => {
                // SAFETY: it holds nothing.
                let _ = unsafe { member.leave() };
                return Err(error);
            }
        };
        Ok(Self {
            slot: Some(slot),
            bells,
            control,
            member: Some(member),
            owner,
            domain,
            service,
            place,
            incarnation,
            process: this_process(),
            queued: 0,
            has_complained: false,
        })
    }

    pub fn shape(&self) -> &Shape {
        self.control.layout.shape()
    }

    /// Whether this is not a forked child, that has none of the memory.
    #[inline]
    pub fn is_ours(&self) -> bool {
        this_process() == self.process
    }

    fn store(&self, word: usize, value: u32) {
        if let Some(live) = self.slot.as_ref().and_then(|slot| slot.live(word)) {
            live.store(value, Relaxed);
        }
    }

    pub fn set_state(&self, state: WorkerState) {
        self.store(WorkerEntry::STATE, state as u32);
    }

    /// Says how many calls wait here.
    #[inline]
    pub fn set_queued(&mut self, queued: u32) {
        if self.queued != queued {
            self.queued = queued;
            self.store(WorkerEntry::QUEUED, queued);
        }
    }

    pub fn queued(&self) -> u32 {
        self.queued
    }

    /// Says that the worker is awake and looks around.
    pub fn beat(&self) {
        self.store(WorkerEntry::BEAT, (clock::coarse() / 1_000_000) as u32);
    }

    /// What is ordered here.
    pub fn duty(&mut self) -> Duty {
        if matches!(self.control.layout.segment().state(), Ok(State::Closing)) {
            return Duty::Leave;
        }
        let Some(row) = self.control.layout.orders(self.place) else { return Duty::Leave };
        match row.read() {
            Ok(orders) if orders.incarnation != self.incarnation => {
                Duty::Passed { wanted: orders.incarnation, order: orders.order }
            }
            Ok(orders) if orders.order == Order::Run => Duty::Serve,
            Ok(_) => Duty::Leave,
            Err(error) => {
                // What was ordered before holds: nobody stops because of that.
                if !matches!(error, OrdersError::Busy) && !self.has_complained {
                    self.has_complained = true;
                    tracing::error!(target: "shm_transport::service", place = self.place, %error, "orders");
                }
                Duty::Serve
            }
        }
    }

    /// Whether the lanes of that place are this worker's to serve; `None` if that cannot be said
    /// now. Those of its own place are a helper's while one is asked for: until that order is
    /// taken back. So there is one at a time who takes lanes up and says that it serves.
    pub fn serves(&self, place: u32) -> Option<bool> {
        let orders = self.control.layout.orders(place)?.read().ok()?;
        let helper = orders.helper.filter(|helper| *helper < self.shape().workers());
        Some(helper.unwrap_or(place) == self.place)
    }

    /// Tells whoever serves these lanes, place and client, that their ends are free.
    pub fn announce(&self, lanes: impl Iterator<Item = (u32, u32)>) {
        let (park, mut fenced) = (FutexPark::new(), None);
        for (place, client) in lanes {
            // One fence behind all that was given back.
            let fenced = fenced.get_or_insert_with(published);
            if let Some(mut announcer) = self.bells.layout.announcer(place, client) {
                announcer.announce_after(&park, fenced);
            }
        }
    }

    /// Gives the place back, and is no member any more. After the lanes.
    pub fn leave(&mut self) {
        if !self.is_ours() {
            std::mem::forget(self.slot.take());
            std::mem::forget(self.member.take());
            return;
        }
        drop(self.slot.take());
        if let Some(member) = self.member.take() {
            // SAFETY: lanes and slot were given back, and nothing of the service's memory is
            // written any more.
            if let Err(error) = unsafe { member.leave() } {
                tracing::warn!(target: "shm_transport::service", %error, "leaving");
            }
        }
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        self.leave();
    }
}

type Taken = (BellsMapped, ControlMapped, Slot<'static, WorkerEntry, 4>);

fn take(
    domain: &Domain,
    service: &ServiceName,
    place: u32,
    incarnation: u32,
    member: &Member,
) -> Result<Taken, WorkerError> {
    let missing = |error: WorkerError| match error {
        WorkerError::Segment(SegmentError::NotFound { path }) => {
            WorkerError::NoService { service: *service, path }
        }
        other => other,
    };
    let begun = Instant::now();
    loop {
        let opened = ControlMapped::open(domain, service, |segment, layout| {
            let slot = layout.claim_worker(place, incarnation, member.id());
            let slot = slot.map_err(|error| refused(error, place))?;
            // Closed at this moment: then the place is given back.
            layout
                .segment()
                .confirm()
                .map_err(|error| WorkerError::Layout { path: segment.path().into(), error })?;
            Ok::<_, WorkerError>(slot)
        });
        match opened {
            Ok((control, mut slot)) => {
                // After the control segment, which is closing before they lose their name: if it
                // is not by now they are its own, and not those of a service that was before.
                let opened = BellsMapped::open(domain, service, |_, _| Ok::<_, WorkerError>(()));
                let (bells, ()) = opened.map_err(missing)?;
                let confirmed = control.layout.segment().confirm();
                confirmed.map_err(|error| {
                    let path = control.segment.path().into();
                    WorkerError::Layout { path, error }
                })?;
                if bells.layout.bells().places() != control.layout.shape().workers() {
                    let what = "bells of another service than the control segment";
                    let error = shm_primitives::segment::SegmentError::Impossible(what);
                    let path = bells.segment.path().into();
                    return Err(WorkerError::Layout { path, error });
                }
                slot.update(&WorkerEntry::new(
                    incarnation,
                    std::process::id(),
                    clock::since_1970(),
                ));
                return Ok((bells, control, slot));
            }
            Err(WorkerError::PlaceTaken { .. }) if begun.elapsed() < PATIENCE => {
                // Its holder is about to leave, or about to be convicted.
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(WorkerError::PlaceTaken { .. }) => {
                return Err(WorkerError::PlaceTaken {
                    place,
                    pid: holder(domain, service, place, member),
                });
            }
            Err(error) => return Err(missing(error)),
        }
    }
}

/// Who has the place.
fn holder(domain: &Domain, service: &ServiceName, place: u32, member: &Member) -> Option<u32> {
    let open = ControlMapped::open(domain, service, |_, layout| {
        Ok::<_, WorkerError>(layout.workers().owner(place))
    });
    let process = member.processes().process(open.ok()?.1?).ok()??;
    Some(process.identity.pid)
}

fn refused(error: ClaimWorkerError, place: u32) -> WorkerError {
    match error {
        ClaimWorkerError::NotWanted { started, wanted, order } => {
            WorkerError::NotWanted { place, started, wanted, order }
        }
        ClaimWorkerError::Claim(ClaimError::NoSuchPlace { found, places }) => {
            WorkerError::NoPlace { place: found, places }
        }
        ClaimWorkerError::Claim(ClaimError::Corrupt(corrupt))
        | ClaimWorkerError::Orders(OrdersError::Corrupt(corrupt)) => corrupt.into(),
        // Orders that change all the time too: of a place that is somebody's.
        _ => WorkerError::PlaceTaken { place, pid: None },
    }
}
