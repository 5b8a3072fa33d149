//! The peers that stable builds, each used as its documentation advises.

pub mod bbqueue;
pub mod crossbeam;
pub mod heapless;
#[cfg(feature = "iceoryx2")]
pub mod iceoryx2;
pub mod kanal;
pub mod ringbuf;
pub mod rtrb;
