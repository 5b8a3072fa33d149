//! The monitor. Transaction number n has n in every word of its record, so that a mix of two
//! is none of those written.
//!
//! Two threads, of which the writing one never loads a word that the other loads too: of the
//! accesses to a word loom remembers the last alone, and a load by the writer in front of its
//! store would hide from loom that the store could have come before the reader's load. So
//! handles, which load when they are made, are made before the threads.
//!
//! A record is seven words, and every interleaving of two changes with a snapshot takes a
//! minute; the bound is on switches between the threads, not on what a load may return.

use crate::harness::{Lent, check, check_eq, explore, explore_bounded, models};
use loom::thread;
use shm_primitives::monitor::{Group, Snapshot, ThreadMonitor, Transaction};

pub(super) fn transaction(n: u16) -> Transaction {
    let twice = u64::from(n) << 32 | u64::from(n);
    Transaction {
        seq_id: twice,
        group: if n & 1 == 0 { Group::Normal } else { Group::Vip },
        worker: n,
        lane: n,
        lane_epoch: n.into(),
        reply_position: n.into(),
        start: twice,
    }
}

pub(super) fn processing(n: u16) -> Snapshot {
    Snapshot::Processing(transaction(n))
}

pub(super) fn ended(n: u16) -> Snapshot {
    Snapshot::Idle { last: Some(transaction(n)) }
}

pub(super) const NOTHING: Snapshot = Snapshot::Idle { last: None };

/// A monitor that outlives the threads of its model.
pub(super) fn monitor(changes: u32) -> (Lent<ThreadMonitor>, &'static ThreadMonitor) {
    let memory = Lent::new(ThreadMonitor::starting_at(changes));
    // SAFETY: every model keeps the first until its threads are joined.
    let monitor = unsafe { memory.get() };
    (memory, monitor)
}

/// Takes a snapshot, which is one of `written`; which.
pub(super) fn look(monitor: &ThreadMonitor, written: &[Snapshot]) -> usize {
    let seen = monitor.snapshot();
    // Each attempt that fails has seen a change, and there are few.
    check!(seen.is_ok(), "busy");
    let at = written.iter().position(|record| *record == seen.unwrap());
    check!(at.is_some(), "a mix: {:?}", seen.unwrap());
    at.unwrap()
}

models! {
    /// The first record of a worker: nothing of it is seen, or all.
    fn monitor_first_record() {
        explore(|| {
            let (_memory, monitor) = monitor(0);
            let mut writer = monitor.writer();
            let writing = thread::spawn(move || writer.begin(&transaction(1)).unwrap());
            look(monitor, &[NOTHING, processing(1)]);
            writing.join().unwrap();
            check_eq!(monitor.snapshot(), Ok(processing(1)), "after it");
        });
    }

    /// A copy is overwritten while a reader is in it: the reader notices.
    fn monitor_overwritten() {
        explore_bounded(Some(4), || {
            let (_memory, monitor) = monitor(0);
            let mut writer = monitor.writer();
            writer.begin(&transaction(1)).unwrap();
            let writing = thread::spawn(move || {
                writer.end();
                writer.begin(&transaction(2)).unwrap();
            });
            look(monitor, &[processing(1), ended(1), processing(2)]);
            writing.join().unwrap();
            check_eq!(monitor.snapshot(), Ok(processing(2)), "after it");
        });
    }

    /// The same while the selector wraps.
    fn monitor_wrap() {
        explore_bounded(Some(3), || {
            let (_memory, monitor) = monitor(u32::MAX - 1);
            let mut writer = monitor.writer();
            writer.begin(&transaction(1)).unwrap();
            let writing = thread::spawn(move || {
                writer.end();
                writer.begin(&transaction(2)).unwrap();
            });
            look(monitor, &[processing(1), ended(1), processing(2)]);
            writing.join().unwrap();
            check_eq!(monitor.snapshot(), Ok(processing(2)), "after it");
        });
    }

    /// Two snapshots one after the other: the second is not older than the first.
    fn monitor_in_order() {
        explore_bounded(Some(2), || {
            let (_memory, monitor) = monitor(1);
            let mut writer = monitor.writer();
            writer.begin(&transaction(1)).unwrap();
            let writing = thread::spawn(move || {
                writer.end();
                writer.begin(&transaction(2)).unwrap();
            });
            let written = [processing(1), ended(1), processing(2)];
            let first = look(monitor, &written);
            let second = look(monitor, &written);
            check!(second >= first, "went back from {first} to {second}");
            writing.join().unwrap();
        });
    }
}
