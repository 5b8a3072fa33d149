//! Services as their users see them: servers, workers and clients together, each worker a process.
#![cfg(target_os = "linux")]

#[path = "../segment_help/mod.rs"]
mod segment_help;

mod bad_input;
mod deserted;
mod help;
mod hostile;
mod options;
mod server;
mod stick;
mod stuck;
mod supervisor;
mod worker;
