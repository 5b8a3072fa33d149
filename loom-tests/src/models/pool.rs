//! The chunk pool. A message is its number in all bytes.

use crate::harness::{Lent, Memory, check, check_eq, explore, models, owner};
use loom::sync::Arc;
use loom::thread;
use shm_primitives::identity::Dead;
use shm_primitives::pool::{
    BorrowError, ChunkHandle, ConnectError, Counts, Holder, Limits, LoanError, MarksRef, Options,
    Place, PoolRef, Publisher, Slot,
};
use shm_primitives::ring::spsc::{self, SpscRingRef};
use shm_primitives::sync::spin_loop;

/// Who has the ends; subscribers from the last on.
pub(crate) const PUBLISHER: u32 = 1;
pub(crate) const HOLDER: u32 = 10;

const POOL: u32 = 7;
const LENGTH: usize = 8;

/// A pool of a few chunks of 64 bytes and marks for each place, all connected.
pub(crate) struct Fixture {
    memory: Vec<Lent<Memory>>,
    pub pool: PoolRef<'static>,
    pub marks: Vec<MarksRef<'static>>,
}

pub(crate) fn fixture(chunks: u32, places: u32) -> Fixture {
    let options = Options::new(POOL, places).class(64, chunks);
    let memory = Lent::new(Memory::new(options.required_size().unwrap()));
    // SAFETY: the fixture outlives the threads of its model; nobody else knows the memory.
    let pool = unsafe {
        PoolRef::zero_at(&memory.get().region(), options);
        PoolRef::init_at(memory.get().region(), options).unwrap()
    };
    let mut fixture = Fixture { memory: vec![memory], pool, marks: vec![] };
    for id in 1..=places {
        let size = MarksRef::required_size(chunks).unwrap();
        let memory = Lent::new(Memory::new(size));
        // SAFETY: as above, and each id is used once.
        fixture.marks.push(unsafe {
            MarksRef::zero_at(&memory.get().region(), chunks);
            MarksRef::init_at(memory.get().region(), &pool, id).unwrap()
        });
        fixture.memory.push(memory);
    }
    fixture
}

impl Fixture {
    /// The publisher, with everybody connected.
    pub fn publisher(&self) -> Publisher<'static, 'static> {
        let (slots, places) = self.own_memory();
        let claimed =
            self.pool.claim_publisher(owner(PUBLISHER), Limits::NONE, slots, places, |_| 0);
        let publisher = claimed.unwrap();
        for (place, marks) in self.marks.iter().enumerate() {
            publisher.connect(place, *marks).unwrap();
        }
        publisher
    }

    /// What a publisher, or its successor, has of its own.
    pub fn own_memory(&self) -> (&'static mut [Slot], &'static mut [Place<'static>]) {
        let slots: Vec<_> = (0..self.pool.chunks()).map(|_| Slot::new()).collect();
        let places: Vec<_> = self.marks.iter().map(|marks| Place::of(*marks)).collect();
        (slots.leak(), places.leak())
    }

    pub fn holder(&self, place: usize) -> Holder<'static> {
        self.pool.claim_holder(self.marks[place], owner(HOLDER + place as u32)).unwrap()
    }
}

/// The handle of the message that is the `generation`th in `chunk`.
pub(crate) fn handle(chunk: u32, generation: u32) -> ChunkHandle {
    ChunkHandle { pool: POOL, chunk, generation, length: LENGTH as u32 }
}

/// Writes message `number` as soon as there is a chunk, and lends it to `places`.
pub(crate) fn publish(
    publisher: &Publisher<'_, '_>,
    number: u8,
    places: std::ops::Range<usize>,
) -> ChunkHandle {
    let mut loan = loop {
        match publisher.loan(LENGTH) {
            Ok(loan) => break loan,
            Err(error) => check_eq!(error, LoanError::Exhausted, "no chunk"),
        }
        spin_loop();
    };
    loan.fill(number);
    let shared = loan.share();
    for place in places {
        check_eq!(shared.lend(place, u32::from(number) - 1), Ok(shared.handle()), "lent");
    }
    shared.handle()
}

/// Reads a message as soon as it is lent, and gives it back.
fn read(holder: &Holder<'_>, handle: ChunkHandle, number: u8) {
    loop {
        match holder.borrow(handle) {
            Ok(borrowed) => {
                check_eq!(*borrowed, [number; LENGTH], "content");
                return;
            }
            Err(BorrowError::NotLent | BorrowError::Stale { .. }) => spin_loop(),
            Err(error) => check!(false, "{error}"),
        }
    }
}

fn ring() -> (Lent<Memory>, SpscRingRef<'static, ChunkHandle>) {
    let options = spsc::Options::new(2);
    let memory = Lent::new(Memory::new(options.required_size::<ChunkHandle>().unwrap()));
    // SAFETY: the caller keeps the memory; nobody else knows it.
    let ring = unsafe {
        SpscRingRef::<ChunkHandle>::zero_at(&memory.get().region(), options);
        SpscRingRef::init_at(memory.get().region(), options).unwrap()
    };
    (memory, ring)
}

models! {
    /// A message is whole for a subscriber whose handle came without any ordering: it knows it.
    fn pool_lend_borrow() {
        explore(|| {
            let fixture = fixture(1, 1);
            let holder = fixture.holder(0);
            let publisher = fixture.publisher();
            let publishing = thread::spawn(move || {
                publish(&publisher, 1, 0..1);
            });
            read(&holder, handle(0, 1), 1);
            publishing.join().unwrap();
        });
    }

    /// A chunk is written again only after it was read.
    fn pool_reclaim() {
        explore(|| {
            let fixture = fixture(1, 1);
            let holder = fixture.holder(0);
            let publisher = fixture.publisher();
            let first = publish(&publisher, 1, 0..1);
            let reading = thread::spawn(move || {
                read(&holder, first, 1);
                holder
            });
            let second = publish(&publisher, 2, 0..1);
            check_eq!(second, handle(0, 2), "the same chunk");
            let holder = reading.join().unwrap();
            check_eq!(holder.borrow(first).err(), Some(BorrowError::Stale { found: 1, wanted: 2 }), "old");
            read(&holder, second, 2);
        });
    }

    /// The same with two subscribers: the last to give back makes it free.
    fn pool_two_subscribers() {
        explore(|| {
            let fixture = fixture(1, 2);
            let publisher = fixture.publisher();
            let first = publish(&publisher, 1, 0..2);
            let reading: Vec<_> = [0, 1]
                .map(|place| {
                    let holder = fixture.holder(place);
                    thread::spawn(move || read(&holder, first, 1))
                })
                .into();
            publish(&publisher, 2, 0..0);
            reading.into_iter().for_each(|reading| reading.join().unwrap());
        });
    }

    /// Two messages through one chunk, their handles through a ring.
    fn pool_with_ring() {
        explore(|| {
            let fixture = fixture(1, 1);
            let (_memory, ring) = ring();
            let holder = fixture.holder(0);
            let publisher = fixture.publisher();
            let mut producer = ring.claim_producer(owner(PUBLISHER)).unwrap();
            let mut consumer = ring.claim_consumer(owner(HOLDER)).unwrap();
            let publishing = thread::spawn(move || {
                for number in [1, 2] {
                    let handle = publish(&publisher, number, 0..1);
                    check_eq!(producer.push(handle), Ok(()), "room");
                }
            });
            for number in [1, 2] {
                let handle = loop {
                    match consumer.pop() {
                        Ok(handle) => break handle,
                        Err(_) => spin_loop(),
                    }
                };
                // What was pushed is lent, at once.
                match holder.borrow(handle) {
                    Ok(borrowed) => check_eq!(*borrowed, [number; LENGTH], "content"),
                    Err(error) => check!(false, "{error}"),
                }
            }
            publishing.join().unwrap();
        });
    }

    /// Taking back against borrowing: one of them has the chunk.
    fn pool_take_back() {
        explore(|| {
            let fixture = fixture(1, 1);
            let holder = fixture.holder(0);
            let publisher = fixture.publisher();
            let mut loan = publisher.loan(LENGTH).unwrap();
            loan.fill(1);
            let shared = loan.share();
            let handle = shared.lend(0, 0).unwrap();
            let reading = thread::spawn(move || match holder.borrow(handle) {
                Ok(borrowed) => {
                    check_eq!(*borrowed, [1; LENGTH], "content");
                    true
                }
                Err(_) => false,
            });
            let taken_back = shared.take_back(0).is_ok();
            drop(shared);
            if let Ok(mut loan) = publisher.loan(LENGTH) {
                loan.fill(2);
                drop(loan.share());
            }
            let read = reading.join().unwrap();
            check!(read != taken_back, "read: {read}, taken back: {taken_back}");
            publisher.reclaim();
            check_eq!(publisher.counts().free, 1, "it came back");
        });
    }

    /// Two threads of one subscriber borrow by copies of one handle: one of them has it, and
    /// it is not given back behind that one's back.
    fn pool_borrowed_once() {
        explore(|| {
            let fixture = fixture(1, 1);
            let holder = Arc::new(fixture.holder(0));
            let publisher = fixture.publisher();
            let handle = publish(&publisher, 1, 0..1);
            let borrowing = || {
                let holder = Arc::clone(&holder);
                thread::spawn(move || match holder.borrow(handle) {
                    Ok(borrowed) => {
                        check_eq!(*borrowed, [1; LENGTH], "content");
                        1
                    }
                    Err(_) => 0,
                })
            };
            let (one, other) = (borrowing(), borrowing());
            if let Ok(mut loan) = publisher.loan(LENGTH) {
                loan.fill(2);
                drop(loan.share());
            }
            check_eq!(one.join().unwrap() + other.join().unwrap(), 1, "borrowed");
        });
    }

    /// A subscriber died with a chunk in hand, another goes on: the dead one's marks are cleared,
    /// the other's stay.
    fn pool_recover_holder() {
        explore(|| {
            let fixture = fixture(1, 2);
            let publisher = fixture.publisher();
            let first = publish(&publisher, 1, 0..2);
            let dying = {
                let holder = fixture.holder(0);
                thread::spawn(move || {
                    std::mem::forget(holder.borrow(first).unwrap());
                    std::mem::forget(holder);
                })
            };
            let living = {
                let holder = fixture.holder(1);
                thread::spawn(move || read(&holder, first, 1))
            };
            dying.join().unwrap();
            // SAFETY: its thread has ended, and the join orders it before this.
            let dead = unsafe { Dead::assume(owner(HOLDER)) };
            check_eq!(publisher.recover_holder(0, dead), Ok(1), "cleared");
            publish(&publisher, 2, 0..0);
            living.join().unwrap();
        });
    }

    /// A publisher died between the mark and the push of a second message, while the subscriber
    /// reads the first: the second's chunk is free, the first's is when it was given back.
    fn pool_recover_publisher() {
        explore(|| {
            let fixture = fixture(2, 1);
            let holder = fixture.holder(0);
            let publisher = fixture.publisher();
            let first = publish(&publisher, 1, 0..1);
            let reading = thread::spawn(move || {
                read(&holder, first, 1);
                holder
            });
            publish(&publisher, 2, 0..1);
            std::mem::forget(publisher);
            let (slots, places) = fixture.own_memory();
            // SAFETY: this thread had the handle.
            let dead = unsafe { Dead::assume(owner(PUBLISHER)) };
            let heir = fixture
                .pool
                .recover_publisher(dead, owner(2), Limits::NONE, slots, places, |_| 1)
                .unwrap();
            let free = heir.counts().free;
            check!(free > 0, "what was never pushed is free");
            publish(&heir, 3, 0..0);
            publish(&heir, 4, 0..0);
            reading.join().unwrap();
            heir.reclaim();
            check_eq!(heir.counts(), Counts { free: 2, loaned: 0, shared: 0 }, "all came back");
        });
    }

    /// A subscriber's end given back and claimed by another thread, which borrows what the former
    /// owner left unread; disconnecting it waits for both.
    fn pool_release_claim() {
        explore(|| {
            let fixture = fixture(1, 1);
            let holder = fixture.holder(0);
            let publisher = fixture.publisher();
            let handle = publish(&publisher, 1, 0..1);
            let (pool, marks) = (fixture.pool, fixture.marks[0]);
            let first = thread::spawn(move || drop(holder));
            let second = thread::spawn(move || {
                let Ok(holder) = pool.claim_holder(marks, owner(HOLDER + 1)) else { return };
                match holder.borrow(handle) {
                    Ok(borrowed) => check_eq!(*borrowed, [1; LENGTH], "content"),
                    // Disconnected, and the chunk was taken again.
                    Err(BorrowError::NotLent | BorrowError::Stale { .. }) => {}
                    Err(error) => check!(false, "{error}"),
                }
            });
            let disconnected = publisher.disconnect(0);
            if disconnected.is_ok() {
                publish(&publisher, 2, 0..0);
            } else {
                check!(matches!(disconnected, Err(ConnectError::Claim(_))), "{disconnected:?}");
            }
            first.join().unwrap();
            second.join().unwrap();
        });
    }
}
