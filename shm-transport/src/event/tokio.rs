//! Waiting in tokio.

use super::{EventError, HoldsWord, ReadyFd};
use crate::park::FutexPark;
use shm_primitives::wake::Park;
use std::io;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A [`ReadyFd`] that a tokio task waits for. With the feature `tokio`.
///
/// ```
/// use shm_primitives::ring::spsc::SpscRing;
/// use shm_primitives::wake::WakeWord;
/// use shm_transport::event::{AsyncReadyFd, ReadyFd};
/// use shm_transport::park::FutexPark;
/// use std::sync::Arc;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
/// let mut ring = SpscRing::<u32, 8>::new();
/// let (mut producer, mut consumer) = ring.split();
/// let word = Arc::new(WakeWord::new());
/// let mut ready = AsyncReadyFd::new(ReadyFd::new(Arc::clone(&word))?)?;
/// // Elsewhere, in another process as a rule:
/// producer.push(7)?;
/// word.notifier().notify(&FutexPark::new());
///
/// ready.readable(|| !consumer.is_empty()).await?;
/// assert_eq!(consumer.pop(), Ok(7));
/// # Ok(()) }) }
/// ```
#[derive(Debug)]
pub struct AsyncReadyFd<W: HoldsWord, P: Park + Send + Sync + 'static = FutexPark> {
    inner: AsyncFd<ReadyFd<W, P>>,
}

impl<W: HoldsWord, P: Park + Send + Sync + 'static> AsyncReadyFd<W, P> {
    /// Registers the descriptor with the runtime of this task.
    ///
    /// # Errors
    ///
    /// When epoll does not take it.
    ///
    /// # Panics
    ///
    /// Outside a runtime, or in one without I/O: as tokio's `AsyncFd`.
    pub fn new(ready: ReadyFd<W, P>) -> io::Result<Self> {
        // SAFETY: the descriptor is the eventfd that `ready` owns, always the same, and closes when
        // it is dropped, which happens with the `AsyncFd` or after it.
        let inner = unsafe { AsyncFd::register_with_interest(ready, Interest::READABLE) };
        Ok(Self { inner: inner.map_err(io::Error::from)? })
    }

    /// Waits until `ready` says so: at once if it does already. It is asked again and again, as
    /// by [`ReadyFd::arm`], each 100 ms at the least.
    ///
    /// Cancel safe: dropped, it has lost nothing, and the next call begins anew.
    ///
    /// # Errors
    ///
    /// When the runtime shuts down, or the descriptor is not what it was.
    pub async fn readable(&mut self, mut ready: impl FnMut() -> bool) -> io::Result<()> {
        while !self.inner.get_mut().arm(&mut ready) {
            let mut guard = self.inner.readable_mut().await?;
            // First this, then the descriptor: what is written between the two is an edge that
            // tokio remembers.
            guard.clear_ready();
            guard.get_inner_mut().clear().map_err(|error| match error {
                EventError::Read(error) => error,
                other => io::Error::other(other),
            })?;
        }
        Ok(())
    }

    /// The descriptor and its bridge, no longer registered.
    pub fn into_inner(self) -> ReadyFd<W, P> {
        self.inner.into_inner()
    }
}
