//! What the segment's owner does: keeping letters, letting them go, and going on after another.

use super::{KEPT, LetterEntry, LettersLayout, MAY_GO};
use crate::identity::OwnerId;
use crate::region::Region;
use crate::sync::{copy_in, crash};
use crate::table::{Slot, SlotKey};
use core::fmt;

/// Each slot has a letter: nothing was kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LettersFull {
    /// How many there are.
    pub letters: u32,
}

impl fmt::Display for LettersFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "there is no room for another dead letter beside {}: drop some of them, or make room for more",
            self.letters
        )
    }
}

impl core::error::Error for LettersFull {}

/// What [`LettersLayout::take_over`] has found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TakenOver {
    /// Letters that are whole.
    pub letters: u32,
    /// Slots freed of letters that were begun or about to go.
    pub freed: u32,
}

/// A slot for a letter that is about to be kept. Dropping it gives the slot back.
#[must_use = "the slot is given back when this is dropped"]
pub struct Draft<'a> {
    slot: Slot<'a, LetterEntry, 1>,
    message: Region<'a>,
}

impl<'a> LettersLayout<'a> {
    /// Keeps a letter; its key. `length` of `entry` need not be set: it is `message`'s. Of a longer
    /// message than there is [room](super::Shape::bytes) for the first bytes are kept. If it has been kept
    /// before, by one who died before he could say so, it is not kept twice.
    ///
    /// The memory of each slot's message is to be there: where it is sparse,
    /// [`find`](Self::find), [`reserve`](Self::reserve) and [`Draft::keep`] do the same in steps.
    ///
    /// For the [owner](super#who-writes-what-in-which-order) of the segment, under whose id the
    /// slot is until the letter is whole.
    ///
    /// # Errors
    ///
    /// [`LettersFull`].
    pub fn keep(
        &self,
        owner: OwnerId,
        mut entry: LetterEntry,
        message: &[u8],
    ) -> Result<SlotKey, LettersFull> {
        entry.length = length_of(message);
        match self.find(&entry) {
            Some(key) => Ok(key),
            None => Ok(self.reserve(owner)?.keep(entry, message)),
        }
    }

    /// The letter about the same death with the same message as `entry`, if it is kept: what of
    /// the two is compared is all but time and cause.
    pub fn find(&self, entry: &LetterEntry) -> Option<SlotKey> {
        let found = self.table.iter().flatten().find(|found| found.entry.same_death(entry));
        found.map(|found| found.key)
    }

    /// Takes a slot for a letter. For the segment's owner, as [`keep`](Self::keep).
    ///
    /// # Errors
    ///
    /// [`LettersFull`].
    pub fn reserve(&self, owner: OwnerId) -> Result<Draft<'a>, LettersFull> {
        let full = LettersFull { letters: self.shape.letters };
        let slot = self.table.reserve(owner).map_err(|_| full)?;
        let message = self.message(slot.key().index()).ok_or(full)?;
        Ok(Draft { slot, message })
    }

    /// Frees the letters that may go; how many. `freed` is told, of each, where its message lay in
    /// the segment and how many bytes that are: to give the memory back.
    ///
    /// For the segment's owner, as [`keep`](Self::keep).
    pub fn sweep_dropped(&self, mut freed: impl FnMut(usize, usize)) -> u32 {
        let mut count = 0;
        for found in self.table.iter().flatten() {
            if self.table.live(found.key, MAY_GO) != Some(found.key.generation()) {
                continue;
            }
            let Some(slot) = self.table.resume(found.key, KEPT) else { continue };
            slot.release();
            count += 1;
            if let Some((offset, length)) = self.place_of(found.key.index()) {
                freed(offset, length);
            }
        }
        count
    }

    /// Goes on where another left off, who has died or left: once, by whoever has just got the
    /// segment's control, before it keeps letters. What that one had not finished is freed, what
    /// it had is kept.
    pub fn take_over(&self) -> TakenOver {
        let mut found = TakenOver::default();
        for (index, owner) in self.table.owners() {
            let Some(key) = self.table.tenancy(index) else { continue };
            let Some(slot) = self.table.resume(key, owner) else { continue };
            if !slot.is_published() {
                slot.release();
                found.freed += 1;
                continue;
            }
            if owner == KEPT { slot.keep() } else { slot.hand_over(KEPT) };
            found.letters += 1;
        }
        found
    }
}

fn length_of(message: &[u8]) -> u32 {
    u32::try_from(message.len()).unwrap_or(u32::MAX)
}

impl Draft<'_> {
    /// Which slot: see [`LettersLayout::place_of`].
    pub fn index(&self) -> u32 {
        self.slot.key().index()
    }

    /// Writes the letter; its key. As [`LettersLayout::keep`].
    pub fn keep(mut self, mut entry: LetterEntry, message: &[u8]) -> SlotKey {
        entry.length = length_of(message);
        let kept = message.len().min(self.message.len());
        crash::step();
        // SAFETY: `kept` bytes lie in both; the region's are mapped as long as it lives, and
        // `message` is memory of this process's own. Who reads there meanwhile looks again.
        unsafe { copy_in(message.as_ptr(), self.message.base().as_ptr(), kept) };
        self.slot.update(&entry);
        self.slot.hand_over(KEPT)
    }
}

impl fmt::Debug for Draft<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft").field("slot", &self.slot).finish_non_exhaustive()
    }
}
