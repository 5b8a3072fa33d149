//! Slot tables of any kind: who holds what.
//!
//! `shm_primitives::table` reads tables whose entries it is told the type of. This reads what its
//! documentation says that all of them have in common.

use super::Snapshot;
use shm_primitives::identity::OwnerId;

/// A table, as its header says.
#[derive(Clone, Copy, Debug)]
pub struct TableShape {
    offset: u64,
    pub slots: u32,
    stride: u32,
    live: u32,
    entry: u32,
}

/// A slot that is somebody's.
#[derive(Clone, Debug)]
pub struct Held {
    pub index: u32,
    pub owner: OwnerId,
    pub published: bool,
    /// What its holder published last.
    pub entry: Vec<u8>,
    /// What it stores when it likes.
    pub live: Vec<u32>,
}

impl TableShape {
    /// As many as there can be.
    const MOST_SLOTS: u32 = 1 << 20;
    /// Bytes of a slot that are believed: what is larger is no table of anything.
    const MOST_BYTES: u32 = 1 << 20;

    /// That of the table at `offset`, of `length` bytes.
    pub fn at(copy: &Snapshot, offset: u64, length: u64) -> Result<Self, String> {
        let words = copy.words::<16>(offset).ok_or("it is not there")?;
        let this =
            Self { offset, slots: words[5], stride: words[6], live: words[7], entry: words[9] };
        let Self { slots, stride, live, entry, .. } = this;
        let needed = 12 + 4 * u64::from(live) + 2 * u64::from(entry);
        if slots == 0 || slots > Self::MOST_SLOTS {
            return Err(format!("{slots} slots cannot be"));
        }
        if stride > Self::MOST_BYTES
            || !stride.is_multiple_of(64)
            || !entry.is_multiple_of(4)
            || needed > u64::from(stride)
        {
            return Err(format!("slots of {stride} bytes with entries of {entry} cannot be"));
        }
        if 64 + u64::from(slots) * u64::from(stride) > length {
            return Err(format!("{slots} slots of {stride} bytes do not fit"));
        }
        Ok(this)
    }

    /// The slot of that number: `Ok(None)` if it is nobody's.
    pub fn slot(&self, copy: &Snapshot, index: u32) -> Result<Option<Held>, String> {
        let at = self.offset + 64 + u64::from(index) * u64::from(self.stride);
        let [owner, version, selector] = copy.words(at).ok_or("it is not there")?;
        if version & 0xffe != 0 {
            return Err(format!("slot {index} has version {version:#x}, which cannot be"));
        }
        let published = version & 1 != 0;
        let Some(id) = OwnerId::from_word(owner) else {
            return match (owner, published) {
                (0, false) => Ok(None),
                (0, true) => Err(format!("slot {index} is nobody's and has an entry")),
                _ => Err(format!("slot {index} has the owner's word {owner:#x}, which is none")),
            };
        };
        let copies = at + 12 + 4 * u64::from(self.live);
        let current = copies + u64::from(selector & 1) * u64::from(self.entry);
        let entry = copy.bytes(current, self.entry as usize).ok_or("it is not there")?;
        let live = copy.bytes(at + 12, self.live as usize * 4).ok_or("it is not there")?;
        let live = live.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
        Ok(Some(Held { index, owner: id, published, entry, live }))
    }
}
