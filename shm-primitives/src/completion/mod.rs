//! How a call ends, inside the process that made it: of all who could end it, one does.
//!
//! A call that waits for its reply may end by the reply, by its worker's death, because its time is
//! up, because it is cancelled, or because the way to the worker is lost; several threads may find
//! different ones of these at the same moment. Each tries to *win* the call. One succeeds, writes
//! the result, *settles* the call and wakes who waits for it. The others find the call no longer
//! theirs to end, and drop what they have.
//!
//! A completion is a slot that one call after the other has. A call is named by its [`Tag`], which
//! is made of its sequence id, so that whoever comes late with the end of a former call cannot end
//! the one that has the slot now.
//!
//! # Memory
//!
//! Of one process alone: nothing here is shared with another, and all of it ends with its process.
//! So the order of the three is the compiler's.
//!
//! ```text
//! size
//!    4  state   see below
//!    8  bell    a wake word: where who waits for the call parks
//!       result  an `Option<T>`
//!
//! state:
//!  31              6 5        3 2       0
//! +-----------------+----------+---------+
//! | tag             | outcome  | phase   |
//! +-----------------+----------+---------+
//! ```
//!
//! | phase | whose the result is | what comes next |
//! |---|---|---|
//! | 0 idle | nobody's; it is empty | [`begin`](Completion::begin): 1, with the call's tag |
//! | 1 pending | nobody's; it is empty | [`win`](Completion::win): 2, with the outcome. Or the caller [gives up](Completion::give_up): 0 |
//! | 2 won | the winner's | [`settle`](Winner::settle): 4. Or the caller [abandons](Completion::abandon) the call: 3 |
//! | 3 abandoned | the winner's | the winner comes to settle, empties it: 0 |
//! | 4 settled | nobody's; it is written | [`take`](Completion::take): 5 |
//! | 5 taking | the taker's | the taker has emptied it: 0 |
//!
//! # Who writes what, in which order
//!
//! Each change of `state` but those to 0 out of 3 and 5 is a compare-and-swap that expects tag and
//! phase: so each is done once, by one, and only in the call that was meant. Those two are stores
//! of who has the result at that moment, and nobody else changes the word then.
//!
//! - The winner writes the result, then swaps the word to *settled*, Release. Whoever sees it
//!   settled, Acquire, sees the result.
//! - Who took the result, or gave the call up, makes the slot idle, Release; a call begins in it
//!   Acquire, and is won Acquire. So nothing of a former call, neither its result nor what the
//!   caller keeps beside the slot, is touched when the next one's is.
//! - An abandoned call's slot is made idle by the winner, on the caller's behalf: the caller's swap
//!   is Release, the winner's failing one Acquire.
//! - The bell is an ordinary [wake word](crate::wake): settle first, then a fence, then look
//!   whether somebody parks. The caller that finds its own reply needs neither
//!   ([`Winner::settle`]), another thread does ([`Winner::settle_and_wake`]).
//!
//! # Late winners
//!
//! A tag is 26 bits of the sequence id above those that choose the slot. Calls whose tags are the
//! same in the same slot are 2²⁶ times the number of slots apart: a thread that is about to win a
//! call would have to sleep through as many calls, and then find that very one unfinished.
//!
//! # Deaths
//!
//! No process survives its own memory. Of threads: a [`Winner`] that is dropped, as when its thread
//! panics while it makes the result, settles the call without one; it wakes nobody, and who parks
//! finds it at the end of its sleep, 100 ms at the most. A caller that is gone without having
//! taken, given up or abandoned its call leaves the slot in use; wrap it in something whose drop
//! [abandons](Completion::abandon).
//!
//! # Trust
//!
//! Tags may come from shared memory (the sequence id of a reply): one that no call has wins
//! nothing. Two threads that take one call, or wait at one bell, get the result once and a wake
//! 100 ms late at the worst. No operation blocks but [`wait`](Completion::wait); none spins.
//!
//! # Sources
//!
//! A one-shot channel whose slot is used again; the tag in the word that is swapped is the counted
//! pointer of Treiber's stack. Racing the ends of a call by one word is what QNX and Mach lack,
//! whose replies to a call that was given up may answer the next.
//!
//! # Example
//!
//! ```
//! use shm_primitives::completion::{Completion, Outcome, Tag};
//! use shm_primitives::wake::{Deadline, SpinPark};
//!
//! // One of a table of 16 slots: which one is in the lowest 4 bits of the sequence id.
//! let slot: Completion<Vec<u8>> = Completion::new();
//! let (call, former) = (Tag::of(0x73, 4), Tag::of(0x63, 4));
//! slot.begin(call)?;
//! let park = SpinPark::new(|| 0); // or your futex
//!
//! std::thread::scope(|scope| {
//!     // Whoever reads replies.
//!     scope.spawn(|| {
//!         assert!(slot.win(former, Outcome::Reply).is_none(), "a reply that comes too late");
//!         if let Some(winner) = slot.win(call, Outcome::Reply) {
//!             winner.settle_and_wake(b"done".to_vec(), &park);
//!         }
//!     });
//!     let ended = slot.wait(call, &mut slot.bell().waiter(), &park, Deadline::NEVER);
//!     assert_eq!(ended, Some(Outcome::Reply));
//! });
//! assert_eq!(slot.take(call), Some((Outcome::Reply, Some(b"done".to_vec()))));
//! assert!(slot.is_idle());
//! # Ok::<(), shm_primitives::completion::InUse>(())
//! ```

mod state;
mod winner;

pub use state::{Outcome, Tag};
pub use winner::Winner;

use crate::sync::{AtomicU32, Ordering::Relaxed, Shadow, const_unless_loom, sites};
use crate::wake::{Deadline, Park, WakeWord, Waiter};
use core::cell::UnsafeCell;
use core::fmt;
use state::{Phase, State};

sites! { SITES
    /// A call's beginning in a slot, after all that was done in the call before: by who waited at
    /// the bell, and to what the caller keeps beside the slot.
    BEGIN = "completion.begin", Acquire, partner "completion.free",
        [Relaxed => Model("completion_begin")];
    /// Winning, after the result of the call before was taken out.
    WIN = "completion.win", Acquire, partner "completion.free",
        [Relaxed => Model("completion_reuse")];
    /// The result, before it is said that it is there; and what an abandoned call's caller did,
    /// before its slot is given to the next.
    SETTLE = "completion.settle", AcqRel, partner "completion.see, completion.abandon",
        [Acquire => Model("completion_result"), Release => Model("completion_abandon")];
    /// That the call is settled, before its result is read.
    SEE = "completion.see", Acquire, partner "completion.settle",
        [Relaxed => Model("completion_result")];
    /// What the caller did in a call, before it leaves the slot to the winner.
    ABANDON = "completion.abandon", Release, partner "completion.settle",
        [Relaxed => Model("completion_abandon")];
    /// What was done in a call, before its slot is anybody's.
    FREE = "completion.free", Release, partner "completion.begin, completion.win",
        [Relaxed => Model("completion_begin"), Relaxed => Model("completion_reuse")];
}

/// A slot for calls, one after the other, whose result is a `T`. See the
/// [module](crate::completion).
///
/// Between threads of one process; shared by reference.
pub struct Completion<T> {
    state: AtomicU32,
    bell: WakeWord,
    shadow: Shadow,
    result: UnsafeCell<Option<T>>,
}

// SAFETY: the result is touched by one thread at a time, the one that the state says it belongs to,
// and goes from thread to thread: hence `Send`. Everything else is atomic.
unsafe impl<T: Send> Sync for Completion<T> {}

/// The slot has a call already: take the next sequence id, and with it the next slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InUse {
    /// That call.
    pub tag: Tag,
}

impl fmt::Display for InUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the slot has an unfinished call, {}: take the next id, or let that one end",
            self.tag
        )
    }
}

impl core::error::Error for InUse {}

/// What became of a call that its caller gave up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GivenUp<T> {
    /// Nobody had ended it: the caller has, and the slot is free.
    Won,
    /// It had ended. This is how, and its result; the slot is free.
    Ended(Outcome, Option<T>),
    /// Somebody is about to write its result: [wait](Completion::wait) for it once more, or
    /// [abandon](Completion::abandon) it. Goes on within a few instructions of that thread's.
    Settling(Outcome),
    /// The call is over already: it was taken, given up or abandoned before.
    Over,
}

impl<T> Completion<T> {
    const_unless_loom! {
        /// A slot with no call in it.
        pub fn new() -> Self {
            Self {
                state: AtomicU32::new(0),
                bell: WakeWord::new(),
                shadow: Shadow::new(),
                result: UnsafeCell::new(None),
            }
        }
    }

    /// Begins a call in the slot. From here on it can be won, so begin before the request is sent.
    ///
    /// # Errors
    ///
    /// [`InUse`] if the slot has a call that has not ended, or whose result was not taken.
    pub fn begin(&self, tag: Tag) -> Result<(), InUse> {
        let found = State(self.state.load(Relaxed));
        let pending = State::new(tag, Phase::Pending, None);
        if !found.is(Phase::Idle) {
            return Err(InUse { tag: found.tag() });
        }
        match self.state.compare_exchange(found.0, pending.0, BEGIN) {
            Ok(_) => Ok(()),
            // Another call was faster.
            Err(found) => Err(InUse { tag: State(found).tag() }),
        }
    }

    /// Ends the call in this way, if nobody has ended it before and it is the one in the slot. Of
    /// any number who try, one wins; it writes the result.
    pub fn win(&self, tag: Tag, outcome: Outcome) -> Option<Winner<'_, T>> {
        let pending = State::new(tag, Phase::Pending, None);
        // Looked at first: most who come too late write nothing then.
        if self.state.load(Relaxed) != pending.0 {
            return None;
        }
        let won = State::new(tag, Phase::Won, Some(outcome));
        let won_it = self.state.compare_exchange(pending.0, won.0, WIN).is_ok();
        won_it.then(|| Winner::new(self, won))
    }

    /// How the call has ended; `None` as long as its result is not there, and when it is over.
    pub fn outcome(&self, tag: Tag) -> Option<Outcome> {
        State(self.state.load(SEE)).settled(tag)
    }

    /// Whether nobody has ended the call yet. May be out of date at once, if it says so.
    pub fn is_pending(&self, tag: Tag) -> bool {
        self.state.load(Relaxed) == State::new(tag, Phase::Pending, None).0
    }

    /// Whether the slot has no call. May be out of date at once.
    pub fn is_idle(&self) -> bool {
        State(self.state.load(Relaxed)).is(Phase::Idle)
    }

    /// How the call has ended, and its result, which a winner that was dropped did not write; the
    /// slot is free then. `None` if it has not ended, or is over: nothing is changed.
    pub fn take(&self, tag: Tag) -> Option<(Outcome, Option<T>)> {
        let settled = State(self.state.load(Relaxed));
        let outcome = settled.settled(tag)?;
        let taking = settled.to(Phase::Taking);
        self.state.compare_exchange(settled.0, taking.0, SEE).ok()?;
        // SAFETY: the swap from settled to taking was ours.
        Some((outcome, unsafe { self.empty(taking) }))
    }

    /// The caller gives its call up, because its time is over or the result is not wanted any more:
    /// it ends the call itself, if nobody was faster.
    pub fn give_up(&self, tag: Tag) -> GivenUp<T> {
        let pending = State::new(tag, Phase::Pending, None);
        if self.state.compare_exchange(pending.0, pending.to(Phase::Idle).0, FREE).is_ok() {
            return GivenUp::Won;
        }
        if let Some((outcome, result)) = self.take(tag) {
            return GivenUp::Ended(outcome, result);
        }
        let found = State(self.state.load(Relaxed));
        match found.outcome() {
            // It may have been settled since the look at it: who waits then finds it.
            Some(outcome)
                if found.tag() == tag && (found.is(Phase::Won) || found.is(Phase::Settled)) =>
            {
                GivenUp::Settling(outcome)
            }
            _ => GivenUp::Over,
        }
    }

    /// The caller leaves its call: whatever its end is, nobody wants it. The slot is free, or will
    /// be when the winner comes to settle. What the result is, is dropped.
    ///
    /// Answers whether the caller ended the call: nobody had won it.
    pub fn abandon(&self, tag: Tag) -> bool {
        let pending = State::new(tag, Phase::Pending, None);
        let idle = pending.to(Phase::Idle);
        let Err(found) = self.state.compare_exchange(pending.0, idle.0, FREE) else {
            return true;
        };
        let won = State(found);
        if won.tag() == tag && won.is(Phase::Won) {
            let abandoned = won.to(Phase::Abandoned);
            if self.state.compare_exchange(won.0, abandoned.0, ABANDON).is_ok() {
                return false;
            }
        }
        // Settled before, or since; or over.
        drop(self.take(tag));
        false
    }

    /// Waits until the call has ended, and answers how; `None` if the deadline passed first, or
    /// the call is over. Its result is then there to be [taken](Self::take).
    ///
    /// One thread a call, with the [bell's](Self::bell) waiter.
    pub fn wait(
        &self,
        tag: Tag,
        waiter: &mut Waiter<'_>,
        park: &impl Park,
        deadline: Deadline,
    ) -> Option<Outcome> {
        waiter.wait(park, deadline, || !State(self.state.load(SEE)).is_unsettled(tag));
        self.outcome(tag)
    }

    /// Where who waits for the call parks: to wait for something else as well, or to be woken for
    /// another reason, such as that it shall read the replies from now on.
    pub fn bell(&self) -> &WakeWord {
        &self.bell
    }

    /// Takes out what the result is, and makes the slot idle.
    ///
    /// # Safety
    ///
    /// The result is the calling thread's: its state is `state`, with the phase taking, or
    /// abandoned for the winner.
    unsafe fn empty(&self, state: State) -> Option<T> {
        // Taken out, so written.
        Shadow::write(core::slice::from_ref(&self.shadow));
        // SAFETY: the caller's, and nobody else's until the store that follows.
        let result = unsafe { (*self.result.get()).take() };
        self.state.store(state.to(Phase::Idle).0, FREE);
        result
    }
}

impl<T> Default for Completion<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Completion<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = State(self.state.load(Relaxed));
        f.debug_struct("Completion").field("state", &state).finish_non_exhaustive()
    }
}
