//! What a child by `fork` is not to have, and not to give back.

use rustix::process::getpid;
use std::cell::UnsafeCell;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

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

unsafe extern "C" fn prepare() {
    let guard = lock();
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
    let known = KNOWN.load(Acquire);
    // SAFETY: null, or a word that is never taken away.
    match unsafe { known.as_ref() }.map(|word| word.load(Relaxed)) {
        None | Some(0) => ask(),
        Some(known) => Process(known),
    }
}

#[cold]
fn ask() -> Process {
    register();
    let pid = getpid().as_raw_nonzero().get().cast_unsigned();
    let this = u64::from(pid) << 32 | u64::from(FORKS.load(Relaxed));
    // Without a lock, which a child might find taken: should two threads come here first, one page
    // too many stays.
    if KNOWN.load(Acquire).is_null()
        && let Some(word) = memory_of_one_process()
    {
        let word = std::ptr::from_ref(word).cast_mut();
        let _ = KNOWN.compare_exchange(std::ptr::null_mut(), word, Release, Relaxed);
    }
    // SAFETY: null, or a word that is never taken away.
    if let Some(word) = unsafe { KNOWN.load(Acquire).as_ref() } {
        word.store(this, Relaxed);
    }
    Process(this)
}

/// Where the answer stands, once it is known; 0 there before. Where there is no such memory the
/// kernel is asked each time.
static KNOWN: AtomicPtr<AtomicU64> = AtomicPtr::new(std::ptr::null_mut());

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
    FORKS.store(FORKS.load(Relaxed).wrapping_add(1), Relaxed);
    // SAFETY: as this function.
    unsafe { resume() };
}

/// In the parent, and in the child, whose only thread is the one that forked.
unsafe extern "C" fn resume() {
    // SAFETY: this thread holds the gate, since `prepare`.
    drop(unsafe { (*HELD.0.get()).take() });
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

fn register() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // SAFETY: functions without arguments, which live as long as the process does. If libc
        // has no memory left for the entry, forks are not held up: what is written above of the
        // bare system call holds for them then.
        unsafe { libc::pthread_atfork(Some(prepare), Some(resume), Some(resume_in_child)) };
    });
}
