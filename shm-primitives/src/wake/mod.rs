//! Waiting and waking: a word in shared memory, and a small trait for whoever sleeps.
//!
//! Spinning costs a core, and waking a sleeper costs a hundred times a message. So a waiter
//! spins first, for as long as it has learned that this pays, and only then says in the
//! [`WakeWord`] that it parks; a sender that finds it awake does no more than a fence and a
//! load. What parking means is the caller's: a futex, a semaphore of an RTOS, WFE and SEV, or
//! spinning on, by the trait [`Park`].
//!
//! # Memory
//!
//! ```text
//! offset  size
//!      0     4  sequence  u32  changes with every wake; what a futex waits on   the notifiers
//!      4     4  epoch     u32  odd: the waiter is parked, or about to be        the waiter
//! ```
//!
//! One waiter a word; any number of notifiers. Every value of both words is valid.
//!
//! # Who does what, in which order
//!
//! | waiter, for every wait anew | notifier |
//! |---|---|
//! | reads `sequence` | publishes: stores its message |
//! | stores a fresh odd `epoch` | **fence** ([`published`]) |
//! | **fence** | loads `epoch`; even, or answered by this notifier already: done |
//! | looks again whether what it waits for is there | changes `sequence` |
//! | sleeps while `sequence` is what it read, 100 ms at the most | wakes |
//! | stores `epoch + 1`, even | |
//!
//! **No wake is lost.** Both fences are sequentially consistent, so one comes first. If the
//! notifier's does, the waiter looks again after it and sees the message. If the waiter's does,
//! the notifier loads the odd epoch. Then it changes `sequence` before it wakes; and what the
//! waiter read of it was older: it read it, Acquire, before it stored the epoch, and the change,
//! Release, comes after the epoch was read. So the waiter, if it is not asleep yet, does not fall
//! asleep. An epoch a notifier answered needs no second answer from it, for the same reason:
//! whatever it publishes later, the sleep in that epoch is one that its change ends.
//!
//! **The fence is not a publication.** What the waiter looks at needs an ordering of its own, as
//! the rings' positions have: a store Release, whose partner is `ready`'s load, Acquire. With a
//! Relaxed store only what goes through this fence is ordered, and a waiter that happens to look
//! before it sees the word without what it stands for.
//!
//! A waiter that sleeps in epoll or in an async runtime has a [`Relay`] sleep here for it.
//!
//! A futex as a [`Park`] is some thirty lines: `examples/downstream/src/park.rs` in the repository.
//! A link with messages both ways whose ends also wait for room has four words: one for each wait.
//!
//! A notifier that is the word's only one changes `sequence` by a load and a store
//! ([`WakeWord::notifier`], on any core); several need a read-modify-write
//! ([`WakeWord::shared_notifier`]): a store of what one of them computed before could take back
//! the change another makes for the next sleep.
//!
//! # Crash
//!
//! | who dies | where | what is left |
//! |---|---|---|
//! | notifier | before it has woken | its message is there, and the waiter finds it when its sleep ends: after 100 ms at the most, or at once when whoever convicts the dead one notifies in its place |
//! | waiter | with an odd epoch | each notifier wakes nobody, once; the successor goes on from that epoch with a fresh one |
//!
//! # Trust
//!
//! Whatever a hostile peer writes into either word costs time: a wake too many, or a sleep of
//! 100 ms. What is waited for is decided by the caller's own condition alone, and it is what
//! has to check what it reads.
//!
//! That a sender should not make a system call for a waiter that is awake is shaq's and every
//! futex lock's idea; the epoch, which spares a burst of messages all wakes but one, is this
//! crate's.
//!
//! # Example
//!
//! ```
//! use shm_primitives::ring::spsc::SpscRing;
//! use shm_primitives::wake::{Deadline, SpinPark, WakeWord};
//! use std::time::{Duration, Instant};
//!
//! let mut ring = SpscRing::<u32, 8>::new();
//! let (mut producer, mut consumer) = ring.split();
//! let word = WakeWord::new();
//! let begun = Instant::now();
//! let park = SpinPark::new(move || begun.elapsed().as_nanos() as u64);
//!
//! std::thread::scope(|scope| {
//!     scope.spawn(|| {
//!         let mut notifier = word.notifier();
//!         producer.push(7).unwrap();
//!         notifier.notify(&park);
//!     });
//!     let mut waiter = word.waiter();
//!     let deadline = Deadline::after(&park, Duration::from_secs(60));
//!     assert_eq!(consumer.pop_wait(&mut waiter, &park, deadline), Ok(7));
//! });
//! ```

mod park;
mod relay;
mod spin;
mod waiter;
mod word;

#[cfg(all(loom, any(test, feature = "loom")))]
pub use park::LoomPark;
pub use park::{Deadline, Park, SpinPark};
pub use relay::{Relay, RelayedWaiter};
pub use waiter::{Look, Waiter};
pub use word::{Fenced, Notifier, WakeWord, published};

use crate::sync::sites;

sites! { SITES
    /// The sequence, before the epoch that the waiter then says it sleeps in: a change that
    /// answers an epoch is never what the sleep in it begins with.
    SLEEPING = "wake.sleeping", Acquire, partner "wake.answering",
        [Relaxed => Limit("loom has no load buffering: it never lets the epoch's store overtake this load, as a core may; the model wake_answered guards the order in the program")];
    /// The sequence's change, after the epoch that it answers was read.
    ANSWERING = "wake.answering", Release, partner "wake.sleeping, wake.relaying",
        [Relaxed => Limit("loom has no load buffering: it never lets this store overtake the load of the epoch, as the language allows")];
    /// The waiter's epoch, before it looks again: either it sees the message, or the notifier
    /// sees the epoch.
    PARKING = "wake.parking", SeqCst, partner "wake.published",
        [AcqRel => Model("wake_park")];
    /// What was published, before the look whether somebody has to be told: at the epoch, or
    /// at a lane's ready bit.
    PUBLISHED = "wake.published", SeqCst, partner "wake.parking, ready.cooling",
        [AcqRel => Model("wake_park")];
    /// The sequence, before the relay wakes the waiter: what was published before it changed is
    /// there for who is woken so.
    RELAYING = "wake.relaying", Acquire, partner "wake.answering",
        [Relaxed => Model("wake_relay")];
}
