//! `shm demo`: it holds what it shows, and leaves nothing, whichever way it ends.

mod common;

use common::{Place, program, shm};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything here takes on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn process() {
    common::process();
}

fn array<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("{key} in {value}"))
}

#[test]
fn all_of_it_as_json() {
    let place = Place::apart();
    let done = place.shm(&["demo", "--json", "--seconds-per-measurement", "0.005"]).with(0);
    let facts = done.json();
    assert_eq!((facts["passed"].as_bool(), array(&facts, "failed").len()), (Some(true), 0));
    assert_eq!(array(&facts["processes"], "processes").len(), 4);

    let file = &facts["file"];
    assert_eq!(file["path"], env!("CARGO_BIN_EXE_shm"));
    let bytes = fs::metadata(env!("CARGO_BIN_EXE_shm")).unwrap().len();
    assert_eq!(file["bytes"].as_u64(), Some(bytes));
    for one in array(file, "receivers") {
        assert_eq!(one["bytes"].as_u64(), Some(bytes));
        assert_eq!((&one["in_order"], &one["same_content"]), (&true.into(), &true.into()));
    }

    for one in array(&facts["broadcast"], "messages") {
        assert_eq!(array(one, "heard_by"), ["bob", "carol", "dave"]);
    }

    let death = |key: &str| facts["death"][key].as_u64().unwrap_or_else(|| panic!("{key}"));
    assert!(death("passed_on") >= 2000);
    assert!((death("passed_on")..=death("passed_on") + 1).contains(&death("arrived")));
    assert!(death("arrived_after") > 0 && death("killed") != death("successor"));
    // The new one joins when the death is known, and messages come when it has joined.
    assert!(death("event_after").max(death("error_after")) < death("joined_after"));
    assert!(death("joined_after") < death("traffic_after"));
    assert!(death("clean_after") > 0);
    assert!(facts["death"]["error"].as_str().unwrap().contains("carol"));

    let service = |key: &str| facts["service"][key].as_u64().unwrap_or_else(|| panic!("{key}"));
    assert_eq!((service("sent"), service("answered")), (2200, 2200));
    assert_eq!((service("processed"), service("letters")), (2200, 1));
    assert!(service("waiting") > 0 && service("killed") != service("successor"));
    assert!(service("up_after") <= service("answered_after"));
    assert!(facts["service"]["error"].as_str().unwrap().contains("signal 9"));

    let measurements = array(&facts, "measurements");
    assert_eq!(measurements.len(), 8);
    for one in measurements {
        let times = &one["round_trip_48"];
        let times = ["p50", "p90", "p99", "p99_9", "max"].map(|key| times[key].as_u64().unwrap());
        assert!(times[0] > 0 && times.is_sorted(), "{one}");
        // Of UDP's nothing may come in so short a time.
        let may_lose = one["medium"] == "UDP loopback";
        let speed = one["throughput_16384"]["bytes_per_second"].as_f64().unwrap();
        assert!(speed > 0.0 || may_lose, "{one}");
        let lost = one["throughput_48"]["lost"].as_f64().unwrap();
        assert!(lost == 0.0 || may_lose, "{one}");
    }

    assert_eq!(facts["end"]["segments"].as_u64(), Some(0));
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn all_of_it_for_people() {
    let place = Place::apart();
    let done = place.shm(&["demo", "--seconds-per-measurement", "0.002"]).with(0);
    for text in [
        "1. Four processes",
        "2. alice sends a file",
        "bob, carol and dave",
        "4. alice sends to carol",
        "carol has died",
        "p99.9",
        "UDP loopback",
        "5. A service of two workers",
        "killed with a call in hand",
        "7. All leave",
        "all 15 checks passed",
    ] {
        assert!(done.out.contains(text), "{text}: {done:?}");
    }
    assert!(!done.out.contains('\u{1b}') && !done.out.contains("FAILED"), "{done:?}");
    assert_eq!(done.err, "");
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn any_file_is_sent() {
    let place = Place::apart();
    let path = place.domain.directory().join("a file");
    let name = path.to_str().unwrap();
    for length in [0, 1, 64 << 10, (64 << 10) + 1, 300_000] {
        let content: Vec<u8> = (0..length).map(|at: u32| (at ^ at >> 8) as u8).collect();
        fs::write(&path, content).unwrap();
        let done = place.shm(&["demo", "--no-measure", "--json", "--file", name]).with(0);
        let file = &done.json()["file"];
        assert_eq!(file["bytes"].as_u64(), Some(length.into()));
        assert_eq!(file["chunks"].as_u64(), Some(length.div_ceil(64 << 10).into()));
    }
    // Of the last: as other programs calculate it.
    let done = place.shm(&["demo", "--no-measure", "--color", "always", "--file", name]).with(0);
    assert!(done.out.contains("a file (293 KiB)"), "{done:?}");
    assert!(done.out.contains('\u{1b}'));
    assert_eq!(place.files(), ["a file"]);
}

#[test]
fn a_file_that_cannot_be_sent_is_an_error_before_anything_begins() {
    let place = Place::apart();
    let missing = place.domain.directory().join("missing");
    let directory = place.domain.directory().to_owned();
    for (path, why) in [(missing, "No such file"), (directory, "no regular file")] {
        let path = path.to_str().unwrap();
        let done = place.shm(&["demo", "--file", path]).with(1);
        assert!(done.out.is_empty(), "{done:?}");
        for text in [path, why, "--file"] {
            assert!(done.err.contains(text), "{text}: {done:?}");
        }
    }
    assert_eq!(place.files(), [""; 0]);
}

#[test]
fn it_has_a_domain_of_its_own() {
    let done = shm(&["demo", "--no-measure", "--json"]).with(0);
    let domain = done.json()["domain"].as_str().unwrap().to_owned();
    assert!(domain.starts_with("demo-"), "{domain}");
    let listed = shm(&["list", "--json", "--domain", &domain]);
    assert!(!listed.out.contains("node."), "{listed:?}");

    let place = Place::new();
    let other = place.process();
    let done = place.shm(&["demo", "--no-measure"]).with(1);
    assert!(done.err.contains("in use"), "{done:?}");
    assert!(place.path("ring").exists(), "what is another's stays");
    other.kill();
}

#[test]
fn wrong_use() {
    for seconds in ["0", "-1", "nan", "61", "soon"] {
        let argument = format!("--seconds-per-measurement={seconds}");
        let done = shm(&["demo", &argument]).with(2);
        assert!(done.err.contains("from 0.001 to 60"), "{done:?}");
    }
    let help = shm(&["demo", "--help"]).with(0).out;
    assert!(help.contains("--file") && !help.contains("janitor") && !help.contains("part"));
    // Nobody but the demonstration starts its processes.
    let done = shm(&["backstage", "demo", "--parent", "1", "actor", "alice"]).with(1);
    assert!(done.err.contains("only `shm demo` starts this"), "{done:?}");
}

/// Measures so long that it does not come to an end.
const ENDLESS: &str = "20";

/// Begins, and is there when a line has begun with `until`. With the pipe it writes to.
fn begin(place: &Place, until: &str, seconds: &str) -> (Child, impl Sized) {
    let mut demo = program()
        .args(["demo", "--seconds-per-measurement", seconds, "--domain", place.domain.name()])
        .args(["--directory", place.directory()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    if !lines.any(|line| line.unwrap().starts_with(until)) {
        panic!("it has not come to {until} {:?}", end(demo));
    }
    (demo, lines)
}

/// Waits until neither a process nor a file of the place is there.
fn nothing_is_left(place: &Place) {
    let begun = Instant::now();
    while !place.files().is_empty() || processes(place.directory()) > 0 {
        assert!(
            begun.elapsed() < PATIENCE,
            "{:?}, {}",
            place.files(),
            processes(place.directory())
        );
        thread::sleep(Duration::from_millis(5));
    }
}

/// How many processes were told of that directory.
fn processes(directory: &str) -> usize {
    let is_told = |process: &fs::DirEntry| {
        let arguments = fs::read(process.path().join("cmdline")).unwrap_or_default();
        arguments.split(|byte| *byte == 0).any(|argument| argument == directory.as_bytes())
    };
    fs::read_dir("/proc").unwrap().flatten().filter(is_told).count()
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// What a terminal sends; or, where that is ignored, as in a script's background, what ends a
/// process in the same way.
fn interrupt() -> Signal {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    let ignored = u64::from_str_radix(ignored.trim(), 16).unwrap();
    let bit = 1 << (Signal::INT.as_raw() - 1);
    if ignored & bit == 0 { Signal::INT } else { Signal::TERM }
}

#[test]
fn interrupted_it_leaves_nothing() {
    // As a terminal does it: all in the foreground, once while messages are sent, once while it is
    // measured.
    for step in ["1.", "5."] {
        let place = Place::apart();
        let (mut demo, _output) = begin(&place, step, ENDLESS);
        if step == "5." {
            other_end(&place);
        }
        kill_process_group(pid(&demo), interrupt()).unwrap();
        assert!(!demo.wait().unwrap().success());
        nothing_is_left(&place);
    }
}

#[test]
fn killed_it_leaves_nothing() {
    for step in ["1.", "3.", "5."] {
        let place = Place::apart();
        let (mut demo, _output) = begin(&place, step, ENDLESS);
        if step == "5." {
            other_end(&place);
        }
        kill_process(pid(&demo), Signal::KILL).unwrap();
        demo.wait().unwrap();
        nothing_is_left(&place);
    }
}

/// Whoever reads may have had enough.
#[test]
fn a_closed_pipe_leaves_nothing() {
    let place = Place::apart();
    let (demo, output) = begin(&place, "2.", "0.01");
    drop(output);
    assert_eq!(end(demo), (Some(0), String::new()));
    nothing_is_left(&place);
}

#[test]
fn a_process_that_ends_is_an_error_and_no_halt() {
    let place = Place::apart();
    let (demo, _output) = begin(&place, "5.", ENDLESS);
    kill_process(other_end(&place), Signal::KILL).unwrap();
    let (code, said) = end(demo);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.starts_with("error: "), "{said}");
    nothing_is_left(&place);
}

/// Its exit code, and what it said on standard error; it must not take long.
fn end(mut demo: Child) -> (Option<i32>, String) {
    let begun = Instant::now();
    while demo.try_wait().unwrap().is_none() {
        if begun.elapsed() > PATIENCE {
            demo.kill().unwrap();
            panic!("it has not ended");
        }
        thread::sleep(Duration::from_millis(5));
    }
    let mut said = String::new();
    demo.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (demo.wait().unwrap().code(), said)
}

/// The process that is the other end of a measurement, which has begun.
fn other_end(place: &Place) -> Pid {
    let (begun, directory) = (Instant::now(), place.directory());
    loop {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let arguments: Vec<&[u8]> = arguments.split(|byte| *byte == 0).collect();
            let name = entry.file_name();
            if arguments.contains(&directory.as_bytes())
                && arguments.contains(&b"peer".as_slice())
                && let Some(pid) = name.to_str().and_then(|name| name.parse().ok())
            {
                // It joins, and is in the middle of what it does.
                while !place.files().iter().any(|file| file.ends_with(".node.peer")) {
                    assert!(begun.elapsed() < PATIENCE, "it joins");
                    thread::sleep(Duration::from_millis(1));
                }
                thread::sleep(Duration::from_millis(100));
                return Pid::from_raw(pid).unwrap();
            }
        }
        assert!(begun.elapsed() < PATIENCE, "it is measured");
    }
}
