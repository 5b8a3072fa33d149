//! The last step: nothing is left.

use crate::commands::demo::cast::{Stage, left_in};
use crate::commands::demo::check::Check;
use crate::commands::demo::{show_checks, step};
use crate::failure::Failure;
use crate::output::Report;
use serde::Serialize;
use std::io::{self, Write};

/// What is left.
#[derive(Debug, Serialize)]
pub struct End {
    segments: usize,
    bytes: u64,
    pub checks: Vec<Check>,
    #[serde(skip)]
    number: u32,
}

/// Looks what is left when all have left.
pub fn end(stage: &Stage, ended_well: bool, number: u32) -> Result<End, Failure> {
    let (segments, bytes) = left_in(&stage.domain)?;
    let directory = stage.domain.directory().display();
    let checks = vec![
        Check::new(ended_well, "every process that was not killed left, and ended by itself"),
        Check::new(segments == 0, format!("nothing of the domain is left in {directory}")),
    ];
    Ok(End { segments, bytes, checks, number })
}

impl Report for End {
    fn show(&self, page: &mut dyn Write) -> io::Result<()> {
        step(page, self.number, "All leave")?;
        show_checks(page, &self.checks)
    }
}
