//! Header and table as words.

use super::SegmentError;
use crate::part::{AttachError, LINE, check_region};
use crate::region::Region;
use crate::sync::{AtomicU32, Ordering::Relaxed};
use core::mem::size_of;

/// The words at the start of a segment. Under loom, where a word is larger than four bytes, word
/// number n is the n-th of them and not the one at byte 4 n.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words<'a>(&'a [AtomicU32]);

impl<'a> Words<'a> {
    /// The first `count` words of `region`.
    ///
    /// # Safety
    ///
    /// Under loom they were made there.
    pub(super) unsafe fn at(region: &Region<'a>, count: usize) -> Result<Self, SegmentError> {
        let size = count.saturating_mul(size_of::<AtomicU32>());
        check_region(region, size, LINE).map_err(|error| match error {
            AttachError::Misaligned { found, wanted } => SegmentError::Misaligned { found, wanted },
            _ => SegmentError::TooSmall { found: region.len() as u64, wanted: size as u64 },
        })?;
        // SAFETY: in bounds and aligned (just checked), mapped and initialised for 'a by the
        // region's contract; any bytes are an atomic word, and any other writer is allowed.
        // Under loom made there, by contract.
        Ok(Self(unsafe { core::slice::from_raw_parts(region.base().cast().as_ptr(), count) }))
    }

    /// Word number `index`, which is one of them.
    #[inline]
    pub(super) fn word(&self, index: usize) -> &'a AtomicU32 {
        &self.0[index]
    }

    /// What word number `index` says.
    #[inline]
    pub(super) fn get(&self, index: usize) -> u32 {
        self.word(index).load(Relaxed)
    }

    /// What words `index` and `index + 1` say, low and high.
    pub(super) fn get_long(&self, index: usize) -> u64 {
        u64::from(self.get(index)) | u64::from(self.get(index + 1)) << 32
    }

    pub(super) fn set(&self, index: usize, value: u32) {
        self.word(index).store(value, Relaxed);
    }

    pub(super) fn set_long(&self, index: usize, value: u64) {
        self.set(index, value as u32);
        self.set(index + 1, (value >> 32) as u32);
    }
}
