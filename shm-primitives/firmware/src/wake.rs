//! Waiting and waking under test, and the only file that makes them.
//!
//! The main loop waits at one word in a static for whatever ring it reads; the interrupt
//! notifies it. It is the word's only notifier, so it needs no compare-and-swap.

use core::sync::atomic::Ordering::Relaxed;

use shm_primitives::sync::{self, AtomicU32};
use shm_primitives::wake::{Notifier, Park, Waiter, WakeWord};

use crate::clock;
use crate::witness::{self, Activity};

static WORD: WakeWord = WakeWord::new();

/// The two sides of the image's word.
pub fn sides() -> (Notifier<'static>, Waiter<'static>) {
    (WORD.notifier(), WORD.waiter())
}

/// How a core sleeps.
pub trait Core {
    /// Sleeps until an interrupt has run, unless `asleep` says no. An interrupt that comes between
    /// that answer and the sleep ends the sleep too. May return early.
    fn sleep(&self, asleep: impl Fn() -> bool);
    /// Ends the sleep; called by the interrupt.
    fn wake(&self);
}

/// The park of a core that sleeps between interrupts.
#[derive(Debug)]
pub struct CorePark<C: Core>(pub C);

impl<C: Core> Park for CorePark<C> {
    fn now(&self) -> u64 {
        clock::now()
    }

    // The interrupt that is waited for is this core's.
    fn spins(&self) -> bool {
        false
    }

    fn wait(&self, word: &AtomicU32, expected: u32, until: u64) {
        let asleep = || word.load(sync::Ordering::Relaxed) == expected;
        if !asleep() {
            return;
        }
        witness::during(Activity::Sleeping, || {
            witness::SLEEPS.add();
            // Every tick ends the core's sleep, but only a wake changes the word.
            while asleep() {
                if self.now() >= until {
                    return witness::TIMED_OUT.add();
                }
                witness::PASSES.add();
                self.0.sleep(asleep);
            }
            witness::WOKEN.add();
            let late = witness::LANDED.total() != witness::LAST_WAKE.load(Relaxed);
            if late && !witness::BUSY.load(Relaxed) {
                witness::LATE.add();
            }
        });
    }

    fn wake(&self, _: &AtomicU32) {
        witness::WAKES.add();
        witness::LAST_WAKE.store(witness::LANDED.total(), Relaxed);
        self.0.wake();
    }
}
