//! What happened, and where the main loop was when it did. Loads and stores, no
//! read-modify-write: a Cortex-M0 has none, and every word here has one writer.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// A count with one writer.
#[derive(Debug)]
pub struct Count(AtomicU32);

impl Count {
    const fn new() -> Self {
        Self(AtomicU32::new(0))
    }
    /// One more. For the writer.
    pub fn add(&self) {
        self.0.store(self.get().wrapping_add(1), Relaxed);
    }
    /// How many so far.
    pub fn get(&self) -> u32 {
        self.0.load(Relaxed)
    }
}

/// What the main loop is at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Activity {
    /// Nothing of interest.
    Elsewhere,
    /// Inside `pop`, `read` or `release`.
    Taking,
    /// Reading a frame in place.
    Holding,
    /// Inside `wait`, not asleep: it polls, or is about to park.
    Deciding,
    /// Inside the park's `wait`.
    Sleeping,
}

/// Counts by what the main loop was at; written by the interrupt.
#[derive(Debug)]
pub struct Tally([Count; 5]);

impl Tally {
    const fn new() -> Self {
        Self([const { Count::new() }; 5])
    }
    /// One more, now.
    pub fn add(&self) {
        if let Some(count) = self.0.get(DOING.load(Relaxed) as usize) {
            count.add();
        }
    }
    /// How many came during `activity`.
    pub fn get(&self, activity: Activity) -> u32 {
        self.0[activity as usize].get()
    }
    /// How many came at all.
    pub fn total(&self) -> u32 {
        self.0.iter().map(Count::get).sum()
    }
}

/// Written by the main loop.
static DOING: AtomicU32 = AtomicU32::new(Activity::Elsewhere as u32);

/// Interrupts.
pub static LANDED: Tally = Tally::new();
/// Calls of the park's `wake`.
pub static WAKES: Tally = Tally::new();
/// Messages refused by a full ring; written by the interrupt.
pub static REFUSED: Count = Count::new();

/// Sleeps begun while nobody had woken yet; written by the main loop, as are the following.
pub static SLEEPS: Count = Count::new();
/// Sleeps ended by a wake.
pub static WOKEN: Count = Count::new();
/// Sleeps ended by their time limit.
pub static TIMED_OUT: Count = Count::new();
/// Sleeps ended only after an interrupt later than the one that woke, while it was not
/// [`BUSY`].
pub static LATE: Count = Count::new();
/// Times the core was asked to sleep.
pub static PASSES: Count = Count::new();

/// Whether the interrupt may work so long that the next one follows before the main loop has a
/// turn; written by the interrupt, as is the next.
pub static BUSY: AtomicBool = AtomicBool::new(false);
/// The number of the interrupt that last woke.
pub static LAST_WAKE: AtomicU32 = AtomicU32::new(0);

/// Does `work` while the main loop is said to be at `activity`.
pub fn during<R>(activity: Activity, work: impl FnOnce() -> R) -> R {
    let before = DOING.load(Relaxed);
    DOING.store(activity as u32, Relaxed);
    let result = work();
    DOING.store(before, Relaxed);
    result
}
