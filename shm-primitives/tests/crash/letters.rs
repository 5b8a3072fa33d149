//! Dead letters: the supervisor dies at any store of keeping one, letting some go, and taking over;
//! and whoever creates their segment.

use crate::common::memory::Memory;
use crate::common::{dead, owner};
use crate::harness::{at_every_step, die};
use shm_primitives::layout::letters::{
    KEPT, LetterEntry, LettersFull, LettersLayout, Shape, TakenOver,
};
use shm_primitives::table::SlotKey;
use std::mem::forget;

const MORTAL: u32 = 1;
const HEIR: u32 = 2;
const SHAPE: Shape = Shape::new(3, 64);

/// Stores of parts of operations.
const RESERVE: u32 = 3; // owner, version, live word
const WRITE: u32 = 1;
const PUBLISH: u32 = 12 + 2; // the entry, selector, version
const GIVE: u32 = 1;
const KEEP: u32 = RESERVE + WRITE + PUBLISH + GIVE;
const RELEASE: u32 = 2;

fn create(memory: &Memory, by: u32) -> LettersLayout<'_> {
    // SAFETY: nobody else creates anything in this memory.
    let created = unsafe { LettersLayout::init_at(memory.region(), SHAPE, owner(by)) };
    let (letters, control) = created.unwrap();
    forget(control);
    letters
}

fn memory() -> Memory {
    Memory::new(SHAPE.required_size().unwrap(), 0xa5)
}

fn entry(n: u32) -> LetterEntry {
    LetterEntry { func_id: n, ..LetterEntry::new(n.into()) }
}

fn text(n: u32) -> [u8; 40] {
    [n as u8; 40]
}

fn keep(letters: &LettersLayout<'_>, by: u32, n: u32) -> Result<SlotKey, LettersFull> {
    letters.keep(owner(by), entry(n), &text(n))
}

/// The letters there are, each whole.
fn read(letters: &LettersLayout<'_>) -> Vec<u32> {
    let mut numbers: Vec<_> = letters
        .iter()
        .map(|letter| {
            let letter = letter.unwrap();
            let n = letter.entry.func_id;
            assert_eq!(letter.entry, LetterEntry { length: 40, ..entry(n) });
            let mut buffer = [0; 64];
            assert_eq!(letters.payload(letter.key, &mut buffer), Ok(Some(40)));
            assert_eq!(buffer[..40], text(n), "letter {n}");
            n
        })
        .collect();
    numbers.sort();
    numbers
}

/// Who follows has the control, and what the dead one left.
fn follow(letters: &LettersLayout<'_>) -> TakenOver {
    forget(letters.segment().recover_control(dead(MORTAL), owner(HEIR)).unwrap());
    letters.take_over()
}

/// Every slot takes a letter, and every letter goes.
fn check_usable(letters: &LettersLayout<'_>) {
    let there = read(letters).len() as u32;
    for n in 0..SHAPE.letters - there {
        keep(letters, HEIR, 100 + n).unwrap();
    }
    assert_eq!(keep(letters, HEIR, 200), Err(LettersFull { letters: 3 }), "more than there are");
    for letter in letters.iter() {
        letters.ask_to_drop(letter.unwrap().key).unwrap();
    }
    assert_eq!(letters.sweep_dropped(|_, _| {}), SHAPE.letters);
    assert!(letters.is_empty());
    assert_eq!(letters.take_over(), TakenOver::default(), "a slot is left");
}

#[test]
fn keeping() {
    let mut without_a_word = 0;
    let deaths = at_every_step("keep", |budget| {
        let memory = memory();
        let letters = create(&memory, MORTAL);
        keep(&letters, MORTAL, 1).unwrap();
        let survived = die(budget, || keep(&letters, MORTAL, 2).unwrap());
        let kept = read(&letters);
        assert!(kept == [1] || kept == [1, 2]);
        without_a_word += u32::from(kept == [1, 2] && survived.is_none());
        assert!(survived.is_none() || kept == [1, 2]);
        // Somebody has that letter go before the successor knows of it.
        if budget % 2 == 0 && kept == [1, 2] {
            let found = letters.iter().map(Result::unwrap).find(|l| l.entry.func_id == 2);
            letters.ask_to_drop(found.unwrap().key).unwrap();
            assert!(letters.sweep_dropped(|_, _| {}) <= 1);
        }
        let before = read(&letters);
        let taken = follow(&letters);
        assert_eq!(taken.letters as usize, before.len());
        // Between its compare-and-swap and the entry.
        let begun = budget > 0 && kept == [1];
        assert_eq!(taken.freed, begun.into());
        assert_eq!(read(&letters), before);
        // It finds the message in hand yet.
        keep(&letters, HEIR, 2).unwrap();
        assert_eq!(read(&letters), [1, 2], "kept once");
        check_usable(&letters);
        survived.is_some()
    });
    assert_eq!(deaths, KEEP);
    // Published, and not yet the segment's.
    assert_eq!(without_a_word, GIVE);
}

#[test]
fn letting_go() {
    let deaths = at_every_step("sweep_dropped", |budget| {
        let memory = memory();
        let letters = create(&memory, MORTAL);
        let keys = [1, 2, 3].map(|n| keep(&letters, MORTAL, n).unwrap());
        for key in [keys[0], keys[2]] {
            assert_eq!(letters.ask_to_drop(key), Ok(true));
        }
        let survived = die(budget, || letters.sweep_dropped(|_, _| {}));
        assert!(survived.is_none_or(|count| count == 2));
        // One goes with the version of its slot.
        let left = read(&letters);
        assert_eq!(left.len() as u32, 3 - budget.min(4).div_ceil(2));
        assert!(left.contains(&2));
        let taken = follow(&letters);
        assert_eq!(taken, TakenOver { letters: left.len() as u32, freed: budget.min(4) % 2 });
        letters.sweep_dropped(|_, _| {});
        assert_eq!(read(&letters), [2]);
        check_usable(&letters);
        survived.is_some()
    });
    assert_eq!(deaths, 2 * RELEASE);
}

#[test]
fn asking() {
    let deaths = at_every_step("ask_to_drop", |budget| {
        let memory = memory();
        let letters = create(&memory, HEIR);
        let key = keep(&letters, HEIR, 1).unwrap();
        let survived = die(budget, || letters.ask_to_drop(key).unwrap()).is_some();
        assert_eq!(letters.sweep_dropped(|_, _| {}), survived.into());
        survived
    });
    assert_eq!(deaths, 1);
}

/// Who follows dies too, and is followed.
#[test]
fn taking_over() {
    let deaths = at_every_step("take_over", |budget| {
        let memory = memory();
        let letters = create(&memory, 9);
        // The last but for its owner, one that is begun, and one about to go.
        assert!(die(KEEP - GIVE, || keep(&letters, 9, 1)).is_none());
        assert!(die(RESERVE, || keep(&letters, 9, 2)).is_none());
        let key = keep(&letters, 9, 3).unwrap();
        letters.ask_to_drop(key).unwrap();
        assert!(die(1, || letters.sweep_dropped(|_, _| {})).is_none());
        let control = letters.segment().recover_control(dead(9), owner(MORTAL)).unwrap();
        let survived = die(budget, || letters.take_over());
        assert!(survived.is_none_or(|taken| taken == TakenOver { letters: 1, freed: 2 }));
        forget(control);
        assert_eq!(read(&letters), [1]);
        let taken = follow(&letters);
        let freed = 2 - (budget.saturating_sub(GIVE) / RELEASE).min(2);
        assert_eq!(taken, TakenOver { letters: 1, freed });
        assert_eq!(read(&letters), [1]);
        assert_eq!(memory.get(128 + 64), KEPT.word());
        check_usable(&letters);
        survived.is_some()
    });
    assert_eq!(deaths, GIVE + 2 * RELEASE);
}

/// Half a segment is none, whatever stood there before; creating it again makes it whole.
#[test]
fn creation() {
    for over_an_old_one in [false, true] {
        let deaths = at_every_step("init_at", |budget| {
            let memory = memory();
            let mut old = None;
            if over_an_old_one {
                let letters = create(&memory, HEIR);
                keep(&letters, HEIR, 1).unwrap();
                old = Some(letters.segment().epoch());
            }
            let survived = die(budget, || create(&memory, MORTAL)).is_some();
            match LettersLayout::attach(memory.region()) {
                Ok(letters) => {
                    let by = letters.segment().owner().unwrap();
                    let still = over_an_old_one && budget == 0;
                    assert_eq!(by, Some(owner(if still { HEIR } else { MORTAL })));
                    assert!(survived || still);
                }
                Err(_) => assert!(!survived),
            }
            let letters = create(&memory, HEIR);
            assert_ne!(Some(letters.segment().epoch()), old);
            assert!(letters.is_empty(), "a letter of the former");
            check_usable(&letters);
            survived
        });
        assert!(deaths > 40, "{deaths}");
    }
}
