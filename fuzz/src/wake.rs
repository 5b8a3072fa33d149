//! A body for waiting, waking and the ready bitmap.

use crate::common::memory::Memory;
use crate::common::park::BOUND;
use arbitrary::{Arbitrary, Result, Unstructured};
use shm_primitives::ready::ReadyBitmap;
use shm_primitives::ring::spsc::{Consumer, PopError, Producer, PushError, SpscRing};
use shm_primitives::sync::AtomicU32;
use shm_primitives::sync::Ordering::Relaxed;
use shm_primitives::wake::{Deadline, Notifier, Park, Waiter, WakeWord, published};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

const MOST_ACTS: usize = 100;
/// Sleeps of one wait that are told; after them each lasts as long as was asked for.
const MOST_SLEEPS: usize = 6;
const CAPACITY: usize = 4;

/// The memory: the wake word, then two words of bits.
const SEQUENCE: usize = 0;
const EPOCH: usize = 4;
const BITS: usize = 8;
const LANES: usize = 64;

/// What anybody may do at any time, also while the waiter sleeps.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Deed {
    Push,
    Pop,
    Notify(bool),
    Mark(u8),
    Poke(u8, Value),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Value {
    Exactly(u32),
    Small(u8),
    /// What stands there, and a little more or less.
    Near(i8),
    /// What the waiter's park was told to expect, and a little more or less.
    Expected(i8),
}

/// How a sleep ends.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum End {
    /// For no reason, after so many nanoseconds, or when it is over.
    Early(u16),
    OnTime,
    /// The thread did not get its core back at once.
    Late(u32),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Limit {
    Now,
    Past,
    After(u32),
    Never,
}

/// When the condition unwinds, if it comes to that.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Unwinds {
    AtLook(u16),
    /// Between the odd epoch and the sleep.
    Parking,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Act {
    Deed(Deed),
    Cool(u8, bool),
    /// The condition unwinds at this look, if it is asked so often.
    Wait {
        room: bool,
        limit: Limit,
        unwinds: Option<Unwinds>,
    },
    /// A successor takes the waiter's side.
    Inherit,
}

/// Wake words and bits that anybody may overwrite, clocks that jump, sleeps that end when they
/// like: no panic, no wait whose condition holds is in vain, none is longer than was asked for,
/// and a notifier wakes an epoch once.
pub fn hostile(data: &[u8]) {
    // Too few bytes are no fault.
    let _ = run(&mut Unstructured::new(data));
}

fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let memory = Memory::new(BITS + LANES / 8, u.arbitrary()?);
    let mut ring = SpscRing::<u32, CAPACITY>::new();
    let (producer, consumer) = ring.split();
    let word = WakeWord::at(&memory.region()).expect("large enough");
    let game = Game {
        memory: &memory,
        ready: ReadyBitmap::at(&memory.part(BITS, LANES / 8), LANES).expect("large enough"),
        producer: RefCell::new(producer),
        consumer: RefCell::new(consumer),
        queue: RefCell::default(),
        pushed: Cell::new(0),
        notifiers: RefCell::new((word.notifier(), word.shared_notifier())),
        answered: Cell::new([0; 2]),
        honest: Cell::new(true),
        expected: Cell::new(0),
        clock: Cell::new(u.arbitrary::<u16>()?.into()),
        wakes: Cell::new(0),
    };
    let mut waiter = word.waiter();
    for _ in 0..MOST_ACTS {
        if u.is_empty() {
            break;
        }
        match u.arbitrary()? {
            Act::Deed(deed) => game.act(deed),
            Act::Cool(lane, quiet) => game.cool(lane.into(), quiet),
            Act::Inherit => waiter = word.waiter(),
            Act::Wait { room, limit, unwinds } => {
                game.wait(u, &mut waiter, room, limit, unwinds)?;
            }
        }
    }
    memory.check_guards();
    Ok(())
}

struct Game<'m> {
    memory: &'m Memory,
    ready: ReadyBitmap<'m>,
    producer: RefCell<Producer<'m, u32>>,
    consumer: RefCell<Consumer<'m, u32>>,
    queue: RefCell<VecDeque<u32>>,
    pushed: Cell<u32>,
    notifiers: RefCell<(Notifier<'m>, Notifier<'m, true>)>,
    /// The epoch each has answered.
    answered: Cell<[u32; 2]>,
    /// Whether nobody has overwritten the epoch so far.
    honest: Cell<bool>,
    /// What the waiter's park was last told to expect.
    expected: Cell<u32>,
    clock: Cell<u64>,
    wakes: Cell<u32>,
}

impl Game<'_> {
    fn act(&self, deed: Deed) {
        match deed {
            // One of the ends may be waiting; then nobody else has it.
            Deed::Push => {
                let Ok(mut producer) = self.producer.try_borrow_mut() else { return };
                let n = self.pushed.get();
                match producer.push(n) {
                    Ok(()) => self.was_pushed(),
                    Err(error) => {
                        assert_eq!(error, PushError::Full(n));
                        assert_eq!(self.queue.borrow().len(), CAPACITY);
                    }
                }
            }
            Deed::Pop => {
                let Ok(mut consumer) = self.consumer.try_borrow_mut() else { return };
                let expected = self.queue.borrow_mut().pop_front().ok_or(PopError::Empty);
                assert_eq!(consumer.pop(), expected);
            }
            Deed::Notify(shared) => self.notify(shared.into()),
            Deed::Mark(lane) => {
                let (lane, before) = (usize::from(lane), self.bits());
                self.ready.mark(lane, &published());
                let bit = if lane < LANES { 1 << lane } else { 0 };
                assert_eq!(self.bits(), before | bit);
                self.check_bits();
            }
            Deed::Poke(at, value) => {
                let at = usize::from(at) % 4 * 4;
                let value = match value {
                    Value::Exactly(value) => value,
                    Value::Small(value) => value.into(),
                    Value::Near(by) => self.memory.get(at).wrapping_add(by as u32),
                    Value::Expected(by) => self.expected.get().wrapping_add(by as u32),
                };
                if at == EPOCH {
                    self.honest.set(false);
                }
                self.memory.set(at, value);
                self.check_bits();
            }
        }
    }

    fn was_pushed(&self) {
        self.queue.borrow_mut().push_back(self.pushed.get());
        self.pushed.set(self.pushed.get() + 1);
    }

    fn notify(&self, which: usize) {
        let (epoch, sequence) = (self.memory.get(EPOCH), self.memory.get(SEQUENCE));
        let mut answered = self.answered.get();
        let expected = u32::from(epoch % 2 == 1 && epoch != answered[which]);
        let wakes = self.wakes.get();
        let (alone, shared) = &mut *self.notifiers.borrow_mut();
        match which {
            0 => alone.notify(&Bell(self)),
            _ => shared.notify(&Bell(self)),
        }
        assert_eq!(self.wakes.get() - wakes, expected, "wakes for epoch {epoch}");
        assert_eq!(self.memory.get(SEQUENCE), sequence.wrapping_add(expected));
        assert_eq!(self.memory.get(EPOCH), epoch, "the waiter's");
        if expected == 1 {
            answered[which] = epoch;
            self.answered.set(answered);
        }
    }

    fn bits(&self) -> u64 {
        u64::from(self.memory.get(BITS)) | u64::from(self.memory.get(BITS + 4)) << 32
    }

    fn check_bits(&self) {
        let bits = self.bits();
        let marked = self.ready.marked().fold(0, |all, lane| all | 1u64 << lane);
        assert_eq!(marked, bits);
        assert!((0..LANES).all(|lane| self.ready.is_marked(lane) == (bits >> lane & 1 == 1)));
        assert!(!self.ready.is_marked(LANES));
    }

    fn cool(&self, lane: usize, quiet: bool) {
        let before = self.bits();
        let bit = if lane < LANES { 1 << lane } else { 0 };
        let cooled = self.ready.cool(lane, || {
            assert_eq!(self.bits(), before & !bit);
            quiet
        });
        assert_eq!(cooled, quiet);
        assert_eq!(self.bits(), if quiet { before & !bit } else { before | bit });
        self.check_bits();
    }

    /// Whether there is what is waited for.
    fn is_there(&self, room: bool) -> bool {
        let held = self.queue.borrow().len();
        if room { held < CAPACITY } else { held > 0 }
    }

    fn wait(
        &self,
        u: &mut Unstructured<'_>,
        waiter: &mut Waiter<'_>,
        room: bool,
        limit: Limit,
        unwinds: Option<Unwinds>,
    ) -> Result<()> {
        let begun = self.clock.get();
        let deadline = match limit {
            Limit::Now => Deadline::NOW,
            Limit::Past => Deadline::at(begun / 2),
            Limit::After(nanoseconds) => Deadline::at(begun + u64::from(nanoseconds)),
            Limit::Never => Deadline::NEVER,
        };
        let mut sleeps = VecDeque::new();
        for _ in 0..u.int_in_range(0..=MOST_SLEEPS)? {
            let deeds: [Option<Deed>; 4] = u.arbitrary()?;
            sleeps.push_back((deeds, u.arbitrary()?));
        }
        let told = sleeps.len() as u64;
        let bed = Bed {
            game: self,
            room,
            deadline: deadline.nanoseconds(),
            jumps: Cell::new(u.arbitrary()?),
            sleeps: RefCell::new(sleeps),
            slept: Cell::new(0),
        };
        let (was_there, wakes) = (self.is_there(room), self.wakes.get());
        let mut looks = 0u32;
        let mut look = |there: bool| {
            looks += 1;
            let unwind = unwinds.is_some_and(|unwinds| match unwinds {
                Unwinds::AtLook(at) => looks == u32::from(at),
                Unwinds::Parking => self.memory.get(EPOCH) % 2 == 1,
            });
            if unwind {
                // Not a panic: the fuzzer would take it for a fault.
                resume_unwind(Box::new(()));
            }
            assert_eq!(there, self.is_there(room));
            there
        };
        let came = catch_unwind(AssertUnwindSafe(|| {
            if room {
                let mut producer = self.producer.borrow_mut();
                waiter.wait(&bed, deadline, || look(!producer.is_full()))
            } else {
                let mut consumer = self.consumer.borrow_mut();
                waiter.wait(&bed, deadline, || look(!consumer.is_empty()))
            }
        }));
        let slept = bed.slept.get();
        // Every sleep told may end at once; of the others each is as long as can be, but the
        // last.
        let untold = match limit {
            Limit::Never => 1,
            _ => deadline.nanoseconds().saturating_sub(begun) / BOUND + 1,
        };
        assert!(slept <= told + untold, "{slept} sleeps");
        let Ok(came) = came else {
            assert!(unwinds.is_some(), "a fault below");
            return Ok(());
        };
        assert_eq!(came, self.is_there(room));
        assert!(!was_there || slept == 0 && came, "waited for what was there");
        assert!(
            came || deadline == Deadline::NOW || self.clock.get() >= deadline.nanoseconds(),
            "given up too early"
        );
        if slept == 0 {
            assert_eq!(self.wakes.get(), wakes, "woken while awake");
        }
        if self.honest.get() && slept > 0 {
            assert_eq!(self.memory.get(EPOCH) % 2, 0, "nobody is parked");
        }
        // And the call that waits and acts in one.
        if room {
            let mut producer = self.producer.borrow_mut();
            let pushed = producer.push_wait(self.pushed.get(), waiter, &Bell(self), Deadline::NOW);
            assert_eq!(pushed.is_ok(), came);
            pushed.is_ok().then(|| self.was_pushed());
        } else {
            let mut consumer = self.consumer.borrow_mut();
            let popped = consumer.pop_wait(waiter, &Bell(self), Deadline::NOW);
            assert_eq!(popped, self.queue.borrow_mut().pop_front().ok_or(PopError::Empty));
        }
        Ok(())
    }
}

/// A notifier's park.
struct Bell<'g, 'm>(&'g Game<'m>);

impl Park for Bell<'_, '_> {
    fn now(&self) -> u64 {
        panic!("who does not wait reads no clock")
    }
    fn wait(&self, _: &AtomicU32, _: u32, _: u64) {
        panic!("who does not wait does not sleep")
    }
    fn wake(&self, _: &AtomicU32) {
        self.0.wakes.set(self.0.wakes.get() + 1);
    }
}

/// The waiter's park.
struct Bed<'g, 'm> {
    game: &'g Game<'m>,
    room: bool,
    deadline: u64,
    /// How the clock goes on, two bits a look; when they are used up, evenly.
    jumps: Cell<u32>,
    sleeps: RefCell<VecDeque<([Option<Deed>; 4], End)>>,
    slept: Cell<u64>,
}

impl Park for Bed<'_, '_> {
    fn now(&self) -> u64 {
        let jumps = self.jumps.get();
        self.jumps.set(jumps >> 2);
        let step = match jumps & 3 {
            0 => 5000,
            // Little enough to spin on, a core taken away, a deadline or two passed.
            1 => 1,
            2 => 300_000,
            _ => 3 * BOUND,
        };
        self.game.clock.set(self.game.clock.get() + step);
        self.game.clock.get()
    }

    fn wait(&self, word: &AtomicU32, expected: u32, until: u64) {
        let game = self.game;
        game.expected.set(expected);
        let begun = game.clock.get();
        assert!(!game.is_there(self.room), "asleep although it is there");
        assert!(begun < until && until <= self.deadline.min(begun.saturating_add(BOUND)));
        if game.honest.get() {
            let epoch = game.memory.get(EPOCH);
            assert!(epoch % 2 == 1 && !game.answered.get().contains(&epoch), "a stale epoch");
        }
        assert_eq!(word.load(Relaxed), expected, "nothing happens between the look and the sleep");
        self.slept.set(self.slept.get() + 1);
        let Some((deeds, end)) = self.sleeps.borrow_mut().pop_front() else {
            if self.deadline == u64::MAX {
                // Nobody wakes, but it comes.
                game.act(if self.room { Deed::Pop } else { Deed::Push });
            }
            return game.clock.set(until);
        };
        let wakes = game.wakes.get();
        deeds.into_iter().flatten().for_each(|deed| game.act(deed));
        if game.wakes.get() != wakes {
            return;
        }
        game.clock.set(match end {
            End::Early(after) => until.min(begun + u64::from(after)),
            End::OnTime => until,
            End::Late(by) => until + u64::from(by),
        });
    }

    fn wake(&self, _: &AtomicU32) {
        panic!("the waiter wakes nobody")
    }
}
