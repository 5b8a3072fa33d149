//! There and back, from a process on one CPU to a process on another. Both poll.

use crate::frame::Template;
use crate::pin::Cpus;
use crate::process;
use crate::region::Region;
use crate::spin;
use crate::traffic::{FrameReceiver, FrameSender};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How a run goes, whatever carries it.
#[derive(Clone, Copy)]
pub struct Run {
    /// Where it runs.
    pub cpus: Cpus,
    /// How many round trips are timed.
    pub count: u64,
}

impl Run {
    /// How many come before those.
    pub(crate) fn warm(self) -> u64 {
        self.count / 8 + 1
    }

    /// Times the trips of the first process; both do the same number.
    pub(crate) fn time(
        self,
        mut trip: impl FnMut(u64),
        mut answer: impl FnMut(u64),
    ) -> Result<Duration, String> {
        let all = self.warm() + self.count;
        process::pair(
            self.cpus,
            || {
                (0..self.warm()).for_each(&mut trip);
                let clock = Instant::now();
                (self.warm()..all).for_each(&mut trip);
                clock.elapsed()
            },
            || (0..all).for_each(&mut answer),
        )
    }
}

/// Polls with no pause between: a pause may last as long as a trip does.
#[inline]
fn until(done: impl FnMut() -> bool) {
    spin::until(done, || {});
}

/// Frames of `N` bytes through a ring each way, the answer written anew.
///
/// # Errors
///
/// When a process cannot be started, or fails.
pub fn frames<const N: usize>(
    run: Run,
    mut there: (impl FrameSender<N>, impl FrameReceiver<N>),
    mut back: (impl FrameSender<N>, impl FrameReceiver<N>),
) -> Result<Duration, String> {
    let template = Template::new();
    run.time(
        |i| {
            until(|| there.0.try_send(template.frame(i)));
            until(|| back.1.try_recv(template.frame(i)));
        },
        |i| {
            until(|| there.1.try_recv(template.frame(i)));
            until(|| back.0.try_send(template.frame(i)));
        },
    )
}

/// The least that any such trip takes: a word there and a word back, a line each.
///
/// # Errors
///
/// When a process cannot be started, or fails.
pub fn floor(run: Run) -> Result<Duration, String> {
    /// Two lines, for the prefetcher that fetches them in pairs.
    #[repr(C, align(128))]
    struct Line(AtomicU32);

    let region = Region::shared(size_of::<[Line; 2]>()).map_err(|e| e.to_string())?;
    // SAFETY: the mapping is zeroed, aligned to a page and as long as the two lines, and
    // outlives the borrow.
    let [there, back] = unsafe { region.base().cast::<[Line; 2]>().as_ref() };
    // The first word is the initial one, so that words begin at one.
    let word = |i: u64| (i as u32).wrapping_add(1);
    let send = |line: &Line, i| line.0.store(word(i), Ordering::Release);
    let receive = |line: &Line, i| until(|| line.0.load(Ordering::Acquire) == word(i));
    run.time(
        |i| {
            send(there, i);
            receive(back, i);
        },
        |i| {
            receive(there, i);
            send(back, i);
        },
    )
}
