//! Noticing that the ends run in lockstep.

use crate::sync::{LOOM, spin_loop};

/// Whether the target has caches whose lines can be torn back and forth. Elsewhere nothing of
/// what is done about them is compiled in.
pub(super) const CACHES: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));
/// Models have no time to hold back.
const ACTIVE: bool = CACHES && !LOOM;
/// Bytes found at a look that make it worth its cost.
const ENOUGH: usize = 2048;
/// Looks in vain after which an end is waiting, and what it gets is wanted at once.
const WAITING: u32 = 4;
/// Looks in lockstep before anything is done about it.
const STREAK: u32 = 2;
/// How long to hold back, in spin hints: a fraction of a microsecond.
const PAUSE: u32 = 16;

/// How many elements of `size` bytes are enough in a ring of `capacity`: at most a quarter of
/// it, for more than all will never be found.
#[inline(always)]
pub(super) const fn enough(capacity: u32, size: usize) -> u32 {
    let quarter = capacity / 4;
    match ENOUGH.checked_div(size) {
        Some(enough) if (enough as u32) < quarter => enough as u32,
        _ => quarter,
    }
}

/// An end's history of looks at what the other end has done.
///
/// When both ends are equally quick, each look finds a message or two, and costs both of them
/// the transfer of a cache line: the ring runs several times slower than it can. An end that has
/// been in this state for a while holds back a moment when it finds so few: what gathers
/// meanwhile comes with fewer transfers. An end that had to wait for what it found is not in
/// lockstep, and is never held back.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lockstep {
    missed: u32,
    streak: u32,
}

impl Lockstep {
    /// A look found nothing.
    #[inline(always)]
    pub fn missed(&mut self) {
        if ACTIVE {
            self.missed = self.missed.saturating_add(1);
        }
    }

    /// A look found something: enough to be worth its cost, or less. If true, a moment has
    /// passed, and it is worth looking again.
    #[inline(always)]
    pub fn found(&mut self, enough: bool) -> bool {
        if !ACTIVE {
            return false;
        }
        match core::mem::take(&mut self.missed) {
            // It is behind the other end, or was called too seldom to know.
            0 => return false,
            1..=WAITING if !enough => self.streak += 1,
            1..=WAITING => self.streak = self.streak.saturating_sub(1),
            _ => self.streak = 0,
        }
        if self.streak <= STREAK {
            return false;
        }
        self.streak = STREAK;
        for _ in 0..PAUSE {
            spin_loop();
        }
        true
    }

    /// Whether looks were in vain since something was found.
    #[inline(always)]
    pub fn is_waiting(&self) -> bool {
        ACTIVE && self.missed != 0
    }
}
