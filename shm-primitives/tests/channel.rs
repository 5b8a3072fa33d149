//! The channel: calls and replies, the account of replies, what recovery finds, and memory that
//! says impossible things.

mod common;

use common::memory::Memory;
use common::{Patience, dead, owner};
use proptest::prelude::*;
use shm_primitives::channel::{
    Client, Lane, Limits, Options, ReceiveError, Recovered, ReplyError, RequestError, Unanswered,
    Worker, WorkerChannel,
};
use shm_primitives::message::{HeaderError, MsgHeader, MsgStatus};
use shm_primitives::monitor::{Group, MonitorWriter, ThreadMonitor, Transaction};
use shm_primitives::part::{AttachError, ClaimError};
use shm_primitives::ring::frame::{self, FrameRingRef, Packing};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

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

#[test]
fn a_call() {
    let memory = memory(small());
    let channel = created(&memory, small());
    let (mut client, mut worker) = ends(&channel);
    let monitor = ThreadMonitor::new();
    let mut noted = monitor.writer();
    assert!(worker.is_request_empty() && client.is_response_empty());
    assert_eq!(worker.peek().err(), Some(ReceiveError::Empty));

    client.request(11, 1001, b"one").unwrap();
    let mut grant = client.grant(12, 1002, 10).unwrap();
    assert_eq!(grant.len(), 10);
    grant[..3].copy_from_slice(b"two");
    grant.commit(3);
    let _aborted = client.grant(13, 1, 10).unwrap();
    assert_eq!((worker.available_requests(), client.outstanding()), (2, 2));

    let request = worker.peek().unwrap();
    assert_eq!((request.header(), &*request), (MsgHeader::new(11, 1001, 3), &b"one"[..]));
    // Not begun: it stays.
    assert!(!monitor.snapshot().unwrap().is_processing());
    let mut work = worker.peek().unwrap().begin(&mut noted, 99).unwrap();
    let seen = Transaction {
        seq_id: 11,
        group: Group::Vip,
        worker: 5,
        lane: 7,
        lane_epoch: 3,
        reply_position: 0,
        start: 99,
    };
    let snapshot = monitor.snapshot().unwrap();
    assert!(snapshot.is_processing() && snapshot.transaction() == Some(seen));
    assert_eq!(work.payload(), b"one");
    assert_eq!(work.reply_progress(b"half"), Ok(true));
    assert_eq!(work.reply_progress(b"more"), Ok(false), "the last one is not released");
    assert_eq!(receive(&mut client), Some((11, MsgStatus::Processing, b"half".to_vec())));
    assert_eq!(work.reply_progress(b"more"), Ok(true));
    assert_eq!(
        work.reply(MsgStatus::Processing, b""),
        Err(ReplyError::NotFinal(MsgStatus::Processing))
    );
    let mut grant = work.grant(20).unwrap();
    grant[..4].copy_from_slice(b"done");
    grant.commit(MsgStatus::Failed, 4).unwrap();
    assert_eq!(work.reply(MsgStatus::Completed, b""), Err(ReplyError::Answered));
    assert_eq!(work.reply_progress(b""), Err(ReplyError::Answered));
    assert!(monitor.snapshot().unwrap().is_processing());
    work.finish().unwrap();
    assert!(!monitor.snapshot().unwrap().is_processing());
    assert_eq!(worker.available_requests(), 1);
    echo(&mut worker, &mut noted);
    assert!(worker.is_request_empty());

    assert_eq!((client.available_responses(), client.outstanding()), (3, 2));
    assert_eq!(receive(&mut client).unwrap().2, b"more");
    assert_eq!(receive(&mut client), Some((11, MsgStatus::Failed, b"done".to_vec())));
    assert_eq!(client.outstanding(), 1);
    assert_eq!(receive(&mut client), Some((12, MsgStatus::Completed, b"two".to_vec())));
    assert_eq!((receive(&mut client), client.outstanding()), (None, 0));
}

#[test]
fn an_unfinished_request_stays() {
    let memory = memory(small());
    let channel = created(&memory, small());
    let (mut client, mut worker) = ends(&channel);
    let monitor = ThreadMonitor::new();
    let mut noted = monitor.writer();
    client.request(11, 1001, b"one").unwrap();
    worker.peek().unwrap().begin(&mut noted, 0).unwrap().give_back();
    assert!(!monitor.snapshot().unwrap().is_processing());
    assert_eq!(echo(&mut worker, &mut noted), 11);
    // Answered and dropped is finished.
    client.request(12, 1001, b"two").unwrap();
    let mut work = worker.peek().unwrap().begin(&mut noted, 0).unwrap();
    work.reply(MsgStatus::Completed, b"2").unwrap();
    drop(work);
    assert!(worker.is_request_empty() && !monitor.snapshot().unwrap().is_processing());
    assert_eq!(client.available_responses(), 2);
    // Finished without an answer it is as if the worker had died.
    client.request(13, 1001, b"three").unwrap();
    assert_eq!(worker.peek().unwrap().begin(&mut noted, 0).unwrap().finish(), Err(Unanswered));
    assert!(monitor.snapshot().unwrap().is_processing());
    drop(worker);
    let recovered = channel.recover_worker(dead(WORKER), owner(9), LANE, &mut noted);
    let Ok(Recovered::Poison(poison)) = recovered else { panic!("{recovered:?}") };
    drop(poison.skip());
    noted.reset();
    while let Ok(response) = client.response() {
        response.release();
    }
    // A worker number out of range is refused before anything is written.
    let lane = Lane { worker: 1 << 14, ..LANE };
    let mut worker = channel.claim_worker(owner(WORKER), lane).unwrap();
    client.request(13, 1001, b"three").unwrap();
    assert!(worker.peek().unwrap().begin(&mut noted, 0).is_err());
    assert!(!monitor.snapshot().unwrap().is_processing());
    assert_eq!(worker.available_requests(), 1);
}

#[test]
fn sizes_are_checked() {
    let memory = memory(small());
    let channel = created(&memory, small());
    let (mut client, mut worker) = ends(&channel);
    let monitor = ThreadMonitor::new();
    let mut noted = monitor.writer();
    assert_eq!(client.request(0, 1001, b""), Err(RequestError::InvalidSeqId));
    let maximum = client.max_request();
    assert_eq!(maximum, 512 / 2 - 16 - 16);
    let length = maximum + 1;
    let error = RequestError::TooLarge { length, maximum };
    assert_eq!(client.request(1, 1001, &vec![0; length]), Err(error));
    client.request(1, 1001, &vec![0; maximum]).unwrap();
    client.request(2, 1001, &vec![0; maximum]).unwrap();
    assert_eq!(client.request(3, 1001, b""), Err(RequestError::Full));
    assert_eq!(client.outstanding(), 2);
    let mut work = worker.peek().unwrap().begin(&mut noted, 0).unwrap();
    let error = ReplyError::TooLarge { length: 41, maximum: 40 };
    assert_eq!(work.reply(MsgStatus::Completed, &[0; 41]), Err(error));
    let error = ReplyError::TooLarge { length: 17, maximum: 16 };
    assert_eq!(work.reply_progress(&[0; 17]), Err(error));
    work.reply(MsgStatus::Completed, &[0; 40]).unwrap();
    work.finish().unwrap();
}

#[test]
fn layout() {
    for requests in [128, 256, 1024] {
        let options = Options::new(
            frame::Options::new(requests).packing(Packing::Dense),
            frame::Options::new(512).packing(Packing::Dense),
        )
        .limits(small().limits);
        let second = (256 + requests as usize).next_multiple_of(64);
        assert_eq!(options.required_size(), Some(second + 256 + 512));
        let memory = memory(options);
        let attach = |capacities| {
            // SAFETY: nobody else writes to this memory.
            unsafe { WorkerChannel::attach(memory.region(), capacities) }
        };
        assert!(matches!(attach(None).err(), Some(AttachError::WrongMagic { .. })));
        let channel = created(&memory, options);
        // Each is a ring by itself.
        let part = memory.part(0, second);
        assert!(FrameRingRef::attach_untrusted(part, Some(requests)).is_ok());
        let part = memory.part(second, 256 + 512);
        assert!(FrameRingRef::attach_untrusted(part, Some(512)).is_ok());
        let (mut client, mut worker) = ends(&channel);
        client.request(0x0102_0304_0506_0708, 0x1112_1314, &[0xaa; 8]).unwrap();
        let monitor = ThreadMonitor::new();
        echo(&mut worker, &mut monitor.writer());
        let bytes = memory.bytes();
        let header = [8, 7, 6, 5, 4, 3, 2, 1, 0x14, 0x13, 0x12, 0x11, 8, 0, 0, 0];
        assert_eq!(bytes[256 + 8..][..24], [&header[..], &[0xaa; 8]].concat());
        let reply = [&header[..], &[2, 0, 0, 0], &[0xaa; 8]].concat();
        assert_eq!(bytes[second + 256 + 8..][..28], reply);
        drop((client, worker));

        assert!(attach(Some([requests, 512])).is_ok());
        let wrong = AttachError::UnexpectedCapacity { found: 512, wanted: 1024 };
        assert_eq!(attach(Some([requests, 1024])).err(), Some(wrong));
        let wrong = AttachError::UnexpectedCapacity { found: requests, wanted: 64 };
        assert_eq!(attach(Some([64, 512])).err(), Some(wrong));
        let short = memory.part(0, second + 256 + 511);
        // SAFETY: as above.
        let error = unsafe { WorkerChannel::attach(short, None) }.err();
        let (found, wanted) = (second + 256 + 511, second + 256 + 512);
        assert_eq!(error, Some(AttachError::TooSmall { found, wanted }));
        // A capacity that leads elsewhere.
        memory.set(20, requests * 2);
        assert!(attach(None).is_err());
        memory.set(20, 1 << 30);
        assert!(matches!(attach(None).err(), Some(AttachError::TooSmall { .. })));
    }
}

#[test]
fn limits_are_checked() {
    let ring = frame::Options::new(512).packing(Packing::Dense);
    // 8 + 20 + 132 is 160: three of them less 8, and 8, are 480; the next size is 504.
    let fits = Limits { reply: 140, progress: 140 };
    assert_eq!(Options::new(ring, ring).limits(fits).max_calls(), 1);
    let options = Options::new(ring, ring).limits(Limits { reply: 141, progress: 141 });
    assert_eq!(options.max_calls(), 0);
    let memory = memory(options);
    let before = memory.bytes();
    // SAFETY: nobody else knows this memory.
    let error = unsafe { WorkerChannel::init_at(memory.region(), options) }.err();
    assert_eq!(error, Some(AttachError::NoRoomForReplies { found: 512, wanted: 528 }));
    let odd = Options { requests: ring.start(4), ..options };
    // SAFETY: as above.
    let error = unsafe { WorkerChannel::init_at(memory.region(), odd) }.err();
    assert_eq!(error, Some(AttachError::UnsupportedOption { found: 4 }));
    let odd = Options { responses: ring.start(4), ..options };
    assert_eq!(odd.max_calls(), 0);
    // SAFETY: as above.
    assert!(unsafe { WorkerChannel::init_at(memory.region(), odd) }.is_err());
    assert_eq!(memory.bytes(), before, "untouched");
    created(&memory, options.limits(fits));
    // SAFETY: as above.
    let attached = unsafe { WorkerChannel::attach(memory.region(), None) }.unwrap();
    assert_eq!(attached.limits(), fits);
    // They stand in the response ring's header, and are checked where they are read.
    let responses = options.requests.required_size().unwrap().next_multiple_of(64);
    assert_eq!([memory.get(responses + 48), memory.get(responses + 52)], [140, 140]);
    memory.set(responses + 48, 156);
    // SAFETY: as above.
    let error = unsafe { WorkerChannel::attach(memory.region(), None) }.err();
    assert_eq!(error, Some(AttachError::NoRoomForReplies { found: 512, wanted: 536 }));
    memory.set(responses + 48, u32::MAX);
    // SAFETY: as above.
    let error = unsafe { WorkerChannel::attach(memory.region(), None) }.err();
    assert!(matches!(error, Some(AttachError::NoRoomForReplies { found: 512, .. })));
    let huge = Limits { reply: u32::MAX, progress: u32::MAX };
    assert_eq!(Options::new(ring, ring).limits(huge).max_calls(), 0);
    assert_eq!(Options::new(ring, frame::Options::new(1 << 16)).max_calls(), 7);
}

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

/// What a dead worker leaves, with `reports` progress replies read and `replied`.
fn dies_in_hand(reports: u32, replied: bool) -> (Memory, ThreadMonitor) {
    let memory = memory(small());
    let monitor = ThreadMonitor::new();
    let channel = created(&memory, small());
    let (mut client, mut worker) = ends(&channel);
    client.request(11, 1001, b"poison").unwrap();
    client.request(12, 1001, b"next").unwrap();
    let mut noted = monitor.writer();
    let mut work = worker.peek().unwrap().begin(&mut noted, 0).unwrap();
    for n in 0..reports {
        assert_eq!(work.reply_progress(&[n as u8; 16]), Ok(true));
        assert_eq!(receive(&mut client).unwrap().1, MsgStatus::Processing);
    }
    if replied {
        work.reply(MsgStatus::Failed, b"").unwrap();
        assert_eq!(receive(&mut client).unwrap().1, MsgStatus::Failed);
    } else {
        // Half of a reply, over whatever an earlier lap left.
        work.grant(40).unwrap().fill(0x33);
    }
    std::mem::forget(work);
    std::mem::forget((client, worker));
    (memory, monitor)
}

fn attached(memory: &Memory) -> WorkerChannel<'_> {
    // SAFETY: nobody else writes to this memory.
    unsafe { WorkerChannel::attach(memory.region(), None) }.unwrap()
}

/// However far the replies have gone round the ring since the request was begun.
#[test]
fn a_long_call_is_judged_by_its_last_reply() {
    for reports in (0..40).chain([1000]) {
        for replied in [false, true] {
            let (memory, monitor) = dies_in_hand(reports, replied);
            let channel = attached(&memory);
            let mut noted = monitor.recover_writer(dead(WORKER));
            match channel.recover_worker(dead(WORKER), owner(9), LANE, &mut noted).unwrap() {
                Recovered::Answered(header, mut worker) => {
                    assert!(replied && header.seq_id() == 11);
                    assert_eq!(worker.peek().unwrap().header().seq_id(), 12);
                }
                Recovered::Poison(mut poison) => {
                    assert!(!replied && poison.doubt().is_none());
                    assert_eq!(poison.header(), MsgHeader::new(11, 1001, 6));
                    assert_eq!(&*poison.request().unwrap(), b"poison");
                    let mut worker = poison.skip();
                    assert_eq!(worker.peek().unwrap().header().seq_id(), 12);
                }
                Recovered::Nothing(_) => panic!("after {reports} reports"),
            }
            noted.reset();
        }
    }
}

#[test]
fn only_what_the_monitor_names_is_poison() {
    let (memory, monitor) = dies_in_hand(0, false);
    let mut noted = monitor.recover_writer(dead(WORKER));
    let lane = Lane { lane: 8, ..LANE };
    let found = attached(&memory).recover_worker(dead(WORKER), owner(9), lane, &mut noted);
    assert!(matches!(found.unwrap(), Recovered::Nothing(_)), "another lane");
    // The lane and the request, but another epoch: somebody is wrong, and it is not run again.
    for epoch in [LANE.epoch - 1, LANE.epoch + 1] {
        let (memory, monitor) = dies_in_hand(0, false);
        let mut noted = monitor.recover_writer(dead(WORKER));
        let lane = Lane { epoch, ..LANE };
        let found = attached(&memory).recover_worker(dead(WORKER), owner(9), lane, &mut noted);
        let Recovered::Poison(poison) = found.unwrap() else { panic!("begun again") };
        assert!(poison.doubt().is_some());
    }
    // Another worker's number says nothing: the lane may have been taken over.
    let (memory, monitor) = dies_in_hand(0, false);
    let lane = Lane { worker: 1, group: Group::Normal, ..LANE };
    let mut noted = monitor.recover_writer(dead(WORKER));
    let found = attached(&memory).recover_worker(dead(WORKER), owner(9), lane, &mut noted);
    assert!(matches!(found.unwrap(), Recovered::Poison(_)));

    let (memory, monitor) = dies_in_hand(0, false);
    let mut noted = monitor.recover_writer(dead(WORKER));
    noted.end();
    let found = attached(&memory).recover_worker(dead(WORKER), owner(9), LANE, &mut noted);
    assert!(matches!(found.unwrap(), Recovered::Nothing(_)));
}

/// Records that no worker could have written: the head counts as poison, with the doubt said, or
/// nothing does.
#[test]
fn impossible_records() {
    for position in [8, 16, 4, 1, 512, 504, 513, 1 << 20, u32::MAX, 0u32.wrapping_sub(512)] {
        for replied in [false, true] {
            let (memory, monitor) = dies_in_hand(0, replied);
            let mut noted = monitor.recover_writer(dead(WORKER));
            let transaction = noted.snapshot().transaction().unwrap();
            noted.begin(&Transaction { reply_position: position, ..transaction }).unwrap();
            let found = attached(&memory).recover_worker(dead(WORKER), owner(9), LANE, &mut noted);
            match found.unwrap() {
                Recovered::Poison(mut poison) => {
                    assert!(poison.doubt().is_some(), "{position}");
                    assert_eq!(poison.fail(b""), Err(ReplyError::Doubtful));
                    assert_eq!(poison.skip().peek().unwrap().header().seq_id(), 12);
                }
                other => panic!("{position}: {other:?}"),
            }
            memory.check_guards();
        }
    }
}

/// The client of a poison message is told through its ring, once, and has its room back.
#[test]
fn a_poison_is_answered() {
    let (memory, monitor) = dies_in_hand(1, false);
    let channel = attached(&memory);
    let mut noted = monitor.recover_writer(dead(WORKER));
    let recovered = channel.recover_worker(dead(WORKER), owner(9), LANE, &mut noted).unwrap();
    let Recovered::Poison(mut poison) = recovered else { panic!("{recovered:?}") };
    let seq_id = poison.header().seq_id();
    let error = poison.fail(&[0; 41]);
    assert_eq!(error, Err(ReplyError::TooLarge { length: 41, maximum: 40 }));
    poison.fail(b"the worker died").unwrap();
    assert_eq!(poison.fail(b"again"), Err(ReplyError::Answered));
    // One that dies here has answered the call; dropping it is the same.
    drop(poison);
    let recovered = channel.recover_worker(dead(9), owner(10), LANE, &mut noted).unwrap();
    let Recovered::Answered(header, _worker) = recovered else { panic!("{recovered:?}") };
    assert_eq!(header.seq_id(), seq_id);
    let client = channel.client().unwrap()[0].unwrap();
    let mut client = channel.recover_client(dead(client.index()), owner(11)).unwrap();
    let failed = (seq_id, MsgStatus::Failed, b"the worker died".to_vec());
    assert_eq!(receive(&mut client), Some(failed));
    assert_eq!(receive(&mut client), None);
}

/// Nobody takes over from himself.
#[test]
fn ones_own_death_proves_nothing() {
    let (memory, monitor) = dies_in_hand(0, false);
    let channel = attached(&memory);
    let mut noted = monitor.recover_writer(dead(WORKER));
    let same = channel.recover_worker(dead(WORKER), owner(WORKER), LANE, &mut noted).err();
    assert_eq!(same, Some(ClaimError::OwnDeath(owner(WORKER))));
    assert_eq!(channel.worker(), Ok([Some(owner(WORKER)); 2]), "untouched");
    let client = channel.client().unwrap()[0].unwrap();
    let same = channel.recover_client(dead(client.index()), client).err();
    assert_eq!(same, Some(ClaimError::OwnDeath(client)));
}

#[test]
fn an_unresolved_poison_keeps_the_lane() {
    let (memory, monitor) = dies_in_hand(1, false);
    let channel = attached(&memory);
    let mut noted = monitor.recover_writer(dead(WORKER));
    let found = channel.recover_worker(dead(WORKER), owner(9), LANE, &mut noted).unwrap();
    assert!(matches!(found, Recovered::Poison(_)));
    drop(found);
    assert_eq!(channel.worker(), Ok([Some(owner(9)); 2]));
    let error = channel.claim_worker(owner(10), LANE).err();
    assert_eq!(error, Some(ClaimError::Owned(owner(9))));
    let found = channel.recover_worker(dead(9), owner(10), LANE, &mut noted).unwrap();
    let Recovered::Poison(poison) = found else { panic!("{found:?}") };
    let mut worker = poison.skip();
    noted.reset();
    assert_eq!(echo(&mut worker, &mut noted), 12);
}

/// Every pair of owners that the two ends can have.
#[test]
fn ends_of_one_two_and_no_dead() {
    let (a, b, heir) = (owner(20), owner(21), owner(22));
    let word = |owner: Option<_>| owner.map_or(0, shm_primitives::identity::OwnerId::word);
    let second = (256 + 512usize).next_multiple_of(64);
    for first_is in [None, Some(a), Some(b)] {
        for second_is in [None, Some(a), Some(b)] {
            for client in [true, false] {
                let memory = memory(small());
                let channel = created(&memory, small());
                // Owner words: the requests' and the responses', writing at 40, reading at 44.
                let (at, also_at) = if client { (40, second + 44) } else { (44, second + 40) };
                memory.set(at, word(first_is));
                memory.set(also_at, word(second_is));
                let owners = || if client { channel.client() } else { channel.worker() };
                let before = owners().unwrap();
                assert_eq!(before, [first_is, second_is]);
                let monitor = ThreadMonitor::new();
                let mut noted = monitor.writer();
                let mut recover = |from| {
                    if client {
                        channel.recover_client(dead(from), heir).map(std::mem::forget)
                    } else {
                        channel
                            .recover_worker(dead(from), heir, LANE, &mut noted)
                            .map(std::mem::forget)
                    }
                };
                // Going on with the one that is named always arrives, and soon.
                let mut from = 20;
                let mut calls = 0;
                let taken = loop {
                    calls += 1;
                    assert!(calls < 4, "{before:?}");
                    match recover(from) {
                        Ok(()) => break true,
                        Err(ClaimError::NotTheOwner { found: Some(other) }) => {
                            from = other.index();
                        }
                        Err(ClaimError::NotTheOwner { found: None }) => break false,
                        Err(error) => panic!("{error}"),
                    }
                };
                assert_eq!(taken, before != [None, None]);
                let after = owners().unwrap();
                assert_eq!(after, if taken { [Some(heir); 2] } else { [None; 2] });
            }
        }
    }
}

#[test]
fn a_claim_takes_both_or_none() {
    let memory = memory(small());
    let channel = created(&memory, small());
    let (client, worker) = ends(&channel);
    let owned = |n| Some(ClaimError::Owned(owner(n)));
    assert_eq!(channel.claim_client(owner(9)).err(), owned(CLIENT));
    assert_eq!(channel.claim_worker(owner(9), LANE).err(), owned(WORKER));
    drop((client, worker));
    assert_eq!((channel.client(), channel.worker()), (Ok([None; 2]), Ok([None; 2])));
    let second = (256 + 512usize).next_multiple_of(64);
    memory.set(second + 44, owner(8).word());
    memory.set(second + 40, owner(8).word());
    assert_eq!(channel.claim_client(owner(9)).err(), owned(8));
    assert_eq!(channel.claim_worker(owner(9), LANE).err(), owned(8));
    assert_eq!(channel.client(), Ok([None, Some(owner(8))]));
    assert_eq!(channel.worker(), Ok([None, Some(owner(8))]));
}

#[test]
fn what_is_no_message_is_discarded() {
    let options = small();
    let memory = memory(options);
    let channel = created(&memory, options);
    let second = (256 + 512usize).next_multiple_of(64);
    let requests = FrameRingRef::attach_untrusted(memory.part(0, second), None).unwrap();
    let responses = FrameRingRef::attach_untrusted(memory.part(second, 256 + 512), None).unwrap();
    let monitor = ThreadMonitor::new();
    let mut noted = monitor.writer();

    let mut bad = requests.claim_writer(owner(9)).unwrap();
    bad.push(&[1; 15]).unwrap();
    bad.push(&MsgHeader::new(0, 1, 0).to_bytes()).unwrap();
    bad.push(&MsgHeader::new(5, 1, 1).to_bytes()).unwrap();
    bad.push(&MsgHeader::new(6, 1, 0).to_bytes()).unwrap();
    drop(bad);
    let mut worker = channel.claim_worker(owner(WORKER), LANE).unwrap();
    let errors = [
        HeaderError::TooShort { found: 15, wanted: 16 },
        HeaderError::InvalidSeqId,
        HeaderError::WrongLength { found: 1, wanted: 0 },
    ];
    for error in errors {
        assert_eq!(worker.peek().err(), Some(ReceiveError::Malformed(error)));
        assert_eq!(worker.discard_malformed(), Some(error));
    }
    assert_eq!(worker.discard_malformed(), None, "a request is not discarded");
    assert_eq!(worker.discard_malformed(), None, "nor twice");
    assert_eq!(echo(&mut worker, &mut noted), 6);
    drop(worker);

    let mut bad = responses.claim_writer(owner(9)).unwrap();
    let reply = |seq, length, status: u32| {
        [&MsgHeader::new(seq, 1, length).to_bytes()[..], &status.to_le_bytes()].concat()
    };
    bad.push(&reply(5, 0, 2)[..19]).unwrap();
    bad.push(&reply(0, 0, 2)).unwrap();
    bad.push(&reply(5, 1, 2)).unwrap();
    bad.push(&reply(5, u32::MAX, 2)).unwrap();
    bad.push(&reply(5, 0, 0)).unwrap();
    bad.push(&reply(5, 0, 258)).unwrap();
    bad.push(&reply(5, 0, 1)).unwrap();
    drop(bad);
    let mut client = channel.claim_client(owner(CLIENT)).unwrap();
    assert_eq!(receive(&mut client).unwrap().0, 6);
    let errors = [
        HeaderError::TooShort { found: 19, wanted: 20 },
        HeaderError::InvalidSeqId,
        HeaderError::WrongLength { found: 1, wanted: 0 },
        HeaderError::WrongLength { found: u32::MAX, wanted: 0 },
        HeaderError::BadStatus { found: 0 },
        HeaderError::BadStatus { found: 258 },
    ];
    for error in errors {
        assert_eq!(client.response().err(), Some(ReceiveError::Malformed(error)));
        assert_eq!(client.discard_malformed(), Some(error));
    }
    assert_eq!(client.discard_malformed(), None, "a reply is not discarded");
    assert_eq!(receive(&mut client).unwrap().1, MsgStatus::Processing);
}

/// Every word of both rings is overwritten with every kind of value while a call is under way:
/// nothing panics, hangs or touches a byte outside.
#[test]
fn hostile_memory() {
    let ring = frame::Options::new(128).packing(Packing::Dense);
    let options = Options::new(ring, ring).limits(Limits { reply: 8, progress: 0 });
    let values = [0, 1, 24, 25, 32, 64, 1 << 31, 1 << 31 | 64, u32::MAX, u32::MAX - 7];
    let size = options.required_size().unwrap();
    for word in (64..size).step_by(4).filter(|word| !(384..448).contains(word)) {
        for value in values {
            for after in 0..6 {
                let memory = memory(options);
                let channel = created(&memory, options);
                let (mut client, mut worker) = ends(&channel);
                let monitor = ThreadMonitor::new();
                let mut noted = monitor.writer();
                for step in 0..6u64 {
                    if step == after {
                        memory.set(word, value);
                    }
                    let _ = client.request(step + 1, 1001, &[1; 9]);
                    let _ = (client.available_responses(), worker.available_requests());
                    if let Ok(request) = worker.peek() {
                        let mut work = request.begin(&mut noted, 0).unwrap();
                        let _ = work.reply_progress(b"");
                        let _ = work.reply(MsgStatus::Completed, &[2; 8]);
                        if step == 5 {
                            std::mem::forget(work);
                        }
                    }
                    let _ = worker.discard_malformed();
                    if step % 2 == 1 {
                        let _ = client.response().map(|response| response.release());
                        let _ = client.discard_malformed();
                    }
                }
                std::mem::forget((client, worker));
                let mut noted = monitor.recover_writer(dead(WORKER));
                match channel.recover_worker(dead(WORKER), owner(9), LANE, &mut noted) {
                    Ok(Recovered::Poison(poison)) => drop(poison.skip()),
                    Ok(Recovered::Answered(_, worker) | Recovered::Nothing(worker)) => drop(worker),
                    Err(error) => assert!(matches!(error, ClaimError::Corrupt(_)), "{error}"),
                }
                let _ = channel.recover_client(dead(CLIENT), owner(9)).map(drop);
                memory.check_guards();
            }
        }
    }
}

#[test]
fn two_threads() {
    let memory = memory(small());
    let channel = created(&memory, small());
    let (mut client, mut worker) = ends(&channel);
    let monitor = ThreadMonitor::new();
    let patience = Patience::new();
    let other = patience.clone();
    let count = if cfg!(target_arch = "x86_64") { 20_000 } else { 2_000u64 };
    std::thread::scope(|scope| {
        let monitor = &monitor;
        scope.spawn(move || {
            let mut noted = monitor.writer();
            let mut served = 0;
            while served < count {
                let Ok(request) = worker.peek() else {
                    other.wait();
                    continue;
                };
                let mut work = request.begin(&mut noted, served).unwrap();
                if served % 3 == 0 {
                    work.reply_progress(&[1; 16]).expect("room for a report");
                }
                let (payload, reply) = work.split();
                reply.reply(MsgStatus::Completed, payload).expect("room for the reply");
                work.finish().unwrap();
                served += 1;
            }
        });
        let (mut sent, mut received) = (0, 0);
        while received < count {
            if sent < count {
                let payload = vec![sent as u8; sent as usize % 41];
                if client.request(sent + 1, 1001, &payload).is_ok() {
                    sent += 1;
                }
            }
            match receive(&mut client) {
                None => patience.wait(),
                Some((seq_id, status, payload)) => {
                    assert_eq!(seq_id, received + 1);
                    if status.is_final() {
                        assert_eq!(payload, vec![received as u8; received as usize % 41]);
                        received += 1;
                    }
                }
            }
        }
        assert_eq!(client.outstanding(), 0);
    });
}

/// A handler that panics is a death to its lane: never is its request begun again, neither by
/// the same worker, should the panic be caught, nor by one that takes over.
#[test]
fn a_handler_that_panics() {
    let options = Options::new(frame::Options::new(1024), frame::Options::new(4096));
    let memory = memory(options);
    let channel = created(&memory, options);
    let monitor = ThreadMonitor::new();
    let mut client = channel.claim_client(owner(CLIENT)).unwrap();
    client.request(7, 1001, b"deadly").unwrap();
    client.request(8, 1001, b"harmless").unwrap();
    // Made before the death: it is read anew.
    let mut noted = monitor.writer();
    {
        let mut worker = channel.claim_worker(owner(WORKER), LANE).unwrap();
        let mut monitor = monitor.writer();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _work = worker.peek().unwrap().begin(&mut monitor, 0).unwrap();
            resume_unwind(Box::new("a fault of the handler"));
        }));
        assert!(panicked.is_err());
        assert_eq!(worker.peek().err(), Some(ReceiveError::InHand));
    }
    assert!(monitor.snapshot().unwrap().is_processing());
    assert!(channel.claim_worker(owner(HEIR), LANE).is_err(), "the ends are still its owner's");
    let recovered = channel.recover_worker(dead(WORKER), owner(HEIR), LANE, &mut noted).unwrap();
    let Recovered::Poison(poison) = recovered else { panic!("{recovered:?}") };
    assert_eq!(poison.header().seq_id(), 7);
    let mut worker = poison.skip();
    noted.reset();
    assert_eq!(worker.peek().unwrap().header().seq_id(), 8);
}

/// Forgotten with its reply, a request in hand is not begun again either.
#[test]
fn work_that_is_forgotten() {
    let options = Options::new(frame::Options::new(1024), frame::Options::new(4096));
    let memory = memory(options);
    let channel = created(&memory, options);
    let monitor = ThreadMonitor::new();
    let (mut client, mut worker) = ends(&channel);
    let mut noted = monitor.writer();
    client.request(7, 1001, b"").unwrap();
    let mut work = worker.peek().unwrap().begin(&mut noted, 0).unwrap();
    work.reply(MsgStatus::Completed, b"").unwrap();
    std::mem::forget(work);
    assert_eq!(worker.peek().err(), Some(ReceiveError::InHand));
    drop(worker);
    let recovered = channel.recover_worker(dead(WORKER), owner(HEIR), LANE, &mut noted).unwrap();
    let Recovered::Answered(header, mut worker) = recovered else { panic!("{recovered:?}") };
    assert_eq!(header.seq_id(), 7);
    assert!(worker.is_request_empty());
}
