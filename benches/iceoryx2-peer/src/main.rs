//! Runs one case of iceoryx2 once, as `benches::errand` has it.

mod between;
mod calls;
mod cases;
mod place;

use benches::chunk::{SIZE, alone};
use benches::errand::serve;
use benches::round_trip::Run;
use place::Place;
use std::process::ExitCode;

fn main() -> ExitCode {
    serve(|peer, case, errand| {
        if peer != "iceoryx2" {
            return Err(format!("no peer {peer}"));
        }
        let place = Place::new()?;
        let cpu = errand.cpus.first;
        let run = Run { cpus: errand.cpus, count: errand.count };
        match case {
            "chunk loan+return" => alone(cpu, || cases::loans::<SIZE>(&place, errand.count)),
            "chunk send+receive" => alone(cpu, || cases::messages::<SIZE>(&place, errand.count)),
            "rtt 48" => between::round_trip::<48>(&place, run),
            "call rtt 48" => calls::one::<48>(&place, run),
            "calls, 64 in flight" => calls::window::<48>(&place, run, 64),
            "one way 48" => between::one_way::<48>(&place, run, 1024),
            "one way 1024" => between::one_way::<1024>(&place, run, 64),
            "one way 65536" => between::one_way::<65536>(&place, run, 16),
            _ => Err(format!("no case {case}")),
        }
    })
}
