//! A segment that has a name.

use super::error::SegmentError;
use super::file::{self, Found, Lock, Wanted, With};
use super::mapping::Mapping;
use super::options::{CreateOptions, OpenOptions};
use super::sys;
use crate::domain::{Domain, SegmentName};
use rustix::fs::{AtFlags, CWD, Gid, Mode, Stat, fchmod, fchown, ftruncate, statat, unlink};
use rustix::io::{Errno, retry_on_intr};
use rustix::param::page_size;
use rustix::process::geteuid;
use shm_primitives::region::Region;
use shm_primitives::sync::crash;
use std::error::Error as StdError;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// How often to go from opening to creating and back.
const ATTEMPTS: u32 = 100;

/// A segment with a name, mapped for reading and writing. Dropping it unmaps it, and leaves the
/// segment and its name as they are.
///
/// Closures given to its functions return an error of the caller's own, into which a
/// [`SegmentError`] can be made; `SegmentError` itself will do. What they return besides comes
/// back with the segment.
#[derive(Debug)]
pub struct Segment {
    // Before `file`, though either order would do: the mapping keeps the description.
    mapping: Mapping,
    file: OwnedFd,
    stat: Stat,
    domain: Domain,
    path: PathBuf,
}

/// Which of both [`Segment::open_or_create`] did.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Origin {
    /// It made the segment.
    Created,
    /// The segment was there.
    Opened,
}

impl Segment {
    /// Makes a segment, all zero, lets `initialise` write to it, and gives it its name then.
    /// Nobody sees it before that, and it has no name if `initialise` fails.
    ///
    /// What shows others that this process lives is to be taken in `initialise` too: once the
    /// segment has its name, an unlinker may ask.
    ///
    /// # Errors
    ///
    /// [`AlreadyExists`](SegmentError::AlreadyExists), [`NoSpace`](SegmentError::NoSpace), or
    /// another of [`SegmentError`]; or what `initialise` returns. Nothing is left behind.
    pub fn create<T, E: From<SegmentError>>(
        domain: &Domain,
        name: &SegmentName,
        options: CreateOptions,
        initialise: impl FnOnce(&Self) -> Result<T, E>,
    ) -> Result<(Self, T), E> {
        let options = options.in_pages()?;
        let path = domain.path_of(name);
        // The link decides; this only spares the work, and says so also where nothing fits.
        if statat(CWD, &*path, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Err(SegmentError::AlreadyExists { path }.into());
        }
        let new = sys::NewFile::make(domain.directory())?;
        let mapping = Self::prepare(&new, domain, &path, options)?;
        let stat = file::stat_of(&new.file, &path)?;
        let file = new.file.try_clone().map_err(|source| SegmentError::Os {
            path: path.clone(),
            operation: "duplicate the descriptor of",
            source,
        })?;
        let this = Self { mapping, file, stat, domain: domain.clone(), path };
        let made = initialise(&this)?;
        crash::step();
        let linked = new.link(&this.path);
        crash::step();
        match linked {
            Ok(()) => Ok((this, made)),
            Err(Errno::EXIST) => Err(SegmentError::AlreadyExists { path: this.path }.into()),
            Err(errno) => Err(match errno {
                // For the entry of the directory.
                Errno::NOSPC | Errno::DQUOT => file::creating(domain.directory(), errno),
                _ => file::os(&this.path, "give a name to", errno),
            }
            .into()),
        }
    }

    fn prepare(
        new: &sys::NewFile,
        domain: &Domain,
        path: &Path,
        options: CreateOptions,
    ) -> Result<Mapping, SegmentError> {
        let os = |operation| move |errno| file::os(path, operation, errno);
        if let Some(gid) = domain.group() {
            fchown(&new.file, None, Some(Gid::from_raw(gid)))
                .map_err(os("give to the domain's group (is this user a member?)"))?;
        }
        // Not by the mode of creation, from which the umask takes away.
        fchmod(&new.file, Mode::from_raw_mode(domain.mode() as _))
            .map_err(os("set the mode of"))?;
        map_new(new.file.as_fd(), path, options)
    }

    /// Opens the segment of that name. `check` looks at what stands in it, and claims this
    /// process's place in it; as long as it runs nobody can unlink the segment, so it should not
    /// take long.
    ///
    /// # Errors
    ///
    /// [`NotFound`](SegmentError::NotFound), or another of [`SegmentError`]; or what `check`
    /// returns: [`refused`](Self::refused) makes an error that says what the file is. The file is
    /// not changed, but by `check`; pages of a sparse segment that were looked at in vain stay.
    pub fn open<T, E: From<SegmentError>>(
        domain: &Domain,
        name: &SegmentName,
        options: OpenOptions,
        check: impl FnOnce(&Self) -> Result<T, E>,
    ) -> Result<(Self, T), E> {
        let (this, lock) = Self::find(domain, name, options, With::Others)?;
        let checked = check(&this)?;
        drop(lock);
        Ok((this, checked))
    }

    /// Opens the segment of that name, or makes it if there is none. Others may do the same at the
    /// same time: one of them makes it, the others open it.
    ///
    /// `initialise` may have run more than once, for files that got no name because another was
    /// faster.
    ///
    /// # Errors
    ///
    /// As those of [`open`](Self::open) and [`create`](Self::create), but for `NotFound` and
    /// `AlreadyExists`; [`Contended`](SegmentError::Contended) if others keep creating and
    /// unlinking it.
    pub fn open_or_create<T, E: From<SegmentError>>(
        domain: &Domain,
        name: &SegmentName,
        open: OpenOptions,
        create: CreateOptions,
        mut check: impl FnMut(&Self) -> Result<T, E>,
        mut initialise: impl FnMut(&Self) -> Result<T, E>,
    ) -> Result<(Self, T, Origin), E> {
        for _ in 0..ATTEMPTS {
            match Self::find(domain, name, open, With::Others) {
                Ok((this, lock)) => {
                    let checked = check(&this)?;
                    drop(lock);
                    return Ok((this, checked, Origin::Opened));
                }
                Err(SegmentError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            // The caller's own errors pass through as they are.
            match Self::create(domain, name, create, |this| {
                initialise(this).map_err(Attempt::Caller)
            }) {
                Ok((this, made)) => return Ok((this, made, Origin::Created)),
                Err(Attempt::Ours(SegmentError::AlreadyExists { .. })) => {}
                Err(Attempt::Ours(error)) => return Err(error.into()),
                Err(Attempt::Caller(error)) => return Err(error),
            }
        }
        let path = domain.path_of(name);
        Err(SegmentError::Contended { path, attempts: ATTEMPTS }.into())
    }

    /// Takes the name away from the segment that has it, if `may_go` agrees; returns whether it
    /// did. Who has the segment mapped keeps it.
    ///
    /// While `may_go` runs nobody can open the segment. It should say yes only if the segment's
    /// owner is the one who asks or is proven dead, or if there is no owner and no live place.
    ///
    /// # Errors
    ///
    /// [`NotFound`](SegmentError::NotFound), [`Busy`](SegmentError::Busy) or another of
    /// [`SegmentError`]; or what `may_go` returns. The segment then still has its name.
    pub fn unlink<E: From<SegmentError>>(
        domain: &Domain,
        name: &SegmentName,
        options: OpenOptions,
        may_go: impl FnOnce(&Self) -> Result<bool, E>,
    ) -> Result<bool, E> {
        let (this, lock) = Self::find(domain, name, options, With::Nobody)?;
        this.remove(&lock, may_go)
    }

    /// Takes the name away from this segment, as [`unlink`](Self::unlink) does.
    ///
    /// # Errors
    ///
    /// [`NotFound`](SegmentError::NotFound) if the name leads to another segment or nowhere:
    /// somebody has unlinked this one. Otherwise as those of [`unlink`](Self::unlink).
    pub fn unlink_own<E: From<SegmentError>>(
        &self,
        may_go: impl FnOnce(&Self) -> Result<bool, E>,
    ) -> Result<bool, E> {
        let wanted = Wanted {
            domain: &self.domain,
            path: &self.path,
            minimum: 0,
            writable: true,
            patience: OpenOptions::PATIENCE,
        };
        let found = wanted.find(With::Nobody)?;
        if !file::same(&found.stat, &self.stat) {
            return Err(SegmentError::NotFound { path: self.path.clone() }.into());
        }
        self.remove(&found.lock, may_go)
    }

    /// Asks, and removes the name. The lock is had for this process alone.
    fn remove<E: From<SegmentError>>(
        &self,
        _alone: &Lock,
        may_go: impl FnOnce(&Self) -> Result<bool, E>,
    ) -> Result<bool, E> {
        if !may_go(self)? {
            return Ok(false);
        }
        crash::step();
        let unlinked = retry_on_intr(|| unlink(&*self.path));
        crash::step();
        match unlinked {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Err(SegmentError::NotFound { path: self.path.clone() }.into()),
            // The directory is sticky, and the segment another member's of the group.
            Err(Errno::PERM | Errno::ACCESS) if self.stat.st_uid != geteuid().as_raw() => {
                let (path, owner) = (self.path.clone(), self.stat.st_uid);
                Err(SegmentError::OnlyItsOwner { path, owner }.into())
            }
            Err(errno) => Err(file::os(&self.path, "unlink", errno).into()),
        }
    }

    fn find(
        domain: &Domain,
        name: &SegmentName,
        options: OpenOptions,
        with: With,
    ) -> Result<(Self, Lock), SegmentError> {
        let path = domain.path_of(name);
        let wanted = Wanted {
            domain,
            path: &path,
            minimum: options.minimum as u64,
            writable: true,
            patience: options.patience,
        };
        let Found { file, stat, lock } = wanted.find(with)?;
        let mut mapping = Mapping::of(&file, file::length_of(&stat) as usize)?;
        if options.huge_pages {
            mapping.advise_huge_pages();
        }
        mapping.populate_for_reading(options.minimum).map_err(file::populating(
            file.as_fd(),
            &path,
            options.minimum,
        ))?;
        Ok((Self { mapping, file, stat, domain: domain.clone(), path }, lock))
    }

    /// The memory. See [`Mapping::region`].
    #[must_use]
    pub fn region(&self) -> Region<'_> {
        self.mapping.region()
    }

    /// The memory, for longer than it can be borrowed.
    ///
    /// # Safety
    ///
    /// What is made of it is gone before the segment is dropped.
    pub(crate) unsafe fn lasting(&self) -> Region<'static> {
        let here = self.region();
        // SAFETY: the same memory, whose address does not change as long as it is mapped.
        unsafe { Region::new(here.base(), here.len()) }
    }

    /// The mapping.
    #[must_use]
    pub fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// Bytes in it: whole pages.
    #[must_use]
    pub fn size(&self) -> usize {
        self.mapping.len()
    }

    /// Its file. The name may lead to another by now.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether its name still leads to it. By the time this returns it may not any more.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn has_name(&self) -> Result<bool, SegmentError> {
        match statat(CWD, &*self.path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(now) => Ok(file::same(&now, &self.stat)),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(file::os(&self.path, "look at", errno)),
        }
    }

    /// A new description of the same file, closed on exec: for kernel locks of one's own, and for
    /// a [`Mapping`] that keeps them. Also of a segment that has no name, or no name yet.
    ///
    /// # Errors
    ///
    /// What the kernel says. Without `/proc` the segment must still have its name.
    pub fn reopen(&self) -> Result<OwnedFd, SegmentError> {
        sys::reopen(self.file.as_fd(), &self.path, &self.stat)
            .map_err(|errno| file::os(&self.path, "open once more", errno))
    }

    /// Reserves room for those bytes of a sparse segment, so that touching them cannot be a
    /// SIGBUS; what stands in them stays. The range is widened to whole pages. Room that is there
    /// already costs nothing.
    ///
    /// # Errors
    ///
    /// [`NoSpace`](SegmentError::NoSpace), or another of [`SegmentError`]; nothing more is
    /// reserved then, unless a signal came in between.
    pub fn allocate(&self, range: Range<usize>) -> Result<(), SegmentError> {
        let (start, len) = self.pages(range, true)?;
        file::allocate(self.file.as_fd(), &self.path, start, len)
    }

    /// [`allocate`](Self::allocate), and brings the bytes into memory and this process's page
    /// tables, so that touching them is no page fault. Before Linux 5.14 it only allocates.
    ///
    /// # Errors
    ///
    /// As those of `allocate`; [`NoMemory`](SegmentError::NoMemory).
    pub fn populate(&self, range: Range<usize>) -> Result<(), SegmentError> {
        let (start, len) = self.pages(range, true)?;
        file::allocate(self.file.as_fd(), &self.path, start, len)?;
        self.mapping.populate(start, len).map_err(file::populating(
            self.file.as_fd(),
            &self.path,
            len,
        ))
    }

    /// Gives the memory behind those bytes back to the system: they are zero, and must not be
    /// touched before they are [allocated](Self::allocate) again.
    ///
    /// # Errors
    ///
    /// [`BadRange`](SegmentError::BadRange) if the range is not of whole pages; what the kernel
    /// says.
    ///
    /// # Safety
    ///
    /// Nobody, in any process, uses what lies there: whoever had a place in it has given it back,
    /// or is proven dead.
    pub unsafe fn punch(&self, range: Range<usize>) -> Result<(), SegmentError> {
        let (start, len) = self.pages(range, false)?;
        if len == 0 {
            return Ok(());
        }
        crash::step();
        let punched = sys::punch(self.file.as_fd(), start as u64, len as u64);
        crash::step();
        punched.map_err(|errno| file::os(&self.path, "punch a hole into", errno))
    }

    /// Bytes of memory that the segment takes at the moment.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn resident(&self) -> Result<u64, SegmentError> {
        let now = file::stat_of(&self.file, &self.path)?;
        Ok(u64::try_from(now.st_blocks).unwrap_or(0) * 512)
    }

    /// The error of a `check` that finds something else in the file than a segment of its kind.
    #[must_use]
    pub fn refused(&self, why: impl Into<Box<dyn StdError + Send + Sync>>) -> SegmentError {
        SegmentError::NotASegment { path: self.path.clone(), why: why.into() }
    }

    /// The start and length of a range in whole pages.
    fn pages(&self, range: Range<usize>, widen: bool) -> Result<(usize, usize), SegmentError> {
        let (page, size) = (page_size(), self.size());
        let whole = range.start.is_multiple_of(page) && range.end.is_multiple_of(page);
        if range.start > range.end || range.end > size || !(widen || whole) {
            let (path, Range { start, end }) = (self.path.clone(), range);
            return Err(SegmentError::BadRange { path, start, end, size });
        }
        let start = range.start / page * page;
        // The size is of whole pages, so this is at most the size.
        Ok((start, range.end.next_multiple_of(page) - start))
    }
}

/// Gives a file its length, reserves its room and maps it.
pub(super) fn map_new(
    file: impl AsFd,
    path: &Path,
    options: CreateOptions,
) -> Result<Mapping, SegmentError> {
    let (file, CreateOptions { size, dense, .. }) = (file.as_fd(), options);
    file::check_limit(path, size as u64)?;
    retry_on_intr(|| ftruncate(file, size as u64)).map_err(|errno| match errno {
        // More than the file system's files have.
        Errno::FBIG => SegmentError::NoMemory { path: path.into(), wanted: size as u64 },
        _ => file::os(path, "set the length of", errno),
    })?;
    file::allocate(file, path, 0, dense)?;
    let mut mapping = Mapping::named(file, size, || path.into())?;
    if options.huge_pages {
        mapping.advise_huge_pages();
    }
    if options.populate {
        mapping.populate(0, dense).map_err(file::populating(file, path, dense))?;
    }
    Ok(mapping)
}

/// Tells the caller's errors from ours.
enum Attempt<E> {
    Ours(SegmentError),
    Caller(E),
}

impl<E> From<SegmentError> for Attempt<E> {
    fn from(error: SegmentError) -> Self {
        Self::Ours(error)
    }
}
