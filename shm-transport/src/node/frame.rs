//! What stands in a frame of a lane.
//!
//! ```text
//! offset  size
//!      0     4  flags   u32  bit 0: there is a label   bit 1: the message is in a chunk
//!      4     4  begin   u32  where the message begins, from here; in a chunk 0
//!      8     8  label   u32 group, u32 topic; only if there is one
//!               the message, from `begin` on; or, if it is in a chunk:
//!              16  the chunk's handle
//!               4  place   u32  the receiver's place in the sender's pool
//!               4  marks   u32  the id of its marks there
//! ```
//!
//! So a message of up to 48 bytes without a label takes one cache line with the frame's header. One
//! of 1 KiB and more begins at a cache line of its own, which copies are quickest to, and where
//! whatever stands in it is aligned; up to 56 bytes before it are left as they are.

use shm_primitives::pool::ChunkHandle;
use zerocopy::{FromBytes, IntoBytes};

const LABELLED: u32 = 1;
const CHUNK: u32 = 2;

/// Bytes before everything else.
pub(super) const HEADER: usize = 8;
const LABEL: usize = 8;
const HANDLE: usize = 16;
/// Bytes of a message that begins at a line, and of a line.
const LARGE: usize = 1024;
const LINE: usize = 64;

/// What a message is about: receivers may [filter](super::Filter) by it. Both are 0 if nothing
/// else was said.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Label {
    /// Whom it is for, or which part of the system it belongs to.
    pub group: u32,
    /// What it is about.
    pub topic: u32,
}

impl Label {
    /// Of a message of which nothing was said.
    pub const NONE: Self = Self::new(0, 0);

    /// That group and topic.
    #[must_use]
    pub const fn new(group: u32, topic: u32) -> Self {
        Self { group, topic }
    }
}

/// A message in a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct InChunk {
    pub handle: ChunkHandle,
    /// The receiver's place in the pool, and the id of the marks there.
    pub place: u32,
    pub marks: u32,
}

/// The head of a frame that is to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    label: Label,
    chunk: bool,
}

impl Head {
    pub fn of(label: Label) -> Self {
        Self { label, chunk: false }
    }

    pub fn of_chunk(label: Label) -> Self {
        Self { label, chunk: true }
    }

    #[inline]
    fn len(self) -> usize {
        if self.label == Label::NONE { HEADER } else { HEADER + LABEL }
    }

    /// Bytes of a frame for a message of so many.
    #[inline]
    pub fn frame_for(self, length: usize) -> usize {
        // Frames begin at a multiple of 8.
        self.len() + length + if length < LARGE { 0 } else { LINE - 8 }
    }

    /// Writes itself to the start of a frame [for](Self::frame_for) a message of `length` bytes;
    /// where that begins.
    #[inline]
    pub fn write(self, frame: &mut [u8], length: usize) -> usize {
        let mut begin = self.len();
        if length >= LARGE {
            begin += frame.as_ptr().addr().wrapping_add(begin).wrapping_neg() % LINE;
        }
        let labelled = self.label != Label::NONE;
        let flags = u32::from(labelled) * LABELLED + u32::from(self.chunk) * CHUNK;
        let stored = if self.chunk { 0 } else { begin as u64 };
        frame[..HEADER].copy_from_slice(&(u64::from(flags) | stored << 32).to_le_bytes());
        if labelled {
            frame[HEADER..HEADER + 4].copy_from_slice(&self.label.group.to_le_bytes());
            frame[HEADER + 4..HEADER + 8].copy_from_slice(&self.label.topic.to_le_bytes());
        }
        begin
    }
}

/// Bytes of a frame with a message in a chunk, behind its head.
pub(super) const IN_CHUNK: usize = HANDLE + 8;

impl InChunk {
    pub fn to_bytes(self) -> [u8; IN_CHUNK] {
        let mut bytes = [0; IN_CHUNK];
        bytes[..HANDLE].copy_from_slice(self.handle.as_bytes());
        bytes[HANDLE..HANDLE + 4].copy_from_slice(&self.place.to_le_bytes());
        bytes[HANDLE + 4..].copy_from_slice(&self.marks.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; IN_CHUNK] = bytes.try_into().ok()?;
        let (handle, rest) = ChunkHandle::read_from_prefix(bytes).ok()?;
        Some(Self { handle, place: word(rest, 0)?, marks: word(rest, 4)? })
    }
}

/// What a frame says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Content {
    /// The message begins so many bytes behind the frame's beginning.
    Here(usize),
    /// It is in a chunk.
    Chunk(InChunk),
}

/// Takes a frame apart; `None` if no node writes such a one.
#[inline]
pub(super) fn parse(frame: &[u8]) -> Option<(Label, Content)> {
    let (flags, begin) = (word(frame, 0)?, word(frame, 4)? as usize);
    if flags & !(LABELLED | CHUNK) != 0 {
        return None;
    }
    let (label, head) = if flags & LABELLED == 0 {
        (Label::NONE, HEADER)
    } else {
        (Label::new(word(frame, HEADER)?, word(frame, HEADER + 4)?), HEADER + LABEL)
    };
    let content = if flags & CHUNK == 0 {
        if begin < head || begin > frame.len() {
            return None;
        }
        Content::Here(begin)
    } else {
        if begin != 0 {
            return None;
        }
        Content::Chunk(InChunk::from_bytes(frame.get(head..)?)?)
    };
    Some((label, content))
}

#[inline]
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let handle = ChunkHandle { pool: 1, chunk: 2, generation: 3, length: 4 };
        let chunk = InChunk { handle, place: 5, marks: 6 };
        for label in [Label::NONE, Label::new(7, 0), Label::new(0, 8), Label::new(u32::MAX, 1)] {
            for length in [0, 3, 1023, 1024, 5000] {
                let head = Head::of(label);
                // At each place that a frame may have in a line.
                for at in (0..64).step_by(8) {
                    let mut memory = vec![0xa5; 64 + at + head.frame_for(length)];
                    let line = memory.as_ptr().addr().wrapping_neg() % 64;
                    let frame = &mut memory[line + at..][..head.frame_for(length)];
                    let begin = head.write(frame, length);
                    let used = &frame[..begin + length];
                    assert_eq!(parse(used), Some((label, Content::Here(begin))));
                    assert!(length < 1024 || used[begin..].as_ptr().addr().is_multiple_of(64));
                }
            }

            let head = Head::of_chunk(label);
            let mut frame = vec![0xa5; head.frame_for(0)];
            assert_eq!(head.write(&mut frame, 0), frame.len());
            frame.extend(chunk.to_bytes());
            assert_eq!(parse(&frame), Some((label, Content::Chunk(chunk))));
            frame.push(0);
            assert_eq!(parse(&frame), None, "too long");
        }
    }

    #[test]
    fn other_frames_are_none() {
        for length in 0..HEADER {
            assert_eq!(parse(&vec![0; length]), None);
        }
        assert_eq!(parse(&[4, 0, 0, 0, 8, 0, 0, 0]), None, "a flag of a later version");
        assert_eq!(parse(&[0, 0, 0, 0, 7, 0, 0, 0]), None, "the message in its own header");
        assert_eq!(parse(&[0, 0, 0, 0, 9, 0, 0, 0]), None, "and beyond the frame");
        assert_eq!(parse(&[0, 0, 0, 0, 255, 255, 255, 255]), None);
        assert_eq!(parse(&[1, 0, 0, 0, 16, 0, 0, 0, 9]), None, "half a label");
    }
}
