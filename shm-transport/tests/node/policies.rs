//! What a send does when there is no room, and what is counted.

use crate::child::Child;
use crate::help::{self, Place, builder, check, join, payload};
use shm_transport::config::Full;
use shm_transport::node::{Filter, Label, SendError, Statistics};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn each_policy() {
    let place = Place::new();
    let mut child = Child::joined(&place, "there", "lane=4096");
    let mut next = 0;
    for large in [false, true] {
        let length = if large { 100_000 } else { 500 };
        for full in [Full::Error, Full::Block(Duration::from_millis(50)), Full::Drop] {
            let here = builder(&place.domain, "here").full(full).join().unwrap();
            let accepted =
                help::fill(|number| here.try_send("there", &payload(1, next + number, length)));
            next += accepted;
            assert!(accepted > 3, "{accepted}");
            assert!(matches!(
                here.try_send("there", &payload(1, 0, length)),
                Err(SendError::Full { .. })
            ));
            let begun = Instant::now();
            let found = here.send("there", &payload(1, 0, length));
            let waited = begun.elapsed();
            match (full, found) {
                (Full::Error, Err(SendError::Full { to })) => assert_eq!(to.as_bytes(), b"there"),
                (Full::Block(time), Err(SendError::TimedOut { to, waited: told })) => {
                    assert_eq!((to.as_bytes(), told), (&b"there"[..], time));
                    assert!(waited >= time);
                }
                (Full::Drop, Ok(())) => {}
                (_, found) => panic!("{full:?}: {found:?}"),
            }
            assert_eq!(here.stats().dropped, u64::from(full == Full::Drop), "{full:?}");
            assert_eq!(here.stats().messages_sent, u64::from(accepted));
            let first = next - accepted;
            child.expect(&format!("receive-all there 1 {first} {accepted}"), "received");
            child.expect("receive there 0", "nothing");
            // There is room again.
            here.send("there", &payload(1, next, length)).unwrap();
            child.expect(&format!("receive-all there 1 {next} 1"), "received");
            next += 1;
        }
    }
}

/// Who waits for room goes on when there is some.
#[test]
fn waiting_for_room() {
    let place = Place::new();
    let mut child = Child::joined(&place, "there", "lane=4096");
    let here = builder(&place.domain, "here").full(Full::Block(help::PATIENCE));
    let here = here.join().unwrap();
    child.tell("receive-all there 4 0 5000");
    for number in 0..5000 {
        here.send("there", &payload(4, number, 12 + number as usize % 900)).unwrap();
    }
    assert_eq!(child.hear(), "received");
}

/// A frame of the largest size, with and without a label, through lanes of all sizes.
#[test]
fn the_largest_frames() {
    let place = Place::new();
    let other = builder(&place.domain, "other").full(Full::Error).join().unwrap();
    for lane in [4096, 8192, 65536, 1 << 20] {
        let here = builder(&place.domain, "here").lane_bytes(lane).join().unwrap();
        let mut sender = other.sender("here").unwrap();
        let most = sender.max_frame();
        assert_eq!(most, lane as usize / 4);
        for length in [most - 1, most, most + 1] {
            for round in 0..5 {
                let bytes = payload(1, round, length);
                sender.send(&bytes).unwrap();
                assert!(*here.recv().unwrap() == bytes);
                sender.send_labelled(Label::new(1, round), &bytes).unwrap();
                assert!(*here.recv().unwrap() == bytes);
            }
        }
        // Two of the largest are always there at a time.
        for round in 0..10 {
            sender.send_labelled(Label::new(1, 2), &payload(2, round, most)).unwrap();
            sender.send(&payload(3, round, most)).unwrap();
            assert_eq!(check(&here.recv().unwrap()), (2, round));
            assert_eq!(check(&here.recv().unwrap()), (3, round));
        }
    }
}

/// Both sides count the same, and nothing else.
#[test]
fn both_sides_count_the_same() {
    let place = Place::new();
    let here = builder(&place.domain, "here").filter(Filter::ALL.topic(1)).join().unwrap();
    let mut child = Child::joined(&place, "there", "");
    assert_eq!(here.stats(), Statistics::default());
    let mut bytes = 0;
    for number in 0..300 {
        let length = 12 + number as usize * 100;
        here.send("there", &payload(1, number, length)).unwrap();
        child.expect(&format!("receive-all there 1 {number} 1"), "received");
        bytes += length as u64;
    }
    let mut sender = here.sender("there").unwrap();
    sender.send(&payload(1, 300, 12)).unwrap();
    child.expect("receive-all there 1 300 1", "received");
    bytes += 12;
    assert_eq!((here.stats().messages_sent, here.stats().bytes_sent), (301, bytes));
    assert_eq!(here.stats().lanes_out, 2);
    drop(sender);
    assert_eq!(here.stats().lanes_out, 1);
    assert_eq!((here.stats().messages_sent, here.stats().bytes_sent), (301, bytes));
    child.expect("stats there", &format!("0 0 301 {bytes} 0 0"));

    // Filtered here.
    child.expect("send there here 2 0 7 40", "sent");
    assert!(here.recv_timeout(Duration::from_millis(300)).unwrap().is_none());
    assert_eq!(here.stats().filtered, 7);
    assert_eq!(here.stats().messages_received, 0);
    assert_eq!(here.stats().lanes_in, 1);
    child.expect("stats there", &format!("7 280 301 {bytes} 0 0"));
    // What fails is not counted.
    assert!(here.send("nobody", b"x").is_err());
    assert!(here.send("there", &vec![0; (16 << 20) + 1]).is_err());
    assert_eq!(here.stats().messages_sent, 301);
}

/// Counts of many threads and lanes come together.
#[test]
fn counts_of_many_lanes() {
    let place = Place::new();
    let here = join(&place, "here");
    let patient = Full::Block(help::PATIENCE);
    let other = builder(&place.domain, "other").full(patient).join().unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let mut sender = other.sender("here").unwrap();
                    for _ in 0..50 {
                        sender.send(&[0; 10]).unwrap();
                        other.send("here", &[0; 20]).unwrap();
                    }
                }
            });
        }
        for _ in 0..4000 {
            assert!(here.recv_timeout(help::PATIENCE).unwrap().is_some());
        }
    });
    let (sent, received) = (other.stats(), here.stats());
    assert_eq!((sent.messages_sent, sent.bytes_sent), (4000, 60_000));
    assert_eq!((received.messages_received, received.bytes_received), (4000, 60_000));
    assert_eq!(sent.lanes_out, 1);
}
