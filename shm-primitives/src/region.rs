//! Memory given by the caller.

use crate::part::{AttachError, check_region};
use core::marker::PhantomData;
use core::mem::{align_of, size_of};
use core::ptr::NonNull;

/// A piece of memory that structures are created in or attached to.
///
/// It is not copied and not owned: a static, a mapping, a bank of RAM that two
/// cores see. Whoever makes one from raw parts states what the memory is good for.
#[derive(Debug)]
pub struct Region<'a> {
    base: NonNull<u8>,
    len: usize,
    memory: PhantomData<&'a [core::cell::UnsafeCell<u8>]>,
}

// SAFETY: a region is an address and a length; what may be done with the memory
// is decided by the unsafe constructors and by the structures made on it.
unsafe impl Send for Region<'_> {}
// SAFETY: as above; a shared reference gives out further regions, and so does one that was sent.
unsafe impl Sync for Region<'_> {}

impl<'a> Region<'a> {
    /// The `len` bytes at `base`.
    ///
    /// # Safety
    ///
    /// For `'a` they are mapped, readable, writable (unless the structure says that its readers
    /// need not write) and initialised (to whatever), and
    /// no reference to any of them exists in this process but to atomics. Whoever else of this
    /// process accesses them does so through the structures of this crate, or by atomics. What
    /// other processes do there is bounded by the way a structure is attached to: for
    /// `attach` they keep its protocol, for `attach_untrusted` they may do anything.
    pub const unsafe fn new(base: NonNull<u8>, len: usize) -> Self {
        Self { base, len, memory: PhantomData }
    }

    /// Memory that is the caller's alone.
    pub const fn from_mut(memory: &'a mut [u8]) -> Self {
        let len = memory.len();
        let base = NonNull::new(memory.as_mut_ptr());
        // A slice is never null; written so as to stay const and free of unsafe.
        match base {
            Some(base) => Self { base, len, memory: PhantomData },
            None => unreachable!(),
        }
    }

    /// The first byte.
    pub const fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Bytes in it.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The `len` bytes from `offset` on, and with them the right to use them;
    /// `None` if they do not all lie in the region.
    pub const fn part(&self, offset: usize, len: usize) -> Option<Region<'a>> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len => {}
            _ => return None,
        }
        // SAFETY: offset lies within the region, so the sum does not wrap.
        Some(Self { base: unsafe { self.base.add(offset) }, len, memory: PhantomData })
    }

    /// The words at the start of the region, seen as a `T`.
    ///
    /// # Errors
    ///
    /// `Misaligned` or `TooSmall`.
    ///
    /// # Safety
    ///
    /// `T` is `repr(C)` and holds nothing but [`AtomicU32`](crate::sync::AtomicU32)s; under
    /// loom one was made there.
    pub(crate) unsafe fn words<T>(&self) -> Result<&'a T, AttachError> {
        check_region(self, size_of::<T>(), align_of::<T>())?;
        // SAFETY: in bounds and aligned (just checked), mapped and initialised for 'a by the
        // contract of `new`; any bytes are an atomic word, and any other writer is allowed.
        Ok(unsafe { self.base.cast().as_ref() })
    }
}
