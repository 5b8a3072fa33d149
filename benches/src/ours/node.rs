//! Nodes, each in a process of its own, in a domain that is a run's alone.

use crate::frame::Frame;
use crate::pin::Cpus;
use crate::process::{self, Meeting, Work};
use crate::round_trip::Run;
use crate::traffic::{FrameReceiver, FrameSender, FrameSleeper};
use crate::{one_way, round_trip, steady};
use shm_transport::config::{Config, Wait};
use shm_transport::domain::Domain;
use shm_transport::node::{Node, NodeBuilder, Reading, Receiver, SendError, Sender};
use std::fs;
use std::mem::MaybeUninit;
use std::os::unix::fs::MetadataExt;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A domain that nobody else has. What is left of it goes when it is dropped: a run that fails
/// leaves something.
pub struct Place {
    domain: Domain,
}

impl Place {
    /// A new one.
    ///
    /// # Errors
    ///
    /// Never, unless the domain's rules of names change.
    pub fn new() -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bench-{}-{number}", std::process::id());
        Ok(Self { domain: Domain::new(&name).map_err(|e| e.to_string())? })
    }

    /// The domain.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// A node to be, configured as it is by default whatever the environment says.
    pub fn node(&self, name: &str) -> NodeBuilder {
        Node::builder(name).config(Config::default()).in_domain(self.domain.clone())
    }

    /// The same of one that never sleeps, which its senders need not see to.
    fn polling(&self, name: &str) -> NodeBuilder {
        self.node(name).wait(Wait::Poll)
    }

    fn join(&self, name: &str) -> Node {
        self.node(name).join().expect("a node of this domain")
    }

    /// Bytes that its files take, their holes left out.
    fn resident(&self) -> u64 {
        let names = self.domain.segments().expect("a directory of segments");
        let files = names.map(|name| self.domain.path_of(&name.expect("a readable directory")));
        // Of 512 bytes, whatever the file system's own are.
        files.map(|file| fs::metadata(file).expect("nobody leaves now").blocks() * 512).sum()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for name in self.domain.segments().into_iter().flatten().flatten() {
            // A run's time is not wrong for what cannot be removed; it only stays.
            let _ = fs::remove_file(self.domain.path_of(&name));
        }
    }
}

impl<const N: usize> FrameSender<N> for Sender {
    #[inline]
    fn try_send(&mut self, frame: Frame<'_, N>) -> bool {
        let mut grant = match self.grant(N) {
            Ok(grant) => grant,
            Err(SendError::Full { .. }) => return false,
            Err(error) => panic!("{error}"),
        };
        let room: &mut [u8; N] = grant.as_mut_array().expect("as long as asked for");
        // SAFETY: the same bytes; `fill` leaves none of them uninitialised.
        frame.fill(unsafe { &mut *ptr::from_mut(room).cast::<[MaybeUninit<u8>; N]>() });
        grant.commit(N).expect("a frame that goes through the lane");
        true
    }
}

impl<const N: usize> FrameReceiver<N> for Receiver<'_> {
    #[inline]
    fn try_recv(&mut self, frame: Frame<'_, N>) -> bool {
        match self.read() {
            Ok(Some(reading)) => {
                check(frame, reading);
                true
            }
            Ok(None) => false,
            Err(error) => panic!("{error}"),
        }
    }
}

impl<const N: usize> FrameSleeper<N> for Receiver<'_> {
    fn recv(&mut self, frame: Frame<'_, N>) {
        match self.read_wait() {
            Ok(reading) => check(frame, reading),
            Err(error) => panic!("{error}"),
        }
    }
}

#[inline]
fn check<const N: usize>(frame: Frame<'_, N>, reading: Reading<'_>) {
    frame.check(reading.as_array().expect("as long as sent"));
    reading.release();
}

/// Frames of `N` bytes there and back between two nodes that poll.
///
/// # Errors
///
/// When a process cannot be started, or fails.
pub fn round_trip<const N: usize>(run: Run) -> Result<Duration, String> {
    let place = &Place::new()?;
    round_trip::between(
        run,
        |asking| {
            let node = place.polling("a").join().expect("a node");
            asking.meet();
            let mut tx = node.sender("b").expect("it has joined");
            asking.go::<N>(&mut tx, &mut node.receiver().expect("it has joined"))
        },
        |answering| {
            let node = place.polling("b").join().expect("a node");
            answering.meet();
            let mut tx = node.sender("a").expect("it has joined");
            answering.go::<N>(&mut tx, &mut node.receiver().expect("it has joined"));
        },
    )
}

/// Frames of `N` bytes one way between two nodes that poll, through a lane of so many bytes.
///
/// # Errors
///
/// When a process cannot be started, or fails.
pub fn one_way<const N: usize>(run: Run, lane: u32) -> Result<Duration, String> {
    let place = &Place::new()?;
    one_way::between(
        run,
        |writing| {
            let node = place.join("writer");
            writing.meet();
            let mut tx = node.sender("reader").expect("it has joined");
            assert!(tx.max_frame() >= N, "frames of {N} bytes do not go through the lane");
            writing.go::<N>(&mut tx);
        },
        |reading| {
            let node = place.polling("reader").lane_bytes(lane).join().expect("a node");
            reading.meet();
            reading.go::<N>(&mut node.receiver().expect("it has joined"))
        },
    )
}

/// A steady stream of frames of `N` bytes to a node that sleeps between them: its CPU time.
///
/// # Errors
///
/// When a process cannot be started, or fails.
pub fn steady<const N: usize>(run: Run) -> Result<Duration, String> {
    let place = &Place::new()?;
    steady::between(
        run,
        |writing| {
            let node = place.join("writer");
            writing.meet();
            let mut tx = node.sender("reader").expect("it has joined");
            writing.go::<N>(&mut tx)
        },
        |reading| {
            let node = place.node("reader").wait(Wait::Block).join().expect("a node");
            reading.meet();
            reading.go::<N>(&mut node.receiver().expect("it has joined"))
        },
    )
}

/// Makes so many nodes in a process of their own, and then has another process time something.
fn beside(
    cpus: Cpus,
    peers: usize,
    time: impl FnOnce(&Place) -> Duration,
) -> Result<Duration, String> {
    let (place, meeting) = (&Place::new()?, &Meeting::new(2)?);
    process::pair(
        cpus,
        || {
            meeting.wait();
            let time = time(place);
            meeting.wait();
            time
        },
        || {
            let nodes: Vec<_> = (0..peers).map(|peer| place.join(&peer.to_string())).collect();
            meeting.wait();
            meeting.wait();
            drop(nodes);
        },
    )
}

/// A process's first joining of a domain in which another process has a node.
///
/// # Errors
///
/// When a process cannot be started, or fails.
pub fn join(cpus: Cpus) -> Result<Duration, String> {
    beside(cpus, 1, |place| {
        let builder = place.node("late");
        let clock = Instant::now();
        let node = builder.join().expect("a node");
        let time = clock.elapsed();
        drop(node);
        time
    })
}

/// A node's first message to a node of another process.
///
/// # Errors
///
/// When a process cannot be started, or fails.
pub fn first_send(cpus: Cpus) -> Result<Duration, String> {
    beside(cpus, 1, |place| {
        let node = place.join("late");
        let clock = Instant::now();
        node.send("0", &[1; 48]).expect("a node that is there");
        clock.elapsed()
    })
}

/// A node's connecting to so many of another process.
///
/// # Errors
///
/// When a process cannot be started, or fails.
pub fn warm_up(cpus: Cpus, peers: usize) -> Result<Duration, String> {
    beside(cpus, peers, |place| {
        let node = place.join("late");
        let clock = Instant::now();
        let connected = node.warm_up().expect("nodes that are there");
        let time = clock.elapsed();
        assert_eq!(connected, peers);
        time
    })
}

/// Bytes that a domain's files take with so many processes of so many nodes each. If there is
/// traffic, each node of each process has sent a message to every other and received theirs.
///
/// # Errors
///
/// When a process cannot be started, or fails.
pub fn resident(cpus: Cpus, processes: usize, nodes: usize, traffic: bool) -> Result<u64, String> {
    let place = &Place::new()?;
    let meeting = &Meeting::new(processes as u32)?;
    let work = |process: usize| {
        let cpu = if process.is_multiple_of(2) { cpus.first } else { cpus.second };
        Work::new(cpu, move || {
            let name = |node: usize| format!("{process}.{node}");
            let nodes: Vec<_> = (0..nodes).map(|node| place.join(&name(node))).collect();
            meeting.wait();
            if traffic {
                for node in &nodes {
                    let others = processes * nodes.len() - 1;
                    assert_eq!(node.broadcast(&[1; 48]).expect("room"), others);
                    for _ in 0..others {
                        node.recv().expect("everybody's message");
                    }
                }
            }
            meeting.wait();
            let resident = place.resident();
            meeting.wait();
            drop(nodes);
            resident
        })
    };
    Ok(process::all((0..processes).map(work).collect())?[0])
}
