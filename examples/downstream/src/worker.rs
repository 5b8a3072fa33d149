//! Your own identities, and the proof of death: a worker is a child process.

use crate::link::Link;
use crate::memory::Memory;
use crate::park::FutexPark;
use crate::pipe::Error;
use shm_primitives::identity::{Dead, OwnerId};
use shm_primitives::wake::Deadline;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::parent_id;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// Whoever made the memory: record 0. It hands out all other ids, so it needs no table of them.
pub const CREATOR: OwnerId = OwnerId::new(0, 1).unwrap();

/// A worker process. Dropping it kills it.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    id: OwnerId,
}

impl Worker {
    /// Starts `program`, this crate's binary, as a worker on `memory`.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn start(program: &Path, memory: &Memory) -> io::Result<Self> {
        // Record 1, and a generation that no worker had before.
        static GENERATION: AtomicU32 = AtomicU32::new(1);
        let id = OwnerId::new(1, GENERATION.fetch_add(1, Relaxed))
            .ok_or_else(|| io::Error::other("no more generations"))?;
        let child = Command::new(program)
            .args(["work", &id.word().to_string(), &std::process::id().to_string()])
            // The memory has no name; the child finds it as its standard input.
            .stdin(Stdio::from(memory.file()?))
            .spawn()?;
        Ok(Self { child, id })
    }

    /// The kernel's id of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it, wherever it is: SIGKILL.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()
    }

    /// Waits for its end: how it ended, and the proof.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn wait(&mut self) -> io::Result<(ExitStatus, Dead<OwnerId>)> {
        let status = self.child.wait()?;
        // SAFETY: the kernel has reported the end of the process, and so of all its threads and
        // its mapping. Nobody else ever has this id: each is given to one child, which passes
        // neither it nor the memory on, and whose mapping no fork would inherit.
        Ok((status, unsafe { Dead::assume(self.id) }))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Without an answer to either, there is nobody left to kill or to wait for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a worker does: serves the link in its standard input until that is closed.
///
/// # Errors
///
/// Whatever goes wrong, its parent's death included.
pub fn work(id: OwnerId, parent: u32) -> Result<(), Box<dyn std::error::Error>> {
    let memory = Memory::open(File::from(io::stdin().as_fd().try_clone_to_owned()?))?;
    // SAFETY: the parent made this memory for its workers, which all run this function.
    let link = unsafe { Link::attach(&memory.region()) }?;
    let mut server = link.server(id)?;
    let park = FutexPark;
    loop {
        match server.serve(&park, Deadline::after(&park, Duration::from_secs(1))) {
            Ok(()) => {}
            Err(Error::Closed) => {
                server.close(&park);
                return Ok(());
            }
            // Silence proves nothing. The kernel knows: it gives an orphan another parent.
            Err(Error::TimedOut) if parent_id() == parent => {}
            Err(Error::TimedOut) => return Err("the parent is dead".into()),
            Err(error) => return Err(error.into()),
        }
    }
}
