//! A table of slots that several processes take and leave: a registry of nodes, a pool of
//! heartbeats, the places of clients or workers, the records of processes.
//!
//! Each slot is nobody's or one holder's. It has an *entry*, which the holder publishes and
//! changes as a whole and anybody reads as a whole, also after the holder's death; and *live
//! words*, which the holder stores one by one whenever it likes. A slot whose holder is proven
//! [`Dead`](crate::identity::Dead) is recovered.
//!
//! # Memory
//!
//! ```text
//! offset  size
//!      0    64  part header, kind 3                       (see crate::part)
//!               capacity: slots, any number up to 2^20    stride: bytes of a slot
//!               options: live words of a slot             start: bytes of an entry
//!     64        slot 0, then the others, each `stride` bytes, a multiple of 64
//!
//! a slot, with L live words and entries of E bytes (a multiple of 4):
//!     +0     4  owner     OwnerId of the holder, 0 for nobody
//!     +4     4  version   see below
//!     +8     4  selector  changes of the entry so far, wrapping, through all tenancies;
//!                         its lowest bit is the current copy
//!    +12  4 * L  live words
//!            E  copy 0 of the entry
//!            E  copy 1
//!               unused, up to a multiple of 64
//!
//! version:
//!  31         12 11          1      0
//! +-------------+-------------+-----------+
//! | generation  |      0      | published |
//! +-------------+-------------+-----------+
//! ```
//!
//! All words are little-endian `u32`; an entry's are the bytes of a `T`. A slot with one live
//! word and an entry of 24 bytes takes one cache line, and its first 64 bytes are all that one
//! who polls live words reads.
//!
//! **Tenancies.** The generation counts how often the slot was taken: from 1 to 2²⁰ − 1, then
//! 1 again; 0 for never. [`SlotKey`], index and generation, names one tenancy and no other,
//! except for a key kept while its slot is taken 2²⁰ − 1 times.
//!
//! **Newer entries.** Where the copies lie follows from the sizes in the header, not from `T`.
//! A table made by a newer program, whose entries and live words are more, is attached to by
//! an older one, which sees the first part of each. So entries and live words grow at their
//! ends; what an older program publishes has zeros behind. What cannot be read by an older
//! program gets another [`tag`](Options::tag).
//!
//! # Who writes what, in which order
//!
//! `owner` is the one word that several write, by compare-and-swap: 0 to the claimer's id, a
//! dead one's id to the recoverer's. All others are written by the holder alone.
//!
//! | operation | its stores, in order |
//! |---|---|
//! | [`reserve`](SlotTable::reserve) | owner 0 to id, Acquire; version: next generation, not published; a Release fence; live words 0 |
//! | [`update`](Slot::update) | a Release fence; the copy that is *not* current; selector plus 1, Release; if not published: version published, Release |
//! | [`claim`](SlotTable::claim) | both |
//! | [`release`](Slot::release), drop | version not published; owner 0, Release |
//! | [`recover`](SlotTable::recover) | owner from the dead one to the heir, Acquire and Release; of a slot not published the stores of `reserve` that follow |
//!
//! A reader loads version, Acquire; owner; selector, Acquire; the copy; a fence, Acquire; and
//! selector and version again. If both are what they were, the entry is one that was
//! published, in that tenancy. If not it tries again, [`ATTEMPTS`] times at the most, and then
//! says [`Busy`]. Why that is enough for the copy is argued in [`monitor`](crate::monitor),
//! whose record is kept in the same way; the selector runs on through tenancies, so that it
//! tells a change of tenant too. The version is looked at again because a selector may belong
//! to the next tenancy: whoever has loaded it, Acquire, then finds that tenancy's version.
//! The owner read belongs to the tenancy: the loads of version before it, Acquire, and of
//! version behind the fence lie on both sides of it.
//!
//! Memory of the user's own that goes with a slot, written between `reserve` and the first `update`,
//! is read between finding the entry and [`confirm`](SlotTable::confirm), in the same way.
//!
//! A [live word](SlotTable::live) is read between two looks at the version in the same way:
//! the fence of `reserve` is before the first store to it by the next tenant.
//!
//! # Enrolling: the slot is the id
//!
//! In a table of process records the [`OwnerId`](crate::identity::OwnerId) that a process is given *is* the slot it
//! takes: its index, and the generation that the slot then has. And whoever sees such an id
//! asks the kernel whether its holder lives, that is whether a lock on the id is held. So
//! [`enrol`](SlotTable::enrol)
//!
//! 1. finds a slot of nobody's and reads its version: the id has the next generation;
//! 2. takes the lock on that id (the caller's `guard`);
//! 3. stores the id as owner, by compare-and-swap from 0;
//! 4. reads the version again. If it changed, others had the slot meanwhile: the id may be
//!    that of somebody who has died. It takes the id away again, by compare-and-swap, then
//!    gives back the lock, and begins anew;
//! 5. goes on as `claim`.
//!
//! *No id is given twice*, until the generation has wrapped: the 2²⁰-th enrolment in one slot
//! has the id of the first again, so that by then nothing may name that one any more and no
//! [`Dead`](crate::identity::Dead) of it be kept. An owner word becomes 0 again only when the version has reached the
//! generation of every id that stood in it: a release comes after the store of the version; a
//! heir that finds the dead one's slot unpublished stores the next generation before it
//! releases; and one that backs off has seen that the version moved on. So who stored its id
//! over 0 and then finds the version unchanged knows that its id never stood there before.
//!
//! *An id that was seen, and then found not to be locked, is nobody's any more.* The lock is
//! taken before step 3, and given back after the owner word is 0 ([`Enrolled`] drops in this
//! order). So its holder has died, or has left, which is as final.
//!
//! *A stale proof of death does no harm.* Proof that id *n* is dead may be used when one who
//! is late has that id in the owner word, between steps 3 and 4. Then the slot goes to the
//! heir, who finds nothing published in it and releases it, and the late one's second
//! compare-and-swap fails: it touches nothing and begins anew. It has written nothing else
//! under that id.
//!
//! *A stale lock costs time alone.* One who is late may hold, for the time of steps 2 to 4, the
//! lock on an id whose holder is dead. If that one took the slot only after step 1 had looked,
//! its record may still stand, and it looks alive meanwhile: also for as long as the late one
//! is stopped there. So whoever finds an id locked asks again later; once the late one goes on
//! or dies, the lock falls, and it has touched nothing. Another who wants the id finds it locked
//! and takes another slot.
//!
//! A slot above index 4095 is never enrolled in: its index does not fit an id.
//!
//! # Crash
//!
//! | the holder dies | what the others see |
//! |---|---|
//! | in `guard`, before its compare-and-swap | nothing; the kernel drops the lock |
//! | while it reserves, claims or enrols, before the version is published | a slot that is somebody's, with no entry; whoever recovers it gives it a new generation |
//! | in `update`, before the selector | the entry before, whole |
//! | in `update`, after it | the new entry, whole |
//! | holding it | the entry, whole, until somebody recovers it |
//! | in `release`, before the owner word | a slot with no entry that is the dead one's: recovered as any other |
//! | while backing off | its id in the owner word: whoever looks at the [owners](SlotTable::owners) convicts it again and recovers the slot |
//! | as an heir | the slots it had taken over are its own now, those it had not are still the first one's |
//!
//! Nothing is lost but what the dead one had not published. Repair is the recoverer's: it
//! finds in each slot the last entry published, deals with what hung on it, and releases the
//! slot last. A heir that dies in the middle leaves slots that its own heir finds; work on
//! one slot may so be done twice. In a table of process records the dead one's own record is
//! released after everything else that names it.
//!
//! # Trust
//!
//! Nothing is referred to in place but atomic words. Entries are copied word by word, by
//! relaxed loads; any bytes are a `T`. The header is read once, when a handle is made, and
//! checked against the region. A holder keeps version and selector itself. Every loop ends:
//! readers look [`ATTEMPTS`] times, claimers once at each slot ([`enrol`](SlotTable::enrol):
//! a few times). So whoever may write to the memory can make entries, keys and owners wrong,
//! take slots away and make readers busy, and nothing else; attaching needs no `unsafe`.
//!
//! Two handles of one slot in one process (by [`resume`](SlotTable::resume)) or a false proof
//! of death give entries that are mixed, not undefined behaviour.
//!
//! # Sources
//!
//! Owner and generation in slots, with recovery by owner, as in iceoryx2's
//! `RobustUniqueIndexSet`; the two copies are the seqlock latch of Linux, as in
//! [`monitor`](crate::monitor). Enrolling is this crate's.
//!
//! # Example
//!
//! ```
//! use shm_primitives::identity::{Dead, OwnerId};
//! use shm_primitives::region::Region;
//! use shm_primitives::table::{Options, SlotTable};
//!
//! // A place of a worker: its core and its queue, and one live word, its heartbeat.
//! type Workers<'a> = SlotTable<'a, [u32; 2], 1>;
//! const SIZE: usize = Workers::required_size(10).unwrap();
//!
//! #[repr(align(64))]
//! struct Memory([u8; SIZE]);
//! let mut memory = Memory([0xa5; SIZE]);
//! let region = Region::from_mut(&mut memory.0);
//!
//! let workers = Workers::init_at(&region, Options::new(10))?;
//! let me = OwnerId::new(7, 1).unwrap();
//! let mut place = workers.claim(me, &[3, 40])?;
//! place.live(0).unwrap().store(1, core::sync::atomic::Ordering::Relaxed);
//! place.update(&[3, 41]);
//!
//! // Anybody else:
//! let workers = Workers::attach(&region, Options::DEFAULT_TAG)?;
//! let found = workers.find(|entry| entry[0] == 3)?.unwrap();
//! assert_eq!((found.entry, found.owner), ([3, 41], me));
//! assert_eq!(workers.live(found.key, 0), Some(1));
//!
//! // The holder dies. Whoever has the proof of it takes over what it had.
//! place.keep();
//! // SAFETY: its handle is gone, and nobody else acts under that id.
//! let dead = unsafe { Dead::assume(me) };
//! let heir = OwnerId::new(8, 1).unwrap();
//! for slot in workers.recover(dead, heir)? {
//!     assert_eq!(slot.entry(), Some([3, 41])); // repair what hung on it
//!     slot.release();
//! }
//! assert_eq!(workers.get(found.key)?, None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod claim;
mod enrol;
mod key;
mod layout;
mod read;
mod recover;
mod slot;
mod words;

pub use claim::TableFull;
pub use enrol::Enrolled;
pub use key::SlotKey;
pub use layout::{Options, SlotTable};
pub use read::{ATTEMPTS, Busy, Snapshot};
pub use recover::{OwnDeath, Recovery};
pub use slot::Slot;

use crate::sync::sites;

sites! { SITES
    /// Taking a slot: what its former holder did to it comes before what the new one does.
    TAKE = "table.take", Acquire, partner "table.release",
        [Relaxed => Model("table_release_claim"), Relaxed => Model("lane_take_again")];
    /// Taking a dead one's slot over: whoever reads the heir's id finds the version that the dead
    /// one had stored, and so not the heir's name on a tenancy that had ended.
    TAKE_OVER = "table.take-over", AcqRel, partner "table.recheck",
        [Acquire => Limit("the model that fails, crash_table_release_heir, needs a death between two stores, and is run with crash points, which this table's runner is built without"),
         Release => Limit("what the dead one stored comes before the proof of its death, which whoever takes over has")];
    /// Giving a slot to nobody, or to another holder, after the last store to it.
    RELEASE = "table.release", Release, partner "table.take, table.resume",
        [Relaxed => Model("table_release_claim"), Relaxed => Model("lane_hand_over"),
         Relaxed => Model("sleepless_whole_life")];
    /// Going on with a slot that was handed over: what its former holder did to it comes
    /// before what the new one does.
    RESUME = "table.resume", Acquire, partner "table.release",
        [Relaxed => Model("table_hand_over"), Relaxed => Model("lane_hand_over"),
         Relaxed => Model("sleepless_whole_life")];
    /// The version that says published, after the first entry of a tenancy.
    PUBLISH = "table.publish", Release, partner "table.see",
        [Relaxed => Model("table_claim_read"), Relaxed => Model("lane_open_adopt"),
         Relaxed => Model("sleepless_whole_life")];
    /// The version, before anything else of the slot is read.
    SEE = "table.see", Acquire, partner "table.publish",
        [Relaxed => Model("table_recover_publish")];
    /// The selector, after the words of the copy that it makes the current one.
    TURN = "table.turn", Release, partner "table.select",
        [Relaxed => Model("table_update_read")];
    /// The selector, before the words of the copy that it names are read.
    SELECT = "table.select", Acquire, partner "table.turn",
        [Relaxed => Model("table_update_read")];
    /// The words of a copy, after the selector that sends readers to the other one; and the
    /// live words of a tenancy, after the version that ends the one before. A fence before
    /// the first of them.
    OVERWRITE = "table.overwrite", Release, partner "table.recheck",
        [Relaxed => Model("table_overwritten"),
         Relaxed => Model("table_confirm")];
    /// What was read of a slot, before the second look at its selector and version: a fence
    /// after the last of it.
    RECHECK = "table.recheck", Acquire, partner "table.overwrite, table.release",
        [Relaxed => Model("table_overwritten"),
         Relaxed => Model("table_confirm")];
}
