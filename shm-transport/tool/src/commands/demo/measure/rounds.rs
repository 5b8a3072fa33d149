//! This process's end of a measurement.

use super::medium::{Medium, Task};
use super::peer::{PEER, PROBE};
use super::wire::{END, Ends, Input, Output, Reading, Writing, node};
use super::{RoundTrips, Throughput};
use crate::commands::demo::cast::{Actor, Stage};
use crate::commands::demo::options::Part;
use crate::commands::demo::talk::{PATIENCE, Told};
use crate::commands::demo::text;
use crate::failure::Failure;
use hdrhistogram::Histogram;
use shm_transport::node::Node;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The part of the time before anything counts: connections are made, caches filled.
const WARM: u32 = 10;
/// Nanoseconds of the longest round trip that is told from longer ones.
const LONGEST: u64 = 60_000_000_000;
/// Messages between two looks at the clock.
const BATCH: u32 = 16;
/// How often, and how long apart, it is said that there are no more messages: this may be lost.
const ENDS: u32 = 500;
const APART: Duration = Duration::from_millis(10);

/// What is measured.
#[derive(Clone, Copy)]
pub struct Course<'s> {
    pub stage: &'s Stage,
    pub medium: Medium,
    /// Of a message.
    pub bytes: usize,
    pub time: Duration,
}

impl Course<'_> {
    /// Times of round trips.
    pub fn round_trips(self) -> Result<RoundTrips, Failure> {
        if self.medium.is_ours() {
            let node = self.join()?;
            let peer = self.other_node(&node, Task::Echo)?;
            let mut sender = node.sender(PEER).map_err(Failure::because)?;
            let mut receiver = node.receiver().map_err(Failure::because)?;
            let times = self.bounce(&mut receiver, &mut sender)?;
            sender.send(END).map_err(Failure::because)?;
            drop((receiver, sender));
            ended(peer, &node)?;
            return Ok(times);
        }
        let Ends { input, output, stdin, stdout } = Ends::of(self.medium)?;
        // Killed in the end: it may wait for a message that does not come.
        let _peer = self.start(Task::Echo, stdin, stdout, None)?;
        self.bounce(&mut Reading::new(self.medium, input), &mut Writing(self.medium, output))
    }

    /// What comes in a time.
    pub fn throughput(self) -> Result<Throughput, Failure> {
        if self.medium.is_ours() {
            let node = self.join()?;
            let mut peer = self.other_node(&node, Task::Sink)?;
            let mut sender = node.sender(PEER).map_err(Failure::because)?;
            let sent = self.pour(&mut sender)?;
            sender.send(END).map_err(Failure::because)?;
            let told = peer.next(PATIENCE)?;
            drop(sender);
            let came = self.count(sent, &told, &peer)?;
            ended(peer, &node)?;
            return Ok(came);
        }
        // What came is told by a pipe, and nothing goes the other way.
        let Ends { output, stdin, .. } = Ends::of(self.medium)?;
        let mut peer = self.start(Task::Sink, stdin, Stdio::piped(), None)?;
        let Told::Ready = peer.next(PATIENCE)? else { return Err(peer.confused()) };
        let mut output = Some(Writing(self.medium, output));
        let mut sent = 0;
        if let Some(output) = &mut output {
            sent = self.pour(output)?;
        }
        for _ in 0..ENDS {
            match &mut output {
                Some(output) if self.medium.keeps_messages_apart() => {
                    // It may have heard, and gone.
                    let _ = output.send(END);
                }
                _ => drop(output.take()),
            }
            if let Some(told) = peer.hear(APART)? {
                return self.count(sent, &told, &peer);
            }
        }
        Err(peer.confused())
    }

    fn join(self) -> Result<Arc<Node>, Failure> {
        node(&self.stage.domain, PROBE, self.medium).map(Arc::new)
    }

    fn other_node(self, node: &Arc<Node>, task: Task) -> Result<Actor, Failure> {
        let node = Some(Arc::clone(node));
        let mut peer = self.start(task, Stdio::null(), Stdio::piped(), node)?;
        match peer.next(PATIENCE)? {
            Told::Ready => Ok(peer),
            _ => Err(peer.confused()),
        }
    }

    fn start(
        self,
        task: Task,
        stdin: Stdio,
        stdout: Stdio,
        node: Option<Arc<Node>>,
    ) -> Result<Actor, Failure> {
        let Self { stage, medium, bytes, .. } = self;
        let mut command = stage.part(&Part::Peer { medium, task, bytes });
        command.stdin(stdin).stdout(stdout);
        Actor::start("the other end", &mut command, node)
    }

    fn bounce(
        self,
        input: &mut impl Input,
        output: &mut impl Output,
    ) -> Result<RoundTrips, Failure> {
        let message = vec![0x5a; self.bytes];
        let mut times =
            Histogram::<u64>::new_with_bounds(1, LONGEST, 3).map_err(Failure::because)?;
        let warm = Instant::now() + self.time / WARM;
        let end = warm + self.time;
        loop {
            let begun = Instant::now();
            output.send(&message)?;
            let mut came = 0;
            while came < self.bytes {
                if !input.receive(&mut |message| came += message.len())? {
                    return Err(Failure::because("the other end of a measurement is gone"));
                }
            }
            let now = Instant::now();
            if begun >= warm {
                let took = u64::try_from((now - begun).as_nanos()).unwrap_or(u64::MAX);
                times.saturating_record(took);
            }
            if now >= end && !times.is_empty() {
                break;
            }
        }
        let at = |part| times.value_at_quantile(part);
        Ok(RoundTrips {
            count: times.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: times.max(),
        })
    }

    /// Sends for that long; how many messages.
    fn pour(self, output: &mut impl Output) -> Result<u64, Failure> {
        let message = vec![0x5a; self.bytes];
        let (begun, mut sent) = (Instant::now(), 0);
        while begun.elapsed() < self.time {
            for _ in 0..BATCH {
                output.send(&message)?;
            }
            sent += u64::from(BATCH);
        }
        Ok(sent)
    }

    /// What came of what was sent.
    fn count(self, sent: u64, told: &Told, peer: &Actor) -> Result<Throughput, Failure> {
        let &Told::Sunk { messages, timed, nanoseconds } = told else {
            return Err(peer.confused());
        };
        if messages < sent && !self.medium.may_lose() || messages > sent {
            let (name, waits) = (self.medium.name(), self.medium.waits());
            return Err(Failure::because(format!(
                "measuring {name} (who waits {waits}): {messages} messages came of {sent}"
            )));
        }
        let per_second = text::rate(timed, nanoseconds);
        Ok(Throughput {
            messages_per_second: per_second,
            bytes_per_second: per_second * self.bytes as f64,
            lost: (sent - messages) as f64 / sent.max(1) as f64,
        })
    }
}

/// Waits for the end of both nodes: those of the next measurement have the same names.
fn ended(peer: Actor, node: &Node) -> Result<(), Failure> {
    let well = peer.end();
    // It has left already, since the other is gone.
    let _ = node.leave();
    let wrong = "the other end of a measurement has not ended as it should";
    if well { Ok(()) } else { Err(Failure::because(wrong)) }
}
