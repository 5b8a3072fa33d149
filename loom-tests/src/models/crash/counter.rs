//! A writer that dies while it adds, and its successors, while somebody looks.

use super::at_every_step;
use crate::harness::{check, check_eq, models};
use crate::models::counter::{UNIT, counter, look};
use loom::thread;
use shm_primitives::counter::Counter;
use shm_primitives::sync::crash::{self, Outcome};

/// What stands there is one of `counted`, not older than `seen`; a successor goes on from it,
/// across the next two multiples of 2³¹.
fn check_left(counter: &Counter, counted: &[u64], seen: usize, survived: bool) {
    let left = look(counter, counted);
    check!(left >= seen, "went back from {seen} to {left}");
    check!(!survived || left + 1 == counted.len(), "a writer alive counted only {left}");
    let mut successor = counter.writer();
    check_eq!(successor.get(), counted[left], "what the successor finds");
    check_eq!(counter.get(), counted[left], "when the successor has found it");
    for n in 1..3 {
        successor.add(UNIT);
        check_eq!(counter.get(), counted[left] + n * UNIT, "as good as new");
    }
}

/// A writer adds each of `amounts` to `start`, in `steps` stores, and dies in one of them while
/// another thread looks so many times.
fn writer_dies(
    (looks, steps): (u32, u32),
    start: u64,
    amounts: &'static [u64],
    counted: &'static [u64],
) {
    at_every_step(steps, move |mortal| {
        let (_memory, counter) = counter(start);
        let mut writer = counter.writer();
        let mortal = mortal.clone();
        let dying = thread::spawn(move || {
            mortal.live(move || amounts.iter().for_each(|n| writer.add(*n))).is_some()
        });
        let mut seen = 0;
        for _ in 0..looks {
            let now = look(counter, counted);
            check!(now >= seen, "went back from {seen} to {now}");
            seen = now;
        }
        let survived = dying.join().unwrap();
        check_left(counter, counted, seen, survived);
    });
}

models! {
    /// Between the two stores of an addition, or before them.
    fn crash_counter_add() {
        writer_dies((2, 2), UNIT - 1, &[1], &[UNIT - 1, UNIT]);
        writer_dies((2, 2), 2 * UNIT - 1, &[2], &[2 * UNIT - 1, 2 * UNIT + 1]);
    }

    /// In one of two additions that both change the upper word.
    fn crash_counter_twice_carried() {
        writer_dies((1, 4), UNIT - 1, &[1, UNIT], &[UNIT - 1, UNIT, 2 * UNIT]);
    }

    /// In a large addition: a part of it is counted.
    fn crash_counter_leap() {
        writer_dies(
            (1, 5),
            UNIT - 1,
            &[4 * UNIT],
            &[UNIT - 1, UNIT, 3 * UNIT, 4 * UNIT, 5 * UNIT - 1],
        );
    }

    /// A successor of one that died between its two stores dies itself, while it brings the
    /// upper word up to date or adds.
    fn crash_counter_successor() {
        at_every_step(3, move |mortal| {
            let counted = [UNIT, 2 * UNIT];
            let (_memory, counter) = counter(UNIT - 1);
            let mut first = counter.writer();
            let died = crash::run(1, move || first.add(1));
            check!(matches!(died, Outcome::Died), "the first survived");
            let mortal = mortal.clone();
            let dying = thread::spawn(move || {
                mortal.live(move || counter.writer().add(UNIT)).is_some()
            });
            let seen = look(counter, &counted);
            let survived = dying.join().unwrap();
            check_left(counter, &counted, seen, survived);
        });
    }
}
