//! What there is to compare.

pub mod frames;
pub mod memory;
pub mod node;
pub mod rtt;
pub mod segment;
pub mod service;
pub mod spsc;
pub mod wake;

use crate::bench::Bench;

/// Cases that belong together.
pub struct Group {
    /// Its name on the command line.
    pub name: &'static str,
    /// Runs its cases.
    pub run: fn(&Bench) -> Result<(), String>,
}

/// Every group.
pub const ALL: &[Group] = &[
    Group { name: "spsc", run: spsc::run },
    Group { name: "frames", run: frames::run },
    Group { name: "rtt", run: rtt::run },
    Group { name: "wake", run: wake::run },
    Group { name: "segment", run: segment::run },
    Group { name: "node", run: node::run },
    Group { name: "service", run: service::run },
    Group { name: "memory", run: memory::run },
];

/// The names of the groups.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|group| group.name)
}
