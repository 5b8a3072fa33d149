//! Runs one case of one peer once, as `benches::errand` has it.

mod shaq;

use benches::errand::serve;
use std::process::ExitCode;

fn main() -> ExitCode {
    serve(|peer, case, errand| match peer {
        "shaq" => shaq::run(case, errand),
        _ => Err(format!("no peer {peer}")),
    })
}
