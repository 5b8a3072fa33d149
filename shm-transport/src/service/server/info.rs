//! What a server says of its service.

use super::shared::Shared;
use shm_primitives::layout::service::{
    Cause, Condition, Order, Orders, Shape, WorkerCount, WorkerEntry, WorkerState,
};
use shm_primitives::monitor::Group;
use std::time::{Duration, SystemTime};

/// How a service is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ServiceState {
    /// No worker is up: all are being started, for the first time or again, or are at one call for
    /// too long.
    Starting,
    /// As many workers serve as there are to be.
    Running,
    /// Some workers serve, or none because the kernel does not let go of one.
    Degraded,
    /// No worker serves, and none is started any more.
    Failed,
    /// It is being stopped.
    Stopping,
    /// It was stopped, or this server does not supervise it any more.
    Stopped,
}

/// One place of a worker, as it was at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct WorkerInfo {
    /// Its number: normal places come first, spares behind the others of each group.
    pub place: u32,
    /// Its group.
    pub group: Group,
    /// How it is.
    pub condition: Condition,
    /// What it is ordered to do.
    pub order: Order,
    /// The process of the worker that has the place; `None` if nobody has.
    pub pid: Option<u32>,
    /// How often a worker was started here.
    pub incarnation: u32,
    /// How often because the one before had died.
    pub restarts: u32,
    /// What the last one died of.
    pub cause: Option<Cause>,
    /// Why the place has failed or waits, in words.
    pub reason: Option<String>,
    /// Which place's worker is asked to serve this place's lanes meanwhile.
    pub helper: Option<u32>,
    /// When condition or orders changed last.
    pub changed: SystemTime,
    /// Calls that waited for it when it last looked: an estimate, by the bytes that calls of the
    /// service's message size take. A few small ones may not be seen.
    pub queued: u32,
    /// Calls answered, since the service was made: with success or not.
    pub processed: u64,
    /// Calls that failed, of those.
    pub failed: u64,
    /// Time in handlers.
    pub busy: Duration,
    /// Progress replies that were not sent, for the client had not read the last one.
    pub dropped_progress: u64,
}

pub(super) fn state(shared: &Shared) -> ServiceState {
    let view = shared.view.lock();
    if view.has_ended {
        return ServiceState::Stopped;
    }
    if view.is_stopping {
        return ServiceState::Stopping;
    }
    drop(view);
    let mut conditions: Vec<(u32, Condition)> =
        orders(shared).map(|(place, orders)| (place, orders.condition)).collect();
    if is_complete(shared.shape(), &conditions) {
        return ServiceState::Running;
    }
    conditions.retain(|(_, condition)| *condition != Condition::Spare);
    let is_any = |wanted| conditions.iter().any(|(_, condition)| *condition == wanted);
    if conditions.iter().all(|(_, condition)| *condition == Condition::Failed) {
        ServiceState::Failed
    } else if is_any(Condition::Up) || is_any(Condition::Stuck) {
        ServiceState::Degraded
    } else {
        ServiceState::Starting
    }
}

/// Whether as many workers of each group are up as are to be there.
pub(super) fn is_complete(shape: &Shape, conditions: &[(u32, Condition)]) -> bool {
    [Group::Normal, Group::Vip].into_iter().all(|group| {
        let up = conditions.iter().filter(|(place, condition)| {
            *condition == Condition::Up && shape.group_of(*place) == Some(group)
        });
        up.count() >= shape.wanted(group) as usize
    })
}

/// The orders of all places. What cannot be read now, or was spoilt, is that of a place that is
/// empty.
fn orders(shared: &Shared) -> impl Iterator<Item = (u32, Orders)> + '_ {
    let control = &shared.control.layout;
    (0..control.shape().workers())
        .filter_map(move |place| Some((place, control.orders(place)?.read().unwrap_or_default())))
}

pub(super) fn workers(shared: &Shared) -> Vec<WorkerInfo> {
    let control = &shared.control.layout;
    let table = control.workers();
    let info = |(place, orders): (u32, Orders)| {
        let counts = control.counters(place)?.values();
        let count = |which: WorkerCount| counts[which as usize];
        let worker = table.read(place).ok().flatten();
        let live = |word| worker.and_then(|worker| table.live(worker.key, word));
        Some(WorkerInfo {
            place,
            group: control.shape().group_of(place)?,
            condition: orders.condition,
            order: orders.order,
            pid: worker.map(|worker| worker.entry.pid),
            incarnation: orders.incarnation,
            restarts: orders.restarts,
            cause: orders.cause,
            reason: shared.view.lock().reasons.get(place as usize).cloned().flatten(),
            helper: orders.helper.filter(|helper| *helper < control.shape().workers()),
            changed: SystemTime::UNIX_EPOCH + Duration::from_millis(orders.changed_ms),
            queued: live(WorkerEntry::QUEUED).unwrap_or(0),
            processed: count(WorkerCount::Processed),
            failed: count(WorkerCount::Failed),
            busy: Duration::from_nanos(count(WorkerCount::BusyNanoseconds)),
            dropped_progress: count(WorkerCount::DroppedProgress),
        })
    };
    let is_used = |orders: &Orders| orders.condition != Condition::Spare || orders.incarnation != 0;
    orders(shared).filter(|(_, orders)| is_used(orders)).filter_map(info).collect()
}

/// Whether a worker serves at the place, by its own word.
pub(super) fn serves(shared: &Shared, place: u32) -> bool {
    let table = shared.control.layout.workers();
    let Ok(Some(worker)) = table.read(place) else { return false };
    table.live(worker.key, WorkerEntry::STATE) == Some(WorkerState::Serving as u32)
}
