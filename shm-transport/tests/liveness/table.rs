//! Processes that enrol, leave and die.

use crate::child::{Child, Memory, signal_to, soon};
use crate::lock::contained;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};
use shm_primitives::identity::OwnerId;
use shm_primitives::part::AttachError;
use shm_primitives::region::Region;
use shm_primitives::table::{Options, SlotTable};
use shm_transport::liveness::{
    ByteLock, LivenessError, Membership, Process, ProcessIdentity, ProcessTable, Verdict,
};
use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::time::Duration;

const RECORDS: u32 = 20;

/// The whole of a file, mapped.
pub struct Mapped {
    base: NonNull<u8>,
    len: usize,
}

impl Mapped {
    pub fn of(file: BorrowedFd<'_>) -> Self {
        let len = rustix::fs::fstat(file).unwrap().st_size as usize;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping where the kernel likes.
        let base = unsafe {
            let base = mmap(std::ptr::null_mut(), len, access, MapFlags::SHARED, file, 0).unwrap();
            madvise(base, len, Advice::LinuxDontFork).unwrap();
            base
        };
        Self { base: NonNull::new(base.cast()).unwrap(), len }
    }

    pub fn region(&self) -> Region<'_> {
        // SAFETY: mapped as long as self is; only tables are made there.
        unsafe { Region::new(self.base, self.len) }
    }

    pub fn create(&self, file: BorrowedFd<'_>, records: u32) -> ProcessTable<'_> {
        // SAFETY: a mapping of this file, in which all use one table alone.
        unsafe { ProcessTable::create_at(&self.region(), records, file) }.unwrap()
    }

    pub fn attach(&self, file: BorrowedFd<'_>) -> ProcessTable<'_> {
        // SAFETY: as above.
        unsafe { ProcessTable::attach(&self.region(), file) }.unwrap()
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: mapped by `of`; tables borrow from self.
        unsafe { munmap(self.base.as_ptr().cast(), self.len) }.unwrap();
    }
}

pub fn memory() -> Memory {
    Memory::new(ProcessTable::required_size(RECORDS).unwrap() as u64)
}

pub fn enrol<'a>(table: &ProcessTable<'a>, name: &str) -> Membership<'a> {
    // SAFETY: no test holds anything under its ids.
    unsafe { table.enrol(name) }.unwrap()
}

pub fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Alive => "alive",
        Verdict::Dead(_) => "dead",
        Verdict::Unknown => "unknown",
    }
}

/// Enrols a child.
pub fn enrolled(child: &mut Child) -> OwnerId {
    OwnerId::from_word(child.ask("enrol child").parse().unwrap()).unwrap()
}

fn is(table: &ProcessTable<'_>, id: OwnerId, wanted: &str) -> bool {
    verdict(table.convict(id).unwrap()) == wanted
}

/// Soon: another thread of this process that starts a program at the moment at which one enrols
/// keeps the description until its child is that program.
pub fn soon_dead(table: &ProcessTable<'_>, id: OwnerId) {
    soon("it is convicted", || is(table, id, "dead"));
}

#[test]
fn a_record_says_who() {
    let memory = memory();
    let mapped = Mapped::of(memory.as_fd());
    let table = mapped.create(memory.as_fd(), RECORDS);
    let longest = "name of thirty-two bytes, ä and ü";
    let me = enrol(&table, &longest[..31]);
    let identity = ProcessIdentity::current().unwrap();
    let name = longest[..31].to_owned();
    let process = Process { id: me.id(), identity, name, role: 0 };
    assert_eq!(table.process(me.id()), Ok(Some(process.clone())));
    let mut child = Child::start(&memory.path());
    let id = enrolled(&mut child);
    let other = table.process(id).unwrap().unwrap();
    assert_eq!((other.id, other.identity), (id, child.identity()));
    assert_eq!(other.name, "child");
    let all: Result<Vec<_>, _> = table.processes().collect();
    assert_eq!(all, Ok(vec![process, other]));

    assert_eq!((table.heartbeat(id), table.state(id)), (Some(0), Some(0)));
    assert_eq!(child.ask("beat"), "beaten");
    me.set_state(7);
    assert_eq!((table.heartbeat(id), table.state(me.id())), (Some(1), Some(7)));
    assert_eq!((table.heartbeat(me.id()), table.state(id)), (Some(0), Some(0)));
}

#[test]
fn names_are_checked() {
    let memory = memory();
    let mapped = Mapped::of(memory.as_fd());
    let table = mapped.create(memory.as_fd(), RECORDS);
    let name = "x".repeat(ProcessTable::MAX_NAME + 1);
    // SAFETY: refused.
    let too_long = unsafe { table.enrol(&name) }.map(drop);
    assert_eq!(too_long, Err(LivenessError::NameTooLong { found: 33, max: 32 }));
    // SAFETY: refused.
    assert_eq!(unsafe { table.enrol("a\0b") }.map(drop), Err(LivenessError::NameHasZero));
    assert_eq!(table.processes().count(), 0);
    for name in ["", &name[1..]] {
        let member = enrol(&table, name);
        assert_eq!(table.process(member.id()).unwrap().unwrap().name, name);
    }
}

#[test]
fn the_living_are_alive_and_the_dead_dead() {
    let memory = memory();
    let mapped = Mapped::of(memory.as_fd());
    let table = mapped.create(memory.as_fd(), RECORDS);
    let me = enrol(&table, "me");
    let mut child = Child::start(&memory.path());
    let id = enrolled(&mut child);
    assert!(is(&table, me.id(), "alive") && is(&table, id, "alive"));
    assert_eq!(child.ask(&format!("convict {}", me.id().word())), "alive");
    assert_eq!(child.ask(&format!("convict {}", id.word())), "alive", "its own lock too");

    child.kill();
    soon_dead(&table, id);
    // Its record says who it was until it is cleared.
    assert_eq!(table.process(id).unwrap().unwrap().name, "child");
    let dead = table.convict(id).unwrap().dead().unwrap();
    assert_eq!(dead.id(), id);
    assert_eq!(table.clear(dead, &me), Ok(1));
    assert_eq!(table.clear(dead, &me), Ok(0));
    assert_eq!(table.process(id), Ok(None));
    assert!(is(&table, id, "dead"), "what it held elsewhere can be recovered yet");

    // The next one there is another.
    let next = enrol(&table, "next");
    assert_eq!(next.id().index(), id.index());
    assert_ne!(next.id(), id);
    assert!(is(&table, id, "dead") && is(&table, next.id(), "alive"));
    assert_eq!(table.clear(dead, &me), Ok(0));
    assert!(table.process(next.id()).unwrap().is_some());
}

#[test]
fn who_has_left_is_dead_under_that_id() {
    let memory = memory();
    let mapped = Mapped::of(memory.as_fd());
    let table = mapped.create(memory.as_fd(), RECORDS);
    let mut child = Child::start(&memory.path());
    let id = enrolled(&mut child);
    assert_eq!(child.ask(&format!("leave {}", id.word())), "left");
    assert_eq!(table.process(id), Ok(None));
    assert!(is(&table, id, "dead"));
    let again = enrolled(&mut child);
    assert_ne!(again, id);
    assert!(is(&table, again, "alive") && is(&table, id, "dead"));
}

#[test]
fn nobody_is_convicted_who_was_never_there() {
    let memory = memory();
    let mapped = Mapped::of(memory.as_fd());
    let table = mapped.create(memory.as_fd(), RECORDS);
    let id = |index, generation| OwnerId::new(index, generation).unwrap();
    assert!(is(&table, id(0, 1), "unknown"), "it is the next that will be given out");
    let me = enrol(&table, "me");
    assert_eq!(me.id(), id(0, 1));
    assert!(is(&table, id(0, 1), "alive") && is(&table, id(0, 2), "unknown"));
    assert!(is(&table, id(1, 1), "unknown"));
    assert!(is(&table, id(RECORDS, 1), "unknown"), "no such record");
    assert!(is(&table, id(4095, OwnerId::MAX_GENERATION), "unknown"));
    drop(me);
    soon_dead(&table, id(0, 1));
    assert!(is(&table, id(0, 2), "unknown"));
    // An id that somebody has locked and not stored yet is not there either.
    let lock = ByteLock::take(memory.as_fd(), id(0, 2).word().into()).unwrap();
    assert!(is(&table, id(0, 2), "unknown"));
    // It is passed over.
    assert_eq!(enrol(&table, "me").id(), id(1, 1));
    drop(lock);
}

#[test]
fn generations_wrap() {
    let last = OwnerId::MAX_GENERATION;
    let memory = memory();
    let mapped = Mapped::of(memory.as_fd());
    let tag = u32::from_le_bytes(*b"PROC");
    let options = Options::new(RECORDS).tag(tag).generation(last - 1);
    SlotTable::<[u32; 16], 2>::init_at(&mapped.region(), options).unwrap();
    let table = mapped.attach(memory.as_fd());
    let id = |generation| OwnerId::new(0, generation).unwrap();
    let (mut given, mut members) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        members.clear();
        members.push(enrol(&table, "me"));
        given.push(members[0].id());
    }
    assert_eq!(given, [id(last), id(1), id(2)]);
    soon_dead(&table, id(last));
    soon_dead(&table, id(1));
    assert!(is(&table, id(2), "alive") && is(&table, id(3), "unknown"));
}

#[test]
fn a_table_has_its_own_errors() {
    let memory = memory();
    let mapped = Mapped::of(memory.as_fd());
    // SAFETY: a mapping of this file.
    let attach = || unsafe { ProcessTable::attach(&mapped.region(), memory.as_fd()) };
    let error = attach().unwrap_err();
    assert!(matches!(error, LivenessError::Attach(AttachError::WrongMagic { .. })), "{error}");
    // SAFETY: as above.
    let create = |records| unsafe {
        ProcessTable::create_at(&mapped.region(), records, memory.as_fd()).map(drop)
    };
    for records in [0, ProcessTable::MAX_RECORDS + 1] {
        assert_eq!(ProcessTable::required_size(records), None);
        let error = create(records).unwrap_err();
        assert!(
            matches!(error, LivenessError::Attach(AttachError::BadSlotCount { .. })),
            "{error}"
        );
    }
    let error = create(ProcessTable::MAX_RECORDS).unwrap_err();
    assert!(matches!(error, LivenessError::Attach(AttachError::TooSmall { .. })), "{error}");

    let table = mapped.create(memory.as_fd(), 2);
    let members = [enrol(&table, "one"), enrol(&table, "two")];
    // SAFETY: refused.
    let error = unsafe { table.enrol("three") }.unwrap_err();
    assert!(matches!(error, LivenessError::Full(full) if full.slots == 2), "{error}");
    drop(members);
    assert_eq!(enrol(&table, "three").id(), OwnerId::new(0, 2).unwrap());
    // Slots of another kind.
    SlotTable::<[u32; 16], 2>::init_at(&mapped.region(), Options::new(2)).unwrap();
    let error = attach().unwrap_err();
    assert!(matches!(error, LivenessError::Attach(AttachError::WrongLayout { .. })), "{error}");
}

#[test]
fn each_membership_is_one() {
    let memory = memory();
    let mapped = Mapped::of(memory.as_fd());
    let table = mapped.create(memory.as_fd(), RECORDS);
    let (one, two) = (enrol(&table, "one"), enrol(&table, "two"));
    assert_ne!(one.id(), two.id());
    let id = one.id();
    drop(one);
    soon_dead(&table, id);
    assert!(is(&table, two.id(), "alive"));
    // Another handle of the same table, as another thread may have.
    let again = mapped.attach(memory.as_fd());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let three = enrol(&again, "three");
            assert!(is(&table, three.id(), "alive"));
            std::mem::forget(three);
        });
    });
    // The thread has ended; it was not the member.
    let three = table.processes().map(Result::unwrap).find(|process| process.name == "three");
    assert!(is(&table, three.unwrap().id, "alive"));
}

#[test]
fn a_stopped_member_is_alive() {
    let memory = memory();
    let mapped = Mapped::of(memory.as_fd());
    let table = mapped.create(memory.as_fd(), RECORDS);
    let mut child = Child::start(&memory.path());
    let id = enrolled(&mut child);
    child.signal(libc::SIGSTOP);
    for _ in 0..100 {
        assert!(is(&table, id, "alive"));
        std::thread::sleep(Duration::from_millis(1));
    }
    child.signal(libc::SIGCONT);
    assert_eq!(child.ask("beat"), "beaten");
    assert_eq!(table.heartbeat(id), Some(1));
}

#[test]
fn a_fork_is_no_member() {
    let memory = memory();
    let mapped = Mapped::of(memory.as_fd());
    let table = mapped.create(memory.as_fd(), RECORDS);
    let mut child = Child::start(&memory.path());
    let id = enrolled(&mut child);
    assert_eq!(child.ask("take 5"), "true");
    assert_eq!(child.ask("fork-and-drop"), "0", "it touched memory that it has not");
    assert!(is(&table, id, "alive"));
    assert!(table.process(id).unwrap().is_some(), "it left in its parent's name");
    let fork: u32 = child.ask("fork").parse().unwrap();
    child.kill();
    soon_dead(&table, id);
    signal_to(fork, 0);
}

#[test]
fn another_program_is_no_member() {
    let memory = memory();
    let mapped = Mapped::of(memory.as_fd());
    let table = mapped.create(memory.as_fd(), RECORDS);
    let mut child = Child::start(&memory.path());
    let id = enrolled(&mut child);
    child.tell("exec");
    soon_dead(&table, id);
    let again = enrolled(&mut child);
    let identity = |id| table.process(id).unwrap().unwrap().identity;
    assert_eq!(identity(id), identity(again), "the same process, another member");
    assert!(is(&table, id, "dead") && is(&table, again, "alive"));
}

#[test]
fn members_of_other_namespaces() {
    let memory = memory();
    let mapped = Mapped::of(memory.as_fd());
    let table = mapped.create(memory.as_fd(), RECORDS);
    let me = enrol(&table, "me");
    let Some(mut inside) = contained(&memory) else { return };
    let id = enrolled(&mut inside);
    let there = table.process(id).unwrap().unwrap().identity;
    assert!(there.pid == 1 && !there.shares_pids_with(&ProcessIdentity::current().unwrap()));
    assert!(is(&table, id, "alive"));
    assert_eq!(inside.ask(&format!("convict {}", me.id().word())), "alive");
    let gone = me.id();
    drop(me);
    soon_dead(&table, gone);
    assert_eq!(inside.ask(&format!("convict {}", gone.word())), "dead");
    drop(inside);
    // What the namespace's first process was in ends by its end of input at the latest.
    soon_dead(&table, id);
}

#[test]
fn many_come_and_go_and_die() {
    const CHILDREN: usize = 8;
    const ROUNDS: usize = 150;
    let memory = memory();
    let mapped = Mapped::of(memory.as_fd());
    // As many records as there may be members, and one for us.
    let table = mapped.create(memory.as_fd(), CHILDREN as u32 + 1);
    let me = enrol(&table, "me");
    let mut ids = HashSet::from([me.id().word()]);
    let mut children: Vec<_> = (0..CHILDREN).map(|_| Child::start(&memory.path())).collect();
    for child in &mut children {
        child.tell(&format!("come-and-go {ROUNDS}"));
    }
    let mut lasts = Vec::new();
    for child in &mut children {
        let mut last = 0;
        loop {
            let answer = child.hear();
            let Ok(word) = answer.parse() else { break };
            last = word;
            assert!(ids.insert(word), "{word:#x} was given twice");
        }
        lasts.push(OwnerId::from_word(last).unwrap());
    }
    assert_eq!(ids.len(), 1 + CHILDREN * (ROUNDS + 1));
    for child in &mut children {
        child.process.wait().unwrap();
    }
    for id in lasts {
        soon_dead(&table, id);
        assert_eq!(table.process(id).unwrap().unwrap().name, "dying");
    }
    // All others have left: nothing but the dead and ourselves.
    let dead = table.verdicts().map(Result::unwrap).filter_map(|(_, verdict)| verdict.dead());
    assert_eq!(dead.map(|dead| table.clear(dead, &me).unwrap()).sum::<u32>(), CHILDREN as u32);
    assert_eq!(table.processes().count(), 1);
    let members: Vec<_> = (0..CHILDREN).map(|_| enrol(&table, "again")).collect();
    assert!(members.iter().all(|member| ids.insert(member.id().word())));
    drop(members);
    // And each id ever given but ours is dead.
    ids.remove(&me.id().word());
    ids.iter().for_each(|&word| soon_dead(&table, OwnerId::from_word(word).unwrap()));
}

#[test]
fn killed_wherever_they_are() {
    const CHILDREN: usize = 4;
    const ROUNDS: u64 = 40;
    let memory = memory();
    let mapped = Mapped::of(memory.as_fd());
    let table = mapped.create(memory.as_fd(), CHILDREN as u32 + 1);
    let me = enrol(&table, "me");
    let mut ids = HashSet::new();
    for round in 0..ROUNDS {
        let mut children: Vec<_> = (0..CHILDREN).map(|_| Child::start(&memory.path())).collect();
        for child in &mut children {
            child.tell("come-and-go 1000000");
            // They have begun.
            assert!(ids.insert(child.hear()));
        }
        std::thread::sleep(Duration::from_micros(37 * round));
        for child in &mut children {
            child.kill();
            for id in child.hear_all() {
                assert!(ids.insert(id.clone()), "{id} was given twice");
            }
        }
        // Whatever they were in the middle of: nobody but us holds a record for long.
        soon("all are cleared", || {
            for (id, verdict) in table.verdicts().map(Result::unwrap) {
                if let Verdict::Dead(dead) = verdict {
                    assert_ne!(id, me.id());
                    table.clear(dead, &me).unwrap();
                }
            }
            table.verdicts().count() == 1
        });
    }
    let members: Vec<_> = (0..CHILDREN).map(|_| enrol(&table, "again")).collect();
    assert!(members.iter().all(|member| ids.insert(member.id().word().to_string())));
}

#[test]
fn threads_may_share_it() {
    fn shared<T: Send + Sync>() {}
    shared::<ProcessTable<'_>>();
    shared::<Membership<'_>>();
}
