//! Death at any step of an operation, in every interleaving with a side that goes on.
//!
//! One thread of each model is mortal: it dies when it reaches the step after its budget. A
//! model is explored with the budgets 0, 1, 2, … until nobody dies in any interleaving. After
//! the join somebody recovers, and the structure holds what its module promises.

use crate::harness::{Lent, Memory, check, check_eq, explore_bounded, models, owner};
use loom::sync::Arc;
use loom::thread;
use shm_primitives::identity::{Dead, OwnerId};
use shm_primitives::part::End;
use shm_primitives::ready::ReadyBitmap;
use shm_primitives::ring::frame::{
    FrameRingRef, Options, Packing, ReadError, Reader, WriteError, Writer,
};
use shm_primitives::ring::spsc::{Consumer, PopError, Producer, SpscRing, SpscRingRef};
use shm_primitives::sync::Ordering::Relaxed;
use shm_primitives::sync::crash::{self, Outcome};
use shm_primitives::sync::{AtomicU32, spin_loop};
use shm_primitives::wake::{Deadline, LoomPark, Park, WakeWord, published};
use std::sync::atomic::AtomicBool;

/// Who has the ends in the beginning, and who takes them over.
const WRITER: u32 = 1;
const READER: u32 = 2;
const HEIR: u32 = 3;
const CONVICTOR: u32 = 4;

/// The proof that `index` is dead: its mortal part has ended.
fn dead(index: u32) -> Dead<OwnerId> {
    // SAFETY: owners here are names given to handles; each model joins the thread that had
    // the handle before it calls this.
    unsafe { Dead::assume(owner(index)) }
}

/// The life of one thread of a model.
#[derive(Clone)]
struct Mortal {
    budget: u32,
    /// Whether it died in any interleaving. Not loom's: it outlives them.
    died: std::sync::Arc<AtomicBool>,
}

impl Mortal {
    /// Runs `operation`; `None` if it died in it. Move the handle it works with into it.
    fn live<R>(&self, operation: impl FnOnce() -> R) -> Option<R> {
        match crash::run(self.budget, operation) {
            Outcome::Survived(value, _) => Some(value),
            Outcome::Died => {
                self.died.store(true, std::sync::atomic::Ordering::Relaxed);
                None
            }
        }
    }
}

/// Explores `program` with every budget up to the first with which nobody dies. There are at
/// least `steps` others: an operation that had fewer would have lost a crash point.
fn at_every_step(steps: u32, program: impl Fn(&Mortal) + Clone + Send + Sync + 'static) {
    at_every_step_bounded(None, steps, program);
}

/// The same with at most so many involuntary switches.
fn at_every_step_bounded(
    preemptions: Option<usize>,
    steps: u32,
    program: impl Fn(&Mortal) + Clone + Send + Sync + 'static,
) {
    for budget in 0..100 {
        let mortal = Mortal { budget, died: std::sync::Arc::default() };
        let died = std::sync::Arc::clone(&mortal.died);
        let program = program.clone();
        explore_bounded(preemptions, move || program(&mortal));
        if !died.load(std::sync::atomic::Ordering::Relaxed) {
            check!(budget >= steps, "only {budget} steps to die at");
            return;
        }
    }
    check!(false, "the operation does not end");
}

/// The bulk ring: two places, its positions about to wrap.
type Ring = SpscRing<u32, 2>;

struct Spsc {
    /// Kept until the threads are joined.
    #[expect(dead_code, reason = "what the others borrow from")]
    memory: Lent<Ring>,
    ring: SpscRingRef<'static, u32>,
}

impl Spsc {
    fn new() -> Self {
        let memory = Lent::new(Ring::new_at(u32::MAX));
        // SAFETY: every model keeps its `Spsc` until its threads are joined.
        let ring = unsafe { memory.get() }.shared();
        Self { memory, ring }
    }

    fn ends(&self) -> (Producer<'static, u32>, Consumer<'static, u32>) {
        let producer = self.ring.claim_producer(owner(WRITER)).unwrap();
        (producer, self.ring.claim_consumer(owner(READER)).unwrap())
    }

    /// The writing end, from whoever had it and died, or gave it back.
    fn inherit_producer(&self) -> Producer<'static, u32> {
        match self.ring.owner(End::Writing).unwrap() {
            Some(last) => self.ring.recover_producer(dead(last.index()), owner(HEIR)).unwrap(),
            None => self.ring.claim_producer(owner(HEIR)).unwrap(),
        }
    }

    /// The reading end likewise.
    fn inherit_consumer(&self) -> Consumer<'static, u32> {
        match self.ring.owner(End::Reading).unwrap() {
            Some(last) => self.ring.recover_consumer(dead(last.index()), owner(HEIR)).unwrap(),
            None => self.ring.claim_consumer(owner(HEIR)).unwrap(),
        }
    }
}

fn pop(consumer: &mut Consumer<'_, u32>) -> Option<u32> {
    match consumer.pop() {
        Ok(value) => Some(value),
        Err(PopError::Empty) => None,
        Err(PopError::Corrupt) => panic!("model: corrupt: {:?}", consumer.corruption()),
    }
}

fn drain(consumer: &mut Consumer<'_, u32>) -> Vec<u32> {
    std::iter::from_fn(|| pop(consumer)).collect()
}

/// The empty ring takes as much as a new one.
fn check_spsc_usable(producer: &mut Producer<'_, u32>, consumer: &mut Consumer<'_, u32>) {
    check_eq!(producer.push_slice(&[8, 9]), 2, "room");
    check!(producer.is_full(), "more room than places");
    check_eq!(drain(consumer), [8, 9], "as good as new");
}

/// `operate` puts `batch` elements 1, 2, … into the ring at once and drops its end.
fn spsc_producer_dies(steps: u32, batch: u32, operate: fn(Producer<'static, u32>)) {
    at_every_step(steps, move |mortal| {
        let spsc = Spsc::new();
        let (producer, mut consumer) = spsc.ends();
        let mortal = mortal.clone();
        let dying = thread::spawn(move || mortal.live(|| operate(producer)).is_some());
        let mut arrived: Vec<u32> = (0..2).filter_map(|_| pop(&mut consumer)).collect();
        let survived = dying.join().unwrap();
        let mut producer = spsc.inherit_producer();
        check!(producer.push(7).is_ok() || batch == 2, "no room");
        arrived.extend(drain(&mut consumer));
        arrived.retain(|value| *value != 7);
        let whole: Vec<u32> = (1..=batch).collect();
        check!(arrived == whole || arrived.is_empty() && !survived, "arrived: {arrived:?}");
        check_spsc_usable(&mut producer, &mut consumer);
    });
}

/// `operate` takes `batch` of the elements 1 and 2 out of the full ring at once, answers
/// whether they were right, and drops its end.
fn spsc_consumer_dies(steps: u32, batch: u32, operate: fn(Consumer<'static, u32>) -> bool) {
    at_every_step(steps, move |mortal| {
        let spsc = Spsc::new();
        let (mut producer, consumer) = spsc.ends();
        check_eq!(producer.push_slice(&[1, 2]), 2, "room");
        let mortal = mortal.clone();
        let dying = thread::spawn(move || mortal.live(|| operate(consumer)));
        // Needs a place that the dying one gives back.
        let third = producer.push(3).is_ok();
        let survived = dying.join().unwrap();
        check!(survived != Some(false), "what was popped");
        let mut consumer = spsc.inherit_consumer();
        let arrived = drain(&mut consumer);
        let first = arrived.first().copied().unwrap_or(3 + u32::from(third));
        check!(
            first == 1 + batch || first == 1 && !third && survived.is_none(),
            "{first} is the first after the death"
        );
        let expected: Vec<u32> = (first..3 + u32::from(third)).collect();
        check_eq!(arrived, expected, "after the death");
        check_spsc_usable(&mut producer, &mut consumer);
    });
}

/// `operate` takes the end that the first owner left behind, dead, or gave back, and drops it,
/// while the other end goes on.
fn spsc_claim_dies(steps: u32, end: End, operate: fn(SpscRingRef<'static, u32>)) {
    at_every_step(steps, move |mortal| {
        let spsc = Spsc::new();
        let (mut producer, mut consumer) = spsc.ends();
        check!(producer.push(1).is_ok(), "full while empty");
        let mortal = mortal.clone();
        let ring = spsc.ring;
        let dying = move || mortal.live(|| operate(ring)).is_some();
        match end {
            End::Writing => {
                std::mem::forget(producer);
                let dying = thread::spawn(dying);
                check_eq!(pop(&mut consumer), Some(1), "published before");
                dying.join().unwrap();
                let mut producer = spsc.inherit_producer();
                check_eq!(pop(&mut consumer), None, "made up");
                check_spsc_usable(&mut producer, &mut consumer);
            }
            End::Reading => {
                std::mem::forget(consumer);
                let dying = thread::spawn(dying);
                check!(producer.push(2).is_ok(), "full with one of two");
                dying.join().unwrap();
                let mut consumer = spsc.inherit_consumer();
                check_eq!(drain(&mut consumer), [1, 2], "after the death");
                check_spsc_usable(&mut producer, &mut consumer);
            }
        }
    });
}

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

/// A park whose sleep begins and ends with a step: a thread may be killed in its sleep.
struct Bed<'a>(&'a LoomPark);

impl Park for Bed<'_> {
    fn now(&self) -> u64 {
        self.0.now()
    }
    fn wait(&self, word: &AtomicU32, expected: u32, until: u64) {
        crash::step();
        self.0.wait(word, expected, until);
        crash::step();
    }
    fn wake(&self, word: &AtomicU32) {
        self.0.wake(word);
    }
}

/// What is published is a number; everything relaxed, so that the fences alone carry it. It is
/// also what stands in lane `LANE` of the ready bitmap.
struct Bell {
    word: WakeWord,
    number: AtomicU32,
    bits: [AtomicU32; 1],
    park: LoomPark,
}

const LANE: usize = 3;

/// Before the clock of a [`LoomPark`] runs out.
const IN_TIME: Deadline = Deadline::at(1);

fn bell(marked: bool) -> Arc<Bell> {
    Arc::new(Bell {
        word: WakeWord::new(),
        number: AtomicU32::new(0),
        bits: [AtomicU32::new(u32::from(marked) << LANE)],
        park: LoomPark::new(),
    })
}

impl Bell {
    fn ready(&self) -> ReadyBitmap<'_> {
        ReadyBitmap::new(&self.bits)
    }

    /// Waits for `number`; whether it came.
    fn wait_for(&self, number: u32) -> bool {
        let ready = || self.number.load(Relaxed) >= number;
        self.word.waiter().wait(&Bed(&self.park), IN_TIME, ready)
    }
}

/// A notifier dies while it publishes 1 and notifies; `convicted` notifies in its place, after
/// the join, or nobody does. The waiter's answer, and whether it slept to the end.
fn notifier_dies(shared: bool, convicted: bool) {
    // The number, the sequence, the wake.
    at_every_step_bounded(Some(3), 3, move |mortal| {
        let bell = bell(false);
        let waiting = {
            let bell = Arc::clone(&bell);
            thread::spawn(move || bell.wait_for(1))
        };
        let dying = {
            let (bell, mortal) = (Arc::clone(&bell), mortal.clone());
            thread::spawn(move || {
                let (mut alone, mut several) = (bell.word.notifier(), bell.word.shared_notifier());
                mortal
                    .live(|| {
                        bell.number.store(1, Relaxed);
                        if shared { several.notify(&bell.park) } else { alone.notify(&bell.park) }
                    })
                    .is_some()
            })
        };
        let survived = dying.join().unwrap();
        let was_published = bell.number.load(Relaxed) == 1;
        if convicted {
            bell.word.notifier().notify(&bell.park);
        }
        bell.park.expire();
        let came = waiting.join().unwrap();
        check_eq!(came, was_published, "what was published is found when the sleep ends");
        check!(
            !bell.park.overslept() || !was_published || !survived && !convicted,
            "the wake is lost"
        );
    });
}

models! {
    /// A producer in push.
    fn crash_spsc_push() {
        spsc_producer_dies(3, 1, |mut producer| check!(producer.push(1).is_ok(), "no room"));
    }

    /// A producer that copies a slice in, over the end of the memory.
    fn crash_spsc_push_slice() {
        spsc_producer_dies(4, 2, |mut producer| {
            check_eq!(producer.push_slice(&[1, 2]), 2, "room");
        });
    }

    /// A consumer in pop.
    fn crash_spsc_pop() {
        spsc_consumer_dies(2, 1, |mut consumer| pop(&mut consumer) == Some(1));
    }

    /// A consumer that copies a slice out, over the end of the memory.
    fn crash_spsc_pop_slice() {
        spsc_consumer_dies(3, 2, |mut consumer| {
            let mut values = [0; 2];
            consumer.pop_slice(&mut values) == 2 && values == [1, 2]
        });
    }

    /// Whoever takes over a dead producer.
    fn crash_spsc_recover_producer() {
        spsc_claim_dies(2, End::Writing, |ring| {
            drop(ring.recover_producer(dead(WRITER), owner(CONVICTOR)).unwrap());
        });
    }

    /// Whoever takes over a dead consumer.
    fn crash_spsc_recover_consumer() {
        spsc_claim_dies(3, End::Reading, |ring| {
            drop(ring.recover_consumer(dead(READER), owner(CONVICTOR)).unwrap());
        });
    }

    /// Whoever takes over both ends, gives them back and claims them again.
    fn crash_spsc_claim() {
        spsc_claim_dies(4, End::Writing, |ring| {
            drop(ring.recover_producer(dead(WRITER), owner(CONVICTOR)).unwrap());
            drop(ring.claim_producer(owner(CONVICTOR)).unwrap());
        });
        spsc_claim_dies(6, End::Reading, |ring| {
            drop(ring.recover_consumer(dead(READER), owner(CONVICTOR)).unwrap());
            drop(ring.claim_consumer(owner(CONVICTOR)).unwrap());
        });
    }

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

    /// The only notifier dies: what it had published is found when the sleep ends.
    fn crash_notify() {
        notifier_dies(false, false);
    }

    /// One of several notifiers dies.
    fn crash_notify_shared() {
        notifier_dies(true, false);
    }

    /// A notifier dies, and whoever convicts it notifies in its place: what was published is
    /// found without oversleeping.
    fn crash_notify_convicted() {
        notifier_dies(false, true);
    }

    /// A waiter dies, awake or parked or in its sleep, while its notifier notifies. Its
    /// successor is woken by the same notifier.
    fn crash_wait() {
        // The epoch, the sleep's beginning and end, the epoch.
        at_every_step_bounded(Some(3), 4, |mortal| {
            let bell = bell(false);
            let dying = {
                let (bell, mortal) = (Arc::clone(&bell), mortal.clone());
                thread::spawn(move || mortal.live(|| bell.wait_for(1)))
            };
            let mut notifier = bell.word.notifier();
            bell.number.store(1, Relaxed);
            notifier.notify(&bell.park);
            check!(dying.join().unwrap() != Some(false), "it survived and saw nothing");
            let successor = {
                let bell = Arc::clone(&bell);
                thread::spawn(move || bell.wait_for(2))
            };
            bell.number.store(2, Relaxed);
            notifier.notify(&bell.park);
            bell.park.expire();
            check!(successor.join().unwrap(), "the second is not found");
            check!(!bell.park.overslept(), "a wake is lost");
        });
    }

    /// A consumer dies while it waits and pops. Its successor finds what it had in hand, and is
    /// woken for what comes.
    fn crash_pop_wait() {
        // As before, then consumed, released and the end given back.
        at_every_step_bounded(Some(3), 7, |mortal| {
            let (spsc, bell) = (Spsc::new(), bell(false));
            let (mut producer, mut consumer) = spsc.ends();
            let dying = {
                let (bell, mortal) = (Arc::clone(&bell), mortal.clone());
                thread::spawn(move || {
                    mortal.live(move || {
                        let mut waiter = bell.word.waiter();
                        let popped = consumer.pop_wait(&mut waiter, &Bed(&bell.park), IN_TIME);
                        check_eq!(popped, Ok(1), "what was pushed and notified");
                    })
                })
            };
            let mut notifier = bell.word.notifier();
            check!(producer.push(1).is_ok(), "full while empty");
            notifier.notify(&bell.park);
            let survived = dying.join().unwrap().is_some();
            let mut consumer = spsc.inherit_consumer();
            let again = pop(&mut consumer);
            check!(again.is_none() || again == Some(1) && !survived, "{again:?} again");
            let successor = {
                let bell = Arc::clone(&bell);
                thread::spawn(move || {
                    let mut waiter = bell.word.waiter();
                    consumer.pop_wait(&mut waiter, &Bed(&bell.park), IN_TIME)
                })
            };
            check!(producer.push(2).is_ok(), "full with one of two");
            notifier.notify(&bell.park);
            bell.park.expire();
            check_eq!(successor.join().unwrap(), Ok(2), "after the death");
            check!(!bell.park.overslept(), "a wake is lost");
        });
    }

    /// A sender dies between publishing, marking its lane and notifying, while the receiver
    /// cools the lane. After the convictor's mark the receiver knows, or the bit says so.
    fn crash_ready_mark() {
        // The number, the bit if it is clear; nobody is parked.
        for marked in [false, true] {
            at_every_step(1, move |mortal| {
                let bell = bell(marked);
                let dying = {
                    let (bell, mortal) = (Arc::clone(&bell), mortal.clone());
                    thread::spawn(move || {
                        mortal.live(|| {
                            bell.number.store(1, Relaxed);
                            let fenced = published();
                            bell.ready().mark(LANE, &fenced);
                            bell.word.notifier().notify_after(&bell.park, &fenced);
                        });
                    })
                };
                let receiving = {
                    let bell = Arc::clone(&bell);
                    thread::spawn(move || bell.ready().cool(LANE, || bell.number.load(Relaxed) == 0))
                };
                dying.join().unwrap();
                let was_published = bell.number.load(Relaxed) == 1;
                bell.ready().mark(LANE, &published());
                let quiet = receiving.join().unwrap();
                check!(
                    !was_published || !quiet || bell.ready().is_marked(LANE),
                    "a message without its bit"
                );
            });
        }
    }

    /// A sender dies between publishing, marking and notifying, while the receiver sweeps the
    /// lane and parks. Whoever convicts it marks the lane and notifies: the receiver finds the
    /// message without oversleeping, and the bit is set.
    fn crash_ready_park() {
        // The number, the bit, the sequence, the wake.
        at_every_step_bounded(Some(3), 4, |mortal| {
            let bell = bell(false);
            let dying = {
                let (bell, mortal) = (Arc::clone(&bell), mortal.clone());
                thread::spawn(move || {
                    mortal.live(|| {
                        bell.number.store(1, Relaxed);
                        let fenced = published();
                        bell.ready().mark(LANE, &fenced);
                        bell.word.notifier().notify_after(&bell.park, &fenced);
                    });
                })
            };
            let receiving = {
                let bell = Arc::clone(&bell);
                thread::spawn(move || bell.wait_for(1))
            };
            dying.join().unwrap();
            let was_published = bell.number.load(Relaxed) == 1;
            let fenced = published();
            bell.ready().mark(LANE, &fenced);
            bell.word.notifier().notify_after(&bell.park, &fenced);
            bell.park.expire();
            check_eq!(receiving.join().unwrap(), was_published, "found");
            check!(!was_published || !bell.park.overslept(), "the convictor's wake is lost");
            check!(bell.ready().is_marked(LANE), "the convictor's mark is lost");
        });
    }

    /// The receiver dies in cooling while a sender sends. Its successor, which sweeps the lane
    /// before it sleeps, finds the message without oversleeping.
    fn crash_ready_cool() {
        // The bit cleared; and set again, if the message is seen.
        at_every_step(2, |mortal| {
            let bell = bell(true);
            let sending = {
                let bell = Arc::clone(&bell);
                thread::spawn(move || {
                    bell.number.store(1, Relaxed);
                    let fenced = published();
                    bell.ready().mark(LANE, &fenced);
                    bell.word.notifier().notify_after(&bell.park, &fenced);
                    bell.park.expire();
                })
            };
            let dying = {
                let (bell, mortal) = (Arc::clone(&bell), mortal.clone());
                thread::spawn(move || {
                    mortal.live(|| bell.ready().cool(LANE, || bell.number.load(Relaxed) == 0))
                })
            };
            let cooled = dying.join().unwrap();
            check!(bell.wait_for(1), "the message is lost");
            check!(!bell.park.overslept(), "the wake is lost");
            sending.join().unwrap();
            check!(cooled != Some(true) || bell.ready().is_marked(LANE), "its bit is lost");
        });
    }

    /// A thread that died is dead for nobody else: the budget is the thread's own.
    fn crash_is_the_threads_own() {
        at_every_step(1, |mortal| {
            let number = Arc::new(AtomicU32::new(0));
            let dying = {
                let (number, mortal) = (Arc::clone(&number), mortal.clone());
                thread::spawn(move || mortal.live(|| number.store(1, Relaxed)).is_some())
            };
            while number.load(Relaxed) == 0 {
                check!(!crash::dead(), "dead by another's budget");
                number.store(2, Relaxed);
                spin_loop();
            }
            let survived = dying.join().unwrap();
            check!(survived || number.load(Relaxed) == 2, "it stored after its death");
        });
    }
}
