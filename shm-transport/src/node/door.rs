//! How a node is reached from within its own process: a lane in memory of the process's own,
//! handed over directly.

use super::kept::Kept;
use super::mapped::Mapped;
use super::message::Filter;
use crate::domain::Domain;
use crate::fork::{Process, this_process, without_forks};
use parking_lot::Mutex;
use shm_primitives::identity::OwnerId;
use shm_primitives::lane::{LaneWriter, Lanes, OpenError, Table};
use shm_primitives::layout::lrpc::NodeId;
use shm_primitives::ready::ReadyBitmap;
use shm_primitives::region::Region;
use shm_primitives::sync::AtomicU32 as Word;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Weak};

/// Where other nodes of the process hand lanes in.
#[derive(Debug)]
pub(super) struct Door {
    /// The node's own segment, for the word it sleeps at.
    pub own: Arc<Mapped>,
    /// Whether somebody has handed in a lane that was not taken yet.
    rung: AtomicBool,
    arrived: Mutex<Vec<Arc<LocalLane>>>,
    filter: Mutex<Filter>,
    /// Twice the number of changes of the filter, and [`LEFT`].
    news: AtomicU32,
    process: Process,
}

/// The node has left: in a door's news.
const LEFT: u32 = 1;

/// A lane from one node of a process to another.
pub(super) struct LocalLane {
    lanes: Lanes<'static>,
    _memory: Memory,
    /// Has the word that the receiver sleeps at.
    _receiver: Arc<Mapped>,
}

/// Memory of a lane, and the words of its table and bitmap behind it.
struct Memory {
    pages: Kept<[Page]>,
    words: Kept<[Word]>,
}

#[repr(C, align(4096))]
struct Page(std::cell::UnsafeCell<[u8; 4096]>);

// SAFETY: it is accessed through regions alone, by structures made for memory that others have.
unsafe impl Sync for Page {}

type Doors = HashMap<PathBuf, Weak<Door>>;

/// All doors of this process, by the node's file.
static DOORS: LazyLock<Mutex<Doors>> = LazyLock::new(Mutex::default);

/// Works with the doors, while no thread forks: a child must not find them locked.
fn doors<T>(f: impl FnOnce(&mut Doors) -> T) -> T {
    without_forks(|| f(&mut DOORS.lock()))
}

/// The two ends of a local lane are no members of any table: these are their names in it.
const RECEIVER: Option<OwnerId> = OwnerId::new(0, 1);
const SENDER: Option<OwnerId> = OwnerId::new(1, 1);

impl Door {
    pub fn open(own: Arc<Mapped>, filter: Filter) -> Arc<Self> {
        let door = Arc::new(Self {
            own,
            rung: AtomicBool::new(false),
            arrived: Mutex::default(),
            filter: Mutex::new(filter),
            news: AtomicU32::new(0),
            process: this_process(),
        });
        let path = door.own.segment.path().to_owned();
        doors(|doors| doors.insert(path, Arc::downgrade(&door)));
        door
    }

    /// The door of the node of that name, if it is of this process.
    pub fn find(domain: &Domain, id: &NodeId) -> Option<Arc<Self>> {
        let path = domain.path_of(&super::name::segment_of(id));
        let door = doors(|doors| doors.get(&path)?.upgrade())?;
        // A copy in a forked child is nobody's.
        (door.process == this_process() && !door.has_left()).then_some(door)
    }

    /// Nobody finds it any more, and who has it sees that the node has left. False if it was shut
    /// before.
    pub fn shut(&self) -> bool {
        if self.news.fetch_or(LEFT, Ordering::AcqRel) & LEFT != 0 {
            return false;
        }
        let path = self.own.segment.path();
        doors(|doors| {
            if doors.get(path).is_some_and(|door| std::ptr::eq(door.as_ptr(), self)) {
                doors.remove(path);
            }
        });
        true
    }

    #[inline]
    pub fn has_left(&self) -> bool {
        self.news.load(Ordering::Acquire) & LEFT != 0
    }

    pub fn set_filter(&self, filter: Filter) {
        *self.filter.lock() = filter;
        self.news.fetch_add(2, Ordering::Release);
    }

    /// What may have changed: the filter, or that the node is there. The same as before if
    /// nothing has, and no number that [`new_filter`](Self::new_filter) gives if it has left.
    #[inline]
    pub fn news(&self) -> u32 {
        self.news.load(Ordering::Relaxed)
    }

    /// The filter, if it is not the one that there was at these news.
    #[inline]
    pub fn new_filter(&self, seen: &mut u32) -> Option<Filter> {
        let news = self.news.load(Ordering::Acquire) & !LEFT;
        if news == *seen {
            return None;
        }
        *seen = news;
        Some(self.filter.lock().clone())
    }

    /// Hands in a lane.
    pub fn hand_in(&self, lane: Arc<LocalLane>) {
        self.arrived.lock().push(lane);
        self.rung.store(true, Ordering::Release);
    }

    /// What was handed in since the last time.
    #[inline]
    pub fn arrivals(&self) -> Vec<Arc<LocalLane>> {
        if self.rung.load(Ordering::Relaxed) && self.rung.swap(false, Ordering::Acquire) {
            return std::mem::take(&mut *self.arrived.lock());
        }
        Vec::new()
    }
}

impl LocalLane {
    /// A lane into the node whose door it is, and its sender's end. `None` in the place of the
    /// lane if there is no memory of that shape, which a living node's is.
    pub fn make(door: &Door, card: &NodeId) -> Result<(Arc<Self>, LaneWriter<'static>), OpenError> {
        let layout = &door.own.layout;
        let capacity = layout.lanes().capacity();
        let (Some(receiver), Some(sender)) = (RECEIVER, SENDER) else { unreachable!("valid ids") };
        let size = Lanes::area_size(1, capacity).unwrap_or(0);
        let slots = Table::words_for(1).unwrap_or(0);
        let memory = Memory {
            pages: Kept::new(
                (0..size.div_ceil(4096))
                    .map(|_| Page(std::cell::UnsafeCell::new([0; 4096])))
                    .collect(),
            ),
            words: Kept::new((0..=slots).map(|_| Word::new(0)).collect()),
        };
        // SAFETY: `memory` is dropped after all that refers to it: the lane's ends have the Arc
        // beside them.
        let words = unsafe { memory.words.lasting() };
        let (bits, table) = words.split_at(1);
        let base = memory.pages.as_ptr().cast();
        // SAFETY: initialised memory of this object's own, accessed in no other way; it lives as
        // long as the words.
        let area = unsafe { Region::new(base, size) };
        // SAFETY: the same, as to the word of the receiver, whose mapping is kept.
        let bell = unsafe { &*std::ptr::from_ref(layout.lanes().bell()) };
        // SAFETY: all parts were made here, for one lane, and the bell is only rung.
        let lanes = unsafe {
            Lanes::new(
                receiver,
                Table::in_words(table),
                ReadyBitmap::new(bits),
                bell,
                area,
                capacity,
            )
        };
        let lanes = lanes.expect("memory made for it");
        let lanes = lanes.sleepless(layout.lanes().is_sleepless());
        let writer = lanes.reserve(sender).expect("its only lane is nobody's");
        let writer = writer.open(card.as_bytes())?;
        let lane = Self { lanes, _memory: memory, _receiver: Arc::clone(&door.own) };
        Ok((Arc::new(lane), writer))
    }

    pub fn lanes(&self) -> &Lanes<'static> {
        &self.lanes
    }
}

impl std::fmt::Debug for LocalLane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalLane").finish_non_exhaustive()
    }
}
