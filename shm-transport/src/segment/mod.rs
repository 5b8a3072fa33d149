//! Memory that several processes map.
mod error;
mod file;
mod mapping;
#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod sys;
#[cfg(not(target_os = "linux"))]
#[path = "portable.rs"]
mod sys;

pub use error::{FileKind, SegmentError};
pub use mapping::{HugePages, Mapping, ReadOnlyMapping};
pub(crate) use sys::DIRECTORY;
