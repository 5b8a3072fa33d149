//! A connection: a place among the service's clients, lanes, and the calls in them.

use super::super::clock;
use super::super::mapped::{BellsMapped, ClientMapped, ControlReadOnly};
use super::calls::{Ending, Table};
use super::choose::{Choice, Tried};
use super::deserted::{Unattended, is_anybody_there, is_supervised};
use super::error::{CallError, ConnectError};
use super::family::Family;
use super::follow::{Follower, Followers};
use super::lanes::{Lane, NotSent, Opening};
use super::place::take_place;
use super::reactor::Reactor;
use super::receive::{Lanes, Own, Role};
use crate::config::Wait;
use crate::liveness::Verdict;
use crate::park::FutexPark;
use crate::segment::SegmentError;
use parking_lot::Mutex;
use shm_primitives::channel::Replies;
use shm_primitives::completion::{GivenUp, Outcome};
use shm_primitives::identity::OwnerId;
use shm_primitives::layout::service::{ClientEntry, ClientState, FunctionEntry, Shape};
use shm_primitives::leader::{Leadership, Leading};
use shm_primitives::message::{Priority, SeqId};
use shm_primitives::monitor::Snapshot;
use shm_primitives::place::Cause;
use shm_primitives::segment::{Control, State};
use shm_primitives::sync::Ordering::Relaxed as Shared;
use shm_primitives::table::Slot;
use shm_primitives::wake::{Deadline, Look, Park, WakeWord, published};
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How long a wait is before the waiter looks whether service and worker are there, in
/// nanoseconds.
pub(super) const BOUND: u64 = 100_000_000;
/// How long to wait for room in a lane before looking for it again, in nanoseconds.
const ROOM: u64 = 1_000_000;
/// Looks for a reply before the first look at a clock.
const EAGER: u32 = 64;
/// And more of them, with a pause behind each.
const POLLS: u32 = 128;
/// No call's sequence id.
pub(super) const NOBODY: u64 = 0;

pub(super) type ClientSlot = Slot<'static, ClientEntry, 1>;

/// See the module. Its fields are dropped in their order, but those that `drop` sees to: not at all in
/// a forked child.
#[derive(Debug)]
pub(super) struct Connection {
    lanes: ManuallyDrop<Box<[Lane]>>,
    role: ManuallyDrop<Leadership<Role>>,
    /// Receiving halves of lanes just made, for who has the role.
    news: ManuallyDrop<Mutex<Vec<(u32, Replies<'static>)>>>,
    are_news: AtomicBool,
    pub place: ManuallyDrop<ClientSlot>,
    /// That of its own segment.
    closing: ManuallyDrop<Control<'static>>,
    pub reactor: Arc<Reactor>,
    pub own: ClientMapped,
    bells: BellsMapped,
    pub control: ControlReadOnly,
    pub calls: ManuallyDrop<Table>,
    pub follow: ManuallyDrop<Followers>,
    pub choice: Choice,
    pub shape: Shape,
    pub client: u32,
    /// No call can be made any more: the service is gone, or the client has disconnected.
    is_lost: AtomicBool,
    /// When it was last looked whether all are there.
    looked: AtomicU64,
    /// It is to be looked, by who has the role.
    is_look_due: AtomicBool,
    pub unattended: Unattended,
    /// Functions that may be run twice.
    idempotent: Box<[u32]>,
    park: FutexPark,
    pub family: Arc<Family>,
}

/// Until when to wait: a moment that is only worked out when a clock is looked at for the first
/// time, for a call that is answered at once needs none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub timeout: Duration,
    deadline: Option<Deadline>,
}

impl Patience {
    pub const fn new(timeout: Duration) -> Self {
        Self { timeout, deadline: None }
    }

    pub fn deadline(&mut self, park: &FutexPark) -> Deadline {
        *self.deadline.get_or_insert_with(|| Deadline::after(park, self.timeout))
    }
}

impl Connection {
    /// One attempt to connect.
    pub fn open(family: &Arc<Family>) -> Result<Self, ConnectError> {
        let Family { domain, service, .. } = &**family;
        let control = ControlReadOnly::open::<ConnectError>(domain, service)?;
        let shape = *control.layout.shape();
        let choice = Choice::new(&shape, 0);
        choice.refresh(&control.layout, |_| None);
        if !choice.is_anybody_up() || !is_anybody_there(family, &control.layout) {
            let (service, waited) = (*service, Duration::ZERO);
            return Err(ConnectError::NotReady { service, waited });
        }
        let (bells, mut slot, own, closing) = take_place(family, &shape)?;
        let client = slot.key().index();
        let Some(bell) = bells.layout.client(client) else {
            unreachable!("there are as many bells as places")
        };
        bell.set_sleepless(family.wait == Wait::Poll);
        slot.update(&ClientEntry::new(std::process::id(), clock::since_1970()));
        let park = match family.wait {
            Wait::Block => FutexPark::new().without_spinning(),
            _ => FutexPark::new(),
        };
        // Lanes of spares too.
        let lanes = shape.client_shape(client);
        let calls = [lanes.normal, lanes.vip]
            .map(|group| u64::from(group.workers) * u64::from(group.messages));
        let calls = usize::try_from(calls[0] + calls[1]).unwrap_or(usize::MAX);
        let functions = control.layout.functions().iter().flatten().map(|found| found.entry);
        let idempotent = functions.filter(FunctionEntry::is_idempotent).map(|it| it.func_id);
        let this = Self {
            lanes: ManuallyDrop::new((0..shape.workers()).map(|_| Lane::default()).collect()),
            role: ManuallyDrop::new(Leadership::new(Role {
                lanes: Lanes::default(),
                waiter: bell.bell().waiter(),
            })),
            news: ManuallyDrop::default(),
            are_news: AtomicBool::new(false),
            calls: ManuallyDrop::new(Table::new(calls, client, slot.key().generation())),
            place: ManuallyDrop::new(slot),
            closing: ManuallyDrop::new(closing),
            reactor: Arc::default(),
            idempotent: idempotent.collect(),
            own,
            bells,
            control,
            follow: ManuallyDrop::default(),
            choice: Choice::new(&shape, client),
            shape,
            client,
            is_lost: AtomicBool::new(false),
            looked: AtomicU64::new(0),
            is_look_due: AtomicBool::new(false),
            unattended: Unattended::new(shape.workers()),
            park,
            family: Arc::clone(family),
        };
        // If it is closing, `drop` gives back what was taken.
        let confirmed = this.bells.layout.segment().confirm();
        let confirmed = confirmed.and_then(|()| this.control.layout.segment().confirm());
        confirmed.map_err(|error| {
            let path = this.bells.segment.path().into();
            ConnectError::Layout { path, error }
        })?;
        Ok(this)
    }

    /// Whether calls can be made.
    #[inline]
    pub fn is_usable(&self) -> bool {
        !self.is_lost()
            && !self.calls.are_used_up()
            && self.control.layout.segment().state() == Ok(State::Ready)
    }

    /// Whether nothing comes of it any more.
    #[inline]
    pub fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }

    /// The lane to that place.
    #[inline]
    pub fn lane(&self, place: u32) -> Option<&Lane> {
        self.lanes.get(place as usize)
    }

    /// Who has the worker's end of the lane to a place.
    pub fn holder(&self, place: u32) -> Option<OwnerId> {
        self.own.layout.channel(self.shape.place(place)?)?.worker().ok()?[0]
    }

    /// Whether the function may be run twice, as the server said when this client connected.
    pub fn is_idempotent(&self, function: u32) -> bool {
        self.idempotent.contains(&function)
    }

    #[inline]
    pub fn has_news(&self) -> bool {
        self.are_news.load(Ordering::Acquire)
    }

    #[cold]
    pub fn take_news(&self, lanes: &mut Lanes) {
        let mut news = self.news.lock();
        self.are_news.store(false, Ordering::Relaxed);
        news.drain(..).for_each(|(place, replies)| lanes.add(place, replies));
    }

    /// Sends a call to the best worker that has room for it: its sequence id. If none has, waits
    /// for that as long as `patience` says, if there is any.
    #[inline]
    pub fn submit(
        &self,
        function: u32,
        payload: &[u8],
        priority: Priority,
        ring: bool,
        patience: Option<&mut Patience>,
    ) -> Result<u64, CallError> {
        self.choice.refresh(&self.control.layout, |place| self.holder(place));
        let outstanding = |place| self.lane(place)?.outstanding();
        let Some(place) = self.choice.best(priority, &[], outstanding) else {
            return self.submit_slowly(function, payload, priority, ring, patience);
        };
        if let Ok(seq) = self.calls.begin() {
            match self.send(seq, place, function, payload, ring) {
                Ok(()) => return Ok(seq),
                Err(NotSent::Error(error)) => return Err(error),
                Err(NotSent::Full | NotSent::Corrupt) => {}
            }
        }
        self.submit_slowly(function, payload, priority, ring, patience)
    }

    /// Sends a call into the lane to `place`; if that fails it is over.
    #[inline]
    fn send(
        &self,
        seq: u64,
        place: u32,
        function: u32,
        payload: &[u8],
        ring: bool,
    ) -> Result<(), NotSent> {
        let slot = self.calls.slot(seq);
        slot.goes_to(place);
        if SeqId::MAX_COUNTER & seq > u64::from(u32::MAX) {
            self.forget_former(place, seq);
        }
        let sent = match self.lane(place) {
            Some(lane) => lane.send(seq, function, payload, ring, || self.open_lane(place)),
            None => Err(NotSent::Corrupt),
        };
        if let Err(error) = &sent {
            // Nobody knows of it but who ends all calls.
            slot.done.abandon(self.calls.tag(seq));
            match error {
                NotSent::Full => {}
                NotSent::Corrupt => self.lane_is_corrupt(place),
                // Another lane may do: one that cannot be had once cannot be had later.
                NotSent::Error(CallError::Lane { .. }) => {
                    if let Some(lane) = self.lane(place) {
                        lane.give_up();
                    }
                }
                NotSent::Error(_) => {}
            }
        }
        sent
    }

    /// Cancel words have the lower half of an id, and keep it for ever: one that was given up 2^32
    /// calls ago is not this one.
    #[cold]
    fn forget_former(&self, place: u32, seq: u64) {
        if let Some(word) = self.bells.layout.cancel(place, self.client)
            && word.is_asked(seq)
        {
            word.clear();
        }
    }

    #[cold]
    fn open_lane(&self, place: u32) -> Result<(super::lanes::Sender, u32), CallError> {
        let Self { own, bells, shape, client, .. } = self;
        let opening = Opening { own, bells, shape, client: *client, owner: self.family.owner() };
        // SAFETY: `drop` drops the halves, wherever they are, before the segments.
        let (sender, replies) = unsafe { opening.open(place) }?;
        let finished = replies.finished();
        self.news.lock().push((place, replies));
        self.are_news.store(true, Ordering::Release);
        Ok((sender, finished))
    }

    /// What a sender has found.
    #[cold]
    fn lane_is_corrupt(&self, place: u32) {
        if let Some(lane) = self.lane(place) {
            lane.give_up();
        }
        let mut ended = Vec::new();
        self.end_all(Some(place), || Ending::Corrupt, NOBODY, &mut ended);
        self.tell(&mut ended);
    }

    #[cold]
    fn submit_slowly(
        &self,
        function: u32,
        payload: &[u8],
        priority: Priority,
        ring: bool,
        mut patience: Option<&mut Patience>,
    ) -> Result<u64, CallError> {
        loop {
            let mut tried = Tried::new();
            let mut useless = None;
            self.choice.mark_stale();
            self.choice.refresh(&self.control.layout, |place| self.holder(place));
            let outstanding = |place| self.lane(place)?.outstanding();
            while let Some(place) = self.choice.best(priority, &tried, outstanding) {
                let Ok(seq) = self.calls.begin() else { break };
                match self.send(seq, place, function, payload, ring) {
                    Ok(()) => return Ok(seq),
                    Err(NotSent::Error(CallError::Lane { place, error })) => {
                        useless = Some(CallError::Lane { place, error });
                    }
                    Err(NotSent::Error(error)) => return Err(error),
                    Err(NotSent::Corrupt) => useless = Some(CallError::Corrupt { place }),
                    Err(NotSent::Full) => {}
                }
                tried.push(place);
            }
            let is_full = self.choice.best(priority, &[], outstanding).is_some();
            if !is_full {
                return Err(useless.unwrap_or_else(|| self.nobody(priority)));
            }
            if self.is_lost() {
                return Err(CallError::ServiceGone);
            }
            // Replies that nobody has read yet take room.
            if let Some(mut role) = self.role.try_lead() {
                let found = self.drain(&mut role.lanes, &mut Own::nobody(), Look::Thorough);
                self.settle(&mut role.lanes);
                let again = found != 0;
                self.resign(role);
                if again {
                    continue;
                }
            }
            let Some(patience) = patience.as_deref_mut() else { return Err(self.full()) };
            let (now, deadline) = (self.park.now(), patience.deadline(&self.park));
            if now >= deadline.nanoseconds() {
                return Err(self.full());
            }
            let until = Deadline::at(deadline.nanoseconds().min(now + ROOM));
            match self.role.try_lead() {
                Some(mut role) => {
                    let mut found = 0;
                    self.lead(&mut role, until, &mut Own::nobody(), |drained, _| {
                        found += drained;
                        found != 0
                    });
                    self.resign(role);
                }
                None => std::thread::sleep(Duration::from_micros(50)),
            }
            self.look_after(None);
        }
    }

    fn full(&self) -> CallError {
        let calls = self.lanes.iter().filter_map(Lane::outstanding).fold(0, u32::saturating_add);
        CallError::Full { in_flight: calls }
    }

    /// There is nobody for calls of that priority: all lanes there might be are corrupt, or no
    /// worker is there.
    fn nobody(&self, priority: Priority) -> CallError {
        let corrupt = self.choice.best(priority, &[], |_| Some(0));
        match corrupt {
            Some(place) => CallError::Corrupt { place },
            None => CallError::NoWorker { priority },
        }
    }

    /// Rings for the calls sent into those lanes without it.
    pub fn ring(&self, places: &[u32]) {
        places.iter().filter_map(|place| self.lane(*place)).for_each(Lane::ring);
    }

    /// Waits for the end of a call; `None` if it is late.
    #[inline]
    pub fn wait(&self, seq: u64, patience: &mut Patience) -> Option<Ending> {
        let mut own = Own::new(seq);
        // What came with the reply to another call.
        if let Some(ending) = self.ending(&mut own) {
            return Some(ending);
        }
        if self.family.wait != Wait::Block
            && let Some(mut role) = self.role.try_lead()
        {
            let mut polls = 0;
            while !self.has_ended(&own) && polls < EAGER + POLLS {
                polls += 1;
                if self.drain(&mut role.lanes, &mut own, Look::Glance) == 0 {
                    if polls > EAGER {
                        std::hint::spin_loop();
                    }
                    role.lanes.hold_back();
                }
            }
            self.resign(role);
        }
        match self.ending(&mut own) {
            Some(ending) => Some(ending),
            None => self.wait_long(own, patience),
        }
    }

    #[cold]
    fn wait_long(&self, mut own: Own, patience: &mut Patience) -> Option<Ending> {
        let (seq, slot) = (own.seq(), self.calls.slot(own.seq()));
        let deadline = patience.deadline(&self.park).nanoseconds();
        self.choice.mark_stale();
        loop {
            if let Some(ending) = self.ending(&mut own) {
                return Some(ending);
            }
            let now = self.park.now();
            if now >= deadline {
                return None;
            }
            if self.is_lost() {
                return Some(self.give_up(seq).unwrap_or(Ending::Gone));
            }
            if self.lane(slot.place()).and_then(Lane::outstanding).is_none() {
                return Some(self.give_up(seq).unwrap_or(Ending::Corrupt));
            }
            let until = Deadline::at(deadline.min(now.saturating_add(BOUND)));
            match self.role.try_lead() {
                Some(mut role) => {
                    self.lead(&mut role, until, &mut own, |_, own| self.has_ended(own));
                    if !self.has_ended(&own) {
                        self.look_after(Some(&mut role));
                    }
                    self.resign(role);
                }
                None => {
                    self.follow(seq, until, || self.has_ended(&own) || self.is_lost());
                    if !self.has_ended(&own) {
                        self.look_after(None);
                    }
                }
            }
        }
    }

    /// Waits for a report of progress, or the end: false if there was neither.
    pub fn wait_for_report(&self, seq: u64, patience: &mut Patience) -> Option<Vec<u8>> {
        let (slot, tag) = (self.calls.slot(seq), self.calls.tag(seq));
        let deadline = patience.deadline(&self.park).nanoseconds();
        let pending = || slot.done.is_pending(tag) && !self.is_lost();
        loop {
            let report = self.calls.take_report(seq);
            let now = self.park.now();
            if report.is_some() || !pending() || now >= deadline {
                return report;
            }
            // Nobody is woken for reports who has the role himself: in short pieces.
            let until = Deadline::at(deadline.min(now.saturating_add(BOUND)));
            match self.role.try_lead() {
                Some(mut role) => {
                    self.lead(&mut role, until, &mut Own::nobody(), |found, _| {
                        found != 0 || !pending()
                    });
                    self.resign(role);
                }
                None => {
                    self.follow(seq, until, || !pending() || self.calls.has_report(seq));
                }
            }
            self.look_after(None);
        }
    }

    /// Reads what has come, without waiting, if nobody else does.
    pub fn glance(&self) {
        if let Some(mut role) = self.role.try_lead() {
            self.drain(&mut role.lanes, &mut Own::nobody(), Look::Glance);
            self.resign(role);
        }
    }

    /// Receives for all until `done`, which is told how many replies each look has found, or
    /// `until`.
    pub fn lead(
        &self,
        role: &mut Role,
        until: Deadline,
        own: &mut Own,
        mut done: impl FnMut(u32, &Own) -> bool,
    ) {
        let Role { lanes, waiter } = role;
        let mut look = |look| {
            let found = self.drain(lanes, own, look);
            if found == 0 && look == Look::Glance {
                lanes.hold_back();
            }
            done(found, own) || self.is_lost()
        };
        if self.family.wait != Wait::Poll {
            waiter.wait_looking(&self.park, until, look);
            return;
        }
        // Workers do not ring one who never sleeps.
        while !look(Look::Thorough) {
            for _ in 0..POLLS {
                if look(Look::Glance) {
                    return;
                }
                std::hint::spin_loop();
            }
            if self.park.now() >= until.nanoseconds() {
                return;
            }
        }
    }

    /// Waits until `done`, or `until`, or nobody receives any more.
    fn follow(&self, seq: u64, until: Deadline, done: impl Fn() -> bool) {
        let bell = self.calls.slot(seq).done.bell();
        self.follow_at(Follower::Call(seq), bell, until, done);
    }

    /// The same, sleeping at `bell`.
    pub fn follow_at(
        &self,
        me: Follower,
        bell: &WakeWord,
        until: Deadline,
        done: impl Fn() -> bool,
    ) {
        self.follow.add(me);
        self.role.follow();
        let park = FutexPark::private();
        bell.waiter().wait(&park, until, || done() || !self.role.is_led());
        // In this order: who is woken for the others does follow.
        self.follow.remove(me);
        if self.role.unfollow() {
            self.follow.wake_one(&self.calls);
        }
    }

    /// Takes the role, if it is free.
    pub fn role(&self) -> Option<Leading<'_, Role>> {
        self.role.try_lead()
    }

    /// How many follow. To be asked behind a fence.
    #[inline]
    pub fn followers(&self) -> u32 {
        self.role.followers()
    }

    /// Gives the role back, and wakes somebody who takes it, if there is anybody.
    #[inline]
    pub fn resign(&self, mut role: Leading<'_, Role>) {
        if self.is_look_due.load(Ordering::Relaxed) {
            self.look_now(&mut role, self.park.now());
        }
        if role.resign() {
            self.follow.wake_one(&self.calls);
        }
    }

    /// Ends a call as its caller: `None` if nobody had. Its worker is told then.
    pub fn give_up(&self, seq: u64) -> Option<Ending> {
        let (slot, tag) = (self.calls.slot(seq), self.calls.tag(seq));
        let place = slot.place();
        for _ in 0..1000 {
            match slot.done.give_up(tag) {
                GivenUp::Won => {
                    self.cancel(place, seq);
                    return None;
                }
                GivenUp::Ended(_, ending) => return ending,
                // By a thread that is about to say what the result is.
                GivenUp::Settling(_) => std::thread::yield_now(),
                GivenUp::Over => return None,
            }
        }
        slot.done.abandon(tag);
        None
    }

    /// The caller is gone.
    pub fn abandon(&self, seq: u64) {
        if self.calls.take_waker(seq).is_some() {
            // The reactor may have nothing to wait for any more.
            self.ring_own_bell();
        }
        let slot = self.calls.slot(seq);
        let place = slot.place();
        if slot.done.abandon(self.calls.tag(seq)) {
            self.cancel(place, seq);
        }
    }

    pub fn cancel(&self, place: u32, seq: u64) {
        if let Some(word) = self.bells.layout.cancel(place, self.client) {
            word.ask(seq);
        }
    }

    /// Looks whether service and workers are there. Done by whoever waits, now and then; with the
    /// role, if the caller has it. If somebody else has it he looks, when he gives it back at the
    /// latest.
    #[cold]
    pub fn look_after(&self, role: Option<&mut Role>) {
        let now = self.park.now();
        if now.saturating_sub(self.looked.load(Ordering::Relaxed)) < BOUND / 2 {
            return;
        }
        if let Some(role) = role {
            return self.look_now(role, now);
        }
        // Those who have the role for their own calls alone look only if they are told to: the next
        // who gives it back.
        self.is_look_due.store(true, Ordering::Relaxed);
        if let Some(role) = self.role() {
            self.resign(role);
        }
    }

    fn look_now(&self, role: &mut Role, now: u64) {
        let last = self.looked.swap(now, Ordering::Relaxed);
        self.is_look_due.store(false, Ordering::Relaxed);
        if let Some(bell) = self.bells.layout.client(self.client) {
            // Again: others can write there.
            bell.set_sleepless(self.family.wait == Wait::Poll);
        }
        if matches!(self.bells.segment.has_name(), Ok(false)) || !self.has_place() {
            // What was answered before stays so.
            self.drain(&mut role.lanes, &mut Own::nobody(), Look::Thorough);
            return self.lose();
        }
        self.refuse_deserted();
        if is_supervised(&self.family, &self.control.layout) {
            self.unattended.clear();
        } else {
            self.look_for_the_dead(role);
            self.end_unattended(now, last);
        }
    }

    /// Whether its place is its own, and whole: workers let go of a client that has none. It is,
    /// unless somebody has written what he should not; then another is taken.
    fn has_place(&self) -> bool {
        let table = self.bells.layout.clients();
        table.owner(self.client) == Some(self.place.owner())
            && table.live(self.place.key(), ClientEntry::STATE)
                == Some(ClientState::Connected as u32)
            && self.own.layout.segment().state() == Ok(State::Ready)
    }

    /// Ends the calls that dead workers had in hand.
    fn look_for_the_dead(&self, role: &mut Role) {
        let control = &self.control.layout;
        let members = self.family.member().processes();
        for (place, owner) in control.workers().owners() {
            if !matches!(members.convict(owner), Ok(Verdict::Dead(_))) {
                continue;
            }
            self.choice.mark_dead(place, owner);
            // In this order: what it says is its last word.
            let Some(monitor) = control.monitor(place) else { continue };
            let Ok(Snapshot::Processing(in_hand)) = monitor.snapshot() else { continue };
            let seq = in_hand.seq_id;
            if !self.calls.is_ours(seq) {
                continue;
            }
            let lane = self.calls.slot(seq).place();
            let generation = self.place.key().generation();
            let ours = self.shape.lane(lane, self.client, generation);
            if ours.is_none_or(|it| (it.lane, it.epoch) != (in_hand.lane, in_hand.lane_epoch)) {
                continue;
            }
            // It may have replied before it died.
            self.drain(&mut role.lanes, &mut Own::nobody(), Look::Thorough);
            let mut ended = Vec::new();
            let ending = Ending::Crashed(Cause::Unknown);
            self.end(seq, Outcome::Crash, ending, NOBODY, &mut ended);
            self.tell(&mut ended);
        }
    }

    /// Nothing comes of it any more: all calls are ended.
    pub fn lose(&self) {
        self.is_lost.store(true, Ordering::Relaxed);
        // Either this finds a call that is just being made, or its caller finds, behind a fence of its
        // own, that it is in vain.
        let _fenced = published();
        let mut ended = Vec::new();
        self.end_all(None, || Ending::Gone, NOBODY, &mut ended);
        self.tell(&mut ended);
        // Whoever receives ceases to.
        self.ring_own_bell();
    }

    pub fn ring_own_bell(&self) {
        if let Some(bell) = self.bells.layout.client(self.client) {
            bell.bell().shared_notifier().notify(&self.park);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if !self.family.is_ours() {
            // A forked child's copies: neither ends nor memory are its own, and any of them may be as
            // another thread had it half written. That thread is not there.
            return;
        }
        self.reactor.stop();
        if let Some(state) = self.place.live(ClientEntry::STATE)
            && self.has_place()
        {
            state.store(ClientState::Leaving as u32, Shared);
        }
        self.closing.close();
        // SAFETY: each once, here; nothing of them is used after this.
        unsafe {
            ManuallyDrop::drop(&mut self.news);
            ManuallyDrop::drop(&mut self.role);
        }
        // Workers learn that they are to let the lanes go.
        self.lanes.iter_mut().for_each(Lane::close);
        // SAFETY: as above.
        unsafe {
            ManuallyDrop::drop(&mut self.lanes);
            ManuallyDrop::drop(&mut self.calls);
            ManuallyDrop::drop(&mut self.follow);
        }
        match self.own.segment.unlink_own(|_| Ok::<_, SegmentError>(true)) {
            Ok(_) | Err(SegmentError::NotFound { .. }) => {}
            Err(error) => {
                // Its name must not become a successor's: place and segment stay, until this
                // process ends and somebody puts them away.
                let service = &self.family.service;
                tracing::warn!(target: "shm_transport::service", %service, %error, "a segment stays");
                self.family.holds_on();
                return;
            }
        }
        // SAFETY: as above.
        unsafe {
            ManuallyDrop::drop(&mut self.closing);
            ManuallyDrop::drop(&mut self.place);
        }
    }
}
