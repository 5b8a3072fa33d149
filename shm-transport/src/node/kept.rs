//! Memory of a node's own, on the heap, that something refers to which goes with it.

use std::ptr::NonNull;

/// What a `Box` is, for memory that is referred to while its owner is moved: each move of a `Box`
/// says that nobody else refers to what is in it, and each move of this says nothing.
pub(super) struct Kept<T: ?Sized>(NonNull<T>);

// SAFETY: it owns what it points to, as a `Box` does.
unsafe impl<T: ?Sized + Send> Send for Kept<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Sync> Sync for Kept<T> {}

impl<T: ?Sized> Kept<T> {
    pub fn new(memory: Box<T>) -> Self {
        Self(NonNull::from(Box::leak(memory)))
    }

    /// Where it lies, until this is dropped.
    pub fn as_ptr(&self) -> NonNull<T> {
        self.0
    }

    /// It, for longer than it can be borrowed.
    ///
    /// # Safety
    ///
    /// The reference, and what is made of it, is gone before this is dropped; and nobody has it
    /// [for himself](Self::lasting_mut).
    pub unsafe fn lasting(&self) -> &'static T {
        // SAFETY: on the heap until this is dropped; otherwise the caller's contract.
        unsafe { self.0.as_ref() }
    }

    /// It, for longer than it can be borrowed, and for one alone.
    ///
    /// # Safety
    ///
    /// The reference, and what is made of it, is gone before this is dropped; and there is no other.
    pub unsafe fn lasting_mut(&self) -> &'static mut T {
        let mut here = self.0;
        // SAFETY: on the heap until this is dropped; otherwise the caller's contract.
        unsafe { here.as_mut() }
    }
}

impl<T: ?Sized> Drop for Kept<T> {
    fn drop(&mut self) {
        // SAFETY: from a `Box`, once; and nobody refers to it any more, as both have promised.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    /// A look at it under Miri is the point of this.
    #[test]
    fn is_referred_to_while_it_is_moved() {
        let kept = Kept::<[_]>::new(Box::new([AtomicU32::new(1), AtomicU32::new(2)]));
        // SAFETY: dropped before it, and there is no other way to it.
        let words: &[AtomicU32] = unsafe { kept.lasting() };
        let moved = std::hint::black_box(kept);
        words[1].fetch_add(1, Relaxed);
        assert_eq!(moved.as_ptr().len(), 2);
        let own = Kept::new(Box::new(String::from("a")));
        // SAFETY: as above.
        let text = unsafe { own.lasting_mut() };
        let own = Some(std::hint::black_box(own));
        text.push('b');
        assert_eq!((words[1].load(Relaxed), &**text), (3, "ab"));
        drop((moved, own));
    }
}
