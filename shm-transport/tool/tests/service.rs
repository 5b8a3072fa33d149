//! Services: `shm list`, `shm dlq`, and what the other commands say of them.

mod common;

use common::{Done, Place, await_that, run};
use serde_json::Value;
use shm_transport::node::Node;
use shm_transport::service::{
    CallError, Client, Condition, HandlerError, Priority, Program, Reply, Request, Restart, Server,
    Worker,
};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

/// Sends back what it gets.
const ECHO: u32 = 1001;
/// Dies of it, unless there is a file of that name.
const NEEDS_FILE: u32 = 1002;
/// Fails.
const FAILS: u32 = 1003;

const LONG: Duration = Duration::from_secs(30);
const NAME: &str = "math/fast";

/// A worker, as servers here start it.
#[test]
fn worker() {
    if !Worker::is_started() {
        return;
    }
    let needs_file = |request: &Request<'_>, reply: Reply<'_>| -> Result<(), HandlerError> {
        let path = std::str::from_utf8(request.payload()).unwrap();
        if !Path::new(path).exists() {
            std::process::exit(9);
        }
        reply.send(b"done")
    };
    let done = Worker::attach_from_env()
        .and_then(|worker| worker.on(ECHO, |request, reply| reply.send(request.payload())))
        .and_then(|worker| worker.on(NEEDS_FILE, needs_file))
        .and_then(|worker| worker.on(FAILS, |_, _| Err(std::io::Error::other("never").into())))
        .and_then(Worker::run);
    // Nobody is told: it may be that the service is just stopped.
    std::process::exit(done.map_or_else(|error| error.exit_code(), |()| 0).into());
}

/// A server in a process of its own, to be killed.
#[test]
fn supervisor() {
    let Some(directory) = std::env::var_os("SHM_TOOL_TEST_SUPERVISOR") else { return };
    let domain = std::env::var("SHM_TOOL_TEST_DOMAIN").unwrap();
    let domain = shm_transport::domain::Domain::new(&domain).unwrap().in_directory(directory);
    let server = serve(domain);
    println!("ready");
    std::io::stdout().flush().unwrap();
    let _ = std::io::stdin().read_line(&mut String::new());
    server.stop(LONG).unwrap();
}

fn serve(domain: shm_transport::domain::Domain) -> Server {
    let worker = Program::new(std::env::current_exe().unwrap()).args(["--exact", "worker", "-q"]);
    let server = Server::builder(NAME)
        .in_domain(domain)
        .worker(worker)
        .workers(2)
        .vip_workers(1)
        .messages(16)
        .vip_messages(16)
        .message_size(256)
        .clients(8)
        .restart(Restart {
            backoff: Duration::from_millis(1)..Duration::from_millis(1),
            ..Restart::default()
        })
        .start()
        .unwrap();
    server.wait_until_up(LONG).unwrap();
    server
}

fn client(place: &Place) -> Client {
    Client::builder(NAME).in_domain(place.domain.clone()).connect_timeout(LONG).connect().unwrap()
}

/// Has a worker die with a call in hand; the name of the file that would have saved it.
fn crash(place: &Place, client: &Client, file: &str) -> String {
    let path = place.domain.directory().join(format!("{}.{file}", place.domain.name()));
    let path = path.to_str().unwrap().to_owned();
    let error = client.call(NEEDS_FILE, path.as_bytes(), Priority::Low, LONG).unwrap_err();
    assert!(matches!(error, CallError::WorkerCrashed { .. }), "{error}");
    path
}

fn service(place: &Place) -> Value {
    let found = place.shm(&["list", "--json"]).with(0).json();
    let services = found["domains"][0]["services"].as_array().unwrap();
    assert_eq!(services.len(), 1, "{found}");
    services[0].clone()
}

/// The letters that there are, as `list` calls them.
fn letters(place: &Place) -> Vec<String> {
    let found = place.shm(&["dlq", "list", NAME, "--json"]).with(0).json();
    let letters = found["letters"].as_array().unwrap();
    letters.iter().map(|letter| letter["letter"].as_str().unwrap().to_owned()).collect()
}

fn answer(place: &Place, arguments: &[&str], answer: &str) -> Done {
    let file = place.path("answer");
    fs::write(&file, answer).unwrap();
    let mut command = place.program(arguments);
    let done = run(command.stdin(fs::File::open(&file).unwrap()));
    fs::remove_file(&file).unwrap();
    done
}

/// A service that has lost its server is stopped from a shell, and one that has a server is not.
#[test]
fn a_service_without_a_server_is_stopped() {
    let place = Place::new();
    let done = place.shm(&["stop", NAME]).with(4);
    assert!(done.err.contains("no service"), "{}", done.err);
    let mut supervisor = Supervisor::start(&place);
    let done = place.shm(&["stop", NAME]).with(1);
    assert!(
        done.err.contains(&format!("run by process {}", supervisor.child.id())),
        "{}",
        done.err
    );
    supervisor.kill_supervisor();
    // None is started in the place of one that is dead: its words would be heard here.
    let pid = rustix::process::Pid::from_raw(supervisor.workers[0] as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    await_that(|| !lives(supervisor.workers[0]));
    assert!(supervisor.workers[1..].iter().all(|pid| lives(*pid)));
    let done = place.shm(&["stop", NAME]).with(0);
    assert_eq!((&*done.out, &*done.err), ("", ""));
    // They are no children of whoever stopped them: their end is a moment later.
    await_that(|| !supervisor.workers.iter().any(|pid| lives(*pid)));
    supervisor.workers.clear();
    let files = place.domain.segments().unwrap().map(|name| name.unwrap().as_str().to_owned());
    assert_eq!(files.filter(|name| name != "members").collect::<Vec<_>>(), [""; 0]);
    place.shm(&["stop", NAME]).with(4);
}

fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

#[test]
fn list_shows_services() {
    let place = Place::apart();
    let server = serve(place.domain.clone());
    let client = client(&place);
    assert_eq!(client.call(ECHO, b"a", Priority::Low, LONG).unwrap(), b"a");

    let found = service(&place);
    assert_eq!(found["name"], NAME);
    assert_eq!(found["state"], "ready");
    assert_eq!(found["supervisor"]["pid"], std::process::id());
    assert_eq!(found["supervisor"]["state"], "alive");
    assert_eq!((&found["clients"], &found["client_places"]), (&1.into(), &8.into()));
    assert!(found["resident"].as_u64().unwrap() > 4096);
    let workers = found["workers"].as_array().unwrap();
    let pids: Vec<u32> = server.workers().iter().map(|it| it.pid.unwrap()).collect();
    for (place, worker) in workers.iter().enumerate() {
        assert_eq!(worker["place"], [0, 1, 3][place]);
        assert_eq!(worker["group"], ["normal", "normal", "vip"][place]);
        assert_eq!((&worker["condition"], &worker["order"]), (&"up".into(), &"run".into()));
        assert_eq!(worker["worker"]["pid"], pids[place]);
        assert_eq!(worker["worker"]["state"], "alive");
        assert_eq!((&worker["restarts"], &worker["queued"]), (&0.into(), &0.into()));
    }
    assert_eq!(workers.len(), 3);
    let text = place.shm(&["list"]).with(0).out;
    let line = format!("service {NAME}: supervisor {} alive, 1 client, ", std::process::id());
    assert!(text.contains(&line), "{text}");

    crash(&place, &client, "none");
    server.wait_until_up(LONG).unwrap();
    let found = service(&place);
    let restarted: Vec<_> =
        found["workers"].as_array().unwrap().iter().filter(|it| it["restarts"] == 1).collect();
    assert_eq!(restarted.len(), 1);
    assert_eq!(restarted[0]["last_death"], "exited with 9");
    assert_eq!((&found["letters"], &found["crashes"]), (&1.into(), &1.into()));
    let text = place.shm(&["list"]).with(0).out;
    assert!(text.contains("1 dead letter,") && text.contains("exited with 9"), "{text}");

    drop(client);
    await_that(|| service(&place)["clients"] == 0);
    server.stop(LONG).unwrap();
    let found = service(&place);
    assert_eq!((&found["state"], &found["letters"]), (&"stopped".into(), &1.into()));
    assert_eq!(found["workers"].as_array().unwrap().len(), 0);
}

#[test]
fn dead_letters_are_shown_and_dropped() {
    let place = Place::apart();
    let done = place.shm(&["dlq", "list", NAME]).with(4);
    assert!(done.err.contains("there is no service \"math/fast\""), "{done:?}");
    place.shm(&["dlq", "show", NAME, "x"]).with(2);
    place.shm(&["dlq", "drop", NAME]).with(2);

    let server = serve(place.domain.clone());
    let done = place.shm(&["dlq", "list", NAME]).with(0);
    assert_eq!(done.out, "service math/fast has no dead letters\n");
    let done = place.shm(&["dlq", "show", NAME, "0-1"]).with(4);
    assert!(done.err.contains("has no dead letters"), "{done:?}");
    place.shm(&["dlq", "drop", NAME, "--all", "--yes"]).with(4);

    let client = client(&place);
    let paths = ["one", "two", "three"].map(|file| crash(&place, &client, file));
    let all = letters(&place);
    assert_eq!(all.len(), 3);
    let found = place.shm(&["dlq", "show", NAME, &all[1], "--json"]).with(0).json();
    assert_eq!(found["text"], *paths[1]);
    assert_eq!(found["function"], NEEDS_FILE);
    assert_eq!(found["cause"], "exited with 9");
    assert_eq!(found["client_pid"], std::process::id());
    let raw = place.shm(&["dlq", "show", NAME, &all[2], "--raw"]).with(0);
    assert_eq!(raw.out, paths[2]);
    let text = place.shm(&["dlq", "show", NAME, &all[0]]).with(0).out;
    assert!(text.contains(&paths[0]) && text.contains("exited with 9"), "{text}");
    let done = place.shm(&["dlq", "show", NAME, "7-7"]).with(4);
    assert!(done.err.contains("has no dead letter 7-7"), "{done:?}");

    // Asked, and not answered.
    for no in ["", "n\n"] {
        let done = answer(&place, &["dlq", "drop", NAME, &all[0]], no).with(1);
        assert!(done.err.contains("nothing was dropped"), "{done:?}");
    }
    assert_eq!(letters(&place), all);
    let done = answer(&place, &["dlq", "drop", NAME, &all[0]], "y\n").with(0);
    assert!(done.err.contains("drop 1 letter of service"), "{done:?}");
    assert_eq!(letters(&place), all[1..]);
    // One that is not there, and nothing is dropped.
    place.shm(&["dlq", "drop", NAME, &all[1], &all[0], "--yes"]).with(4);
    assert_eq!(letters(&place), all[1..]);
    drop(client);
    server.stop(LONG).unwrap();
    // There is nobody who keeps them now.
    place.shm(&["dlq", "drop", NAME, "--all", "--yes"]).with(0);
    assert_eq!(letters(&place), [""; 0]);
}

#[test]
fn letters_are_called_again() {
    let place = Place::apart();
    let server = serve(place.domain.clone());
    let client = client(&place);
    let paths = ["one", "two"].map(|file| crash(&place, &client, file));
    let all = letters(&place);
    // It dies of it again.
    let done = place.shm(&["dlq", "redrive", NAME, &all[0]]).with(1);
    assert!(done.out.contains("kept") && done.err.contains("exited with 9"), "{done:?}");
    assert_eq!(letters(&place)[..2], all, "and one letter more");
    assert_eq!(letters(&place).len(), 3);

    fs::write(&paths[1], "").unwrap();
    let done = place.shm(&["dlq", "redrive", NAME, &all[1]]).with(0);
    assert!(done.out.contains("completed with 4 bytes, and dropped"), "{done:?}");
    assert!(!letters(&place).contains(&all[1]));
    fs::write(&paths[0], "").unwrap();
    place.shm(&["dlq", "redrive", NAME, "--all"]).with(0);
    assert_eq!(letters(&place), [""; 0]);
    place.shm(&["dlq", "redrive", NAME, &all[0]]).with(4);

    // A handler that says no leaves no letter, and a service that is stopped cannot be called.
    assert!(client.call(FAILS, b"", Priority::High, LONG).is_err());
    crash(&place, &client, "three");
    drop(client);
    server.stop(LONG).unwrap();
    let done = place.shm(&["dlq", "redrive", NAME, "--all", "-t", "0.01"]).with(1);
    assert!(done.err.contains("there is no service"), "{done:?}");
    assert_eq!(letters(&place).len(), 1);
}

/// A server's process, killed when dropped, with the workers that it started.
struct Supervisor {
    child: Child,
    workers: Vec<u32>,
    /// Which its workers have too.
    _output: ChildStdout,
}

impl Supervisor {
    fn start(place: &Place) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "supervisor", "--nocapture"])
            .env("SHM_TOOL_TEST_SUPERVISOR", place.directory())
            .env("SHM_TOOL_TEST_DOMAIN", place.domain.name())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = child.stdout.take().unwrap();
        let mut lines = BufReader::new(&mut output).lines();
        lines.find(|line| line.as_ref().unwrap().ends_with("ready")).unwrap().unwrap();
        let found = service(place);
        let workers = found["workers"].as_array().unwrap();
        let workers = workers.iter().map(|it| it["worker"]["pid"].as_u64().unwrap() as u32);
        Self { child, workers: workers.collect(), _output: output }
    }

    fn kill_supervisor(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn kill_workers(&mut self) {
        for pid in self.workers.drain(..) {
            let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.kill_workers();
    }
}

#[test]
fn who_is_dead_is_shown() {
    let place = Place::apart();
    let mut server = Supervisor::start(&place);
    let client = client(&place);
    server.kill_supervisor();
    let found = service(&place);
    assert_eq!(found["supervisor"]["state"], "dead");
    assert_eq!(found["workers"][1]["worker"]["state"], "alive");
    assert_eq!(client.call(ECHO, b"b", Priority::Low, LONG).unwrap(), b"b", "it serves on");
    server.kill_workers();
    await_that(|| service(&place)["workers"][1]["worker"]["state"] == "dead");
}

fn fates(place: &Place, arguments: &[&str]) -> Vec<(String, String)> {
    let found = place.shm(&[&["clean", "--json"], arguments].concat()).with(0).json();
    let items = found["domains"][0]["items"].as_array().unwrap();
    let text = |item: &Value, key: &str| item[key].as_str().unwrap().to_owned();
    let kind = |segment: String| segment.split('.').next().unwrap().to_owned();
    items.iter().map(|item| (kind(text(item, "segment")), text(item, "fate"))).collect()
}

fn all(kinds: &[&str], fate: &str) -> Vec<(String, String)> {
    kinds.iter().map(|kind| ((*kind).to_owned(), fate.to_owned())).collect()
}

#[test]
fn a_service_is_cleaned_up_when_nobody_of_it_lives() {
    let place = Place::apart();
    let mut server = Supervisor::start(&place);
    let client = client(&place);
    let path = crash(&place, &client, "one");
    let kinds = ["bells", "client", "letters", "service", "members"];
    assert_eq!(fates(&place, &["--yes", "--letters"]), all(&kinds, "kept"));
    // The workers serve on, and so nothing goes, though the owner of it is dead.
    let up = |worker: &Value| worker["condition"] == "up" && worker["worker"]["state"] == "alive";
    await_that(|| service(&place)["workers"].as_array().unwrap().iter().all(up));
    let mut now = service(&place);
    let workers = now["workers"].as_array_mut().unwrap().iter_mut();
    server.workers = workers.map(|it| it["worker"]["pid"].as_u64().unwrap() as u32).collect();
    server.kill_supervisor();
    assert_eq!(fates(&place, &["--yes", "--letters"]), all(&kinds, "kept"));
    assert_eq!(client.call(ECHO, b"b", Priority::Low, LONG).unwrap(), b"b");
    server.kill_workers();
    let dead = |worker: &Value| worker["worker"]["state"] == "dead";
    await_that(|| service(&place)["workers"].as_array().unwrap().iter().all(dead));
    // A client is somebody too.
    assert_eq!(fates(&place, &["--yes", "--letters"]), all(&kinds, "kept"));
    drop(client);
    let shown = fates(&place, &[]);
    assert_eq!(shown.iter().filter(|(_, fate)| fate == "dead").count(), 2, "{shown:?}");
    let found = fates(&place, &["--yes"]);
    assert!(found.contains(&("letters".into(), "kept".into())), "{found:?}");
    assert_eq!(found.iter().filter(|(_, fate)| fate == "removed").count(), 2, "{found:?}");
    // The letter is as it was, and of use to the next server.
    let again = serve(place.domain.clone());
    fs::write(&path, "").unwrap();
    place.shm(&["dlq", "redrive", NAME, "--all"]).with(0);
    fs::remove_file(&path).unwrap();
    let client = self::client(&place);
    crash(&place, &client, "one");
    drop(client);
    again.stop(LONG).unwrap();
    let found = fates(&place, &["--yes"]);
    assert!(found.contains(&("letters".into(), "kept".into())), "{found:?}");
    let found = fates(&place, &["--yes", "--letters"]);
    assert!(found.contains(&("letters".into(), "removed".into())), "{found:?}");
    assert_eq!(place.files(), [""; 0]);
}

/// Others of the domain go on, and do not keep the records of a service that went as a whole.
#[test]
fn the_dead_of_a_service_are_members_no_more() {
    let place = Place::apart();
    let mut server = Supervisor::start(&place);
    let node = Node::builder("other").in_domain(place.domain.clone()).join().unwrap();
    server.kill_supervisor();
    server.kill_workers();
    let members = || -> Vec<String> {
        let found = place.shm(&["list", "--json"]).with(0).json();
        let members = found["domains"][0]["members"].as_array().unwrap().iter();
        members.map(|member| member["state"].as_str().unwrap().to_owned()).collect()
    };
    let is_dead = |state: &&String| *state == "dead";
    await_that(|| members().iter().filter(is_dead).count() == 4);
    assert_eq!(members().len(), 5);
    let done = place.shm(&["clean", "--yes", "--json"]).with(0).json();
    let also = done["domains"][0]["also"].as_array().unwrap();
    assert_eq!(also.len(), 4, "{done}");
    assert!(also.iter().all(|it| it.as_str().unwrap().starts_with("the record of member ")));
    assert_eq!(members(), ["alive"]);
    node.leave().unwrap();
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn top_metrics_and_doctor_know_services() {
    let place = Place::apart();
    let server = serve(place.domain.clone());
    let client = client(&place);
    for _ in 0..7 {
        client.call(ECHO, b"a", Priority::High, LONG).unwrap();
    }
    assert!(client.call(FAILS, b"", Priority::High, LONG).is_err());
    crash(&place, &client, "one");
    server.wait_until_up(LONG).unwrap();

    // A worker counts what it has answered just after it has.
    let mut now = Value::Null;
    await_that(|| {
        let done = place.shm(&["top", "-n", "1", "-i", "0.01", "--json"]).with(0);
        now = done.json()["services"][0].clone();
        now["workers"][2]["processed"] == 8
    });
    assert_eq!((&now["crashes"], &now["letters"]), (&1.into(), &1.into()));
    assert_eq!(now["workers"][2]["failed"], 1);
    let text = place.shm(&["top", "-n", "1", "-i", "0.01"]).with(0).out;
    assert!(text.contains("CALLS/s") && text.contains("3 of 3"), "{text}");

    let text = place.shm(&["metrics"]).with(0).out;
    let of = "domain=\"apart\",service=\"math/fast\"";
    for line in [
        format!("shm_service_supervised{{{of}}} 1"),
        format!("shm_service_workers_up{{{of}}} 3"),
        format!("shm_service_workers_wanted{{{of}}} 3"),
        format!("shm_service_workers_stuck{{{of}}} 0"),
        format!("shm_service_clients{{{of}}} 1"),
        format!("shm_service_crashes_total{{{of}}} 1"),
        format!("shm_service_poisoned_calls_total{{{of}}} 1"),
        format!("shm_service_letters{{{of}}} 1"),
        format!("shm_worker_processed_calls_total{{{of},place=\"3\",group=\"vip\"}} 8"),
        format!("shm_worker_failed_calls_total{{{of},place=\"3\",group=\"vip\"}} 1"),
        format!("shm_worker_queued_calls{{{of},place=\"0\",group=\"normal\"}} 0"),
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }

    let services = || {
        let found = place.shm(&["doctor", "--json"]).json();
        let checks = found["checks"].as_array().unwrap();
        checks.iter().find(|check| check["name"] == "services").unwrap().clone()
    };
    let found = services();
    assert_eq!(
        (&found["status"], &found["found"]),
        (&"warn".into(), &"math/fast in domain apart: 1 dead letter".into())
    );
    place.shm(&["dlq", "drop", NAME, "--all", "--yes"]).with(0);
    assert_eq!(services()["found"], "1 at work");
    drop(client);
    server.stop(LONG).unwrap();
}

/// Says of a place's worker, in the supervisor's stead, that it is stuck: a kernel that does so is
/// not at hand.
fn say_stuck(place: &Place, at: usize) {
    let mut names = place.domain.segments().unwrap().flatten();
    let control = names.find(|name| name.as_str().starts_with("service.")).unwrap();
    let path = place.domain.path_of(&control);
    let bytes = fs::read(&path).unwrap();
    // Behind the headers of the segment and of the service's part: see `layout::service`.
    let row = 256 + 128 + 64 * at;
    // An odd number of records: the last one is the second copy.
    let copy = row + if bytes[row] % 2 == 1 { 32 } else { 4 };
    assert_eq!(bytes[copy + 5], Condition::Up as u8);
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[Condition::Stuck as u8], (copy + 5) as u64).unwrap();
}

#[test]
fn one_that_is_stuck_is_shown() {
    let place = Place::apart();
    let server = serve(place.domain.clone());
    say_stuck(&place, 1);
    let pid = server.workers()[1].pid.unwrap().to_string();
    let found = service(&place);
    assert_eq!(found["workers"][1]["condition"], "stuck");
    assert_eq!((&found["wanted"], found["workers"].as_array().unwrap().len()), (&3.into(), 3));
    assert!(place.shm(&["list"]).with(0).out.contains("stuck"));
    let text = place.shm(&["top", "-n", "1", "-i", "0.01"]).with(0).out;
    assert!(text.contains("2 of 3"), "{text}");
    let text = place.shm(&["metrics"]).with(0).out;
    for (name, value) in [("up", 2), ("wanted", 3), ("stuck", 1)] {
        let line = format!("{name}{{domain=\"apart\",service=\"math/fast\"}} {value}\n");
        assert!(text.contains(&format!("shm_service_workers_{line}")), "{line}: {text}");
    }
    let found = place.shm(&["doctor", "--json"]).json();
    let checks = found["checks"].as_array().unwrap();
    let found = checks.iter().find(|check| check["name"] == "services").unwrap();
    assert_eq!(found["status"], "warn");
    assert_eq!(found["found"], "math/fast in domain apart: 1 worker does not die though killed");
    assert!(found["advice"].as_str().unwrap().contains(&pid), "{found}");
    server.stop(LONG).unwrap();
}

#[test]
fn segments_of_a_service_are_inspected() {
    let place = Place::apart();
    let server = serve(place.domain.clone());
    let client = client(&place);
    for _ in 0..3 {
        client.call(ECHO, b"a", Priority::High, LONG).unwrap();
    }
    let path = crash(&place, &client, "one");
    server.wait_until_up(LONG).unwrap();
    let names: Vec<String> =
        place.domain.segments().unwrap().map(|it| it.unwrap().to_string()).collect();
    let inspect = |kind: &str| {
        let name = names.iter().find(|name| name.starts_with(kind)).unwrap();
        let text = place.shm(&["inspect", name]).with(0).out;
        assert!(text.contains("sound"), "{text}");
        place.shm(&["inspect", name, "--json"]).with(0).json()
    };
    let part = |found: &Value, kind: &str, role: u32| {
        let parts = found["parts"].as_array().unwrap();
        let wanted = parts.iter().find(|part| part["kind"] == kind && part["role"] == role);
        wanted.unwrap_or_else(|| panic!("no {kind} {role}: {found}"))["facts"].clone()
    };
    let control = inspect("service.");
    assert_eq!(
        (&control["kind"], &control["owner"]["pid"]),
        (&"SRVC".into(), &std::process::id().into())
    );
    let orders = part(&control, "service", 0);
    assert_eq!((&orders["normal_workers"], &orders["vip_workers"]), (&2.into(), &1.into()));
    assert_eq!(orders["spares"], 1);
    let condition = [0, 1, 2, 3, 4].map(|place| &orders["places"][place]["condition"]);
    assert_eq!(condition, ["up", "up", "spare", "up", "spare"]);
    let workers = &part(&control, "slot table", 0)["workers"];
    assert_eq!(workers[2]["pid"], server.workers()[2].pid.unwrap());
    assert_eq!(part(&control, "monitors", 0)["calls"][0]["what"], "last");
    await_that(|| part(&inspect("service."), "counters", 0)["counters"][3]["processed"] == 3);
    assert_eq!(part(&control, "counters", 0)["crashes"], 1);

    let bells = inspect("bells.");
    assert_eq!(bells["kind"], "BELL");
    assert_eq!(part(&bells, "slot table", 0)["clients"][0]["pid"], std::process::id());
    assert_eq!(part(&bells, "wake word", 0)["bells"][3]["served_by"], 3);
    let lanes = inspect("client.");
    assert_eq!((&lanes["kind"], &lanes["owner"]["state"]), (&"PHNX".into(), &"alive".into()));
    let letters = inspect("letters.");
    let letter = &part(&letters, "slot table", 0)["letters"][0];
    assert_eq!((&letter["function"], &letter["bytes"]), (&NEEDS_FILE.into(), &path.len().into()));
    assert_eq!(letter["its_worker"], "exited with 9");

    // One that is being stopped, and one that is damaged.
    let control = names.iter().find(|name| name.starts_with("service.")).unwrap();
    let copy = |change: fn(&mut [u8])| {
        let mut bytes = fs::read(place.path(control)).unwrap();
        change(&mut bytes);
        fs::write(place.path("copy"), bytes).unwrap();
        place.shm(&["inspect", "copy"])
    };
    let done = copy(|bytes| {
        let closing = shm_primitives::segment::State::Closing.word().to_le_bytes();
        bytes[20..24].copy_from_slice(&closing);
    });
    assert!(done.with(0).out.contains("closing"));
    let done = copy(|bytes| bytes[8] ^= 1);
    assert!(done.with(3).out.contains("number of worker places"));
    fs::remove_file(place.path("copy")).unwrap();
    drop(client);
    server.stop(LONG).unwrap();
}
