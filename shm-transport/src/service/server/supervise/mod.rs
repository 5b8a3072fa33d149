//! The thread that starts workers and looks after them.
//!
//! It sleeps until a worker's pidfd, another's fallen lock, a command or the time wakes it; then it
//! looks at everything, one place after the other. It is the only one that writes orders, and what it
//! says there is all that others know: a successor begins with them.
//!
//! | what it does | where | what that is decided or done by |
//! |---|---|---|
//! | begins, with what a former supervisor left | [`adoption`] | [`adopt`] |
//! | starts a worker, waits until it serves, ends it | [`places`] | [`spawn`](super::spawn) |
//! | for a worker or client that died | [`deaths`] | [`recover`](super::recover), [`restart`](super::restart) |
//! | to a worker that is at one call for long | [`hangs`] | [`hang`](super::hang) |
//! | for one that does not die when it is killed | [`stuck`] | |
//! | has others help out | [`help`] | [`helpers`](super::helpers) |
//! | restarts all, with another program | [`rolling`] | |
//! | looks for clients, and for what was left behind | [`rounds`] | [`recover`](super::recover) |
//! | ends the service | [`stopping`] | |

mod adoption;
mod deaths;
mod hangs;
mod help;
mod places;
mod rolling;
mod rounds;
mod stopping;
mod stuck;

use super::adopt;
use super::builder::Strategy;
use super::hang::Hang;
use super::letters::Letters;
use super::recover::{Lanes, TARGET};
use super::restart::{Pool, Restart};
use super::shared::{Command, Shared};
use super::spawn::{Launch, Program, Running};
use crate::liveness::DeathWatch;
use crate::member::Member;
use places::{Phase, Place};
use rolling::Rolling;
use rustix::event::{Timespec, epoll};
use shm_primitives::counter::CounterWriter;
use shm_primitives::identity::OwnerId;
use shm_primitives::layout::service::{FunctionEntry, SupervisorCount};
use shm_primitives::segment::Control;
use std::hash::RandomState;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};
use stopping::Stopping;

/// How often to look when nothing is expected.
const ROUND: Duration = Duration::from_millis(100);
/// How often to look whether a worker that was just started serves.
const SOON: Duration = Duration::from_micros(500);
/// And when it has been on its way for longer.
const LATER: Duration = Duration::from_millis(5);
/// Until when it was just started.
const JUST: Duration = Duration::from_millis(200);
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
    /// Whether it is taken over to be stopped.
    pub only_stops: bool,
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
    /// Who had places of clients and was nobody, at the last round.
    nobodys: Vec<OwnerId>,
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
        let place = |place| Some(Place::new(control.orders_writer(place, &control_word)?));
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
            nobodys: Vec::new(),
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
        let epoll = self.epoll;
        self.strays.retain_mut(|stray| {
            let has_ended = stray.ended(Duration::ZERO).is_some();
            if has_ended {
                deaths::no_more(epoll, stray);
            }
            !has_ended
        });
    }

    fn at(&self, place: usize) -> u32 {
        // Fewer than 2^14.
        place as u32
    }

    fn count(&mut self, what: SupervisorCount, n: u64) {
        if n > 0 {
            self.counts[what as usize].add(n);
        }
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

    fn command(
        &mut self,
        command: Command,
        control_word: &mut Control<'static>,
        bells_word: &mut Control<'static>,
    ) {
        match command {
            Command::Stop { within, done } => self.stop(within, done, control_word, bells_word),
            Command::Leave { done } => {
                self.leaves = true;
                // Answered when the thread is done.
                let until = Instant::now();
                self.stopping = Some(Stopping { until, killed: true, done: vec![done] });
            }
            Command::Roll { program, done } => self.begin_to_roll(program, done),
            Command::Sweep => self.letters.sweep(),
        }
    }

    /// When to look again.
    fn until(&self) -> Instant {
        let now = Instant::now();
        let mut until = self.next_round;
        let mut sooner = |at: Instant| until = until.min(at);
        for it in &self.places {
            if let Some(killed) = it.killed {
                sooner(after(killed, self.settings.hang.stuck).max(now + LATER));
            }
            match it.phase {
                Phase::Waiting { at } => sooner(at),
                Phase::Starting { since } if now.saturating_duration_since(since) < JUST => {
                    sooner(now + SOON);
                }
                Phase::Starting { .. } => sooner(now + LATER),
                Phase::Draining { until } => sooner(until.max(now + LATER)),
                Phase::Up { .. } if it.hang.is_suspect() => sooner(now + LATER),
                Phase::Up { .. } | Phase::Empty | Phase::Failed | Phase::Stuck | Phase::Spare => {}
            }
        }
        if let Some(stopping) = &self.stopping {
            sooner(stopping.until);
        }
        until
    }
}

/// So much later; or in a hundred years, where no clock goes that far.
fn after(now: Instant, time: Duration) -> Instant {
    const LONG: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    now.checked_add(time).unwrap_or(now + LONG)
}
