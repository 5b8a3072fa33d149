//! Step 2: a file, to three at once.

use super::Company;
use crate::commands::demo::check::Check;
use crate::commands::demo::talk::{CHUNK, Order, PATIENCE, Told};
use crate::commands::demo::{file_name, show_checks, step, text};
use crate::failure::Failure;
use crate::output::{self, BAD, Cell, GOOD, Report, Table};
use serde::Serialize;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes a second that are taken for a halt.
const SLOW: u64 = 1 << 20;

/// What was sent, and what came.
#[derive(Debug, Serialize)]
pub struct Transfer {
    path: PathBuf,
    bytes: u64,
    chunks: u32,
    crc32: u32,
    receivers: Vec<Received>,
    /// Of all receivers together.
    bytes_per_second: f64,
    pub checks: Vec<Check>,
}

#[derive(Debug, Serialize)]
struct Received {
    name: &'static str,
    bytes: u64,
    chunks: u32,
    in_order: bool,
    same_content: bool,
    bytes_per_second: f64,
}

/// Has alice send it to the others.
pub fn transfer(company: &mut Company, path: &Path) -> Result<Transfer, Failure> {
    let length = std::fs::metadata(path).map_or(0, |found| found.len());
    let patience = PATIENCE + Duration::from_secs(length / SLOW);
    let mut to = Vec::new();
    for receiver in company.receivers() {
        receiver.order(&Order::TakeFile)?;
        to.push(receiver.name.to_owned());
    }
    // Their directory is this one's.
    company.alice.order(&Order::SendFile { path: path.into(), to })?;
    let Told::FileSent { began, chunks, bytes, crc32 } = company.alice.next(patience)? else {
        return Err(company.alice.confused());
    };
    let (mut receivers, mut last) = (Vec::new(), began);
    for receiver in company.receivers() {
        let told = receiver.next(patience)?;
        let Told::FileTaken { ended, chunks: came, bytes: length, crc32: sum, in_order } = told
        else {
            return Err(receiver.confused());
        };
        last = last.max(ended);
        receivers.push(Received {
            name: receiver.name,
            bytes: length,
            chunks: came,
            in_order: in_order && came == chunks,
            same_content: sum == crc32 && length == bytes,
            bytes_per_second: text::rate(length, ended - began),
        });
    }
    let checks = vec![
        Check::new(receivers.iter().all(|one| one.in_order), "every chunk came once, and in order"),
        Check::new(
            receivers.iter().all(|one| one.same_content),
            "length and CRC-32 of what came are those of what was sent",
        ),
    ];
    let bytes_per_second = text::rate(bytes * receivers.len() as u64, last - began);
    Ok(Transfer { path: path.into(), bytes, chunks, crc32, receivers, bytes_per_second, checks })
}

impl Report for Transfer {
    fn show(&self, page: &mut dyn Write) -> io::Result<()> {
        let names: Vec<&str> = self.receivers.iter().map(|one| one.name).collect();
        let heading = format!(
            "alice sends a file, {} ({}), to {}, in chunks of {}",
            file_name(&self.path),
            output::bytes(self.bytes),
            text::list(&names),
            output::bytes(CHUNK as u64)
        );
        step(page, 2, &heading)?;
        let mut table = Table::new(["to", "chunks", "order", "content", "speed"]);
        let verdict = |good, word| match good {
            true => Cell::new(word).style(GOOD),
            false => Cell::new("WRONG").style(BAD),
        };
        for one in &self.receivers {
            table.row([
                Cell::new(one.name),
                Cell::number(text::count(one.chunks.into())),
                verdict(one.in_order, "right"),
                verdict(one.same_content, "the same"),
                Cell::number(text::megabytes(one.bytes_per_second)),
            ]);
        }
        table.show(page)?;
        writeln!(page, "  {} arrived altogether", text::megabytes(self.bytes_per_second))?;
        show_checks(page, &self.checks)
    }
}
