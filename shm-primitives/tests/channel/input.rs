//! Memory that is no channel, messages that are none, and memory that says impossible things.

use super::{CLIENT, LANE, WORKER, created, echo, ends, memory, receive, small};
use crate::common::{dead, owner};
use shm_primitives::channel::{Limits, Options, ReceiveError, Recovered, WorkerChannel};
use shm_primitives::message::{HeaderError, MsgHeader, MsgStatus};
use shm_primitives::monitor::ThreadMonitor;
use shm_primitives::part::{AttachError, ClaimError};
use shm_primitives::ring::frame::{self, FrameRingRef, Packing};

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

/// What a worker that does not trust its client works on.
#[test]
fn copies_of_requests_and_replies() {
    let options = Options::new(
        frame::Options::new(1024).packing(Packing::Dense),
        frame::Options::new(1024).packing(Packing::Dense),
    )
    .limits(Limits { reply: 40, progress: 8 });
    let memory = memory(options);
    let channel = created(&memory, options);
    let (mut client, mut worker) = ends(&channel);
    let monitor = ThreadMonitor::new();
    let mut noted = monitor.writer();
    let payload: Vec<u8> = (0..33).collect();
    client.request(1, 1001, &payload).unwrap();
    let mut work = worker.peek().unwrap().begin(&mut noted, 0).unwrap();
    // As much as there is, and as fits.
    for length in [0, 1, 8, 32, 33, 34, 60] {
        let mut copy = vec![0xff; length];
        assert_eq!(work.copy_payload(&mut copy), length.min(33));
        assert_eq!(copy[..length.min(33)], payload[..length.min(33)]);
        assert!(copy[length.min(33)..].iter().all(|byte| *byte == 0xff));
    }
    let mut grant = work.replier().grant(20).unwrap();
    assert_eq!(grant.size(), 20);
    // No more than was lent, wherever it lies.
    assert_eq!(grant.copy_from(&payload), 20);
    grant.commit(MsgStatus::Completed, 20).unwrap();
    work.finish().unwrap();
    let response = client.response().unwrap();
    assert_eq!((response.status(), &*response), (MsgStatus::Completed, &payload[..20]));
    response.release();
}
