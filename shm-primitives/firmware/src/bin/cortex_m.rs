//! Cortex-M0 and Cortex-M3: SysTick produces.
//!
//! The nRF51 itself has no SysTick; its Cortex-M0 does in QEMU, which serves both machines here.

#![no_std]
#![no_main]

use cortex_m::asm;
use cortex_m::peripheral::{Peripherals, SYST, syst::SystClkSource};
use cortex_m_rt::{entry, exception};
use firmware::image;

/// Cycles between interrupts, at least.
const PERIOD: u32 = 1200;

#[entry]
fn main() -> ! {
    // SAFETY: `main` runs once, and SysTick is enabled below.
    let consumer = unsafe { image::start() };
    let mut syst = Peripherals::take().expect("taken once").SYST;
    syst.set_clock_source(SystClkSource::Core);
    syst.set_reload(PERIOD);
    syst.clear_current();
    syst.enable_counter();
    syst.enable_interrupt();
    // An interrupt between the failed pop and this leaves the event set, and WFE returns at once.
    image::consume(consumer, |_| asm::wfe())
}

#[exception]
fn SysTick() {
    // SAFETY: the only caller, and an exception does not preempt itself.
    let late = unsafe { image::tick() };
    // SAFETY: `main` is done with the timer. The new value holds from the next wrap on.
    unsafe { (*SYST::PTR).rvr.write(PERIOD + late) };
    asm::sev();
}
