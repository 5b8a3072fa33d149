//! The channel.

mod account;
mod calls;
#[path = "../common/mod.rs"]
mod common;
mod input;
mod recovery;

use common::memory::Memory;
use common::owner;
use shm_primitives::channel::{Client, Lane, Limits, Options, ReceiveError, Worker, WorkerChannel};
use shm_primitives::message::MsgStatus;
use shm_primitives::monitor::{Group, MonitorWriter};
use shm_primitives::ring::frame::{self, Packing};

const CLIENT: u32 = 1;
const WORKER: u32 = 2;
const HEIR: u32 = 3;
const LANE: Lane = Lane { group: Group::Vip, worker: 5, lane: 7, epoch: 3 };

fn small() -> Options {
    let ring = |start: u32| frame::Options::new(512).packing(Packing::Dense).start(start);
    Options::new(ring(0), ring(0)).limits(Limits { reply: 40, progress: 16 })
}

fn memory(options: Options) -> Memory {
    // Every byte looks like part of a ready word.
    Memory::new(options.required_size().unwrap(), 0x18)
}

fn created(memory: &Memory, options: Options) -> WorkerChannel<'_> {
    // SAFETY: nobody else knows this memory.
    unsafe { WorkerChannel::init_at(memory.region(), options) }.unwrap()
}

fn ends<'a>(channel: &WorkerChannel<'a>) -> (Client<'a>, Worker<'a>) {
    let client = channel.claim_client(owner(CLIENT)).unwrap();
    (client, channel.claim_worker(owner(WORKER), LANE).unwrap())
}

/// Serves the next request: the answer is its payload.
fn echo(worker: &mut Worker<'_>, monitor: &mut MonitorWriter<'_>) -> u64 {
    let mut work = worker.peek().unwrap().begin(monitor, 1).unwrap();
    let (payload, reply) = work.split();
    reply.reply(MsgStatus::Completed, payload).unwrap();
    let seq_id = work.header().seq_id();
    work.finish().unwrap();
    seq_id
}

/// Receives the next reply: sequence id, status, payload.
fn receive(client: &mut Client<'_>) -> Option<(u64, MsgStatus, Vec<u8>)> {
    match client.response() {
        Ok(response) => {
            let found = (response.header().seq_id(), response.status(), response.to_vec());
            assert_eq!(response.header().payload_len() as usize, response.len());
            response.release();
            Some(found)
        }
        Err(ReceiveError::Empty) => None,
        Err(error) => panic!("{error}: {:?}", client.corruption()),
    }
}
