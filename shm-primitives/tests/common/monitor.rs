//! The monitor written down once more, as plainly as possible: what every operation leaves in
//! each of the 16 words, and what they mean.

use super::dead;
use super::memory::Memory;
use shm_primitives::monitor::{
    Group, InvalidTransaction, MonitorWriter, Snapshot, ThreadMonitor, Transaction,
};

/// An operation of either side, or of somebody who keeps no protocol.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    Begin(Transaction),
    End,
    Reset,
    /// A new handle: after a death, or not.
    Reopen {
        died: bool,
    },
    /// Overwrites word number `.0`, modulo 16.
    Poke(u8, u32),
}

/// The words as they must be, and the writer's own.
struct Reference {
    words: [u32; 16],
    selector: u32,
    record: [u32; 7],
}

fn copy(selector: u32) -> core::ops::Range<usize> {
    if selector.is_multiple_of(2) { 1..8 } else { 8..15 }
}

impl Reference {
    fn reopen(&mut self) {
        self.selector = self.words[0];
        self.record.copy_from_slice(&self.words[copy(self.selector)]);
    }

    fn change(&mut self, record: [u32; 7]) {
        self.record = record;
        self.selector = self.selector.wrapping_add(1);
        self.words[copy(self.selector)].copy_from_slice(&record);
        self.words[0] = self.selector;
    }

    fn snapshot(&self) -> Snapshot {
        let words = &self.words[copy(self.words[0])];
        let long = |at: usize| words[at + 1] as u64 * (1 << 32) + words[at] as u64;
        let place = words[4];
        let transaction = Transaction {
            seq_id: long(0),
            group: [Group::Normal, Group::Vip][(place / (1 << 30) % 2) as usize],
            worker: (place / (1 << 16) % (1 << 14)) as u16,
            lane: (place % (1 << 16)) as u16,
            lane_epoch: words[5],
            reply_position: words[6],
            start: long(2),
        };
        match (transaction.seq_id, place / (1 << 31)) {
            (0, _) => Snapshot::Idle { last: None },
            (_, 0) => Snapshot::Idle { last: Some(transaction) },
            _ => Snapshot::Processing(transaction),
        }
    }
}

fn words_of(t: &Transaction) -> [u32; 7] {
    let group = if t.group == Group::Vip { 1 << 30 } else { 0 };
    [
        (t.seq_id % (1 << 32)) as u32,
        (t.seq_id / (1 << 32)) as u32,
        (t.start % (1 << 32)) as u32,
        (t.start / (1 << 32)) as u32,
        (1 << 31) + group + (1 << 16) * t.worker as u32 + t.lane as u32,
        t.lane_epoch,
        t.reply_position,
    ]
}

/// Runs `ops` on a monitor that begins as the 16 `words`, and compares each word and what a
/// reader sees after each of them.
pub fn run(words: [u32; 16], ops: impl IntoIterator<Item = Op>) {
    let memory = Memory::new(64, 0);
    for (n, word) in words.into_iter().enumerate() {
        memory.set(4 * n, word);
    }
    let region = memory.region();
    let monitor = ThreadMonitor::at(&region).unwrap();
    let mut writer: MonitorWriter<'_> = monitor.writer();
    let mut reference = Reference { words, selector: 0, record: [0; 7] };
    reference.reopen();
    let compare = |reference: &Reference| {
        let found: [u32; 16] = core::array::from_fn(|n| memory.get(4 * n));
        assert_eq!(found, reference.words);
        let snapshot = monitor.snapshot().expect("nobody writes meanwhile");
        assert_eq!(snapshot, reference.snapshot());
        assert_eq!(snapshot.is_processing(), matches!(snapshot, Snapshot::Processing(_)));
        assert_eq!(snapshot.processing_seq().is_some(), snapshot.is_processing());
        let transaction = snapshot.transaction();
        assert_eq!(snapshot.group(), transaction.map(|t| t.group));
        assert_eq!(snapshot.worker(), transaction.map(|t| t.worker));
        assert_eq!(snapshot.start(), transaction.map(|t| t.start));
        // Whatever stands in the memory, it is a transaction that could have begun.
        assert!(transaction.is_none_or(|t| t.seq_id != 0 && t.worker <= Transaction::MAX_WORKER));
    };
    compare(&reference);
    for op in ops {
        match op {
            Op::Begin(t) => {
                let begun = writer.begin(&t);
                if t.seq_id == 0 {
                    assert_eq!(begun, Err(InvalidTransaction::NoSequenceId));
                } else if t.worker >= 1 << 14 {
                    assert_eq!(begun, Err(InvalidTransaction::Worker { found: t.worker }));
                } else {
                    assert_eq!(begun, Ok(()));
                    reference.change(words_of(&t));
                    // The writer believes nothing it finds, so this holds after any poke.
                    assert_eq!(monitor.snapshot(), Ok(Snapshot::Processing(t)));
                }
            }
            Op::End => {
                writer.end();
                let mut record = reference.record;
                record[4] %= 1 << 31;
                reference.change(record);
                assert!(!monitor.snapshot().unwrap().is_processing());
            }
            Op::Reset => {
                writer.reset();
                reference.change([0; 7]);
                assert_eq!(monitor.snapshot(), Ok(Snapshot::Idle { last: None }));
            }
            Op::Reopen { died } => {
                writer = if died { monitor.recover_writer(dead(1)) } else { monitor.writer() };
                reference.reopen();
            }
            Op::Poke(at, value) => {
                let at = usize::from(at) % 16;
                memory.set(4 * at, value);
                reference.words[at] = value;
            }
        }
        compare(&reference);
    }
    memory.check_guards();
}
