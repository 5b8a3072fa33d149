//! Numbered messages, by way of a relay that may die.

use super::actor::next;
use crate::commands::demo::talk::{END, Numbered, PATIENCE, STREAM, Seen, Told, now, tell};
use crate::failure::Failure;
use shm_transport::node::{Label, Node, NodeEvent};
use std::thread;
use std::time::{Duration, Instant};

/// Between two attempts to send to a node that is gone.
const RETRY: Duration = Duration::from_micros(100);

/// Sends without a pause. When a message is refused it is tried again until it is accepted; then
/// goes on for `after`, and ends.
pub fn send(node: &Node, to: &str, after: Duration) -> Result<(), Failure> {
    let label = Label::new(STREAM, 0);
    let mut number = 0;
    let mut until = None;
    while until.is_none_or(|until| Instant::now() < until) {
        let message = Numbered { number, pid: 0 }.to_bytes();
        if let Err(error) = node.send_labelled(to, label, &message) {
            let (failed, error) = (Instant::now(), error.to_string());
            tell(&Told::SendFailed { at: now(), number, error })?;
            while let Err(error) = node.send_labelled(to, label, &message) {
                if failed.elapsed() > PATIENCE {
                    return Err(Failure::because(error));
                }
                thread::sleep(RETRY);
            }
            tell(&Told::SendsAgain { at: now() })?;
            until = Some(Instant::now() + after);
        }
        number += 1;
    }
    node.send_labelled(to, END, b"").map_err(Failure::because)?;
    Ok(tell(&Told::Streamed { sent: number })?)
}

/// Passes each message on, and tells that it has. Ends after the last.
pub fn relay(node: &Node, to: &str) -> Result<(), Failure> {
    let mut receiver = node.receiver().map_err(Failure::because)?;
    loop {
        let message = next(&mut receiver)?;
        let label = message.label();
        if label == END {
            node.send_labelled(to, END, b"").map_err(Failure::because)?;
            message.release();
            return Ok(tell(&Told::Relayed)?);
        }
        let Some(mut numbered) = Numbered::from_bytes(&message) else {
            return Err(Failure::because("a message was not whole"));
        };
        numbered.pid = std::process::id();
        node.send_labelled(to, label, &numbered.to_bytes()).map_err(Failure::because)?;
        message.release();
        tell(&Told::Passed(numbered.number))?;
    }
}

/// Receives what is passed on, until the last; tells when the relay dies.
pub fn witness(node: &Node, relay: &str) -> Result<(), Failure> {
    let watch = node.watch();
    let is_relay = |event: &NodeEvent| event.node().id.as_bytes() == relay.as_bytes();
    loop {
        match watch.next_timeout(PATIENCE) {
            Some(event @ NodeEvent::Joined(_)) if is_relay(&event) => break,
            Some(_) => {}
            None => return Err(Failure::because("no event told that the relay is there")),
        }
    }
    tell(&Told::Watching)?;
    thread::scope(|scope| {
        scope.spawn(move || {
            let died = |event: &NodeEvent| matches!(event, NodeEvent::Died(_)) && is_relay(event);
            let until = Instant::now() + PATIENCE;
            let next = || watch.next_timeout(until.saturating_duration_since(Instant::now()));
            if std::iter::from_fn(next).any(|event| died(&event)) {
                // If nobody hears it any more, all is over.
                let _ = tell(&Told::SawDeath { at: now() });
            }
        });
        let mut relays: Vec<Seen> = Vec::new();
        let mut receiver = node.receiver().map_err(Failure::because)?;
        loop {
            let message = next(&mut receiver)?;
            let label = message.label();
            if label == END {
                message.release();
                return Ok(tell(&Told::Witnessed { relays })?);
            }
            match Numbered::from_bytes(&message) {
                Some(numbered) => see(&mut relays, &numbered),
                None => {
                    // Whose it is cannot be told: nobody's are whole then.
                    relays.iter_mut().for_each(|seen| seen.whole = false);
                }
            }
            message.release();
        }
    })
}

fn see(relays: &mut Vec<Seen>, &Numbered { number, pid }: &Numbered) {
    match relays.iter_mut().find(|seen| seen.pid == pid) {
        Some(seen) => {
            seen.in_order &= number == seen.last.wrapping_add(1);
            seen.last = number;
            seen.count += 1;
        }
        None => relays.push(Seen {
            pid,
            first: number,
            last: number,
            count: 1,
            in_order: true,
            whole: true,
            first_at: now(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_of_each_relay() {
        let mut relays = Vec::new();
        for (pid, number) in [(1, 0), (1, 1), (2, 7), (1, 2), (2, 9)] {
            see(&mut relays, &Numbered { number, pid });
        }
        let [first, second] = &relays[..] else { panic!("{relays:?}") };
        assert_eq!((first.first, first.last, first.count, first.in_order), (0, 2, 3, true));
        assert_eq!((second.first, second.last, second.count, second.in_order), (7, 9, 2, false));
    }
}
