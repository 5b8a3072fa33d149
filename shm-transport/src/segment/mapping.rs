//! A file in the address space.

use super::error::SegmentError;
use super::sys;
use crate::fork::{Process, this_process};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use shm_primitives::part::AttachError;
use shm_primitives::region::Region;
use shm_primitives::sync::{AtomicU32, Ordering::Relaxed};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::ptr::{NonNull, null_mut};

/// A file that this process sees as memory, readable and writable, shared with everybody who maps
/// it; unmapped when dropped.
///
/// A child that this process forks does not have it: what the child did there would count as
/// this process's doing. Dropping its copy of this does nothing.
///
/// It keeps the description of the file that it was made of, and with that the description's
/// kernel locks, also after the descriptor is closed.
///
/// Whoever may write to the file is trusted not to truncate it: an access behind its end is a
/// SIGBUS, and files with a name cannot be sealed against it. Memory behind
/// [`SealedSegment`](super::SealedSegment) can.
#[derive(Debug)]
pub struct Mapping {
    raw: Raw,
    huge_pages: HugePages,
}

/// What became of the wish for huge pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum HugePages {
    /// It was not wished for.
    NotAsked,
    /// The kernel knows of it. That it has and gives any is another matter: see
    /// [`Mapping::huge_bytes`].
    Advised,
    /// The kernel knows no huge pages for this file.
    Refused(Errno),
}

impl Mapping {
    /// The first `size` bytes of a regular file.
    ///
    /// # Errors
    ///
    /// It is no regular file, has fewer bytes, `size` is 0, the file cannot be mapped writable
    /// (opened for reading only, or sealed), or memory or addresses are short.
    pub fn of(file: impl AsFd, size: usize) -> Result<Self, SegmentError> {
        let file = file.as_fd();
        Self::named(file, size, || sys::name_of(file))
    }

    /// The same, of a file that the caller has a name for.
    pub(super) fn named(
        file: BorrowedFd<'_>,
        size: usize,
        name: impl Fn() -> PathBuf,
    ) -> Result<Self, SegmentError> {
        let raw = Raw::of(file, size, ProtFlags::READ | ProtFlags::WRITE, name)?;
        Ok(Self { raw, huge_pages: HugePages::NotAsked })
    }

    /// The memory, as the structures of `shm-primitives` want it. They may be made in it any
    /// number of times; what two of them may do in the same place is for their own contracts.
    #[must_use]
    pub fn region(&self) -> Region<'_> {
        // SAFETY: mapped, readable, writable and initialised (a file's bytes are) until `self` is
        // dropped. Nothing but regions is handed out, so whoever of this process accesses the
        // memory does it by a region's contract.
        unsafe { Region::new(self.raw.base, self.raw.len) }
    }

    /// Bytes in it.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.raw.len
    }

    /// What became of the wish for huge pages.
    #[must_use]
    pub fn huge_pages(&self) -> HugePages {
        self.huge_pages
    }

    /// Bytes that this process has in huge pages of it at the moment; looks through
    /// `/proc/self/smaps`, which takes long.
    ///
    /// # Errors
    ///
    /// What the kernel says, or that it does not tell.
    pub fn huge_bytes(&self) -> std::io::Result<u64> {
        sys::huge_bytes(self.raw.base.addr().get(), self.raw.len)
    }

    /// Asks for huge pages.
    pub(super) fn advise_huge_pages(&mut self) {
        // SAFETY: a mapping of this object's; the advice changes no byte of it.
        self.huge_pages = match unsafe { sys::advise_huge(self.raw.base, self.raw.len) } {
            Ok(()) => HugePages::Advised,
            Err(errno) => HugePages::Refused(errno),
        };
    }

    /// Brings `len` bytes from `start` on into memory, as a write to each page would.
    pub(super) fn populate(&self, start: usize, len: usize) -> Result<(), Errno> {
        self.raw.populate(start, len, sys::Populate::Write)
    }

    /// The same as reads would: where the file system has no room for a page that was never
    /// written, an access would be a SIGBUS.
    pub(super) fn populate_for_reading(&self, len: usize) -> Result<(), Errno> {
        self.raw.populate(0, len, sys::Populate::Read)
    }
}

/// A file that this process sees as memory that it can only read; unmapped when dropped. Others
/// may write to it meanwhile.
///
/// A store to it is a SIGSEGV, whatever Rust allows, and so there is no safe way to a
/// [`Region`]. As [`Mapping`] otherwise.
#[derive(Debug)]
pub struct ReadOnlyMapping {
    raw: Raw,
}

impl ReadOnlyMapping {
    /// The first `size` bytes of a regular file.
    ///
    /// # Errors
    ///
    /// As those of [`Mapping::of`]; the file may be open for reading only.
    pub fn of(file: impl AsFd, size: usize) -> Result<Self, SegmentError> {
        let file = file.as_fd();
        Ok(Self { raw: Raw::of(file, size, ProtFlags::READ, || sys::name_of(file))? })
    }

    /// The memory, for a structure that only loads.
    ///
    /// # Safety
    ///
    /// Whatever is made of the region never stores to it, and performs no read-modify-write:
    /// `attach` what its documentation says is for readers of read-only memory, nothing else.
    #[must_use]
    pub unsafe fn region_for_reading(&self) -> Region<'_> {
        // SAFETY: mapped, readable and initialised until `self` is dropped; no reference to it is
        // handed out. It is not writable, and by the caller's promise nobody writes.
        unsafe { Region::new(self.raw.base, self.raw.len) }
    }

    /// Copies the bytes from `offset` on, a word at a time: each of its words is whole, but others
    /// may write between two of them. So what is copied is to be checked like anything else.
    ///
    /// # Errors
    ///
    /// The bytes do not all lie in the mapping.
    pub fn copy(&self, offset: usize, into: &mut [u8]) -> Result<(), AttachError> {
        let end = offset.saturating_add(into.len());
        if end > self.raw.len {
            return Err(AttachError::TooSmall { found: self.raw.len, wanted: end });
        }
        // The words that have any of the bytes.
        let len = self.raw.len.next_multiple_of(size_of::<u32>());
        // SAFETY: as `region_for_reading`, for nothing is done with it but loads; a mapping is
        // whole pages in memory, so that the last word is mapped to its end.
        let region = unsafe { Region::new(self.raw.base, len) };
        let words = AtomicU32::slice_at(&region, len / size_of::<u32>())?;
        let (mut at, mut rest) = (offset, into);
        while !rest.is_empty() {
            let Some(word) = words.get(at / size_of::<u32>()) else {
                // Never: all of the bytes were found to be in it.
                return Err(AttachError::TooSmall { found: len, wanted: end });
            };
            let word = word.load(Relaxed).to_ne_bytes();
            let word = &word[at % size_of::<u32>()..];
            let (now, later) = rest.split_at_mut(word.len().min(rest.len()));
            now.copy_from_slice(&word[..now.len()]);
            at += now.len();
            rest = later;
        }
        Ok(())
    }

    /// Bytes in it.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.raw.len
    }

    /// See [`Mapping::populate_for_reading`].
    pub(super) fn populate_for_reading(&self, len: usize) -> Result<(), Errno> {
        self.raw.populate(0, len, sys::Populate::Read)
    }
}

#[derive(Debug)]
struct Raw {
    base: NonNull<u8>,
    len: usize,
    /// Who has it mapped.
    process: Process,
}

// SAFETY: a mapping belongs to no thread, and is only an address and a length here; what may be
// done with the memory is for the regions made of it.
unsafe impl Send for Raw {}
// SAFETY: as above.
unsafe impl Sync for Raw {}

impl Raw {
    fn of(
        file: BorrowedFd<'_>,
        len: usize,
        protection: ProtFlags,
        path: impl Fn() -> PathBuf,
    ) -> Result<Self, SegmentError> {
        let os = |operation| {
            let path = &path;
            move |errno: Errno| match errno {
                Errno::NOMEM => SegmentError::NoMemory { path: path(), wanted: len as u64 },
                _ => SegmentError::Os { path: path(), operation, source: errno.into() },
            }
        };
        let found = fstat(file).map_err(os("look at"))?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Err(SegmentError::NotAFile {
                path: path(),
                kind: super::file::kind_of(found.st_mode),
            });
        }
        let size = u64::try_from(found.st_size).unwrap_or(0);
        // An access behind the end would be a SIGBUS.
        if size < len as u64 {
            return Err(SegmentError::TooShort { path: path(), found: size, wanted: len as u64 });
        }
        if len == 0 || isize::try_from(len).is_err() {
            return Err(SegmentError::BadSize { found: len as u64, most: isize::MAX as u64 });
        }
        // SAFETY: without MAP_FIXED the kernel maps where nothing is.
        let base = unsafe { mmap(null_mut(), len, protection, MapFlags::SHARED, file, 0) };
        let base = NonNull::new(base.map_err(os("map"))?.cast()).expect("nothing is mapped at 0");
        let this = Self { base, len, process: this_process() };
        // SAFETY: a mapping made just now, of that length; the advice concerns forks alone.
        unsafe { sys::keep_from_forks(base, len) }.map_err(os("keep from forks"))?;
        Ok(this)
    }

    fn populate(&self, start: usize, len: usize, how: sys::Populate) -> Result<(), Errno> {
        debug_assert!(start.checked_add(len).is_some_and(|end| end <= self.len));
        // SAFETY: the range lies in this mapping; no byte of it is changed.
        unsafe { sys::populate(self.base.add(start), len, how) }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // In a forked child it is not there, and something else may be.
        if sys::KEPT_FROM_FORKS && self.process != this_process() {
            return;
        }
        // SAFETY: base and len are the whole of a mapping that this owns; everything made of it
        // borrowed from its owner and is gone.
        let done = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert_eq!(done, Ok(()), "a mapping of our own");
    }
}
