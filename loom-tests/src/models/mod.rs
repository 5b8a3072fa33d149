//! The models, a file for each structure.

pub mod part;
pub mod spsc;

/// Every model, by name.
pub fn all() -> impl Iterator<Item = &'static (&'static str, fn())> {
    [part::MODELS, spsc::MODELS].into_iter().flatten()
}
