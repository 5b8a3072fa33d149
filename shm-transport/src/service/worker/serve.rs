//! The worker's loop: lanes in turn, a call at a time.

use super::error::WorkerError;
use super::handlers::Handlers;
use super::lanes::Lanes;
use super::post::{Duty, Post};
use super::reply::Reply;
use super::request::{Private, Request};
use crate::config::Wait;
use crate::park::FutexPark;
use crate::service::clock;
use crate::service::failure::Failure;
use shm_primitives::channel::{ReceiveError, Work};
use shm_primitives::counter::{CounterLine, CounterWriter};
use shm_primitives::layout::service::{WorkerCount, WorkerState};
use shm_primitives::message::MsgStatus;
use shm_primitives::monitor::MonitorWriter;
use shm_primitives::sync::crash;
use shm_primitives::wake::{Deadline, Look};
use std::any::Any;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Calls of one lane before the others have their turn.
const TURN: u32 = 32;
/// Glances in vain, in a row, between two looks at the bits.
const SELDOM: u32 = 64;
/// Glances in vain, in a row, before everything is looked at.
const ENOUGH: u32 = 4096;
/// Rounds that found something between two looks at the bits.
const OFTEN: u32 = 8;
/// Nanoseconds between two looks at everything while there is always something to do.
const BUSY: u64 = 4_000_000;

/// All that a worker serves with. Its fields are dropped in their order.
#[derive(Debug)]
pub(super) struct Desk {
    lanes: ManuallyDrop<Lanes>,
    handlers: Handlers,
    /// `None` if the clients are trusted.
    private: Option<Private>,
    monitor: MonitorWriter<'static>,
    counters: [CounterWriter<'static>; CounterLine::COUNTERS],
    /// When the last call began, and whose it was; `None` once its time was counted.
    running: Option<Running>,
    /// The coarse clock when everything was looked at last.
    attended: u64,
    /// It is time to look at everything.
    is_due: bool,
    /// It has just been woken, and looked at everything before it slept: not time yet.
    is_fresh: bool,
    /// Glances in vain, and rounds not in vain, in a row.
    vain: u32,
    rounds: u32,
    /// Which normal lane has its turn, where VIP lanes come before.
    next: usize,
    duty: Duty,
    /// It polls, and is not to be rung.
    is_sleepless: bool,
    /// Ours no more: this process is a forked child.
    is_copy: bool,
    pub post: Post,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    since: u64,
    handler: Option<usize>,
}

/// What a look into a lane has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Served,
    Nothing,
    /// Nothing was begun: it is time to look at everything.
    Due,
    Broken,
}

impl Desk {
    /// `None` if the place is not one of the service: it was taken, so it is.
    pub fn new(post: Post) -> Option<Self> {
        let control = &post.control.layout;
        let monitor = control.monitor(post.place)?.writer();
        let counters = control.counters(post.place)?.writers();
        Some(Self {
            lanes: ManuallyDrop::new(Lanes::new(post.shape().clients)),
            handlers: Handlers::default(),
            private: Some(Private::default()),
            monitor,
            counters,
            running: None,
            attended: 0,
            is_due: false,
            is_fresh: false,
            vain: 0,
            rounds: 0,
            next: 0,
            duty: Duty::Serve,
            is_sleepless: false,
            is_copy: false,
            post,
        })
    }

    /// Requests and replies stay in the clients' memory from now on.
    pub fn trust(&mut self) {
        self.private = None;
    }

    pub fn handlers(&mut self) -> &mut Handlers {
        &mut self.handlers
    }

    /// Serves until it is told to leave.
    pub fn run(mut self, wait: Wait) -> Result<(), WorkerError> {
        let Some(bell) = self.post.bells.layout.worker(self.post.place) else { return Ok(()) };
        self.is_sleepless = wait == Wait::Poll;
        let park = match wait {
            Wait::Block => FutexPark::new().without_spinning(),
            Wait::Adaptive | Wait::Poll => FutexPark::new(),
        };
        let mut waiter = bell.bell().waiter();
        self.attend();
        self.post.set_state(WorkerState::Serving);
        tracing::info!(target: "shm_transport::service", service = %self.post.service, place = self.post.place, "serves");
        while self.duty == Duty::Serve {
            if self.round() {
                continue;
            }
            if wait == Wait::Poll {
                // The round was a glance.
                self.look_seldom(Look::Glance);
                std::hint::spin_loop();
            } else {
                waiter.wait_looking(&park, Deadline::NEVER, |look| self.look(look));
            }
        }
        if self.is_copy {
            return Err(WorkerError::Forked);
        }
        let (place, started) = (self.post.place, self.post.incarnation);
        self.leave();
        match self.duty {
            Duty::Passed { wanted, order } => {
                Err(WorkerError::NotWanted { place, started, wanted, order })
            }
            _ => Ok(()),
        }
    }

    /// Gives everything back. What waits in the lanes stays there.
    fn leave(&mut self) {
        self.post.set_state(WorkerState::Draining);
        while let Some(place) = { self.lanes.places().next() } {
            self.lanes.leave_place(&self.post, place);
        }
        self.post.leave();
    }

    /// Whether there is something to do: a call, or an order to leave.
    #[inline]
    fn look(&mut self, look: Look) -> bool {
        if self.lanes.has_something(look) {
            self.vain = 0;
            // Who was asleep for this call serves it first, and then looks around.
            self.is_fresh |= look == Look::Thorough;
            return true;
        }
        self.look_seldom(look)
    }

    /// After a look in vain: looks more closely now and then.
    #[inline]
    fn look_seldom(&mut self, look: Look) -> bool {
        self.vain = self.vain.wrapping_add(1);
        if look == Look::Glance && !self.vain.is_multiple_of(SELDOM) {
            return false;
        }
        self.look_closely(look)
    }

    #[cold]
    fn look_closely(&mut self, look: Look) -> bool {
        let everything = look == Look::Thorough || self.vain >= ENOUGH;
        self.lanes.look_at_bits(&self.post);
        if everything && !self.lanes.has_something(Look::Glance) {
            self.vain = 0;
            self.attend();
        }
        self.lanes.has_something(if everything { Look::Thorough } else { look })
            || self.duty != Duty::Serve
    }

    /// Looks at everything: orders, places to serve, clients that came and went.
    #[cold]
    fn attend(&mut self) {
        self.attended = clock::coarse();
        self.is_due = false;
        self.post.beat();
        self.duty = self.post.duty();
        if self.duty != Duty::Serve {
            return;
        }
        if let Some(bell) = self.post.bells.layout.worker(self.post.place) {
            // Again each time: clients can write there.
            bell.set_sleepless(self.is_sleepless);
        }
        for place in 0..self.post.shape().workers() {
            let serves = self.lanes.places().any(|served| served == place);
            match self.post.serves(place) {
                Some(true) if !serves => self.lanes.take_place(&self.post, place),
                Some(false) if serves => self.lanes.leave_place(&self.post, place),
                _ => {}
            }
        }
        self.lanes.sweep(&self.post);
    }

    /// Gives each lane its turn; whether any had something.
    #[inline]
    fn round(&mut self) -> bool {
        let (count, vips) = (self.lanes.len(), self.lanes.vips());
        let mut served = false;
        let mut queued = 0u32;
        // Where there are both, VIP calls wait for one normal call at the most.
        let is_mixed = vips != 0 && vips != count;
        for at in 0..if is_mixed { vips } else { count } {
            let had = self.turn(at, TURN, &mut queued);
            served |= had;
            if self.duty != Duty::Serve {
                return true;
            }
        }
        if is_mixed {
            for _ in vips..count {
                self.next = if self.next + 1 < count { self.next + 1 } else { vips };
                let at = self.next.max(vips);
                if self.turn(at, 1, &mut queued) {
                    served = true;
                    break;
                }
            }
        }
        if !served && !self.is_due {
            self.account();
            self.post.set_queued(0);
            return false;
        }
        self.vain = 0;
        self.post.set_queued(queued);
        self.rounds = self.rounds.wrapping_add(1);
        if self.rounds.is_multiple_of(OFTEN) {
            self.lanes.look_at_bits(&self.post);
        }
        if self.is_due {
            self.attend();
        }
        true
    }

    /// Serves up to `most` calls of a lane; whether it had any. What it leaves behind is added to
    /// `queued`.
    #[inline]
    fn turn(&mut self, at: usize, most: u32, queued: &mut u32) -> bool {
        if !self.lanes.is_hot(at) {
            return false;
        }
        let mut done = 0;
        let mut last = Step::Served;
        while done < most {
            last = self.one(at);
            if last != Step::Served {
                break;
            }
            done += 1;
            if self.is_copy {
                return true;
            }
        }
        self.is_due |= last == Step::Due;
        self.lanes.looked(at, done > 0 || last == Step::Due);
        if let Some(lane) = self.lanes.get(at)
            && done > 0
        {
            lane.ringer.settle();
            if last != Step::Nothing {
                *queued = queued.saturating_add(lane.backlog.calls());
            }
        }
        done > 0
    }

    /// Serves one call of a lane: peek, monitor, run, reply, advance, monitor.
    #[inline]
    fn one(&mut self, at: usize) -> Step {
        let Some(lane) = self.lanes.get(at) else { return Step::Nothing };
        let request = match lane.worker.peek() {
            Ok(request) => request,
            Err(ReceiveError::Empty) => return Step::Nothing,
            Err(error) => return self.refuse(at, error),
        };
        let header = request.header();
        let now = clock::coarse();
        count_time(&mut self.counters, &mut self.handlers, self.running.take(), now);
        if std::mem::take(&mut self.is_fresh) {
            self.attended = now;
        } else if now.saturating_sub(self.attended) >= BUSY {
            // Before this one is begun there may be an order to leave.
            return Step::Due;
        }
        let handler = self.handlers.find(header.func_id());
        self.running = Some(Running { since: now, handler });
        let mut entry = handler.and_then(|at| self.handlers.get(at));
        if let Some(entry) = &entry
            && entry.is_slow
        {
            lane.ringer.settle();
            // What this one holds up, as far as it is known, and itself.
            self.post.set_queued(self.post.queued().max(lane.backlog.calls()));
        }
        let Ok(mut work) = request.begin(&mut self.monitor, now) else {
            // A worker number that no monitor can tell: not of this service.
            lane.is_broken = true;
            return Step::Broken;
        };
        let mut dropped = 0;
        let failure;
        if lane.cancel.is_asked(header.seq_id()) {
            failure = Some(Failure::Cancelled);
        } else if let Some(entry) = &mut entry {
            let length = header.payload_len() as usize;
            let (payload, private, answer) = match &mut self.private {
                Some(private) => {
                    let (payload, room) = private.take_in(&work, length);
                    (payload, Some(room), work.replier())
                }
                None => {
                    let (payload, answer) = work.split();
                    (payload, None, answer)
                }
            };
            let request = Request { payload, header, cancel: lane.cancel };
            let reply = Reply { answer, private, ringer: &mut lane.ringer, dropped: &mut dropped };
            let run = &mut entry.run;
            failure = match catch_unwind(AssertUnwindSafe(|| run(&request, reply))) {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.into_failure()),
                Err(panic) => Some(panicked(panic)),
            };
            if !self.post.is_ours() {
                // The handler forked, and this is the child.
                std::mem::forget(work);
                self.is_copy = true;
                self.duty = Duty::Leave;
                return Step::Served;
            }
        } else {
            failure = Some(Failure::UnknownFunction);
        }
        let failed = match answer(&mut work, failure, lane.most) {
            Ok(failed) => failed,
            Err(()) => {
                drop(work);
                // Nobody recovers this one as long as this worker lives: it is not at work on it.
                self.monitor.end();
                lane.is_broken = true;
                tracing::warn!(target: "shm_transport::service", client = lane.client, place = lane.place, "a call cannot be answered: its lane is given up");
                return Step::Broken;
            }
        };
        // It is answered.
        let _ = work.finish();
        lane.ringer.hint();
        self.counters[WorkerCount::Processed as usize].add(1);
        if failed {
            self.counters[WorkerCount::Failed as usize].add(1);
        }
        if dropped != 0 {
            self.counters[WorkerCount::DroppedProgress as usize].add(dropped);
        }
        Step::Served
    }

    /// What is in a lane is no call.
    #[cold]
    fn refuse(&mut self, at: usize, error: ReceiveError) -> Step {
        let Some(lane) = self.lanes.get(at) else { return Step::Nothing };
        let (client, place) = (lane.client, lane.place);
        if let Some(error) = lane.worker.discard_malformed() {
            tracing::warn!(target: "shm_transport::service", client, place, %error, "not a request");
            return Step::Served;
        }
        lane.is_broken = true;
        tracing::warn!(target: "shm_transport::service", client, place, %error, "a lane is given up");
        Step::Broken
    }

    /// Counts the time of the last call, which is over.
    #[inline]
    fn account(&mut self) {
        if self.running.is_some() {
            let now = clock::coarse();
            count_time(&mut self.counters, &mut self.handlers, self.running.take(), now);
        }
    }
}

/// Counts how long the last call took, by a clock of coarse steps: of many, each counts as much as
/// it took on the average.
#[inline]
fn count_time(
    counters: &mut [CounterWriter<'static>; CounterLine::COUNTERS],
    handlers: &mut Handlers,
    running: Option<Running>,
    now: u64,
) {
    let Some(Running { since, handler }) = running else { return };
    let took = now.saturating_sub(since);
    if took != 0 {
        counters[WorkerCount::BusyNanoseconds as usize].add(took);
    }
    if let Some(entry) = handler.and_then(|at| handlers.get(at)) {
        entry.is_slow = took != 0;
    }
}

/// Sees to it that a call has its one final reply; whether that says that it failed. `Err` if none
/// can be written.
#[inline]
fn answer(work: &mut Work<'_, '_, '_>, failure: Option<Failure>, most: usize) -> Result<bool, ()> {
    let is_answered = work.replier().is_answered();
    match failure {
        None if is_answered => Ok(false),
        None => work.reply(MsgStatus::Completed, &[]).map(|()| false).map_err(drop),
        Some(failure) if is_answered => {
            // The caller has what was sent: exactly one answer.
            tracing::warn!(target: "shm_transport::service", ?failure, "after the answer");
            Ok(false)
        }
        Some(failure) => {
            let bytes = failure.to_bytes(most);
            work.reply(MsgStatus::Failed, &bytes).map(|()| true).map_err(drop)
        }
    }
}

#[cold]
fn panicked(panic: Box<dyn Any + Send>) -> Failure {
    if crash::dead() {
        // Not a panic, but a test's kill.
        resume_unwind(panic);
    }
    let text = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "a panic without a message".to_owned(),
    };
    // Its destructor may panic too, and nobody needs it.
    std::mem::forget(panic);
    Failure::Panicked(text)
}

impl Drop for Desk {
    fn drop(&mut self) {
        if self.is_copy || !self.post.is_ours() || crash::dead() {
            // Nothing of it is there, and the place goes the same way by itself.
            return;
        }
        // SAFETY: once, here. The lanes go before the place does.
        unsafe { ManuallyDrop::drop(&mut self.lanes) };
    }
}
