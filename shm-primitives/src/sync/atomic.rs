//! The atomic word, the fence and the spin hint.

use super::{Order, const_unless_loom, crash, with_read_modify_write};

#[cfg(not(all(loom, any(test, feature = "loom"))))]
use crate::{
    part::{AttachError, check_region},
    region::Region,
};
#[cfg(not(all(loom, any(test, feature = "loom"))))]
use core::mem::{align_of, size_of};
#[cfg(not(all(loom, any(test, feature = "loom"))))]
use core::sync::atomic as inner;
#[cfg(all(loom, any(test, feature = "loom")))]
use loom::sync::atomic as inner;

/// A 32-bit word that several cores or processes may access.
///
/// In ordinary builds it has the size, alignment and representation of a `u32`.
/// There is no 64-bit counterpart: a 32-bit target would emulate it with a lock
/// that another process does not know.
#[repr(transparent)]
#[derive(Debug)]
pub struct AtomicU32(inner::AtomicU32);

impl AtomicU32 {
    const_unless_loom! {
        /// A word that holds `value`.
        pub fn new(value: u32) -> Self {
            Self(inner::AtomicU32::new(value))
        }
    }

    /// Reads the word.
    #[inline(always)]
    pub fn load(&self, order: impl Order) -> u32 {
        self.0.load(order.ordering())
    }

    /// Writes the word. A crash point.
    #[inline(always)]
    pub fn store(&self, value: u32, order: impl Order) {
        crash::step();
        self.0.store(value, order.ordering());
    }

    /// Overwrites the word as plain bytes would: a race with an atomic access
    /// ends the model.
    #[cfg(all(loom, any(test, feature = "loom")))]
    pub(super) fn overwrite(&mut self, value: u32) {
        self.0.with_mut(|word| *word = value);
    }

    /// The word at the start of `region`, whatever stands there: for words of your own beside
    /// the structures of this crate.
    ///
    /// # Errors
    ///
    /// The region is `TooSmall` or `Misaligned` (to 4).
    #[cfg(not(all(loom, any(test, feature = "loom"))))]
    pub fn at<'a>(region: &Region<'a>) -> Result<&'a Self, AttachError> {
        // SAFETY: one atomic word.
        unsafe { region.words() }
    }

    /// The `count` words at the start of `region`, whatever stands there.
    ///
    /// # Errors
    ///
    /// The region is `TooSmall` or `Misaligned` (to 4).
    #[cfg(not(all(loom, any(test, feature = "loom"))))]
    pub fn slice_at<'a>(region: &Region<'a>, count: usize) -> Result<&'a [Self], AttachError> {
        let size = count.saturating_mul(size_of::<Self>());
        check_region(region, size, align_of::<Self>())?;
        // SAFETY: in bounds and aligned (just checked), mapped and initialised for 'a by the
        // region's contract; any bytes are an atomic word, and any other writer is allowed.
        Ok(unsafe { core::slice::from_raw_parts(region.base().cast().as_ptr(), count) })
    }

    /// The same word as core knows it: what a futex call wants. Not under loom.
    #[cfg(not(all(loom, any(test, feature = "loom"))))]
    #[inline(always)]
    pub fn as_core(&self) -> &core::sync::atomic::AtomicU32 {
        &self.0
    }

    /// The word as the kernel or a debugger knows it: its address.
    #[inline(always)]
    pub fn as_ptr(&self) -> *const u32 {
        (&raw const self.0).cast()
    }
}

with_read_modify_write! {
    /// Read-modify-writes. Absent on targets without compare-and-swap, unless a
    /// feature provides them.
    impl AtomicU32 {
        #[cfg(any(target_has_atomic = "32", all(loom, any(test, feature = "loom"))))]
        #[inline(always)]
        fn read_modify_write(&self) -> &inner::AtomicU32 {
            &self.0
        }

        #[cfg(not(any(target_has_atomic = "32", all(loom, any(test, feature = "loom")))))]
        #[inline(always)]
        fn read_modify_write(&self) -> &portable_atomic::AtomicU32 {
            // SAFETY: both types are a u32 in size, alignment and
            // representation, and allow shared mutation; the reference lives as
            // long as the one it is made from.
            unsafe { &*(&raw const self.0).cast::<portable_atomic::AtomicU32>() }
        }

        /// Writes `new` if the word holds `current`; answers what it held, `Ok`
        /// if it was written. A crash point. A failed exchange keeps the acquire
        /// half of the ordering.
        #[inline(always)]
        pub fn compare_exchange(&self, current: u32, new: u32, order: impl Order) -> Result<u32, u32> {
            use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
            crash::step();
            let success = order.ordering();
            let failure = if matches!(success, Release | Relaxed) { Relaxed } else { Acquire };
            self.read_modify_write().compare_exchange(current, new, success, failure)
        }

        /// Adds `value`, wrapping; answers what the word held. A crash point.
        #[inline(always)]
        pub fn fetch_add(&self, value: u32, order: impl Order) -> u32 {
            crash::step();
            self.read_modify_write().fetch_add(value, order.ordering())
        }

        /// Sets the bits of `value`; answers what the word held. A crash point.
        #[inline(always)]
        pub fn fetch_or(&self, value: u32, order: impl Order) -> u32 {
            crash::step();
            self.read_modify_write().fetch_or(value, order.ordering())
        }

        /// Keeps only the bits of `value`; answers what the word held. A crash
        /// point.
        #[inline(always)]
        pub fn fetch_and(&self, value: u32, order: impl Order) -> u32 {
            crash::step();
            self.read_modify_write().fetch_and(value, order.ordering())
        }
    }
}

/// A fence: orders the accesses around it.
#[inline(always)]
pub fn fence(order: impl Order) {
    let order = order.ordering();
    // A fence weakened to none at all; core and loom know no such fence.
    #[cfg(all(loom, any(test, feature = "loom")))]
    if order == super::Ordering::Relaxed {
        return;
    }
    inner::fence(order);
}

/// Tells the core that it spins. Under loom the scheduler's chance to run
/// somebody else.
#[inline(always)]
pub fn spin_loop() {
    #[cfg(not(all(loom, any(test, feature = "loom"))))]
    core::hint::spin_loop();
    #[cfg(all(loom, any(test, feature = "loom")))]
    loom::thread::yield_now();
}
