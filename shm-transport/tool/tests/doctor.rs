//! `shm doctor`.

mod common;

use common::{Place, process as be_a_process, shm};
use serde_json::Value;

#[test]
fn process() {
    be_a_process();
}

fn check<'v>(diagnosis: &'v Value, name: &str) -> &'v Value {
    let checks = diagnosis["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn says_what_there_is() {
    let place = Place::apart();
    let done = shm(&["doctor", "--json", "--directory", place.directory()]).with(0);
    let found = done.json();
    for name in ["kernel", "futex", "directory", "segments", "locks", "cores", "/proc"] {
        assert_ne!(check(&found, name)["status"], "fail", "{name}: {done:?}");
    }
    for name in ["segments", "locks", "file system", "leftovers"] {
        assert_eq!(check(&found, name)["status"], "ok", "{name}: {done:?}");
    }
    // It has left nothing.
    assert_eq!(std::fs::read_dir(place.directory()).unwrap().count(), 0);
}

#[test]
fn a_directory_that_is_none_fails_with_advice() {
    let place = Place::apart();
    let file = std::path::Path::new(place.directory()).join("file");
    std::fs::write(&file, b"").unwrap();
    for directory in ["/nowhere/at/all", file.to_str().unwrap()] {
        let done = shm(&["doctor", "--directory", directory]).with(3);
        assert!(done.out.contains("FAIL"), "{done:?}");
        assert!(done.out.contains("another directory"), "{done:?}");
        assert!(done.err.is_empty(), "it was said: {done:?}");
    }
    let done = shm(&["doctor", "--directory", "/nowhere", "--json"]).with(3);
    assert_eq!(done.json()["status"], "fail");
}

/// A directory that has the kind of files wanted, and cannot take any.
#[test]
fn a_directory_where_nothing_can_be_made_fails() {
    let done = shm(&["doctor", "--directory", "/proc/self", "--json"]).with(3);
    let found = done.json();
    assert_eq!(check(&found, "segments")["status"], "fail");
    assert_eq!(check(&found, "file system")["status"], "warn");
}

#[test]
fn others_segments_that_anybody_can_remove_are_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::apart();
    let rights = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(place.directory(), rights).unwrap();
    let found = shm(&["doctor", "--json", "--directory", place.directory()]).with(0).json();
    let found = check(&found, "directory");
    assert_eq!(found["status"], "warn");
    assert!(found["advice"].as_str().unwrap().contains("chmod +t"));
}

#[test]
fn a_limit_of_file_sizes_is_seen() {
    let place = Place::apart();
    let done = common::run(std::process::Command::new("sh").args([
        "-c",
        "ulimit -f 100; exec \"$0\" doctor --json --directory \"$1\"",
        env!("CARGO_BIN_EXE_shm"),
        place.directory(),
    ]));
    let found = done.json();
    assert_eq!(check(&found, "file size")["status"], "fail", "{done:?}");
    assert_eq!(done.code, 3);
}

#[test]
fn what_the_dead_left_is_a_warning() {
    let place = Place::apart();
    let process = place.process();
    let directory = place.directory();
    let found = shm(&["doctor", "--json", "--directory", directory]).with(0).json();
    assert_eq!(check(&found, "leftovers")["status"], "ok", "it lives");
    process.kill();
    let found = shm(&["doctor", "--json", "--directory", directory]).with(0).json();
    let found = check(&found, "leftovers");
    assert_eq!(found["status"], "warn");
    assert!(found["advice"].as_str().unwrap().contains("shm clean --domain apart"), "{found}");
}
