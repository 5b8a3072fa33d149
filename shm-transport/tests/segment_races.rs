//! Many processes create, open and unlink the same few names at once, and some are killed
//! meanwhile. Nobody sees half a segment, nothing is unlinked that a living process has a place in,
//! and at the end nothing is left.
#![cfg(target_os = "linux")]

mod segment_help;

use segment_help::{Parties, Place, again, name};
use shm_primitives::sync::{
    AtomicU32,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use shm_transport::domain::Domain;
use shm_transport::segment::{CreateOptions, OpenOptions, Origin, Segment, SegmentError};
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

const NAMES: [&str; 3] = ["x", "y", "z"];
/// Words of a segment: three pages, so that it takes a while to write.
const WORDS: usize = 3 * 1024;
/// Places for process ids, after the words that say what the content is.
const PLACES: usize = 128;
const SEED: usize = PLACES;
const CONTENT: usize = PLACES + 1;

fn words(segment: &Segment) -> &[AtomicU32] {
    AtomicU32::slice_at(&segment.region(), segment.size() / 4).unwrap()
}

fn content(seed: u32, index: usize) -> u32 {
    seed.wrapping_mul(0x9e37_79b9) ^ (index as u32).wrapping_mul(0x85eb_ca6b) | 1
}

fn initialise(segment: &Segment, seed: u32) {
    let words = words(segment);
    words[SEED].store(seed, Relaxed);
    for (index, word) in words.iter().enumerate().skip(CONTENT) {
        word.store(content(seed, index), Relaxed);
        if index.is_multiple_of(512) {
            std::thread::yield_now();
        }
    }
}

fn check(segment: &Segment) -> Result<(), SegmentError> {
    let words = words(segment);
    if words.len() != WORDS {
        return Err(segment.refused(format!("{} words", words.len())));
    }
    let seed = words[SEED].load(Relaxed);
    for (index, word) in words.iter().enumerate().skip(CONTENT) {
        let found = word.load(Relaxed);
        if found != content(seed, index) {
            return Err(segment.refused(format!("word {index} is {found:#x}, seed {seed}")));
        }
    }
    Ok(())
}

/// A place of this process's own.
fn claim(segment: &Segment) -> Result<usize, SegmentError> {
    let pid = std::process::id();
    let places = &words(segment)[..PLACES];
    // Dead ones' places stay as they are: there are enough.
    (0..PLACES)
        .find(|place| places[*place].compare_exchange(0, pid, AcqRel).is_ok())
        .ok_or_else(|| segment.refused("no place is free"))
}

fn is_alive(pid: u32) -> bool {
    // The third word is the state, after the name in brackets. A killed child that nobody has
    // waited for is dead.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    !(state.is_empty() || state.starts_with(['Z', 'X']))
}

fn no_live_place(segment: &Segment) -> Result<bool, SegmentError> {
    check(segment)?;
    Ok(words(segment)[..PLACES].iter().all(|place| match place.load(Acquire) {
        0 => true,
        pid => !is_alive(pid),
    }))
}

/// What a party does, again and again, until it is killed or told to end.
fn party(domain: &Domain, seed: u32, parent: u32) {
    // A generator of its own: what is done when depends on nothing else.
    let mut state = u64::from(seed) << 1 | 1;
    let mut random = move |below: u32| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as u32 % below
    };
    let (mut opened, mut created, mut unlinked, mut missed) = (0, 0, 0, 0);
    let mut round = 0_u32;
    // A few times in any case, or those that were started last would have done nothing.
    while round < 30 || !fs::exists(domain.directory().join("end")).unwrap() {
        // It would never be told to end.
        assert_eq!(std::os::unix::process::parent_id(), parent, "the parent is gone");
        round += 1;
        let named = name(NAMES[random(NAMES.len() as u32) as usize]);
        let options = OpenOptions::new(WORDS * 4).patience(Duration::from_secs(30));
        let create = CreateOptions::new(WORDS * 4).populate(random(2) == 0);
        let checked = |segment: &Segment| {
            check(segment)?;
            claim(segment)
        };
        let made = |segment: &Segment| {
            initialise(segment, seed.wrapping_mul(1000).wrapping_add(round));
            claim(segment)
        };
        let had = match random(3) {
            0 => Segment::create(domain, &named, create, made).map(|(segment, place)| {
                created += 1;
                (segment, place)
            }),
            1 => Segment::open(domain, &named, options, checked),
            _ => Segment::open_or_create(domain, &named, options, create, checked, made).map(
                |(segment, place, origin)| {
                    if origin == Origin::Created {
                        created += 1;
                    }
                    (segment, place)
                },
            ),
        };
        match had {
            Ok((segment, place)) => {
                opened += 1;
                for _ in 0..random(4) {
                    assert!(segment.has_name().unwrap(), "unlinked with a living process in it");
                    check(&segment).unwrap();
                    std::thread::sleep(Duration::from_micros(random(200).into()));
                }
                assert!(segment.has_name().unwrap(), "unlinked with a living process in it");
                let ours = &words(&segment)[place];
                assert_eq!(ours.load(Relaxed), std::process::id(), "our place was taken");
                ours.store(0, Release);
            }
            Err(SegmentError::NotFound { .. } | SegmentError::AlreadyExists { .. }) => missed += 1,
            Err(error) => panic!("{error}"),
        }
        if random(2) == 0 {
            match Segment::unlink(domain, &named, options, no_live_place) {
                Ok(gone) => unlinked += u32::from(gone),
                Err(SegmentError::NotFound { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
    println!("did {opened} {created} {unlinked} {missed}");
}

#[test]
fn many_at_once_some_killed() {
    const TEST: &str = "many_at_once_some_killed";
    if let Some(directory) = std::env::var_os("SHM_TEST_DIRECTORY") {
        let [seed, parent] = ["SHM_TEST_SEED", "SHM_TEST_PARENT"]
            .map(|variable| std::env::var(variable).unwrap().parse().unwrap());
        return party(&Domain::new("race").unwrap().in_directory(directory), seed, parent);
    }
    let place = Place::new();
    let directory = &place.directory;
    let domain = Domain::new("race").unwrap().in_directory(directory);
    let start = |seed: u32| {
        again(TEST)
            .env("SHM_TEST_DIRECTORY", directory)
            .env("SHM_TEST_SEED", seed.to_string())
            .env("SHM_TEST_PARENT", std::process::id().to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };

    let mut running = Parties((1..=6).map(start).collect());
    let mut killed = Parties(Vec::new());
    let rounds = 60;
    for round in 0..rounds {
        // Long enough to have begun, and then wherever it is.
        std::thread::sleep(Duration::from_micros(20_000 + round * 997 % 10_000));
        let index = round as usize % running.0.len();
        let mut victim = std::mem::replace(&mut running.0[index], start(100 + round as u32));
        if let Some(status) = victim.try_wait().unwrap() {
            let said = victim.wait_with_output().unwrap();
            panic!("{status}: {}", String::from_utf8_lossy(&said.stderr));
        }
        victim.kill().unwrap();
        // Not waited for: its number must not become another's while it stands in a place.
        killed.0.push(victim);
    }

    fs::write(directory.join("end"), "").unwrap();
    let mut sums = [0_u32; 4];
    for child in std::mem::take(&mut running.0) {
        let done = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        let errors = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{}: {said} {errors}", done.status);
        // The harness may have begun the line.
        let line = said.lines().find_map(|line| line.split_once("did ")).expect(&said).1;
        for (sum, count) in sums.iter_mut().zip(line.split(' ')) {
            *sum += count.parse::<u32>().unwrap();
        }
    }
    let [opened, created, unlinked, missed] = sums;
    eprintln!("the survivors: {opened} had, {created} made, {unlinked} unlinked, {missed} missed");
    // Each kind of thing has happened, or this has proven nothing.
    assert!(sums.iter().all(|count| *count > 0), "{sums:?}");

    // The kernel may still be clearing away what the last ones had; they stay zombies, for their
    // numbers' sake.
    killed.have_ended();
    // Everybody is dead: every segment there is whole, and may go.
    let left: Vec<_> = domain.segments().unwrap().map(Result::unwrap).collect();
    for named in left {
        let options = OpenOptions::new(WORDS * 4).patience(Duration::ZERO);
        assert!(Segment::unlink(&domain, &named, options, no_live_place).unwrap(), "{named}");
    }
    fs::remove_file(directory.join("end")).unwrap();
    assert_eq!(place.files(), [""; 0]);
}

/// Where a party of [`killed_and_stopped_in_the_middle`] stops until it is killed.
const MIDDLES: [&str; 3] = ["create", "open", "unlink"];

fn stay() -> ! {
    println!("in the middle");
    loop {
        std::thread::sleep(Duration::from_secs(1));
        // Nobody would end it.
        let parent: u32 = std::env::var("SHM_TEST_PARENT").unwrap().parse().unwrap();
        assert_eq!(std::os::unix::process::parent_id(), parent, "the parent is gone");
    }
}

#[test]
fn killed_and_stopped_in_the_middle() {
    const TEST: &str = "killed_and_stopped_in_the_middle";
    let options = OpenOptions::new(WORDS * 4).patience(Duration::from_millis(20));
    let create = CreateOptions::new(WORDS * 4);
    if let Some(directory) = std::env::var_os("SHM_TEST_DIRECTORY") {
        let domain = Domain::new("middle").unwrap().in_directory(directory);
        let done = match std::env::var("SHM_TEST_MIDDLE").unwrap().as_str() {
            "create" => Segment::create(&domain, &name("new"), create, |segment| {
                initialise(segment, 1);
                stay()
            })
            .map(|(_, ())| ()),
            "open" => Segment::open(&domain, &name("x"), options, |segment| {
                claim(segment).unwrap();
                stay()
            })
            .map(|(_, ())| ()),
            _ => Segment::unlink(&domain, &name("x"), options, |_| stay()).map(drop),
        };
        return done.unwrap_or_else(|error: SegmentError| panic!("{error}"));
    }
    let place = Place::new();
    let domain = Domain::new("middle").unwrap().in_directory(&place.directory);
    let made = |segment: &Segment| {
        initialise(segment, 5);
        Ok::<_, SegmentError>(())
    };
    Segment::create(&domain, &name("x"), create, made).unwrap();
    let before = place.files();
    for middle in MIDDLES {
        let child = again(TEST)
            .env("SHM_TEST_DIRECTORY", &place.directory)
            .env("SHM_TEST_MIDDLE", middle)
            .env("SHM_TEST_PARENT", std::process::id().to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut child = Parties(vec![child]);
        let pid = child.0[0].id();
        let mut said = BufReader::new(child.0[0].stdout.take().unwrap()).lines();
        assert!(said.any(|line| line.unwrap().ends_with("in the middle")), "{middle}");
        assert_eq!(place.files(), before, "{middle}");

        // As long as it lives, it is in the way of those whom it has to keep out, and says so.
        let opened = Segment::open(&domain, &name("x"), options, check).map(drop);
        let gone = Segment::unlink(&domain, &name("x"), options, |_| Ok(false)).map(drop);
        let kept_out = match middle {
            "create" => {
                // Nobody knows of it, and the name is free.
                Segment::create(&domain, &name("new"), create, made).unwrap();
                assert!(Segment::unlink(&domain, &name("new"), options, no_live_place).unwrap());
                [opened.is_err(), gone.is_err()] == [false, false]
            }
            "open" => opened.is_ok() && is_held_by(&gone, pid),
            _ => is_held_by(&opened, pid) && is_held_by(&gone, pid),
        };
        assert!(kept_out, "{middle}: {opened:?} {gone:?}");

        // Killed, it is in nobody's way.
        child.0[0].kill().unwrap();
        child.have_ended();
        assert_eq!(place.files(), before, "{middle}");
        Segment::open(&domain, &name("x"), options, |segment| {
            check(segment)?;
            let taken = words(segment)[..PLACES].iter().any(|place| place.load(Acquire) != 0);
            assert_eq!(taken, middle != "create", "only what the opener claimed is left");
            Ok::<_, SegmentError>(())
        })
        .unwrap();
    }
    assert!(Segment::unlink(&domain, &name("x"), options, no_live_place).unwrap());
    assert_eq!(place.files(), [""; 0]);
}

/// Whether it was the lock that was in the way, and the kernel says whose.
fn is_held_by(found: &Result<(), SegmentError>, pid: u32) -> bool {
    // It says nobody to a process whose /proc is of another pid namespace.
    matches!(found, Err(SegmentError::Busy { holder, .. }) if holder.is_none_or(|one| one == pid))
}
