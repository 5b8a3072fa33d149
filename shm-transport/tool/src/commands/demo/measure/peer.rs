//! The other end of a measurement: a process of its own.

use super::medium::{Medium, Task};
use super::wire::{Input, Output, Reading, Writing, node};
use crate::commands::demo::talk::{Told, tell};
use crate::failure::Failure;
use shm_transport::domain::Domain;
use std::hint::black_box;
use std::io;
use std::time::Instant;

/// Name of the node of who measures.
pub const PROBE: &str = "probe";
/// Name of the node of the other end.
pub const PEER: &str = "peer";

/// Serves at standard input and output, or as a node.
pub fn serve(domain: &Domain, medium: Medium, task: Task, bytes: usize) -> Result<(), Failure> {
    if medium.is_ours() {
        let node = node(domain, PEER, medium)?;
        let sender = node.sender(PROBE).map_err(Failure::because)?;
        let receiver = node.receiver().map_err(Failure::because)?;
        if task == Task::Echo {
            tell(&Told::Ready)?;
        }
        work(receiver, sender, task, bytes)
    } else {
        let input = Reading::new(medium, io::stdin());
        work(input, Writing(medium, io::stdout()), task, bytes)
    }
}

fn work(input: impl Input, output: impl Output, task: Task, bytes: usize) -> Result<(), Failure> {
    match task {
        Task::Echo => echo(input, output),
        Task::Sink => {
            // Standard output is not the medium here.
            tell(&Told::Ready)?;
            sink(input, bytes)
        }
    }
}

/// Sends back what comes. What comes in pieces goes back in pieces.
fn echo(mut input: impl Input, mut output: impl Output) -> Result<(), Failure> {
    let mut back = Vec::new();
    while input.receive(&mut |message| back.extend_from_slice(message))? {
        output.send(&back)?;
        back.clear();
    }
    Ok(())
}

/// Reads what comes, and tells how much that was. The clock begins with what comes first, which
/// may be much at once, and is not counted as come in that time.
fn sink(mut input: impl Input, bytes: usize) -> Result<(), Failure> {
    let (mut came, mut sum) = (0, 0u64);
    let mut each = |message: &[u8]| {
        came += message.len();
        sum = sum.wrapping_add(read(message));
        came
    };
    let mut first = 0;
    let mut more = input.receive(&mut |message| first = each(message))?;
    let begun = Instant::now();
    while more {
        more = input.receive(&mut |message| {
            each(message);
        })?;
    }
    let time = begun.elapsed();
    black_box(sum);
    let messages = (came / bytes) as u64;
    let timed = ((came - first) / bytes) as u64;
    let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    Ok(tell(&Told::Sunk { messages, timed, nanoseconds })?)
}

/// Reads every byte.
fn read(message: &[u8]) -> u64 {
    let (words, rest) = message.as_chunks::<8>();
    let sum = words.iter().fold(0, |sum: u64, word| sum.wrapping_add(u64::from_le_bytes(*word)));
    rest.iter().fold(sum, |sum, byte| sum.wrapping_add(u64::from(*byte)))
}
