//! The account of replies: a worker finds room for each, whatever dies, and no call is refused
//! without need.

use super::{LANE, WORKER, created, ends, memory, receive, small};
use crate::common::{dead, owner};
use proptest::prelude::*;
use shm_primitives::channel::{Limits, Options, Recovered, RequestError, Worker};
use shm_primitives::message::MsgStatus;
use shm_primitives::monitor::{MonitorWriter, ThreadMonitor};
use shm_primitives::ring::frame::{self, Packing};
use std::collections::VecDeque;

#[derive(Clone, Copy, Debug)]
enum Op {
    Request(u8),
    /// Serves with so many attempts to report progress; the sizes in percent of the limit.
    Serve {
        reports: u8,
        percent: u8,
    },
    /// Reports, and gives the request back unanswered.
    GiveBack {
        reports: u8,
    },
    Receive,
    /// Dies with a request in hand after so many reports and perhaps the final reply.
    WorkerDies {
        reports: u8,
        replied: bool,
    },
    WorkerLeaves,
    ClientDies,
    ClientLeaves,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let percent = || prop_oneof![Just(100u8), 0..=100u8];
    let op = prop_oneof![
        8 => any::<u8>().prop_map(Op::Request),
        6 => (0..3u8, percent()).prop_map(|(reports, percent)| Op::Serve { reports, percent }),
        1 => (0..3u8).prop_map(|reports| Op::GiveBack { reports }),
        4 => Just(Op::Receive),
        1 => (0..3u8, any::<bool>()).prop_map(|(reports, replied)| Op::WorkerDies { reports, replied }),
        1 => Just(Op::WorkerLeaves),
        1 => Just(Op::ClientDies),
        1 => Just(Op::ClientLeaves),
    ];
    proptest::collection::vec(op, 0..300)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// A worker never finds the response ring full, whatever dies; every call gets its replies in
    /// order, or was poison; and room that is there is used: a client told that too much is
    /// outstanding has replies to receive or requests that wait.
    #[test]
    fn there_is_room_for_every_reply(
        lines in any::<bool>(), shift in 0..3u32, start in 0..64u32, back in any::<bool>(),
        reply in 0..200u32, progress in 0..200u32, ops in ops()
    ) {
        let (packing, least) = if lines { (Packing::Lines, 512) } else { (Packing::Dense, 128) };
        let start = if back { (start * 8).wrapping_neg() } else { start * 8 };
        let requests = frame::Options::new(1024).packing(Packing::Dense);
        let responses = frame::Options::new(least << shift).packing(packing).start(start);
        let mut limits = Limits { reply, progress };
        while Options::new(requests, responses).limits(limits).max_calls() == 0 {
            limits = Limits { reply: limits.reply / 2, progress: limits.progress / 2 };
        }
        run(Options::new(requests, responses).limits(limits), &ops);
    }
}

fn run(options: Options, ops: &[Op]) {
    let memory = memory(options);
    let channel = created(&memory, options);
    let (mut client, mut worker) = ends(&channel);
    let monitor = ThreadMonitor::new();
    let mut noted = monitor.writer();
    let room = options.max_calls() as usize;
    // Sequence ids of requests not left behind, and of final replies not released.
    let (mut queued, mut answered) = (VecDeque::new(), VecDeque::new());
    let (mut next, mut newcomer, mut serving) = (1, 100, WORKER);
    let report = vec![7; options.limits.progress as usize];
    for op in ops {
        match *op {
            Op::Request(length) => {
                let length = usize::from(length) % 50;
                match client.request(next, 1001, &vec![next as u8; length]) {
                    Ok(()) => {
                        queued.push_back(next);
                        next += 1;
                        assert!(
                            queued.len() + answered.len() <= room,
                            "more than there is room for"
                        );
                    }
                    Err(RequestError::Full) => assert!(!queued.is_empty()),
                    Err(RequestError::Outstanding { calls }) => {
                        assert!(calls as usize >= queued.len() + answered.len());
                        assert!(
                            queued.len() == room || !client.is_response_empty(),
                            "refused with {queued:?} and {answered:?} of {room}"
                        );
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            Op::Serve { .. } | Op::GiveBack { .. } | Op::WorkerDies { .. } => {
                let (reports, percent, replied) = match *op {
                    Op::Serve { reports, percent } => (reports, percent, true),
                    Op::GiveBack { reports } => (reports, 0, false),
                    Op::WorkerDies { reports, replied } => (reports, 100, replied),
                    _ => unreachable!(),
                };
                let Ok(request) = worker.peek() else {
                    assert!(queued.is_empty());
                    continue;
                };
                let mut work = request.begin(&mut noted, 1).unwrap();
                let seq_id = work.header().seq_id();
                assert_eq!(queued.front(), Some(&seq_id));
                for _ in 0..reports {
                    work.reply_progress(&report).expect("room for a report");
                }
                if replied {
                    let length = options.limits.reply as usize * usize::from(percent) / 100;
                    work.reply(MsgStatus::Completed, &vec![seq_id as u8; length])
                        .expect("room for the reply");
                    answered.push_back(seq_id);
                }
                if let Op::WorkerDies { .. } = op {
                    std::mem::forget(work);
                    std::mem::forget(worker);
                    let (was, heir) = (serving, newcomer);
                    (serving, newcomer) = (heir, heir + 1);
                    noted = monitor.recover_writer(dead(was));
                    worker = match channel
                        .recover_worker(dead(was), owner(heir), LANE, &mut noted)
                        .unwrap()
                    {
                        Recovered::Answered(header, worker) => {
                            assert!(replied && header.seq_id() == seq_id);
                            worker
                        }
                        Recovered::Poison(mut poison) => {
                            assert!(!replied && poison.header().seq_id() == seq_id);
                            assert_eq!(poison.doubt(), None);
                            if seq_id % 2 == 0 {
                                let letter = vec![seq_id as u8; options.limits.reply as usize];
                                poison.fail(&letter).expect("room for the reply");
                                answered.push_back(seq_id);
                            }
                            poison.skip()
                        }
                        Recovered::Nothing(_) => panic!("{seq_id} was in hand"),
                    };
                    noted.reset();
                    queued.pop_front();
                } else {
                    if replied {
                        work.finish().unwrap();
                        queued.pop_front();
                    } else {
                        work.give_back();
                    }
                }
            }
            Op::Receive => {
                if let Some((seq_id, status, _)) = receive(&mut client)
                    && status.is_final()
                {
                    assert_eq!(answered.pop_front(), Some(seq_id));
                } else if client.is_response_empty() {
                    assert!(answered.is_empty());
                }
            }
            Op::WorkerLeaves => {
                drop(worker);
                worker = channel.claim_worker(owner(serving), LANE).unwrap();
            }
            Op::ClientDies => {
                std::mem::forget(client);
                let heir = newcomer;
                newcomer += 1;
                let was = channel.client().unwrap()[0].unwrap().index();
                client = channel.recover_client(dead(was), owner(heir)).unwrap();
            }
            Op::ClientLeaves => {
                drop(client);
                client = channel.claim_client(owner(newcomer)).unwrap();
                newcomer += 1;
            }
        }
        assert_eq!((client.corruption(), worker.corruption()), (None, None));
        assert!(client.outstanding() as usize >= queued.len() + answered.len());
        assert_eq!(worker.available_requests(), queued.len());
        assert!(client.available_responses() >= answered.len());
    }
    // In the end there is room for as many calls as ever.
    while !queued.is_empty() {
        answered.push_back(echo_nothing(&mut worker, &mut noted));
        queued.pop_front();
    }
    while let Some((seq_id, status, _)) = receive(&mut client) {
        if status.is_final() {
            assert_eq!(answered.pop_front(), Some(seq_id));
        }
    }
    assert!(answered.is_empty(), "{answered:?} never arrived");
    client.settle();
    assert_eq!(client.outstanding(), 0);
}

fn echo_nothing(worker: &mut Worker<'_>, monitor: &mut MonitorWriter<'_>) -> u64 {
    let mut work = worker.peek().unwrap().begin(monitor, 1).unwrap();
    work.reply(MsgStatus::Failed, b"").expect("room");
    let seq_id = work.header().seq_id();
    work.finish().unwrap();
    seq_id
}

/// More calls than the account admits do not fit: the account is not too careful by a whole call
/// and a half.
#[test]
fn the_account_is_tight() {
    for (reply, progress) in [(40, 16), (0, 0), (100, 4), (4, 100), (36, 36)] {
        let limits = Limits { reply, progress };
        let options = small().limits(limits);
        let takes = |payload: u32| (28 + payload).next_multiple_of(8);
        let (f, p) = (takes(reply), takes(progress));
        let n = options.max_calls();
        assert!(n * (f + p) + f.max(p) - 8 + 8 <= 512);
        assert!((n + 1) * (f + p) + f.max(p) - 8 + 8 > 512);
    }
}
