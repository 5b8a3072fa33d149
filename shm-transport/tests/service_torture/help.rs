//! What all processes of these tests know.
#![allow(dead_code, reason = "not every build uses all of it")]

use crate::common::child::Child;
use crate::segment_help::{Place, unique};
use shm_transport::domain::Domain;
use shm_transport::service::{Function, Program, Restart, Server, ServerBuilder};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

pub const SERVICE: &str = "torture";

/// Sends back what it got.
pub const ECHO: u32 = 1001;
/// The same, and may be run twice.
pub const AGAIN: u32 = 1002;
/// The same after some milliseconds, or when it is cancelled.
pub const SLEEP: u32 = 1003;
/// An error, with what it got.
pub const FAIL: u32 = 1004;
/// Kills its process.
pub const DIE: u32 = 1005;
/// Kills its process mostly, and may be run twice.
pub const DIE_AGAIN: u32 = 1006;
/// Nobody has this one.
pub const NOBODY: u32 = 1999;

pub const NORMAL: u32 = 3;
pub const VIP: u32 = 1;
pub const CLIENTS: u32 = 16;
/// The longest request and reply.
pub const LONGEST: u32 = 200;

/// Longer than anything here takes on a machine that has other things to do.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub const ROLE: &str = "SHM_TEST_ROLE";
pub const DIRECTORY: &str = "SHM_TEST_PLACE";
pub const NOTES: &str = "SHM_TEST_NOTES";

pub fn seconds() -> u64 {
    number("SHM_TORTURE_SECONDS").unwrap_or(5)
}

pub fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Ends a process that has lost its test.
pub fn alarm() {
    let seconds = u32::try_from(seconds()).unwrap_or(u32::MAX).saturating_add(400);
    // SAFETY: a system call without memory.
    unsafe { libc::alarm(seconds) };
}

/// The service. It never gives up on a place, and is in no hurry to call a call hanging: all of this
/// may be stopped for long.
pub fn server(domain: &Domain) -> ServerBuilder {
    let second = Duration::from_secs(1);
    let restart = Restart {
        intensity: u32::MAX >> 1,
        pool: u32::MAX >> 1,
        within: second,
        backoff: second / 500..second / 50,
        healthy_after: second / 10,
    };
    Server::builder(SERVICE)
        .in_domain(domain.clone())
        .worker(program())
        .workers(NORMAL)
        .vip_workers(VIP)
        .clients(CLIENTS)
        .messages(64)
        .vip_messages(32)
        .message_size(LONGEST)
        .reply_size(LONGEST)
        .letters(2048, 64)
        .restart(restart)
        .function(AGAIN, Function::new().idempotent())
        .function(DIE_AGAIN, Function::new().idempotent())
        .drain(PATIENCE)
}

/// This program, as a worker. It has not its server's output, whose end says that the server is dead.
pub fn program() -> Program {
    Program::new("/bin/sh")
        .args(["-c", "exec \"$0\" \"$@\" >/dev/null"])
        .arg(std::env::current_exe().unwrap())
        .args(["roles::role", "--exact", "--test-threads=1", "-q"])
}

/// Starts a process of that role.
pub fn start(role: &str, place: &Place, notes: &Notes) -> Child {
    let mut command = Child::playing("roles::role");
    command.env(ROLE, role).env(DIRECTORY, &place.directory).env(NOTES, &notes.directory);
    Child::of(command)
}

/// Waits for what is about to be so.
#[track_caller]
pub fn soon(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "not so after {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// After a stop. A worker that a former server has started may need a moment more until it has left
/// the domain: this one has not to wait for its end.
#[track_caller]
pub fn nothing_stays(place: &Place) {
    let mut files = Vec::new();
    for _ in 0..5000 {
        files = place.files();
        if files.is_empty() {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("left: {files:?}");
}

/// A directory for what processes write down.
pub struct Notes {
    pub directory: PathBuf,
}

impl Notes {
    pub fn new() -> Self {
        let directory = std::env::temp_dir().join(unique());
        for part in ["workers", "runs", "calls"] {
            fs::create_dir_all(directory.join(part)).unwrap();
        }
        Self { directory }
    }

    /// All lines of all files of a part, but for those that were cut off.
    pub fn lines(&self, part: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for entry in fs::read_dir(self.directory.join(part)).unwrap() {
            let text = fs::read_to_string(entry.unwrap().path()).unwrap();
            let whole = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
            lines.extend(whole.map(String::from));
        }
        lines
    }
}

impl Drop for Notes {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("what they wrote down is in {}", self.directory.display());
        } else {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// This process's file of a part.
pub struct Note(File);

impl Note {
    pub fn create(notes: &Path, part: &str, name: impl std::fmt::Display) -> Self {
        let path = notes.join(part).join(name.to_string());
        Self(File::options().create(true).append(true).open(path).unwrap())
    }

    /// A line, which is written before this returns, whatever comes then.
    pub fn write(&self, line: std::fmt::Arguments<'_>) {
        (&self.0).write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1)
    }

    /// Less than `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    pub fn milliseconds(&mut self, bound: u64) -> Duration {
        Duration::from_micros(self.below(bound * 1000))
    }
}

/// A request: the call's number and as many bytes more, which are made of it.
pub fn payload(id: u64, length: usize) -> Vec<u8> {
    let mut bytes = id.to_le_bytes().to_vec();
    bytes.extend((0..length).map(|at| (id as u8).wrapping_add(at as u8)));
    bytes
}

/// The call's number.
pub fn id_of(payload: &[u8]) -> u64 {
    u64::from_le_bytes(payload[..8].try_into().unwrap())
}
