//! Memory for regions, with guards that show a write outside.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};
use shm_primitives::region::Region;
use std::alloc::{Layout, alloc, dealloc};

/// The largest alignment a part can ask for.
const ALIGN: usize = 4096;

/// Bytes on either side. None under a fuzzer, whose address sanitiser guards the
/// allocation's edges itself, against reads too.
const GUARD: usize = if cfg!(fuzzing) { 0 } else { ALIGN };

const UNTOUCHED: u8 = 0xc5;

/// Memory aligned to 4096 bytes, all of it `fill` at first, that any number of
/// regions may be made of. As in a mapping, everybody uses atomic accesses.
pub struct Memory {
    block: NonNull<u8>,
    len: usize,
}

// SAFETY: plain memory, accessed atomically or by the structures made on it.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// `len` bytes of `fill`.
    pub fn new(len: usize, fill: u8) -> Self {
        let layout = Self::layout(len);
        // SAFETY: the layout has a size: see `layout`.
        let block = NonNull::new(unsafe { alloc(layout) }).expect("out of memory");
        // SAFETY: just allocated with this size.
        unsafe { block.write_bytes(UNTOUCHED, layout.size()) };
        let this = Self { block, len };
        // SAFETY: the `len` bytes behind the first guard.
        unsafe { this.base().write_bytes(fill, len) };
        this
    }

    fn layout(len: usize) -> Layout {
        Layout::from_size_align(GUARD + len.max(1) + GUARD, ALIGN).expect("absurd size")
    }

    /// Bytes in it.
    pub fn size(&self) -> usize {
        self.len
    }

    /// The first byte.
    pub fn base(&self) -> NonNull<u8> {
        // SAFETY: the guard is part of the allocation.
        unsafe { self.block.add(GUARD) }
    }

    /// All of it.
    pub fn region(&self) -> Region<'_> {
        self.part(0, self.len)
    }

    /// `len` bytes from `offset` on.
    pub fn part(&self, offset: usize, len: usize) -> Region<'_> {
        // SAFETY: initialised memory that lives as long as self; whoever else reaches it
        // does so through a structure or through `word` and `bytes` below, atomically,
        // or on the one thread that made the region.
        let all = unsafe { Region::new(self.base(), self.len) };
        all.part(offset, len).expect("within the memory")
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.len);
        // SAFETY: in range and aligned (just checked); atomics may be shared.
        unsafe { self.base().add(offset).cast().as_ref() }
    }

    /// The word at `offset`.
    pub fn get(&self, offset: usize) -> u32 {
        self.word(offset).load(Relaxed)
    }

    /// Overwrites the word at `offset`, as nobody who keeps a protocol would.
    pub fn set(&self, offset: usize, value: u32) {
        self.word(offset).store(value, Relaxed);
    }

    /// A copy of all bytes, after a look at the guards.
    pub fn bytes(&self) -> Vec<u8> {
        self.check_guards();
        self.slice(self.base(), self.len).iter().map(|byte| byte.load(Relaxed)).collect()
    }

    /// Fails if somebody wrote outside the memory.
    pub fn check_guards(&self) {
        // SAFETY: the end of the memory, where the second guard begins.
        for guard in [self.block, unsafe { self.base().add(self.len) }] {
            assert!(
                self.slice(guard, GUARD).iter().all(|byte| byte.load(Relaxed) == UNTOUCHED),
                "a write outside the region"
            );
        }
    }

    fn slice(&self, from: NonNull<u8>, len: usize) -> &[AtomicU8] {
        // SAFETY: every caller's range lies in the allocation; atomics may be shared.
        unsafe { NonNull::slice_from_raw_parts(from.cast(), len).as_ref() }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.check_guards();
        }
        // SAFETY: allocated with this layout, and regions borrow from self.
        unsafe { dealloc(self.block.as_ptr(), Self::layout(self.len)) };
    }
}
