//! The ends of the chunk pool. The queue between them is a word: the generation of the one
//! message that was pushed, or 0.

use super::{HEIR, at_every_step, dead};
use crate::harness::{check, check_eq, models, owner};
use crate::models::pool::{Fixture, HOLDER, PUBLISHER, fixture, handle};
use loom::sync::Arc;
use loom::thread;
use shm_primitives::part::ClaimError;
use shm_primitives::pool::{BorrowError, ConnectError, Counts, Holder, Limits, Publisher};
use shm_primitives::sync::AtomicU32;
use shm_primitives::sync::Ordering::{Acquire, Relaxed, Release};

type Word = Arc<AtomicU32>;

fn word() -> Word {
    Arc::new(AtomicU32::new(0))
}

/// Writes message `number`, lends and pushes it.
fn send(publisher: &Publisher<'_, '_>, queue: &Word, number: u8) {
    let mut loan = publisher.loan(8).expect("a free chunk");
    loan.fill(number);
    let shared = loan.share();
    let handle = shared.lend(0, 0).unwrap();
    queue.store(handle.generation, Release);
}

/// Reads what was pushed, in chunk `chunk`.
fn receive(holder: &Holder<'_>, queue: &Word, chunk: u32, number: u8) -> bool {
    match queue.load(Acquire) {
        0 => false,
        generation => {
            match holder.borrow(handle(chunk, generation)) {
                Ok(borrowed) => check_eq!(*borrowed, [number; 8], "content"),
                Err(error) => check!(false, "what was pushed is lent: {error}"),
            }
            true
        }
    }
}

/// Whoever goes on after the publisher; `pushed` of its handles can be popped.
fn inherit(fixture: &Fixture, pushed: u32) -> Publisher<'static, 'static> {
    let (slots, places) = fixture.own_memory();
    let who = owner(HEIR);
    let claimed = match fixture.pool.owner().unwrap() {
        Some(last) => {
            let last = dead(last.index());
            fixture.pool.recover_publisher(last, who, Limits::NONE, slots, places, |_| pushed)
        }
        None => fixture.pool.claim_publisher(who, Limits::NONE, slots, places, |_| pushed),
    };
    claimed.unwrap()
}

/// All chunks are free, and can be written.
fn check_all_free(publisher: &Publisher<'_, '_>) {
    publisher.reclaim();
    let all = Counts { free: publisher.pool().chunks(), loaned: 0, shared: 0 };
    check_eq!(publisher.counts(), all, "a chunk is lost");
    let loans: Vec<_> = (0..all.free).map(|_| publisher.loan(8).unwrap().share()).collect();
    check!(publisher.loan(8).is_err(), "a chunk too many");
    drop(loans);
}

models! {
    /// A publisher in sending, while the subscriber looks.
    fn crash_pool_send() {
        // The generation, the payload twice, the mark, the push.
        at_every_step(5, |mortal| {
            let (fixture, queue) = (fixture(1, 1), word());
            let (holder, publisher) = (fixture.holder(0), fixture.publisher());
            let dying = {
                let (queue, mortal) = (Arc::clone(&queue), mortal.clone());
                thread::spawn(move || mortal.live(|| send(&publisher, &queue, 1)).is_some())
            };
            let read = receive(&holder, &queue, 0, 1);
            let survived = dying.join().unwrap();
            let pushed = queue.load(Relaxed) != 0;
            check!(pushed || !survived, "lost");
            let heir = inherit(&fixture, pushed.into());
            check!(read || !pushed || receive(&holder, &queue, 0, 1), "lost");
            check_all_free(&heir);
        });
    }

    /// A subscriber with a message in hand, while the publisher wants the chunk.
    fn crash_pool_borrow() {
        // The mark in hand, the mark cleared, the end given back.
        at_every_step(3, |mortal| {
            let (fixture, queue) = (fixture(1, 1), word());
            let (holder, publisher) = (fixture.holder(0), fixture.publisher());
            send(&publisher, &queue, 1);
            let dying = {
                let (queue, mortal) = (Arc::clone(&queue), mortal.clone());
                thread::spawn(move || {
                    mortal.live(move || {
                        check!(receive(&holder, &queue, 0, 1), "it was pushed");
                        drop(holder);
                    })
                })
            };
            if let Ok(loan) = publisher.loan(8) {
                drop(loan.share());
            }
            dying.join().unwrap();
            if fixture.marks[0].owner().unwrap().is_some() {
                check!(publisher.recover_holder(0, dead(HOLDER)).is_ok(), "its end is the dead one's");
            }
            check_all_free(&publisher);
        });
    }

    /// Whoever takes over from a publisher that died between mark and push, while the subscriber
    /// reads another message.
    fn crash_pool_recover_publisher() {
        // The end, the mark taken back.
        at_every_step(2, |mortal| {
            let (fixture, queue) = (fixture(2, 1), word());
            let (holder, publisher) = (fixture.holder(0), fixture.publisher());
            send(&publisher, &queue, 1);
            let shared = publisher.loan(8).unwrap().share();
            check!(shared.lend(0, 1).is_ok(), "connected");
            std::mem::forget(shared);
            std::mem::forget(publisher);
            let reading = {
                let queue = Arc::clone(&queue);
                thread::spawn(move || {
                    check!(receive(&holder, &queue, 0, 1), "it was pushed");
                    holder
                })
            };
            let (slots, places) = fixture.own_memory();
            let (pool, last) = (fixture.pool, dead(PUBLISHER));
            mortal.live(|| {
                let (who, limits) = (owner(20), Limits::NONE);
                let heir = pool.recover_publisher(last, who, limits, slots, places, |_| 1);
                // What it takes for free is nobody's.
                while let Ok(loan) = heir.as_ref().unwrap().loan(8) {
                    std::mem::forget(loan.share());
                }
                std::mem::forget(heir);
            });
            let heir = inherit(&fixture, 1);
            let _holder = reading.join().unwrap();
            check_all_free(&heir);
        });
    }

    /// A publisher that takes back what it lent, while the subscriber has the handle after all.
    fn crash_pool_take_back() {
        // The mark cleared, unless it was borrowed.
        at_every_step(1, |mortal| {
            let fixture = fixture(1, 1);
            let (holder, publisher) = (fixture.holder(0), fixture.publisher());
            let borrowing = thread::spawn(move || {
                match holder.borrow(handle(0, 1)) {
                    Ok(borrowed) => check_eq!(borrowed.len(), 8, "length"),
                    Err(BorrowError::NotLent | BorrowError::Stale { .. }) => {}
                    Err(error) => check!(false, "{error}"),
                }
                holder
            });
            let shared = publisher.loan(8).unwrap().share();
            check!(shared.lend(0, 0).is_ok(), "connected");
            std::mem::forget(shared);
            std::mem::forget(publisher);
            // The same mark is cleared by whoever takes over from the dead one.
            let (pool, last) = (fixture.pool, dead(PUBLISHER));
            let (slots, places) = fixture.own_memory();
            mortal.live(|| {
                let (who, limits) = (owner(20), Limits::NONE);
                let heir = pool.recover_publisher(last, who, limits, slots, places, |_| 0).unwrap();
                if let Ok(loan) = heir.loan(8) {
                    drop(loan.share());
                }
                std::mem::forget(heir);
            });
            let heir = inherit(&fixture, 0);
            let _holder = borrowing.join().unwrap();
            check_all_free(&heir);
        });
    }

    /// A publisher that disconnects a subscriber, while that one leaves and another comes.
    fn crash_pool_disconnect() {
        // The end taken, the mark cleared, the end given back, the place.
        at_every_step(4, |mortal| {
            let (fixture, queue) = (fixture(1, 1), word());
            let (holder, publisher) = (fixture.holder(0), fixture.publisher());
            send(&publisher, &queue, 1);
            drop(holder);
            let (pool, marks) = (fixture.pool, fixture.marks[0]);
            let coming = thread::spawn(move || match pool.claim_holder(marks, owner(HOLDER)) {
                Ok(holder) => match holder.borrow(handle(0, 1)) {
                    Ok(borrowed) => check_eq!(*borrowed, [1; 8], "content"),
                    Err(error) => check!(
                        matches!(error, BorrowError::NotLent | BorrowError::Stale { .. }),
                        "{error}"
                    ),
                },
                Err(ConnectError::Claim(ClaimError::Owned(_))) => {}
                Err(error) => check!(false, "{error}"),
            });
            mortal.live(|| {
                if publisher.disconnect(0).is_ok()
                    && let Ok(loan) = publisher.loan(8)
                {
                    drop(loan.share());
                }
                std::mem::forget(publisher);
            });
            coming.join().unwrap();
            let heir = inherit(&fixture, 1);
            if heir.connected(0).is_none() {
                check!(heir.connect(0, marks).is_ok(), "connected anew");
            }
            if let Some(last) = marks.owner().unwrap() {
                check_eq!(last, owner(PUBLISHER), "who has the end");
                check!(heir.recover_holder(0, dead(PUBLISHER)).is_ok(), "recovered");
            }
            check!(heir.disconnect(0).is_ok(), "disconnected");
            check_all_free(&heir);
        });
    }
}
