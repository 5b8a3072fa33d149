//! Our side of every comparison: the one place that names our rings.

pub mod node;
pub mod service;

use crate::frame::Frame;
use crate::region::Region;
use crate::traffic::{BatchReceiver, BatchSender, FrameReceiver, FrameSender, Receiver, Sender};
use shm_primitives::identity::OwnerId;
use shm_primitives::part::{Corrupt, Shareable};
use shm_primitives::pool::{self, ChunkHandle, Limits, MarksRef, Place, PoolRef, Publisher, Slot};
use shm_primitives::region;
use shm_primitives::ring::frame::{self, FrameRingRef, ReadError, Reader, WriteError, Writer};
use shm_primitives::ring::spsc::{Consumer, Options, PopError, Producer, PushError, SpscRingRef};
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr;
use std::time::{Duration, Instant};

/// Bytes that a ring of `capacity` items takes.
#[must_use]
pub fn spsc_size<T>(capacity: u32) -> usize {
    let size = Options::new(capacity).required_size::<T>();
    size.expect("a size that memory has")
}

/// Both ends of a new ring of items, in a region of its own.
#[must_use]
pub fn spsc<T: Shareable>(region: &Region, capacity: u32) -> (Producer<'_, T>, Consumer<'_, T>) {
    // SAFETY: the mapping is readable, writable and zeroed, lives as long as the borrow,
    // and has no other use.
    let memory = unsafe { region::Region::new(region.base(), region.size()) };
    // SAFETY: the region is fresh: there was no ring in it, and nobody makes another.
    let ring = unsafe { SpscRingRef::<T>::init_at(memory, Options::new(capacity)) };
    let ring = ring.expect("a region of the size asked for");
    (
        ring.claim_producer(owner(0)).expect("nobody has it"),
        ring.claim_consumer(owner(1)).expect("nobody has it"),
    )
}

fn owner(index: u32) -> OwnerId {
    OwnerId::new(index, 1).expect("a small index")
}

impl<T: Send> Sender<T> for Producer<'_, T> {
    #[inline]
    fn try_send(&mut self, item: T) -> bool {
        match self.push(item) {
            Ok(()) => true,
            Err(PushError::Full(_)) => false,
            Err(PushError::Corrupt(_)) => corrupt(self.corruption()),
        }
    }
}

impl<T: Send> Receiver<T> for Consumer<'_, T> {
    #[inline]
    fn try_recv(&mut self) -> Option<T> {
        match self.pop() {
            Ok(item) => Some(item),
            Err(PopError::Empty) => None,
            Err(PopError::Corrupt) => corrupt(self.corruption()),
        }
    }
}

/// Not to be taken for a ring that is full or empty, and waited for.
#[cold]
#[inline(never)]
fn corrupt(what: Option<Corrupt>) -> ! {
    panic!("our ring says it is corrupt: {what:?}");
}

impl BatchSender for Producer<'_, u64> {
    #[inline]
    fn send_some(&mut self, items: Range<u64>) -> usize {
        if let Some(grant) = self.grant((items.end - items.start) as usize) {
            return grant.fill(items);
        }
        match self.corruption() {
            None => 0,
            what => corrupt(what),
        }
    }
}

impl BatchReceiver for Consumer<'_, u64> {
    #[inline]
    fn recv_some(&mut self, max: usize, each: impl FnMut(u64)) -> usize {
        let grant = match self.read(max) {
            Ok(grant) => grant,
            Err(PopError::Empty) => return 0,
            Err(PopError::Corrupt) => corrupt(self.corruption()),
        };
        let count = grant.len();
        grant.iter().copied().for_each(each);
        grant.release(count);
        count
    }
}

/// Bytes that a ring of `capacity` bytes of frames takes.
#[must_use]
pub fn frames_size(capacity: usize) -> usize {
    frame_options(capacity).required_size().expect("a size that memory has")
}

fn frame_options(capacity: usize) -> frame::Options {
    frame::Options::new(capacity.try_into().expect("a capacity of 32 bits"))
}

/// Both ends of a new ring of frames, in a region of its own.
#[must_use]
pub fn frames(region: &Region, capacity: usize) -> (Writer<'_>, Reader<'_>) {
    // SAFETY: as in `spsc`.
    let memory = unsafe { region::Region::new(region.base(), region.size()) };
    // SAFETY: as in `spsc`.
    let ring = unsafe { FrameRingRef::init_at(memory, frame_options(capacity)) };
    let ring = ring.expect("a region of the size asked for");
    (
        ring.claim_writer(owner(0)).expect("nobody has it"),
        ring.claim_reader(owner(1)).expect("nobody has it"),
    )
}

impl<const N: usize> FrameSender<N> for Writer<'_> {
    #[inline]
    fn try_send(&mut self, frame: Frame<'_, N>) -> bool {
        let mut grant = match self.grant(N) {
            Ok(grant) => grant,
            Err(WriteError::Full) => return false,
            Err(error @ WriteError::TooLarge { .. }) => panic!("{error}"),
            Err(WriteError::Corrupt) => corrupt(self.corruption()),
        };
        let room: &mut [u8; N] = grant.as_mut_array().expect("as long as asked for");
        // SAFETY: the same bytes; `fill` leaves none of them uninitialised.
        frame.fill(unsafe { &mut *ptr::from_mut(room).cast::<[MaybeUninit<u8>; N]>() });
        grant.commit(N);
        true
    }
}

impl<const N: usize> FrameReceiver<N> for Reader<'_> {
    #[inline]
    fn try_recv(&mut self, frame: Frame<'_, N>) -> bool {
        let received = match self.read() {
            Ok(received) => received,
            Err(ReadError::Empty) => return false,
            Err(error @ ReadError::TooSmall { .. }) => panic!("{error}"),
            Err(ReadError::Corrupt) => corrupt(self.corruption()),
        };
        frame.check(received.as_array().expect("as long as sent"));
        received.release();
        true
    }
}

/// Chunks of a pool, all of one size.
pub const CHUNKS: usize = 16;

fn pool_options(size: usize) -> pool::Options {
    let size = size.try_into().expect("a size of 32 bits");
    pool::Options::new(1, 1).class(size, CHUNKS as u32)
}

/// Bytes that a pool of chunks of so many bytes takes, and the marks of one subscriber behind it.
#[must_use]
pub fn pool_size(size: usize) -> usize {
    let pool = pool_options(size).required_size().expect("a size that memory has");
    pool + MarksRef::required_size(CHUNKS as u32).expect("a small size")
}

/// A new pool in a region of its own, with one subscriber's marks, and its publisher, to whom
/// that subscriber is connected.
#[must_use]
pub fn pool<'a, 's>(
    region: &'a Region,
    size: usize,
    slots: &'s mut [Slot],
    places: &'s mut [Place<'a>],
) -> (PoolRef<'a>, MarksRef<'a>, Publisher<'s, 'a>) {
    let options = pool_options(size);
    // SAFETY: as in `spsc`.
    let memory = unsafe { region::Region::new(region.base(), region.size()) };
    let (first, all) = (options.required_size().expect("a size"), region.size());
    let rest = memory.part(first, all - first).expect("a region of the size asked for");
    // SAFETY: the region is fresh: nothing was in it, and nobody makes another pool.
    let pool = unsafe { PoolRef::init_at(memory, options) }.expect("a region of that size");
    // SAFETY: as above.
    let marks = unsafe { MarksRef::init_at(rest, &pool, 1) }.expect("a region of that size");
    let publisher = pool.claim_publisher(owner(0), Limits::NONE, slots, places, |_| 0);
    let publisher = publisher.expect("nobody has it");
    publisher.connect(0, marks).expect("nobody is connected");
    (pool, marks, publisher)
}

/// Takes chunks of `size` bytes and gives them back unused.
///
/// # Errors
///
/// When the kernel has no memory.
pub fn loans(size: usize, count: u64) -> Result<Duration, String> {
    let region = Region::shared(pool_size(size)).map_err(|e| e.to_string())?;
    let mut slots = [const { Slot::new() }; CHUNKS];
    let mut places = [Place::new()];
    let (_, _, publisher) = pool(&region, size, &mut slots, &mut places);
    let clock = Instant::now();
    for _ in 0..count {
        black_box(publisher.loan(size).expect("a free chunk").as_mut_ptr());
    }
    Ok(clock.elapsed())
}

/// Sends messages of `size` bytes through chunks to a subscriber on the same thread: the first
/// word is written and read.
///
/// # Errors
///
/// When the kernel has no memory.
pub fn messages(size: usize, count: u64) -> Result<Duration, String> {
    let region = Region::shared(pool_size(size)).map_err(|e| e.to_string())?;
    let mut slots = [const { Slot::new() }; CHUNKS];
    let mut places = [Place::new()];
    let (pool, marks, publisher) = pool(&region, size, &mut slots, &mut places);
    let queue = Region::shared(spsc_size::<ChunkHandle>(16)).map_err(|e| e.to_string())?;
    let (mut tx, mut rx) = spsc::<ChunkHandle>(&queue, 16);
    let holder = pool.claim_holder(marks, owner(1)).expect("nobody has it");
    let clock = Instant::now();
    for number in 0..count {
        let mut loan = publisher.loan(size).expect("a free chunk");
        loan[..8].copy_from_slice(&number.to_le_bytes());
        let handle = loan.share().lend(0, number as u32).expect("nothing is away");
        tx.push(handle).expect("room");
        let handle = rx.pop().expect("a message");
        let borrowed = holder.borrow(handle).expect("it was lent");
        assert_eq!(borrowed[..8], number.to_le_bytes());
    }
    Ok(clock.elapsed())
}
