//! `shm send`: messages to a node, or to all.

use super::joining::{await_node, join, leave};
use crate::cli::{Global, Send};
use crate::failure::Failure;
use shm_transport::node::{Label, Node};
use std::io::{BufRead, Read};
use std::time::Duration;

/// Sends what stands on the command line, or comes in.
pub fn run(global: &Global, options: &Send) -> Result<(), Failure> {
    let node = join(global, options.own.name.as_deref())?;
    let sent = send_all(global, &node, options);
    sent.and(leave(&node))
}

fn send_all(global: &Global, node: &Node, options: &Send) -> Result<(), Failure> {
    let one = |payload: &[u8]| send(node, options, payload);
    if let Some(message) = &options.message {
        return one(message.as_bytes());
    }
    let mut stdin = std::io::stdin().lock();
    if !options.lines {
        let mut payload = Vec::new();
        // One byte more than there can be is enough to be told so.
        let most = global.config()?.max_message_bytes;
        stdin.by_ref().take(most + 1).read_to_end(&mut payload)?;
        return one(&payload);
    }
    let mut line = Vec::new();
    while stdin.read_until(b'\n', &mut line)? > 0 {
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        one(&line)?;
        line.clear();
    }
    Ok(())
}

fn send(node: &Node, options: &Send, payload: &[u8]) -> Result<(), Failure> {
    let label = Label::new(options.to_group.unwrap_or(0), options.topic.unwrap_or(0));
    let to = options.to.as_str();
    for _ in 0..options.count {
        let mut patience = options.wait;
        if to.is_empty() {
            broadcast(node, label, payload, &mut patience)?;
        } else {
            await_node(patience, || node.send_labelled(to, label, payload))?;
        }
    }
    Ok(())
}

fn broadcast(
    node: &Node,
    label: Label,
    payload: &[u8],
    patience: &mut Option<Duration>,
) -> Result<(), Failure> {
    const PAUSE: Duration = Duration::from_millis(5);
    loop {
        if node.broadcast_labelled(label, payload)? > 0 {
            return Ok(());
        }
        match patience.as_mut().filter(|left| !left.is_zero()) {
            Some(left) => *left = left.saturating_sub(PAUSE),
            None => {
                let domain = node.domain().name();
                return Err(Failure::Nothing(format!(
                    "nobody in domain {domain:?} got it: start a node, or see `shm top` whether \
                     their lanes are full"
                )));
            }
        }
        std::thread::sleep(PAUSE);
    }
}
