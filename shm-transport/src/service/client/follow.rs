//! Who waits for replies while another thread reads them.

use super::calls::Table;
use crate::park::FutexPark;
use parking_lot::Mutex;
use shm_primitives::wake::WakeWord;

/// One who follows: where it sleeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Follower {
    /// At the bell of its call.
    Call(u64),
    /// At the reactor's.
    Reactor,
}

/// All of them. See [`receive`](super::receive).
#[derive(Debug, Default)]
pub(super) struct Followers {
    list: Mutex<Vec<Follower>>,
    /// Where the reactor sleeps.
    pub reactor: WakeWord,
}

impl Followers {
    /// Can be woken from now on. Before it follows.
    pub fn add(&self, follower: Follower) {
        self.list.lock().push(follower);
    }

    /// Cannot any more.
    pub fn remove(&self, follower: Follower) {
        let mut list = self.list.lock();
        if let Some(at) = list.iter().position(|other| *other == follower) {
            list.swap_remove(at);
        }
    }

    /// Wakes one.
    #[cold]
    pub fn wake_one(&self, calls: &Table) {
        let Some(next) = self.list.lock().last().copied() else { return };
        let bell = match next {
            Follower::Call(seq) => calls.slot(seq).done.bell(),
            Follower::Reactor => &self.reactor,
        };
        bell.shared_notifier().notify(&FutexPark::private());
    }
}
