//! What a child by `fork` is not to have, and not to give back.

use rustix::process::getpid;
use std::cell::{Cell, UnsafeCell};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64};
use std::sync::{Mutex, MutexGuard, PoisonError};

static GATE: Mutex<()> = Mutex::new(());

/// The gate's guard, from before a fork until after it.
struct Held(UnsafeCell<Option<MutexGuard<'static, ()>>>);

// SAFETY: only who holds GATE touches it: `prepare` after it has got the guard, `resume` before
// it gives the guard back, which one thread does before and after its own fork.
unsafe impl Sync for Held {}

static HELD: Held = Held(UnsafeCell::new(None));

fn lock() -> MutexGuard<'static, ()> {
    GATE.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    /// Whether this thread has shut the gate to fork. The child's only thread is a copy of it, with
    /// this word too.
    static FORKING: Cell<bool> = const { Cell::new(false) };
}

/// These may be registered more than once, see [`register`]: the first of each kind that is called
/// does it.
unsafe extern "C" fn prepare() {
    if FORKING.get() {
        return;
    }
    let guard = lock();
    FORKING.set(true);
    // SAFETY: this thread holds the gate.
    unsafe { *HELD.0.get() = Some(guard) };
}

/// How many forks this process is away from the one that loaded its program. Its own memory:
/// nobody else sees it.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// What a child made by `fork` does not share with its parent, to know what of its memory is only
/// a copy of the parent's. Its pid alone it may share: the first process of each pid namespace is
/// number 1. So it is the pid and the forks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Process(u64);

/// This one.
///
/// Asked for each message, so that it makes no system call but for the first time in a process.
#[inline]
pub(crate) fn this_process() -> Process {
    match known().map(|word| word.load(Relaxed)) {
        None | Some(0) => ask(),
        Some(known) => Process(known),
    }
}

#[cold]
fn ask() -> Process {
    register();
    let pid = getpid().as_raw_nonzero().get().cast_unsigned();
    let this = u64::from(pid) << 32 | u64::from(FORKS.load(Relaxed));
    if known().is_none() {
        make_known();
    }
    if let Some(word) = known().filter(|word| !std::ptr::eq(*word, &NO_MEMORY)) {
        word.store(this, Relaxed);
    }
    Process(this)
}

/// Where the answer stands once it is known; 0 before. Null before it was
/// first asked for. No `OnceLock`: a fork may be made while another thread is just making this,
/// and would wait for that thread, which it has not.
static KNOWN: AtomicPtr<AtomicU64> = AtomicPtr::new(std::ptr::null_mut());

/// What stands there where there is no such memory: nothing, so that the kernel is asked each time.
static NO_MEMORY: AtomicU64 = AtomicU64::new(0);

#[inline]
fn known() -> Option<&'static AtomicU64> {
    // SAFETY: null, or a word that lives as long as the process, whose making happened before.
    unsafe { KNOWN.load(Acquire).as_ref() }
}

fn make_known() {
    let made = memory_of_one_process().unwrap_or(&NO_MEMORY);
    let word = std::ptr::from_ref(made).cast_mut();
    // One of another thread that was faster is as good, and this page is one too many then.
    let _ = KNOWN.compare_exchange(std::ptr::null_mut(), word, Release, Relaxed);
}

/// A word that the kernel makes zero in each child that has a copy of this memory: by whatever
/// call it is made.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn memory_of_one_process() -> Option<&'static AtomicU64> {
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
    let length = rustix::param::page_size();
    let both = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: mapped where nothing is.
    let page =
        unsafe { mmap_anonymous(std::ptr::null_mut(), length, both, MapFlags::PRIVATE) }.ok()?;
    // SAFETY: the page just mapped, which nobody knows; zero is a value of the word.
    unsafe {
        // Before Linux 4.14 there is no such advice.
        if madvise(page, length, Advice::LinuxWipeOnFork).is_err() {
            let _ = munmap(page, length);
            return None;
        }
        Some(&*page.cast::<AtomicU64>())
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn memory_of_one_process() -> Option<&'static AtomicU64> {
    None
}

unsafe extern "C" fn resume_in_child() {
    if FORKING.get() {
        FORKS.store(FORKS.load(Relaxed).wrapping_add(1), Relaxed);
    }
    // SAFETY: as this function.
    unsafe { resume() };
}

/// In the parent, and in the child, whose only thread is the one that forked.
unsafe extern "C" fn resume() {
    // Once it is open another thread may have shut it.
    if FORKING.replace(false) {
        // SAFETY: this thread holds the gate, since `prepare`.
        drop(unsafe { (*HELD.0.get()).take() });
    }
}

/// Runs `f` while no thread of this process is within `fork`.
///
/// That is, libc's `fork`, and what is made of it. `posix_spawn` and `vfork` do not count: their
/// child shares this process's memory, and execs, which closes the descriptor. A bare `clone`
/// system call is not held up; neither is a fork that began before the first call of this.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn without_forks<T>(f: impl FnOnce() -> T) -> T {
    register();
    let _gate = lock();
    f()
}

/// Whether the functions are registered. No `Once`, for the same reason as above.
static REGISTERED: AtomicBool = AtomicBool::new(false);

/// Registers the functions, unless that is done.
///
/// It may be done more than once: two threads may come at the same time, and a fork of a process
/// whose other thread was just about it does not know how far that one had come. Twice does no
/// harm. That a thread went on while another has not done it yet would: a fork made then has the
/// descriptors that it must not have.
fn register() {
    if REGISTERED.load(Acquire) {
        return;
    }
    // SAFETY: functions without arguments, which live as long as the process does.
    let refused =
        unsafe { libc::pthread_atfork(Some(prepare), Some(resume), Some(resume_in_child)) };
    // If libc has no memory left for the entry, forks are not held up for now: what is written above
    // of the bare system call holds for them then.
    if refused == 0 {
        REGISTERED.store(true, Release);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
    use std::process::Command;
    use std::time::{Duration, Instant};

    /// A fork that is made while another thread asks for the first time does not wait for that
    /// thread, which it has not.
    #[test]
    fn a_fork_while_it_is_first_asked() {
        const TEST: &str = "fork::tests::a_fork_while_it_is_first_asked";
        const ROUND: &str = "SHM_TEST_ROUND";
        if let Ok(round) = std::env::var(ROUND) {
            return fork_while_it_is_asked(round.parse().unwrap());
        }
        for round in 0..8 {
            let mut alone = Command::new(std::env::current_exe().unwrap());
            alone.args([TEST, "--exact", "--nocapture", "--test-threads=1"]);
            let done = alone.env(ROUND, round.to_string()).output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        }
    }

    fn fork_while_it_is_asked(round: u32) {
        take_time_to_fork();
        let (there, begin) = (&AtomicU32::new(0), &AtomicU32::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                there.store(1, Relaxed);
                while begin.load(Relaxed) == 0 {}
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_micros(50) * round {}
                this_process();
            });
            while there.load(Relaxed) == 0 {
                std::thread::yield_now();
            }
            begin.store(1, Relaxed);
            // SAFETY: the child calls what is made for it, and ends.
            let child = unsafe { libc::fork() };
            if child == 0 {
                // SAFETY: ends this child, if it hangs too.
                unsafe { libc::alarm(20) };
                let found = this_process();
                // SAFETY: as above.
                unsafe {
                    libc::_exit(i32::from(!found.has_pid(getpid()) || found != this_process()))
                };
            }
            let mut status = 0;
            // SAFETY: our own child, and a word for its status.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert_eq!(status, 0, "14: it has hung");
        });
        assert!(this_process().has_pid(getpid()));
    }

    impl Process {
        fn has_pid(self, pid: rustix::process::Pid) -> bool {
            self.0 >> 32 == u64::from(pid.as_raw_nonzero().get().cast_unsigned())
        }
    }

    /// Memory that is copied before that of the program: so long is whoever maps something kept
    /// waiting by the kernel.
    fn take_time_to_fork() {
        let (low, length) = (std::ptr::without_provenance_mut(1 << 32), 64 << 20);
        let (both, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::FIXED_NOREPLACE);
        // SAFETY: mapped where nothing is; nobody else knows of it.
        unsafe {
            let memory = mmap_anonymous(low, length, both, MapFlags::PRIVATE | flags).unwrap();
            madvise(memory, length, Advice::LinuxNoHugepage).unwrap();
            memory.cast::<u8>().write_bytes(1, length);
        }
    }

    /// Runs `f` in a process of its own that runs no other test, and is ended if it hangs.
    fn alone(test: &str, f: impl FnOnce()) {
        const ALONE: &str = "SHM_TEST_ALONE";
        if std::env::var_os(ALONE).is_none() {
            let mut alone = Command::new(std::env::current_exe().unwrap());
            alone.args([test, "--exact", "--nocapture", "--test-threads=1"]);
            let done = alone.env(ALONE, test).output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            return;
        }
        // SAFETY: ends this process.
        unsafe { libc::alarm(20) };
        f();
    }

    /// Forks while another thread is in [`without_forks`]; what `in_child` answers.
    fn fork_beside_one_who_shuts_the_gate(in_child: impl FnOnce() -> bool) {
        let shut = &AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                without_forks(|| {
                    shut.store(true, Release);
                    // Long enough that a fork which is not held up finds it shut.
                    std::thread::sleep(Duration::from_millis(200));
                    shut.store(false, Release);
                });
            });
            while !shut.load(Acquire) {
                std::thread::yield_now();
            }
            // SAFETY: the child calls what is made for it, and ends.
            let child = unsafe { libc::fork() };
            if child == 0 {
                // SAFETY: ends this child, if it hangs too.
                unsafe { libc::alarm(10) };
                let held_up = !shut.load(Acquire);
                // SAFETY: as above.
                unsafe { libc::_exit(if held_up { i32::from(!in_child()) } else { 2 }) };
            }
            let mut status = 0;
            // SAFETY: our own child, and a word for its status.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert_eq!(status, 0, "14: it has hung; 512: it was made while the gate was shut");
        });
    }

    /// Threads that come at the same time, and forks made meanwhile, register more than once.
    #[test]
    fn registered_more_than_once() {
        alone("fork::tests::registered_more_than_once", || {
            for _ in 0..3 {
                REGISTERED.store(false, Relaxed);
                this_process();
                register();
            }
            let before = this_process();
            let mine =
                || without_forks(|| this_process() != before && this_process().has_pid(getpid()));
            fork_beside_one_who_shuts_the_gate(mine);
            fork_beside_one_who_shuts_the_gate(|| {
                // Its own forks are held up as well, and do not hang.
                REGISTERED.store(false, Relaxed);
                fork_beside_one_who_shuts_the_gate(mine);
                mine()
            });
            assert_eq!(this_process(), before);
            without_forks(|| ());
        });
    }
}
