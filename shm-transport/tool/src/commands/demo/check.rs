//! What must be so.

use crate::output::{BAD, GOOD, harmless};
use serde::Serialize;
use std::io::{self, Write};

/// Something that was promised, and whether it was so.
#[derive(Debug, Serialize)]
pub struct Check {
    pub name: String,
    pub passed: bool,
}

impl Check {
    /// Whether it was so.
    pub fn new(passed: bool, name: impl Into<String>) -> Self {
        Self { name: name.into(), passed }
    }

    /// A line of it.
    pub fn show(&self, page: &mut dyn Write) -> io::Result<()> {
        let (text, style) = if self.passed { ("ok", GOOD) } else { ("FAILED", BAD) };
        writeln!(page, "  {style}{text}{style:#}  {}", harmless(&self.name))
    }
}
