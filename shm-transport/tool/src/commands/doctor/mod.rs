//! `shm doctor`: can this process use shared memory here, and what to do if not.

mod kernel;
mod leftovers;
mod limits;
mod services;
mod storage;

use crate::cli::{Format, Global};
use crate::failure::Failure;
use crate::output::{self, BAD, GOOD, HEADING, Report, WARNING};
use serde::Serialize;
use shm_transport::domain::Domain;
use std::fmt::Display;
use std::io::{self, Write};

/// How something is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    /// As it should be.
    Ok,
    /// It will do, with a loss that is said.
    Warn,
    /// It will not do.
    Fail,
}

/// What was found about one thing.
#[derive(Debug, Serialize)]
struct Finding {
    name: &'static str,
    status: Status,
    found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Finding {
    fn ok(name: &'static str, found: impl Display) -> Self {
        Self { name, status: Status::Ok, found: found.to_string(), advice: None }
    }

    fn warn(name: &'static str, found: impl Display, advice: impl Into<String>) -> Self {
        let advice = Some(advice.into());
        Self { name, status: Status::Warn, found: found.to_string(), advice }
    }

    fn fail(name: &'static str, found: impl Display, advice: impl Into<String>) -> Self {
        Self { status: Status::Fail, ..Self::warn(name, found, advice) }
    }
}

/// All findings.
#[derive(Debug, Serialize)]
struct Diagnosis {
    /// The worst of them.
    status: Status,
    checks: Vec<Finding>,
}

/// Checks everything. Every check is made, whatever the others found.
pub fn run(global: &Global, format: Format) -> Result<(), Failure> {
    let mut checks = Vec::new();
    // With settings that cannot be read the rest is checked all the same.
    let directory = match global.directory() {
        Ok(directory) => {
            checks.push(Finding::ok("settings", "as they should be"));
            directory
        }
        Err(error) => {
            checks.push(Finding::fail("settings", error, "mend them: no node can join"));
            Domain::DIRECTORY.into()
        }
    };
    checks.extend(kernel::check());
    checks.extend(storage::check(&directory));
    checks.extend(limits::check());
    checks.extend(services::check(&directory));
    checks.extend(leftovers::check(&directory));
    let status = checks.iter().map(|check| check.status).max().unwrap_or(Status::Ok);
    output::print(global, format, &Diagnosis { status, checks })?;
    if status == Status::Fail { Err(Failure::Unhealthy) } else { Ok(()) }
}

impl Report for Diagnosis {
    fn show(&self, page: &mut dyn Write) -> io::Result<()> {
        let width = self.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
        for Finding { name, status, found, advice } in &self.checks {
            let (text, style) = match status {
                Status::Ok => ("ok", GOOD),
                Status::Warn => ("warn", WARNING),
                Status::Fail => ("FAIL", BAD),
            };
            let found = output::harmless(found);
            writeln!(page, "{style}{text:4}{style:#}  {HEADING}{name:width$}{HEADING:#}  {found}")?;
            if let Some(advice) = advice {
                writeln!(page, "{:indent$}{}", "", output::harmless(advice), indent = width + 8)?;
            }
        }
        let count = |status| self.checks.iter().filter(|check| check.status == status).count();
        let (warn, fail) = (count(Status::Warn), count(Status::Fail));
        let summary = match (warn, fail) {
            (0, 0) => format!("{GOOD}all is well{GOOD:#}"),
            (_, 0) => {
                format!("{WARNING}{}{WARNING:#}", output::plural(warn, "warning", "warnings"))
            }
            (_, _) => format!(
                "{BAD}{}{BAD:#}, {}",
                output::plural(fail, "failure", "failures"),
                output::plural(warn, "warning", "warnings")
            ),
        };
        writeln!(page, "{summary}")
    }
}
