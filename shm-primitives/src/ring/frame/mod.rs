//! The frame ring: messages of any length, each with its own ready word.
//!
//! One writer, one reader; loads and stores alone. A message is written and read in
//! place. It carries the word that says it is ready in the line its first bytes are
//! in, so a small message moves one cache line between the cores, not two or three.
//!
//! # Memory
//!
//! ```text
//! offset  size
//!      0    64  part header, kind 2                       (see crate::part)
//!     64    64  write      u32   at most the writer's position, seldom stored
//!    128    64  released   u32   bytes given back          written by the reader
//!    192    64  consumed   u32   the reader's position     written by the reader
//!    256        data           byte i of the stream at i mod capacity
//! ```
//!
//! A frame begins at a multiple of 8 and is contiguous:
//!
//! ```text
//! +0  u32  0: not ready   n: a frame of n bytes, this header included
//!          2^31 + n: n bytes of padding up to the end of the data
//! +4  u32  CRC32C of length and payload, or 0
//! +8       payload, then nothing up to the next frame
//! ```
//!
//! The next frame begins where this one ends, or, with [`Packing::Lines`] (the default), at the
//! next cache line if more than half of the line it ends in is used: then frames of one size,
//! up to 56 bytes of payload, never straddle two lines. [`Packing::Dense`] wastes nothing and is
//! right where there is no cache.
//!
//! Positions count bytes, run freely through all of `u32` and wrap. A frame with its
//! header has at most half the capacity less 8 ([`Options::max_payload`]), so that it
//! always fits once the reader has drained, wherever it has to begin.
//!
//! # Who writes what, in which order
//!
//! To publish a frame the writer **clears the word after it**, writes payload and checksum,
//! and stores the frame's word, Release. The reader polls the word
//! at its own position, Acquire. The clearing is why what an earlier lap left there can
//! never pass for a ready word; the writer therefore keeps 8 bytes more free than the
//! frame takes, and never clears what is unread.
//!
//! When a frame does not fit before the end of the data it goes to the start, and the
//! padding's word is stored last, Release: padding and frame appear together.
//!
//! The reader stores `consumed` after every frame, in a line the writer does not look at
//! before it is about to say [`Full`](WriteError::Full), and `released` when it finds no
//! further frame or an eighth of the capacity has gathered. The writer stores `write`
//! when it crosses a multiple of 512 bytes: a lower bound, from which its successor walks.
//! The reader does not look at it.
//!
//! # Crash
//!
//! | who dies | where | what is left |
//! |---|---|---|
//! | writer | before the frame's word (with padding: before the padding's) | nothing of that frame; the successor walks from `write` or `consumed`, whichever is further, to the first word that is 0, and begins there |
//! | writer | after it | the frame is whole and arrives |
//! | reader | before the store of `consumed` | the frame in hand is seen again by the successor: one frame at the most |
//! | reader | between `consumed` and `released` | the successor stores `released` when it claims |
//!
//! Nothing published is lost. A frame that kills its readers is left behind with
//! [`skip`](Reader::skip).
//!
//! # Trust
//!
//! Lengths and positions are loaded once, checked, and only then used; each read takes at
//! most two words and one frame. Anything impossible poisons the handle, which then says
//! [`Corrupt`](crate::part::Corrupt) and touches nothing. Between processes that do not
//! trust each other use [`attach_untrusted`](FrameRingRef::attach_untrusted): payloads are
//! then only copied, and a checksum is computed over the copy.
//!
//! The frame length as the word that commits is Aeron's idea (its ring buffers' record
//! header); clearing ahead instead of zeroing behind, and the sparse lower bound from which a
//! successor walks, are this crate's.
//!
//! # Example
//!
//! ```
//! use shm_primitives::ring::frame::FrameRing;
//!
//! let mut ring = FrameRing::<256>::new();
//! let (mut writer, mut reader) = ring.split();
//! let mut grant = writer.grant(100)?; // at most 100 bytes, written in place
//! grant[..5].copy_from_slice(b"hello");
//! grant.commit(5);
//! let frame = reader.read()?;
//! assert_eq!(&*frame, b"hello");
//! frame.release();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod checksum;
mod layout;
// Loom's words cannot stand in a byte array.
#[cfg(not(all(loom, any(test, feature = "loom"))))]
mod owned;
mod packing;
mod reader;
mod wait;
mod writer;

pub use checksum::Checksum;
pub use layout::{FrameRingRef, Options};
#[cfg(not(all(loom, any(test, feature = "loom"))))]
pub use owned::FrameRing;
pub use packing::Packing;
pub use reader::{Frame, ReadError, Reader};
pub use writer::{Grant, WriteError, Writer};

use crate::sync::sites;

sites! { SITES
    /// A frame's word, after its payload, its checksum and the clearing of the next
    /// word.
    PUBLISH = "frame.publish", Release, partner "frame.observe",
        [Relaxed => Model("frame_push_pop"), Relaxed => Model("sleepless_polled")];
    /// The padding's word, after the frame at the start of the data.
    PUBLISH_PADDING = "frame.publish-padding", Release, partner "frame.observe",
        [Relaxed => Model("frame_padding")];
    /// The word at the reader's position, before anything else of the frame is read.
    OBSERVE = "frame.observe", Acquire, partner "frame.publish, frame.publish-padding",
        [Relaxed => Model("frame_push_pop"), Relaxed => Model("sleepless_polled")];
    /// The bytes given back, after they were read.
    RELEASE = "frame.release", Release, partner "frame.reuse",
        [Relaxed => Model("frame_reuse_released")];
    /// The bytes given back, before they are overwritten.
    REUSE = "frame.reuse", Acquire, partner "frame.release",
        [Relaxed => Model("frame_reuse_released")];
    /// The reader's own position, after the frame was read.
    CONSUMED = "frame.consumed", Release, partner "frame.second-look",
        [Relaxed => Model("frame_reuse_consumed")];
    /// The reader's own position, before a writer that found no released bytes overwrites
    /// some.
    SECOND_LOOK = "frame.second-look", Acquire, partner "frame.consumed",
        [Relaxed => Model("frame_reuse_consumed")];
}

/// Bytes of a frame's header.
const HEADER: u32 = 8;
/// What frames begin at multiples of.
const ALIGNMENT: u32 = 8;
/// Marks the word of padding.
const PADDING: u32 = 1 << 31;
/// The writer stores its position when it crosses a multiple of it.
const SPARSE: u32 = 512;
/// A reader gathers at most this share of the capacity before it stores `released`.
const RELEASE_SHARE: u32 = 8;
