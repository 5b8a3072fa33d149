//! Who has won a call.

use super::state::{Outcome, State};
use super::{Completion, Phase, SETTLE, Tag};
use crate::sync::{Shadow, crash};
use crate::wake::Park;
use core::fmt;

/// The one who ends a call: it writes the result. Dropping it settles the call without one, and
/// wakes nobody.
#[must_use = "the call is settled without a result when this is dropped"]
pub struct Winner<'a, T> {
    slot: &'a Completion<T>,
    won: State,
}

impl<'a, T> Winner<'a, T> {
    pub(super) fn new(slot: &'a Completion<T>, won: State) -> Self {
        Self { slot, won }
    }

    /// Which call.
    pub fn tag(&self) -> Tag {
        self.won.tag()
    }

    /// By what it ended.
    pub fn outcome(&self) -> Option<Outcome> {
        self.won.outcome()
    }

    /// Writes the result, and says that it is there; answers whether anybody wants it: otherwise
    /// it was dropped, and the slot is free. Wakes nobody: for the caller that found its reply
    /// itself.
    pub fn settle(self, result: T) -> bool {
        let (slot, won) = (self.slot, self.won);
        core::mem::forget(self);
        settle(slot, won, Some(result))
    }

    /// The same, and wakes who waits for the call. A fence and a load while that one is awake.
    pub fn settle_and_wake(self, result: T, park: &impl Park) -> bool {
        let bell = self.slot.bell();
        let wanted = self.settle(result);
        // From here on the slot may have another call, whose caller looks once too often then.
        if wanted {
            bell.shared_notifier().notify(park);
        }
        wanted
    }
}

fn settle<T>(slot: &Completion<T>, won: State, result: Option<T>) -> bool {
    Shadow::write(core::slice::from_ref(&slot.shadow));
    // SAFETY: in this phase the result is the winner's, and there is one handle of it: `win` made
    // it by its swap, and it is gone after this. The result is empty, so nothing is dropped here.
    unsafe { *slot.result.get() = result };
    let settled = won.to(Phase::Settled);
    if slot.state.compare_exchange(won.0, settled.0, SETTLE).is_ok() {
        return true;
    }
    // It fails for one reason: the caller has abandoned the call.
    // SAFETY: then the result is still the winner's.
    drop(unsafe { slot.empty(won.to(Phase::Abandoned)) });
    false
}

impl<T> Drop for Winner<'_, T> {
    fn drop(&mut self) {
        if crash::dead() {
            return;
        }
        settle(self.slot, self.won, None);
    }
}

impl<T> fmt::Debug for Winner<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Winner").field("won", &self.won).finish_non_exhaustive()
    }
}
