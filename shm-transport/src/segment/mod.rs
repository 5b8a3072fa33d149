//! Memory that several processes map: files of a memory file system, found by name, and memory
//! without a name, passed over a socket.
//!
//! | you have | use |
//! |---|---|
//! | a name that others know | [`Segment`] |
//! | the same, to look at only | [`ReadOnlySegment`] |
//! | a Unix socket to the other process | [`SealedSegment`], [`Passed`] |
//! | a file opened otherwise | [`Mapping`], [`ReadOnlyMapping`] |
//!
//! What stands in the memory is the caller's: closures that the caller gives write it, check it,
//! and say whether it may go. They are run at the moments at which nobody can come in between.
//!
//! # Who does what, and what a kill leaves
//!
//! No step below has to be repaired by anybody: descriptors, their locks and files without a
//! name are the kernel's to clear away.
//!
//! **The creator** ([`Segment::create`]):
//!
//! | step | killed after it |
//! |---|---|
//! | opens a file without a name in the directory, gives it its mode and group | nothing is left |
//! | sets its length, reserves room for what will be touched | nothing is left |
//! | maps it; the caller's closure writes the content and takes what shows that the creator lives | nothing is left |
//! | links it under its name, which fails if somebody has the name | a whole segment of a dead owner: any unlinker may remove it |
//!
//! So there is no half of a segment that anybody could see, and two creators of one name cannot
//! both have it.
//!
//! **The opener** ([`Segment::open`]):
//!
//! | step | killed after it |
//! |---|---|
//! | opens the file, following no symlink; checks that it is a file, whose, with what mode and how long | nothing is left |
//! | takes a shared lock (`flock`) of it | nothing: the lock falls |
//! | opens the name once more, and if it leads to another file by now begins anew | the same |
//! | maps this second description; the caller's closure checks the content and claims its place | its place stays claimed by a dead one: who finds that out gives it back |
//! | lets go of the lock | the same |
//!
//! **The unlinker** ([`Segment::unlink`]), which may be the owner who leaves, or whoever found
//! the owner dead:
//!
//! | step | killed after it |
//! |---|---|
//! | as the opener, but takes the lock for itself alone; as long as it waits for that it has a lock of the file's first byte (`F_OFD_SETLK`) | nothing: the locks fall |
//! | asks the caller's closure whether the segment may go: nobody can claim a place meanwhile | the same |
//! | removes the name | the segment has no name; whoever has it mapped goes on with it, and it is gone with the last of them |
//!
//! The lock is what makes the closure's answer hold: an opener is either done with claiming its
//! place, so that the closure sees it, or it has not checked the name yet, and finds it gone. The
//! unlinker never waits for those who map the segment, only for those who are just opening it.
//! Nor does anybody wait for a lock for ever: its holder may have been stopped. After
//! [`patience`](OpenOptions::patience) it is [`Busy`](SegmentError::Busy), with the number of the
//! process if the kernel tells. Openers come in together, so that an unlinker might find one there
//! each time it looks: on Linux those that come while it waits let it go first, for a quarter of
//! their own patience.
//!
//! What is locked is a description that is never mapped, and what is mapped is never locked: a
//! mapping keeps its description and so would keep the lock. A child that is forked while another
//! thread has a lock has it too: if the parent is killed before it gives the lock back, it falls
//! when the child ends or runs another program.
//!
//! # Trust
//!
//! Who may write to the file (its user, or the group of a [group's domain](Domain::of_group)) is
//! trusted not to make it shorter while others use it: they would get a SIGBUS. The kernel can
//! seal a file against that only if it has no name: [`SealedSegment`]. Everything else that a
//! file of that name may be is an error, and is not changed; what the content says is for the
//! caller's closure to check.
//!
//! # Full
//!
//! The file system has a size, and a page of it that has no room is a SIGBUS at the first access,
//! reading ones too. So [`CreateOptions::new`] reserves room for all, and
//! [`CreateOptions::sparse`] for the beginning; room for the rest is reserved with
//! [`Segment::allocate`] before it is touched. All of these fail with
//! [`NoSpace`](SegmentError::NoSpace). Whoever opens has `minimum` bytes looked at in advance.
//!
//! # Example
//!
//! ```
//! use shm_primitives::sync::{AtomicU32, Ordering::Relaxed};
//! use shm_transport::domain::{Domain, SegmentName};
//! use shm_transport::segment::{CreateOptions, OpenOptions, Segment, SegmentError};
//!
//! let domain = Domain::new(&format!("doc-{}", std::process::id()))?;
//! let name = SegmentName::new("answer")?;
//! let (mine, ()) = Segment::create(&domain, &name, CreateOptions::new(4096), |segment| {
//!     AtomicU32::at(&segment.region()).expect("a page has a word").store(42, Relaxed);
//!     Ok::<_, SegmentError>(())
//! })?;
//!
//! // In another process:
//! let (theirs, word) = Segment::open(&domain, &name, OpenOptions::new(4), |segment| {
//!     match AtomicU32::at(&segment.region()).expect("a page has a word").load(Relaxed) {
//!         42 => Ok(42),
//!         other => Err(segment.refused(format!("{other} is not the answer"))),
//!     }
//! })?;
//! assert_eq!(word, 42);
//!
//! // Its creator leaves; who has it mapped keeps it.
//! assert!(mine.unlink_own(|_| Ok::<_, SegmentError>(true))?);
//! assert_eq!(AtomicU32::at(&theirs.region())?.load(Relaxed), 42);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod file;
mod mapping;
mod named;
mod options;
mod read_only;
#[cfg(target_os = "linux")]
mod sealed;
#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod sys;
#[cfg(not(target_os = "linux"))]
#[path = "portable.rs"]
mod sys;

pub use error::{FileKind, SegmentError};
pub use mapping::{HugePages, Mapping, ReadOnlyMapping};
pub use named::{Origin, Segment};
pub use options::{CreateOptions, OpenOptions};
pub use read_only::ReadOnlySegment;
#[cfg(target_os = "linux")]
pub use sealed::{Passed, SealedSegment, Writers};

pub(crate) use sys::DIRECTORY;

#[cfg(doc)]
use crate::domain::Domain;
