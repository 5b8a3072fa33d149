//! The ring between an interrupt and a main loop, without an operating system.

#![no_std]

#[cfg(target_os = "none")]
pub mod image;
pub mod ring;

/// Redundant, so that a torn or stale copy shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Item {
    words: [u32; 4],
}

impl Item {
    /// The one item that may come `n`th.
    pub fn nth(n: u32) -> Self {
        let mixed = n.wrapping_mul(0x9e37_79b9);
        Self { words: [n, mixed, !n, !mixed] }
    }
}
