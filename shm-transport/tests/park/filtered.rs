//! What the kernel says about it: a filter of system calls as witness.

use crate::peer::{Counting, Shared, eventually, owner};
use rustix::process::Signal;
use shm_primitives::sync::Ordering::Relaxed;
use shm_primitives::wake::{Deadline, Park, WakeWord};
use shm_transport::park::FutexPark;
use std::time::Duration;

/// Lets this thread make those system calls alone, or all but those; others have that outcome.
fn filter(calls: &[libc::c_long], allowed: bool, otherwise: u32) {
    let statement = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
    let allow = statement((libc::BPF_RET | libc::BPF_K) as u16, libc::SECCOMP_RET_ALLOW);
    let deny = statement((libc::BPF_RET | libc::BPF_K) as u16, otherwise);
    let (listed, others) = if allowed { (allow, deny) } else { (deny, allow) };
    // The number of the call is the first word that a filter sees.
    let mut program = vec![statement((libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, 0)];
    for &call in calls {
        let code = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        program.push(libc::sock_filter { code, jt: 0, jf: 1, k: call as u32 });
        program.push(listed);
    }
    program.push(others);
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the filter is well formed, and the kernel copies it.
    let refused = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            | libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
    };
    assert_eq!(refused, 0, "{}", std::io::Error::last_os_error());
}

/// Ends the process with no more calls than one.
fn exit(code: i32) -> ! {
    // SAFETY: nothing of the test needs to be torn down.
    unsafe { libc::_exit(code) }
}

/// A process that is killed at its first system call sends and receives: it makes none.
#[test]
fn the_kernel_sees_no_call() {
    let shared = Shared::new();
    assert!(shared.start("filtered::talk_without_calls").ends_well(), "it made a system call");
    assert_eq!(shared.cell(0).load(Relaxed), 1000);
}

/// And the filter would have noticed: one wake, and it is killed.
#[test]
fn the_kernel_would_see_a_call() {
    let shared = Shared::new();
    shared.cell(1).store(1, Relaxed);
    assert!(!shared.start("filtered::talk_without_calls").ends_well());
    assert_eq!(shared.cell(0).load(Relaxed), 1000, "not at once");
}

#[test]
#[ignore = "run by others in a process of its own"]
fn talk_without_calls() {
    let Some(shared) = Shared::inherited() else { return };
    let park = FutexPark::new();
    let mut writer = shared.ring(0).claim_writer(owner(1)).unwrap();
    let mut reader = shared.ring(0).claim_reader(owner(2)).unwrap();
    let (mut waiter, mut notifier) = (shared.word(0).waiter(), shared.word(0).notifier());
    let mut shared_notifier = shared.word(0).shared_notifier();
    filter(&[libc::SYS_exit_group], true, libc::SECCOMP_RET_KILL_PROCESS);
    for n in 0..1000u32 {
        writer.push(&n.to_le_bytes()).unwrap();
        notifier.notify(&park);
        shared_notifier.notify(&park);
        let frame = reader.read_wait(&mut waiter, &park, Deadline::NEVER).unwrap();
        if *frame != n.to_le_bytes() {
            exit(2);
        }
        frame.release();
        shared.cell(0).store(n + 1, Relaxed);
    }
    if shared.cell(1).load(Relaxed) == 1 {
        shared.word(1).nudge(&park);
    }
    exit(0)
}

/// Where futexes are forbidden waits are slow, end at their deadline, find what comes, and do not
/// spin.
#[test]
fn without_futexes() {
    assert!(FutexPark::new().check().is_ok());
    let shared = Shared::new();
    assert!(shared.start("filtered::wait_without_futexes").ends_well());
}

#[test]
#[ignore = "run by others in a process of its own"]
fn wait_without_futexes() {
    if Shared::inherited().is_none() {
        return;
    }
    filter(&[libc::SYS_futex], false, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32);
    let ok = std::panic::catch_unwind(|| {
        let park = Counting::new(FutexPark::new().without_spinning());
        let error = park.park.check().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSYS));
        let word = WakeWord::new();
        // Again if the deadline had passed before it came to sleep.
        for _ in 0..100 {
            let before = park.calls().0;
            let deadline = Deadline::after(&park, Duration::from_millis(30));
            assert!(!word.waiter().wait(&park, deadline, || false));
            assert!(park.now() >= deadline.nanoseconds(), "too early");
            assert!(park.calls().0 - before <= 35, "{:?}", park.calls());
            if park.calls().0 > before {
                break;
            }
        }
        assert!(park.calls().0 > 0, "nobody slept");
        let mut looks = 0;
        assert!(word.waiter().wait(&park, Deadline::NEVER, || {
            looks += 1;
            looks == 10
        }));
        word.nudge(&park);
    });
    exit(i32::from(ok.is_err()))
}

/// A process that is killed while it sleeps leaves the word as good as it was.
#[test]
fn a_waiter_killed_asleep() {
    let shared = Shared::new();
    let mut peer = shared.start("echo");
    eventually("it does not sleep", || shared.epoch(0).load(Relaxed) % 2 == 1);
    rustix::process::kill_process(peer.pid(), Signal::KILL).unwrap();
    assert!(!peer.ends_well());
    let park = Counting::unbounded(FutexPark::new());
    let (word, there) = (shared.word(0), std::sync::atomic::AtomicBool::new(false));
    std::thread::scope(|scope| {
        let mut waiter = word.waiter();
        let dead = shared.epoch(0).load(Relaxed);
        let (there, park) = (&there, &park);
        scope.spawn(move || waiter.wait(park, Deadline::NEVER, || there.load(Relaxed)));
        eventually("the successor does not sleep", || {
            let epoch = shared.epoch(0).load(Relaxed);
            epoch % 2 == 1 && epoch != dead
        });
        there.store(true, Relaxed);
        word.notifier().notify(park);
    });
}
