//! The service's part: its header, and where the orders are.

use super::Shape;
use crate::layout::phoenix::GroupShape;
use crate::part::{AttachError, Corrupt, Kind, LINE, PartHeader, layout_hash};
use crate::place::OrdersRow;
use crate::region::Region;
use crate::sync::{AtomicU32, Ordering::Relaxed};

/// That of services with spares, whose readers have to know of them. One without is as they were
/// before there were any, for readers of that time.
const VERSION: u32 = 2;
const FIRST: u32 = 1;
const LAYOUT: u32 = layout_hash(&[Kind::SERVICE.0]);
/// Bytes of the header.
const HEADER: usize = 128;
const WORDS: usize = HEADER / size_of::<AtomicU32>();

/// Bytes of the part.
pub(super) const fn size(workers: u32) -> u64 {
    HEADER as u64 + workers as u64 * LINE as u64
}

/// Makes header and rows in `part`, which is as large as [`size`] says.
pub(super) fn create(part: &Region<'_>, shape: &Shape) -> Result<(), AttachError> {
    let rows = Rows { rows: HEADER as u32, stride: LINE as u32, count: shape.workers() };
    for place in 0..rows.count {
        if let Some(row) = rows.of(part, place) {
            row.clear();
        }
    }
    let group = |group: &GroupShape| {
        let GroupShape { workers, messages, message_size, reply_size, progress_size } = *group;
        [workers, messages, message_size, reply_size, progress_size]
    };
    let mut words = [0; WORDS];
    let version = if shape.spares > 0 { VERSION } else { FIRST };
    words[..5].copy_from_slice(&[PartHeader::MAGIC, version, Kind::SERVICE.0, LAYOUT, version]);
    let Shape { clients, functions, spares, .. } = *shape;
    words[5..10].copy_from_slice(&[clients, functions, rows.rows, rows.stride, spares]);
    words[16..21].copy_from_slice(&group(&shape.normal));
    words[21..26].copy_from_slice(&group(&shape.vip));
    for (word, value) in AtomicU32::slice_at(part, WORDS)?.iter().zip(words) {
        word.store(value, Relaxed);
    }
    Ok(())
}

/// What the header says, checked; each word read once.
pub(super) fn load(part: &Region<'_>) -> Result<(Shape, Rows), AttachError> {
    let mut found = [0; WORDS];
    for (found, word) in found.iter_mut().zip(AtomicU32::slice_at(part, WORDS)?) {
        *found = word.load(Relaxed);
    }
    let [magic, version, kind, layout, min_reader, clients, functions, rows, stride, spares, ..] =
        found;
    if magic != PartHeader::MAGIC {
        return Err(AttachError::WrongMagic { found: magic, wanted: PartHeader::MAGIC });
    }
    if kind != Kind::SERVICE.0 {
        return Err(AttachError::WrongKind { found: Kind(kind), wanted: Kind::SERVICE });
    }
    if version < FIRST {
        return Err(AttachError::WrongVersion { found: version, wanted: FIRST });
    }
    if min_reader > VERSION {
        return Err(AttachError::NewerRequired { found: min_reader, wanted: VERSION });
    }
    if layout != LAYOUT {
        return Err(AttachError::WrongLayout { found: layout, wanted: LAYOUT });
    }
    let group = |from: usize| GroupShape {
        workers: found[from],
        messages: found[from + 1],
        message_size: found[from + 2],
        reply_size: found[from + 3],
        progress_size: found[from + 4],
    };
    let spares = if min_reader < VERSION { 0 } else { spares };
    let shape = Shape { normal: group(16), vip: group(21), spares, clients, functions };
    shape.check()?;
    let rows = Rows { rows, stride, count: shape.workers() };
    rows.check(part.len())?;
    Ok((shape, rows))
}

/// Where the orders are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows {
    rows: u32,
    stride: u32,
    count: u32,
}

impl Rows {
    fn check(&self, length: usize) -> Result<(), AttachError> {
        let Self { rows, stride, count } = *self;
        let corrupt = |what, found, limit| Err(Corrupt { what, found, limit }.into());
        if (rows as usize) < HEADER || !rows.is_multiple_of(LINE as u32) {
            return corrupt("offset of the orders", rows, HEADER as u32);
        }
        if (stride as usize) < LINE || !stride.is_multiple_of(LINE as u32) {
            return corrupt("bytes from orders to orders", stride, LINE as u32);
        }
        // No overflow: 32 bits, and 14 times 32 bits.
        let wanted = u64::from(rows) + u64::from(count) * u64::from(stride);
        if wanted > length as u64 {
            let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
            return Err(AttachError::TooSmall { found: length, wanted });
        }
        Ok(())
    }

    /// The row of a place; `None` if there is no such place.
    pub(super) fn of<'a>(&self, part: &Region<'a>, place: u32) -> Option<&'a OrdersRow> {
        if place >= self.count {
            return None;
        }
        // No overflow: the last ends in the part.
        let at = self.rows as usize + place as usize * self.stride as usize;
        OrdersRow::at(&part.part(at, LINE)?).ok()
    }
}
