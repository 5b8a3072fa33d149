//! Leader and followers: of the threads that wait for the same source one reads it, for all.
//!
//! The *leader* has what it takes to read the source, sleeps where the source wakes, and hands to
//! each of the others what is for it. The *followers* sleep elsewhere, each at a
//! [wake word](crate::wake) of its own. A leader that has what it waited for *resigns*; it learns
//! by that whether anybody follows, and wakes one, who leads from then on.
//!
//! This is the lock for it: taken or not, never waited for, and its word counts the followers.
//!
//! # Memory
//!
//! Of one process alone, and of the threads that share it:
//!
//! ```text
//! word:
//!  31                                 1   0
//! +------------------------------------+---+
//! | followers                          |led|
//! +------------------------------------+---+
//! value   a `T`: what it takes to lead
//! ```
//!
//! # Who writes what, in which order
//!
//! Each change of the word is one read-modify-write, so all of them come one after the other.
//!
//! - [`try_lead`](Leadership::try_lead) swaps `led` from 0 to 1, Acquire: it sees what former leaders
//!   did with the value.
//! - [`resign`](Leading::resign) clears it, Release, and gets the number of followers with the same
//!   operation.
//! - [`follow`](Leadership::follow) and [`unfollow`](Leadership::unfollow) count.
//!
//! **Nobody sleeps while nobody leads.** A thread follows first, and sleeps only if it then finds
//! somebody leading. If it began to follow before the leader resigned, that one has counted it,
//! and wakes a follower; if after, it finds that nobody leads. As both are changes of one word there
//! is no third case, and no fence is needed to rule one out. Between the leader's wake and the
//! follower's sleep the wake word sees to it. A follower that was woken and does not lead, for it
//! has just got what it waited for, passes the wake on: [`unfollow`](Leadership::unfollow) says when.
//!
//! # Deaths
//!
//! No process survives its own memory. A leader whose thread panics resigns as it unwinds, and wakes
//! nobody: followers find it at the end of their sleep, which is bounded.
//!
//! # Sources
//!
//! The pattern of Schmidt, O'Ryan, Pyarali, Kircher and Buschmann, *Leader/Followers* (2000). The
//! count in the lock's own word is that of a futex mutex, which knows by its release whether it
//! has to wake somebody.
//!
//! # Example
//!
//! ```
//! use shm_primitives::leader::Leadership;
//!
//! let queue = Leadership::new(vec![3, 2, 1]); // what the leader reads
//! let mut leading = queue.try_lead().expect("nobody leads");
//! assert_eq!(leading.pop(), Some(1));
//!
//! // Another thread: there is a leader, so it follows, and would sleep now.
//! assert!(queue.try_lead().is_none());
//! queue.follow();
//! assert!(queue.is_led());
//!
//! assert!(leading.resign(), "somebody follows: wake it");
//! assert!(!queue.is_led());
//! assert!(!queue.unfollow(), "nobody else follows");
//! assert_eq!(queue.try_lead().expect("free").pop(), Some(2));
//! ```

use crate::sync::{AtomicU32, Ordering::Relaxed, Shadow, const_unless_loom, sites};
use core::cell::UnsafeCell;
use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};

sites! { SITES
    /// Leading, after all that former leaders did.
    LEAD = "leader.lead", Acquire, partner "leader.resign",
        [Relaxed => Model("leader_value")];
    /// What was done as a leader, before somebody else leads.
    RESIGN = "leader.resign", Release, partner "leader.lead",
        [Relaxed => Model("leader_value")];
}

/// Somebody leads.
const LED: u32 = 1;
/// A follower.
const FOLLOWER: u32 = 2;

/// Who leads, and how many follow. See the [module](self).
///
/// No operation blocks, spins, allocates or makes a system call.
pub struct Leadership<T> {
    word: AtomicU32,
    shadow: Shadow,
    value: UnsafeCell<T>,
}

// SAFETY: the value is touched by one thread at a time, the one that leads, and goes from thread to
// thread: hence `Send`. Everything else is atomic.
unsafe impl<T: Send> Sync for Leadership<T> {}

impl<T> Leadership<T> {
    const_unless_loom! {
        /// Nobody leads, and nobody follows.
        pub fn new(value: T) -> Self {
            Self { word: AtomicU32::new(0), shadow: Shadow::new(), value: UnsafeCell::new(value) }
        }
    }

    /// Leads, if nobody does.
    #[inline]
    pub fn try_lead(&self) -> Option<Leading<'_, T>> {
        let mut found = self.word.load(Relaxed);
        // Again if somebody begins or ceases to follow at that moment.
        while found & LED == 0 {
            match self.word.compare_exchange(found, found | LED, LEAD) {
                Ok(_) => return Some(Leading { of: self, value: PhantomData }),
                Err(other) => found = other,
            }
        }
        None
    }

    /// Whether somebody leads. May be out of date at once; but not to a thread that
    /// [follows](Self::follow) when it is said that nobody does, see the [module](self).
    #[inline]
    pub fn is_led(&self) -> bool {
        self.word.load(Relaxed) & LED != 0
    }

    /// How many follow: each who began to before a fence of its own, if this is asked behind a
    /// fence of the caller's.
    #[inline]
    pub fn followers(&self) -> u32 {
        self.word.load(Relaxed) / FOLLOWER
    }

    /// Follows from now on. Sleep only if [`is_led`](Self::is_led) says so after this, and have
    /// whoever resigns find your wake word before: under a lock, say, for nothing else is ordered by
    /// this.
    pub fn follow(&self) {
        self.word.fetch_add(FOLLOWER, Relaxed);
    }

    /// Follows no more; to be called once for each [`follow`](Self::follow). Whether another is to be
    /// woken: nobody leads, and somebody follows. One who goes on to lead need not.
    #[must_use = "another follower is to be woken"]
    pub fn unfollow(&self) -> bool {
        let before = self.word.fetch_add(FOLLOWER.wrapping_neg(), Relaxed);
        before & LED == 0 && before / FOLLOWER > 1
    }

    /// The value, of who has it alone.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl<T: Default> Default for Leadership<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> fmt::Debug for Leadership<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leadership")
            .field("is_led", &self.is_led())
            .field("followers", &self.followers())
            .finish_non_exhaustive()
    }
}

/// Leading: the value, for one thread at a time. Dropping it resigns as well, but tells nobody
/// whether somebody follows.
pub struct Leading<'l, T> {
    of: &'l Leadership<T>,
    /// It lends the value, so it goes from thread to thread, or is shared, as that may.
    value: PhantomData<&'l mut T>,
}

impl<T> Leading<'_, T> {
    /// Leads no more; whether somebody follows, of whom one is to be woken.
    #[must_use = "a follower is to be woken"]
    #[inline]
    pub fn resign(self) -> bool {
        ManuallyDrop::new(self).give_up()
    }

    #[inline]
    fn give_up(&self) -> bool {
        Shadow::write(core::slice::from_ref(&self.of.shadow));
        self.of.word.fetch_and(!LED, RESIGN) >= FOLLOWER
    }
}

impl<T> Drop for Leading<'_, T> {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl<T> Deref for Leading<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this leads, so nobody else touches the value; `DerefMut` needs `&mut self`.
        unsafe { &*self.of.value.get() }
    }
}

impl<T> DerefMut for Leading<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and this is borrowed mutably.
        unsafe { &mut *self.of.value.get() }
    }
}

impl<T: fmt::Debug> fmt::Debug for Leading<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Leading").field(&**self).finish()
    }
}
