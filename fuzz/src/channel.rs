//! A body for the channel.

use crate::common::memory::Memory;
use crate::common::{dead, owner};
use arbitrary::{Arbitrary, Result, Unstructured};
use shm_primitives::channel::{
    Client, Lane, Limits, Options, Recovered, ReplyError, Worker, WorkerChannel,
};
use shm_primitives::message::MsgStatus;
use shm_primitives::monitor::{Group, ThreadMonitor, Transaction};
use shm_primitives::ring::frame::{self, Packing};

const MOST_OPS: usize = 300;
const LANE: Lane = Lane { group: Group::Normal, worker: 1, lane: 2, epoch: 3 };

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Value {
    Exactly(u32),
    Small(u8),
    Padding(u8),
    Power(u8),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Attack {
    Poke(u16, Value),
    Request(u8),
    /// Serves with so many reports, and finishes, gives back, or dies answered or not.
    Serve(u8, u8, End),
    Receive(bool),
    Counts,
    /// The monitor names another reply position, or a request that is not in hand.
    Note(u32, u8),
    RecoverWorker,
    RecoverClient,
    Reopen,
}

#[derive(Arbitrary, Clone, Copy, PartialEq, Debug)]
enum End {
    Finish,
    GiveBack,
    DieAnswered,
    Die,
}

/// A channel whose every word may be overwritten between operations, and whose monitor may say
/// anything: no panic, no access outside, no endless loop. As long as nothing was overwritten
/// there is room for every reply.
pub fn hostile(data: &[u8]) {
    // Too few bytes are no fault.
    let _ = run(&mut Unstructured::new(data));
}

fn ring(u: &mut Unstructured<'_>) -> Result<frame::Options> {
    let (packing, least) =
        if u.arbitrary()? { (Packing::Lines, 512) } else { (Packing::Dense, 128) };
    let start = (u.arbitrary::<i8>()? as u32).wrapping_mul(8);
    let capacity = least << u.int_in_range(0..=2u32)?;
    Ok(frame::Options::new(capacity).packing(packing).start(start))
}

fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let mut limits =
        Limits { reply: u.arbitrary::<u8>()?.into(), progress: u.arbitrary::<u8>()?.into() };
    let shape = Options::new(ring(u)?, ring(u)?);
    while shape.limits(limits).max_calls() == 0 {
        limits = Limits { reply: limits.reply / 2, progress: limits.progress / 2 };
    }
    let options = shape.limits(limits);
    let memory = Memory::new(options.required_size().expect("small"), u.arbitrary()?);
    let monitor = ThreadMonitor::new();
    let mut noted = monitor.writer();
    // SAFETY: nobody else knows this memory.
    let created = unsafe { WorkerChannel::init_at(memory.region(), options) };
    let mut channel = created.expect("valid options");
    let mut client: Option<Client<'_>> = channel.claim_client(owner(1)).ok();
    let mut worker: Option<Worker<'_>> = channel.claim_worker(owner(2), LANE).ok();
    let (mut next, mut touched) = (1, false);
    // The worker's and the client's last owner; another one succeeds it.
    let (mut working, mut calling) = (2, 1);
    let reply = vec![0x5a; limits.reply as usize];
    let report = vec![0x5a; limits.progress as usize];
    for _ in 0..MOST_OPS {
        if u.is_empty() {
            break;
        }
        match u.arbitrary()? {
            Attack::Poke(at, value) => {
                let value = match value {
                    Value::Exactly(value) => value,
                    Value::Small(value) => value.into(),
                    Value::Padding(value) => 1 << 31 | u32::from(value),
                    Value::Power(bit) => 1u32.wrapping_shl(bit.into()),
                };
                memory.set(usize::from(at) % (memory.size() / 4) * 4, value);
                touched = true;
            }
            Attack::Request(length) => {
                if let Some(client) = &mut client {
                    let sent = client.request(next, 1001, &vec![1; length.into()]);
                    next += u64::from(sent.is_ok());
                    assert!(client.outstanding() <= client.max_calls() || touched);
                }
            }
            Attack::Serve(reports, percent, end) => {
                let Some(mut serving) = worker.take() else { continue };
                let mut died = false;
                if let Ok(request) = serving.peek() {
                    let mut work = request.begin(&mut noted, 1).expect("a valid lane");
                    // As a worker does that does not trust its client.
                    let mut copy = vec![0; percent.into()];
                    let copied = work.copy_payload(&mut copy);
                    assert_eq!(copied, copy.len().min(work.header().payload_len() as usize));
                    assert!(copy[..copied].iter().all(|byte| *byte == 1) || touched);
                    for _ in 0..reports % 4 {
                        let result = work.reply_progress(&report);
                        assert!(result.is_ok() || touched, "{result:?}");
                    }
                    if matches!(end, End::Finish | End::DieAnswered) {
                        let length = reply.len() * usize::from(percent % 101) / 100;
                        let result = work.reply(MsgStatus::Completed, &reply[..length]);
                        assert!(result.is_ok() || touched, "{result:?}");
                        assert!(
                            result.is_err()
                                || work.reply_progress(&[]) == Err(ReplyError::Answered)
                        );
                    }
                    died = matches!(end, End::Die | End::DieAnswered);
                    match end {
                        End::Finish => drop(work),
                        End::GiveBack => work.give_back(),
                        End::Die | End::DieAnswered => std::mem::forget(work),
                    }
                }
                let _ = serving.discard_malformed();
                if died {
                    std::mem::forget(serving);
                } else {
                    worker = Some(serving);
                }
            }
            Attack::Receive(release) => {
                if let Some(client) = &mut client {
                    match client.response() {
                        Ok(response) if release => response.release(),
                        Ok(response) => assert!(response.iter().all(|b| *b == 0x5a) || touched),
                        Err(_) => {
                            let _ = client.discard_malformed();
                        }
                    }
                }
            }
            Attack::Counts => {
                if let (Some(client), Some(worker)) = (&mut client, &mut worker) {
                    let _ = (client.is_response_empty(), worker.is_request_empty());
                    let most = memory.size() / 8;
                    assert!(client.available_responses() <= most);
                    assert!(worker.available_requests() <= most);
                    client.settle();
                    assert!(client.outstanding() as usize <= most);
                }
            }
            Attack::Note(reply_position, back) => {
                let transaction = Transaction {
                    seq_id: 1u64.max(next.saturating_sub(back.into())),
                    group: LANE.group,
                    worker: LANE.worker,
                    lane: LANE.lane,
                    lane_epoch: LANE.epoch,
                    reply_position,
                    start: 0,
                };
                noted.begin(&transaction).expect("valid");
                touched = true;
            }
            Attack::RecoverWorker => {
                std::mem::forget(worker.take());
                let last = working;
                working ^= 6;
                noted = monitor.recover_writer(dead(last));
                worker = match channel.recover_worker(dead(last), owner(working), LANE, &mut noted)
                {
                    Ok(Recovered::Nothing(worker) | Recovered::Answered(_, worker)) => Some(worker),
                    Ok(Recovered::Poison(mut poison)) => {
                        let told = poison.fail(&reply);
                        assert!(told.is_ok() || touched, "{told:?}");
                        assert!(poison.doubt().is_none() || touched);
                        let there = poison.request().map(|letter| {
                            let mut copy = vec![0; letter.size()];
                            letter.copy_payload(&mut copy) == letter.len()
                        });
                        assert_eq!(there, Ok(true));
                        Some(poison.skip())
                    }
                    Err(error) => {
                        assert!(touched, "{error}");
                        None
                    }
                };
                noted.reset();
            }
            Attack::RecoverClient => {
                std::mem::forget(client.take());
                let last = calling;
                calling ^= 9;
                client = channel.recover_client(dead(last), owner(calling)).ok();
                assert!(client.is_some() || touched);
            }
            Attack::Reopen => {
                drop((client.take(), worker.take()));
                // SAFETY: one thread alone, which holds no reference into the memory while it
                // overwrites words.
                let attached = unsafe { WorkerChannel::attach(memory.region(), None) };
                channel = attached.unwrap_or(channel);
                client = channel.claim_client(owner(calling)).ok();
                worker = channel.claim_worker(owner(working), LANE).ok();
            }
        }
    }
    drop((client, worker));
    memory.check_guards();
    Ok(())
}
