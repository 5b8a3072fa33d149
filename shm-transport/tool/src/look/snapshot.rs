//! A copy of a segment, to be looked at in peace.

use super::file::os;
use super::{LookError, Seen};
use rustix::fs::{MemfdFlags, SeekFrom, ftruncate, memfd_create, seek};
use rustix::io::{Errno, pread, pwrite, retry_on_intr};
use rustix::param::page_size;
use rustix::process::{Resource, getrlimit};
use shm_primitives::region::Region;
use shm_transport::segment::Mapping;
use std::os::fd::OwnedFd;
use std::path::Path;

/// What a segment held when it was copied, in memory of this process alone.
///
/// The file is only read, by system calls: pages of it that are not there stay so, nobody's word
/// is touched, and a file that becomes shorter meanwhile is no SIGBUS. The structures of
/// `shm-primitives` can be attached to the copy, and even be written to: nobody sees it. What was
/// changed while it was copied may be there in part; the beginning of each page is the older part.
#[derive(Debug)]
pub struct Snapshot {
    mapping: Mapping,
    memory: OwnedFd,
    /// The file copied, opened for reading.
    file: OwnedFd,
    seen: Seen,
    /// Bytes that were there and have not been copied.
    left_out: u64,
    /// Where the first of them is.
    cut: u64,
}

impl Snapshot {
    /// Bytes that are copied at most, from the beginning.
    pub const MOST: u64 = 48 << 20;
    /// Bytes that a copy is long at most.
    const LONGEST: u64 = 1 << 40;

    /// A copy of the file of that name.
    pub fn of(path: &Path) -> Result<Self, LookError> {
        Self::limited(path, Self::MOST)
    }

    /// A copy of at most so many bytes, from the beginning.
    pub fn limited(path: &Path, most: u64) -> Result<Self, LookError> {
        let mut this = Self::empty(path)?;
        this.copy(most).map_err(|errno| os(path, "read", errno))?;
        Ok(this)
    }

    /// A copy of nothing yet, to be [filled](Self::fetch).
    pub fn empty(path: &Path) -> Result<Self, LookError> {
        let (file, seen) = Seen::open(path)?;
        let no_copy = |why: String| LookError::NoCopy { path: path.into(), why };
        // Never empty: there is no empty mapping.
        let length = seen.size.clamp(1, Self::LONGEST).next_multiple_of(page_size() as u64);
        if let Some(limit) = getrlimit(Resource::Fsize).current
            && limit < length
        {
            // The kernel would answer with a signal.
            return Err(no_copy(format!(
                "this process may write {limit} bytes to a file, and it has {length}: raise the \
                 limit (ulimit -f)"
            )));
        }
        let memory = memfd_create("shm-snapshot", MemfdFlags::CLOEXEC)
            .map_err(|errno| no_copy(format!("no memory file can be made: {errno}")))?;
        ftruncate(&memory, length).map_err(|errno| no_copy(errno.to_string()))?;
        let size = usize::try_from(length)
            .map_err(|_| no_copy(format!("{length} bytes are more than addresses")))?;
        let mapping = Mapping::of(&memory, size).map_err(|error| no_copy(error.to_string()))?;
        Ok(Self { mapping, memory, file, seen, left_out: 0, cut: u64::MAX })
    }

    /// Copies those bytes, now or once more. What is not there stays as it is.
    pub fn fetch(&self, at: u64, len: u64) -> Result<(), LookError> {
        let end = at.saturating_add(len).min(self.seen.size.min(Self::LONGEST));
        let mut buffer = vec![0; usize::try_from(len).unwrap_or(usize::MAX).min(64 << 10)];
        let fetched = self.fetch_with(at, end, &mut buffer);
        fetched.map_err(|errno| os(&self.seen.path, "read", errno))
    }

    fn fetch_with(&self, mut at: u64, end: u64, buffer: &mut [u8]) -> Result<(), Errno> {
        while at < end {
            let want = (end - at).min(buffer.len() as u64) as usize;
            let got = retry_on_intr(|| pread(&self.file, &mut buffer[..want], at))?;
            if got == 0 {
                // It has become shorter.
                return Ok(());
            }
            let mut written = 0;
            while written < got {
                written += retry_on_intr(|| {
                    pwrite(&self.memory, &buffer[written..got], at + written as u64)
                })?;
            }
            at += got as u64;
        }
        Ok(())
    }

    /// Copies what is there, hole by hole.
    fn copy(&mut self, most: u64) -> Result<(), Errno> {
        let (mut at, end) = (0, self.seen.size.min(Self::LONGEST));
        let mut copied = 0;
        let mut buffer = vec![0; 64 << 10];
        while at < end {
            let (begin, hole) = match seek(&self.file, SeekFrom::Data(at)) {
                Ok(begin) => (begin, seek(&self.file, SeekFrom::Hole(begin)).unwrap_or(end)),
                // Nothing but a hole up to the end.
                Err(Errno::NXIO) => break,
                // A file system without holes.
                Err(Errno::INVAL) => (at, end),
                Err(errno) => return Err(errno),
            };
            let until = hole.min(end);
            at = begin;
            let stop = until.min(at.saturating_add(most - copied));
            self.fetch_with(at, stop, &mut buffer)?;
            copied += stop - at;
            if stop < until {
                self.left_out += until - stop;
                self.cut = self.cut.min(stop);
            }
            at = until;
        }
        Ok(())
    }

    /// What was copied, as the file was long. Of what [was left out](Self::left_out) all is zero.
    pub fn region(&self) -> Region<'_> {
        let whole = self.mapping.region();
        let size = usize::try_from(self.seen.size).unwrap_or(usize::MAX);
        // An empty file has an empty region.
        whole.part(0, size.min(whole.len())).expect("no longer than the mapping")
    }

    /// The file.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// The file that was copied: to look at its locks.
    pub fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// Bytes that were there and were not copied.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Whether nothing of that range was left out.
    pub fn has(&self, at: u64, len: u64) -> bool {
        at.saturating_add(len) <= self.cut
    }

    /// Bytes of the copy; `None` if they do not all lie in the file.
    pub fn bytes(&self, at: u64, len: usize) -> Option<Vec<u8>> {
        if at.checked_add(len as u64)? > self.seen.size {
            return None;
        }
        let mut bytes = vec![0; len];
        let mut got = 0;
        while got < len {
            match retry_on_intr(|| pread(&self.memory, &mut bytes[got..], at + got as u64)) {
                Ok(0) | Err(_) => return None,
                Ok(more) => got += more,
            }
        }
        Some(bytes)
    }

    /// Words of the copy; `None` if they do not all lie in the file.
    pub fn words<const N: usize>(&self, at: u64) -> Option<[u32; N]> {
        let bytes = self.bytes(at, N * 4)?;
        let (words, _) = bytes.as_chunks::<4>();
        Some(std::array::from_fn(|word| u32::from_le_bytes(words[word])))
    }

    /// Changes a word of the copy.
    pub fn set_word(&self, at: u64, word: u32) {
        // It cannot fail where a word was read; and if it did, what follows would say so.
        let _ = pwrite(&self.memory, &word.to_le_bytes(), at);
    }
}
