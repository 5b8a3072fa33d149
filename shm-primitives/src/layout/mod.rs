//! Whole segments: which parts they have, and what the parts are for.
//!
//! | magic | layout | what it is |
//! |---|---|---|
//! | `PHNX` | [`phoenix`] | one caller's lanes to the workers of a service |
//! | `LRPC` | [`lrpc`] | a registry of nodes, and a piece of memory for each |
//! | `NODE` | [`node`] | what one node receives: a lane for each sender |
//! | `SRVC`, `BELL` | [`service`] | what all processes of a service have in common: places, orders, bells |
//! | `LETT` | [`letters`] | the dead letters of a service |
//!
//! Each is a [`segment`](crate::segment): header, table, and parts with headers of their own. And
//! [`HeartbeatPool`] is a part for any of them.

pub mod letters;
pub mod lrpc;
pub mod node;
pub mod phoenix;
pub mod service;

use crate::part::AttachError;
use crate::region::Region;
use crate::segment::{PartId, SegmentError};
use crate::table::SlotTable;

/// Says which part an error is about.
fn in_part(part: PartId) -> impl Fn(AttachError) -> SegmentError {
    move |error| SegmentError::Part { part, error }
}

/// All of a region, once more.
fn whole<'a>(region: &Region<'a>) -> Result<Region<'a>, SegmentError> {
    let len = region.len();
    let too_small = SegmentError::TooSmall { found: len as u64, wanted: len as u64 };
    region.part(0, len).ok_or(too_small)
}

/// A pool of heartbeats: each slot has a holder, the longest time in milliseconds that it means to
/// be silent for, and one live word, which the holder stores whenever it likes: when it did, in
/// milliseconds, or a count.
///
/// It is a [`SlotTable`], which says who writes what and what a death leaves. A heartbeat that
/// stopped makes its holder suspect; only the kernel makes it dead.
///
/// # Example
///
/// ```
/// use shm_primitives::identity::OwnerId;
/// use shm_primitives::layout::HeartbeatPool;
/// use shm_primitives::region::Region;
/// use shm_primitives::sync::Ordering::Relaxed;
/// use shm_primitives::table::Options;
///
/// #[repr(align(64))]
/// struct Memory([u8; HeartbeatPool::required_size(8).unwrap()]);
/// let mut memory = Memory([0; _]);
/// let pool = HeartbeatPool::init_at(&Region::from_mut(&mut memory.0), Options::new(8))?;
///
/// let owner = OwnerId::new(3, 1).unwrap();
/// let mine = pool.claim(owner, &[100])?; // a heartbeat each 100 ms
/// mine.live(0).unwrap().store(5_050, Relaxed);
///
/// // A watcher, at 5,200 ms:
/// let silent = pool.iter().flatten().filter(|beat| {
///     let last = pool.live(beat.key, 0).unwrap_or(5_200);
///     5_200u32.wrapping_sub(last) > beat.entry[0]
/// });
/// assert_eq!(silent.map(|beat| beat.owner).collect::<Vec<_>>(), [owner]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type HeartbeatPool<'a> = SlotTable<'a, [u32; 1], 1>;
