//! Another process that runs a test of this program, and memory that both have.

#![allow(dead_code, reason = "each test file uses its part")]

use crate::segment_help::again;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use shm_primitives::identity::OwnerId;
use shm_primitives::region::Region;
use shm_primitives::ring::frame::{FrameRingRef, Options};
use shm_primitives::sync::AtomicU32;
use shm_primitives::wake::{Park, WakeWord};
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::process::{Child, Stdio};
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything here takes on a machine that has other things to do.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Tells the other process where the memory is.
const MEMORY: &str = "SHM_TRANSPORT_TEST_MEMORY";

/// Two rings and two wake words, and some words for the test.
pub struct Shared {
    base: NonNull<u8>,
    file: File,
}

// SAFETY: what it hands out is made for several threads.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

const CAPACITY: u32 = 4096;
const RING: usize = 8192;
const LENGTH: usize = 2 * RING + 4096;

impl Shared {
    /// Fresh memory, its rings made.
    pub fn new() -> Self {
        let file = File::from(memfd_create("test", MemfdFlags::CLOEXEC).unwrap());
        ftruncate(&file, LENGTH as u64).unwrap();
        let shared = Self::map(file);
        for ring in 0..2 {
            // SAFETY: nobody else knows this memory yet.
            unsafe { FrameRingRef::init_at(shared.ring_region(ring), Options::new(CAPACITY)) }
                .unwrap();
        }
        shared
    }

    /// The memory of the process that has started this one; none if nobody has.
    pub fn inherited() -> Option<Self> {
        let path = std::env::var_os(MEMORY)?;
        Some(Self::map(OpenOptions::new().read(true).write(true).open(path).unwrap()))
    }

    fn map(file: File) -> Self {
        let both = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: mapped where nothing is.
        let base = unsafe { mmap(null_mut(), LENGTH, both, MapFlags::SHARED, &file, 0) }.unwrap();
        Self { base: NonNull::new(base.cast()).unwrap(), file }
    }

    fn region(&self) -> Region<'_> {
        // SAFETY: mapped, zeroed, and as long as `self`; accessed by the primitives alone.
        unsafe { Region::new(self.base, LENGTH) }
    }

    fn ring_region(&self, ring: usize) -> Region<'_> {
        let size = Options::new(CAPACITY).required_size().unwrap();
        self.region().part(ring * RING, size).unwrap()
    }

    /// One of two rings.
    pub fn ring(&self, ring: usize) -> FrameRingRef<'_> {
        // SAFETY: both processes keep the protocol.
        unsafe { FrameRingRef::attach(self.ring_region(ring), None) }.unwrap()
    }

    /// One of two wake words.
    pub fn word(&self, word: usize) -> &WakeWord {
        WakeWord::at(&self.region().part(2 * RING + word * 64, 8).unwrap()).unwrap()
    }

    /// The epoch of one of them.
    pub fn epoch(&self, word: usize) -> &AtomicU32 {
        AtomicU32::at(&self.region().part(2 * RING + word * 64 + 4, 4).unwrap()).unwrap()
    }

    /// One of some words for the test.
    pub fn cell(&self, cell: usize) -> &AtomicU32 {
        AtomicU32::at(&self.region().part(2 * RING + 1024 + cell * 4, 4).unwrap()).unwrap()
    }

    /// Starts a process that runs the test of that name, an ignored one, with this memory.
    pub fn start(&self, test: &str) -> Peer {
        let path = format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd());
        let child = again(test)
            .arg("--ignored")
            .env(MEMORY, path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        Peer(child.unwrap())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: mapped by `map`, and what was handed out borrows from `self`.
        unsafe { munmap(self.base.as_ptr().cast(), LENGTH) }.unwrap();
    }
}

/// An owner of test.
pub fn owner(index: u32) -> OwnerId {
    OwnerId::new(index, 1).unwrap()
}

/// The other process; killed if the test ends before it.
pub struct Peer(Child);

impl Peer {
    pub fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.0)
    }

    /// Waits until it has ended; whether well.
    pub fn ends_well(&mut self) -> bool {
        let mut status = None;
        eventually("the other process has not ended", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().success()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until it is so.
pub fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Counts what a park does; each is a system call. Clones count together.
#[derive(Clone)]
pub struct Counting<P> {
    pub park: P,
    pub counts: Arc<Counts>,
    unbounded: bool,
}

#[derive(Default)]
pub struct Counts {
    waits: AtomicU64,
    wakes: AtomicU64,
}

impl<P> Counting<P> {
    pub fn new(park: P) -> Self {
        Self { park, counts: Arc::default(), unbounded: false }
    }

    /// Sleeps end by a wake alone: a lost one fails the test.
    pub fn unbounded(park: P) -> Self {
        Self { unbounded: true, ..Self::new(park) }
    }

    /// Waits and wakes.
    pub fn calls(&self) -> (u64, u64) {
        (self.counts.waits.load(Relaxed), self.counts.wakes.load(Relaxed))
    }
}

impl<P: Park> Park for Counting<P> {
    fn now(&self) -> u64 {
        self.park.now()
    }
    fn wait(&self, word: &AtomicU32, expected: u32, until: u64) {
        self.counts.waits.fetch_add(1, Relaxed);
        if !self.unbounded {
            return self.park.wait(word, expected, until);
        }
        let end = self.park.now() + PATIENCE.as_nanos() as u64;
        self.park.wait(word, expected, end);
        assert!(self.park.now() < end, "a wake is lost");
    }
    fn wake(&self, word: &AtomicU32) {
        self.counts.wakes.fetch_add(1, Relaxed);
        self.park.wake(word);
    }
    fn spins(&self) -> bool {
        self.park.spins()
    }
}
