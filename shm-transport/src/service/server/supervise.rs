//! The thread that starts workers and looks after them.
//!
//! It sleeps until a worker's pidfd, another's fallen lock, a command or the time wakes it. What
//! it then does for a death is in [`recover`](super::recover), when it starts the next worker in
//! [`restart`](super::restart), what it does to one that hangs in [`hang`](super::hang), and who helps
//! out in [`helpers`](super::helpers). The rest is here: one place after the other, a small machine
//! each.
//!
//! ```text
//!              started               it serves
//!   Waiting -----------> Starting -----------> Up
//!      ^                     | dies             | dies, or was ordered to go
//!      |   a while later     v                  v
//!      +------------------ (what next?) --> Failed, or Empty
//! ```
//!
//! It is the only one that writes orders, and what it says there is all that others know: a
//! successor begins with them.

use super::adopt;
use super::builder::Strategy;
use super::error::ServerError;
use super::hang::{self, Action, Doing, Hang};
use super::helpers::{self, Worker};
use super::info;
use super::letters::Letters;
use super::recover::{Casualty, Lanes, TARGET};
use super::restart::{History, Next, Pool, Restart};
use super::shared::{Command, Done, Shared};
use super::spawn::{EXIT_NEVER, Launch, Program, Running, signal_other};
use crate::liveness::{DeathWatch, Verdict};
use crate::member::Member;
use crate::service::{clock, role};
use rustix::event::{Timespec, epoll};
use rustix::process::Signal;
use shm_primitives::counter::CounterWriter;
use shm_primitives::identity::{Dead, OwnerId};
use shm_primitives::layout::service::{
    Cause, Condition, FunctionEntry, Order, Orders, OrdersWriter, SupervisorCount, WorkerEntry,
};
use shm_primitives::monitor::Snapshot;
use shm_primitives::segment::Control;
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

/// How often to look when nothing is expected.
const ROUND: Duration = Duration::from_millis(100);
/// How often to look whether a worker that was just started serves.
const SOON: Duration = Duration::from_micros(500);
/// And when it has been on its way for longer.
const LATER: Duration = Duration::from_millis(5);
/// Until when it was just started.
const JUST: Duration = Duration::from_millis(200);
/// How long to wait for the status of a worker whose lock has fallen.
const STATUS: Duration = Duration::from_millis(20);
/// How long to wait for those that were killed.
const KILLED: Duration = Duration::from_secs(5);
/// The mark of commands, among the places.
const NEWS: u64 = u64::MAX;

/// What a server was told when it was built.
#[derive(Debug)]
pub(super) struct Settings {
    pub launch: Launch,
    pub program: Program,
    pub restart: Restart,
    pub strategy: Strategy,
    pub hang: Hang,
    pub functions: Vec<FunctionEntry>,
    pub drain: Duration,
    /// Told when what a former supervisor left was looked at.
    pub begun: Sender<()>,
}

/// What wakes the thread beside locks and pidfds of others: commands, and the ends of workers that
/// it has started.
pub(super) fn epoll(news: &OwnedFd) -> io::Result<OwnedFd> {
    let fd = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&fd, news, epoll::EventData::new_u64(NEWS), epoll::EventFlags::IN)?;
    Ok(fd)
}

/// What a place is at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Nobody is to be here.
    Empty,
    /// A worker is started then.
    Waiting { at: Instant },
    /// One was, then, and does not serve yet.
    Starting { since: Instant },
    /// One serves, since then.
    Up { since: Instant },
    /// One is to go, and gets SIGKILL then.
    Draining { until: Instant },
    /// None is started any more.
    Failed,
}

#[derive(Debug)]
struct Place {
    writer: OrdersWriter<'static>,
    orders: Orders,
    phase: Phase,
    /// The process, if this one has started it.
    running: Option<Running>,
    /// Who has the slot, as far as was seen.
    worker: Option<OwnerId>,
    history: History,
    hang: hang::Watch,
}

/// Restarting all places, one after the other.
#[derive(Debug)]
struct Rolling {
    todo: VecDeque<u32>,
    /// Which one is just being restarted, and how often it had been before.
    now: Option<(u32, u32)>,
    /// What they ran before, should the new one not come up.
    before: Option<Program>,
    done: Done,
}

#[derive(Debug)]
struct Stopping {
    until: Instant,
    killed: bool,
    done: Vec<Done>,
}

/// Who is to be told of the end, and what.
type Told = (Done, Result<(), ServerError>);

/// Its fields are dropped in their order: nothing of the memory stays.
struct Supervisor<'s> {
    places: Vec<Place>,
    counts: [CounterWriter<'static>; 8],
    lanes: Lanes<'s>,
    letters: Letters,
    watch: DeathWatch<'s, 's>,
    shared: &'s Shared,
    member: &'s Member,
    settings: Settings,
    epoll: &'s OwnedFd,
    /// Processes of places that are others' by now, which have not ended.
    strays: Vec<Running>,
    pool: Pool,
    rolling: Option<Rolling>,
    stopping: Option<Stopping>,
    /// Where time is counted from.
    began: Instant,
    random: RandomState,
    next_round: Instant,
    /// Set when the thread is to end and leave everything as it is.
    leaves: bool,
}

/// What the thread does.
pub(super) fn run(
    shared: &Shared,
    settings: Settings,
    member: Member,
    (mut control_word, mut bells_word): (Control<'static>, Control<'static>),
    letters: Letters,
    epoll: OwnedFd,
    (adopted, former): (bool, Option<OwnerId>),
) {
    // However it ends, its commands are answered.
    struct End<'s>(&'s Shared);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.end();
        }
    }
    let end = End(shared);
    let waiting = {
        let control = &shared.control.layout;
        let place = |place| {
            let writer = control.orders_writer(place, &control_word)?;
            let orders = writer
                .orders()
                .unwrap_or(Orders { incarnation: writer.incarnation(), ..Orders::default() });
            Some(Place {
                writer,
                orders,
                phase: Phase::Empty,
                running: None,
                worker: None,
                history: History::default(),
                hang: hang::Watch::new(),
            })
        };
        let mut supervisor = Supervisor {
            places: (0..shared.shape().workers()).filter_map(place).collect(),
            counts: control.supervisor_counters().writers(),
            lanes: Lanes::new(shared),
            letters,
            watch: DeathWatch::new(member.processes()).interrupted_by(epoll.as_fd()),
            shared,
            member: &member,
            settings,
            epoll: &epoll,
            strays: Vec::new(),
            pool: Pool::default(),
            rolling: None,
            stopping: None,
            began: Instant::now(),
            random: RandomState::new(),
            next_round: Instant::now(),
            leaves: false,
        };
        supervisor.begin(adopted, former);
        let _ = supervisor.settings.begun.send(());
        supervisor.keep(&mut control_word, &mut bells_word);
        supervisor.finish()
    };
    if waiting.is_some() {
        adopt::unlink(&shared.control, &shared.bells);
    }
    // Who takes the service over begins with the control segment, and finds the bells free then.
    drop(bells_word);
    drop(control_word);
    adopt::clear_deserted(&shared.domain, &member);
    // SAFETY: places, letters and control words were given back; what the handle of the server still
    // does is to read.
    if let Err(error) = unsafe { member.leave() } {
        tracing::warn!(target: TARGET, service = %shared.service, %error, "leaving");
    }
    drop(end);
    for (done, result) in waiting.into_iter().flatten() {
        let _ = done.send(result);
    }
}

impl Supervisor<'_> {
    /// Recovers what died while nobody looked, and starts what is not there.
    fn begin(&mut self, adopted: bool, former: Option<OwnerId>) {
        if adopted {
            self.adopt(former);
        }
        adopt::sweep_orphans(&self.shared.domain, &self.shared.service, self.member);
        for place in 0..self.places.len() {
            if self.places[place].worker.is_none() {
                self.start(place);
            }
        }
    }

    /// Looks at what a former supervisor left.
    fn adopt(&mut self, former: Option<OwnerId>) {
        let control = &self.shared.control.layout;
        let mut owners: Vec<OwnerId> = control.workers().owners().map(|(_, owner)| owner).collect();
        owners.extend(self.shared.bells.layout.clients().owners().map(|(_, owner)| owner));
        // Supervisors that died while they recovered lanes are only named there.
        let records = self.member.processes().processes().flatten();
        owners.extend(records.filter(|it| role::is_of_a_service(it.role)).map(|it| it.id));
        owners.extend(former);
        owners.sort_by_key(|owner| owner.word());
        owners.dedup();
        let mut dead = Vec::new();
        for owner in owners.into_iter().filter(|owner| *owner != self.shared.owner) {
            if let Ok(Verdict::Dead(one)) = self.member.processes().convict(owner)
                && (Some(owner) == former || self.is_of_this_service(owner))
            {
                dead.push(one);
            }
        }
        // What a worker had in hand may be in a lane that the former supervisor died with: lanes of
        // all first, before a monitor that says so is reset.
        for one in &dead {
            self.recover_lanes(*one, Cause::Unknown, 0);
        }
        for one in dead {
            self.put_away(one, Cause::Unknown, 0);
        }
        for place in 0..self.places.len() {
            self.look_for_worker(place);
            let it = &mut self.places[place];
            it.orders.helper = None;
            if it.worker.is_some() {
                // Its next look says whether it serves.
                it.phase = Phase::Starting { since: Instant::now() };
                it.orders.order = Order::Run;
                it.orders.condition = Condition::Starting;
                self.write(place);
            } else if it.orders.order != Order::Vacant
                && !matches!(it.orders.condition, Condition::BackOff | Condition::Stopped)
            {
                // It died while nobody looked.
                it.orders.cause = Some(Cause::Unknown);
                it.orders.restarts = it.orders.restarts.wrapping_add(1);
                self.count(SupervisorCount::Crashes, 1);
            }
        }
        tracing::info!(
            target: TARGET, service = %self.shared.service,
            workers = self.places.iter().filter(|place| place.worker.is_some()).count(),
            "adopted"
        );
    }

    /// Whether a dead one has anything of this service; others look after the others.
    fn is_of_this_service(&mut self, owner: OwnerId) -> bool {
        let workers = self.shared.control.layout.workers();
        let clients = self.shared.bells.layout.clients();
        workers.owners().chain(clients.owners()).any(|(_, it)| it == owner) || {
            self.lanes.refresh();
            self.lanes.names(owner)
        }
    }

    /// Until it is to end.
    fn keep(&mut self, control_word: &mut Control<'static>, bells_word: &mut Control<'static>) {
        loop {
            while let Some(command) = self.shared.hear() {
                self.command(command, control_word, bells_word);
            }
            self.tend();
            if self.leaves || self.is_stopped() {
                return;
            }
            match self.watch.wait(Some(self.until())) {
                Ok(Some(dead)) => self.died(dead),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(target: TARGET, service = %self.shared.service, %error, "watch over workers");
                    std::thread::sleep(LATER);
                }
            }
            self.hear();
        }
    }

    /// Ends of workers, and that there are commands.
    fn hear(&mut self) {
        let mut events = Vec::with_capacity(16);
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let buffer = rustix::buffer::spare_capacity(&mut events);
        if epoll::wait(self.epoll, buffer, Some(&now)).is_err() {
            return;
        }
        for event in events {
            match event.data.u64() {
                NEWS => self.shared.quiet(),
                place => self.ended(place as usize),
            }
        }
        self.strays.retain_mut(|stray| stray.ended(Duration::ZERO).is_none());
    }

    /// The process of a place has ended, or one before it has.
    fn ended(&mut self, place: usize) {
        let Some(running) = self.places.get_mut(place).and_then(|it| it.running.as_mut()) else {
            return;
        };
        let Some(cause) = running.ended(Duration::ZERO) else { return };
        let pid = running.pid();
        self.places[place].running = None;
        match self.shared.control.layout.workers().owner(self.at(place)) {
            Some(owner) => {
                // Its memory has gone before it ended, but for that of a child that shares it.
                let until = Instant::now() + STATUS;
                loop {
                    match self.member.processes().convict(owner) {
                        Ok(Verdict::Dead(dead)) => return self.lost(place, Some(dead), cause, pid),
                        Ok(Verdict::Alive) if Instant::now() < until && self.is_of(place, pid) => {
                            std::thread::sleep(Duration::from_micros(50));
                        }
                        _ => break,
                    }
                }
                // Another has the place: one that a former supervisor has started. Or it shares its
                // memory still, and its lock tells.
                self.look_for_worker(place);
                if !self.is_of(place, pid) {
                    self.places[place].phase = Phase::Starting { since: Instant::now() };
                }
            }
            None => self.lost(place, None, cause, pid),
        }
    }

    /// Whether the slot of a place is that of this process.
    fn is_of(&self, place: usize, pid: u32) -> bool {
        match self.shared.control.layout.workers().read(self.at(place)) {
            Ok(Some(found)) => found.entry.pid == pid,
            // Claimed, and nothing said yet.
            _ => true,
        }
    }

    fn at(&self, place: usize) -> u32 {
        // Fewer than 2^14.
        place as u32
    }

    /// Somebody that is watched is dead.
    fn died(&mut self, dead: Dead<OwnerId>) {
        let id = dead.id();
        let Some(place) = self.places.iter().position(|place| place.worker == Some(id)) else {
            self.put_away(dead, Cause::Unknown, 0);
            return;
        };
        let (mut cause, mut pid) = (Cause::Unknown, 0);
        if let Some(running) = &mut self.places[place].running {
            pid = running.pid();
            match running.ended(STATUS) {
                Some(found) => {
                    cause = found;
                    self.places[place].running = None;
                }
                // It is no worker any more, and may do other things for as long as it likes.
                None => self.strays.extend(self.places[place].running.take()),
            }
        }
        self.lost(place, Some(dead), cause, pid);
    }

    /// Recovers all that a dead one had.
    fn put_away(&mut self, dead: Dead<OwnerId>, cause: Cause, pid: u32) {
        self.put_away_lanes(dead, cause, pid);
        self.lanes.recover_client(dead, self.member);
        self.clear(dead);
    }

    /// Recovers the lanes that a dead one had ends of; which places were its.
    fn recover_lanes(&mut self, dead: Dead<OwnerId>, cause: Cause, pid: u32) -> Vec<u32> {
        let workers = self.shared.control.layout.workers();
        let theirs = workers.owners().filter(|(_, owner)| *owner == dead.id());
        let theirs: Vec<u32> = theirs.map(|(place, _)| place).collect();
        let entry = theirs.first().and_then(|place| workers.read(*place).ok().flatten());
        let pid = if pid == 0 { entry.map_or(0, |found| found.entry.pid) } else { pid };
        let casualty = Casualty { dead, cause, place: theirs.first().copied(), pid };
        let tally = self.lanes.recover(&casualty, self.member, &mut self.letters);
        self.count(SupervisorCount::Poisoned, tally.poisoned);
        self.count(SupervisorCount::LettersLost, tally.lost);
        theirs
    }

    /// Gives the record of a dead one back.
    fn clear(&mut self, dead: Dead<OwnerId>) {
        if let Err(error) = self.member.processes().clear(dead, self.member.membership()) {
            tracing::warn!(target: TARGET, service = %self.shared.service, %error, "a record stays");
        }
    }

    /// A place has lost its worker: the process, and if it had claimed the place, the one who had.
    fn lost(&mut self, place: usize, dead: Option<Dead<OwnerId>>, cause: Cause, pid: u32) {
        let now = Instant::now();
        let was = self.places[place].phase;
        let was_asked = matches!(was, Phase::Draining { .. } | Phase::Empty);
        if let Some(dead) = dead {
            self.watch.remove(dead.id());
            // The record is given back below, when the next one is on its way.
            self.put_away_lanes(dead, cause, pid);
        }
        let it = &mut self.places[place];
        (it.worker, it.hang) = (None, hang::Watch::new());
        let mut after = None;
        if !was_asked {
            it.orders.cause = Some(cause);
            self.count(SupervisorCount::Crashes, 1);
            tracing::warn!(target: TARGET, service = %self.shared.service, place, pid, ?cause, "a worker died");
        }
        match (&self.stopping, was) {
            (Some(_), _) | (_, Phase::Empty) => self.leave_empty(place),
            // To be restarted.
            (None, Phase::Draining { .. }) => self.start(place),
            (None, _) => {
                let since = match was {
                    Phase::Up { since } => now.saturating_duration_since(since),
                    _ => Duration::ZERO,
                };
                let (text, exit) = (describe(cause), cause == Cause::Exited(EXIT_NEVER));
                if exit {
                    self.give_up(place, format!("its worker can never work: it {text}"));
                } else {
                    after = Some((since, text));
                }
            }
        }
        if let Some((served, text)) = after {
            self.next(place, served, true, &text);
        }
        if let Some(dead) = dead {
            self.clear(dead);
        }
        self.clear_records_of(pid);
    }

    /// The urgent part of [`put_away`](Self::put_away).
    fn put_away_lanes(&mut self, dead: Dead<OwnerId>, cause: Cause, pid: u32) {
        let theirs = self.recover_lanes(dead, cause, pid);
        let control = &self.shared.control.layout;
        for place in theirs {
            if let Some(monitor) = control.monitor(place) {
                monitor.recover_writer(dead).reset();
            }
        }
        let _ = control.workers().release_all_of(dead, self.shared.owner);
    }

    /// Gives back the records of a process that died before it had claimed its place.
    fn clear_records_of(&mut self, pid: u32) {
        if pid == 0 {
            return;
        }
        adopt::clear_silent(self.member);
        let Ok(Some(own)) = self.member.processes().process(self.shared.owner) else { return };
        let table = self.member.processes();
        let theirs: Vec<OwnerId> = table
            .processes()
            .flatten()
            .filter(|it| {
                it.identity.pid == pid
                    && it.role == role::WORKER
                    && it.identity.shares_pids_with(&own.identity)
            })
            .map(|it| it.id)
            .collect();
        for id in theirs {
            if let Ok(Verdict::Dead(dead)) = self.member.processes().convict(id)
                && !self.is_of_this_service(id)
            {
                self.clear(dead);
            }
        }
    }

    /// What comes after a death that nobody asked for. A worker that may be started now is, if
    /// `at_once` says so; else when all places are looked at next.
    fn next(&mut self, place: usize, served: Duration, at_once: bool, what: &str) {
        let now = Instant::now();
        let time = now.saturating_duration_since(self.began);
        let random =
            self.random.build_hasher().finish() as u32 ^ self.random.hash_one((place, time)) as u32;
        let restart = &self.settings.restart;
        let next = self.places[place].history.died(time, served, restart, &mut self.pool, random);
        match next {
            Next::At(at) if at <= time && at_once => {
                self.places[place].orders.restarts =
                    self.places[place].orders.restarts.wrapping_add(1);
                self.start(place);
            }
            Next::At(at) => {
                let it = &mut self.places[place];
                it.phase = Phase::Waiting { at: after(self.began, at) };
                it.orders.condition = Condition::BackOff;
                self.write(place);
                self.say(place, Some(format!("its worker {what}; the next is started soon")));
            }
            Next::GiveUp { deaths } => {
                let within = self.settings.restart.within;
                self.give_up(
                    place,
                    format!("{deaths} workers died within {within:?}, of which the last {what}"),
                );
            }
        }
    }

    fn give_up(&mut self, place: usize, reason: String) {
        tracing::error!(target: TARGET, service = %self.shared.service, place, reason, "a place has failed");
        self.places[place].phase = Phase::Failed;
        self.places[place].orders.condition = Condition::Failed;
        self.places[place].orders.order = Order::Vacant;
        self.write(place);
        self.say(place, Some(reason));
    }

    fn leave_empty(&mut self, place: usize) {
        self.places[place].phase = Phase::Empty;
        self.places[place].orders.condition = Condition::Stopped;
        self.places[place].orders.order = Order::Vacant;
        self.places[place].orders.helper = None;
        self.write(place);
        self.say(place, None);
    }

    /// Starts a worker.
    fn start(&mut self, place: usize) {
        let it = &mut self.places[place];
        // 0 says that there was none.
        it.orders.incarnation = it.orders.incarnation.wrapping_add(1).max(1);
        it.orders.order = Order::Run;
        it.orders.condition = Condition::Starting;
        it.phase = Phase::Starting { since: Instant::now() };
        it.hang = hang::Watch::new();
        self.write(place);
        let at = self.at(place);
        let it = &mut self.places[place];
        let incarnation = it.orders.incarnation;
        let spawned = self.settings.launch.spawn(&self.settings.program, at, incarnation);
        let spawned = spawned.and_then(|running| {
            let (data, flags) = (epoll::EventData::new_u64(at.into()), epoll::EventFlags::IN);
            match epoll::add(self.epoll, running.as_fd(), data, flags) {
                Ok(()) => Ok(running),
                Err(error) => {
                    running.signal(Signal::KILL);
                    self.strays.push(running);
                    Err(error.into())
                }
            }
        });
        match spawned {
            Ok(running) => {
                tracing::info!(
                    target: TARGET, service = %self.shared.service, place, incarnation,
                    pid = running.pid(), "a worker was started"
                );
                it.running = Some(running);
            }
            // Never from within this start: the next one may fail as well, and so on.
            Err(error) => {
                self.next(place, Duration::ZERO, false, &format!("cannot be started: {error}"));
            }
        }
    }

    /// What a place's orders are from now on.
    fn write(&mut self, place: usize) {
        let it = &mut self.places[place];
        it.orders.changed_ms = clock::since_1970();
        it.writer.write(&it.orders);
    }

    fn say(&self, place: usize, reason: Option<String>) {
        if let Some(said) = self.shared.view.lock().reasons.get_mut(place) {
            *said = reason;
        }
    }

    fn count(&mut self, what: SupervisorCount, n: u64) {
        if n > 0 {
            self.counts[what as usize].add(n);
        }
    }

    /// Finds out who has a place, and watches over him.
    fn look_for_worker(&mut self, place: usize) {
        let owner = self.shared.control.layout.workers().owner(self.at(place));
        let owner = owner.filter(|owner| *owner != self.shared.owner);
        // One that has given its place back is watched until it is gone.
        let (Some(new), was) = (owner, self.places[place].worker) else { return };
        if owner == was {
            return;
        }
        if let Some(before) = was {
            self.watch.remove(before);
        }
        if let Err(error) = self.watch.add(new) {
            tracing::warn!(target: TARGET, service = %self.shared.service, place, %error, "a worker");
        }
        self.places[place].worker = owner;
    }

    /// One look at everything.
    fn tend(&mut self) {
        let now = Instant::now();
        for place in 0..self.places.len() {
            self.tend_place(place, now);
        }
        if now >= self.next_round {
            self.next_round = now + ROUND;
            self.round();
        }
        self.roll(now);
        self.help();
        if let Some(stopping) = &self.stopping
            && now >= stopping.until
            && !stopping.killed
        {
            self.kill_all(now);
        }
    }

    fn tend_place(&mut self, place: usize, now: Instant) {
        match self.places[place].phase {
            Phase::Waiting { at } if now >= at => {
                let it = &mut self.places[place];
                it.orders.restarts = it.orders.restarts.wrapping_add(1);
                self.start(place);
            }
            Phase::Starting { since } => {
                self.look_for_worker(place);
                if self.places[place].worker.is_some() && info::serves(self.shared, self.at(place))
                {
                    let it = &mut self.places[place];
                    it.phase = Phase::Up { since: now };
                    it.orders.condition = Condition::Up;
                    self.write(place);
                    self.say(place, None);
                } else if now.saturating_duration_since(since) >= self.settings.hang.boot
                    && self.doing(place) == Doing::Running
                {
                    tracing::warn!(target: TARGET, service = %self.shared.service, place, "a worker does not come to serve");
                    self.count(SupervisorCount::Kills, 1);
                    self.signal(place, Signal::KILL);
                    // Once; and again if that does not help.
                    self.places[place].phase = Phase::Starting { since: now };
                }
            }
            Phase::Up { .. } => self.look_for_hang(place),
            Phase::Draining { until } => {
                self.look_for_worker(place);
                if now >= until && self.stopping.is_none() {
                    self.signal(place, Signal::KILL);
                    self.places[place].phase = Phase::Draining { until: now + ROUND };
                }
            }
            Phase::Empty | Phase::Waiting { .. } | Phase::Failed => {}
        }
    }

    fn doing(&self, place: usize) -> Doing {
        self.pid_of(place).map_or(Doing::Running, Doing::of)
    }

    fn pid_of(&self, place: usize) -> Option<u32> {
        let it = &self.places[place];
        if let Some(running) = &it.running {
            return Some(running.pid());
        }
        let process = self.member.processes().process(it.worker?).ok()??;
        let own = self.member.processes().process(self.shared.owner).ok()??;
        process.identity.shares_pids_with(&own.identity).then_some(process.identity.pid)
    }

    /// Sends a place's worker a signal.
    fn signal(&self, place: usize, signal: Signal) {
        let it = &self.places[place];
        if let Some(running) = &it.running {
            running.signal(signal);
        } else if let Some(process) =
            it.worker.and_then(|id| self.member.processes().process(id).ok().flatten())
            && !signal_other(&process, signal)
        {
            tracing::warn!(target: TARGET, service = %self.shared.service, place, "a worker of another pid namespace gets no signal");
        }
    }

    fn look_for_hang(&mut self, place: usize) {
        let at = self.at(place);
        let Some(monitor) = self.shared.control.layout.monitor(at) else { return };
        let record = match monitor.snapshot() {
            Ok(Snapshot::Processing(noted)) => Some(noted),
            _ => None,
        };
        let threshold = match record {
            Some(noted) => self.threshold(noted.lane, noted.seq_id),
            None => None,
        };
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let now = Duration::new(now.tv_sec as u64, now.tv_nsec as u32);
        let pid = self.pid_of(place);
        let doing = || pid.map_or(Doing::Running, Doing::of);
        let it = &mut self.places[place];
        let Some(action) = it.hang.look(now, record, threshold, &self.settings.hang, doing) else {
            return;
        };
        tracing::warn!(target: TARGET, service = %self.shared.service, place, ?action, "a worker is at one call for long");
        match action {
            Action::Suspect | Action::Clear => {
                it.orders.condition =
                    if action == Action::Suspect { Condition::Suspect } else { Condition::Up };
                self.write(place);
            }
            Action::Cancel(call) => {
                let clients = self.shared.shape().clients;
                let (to, client) = (u32::from(call.lane) / clients, u32::from(call.lane) % clients);
                // The calls of the next tenant of the client's place have the same numbers.
                let tenant = self.shared.bells.layout.clients().tenancy(client);
                let is_theirs = tenant.is_some_and(|key| key.generation() == call.lane_epoch);
                if is_theirs && let Some(word) = self.shared.bells.layout.cancel(to, client) {
                    word.ask(call.seq_id);
                }
            }
            Action::Abort => self.signal(place, Signal::ABORT),
            Action::Kill => {
                self.count(SupervisorCount::Kills, 1);
                self.signal(place, Signal::KILL);
            }
        }
    }

    /// How long a call may take.
    fn threshold(&mut self, lane: u16, seq_id: u64) -> Option<Duration> {
        let default = self.settings.hang.threshold;
        if self.settings.functions.iter().all(|function| function.threshold_ms == 0) {
            return default;
        }
        let mut called = self.lanes.function_in_hand(lane, seq_id);
        if called.is_none() {
            // A client that is new.
            self.lanes.refresh();
            called = self.lanes.function_in_hand(lane, seq_id);
        }
        let functions = &self.settings.functions;
        let of_its_own = called.and_then(|id| functions.iter().find(|it| it.func_id == id));
        match of_its_own {
            Some(function) if function.threshold_ms > 0 => {
                Some(Duration::from_millis(function.threshold_ms.into()))
            }
            _ => default,
        }
    }

    /// What is done now and then.
    fn round(&mut self) {
        self.member.beat();
        self.lanes.tidy();
        self.lanes.refresh();
        self.letters.sweep();
        // Ends that were claimed in the name of one who was being recovered.
        let mut known: Vec<OwnerId> = self.places.iter().filter_map(|place| place.worker).collect();
        known.push(self.shared.owner);
        for stranger in self.lanes.strangers(&known) {
            if let Ok(Verdict::Dead(dead)) = self.member.processes().convict(stranger) {
                self.put_away(dead, Cause::Unknown, 0);
            }
        }
        let mut clients: Vec<OwnerId> =
            self.shared.bells.layout.clients().owners().map(|(_, owner)| owner).collect();
        clients.sort_by_key(|owner| owner.word());
        clients.dedup();
        let workers: Vec<OwnerId> = self.places.iter().filter_map(|place| place.worker).collect();
        let watched: Vec<OwnerId> = self.watch.ids().collect();
        for id in watched {
            if !clients.contains(&id) && !workers.contains(&id) {
                self.watch.remove(id);
            }
        }
        for client in clients.into_iter().filter(|client| *client != self.shared.owner) {
            if let Err(error) = self.watch.add(client) {
                tracing::warn!(target: TARGET, service = %self.shared.service, %error, "a client");
            }
        }
    }

    /// Orders helpers, and lets them go.
    fn help(&mut self) {
        let table = self.shared.control.layout.workers();
        let queued = |place: u32| {
            let found = table.read(place).ok().flatten()?;
            table.live(found.key, WorkerEntry::QUEUED)
        };
        let workers: Vec<Worker> = self
            .places
            .iter()
            .zip(0..)
            .map(|(it, place)| match it.phase {
                _ if self.stopping.is_some() => Worker::Other,
                Phase::Up { .. } if !it.hang.is_suspect() => {
                    Worker::Up { queued: queued(place).unwrap_or(0) }
                }
                Phase::Failed => Worker::GivenUp,
                Phase::Waiting { .. } | Phase::Starting { .. } => Worker::Away,
                Phase::Up { .. } | Phase::Draining { .. } | Phase::Empty => Worker::Other,
            })
            .collect();
        let now: Vec<Option<u32>> = self.places.iter().map(|it| it.orders.helper).collect();
        let chosen = helpers::choose(self.shared.shape(), self.settings.strategy, &workers, &now);
        for (place, (before, after)) in now.into_iter().zip(chosen).enumerate() {
            if before == after {
                continue;
            }
            self.places[place].orders.helper = after;
            self.write(place);
            // Who has the lanes to let go of, and who may take them up.
            for other in before.into_iter().chain(after).chain([self.at(place)]) {
                self.lanes.ring_worker(other);
            }
        }
    }

    /// Orders a place's worker to go.
    fn drain(&mut self, place: usize, until: Instant) {
        let it = &mut self.places[place];
        it.phase = Phase::Draining { until };
        it.orders.order = Order::Drain;
        // Of one that is to be restarted the next is about to come: calls may wait for it.
        it.orders.condition = match self.stopping {
            Some(_) => Condition::Stopped,
            None => Condition::BackOff,
        };
        self.write(place);
        self.lanes.ring_worker(self.at(place));
    }

    fn command(
        &mut self,
        command: Command,
        control_word: &mut Control<'static>,
        bells_word: &mut Control<'static>,
    ) {
        match command {
            Command::Stop { within, done } => {
                let until = after(Instant::now(), within);
                if let Some(stopping) = &mut self.stopping {
                    stopping.until = stopping.until.min(until);
                    stopping.done.push(done);
                    return;
                }
                self.stopping = Some(Stopping { until, killed: false, done: vec![done] });
                self.shared.view.lock().is_stopping = true;
                if let Some(rolling) = self.rolling.take() {
                    let _ = rolling.done.send(Err(ServerError::Stopped));
                }
                control_word.close();
                bells_word.close();
                for place in 0..self.places.len() {
                    self.places[place].orders.helper = None;
                    if self.has_somebody(place) {
                        self.drain(place, until);
                    } else {
                        self.leave_empty(place);
                    }
                }
                self.lanes.ring_clients();
            }
            Command::Leave { done } => {
                self.leaves = true;
                // Answered when the thread is done.
                let until = Instant::now();
                self.stopping = Some(Stopping { until, killed: true, done: vec![done] });
            }
            Command::Roll { program, done } => {
                if self.stopping.is_some() || self.rolling.is_some() {
                    let what = "a rolling restart, or the end of the service, is under way";
                    let _ = done.send(Err(ServerError::Impossible { what, found: 0 }));
                    return;
                }
                let before =
                    program.map(|program| std::mem::replace(&mut self.settings.program, program));
                let todo = (0..self.shared.shape().workers()).collect();
                self.rolling = Some(Rolling { todo, now: None, before, done });
            }
            Command::Sweep => self.letters.sweep(),
        }
    }

    fn has_somebody(&self, place: usize) -> bool {
        let it = &self.places[place];
        it.running.is_some()
            || it.worker.is_some()
            || self.shared.control.layout.workers().owner(self.at(place)).is_some()
    }

    /// The next step of a rolling restart.
    fn roll(&mut self, now: Instant) {
        let Some(mut rolling) = self.rolling.take() else { return };
        loop {
            let Some((place, restarts)) = rolling.now else {
                let Some(next) = rolling.todo.pop_front() else {
                    let _ = rolling.done.send(Ok(()));
                    return;
                };
                let place = next as usize;
                self.places[place].history = History::default();
                rolling.now = Some((next, self.places[place].orders.restarts));
                if self.has_somebody(place) {
                    self.drain(place, after(now, self.settings.drain));
                } else {
                    self.start(place);
                }
                break;
            };
            let it = &self.places[place as usize];
            let has_died = it.orders.restarts != restarts;
            match it.phase {
                Phase::Up { .. } if !has_died => rolling.now = None,
                Phase::Failed | Phase::Waiting { .. } | Phase::Up { .. } => {
                    return self.roll_back(place, rolling);
                }
                Phase::Starting { .. } if has_died => return self.roll_back(place, rolling),
                Phase::Starting { .. } | Phase::Draining { .. } | Phase::Empty => break,
            }
        }
        self.rolling = Some(rolling);
    }

    /// The new worker has not come up. What was there before goes on.
    fn roll_back(&mut self, place: u32, rolling: Rolling) {
        let reason = self.shared.view.lock().reasons[place as usize].clone();
        let reason = reason.unwrap_or_else(|| {
            let cause = self.places[place as usize].orders.cause;
            format!("its worker {}", cause.map_or("died".into(), describe))
        });
        if let Some(before) = rolling.before {
            self.settings.program = before;
            let place = place as usize;
            self.places[place].history = History::default();
            if self.has_somebody(place) {
                // What is just starting is the new program.
                self.drain(place, Instant::now());
            } else {
                self.start(place);
            }
        }
        let _ = rolling.done.send(Err(ServerError::NotUp { place, reason }));
    }

    /// Kills what is left when the time to stop is over.
    fn kill_all(&mut self, now: Instant) {
        if let Some(stopping) = &mut self.stopping {
            stopping.killed = true;
            stopping.until = now + KILLED;
        }
        for place in 0..self.places.len() {
            if matches!(self.places[place].phase, Phase::Draining { .. }) {
                tracing::warn!(target: TARGET, service = %self.shared.service, place, "a worker is killed, for it does not end");
                self.signal(place, Signal::KILL);
            }
        }
        self.strays.iter().for_each(|stray| stray.signal(Signal::KILL));
    }

    /// Whether all workers have ended, or it is of no use to wait longer.
    fn is_stopped(&self) -> bool {
        let Some(stopping) = &self.stopping else { return false };
        // A worker that has left may take a moment until it has ended.
        let all = self.strays.is_empty()
            && self.places.iter().all(|it| it.phase == Phase::Empty && it.running.is_none());
        all || (stopping.killed && Instant::now() >= stopping.until)
    }

    /// When to look again.
    fn until(&self) -> Instant {
        let now = Instant::now();
        let mut until = self.next_round;
        let mut sooner = |at: Instant| until = until.min(at);
        for it in &self.places {
            match it.phase {
                Phase::Waiting { at } => sooner(at),
                Phase::Starting { since } if now.saturating_duration_since(since) < JUST => {
                    sooner(now + SOON);
                }
                Phase::Starting { .. } => sooner(now + LATER),
                Phase::Draining { until } => sooner(until.max(now + LATER)),
                Phase::Up { .. } if it.hang.is_suspect() => sooner(now + LATER),
                Phase::Up { .. } | Phase::Empty | Phase::Failed => {}
            }
        }
        if let Some(stopping) = &self.stopping {
            sooner(stopping.until);
        }
        until
    }

    /// Ends; who is to be told, and what. `None` if everything stays as it is.
    fn finish(mut self) -> Option<Vec<Told>> {
        let stopping = self.stopping.take();
        if self.leaves {
            // The processes are somebody else's, or nobody's: they are not waited for.
            let done = stopping.into_iter().flat_map(|stopping| stopping.done);
            done.for_each(|done| drop(done.send(Ok(()))));
            return None;
        }
        let left: Vec<u32> = (0..self.shared.shape().workers())
            .filter(|place| self.places[*place as usize].phase != Phase::Empty)
            .collect();
        let owners: Vec<OwnerId> =
            self.shared.bells.layout.clients().owners().map(|(_, owner)| owner).collect();
        for owner in owners {
            if let Ok(Verdict::Dead(dead)) = self.member.processes().convict(owner) {
                self.put_away(dead, Cause::Unknown, 0);
            }
        }
        self.lanes.ring_clients();
        adopt::sweep_orphans(&self.shared.domain, &self.shared.service, self.member);
        self.letters.end();
        let result = || match left.is_empty() {
            true => Ok(()),
            false => {
                Err(ServerError::TimedOut { what: "workers did not end", places: left.clone() })
            }
        };
        let done = stopping.into_iter().flat_map(|stopping| stopping.done);
        Some(done.map(|done| (done, result())).collect())
    }
}

/// So much later; or in a hundred years, where no clock goes that far.
fn after(now: Instant, time: Duration) -> Instant {
    const LONG: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    now.checked_add(time).unwrap_or(now + LONG)
}

fn describe(cause: Cause) -> String {
    match cause {
        Cause::Exited(code) => format!("exited with code {code}"),
        Cause::Signalled(signal) => format!("was ended by signal {signal}"),
        Cause::Panicked => "panicked".into(),
        Cause::Unknown => "died of what nobody has seen".into(),
    }
}
