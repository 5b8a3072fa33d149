//! What a group of cases runs with.

use crate::measure::{Plan, Side};
use crate::nightly::Nightly;
use crate::pace::Work;
use crate::pin::Cpus;
use crate::report::Row;
use std::cell::{LazyCell, OnceCell};
use std::time::Duration;

/// The settings of a comparison, and where its rows go.
pub struct Bench {
    /// Where the two sides run.
    pub cpus: Cpus,
    plan: Plan,
    json: bool,
    group: &'static str,
    work: LazyCell<Work>,
    nightly: OnceCell<Result<Nightly, String>>,
}

impl Bench {
    /// A comparison that prints JSON, or a table.
    #[must_use]
    pub fn new(cpus: Cpus, plan: Plan, json: bool) -> Self {
        Self {
            cpus,
            plan,
            json,
            group: "",
            work: LazyCell::new(|| Work::of(Duration::from_nanos(40))),
            nightly: OnceCell::new(),
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
    pub fn nightly(&self) -> Result<&Nightly, String> {
        let built = self.nightly.get_or_init(Nightly::build);
        built.as_ref().map_err(Clone::clone)
    }

    /// Compares ours with a peer, or says why the peer was left out.
    ///
    /// # Errors
    ///
    /// When a run fails.
    pub fn versus(
        &self,
        case: &str,
        peer: &'static str,
        ours: Side,
        theirs: Result<Side, String>,
    ) -> Result<(), String> {
        eprintln!("{} / {case} / {peer}", self.group);
        self.print(&match theirs {
            Ok(theirs) => {
                let summaries = self.plan.compare(ours, theirs)?;
                Row::versus(self.group, case, peer, summaries)
            }
            Err(reason) => Row::skipped(self.group, case, peer, reason),
        });
        Ok(())
    }

    /// Compares ours with what nothing can do better than.
    ///
    /// # Errors
    ///
    /// When a run fails.
    pub fn bound(&self, case: &str, ours: Side, limit: Side) -> Result<(), String> {
        eprintln!("{} / {case} / limit", self.group);
        let summaries = self.plan.compare(ours, limit)?;
        self.print(&Row::bound(self.group, case, summaries));
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
        eprintln!("{} / {case}", self.group);
        let summary = self.plan.count(run)?;
        self.print(&Row::count(self.group, case, unit, summary));
        Ok(())
    }

    fn print(&self, row: &Row) {
        if self.json {
            row.print_json();
        } else {
            row.print_text();
        }
    }
}
