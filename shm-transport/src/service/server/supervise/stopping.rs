//! Ending the service: workers are ordered to go, and killed when it takes them too long.

use super::{Phase, Supervisor, after};
use crate::liveness::Verdict;
use crate::service::server::adopt;
use crate::service::server::error::ServerError;
use crate::service::server::reap::reap;
use crate::service::server::recover::TARGET;
use crate::service::server::shared::Done;
use rustix::process::Signal;
use shm_primitives::identity::OwnerId;
use shm_primitives::layout::service::Cause;
use shm_primitives::segment::Control;
use std::time::{Duration, Instant};

/// How long to wait for those that were killed.
const KILLED: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Stopping {
    pub until: Instant,
    pub killed: bool,
    pub done: Vec<Done>,
}

/// Who is to be told of the end, and what.
pub(super) type Told = (Done, Result<(), ServerError>);

impl Supervisor<'_> {
    /// Orders all to go, and says so to whoever asked.
    pub(super) fn stop(
        &mut self,
        within: Duration,
        done: Done,
        control_word: &mut Control<'static>,
        bells_word: &mut Control<'static>,
    ) {
        let until = after(Instant::now(), within);
        if let Some(stopping) = &mut self.stopping {
            stopping.until = stopping.until.min(until);
            stopping.done.push(done);
            return;
        }
        self.stopping = Some(Stopping { until, killed: false, done: vec![done] });
        self.shared.view.lock().is_stopping = true;
        if let Some(rolling) = self.rolling.take() {
            let _ = rolling.done.send(Err(ServerError::Stopped));
        }
        control_word.close();
        bells_word.close();
        for place in 0..self.places.len() {
            self.places[place].orders.helper = None;
            if self.has_somebody(place) {
                self.drain(place, until);
                if !self.is_claimed(place) {
                    // It has nothing of the service, and finds it closed when it comes.
                    self.signal(place, Signal::TERM);
                }
            } else {
                self.leave_empty(place);
            }
        }
        self.lanes.ring_clients();
    }

    /// Kills what is left when the time to stop is over.
    pub(super) fn kill_all(&mut self, now: Instant) {
        if let Some(stopping) = &mut self.stopping {
            stopping.killed = true;
            stopping.until = now + KILLED;
        }
        for place in 0..self.places.len() {
            if matches!(self.places[place].phase, Phase::Draining { .. }) {
                tracing::warn!(target: TARGET, service = %self.shared.service, place, "a worker is killed, for it does not end");
                self.kill(place, now, Cause::Late);
            }
        }
        self.strays.iter().for_each(|stray| stray.signal(Signal::KILL));
    }

    /// Whether all workers have ended, or it is of no use to wait longer.
    pub(super) fn is_stopped(&self) -> bool {
        let Some(stopping) = &self.stopping else { return false };
        // A worker that has left may take a moment until it has ended.
        let all = self.strays.is_empty()
            && self.places.iter().all(|it| it.phase == Phase::Empty && it.running.is_none());
        all || (stopping.killed && Instant::now() >= stopping.until)
    }

    /// Ends; who is to be told, and what. `None` if everything stays as it is.
    pub(super) fn finish(mut self) -> Option<Vec<Told>> {
        let stopping = self.stopping.take();
        // None, when they were stopped and have ended.
        let running = self.places.iter_mut().filter_map(|it| it.running.take());
        reap(running.chain(self.strays.drain(..)).collect());
        if self.leaves {
            let done = stopping.into_iter().flat_map(|stopping| stopping.done);
            done.for_each(|done| drop(done.send(Ok(()))));
            return None;
        }
        let left: Vec<u32> = (0..self.shared.shape().workers())
            .filter(|place| self.places[*place as usize].phase != Phase::Empty)
            .collect();
        let owners: Vec<OwnerId> =
            self.shared.bells.layout.clients().owners().map(|(_, owner)| owner).collect();
        for owner in owners {
            if let Ok(Verdict::Dead(dead)) = self.member.processes().convict(owner) {
                self.put_away(dead, Cause::Unknown, 0);
            }
        }
        self.lanes.ring_clients();
        adopt::sweep_orphans(&self.shared.domain, &self.shared.service, self.member);
        self.letters.end();
        let result = || match left.is_empty() {
            true => Ok(()),
            false => {
                Err(ServerError::TimedOut { what: "workers did not end", places: left.clone() })
            }
        };
        let done = stopping.into_iter().flat_map(|stopping| stopping.done);
        Some(done.map(|done| (done, result())).collect())
    }
}
