//! The ready bitmap: which of many lanes has something.
//!
//! A receiver of many lanes does not poll them all. A sender that has published sets its
//! lane's bit, and the receiver looks at the bits. While a lane is busy its bit stays set and
//! its ring is polled directly; a sender then only loads the word, which stays in its cache.
//!
//! # Memory
//!
//! Words of 32 bits; lane `i` is bit `i mod 32` of word `i / 32`. Senders set bits, the
//! receiver clears them, both by read-modify-writes. Every value is valid.
//!
//! # Who does what, in which order
//!
//! | sender | receiver, when a lane has been quiet for a while |
//! |---|---|
//! | publishes | clears the bit |
//! | **fence** ([`published`](crate::wake::published)) | **fence** |
//! | loads the word, sets the bit if it is clear | looks into the lane again, and sets the bit if something is there |
//! | then looks whether the receiver is parked, after the same fence | |
//!
//! Both fences are sequentially consistent. If the sender's comes first, the receiver's second
//! look sees the message; if the receiver's does, the sender finds the bit clear and sets it.
//! So a lane that has something has its bit set, or the receiver knows.
//!
//! The bit itself is set after the fence. So it is the lanes that a receiver looks into last
//! before it sleeps, not the bits: one that looks at these alone may lose a wake.
//!
//! # Crash
//!
//! A sender that dies between publishing and setting the bit leaves a message without one.
//! Whoever convicts it [marks](ReadyBitmap::mark) its lane; and a receiver sweeps all lanes that
//! are claimed before it parks, bits or not, which also is what makes a bitmap that a hostile
//! peer clears cost time and nothing else. A receiver that dies between clearing and looking
//! again leaves the same; its successor begins with a sweep.
//!
//! # Example
//!
//! ```
//! use shm_primitives::ready::ReadyBitmap;
//! use shm_primitives::sync::AtomicU32;
//! use shm_primitives::wake::published;
//!
//! let words: [AtomicU32; ReadyBitmap::words_for(40)] = [const { AtomicU32::new(0) }; _];
//! let ready = ReadyBitmap::new(&words);
//! // A sender, after its push:
//! ready.mark(33, &published());
//! // The receiver:
//! for lane in ready.marked() {
//!     let found_nothing = true; // drain the lane
//!     if found_nothing {
//!         ready.cool(lane, || true); // look again
//!     }
//! }
//! assert_eq!(ready.marked().next(), None);
//! ```

use crate::sync::{AtomicU32, Ordering::Relaxed, sites};

sites! { SITES
    /// The cleared bit, before the second look into the lane: either that sees the message, or
    /// the sender sees the clear bit.
    COOLING = "ready.cooling", SeqCst, partner "wake.published",
        [AcqRel => Model("ready_cool")];
}

/// Which lanes have something; see the [module](crate::ready). A view of words that others
/// have too.
///
/// A lane beyond [`lanes`](Self::lanes) is never marked, and asking for it does nothing.
#[derive(Clone, Copy, Debug)]
pub struct ReadyBitmap<'a> {
    words: &'a [AtomicU32],
    lanes: usize,
}

impl<'a> ReadyBitmap<'a> {
    /// Words for so many lanes.
    pub const fn words_for(lanes: usize) -> usize {
        lanes.div_ceil(32)
    }

    /// The bitmap in these words, whatever they hold.
    pub const fn new(words: &'a [AtomicU32]) -> Self {
        Self { words, lanes: words.len() * 32 }
    }

    /// The bitmap for `lanes` lanes in these words; for fewer if the words are too few.
    pub const fn of(words: &'a [AtomicU32], lanes: usize) -> Self {
        let most = words.len() * 32;
        Self { words, lanes: if lanes < most { lanes } else { most } }
    }

    /// The bitmap for `lanes` lanes at the start of `region`.
    ///
    /// # Errors
    ///
    /// The region is `TooSmall` or `Misaligned` (to 4).
    #[cfg(not(all(loom, any(test, feature = "loom"))))]
    pub fn at(
        region: &crate::region::Region<'a>,
        lanes: usize,
    ) -> Result<Self, crate::part::AttachError> {
        Ok(Self { words: AtomicU32::slice_at(region, Self::words_for(lanes))?, lanes })
    }

    /// Lanes there are bits for.
    pub const fn lanes(&self) -> usize {
        self.lanes
    }

    fn word(&self, lane: usize) -> Option<(&'a AtomicU32, u32)> {
        if lane >= self.lanes {
            return None;
        }
        Some((self.words.get(lane / 32)?, 1 << (lane % 32)))
    }

    /// Whether a lane's bit is set. May be out of date at once.
    #[inline]
    pub fn is_marked(&self, lane: usize) -> bool {
        self.word(lane).is_some_and(|(word, bit)| word.load(Relaxed) & bit != 0)
    }

    /// The lanes whose bits are set, in order; each word is read once, when its turn comes.
    pub fn marked(&self) -> impl Iterator<Item = usize> + use<'a> {
        let lanes = self.lanes;
        let marked = self.words.iter().enumerate().flat_map(|(index, word)| {
            let mut bits = word.load(Relaxed);
            core::iter::from_fn(move || {
                let bit = bits.trailing_zeros();
                bits &= bits.wrapping_sub(1);
                (bit < 32).then_some(index * 32 + bit as usize)
            })
        });
        // Bits beyond the last lane are a hostile peer's.
        marked.filter(move |&lane| lane < lanes)
    }
}

crate::sync::with_read_modify_write! {
    use crate::sync::fence;
    use crate::wake::Fenced;

    impl ReadyBitmap<'_> {
        /// Says that `lane` has something. The sender calls it between
        /// [`published`](crate::wake::published) and its notifier's
        /// [`notify_after`](crate::wake::Notifier::notify_after); so does whoever convicts a
        /// sender. While the bit is set this is one load.
        #[inline]
        pub fn mark(&self, lane: usize, _fenced: &Fenced) {
            if let Some((word, bit)) = self.word(lane)
                && word.load(Relaxed) & bit == 0
            {
                word.fetch_or(bit, Relaxed);
            }
        }

        /// Clears the bit of a lane that has been quiet, and looks again: `quiet` says whether
        /// the lane is still empty. If it is not, the bit is set again. Answers whether the
        /// lane is quiet. For the receiver.
        pub fn cool(&self, lane: usize, quiet: impl FnOnce() -> bool) -> bool {
            let Some((word, bit)) = self.word(lane) else { return quiet() };
            word.fetch_and(!bit, Relaxed);
            fence(COOLING);
            let quiet = quiet();
            if !quiet {
                word.fetch_or(bit, Relaxed);
            }
            quiet
        }
    }
}
