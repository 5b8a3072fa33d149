//! What is rung: a worker place's bell, a client's, and all of them together.

use super::{Announcer, SERVING};
use crate::part::LINE;
use crate::ready::ReadyBitmap;
use crate::sync::{AtomicU32, LOOM, Ordering::Relaxed, const_unless_loom, fence};
use crate::wake::WakeWord;
use core::mem::{align_of, offset_of, size_of};

#[cfg(not(all(loom, any(test, feature = "loom"))))]
use crate::{
    part::{AttachError, check_region},
    region::Region,
};

/// The words of a worker place's bell: one line. Memory; what is done with it is
/// [`WorkerBell`]'s.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct WorkerLine {
    pub(super) bell: WakeWord,
    sleepless: AtomicU32,
    server: AtomicU32,
    reserved: [AtomicU32; 12],
}

/// The words of a client's bell: one line. Memory; what is done with it is [`ClientBell`]'s.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct ClientLine {
    bell: WakeWord,
    sleepless: AtomicU32,
    reserved: [AtomicU32; 13],
}

const _: () = assert!(
    LOOM || size_of::<WorkerLine>() == LINE
        && align_of::<WorkerLine>() == LINE
        && offset_of!(WorkerLine, sleepless) == 8
        && offset_of!(WorkerLine, server) == 12
        && size_of::<ClientLine>() == LINE
        && align_of::<ClientLine>() == LINE
        && offset_of!(ClientLine, sleepless) == 8
);

const_unless_loom! {
    fn zero() -> AtomicU32 {
        AtomicU32::new(0)
    }
}

impl WorkerLine {
    const_unless_loom! {
        /// A bell that nobody sleeps at, of a place that nobody serves, as a value.
        pub fn new() -> Self {
            Self {
                bell: WakeWord::new(),
                sleepless: zero(),
                server: zero(),
                reserved: [
                    zero(), zero(), zero(), zero(), zero(), zero(),
                    zero(), zero(), zero(), zero(), zero(), zero(),
                ],
            }
        }
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

    pub(super) fn is_sleepless(&self) -> bool {
        self.sleepless.load(Relaxed) == 1
    }

    /// The place that the server word names; `u32::MAX` for nobody.
    pub(super) fn named(&self) -> u32 {
        self.server.load(Relaxed).wrapping_sub(1)
    }
}

impl Default for WorkerLine {
    fn default() -> Self {
        Self::new()
    }
}

impl ClientLine {
    const_unless_loom! {
        /// A bell that nobody sleeps at, as a value.
        pub fn new() -> Self {
            Self {
                bell: WakeWord::new(),
                sleepless: zero(),
                reserved: [
                    zero(), zero(), zero(), zero(), zero(), zero(), zero(),
                    zero(), zero(), zero(), zero(), zero(), zero(),
                ],
            }
        }
    }

    /// The `count` lines at the start of `region`. Reads nothing: any bytes are lines.
    ///
    /// # Errors
    ///
    /// `TooSmall` or `Misaligned` (to 64).
    #[cfg(not(all(loom, any(test, feature = "loom"))))]
    pub fn slice_at<'a>(region: &Region<'a>, count: usize) -> Result<&'a [Self], AttachError> {
        check_region(region, count.saturating_mul(size_of::<Self>()), align_of::<Self>())?;
        // SAFETY: as WorkerLine::slice_at.
        Ok(unsafe { core::slice::from_raw_parts(region.base().cast().as_ptr(), count) })
    }
}

impl Default for ClientLine {
    fn default() -> Self {
        Self::new()
    }
}

/// The bells of all worker places and the ready bits of their clients; a view of memory that
/// others have too. See the [module](crate::place).
#[derive(Clone, Copy, Debug)]
pub struct Bells<'a> {
    lines: &'a [WorkerLine],
    ready: &'a [AtomicU32],
    /// Words from one place's bits to the next's.
    row: usize,
    clients: u32,
}

impl<'a> Bells<'a> {
    /// Words that the ready bits of one worker place take for so many clients: whole lines are
    /// for the caller to see to.
    pub const fn words_for(clients: u32) -> usize {
        ReadyBitmap::words_for(clients as usize)
    }

    /// The bells in these lines, one for each worker place, and the ready bits of `clients`
    /// clients in these words: as many for each place, and as many as its clients need at least.
    /// `None` if there are no places, or too few words.
    pub const fn new(
        lines: &'a [WorkerLine],
        ready: &'a [AtomicU32],
        clients: u32,
    ) -> Option<Self> {
        if lines.is_empty() {
            return None;
        }
        let row = ready.len() / lines.len();
        if row < Self::words_for(clients) { None } else { Some(Self { lines, ready, row, clients }) }
    }

    /// How many worker places there are.
    pub const fn places(&self) -> u32 {
        // So many lines fit no address space.
        self.lines.len() as u32
    }

    /// How many client places there are.
    pub const fn clients(&self) -> u32 {
        self.clients
    }

    /// The bell of worker place `place`; `None` if there is no such place.
    pub fn worker(&self, place: u32) -> Option<WorkerBell<'a>> {
        let line = self.line(place)?;
        Some(WorkerBell { line, ready: self.ready_of(place)?, place, places: self.places() })
    }

    /// What client `client` rings when it has published in its lane to place `place`; `None` if
    /// there is no such place or client.
    pub fn announcer(&self, place: u32, client: u32) -> Option<Announcer<'a>> {
        if client >= self.clients {
            return None;
        }
        Some(Announcer::new(*self, self.line(place)?, self.ready_of(place)?, place, client))
    }

    pub(super) fn line(&self, place: u32) -> Option<&'a WorkerLine> {
        self.lines.get(place as usize)
    }

    fn ready_of(&self, place: u32) -> Option<ReadyBitmap<'a>> {
        // No overflow: within the slice's length, if there is such a place.
        let begin = (place as usize).checked_mul(self.row)?;
        let words = self.ready.get(begin..begin.checked_add(self.row)?)?;
        Some(ReadyBitmap::of(words, self.clients as usize))
    }
}

/// A worker place's bell: whoever serves the place, and whoever looks after it.
#[derive(Clone, Copy, Debug)]
pub struct WorkerBell<'a> {
    line: &'a WorkerLine,
    ready: ReadyBitmap<'a>,
    place: u32,
    places: u32,
}

impl<'a> WorkerBell<'a> {
    /// Which place's.
    pub fn place(&self) -> u32 {
        self.place
    }

    /// Which clients have something in their lanes to this place.
    pub fn ready(&self) -> ReadyBitmap<'a> {
        self.ready
    }

    /// What this place's worker sleeps at, whichever lanes it serves.
    pub fn bell(&self) -> &'a WakeWord {
        &self.line.bell
    }

    /// Whether this place's worker never sleeps.
    pub fn is_sleepless(&self) -> bool {
        self.line.is_sleepless()
    }

    /// Says whether this place's worker never sleeps. For that worker, before it serves any place:
    /// one that slept though it said that it does not would not be woken.
    pub fn set_sleepless(&self, sleepless: bool) {
        self.line.sleepless.store(sleepless.into(), Relaxed);
    }

    /// Says that the worker of place `by` serves the lanes of this place from now on: whoever
    /// publishes in one rings that one. **Then look into all of them**, also those whose bits are
    /// not set, and take up those that nobody has: what was published before is found there. See
    /// the [module](crate::place). A `by` that is no place is nobody.
    ///
    /// For the worker of place `by`: this place's own, or its helper. A store and a fence.
    pub fn serve(&self, by: u32) {
        self.line.server.store(by.wrapping_add(1), Relaxed);
        fence(SERVING);
    }

    /// Says it again if the word says something else: true then, and all lanes are to be looked
    /// into, as after [`serve`](Self::serve). One load as a rule. For who serves this place,
    /// whenever it sweeps it: one that was stopped may have stored its own name late.
    #[must_use = "look into all lanes of the place"]
    pub fn keep(&self, by: u32) -> bool {
        if self.server() == Some(by) {
            return false;
        }
        self.serve(by);
        true
    }

    /// Which place's worker serves the lanes of this place; `None` for nobody. May be out of date
    /// at once; and it does not say that this one lives.
    pub fn server(&self) -> Option<u32> {
        Some(self.line.named()).filter(|place| *place < self.places)
    }
}

/// A client's bell: what it sleeps at, and its workers ring.
#[derive(Clone, Copy, Debug)]
pub struct ClientBell<'a> {
    line: &'a ClientLine,
}

impl<'a> ClientBell<'a> {
    /// The bell in this line.
    pub const fn new(line: &'a ClientLine) -> Self {
        Self { line }
    }

    /// What the client sleeps at. Several workers notify it: each by a
    /// [`shared_notifier`](WakeWord::shared_notifier).
    pub fn bell(&self) -> &'a WakeWord {
        &self.line.bell
    }

    /// Whether the client never sleeps: then it need not be notified, and no fence is needed.
    pub fn is_sleepless(&self) -> bool {
        self.line.sleepless.load(Relaxed) == 1
    }

    /// Says whether the client never sleeps. For the client, before it calls.
    pub fn set_sleepless(&self, sleepless: bool) {
        self.line.sleepless.store(sleepless.into(), Relaxed);
    }
}
