//! Models of every structure of `shm-primitives`.
//!
//! Each model is a small concurrent program whose every interleaving, and every
//! value an atomic load may return, [loom](https://docs.rs/loom) explores. Run them
//! with
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p loom-tests --release --features loom
//! ```
//!
//! and with `--cfg crash_points` added to `RUSTFLAGS` for the models in which a
//! thread may die at any of its stores. Without `--cfg loom` this crate is empty.
//!
//! The binary `weaken` weakens one ordering after the other and expects the model
//! named at its site to fail; `docs/orderings.md` is made by it.
#![deny(missing_docs, unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

#[cfg(loom)]
mod harness;
#[cfg(loom)]
pub mod models;
