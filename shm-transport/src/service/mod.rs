//! Supervised services: workers that may crash, and callers that never notice more than an error.

mod failure;
mod mapped;
mod name;
mod role;
mod server;

pub use server::{
    DeadLetter, EXIT_NEVER, Function, Hang, Program, Restart, Server, ServerBuilder, ServerError,
    ServiceState, Strategy, WorkerInfo,
};
