//! Processes in states that are seldom thought of: a fork that drops what it was left, a program
//! whose name is no text, one whose first thread has ended.
#![cfg(target_os = "linux")]

mod common;
mod segment_help;

use common::fork::in_a_fork;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use segment_help::{PAGE, Place, name};
use shm_primitives::wake::WakeWord;
use shm_transport::event::ReadyFd;
use shm_transport::liveness::ProcessIdentity;
use shm_transport::member::Member;
use shm_transport::segment::{CreateOptions, OpenOptions, Segment, SegmentError};
use std::fs;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// The addresses of a mapping are free in a forked child, and may be something else's by then.
#[test]
fn a_fork_that_drops_a_segment_unmaps_nothing() {
    let place = Place::new();
    let (segment, ()) =
        Segment::create(&place.domain, &name("a"), CreateOptions::new(4 * PAGE), |_| {
            Ok::<_, SegmentError>(())
        })
        .unwrap();
    let answer = in_a_fork(|| {
        let both = ProtFlags::READ | ProtFlags::WRITE;
        let here = segment.region().base().as_ptr();
        let flags = MapFlags::PRIVATE | MapFlags::FIXED_NOREPLACE;
        // SAFETY: maps where nothing is, or fails.
        match unsafe { mmap_anonymous(here.cast(), 4 * PAGE, both, flags) } {
            Ok(found) if found == here.cast() => {}
            _ => return 1,
        }
        drop(segment);
        let mut there = [0; 4];
        // SAFETY: looks at no memory, only at what is mapped.
        let found = unsafe { libc::mincore(here.cast(), 4 * PAGE, there.as_mut_ptr()) };
        if found == 0 { 0 } else { 2 }
    });
    assert_eq!(answer, 0, "1: the address was not free; 2: it was unmapped");
}

#[test]
fn a_fork_that_drops_a_bridge_does_not_wait_for_its_thread() {
    let ready = ReadyFd::new(Arc::new(WakeWord::new())).unwrap();
    let mut ready = Some(ready);
    let answer = in_a_fork(|| {
        drop(ready.take());
        0
    });
    assert_eq!(answer, 0, "killed after 20 s");
    drop(ready);
}

/// A name is cut after 15 bytes, in the middle of a letter too.
#[test]
fn the_program_has_a_name_that_is_no_text() {
    let place = Place::new();
    let answer = in_a_fork(|| {
        // SAFETY: a name with a zero at its end.
        unsafe { libc::prctl(libc::PR_SET_NAME, c"\xc3".as_ptr()) };
        if ProcessIdentity::current().is_err() {
            return 1;
        }
        let Ok(member) = Member::join(&place.domain, "member") else { return 2 };
        // SAFETY: it held nothing.
        if matches!(unsafe { member.leave() }, Ok(true)) { 0 } else { 3 }
    });
    assert_eq!(answer, 0);
}

#[test]
fn the_first_thread_has_ended() {
    let place = Place::new();
    let answer = in_a_fork(|| {
        let domain = place.domain.clone();
        thread::spawn(move || {
            while !fs::read_to_string("/proc/self/stat").unwrap().contains(") Z ") {
                thread::sleep(Duration::from_millis(1));
            }
            let answer = match Member::join(&domain, "member") {
                // SAFETY: it held nothing.
                Ok(member) => match unsafe { member.leave() } {
                    Ok(true) => 0,
                    _ => 2,
                },
                Err(error) => {
                    eprintln!("{error}");
                    1
                }
            };
            // SAFETY: ends this child.
            unsafe { libc::_exit(answer) };
        });
        // SAFETY: ends this thread alone, and nothing of its stack is another's.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
        98
    });
    assert_eq!(answer, 0);
}

/// The lock is of a description that the fork has as well.
#[test]
fn a_fork_that_returns_from_a_check_does_not_unlock_for_its_parent() {
    let place = Place::new();
    let nothing = |_: &Segment| Ok::<_, SegmentError>(());
    Segment::create(&place.domain, &name("a"), CreateOptions::new(PAGE), nothing).unwrap();
    let options = OpenOptions::new(0).patience(Duration::ZERO);
    let mut child = 0;
    let opened = Segment::open(&place.domain, &name("a"), options, |_| {
        // SAFETY: the child ends as soon as it has returned from here.
        child = unsafe { libc::fork() };
        if child == 0 {
            return Ok(());
        }
        let mut status = 0;
        // SAFETY: our own child.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        let gone =
            Segment::unlink(&place.domain, &name("a"), options, |_| Ok::<_, SegmentError>(true));
        assert!(matches!(gone, Err(SegmentError::Busy { .. })), "{gone:?}");
        Ok::<_, SegmentError>(())
    });
    if child == 0 {
        // SAFETY: ends it without the destructors of the parent's.
        unsafe { libc::_exit(0) };
    }
    opened.unwrap();
}
