//! RV32IMC without atomic read-modify-writes: the machine timer sends, and WFI sleeps.

#![no_std]
#![no_main]

use core::ptr;

use firmware::wake::{Core, CorePark};
use firmware::{image, period, source};
use riscv::asm;
use riscv::interrupt::Interrupt;
use riscv::register::{mie, mstatus};
use riscv_rt::{core_interrupt, entry};

/// Of the CLINT of QEMU's virt machine.
const MTIMECMP: *mut u32 = 0x0200_4000 as *mut u32;
const MTIME: *const u32 = 0x0200_bff8 as *const u32;
/// Ticks of 100 ns between interrupts, at least.
const PERIOD: u32 = period(1500);
/// Nanoseconds that are at least.
const TICK: u32 = PERIOD * 100;

/// Sleeps by WFI.
struct Interrupted;

impl Core for Interrupted {
    fn sleep(&self, asleep: impl Fn() -> bool) {
        // WFI also wakes for a masked interrupt: none can slip in between the look and the sleep.
        // SAFETY: masking interrupts breaks no invariant.
        unsafe { mstatus::clear_mie() };
        if asleep() {
            asm::wfi();
        }
        // SAFETY: as above; a pending interrupt runs here.
        unsafe { mstatus::set_mie() };
    }
    // The interrupt itself ends it.
    fn wake(&self) {}
}

static PARK: CorePark<Interrupted> = CorePark(Interrupted);

#[entry]
fn main() -> ! {
    // SAFETY: `main` runs once, and the timer's interrupt is enabled below.
    let image = unsafe { image::start() };
    arm(PERIOD);
    // SAFETY: the handler is in place and what it uses is initialised.
    unsafe {
        mie::set_mtimer();
        mstatus::set_mie();
    }
    image.run(&PARK, true)
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
    let late = unsafe { source::tick(&PARK, TICK) };
    arm(PERIOD + late);
}
