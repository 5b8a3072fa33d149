//! Services as their users see them: servers, workers and clients together, each worker a process.
#![cfg(target_os = "linux")]

#[path = "../segment_help/mod.rs"]
mod segment_help;

mod bad_input;
mod help;
mod hostile;
mod server;
mod stuck;
mod supervisor;
mod worker;
