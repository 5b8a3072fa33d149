//! Calls and replies, and handlers that go wrong.

use super::{CLIENT, HEIR, LANE, WORKER, created, echo, ends, memory, receive, small};
use crate::common::{Patience, dead, owner};
use shm_primitives::channel::{
    Lane, Options, ReceiveError, Recovered, ReplyError, RequestError, Unanswered,
};
use shm_primitives::message::{MsgHeader, MsgStatus};
use shm_primitives::monitor::{Group, ThreadMonitor, Transaction};
use shm_primitives::ring::frame;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

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
    let said = || monitor.snapshot().unwrap().transaction().unwrap();
    assert_eq!(work.reply_progress(b"half"), Ok(true));
    assert_eq!(said(), Transaction { start: 100, ..seen }, "it gets on");
    assert_eq!(work.reply_progress(b"more"), Ok(false), "the last one is not released");
    let behind = said().reply_position;
    assert!(behind != 0);
    let seen = Transaction { start: 101, reply_position: behind, ..seen };
    assert_eq!(said(), seen, "whether or not anybody reads it");
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

/// One half sends, the other receives; what was received is passed on.
#[test]
fn in_halves() {
    let memory = memory(small());
    let channel = created(&memory, small());
    let (client, mut worker) = ends(&channel);
    let most = client.max_calls();
    let (mut requests, mut replies) = client.split();
    let (monitor, mut told) = (ThreadMonitor::new(), replies.finished());
    let mut monitor = monitor.writer();
    let mut next = 1;
    for _ in 0..100 {
        while requests.outstanding(told) < most {
            requests.request(next, 1001, b"halves", told).unwrap();
            next += 1;
        }
        assert_eq!(
            requests.request(next, 1001, b"", told),
            Err(RequestError::Outstanding { calls: most })
        );
        echo(&mut worker, &mut monitor);
        let response = replies.response().unwrap();
        assert_eq!(&*response, b"halves");
        response.release();
        assert!(requests.grant(next, 1001, 0, told).is_err(), "it was not told");
        told = replies.finished();
        assert_eq!(requests.outstanding(told), most - 1);
    }
    // One whose request was left behind without a reply is counted until somebody counts anew.
    let Ok(request) = worker.peek() else { panic!("there are some") };
    std::mem::forget(request.begin(&mut monitor, 0).unwrap());
    std::mem::forget(worker);
    let dead = dead(WORKER);
    let Ok(Recovered::Poison(poison)) =
        channel.recover_worker(dead, owner(HEIR), LANE, &mut monitor)
    else {
        panic!("it was in hand")
    };
    let mut worker = poison.skip();
    monitor.reset();
    assert_eq!(requests.outstanding(told), most - 1);
    requests.settle(&mut replies);
    assert_eq!(requests.outstanding(told), most - 2);
    while worker.peek().is_ok() {
        echo(&mut worker, &mut monitor);
        replies.response().unwrap().release();
    }
    assert_eq!(requests.outstanding(replies.finished()), 0);
    // Both ends are given back.
    drop(requests);
    assert!(channel.claim_client(owner(HEIR)).is_err());
    drop(replies);
    assert!(channel.claim_client(owner(HEIR)).is_ok());
}
