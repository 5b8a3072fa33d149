//! Supervised services: workers that may crash, and callers that never notice more than an error.

mod clock;
#[allow(dead_code, reason = "for all three sides")]
mod failure;
#[allow(dead_code, reason = "for all three sides")]
mod mapped;
#[allow(dead_code, reason = "for all three sides")]
mod name;
pub mod worker;

#[cfg(test)]
#[allow(dead_code, reason = "not every side uses all of it")]
mod bare;

pub use worker::{HandlerError, Reply, ReplyGrant, Request, Worker, WorkerError};
