//! By what messages can go.

use clap::ValueEnum;
use shm_transport::config::Wait;

/// By what messages go, and how who waits for one does.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Medium {
    /// Nodes that never sleep.
    NodePoll,
    /// Nodes as they are if nothing else is said.
    NodeAdaptive,
    /// Nodes that sleep at once.
    NodeBlock,
    /// UDP, by calls that do not block.
    UdpSpin,
    /// UDP, by calls that do.
    Udp,
    /// A Unix datagram socket.
    UnixDatagram,
    /// A Unix stream socket.
    UnixStream,
    /// Two pipes.
    Pipe,
}

/// What is measured.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Task {
    /// Round trips: the other end sends back what it gets.
    Echo,
    /// Throughput: the other end counts.
    Sink,
}

impl Medium {
    /// In the order in which they are shown.
    pub const ALL: [Self; 8] = [
        Self::NodePoll,
        Self::NodeAdaptive,
        Self::NodeBlock,
        Self::UdpSpin,
        Self::Udp,
        Self::UnixDatagram,
        Self::UnixStream,
        Self::Pipe,
    ];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::NodePoll | Self::NodeAdaptive | Self::NodeBlock => "nodes",
            Self::UdpSpin | Self::Udp => "UDP loopback",
            Self::UnixDatagram => "Unix datagram socket",
            Self::UnixStream => "Unix stream socket",
            Self::Pipe => "pipe",
        }
    }

    /// How who waits does.
    pub fn waits(self) -> &'static str {
        match self {
            Self::NodePoll => "polls",
            Self::NodeAdaptive => "adaptive",
            Self::UdpSpin => "spins in read",
            Self::NodeBlock => "sleeps",
            Self::Udp | Self::UnixDatagram | Self::UnixStream | Self::Pipe => "sleeps in read",
        }
    }

    /// Whether it is this project's.
    pub fn is_ours(self) -> bool {
        self.wait().is_some()
    }

    /// How a node waits; `None` of what is no node.
    pub fn wait(self) -> Option<Wait> {
        match self {
            Self::NodePoll => Some(Wait::Poll),
            Self::NodeAdaptive => Some(Wait::Adaptive),
            Self::NodeBlock => Some(Wait::Block),
            _ => None,
        }
    }

    /// Whether what was sent may not come though nobody died.
    pub fn may_lose(self) -> bool {
        matches!(self, Self::Udp | Self::UdpSpin)
    }

    /// Whether a read returns one message, and the next read the next.
    pub fn keeps_messages_apart(self) -> bool {
        !matches!(self, Self::UnixStream | Self::Pipe)
    }
}
