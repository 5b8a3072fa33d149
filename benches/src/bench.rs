//! What a group of cases runs with.

use crate::apart::{Apart, ICEORYX2, NIGHTLY};
use crate::measure::{Plan, Side};
use crate::pace::Work;
use crate::pin::Cpus;
use crate::report::Row;
use crate::round_trip::{Run, floor};
use std::cell::{LazyCell, OnceCell};
use std::time::Duration;

/// Trips of a look at the floor: a fraction of a millisecond.
const FLOOR_TRIPS: u64 = 1000;

/// The settings of a comparison, and where its rows go.
pub struct Bench {
    /// Where the two sides run.
    pub cpus: Cpus,
    plan: Plan,
    json: bool,
    only: Option<String>,
    group: &'static str,
    work: LazyCell<Work>,
    nightly: OnceCell<Result<Apart, String>>,
    iceoryx2: OnceCell<Result<Apart, String>>,
}

impl Bench {
    /// A comparison that prints JSON, or a table; of the rows whose `case / peer` contains
    /// `only`, if it is given.
    #[must_use]
    pub fn new(cpus: Cpus, plan: Plan, json: bool, only: Option<String>) -> Self {
        Self {
            cpus,
            plan,
            json,
            only,
            group: "",
            work: LazyCell::new(|| Work::of(Duration::from_nanos(40))),
            nightly: OnceCell::new(),
            iceoryx2: OnceCell::new(),
        }
    }

    /// Names the group of the rows to come.
    pub fn begin(&mut self, group: &'static str) {
        self.group = group;
    }

    /// What a paced side does between messages.
    #[must_use]
    pub fn work(&self) -> Work {
        *self.work
    }

    /// The peers that stable does not build; building them the first time.
    ///
    /// # Errors
    ///
    /// When no toolchain builds them: why.
    pub fn nightly(&self) -> Result<&Apart, String> {
        let built = self.nightly.get_or_init(|| Apart::build(&NIGHTLY));
        built.as_ref().map_err(Clone::clone)
    }

    /// iceoryx2; building it the first time.
    ///
    /// # Errors
    ///
    /// When it does not build: why.
    pub fn iceoryx2(&self) -> Result<&Apart, String> {
        let built = self.iceoryx2.get_or_init(|| Apart::build(&ICEORYX2));
        built.as_ref().map_err(Clone::clone)
    }

    /// Compares ours with a peer, or says why the peer was left out. `theirs` is called only
    /// for a row that is asked for, since it may have to build the peer.
    ///
    /// # Errors
    ///
    /// When a run fails.
    pub fn versus<'a>(
        &self,
        case: &str,
        peer: &'static str,
        ours: Side,
        theirs: impl FnOnce() -> Result<Side<'a>, String>,
    ) -> Result<(), String> {
        if !self.begin_row(case, peer) {
            return Ok(());
        }
        match theirs() {
            Ok(theirs) => {
                for state in self.plan.compare(ours, theirs, || self.floor())? {
                    self.print(&Row::versus(self.group, case, peer, state));
                }
            }
            Err(reason) => self.print(&Row::skipped(self.group, case, peer, reason)),
        }
        Ok(())
    }

    /// Compares ours with what nothing can do better than.
    ///
    /// # Errors
    ///
    /// When a run fails.
    pub fn bound(&self, case: &str, ours: Side, limit: Side) -> Result<(), String> {
        if !self.begin_row(case, "limit") {
            return Ok(());
        }
        for state in self.plan.compare(ours, limit, || self.floor())? {
            self.print(&Row::bound(self.group, case, state));
        }
        Ok(())
    }

    /// Counts something of ours, where time is not the question.
    ///
    /// # Errors
    ///
    /// When a run fails.
    pub fn count(
        &self,
        case: &str,
        unit: &'static str,
        run: impl FnMut(u64) -> Result<f64, String>,
    ) -> Result<(), String> {
        if !self.begin_row(case, unit) {
            return Ok(());
        }
        let summary = self.plan.count(run)?;
        self.print(&Row::count(self.group, case, unit, summary));
        Ok(())
    }

    /// Measures something of ours beside the most that it may be.
    ///
    /// # Errors
    ///
    /// When a run fails.
    pub fn within(
        &self,
        case: &str,
        unit: &'static str,
        most: f64,
        run: impl FnMut() -> Result<f64, String>,
    ) -> Result<(), String> {
        if !self.begin_row(case, "most") {
            return Ok(());
        }
        let summary = self.plan.repeat(run)?;
        self.print(&Row::within(self.group, case, unit, summary, most));
        Ok(())
    }

    /// Measures what a message of ours takes beside the most that it may, on a run of so many that
    /// it takes as long as planned.
    ///
    /// # Errors
    ///
    /// When a run fails.
    pub fn each_within(&self, case: &str, most: f64, ours: Side) -> Result<(), String> {
        if !self.begin_row(case, "most") {
            return Ok(());
        }
        let summary = self.plan.alone(ours)?;
        self.print(&Row::within(self.group, case, "ns", summary, most));
        Ok(())
    }

    /// Whether the row is asked for; if so says that it is begun.
    fn begin_row(&self, case: &str, other: &str) -> bool {
        let row = format!("{case} / {other}");
        let wanted = self.only.as_ref().is_none_or(|only| row.contains(only));
        if wanted {
            eprintln!("{} / {row}", self.group);
        }
        wanted
    }

    /// What it takes just now to bounce a word between the two CPUs.
    fn floor(&self) -> Result<f64, String> {
        let run = Run { cpus: self.cpus, count: FLOOR_TRIPS };
        Ok(floor(run)?.as_secs_f64() * 1e9 / FLOOR_TRIPS as f64)
    }

    fn print(&self, row: &Row) {
        if self.json {
            row.print_json();
        } else {
            row.print_text();
        }
    }
}
