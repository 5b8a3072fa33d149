//! Several calls, and one ring.

use super::call::Call;
use super::connection::Connection;
use super::error::CallError;
use shm_primitives::message::Priority;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Calls that workers are told of together. What is added stands in the workers' lanes at once,
/// and one that is awake may begin it; one that sleeps is woken when the batch is
/// [sent](Self::send). Dropping it cancels its calls.
#[derive(Debug)]
#[must_use = "its calls are cancelled when it is dropped"]
pub struct Batch {
    connection: Arc<Connection>,
    priority: Priority,
    calls: Vec<Call>,
    /// Lanes that were not rung for.
    silent: Vec<u32>,
}

impl Batch {
    pub(super) fn new(connection: Arc<Connection>, priority: Priority) -> Self {
        Self { connection, priority, calls: Vec::new(), silent: Vec::new() }
    }

    /// Adds a call.
    ///
    /// # Errors
    ///
    /// See [`CallError`]: this call is not in the batch, the others are. With
    /// [`Full`](CallError::Full) send them, and go on when some are answered.
    pub fn add(&mut self, function: u32, payload: &[u8]) -> Result<(), CallError> {
        let call =
            match Call::send(Arc::clone(&self.connection), function, payload, self.priority, false)
            {
                Ok(call) => call,
                Err(error) => {
                    // Those before may be what stands in its way.
                    self.ring();
                    return Err(error);
                }
            };
        if let Some(place) = call.place()
            && !self.silent.contains(&place)
        {
            self.silent.push(place);
        }
        self.calls.push(call);
        Ok(())
    }

    /// How many calls are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Wakes the workers; the calls, in the order in which they were added.
    #[must_use = "calls are cancelled when they are dropped"]
    pub fn send(mut self) -> Vec<Call> {
        self.ring();
        std::mem::take(&mut self.calls)
    }

    /// Wakes the workers, and waits for all results, for so long altogether. Blocks. In the order
    /// in which the calls were added.
    #[must_use]
    pub fn wait(self, timeout: Duration) -> Vec<Result<Vec<u8>, CallError>> {
        let begun = Instant::now();
        let results = self.send().into_iter().map(|call| {
            let left = timeout.saturating_sub(begun.elapsed());
            match call.wait(left) {
                Err(CallError::TimedOut { .. }) => Err(CallError::TimedOut { waited: timeout }),
                other => other,
            }
        });
        results.collect()
    }

    fn ring(&mut self) {
        if self.connection.family.is_ours() {
            self.connection.ring(&self.silent);
        }
        self.silent.clear();
    }
}
