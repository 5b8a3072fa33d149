//! Sleeping on behalf of a waiter that sleeps elsewhere.

use super::waiter::{BOUND, Epoch};
use super::{Deadline, PARKING, Park, RELAYING, WakeWord};
use crate::sync::fence;

/// A waiter that sleeps where a wake word does not reach: in epoll, in an async runtime. A
/// [`Relay`] on another thread of its process sleeps at the word for it, and wakes it in its way.
///
/// Of the two sides of a sleep this one has the epoch, the relay the sequence:
///
/// | waiter | relay | notifier |
/// |---|---|---|
/// | | remembers the sequence | |
/// | stores a fresh odd epoch, **fence** | sleeps while the sequence is what it remembers | publishes, **fence** |
/// | looks again; nothing: sleeps elsewhere | | loads the odd epoch, changes the sequence, wakes |
/// | | reads the sequence, Acquire, remembers it; wakes the waiter | |
/// | looks | | |
///
/// **No wake is lost.** As in the [module](crate::wake), the fences see to it that the waiter
/// finds the message or the notifier the odd epoch. Then it changes the sequence, and the relay
/// wakes the waiter after *every* value that it did not remember, be it asleep when the value
/// comes or not: so it does after this one, which came after the epoch. What the relay may do is
/// wake the waiter once too often, for a change it sees late. A wake that died with its notifier
/// costs 100 ms here too: at each bound of its sleep the relay comes back, and has to wake the
/// waiter in case.
///
/// Neither has a reference to the word; it is given at each call, so that what owns the word can
/// own them too. Give both the same one: with another, nobody is woken.
///
/// It is the word's one waiter. A [`Waiter`](super::Waiter) and a relay asleep at one word would
/// take each other's wakes.
///
/// ```
/// use shm_primitives::wake::{Deadline, Relay, RelayedWaiter, SpinPark, WakeWord};
/// use std::sync::atomic::{AtomicBool, Ordering};
/// use std::sync::mpsc::channel;
///
/// let (word, park) = (WakeWord::new(), SpinPark::new(|| 0));
/// let published = AtomicBool::new(false);
/// let mut waiter = RelayedWaiter::new(&word);
/// let mut relay = Relay::new(&word);
/// let (ring, bell) = channel();
/// std::thread::scope(|scope| {
///     // Nothing there yet: from now on a change of the word is answered.
///     assert!(!waiter.arm(&word, || published.load(Ordering::Acquire)));
///     scope.spawn(|| {
///         // Whatever it says: a notifier may have died before it changed the word.
///         relay.wait(&word, &park, Deadline::NEVER);
///         ring.send(()).unwrap(); // an eventfd's write, in a process
///     });
///     published.store(true, Ordering::Release);
///     word.notifier().notify(&park);
///     bell.recv().unwrap(); // epoll
///     waiter.disarm(&word);
///     assert!(published.load(Ordering::Acquire));
/// });
/// ```
#[derive(Debug)]
pub struct RelayedWaiter {
    epoch: Epoch,
}

impl RelayedWaiter {
    /// The waiter's side of `word`. A successor goes on from the epoch it finds.
    pub fn new(word: &WakeWord) -> Self {
        Self { epoch: Epoch::of(word) }
    }

    /// Looks, with `ready`, and if nothing is there says that the waiter sleeps: false then, and
    /// whoever notifies from now on makes the relay wake it. True if something is there; nobody
    /// needs to wake it.
    ///
    /// Does not block. To be called before each sleep; again if the sleep ended for some other
    /// reason, or for none. `ready` as in [`Waiter::wait`](super::Waiter::wait); it is called
    /// once or twice.
    pub fn arm(&mut self, word: &WakeWord, mut ready: impl FnMut() -> bool) -> bool {
        if ready() {
            self.disarm(word);
            return true;
        }
        // A fresh one, whatever the last arming has left.
        self.epoch.even();
        self.epoch.set_next(word);
        fence(PARKING);
        let found = ready();
        if found {
            self.epoch.set_next(word);
        }
        found
    }

    /// Says that the waiter is awake, so that notifiers need not wake it. Sleeping or not, it may
    /// be called at any time.
    pub fn disarm(&mut self, word: &WakeWord) {
        if self.epoch.is_odd() {
            self.epoch.set_next(word);
        }
    }
}

/// Sleeps at a word for a [`RelayedWaiter`]: one thread at a time.
#[derive(Debug)]
pub struct Relay {
    /// The sequence after which the waiter was woken last.
    seen: u32,
}

impl Relay {
    /// Remembers the word's sequence. To be made before the waiter arms for the first time.
    pub fn new(word: &WakeWord) -> Self {
        Self { seen: word.sequence.load(RELAYING) }
    }

    /// Sleeps until the sequence is another than at the last look; but 100 ms at the most, and not
    /// after the deadline. It may also return early, for no reason. Whether the sequence has
    /// changed.
    ///
    /// Wake the waiter if it has, and also when 100 ms have passed: a notifier that died before it
    /// changed the sequence leaves a message that nobody else tells of. Simplest is to do so
    /// whenever this returns, without asking.
    pub fn wait(&mut self, word: &WakeWord, park: &impl Park, deadline: Deadline) -> bool {
        let until = deadline.nanoseconds().min(park.now().saturating_add(BOUND));
        park.wait(&word.sequence, self.seen, until);
        let sequence = word.sequence.load(RELAYING);
        core::mem::replace(&mut self.seen, sequence) != sequence
    }
}
