//! The frame ring under test, and the only file that names it.

use shm_primitives::ring::frame::{self, Checksum, FrameRing, Packing, ReadError};
use shm_primitives::wake::{Deadline, Park, Waiter};

use crate::ends::{Sends, Takes};
use crate::witness::{self, Activity};

/// What frames begin at multiples of.
const ALIGNMENT: usize = 8;
/// Bytes of a frame's header.
const HEADER: usize = 8;

/// The interrupt's end.
pub struct Writer(frame::Writer<'static>);

/// The main loop's end.
pub struct Reader {
    end: frame::Reader<'static>,
    /// Where the payload of a frame at the start of the data lies: that of the first one.
    first: Option<usize>,
    /// Where the next frame begins in the data, unless padding comes first.
    next: usize,
    padded: u32,
}

/// Splits the ring without checksums.
///
/// # Safety
///
/// At most one call in the life of the image.
pub unsafe fn split() -> (Writer, Reader) {
    static mut RING: FrameRing<512> = FrameRing::with(Packing::Dense, Checksum::None);
    let ring = &raw mut RING;
    // SAFETY: the caller calls once, so this is the only reference to the ring.
    ends(unsafe { &mut *ring })
}

/// Splits the ring whose frames carry CRC32C.
///
/// # Safety
///
/// At most one call in the life of the image.
pub unsafe fn split_checked() -> (Writer, Reader) {
    static mut RING: FrameRing<256> = FrameRing::with(Packing::Dense, Checksum::Crc32c);
    let ring = &raw mut RING;
    // SAFETY: the caller calls once, so this is the only reference to the ring.
    ends(unsafe { &mut *ring })
}

fn ends<const BYTES: usize>(ring: &'static mut FrameRing<BYTES>) -> (Writer, Reader) {
    let (writer, reader) = ring.split();
    (Writer(writer), Reader { end: reader, first: None, next: 0, padded: 0 })
}

/// Bytes of the `n`th frame: from none to the most the ring takes.
fn length(n: u32, maximum: usize) -> usize {
    (n.wrapping_mul(0x9e37_79b9) >> 8) as usize % (maximum + 1)
}

/// What stands at `index` in the `n`th frame: another byte than in its neighbours and in other
/// frames, so that stale and shifted ones show.
fn byte(n: u32, index: usize) -> u8 {
    let mixed = n.wrapping_mul(0x85eb_ca6b);
    (mixed >> (8 * (index & 3))) as u8 ^ (index as u8).wrapping_mul(29)
}

impl Sends for Writer {
    fn send(&mut self, n: u32) -> bool {
        let maximum = self.0.max_payload();
        let length = length(n, maximum);
        // Sometimes more is asked for than is used.
        let asked = maximum.min(length + (n as usize & 1) * (n as usize & 31));
        let Ok(mut grant) = self.0.grant(asked) else { return false };
        for (index, place) in grant[..length].iter_mut().enumerate() {
            *place = byte(n, index);
        }
        grant.commit(length);
        true
    }

    fn all_taken(&mut self) -> bool {
        self.0.is_empty()
    }
}

impl Takes for Reader {
    fn take(&mut self, n: u32) -> bool {
        let (capacity, length) = (self.end.capacity(), length(n, self.end.max_payload()));
        let frame = match witness::during(Activity::Taking, || self.end.read()) {
            Ok(frame) => frame,
            Err(ReadError::Empty) => return false,
            Err(error) => panic!("frame {n}: {error}"),
        };
        witness::during(Activity::Holding, || {
            assert_eq!(frame.len(), length, "frame {n} has another length");
            for (index, &found) in frame.iter().enumerate() {
                assert_eq!(found, byte(n, index), "frame {n}, byte {index}");
            }
        });
        // It stands behind the one before, or at the start of the data with padding between.
        let place = frame.as_ptr().addr();
        let start = place - *self.first.get_or_insert(place);
        if start != self.next {
            assert_eq!(start, 0, "frame {n} stands elsewhere than at {}", self.next);
            self.padded += 1;
        }
        self.next = (start + HEADER + length).next_multiple_of(ALIGNMENT) % capacity;
        witness::during(Activity::Taking, || frame.release());
        true
    }

    fn wait(&mut self, waiter: &mut Waiter<'_>, park: &impl Park, deadline: Deadline) -> bool {
        self.end.wait(waiter, park, deadline)
    }

    fn padded(&self) -> Option<u32> {
        Some(self.padded)
    }
}
