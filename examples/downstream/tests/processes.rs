//! Real processes: this one, and workers that run the crate's own binary.
#![cfg(not(loom))]

use downstream::link::Link;
use downstream::memory::Memory;
use downstream::park::FutexPark;
use downstream::pipe::Error;
use downstream::worker::{CREATOR, Worker};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use shm_primitives::identity::OwnerId;
use shm_primitives::part::ClaimError;
use shm_primitives::sync::{AtomicU32, Ordering::Relaxed};
use shm_primitives::wake::{Deadline, Park};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const PARK: FutexPark = FutexPark;

/// Ends a test that would hang.
fn soon() -> Deadline {
    Deadline::after(&PARK, Duration::from_secs(30))
}

fn memory() -> Memory {
    Memory::create(Link::SIZE).unwrap()
}

fn link(memory: &Memory) -> Link<'_> {
    // SAFETY: each test has new memory, and gives it to workers alone.
    unsafe { Link::create(&memory.region()) }.unwrap()
}

fn worker(memory: &Memory) -> Worker {
    Worker::start(Path::new(env!("CARGO_BIN_EXE_downstream")), memory).unwrap()
}

#[test]
fn requests_and_answers_in_order_until_the_end() {
    let memory = memory();
    let link = link(&memory);
    let mut worker = worker(&memory);
    let mut client = link.client(CREATOR).unwrap();
    // Several under way, of all lengths, many times round both rings.
    for number in 0..5000 {
        client.ask(&"x".repeat(number % 300), &PARK, soon()).unwrap();
        if let Some(answered) = number.checked_sub(5) {
            let text = "X".repeat(answered % 300);
            assert_eq!(client.answer(&PARK, soon()), Ok((answered as u32, text)));
        }
    }
    client.finish(&PARK, soon()).unwrap();
    assert!(worker.wait().unwrap().0.success());
}

#[test]
fn a_deadline_ends_a_wait() {
    let memory = memory();
    let link = link(&memory);
    let mut client = link.client(CREATOR).unwrap();
    let begun = Instant::now();
    let deadline = Deadline::after(&PARK, Duration::from_millis(250));
    assert_eq!(client.answer(&PARK, deadline), Err(Error::TimedOut));
    assert!(begun.elapsed() >= Duration::from_millis(250));
    // With no worker the requests fill their ring.
    let text = "x".repeat(4000);
    let full = (0..).find_map(|_| client.ask(&text, &PARK, Deadline::NOW).err());
    assert_eq!(full, Some(Error::TimedOut));
}

#[test]
fn what_a_killed_worker_leaves_is_answered_in_its_place() {
    const ASKED: u32 = 150;
    let memory = memory();
    let link = link(&memory);
    let mut client = link.client(CREATOR).unwrap();
    let mut worker = worker(&memory);
    for number in 0..ASKED {
        client.ask(&format!("request {number}"), &PARK, soon()).unwrap();
    }
    for number in 0..10 {
        assert_eq!(client.answer(&PARK, soon()).unwrap().0, number);
    }
    // Room for 128 replies, two in a cache line: it cannot have answered all.
    worker.kill().unwrap();
    let (status, dead) = worker.wait().unwrap();
    assert!(!status.success());

    let taken = link.server(CREATOR).map(drop);
    assert_eq!(taken, Err(ClaimError::Owned(dead.id())), "its ends are still its own");
    let mut server = link.recover_server(dead, CREATOR, &PARK).unwrap();
    let mut served = 0;
    for number in 10..ASKED {
        while server.serve(&PARK, Deadline::NOW).is_ok() {
            served += 1;
        }
        let (answered, text) = client.answer(&PARK, Deadline::NOW).unwrap();
        assert_eq!((answered, text), (number, format!("REQUEST {number}")));
    }
    assert!(served >= ASKED - 10 - 128, "{served} served here");
    assert_eq!(client.answer(&PARK, Deadline::NOW), Err(Error::TimedOut), "all are answered");
}

#[test]
fn a_worker_killed_anywhere_has_a_successor() {
    let memory = memory();
    let link = link(&memory);
    let mut client = link.client(CREATOR).unwrap();
    for round in 0..20 {
        let mut killed = worker(&memory);
        client.ask("again", &PARK, soon()).unwrap();
        // Before it has started, while it claims, works, sleeps: wherever it is by then.
        std::thread::sleep(Duration::from_micros(200 * round));
        killed.kill().unwrap();
        let (_, dead) = killed.wait().unwrap();
        let mut server = link.recover_server(dead, CREATOR, &PARK).unwrap();
        while server.serve(&PARK, Deadline::NOW).is_ok() {}
        assert_eq!(client.answer(&PARK, Deadline::NOW), Ok((round as u32, "AGAIN".into())));
    }
}

#[test]
fn an_orphan_ends_by_itself() {
    let memory = memory();
    let _link = link(&memory);
    // Nobody's child has process 0 for a parent.
    let ended = Command::new(env!("CARGO_BIN_EXE_downstream"))
        .args(["work", &OwnerId::new(1, 1).unwrap().word().to_string(), "0"])
        .stdin(memory.file().unwrap())
        .output()
        .unwrap();
    assert!(!ended.status.success());
    assert!(String::from_utf8_lossy(&ended.stderr).contains("the parent is dead"));
}

#[test]
fn only_one_has_an_end() {
    let memory = memory();
    let link = link(&memory);
    let _server = link.server(CREATOR).unwrap();
    let other = OwnerId::new(2, 1).unwrap();
    assert_eq!(link.server(other).map(drop), Err(ClaimError::Owned(CREATOR)));
}

#[test]
fn memory_of_another_kind_is_refused() {
    let unsealed = memfd_create("unsealed", MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&unsealed, Link::SIZE as u64).unwrap();
    assert!(Memory::open(unsealed.into()).is_err(), "it may be truncated under our feet");
    let memory = memory();
    // SAFETY: this test's alone.
    let region = unsafe { memory.region() };
    // SAFETY: as above.
    assert!(unsafe { Link::attach(&region) }.is_err(), "nothing was created in it");
    let misaligned = region.part(8, region.len() - 8).unwrap();
    // SAFETY: as above.
    assert!(unsafe { Link::create(&misaligned) }.is_err());
}

/// The futex, through two mappings of the same memory, as two processes have them.
#[test]
fn a_wake_goes_by_the_memory_and_not_by_the_address() {
    let here = Memory::create(4096).unwrap();
    let there = Memory::open(here.file().unwrap()).unwrap();
    // SAFETY: this test's alone, zero, aligned to a page; both live to its end.
    let [here, there] =
        [&here, &there].map(|it| unsafe { it.region().base().cast::<AtomicU32>().as_ref() });
    assert!(!std::ptr::eq(here, there));
    let end = PARK.now() + 30_000_000_000;
    std::thread::scope(|scope| {
        let sleeping = scope.spawn(|| {
            while here.load(Relaxed) == 0 && PARK.now() < end {
                PARK.wait(here, 0, end);
            }
            PARK.now()
        });
        // By then it sleeps; if not, this proves less, but does not fail.
        std::thread::sleep(Duration::from_millis(50));
        there.store(1, Relaxed);
        PARK.wake(there);
        assert!(sleeping.join().unwrap() < end, "it slept to the end");
    });
}
