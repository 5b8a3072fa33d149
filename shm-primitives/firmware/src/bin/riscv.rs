//! RV32IMC without atomic read-modify-writes: the machine timer produces.

#![no_std]
#![no_main]

use core::ptr;

use firmware::image;
use riscv::asm;
use riscv::interrupt::Interrupt;
use riscv::register::{mie, mstatus};
use riscv_rt::{core_interrupt, entry};

/// Of the CLINT of QEMU's virt machine.
const MTIMECMP: *mut u32 = 0x0200_4000 as *mut u32;
const MTIME: *const u32 = 0x0200_bff8 as *const u32;
/// Ticks of 100 ns between interrupts, at least.
const PERIOD: u32 = 400;

#[entry]
fn main() -> ! {
    // SAFETY: `main` runs once, and the timer's interrupt is enabled below.
    let consumer = unsafe { image::start() };
    arm(PERIOD);
    // SAFETY: the handler is in place and what it uses is initialised.
    unsafe {
        mie::set_mtimer();
        mstatus::set_mie();
    }
    image::consume(consumer, |consumer| {
        // WFI also wakes for a masked interrupt: none can slip in between the look and the sleep.
        // SAFETY: masking interrupts breaks no invariant.
        unsafe { mstatus::clear_mie() };
        if consumer.is_empty() {
            asm::wfi();
        }
        // SAFETY: as above.
        unsafe { mstatus::set_mie() };
    })
}

/// The next interrupt, `ticks` from now. Runs take far less than the 429 s of 32 bits.
fn arm(ticks: u32) {
    // SAFETY: the timer's registers, aligned; written before the interrupt is enabled, then by the
    // handler only.
    unsafe {
        ptr::write_volatile(MTIMECMP.add(1), 0);
        let now = ptr::read_volatile(MTIME);
        ptr::write_volatile(MTIMECMP, now.wrapping_add(ticks));
    }
}

#[core_interrupt(Interrupt::MachineTimer)]
fn machine_timer() {
    // SAFETY: the only caller, and the trap handler runs with interrupts masked.
    let late = unsafe { image::tick() };
    arm(PERIOD + late);
}
