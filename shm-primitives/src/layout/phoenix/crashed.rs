//! Who may have crashed, and taking over from who has.

use super::{GROUPS, PhoenixShmLayout, Place};
use crate::channel::Recovered;
use crate::identity::{Dead, OwnerId};
use crate::monitor::{MonitorWriter, Snapshot, Transaction};
use crate::part::ClaimError;

/// A worker that had been at one message for long when it was looked at: the first step of two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Noted {
    place: Place,
    transaction: Transaction,
}

impl Noted {
    /// Which worker.
    pub fn place(&self) -> Place {
        self.place
    }

    /// What it had in hand, and since when.
    pub fn transaction(&self) -> Transaction {
        self.transaction
    }
}

/// A worker that was still at the same message when it was looked at again. It may be dead, or
/// halted, or at a long message: only the kernel knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Suspect {
    noted: Noted,
    owner: Option<OwnerId>,
}

impl Suspect {
    /// Which worker.
    pub fn place(&self) -> Place {
        self.noted.place
    }

    /// What it has in hand, and since when.
    pub fn transaction(&self) -> Transaction {
        self.noted.transaction
    }

    /// Whose death is to be proven, by what the lane's request ring says; `None` if nobody serves
    /// the lane any more.
    pub fn owner(&self) -> Option<OwnerId> {
        self.owner
    }
}

impl<'a> PhoenixShmLayout<'a> {
    /// The workers that have been at one message for `threshold` or longer: the first look of
    /// two. `now` is by the clock that the workers stamp their messages with, in nanoseconds.
    ///
    /// Each monitor is read when its turn comes. A worker whose record changes all the time is at
    /// work, and one whose message begins later than `now` has not been at it for long.
    #[doc(alias = "ScanCrashedWorkers")]
    pub fn scan_crashed(
        &self,
        now: u64,
        threshold: u64,
    ) -> impl Iterator<Item = Noted> + use<'_, 'a> {
        let places = GROUPS.into_iter().flat_map(|group| {
            (0..self.workers(group)).map(move |worker| Place { group, worker })
        });
        places.filter_map(move |place| {
            let Ok(Snapshot::Processing(transaction)) = self.monitor(place)?.snapshot() else {
                return None;
            };
            let long = now.saturating_sub(transaction.start) >= threshold;
            long.then_some(Noted { place, transaction })
        })
    }

    /// The second look, some time after the first: whether the worker is still at the same
    /// message and has not reported progress on it. `None` if it is not.
    pub fn confirm(&self, noted: &Noted) -> Option<Suspect> {
        let place = noted.place;
        // A progress reply changes the record: the reply position in it.
        if self.monitor(place)?.snapshot() != Ok(Snapshot::Processing(noted.transaction)) {
            return None;
        }
        let [reader, writer] = self.channel(place)?.worker().ok()?;
        Some(Suspect { noted: *noted, owner: reader.or(writer) })
    }

    /// Takes the lane of a worker proven dead over, for `owner`, and says what it had in hand: see
    /// [`WorkerChannel::recover_worker`](crate::channel::WorkerChannel::recover_worker).
    ///
    /// `monitor` is the writer of the [monitor](Self::monitor) that the dead one wrote, from
    /// [`recover_writer`](crate::monitor::ThreadMonitor::recover_writer). Reset it when every lane
    /// that the dead one served was recovered.
    ///
    /// # Errors
    ///
    /// `NoSuchPlace` if the group has no such worker; else as
    /// [`recover_worker`](crate::channel::WorkerChannel::recover_worker).
    #[doc(alias = "RecoverCrashedWorkers")]
    pub fn recover_crashed<'m>(
        &self,
        place: Place,
        dead: Dead<OwnerId>,
        owner: OwnerId,
        monitor: &'m mut MonitorWriter<'_>,
    ) -> Result<Recovered<'a, 'm>, ClaimError> {
        let (Some(channel), Some(lane)) =
            (self.channel(place), self.lane(place.group, place.worker))
        else {
            return Err(ClaimError::NoSuchPlace {
                found: u32::try_from(place.worker).unwrap_or(u32::MAX),
                // At most 2^14.
                places: self.workers(place.group) as u32,
            });
        };
        channel.recover_worker(dead, owner, lane, monitor)
    }
}
