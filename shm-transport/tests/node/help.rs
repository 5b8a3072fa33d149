//! What the tests of nodes share.
#![allow(dead_code, reason = "not every scenario uses all of it")]

pub use crate::segment_help::Place;

use shm_transport::config::Config;
use shm_transport::domain::Domain;
use shm_transport::node::{Node, NodeBuilder, SendError, sweep};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything here takes on a machine that has other things to do.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A node of that place, whatever the environment says.
pub fn builder(domain: &Domain, name: &str) -> NodeBuilder {
    Node::builder(name).config(Config::default()).in_domain(domain.clone())
}

/// The same, joined.
pub fn join(place: &Place, name: &str) -> Node {
    builder(&place.domain, name).join().unwrap()
}

/// Waits for what is about to be so.
pub fn soon(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "not so after {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Sends until there is no room; how many were accepted. It counts when it is said ten times in a
/// row: of large messages it is said, too, after a tenth of a second in which the node's keeper has
/// the pool in hand.
pub fn fill(mut send: impl FnMut(u32) -> Result<(), SendError>) -> u32 {
    let (mut accepted, mut refused) = (0, 0);
    while refused < 10 {
        match send(accepted) {
            Ok(()) => (accepted, refused) = (accepted + 1, 0),
            Err(SendError::Full { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    accepted
}

/// After a sweep, which puts away those who died when nobody was left to do so.
#[track_caller]
pub fn leaves_nothing(place: &Place) {
    sweep::sweep(&place.domain, false).unwrap();
    assert_eq!(place.files(), [""; 0]);
}

/// The same without a sweep, soon: of nodes that have all left.
#[track_caller]
pub fn nothing_is_left(place: &Place) {
    let begun = Instant::now();
    while !place.files().is_empty() {
        assert!(begun.elapsed() < PATIENCE, "this is left: {:?}", place.files());
        thread::sleep(Duration::from_millis(1));
    }
}

/// Bytes of memory that the files of a directory take.
pub fn resident(directory: &Path) -> u64 {
    let files = std::fs::read_dir(directory).unwrap();
    // One may go in between.
    let size = |file: std::io::Result<std::fs::DirEntry>| file.ok()?.metadata().ok();
    files.filter_map(size).map(|file| file.blocks() * 512).sum()
}

/// What messages are filled with. Its length is a prime, so that no two begin alike for long.
static FILLING: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let byte = |_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..65_521).map(byte).collect()
});

/// Bytes that say of which stream they are and which number they have there; those of no other
/// length, stream or number are the same.
pub fn payload(stream: u32, number: u32, length: usize) -> Vec<u8> {
    assert!(length >= HEADER, "{length} bytes are too few to say so");
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(&stream.to_le_bytes());
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&(length as u32).to_le_bytes());
    let mut from = beginning(stream, number);
    while bytes.len() < length {
        let end = FILLING.len().min(from + length - bytes.len());
        bytes.extend_from_slice(&FILLING[from..end]);
        from = 0;
    }
    bytes
}

/// Bytes of the shortest payload.
pub const HEADER: usize = 12;

fn beginning(stream: u32, number: u32) -> usize {
    (stream as usize).wrapping_mul(31).wrapping_add(number as usize * 7919) % FILLING.len()
}

/// Stream and number of a payload; fails unless it is as it was made.
pub fn check(bytes: &[u8]) -> (u32, u32) {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let (stream, number, length) = (word(0), word(4), word(8));
    assert_eq!(length as usize, bytes.len(), "the length of {number} of {stream}");
    let (mut from, mut at) = (beginning(stream, number), HEADER);
    while at < bytes.len() {
        let end = FILLING.len().min(from + bytes.len() - at);
        assert!(
            bytes[at..at + end - from] == FILLING[from..end],
            "{number} of {stream} is damaged"
        );
        (at, from) = (at + end - from, 0);
    }
    (stream, number)
}

/// Numbers that look random, and are the same for the same seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1)
    }

    /// Less than `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}
