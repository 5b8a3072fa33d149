//! A supervisor with real workers: this program, started once more. They and their clients are made of
//! the primitives, and do what they are told.

use super::*;
use crate::domain::Domain;
use crate::member::{JoinOptions, Member};
use crate::park::FutexPark;
use crate::service::failure::Failure;
use crate::service::mapped::{BellsMapped, ClientMapped, ControlMapped, MapError};
use crate::service::name::ServiceName;
use crate::service::role;
use crate::service::worker::assignment;
use rustix::process::{Pid, Signal, kill_process};
use shm_primitives::channel::{Client as ClientEnd, Worker as WorkerEnd};
use shm_primitives::layout::phoenix::GroupShape;
use shm_primitives::layout::service::{
    Cause, ClientEntry, Order, SupervisorCount, WorkerEntry, WorkerState,
};
use shm_primitives::message::{MsgStatus, SeqIds};
use shm_primitives::segment::Control;
use shm_primitives::sync::Ordering::Relaxed;
use shm_primitives::table::{Slot, SlotKey};
use std::collections::HashMap;
use std::process::{Child, Command as Process, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Longer than anything takes here, also if everything is stopped for minutes meanwhile.
const PATIENCE: Duration = Duration::from_secs(600);
/// The same in looks, a millisecond or more from one to the next. Not a time: whatever runs here may
/// be stopped for minutes.
const LOOKS: u32 = 60_000;
/// Tells a worker how to behave.
const MODE: &str = "SHM_TEST_MODE";
/// Tells a process that it is a server, and of which service.
const SERVER: &str = "SHM_TEST_SERVER";

// What can be called.
const ECHO: u32 = 1001;
const DIE: u32 = 1002;
const EXIT: u32 = 1003;
const SLEEP: u32 = 1004;
const PID: u32 = 1005;
const UNTIL_CANCELLED: u32 = 1006;

/// A domain of this test alone, which has to be empty in the end.
struct Place {
    domain: Domain,
}

impl Place {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("unit-server-{}-{count}", std::process::id());
        Self { domain: Domain::new(&name).unwrap() }
    }

    fn builder(&self) -> ServerBuilder {
        let group = GroupShape::new(2, 16);
        Server::builder("math")
            .in_domain(self.domain.clone())
            .groups(group, GroupShape { workers: 0, ..group })
            .clients(8)
            .worker(program("normal"))
    }

    fn files(&self) -> Vec<String> {
        let mut files: Vec<String> =
            self.domain.segments().unwrap().map(|name| name.unwrap().as_str().into()).collect();
        files.sort();
        files
    }

    fn control(&self) -> ControlMapped {
        let service = ServiceName::try_from("math").unwrap();
        ControlMapped::open(&self.domain, &service, |_, _| Ok::<_, MapError>(())).unwrap().0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in self.domain.segments().unwrap().flatten() {
                let _ = std::fs::remove_file(self.domain.path_of(&name));
            }
        }
    }
}

fn this_test(name: &str) -> Program {
    // Says nothing, and is the same process.
    Program::new("/bin/sh")
        .args(["-c", "exec \"$0\" \"$@\" >/dev/null"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("service::server::tests::{name}"), "--nocapture"])
}

fn program(mode: &str) -> Program {
    this_test("worker_process").env(MODE, mode)
}

fn until(what: &str, mut ready: impl FnMut() -> bool) {
    let mut looks = 0;
    while !ready() {
        looks += 1;
        assert!(looks < LOOKS, "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn kill(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
}

fn is_running(pid: u32) -> bool {
    // A zombie has ended.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'))
}

// ---- a worker

#[test]
fn worker_process() {
    let Some(mode) = std::env::var_os(MODE) else { return };
    let Some(of) = std::env::var_os(assignment::WORKER) else { return };
    let of = of.into_string().unwrap();
    let (place, incarnation) = of.split_once('.').unwrap();
    let (place, incarnation): (u32, u32) = (place.parse().unwrap(), incarnation.parse().unwrap());
    let mode = mode.into_string().unwrap();
    for rule in mode.split(',') {
        // exit:<code>, also for one place alone: exit:<code>@<place>
        if let Some(exit) = rule.strip_prefix("exit:") {
            let (code, at) = exit.split_once('@').unwrap_or((exit, of.split('.').next().unwrap()));
            if at.parse::<u32>().unwrap() == place {
                std::process::exit(code.parse().unwrap());
            }
        }
        if rule == "never" {
            thread::sleep(PATIENCE);
        }
    }
    std::process::exit(work(place, incarnation, &mode));
}

fn work(place: u32, incarnation: u32, mode: &str) -> i32 {
    let domain = Domain::new(&std::env::var(Domain::VARIABLE).unwrap()).unwrap();
    let domain = domain.in_directory(std::env::var_os(assignment::DIRECTORY).unwrap());
    let service = ServiceName::try_from(&*std::env::var(assignment::SERVICE).unwrap()).unwrap();
    let options = JoinOptions::new().role(role::WORKER);
    let member = Member::join_with(&domain, "worker", options).unwrap();
    if mode == "joins" {
        std::process::exit(4);
    }
    let Ok((control, slot)) = ControlMapped::open(&domain, &service, |_, control| {
        Ok::<_, MapError>(control.claim_worker(place, incarnation, member.id()))
    }) else {
        return 0;
    };
    let mut slot = match slot {
        Ok(slot) => slot,
        Err(error) => {
            eprintln!("{error}");
            return 0;
        }
    };
    slot.update(&WorkerEntry::new(incarnation, std::process::id(), 0));
    let (bells, ()) = BellsMapped::open(&domain, &service, |_, _| Ok::<_, MapError>(())).unwrap();
    let (control, bells) = (&control.layout, &bells.layout);
    let shape = *control.shape();
    let mut monitor = control.monitor(place).unwrap().writer();
    let mut clients: HashMap<SlotKey, ClientMapped> = HashMap::new();
    let mut lanes: HashMap<(u32, SlotKey), WorkerEnd<'static>> = HashMap::new();
    let park = FutexPark::new();
    bells.worker(place).unwrap().serve(place);
    loop {
        let orders = control.orders(place).unwrap().read().unwrap();
        if orders.order != Order::Run && mode != "deaf" || orders.incarnation != incarnation {
            lanes.clear();
            clients.clear();
            slot.release();
            // SAFETY: it holds nothing any more.
            unsafe { member.leave() }.unwrap();
            return 0;
        }
        for found in bells.clients().iter().flatten() {
            let (index, tenancy) = (found.key.index(), found.key.generation());
            if let std::collections::hash_map::Entry::Vacant(entry) = clients.entry(found.key)
                && let Ok((mapped, ())) =
                    ClientMapped::open(&domain, &service, index, tenancy, |_, _| {
                        Ok::<_, MapError>(())
                    })
            {
                entry.insert(mapped);
            }
        }
        let helped: Vec<u32> = (0..shape.workers())
            .filter(|other| control.orders(*other).unwrap().read().unwrap().helper == Some(place))
            .collect();
        lanes.retain(|(of, _), _| *of == place || helped.contains(of));
        clients.retain(|key, _| {
            let lives = bells.clients().tenancy(key.index()) == Some(*key)
                && bells.clients().owner(key.index()).is_some();
            lanes.retain(|(_, of), _| lives || of != key);
            lives
        });
        for of in helped.into_iter().chain([place]) {
            let _ = bells.worker(of).unwrap().keep(place);
            for (key, mapped) in &clients {
                let lane = shape.lane(of, key.index(), key.generation()).unwrap();
                let channel = mapped.layout.channel(shape.place(of).unwrap()).unwrap();
                let end = match lanes.entry((of, *key)) {
                    std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                    std::collections::hash_map::Entry::Vacant(entry) => {
                        let Ok(end) = channel.claim_worker(member.id(), lane) else { continue };
                        entry.insert(end)
                    }
                };
                while let Ok(request) = end.peek() {
                    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
                    let now = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64;
                    let mut work = request.begin(&mut monitor, now).unwrap();
                    let id = work.header().seq_id();
                    let cancelled = || bells.cancel(of, key.index()).unwrap().is_asked(id);
                    let reply = serve(work.header().func_id(), work.payload(), cancelled);
                    work.reply(MsgStatus::Completed, &reply).unwrap();
                    work.finish().unwrap();
                    bells.client(key.index()).unwrap().bell().shared_notifier().notify(&park);
                }
            }
        }
        slot.live(WorkerEntry::STATE).unwrap().store(WorkerState::Serving as u32, Relaxed);
        thread::sleep(Duration::from_micros(200));
    }
}

fn serve(function: u32, payload: &[u8], cancelled: impl Fn() -> bool) -> Vec<u8> {
    match function {
        DIE => kill(std::process::id(), Signal::KILL),
        EXIT => std::process::exit(payload[0].into()),
        SLEEP => thread::sleep(Duration::from_millis(
            u16::from_le_bytes(payload.try_into().unwrap()).into(),
        )),
        PID => return std::process::id().to_le_bytes().into(),
        UNTIL_CANCELLED => {
            while !cancelled() {
                thread::sleep(Duration::from_millis(1));
            }
        }
        _ => {}
    }
    payload.into()
}

// ---- a client

/// Its fields are dropped in their order.
struct TestClient {
    ends: Vec<ClientEnd<'static>>,
    _control: Control<'static>,
    slot: Slot<'static, ClientEntry, 1>,
    lanes: ClientMapped,
    bells: BellsMapped,
    member: Option<Member>,
    ids: SeqIds,
}

impl TestClient {
    fn connect(place: &Place) -> Self {
        let (domain, service) = (&place.domain, ServiceName::try_from("math").unwrap());
        let options = JoinOptions::new().role(role::CLIENT);
        let member = Member::join_with(domain, "client", options).unwrap();
        let shape = *place.control().layout.shape();
        let (bells, mut slot) = BellsMapped::open(domain, &service, |_, bells| {
            Ok::<_, MapError>(bells.reserve_client(member.id()).unwrap())
        })
        .unwrap();
        let key = slot.key();
        let (index, tenancy) = (key.index(), key.generation());
        let made =
            ClientMapped::create::<MapError>(domain, &service, &shape, index, tenancy, member.id());
        let (lanes, control) = made.unwrap();
        slot.update(&ClientEntry::new(std::process::id(), 0));
        let end = |place| {
            let channel = lanes.layout.channel(shape.place(place).unwrap()).unwrap();
            channel.claim_client(member.id()).unwrap()
        };
        let ends = (0..shape.workers()).map(end).collect();
        let ids = SeqIds::new(index, tenancy).unwrap();
        Self { ends, _control: control, slot, lanes, bells, member: Some(member), ids }
    }

    fn send(&mut self, place: u32, function: u32, payload: &[u8]) -> u64 {
        let id = self.ids.next().unwrap();
        self.ends[place as usize].request(id, function, payload).unwrap();
        let client = self.slot.key().index();
        let park = FutexPark::new();
        self.bells.layout.announcer(place, client).unwrap().announce(&park);
        id
    }

    fn receive(&mut self, place: u32, id: u64) -> Result<Vec<u8>, Failure> {
        let mut looks = 0;
        loop {
            if let Ok(response) = self.ends[place as usize].response() {
                assert_eq!(response.header().seq_id(), id);
                let found = match response.status() {
                    MsgStatus::Completed => Ok(response.to_vec()),
                    MsgStatus::Failed => Err(Failure::from_bytes(&response).unwrap()),
                    other => panic!("{other:?}"),
                };
                response.release();
                return found;
            }
            looks += 1;
            assert!(looks < 10 * LOOKS, "no reply");
            thread::sleep(Duration::from_micros(100));
        }
    }

    fn call(&mut self, place: u32, function: u32, payload: &[u8]) -> Result<Vec<u8>, Failure> {
        let id = self.send(place, function, payload);
        self.receive(place, id)
    }

    /// As a process that ends: the kernel takes its lock, and everything else stays.
    fn die(mut self) {
        let member = self.member.take();
        std::mem::forget(self);
        // SAFETY: what it holds is not touched any more.
        unsafe { member.unwrap().leave() }.unwrap();
    }

    fn leave(mut self) {
        let member = self.member.take().unwrap();
        self.ends.clear();
        self.lanes.segment.unlink_own(|_| Ok::<_, MapError>(true)).unwrap();
        drop(self);
        // SAFETY: it holds nothing.
        unsafe { member.leave() }.unwrap();
    }
}

fn crashed(cause: Cause) -> Result<Vec<u8>, Failure> {
    Err(Failure::Crashed { cause, attempt: 1 })
}

const KILLED: Cause = Cause::Signalled(9);

// ---- tests

#[test]
fn a_service_is_made_and_nothing_stays_of_it() {
    let place = Place::new();
    let server = place.builder().start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    assert_eq!(server.state(), ServiceState::Running);
    let workers = server.workers();
    assert_eq!(workers.len(), 2);
    for (worker, number) in workers.iter().zip(0..) {
        assert_eq!((worker.place, worker.incarnation, worker.restarts), (number, 1, 0));
        assert!(is_running(worker.pid.unwrap()));
    }
    assert_eq!(place.files(), ["bells.math", "members", "service.math"]);
    let mut client = TestClient::connect(&place);
    assert_eq!(client.call(0, ECHO, b"ping").unwrap(), b"ping");
    assert_eq!(client.call(1, ECHO, b"pong").unwrap(), b"pong");
    client.leave();
    server.stop(PATIENCE).unwrap();
    assert_eq!(server.state(), ServiceState::Stopped);
    assert!(matches!(server.stop(PATIENCE), Err(ServerError::Stopped)));
    for worker in workers {
        assert!(!is_running(worker.pid.unwrap()));
    }
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn a_death_is_an_error_of_one_call_and_the_queue_is_kept() {
    let place = Place::new();
    let server = place.builder().start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    let mut client = TestClient::connect(&place);
    let before = client.call(0, ECHO, b"before");
    assert_eq!(before.unwrap(), b"before");
    let poison = client.send(0, DIE, b"poison");
    let queued: Vec<u64> = (0..5u8).map(|n| client.send(0, ECHO, &[n])).collect();
    assert_eq!(client.receive(0, poison), crashed(KILLED));
    for (id, n) in queued.into_iter().zip(0..) {
        assert_eq!(client.receive(0, id).unwrap(), [n]);
    }
    server.wait_until_up(PATIENCE).unwrap();
    let worker = &server.workers()[0];
    assert_eq!((worker.restarts, worker.cause), (1, Some(KILLED)));
    assert_eq!(worker.incarnation, 2);
    let counts = place.control().layout.supervisor_counters().values();
    assert_eq!(counts[SupervisorCount::Crashes as usize], 1);
    assert_eq!(counts[SupervisorCount::Poisoned as usize], 1);

    // The letter says what it was, and keeps the segment until it is dropped.
    let letters = server.letters().unwrap();
    let [letter] = &*letters else { panic!("{letters:?}") };
    assert_eq!((letter.function, &*letter.payload), (DIE, &b"poison"[..]));
    assert_eq!((letter.cause, letter.worker, letter.seq_id), (Some(KILLED), 0, poison));
    assert_eq!(letter.client_pid, std::process::id());
    client.leave();
    server.stop(PATIENCE).unwrap();
    assert_eq!(place.files(), ["letters.math"]);
    let server = place.builder().start().unwrap();
    assert!(server.drop_letter(server.letters().unwrap()[0].key).unwrap());
    until("a letter goes", || server.letters().unwrap().is_empty());
    server.stop(PATIENCE).unwrap();
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn how_a_worker_ended_is_told() {
    let place = Place::new();
    let server = place.builder().start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    let mut client = TestClient::connect(&place);
    assert_eq!(client.call(1, EXIT, &[3]), crashed(Cause::Exited(3)));
    // One that had nothing in hand.
    kill(server.workers()[0].pid.unwrap(), Signal::TERM);
    until("a restart", || server.workers()[0].restarts == 1);
    assert_eq!(server.workers()[0].cause, Some(Cause::Signalled(15)));
    assert_eq!(client.call(0, ECHO, b"again").unwrap(), b"again");
    assert_eq!(server.letters().unwrap().len(), 1);
    let key = server.letters().unwrap()[0].key;
    server.drop_letter(key).unwrap();
    client.leave();
    drop(server);
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn a_name_is_one_server_s() {
    let place = Place::new();
    let server = place.builder().start().unwrap();
    let error = place.builder().start().unwrap_err();
    let ServerError::InUse { service, pid } = &error else { panic!("{error}") };
    assert_eq!((&**service, *pid), ("math", Some(std::process::id())));
    server.wait_until_up(PATIENCE).unwrap();
    server.stop(PATIENCE).unwrap();
    place.builder().start().unwrap().stop(PATIENCE).unwrap();
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn what_cannot_be_is_said_at_once() {
    let place = Place::new();
    let nothing = Server::builder("math").in_domain(place.domain.clone());
    assert!(matches!(nothing.start(), Err(ServerError::NoProgram)));
    for path in ["/nonexistent", "/etc/passwd"] {
        let error = place.builder().worker(path).start().unwrap_err();
        assert!(matches!(error, ServerError::Program { .. }), "{error}");
    }
    let impossible = [
        place.builder().reply_size(31),
        place.builder().clients(0),
        place.builder().function(1000, Function::new()),
        place.builder().function(1001, Function::new()).function(1001, Function::new()),
        place.builder().letters(0, 0),
    ];
    for builder in impossible {
        let error = builder.start().unwrap_err();
        assert!(matches!(error, ServerError::Impossible { .. }), "{error}");
    }
    assert!(matches!(Server::builder("").start(), Err(ServerError::Name(_))));
    assert_eq!(place.files(), [""; 0]);
}

fn quick() -> Restart {
    let ms = Duration::from_millis;
    Restart { intensity: 3, backoff: ms(1)..ms(5), ..Restart::default() }
}

#[test]
fn a_worker_that_cannot_live_is_given_up() {
    let place = Place::new();
    let server = place.builder().restart(quick()).worker(program("exit:3@1")).start().unwrap();
    until("place 1 fails", || server.workers()[1].condition == Condition::Failed);
    let error = server.wait_until_up(PATIENCE).unwrap_err();
    let ServerError::NotUp { place: 1, reason } = &error else { panic!("{error}") };
    assert!(reason.contains("exited with code 3"), "{reason}");
    let worker = &server.workers()[1];
    assert_eq!((worker.cause, worker.restarts, worker.incarnation), (Some(Cause::Exited(3)), 3, 4));
    until("place 0 serves", || server.state() == ServiceState::Degraded);
    // A place given up is helped out.
    until("place 1 is helped out", || server.workers()[1].helper == Some(0));
    let mut client = TestClient::connect(&place);
    assert_eq!(client.call(1, ECHO, b"help").unwrap(), b"help");
    client.leave();
    server.stop(PATIENCE).unwrap();
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn one_that_says_so_is_not_started_again() {
    let place = Place::new();
    let server = place.builder().worker(program("exit:78")).start().unwrap();
    until("both fail", || server.state() == ServiceState::Failed);
    for worker in server.workers() {
        assert_eq!((worker.incarnation, worker.restarts), (1, 0));
        assert!(worker.reason.unwrap().contains("78"));
    }
    // Something better may be tried.
    server.upgrade(program("normal")).unwrap();
    assert_eq!(server.state(), ServiceState::Running);
    server.stop(PATIENCE).unwrap();
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn one_that_dies_before_it_claims_its_place_leaves_no_record() {
    let place = Place::new();
    let server = place.builder().restart(quick()).worker(program("joins")).start().unwrap();
    until("both fail", || server.state() == ServiceState::Failed);
    let member = Member::join(&place.domain, "test").unwrap();
    until("records go", || member.processes().processes().count() == 2);
    // SAFETY: it holds nothing.
    unsafe { member.leave() }.unwrap();
    server.stop(PATIENCE).unwrap();
    assert_eq!(place.files(), [""; 0]);
}

fn impatient() -> Hang {
    let ms = Duration::from_millis;
    Hang {
        threshold: Some(ms(50)),
        confirm: ms(20),
        cancel: ms(0),
        abort: ms(50),
        kill: ms(50),
        boot: PATIENCE,
    }
}

#[test]
fn a_hanging_worker_is_asked_and_then_killed() {
    let place = Place::new();
    let server = place.builder().hang(impatient()).start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    let mut client = TestClient::connect(&place);
    // One that hears.
    assert_eq!(client.call(0, UNTIL_CANCELLED, b"ok").unwrap(), b"ok");
    assert_eq!(server.workers()[0].restarts, 0);
    // One that does not.
    let found = client.call(0, SLEEP, &60_000u16.to_le_bytes());
    assert!(found == crashed(Cause::Signalled(6)) || found == crashed(KILLED), "{found:?}");
    assert_eq!(client.call(0, ECHO, b"next").unwrap(), b"next");
    client.leave();
    let key = server.letters().unwrap()[0].key;
    server.drop_letter(key).unwrap();
    server.stop(PATIENCE).unwrap();
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn a_stopped_worker_is_suspect_and_lives() {
    let place = Place::new();
    let server = place.builder().hang(impatient()).start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    let mut client = TestClient::connect(&place);
    let pid = server.workers()[0].pid.unwrap();
    let call = client.send(0, UNTIL_CANCELLED, b"");
    let control = place.control();
    let monitor = control.layout.monitor(0).unwrap();
    until("it begins", || monitor.snapshot().is_ok_and(|it| it.is_processing()));
    kill(pid, Signal::STOP);
    until("it is suspect", || server.workers()[0].condition == Condition::Suspect);
    // Much longer than it would take to be killed.
    thread::sleep(Duration::from_millis(400));
    assert_eq!(server.workers()[0].condition, Condition::Suspect);
    // Then the time goes on: it is asked to end, and hears it.
    kill(pid, Signal::CONT);
    assert!(client.receive(0, call).is_ok());
    until("it serves", || server.workers()[0].condition == Condition::Up);
    assert_eq!(server.workers()[0].pid, Some(pid));
    client.leave();
    server.stop(PATIENCE).unwrap();
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn functions_have_thresholds_of_their_own() {
    let place = Place::new();
    let long = Function::new().threshold(PATIENCE);
    let server = place
        .builder()
        .hang(Hang { cancel: PATIENCE, ..impatient() })
        .function(SLEEP, long)
        .start()
        .unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    let entry = place.control().layout.function(SLEEP).unwrap();
    assert_eq!(entry.threshold_ms, 600_000);
    let mut client = TestClient::connect(&place);
    let call = client.send(0, SLEEP, &400u16.to_le_bytes());
    let other = client.send(1, UNTIL_CANCELLED, b"");
    until("the other is suspect", || server.workers()[1].condition == Condition::Suspect);
    assert_eq!(server.workers()[0].condition, Condition::Up);
    client.receive(0, call).unwrap();
    let key = client.slot.key().index();
    client.bells.layout.cancel(1, key).unwrap().ask(other);
    client.receive(1, other).unwrap();
    client.leave();
    server.stop(PATIENCE).unwrap();
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn one_that_never_serves_is_killed() {
    let place = Place::new();
    let hang = Hang { boot: Duration::from_millis(50), ..Hang::default() };
    let server =
        place.builder().restart(quick()).hang(hang).worker(program("never")).start().unwrap();
    until("both fail", || server.state() == ServiceState::Failed);
    assert_eq!(server.workers()[0].cause, Some(KILLED));
    server.stop(PATIENCE).unwrap();
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn a_stop_does_not_wait_for_ever() {
    let place = Place::new();
    let server = place.builder().start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    let mut client = TestClient::connect(&place);
    let call = client.send(0, SLEEP, &60_000u16.to_le_bytes());
    let control = place.control();
    let monitor = control.layout.monitor(0).unwrap();
    until("it begins", || monitor.snapshot().is_ok_and(|it| it.is_processing()));
    server.stop(Duration::from_millis(20)).unwrap();
    assert_eq!(client.receive(0, call), crashed(KILLED));
    client.leave();
    assert_eq!(place.files(), ["letters.math"]);
    let name = place.domain.segments().unwrap().next().unwrap().unwrap();
    std::fs::remove_file(place.domain.path_of(&name)).unwrap();
}

#[test]
fn a_dead_client_is_put_away() {
    let place = Place::new();
    let server = place.builder().start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    let mut client = TestClient::connect(&place);
    assert_eq!(client.call(0, ECHO, b"a").unwrap(), b"a");
    let (key, segment) =
        (client.slot.key(), format!("client.math.{}-1", client.slot.key().index()));
    assert!(place.files().contains(&segment));
    client.die();
    until("its segment goes", || !place.files().contains(&segment));
    let mut next = TestClient::connect(&place);
    assert_eq!((next.slot.key().index(), next.slot.key().generation()), (key.index(), 2));
    assert_eq!(next.call(0, ECHO, b"b").unwrap(), b"b");
    next.leave();
    server.stop(PATIENCE).unwrap();
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn a_restart_of_all_loses_no_call() {
    let place = Place::new();
    let server = place.builder().start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    let before: Vec<u32> = server.workers().iter().map(|it| it.pid.unwrap()).collect();
    let mut client = TestClient::connect(&place);
    thread::scope(|scope| {
        let restart = scope.spawn(|| server.rolling_restart());
        while !restart.is_finished() {
            for place in [0, 1] {
                assert_eq!(client.call(place, ECHO, b"x").unwrap(), b"x");
            }
        }
        restart.join().unwrap().unwrap();
    });
    let after: Vec<u32> = server.workers().iter().map(|it| it.pid.unwrap()).collect();
    assert!(before.iter().all(|pid| !after.contains(pid)));
    assert!(server.workers().iter().all(|it| it.restarts == 0 && it.incarnation == 2));
    assert_eq!(place.control().layout.supervisor_counters().values()[0], 0);
    client.leave();
    server.stop(PATIENCE).unwrap();
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn an_upgrade_that_fails_is_taken_back() {
    let place = Place::new();
    let server = place.builder().restart(quick()).start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    let second = server.workers()[1].pid;
    assert!(matches!(server.upgrade("/nonexistent"), Err(ServerError::Program { .. })));
    let error = server.upgrade(program("exit:3")).unwrap_err();
    assert!(matches!(error, ServerError::NotUp { place: 0, .. }), "{error}");
    server.wait_until_up(PATIENCE).unwrap();
    assert_eq!(server.workers()[1].pid, second, "it was not touched");
    let mut client = TestClient::connect(&place);
    assert_eq!(client.call(0, ECHO, b"old").unwrap(), b"old");
    client.leave();
    server.stop(PATIENCE).unwrap();
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn another_takes_over_until_there_is_one_again() {
    let place = Place::new();
    let restart = Restart {
        backoff: Duration::from_secs(600)..Duration::from_secs(600),
        ..Restart::default()
    };
    let server = place.builder().strategy(Strategy::TakeOver).restart(restart).start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    let mut client = TestClient::connect(&place);
    // The first death is followed by a restart at once, the second by a long wait.
    assert_eq!(client.call(0, DIE, b""), crashed(KILLED));
    until("it is there again", || server.workers()[0].restarts == 1);
    server.wait_until_up(PATIENCE).unwrap();
    let own = server.workers()[0].pid.unwrap();
    until("it gets its lanes back", || client.call(0, PID, b"").unwrap() == own.to_le_bytes());
    let poison = client.send(0, DIE, b"");
    let queued = client.send(0, PID, b"");
    assert_eq!(client.receive(0, poison), crashed(KILLED));
    let helper = server.workers()[1].pid.unwrap();
    assert_eq!(client.receive(0, queued).unwrap(), helper.to_le_bytes());
    assert_eq!(server.workers()[0].condition, Condition::BackOff);
    // Dies with what it has taken over: told, and there is nobody else.
    assert_eq!(client.call(0, DIE, b""), crashed(KILLED));
    let queued = client.send(0, ECHO, b"kept");
    server.wait_until_up(Duration::ZERO).unwrap_err();
    // Its own place is restarted, and helps again.
    assert_eq!(client.receive(0, queued).unwrap(), b"kept");
    // Back: the place's own worker serves.
    server.rolling_restart().unwrap();
    let own = server.workers()[0].pid.unwrap();
    until("it gets its lanes back", || client.call(0, PID, b"").unwrap() == own.to_le_bytes());
    assert_eq!(server.workers()[0].helper, None);
    assert_eq!(server.letters().unwrap().len(), 3);
    for letter in server.letters().unwrap() {
        server.drop_letter(letter.key).unwrap();
    }
    client.leave();
    server.stop(PATIENCE).unwrap();
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn normal_workers_serve_vip_lanes_while_there_is_no_other() {
    let place = Place::new();
    let group = GroupShape::new(1, 16);
    let builder = place.builder().groups(group, group).restart(quick());
    let server = builder.worker(program("exit:3@1")).start().unwrap();
    until("place 1 is helped out", || server.workers()[1].helper == Some(0));
    let mut client = TestClient::connect(&place);
    assert_eq!(client.call(1, ECHO, b"vip").unwrap(), b"vip");
    client.leave();
    server.stop(PATIENCE).unwrap();
    assert_eq!(place.files(), [""; 0]);
}

// ---- supervisors that die

/// A server in a process of its own.
struct Other(Child);

impl Other {
    fn start(place: &Place, how: &str) -> Self {
        let child = Process::new(std::env::current_exe().unwrap())
            .args(["--exact", "service::server::tests::server_process", "--nocapture"])
            .env(SERVER, place.domain.name())
            .env(MODE, how)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        until("the other serves", || {
            place.files().contains(&"service.math".into()) && {
                let control = place.control();
                let orders = |it| control.layout.orders(it).unwrap().read().unwrap_or_default();
                (0..2).all(|it| orders(it).condition == Condition::Up)
            }
        });
        Self(child)
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn server_process() {
    let Some(domain) = std::env::var_os(SERVER) else { return };
    let place = Place { domain: Domain::new(domain.to_str().unwrap()).unwrap() };
    let dies = std::env::var_os(MODE).is_some_and(|mode| mode == "dies");
    let _server = place.builder().die_with_server(dies).start().unwrap();
    thread::sleep(PATIENCE);
    std::process::exit(1);
}

fn pids(place: &Place) -> Vec<u32> {
    let control = place.control();
    let workers = control.layout.workers();
    (0..2).map(|it| workers.read(it).unwrap().map_or(0, |found| found.entry.pid)).collect()
}

#[test]
fn a_supervisor_s_death_stops_nobody_and_the_next_adopts() {
    let place = Place::new();
    let other = Other::start(&place, "lives");
    let before = pids(&place);
    let mut client = TestClient::connect(&place);
    other.kill();
    for worker in [0, 1] {
        assert_eq!(client.call(worker, ECHO, b"on").unwrap(), b"on");
    }
    // Dies meanwhile.
    let poison = client.send(1, DIE, b"");
    let queued = client.send(1, ECHO, b"kept");
    until("it is dead", || !is_running(before[1]));
    let mut shape = place.builder().messages(32).start();
    assert!(matches!(shape, Err(ServerError::Shape { .. })), "{shape:?}");
    let server = place.builder().start().unwrap();
    shape = place.builder().start();
    assert!(matches!(shape, Err(ServerError::InUse { .. })), "{shape:?}");
    assert_eq!(client.receive(1, poison), crashed(Cause::Unknown));
    assert_eq!(client.receive(1, queued).unwrap(), b"kept");
    server.wait_until_up(PATIENCE).unwrap();
    let workers = server.workers();
    assert_eq!((workers[0].pid, workers[0].incarnation), (Some(before[0]), 1));
    assert_eq!((workers[1].incarnation, workers[1].cause), (2, Some(Cause::Unknown)));
    // One that is not its child is watched as well.
    kill(before[0], Signal::KILL);
    until("it is replaced", || server.workers()[0].incarnation == 2);
    assert_eq!(server.workers()[0].cause, Some(Cause::Unknown));
    assert_eq!(client.call(0, ECHO, b"new").unwrap(), b"new");
    client.leave();
    for letter in server.letters().unwrap() {
        server.drop_letter(letter.key).unwrap();
    }
    server.stop(PATIENCE).unwrap();
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn adopted_workers_can_be_drained_and_killed() {
    let place = Place::new();
    Other::start(&place, "lives").kill();
    let before = pids(&place);
    let server = place.builder().start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    server.rolling_restart().unwrap();
    assert!(before.iter().all(|pid| !pids(&place).contains(pid)));
    server.leave().unwrap();
    // Left alone and adopted by the same process.
    let left = pids(&place);
    let server = place.builder().start().unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    assert_eq!(pids(&place), left);
    let mut client = TestClient::connect(&place);
    client.send(0, SLEEP, &60_000u16.to_le_bytes());
    let control = place.control();
    let monitor = control.layout.monitor(0).unwrap();
    until("it begins", || monitor.snapshot().is_ok_and(|it| it.is_processing()));
    client.die();
    server.stop(Duration::from_millis(20)).unwrap();
    assert!(left.iter().all(|pid| !is_running(*pid)));
    assert_eq!(place.files(), ["letters.math"]);
    let name = place.domain.segments().unwrap().next().unwrap().unwrap();
    std::fs::remove_file(place.domain.path_of(&name)).unwrap();
}

#[test]
fn workers_die_with_their_server_if_they_are_to() {
    let place = Place::new();
    let other = Other::start(&place, "dies");
    let workers = pids(&place);
    other.kill();
    until("they die", || workers.iter().all(|pid| !is_running(*pid)));
    // Nobody is left of it, so that it may be another now.
    let mut server = place.builder().messages(32).start();
    until("their memory goes", || {
        if let Err(error) = &server {
            assert!(matches!(error, ServerError::Shape { .. }), "{error}");
            server = place.builder().messages(32).start();
        }
        server.is_ok()
    });
    let server = server.unwrap();
    server.wait_until_up(PATIENCE).unwrap();
    assert_eq!(server.workers()[0].incarnation, 1);
    server.stop(PATIENCE).unwrap();
    assert_eq!(place.files(), [""; 0]);
}
