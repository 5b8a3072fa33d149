//! Waiting for shared memory in epoll, poll or an async runtime.
//!
//! A wake word is a futex, and epoll knows no futexes. An eventfd has no name that another process
//! could open, so no sender can write to the receiver's. Between the two stands a thread of the
//! receiver's process: it sleeps at the wake word and writes the process's own eventfd when the
//! word changes. That is a [`ReadyFd`]. For the senders nothing is different.
//!
//! # Who does what
//!
//! ```text
//! sender's process          receiver's process
//!                           thread of the bridge         thread of the consumer
//! publishes                 sleeps at the sequence       arm: odd epoch, fence, looks: nothing
//! fence, odd epoch?                                      sleeps in epoll
//! changes the sequence
//! wakes ------------------> reads the sequence
//!                           writes the eventfd --------> is woken
//!                                                        clear: reads the eventfd, even epoch
//! publishes                                              reads messages
//! fence, even epoch: done                                arm: odd epoch, fence, looks: goes on
//! ```
//!
//! The thread touches nothing but the wake word; all looking is the consumer's, with the end of
//! the ring that it has anyway. So there is no second observer of a ring, no lock, and no message
//! passes through the thread. While the consumer is awake, no sender makes a system call for it,
//! the thread sleeps, and `arm` is two stores and a fence at the most. It costs one more thread
//! switch than waiting at the word itself, when the consumer sleeps.
//!
//! # The descriptor
//!
//! It is readable from the moment something may be there until [`clear`](ReadyFd::clear), so
//! level-triggered polling sees it for as long; each write is an edge for those who ask for edges.
//! It begins readable: the first look is the consumer's. The pattern is that of the ready
//! bitmap's `cool`, clear and then look again:
//!
//! 1. poll;
//! 2. [`clear`](ReadyFd::clear);
//! 3. read all there is;
//! 4. [`arm`](ReadyFd::arm). True means that something came meanwhile: back to 3; false: back
//!    to 1.
//!
//! **No wake is lost.** That the sequence changes, or `arm` finds the message, is shown at
//! [`RelayedWaiter`]; the model `wake_relay` explores it. The change is seen by the thread, since
//! it sleeps only while the sequence is what it remembers, and writes the eventfd after every
//! other value. The write is not taken back by a `clear`: the change answers an epoch that is
//! stored after the last `clear`, and the next comes after the poll that the write ends.
//!
//! **A sender killed between publishing and waking** wakes nobody. So the thread writes the
//! eventfd at each bound of its sleep, every 100 ms, and an idle consumer looks, and arms again.
//! It also means that a consumer that forgot to arm is slow and not deaf.
//!
//! # One waiter a word
//!
//! While there is a bridge, it is the word's waiter. Somebody asleep there as well, by
//! [`Waiter::wait`](shm_primitives::wake::Waiter::wait), and the thread would take each other's
//! wakes: each then waits for up to 100 ms.
//!
//! # Threads, signals, forks
//!
//! The thread blocks all signals, so that they go where the program expects them. It ends when the
//! `ReadyFd` is dropped, which waits for it: microseconds. A forked child has neither the
//! thread nor, as a rule, the word; its copy means nothing, and dropping it does nothing. But the
//! descriptor is the parent's very own: to read it in the child takes a wake from the parent.
//!
//! # Trust
//!
//! A hostile sender can change the sequence all the time, and cost both threads their time. It
//! cannot make the consumer believe anything.
//!
//! # Example
//!
//! ```
//! use rustix::event::{PollFd, PollFlags, poll};
//! use shm_primitives::ring::spsc::SpscRing;
//! use shm_primitives::wake::WakeWord;
//! use shm_transport::event::ReadyFd;
//! use shm_transport::park::FutexPark;
//! use std::sync::Arc;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut ring = SpscRing::<u32, 8>::new();
//! let (mut producer, mut consumer) = ring.split();
//! // In memory of several processes: what holds the mapping implements `HoldsWord`.
//! let word = Arc::new(WakeWord::new());
//! let mut ready = ReadyFd::new(Arc::clone(&word))?;
//! let mut sum = 0;
//! std::thread::scope(|scope| {
//!     scope.spawn(|| {
//!         let mut notifier = word.notifier();
//!         for number in 1..=5 {
//!             producer.push(number).unwrap();
//!             notifier.notify(&FutexPark::new());
//!         }
//!     });
//!     while sum < 15 {
//!         poll(&mut [PollFd::new(&ready, PollFlags::IN)], None)?;
//!         ready.clear()?;
//!         loop {
//!             while let Ok(number) = consumer.pop() {
//!                 sum += number;
//!             }
//!             // With several rings: any of them.
//!             if !ready.arm(|| !consumer.is_empty()) {
//!                 break;
//!             }
//!         }
//!     }
//!     Ok::<(), Box<dyn std::error::Error>>(())
//! })?;
//! # Ok(()) }
//! ```
//!
//! [`RelayedWaiter`]: shm_primitives::wake::RelayedWaiter

mod bridge;
#[cfg(feature = "tokio")]
mod tokio;

#[cfg(feature = "tokio")]
pub use self::tokio::AsyncReadyFd;
pub(crate) use bridge::without_signals;
pub use bridge::{EventError, HoldsWord, ReadyFd};
