//! Workers that do not die when they are killed, and the spare places.
//!
//! Whom the kernel has in an uninterruptible sleep hears no signal, SIGKILL neither, until it is
//! back: a disk that does not answer, a file system of another machine. Nothing of it can be taken
//! away, since it may write yet; and how long that lasts nobody knows. So a worker that lives on for
//! a while after SIGKILL, whatever that was for, is *stuck*, by its lock alone: what the kernel says
//! a process is doing is a moment's, and of one of its threads.
//!
//! - clients send nothing there, and if it comes back it is ordered to go;
//! - its slot, its lanes and its call in hand stay as they are. A helper serves what it has not
//!   taken up;
//! - another place of the group, a *spare*, gets its successor;
//! - it is dead when its lock has fallen, and is then recovered as any other. Its place is a spare
//!   from then on, or gets the worker that there was no spare for.
//!
//! So as many places of a group are in service as it is to have workers, whichever they are. What
//! waits in the lanes of a place that was in service once is served by a helper while it is a
//! spare.

use super::{Phase, Supervisor};
use crate::liveness::Verdict;
use crate::service::server::hang::Doing;
use crate::service::server::recover::TARGET;
use shm_primitives::layout::service::{Condition, Order};
use shm_primitives::monitor::Group;
use std::ops::Range;
use std::time::Instant;

impl Supervisor<'_> {
    /// Whether a worker that was killed has lived for too long since.
    pub(super) fn look_whether_stuck(&mut self, place: usize, now: Instant) {
        let Some(killed) = self.places[place].killed else { return };
        if self.stopping.is_some()
            || now.saturating_duration_since(killed) < self.settings.hang.stuck
        {
            return;
        }
        let is_dead = |id| matches!(self.member.processes().convict(id), Ok(Verdict::Dead(_)));
        if self.places[place].worker.is_some_and(is_dead) {
            // This is about to be heard: whoever supervises was late.
            return;
        }
        if self.doing(place) == Doing::Stopped {
            // A debugger has it.
            self.places[place].killed = Some(now);
        } else {
            self.stuck(place);
        }
    }

    fn stuck(&mut self, place: usize) {
        let it = &mut self.places[place];
        let was_asked = matches!(it.phase, Phase::Draining { .. });
        (it.phase, it.killed) = (Phase::Stuck, None);
        it.orders.condition = Condition::Stuck;
        it.orders.order = Order::Drain;
        self.write(place);
        let spare = self
            .group_at(place)
            .find(|other| self.places[*other].phase == Phase::Spare && !self.has_somebody(*other));
        let pid = self.pid_of(place);
        match spare {
            Some(spare) => {
                tracing::error!(target: TARGET, service = %self.shared.service, place, pid, spare, "a worker does not die");
            }
            None => {
                tracing::error!(target: TARGET, service = %self.shared.service, place, pid, "a worker does not die, and there is no spare place for another");
            }
        }
        let instead = match spare {
            Some(spare) => format!("another is started at place {spare}"),
            None => "there is no spare place for another".into(),
        };
        self.say(place, Some(format!("its worker was killed and does not die; {instead}")));
        self.roll_on(place, spare.filter(|_| was_asked));
        if let Some(spare) = spare {
            self.places[spare].history = std::mem::take(&mut self.places[place].history);
            self.start(spare);
        }
    }

    /// A rolling restart that waits for this place waits for that one instead, or is over.
    fn roll_on(&mut self, place: usize, instead: Option<usize>) {
        let at = self.at(place);
        let Some(mut rolling) = self.rolling.take_if(|it| it.now.is_some_and(|it| it.0 == at))
        else {
            return;
        };
        match instead {
            Some(other) => {
                let other_at = self.at(other);
                rolling.now = Some((other_at, self.places[other].orders.restarts));
                rolling.todo.retain(|it| *it != other_at);
                self.rolling = Some(rolling);
            }
            None => self.roll_back(at, rolling),
        }
    }

    /// The places of that one's group.
    fn group_at(&self, place: usize) -> Range<usize> {
        let shape = self.shared.shape();
        let group = shape.group_of(self.at(place)).unwrap_or(Group::Normal);
        let Range { start, end } = shape.places(group);
        start as usize..end as usize
    }

    /// How many places less than it is to have workers are in service of that place's group.
    pub(super) fn missing(&self, place: usize) -> usize {
        let group = self.shared.shape().group_of(self.at(place)).unwrap_or(Group::Normal);
        let here = self.group_at(place).filter(|it| {
            !matches!(self.places[*it].phase, Phase::Spare | Phase::Stuck | Phase::Empty)
        });
        (self.shared.shape().wanted(group) as usize).saturating_sub(here.count())
    }

    /// In the beginning: starts what is missing, at places that were in service before if there are
    /// any. Others are spares.
    pub(super) fn fill(&mut self) {
        let was_spare =
            |it: &super::Place| matches!(it.orders.condition, Condition::Spare | Condition::Stuck);
        let mut empty: Vec<usize> =
            (0..self.places.len()).filter(|it| self.places[*it].phase == Phase::Empty).collect();
        empty.sort_by_key(|it| was_spare(&self.places[*it]));
        for place in empty {
            if self.missing(place) > 0 {
                self.start(place);
            } else {
                self.leave_spare(place);
            }
        }
    }

    /// Nobody is to be here, for now.
    pub(super) fn leave_spare(&mut self, place: usize) {
        let it = &mut self.places[place];
        it.phase = Phase::Spare;
        it.orders.condition = Condition::Spare;
        it.orders.order = Order::Vacant;
        self.write(place);
        self.say(place, None);
    }
}
