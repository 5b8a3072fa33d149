//! The thread that receives for futures.
//!
//! There is none before the first future is polled, and it ends when it had nothing to do for a
//! second. It takes the role of who receives as any other that waits does, and follows if another
//! thread has it.

use super::connection::Connection;
use super::error::CallError;
use super::follow::Follower;
use super::receive::Own;
use crate::park::FutexPark;
use parking_lot::{Condvar, Mutex};
use shm_primitives::wake::{Deadline, Park};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

/// How long it stays without anything to do.
const LINGER: Duration = Duration::from_secs(1);
/// How long one turn takes, in nanoseconds.
const TURN: u64 = 100_000_000;

#[derive(Debug, Default)]
pub(super) struct Reactor {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_running: bool,
    /// Somebody waits by a waker since it was last looked.
    is_wanted: bool,
    stop: bool,
}

impl Reactor {
    /// Sees to it that somebody receives for those who wait by wakers.
    pub fn want(connection: &Arc<Connection>) -> Result<(), CallError> {
        let this = &connection.reactor;
        let mut state = this.state.lock();
        state.is_wanted = true;
        if state.is_running {
            this.changed.notify_one();
            return Ok(());
        }
        let (reactor, weak) = (Arc::clone(this), Arc::downgrade(connection));
        let spawned = crate::event::without_signals(|| {
            let name = "shm-client".into();
            thread::Builder::new().name(name).stack_size(256 << 10).spawn(move || {
                reactor.run(&weak);
            })
        });
        state.is_running = spawned.is_ok();
        spawned.map(drop).map_err(CallError::Thread)
    }

    fn run(&self, connection: &Weak<Connection>) {
        loop {
            if let Some(connection) = connection.upgrade()
                && connection.calls.wakers() != 0
            {
                connection.react();
                continue;
            }
            let mut state = self.state.lock();
            if !state.is_wanted && !state.stop {
                self.changed.wait_for(&mut state, LINGER);
            }
            if state.stop || !state.is_wanted {
                state.is_running = false;
                return;
            }
            state.is_wanted = false;
        }
    }

    /// The connection is gone.
    pub fn stop(&self) {
        // A fork's copy may have been locked by a thread that is not there.
        if let Some(mut state) = self.state.try_lock_for(LINGER) {
            state.stop = true;
            self.changed.notify_one();
        }
    }
}

impl Connection {
    /// Receives, or waits until it can.
    fn react(&self) {
        let park = FutexPark::private();
        let until = Deadline::at(park.now().saturating_add(TURN));
        let is_done = || self.calls.wakers() == 0;
        match self.role() {
            Some(mut role) => {
                self.lead(&mut role, until, &mut Own::nobody(), |_, _| is_done());
                self.look_after(Some(&mut role));
                self.resign(role);
            }
            None => self.follow_at(Follower::Reactor, &self.follow.reactor, until, is_done),
        }
    }
}
