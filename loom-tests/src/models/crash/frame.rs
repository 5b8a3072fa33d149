//! The ends of the frame ring.

use super::{CONVICTOR, HEIR, READER, WRITER, at_every_step, dead};
use crate::harness::{Lent, Memory, check, check_eq, models, owner};
use loom::thread;
use shm_primitives::part::End;
use shm_primitives::ring::frame::{
    FrameRingRef, Options, Packing, ReadError, Reader, WriteError, Writer,
};

/// The smallest frame ring: payloads of up to 16 bytes, two of which fill it.
struct Frames {
    #[expect(dead_code, reason = "what the others borrow from")]
    memory: Lent<Memory>,
    ring: FrameRingRef<'static>,
}

impl Frames {
    /// A ring that begins `before` bytes before its positions wrap, and so its data.
    fn new(before: u32) -> Self {
        let options = Options::new(64).packing(Packing::Dense).start(before.wrapping_neg());
        let memory = Lent::new(Memory::new(options.required_size().unwrap()));
        // SAFETY: every model keeps its `Frames` until its threads are joined.
        let ring = unsafe {
            FrameRingRef::zero_at(&memory.get().region(), options);
            FrameRingRef::init_at(memory.get().region(), options).unwrap()
        };
        Self { memory, ring }
    }

    fn ends(&self) -> (Writer<'static>, Reader<'static>) {
        let writer = self.ring.claim_writer(owner(WRITER)).unwrap();
        (writer, self.ring.claim_reader(owner(READER)).unwrap())
    }

    fn inherit_writer(&self) -> Writer<'static> {
        match self.ring.owner(End::Writing).unwrap() {
            Some(last) => self.ring.recover_writer(dead(last.index()), owner(HEIR)).unwrap(),
            None => self.ring.claim_writer(owner(HEIR)).unwrap(),
        }
    }

    fn inherit_reader(&self) -> Reader<'static> {
        match self.ring.owner(End::Reading).unwrap() {
            Some(last) => self.ring.recover_reader(dead(last.index()), owner(HEIR)).unwrap(),
            None => self.ring.claim_reader(owner(HEIR)).unwrap(),
        }
    }
}

/// Takes the next frame; its payload's first byte, which is that of all.
fn take(reader: &mut Reader<'_>) -> Option<u8> {
    match reader.read() {
        Ok(frame) => {
            let n = frame.first().copied().unwrap_or(0);
            check!(frame.iter().all(|byte| *byte == n), "a torn frame: {:?}", &*frame);
            frame.release();
            Some(n)
        }
        Err(ReadError::Empty) => None,
        Err(error) => panic!("model: {error}: {:?}", reader.corruption()),
    }
}

fn take_all(reader: &mut Reader<'_>) -> Vec<u8> {
    std::iter::from_fn(|| take(reader)).collect()
}

/// The empty ring takes as much as a new one.
fn check_frames_usable(writer: &mut Writer<'_>, reader: &mut Reader<'_>) {
    for n in 8..10 {
        check_eq!(writer.push(&[n; 16]), Ok(()), "the largest payload fits an empty ring");
        check_eq!(take_all(reader), [n], "as good as new");
    }
}

/// `operate` puts frame 1 into the ring, `before` bytes before its data's end, and drops its end.
fn frame_writer_dies(steps: u32, before: u32, published: bool, operate: fn(Writer<'static>)) {
    at_every_step(steps, move |mortal| {
        let frames = Frames::new(before);
        let (writer, mut reader) = frames.ends();
        let mortal = mortal.clone();
        let dying = thread::spawn(move || mortal.live(|| operate(writer)).is_some());
        let mut arrived: Vec<u8> = (0..2).filter_map(|_| take(&mut reader)).collect();
        let survived = dying.join().unwrap();
        let mut writer = frames.inherit_writer();
        check_eq!(writer.push(&[2; 4]), Ok(()), "room");
        arrived.extend(take_all(&mut reader));
        let whole = published && arrived == [1, 2];
        check!(whole || arrived == [2] && !(survived && published), "arrived: {arrived:?}");
        check_frames_usable(&mut writer, &mut reader);
    });
}

/// `operate` leaves frame 1 of the full ring behind, answers whether it was that, and drops its
/// end.
fn frame_reader_dies(steps: u32, operate: fn(Reader<'static>) -> bool) {
    at_every_step(steps, move |mortal| {
        let frames = Frames::new(24);
        let (mut writer, reader) = frames.ends();
        check_eq!(writer.push(&[1; 16]), Ok(()), "room");
        check_eq!(writer.push(&[2; 16]), Ok(()), "room");
        let mortal = mortal.clone();
        let dying = thread::spawn(move || mortal.live(|| operate(reader)));
        // Needs the bytes that the dying one gives back.
        let third = match writer.push(&[3; 16]) {
            Ok(()) => true,
            Err(WriteError::Full) => false,
            Err(error) => panic!("model: {error}: {:?}", writer.corruption()),
        };
        let survived = dying.join().unwrap();
        check!(survived != Some(false), "what was read");
        let mut reader = frames.inherit_reader();
        let arrived = take_all(&mut reader);
        let first = arrived.first().copied();
        check!(
            first == Some(2) || first == Some(1) && !third && survived.is_none(),
            "{first:?} is the first after the death"
        );
        let expected: Vec<u8> = (first.unwrap()..3 + u8::from(third)).collect();
        check_eq!(arrived, expected, "after the death");
        check_frames_usable(&mut writer, &mut reader);
    });
}

/// `operate` takes the end that the first owner left behind, dead, and drops it, while the
/// other end goes on.
fn frame_recover_dies(steps: u32, end: End, operate: fn(FrameRingRef<'static>)) {
    at_every_step(steps, move |mortal| {
        let frames = Frames::new(16);
        let (mut writer, mut reader) = frames.ends();
        check_eq!(writer.push(&[1; 8]), Ok(()), "room");
        let mortal = mortal.clone();
        let ring = frames.ring;
        let dying = move || mortal.live(|| operate(ring)).is_some();
        match end {
            End::Writing => {
                std::mem::forget(writer);
                let dying = thread::spawn(dying);
                check_eq!(take(&mut reader), Some(1), "published before");
                dying.join().unwrap();
                let mut writer = frames.inherit_writer();
                check_eq!(take(&mut reader), None, "made up");
                check_frames_usable(&mut writer, &mut reader);
            }
            End::Reading => {
                std::mem::forget(reader);
                let dying = thread::spawn(dying);
                check_eq!(writer.push(&[2; 8]), Ok(()), "room");
                dying.join().unwrap();
                let mut reader = frames.inherit_reader();
                check_eq!(take_all(&mut reader), [1, 2], "after the death");
                check_frames_usable(&mut writer, &mut reader);
            }
        }
    });
}

models! {
    /// A writer in push.
    fn crash_frame_push() {
        frame_writer_dies(5, 16, true, |mut writer| {
            check_eq!(writer.push(&[1; 8]), Ok(()), "room");
        });
    }

    /// A writer whose frame goes to the start of the data, behind padding.
    fn crash_frame_padding() {
        frame_writer_dies(6, 8, true, |mut writer| {
            check_eq!(writer.push(&[1; 8]), Ok(()), "room");
        });
    }

    /// A writer that commits less than it was lent.
    fn crash_frame_grant() {
        frame_writer_dies(6, 24, true, |mut writer| {
            let mut grant = writer.grant(16).unwrap();
            grant.fill(1);
            grant.commit(4);
        });
    }

    /// A reader that reads and releases a frame.
    fn crash_frame_release() {
        frame_reader_dies(3, |mut reader| take(&mut reader) == Some(1));
    }

    /// A reader that leaves a frame behind unread.
    fn crash_frame_skip() {
        frame_reader_dies(3, |mut reader| reader.skip(1) == 1);
    }

    /// Whoever takes over a dead writer.
    fn crash_frame_recover_writer() {
        frame_recover_dies(2, End::Writing, |ring| {
            drop(ring.recover_writer(dead(WRITER), owner(CONVICTOR)).unwrap());
        });
    }

    /// Whoever takes over a dead reader.
    fn crash_frame_recover_reader() {
        frame_recover_dies(3, End::Reading, |ring| {
            drop(ring.recover_reader(dead(READER), owner(CONVICTOR)).unwrap());
        });
    }

    /// Whoever takes over both ends, gives them back and claims them again.
    fn crash_frame_claim() {
        frame_recover_dies(4, End::Writing, |ring| {
            drop(ring.recover_writer(dead(WRITER), owner(CONVICTOR)).unwrap());
            drop(ring.claim_writer(owner(CONVICTOR)).unwrap());
        });
        frame_recover_dies(6, End::Reading, |ring| {
            drop(ring.recover_reader(dead(READER), owner(CONVICTOR)).unwrap());
            drop(ring.claim_reader(owner(CONVICTOR)).unwrap());
        });
    }
}
