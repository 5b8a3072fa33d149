//! What a client and its clones have in common: who they are, and which service they want.

use super::super::name::ServiceName;
use super::super::role;
use super::connection::Connection;
use super::error::ConnectError;
use crate::config::Wait;
use crate::domain::Domain;
use crate::fork::{Process, this_process};
use crate::member::{self, JoinOptions, Member};
use crate::segment::SegmentError;
use shm_primitives::identity::OwnerId;
use shm_primitives::segment as layout;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long to wait between two attempts to connect.
const AGAIN: Duration = Duration::from_millis(1);
/// What a retry costs, in calls.
const RETRY: u32 = 10;
/// Retries that may follow one another at once.
const BURST: u32 = 20;

/// One member of the domain for all of them. The last of their connections that goes takes the
/// membership with it.
#[derive(Debug)]
pub(super) struct Family {
    /// `None` only when it is dropped.
    member: Option<Member>,
    pub service: ServiceName,
    pub domain: Domain,
    pub wait: Wait,
    budget: Budget,
    /// Something that is held under the member's id could not be given back.
    holds: AtomicBool,
    process: Process,
}

impl Family {
    pub fn join(service: ServiceName, domain: Domain, wait: Wait) -> Result<Self, ConnectError> {
        let name = String::from_utf8_lossy(service.as_bytes()).into_owned();
        let options = JoinOptions::new().role(role::CLIENT);
        let member = Some(Member::join_with(&domain, member::cut(&name), options)?);
        let (budget, holds) = (Budget::default(), AtomicBool::new(false));
        let process = this_process();
        Ok(Self { member, service, domain, wait, budget, holds, process })
    }

    pub fn member(&self) -> &Member {
        match &self.member {
            Some(member) => member,
            None => unreachable!("taken by drop alone"),
        }
    }

    pub fn owner(&self) -> OwnerId {
        self.member().id()
    }

    /// Whether this is the process that joined, and no fork of it.
    #[inline]
    pub fn is_ours(&self) -> bool {
        self.process == this_process()
    }

    /// Something stays that names the member.
    pub fn holds_on(&self) {
        self.holds.store(true, Ordering::Relaxed);
    }

    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Connects; tries until `timeout` after `begun`, but once at least.
    pub fn connect(
        self: &Arc<Self>,
        begun: Instant,
        timeout: Duration,
    ) -> Result<Connection, ConnectError> {
        loop {
            if !self.is_ours() {
                return Err(ConnectError::Forked);
            }
            let error = match Connection::open(self) {
                Ok(connection) => return Ok(connection),
                Err(error) if is_worth_waiting(&error) => error,
                Err(error) => return Err(error),
            };
            let waited = begun.elapsed();
            if waited >= timeout {
                let service = self.service;
                return Err(match error {
                    ConnectError::NotReady { .. } => ConnectError::NotReady { service, waited },
                    ConnectError::Segment(SegmentError::NotFound { .. })
                    | ConnectError::Layout { .. } => ConnectError::NoService { service, waited },
                    error => error,
                });
            }
            std::thread::sleep(AGAIN);
        }
    }
}

/// Whether it may be otherwise a while later.
fn is_worth_waiting(error: &ConnectError) -> bool {
    use layout::SegmentError as Layout;
    match error {
        ConnectError::Segment(SegmentError::NotFound { .. } | SegmentError::Busy { .. })
        | ConnectError::NotReady { .. }
        | ConnectError::PlacesTaken { .. } => true,
        ConnectError::Layout { error, .. } => matches!(
            error,
            Layout::Closing { .. } | Layout::Initialising { .. } | Layout::Renewed { .. }
        ),
        _ => false,
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        let Some(member) = self.member.take() else { return };
        if !self.is_ours() || *self.holds.get_mut() {
            // A fork's copy; or the record goes with the process, and whoever finds it dead puts
            // away what is left.
            std::mem::forget(member);
            return;
        }
        // SAFETY: connections have the family, so there is none any more; each has given back
        // whatever it held, or said that it did not.
        if let Err(error) = unsafe { member.leave() } {
            tracing::warn!(target: "shm_transport::service", service = %self.service, %error, "membership");
        }
    }
}

/// How many retries there may be: a tenth of the calls, and some at the beginning. So retries never
/// make a service that is in trouble twice as busy.
#[derive(Debug)]
pub(super) struct Budget(AtomicU32);

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicU32::new(BURST * RETRY))
    }
}

impl Budget {
    /// A call has been answered.
    #[inline]
    pub fn earn(&self) {
        if self.0.load(Ordering::Relaxed) < BURST * RETRY {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether there may be a retry, which is paid for then.
    pub fn spend(&self) -> bool {
        let less = |calls: u32| calls.checked_sub(RETRY);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_tenth_of_the_calls() {
        let budget = Budget::default();
        let burst = (0..1000).take_while(|_| budget.spend()).count();
        assert_eq!(burst, BURST as usize);
        let mut retries = 0;
        for _ in 0..1000 {
            budget.earn();
            retries += u32::from(budget.spend());
        }
        assert_eq!(retries, 100);
        // Nothing is saved beyond the burst.
        (0..10_000).for_each(|_| budget.earn());
        let burst = (0..1000).take_while(|_| budget.spend()).count();
        assert_eq!(burst, BURST as usize);
    }
}
