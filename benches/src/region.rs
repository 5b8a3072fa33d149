//! Zeroed memory that a ring lives in.

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use std::fs::File;
use std::io;
use std::ptr::{NonNull, null_mut};

/// A mapping, page-aligned and zeroed at first.
#[derive(Debug)]
pub struct Region {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to no thread, and hands out nothing but its address: who
// reaches through that answers for the races.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Memory of this process, as the heap's is.
    ///
    /// # Errors
    ///
    /// When the kernel has none.
    pub fn private(len: usize) -> io::Result<Self> {
        // SAFETY: without MAP_FIXED, the kernel maps where nothing is.
        let base = unsafe {
            mmap_anonymous(null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)?
        };
        Ok(Self::new(base.cast(), len))
    }

    /// Memory that forked processes go on sharing.
    ///
    /// # Errors
    ///
    /// When the kernel has none.
    pub fn shared(len: usize) -> io::Result<Self> {
        let file = memfd(len)?;
        // SAFETY: as in `private`.
        let base = unsafe {
            mmap(null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &file, 0)?
        };
        Ok(Self::new(base.cast(), len))
    }

    fn new(base: *mut u8, len: usize) -> Self {
        let base = NonNull::new(base).expect("mmap maps nothing at zero");
        Self { base, len }
    }

    /// Where it begins, in this process and its forks.
    #[must_use]
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// How long it is.
    #[must_use]
    pub fn size(&self) -> usize {
        self.len
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: `base` and `len` are the whole of a mapping that this owns; what was put
        // in it borrows from `self`, and is gone.
        unsafe { munmap(self.base.as_ptr().cast(), self.len) }.expect("a mapping of our own");
    }
}

/// A file in memory, of that length.
///
/// # Errors
///
/// When the kernel has no memory or no descriptor left.
pub fn memfd(len: usize) -> io::Result<File> {
    let file = memfd_create("ring", MemfdFlags::CLOEXEC)?;
    ftruncate(&file, len as u64)?;
    Ok(file.into())
}
