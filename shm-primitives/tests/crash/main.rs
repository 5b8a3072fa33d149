//! Death at every step of every operation, and what the survivors find.
//!
//! ```text
//! RUSTFLAGS="--cfg crash_points" cargo test -p shm-primitives --test crash
//! ```
#![cfg(crash_points)]

mod channel;
#[path = "../common/mod.rs"]
mod common;
mod counter;
mod frame;
mod harness;
mod lane;
mod layout;
mod letters;
mod monitor;
mod pool;
mod ready;
mod segment;
mod service;
mod spsc;
mod table;
mod wake;
