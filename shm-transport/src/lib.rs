//! Messaging between the processes of one machine over POSIX shared memory.
//!
//! The structures it is made of are in [`shm_primitives`], and proven there; this crate adds what
//! needs an operating system, and makes no atomic access of its own to shared memory.
//!
//! | you have | use |
//! |---|---|
//! | processes that send one another messages by name: start here | [`node`] |
//! | functions to call in processes that may crash, and should be started again then | [`service`] |
//! | processes that should meet, or must not | [`domain`] |
//! | settings, in a file, the environment or the program | [`config`] |
//! | memory that several processes map | [`segment`] |
//! | a process that takes part in a domain | [`member`] |
//! | to know who lives, and proof of who does not | [`liveness`] |
//! | a process that waits for another | [`park`] |
//! | one that waits in epoll, or in an async runtime | [`event`] |
//!
//! Linux is what is tested. Other Unixes have segments, by other means, and parks that sleep for a
//! millisecond at a time; they have no [`liveness`], and so no [`member`], no [`node`], no [`service`]
//! and no proof of a death.
#![deny(missing_docs, unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

pub mod config;
pub mod domain;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod escape;
#[cfg(any(target_os = "linux", target_os = "android"))]
pub mod event;
mod fork;
#[cfg(any(target_os = "linux", target_os = "android"))]
pub mod liveness;
#[cfg(any(target_os = "linux", target_os = "android"))]
pub mod member;
#[cfg(any(target_os = "linux", target_os = "android"))]
pub mod node;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod ofd;
pub mod park;
pub mod segment;
#[cfg(any(target_os = "linux", target_os = "android"))]
pub mod service;

// The README's examples are this crate's tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
