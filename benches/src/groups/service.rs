//! Calls of a supervised service, and what a death costs.

use crate::bench::Bench;
use crate::measure::Side;
use crate::ours::service::{self, Until};
use crate::round_trip::{Run, floor};
use std::time::Duration;

/// Nanoseconds of a call when there are 5 million a second.
const EACH: f64 = 200.0;

/// Runs the group.
///
/// # Errors
///
/// When a run fails.
pub fn run(bench: &Bench) -> Result<(), String> {
    let cpus = bench.cpus;
    let ours = || Side::new(move |count| service::round_trip::<48>(Run { cpus, count }));
    let case = "call rtt 48";
    let limit = Side::new(move |count| floor(Run { cpus, count }));
    bench.bound(case, ours(), limit)?;
    let theirs = || bench.iceoryx2().map(|i| i.side("iceoryx2", case, cpus, 0));
    bench.versus(case, "iceoryx2", ours(), theirs)?;

    let ours = || Side::new(move |count| service::in_flight::<48>(Run { cpus, count }));
    let case = "calls, 64 in flight";
    bench.each_within(case, EACH, ours())?;
    let theirs = || bench.iceoryx2().map(|i| i.side("iceoryx2", case, cpus, 0));
    bench.versus(case, "iceoryx2", ours(), theirs)?;
    let ours = Side::new(move |count| service::batches::<48>(Run { cpus, count }));
    bench.each_within("calls, batches of 64", EACH, ours)?;

    deaths(bench)?;

    // Each run is a median of its own; so is what is printed, of those.
    let side = |flooded| Side::of(1, move |_| service::vip(cpus, flooded));
    bench.bound("vip under flood", side(true), side(false))
}

fn deaths(bench: &Bench) -> Result<(), String> {
    let cpus = bench.cpus;
    let microseconds = |time: Duration| time.as_secs_f64() * 1e6;
    let killed = move |until| service::killed(cpus, until).map(microseconds);
    bench.within("kill to error", "µs", 1e3, || killed(Until::Error))?;
    bench.within("kill to serving", "µs", 20e3, || killed(Until::Serving))
}
