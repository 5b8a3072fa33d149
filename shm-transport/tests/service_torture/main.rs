//! Services under load, with everything that can die dying, and for long. Servers, workers and
//! clients are processes: this program, started again.
#![cfg(target_os = "linux")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../segment_help/mod.rs"]
mod segment_help;

mod account;
#[cfg(crash_points)]
mod crashes;
mod help;
mod roles;
mod soak;
mod torture;
