//! The bulk ring.

use crate::harness::{Lent, check, check_eq, explore, explore_bounded, models, owner};
use loom::thread;
use shm_primitives::identity::Dead;
use shm_primitives::part::ClaimError;
use shm_primitives::ring::spsc::{Consumer, PopError, Producer, SpscRing};
use shm_primitives::sync::spin_loop;

type Ring = SpscRing<u32, 2>;

/// One before the positions wrap.
const NEAR_WRAP: u32 = u32::MAX;

fn ends(ring: &Lent<Ring>) -> (Producer<'static, u32>, Consumer<'static, u32>) {
    // SAFETY: every model keeps a clone until its threads are joined.
    let ring = unsafe { ring.get() }.shared();
    (ring.claim_producer(owner(1)).unwrap(), ring.claim_consumer(owner(2)).unwrap())
}

fn push(producer: &mut Producer<'_, u32>, value: u32) {
    while producer.push(value).is_err() {
        spin_loop();
    }
}

fn pop(consumer: &mut Consumer<'_, u32>) -> u32 {
    loop {
        match consumer.pop() {
            Ok(value) => return value,
            Err(PopError::Empty) => spin_loop(),
            Err(PopError::Corrupt) => check!(false, "corrupt: {:?}", consumer.corruption()),
        }
    }
}

models! {
    /// Push against pop, without waiting for room: what arrives is whole and in order.
    fn spsc_push_pop() {
        explore(|| {
            let ring = Lent::new(Ring::new_at(NEAR_WRAP));
            let (mut producer, mut consumer) = ends(&ring);
            let pushing = thread::spawn(move || {
                check!(producer.push(1).is_ok(), "full while empty");
                check!(producer.push(2).is_ok(), "full with one of two");
            });
            check_eq!(pop(&mut consumer), 1, "first");
            check_eq!(pop(&mut consumer), 2, "second");
            pushing.join().unwrap();
        });
    }

    /// A place given back through `released` is overwritten only after it was read.
    fn spsc_wrap_released() {
        explore(|| {
            let ring = Lent::new(SpscRing::<u32, 1>::new_at(NEAR_WRAP));
            // SAFETY: kept until the join.
            let shared = unsafe { ring.get() }.shared();
            let mut producer = shared.claim_producer(owner(1)).unwrap();
            let mut consumer = shared.claim_consumer(owner(2)).unwrap();
            producer.push(1).unwrap();
            let pushing = thread::spawn(move || {
                push(&mut producer, 2);
            });
            check_eq!(pop(&mut consumer), 1, "first");
            check_eq!(pop(&mut consumer), 2, "second");
            pushing.join().unwrap();
        });
    }

    /// The same through the second look, at `consumed`: the consumer is between its
    /// two stores.
    fn spsc_wrap_consumed() {
        explore(|| {
            let ring = Lent::new(SpscRing::<u32, 1>::new_at(NEAR_WRAP));
            // SAFETY: kept until the join.
            let shared = unsafe { ring.get() }.shared();
            let mut producer = shared.claim_producer(owner(1)).unwrap();
            let mut consumer = shared.claim_consumer(owner(2)).unwrap();
            producer.push(1).unwrap();
            let popping = thread::spawn(move || pop(&mut consumer));
            while producer.free() == 0 {
                spin_loop();
            }
            check!(producer.push(2).is_ok(), "no room although free() said so");
            check_eq!(popping.join().unwrap(), 1, "first");
        });
    }

    /// A grant is seen at once and whole, a read grant's places are not overwritten
    /// before it is released.
    fn spsc_grant_read() {
        explore(|| {
            let ring = Lent::new(Ring::new_at(NEAR_WRAP - 1));
            let (mut producer, mut consumer) = ends(&ring);
            let pushing = thread::spawn(move || {
                let grant = producer.grant(2).unwrap();
                check_eq!(grant.fill([1, 2]), 2, "filled");
                push(&mut producer, 3);
            });
            let first = loop {
                if let Ok(grant) = consumer.read(2) {
                    check_eq!(*grant, [1, 2], "a batch arrives whole");
                    grant.release(2);
                    break;
                }
                spin_loop();
            };
            let () = first;
            check_eq!(pop(&mut consumer), 3, "after the wrap");
            pushing.join().unwrap();
        });
    }

    /// Slices copied in and out, split by the end of the memory.
    fn spsc_slices() {
        explore(|| {
            let ring = Lent::new(Ring::new_at(NEAR_WRAP));
            let (mut producer, mut consumer) = ends(&ring);
            let pushing = thread::spawn(move || producer.push_slice(&[1, 2]));
            let mut values = [0; 2];
            let mut got = 0;
            while got < 2 {
                got += consumer.pop_slice(&mut values[got..]);
                spin_loop();
            }
            check_eq!(values, [1, 2], "popped");
            check_eq!(pushing.join().unwrap(), 2, "pushed");
        });
    }

    /// Skipping against pushing: what is skipped is gone, what follows arrives.
    fn spsc_force_advance() {
        explore(|| {
            let ring = Lent::new(Ring::new_at(NEAR_WRAP));
            let (mut producer, mut consumer) = ends(&ring);
            producer.push(1).unwrap();
            let pushing = thread::spawn(move || push(&mut producer, 2));
            check_eq!(consumer.force_advance(1), 1, "skipped");
            check_eq!(pop(&mut consumer), 2, "after the skip");
            pushing.join().unwrap();
        });
    }

    /// Sizes seen from each side are bounds in the direction they say.
    fn spsc_sizes() {
        explore(|| {
            let ring = Lent::new(Ring::new_at(NEAR_WRAP));
            let (mut producer, mut consumer) = ends(&ring);
            producer.push(1).unwrap();
            let pushing = thread::spawn(move || {
                let len = producer.len();
                check!(len <= 1, "{len} of one");
                producer.push(2).unwrap();
                check!(!producer.is_empty() || producer.free() == 2, "empty and not free");
            });
            let len = consumer.len();
            check!((1..=2).contains(&len), "{len}, one pushed before");
            check_eq!(pop(&mut consumer), 1, "first");
            pushing.join().unwrap();
            check!(!consumer.is_empty(), "the second is there");
        });
    }

    /// An end given back and claimed by another thread: the successor goes on where
    /// the former owner stopped.
    fn spsc_release_claim() {
        explore(|| {
            let ring = Lent::new(Ring::new_at(NEAR_WRAP));
            let (mut producer, mut consumer) = ends(&ring);
            let first = thread::spawn(move || producer.push(1).unwrap());
            let second = {
                let ring = ring.clone();
                thread::spawn(move || {
                    // SAFETY: the clone lives as long as the thread.
                    match unsafe { ring.get() }.shared().claim_producer(owner(3)) {
                        Ok(mut producer) => producer.push(2).is_ok(),
                        Err(ClaimError::Owned(by)) => {
                            check_eq!(by, owner(1), "owner");
                            false
                        }
                        Err(error) => panic!("model: {error}"),
                    }
                })
            };
            first.join().unwrap();
            let second = second.join().unwrap();
            check_eq!(pop(&mut consumer), 1, "the first owner's");
            if second {
                check_eq!(pop(&mut consumer), 2, "the second owner's");
            }
            check_eq!(consumer.pop(), Err(PopError::Empty), "nothing else");
        });
    }

    /// Two threads that claim one end: one gets it.
    fn spsc_claim_race() {
        explore(|| {
            let ring = Lent::new(Ring::new_at(NEAR_WRAP));
            let claim = |index| {
                let ring = ring.clone();
                thread::spawn(move || {
                    // SAFETY: the clone lives as long as the thread.
                    let claimed = unsafe { ring.get() }.shared().claim_consumer(owner(index));
                    let won = claimed.is_ok();
                    core::mem::forget(claimed);
                    won
                })
            };
            let (a, b) = (claim(1), claim(2));
            let (a, b) = (a.join().unwrap(), b.join().unwrap());
            check!(a != b, "claimed by {} at once", u32::from(a) + u32::from(b));
        });
    }

    /// A consumer that died with an element in hand: its successor sees that one again
    /// and loses none, while the producer goes on.
    fn spsc_recover_consumer() {
        explore_bounded(Some(3), || {
            let ring = Lent::new(Ring::new_at(NEAR_WRAP));
            let (mut producer, mut consumer) = ends(&ring);
            producer.push(1).unwrap();
            let dying = thread::spawn(move || {
                check_eq!(consumer.peek().copied(), Ok(1), "in hand");
                core::mem::forget(consumer);
            });
            let pushing = thread::spawn(move || {
                push(&mut producer, 2);
                push(&mut producer, 3);
            });
            dying.join().unwrap();
            // SAFETY: its thread has ended, and the join orders it before this.
            let dead = unsafe { Dead::assume(owner(2)) };
            // SAFETY: kept until the end.
            let shared = unsafe { ring.get() }.shared();
            let mut consumer = shared.recover_consumer(dead, owner(3)).unwrap();
            for expected in 1..=3 {
                check_eq!(pop(&mut consumer), expected, "after recovery");
            }
            pushing.join().unwrap();
        });
    }

    /// A producer that died with a grant open: its successor overwrites it, the
    /// consumer never sees it.
    fn spsc_recover_producer() {
        explore(|| {
            let ring = Lent::new(Ring::new_at(NEAR_WRAP));
            let (mut producer, mut consumer) = ends(&ring);
            let popping = thread::spawn(move || {
                check_eq!(pop(&mut consumer), 1, "published before the death");
                check_eq!(pop(&mut consumer), 3, "the successor's");
            });
            let dying = thread::spawn(move || {
                producer.push(1).unwrap();
                let mut grant = producer.grant(1).unwrap();
                grant[0] = 2;
                core::mem::forget(grant);
                core::mem::forget(producer);
            });
            dying.join().unwrap();
            // SAFETY: its thread has ended, and the join orders it before this.
            let dead = unsafe { Dead::assume(owner(1)) };
            // SAFETY: kept until the end.
            let shared = unsafe { ring.get() }.shared();
            let mut producer = shared.recover_producer(dead, owner(3)).unwrap();
            push(&mut producer, 3);
            popping.join().unwrap();
        });
    }
}
