//! There and back, from a process on one CPU to a process on another. Both poll.

use crate::frame::Template;
use crate::pin::Cpus;
use crate::process::{self, Meeting};
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

    pub(crate) fn all(self) -> u64 {
        self.warm() + self.count
    }

    /// Times the trips of the first process; both do the same number.
    pub(crate) fn time(
        self,
        trip: impl FnMut(u64),
        answer: impl FnMut(u64),
    ) -> Result<Duration, String> {
        process::pair(self.cpus, || self.time_trips(trip), || (0..self.all()).for_each(answer))
    }

    pub(crate) fn time_trips(self, mut trip: impl FnMut(u64)) -> Duration {
        (0..self.warm()).for_each(&mut trip);
        let clock = Instant::now();
        (self.warm()..self.all()).for_each(&mut trip);
        clock.elapsed()
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
    between(
        run,
        |asking| asking.go(&mut there.0, &mut back.1),
        |answering| answering.go(&mut back.0, &mut there.1),
    )
}

/// The same with ends that each process makes for itself: the closures make them, and then
/// [`go`](Asking::go).
///
/// # Errors
///
/// When a process cannot be started, or fails.
pub fn between(
    run: Run,
    ask: impl FnOnce(Asking<'_>) -> Duration,
    answer: impl FnOnce(Answering<'_>),
) -> Result<Duration, String> {
    let meeting = &Meeting::new(2)?;
    process::pair(run.cpus, || ask(Asking { run, meeting }), || answer(Answering { run, meeting }))
}

/// The process that starts each trip.
pub struct Asking<'a> {
    run: Run,
    meeting: &'a Meeting,
}

/// The one that answers.
pub struct Answering<'a> {
    run: Run,
    meeting: &'a Meeting,
}

impl Asking<'_> {
    /// Waits until the other has called this too.
    pub fn meet(&self) {
        self.meeting.wait();
    }

    /// Makes the trips, and returns what those that count took when the other is done as well.
    pub fn go<const N: usize>(
        self,
        tx: &mut impl FrameSender<N>,
        rx: &mut impl FrameReceiver<N>,
    ) -> Duration {
        let template = Template::new();
        self.trips(|i| {
            until(|| tx.try_send(template.frame(i)));
            until(|| rx.try_recv(template.frame(i)));
        })
    }

    /// The same with trips that are made by that closure, of its number each.
    pub fn trips(self, trip: impl FnMut(u64)) -> Duration {
        let time = self.run.time_trips(trip);
        self.meet();
        time
    }
}

impl Answering<'_> {
    /// Waits until the other has called this too.
    pub fn meet(&self) {
        self.meeting.wait();
    }

    /// Answers them all, and returns when the other is done as well.
    pub fn go<const N: usize>(self, tx: &mut impl FrameSender<N>, rx: &mut impl FrameReceiver<N>) {
        let template = Template::new();
        self.answers(|i| {
            until(|| rx.try_recv(template.frame(i)));
            until(|| tx.try_send(template.frame(i)));
        });
    }

    /// The same with answers that are given by that closure, to the trip of its number each.
    pub fn answers(self, answer: impl FnMut(u64)) {
        (0..self.run.all()).for_each(answer);
        self.meet();
    }
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
