//! `shm pipe`: what comes into one process goes out of another.
//!
//! Bytes are read into the lane itself and written from there, as messages without a label. The end
//! is a message with one; so whoever dies before it is told from one who was done.

use super::joining::{connect, join, join_with, leave};
use crate::cli::{Global, Pipe};
use crate::failure::Failure;
use crate::output;
use shm_primitives::identity::OwnerId;
use shm_transport::config::Full;
use shm_transport::node::{Label, Node, NodeId, NodeState, SendError, Sender};
use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

/// Of the message that says that this was all.
const END: Label = Label::new(u32::from_be_bytes(*b"pipe"), u32::from_be_bytes(*b"end."));
/// Bytes of a lane into the reading end: more than of other lanes, for this one is busy.
const LANE: u32 = 1 << 20;
/// How long to wait for a reader before waiting anew. It may be stopped for as long as it likes.
const WAIT: Duration = Duration::from_secs(3600);
/// How often to look whether the writer is there still.
const LOOK: Duration = Duration::from_millis(50);

/// Does one end of it.
pub fn run(global: &Global, options: &Pipe) -> Result<(), Failure> {
    match (&options.to, &options.from) {
        (Some(to), _) => write(global, options, to),
        (None, Some(from)) => read(global, options, from),
        // The command line has one of them.
        (None, None) => Ok(()),
    }
}

fn write(global: &Global, options: &Pipe, to: &str) -> Result<(), Failure> {
    let node = join(global, options.own.name.as_deref())?;
    let mut sender = connect(&node, to, options.wait)?.full(Full::Block(WAIT));
    let mut stdin = std::io::stdin().lock();
    let mut buffer = Vec::new();
    loop {
        match sender.grant(sender.max_frame()) {
            Ok(mut room) => match read_some(&mut stdin, &mut room)? {
                0 => break,
                len => room.commit(len)?,
            },
            Err(SendError::Full { .. }) => {
                // Waiting for room is what a send can do.
                buffer.resize(sender.max_frame(), 0);
                match read_some(&mut stdin, &mut buffer)? {
                    0 => break,
                    len => send(&mut sender, Label::NONE, &buffer[..len])?,
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    send(&mut sender, END, &[])?;
    drop(sender);
    leave(&node)
}

fn read_some(from: &mut impl Read, into: &mut [u8]) -> Result<usize, Failure> {
    loop {
        match from.read(into) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::because(format!("standard input: {error}"))),
            Ok(len) => return Ok(len),
        }
    }
}

fn send(sender: &mut Sender, label: Label, payload: &[u8]) -> Result<(), Failure> {
    loop {
        match sender.send_labelled(label, payload) {
            Err(SendError::TimedOut { .. }) => {}
            other => return Ok(other?),
        }
    }
}

fn read(global: &Global, options: &Pipe, name: &str) -> Result<(), Failure> {
    let node = join_with(global, Some(name), |builder| builder.lane_bytes(LANE))?;
    let mut receiver = node.receiver()?;
    let mut stdout = output::unbuffered()?;
    let mut from: Option<Writer> = None;
    let (mut waited, mut gone) = (Duration::ZERO, None);
    loop {
        let Some(reading) = receiver.read_timeout(LOOK)? else {
            if let (Some(from), Some(how)) = (&from, gone) {
                let id = from.id;
                return Err(Failure::because(format!(
                    "{id} {how} before the end of its input: what came is not all"
                )));
            }
            // Once it is gone, what it had sent is read first.
            gone = match &from {
                Some(from) => end_of(&node, from)?,
                None => None,
            };
            waited += LOOK;
            if from.is_none() && options.wait.is_some_and(|patience| waited >= patience) {
                return Err(Failure::Nothing(format!("nobody writes to {name}")));
            }
            continue;
        };
        let sender = *reading.sender();
        let from =
            from.get_or_insert_with(|| Writer { id: sender, owner: owner_of(&node, &sender) });
        if from.id != sender {
            // Two streams through each other are none.
            log::warn!("a message of {sender} was left out: this is the end of another's pipe");
            reading.release();
            continue;
        }
        if reading.label() == END {
            reading.release();
            break;
        }
        stdout.write_all(&reading)?;
        reading.release();
    }
    drop(receiver);
    leave(&node)
}

/// Who writes.
#[derive(Clone, Copy, Debug)]
struct Writer {
    id: NodeId,
    /// `None` if it was gone by the time its first message was read.
    owner: Option<OwnerId>,
}

fn owner_of(node: &Node, id: &NodeId) -> Option<OwnerId> {
    let nodes = node.nodes().ok()?;
    nodes.into_iter().find(|found| found.id == *id).map(|found| found.owner)
}

/// How the writer ceased to be there, if it did. Another that has its name by now is not it.
fn end_of(node: &Node, from: &Writer) -> Result<Option<&'static str>, Failure> {
    let found = node.nodes()?.into_iter().find(|found| Some(found.owner) == from.owner);
    Ok(match found.map(|found| found.state) {
        Some(NodeState::Dead) => Some("was killed"),
        Some(NodeState::Alive | NodeState::Silent(_)) => None,
        None => Some("left, or was killed,"),
    })
}
