//! Segments with a name: what they do when nothing is wrong.
#![cfg(target_os = "linux")]

mod segment_help;

use rustix::fs::{FlockOperation, flock, fstat};
use segment_help::{PAGE, Place, alone, create, is_alone, name, open, set, unique, unlink, word};
use shm_primitives::identity::OwnerId;
use shm_primitives::ring::frame::{FrameRingRef, Options};
use shm_transport::domain::{Domain, NameError, SegmentName};
use shm_transport::segment::{
    CreateOptions, HugePages, Mapping, OpenOptions, Origin, ReadOnlyMapping, ReadOnlySegment,
    Segment, SegmentError,
};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn what_one_writes_the_other_reads() {
    let place = Place::new();
    let mine = create(&place.domain, "a", 7).unwrap();
    let theirs = open(&place.domain, "a").unwrap();
    assert_eq!(word(&theirs, 0), 7);
    set(&theirs, 1, 8);
    assert_eq!(word(&mine, 1), 8);
    assert_eq!((mine.size(), mine.region().len()), (PAGE, PAGE));
    assert_eq!(mine.path(), place.path("a"));
    drop((mine, theirs));
    assert_eq!(word(&open(&place.domain, "a").unwrap(), 1), 8, "nobody has to have it mapped");
}

#[test]
fn a_ring_in_it() {
    let place = Place::new();
    let options = Options::new(4096);
    let size = CreateOptions::new(options.required_size().unwrap());
    let (mine, ()) = Segment::create(&place.domain, &name("ring"), size, |segment| {
        // SAFETY: nobody else has the segment yet.
        unsafe { FrameRingRef::init_at(segment.region(), options) }.unwrap();
        Ok::<_, SegmentError>(())
    })
    .unwrap();
    let theirs = open(&place.domain, "ring").unwrap();
    // SAFETY: this test keeps the protocol.
    let (here, there) = unsafe {
        (FrameRingRef::attach(mine.region(), None), FrameRingRef::attach(theirs.region(), None))
    };
    let mut writer = here.unwrap().claim_writer(OwnerId::new(0, 1).unwrap()).unwrap();
    let mut reader = there.unwrap().claim_reader(OwnerId::new(1, 1).unwrap()).unwrap();
    let mut grant = writer.grant(5).unwrap();
    grant.copy_from_slice(b"hello");
    grant.commit(5);
    assert_eq!(&*reader.read().unwrap(), b"hello");
}

#[test]
fn nobody_sees_half_a_segment() {
    let place = Place::new();
    let options = CreateOptions::new(PAGE);
    let (made, ()) = Segment::create(&place.domain, &name("a"), options, |_| {
        assert_eq!(place.files(), [""; 0]);
        let open = open(&place.domain, "a");
        assert!(matches!(open, Err(SegmentError::NotFound { .. })), "{open:?}");
        Ok::<_, SegmentError>(())
    })
    .unwrap();
    assert!(made.has_name().unwrap());
    assert_eq!(place.files().len(), 1);
}

#[test]
fn a_name_is_given_once() {
    let place = Place::new();
    let _first = create(&place.domain, "a", 1).unwrap();
    let second = create(&place.domain, "a", 2);
    assert!(matches!(second, Err(SegmentError::AlreadyExists { .. })), "{second:?}");
    assert_eq!(word(&open(&place.domain, "a").unwrap(), 0), 1);
    assert_eq!(place.files().len(), 1);
}

#[test]
fn what_fails_to_be_initialised_has_no_name() {
    #[derive(Debug)]
    struct Mine;
    impl From<SegmentError> for Mine {
        fn from(error: SegmentError) -> Self {
            panic!("{error}")
        }
    }
    let place = Place::new();
    let (domain, name, options) = (&place.domain, &name("a"), CreateOptions::new(PAGE));
    let made = Segment::create(domain, name, options, |_| Err::<(), _>(Mine));
    assert!(made.is_err());
    assert_eq!(place.files(), [""; 0]);
    // And when it panics.
    let made = std::panic::catch_unwind(|| {
        Segment::create(domain, name, options, |_| -> Result<(), Mine> { panic!("on purpose") })
    });
    assert!(made.is_err());
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn open_or_create_says_which() {
    let place = Place::new();
    let either = || {
        Segment::open_or_create(
            &place.domain,
            &name("a"),
            OpenOptions::new(4),
            CreateOptions::new(PAGE),
            |segment| Ok::<_, SegmentError>(word(segment, 0)),
            |segment| {
                set(segment, 0, 5);
                Ok(0)
            },
        )
        .unwrap()
    };
    let (_, found, origin) = either();
    assert_eq!((found, origin), (0, Origin::Created));
    let (_, found, origin) = either();
    assert_eq!((found, origin), (5, Origin::Opened));
    assert_eq!(place.files().len(), 1);
}

#[test]
fn open_or_create_gives_the_callers_error_back_even_if_it_is_one_of_ours() {
    let place = Place::new();
    let mut runs = 0;
    let made = Segment::open_or_create(
        &place.domain,
        &name("a"),
        OpenOptions::new(4),
        CreateOptions::new(PAGE),
        |_| Ok(()),
        |segment| {
            runs += 1;
            Err(SegmentError::AlreadyExists { path: segment.path().into() })
        },
    );
    assert!(matches!(made, Err(SegmentError::AlreadyExists { .. })), "{made:?}");
    assert_eq!(runs, 1);
}

#[test]
fn open_or_create_goes_on_when_another_was_faster() {
    let place = Place::new();
    let mut others = None;
    let (segment, (), origin) = Segment::open_or_create(
        &place.domain,
        &name("a"),
        OpenOptions::new(4),
        CreateOptions::new(PAGE),
        |_| Ok::<_, SegmentError>(()),
        |_| {
            others = Some(create(&place.domain, "a", 9)?);
            Ok(())
        },
    )
    .unwrap();
    assert_eq!((word(&segment, 0), origin), (9, Origin::Opened));
}

#[test]
fn unlinking_takes_the_name_and_nothing_else() {
    let place = Place::new();
    let mine = create(&place.domain, "a", 7).unwrap();
    let (domain, named, options) = (&place.domain, &name("a"), OpenOptions::new(4));
    let gone = Segment::unlink(domain, named, options, |segment| {
        assert_eq!(word(segment, 0), 7);
        Ok::<_, SegmentError>(false)
    });
    assert!(!gone.unwrap());
    assert!(mine.has_name().unwrap());
    assert!(unlink(domain, "a").unwrap());
    assert!(!mine.has_name().unwrap());
    assert_eq!(word(&mine, 0), 7);
    assert_eq!(place.files(), [""; 0]);
    let again = unlink(domain, "a");
    assert!(matches!(again, Err(SegmentError::NotFound { .. })), "{again:?}");
}

#[test]
fn nobody_opens_it_while_it_may_go() {
    let place = Place::new();
    let mine = create(&place.domain, "a", 7).unwrap();
    let hasty = OpenOptions::new(4).patience(Duration::ZERO);
    let gone = mine.unlink_own(|_| {
        let opened = Segment::open(&place.domain, &name("a"), hasty, |_| Ok(()));
        assert!(matches!(opened, Err(SegmentError::Busy { .. })), "{opened:?}");
        Ok::<_, SegmentError>(true)
    });
    assert!(gone.unwrap());
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn it_does_not_go_while_somebody_opens_it() {
    let place = Place::new();
    let mine = create(&place.domain, "a", 7).unwrap();
    let hasty = OpenOptions::new(4).patience(Duration::from_millis(3));
    let (_, ()) = Segment::open(&place.domain, &name("a"), OpenOptions::new(4), |_| {
        let gone =
            Segment::unlink(&place.domain, &name("a"), hasty, |_| -> Result<_, SegmentError> {
                panic!("asked while somebody is claiming a place")
            });
        assert!(matches!(gone, Err(SegmentError::Busy { .. })), "{gone:?}");
        // Others open it meanwhile.
        open(&place.domain, "a").map(drop)
    })
    .unwrap();
    assert!(mine.unlink_own(|_| Ok::<_, SegmentError>(true)).unwrap(), "the lock was let go of");
}

/// One opener is always there, for the next comes before the last one goes.
#[test]
fn openers_let_an_unlinker_in() {
    let place = Place::new();
    create(&place.domain, "a", 1).unwrap();
    let (named, patience) = (name("a"), Duration::from_secs(60));
    let options = OpenOptions::new(4).patience(patience);
    let entered = AtomicU32::new(0);
    let open_again_and_again = || loop {
        let opened = Segment::open(&place.domain, &named, options, |_| {
            let mine = entered.fetch_add(1, Relaxed) + 1;
            let begun = Instant::now();
            // The other one gives way, perhaps.
            while entered.load(Relaxed) == mine && begun.elapsed() < patience / 1000 {
                thread::sleep(Duration::from_micros(100));
            }
            Ok(())
        });
        match opened {
            Ok(_) => {}
            Err(SegmentError::NotFound { .. }) => break,
            Err(error) => panic!("{error}"),
        }
    };
    thread::scope(|scope| {
        scope.spawn(open_again_and_again);
        scope.spawn(open_again_and_again);
        while entered.load(Relaxed) < 10 {
            thread::sleep(Duration::from_millis(1));
        }
        let gone = Segment::unlink(&place.domain, &named, options, |_| Ok::<_, SegmentError>(true));
        if gone.is_err() {
            // Nobody else ends it.
            fs::remove_file(place.path("a")).unwrap();
        }
        assert!(gone.unwrap());
    });
}

/// One who unlinks waits for an opener that was stopped: others come in all the same.
#[test]
fn openers_give_way_for_a_while_only() {
    let place = Place::new();
    create(&place.domain, "a", 1).unwrap();
    let named = name("a");
    let long = OpenOptions::new(4).patience(Duration::from_secs(60));
    thread::scope(|scope| {
        let (_, unlinker) = Segment::open(&place.domain, &named, long, |_| {
            let unlinker = scope.spawn(|| {
                Segment::unlink(&place.domain, &named, long, |_| Ok::<_, SegmentError>(true))
            });
            let patience = Duration::from_secs(1);
            let options = OpenOptions::new(4).patience(patience);
            // Until one has given way.
            let (first, mut waited) = (Instant::now(), Duration::ZERO);
            while waited < patience / 4 {
                assert!(first.elapsed() < Duration::from_secs(30), "they give way");
                let begun = Instant::now();
                Segment::open(&place.domain, &named, options, |_| Ok::<_, SegmentError>(()))?;
                waited = begun.elapsed();
            }
            Ok::<_, SegmentError>(unlinker)
        })
        .unwrap();
        assert!(unlinker.join().unwrap().unwrap());
    });
}

#[test]
fn its_own_name_only() {
    let place = Place::new();
    let first = create(&place.domain, "a", 1).unwrap();
    assert!(unlink(&place.domain, "a").unwrap());
    let gone = first.unlink_own(|_| Ok::<_, SegmentError>(true));
    assert!(matches!(gone, Err(SegmentError::NotFound { .. })), "{gone:?}");
    let second = create(&place.domain, "a", 2).unwrap();
    let gone = first.unlink_own(|_| Ok::<_, SegmentError>(true));
    assert!(matches!(gone, Err(SegmentError::NotFound { .. })), "{gone:?}");
    assert!(!first.has_name().unwrap() && second.has_name().unwrap());
}

#[test]
fn a_lock_that_is_not_given_back_is_not_waited_for() {
    let place = Place::new();
    let mine = create(&place.domain, "a", 1).unwrap();
    let lock = mine.reopen().unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let begun = Instant::now();
    let patience = Duration::from_millis(30);
    let options = OpenOptions::new(4).patience(patience);
    let opened = Segment::open(&place.domain, &name("a"), options, |_| Ok(()));
    let Err(SegmentError::Busy { waited, holder, .. }) = &opened else { panic!("{opened:?}") };
    assert!(*waited >= patience && begun.elapsed() >= patience);
    // The kernel says none to a process whose /proc is of another pid namespace.
    assert!(holder.is_none_or(|holder| holder == std::process::id()), "{holder:?}");
    if fs::read_link("/proc/self").unwrap().to_str() == Some(&std::process::id().to_string()) {
        assert!(holder.is_some(), "{}", opened.unwrap_err());
    }
    flock(&lock, FlockOperation::Unlock).unwrap();
    open(&place.domain, "a").unwrap();
}

#[test]
fn another_description_of_the_same_file() {
    let place = Place::new();
    let (first, fresh) =
        Segment::create(&place.domain, &name("a"), CreateOptions::new(PAGE), |s| {
            s.reopen() // before it has a name
        })
        .unwrap();
    unlink(&place.domain, "a").unwrap();
    let other = first.reopen().unwrap(); // and after
    assert_eq!(fstat(&fresh).unwrap().st_ino, fstat(&other).unwrap().st_ino);
    flock(&fresh, FlockOperation::LockExclusive).unwrap();
    let taken = flock(&other, FlockOperation::NonBlockingLockExclusive);
    assert!(taken.is_err(), "both are one description");
    // A mapping keeps the description, and its lock.
    let mapping = Mapping::of(&fresh, PAGE).unwrap();
    drop(fresh);
    assert!(flock(&other, FlockOperation::NonBlockingLockExclusive).is_err());
    drop(mapping);
    flock(&other, FlockOperation::NonBlockingLockExclusive).unwrap();
    let flags = rustix::io::fcntl_getfd(&other).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
}

#[test]
fn no_more_is_mapped_than_there_is() {
    let place = Place::new();
    let segment = create(&place.domain, "a", 1).unwrap();
    let file = fs::File::options().read(true).write(true).open(segment.path()).unwrap();
    for size in [PAGE + 1, 2 * PAGE, usize::MAX] {
        for found in
            [Mapping::of(&file, size).map(drop), ReadOnlyMapping::of(&file, size).map(drop)]
        {
            let Err(SegmentError::TooShort { path, found: 4096, wanted }) = &found else {
                panic!("{found:?}")
            };
            assert_eq!((&**path, *wanted), (segment.path(), size as u64));
        }
    }
    assert!(matches!(Mapping::of(&file, 0), Err(SegmentError::BadSize { found: 0, .. })));
    let directory = fs::File::open(&place.directory).unwrap();
    let found = Mapping::of(&directory, 1);
    assert!(matches!(found, Err(SegmentError::NotAFile { .. })), "{found:?}");
    let reading = fs::File::open(segment.path()).unwrap();
    assert!(Mapping::of(&reading, PAGE).is_err());
    assert_eq!(ReadOnlyMapping::of(&reading, PAGE).unwrap().len(), PAGE);
}

#[test]
fn sparse_until_allocated_and_after_it_is_punched() {
    let place = Place::new();
    let options = CreateOptions::sparse(64 * PAGE, 1);
    let (segment, ()) =
        Segment::create(&place.domain, &name("a"), options, |_| Ok::<_, SegmentError>(())).unwrap();
    let page = PAGE as u64;
    assert_eq!((segment.size(), segment.resident().unwrap()), (64 * PAGE, page));
    segment.allocate(8 * PAGE..10 * PAGE).unwrap();
    assert_eq!(segment.resident().unwrap(), 3 * page);
    segment.allocate(9 * PAGE + 5..11 * PAGE + 5).unwrap();
    assert_eq!(segment.resident().unwrap(), 5 * page, "widened to whole pages");
    set(&segment, 9 * PAGE / 4, 3);
    segment.allocate(8 * PAGE..12 * PAGE).unwrap();
    assert_eq!(word(&segment, 9 * PAGE / 4), 3, "what is there stays");
    segment.populate(20 * PAGE..21 * PAGE).unwrap();
    assert_eq!(segment.resident().unwrap(), 6 * page);
    // SAFETY: nobody uses any of it.
    unsafe { segment.punch(8 * PAGE..12 * PAGE) }.unwrap();
    assert_eq!(segment.resident().unwrap(), 2 * page);
    segment.allocate(8 * PAGE..12 * PAGE).unwrap();
    assert_eq!(word(&segment, 9 * PAGE / 4), 0);
    segment.allocate(5..5).unwrap();
    // SAFETY: as above.
    unsafe { segment.punch(0..0) }.unwrap();

    #[expect(clippy::reversed_empty_ranges, reason = "a bad range")]
    let bad = [0..64 * PAGE + 1, 2 * PAGE..PAGE, usize::MAX..usize::MAX];
    for range in bad {
        let found = segment.allocate(range.clone());
        assert!(matches!(found, Err(SegmentError::BadRange { .. })), "{range:?}: {found:?}");
    }
    // SAFETY: as above.
    let found = unsafe { segment.punch(1..PAGE) };
    assert!(matches!(found, Err(SegmentError::BadRange { .. })), "{found:?}");
}

#[test]
fn sizes() {
    let place = Place::new();
    let made = |size| {
        let options = CreateOptions::sparse(size, 0);
        Segment::create(&place.domain, &name("a"), options, |_| Ok(()))
    };
    for size in [0, usize::MAX, usize::MAX - PAGE, isize::MAX as usize, isize::MAX as usize - PAGE]
    {
        let found = made(size);
        let refused = match &found {
            // Larger than addresses, or larger than there are addresses left.
            Err(SegmentError::BadSize { .. }) => true,
            Err(SegmentError::NoMemory { .. }) => size < isize::MAX as usize,
            _ => false,
        };
        assert!(refused, "{size}: {found:?}");
        assert_eq!(place.files(), [""; 0]);
    }
    assert_eq!(made(1).unwrap().0.size(), PAGE);
}

#[test]
fn forks_and_programs_do_not_inherit_it() {
    let place = Place::new();
    let segment = create(&place.domain, "a", 1).unwrap();
    let start = format!("{:x}-", segment.region().base().addr());
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let ours = smaps.split_once(&start).expect("mapped").1;
    let flags = ours.lines().find(|line| line.starts_with("VmFlags:")).unwrap();
    assert!(flags.split(' ').any(|flag| flag == "dc"), "{flags}");
}

#[test]
fn reading_only() {
    let place = Place::new();
    let mine = create(&place.domain, "a", u32::from_le_bytes(*b"abcd")).unwrap();
    set(&mine, 1, u32::from_le_bytes(*b"efgh"));
    set(&mine, PAGE / 4 - 1, u32::from_le_bytes(*b"wxyz"));
    let (seen, first) =
        ReadOnlySegment::open(&place.domain, &name("a"), OpenOptions::new(4), |segment| {
            let mut first = [0; 1];
            segment.mapping().copy(0, &mut first).map_err(|error| segment.refused(error))?;
            Ok::<_, SegmentError>(first[0])
        })
        .unwrap();
    assert_eq!(first, b'a');
    let all = b"abcdefgh";
    for start in 0..8 {
        for end in start..8 {
            let mut copy = vec![0; end - start];
            seen.mapping().copy(start, &mut copy).unwrap();
            assert_eq!(copy, all[start..end]);
        }
    }
    let mut end = [0; 3];
    seen.mapping().copy(PAGE - 3, &mut end).unwrap();
    assert_eq!(&end, b"xyz");
    for offset in [PAGE - 2, PAGE, usize::MAX] {
        assert!(seen.mapping().copy(offset, &mut end).is_err(), "{offset}");
    }
    // SAFETY: only its address is looked at.
    let region = unsafe { seen.mapping().region_for_reading() };
    let start = format!("{:x}-", region.base().addr());
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let ours = maps.lines().find(|line| line.starts_with(&start)).unwrap();
    assert!(ours.contains(" r--s "), "{ours}");
    let found = seen.refused("of no kind");
    assert!(found.to_string().contains("of no kind"), "{found}");
}

/// A length that is no multiple of a word.
#[test]
fn reading_the_last_bytes() {
    let place = Place::new();
    let path = place.directory.join("odd");
    std::fs::write(&path, b"123456").unwrap();
    let seen = ReadOnlyMapping::of(std::fs::File::open(&path).unwrap(), 6).unwrap();
    let mut bytes = [0; 5];
    seen.copy(1, &mut bytes).unwrap();
    assert_eq!(&bytes, b"23456");
    assert!(seen.copy(2, &mut bytes).is_err());
}

#[test]
fn huge_pages_are_a_wish() {
    let place = Place::new();
    let plain = create(&place.domain, "plain", 1).unwrap();
    assert_eq!(plain.mapping().huge_pages(), HugePages::NotAsked);
    assert_eq!(plain.mapping().huge_bytes().unwrap(), 0);
    let options = CreateOptions::new(4 << 20).huge_pages(true).populate(true);
    let (huge, ()) =
        Segment::create(&place.domain, &name("huge"), options, |_| Ok::<_, SegmentError>(()))
            .unwrap();
    assert_ne!(huge.mapping().huge_pages(), HugePages::NotAsked);
    assert!(huge.mapping().huge_bytes().unwrap() <= 4 << 20);
    let options = OpenOptions::new(4).huge_pages(true);
    let (theirs, ()) =
        Segment::open(&place.domain, &name("huge"), options, |_| Ok::<_, SegmentError>(()))
            .unwrap();
    assert_eq!(theirs.mapping().huge_pages(), huge.mapping().huge_pages());
}

#[test]
fn populated_at_once() {
    let place = Place::new();
    let options = CreateOptions::new(32 * PAGE).populate(true);
    let (segment, ()) =
        Segment::create(&place.domain, &name("a"), options, |_| Ok::<_, SegmentError>(())).unwrap();
    let start = format!("{:x}-", segment.region().base().addr());
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let ours = smaps.split_once(&start).expect("mapped").1;
    let resident = ours.lines().find(|line| line.starts_with("Rss:")).unwrap();
    assert_eq!(resident.split_ascii_whitespace().nth(1), Some("128"), "{resident}");
}

#[test]
fn for_this_user_alone_whatever_the_umask() {
    const TEST: &str = "for_this_user_alone_whatever_the_umask";
    if !is_alone(TEST) {
        return alone(TEST);
    }
    let place = Place::new();
    for mask in [0, 0o777] {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask));
        let made = create(&place.domain, "a", 1).unwrap();
        assert_eq!(fs::metadata(made.path()).unwrap().mode() & 0o7777, 0o600);
        open(&place.domain, "a").unwrap();
        unlink(&place.domain, "a").unwrap();
    }
}

#[test]
fn for_a_group() {
    const TEST: &str = "for_a_group";
    if !is_alone(TEST) {
        return alone(TEST);
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let place = Place::new();
    // Root may give files to any group.
    let root = rustix::process::geteuid().is_root();
    let gid = if root { 54321 } else { rustix::process::getegid().as_raw() };
    let domain = place.domain.clone().of_group(gid);
    let made = create(&domain, "a", 1).unwrap();
    let found = fs::metadata(made.path()).unwrap();
    assert_eq!((found.mode() & 0o7777, found.gid()), (0o660, gid));
    open(&domain, "a").unwrap();
    // The user's own domain of that name is another.
    let other = open(&place.domain, "a");
    assert!(matches!(other, Err(SegmentError::NotFound { .. })), "{other:?}");
    if root {
        let theirs = place.domain.clone().of_group(54322);
        fs::rename(made.path(), theirs.path_of(&name("a"))).unwrap();
        let found = open(&theirs, "a");
        assert!(
            matches!(found, Err(SegmentError::NotOurGroup { found: 54321, wanted: 54322, .. })),
            "{found:?}"
        );
    }
}

#[test]
fn domains_do_not_meet() {
    let place = Place::new();
    let other = Domain::new("other").unwrap().in_directory(&place.directory);
    let _ours = create(&place.domain, "a", 1).unwrap();
    let _theirs = create(&other, "a", 2).unwrap();
    let _third = create(&other, "b.c", 3).unwrap();
    assert_eq!(word(&open(&place.domain, "a").unwrap(), 0), 1);
    assert_eq!(word(&open(&other, "a").unwrap(), 0), 2);
    let listed = |domain: &Domain| {
        let mut names: Vec<_> =
            domain.segments().unwrap().map(|name| name.unwrap().to_string()).collect();
        names.sort();
        names
    };
    assert_eq!(listed(&place.domain), ["a"]);
    assert_eq!(listed(&other), ["a", "b.c"]);
    // What is no segment of ours is not listed.
    fs::create_dir(place.path("directory")).unwrap();
    std::os::unix::fs::symlink(place.path("a"), place.path("link")).unwrap();
    fs::write(place.directory.join("unrelated"), "").unwrap();
    assert_eq!(listed(&place.domain), ["a"]);
    let nowhere = Domain::new("x").unwrap().in_directory(place.directory.join("nowhere"));
    assert!(nowhere.segments().is_err());
}

#[test]
fn names() {
    let long = "x".repeat(161);
    for (name, wanted) in [("", "empty"), (&*long, "161 bytes"), ("a/b", "'/'"), ("a\0", "'\\0'")] {
        let error = SegmentName::new(name).unwrap_err().to_string();
        assert!(error.contains(wanted) && error.contains("segment"), "{error}");
        let error = Domain::new(name).unwrap_err().to_string();
        assert!(error.contains(wanted) && error.contains("domain"), "{error}");
    }
    assert!(matches!(Domain::new("a.b"), Err(NameError::Has { byte: b'.', at: 1, .. })));
    assert!(Domain::new(&"x".repeat(64)).is_ok() && Domain::new(&"x".repeat(65)).is_err());
    // The longest there is, and odd ones, are files.
    let place = Place::new();
    let domain = Domain::new(&"d".repeat(64)).unwrap().in_directory(&place.directory);
    for name in [&"x".repeat(160), "..", ".", " ", "\n", "ü"] {
        create(&domain, name, 1).unwrap();
        assert!(unlink(&domain, name).unwrap());
    }
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn the_domain_of_the_environment() {
    const TEST: &str = "the_domain_of_the_environment";
    if !is_alone(TEST) {
        let run = |value: Option<&str>, wanted: &str| {
            let mut command = segment_help::again(TEST);
            command.env("SHM_TEST_ALONE", TEST).env("WANTED", wanted).env_remove("SHM_DOMAIN");
            if let Some(value) = value {
                command.env("SHM_DOMAIN", value);
            }
            assert!(command.output().unwrap().status.success(), "{value:?}");
        };
        run(None, "default");
        run(Some("mine"), "mine");
        run(Some(""), "refused");
        run(Some("a/b"), "refused");
        return;
    }
    let found = Domain::from_environment();
    let found = found.as_ref().map_or("refused", Domain::name);
    assert_eq!(Some(found), std::env::var("WANTED").ok().as_deref());
}

#[test]
fn in_the_directory_of_the_system() {
    let domain = Domain::new(&unique()).unwrap();
    let made = create(&domain, "a", 1).unwrap();
    assert!(made.path().starts_with("/dev/shm/"));
    open(&domain, "a").unwrap();
    assert!(made.unlink_own(|_| Ok::<_, SegmentError>(true)).unwrap());
    assert_eq!(domain.segments().unwrap().count(), 0);
}
