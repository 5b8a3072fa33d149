//! To all others.

use crate::child::Child;
use crate::help::{Place, builder, join};
use shm_transport::config::Full;
use shm_transport::node::{Label, SendError};
use std::time::Duration;

#[test]
fn to_three_and_to_none() {
    let place = Place::new();
    let here = join(&place, "here");
    assert_eq!(here.broadcast(b"nobody hears").unwrap(), 0);
    let near = join(&place, "near");
    let mut children = ["one", "two"].map(|name| Child::joined(&place, name, ""));
    for (number, length) in [(0, 12), (1, 16 << 10), (2, 1 << 20)] {
        let bytes = crate::help::payload(4, number, length);
        assert_eq!(here.broadcast(&bytes).unwrap(), 3);
        assert!(*near.recv().unwrap() == bytes);
        for (child, name) in children.iter_mut().zip(["one", "two"]) {
            child.expect(&format!("receive {name} 10000"), &format!("here 4 {number} {length}"));
        }
    }
    let label = Label::new(1, 2);
    here.send_labelled("", label, b"an empty destination is all others").unwrap();
    let found = near.recv().unwrap();
    assert_eq!((found.label(), found.len()), (label, 34));
    assert_eq!(here.broadcast_labelled(label, &crate::help::payload(4, 3, 12)).unwrap(), 3);
    assert_eq!(near.recv().unwrap().label(), label);
    assert!(here.try_recv().unwrap().is_none(), "not to itself");

    // From a child, to all.
    children[0].expect("broadcast one 5 0 100", "3");
    assert_eq!(crate::help::check(&here.recv().unwrap()), (5, 0));

    // One that has left, and one that is dead, do not count.
    children[0].expect("leave one", "left");
    assert_eq!(here.broadcast(b"x").unwrap(), 2);
    children[1].kill();
    crate::help::soon("the dead one is known", || here.broadcast(b"x").unwrap() == 1);
    assert!(matches!(here.broadcast(&vec![0; (16 << 20) + 1]), Err(SendError::TooLarge { .. })));
}

/// One that does not read keeps nobody else from it.
#[test]
fn past_one_that_is_full() {
    let place = Place::new();
    for full in [Full::Error, Full::Block(Duration::from_millis(30)), Full::Drop] {
        let here = builder(&place.domain, "here").full(full).join().unwrap();
        let full = builder(&place.domain, "full").lane_bytes(4096).join().unwrap();
        let reading = join(&place, "reading");
        while here.try_send("full", &[7; 500]).is_ok() {}
        for _ in 0..3 {
            assert_eq!(here.broadcast(&[8; 500]).unwrap(), 1);
            assert_eq!(&*reading.recv().unwrap(), [8; 500]);
        }
        while full.try_recv().unwrap().is_some() {}
        assert_eq!(here.broadcast(&[8; 500]).unwrap(), 2);
    }
    assert_eq!(place.files(), [""; 0]);
}

/// A dead one that came back gets large messages too.
#[test]
fn to_one_that_came_back() {
    let place = Place::new();
    let here = join(&place, "here");
    for length in [100, 100_000] {
        let mut child = Child::joined(&place, "there", "");
        assert_eq!(here.broadcast(&crate::help::payload(1, 0, length)).unwrap(), 1);
        child.kill();
        crate::help::soon("its death is known", || here.broadcast(b"x").unwrap() == 0);
        let mut child = Child::joined(&place, "there", "");
        assert_eq!(here.broadcast(&crate::help::payload(1, 1, length)).unwrap(), 1);
        child.expect("receive there 10000", &format!("here 1 1 {length}"));
        child.expect("leave there", "left");
        child.expect("join there", "joined");
        assert_eq!(here.broadcast(&crate::help::payload(1, 2, length)).unwrap(), 1);
        child.expect("receive there 10000", &format!("here 1 2 {length}"));
    }
}
