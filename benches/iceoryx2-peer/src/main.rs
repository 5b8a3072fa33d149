//! Runs one case of iceoryx2 once, as `benches::errand` has it.

mod cases;
mod place;

use benches::chunk::{SIZE, alone};
use benches::errand::serve;
use place::Place;
use std::process::ExitCode;

fn main() -> ExitCode {
    serve(|peer, case, errand| {
        if peer != "iceoryx2" {
            return Err(format!("no peer {peer}"));
        }
        let place = Place::new()?;
        let cpu = errand.cpus.first;
        match case {
            "chunk loan+return" => alone(cpu, || cases::loans::<SIZE>(&place, errand.count)),
            "chunk send+receive" => alone(cpu, || cases::messages::<SIZE>(&place, errand.count)),
            _ => Err(format!("no case {case}")),
        }
    })
}
