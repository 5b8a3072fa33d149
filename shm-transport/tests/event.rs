//! The bridge from a wake word to a descriptor.
#![cfg(target_os = "linux")]

#[path = "peer/mod.rs"]
mod peer;
mod segment_help;

use peer::{Counting, PATIENCE, Shared, eventually, owner};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use shm_primitives::ring::spsc::SpscRing;
use shm_primitives::sync::Ordering::Relaxed;
use shm_primitives::wake::{Park, WakeWord};
use shm_transport::event::{HoldsWord, ReadyFd};
use shm_transport::park::FutexPark;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

#[cfg(feature = "tokio")]
#[path = "event/tokio.rs"]
mod in_tokio;

/// A park whose sleeps end by a wake alone: the bridge never writes for no reason.
type Strict = Counting<FutexPark>;

fn strict() -> Strict {
    Counting::unbounded(FutexPark::new())
}

/// As a crate would write it: what owns the mapping, and knows where in it the word is.
struct InShared(Arc<Shared>);

impl HoldsWord for InShared {
    fn word(&self) -> &WakeWord {
        self.0.word(0)
    }
}

fn readable(fd: impl AsFd, timeout: Duration) -> bool {
    let timeout = Timespec::try_from(timeout).unwrap();
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)).unwrap() == 1
}

fn readable_now(fd: impl AsFd) -> bool {
    readable(fd, Duration::ZERO)
}

/// Each message is sent only when the one before has arrived, so that the consumer sleeps
/// before most of them, and every wake is needed.
#[test]
fn no_wake_is_lost() {
    let (word, park) = (Arc::new(WakeWord::new()), strict());
    let mut ready = ReadyFd::with_park(Arc::clone(&word), park.clone()).unwrap();
    let mut there = SpscRing::<u32, 4>::new();
    let mut back = SpscRing::<u32, 4>::new();
    let (mut producer, mut consumer) = there.split();
    let (mut answer, mut answered) = back.split();
    let answers = &WakeWord::new();
    let count = 3000;
    thread::scope(|scope| {
        let (park, word) = (&park, &word);
        scope.spawn(move || {
            let (mut notifier, mut waiter) = (word.notifier(), answers.waiter());
            for n in 0..count {
                producer.push(n).unwrap();
                notifier.notify(park);
                // Now and then a second, which may or may not come in time for the first.
                if n % 3 == 0 {
                    producer.push(n).unwrap();
                    notifier.notify(park);
                }
                let deadline = shm_primitives::wake::Deadline::after(park, PATIENCE);
                assert_eq!(answered.pop_wait(&mut waiter, park, deadline), Ok(n));
            }
        });
        let mut notifier = answers.notifier();
        let (mut next, mut extra) = (0, 0);
        while next < count {
            assert!(readable(&ready, PATIENCE), "the wake for {next} is lost");
            ready.clear().unwrap();
            loop {
                while let Ok(n) = consumer.pop() {
                    if n == next {
                        next += 1;
                        answer.push(n).unwrap();
                        notifier.notify(park);
                    } else {
                        assert_eq!(n + 1, next);
                        extra += 1;
                    }
                }
                if !ready.arm(|| !consumer.is_empty()) {
                    break;
                }
            }
        }
        while extra < count.div_ceil(3) {
            extra += u32::from(consumer.pop().is_ok());
        }
    });
}

/// Several notifiers, each with a ring of its own.
#[test]
fn several_senders() {
    let (word, park) = (Arc::new(WakeWord::new()), strict());
    let mut ready = ReadyFd::with_park(Arc::clone(&word), park.clone()).unwrap();
    let mut rings = [const { SpscRing::<u32, 4096>::new() }; 3];
    let mut consumers = Vec::new();
    thread::scope(|scope| {
        for ring in &mut rings {
            let (mut producer, consumer) = ring.split();
            consumers.push((consumer, 0));
            let (word, park) = (&word, &park);
            scope.spawn(move || {
                let mut notifier = word.shared_notifier();
                for n in 0..2000 {
                    producer.push(n).unwrap();
                    notifier.notify(park);
                    if n % 16 == 0 {
                        thread::yield_now();
                    }
                }
            });
        }
        while consumers.iter().any(|(_, next)| *next < 2000) {
            assert!(readable(&ready, PATIENCE), "a wake is lost");
            ready.clear().unwrap();
            while {
                for (consumer, next) in &mut consumers {
                    while let Ok(n) = consumer.pop() {
                        assert_eq!(n, *next);
                        *next += 1;
                    }
                }
                ready.arm(|| consumers.iter_mut().any(|(consumer, _)| !consumer.is_empty()))
            } {}
        }
    });
}

/// Readable at first, until cleared; then when something comes, until cleared.
#[test]
fn it_is_level_triggered() {
    let (word, park) = (Arc::new(WakeWord::new()), strict());
    let mut ready = ReadyFd::with_park(Arc::clone(&word), park.clone()).unwrap();
    let mut notifier = word.notifier();
    assert!(readable_now(&ready) && readable_now(&ready), "the first look is the consumer's");
    for _ in 0..3 {
        ready.clear().unwrap();
        assert!(!readable_now(&ready));
        ready.clear().unwrap();
        assert!(!ready.arm(|| false));
        assert!(!readable_now(&ready), "nothing came");
        notifier.notify(&park);
        assert!(readable(&ready, PATIENCE));
        assert!(readable_now(&ready) && readable_now(&ready), "until it is cleared");
    }
}

/// A consumer that has not armed, or has been told to go on, is awake: nobody wakes it.
#[test]
fn an_awake_consumer_costs_no_call() {
    let (word, park) = (Arc::new(WakeWord::new()), strict());
    let mut ready = ReadyFd::with_park(Arc::clone(&word), park.clone()).unwrap();
    let mut notifier = word.shared_notifier();
    let mut other = word.shared_notifier();
    ready.clear().unwrap();
    eventually("the thread does not sleep", || park.calls().0 == 1);
    let silent = |ready: &ReadyFd<Arc<WakeWord>, Strict>, wakes| {
        park.calls() == (wakes + 1, wakes) && !readable_now(ready)
    };
    notifier.notify(&park);
    assert!(silent(&ready, 0), "it has not armed");
    assert!(ready.arm(|| true));
    notifier.notify(&park);
    assert!(silent(&ready, 0), "it found something, and goes on");
    let mut looks = 0;
    assert!(ready.arm(|| {
        looks += 1;
        looks == 2
    }));
    notifier.notify(&park);
    assert!(silent(&ready, 0), "it found something at the second look");

    // Armed, one wake for a burst of each notifier; cleared, none.
    assert!(!ready.arm(|| false));
    (0..10).for_each(|_| notifier.notify(&park));
    assert_eq!(park.calls().1, 1);
    assert!(readable(&ready, PATIENCE));
    eventually("the thread does not sleep again", || park.calls().0 == 2);
    ready.clear().unwrap();
    (0..10).for_each(|_| notifier.notify(&park));
    (0..10).for_each(|_| other.notify(&park));
    assert!(silent(&ready, 1), "awake");

    // Armed again without a clear between: as good as the first time.
    assert!(!ready.arm(|| false));
    assert!(!ready.arm(|| false));
    notifier.notify(&park);
    assert!(readable(&ready, PATIENCE));
    assert_eq!(park.calls().1, 2);
    // And something found while armed ends that.
    assert!(ready.arm(|| true));
    other.notify(&park);
    assert_eq!(park.calls().1, 2);
}

/// A sender that died between publishing and waking is found at the bound of the thread's sleep.
#[test]
fn a_sender_killed_before_it_wakes() {
    let shared = Arc::new(Shared::new());
    let mut ready = ReadyFd::new(InShared(Arc::clone(&shared))).unwrap();
    let mut reader = shared.ring(0).claim_reader(owner(1)).unwrap();
    let mut peer = shared.start("publish_and_die");
    loop {
        assert!(readable(&ready, PATIENCE), "the message is lost");
        ready.clear().unwrap();
        if ready.arm(|| !reader.is_empty()) {
            break;
        }
    }
    assert_eq!(&*reader.read().unwrap(), b"last words");
    assert!(!peer.ends_well(), "it was killed");
}

#[test]
#[ignore = "run by others in a process of its own"]
fn publish_and_die() {
    let Some(shared) = Shared::inherited() else { return };
    let mut writer = shared.ring(0).claim_writer(owner(2)).unwrap();
    eventually("nobody sleeps", || shared.epoch(0).load(Relaxed) % 2 == 1);
    writer.push(b"last words").unwrap();
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
        .unwrap();
}

/// From another process, which does not know that it is a bridge that waits.
#[test]
fn between_processes() {
    let shared = Arc::new(Shared::new());
    let mut ready = ReadyFd::with_park(InShared(Arc::clone(&shared)), strict()).unwrap();
    let mut reader = shared.ring(0).claim_reader(owner(1)).unwrap();
    let mut peer = shared.start("count");
    let mut next = 0u32;
    while next < 100 {
        assert!(readable(&ready, PATIENCE), "the wake for {next} is lost");
        ready.clear().unwrap();
        while {
            while let Ok(frame) = reader.read() {
                assert_eq!(*frame, next.to_le_bytes());
                frame.release();
                next += 1;
            }
            ready.arm(|| !reader.is_empty())
        } {}
    }
    assert!(peer.ends_well());
}

#[test]
#[ignore = "run by others in a process of its own"]
fn count() {
    let Some(shared) = Shared::inherited() else { return };
    let mut writer = shared.ring(0).claim_writer(owner(2)).unwrap();
    let mut notifier = shared.word(0).notifier();
    for n in 0..100u32 {
        // Half of them while the other sleeps.
        if n % 2 == 0 {
            eventually("nobody sleeps", || shared.epoch(0).load(Relaxed) % 2 == 1);
        }
        writer.push(&n.to_le_bytes()).unwrap();
        notifier.notify(&FutexPark::new());
    }
}

/// Dropped, the thread is gone, and what held the word is given back; also if the sleep has no
/// other end, and if it has not begun.
#[test]
fn a_drop_ends_the_thread() {
    let (sender, receiver) = std::sync::mpsc::channel();
    // In a thread of its own: a drop that hangs fails.
    thread::spawn(move || {
        for round in 0..200 {
            let (word, park) = (Arc::new(WakeWord::new()), strict());
            let mut ready = ReadyFd::with_park(Arc::clone(&word), park.clone()).unwrap();
            if round % 2 == 0 {
                eventually("the thread does not sleep", || park.calls().0 == 1);
                assert!(!ready.arm(|| false));
            }
            drop(ready);
            assert_eq!((Arc::strong_count(&word), Arc::strong_count(&park.counts)), (1, 1));
            // Nobody is said to sleep.
            let wakes = park.calls().1;
            word.notifier().notify(&park);
            assert_eq!(park.calls().1, wakes);
        }
        sender.send(()).unwrap();
    });
    receiver.recv_timeout(PATIENCE).expect("a drop does not end, or failed");
}

/// Signals are for other threads: the bridge's has all blocked that can be, and its maker none
/// that were not.
#[test]
fn its_thread_blocks_signals() {
    use std::{fs, path::Path};
    // None of a thread that has ended.
    let blocked = |path: &Path| {
        let status = fs::read_to_string(path.join("status")).ok()?;
        let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:"))?.trim();
        Some(u64::from_str_radix(mask, 16).unwrap())
    };
    let own = Path::new("/proc/thread-self");
    let before = blocked(own);
    let ready = ReadyFd::new(Arc::new(WakeWord::new())).unwrap();
    assert_eq!(blocked(own), before);
    // Each that there is at the moment, those of other tests too; this one's gets its name soon.
    let bridges = || {
        let tasks = fs::read_dir("/proc/self/task").unwrap().flatten().map(|task| task.path());
        let name = |path: &Path| fs::read_to_string(path.join("comm")).unwrap_or_default();
        tasks.filter(move |path| name(path).trim() == "shm-event").filter_map(|path| blocked(&path))
    };
    eventually("no thread has the name", || bridges().next().is_some());
    for mask in bridges() {
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1, libc::SIGCHLD] {
            assert_ne!(mask & 1 << (signal - 1), 0, "signal {signal}");
        }
    }
    drop(ready);
}

/// What stands in the word, and who scribbles over it, costs time.
#[test]
fn a_scribbling_peer() {
    let shared = Arc::new(Shared::new());
    let mut ready = ReadyFd::new(InShared(Arc::clone(&shared))).unwrap();
    let (epoch, park) = (shared.epoch(0), FutexPark::new());
    let there = &std::sync::atomic::AtomicU32::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut notifier = shared.word(0).notifier();
            for n in 1..=50u32 {
                there.store(n, std::sync::atomic::Ordering::Release);
                epoch.store(n.wrapping_mul(0x9e37_79b9), Relaxed);
                notifier.notify(&park);
                thread::sleep(Duration::from_micros(200));
            }
        });
        while there.load(Relaxed) < 50 {
            assert!(readable(&ready, PATIENCE));
            ready.clear().unwrap();
            let seen = there.load(Relaxed);
            ready.arm(|| there.load(Relaxed) != seen);
        }
    });
}

/// The park is the one that was given.
#[test]
fn a_private_park() {
    let word = Arc::new(WakeWord::new());
    let park = FutexPark::private();
    let mut ready = ReadyFd::with_park(Arc::clone(&word), Counting::unbounded(park)).unwrap();
    ready.clear().unwrap();
    assert!(!ready.arm(|| false));
    word.notifier().notify(&park);
    assert!(readable(&ready, PATIENCE));
    assert!(park.spins());
}
