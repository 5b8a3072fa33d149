//! What a node counts, in its own segment, where others may read it, also when it is dead.
//!
//! Lines of eight counters each. Line 0 is the receiving side's: messages received, their bytes,
//! messages filtered out, messages lost. Each other line is a sender's: messages sent, their bytes,
//! messages dropped since a lane was full. A line goes on counting under its next sender, so that
//! the sum of all is what the node has done since it joined.

use super::error::SendError;
use super::mapped::Mapped;
use parking_lot::Mutex;
use shm_primitives::counter::{CounterLine, CounterWriter};
use shm_primitives::layout::node::NodeLayout;

/// What a node has done since it joined.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Statistics {
    /// Messages that were accepted for sending, by each of their receivers.
    pub messages_sent: u64,
    /// Bytes of those.
    pub bytes_sent: u64,
    /// Messages given up since a lane was full, by [`Full::Drop`](crate::config::Full::Drop).
    pub dropped: u64,
    /// Messages received.
    pub messages_received: u64,
    /// Bytes of those.
    pub bytes_received: u64,
    /// Messages that the filter left out.
    pub filtered: u64,
    /// Messages that could not be read.
    pub lost: u64,
    /// Lanes into the node from other processes; those between nodes of one process do not count.
    pub lanes_in: u64,
    /// Lanes that the node sends through at the moment; known only to the node itself.
    pub lanes_out: u64,
}

const RECEIVING: u32 = 0;
/// Lines of a page.
const LINES: u32 = 64;

/// Which lines are whose.
#[derive(Debug)]
pub(super) struct Lines {
    free: Mutex<Free>,
}

#[derive(Debug)]
struct Free {
    lines: Vec<u32>,
    /// The first that was never used, and how many there are.
    next: u32,
    all: u32,
}

impl Lines {
    /// For a segment just made.
    pub fn new(own: &Mapped) -> Self {
        let all = own.layout.counters().map_or(0, |area| area.len() / size_of::<CounterLine>());
        let all = u32::try_from(all).unwrap_or(u32::MAX);
        Self { free: Mutex::new(Free { lines: Vec::new(), next: RECEIVING + 1, all }) }
    }

    /// Takes a line for a sender.
    pub fn take_line(&self, own: &Mapped) -> Result<u32, SendError> {
        let mut free = self.free.lock();
        if let Some(line) = free.lines.pop() {
            return Ok(line);
        }
        let line = free.next;
        if line >= free.all {
            return Err(SendError::TooManySenders { most: free.all.saturating_sub(1) });
        }
        if line.is_multiple_of(LINES)
            && let Some(begin) = own.layout.place_of_counters()
        {
            // Its page may not be there yet.
            let at = begin + line as usize * size_of::<CounterLine>();
            own.segment.allocate(at..at + 1)?;
        }
        free.next += 1;
        Ok(line)
    }

    pub fn give_line_back(&self, line: u32) {
        self.free.lock().lines.push(line);
    }

    /// How many lines are senders' now.
    pub fn senders(&self) -> u64 {
        let free = self.free.lock();
        u64::from(free.next - 1) - free.lines.len() as u64
    }

    /// The counters of a sender: messages, bytes, dropped.
    pub fn sender(&self, own: &Mapped, line: u32) -> [CounterWriter<'static>; 3] {
        let [messages, bytes, dropped, ..] = writers(&own.layout, line);
        [messages, bytes, dropped]
    }
}

/// The counters of the receiving side: messages, bytes, filtered, lost.
pub(super) fn receiving(own: &Mapped) -> [CounterWriter<'static>; 4] {
    let [messages, bytes, filtered, lost, ..] = writers(&own.layout, RECEIVING);
    [messages, bytes, filtered, lost]
}

fn writers(
    layout: &NodeLayout<'static>,
    line: u32,
) -> [CounterWriter<'static>; CounterLine::COUNTERS] {
    let offset = line as usize * size_of::<CounterLine>();
    let part = layout.counters().and_then(|area| area.part(offset, size_of::<CounterLine>()));
    let line = part.and_then(|part| CounterLine::at(&part).ok());
    line.expect("a line of the node's own segment").writers()
}

/// Sums up what stands in a node's segment, of which the first `resident` lines can be read without
/// touching memory that is not there.
pub(super) fn sum(layout: &NodeLayout<'_>, lines: usize) -> Statistics {
    let mut sum = Statistics::default();
    let Some(area) = layout.counters() else { return sum };
    let most = area.len() / size_of::<CounterLine>();
    let Ok(lines) = CounterLine::slice_at(area, lines.min(most)) else { return sum };
    for (number, line) in lines.iter().enumerate() {
        let [a, b, c, d, ..] = line.values();
        if number == RECEIVING as usize {
            (sum.messages_received, sum.bytes_received, sum.filtered, sum.lost) = (a, b, c, d);
        } else {
            sum.messages_sent = sum.messages_sent.wrapping_add(a);
            sum.bytes_sent = sum.bytes_sent.wrapping_add(b);
            sum.dropped = sum.dropped.wrapping_add(c);
        }
    }
    sum.lanes_in = layout.lanes().claimed().count() as u64;
    sum
}

impl Lines {
    /// What this node has counted so far.
    pub fn sum(&self, own: &Mapped) -> Statistics {
        let lines = self.free.lock().next as usize;
        let mut sum = sum(&own.layout, lines);
        sum.lanes_out = self.senders();
        sum
    }
}
