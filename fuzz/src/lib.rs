//! Fuzz bodies: plain functions from bytes, so that a stable build replays the corpora
//! that the fuzzer found.
//!
//! ```text
//! cargo fuzz run --fuzz-dir fuzz spsc_model       # nightly, or RUSTC_BOOTSTRAP=1
//! cargo test -p fuzz                              # replays fuzz/corpus
//! ```
//!
//! A new target is a body here with its row in [`BODIES`], a `[[bin]]`, and three lines
//! in `fuzz_targets/`.

mod channel;
#[path = "../../shm-primitives/tests/common/mod.rs"]
mod common;
mod counter;
mod frame;
mod lane;
mod letters;
mod message;
mod monitor;
mod pool;
mod segment;
mod service;
mod spsc;
mod table;
mod wake;

pub use channel::hostile as channel_hostile;
pub use counter::counter;
pub use frame::{hostile as frame_hostile, model as frame_model};
pub use lane::{hostile as lane_hostile, segment as node_hostile};
pub use letters::hostile as letters_hostile;
pub use message::parse as message;
pub use monitor::monitor;
pub use pool::hostile as pool_hostile;
pub use segment::{hostile as segment_hostile, layouts as layout_hostile};
pub use service::hostile as service_hostile;
pub use spsc::{hostile as spsc_hostile, model as spsc_model};
pub use table::hostile as table_hostile;
pub use wake::hostile as wake_hostile;

/// A body: it panics if what the bytes describe finds a fault.
pub type Body = fn(&[u8]);

/// Every body under its target's name.
pub const BODIES: &[(&str, Body)] = &[
    ("spsc_model", spsc_model),
    ("spsc_hostile", spsc_hostile),
    ("frame_model", frame_model),
    ("frame_hostile", frame_hostile),
    ("message", message),
    ("monitor", monitor),
    ("channel_hostile", channel_hostile),
    ("wake_hostile", wake_hostile),
    ("table_hostile", table_hostile),
    ("segment_hostile", segment_hostile),
    ("layout_hostile", layout_hostile),
    ("pool_hostile", pool_hostile),
    ("lane_hostile", lane_hostile),
    ("node_hostile", node_hostile),
    ("counter", counter),
    ("service_hostile", service_hostile),
    ("letters_hostile", letters_hostile),
];

#[cfg(fuzzing)]
#[doc(hidden)]
pub use libfuzzer_sys::fuzz_target;

/// The entry point of a target: the fuzzer's, or in a build without a fuzzer a `main`
/// that says so.
#[macro_export]
macro_rules! target {
    ($body:path) => {
        #[cfg(fuzzing)]
        $crate::fuzz_target!(|data: &[u8]| $body(data));

        #[cfg(not(fuzzing))]
        fn main() {
            eprintln!("built without a fuzzer: use `cargo fuzz run --fuzz-dir fuzz`");
            std::process::exit(2);
        }
    };
}
