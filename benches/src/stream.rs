//! One way, from a thread on one CPU to a thread on another, as fast as they can.

use crate::frame::Template;
use crate::pace::Pace;
use crate::pin::{Cpus, pin};
use crate::spin;
use crate::traffic::{BatchReceiver, BatchSender, FrameReceiver, FrameSender, Receiver, Sender};
use std::hint::spin_loop;
use std::ops::Range;
use std::process::exit;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// How a run goes, whatever the ring.
#[derive(Clone, Copy)]
pub struct Run {
    /// Where it runs.
    pub cpus: Cpus,
    /// How many messages are timed.
    pub count: u64,
}

impl Run {
    /// Messages before the clock starts: the ring's pages are touched, its flow is steady.
    fn warm(self) -> u64 {
        self.count / 8 + 1
    }

    fn all(self) -> u64 {
        self.warm() + self.count
    }

    /// Times the reader alone, from one message to a later one: no clock is compared with
    /// another CPU's, and neither start nor end is in it.
    fn time(
        self,
        write: impl FnOnce(u64) + Send,
        mut read: impl FnMut(Range<u64>) + Send,
    ) -> Duration {
        let start = &Barrier::new(2);
        thread::scope(|threads| {
            threads.spawn(move || {
                let _end = EndOnPanic;
                pin(self.cpus.first);
                start.wait();
                write(self.all());
            });
            let reader = threads.spawn(move || {
                let _end = EndOnPanic;
                pin(self.cpus.second);
                start.wait();
                read(0..self.warm());
                let clock = Instant::now();
                read(self.warm()..self.all());
                clock.elapsed()
            });
            reader.join().expect("a panic ends the program")
        })
    }
}

/// Ends the program with the thread, whose other side would spin forever.
struct EndOnPanic;

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            exit(101);
        }
    }
}

#[inline]
fn until(done: impl FnMut() -> bool) {
    spin::until(done, spin_loop);
}

/// Integers one at a time.
pub fn items(run: Run, mut tx: impl Sender<u64>, mut rx: impl Receiver<u64>) -> Duration {
    run.time(
        move |count| (0..count).for_each(|i| until(|| tx.try_send(i))),
        move |range| {
            for want in range {
                until(|| rx.try_recv().inspect(|&got| check(want, got)).is_some());
            }
        },
    )
}

/// Integers, up to `batch` at a time.
pub fn batches(
    run: Run,
    batch: usize,
    mut tx: impl BatchSender,
    mut rx: impl BatchReceiver,
) -> Duration {
    run.time(
        move |count| {
            let mut next = 0;
            while next < count {
                let end = count.min(next + batch as u64);
                until(|| {
                    let sent = tx.send_some(next..end);
                    next += sent as u64;
                    sent != 0
                });
            }
        },
        move |range| {
            let mut next = range.start;
            while next < range.end {
                let max = batch.min((range.end - next) as usize);
                until(|| {
                    let each = |got| {
                        check(next, got);
                        next += 1;
                    };
                    rx.recv_some(max, each) != 0
                });
            }
        },
    )
}

#[inline]
fn check(want: u64, got: u64) {
    assert!(want == got, "item {want} came as {got}");
}

/// Frames of `N` bytes.
pub fn frames<const N: usize>(
    run: Run,
    pace: Pace,
    tx: impl FrameSender<N> + Send,
    rx: impl FrameReceiver<N> + Send,
) -> Duration {
    // An unpaced side has no pace to ask about in its loop.
    match pace {
        Pace::Unpaced => frames_after(run, tx, || {}, rx, || {}),
        Pace::Writer(work) => frames_after(run, tx, move || work.run(), rx, || {}),
        Pace::Reader(work) => frames_after(run, tx, || {}, rx, move || work.run()),
    }
}

fn frames_after<const N: usize>(
    run: Run,
    mut tx: impl FrameSender<N> + Send,
    sent: impl Fn() + Send,
    mut rx: impl FrameReceiver<N> + Send,
    received: impl Fn() + Send,
) -> Duration {
    let template = &Template::<N>::new();
    run.time(
        move |count| {
            for i in 0..count {
                until(|| tx.try_send(template.frame(i)));
                sent();
            }
        },
        move |range| {
            for i in range {
                until(|| rx.try_recv(template.frame(i)));
                received();
            }
        },
    )
}
