//! What is looked at now and then: clients that came and went, and ends of lanes that the dead left.

use super::Supervisor;
use crate::liveness::Verdict;
use crate::service::server::recover::TARGET;
use shm_primitives::identity::OwnerId;
use shm_primitives::layout::service::Cause;

impl Supervisor<'_> {
    /// What is done now and then.
    pub(super) fn round(&mut self) {
        self.member.beat();
        self.lanes.tidy();
        self.lanes.refresh();
        self.letters.sweep();
        // Ends that were claimed in the name of one who was being recovered.
        let mut known: Vec<OwnerId> = self.places.iter().filter_map(|place| place.worker).collect();
        known.push(self.shared.owner);
        for stranger in self.lanes.strangers(&known) {
            if let Ok(Verdict::Dead(dead)) = self.member.processes().convict(stranger) {
                self.put_away(dead, Cause::Unknown, 0);
            }
        }
        let workers: Vec<OwnerId> = self.places.iter().filter_map(|place| place.worker).collect();
        self.clear_places(&workers);
        let mut clients: Vec<OwnerId> =
            self.shared.bells.layout.clients().owners().map(|(_, owner)| owner).collect();
        clients.sort_by_key(|owner| owner.word());
        clients.dedup();
        let watched: Vec<OwnerId> = self.watch.ids().collect();
        for id in watched {
            if !clients.contains(&id) && !workers.contains(&id) {
                self.watch.remove(id);
            }
        }
        for client in clients.into_iter().filter(|client| *client != self.shared.owner) {
            if let Err(error) = self.watch.add(client) {
                tracing::warn!(target: TARGET, service = %self.shared.service, %error, "a client");
            }
        }
    }

    /// Frees places of clients that are in nobody's name who could be a client. Nobody takes one
    /// so; but all clients can write there, and what one left is nobody's to give back.
    ///
    /// Nobody it is that has an id which was never given out, as far as was seen in two rounds. One who
    /// joins has its record before it takes a place, but nothing orders the looks of one round at the
    /// two.
    fn clear_places(&mut self, workers: &[OwnerId]) {
        let own = self.shared.owner;
        let before = std::mem::take(&mut self.nobodys);
        let (members, nobodys) = (self.member.processes(), &mut self.nobodys);
        let is_nobodys = |owner: OwnerId| {
            let is_ours = owner == own || workers.contains(&owner);
            if !is_ours && !matches!(members.convict(owner), Ok(Verdict::Unknown)) {
                return false;
            }
            nobodys.push(owner);
            before.contains(&owner)
        };
        let cleared = self.shared.bells.layout.clients().clear_nobodys(own, is_nobodys);
        if cleared > 0 {
            tracing::warn!(target: TARGET, service = %self.shared.service, cleared, "places of clients were nobody's");
        }
    }
}
