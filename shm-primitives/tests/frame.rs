//! The frame ring against a queue, and against memory that changes under it.

mod common;

use common::memory::Memory;
use common::{Patience, dead, owner};
use proptest::prelude::*;
use shm_primitives::part::{AttachError, ClaimError, End, Trust, Trusted, Untrusted};
use shm_primitives::ring::frame::{
    Checksum, FrameRing, FrameRingRef, Options, Packing, ReadError, Reader, WriteError, Writer,
};
use std::collections::VecDeque;

#[derive(Clone, Debug)]
enum Op {
    Push(usize),
    Grant { length: usize, commit: Option<usize>, hold: bool },
    Pop,
    PopIntoLess,
    Read(Then),
    Skip(usize),
    Sizes,
    Reopen { writer: bool, died: bool },
}

/// What becomes of a frame that was read.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Then {
    Drop,
    Release,
    /// Held, and left behind after so many other looks at the ring.
    Hold(usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let length = 0..140usize;
    let op = prop_oneof![
        4 => length.clone().prop_map(Op::Push),
        3 => (length.clone(), proptest::option::of(length), any::<bool>())
            .prop_map(|(length, commit, hold)| Op::Grant { length, commit, hold }),
        4 => Just(Op::Pop),
        1 => Just(Op::PopIntoLess),
        3 => prop_oneof![Just(Then::Drop), Just(Then::Release), (0..3usize).prop_map(Then::Hold)]
            .prop_map(Op::Read),
        1 => (0..4usize).prop_map(Op::Skip),
        1 => Just(Op::Sizes),
        1 => (any::<bool>(), any::<bool>())
            .prop_map(|(writer, died)| Op::Reopen { writer, died }),
    ];
    proptest::collection::vec(op, 0..200)
}

/// What only a handle that trusts the memory can do.
trait InPlace: Trust + Sized {
    fn lend(writer: &mut Writer<'_, Self>, length: usize, hold: bool);
    fn write(
        writer: &mut Writer<'_, Self>,
        payload: &[u8],
        length: usize,
        hold: bool,
    ) -> Option<Result<(), WriteError>>;
    fn read(reader: &mut Reader<'_, Self>, then: Then) -> Option<Result<Vec<u8>, ReadError>>;
}

impl InPlace for Trusted {
    fn lend(writer: &mut Writer<'_>, length: usize, hold: bool) {
        if let Ok(mut grant) = writer.grant(length) {
            grant.fill(0xee);
            if hold {
                grant.hold();
            }
        }
    }

    fn write(
        writer: &mut Writer<'_>,
        payload: &[u8],
        length: usize,
        hold: bool,
    ) -> Option<Result<(), WriteError>> {
        let mut grant = match writer.grant(length) {
            Ok(grant) => grant,
            Err(error) => return Some(Err(error)),
        };
        assert_eq!(grant.len(), length);
        let at = grant.as_ptr();
        assert!(at.addr().is_multiple_of(8), "aligned to 8");
        let used = payload.len().min(length);
        if hold {
            grant.hold();
            assert_eq!((writer.held().as_ptr(), writer.held().len()), (at, length));
            writer.held_mut()[..used].copy_from_slice(&payload[..used]);
            assert!(writer.commit_held(payload.len()));
        } else {
            grant[..used].copy_from_slice(&payload[..used]);
            grant.commit(payload.len());
        }
        assert!(writer.held().is_empty() && !writer.commit_held(0), "once");
        Some(Ok(()))
    }

    fn read(reader: &mut Reader<'_>, then: Then) -> Option<Result<Vec<u8>, ReadError>> {
        let frame = match reader.read() {
            Ok(frame) => frame,
            Err(error) => return Some(Err(error)),
        };
        let payload = frame.to_vec();
        match then {
            Then::Drop => {}
            Then::Release => frame.release(),
            Then::Hold(looks) => {
                frame.hold();
                for _ in 0..looks {
                    assert!(!reader.is_empty());
                    assert_eq!(&*reader.read().unwrap(), payload);
                }
                assert!(reader.release_held());
                assert!(!reader.release_held(), "once");
            }
        }
        Some(Ok(payload))
    }
}

impl InPlace for Untrusted {
    fn lend(_: &mut Writer<'_, Self>, _: usize, _: bool) {}
    fn write(
        _: &mut Writer<'_, Self>,
        _: &[u8],
        _: usize,
        _: bool,
    ) -> Option<Result<(), WriteError>> {
        None
    }
    fn read(_: &mut Reader<'_, Self>, _: Then) -> Option<Result<Vec<u8>, ReadError>> {
        None
    }
}

fn payload(n: u32, length: usize) -> Vec<u8> {
    (0..length).map(|i| (n as usize + i * 7) as u8 | 1).collect()
}

/// Runs `ops` on a ring against a queue. What fits is the ring's business up to a point: it
/// has to fit when the ring is empty, and never when it is larger than the maximum.
fn run<M: InPlace>(ring: FrameRingRef<'_, M>, ops: &[Op]) {
    let mut queue: VecDeque<Vec<u8>> = VecDeque::new();
    let (mut writing, mut reading, mut n) = (1, 2, 0);
    let mut writer = ring.claim_writer(owner(writing)).unwrap();
    let mut reader = ring.claim_reader(owner(reading)).unwrap();
    let maximum = ring.max_payload();
    for op in ops {
        let accept = |result, length: usize, sent: &[u8], queue: &mut VecDeque<Vec<u8>>| {
            match result {
                Ok(()) => queue.push_back(sent.to_vec()),
                Err(WriteError::TooLarge { length: asked, maximum: most }) => {
                    assert_eq!((asked, most), (length, maximum));
                    assert!(length > maximum);
                    return;
                }
                Err(error) => {
                    assert_eq!(error, WriteError::Full);
                    assert!(!queue.is_empty(), "{length} of {maximum} refused by an empty ring");
                }
            }
            assert!(length <= maximum);
        };
        n += 1;
        match *op {
            Op::Push(length) => {
                let sent = payload(n, length);
                accept(writer.push(&sent), length, &sent, &mut queue);
            }
            Op::Grant { length, commit: None, hold } => {
                // Lent and dropped, or held and left: nothing of it is ever seen.
                M::lend(&mut writer, length, hold);
            }
            Op::Grant { length, commit: Some(used), hold } => {
                let sent = payload(n, used);
                if let Some(result) = M::write(&mut writer, &sent, length, hold) {
                    accept(result, length, &sent[..used.min(length)], &mut queue);
                }
            }
            Op::Pop => {
                let mut buffer = [0; 2048];
                match reader.pop_into(&mut buffer) {
                    Ok(length) => assert_eq!(queue.pop_front().as_deref(), Some(&buffer[..length])),
                    Err(error) => {
                        assert_eq!(error, ReadError::Empty);
                        assert!(queue.is_empty());
                    }
                }
            }
            Op::PopIntoLess => {
                if let Some(needed) = queue.front().map(Vec::len).filter(|length| *length > 0) {
                    let mut buffer = vec![0; needed - 1];
                    let error = ReadError::TooSmall { needed };
                    assert_eq!(reader.pop_into(&mut buffer), Err(error));
                }
            }
            Op::Read(then) => match M::read(&mut reader, then) {
                None => {}
                Some(Ok(found)) => {
                    assert_eq!(queue.front(), Some(&found));
                    if then != Then::Drop {
                        queue.pop_front();
                    }
                }
                Some(Err(error)) => {
                    assert_eq!(error, ReadError::Empty);
                    assert!(queue.is_empty());
                }
            },
            Op::Skip(count) => {
                assert_eq!(reader.skip(count), count.min(queue.len()));
                queue.drain(..count.min(queue.len()));
            }
            Op::Sizes => {
                assert_eq!(reader.is_empty(), queue.is_empty());
                assert_eq!(writer.is_empty(), queue.is_empty());
                assert_eq!((reader.available(), writer.unread()), (queue.len(), Ok(queue.len())));
                let used: usize = queue.iter().map(|sent| (sent.len() + 15) & !7).sum();
                assert!(writer.free() <= ring.capacity() - used);
            }
            Op::Reopen { writer: true, died } => {
                let next = writing.max(reading) % 1000 + 1;
                assert_eq!(
                    ring.claim_writer(owner(next)).err(),
                    Some(ClaimError::Owned(owner(writing)))
                );
                if died {
                    std::mem::forget(writer);
                    writer = ring.recover_writer(dead(writing), owner(next)).unwrap();
                } else {
                    drop(writer);
                    assert_eq!(ring.owner(End::Writing), Ok(None));
                    writer = ring.claim_writer(owner(next)).unwrap();
                }
                writing = next;
            }
            Op::Reopen { writer: false, died } => {
                let next = writing.max(reading) % 1000 + 1;
                if died {
                    std::mem::forget(reader);
                    reader = ring.recover_reader(dead(reading), owner(next)).unwrap();
                } else {
                    drop(reader);
                    assert_eq!(ring.owner(End::Reading), Ok(None));
                    reader = ring.claim_reader(owner(next)).unwrap();
                }
                reading = next;
            }
        }
        assert_eq!((writer.corruption(), reader.corruption()), (None, None));
    }
}

fn memory(options: Options) -> Memory {
    // Every byte looks like part of a ready word.
    Memory::new(options.required_size().unwrap(), 0x11)
}

fn created(memory: &Memory, options: Options) -> FrameRingRef<'_> {
    // SAFETY: nobody else knows this memory.
    unsafe { FrameRingRef::init_at(memory.region(), options) }.unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn behaves_like_a_queue(
        shift in 0..4u32, lines in any::<bool>(), start in 0..64u32, back in any::<bool>(), sums in any::<bool>(), ops in ops()
    ) {
        let (packing, least) = if lines { (Packing::Lines, 512) } else { (Packing::Dense, 64) };
        let start = if back { (start * 8).wrapping_neg() } else { start * 8 };
        let checksum = if sums { Checksum::Crc32c } else { Checksum::None };
        let options = Options::new(least << shift).packing(packing).start(start).checksum(checksum);
        let memory = memory(options);
        run(created(&memory, options), &ops);
        run(FrameRingRef::attach_untrusted(memory.region(), None).unwrap(), &ops_after(&memory, &ops));
        memory.check_guards();
    }
}

/// The same once more: drains the ring first, through the other kind of handle.
fn ops_after(memory: &Memory, ops: &[Op]) -> Vec<Op> {
    let ring = FrameRingRef::attach_untrusted(memory.region(), None).unwrap();
    ring.claim_reader(owner(9)).unwrap().skip(usize::MAX);
    ops.to_vec()
}

#[test]
fn a_dropped_grant_leaves_nothing() {
    let mut ring = FrameRing::<256>::new();
    let (mut writer, mut reader) = ring.split();
    for n in 0..100 {
        writer.grant(100).unwrap().fill(0xff);
        assert_eq!(reader.read().err(), Some(ReadError::Empty));
        writer.push(&[n; 60]).unwrap();
        let frame = reader.read().unwrap();
        assert_eq!(*frame, [n; 60]);
        frame.release();
    }
}

#[test]
fn the_largest_payload_always_fits_an_empty_ring() {
    for start in (0..256).step_by(8) {
        let options = Options::new(256).packing(Packing::Dense).start(start);
        let memory = memory(options);
        let ring = created(&memory, options);
        let mut writer = ring.claim_writer(owner(1)).unwrap();
        let mut reader = ring.claim_reader(owner(2)).unwrap();
        let maximum = options.max_payload();
        assert_eq!((maximum, writer.max_payload(), reader.max_payload()), (112, 112, 112));
        writer.push(&[1; 112]).unwrap();
        assert_eq!(reader.skip(1), 1);
        let length = maximum + 1;
        assert_eq!(writer.push(&[1; 113]), Err(WriteError::TooLarge { length, maximum }));
    }
}

#[test]
fn two_threads() {
    let mut ring = FrameRing::<1024>::with(Packing::Lines, Checksum::Crc32c);
    let (mut writer, mut reader) = ring.split();
    let patience = Patience::new();
    let other = patience.clone();
    let count = if cfg!(target_arch = "x86_64") { 50_000 } else { 5_000u32 };
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for n in 0..count {
                let sent = payload(n, n as usize % 300);
                while writer.push(&sent) == Err(WriteError::Full) {
                    other.wait();
                }
            }
        });
        for n in 0..count {
            let frame = loop {
                match reader.read() {
                    Ok(frame) => break frame.to_vec(),
                    Err(ReadError::Empty) => patience.wait(),
                    Err(error) => panic!("{error}: {:?}", reader.corruption()),
                }
            };
            assert_eq!(frame, payload(n, n as usize % 300));
            assert_eq!(reader.skip(1), 1);
        }
    });
}

#[test]
fn a_damaged_payload_is_found_by_its_checksum() {
    let options = Options::new(256).packing(Packing::Dense).checksum(Checksum::Crc32c);
    let memory = memory(options);
    let ring = created(&memory, options);
    ring.claim_writer(owner(1)).unwrap().push(b"1234567890ab").unwrap();
    memory.set(256 + 8 + 4, memory.get(256 + 8 + 4) ^ 1 << 9);
    let before = memory.bytes();
    let mut reader = ring.claim_reader(owner(2)).unwrap();
    assert_eq!(reader.read().err(), Some(ReadError::Corrupt));
    assert_eq!(reader.corruption().unwrap().what, "checksum of a frame");
    assert_eq!(reader.pop_into(&mut [0; 99]), Err(ReadError::Corrupt), "stays poisoned");
    assert_eq!(reader.skip(1), 0, "stays poisoned");
    drop(reader);
    assert_eq!(memory.bytes(), before, "untouched");
}

#[test]
fn impossible_words_are_corrupt() {
    // The first frame's word, and the answer.
    for word in [1, 7, 121, 1000, u32::MAX, 1 << 31, 1 << 31 | 8, 1 << 31 | 256] {
        let memory = memory(Options::new(256).packing(Packing::Dense));
        let ring = created(&memory, Options::new(256).packing(Packing::Dense)).untrusted();
        let mut reader = ring.claim_reader(owner(2)).unwrap();
        memory.set(256, word);
        assert_eq!(reader.pop_into(&mut [0; 256]), Err(ReadError::Corrupt), "{word:#x}");
        assert!(matches!(ring.claim_writer(owner(1)), Err(ClaimError::Corrupt(_))), "{word:#x}");
        assert_eq!(ring.owner(End::Writing), Ok(None), "given back");
    }
}

/// Every word of the memory is overwritten with every kind of value between operations:
/// nothing panics, hangs or touches a byte outside.
#[test]
fn hostile_memory() {
    let options = Options::new(64).packing(Packing::Dense).checksum(Checksum::Crc32c);
    let values = [0, 1, 8, 24, 25, 64, 1 << 31, 1 << 31 | 16, 1 << 31 | 64, u32::MAX, u32::MAX - 7];
    for word in (64..320).step_by(4) {
        for value in values {
            for after in 0..6 {
                let memory = memory(options);
                let ring = created(&memory, options).untrusted();
                let mut writer = ring.claim_writer(owner(1)).unwrap();
                let mut reader = ring.claim_reader(owner(2)).unwrap();
                for step in 0..12 {
                    if step == after {
                        memory.set(word, value);
                    }
                    let _ = writer.push(&[step; 9]);
                    let _ = writer.free();
                    if step % 3 != 0 {
                        let _ = reader.pop_into(&mut [0; 64]);
                    }
                }
                drop((writer, reader));
                let _ = ring.claim_writer(owner(3)).map(|mut writer| writer.push(&[1; 16]));
                let _ = ring.claim_reader(owner(4)).map(|mut reader| reader.skip(100));
                memory.check_guards();
            }
        }
    }
}

#[test]
fn what_is_no_frame_ring_is_declined() {
    let options = Options::new(256).packing(Packing::Dense);
    let memory = memory(options);
    let attach = || FrameRingRef::attach_untrusted(memory.region(), Some(256)).map(|_| ());
    let magic = memory.get(0);
    assert!(matches!(attach(), Err(AttachError::WrongMagic { found, .. }) if found == magic));
    created(&memory, options);
    assert_eq!(attach(), Ok(()));
    let wrong = [
        (4, 0, AttachError::WrongVersion { found: 0, wanted: 1 }),
        (16, 2, AttachError::NewerRequired { found: 2, wanted: 1 }),
        (20, 32, AttachError::UnexpectedCapacity { found: 32, wanted: 256 }),
        (20, 96, AttachError::BadCapacity { found: 96, maximum: 1 << 30 }),
        (20, 128, AttachError::UnexpectedCapacity { found: 128, wanted: 256 }),
        (24, 2, AttachError::WrongElementSize { found: 2, wanted: 1 }),
        (28, 7, AttachError::UnsupportedOption { found: 7 }),
        (28, 7 << 8, AttachError::UnsupportedOption { found: 7 << 8 }),
        (28, 128 << 8, AttachError::UnsupportedOption { found: 128 << 8 }),
        (28, 1 << 8, AttachError::BadCapacity { found: 256, maximum: 1 << 30 }),
    ];
    for (offset, value, error) in wrong {
        let right = memory.get(offset);
        memory.set(offset, value);
        assert_eq!(attach(), Err(error));
        memory.set(offset, right);
    }
    let short = memory.part(0, 511);
    let error = AttachError::TooSmall { found: 511, wanted: 512 };
    assert_eq!(FrameRingRef::attach_untrusted(short, None).err(), Some(error));
    for capacity in [0, 1, 32, 65, 1 << 31] {
        // SAFETY: nobody else knows this memory.
        let refused = unsafe {
            FrameRingRef::init_at(memory.region(), Options::new(capacity).packing(Packing::Dense))
        };
        let error = AttachError::BadCapacity { found: capacity, maximum: 1 << 30 };
        assert_eq!(refused.err(), Some(error));
    }
}

/// The ring is so small that laps pass between two stores of the writer's position, and a
/// writer is killed with a grant open: its successor begins behind the reader, not in what
/// the stored position points to.
#[test]
fn a_successor_does_not_walk_over_what_was_overwritten() {
    let options = Options::new(256).packing(Packing::Dense);
    for frames in 1..40 {
        let memory = memory(options);
        let ring = created(&memory, options);
        let mut writer = ring.claim_writer(owner(1)).unwrap();
        let mut reader = ring.claim_reader(owner(2)).unwrap();
        for _ in 0..frames {
            writer.push(&[1; 40]).unwrap();
            assert_eq!(reader.skip(1), 1);
        }
        writer.grant(options.max_payload()).unwrap().fill(0xee);
        std::mem::forget(writer);
        let mut writer = ring.recover_writer(dead(1), owner(3)).unwrap();
        assert!(reader.is_empty());
        writer.push(&[2; 40]).unwrap();
        assert_eq!(*reader.read().unwrap(), [2; 40], "after {frames} frames");
    }
}

/// A lap in which every word says that there is a frame has no end; skipping has.
/// Room that was held is not published after something else was.
#[test]
fn held_room_goes_once() {
    let options = Options::new(1024);
    let memory = memory(options);
    let ring = created(&memory, options);
    let mut writer = ring.claim_writer(owner(1)).unwrap();
    let mut reader = ring.claim_reader(owner(2)).unwrap();
    assert!(!writer.commit_held(10) && writer.held().is_empty(), "none was ever held");
    writer.grant(20).unwrap().hold();
    writer.push(&[1; 20]).unwrap();
    assert!(!writer.commit_held(20) && writer.held_mut().is_empty());
    writer.grant(20).unwrap().hold();
    assert_eq!(writer.grant(8).unwrap().len(), 8);
    assert!(!writer.commit_held(20));
    // One without bytes is one too.
    writer.grant(0).unwrap().hold();
    assert!(writer.commit_held(0));
    for expected in [&[1; 20][..], &[]] {
        assert_eq!(&*reader.read().unwrap(), expected);
        reader.skip(1);
    }
    assert!(reader.is_empty());
}

/// What was held and left behind in another way is not left behind twice.
#[test]
fn a_held_frame_goes_once() {
    let options = Options::new(1024);
    let memory = memory(options);
    let ring = created(&memory, options);
    let mut writer = ring.claim_writer(owner(1)).unwrap();
    let mut reader = ring.claim_reader(owner(2)).unwrap();
    assert!(!reader.release_held(), "none was ever held");
    for n in 0..4u8 {
        writer.push(&[n; 20]).unwrap();
    }
    reader.read().unwrap().hold();
    reader.read().unwrap().release();
    assert!(!reader.release_held());
    assert_eq!(*reader.read().unwrap(), [1; 20]);
    reader.read().unwrap().hold();
    assert_eq!(reader.pop_into(&mut [0; 64]), Ok(20));
    assert!(!reader.release_held());
    reader.read().unwrap().hold();
    assert_eq!(reader.skip(1), 1);
    assert!(!reader.release_held());
    assert_eq!(*reader.read().unwrap(), [3; 20]);
}

#[test]
fn skipping_ends_after_a_lap() {
    let options = Options::new(512);
    let memory = memory(options);
    created(&memory, options);
    for line in 0..8 {
        memory.set(256 + line * 64, 64);
    }
    let ring = FrameRingRef::attach_untrusted(memory.region(), None).unwrap();
    assert_eq!(ring.claim_reader(owner(1)).unwrap().skip(usize::MAX), 8);
}
