//! Single-producer, single-consumer rings.
//!
//! Two, because small items in bulk and messages want opposite things:
//!
//! - [`spsc`]: fixed-size elements, the position published in an index once a
//!   push or once a batch, contiguous slices in and out. Samples, bytes for DMA,
//!   handles.
//! - [`frame`]: messages of any length, each carrying its own ready word in the
//!   line its first bytes are in, so that one cache line moves for a small message
//!   instead of two or three.
//!
//! Several producers are several rings.
//!
//! # What is done about cache lines
//!
//! Between two cores the time of a message is the time of the cache lines that move for it.
//! Where the target has caches (x86-64, AArch64):
//!
//! - the writing end asks for the lines it will write next before it writes them, as far as they
//!   are known to be free. A line that the reading end has yet to read is never asked for.
//! - an end that is as quick as the other finds a message or two at each look, and each look
//!   takes a line away from the other end. One that has been in this **lockstep** for a while
//!   holds back before it goes on: once, for 16 spin hints, and only if it found what it looked
//!   for at the second to fifth look. An end that had to wait longer is in a dialogue, and is
//!   never held back.
//!
//! Neither is more than a hint: what is read and written, and in which order, is the same.

pub mod frame;
mod lockstep;
pub mod spsc;
