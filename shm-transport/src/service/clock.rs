//! The clock of monitors and beats.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since a moment that is the same for all processes of a time namespace, never going
/// back, in steps of some milliseconds: what a worker notes when it begins a call, and its
/// supervisor compares with. `CLOCK_MONOTONIC_COARSE`: a few nanoseconds to read.
#[inline]
pub(super) fn coarse() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    // Both are non-negative: this clock begins at 0.
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
