//! Handles, limits, connections; messages between threads, and between those who do not trust
//! each other.

use super::{
    CHUNKS, HOLDERS, ID, LARGE, OPTIONS, PLACES, PUBLISHER, connected, holder_of, leak, parts,
};
use crate::common::{Patience, dead, owner};
use shm_primitives::part::{ClaimError, Untrusted};
use shm_primitives::pool::{
    BorrowError, ChunkHandle, ConnectError, Counts, LendError, Limits, LoanError, MarksRef,
    Options, OutOfRange, Place, PoolRef, Slot, Taken,
};
use shm_primitives::ring::spsc;
use shm_primitives::ring::spsc::SpscRingRef;
use std::collections::VecDeque;

#[test]
fn handles() {
    let (parts, publisher) = connected(Limits::NONE);
    let holder = parts.holder(0);
    let shared = publisher.loan(100).unwrap().share();
    let handle = shared.handle();
    assert_eq!(handle.chunk, 3, "the smallest that fits");
    let fails = |handle| holder.borrow(handle).map(drop).unwrap_err();
    assert_eq!(fails(handle), BorrowError::NotLent);
    assert_eq!(shared.lend(0, 0), Ok(handle));
    let pool = ChunkHandle { pool: 8, ..handle };
    assert_eq!(fails(pool), BorrowError::WrongPool { found: 8, wanted: ID });
    for chunk in [5, 6, 1 << 20, u32::MAX] {
        let handle = ChunkHandle { chunk, ..handle };
        assert_eq!(fails(handle), BorrowError::NoSuchChunk { found: chunk, chunks: 5 });
    }
    for length in [257, u32::MAX] {
        let handle = ChunkHandle { length, ..handle };
        assert_eq!(fails(handle), BorrowError::TooLong { found: length, size: 256 });
    }
    let small = ChunkHandle { chunk: 2, ..handle };
    assert_eq!(fails(small), BorrowError::TooLong { found: 100, size: 64 });
    let found = handle.generation.wrapping_sub(1);
    let stale = ChunkHandle { generation: found, ..handle };
    assert_eq!(fails(stale), BorrowError::Stale { found, wanted: handle.generation });
    // To another subscriber it is not lent.
    assert_eq!(parts.holder(1).borrow(handle).err(), Some(BorrowError::NotLent));
    // What nobody writes is no mark.
    for mark in [4, 2, u32::MAX - 1] {
        parts.rows[1].set(128 + 12, mark);
        assert_eq!(parts.holder(1).borrow(handle).err(), Some(BorrowError::NotLent), "{mark}");
    }
    parts.rows[1].set(128 + 12, 0);
    // All this has changed nothing.
    let borrowed = holder.borrow(handle).unwrap();
    assert_eq!(fails(handle), BorrowError::InHand);
    // Taken back only what is not borrowed.
    assert_eq!(shared.take_back(0), Err(Taken));
    drop(borrowed);
    assert_eq!(shared.take_back(0), Err(Taken));
    assert_eq!(fails(handle), BorrowError::NotLent);
    drop(shared);
    assert_eq!(publisher.counts().free, 4);
    assert_eq!(publisher.reclaim(), 1);
    let again = publisher.loan(100).unwrap();
    let wanted = handle.generation.wrapping_add(1);
    let error = BorrowError::Stale { found: handle.generation, wanted };
    assert_eq!(fails(handle), error);
    drop(again);
    for error in [
        BorrowError::WrongPool { found: 1, wanted: 2 },
        BorrowError::NoSuchChunk { found: 1, chunks: 1 },
        BorrowError::TooLong { found: 2, size: 1 },
        error,
        BorrowError::NotLent,
        BorrowError::InHand,
    ] {
        assert!(error.to_string().len() > 10);
    }
}

#[test]
fn limits() {
    let (parts, publisher) = connected(Limits { loans: 3, held: 2 });
    let shared: Vec<_> = (0..3).map(|_| publisher.loan(1).unwrap().share()).collect();
    assert_eq!(publisher.loan(1).err(), Some(LoanError::TooManyLoans { limit: 3 }));
    let first = shared[0].lend(0, 0).unwrap();
    let second = shared[1].lend(0, 1).unwrap();
    let full = LendError::TooManyHeld { limit: 2 };
    assert_eq!(shared[2].lend(0, 2), Err(full));
    assert_eq!(shared[2].lend(1, 0), Ok(shared[2].handle()), "the limit is each one's own");
    let holder = parts.holder(0);
    let borrowed = holder.borrow(first).unwrap();
    assert_eq!(shared[2].lend(0, 2), Err(full), "in hand is held too");
    drop(borrowed);
    assert_eq!(shared[2].lend(0, 2), Ok(shared[2].handle()));
    drop(holder.borrow(second).unwrap());
    assert_eq!(shared[0].lend(0, 3), Ok(first), "lent once more, after it came back");
    drop(shared);
    assert!(publisher.loan(1).is_ok());
    for error in [full, LendError::NotConnected { place: 1 }, LendError::AlreadyLent] {
        assert!(error.to_string().len() > 10);
    }
    let errors = [
        LoanError::Exhausted,
        LoanError::TooManyLoans { limit: 3 },
        LoanError::TooLarge { length: 2, maximum: 1 },
    ];
    errors.iter().for_each(|error| assert!(error.to_string().len() > 10));
}

#[test]
fn connections() {
    use ConnectError::*;
    let mut parts = parts(OPTIONS);
    let publisher = parts.publisher(Limits::NONE);
    assert_eq!(parts.pool.owner(), Ok(Some(owner(PUBLISHER))));
    let marks = parts.marks.clone();
    let shared = publisher.loan(1).unwrap().share();
    assert_eq!(shared.lend(0, 0), Err(LendError::NotConnected { place: 0 }));
    assert_eq!(shared.lend(7, 0), Err(LendError::NotConnected { place: 7 }));
    assert_eq!(shared.take_back(7), Err(Taken));
    assert_eq!(publisher.connect(0, marks[0]), Ok(()));
    assert_eq!(publisher.connect(0, marks[1]), Err(PlaceTaken { id: 1 }));
    assert_eq!(publisher.connect(1, marks[0]), Err(Twice { place: 0 }));
    assert_eq!(publisher.connect(3, marks[1]), Err(NoSuchPlace { found: 3, places: 3 }));
    assert_eq!(publisher.disconnect(1), Err(NotConnected { place: 1 }));
    assert_eq!(publisher.recover_holder(9, dead(HOLDERS)), Err(NotConnected { place: 9 }));
    assert_eq!(publisher.connected(0).map(|marks| marks.id()), Some(1));
    assert_eq!([0, 1, 3].map(|place| parts.pool.connected(place)), [Some(1), None, None]);
    // Marks for others.
    let other = self::parts(Options::new(ID + 1, 1).class(64, 5));
    assert_eq!(publisher.connect(1, other.marks[0]), Err(OtherPool { found: 10, wanted: 9 }));
    let other = self::parts(Options::new(ID, 1).class(64, 6));
    assert_eq!(publisher.connect(1, other.marks[0]), Err(OtherSize { found: 6, wanted: 5 }));
    let claimed = parts.pool.claim_holder(other.marks[0], owner(2)).map(drop);
    assert_eq!(claimed, Err(OtherSize { found: 6, wanted: 5 }));

    // A subscriber has its end alone, and no living one is cleared.
    let holder = parts.holder(0);
    assert_eq!(marks[0].owner(), Ok(Some(holder_of(0))));
    let owned = Err(Claim(ClaimError::Owned(holder_of(0))));
    assert_eq!(parts.pool.claim_holder(marks[0], owner(2)).map(drop), owned);
    assert_eq!(publisher.disconnect(0).map(drop), owned);
    let not_his = Err(Claim(ClaimError::NotTheOwner { found: Some(holder_of(0)) }));
    assert_eq!(publisher.recover_holder(0, dead(77)).map(drop), not_his);
    let recovered = parts.pool.recover_holder(marks[0], dead(77), owner(3), 0..1);
    assert_eq!(recovered.map(drop), not_his);
    let handle = shared.lend(0, 0).unwrap();
    drop(holder);
    // A later claim goes on with the same queue.
    assert!(parts.holder(0).borrow(handle).is_ok());
    assert_eq!(publisher.disconnect(0), Ok(0));
    assert_eq!(parts.pool.connected(0), None);
    assert_eq!(marks[0].owner(), Ok(None));

    // The successor of a publisher is given all that is connected, or does not begin.
    publisher.connect(2, marks[2]).unwrap();
    let _ = shared.lend(2, 0);
    drop(shared);
    drop(publisher);
    assert_eq!(parts.pool.owner(), Ok(None));
    let wrong = parts.add_marks(44);
    for given in [None, Some(wrong), Some(marks[1])] {
        let places = Vec::from([None, None, given].map(|m| m.map_or(Place::new(), Place::of)));
        let limits = Limits::NONE;
        let found =
            parts.pool.claim_publisher(owner(1), limits, parts.slots(), places.leak(), |_| 0);
        assert_eq!(found.map(drop), Err(Missing { place: 2, id: 3 }));
        assert_eq!(parts.pool.owner(), Ok(None));
    }
    let few = Limits::NONE;
    let found = parts.pool.claim_publisher(owner(1), few, &mut parts.slots()[1..], &mut [], |_| 0);
    assert_eq!(found.map(drop), Err(TooFewSlots { found: 4, wanted: 5 }));
    let found = parts.pool.claim_publisher(owner(1), few, parts.slots(), &mut [], |_| 0);
    assert_eq!(found.map(drop), Err(TooFewPlaces { found: 0, wanted: 3 }));
    // A place that was given and is not connected is free.
    let places: Vec<_> = marks.iter().map(|marks| Place::of(*marks)).collect();
    let publisher =
        parts.pool.claim_publisher(owner(1), few, parts.slots(), places.leak(), |_| 1).unwrap();
    assert_eq!(publisher.counts(), Counts { free: 4, loaned: 0, shared: 1 });
    assert_eq!([0, 1, 2].map(|place| publisher.connected(place).is_some()), [false, false, true]);
    let errors = [
        Claim(ClaimError::Owned(owner(1))),
        OtherPool { found: 1, wanted: 2 },
        OtherSize { found: 1, wanted: 2 },
        NoSuchPlace { found: 1, places: 1 },
        PlaceTaken { id: 1 },
        Twice { place: 1 },
        NotConnected { place: 1 },
        Missing { place: 1, id: 1 },
        TooFewSlots { found: 1, wanted: 2 },
        TooFewPlaces { found: 1, wanted: 2 },
    ];
    errors.iter().for_each(|error| assert!(error.to_string().len() > 10));
}

/// Copies in and out, for those who do not trust the other side, and the subscriber writes
/// nothing into the pool.
#[test]
fn untrusted_copies() {
    let parts = parts(OPTIONS);
    let pool: PoolRef<'static, Untrusted> =
        PoolRef::attach_untrusted(parts.memory.region()).unwrap();
    let marks = MarksRef::attach_untrusted(parts.rows[0].region()).unwrap();
    let mut places = [const { Place::new() }; PLACES];
    let mut slots = [const { Slot::new() }; CHUNKS];
    let publisher =
        pool.claim_publisher(owner(1), Limits::NONE, &mut slots, &mut places, |_| 0).unwrap();
    publisher.connect(0, marks).unwrap();
    let holder = pool.claim_holder(marks, owner(2)).unwrap();
    let mut loan = publisher.loan(100).unwrap();
    let bytes: Vec<u8> = (0..100).collect();
    assert_eq!(loan.write_at(0, &bytes), Ok(()));
    assert_eq!(loan.write_at(3, b"abc"), Ok(()));
    assert_eq!(loan.write_at(98, b"abc"), Err(OutOfRange { end: 101, length: 100 }));
    let end = usize::MAX;
    assert_eq!(loan.write_at(usize::MAX, b"abc"), Err(OutOfRange { end, length: 100 }));
    assert_eq!(loan.resize(257), Err(OutOfRange { end: 257, length: 256 }));
    assert_eq!((loan.len(), loan.capacity()), (100, 256));
    loan.resize(90).unwrap();
    let handle = loan.share().lend(0, 0).unwrap();
    assert_eq!(handle.length, 90);
    let before = parts.memory.bytes();
    let borrowed = holder.borrow(handle).unwrap();
    let mut copy = [0; 90];
    borrowed.read_at(0, &mut copy).unwrap();
    assert_eq!((&copy[..3], &copy[3..6], copy[6], copy[89]), (&[0, 1, 2][..], &b"abc"[..], 6, 89));
    let mut some = [0; 7];
    borrowed.read_at(83, &mut some).unwrap();
    assert_eq!(some, [83, 84, 85, 86, 87, 88, 89]);
    let error = borrowed.read_at(84, &mut some).unwrap_err();
    assert_eq!(error, OutOfRange { end: 91, length: 90 });
    assert!(error.to_string().len() > 10);
    assert!(borrowed.read_at(usize::MAX, &mut some).is_err());
    drop(borrowed);
    drop(holder);
    assert!(parts.memory.bytes() == before, "a subscriber wrote into the pool");
}

/// Threads with real queues: every message arrives whole, and all chunks come back.
#[test]
fn two_subscribers() {
    const MESSAGES: u32 = if cfg!(miri) { 50 } else { 20_000 };
    let (parts, publisher) = connected(Limits { loans: 2, held: 3 });
    let patience = Patience::new();
    let queue = || {
        let options = spsc::Options::new(4);
        let memory = leak(options.required_size::<ChunkHandle>().unwrap());
        // SAFETY: nobody else knows this memory.
        unsafe { SpscRingRef::<ChunkHandle>::init_at(memory.region(), options) }.unwrap()
    };
    std::thread::scope(|scope| {
        let mut queues = vec![];
        for place in 0..2 {
            let ring = queue();
            queues.push(ring.claim_producer(owner(PUBLISHER)).unwrap());
            let (parts, patience) = (&parts, patience.clone());
            scope.spawn(move || {
                let holder = parts.holder(place);
                let mut queue = ring.claim_consumer(holder_of(place)).unwrap();
                let mut hand = VecDeque::new();
                let mut next = 0u32;
                while next < MESSAGES {
                    let Ok(handle) = queue.pop() else {
                        hand.clear();
                        patience.wait();
                        continue;
                    };
                    let borrowed = holder.borrow(handle).unwrap();
                    hand.push_back((borrowed, next));
                    next += 1;
                    if hand.len() == 2 {
                        let (borrowed, number) = hand.pop_front().unwrap();
                        let sent = number.to_le_bytes();
                        assert!(borrowed.chunks(4).all(|word| *word == sent[..]), "{number}");
                    }
                }
            });
        }
        for number in 0..MESSAGES {
            let shared = loop {
                match publisher.loan(if number % 2 == 0 { 64 } else { 128 }) {
                    Ok(mut loan) => {
                        for word in loan.chunks_mut(4) {
                            word.copy_from_slice(&number.to_le_bytes());
                        }
                        break loan.share();
                    }
                    Err(LoanError::Exhausted) => patience.wait(),
                    Err(error) => panic!("{error}"),
                }
            };
            for (place, queue) in queues.iter_mut().enumerate() {
                loop {
                    match shared.lend(place, number) {
                        Ok(handle) if queue.push(handle).is_ok() => break,
                        Ok(_) => assert_eq!(shared.take_back(place), Ok(())),
                        Err(error) => assert_eq!(error, LendError::TooManyHeld { limit: 3 }),
                    }
                    patience.wait();
                }
            }
        }
    });
    publisher.reclaim();
    assert_eq!(publisher.counts(), Counts { free: 5, loaned: 0, shared: 0 });
}

/// A chunk held for long does not keep those shared after it, and is not judged by its position.
#[test]
fn held_for_long() {
    let (parts, publisher) = connected(Limits::NONE);
    let holder = parts.holder(0);
    let first = holder.borrow(publisher.loan(1).unwrap().share().lend(0, 0).unwrap()).unwrap();
    for n in 1..100 {
        let handle = publisher.loan(200).unwrap().share().lend(0, n).unwrap();
        drop(holder.borrow(handle).unwrap());
    }
    assert_eq!(publisher.loan(200).map(|loan| loan.capacity()), Ok(LARGE));
    drop(publisher);
    // Half the range of positions and more have passed: what is in hand stays so.
    for end in [(1 << 29) + 5, 1 << 30, 0] {
        let places: Vec<_> = parts.marks.iter().map(|marks| Place::of(*marks)).collect();
        let (slots, places) = (parts.slots(), places.leak());
        let heir = parts.pool.claim_publisher(owner(1), Limits::NONE, slots, places, |_| end);
        let heir = heir.unwrap();
        let counts = Counts { free: 4, loaned: 0, shared: 1 };
        assert_eq!((heir.reclaim(), heir.counts()), (0, counts), "freed while it is read");
    }
    drop(first);
}

/// Of a subscriber's successor: what the dead one popped and never borrowed comes back, what it
/// had not popped stays, and so does what is lent meanwhile.
#[test]
fn popped_and_not_borrowed() {
    for start in [0, (1 << 30) - 1, u32::MAX] {
        let (parts, publisher) = connected(Limits::NONE);
        std::mem::forget(parts.holder(0));
        let at = |n: u32| start.wrapping_add(n);
        let lent = |n| publisher.loan(1).unwrap().share().lend(0, at(n)).unwrap();
        let handles = [0, 1, 2].map(lent);
        let (pool, marks) = (parts.pool, parts.marks[0]);
        let heir = pool.recover_holder(marks, dead(HOLDERS), owner(3), at(1)..at(2)).unwrap();
        assert_eq!(heir.held(), 2);
        let found = handles.map(|handle| heir.borrow(handle).err());
        assert_eq!(found, [Some(BorrowError::NotLent), None, None]);
    }
}

/// What was lent to nobody is free at once.
#[test]
fn shared_with_nobody() {
    let (_parts, publisher) = connected(Limits::NONE);
    let shared = publisher.loan(1).unwrap().share();
    assert_eq!(publisher.counts(), Counts { free: 4, loaned: 1, shared: 0 });
    drop(shared);
    assert_eq!(publisher.counts(), Counts { free: 5, loaned: 0, shared: 0 });
}

// ---- Where a queue lies.
