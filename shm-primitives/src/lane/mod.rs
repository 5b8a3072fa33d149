//! Lanes: one receiver, and a ring of its own for each of many senders.
//!
//! Several senders never share a ring: one that died or was stopped between two stores would
//! hold up the others. So each takes a *lane* in the receiver's memory: a place in a table, a
//! frame ring, and a word to wait for room at. The receiver has one word to sleep at, and a bit
//! for each lane that says where something is.
//!
//! # Memory
//!
//! ```text
//! table     a slot table: slot i is lane i's. Its holder is the sender; when that has left or is
//!           recovered, the receiver. Entry: the id of the sender that made the lane, and 0
//! ready     a ready bitmap: bit i is lane i's
//! bell      the wake word that the receiver sleeps at
//! area      the lanes, one behind the other, `4096 + capacity` bytes each:
//!
//! offset  size
//!      0    64  card   who sends: bytes of the users' own      the sender, before it publishes
//!     64    64  room   the wake word that the sender sleeps at when the ring is full
//!    128  3712  0
//!   3840   256  the ring's header
//!   4096        the ring's data, `capacity` bytes
//! ```
//!
//! The area may be sparse. A lane whose slot is nobody's is never touched, not even read; and the
//! capacity is at least 4096, so that a lane is whole pages.
//!
//! # Who does what, in which order
//!
//! | sender | receiver |
//! |---|---|
//! | [reserves](Lanes::reserve) a slot; sees to it that the lane's memory is there | |
//! | writes the card, makes the ring, claims its writing end | |
//! | **publishes** the slot's entry, Release | |
//! | writes frames | |
//! | after each, or after several: fence; sets the ready bit; wakes ([`announce`](LaneWriter::announce)) | |
//! | | finds the bit, or sweeps the [claimed](Lanes::claimed) slots: reads the entry, Acquire; reads the card, claims the reading end ([`adopt`](Lanes::adopt)) |
//! | | reads frames, wakes a sender that waits for room |
//! | leaves: gives up the writing end, **hands the slot over** to the receiver, Release, and announces it | |
//! | | finds the slot its own, Acquire; reads what is left; gives up the reading end; releases the slot ([`finish`](LaneReader::finish)) |
//!
//! Only the receiver ever gives a slot back to nobody. So what it has read of a published slot
//! stays true, and a lane is made anew when neither end of its ring is held: whoever reserves the
//! slot has the lane to itself. That a slot was handed over is seen after all that was written
//! into the ring before.
//!
//! # Receivers that never sleep
//!
//! Such a one ([`sleepless`](Lanes::sleepless)) looks at its lanes again and again, and now and
//! then at all that are claimed. A sender that finds its bit set then makes no fence: what it has
//! published is whole and in order by the ring's and the slot's own orderings, and is found by a
//! later look, though not by any certain one. If the bit is being cleared at this moment it may
//! stay clear beside a message; so a receiver that leaves lanes out until their bits are set has
//! to look into these too, in bounded time. A sender that finds its bit clear makes the fence.
//!
//! Nobody is woken so. Where a receiver sleeps after all, a message to it may wait until its sleep
//! ends by itself, after 100 ms at the most; none is lost.
//!
//! # Crash
//!
//! | who dies | where | what is left |
//! |---|---|---|
//! | sender | before the entry is published | a slot without entry: [`recover`](Lanes::recover) releases it |
//! | sender | after it | a lane with all frames that were published; `recover` makes the slot the receiver's, which reads and finishes it as one that was handed over |
//! | sender | between a frame and its ready bit or its wake | the frame is found in the next sweep, 100 ms later at the most |
//! | sender | while it leaves | the slot is the dead one's still: as above; or the receiver's |
//! | receiver | anywhere | the lanes end with it: whoever finds it dead gives the memory up as a whole, and senders make new lanes in its successor's |
//!
//! # Trust
//!
//! Both ends keep the protocol, as the contract of [`Lanes::new`] says. Table, bitmap and words
//! stand anything; rings check what they read. A lane in which something stands that no sender
//! writes is not read any more, and comes back when its sender has ended: by
//! [`discard_with`](LaneReader::discard_with), or by [`discard`](Lanes::discard) where it could not
//! even be taken up.
//!
//! # Example
//!
//! ```
//! use shm_primitives::identity::OwnerId;
//! use shm_primitives::lane::{Lanes, Table};
//! use shm_primitives::ready::ReadyBitmap;
//! use shm_primitives::region::Region;
//! use shm_primitives::sync::AtomicU32;
//! use shm_primitives::wake::{SpinPark, WakeWord};
//!
//! const LANES: u32 = 2;
//! # const SLOTS: usize = Table::words_for(LANES).unwrap();
//! #[repr(align(4096))]
//! struct Pages([u8; Lanes::area_size(LANES, 4096).unwrap()]);
//! let mut memory = Box::new(Pages([0; _]));
//! let slots = [const { AtomicU32::new(0) }; SLOTS];
//! let bits = [const { AtomicU32::new(0) }; 1];
//! let bell = WakeWord::new();
//! let (receiver, sender) = (OwnerId::new(0, 1).unwrap(), OwnerId::new(1, 1).unwrap());
//! let (table, ready) = (Table::in_words(&slots), ReadyBitmap::new(&bits));
//! // SAFETY: nobody else has this memory.
//! let lanes =
//!     unsafe { Lanes::new(receiver, table, ready, &bell, Region::from_mut(&mut memory.0), 4096) }?;
//! let park = SpinPark::new(|| 0);
//!
//! let mut writer = lanes.reserve(sender)?.open(b"camera")?;
//! writer.ring().push(b"hello")?;
//! writer.announce(&park);
//!
//! let lane = lanes.ready().marked().next().unwrap() as u32;
//! let mut reader = lanes.adopt(lane)?.unwrap();
//! assert_eq!(reader.card().as_bytes(), b"camera");
//! let frame = reader.ring().read()?;
//! assert_eq!(&*frame, b"hello");
//! frame.release();
//!
//! writer.close(&park);
//! assert!(reader.has_ended());
//! assert!(reader.finish().is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod card;
mod layout;
mod reader;
mod writer;

pub use card::{Card, CardTooLong};
pub use layout::{Lanes, LanesError, OpenError, Table};
pub use reader::LaneReader;
pub use writer::{Announcer, LaneWriter, Reserved};

/// Bytes before a ring's data: a page, so that the data are whole pages.
const HEAD: usize = 4096;
/// Least bytes of a ring's data.
const LEAST_CAPACITY: u32 = 4096;
