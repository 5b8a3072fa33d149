//! Lanes that a bad sender has spoilt: nobody reads them, and their places come back when it ends.

use crate::child::Child;
use crate::help::{PATIENCE, Place, builder, check, soon};
use crate::segment_help;
use shm_primitives::layout::node::NodeLayout;
use shm_transport::node::{Node, RecvError};
use shm_transport::segment::{OpenOptions, Segment, SegmentError};
use std::fs;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// Where in a lane its ring begins, and the ring's data.
const RING: u64 = 3840;
const DATA: u64 = 4096;
/// Words in a ring's header.
const MAGIC: u64 = 0;
const READING_END: u64 = 44;

/// What it writes into its lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Nonsense {
    /// Before the receiver has taken it up: there is no ring.
    NoRing,
    /// The end is somebody's who never lived.
    Taken,
    /// It is from nobody.
    NoName,
    /// After that: a frame longer than the ring.
    Long,
    /// A frame that no node writes.
    Flags,
    /// Such frames without an end.
    Endless,
}

use Nonsense::*;

/// Its lane, which is the only one: where it lies in the receiver's file, and its bytes.
fn its_lane(place: &Place) -> Option<(u64, usize)> {
    let name = segment_help::name("node.here");
    let opened = Segment::open(&place.domain, &name, OpenOptions::new(4096), |segment| {
        // SAFETY: looked at while it is mapped, and spoilt only where this does not look.
        let layout = unsafe { NodeLayout::attach(segment.region()) }.unwrap();
        let lane = layout.lanes().claimed().next();
        Ok::<_, SegmentError>(lane.map(|lane| layout.place_of(lane).unwrap()))
    });
    let (_, found) = opened.unwrap();
    found.map(|(offset, len)| (offset as u64, len))
}

fn spoil(place: &Place, nonsense: Nonsense) {
    let (lane, len) = its_lane(place).unwrap();
    let file = fs::File::options().write(true).open(place.path("node.here")).unwrap();
    let write = |at: u64, bytes: &[u8]| file.write_all_at(bytes, lane + at).unwrap();
    match nonsense {
        NoRing => write(RING + MAGIC, b"nonsense"),
        Taken => write(RING + READING_END, &[0xa5; 4]),
        NoName => write(0, &[0; 64]),
        // All that is behind the frame that was read is nonsense.
        Long => write(DATA, &vec![0xa5; len - DATA as usize]),
        Flags => {
            let (flags, word) = (0xffu32.to_le_bytes(), 16u32.to_le_bytes());
            let frame = [word, [0; 4], flags, [0; 4]].concat();
            let mut all = frame.repeat((len - DATA as usize) / frame.len());
            // One frame at the first reader's position, and none behind it.
            for line in all.chunks_exact_mut(64).skip(3) {
                line.fill(0);
            }
            write(DATA, &all);
        }
        Endless => {
            let word = 8u32.to_le_bytes();
            let frame = [word, [0; 4]].concat();
            write(DATA, &frame.repeat((len - DATA as usize) / frame.len()));
        }
    }
}

/// What one round does: a sender joins, spoils its lane and ends.
fn round(place: &Place, here: &Node, nonsense: Nonsense, kill: bool) {
    let what = format!("{nonsense:?}, killed: {kill}");
    let mut child = Child::joined(place, "there", "");
    child.expect("send there here 1 0 1 100", "sent");
    if matches!(nonsense, NoRing | Taken | NoName) {
        spoil(place, nonsense);
        assert!(here.recv_timeout(Duration::from_millis(20)).unwrap().is_none(), "{what}");
    } else {
        assert_eq!(check(&here.recv_timeout(PATIENCE).unwrap().unwrap()), (1, 0));
        spoil(place, nonsense);
        let found = here.recv_timeout(PATIENCE);
        assert!(matches!(found, Err(RecvError::Corrupt { .. })), "{what}: {found:?}");
    }
    assert!(its_lane(place).is_some(), "{what}: not before its sender has ended");
    if kill {
        child.kill();
    } else {
        child.end();
    }
    soon(&format!("its lane is back, {what}"), || {
        // Whatever it is: no message.
        assert!(here.try_recv().unwrap().is_none());
        its_lane(place).is_none()
    });
}

/// The places of such lanes are others' when their senders have left or were killed.
#[test]
fn its_place_comes_back() {
    for nonsense in [NoRing, Taken, NoName, Long, Flags, Endless] {
        for kill in [false, true] {
            let place = Place::new();
            let here = builder(&place.domain, "here").heartbeat(Duration::from_millis(20));
            // Four lanes; and the next sender has the place of the one before.
            let here = here.nodes(2).join().unwrap();
            for _ in 0..2 {
                round(&place, &here, nonsense, kill);
            }
            let mut child = Child::joined(&place, "there", "");
            child.expect("send there here 2 0 3 100", "sent");
            for number in 0..3 {
                assert_eq!(check(&here.recv_timeout(PATIENCE).unwrap().unwrap()), (2, number));
            }
            child.end();
            drop(here);
            crate::help::leaves_nothing(&place);
        }
    }
}
