//! UDP on the loopback, what such processes talk by when they know nothing better.

use crate::frame::Frame;
use crate::traffic::{FrameReceiver, FrameSender, FrameSleeper};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, UdpSocket};

/// A socket connected to another, for processes forked later. A call that finds nothing returns.
pub struct Polled(UdpSocket);

/// The same; a call that finds nothing sleeps in the kernel.
pub struct Slept(UdpSocket);

/// Two sockets connected to each other that are polled.
///
/// # Errors
///
/// When there is no loopback.
pub fn polled() -> Result<[Polled; 2], String> {
    let sockets = connected().map_err(|e| format!("UDP: {e}"))?;
    for socket in &sockets {
        socket.set_nonblocking(true).map_err(|e| format!("UDP: {e}"))?;
    }
    Ok(sockets.map(Polled))
}

/// Two sockets connected to each other that are slept in.
///
/// # Errors
///
/// When there is no loopback.
pub fn slept() -> Result<[Slept; 2], String> {
    Ok(connected().map_err(|e| format!("UDP: {e}"))?.map(Slept))
}

fn connected() -> io::Result<[UdpSocket; 2]> {
    let socket = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
    let (a, b) = (socket()?, socket()?);
    a.connect(b.local_addr()?)?;
    b.connect(a.local_addr()?)?;
    Ok([a, b])
}

impl<const N: usize> FrameSender<N> for &Polled {
    #[inline]
    fn try_send(&mut self, frame: Frame<'_, N>) -> bool {
        sent(&self.0, frame)
    }
}

impl<const N: usize> FrameReceiver<N> for &Polled {
    #[inline]
    fn try_recv(&mut self, frame: Frame<'_, N>) -> bool {
        received(&self.0, frame)
    }
}

impl<const N: usize> FrameSender<N> for &Slept {
    #[inline]
    fn try_send(&mut self, frame: Frame<'_, N>) -> bool {
        sent(&self.0, frame)
    }
}

impl<const N: usize> FrameSleeper<N> for &Slept {
    #[inline]
    fn recv(&mut self, frame: Frame<'_, N>) {
        assert!(received(&self.0, frame), "a socket that blocks returned");
    }
}

fn sent<const N: usize>(socket: &UdpSocket, frame: Frame<'_, N>) -> bool {
    match socket.send(&frame.item::<N>()) {
        Ok(sent) => {
            assert_eq!(sent, N);
            true
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) => panic!("UDP: {error}"),
    }
}

fn received<const N: usize>(socket: &UdpSocket, frame: Frame<'_, N>) -> bool {
    let mut bytes = [0; N];
    match socket.recv(&mut bytes) {
        Ok(received) => {
            assert_eq!(received, N);
            frame.check(&bytes);
            true
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) => panic!("UDP: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Template;

    #[test]
    fn a_frame_arrives_as_it_was_sent() {
        let template = Template::<48>::new();
        let [a, b] = polled().expect("a loopback");
        let (mut a, mut b) = (&a, &b);
        assert!(!FrameReceiver::<48>::try_recv(&mut b, template.frame(7)));
        assert!(a.try_send(template.frame(7)));
        let since = std::time::Instant::now();
        while !b.try_recv(template.frame(7)) {
            assert!(since.elapsed().as_secs() < 20, "it did not arrive");
        }
    }
}
