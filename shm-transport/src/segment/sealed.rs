//! Memory without a name, which nobody can truncate, passed over a Unix socket. Linux.
//!
//! It is a memfd: a file that is in no directory, gone with its last user. Its creator seals its
//! size, so that no access to it is a SIGBUS for being behind its end, whoever has it; a receiver
//! looks at the seals before it maps. What nobody has touched yet takes memory of whoever touches
//! it first, and where the system promises no more than it has (`vm.overcommit_memory` is 2) and
//! that is used up, touching it is a SIGBUS too. [`CreateOptions::new`] reserves it beforehand,
//! but a peer that can write can give it back.

use super::error::SegmentError;
use super::file;
use super::mapping::{Mapping, ReadOnlyMapping};
use super::named::map_new;
use super::options::CreateOptions;
use super::sys;
use rustix::cmsg_space;
use rustix::fs::{FileType, MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};
use rustix::io::{Errno, IoSlice, IoSliceMut, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::param::page_size;
use shm_primitives::region::Region;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The length stays, and that it does stays too.
const SIZE: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// What stands before the tag of a message.
const MAGIC: &[u8; 8] = b"shm-fd 1";

/// Who can write to memory that is passed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Writers {
    /// Its creator, and everybody it is passed to.
    All,
    /// Its creator alone, by the mapping it has; the kernel gives nobody another that can write
    /// (Linux 5.1). Room that is given back cannot be had again then.
    Creator,
}

/// Memory without a name, mapped for reading and writing. It is gone with the last process that
/// has it.
#[derive(Debug)]
pub struct SealedSegment {
    mapping: Mapping,
    file: OwnedFd,
    path: PathBuf,
}

impl SealedSegment {
    /// Makes memory, all zero, lets `initialise` write to it, and seals it. `name` is only what
    /// tools such as `lsof` show.
    ///
    /// # Errors
    ///
    /// As those of [`Segment::create`](super::Segment::create). The name is at most 249 bytes.
    pub fn create<T, E: From<SegmentError>>(
        name: &str,
        options: CreateOptions,
        writers: Writers,
        initialise: impl FnOnce(&Self) -> Result<T, E>,
    ) -> Result<(Self, T), E> {
        let options = options.in_pages()?;
        let path = PathBuf::from(format!("memfd:{name}"));
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = memfd_create(name, flags).map_err(|errno| file::os(&path, "make", errno))?;
        let mapping = map_new(&file, &path, options)?;
        let this = Self { mapping, file, path };
        let made = initialise(&this)?;
        let seals = match writers {
            Writers::All => SIZE,
            Writers::Creator => SIZE | SealFlags::FUTURE_WRITE,
        };
        fcntl_add_seals(&this.file, seals).map_err(|errno| file::os(&this.path, "seal", errno))?;
        Ok((this, made))
    }

    /// Passes it to the other end of a connected Unix socket, together with `tag`, which tells
    /// several of them apart. Waits as the socket does.
    ///
    /// # Errors
    ///
    /// What the kernel says: the other end is gone, or a socket that does not block is full.
    pub fn send(&self, socket: impl AsFd, tag: u64) -> Result<(), SegmentError> {
        let mut message = [0; 16];
        message[..8].copy_from_slice(MAGIC);
        message[8..].copy_from_slice(&tag.to_le_bytes());
        let files = [self.file.as_fd()];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fits = control.push(SendAncillaryMessage::ScmRights(&files));
        debug_assert!(fits, "room for one descriptor");
        let parts = [IoSlice::new(&message)];
        let sent = retry_on_intr(|| sendmsg(&socket, &parts, &mut control, SendFlags::NOSIGNAL));
        match sent {
            // A stream takes so few bytes whole or not at all.
            Ok(_) => Ok(()),
            Err(errno) => Err(file::os(&self.path, "pass", errno)),
        }
    }

    /// The memory. See [`Mapping::region`].
    #[must_use]
    pub fn region(&self) -> Region<'_> {
        self.mapping.region()
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
}

/// Its descriptor, for ways of passing it other than [`send`](SealedSegment::send): a child's
/// standard input, say. Whoever receives it makes [`Passed`] of it.
impl AsFd for SealedSegment {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Memory that another process passed, looked at and not mapped yet.
///
/// Its description is the same as the sender's: take no kernel locks on it.
#[derive(Debug)]
pub struct Passed {
    file: OwnedFd,
    path: PathBuf,
    size: usize,
    read_only: bool,
    tag: u64,
}

impl Passed {
    /// Takes what [`SealedSegment::send`] passed, from the other end of the socket. Waits as the
    /// socket does.
    ///
    /// # Errors
    ///
    /// [`Closed`](SegmentError::Closed); [`NotPassed`](SegmentError::NotPassed) if something else
    /// came, after which the socket is best closed; as those of [`new`](Self::new); what the
    /// kernel says. Descriptors that came in vain are closed.
    pub fn receive(socket: impl AsFd) -> Result<Self, SegmentError> {
        let mut message = [0; 16];
        // Room for another, to notice that there was one; and for the sender's credentials, which
        // a socket may have been asked for and which come first.
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(2), ScmCredentials(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = retry_on_intr(|| {
            let mut parts = [IoSliceMut::new(&mut message)];
            recvmsg(&socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)
        });
        let received = received.map_err(|errno| SegmentError::Os {
            path: "the socket".into(),
            operation: "receive from",
            source: errno.into(),
        })?;
        let mut files = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(passed) = message {
                files.extend(passed);
            }
        }
        if received.bytes == 0 {
            return Err(SegmentError::Closed);
        }
        let (magic, tag) = message.split_at(8);
        if received.bytes != message.len() || magic != MAGIC {
            return Err(SegmentError::NotPassed { what: "something else" });
        }
        let what = match (files.pop(), files.pop()) {
            (Some(file), None) if !received.flags.contains(ReturnFlags::CTRUNC) => {
                let tag = u64::from_le_bytes(tag.try_into().expect("8 of 16 bytes"));
                return Self::new(file, tag);
            }
            (None, _) if received.flags.contains(ReturnFlags::CTRUNC) => {
                "a descriptor for which this process has no number left (see ulimit -n)"
            }
            (None, _) => "no descriptor",
            _ => "more than one descriptor",
        };
        Err(SegmentError::NotPassed { what })
    }

    /// A descriptor that was passed otherwise.
    ///
    /// # Errors
    ///
    /// It is no file, or its length is not sealed or none of a segment.
    pub fn new(file: OwnedFd, tag: u64) -> Result<Self, SegmentError> {
        let path = sys::name_of(file.as_fd());
        let stat = file::stat_of(&file, &path)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(SegmentError::NotAFile { path, kind: file::kind_of(stat.st_mode) });
        }
        let seals = match fcntl_get_seals(&file) {
            Ok(seals) => seals,
            // A file that can have none.
            Err(Errno::INVAL) => SealFlags::empty(),
            Err(errno) => return Err(file::os(&path, "look at the seals of", errno)),
        };
        if !seals.contains(SIZE) {
            let missing = format!("{:?}", SIZE.difference(seals));
            return Err(SegmentError::NotSealed { path, missing });
        }
        // Only now: it could have changed before.
        let found = file::length_of(&file::stat_of(&file, &path)?);
        let size = usize::try_from(found).ok().filter(|size| *size <= isize::MAX as usize);
        let Some(size) = size.filter(|size| *size != 0) else {
            return Err(SegmentError::BadSize { found, most: isize::MAX as u64 });
        };
        if !size.is_multiple_of(page_size()) {
            return Err(SegmentError::NotWholePages { path, found, page: page_size() });
        }
        let read_only = seals.intersects(SealFlags::FUTURE_WRITE | SealFlags::WRITE);
        Ok(Self { file, path, size, read_only, tag })
    }

    /// What the sender passed with it.
    #[must_use]
    pub fn tag(&self) -> u64 {
        self.tag
    }

    /// Bytes in it: whole pages.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether it can only be mapped for reading.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// What the kernel calls it: `/memfd:` and the name its creator gave it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Maps it for reading and writing. What stands in it is for the caller to check.
    ///
    /// # Errors
    ///
    /// [`OnlyForReading`](SegmentError::OnlyForReading);
    /// [`NoMemory`](SegmentError::NoMemory); what the kernel says.
    pub fn map(self) -> Result<SealedSegment, SegmentError> {
        if self.read_only {
            return Err(SegmentError::OnlyForReading { path: self.path });
        }
        let mapping = Mapping::of(&self.file, self.size)?;
        Ok(SealedSegment { mapping, file: self.file, path: self.path })
    }

    /// Maps it for reading.
    ///
    /// # Errors
    ///
    /// [`NoMemory`](SegmentError::NoMemory); what the kernel says.
    pub fn map_for_reading(self) -> Result<ReadOnlyMapping, SegmentError> {
        ReadOnlyMapping::of(&self.file, self.size)
    }
}
