//! Counters.

use crate::common::memory::Memory;
use crate::harness::{at_every_step, die};
use shm_primitives::counter::Counter;

/// 2³¹: what the upper word counts.
const UNIT: u64 = 1 << 31;

/// Where counting begins.
fn starts() -> impl Iterator<Item = u64> {
    let units = [0, 1, 2, 3, 6, (1 << 32) - 24, (1 << 32) - 4];
    let within = [0, 1, UNIT / 2, UNIT - 2, UNIT - 1];
    units.into_iter().flat_map(move |n| within.map(|rest| n * UNIT + rest))
}

/// What is added at once, near everything that makes a difference.
fn amounts() -> impl Iterator<Item = u64> {
    let near = (0..6).flat_map(|n| [n * UNIT, n * UNIT + 1, (n + 1) * UNIT - 1]);
    near.chain([2, UNIT / 2 + 1])
}

/// Whatever the death left is what the next writer goes on from, far enough that a word which
/// is behind by two would show.
fn check_usable(counter: &Counter) {
    let left = counter.get();
    let mut heir = counter.writer();
    assert_eq!((heir.get(), counter.get()), (left, left), "taking over changes nothing");
    let mut sum = left;
    for n in [1, UNIT - 1, UNIT, 3, 2 * UNIT - 1, 1] {
        heir.add(n);
        sum = (sum + n).min(Counter::MAX);
        assert_eq!((heir.get(), counter.get()), (sum, sum), "after another {n:#x}");
    }
}

/// Small additions: the value before, or the sum.
#[test]
fn adds() {
    for start in starts() {
        for n in amounts().filter(|n| *n <= UNIT) {
            let sum = (start + n).min(Counter::MAX);
            let carries = sum / UNIT != start / UNIT;
            let deaths = at_every_step("add", |budget| {
                let counter = Counter::starting_at(start);
                let mut writer = counter.writer();
                let survived = die(budget, move || writer.add(n)).is_some();
                let counted = survived || budget > 0;
                assert_eq!(counter.get(), if counted { sum } else { start }, "{start:#x} + {n:#x}");
                check_usable(&counter);
                survived
            });
            assert_eq!(deaths, 1 + u32::from(carries), "{start:#x} + {n:#x}: stores");
        }
    }
}

/// What an addition takes that moves the upper word so: to the next multiple of 2³¹ and, if it
/// goes further, to the last with the same shared bit; from there as far as it goes.
fn stores(from: u64, to: u64) -> u32 {
    match to - from {
        0 => 1,
        1 => 2,
        2 => 2 + 2,
        units if units % 2 == 1 => 2 + 1 + 1,
        _ => 2 + 1 + 2,
    }
}

/// Large ones: something between the two, never less after more stores.
#[test]
fn adds_much() {
    for start in starts() {
        for n in amounts() {
            let sum = (start + n).min(Counter::MAX);
            let mut last = start;
            let deaths = at_every_step("add", |budget| {
                let counter = Counter::starting_at(start);
                let mut writer = counter.writer();
                let survived = die(budget, move || writer.add(n)).is_some();
                let left = counter.get();
                assert!((last..=sum).contains(&left), "{start:#x} + {n:#x}: {left:#x}");
                assert!(budget > 0 || left == start, "{start:#x} + {n:#x}: {left:#x}");
                assert!(!survived || left == sum, "{start:#x} + {n:#x}: {left:#x}");
                let whole = left == start || left == sum || left.is_multiple_of(UNIT);
                assert!(whole, "{start:#x} + {n:#x}: {left:#x}");
                last = left;
                check_usable(&counter);
                survived
            });
            assert_eq!(deaths, stores(start / UNIT, sum / UNIT), "{start:#x} + {n:#x}: stores");
        }
    }
}

/// Writers that die again and again, each anywhere in its own additions, its taking over among
/// them: what stands there is a sum of theirs, and nothing is lost that had been stored.
#[test]
fn one_after_the_other() {
    const ADDED: [u64; 3] = [UNIT, 1, UNIT - 1];
    for start in starts() {
        for first in 0..6 {
            let deaths = at_every_step("writer, add, add, add", |budget| {
                let counter = Counter::starting_at(start);
                let all = |counter: &Counter| {
                    let mut writer = counter.writer();
                    ADDED.iter().for_each(|n| writer.add(*n));
                };
                let sums = |from: u64| {
                    let added = [0, 1, 2, 3].map(|n| ADDED[..n].iter().sum::<u64>());
                    added.map(|n| (from + n).min(Counter::MAX))
                };
                let _ = die(first, || all(&counter));
                let left = counter.get();
                assert!(sums(start).contains(&left), "{start:#x}: {left:#x}");
                let survived = die(budget, || all(&counter)).is_some();
                let now = counter.get();
                assert!(sums(left).contains(&now), "{left:#x}: {now:#x}");
                assert!(!survived || now == sums(left)[3], "{left:#x}: {now:#x}");
                check_usable(&counter);
                survived
            });
            let room = start / UNIT < (1 << 32) - 4;
            assert!(deaths >= if room { 3 + 2 } else { 3 }, "{deaths} stores");
        }
    }
}

/// A counter half cleared is some counter, and is cleared by clearing it again.
#[test]
fn clear() {
    let deaths = at_every_step("clear", |budget| {
        let memory = Memory::new(8, 0xa5);
        let region = memory.region();
        let counter = Counter::at(&region).unwrap();
        let survived = die(budget, || counter.clear()).is_some();
        assert!(budget == 0 || counter.get() < 2 * UNIT, "{:#x}", counter.get());
        assert!(!survived || counter.get() == 0);
        counter.clear();
        assert_eq!(counter.get(), 0);
        check_usable(counter);
        survived
    });
    assert_eq!(deaths, 2);
}
