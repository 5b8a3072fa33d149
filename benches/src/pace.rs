//! Work that a paced side does between two messages.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// A chain of dependent multiplications, of about a set time.
///
/// Touches no memory, so that it neither helps nor hurts the rings' lines. Begins when the
/// message is done with and ends before the next begins: a core that looks hundreds of
/// instructions ahead would else do the work of several messages at once.
#[derive(Clone, Copy)]
pub struct Work {
    steps: u32,
}

impl Work {
    /// As many steps as take that long on this CPU, what surrounds them included.
    #[must_use]
    pub fn of(time: Duration) -> Self {
        const FEW: u32 = 16;
        const MANY: u32 = 1024;
        let (few, many) = (Self { steps: FEW }.time(), Self { steps: MANY }.time());
        let step = (many - few) / f64::from(MANY - FEW);
        let steps = f64::from(FEW) + (time.as_secs_f64() - few) / step;
        Self { steps: steps.round() as u32 }
    }

    /// Seconds that it takes.
    fn time(self) -> f64 {
        const TIMES: u32 = 256;
        let trial = || {
            let start = Instant::now();
            (0..TIMES).for_each(|_| self.run());
            start.elapsed().as_secs_f64() / f64::from(TIMES)
        };
        // The quickest of many trials is one that nothing interrupted.
        (0..500).map(|_| trial()).fold(f64::INFINITY, f64::min)
    }

    /// Work of a known number of steps, such as another process found out.
    #[must_use]
    pub fn from_steps(steps: u32) -> Self {
        Self { steps }
    }

    /// The number of steps.
    #[must_use]
    pub fn steps(self) -> u32 {
        self.steps
    }

    /// Does the work.
    #[inline]
    pub fn run(self) {
        finish();
        let mut state = black_box(1_u64);
        for _ in 0..self.steps {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).rotate_left(17);
        }
        black_box(state);
        finish();
    }
}

/// Lets the core finish what it has begun; stores may still be on their way out.
#[inline]
fn finish() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 has SSE2, which is where the instruction comes from.
    unsafe {
        std::arch::x86_64::_mm_lfence();
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a barrier that touches neither memory nor registers.
    unsafe {
        std::arch::asm!("isb", options(nostack, preserves_flags));
    }
}

/// Which side works between messages.
#[derive(Clone, Copy)]
pub enum Pace {
    /// None: both go as fast as they can.
    Unpaced,
    /// The writer, so that the reader mostly waits.
    Writer(Work),
    /// The reader, so that the writer mostly waits.
    Reader(Work),
}
