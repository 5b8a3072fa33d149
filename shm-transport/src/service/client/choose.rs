//! Which worker gets a call: the one with the least to do, of those that it may go to.
//!
//! | of the places of its group | a call of low priority | of high priority |
//! |---|---|---|
//! | is up | first | first |
//! | is served by a helper that is up | second | second |
//! | of the *normal* group, is up | | third |
//! | is about to be started, is suspect, or was found dead | third | fourth |
//! | of the normal group, served by a helper; about to be started | | fifth, sixth |
//! | is a spare, is stuck, is stopped or has failed for good | never | never |
//!
//! Among equals it is the one with the fewest calls: what the worker has said is queued there, one
//! more if its monitor says that it has something in hand, and what this client has outstanding.
//! If they are still alike it is the one whose number is next after the client's own.
//!
//! The worker is who serves the lane, which is not always the place's own: a helper that is at a
//! long call keeps the lanes of the place that it helped out, though the worker of that place may
//! be back and idle. So as long as another has this client's lane there it is that one's load, and
//! the place is no better than that one's own.
//!
//! What workers and supervisor say lies in lines that they write, and reading them takes them away
//! for a moment. So a client looks at them again when it was a few milliseconds ago, by a coarse
//! clock; when a call was not answered at once; and each 16th call.

use super::super::clock;
use shm_primitives::identity::OwnerId;
use shm_primitives::layout::service::{Condition, ControlLayout, Shape, WorkerEntry};
use shm_primitives::message::Priority;
use shm_primitives::monitor::Group;
use shm_primitives::sync::Ordering::Relaxed as Shared;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

/// Calls between two looks.
const CALLS: u32 = 16;
/// The rank of a place that no call goes to.
const NEVER: u32 = 15;
/// Bits of a place's load.
const LOAD: u32 = (1 << 28) - 1;

/// What a client has seen of the workers, at its last look.
#[derive(Debug)]
pub(super) struct Choice {
    /// Rank of each place among its group, in the upper 4 bits, then its load.
    seen: Box<[AtomicU32]>,
    /// Who was found dead there, by its id's word; 0 nobody.
    dead: Box<[AtomicU32]>,
    normal: u32,
    /// Where among equals the search begins.
    first: u32,
    looked: AtomicU64,
    calls: AtomicU32,
    is_stale: AtomicBool,
}

/// Places that a call did not get into.
pub(super) type Tried = Vec<u32>;

impl Choice {
    pub fn new(shape: &Shape, client: u32) -> Self {
        Self {
            seen: (0..shape.workers()).map(|_| AtomicU32::new(NEVER << 28)).collect(),
            dead: (0..shape.workers()).map(|_| AtomicU32::new(0)).collect(),
            normal: shape.places(Group::Normal).end,
            first: client % shape.workers().max(1),
            looked: AtomicU64::new(0),
            calls: AtomicU32::new(0),
            is_stale: AtomicBool::new(true),
        }
    }

    /// Whether there is a worker that is up, or a place with a helper that is.
    pub fn is_anybody_up(&self) -> bool {
        self.seen.iter().any(|seen| seen.load(Relaxed) >> 28 <= 1)
    }

    /// The worker of a place is dead, and nobody has said so: as long as it has the place, calls
    /// go to others.
    pub fn mark_dead(&self, place: u32, owner: OwnerId) {
        if let Some(dead) = self.dead.get(place as usize) {
            dead.store(owner.word(), Relaxed);
            self.mark_stale();
        }
    }

    fn is_dead(&self, control: &ControlLayout<'_>, place: u32) -> bool {
        let dead = self.dead[place as usize].load(Relaxed);
        dead != 0 && control.workers().owner(place).is_some_and(|owner| owner.word() == dead)
    }

    /// The next call begins with a look.
    #[inline]
    pub fn mark_stale(&self) {
        if !self.is_stale.load(Relaxed) {
            self.is_stale.store(true, Relaxed);
        }
    }

    /// Looks, if it is time to. `holder` says who has the worker's end of this client's lane to a
    /// place.
    #[inline]
    pub fn refresh(&self, control: &ControlLayout<'_>, holder: impl Fn(u32) -> Option<OwnerId>) {
        let now = clock::coarse();
        let calls = self.calls.load(Relaxed).wrapping_add(1);
        self.calls.store(calls, Relaxed);
        // Where there is one place there is nothing to choose.
        if (calls.is_multiple_of(CALLS) && self.seen.len() > 1)
            || self.looked.load(Acquire) != now
            || self.is_stale.load(Relaxed)
        {
            self.is_stale.store(false, Relaxed);
            self.look(control, holder);
            // Behind it: another thread that calls meanwhile looks itself. What stands there before
            // may be as old as the last call.
            self.looked.store(now, Release);
        }
    }

    fn look(&self, control: &ControlLayout<'_>, holder: impl Fn(u32) -> Option<OwnerId>) {
        let (workers, places) = (control.workers(), self.seen.len() as u32);
        let orders = |place| {
            let orders = control.orders(place)?.read().ok()?;
            let helper = orders.helper.filter(|helper| *helper < places && *helper != place);
            Some((orders.condition, helper))
        };
        // Without help.
        let rank_of = |place: u32, condition| match condition {
            Condition::Up if !self.is_dead(control, place) => 0,
            Condition::Starting | Condition::BackOff => 2,
            Condition::Suspect | Condition::Up => 3,
            Condition::Stopped | Condition::Failed | Condition::Stuck | Condition::Spare => NEVER,
        };
        let rank_at = |place| rank_of(place, orders(place).unwrap_or_default().0);
        for place in 0..places {
            let (condition, helper) = orders(place).unwrap_or_default();
            let mut rank = rank_of(place, condition);
            let mut server = place;
            if rank != 0
                && !matches!(condition, Condition::Stuck | Condition::Spare)
                && let Some(helper) = helper.filter(|helper| rank_at(*helper) == 0)
            {
                (rank, server) = (1, helper);
            }
            // Whoever else has the lane, whatever is ordered: what it has in hand comes first.
            if let Some(holder) = holder(place)
                && workers.owner(place) != Some(holder)
                && let Some(other) = (0..places).find(|it| workers.owner(*it) == Some(holder))
            {
                (rank, server) = (rank.max(rank_at(other)), other);
            }
            let queued = workers.live_word(server, WorkerEntry::QUEUED);
            let queued = queued.map_or(0, |word| word.load(Shared));
            let monitor = control.monitor(server);
            // One that changes all the time is at work.
            let busy =
                monitor.is_some_and(|it| it.snapshot().map_or(true, |it| it.is_processing()));
            let load = queued.min(LOAD / 2) + u32::from(busy && queued == 0);
            self.seen[place as usize].store(rank << 28 | load, Relaxed);
        }
    }

    /// The best place for a call of that priority, but for those tried; `outstanding` says how many
    /// calls of this client's a place has, or `None` if its lane is of no use.
    #[inline]
    pub fn best(
        &self,
        priority: Priority,
        tried: &[u32],
        outstanding: impl Fn(u32) -> Option<u32>,
    ) -> Option<u32> {
        let places = self.seen.len() as u32;
        let mut best = None;
        for place in 0..places {
            let seen = self.seen[place as usize].load(Relaxed);
            let Some(rank) = self.rank(priority, place, seen >> 28) else { continue };
            if tried.contains(&place) {
                continue;
            }
            let Some(outstanding) = outstanding(place) else { continue };
            // What it said is queued has its own in it, which are then counted twice everywhere.
            let load = (seen & LOAD).saturating_add(outstanding);
            // From `first` on, those before it last; no division for each place of each call.
            let turn = place.wrapping_sub(self.first);
            let key = (rank, load, turn);
            if best.is_none_or(|(least, _)| key < least) {
                best = Some((key, place));
            }
        }
        best.map(|(_, place)| place)
    }

    /// The rank of a place for a call of that priority; `None` if it never goes there.
    #[inline]
    fn rank(&self, priority: Priority, place: u32, rank: u32) -> Option<u32> {
        if rank == NEVER {
            return None;
        }
        let group = if place < self.normal { Group::Normal } else { Group::Vip };
        match (priority, group) {
            (Priority::Low, Group::Normal) => Some(rank),
            // A service of VIP workers alone.
            (Priority::Low, Group::Vip) if self.normal == 0 => Some(rank),
            (Priority::Low, Group::Vip) => None,
            // VIP: 0, 1, then 3 and 4; normal: 2, then 5 to 7.
            (Priority::High, Group::Vip) => Some(rank + u32::from(rank > 1)),
            (Priority::High, Group::Normal) => Some(if rank == 0 { 2 } else { rank + 4 }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_up(client: u32) -> Choice {
        let choice = Choice::new(&Shape::DEFAULT, client);
        choice.seen.iter().for_each(|seen| seen.store(0, Relaxed));
        choice
    }

    /// The places in the order in which calls go there.
    fn order(choice: &Choice, priority: Priority) -> Vec<u32> {
        let mut tried = Tried::new();
        while let Some(place) = choice.best(priority, &tried, |_| Some(0)) {
            tried.push(place);
        }
        tried
    }

    /// Clients begin at different places, so that few of them do not all go to the first.
    #[test]
    fn among_equals_the_next_after_the_clients_own() {
        let low = [[0, 1, 2, 3], [1, 2, 3, 0], [2, 3, 0, 1], [3, 0, 1, 2]];
        for client in 0..4 {
            assert_eq!(order(&all_up(client), Priority::Low), low[client as usize]);
            // There are six places.
            assert_eq!(order(&all_up(client + 252), Priority::Low), low[client as usize]);
        }
        assert_eq!(order(&all_up(5), Priority::Low), [0, 1, 2, 3]);
        assert_eq!(order(&all_up(5), Priority::High), [5, 4, 0, 1, 2, 3]);
        assert_eq!(order(&all_up(1), Priority::High), [4, 5, 1, 2, 3, 0]);
    }

    #[test]
    fn the_least_load_before_that_and_never_who_is_gone() {
        let choice = all_up(0);
        choice.seen[0].store(7, Relaxed);
        choice.seen[1].store(NEVER << 28, Relaxed);
        choice.seen[2].store(2 << 28, Relaxed);
        assert_eq!(order(&choice, Priority::Low), [3, 0, 2]);
        let outstanding = |place| Some(if place == 3 { 8 } else { 0 });
        assert_eq!(choice.best(Priority::Low, &[], outstanding), Some(0));
    }
}
