//! The bulk ring: [`SpscRing`].
//!
//! A ring of `N` elements of one type, a power of two, all of them usable. One
//! producer, one consumer; loads and stores alone, so it runs on a core without
//! compare-and-swap, and neither side can block the other by dying.
//!
//! # Memory
//!
//! ```text
//! offset  size
//!      0    64  part header, kind 1                       (see crate::part)
//!     64    64  write      u32   elements ever pushed     written by the producer
//!    128    64  released   u32   elements given back      written by the consumer
//!    192    64  consumed   u32   elements ever popped     written by the consumer
//!    256        elements         element i at (i mod N) × size
//! ```
//!
//! Positions run freely through all of `u32` and wrap; `write - consumed` is at
//! most `N`, `write - released` may be more. Elements begin at the first multiple of
//! their alignment (or of the one chosen at creation) from 256 on. `consumed` is stored
//! with every pop; `released` when a share of the ring has been popped, or the consumer
//! looks for more than it knows of. They differ so that a consumer working through a
//! backlog takes the producer's line seldom: the producer looks at `released` first, and at
//! `consumed` only before it says [`Full`](PushError::Full).
//!
//! # Orderings
//!
//! | store | its partner | what it carries |
//! |---|---|---|
//! | `write`, Release, after the element | consumer's load of `write`, Acquire | the element |
//! | `released`, Release, after reading | producer's load, Acquire | the element has been read, its place may be overwritten |
//! | `consumed`, Release, after reading | producer's second look, Acquire | the same |
//! | owner word, Release, when an end is given back | the claim's compare-and-swap, Acquire | all the former owner did; after a death the proof carries it |
//!
//! # Crash
//!
//! | who dies | where | what is left |
//! |---|---|---|
//! | producer | before the store of `write` | nothing of that push or batch; its successor begins at `write` and overwrites |
//! | producer | after it | the element is whole and arrives |
//! | consumer | before the store of `consumed` | the element in hand is seen again by its successor: once more at the most |
//! | consumer | between `consumed` and `released` | its successor stores `released` when it claims |
//!
//! Nothing published is lost, and at most the elements of one pop, or of one
//! [`read`](Consumer::read), are seen twice. Repair is done by the successor in
//! `recover_*`, which needs proof of the death; nobody else has anything to do.
//!
//! # Trust
//!
//! Each handle keeps capacity, base and its own position for itself. What it reads
//! from the other side is a position; one that is out of range poisons the handle:
//! it says [`Corrupt`](crate::part::Corrupt) from then on and touches nothing.
//!
//! The algorithm is Lamport's queue with each side's cached copy of the other's
//! position, as in Lee, Bu and Chandranmenon's MCRingBuffer (2010).
//!
//! # Example
//!
//! ```
//! use shm_primitives::ring::spsc::SpscRing;
//!
//! let mut ring = SpscRing::<u32, 8>::new();
//! let (mut producer, mut consumer) = ring.split();
//! producer.push(7).unwrap();
//! assert_eq!(consumer.pop(), Ok(7));
//! ```

mod consumer;
mod layout;
mod producer;
mod wait;

pub use consumer::{Consumer, PopError, ReadGrant};
pub use layout::{Options, SpscRing, SpscRingRef};
pub use producer::{Producer, PushError, WriteGrant};

use crate::sync::sites;

sites! { SITES
    /// The producer's position, after the elements it covers.
    PUBLISH = "spsc.publish", Release, partner "spsc.observe",
        [Relaxed => Model("spsc_push_pop")];
    /// The producer's position, before its elements are read.
    OBSERVE = "spsc.observe", Acquire, partner "spsc.publish",
        [Relaxed => Model("spsc_push_pop")];
    /// The consumer's released position, after the elements were read.
    RELEASE = "spsc.release", Release, partner "spsc.reuse",
        [Relaxed => Model("spsc_wrap_released")];
    /// The consumer's released position, before its places are overwritten.
    REUSE = "spsc.reuse", Acquire, partner "spsc.release",
        [Relaxed => Model("spsc_wrap_released")];
    /// The consumer's own position, after the elements were read.
    CONSUMED = "spsc.consumed", Release, partner "spsc.second-look",
        [Relaxed => Model("spsc_wrap_consumed")];
    /// The consumer's own position, before the producer that found no released
    /// place overwrites one.
    SECOND_LOOK = "spsc.second-look", Acquire, partner "spsc.consumed",
        [Relaxed => Model("spsc_wrap_consumed")];
}

/// How many elements a consumer may have popped without storing `released`, as a
/// share of the capacity: an eighth.
const RELEASE_SHARE: u32 = 8;
