//! What every image runs: a timer interrupt produces, the main loop consumes and checks.

use core::cell::UnsafeCell;
use core::hint;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use semihosting::{println, process};

use crate::Item;
use crate::ring::{self, Consumer, PopError, Producer};

/// Items an image sends before it reports.
const ITEMS: u32 = 10_000;
/// The consumer waits for a full ring whenever it has read this many.
const STALL: u32 = 500;

struct Source {
    producer: Producer,
    next: u32,
    ticks: u32,
    noise: u32,
}

struct Slot(UnsafeCell<Option<Source>>);

// SAFETY: `start` fills the slot before the interrupt is enabled; after that only `tick`, which
// does not preempt itself, touches it.
unsafe impl Sync for Slot {}

static SOURCE: Slot = Slot(UnsafeCell::new(None));

/// Refused pushes; written by the interrupt only.
static FULL: AtomicU32 = AtomicU32::new(0);
/// Interrupts that came while the main loop was inside `pop`; written by the interrupt only.
static INSIDE_POP: AtomicU32 = AtomicU32::new(0);
/// Written by the main loop only.
static IN_POP: AtomicBool = AtomicBool::new(false);

/// Hands the producer to the interrupt and returns the consumer.
///
/// # Safety
///
/// Once per image, before the interrupt that calls [`tick`] is enabled.
pub unsafe fn start() -> Consumer {
    // SAFETY: once per image, says the caller.
    let (producer, consumer) = unsafe { ring::split() };
    // SAFETY: the interrupt is not enabled yet, so nobody else reads or writes the slot.
    unsafe {
        *SOURCE.0.get() = Some(Source { producer, next: 0, ticks: 0, noise: 1 });
    }
    consumer
}

/// The interrupt's work. Returns a number below 256: how much later than usual the next interrupt
/// should come, so that over time one lands on every instruction of `pop`.
///
/// # Safety
///
/// From one interrupt handler only, which nothing that calls `tick` preempts.
pub unsafe fn tick() -> u32 {
    // SAFETY: `start` is over, and the caller says no other `tick` is running.
    let Some(source) = (unsafe { &mut *SOURCE.0.get() }) else {
        return 0;
    };
    // Loads and stores, no read-modify-write: a Cortex-M0 has none.
    if IN_POP.load(Ordering::Relaxed) {
        let landed = INSIDE_POP.load(Ordering::Relaxed) + 1;
        INSIDE_POP.store(landed, Ordering::Relaxed);
    }
    // xorshift32
    source.noise ^= source.noise << 13;
    source.noise ^= source.noise >> 17;
    source.noise ^= source.noise << 5;
    source.ticks += 1;
    for _ in 0..source.ticks % 4 {
        if source.next == ITEMS {
            break;
        }
        if source.producer.push(Item::nth(source.next)).is_ok() {
            source.next += 1;
        } else {
            FULL.store(FULL.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            break;
        }
    }
    source.noise & 0xff
}

/// The main loop: checks order and content, reports, and ends the image.
///
/// `sleep` returns after an interrupt, or at once if the ring is not empty.
pub fn consume(mut consumer: Consumer, sleep: impl Fn(&mut Consumer)) -> ! {
    let mut sleeps = 0u32;
    let mut refused = 0;
    for n in 0..ITEMS {
        if n % STALL == 0 {
            while FULL.load(Ordering::Relaxed) == refused {
                hint::spin_loop();
            }
            refused = FULL.load(Ordering::Relaxed);
        }
        let item = loop {
            IN_POP.store(true, Ordering::Relaxed);
            let popped = consumer.pop();
            IN_POP.store(false, Ordering::Relaxed);
            match popped {
                Ok(item) => break item,
                Err(PopError::Corrupt) => panic!("the ring says it is corrupt"),
                Err(PopError::Empty) => {
                    sleeps += 1;
                    sleep(&mut consumer);
                }
            }
        };
        assert_eq!(item, Item::nth(n), "item {n} is not the one sent");
    }
    assert!(consumer.pop().is_err(), "more items than were sent");
    let inside = INSIDE_POP.load(Ordering::Relaxed);
    println!(
        "{ITEMS} items in order, {inside} interrupts inside pop, {refused} refused pushes, {sleeps} sleeps"
    );
    // A run in which these did not happen proves nothing.
    assert!(inside > 0, "no interrupt ever landed inside pop");
    assert!(sleeps > 0, "the ring was never empty");
    process::exit(0)
}
