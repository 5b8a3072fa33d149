//! What happens when a worker dies, or a client.
//!
//! A worker's death is noticed by its pidfd, if this process has started it ([`Supervisor::ended`]),
//! or else by its lock, which has fallen ([`Supervisor::died`]). Both come to `lost`: its lanes are
//! recovered first, since a caller waits (in [`recover`](crate::service::server::recover)), then it is
//! decided what comes next at its place, and its record is given back last. A client's death is
//! noticed by its lock, and there is nothing to decide.

use super::{Phase, Supervisor, after};
use crate::liveness::Verdict;
use crate::service::role;
use crate::service::server::adopt;
use crate::service::server::hang;
use crate::service::server::recover::{Casualty, TARGET};
use crate::service::server::restart::Next;
use crate::service::server::spawn::{EXIT_NEVER, Running};
use rustix::event::epoll;
use rustix::process::Signal;
use shm_primitives::identity::{Dead, OwnerId};
use shm_primitives::layout::service::{Cause, Condition, SupervisorCount};
use std::hash::{BuildHasher, Hasher};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How long to wait for the status of a worker whose lock has fallen; and if it is ending: what is
/// left of that takes microseconds, and as long as it gets no core.
const STATUS: Duration = Duration::from_millis(20);
const ENDING: Duration = Duration::from_secs(1);

impl Supervisor<'_> {
    /// The process of a place has ended, or one before it has.
    pub(super) fn ended(&mut self, place: usize) {
        let Some(running) = self.places.get_mut(place).and_then(|it| it.running.as_mut()) else {
            return;
        };
        let Some(cause) = running.ended(Duration::ZERO) else { return };
        let pid = running.pid();
        no_more(self.epoll, running);
        self.places[place].running = None;
        match self.shared.control.layout.workers().owner(self.at(place)) {
            Some(owner) => {
                // Its memory has gone before it ended, but for that of a child that shares it.
                let until = Instant::now() + STATUS;
                loop {
                    match self.member.processes().convict(owner) {
                        Ok(Verdict::Dead(dead)) => return self.lost(place, Some(dead), cause, pid),
                        Ok(Verdict::Alive) if Instant::now() < until && self.is_of(place, pid) => {
                            std::thread::sleep(Duration::from_micros(50));
                        }
                        _ => break,
                    }
                }
                // Another has the place: one that a former supervisor has started. Or it shares its
                // memory still, and its lock tells.
                self.look_for_worker(place);
                let now = Instant::now();
                if self.is_of(place, pid) {
                    // Whoever killed it.
                    self.places[place].killed.get_or_insert(now);
                } else {
                    self.places[place].phase = Phase::Starting { since: now };
                }
            }
            None => self.lost(place, None, cause, pid),
        }
    }

    /// Whether the slot of a place is that of this process.
    fn is_of(&self, place: usize, pid: u32) -> bool {
        match self.shared.control.layout.workers().read(self.at(place)) {
            Ok(Some(found)) => found.entry.pid == pid,
            // Claimed, and nothing said yet.
            _ => true,
        }
    }

    /// Somebody that is watched is dead.
    pub(super) fn died(&mut self, dead: Dead<OwnerId>) {
        let id = dead.id();
        let Some(place) = self.places.iter().position(|place| place.worker == Some(id)) else {
            self.put_away(dead, Cause::Unknown, 0);
            return;
        };
        let (mut cause, mut pid) = (Cause::Unknown, 0);
        if let Some(running) = &mut self.places[place].running {
            pid = running.pid();
            let found = running.ended(STATUS);
            match found.or_else(|| running.is_ending().then(|| running.ended(ENDING))?) {
                Some(found) => {
                    cause = found;
                    no_more(self.epoll, running);
                    self.places[place].running = None;
                }
                // It is no worker any more, and may do other things for as long as it likes.
                None => self.strays.extend(self.places[place].running.take()),
            }
        }
        self.lost(place, Some(dead), cause, pid);
    }

    /// A place has lost its worker: the process, and if it had claimed the place, the one who had.
    fn lost(&mut self, place: usize, dead: Option<Dead<OwnerId>>, cause: Cause, pid: u32) {
        let now = Instant::now();
        let cause = blame(cause, self.places[place].sent);
        let was = self.places[place].phase;
        let was_asked = matches!(was, Phase::Draining { .. } | Phase::Empty);
        if !was_asked {
            // Before a caller is told, who may look at once.
            self.places[place].orders.condition = Condition::Starting;
            self.write(place);
        }
        if let Some(dead) = dead {
            self.watch.remove(dead.id());
            // The record is given back below, when the next one is on its way.
            self.put_away_lanes(dead, cause, pid);
        }
        let it = &mut self.places[place];
        (it.worker, it.hang) = (None, hang::Watch::new());
        (it.killed, it.sent) = (None, None);
        let mut after = None;
        if !was_asked {
            it.orders.cause = Some(cause);
            self.count(SupervisorCount::Crashes, 1);
            tracing::warn!(target: TARGET, service = %self.shared.service, place, pid, ?cause, "a worker died");
        }
        match (&self.stopping, was) {
            (Some(_), _) | (_, Phase::Empty) => self.leave_empty(place),
            // To be restarted.
            (None, Phase::Draining { .. }) => self.start(place),
            // Its successor is elsewhere.
            (None, Phase::Stuck) if self.missing(place) == 0 => self.leave_spare(place),
            (None, _) => {
                let since = match was {
                    Phase::Up { since } => now.saturating_duration_since(since),
                    _ => Duration::ZERO,
                };
                let (text, exit) = (describe(cause), cause == Cause::Exited(EXIT_NEVER));
                if exit {
                    self.give_up(place, format!("its worker can never work: it {text}"));
                } else {
                    after = Some((since, text));
                }
            }
        }
        if let Some((served, text)) = after {
            self.next(place, served, true, &text);
        }
        if let Some(dead) = dead {
            self.clear(dead);
        }
        self.clear_records_of(pid);
    }

    /// The urgent part of [`put_away`](Self::put_away).
    fn put_away_lanes(&mut self, dead: Dead<OwnerId>, cause: Cause, pid: u32) {
        let theirs = self.recover_lanes(dead, cause, pid);
        let control = &self.shared.control.layout;
        for place in theirs {
            if self.lanes.is_lost(place) {
                // It died while nobody looked, and its caller has gone since.
                tracing::warn!(target: TARGET, service = %self.shared.service, place, "of what a worker had in hand there can be no letter");
                self.count(SupervisorCount::LettersLost, 1);
            }
            if let Some(monitor) = control.monitor(place) {
                monitor.recover_writer(dead).reset();
            }
        }
        let _ = control.workers().release_all_of(dead, self.shared.owner);
    }

    /// What comes after a death that nobody asked for. A worker that may be started now is, if
    /// `at_once` says so; else when all places are looked at next.
    pub(super) fn next(&mut self, place: usize, served: Duration, at_once: bool, what: &str) {
        let now = Instant::now();
        let time = now.saturating_duration_since(self.began);
        let random =
            self.random.build_hasher().finish() as u32 ^ self.random.hash_one((place, time)) as u32;
        let restart = &self.settings.restart;
        let next = self.places[place].history.died(time, served, restart, &mut self.pool, random);
        match next {
            Next::At(at) if at <= time && at_once => {
                self.places[place].orders.restarts =
                    self.places[place].orders.restarts.wrapping_add(1);
                self.start(place);
            }
            Next::At(at) => {
                let it = &mut self.places[place];
                it.phase = Phase::Waiting { at: after(self.began, at) };
                it.orders.condition = Condition::BackOff;
                self.write(place);
                self.say(place, Some(format!("its worker {what}; the next is started soon")));
            }
            Next::GiveUp { deaths } => {
                let within = self.settings.restart.within;
                let died = match deaths {
                    1 => format!("its worker {what}"),
                    _ => {
                        format!("{deaths} workers died within {within:?}, of which the last {what}")
                    }
                };
                self.give_up(place, died);
            }
        }
    }

    /// Recovers all that a dead one had.
    pub(super) fn put_away(&mut self, dead: Dead<OwnerId>, cause: Cause, pid: u32) {
        self.put_away_lanes(dead, cause, pid);
        self.lanes.recover_client(dead, self.member);
        self.clear(dead);
    }

    /// Recovers the lanes that a dead one had ends of; which places were its.
    pub(super) fn recover_lanes(
        &mut self,
        dead: Dead<OwnerId>,
        cause: Cause,
        pid: u32,
    ) -> Vec<u32> {
        let workers = self.shared.control.layout.workers();
        let theirs = workers.owners().filter(|(_, owner)| *owner == dead.id());
        let theirs: Vec<u32> = theirs.map(|(place, _)| place).collect();
        let entry = theirs.first().and_then(|place| workers.read(*place).ok().flatten());
        let pid = if pid == 0 { entry.map_or(0, |found| found.entry.pid) } else { pid };
        let casualty = Casualty { dead, cause, place: theirs.first().copied(), pid };
        let tally = self.lanes.recover(&casualty, self.member, &mut self.letters);
        self.count(SupervisorCount::Poisoned, tally.poisoned);
        self.count(SupervisorCount::LettersLost, tally.lost);
        theirs
    }

    /// Gives the record of a dead one back.
    fn clear(&mut self, dead: Dead<OwnerId>) {
        if let Err(error) = self.member.processes().clear(dead, self.member.membership()) {
            tracing::warn!(target: TARGET, service = %self.shared.service, %error, "a record stays");
        }
    }

    /// Gives back the records of a process that died before it had claimed its place.
    fn clear_records_of(&mut self, pid: u32) {
        if pid == 0 {
            return;
        }
        adopt::clear_silent(self.member);
        let Ok(Some(own)) = self.member.processes().process(self.shared.owner) else { return };
        let table = self.member.processes();
        let theirs: Vec<OwnerId> = table
            .processes()
            .flatten()
            .filter(|it| {
                it.identity.pid == pid
                    && it.role == role::WORKER
                    && it.identity.shares_pids_with(&own.identity)
            })
            .map(|it| it.id)
            .collect();
        for id in theirs {
            if let Ok(Verdict::Dead(dead)) = self.member.processes().convict(id)
                && !self.is_of_this_service(id)
            {
                self.clear(dead);
            }
        }
    }
}

/// What a worker died of, if this server has sent it a signal for `sent`. Of one that it has not
/// started the kernel does not say it.
fn blame(cause: Cause, sent: Option<Cause>) -> Cause {
    const ABORT: i32 = Signal::ABORT.as_raw();
    const KILL: i32 = Signal::KILL.as_raw();
    match (cause, sent) {
        (Cause::Signalled(signal @ (ABORT | KILL)), Some(Cause::Hung(_))) => Cause::Hung(signal),
        (Cause::Signalled(KILL), Some(Cause::Late)) => Cause::Late,
        (Cause::Unknown, Some(sent)) => sent,
        _ => cause,
    }
}

/// Hears no more of a process that has ended. That its pidfd is closed is not enough: a child that
/// this program has forked may have another.
pub(super) fn no_more(epoll: &OwnedFd, running: &Running) {
    let _ = epoll::delete(epoll, running.as_fd());
}

pub(super) fn describe(cause: Cause) -> String {
    match cause {
        Cause::Exited(code) => format!("exited with code {code}"),
        Cause::Signalled(signal) => format!("was ended by signal {signal}"),
        Cause::Panicked => "panicked".into(),
        Cause::Hung(signal) => {
            format!("was at one call for too long, and ended with signal {signal}")
        }
        Cause::Late => "was killed, for it was not ready, or not gone, in time".into(),
        Cause::Unknown => "died of what nobody has seen".into(),
    }
}
