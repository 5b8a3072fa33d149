//! Workers that are processes, and die.

#[cfg(crash_points)]
use super::super::super::bare::BareClient;
use super::super::super::bare::{Bare, soon};
use super::super::super::failure::Failure;
use super::{ECHO, SHAPE, failure};
use crate::service::worker::{Reply, Request, Worker, WorkerError};
use rustix::process::{Pid, Signal, getpid, kill_process};
use shm_primitives::message::MsgStatus;
use std::collections::HashMap;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, exit};
use std::thread;
use std::time::Duration;

/// Where a worker of these tests notes each call that it begins: 8 bytes, its sequence id.
const NOTES: &str = "WORKER_NOTES";
/// At which step it dies; only where there are crash points.
const STEP: &str = "WORKER_STEP";
/// Ends whatever has lost its test.
const SECONDS: u32 = 100;

const KILL: u32 = 1002;
const EXIT: u32 = 1003;
const ABORT: u32 = 1004;
const FORK: u32 = 1005;
const CHILD: u32 = 1006;

/// A worker process, which is killed with its test.
struct Process(Child);

impl Process {
    fn start(bare: &Bare, place: u32, incarnation: u32, step: Option<u32>) -> Self {
        bare.run(place, incarnation);
        let mut command = Command::new(std::env::current_exe().unwrap());
        let test = concat!(module_path!(), "::role");
        // Without the crate.
        command.args([test.split_once("::").unwrap().1, "--exact", "--nocapture"]);
        command.args(["--test-threads=1", "-q"]).stdout(std::process::Stdio::null());
        command.envs(bare.assignment(place, incarnation).variables());
        command.env(NOTES, notes(bare));
        if let Some(step) = step {
            command.env(STEP, step.to_string());
        }
        Self(command.spawn().unwrap())
    }

    fn serving(bare: &Bare, place: u32, incarnation: u32) -> Self {
        let process = Self::start(bare, place, incarnation, None);
        bare.wait_serving(place, incarnation);
        process
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    }

    fn end(mut self) -> ExitStatus {
        self.0.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn notes(bare: &Bare) -> PathBuf {
    bare.place.directory.join("notes")
}

/// How often each call was begun.
fn begun(bare: &Bare) -> HashMap<u64, u32> {
    let bytes = std::fs::read(notes(bare)).unwrap_or_default();
    let mut begun = HashMap::new();
    for id in bytes.chunks(8) {
        *begun.entry(u64::from_le_bytes(id.try_into().unwrap())).or_default() += 1;
    }
    begun
}

fn die() -> ! {
    let _ = kill_process(getpid(), Signal::KILL);
    loop {
        thread::park();
    }
}

/// Not a test, but what the tests start.
#[test]
fn role() {
    let Some(path) = std::env::var_os(NOTES) else { return };
    // SAFETY: a system call without memory.
    unsafe { libc::alarm(SECONDS) };
    let step = std::env::var(STEP).ok().map(|step| step.parse::<u32>().unwrap());
    let ended = match step {
        None => work(path.into()),
        #[cfg(crash_points)]
        Some(step) => shm_primitives::sync::crash::run_until(step, die, || work(path.into())).0,
        #[cfg(not(crash_points))]
        Some(_) => unreachable!("there are no steps"),
    };
    match ended {
        Ok(()) => exit(0),
        // SAFETY: ends the process at once; it is a copy of one.
        Err(WorkerError::Forked) => unsafe { libc::_exit(42) },
        Err(error) => exit(error.exit_code().into()),
    }
}

fn work(notes: PathBuf) -> Result<(), WorkerError> {
    let note = move |request: &Request<'_>| {
        let mut file = std::fs::File::options().create(true).append(true).open(&notes).unwrap();
        file.write_all(&request.sequence_id().to_le_bytes()).unwrap();
    };
    let noted = |run: fn(&Request<'_>, Reply<'_>) -> Result<(), super::HandlerError>| {
        let note = note.clone();
        move |request: &Request<'_>, reply: Reply<'_>| {
            note(request);
            run(request, reply)
        }
    };
    Worker::attach_from_env()?
        .on(ECHO, noted(|request, reply| reply.send(request.payload())))?
        .on(KILL, noted(|_, _| die()))?
        .on(EXIT, noted(|_, _| exit(3)))?
        .on(ABORT, noted(|_, _| std::process::abort()))?
        .on(FORK, |_: &Request, reply: Reply| {
            // SAFETY: the child touches nothing of the memory and ends.
            match unsafe { libc::fork() } {
                0 => Ok(()),
                child => {
                    let mut status = 0;
                    // SAFETY: a child of ours, and a word for its status.
                    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
                    reply.send(&libc::WEXITSTATUS(status).to_le_bytes())
                }
            }
        })?
        .on(CHILD, |_: &Request, reply: Reply| {
            reply.send(&getpid().as_raw_nonzero().get().to_le_bytes())
        })?
        .run()
}

/// A call kills its worker: it is told of and never run again, and the others are served by the
/// next one.
#[test]
fn the_call_in_hand_is_poison_and_the_others_are_served() {
    for (func, wanted) in [(KILL, "9"), (EXIT, "3"), (ABORT, "6")] {
        let bare = Bare::new(SHAPE);
        let process = Process::serving(&bare, 0, 1);
        let owner = bare.control.layout.workers().owner(0).unwrap();
        let mut client = bare.client();
        assert_eq!(client.call(0, ECHO, b"before").1, b"before");
        let poison = client.publish(0, func, b"").unwrap();
        let next = client.publish(0, ECHO, b"after").unwrap();
        client.announce(0);
        let status = process.end();
        let found = status.signal().or(status.code()).unwrap().to_string();
        assert_eq!(found, wanted);
        let dead = bare.convict(owner);
        let mut clients = [client];
        assert_eq!(bare.recover(0, dead, &mut clients), Some(poison));
        let [mut client] = clients;
        let second = Process::serving(&bare, 0, 2);
        let (id, status, payload) = client.receive(0);
        assert_eq!(id, poison);
        assert!(matches!(failure((status, payload)), Failure::Crashed { .. }));
        assert_eq!(client.receive(0), (next, MsgStatus::Completed, b"after".to_vec()));
        assert!(begun(&bare).values().all(|times| *times == 1), "{:?}", begun(&bare));
        bare.drain(0);
        assert!(second.end().success());
        client.leave();
    }
}

/// One that is stopped for long, and goes on: nothing has happened.
#[test]
fn a_worker_that_is_stopped_goes_on() {
    let bare = Bare::new(SHAPE);
    let process = Process::serving(&bare, 1, 1);
    let mut client = bare.client();
    assert_eq!(client.call(1, ECHO, b"before").1, b"before");
    process.signal(Signal::STOP);
    // The signal is on its way until then.
    soon("it is stopped", || process.is_stopped());
    let ids: Vec<u64> = (0..10u8).map(|number| client.send(1, ECHO, &[number])).collect();
    assert_eq!(client.receive_within(1, Duration::from_millis(250)), None);
    process.signal(Signal::CONT);
    for (number, id) in ids.into_iter().enumerate() {
        assert_eq!(client.receive(1), (id, MsgStatus::Completed, vec![number as u8]));
    }
    bare.drain(1);
    assert!(process.end().success());
}

/// Its supervisor dies, and that changes nothing.
#[test]
fn a_worker_outlives_its_supervisor() {
    let bare = Bare::new(SHAPE);
    let process = Process::serving(&bare, 0, 1);
    let mut client = bare.client();
    assert_eq!(client.call(0, ECHO, b"before").1, b"before");
    let before = bare.live(0, shm_primitives::layout::service::WorkerEntry::BEAT);
    // A supervisor by hand does nothing; what it would do is not missed.
    soon("it beats", || bare.live(0, shm_primitives::layout::service::WorkerEntry::BEAT) != before);
    assert_eq!(client.call(0, ECHO, b"after").1, b"after");
    bare.drain(0);
    assert!(process.end().success());
}

#[test]
fn a_forked_child_touches_nothing() {
    let bare = Bare::new(SHAPE);
    let process = Process::serving(&bare, 0, 1);
    let mut client = bare.client();
    let pid = client.call(0, CHILD, b"");
    for _ in 0..3 {
        assert_eq!(client.call(0, FORK, b""), (MsgStatus::Completed, 42i32.to_le_bytes().into()));
        assert_eq!(client.call(0, CHILD, b""), pid, "the worker itself goes on");
    }
    assert_eq!(bare.serving(0).unwrap().pid, process.0.id());
    bare.drain(0);
    assert!(process.end().success());
}

/// A worker dies at each of its steps, from the first store to the last: every call is answered
/// once, and none begun twice.
#[cfg(crash_points)]
#[test]
fn at_each_step() {
    let only = std::env::var("SHM_CRASH_STEP").ok().map(|step| step.parse::<u32>().unwrap());
    let mut step = only.unwrap_or(0);
    let mut poisoned = 0;
    loop {
        let (ended, poison) = at_step(step);
        poisoned += u32::from(poison);
        if ended || only.is_some() {
            break;
        }
        step += 1;
    }
    println!("{step} steps, {poisoned} calls in hand");
    assert!(only.is_some() || (step > 50 && poisoned > 3), "{step}, {poisoned}");
}

/// Whether it survived that many steps; whether a call was in its hands when it died.
#[cfg(crash_points)]
fn at_step(step: u32) -> (bool, bool) {
    let bare = Bare::new(SHAPE);
    let mut client = bare.client();
    let mut other = bare.client();
    // Before there is a worker, and while there is.
    let mut ids = vec![client.send(0, ECHO, b"1"), client.send(0, ECHO, b"2")];
    let mut process = Process::start(&bare, 0, 1, Some(step));
    let mut answers = HashMap::new();
    let mut owner = None;
    let mut drained = false;
    let mut take = |client: &mut BareClient, time| {
        while let Some((id, status, payload)) = client.receive_within(0, time) {
            assert!(answers.insert(id, (status, payload)).is_none(), "{id} was answered twice");
        }
        answers.len()
    };
    let mut asked = false;
    let status = loop {
        owner = bare.control.layout.workers().owner(0).or(owner);
        let answered = take(&mut client, Duration::ZERO) + take(&mut other, Duration::ZERO);
        if !asked && answered >= 1 {
            asked = true;
            ids.push(other.send(0, ECHO, b"3"));
        }
        if !drained && asked && take(&mut other, Duration::ZERO) >= 3 {
            drained = true;
            bare.drain(0);
        }
        if let Some(status) = process.0.try_wait().unwrap() {
            break status;
        }
        thread::sleep(Duration::from_micros(200));
    };
    let survived = status.success();
    assert!(survived || status.signal() == Some(9), "step {step}: {status}");
    // Whoever it was in the table of members.
    let members: Vec<_> = bare.member.processes().processes().map(Result::unwrap).collect();
    let victim = members.iter().find(|member| member.identity.pid == process.0.id());
    owner = bare.control.layout.workers().owner(0).or(owner).or(victim.map(|member| member.id));
    let mut clients = [client, other];
    let mut poison = None;
    if let Some(owner) = owner.filter(|_| !survived) {
        let dead = bare.convict(owner);
        poison = bare.recover(0, dead, &mut clients);
    }
    let [mut client, mut other] = clients;
    if !asked {
        ids.push(other.send(0, ECHO, b"3"));
    }
    let next = Process::serving(&bare, 0, 2);
    soon("each call is answered", || {
        take(&mut client, Duration::ZERO);
        take(&mut other, Duration::ZERO) == 3
    });
    for id in &ids {
        let (status, payload) = answers.remove(id).unwrap();
        if Some(*id) == poison {
            assert!(matches!(failure((status, payload)), Failure::Crashed { .. }));
        } else {
            assert_eq!(status, MsgStatus::Completed, "step {step}");
        }
    }
    let begun = begun(&bare);
    assert!(begun.values().all(|times| *times == 1), "step {step}: {begun:?}");
    bare.drain(0);
    assert!(next.end().success());
    client.leave();
    other.leave();
    (survived, poison.is_some())
}
