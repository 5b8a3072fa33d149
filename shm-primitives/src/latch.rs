//! A record of seven words that one writes and others read at any moment: two copies and a
//! selector, in one cache line. What a monitor and a row of orders are.
//!
//! ```text
//! offset  size
//!      0     4  selector       changes so far, wrapping; its lowest bit is the current copy
//!      4    28  copy 0
//!     32    28  copy 1
//!     60     4  reserved, 0
//! ```
//!
//! Why readers get whole records, and what a death leaves, is argued in
//! [`monitor`](crate::monitor). Slots of a table have two copies and a selector as well, but
//! entries of any length, and a version that says whose slot it is and takes part in each look.

use crate::part::LINE;
use crate::sync::{AtomicU32, LOOM, Ordering::Relaxed, const_unless_loom, fence, sites, spin_loop};
use core::mem::{align_of, offset_of, size_of};

sites! { SITES
    /// The selector, after the words of the copy that it makes the current one.
    PUBLISH = "latch.publish", Release, partner "latch.select",
        [Relaxed => Model("monitor_first_record")];
    /// The selector, before the words of the copy that it names are read.
    SELECT = "latch.select", Acquire, partner "latch.publish",
        [Relaxed => Model("monitor_first_record")];
    /// The words of a copy, after the selector that sends readers to the other one: a fence
    /// before the first of them.
    OVERWRITE = "latch.overwrite", Release, partner "latch.recheck",
        [Relaxed => Model("monitor_overwritten")];
    /// The words of a copy, before the second look at the selector: a fence after the last
    /// of them.
    RECHECK = "latch.recheck", Acquire, partner "latch.overwrite",
        [Relaxed => Model("monitor_overwritten")];
}

/// Words of a copy.
const WORDS: usize = 7;

/// What stands in a copy, in this process's own memory.
pub(crate) type Record = [u32; WORDS];

/// See the [module](self). Zeroed memory is one whose record is all 0.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Latch {
    selector: AtomicU32,
    copies: [[AtomicU32; WORDS]; 2],
    reserved: AtomicU32,
}

const _: () = assert!(
    LOOM || size_of::<Latch>() == LINE
        && align_of::<Latch>() == LINE
        && offset_of!(Latch, copies) == 4
        && offset_of!(Latch, reserved) == 60
);

const_unless_loom! {
    fn empty_copy() -> [AtomicU32; WORDS] {
        [
            AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0),
            AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0),
        ]
    }
}

impl Latch {
    /// How often [`read`](Self::read) tries. The writer would have to make a change within each
    /// of so many readings of one line.
    pub(crate) const ATTEMPTS: u32 = 64;

    const_unless_loom! {
        /// As if `changes` changes had been made, all to 0.
        pub(crate) fn starting_at(changes: u32) -> Self {
            Self {
                selector: AtomicU32::new(changes),
                copies: [empty_copy(), empty_copy()],
                reserved: AtomicU32::new(0),
            }
        }
    }

    /// All words become 0. For memory that nobody reads yet.
    pub(crate) fn clear(&self) {
        for word in self.copies.iter().flatten().chain([&self.selector, &self.reserved]) {
            word.store(0, Relaxed);
        }
    }

    /// The last record that was whole; `None` if it changed during each of
    /// [`ATTEMPTS`](Self::ATTEMPTS) looks. Loads alone.
    pub(crate) fn read(&self) -> Option<Record> {
        (0..Self::ATTEMPTS).find_map(|_| self.attempt())
    }

    fn attempt(&self) -> Option<Record> {
        let selector = self.selector.load(SELECT);
        let record = self.load(selector);
        fence(RECHECK);
        if self.selector.load(Relaxed) == selector {
            return Some(record);
        }
        spin_loop();
        None
    }

    /// The writer's handle, which goes on from the record that is there. One at a time.
    pub(crate) fn writer(&self) -> LatchWriter<'_> {
        // Relaxed: what told the caller that the former writer is done or dead orders all of
        // that writer's stores before this, those of a change never finished too, and those
        // no load of the selector could order.
        let selector = self.selector.load(Relaxed);
        LatchWriter { latch: self, selector, record: self.load(selector) }
    }

    #[inline(always)]
    fn copy(&self, selector: u32) -> &[AtomicU32; WORDS] {
        &self.copies[(selector & 1) as usize]
    }

    #[inline(always)]
    fn load(&self, selector: u32) -> Record {
        let mut record = [0; WORDS];
        for (word, from) in record.iter_mut().zip(self.copy(selector)) {
            *word = from.load(Relaxed);
        }
        record
    }
}

/// The writer's end of a [`Latch`]. Dropping it changes nothing.
#[derive(Debug)]
pub(crate) struct LatchWriter<'a> {
    latch: &'a Latch,
    /// What the selector is; the one in memory is only written.
    selector: u32,
    /// What stands in the current copy.
    record: Record,
}

crate::sync::with_read_modify_write! {
    // What a channel needs, which exists where ends are claimed.
    impl LatchWriter<'_> {
        /// Reads again what stands in memory: for one made before its predecessor was dead.
        pub(crate) fn refresh(&mut self) {
            *self = self.latch.writer();
        }
    }
}

impl LatchWriter<'_> {
    /// The record as this handle left it, or found it when it was made.
    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// Makes it this one.
    #[inline(always)]
    pub(crate) fn write(&mut self, record: Record) {
        let next = self.selector.wrapping_add(1);
        fence(OVERWRITE);
        for (to, word) in self.latch.copy(next).iter().zip(record) {
            to.store(word, Relaxed);
        }
        self.latch.selector.store(next, PUBLISH);
        self.selector = next;
        self.record = record;
    }
}
