//! How tests have other processes: this program again, told what to do by lines, and forks.
//!
//! For test files that have `segment_help` too.
#![allow(dead_code, reason = "not every test uses all of it")]

pub mod child;
pub mod fork;
