//! Names: which processes meet.
//!
//! A segment is a file in the POSIX shared-memory file system. Its name is made of three parts,
//!
//! ```text
//! /dev/shm / shm.1000.default.clock
//!            |   |    |       +-- the segment's name
//!            |   |    +---------- the domain
//!            |   +--------------- the user it belongs to, or g and the group
//!            +------------------- of this crate
//! ```
//!
//! so that two users do not meet, nor two systems or two test runs of one user that say different
//! [`Domain`]s. A domain has no dot in it; that keeps `a.b` of domain `c` apart from `b` of domain
//! `c.a`. Bytes that no file name has are refused, never replaced: two names that look different
//! are different.
//!
//! ```
//! use shm_transport::domain::{Domain, SegmentName};
//!
//! let domain = Domain::new("doc")?;
//! let path = domain.path_of(&SegmentName::new("clock")?);
//! assert!(path.to_str().unwrap().ends_with(".doc.clock"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use rustix::process::geteuid;
use std::fmt;
use std::fs::{ReadDir, read_dir};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A set of names, and the directory they are in: only processes that say the same domain see one
/// another's segments.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Domain {
    name: Box<str>,
    directory: PathBuf,
    group: Option<u32>,
}

impl Domain {
    /// The name of the domain of those who name none.
    pub const DEFAULT: &'static str = "default";
    /// The environment variable that [`from_environment`](Self::from_environment) looks at.
    pub const VARIABLE: &'static str = "SHM_DOMAIN";
    /// The most bytes that a domain's name has.
    pub const MAX_LENGTH: usize = 64;
    /// Where segments are unless another directory is given: `/dev/shm`, a file system in memory.
    pub const DIRECTORY: &'static str = crate::segment::DIRECTORY;

    /// The domain of that name, in [`DIRECTORY`](Self::DIRECTORY), for this user alone.
    ///
    /// # Errors
    ///
    /// The name is empty, longer than [`MAX_LENGTH`](Self::MAX_LENGTH) bytes, or has a slash, a
    /// dot or a NUL in it.
    pub fn new(name: &str) -> Result<Self, NameError> {
        check(What::Domain, name, Self::MAX_LENGTH, b"/.\0")?;
        Ok(Self { name: name.into(), directory: Self::DIRECTORY.into(), group: None })
    }

    /// The domain that the environment variable [`VARIABLE`](Self::VARIABLE) names, or
    /// [`DEFAULT`](Self::DEFAULT) if it is not set.
    ///
    /// # Errors
    ///
    /// As those of [`new`](Self::new); the variable is set to something that is no name.
    pub fn from_environment() -> Result<Self, NameError> {
        match std::env::var_os(Self::VARIABLE) {
            None => Self::new(Self::DEFAULT),
            Some(name) => match name.to_str() {
                Some(name) => Self::new(name),
                None => Err(NameError::NotUtf8 { what: What::Domain }),
            },
        }
    }

    /// The same, in another directory. It should be in a file system that keeps its files in
    /// memory (tmpfs), and only those that may be believed should be able to write to it. Give an
    /// absolute path: a relative one leads elsewhere in a process with another working directory.
    #[must_use]
    pub fn in_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = directory.into();
        self
    }

    /// The same, for all members of a group instead of this user alone: segments belong to that
    /// group and are readable and writable to it, mode 0660. All members are then believed as
    /// the user himself is otherwise. In a directory with the sticky bit, as `/dev/shm` is one,
    /// only the member who created a segment can unlink it.
    #[must_use]
    pub fn of_group(mut self, gid: u32) -> Self {
        self.group = Some(gid);
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory its segments are in.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The group whose members it is for; `None` if for one user.
    #[must_use]
    pub fn group(&self) -> Option<u32> {
        self.group
    }

    /// The file of a segment.
    #[must_use]
    pub fn path_of(&self, name: &SegmentName) -> PathBuf {
        self.directory.join(self.prefix() + name.as_str())
    }

    /// The segments there are in this domain now, in no particular order, each a file of this
    /// user or group. Whether they are segments is for who opens them to say. Others come and go
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// The directory cannot be read. Later errors come from the iterator.
    pub fn segments(&self) -> io::Result<Segments<'_>> {
        let entries = read_dir(&self.directory)?;
        Ok(Segments { domain: self, prefix: self.prefix(), entries })
    }

    /// The files of all domains in a directory, of every user and group, in no particular order:
    /// what a tool shows. They are told by their names alone; whether they are segments, or files
    /// at all, is for who opens them to say. Others come and go meanwhile.
    ///
    /// ```
    /// use shm_transport::domain::{Domain, Whose};
    ///
    /// for file in Domain::all(Domain::DIRECTORY)? {
    ///     let file = file?;
    ///     match file.whose {
    ///         Whose::User(uid) => println!("{} in {} of user {uid}", file.segment, file.domain),
    ///         Whose::Group(gid) => println!("{} in {} of group {gid}", file.segment, file.domain),
    ///         _ => {}
    ///     }
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The directory cannot be read. Later errors come from the iterator.
    pub fn all(directory: impl AsRef<Path>) -> io::Result<DomainFiles> {
        let directory = directory.as_ref();
        Ok(DomainFiles { directory: directory.into(), entries: read_dir(directory)? })
    }

    /// What the file names of all its segments begin with.
    fn prefix(&self) -> String {
        let whose = match self.group {
            None => Whose::User(geteuid().as_raw()),
            Some(gid) => Whose::Group(gid),
        };
        format!("shm.{whose}.{}.", self.name)
    }

    /// The permissions of its segments.
    pub(crate) fn mode(&self) -> u32 {
        if self.group.is_some() { 0o660 } else { 0o600 }
    }
}

/// The segments of a domain; see [`Domain::segments`].
#[derive(Debug)]
pub struct Segments<'a> {
    domain: &'a Domain,
    prefix: String,
    entries: ReadDir,
}

impl Iterator for Segments<'_> {
    type Item = io::Result<SegmentName>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let entry = match self.entries.next()? {
                Ok(entry) => entry,
                Err(error) => return Some(Err(error)),
            };
            let file = entry.file_name();
            let name = file.to_str().and_then(|file| file.strip_prefix(&*self.prefix));
            let Some(Ok(name)) = name.map(SegmentName::new) else { continue };
            // Does not follow a symlink. A file that is gone by now is none of the segments.
            let Ok(found) = entry.metadata() else { continue };
            let ours = match self.domain.group {
                None => found.uid() == geteuid().as_raw(),
                Some(gid) => found.gid() == gid,
            };
            if found.is_file() && ours {
                return Some(Ok(name));
            }
        }
    }
}

/// Who a domain is for, as the names of its files say.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Whose {
    /// One user, of this number.
    User(u32),
    /// The members of a group, of this number.
    Group(u32),
}

impl Whose {
    /// The part of a file's name that says so.
    fn parse(text: &str) -> Option<Self> {
        let (number, group) = match text.strip_prefix('g') {
            Some(number) => (number, true),
            None => (text, false),
        };
        // As it is written, and not "+1" or "01": two names are not of one domain.
        let found = number.parse().ok().filter(|found: &u32| found.to_string() == number)?;
        Some(if group { Self::Group(found) } else { Self::User(found) })
    }
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(uid) => uid.fmt(f),
            Self::Group(gid) => write!(f, "g{gid}"),
        }
    }
}

/// A file whose name is that of a segment of some domain; see [`Domain::all`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub struct DomainFile {
    /// Who the domain is for. The file may be another's nevertheless.
    pub whose: Whose,
    /// The domain's name.
    pub domain: Box<str>,
    /// The segment's name.
    pub segment: SegmentName,
    /// The file.
    pub path: PathBuf,
}

impl DomainFile {
    /// What a file of that name is; `None` if none of a domain.
    #[must_use]
    pub fn of(path: PathBuf) -> Option<Self> {
        let mut parts = path.file_name()?.to_str()?.strip_prefix("shm.")?.splitn(3, '.');
        let whose = Whose::parse(parts.next()?)?;
        let domain: Box<str> = parts.next()?.into();
        check(What::Domain, &domain, Domain::MAX_LENGTH, b"/.\0").ok()?;
        let segment = SegmentName::new(parts.next()?).ok()?;
        Some(Self { whose, domain, segment, path })
    }

    /// The domain, as this process may use it; `None` if it is another user's.
    #[must_use]
    pub fn to_domain(&self) -> Option<Domain> {
        let domain = Domain::new(&self.domain).ok()?.in_directory(self.path.parent()?);
        match self.whose {
            Whose::User(uid) => (uid == geteuid().as_raw()).then_some(domain),
            Whose::Group(gid) => Some(domain.of_group(gid)),
        }
    }
}

/// The files of all domains of a directory; see [`Domain::all`].
#[derive(Debug)]
pub struct DomainFiles {
    directory: PathBuf,
    entries: ReadDir,
}

impl Iterator for DomainFiles {
    type Item = io::Result<DomainFile>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.entries.next()? {
                Ok(entry) => match DomainFile::of(self.directory.join(entry.file_name())) {
                    Some(found) => return Some(Ok(found)),
                    None => continue,
                },
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// The name of a segment in its domain. `members` is taken: by the domain's
/// [members](crate::member).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SegmentName(Box<str>);

impl SegmentName {
    /// The most bytes that a name has.
    pub const MAX_LENGTH: usize = 160;

    /// That name.
    ///
    /// # Errors
    ///
    /// It is empty, longer than [`MAX_LENGTH`](Self::MAX_LENGTH) bytes, or has a slash or a NUL
    /// in it.
    pub fn new(name: &str) -> Result<Self, NameError> {
        check(What::Segment, name, Self::MAX_LENGTH, b"/\0")?;
        Ok(Self(name.into()))
    }

    /// As it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// The longest file name there is: no domain makes a name too long that is valid in another.
const _: () = assert!(
    "shm.g4294967295.".len() + Domain::MAX_LENGTH + ".".len() + SegmentName::MAX_LENGTH <= 255
);

/// What a name is given to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// A domain.
    Domain,
    /// A segment.
    Segment,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Domain => "domain",
            Self::Segment => "segment",
        })
    }
}

/// Why something is no name.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum NameError {
    /// It has no bytes.
    #[error("the name of a {what} is empty: give it at least one byte")]
    Empty {
        /// What was to be named.
        what: What,
    },
    /// It is too long.
    #[error("the name of a {what} has {found} bytes, and {most} are the most: shorten it")]
    TooLong {
        /// What was to be named.
        what: What,
        /// Bytes it has.
        found: usize,
        /// Bytes it may have.
        most: usize,
    },
    /// It has a byte that it must not have.
    #[error("the name {name:?} of a {what} has {:?} at byte {at}: leave it out", char::from(*byte))]
    Has {
        /// What was to be named.
        what: What,
        /// The name.
        name: String,
        /// The byte.
        byte: u8,
        /// Where it stands.
        at: usize,
    },
    /// It is not UTF-8.
    #[error("the name of a {what} is not UTF-8: use letters and digits")]
    NotUtf8 {
        /// What was to be named.
        what: What,
    },
}

fn check(what: What, name: &str, most: usize, refused: &[u8]) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty { what });
    }
    if name.len() > most {
        return Err(NameError::TooLong { what, found: name.len(), most });
    }
    match name.bytes().position(|byte| refused.contains(&byte)) {
        Some(at) => {
            let byte = name.as_bytes()[at];
            Err(NameError::Has { what, name: name.into(), byte, at })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_say_the_domain() {
        let of = |name: &str| DomainFile::of(Path::new("/dev/shm").join(name));
        let found = of("shm.1000.default.a.b").unwrap();
        assert_eq!((found.whose, &*found.domain), (Whose::User(1000), "default"));
        assert_eq!(found.segment.as_str(), "a.b");
        let found = of("shm.g7.x.members").unwrap();
        assert_eq!(found.whose, Whose::Group(7));
        assert_eq!(found.to_domain().unwrap().group(), Some(7));
        for name in [
            "shm.1000.default.",
            "shm.1000.default",
            "shm.1000..a",
            "shm.01000.default.a",
            "shm.+1.default.a",
            "shm.-1.default.a",
            "shm.4294967296.default.a",
            "shm.g.default.a",
            "shm.gg1.default.a",
            "shm..default.a",
            "shmx.1.default.a",
            "sem.1.default.a",
        ] {
            assert_eq!(of(name), None, "{name}");
        }
        let long = "d".repeat(Domain::MAX_LENGTH + 1);
        assert_eq!(of(&format!("shm.1.{long}.a")), None);
    }

    #[test]
    fn a_file_s_domain_is_the_one_that_names_it() {
        let group = Domain::new("d").unwrap().in_directory("/somewhere").of_group(7);
        let user = Domain::new("d").unwrap().in_directory("/somewhere");
        for domain in [group, user] {
            let name = SegmentName::new("node.x.y").unwrap();
            let found = DomainFile::of(domain.path_of(&name)).unwrap();
            assert_eq!(found.to_domain(), Some(domain));
            assert_eq!(found.segment, name);
        }
        let other = geteuid().as_raw().wrapping_add(1);
        let found = DomainFile::of(format!("/dev/shm/shm.{other}.d.x").into()).unwrap();
        assert_eq!(found.to_domain(), None, "another user's");
    }
}
