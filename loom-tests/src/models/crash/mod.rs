//! Death at any step of an operation, in every interleaving with a side that goes on.
//!
//! One thread of each model is mortal: it dies when it reaches the step after its budget. A
//! model is explored with the budgets 0, 1, 2, … until nobody dies in any interleaving. After
//! the join somebody recovers, and the structure holds what its module promises.

pub mod channel;
pub mod counter;
pub mod frame;
pub mod lane;
pub mod monitor;
pub mod pool;
pub mod ready;
pub mod segment;
pub mod service;
pub mod spsc;
pub mod table;
pub mod wake;

use crate::harness::{check, explore_bounded, models, owner};
use loom::sync::Arc;
use loom::thread;
use shm_primitives::identity::{Dead, OwnerId};
use shm_primitives::sync::Ordering::Relaxed;
use shm_primitives::sync::crash::{self, Outcome};
use shm_primitives::sync::{AtomicU32, spin_loop};
use std::sync::atomic::AtomicBool;

/// The models of this folder, a list for each file.
pub const ALL: &[&[(&str, fn())]] = &[
    MODELS,
    spsc::MODELS,
    frame::MODELS,
    wake::MODELS,
    ready::MODELS,
    monitor::MODELS,
    channel::MODELS,
    table::MODELS,
    segment::MODELS,
    pool::MODELS,
    lane::MODELS,
    counter::MODELS,
    service::MODELS,
];

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

models! {
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
