//! The directory that segments lie in.

use super::Finding;
use crate::output::bytes;
use rustix::fs::{Mode, OFlags, open, statfs, statvfs};
use shm_primitives::sync::{AtomicU32, Ordering::Relaxed};
use shm_transport::domain::{Domain, SegmentName};
use shm_transport::liveness::{ByteLock, is_locked};
use shm_transport::segment::{CreateOptions, OpenOptions, Segment, SegmentError};
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::id;

/// What `statfs` says of a tmpfs, and of a ramfs.
const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58f6;
/// Least room for anything: a domain's members and two nodes.
const LEAST: u64 = 1 << 20;
/// Room that is soon used up.
const LITTLE: u64 = 32 << 20;

pub fn check(directory: &Path) -> Vec<Finding> {
    let mut checks = vec![the_directory(directory)];
    if directory.is_dir() {
        checks.extend([file_system(directory), room(directory), segment(directory)]);
        checks.push(locks(directory));
    }
    checks
}

fn the_directory(directory: &Path) -> Finding {
    let name = "directory";
    let shown = directory.display();
    let found = match fs::metadata(directory) {
        Ok(found) if found.is_dir() => found,
        Ok(_) => {
            return Finding::fail(
                name,
                format!("{shown} is no directory"),
                "name another directory",
            );
        }
        Err(error) => {
            return Finding::fail(
                name,
                format!("{shown}: {error}"),
                "mount a tmpfs there, or name another directory",
            );
        }
    };
    let mode = found.mode() & 0o7777;
    let facts = format!("{shown}, of user {}, mode {mode:04o}", found.uid());
    if mode & 0o002 != 0 && mode & 0o1000 == 0 {
        return Finding::warn(
            name,
            facts,
            format!("anybody can remove others' segments: chmod +t {shown}"),
        );
    }
    Finding::ok(name, facts)
}

fn file_system(directory: &Path) -> Finding {
    let name = "file system";
    match statfs(directory) {
        Ok(found) if found.f_type as u64 & 0xffff_ffff == TMPFS => {
            Finding::ok(name, "tmpfs, in memory")
        }
        Ok(found) if found.f_type as u64 & 0xffff_ffff == RAMFS => Finding::warn(
            name,
            "ramfs, in memory",
            "it has no limit, and may use up all memory: mount a tmpfs instead",
        ),
        Ok(found) => Finding::warn(
            name,
            format!("of type {:#x}, no tmpfs", found.f_type),
            "segments may be written to a disk: mount a tmpfs there, or use /dev/shm",
        ),
        Err(error) => Finding::fail(name, error, "name another directory"),
    }
}

fn room(directory: &Path) -> Finding {
    let name = "room";
    let found = match statvfs(directory) {
        Ok(found) => found,
        Err(error) => return Finding::fail(name, error, "name another directory"),
    };
    let (free, all) = (found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize);
    let facts = format!("{} free of {}", bytes(free), bytes(all));
    let enlarge = format!(
        "remove what nobody uses (`shm list`, `shm clean`), or enlarge it: mount -o \
         remount,size=SIZE {}, or --shm-size of the container",
        directory.display()
    );
    // None counted, none missing.
    if found.f_files > 0 && found.f_favail < 16 {
        let facts = format!("{facts}; {} of {} files left", found.f_favail, found.f_files);
        return Finding::fail(name, facts, enlarge);
    }
    match free {
        free if free < LEAST => Finding::fail(name, facts, enlarge),
        free if free < LITTLE => Finding::warn(name, facts, enlarge),
        _ => Finding::ok(name, facts),
    }
}

/// The first word of a segment.
fn word(segment: &Segment) -> Result<&AtomicU32, SegmentError> {
    AtomicU32::at(&segment.region()).map_err(|error| segment.refused(error))
}

/// Makes one, opens it and removes it.
fn segment(directory: &Path) -> Finding {
    let name = "segments";
    let tried = || -> Result<(), SegmentError> {
        let domain = Domain::new(&format!("doctor-{}", id()))?.in_directory(directory);
        let segment = SegmentName::new("check")?;
        let options = CreateOptions::new(4096).populate(true);
        let (made, ()) = Segment::create(&domain, &segment, options, |segment| {
            word(segment)?.store(42, Relaxed);
            Ok::<_, SegmentError>(())
        })?;
        let opened = Segment::open(&domain, &segment, OpenOptions::new(4), |segment| {
            match word(segment)?.load(Relaxed) {
                42 => Ok(()),
                other => Err(segment.refused(format!("{other} was read where 42 was written"))),
            }
        });
        let removed = made.unlink_own(|_| Ok::<_, SegmentError>(true));
        opened?;
        removed?;
        Ok(())
    };
    match tried() {
        Ok(()) => Finding::ok(name, "one was made, mapped twice, and removed"),
        Err(error) => Finding::fail(name, error, "nothing works without: mend this first"),
    }
}

/// Takes a lock, sees it from outside, and sees it fall.
fn locks(directory: &Path) -> Finding {
    let name = "locks";
    const BYTE: u64 = 4097;
    let tried = || -> Result<bool, String> {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        let file = open(directory, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| format!("no file without a name can be made: {error}"))?;
        let looked = || is_locked(file.as_fd(), BYTE).map_err(|error| error.to_string());
        let lock = ByteLock::take(file.as_fd(), BYTE).map_err(|error| error.to_string())?;
        let held = lock.is_some() && looked()?;
        drop(lock);
        Ok(held && !looked()?)
    };
    match tried() {
        Ok(true) => Finding::ok(name, "the kernel shows who lives, and whose lock has fallen"),
        Ok(false) => Finding::fail(
            name,
            "a lock was taken and is not seen from outside",
            "deaths cannot be proven on this file system: use a tmpfs, such as /dev/shm",
        ),
        Err(error) => Finding::fail(name, error, "use a tmpfs, such as /dev/shm"),
    }
}
