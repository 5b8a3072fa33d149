//! Members of a domain join, have segments of their own and places in others', and are killed:
//! nobody has an id twice, what the dead held comes back, and in the end nothing is left.
#![cfg(target_os = "linux")]

mod segment_help;

use segment_help::{Parties, Place, again, name, word};
use shm_primitives::identity::{Dead, OwnerId};
use shm_primitives::part::{ClaimError, End, Kind};
use shm_primitives::ring::spsc::{Options, SpscRingRef};
use shm_primitives::segment::{self as layout, Known, Magic, NewPart, PartId, Plan};
use shm_primitives::table::SlotTable;
use shm_transport::domain::{Domain, SegmentName};
use shm_transport::liveness::{LivenessError, Verdict};
use shm_transport::member::{JoinOptions, Member, MemberError, remove_if_deserted};
use shm_transport::segment::{CreateOptions, OpenOptions, Segment, SegmentError};
use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

#[test]
fn joining_and_leaving() {
    let place = Place::new();
    let domain = &place.domain;
    assert!(!remove_if_deserted(domain).unwrap(), "there is none");
    let first = Member::join(domain, "first").unwrap();
    let second = Member::join(domain, "second").unwrap();
    assert_ne!(first.id(), second.id());
    assert_eq!(place.files().len(), 1);
    let names: HashSet<_> =
        second.processes().processes().map(|found| found.unwrap().name).collect();
    assert_eq!(names, HashSet::from(["first".into(), "second".into()]));
    assert_eq!(second.processes().convict(first.id()).unwrap(), Verdict::Alive);
    assert!(!remove_if_deserted(domain).unwrap(), "two live in it");
    let gone = first.id();
    // SAFETY: it held nothing.
    assert!(!unsafe { first.leave() }.unwrap(), "not the last one");
    convicted(&second, gone);
    // SAFETY: as above.
    assert!(unsafe { second.leave() }.unwrap(), "the last one");
    assert_eq!(place.files(), [""; 0]);
}

/// The proof that one who has left is gone: at once, but for other tests that are just starting
/// programs; see `liveness`.
fn convicted(member: &Member, gone: OwnerId) -> Dead<OwnerId> {
    let proof = |_| {
        let dead = member.processes().convict(gone).unwrap().dead();
        if dead.is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        dead
    };
    (0..10_000).find_map(proof).expect("it has left")
}

#[test]
fn dropping_is_not_leaving() {
    let place = Place::new();
    let id = Member::join(&place.domain, "dropped").unwrap().id();
    let other = Member::join(&place.domain, "other").unwrap();
    assert_eq!(other.processes().convict(id).unwrap(), Verdict::Alive, "its process lives");
    // SAFETY: it held nothing.
    assert!(!unsafe { other.leave() }.unwrap());
}

#[test]
fn what_is_refused() {
    let place = Place::new();
    let domain = &place.domain;
    for records in [0, 4097] {
        let found = Member::join_with(domain, "none", JoinOptions::new().records(records));
        assert!(
            matches!(found, Err(MemberError::BadRecords { found, most: 4096 }) if found == records)
        );
    }
    let long = "x".repeat(33);
    let found = Member::join(domain, &long).unwrap_err();
    assert!(matches!(found, MemberError::Liveness(LivenessError::NameTooLong { found: 33, .. })));
    assert_eq!(place.files(), [""; 0], "nothing is left of a failure");

    let two = JoinOptions::new().records(2);
    let mut members = vec![
        Member::join_with(domain, "a", two).unwrap(),
        Member::join_with(domain, "b", two).unwrap(),
    ];
    let full = Member::join_with(domain, "c", two).unwrap_err();
    assert!(matches!(full, MemberError::Liveness(LivenessError::Full(_))), "{full}");
    // SAFETY: it held nothing.
    unsafe { members.remove(0).leave() }.unwrap();
    members.push(Member::join(domain, "c").unwrap());
    for member in members {
        // SAFETY: as above.
        unsafe { member.leave() }.unwrap();
    }
    assert_eq!(place.files(), [""; 0]);

    // Something else under that name is said to be so, and stays.
    segment_help::create(domain, "members", 7).unwrap();
    let found = Member::join(domain, "d").unwrap_err();
    assert!(matches!(found, MemberError::Layout { .. }), "{found}");
    assert!(matches!(remove_if_deserted(domain), Err(MemberError::Layout { .. })));
    assert_eq!(word(&segment_help::open(domain, "members").unwrap(), 0), 7);
}

/// Two processes that died as members of a domain that has room for two.
const CHILD: &str = "the_dead";
const TWO: JoinOptions = JoinOptions::new().records(2);

#[test]
fn the_dead() {
    if let Some(directory) = std::env::var_os("SHM_TEST_DIRECTORY") {
        let domain = Domain::new("test").unwrap().in_directory(directory);
        for name in ["one", "two"] {
            println!("id {}", Member::join_with(&domain, name, TWO).unwrap().id().word());
        }
    }
}

fn of_the_dead(place: &Place) -> [OwnerId; 2] {
    let done = again(CHILD).env("SHM_TEST_DIRECTORY", &place.directory).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let said = String::from_utf8(done.stdout).unwrap();
    let ids = said.lines().filter_map(|line| Some(line.rsplit_once("id ")?.1.parse().unwrap()));
    let ids: Vec<_> = ids.map(|word| OwnerId::from_word(word).unwrap()).collect();
    ids.try_into().unwrap()
}

/// Whose table it is.
fn inode(place: &Place) -> u64 {
    fs::metadata(place.path("members")).unwrap().ino()
}

/// All records are the dead's, and none is free: they make room, in the table that there is.
#[test]
fn a_domain_of_the_dead() {
    let place = Place::new();
    let dead = of_the_dead(&place);
    let table = inode(&place);
    let member = Member::join_with(&place.domain, "late", TWO).unwrap();
    assert_eq!(inode(&place), table, "the same table");
    assert_eq!(member.processes().processes().count(), 1, "the others were cleared");
    // What they held elsewhere can be recovered yet.
    for id in dead {
        assert_ne!(member.id(), id);
        assert!(member.processes().convict(id).unwrap().dead().is_some());
    }
    // SAFETY: it held nothing.
    assert!(unsafe { member.leave() }.unwrap());
    assert_eq!(place.files(), [""; 0]);
}

/// Several find it so at once: each has a record, and none an id of the dead.
#[test]
fn the_dead_make_room_for_all_who_come() {
    for _ in 0..10 {
        let place = Place::new();
        let dead = of_the_dead(&place);
        let begin = Barrier::new(2);
        let join = || {
            begin.wait();
            Member::join_with(&place.domain, "late", TWO).map(|member| member.id())
        };
        let ids = thread::scope(|scope| {
            [scope.spawn(join), scope.spawn(join)].map(|joined| joined.join().unwrap().unwrap())
        });
        assert_ne!(ids[0], ids[1]);
        assert!(ids.iter().all(|id| !dead.contains(id)), "{ids:?} {dead:?}");
    }
}

/// One who cleared the records of the dead was killed at it, having taken one over.
#[test]
fn who_clears_a_domain_of_the_dead_may_die() {
    let place = Place::new();
    let dead = of_the_dead(&place);
    let options = OpenOptions::new(64);
    let (segment, ()) =
        Segment::open(&place.domain, &name("members"), options, |_| Ok::<_, SegmentError>(()))
            .unwrap();
    let table = PartId { kind: Kind::SLOT_TABLE, role: 0 };
    let known = Known::<1>::new(Magic(u32::from_be_bytes(*b"PROC")), 1, [table]);
    let found = layout::Segment::attach(segment.region(), &known).unwrap();
    let tag = u32::from_le_bytes(*b"PROC");
    let table = SlotTable::<[u32; 16], 2>::attach(&found.require(table).unwrap(), tag).unwrap();
    // As whom it does that: see `liveness`.
    let before = |id: OwnerId| OwnerId::new(id.index(), OwnerId::MAX_GENERATION).unwrap();
    let slot = |id: OwnerId| {
        // SAFETY: its process has ended.
        let proof = unsafe { Dead::assume(id) };
        table.recover(proof, before(id)).unwrap().next().unwrap()
    };
    let _ = slot(dead[1]).keep();
    let member = Member::join_with(&place.domain, "late", TWO).unwrap();
    assert!(!dead.contains(&member.id()));
    assert_eq!(member.processes().verdicts().count(), 1);
    for id in dead {
        assert!(member.processes().convict(id).unwrap().dead().is_some());
    }
}

/// The last one leaves, and a dead one's places are not recovered yet: its id must not be given to
/// another, nor be unknown.
#[test]
fn the_dead_are_not_forgotten_when_the_last_one_leaves() {
    const TEST: &str = "the_dead_are_not_forgotten_when_the_last_one_leaves";
    if let Some(directory) = std::env::var_os("SHM_TEST_DIRECTORY") {
        let domain = Domain::new("test").unwrap().in_directory(directory);
        let dead = Member::join(&domain, "child").unwrap();
        fs::write(domain.directory().join("id"), dead.id().word().to_string()).unwrap();
        std::mem::forget(dead);
        return;
    }
    let place = Place::new();
    let done = again(TEST).env("SHM_TEST_DIRECTORY", &place.directory).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let id = fs::read_to_string(place.directory.join("id")).unwrap().parse().unwrap();
    let dead = OwnerId::from_word(id).unwrap();
    fs::remove_file(place.directory.join("id")).unwrap();

    let passing_by = Member::join(&place.domain, "passing by").unwrap();
    // SAFETY: it held nothing.
    assert!(!unsafe { passing_by.leave() }.unwrap(), "a dead one has a record");
    let heir = Member::join(&place.domain, "heir").unwrap();
    assert_ne!(heir.id(), dead);
    let dead = heir.processes().convict(dead).unwrap().dead().expect("dead");
    assert_eq!(heir.processes().clear(dead, heir.membership()).unwrap(), 1);
    // SAFETY: it held nothing.
    assert!(unsafe { heir.leave() }.unwrap());
    assert_eq!(place.files(), [""; 0]);
}

/// The same id is alive in one domain and dead in another.
#[test]
fn a_proof_is_good_in_its_own_domain() {
    let (here, there) = (Place::new(), Place::new());
    let heirs = [&here, &there].map(|place| Member::join(&place.domain, "heir").unwrap());
    let others = [&here, &there].map(|place| Member::join(&place.domain, "other").unwrap());
    let [alive, other] = others;
    assert_eq!(alive.id(), other.id());
    let id = other.id();
    // SAFETY: it held nothing.
    unsafe { other.leave() }.unwrap();
    let dead = convicted(&heirs[1], id);
    assert_eq!(heirs[0].processes().clear(dead, heirs[0].membership()).unwrap(), 0);
    assert!(heirs[0].processes().process(alive.id()).unwrap().is_some(), "its record");
}

const RING: PartId = PartId { kind: Kind::SPSC_RING, role: 0 };
const OPTIONS: Options = Options::new(16);
const MAGIC: Magic = Magic(u32::from_be_bytes(*b"TEST"));
const KNOWN: Known<1> = Known::new(MAGIC, 1, [RING]);
const PARTS: [NewPart; 1] =
    [NewPart::required(RING, OPTIONS.required_size::<u32>().unwrap() as u64)];
const PLAN: Plan<'static> = Plan::new(MAGIC, 1, &PARTS);

fn in_segment(segment: &Segment) -> impl Fn(layout::SegmentError) -> SegmentError {
    |error| segment.refused(error.to_string())
}

/// The owner of a segment, if it has one.
fn owner(segment: &Segment) -> Result<Option<OwnerId>, SegmentError> {
    let refused = in_segment(segment);
    match layout::Segment::attach(segment.region(), &KNOWN) {
        Ok(found) => found.owner().map_err(|corrupt| segment.refused(corrupt.to_string())),
        Err(layout::SegmentError::Closing { .. }) => Ok(None),
        Err(error) => Err(refused(error)),
    }
}

/// Whether the segment may go: it is nobody's, or a dead one's.
fn may_go(member: &Member, segment: &Segment) -> Result<bool, SegmentError> {
    Ok(match owner(segment)? {
        None => true,
        Some(owner) => member.processes().convict(owner).unwrap().dead().is_some(),
    })
}

/// Removes what the dead have left, and gives their records back.
fn clean(domain: &Domain, member: &Member) {
    let options = OpenOptions::new(64).patience(Duration::from_secs(30));
    for named in domain.segments().unwrap().map(Result::unwrap) {
        if named.as_str() == "members" {
            continue;
        }
        match Segment::unlink(domain, &named, options, |segment| may_go(member, segment)) {
            Ok(_) | Err(SegmentError::NotFound { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    let dead: Vec<_> =
        member.processes().verdicts().filter_map(|found| found.unwrap().1.dead()).collect();
    for dead in dead {
        member.processes().clear(dead, member.membership()).unwrap();
    }
}

/// Joins, makes a segment with a ring, writes to others' rings, looks after the dead, leaves; until
/// it is killed or told to end.
fn party(domain: &Domain, seed: u32, parent: u32) {
    let options = OpenOptions::new(64).patience(Duration::from_secs(30));
    let (mut round, mut sent, mut taken_over) = (0, 0, 0);
    // A few times in any case, or those that were started last would have done nothing.
    while round < 3 || !fs::exists(domain.directory().join("end")).unwrap() {
        assert_eq!(std::os::unix::process::parent_id(), parent, "the parent is gone");
        round += 1;
        let member = match Member::join(domain, &format!("party {seed}")) {
            Ok(member) => member,
            Err(error) => panic!("{error}"),
        };
        println!("id {}", member.id().word());
        let id = member.id();
        let named = SegmentName::new(&format!("ring-{}", seed % 3)).unwrap();
        let create = CreateOptions::new(PLAN.required_size().unwrap());
        let made = Segment::create(domain, &named, create, |segment| {
            let refused = in_segment(segment);
            // SAFETY: it has no name yet.
            let creating = unsafe { layout::Segment::create(segment.region(), &PLAN, id) }
                .map_err(&refused)?;
            // SAFETY: as above.
            unsafe { SpscRingRef::<u32>::init_at(creating.part(RING).unwrap(), OPTIONS) }
                .map_err(|error| segment.refused(error))?;
            // The owner word stays: it is what shows that the segment is somebody's.
            creating.publish().keep();
            Ok::<_, SegmentError>(())
        });
        for other in 0..3 {
            let named = SegmentName::new(&format!("ring-{other}")).unwrap();
            let opened = Segment::open(domain, &named, options, |segment| {
                layout::Segment::attach(segment.region(), &KNOWN)
                    .map(drop)
                    .map_err(in_segment(segment))
            });
            let segment = match opened {
                Ok((segment, ())) => segment,
                Err(SegmentError::NotFound { .. }) => continue,
                Err(SegmentError::NotASegment { why, .. }) if why.to_string().contains("clos") => {
                    continue;
                }
                Err(error) => panic!("{error}"),
            };
            let Ok(found) = layout::Segment::attach(segment.region(), &KNOWN) else { continue };
            // SAFETY: whoever writes there uses this crate.
            let ring =
                unsafe { SpscRingRef::<u32>::attach(found.require(RING).unwrap(), Some(16)) };
            let ring = ring.unwrap();
            let producer = match ring.claim_producer(id) {
                Ok(producer) => Ok(producer),
                Err(ClaimError::Owned(holder)) if holder != id => {
                    match member.processes().convict(holder).unwrap() {
                        Verdict::Dead(dead) => {
                            let taken = ring.recover_producer(dead, id);
                            taken_over += u32::from(taken.is_ok());
                            taken
                        }
                        Verdict::Alive => continue,
                        Verdict::Unknown => panic!("an end of {holder}, whom nobody knows"),
                    }
                }
                Err(error) => Err(error),
            };
            match producer {
                Ok(mut producer) => {
                    sent += u32::from(producer.push(round).is_ok());
                    assert_eq!(
                        ring.owner(End::Writing).unwrap(),
                        Some(id),
                        "taken from the living"
                    );
                }
                // Somebody was faster.
                Err(ClaimError::Owned(_) | ClaimError::NotTheOwner { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        clean(domain, &member);
        if let Ok((segment, ())) = made {
            assert!(segment.has_name().unwrap(), "unlinked with its owner alive");
            segment.unlink_own(|_| Ok::<_, SegmentError>(true)).unwrap();
        }
        // SAFETY: every end was given back, and its segment has no name any more.
        if let Err(error) = unsafe { member.leave() } {
            panic!("{error}");
        }
    }
    println!("did {round} {sent} {taken_over}");
}

#[test]
fn many_at_once_some_killed() {
    const TEST: &str = "many_at_once_some_killed";
    if let Some(directory) = std::env::var_os("SHM_TEST_DIRECTORY") {
        let [seed, parent] = ["SHM_TEST_SEED", "SHM_TEST_PARENT"]
            .map(|variable| std::env::var(variable).unwrap().parse().unwrap());
        return party(&Domain::new("test").unwrap().in_directory(directory), seed, parent);
    }
    let place = Place::new();
    let domain = &place.domain;
    let start = |seed: u32| {
        again(TEST)
            .env("SHM_TEST_DIRECTORY", &place.directory)
            .env("SHM_TEST_SEED", seed.to_string())
            .env("SHM_TEST_PARENT", std::process::id().to_string())
            .stdout(Stdio::from(
                fs::File::create(place.directory.join(format!("out-{seed}"))).unwrap(),
            ))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    // Somebody lives all the time, so that one table has all the ids.
    let keeper = Member::join(domain, "keeper").unwrap();
    let mut running = Parties((0..5).map(start).collect());
    let mut killed = Parties(Vec::new());
    let mut seeds = 5;
    for round in 0..40_u64 {
        std::thread::sleep(Duration::from_micros(15_000 + round * 997 % 10_000));
        let index = round as usize % running.0.len();
        let mut victim = std::mem::replace(&mut running.0[index], start(seeds));
        seeds += 1;
        if let Some(status) = victim.try_wait().unwrap() {
            let said = victim.wait_with_output().unwrap();
            panic!("{status}: {}", String::from_utf8_lossy(&said.stderr));
        }
        victim.kill().unwrap();
        killed.0.push(victim);
    }
    fs::write(place.directory.join("end"), "").unwrap();
    for child in std::mem::take(&mut running.0) {
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    killed.have_ended();
    let (mut ids, mut sums) = (HashSet::from([keeper.id().word()]), [0; 3]);
    for seed in 0..seeds {
        let path = place.directory.join(format!("out-{seed}"));
        for line in BufReader::new(fs::File::open(&path).unwrap()).lines() {
            // A line may be cut off by the kill, or begun by the harness.
            let line = line.unwrap();
            if let Some((_, id)) = line.rsplit_once("id ")
                && let Ok(id) = id.parse()
            {
                assert!(ids.insert(id), "{id:#x} was given out twice");
            }
            if let Some((_, counts)) = line.split_once("did ") {
                for (sum, count) in sums.iter_mut().zip(counts.split(' ')) {
                    *sum += count.parse::<u32>().unwrap();
                }
            }
        }
        fs::remove_file(path).unwrap();
    }
    let [rounds, sent, taken_over] = sums;
    eprintln!(
        "{} ids; the survivors: {rounds} rounds, {sent} sent, {taken_over} taken over",
        ids.len()
    );
    assert!(rounds > 0 && sent > 0, "{sums:?}");

    // The kernel has cleared away what the dead had by the time their status was there, or soon.
    for _ in 0..1000 {
        let alive = |found: Result<(OwnerId, Verdict), LivenessError>| {
            let (id, verdict) = found.unwrap();
            id != keeper.id() && verdict == Verdict::Alive
        };
        if !keeper.processes().verdicts().any(alive) {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    clean(domain, &keeper);
    fs::remove_file(place.directory.join("end")).unwrap();
    assert_eq!(keeper.processes().processes().count(), 1, "all records came back");
    assert_eq!(
        domain.segments().unwrap().map(|n| n.unwrap()).collect::<Vec<_>>(),
        [name("members")]
    );
    // SAFETY: it holds nothing.
    assert!(unsafe { keeper.leave() }.unwrap());
    assert_eq!(place.files(), [""; 0]);
}
