//! A supervisor with real workers: this program, started once more. They and their clients are made of
//! the primitives, and do what they are told.

mod adoption;
mod client;
mod deaths;
mod hangs;
mod help;
mod rolling;
mod service;
#[path = "../../../../tests/service/stick.rs"]
mod stick;
mod stuck;
mod worker;

use super::*;
use crate::domain::Domain;
use crate::service::failure::Failure;
use crate::service::mapped::{ControlMapped, MapError};
use crate::service::name::ServiceName;
use client::TestClient;
use rustix::process::{Pid, Signal, kill_process};
use shm_primitives::layout::phoenix::GroupShape;
use shm_primitives::layout::service::Cause;
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
/// Stops its process first.
const STOP_UNTIL_CANCELLED: u32 = 1007;
/// Writes the number of who keeps it into the file of that name, and is stuck.
const STICK: u32 = 1008;

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
            .spares(0)
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
    this_test("worker::worker_process").env(MODE, mode)
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

fn crashed(cause: Cause) -> Result<Vec<u8>, Failure> {
    Err(Failure::Crashed { cause, attempt: 1, place: 0, letter: None })
}

const KILLED: Cause = Cause::Signalled(9);

fn quick() -> Restart {
    let ms = Duration::from_millis;
    Restart { intensity: 3, backoff: ms(1)..ms(5), ..Restart::default() }
}
