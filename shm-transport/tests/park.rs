//! Sleeping in the kernel, alone and between processes.
#![cfg(target_os = "linux")]

#[path = "peer/mod.rs"]
mod peer;
mod segment_help;

use peer::{Counting, PATIENCE, Shared, eventually, owner};
use rustix::process::{Signal, WaitId, WaitIdOptions, kill_process, waitid};
use shm_primitives::ring::frame::ReadError;
use shm_primitives::sync::AtomicU32;
use shm_primitives::sync::Ordering::Relaxed;
use shm_primitives::wake::{Deadline, Park, WakeWord};
use shm_transport::park::{FutexPark, SleepPark, SystemPark};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;
use std::time::Duration;

#[path = "park/filtered.rs"]
mod filtered;

const MILLISECOND: u64 = 1_000_000;

fn parks() -> Vec<Box<dyn Park + Sync>> {
    let futexes = [FutexPark::new(), FutexPark::private(), FutexPark::new().without_spinning()];
    let mut parks: Vec<Box<dyn Park + Sync>> = vec![Box::new(SleepPark::new())];
    parks.extend(futexes.map(|park| Box::new(park) as Box<dyn Park + Sync>));
    parks
}

/// The deadline is a moment: not before it, and a moment that has passed is no sleep.
#[test]
fn a_wait_ends_at_its_deadline() {
    for park in parks() {
        let word = WakeWord::new();
        let mut waiter = word.waiter();
        for milliseconds in [0, 1, 20, 150] {
            let deadline = park.now() + milliseconds * MILLISECOND;
            assert!(!waiter.wait(&&*park, Deadline::at(deadline), || false));
            assert!(park.now() >= deadline, "too early");
        }
        // The call itself, with a deadline long ago.
        park.wait(&AtomicU32::new(5), 5, 0);
        park.wait(&AtomicU32::new(5), 5, 1);
    }
}

/// The clock of one process is that of the others, and goes on.
#[test]
fn the_clock_is_the_systems() {
    let clocks = || rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    for park in parks() {
        let before = clocks();
        let now = park.now();
        let after = clocks();
        let nanoseconds =
            |t: rustix::time::Timespec| t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64;
        assert!((nanoseconds(before)..=nanoseconds(after)).contains(&now));
    }
}

/// Two threads, each waiting for the other, with every park.
#[test]
fn a_dialogue_of_threads() {
    for park in parks() {
        let park = &&*park;
        let (there, back) = (&WakeWord::new(), &WakeWord::new());
        let (asked, answered) = (&AtomicU64::new(0), &AtomicU64::new(0));
        let acquire = std::sync::atomic::Ordering::Acquire;
        let release = std::sync::atomic::Ordering::Release;
        thread::scope(|scope| {
            scope.spawn(move || {
                let (mut waiter, mut notifier) = (there.waiter(), back.notifier());
                for n in 1..=200 {
                    assert!(waiter.wait(park, Deadline::NEVER, || asked.load(acquire) >= n));
                    answered.store(n, release);
                    notifier.notify(park);
                }
            });
            let (mut waiter, mut notifier) = (back.waiter(), there.notifier());
            for n in 1..=200 {
                asked.store(n, release);
                notifier.notify(park);
                assert!(waiter.wait(park, Deadline::NEVER, || answered.load(acquire) >= n));
            }
        });
    }
}

/// Messages to another process and back, with sleeps that a wake alone ends.
#[test]
fn a_dialogue_of_processes() {
    let shared = Shared::new();
    let mut peer = shared.start("echo");
    let park = Counting::unbounded(SystemPark::new());
    let mut asks = shared.ring(0).claim_writer(owner(1)).unwrap();
    let mut answers = shared.ring(1).claim_reader(owner(1)).unwrap();
    let (mut waiter, mut notifier) = (shared.word(1).waiter(), shared.word(0).notifier());
    for n in 0..1000u32 {
        // Now and then a pause, so that both have to sleep.
        if n % 100 == 0 {
            eventually("the other process does not sleep", || {
                shared.epoch(0).load(Relaxed) % 2 == 1
            });
        }
        asks.push(&n.to_le_bytes()).unwrap();
        notifier.notify(&park);
        let answer = answers.read_wait(&mut waiter, &park, Deadline::NEVER).unwrap();
        assert_eq!(*answer, n.to_le_bytes());
        answer.release();
    }
    asks.push(&[]).unwrap();
    notifier.notify(&park);
    assert!(peer.ends_well());
    assert!(park.calls().1 >= 10, "{:?}: somebody slept and was not woken", park.calls());
}

/// The other process: answers until an empty message.
#[test]
#[ignore = "run by others in a process of its own"]
fn echo() {
    let Some(shared) = Shared::inherited() else { return };
    let park = Counting::unbounded(SystemPark::new());
    let mut asks = shared.ring(0).claim_reader(owner(2)).unwrap();
    let mut answers = shared.ring(1).claim_writer(owner(2)).unwrap();
    let (mut waiter, mut notifier) = (shared.word(0).waiter(), shared.word(1).notifier());
    loop {
        let ask = asks.read_wait(&mut waiter, &park, Deadline::NEVER).unwrap();
        if ask.is_empty() {
            return;
        }
        answers.push(&ask).unwrap();
        ask.release();
        notifier.notify(&park);
    }
}

/// Stopped while asleep; notified; continued: it goes on as if nothing had been.
#[test]
fn a_stopped_waiter() {
    let shared = Shared::new();
    let mut peer = shared.start("echo");
    let park = SystemPark::new();
    let mut asks = shared.ring(0).claim_writer(owner(1)).unwrap();
    let mut answers = shared.ring(1).claim_reader(owner(1)).unwrap();
    let (mut waiter, mut notifier) = (shared.word(1).waiter(), shared.word(0).notifier());
    for n in 0..10u32 {
        eventually("the other process does not sleep", || shared.epoch(0).load(Relaxed) % 2 == 1);
        kill_process(peer.pid(), Signal::STOP).unwrap();
        waitid(WaitId::Pid(peer.pid()), WaitIdOptions::STOPPED).unwrap();
        let rings = n % 3;
        if rings > 0 {
            asks.push(&n.to_le_bytes()).unwrap();
            notifier.notify(&park);
        }
        if rings == 2 {
            let soon = Deadline::after(&park, Duration::from_millis(5));
            let answer = answers.read_wait(&mut waiter, &park, soon);
            assert_eq!(answer.err(), Some(ReadError::Empty), "it was stopped");
        }
        kill_process(peer.pid(), Signal::CONT).unwrap();
        if rings == 0 {
            asks.push(&n.to_le_bytes()).unwrap();
            notifier.notify(&park);
        }
        let answer = answers.read_wait(&mut waiter, &park, Deadline::NEVER).unwrap();
        assert_eq!(*answer, n.to_le_bytes());
        answer.release();
    }
    asks.push(&[]).unwrap();
    notifier.notify(&park);
    assert!(peer.ends_well());
}

/// Killed after it has published, before it wakes anybody: the message is found when the sleep
/// ends by itself.
#[test]
fn a_sender_killed_before_it_wakes() {
    let shared = Shared::new();
    let mut peer = shared.start("publish_and_die");
    let park = Counting::new(SystemPark::new());
    let mut reader = shared.ring(0).claim_reader(owner(1)).unwrap();
    let deadline = Deadline::after(&park, PATIENCE);
    let message = reader.read_wait(&mut shared.word(0).waiter(), &park, deadline).unwrap();
    assert_eq!(&*message, b"last words");
    message.release();
    assert!(!peer.ends_well(), "it was killed");
    assert!(park.calls().0 >= 1, "nobody slept");
}

#[test]
#[ignore = "run by others in a process of its own"]
fn publish_and_die() {
    let Some(shared) = Shared::inherited() else { return };
    let mut writer = shared.ring(0).claim_writer(owner(2)).unwrap();
    // While the other sleeps.
    eventually("nobody sleeps", || shared.epoch(0).load(Relaxed) % 2 == 1);
    writer.push(b"last words").unwrap();
    kill_process(rustix::process::getpid(), Signal::KILL).unwrap();
}

/// Who is awake is neither woken nor sleeps, whatever the number of messages.
#[test]
fn an_awake_peer_costs_no_call() {
    let shared = Shared::new();
    let park = Counting::new(SystemPark::new());
    let mut writer = shared.ring(0).claim_writer(owner(1)).unwrap();
    let mut reader = shared.ring(0).claim_reader(owner(2)).unwrap();
    let (mut waiter, mut notifier) = (shared.word(0).waiter(), shared.word(0).notifier());
    for n in 0..1000u32 {
        writer.push(&n.to_le_bytes()).unwrap();
        notifier.notify(&park);
        let frame = reader.read_wait(&mut waiter, &park, Deadline::NEVER).unwrap();
        assert_eq!(*frame, n.to_le_bytes());
        frame.release();
    }
    assert_eq!(park.calls(), (0, 0));
}

/// Many signals with a handler: a wait is not cut short by them, and a message arrives.
#[test]
fn signals_do_not_end_a_wait() {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: the handler does nothing; without SA_RESTART, so that system calls are interrupted.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()), 0);
    }
    let park = &Counting::new(SystemPark::new());
    let (word, there, done) = (&WakeWord::new(), &AtomicBool::new(false), &AtomicBool::new(false));
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        let waiting = scope.spawn(move || {
            // SAFETY: names this thread.
            sender.send(unsafe { libc::pthread_self() }).unwrap();
            let deadline = Deadline::after(park, Duration::from_millis(50));
            let came = word.waiter().wait(park, deadline, || false);
            assert!(!came && park.now() >= deadline.nanoseconds(), "cut short");
            let came =
                word.waiter().wait(park, Deadline::after(park, PATIENCE), || there.load(Relaxed));
            done.store(true, Relaxed);
            came
        });
        let waiter = receiver.recv().unwrap();
        let mut signals = 0;
        while !done.load(Relaxed) {
            // SAFETY: the thread is not joined yet.
            unsafe { libc::pthread_kill(waiter, libc::SIGUSR1) };
            signals += 1;
            if signals == 200 {
                there.store(true, Relaxed);
                word.notifier().notify(park);
            }
            thread::sleep(Duration::from_micros(500));
        }
        assert!(waiting.join().unwrap(), "the message did not arrive");
    });
    // Without interruptions there would be one sleep for each 100 ms.
    assert!(park.calls().0 >= 5, "{:?}: no sleep was interrupted", park.calls());
}
