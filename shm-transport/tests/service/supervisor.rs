//! What supervisors do when something is not as it should be.

use crate::help::{
    DEAF, ECHO, PATIENCE, PID, Place, SIGNAL, client, server as server_of, soon, start,
};
use crate::segment_help::{again, alone, is_alone};
use rustix::process::{Pid, Signal, kill_process};
use shm_transport::domain::Domain;
use shm_transport::service::{
    CallError, Cause, Client, Hang, Priority, Program, Restart, Server, ServerBuilder, ServerError,
    ServiceState, Worker,
};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, Write};
use std::mem::ManuallyDrop;
use std::process::{Command, exit};
use std::thread;
use std::time::Duration;

const DIRECTORY: &str = "SHM_TEST_DIRECTORY";
/// Where a supervisor writes who shares its memory.
const SHARED: &str = "SHM_TEST_SHARED";

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// One ordinary worker.
fn server(place: &Place) -> ServerBuilder {
    server_of(place, "math").workers(1).vip_workers(0).messages(64).clients(4)
}

fn die(client: &Client) -> Result<Vec<u8>, CallError> {
    client.call(SIGNAL, &9u32.to_le_bytes(), Priority::Low, PATIENCE)
}

fn pid_of_worker(client: &Client) -> u32 {
    let found = client.call(PID, b"", Priority::Low, PATIENCE).unwrap();
    u32::from_le_bytes(found.try_into().unwrap())
}

/// What was taken until then is given back while it is there, and nothing is left.
#[test]
fn what_is_no_segment_of_letters_refuses_the_start() {
    const SELF: &str = "supervisor::what_is_no_segment_of_letters_refuses_the_start";
    if !is_alone(SELF) {
        return alone(SELF);
    }
    let place = Place::new();
    std::fs::write(place.path("letters.math"), [7; 8192]).unwrap();
    let error = server(&place).start().unwrap_err();
    assert!(error.to_string().contains("letters.math"), "{error}");
    let files = place.files();
    let of_the_service = |name: &&String| name.contains("service.") || name.contains("bells.");
    assert_eq!(files.iter().find(of_the_service), None);
    std::fs::remove_file(place.path("letters.math")).unwrap();
    start(server(&place)).stop(PATIENCE).unwrap();
}

/// Calls wait for the successor of the only worker that there is.
#[test]
fn calls_while_the_only_worker_is_restarted() {
    let place = Place::new();
    let server = start(server(&place));
    let client = client(&place, "math");
    let mut failed = Vec::new();
    thread::scope(|scope| {
        let restart = scope.spawn(|| server.rolling_restart());
        while !restart.is_finished() {
            failed.extend(client.call(ECHO, b"x", Priority::Low, PATIENCE).err());
        }
        restart.join().unwrap().unwrap();
    });
    drop(client);
    server.stop(PATIENCE).unwrap();
    assert!(failed.is_empty(), "{} of them, {}", failed.len(), failed[0]);
}

/// Times that no clock has.
#[test]
fn times_without_end_are_waited_for() {
    let place = Place::new();
    let restart = Restart { within: Duration::MAX, ..Restart::default() };
    let server = start(server(&place).restart(restart).drain(Duration::MAX));
    let client = client(&place, "math");
    assert!(matches!(die(&client), Err(CallError::WorkerCrashed { .. })));
    server.letters().unwrap().iter().for_each(|it| assert!(server.drop_letter(it.key).unwrap()));
    server.wait_until_up(PATIENCE).unwrap();
    let rolled = server.rolling_restart();
    let pid = rolled.is_ok().then(|| pid_of_worker(&client));
    drop(client);
    let stopped = rolled.and_then(|()| server.stop(Duration::MAX));
    if stopped.is_err()
        && let Some(pid) = pid
    {
        let _ = kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL);
    }
    stopped.unwrap();
    assert_eq!(server.state(), ServiceState::Stopped);
    drop(server);
    assert_eq!(place.files().iter().find(|name| name.contains("service.")), None);
}

/// All restarts wait for one that will be as soon as the pool allows, which is never.
#[test]
fn a_restart_may_have_to_wait_for_ever() {
    let place = Place::new();
    let restart = Restart { within: Duration::MAX, pool: 1, ..Restart::default() };
    let server = start(server(&place).restart(restart));
    let client = client(&place, "math");
    let first = die(&client);
    assert!(matches!(first, Err(CallError::WorkerCrashed { .. })), "{first:?}");
    soon("the second", || server.workers()[0].restarts == 1);
    server.wait_until_up(PATIENCE).unwrap();
    let second = die(&client);
    assert!(matches!(second, Err(CallError::WorkerCrashed { .. })), "{second:?}");
    soon("it waits", || server.workers()[0].reason.is_some());
    drop(client);
    server.letters().unwrap().iter().for_each(|it| assert!(server.drop_letter(it.key).unwrap()));
    server.stop(PATIENCE).unwrap();
}

/// A call is given up by its caller, and not for what hung before it under the same number.
#[test]
fn a_hang_of_a_former_client_cancels_no_call_of_the_next() {
    let place = Place::new();
    let hang = Hang {
        threshold: Some(ms(500)),
        confirm: ms(100),
        cancel: ms(0),
        abort: PATIENCE,
        kill: PATIENCE,
        ..Hang::default()
    };
    let server = start(server(&place).clients(1).hang(hang));
    let first = client(&place, "math");
    let hangs = first.call_async(DEAF, &2500u32.to_le_bytes(), Priority::Low).unwrap();
    // Until it is in hand.
    assert!(hangs.wait_progress(PATIENCE).is_some());
    drop(hangs);
    drop(first);
    let second = client(&place, "math");
    let found = second.call(ECHO, b"mine", Priority::Low, PATIENCE);
    drop(second);
    server.stop(PATIENCE).unwrap();
    assert_eq!(found.unwrap(), b"mine");
}

/// A supervisor that is killed.
#[test]
fn server_process() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    // SAFETY: a system call without memory.
    unsafe { libc::alarm(100) };
    let domain = Domain::new("test").unwrap().in_directory(directory);
    let place = ManuallyDrop::new(Place { domain, directory: "/nonexistent".into() });
    let _server = server(&place).start().unwrap();
    if let Some(file) = std::env::var_os(SHARED) {
        std::fs::write(file, share().to_string()).unwrap();
    }
    thread::sleep(PATIENCE);
    exit(1);
}

/// A child that has the very memory of this process, as a worker that is just spawned has.
fn share() -> i32 {
    extern "C" fn idle(_: *mut libc::c_void) -> i32 {
        // SAFETY: system calls without memory.
        unsafe {
            libc::alarm(100);
            loop {
                libc::pause();
            }
        }
    }
    let stack = vec![0u128; 4096].leak();
    // SAFETY: a stack that nobody else uses; what runs on it makes two system calls.
    let pid = unsafe {
        let top = stack.as_mut_ptr_range().end.cast();
        libc::clone(idle, top, libc::CLONE_VM | libc::SIGCHLD, std::ptr::null_mut())
    };
    assert!(pid > 0);
    pid
}

fn server_process_of(place: &Place) -> Command {
    let mut command = again("supervisor::server_process");
    command.env(DIRECTORY, &place.directory);
    command
}

/// One that was killed while it spawned a worker has its lock until that one is another program.
#[test]
fn a_supervisor_that_is_just_dying_is_waited_for() {
    let place = Place::new();
    let file = place.directory.join("shared");
    let mut first = server_process_of(&place).env(SHARED, &file).spawn().unwrap();
    let mut sharer = None;
    soon("its memory is shared", || {
        sharer = std::fs::read_to_string(&file).ok().and_then(|text| text.parse().ok());
        sharer.is_some()
    });
    // It lives: that is said at once.
    let error = server(&place).start().unwrap_err();
    assert!(matches!(error, ServerError::InUse { .. }), "{error}");
    first.kill().unwrap();
    first.wait().unwrap();
    let second = thread::scope(|scope| {
        let second = scope.spawn(|| server(&place).start());
        thread::sleep(ms(50));
        kill_process(Pid::from_raw(sharer.unwrap()).unwrap(), Signal::KILL).unwrap();
        second.join().unwrap()
    });
    let second = second.unwrap();
    second.wait_until_up(PATIENCE).unwrap();
    second.stop(PATIENCE).unwrap();
}

/// The process of a worker that its supervisor has not started.
#[test]
fn the_letter_of_an_adopted_worker_names_it() {
    let place = Place::new();
    let mut first = server_process_of(&place).spawn().unwrap();
    let client = client(&place, "math");
    let pid = pid_of_worker(&client);
    first.kill().unwrap();
    first.wait().unwrap();
    let server = start(server(&place));
    assert_eq!(pid_of_worker(&client), pid, "adopted");
    let found = die(&client);
    let letters = server.letters().unwrap();
    letters.iter().for_each(|it| assert!(server.drop_letter(it.key).unwrap()));
    drop(client);
    server.stop(PATIENCE).unwrap();
    assert!(matches!(found, Err(CallError::WorkerCrashed { cause: Cause::Unknown, .. })));
    let pids: Vec<u32> = letters.iter().map(|it| it.worker_pid).collect();
    assert_eq!(pids, [pid]);
}

/// Whose letters those are that its killed server left stands in the domain's table of members, which
/// another service does not take away when it ends.
#[test]
fn letters_of_the_dead_outlive_another_service() {
    let place = Place::new();
    let mut first = server_process_of(&place).spawn().unwrap();
    let client = client(&place, "math");
    assert!(matches!(die(&client), Err(CallError::WorkerCrashed { .. })));
    let worker = pid_of_worker(&client);
    first.kill().unwrap();
    first.wait().unwrap();
    kill_process(Pid::from_raw(worker as i32).unwrap(), Signal::KILL).unwrap();
    drop(client);
    // As `shm clean` does it, when nobody of the service lives.
    for kind in ["service", "bells"] {
        std::fs::remove_file(place.path(&format!("{kind}.math"))).unwrap();
    }
    start(server_of(&place, "other").workers(1).vip_workers(0)).stop(PATIENCE).unwrap();
    let server = start(server(&place));
    let letters = server.letters().unwrap();
    assert_eq!(letters.len(), 1);
    letters.iter().for_each(|it| assert!(server.drop_letter(it.key).unwrap()));
    server.stop(PATIENCE).unwrap();
    assert_eq!(place.files(), [""; 0]);
}

/// A child that the program forks has the pidfds of the workers that there were. When these have
/// ended, the supervisor sleeps all the same.
#[test]
fn a_child_of_the_program_keeps_no_supervisor_awake() {
    const SELF: &str = "supervisor::a_child_of_the_program_keeps_no_supervisor_awake";
    if !is_alone(SELF) {
        return alone(SELF);
    }
    let place = Place::new();
    let server = start(server(&place));
    let client = client(&place, "math");
    // SAFETY: the child makes system calls without memory.
    let child = unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::alarm(100);
            libc::pause();
            libc::_exit(0);
        }
        child
    };
    assert!(child > 0);
    assert!(matches!(die(&client), Err(CallError::WorkerCrashed { .. })));
    pid_of_worker(&client);
    let sleeps = times_asleep();
    soon("it sleeps from time to time", || times_asleep() > sleeps + 5);
    kill_process(Pid::from_raw(child).unwrap(), Signal::KILL).unwrap();
    // SAFETY: a system call without memory; its child.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    server.letters().unwrap().iter().for_each(|it| assert!(server.drop_letter(it.key).unwrap()));
    drop(client);
    server.stop(PATIENCE).unwrap();
}

/// How often the thread that supervises has waited for something.
fn times_asleep() -> u64 {
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    let threads = std::fs::read_dir("/proc/self/task").unwrap().map(|it| it.unwrap().path());
    let thread = threads.into_iter().find(|it| read(it.join("comm")).trim() == "shm-server");
    let status = read(thread.unwrap().join("status"));
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

/// As often as it likes, without a pause.
#[test]
fn a_program_that_cannot_be_started_any_more_is_tried_for_as_long_as_is_said() {
    const SELF: &str =
        "supervisor::a_program_that_cannot_be_started_any_more_is_tried_for_as_long_as_is_said";
    if !is_alone(SELF) {
        return alone(SELF);
    }
    let place = Place::new();
    let program = place.directory.join("worker");
    std::fs::copy("/bin/true", &program).unwrap();
    // As many as use up any thread's stack, if each is started by the one before.
    let restart = Restart {
        intensity: 10_000,
        within: Duration::from_secs(24 * 3600),
        backoff: ms(0)..ms(0),
        pool: u32::MAX,
        ..Restart::default()
    };
    let server: Server = server(&place).worker(&*program).restart(restart).start().unwrap();
    std::fs::remove_file(&program).unwrap();
    soon("it is given up", || {
        server.workers()[0].reason.as_ref().is_some_and(|reason| reason.contains("died within"))
    });
    server.stop(PATIENCE).unwrap();
}

/// A worker that comes when its service is just being stopped is no failure: it says nothing, and
/// ends with 0.
#[test]
fn a_worker_that_comes_while_its_service_is_stopped_ends_as_if_it_had_served() {
    let place = Place::new();
    // Comes when it may, and leaves behind what it says and ends with.
    const LATE: &str = r#"
        trap '' TERM
        echo >"$AT/waits"
        looks=0
        until [ -e "$AT/come" ] || [ $looks -gt 6000 ]; do looks=$((looks + 1)); sleep 0.01; done
        "$0" "$@" >/dev/null 2>"$AT/said"
        echo "ended with $?" >>"$AT/said"
    "#;
    let late = Program::new("/bin/sh")
        .args(["-c", LATE])
        .arg(std::env::current_exe().unwrap())
        .args(["help::role", "--exact", "--test-threads=1", "-q"])
        .env("AT", &place.directory);
    let server = server(&place).worker(late).start().unwrap();
    soon("it waits", || place.directory.join("waits").exists());
    thread::scope(|scope| {
        let stopped = scope.spawn(|| server.stop(PATIENCE));
        soon("it is being stopped", || server.state() == ServiceState::Stopping);
        // Closed, by then: the state is said just before.
        soon("it is closed", || {
            let again = Client::builder("math").in_domain(place.domain.clone()).connect();
            again.is_err()
        });
        std::fs::write(place.directory.join("come"), "").unwrap();
        stopped.join().unwrap().unwrap();
    });
    let said = std::fs::read_to_string(place.directory.join("said")).unwrap();
    assert_eq!(said, "ended with 0\n");
}

/// What the next ones write into, a line each.
const RUNS: &str = "SHM_TEST_RUNS";

fn write_line(file: &OsStr, line: &str) -> usize {
    let mut file = File::options().create(true).append(true).read(true).open(file).unwrap();
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
    file.rewind().unwrap();
    BufReader::new(file).lines().count()
}

/// A program whose workers are itself, and whose service is another in each process.
#[test]
fn endless_process() {
    let (Some(directory), Some(runs)) = (std::env::var_os(DIRECTORY), std::env::var_os(RUNS))
    else {
        return;
    };
    // SAFETY: a system call without memory.
    unsafe { libc::alarm(100) };
    // Whatever is wrong, there is an end of it.
    if write_line(&runs, "runs") > 20 {
        exit(3);
    }
    let domain = Domain::new("test").unwrap().in_directory(directory);
    let place = ManuallyDrop::new(Place { domain, directory: "/nonexistent".into() });
    let once = Restart { intensity: 0, ..Restart::default() };
    let small =
        |name: &str| server_of(&place, name).workers(1).vip_workers(0).restart(once.clone());
    if Worker::is_started() {
        // Another program's workers are no such thing; and know nothing of this program.
        let other = ["-c", "echo ${SHM_PROGRAM-another program} >>\"$SHM_TEST_RUNS\"; exit 78"];
        let other = small("other").worker(Program::new("/bin/sh").args(other)).start().unwrap();
        soon("it runs", || other.state() == ServiceState::Failed);
        other.stop(PATIENCE).unwrap();
    }
    let service = small(&format!("service-{}", std::process::id()));
    match service.this_program().die_with_server(true).start() {
        Ok(server) => {
            soon("its worker ends", || server.state() == ServiceState::Failed);
            server.stop(PATIENCE).unwrap();
            write_line(&runs, "was a server");
        }
        Err(error @ ServerError::Endless { .. }) => {
            write_line(&runs, &format!("{error}"));
        }
        Err(error) => panic!("{error}"),
    }
    exit(0);
}

/// Each worker would be a server, and have a worker.
#[test]
fn a_service_of_another_name_in_each_process_ends_with_its_first_worker() {
    let place = Place::new();
    let runs = place.directory.join("runs");
    let mut first = again("supervisor::endless_process");
    first.env(DIRECTORY, &place.directory).env(RUNS, &runs);
    let mut first = first.spawn().unwrap();
    let pid = first.id();
    assert!(first.wait().unwrap().success());
    let runs = std::fs::read_to_string(runs).unwrap();
    let [first, second, other, refused, server] = &*runs.lines().collect::<Vec<_>>() else {
        panic!("{runs}")
    };
    assert_eq!(
        [*first, second, other, server],
        ["runs", "runs", "another program", "was a server"]
    );
    assert!(
        refused.contains(&format!("the worker at place 0 of service \"service-{pid}\"")),
        "{refused}"
    );
    assert!(refused.contains("the same name and domain in each process"), "{refused}");
}
