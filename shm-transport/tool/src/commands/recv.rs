//! `shm recv`, `shm echo`: as a node, show what comes, or send it back.

use super::joining::{join_with, leave};
use crate::cli::{Echo, Global, Recv};
use crate::failure::Failure;
use crate::output;
use serde::Serialize;
use shm_transport::node::{Filter, Label, Reading};
use std::io::Write;
use std::time::Duration;

/// Bytes of a message that is no text that are shown.
const SHOWN: usize = 32;

/// A message, as JSON.
#[derive(Debug, Serialize)]
struct Line<'r> {
    from: &'r str,
    group: u32,
    topic: u32,
    bytes: usize,
    /// What it says, if it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'r str>,
    /// What it holds, if it is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
}

/// Shows what comes.
pub fn recv(global: &Global, options: &Recv) -> Result<(), Failure> {
    let mut filter = Filter::ALL;
    for group in &options.groups {
        filter = filter.group(*group);
    }
    for topic in &options.topics {
        filter = filter.topic(*topic);
    }
    let node = join_with(global, Some(&options.name), |builder| builder.filter(filter))?;
    let mut receiver = node.receiver()?;
    let (mut stdout, mut raw) = (output::stdout(global.color), output::unbuffered()?);
    let mut seen = 0;
    while options.count.is_none_or(|count| seen < count) {
        let Some(reading) = receiver.read_timeout(options.timeout.unwrap_or(Duration::MAX))? else {
            return Err(Failure::Nothing(format!(
                "no message came to {} for {:?}",
                options.name,
                options.timeout.unwrap_or_default()
            )));
        };
        let mut page = Vec::new();
        if options.raw {
            raw.write_all(&reading)?;
        } else if options.format.json {
            line(&mut page, &reading)?;
        } else {
            text(&mut page, &reading)?;
        }
        stdout.write_all(&page)?;
        stdout.flush()?;
        reading.release();
        seen += 1;
    }
    drop(receiver);
    leave(&node)
}

fn line(page: &mut Vec<u8>, reading: &Reading<'_>) -> Result<(), Failure> {
    let (Label { group, topic }, text) = (reading.label(), str::from_utf8(reading).ok());
    let hex = || reading.iter().map(|byte| format!("{byte:02x}")).collect();
    let from = String::from_utf8_lossy(reading.sender().as_bytes());
    let hex = if text.is_none() { Some(hex()) } else { None };
    let line = Line { from: &from, group, topic, bytes: reading.len(), text, hex };
    serde_json::to_writer(&mut *page, &line)?;
    page.push(b'\n');
    Ok(())
}

fn text(page: &mut Vec<u8>, reading: &Reading<'_>) -> Result<(), Failure> {
    let from = output::harmless(&String::from_utf8_lossy(reading.sender().as_bytes()));
    let label = match reading.label() {
        Label::NONE => String::new(),
        Label { group, topic } => format!(" {group}/{topic}"),
    };
    write!(page, "{from}{label}: ")?;
    match str::from_utf8(reading) {
        Ok(text) => writeln!(page, "{}", output::harmless(text))?,
        Err(_) => {
            write!(page, "{} bytes", reading.len())?;
            for byte in reading.iter().take(SHOWN) {
                write!(page, " {byte:02x}")?;
            }
            writeln!(page, "{}", if reading.len() > SHOWN { " ..." } else { "" })?;
        }
    }
    Ok(())
}

/// Sends back what comes.
pub fn echo(global: &Global, options: &Echo) -> Result<(), Failure> {
    let node = join_with(global, Some(&options.name), |builder| builder)?;
    let mut seen = 0;
    while options.count.is_none_or(|count| seen < count) {
        let Some(message) = node.recv_timeout(options.timeout.unwrap_or(Duration::MAX))? else {
            return Err(Failure::Nothing(format!("no message came to {}", options.name)));
        };
        let sent = match str::from_utf8(message.sender().as_bytes()) {
            Ok(to) => node.send_labelled(to, message.label(), &message).map_err(|e| e.to_string()),
            Err(_) => Err("its sender's name is no text".into()),
        };
        if let Err(error) = sent {
            // It went away without waiting, perhaps. Others are served nevertheless.
            log::warn!("no answer to {}: {error}", message.sender());
        }
        seen += 1;
    }
    leave(&node)
}
