//! Messages between two processes that found each other by name.

use crate::bench::Bench;
use crate::measure::Side;
use crate::ours::node;
use crate::peers::udp;
use crate::round_trip::{Run, floor};
use crate::{one_way, round_trip, steady};
use std::time::Duration;

const KIB: u32 = 1024;

/// Messages of a run at a steady pace, which is how long it takes: a fifth of a second.
const STEADY: u64 = 2000;

/// Nodes that another connects to.
const PEERS: usize = 10;

/// Runs the group.
///
/// # Errors
///
/// When a run fails.
pub fn run(bench: &Bench) -> Result<(), String> {
    round_trips(bench)?;
    streams(bench)?;
    steadily(bench)?;
    beginnings(bench)
}

fn round_trips(bench: &Bench) -> Result<(), String> {
    let cpus = bench.cpus;
    let ours = || Side::new(move |count| node::round_trip::<48>(Run { cpus, count }));
    let case = "rtt 48";
    let limit = Side::new(move |count| floor(Run { cpus, count }));
    bench.bound(case, ours(), limit)?;
    let theirs = || bench.nightly().map(|n| n.side("shaq", case, cpus, 0));
    bench.versus(case, "shaq", ours(), theirs)?;
    let theirs = || bench.iceoryx2().map(|i| i.side("iceoryx2", case, cpus, 0));
    bench.versus(case, "iceoryx2", ours(), theirs)?;

    let theirs = Side::new(move |count| {
        let [a, b] = udp::polled()?;
        round_trip::frames::<48>(Run { cpus, count }, (&a, &b), (&b, &a))
    });
    bench.versus("udp rtt 48", "udp", ours(), || Ok(theirs))
}

fn streams(bench: &Bench) -> Result<(), String> {
    stream::<48>(bench, "one way 48", 64 * KIB)?;
    stream::<1024>(bench, "one way 1024", 64 * KIB)?;
    stream::<65536>(bench, "one way 65536", 1024 * KIB)?;

    let cpus = bench.cpus;
    let ours = Side::new(move |count| node::one_way::<48>(Run { cpus, count }, 64 * KIB));
    let limit = Side::new(move |count| one_way::half_trip(Run { cpus, count }));
    bench.bound("one way 48", ours, limit)?;
    let ours = Side::new(move |count| node::one_way::<65536>(Run { cpus, count }, 1024 * KIB));
    let limit = Side::new(move |count| one_way::copies::<65536>(Run { cpus, count }));
    bench.bound("one way 65536", ours, limit)
}

fn stream<const N: usize>(bench: &Bench, case: &str, lane: u32) -> Result<(), String> {
    let cpus = bench.cpus;
    let ours = || Side::new(move |count| node::one_way::<N>(Run { cpus, count }, lane));
    let theirs = || bench.nightly().map(|n| n.side("shaq", case, cpus, 0));
    bench.versus(case, "shaq", ours(), theirs)?;
    let theirs = || bench.iceoryx2().map(|i| i.side("iceoryx2", case, cpus, 0));
    bench.versus(case, "iceoryx2", ours(), theirs)
}

fn steadily(bench: &Bench) -> Result<(), String> {
    let cpus = bench.cpus;
    let ours = || Side::of(STEADY, move |count| node::steady::<48>(Run { cpus, count }));
    let case = "cpu per message";
    let theirs = Side::of(STEADY, move |count| {
        let [a, b] = udp::slept()?;
        let (mut tx, mut rx) = (&a, &b);
        let (tx, rx) = (&mut tx, &mut rx);
        steady::between(Run { cpus, count }, |w| w.go::<48>(tx), |r| r.go::<48>(rx))
    });
    bench.versus(case, "udp", ours(), || Ok(theirs))?;
    let limit = Side::of(STEADY, move |count| steady::futexes(Run { cpus, count }));
    bench.bound(case, ours(), limit)?;
    // To be taken off both sides, by whoever wants to know what the messages alone cost.
    let pace = Side::of(STEADY, move |count| steady::alone(Run { cpus, count }));
    bench.versus(case, "the pace alone", ours(), || Ok(pace))
}

/// What comes before the first message, by processes that have done nothing yet.
fn beginnings(bench: &Bench) -> Result<(), String> {
    let cpus = bench.cpus;
    let nanoseconds = |time: Duration| time.as_nanos() as f64;
    bench.within("join", "ns", 600e3, || node::join(cpus).map(nanoseconds))?;
    bench.within("first send", "ns", 100e3, || node::first_send(cpus).map(nanoseconds))?;
    bench.within("warm_up of 10", "ns", 1e6, || node::warm_up(cpus, PEERS).map(nanoseconds))
}
