//! The frame ring. A payload of n words has n in its first byte and the same value in all.

use crate::harness::{Lent, Memory, check, check_eq, explore, models, owner};
use loom::thread;
use shm_primitives::identity::Dead;
use shm_primitives::ring::frame::{
    FrameRingRef, Options, Packing, ReadError, Reader, WriteError, Writer,
};
use shm_primitives::sync::spin_loop;

/// The smallest ring: payloads of up to 16 bytes, two of which fill it.
const CAPACITY: u32 = 64;

struct Fixture {
    memory: Lent<Memory>,
    ring: FrameRingRef<'static>,
}

/// A ring that begins `before` bytes before its positions wrap, and so its data.
fn fixture(before: u32) -> Fixture {
    let options = Options::new(CAPACITY).packing(Packing::Dense).start(before.wrapping_neg());
    let memory = Lent::new(Memory::new(options.required_size().unwrap()));
    // SAFETY: the fixture outlives the threads of its model; nobody else knows the memory.
    let ring = unsafe {
        FrameRingRef::zero_at(&memory.get().region(), options);
        FrameRingRef::init_at(memory.get().region(), options).unwrap()
    };
    Fixture { memory, ring }
}

impl Fixture {
    fn ends(&self) -> (Writer<'static>, Reader<'static>) {
        let _ = &self.memory;
        (self.ring.claim_writer(owner(1)).unwrap(), self.ring.claim_reader(owner(2)).unwrap())
    }
}

fn push(writer: &mut Writer<'_>, value: u8, length: usize) {
    loop {
        match writer.push(&[value; 16][..length]) {
            Ok(()) => return,
            Err(WriteError::Full) => spin_loop(),
            Err(error) => check!(false, "{error}: {:?}", writer.corruption()),
        }
    }
}

/// Reads the next frame, waiting for it, and checks its content.
fn pop(reader: &mut Reader<'_>, value: u8, length: usize) {
    loop {
        match reader.read() {
            Ok(frame) => {
                check_eq!(*frame, [value; 16][..length], "content");
                return frame.release();
            }
            Err(ReadError::Empty) => spin_loop(),
            Err(error) => check!(false, "{error}"),
        }
    }
}

models! {
    /// Write against read: what arrives is whole and in order, across the wrap of positions
    /// and data.
    fn frame_push_pop() {
        explore(|| {
            let fixture = fixture(16);
            let (mut writer, mut reader) = fixture.ends();
            let writing = thread::spawn(move || {
                push(&mut writer, 1, 8);
                push(&mut writer, 2, 4);
            });
            pop(&mut reader, 1, 8);
            pop(&mut reader, 2, 4);
            check_eq!(reader.read().err(), Some(ReadError::Empty), "nothing more");
            writing.join().unwrap();
        });
    }

    /// A frame that goes to the start of the data: it and its padding appear together.
    fn frame_padding() {
        explore(|| {
            let fixture = fixture(8);
            let (mut writer, mut reader) = fixture.ends();
            let writing = thread::spawn(move || push(&mut writer, 1, 8));
            pop(&mut reader, 1, 8);
            writing.join().unwrap();
        });
    }

    /// Bytes given back through `released` are overwritten only after they were read, and
    /// what stood in them never passes for a ready word.
    fn frame_reuse_released() {
        explore(|| {
            let fixture = fixture(24);
            let (mut writer, mut reader) = fixture.ends();
            push(&mut writer, 1, 16);
            push(&mut writer, 2, 16);
            let writing = thread::spawn(move || push(&mut writer, 3, 16));
            pop(&mut reader, 1, 16);
            pop(&mut reader, 2, 16);
            pop(&mut reader, 3, 16);
            check_eq!(reader.read().err(), Some(ReadError::Empty), "nothing more");
            writing.join().unwrap();
        });
    }

    /// The same through the second look, at `consumed`: the reader is between its two stores.
    fn frame_reuse_consumed() {
        explore(|| {
            let fixture = fixture(24);
            let (mut writer, mut reader) = fixture.ends();
            push(&mut writer, 1, 16);
            push(&mut writer, 2, 16);
            let reading = thread::spawn(move || {
                pop(&mut reader, 1, 16);
            });
            while writer.free() < 32 {
                spin_loop();
            }
            check!(writer.push(&[3; 16]).is_ok(), "no room although free() said so");
            reading.join().unwrap();
        });
    }

    /// A grant committed short, and one dropped: only what was committed arrives.
    fn frame_grant() {
        explore(|| {
            let fixture = fixture(16);
            let (mut writer, mut reader) = fixture.ends();
            let writing = thread::spawn(move || {
                let mut grant = writer.grant(16).unwrap();
                grant.fill(9);
                drop(grant);
                let mut grant = writer.grant(16).unwrap();
                grant.fill(1);
                grant.commit(4);
            });
            pop(&mut reader, 1, 4);
            writing.join().unwrap();
            check_eq!(reader.read().err(), Some(ReadError::Empty), "nothing more");
        });
    }

    /// Skipping a frame against writing the next.
    fn frame_skip() {
        explore(|| {
            let fixture = fixture(16);
            let (mut writer, mut reader) = fixture.ends();
            push(&mut writer, 1, 4);
            let writing = thread::spawn(move || push(&mut writer, 2, 4));
            check_eq!(reader.skip(1), 1, "skipped");
            pop(&mut reader, 2, 4);
            writing.join().unwrap();
        });
    }

    /// A reader that died with a frame in hand: the successor sees that one again and loses
    /// none, while the writer goes on.
    fn frame_recover_reader() {
        explore(|| {
            let fixture = fixture(24);
            let (mut writer, mut reader) = fixture.ends();
            push(&mut writer, 1, 8);
            let dying = thread::spawn(move || {
                check!(reader.read().is_ok(), "in hand");
                core::mem::forget(reader);
            });
            let writing = thread::spawn(move || push(&mut writer, 2, 8));
            dying.join().unwrap();
            // SAFETY: its thread has ended, and the join orders it before this.
            let dead = unsafe { Dead::assume(owner(2)) };
            let mut reader = fixture.ring.recover_reader(dead, owner(3)).unwrap();
            pop(&mut reader, 1, 8);
            pop(&mut reader, 2, 8);
            writing.join().unwrap();
        });
    }

    /// A writer that died with a grant open over bytes of an earlier lap: its successor finds
    /// the end of what was published, the reader never sees the grant.
    fn frame_recover_writer() {
        explore(|| {
            let fixture = fixture(16);
            let (mut writer, mut reader) = fixture.ends();
            let reading = thread::spawn(move || {
                pop(&mut reader, 1, 8);
                pop(&mut reader, 3, 8);
            });
            let dying = thread::spawn(move || {
                push(&mut writer, 1, 8);
                let mut grant = writer.grant(16).unwrap();
                grant.fill(2);
                core::mem::forget(grant);
                core::mem::forget(writer);
            });
            dying.join().unwrap();
            // SAFETY: its thread has ended, and the join orders it before this.
            let dead = unsafe { Dead::assume(owner(1)) };
            let mut writer = fixture.ring.recover_writer(dead, owner(3)).unwrap();
            push(&mut writer, 3, 8);
            reading.join().unwrap();
        });
    }

    /// The writer's end given back and claimed by another thread, which goes on where the
    /// former owner stopped.
    fn frame_release_claim() {
        explore(|| {
            let fixture = fixture(16);
            let (mut writer, mut reader) = fixture.ends();
            let ring = fixture.ring;
            let first = thread::spawn(move || push(&mut writer, 1, 8));
            let second = thread::spawn(move || match ring.claim_writer(owner(3)) {
                Ok(mut writer) => {
                    push(&mut writer, 2, 8);
                    true
                }
                Err(_) => false,
            });
            first.join().unwrap();
            let second = second.join().unwrap();
            pop(&mut reader, 1, 8);
            if second {
                pop(&mut reader, 2, 8);
            }
            check_eq!(reader.read().err(), Some(ReadError::Empty), "nothing more");
        });
    }
}
