//! The lock lives as long as the memory of the process that took it.

use crate::child::{Child, Memory, signal_to, soon};
use shm_transport::liveness::{ByteLock, is_locked};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;

/// Far beyond the file's end: the last byte that an owner word names.
const LAST: u64 = u32::MAX as u64;

fn memory() -> Memory {
    Memory::new(4096)
}

#[test]
fn one_at_a_time_and_no_other_byte() {
    let memory = memory();
    let lock = ByteLock::take(memory.as_fd(), LAST).unwrap().unwrap();
    assert!(memory.is_locked(LAST) && !memory.is_locked(LAST - 1) && !memory.is_locked(0));
    assert!(ByteLock::take(memory.as_fd(), LAST).unwrap().is_none(), "not even for ourselves");
    assert!(memory.is_locked(LAST), "a refused one takes nothing away");
    drop(lock);
    soon("the lock has fallen", || !memory.is_locked(LAST));
    assert!(ByteLock::take(memory.as_fd(), LAST).unwrap().is_some());
}

#[test]
fn no_descriptor_of_it_is_open() {
    // Descriptors of one file are counted, since other tests open and close others meanwhile.
    let memory = memory();
    let count = || {
        let own = std::fs::read_link(memory.path()).unwrap();
        let inode = |path: &PathBuf| std::fs::metadata(path).map(|file| inode_of(&file)).ok();
        let wanted = inode(&memory.path());
        let all = std::fs::read_dir("/proc/self/fd").unwrap();
        let same = all.filter_map(|entry| {
            let path = entry.unwrap().path();
            let leads_to = std::fs::read_link(&path).ok()?;
            (leads_to == own && inode(&path) == wanted).then_some(())
        });
        same.count()
    };
    assert_eq!(count(), 1);
    let _lock = ByteLock::take(memory.as_fd(), 1).unwrap().unwrap();
    assert_eq!(count(), 1);
}

fn inode_of(file: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(file)
}

#[test]
fn who_may_only_read_can_look() {
    let memory = memory();
    let _lock = ByteLock::take(memory.as_fd(), 7).unwrap().unwrap();
    let looking = File::open(memory.path()).unwrap();
    assert!(is_locked(looking.as_fd(), 7).unwrap());
}

#[test]
fn a_killed_process_has_none() {
    let memory = memory();
    let mut child = Child::start(&memory.path());
    assert_eq!(child.ask(&format!("take {LAST}")), "true");
    assert!(memory.is_locked(LAST));
    assert!(ByteLock::take(memory.as_fd(), LAST).unwrap().is_none());
    child.kill();
    soon("the lock has fallen", || !memory.is_locked(LAST));
}

#[test]
fn a_zombie_has_none() {
    let memory = memory();
    let mut child = Child::start(&memory.path());
    assert_eq!(child.ask("take 5"), "true");
    child.signal(libc::SIGKILL);
    soon("the lock has fallen", || !memory.is_locked(5));
    // It is there yet: nobody has asked for its status.
    signal_to(child.pid(), 0);
}

#[test]
fn a_stopped_process_keeps_it() {
    let memory = memory();
    let mut child = Child::start(&memory.path());
    assert_eq!(child.ask("take 5"), "true");
    child.signal(libc::SIGSTOP);
    let stat = format!("/proc/{}/stat", child.pid());
    soon("it is stopped", || std::fs::read_to_string(&stat).unwrap().contains(") T "));
    assert!(memory.is_locked(5));
    child.signal(libc::SIGCONT);
    assert_eq!(child.ask("look 5"), "true");
    assert!(memory.is_locked(5));
    // And one that is killed while it is stopped does not.
    child.signal(libc::SIGSTOP);
    child.kill();
    soon("the lock has fallen", || !memory.is_locked(5));
}

#[test]
fn a_stranger_has_none_after_its_death() {
    let memory = memory();
    let mut child = Child::start(&memory.path());
    let stranger: u32 = child.ask("stranger").parse().unwrap();
    assert_eq!(child.process.wait().unwrap().code(), Some(0));
    // The same pipes, another process: nobody's child that we know.
    assert_eq!(child.ask("take 9"), "true");
    assert!(memory.is_locked(9));
    signal_to(stranger, libc::SIGKILL);
    soon("the lock has fallen", || !memory.is_locked(9));
}

#[test]
fn a_fork_inherits_nothing() {
    let memory = memory();
    let mut child = Child::start(&memory.path());
    assert_eq!(child.ask("take 5"), "true");
    let fork: u32 = child.ask("fork").parse().unwrap();
    child.kill();
    soon("the lock has fallen", || !memory.is_locked(5));
    signal_to(fork, 0);
}

#[test]
fn a_fork_that_drops_its_copy_gives_nothing_up() {
    let memory = memory();
    let mut child = Child::start(&memory.path());
    assert_eq!(child.ask("take 5"), "true");
    assert_eq!(child.ask("fork-and-drop"), "0", "it unmapped what is not its own");
    assert!(memory.is_locked(5));
}

#[test]
fn forks_meanwhile_inherit_nothing() {
    const LOCKS: u64 = 2000;
    let memory = memory();
    let mut child = Child::start(&memory.path());
    let forks = child.ask(&format!("take-among-forks 1 {LOCKS}"));
    assert!((1..=LOCKS).all(|byte| memory.is_locked(byte)));
    child.kill();
    soon("all locks have fallen", || (1..=LOCKS).all(|byte| !memory.is_locked(byte)));
    for fork in forks.split_ascii_whitespace() {
        signal_to(fork.parse().unwrap(), 0);
    }
}

#[test]
fn another_program_in_the_same_process_has_none() {
    let memory = memory();
    let mut child = Child::start(&memory.path());
    let before = child.identity();
    assert_eq!(child.ask("take 5"), "true");
    assert_eq!(child.ask("start"), "5", "a child of its own makes no difference");
    child.tell("exec");
    soon("the lock has fallen", || !memory.is_locked(5));
    assert_eq!(child.identity(), before);
    assert_eq!(child.ask("look 5"), "false");
}

#[test]
fn a_thread_is_no_process() {
    let memory = memory();
    let mut child = Child::start(&memory.path());
    assert_eq!(child.ask("take-in-thread 5"), "taken");
    assert!(memory.is_locked(5), "the thread that took it has ended");
    assert_eq!(child.ask("end-first-thread"), "still here");
    assert_eq!(child.hear(), "true");
    let stat = format!("/proc/{}/stat", child.pid());
    soon("its first thread has ended", || std::fs::read_to_string(&stat).unwrap().contains(") Z "));
    assert!(memory.is_locked(5));
    child.kill();
    soon("the lock has fallen", || !memory.is_locked(5));
}

/// A process in a pid namespace of its own; `None` where that is not permitted.
pub fn contained(memory: &Memory) -> Option<Child> {
    let mut child = Child::start_as("unshare", &memory.path());
    let answer = child.hear();
    if answer == "unshared" {
        return Some(child);
    }
    eprintln!("SKIPPED: a pid namespace of its own is not permitted here: {answer}");
    None
}

#[test]
fn across_pid_namespaces() {
    let memory = memory();
    let Some(mut inside) = contained(&memory) else { return };
    let mut outside = Child::start(&memory.path());
    assert_eq!(inside.ask("take 5"), "true");
    assert_eq!(outside.ask("take 6"), "true");
    assert!(memory.is_locked(5));
    assert_eq!((inside.ask("look 6"), inside.ask("look 7")), ("true".into(), "false".into()));
    outside.kill();
    soon("seen from inside", || !memory.is_locked(6));
    assert_eq!(inside.ask("look 6"), "false");

    let there = inside.identity();
    assert_eq!(there.pid, 1);
    // Killed by its number here.
    let tasks = std::fs::read_dir(format!("/proc/{}/task", inside.pid())).unwrap();
    let children = tasks.map(|task| task.unwrap().path().join("children"));
    let numbers: String = children.map(|list| std::fs::read_to_string(list).unwrap()).collect();
    signal_to(numbers.trim().parse().unwrap(), libc::SIGKILL);
    soon("seen from outside", || !memory.is_locked(5));
}

#[test]
fn a_file_of_the_same_name_is_another_file() {
    let path = PathBuf::from(format!("/dev/shm/liveness-test-{}", std::process::id()));
    let create = || File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    let old = create();
    let lock = ByteLock::take(old.as_fd(), 5).unwrap().unwrap();
    std::fs::remove_file(&path).unwrap();
    // Without a name it can be opened anew all the same.
    assert!(ByteLock::take(old.as_fd(), 5).unwrap().is_none());
    let new = create();
    assert!(is_locked(old.as_fd(), 5).unwrap() && !is_locked(new.as_fd(), 5).unwrap());
    assert!(ByteLock::take(new.as_fd(), 5).unwrap().is_some());
    std::fs::remove_file(&path).unwrap();
    drop(lock);
}

#[test]
fn a_file_that_may_not_be_written_cannot_be_locked() {
    use shm_transport::liveness::LivenessError;
    let read_only = File::open("/proc/self/exe").unwrap();
    let error = ByteLock::take(read_only.as_fd(), 0).unwrap_err();
    assert!(matches!(error, LivenessError::Reopen { .. }), "{error}");
    assert!(error.to_string().contains("writable"));
}

#[test]
fn programs_started_meanwhile_inherit_nothing() {
    let memory = memory();
    let take = |byte| drop(ByteLock::take(memory.as_fd(), byte).unwrap().unwrap());
    let (programs, taken) = std::thread::scope(|scope| {
        let start = || Command::new("sleep").arg("60").spawn().unwrap();
        let starter = scope.spawn(move || (0..64).map(|_| start()).collect::<Vec<_>>());
        let mut taken = 0;
        while !starter.is_finished() {
            taken += 1;
            take(taken);
        }
        (starter.join().unwrap(), taken)
    });
    // Not at once: a starter goes on when its child has the new program's memory, and the kernel
    // closes the descriptors after that.
    soon("nothing is kept", || !(1..=taken).any(|byte| memory.is_locked(byte)));
    for mut program in programs {
        program.kill().unwrap();
        program.wait().unwrap();
    }
}

#[test]
fn a_fork_with_the_same_number_gives_nothing_up() {
    let memory = memory();
    let Some(mut inside) = contained(&memory) else { return };
    assert_eq!(inside.ask("unshare"), "0");
    assert_eq!(inside.ask("take 5"), "true");
    assert_eq!(inside.ask("fork-and-drop"), "0", "it unmapped what is not its own");
    assert!(memory.is_locked(5));
}
