//! Whole segments: which parts they have, and what the parts are for.
//!
//! | magic | layout | what it is |
//! |---|---|---|
//! | `PHNX` | [`phoenix`] | one caller's lanes to the workers of a service |
//! | `LRPC` | [`lrpc`] | a registry of nodes, and a piece of memory for each |
//!
//! Each is a [`segment`](crate::segment): header, table, and parts with headers of their own.

pub mod lrpc;
// Ends of channels are claimed by compare-and-swap: there is no other way to have one.
crate::sync::with_read_modify_write! {
    pub mod phoenix;
}

use crate::part::AttachError;
use crate::segment::{PartId, SegmentError};

/// Says which part an error is about.
fn in_part(part: PartId) -> impl Fn(AttachError) -> SegmentError {
    move |error| SegmentError::Part { part, error }
}
