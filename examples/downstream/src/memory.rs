//! Your own memory: anonymous, mapped by each process for itself.

use memmap2::{Advice, MmapRaw};
use rustix::fs::{
    MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, ftruncate, memfd_create,
};
use shm_primitives::region::Region;
use std::fs::File;
use std::io;
use std::ptr::NonNull;

/// Nobody can make the file shorter: an access to the mapping is never a SIGBUS.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// A piece of memory that other processes map too. It has no name and is gone with the last
/// process that has it, however that one ends.
#[derive(Debug)]
pub struct Memory {
    file: File,
    map: MmapRaw,
}

impl Memory {
    /// New memory, all zero: `size` bytes.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn create(size: usize) -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(memfd_create("downstream", flags)?);
        ftruncate(&file, size as u64)?;
        fcntl_add_seals(&file, SEALS)?;
        Self::open(file)
    }

    /// The memory behind a descriptor that its creator passed on.
    ///
    /// # Errors
    ///
    /// It is no memory of this kind, or what the kernel says.
    pub fn open(file: File) -> io::Result<Self> {
        if !fcntl_get_seals(&file)?.contains(SEALS) {
            return Err(io::Error::other("the memory is not sealed"));
        }
        let map = MmapRaw::map_raw(&file)?;
        // A fork of this process would hold its ends too.
        map.advise(Advice::DontFork)?;
        Ok(Self { file, map })
    }

    /// Another descriptor of it, to be passed on.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// All of it.
    ///
    /// # Safety
    ///
    /// Every process that has this memory uses it through this crate alone.
    pub unsafe fn region(&self) -> Region<'_> {
        let base = NonNull::new(self.map.as_mut_ptr()).expect("a mapping is never at 0");
        // SAFETY: mapped, readable and writable while `self` lives, initialised (a new file is
        // zero) and sealed at this size; no reference is made to it here, and the caller
        // answers for the others.
        unsafe { Region::new(base, self.map.len()) }
    }
}
