//! Calls the workers of `service_server`, one of which does not survive it.
use shm_transport::service::{Client, Priority};
use std::time::Duration;

fn main() -> anyhow::Result<()> {
    let client = Client::connect("greeter")?;
    let call = |function| client.call(function, b"you", Priority::Low, Duration::from_secs(10));
    println!("{}", String::from_utf8_lossy(&call(1001)?));
    println!("{}", call(1002).expect_err("it aborts"));
    println!("{}", String::from_utf8_lossy(&call(1001)?));
    Ok(())
}
