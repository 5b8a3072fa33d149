//! Lets an operation die at each of its steps, one after the other.

use shm_primitives::sync::crash::{Outcome, run};

/// Runs `operation`; `None` if it died at step number `budget`. Move the handle it works
/// with into it, so that it is dropped by the unwinding, as any other handle.
pub fn die<R>(budget: u32, operation: impl FnOnce() -> R) -> Option<R> {
    match run(budget, operation) {
        Outcome::Survived(value, _) => Some(value),
        Outcome::Died => None,
    }
}

/// Calls `attempt` with the budgets 0, 1, 2, … until it says that the operation
/// survived; answers how often it died. An attempt builds the structure afresh, calls
/// [`die`], recovers and checks what is left.
pub fn at_every_step(what: &str, mut attempt: impl FnMut(u32) -> bool) -> u32 {
    for budget in 0..1000 {
        let context = Context(what, budget);
        if attempt(budget) {
            return context.1;
        }
    }
    panic!("{what}: does not end");
}

/// Says where it failed.
struct Context<'a>(&'a str, u32);

impl Drop for Context<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in: {}, dead at step {}", self.0, self.1);
        }
    }
}
