//! How a process sleeps and is woken: the [`Park`](shm_primitives::wake::Park)s of an operating
//! system.
//!
//! [`FutexPark`], on Linux, sleeps in the kernel on the wake word itself. [`SleepPark`] is for
//! the other Unixes: it sleeps a millisecond and lets the waiter look again. It compiles there
//! and is tested on Linux alone; what those systems have for a futex, each its own, is not used.
//! [`SystemPark`] is the one of the two that this system has.
//!
//! What a wait costs: a clock reading, one system call for each sleep, and for the other side one
//! for the wake of each sleep. While both are awake: neither.
//!
//! ```
//! use shm_primitives::ring::spsc::SpscRing;
//! use shm_primitives::wake::{Deadline, WakeWord};
//! use shm_transport::park::SystemPark;
//! use std::time::Duration;
//!
//! // In memory that two processes map it is the same.
//! let mut ring = SpscRing::<u32, 8>::new();
//! let (mut producer, mut consumer) = ring.split();
//! let (word, park) = (WakeWord::new(), SystemPark::new());
//! std::thread::scope(|scope| {
//!     scope.spawn(|| {
//!         producer.push(7).unwrap();
//!         word.notifier().notify(&park);
//!     });
//!     let deadline = Deadline::after(&park, Duration::from_secs(60));
//!     assert_eq!(consumer.pop_wait(&mut word.waiter(), &park, deadline), Ok(7));
//! });
//! ```

#[cfg(any(target_os = "linux", target_os = "android"))]
mod futex;
mod sleep;

#[cfg(any(target_os = "linux", target_os = "android"))]
pub use futex::FutexPark;
pub use sleep::SleepPark;

/// The best park of this system.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub type SystemPark = FutexPark;
/// The best park of this system.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub type SystemPark = SleepPark;

const SECOND: u64 = 1_000_000_000;

/// The clock of all parks: the same in all processes of a time namespace, not set, not slewed backwards; it stands
/// still while the machine sleeps. Read without a system call where the kernel's vDSO allows.
#[inline]
fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    // Both are non-negative: this clock begins at 0.
    now.tv_sec as u64 * SECOND + now.tv_nsec as u64
}

/// The same in milliseconds.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn milliseconds() -> u64 {
    now() / 1_000_000
}
