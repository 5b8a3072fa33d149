//! Two ends of a medium.

use super::medium::Medium;
use crate::failure::Failure;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use shm_transport::config::{Config, Full};
use shm_transport::domain::Domain;
use shm_transport::node::{Node, Receiver, Sender};
use std::hint;
use std::net::UdpSocket;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// A message of another length than those that are measured: there are no more.
pub const END: &[u8] = b".";
/// Bytes of the largest message.
const MOST: usize = 64 << 10;
/// Looks in vain between two at the clock.
const LOOKS: u32 = 1 << 12;
/// After so long without a message whoever sent is gone, or the message.
const SILENCE: Duration = Duration::from_secs(2);

/// Where messages are sent.
pub trait Output {
    /// Sends a message; waits for room.
    fn send(&mut self, message: &[u8]) -> Result<(), Failure>;
}

/// Where they come.
pub trait Input {
    /// Waits for what comes next: a message, or some bytes of several if the medium does not keep
    /// messages apart. False if there will be none.
    fn receive(&mut self, each: &mut impl FnMut(&[u8])) -> Result<bool, Failure>;
}

/// Joins for a measurement, with the settings that nodes have if nothing is said.
pub fn node(domain: &Domain, name: &str, medium: Medium) -> Result<Node, Failure> {
    Node::builder(name)
        .config(Config::default())
        .in_domain(domain.clone())
        .full(Full::Block(SILENCE))
        .wait(medium.wait().unwrap_or_default())
        .join()
        .map_err(Failure::because)
}

impl Output for Sender {
    #[inline]
    fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        Sender::send(self, message).map_err(Failure::because)
    }
}

impl Input for Receiver<'_> {
    #[inline]
    fn receive(&mut self, each: &mut impl FnMut(&[u8])) -> Result<bool, Failure> {
        let message = self.read_wait().map_err(Failure::because)?;
        let more = message.len() != END.len();
        if more {
            each(&message);
        }
        message.release();
        Ok(more)
    }
}

/// A descriptor that is written to.
#[derive(Debug)]
pub struct Writing<F>(pub Medium, pub F);

impl<F: AsFd> Output for Writing<F> {
    #[inline]
    fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        let mut rest = message;
        while !rest.is_empty() {
            match rustix::io::write(&self.1, rest) {
                Ok(written) => rest = &rest[written..],
                Err(Errno::AGAIN) if self.0 == Medium::UdpSpin => hint::spin_loop(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(failed(self.0, error)),
            }
        }
        Ok(())
    }
}

/// A descriptor that is read from.
#[derive(Debug)]
pub struct Reading<F> {
    medium: Medium,
    descriptor: F,
    buffer: Vec<u8>,
}

impl<F: AsFd> Reading<F> {
    pub fn new(medium: Medium, descriptor: F) -> Self {
        Self { medium, descriptor, buffer: vec![0; MOST] }
    }
}

impl<F: AsFd> Input for Reading<F> {
    #[inline]
    fn receive(&mut self, each: &mut impl FnMut(&[u8])) -> Result<bool, Failure> {
        let (mut looks, mut begun) = (0u32, None);
        loop {
            match rustix::io::read(&self.descriptor, &mut self.buffer) {
                Ok(0) => return Ok(false),
                Ok(1) if self.medium.keeps_messages_apart() => return Ok(false),
                Ok(read) => {
                    each(&self.buffer[..read]);
                    return Ok(true);
                }
                Err(Errno::AGAIN) if self.medium == Medium::UdpSpin => {
                    looks = looks.wrapping_add(1);
                    if looks.is_multiple_of(LOOKS) {
                        let begun: &mut Instant = begun.get_or_insert_with(Instant::now);
                        if begun.elapsed() > SILENCE {
                            return Err(failed(self.medium, Errno::TIMEDOUT));
                        }
                    }
                    hint::spin_loop();
                }
                // The time a blocking one waits is over.
                Err(Errno::AGAIN) => return Err(failed(self.medium, Errno::TIMEDOUT)),
                Err(Errno::INTR) => {}
                Err(error) => return Err(failed(self.medium, error)),
            }
        }
    }
}

fn failed(medium: Medium, error: Errno) -> Failure {
    let (name, waits) = (medium.name(), medium.waits());
    Failure::because(format!("measuring {name} (who waits {waits}): {error}"))
}

/// Both ends of a medium of the kernel: descriptors for this process, standard input and output of
/// the other.
#[derive(Debug)]
pub struct Ends {
    pub input: OwnedFd,
    pub output: OwnedFd,
    pub stdin: Stdio,
    pub stdout: Stdio,
}

impl Ends {
    pub fn of(medium: Medium) -> Result<Self, Failure> {
        let cannot = |error: std::io::Error| {
            let name = medium.name();
            Failure::because(format!("cannot measure: {name} is not to be had: {error}"))
        };
        Self::open(medium).map_err(cannot)
    }

    fn open(medium: Medium) -> std::io::Result<Self> {
        let (ours, theirs): (OwnedFd, OwnedFd) = match medium {
            Medium::Pipe => {
                let (input, stdout) = std::io::pipe()?;
                let (stdin, output) = std::io::pipe()?;
                let (input, output) = (input.into(), output.into());
                return Ok(Self { input, output, stdin: stdin.into(), stdout: stdout.into() });
            }
            Medium::UnixStream => {
                let (ours, theirs) = UnixStream::pair()?;
                (ours.into(), theirs.into())
            }
            Medium::UnixDatagram => {
                let (ours, theirs) = UnixDatagram::pair()?;
                ours.set_read_timeout(Some(SILENCE))?;
                (ours.into(), theirs.into())
            }
            _ => {
                let [ours, theirs] =
                    [UdpSocket::bind(("127.0.0.1", 0))?, UdpSocket::bind(("127.0.0.1", 0))?];
                ours.connect(theirs.local_addr()?)?;
                theirs.connect(ours.local_addr()?)?;
                for socket in [&ours, &theirs] {
                    socket.set_nonblocking(medium == Medium::UdpSpin)?;
                    socket.set_read_timeout(Some(SILENCE))?;
                }
                (ours.into(), theirs.into())
            }
        };
        let (input, stdin) = (ours.try_clone()?, theirs.try_clone()?);
        Ok(Self { input, output: ours, stdin: stdin.into(), stdout: theirs.into() })
    }
}
