//! The chunk pool.

mod account;
#[path = "../common/mod.rs"]
mod common;
mod input;
mod messages;

use common::memory::Memory;
use common::owner;
use shm_primitives::identity::OwnerId;
use shm_primitives::pool::{Holder, Limits, MarksRef, Options, Place, PoolRef, Publisher, Slot};

const ID: u32 = 9;
const PLACES: usize = 3;
const OPTIONS: Options = Options::new(ID, PLACES as u32).class(64, 3).class(200, 2);
const CHUNKS: usize = OPTIONS.chunks() as usize;

/// Where chunks begin in this pool, and their two sizes.
const DATA: usize = 384;
const SMALL: usize = 64;
const LARGE: usize = 256;

const PUBLISHER: u32 = 1;
const HOLDERS: u32 = 10;

/// A pool and marks for each place; for the rest of the test, so that regions need no borrow.
struct Parts {
    memory: &'static Memory,
    rows: Vec<&'static Memory>,
    pool: PoolRef<'static>,
    marks: Vec<MarksRef<'static>>,
}

fn leak(len: usize) -> &'static Memory {
    Box::leak(Box::new(Memory::new(len, 0xa5)))
}

fn parts(options: Options) -> Parts {
    let memory = leak(options.required_size().unwrap());
    // SAFETY: nobody else knows this memory.
    let pool = unsafe { PoolRef::init_at(memory.region(), options) }.unwrap();
    let mut parts = Parts { memory, rows: vec![], pool, marks: vec![] };
    for id in 1..=options.places() {
        parts.add_marks(id);
    }
    parts
}

impl Parts {
    fn add_marks(&mut self, id: u32) -> MarksRef<'static> {
        let row = leak(MarksRef::required_size(self.pool.chunks()).unwrap());
        // SAFETY: nobody else knows this memory, and every id is used once.
        let marks = unsafe { MarksRef::init_at(row.region(), &self.pool, id) }.unwrap();
        self.rows.push(row);
        self.marks.push(marks);
        marks
    }

    fn slots(&self) -> &'static mut [Slot] {
        (0..self.pool.chunks()).map(|_| Slot::new()).collect::<Vec<_>>().leak()
    }

    fn publisher(&self, limits: Limits) -> Publisher<'static, 'static> {
        let places = (0..self.pool.places()).map(|_| Place::new()).collect::<Vec<_>>().leak();
        let publisher =
            self.pool.claim_publisher(owner(PUBLISHER), limits, self.slots(), places, |_| 0);
        publisher.unwrap()
    }

    fn holder(&self, place: usize) -> Holder<'static> {
        self.pool.claim_holder(self.marks[place], holder_of(place)).unwrap()
    }
}

fn holder_of(place: usize) -> OwnerId {
    owner(HOLDERS + place as u32)
}

/// A publisher with all places connected.
fn connected(limits: Limits) -> (Parts, Publisher<'static, 'static>) {
    let parts = parts(OPTIONS);
    let publisher = parts.publisher(limits);
    for (place, marks) in parts.marks.iter().enumerate() {
        publisher.connect(place, *marks).unwrap();
    }
    (parts, publisher)
}

// ---- Random operations against an account of who has what.

fn forever<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// Drops what [`forever`] keeps.
///
/// # Safety
///
/// Nobody uses it any more.
unsafe fn no_more<T>(value: &'static T) {
    // SAFETY: leaked from a box, and the caller's contract.
    drop(unsafe { Box::from_raw(std::ptr::from_ref(value).cast_mut()) });
}
