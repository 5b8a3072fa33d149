//! Crash points: letting a thread die between any two of its stores.
//!
//! Under `--cfg crash_points` (a cfg and never a feature: features of one crate
//! unify across a build, and no product may carry this) each store,
//! read-modify-write and wake that goes through the door is a *step*. `run`
//! gives its closure a budget of steps; the step that would exceed it does not
//! happen, and the thread unwinds to `run` as a process killed there would have
//! stopped. A test runs an operation with the budgets 0, 1, 2, … until it
//! survives, and after each death lets the survivor recover and checks what is
//! left.
//!
//! A dead process runs no destructors, so every `Drop` that would touch shared
//! memory begins with `if dead() { return }`. A thread that reaches the door
//! although it is dead makes `run` panic.
//!
//! `run_until` kills the process itself instead: at the step nothing else happens any more, in any
//! thread, and the test is another process. `run_all_until` counts the steps of all threads. A crate on top of this one names its system calls as
//! steps by [`step`].
//!
//! Without the cfg, [`step`] and [`dead`] are empty and vanish.

#[cfg(not(crash_points))]
mod imp {
    /// Counts a step. Nothing in this build.
    #[inline(always)]
    pub fn step() {}

    /// Whether this thread has died at a crash point. Never in this build.
    #[inline(always)]
    pub fn dead() -> bool {
        false
    }
}

#[cfg(crash_points)]
mod imp {
    use core::cell::Cell;
    use core::sync::atomic::{AtomicI64, Ordering::Relaxed};
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    use std::sync::Mutex;

    #[derive(Clone, Copy)]
    struct State {
        /// Steps still allowed, if this thread is being counted.
        budget: Option<u32>,
        taken: u32,
        dead: bool,
        /// The door was reached after death.
        haunted: bool,
        /// What ends the process at the step, if it is the whole of it that dies.
        end: Option<fn() -> !>,
    }

    const ALIVE: State = State { budget: None, taken: 0, dead: false, haunted: false, end: None };

    // Loom runs its threads on one OS thread and has thread locals of its own.
    #[cfg(not(all(loom, any(test, feature = "loom"))))]
    std::thread_local! { static STATE: Cell<State> = const { Cell::new(ALIVE) } }
    #[cfg(all(loom, any(test, feature = "loom")))]
    loom::thread_local! { static STATE: Cell<State> = Cell::new(ALIVE) }

    /// What unwinds: no other code can catch it by its type.
    struct Death;

    /// Counts a step, and dies here if the budget is used up.
    pub fn step() {
        let mut state = STATE.with(Cell::get);
        if state.dead {
            state.haunted = true;
            STATE.with(|s| s.set(state));
            return;
        }
        match state.budget {
            None => return step_of_all(),
            Some(0) => state.dead = true,
            Some(left) => {
                state.budget = Some(left - 1);
                state.taken += 1;
            }
        }
        STATE.with(|s| s.set(state));
        if state.dead {
            if let Some(end) = state.end {
                end();
            }
            // Without the panic hook: a death is not a failure to be printed.
            resume_unwind(std::boxed::Box::new(Death));
        }
    }

    /// Steps that all threads without a budget of their own have together; [`OFF`] if they are not
    /// counted.
    static LEFT: AtomicI64 = AtomicI64::new(OFF);
    const OFF: i64 = i64::MAX;
    static END: Mutex<Option<fn() -> !>> = Mutex::new(None);

    fn step_of_all() {
        if LEFT.load(Relaxed) != OFF
            && LEFT.fetch_sub(1, Relaxed) <= 0
            && let Ok(end) = END.lock()
            && let Some(end) = *end
        {
            end();
        }
    }

    /// Whether this thread has died at a crash point and is unwinding.
    pub fn dead() -> bool {
        STATE.with(Cell::get).dead
    }

    /// How a run under [`run`] ended.
    #[derive(Debug)]
    pub enum Outcome<R> {
        /// The budget sufficed: the value, and the steps taken.
        Survived(R, u32),
        /// It died at its last step.
        Died,
    }

    /// Runs `operation` on this thread and lets it die when it has taken
    /// `budget` steps and reaches the next.
    ///
    /// # Panics
    ///
    /// If `operation` panics for a reason of its own, or if a destructor reached
    /// the door after the death.
    pub fn run<R>(budget: u32, operation: impl FnOnce() -> R) -> Outcome<R> {
        STATE.with(|s| s.set(State { budget: Some(budget), ..ALIVE }));
        let result = catch_unwind(AssertUnwindSafe(operation));
        let state = STATE.with(|s| s.replace(ALIVE));
        assert!(!state.haunted, "a destructor touched shared memory after its thread had died");
        match result {
            Ok(value) => Outcome::Survived(value, state.taken),
            Err(payload) if payload.is::<Death>() => Outcome::Died,
            Err(payload) => resume_unwind(payload),
        }
    }

    /// Runs `operation` on this thread and calls `end` when it has taken `budget` steps and reaches
    /// the next: `end` kills the process there, and no destructor of any thread runs. What comes
    /// back, if it survives, are its value and the steps taken.
    ///
    /// # Panics
    ///
    /// If `operation` does.
    pub fn run_until<R>(budget: u32, end: fn() -> !, operation: impl FnOnce() -> R) -> (R, u32) {
        STATE.with(|s| s.set(State { budget: Some(budget), end: Some(end), ..ALIVE }));
        let value = operation();
        (value, STATE.with(|s| s.replace(ALIVE)).taken)
    }

    /// The same with the steps of all threads: whichever takes the last one ends the process. What
    /// comes when is then not the same each time.
    ///
    /// # Panics
    ///
    /// If `operation` does.
    pub fn run_all_until<R>(
        budget: u32,
        end: fn() -> !,
        operation: impl FnOnce() -> R,
    ) -> (R, u32) {
        if let Ok(mut slot) = END.lock() {
            *slot = Some(end);
        }
        LEFT.store(budget.into(), Relaxed);
        let value = operation();
        let left = LEFT.swap(OFF, Relaxed);
        (value, u32::try_from(i64::from(budget) - left).unwrap_or(0))
    }
}

pub use imp::*;
