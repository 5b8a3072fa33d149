//! A transport of your own on [`shm_primitives`]: a process hands requests to a worker process
//! and gets them back in capitals, and when the worker is killed it does the rest itself.
//!
//! | module | what is yours in it |
//! |---|---|
//! | `memory` | the memory: a sealed memfd, mapped by each process for itself |
//! | `park` | how to sleep and wake: a futex |
//! | [`pipe`] | a structure: a frame ring, its wake words, and a word of your own |
//! | [`link`] | a protocol: two pipes, numbered requests, taking over |
//! | `worker` | identity and the proof of death: a child process, waited for |
//! | `models` | your loom models of the structure |
#![deny(missing_docs, unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

pub mod link;
#[cfg(not(loom))]
pub mod memory;
#[cfg(all(loom, test))]
mod models;
#[cfg(not(loom))]
pub mod park;
pub mod pipe;
#[cfg(not(loom))]
pub mod worker;
