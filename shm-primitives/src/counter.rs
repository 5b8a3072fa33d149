//! Counters for statistics: one writer, anybody reads, at any moment and after its death.
//!
//! How many messages, how many bytes, how many dropped. Adding is one plain store while the
//! upper word stays as it is, which it does for 2³¹ of what is counted; reading is three loads.
//! Neither ever waits, tries again without end, or makes the other wait. Loads and stores of
//! 32 bits alone, so a counter works between 32- and 64-bit processes and on a core without
//! compare-and-swap.
//!
//! # Memory
//!
//! ```text
//! offset  size
//!      0     4  low            bits 0 to 31 of the value
//!      4     4  high           bits 31 to 62 of the value
//!
//!       bit      62                  31                  0
//!      high    [ . . . . . . . . . . x ]
//!       low                        [ x . . . . . . . . . . ]
//! ```
//!
//! Both words are little-endian `u32`. They share bit 31, x: where it differs, `high` is behind
//! by one, and the value is known all the same. Zeroed memory is a counter of 0. A
//! [`CounterLine`] is eight of these in one cache line, so that the counters of one writer do
//! not share a line with those of another.
//!
//! # Who writes what, in which order
//!
//! Both words are written by the [`CounterWriter`] alone. It keeps the value itself and reads
//! nothing but when it is made. Adding:
//!
//! 1. `low`,
//! 2. if it changes: `high`, Release, then a Release fence.
//!
//! A reader loads `high`, Acquire, `low`, Acquire, and `high` again. If that is what it was, it
//! has the value: `high` is right for this `low` or one behind, and bit 31 says which.
//!
//! Why that is enough: let the reader have found `high` = *h* twice. From the first time on
//! `low` is not older than the one stored in front of *h*: the Release of `high` and its
//! Acquire. And it was stored before `high` became anything after *h*: otherwise the fence in
//! front of that store and the Acquire of `low` would have shown the second load the later
//! `high`. So this `low` was stored while `high` was *h*, or just before; only the last of
//! these belongs to *h* + 1, and differs in bit 31.
//!
//! If `high` has moved, the reader looks once more. If it has moved again, the value was below
//! (*h* + 2) · 2³¹ when the reader began, for the *h* it loaded first, and is not below what it
//! found at last, at least *h* + 2, times 2³¹: it takes that number, one that the counter
//! reached or passed meanwhile. So [`get`](Counter::get) ends after five loads, and successive
//! values never go back.
//!
//! **Large additions.** An addition that moves `high` by more than one goes in steps, five
//! stores at the most: to the next multiple of 2³¹, where all bits of `low` but bit 31 are 0;
//! from there by `high` alone, to a multiple with the same bit 31; from there to the sum. All
//! that can be seen between is between the value before and the sum.
//!
//! The value stays at [`MAX`](Counter::MAX), 2⁶³ - 1, when it gets there: at a hundred
//! gigabytes a second that takes almost three years.
//!
//! Reading the digits of a number in one direction while they are written in the other is
//! Lamport's: "Concurrent reading and writing of clocks" (ACM Transactions on Computer Systems,
//! 1990). The shared bit, which makes the value exact and a half-made addition no matter, is
//! this module's addition.
//!
//! # Crash
//!
//! | the writer dies | what stands there |
//! |---|---|
//! | before it stores `low` | the value before |
//! | between `low` and `high` | the sum: bit 31 says that `high` is one behind |
//! | after `high` | the sum |
//! | in a large addition | a value between that before and the sum |
//!
//! Nobody has to repair anything. The successor's [`writer`](Counter::writer) goes on from what
//! stands there; it brings a `high` that is behind up to date first. What the dead one had not
//! added yet is not counted. A reader that dies leaves no trace.
//!
//! # Trust
//!
//! Any two words are a value of 63 bits, wrong ones a wrong value. Words that others change
//! cost a reader two loads more; the writer does not look at them. What the writer adds after
//! that shows a right `low` at once and a right `high` when it next changes. The number is for
//! people and graphs: nothing may rest on it that must not be lost.
//!
//! # Example
//!
//! ```
//! use shm_primitives::counter::CounterLine;
//!
//! let line = CounterLine::new(); // or one of CounterLine::slice_at
//! let [mut messages, mut bytes, ..] = line.writers();
//! messages.add(1);
//! bytes.add(5_000_000_000);
//! // Anybody else, now or when the writer is dead:
//! assert_eq!(line.get(0).map(|counter| counter.get()), Some(1));
//! assert_eq!(line.values()[..3], [1, 5_000_000_000, 0]);
//! ```

use crate::part::LINE;
use crate::sync::{AtomicU32, LOOM, Ordering::Relaxed, const_unless_loom, fence, sites};
use core::mem::{align_of, offset_of, size_of};

#[cfg(not(all(loom, any(test, feature = "loom"))))]
use crate::{
    part::{AttachError, check_region},
    region::Region,
};

sites! { SITES
    /// The upper word, after the lower one that was stored in front of it.
    PUBLISH = "counter.publish", Release, partner "counter.look",
        [Relaxed => Model("counter_read")];
    /// The upper word, before the lower one is read.
    LOOK = "counter.look", Acquire, partner "counter.publish",
        [Relaxed => Model("counter_read")];
    /// Lower words, after the upper one that was stored before them: a fence after that.
    CARRY = "counter.carry", Release, partner "counter.low",
        [Relaxed => Model("counter_read_twice_carried")];
    /// A successor's lower words, after the upper one that its predecessor stored: a fence
    /// before the first of them.
    SUCCEED = "counter.succeed", Release, partner "counter.low",
        [Relaxed => Model("counter_successor")];
    /// The lower word, before the upper one is read again.
    LOW = "counter.low", Acquire, partner "counter.carry",
        [Relaxed => Model("counter_read_twice_carried")];
}

/// Bits of the value below those of `high`.
const SHIFT: u32 = 31;

/// The value that the words stand for.
#[inline(always)]
const fn decode(high: u32, low: u32) -> u64 {
    // One behind, if the shared bit differs. Wrapping: only hostile words get there.
    let high = high.wrapping_add((high ^ (low >> SHIFT)) & 1);
    (high as u64) << SHIFT | (low & (u32::MAX >> 1)) as u64
}

/// The upper word of `value`, which is at most [`Counter::MAX`].
#[inline(always)]
const fn high_of(value: u64) -> u32 {
    (value >> SHIFT) as u32
}

/// A number that one writer adds to and anybody reads. 8 bytes. See the
/// [module](crate::counter).
#[repr(C)]
#[derive(Debug)]
pub struct Counter {
    low: AtomicU32,
    high: AtomicU32,
}

const _: () = assert!(
    LOOM || size_of::<Counter>() == 8
        && align_of::<Counter>() == 4
        && offset_of!(Counter, low) == 0
        && offset_of!(Counter, high) == 4
);

impl Default for Counter {
    fn default() -> Self {
        Self::new()
    }
}

impl Counter {
    /// The largest value; more is not counted.
    pub const MAX: u64 = u64::MAX >> 1;

    const_unless_loom! {
        /// A counter of 0, as a value: a field of a structure, a static.
        pub fn new() -> Self {
            Self::of_words(0, 0)
        }
    }

    const_unless_loom! {
        /// A counter that stands at `value` already, or at [`MAX`](Self::MAX) if that is less.
        pub fn starting_at(value: u64) -> Self {
            let value = if value > Self::MAX { Self::MAX } else { value };
            Self::of_words(value as u32, high_of(value))
        }
    }

    const_unless_loom! {
        fn of_words(low: u32, high: u32) -> Self {
            Self { low: AtomicU32::new(low), high: AtomicU32::new(high) }
        }
    }

    /// The counter at the start of `region`. Reads nothing: any 8 bytes are one.
    ///
    /// # Errors
    ///
    /// `TooSmall` or `Misaligned` (to 4).
    #[cfg(not(all(loom, any(test, feature = "loom"))))]
    pub fn at<'a>(region: &Region<'a>) -> Result<&'a Self, AttachError> {
        // SAFETY: repr(C), and nothing but atomic words.
        unsafe { region.words() }
    }

    /// What was counted: never more than [`MAX`](Self::MAX), and of successive values that one
    /// thread gets none is below the one before. While the writer adds it may be out of date at
    /// once; once the writer is dead it is what the writer had counted.
    ///
    /// Never blocks: three loads, five at the most.
    #[inline]
    pub fn get(&self) -> u64 {
        let mut high = self.high.load(LOOK);
        for _ in 0..2 {
            let low = self.low.load(LOW);
            let again = self.high.load(LOOK);
            if again == high {
                return decode(high, low);
            }
            high = again;
        }
        // It has moved twice since the first load: the counter was below this number then, and
        // is not now.
        u64::from(high) << SHIFT
    }

    /// The writer's handle, which goes on from the value that is there.
    ///
    /// One at a time: the caller has learned that the former writer is done, or dead, in a way
    /// that orders (a thread joined, a handle passed on, a proof of death). With two at once
    /// nothing is undefined, but the value is worth nothing.
    ///
    /// Writes only if the former writer died between its two stores.
    pub fn writer(&self) -> CounterWriter<'_> {
        // Relaxed: what told the caller that the former writer is done orders all of that one's
        // stores before this.
        let found = self.high.load(Relaxed);
        let value = decode(found, self.low.load(Relaxed));
        let high = high_of(value);
        if high != found {
            // Two behind would not be noticed.
            self.high.store(high, PUBLISH);
        }
        fence(SUCCEED);
        CounterWriter { counter: self, value }
    }

    /// Makes it a counter of 0 again.
    ///
    /// For memory that nobody counts in and nobody reads yet: whoever reads meanwhile gets any
    /// number. A death between the two stores leaves one below 2³², so the part that the counter
    /// lies in is published after it.
    pub fn clear(&self) {
        self.high.store(0, PUBLISH);
        self.low.store(0, Relaxed);
    }
}

/// The writer's end of a [`Counter`].
///
/// No operation blocks or reads shared memory. Dropping it changes nothing: the value stays.
#[derive(Debug)]
pub struct CounterWriter<'a> {
    counter: &'a Counter,
    /// What the words say, but for those of others who write there.
    value: u64,
}

impl CounterWriter<'_> {
    /// Adds `n`. What would be more than [`Counter::MAX`] is that.
    ///
    /// One store, and every 2³¹ a second one; five if `n` is large. A crash between them leaves
    /// the sum, or of a large `n` a part of it.
    #[inline]
    pub fn add(&mut self, n: u64) {
        let sum = self.value.wrapping_add(n);
        // No bit beyond the lower word's own 31 in n, and none changed by it.
        if ((sum ^ self.value) | n) >> SHIFT == 0 {
            self.counter.low.store(sum as u32, Relaxed);
            self.value = sum;
        } else {
            self.beyond(n);
        }
    }

    /// The value as this handle left it, or found it when it was made.
    #[inline]
    pub const fn get(&self) -> u64 {
        self.value
    }

    /// Adds so much that the upper word may change.
    #[cold]
    fn beyond(&mut self, n: u64) {
        let sum = self.value + n.min(Counter::MAX - self.value);
        if (sum >> SHIFT) - (self.value >> SHIFT) > 1 {
            self.leap(sum);
        }
        self.step(sum);
    }

    /// Goes on to `sum`, whose upper word is this one or the next.
    fn step(&mut self, sum: u64) {
        self.counter.low.store(sum as u32, Relaxed);
        if high_of(sum) != high_of(self.value) {
            self.carry(high_of(sum));
        }
        self.value = sum;
    }

    /// Stores the upper word.
    fn carry(&self, high: u32) {
        self.counter.high.store(high, PUBLISH);
        fence(CARRY);
    }

    /// Goes towards `sum`, whose upper word is beyond the next, until it is this one or the next.
    fn leap(&mut self, sum: u64) {
        // To the next multiple of 2³¹, where the lower word has its first bit alone.
        self.step((self.value >> SHIFT << SHIFT) + (1 << SHIFT));
        // By the upper word alone: to one with the same last bit, so that the lower one fits.
        let next = high_of(self.value);
        let last = high_of(sum);
        let far = last - ((last ^ next) & 1);
        if far != next {
            self.carry(far);
            self.value = u64::from(far) << SHIFT;
        }
    }
}

/// Eight [`Counter`]s in a cache line: those of one writer, or of writers on one core.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct CounterLine {
    counters: [Counter; CounterLine::COUNTERS],
}

const _: () =
    assert!(LOOM || size_of::<CounterLine>() == LINE && align_of::<CounterLine>() == LINE);

impl Default for CounterLine {
    fn default() -> Self {
        Self::new()
    }
}

impl CounterLine {
    /// Counters in a line.
    pub const COUNTERS: usize = 8;

    const_unless_loom! {
        /// A line of counters of 0, as a value.
        pub fn new() -> Self {
            Self {
                counters: [
                    Counter::new(), Counter::new(), Counter::new(), Counter::new(),
                    Counter::new(), Counter::new(), Counter::new(), Counter::new(),
                ],
            }
        }
    }

    /// The line at the start of `region`. Reads nothing: any 64 bytes are one.
    ///
    /// # Errors
    ///
    /// `TooSmall` or `Misaligned` (to 64).
    #[cfg(not(all(loom, any(test, feature = "loom"))))]
    pub fn at<'a>(region: &Region<'a>) -> Result<&'a Self, AttachError> {
        // SAFETY: repr(C), and nothing but atomic words.
        unsafe { region.words() }
    }

    /// The `count` lines at the start of `region`. Reads nothing: any bytes are lines.
    ///
    /// # Errors
    ///
    /// `TooSmall` or `Misaligned` (to 64).
    #[cfg(not(all(loom, any(test, feature = "loom"))))]
    pub fn slice_at<'a>(region: &Region<'a>, count: usize) -> Result<&'a [Self], AttachError> {
        check_region(region, count.saturating_mul(size_of::<Self>()), align_of::<Self>())?;
        // SAFETY: in bounds and aligned (just checked), mapped and initialised for 'a by the
        // region's contract; a line is nothing but atomic words, which any bytes are, and any
        // other writer is allowed.
        Ok(unsafe { core::slice::from_raw_parts(region.base().cast().as_ptr(), count) })
    }

    /// The counter number `index`; `None` from [`COUNTERS`](Self::COUNTERS) on.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&Counter> {
        self.counters.get(index)
    }

    /// All of them, in order.
    #[inline]
    pub const fn counters(&self) -> &[Counter; Self::COUNTERS] {
        &self.counters
    }

    /// What each of them has counted, one after the other: not all at one moment.
    pub fn values(&self) -> [u64; Self::COUNTERS] {
        self.counters.each_ref().map(Counter::get)
    }

    /// The writers' handles, all of them; see [`Counter::writer`].
    pub fn writers(&self) -> [CounterWriter<'_>; Self::COUNTERS] {
        self.counters.each_ref().map(Counter::writer)
    }

    /// Makes them counters of 0 again, one after the other; see [`Counter::clear`].
    pub fn clear(&self) {
        self.counters.iter().for_each(Counter::clear);
    }
}
