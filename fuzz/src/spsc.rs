//! Bodies for the bulk ring.

use crate::common::memory::Memory;
use crate::common::owner;
use crate::common::spsc::{Case, Item, Op, Reopen, run_split, run_trusted, run_untrusted};
use arbitrary::{Arbitrary, Result, Unstructured};
use shm_primitives::identity::{Dead, OwnerId};
use shm_primitives::part::{Corrupt, End, Untrusted};
use shm_primitives::ring::spsc::{Consumer, Options, PopError, Producer, PushError, SpscRingRef};

impl<'a> Arbitrary<'a> for Op {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        // One byte for the choice, so that a byte changed by the fuzzer is one operation
        // changed.
        let count = |u: &mut Unstructured<'a>| u.int_in_range(0..=80usize);
        Ok(match u.int_in_range(0..=17u8)? {
            0 | 1 => Op::Push,
            2 => Op::PushWith,
            3 => Op::PushSlice(count(u)?),
            4 => Op::Grant { max: count(u)?, commit: None },
            5 => Op::Grant { max: count(u)?, commit: Some(count(u)?) },
            6 => Op::GrantExact { count: count(u)? },
            7 => Op::GrantAligned { max: count(u)?, alignment: u.int_in_range(0..=64)? },
            8 => Op::Fill { max: count(u)?, values: count(u)? },
            9 | 10 => Op::Pop,
            11 => Op::PopSlice(count(u)?),
            12 => Op::Peek,
            13 => Op::Read { max: count(u)?, release: None },
            14 => Op::Read { max: count(u)?, release: Some(count(u)?) },
            15 => Op::ForceAdvance(count(u)?),
            16 if u.arbitrary()? => Op::ProducerSizes,
            16 => Op::ConsumerSizes,
            _ => Op::Reopen(*u.choose(&[
                Reopen::Producer,
                Reopen::Consumer,
                Reopen::DeadProducer,
                Reopen::DeadConsumer,
            ])?),
        })
    }
}

const MOST_OPS: usize = 400;

/// Operations in any order, each way to own a ring, against a queue.
pub fn model(data: &[u8]) {
    fn run<T: Item>(way: u8, case: &Case) {
        match way {
            0 => run_split::<T>(case),
            1 => run_trusted::<T>(case),
            _ => run_untrusted::<T>(case),
        }
    }
    fn read(u: &mut Unstructured<'_>) -> Result<()> {
        let (element, way) = (u.int_in_range(0..=2u8)?, u.int_in_range(0..=2u8)?);
        let capacity = 1 << u.int_in_range(0..=6u8)?;
        let start = u.arbitrary::<i8>()? as u32;
        let mut ops = Vec::new();
        while !u.is_empty() && ops.len() < MOST_OPS {
            ops.push(u.arbitrary()?);
        }
        let case = Case { capacity, start, ops };
        match element {
            0 => run::<u32>(way, &case),
            1 => run::<[u8; 3]>(way, &case),
            _ => run::<[u64; 3]>(way, &case),
        }
        Ok(())
    }
    // Too few bytes are no fault.
    let _ = read(&mut Unstructured::new(data));
}

/// Which word is overwritten.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Word {
    Write,
    Released,
    Consumed,
    Owner(bool),
    Header(u8),
    Any(u16),
}

/// And with what.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Value {
    Exactly(u32),
    /// What another word holds, and a little more or less.
    Near(Word, i8),
    /// What another word holds, and a capacity more or less.
    Lap(Word, bool),
    Power(u8),
    Owner(u8),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Poke {
    word: Word,
    value: Value,
}

impl Poke {
    fn offset(word: Word, memory: &Memory) -> usize {
        match word {
            Word::Write => 64,
            Word::Released => 128,
            Word::Consumed => 192,
            Word::Owner(reading) => 40 + 4 * usize::from(reading),
            Word::Header(word) => word as usize % 16 * 4,
            Word::Any(word) => word as usize % (memory.size() / 4) * 4,
        }
    }

    fn apply(&self, memory: &Memory) {
        let get = |word| memory.get(Self::offset(word, memory));
        let value = match self.value {
            Value::Exactly(value) => value,
            Value::Near(word, by) => get(word).wrapping_add(by as u32),
            Value::Lap(word, true) => get(word).wrapping_add(get(Word::Header(5))),
            Value::Lap(word, false) => get(word).wrapping_sub(get(Word::Header(5))),
            Value::Power(power) => 1u32.wrapping_shl(power.into()),
            Value::Owner(index) => owner(index.into()).word(),
        };
        memory.set(Self::offset(self.word, memory), value);
    }
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Act {
    Poke(Poke),
    Claim(bool),
    Recover(bool),
    Drop(bool),
    Attach,
    Push(u8),
    PushWith(u8),
    PushSlice(u8),
    ProducerSizes,
    Pop,
    PopSlice(u8),
    ForceAdvance(u32),
    ConsumerSizes,
}

/// How the memory is before anybody attaches to it.
#[derive(Arbitrary, Debug)]
struct Beginning {
    element: u8,
    capacity: u8,
    alignment: u8,
    start: i8,
    /// Bytes more or less than the ring takes.
    slack: i8,
    expected: Option<u8>,
    /// Whether a ring is created there at all.
    created: bool,
    spoilt: [Option<Poke>; 3],
}

/// A ring in memory that is overwritten with anything between operations, also by the
/// one at the other end.
pub fn hostile(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let Ok(beginning) = u.arbitrary::<Beginning>() else { return };
    match beginning.element % 3 {
        0 => hostile_to::<u32>(&beginning, &mut u),
        1 => hostile_to::<[u8; 3]>(&beginning, &mut u),
        _ => hostile_to::<[u64; 3]>(&beginning, &mut u),
    }
}

fn hostile_to<T: Item>(beginning: &Beginning, u: &mut Unstructured<'_>) {
    let options = Options::new(1 << (beginning.capacity % 7))
        .alignment(1 << (beginning.alignment % 13))
        .start(beginning.start as u32);
    let Some(size) = options.required_size::<T>() else { return };
    let memory = Memory::new(size.saturating_add_signed(beginning.slack.into()).max(256), 0);
    if beginning.created {
        let before = memory.bytes();
        // SAFETY: nobody else knows this memory.
        let created = unsafe { SpscRingRef::<T>::init_at(memory.region(), options) };
        assert!(created.is_ok() || memory.bytes() == before, "written to: {created:?}");
    } else {
        let words: &[u8] = u.bytes(u.len().min(256) / 4 * 4).unwrap_or_default();
        for (at, word) in words.chunks_exact(4).enumerate() {
            memory.set(at * 4, u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
        }
    }
    beginning.spoilt.iter().flatten().for_each(|poke| poke.apply(&memory));

    let mut game = Game::<T> { memory: &memory, ring: None, producer: None, consumer: None };
    game.attach(beginning.expected.map(|power| 1u32.wrapping_shl(power.into())));
    let mut acts = 0;
    while !u.is_empty() && acts < MOST_OPS {
        let Ok(act) = u.arbitrary() else { break };
        game.act(act);
        acts += 1;
    }
}

/// One process's view of the memory, with the ends it has.
struct Game<'m, T> {
    memory: &'m Memory,
    ring: Option<SpscRingRef<'m, T, Untrusted>>,
    producer: Option<Producer<'m, T, Untrusted>>,
    consumer: Option<Consumer<'m, T, Untrusted>>,
}

/// Who claims; pokes may write the same word.
fn us() -> OwnerId {
    owner(7)
}

impl<T: Item> Game<'_, T> {
    /// What fails has written nothing.
    fn unless_written<R, E: std::fmt::Display>(
        memory: &Memory,
        attempt: impl FnOnce() -> std::result::Result<R, E>,
    ) -> Option<R> {
        let before = memory.bytes();
        match attempt() {
            Ok(value) => Some(value),
            Err(error) => {
                assert!(memory.bytes() == before, "written to: {error}");
                None
            }
        }
    }

    fn attach(&mut self, capacity: Option<u32>) {
        let memory = self.memory;
        let attach = || SpscRingRef::attach_untrusted(memory.region(), capacity);
        if let Some(ring) = Self::unless_written(memory, attach) {
            assert!(capacity.is_none_or(|capacity| capacity as usize == ring.capacity()));
            assert!(ring.capacity() * size_of::<T>() <= memory.size());
            self.ring = Some(ring);
        }
    }

    fn claim(&mut self, end: End) {
        let Some(ring) = self.ring else { return };
        match end {
            End::Writing if self.producer.is_none() => {
                self.producer = Self::unless_written(self.memory, || ring.claim_producer(us()));
            }
            End::Reading if self.consumer.is_none() => {
                self.consumer = Self::unless_written(self.memory, || ring.claim_consumer(us()));
            }
            _ => {}
        }
    }

    fn recover(&mut self, end: End) {
        let Some(ring) = self.ring else { return };
        let Ok(Some(last)) = ring.owner(end) else { return };
        // SAFETY: an id without a process, or ours without a handle (checked below).
        let dead = unsafe { Dead::assume(last) };
        let heir = if last == us() { owner(8) } else { us() };
        match end {
            End::Writing if self.producer.is_none() => {
                self.producer = ring.recover_producer(dead, heir).ok();
            }
            End::Reading if self.consumer.is_none() => {
                self.consumer = ring.recover_consumer(dead, heir).ok();
            }
            _ => {}
        }
    }

    /// Uses the producer, if there is one. What it found wrong once stays wrong, and then
    /// it touches nothing.
    fn produce(&mut self, with: impl FnOnce(&mut Producer<'_, T, Untrusted>) -> bool) {
        let Some(producer) = &mut self.producer else { return };
        let found = producer.corruption();
        let before = found.map(|_| self.memory.bytes());
        let done = with(producer);
        if let Some(before) = before {
            assert!(self.memory.bytes() == before, "written to by a corrupt producer");
            assert_eq!(producer.corruption(), found);
        }
        assert!(!done || producer.corruption().is_none());
        check(producer.corruption(), producer.capacity());
    }

    /// The same with the consumer.
    fn consume(&mut self, with: impl FnOnce(&mut Consumer<'_, T, Untrusted>) -> bool) {
        let Some(consumer) = &mut self.consumer else { return };
        let found = consumer.corruption();
        let before = found.map(|_| self.memory.bytes());
        let done = with(consumer);
        if let Some(before) = before {
            assert!(self.memory.bytes() == before, "written to by a corrupt consumer");
            assert_eq!(consumer.corruption(), found);
        }
        assert!(!done || consumer.corruption().is_none());
        check(consumer.corruption(), consumer.capacity());
    }

    fn act(&mut self, act: Act) {
        let end = |reading| if reading { End::Reading } else { End::Writing };
        match act {
            Act::Poke(poke) => poke.apply(self.memory),
            Act::Claim(reading) => self.claim(end(reading)),
            Act::Recover(reading) => self.recover(end(reading)),
            Act::Drop(false) => self.producer = None,
            Act::Drop(true) => self.consumer = None,
            Act::Attach => self.attach(None),
            Act::Push(n) => self.produce(|producer| {
                let value = T::nth(n.into());
                let pushed = producer.push(value);
                match pushed {
                    Ok(()) => {}
                    Err(PushError::Full(back)) => assert_eq!(back, value),
                    Err(PushError::Corrupt(back)) => {
                        assert!(back == value && producer.corruption().is_some());
                    }
                }
                pushed.is_ok()
            }),
            Act::PushWith(n) => self.produce(|producer| {
                let mut ran = false;
                let pushed = producer.push_with(|| {
                    ran = true;
                    T::nth(n.into())
                });
                let pushed = pushed.is_ok();
                assert_eq!(pushed, ran);
                pushed
            }),
            Act::PushSlice(count) => self.produce(|producer| {
                let values: Vec<T> = (0..count.into()).map(T::nth).collect();
                let pushed = producer.push_slice(&values);
                assert!(pushed <= values.len().min(producer.capacity()));
                pushed != 0
            }),
            Act::ProducerSizes => self.produce(|producer| {
                let (len, free) = (producer.len(), producer.free());
                assert_eq!(len + free, producer.capacity());
                assert!(producer.corruption().is_none() || free == 0);
                // The two words of the consumer may contradict each other, so no more than
                // that they end can be said of the others.
                producer.is_full();
                producer.is_empty();
                free != 0 && producer.corruption().is_none()
            }),
            Act::Pop => self.consume(|consumer| match consumer.pop() {
                Ok(_) => true,
                Err(PopError::Empty) => false,
                Err(PopError::Corrupt) => {
                    assert!(consumer.corruption().is_some());
                    false
                }
            }),
            Act::PopSlice(count) => self.consume(|consumer| {
                let mut values = vec![T::nth(0); count.into()];
                let popped = consumer.pop_slice(&mut values);
                assert!(popped <= values.len().min(consumer.capacity()));
                popped != 0
            }),
            Act::ForceAdvance(count) => self.consume(|consumer| {
                let skipped = consumer.force_advance(count as usize);
                assert!(skipped <= consumer.capacity().min(count as usize));
                skipped != 0
            }),
            Act::ConsumerSizes => self.consume(|consumer| {
                let (len, free) = (consumer.len(), consumer.free());
                assert_eq!(len + free, consumer.capacity());
                assert!(consumer.corruption().is_none() || len == 0);
                assert_eq!(consumer.is_empty(), len == 0);
                assert_eq!(consumer.is_full(), free == 0);
                len != 0
            }),
        }
    }
}

/// What is reported as impossible is.
fn check(corrupt: Option<Corrupt>, capacity: usize) {
    if let Some(corrupt) = corrupt {
        assert!(corrupt.found as usize > capacity && corrupt.limit as usize == capacity);
    }
}
