//! Restarting all workers, one after the other, with the same program or another.

use super::deaths::describe;
use super::{Phase, Supervisor, after};
use crate::service::server::error::ServerError;
use crate::service::server::restart::History;
use crate::service::server::shared::Done;
use crate::service::server::spawn::Program;
use std::collections::VecDeque;
use std::time::Instant;

/// Restarting all places, one after the other.
#[derive(Debug)]
pub(super) struct Rolling {
    pub todo: VecDeque<u32>,
    /// Which one is just being restarted, and how often it had been before.
    pub now: Option<(u32, u32)>,
    /// What they ran before, should the new one not come up.
    pub before: Option<Program>,
    pub done: Done,
}

impl Supervisor<'_> {
    /// Begins with it, if nothing else is under way.
    pub(super) fn begin_to_roll(&mut self, program: Option<Program>, done: Done) {
        if self.stopping.is_some() || self.rolling.is_some() {
            let is_ending = self.stopping.is_some();
            let error = if is_ending { ServerError::Stopped } else { ServerError::Busy };
            let _ = done.send(Err(error));
            return;
        }
        let before = program.map(|program| std::mem::replace(&mut self.settings.program, program));
        let todo = (0..self.shared.shape().workers()).collect();
        self.rolling = Some(Rolling { todo, now: None, before, done });
    }

    /// The next step of a rolling restart.
    pub(super) fn roll(&mut self, now: Instant) {
        let Some(mut rolling) = self.rolling.take() else { return };
        loop {
            let Some((place, restarts)) = rolling.now else {
                let Some(next) = rolling.todo.pop_front() else {
                    let _ = rolling.done.send(Ok(()));
                    return;
                };
                let place = next as usize;
                // Nobody serves there. What is stuck runs what it ran.
                if matches!(self.places[place].phase, Phase::Stuck | Phase::Spare) {
                    continue;
                }
                self.places[place].history = History::default();
                rolling.now = Some((next, self.places[place].orders.restarts));
                if self.has_somebody(place) {
                    self.drain(place, after(now, self.settings.drain));
                } else {
                    self.start(place);
                }
                break;
            };
            let it = &self.places[place as usize];
            let has_died = it.orders.restarts != restarts;
            match it.phase {
                Phase::Up { .. } if !has_died => rolling.now = None,
                Phase::Failed
                | Phase::Waiting { .. }
                | Phase::Up { .. }
                | Phase::Stuck
                | Phase::Spare => {
                    return self.roll_back(place, rolling);
                }
                Phase::Starting { .. } if has_died => return self.roll_back(place, rolling),
                Phase::Starting { .. } | Phase::Draining { .. } | Phase::Empty => break,
            }
        }
        self.rolling = Some(rolling);
    }

    /// The new worker has not come up. What was there before goes on.
    pub(super) fn roll_back(&mut self, place: u32, rolling: Rolling) {
        let reason = self.shared.view.lock().reasons[place as usize].clone();
        let reason = reason.unwrap_or_else(|| {
            let cause = self.places[place as usize].orders.cause;
            format!("its worker {}", cause.map_or("died".into(), describe))
        });
        if let Some(before) = rolling.before {
            self.settings.program = before;
            let place = place as usize;
            self.places[place].history = History::default();
            match self.places[place].phase {
                // The next one is elsewhere, or here when this is dead.
                Phase::Stuck | Phase::Spare => {}
                // What is just starting is the new program.
                _ if self.has_somebody(place) => self.drain(place, Instant::now()),
                _ => self.start(place),
            }
        }
        let _ = rolling.done.send(Err(ServerError::NotUp { place, reason }));
    }
}
