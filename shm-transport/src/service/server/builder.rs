//! Starting a service.

use super::Server;
use super::adopt::{self, Taken};
use super::error::ServerError;
use super::hang::Hang;
use super::letters::Letters;
use super::restart::Restart;
use super::shared::Shared;
use super::spawn::{Cores, Launch, Program, SignalMask};
use super::supervise::{self, Settings};
use crate::config::{Config, Loaded, Wait};
use crate::domain::Domain;
use crate::member::{self, JoinOptions, Member};
use crate::service::failure;
use crate::service::name::ServiceName;
use crate::service::role;
use crate::service::worker::assignment::Assignment;
use crate::service::worker::{self, HandlerError, Reply, Request, Worker, WorkerError};
use parking_lot::Mutex;
use shm_primitives::layout::letters::Shape as LettersShape;
use shm_primitives::layout::phoenix::GroupShape;
use shm_primitives::layout::service::{FunctionEntry, Shape};
use shm_primitives::message::MsgHeader;
use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Bytes of all dead letters, whose index is made at the first death, while its caller waits.
const MOST_LETTERS: usize = 256 << 20;

/// What is done with the lanes of a place while it has no worker.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Strategy {
    /// They wait for the next worker of the place. If the place has failed, another worker of its
    /// group serves them.
    #[default]
    Restart,
    /// Another worker of its group serves them until the place has one again.
    TakeOver,
}

/// A function of a service, as its server declares it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Function {
    idempotent: bool,
    threshold: Option<Duration>,
}

impl Function {
    /// One that must not be run twice, and may take as long as the service's
    /// [threshold](Hang::threshold) says.
    #[must_use]
    pub const fn new() -> Self {
        Self { idempotent: false, threshold: None }
    }

    /// The same, which does no harm if it is run twice: clients may try it again when its worker
    /// has died.
    #[must_use]
    pub const fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// The same, which may take so long before its worker is suspect. A begun millisecond counts.
    #[must_use]
    pub const fn threshold(mut self, threshold: Duration) -> Self {
        self.threshold = Some(threshold);
        self
    }

    fn entry(self, func_id: u32) -> FunctionEntry {
        let milliseconds = |time: Duration| time.as_nanos().div_ceil(1_000_000).max(1);
        let threshold = self.threshold.map(milliseconds);
        FunctionEntry {
            func_id,
            flags: if self.idempotent { FunctionEntry::IDEMPOTENT } else { 0 },
            threshold_ms: threshold.map_or(0, |time| u32::try_from(time).unwrap_or(u32::MAX)),
        }
    }
}

/// A service to be; see [`Server::builder`].
#[must_use = "nothing is started until `start`"]
pub struct ServerBuilder {
    name: String,
    domain: Option<Domain>,
    domain_name: Option<String>,
    program: Option<Workers>,
    shape: Shape,
    functions: Vec<(u32, Function)>,
    restart: Restart,
    strategy: Strategy,
    hang: Hang,
    letters: LettersShape,
    drain: Duration,
    die_with_server: bool,
    handlers: Vec<(u32, Register)>,
    wait: Wait,
    cores: Cores,
    trusted: bool,
    only_stops: bool,
}

/// Gives a worker one of its handlers.
type Register = Box<dyn FnOnce(Worker) -> Result<Worker, WorkerError>>;

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("name", &self.name)
            .field("program", &self.program)
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}

/// What the workers are.
#[derive(Clone, Debug)]
enum Workers {
    Program(Program),
    This,
}

impl ServerBuilder {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            domain: None,
            domain_name: None,
            program: None,
            shape: Shape::DEFAULT.spares(1),
            functions: Vec::new(),
            restart: Restart::default(),
            strategy: Strategy::default(),
            hang: Hang::default(),
            letters: LettersShape::DEFAULT,
            drain: Duration::from_secs(10),
            die_with_server: false,
            handlers: Vec::new(),
            wait: Wait::default(),
            cores: Cores::default(),
            trusted: false,
            only_stops: false,
        }
    }

    /// A service that nobody supervises, of that shape, taken over to be stopped: no worker is
    /// started.
    pub(in crate::service) fn to_stop(name: &str, domain: &Domain, shape: Shape) -> Self {
        let this = Self { shape, only_stops: true, ..Self::new(name) };
        this.in_domain(domain.clone()).worker("/proc/self/exe")
    }

    /// The domain of that name: only processes that say the same meet. Unless this or
    /// [`in_domain`](Self::in_domain) says so, it is what `SHM_DOMAIN` or the file that
    /// `SHM_CONFIG` names says, else `default`.
    pub fn domain(mut self, name: &str) -> Self {
        self.domain_name = Some(name.into());
        self
    }

    /// That domain, which may be a group's, or lie in another directory.
    pub fn in_domain(mut self, domain: Domain) -> Self {
        self.domain = Some(domain);
        self
    }

    /// The program that each worker runs. Of this and [`this_program`](Self::this_program) the last
    /// that is said counts.
    pub fn worker(mut self, program: impl Into<Program>) -> Self {
        self.program = Some(Workers::Program(program.into()));
        self
    }

    /// The workers run this same program, with the arguments it was started with: it is to come to
    /// the same [`start`](Self::start) again, which serves there and does not return. What stands
    /// before that in the program is done by each worker too.
    ///
    /// Name and domain have to be the same in each process: by them a worker knows that this is the
    /// service it was started for. With others it would be a server, whose workers are servers, and
    /// so on: such a start is refused ([`Endless`](ServerError::Endless)).
    pub fn this_program(mut self) -> Self {
        self.program = Some(Workers::This);
        self
    }

    /// What calls of function `id`, a number above 1000, run in the workers, if those are of
    /// [this program](Self::this_program).
    pub fn on<F>(mut self, id: u32, handler: F) -> Self
    where
        F: FnMut(&Request<'_>, Reply<'_>) -> Result<(), HandlerError> + 'static,
    {
        self.handlers.push((id, Box::new(move |worker| worker.on(id, handler))));
        self
    }

    /// How the workers wait for calls, if they are of [this program](Self::this_program). Other
    /// programs say it themselves: [`Worker::wait`].
    pub const fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// The workers trust the clients, if they are of [this program](Self::this_program).
    ///
    /// # Safety
    ///
    /// As [`Worker::trusted`].
    pub const unsafe fn trusted(mut self) -> Self {
        self.trusted = true;
        self
    }

    /// So many ordinary workers; 4 unless something else is said. There may be none of these, if
    /// there are [VIP workers](Self::vip_workers), which then serve all calls. Of both groups
    /// together, with their [spares](Self::spares), 1 to 16384.
    pub const fn workers(mut self, workers: u32) -> Self {
        self.shape.normal.workers = workers;
        self
    }

    /// The cores of the ordinary workers: the first one runs on the first of these and on no other,
    /// and so on, each with all its threads; also who is started there next. Workers for which
    /// there is none run wherever they may. A program can say it itself: [`Worker::pin_to`].
    pub fn pin_workers(mut self, cores: impl IntoIterator<Item = usize>) -> Self {
        self.cores.normal = cores.into_iter().collect();
        self
    }

    /// The same for VIP workers.
    pub fn pin_vip_workers(mut self, cores: impl IntoIterator<Item = usize>) -> Self {
        self.cores.vip = cores.into_iter().collect();
        self
    }

    /// So many workers for calls of high priority; 2 unless something else is said.
    pub const fn vip_workers(mut self, workers: u32) -> Self {
        self.shape.vip.workers = workers;
        self
    }

    /// How many places each group has beside those of its workers; 1 unless something else is said.
    /// When a worker is in an uninterruptible sleep and cannot even be killed, its place keeps it
    /// until it is dead, and its successor is started at such a place, if one is free. A spare place
    /// costs each client about 10 KiB of memory, and address room for a lane.
    pub const fn spares(mut self, spares: u32) -> Self {
        self.shape.spares = spares;
        self
    }

    /// How many calls each client's lane to an ordinary worker has room for, of
    /// [`message_size`](Self::message_size) each; 1024 unless something else is said, at least 1.
    /// More of smaller ones. A lane takes some twice the bytes of all its requests, and of all its
    /// largest replies.
    pub const fn messages(mut self, messages: u32) -> Self {
        self.shape.normal.messages = messages;
        self
    }

    /// The same for VIP workers; 256 unless something else is said.
    pub const fn vip_messages(mut self, messages: u32) -> Self {
        self.shape.vip.messages = messages;
        self
    }

    /// Bytes of a request's payload that lanes have room for so many of; 64 unless something else
    /// is said. Larger ones take the room of several.
    pub const fn message_size(mut self, bytes: u32) -> Self {
        self.shape.normal.message_size = bytes;
        self.shape.vip.message_size = bytes;
        self
    }

    /// The most bytes of a reply's payload, at least 32; 64 unless something else is said.
    pub const fn reply_size(mut self, bytes: u32) -> Self {
        self.shape.normal.reply_size = bytes;
        self.shape.vip.reply_size = bytes;
        self
    }

    /// The most bytes of a progress reply's payload; 4 unless something else is said.
    pub const fn progress_size(mut self, bytes: u32) -> Self {
        self.shape.normal.progress_size = bytes;
        self.shape.vip.progress_size = bytes;
        self
    }

    /// The workers of both groups and their lanes, whole.
    pub const fn groups(mut self, normal: GroupShape, vip: GroupShape) -> Self {
        (self.shape.normal, self.shape.vip) = (normal, vip);
        self
    }

    /// How many clients there may be at a time; 256 unless something else is said, at most 4096.
    /// Times all workers, with their spares, at most 65536.
    pub const fn clients(mut self, clients: u32) -> Self {
        self.shape.clients = clients;
        self
    }

    /// Declares a function, for what is to be known of it: that it may be run twice, or may take
    /// long. Others can be called as well. At most 64, from 1001 on: smaller numbers are the
    /// framework's own.
    pub fn function(mut self, id: u32, function: Function) -> Self {
        self.functions.push((id, function));
        self
    }

    /// When workers that died are started again.
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// What is done with the lanes of a place while it has no worker.
    pub const fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// What is done to workers that are at one call for too long.
    pub fn hang(mut self, hang: Hang) -> Self {
        self.hang = hang;
        self
    }

    /// For how many dead letters there is room, and for how many bytes of each; 64 of 4096 unless
    /// something else is said. At most 65536, of 256 MiB in all.
    pub const fn letters(mut self, letters: u32, bytes: u32) -> Self {
        self.letters = LettersShape::new(letters, bytes);
        self
    }

    /// How long a worker may take to finish what it has in hand, when it is restarted by
    /// [`rolling_restart`](Server::rolling_restart) or the server is dropped, before it is killed;
    /// 10 seconds unless something else is said.
    pub const fn drain(mut self, patience: Duration) -> Self {
        self.drain = patience;
        self
    }

    /// Whether the workers are killed when this process dies. Otherwise they serve on, and the next
    /// server of the name adopts them.
    pub const fn die_with_server(mut self, die: bool) -> Self {
        self.die_with_server = die;
        self
    }

    /// Makes the service, or adopts it if its supervisor is dead or has [left](Server::leave), and
    /// starts a thread that starts the workers and looks after them. Does not wait for the workers:
    /// see [`Server::wait_until_up`]. Waits up to 5 seconds for a supervisor that is just dying.
    ///
    /// An adopted service goes on with the workers that live. What it is declared to be (functions,
    /// restarts, program) is as said here; but its places and lanes are what they were.
    ///
    /// # Errors
    ///
    /// See [`ServerError`]; nothing is left behind then, and an adopted service is as it was.
    pub fn start(self) -> Result<Server, ServerError> {
        let service = ServiceName::try_from(&*self.name)?;
        let domain = self.to_domain()?;
        self.check()?;
        if let Some(Workers::This) = self.program
            && Worker::is_started()
        {
            match Assignment::from_environment() {
                // A worker of another service may be a server of this one; but if it came to that
                // as this program, so do the workers of this one, and theirs.
                Ok(it) if (it.service, &it.domain) != (service, &domain) => {
                    if Program::is_worker_of_itself() {
                        return Err(ServerError::Endless {
                            service: self.name,
                            of: it.service.to_string(),
                            place: it.place,
                        });
                    }
                }
                assigned => self.serve(assigned),
            }
        }
        let program = match &self.program {
            Some(Workers::Program(program)) => program.clone(),
            Some(Workers::This) => Program::this()
                .map_err(|source| ServerError::Program { path: "/proc/self/exe".into(), source })?,
            None => return Err(ServerError::NoProgram),
        };
        program.check()?;
        self.cores.check()?;
        // Before anything is taken that would have to be given back.
        let news = Shared::news_fd().map_err(ServerError::Thread)?;
        let epoll = supervise::epoll(&news).map_err(ServerError::Thread)?;
        let options = JoinOptions::new().role(role::SUPERVISOR);
        let member = Member::join_with(&domain, member::cut(&self.name), options)?;
        let functions: Vec<FunctionEntry> =
            self.functions.iter().map(|(id, function)| function.entry(*id)).collect();
        let taken = adopt::take(&domain, &service, &self.shape, &functions, &member);
        let started = taken.and_then(|taken| {
            // Bindings are dropped in reverse: the words are given back before the memory is.
            let Taken { control, bells, control_word, bells_word, adopted, former } = taken;
            let letters = match Letters::start(&domain, &service, self.letters, &member) {
                Ok(letters) => letters,
                Err(error) => {
                    if !adopted {
                        // Nobody has heard of it.
                        adopt::unlink(&control, &bells);
                    }
                    return Err(error);
                }
            };
            let owner = member.id();
            let shared = Shared::new(service, domain.clone(), control, bells, owner, news);
            Ok((Arc::new(shared), control_word, bells_word, letters, adopted, former))
        });
        let (shared, control_word, bells_word, letters, adopted, former) = match started {
            Ok(started) => started,
            Err(error) => {
                // SAFETY: it holds nothing: everything that was taken was given back.
                let _ = unsafe { member.leave() };
                return Err(error);
            }
        };
        let launch = Launch {
            service,
            domain,
            die_with_server: self.die_with_server,
            mask: SignalMask::current(),
            shape: self.shape,
            cores: self.cores,
        };
        let (begun, has_begun) = std::sync::mpsc::channel();
        let settings = Settings {
            launch,
            program,
            restart: self.restart,
            strategy: self.strategy,
            hang: self.hang,
            functions,
            drain: self.drain,
            only_stops: self.only_stops,
            begun,
        };
        let spawned = crate::event::without_signals(|| {
            thread::Builder::new().name("shm-server".into()).spawn({
                let shared = Arc::clone(&shared);
                move || {
                    let words = (control_word, bells_word);
                    supervise::run(
                        &shared,
                        settings,
                        member,
                        words,
                        letters,
                        epoll,
                        (adopted, former),
                    );
                }
            })
        });
        match spawned {
            Ok(thread) => {
                // Until then the orders are those of a former supervisor, and say what was.
                let _ = has_begun.recv();
                Ok(Server { shared, thread: Mutex::new(Some(thread)), drain: self.drain })
            }
            // What the closure had is dropped: control words are given back, the record stays.
            Err(error) => {
                shared.end();
                if !adopted {
                    adopt::unlink(&shared.control, &shared.bells);
                }
                Err(ServerError::Thread(error))
            }
        }
    }

    /// Serves, as one of the workers.
    fn serve(self, assigned: Result<Assignment, WorkerError>) -> ! {
        let served = assigned.and_then(|assignment| {
            let mut worker = Worker::attach(assignment)?.wait(self.wait);
            if self.trusted {
                // SAFETY: passed on, by `ServerBuilder::trusted`.
                worker = unsafe { worker.trusted() };
            }
            let mut handlers = self.handlers.into_iter();
            handlers.try_fold(worker, |worker, (_, register)| register(worker))?.run()
        });
        let code = worker::conclude(served.map_err(Into::into));
        std::process::exit(code.into())
    }

    fn to_domain(&self) -> Result<Domain, ServerError> {
        if let Some(domain) = &self.domain {
            let mut domain = domain.clone();
            if let Ok(directory) = std::path::absolute(domain.directory()) {
                // For workers, which may go elsewhere.
                domain = domain.in_directory(directory);
            }
            return Ok(domain);
        }
        let mut config: Config = Loaded::read()?.config;
        if let Some(name) = &self.domain_name {
            config.domain.clone_from(name);
        }
        Ok(config.to_domain()?)
    }

    fn check(&self) -> Result<(), ServerError> {
        let impossible =
            |what, found: u32| Err(ServerError::Impossible { what, found: found.into() });
        let shape = &self.shape;
        const { assert!(Shape::MAX_WORKERS == 16384 && Shape::MAX_CLIENTS == 4096) };
        const { assert!(Shape::MAX_LANES == 65536) };
        let (places, clients) = (shape.workers(), shape.clients);
        if !(1..=Shape::MAX_WORKERS).contains(&places) {
            return impossible("workers of both groups, with their spares, are 1 to 16384", places);
        }
        if !(1..=Shape::MAX_CLIENTS).contains(&clients) {
            return impossible("clients are 1 to 4096", clients);
        }
        // Fewer than 2^26.
        if places * clients > Shape::MAX_LANES {
            let what = "clients times workers, with their spares, are at most 65536";
            return impossible(what, places * clients);
        }
        for group in [shape.normal, shape.vip].iter().filter(|group| group.workers > 0) {
            if group.messages == 0 {
                return impossible("a lane has room for at least 1 of `messages`", 0);
            }
            if (group.reply_size as usize) < failure::LEAST {
                return impossible("a reply has at least 32 bytes", group.reply_size);
            }
        }
        if shape.check().is_err() {
            let what = "a lane's requests take at most 1 GiB, as do its replies, and all lanes of a \
                        client what there are addresses for: fewer `messages`, or smaller ones";
            return impossible(what, shape.normal.messages.max(shape.vip.messages));
        }
        let mut seen = std::collections::HashSet::new();
        for (id, _) in &self.functions {
            if MsgHeader::RESERVED_FUNCTIONS.contains(id) {
                return impossible("functions are numbered from 1001 on", *id);
            }
            if !seen.insert(id) {
                return impossible("a function is declared once", *id);
            }
        }
        let mut seen = std::collections::HashSet::new();
        for (id, _) in &self.handlers {
            if MsgHeader::RESERVED_FUNCTIONS.contains(id) {
                return impossible("functions are numbered from 1001 on", *id);
            }
            if !seen.insert(id) {
                return impossible("a function has one handler", *id);
            }
        }
        if !self.handlers.is_empty() && !matches!(self.program, Some(Workers::This)) {
            return impossible(
                "handlers are for workers of this program; other programs have their own",
                u32::try_from(self.handlers.len()).unwrap_or(u32::MAX),
            );
        }
        if self.functions.len() > shape.functions as usize {
            return impossible(
                "at most 64 functions are declared",
                u32::try_from(self.functions.len()).unwrap_or(u32::MAX),
            );
        }
        let letters = self.letters.required_size();
        if letters.is_none_or(|bytes| bytes > MOST_LETTERS) || self.letters.letters > 65536 {
            let what = "dead letters are 1 to 65536, of at most 256 MiB in all";
            return impossible(what, self.letters.letters);
        }
        Ok(())
    }
}
