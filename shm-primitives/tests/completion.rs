//! Completions against a plain account of who may do what, and by threads that race.

mod common;

use common::Patience;
use common::park::{BOUND, CondvarPark, FakePark, Unbounded};
use proptest::prelude::*;
use shm_primitives::completion::{Completion, GivenUp, InUse, Outcome, Tag, Winner};
use shm_primitives::wake::Deadline;
use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

const OUTCOMES: [Outcome; 5] =
    [Outcome::Reply, Outcome::Crash, Outcome::TimeOut, Outcome::Cancel, Outcome::Lost];

fn tag(number: u64) -> Tag {
    Tag::of(number, 0)
}

#[test]
fn tags() {
    assert_eq!(Tag::of(0x1234_5678, 4).number(), 0x0123_4567);
    assert_eq!(Tag::of(u64::MAX, 0).number(), (1 << 26) - 1);
    assert_eq!(Tag::of(1 << 36, 10).number(), 0, "the first that is the same again");
    assert_eq!(Tag::of((1 << 36) - 1, 10).number(), (1 << 26) - 1);
    assert_eq!(Tag::of(u64::MAX, 63).number(), 1);
    assert_eq!(Tag::of(u64::MAX, 64).number(), 0);
    // The place and generation that are above the counter of a sequence id are not in it.
    assert_eq!(Tag::of(7 << 52 | 3 << 40 | 0x155, 8).number(), 1);
    assert_eq!(Tag::of(0x70, 4).to_string(), "tag 0x7");
}

#[test]
fn each_outcome() {
    let slot = Completion::new();
    for (n, outcome) in OUTCOMES.into_iter().enumerate() {
        let call = tag(n as u64);
        assert!(slot.is_idle());
        slot.begin(call).unwrap();
        assert!(slot.is_pending(call) && !slot.is_idle());
        let winner = slot.win(call, outcome).unwrap();
        assert_eq!((winner.tag(), winner.outcome()), (call, Some(outcome)));
        assert!(!slot.is_pending(call));
        assert_eq!((slot.outcome(call), slot.take(call)), (None, None), "not settled yet");
        for other in OUTCOMES {
            assert!(slot.win(call, other).is_none());
        }
        assert!(winner.settle(n));
        assert_eq!(slot.outcome(call), Some(outcome));
        assert_eq!(slot.begin(tag(100)), Err(InUse { tag: call }), "not taken yet");
        assert_eq!(slot.take(call), Some((outcome, Some(n))));
        assert_eq!((slot.outcome(call), slot.take(call)), (None, None));
    }
    let text = InUse { tag: tag(4) }.to_string();
    assert!(text.contains("tag 0x4") && text.contains("next id"), "{text}");
}

/// A second winner comes when the call that it means is over, in every phase of the next one.
#[test]
fn late_winners() {
    let slot = Completion::new();
    let (former, next) = (tag(1), tag(2));
    let late = || {
        for outcome in OUTCOMES {
            assert!(slot.win(former, outcome).is_none());
        }
        assert_eq!((slot.outcome(former), slot.take(former)), (None, None));
        assert_eq!(slot.give_up(former), GivenUp::Over);
        assert!(!slot.abandon(former));
        assert!(!slot.is_pending(former));
    };
    slot.begin(former).unwrap();
    assert_eq!(slot.give_up(former), GivenUp::Won);
    late();
    slot.begin(next).unwrap();
    late();
    let winner = slot.win(next, Outcome::Reply).unwrap();
    late();
    winner.settle('x');
    late();
    assert_eq!(slot.take(next), Some((Outcome::Reply, Some('x'))));
    late();
}

#[test]
fn giving_up() {
    let slot = Completion::new();
    slot.begin(tag(1)).unwrap();
    let winner = slot.win(tag(1), Outcome::Crash).unwrap();
    assert_eq!(slot.give_up(tag(1)), GivenUp::Settling(Outcome::Crash));
    winner.settle(5);
    assert_eq!(slot.give_up(tag(1)), GivenUp::Ended(Outcome::Crash, Some(5)));
    assert_eq!(slot.give_up(tag(1)), GivenUp::Over);
    assert!(slot.is_idle());
}

/// Counts its drops.
struct Counted<'a>(&'a Cell<u32>);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn abandoning() {
    let drops = Cell::new(0);
    let slot = Completion::new();
    slot.begin(tag(1)).unwrap();
    assert!(slot.abandon(tag(1)));
    assert!(slot.is_idle());

    slot.begin(tag(2)).unwrap();
    let winner = slot.win(tag(2), Outcome::Reply).unwrap();
    assert!(!slot.abandon(tag(2)));
    assert!(!slot.is_idle(), "the winner has it yet");
    assert!(slot.begin(tag(3)).is_err());
    assert!(matches!(slot.give_up(tag(2)), GivenUp::Over));
    assert!(!slot.abandon(tag(2)));
    assert_eq!(drops.get(), 0);
    assert!(!winner.settle(Counted(&drops)), "nobody wants it");
    assert_eq!(drops.get(), 1);
    assert!(slot.is_idle());

    slot.begin(tag(3)).unwrap();
    assert!(slot.win(tag(3), Outcome::Reply).unwrap().settle(Counted(&drops)));
    assert!(!slot.abandon(tag(3)));
    assert_eq!(drops.get(), 2);
    assert!(slot.is_idle());

    // A result that is never taken goes with its slot.
    slot.begin(tag(4)).unwrap();
    assert!(slot.win(tag(4), Outcome::Reply).unwrap().settle(Counted(&drops)));
    drop(slot);
    assert_eq!(drops.get(), 3);
}

/// A winner whose thread panics.
#[test]
fn a_winner_that_is_dropped() {
    let slot = Completion::<u32>::new();
    slot.begin(tag(1)).unwrap();
    drop(slot.win(tag(1), Outcome::Lost).unwrap());
    assert_eq!(slot.take(tag(1)), Some((Outcome::Lost, None)));
    slot.begin(tag(2)).unwrap();
    let winner = slot.win(tag(2), Outcome::Lost).unwrap();
    assert!(!slot.abandon(tag(2)));
    drop(winner);
    assert!(slot.is_idle());
}

/// Of one thread, on a clock of its own: who parks is woken, or finds it 100 ms later.
#[test]
fn waiting() {
    let slot = Completion::new();
    let (one, two, three) = (tag(1), tag(2), tag(3));
    let park = FakePark::new();
    // Woken.
    slot.begin(one).unwrap();
    let scene = park.asleep(|park| {
        assert!(slot.win(one, Outcome::Reply).unwrap().settle_and_wake(7, park));
    });
    let ended = slot.wait(one, &mut slot.bell().waiter(), &scene, Deadline::NEVER);
    assert_eq!(ended, Some(Outcome::Reply));
    drop(scene);
    assert!(park.time() < BOUND && park.wakes() == 1);
    assert_eq!(slot.take(one), Some((Outcome::Reply, Some(7))));
    // Not woken.
    slot.begin(two).unwrap();
    let scene = park.asleep(|_| drop(slot.win(two, Outcome::Crash)));
    let ended = slot.wait(two, &mut slot.bell().waiter(), &scene, Deadline::NEVER);
    assert_eq!(ended, Some(Outcome::Crash));
    drop(scene);
    assert!((BOUND..2 * BOUND).contains(&park.time()) && park.wakes() == 1);
    assert_eq!(slot.take(two), Some((Outcome::Crash, None)));
    // Its time is up, and somebody is just settling it.
    slot.begin(three).unwrap();
    let winner = Cell::new(None);
    let scene = park.asleep(|_| winner.set(slot.win(three, Outcome::Reply)));
    let soon = Deadline::at(park.time() + BOUND / 2);
    assert_eq!(slot.wait(three, &mut slot.bell().waiter(), &scene, soon), None);
    drop(scene);
    assert_eq!(slot.give_up(three), GivenUp::Settling(Outcome::Reply));
    assert!(winner.take().unwrap().settle_and_wake(9, &park));
    assert_eq!(park.wakes(), 1, "nobody sleeps");
    let ended = slot.wait(three, &mut slot.bell().waiter(), &park, Deadline::NEVER);
    assert_eq!(ended, Some(Outcome::Reply));
    assert_eq!(slot.take(three), Some((Outcome::Reply, Some(9))));
    // Over: not waited for at all.
    let sleeps = park.sleeps();
    assert_eq!(slot.wait(three, &mut slot.bell().waiter(), &park, Deadline::NEVER), None);
    assert_eq!(park.sleeps(), sleeps);
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Begin(u64),
    Win(u64, usize),
    Settle(u32),
    Drop,
    Take(u64),
    GiveUp(u64),
    Abandon(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let call = || 0..3u64;
    prop_oneof![
        3 => call().prop_map(Op::Begin),
        3 => (call(), 0..5usize).prop_map(|(call, outcome)| Op::Win(call, outcome)),
        3 => any::<u32>().prop_map(Op::Settle),
        1 => Just(Op::Drop),
        2 => call().prop_map(Op::Take),
        1 => call().prop_map(Op::GiveUp),
        2 => call().prop_map(Op::Abandon),
    ]
}

/// What the slot should be.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Account {
    Idle,
    Pending(u64),
    Won(u64, Outcome),
    Abandoned(u64),
    Settled(u64, Outcome, Option<u32>),
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn as_an_account_of_it(ops in proptest::collection::vec(op(), 0..60)) {
        let slot = Completion::new();
        let mut account = Account::Idle;
        let mut winner: Option<Winner<'_, u32>> = None;
        for op in ops {
            match op {
                Op::Begin(call) => {
                    let begun = slot.begin(tag(call)).is_ok();
                    prop_assert_eq!(begun, account == Account::Idle);
                    if begun {
                        account = Account::Pending(call);
                    }
                }
                Op::Win(call, outcome) => {
                    let won = slot.win(tag(call), OUTCOMES[outcome]);
                    prop_assert_eq!(won.is_some(), account == Account::Pending(call));
                    if won.is_some() {
                        account = Account::Won(call, OUTCOMES[outcome]);
                        winner = won;
                    }
                }
                Op::Settle(result) => if let Some(winner) = winner.take() {
                    let wanted = winner.settle(result);
                    account = match account {
                        Account::Won(call, outcome) if wanted => {
                            Account::Settled(call, outcome, Some(result))
                        }
                        Account::Abandoned(_) if !wanted => Account::Idle,
                        other => return Err(TestCaseError::fail(format!("{wanted} in {other:?}"))),
                    };
                },
                Op::Drop => if winner.take().is_some() {
                    account = match account {
                        Account::Won(call, outcome) => Account::Settled(call, outcome, None),
                        _ => Account::Idle,
                    };
                },
                Op::Take(call) => {
                    let taken = slot.take(tag(call));
                    match account {
                        Account::Settled(its, outcome, result) if its == call => {
                            prop_assert_eq!(taken, Some((outcome, result)));
                            account = Account::Idle;
                        }
                        _ => prop_assert_eq!(taken, None),
                    }
                }
                Op::GiveUp(call) => {
                    let wanted = match account {
                        Account::Pending(its) if its == call => GivenUp::Won,
                        Account::Won(its, outcome) if its == call => GivenUp::Settling(outcome),
                        Account::Settled(its, outcome, result) if its == call => {
                            GivenUp::Ended(outcome, result)
                        }
                        _ => GivenUp::Over,
                    };
                    prop_assert_eq!(slot.give_up(tag(call)), wanted);
                    if matches!(wanted, GivenUp::Won | GivenUp::Ended(..)) {
                        account = Account::Idle;
                    }
                }
                Op::Abandon(call) => {
                    let (wanted, then) = match account {
                        Account::Pending(its) if its == call => (true, Account::Idle),
                        Account::Won(its, _) if its == call => (false, Account::Abandoned(call)),
                        Account::Settled(its, ..) if its == call => (false, Account::Idle),
                        other => (false, other),
                    };
                    prop_assert_eq!(slot.abandon(tag(call)), wanted);
                    account = then;
                }
            }
            for call in 0..3 {
                let outcome = match account {
                    Account::Settled(its, outcome, _) if its == call => Some(outcome),
                    _ => None,
                };
                prop_assert_eq!(slot.outcome(tag(call)), outcome);
                prop_assert_eq!(slot.is_pending(tag(call)), account == Account::Pending(call));
            }
            prop_assert_eq!(slot.is_idle(), account == Account::Idle);
        }
    }
}

/// Several threads end the same calls in one slot, the caller parks: each call ends once, its
/// result is its winner's and of that call, each sleep needs its wake.
#[test]
fn racing() {
    const CALLS: u64 = if cfg!(miri) { 50 } else { 20_000 };
    const RACERS: u64 = 3;
    let patience = Patience::new();
    let park = Unbounded(CondvarPark::new(patience.clone()));
    let slot = Completion::<(u64, u64)>::new();
    let (current, wins) = (AtomicU64::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for racer in 0..RACERS {
            let (slot, park, current, wins) = (&slot, &park, &current, &wins);
            let patience = patience.clone();
            scope.spawn(move || {
                loop {
                    let call = current.load(Relaxed);
                    if call > CALLS {
                        return;
                    }
                    // The one before too, as those do who are late.
                    for call in [call.wrapping_sub(1), call] {
                        if let Some(winner) = slot.win(tag(call), OUTCOMES[racer as usize]) {
                            wins.fetch_add(1, Relaxed);
                            winner.settle_and_wake((call, racer), park);
                        }
                    }
                    if call == current.load(Relaxed) {
                        patience.wait();
                    }
                }
            });
        }
        // Should this thread fail, the others do.
        let _failing = patience.clone();
        let (mut seen, mut given_up) = (0, 0);
        let mut counts = [0; RACERS as usize];
        for call in 1..=CALLS {
            slot.begin(tag(call)).unwrap();
            current.store(call, Relaxed);
            // Now and then its time is up at once.
            let ended = if call % 5 == 0 {
                match slot.give_up(tag(call)) {
                    GivenUp::Won => None,
                    GivenUp::Ended(outcome, result) => Some((outcome, result)),
                    GivenUp::Over => panic!("over, and not by its caller"),
                    GivenUp::Settling(_) => {
                        let mut waiter = slot.bell().waiter();
                        slot.wait(tag(call), &mut waiter, &park, Deadline::NEVER).unwrap();
                        slot.take(tag(call))
                    }
                }
            } else {
                let mut waiter = slot.bell().waiter();
                slot.wait(tag(call), &mut waiter, &park, Deadline::NEVER).unwrap();
                slot.take(tag(call))
            };
            match ended {
                None => given_up += 1,
                Some((outcome, result)) => {
                    let (its, racer) = result.unwrap();
                    assert_eq!((its, outcome), (call, OUTCOMES[racer as usize]));
                    counts[racer as usize] += 1;
                    seen += 1;
                }
            }
        }
        current.store(CALLS + 1, Relaxed);
        assert_eq!(seen + given_up, CALLS);
        assert_eq!(wins.load(Relaxed) as u64, seen, "won, and not seen");
        println!("{counts:?}, {given_up} given up");
    });
    assert!(slot.is_idle());
}

/// Callers that leave, and winners that come meanwhile: no slot stays in use, no result is lost.
#[test]
fn abandoned_by_threads() {
    const CALLS: u64 = 20_000;
    let patience = Patience::new();
    let (made, dropped, current) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU64::new(0));
    let slot = Completion::<Counter<'_>>::new();
    struct Counter<'a>(&'a AtomicU32);
    impl Drop for Counter<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, Relaxed);
        }
    }
    std::thread::scope(|scope| {
        let patience = patience.clone();
        let (slot, made, dropped, current) = (&slot, &made, &dropped, &current);
        let others = patience.clone();
        scope.spawn(move || {
            loop {
                let call = current.load(Relaxed);
                if call > CALLS {
                    return;
                }
                if let Some(winner) = slot.win(tag(call), Outcome::Reply) {
                    made.fetch_add(1, Relaxed);
                    winner.settle(Counter(dropped));
                } else {
                    others.wait();
                }
            }
        });
        let mut own = 0;
        for call in 1..=CALLS {
            while slot.begin(tag(call)).is_err() {
                patience.wait();
            }
            current.store(call, Relaxed);
            for _ in 0..call % 64 {
                std::hint::spin_loop();
            }
            own += u32::from(slot.abandon(tag(call)));
        }
        current.store(CALLS + 1, Relaxed);
        while !slot.is_idle() {
            patience.wait();
        }
        assert_eq!(made.load(Relaxed) + own, CALLS as u32);
    });
    assert_eq!(made.load(Relaxed), dropped.load(Relaxed));
}
