//! What is done to a worker that is at one call for long: when, is decided in
//! [`hang`](crate::service::server::hang).

use super::Supervisor;
use crate::service::server::hang::{Action, Doing};
use crate::service::server::recover::TARGET;
use rustix::process::Signal;
use shm_primitives::layout::service::{Cause, Condition, SupervisorCount};
use shm_primitives::monitor::Snapshot;
use std::time::{Duration, Instant};

impl Supervisor<'_> {
    pub(super) fn look_for_hang(&mut self, place: usize) {
        let at = self.at(place);
        let Some(monitor) = self.shared.control.layout.monitor(at) else { return };
        let record = match monitor.snapshot() {
            Ok(Snapshot::Processing(noted)) => Some(noted),
            _ => None,
        };
        let threshold = match record {
            Some(noted) => self.threshold(noted.lane, noted.seq_id),
            None => None,
        };
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let now = Duration::new(now.tv_sec as u64, now.tv_nsec as u32);
        let pid = self.pid_of(place);
        let doing = || pid.map_or(Doing::Running, Doing::of);
        let it = &mut self.places[place];
        let Some(action) = it.hang.look(now, record, threshold, &self.settings.hang, doing) else {
            return;
        };
        let took = record.map(|noted| now.saturating_sub(Duration::from_nanos(noted.start)));
        let function =
            record.and_then(|noted| self.lanes.function_in_hand(noted.lane, noted.seq_id));
        let (service, done) = (&self.shared.service, action.name());
        tracing::warn!(target: TARGET, %service, place, pid, function, ?took, done, "a worker is at one call for long");
        match action {
            Action::Suspect => {
                it.orders.condition = Condition::Suspect;
                self.write(place);
            }
            Action::Clear => {
                it.orders.condition = Condition::Up;
                // Whatever was sent did not reach it.
                (it.killed, it.sent) = (None, None);
                self.write(place);
            }
            Action::Cancel(call) => {
                let clients = self.shared.shape().clients;
                let (to, client) = (u32::from(call.lane) / clients, u32::from(call.lane) % clients);
                // The calls of the next tenant of the client's place have the same numbers.
                let tenant = self.shared.bells.layout.clients().tenancy(client);
                let is_theirs = tenant.is_some_and(|key| key.generation() == call.lane_epoch);
                if is_theirs && let Some(word) = self.shared.bells.layout.cancel(to, client) {
                    word.ask(call.seq_id);
                }
            }
            Action::Abort => {
                it.sent = Some(Cause::Hung(Signal::ABORT.as_raw()));
                self.signal(place, Signal::ABORT);
            }
            Action::Kill => {
                self.count(SupervisorCount::Kills, 1);
                self.kill(place, Instant::now(), Cause::Hung(Signal::KILL.as_raw()));
            }
        }
    }

    /// How long a call may take.
    fn threshold(&mut self, lane: u16, seq_id: u64) -> Option<Duration> {
        let default = self.settings.hang.threshold;
        if self.settings.functions.iter().all(|function| function.threshold_ms == 0) {
            return default;
        }
        let mut called = self.lanes.function_in_hand(lane, seq_id);
        if called.is_none() {
            // A client that is new.
            self.lanes.refresh();
            called = self.lanes.function_in_hand(lane, seq_id);
        }
        let functions = &self.settings.functions;
        let of_its_own = called.and_then(|id| functions.iter().find(|it| it.func_id == id));
        match of_its_own {
            Some(function) if function.threshold_ms > 0 => {
                Some(Duration::from_millis(function.threshold_ms.into()))
            }
            _ => default,
        }
    }
}
