//! A program that is its own workers: each comes to `start` as well, and serves there.
use shm_transport::service::{Priority, Reply, Request, Server};
use std::time::Duration;

fn main() -> anyhow::Result<()> {
    let patience = Duration::from_secs(10);
    let builder = Server::builder("adder").this_program().workers(2).vip_workers(0);
    let server = builder.on(1001, |bytes: &Request, reply: Reply| {
        let sum: u64 = bytes.iter().map(|byte| u64::from(*byte)).sum();
        reply.send(&sum.to_le_bytes())
    });
    let server = server.start()?;
    let sum = server.client()?.call(1001, &[20, 22], Priority::Low, patience)?;
    println!("20 + 22 = {}", u64::from_le_bytes(sum.as_slice().try_into()?));
    server.stop(patience)?;
    Ok(())
}
