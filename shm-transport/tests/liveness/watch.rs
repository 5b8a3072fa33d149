//! Silence is not death, and death is noticed.

use crate::child::{Child, Memory, signal_to};
use crate::lock::contained;
use crate::table::{Mapped, enrol, enrolled, memory, soon_dead};
use shm_primitives::identity::OwnerId;
use shm_transport::liveness::{DeathWatch, LivenessError, ProcessTable, Suspect, Verdict, Watch};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

fn far() -> Option<Instant> {
    Some(Instant::now() + 30 * SECOND)
}

#[test]
fn the_silent_are_suspects() {
    let memory = memory();
    let mapped = Mapped::of(memory.as_fd());
    let table = mapped.create(memory.as_fd(), 20);
    let (one, two) = (enrol(&table, "one"), enrol(&table, "two"));
    let begin = Instant::now();
    let mut watch = Watch::new(3 * SECOND);
    let mut look = |seconds| -> Vec<(OwnerId, Duration)> {
        let suspects = watch.look(&table, begin + seconds * SECOND);
        suspects.iter().map(|suspect: &Suspect| (suspect.id(), suspect.silent())).collect()
    };
    assert_eq!(look(0), []);
    assert_eq!(look(2), []);
    one.beat();
    assert_eq!(look(3), [(two.id(), 3 * SECOND)]);
    assert_eq!(look(5), [(two.id(), 5 * SECOND)]);
    assert_eq!(look(6), [(two.id(), 6 * SECOND), (one.id(), 3 * SECOND)], "the longest first");
    // Suspected for an hour and alive.
    two.beat();
    assert_eq!(look(3606), [(one.id(), 3603 * SECOND)]);
    assert_eq!(table.convict(one.id()), Ok(Verdict::Alive));
    // Another in the same record begins anew.
    let gone = one.id();
    drop(one);
    let three = enrol(&table, "three");
    assert_eq!(three.id().index(), gone.index());
    assert_eq!(look(3608), []);
    assert_eq!(look(3611), [(two.id(), 5 * SECOND), (three.id(), 3 * SECOND)]);
    // A clock that goes back suspects nobody.
    assert_eq!(look(0), []);
}

#[test]
fn a_suspect_is_convicted_by_the_kernel_alone() {
    let memory = memory();
    let mapped = Mapped::of(memory.as_fd());
    let table = mapped.create(memory.as_fd(), 20);
    let mut child = Child::start(&memory.path());
    let id = enrolled(&mut child);
    child.signal(libc::SIGSTOP);
    let suspect = Watch::new(Duration::ZERO).look(&table, Instant::now())[0];
    assert_eq!((suspect.id(), suspect.convict(&table)), (id, Ok(Verdict::Alive)));
    child.signal(libc::SIGCONT);
    child.kill();
    soon_dead(&table, id);
    assert_eq!(suspect.convict(&table).unwrap().dead().unwrap().id(), id);
}

#[test]
fn deaths_are_told_once_each() {
    let memory = memory();
    let mapped = Mapped::of(memory.as_fd());
    let table = mapped.create(memory.as_fd(), 20);
    let mut children: Vec<_> = (0..4).map(|_| Child::start(&memory.path())).collect();
    let ids: Vec<_> = children.iter_mut().map(enrolled).collect();
    let mut watch = DeathWatch::new(&table);
    assert_eq!(watch.wait(None), Ok(None), "nobody is watched");
    for &id in ids.iter().chain(&ids) {
        watch.add(id).unwrap();
    }
    assert_eq!(watch.ids().collect::<Vec<_>>(), ids);
    // Nobody dies.
    let begun = Instant::now();
    let patience = Duration::from_millis(150);
    assert_eq!(watch.wait(Some(begun + patience)), Ok(None));
    assert!(begun.elapsed() >= patience);

    for order in [2, 0] {
        children[order].signal(libc::SIGKILL);
        assert_eq!(watch.wait(far()).unwrap().unwrap().id(), ids[order]);
    }
    assert_eq!(watch.ids().collect::<Vec<_>>(), [ids[1], ids[3]]);
    // Who dies unwatched is told when he is watched again.
    watch.remove(ids[3]);
    children[3].kill();
    assert_eq!(watch.wait(Some(Instant::now() + patience)), Ok(None));
    watch.add(ids[3]).unwrap();
    assert_eq!(watch.wait(far()).unwrap().unwrap().id(), ids[3]);
    // Who stops does not die.
    children[1].signal(libc::SIGSTOP);
    assert_eq!(watch.wait(Some(Instant::now() + patience)), Ok(None));
    let never = OwnerId::new(19, 5).unwrap();
    assert_eq!(watch.add(never), Err(LivenessError::Unknown { id: never }));
}

#[test]
fn who_leaves_or_runs_another_program_is_told_too() {
    let memory = memory();
    let mapped = Mapped::of(memory.as_fd());
    let table = mapped.create(memory.as_fd(), 20);
    let mut child = Child::start(&memory.path());
    let mut watch = DeathWatch::new(&table);
    let first = enrolled(&mut child);
    watch.add(first).unwrap();
    assert_eq!(child.ask(&format!("leave {}", first.word())), "left");
    assert_eq!(watch.wait(far()).unwrap().unwrap().id(), first);
    let second = enrolled(&mut child);
    watch.add(second).unwrap();
    // While it is waited for.
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| watch.wait(far()));
        std::thread::sleep(Duration::from_millis(30));
        child.tell("exec");
        assert_eq!(waiter.join().unwrap().unwrap().unwrap().id(), second);
    });
}

/// Its first process is reaped, its number may be another's, its pidfd has told; and its memory
/// is still there for somebody to write through.
#[test]
fn memory_that_another_has_too_outlives_its_process() {
    let memory = memory();
    let mapped = Mapped::of(memory.as_fd());
    let table = mapped.create(memory.as_fd(), 20);
    let mut child = Child::start(&memory.path());
    let id = enrolled(&mut child);
    let mut watch = DeathWatch::new(&table);
    watch.add(id).unwrap();
    let sharer: u32 = child.ask("share").parse().unwrap();
    child.kill();
    let patience = Duration::from_millis(300);
    assert_eq!(watch.wait(Some(Instant::now() + patience)), Ok(None));
    assert_eq!(table.convict(id), Ok(Verdict::Alive));
    signal_to(sharer, libc::SIGKILL);
    assert_eq!(watch.wait(far()).unwrap().unwrap().id(), id);
}

#[test]
fn across_namespaces_locks_tell() {
    let memory = memory();
    let mapped = Mapped::of(memory.as_fd());
    mapped.create(memory.as_fd(), 20);
    let Some(mut inside) = contained(&memory) else { return };
    let mut outside = Child::start(&memory.path());
    let id = enrolled(&mut outside);
    inside.tell(&format!("wait-for {}", id.word()));
    assert_eq!(inside.hear(), "waiting");
    outside.kill();
    assert_eq!(inside.hear(), id.word().to_string());
}

/// How long it takes from the kill until the proof is at hand. Printed, not compared with
/// anything.
#[test]
fn how_soon() {
    let memory: Memory = memory();
    let mapped = Mapped::of(memory.as_fd());
    let table: ProcessTable<'_> = mapped.create(memory.as_fd(), 20);
    let me = enrol(&table, "me");
    let mut took = Vec::new();
    let mut late = 0;
    for _ in 0..20 {
        let mut child = Child::start(&memory.path());
        let id = enrolled(&mut child);
        let mut watch = DeathWatch::new(&table);
        watch.add(id).unwrap();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| (watch.wait(far()), Instant::now()));
            std::thread::sleep(Duration::from_millis(2));
            let killed = Instant::now();
            child.signal(libc::SIGKILL);
            let (dead, told) = waiter.join().unwrap();
            took.push(told.duration_since(killed));
            assert_eq!(table.clear(dead.unwrap().unwrap(), &me), Ok(1));
        });
        // Whether a parent can know of the end before the lock has fallen.
        let mut child = Child::start(&memory.path());
        let id = enrolled(&mut child);
        child.kill();
        if table.convict(id) == Ok(Verdict::Alive) {
            late += 1;
            soon_dead(&table, id);
        }
        table.clear(table.convict(id).unwrap().dead().unwrap(), &me).unwrap();
    }
    took.sort();
    let (median, worst) = (took[took.len() / 2], took[took.len() - 1]);
    println!("from kill to proof: median {median:?}, worst {worst:?}; {late} of 20 reaped first");
    let begun = Instant::now();
    for _ in 0..1000 {
        assert_eq!(table.convict(me.id()), Ok(Verdict::Alive));
    }
    println!("a verdict: {:?}", begun.elapsed() / 1000);
}
