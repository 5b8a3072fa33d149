//! How a supervisor begins: with what a former one left, if there was one.

use super::{Phase, Supervisor};
use crate::liveness::Verdict;
use crate::service::role;
use crate::service::server::adopt;
use crate::service::server::recover::TARGET;
use shm_primitives::identity::OwnerId;
use shm_primitives::layout::service::{Cause, Condition, Order, SupervisorCount};
use std::time::Instant;

impl Supervisor<'_> {
    /// Recovers what died while nobody looked, and starts what is not there, unless all is to end.
    pub(super) fn begin(&mut self, adopted: bool, former: Option<OwnerId>) {
        if adopted {
            self.adopt(former);
        }
        adopt::sweep_orphans(&self.shared.domain, &self.shared.service, self.member);
        if !self.settings.only_stops {
            self.fill();
        }
    }

    /// Looks at what a former supervisor left.
    fn adopt(&mut self, former: Option<OwnerId>) {
        let control = &self.shared.control.layout;
        let mut owners: Vec<OwnerId> = control.workers().owners().map(|(_, owner)| owner).collect();
        owners.extend(self.shared.bells.layout.clients().owners().map(|(_, owner)| owner));
        // Supervisors that died while they recovered lanes are only named there.
        let records = self.member.processes().processes().flatten();
        owners.extend(records.filter(|it| role::is_of_a_service(it.role)).map(|it| it.id));
        owners.extend(former);
        owners.sort_by_key(|owner| owner.word());
        owners.dedup();
        let mut dead = Vec::new();
        for owner in owners.into_iter().filter(|owner| *owner != self.shared.owner) {
            if let Ok(Verdict::Dead(one)) = self.member.processes().convict(owner)
                && (Some(owner) == former || self.is_of_this_service(owner))
            {
                dead.push(one);
            }
        }
        // What a worker had in hand may be in a lane that the former supervisor died with: lanes of
        // all first, before a monitor that says so is reset.
        for one in &dead {
            self.recover_lanes(*one, Cause::Unknown, 0);
        }
        for one in dead {
            self.put_away(one, Cause::Unknown, 0);
        }
        for place in 0..self.places.len() {
            self.look_for_worker(place);
            let it = &mut self.places[place];
            it.orders.helper = None;
            if it.worker.is_some() && it.orders.condition == Condition::Stuck {
                it.phase = Phase::Stuck;
                self.write(place);
            } else if it.worker.is_some() {
                // Its next look says whether it serves.
                it.phase = Phase::Starting { since: Instant::now() };
                it.orders.order = Order::Run;
                it.orders.condition = Condition::Starting;
                self.write(place);
            } else if it.orders.order != Order::Vacant
                && !matches!(it.orders.condition, Condition::BackOff | Condition::Stopped)
            {
                // It died while nobody looked.
                it.orders.cause = Some(Cause::Unknown);
                it.orders.restarts = it.orders.restarts.wrapping_add(1);
                self.count(SupervisorCount::Crashes, 1);
            }
        }
        tracing::info!(
            target: TARGET, service = %self.shared.service,
            workers = self.places.iter().filter(|place| place.worker.is_some()).count(),
            "adopted"
        );
    }

    /// Whether a dead one has anything of this service; others look after the others.
    pub(super) fn is_of_this_service(&mut self, owner: OwnerId) -> bool {
        let workers = self.shared.control.layout.workers();
        let clients = self.shared.bells.layout.clients();
        workers.owners().chain(clients.owners()).any(|(_, it)| it == owner) || {
            self.lanes.refresh();
            self.lanes.names(owner)
        }
    }
}
