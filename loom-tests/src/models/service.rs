//! The words of a service: orders, and who is rung when lanes pass from one worker to another.
//!
//! A lane is a number, everything relaxed: what a request is ordered by is the ring's own matter.
//! Of the end of a lane there is the owner's word.
//!
//! Orders have one number in every word, as the monitor's records have in their models; handles
//! that load when they are made are made before the threads.

use crate::harness::{Lent, check, check_eq, explore, explore_bounded, models};
use loom::sync::Arc;
use loom::thread;
use shm_primitives::place::{Bells, Cause, Orders, OrdersRow, WorkerLine};
use shm_primitives::sync::AtomicU32;
use shm_primitives::sync::Ordering::{Acquire, Relaxed, Release};
use shm_primitives::wake::{Deadline, LoomPark, published};

/// The place whose lanes pass from one to another, and the worker that it is the place of.
pub(super) const PLACE: u32 = 0;
/// Who takes them up.
pub(super) const HELPER: u32 = 1;
/// A client whose bit is in the second word.
pub(super) const CLIENT: u32 = 33;

/// Before the clock of a [`LoomPark`] runs out.
const IN_TIME: Deadline = Deadline::at(1);

fn orders(n: u32) -> Orders {
    Orders {
        incarnation: n,
        helper: Some(n),
        restarts: n,
        cause: Some(Cause::Exited(n as i32)),
        changed_ms: u64::from(n) << 32 | u64::from(n),
        ..Orders::default()
    }
}

/// A row that outlives the threads of its model.
fn row(changes: u32) -> (Lent<OrdersRow>, &'static OrdersRow) {
    let memory = Lent::new(OrdersRow::starting_at(changes));
    // SAFETY: every model keeps the first until its threads are joined.
    let row = unsafe { memory.get() };
    (memory, row)
}

/// Reads the row, which says one of `written`; which.
fn look(row: &OrdersRow, written: &[Orders]) -> usize {
    let seen = row.read();
    let at = written.iter().position(|orders| Ok(*orders) == seen);
    check!(at.is_some(), "a mix: {seen:?}");
    at.unwrap_or(0)
}

/// Two worker places, the bits of 34 clients, and one lane.
pub(super) struct Fixture {
    lines: [WorkerLine; 2],
    bits: [AtomicU32; 4],
    /// What is in the lane of [`CLIENT`] to [`PLACE`].
    pub(super) request: AtomicU32,
    /// Who has the worker's end of it: place + 1, 0 for nobody.
    pub(super) end: AtomicU32,
    pub(super) park: LoomPark,
}

/// The lane's end is `server`'s, be it served or not.
pub(super) fn fixture(server: Option<u32>) -> Arc<Fixture> {
    let fixture = Fixture {
        lines: [WorkerLine::new(), WorkerLine::new()],
        bits: [AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0)],
        request: AtomicU32::new(0),
        end: AtomicU32::new(server.map_or(0, |place| place + 1)),
        park: LoomPark::new(),
    };
    fixture.bells().worker(PLACE).unwrap().serve(PLACE);
    Arc::new(fixture)
}

impl Fixture {
    pub(super) fn bells(&self) -> Bells<'_> {
        Bells::new(&self.lines, &self.bits, CLIENT + 1).unwrap()
    }

    /// The client: a request, and whom it rings.
    pub(super) fn call(&self) -> u32 {
        self.request.store(1, Relaxed);
        self.bells().announcer(PLACE, CLIENT).unwrap().announce(&self.park)
    }

    /// Takes the lane's end, if nobody else has it.
    pub(super) fn claim(&self, by: u32) -> bool {
        let claimed = self.end.compare_exchange(0, by + 1, Acquire);
        claimed.is_ok() || claimed == Err(by + 1)
    }

    /// Looks into the lane: takes the request, if there is one and the end is to be had.
    pub(super) fn sweep(&self, by: u32) -> bool {
        self.claim(by) && self.request.load(Relaxed) == 1
    }

    /// Gives the lane's end back, and announces that.
    pub(super) fn leave(&self) {
        self.end.store(0, Release);
        let fenced = published();
        let mut announcer = self.bells().announcer(PLACE, CLIENT).unwrap();
        announcer.announce_after(&self.park, &fenced);
    }

    /// Takes the place up, sweeps it, and if nothing is there goes to sleep; whether the request
    /// came.
    pub(super) fn take_up_and_wait(&self, by: u32) -> bool {
        let bells = self.bells();
        let mut waiter = bells.worker(by).unwrap().bell().waiter();
        bells.worker(PLACE).unwrap().serve(by);
        if self.sweep(by) {
            return true;
        }
        waiter.wait(&self.park, IN_TIME, || self.sweep(by))
    }
}

models! {
    /// The first orders of a place: nothing of them is seen, or all.
    fn service_first_orders() {
        explore(|| {
            let (_memory, row) = row(0);
            let mut writer = row.writer();
            let writing = thread::spawn(move || writer.write(&orders(1)));
            look(row, &[Orders::default(), orders(1)]);
            writing.join().unwrap();
            check_eq!(row.read(), Ok(orders(1)), "after it");
        });
    }

    /// A copy is overwritten while a reader is in it: the reader notices.
    fn service_orders_overwritten() {
        explore_bounded(Some(4), || {
            let (_memory, row) = row(0);
            let mut writer = row.writer();
            writer.write(&orders(1));
            let writing = thread::spawn(move || {
                writer.write(&orders(2));
                writer.write(&orders(3));
            });
            look(row, &[orders(1), orders(2), orders(3)]);
            writing.join().unwrap();
            check_eq!(row.read(), Ok(orders(3)), "after it");
        });
    }

    /// Orders read twice while the selector wraps: the second are not older than the first.
    fn service_orders_in_order() {
        explore_bounded(Some(2), || {
            let (_memory, row) = row(u32::MAX - 1);
            let mut writer = row.writer();
            writer.write(&orders(1));
            let writing = thread::spawn(move || {
                writer.write(&orders(2));
                writer.write(&orders(3));
            });
            let written = [orders(1), orders(2), orders(3)];
            let first = look(row, &written);
            let second = look(row, &written);
            check!(second >= first, "went back from {first} to {second}");
            writing.join().unwrap();
        });
    }

    /// A client calls while another worker takes the place up: that one's sweep finds the request,
    /// or it is the one who is rung.
    fn service_handover() {
        explore(|| {
            let fixture = fixture(None);
            let calling = {
                let fixture = Arc::clone(&fixture);
                thread::spawn(move || fixture.call())
            };
            fixture.bells().worker(PLACE).unwrap().serve(HELPER);
            let found = fixture.sweep(HELPER);
            let rung = calling.join().unwrap();
            check!(found || rung == HELPER, "neither found, nor is the right one rung");
            check!(rung == PLACE || rung == HELPER, "rung: {rung}");
            let ready = fixture.bells().worker(PLACE).unwrap().ready();
            check!(ready.is_marked(CLIENT as usize), "called without its bit");
        });
    }

    /// The same with a helper that goes to sleep when its sweep has found nothing: it does not
    /// oversleep.
    fn service_handover_sleeps() {
        explore_bounded(Some(3), || {
            let fixture = fixture(None);
            let helping = {
                let fixture = Arc::clone(&fixture);
                thread::spawn(move || {
                    let came = fixture.take_up_and_wait(HELPER);
                    check!(came && !fixture.park.overslept(), "slept through a call");
                })
            };
            fixture.call();
            fixture.park.expire();
            helping.join().unwrap();
        });
    }

    /// The place's own worker leaves while its helper takes the place up, and a client has called:
    /// the helper, which finds the end of the lane busy, is rung when it is free.
    fn service_leaving() {
        explore_bounded(Some(3), || {
            let fixture = fixture(Some(PLACE));
            fixture.call();
            let helping = {
                let fixture = Arc::clone(&fixture);
                thread::spawn(move || {
                    let came = fixture.take_up_and_wait(HELPER);
                    check!(came && !fixture.park.overslept(), "left alone with a request");
                })
            };
            fixture.leave();
            fixture.park.expire();
            helping.join().unwrap();
        });
    }

    /// All three at once: the worker looks once more and leaves, its helper takes the place up,
    /// the client calls. The request is served by one of the two.
    fn service_leaving_and_calling() {
        explore_bounded(Some(2), || {
            let fixture = fixture(Some(PLACE));
            let helping = {
                let fixture = Arc::clone(&fixture);
                thread::spawn(move || fixture.take_up_and_wait(HELPER))
            };
            let calling = {
                let fixture = Arc::clone(&fixture);
                thread::spawn(move || fixture.call())
            };
            let served = fixture.sweep(PLACE);
            if served {
                fixture.request.store(0, Relaxed);
            }
            fixture.leave();
            calling.join().unwrap();
            fixture.park.expire();
            let came = helping.join().unwrap();
            check!(served != came, "served by the first: {served}, by the second: {came}");
            check!(served || !fixture.park.overslept(), "slept through a call");
        });
    }
}
