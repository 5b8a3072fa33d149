//! What is wished of a segment.

use super::error::SegmentError;
use rustix::param::page_size;
use std::time::Duration;

/// How a segment is made.
#[derive(Clone, Copy, Debug)]
pub struct CreateOptions {
    pub(super) size: usize,
    pub(super) dense: usize,
    pub(super) populate: bool,
    pub(super) huge_pages: bool,
}

impl CreateOptions {
    /// A segment of `size` bytes, rounded up to whole pages, with room reserved for all of them.
    #[must_use]
    pub const fn new(size: usize) -> Self {
        Self { size, dense: size, populate: false, huge_pages: false }
    }

    /// A segment of `size` bytes with room reserved for the first `dense` alone; none of the
    /// others may be touched before [`Segment::allocate`](super::Segment::allocate) has reserved
    /// theirs. Those take no memory until then.
    #[must_use]
    pub const fn sparse(size: usize, dense: usize) -> Self {
        Self { size, dense: if dense < size { dense } else { size }, ..Self::new(size) }
    }

    /// Whether what room is reserved for is also brought into memory and into this process's page
    /// tables at once, so that no access to it is a page fault. Before Linux 5.14 this does
    /// nothing.
    #[must_use]
    pub const fn populate(mut self, populate: bool) -> Self {
        self.populate = populate;
        self
    }

    /// Whether huge pages are asked for. That there are none is no error; see
    /// [`Mapping::huge_pages`](super::Mapping::huge_pages). On Linux `/dev/shm` has them only if
    /// it was mounted with `huge=advise` or more, and memory without a name if
    /// `/sys/kernel/mm/transparent_hugepage/shmem_enabled` says so.
    #[must_use]
    pub const fn huge_pages(mut self, huge_pages: bool) -> Self {
        self.huge_pages = huge_pages;
        self
    }

    /// The same in whole pages.
    pub(super) fn in_pages(self) -> Result<Self, SegmentError> {
        let bad = || SegmentError::BadSize { found: self.size as u64, most: isize::MAX as u64 };
        let pages = |bytes: usize| {
            let rounded = bytes.checked_next_multiple_of(page_size()).ok_or_else(bad)?;
            if isize::try_from(rounded).is_err() { Err(bad()) } else { Ok(rounded) }
        };
        if self.size == 0 {
            return Err(bad());
        }
        Ok(Self { size: pages(self.size)?, dense: pages(self.dense)?, ..self })
    }
}

/// How a segment is opened.
#[derive(Clone, Copy, Debug)]
pub struct OpenOptions {
    pub(super) minimum: usize,
    pub(super) huge_pages: bool,
    pub(super) patience: Duration,
}

impl OpenOptions {
    /// How long a lock is waited for unless [`patience`](Self::patience) says otherwise.
    pub const PATIENCE: Duration = Duration::from_secs(1);

    /// A segment of at least `minimum` bytes, which is what the caller's closure may look at: room
    /// for so many is known to be there. Of a sparse segment that is full before that, pages
    /// that were looked at stay in the file, although opening fails.
    #[must_use]
    pub const fn new(minimum: usize) -> Self {
        Self { minimum, huge_pages: false, patience: Self::PATIENCE }
    }

    /// How long to wait for those who hold the segment's lock, before it is
    /// [`Busy`](SegmentError::Busy). It is held while a segment is opened and unlinked, about a
    /// tenth of a millisecond and what the callers' closures take.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// As [`CreateOptions::huge_pages`], for this process's mapping.
    #[must_use]
    pub const fn huge_pages(mut self, huge_pages: bool) -> Self {
        self.huge_pages = huge_pages;
        self
    }
}
