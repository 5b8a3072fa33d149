//! Clients that do not keep to any protocol: processes that connect and call as others do, and then
//! write whatever they like to what they can write to. Workers, supervisor and honest clients go
//! on.
//!
//! By how far they reach:
//!
//! - the client's own segment, where its lanes are: nobody but itself notices;
//! - the words of the bells, which say who is there and who is to be woken: calls of others may
//!   be given up, or late, for a wake that is lost is made up for by sleeps that are bounded;
//!   each ends once, none with what was not its answer, and after the attack all is well again;
//! - all that a client has mapped for writing, with headers and the members of the domain: nobody
//!   can enter any more, but each call ends once, as before;
//! - all files of the service, which a process of the same user can open: nobody crashes.
//!
//! `SHM_TORTURE_SECONDS` says for how long, `SHM_TORTURE_SEED` repeats the choices of a run.

use crate::help::{self, ECHO, PATIENCE, Place, STEADY, client, server, soon};
use crate::segment_help::{Parties, again};
use rustix::mm::{MapFlags, ProtFlags, mmap};
use shm_transport::domain::Domain;
use shm_transport::service::{Call, CallError, Cause, Client, Hang, Priority, Server};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::DirEntryExt;
use std::path::Path;
use std::process::{Child, exit};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

const DIRECTORY: &str = "HOSTILE_DIRECTORY";
const SEED: &str = "HOSTILE_SEED";
const REACH: &str = "HOSTILE_REACH";
/// What words that it changes under a handler are at first.
const MARK: u32 = 0xa5c3_965a;
/// The exit code of one that has changed something under a handler.
const CHANGED: i32 = 3;
/// Of one that has found nothing to write to.
const IDLE: i32 = 4;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn seconds() -> Duration {
    Duration::from_secs(number("SHM_TORTURE_SECONDS").unwrap_or(1))
}

fn seed() -> u64 {
    let seed = number("SHM_TORTURE_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        u64::from(now.subsec_nanos()) ^ now.as_secs()
    });
    eprintln!("SHM_TORTURE_SEED={seed}");
    seed
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Words that it writes to, and where in them parts begin.
struct Area {
    words: &'static [AtomicU32],
    parts: Vec<usize>,
    /// Headers are left as they are.
    spares_headers: bool,
}

impl Area {
    fn new(base: NonNull<u8>, bytes: usize) -> Self {
        // SAFETY: mapped for as long as the process lives; any bytes are atomic words.
        let words = unsafe { std::slice::from_raw_parts(base.cast().as_ptr(), bytes / 4) };
        // Only what is there: looking at a hole would fill it.
        let parts = (0..words.len().min(1 << 18)).step_by(16).filter(|at| {
            let word: &AtomicU32 = &words[*at];
            word.load(Relaxed) == u32::from_le_bytes(*b"SHMP")
        });
        Self { words, parts: parts.collect(), spares_headers: false }
    }

    /// Whether a word was written once, by who made the segment or part: without its headers
    /// nobody can enter any more.
    fn is_header(&self, at: usize) -> bool {
        // A segment's, with the table of its parts.
        at < 64 || self.parts.iter().any(|part| (*part..part + 16).contains(&at))
    }

    /// Where words decide something, as often as anywhere.
    fn somewhere(&self, random: &mut Random) -> usize {
        match random.below(4) {
            0 => random.below(self.words.len()),
            1 => random.below(self.words.len().min(1024)),
            _ if self.parts.is_empty() => random.below(self.words.len()),
            // A ring's header, positions and first frames.
            _ => (self.parts[random.below(self.parts.len())] + random.below(128))
                .min(self.words.len() - 1),
        }
    }

    fn scribble(&self, random: &mut Random) {
        let at = self.somewhere(random);
        if self.spares_headers && self.is_header(at) {
            return;
        }
        let word = &self.words[at];
        let value = match random.below(8) {
            0 => random.next() as u32,
            1 => random.below(64) as u32,
            2 => 1 << 31 | random.below(4096) as u32,
            3 => 1 << random.below(32),
            4 => word.load(Relaxed).wrapping_add(random.below(16) as u32),
            5 => word.load(Relaxed) ^ 1 << random.below(32),
            6 => 8 * random.below(64) as u32,
            // What stands elsewhere: an owner, a position, a frame.
            _ => self.words[self.somewhere(random)].load(Relaxed),
        };
        word.store(value, Relaxed);
    }
}

/// What this process has mapped for writing, of the service's files whose name has that in it.
fn mapped(directory: &str, named: &str) -> Vec<Area> {
    // Files get their names after they were mapped: they are told by their numbers.
    let entries = fs::read_dir(directory).unwrap().flatten();
    let named = entries.filter(|entry| entry.file_name().to_str().unwrap().contains(named));
    let numbers: Vec<String> = named.map(|entry| entry.ino().to_string()).collect();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mut areas = Vec::new();
    for line in maps.lines().filter(|line| line.contains(directory)) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [range, "rw-s", _, _, number, ..] = fields[..] else { continue };
        if !numbers.iter().any(|known| known == number) {
            continue;
        }
        let (from, to) = range.split_once('-').unwrap();
        let address = |text| usize::from_str_radix(text, 16).unwrap();
        let base = NonNull::new(std::ptr::with_exposed_provenance_mut(address(from))).unwrap();
        areas.push(Area::new(base, address(to) - address(from)));
    }
    areas
}

/// All files of the directory, mapped.
fn files(directory: &str) -> Vec<Area> {
    let mut areas = Vec::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let file = OpenOptions::new().read(true).write(true).open(entry.path());
        let Ok(file) = file else { continue };
        let length = file.metadata().map_or(0, |data| data.len() as usize);
        if length == 0 {
            continue;
        }
        let both = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a mapping of its own, which stays.
        let base = unsafe {
            mmap(std::ptr::null_mut(), length, both, MapFlags::SHARED, &file, 0).unwrap()
        };
        areas.push(Area::new(NonNull::new(base.cast()).unwrap(), length));
    }
    areas
}

/// Not a test, but what the tests start: a client that means harm.
#[test]
fn attacker() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    // SAFETY: a system call without memory.
    unsafe { libc::alarm(20) };
    let mut random = Random(number(SEED).unwrap());
    let domain = Domain::new("test").unwrap().in_directory(Path::new(&directory));
    let wait = Duration::from_millis(300);
    let builder = Client::builder("math").in_domain(domain).connect_timeout(wait);
    // It may not be let in any more: then it has done its harm.
    let Ok(client) = builder.connect() else { exit(0) };
    let reach = std::env::var(REACH).unwrap();
    if reach == "handlers" {
        exit(change_under_handlers(&client, &directory, &mut random));
    }
    let mut calls = Vec::new();
    let mut send = |random: &mut Random| {
        let payload = vec![0x5a; random.below(300)];
        let priority = [Priority::Low, Priority::High][random.below(2)];
        calls.extend(client.call_async(ECHO, &payload, priority));
        if calls.len() > 8 {
            // Not waited for: some are given up.
            calls.clear();
        }
    };
    (0..4).for_each(|_| send(&mut random));
    let areas = match &*reach {
        "own" => mapped(&directory, "client"),
        "bells" => {
            let mut areas = mapped(&directory, "bells");
            areas.iter_mut().for_each(|area| area.spares_headers = true);
            areas
        }
        "mapped" => mapped(&directory, ""),
        _ => files(&directory),
    };
    if areas.is_empty() {
        exit(IDLE);
    }
    let begun = Instant::now();
    let life = Duration::from_millis(20 + random.below(150) as u64);
    while begun.elapsed() < life {
        for _ in 0..1 << random.below(10) {
            areas[random.below(areas.len())].scribble(&mut random);
        }
        if random.below(2) == 0 {
            send(&mut random);
        }
        thread::sleep(Duration::from_micros(random.below(2000) as u64));
    }
    // Without a farewell: what it would give back is spoilt.
    // SAFETY: nothing of this process is needed any more.
    unsafe { libc::_exit(0) };
}

/// Calls whose requests it changes while they are handled, and so with replies.
fn change_under_handlers(client: &Client, directory: &str, random: &mut Random) -> i32 {
    let payload: Vec<u8> = std::iter::repeat_n(MARK.to_le_bytes(), 64).flatten().collect();
    let begun = Instant::now();
    let mut is_changed = false;
    let mut touched = 0;
    while begun.elapsed() < seconds() {
        let mut call = client.call_async(STEADY, &payload, Priority::Low).unwrap();
        let own = mapped(directory, "client");
        let answer = loop {
            if let Some(answer) = call.try_wait() {
                break answer.unwrap();
            }
            // Its own requests and what stands where replies will, but no header.
            for word in own.iter().flat_map(|area| area.words.iter().take(1 << 16)) {
                if word.load(Relaxed) == MARK {
                    word.store(!MARK, Relaxed);
                    touched += 1;
                    thread::sleep(Duration::from_micros(random.below(100) as u64));
                }
            }
        };
        is_changed |= answer != b"steady";
    }
    assert!(touched > 0);
    if is_changed { CHANGED } else { 0 }
}

/// What the honest one has seen.
#[derive(Default, Debug)]
struct Outcomes {
    answered: u64,
    failed: u64,
}

/// Calls until it is told to stop, one at a time and several in flight; each answer is the one to
/// its call.
fn honest(client: &Client, reach: &str, quiet: &AtomicBool, at: &AtomicU32) -> Outcomes {
    // Nothing keeps calls of the first kind from being answered.
    let wait = if reach == "own" { PATIENCE } else { Duration::from_millis(300) };
    let mut outcomes = Outcomes::default();
    let mut number = 0u64;
    while !quiet.load(Relaxed) {
        at.store(number as u32, Relaxed);
        let mut calls: Vec<(Vec<u8>, Result<Call, CallError>)> = Vec::new();
        for _ in 0..1 + number % 5 {
            number += 1;
            let payload: Vec<u8> =
                (0..2 + number % 20).flat_map(|_| number.to_le_bytes()).collect();
            let payload = payload[..payload.len().min(64)].to_vec();
            let priority = if number.is_multiple_of(3) { Priority::High } else { Priority::Low };
            let call = client.call_async(ECHO, &payload, priority);
            calls.push((payload, call));
        }
        for (payload, call) in calls {
            match call.and_then(|call| call.wait(wait)) {
                Ok(answer) => {
                    // Its own answers may be spoilt where they stand.
                    assert!(answer == payload || reach == "all", "{answer:?} to {payload:?}");
                    outcomes.answered += 1;
                }
                Err(error) => {
                    if outcomes.failed < 5 {
                        eprintln!("an honest call: {error}");
                    }
                    outcomes.failed += 1;
                }
            }
        }
    }
    outcomes
}

fn attack(place: &Place, seed: u64, reach: &str) -> Child {
    let mut command = again("hostile::attacker");
    command.env(DIRECTORY, &place.directory).env(SEED, seed.to_string()).env(REACH, reach);
    command.stdout(std::process::Stdio::null()).spawn().unwrap()
}

fn service(place: &Place) -> Server {
    // None is taken for one that hangs because the machine has other things to do.
    let hang = Hang { threshold: Some(PATIENCE), ..Hang::default() };
    let builder = server(place, "math").workers(2).vip_workers(1).clients(16).messages(64);
    help::start(builder.vip_messages(64).reply_size(300).hang(hang))
}

/// Attackers one after the other and two at a time, while an honest client calls.
fn under_attack(place: &Place, reach: &str) -> Outcomes {
    let mut random = Random(seed());
    let client = client(place, "math");
    let (quiet, at) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        let honest = scope.spawn(|| honest(&client, reach, &quiet, &at));
        let mut attackers = Parties(Vec::new());
        let begun = Instant::now();
        while begun.elapsed() < seconds() || at.load(Relaxed) == 0 {
            attackers.0.push(attack(place, random.next(), reach));
            if attackers.0.len() > 1 {
                did_its_part(attackers.0.remove(0));
            }
        }
        attackers.0.drain(..).for_each(did_its_part);
        quiet.store(true, Relaxed);
        honest.join().unwrap()
    })
}

fn did_its_part(mut attacker: Child) {
    let status = attacker.wait().unwrap();
    // Once it has begun, what it finds in its own memory is its own work, and it may die of that.
    assert_ne!(status.code(), Some(IDLE), "an attacker that had nothing to spoil");
}

/// Who died by a fault of its own.
fn crashed(server: &Server) -> Vec<Cause> {
    let faults = [libc::SIGSEGV, libc::SIGBUS, libc::SIGABRT, libc::SIGILL, libc::SIGFPE];
    let causes = server.workers().into_iter().filter_map(|worker| worker.cause);
    causes.filter(|cause| faults.iter().any(|signal| *cause == Cause::Signalled(*signal))).collect()
}

/// Its own segment is all that a client can spoil without others' noticing: they notice nothing.
#[test]
fn a_client_that_spoils_its_own_lanes_hurts_nobody_else() {
    let place = Place::new();
    let server = service(&place);
    let before: Vec<_> = server.workers().iter().map(|worker| worker.pid).collect();
    let outcomes = under_attack(&place, "own");
    eprintln!("{outcomes:?}");
    assert!(outcomes.answered > 0 && outcomes.failed == 0, "{outcomes:?}");
    let after: Vec<_> = server.workers().iter().map(|worker| worker.pid).collect();
    assert_eq!(before, after, "a worker died: {:?}", server.workers());
    server.stop(PATIENCE).unwrap();
    drop(server);
}

/// Words that all clients write to: who spoils them costs others time, and calls that are under
/// way. Who has lost its place takes another.
#[test]
fn a_client_that_spoils_the_bells_is_got_over() {
    let place = Place::new();
    let server = service(&place);
    let client = client(&place, "math");
    let before: Vec<_> = server.workers().iter().map(|worker| worker.pid).collect();
    let outcomes = under_attack(&place, "bells");
    eprintln!("{outcomes:?}");
    // This one was there all the time.
    for priority in [Priority::Low, Priority::High] {
        soon("calls are answered again", || {
            client.call(ECHO, b"on", priority, Duration::from_millis(500)).is_ok()
        });

        for _ in 0..20 {
            assert_eq!(client.call(ECHO, b"on", priority, PATIENCE).unwrap(), b"on");
        }
    }
    let after: Vec<_> = server.workers().iter().map(|worker| worker.pid).collect();
    assert_eq!(before, after, "a worker died: {:?}", server.workers());
    drop(client);
    server.stop(PATIENCE).unwrap();
    drop(server);
}

/// With headers nobody can enter any more, but who is there does not crash.
#[test]
fn a_client_that_spoils_what_clients_share_crashes_nobody() {
    let place = Place::new();
    let server = service(&place);
    let before: Vec<_> = server.workers().iter().map(|worker| worker.pid).collect();
    let outcomes = under_attack(&place, "mapped");
    eprintln!("{outcomes:?}");
    assert_eq!(crashed(&server), [], "{:?}", server.workers());
    let after: Vec<_> = server.workers().iter().map(|worker| worker.pid).collect();
    assert_eq!(before, after, "a worker died: {:?}", server.workers());
    server.stop(PATIENCE).unwrap();
    drop(server);
}

/// What belongs to the supervisor and the workers alone is spoilt too: the service may end of it,
/// but not by a crash, and its supervisor can still be told to stop.
#[test]
fn a_process_that_spoils_all_files_crashes_nobody() {
    let place = Place::new();
    let server = service(&place);
    let outcomes = under_attack(&place, "all");
    eprintln!("{outcomes:?}");
    assert_eq!(crashed(&server), [], "{:?}", server.workers());
    let _ = server.stop(Duration::from_secs(1));
    drop(server);
}

/// A handler works on what it was given, whatever the client does to it meanwhile.
#[test]
fn what_a_handler_has_is_not_changed_by_its_client() {
    let place = Place::new();
    let server = service(&place);
    let mut attackers = Parties(vec![attack(&place, seed(), "handlers")]);
    let status = attackers.0[0].wait().unwrap();
    assert_ne!(status.code(), Some(CHANGED), "a request or a reply changed under its handler");
    assert!(status.success(), "{status}");
    server.stop(PATIENCE).unwrap();
    drop(server);
    soon("nothing is left", || place.files().is_empty());
}
