//! What recovery finds, and whom it believes.

use super::{CLIENT, LANE, WORKER, created, echo, ends, memory, receive, small};
use crate::common::memory::Memory;
use crate::common::{dead, owner};
use shm_primitives::channel::{Lane, Recovered, ReplyError, WorkerChannel};
use shm_primitives::message::{MsgHeader, MsgStatus};
use shm_primitives::monitor::{Group, ThreadMonitor, Transaction};
use shm_primitives::part::ClaimError;

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
        let Recovered::Poison(mut poison) = found.unwrap() else { panic!("begun again") };
        assert!(poison.doubt().is_some());
        poison.fail(b"died").unwrap();
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
                    // The client has had its reply, or has it now.
                    poison.fail(b"died").unwrap();
                    assert_eq!(poison.skip().peek().unwrap().header().seq_id(), 12);
                    let channel = attached(&memory);
                    let gone = dead(CLIENT);
                    let mut client = channel.recover_client(gone, owner(10)).unwrap();
                    let told = (11, MsgStatus::Failed, b"died".to_vec());
                    assert_eq!(receive(&mut client), Some(told), "{position}");
                    assert_eq!(receive(&mut client), None);
                }
                other => panic!("{position}: {other:?}"),
            }
            memory.check_guards();
        }
    }
}

/// What the monitor says since when, or of which epoch, does not matter then.
#[test]
fn a_reply_that_was_not_read_is_found_in_any_case() {
    for (position, epoch) in [(8, 0), (513, 0), (1 << 20, 0), (u32::MAX, 0), (0, 1)] {
        let memory = memory(small());
        let monitor = ThreadMonitor::new();
        let channel = created(&memory, small());
        let (mut client, mut worker) = ends(&channel);
        client.request(11, 1001, b"poison").unwrap();
        client.request(12, 1001, b"next").unwrap();
        let mut noted = monitor.writer();
        let mut work = worker.peek().unwrap().begin(&mut noted, 0).unwrap();
        assert_eq!(work.reply_progress(&[0; 16]), Ok(true));
        work.reply(MsgStatus::Completed, b"done").unwrap();
        std::mem::forget(work);
        std::mem::forget((client, worker));
        let mut noted = monitor.recover_writer(dead(WORKER));
        let transaction = noted.snapshot().transaction().unwrap();
        let reply_position = transaction.reply_position.wrapping_add(position);
        noted.begin(&Transaction { reply_position, ..transaction }).unwrap();
        let lane = Lane { epoch: LANE.epoch + epoch, ..LANE };
        let channel = attached(&memory);
        let found = channel.recover_worker(dead(WORKER), owner(9), lane, &mut noted).unwrap();
        let Recovered::Answered(header, mut worker) = found else { panic!("{found:?}") };
        assert_eq!(header.seq_id(), 11);
        assert_eq!(worker.peek().unwrap().header().seq_id(), 12);
        let mut client = channel.recover_client(dead(CLIENT), owner(10)).unwrap();
        assert_eq!(receive(&mut client).unwrap().1, MsgStatus::Processing);
        assert_eq!(receive(&mut client), Some((11, MsgStatus::Completed, b"done".to_vec())));
        assert_eq!(receive(&mut client), None);
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
