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

pub mod frame;
mod lockstep;
pub mod spsc;
