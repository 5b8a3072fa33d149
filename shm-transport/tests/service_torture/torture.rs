//! Supervisors, workers and clients are killed, stopped and continued at random while calls go on.
//! Each process writes down what it does, and in the end that is added up:
//!
//! - each call of a client that lives has exactly one end, and its own reply;
//! - none runs twice, unless its function is idempotent: then three times at the most;
//! - what was accepted and is waited for ends by its reply or by its worker's death: nothing queued
//!   is lost;
//! - a letter is about a call that has no reply;
//! - no place is lost: as many clients as there is room for connect, and each worker serves;
//! - nothing is left.
//!
//! `SHM_TORTURE_SECONDS` says for how long, `SHM_TORTURE_SEED` repeats the choices of a run (though
//! not the moments at which processes are killed).

use crate::account;
use crate::common::child::Child;
use crate::help::*;
use crate::segment_help::Place;
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use shm_transport::service::{Client, Priority};
use std::collections::HashSet;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

const PROCESSES: usize = 3;

#[test]
fn torture() {
    let time = Duration::from_secs(seconds());
    let seed = number("SHM_TORTURE_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        u64::from(now.subsec_nanos()) ^ now.as_secs()
    });
    eprintln!("SHM_TORTURE_SEED={seed}");
    let (place, notes) = (Place::new(), Notes::new());
    let mut random = Random::new(seed);
    let mut started = 0;
    let mut client = |random: &mut Random| {
        started += 1;
        let mut child = start("client", &place, &notes);
        child.tell(&format!("{started} {}", random.below(1 << 40)));
        (started, child)
    };
    let mut killed = HashSet::new();
    let mut server = start("server", &place, &notes);
    let mut clients: Vec<(u64, Child)> = (0..PROCESSES).map(|_| client(&mut random)).collect();
    // Without this what is killed first has hardly begun.
    server.expect("up", "started");
    assert_eq!(server.hear(), "up");

    let begun = Instant::now();
    let (mut kills, mut stops) = ([0; 3], 0);
    while begun.elapsed() < time {
        thread::sleep(random.milliseconds(30));
        match random.below(20) {
            0..5 => {
                if let Some(worker) = worker(&place, &notes, &mut random) {
                    signal(&worker, Signal::KILL);
                    kills[0] += 1;
                }
            }
            5..8 => {
                let which = random.below(clients.len() as u64) as usize;
                let (number, child) = &mut clients[which];
                still_runs(child);
                child.kill();
                killed.insert(*number);
                kills[1] += 1;
                clients[which] = client(&mut random);
            }
            8..10 => {
                still_runs(&mut server);
                server.kill();
                kills[2] += 1;
                thread::sleep(random.milliseconds(60));
                server = start("server", &place, &notes);
            }
            10 => server.tell("roll"),
            11..15 => {
                if let Some(worker) = worker(&place, &notes, &mut random) {
                    signal(&worker, Signal::STOP);
                    thread::sleep(random.milliseconds(30));
                    signal(&worker, Signal::CONT);
                    stops += 1;
                }
            }
            15..19 => {
                let which = random.below(1 + clients.len() as u64) as usize;
                let stopped = clients.get(which).map_or(&server, |(_, child)| child);
                stopped.signal(libc::SIGSTOP);
                thread::sleep(random.milliseconds(30));
                stopped.signal(libc::SIGCONT);
                stops += 1;
            }
            _ => {}
        }
    }
    // No more calls are made, and those that were end.
    fs::write(notes.directory.join("quiet"), "").unwrap();
    for (number, child) in &mut clients {
        let mut said = child.hear_if_any();
        while said.as_deref() == Some("connected") {
            said = child.hear_if_any();
        }
        assert_eq!(said.as_deref(), Some("done"), "client {number}; what it said is above");
        child.end();
    }
    server.tell("up");
    while server.hear() != "up" {}
    every_place_is_to_be_had(&place);
    // All that is known of deaths is known to this one by now.
    fs::create_dir(notes.directory.join("letters")).unwrap();
    server.expect("letters", "letters");
    server.expect("stop", "stopped");
    server.end();
    nothing_stays(&place);
    let sums = account::check(&notes, &killed);
    let [workers, clients, servers] = kills;
    eprintln!(
        "killed: {workers} workers, {clients} clients, {servers} servers; {stops} stops; {sums}"
    );
}

/// As many clients as there is room for, and each worker serves them.
fn every_place_is_to_be_had(place: &Place) {
    let first = Client::builder(SERVICE)
        .in_domain(place.domain.clone())
        .connect_timeout(PATIENCE)
        .connect()
        .unwrap();
    let mut clients = vec![first];
    for _ in 1..CLIENTS {
        let next = clients[0].clone();
        clients.push(next);
    }
    for (client, which) in clients.iter().zip(0..) {
        for priority in [Priority::Low, Priority::High] {
            let payload = payload(u64::from(u32::MAX) << 32 | which, 10);
            // Nobody's account has this one.
            let result = client.call(NOBODY, &payload, priority, PATIENCE);
            let is_so = matches!(
                result,
                Err(shm_transport::service::CallError::UnknownFunction { function: NOBODY })
            );
            assert!(is_so, "client {which}: {result:?}");
        }
    }
}

#[track_caller]
fn still_runs(child: &mut Child) {
    if let Some(status) = child.process.try_wait().unwrap() {
        panic!("{status}: what it said is above");
    }
}

/// One of the workers, that is surely one of this test's.
fn worker(place: &Place, notes: &Notes, random: &mut Random) -> Option<OwnedFd> {
    let mut found = Vec::new();
    for entry in fs::read_dir(notes.directory.join("workers")).unwrap() {
        let entry = entry.unwrap();
        let pid: i32 = entry.file_name().to_str().unwrap().parse().unwrap();
        // In this order: a number that became another's is not looked at.
        let pidfd = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).ok();
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let wanted = place.directory.to_str().unwrap().as_bytes();
        if environment.windows(wanted.len()).any(|part| part == wanted) {
            found.extend(pidfd);
        } else {
            let _ = fs::remove_file(entry.path());
        }
    }
    if found.is_empty() {
        return None;
    }
    let which = random.below(found.len() as u64) as usize;
    Some(found.swap_remove(which))
}

fn signal(process: &OwnedFd, signal: Signal) {
    // It may be dead.
    let _ = pidfd_send_signal(process, signal);
}
