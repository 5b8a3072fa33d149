//! Receiving: one of the threads that wait reads the replies of all lanes, for all of them.
//!
//! The one that has the *role*, which is a lock, sleeps at the client's bell, which workers ring.
//! For each reply it ends the call that the reply is to, and wakes who waits for that. The others,
//! the *followers*, sleep at their own calls' bells. Who has its own reply gives the role back and
//! wakes one follower, who takes it.
//!
//! **Nobody sleeps while there is nobody who receives**: see
//! [`leader`](shm_primitives::leader).
//!
//! **Nobody misses the end of its call.** It is settled first, then comes a fence, then the look
//! whether anybody follows, or waits by a waker: the first look of a wait is behind the waiter's
//! own fence.

use super::connection::{Connection, NOBODY};
use shm_primitives::channel::{ReceiveError, Replies, Response};
use shm_primitives::completion::{GivenUp, Outcome};
use shm_primitives::message::{HeaderError, MsgStatus};
use shm_primitives::wake::{Look, Waiter, published};

use super::calls::Ending;
use crate::park::FutexPark;
use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The most replies of one lane that are read before the others are looked at.
const TURN: u32 = 256;

/// Replies expected from which on it pays to let them gather.
const MANY: u32 = 8;
/// How long to let them gather, in spin hints: about a microsecond.
const MOMENT: u32 = 24;

/// What who has the role has.
#[derive(Debug)]
pub(super) struct Role {
    pub lanes: Lanes,
    pub waiter: Waiter<'static>,
}

/// The receiving halves of the lanes that were made, and what was found in them.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    open: Vec<(u32, Replies<'static>)>,
    /// Calls ended whose callers were not told.
    ended: Vec<u64>,
    /// Replies expected at the last look, that were not there.
    expected: u32,
}

impl Lanes {
    /// Takes up a lane that was just made.
    pub fn add(&mut self, place: u32, replies: Replies<'static>) {
        self.open.push((place, replies));
    }

    /// Holds back a moment if many replies are expected, and none has come at the last look: to
    /// look again and again takes away the line that the worker is writing, and a moment later
    /// several come at the price of one.
    #[inline]
    pub fn hold_back(&self) {
        if self.expected >= MANY {
            (0..MOMENT).for_each(|_| std::hint::spin_loop());
        }
    }
}

/// The call that who reads waits for itself: the reply to it is handed over, and goes through no
/// slot.
#[derive(Debug)]
pub(super) struct Own {
    seq: u64,
    ending: Option<Ending>,
}

impl Own {
    /// Of who reads for others alone.
    pub const fn nobody() -> Self {
        Self::new(NOBODY)
    }

    pub const fn new(seq: u64) -> Self {
        Self { seq, ending: None }
    }

    pub const fn seq(&self) -> u64 {
        self.seq
    }
}

impl Connection {
    /// Whether the caller's own call has ended.
    #[inline]
    pub fn has_ended(&self, own: &Own) -> bool {
        own.ending.is_some()
            || self.calls.slot(own.seq).done.outcome(self.calls.tag(own.seq)).is_some()
    }

    /// How it has ended; its slot is another call's then.
    #[inline]
    pub fn ending(&self, own: &mut Own) -> Option<Ending> {
        own.ending.take().or_else(|| {
            let (_, ending) = self.calls.slot(own.seq).done.take(self.calls.tag(own.seq))?;
            Some(ending.unwrap_or(Ending::Gone))
        })
    }

    /// Reads the replies that are there, of lanes that some are expected in or of all; ends their
    /// calls, and tells who waits for them, but for the caller's `own`. How many there were.
    #[inline]
    pub fn drain(&self, lanes: &mut Lanes, own: &mut Own, look: Look) -> u32 {
        if self.has_news() {
            self.take_news(lanes);
        }
        let (mut found, mut useless) = (0, None);
        let Lanes { open, ended, expected } = lanes;
        *expected = 0;
        for (place, replies) in open.iter_mut() {
            let Some(lane) = self.lane(*place) else { continue };
            let outstanding = lane.outstanding().unwrap_or(0);
            if look == Look::Glance && outstanding == 0 {
                continue;
            }
            *expected += outstanding;
            let mut here = 0;
            while here < TURN {
                match replies.response() {
                    Ok(response) => {
                        let found = self.read(*place, response);
                        if let Some((seq, ending)) = found {
                            lane.finished(replies);
                            if seq != own.seq {
                                self.end(seq, Outcome::Reply, ending, NOBODY, ended);
                            } else {
                                self.end_own(own, ending);
                                if lane.outstanding() == Some(0) {
                                    // A look for more would take the line from who writes next.
                                    here += 1;
                                    break;
                                }
                            }
                        }
                    }
                    Err(ReceiveError::Empty) => break,
                    Err(ReceiveError::Malformed(error)) => {
                        let _ = replies.discard_malformed();
                        self.note_nonsense(*place, error, own.seq, ended);
                    }
                    Err(ReceiveError::Corrupt | ReceiveError::InHand) => {
                        useless = Some(*place);
                        break;
                    }
                }
                here += 1;
            }
            if here != 0 {
                lane.finished(replies);
                found += here;
            }
        }
        if let Some(place) = useless {
            self.give_lane_up(place, own.seq, lanes);
        }
        if !lanes.ended.is_empty() {
            self.tell(&mut lanes.ended);
        }
        found
    }

    /// What a reply says of which call, if that is in flight in that lane; the reply is left behind.
    #[inline]
    fn read(&self, place: u32, response: Response<'_, 'static>) -> Option<(u64, Ending)> {
        let seq = response.header().seq_id();
        let wanted = self.calls.is_ours(seq) && {
            let slot = self.calls.slot(seq);
            slot.done.is_pending(self.calls.tag(seq)) && slot.is_of(place)
        };
        let found = match response.status() {
            // Nobody waits for it any more, or it is to nobody's call.
            _ if !wanted => None,
            MsgStatus::Completed => Some((seq, Ending::Completed(response.to_vec()))),
            MsgStatus::Failed => Some((seq, Ending::Failed(response.to_vec()))),
            _ => {
                self.calls.report(seq, &response);
                self.wake_for_report(seq);
                None
            }
        };
        response.release();
        found
    }

    /// Ends the caller's call, if nobody has.
    #[inline]
    fn end_own(&self, own: &mut Own, ending: Ending) {
        match self.calls.slot(own.seq).done.give_up(self.calls.tag(own.seq)) {
            GivenUp::Won => own.ending = Some(ending),
            GivenUp::Ended(_, other) => own.ending = Some(other.unwrap_or(Ending::Gone)),
            // Somebody is about to: it is in the slot then.
            GivenUp::Settling(_) | GivenUp::Over => {}
        }
    }

    /// Ends a call, if nobody has.
    #[inline]
    pub fn end(&self, seq: u64, how: Outcome, ending: Ending, own: u64, ended: &mut Vec<u64>) {
        let slot = self.calls.slot(seq);
        if let Some(winner) = slot.done.win(self.calls.tag(seq), how)
            && winner.settle(ending)
            && seq != own
        {
            ended.push(seq);
        }
    }

    /// A worker has sent what is no reply: which call it was to nobody knows, so that all that it
    /// may have been to are ended.
    #[cold]
    fn note_nonsense(&self, place: u32, error: HeaderError, own: u64, ended: &mut Vec<u64>) {
        tracing::warn!(target: "shm_transport::service", place, %error, "no reply");
        self.end_all(Some(place), || Ending::Corrupt, own, ended);
    }

    /// A lane makes no sense: its calls are ended, and no more go there.
    #[cold]
    pub fn give_lane_up(&self, place: u32, own: u64, lanes: &mut Lanes) {
        if let Some(lane) = self.lane(place) {
            lane.give_up();
        }
        tracing::error!(target: "shm_transport::service", place, "a lane is corrupt");
        lanes.open.retain(|(open, _)| *open != place);
        self.end_all(Some(place), || Ending::Corrupt, own, &mut lanes.ended);
    }

    /// Ends all calls, or those of one lane.
    pub fn end_all(
        &self,
        place: Option<u32>,
        ending: impl Fn() -> Ending,
        own: u64,
        ended: &mut Vec<u64>,
    ) {
        for (seq, slot) in self.calls.in_flight() {
            if place.is_none_or(|place| slot.is_of(place)) {
                self.end(seq, Outcome::Lost, ending(), own, ended);
            }
        }
    }

    /// Tells the callers of calls that were ended.
    pub fn tell(&self, ended: &mut Vec<u64>) {
        let fenced = published();
        if self.followers() != 0 {
            for seq in ended.iter() {
                let bell = self.calls.slot(*seq).done.bell();
                bell.shared_notifier().notify_after(&FutexPark::private(), &fenced);
            }
        }
        if self.calls.wakers() != 0 {
            for seq in ended.iter() {
                if let Some(waker) = self.calls.take_waker(*seq) {
                    // It is somebody else's code. If it panics the others are told all the same,
                    // and whoever receives goes on; the hook for panics has been run.
                    let _ = catch_unwind(AssertUnwindSafe(|| waker.wake())).map_err(forget);
                }
            }
        }
        ended.clear();
    }

    /// A report of progress has come.
    #[cold]
    fn wake_for_report(&self, seq: u64) {
        let bell = self.calls.slot(seq).done.bell();
        bell.shared_notifier().notify(&FutexPark::private());
    }

    /// Counts anew, in all lanes, what is outstanding.
    pub fn settle(&self, lanes: &mut Lanes) {
        for (place, replies) in &mut lanes.open {
            if let Some(lane) = self.lane(*place) {
                lane.settle(replies);
            }
        }
    }
}
