//! The clocks of services: of monitors and beats, and of what people read.

use rustix::time::{ClockId, clock_gettime};
use std::time::SystemTime;

/// Nanoseconds since a moment that is the same for all processes of a time namespace, never going
/// back, in steps of some milliseconds: what a worker notes when it begins a call, and its
/// supervisor compares with. `CLOCK_MONOTONIC_COARSE`: a few nanoseconds to read.
#[inline]
pub(super) fn coarse() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    // Both are non-negative: this clock begins at 0.
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Milliseconds since 1970: when something was, for people.
pub(super) fn since_1970() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
