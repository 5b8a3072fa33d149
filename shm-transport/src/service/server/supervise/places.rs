//! What one place is at, and its worker: started, found, signalled, let go of.
//!
//! ```text
//!              started               it serves
//!   Waiting -----------> Starting -----------> Up
//!      ^                     | dies             | dies, or was ordered to go
//!      |   a while later     v                  v
//!      +------------------ (what next?) --> Failed, or Empty
//!
//!            another is stuck                   it was killed, and does not die
//!   Spare -------------------> Starting    any ---------------------------------> Stuck
//!      ^                                                                            |
//!      +----------------------------------------------------------------------------+ dies
//! ```
//!
//! What next is said in [`deaths`](super::deaths); of who is stuck, and spares, in
//! [`stuck`](super::stuck).

use super::{ROUND, Supervisor};
use crate::service::clock;
use crate::service::server::hang::{self, Doing};
use crate::service::server::info;
use crate::service::server::recover::TARGET;
use crate::service::server::restart::History;
use crate::service::server::spawn::{Running, signal_other};
use rustix::event::epoll;
use rustix::process::Signal;
use shm_primitives::identity::OwnerId;
use shm_primitives::layout::service::{
    Cause, Condition, Order, Orders, OrdersWriter, SupervisorCount,
};
use std::time::{Duration, Instant};

/// What a place is at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Nobody is to be here.
    Empty,
    /// A worker is started then.
    Waiting { at: Instant },
    /// One was, then, and does not serve yet.
    Starting { since: Instant },
    /// One serves, since then.
    Up { since: Instant },
    /// One is to go, and gets SIGKILL then.
    Draining { until: Instant },
    /// None is started any more.
    Failed,
    /// One was killed and does not die. Another place has its successor, if there was one free.
    Stuck,
    /// Nobody is to be here unless another is stuck.
    Spare,
}

#[derive(Debug)]
pub(super) struct Place {
    pub writer: OrdersWriter<'static>,
    pub orders: Orders,
    pub phase: Phase,
    /// The process, if this one has started it.
    pub running: Option<Running>,
    /// Who has the slot, as far as was seen.
    pub worker: Option<OwnerId>,
    pub history: History,
    pub hang: hang::Watch,
    /// When its worker was killed first, or its process ended, if that was; later by as long as it
    /// was traced.
    pub killed: Option<Instant>,
    /// What it dies of if the signal that this server has sent it is what it dies of.
    pub sent: Option<Cause>,
}

impl Place {
    /// One with nobody, whose orders are what they were.
    pub fn new(writer: OrdersWriter<'static>) -> Self {
        let orders = writer
            .orders()
            .unwrap_or(Orders { incarnation: writer.incarnation(), ..Orders::default() });
        Self {
            writer,
            orders,
            phase: Phase::Empty,
            running: None,
            worker: None,
            history: History::default(),
            hang: hang::Watch::new(),
            killed: None,
            sent: None,
        }
    }
}

impl Supervisor<'_> {
    pub(super) fn tend_place(&mut self, place: usize, now: Instant) {
        self.look_whether_stuck(place, now);
        match self.places[place].phase {
            Phase::Waiting { at } if now >= at => {
                let it = &mut self.places[place];
                it.orders.restarts = it.orders.restarts.wrapping_add(1);
                self.start(place);
            }
            Phase::Starting { since } => {
                self.look_for_worker(place);
                if self.places[place].worker.is_some() && info::serves(self.shared, self.at(place))
                {
                    let it = &mut self.places[place];
                    it.phase = Phase::Up { since: now };
                    it.orders.condition = Condition::Up;
                    self.write(place);
                    self.say(place, None);
                } else if now.saturating_duration_since(since) >= self.settings.hang.boot
                    && self.doing(place) != Doing::Stopped
                {
                    tracing::warn!(target: TARGET, service = %self.shared.service, place, "a worker does not come to serve");
                    self.count(SupervisorCount::Kills, 1);
                    self.kill(place, now, Cause::Late);
                    // Once; and again if that does not help.
                    self.places[place].phase = Phase::Starting { since: now };
                }
            }
            Phase::Up { .. } => self.look_for_hang(place),
            Phase::Draining { until } => {
                self.look_for_worker(place);
                if now >= until && self.stopping.is_none() {
                    self.kill(place, now, Cause::Late);
                    self.places[place].phase = Phase::Draining { until: now + ROUND };
                }
            }
            Phase::Empty | Phase::Waiting { .. } | Phase::Failed | Phase::Stuck | Phase::Spare => {}
        }
    }

    /// Starts a worker, unless all is to end.
    pub(super) fn start(&mut self, place: usize) {
        if self.settings.only_stops {
            return self.leave_empty(place);
        }
        let it = &mut self.places[place];
        // 0 says that there was none.
        it.orders.incarnation = it.orders.incarnation.wrapping_add(1).max(1);
        it.orders.order = Order::Run;
        it.orders.condition = Condition::Starting;
        it.phase = Phase::Starting { since: Instant::now() };
        (it.hang, it.killed, it.sent) = (hang::Watch::new(), None, None);
        self.write(place);
        let at = self.at(place);
        let it = &mut self.places[place];
        let incarnation = it.orders.incarnation;
        let spawned = self.settings.launch.spawn(&self.settings.program, at, incarnation);
        let spawned = spawned.and_then(|running| {
            let (data, flags) = (epoll::EventData::new_u64(at.into()), epoll::EventFlags::IN);
            match epoll::add(self.epoll, running.as_fd(), data, flags) {
                Ok(()) => Ok(running),
                Err(error) => {
                    running.signal(Signal::KILL);
                    self.strays.push(running);
                    Err(error.into())
                }
            }
        });
        match spawned {
            Ok(running) => {
                tracing::info!(
                    target: TARGET, service = %self.shared.service, place, incarnation,
                    pid = running.pid(), "a worker was started"
                );
                it.running = Some(running);
            }
            // Never from within this start: the next one may fail as well, and so on.
            Err(error) => {
                self.next(place, Duration::ZERO, false, &format!("cannot be started: {error}"));
            }
        }
    }

    /// Orders a place's worker to go.
    pub(super) fn drain(&mut self, place: usize, until: Instant) {
        let it = &mut self.places[place];
        it.phase = Phase::Draining { until };
        it.orders.order = Order::Drain;
        // Of one that is to be restarted the next is about to come: calls may wait for it.
        it.orders.condition = match self.stopping {
            Some(_) => Condition::Stopped,
            None => Condition::BackOff,
        };
        self.write(place);
        self.lanes.ring_worker(self.at(place));
    }

    pub(super) fn give_up(&mut self, place: usize, reason: String) {
        tracing::error!(target: TARGET, service = %self.shared.service, place, reason, "a place has failed");
        self.places[place].phase = Phase::Failed;
        self.places[place].orders.condition = Condition::Failed;
        self.places[place].orders.order = Order::Vacant;
        self.write(place);
        self.say(place, Some(reason));
    }

    pub(super) fn leave_empty(&mut self, place: usize) {
        self.places[place].phase = Phase::Empty;
        self.places[place].orders.condition = Condition::Stopped;
        self.places[place].orders.order = Order::Vacant;
        self.places[place].orders.helper = None;
        self.write(place);
        self.say(place, None);
    }

    /// Finds out who has a place, and watches over him.
    pub(super) fn look_for_worker(&mut self, place: usize) {
        let owner = self.shared.control.layout.workers().owner(self.at(place));
        let owner = owner.filter(|owner| *owner != self.shared.owner);
        // One that has given its place back is watched until it is gone.
        let (Some(new), was) = (owner, self.places[place].worker) else { return };
        if owner == was {
            return;
        }
        if let Some(before) = was {
            self.watch.remove(before);
        }
        if let Err(error) = self.watch.add(new) {
            tracing::warn!(target: TARGET, service = %self.shared.service, place, %error, "a worker");
        }
        self.places[place].worker = owner;
    }

    pub(super) fn has_somebody(&self, place: usize) -> bool {
        let it = &self.places[place];
        it.running.is_some() || it.worker.is_some() || self.is_claimed(place)
    }

    /// Whether somebody has the place, by its slot.
    pub(super) fn is_claimed(&self, place: usize) -> bool {
        self.shared.control.layout.workers().owner(self.at(place)).is_some()
    }

    pub(super) fn doing(&self, place: usize) -> Doing {
        self.pid_of(place).map_or(Doing::Running, Doing::of)
    }

    pub(super) fn pid_of(&self, place: usize) -> Option<u32> {
        let it = &self.places[place];
        if let Some(running) = &it.running {
            return Some(running.pid());
        }
        let process = self.member.processes().process(it.worker?).ok()??;
        let own = self.member.processes().process(self.shared.owner).ok()??;
        process.identity.shares_pids_with(&own.identity).then_some(process.identity.pid)
    }

    /// Sends a place's worker a signal.
    pub(super) fn signal(&self, place: usize, signal: Signal) {
        let it = &self.places[place];
        if let Some(running) = &it.running {
            running.signal(signal);
        } else if let Some(process) =
            it.worker.and_then(|id| self.member.processes().process(id).ok().flatten())
            && !signal_other(&process, signal)
        {
            tracing::warn!(target: TARGET, service = %self.shared.service, place, "a worker of another pid namespace gets no signal");
        }
    }

    /// Sends it SIGKILL, which nobody survives for long who can hear it; it is said to have died of
    /// `why`.
    pub(super) fn kill(&mut self, place: usize, now: Instant, why: Cause) {
        self.places[place].sent = Some(why);
        self.signal(place, Signal::KILL);
        self.places[place].killed.get_or_insert(now);
    }

    /// What a place's orders are from now on.
    pub(super) fn write(&mut self, place: usize) {
        let it = &mut self.places[place];
        it.orders.changed_ms = clock::since_1970();
        it.writer.write(&it.orders);
    }

    pub(super) fn say(&self, place: usize, reason: Option<String>) {
        if let Some(said) = self.shared.view.lock().reasons.get_mut(place) {
            *said = reason;
        }
    }
}
