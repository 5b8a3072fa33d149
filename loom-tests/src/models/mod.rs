//! The models, a file for each structure.

pub mod channel;
pub mod frame;
pub mod monitor;
pub mod part;
pub mod ready;
pub mod spsc;
pub mod wake;

/// Every model, by name.
pub fn all() -> impl Iterator<Item = &'static (&'static str, fn())> {
    [
        part::MODELS,
        spsc::MODELS,
        frame::MODELS,
        wake::MODELS,
        ready::MODELS,
        monitor::MODELS,
        channel::MODELS,
    ]
    .into_iter()
    .flatten()
}
