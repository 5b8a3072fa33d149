//! The body for dead letters.

use crate::common::memory::Memory;
use crate::common::owner;
use arbitrary::{Arbitrary, Result, Unstructured};
use shm_primitives::identity::OwnerId;
use shm_primitives::layout::letters::{KEPT, LetterEntry, LettersLayout, Shape};
use shm_primitives::segment::{Magic, State};
use shm_primitives::table::SlotKey;

const MOST_OPS: usize = 200;
const SUPERVISOR: u32 = 1;
const SHAPE: Shape = Shape::new(3, 64);
const STRIDE: usize = 64;

#[derive(Arbitrary)]
enum Action {
    Keep(u8, u8),
    /// A letter is begun and not finished.
    Begin,
    Ask(u8),
    Sweep,
    TakeOver,
    Attach,
    /// A word of header, parts and table.
    Poke(u8, Value),
    /// A byte's worth of a message.
    Spoil(u8, u32),
}

#[derive(Arbitrary)]
enum Value {
    Exactly(u32),
    Small(u8),
    /// A slot's version in this generation, published or not.
    Version(u8, bool),
    Supervisor,
    Kept,
    Magic,
    Power(u8),
    State(bool),
}

impl Value {
    fn word(self) -> u32 {
        match self {
            Self::Exactly(value) => value,
            Self::Small(value) => value.into(),
            Self::Version(generation, published) => {
                u32::from(generation) << OwnerId::INDEX_BITS | u32::from(published)
            }
            Self::Supervisor => owner(SUPERVISOR).word(),
            Self::Kept => KEPT.word(),
            Self::Magic => Magic::LETT.0,
            Self::Power(bit) => 1u32.wrapping_shl(bit.into()),
            Self::State(ready) => if ready { State::Ready } else { State::Closing }.word(),
        }
    }
}

fn text(n: u8, length: u8) -> Vec<u8> {
    (0..length).map(|at| at ^ n).collect()
}

/// A letter that was kept, as long as nothing was overwritten.
struct Kept {
    key: SlotKey,
    number: u8,
    length: u8,
    may_go: bool,
}

/// Letters kept, asked for and freed against an account; and once a word is overwritten, whatever
/// they find: no panic, no access outside, no endless loop.
pub fn hostile(data: &[u8]) {
    // Too few bytes are no fault.
    let _ = run(&mut Unstructured::new(data));
}

fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let memory = Memory::new(SHAPE.required_size().expect("small"), u.arbitrary()?);
    // SAFETY: one thread alone.
    let created = unsafe { LettersLayout::init_at(memory.region(), SHAPE, owner(SUPERVISOR)) };
    let (mut letters, control) = created.expect("a valid shape");
    std::mem::forget(control);
    let (mut touched, mut begun) = (false, 0);
    let mut account: Vec<Kept> = Vec::new();
    for _ in 0..MOST_OPS {
        if u.is_empty() {
            break;
        }
        match u.arbitrary()? {
            Action::Keep(number, length) => {
                let entry = LetterEntry::new(number.into());
                let kept = letters.keep(owner(SUPERVISOR), entry, &text(number, length));
                if touched {
                    continue;
                }
                let same = |kept: &&Kept| (kept.number, kept.length) == (number, length);
                match (account.iter().find(same), kept) {
                    (Some(before), Ok(key)) => assert_eq!(before.key, key, "kept twice"),
                    (None, Ok(key)) => account.push(Kept { key, number, length, may_go: false }),
                    (Some(_), Err(_)) => panic!("it is kept already"),
                    (None, Err(_)) => assert_eq!(account.len() + begun, 3, "there is room"),
                }
            }
            Action::Begin => {
                if let Ok(draft) = letters.reserve(owner(SUPERVISOR)) {
                    assert!(letters.place_of(draft.index()).is_some());
                    std::mem::forget(draft);
                    begun += 1;
                }
            }
            Action::Ask(n) => {
                let keys: Vec<_> = letters.iter().flatten().map(|letter| letter.key).collect();
                if let Some(key) = keys.get(usize::from(n)) {
                    let asked = letters.ask_to_drop(*key);
                    assert_eq!(asked, Ok(true), "nobody else writes");
                    if let Some(kept) = account.iter_mut().find(|kept| kept.key == *key) {
                        kept.may_go = true;
                    }
                }
                let none = SlotKey::new(n.into(), u32::MAX);
                assert_eq!(letters.ask_to_drop(none), Ok(false));
            }
            Action::Sweep => {
                let mut places = 0;
                let count = letters.sweep_dropped(|offset, length| {
                    assert!(length >= STRIDE && offset + length <= memory.size());
                    places += 1;
                });
                assert!(count == places && count <= letters.shape().letters);
                if !touched {
                    assert_eq!(count as usize, account.iter().filter(|kept| kept.may_go).count());
                    account.retain(|kept| !kept.may_go);
                }
            }
            Action::TakeOver => {
                let found = letters.take_over();
                assert!(found.letters + found.freed <= letters.shape().letters);
                if !touched {
                    assert_eq!(
                        (found.letters as usize, found.freed as usize),
                        (account.len(), begun)
                    );
                    begun = 0;
                }
                // Done again it finds what is left, and nothing to free.
                assert_eq!(letters.take_over().freed, 0);
            }
            Action::Attach => {
                let attached = LettersLayout::attach(memory.region());
                assert!(touched || attached.is_ok());
                letters = attached.unwrap_or(letters);
            }
            Action::Poke(at, value) => {
                // Header, two parts, the table: 128 + 64 + 3 * 128 bytes.
                memory.set(4 * (usize::from(at) % 144), value.word());
                touched = true;
            }
            Action::Spoil(at, value) => {
                memory.set(4096 + 4 * (usize::from(at) % 48), value);
                touched = true;
            }
        }
        let mut found = 0;
        for letter in letters.iter().flatten() {
            let mut buffer = [0; 300];
            let length = letters.payload(letter.key, &mut buffer).expect("nobody writes");
            let length = length.expect("it is there");
            assert!(length <= letters.shape().bytes as usize);
            assert_eq!(letters.get(letter.key), Ok(Some(letter)));
            found += 1;
            if touched {
                continue;
            }
            let kept = account.iter().find(|kept| kept.key == letter.key).expect("it was kept");
            let message = text(kept.number, kept.length);
            assert_eq!(buffer[..length], message[..message.len().min(STRIDE)]);
            assert_eq!(letter.may_go, kept.may_go);
            assert_eq!(letter.entry.length, kept.length.into());
        }
        assert!(touched || found == account.len());
        assert_eq!(letters.is_empty(), found == 0);
    }
    memory.check_guards();
    Ok(())
}
