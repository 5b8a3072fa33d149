//! Bodies for the frame ring.

use crate::common::memory::Memory;
use crate::common::{dead, owner};
use arbitrary::{Arbitrary, Result, Unstructured};
use shm_primitives::part::Untrusted;
use shm_primitives::ring::frame::{
    Checksum, FrameRingRef, Options, Packing, ReadError, Reader, WriteError, Writer,
};
use std::collections::VecDeque;

const MOST_OPS: usize = 400;

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Op {
    Push(u8),
    /// Lent, and committed in part or dropped.
    Grant(u8, Option<u8>),
    Pop,
    Read(bool),
    Skip(u8),
    Sizes,
    ReopenWriter,
    ReopenReader,
}

fn options(u: &mut Unstructured<'_>) -> Result<Options> {
    let checksum = if u.arbitrary()? { Checksum::Crc32c } else { Checksum::None };
    let (packing, least) =
        if u.arbitrary()? { (Packing::Lines, 512) } else { (Packing::Dense, 64) };
    let start = (u.arbitrary::<i8>()? as u32).wrapping_mul(8);
    let capacity = least << u.int_in_range(0..=3u32)?;
    Ok(Options::new(capacity).packing(packing).checksum(checksum).start(start))
}

fn created(memory: &Memory, options: Options) -> FrameRingRef<'_> {
    // SAFETY: nobody else knows this memory.
    unsafe { FrameRingRef::init_at(memory.region(), options) }.expect("large enough")
}

/// Operations in any order against a queue.
pub fn model(data: &[u8]) {
    // Too few bytes are no fault.
    let _ = run_model(&mut Unstructured::new(data));
}

fn run_model(u: &mut Unstructured<'_>) -> Result<()> {
    let options = options(u)?;
    // Every byte looks like part of a ready word.
    let memory = Memory::new(options.required_size().expect("small"), 0x11);
    let ring = created(&memory, options);
    let mut writer = ring.claim_writer(owner(1)).unwrap();
    let mut reader = ring.claim_reader(owner(2)).unwrap();
    // The last owner of each end; another one succeeds it.
    let (mut writing, mut reading) = (1, 2);
    let mut queue: VecDeque<Vec<u8>> = VecDeque::new();
    let maximum = options.max_payload();
    let accept = |queue: &mut VecDeque<Vec<u8>>, result, length: usize, sent: Vec<u8>| match result
    {
        Ok(()) => queue.push_back(sent),
        Err(WriteError::Full) => assert!(!queue.is_empty() && length <= maximum),
        Err(error) => assert_eq!(error, WriteError::TooLarge { length, maximum }),
    };
    for n in 0..MOST_OPS {
        if u.is_empty() {
            break;
        }
        match u.arbitrary()? {
            Op::Push(length) => {
                let sent = vec![n as u8 | 1; length.into()];
                accept(&mut queue, writer.push(&sent), sent.len(), sent);
            }
            Op::Grant(length, used) => {
                let result = writer.grant(length.into()).map(|mut grant| {
                    grant.fill(n as u8 | 1);
                    let used = used.map(|used| usize::from(used).min(grant.len()));
                    if let Some(used) = used {
                        grant.commit(used);
                    }
                    used
                });
                match result {
                    Ok(None) => {}
                    Ok(Some(used)) => queue.push_back(vec![n as u8 | 1; used]),
                    Err(error) => accept(&mut queue, Err(error), length.into(), vec![]),
                }
            }
            Op::Pop => {
                let mut buffer = [0; 2048];
                match reader.pop_into(&mut buffer) {
                    Ok(length) => assert_eq!(queue.pop_front().as_deref(), Some(&buffer[..length])),
                    Err(error) => assert!(error == ReadError::Empty && queue.is_empty()),
                }
            }
            Op::Read(release) => match reader.read() {
                Ok(frame) => {
                    assert_eq!(queue.front().map(Vec::as_slice), Some(&*frame));
                    if release {
                        frame.release();
                        queue.pop_front();
                    }
                }
                Err(error) => assert!(error == ReadError::Empty && queue.is_empty()),
            },
            Op::Skip(count) => {
                let skipped = reader.skip(count.into());
                assert_eq!(skipped, queue.len().min(count.into()));
                queue.drain(..skipped);
            }
            Op::Sizes => {
                assert_eq!(reader.is_empty(), queue.is_empty());
                let used: usize = queue.iter().map(|sent| (sent.len() + 15) & !7).sum();
                assert!(writer.free() <= ring.capacity() - used);
            }
            Op::ReopenWriter => {
                std::mem::forget(writer);
                let last = writing;
                writing ^= 9;
                writer = ring.recover_writer(dead(last), owner(writing)).unwrap();
            }
            Op::ReopenReader => {
                std::mem::forget(reader);
                let last = reading;
                reading ^= 9;
                reader = ring.recover_reader(dead(last), owner(reading)).unwrap();
            }
        }
        assert_eq!((writer.corruption(), reader.corruption()), (None, None));
    }
    memory.check_guards();
    Ok(())
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Value {
    Exactly(u32),
    Small(u8),
    Padding(u8),
    Power(u8),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Attack {
    Poke(u16, Value),
    Push(u8),
    Pop,
    Skip,
    Sizes,
    Reopen,
}

/// A ring whose every word may be overwritten between operations: no panic, no access
/// outside, no endless loop, and a poisoned handle stays poisoned.
pub fn hostile(data: &[u8]) {
    let _ = run_hostile(&mut Unstructured::new(data));
}

fn run_hostile(u: &mut Unstructured<'_>) -> Result<()> {
    let options = options(u)?;
    let memory = Memory::new(options.required_size().expect("small"), u.arbitrary()?);
    if u.arbitrary()? {
        created(&memory, options);
    }
    let mut ends: Option<(Writer<'_, Untrusted>, Reader<'_, Untrusted>)> = None;
    for _ in 0..MOST_OPS {
        if u.is_empty() {
            break;
        }
        let poisoned = |ends: &Option<(Writer<'_, Untrusted>, Reader<'_, Untrusted>)>| match ends {
            Some((w, r)) => (w.corruption().is_some(), r.corruption().is_some()),
            None => (false, false),
        };
        let (writer_was, reader_was) = poisoned(&ends);
        match (u.arbitrary()?, &mut ends) {
            (Attack::Poke(at, value), _) => {
                let value = match value {
                    Value::Exactly(value) => value,
                    Value::Small(value) => value.into(),
                    Value::Padding(value) => 1 << 31 | u32::from(value),
                    Value::Power(bit) => 1u32.wrapping_shl(bit.into()),
                };
                memory.set(usize::from(at) % (memory.size() / 4) * 4, value);
            }
            (Attack::Reopen, _) => {
                drop(ends.take());
                // Nobody else's claim may stand in the way of the next.
                memory.set(40, 0);
                memory.set(44, 0);
                if let Ok(ring) = FrameRingRef::attach_untrusted(memory.region(), None)
                    && let (Ok(w), Ok(r)) =
                        (ring.claim_writer(owner(1)), ring.claim_reader(owner(2)))
                {
                    ends = Some((w, r));
                    continue;
                }
            }
            (Attack::Push(length), Some((writer, _))) => {
                let result = writer.push(&vec![0xa5; length.into()]);
                assert!(!writer_was || result.is_err());
            }
            (Attack::Pop, Some((_, reader))) => {
                let result = reader.pop_into(&mut [0; 2048]);
                assert!(!reader_was || result == Err(ReadError::Corrupt));
            }
            (Attack::Skip, Some((_, reader))) => {
                let skipped = reader.skip(options.capacity as usize);
                assert!(!reader_was || skipped == 0);
            }
            (Attack::Sizes, Some((writer, reader))) => {
                assert!(writer.free() <= writer.capacity());
                let _ = reader.is_empty();
            }
            (_, None) => {}
        }
        let (writer_is, reader_is) = poisoned(&ends);
        assert!(ends.is_none() || (writer_is || !writer_was) && (reader_is || !reader_was));
    }
    drop(ends);
    memory.check_guards();
    Ok(())
}
