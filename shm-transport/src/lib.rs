//! Messaging between the processes of one machine over POSIX shared memory.
//!
//! Nothing is here yet: the structures it will be made of are being built and
//! proven in [`shm_primitives`] first.
#![deny(missing_docs, unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

pub mod liveness;
