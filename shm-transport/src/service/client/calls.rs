//! The calls in flight: a table of slots, one after the other of which has a call.
//!
//! A call's sequence id says its slot, by its lowest bits, and whoever has a reply, or another end
//! of a call, finds the slot by it: see [`completion`](shm_primitives::completion), which sees to it
//! that of all who end a call one does, and that the slot's next call is not taken for it.

use super::super::failure::Failure;
use super::super::name::ServiceName;
use super::error::CallError;
use parking_lot::Mutex;
use shm_primitives::completion::{Completion, Tag};
use shm_primitives::message::{Priority, SeqId};
use shm_primitives::place::Cause;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::Waker;

/// Slots that are made together.
const BLOCK: usize = 64;
/// The most slots of a table: calls in flight of one client.
pub(super) const MOST: usize = 4096;

/// How a call ended, as who ends it says.
#[derive(Debug)]
pub(super) enum Ending {
    Completed(Vec<u8>),
    /// See [`Failure`].
    Failed(Vec<u8>),
    Crashed(Cause),
    Corrupt,
    Gone,
    Unattended(Box<ServiceName>),
}

impl Ending {
    /// What the caller is told.
    pub fn result(
        self,
        function: u32,
        priority: Priority,
        seq_id: u64,
        place: u32,
        attempt: u32,
    ) -> Result<Vec<u8>, CallError> {
        let crashed = |cause, place, letter| CallError::WorkerCrashed {
            cause,
            attempt,
            function,
            seq_id,
            place,
            letter,
        };
        let bytes = match self {
            Self::Completed(bytes) => return Ok(bytes),
            Self::Failed(bytes) => bytes,
            Self::Crashed(cause) => return Err(crashed(cause, place, None)),
            Self::Corrupt => return Err(CallError::Corrupt { place }),
            Self::Gone => return Err(CallError::ServiceGone),
            Self::Unattended(service) => return Err(CallError::Unattended { service }),
        };
        Err(match Failure::from_bytes(&bytes) {
            Some(Failure::Handler(message)) => CallError::Failed { message },
            Some(Failure::UnknownFunction) => CallError::UnknownFunction { function },
            Some(Failure::Crashed { cause, place, letter, .. }) => crashed(cause, place, letter),
            Some(Failure::Panicked(message)) => CallError::Panicked { message },
            Some(Failure::Refused(why)) => CallError::Refused { why },
            Some(Failure::TooLarge { length: found, most }) => {
                CallError::ReplyTooLarge { found, most }
            }
            Some(Failure::Cancelled) => CallError::Cancelled,
            Some(Failure::Unserved) => CallError::NoWorker { priority },
            None => CallError::Corrupt { place },
        })
    }
}

/// A place for a call. In lines of its own: another thread's call is beside it.
#[repr(align(64))]
#[derive(Debug)]
pub(super) struct Slot {
    pub done: Completion<Ending>,
    /// The worker place whose lane the call goes into.
    place: AtomicU32,
    /// Whether somebody is to be woken by a waker.
    has_waker: AtomicBool,
    /// The call that has the slot, or had it last.
    seq: AtomicU64,
    side: Mutex<Side>,
}

/// What goes with a call now and then.
#[derive(Debug, Default)]
struct Side {
    /// Of which call the others are.
    seq: u64,
    waker: Option<Waker>,
    progress: Option<Vec<u8>>,
}

impl Slot {
    fn new() -> Self {
        Self {
            done: Completion::new(),
            place: AtomicU32::new(0),
            has_waker: AtomicBool::new(false),
            seq: AtomicU64::new(0),
            side: Mutex::default(),
        }
    }

    /// Says where its call goes. Before the request is sent: whoever has the reply finds it.
    #[inline]
    pub fn goes_to(&self, place: u32) {
        self.place.store(place, Ordering::Relaxed);
    }

    /// Whether its call went there.
    #[inline]
    pub fn is_of(&self, place: u32) -> bool {
        self.place.load(Ordering::Relaxed) == place
    }

    /// Where its call went.
    pub fn place(&self) -> u32 {
        self.place.load(Ordering::Relaxed)
    }
}

/// The slots of one client, and its sequence ids.
#[derive(Debug)]
pub(super) struct Table {
    blocks: Box<[OnceLock<Box<[Slot]>>]>,
    /// Bits of a sequence id that choose the slot.
    bits: u32,
    /// What stands above the counter in each sequence id.
    above: u64,
    next: AtomicU64,
    /// Slots that have a waker.
    wakers: AtomicU32,
}

/// Each slot has a call, or the ids are used up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NotBegun;

/// Ids that are left for calls just being made when the client takes a new place.
const RESERVE: u64 = 1 << 20;

impl Table {
    /// For at least so many calls at a time, but [`MOST`] at the most, of the client at `place` in
    /// tenancy `tenancy`.
    pub fn new(calls: usize, place: u32, tenancy: u32) -> Self {
        let slots = calls.next_power_of_two().clamp(BLOCK, MOST);
        let generation = tenancy & ((1 << SeqId::GENERATION_BITS) - 1);
        // A service has fewer places.
        let above = SeqId::new(place, generation, 1).map_or(0, |first| first.raw() - 1);
        Self {
            blocks: (0..slots / BLOCK).map(|_| OnceLock::new()).collect(),
            bits: slots.trailing_zeros(),
            above,
            next: AtomicU64::new(1),
            wakers: AtomicU32::new(0),
        }
    }

    /// Slots there are.
    pub fn slots(&self) -> usize {
        1 << self.bits
    }

    #[inline]
    pub fn tag(&self, seq: u64) -> Tag {
        Tag::of(seq, self.bits)
    }

    /// The slot of a sequence id, which may be anybody's.
    #[inline]
    pub fn slot(&self, seq: u64) -> &Slot {
        let index = seq as usize & (self.slots() - 1);
        let block = self.blocks[index / BLOCK]
            .get_or_init(|| (0..BLOCK).map(|_| Slot::new()).collect::<Vec<_>>().into());
        &block[index % BLOCK]
    }

    /// Whether the id is one of this client's, of this tenancy.
    #[inline]
    pub fn is_ours(&self, seq: u64) -> bool {
        seq & !SeqId::MAX_COUNTER == self.above
    }

    /// Whether there are hardly any ids left. A new tenancy of the client's place, or another
    /// place, has new ones.
    #[inline]
    pub fn are_used_up(&self) -> bool {
        self.next.load(Ordering::Relaxed) > SeqId::MAX_COUNTER - RESERVE
    }

    /// Begins a call: its sequence id.
    #[inline]
    pub fn begin(&self) -> Result<u64, NotBegun> {
        for _ in 0..self.slots() {
            let counter = self.next.fetch_add(1, Ordering::Relaxed);
            if counter > SeqId::MAX_COUNTER {
                break;
            }
            let seq = self.above | counter;
            let slot = self.slot(seq);
            if slot.done.begin(self.tag(seq)).is_ok() {
                slot.seq.store(seq, Ordering::Release);
                return Ok(seq);
            }
        }
        Err(NotBegun)
    }

    /// The calls that are in flight, or were until just now.
    pub fn in_flight(&self) -> impl Iterator<Item = (u64, &Slot)> {
        let slots = self.blocks.iter().filter_map(OnceLock::get).flat_map(|block| block.iter());
        slots.filter_map(|slot| {
            let seq = slot.seq.load(Ordering::Acquire);
            (seq != 0 && slot.done.is_pending(self.tag(seq))).then_some((seq, slot))
        })
    }

    /// Keeps a report of progress for who waits for the call.
    pub fn report(&self, seq: u64, bytes: &[u8]) {
        let slot = self.slot(seq);
        let mut side = slot.side.lock();
        // Behind the lock: what is beside the slot may be the next call's by now.
        if slot.done.is_pending(self.tag(seq)) {
            side.of(seq).progress = Some(bytes.into());
        }
    }

    /// The last report of progress that was not taken.
    pub fn take_report(&self, seq: u64) -> Option<Vec<u8>> {
        let mut side = self.slot(seq).side.lock();
        if side.seq == seq { side.progress.take() } else { None }
    }

    /// Whether there is one.
    pub fn has_report(&self, seq: u64) -> bool {
        let side = self.slot(seq).side.lock();
        side.seq == seq && side.progress.is_some()
    }

    /// Sees to it that `waker` is woken when the call ends. Look then once more whether it has.
    pub fn set_waker(&self, seq: u64, waker: &Waker) {
        let slot = self.slot(seq);
        let mut side = slot.side.lock();
        let side = side.of(seq);
        match &mut side.waker {
            Some(old) => old.clone_from(waker),
            None => {
                side.waker = Some(waker.clone());
                slot.has_waker.store(true, Ordering::Relaxed);
                self.wakers.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// The waker of a call, which is its no more.
    pub fn take_waker(&self, seq: u64) -> Option<Waker> {
        let slot = self.slot(seq);
        if !slot.has_waker.load(Ordering::Relaxed) {
            return None;
        }
        let mut side = slot.side.lock();
        if side.seq != seq {
            return None;
        }
        let waker = side.waker.take()?;
        slot.has_waker.store(false, Ordering::Relaxed);
        self.wakers.fetch_sub(1, Ordering::Relaxed);
        Some(waker)
    }

    /// How many wait by a waker. To be asked behind a fence that follows the end of a call.
    #[inline]
    pub fn wakers(&self) -> u32 {
        self.wakers.load(Ordering::Relaxed)
    }
}

impl Side {
    /// The same, emptied of a former call's.
    fn of(&mut self, seq: u64) -> &mut Self {
        if self.seq != seq {
            // A waker of a former call was taken when that ended.
            self.seq = seq;
            self.progress = None;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shm_primitives::completion::Outcome;

    impl Table {
        /// As if so many calls had been made.
        pub(in super::super) fn jump(&self, calls: u64) {
            self.next.store(calls, Ordering::Relaxed);
        }
    }

    fn end(table: &Table, seq: u64) {
        let done = &table.slot(seq).done;
        done.win(table.tag(seq), Outcome::Reply).unwrap().settle(Ending::Completed(vec![]));
        assert!(done.take(table.tag(seq)).is_some());
    }

    #[test]
    fn a_slot_for_each_call() {
        let table = Table::new(100, 3, 7);
        assert_eq!(table.slots(), 128);
        let calls: Vec<u64> = (0..128).map(|_| table.begin().unwrap()).collect();
        assert_eq!(table.begin(), Err(NotBegun), "no slot is left");
        assert_eq!(table.in_flight().count(), 128);
        // One that is free is found, wherever it is.
        end(&table, calls[77]);
        let next = table.begin().unwrap();
        assert!(!calls.contains(&next), "an id is given once");
        assert!(std::ptr::eq(table.slot(next), table.slot(calls[77])));
        let id = SeqId::from_raw(next).unwrap();
        assert_eq!((id.place(), id.generation()), (3, 7));
        assert!(table.is_ours(next));
        let of_others = [SeqId::new(4, 7, 1), SeqId::new(3, 8, 1)];
        assert!(of_others.iter().flatten().all(|id| !table.is_ours(id.raw())));
    }

    #[test]
    fn no_fewer_and_no_more() {
        assert_eq!(Table::new(0, 0, 1).slots(), BLOCK);
        assert_eq!(Table::new(usize::MAX >> 1, 0, 1).slots(), MOST);
        assert_eq!(Table::new(MOST + 1, 0, 1).slots(), MOST);
    }

    #[test]
    fn ids_are_used_up() {
        let table = Table::new(1, 0, 1 << 12);
        table.jump(SeqId::MAX_COUNTER - RESERVE);
        assert!(!table.are_used_up());
        let last = table.begin().unwrap();
        assert!(table.are_used_up());
        end(&table, last);
        table.jump(SeqId::MAX_COUNTER);
        assert_eq!(table.begin(), Ok(SeqId::new(0, 0, SeqId::MAX_COUNTER).unwrap().raw()));
        assert_eq!(table.begin(), Err(NotBegun), "never one twice");
    }

    #[test]
    fn reports_and_wakers_are_of_one_call() {
        let table = Table::new(1, 0, 1);
        let first = table.begin().unwrap();
        table.report(first, b"half");
        table.set_waker(first, Waker::noop());
        table.set_waker(first, Waker::noop());
        assert_eq!(table.wakers(), 1);
        end(&table, first);
        assert!(table.take_waker(first).is_some());
        assert_eq!(table.wakers(), 0);
        table.report(first, b"late");
        // The next call of the same slot.
        let next = (1..=BLOCK).map(|_| {
            let seq = table.begin().unwrap();
            end(&table, seq);
            seq
        });
        let next = next.last().unwrap();
        assert!(std::ptr::eq(table.slot(first), table.slot(next)));
        assert_eq!((table.take_report(next), table.has_report(next)), (None, false));
        assert_eq!(table.take_report(first).as_deref(), Some(&b"half"[..]));
    }

    /// Its call ends and the slot's next one begins between the look at a report and the keeping of it.
    #[test]
    fn a_late_report_takes_nothing_from_the_next_call() {
        let table = Table::new(1, 0, 1);
        let first = table.begin().unwrap();
        let slot = table.slot(first);
        let mut side = slot.side.lock();
        std::thread::scope(|scope| {
            let late = scope.spawn(|| table.report(first, b"late"));
            // Long enough for it to wait for the lock; if it is not there yet nothing is found.
            std::thread::sleep(std::time::Duration::from_millis(50));
            end(&table, first);
            let next = loop {
                let seq = table.begin().unwrap();
                if std::ptr::eq(table.slot(seq), slot) {
                    break seq;
                }
                end(&table, seq);
            };
            side.of(next).waker = Some(Waker::noop().clone());
            slot.has_waker.store(true, Ordering::Relaxed);
            table.wakers.fetch_add(1, Ordering::Relaxed);
            drop(side);
            late.join().unwrap();
            assert!(table.take_waker(next).is_some(), "its caller would never be woken");
            assert_eq!((table.take_report(first), table.wakers()), (None, 0));
        });
    }
}
