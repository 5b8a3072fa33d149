//! An interrupt and a main loop, without an operating system: the rings between them, and the
//! main loop asleep until the interrupt wakes it.
//!
//! | module | |
//! |---|---|
//! | [`ring`], [`frames`] | the two rings under test, what is sent through them, and how it is checked |
//! | [`ends`] | what source and image ask of a ring's ends |
//! | [`wake`] | waiting and waking under test |
//! | [`clock`] | 64 bits of time on a core that stores 32 at once |
//! | [`witness`] | what happened: a run in which nothing did proves nothing |
//! | [`source`] | the interrupt's work |
//! | `image` | the main loop's |

#![no_std]

pub mod clock;
pub mod ends;
pub mod frames;
#[cfg(target_os = "none")]
pub mod image;
pub mod ring;
pub mod source;
pub mod wake;
pub mod witness;

/// A timer's usual period, or `FIRMWARE_PERIOD` percent of it, as the environment said when the
/// image was built: other periods put the interrupts in other places.
pub const fn period(usual: u32) -> u32 {
    let Some(percent) = option_env!("FIRMWARE_PERIOD") else { return usual };
    match u32::from_str_radix(percent, 10) {
        Ok(percent) => usual * percent / 100,
        Err(_) => panic!("FIRMWARE_PERIOD is a number of percent"),
    }
}
