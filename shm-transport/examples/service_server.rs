//! Supervises workers of the program beside it: run this, and then `service_client`.
use shm_transport::service::{Program, Server};
use std::{env, io::stdin, time::Duration};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let worker = Program::new(env::current_exe()?.with_file_name("service_worker"));
    let server = Server::builder("greeter").worker(worker).workers(2).vip_workers(0).start()?;
    server.wait_until_up(Duration::from_secs(10))?;
    println!("{} workers serve; press Enter to stop", server.workers().len());
    stdin().read_line(&mut String::new())?;
    server.stop(Duration::from_secs(10))?;
    Ok(())
}
