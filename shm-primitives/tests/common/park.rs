//! Parks for tests: one with a clock of its own making, one that really sleeps.

use super::Patience;
use shm_primitives::sync::AtomicU32;
use shm_primitives::wake::Park;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// The longest sleep a waiter may ask for, in nanoseconds.
pub const BOUND: u64 = 100_000_000;

/// What passes on a [`FakePark`]'s clock at each look, in nanoseconds.
pub const TICK: u64 = 1000;

/// More than any test sleeps on one [`FakePark`].
const MOST_SLEEPS: u32 = 10_000;

/// A park of one thread and no real time. Its clock advances a little at each look, and to the
/// end of a sleep.
#[derive(Default)]
pub struct FakePark {
    now: Cell<u64>,
    looks: Cell<u32>,
    sleeps: Cell<u32>,
    wakes: Cell<u32>,
}

impl FakePark {
    /// A park whose clock shows 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, its clock at `now`.
    pub fn at(now: u64) -> Self {
        let this = Self::default();
        this.now.set(now);
        this
    }

    /// The same park to a waiter in whose next sleep something happens; see [`Scene`].
    pub fn asleep<'a>(&'a self, event: impl FnOnce(&FakePark) + 'a) -> Scene<'a> {
        self.awake().then(event)
    }

    /// The same park to a waiter in whose sleeps nothing happens.
    pub fn awake(&self) -> Scene<'_> {
        Scene { park: self, events: RefCell::default() }
    }

    /// What the clock shows; no look of the waiter's.
    pub fn time(&self) -> u64 {
        self.now.get()
    }

    /// How often the clock was looked at.
    pub fn looks(&self) -> u32 {
        self.looks.get()
    }

    /// How often somebody fell asleep.
    pub fn sleeps(&self) -> u32 {
        self.sleeps.get()
    }

    /// How often somebody was woken, asleep or not: a system call each.
    pub fn wakes(&self) -> u32 {
        self.wakes.get()
    }

    fn sleep(&self, word: &AtomicU32, expected: u32, until: u64, event: impl FnOnce()) {
        let limit = self.now.get().saturating_add(BOUND);
        assert!(until <= limit, "asked to sleep until {until}, later than {limit}");
        if word.load(Relaxed) != expected || self.now.get() >= until {
            return;
        }
        self.sleeps.set(self.sleeps.get() + 1);
        assert!(self.sleeps.get() < MOST_SLEEPS, "waits in vain");
        let wakes = self.wakes.get();
        event();
        if self.wakes.get() == wakes {
            self.now.set(until.max(self.now.get()));
        } else {
            assert_ne!(word.load(Relaxed), expected, "woken before the word was changed");
        }
    }
}

impl Park for FakePark {
    fn now(&self) -> u64 {
        self.looks.set(self.looks.get() + 1);
        self.now.set(self.now.get() + TICK);
        self.now.get()
    }
    fn wait(&self, word: &AtomicU32, expected: u32, until: u64) {
        self.sleep(word, expected, until, || {});
    }
    fn wake(&self, _word: &AtomicU32) {
        self.wakes.set(self.wakes.get() + 1);
    }
}

type Event<'a> = Box<dyn FnOnce(&FakePark) + 'a>;

/// What others do while the waiter sleeps: in its first sleep the first event, in its next the
/// second. A wake among it ends that sleep at once. All of it has to happen.
pub struct Scene<'a> {
    park: &'a FakePark,
    events: RefCell<VecDeque<Event<'a>>>,
}

impl<'a> Scene<'a> {
    /// What happens in the sleep after the last one told of.
    pub fn then(self, event: impl FnOnce(&FakePark) + 'a) -> Self {
        self.events.borrow_mut().push_back(Box::new(event));
        self
    }
}

impl Park for Scene<'_> {
    fn now(&self) -> u64 {
        self.park.now()
    }
    fn wait(&self, word: &AtomicU32, expected: u32, until: u64) {
        self.park.sleep(word, expected, until, || {
            let event = self.events.borrow_mut().pop_front();
            if let Some(event) = event {
                event(self.park);
            }
        });
    }
    fn wake(&self, word: &AtomicU32) {
        self.park.wake(word);
    }
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        let left = self.events.get_mut().len();
        assert!(left == 0 || std::thread::panicking(), "{left} sleeps that were not slept");
    }
}

/// What an operating system would do, made of a mutex and a condition variable.
pub struct CondvarPark {
    begun: Instant,
    wakes: Mutex<u32>,
    woken: Condvar,
    patience: Patience,
}

impl CondvarPark {
    pub fn new(patience: Patience) -> Self {
        Self { begun: Instant::now(), wakes: Mutex::new(0), woken: Condvar::new(), patience }
    }
}

impl Park for CondvarPark {
    fn now(&self) -> u64 {
        self.begun.elapsed().as_nanos() as u64
    }

    fn wait(&self, word: &AtomicU32, expected: u32, until: u64) {
        let mut wakes = self.wakes.lock().unwrap();
        if word.load(Relaxed) != expected {
            return;
        }
        let before = *wakes;
        // As a futex: from here on only a wake or the time ends it, not the word.
        while *wakes == before && self.now() < until {
            let left = Duration::from_nanos(until - self.now().min(until));
            // Now and then it looks whether the test has failed elsewhere.
            let piece = left.min(Duration::from_millis(20));
            wakes = self.woken.wait_timeout(wakes, piece).unwrap().0;
            self.patience.wait();
        }
    }

    fn wake(&self, _word: &AtomicU32) {
        *self.wakes.lock().unwrap() += 1;
        self.woken.notify_all();
    }
}

/// A park whose sleeps end by a wake alone: a lost one is a test that waits in vain.
pub struct Unbounded<P>(pub P);

impl<P: Park> Park for Unbounded<P> {
    fn now(&self) -> u64 {
        self.0.now()
    }
    fn wait(&self, word: &AtomicU32, expected: u32, _until: u64) {
        self.0.wait(word, expected, u64::MAX);
    }
    fn wake(&self, word: &AtomicU32) {
        self.0.wake(word);
    }
}

/// A clock for spinning parks: it runs so fast that nobody spins for long before he parks, and
/// lets others run.
pub fn hasty_clock(patience: Patience) -> impl Fn() -> u64 + Send + Sync {
    let now = AtomicU64::new(0);
    move || {
        patience.wait();
        now.fetch_add(10_000, Relaxed)
    }
}
