//! There and back, from a process to another, when who waits may sleep.

use crate::frame::Template;
use crate::region::Region;
use crate::round_trip::Run;
use crate::traffic::{FrameReceiver, FrameSender};
use rustix::thread::futex::{Flags, wait, wake};
use shm_primitives::region;
use shm_primitives::ring::frame::{Reader, Writer};
use shm_primitives::sync::AtomicU32;
use shm_primitives::wake::{Deadline, Park, WakeWord};
use std::sync::atomic::{self, AtomicU64, Ordering};
use std::time::Duration;

/// Both ends of a ring.
pub type Ends<'a> = (Writer<'a>, Reader<'a>);

/// Words on lines of their own.
const LINE: usize = 128;

/// Frames of `N` bytes through a ring each way; each side waits for the other by its wake word,
/// in the way of the park.
///
/// # Errors
///
/// When a process cannot be started, or fails.
pub fn frames<const N: usize>(
    run: Run,
    park: &impl Park,
    mut there: Ends<'_>,
    mut back: Ends<'_>,
) -> Result<Duration, String> {
    dialogue::<N>(run, park, &mut there, &mut back, |_| {})
}

/// The same; calls of the park's, sleeps and wakes, of both sides together, a message.
///
/// # Errors
///
/// When a process cannot be started, or fails.
pub fn calls<const N: usize>(
    run: Run,
    park: &impl Park,
    mut there: Ends<'_>,
    mut back: Ends<'_>,
) -> Result<f64, String> {
    let counts = Region::shared(size_of::<AtomicU64>()).map_err(|e| e.to_string())?;
    // SAFETY: the mapping is zeroed, aligned to a page and as long as the word, and outlives the
    // borrow.
    let calls = unsafe { counts.base().cast::<AtomicU64>().as_ref() };
    let park = Counting { park, calls };
    // What the processes need to meet does not count.
    dialogue::<N>(run, &park, &mut there, &mut back, |i| {
        if i == run.warm() {
            calls.store(0, Ordering::Relaxed);
        }
    })?;
    Ok(calls.load(Ordering::Relaxed) as f64 / (2 * run.count) as f64)
}

fn dialogue<const N: usize>(
    run: Run,
    park: &impl Park,
    there: &mut Ends<'_>,
    back: &mut Ends<'_>,
    mut before: impl FnMut(u64),
) -> Result<Duration, String> {
    let memory = Region::shared(2 * LINE).map_err(|e| e.to_string())?;
    // SAFETY: the mapping is zeroed, and nothing else is in it.
    let words = unsafe { region::Region::new(memory.base(), memory.size()) };
    let word = |n: usize| {
        let part = words.part(n * LINE, size_of::<WakeWord>()).expect("within the region");
        WakeWord::at(&part).expect("large enough and aligned")
    };
    let (asked, answered) = (word(0), word(1));
    let (mut asks, mut hears) = (asked.notifier(), asked.waiter());
    let (mut answers, mut learns) = (answered.notifier(), answered.waiter());
    let template = Template::<N>::new();
    run.time(
        |i| {
            before(i);
            assert!(there.0.try_send(template.frame(i)), "full, in a dialogue");
            asks.notify(park);
            back.1.wait(&mut learns, park, Deadline::NEVER);
            assert!(back.1.try_recv(template.frame(i)), "woken for nothing");
        },
        |i| {
            there.1.wait(&mut hears, park, Deadline::NEVER);
            assert!(there.1.try_recv(template.frame(i)), "woken for nothing");
            assert!(back.0.try_send(template.frame(i)), "full, in a dialogue");
            answers.notify(park);
        },
    )
}

/// The least that any such trip takes when both sleep: two words, and for each a wake and a sleep.
///
/// # Errors
///
/// When a process cannot be started, or fails.
pub fn futexes(run: Run) -> Result<Duration, String> {
    #[repr(C, align(128))]
    struct Line(atomic::AtomicU32);

    let region = Region::shared(size_of::<[Line; 2]>()).map_err(|e| e.to_string())?;
    // SAFETY: the mapping is zeroed, aligned to a page and as long as the two lines, and
    // outlives the borrow.
    let [there, back] = unsafe { region.base().cast::<[Line; 2]>().as_ref() };
    let word = |i: u64| (i as u32).wrapping_add(1);
    let send = |line: &Line, i| {
        line.0.store(word(i), Ordering::Release);
        wake(&line.0, Flags::empty(), 1).expect("a mapped word");
    };
    let receive = |line: &Line, i| {
        while line.0.load(Ordering::Acquire) != word(i) {
            // Woken, or changed before; looked at again in each case.
            let _ = wait(&line.0, Flags::empty(), word(i).wrapping_sub(1), None);
        }
    };
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

/// Counts what is a system call.
struct Counting<'a, P> {
    park: &'a P,
    calls: &'a AtomicU64,
}

impl<P: Park> Park for Counting<'_, P> {
    fn now(&self) -> u64 {
        self.park.now()
    }
    fn wait(&self, word: &AtomicU32, expected: u32, until: u64) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.park.wait(word, expected, until);
    }
    fn wake(&self, word: &AtomicU32) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.park.wake(word);
    }
    fn spins(&self) -> bool {
        self.park.spins()
    }
}
