//! The interrupt's work: it sends, in bursts that fill the ring, and one by one.
//!
//! In a stretch of bursts the main loop finds the ring full or filling, and interrupts land in
//! the middle of what it does. In the stretch after it each message is sent only when the one
//! before has been taken, after a pause of varying length: so the main loop is asleep, or about
//! to be. **Nothing follows such a message**: if its wake is lost, the main loop sleeps until the
//! time limit of its sleep, and says so.

use core::cell::UnsafeCell;
use core::sync::atomic::Ordering::Relaxed;

use shm_primitives::wake::{Notifier, Park};

use crate::ends::Sends;
use crate::{clock, frames, ring, witness};

/// Messages sent through the rings, one ring after the other: items, frames, checked frames.
pub const COUNTS: [u32; 3] = [40_000, 4000, 2000];

/// Messages between a change from bursts to single ones, or back.
pub const STRETCH: u32 = 250;

/// Whether message `n` belongs to a burst.
pub fn is_burst(n: u32) -> bool {
    (n / STRETCH).is_multiple_of(2)
}

/// Whether the main loop polls for message `n` and does not wait: every other stretch of bursts.
pub fn is_polled(n: u32) -> bool {
    (n / STRETCH).is_multiple_of(4)
}

/// What the interrupt owns.
pub struct Source {
    pub items: ring::Producer,
    pub frames: frames::Writer,
    pub checked: frames::Writer,
    pub notifier: Notifier<'static>,
    pub progress: Progress,
}

/// How far it is.
#[derive(Debug)]
pub struct Progress {
    /// Which ring's turn it is.
    ring: usize,
    /// Sent through it so far.
    sent: u32,
    /// Ticks to wait before the next message.
    pause: u32,
    ticks: u32,
    noise: u32,
}

impl Progress {
    /// At the beginning.
    pub const fn new() -> Self {
        Self { ring: 0, sent: 0, pause: 0, ticks: 0, noise: 1 }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Source {
    /// Sends what is due; whether anything was.
    fn send(&mut self) -> bool {
        let now = &mut self.progress;
        let end: &mut dyn Sends = match now.ring {
            0 => &mut self.items,
            1 => &mut self.frames,
            2 => &mut self.checked,
            _ => return false,
        };
        let burst = is_burst(now.sent);
        // Long frames, above all checked ones, take a slow core longer than a period.
        witness::BUSY.store(burst || now.ring != 0, Relaxed);
        let due = if burst {
            now.ticks % 4
        } else if !end.all_taken() {
            0
        } else if now.pause > 0 {
            now.pause -= 1;
            0
        } else {
            now.pause = now.noise >> 16 & 7;
            1
        };
        let before = now.sent;
        // A burst ends with its stretch: what follows it is sent alone.
        while now.sent < before + due && now.sent < COUNTS[now.ring] && is_burst(now.sent) == burst
        {
            if !end.send(now.sent) {
                witness::REFUSED.add();
                break;
            }
            now.sent += 1;
        }
        let sent = now.sent != before;
        if now.sent == COUNTS[now.ring] {
            (now.ring, now.sent) = (now.ring + 1, 0);
        }
        sent
    }

    /// One interrupt. See [`tick`].
    fn tick(&mut self, park: &impl Park) -> u32 {
        let now = &mut self.progress;
        now.ticks += 1;
        // xorshift32
        now.noise ^= now.noise << 13;
        now.noise ^= now.noise >> 17;
        now.noise ^= now.noise << 5;
        let noise = now.noise;
        // One by one, the main loop comes to its sleep a fixed time after a message: only
        // interrupts spread over a whole period hit every instruction before it.
        let spread = if is_burst(now.sent) { 0xff } else { 0x7ff };
        if self.send() {
            self.notifier.notify(park);
        }
        noise & spread
    }
}

struct Slot(UnsafeCell<Option<Source>>);

// SAFETY: `install` fills the slot before the interrupt is enabled; after that only `tick`, which
// does not preempt itself, touches it.
unsafe impl Sync for Slot {}

static SOURCE: Slot = Slot(UnsafeCell::new(None));

/// Hands the source to the interrupt.
///
/// # Safety
///
/// Before the interrupt that calls [`tick`] is enabled.
pub unsafe fn install(source: Source) {
    // SAFETY: the interrupt is not enabled yet, so nobody else reads or writes the slot.
    unsafe { *SOURCE.0.get() = Some(source) };
}

/// The interrupt's work, `nanoseconds` after the last one. Returns a number below 2048: how much
/// later than usual the next interrupt should come, so that over time one lands on every
/// instruction of the main loop.
///
/// # Safety
///
/// From one interrupt handler only, which nothing that calls `tick` preempts.
pub unsafe fn tick(park: &impl Park, nanoseconds: u32) -> u32 {
    clock::advance(nanoseconds);
    witness::LANDED.add();
    // SAFETY: `install` is over, and the caller says no other `tick` is running.
    match unsafe { &mut *SOURCE.0.get() } {
        Some(source) => source.tick(park),
        None => 0,
    }
}
