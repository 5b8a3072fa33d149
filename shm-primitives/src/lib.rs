//! Lock-free structures that live in memory shared between cores or processes: `no_std`,
//! no allocator, tolerant of a peer that dies between any two stores, and verified by loom,
//! by crash points and by fuzzing.
//!
//! # What to use
//!
//! | you have | use |
//! |---|---|
//! | small items in bulk: samples, bytes for DMA, handles | [`ring::spsc`] |
//! | messages of any length | [`ring::frame`] |
//! | large messages, read in place by any number of subscribers | [`pool`] |
//! | waiting for either, and waking who waits | [`wake`] |
//! | one receiver of many rings | [`ready`] |
//! | one receiver of senders that come, go and die | [`lane`] |
//! | calls to a worker that may die, and their replies | [`channel`] |
//! | workers that come and go at places, their supervisor and their clients | [`place`] |
//! | the header of a message, ids of calls | [`message`] |
//! | a call that one of several may end: its reply, a death, its time | [`completion`] |
//! | places that several processes take and leave: members, workers, heartbeats | [`table`] |
//! | several structures in one piece of memory, opened as one | [`segment`] |
//! | the segments of a service and of a registry of nodes | [`layout`] |
//! | a supervisor that must know what a worker died of | [`monitor`] |
//! | how many messages, how many bytes: numbers that outlive who counts | [`counter`] |
//! | atomics of your own that loom should see | [`sync`] |
//!
//! # How to have it
//!
//! - **Within one process**, a ring is a value: make it, `split` it, move the ends to their
//!   threads, or one to an interrupt.
//! - **Between processes or cores**, a ring is made in a [`Region`](region::Region) of memory
//!   that both see: `init_at` on one side, `attach` on the other, and each claims its end under
//!   its [`OwnerId`](identity::OwnerId). An end whose owner is proven
//!   [`Dead`](identity::Dead) is taken over with `recover_*`.
//! - **Between those who do not trust each other**, `attach_untrusted`: values are copied, then
//!   looked at, and whatever stands in the memory costs an error at the most.
//!
//! The crate knows no operating system. It never allocates or makes a system call, and blocks
//! nowhere but in [`wake::Waiter::wait`] and [`wake::Relay::wait`], in the way the caller's
//! [`wake::Park`] says.
//!
//! # Features
//!
//! - `checksum` (default): CRC32C of frames.
//! - `critical-section`, `unsafe-assume-single-core`: read-modify-writes on targets without
//!   compare-and-swap, by portable-atomic. Claiming and recovering ends needs them, and so do
//!   shared notifiers, the ready bitmap, channels, slot tables and pools.
//! - `loom`: with `--cfg loom`, and not otherwise, the atomics are loom's.
#![no_std]
#![deny(missing_docs, unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

#[cfg(any(test, crash_points, all(loom, feature = "loom")))]
extern crate std;

// What is claimed by compare-and-swap: there is no other way to have any of it.
sync::with_read_modify_write! {
    pub mod channel;
    pub mod completion;
    pub mod lane;
    pub mod leader;
    pub mod place;
    pub mod pool;
    pub mod table;

    // Made of memory from elsewhere, which loom has none of.
    #[cfg(not(all(loom, any(test, feature = "loom"))))]
    pub mod layout;
}
pub mod counter;
pub mod identity;
mod latch;
pub mod message;
pub mod monitor;
pub mod part;
pub mod ready;
pub mod region;
pub mod ring;
pub mod segment;
pub mod sync;
pub mod wake;

/// Sites of what is claimed by nobody, or by loads and stores.
const SITES: &[&[sync::Site]] = &[
    part::SITES,
    ring::spsc::SITES,
    ring::frame::SITES,
    wake::SITES,
    ready::SITES,
    latch::SITES,
    segment::SITES,
    counter::SITES,
];

sync::with_read_modify_write! {
    /// And of what is claimed by compare-and-swap.
    const CLAIMED: &[&[sync::Site]] =
        &[
            channel::SITES,
            table::SITES,
            pool::SITES,
            place::SITES,
            completion::SITES,
            leader::SITES,
        ];
}

/// Every place whose memory ordering matters, with its partner and the model that fails when it is
/// weakened: of all modules, one after the other.
pub fn sites() -> impl Iterator<Item = &'static sync::Site> {
    let modules = SITES.iter();
    #[cfg(any(
        target_has_atomic = "32",
        feature = "critical-section",
        feature = "unsafe-assume-single-core"
    ))]
    let modules = modules.chain(CLAIMED);
    modules.flat_map(|module| module.iter())
}
