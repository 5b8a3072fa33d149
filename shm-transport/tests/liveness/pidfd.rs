//! A process is never taken for another one.

use crate::child::{Child, Memory};
use crate::lock::contained;
use shm_transport::liveness::{LivenessError, PidFd, ProcessIdentity};
use std::time::{Duration, Instant};

fn memory() -> Memory {
    Memory::new(4096)
}

#[test]
fn notices_an_end_and_nothing_else() {
    let memory = memory();
    let mut child = Child::start(&memory.path());
    let pidfd = PidFd::open(&child.identity()).unwrap();
    assert!(!pidfd.has_ended().unwrap());
    let begun = Instant::now();
    let wait = Duration::from_millis(50);
    assert!(!pidfd.wait(Some(begun + wait)).unwrap());
    assert!(begun.elapsed() >= wait);
    child.signal(libc::SIGSTOP);
    assert!(!pidfd.wait(Some(Instant::now() + wait)).unwrap());
    child.signal(libc::SIGCONT);
    assert_eq!(child.ask("end-first-thread"), "still here");
    assert_eq!(child.hear(), "true");
    assert!(!pidfd.wait(Some(Instant::now() + wait)).unwrap(), "its first thread is not it");
    // Not reaped.
    child.signal(libc::SIGKILL);
    assert!(pidfd.wait(Some(Instant::now() + Duration::from_secs(30))).unwrap());
    assert!(pidfd.has_ended().unwrap());
}

#[test]
fn a_number_is_not_a_process() {
    let memory = memory();
    let mut child = Child::start(&memory.path());
    let identity = child.identity();
    let gone = LivenessError::ProcessGone { pid: identity.pid };
    let open = |identity| PidFd::open(&identity).map(drop);
    assert_eq!(open(identity), Ok(()));
    assert_eq!(open(ProcessIdentity { start: identity.start + 1, ..identity }), Err(gone.clone()));
    assert_eq!(
        open(ProcessIdentity { pid: 0, ..identity }),
        Err(LivenessError::ProcessGone { pid: 0 })
    );
    let pid = u32::MAX;
    assert_eq!(open(ProcessIdentity { pid, ..identity }), Err(LivenessError::ProcessGone { pid }));
    let elsewhere = LivenessError::Elsewhere { pid: identity.pid };
    let namespace = identity.namespace ^ 1;
    assert_eq!(open(ProcessIdentity { namespace, ..identity }), Err(elsewhere.clone()));
    let boot = identity.boot ^ 1;
    assert_eq!(open(ProcessIdentity { boot, ..identity }), Err(elsewhere));
    // A zombie still has its number, and has ended.
    child.signal(libc::SIGKILL);
    let zombie = PidFd::open(&identity).unwrap();
    assert!(zombie.wait(Some(Instant::now() + Duration::from_secs(30))).unwrap());
    child.kill();
    assert_eq!(open(identity), Err(gone));
}

#[test]
fn a_number_given_out_again_is_another_process() {
    let memory = memory();
    let Some(mut inside) = contained(&memory) else { return };
    let answer = inside.ask("reuse");
    if !answer.starts_with("true ") {
        eprintln!("SKIPPED: numbers cannot be chosen here: {answer}");
        return;
    }
    assert_eq!(answer, "true true true", "opened, the same number, and not the same process");
}

#[test]
fn processes_of_other_namespaces_are_elsewhere() {
    let memory = memory();
    let Some(mut inside) = contained(&memory) else { return };
    let there = inside.identity();
    assert_eq!(PidFd::open(&there).unwrap_err(), LivenessError::Elsewhere { pid: there.pid });
}
