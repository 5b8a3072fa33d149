//! What `service_server` starts: a process that may crash.
use shm_transport::service::{Reply, Request, Worker};
use std::process::ExitCode;

fn main() -> ExitCode {
    Worker::main(|worker| {
        worker
            .on(1001, |name: &Request, reply: Reply| {
                reply.send(format!("hello {}", String::from_utf8_lossy(name)).as_bytes())
            })?
            .on(1002, |_: &Request, _: Reply| std::process::abort())?
            .run()
    })
}
