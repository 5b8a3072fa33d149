//! Messages from one to another, in all the ways in which they are sent and received.

use crate::child::Child;
use crate::help::{PATIENCE, Place, builder, check, join, payload, soon};
use shm_transport::config::{Full, Wait};
use shm_transport::node::{Filter, Label, RecvError, SendError};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

#[test]
fn both_directions() {
    let place = Place::new();
    let here = join(&place, "here");
    let mut child = Child::joined(&place, "there", "");
    child.tell("echo there 201");
    assert_eq!(child.hear(), "echoing");
    let label = Label::new(7, 9);
    for number in 0..200 {
        let bytes = payload(1, number, 12 + number as usize * 83);
        here.send_labelled("there", label, &bytes).unwrap();
        let back = here.recv().unwrap();
        assert_eq!(back.sender().as_bytes(), b"there");
        assert_eq!(back.label(), label);
        assert!(*back == bytes, "{number}");
    }
    here.send("there", b"").unwrap();
    assert_eq!(&*here.recv().unwrap(), b"", "an empty one is one");
    assert_eq!(child.hear(), "echoed");
    child.end();
    drop(here);
    assert_eq!(place.files(), [""; 0]);
}

/// The same between two processes that wait in different ways.
#[test]
fn each_way_to_wait() {
    for wait in [Wait::Adaptive, Wait::Block, Wait::Poll] {
        let place = Place::new();
        let here = builder(&place.domain, "here").wait(wait).join().unwrap();
        let mut child = Child::joined(&place, "there", &format!("wait={wait}"));
        child.tell("echo there 50");
        assert_eq!(child.hear(), "echoing");
        for number in 0..50 {
            let bytes = payload(2, number, 100);
            here.send("there", &bytes).unwrap();
            assert!(*here.recv_timeout(PATIENCE).unwrap().unwrap() == bytes);
            if number % 10 == 0 {
                // Both fall asleep.
                thread::sleep(Duration::from_millis(3));
            }
        }
        assert!(here.recv_timeout(Duration::from_millis(5)).unwrap().is_none());
        assert_eq!(child.hear(), "echoed");
    }
}

#[test]
fn nobody_there() {
    let place = Place::new();
    let here = join(&place, "here");
    for unknown in ["there", "her", "heree", "HERE"] {
        let found = here.send(unknown, b"x");
        match found {
            Err(SendError::Unknown { to }) => assert_eq!(to.to_string(), unknown),
            other => panic!("{other:?}"),
        }
        assert!(matches!(here.try_send(unknown, b"x"), Err(SendError::Unknown { .. })));
        assert!(matches!(here.sender(unknown), Err(SendError::Unknown { .. })));
    }
    assert_eq!(here.stats().messages_sent, 0);
    assert_eq!(here.stats().lanes_out, 0, "what failed took nothing");
    assert_eq!(place.files().len(), 3);
}

#[test]
fn labels_and_filters() {
    let place = Place::new();
    let filter = Filter::ALL.group(1).group(2).topic(10);
    let here = builder(&place.domain, "here").filter(filter).join().unwrap();
    let other = join(&place, "other");
    let labels = [(1, 10), (1, 11), (2, 10), (3, 10), (0, 0), (2, 10), (0, 10), (1, 0)];
    let all = |from: &dyn Fn(Label, &[u8])| {
        for (group, topic) in labels {
            from(Label::new(group, topic), &[group as u8, topic as u8]);
        }
    };
    all(&|label, bytes| other.send_labelled("here", label, bytes).unwrap());
    let got = || {
        std::iter::from_fn(|| here.try_recv().unwrap())
            .map(|message| {
                let label = message.label();
                assert_eq!(&*message, [label.group as u8, label.topic as u8]);
                (label.group, label.topic)
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(got(), [(1, 10), (2, 10), (2, 10)]);
    assert_eq!(here.stats().filtered, 5);
    here.set_filter(Filter::ALL);
    // Also by a lane of its own, and in place.
    let mut sender = other.sender("here").unwrap();
    for (group, topic) in labels {
        let mut grant = sender.grant_labelled(Label::new(group, topic), 4).unwrap();
        grant[0] = group as u8;
        grant[1] = topic as u8;
        grant.commit(2).unwrap();
    }
    assert_eq!(got(), labels);
    assert_eq!(here.stats().filtered, 5);
    // What stands in chunks is filtered too, and the chunk comes back.
    here.set_filter(Filter::ALL.topic(5));
    for _ in 0..100 {
        other.send_labelled("here", Label::new(0, 4), &payload(0, 0, 1 << 20)).unwrap();
        assert_eq!(got(), []);
    }
    assert_eq!(here.stats().filtered, 105);
    assert_eq!(here.stats().messages_received, 3 + labels.len() as u64);
}

#[test]
fn each_way_to_receive() {
    let place = Place::new();
    let here = join(&place, "here");
    let other = join(&place, "other");
    let mut child = Child::joined(&place, "there", "");
    let none = Duration::from_millis(3);
    assert!(here.try_recv().unwrap().is_none());
    assert!(here.recv_timeout(none).unwrap().is_none());
    for (stream, from) in [(1, "other"), (2, "there")] {
        let mut send = |first: u32, count: u32| match from {
            "other" => {
                for number in first..first + count {
                    other.send("here", &payload(1, number, 64)).unwrap();
                }
            }
            _ => child.expect(&format!("send there here 2 {first} {count} 64"), "sent"),
        };
        let is = |bytes: &[u8], number| assert_eq!(check(bytes), (stream, number));
        send(0, 1);
        is(&here.try_recv().unwrap().expect("sent before"), 0);
        assert!(here.try_recv().unwrap().is_none());
        send(1, 2);
        is(&here.recv_timeout(PATIENCE).unwrap().unwrap(), 1);
        is(&here.recv().unwrap(), 2);
        send(3, 2);
        let two: Vec<_> = here.iter().take(2).map(Result::unwrap).collect();
        is(&two[0], 3);
        is(&two[1], 4);
        assert_eq!(two[0].sender().to_string(), from);
        send(5, 1);
        let message = (&here).into_iter().next().expect("it has not left");
        is(&message.unwrap().into_vec(), 5);

        // In place. What is not released is read again, and by whoever reads next.
        let mut receiver = here.receiver().unwrap();
        assert!(receiver.read().unwrap().is_none());
        assert!(receiver.read_timeout(none).unwrap().is_none());
        send(6, 4);
        is(&receiver.read_wait().unwrap(), 6);
        is(&receiver.read_wait().unwrap(), 6);
        let reading = receiver.read_timeout(PATIENCE).unwrap().unwrap();
        assert_eq!(reading.sender().to_string(), from);
        is(&reading, 6);
        reading.release();
        let reading = receiver.read().unwrap().expect("sent before");
        is(&reading, 7);
        drop(receiver);
        is(&here.try_recv().unwrap().unwrap(), 7);
        is(&here.recv().unwrap(), 8);

        // By a thread.
        let (told, heard) = mpsc::channel();
        let listener = here
            .on_message(move |reading| {
                told.send((reading.sender().to_string(), reading.to_vec())).unwrap();
            })
            .unwrap();
        send(10, 20);
        for number in [9].into_iter().chain(10..30) {
            let (sender, bytes) = heard.recv_timeout(PATIENCE).unwrap();
            assert_eq!(sender, from);
            is(&bytes, number);
        }
        assert!(listener.is_running());
        drop(listener);
        assert!(heard.recv().is_err(), "it has ended");
        send(30, 1);
        is(&here.recv().unwrap(), 30);
    }
    assert_eq!(here.stats().messages_received, 62);
}

#[test]
fn a_listener_ends_with_its_node() {
    let place = Place::new();
    let (here, other) = (join(&place, "here"), join(&place, "other"));
    let (told, heard) = mpsc::channel();
    let listener = here.on_message(move |reading| told.send(reading.len()).unwrap()).unwrap();
    other.send("here", b"123").unwrap();
    assert_eq!(heard.recv_timeout(PATIENCE), Ok(3));
    here.leave().unwrap();
    assert!(listener.join(), "it did not panic");

    // One that panics keeps the message for others.
    let again = join(&place, "again");
    other.send("again", b"1234").unwrap();
    let listener = again.on_message(|_| panic!("as it should be")).unwrap();
    soon("the panic", || !listener.is_running());
    assert!(!listener.join());
    assert_eq!(&*again.recv().unwrap(), b"1234");
}

/// Whoever waits for a message is woken by the end of the node.
#[test]
fn leaving_wakes() {
    let place = Place::new();
    for round in 0..10 {
        let node = join(&place, "node");
        thread::scope(|scope| {
            let waiting: Vec<_> = (0..3).map(|_| scope.spawn(|| node.recv())).collect();
            let ended = scope.spawn(|| node.iter().count());
            thread::sleep(Duration::from_millis(round));
            node.leave().unwrap();
            for waiting in waiting {
                assert!(matches!(waiting.join().unwrap(), Err(RecvError::NotJoined)));
            }
            assert_eq!(ended.join().unwrap(), 0);
        });
        drop(node);
        assert_eq!(place.files(), [""; 0]);
    }
}

/// Room is lent in place, and what is not committed is not sent.
#[test]
fn grants() {
    let place = Place::new();
    let here = join(&place, "here");
    let mut child = Child::joined(&place, "there", "");
    let mut sender = here.sender("there").unwrap();
    assert_eq!(sender.to().as_bytes(), b"there");
    assert_eq!((sender.max_frame(), sender.max_message()), (16 << 10, 16 << 20));
    let mut number = 0;
    for length in [12, 4000, 16 << 10, (16 << 10) + 1, 300_000] {
        drop(sender.grant(length).unwrap());
        let mut grant = sender.grant(length).unwrap();
        assert_eq!(grant.len(), length);
        grant.fill(0xff);
        drop(grant);
        for used in [12, length] {
            let mut grant = sender.grant(length).unwrap();
            grant[..used].copy_from_slice(&payload(3, number, used));
            grant.commit(if used == length { usize::MAX } else { used }).unwrap();
            child.expect("receive there 10000", &format!("here 3 {number} {used}"));
            number += 1;
        }
    }
    child.expect("receive there 0", "nothing");
    assert_eq!(here.stats().messages_sent, u64::from(number));
}

/// A sender that always has something does not keep out those that come after it.
#[test]
fn who_sends_without_a_pause_does_not_starve_others() {
    let place = Place::new();
    let here = join(&place, "here");
    let busy = builder(&place.domain, "busy").full(Full::Error).join().unwrap();
    let mut busy = busy.sender("here").unwrap();
    let mut late = None;
    let fill = |busy: &mut shm_transport::node::Sender| {
        while busy.try_send(b"busy").is_ok() {}
    };
    fill(&mut busy);
    for count in 0..100_000 {
        let message = here.recv().unwrap();
        if message.sender().as_bytes() != b"busy" {
            assert!(count > 100);
            return;
        }
        if count == 100 {
            let node = join(&place, "late");
            node.send("here", b"at last").unwrap();
            late = Some(node);
        }
        fill(&mut busy);
    }
    drop(late);
    panic!("its message waits for ever");
}

/// Of many lanes those in which nothing comes are looked at seldom. They are not forgotten when
/// others end and few are left.
#[test]
fn quiet_lanes_among_many() {
    let place = Place::new();
    let here = join(&place, "here");
    let mut child = Child::start(&place);
    child.expect("join-many n 0 20", "joined");
    for from in 0..20 {
        child.expect(&format!("send n{from} here {from} 0 1 50"), "sent");
    }
    for _ in 0..20 {
        check(&here.recv().unwrap());
    }
    let cool = || {
        // In vain, for long enough.
        let mut receiver = here.receiver().unwrap();
        for _ in 0..20_000 {
            assert!(receiver.read().unwrap().is_none());
        }
    };
    cool();
    for from in 0..20 {
        child.expect(&format!("send n{from} here {from} 1 1 50"), "sent");
        assert_eq!(check(&here.recv_timeout(PATIENCE).unwrap().unwrap()), (from, 1));
    }
    cool();
    for from in 0..10 {
        child.expect(&format!("leave n{from}"), "left");
    }
    soon("ten lanes are left", || {
        assert!(here.try_recv().unwrap().is_none());
        here.stats().lanes_in == 10
    });
    for from in 10..20 {
        child.expect(&format!("send n{from} here {from} 2 1 50"), "sent");
        let message = here.recv_timeout(PATIENCE).unwrap();
        assert_eq!(check(&message.expect("it is forgotten")), (from, 2));
    }
}

/// A listener that waits for its turn is stopped all the same.
#[test]
fn listeners_that_wait_for_their_turn() {
    let place = Place::new();
    let node = join(&place, "node");
    let first = node.on_message(|_| ()).unwrap();
    thread::sleep(Duration::from_millis(5));
    let second = node.on_message(|_| ()).unwrap();
    let (told, heard) = mpsc::channel();
    thread::scope(|scope| {
        let hung = told.clone();
        scope.spawn(move || {
            drop(second);
            told.send("the second of two").unwrap();
        });
        assert_eq!(heard.recv_timeout(PATIENCE), Ok("the second of two"));
        drop(first);
        let node = &node;
        scope.spawn(move || {
            let receiver = node.receiver().unwrap();
            drop(node.on_message(|_| ()).unwrap());
            drop(receiver);
            hung.send("beside a receiver").unwrap();
        });
        assert_eq!(heard.recv_timeout(PATIENCE), Ok("beside a receiver"));
    });
}

/// Whoever waits for its turn to receive learns that the node has left, also if that is one's own
/// callback.
#[test]
fn leaving_ends_waiting_for_a_turn() {
    let place = Place::new();
    let node = std::sync::Arc::new(join(&place, "node"));
    let receiver = node.receiver().unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| node.recv());
        thread::sleep(Duration::from_millis(5));
        node.leave().unwrap();
        assert!(matches!(waiting.join().unwrap(), Err(RecvError::NotJoined)));
    });
    drop(receiver);

    let node = std::sync::Arc::new(join(&place, "again"));
    let (told, heard) = mpsc::channel();
    let inner = std::sync::Arc::downgrade(&node);
    let listener = node
        .on_message(move |_| {
            let node = inner.upgrade().unwrap();
            told.send(None).unwrap();
            // There is no message that it could get.
            told.send(Some(node.recv().map(drop))).unwrap();
        })
        .unwrap();
    node.send("again", b"x").unwrap();
    assert!(heard.recv_timeout(PATIENCE).unwrap().is_none());
    thread::sleep(Duration::from_millis(5));
    node.leave().unwrap();
    let found = heard.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(found, Some(Err(RecvError::NotJoined))), "{found:?}");
    assert!(listener.join());
}

/// A message in a lane that is cool, of whose bit nothing came: its sender was killed, or stopped,
/// in between.
#[test]
fn a_cool_lane_without_its_bit() {
    use shm_primitives::layout::node::NodeLayout;
    use shm_transport::member::Member;
    use shm_transport::park::FutexPark;
    use shm_transport::segment::{OpenOptions, Segment, SegmentError};
    let place = Place::new();
    for (wait, trying) in [(Wait::Poll, false), (Wait::Adaptive, true), (Wait::Block, false)] {
        let here = builder(&place.domain, "here").wait(wait).join().unwrap();
        let member = Member::join(&place.domain, "by hand").unwrap();
        let named = crate::segment_help::name("node.here");
        let opened = Segment::open(&place.domain, &named, OpenOptions::new(4096), |_| {
            Ok::<_, SegmentError>(())
        });
        let (segment, ()) = opened.unwrap();
        // SAFETY: it keeps the protocol here, and the segment outlives it.
        let layout = unsafe { NodeLayout::attach(segment.region()) }.unwrap();
        let park = FutexPark::new();
        let mut writers: Vec<_> = (0..17)
            .map(|_| {
                let reserved = layout.lanes().reserve(member.id()).unwrap();
                let (offset, length) = layout.place_of(reserved.lane()).unwrap();
                segment.allocate(offset..offset + length).unwrap();
                let mut writer = reserved.open(b"by hand").unwrap();
                writer.announce(&park);
                writer
            })
            .collect();
        let receive = |time: Duration| {
            let begun = std::time::Instant::now();
            loop {
                let found = if trying { here.try_recv() } else { here.recv_timeout(time) };
                let found = found.unwrap().map(|message| message.len());
                if found.is_some() || begun.elapsed() > time {
                    return found;
                }
            }
        };
        assert_eq!(receive(Duration::from_millis(50)), None);
        // No flags; the message begins at byte 8.
        let mut frame = [0; 20];
        frame[4] = 8;
        writers[5].ring().push(&frame).unwrap();
        assert_eq!(receive(PATIENCE), Some(12), "{wait}, {trying}");
        drop(writers);
        here.leave().unwrap();
        // SAFETY: its lanes were given up.
        unsafe { member.leave() }.unwrap();
    }
}
