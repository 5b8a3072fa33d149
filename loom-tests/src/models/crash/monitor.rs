//! A worker and its successors, while somebody looks.
//!
//! As in the ordinary models the mortal thread loads nothing, so its handle is made before it,
//! and one other thread reads. The selector wraps at the first change of the mortal thread.
//! Where it makes two changes the switches between the threads are bounded; without the bound
//! these models take minutes.

use super::{HEIR, WRITER, at_every_step_bounded, dead};
use crate::harness::{check, check_eq, models};
use crate::models::monitor::{NOTHING, ended, look, monitor, processing, transaction};
use loom::thread;
use shm_primitives::monitor::{MonitorWriter, Snapshot, ThreadMonitor};
use shm_primitives::sync::crash::{self, Outcome};

/// Steps of a change: seven words, the selector.
const CHANGE: u32 = 8;

/// What stands in the monitor after a death is the last of `written` that was whole, not older
/// than `seen`; a successor finds it, and goes on as with a new monitor.
fn check_left(
    monitor: &ThreadMonitor,
    mut successor: MonitorWriter<'_>,
    written: &[Snapshot],
    seen: usize,
    survived: bool,
) {
    let left = look(monitor, written);
    check!(left >= seen, "went back from {seen} to {left}");
    check!(!survived || left + 1 == written.len(), "only {left} changes of a worker alive");
    check_eq!(successor.snapshot(), written[left], "what the successor finds");
    successor.reset();
    check_eq!(monitor.snapshot(), Ok(NOTHING), "after the reset");
    successor.begin(&transaction(8)).unwrap();
    check_eq!(monitor.snapshot(), Ok(processing(8)), "as good as new");
    successor.end();
    check_eq!(monitor.snapshot(), Ok(ended(8)), "as good as new");
}

/// What is written before the mortal thread begins, and what that does.
type Changes = fn(&mut MonitorWriter<'static>);

/// After the `before` changes of `prepare` a worker dies in `operate`, which writes `written`
/// but for the first, while another thread looks so many times.
fn worker_dies(
    preemptions: Option<usize>,
    looks: u32,
    (before, prepare): (u32, Changes),
    operate: Changes,
    written: &'static [fn() -> Snapshot],
) {
    let steps = CHANGE * (written.len() as u32 - 1);
    at_every_step_bounded(preemptions, steps, move |mortal| {
        let written: Vec<Snapshot> = written.iter().map(|record| record()).collect();
        let (_memory, monitor) = monitor(u32::MAX - before);
        let mut writer = monitor.writer();
        prepare(&mut writer);
        let mortal = mortal.clone();
        let dying = thread::spawn(move || mortal.live(move || operate(&mut writer)).is_some());
        let mut seen = 0;
        for _ in 0..looks {
            let now = look(monitor, &written);
            check!(now >= seen, "went back from {seen} to {now}");
            seen = now;
        }
        let survived = dying.join().unwrap();
        check_left(monitor, monitor.recover_writer(dead(WRITER)), &written, seen, survived);
    });
}

/// A worker has died in its second `begin`, after `half` of its stores. Its successor dies in
/// `operate`, which writes `written` but for the first, while another thread looks; and a
/// second successor goes on.
fn successor_dies(
    preemptions: Option<usize>,
    half: u32,
    operate: Changes,
    written: &'static [fn() -> Snapshot],
) {
    let steps = CHANGE * (written.len() as u32 - 1);
    at_every_step_bounded(preemptions, steps, move |mortal| {
        let written: Vec<Snapshot> = written.iter().map(|record| record()).collect();
        let (_memory, monitor) = monitor(u32::MAX - 1);
        let mut writer = monitor.writer();
        writer.begin(&transaction(1)).unwrap();
        let first = crash::run(half, move || writer.begin(&transaction(2)));
        check!(matches!(first, Outcome::Died), "the first survived");
        let mut successor = monitor.recover_writer(dead(WRITER));
        check_eq!(successor.snapshot(), processing(1), "what the successor finds");
        let mortal = mortal.clone();
        let dying = thread::spawn(move || mortal.live(move || operate(&mut successor)).is_some());
        let seen = look(monitor, &written);
        let survived = dying.join().unwrap();
        let second = monitor.recover_writer(dead(HEIR));
        check_left(monitor, second, &written, seen, survived);
    });
}

fn begin_2(writer: &mut MonitorWriter<'static>) {
    writer.begin(&transaction(2)).unwrap();
}

models! {
    /// A worker in its first `begin`.
    fn crash_monitor_first() {
        worker_dies(None, 1, (0, |_| {}), begin_2, &[|| NOTHING, || processing(2)]);
    }

    /// A worker in `begin`, over a copy that had a record; two looks, the second of which is
    /// not older.
    fn crash_monitor_begin() {
        let prepare: Changes = |writer| {
            writer.begin(&transaction(1)).unwrap();
            writer.end();
        };
        worker_dies(None, 2, (2, prepare), begin_2, &[|| ended(1), || processing(2)]);
    }

    /// A worker in `end`.
    fn crash_monitor_end() {
        let prepare: Changes = |writer| writer.begin(&transaction(1)).unwrap();
        let written: &[fn() -> Snapshot] = &[|| processing(1), || ended(1)];
        worker_dies(None, 2, (1, prepare), MonitorWriter::end, written);
    }

    /// A worker that resets its own record.
    fn crash_monitor_reset() {
        let prepare: Changes = |writer| writer.begin(&transaction(1)).unwrap();
        let written: &[fn() -> Snapshot] = &[|| processing(1), || NOTHING];
        worker_dies(None, 2, (1, prepare), MonitorWriter::reset, written);
    }

    /// A worker that dies in its second change, over the copy that a reader is in, or in the
    /// first.
    fn crash_monitor_overwritten() {
        let prepare: Changes = |writer| writer.begin(&transaction(1)).unwrap();
        let operate: Changes = |writer| {
            writer.end();
            begin_2(writer);
        };
        let written: &[fn() -> Snapshot] = &[|| processing(1), || ended(1), || processing(2)];
        worker_dies(Some(3), 1, (1, prepare), operate, written);
    }

    /// A successor that dies in `reset`, over the copy that its predecessor left half written.
    fn crash_monitor_successor() {
        for half in [0, 3, CHANGE - 1] {
            successor_dies(None, half, MonitorWriter::reset, &[|| processing(1), || NOTHING]);
        }
    }

    /// A successor that resets and dies in its `begin`, over the copy that a reader is in.
    fn crash_monitor_successor_begins() {
        let operate: Changes = |successor| {
            successor.reset();
            begin_2(successor);
        };
        successor_dies(Some(3), 3, operate, &[|| processing(1), || NOTHING, || processing(2)]);
    }
}
