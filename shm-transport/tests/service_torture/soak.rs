//! Thousands of calls, clients that come and go, and workers that die: what a server, a worker and a
//! client need stays the same. `SHM_SOAK_ROUNDS` says for how many rounds.

use crate::common::child::say;
use crate::help::*;
use crate::roles::told;
use crate::segment_help::Place;
use shm_transport::domain::Domain;
use shm_transport::service::{CallError, Client, Priority};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// What a process has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Usage {
    descriptors: usize,
    threads: usize,
    /// Parts of shared memory that it has mapped.
    mapped: usize,
}

impl Usage {
    fn is_within(&self, other: &Self) -> bool {
        self.descriptors <= other.descriptors
            && self.threads <= other.threads
            && self.mapped <= other.mapped
    }

    fn of(pid: u32, place: &Place) -> Self {
        let entries = |what| fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count();
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        let directory = place.directory.to_str().unwrap();
        let mapped = maps.lines().filter(|line| line.contains(directory)).count();
        Self { descriptors: entries("fd"), threads: entries("task"), mapped }
    }
}

/// Memory of its own, in KiB.
fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Shared memory in use, in KiB.
fn shared(place: &Place) -> u64 {
    let files = fs::read_dir(&place.directory).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().blocks() / 2).sum()
}

/// A bit more than the allocator's and the tables' ups and downs.
const SLACK: u64 = 512;

#[test]
fn soak() {
    let (place, notes) = (Place::new(), Notes::new());
    let mut server = start("server", &place, &notes);
    server.expect("up", "started");
    assert_eq!(server.hear(), "up");
    let mut client = start("soak", &place, &notes);
    let workers = || -> Vec<u32> {
        let pids = client_pids(&notes);
        pids.into_iter().filter(|pid| fs::exists(format!("/proc/{pid}/maps")).unwrap()).collect()
    };
    let round = |client: &mut crate::common::child::Child,
                 server: &mut crate::common::child::Child| {
        client.expect("round", "done");
        server.expect("up", "up");
    };
    // What is made once is made then.
    for _ in 0..3 {
        round(&mut client, &mut server);
    }
    // Ordinary workers: none of them dies.
    let lasting = {
        let before = workers();
        round(&mut client, &mut server);
        let after = workers();
        before.into_iter().filter(|pid| after.contains(pid)).collect::<Vec<u32>>()
    };
    assert_eq!(lasting.len(), NORMAL as usize);
    let all: Vec<u32> = [server.pid(), client.pid()].into_iter().chain(lasting).collect();
    let first: Vec<(Usage, u64)> =
        all.iter().map(|pid| (Usage::of(*pid, &place), memory(*pid))).collect();
    let first_shared = shared(&place);
    for _ in 0..number("SHM_SOAK_ROUNDS").unwrap_or(12) {
        round(&mut client, &mut server);
    }
    for (pid, (usage, kib)) in all.iter().zip(first) {
        let mut found = usage;
        // What is closed in the background may take a moment.
        for _ in 0..2000 {
            found = Usage::of(*pid, &place);
            if found.is_within(&usage) {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        // It may have been a client more whose lanes were just being put away.
        assert!(found.is_within(&usage), "process {pid} of {all:?}: {usage:?}, then {found:?}");
        let now = memory(*pid);
        eprintln!("process {pid}: {kib} KiB, then {now} KiB; {usage:?}");
        assert!(now <= kib + SLACK, "process {pid} of {all:?}: {kib} KiB, then {now}");
    }
    let now = shared(&place);
    assert!(now <= first_shared + SLACK, "shared: {first_shared} KiB, then {now}");
    client.end();
    fs::create_dir(notes.directory.join("letters")).unwrap();
    server.expect("letters", "letters");
    server.expect("stop", "stopped");
    server.end();
    nothing_stays(&place);
}

fn client_pids(notes: &Notes) -> Vec<u32> {
    let files = fs::read_dir(notes.directory.join("workers")).unwrap();
    files.map(|file| file.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect()
}

/// The client: of each thing something, each time that it is told to.
pub fn client(domain: &Domain) {
    let client = Client::builder(SERVICE)
        .in_domain(domain.clone())
        .connect_timeout(PATIENCE)
        .connect()
        .unwrap();
    let bytes = payload(1, 50);
    let echo = |client: &Client, priority| {
        assert_eq!(client.call(ECHO, &bytes, priority, PATIENCE).unwrap(), bytes);
    };
    while told().is_some() {
        for _ in 0..500 {
            echo(&client, Priority::Low);
            echo(&client, Priority::High);
        }
        for _ in 0..20 {
            let calls: Vec<_> =
                (0..30).map(|_| client.call_async(ECHO, &bytes, Priority::Low).unwrap()).collect();
            for (call, number) in calls.into_iter().zip(0..) {
                if number % 4 != 0 {
                    assert_eq!(call.wait(PATIENCE).unwrap(), bytes);
                }
            }
            let _ = client.call(SLEEP, &payload(4, 0), Priority::Low, Duration::from_micros(100));
            let other = client.clone();
            echo(&other, Priority::Low);
        }
        let dead = client.call(DIE, &bytes, Priority::High, PATIENCE);
        assert!(matches!(dead, Err(CallError::WorkerCrashed { .. })), "{dead:?}");
        echo(&client, Priority::High);
        say("done");
    }
}
