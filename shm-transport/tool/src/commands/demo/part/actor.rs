//! A process that joins under a name, and does what it is told.

use super::{file, stream};
use crate::commands::demo::talk::{BROADCAST, END, Order, PATIENCE, Told, now, tell};
use crate::failure::Failure;
use shm_transport::config::{Config, Full};
use shm_transport::domain::Domain;
use shm_transport::node::{Label, Node, Reading, Receiver};
use std::io::{self, BufRead};
use std::time::Duration;

/// From one sign of life to the next. What a dead one left is put away one after its death.
const HEARTBEAT: Duration = Duration::from_millis(200);

/// Joins, and obeys until told to leave.
pub fn act(domain: &Domain, name: &str) -> Result<(), Failure> {
    match join_and_obey(domain, name) {
        Err(Failure::Error(error)) => {
            tell(&Told::Failed { error })?;
            // Whoever hears it says it.
            Err(Failure::Unhealthy)
        }
        other => other,
    }
}

fn join_and_obey(domain: &Domain, name: &str) -> Result<(), Failure> {
    let begun = now();
    // Whatever the environment says, the demonstration is the same.
    let node = Node::builder(name)
        .config(Config::default())
        .in_domain(domain.clone())
        .heartbeat(HEARTBEAT)
        .silent_after(HEARTBEAT * 10)
        // A receiver that gets no core for long is no dead one.
        .full(Full::Block(PATIENCE))
        .join()
        .map_err(Failure::because)?;
    let at = now();
    tell(&Told::Joined { at, took: at - begun })?;
    for line in io::stdin().lock().lines() {
        match serde_json::from_str(&line?)? {
            Order::SendFile { path, to } => file::send(&node, &path, &to)?,
            Order::TakeFile => file::take(&node)?,
            Order::Broadcast { messages } => broadcast(&node, &messages)?,
            Order::Hear => hear(&node)?,
            Order::Stream { to, milliseconds } => {
                stream::send(&node, &to, Duration::from_millis(milliseconds))?;
            }
            Order::Relay { to } => stream::relay(&node, &to)?,
            Order::Witness { relay } => stream::witness(&node, &relay)?,
            Order::Leave => {
                node.leave().map_err(Failure::because)?;
                return Ok(tell(&Told::Left)?);
            }
        }
    }
    Ok(())
}

/// The next message, read where it is.
pub fn next<'r>(receiver: &'r mut Receiver<'_>) -> Result<Reading<'r>, Failure> {
    match receiver.read_timeout(PATIENCE) {
        Ok(Some(reading)) => Ok(reading),
        Ok(None) => Err(Failure::because(format!("no message came for {PATIENCE:?}"))),
        Err(error) => Err(Failure::because(error)),
    }
}

fn broadcast(node: &Node, messages: &[String]) -> Result<(), Failure> {
    let mut reached = Vec::new();
    for message in messages {
        let label = Label::new(BROADCAST, 0);
        let accepted = node.broadcast_labelled(label, message.as_bytes());
        reached.push(accepted.map_err(Failure::because)?);
    }
    node.broadcast_labelled(END, b"").map_err(Failure::because)?;
    Ok(tell(&Told::Broadcast { reached })?)
}

fn hear(node: &Node) -> Result<(), Failure> {
    let mut receiver = node.receiver().map_err(Failure::because)?;
    let mut messages = Vec::new();
    loop {
        let reading = next(&mut receiver)?;
        let label = reading.label();
        if label.group == BROADCAST {
            messages.push(String::from_utf8_lossy(&reading).into_owned());
        }
        reading.release();
        if label == END {
            return Ok(tell(&Told::Heard { messages })?);
        }
    }
}
