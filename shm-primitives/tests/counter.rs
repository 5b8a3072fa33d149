//! Counters against a plain `u64`, against words that say anything, and read while they count.

mod common;

use common::Patience;
use common::memory::Memory;
use proptest::prelude::*;
use shm_primitives::counter::{Counter, CounterLine};
use shm_primitives::part::AttachError;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// 2³¹: what the upper word counts.
const UNIT: u64 = 1 << 31;

/// What two words mean, in plain arithmetic.
fn meaning(low: u32, high: u32) -> u64 {
    let units = u64::from(high);
    let behind = u64::from(low / (1 << 31)) != units % 2;
    ((units + u64::from(behind)) * UNIT + u64::from(low) % UNIT) % (1 << 63)
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Add(u64),
    /// A new handle.
    Reopen,
    /// Somebody who keeps no protocol overwrites a word.
    Poke(bool, u32),
}

/// Runs `ops` on two words; after each the words and the values are what they must be.
fn run(low: u32, high: u32, ops: &[Op]) {
    let memory = Memory::new(8, 0);
    let region = memory.region();
    memory.set(0, low);
    memory.set(4, high);
    let counter = Counter::at(&region).unwrap();
    assert_eq!(counter.get(), meaning(low, high));
    let mut words = [low, high];
    let mut value = meaning(low, high);
    let mut writer = counter.writer();
    words[1] = (value / UNIT) as u32;
    for op in ops {
        match *op {
            Op::Add(n) => {
                writer.add(n);
                let before = value;
                value = (u128::from(value) + u128::from(n)).min(i64::MAX as u128) as u64;
                words[0] = (value % (1 << 32)) as u32;
                if value / UNIT != before / UNIT {
                    words[1] = (value / UNIT) as u32;
                }
            }
            Op::Reopen => {
                value = meaning(words[0], words[1]);
                words[1] = (value / UNIT) as u32;
                writer = counter.writer();
            }
            Op::Poke(upper, word) => {
                words[usize::from(upper)] = word;
                memory.set(4 * usize::from(upper), word);
            }
        }
        assert_eq!(writer.get(), value, "{op:?}");
        assert_eq!([memory.get(0), memory.get(4)], words, "{op:?}");
        assert_eq!(counter.get(), meaning(words[0], words[1]), "{op:?}");
        assert!(counter.get() <= Counter::MAX);
    }
}

/// Words that mean something, and any.
fn word() -> impl Strategy<Value = u32> {
    prop_oneof![
        2 => any::<u32>(),
        1 => 0..3u32,
        1 => (0..3u32).prop_map(|n| u32::MAX - n),
        1 => (0..5u32).prop_map(|n| (1 << 31) - 2 + n),
    ]
}

/// Near multiples of 2³¹, small, and any.
fn amount() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => 0..2000u64,
        3 => (0..5u64, 0..5u64).prop_map(|(units, n)| (units * UNIT + n).saturating_sub(2)),
        2 => any::<u32>().prop_map(u64::from),
        1 => (0..64u32).prop_map(|bit| 1 << bit),
        1 => any::<u64>(),
    ]
}

fn ops(poke: u32) -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        8 => amount().prop_map(Op::Add),
        1 => Just(Op::Reopen),
        poke => (any::<bool>(), word()).prop_map(|(upper, word)| Op::Poke(upper, word)),
    ];
    proptest::collection::vec(op, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn counts_as_a_number_does(start in amount(), amounts in proptest::collection::vec(amount(), 0..40)) {
        let counter = Counter::starting_at(start);
        let mut sum = start.min(Counter::MAX);
        let mut writer = counter.writer();
        prop_assert_eq!(counter.get(), sum);
        for n in amounts {
            writer.add(n);
            sum = sum.saturating_add(n).min(Counter::MAX);
            prop_assert_eq!((counter.get(), writer.get()), (sum, sum));
        }
        prop_assert_eq!(counter.writer().get(), sum, "a successor goes on from there");
    }

    #[test]
    fn writes_the_words_it_should(start in amount(), ops in ops(0)) {
        let start = start.min(Counter::MAX);
        run(start as u32, (start / UNIT) as u32, &ops);
    }

    #[test]
    fn hostile_words(low in word(), high in word(), ops in ops(4)) {
        run(low, high, &ops);
    }
}

/// The layout is an agreement between processes: word by word.
#[test]
fn layout() {
    let memory = Memory::new(128, 0);
    let lines = CounterLine::slice_at(&memory.region(), 2).unwrap();
    lines[1].get(3).unwrap().writer().add(0x1234_5678_9abc_def0);
    let words: Vec<u32> = (0..32).map(|n| memory.get(4 * n)).collect();
    let at = 16 + 2 * 3;
    assert_eq!(words[at], 0x9abc_def0, "low: bits 0 to 31");
    assert_eq!(words[at + 1], 0x2468_acf1, "high: bits 31 to 62");
    assert!(words.iter().enumerate().all(|(n, word)| n == at || n == at + 1 || *word == 0));
    assert_eq!(lines[1].values(), [0, 0, 0, 0x1234_5678_9abc_def0, 0, 0, 0, 0]);
}

/// Whoever died between the two stores has counted.
#[test]
fn a_high_word_that_is_behind() {
    let memory = Memory::new(8, 0);
    let region = memory.region();
    for (low, high, value) in [
        (0x8000_0005, 0, UNIT + 5),
        (0x0000_0005, 1, 2 * UNIT + 5),
        (0x8000_0000, 6, 7 * UNIT),
        (0x7fff_ffff, 7, 8 * UNIT + UNIT - 1),
    ] {
        (memory.set(0, low), memory.set(4, high));
        let counter = Counter::at(&region).unwrap();
        assert_eq!(counter.get(), value);
        let mut writer = counter.writer();
        assert_eq!((memory.get(0), memory.get(4)), (low, high + 1), "brought up to date");
        assert_eq!((writer.get(), counter.get()), (value, value));
        writer.add(UNIT);
        assert_eq!(counter.get(), value + UNIT);
    }
}

#[test]
fn the_most_there_is() {
    for (start, n) in [(0, u64::MAX), (Counter::MAX, 1), (Counter::MAX - 5, 6), (7, 1 << 63)] {
        let counter = Counter::starting_at(start);
        let mut writer = counter.writer();
        writer.add(n);
        assert_eq!((counter.get(), writer.get()), (Counter::MAX, Counter::MAX));
        writer.add(n);
        assert_eq!(counter.get(), Counter::MAX);
    }
    assert_eq!(Counter::starting_at(u64::MAX).get(), Counter::MAX);
}

#[test]
fn lines() {
    static LINE: CounterLine = CounterLine::new();
    for (index, writer) in LINE.writers().iter_mut().enumerate() {
        writer.add(3 * UNIT + index as u64);
    }
    assert_eq!(LINE.values().to_vec(), (0..8).map(|n| 3 * UNIT + n).collect::<Vec<_>>());
    assert_eq!(LINE.get(7).map(Counter::get), Some(3 * UNIT + 7));
    assert!(LINE.get(CounterLine::COUNTERS).is_none() && LINE.get(usize::MAX).is_none());
    assert_eq!(LINE.counters()[2].get(), 3 * UNIT + 2);
    LINE.clear();
    assert_eq!(LINE.values(), [0; 8]);
}

#[test]
fn memory_that_holds_none() {
    let memory = Memory::new(256, 0xa5);
    for offset in [1, 2, 3, 65] {
        let error = Counter::at(&memory.part(offset, 128)).err();
        assert!(matches!(error, Some(AttachError::Misaligned { wanted: 4, .. })), "{error:?}");
    }
    for offset in [4, 8, 32, 60, 65] {
        let error = CounterLine::at(&memory.part(offset, 128)).err();
        assert!(matches!(error, Some(AttachError::Misaligned { wanted: 64, .. })), "{error:?}");
        assert_eq!(CounterLine::slice_at(&memory.part(offset, 128), 1).err(), error);
    }
    let error = Counter::at(&memory.part(64, 7)).err();
    assert_eq!(error, Some(AttachError::TooSmall { found: 7, wanted: 8 }));
    let error = CounterLine::at(&memory.part(64, 63)).err();
    assert_eq!(error, Some(AttachError::TooSmall { found: 63, wanted: 64 }));
    let error = CounterLine::slice_at(&memory.part(64, 191), 3).err();
    assert_eq!(error, Some(AttachError::TooSmall { found: 191, wanted: 192 }));
    assert!(CounterLine::slice_at(&memory.region(), usize::MAX).is_err());
    assert_eq!(CounterLine::slice_at(&memory.region(), 4).unwrap().len(), 4);
    assert!(CounterLine::slice_at(&memory.part(0, 0), 0).unwrap().is_empty());
    assert!(memory.bytes().iter().all(|byte| *byte == 0xa5), "untouched");
    Counter::at(&memory.part(72, 8)).unwrap().clear();
    let bytes = memory.bytes();
    assert!(bytes[72..80].iter().all(|byte| *byte == 0), "all of it");
    assert!(bytes[..72].iter().chain(&bytes[80..]).all(|byte| *byte == 0xa5), "nothing else");
}

/// Set also if the thread fails: nobody waits for it.
struct SetAtLast<'a>(&'a AtomicBool);

impl Drop for SetAtLast<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Adds `n` so many times while another thread reads: what that sees never goes back, and each
/// number is a sum, or the multiple of 2³¹ that stands for a value that moved too fast.
fn read_while_it_counts(n: u64, times: u64) {
    let counter = Counter::starting_at(UNIT - n % UNIT);
    let start = counter.get();
    let (begun, ended) = (AtomicBool::new(false), AtomicBool::new(false));
    let patience = Patience::new();
    let other = patience.clone();
    let (mut seen, mut different, mut passed) = (0u64, 0u64, 0u64);
    std::thread::scope(|scope| {
        let (counter, begun, ended) = (&counter, &begun, &ended);
        scope.spawn(move || {
            let _ended = SetAtLast(ended);
            let mut writer = counter.writer();
            while !begun.load(Relaxed) {
                other.wait();
            }
            for done in 1..=times {
                writer.add(n);
                if done % 4096 == 0 {
                    // Also where there is one core.
                    std::thread::yield_now();
                }
            }
        });
        begun.store(true, Relaxed);
        let mut last = 0;
        while !ended.load(Relaxed) {
            let now = counter.get();
            assert!(now >= last, "went back from {last} to {now}");
            assert!(now <= start + n * times, "{now} was never counted");
            if !(now - start).is_multiple_of(n) {
                assert!(now.is_multiple_of(UNIT), "{now} is no sum");
                passed += 1;
            }
            different += u64::from(now != last);
            seen += 1;
            last = now;
        }
    });
    println!("by {n}: {seen} values, {different} of them different, {passed} passed");
    assert_eq!(counter.get(), start + n * times);
    assert!(different > 0);
}

fn times() -> u64 {
    if cfg!(target_arch = "x86_64") { 1_000_000 } else { 20_000 }
}

#[test]
fn read_while_it_counts_by_small_steps() {
    read_while_it_counts(1021, 4 * times());
}

#[test]
fn read_while_it_counts_across_the_upper_word() {
    read_while_it_counts((1 << 30) + 12_345, times());
}

#[test]
fn read_while_it_counts_nearly_by_two_units() {
    read_while_it_counts(2 * UNIT - 1, times());
}
