//! The thread from the wake word to the eventfd.

use crate::fork::{Process, this_process};
use crate::park::FutexPark;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{Errno, read, write};
use shm_primitives::wake::{Deadline, Park, Relay, RelayedWaiter, WakeWord};
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What the thread needs of its stack is a few hundred bytes.
const STACK: usize = 64 * 1024;
/// Between two attempts to end the thread's sleep, which it may be about to begin.
const AGAIN: Duration = Duration::from_micros(20);

/// What keeps a wake word alive: the mapping it lies in, as a rule.
///
/// A type that owns a mapping finds the word anew at each call, as
/// [`WakeWord::at`] in the part of its region: a few instructions. It has to answer
/// the same word each time; with another, wakes come 100 ms late.
pub trait HoldsWord: Send + Sync + 'static {
    /// The word.
    fn word(&self) -> &WakeWord;
}

impl HoldsWord for WakeWord {
    fn word(&self) -> &WakeWord {
        self
    }
}

impl<T: HoldsWord + ?Sized> HoldsWord for Arc<T> {
    fn word(&self) -> &WakeWord {
        T::word(self)
    }
}

impl<T: HoldsWord + ?Sized> HoldsWord for &'static T {
    fn word(&self) -> &WakeWord {
        T::word(self)
    }
}

/// Why there is no bridge, or none any more.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum EventError {
    /// The kernel made no eventfd.
    #[error("cannot make an eventfd; raise the limit of open files (RLIMIT_NOFILE) or close some")]
    Descriptor(#[source] io::Error),
    /// The kernel made no thread.
    #[error(
        "cannot start the thread that waits; raise the limit of threads (RLIMIT_NPROC, pids.max)"
    )]
    Thread(#[source] io::Error),
    /// The eventfd cannot be read.
    #[error("cannot read the eventfd; somebody has closed a descriptor that was not theirs")]
    Read(#[source] io::Error),
}

/// A descriptor that is readable while something may be there for the waiter of a wake word; see
/// the [module](crate::event).
///
/// For the thread that would wait at the word otherwise; it may be moved to another.
pub struct ReadyFd<W: HoldsWord, P: Park + Send + Sync + 'static = FutexPark> {
    shared: Arc<Shared<W, P>>,
    waiter: RelayedWaiter,
    thread: Option<JoinHandle<()>>,
    /// Whose thread it is.
    process: Process,
}

/// What the thread has too.
struct Shared<W, P> {
    word: W,
    park: P,
    event: OwnedFd,
    stop: AtomicBool,
}

impl<W: HoldsWord> ReadyFd<W> {
    /// Makes the descriptor and starts the thread for a word in memory of several processes.
    ///
    /// # Errors
    ///
    /// The system has no descriptor or no thread left.
    pub fn new(word: W) -> Result<Self, EventError> {
        Self::with_park(word, FutexPark::new())
    }
}

impl<W: HoldsWord, P: Park + Send + Sync + 'static> ReadyFd<W, P> {
    /// The same with the park that the word's notifiers wake by. Its sleeps have to end at a
    /// [`WakeWord::nudge`], or the drop takes as long as one.
    ///
    /// # Errors
    ///
    /// The system has no descriptor or no thread left.
    pub fn with_park(word: W, park: P) -> Result<Self, EventError> {
        // Readable: nobody has looked yet.
        let event = eventfd(1, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|e| EventError::Descriptor(e.into()))?;
        let shared = Arc::new(Shared { word, park, event, stop: AtomicBool::new(false) });
        let waiter = RelayedWaiter::new(shared.word.word());
        let relay = Relay::new(shared.word.word());
        let thread = {
            let shared = Arc::clone(&shared);
            let thread = thread::Builder::new().name("shm-event".into()).stack_size(STACK);
            without_signals(|| thread.spawn(move || shared.run(relay)))
                .map_err(EventError::Thread)?
        };
        Ok(Self { shared, waiter, thread: Some(thread), process: this_process() })
    }

    /// Makes the descriptor unreadable, until something comes. Does not block.
    ///
    /// To be followed by a look at what there is, and by [`arm`](Self::arm).
    ///
    /// # Errors
    ///
    /// `Read`, when the descriptor is not what it was.
    pub fn clear(&mut self) -> Result<(), EventError> {
        let mut count = [0; 8];
        match read(&self.shared.event, &mut count) {
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(EventError::Read(error.into())),
        }
        self.waiter.disarm(self.shared.word.word());
        Ok(())
    }

    /// Looks, with `ready`, whether something is there. True: go on reading. False: wait for the
    /// descriptor, which becomes readable when something comes. Does not block, and makes no
    /// system call.
    ///
    /// To be called before each wait. `ready` has to check what it reads, and say true for
    /// whatever ends the wait: a corrupt position, a peer known to be dead. It is called once or
    /// twice.
    pub fn arm(&mut self, ready: impl FnMut() -> bool) -> bool {
        self.waiter.arm(self.shared.word.word(), ready)
    }

    /// What holds the word.
    pub fn source(&self) -> &W {
        &self.shared.word
    }
}

impl<W: HoldsWord, P: Park> Shared<W, P> {
    /// What the thread does.
    fn run(&self, mut relay: Relay) {
        loop {
            // Changed, or the bound of the sleep, or for no reason: in each case the consumer
            // had better look.
            relay.wait(self.word.word(), &self.park, Deadline::NEVER);
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            // A counter that is full is readable as well.
            let _ = write(&self.event, &1u64.to_ne_bytes());
        }
    }
}

impl<W: HoldsWord, P: Park + Send + Sync + 'static> Drop for ReadyFd<W, P> {
    fn drop(&mut self) {
        if self.process != this_process() {
            // A forked child has neither the thread nor, as a rule, the word.
            std::mem::forget(self.thread.take());
            return;
        }
        let shared = &self.shared;
        self.waiter.disarm(shared.word.word());
        shared.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return };
        // The word is not changed: that is for its notifiers. So a sleep that is about to begin
        // does begin, and is ended by the next nudge.
        while !thread.is_finished() {
            shared.word.word().nudge(&shared.park);
            thread::sleep(AGAIN);
        }
        let _ = thread.join();
    }
}

impl<W: HoldsWord, P: Park + Send + Sync + 'static> AsFd for ReadyFd<W, P> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.event.as_fd()
    }
}

impl<W: HoldsWord, P: Park + Send + Sync + 'static> AsRawFd for ReadyFd<W, P> {
    fn as_raw_fd(&self) -> RawFd {
        self.shared.event.as_raw_fd()
    }
}

impl<W: HoldsWord, P: Park + Send + Sync + 'static> fmt::Debug for ReadyFd<W, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadyFd").field("event", &self.shared.event).finish_non_exhaustive()
    }
}

/// Runs `spawn` with all signals blocked: a thread inherits that.
pub(crate) fn without_signals<T>(spawn: impl FnOnce() -> T) -> T {
    struct Restore(libc::sigset_t);
    impl Drop for Restore {
        fn drop(&mut self) {
            // SAFETY: the set is the one that the thread had.
            unsafe {
                libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut())
            };
        }
    }
    let mut all = MaybeUninit::uninit();
    let mut before = MaybeUninit::uninit();
    // SAFETY: `sigfillset` initialises the first set, and `pthread_sigmask`, which only fails for
    // an operation it does not know, the second.
    let _restore = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        Restore(before.assume_init())
    };
    spawn()
}
