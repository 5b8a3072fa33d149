//! Calls that nobody serves.
//!
//! Whoever waits looks for them now and then.
//!
//! | of a call's place it is found | what becomes of the call |
//! |---|---|
//! | it has failed for good or is stopped, and so is each that could help it out | [`NoWorker`](super::CallError::NoWorker), as a new call would be |
//! | no server lives, nor its worker, nor another that has the lane or is to help out | it waits for the next server until its time is up, or until nobody has come for [`GRACE`]: then it is [`Unattended`](super::CallError::Unattended) |
//!
//! In the first case the lane has nobody at its worker's end, or somebody who goes on with it. So
//! the client takes that end itself, which it can only if nobody has it, and answers what waits
//! there: none of it was begun, and none ever will be, whoever comes to the place later.
//!
//! In the second the dead worker's end is the next server's to take, and with it what waits.

use super::super::failure::{Failure, LEAST};
use super::calls::Ending;
use super::connection::{BOUND, Connection, NOBODY};
use super::error::CallError;
use super::family::Family;
use super::lanes::Lane;
use crate::liveness::Verdict;
use shm_primitives::completion::Outcome;
use shm_primitives::identity::OwnerId;
use shm_primitives::layout::service::ControlLayout;
use shm_primitives::message::{MsgStatus, Priority};
use shm_primitives::monitor::{Group, ThreadMonitor};
use shm_primitives::segment::State;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How long calls wait for the next server, in nanoseconds.
const GRACE: u64 = 10_000_000_000;

/// Since when calls have waited at each place while nobody was there; 0 if they have not.
#[derive(Debug)]
pub(super) struct Unattended(Box<[AtomicU64]>);

impl Unattended {
    pub fn new(places: u32) -> Self {
        Self((0..places).map(|_| AtomicU64::new(0)).collect())
    }

    /// A server lives.
    pub fn clear(&self) {
        self.0.iter().for_each(|since| since.store(0, Relaxed));
    }
}

/// Whether a server lives, who sees to everything.
pub(super) fn is_supervised(family: &Family, control: &ControlLayout<'_>) -> bool {
    matches!(control.segment().owner(), Ok(Some(owner)) if lives(family, owner))
}

/// Whether a server lives, or a worker.
pub(super) fn is_anybody_there(family: &Family, control: &ControlLayout<'_>) -> bool {
    is_supervised(family, control)
        || control.workers().owners().any(|(_, owner)| lives(family, owner))
}

fn lives(family: &Family, owner: OwnerId) -> bool {
    // What cannot be found out is no death.
    matches!(family.member().processes().convict(owner), Ok(Verdict::Alive) | Err(_))
}

impl Connection {
    /// Whether a server lives, or a worker.
    pub fn is_attended(&self) -> bool {
        is_anybody_there(&self.family, &self.control.layout)
    }

    /// What a call that went to `place` and has waited so long is told.
    #[cold]
    pub fn late(&self, place: u32, waited: Duration) -> CallError {
        if is_supervised(&self.family, &self.control.layout) || self.is_somebody_at(place) {
            CallError::TimedOut { waited }
        } else {
            CallError::Unattended { service: Box::new(self.family.service) }
        }
    }

    fn waits_at(&self, place: u32) -> bool {
        self.lane(place).and_then(Lane::outstanding).is_some_and(|calls| calls != 0)
    }

    /// Whether somebody lives who has the place, or this client's lane there, or is to help out.
    fn is_somebody_at(&self, place: u32) -> bool {
        let (control, workers) = (&self.control.layout, self.control.layout.workers());
        let orders = control.orders(place).and_then(|orders| orders.read().ok());
        let helper = orders.and_then(|orders| workers.owner(orders.helper?));
        let known = [workers.owner(place), helper, self.holder(place)];
        known.into_iter().flatten().any(|owner| lives(&self.family, owner))
    }

    /// Ends the calls at places that nobody serves, and nobody will.
    pub fn refuse_deserted(&self) {
        let mut waiting = (0..self.shape.workers()).filter(|place| self.waits_at(*place));
        let Some(first) = waiting.next() else { return };
        self.choice.mark_stale();
        self.choice.refresh(&self.control.layout, |place| self.holder(place));
        for place in std::iter::once(first).chain(waiting) {
            // Who may help out is who a call of that group may be sent to.
            let priority = match self.shape.group_of(place) {
                Some(Group::Vip) => Priority::High,
                _ => Priority::Low,
            };
            if self.choice.best(priority, &[], |_| Some(0)).is_none() {
                self.refuse_lane(place);
            }
        }
    }

    /// Answers what waits in a lane that nobody has.
    #[cold]
    fn refuse_lane(&self, place: u32) {
        let lane = self.shape.lane(place, self.client, self.place.key().generation());
        let channel = self.shape.place(place).and_then(|place| self.own.layout.channel(place));
        let (Some(lane), Some(channel)) = (lane, channel) else { return };
        if self.control.layout.segment().state() != Ok(State::Ready) {
            // All are stopped because the service is: which is what is said, when it is gone.
            return;
        }
        // Whoever has it serves it yet, or recovers it, or is dead and is to be recovered.
        let Ok(mut worker) = channel.claim_worker(self.family.owner(), lane) else { return };
        // Of use to nobody: what this worker has in hand it does not crash with.
        let monitor = ThreadMonitor::new();
        let mut monitor = monitor.writer();
        let failure = Failure::Unserved.to_bytes(LEAST);
        let mut refused = 0u32;
        loop {
            while worker.discard_malformed().is_some() {}
            let Ok(request) = worker.peek() else { break };
            let Ok(mut work) = request.begin(&mut monitor, 0) else { break };
            if work.reply(MsgStatus::Failed, &failure).is_err() {
                // Later: replies are to be read first.
                work.give_back();
                break;
            }
            // It is answered.
            let _ = work.finish();
            refused += 1;
        }
        drop(worker);
        if let Some(lane) = self.lane(place) {
            // A worker that has come meanwhile found the lane taken.
            lane.ring();
        }
        if refused != 0 {
            tracing::warn!(target: "shm_transport::service", service = %self.family.service, place, refused, "nobody serves these calls, nor will");
            self.ring_own_bell();
        }
    }

    /// Ends the calls at places where nobody has been for long. `last` is when it was looked before.
    /// For when no server lives.
    pub fn end_unattended(&self, now: u64, last: u64) {
        // Who did not look meanwhile does not know how long it has been so.
        let is_known = now.saturating_sub(last) < 5 * BOUND;
        for (since, place) in self.unattended.0.iter().zip(0..) {
            let then = since.load(Relaxed);
            if !self.waits_at(place) || self.is_somebody_at(place) {
                since.store(0, Relaxed);
            } else if then == 0 || !is_known {
                since.store(now, Relaxed);
            } else if now.saturating_sub(then) >= GRACE {
                self.give_place_up(place);
            }
        }
    }

    #[cold]
    fn give_place_up(&self, place: u32) {
        let mut ended = Vec::new();
        for (seq, _) in self.calls.in_flight().filter(|(_, slot)| slot.is_of(place)) {
            let ending = Ending::Unattended(Box::new(self.family.service));
            self.end(seq, Outcome::Lost, ending, NOBODY, &mut ended);
            self.cancel(place, seq);
        }
        self.tell(&mut ended);
    }

    /// As if calls had waited for so long where nobody is.
    #[cfg(test)]
    pub fn has_waited(&self) -> bool {
        let waits = |since: &&AtomicU64| since.load(Relaxed) != 0;
        let waiting = self.unattended.0.iter().filter(waits);
        waiting.map(|since| since.store(1, Relaxed)).count() != 0
    }
}
