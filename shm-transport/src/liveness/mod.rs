//! Who lives: process records, the locks that prove it, and who may say that another is dead.
//!
//! Everything in shared memory that has an owner names it by an [`OwnerId`]. Before a process
//! takes anything it [enrols](ProcessTable::enrol): it gets an id that nobody had before, a
//! record under it, and a kernel lock on the byte of the file whose offset is the id. The lock
//! cannot be lost while the process can touch the memory, and cannot be kept when it no longer
//! can. So whoever finds it fallen has the proof, [`Dead<OwnerId>`](Dead), which the `recover_*` functions of
//! [`shm_primitives`] ask for; and nothing else makes one.
//!
//! | type | says | from |
//! |---|---|---|
//! | [`Suspect`] | has been silent for long | a [`Watch`] over heartbeats |
//! | a [`PidFd`] that is ready | the process has ended, so it is time to ask | the kernel, in one pid namespace |
//! | [`Verdict::Dead`] | will never again touch the memory | the kernel: the lock has fallen |
//!
//! A suspect is no dead one, and cannot be made one but by asking the kernel. A process stopped
//! by SIGSTOP or a debugger for an hour is suspected for an hour, and finds its place intact.
//!
//! # The lock
//!
//! It is a write lock of an *open file description* (`F_OFD_SETLK`). The description is opened
//! for it alone, one page of it is mapped without access, and its descriptor is closed: so the
//! one thing that refers to it is that mapping ([`ByteLock`]). Locks may lie beyond the end of a
//! file, so ids up to 2³² need no memory. A description does not see its own locks; all looking
//! goes through another one, which may be read-only.
//!
//! | what happens | the lock |
//! |---|---|
//! | a thread ends, the first one too | stays: others have the memory still |
//! | SIGSTOP, a debugger, swapping, a long computation | stays |
//! | the process ends: it returns, panics, is killed, runs out of memory | falls when its last thread has left the memory; as a rule before its parent can get its status |
//! | it is dumped (core) | stays until the dump is written |
//! | it is a zombie | has fallen |
//! | `exec` | falls: the new program does not have the mapping. The pid lives on |
//! | a child by `fork` | has neither the mapping (`MADV_DONTFORK`) nor the descriptor, which is closed; libc's `fork` waits for one who is just between opening and closing it |
//! | a child by `vfork` or `posix_spawn` | keeps the lock while it shares the memory, until it execs: it could touch it |
//! | a program started meanwhile | does not have the descriptor (`O_CLOEXEC`) |
//! | the file is unlinked | stays: locks belong to the file, not to the name |
//! | the machine is started anew | has fallen |
//!
//! *A fallen lock means that nobody of that process touches the memory.* The kernel takes a
//! process's mappings down when the last thread that runs in them has left them for good, all
//! at one time, and first takes every page out of reach; the lock falls as its mapping does. So
//! when it has fallen there is no thread that could touch a page, of any mapping. The one other
//! way is [`Membership`]'s drop, whose caller has stated that it is done.
//!
//! *The reverse is not promised.* A process may be past its last instruction, and its lock
//! stand for a moment: its memory is large, or is dumped, or another program (`ps`) is just
//! looking at it. A verdict is then late, never wrong. That a pidfd is ready or a parent has
//! the status is therefore a reason to ask, again for a moment if need be ([`DeathWatch`]
//! does).
//!
//! # Memory
//!
//! A [`SlotTable`](shm_primitives::table::SlotTable) of tag "PROC" in a file of its own or as a
//! part of one. One table a file: the bytes locked are those of the file. Its live words are
//! the heartbeat and the state; its entries are
//!
//! ```text
//! offset  size
//!      0     4  pid        in its own pid namespace
//!      4     8  start      clock ticks after the machine's, low word first
//!     12     8  boot       the kernel's boot id, its halves by exclusive or
//!     20     8  namespace  inode number of its pid namespace
//!     28    32  name       UTF-8, the rest zeros
//!     60     4  role       what it is a member as: the program's; 0 unless it said something
//! ```
//!
//! all written once, by the process itself. They are for people and for finding the pidfd;
//! no verdict is made of them. The owner word of slot *i* in generation *g* is the id (*g*, *i*),
//! unless a heir has it who is clearing it.
//!
//! # Who does what, and what a death leaves
//!
//! **One who joins** reads a free record's generation, and so knows the id it will have; locks
//! that byte; stores the id as the record's owner, by compare-and-swap; makes sure that the
//! generation is still that one; writes its record. It then lives as long as its memory does.
//! Killed before the store it leaves nothing, for the lock falls with it; killed after it, an
//! id whose lock has fallen, so it is cleared as any other.
//!
//! **One who leaves** first gives up whatever it holds; then its record is nobody's; last the
//! lock falls. Killed in between, what is left is recovered by whoever finds it. After it,
//! [`convict`](ProcessTable::convict) says `Dead` for that id as well, and not something of its own: what
//! counts for whoever finds the id somewhere is that its process will not come back under it,
//! and if a place that it should have given up was forgotten, it must be possible to take it.
//! So record and verdict are independent: that the record is there yet means only that nobody
//! has cleared it.
//!
//! **One who waits for another** finds that it takes long. It asks: `Alive`, and it waits on;
//! `Dead`, and it takes over or reports it; `Unknown`, and the id it read is damage.
//!
//! **One who looks after all** keeps a [`DeathWatch`] and is told of deaths, within a
//! millisecond or so in its own pid namespace, else within ten. It recovers what the dead one
//! held everywhere, and [clears](ProcessTable::clear) its record last. If it dies meanwhile,
//! the next one finds the same record, or finds it in the first heir's name, whom it convicts
//! too. That the record goes last is so that somebody finds it; any id ever given out can be
//! convicted afterwards, until its record has been taken half a million times.
//!
//! **A forked child** has none of it. Its copies of handles mean nothing, dropping them does
//! nothing, and the memory is not there. It may join under an id of its own after it has mapped the
//! file anew.
//!
//! **One in a container** with its own pid namespace does all of it in the same way, if it has
//! the file. It cannot get pidfds of those outside, nor they of it; locks know no namespaces.
//!
//! # Limits
//!
//! - The kernel's own work for a dead process is not its threads': who gives pages of shared
//!   memory to `io_uring` or to a device must be sure that that has ended.
//! - A child made by a bare `clone` system call, as `posix_spawn` and so `std::process::Command`
//!   make them, in the few microseconds in which another thread enrols may have the description
//!   too, and the record is then alive until that child execs or ends. Late, not wrong. (Also a `fork` that began before the process's first
//!   lock.)
//! - A proof is one in the table that it is from; another table gives out the same ids. The same is
//!   true of a table that was made anew: ids of the old one mean nothing in it, or somebody else.
//! - If the file is unlinked and another made under its name, members of the one know nothing
//!   of the other. A table goes on with the file it was made with: it opens it again by
//!   descriptor, never by name.
//! - The file system must be of this kernel: `/dev/shm`, a memfd, a local disk; not a network's
//!   and not one shared between virtual machines.
//! - /proc must be mounted, of whichever pid namespace. Without a view of the other process in
//!   it (`hidepid`), or in another time namespace, where start times differ, there is no pidfd,
//!   and locks tell.
//! - Whoever may write the file can lock bytes too and so keep the dead from being convicted,
//!   or others from joining; who can only read it cannot. Nobody can unlock what another holds.
//!
//! Linux 3.15 for the locks, 5.3 for pidfds. The idea of proving a process's state by a lock
//! that the kernel takes away is that of iceoryx2's `process_state`, which has a file for each
//! process.
//!
//! # Example
//!
//! ```
//! use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
//! use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap};
//! use shm_primitives::region::Region;
//! use shm_transport::liveness::{DeathWatch, ProcessTable, Verdict};
//! use std::os::fd::AsFd;
//! use std::ptr::{NonNull, null_mut};
//! use std::time::{Duration, Instant};
//!
//! // A file in shared memory, mapped.
//! const SIZE: usize = ProcessTable::required_size(64).unwrap();
//! let file = memfd_create("processes", MemfdFlags::CLOEXEC)?;
//! ftruncate(&file, SIZE as u64)?;
//! let access = ProtFlags::READ | ProtFlags::WRITE;
//! // SAFETY: a new mapping, which stays until this process ends.
//! let base = unsafe { mmap(null_mut(), SIZE, access, MapFlags::SHARED, &file, 0)? };
//! // SAFETY: the same; children do not have it.
//! unsafe { madvise(base, SIZE, Advice::LinuxDontFork)? };
//! // SAFETY: mapped, and nothing but the table is made there.
//! let region = unsafe { Region::new(NonNull::new(base.cast()).unwrap(), SIZE) };
//!
//! // SAFETY: a mapping of this file, of which nobody else knows yet.
//! let table = unsafe { ProcessTable::create_at(&region, 64, file.as_fd())? };
//! // SAFETY: it holds nothing that is not given up when the membership is dropped.
//! let me = unsafe { table.enrol("example")? };
//! me.beat();
//! assert_eq!(table.convict(me.id())?, Verdict::Alive);
//! assert_eq!(table.process(me.id())?.unwrap().identity.pid, std::process::id());
//!
//! // Another process would be told of our death; here, that we do not die.
//! let mut watch = DeathWatch::new(&table);
//! watch.add(me.id())?;
//! assert_eq!(watch.wait(Some(Instant::now() + Duration::from_millis(20)))?, None);
//!
//! let id = me.id();
//! drop(me);
//! assert!(matches!(table.convict(id)?, Verdict::Dead(dead) if dead.id() == id));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod lock;
mod pidfd;
mod process;
mod table;
mod watch;

pub use error::LivenessError;
pub use lock::{ByteLock, is_locked};
pub use pidfd::PidFd;
pub use process::ProcessIdentity;
pub use table::{Membership, Process, ProcessTable, Verdict};
pub use watch::{DeathWatch, Suspect, Watch};

// For the module's text.
#[cfg(doc)]
use shm_primitives::identity::{Dead, OwnerId};
