//! What `service_server` starts: a process that may crash.
use shm_transport::service::{Reply, Request, Worker};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    Worker::attach_from_env()?
        .on(1001, |name: &Request, reply: Reply| {
            reply.send(format!("hello {}", String::from_utf8_lossy(name)).as_bytes())
        })?
        .on(1002, |_: &Request, _: Reply| std::process::abort())?
        .run()?;
    Ok(())
}
