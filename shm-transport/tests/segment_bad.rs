//! Whatever else has a segment's name, and wherever there is no room: each its own error that says
//! what to do, nothing left behind, nothing changed, no signal.
#![cfg(target_os = "linux")]

mod segment_help;

use rustix::fs::{CWD, FileType, Gid, Mode, Uid, chown, mknodat};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use rustix::process::{Resource, Rlimit, geteuid, setrlimit};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use segment_help::{PAGE, Place, alone, create, files, is_alone, name, open, set, unlink};
use shm_primitives::part::{AttachError, PartHeader};
use shm_primitives::ring::frame::FrameRingRef;
use shm_transport::domain::Domain;
use shm_transport::segment::{
    CreateOptions, FileKind, OpenOptions, ReadOnlySegment, Segment, SegmentError,
};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

/// What can be seen of a file from outside.
fn seen(path: &Path) -> String {
    let found = fs::symlink_metadata(path).unwrap();
    let content = if found.is_file() { fs::read(path).ok() } else { None };
    let facts = (found.ino(), found.mode(), found.uid(), found.len(), found.mtime_nsec());
    format!("{facts:?} {content:?}")
}

/// Every way to the file of that name fails in the same way, says `hint`, and leaves it alone.
#[track_caller]
fn refused(place: &Place, named: &str, hint: &str, expected: impl Fn(&SegmentError) -> bool) {
    refused_with(place, &place.domain, named, OpenOptions::new(64), hint, expected);
}

#[track_caller]
fn refused_with(
    place: &Place,
    domain: &Domain,
    named: &str,
    options: OpenOptions,
    hint: &str,
    expected: impl Fn(&SegmentError) -> bool,
) {
    let path = domain.path_of(&name(named));
    let (before, all) = (seen(&path), place.files());
    let named = &name(named);
    let begun = Instant::now();
    type Answer = Result<(), SegmentError>;
    fn never<S>(_: &S) -> Answer {
        panic!("the caller was asked about what is no segment")
    }
    let either = |open: fn(&Segment) -> Answer| {
        let create = CreateOptions::new(PAGE);
        Segment::open_or_create(domain, named, options, create, open, |_| Ok(())).map(drop)
    };
    let ways = [
        Segment::open(domain, named, options, never).map(drop),
        ReadOnlySegment::open(domain, named, options, never).map(drop),
        Segment::unlink(domain, named, options, |s| never(s).map(|()| true)).map(drop),
        either(never),
    ];
    for (way, found) in ways.into_iter().enumerate() {
        let error = found.unwrap_err();
        assert!(expected(&error), "way {way}: {error:?}");
        let text = error.to_string();
        assert!(text.contains(hint), "{text}");
        assert!(text.contains(path.to_str().unwrap()), "{text}");
    }
    // It is in nobody's way but theirs who want the name.
    let made = Segment::create(domain, named, CreateOptions::new(PAGE), |_| Ok(()));
    assert!(matches!(made, Err(SegmentError::AlreadyExists { .. })), "{made:?}");
    assert!(begun.elapsed() < Duration::from_secs(20), "it was waited for something");
    assert_eq!((seen(&path), place.files()), (before, all));
}

fn is_kind(wanted: FileKind) -> impl Fn(&SegmentError) -> bool {
    move |error| matches!(error, SegmentError::NotAFile { kind, .. } if *kind == wanted)
}

#[test]
fn a_symlink_wherever_it_leads() {
    let place = Place::new();
    create(&place.domain, "real", 1).unwrap();
    symlink(place.path("real"), place.path("to-a-segment")).unwrap();
    symlink(place.path("nothing"), place.path("to-nothing")).unwrap();
    symlink("/dev/zero", place.path("to-a-device")).unwrap();
    symlink(place.path("itself"), place.path("itself")).unwrap();
    for link in ["to-a-segment", "to-nothing", "to-a-device", "itself"] {
        refused(&place, link, "symbolic link", is_kind(FileKind::Symlink));
    }
}

#[test]
fn what_is_no_file() {
    let place = Place::new();
    fs::create_dir(place.path("directory")).unwrap();
    refused(&place, "directory", "is a directory", is_kind(FileKind::Directory));
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, place.path("pipe"), FileType::Fifo, mode, 0).unwrap();
    refused(&place, "pipe", "named pipe", is_kind(FileKind::Pipe));
    let _listener = UnixListener::bind(place.path("socket")).unwrap();
    refused(&place, "socket", "is a socket", is_kind(FileKind::Socket));
    let zero = rustix::fs::makedev(1, 5);
    match mknodat(CWD, place.path("device"), FileType::CharacterDevice, mode, zero) {
        Ok(()) => refused(&place, "device", "is a device", is_kind(FileKind::Other)),
        Err(errno) => eprintln!("skipped: a device, since making one is not permitted ({errno})"),
    }
}

#[test]
fn a_file_of_the_wrong_length() {
    let place = Place::new();
    for (named, len, hint) in [
        ("empty", 0, "0 bytes and at least 64"),
        ("short", 63, "63 bytes and at least 64"),
        ("odd", 64, "no multiple of 4096"),
        ("cut", 2 * PAGE - 1, "no multiple of 4096"),
    ] {
        fs::write(place.path(named), vec![0; len]).unwrap();
        fs::set_permissions(place.path(named), Permissions::from_mode(0o600)).unwrap();
        refused(&place, named, hint, |error| match error {
            SegmentError::TooShort { found, wanted: 64, .. } => *found == len as u64 && len < 64,
            SegmentError::NotWholePages { found, .. } => *found == len as u64 && len >= 64,
            _ => false,
        });
    }
}

#[test]
fn a_segment_that_was_truncated() {
    let place = Place::new();
    let options = CreateOptions::new(4 * PAGE);
    let named = &name("a");
    Segment::create(&place.domain, named, options, |_| Ok::<_, SegmentError>(())).unwrap();
    File::options().write(true).open(place.path("a")).unwrap().set_len(PAGE as u64).unwrap();
    let opened = OpenOptions::new(4 * PAGE);
    refused_with(&place, &place.domain, "a", opened, "truncated", |error| {
        matches!(error, SegmentError::TooShort { found: 4096, wanted: 16384, .. })
    });
    // Whoever asks for less has what is left, and no more is mapped.
    let (found, len) = Segment::open(&place.domain, named, OpenOptions::new(64), |segment| {
        Ok::<_, SegmentError>(segment.region().len())
    })
    .unwrap();
    assert_eq!((found.size(), len), (PAGE, PAGE));
}

#[test]
fn a_file_with_other_permissions() {
    let place = Place::new();
    for mode in [0o400, 0o644, 0o660, 0o666, 0o4600, 0] {
        create(&place.domain, "a", 1).unwrap();
        fs::set_permissions(place.path("a"), Permissions::from_mode(mode)).unwrap();
        refused(
            &place,
            "a",
            &format!("{mode:04o} instead of 0600"),
            |error| matches!(error, SegmentError::WrongMode { found, wanted: 0o600, .. } if *found == mode),
        );
        fs::remove_file(place.path("a")).unwrap();
    }
}

#[test]
fn another_users_file() {
    let place = Place::new();
    if !geteuid().is_root() {
        eprintln!("skipped: another user's file, since only root can make one");
        return;
    }
    create(&place.domain, "a", 1).unwrap();
    chown(place.path("a"), Some(Uid::from_raw(12345)), Some(Gid::from_raw(12345))).unwrap();
    refused(&place, "a", "belongs to user 12345, and only user 0", |error| {
        matches!(error, SegmentError::NotOurs { found: 12345, wanted: 0, .. })
    });
    assert_eq!(place.domain.segments().unwrap().count(), 0);
}

/// As a user without root's rights, for whom the kernel's answers are others.
#[test]
fn files_that_may_not_even_be_opened() {
    const TEST: &str = "files_that_may_not_even_be_opened";
    if !geteuid().is_root() {
        eprintln!("skipped: files that may not be opened, since only root can make them");
        return;
    }
    if !is_alone(TEST) {
        return alone(TEST);
    }
    // Sticky, as /dev/shm is one.
    let place = Place::new();
    fs::set_permissions(&place.directory, Permissions::from_mode(0o1777)).unwrap();
    let (user, group) = (Uid::from_raw(12345), Gid::from_raw(12345));
    let theirs = place.domain.clone().of_group(12345);
    create(&theirs, "shared", 1).unwrap();
    // Of this thread alone, which is all that the calls below see.
    rustix::thread::set_thread_res_gid(group, group, Gid::ROOT).unwrap();
    rustix::thread::set_thread_groups(&[]).unwrap();
    rustix::thread::set_thread_res_uid(user, user, Uid::ROOT).unwrap();
    create(&place.domain, "mine", 1).unwrap();
    fs::set_permissions(place.path("mine"), Permissions::from_mode(0o000)).unwrap();
    let shared = unlink(&theirs, "shared");
    open(&theirs, "shared").unwrap();
    let mine = open(&place.domain, "mine");
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).unwrap();
    let path = place.directory.join("shm.12345.test.foreign");
    fs::write(&path, [0; PAGE]).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    rustix::thread::set_thread_res_uid(user, user, Uid::ROOT).unwrap();
    let foreign = open(&place.domain, "foreign");
    let group_of_others = create(&place.domain.clone().of_group(54321), "a", 1);
    let not_mine = Domain::new("x").unwrap().in_directory("/proc/1/fd");
    let unreachable = open(&not_mine, "a");
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).unwrap();

    assert!(matches!(mine, Err(SegmentError::WrongMode { found: 0, .. })), "{mine:?}");
    assert!(matches!(foreign, Err(SegmentError::NotOurs { found: 0, .. })), "{foreign:?}");
    assert!(matches!(shared, Err(SegmentError::OnlyItsOwner { owner: 0, .. })), "{shared:?}");
    let text = group_of_others.unwrap_err().to_string();
    assert!(text.contains("a member?"), "{text}");
    assert!(unreachable.is_err());
    assert_eq!(place.files().len(), 3, "{:?}", place.files());
}

#[test]
fn foreign_content() {
    let place = Place::new();
    fs::write(place.path("a"), [b'#'; PAGE]).unwrap();
    fs::set_permissions(place.path("a"), Permissions::from_mode(0o600)).unwrap();
    let before = seen(&place.path("a"));
    let check = |segment: &Segment| {
        // SAFETY: it is only attached to.
        let ring = unsafe { FrameRingRef::attach(segment.region(), None) };
        ring.map(drop).map_err(|error| segment.refused(error))
    };
    let opened = Segment::open(&place.domain, &name("a"), OpenOptions::new(64), check);
    let Err(SegmentError::NotASegment { why, .. }) = &opened else { panic!("{opened:?}") };
    let why = why.downcast_ref::<AttachError>().unwrap();
    let found = u32::from_le_bytes([b'#'; 4]);
    assert_eq!(*why, AttachError::WrongMagic { found, wanted: PartHeader::MAGIC });
    let text = opened.unwrap_err().to_string();
    assert!(text.contains("magic") && text.contains("remove it"), "{text}");
    assert_eq!(seen(&place.path("a")), before);
    // And the lock is not kept.
    assert!(unlink(&place.domain, "a").unwrap());
}

#[test]
fn no_directory() {
    let place = Place::new();
    let file = place.directory.join("file");
    fs::write(&file, "").unwrap();
    for directory in [place.directory.join("nowhere"), file] {
        let domain = place.domain.clone().in_directory(&directory);
        for found in [create(&domain, "a", 1), open(&domain, "a")] {
            let named = matches!(&found, Err(SegmentError::NoDirectory { directory: d }) if *d == directory);
            assert!(named, "{found:?}");
        }
    }
    let domain = place.domain.clone().in_directory("/proc");
    let found = create(&domain, "a", 1);
    assert!(matches!(found, Err(SegmentError::Unsupported { .. })), "{found:?}");
}

#[test]
fn a_limit_on_files() {
    const TEST: &str = "a_limit_on_files";
    if !is_alone(TEST) {
        return alone(TEST);
    }
    let place = Place::new();
    let limit = Some(64 << 10);
    setrlimit(Resource::Fsize, Rlimit { current: limit, maximum: limit }).unwrap();
    let made =
        |size| Segment::create(&place.domain, &name("a"), CreateOptions::new(size), |_| Ok(()));
    // The kernel's own answer would be SIGXFSZ.
    let found = made((64 << 10) + 1);
    let Err(SegmentError::FileSizeLimit { wanted, limit, .. }) = &found else {
        panic!("{found:?}")
    };
    assert_eq!((*wanted, *limit), ((64 << 10) + 4096, 64 << 10));
    assert!(found.unwrap_err().to_string().contains("ulimit -f"));
    assert_eq!(place.files(), [""; 0]);
    made(64 << 10).unwrap();
}

#[test]
fn a_limit_on_addresses() {
    const TEST: &str = "a_limit_on_addresses";
    if !is_alone(TEST) {
        return alone(TEST);
    }
    let place = Place::new();
    let large = CreateOptions::sparse(1 << 30, 0);
    let named = &name("a");
    Segment::create(&place.domain, named, large, |_| Ok::<_, SegmentError>(())).unwrap();
    let limit = Some(1 << 29);
    setrlimit(Resource::As, Rlimit { current: limit, maximum: limit }).unwrap();
    let found = open(&place.domain, "a");
    assert!(matches!(found, Err(SegmentError::NoMemory { .. })), "{found:?}");
    let found = Segment::create(&place.domain, &name("b"), large, |_| Ok(()));
    let Err(SegmentError::NoMemory { path, .. }) = &found else { panic!("{found:?}") };
    assert_eq!(*path, place.path("b"), "what it would have been called");
    assert_eq!(place.files().len(), 1);
}

#[test]
fn no_descriptors_left() {
    const TEST: &str = "no_descriptors_left";
    if !is_alone(TEST) {
        return alone(TEST);
    }
    let place = Place::new();
    create(&place.domain, "a", 1).unwrap();
    let limit = Rlimit { current: Some(64), maximum: Some(64) };
    setrlimit(Resource::Nofile, limit).unwrap();
    let mut taken: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    // One, two, three descriptors too few, and then enough.
    let mut refusals = 0;
    loop {
        let found = [open(&place.domain, "a").map(drop), create(&place.domain, "b", 1).map(drop)];
        let enough = found.iter().all(Result::is_ok);
        for error in found.into_iter().filter_map(Result::err) {
            assert!(matches!(error, SegmentError::Os { .. }), "{error:?}");
            assert!(error.to_string().contains("Too many open files"), "{error}");
            refusals += 1;
        }
        if enough {
            break;
        }
        taken.pop().unwrap();
        let _ = fs::remove_file(place.path("b"));
    }
    drop(taken);
    assert!(unlink(&place.domain, "b").unwrap());
    assert_eq!(place.files().len(), 1);
    assert!(refusals >= 3, "{refusals}");
}

/// Unmounts when dropped, so that the directory can be removed also after a failure.
struct Unmounted<'a>(&'a Path);

impl Drop for Unmounted<'_> {
    fn drop(&mut self) {
        let _ = unmount(self.0, UnmountFlags::DETACH);
    }
}

/// Runs in a file system of its own of 16 pages and 8 files, which goes with the process.
#[test]
fn a_full_file_system() {
    const TEST: &str = "a_full_file_system";
    if !is_alone(TEST) {
        return alone(TEST);
    }
    let place = Place::new();
    // SAFETY: only the mounts of this thread are another's then, no descriptors or memory.
    if let Err(errno) = unsafe { unshare_unsafe(UnshareFlags::NEWNS) } {
        println!("skipped: a full file system, since mounting one is not permitted ({errno})");
        return;
    }
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).unwrap();
    let _unmounted = Unmounted(&place.directory);
    let options = c"size=64k,nr_inodes=8,mode=700";
    mount("tmpfs", &place.directory, "tmpfs", MountFlags::empty(), options).unwrap();
    let (domain, page) = (&place.domain, PAGE as u64);
    let made = |named: &str, options| Segment::create(domain, &name(named), options, |_| Ok(()));
    let full = |found: &SegmentError, bytes: u64, free: u64| {
        let text = found.to_string();
        assert!(text.contains("remove segments that nobody uses"), "{text}");
        matches!(found, SegmentError::NoSpace { wanted, available: Some(available), .. }
            if *wanted == bytes && *available == free)
    };

    // Too large at once: nothing is left, and nothing is taken.
    let found = made("a", CreateOptions::new(17 * PAGE)).unwrap_err();
    assert!(full(&found, 17 * page, 16 * page), "{found:?}");
    assert_eq!(files(&place.directory), [""; 0]);

    // Sparse, and then there is no more.
    let (sparse, ()) = made("sparse", CreateOptions::sparse(64 * PAGE, 4 * PAGE)).unwrap();
    sparse.allocate(0..12 * PAGE).unwrap();
    for _ in 0..3 {
        let found = sparse.allocate(4 * PAGE..17 * PAGE).unwrap_err();
        assert!(full(&found, 13 * page, 4 * page), "{found:?}");
        assert_eq!(sparse.resident().unwrap(), 12 * page, "what it could not have it gave back");
    }
    let found = sparse.populate(8 * PAGE..64 * PAGE).unwrap_err();
    assert!(full(&found, 56 * page, 4 * page), "{found:?}");
    sparse.populate(12 * PAGE..16 * PAGE).unwrap();
    for index in 0..16 {
        set(&sparse, index * PAGE / 4, 1);
    }

    // Full: small ones are refused too, and what there is can be opened.
    let found = made("b", CreateOptions::new(1)).unwrap_err();
    assert!(full(&found, page, 0), "{found:?}");
    open(domain, "sparse").unwrap();

    // A file that was never written to: a look at it would be a SIGBUS.
    let hollow = File::create(place.path("hollow")).unwrap();
    hollow.set_len(page).unwrap();
    fs::set_permissions(place.path("hollow"), Permissions::from_mode(0o600)).unwrap();
    refused(&place, "hollow", "no room for 64 bytes", |error| full(error, 64, 0));
    fs::remove_file(place.path("hollow")).unwrap();

    // Room given back is had by others.
    // SAFETY: nobody uses it.
    unsafe { sparse.punch(8 * PAGE..16 * PAGE) }.unwrap();
    made("b", CreateOptions::new(8 * PAGE)).unwrap();
    assert!(unlink(domain, "b").unwrap() && unlink(domain, "sparse").unwrap());

    drop((hollow, sparse));

    // No files left: the file system's root and 7.
    for number in 0..7 {
        made(&number.to_string(), CreateOptions::sparse(PAGE, 0)).unwrap();
    }
    let found = (7..16).find_map(|n| made(&n.to_string(), CreateOptions::sparse(PAGE, 0)).err());
    assert!(matches!(found, Some(SegmentError::NoSpace { .. })), "{found:?}");
    for named in domain.segments().unwrap() {
        Segment::unlink(domain, &named.unwrap(), OpenOptions::new(0), |_| {
            Ok::<_, SegmentError>(true)
        })
        .unwrap();
    }
    assert_eq!(files(&place.directory), [""; 0]);
}
