//! Creating a part while others try to attach.

use crate::harness::{Lent, Memory, check, explore, models};
use loom::thread;
use shm_primitives::part::AttachError;
use shm_primitives::ring::spsc::{Options, SpscRingRef};

models! {
    /// An attacher finds either no part or a whole one, never one half written.
    fn part_create_attach() {
        explore(|| {
            let options = Options::new(2).start(7);
            let memory = Lent::new(Memory::new(options.required_size::<u32>().unwrap()));
            // SAFETY: `memory` is dropped after the join; nobody else knows it yet.
            unsafe { SpscRingRef::<u32>::zero_at(&memory.get().region(), options) };
            let creator = {
                let memory = memory.clone();
                // SAFETY: as above; this thread alone creates.
                thread::spawn(move || unsafe {
                    SpscRingRef::<u32>::init_at(memory.get().region(), options).unwrap();
                })
            };
            // SAFETY: the other writer is the creator.
            match unsafe { SpscRingRef::<u32>::attach(memory.get().region(), Some(2)) } {
                Ok(ring) => {
                    let consumer = ring.claim_consumer(crate::harness::owner(1));
                    check!(consumer.is_ok(), "attached to unfinished positions: {consumer:?}");
                    check!(consumer.unwrap().pop().is_err(), "an element in a new ring");
                }
                Err(AttachError::WrongMagic { found: 0, .. }) => {}
                Err(error) => check!(false, "attached to half a header: {error}"),
            }
            creator.join().unwrap();
        });
    }
}
