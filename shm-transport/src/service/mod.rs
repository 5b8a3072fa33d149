//! Supervised services: workers that may crash, and callers that never notice more than an error.

pub mod client;
mod clock;
mod failure;
mod mapped;
mod name;
mod role;

pub use client::{Batch, Call, CallError, Client, ClientBuilder, ClientState, ConnectError};
pub use shm_primitives::message::Priority;
pub use shm_primitives::place::Cause;
