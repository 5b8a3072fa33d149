//! Waiting for the other side, which may never come.

use std::time::{Duration, Instant};

/// Longer than a machine keeps a side from running.
pub const STALL: Duration = Duration::from_secs(20);

/// Asks until the answer is yes, and calls `pause` in between.
///
/// # Panics
///
/// When it has been no for so long that nothing will change: a run fails, never hangs.
#[inline]
pub fn until(mut done: impl FnMut() -> bool, pause: impl Fn()) {
    const ROUND: u32 = 1 << 20;
    let mut since = None;
    loop {
        for _ in 0..ROUND {
            if done() {
                return;
            }
            pause();
        }
        look_at_clock(&mut since);
    }
}

#[cold]
#[inline(never)]
fn look_at_clock(since: &mut Option<Instant>) {
    let waited = since.get_or_insert_with(Instant::now).elapsed();
    assert!(waited < STALL, "the other side has not moved for {waited:.0?}");
}
