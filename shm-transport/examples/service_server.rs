//! Supervises workers of the program beside it, until Ctrl-C or SIGTERM ends it.
//!
//! ```sh
//! cargo build -p shm-transport --examples    # the workers' program too
//! cargo run -p shm-transport --example service_server
//! cargo run -p shm-transport --example service_client    # in another terminal
//! ```
use shm_transport::service::{Program, Server};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::{env, time::Duration};

fn main() -> anyhow::Result<()> {
    // From here on they wait for the last but one line, and do not end the process.
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    let worker = Program::new(env::current_exe()?.with_file_name("service_worker"));
    let server = Server::builder("greeter").worker(worker).workers(2).vip_workers(0).start()?;
    server.wait_until_up(Duration::from_secs(10))?;
    println!("2 workers serve; Ctrl-C stops them");
    signals.forever().next();
    server.stop(Duration::from_secs(10))?;
    Ok(())
}
