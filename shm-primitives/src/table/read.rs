//! Looking at slots that others hold.

use super::words::{Version, Words};
use super::{RECHECK, SEE, SELECT, SlotKey, SlotTable};
use crate::identity::OwnerId;
use crate::part::Shareable;
use crate::sync::{AtomicU32, Ordering::Relaxed, fence, spin_loop};
use core::fmt;

/// How often a slot is looked at for one answer. Its holder would have to change the entry
/// twice, or the slot its tenant, within each of so many copyings of it.
pub const ATTEMPTS: u32 = 64;

/// One slot as it was at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Snapshot<T> {
    /// Which slot, and which tenancy of it.
    pub key: SlotKey,
    /// Who held it: its claimer, or whoever took it over since.
    pub owner: OwnerId,
    /// What the holder last published.
    pub entry: T,
}

/// The slot changed each time it was read: try again later. A holder that does this for long
/// is broken or hostile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Busy {
    /// The slot's place in the table.
    pub index: u32,
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot {} changed during each of {ATTEMPTS} attempts to read it", self.index)
    }
}

impl core::error::Error for Busy {}

impl<'a, T: Shareable, const LIVE: usize> SlotTable<'a, T, LIVE> {
    /// What slot `index` says; `None` if it has no published entry, or there is no such slot.
    /// May be out of date at once.
    ///
    /// Never blocks; looks at the slot [`ATTEMPTS`] times at the most.
    ///
    /// # Errors
    ///
    /// [`Busy`] if it changed during each attempt. Never once the holder is dead.
    pub fn read(&self, index: u32) -> Result<Option<Snapshot<T>>, Busy> {
        let Some(slot) = self.slot(index) else { return Ok(None) };
        attempts(|| look(&slot, index)).ok_or(Busy { index })
    }

    /// What the slot says in the tenancy that `key` names; `None` if that is over, or has no
    /// entry yet.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn get(&self, key: SlotKey) -> Result<Option<Snapshot<T>>, Busy> {
        Ok(self.read(key.index())?.filter(|found| found.key == key))
    }

    /// Every slot with a published entry, by index, each read when its turn comes: not one
    /// moment of the whole table. A slot that cannot be read now is an `Err` and does not end
    /// the iteration.
    pub fn iter(&self) -> impl Iterator<Item = Result<Snapshot<T>, Busy>> + use<'a, T, LIVE> {
        let table = *self;
        (0..self.slots()).filter_map(move |index| table.read(index).transpose())
    }

    /// The first slot, by index, whose entry is `wanted`. `None` if none was when it was
    /// looked at.
    ///
    /// # Errors
    ///
    /// [`Busy`] if none was, and a slot could not be read.
    pub fn find(&self, mut wanted: impl FnMut(&T) -> bool) -> Result<Option<Snapshot<T>>, Busy> {
        let mut busy = None;
        for slot in self.iter() {
            match slot {
                Ok(found) if wanted(&found.entry) => return Ok(Some(found)),
                Ok(_) => {}
                Err(error) => busy = Some(error),
            }
        }
        busy.map_or(Ok(None), Err)
    }

    /// Who holds slot `index`, whether or not it has an entry; `None` for nobody. A hint.
    pub fn owner(&self, index: u32) -> Option<OwnerId> {
        OwnerId::from_word(self.slot(index)?.owner.load(Relaxed))
    }

    /// The tenancy that slot `index` is in, or was last in; its generation is 0 if it was never
    /// taken. `None` beyond the last slot. A hint: who has stored its id as owner may not have
    /// begun its tenancy yet.
    ///
    /// ```
    /// # use shm_primitives::{identity::OwnerId, sync::AtomicU32, table::SlotTable};
    /// let words = [const { AtomicU32::new(0) }; 32];
    /// let table = SlotTable::<[u32; 2]>::in_words(&words);
    /// assert_eq!(table.tenancy(0).unwrap().generation(), 0);
    /// let slot = table.claim(OwnerId::new(1, 1).unwrap(), &[1, 2])?;
    /// let key = slot.key();
    /// assert_eq!(table.tenancy(0), Some(key));
    /// slot.release();
    /// assert_eq!((table.tenancy(0), table.get(key)), (Some(key), Ok(None)));
    /// assert_eq!(table.tenancy(2), None);
    /// # Ok::<(), shm_primitives::table::TableFull>(())
    /// ```
    pub fn tenancy(&self, index: u32) -> Option<SlotKey> {
        Some(Version(self.slot(index)?.version.load(Relaxed)).key(index))
    }

    /// The slots that are somebody's, and whose: what one who looks for the dead asks the
    /// kernel about. Those with no entry are among them, for their holder may have died
    /// before it published one.
    pub fn owners(&self) -> impl Iterator<Item = (u32, OwnerId)> + use<'a, T, LIVE> {
        let table = *self;
        (0..self.slots()).filter_map(move |index| Some((index, table.owner(index)?)))
    }

    /// Live word number `word`, below `LIVE`, of the tenancy that `key` names; `None` if that
    /// is over, or not published yet, or there is no such word.
    ///
    /// Orders nothing that the holder did besides, but its first publication: after that the
    /// words are stored as the holder likes.
    pub fn live(&self, key: SlotKey, word: usize) -> Option<u32> {
        let slot = self.slot(key.index())?;
        let version = Version(slot.version.load(SEE));
        if !version.is_published() || version.key(key.index()) != key {
            return None;
        }
        let value = self.live_word(key.index(), word)?.load(Relaxed);
        fence(RECHECK);
        // Once published, a tenancy keeps its version to its end.
        (slot.version.load(Relaxed) == version.0).then_some(value)
    }

    /// Whether the tenancy that `key` names goes on. To be asked after one has read memory that
    /// goes with the slot, which its holder writes when it has [reserved](Self::reserve) the slot
    /// and before it publishes an entry: if [`get`](Self::get) found the entry before, and this
    /// says so after, all that was read is that tenancy's.
    pub fn confirm(&self, key: SlotKey) -> bool {
        let Some(slot) = self.slot(key.index()) else { return false };
        fence(RECHECK);
        let version = Version(slot.version.load(Relaxed));
        version.is_published() && version.key(key.index()) == key
    }

    /// Live word number `word`, below `LIVE`, of slot `index`, whoever's that is: to poll it,
    /// to sleep on it, to order by. Its stores are the holder's.
    pub fn live_word(&self, index: u32, word: usize) -> Option<&'a AtomicU32> {
        if word >= LIVE {
            return None;
        }
        self.slot(index)?.live.get(word)
    }
}

/// The first answer that `look` gives.
fn attempts<R>(mut look: impl FnMut() -> Option<R>) -> Option<R> {
    (0..ATTEMPTS).find_map(|_| look())
}

/// One look at a slot; `None` if it changed meanwhile.
fn look<T: Shareable>(slot: &Words<'_>, index: u32) -> Option<Option<Snapshot<T>>> {
    let version = Version(slot.version.load(SEE));
    if !version.is_published() {
        return Some(None);
    }
    let owner = slot.owner.load(Relaxed);
    let selector = slot.selector.load(SELECT);
    let entry = slot.load(selector);
    fence(RECHECK);
    if slot.selector.load(Relaxed) != selector || slot.version.load(Relaxed) != version.0 {
        spin_loop();
        return None;
    }
    // Nobody's, or no id: no holder left a published slot so.
    let owner = OwnerId::from_word(owner);
    Some(owner.map(|owner| Snapshot { key: version.key(index), owner, entry }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    /// No test can change a slot during each look on purpose.
    #[test]
    fn gives_up() {
        let ask = |answers_at: u32| {
            let mut looks = 0;
            let answer = attempts(|| {
                looks += 1;
                (looks == answers_at).then_some(7)
            });
            (answer, looks)
        };
        assert_eq!(ask(1), (Some(7), 1));
        assert_eq!(ask(ATTEMPTS), (Some(7), ATTEMPTS));
        assert_eq!(ask(ATTEMPTS + 1), (None, ATTEMPTS));
        let text = "slot 3 changed during each of 64 attempts to read it";
        assert_eq!(Busy { index: 3 }.to_string(), text);
    }
}
