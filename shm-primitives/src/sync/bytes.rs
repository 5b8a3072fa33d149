//! A byte area with atomic words in it.

use super::{AtomicU32, Shadow};
use core::mem::size_of;

/// Bytes in shared memory, any aligned four of which can be accessed as an atomic
/// word.
///
/// The user keeps the two apart: a word is accessed as bytes only by the one side
/// that owns it at that moment. In ordinary builds it is a pointer; under loom
/// words and shadows of the bytes stand behind the area, a race on either ends
/// the model, and bytes written over a word leave garbage in it, as payload would.
#[derive(Clone, Copy, Debug)]
pub struct Bytes {
    base: *mut u8,
    len: usize,
}

/// What one word and one shadow stand for.
const GRANULE: usize = 4;
const LOOM_WORD: usize = if super::LOOM { size_of::<AtomicU32>() } else { 0 };

impl Bytes {
    /// Bytes of memory that an area of `len` bytes takes: `len`, but under loom.
    pub const fn size_for(len: usize) -> usize {
        len + len / GRANULE * (LOOM_WORD + size_of::<Shadow>())
    }

    /// The area of `len` bytes, a multiple of 8, at `base`.
    ///
    /// # Safety
    ///
    /// `base` is aligned to 8 and `size_for(len)` bytes behind it are valid for
    /// reads and writes while any copy of the result is used; under loom they were
    /// prepared by [`Bytes::init`].
    pub const unsafe fn new(base: *mut u8, len: usize) -> Self {
        Self { base, len }
    }

    /// Prepares the area, its first word 0. Its other bytes are left as they are.
    ///
    /// # Safety
    ///
    /// As [`Bytes::new`], and nobody else accesses the area.
    #[cfg(all(loom, any(test, feature = "loom")))]
    pub unsafe fn init(base: *mut u8, len: usize) -> Self {
        let this = Self { base, len };
        if super::LOOM {
            for granule in 0..len / GRANULE {
                // SAFETY: word and shadow lie within size_for(len) bytes, which
                // the caller gives us alone. Loom's types need no drop.
                unsafe {
                    this.words().add(granule).write(AtomicU32::new(0xdead_beef));
                    Shadow::make(this.shadows(), granule);
                }
            }
        }
        this.word(0).store(0, super::Ordering::Relaxed);
        this
    }

    fn words(&self) -> *mut AtomicU32 {
        // Aligned: base is, and len is a multiple of 8.
        self.base.wrapping_add(self.len).cast()
    }

    fn shadows(&self) -> *mut Shadow {
        self.base.wrapping_add(self.len + self.len / GRANULE * LOOM_WORD).cast()
    }

    /// The bytes from `offset`.
    #[inline(always)]
    pub fn at(&self, offset: usize) -> *mut u8 {
        debug_assert!(offset <= self.len);
        self.base.wrapping_add(offset)
    }

    /// The word at `offset`, a multiple of 4 within the area.
    #[inline(always)]
    pub fn word(&self, offset: usize) -> &AtomicU32 {
        debug_assert!(offset.is_multiple_of(GRANULE) && offset < self.len);
        let word = if super::LOOM {
            self.words().wrapping_add(offset / GRANULE)
        } else {
            self.base.wrapping_add(offset).cast()
        };
        // SAFETY: within the area and aligned (both asserted; every caller masks
        // and rounds), valid by the contract of `new`, and an atomic may be shared.
        unsafe { &*word }
    }

    /// Says that the `len` bytes from `offset` are read here.
    #[inline(always)]
    pub fn reading(&self, offset: usize, len: usize) {
        Shadow::read(self.shadows_of(offset, len));
    }

    /// Says that the `len` bytes from `offset` are written here. A crash point.
    #[inline(always)]
    pub fn writing(&self, offset: usize, len: usize) {
        Shadow::write(self.shadows_of(offset, len));
        #[cfg(all(loom, any(test, feature = "loom")))]
        for granule in offset / GRANULE..(offset + len).div_ceil(GRANULE) {
            // SAFETY: one of the words `init` wrote; loom runs one thread at a
            // time, no reference to a word outlives its access, and a concurrent
            // atomic access is what `with_mut` reports.
            unsafe { &mut *self.words().add(granule) }.overwrite(0xdead_beef);
        }
    }

    #[inline(always)]
    fn shadows_of(&self, offset: usize, len: usize) -> &[Shadow] {
        debug_assert!(offset + len <= self.len);
        let (first, end) = (offset / GRANULE, (offset + len).div_ceil(GRANULE));
        // SAFETY: under loom `init` made one a granule.
        unsafe { Shadow::slice(self.shadows(), first, end - first) }
    }
}

/// Copies out of memory that somebody may be writing at the same time: by instructions of the
/// machine where they are known, word by word with relaxed loads elsewhere, so that a race gives
/// garbage and not undefined behaviour.
///
/// The words are as large as the machine's, and others access the same bytes by 32 bits. With
/// writers that keep the protocol these accesses never race; one that does not is outside this
/// process, by the contract of [`Region::new`](crate::region::Region::new), or goes through
/// this crate, and there the machine's own rules count: garbage at the worst.
///
/// # Safety
///
/// `from` is valid for reads of `len` bytes, `to` for writes; they do not overlap.
#[inline]
pub(crate) unsafe fn copy_out(from: *const u8, to: *mut u8, len: usize) {
    use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed};
    // SAFETY: passed on.
    if unsafe { copy_by_machine(from, to, len) } {
        return;
    }
    let words = words_in(from, len);
    let byte = |at: usize| {
        // SAFETY: in range by the contract and the loops below.
        unsafe { to.add(at).write((*from.add(at).cast::<AtomicU8>()).load(Relaxed)) };
    };
    (0..words.start).for_each(byte);
    for at in words.clone().step_by(size_of::<usize>()) {
        // SAFETY: in range, and `from` is aligned there, by `words_in`.
        unsafe {
            let word = (*from.add(at).cast::<AtomicUsize>()).load(Relaxed);
            to.add(at).cast::<usize>().write_unaligned(word);
        }
    }
    (words.end..len).for_each(byte);
}

/// Copies into memory that somebody may be reading or writing at the same time;
/// see [`copy_out`].
///
/// # Safety
///
/// `from` is valid for reads of `len` bytes, `to` for writes; they do not overlap.
#[inline]
pub(crate) unsafe fn copy_in(from: *const u8, to: *mut u8, len: usize) {
    use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed};
    // SAFETY: passed on.
    if unsafe { copy_by_machine(from, to, len) } {
        return;
    }
    let words = words_in(to, len);
    let byte = |at: usize| {
        // SAFETY: in range by the contract and the loops below.
        unsafe { (*to.add(at).cast::<AtomicU8>()).store(from.add(at).read(), Relaxed) };
    };
    (0..words.start).for_each(byte);
    for at in words.clone().step_by(size_of::<usize>()) {
        // SAFETY: in range, and `to` is aligned there, by `words_in`.
        unsafe {
            let word = from.add(at).cast::<usize>().read_unaligned();
            (*to.add(at).cast::<AtomicUsize>()).store(word, Relaxed);
        }
    }
    (words.end..len).for_each(byte);
}

/// Copies a header out of such memory: a word at a time, so that what was just made of fields, or is
/// taken apart into them, goes through no memory in other pieces, which no core forwards.
///
/// # Safety
///
/// `from` is aligned to 4 and valid for reads of `N` bytes, a multiple of 4.
#[inline(always)]
pub(crate) unsafe fn header_out<const N: usize>(from: *const u8) -> [u8; N] {
    use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
    const { assert!(N.is_multiple_of(4)) };
    let mut bytes = [0; N];
    for (at, piece) in bytes.chunks_exact_mut(4).enumerate() {
        // SAFETY: in range and aligned, by the contract.
        let word = unsafe { (*from.add(4 * at).cast::<AtomicU32>()).load(Relaxed) };
        piece.copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

/// The same into such memory.
///
/// # Safety
///
/// `to` is aligned to 4 and valid for writes of `N` bytes, a multiple of 4.
#[inline(always)]
pub(crate) unsafe fn header_in<const N: usize>(bytes: [u8; N], to: *mut u8) {
    use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
    const { assert!(N.is_multiple_of(4)) };
    for (at, piece) in bytes.chunks_exact(4).enumerate() {
        let word = u32::from_ne_bytes([piece[0], piece[1], piece[2], piece[3]]);
        // SAFETY: in range and aligned, by the contract.
        unsafe { (*to.add(4 * at).cast::<AtomicU32>()).store(word, Relaxed) };
    }
}

/// Which of `len` bytes from `address` are whole aligned words.
#[inline(always)]
fn words_in(address: *const u8, len: usize) -> core::ops::Range<usize> {
    const WORD: usize = size_of::<usize>();
    let start = (address.addr().wrapping_neg() % WORD).min(len);
    start..len - (len - start) % WORD
}

/// Copies by instructions of the machine, which no race makes undefined; false, and nothing, where
/// they are not known.
///
/// # Safety
///
/// As [`copy_out`].
#[inline(always)]
unsafe fn copy_by_machine(from: *const u8, to: *mut u8, len: usize) -> bool {
    #[cfg(all(
        target_arch = "x86_64",
        target_pointer_width = "64",
        target_feature = "sse2",
        not(miri)
    ))]
    {
        // SAFETY: passed on.
        unsafe { machine::copy(from, to, len) };
        true
    }
    #[cfg(not(all(
        target_arch = "x86_64",
        target_pointer_width = "64",
        target_feature = "sse2",
        not(miri)
    )))]
    {
        let _ = (from, to, len);
        false
    }
}

/// Copies in the largest pieces there are registers for. Not all of a piece need come from the same
/// moment.
#[cfg(all(
    target_arch = "x86_64",
    target_pointer_width = "64",
    target_feature = "sse2",
    not(miri)
))]
mod machine {
    use core::arch::asm;

    /// Bytes from which on the instruction for copying is quicker than pieces.
    const MANY: usize = 256;

    /// One piece, by a load and a store.
    macro_rules! piece {
        ($name:ident, $class:ident, $load:literal, $store:literal) => {
            #[inline(always)]
            unsafe fn $name(from: *const u8, to: *mut u8) {
                // SAFETY: the caller's: both have so many bytes. Neither needs to be aligned.
                unsafe {
                    asm!($load, $store, piece = out($class) _, from = in(reg) from,
                        to = in(reg) to, options(nostack, preserves_flags));
                }
            }
        };
    }
    piece!(sixteen, xmm_reg, "movups {piece}, [{from}]", "movups [{to}], {piece}");
    piece!(eight, reg, "mov {piece}, [{from}]", "mov [{to}], {piece}");
    piece!(four, reg, "mov {piece:e}, [{from}]", "mov [{to}], {piece:e}");
    piece!(one, reg_byte, "mov {piece}, [{from}]", "mov [{to}], {piece}");

    /// See [`copy_out`](super::copy_out).
    #[inline(always)]
    pub(super) unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
        // SAFETY: each piece is within the `len` bytes that both have, by the contract; the last
        // ones go over what others have copied rather than beyond the end. The direction flag is
        // clear, as everywhere in Rust.
        unsafe {
            if len >= MANY {
                asm!("rep movsb", inout("rcx") len => _, inout("rsi") from => _,
                    inout("rdi") to => _, options(nostack, preserves_flags));
            } else if len >= 16 {
                let last = len - 16;
                for at in (0..last).step_by(16) {
                    sixteen(from.add(at), to.add(at));
                }
                sixteen(from.add(last), to.add(last));
            } else if len >= 8 {
                eight(from, to);
                eight(from.add(len - 8), to.add(len - 8));
            } else if len >= 4 {
                four(from, to);
                four(from.add(len - 4), to.add(len - 4));
            } else {
                (0..len).for_each(|at| one(from.add(at), to.add(at)));
            }
        }
    }
}

/// Asks for the cache line at `address` in order to write it: takes it from the core that has
/// it. Nothing where the target has no stable way to ask.
#[inline(always)]
pub(crate) fn prefetch_for_write(address: *const u8) {
    // The intrinsic asks for reading only, unless the target feature is on; the instruction
    // itself does nothing on a core that does not know it.
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults, whatever the address.
    unsafe {
        core::arch::asm!("prefetchw [{0}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        core::arch::asm!("prfm pstl1keep, [{0}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    let _ = address;
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{copy_in, copy_out};

    /// Wherever both begin, and of every length about a word, a line, and where copying goes over
    /// to the machine's own way.
    #[test]
    fn copies_are_the_same_bytes_and_no_others() {
        let mut from = [0u8; 600];
        from.iter_mut().zip(0u32..).for_each(|(byte, at)| *byte = (at % 251) as u8 + 1);
        for start in 0..9 {
            for len in (0..40).chain(250..260).chain([511]) {
                for shift in 0..9 {
                    let mut out = [0u8; 600];
                    let mut into = [0u8; 600];
                    // SAFETY: both have 600 bytes, and are this test's.
                    unsafe {
                        copy_out(from.as_ptr().add(start), out.as_mut_ptr().add(shift), len);
                        copy_in(from.as_ptr().add(start), into.as_mut_ptr().add(shift), len);
                    }
                    for copy in [out, into] {
                        assert_eq!(copy[shift..][..len], from[start..][..len]);
                        assert!(copy[..shift].iter().all(|byte| *byte == 0));
                        assert!(copy[shift + len..].iter().all(|byte| *byte == 0));
                    }
                }
            }
        }
    }
}
