//! The lanes of one group: header, monitors, channels.

use super::GroupShape;
use crate::layout::in_part;
use crate::channel::{self, Limits, WorkerChannel};
use crate::monitor::ThreadMonitor;
use crate::part::{AttachError, Corrupt, Kind, LINE, PartHeader, layout_hash};
use crate::region::Region;
use crate::ring::frame;
use crate::segment::{HEADER, PartId, SegmentError};
use crate::sync::{AtomicU32, Ordering::Relaxed};

const VERSION: u32 = 1;
const LAYOUT: u32 = layout_hash(&[Kind::WORKER_GROUP.0]);
const WORDS: usize = HEADER / size_of::<AtomicU32>();

/// Makes header, monitors and channels in `part`, which is as large as the plan says.
///
/// # Safety
///
/// As `PhoenixShmLayout::init_at`; the segment is not published.
pub(super) unsafe fn create(
    part: &Region<'_>,
    id: PartId,
    shape: &GroupShape,
) -> Result<(), SegmentError> {
    let failed = in_part(id);
    let impossible = SegmentError::Impossible("there is no such shape");
    let (Some(options), Some(stride)) = (shape.channel(), shape.channel_stride()) else {
        return Err(impossible);
    };
    let facts = Facts { shape: *shape, options, places: Places::new(shape, stride) };
    for worker in 0..shape.workers as usize {
        let (monitor, channel) = facts.of(part, worker).ok_or(impossible)?;
        ThreadMonitor::init_at(&monitor).map_err(&failed)?;
        // SAFETY: passed on.
        unsafe { WorkerChannel::init_at(channel, options) }.map_err(&failed)?;
    }
    let words = AtomicU32::slice_at(part, WORDS).map_err(&failed)?;
    for (word, value) in words.iter().zip(facts.words()) {
        word.store(value, Relaxed);
    }
    Ok(())
}

/// Where things lie in a part.
#[derive(Clone, Copy, Debug)]
struct Places {
    monitors: u32,
    monitor_stride: u32,
    channels: u32,
    channel_stride: u32,
}

impl Places {
    fn new(shape: &GroupShape, channel_stride: u32) -> Self {
        let (monitors, monitor_stride) = (HEADER as u32, LINE as u32);
        // At most 2^14 workers.
        Self { monitors, monitor_stride, channels: shape.channels() as u32, channel_stride }
    }
}

/// What the header says, checked.
#[derive(Clone, Copy, Debug)]
struct Facts {
    shape: GroupShape,
    options: channel::Options,
    places: Places,
}

impl Facts {
    fn words(&self) -> [u32; WORDS] {
        let GroupShape { workers, messages, message_size, reply_size, progress_size } = self.shape;
        let Places { monitors, monitor_stride, channels, channel_stride } = self.places;
        [
            PartHeader::MAGIC,
            VERSION,
            Kind::WORKER_GROUP.0,
            LAYOUT,
            VERSION,
            workers,
            messages,
            message_size,
            reply_size,
            progress_size,
            self.options.requests.capacity,
            self.options.responses.capacity,
            monitors,
            monitor_stride,
            channels,
            channel_stride,
        ]
    }

    /// The same from memory, each word read once.
    fn load(part: &Region<'_>) -> Result<Self, AttachError> {
        let words = AtomicU32::slice_at(part, WORDS)?;
        let mut found = [0; WORDS];
        for (found, word) in found.iter_mut().zip(words) {
            *found = word.load(Relaxed);
        }
        let [magic, version, kind, layout, min_reader, rest @ ..] = found;
        if magic != PartHeader::MAGIC {
            return Err(AttachError::WrongMagic { found: magic, wanted: PartHeader::MAGIC });
        }
        if kind != Kind::WORKER_GROUP.0 {
            let wanted = Kind::WORKER_GROUP;
            return Err(AttachError::WrongKind { found: Kind(kind), wanted });
        }
        if version < VERSION {
            return Err(AttachError::WrongVersion { found: version, wanted: VERSION });
        }
        if min_reader > VERSION {
            return Err(AttachError::NewerRequired { found: min_reader, wanted: VERSION });
        }
        if layout != LAYOUT {
            return Err(AttachError::WrongLayout { found: layout, wanted: LAYOUT });
        }
        let [workers, messages, message_size, reply, progress, requests, responses, rest @ ..] = rest;
        let [monitors, monitor_stride, channels, channel_stride] = rest;
        let limits = Limits { reply, progress };
        let options =
            channel::Options::new(frame::Options::new(requests), frame::Options::new(responses))
                .limits(limits);
        let shape = GroupShape {
            workers,
            messages,
            message_size,
            reply_size: reply,
            progress_size: progress,
        };
        let places = Places { monitors, monitor_stride, channels, channel_stride };
        let facts = Self { shape, options, places };
        facts.check(part.len())?;
        Ok(facts)
    }

    /// Whether all of it fits a part of `length` bytes.
    fn check(&self, length: usize) -> Result<(), AttachError> {
        let Self { shape, options, places } = self;
        let corrupt = |what, found, limit| Err(Corrupt { what, found, limit }.into());
        if shape.workers > GroupShape::MAX_WORKERS {
            return corrupt("workers of a group", shape.workers, GroupShape::MAX_WORKERS);
        }
        options.requests.check()?;
        options.responses.check()?;
        let Places { monitors, monitor_stride, channels, channel_stride } = *places;
        if (monitors as usize) < HEADER || !monitors.is_multiple_of(LINE as u32) {
            return corrupt("offset of the monitors", monitors, HEADER as u32);
        }
        let too_small = |size: usize, stride: u32| {
            (stride as usize) < size || !stride.is_multiple_of(LINE as u32)
        };
        if too_small(size_of::<ThreadMonitor>(), monitor_stride) {
            return corrupt("bytes from monitor to monitor", monitor_stride, LINE as u32);
        }
        // Rings of valid capacity, which fit any address space twice.
        let size = options.required_size().unwrap_or(usize::MAX);
        if too_small(size, channel_stride) {
            let limit = u32::try_from(size).unwrap_or(u32::MAX);
            return corrupt("bytes from channel to channel", channel_stride, limit);
        }
        // No overflow: 32 bits, and 15 bits times 32 bits.
        let end = |from: u32, stride: u32| {
            u64::from(from) + u64::from(shape.workers) * u64::from(stride)
        };
        let monitors_end = end(monitors, monitor_stride);
        if u64::from(channels) < monitors_end || !channels.is_multiple_of(LINE as u32) {
            let limit = u32::try_from(monitors_end).unwrap_or(u32::MAX);
            return corrupt("offset of the channels", channels, limit);
        }
        let wanted = end(channels, channel_stride);
        if wanted > length as u64 {
            let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
            return Err(AttachError::TooSmall { found: length, wanted });
        }
        Ok(())
    }

    /// The monitor and the channel of a worker; `None` if there is no such worker.
    fn of<'a>(&self, part: &Region<'a>, worker: usize) -> Option<(Region<'a>, Region<'a>)> {
        if worker >= self.shape.workers as usize {
            return None;
        }
        let Places { monitors, monitor_stride, channels, channel_stride } = self.places;
        let piece = |from: u32, stride: u32, length| {
            // No overflow: `check` has found the end in the part, or the plan has made room.
            part.part(from as usize + worker * stride as usize, length)
        };
        Some((
            piece(monitors, monitor_stride, size_of::<ThreadMonitor>())?,
            piece(channels, channel_stride, self.options.required_size()?)?,
        ))
    }
}

/// The lanes of one group, attached to.
#[derive(Debug)]
pub(super) struct Lanes<'a> {
    part: Region<'a>,
    facts: Facts,
}

impl<'a> Lanes<'a> {
    /// Attaches to the group in `part`: header and every ring's header are checked.
    ///
    /// # Safety
    ///
    /// As [`WorkerChannel::attach`], for every channel in it.
    pub(super) unsafe fn attach(part: Region<'a>) -> Result<Self, AttachError> {
        let facts = Facts::load(&part)?;
        let Facts { shape, options, .. } = facts;
        for worker in 0..shape.workers as usize {
            let Some((_, channel)) = facts.of(&part, worker) else { break };
            let capacities = [options.requests.capacity, options.responses.capacity];
            // SAFETY: passed on.
            let channel = unsafe { WorkerChannel::attach(channel, Some(capacities)) };
            if !channel?.has(&options) {
                // Capacities are as asked for.
                return Err(AttachError::Corrupt(Corrupt {
                    what: "packing, checksums or limits in the lane of worker",
                    found: worker as u32,
                    limit: shape.workers,
                }));
            }
        }
        Ok(Self { part, facts })
    }

    pub(super) fn workers(&self) -> usize {
        self.facts.shape.workers as usize
    }

    pub(super) fn shape(&self) -> GroupShape {
        self.facts.shape
    }

    pub(super) fn channel(&self, worker: usize) -> Option<WorkerChannel<'a>> {
        let (_, channel) = self.facts.of(&self.part, worker)?;
        // SAFETY: `attach` has checked each channel's headers, and its contract holds for 'a.
        unsafe { WorkerChannel::assume(&channel, self.facts.options) }
    }

    pub(super) fn monitor(&self, worker: usize) -> Option<&'a ThreadMonitor> {
        let (monitor, _) = self.facts.of(&self.part, worker)?;
        ThreadMonitor::at(&monitor).ok()
    }
}
