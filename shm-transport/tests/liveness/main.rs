//! Who lives, with real processes: killed, stopped, forked, executed, left behind, in other
//! namespaces.
//!
//! A test starts this very binary again and tells it through its standard input what to do.

mod child;
#[path = "../common/mod.rs"]
mod common;
mod lock;
mod pidfd;
#[path = "../segment_help/mod.rs"]
mod segment_help;
mod table;
mod watch;
