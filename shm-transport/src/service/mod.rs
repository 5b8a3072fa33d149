//! Supervised services: workers that may crash, and callers that never notice more than an error.
//!
//! A *server* starts worker processes and looks after them; *workers* run functions, by number;
//! *clients* call them. A call goes from the client's memory to the worker and back, and passes
//! through nobody else: no system call is made while both are awake, and no call needs the server.
//! A worker that is killed costs the one call that it had in hand, whose caller is told at once.
//!
//! ```standalone_crate
//! use shm_transport::service::{CallError, Priority, Reply, Request, Server};
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # // Its own, and the same in its workers, which come here too.
//! # let own = || format!("doc-service-{}", std::process::id());
//! # let domain = std::env::var("SHM_DOMAIN").unwrap_or_else(|_| own());
//! let second = Duration::from_secs(1);
//! let server = Server::builder("math")
//!     .domain(&domain)
//!     .this_program() // or .worker("/usr/bin/solver"), a program with a Worker
//!     .workers(2)
//!     .vip_workers(0)
//!     .letters(8, 4096)
//!     .on(1001, |numbers: &Request, reply: Reply| {
//!         reply.send(&[numbers.iter().sum()])
//!     })
//!     .on(1002, |_: &Request, _: Reply| std::process::abort())
//!     .start()?; // the workers serve here, and never come further
//!
//! let client = server.client()?; // in other processes: Client::connect("math")
//! assert_eq!(client.call(1001, &[2, 3], Priority::Low, 10 * second)?, [5]);
//!
//! let crashed = client.call(1002, b"?", Priority::Low, 10 * second);
//! assert!(matches!(crashed, Err(CallError::WorkerCrashed { .. })));
//! assert_eq!(client.call(1001, &[2, 3], Priority::Low, 10 * second)?, [5]);
//!
//! let [letter] = &server.letters()?[..] else { panic!("one call was left behind") };
//! assert_eq!((letter.function, &letter.payload[..]), (1002, &b"?"[..]));
//! server.drop_letter(letter.key)?;
//! server.stop(10 * second)?;
//! # Ok(())
//! # }
//! ```
//!
//! What is promised, how large to make what, and how to run a service from day to day stands in
//! `docs/service.md`.
//!
//! # What to use
//!
//! | you want | use |
//! |---|---|
//! | a service whose workers are this same program | [`Server::builder`], [`this_program`](ServerBuilder::this_program), [`on`](ServerBuilder::on) |
//! | workers that are another program | [`worker`](ServerBuilder::worker) there, and [`Worker::attach_from_env`] in that program |
//! | to call, from any process of the domain | [`Client`]: [`call`](Client::call), [`call_async`](Client::call_async), [`batch`](Client::batch) |
//! | calls that normal load does not hold up | [`Priority::High`], and [VIP workers](ServerBuilder::vip_workers) |
//! | a function that is tried again when its worker dies | [`Function::idempotent`] |
//! | a function that may take long | [`Function::threshold`], and [`Reply::progress`] |
//! | another executable, without losing a call | [`Server::upgrade`] |
//! | workers that wait as they should, each on its core | [`Worker::wait`], [`ServerBuilder::pin_workers`] |
//! | to know how it goes | [`Server::state`], [`Server::workers`] |
//! | to see what workers died of | [`Server::letters`] |
//! | a server that goes while its workers stay | [`Server::leave`]; the next [`start`](ServerBuilder::start) adopts them |
//!
//! # Who does what
//!
//! | who | does | waits for |
//! |---|---|---|
//! | a client | picks the worker with the least to do, writes the request into its own memory, reads the reply there | its reply, no longer than it says |
//! | a worker | takes each client's calls in turn, up to 32 of one or some milliseconds, in one thread; runs the handler; answers in the client's memory | calls, never a client |
//! | the server's thread | starts workers, learns of deaths from the kernel, recovers, restarts | deaths, its owner's orders |
//!
//! # Memory
//!
//! | segment | what is in it | written by |
//! |---|---|---|
//! | `service.<name>` | the shape, orders and monitors of the workers, functions, counters | server and workers; clients map it for reading |
//! | `bells.<name>` | who is there, and who wakes whom | all three: it can cost time, never correctness |
//! | `client.<name>.<place>-<tenancy>` | one client's lanes, one to each worker | that client, and the workers |
//! | `letters.<name>` | dead letters | the server |
//!
//! A lane to a normal worker has room for 1024 calls of 64 bytes with their replies unless something
//! else is said; its memory is taken at the first call that goes there. Room for a call's reply is
//! taken with the call, so there is always room for an answer. More is in
//! [`server`](server#segments), and the layouts are in `shm_primitives::layout`.
//!
//! # What a kill leaves
//!
//! | who is killed, at any instruction | what becomes of calls | who puts away what it had |
//! |---|---|---|
//! | a worker | the one in hand ends with [`WorkerCrashed`](CallError::WorkerCrashed), or, if its reply was sent, with that, and is never run again by itself; those that wait are served by its successor, or a helper | the server; without one, the next server |
//! | a client | its calls are finished, and nobody reads the replies | the server |
//! | the server | go on; a caller whose worker dies too finds out within 100 ms | the next server of the name, which adopts the service |
//! | the server and the workers | those in hand end with `WorkerCrashed`; those that wait do so for the next server, up to 10 seconds, then end with [`Unattended`](CallError::Unattended) | the next server of the name |
//! | all of them | there are none | the next server of the name |
//!
//! Who is stopped, by SIGSTOP or a debugger, is not dead, however long that takes.

pub mod client;
mod clock;
mod core;
mod failure;
mod mapped;
mod name;
mod role;
pub mod server;
pub mod view;
pub mod worker;

#[cfg(test)]
mod bare;

pub use client::{Batch, Call, CallError, Client, ClientBuilder, ClientState, ConnectError};
pub use server::{
    DeadLetter, EXIT_NEVER, Function, Hang, Program, Restart, Server, ServerBuilder, ServerError,
    ServiceState, Strategy, WorkerInfo,
};
// What is found in, or given to, the types above.
pub use shm_primitives::layout::phoenix::GroupShape;
pub use shm_primitives::layout::service::{Order, Shape};
pub use shm_primitives::message::Priority;
pub use shm_primitives::monitor::Group;
pub use shm_primitives::part::ClaimError;
pub use shm_primitives::place::{Cause, Condition};
pub use shm_primitives::table::SlotKey;
pub use worker::{HandlerError, Reply, ReplyGrant, Request, Worker, WorkerError};
