//! The writer's end.

use super::layout::{FrameRingRef, rounded};
use super::{Checksum, HEADER, PADDING, PUBLISH, PUBLISH_PADDING, REUSE, SPARSE};
use crate::identity::OwnerId;
use crate::part::{Corrupt, End, LINE, Trust, Trusted, release_owner};
use crate::ring::lockstep::CACHES;
use crate::sync::{self, Ordering::Relaxed, copy_in, crash, header_in, prefetch_for_write};
use core::fmt;
use core::ops::{Deref, DerefMut};
use core::slice;

/// How far behind the frame in hand a writer asks for lines to write, in bytes.
const AHEAD: u32 = 1024;

/// The writer's end of a frame ring: one thread at a time.
///
/// No operation blocks, allocates, makes a system call, or uses a read-modify-write or a
/// fence.
pub struct Writer<'a, M: Trust = Trusted> {
    ring: FrameRingRef<'a, M>,
    write: u32,
    /// The position it may write up to without looking again.
    limit: u32,
    /// Up to where lines were asked for.
    fetched: u32,
    /// The length, with the header, of the grant that is held, and the padding before it; 0 if none
    /// is.
    held: u32,
    held_padding: u32,
    owner: Option<OwnerId>,
    corrupt: Option<Corrupt>,
}

/// Why nothing was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteError {
    /// There is no room for this frame now.
    Full,
    /// There never will be: send it in pieces, by a chunk, or make the ring larger.
    TooLarge {
        /// Bytes of payload asked for.
        length: usize,
        /// Bytes of the largest payload.
        maximum: usize,
    },
    /// The reader's position is impossible; see [`Writer::corruption`].
    Corrupt,
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the ring is full"),
            Self::TooLarge { length, maximum } => {
                write!(f, "a payload of {length} bytes; the largest this ring takes is {maximum}")
            }
            Self::Corrupt => f.write_str("the ring's reader position is corrupt"),
        }
    }
}

impl core::error::Error for WriteError {}

impl<'a, M: Trust> Writer<'a, M> {
    pub(super) fn new(
        ring: FrameRingRef<'a, M>,
        write: u32,
        read: u32,
        owner: Option<OwnerId>,
    ) -> Self {
        let limit = read.wrapping_add(ring.capacity() as u32);
        Self { ring, write, limit, fetched: write, held: 0, held_padding: 0, owner, corrupt: None }
    }

    /// Bytes of data the ring has.
    pub fn capacity(&self) -> usize {
        self.ring.capacity()
    }

    /// Bytes of the largest payload.
    pub fn max_payload(&self) -> usize {
        self.ring.max_payload()
    }

    /// Bytes free, headers and all: a lower bound, for the reader goes on reading. 0 when
    /// corrupt.
    #[doc(alias = "FreeSpace")]
    pub fn free(&mut self) -> usize {
        self.second_look();
        self.limit.wrapping_sub(self.write) as usize
    }

    /// Whether everything written has been read. May be out of date at once when it says no;
    /// stays true until the next frame.
    pub fn is_empty(&mut self) -> bool {
        self.free() == self.capacity()
    }

    /// How far the reader is now: everything before was left behind by it, and what it did
    /// before is seen after this.
    ///
    /// # Errors
    ///
    /// `Corrupt`: the position is impossible.
    pub(crate) fn consumed(&mut self) -> Result<u32, WriteError> {
        self.second_look();
        match self.corrupt {
            Some(_) => Err(WriteError::Corrupt),
            None => Ok(self.limit.wrapping_sub(self.capacity() as u32)),
        }
    }

    /// Frames from position `from` on.
    ///
    /// # Errors
    ///
    /// `Corrupt`: `from` is not where a frame begins that is still whole, or lengths in memory
    /// are wrong.
    pub(crate) fn frames_since(&self, from: u32) -> Result<usize, Corrupt> {
        let mut frames = 0;
        self.ring.walk(from, self.write, |_, _| frames += 1)?;
        Ok(frames)
    }

    /// Frames that the reader has not left behind: an upper bound, for it goes on reading. Looks
    /// at the word of each.
    ///
    /// # Errors
    ///
    /// `Corrupt`: the reader's position is impossible, or what was written was overwritten.
    pub fn unread(&mut self) -> Result<usize, WriteError> {
        let consumed = self.consumed()?;
        self.frames_since(consumed).map_err(|corrupt| {
            self.corrupt = Some(corrupt);
            self.limit = self.write;
            WriteError::Corrupt
        })
    }

    /// What was found wrong with the reader's position, once it was. The handle stays as it is
    /// and writes nothing more.
    pub fn corruption(&self) -> Option<Corrupt> {
        self.corrupt
    }

    /// Whether there is room for `payload` bytes; the padding before them and the position
    /// behind the frame.
    #[inline(always)]
    pub(super) fn room_for(&mut self, payload: usize) -> Result<(u32, u32), WriteError> {
        let maximum = self.ring.max_payload();
        if payload > maximum {
            return Err(WriteError::TooLarge { length: payload, maximum });
        }
        let payload = payload as u32;
        let rest = self.capacity() as u32 - self.ring.offset(self.write) as u32;
        let padding = if rounded(payload) > rest { rest } else { 0 };
        let next = self.ring.after(self.write.wrapping_add(padding), payload);
        // The word after the frame is cleared too, and must not be unread.
        let needed = next.wrapping_sub(self.write) + HEADER;
        if self.limit.wrapping_sub(self.write) < needed {
            self.look(needed)?;
        }
        Ok((padding, next))
    }

    /// Finds room for `payload` bytes and clears the word after them; the padding before them.
    #[inline(always)]
    fn reserve(&mut self, payload: usize) -> Result<u32, WriteError> {
        self.held = 0;
        let (padding, next) = self.room_for(payload)?;
        self.fetch_ahead(next);
        self.clear(next);
        Ok(padding)
    }

    /// Asks for the lines that frames after `next` will be written to, as far as they are
    /// known to be free: others would be taken away from the reader.
    #[inline(always)]
    fn fetch_ahead(&mut self, next: u32) {
        if !CACHES {
            return;
        }
        if next.wrapping_sub(self.fetched).cast_signed() > 0 {
            self.fetched = next;
        }
        let known = self.limit.wrapping_sub(next).min(AHEAD);
        let until = next.wrapping_add(known);
        while until.wrapping_sub(self.fetched).cast_signed() >= LINE as i32 {
            prefetch_for_write(self.ring.data().at(self.ring.offset(self.fetched)));
            self.fetched = self.fetched.wrapping_add(LINE as u32);
        }
    }

    /// Clears the word after a frame: what an earlier lap left there must not pass for a ready
    /// word. Before the payload is written and not after: its line may have to come from the
    /// reader's core, and stores become visible in order, so that the frame's own line,
    /// half written, would be taken away by the polling reader meanwhile.
    #[inline(always)]
    fn clear(&self, next: u32) {
        self.ring.word(next).store(0, Relaxed);
    }

    /// Looks how far the reader is: first where it says so seldom, then, before the ring is
    /// called full, where it says so always.
    #[cold]
    fn look(&mut self, needed: u32) -> Result<(), WriteError> {
        if self.corrupt.is_some() {
            return Err(WriteError::Corrupt);
        }
        let released = self.ring.words().released.load(REUSE);
        // It may lag by more than the capacity: then it tells nothing.
        if self.ring.check_used(self.write, released).is_ok() {
            self.limit = released.wrapping_add(self.capacity() as u32);
        }
        if self.limit.wrapping_sub(self.write) < needed {
            self.second_look();
        }
        if self.corrupt.is_some() {
            Err(WriteError::Corrupt)
        } else if self.limit.wrapping_sub(self.write) < needed {
            Err(WriteError::Full)
        } else {
            Ok(())
        }
    }

    fn second_look(&mut self) {
        if self.corrupt.is_some() {
            return;
        }
        match self.ring.consumed_for_writer(self.write) {
            Ok(consumed) => self.limit = consumed.wrapping_add(self.capacity() as u32),
            Err(corrupt) => {
                self.corrupt = Some(corrupt);
                self.limit = self.write;
            }
        }
    }

    /// Publishes a frame of `payload` bytes, already written behind `padding`; the word after it
    /// is cleared.
    #[inline(always)]
    fn publish(&mut self, padding: u32, payload: u32, checksum: u32) {
        self.held = 0;
        let start = self.write.wrapping_add(padding);
        let next = self.ring.after(start, payload);
        self.ring.data().word(self.ring.offset(start) + 4).store(checksum, Relaxed);
        self.ring.word(start).store(payload + HEADER, PUBLISH);
        if padding != 0 {
            self.ring.word(self.write).store(padding | PADDING, PUBLISH_PADDING);
        }
        let crossed = (self.write ^ next) & !(SPARSE - 1) != 0;
        self.write = next;
        if crossed {
            // A lower bound for a successor's walk: nothing is read because of it, so it orders
            // nothing.
            self.ring.words().write.store(next, Relaxed);
        }
    }

    /// Copies `payload` into a frame and publishes it.
    ///
    /// # Errors
    ///
    /// Nothing was written: see [`WriteError`].
    #[inline]
    pub fn push(&mut self, payload: &[u8]) -> Result<(), WriteError> {
        let padding = self.reserve(payload.len())?;
        let checksum = self.ring.checksum().of(payload);
        let offset = self.ring.offset(self.write.wrapping_add(padding)) + HEADER as usize;
        self.ring.data().writing(offset, payload.len());
        let to = self.ring.data().at(offset);
        if M::IN_PLACE {
            // SAFETY: reserved: within the data, free, and ours until published; `payload` is
            // a slice of this process and cannot overlap it.
            unsafe { to.copy_from_nonoverlapping(payload.as_ptr(), payload.len()) };
        } else {
            // SAFETY: as above; others may write there, which copy_in allows.
            unsafe { copy_in(payload.as_ptr(), to, payload.len()) };
        }
        self.publish(padding, payload.len() as u32, checksum);
        Ok(())
    }
}

impl<'a> Writer<'a, Trusted> {
    /// Lends room for a payload of up to `length` bytes, to be written in place and published
    /// with [`commit`](Grant::commit). Dropping the grant publishes nothing.
    ///
    /// The room begins at a multiple of 8 and holds whatever was there before.
    ///
    /// # Errors
    ///
    /// No room: see [`WriteError`].
    #[inline(always)]
    pub fn grant(&mut self, length: usize) -> Result<Grant<'_, 'a>, WriteError> {
        let padding = self.reserve(length)?;
        let offset = self.ring.offset(self.write.wrapping_add(padding)) + HEADER as usize;
        self.ring.data().writing(offset, length);
        Ok(Grant { writer: self, offset, length, padding })
    }

    /// The room of the grant that is [held](Grant::hold); no bytes if none is.
    #[inline(always)]
    pub fn held(&self) -> &[u8] {
        let (offset, length) = self.held_at();
        // SAFETY: reserved: within the data, free, and ours until something else is reserved or
        // published, which takes the writer by &mut self; initialised by the contract of Region.
        unsafe { slice::from_raw_parts(self.ring.data().at(offset), length) }
    }

    /// The same, to be written.
    #[inline(always)]
    pub fn held_mut(&mut self) -> &mut [u8] {
        let (offset, length) = self.held_at();
        // SAFETY: as in `held`, and unique through &mut self.
        unsafe { slice::from_raw_parts_mut(self.ring.data().at(offset), length) }
    }

    #[inline(always)]
    fn held_at(&self) -> (usize, usize) {
        let start = self.write.wrapping_add(self.held_padding);
        let length = self.held.saturating_sub(HEADER) as usize;
        (self.ring.offset(start) + if self.held == 0 { 0 } else { HEADER as usize }, length)
    }

    /// Publishes the first `used` bytes of the grant that is held as a frame; more than were lent
    /// counts as all. False, and nothing else, if none is: something else was reserved or
    /// published since.
    #[inline(always)]
    pub fn commit_held(&mut self, used: usize) -> bool {
        if self.held == 0 {
            return false;
        }
        let (offset, length) = self.held_at();
        let padding = self.held_padding;
        Grant { writer: self, offset, length, padding }.commit(used);
        true
    }
}

sync::with_read_modify_write! {
    // What recovering a channel needs, which exists where ends are claimed.
    impl<M: Trust> Writer<'_, M> {
        /// The position the next frame is written at, or padding before it.
        pub(crate) fn position(&self) -> u32 {
            self.write
        }

        /// Keeps the end although the handle is dropped: as if its owner had died here.
        pub(crate) fn keep(&mut self) {
            self.owner = None;
        }
    }

    impl Writer<'_, Trusted> {
        /// Tells `each` the first `N` bytes of the payload of every frame published from position
        /// `from` on, if it has as many, and how many it has, be it read already or not: for one that
        /// takes over, before it writes anything. What was published is whole until the writer's end
        /// overwrites it, which it cannot meanwhile; with a reader that writes there it is garbage.
        ///
        /// # Errors
        ///
        /// `Corrupt`: `from` is more than the capacity back, no multiple of 8, or not
        /// followed by frames up to the writer's position.
        pub(crate) fn published_since<const N: usize>(
            &mut self,
            from: u32,
            mut each: impl FnMut(Option<[u8; N]>, usize),
        ) -> Result<(), Corrupt> {
            let data = *self.ring.data();
            self.ring.walk(from, self.write, |offset, payload| {
                let length = payload as usize;
                data.reading(offset, length);
                let head = (length >= N).then(|| {
                    // SAFETY: the frame was checked to lie within the data, and has so many bytes,
                    // which begin at a multiple of 8; others may write there, which this allows.
                    unsafe { sync::header_out(data.at(offset)) }
                });
                each(head, length);
            })
        }
    }
}

impl<M: Trust> Drop for Writer<'_, M> {
    fn drop(&mut self) {
        if crash::dead() {
            return;
        }
        if let Some(owner) = self.owner {
            release_owner(&self.ring.words().part, End::Writing, owner);
        }
    }
}

// SAFETY: the handle is the only one of its end and moves with its thread; its pointers are
// valid anywhere.
unsafe impl<M: Trust> Send for Writer<'_, M> {}

impl<M: Trust> fmt::Debug for Writer<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("capacity", &self.capacity())
            .field("write", &self.write)
            .field("owner", &self.owner)
            .field("corrupt", &self.corrupt)
            .finish_non_exhaustive()
    }
}

/// Room for a payload lent by [`Writer::grant`], not yet published: a slice of bytes.
#[derive(Debug)]
pub struct Grant<'g, 'a> {
    writer: &'g mut Writer<'a, Trusted>,
    offset: usize,
    length: usize,
    padding: u32,
}

impl Grant<'_, '_> {
    /// Bytes of payload that there is room for.
    #[inline(always)]
    pub fn size(&self) -> usize {
        self.length
    }

    /// Puts a header at the beginning of the room, a multiple of 4 bytes; false, and nothing, if
    /// there is not so much. As [`copy_from`](Self::copy_from).
    #[inline(always)]
    pub fn put_head<const N: usize>(&mut self, head: [u8; N]) -> bool {
        if self.length < N {
            return false;
        }
        let to = self.writer.ring.data().at(self.offset);
        // SAFETY: as in `copy_from`: there is room for so many bytes. Data is aligned to 8, frames
        // begin at multiples of 8 in it, and their headers have 8 bytes.
        unsafe { header_in(head, to) };
        true
    }

    /// Copies `bytes` into the room from byte `at` on, as much as fits; how much. Whoever is not
    /// sure of the reader writes a frame by this alone, and never looks at it: somebody may write
    /// there meanwhile.
    #[inline]
    pub fn copy_from(&mut self, at: usize, bytes: &[u8]) -> usize {
        let at = at.min(self.length);
        let length = bytes.len().min(self.length - at);
        let to = self.writer.ring.data().at(self.offset + at);
        // SAFETY: within the room (just cut to it), which is reserved: within the data, free, and
        // ours until published; `bytes` is a slice of this process and cannot overlap it; others
        // may write there.
        unsafe { copy_in(bytes.as_ptr(), to, length) };
        length
    }

    /// Keeps the room without borrowing the writer any longer, which publishes it by
    /// [`Writer::commit_held`]. Until then, or until something else is reserved or published, its
    /// bytes are those of [`Writer::held_mut`].
    #[inline(always)]
    pub fn hold(self) {
        self.writer.held = self.length as u32 + HEADER;
        self.writer.held_padding = self.padding;
    }

    /// Publishes the first `used` bytes as a frame; more than were lent counts as all.
    #[inline(always)]
    pub fn commit(self, used: usize) {
        let used = used.min(self.length);
        let ring = &self.writer.ring;
        // Without one nothing refers to the room: see `copy_from`.
        let is_plain = ring.checksum() == Checksum::None;
        let checksum = if is_plain { 0 } else { ring.checksum().of(&self[..used]) };
        let start = self.writer.write.wrapping_add(self.padding);
        let next = ring.after(start, used as u32);
        if next != ring.after(start, self.length as u32) {
            // The word that was cleared lies further on.
            self.writer.clear(next);
        }
        self.writer.publish(self.padding, used as u32, checksum);
    }
}

impl Deref for Grant<'_, '_> {
    type Target = [u8];
    #[inline(always)]
    fn deref(&self) -> &[u8] {
        let room = self.writer.ring.data().at(self.offset);
        // SAFETY: reserved: within the data, free, and ours until published, which takes the
        // grant by value; initialised by the contract of Region.
        unsafe { slice::from_raw_parts(room, self.length) }
    }
}

impl DerefMut for Grant<'_, '_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        let room = self.writer.ring.data().at(self.offset);
        // SAFETY: as in `deref`, and unique through &mut self.
        unsafe { slice::from_raw_parts_mut(room, self.length) }
    }
}
