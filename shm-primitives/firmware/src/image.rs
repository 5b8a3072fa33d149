//! The main loop of every image: it takes what the interrupt sends, asleep while there is nothing,
//! checks it, and reports.

use core::hint;
use core::time::Duration;

use semihosting::{println, process};
use shm_primitives::wake::{Deadline, Park, Waiter};

use crate::ends::Takes;
use crate::source::{self, COUNTS, Progress, STRETCH, Source};
use crate::witness::{self, Activity};
use crate::{clock, frames, ring, wake};

/// What the main loop owns.
pub struct Image {
    items: ring::Consumer,
    frames: frames::Reader,
    checked: frames::Reader,
    waiter: Waiter<'static>,
}

/// Hands the interrupt its ends of everything and returns the main loop's.
///
/// # Safety
///
/// Once per image, before the interrupt that calls [`source::tick`] is enabled.
pub unsafe fn start() -> Image {
    // SAFETY: once per image, says the caller.
    let (producer, items) = unsafe { ring::split() };
    // SAFETY: as above.
    let (writer, frames) = unsafe { frames::split() };
    // SAFETY: as above.
    let (checked_writer, checked) = unsafe { frames::split_checked() };
    let (notifier, waiter) = wake::sides();
    let source = Source {
        items: producer,
        frames: writer,
        checked: checked_writer,
        notifier,
        progress: Progress::new(),
    };
    // SAFETY: the interrupt is not enabled yet, says the caller.
    unsafe { source::install(source) };
    Image { items, frames, checked, waiter }
}

impl Image {
    /// Runs to the end of the image. `halts` says that the core's sleep lasts until an interrupt
    /// and is not a mere hint, so that the passes through it can be counted.
    pub fn run(mut self, park: &impl Park, halts: bool) -> ! {
        let waiter = &mut self.waiter;
        take_all("items", COUNTS[0], &mut self.items, waiter, park);
        take_all("frames", COUNTS[1], &mut self.frames, waiter, park);
        take_all("frames with CRC32C", COUNTS[2], &mut self.checked, waiter, park);
        judge_waking(halts);
        time_out(waiter, park);
        process::exit(0)
    }
}

/// Takes `count` messages. At the start of every stretch of bursts it lets the ring fill up first.
fn take_all(
    what: &str,
    count: u32,
    end: &mut impl Takes,
    waiter: &mut Waiter<'_>,
    park: &impl Park,
) {
    let count_up = || {
        [
            witness::REFUSED.get(),
            witness::LANDED.get(Activity::Taking),
            witness::LANDED.get(Activity::Holding),
        ]
    };
    let before = count_up();
    for n in 0..count {
        if n % (2 * STRETCH) == 0 {
            let refused = witness::REFUSED.get();
            while witness::REFUSED.get() == refused {
                hint::spin_loop();
            }
        }
        while !end.take(n) {
            if !source::is_polled(n) {
                witness::during(Activity::Deciding, || end.wait(waiter, park, Deadline::NEVER));
                assert_eq!(witness::TIMED_OUT.get(), 0, "the wake for message {n} was lost");
            }
        }
    }
    assert!(!end.take(count), "more {what} than were sent");
    let after = count_up();
    let [refused, taking, holding] = core::array::from_fn(|i| after[i] - before[i]);
    println!("{count} {what} in order: {taking} interrupts inside pop or read, {refused} refused");
    // A run in which these did not happen proves nothing.
    assert!(taking > 0, "no interrupt ever landed inside pop or read");
    assert!(refused > 0, "the ring was never full");
    if let Some(padded) = end.padded() {
        println!("    {padded} after padding, {holding} interrupts while one was in hand");
        assert!(padded > 0, "there was never any padding");
        assert!(holding > 0, "no interrupt came while a frame was in hand");
    }
}

/// Whether the main loop slept, was woken, and never overslept.
fn judge_waking(halts: bool) {
    let interrupts = witness::LANDED.total();
    let (sleeps, woken) = (witness::SLEEPS.get(), witness::WOKEN.get());
    let (wakes, passes) = (witness::WAKES.total(), witness::PASSES.get());
    let early = witness::WAKES.get(Activity::Deciding);
    println!(
        "{sleeps} sleeps in {passes} passes, {woken} ended by one of {wakes} wakes, \
         {early} woken between saying so and sleeping, {interrupts} interrupts"
    );
    assert!(sleeps > 0, "the main loop never slept");
    assert!(early > 0, "no interrupt came between the parked epoch and the sleep");
    assert_eq!(woken, sleeps, "a sleep ended without a wake");
    assert!(woken <= wakes, "a sleep ended by no wake");
    assert_eq!(witness::LATE.get(), 0, "the core slept on after a wake");
    assert!(!halts || passes <= interrupts, "the core did not sleep until an interrupt");
    assert!(clock::now() > u64::from(u32::MAX), "the clock's low word never wrapped");
}

/// Nobody sends any more: a wait ends at its deadline.
fn time_out(waiter: &mut Waiter<'_>, park: &impl Park) {
    let deadline = Deadline::after(park, Duration::from_millis(5));
    assert!(!waiter.wait(park, deadline, || false), "nothing came, and yet it did");
    assert!(park.now() >= deadline.nanoseconds(), "returned before its deadline");
    assert!(witness::TIMED_OUT.get() > 0, "slept through its deadline, or not at all");
}
