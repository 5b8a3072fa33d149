//! Step 3: messages to everybody.

use super::Company;
use crate::commands::demo::check::Check;
use crate::commands::demo::talk::{Order, PATIENCE, Told};
use crate::commands::demo::{show_checks, step, text};
use crate::failure::Failure;
use crate::output::{Cell, Report, Table};
use serde::Serialize;
use std::io::{self, Write};

const MESSAGES: [&str; 3] = ["Good morning!", "Is everybody there?", "Then let us begin."];

/// Who got what.
#[derive(Debug, Serialize)]
pub struct Broadcasting {
    messages: Vec<Heard>,
    pub checks: Vec<Check>,
}

#[derive(Debug, Serialize)]
struct Heard {
    message: &'static str,
    /// By how many it was accepted.
    accepted: usize,
    heard_by: Vec<&'static str>,
}

/// Has alice broadcast, and the others listen.
pub fn broadcast(company: &mut Company) -> Result<Broadcasting, Failure> {
    for listener in company.receivers() {
        listener.order(&Order::Hear)?;
    }
    let messages = MESSAGES.map(String::from).into();
    company.alice.order(&Order::Broadcast { messages })?;
    let Told::Broadcast { reached } = company.alice.next(PATIENCE)? else {
        return Err(company.alice.confused());
    };
    let mut heard: Vec<Heard> = MESSAGES
        .iter()
        .zip(reached)
        .map(|(message, accepted)| Heard { message, accepted, heard_by: Vec::new() })
        .collect();
    let mut all = true;
    for listener in company.receivers() {
        let Told::Heard { messages } = listener.next(PATIENCE)? else {
            return Err(listener.confused());
        };
        all &= messages == MESSAGES;
        for one in heard.iter_mut().filter(|one| messages.iter().any(|heard| heard == one.message))
        {
            one.heard_by.push(listener.name);
        }
    }
    let counted = heard.iter().all(|one| one.accepted == one.heard_by.len());
    let checks = vec![
        Check::new(all, "everybody but alice got every message, once and in order"),
        Check::new(counted, "the sender was told by how many"),
    ];
    Ok(Broadcasting { messages: heard, checks })
}

impl Report for Broadcasting {
    fn show(&self, page: &mut dyn Write) -> io::Result<()> {
        step(page, 3, "alice broadcasts")?;
        let mut table = Table::new(["message", "accepted by", "got by"]);
        for Heard { message, accepted, heard_by } in &self.messages {
            table.row([
                Cell::new(message),
                Cell::number(accepted),
                Cell::new(text::list(heard_by)),
            ]);
        }
        table.show(page)?;
        show_checks(page, &self.checks)
    }
}
