//! Waking a client after a reply.
//!
//! A client that never sleeps is not woken. Another has to be told after each reply, behind a
//! fence, which is the dearest of what a short call costs its worker. So behind a reply the
//! client's word is looked at without one: who sleeps already is woken at once. One that falls
//! asleep at this very moment may be missed; so when the worker has done its turn in a lane, and
//! before it begins a call that is known to take long, it looks again behind a fence.

use crate::park::FutexPark;
use shm_primitives::place::ClientBell;
use shm_primitives::wake::Notifier;

/// A client's bell.
#[derive(Debug)]
pub(super) struct Ringer {
    bell: ClientBell<'static>,
    notifier: Notifier<'static, true>,
    park: FutexPark,
    /// It was not looked at behind a fence after the last reply.
    owes: bool,
}

impl Ringer {
    pub fn new(bell: ClientBell<'static>) -> Self {
        let notifier = bell.bell().shared_notifier();
        Self { bell, notifier, park: FutexPark::new(), owes: false }
    }

    /// After a reply, before another: wakes the client if it is seen to sleep.
    #[inline]
    pub fn hint(&mut self) {
        if self.bell.is_sleepless() {
            return;
        }
        if self.notifier.is_wanted() {
            self.ring();
        } else {
            self.owes = true;
        }
    }

    /// Wakes the client if it sleeps and was not told.
    #[inline]
    pub fn settle(&mut self) {
        if self.owes {
            self.ring();
        }
    }

    /// Wakes the client if it sleeps.
    pub fn ring(&mut self) {
        self.owes = false;
        if !self.bell.is_sleepless() {
            self.notifier.notify(&self.park);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shm_primitives::place::ClientLine;
    use shm_primitives::wake::RelayedWaiter;

    #[test]
    fn who_sleeps_is_woken_once_and_who_does_not_is_not() {
        let line: &'static ClientLine = Box::leak(Box::default());
        let bell = ClientBell::new(line);
        let mut ringer = Ringer::new(bell);
        let mut client = RelayedWaiter::new(bell.bell());
        ringer.hint();
        assert!(ringer.owes, "it may have just fallen asleep");
        assert!(!client.arm(bell.bell(), || false));
        assert!(ringer.notifier.is_wanted());
        ringer.settle();
        assert!(!ringer.owes && !ringer.notifier.is_wanted(), "woken");
        client.disarm(bell.bell());
        // Asleep already when the reply comes.
        client.arm(bell.bell(), || false);
        ringer.hint();
        assert!(!ringer.owes && !ringer.notifier.is_wanted(), "woken at once");
        client.disarm(bell.bell());
        // One that says that it never sleeps.
        bell.set_sleepless(true);
        client.arm(bell.bell(), || false);
        ringer.hint();
        ringer.settle();
        ringer.ring();
        assert!(!ringer.owes && ringer.notifier.is_wanted());
    }
}
