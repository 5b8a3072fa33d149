//! A segment that has a name, to look at.

use super::error::SegmentError;
use super::file::{self, Found, Wanted, With};
use super::mapping::ReadOnlyMapping;
use super::options::OpenOptions;
use crate::domain::{Domain, SegmentName};
use std::error::Error as StdError;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// A segment with a name, mapped for reading alone: a mistake of this process cannot damage it.
/// Against ill will it is no protection, since who may open the file for reading may for writing.
#[derive(Debug)]
pub struct ReadOnlySegment {
    mapping: ReadOnlyMapping,
    path: PathBuf,
}

impl ReadOnlySegment {
    /// Opens the segment of that name, as [`Segment::open`](super::Segment::open) does. `check`
    /// can claim no place here: nothing keeps the name from being taken away afterwards.
    ///
    /// # Errors
    ///
    /// As those of [`Segment::open`](super::Segment::open).
    pub fn open<T, E: From<SegmentError>>(
        domain: &Domain,
        name: &SegmentName,
        options: OpenOptions,
        check: impl FnOnce(&Self) -> Result<T, E>,
    ) -> Result<(Self, T), E> {
        let path = domain.path_of(name);
        let wanted = Wanted {
            domain,
            path: &path,
            minimum: options.minimum as u64,
            writable: false,
            patience: options.patience,
        };
        let Found { file, stat, lock } = wanted.find(With::Others)?;
        let mapping = ReadOnlyMapping::of(&file, file::length_of(&stat) as usize)?;
        mapping.populate_for_reading(options.minimum).map_err(file::populating(
            file.as_fd(),
            &path,
            options.minimum,
        ))?;
        let this = Self { mapping, path };
        let checked = check(&this)?;
        drop(lock);
        Ok((this, checked))
    }

    /// The mapping.
    #[must_use]
    pub fn mapping(&self) -> &ReadOnlyMapping {
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

    /// The error of a `check` that finds something else in the file than a segment of its kind.
    #[must_use]
    pub fn refused(&self, why: impl Into<Box<dyn StdError + Send + Sync>>) -> SegmentError {
        SegmentError::NotASegment { path: self.path.clone(), why: why.into() }
    }
}
