//! What the tests of segments share.
#![allow(dead_code, reason = "not every test uses all of it")]

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use shm_primitives::sync::{AtomicU32, Ordering::Relaxed};
use shm_transport::domain::{Domain, SegmentName};
use shm_transport::segment::{CreateOptions, OpenOptions, Segment, SegmentError};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic;

pub const PAGE: usize = 4096;

/// A domain in a directory of its own, in memory; both are gone with it.
#[derive(Debug)]
pub struct Place {
    pub domain: Domain,
    pub directory: PathBuf,
}

impl Place {
    pub fn new() -> Self {
        let directory = Path::new("/dev/shm").join(unique());
        fs::create_dir(&directory).unwrap();
        let domain = Domain::new("test").unwrap().in_directory(&directory);
        Self { domain, directory }
    }

    /// All that is in the directory.
    pub fn files(&self) -> Vec<String> {
        files(&self.directory)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.domain.path_of(&self::name(name))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A name that no other test has, of this run or another.
pub fn unique() -> String {
    static MADE: atomic::AtomicU32 = atomic::AtomicU32::new(0);
    let number = MADE.fetch_add(1, atomic::Ordering::Relaxed);
    format!("shm-transport-test-{}-{number}", std::process::id())
}

pub fn files(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

pub fn name(name: &str) -> SegmentName {
    SegmentName::new(name).unwrap()
}

/// The word at `index`.
pub fn word(segment: &Segment, index: usize) -> u32 {
    AtomicU32::slice_at(&segment.region(), index + 1).unwrap()[index].load(Relaxed)
}

pub fn set(segment: &Segment, index: usize, value: u32) {
    AtomicU32::slice_at(&segment.region(), index + 1).unwrap()[index].store(value, Relaxed);
}

/// One page that begins with `value`.
pub fn create(domain: &Domain, named: &str, value: u32) -> Result<Segment, SegmentError> {
    Segment::create(domain, &name(named), CreateOptions::new(PAGE), |segment| {
        set(segment, 0, value);
        Ok(())
    })
    .map(|(segment, ())| segment)
}

pub fn open(domain: &Domain, named: &str) -> Result<Segment, SegmentError> {
    Segment::open(domain, &name(named), OpenOptions::new(4), |_| Ok(()))
        .map(|(segment, ())| segment)
}

pub fn unlink(domain: &Domain, named: &str) -> Result<bool, SegmentError> {
    Segment::unlink(domain, &name(named), OpenOptions::new(4), |_| Ok(true))
}

/// This test's binary again, to run one test in a process of its own.
pub fn again(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]);
    command
}

/// Whether this process was started by [`alone`].
pub fn is_alone(test: &str) -> bool {
    std::env::var_os("SHM_TEST_ALONE").is_some_and(|named| named == test)
}

/// Runs the test of that name in a process of its own: it changes what belongs to all threads.
pub fn alone(test: &str) {
    let done = again(test).env("SHM_TEST_ALONE", test).output().unwrap();
    let said =
        String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{}: {said}", done.status);
    for line in said.lines().filter(|line| line.starts_with("skipped")) {
        eprintln!("{line}");
    }
}

/// Processes of a test, which are ended with it.
pub struct Parties(pub Vec<Child>);

impl Parties {
    /// Waits until all of them have ended, and leaves them zombies: their numbers stay theirs.
    pub fn have_ended(&self) {
        for child in &self.0 {
            let pid = WaitId::Pid(Pid::from_child(child));
            waitid(pid, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
        }
    }
}

impl Drop for Parties {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
