//! The frame ring.

use crate::common::memory::Memory;
use crate::common::{dead, owner};
use crate::harness::{at_every_step, die};
use shm_primitives::part::{AttachError, End};
use shm_primitives::ring::frame::{
    Checksum, FrameRingRef, Options, Packing, ReadError, Reader, Writer,
};

const WRITER: u32 = 1;
const READER: u32 = 2;
const HEIR: u32 = 3;

/// Where the reader's position lies.
const CONSUMED: usize = 192;

/// The ring before the operation: where it begins, and how many frames are in it. Frame
/// number n, counted from the creation, is n in all its bytes.
#[derive(Clone, Copy, Debug)]
struct State {
    start: u32,
    read: u8,
    held: u8,
}

/// With frames of 24 bytes in 128: empty, and as full as leaves room for an operation; at the start of the
/// data, before its end with and without padding to come, and before positions wrap.
fn states() -> impl Iterator<Item = State> {
    let starts =
        [0, 104, 112, 120, 0u32.wrapping_sub(8), 0u32.wrapping_sub(16), 24u32.wrapping_neg()];
    let fills = [(0, 0), (0, 1), (1, 1), (2, 2), (6, 0), (30, 2)];
    starts.into_iter().flat_map(move |start| fills.map(|(read, held)| State { start, read, held }))
}

const PAYLOAD: usize = 16;

fn payload(n: u8) -> [u8; PAYLOAD] {
    [n; PAYLOAD]
}

impl State {
    fn options(self) -> Options {
        Options::new(128).packing(Packing::Dense).start(self.start).checksum(Checksum::Crc32c)
    }

    fn memory(self) -> Memory {
        // Every byte looks like part of a ready word.
        Memory::new(self.options().required_size().unwrap(), 0x18)
    }

    fn build(self, memory: &Memory) -> (FrameRingRef<'_>, Writer<'_>, Reader<'_>) {
        // SAFETY: nobody else knows this memory.
        let ring = unsafe { FrameRingRef::init_at(memory.region(), self.options()) }.unwrap();
        let mut writer = ring.claim_writer(owner(WRITER)).unwrap();
        let mut reader = ring.claim_reader(owner(READER)).unwrap();
        for n in 0..self.read {
            writer.push(&payload(n)).unwrap();
            assert_eq!(reader.skip(1), 1);
        }
        for n in self.read..self.read + self.held {
            writer.push(&payload(n)).unwrap();
        }
        (ring, writer, reader)
    }
}

/// Takes all frames out and checks that they are those from `first` to before `end`.
fn drain(reader: &mut Reader<'_>, first: u8, end: u8) {
    for n in first..end {
        let frame = reader.read().unwrap_or_else(|error| panic!("frame {n}: {error}"));
        assert_eq!(*frame, payload(n), "frame {n}");
        frame.release();
    }
    assert_eq!(reader.read().err(), Some(ReadError::Empty));
}

/// The ring works as a new one does, all of it.
fn check_usable(writer: &mut Writer<'_>, reader: &mut Reader<'_>) {
    for n in 0..20u8 {
        let largest = [n; 48];
        writer.push(&largest).expect("the largest payload fits an empty ring");
        assert_eq!(*reader.read().unwrap(), largest);
        assert_eq!(reader.skip(1), 1);
    }
}

/// Lets a writer's operation that publishes the next `published` frames die at each step.
/// Frames appear from the first on, each whole; nothing held before is lost.
fn writer_dies(what: &str, published: u8, operation: impl Fn(&mut Writer<'_>, u8) + Copy) {
    let mut deaths = 0;
    for state in states() {
        deaths += at_every_step(what, |budget| {
            let memory = state.memory();
            let (ring, mut writer, mut reader) = state.build(&memory);
            let next = state.read + state.held;
            let survived = die(budget, move || operation(&mut writer, next)).is_some();
            let mut writer = if survived {
                assert_eq!(ring.owner(End::Writing), Ok(None), "given back");
                ring.claim_writer(owner(HEIR)).unwrap()
            } else {
                let held = ring.owner(End::Writing).unwrap();
                match held {
                    Some(_) => ring.recover_writer(dead(WRITER), owner(HEIR)).unwrap(),
                    // It died after its last store, giving the end back.
                    None => ring.claim_writer(owner(HEIR)).unwrap(),
                }
            };
            let mut seen = state.read;
            while let Ok(frame) = reader.read() {
                assert_eq!(*frame, payload(seen), "{state:?}");
                frame.release();
                seen += 1;
            }
            assert_eq!(reader.corruption(), None, "{state:?}");
            assert!((next..=next + published).contains(&seen), "{state:?}: lost or made up");
            assert!(!survived || seen == next + published, "{state:?}: published");
            check_usable(&mut writer, &mut reader);
            survived
        });
    }
    assert!(deaths > 0, "{what} never died");
}

/// Lets a reader's operation that leaves `taken` frames behind die at each step, and the
/// writer go on. The successor sees the frames in hand once more at the most, and all others.
fn reader_dies(what: &str, taken: u8, operation: impl Fn(&mut Reader<'_>) + Copy) {
    let mut deaths = 0;
    for state in states().filter(|state| state.held >= taken) {
        deaths += at_every_step(what, |budget| {
            let memory = state.memory();
            let (ring, mut writer, mut reader) = state.build(&memory);
            let before = memory.get(CONSUMED);
            let survived = die(budget, move || operation(&mut reader)).is_some();
            let stored = memory.get(CONSUMED) != before;
            // The writer goes on, into whatever the dead one has given back.
            let mut end = state.read + state.held;
            while writer.push(&payload(end)).is_ok() {
                end += 1;
            }
            let mut reader = match ring.owner(End::Reading).unwrap() {
                Some(_) => ring.recover_reader(dead(READER), owner(HEIR)).unwrap(),
                None => ring.claim_reader(owner(HEIR)).unwrap(),
            };
            let first = reader.read().map_or(end, |frame| frame[0]);
            assert!((state.read..=state.read + taken).contains(&first), "{state:?}");
            // A frame whose position was stored is not seen again.
            assert_eq!(first != state.read, stored, "{state:?}");
            assert!(!survived || first == state.read + taken, "{state:?}");
            drain(&mut reader, first, end);
            check_usable(&mut writer, &mut reader);
            survived
        });
    }
    assert!(deaths > 0, "{what} never died");
}

#[test]
fn push() {
    writer_dies("push", 1, |writer, next| {
        writer.push(&payload(next)).unwrap();
    });
}

#[test]
fn pushes() {
    writer_dies("pushes", 2, |writer, next| {
        writer.push(&payload(next)).unwrap();
        writer.push(&payload(next + 1)).unwrap();
    });
}

#[test]
fn grant_and_commit() {
    writer_dies("grant and commit", 1, |writer, next| {
        let mut grant = writer.grant(PAYLOAD + 8).unwrap();
        grant.fill(next);
        grant.commit(PAYLOAD);
    });
}

#[test]
fn grant_dropped() {
    writer_dies("grant dropped", 0, |writer, _| {
        writer.grant(PAYLOAD + 8).unwrap().fill(0xee);
    });
}

#[test]
fn read_and_release() {
    reader_dies("read and release", 1, |reader| reader.read().unwrap().release());
}

#[test]
fn pop_into() {
    reader_dies("pop_into", 1, |reader| {
        assert_eq!(reader.pop_into(&mut [0; 64]), Ok(PAYLOAD));
    });
}

#[test]
fn skip() {
    reader_dies("skip", 2, |reader| assert_eq!(reader.skip(2), 2));
}

#[test]
fn claims() {
    let mut deaths = 0;
    for state in states() {
        for writing in [true, false] {
            deaths += at_every_step("claim", |budget| {
                let memory = state.memory();
                let (ring, writer, reader) = state.build(&memory);
                let (end, kept) = if writing {
                    drop(writer);
                    (End::Writing, Ok(reader))
                } else {
                    drop(reader);
                    (End::Reading, Err(writer))
                };
                let survived = die(budget, || match writing {
                    true => drop(ring.claim_writer(owner(WRITER)).unwrap()),
                    false => drop(ring.claim_reader(owner(READER)).unwrap()),
                })
                .is_some();
                let held = ring.owner(end).unwrap();
                assert!(!survived || held.is_none());
                let heir = owner(HEIR);
                let (mut writer, mut reader) = match (kept, held) {
                    (Ok(reader), Some(_)) => {
                        (ring.recover_writer(dead(WRITER), heir).unwrap(), reader)
                    }
                    (Ok(reader), None) => (ring.claim_writer(heir).unwrap(), reader),
                    (Err(writer), Some(_)) => {
                        (writer, ring.recover_reader(dead(READER), heir).unwrap())
                    }
                    (Err(writer), None) => (writer, ring.claim_reader(heir).unwrap()),
                };
                drain(&mut reader, state.read, state.read + state.held);
                check_usable(&mut writer, &mut reader);
                survived
            });
        }
    }
    assert!(deaths > 0);
}

#[test]
fn recovering() {
    let mut deaths = 0;
    for state in states() {
        deaths += at_every_step("recover", |budget| {
            let memory = state.memory();
            let (ring, writer, reader) = state.build(&memory);
            std::mem::forget((writer, reader));
            let survived = die(budget, || {
                std::mem::forget(ring.recover_writer(dead(WRITER), owner(HEIR)).unwrap());
                std::mem::forget(ring.recover_reader(dead(READER), owner(HEIR)).unwrap());
            })
            .is_some();
            let by = |end| ring.owner(end).unwrap().unwrap().index();
            let (writing, reading) = (by(End::Writing), by(End::Reading));
            let mut writer = ring.recover_writer(dead(writing), owner(5)).unwrap();
            let mut reader = ring.recover_reader(dead(reading), owner(6)).unwrap();
            drain(&mut reader, state.read, state.read + state.held);
            check_usable(&mut writer, &mut reader);
            survived
        });
    }
    assert!(deaths > 0);
}

#[test]
fn creation() {
    let state = State { start: 0u32.wrapping_sub(8), read: 0, held: 0 };
    let deaths = at_every_step("init_at", |budget| {
        let memory = state.memory();
        let survived = die(budget, || {
            // SAFETY: nobody else knows this memory.
            unsafe { FrameRingRef::init_at(memory.region(), state.options()) }.unwrap();
        })
        .is_some();
        match FrameRingRef::attach_untrusted(memory.region(), None) {
            Ok(_) => assert!(survived, "attached to half a ring"),
            Err(error) => {
                assert!(!survived && matches!(error, AttachError::WrongMagic { .. }), "{error}");
            }
        }
        let (_, mut writer, mut reader) = state.build(&memory);
        check_usable(&mut writer, &mut reader);
        survived
    });
    assert!(deaths > 10);
}
