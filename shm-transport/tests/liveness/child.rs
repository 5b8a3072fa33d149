//! Processes that do as they are told.

pub use crate::common::child::{Child, signal_to};

use crate::common::child::say;
use crate::table::{self, Mapped};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use shm_primitives::identity::OwnerId;
use shm_transport::liveness::{
    ByteLock, DeathWatch, LivenessError, Membership, PidFd, ProcessIdentity, is_locked,
};
use std::cell::LazyCell;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::stdin;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};
use std::thread;
use std::time::{Duration, Instant};

/// The variables that make this binary a process that does as it is told.
const ROLE: &str = "LIVENESS_ROLE";
const FILE: &str = "LIVENESS_FILE";
/// Ends whatever has lost its test.
const SECONDS: u32 = 120;

/// A file in shared memory without a name, which processes of this test open through /proc.
pub struct Memory(OwnedFd);

impl Memory {
    pub fn new(size: u64) -> Self {
        let fd = memfd_create("liveness", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&fd, size).unwrap();
        Self(fd)
    }

    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }

    pub fn is_locked(&self, byte: u64) -> bool {
        is_locked(self.as_fd(), byte).unwrap()
    }
}

impl AsFd for Memory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits for what is about to be so; fails if it is not after half a minute.
pub fn soon(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(30), "not so after 30 s: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

impl Child {
    pub fn start(file: &Path) -> Self {
        Self::start_as("", file)
    }

    /// With `unshare` it stands in a new pid namespace.
    pub fn start_as(role: &str, file: &Path) -> Self {
        Self::of(command(role, file))
    }

    /// Which process it says it is.
    pub fn identity(&mut self) -> ProcessIdentity {
        parse(&self.ask("identity"))
    }
}

fn parse(identity: &str) -> ProcessIdentity {
    let mut fields = identity.split(' ').map(|field| field.parse::<u64>().unwrap());
    let mut next = || fields.next().unwrap();
    ProcessIdentity {
        pid: next().try_into().unwrap(),
        start: next(),
        boot: next(),
        namespace: next(),
    }
}

fn command(role: &str, file: &Path) -> Command {
    let mut command = Child::playing("child::role");
    command.env(ROLE, role).env(FILE, file);
    command
}

/// A child that does nothing and holds what a fork leaves it, until the test is over.
fn fork() -> i32 {
    // SAFETY: the child makes system calls alone.
    match unsafe { libc::fork() } {
        0 => {
            let mut byte = 0u8;
            // SAFETY: system calls; the one byte is there.
            unsafe {
                libc::alarm(SECONDS);
                while libc::read(0, (&raw mut byte).cast(), 1) > 0 {}
                libc::_exit(0);
            }
        }
        pid => {
            assert!(pid > 0);
            pid
        }
    }
}

/// A child that has the very memory of this process, as one of `vfork` has before it execs.
fn share() -> i32 {
    extern "C" fn idle(_: *mut libc::c_void) -> i32 {
        // SAFETY: system calls without memory.
        unsafe {
            libc::alarm(SECONDS);
            loop {
                libc::pause();
            }
        }
    }
    let stack = vec![0u128; 4096].leak();
    // SAFETY: a stack that nobody else uses; what runs on it makes two system calls.
    let pid = unsafe {
        let top = stack.as_mut_ptr_range().end.cast();
        libc::clone(idle, top, libc::CLONE_VM | libc::SIGCHLD, std::ptr::null_mut())
    };
    assert!(pid > 0);
    pid
}

/// Not a test, but what the tests start.
#[test]
fn role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    // SAFETY: a system call without memory.
    unsafe { libc::alarm(SECONDS) };
    let path = PathBuf::from(std::env::var_os(FILE).unwrap());
    if role == "unshare" {
        unshared(&path);
    }
    obey(&path);
    exit(0);
}

/// Goes on as the first process of a new pid namespace.
fn unshared(path: &Path) -> ! {
    // SAFETY: no memory, and no effect on this process but on its children.
    if unsafe { libc::unshare(libc::CLONE_NEWPID) } != 0 {
        say(std::io::Error::last_os_error());
        exit(0);
    }
    say("unshared");
    exit(command("", path).status().unwrap().code().unwrap_or(1));
}

fn obey(path: &Path) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let file = file.as_fd();
    let take = |byte: u64| ByteLock::take(file, byte).unwrap();
    // Those who never ask for the table need no room for it.
    let mapped = LazyCell::new(|| Mapped::of(file));
    let table = LazyCell::new(|| mapped.attach(file));
    let table = || &*table;
    let id = |word: u64| OwnerId::from_word(word as u32).unwrap();
    let mut members: HashMap<u32, Membership<'_>> = HashMap::new();
    let mut locks = HashMap::new();
    let mut children = Vec::new();
    for line in stdin().lines() {
        let line = line.unwrap();
        let mut words = line.split(' ');
        let order = words.next().unwrap();
        let mut number = || words.next().unwrap().parse::<u64>().unwrap();
        match order {
            "take" => {
                let byte = number();
                let taken = take(byte).map(|lock| locks.insert(byte, lock)).is_some();
                say(taken);
            }
            "take-in-thread" => {
                let byte = number();
                thread::scope(|scope| {
                    scope.spawn(|| locks.insert(byte, take(byte).unwrap()));
                });
                say("taken");
            }
            "drop" => {
                locks.remove(&number()).unwrap();
                say("dropped");
            }
            "look" => say(is_locked(file, number()).unwrap()),
            "identity" => {
                let this = ProcessIdentity::current().unwrap();
                say(format!("{} {} {} {}", this.pid, this.start, this.boot, this.namespace));
            }
            // From here on its children are in a pid namespace of their own.
            "unshare" => {
                // SAFETY: no memory, and no effect on this process but on its children.
                say(unsafe { libc::unshare(libc::CLONE_NEWPID) });
            }
            "share" => say(share()),
            "fork" => say(fork()),
            // A fork that drops its copies of the locks, as one that unwinds does.
            "fork-and-drop" => {
                let mut theirs = std::mem::take(&mut members);
                // SAFETY: only this thread has locks of anything; the child frees memory, which
                // glibc provides for, and ends.
                let pid = unsafe { libc::fork() };
                if pid == 0 {
                    // What else may stand where the page stood.
                    let page = unmapped_page(&locks);
                    drop(std::mem::take(&mut locks));
                    theirs.clear();
                    // SAFETY: the page mapped here.
                    unsafe { page.write_volatile(1) };
                    // SAFETY: ends the process.
                    unsafe { libc::_exit(0) };
                }
                let mut status = 0;
                // SAFETY: a child of this process's, and a word for its status.
                assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
                members = theirs;
                say(status);
            }
            // A record of our own, and a lock.
            "enrol" => {
                let name = words.next().unwrap();
                // SAFETY: these processes do nothing under their ids.
                let member = unsafe { table().enrol(name) }.unwrap();
                say(member.id().word());
                members.insert(member.id().word(), member);
            }
            "beat" => {
                members.values().for_each(Membership::beat);
                say("beaten");
            }
            "leave" => {
                members.remove(&(number() as u32)).unwrap();
                say("left");
            }
            "convict" => say(table::verdict(table().convict(id(number())).unwrap())),
            "wait-for" => {
                let mut watch = DeathWatch::new(table());
                watch.add(id(number())).unwrap();
                say("waiting");
                let dead = watch.wait(Some(Instant::now() + Duration::from_secs(30))).unwrap();
                say(dead.unwrap().id().word());
            }
            // Comes and goes, at last dies.
            "come-and-go" => {
                for round in 0..number() {
                    // SAFETY: as above.
                    let member = unsafe { table().enrol("guest") }.unwrap();
                    say(member.id().word());
                    if round % 3 == 0 {
                        thread::yield_now();
                    }
                }
                // SAFETY: as above.
                let last = unsafe { table().enrol("dying") }.unwrap();
                say(last.id().word());
                say("last");
                signal_to(std::process::id(), libc::SIGKILL);
            }
            // Locks taken while another thread forks all the time.
            "take-among-forks" => {
                let (first, count) = (number(), number());
                let forks = thread::scope(|scope| {
                    let forker = scope.spawn(|| (0..64).map(|_| fork()).collect::<Vec<_>>());
                    for byte in first..first + count {
                        locks.insert(byte, take(byte).unwrap());
                    }
                    forker.join().unwrap()
                });
                say(forks.iter().fold(String::new(), |mut all, pid| {
                    write!(all, "{pid} ").unwrap();
                    all
                }));
            }
            "exec" => {
                let error = command("", path).exec();
                unreachable!("{error}");
            }
            // A child that outlives this process.
            "stranger" => {
                let child = command("", path).spawn().unwrap();
                say(child.id());
                // It reads what follows.
                std::mem::forget(child);
                exit(0);
            }
            // The thread that the process began with ends; this one goes on.
            "end-first-thread" => {
                extern "C" fn end(_: i32) {
                    // SAFETY: ends the thread, whose memory stays.
                    unsafe { libc::syscall(libc::SYS_exit, 0) };
                }
                let first = i64::from(std::process::id());
                // SAFETY: a handler that makes one system call, and a signal to the thread in
                // which the harness waits for this one.
                unsafe {
                    assert_ne!(i64::from(libc::gettid()), first);
                    let handler = end as extern "C" fn(i32);
                    libc::signal(libc::SIGUSR1, handler as libc::sighandler_t);
                    libc::syscall(libc::SYS_tgkill, first, first, libc::SIGUSR1);
                }
                say("still here");
                let stat = format!("/proc/{first}/task/{first}/stat");
                soon("it has ended", || std::fs::read_to_string(&stat).unwrap().contains(") Z "));
                // What this process opens it finds, though its first thread has nothing open.
                locks.insert(0, take(0).unwrap());
                say(PidFd::open(&ProcessIdentity::current().unwrap()).map(drop).is_ok());
            }
            // The number of a process that has ended is given to another one; in a namespace of
            // our own.
            "reuse" => {
                let mut first = Child::start(path);
                let identity = first.identity();
                let mut answer = vec![PidFd::open(&identity).is_ok().to_string()];
                first.kill();
                // So that it differs in its start at least, of 10 ms.
                thread::sleep(Duration::from_millis(30));
                let last = "/proc/sys/kernel/ns_last_pid";
                if let Err(error) = std::fs::write(last, (identity.pid - 1).to_string()) {
                    say(error);
                    continue;
                }
                let mut second = Child::start(path);
                answer.push((second.identity().pid == identity.pid).to_string());
                let gone = LivenessError::ProcessGone { pid: identity.pid };
                answer.push((PidFd::open(&identity).unwrap_err() == gone).to_string());
                say(answer.join(" "));
            }
            "start" => {
                let mut child = Child::start(path);
                say(child.ask("look 0").len());
                children.push(child);
            }
            _ => unreachable!("{line}"),
        }
    }
}

/// A page of this process's memory where the first of `locks` had its page.
fn unmapped_page(locks: &HashMap<u64, ByteLock>) -> *mut u8 {
    let text = format!("{:?}", locks.values().next().unwrap());
    let digits: String =
        text.split("page: ").nth(1).unwrap().chars().take_while(char::is_ascii_digit).collect();
    let address = digits.parse::<usize>().unwrap() as *mut libc::c_void;
    // SAFETY: refused if anything is mapped there.
    let page = unsafe {
        libc::mmap(
            address,
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
            -1,
            0,
        )
    };
    assert_eq!(page, address, "the page of a lock is inherited");
    page.cast()
}
