//! Who helps out at a place without a worker: whom, is decided in
//! [`helpers`].

use super::{Phase, Supervisor};
use crate::service::server::helpers::{self, Worker};
use shm_primitives::layout::service::WorkerEntry;

impl Supervisor<'_> {
    /// Orders helpers, and lets them go.
    pub(super) fn help(&mut self) {
        let table = self.shared.control.layout.workers();
        let queued = |place: u32| {
            let found = table.read(place).ok().flatten()?;
            table.live(found.key, WorkerEntry::QUEUED)
        };
        let workers: Vec<Worker> = self
            .places
            .iter()
            .zip(0..)
            .map(|(it, place)| match it.phase {
                _ if self.stopping.is_some() => Worker::Other,
                Phase::Up { .. } if !it.hang.is_suspect() => {
                    Worker::Up { queued: queued(place).unwrap_or(0) }
                }
                Phase::Failed => Worker::GivenUp,
                // Of calls that came too late to be sent elsewhere: lanes that nobody has.
                Phase::Stuck => Worker::GivenUp,
                Phase::Spare if it.orders.incarnation != 0 => Worker::GivenUp,
                Phase::Waiting { .. } | Phase::Starting { .. } => Worker::Away,
                Phase::Up { .. } | Phase::Draining { .. } | Phase::Empty | Phase::Spare => {
                    Worker::Other
                }
            })
            .collect();
        let now: Vec<Option<u32>> = self.places.iter().map(|it| it.orders.helper).collect();
        let chosen = helpers::choose(self.shared.shape(), self.settings.strategy, &workers, &now);
        for (place, (before, after)) in now.into_iter().zip(chosen).enumerate() {
            if before == after {
                continue;
            }
            self.places[place].orders.helper = after;
            self.write(place);
            // Who has the lanes to let go of, and who may take them up.
            for other in before.into_iter().chain(after).chain([self.at(place)]) {
                self.lanes.ring_worker(other);
            }
        }
    }
}
