//! Your own structure: messages in one direction, and an end to them.
//!
//! # Memory
//!
//! ```text
//! offset  size
//!      0    64  closed  u32       0: open; else nothing more is sent    written by the sender
//!     64    64  frames  WakeWord  where the receiver sleeps
//!    128    64  room    WakeWord  where the sender sleeps
//!    192        ring    a frame ring
//! ```
//!
//! # Who does what, in which order
//!
//! | sender | receiver |
//! |---|---|
//! | publishes its last frame | loads `closed`, **Acquire** |
//! | stores 1 to `closed`, **Release** | looks into the ring |
//! | notifies `frames` | nothing there, and it was closed: that is the end |
//!
//! A receiver that finds the pipe closed has therefore seen every frame that will ever come.
//! Looked at the other way round, or with a weaker ordering on either side, the last frame may
//! be missed: the models in `models.rs` fail with each of the two weakened.
//!
//! # Crash
//!
//! A sender that dies before it has closed leaves the pipe open. Its successor takes the end
//! over, with proof of the death, and goes on or closes. A receiver that dies with a message in
//! hand leaves it to its successor, who sees it again. Nothing published is lost.

use shm_primitives::identity::{Dead, OwnerId};
use shm_primitives::part::ClaimError;
use shm_primitives::ring::frame::{Frame, FrameRingRef, ReadError, Reader, WriteError, Writer};
use shm_primitives::sync::{AtomicU32, Order, Ordering};
use shm_primitives::wake::{Deadline, Notifier, Park, Waiter, WakeWord};
use std::fmt;
use std::ops::Deref;

/// The two accesses of `closed`. Named, so that a model can weaken one and see itself fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Closed {
    Store,
    Load,
}

impl Order for Closed {
    fn ordering(self) -> Ordering {
        #[cfg(all(loom, test))]
        if crate::models::weakened() == Some(self) {
            return Ordering::Relaxed;
        }
        match self {
            Self::Store => Ordering::Release,
            Self::Load => Ordering::Acquire,
        }
    }
}

/// Messages in one direction, in memory that both sides have. The ends are claimed from it.
#[derive(Clone, Copy, Debug)]
pub struct Pipe<'a> {
    closed: &'a AtomicU32,
    frames: &'a WakeWord,
    room: &'a WakeWord,
    ring: FrameRingRef<'a>,
}

impl<'a> Pipe<'a> {
    /// A pipe of these parts; a model makes them otherwise than [`create`](Self::create) does.
    pub const fn new(
        closed: &'a AtomicU32,
        frames: &'a WakeWord,
        room: &'a WakeWord,
        ring: FrameRingRef<'a>,
    ) -> Self {
        Self { closed, frames, room, ring }
    }

    /// The sender's end.
    ///
    /// # Errors
    ///
    /// Somebody has it.
    pub fn sender(&self, me: OwnerId) -> Result<Sender<'a>, ClaimError> {
        Ok(self.sender_with(self.ring.claim_writer(me)?))
    }

    /// The receiver's end.
    ///
    /// # Errors
    ///
    /// Somebody has it.
    pub fn receiver(&self, me: OwnerId) -> Result<Receiver<'a>, ClaimError> {
        Ok(self.receiver_with(self.ring.claim_reader(me)?))
    }

    /// The sender's end, after the death of the one who had it or would have.
    ///
    /// # Errors
    ///
    /// Somebody else has it.
    pub fn recover_sender(
        &self,
        dead: Dead<OwnerId>,
        me: OwnerId,
        park: &impl Park,
    ) -> Result<Sender<'a>, ClaimError> {
        let writer = match self.ring.recover_writer(dead, me) {
            // It died before it took the end, or after it gave it back.
            Err(ClaimError::NotTheOwner { found: None }) => self.ring.claim_writer(me)?,
            recovered => recovered?,
        };
        let mut sender = self.sender_with(writer);
        // It may have died between publishing and notifying.
        sender.notify(park);
        Ok(sender)
    }

    /// The receiver's end, after the death of the one who had it or would have.
    ///
    /// # Errors
    ///
    /// Somebody else has it.
    pub fn recover_receiver(
        &self,
        dead: Dead<OwnerId>,
        me: OwnerId,
        park: &impl Park,
    ) -> Result<Receiver<'a>, ClaimError> {
        let reader = match self.ring.recover_reader(dead, me) {
            Err(ClaimError::NotTheOwner { found: None }) => self.ring.claim_reader(me)?,
            recovered => recovered?,
        };
        let mut receiver = self.receiver_with(reader);
        receiver.room.notify(park);
        Ok(receiver)
    }

    fn sender_with(&self, writer: Writer<'a>) -> Sender<'a> {
        let (room, frames) = (self.room.waiter(), self.frames.notifier());
        Sender { writer, room, frames, closed: self.closed }
    }

    fn receiver_with(&self, reader: Reader<'a>) -> Receiver<'a> {
        let (frames, room) = (self.frames.waiter(), self.room.notifier());
        Receiver { reader, frames, room, closed: self.closed }
    }
}

/// How a pipe lies in memory.
#[cfg(not(loom))]
mod layout {
    use super::Pipe;
    use shm_primitives::part::AttachError;
    use shm_primitives::region::Region;
    use shm_primitives::ring::frame::{FrameRingRef, Options};
    use shm_primitives::sync::{AtomicU32, Ordering::Relaxed};
    use shm_primitives::wake::WakeWord;

    /// A cache line, so that no word is slowed down by its neighbour; and what a ring is
    /// aligned to.
    const LINE: usize = 64;
    const CLOSED: usize = 0;
    const FRAMES: usize = LINE;
    const ROOM: usize = 2 * LINE;
    const RING: usize = 3 * LINE;

    impl<'a> Pipe<'a> {
        /// Bytes that a pipe takes whose ring is to have these options; a multiple of 64.
        pub const fn size(options: Options) -> usize {
            let size = RING + options.required_size().expect("fits the address space");
            size.next_multiple_of(LINE)
        }

        /// Makes an open, empty pipe.
        ///
        /// # Errors
        ///
        /// The region is too small, or not aligned to 64.
        ///
        /// # Safety
        ///
        /// Nobody uses the region yet.
        pub unsafe fn create(region: Region<'a>, options: Options) -> Result<Self, AttachError> {
            // SAFETY: passed on.
            let pipe = Self::at(&region, |ring| unsafe { FrameRingRef::init_at(ring, options) })?;
            pipe.closed.store(0, Relaxed);
            Ok(pipe)
        }

        /// The pipe that another process made.
        ///
        /// # Errors
        ///
        /// There is none.
        ///
        /// # Safety
        ///
        /// Whoever else uses the region uses it as this module does.
        pub unsafe fn attach(region: Region<'a>) -> Result<Self, AttachError> {
            // SAFETY: passed on.
            Self::at(&region, |ring| unsafe { FrameRingRef::attach(ring, None) })
        }

        fn at(
            region: &Region<'a>,
            ring: impl FnOnce(Region<'a>) -> Result<FrameRingRef<'a>, AttachError>,
        ) -> Result<Self, AttachError> {
            let part = |offset: usize, len: usize| {
                let too_small = AttachError::TooSmall { found: region.len(), wanted: offset + len };
                region.part(offset, len).ok_or(too_small)
            };
            let ring = ring(part(RING, region.len().saturating_sub(RING))?)?;
            let closed = AtomicU32::at(&part(CLOSED, size_of::<AtomicU32>())?)?;
            let frames = WakeWord::at(&part(FRAMES, size_of::<WakeWord>())?)?;
            let room = WakeWord::at(&part(ROOM, size_of::<WakeWord>())?)?;
            Ok(Self::new(closed, frames, room, ring))
        }
    }
}

/// The sender's end.
#[derive(Debug)]
pub struct Sender<'a> {
    writer: Writer<'a>,
    room: Waiter<'a>,
    frames: Notifier<'a>,
    closed: &'a AtomicU32,
}

impl Sender<'_> {
    /// Publishes a message of `length` bytes, which `fill` writes in place. For a batch: the
    /// receiver may sleep on until [`notify`](Self::notify), so call that before any wait.
    ///
    /// # Errors
    ///
    /// No room; nothing was published.
    pub fn push(&mut self, length: usize, fill: impl FnOnce(&mut [u8])) -> Result<(), WriteError> {
        let mut grant = self.writer.grant(length)?;
        fill(&mut grant);
        grant.commit(length);
        Ok(())
    }

    /// Wakes the receiver if it sleeps. Once for a batch: it costs a fence.
    pub fn notify(&mut self, park: &impl Park) {
        self.frames.notify(park);
    }

    /// Waits for room, pushes and notifies.
    ///
    /// # Errors
    ///
    /// `TimedOut` at the deadline, or `Write`; nothing was sent.
    pub fn send(
        &mut self,
        length: usize,
        park: &impl Park,
        deadline: Deadline,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), Error> {
        self.writer.wait(length, &mut self.room, park, deadline);
        self.push(length, fill)?;
        self.notify(park);
        Ok(())
    }

    /// Says that nothing more is sent, notifies, and gives the end back.
    pub fn close(mut self, park: &impl Park) {
        // Release: no fence need stand between the last push and this.
        self.closed.store(1, Closed::Store);
        self.notify(park);
    }
}

/// The receiver's end.
#[derive(Debug)]
pub struct Receiver<'a> {
    reader: Reader<'a>,
    frames: Waiter<'a>,
    room: Notifier<'a>,
    closed: &'a AtomicU32,
}

impl<'a> Receiver<'a> {
    /// The next message, read in place; waits for it.
    ///
    /// # Errors
    ///
    /// `TimedOut` at the deadline; `Closed` after the last message; or `Read`.
    pub fn recv(&mut self, park: &impl Park, deadline: Deadline) -> Result<Message<'_, 'a>, Error> {
        let mut closed = false;
        // `Reader::wait` waits for a frame alone; here two things may end the wait. `closed` is
        // loaded before the last look into the ring, never after.
        self.frames.wait(park, deadline, || {
            closed = self.closed.load(Closed::Load) != 0;
            closed || !self.reader.is_empty()
        });
        match self.reader.read() {
            Ok(frame) => Ok(Message { frame, room: &mut self.room }),
            Err(ReadError::Empty) if closed => Err(Error::Closed),
            Err(ReadError::Empty) => Err(Error::TimedOut),
            Err(error) => Err(Error::Read(error)),
        }
    }
}

/// A message lent by [`Receiver::recv`]: a slice of its bytes. Dropping it keeps it in the pipe.
#[derive(Debug)]
pub struct Message<'m, 'a> {
    frame: Frame<'m, 'a>,
    room: &'m mut Notifier<'a>,
}

impl Message<'_, '_> {
    /// Leaves it behind.
    pub fn release(self, park: &impl Park) {
        self.frame.release();
        self.room.notify(park);
    }
}

impl Deref for Message<'_, '_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.frame
    }
}

/// Why nothing was sent or received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The deadline passed. That says nothing about the other side being alive.
    TimedOut,
    /// The sender has closed the pipe, and everything it had sent was received.
    Closed,
    /// The ring cannot be read.
    Read(ReadError),
    /// The ring cannot be written.
    Write(WriteError),
}

impl From<WriteError> for Error {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Full => Self::TimedOut,
            error => Self::Write(error),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("the deadline has passed"),
            Self::Closed => f.write_str("the other side has closed the pipe"),
            Self::Read(error) => error.fmt(f),
            Self::Write(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {}
