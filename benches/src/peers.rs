//! The peers of this process, each used as its documentation advises.

pub mod bbqueue;
pub mod crossbeam;
pub mod heapless;
pub mod kanal;
pub mod ringbuf;
pub mod rtrb;
pub mod udp;
