//! The chunk pool: large messages written once, in place, and read in place by any number of
//! subscribers.
//!
//! One publisher has a pool of chunks. It takes one on [loan](Publisher::loan), writes it, and
//! lends it to subscribers: each gets a [`ChunkHandle`] of 16 bytes through a queue of its own,
//! which is the caller's and no part of this module. A subscriber [borrows](Holder::borrow) what
//! the handle names and gives it back. When every subscriber has, the chunk is free again.
//!
//! There is no count of readers. A count that a dying process had to take down cannot be
//! repaired; who holds what is instead written down as a **mark**, one word for each subscriber
//! and chunk. The marks of a dead subscriber are cleared, and everything else is as it was.
//!
//! # Memory
//!
//! Two kinds of part. The **pool** is written by the publisher alone, so subscribers may map it
//! read-only. A **marks** part is one subscriber's, which writes to it. Each may lie in a segment
//! of its own: a publisher need not have room for every subscriber that may ever come, and
//! subscribers that do not trust each other need not see each other's marks.
//!
//! ```text
//! pool    offset  size
//!              0    64  part header, kind 4: `capacity` is the chunks, rounded up to a power of two;
//!                       `options` the alignment; owner 0 the publisher     (see crate::part)
//!             64     4  id         of this pool: what handles and marks name
//!             68     4  classes    sizes there are, 1 to 8
//!             72     4  chunks     of all sizes
//!             76     4  places     subscribers there may be at a time
//!             80    48  reserved, zero
//!            128   128  8 x  size    u32   bytes of a chunk, a multiple of the alignment
//!                            count   u32   chunks of this size
//!                            first   u32   number of the first of them
//!                            offset  u32   where it lies, in units of 64 bytes
//!            256        connected  u32 for each place: the id of the marks there, or 0
//!                       to a multiple of 64
//!                       generation u32 for each chunk: how often it was taken on loan
//!                       to a multiple of the alignment
//!                       the chunks, class by class
//!
//! marks   offset  size
//!              0    64  part header, kind 5: `capacity` as the pool's; owner 1 the subscriber
//!             64     4  pool       the pool they are for
//!             68     4  id         of this part
//!             72     4  chunks     of that pool
//!             76    52  reserved, zero
//!            128        mark       u32 for each chunk
//! ```
//!
//! A mark is 0, or
//!
//! ```text
//!  31                                  2   1    0
//! +-------------------------------------+----+----+
//! | position in the subscriber's queue  | in | 1  |
//! |                            (30 bit) |hand|    |
//! +-------------------------------------+----+----+
//! ```
//!
//! A handle is 16 bytes: the pool's id, the chunk's number, its generation, the message's length.
//!
//! Which chunks are free is written nowhere in shared memory. It is in the publisher's own
//! [`Slot`]s, and a successor works it out from the marks: so nobody can make the publisher
//! write into a chunk twice at a time, whatever stands in the memory.
//!
//! # Who writes what, in which order
//!
//! | publisher | subscriber |
//! |---|---|
//! | takes a chunk that is free and stores its next generation | |
//! | writes the payload | |
//! | for each subscriber: stores the **mark** *lent*, Release; pushes the handle | |
//! | | pops the handle; makes the mark *in hand* by compare-and-swap, Acquire |
//! | | reads |
//! | | stores the mark 0, Release |
//! | looks at the marks of a chunk it shared, Acquire: free if all are 0 | |
//!
//! The mark comes before the handle, so a handle that can be popped has its mark. Were the mark
//! written after it, a subscriber that is quick could give back before it had been lent to.
//!
//! *Lent* becomes *in hand* by compare-and-swap because it may go two ways. A publisher whose
//! push failed [takes back](Shared::take_back) what it lent; and a handle may be copied, but
//! only one of its copies can be borrowed at a time. It is the one read-modify-write on the way
//! of a message; there is no fence, and no system call.
//!
//! The publisher looks at marks only when a free list is empty or it is asked to
//! [`reclaim`](Publisher::reclaim), from the chunk shared longest ago on.
//!
//! # Crash
//!
//! | who dies | where | what is left |
//! |---|---|---|
//! | publisher | with a chunk on loan | no mark; the chunk is free for the successor |
//! | publisher | between mark and push | a mark whose position the queue never reached: the successor clears it, see [`recover_publisher`](PoolRef::recover_publisher) |
//! | publisher | after the push | the chunk stays what it is until the subscriber gives it back |
//! | publisher | while it connects or disconnects a subscriber | before the word *connected*, nothing; after it, the successor must be given these marks; disconnecting is begun anew |
//! | subscriber | with handles unread or chunks in hand | its marks; the publisher [clears](Publisher::recover_holder) them, or a successor that goes on with the queue [takes them over](PoolRef::recover_holder) |
//! | subscriber | after it stored 0 | nothing |
//! | either recoverer | anywhere | the part is its own, half done; who recovers it in turn does all of it again |
//!
//! Nothing is freed while a living subscriber has it, and nothing stays marked for ever. What
//! can be lost is the message that was never pushed to anybody, and the one that a subscriber
//! had popped, if its queue does not keep that one for the successor.
//!
//! # Generations
//!
//! A chunk's generation goes up at each loan and is in the handle, so a handle that is out of
//! date or made up is told from the right one. After 2³² loans of one chunk it begins again; a
//! handle as old as that passes for the chunk's present one. It still can be borrowed only by a
//! subscriber to whom that chunk is lent at present, which then reads what it was lent, cut to
//! the length of the old handle. The memory is kept by the marks alone.
//!
//! Positions are compared with half their range: a handle popped more than 2²⁹ pushes ago and
//! never borrowed may be taken for one not pushed, and is cleared. It can then not be borrowed.
//! Marks *in hand* are never judged by their position while their owner lives.
//!
//! # Trust
//!
//! Sizes and offsets are copied and checked when attaching; of a handle each field is checked
//! before it is used, each with an error of its own. No value of a mark or generation can harm
//! the one who loads it.
//!
//! - A publisher believes nobody. A hostile subscriber can keep chunks from coming back, by
//!   marks that it does not clear: at most all of them, until it is proven dead, or shut out by
//!   the end of its process. It can clear its marks early, and then reads what is overwritten.
//! - Whoever may write a marks part of *another* subscriber can do the latter to that one. Where
//!   subscribers do not trust each other, each has its marks in a segment that only it and the
//!   publisher may write.
//! - A subscriber that does not trust the publisher attaches with
//!   [`attach_untrusted`](PoolRef::attach_untrusted) and copies what it reads.
//! - A new message lies where an old one was: what is left unwritten shows that one's bytes to
//!   the new one's readers.
//!
//! A row of marks for each consumer instead of a count is what the hazard pointers of M. Michael
//! ("Hazard Pointers: Safe Memory Reclamation for Lock-Free Objects", 2004) do; that the owner
//! writes the mark on the reader's behalf, before the reader knows of the object, spares the
//! reader their fence and second look. iceoryx2 keeps for each connection the list of what it
//! borrowed, to the same end.
//!
//! # Example
//!
//! ```
//! use shm_primitives::identity::OwnerId;
//! use shm_primitives::pool::{Limits, MarksRef, Options, Place, PoolRef, Slot};
//! use shm_primitives::region::Region;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! const OPTIONS: Options = Options::new(7, 2).class(1024, 4).class(65536, 1);
//! #[repr(align(64))]
//! struct Lines<const N: usize>([u8; N]);
//! let mut memory = Box::new(Lines([0; OPTIONS.required_size().unwrap()]));
//! let mut marks = Lines([0; MarksRef::required_size(OPTIONS.chunks()).unwrap()]);
//!
//! // SAFETY: nobody else creates a pool or marks here, and the numbers are used once.
//! let pool = unsafe { PoolRef::init_at(Region::from_mut(&mut memory.0), OPTIONS) }?;
//! // SAFETY: as above.
//! let marks = unsafe { MarksRef::init_at(Region::from_mut(&mut marks.0), &pool, 1) }?;
//!
//! // The publisher. Its own memory says what is free.
//! let mut slots = [const { Slot::new() }; OPTIONS.chunks() as usize];
//! let mut places = [const { Place::new() }; 2];
//! let publisher =
//!     pool.claim_publisher(OwnerId::new(0, 1).unwrap(), Limits::NONE, &mut slots, &mut places, |_| 0)?;
//! publisher.connect(0, marks)?;
//! // The subscriber, in this process or another.
//! let holder = pool.claim_holder(marks, OwnerId::new(1, 1).unwrap())?;
//!
//! let mut loan = publisher.loan(5)?;
//! loan.copy_from_slice(b"hello");
//! let shared = loan.share();
//! let handle = shared.lend(0, 0)?; // the first that is pushed into its queue
//! drop(shared);
//!
//! let borrowed = holder.borrow(handle)?;
//! assert_eq!(&*borrowed, b"hello");
//! assert_eq!(publisher.reclaim(), 0);
//! drop(borrowed);
//! assert_eq!(publisher.reclaim(), 1);
//! # Ok(())
//! # }
//! ```

mod error;
mod handle;
mod holder;
mod layout;
mod marks;
mod publisher;

pub use error::{BorrowError, ConnectError, LendError, LoanError, OutOfRange, Taken};
pub use handle::ChunkHandle;
pub use holder::{Borrowed, Holder};
pub use layout::{Options, PoolRef};
pub use marks::MarksRef;
pub use publisher::{Counts, Limits, Loan, Place, Publisher, Shared, Slot};

use crate::sync::sites;

sites! { SITES
    /// The mark of a chunk lent, after its payload and its generation.
    LEND = "pool.lend", Release, partner "pool.borrow",
        [Relaxed => Model("pool_lend_borrow")];
    /// The mark of a chunk lent, before its generation and payload are read.
    BORROW = "pool.borrow", Acquire, partner "pool.lend",
        [Relaxed => Model("pool_lend_borrow")];
    /// The mark cleared, after the payload was read.
    GIVE_BACK = "pool.give-back", Release, partner "pool.reclaim",
        [Relaxed => Model("pool_reclaim")];
    /// The marks of a chunk, before it is taken on loan again and overwritten.
    RECLAIM = "pool.reclaim", Acquire, partner "pool.give-back",
        [Relaxed => Model("pool_reclaim")];
    /// That a place is free, after the marks that were connected there are cleared, for the
    /// successor of a publisher that dies in between.
    DISCONNECTED = "pool.disconnected", Release, partner "part.claim",
        [Relaxed => Limit("what a crash leaves is what the memory held, and a crash is not a load: every store before it is in it, in an order only the compiler could have changed; the release forbids it that")];
}
