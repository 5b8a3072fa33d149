//! The monitor.

use crate::common::dead;
use crate::common::memory::Memory;
use crate::harness::{at_every_step, die};
use shm_primitives::monitor::{Group, MonitorWriter, Snapshot, ThreadMonitor, Transaction};

/// Stores of one change: seven words and the selector.
const STORES: u32 = 8;

const NOTHING: Snapshot = Snapshot::Idle { last: None };

/// Each field from n, so that a mix of two shows.
fn transaction(n: u16) -> Transaction {
    let long = u64::from(n) << 32 | u64::from(!n);
    Transaction {
        seq_id: long,
        group: if n & 1 == 0 { Group::Normal } else { Group::Vip },
        worker: n,
        lane: !n,
        lane_epoch: n.into(),
        reply_position: (!n).into(),
        start: !long,
    }
}

fn processing(n: u16) -> Snapshot {
    Snapshot::Processing(transaction(n))
}

fn ended(n: u16) -> Snapshot {
    Snapshot::Idle { last: Some(transaction(n)) }
}

fn begin(writer: &mut MonitorWriter<'_>, n: u16) {
    writer.begin(&transaction(n)).unwrap();
}

/// What came before the operation.
#[derive(Clone, Copy, Debug)]
struct State {
    /// The selector when the monitor was made.
    changes: u32,
    before: Before,
}

#[derive(Clone, Copy, Debug)]
enum Before {
    Nothing,
    Begun,
    Ended,
    Reset,
    /// An earlier writer died in `begin` after so many stores, while 1 was being processed.
    Died(u32),
}

fn states() -> impl Iterator<Item = State> {
    let befores = [Before::Nothing, Before::Begun, Before::Ended, Before::Reset];
    let befores = befores.into_iter().chain((0..STORES).map(Before::Died));
    let changes = [0, 1, u32::MAX - 2, u32::MAX - 1, u32::MAX];
    befores.flat_map(move |before| changes.map(|changes| State { changes, before }))
}

impl State {
    fn monitor(self) -> ThreadMonitor {
        ThreadMonitor::starting_at(self.changes)
    }

    /// Brings `monitor` there; a handle, and what stands in it.
    fn reach(self, monitor: &ThreadMonitor) -> (MonitorWriter<'_>, Snapshot) {
        let mut writer = monitor.writer();
        let holds = match self.before {
            Before::Nothing => NOTHING,
            Before::Begun => {
                begin(&mut writer, 1);
                processing(1)
            }
            Before::Ended => {
                begin(&mut writer, 1);
                writer.end();
                ended(1)
            }
            Before::Reset => {
                begin(&mut writer, 1);
                writer.reset();
                NOTHING
            }
            Before::Died(stores) => {
                begin(&mut writer, 1);
                assert!(die(stores, move || begin(&mut writer, 9)).is_none());
                writer = monitor.recover_writer(dead(1));
                processing(1)
            }
        };
        assert_eq!(monitor.snapshot(), Ok(holds), "{self:?}");
        (writer, holds)
    }
}

/// Lets an operation of several changes die at each store. After so many whole changes as it
/// had made there stands what `after` says of the record before and that number; then every
/// way to go on works.
fn dies(
    what: &str,
    changes: u32,
    operation: impl Fn(&mut MonitorWriter<'_>) + Copy,
    after: impl Fn(Snapshot, u32) -> Snapshot + Copy,
) {
    for state in states() {
        for go_on in 0..3 {
            let deaths = at_every_step(what, |budget| {
                let monitor = state.monitor();
                let (mut writer, before) = state.reach(&monitor);
                let survived = die(budget, move || operation(&mut writer)).is_some();
                let whole = if survived { changes } else { budget / STORES };
                let left = match whole {
                    0 => before,
                    n => after(before, n),
                };
                assert_eq!(monitor.snapshot(), Ok(left), "{state:?}");
                let mut heir = monitor.recover_writer(dead(1));
                assert_eq!(monitor.snapshot(), Ok(left), "{state:?}: taking over changes nothing");
                check_usable(&monitor, &mut heir, left, go_on);
                survived
            });
            assert_eq!(deaths, changes * STORES, "{what}: stores");
        }
    }
}

/// Goes on from `left` by end, reset or begin, and through both copies after that.
fn check_usable(
    monitor: &ThreadMonitor,
    writer: &mut MonitorWriter<'_>,
    left: Snapshot,
    go_on: u32,
) {
    match go_on {
        0 => {
            writer.end();
            let last = left.transaction();
            assert_eq!(monitor.snapshot(), Ok(Snapshot::Idle { last }));
        }
        1 => {
            writer.reset();
            assert_eq!(monitor.snapshot(), Ok(NOTHING));
        }
        _ => {}
    }
    for n in 100..103 {
        begin(writer, n);
        assert_eq!(monitor.snapshot(), Ok(processing(n)));
        writer.end();
        assert_eq!(monitor.snapshot(), Ok(ended(n)));
    }
}

#[test]
fn begins() {
    dies("begin", 1, |writer| begin(writer, 2), |_, _| processing(2));
}

#[test]
fn ends() {
    dies(
        "end",
        1,
        |writer| writer.end(),
        |before, _| Snapshot::Idle { last: before.transaction() },
    );
}

#[test]
fn resets() {
    dies("reset", 1, |writer| writer.reset(), |_, _| NOTHING);
}

#[test]
fn a_worker_at_work() {
    dies(
        "begin, end, begin, begin, end",
        5,
        |writer| {
            begin(writer, 2);
            writer.end();
            begin(writer, 3);
            begin(writer, 4);
            writer.end();
        },
        |_, changes| match changes {
            1 => processing(2),
            2 => ended(2),
            3 => processing(3),
            4 => processing(4),
            _ => ended(4),
        },
    );
}

/// A monitor half made decodes to something, and is made by making it again.
#[test]
fn creation() {
    let deaths = at_every_step("init_at", |budget| {
        let memory = Memory::new(64, 0xa5);
        let region = memory.region();
        let survived = die(budget, || ThreadMonitor::init_at(&region).unwrap()).is_some();
        let monitor = ThreadMonitor::at(&region).unwrap();
        assert!(monitor.snapshot().is_ok());
        let monitor = if survived { monitor } else { ThreadMonitor::init_at(&region).unwrap() };
        assert_eq!(monitor.snapshot(), Ok(NOTHING));
        check_usable(monitor, &mut monitor.writer(), NOTHING, 0);
        survived
    });
    assert_eq!(deaths, 16);
}
