//! Supervised services: workers that may crash, and callers that never notice more than an error.

pub mod client;
mod clock;
#[allow(dead_code, reason = "for all three sides")]
mod failure;
#[allow(dead_code, reason = "for all three sides")]
mod mapped;
#[allow(dead_code, reason = "for all three sides")]
mod name;
#[allow(dead_code, reason = "for all three sides")]
mod role;
pub mod server;
pub mod view;
pub mod worker;

#[cfg(test)]
#[allow(dead_code, reason = "not every side uses all of it")]
mod bare;

pub use client::{Batch, Call, CallError, Client, ClientBuilder, ClientState, ConnectError};
pub use server::{
    DeadLetter, EXIT_NEVER, Function, Hang, Program, Restart, Server, ServerBuilder, ServerError,
    ServiceState, Strategy, WorkerInfo,
};
pub use shm_primitives::message::Priority;
pub use shm_primitives::place::Cause;
pub use worker::{HandlerError, Reply, ReplyGrant, Request, Worker, WorkerError};
