//! A call in flight, as its caller has it.

use super::connection::{Connection, Patience};
use super::error::{CallError, ConnectError};
use super::reactor::Reactor;
use shm_primitives::message::Priority;
use shm_primitives::wake::published;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// How often a call is tried, if its function may be run twice: the first time, and twice more.
pub(super) const ATTEMPTS: u32 = 3;

/// A call in flight: wait for it, or await it. Dropping it cancels the call: its worker is told,
/// which does not begin it if it has not, and whose handler can ask.
///
/// As a future it ends when the call does, and has no time-out of its own. The first one that is
/// polled starts a thread that receives for all of them.
#[must_use = "a call is cancelled when it is dropped"]
pub struct Call {
    connection: Arc<Connection>,
    /// `None` once its result was taken.
    seq: Option<u64>,
    function: u32,
    priority: Priority,
    attempt: u32,
    /// The request, to send it again; of a function that may be run twice alone.
    again: Option<Box<[u8]>>,
}

impl Call {
    /// Sends a call.
    #[inline]
    pub(super) fn send(
        connection: Arc<Connection>,
        function: u32,
        payload: &[u8],
        priority: Priority,
        ring: bool,
    ) -> Result<Self, CallError> {
        if !connection.family.is_ours() {
            return Err(ConnectError::Forked.into());
        }
        let seq = connection.submit(function, payload, priority, ring, None)?;
        let again = connection.is_idempotent(function).then(|| payload.into());
        Ok(Self { connection, seq: Some(seq), function, priority, attempt: 1, again })
    }

    /// Into which worker's lane it went.
    pub(super) fn place(&self) -> Option<u32> {
        Some(self.connection.calls.slot(self.seq?).place())
    }

    /// Its sequence id.
    #[cfg(test)]
    /// Its sequence id, by which a [dead letter](super::super::DeadLetter::seq_id) is known; another
    /// one with each attempt. `None` if its result was taken.
    #[must_use]
    pub fn seq_id(&self) -> Option<u64> {
        self.seq
    }

    /// Waits for the result, for so long. Blocks.
    ///
    /// # Errors
    ///
    /// See [`CallError`]; with [`TimedOut`](CallError::TimedOut) the call is given up.
    #[inline]
    pub fn wait(mut self, timeout: Duration) -> Result<Vec<u8>, CallError> {
        self.wait_mut(timeout)
    }

    pub(super) fn wait_mut(&mut self, timeout: Duration) -> Result<Vec<u8>, CallError> {
        self.check_process()?;
        let mut patience = Patience::new(timeout);
        loop {
            let seq = self.seq.ok_or(CallError::Cancelled)?;
            let place = self.connection.calls.slot(seq).place();
            let ending = match self.connection.wait(seq, &mut patience) {
                Some(ending) => ending,
                None => {
                    // It may have been polled before. The slot is another call's when this is over.
                    drop(self.connection.calls.take_waker(seq));
                    match self.connection.give_up(seq) {
                        Some(ending) => ending,
                        None => {
                            self.seq = None;
                            return Err(self.connection.late(place, timeout));
                        }
                    }
                }
            };
            if let Some(result) = self.ended(seq, place, ending) {
                return result;
            }
        }
    }

    /// Waits for the result, for so long; `None` if it is not there, and the call goes on. Blocks.
    ///
    /// # Errors
    ///
    /// See [`CallError`]; [`Cancelled`](CallError::Cancelled) if the result was taken before.
    pub fn wait_for(&mut self, timeout: Duration) -> Option<Result<Vec<u8>, CallError>> {
        if let Err(error) = self.check_process() {
            return Some(Err(error));
        }
        let mut patience = Patience::new(timeout);
        loop {
            let Some(seq) = self.seq else { return Some(Err(CallError::Cancelled)) };
            let place = self.connection.calls.slot(seq).place();
            let ending = self.connection.wait(seq, &mut patience)?;
            if let Some(result) = self.ended(seq, place, ending) {
                return Some(result);
            }
        }
    }

    /// The result, if it is there. Does not block.
    ///
    /// # Errors
    ///
    /// As [`wait_for`](Self::wait_for).
    pub fn try_wait(&mut self) -> Option<Result<Vec<u8>, CallError>> {
        if let Err(error) = self.check_process() {
            return Some(Err(error));
        }
        let Some(seq) = self.seq else { return Some(Err(CallError::Cancelled)) };
        let result = self.look(seq);
        if result.is_none() {
            self.connection.look_after(None);
        }
        result
    }

    /// The last report of progress that was not taken; one without bytes says that the call was
    /// accepted. Does not block. Reports that come faster than they are taken replace one another.
    pub fn progress(&self) -> Option<Vec<u8>> {
        let seq = self.seq?;
        self.check_process().ok()?;
        self.connection.glance();
        self.connection.calls.take_report(seq)
    }

    /// Waits for such a report, for so long; `None` if there was none, or the call has ended.
    /// Blocks.
    pub fn wait_progress(&self, timeout: Duration) -> Option<Vec<u8>> {
        self.check_process().ok()?;
        self.connection.wait_for_report(self.seq?, &mut Patience::new(timeout))
    }

    /// Gives the call up: the same as dropping it.
    pub fn cancel(self) {}

    /// Nothing of the lanes is there in a forked child.
    #[inline]
    fn check_process(&self) -> Result<(), CallError> {
        if self.connection.family.is_ours() { Ok(()) } else { Err(ConnectError::Forked.into()) }
    }

    /// What it has ended with; `None` if it is sent again, for its worker died and its function may
    /// be run twice. `place` is where it went: its slot is another call's by now.
    fn ended(
        &mut self,
        seq: u64,
        place: u32,
        ending: super::calls::Ending,
    ) -> Option<Result<Vec<u8>, CallError>> {
        drop(self.connection.calls.take_waker(seq));
        self.seq = None;
        let result = ending.result(self.function, self.priority, seq, place, self.attempt);
        match (&result, &self.again) {
            (Err(CallError::WorkerCrashed { .. }), Some(payload))
                if self.attempt < ATTEMPTS && self.connection.family.budget().spend() =>
            {
                let (function, priority) = (self.function, self.priority);
                match self.connection.submit(function, payload, priority, true, None) {
                    Ok(seq) => {
                        (self.seq, self.attempt) = (Some(seq), self.attempt + 1);
                        None
                    }
                    // That its worker died says more.
                    Err(_) => Some(result),
                }
            }
            _ => {
                self.connection.family.budget().earn();
                Some(result)
            }
        }
    }

    fn look(&mut self, seq: u64) -> Option<Result<Vec<u8>, CallError>> {
        let (slot, tag) = (self.connection.calls.slot(seq), self.connection.calls.tag(seq));
        if slot.done.outcome(tag).is_none() {
            self.connection.glance();
        }
        let place = slot.place();
        let (_, ending) = slot.done.take(tag)?;
        self.ended(seq, place, ending.unwrap_or(super::calls::Ending::Gone))
    }
}

impl Future for Call {
    type Output = Result<Vec<u8>, CallError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Err(error) = self.check_process() {
            return Poll::Ready(Err(error));
        }
        loop {
            let Some(seq) = self.seq else { return Poll::Ready(Err(CallError::Cancelled)) };
            if let Some(result) = self.look(seq) {
                return Poll::Ready(result);
            }
            if self.seq != Some(seq) {
                // Sent again.
                continue;
            }
            let connection = &self.connection;
            connection.calls.set_waker(seq, context.waker());
            if let Err(error) = Reactor::want(connection) {
                return Poll::Ready(Err(error));
            }
            // Who ends the call does so, then fences, then looks for wakers.
            let _fenced = published();
            let slot = connection.calls.slot(seq);
            let is_pending = slot.done.outcome(connection.calls.tag(seq)).is_none();
            if is_pending && !connection.is_lost() {
                return Poll::Pending;
            }
            if is_pending {
                // Ended by nobody: sent when all calls were just being ended.
                let place = slot.place();
                let ending = connection.give_up(seq).unwrap_or(super::calls::Ending::Gone);
                match self.ended(seq, place, ending) {
                    Some(result) => return Poll::Ready(result),
                    None => continue,
                }
            }
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(seq) = self.seq
            && self.connection.family.is_ours()
        {
            self.connection.abandon(seq);
        }
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("function", &self.function)
            .field("seq", &self.seq)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}
