//! Compares the rings of `shm-primitives` and the nodes of `shm-transport` with their peers, on two
//! CPUs of one machine.
//!
//! A peer implements the traits of [`traffic`], and the same generic loops of [`stream`],
//! [`round_trip`], [`one_way`] and [`steady`] drive every one of them. Linux only: threads are
//! pinned, processes forked and memory shared by its system calls.

pub mod chunk;
pub mod errand;
pub mod frame;
pub mod one_way;
pub mod pace;
pub mod pin;
pub mod process;
pub mod region;
pub mod round_trip;
pub mod spin;
pub mod steady;
pub mod stream;
pub mod traffic;

#[cfg(feature = "compare")]
pub mod apart;
#[cfg(feature = "compare")]
pub mod bench;
#[cfg(feature = "compare")]
pub mod dialogue;
#[cfg(feature = "compare")]
pub mod groups;
#[cfg(feature = "compare")]
pub mod measure;
#[cfg(feature = "compare")]
pub mod ours;
#[cfg(feature = "compare")]
pub mod peers;
#[cfg(feature = "compare")]
pub mod report;
