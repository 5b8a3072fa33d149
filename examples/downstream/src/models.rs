//! Loom models of [`Pipe`]: the word `closed`, the ring and the wake word together, in every
//! interleaving and with every value that a load may return.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --lib --features loom
//! ```

use crate::pipe::{Closed, Error, Pipe};
use loom::sync::Arc;
use loom::thread;
use shm_primitives::identity::{Dead, OwnerId};
use shm_primitives::region::Region;
use shm_primitives::ring::frame::{FrameRingRef, Options, Packing};
use shm_primitives::sync::{AtomicU32, LOOM};
use shm_primitives::wake::{Deadline, LoomPark, WakeWord};
use std::cell::Cell;

thread_local! {
    // Loom runs all threads of a model on the thread of its test.
    static WEAKENED: Cell<Option<Closed>> = const { Cell::new(None) };
}

/// The access that the model under way makes with a weaker ordering.
pub(crate) fn weakened() -> Option<Closed> {
    WEAKENED.get()
}

fn explore(weakened: Option<Closed>, model: fn()) {
    const { assert!(LOOM, "not compiled against loom: the models would prove nothing") };
    WEAKENED.set(weakened);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

const SENDER: OwnerId = OwnerId::new(1, 1).unwrap();
const RECEIVER: OwnerId = OwnerId::new(2, 1).unwrap();
const SUCCESSOR: OwnerId = OwnerId::new(1, 2).unwrap();

/// Before the clock of a `LoomPark` runs out.
const IN_TIME: Deadline = Deadline::at(1);

/// A pipe with the smallest ring. Its memory is leaked, which spares the model all unsafe
/// lifetimes: a model is some thousand executions of a few kilobytes each.
fn pipe() -> Pipe<'static> {
    const ALIGNMENT: usize = 64;
    let options = Options::new(64).packing(Packing::Dense);
    let size = options.required_size().unwrap();
    let memory = vec![0; size + ALIGNMENT].leak();
    let start = memory.as_ptr().align_offset(ALIGNMENT);
    let memory = &mut memory[start..start + size];
    let region = Region::from_mut(memory);
    // SAFETY: the region is new, large enough, aligned, and known here alone.
    let ring = unsafe {
        FrameRingRef::zero_at(&region, options);
        FrameRingRef::init_at(region, options).unwrap()
    };
    fn leak<T>(value: T) -> &'static T {
        Box::leak(Box::new(value))
    }
    Pipe::new(leak(AtomicU32::new(0)), leak(WakeWord::new()), leak(WakeWord::new()), ring)
}

/// A message and the end: both arrive, in this order, and no wake is lost.
fn message_and_end() {
    let pipe = pipe();
    let mut sender = pipe.sender(SENDER).unwrap();
    let mut receiver = pipe.receiver(RECEIVER).unwrap();
    let park = Arc::new(LoomPark::new());
    let sending = {
        let park = Arc::clone(&park);
        thread::spawn(move || {
            sender.push(8, |message| message.fill(7)).unwrap();
            sender.close(&*park);
            // Nobody notifies any more: who sleeps now would sleep for ever.
            park.expire();
        })
    };
    // A poll, then a wait.
    for deadline in [Deadline::NOW, IN_TIME] {
        match receiver.recv(&*park, deadline) {
            Ok(message) => {
                assert_eq!(*message, [7; 8]);
                message.release(&*park);
                break;
            }
            Err(Error::TimedOut) if deadline == Deadline::NOW => {}
            Err(Error::Closed) => panic!("the last message is lost"),
            Err(error) => panic!("{error}"),
        }
    }
    let end = receiver.recv(&*park, IN_TIME).map(|message| message.to_vec());
    assert_eq!(end, Err(Error::Closed));
    assert!(!park.overslept(), "a wake is lost");
    sending.join().unwrap();
}

#[test]
fn the_end_comes_after_the_last_message() {
    explore(None, message_and_end);
}

#[test]
#[should_panic = "the last message is lost"]
fn a_relaxed_store_of_closed_loses_it() {
    explore(Some(Closed::Store), message_and_end);
}

#[test]
#[should_panic = "the last message is lost"]
fn a_relaxed_load_of_closed_loses_it() {
    explore(Some(Closed::Load), message_and_end);
}

/// A sender that dies after its message, before it notifies: the takeover does that for it.
#[test]
fn taking_over_wakes_in_place_of_the_dead() {
    explore(None, || {
        let pipe = pipe();
        let mut sender = pipe.sender(SENDER).unwrap();
        let mut receiver = pipe.receiver(RECEIVER).unwrap();
        let park = Arc::new(LoomPark::new());
        let sending = {
            let park = Arc::clone(&park);
            thread::spawn(move || {
                sender.push(8, |message| message.fill(7)).unwrap();
                // A process that is killed drops nothing.
                std::mem::forget(sender);
                // SAFETY: the handle is gone, and was the only one with this id.
                let dead = unsafe { Dead::assume(SENDER) };
                let _successor = pipe.recover_sender(dead, SUCCESSOR, &*park).unwrap();
                park.expire();
            })
        };
        match receiver.recv(&*park, IN_TIME) {
            Ok(message) => message.release(&*park),
            Err(error) => panic!("{error}"),
        }
        assert!(!park.overslept(), "a wake is lost");
        sending.join().unwrap();
    });
}
