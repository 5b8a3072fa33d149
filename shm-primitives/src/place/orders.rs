//! What the supervisor says of a worker place.

use super::{Cause, OVERWRITE, PUBLISH, RECHECK, SELECT};
use crate::part::{Corrupt, LINE};
use crate::sync::{
    AtomicU32, LOOM, Ordering::Relaxed, const_unless_loom, fence, spin_loop,
};
use core::fmt;
use core::mem::{align_of, offset_of, size_of};

#[cfg(not(all(loom, any(test, feature = "loom"))))]
use crate::{part::AttachError, region::Region};

/// Words of a copy.
const WORDS: usize = 7;

/// What the worker of a place is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Order {
    /// Nobody is to be here.
    #[default]
    Vacant = 0,
    /// To serve.
    Run = 1,
    /// To finish what it has in hand, leave the lanes as they are, and go.
    Drain = 2,
}

impl Order {
    const fn from_word(word: u32) -> Result<Self, Corrupt> {
        match word {
            0 => Ok(Self::Vacant),
            1 => Ok(Self::Run),
            2 => Ok(Self::Drain),
            found => Err(Corrupt { what: "order", found, limit: Self::Drain as u32 }),
        }
    }
}

/// What the supervisor says of the worker of a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Condition {
    /// There is none, and none is on its way.
    #[default]
    Stopped = 0,
    /// It was started, and does not serve yet.
    Starting = 1,
    /// It serves: new calls may go to it.
    Up = 2,
    /// The last one died, and the next is started a while later.
    BackOff = 3,
    /// Too many died, or one could not begin at all: none is started any more.
    Failed = 4,
    /// It is alive, as far as is known, and has been at one call for too long: no new calls.
    Suspect = 5,
    /// It was killed and does not die: the kernel has it in an uninterruptible sleep. Its lanes are
    /// its until it does, and nobody is to send there. Another place has its successor.
    Stuck = 6,
    /// Nobody is wanted here: a worker is started at this place when another one is stuck.
    Spare = 7,
}

impl Condition {
    const fn from_word(word: u32) -> Result<Self, Corrupt> {
        match word {
            0 => Ok(Self::Stopped),
            1 => Ok(Self::Starting),
            2 => Ok(Self::Up),
            3 => Ok(Self::BackOff),
            4 => Ok(Self::Failed),
            5 => Ok(Self::Suspect),
            6 => Ok(Self::Stuck),
            7 => Ok(Self::Spare),
            found => Err(Corrupt { what: "condition", found, limit: Self::Spare as u32 }),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Up => "up",
            Self::BackOff => "back-off",
            Self::Failed => "failed",
            Self::Suspect => "suspect",
            Self::Stuck => "stuck",
            Self::Spare => "spare",
        })
    }
}

/// What stands in a row: all that the supervisor says of one worker place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Orders {
    /// How often a worker was started here: raised before each start. A worker that was started
    /// as another one does not claim the place. Wraps.
    pub incarnation: u32,
    /// What it is to do.
    pub order: Order,
    /// Which place's worker is asked to serve the lanes of this one meanwhile; not compared with
    /// how many places there are.
    pub helper: Option<u32>,
    /// How it is.
    pub condition: Condition,
    /// How many workers were started here because the one before had died.
    pub restarts: u32,
    /// What the last one that died died of.
    pub cause: Option<Cause>,
    /// When this was written, in milliseconds since 1970.
    pub changed_ms: u64,
}

/// Why orders cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum OrdersError {
    /// The row changed during each attempt: try again later.
    Busy,
    /// What stands there is no order, condition or cause of death: not of a supervisor that
    /// keeps the protocol.
    Corrupt(Corrupt),
}

impl fmt::Display for OrdersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => {
                write!(f, "the orders changed during each of {} attempts", OrdersRow::ATTEMPTS)
            }
            Self::Corrupt(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for OrdersError {}

impl From<Corrupt> for OrdersError {
    fn from(error: Corrupt) -> Self {
        Self::Corrupt(error)
    }
}

/// The words of a copy, in this process's own memory.
#[derive(Clone, Copy, Debug)]
struct Record([u32; WORDS]);

impl Record {
    fn of(orders: &Orders) -> Self {
        let [kind, value] = Cause::to_words(orders.cause);
        Self([
            orders.incarnation,
            orders.order as u32 | (orders.condition as u32) << 8 | kind << 16,
            // Of the last number there is no place.
            orders.helper.map_or(0, |place| place.wrapping_add(1)),
            orders.restarts,
            value,
            orders.changed_ms as u32,
            (orders.changed_ms >> 32) as u32,
        ])
    }

    fn load(copy: &[AtomicU32; WORDS]) -> Self {
        let mut words = [0; WORDS];
        for (word, from) in words.iter_mut().zip(copy) {
            *word = from.load(Relaxed);
        }
        Self(words)
    }

    fn decode(&self) -> Result<Orders, Corrupt> {
        let [incarnation, state, helper, restarts, value, low, high] = self.0;
        Ok(Orders {
            incarnation,
            order: Order::from_word(state & 0xff)?,
            condition: Condition::from_word(state >> 8 & 0xff)?,
            helper: helper.checked_sub(1),
            restarts,
            cause: Cause::from_words([state >> 16, value])?,
            changed_ms: u64::from(low) | u64::from(high) << 32,
        })
    }
}

const_unless_loom! {
    fn empty_copy() -> [AtomicU32; WORDS] {
        [
            AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0),
            AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0),
        ]
    }
}

/// What one worker place is ordered to do, and how it is: written by the supervisor, read by
/// anybody at any moment. 64 bytes, one cache line. See the [module](crate::place).
#[repr(C, align(64))]
#[derive(Debug)]
pub struct OrdersRow {
    selector: AtomicU32,
    copies: [[AtomicU32; WORDS]; 2],
    reserved: AtomicU32,
}

const _: () = assert!(
    LOOM || size_of::<OrdersRow>() == LINE
        && align_of::<OrdersRow>() == LINE
        && offset_of!(OrdersRow, copies) == 4
        && offset_of!(OrdersRow, reserved) == 60
);

impl Default for OrdersRow {
    fn default() -> Self {
        Self::new()
    }
}

impl OrdersRow {
    /// How often [`read`](Self::read) tries. A supervisor would have to write within each of so
    /// many readings of one line.
    pub const ATTEMPTS: u32 = 64;

    const_unless_loom! {
        /// The row of a place that is to stay empty, as a value.
        pub fn new() -> Self {
            Self::starting_at(0)
        }
    }

    const_unless_loom! {
        /// The same as if `changes` changes had been made; not 0 only to test the wrap.
        pub fn starting_at(changes: u32) -> Self {
            Self {
                selector: AtomicU32::new(changes),
                copies: [empty_copy(), empty_copy()],
                reserved: AtomicU32::new(0),
            }
        }
    }

    /// The row at the start of `region`. Reads nothing: any 64 bytes are one.
    ///
    /// # Errors
    ///
    /// `TooSmall` or `Misaligned` (to 64).
    #[cfg(not(all(loom, any(test, feature = "loom"))))]
    pub fn at<'a>(region: &Region<'a>) -> Result<&'a Self, AttachError> {
        // SAFETY: repr(C), and nothing but atomic words.
        unsafe { region.words() }
    }

    /// Makes it the row of a place that is to stay empty, whatever is there. For memory that
    /// nobody reads yet.
    pub fn clear(&self) {
        for word in self.copies.iter().flatten().chain([&self.selector, &self.reserved]) {
            word.store(0, Relaxed);
        }
    }

    /// What the supervisor said last. May be out of date at once; of successive answers to one
    /// thread none is older than the one before.
    ///
    /// Never blocks: looks at the row [`ATTEMPTS`](Self::ATTEMPTS) times at the most. Loads
    /// alone.
    ///
    /// # Errors
    ///
    /// See [`OrdersError`]; `Busy` never once the supervisor is dead.
    pub fn read(&self) -> Result<Orders, OrdersError> {
        let record = (0..Self::ATTEMPTS).find_map(|_| self.attempt()).ok_or(OrdersError::Busy)?;
        Ok(record.decode()?)
    }

    fn attempt(&self) -> Option<Record> {
        let selector = self.selector.load(SELECT);
        let record = Record::load(self.copy(selector));
        fence(RECHECK);
        if self.selector.load(Relaxed) == selector {
            return Some(record);
        }
        spin_loop();
        None
    }

    /// The supervisor's handle, which goes on from the record that is there.
    ///
    /// One at a time: the segment's owner has it, and has learned that the one before is done or
    /// dead in a way that orders. With two nothing is undefined, but what readers get is worth
    /// nothing.
    pub fn writer(&self) -> OrdersWriter<'_> {
        // Relaxed: what told the caller that the former writer is done orders all of that one's
        // stores before this.
        let selector = self.selector.load(Relaxed);
        OrdersWriter { row: self, selector, record: Record::load(self.copy(selector)) }
    }

    fn copy(&self, selector: u32) -> &[AtomicU32; WORDS] {
        &self.copies[(selector & 1) as usize]
    }
}

/// The supervisor's end of an [`OrdersRow`].
///
/// No operation blocks or reads shared memory. Dropping it changes nothing.
#[derive(Debug)]
pub struct OrdersWriter<'a> {
    row: &'a OrdersRow,
    /// What the selector is; the one in memory is only written.
    selector: u32,
    /// What stands in the current copy.
    record: Record,
}

impl OrdersWriter<'_> {
    /// The orders as this handle left them, or found them when it was made.
    ///
    /// # Errors
    ///
    /// It found what no supervisor wrote. [`write`](Self::write) mends that.
    pub fn orders(&self) -> Result<Orders, Corrupt> {
        self.record.decode()
    }

    /// The incarnation as this handle left or found it, whatever else stands there: for one who
    /// mends a row that makes no sense and must not give an incarnation twice.
    pub fn incarnation(&self) -> u32 {
        self.record.0[0]
    }

    /// Says this from now on. Readers see it whole, or what was said before; also if the
    /// supervisor dies meanwhile.
    pub fn write(&mut self, orders: &Orders) {
        let record = Record::of(orders);
        let next = self.selector.wrapping_add(1);
        fence(OVERWRITE);
        for (word, value) in self.row.copy(next).iter().zip(record.0) {
            word.store(value, Relaxed);
        }
        self.row.selector.store(next, PUBLISH);
        self.selector = next;
        self.record = record;
    }
}
