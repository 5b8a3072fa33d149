//! Counters that cross multiples of 2³¹, where the upper word changes. What is read is one of
//! the sums, never a mix of two.
//!
//! As with the monitor, handles, which load when they are made, are made before the threads,
//! a model's writer only stores, and one thread reads.

use crate::harness::{Lent, check, check_eq, explore, models};
use loom::thread;
use shm_primitives::counter::Counter;

/// 2³¹: what the upper word counts.
pub(super) const UNIT: u64 = 1 << 31;

/// A counter that outlives the threads of its model.
pub(super) fn counter(value: u64) -> (Lent<Counter>, &'static Counter) {
    let memory = Lent::new(Counter::starting_at(value));
    // SAFETY: every model keeps the first until its threads are joined.
    let counter = unsafe { memory.get() };
    (memory, counter)
}

/// Reads the counter, which is one of `counted`, in order; which.
pub(super) fn look(counter: &Counter, counted: &[u64]) -> usize {
    let seen = counter.get();
    let at = counted.iter().position(|value| *value == seen);
    check!(at.is_some(), "never counted: {seen:#x} of {counted:x?}");
    at.unwrap()
}

/// A writer adds each of `amounts` to `start` while another thread looks so many times; what it
/// may see are `counted`: the sums, and multiples of 2³¹ that are passed on the way.
fn read(looks: u32, start: u64, amounts: &'static [u64], counted: &'static [u64]) {
    explore(move || {
        let (_memory, counter) = counter(start);
        let mut writer = counter.writer();
        let writing = thread::spawn(move || amounts.iter().for_each(|n| writer.add(*n)));
        let mut seen = 0;
        for _ in 0..looks {
            let now = look(counter, counted);
            check!(now >= seen, "went back from {seen} to {now}");
            seen = now;
        }
        writing.join().unwrap();
        check_eq!(Some(&counter.get()), counted.last(), "after it");
    });
}

models! {
    /// The upper word changes once: the value before, or after. At 2³¹, and at 2³².
    fn counter_read() {
        read(1, UNIT - 1, &[1], &[UNIT - 1, UNIT]);
        read(1, 2 * UNIT - 1, &[1], &[2 * UNIT - 1, 2 * UNIT]);
    }

    /// The upper word does not change.
    fn counter_read_low() {
        read(2, 7, &[1, 2], &[7, 8, 10]);
    }

    /// The upper word changes twice, and the shared bit is what it was. A reader that sees both
    /// changes takes the multiple of 2³¹ that was passed.
    fn counter_read_twice_carried() {
        read(1, UNIT - 1, &[2, UNIT + 2], &[UNIT - 1, UNIT + 1, 2 * UNIT, 2 * UNIT + 3]);
        read(
            1,
            2 * UNIT - 1,
            &[2, UNIT + 2],
            &[2 * UNIT - 1, 2 * UNIT + 1, 3 * UNIT, 3 * UNIT + 3],
        );
    }

    /// The upper word changes at every addition: a reader that never finds it at rest gets a
    /// number that the counter has passed. It does not go back, nor beyond what was counted.
    fn counter_passed() {
        for (additions, looks) in [(3, 1), (2, 2)] {
            explore(move || {
                let (_memory, counter) = counter(UNIT - 1);
                let mut writer = counter.writer();
                let writing = thread::spawn(move || (0..additions).for_each(|_| writer.add(UNIT)));
                let end = (additions + 1) * UNIT - 1;
                let mut last = UNIT - 1;
                for _ in 0..looks {
                    let now = counter.get();
                    let rest = now % UNIT;
                    check!(rest == 0 || rest == UNIT - 1, "never passed: {now:#x}");
                    check!(now >= last, "went back from {last:#x} to {now:#x}");
                    check!(now <= end, "beyond what was counted: {now:#x}");
                    last = now;
                }
                writing.join().unwrap();
                check_eq!(counter.get(), end, "after it");
            });
        }
    }

    /// Two looks one after the other: the second is not older than the first.
    fn counter_in_order() {
        read(2, UNIT - 1, &[1, 1, UNIT], &[UNIT - 1, UNIT, UNIT + 1, 2 * UNIT, 2 * UNIT + 1]);
    }

    /// A large addition goes by multiples of 2³¹, and none of them is beyond the sum: those
    /// whose upper word ends as the next one does, and the others.
    fn counter_leap() {
        read(1, UNIT - 1, &[3 * UNIT + 5], &[UNIT - 1, UNIT, 3 * UNIT, 4 * UNIT, 4 * UNIT + 4]);
        read(1, UNIT - 1, &[4 * UNIT], &[UNIT - 1, UNIT, 3 * UNIT, 4 * UNIT, 5 * UNIT - 1]);
        read(1, 2 * UNIT + 9, &[2 * UNIT], &[2 * UNIT + 9, 3 * UNIT, 4 * UNIT, 4 * UNIT + 9]);
    }

    /// A second writer goes on where the first has carried: the fence behind that store was the
    /// first one's, or the first one died before it.
    fn counter_successor() {
        for border in [UNIT, 2 * UNIT] {
            explore(move || {
                let (_memory, counter) = counter(border - 1);
                let mut first = counter.writer();
                let writing = thread::spawn(move || first.add(1));
                let reading = thread::spawn(move || {
                    look(counter, &[border - 1, border, border + UNIT]);
                });
                writing.join().unwrap();
                let mut second = counter.writer();
                second.add(UNIT);
                check_eq!(second.get(), border + UNIT, "it goes on");
                reading.join().unwrap();
                check_eq!(counter.get(), border + UNIT, "after it");
            });
        }
    }
}
