//! The models, a file for each structure.

pub mod channel;
pub mod completion;
pub mod counter;
#[cfg(crash_points)]
pub mod crash;
pub mod frame;
pub mod lane;
pub mod leader;
pub mod monitor;
pub mod part;
pub mod pool;
pub mod ready;
pub mod segment;
pub mod service;
pub mod sleepless;
pub mod spsc;
pub mod table;
pub mod wake;

/// Every model, by name.
pub fn all() -> impl Iterator<Item = &'static (&'static str, fn())> {
    let models = [
        part::MODELS,
        spsc::MODELS,
        frame::MODELS,
        wake::MODELS,
        ready::MODELS,
        monitor::MODELS,
        channel::MODELS,
        table::MODELS,
        segment::MODELS,
        pool::MODELS,
        counter::MODELS,
        lane::MODELS,
        service::MODELS,
        sleepless::MODELS,
        completion::MODELS,
        leader::MODELS,
    ];
    #[cfg(crash_points)]
    let models = models.into_iter().chain(crash::ALL.iter().copied());
    models.into_iter().flatten()
}
