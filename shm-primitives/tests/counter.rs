//! Counters against a plain `u64`, against words that say anything, and read while they count.

mod common;

use common::Patience;
use common::counter::{Op, UNIT, run};
use common::memory::Memory;
use proptest::prelude::*;
use shm_primitives::counter::{Counter, CounterLine};
use shm_primitives::part::AttachError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

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
        cases: 1000,
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
        memory.set(0, low);
        memory.set(4, high);
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

/// Additions between two moments at which the writer makes sure that it is read.
const BLOCK: u64 = 16_384;

/// Adds `n` in so many blocks while another thread reads: what that sees never goes back, and
/// each number is a sum, or the multiple of 2³¹ that stands for a value that moved too fast.
fn read_while_it_counts(n: u64, blocks: u64) {
    let counter = Counter::starting_at(UNIT - n % UNIT);
    let start = counter.get();
    let (seen, ended) = (AtomicU64::new(start), AtomicBool::new(false));
    let patience = Patience::new();
    let (mut looks, mut different, mut passed) = (0u64, 0u64, 0u64);
    std::thread::scope(|scope| {
        let (counter, seen, ended) = (&counter, &seen, &ended);
        // If a look fails, the writer is not waited for.
        let _other = patience.clone();
        scope.spawn(move || {
            let _ended = SetAtLast(ended);
            let mut writer = counter.writer();
            let mut block = start;
            for _ in 0..blocks {
                (0..BLOCK).for_each(|_| writer.add(n));
                // Also where there is one core.
                while seen.load(Relaxed) < block {
                    patience.wait();
                }
                block = writer.get();
            }
        });
        let mut last = start;
        while !ended.load(Relaxed) {
            let now = counter.get();
            assert!(now >= last, "went back from {last} to {now}");
            assert!(now <= start + n * BLOCK * blocks, "{now} was never counted");
            if !(now - start).is_multiple_of(n) {
                assert!(now.is_multiple_of(UNIT), "{now} is no sum");
                passed += 1;
            }
            different += u64::from(now != last);
            looks += 1;
            last = now;
            seen.store(now, Relaxed);
        }
    });
    println!("by {n}: {looks} values, {different} of them different, {passed} passed");
    assert_eq!(counter.get(), start + n * BLOCK * blocks);
    assert!(different >= blocks / 2, "{different} different");
}

fn blocks() -> u64 {
    if cfg!(target_arch = "x86_64") { 100 } else { 10 }
}

#[test]
fn read_while_it_counts_by_small_steps() {
    read_while_it_counts(65_521, 2 * blocks());
}

#[test]
fn read_while_it_counts_across_the_upper_word() {
    read_while_it_counts((1 << 30) + 12_345, blocks());
}

#[test]
fn read_while_it_counts_nearly_by_two_units() {
    read_while_it_counts(2 * UNIT - 1, blocks());
}

#[test]
fn read_while_it_counts_in_leaps() {
    read_while_it_counts(5 * UNIT + 77, blocks());
}
