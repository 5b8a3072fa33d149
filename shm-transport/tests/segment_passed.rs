//! Sealed memory, passed over a socket.
#![cfg(target_os = "linux")]

mod segment_help;

use rustix::cmsg_space;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::IoSlice;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use segment_help::{PAGE, Place, alone, create, is_alone};
use shm_primitives::sync::{AtomicU32, Ordering::Relaxed};
use shm_transport::segment::{CreateOptions, Passed, SealedSegment, SegmentError, Writers};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write, pipe};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Stdio;

fn sealed(value: u32, writers: Writers) -> SealedSegment {
    let made = SealedSegment::create("test", CreateOptions::new(PAGE), writers, |segment| {
        AtomicU32::at(&segment.region()).unwrap().store(value, Relaxed);
        Ok::<_, SegmentError>(())
    });
    made.unwrap().0
}

fn word(segment: &SealedSegment) -> u32 {
    AtomicU32::at(&segment.region()).unwrap().load(Relaxed)
}

#[test]
fn what_is_passed_is_the_same_memory() {
    let (here, there) = UnixStream::pair().unwrap();
    // Several under way, told apart by their tags.
    let mine: Vec<_> = (0..3).map(|value| sealed(value, Writers::All)).collect();
    for (segment, tag) in mine.iter().zip([u64::MAX, 0, 5]) {
        segment.send(&here, tag).unwrap();
    }
    for (segment, tag) in mine.iter().zip([u64::MAX, 0, 5]) {
        let passed = Passed::receive(&there).unwrap();
        assert_eq!((passed.tag(), passed.size(), passed.is_read_only()), (tag, PAGE, false));
        assert!(passed.path().to_str().unwrap().contains("memfd:test"), "{passed:?}");
        let theirs = passed.map().unwrap();
        assert_eq!(word(&theirs), word(segment));
        AtomicU32::at(&theirs.region()).unwrap().store(100, Relaxed);
        assert_eq!(word(segment), 100);
        // Passed on from there.
        theirs.send(&there, 1).unwrap();
        assert_eq!(word(&Passed::receive(&here).unwrap().map().unwrap()), 100);
    }
    drop(here);
    let end = Passed::receive(&there);
    assert!(matches!(end, Err(SegmentError::Closed)), "{end:?}");
    let broken = mine[0].send(&there, 0);
    assert!(matches!(broken, Err(SegmentError::Os { .. })), "{broken:?}");
}

/// A socket that tells with each message who sent it, as those of many servers do.
#[test]
fn with_the_senders_credentials() {
    let (here, there) = UnixStream::pair().unwrap();
    rustix::net::sockopt::set_socket_passcred(&there, true).unwrap();
    sealed(4, Writers::All).send(&here, 9).unwrap();
    let passed = Passed::receive(&there).unwrap();
    assert_eq!((passed.tag(), word(&passed.map().unwrap())), (9, 4));
}

#[test]
fn over_datagrams_too() {
    let (here, there) = UnixDatagram::pair().unwrap();
    sealed(3, Writers::All).send(&here, 9).unwrap();
    let passed = Passed::receive(&there).unwrap();
    assert_eq!((passed.tag(), word(&passed.map().unwrap())), (9, 3));
}

#[test]
fn a_child_has_it_after_its_creator_let_go() {
    const TEST: &str = "a_child_has_it_after_its_creator_let_go";
    if is_alone(TEST) {
        let socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
        let segment = Passed::receive(&socket).unwrap().map().unwrap();
        (&socket).read_exact(&mut [0]).unwrap();
        AtomicU32::at(&segment.region()).unwrap().store(word(&segment) + 1, Relaxed);
        segment.send(&socket, 2).unwrap();
        return;
    }
    let (here, there) = UnixStream::pair().unwrap();
    let mut child = segment_help::again(TEST);
    child.env("SHM_TEST_ALONE", TEST).stdin(Stdio::from(OwnedFd::from(there)));
    let mut running = child.stdout(Stdio::null()).spawn().unwrap();
    // It has the other end of the socket: were the child gone, this would wait for ever.
    drop(child);
    let segment = sealed(41, Writers::All);
    segment.send(&here, 1).unwrap();
    drop(segment);
    (&here).write_all(&[0]).unwrap();
    let back = Passed::receive(&here).unwrap();
    assert!(running.wait().unwrap().success());
    assert_eq!((back.tag(), word(&back.map().unwrap())), (2, 42));
}

#[test]
fn nobody_makes_it_shorter() {
    for writers in [Writers::All, Writers::Creator] {
        let segment = sealed(1, writers);
        for size in [0, PAGE as u64 - 1, 2 * PAGE as u64] {
            assert_eq!(ftruncate(segment.as_fd(), size), Err(rustix::io::Errno::PERM));
        }
        let seals = fcntl_add_seals(segment.as_fd(), SealFlags::WRITE);
        assert_eq!(seals, Err(rustix::io::Errno::PERM), "nor seals it further");
    }
}

#[test]
fn only_its_creator_writes() {
    let (here, there) = UnixStream::pair().unwrap();
    let mine = sealed(5, Writers::Creator);
    mine.send(&here, 0).unwrap();
    mine.send(&here, 0).unwrap();
    let passed = Passed::receive(&there).unwrap();
    assert!(passed.is_read_only());
    let seen = passed.map_for_reading().unwrap();
    AtomicU32::at(&mine.region()).unwrap().store(6, Relaxed);
    let mut bytes = [0; 4];
    seen.copy(0, &mut bytes).unwrap();
    assert_eq!(bytes, 6_u32.to_ne_bytes());
    let found = Passed::receive(&there).unwrap().map();
    assert!(matches!(found, Err(SegmentError::OnlyForReading { .. })), "{found:?}");
    // Nor by the descriptor, nor by another of the same file.
    let mut file = File::from(mine.as_fd().try_clone_to_owned().unwrap());
    assert!(file.write(b"x").is_err());
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    let again = OpenOptions::new().read(true).write(true).open(path).unwrap();
    assert!(shm_transport::segment::Mapping::of(&again, PAGE).is_err());
}

fn memfd(len: u64, seals: SealFlags) -> OwnedFd {
    let file = memfd_create("bad", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&file, len).unwrap();
    fcntl_add_seals(&file, seals).unwrap();
    file
}

const SIZE: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

#[test]
fn memory_that_is_not_sealed_is_refused() {
    let page = PAGE as u64;
    for missing in [SealFlags::SHRINK, SealFlags::GROW, SealFlags::SEAL] {
        let found = Passed::new(memfd(page, SIZE.difference(missing)), 0);
        let Err(SegmentError::NotSealed { missing: said, .. }) = &found else {
            panic!("{found:?}")
        };
        assert_eq!(*said, format!("{missing:?}"));
    }
    let place = Place::new();
    let named = create(&place.domain, "a", 1).unwrap();
    let found = Passed::new(named.reopen().unwrap(), 0);
    assert!(matches!(found, Err(SegmentError::NotSealed { .. })), "{found:?}");
    let found = Passed::new(File::open("/proc/self/status").unwrap().into(), 0);
    assert!(matches!(found, Err(SegmentError::NotSealed { .. })), "{found:?}");
    let (_, writer) = pipe().unwrap();
    let found = Passed::new(writer.into(), 0);
    assert!(matches!(found, Err(SegmentError::NotAFile { .. })), "{found:?}");
    let found = Passed::new(memfd(0, SIZE), 0);
    assert!(matches!(found, Err(SegmentError::BadSize { found: 0, .. })), "{found:?}");
    let found = Passed::new(memfd(page + 1, SIZE), 0);
    assert!(matches!(found, Err(SegmentError::NotWholePages { .. })), "{found:?}");
    let huge = memfd(1 << 62, SIZE);
    let found = Passed::new(huge, 0).unwrap().map();
    assert!(matches!(found, Err(SegmentError::NoMemory { .. })), "{found:?}");
    assert!(Passed::new(memfd(page, SIZE), 0).unwrap().map().is_ok());
}

fn send(socket: &UnixStream, bytes: &[u8], files: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(8))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(files)));
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL).unwrap();
}

#[test]
fn what_is_no_segment_is_refused_and_closed() {
    let good = *b"shm-fd 1\x01\0\0\0\0\0\0\0";
    let mut bad = good;
    bad[7] = b'2';
    let cases: [(&[u8], usize, &str); 6] = [
        (&bad, 1, "something else"),
        (&good[..15], 1, "something else"),
        (&good, 0, "no descriptor"),
        (&good, 2, "more than one"),
        (&good, 8, "more than one"),
        (b"GET / HTTP/1.1\r\n", 0, "something else"),
    ];
    for (bytes, count, said) in cases {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut reader, writer) = pipe().unwrap();
        send(&here, bytes, &vec![writer.as_fd(); count]);
        drop(writer);
        let found = Passed::receive(&there);
        let Err(SegmentError::NotPassed { what }) = &found else { panic!("{said}: {found:?}") };
        assert!(what.contains(said), "{what} instead of {said}");
        // Were one of the descriptors still open, this would wait for ever.
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    }
    // A descriptor of the wrong kind is closed too.
    let (here, there) = UnixStream::pair().unwrap();
    let (mut reader, writer) = pipe().unwrap();
    send(&here, &good, &[writer.as_fd()]);
    drop(writer);
    let found = Passed::receive(&there);
    assert!(matches!(found, Err(SegmentError::NotAFile { .. })), "{found:?}");
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
}

#[test]
fn no_number_left_for_it() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    const TEST: &str = "no_number_left_for_it";
    if !is_alone(TEST) {
        return alone(TEST);
    }
    let (here, there) = UnixStream::pair().unwrap();
    sealed(1, Writers::All).send(&here, 1).unwrap();
    let limit = Rlimit { current: Some(64), maximum: Some(64) };
    setrlimit(Resource::Nofile, limit).unwrap();
    let _taken: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    let found = Passed::receive(&there);
    assert!(
        found.as_ref().is_err_and(|error| error.to_string().contains("ulimit -n")),
        "{found:?}"
    );
}

#[test]
fn a_socket_that_does_not_wait() {
    let (here, there) = UnixStream::pair().unwrap();
    there.set_nonblocking(true).unwrap();
    let found = Passed::receive(&there);
    let Err(SegmentError::Os { source, .. }) = &found else { panic!("{found:?}") };
    assert_eq!(source.kind(), std::io::ErrorKind::WouldBlock);
    sealed(1, Writers::All).send(&here, 1).unwrap();
    Passed::receive(&there).unwrap();
}

#[test]
fn what_fails_to_be_initialised_is_gone() {
    let made = SealedSegment::create("x", CreateOptions::new(0), Writers::All, |_| Ok(()));
    assert!(matches!(made, Err(SegmentError::BadSize { .. })), "{made:?}");
    let long = "x".repeat(250);
    let made = SealedSegment::create(&long, CreateOptions::new(1), Writers::All, |_| Ok(()));
    assert!(matches!(made, Err(SegmentError::Os { .. })), "{made:?}");
}
