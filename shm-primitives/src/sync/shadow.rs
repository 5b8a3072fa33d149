//! Race detection for memory that loom does not see.

use super::{const_unless_loom, crash};
use core::mem::size_of;

/// Stands for a piece of raw memory. Takes no space in ordinary builds; under
/// loom it is a cell, and an access that races with another ends the model.
///
/// A write is a crash point: a process may die while it copies.
#[derive(Debug)]
pub struct Shadow(#[cfg(all(loom, any(test, feature = "loom")))] loom::cell::UnsafeCell<()>);

impl Shadow {
    const_unless_loom! {
        /// A shadow nobody has touched.
        pub fn new() -> Self {
            Self(
                #[cfg(all(loom, any(test, feature = "loom")))]
                loom::cell::UnsafeCell::new(()),
            )
        }
    }

    /// The `count` shadows from number `first` on of those at `base`; none in
    /// ordinary builds, where there are none.
    ///
    /// # Safety
    ///
    /// Under loom they were made there and live as long as `'a`.
    #[inline(always)]
    pub unsafe fn slice<'a>(base: *const Self, first: usize, count: usize) -> &'a [Self] {
        if !super::LOOM {
            return &[];
        }
        let first = base.wrapping_byte_add(first * size_of::<Self>());
        // SAFETY: the caller's contract.
        unsafe { core::slice::from_raw_parts(first, count) }
    }

    /// Makes shadow number `index` at `base`.
    ///
    /// # Safety
    ///
    /// The memory is valid for it and the caller's alone.
    pub unsafe fn make(base: *mut Self, index: usize) {
        // SAFETY: the caller's contract. Loom's cell needs no drop.
        unsafe { base.wrapping_byte_add(index * size_of::<Self>()).write(Self::new()) };
    }

    /// Says that the memory behind these shadows is read here.
    #[inline(always)]
    pub fn read(shadows: &[Self]) {
        let _ = shadows;
        #[cfg(all(loom, any(test, feature = "loom")))]
        shadows.iter().for_each(|shadow| shadow.0.with(|_| ()));
    }

    /// Says that the memory behind these shadows is written here.
    #[inline(always)]
    pub fn write(shadows: &[Self]) {
        crash::step();
        let _ = shadows;
        #[cfg(all(loom, any(test, feature = "loom")))]
        shadows.iter().for_each(|shadow| shadow.0.with_mut(|_| ()));
    }
}

impl Default for Shadow {
    fn default() -> Self {
        Self::new()
    }
}
