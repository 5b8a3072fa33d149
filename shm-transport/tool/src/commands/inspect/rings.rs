//! Rings: positions, ends, and what is queued.

use super::parts::Case;
use crate::look::Snapshot;
use shm_primitives::identity::OwnerId;
use shm_primitives::part::PartHeader;
use shm_primitives::region::Region;
use shm_primitives::ring::frame::{FrameRingRef, ReadError};

/// Where the positions of either ring stand.
const WRITE: u64 = 64;
const RELEASED: u64 = 128;
const CONSUMED: u64 = 192;
/// Where the owners of a part stand.
const OWNERS: u64 = 40;

/// Bytes of a ring whose frames are counted and not read: there would have to be memory for the
/// largest.
const LARGE: usize = 32 << 20;

/// The positions of a ring.
#[derive(Clone, Copy, Debug)]
struct Positions {
    write: u32,
    released: u32,
    consumed: u32,
}

impl Positions {
    fn at(copy: &Snapshot, offset: u64) -> Option<Self> {
        let word = |at| copy.words::<1>(offset + at).map(|[word]| word);
        Some(Self { write: word(WRITE)?, released: word(RELEASED)?, consumed: word(CONSUMED)? })
    }
}

/// The ring of elements. Its type is its users' matter, so that it is judged by its words.
pub fn spsc(case: &mut Case<'_>) {
    let offset = case.entry.offset;
    let (Some(part), Some(now)) = (case.part(), Positions::at(case.copy, offset)) else { return };
    case.owner("producer", part.owners[0]);
    case.owner("consumer", part.owners[1]);
    case.facts.add("capacity", part.capacity);
    case.facts.add("element_size", part.stride);
    let (capacity, queued) = (part.capacity, now.write.wrapping_sub(now.consumed));
    case.facts.add("written", now.write.wrapping_sub(part.start));
    case.facts.add("read", now.consumed.wrapping_sub(part.start));
    if !capacity.is_power_of_two() || capacity > 1 << 30 {
        case.problem(format!("a capacity of {capacity} cannot be"));
        return;
    }
    if queued > capacity {
        case.problem(format!("{queued} elements are queued where {capacity} have room"));
    } else {
        case.facts.add("queued", queued);
    }
    if now.consumed.wrapping_sub(now.released) > capacity {
        case.problem("more was read than could have been, since the last was given back");
    }
    let end = u64::from(part.data) + u64::from(capacity) * u64::from(part.stride);
    if end > case.entry.length {
        case.problem(format!("its elements end at {end}, behind the part's end"));
    }
}

/// The ring of frames.
pub fn frame(case: &mut Case<'_>) {
    let Some(part) = case.part() else { return };
    case.owner("writer", part.owners[0]);
    case.owner("reader", part.owners[1]);
    case.facts.add("capacity", part.capacity);
    let Some(region) = case.region() else { return };
    match walk(case.copy, case.entry.offset, region) {
        Ok(found) => {
            case.facts.add("frames", found.frames);
            case.facts.add("bytes", found.bytes);
        }
        Err(problem) => case.problem(problem),
    }
}

/// What is queued in a ring of frames.
#[derive(Clone, Copy, Debug, Default)]
pub struct Queued {
    pub frames: u64,
    /// Of payload.
    pub bytes: u64,
}

/// Reads all frames of the ring at `offset` of the copy, as a successor of its reader would.
pub fn walk(copy: &Snapshot, offset: u64, region: Region<'_>) -> Result<Queued, String> {
    let [magic] = copy.words(offset).ok_or("it is not there")?;
    if magic != PartHeader::MAGIC {
        return Err("there is no ring".into());
    }
    let now = Positions::at(copy, offset).ok_or("it is not there")?;
    // The ends are somebody's; in the copy nobody minds.
    copy.set_word(offset + OWNERS, 0);
    copy.set_word(offset + OWNERS + 4, 0);
    let ring = FrameRingRef::attach_untrusted(region, None).map_err(|error| error.to_string())?;
    let capacity = ring.capacity() as u32;
    if now.consumed.wrapping_sub(now.released) > capacity {
        return Err("more was read than could have been, since the last was given back".into());
    }
    let nobody = OwnerId::new(0, 1).ok_or("no id")?;
    let mut reader = ring.claim_reader(nobody).map_err(|error| error.to_string())?;
    if ring.capacity() > LARGE {
        let frames = reader.skip(usize::MAX) as u64;
        return match reader.corruption() {
            None => Ok(Queued { frames, bytes: ring.queued() as u64 }),
            Some(found) => Err(found.to_string()),
        };
    }
    let mut queued = Queued::default();
    let mut buffer = vec![0; ring.max_payload()];
    // A frame has 8 bytes at least, and reading does not go round: nobody writes to the copy.
    for _ in 0..=capacity / 8 {
        match reader.pop_into(&mut buffer) {
            Ok(len) => {
                queued.frames += 1;
                queued.bytes += len as u64;
            }
            Err(ReadError::Empty) => return Ok(queued),
            Err(error) => {
                let found =
                    reader.corruption().map_or(error.to_string(), |found| found.to_string());
                return Err(found);
            }
        }
    }
    Err("its frames have no end".into())
}
