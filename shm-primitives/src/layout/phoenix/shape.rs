//! How many workers and how large their lanes.

use super::{GROUPS, Place, VERSION, part};
use crate::channel::{self, Limits};
use crate::message::MsgHeader;
use crate::monitor::{Group, Transaction};
use crate::part::LINE;
use crate::ring::frame::{self, Packing};
use crate::segment::{HEADER, Magic, NewPart, Plan};
use core::ops::Range;

/// What a new segment is to be. The default is 4 normal workers × 1024 messages and 2 VIP workers
/// × 256.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// The ordinary workers.
    pub normal: GroupShape,
    /// Those that normal load does not hold up.
    pub vip: GroupShape,
    /// Which of its workers' lanes these are, where they serve several callers.
    pub lane: u16,
}

/// Workers of one group, and how large the lane to each is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupShape {
    /// Workers; 0 for no such group. At most [`MAX_WORKERS`](Self::MAX_WORKERS).
    pub workers: u32,
    /// Requests that the lane has room for, and calls that the caller may have outstanding.
    pub messages: u32,
    /// Bytes of payload in such a request. One of more takes the room of several.
    pub message_size: u32,
    /// Bytes of payload that a final reply has at the most.
    pub reply_size: u32,
    /// Bytes of payload that a progress reply has at the most.
    pub progress_size: u32,
}

impl Default for Shape {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Shape {
    /// 4 normal workers × 1024 messages and 2 VIP workers × 256.
    #[doc(alias = "kNormalWorkerCount")]
    #[doc(alias = "kNormalQueueCapacity")]
    #[doc(alias = "kVipWorkerCount")]
    #[doc(alias = "kVipQueueCapacity")]
    pub const DEFAULT: Self = Self::new(GroupShape::new(4, 1024), GroupShape::new(2, 256));

    /// These two groups, as lane 0 of each worker.
    pub const fn new(normal: GroupShape, vip: GroupShape) -> Self {
        Self { normal, vip, lane: 0 }
    }

    /// The same as another lane of its workers.
    pub const fn lane(mut self, lane: u16) -> Self {
        self.lane = lane;
        self
    }

    /// Bytes the segment takes; `None` if it does not fit the address space, or there can be no
    /// such lanes.
    pub const fn required_size(&self) -> Option<usize> {
        match self.parts() {
            Some(parts) => self.plan(&parts).required_size(),
            None => None,
        }
    }

    /// Where in the segment the lane to the worker in `place` lies, its rings and their headers;
    /// `None` if there is no such place. For a sparse segment: nothing else is touched by calls to
    /// that worker.
    pub fn place_of(&self, place: Place) -> Option<Range<usize>> {
        let group = self.group(place.group);
        if place.worker >= group.workers as usize {
            return None;
        }
        let begin = self.begin_of(place.group)? + group.channels();
        // No overflow: it is in the segment, whose size fits.
        let begin = begin + place.worker * group.channel_stride()? as usize;
        Some(begin..begin + group.channel()?.required_size()?)
    }

    /// What creating and attaching touches, in pieces that do not overlap: the segment's header,
    /// each group's header and monitors, and of each lane the headers of both rings, with the first
    /// words of their data, which those who take an end look at. In a sparse segment these need
    /// memory from the beginning.
    pub fn heads(&self) -> impl Iterator<Item = Range<usize>> {
        let begins = GROUPS.map(|group| self.begin_of(group));
        let first = begins.into_iter().flatten().min().unwrap_or(0);
        let groups = GROUPS.into_iter().zip(begins).filter_map(|(group, begin)| {
            let begin = begin?;
            Some(begin..begin + self.group(group).channels())
        });
        let lanes = GROUPS.into_iter().flat_map(move |group| {
            (0..self.group(group).workers as usize).filter_map(move |worker| {
                let lane = self.place_of(Place { group, worker })?.start;
                let channel = self.group(group).channel()?;
                let responses = lane + channel.responses_at()?;
                let requests = lane..lane + channel.requests.head();
                Some([requests, responses..responses + channel.responses.head()])
            })
        });
        core::iter::once(0..first).chain(groups).chain(lanes.flatten())
    }

    /// Where the part of a group begins; `None` if there is none.
    fn begin_of(&self, group: Group) -> Option<usize> {
        let parts = self.parts()?;
        let (parts_there, _) = parts.parts.split_at(parts.count);
        let index = parts_there.iter().position(|there| there.id == part(group))?;
        let plan = self.plan(&parts);
        plan.required_size()?;
        // Within the segment, whose size fits.
        Some(plan.offset(index)? as usize)
    }

    pub(super) const fn group(&self, group: Group) -> &GroupShape {
        match group {
            Group::Normal => &self.normal,
            Group::Vip => &self.vip,
        }
    }

    pub(super) const fn parts(&self) -> Option<Parts> {
        let (Some(normal), Some(vip)) = (self.normal.length(), self.vip.length()) else {
            return None;
        };
        let normal = NewPart::required(part(Group::Normal), normal);
        let vip = NewPart::required(part(Group::Vip), vip);
        Some(match (self.normal.workers, self.vip.workers) {
            (0, 0) => Parts { parts: [normal, vip], count: 0 },
            (0, _) => Parts { parts: [vip, normal], count: 1 },
            (_, 0) => Parts { parts: [normal, vip], count: 1 },
            _ => Parts { parts: [normal, vip], count: 2 },
        })
    }

    pub(super) const fn plan<'p>(&self, parts: &'p Parts) -> Plan<'p> {
        let (parts, _) = parts.parts.split_at(parts.count);
        Plan::new(Magic::PHNX, VERSION, parts).own([self.lane as u32, 0])
    }
}

impl GroupShape {
    /// The most workers a group can have: what a monitor can tell apart.
    pub const MAX_WORKERS: u32 = Transaction::MAX_WORKER as u32 + 1;
    /// Bytes of payload in a request, if nothing else is asked for.
    pub const MESSAGE_SIZE: u32 = 64;
    /// Bytes of payload in a final reply, if nothing else is asked for.
    pub const REPLY_SIZE: u32 = 64;
    /// Bytes of payload in a progress reply, if nothing else is asked for.
    pub const PROGRESS_SIZE: u32 = 4;

    pub(super) const EMPTY: Self = Self::new(0, 1);

    /// `workers` workers, with lanes for `messages` messages of up to 64 bytes each.
    pub const fn new(workers: u32, messages: u32) -> Self {
        Self {
            workers,
            messages,
            message_size: Self::MESSAGE_SIZE,
            reply_size: Self::REPLY_SIZE,
            progress_size: Self::PROGRESS_SIZE,
        }
    }

    /// The same with requests of `bytes` bytes of payload. What the lane's size is worked out
    /// from, not a limit: larger ones are taken up to
    /// [`Client::max_request`](crate::channel::Client::max_request).
    pub const fn message_size(mut self, bytes: u32) -> Self {
        self.message_size = bytes;
        self
    }

    /// The same with final replies of at most `reply` bytes of payload and progress replies of at
    /// most `progress`.
    pub const fn reply_size(mut self, reply: u32, progress: u32) -> Self {
        self.reply_size = reply;
        self.progress_size = progress;
        self
    }

    /// The channel that each lane is; `None` if there can be none.
    pub const fn channel(&self) -> Option<channel::Options> {
        let limits = Limits { reply: self.reply_size, progress: self.progress_size };
        let (Some(requests), Some(responses)) = (self.requests(), self.responses(limits)) else {
            return None;
        };
        Some(channel::Options::new(requests, responses).limits(limits))
    }

    /// The request ring: room for all messages with what is wasted behind each, for the padding
    /// before the end of the data, which is shorter than a frame, and for the word after the
    /// last frame.
    const fn requests(&self) -> Option<frame::Options> {
        // So that nothing overflows.
        if self.messages == 0 || self.messages > MOST || self.message_size > MOST {
            return None;
        }
        let frame = (8 + MsgHeader::SIZE as u64 + self.message_size as u64).next_multiple_of(8);
        let waste = Packing::Lines.most_waste() as u64;
        ring(self.messages as u64 * (frame + waste) + frame)
    }

    /// The response ring: the least with room for the replies to all calls.
    const fn responses(&self, limits: Limits) -> Option<frame::Options> {
        let mut wanted = 1;
        loop {
            let Some(ring) = ring(wanted) else { return None };
            if channel::Options::new(ring, ring).limits(limits).max_calls() >= self.messages {
                return Some(ring);
            }
            wanted = ring.capacity as u64 + 1;
        }
    }

    /// Bytes from one channel to the next.
    pub(super) const fn channel_stride(&self) -> Option<u32> {
        let Some(channel) = self.channel() else { return None };
        match channel.required_size() {
            // Two rings of 1 GiB each are less than 4 GiB.
            Some(size) => Some(size.next_multiple_of(LINE) as u32),
            None => None,
        }
    }

    /// Where in the part the channels begin, behind header and monitors.
    pub(super) const fn channels(&self) -> usize {
        HEADER + self.workers as usize * LINE
    }

    /// Bytes of the part.
    const fn length(&self) -> Option<u64> {
        if self.workers == 0 {
            return Some(0);
        }
        if self.workers > Self::MAX_WORKERS {
            return None;
        }
        match self.channel_stride() {
            Some(stride) => Some(self.channels() as u64 + self.workers as u64 * stride as u64),
            None => None,
        }
    }
}

/// The least ring of at least `wanted` bytes; `None` if there is none. A frame has at most half the
/// capacity less 8: what is wanted is always twice
/// the largest frame and the waste behind it at least.
const fn ring(wanted: u64) -> Option<frame::Options> {
    let wanted = if wanted < LEAST { LEAST } else { wanted };
    if wanted > MOST as u64 {
        return None;
    }
    Some(frame::Options::new(wanted.next_power_of_two() as u32))
}

/// Bytes of the smallest and the largest ring packed by lines.
const LEAST: u64 = 512;
const MOST: u32 = 1 << 30;

/// The parts of a plan, of which the first `count` count.
pub(super) struct Parts {
    parts: [NewPart; 2],
    count: usize,
}
