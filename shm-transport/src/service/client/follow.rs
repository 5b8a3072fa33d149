//! Who waits for replies while another thread reads them.

use super::calls::Table;
use crate::park::FutexPark;
use parking_lot::Mutex;
use shm_primitives::wake::{WakeWord, published};
use std::sync::atomic::{AtomicU32, Ordering};

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
    count: AtomicU32,
    /// Where the reactor sleeps.
    pub reactor: WakeWord,
}

impl Followers {
    /// Is one from now on.
    pub fn add(&self, follower: Follower) {
        self.list.lock().push(follower);
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    /// Is none any more. To be followed by [`hand_over`](Self::hand_over), if it does not take the
    /// role.
    pub fn remove(&self, follower: Follower) {
        let mut list = self.list.lock();
        if let Some(at) = list.iter().position(|other| *other == follower) {
            list.swap_remove(at);
            self.count.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// How many there are. To be asked behind a fence.
    #[inline]
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    /// Wakes one, if there is one and the role is free.
    #[inline]
    pub fn hand_over(&self, calls: &Table, is_free: impl Fn() -> bool) {
        let fenced = published();
        if self.count() == 0 || !is_free() {
            return;
        }
        let Some(next) = self.list.lock().last().copied() else { return };
        let bell = match next {
            Follower::Call(seq) => calls.slot(seq).done.bell(),
            Follower::Reactor => &self.reactor,
        };
        bell.shared_notifier().notify_after(&FutexPark::private(), &fenced);
    }
}
