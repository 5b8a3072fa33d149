//! Cortex-M0 and Cortex-M3: SysTick sends, and WFE sleeps.
//!
//! The nRF51 itself has no SysTick; its Cortex-M0 does in QEMU, which serves both machines here.

#![no_std]
#![no_main]

use cortex_m::asm;
use cortex_m::peripheral::{Peripherals, SYST, syst::SystClkSource};
use cortex_m_rt::{entry, exception};
use firmware::wake::{Core, CorePark};
use firmware::{image, period, source};

/// Cycles between interrupts, at least.
const PERIOD: u32 = period(2400);
/// Nanoseconds that are at least. A cycle has 80 on one machine and 62 on the other; the clock
/// may go slow, it only must not go back.
const TICK: u32 = PERIOD * 62;

/// Sleeps by WFE.
struct Event;

impl Core for Event {
    fn sleep(&self, asleep: impl Fn() -> bool) {
        if asleep() {
            // The event is remembered: the interrupt's SEV between the look and this, and the
            // return from the interrupt too, make WFE return at once.
            asm::wfe();
        }
    }
    fn wake(&self) {
        asm::sev();
    }
}

static PARK: CorePark<Event> = CorePark(Event);

#[entry]
fn main() -> ! {
    // SAFETY: `main` runs once, and SysTick is enabled below.
    let image = unsafe { image::start() };
    let mut syst = Peripherals::take().expect("taken once").SYST;
    syst.set_clock_source(SystClkSource::Core);
    syst.set_reload(PERIOD);
    syst.clear_current();
    syst.enable_counter();
    syst.enable_interrupt();
    // To QEMU, up to 7.2 at least, WFE is a hint at which it does not halt the core.
    image.run(&PARK, false)
}

#[exception]
fn SysTick() {
    // SAFETY: the only caller, and an exception does not preempt itself.
    let late = unsafe { source::tick(&PARK, TICK) };
    // SAFETY: `main` is done with the timer. The new value holds from the next wrap on.
    unsafe { (*SYST::PTR).rvr.write(PERIOD + late) };
}
