//! The monitor against a plain copy of itself, against memory that says anything, and read
//! while it changes.

mod common;

use common::Patience;
use common::memory::Memory;
use common::monitor::{Op, run};
use proptest::prelude::*;
use shm_primitives::monitor::{
    Busy, Group, InvalidTransaction, Snapshot, ThreadMonitor, Transaction,
};
use shm_primitives::part::AttachError;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Words that mean something, and any.
fn word() -> impl Strategy<Value = u32> {
    prop_oneof![
        3 => any::<u32>(),
        1 => 0..3u32,
        1 => (0..3u32).prop_map(|n| u32::MAX - n),
        1 => (0..32u32).prop_map(|bit| 1 << bit),
    ]
}

fn transaction() -> impl Strategy<Value = Transaction> {
    let worker = prop_oneof![4 => 0..1u16 << 14, 1 => any::<u16>()];
    (word(), word(), any::<bool>(), worker, any::<u16>(), word(), word(), any::<u64>()).prop_map(
        |(low, high, vip, worker, lane, lane_epoch, reply_position, start)| Transaction {
            seq_id: u64::from(high) << 32 | u64::from(low),
            group: if vip { Group::Vip } else { Group::Normal },
            worker,
            lane,
            lane_epoch,
            reply_position,
            start,
        },
    )
}

fn ops(poke: u32) -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => transaction().prop_map(Op::Begin),
        3 => Just(Op::End),
        1 => Just(Op::Reset),
        1 => any::<bool>().prop_map(|died| Op::Reopen { died }),
        poke => (any::<u8>(), word()).prop_map(|(at, value)| Op::Poke(at, value)),
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
    fn behaves_like_its_reference(selector in word(), ops in ops(0)) {
        let mut words = [0; 16];
        words[0] = selector;
        run(words, ops);
    }

    #[test]
    fn hostile_words(words in proptest::array::uniform16(word()), ops in ops(4)) {
        run(words, ops);
    }
}

/// The layout is an agreement between processes: word by word.
#[test]
fn layout() {
    let memory = Memory::new(64, 0);
    let region = memory.region();
    let monitor = ThreadMonitor::init_at(&region).unwrap();
    let mut writer = monitor.writer();
    let transaction = Transaction {
        seq_id: 0x1122_3344_5566_7788,
        group: Group::Vip,
        worker: 0x2abc,
        lane: 0xdef0,
        lane_epoch: 0x99aa_bbcc,
        reply_position: 0xddee_ff00,
        start: 0x0102_0304_0506_0708,
    };
    writer.begin(&transaction).unwrap();
    writer.end();
    let words: Vec<u32> = (0..16).map(|n| memory.get(4 * n)).collect();
    let copy = |place| {
        [0x5566_7788, 0x1122_3344, 0x0506_0708, 0x0102_0304, place, 0x99aa_bbcc, 0xddee_ff00]
    };
    assert_eq!(words[0], 2, "selector");
    assert_eq!(words[1..8], copy(0x6abc_def0), "copy 0: ended");
    assert_eq!(words[8..15], copy(0xeabc_def0), "copy 1: begun");
    assert_eq!(words[15], 0, "reserved");
}

#[test]
fn what_is_refused_changes_nothing() {
    let monitor = ThreadMonitor::new();
    let mut writer = monitor.writer();
    let good = valid(1, Group::Normal);
    writer.begin(&good).unwrap();
    let refused = writer.begin(&Transaction { seq_id: 0, ..good });
    assert_eq!(refused, Err(InvalidTransaction::NoSequenceId));
    let refused = writer.begin(&Transaction { worker: 1 << 14, ..good });
    assert_eq!(refused, Err(InvalidTransaction::Worker { found: 1 << 14 }));
    assert_eq!(refused.unwrap_err().to_string(), "worker 16384; the largest is 16383");
    assert_eq!(monitor.snapshot(), Ok(Snapshot::Processing(good)));
    writer.begin(&Transaction { worker: Transaction::MAX_WORKER, ..good }).unwrap();
    assert_eq!(monitor.snapshot().unwrap().worker(), Some((1 << 14) - 1));
}

#[test]
fn ended_and_reset() {
    let monitor = ThreadMonitor::starting_at(u32::MAX);
    assert_eq!(monitor.snapshot(), Ok(Snapshot::Idle { last: None }));
    let mut writer = monitor.writer();
    let transaction = valid(7, Group::Vip);
    writer.end();
    assert_eq!(monitor.snapshot(), Ok(Snapshot::Idle { last: None }), "nothing to end");
    writer.begin(&transaction).unwrap();
    let seen = monitor.snapshot().unwrap();
    assert_eq!((seen.is_processing(), seen.processing_seq()), (true, Some(7)));
    assert_eq!((seen.group(), seen.worker()), (Some(Group::Vip), Some(3)));
    assert_eq!(seen.start(), Some(transaction.start));
    writer.end();
    let seen = monitor.snapshot().unwrap();
    assert_eq!((seen.is_processing(), seen.processing_seq()), (false, None));
    assert_eq!(seen.transaction(), Some(transaction));
    writer.end();
    assert_eq!(monitor.snapshot(), Ok(seen), "ended twice");
    writer.reset();
    assert_eq!(monitor.snapshot(), Ok(Snapshot::Idle { last: None }));
}

fn valid(seq_id: u64, group: Group) -> Transaction {
    Transaction { seq_id, group, worker: 3, lane: 5, lane_epoch: 2, reply_position: 64, start: 9 }
}

#[test]
fn memory_that_holds_none() {
    let memory = Memory::new(256, 0xa5);
    for offset in [4, 8, 32, 60, 65] {
        let error = ThreadMonitor::at(&memory.part(offset, 128)).err();
        assert!(matches!(error, Some(AttachError::Misaligned { wanted: 64, .. })), "{error:?}");
        assert_eq!(ThreadMonitor::init_at(&memory.part(offset, 128)).err(), error);
    }
    for len in [0, 63] {
        let error = Some(AttachError::TooSmall { found: len, wanted: 64 });
        assert_eq!(ThreadMonitor::at(&memory.part(64, len)).err(), error);
        assert_eq!(ThreadMonitor::init_at(&memory.part(64, len)).err(), error);
    }
    assert!(memory.bytes().iter().all(|byte| *byte == 0xa5), "untouched");
    let region = memory.part(64, 64);
    let monitor = ThreadMonitor::init_at(&region).unwrap();
    assert_eq!(monitor.snapshot(), Ok(Snapshot::Idle { last: None }));
    let bytes = memory.bytes();
    assert!(bytes[64..128].iter().all(|byte| *byte == 0), "all of it");
    assert!(bytes[..64].iter().chain(&bytes[128..]).all(|byte| *byte == 0xa5), "nothing else");
}

/// Each field from n, so that a mix of two shows.
fn numbered(n: u32) -> Transaction {
    let long = u64::from(n) << 32 | u64::from(!n);
    Transaction {
        seq_id: long,
        group: if n & 1 == 0 { Group::Normal } else { Group::Vip },
        worker: n as u16 & Transaction::MAX_WORKER,
        lane: n as u16,
        lane_epoch: n,
        reply_position: !n,
        start: long.rotate_left(7),
    }
}

/// What it says, as a number that grows: 2 n while n is being processed, and 1 more after.
fn moment(seen: Snapshot) -> u64 {
    let Some(transaction) = seen.transaction() else { return 0 };
    let n = transaction.lane_epoch;
    assert_eq!(transaction, numbered(n), "a mix");
    2 * u64::from(n) + u64::from(!seen.is_processing())
}

/// Set also if the thread fails: nobody waits for it.
struct SetAtLast<'a>(&'a AtomicBool);

impl Drop for SetAtLast<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn read_while_it_changes() {
    let count: u32 = if cfg!(target_arch = "x86_64") { 1_000_000 } else { 20_000 };
    let monitor = ThreadMonitor::starting_at(count.wrapping_neg());
    let (begun, ended) = (AtomicBool::new(false), AtomicBool::new(false));
    let patience = Patience::new();
    let other = patience.clone();
    let (mut seen, mut busy, mut different) = (0u64, 0u64, 0u64);
    std::thread::scope(|scope| {
        let (monitor, begun, ended) = (&monitor, &begun, &ended);
        scope.spawn(move || {
            let _ended = SetAtLast(ended);
            let mut writer = monitor.writer();
            while !begun.load(Relaxed) {
                other.wait();
            }
            for n in 1..=count {
                writer.begin(&numbered(n)).unwrap();
                writer.end();
                if n % 4096 == 0 {
                    // Also where there is one core.
                    std::thread::yield_now();
                }
            }
        });
        begun.store(true, Relaxed);
        let mut last = 0;
        while !ended.load(Relaxed) {
            match monitor.snapshot() {
                Ok(snapshot) => {
                    let now = moment(snapshot);
                    assert!(now >= last, "went back from {last} to {now}");
                    different += u64::from(now != last);
                    seen += 1;
                    last = now;
                }
                Err(Busy) => busy += 1,
            }
        }
    });
    println!("{seen} snapshots, {different} of them different, {busy} busy");
    assert_eq!(moment(monitor.snapshot().unwrap()), 2 * u64::from(count) + 1);
    assert!(different > 0);
}

/// Somebody changes the selector without rest: each look ends.
#[test]
fn a_selector_that_never_rests() {
    let memory = Memory::new(64, 0);
    let done = AtomicBool::new(false);
    let (mut seen, mut busy) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0u32;
            while !done.load(Relaxed) {
                n = n.wrapping_add(1);
                memory.set(0, n);
            }
        });
        let _done = SetAtLast(&done);
        let region = memory.region();
        let monitor = ThreadMonitor::at(&region).unwrap();
        for _ in 0..10_000 {
            match monitor.snapshot() {
                Ok(snapshot) => {
                    assert_eq!(snapshot, Snapshot::Idle { last: None });
                    seen += 1;
                }
                Err(Busy) => busy += 1,
            }
        }
    });
    println!("{seen} snapshots, {busy} busy");
    assert_eq!(
        Busy.to_string(),
        format!("the monitor changed during each of {} attempts", ThreadMonitor::ATTEMPTS)
    );
}
