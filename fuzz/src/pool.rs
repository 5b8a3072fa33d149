//! A body for the chunk pool.

use crate::common::memory::Memory;
use crate::common::{dead, owner};
use arbitrary::{Arbitrary, Result, Unstructured};
use shm_primitives::identity::OwnerId;
use shm_primitives::part::Untrusted;
use shm_primitives::pool::{
    Borrowed, ChunkHandle, Limits, Loan, MarksRef, Options, Place, PoolRef, Shared, Slot,
};

const MOST_OPS: usize = 400;
const PLACES: usize = 2;
const PUBLISHER: u32 = 1;
const HOLDER: u32 = 2;
/// What tells an heir's index from the dead one's.
const HEIR: u32 = 64;

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Value {
    Exactly(u32),
    Small(u8),
    Power(u8),
    Mark(u8, bool),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Attack {
    Poke(u8, u16, Value),
    Loan(u16),
    Write(u8),
    DropLoan,
    Share,
    Lend(u8, u32),
    TakeBack(u8),
    DropShared,
    Reclaim,
    /// With what was lent last.
    Borrow(u8),
    BorrowAny(u8, [u32; 4]),
    Connect(u8),
    Disconnect(u8),
    HolderDies(u8),
    HolderReopens(u8, u32, u8),
    Reopen,
}

/// A pool and marks whose every word may be overwritten between operations: no panic, no access
/// outside, no endless loop, and never is one chunk in the publisher's hand twice.
pub fn hostile(data: &[u8]) {
    // Too few bytes are no fault.
    let _ = run(&mut Unstructured::new(data));
}

struct Parts {
    pool: Memory,
    rows: Vec<Memory>,
}

impl Parts {
    fn poke(&self, which: u8, at: u16, value: Value) {
        let value = match value {
            Value::Exactly(value) => value,
            Value::Small(value) => value.into(),
            Value::Power(bit) => 1u32.wrapping_shl(bit.into()),
            Value::Mark(position, in_hand) => {
                u32::from(position) << 2 | if in_hand { 3 } else { 1 }
            }
        };
        let memory = match usize::from(which) % (PLACES + 1) {
            0 => &self.pool,
            row => &self.rows[row - 1],
        };
        memory.set(usize::from(at) % (memory.size() / 4) * 4, value);
    }
}

fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let mut options = Options::new(u.int_in_range(0..=3)?, PLACES as u32);
    options = options.class(u.int_in_range(1..=200)?, u.int_in_range(1..=4)?);
    if u.arbitrary()? {
        options = options.class(512, u.int_in_range(1..=3)?);
    }
    let chunks = options.chunks();
    let pool = Memory::new(options.required_size().expect("small"), u.arbitrary()?);
    let size = MarksRef::required_size(chunks).expect("small");
    let fill = u.arbitrary()?;
    let parts = Parts { pool, rows: (0..PLACES).map(|_| Memory::new(size, fill)).collect() };
    if u.ratio(7u8, 8u8)? {
        // SAFETY: nobody else knows this memory.
        let pool = unsafe { PoolRef::init_at(parts.pool.region(), options) }.expect("fits");
        for (row, id) in parts.rows.iter().zip(1..) {
            // SAFETY: as above, and each id is used once.
            unsafe { MarksRef::init_at(row.region(), &pool, id) }.expect("fits");
        }
    }
    let mut left = MOST_OPS;
    while left > 0 && !u.is_empty() {
        session(u, &parts, &mut left)?;
    }
    parts.pool.check_guards();
    parts.rows.iter().for_each(Memory::check_guards);
    Ok(())
}

fn holder_of(place: usize) -> OwnerId {
    owner(HOLDER + place as u32)
}

/// What happens between two times that everybody attaches.
fn session(u: &mut Unstructured<'_>, parts: &Parts, left: &mut usize) -> Result<()> {
    // Nobody else's claim may stand in the way.
    parts.pool.set(40, 0);
    parts.rows.iter().for_each(|row| row.set(44, 0));
    let attached = PoolRef::attach_untrusted(parts.pool.region());
    let marks: Vec<_> =
        parts.rows.iter().map(|row| MarksRef::attach_untrusted(row.region())).collect();
    let (Ok(pool), [Ok(first), Ok(second)]) = (attached, &marks[..]) else {
        // Spoil it further, or try again.
        for _ in 0..1 + u.int_in_range(0..=3u8)? {
            *left = left.saturating_sub(1);
            parts.poke(u.arbitrary()?, u.arbitrary()?, u.arbitrary()?);
        }
        return Ok(());
    };
    let marks = [*first, *second];
    assert!(pool.size() <= parts.pool.size());
    // Far fewer than the header may say: whatever does not lie in the memory was refused.
    let mut slots: Vec<_> = (0..pool.chunks()).map(|_| Slot::new()).collect();
    let mut places: Vec<_> = (0..pool.places())
        .map(|place| marks.get(place as usize).map_or(Place::new(), |marks| Place::of(*marks)))
        .collect();
    let published: u32 = u.arbitrary()?;
    let limits = Limits { loans: u.int_in_range(0..=20)?, held: u.int_in_range(0..=10)? };
    let (slots, places) = (&mut slots, &mut places);
    let claimed = pool.claim_publisher(owner(PUBLISHER), limits, slots, places, |_| published);
    let Ok(publisher) = claimed else {
        *left = left.saturating_sub(1);
        parts.poke(u.arbitrary()?, u.arbitrary()?, u.arbitrary()?);
        return Ok(());
    };
    let mut holders: [_; PLACES] =
        std::array::from_fn(|place| pool.claim_holder(marks[place], holder_of(place)).ok());
    let mut loans: Vec<Loan<'_, '_, Untrusted>> = vec![];
    let mut shared: Vec<Shared<'_, '_, Untrusted>> = vec![];
    let mut last = ChunkHandle::default();
    while *left > 0 && !u.is_empty() {
        *left -= 1;
        match u.arbitrary()? {
            Attack::Poke(which, at, value) => parts.poke(which, at, value),
            Attack::Loan(length) => {
                if let Ok(loan) = publisher.loan(length.into()) {
                    assert!(loan.len() == usize::from(length) && loan.len() <= loan.capacity());
                    loans.push(loan);
                }
            }
            Attack::Write(fill) => {
                if let Some(loan) = loans.last_mut() {
                    let all = vec![fill; loan.capacity()];
                    loan.resize(all.len()).expect("its capacity");
                    assert_eq!(loan.write_at(0, &all), Ok(()));
                    assert!(loan.write_at(1, &all).is_err());
                }
            }
            Attack::DropLoan => drop(loans.pop()),
            Attack::Share => {
                if let Some(loan) = loans.pop() {
                    let new = loan.share();
                    let chunk = new.handle().chunk;
                    let twice = shared.iter().any(|other| other.handle().chunk == chunk);
                    assert!(!twice && chunk < pool.chunks(), "chunk {chunk} in hand twice");
                    shared.push(new);
                }
            }
            Attack::Lend(place, position) => {
                if let Some(shared) = shared.last()
                    && let Ok(handle) = shared.lend(usize::from(place) % 3, position)
                {
                    last = handle;
                }
            }
            Attack::TakeBack(place) => {
                if let Some(shared) = shared.last() {
                    let _ = shared.take_back(usize::from(place) % 3);
                }
            }
            Attack::DropShared => drop(shared.pop()),
            Attack::Reclaim => assert!(publisher.reclaim() <= pool.chunks()),
            Attack::Borrow(place) => {
                if let Some(holder) = &holders[usize::from(place) % PLACES] {
                    read(u, &holder.borrow(last).ok())?;
                }
            }
            Attack::BorrowAny(place, [pool, chunk, generation, length]) => {
                if let Some(holder) = &holders[usize::from(place) % PLACES] {
                    let handle = ChunkHandle { pool: pool % 4, chunk, generation, length };
                    let borrowed = holder.borrow(handle).ok();
                    read(u, &borrowed)?;
                    std::mem::forget(borrowed);
                }
            }
            Attack::Connect(place) => {
                let place = usize::from(place) % 3;
                let _ = publisher.connect(place, marks[place % PLACES]);
            }
            Attack::Disconnect(place) => {
                let _ = publisher.disconnect(usize::from(place) % 3);
            }
            Attack::HolderDies(place) => {
                let place = usize::from(place) % PLACES;
                std::mem::forget(holders[place].take());
                let _ = publisher.recover_holder(place, dead(HOLDER + place as u32));
                let _ = publisher.recover_holder(place, dead(HOLDER + HEIR + place as u32));
            }
            Attack::HolderReopens(place, start, unread) => {
                let place = usize::from(place) % PLACES;
                std::mem::forget(holders[place].take());
                let unread = start..start.wrapping_add(unread.into());
                // Nobody succeeds himself: he and his heir take turns.
                let his = HOLDER + place as u32;
                let turns = [(his, his + HEIR), (his + HEIR, his)];
                holders[place] = turns.into_iter().find_map(|(last, heir)| {
                    let (last, heir) = (dead(last), owner(heir));
                    pool.recover_holder(marks[place], last, heir, unread.clone()).ok()
                });
            }
            Attack::Reopen => break,
        }
        let counts = publisher.counts();
        assert_eq!(counts.loaned as usize, loans.len() + shared.len());
        assert_eq!(counts.free + counts.loaned + counts.shared, pool.chunks());
        let held = marks.iter().all(|marks| marks.held() <= pool.chunks());
        assert!(held);
    }
    Ok(())
}

/// Copies what was borrowed, all of it and a part.
fn read(u: &mut Unstructured<'_>, borrowed: &Option<Borrowed<'_, '_, Untrusted>>) -> Result<()> {
    let Some(borrowed) = borrowed else { return Ok(()) };
    let mut all = vec![0; borrowed.len()];
    assert_eq!(borrowed.read_at(0, &mut all), Ok(()));
    let (offset, length): (u16, u8) = (u.arbitrary()?, u.arbitrary()?);
    let mut some = vec![0; length.into()];
    let inside = usize::from(offset) + some.len() <= all.len();
    assert_eq!(borrowed.read_at(offset.into(), &mut some).is_ok(), inside);
    Ok(())
}
