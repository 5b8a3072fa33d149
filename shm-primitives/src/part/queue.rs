//! Where in a segment a queue lies.

use super::AttachError;
use crate::region::Region;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The largest capacity of any queue.
const MAX_CAPACITY: u32 = 1 << 30;
const LEAST_ALIGNMENT: u32 = 64;
const MAX_ALIGNMENT: u32 = 4096;

/// Where in a segment a queue lies, for one who is told of it through shared memory: 16 bytes,
/// [`Shareable`](super::Shareable). Any bytes are one; [`resolve`](Self::resolve) looks whether
/// they make sense.
///
/// ```text
/// offset  size
///      0     8  offset     of the queue from the start of the segment, in bytes
///      8     4  capacity   of the queue, in its own unit: a power of two to 2^30
///     12     4  alignment  of the queue, in bytes: a power of two from 64 to 4096
/// ```
///
/// ```
/// use shm_primitives::part::QueueDescriptor;
/// use shm_primitives::region::Region;
/// use shm_primitives::ring::frame::{FrameRingRef, Options};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// #[repr(align(64))]
/// struct Segment([u8; 4096]);
/// let mut memory = Segment([0; 4096]);
/// let segment = Region::from_mut(&mut memory.0);
/// let said = QueueDescriptor { offset: 512, capacity: 1024, alignment: 64 };
///
/// let size = |capacity| Options::new(capacity).required_size();
/// // SAFETY: nobody else creates a ring here.
/// let ring = unsafe { FrameRingRef::init_at(said.resolve(&segment, size)?, Options::new(1024)) }?;
/// // Whoever reads the descriptor:
/// let found = FrameRingRef::attach_untrusted(said.resolve(&segment, size)?, Some(said.capacity))?;
/// assert_eq!(found.capacity(), 1024);
/// # Ok(())
/// # }
/// ```
#[repr(C)]
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct QueueDescriptor {
    /// Where the queue begins, in bytes from the start of the segment.
    pub offset: u64,
    /// The queue's capacity, in its own unit.
    pub capacity: u32,
    /// The queue's alignment, in bytes.
    pub alignment: u32,
}

const _: () = assert!(size_of::<QueueDescriptor>() == 16);

impl QueueDescriptor {
    /// The queue's memory within `segment`. `required_size` says how many bytes a queue of a
    /// given capacity takes, as the queue's options do; it is asked only about capacities that
    /// are powers of two up to 2³⁰.
    ///
    /// What is there is for the queue's `attach` to find out, with this capacity.
    ///
    /// # Errors
    ///
    /// `BadCapacity`, also if there is no queue so small; `UnsupportedOption` for the alignment;
    /// `Misaligned`, be it the offset or the segment; `TooSmall` if the queue does not lie in the
    /// segment.
    pub fn resolve<'a>(
        &self,
        segment: &Region<'a>,
        required_size: impl FnOnce(u32) -> Option<usize>,
    ) -> Result<Region<'a>, AttachError> {
        let Self { offset, capacity, alignment } = *self;
        let bad_capacity = AttachError::BadCapacity { found: capacity, maximum: MAX_CAPACITY };
        if !capacity.is_power_of_two() || capacity > MAX_CAPACITY {
            return Err(bad_capacity);
        }
        if !alignment.is_power_of_two() || !(LEAST_ALIGNMENT..=MAX_ALIGNMENT).contains(&alignment) {
            return Err(AttachError::UnsupportedOption { found: alignment });
        }
        let size = required_size(capacity).ok_or(bad_capacity)?;
        let too_small = AttachError::TooSmall {
            found: segment.len(),
            wanted: usize::try_from(offset)
                .map_or(usize::MAX, |offset| offset.saturating_add(size)),
        };
        let offset = usize::try_from(offset).map_err(|_| too_small)?;
        let queue = segment.part(offset, size).ok_or(too_small)?;
        let (found, wanted) = (queue.base().addr().get(), alignment as usize);
        // The offset too: another process has the segment at another address.
        for found in [offset, found] {
            if !found.is_multiple_of(wanted) {
                return Err(AttachError::Misaligned { found, wanted });
            }
        }
        Ok(queue)
    }
}
