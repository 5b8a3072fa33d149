//! Who lives, with real processes: killed, stopped, forked, executed, left behind, in other
//! namespaces.
//!
//! A test starts this very binary again and tells it through its standard input what to do.

mod child;
mod lock;
mod pidfd;
mod table;
mod watch;
