//! What a worker is doing right now, in one cache line that outlives it.
//!
//! A worker says which transaction it begins and when it is done; a supervisor in another
//! process looks at any moment, and after the worker's death. It sees the last record that
//! was whole, never a mix of two. One writer, any number of readers; loads, stores and
//! fences alone, which on x86-64 cost no instruction.
//!
//! # Memory
//!
//! ```text
//! offset  size
//!      0     4  selector       changes so far, wrapping; its lowest bit is the current copy
//!      4    28  copy 0
//!     32    28  copy 1
//!     60     4  reserved, 0
//!
//! a copy:
//!     +0     8  seq_id         low word, high word; 0 for no transaction yet
//!     +8     8  start          low word, high word; nanoseconds of a monotonic clock
//!    +16     4  place          see below
//!    +20     4  lane_epoch
//!    +24     4  reply_position
//!
//! place:
//!     31           30      29      16 15      0
//!    +------------+-------+----------+---------+
//!    | processing | group |  worker  |  lane   |
//!    +------------+-------+----------+---------+
//! ```
//!
//! All words are little-endian `u32`. Zeroed memory is a monitor whose worker has not begun
//! anything. There is no magic: a monitor is a field of a part that has one.
//!
//! # Who writes what, in which order
//!
//! Every word is written by the [`MonitorWriter`] alone. [`begin`](MonitorWriter::begin),
//! [`end`](MonitorWriter::end) and [`reset`](MonitorWriter::reset) are each one change:
//!
//! 1. a Release fence,
//! 2. the seven words of the copy that is *not* current,
//! 3. the selector plus 1, Release: that copy is the current one now.
//!
//! A reader loads the selector, Acquire, the seven words of the copy it names, a fence,
//! Acquire, and the selector again. If it is the same, the words are one record; if not, it
//! tries again, [`ATTEMPTS`](ThreadMonitor::ATTEMPTS) times at the most, and then says
//! [`Busy`].
//!
//! Why that is enough: the words of the copy named by selector *s* are overwritten only by
//! change *s* + 2, after the selector had become *s* + 1. Has a reader seen a word of
//! change *s* + 2, then the fence in front of that word's store and the reader's fence
//! order the store of *s* + 1 before the reader's second load, which therefore finds
//! *s* + 1 at least.
//!
//! **When the selector wraps.** A reader that is halted between its two loads of the
//! selector while exactly a multiple of 2³² changes pass takes a mix for a record. At two
//! changes a microsecond, as many as a worker of a million transactions a second makes, it
//! would have to sleep for 35 minutes and to wake within that one half of a microsecond.
//! No use of a snapshot may rest on more than that; before a message is skipped for good
//! the worker is dead, and a snapshot taken after that has no such moment.
//!
//! The two alternating copies are the seqlock latch of Linux (`seqcount_latch_t`); its
//! fences are those of Boehm, "Can seqlocks get along with programming language memory
//! models?" (2012).
//!
//! # Crash
//!
//! | the writer dies | what readers and its successor see |
//! |---|---|
//! | before it stores the selector | the record before, whole: the copy half written is not current |
//! | after it | the new record, whole |
//!
//! Nothing is to be repaired. The successor goes on from what the selector says, writes the
//! copy half written anew, and until it changes something the record stays: a supervisor
//! reads from it what the dead worker had in hand, deals with that, and calls `reset` last.
//! A reader that dies leaves no trace.
//!
//! A message is poison only if the head of its lane is the one that the record names
//! (`lane`, `lane_epoch`, `seq_id`), and no final reply to it stands in the response ring at
//! or after `reply_position`: a worker may die between its reply and its `end`.
//!
//! # Trust
//!
//! The writer reads the memory once, when the handle is made; from then on it keeps selector
//! and record itself. Any words decode to a record that a worker could have written, and a
//! selector that never rests costs a reader `Busy`, never a loop. A record may say anything:
//! whoever acts on it compares it with what it knows.
//!
//! # Example
//!
//! ```
//! use shm_primitives::monitor::{Group, ThreadMonitor, Transaction};
//!
//! let monitor = ThreadMonitor::new();
//! let mut writer = monitor.writer(); // the worker's
//! let transaction = Transaction {
//!     seq_id: 7,
//!     group: Group::Vip,
//!     worker: 3,
//!     lane: 12,
//!     lane_epoch: 1,
//!     reply_position: 4096,
//!     start: 1_000_000,
//! };
//! writer.begin(&transaction)?;
//! // Here the worker works, or dies. The supervisor looks:
//! let seen = monitor.snapshot()?;
//! assert!(seen.is_processing());
//! assert_eq!((seen.processing_seq(), seen.worker()), (Some(7), Some(3)));
//! writer.end();
//! assert!(!monitor.snapshot()?.is_processing());
//! assert_eq!(monitor.snapshot()?.transaction(), Some(transaction)); // the last one
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod record;

pub use record::{Group, InvalidTransaction, Snapshot, Transaction};

use crate::identity::{Dead, OwnerId};
use crate::latch::{Latch, LatchWriter};
use crate::sync::const_unless_loom;
use core::fmt;
use record::Record;

#[cfg(not(all(loom, any(test, feature = "loom"))))]
use crate::{part::AttachError, region::Region};

/// Which transaction a worker is processing, readable by others at any moment and after its
/// death. 64 bytes, one cache line. See the [module](crate::monitor).
#[repr(transparent)]
#[derive(Debug)]
pub struct ThreadMonitor(Latch);

impl Default for ThreadMonitor {
    fn default() -> Self {
        Self::new()
    }
}

impl ThreadMonitor {
    /// How often [`snapshot`](Self::snapshot) tries. A worker would have to make a change
    /// within each of so many readings of one cache line; who does that is hostile, or does
    /// nothing but begin and end.
    pub const ATTEMPTS: u32 = Latch::ATTEMPTS;

    const_unless_loom! {
        /// A monitor whose worker has not begun anything, as a value: a field of a structure,
        /// a static.
        pub fn new() -> Self {
            Self::starting_at(0)
        }
    }

    const_unless_loom! {
        /// The same as if `changes` changes had been made; not 0 only to test the wrap.
        pub fn starting_at(changes: u32) -> Self {
            Self(Latch::starting_at(changes))
        }
    }

    /// Makes a monitor at the start of `region`, whatever is there: all words become 0.
    ///
    /// For memory that no other process uses yet. A crash meanwhile leaves a mix of old words
    /// and zeros, so the part that it lies in is published after it.
    ///
    /// # Errors
    ///
    /// `TooSmall` or `Misaligned`; nothing was written.
    #[cfg(not(all(loom, any(test, feature = "loom"))))]
    pub fn init_at<'a>(region: &Region<'a>) -> Result<&'a Self, AttachError> {
        let this = Self::at(region)?;
        this.0.clear();
        Ok(this)
    }

    /// The monitor at the start of `region`. Reads nothing: any 64 bytes are one.
    ///
    /// # Errors
    ///
    /// `TooSmall` or `Misaligned`.
    #[cfg(not(all(loom, any(test, feature = "loom"))))]
    pub fn at<'a>(region: &Region<'a>) -> Result<&'a Self, AttachError> {
        // SAFETY: repr(C), and nothing but atomic words.
        unsafe { region.words() }
    }

    /// The worker's handle, which goes on from the record that is there.
    ///
    /// One at a time: whoever owns the ends that the worker reads from and writes to owns the
    /// monitor with them, and has learned that the former writer is done in a way that
    /// orders (a thread joined, a handle passed on). With two at once nothing is undefined,
    /// but snapshots are worth nothing.
    pub fn writer(&self) -> MonitorWriter<'_> {
        MonitorWriter(self.0.writer())
    }

    /// The handle of a dead worker's successor, or of the supervisor that clears up after it.
    /// The record stays until the first change: what the dead one had in hand.
    ///
    /// The monitor does not say whose it is, so `dead` is not compared with anything: it is
    /// the proof that nobody else writes.
    pub fn recover_writer(&self, dead: Dead<OwnerId>) -> MonitorWriter<'_> {
        let _ = dead;
        self.writer()
    }

    /// The last record that was whole. Of a living worker's it may be out of date at once; of
    /// successive snapshots by one thread none is older than the one before.
    ///
    /// Never blocks; looks at the memory [`ATTEMPTS`](Self::ATTEMPTS) times at the most.
    ///
    /// # Errors
    ///
    /// [`Busy`] if the record changed during each attempt. Never once the worker is dead.
    pub fn snapshot(&self) -> Result<Snapshot, Busy> {
        self.0.read().map(|record| Record(record).decode()).ok_or(Busy)
    }
}

/// The record changed each time it was read: try again later. A worker at work leaves more
/// than enough time; one that does this for long is broken or hostile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Busy;

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the monitor changed during each of {} attempts", ThreadMonitor::ATTEMPTS)
    }
}

impl core::error::Error for Busy {}

/// The worker's end of a [`ThreadMonitor`].
///
/// No operation blocks, spins, or reads shared memory. Dropping it changes nothing: the
/// record stays.
#[derive(Debug)]
pub struct MonitorWriter<'a>(LatchWriter<'a>);

crate::sync::with_read_modify_write! {
    // What a channel needs, which exists where ends are claimed.
    impl MonitorWriter<'_> {
        /// Reads again what stands in memory: for one made before its predecessor was dead.
        pub(crate) fn refresh(&mut self) {
            self.0.refresh();
        }
    }
}

impl MonitorWriter<'_> {
    /// The record as this handle left it, or found it when it was made.
    pub fn snapshot(&self) -> Snapshot {
        self.record().decode()
    }

    /// Says that `transaction` is being processed from now on. One that was not ended is
    /// replaced.
    ///
    /// # Errors
    ///
    /// A field is out of range; the record is as before.
    #[doc(alias = "BeginTransaction")]
    #[inline]
    pub fn begin(&mut self, transaction: &Transaction) -> Result<(), InvalidTransaction> {
        self.0.write(Record::processing(transaction)?.0);
        Ok(())
    }

    /// Says that nothing is being processed, and keeps the transaction as the last one.
    #[doc(alias = "EndTransaction")]
    #[inline]
    pub fn end(&mut self) {
        self.0.write(self.record().ended().0);
    }

    /// Clears the record: as if the worker had not begun anything yet.
    #[doc(alias = "Reset")]
    #[inline]
    pub fn reset(&mut self) {
        self.0.write(Record::EMPTY.0);
    }

    #[inline(always)]
    fn record(&self) -> Record {
        Record(*self.0.record())
    }
}
