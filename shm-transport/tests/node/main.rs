//! Nodes, with real processes: they join, send, are killed, stopped and continued, and in the end
//! everything that was accepted has arrived, and nothing is left.
//!
//! A test starts this very binary again and tells it through its standard input what to do: see
//! `child`.
#![cfg(target_os = "linux")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../segment_help/mod.rs"]
mod segment_help;

mod bad_input;
mod basic;
mod broadcast;
mod child;
mod death;
mod forks;
mod help;
mod large;
mod local;
mod messaging;
mod policies;
mod spoilt;
mod stress;
mod torture;
mod watching;
