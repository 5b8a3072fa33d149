//! Puts the memory map of the target's machine where the runtime's linker script looks for it.

use std::{env, fs, path::Path};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=memory");
    let machine = match env::var("TARGET").as_deref() {
        Ok("thumbv6m-none-eabi") => "microbit",
        Ok("thumbv7m-none-eabi") => "lm3s6965evb",
        Ok("riscv32imc-unknown-none-elf") => "virt",
        // The probe is also built for the host, without a linker script.
        _ => return,
    };
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::copy(format!("memory/{machine}.x"), Path::new(&out).join("memory.x"))
        .expect("the memory map can be copied");
    println!("cargo:rustc-link-search={out}");
    println!("cargo:rustc-link-arg-bins=-Tlink.x");
}
